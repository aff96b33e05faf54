//! What is done to the cluster, step by step.

use api::core::Service;
use api::{Kind, Object, ObjectRef};

use super::{Cluster, Event};
use crate::client::Target;
use crate::configuration::NAMESPACE;
use crate::names::{Lan, NodeId, ProcessId};
use crate::step::Step;
use crate::violation::Violation;

impl Cluster {
    /// Does something to the cluster. What follows from it comes with time.
    pub fn take(&mut self, step: &Step) -> Result<(), Violation> {
        self.say(|| format!("* {step}"));
        self.is_active();
        match step {
            Step::Put(object) => self.put(object),
            Step::Delete(reference) => {
                self.delete(reference);
                self.update_slices();
            }
            Step::Replace(object) => {
                if self.api.get(&object.reference()).is_some() {
                    self.delete(&object.reference());
                    self.put(object);
                }
            }
            Step::RenamePool { from, to } => self.rename_pool(from, to),
            Step::Pods { namespace, app, pods } => self.set_pods(namespace.clone(), app.clone(), pods.clone()),
            Step::ForeignStatus { service, ingress, pool } => {
                self.foreign_status(service, ingress, pool.as_deref());
            }
            Step::ForeignCounters { pool, counters } => {
                let pool = api::Key::new(NAMESPACE, pool.clone());
                self.api.set_counters(&pool, *counters);
                self.foreign_writes.insert(Target::Pool(pool), self.now);
                self.tell_all(Kind::IPAddressPool);
            }
            Step::Rival { service, ingress, span } => self.rival_comes(service, ingress, *span)?,
            Step::Restart(process, exit) => self.restart(*process, *exit)?,
            Step::Cut(process, span) => self.cut(*process, *span)?,
            Step::CutAll(span) => {
                for process in self.clients.keys().copied().collect::<Vec<_>>() {
                    self.cut(process, *span)?;
                }
            }
            Step::Join(node) => self.join(*node),
            Step::Leave(node) => self.leave(*node),
            Step::PowerOff(node) => self.power_off(*node),
            Step::PowerOn(node) => self.power_on(*node),
            Step::Unplug(node, lan, span) => self.unplug(*node, *lan, *span),
            Step::LoseWay(node, family, span) => self.lose_way(*node, *family, *span),
            Step::Vanish(node, span) => self.vanish(*node, Lan::Back, *span),
            Step::SwapMac(node, lan) => self.swap_mac(*node, *lan),
            Step::KillSocket(node, lan, protocol) => self.kill_socket(*node, *lan, *protocol)?,
            Step::Lose(span) => {
                let until = self.now + *span;
                self.lossy_until = self.lossy_until.max(Some(until));
                self.schedule.plan(until, Event::LossEnds);
            }
            Step::Break(node, router) => self.break_connections(*node, *router),
            Step::Stall(node, router, span) => self.stall(*node, *router, *span),
            Step::RouterDown(router, span) => self.router_down(*router, *span),
            Step::Ask(address) => {
                for lan in Lan::ALL {
                    self.ask(lan, *address);
                }
            }
            Step::Stranger(claim, span) => self.stranger_comes(*claim, *span),
            Step::Block(node, span) => self.block(*node, *span),
            Step::Rest => self.rest()?,
        }
        Ok(())
    }

    fn put(&mut self, object: &Object) {
        match object {
            Object::Node(_) => self.edit_node(object.clone()),
            Object::Service(service) => self.edit(Object::Service(self.classed(service.clone()))),
            _ => self.edit(object.clone()),
        }
        if object.kind() == Kind::Service {
            self.update_slices();
        }
    }

    /// Histories are about Services without a class, and about the odd one that another load balancer serves. Where a
    /// class is served, the former have that class, and the latter have none.
    fn classed(&self, mut service: Service) -> Service {
        let is_load_balancer = service.spec.type_.as_deref() == Some("LoadBalancer");
        if let Some(class) = self.climate.class.filter(|_| is_load_balancer) {
            let is_ours = service.spec.load_balancer_class.is_none();
            service.spec.load_balancer_class = is_ours.then(|| class.to_owned());
        }
        service
    }

    fn rename_pool(&mut self, from: &str, to: &str) {
        let reference = ObjectRef { kind: Kind::IPAddressPool, key: api::Key::new(NAMESPACE, from) };
        let Some(Object::IPAddressPool(pool)) = self.api.get(&reference).map(|object| (**object).clone()) else {
            return;
        };
        let mut renamed = api::IPAddressPool { status: None, ..pool };
        to.clone_into(&mut renamed.metadata.name);
        self.delete(&reference);
        self.edit(Object::IPAddressPool(renamed));
    }

    fn kill_socket(&mut self, node: NodeId, lan: Lan, protocol: l2::Protocol) -> Result<(), Violation> {
        self.frozen.remove(&ProcessId::Speaker(node));
        self.with_speaker(node, |speaker, now| speaker.socket_failed(now, lan, protocol))
    }
}
