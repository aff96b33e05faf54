//! The controller, driven as the real program drives it, and what it means each Service to have.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::{Ingress, Service};
use api::{Key, Kind, Object, ObjectRef, Write};
use config::Config;
use controller::{Controller, Input, Settings};
use kit::{Duration, Instant, Labels, Outbox};

use crate::Sabotage;
use crate::assigner::{self, Assigner};
use crate::client::Change;
use crate::cluster::Climate;
use crate::configuration::{Configuration, NAMESPACE, Reader, Verdict};
use crate::ledger::{self, Assigned, Books, Told};
use crate::violation::{Invariant, Violation, hold};

/// What a controller reads.
pub(crate) const KINDS: [Kind; 7] = {
    let [node, slice, advertisement] = assigner::KINDS;
    [Kind::Service, Kind::Namespace, Kind::IPAddressPool, Kind::Community, node, slice, advertisement]
};

/// Time between two writes of one pool's counters.
const POOL_STATUS_PACE: Duration = Duration::from_secs(1);

/// The controller.
#[derive(Debug)]
pub(crate) struct ControllerProcess {
    class: Option<&'static str>,
    core: Controller,
    assigner: Assigner,
    configuration: Configuration,
    out: Outbox<Write>,
    is_synced: bool,
    /// What it was told, for those who check what it makes of it.
    services: BTreeMap<Key, Service>,
    namespaces: BTreeMap<String, Labels>,
    /// What it meant when it last had nothing left to do.
    books: Books,
    /// The Services of which it has been told since.
    subjects: Vec<Key>,
    sabotage: Option<Sabotage>,
    pub(crate) writes: Vec<Write>,
}

impl ControllerProcess {
    /// A controller that has just started.
    pub(crate) fn new(climate: &Climate, sabotage: Option<Sabotage>) -> Self {
        let load_balancer_class = climate.class.map(str::to_owned);
        ControllerProcess {
            class: climate.class,
            core: Controller::new(Settings {
                namespace: NAMESPACE.to_owned(),
                load_balancer_class,
                pool_status_pace: POOL_STATUS_PACE,
            }),
            assigner: Assigner::new(climate.class, sabotage),
            configuration: Configuration::new(Reader::Controller, sabotage),
            out: Outbox::with_limit(climate.controller_outbox),
            is_synced: false,
            services: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            books: Books::new(),
            subjects: Vec::new(),
            sabotage,
            writes: Vec::new(),
        }
    }

    pub(crate) fn core(&self) -> &Controller {
        &self.core
    }

    pub(crate) fn configuration(&self) -> Option<&Arc<Config>> {
        self.configuration.in_force()
    }

    /// What it means each Service to have.
    pub(crate) fn books(&self) -> &Books {
        &self.books
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.core.next_deadline().into_iter().chain(self.spread_deadline()).min()
    }

    /// When something is to be looked at for the sake of how addresses are spread; none before it decides.
    pub(crate) fn spread_deadline(&self) -> Option<Instant> {
        self.assigner.next_deadline().filter(|_| self.core.is_active())
    }

    /// The configuration by which it spreads addresses.
    pub(crate) fn spread_by(&self) -> Option<&Config> {
        self.assigner.config().filter(|_| self.core.is_active())
    }

    pub(crate) fn tick(&mut self, now: Instant) -> Result<(), Violation> {
        if self.has_work(now) {
            self.decide(now, Input::Tick)?;
        }
        self.assign(now);
        Ok(())
    }

    fn assign(&mut self, now: Instant) {
        if self.core.is_active() {
            self.writes.extend(self.assigner.assign(now));
        }
    }

    /// Takes in changes of objects; the configuration is looked at when no other change waits.
    pub(crate) fn objects_changed(
        &mut self,
        now: Instant,
        changes: Vec<Change>,
        is_last: bool,
    ) -> Result<(), Violation> {
        for change in changes {
            match change {
                Change::Applied(object) => self.object_applied(now, &object)?,
                Change::Deleted(reference) => self.object_deleted(now, &reference)?,
                Change::Synced => {
                    self.is_synced = true;
                    self.validate(now)?;
                    self.decide(now, Input::Synced)?;
                }
            }
        }
        if self.is_synced && is_last {
            self.validate(now)?;
            self.assigner.validate();
        }
        self.assign(now);
        Ok(())
    }

    fn object_applied(&mut self, now: Instant, object: &Object) -> Result<(), Violation> {
        self.assigner.applied(object);
        match object {
            Object::Service(service) => {
                let mut service = service.clone();
                if self.sabotage == Some(Sabotage::ForgetStatusesAtStart) && !self.is_synced {
                    service.status.load_balancer.ingress.clear();
                    service.metadata.annotations.remove(api::ALLOCATED_FROM_POOL);
                }
                self.services.insert(service.metadata.key(), service.clone());
                if self.sabotage == Some(Sabotage::InsistAtOnce) {
                    self.insist(&service);
                }
                self.decide(now, Input::Service(Box::new(service)))
            }
            Object::Namespace(namespace) => {
                let metadata = &namespace.metadata;
                self.namespaces.insert(metadata.name.clone(), metadata.labels.clone());
                self.decide(now, Input::Namespace(Box::new(namespace.clone())))
            }
            Object::IPAddressPool(pool) => {
                self.configuration.apply(object);
                self.decide(now, Input::PoolStatus { pool: pool.metadata.name.clone(), status: pool.status })
            }
            other => {
                self.configuration.apply(other);
                Ok(())
            }
        }
    }

    fn object_deleted(&mut self, now: Instant, reference: &ObjectRef) -> Result<(), Violation> {
        self.assigner.deleted(reference);
        self.configuration.delete(reference);
        match reference.kind {
            Kind::Service => {
                self.services.remove(&reference.key);
                self.decide(now, Input::ServiceDeleted(reference.key.clone()))
            }
            Kind::Namespace => {
                self.namespaces.remove(&reference.key.name);
                self.decide(now, Input::NamespaceDeleted(reference.key.name.clone()))
            }
            Kind::IPAddressPool => self.decide(now, Input::PoolDeleted(reference.key.name.clone())),
            _ => Ok(()),
        }
    }

    fn validate(&mut self, now: Instant) -> Result<(), Violation> {
        match self.configuration.validate() {
            Some(Verdict::Changed(config) | Verdict::Same(config)) => self.decide(now, Input::Config(config)),
            Some(Verdict::Refused) => {
                let (had_work, before) = (self.has_work(now), self.writes.len());
                match self.sabotage {
                    Some(Sabotage::TakeInvalidConfigurations) => self.decide(now, Input::Config(Arc::default()))?,
                    _ => self.decide(now, Input::ConfigInvalid)?,
                }
                let is_inert = had_work || self.writes.len() == before;
                hold(is_inert, Invariant::InvalidConfigurationIsInert, || {
                    format!("the controller writes {:?}", self.writes)
                })
            }
            None => Ok(()),
        }
    }

    /// Gives the core one input, and looks at what it made of it.
    fn decide(&mut self, now: Instant, input: Input) -> Result<(), Violation> {
        match &input {
            Input::Service(service) => self.subjects.push(service.metadata.key()),
            Input::ServiceDeleted(key) => self.subjects.push(key.clone()),
            _ => {}
        }
        self.core.handle(now, input, &mut self.out);
        hold(self.out.dropped() == 0, Invariant::OutboxIsLargeEnough, || "the controller said too much".to_owned())?;
        self.writes.extend(self.out.drain());
        self.core.check_invariants();
        if self.has_work(now) || !self.core.is_active() {
            return Ok(());
        }
        let after = self.read_books();
        if let Some(config) = self.configuration.in_force() {
            let (services, namespaces, class) = (&self.services, &self.namespaces, self.class);
            let told = Told { services, namespaces, config, class };
            ledger::check(&told, &after)?;
            ledger::check_moves(&told, &self.books, &after, &self.subjects)?;
        }
        self.subjects.clear();
        self.books = after;
        Ok(())
    }

    /// What a controller would do without patience.
    fn insist(&mut self, service: &Service) {
        let key = service.metadata.key();
        let assigned = self.books.get(&key);
        let address = |address: &IpAddr| Ingress { ip: Some(address.to_string()), ..Ingress::default() };
        let ingress: Vec<Ingress> = assigned.into_iter().flat_map(|it| &it.addresses).map(address).collect();
        if service.status.load_balancer.ingress != ingress {
            let (uid, pool) = (service.metadata.uid.clone(), assigned.map(|assigned| assigned.pool.clone()));
            self.writes.push(Write::ServiceStatus { service: key, uid, ingress, pool });
        }
    }

    fn has_work(&self, now: Instant) -> bool {
        self.core.next_deadline().is_some_and(|deadline| deadline <= now)
    }

    fn read_books(&self) -> Books {
        let assigned = |(key, service): (&Key, &Service)| {
            let (addresses, pool) = self.core.assignment(key)?;
            let (uid, pool) = (service.metadata.uid.clone(), pool.to_string());
            Some((key.clone(), Assigned { uid, addresses: addresses.iter().collect(), pool }))
        };
        self.services.iter().filter_map(assigned).collect()
    }
}
