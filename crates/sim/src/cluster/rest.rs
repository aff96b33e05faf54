//! The cluster at rest: everything is mended, nothing happens any more, and it is looked at as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::core::Service;
use api::{Key, PoolCounters};
use bgp::State;
use config::{Config, Scope};
use controller::Outcome;
use kit::{Duration, Family, Mac};
use speaker::Protocol;

use super::{Cluster, Event, Membership};
use crate::configuration::{NAMESPACE, Reader};
use crate::ledger::{self, is_served};
use crate::model::{self, Plight, View};
use crate::names::{Lan, NODES_MAX, NodeId, ProcessId, RouterName};
use crate::router::Table;
use crate::sessions::router_of;
use crate::violation::{Invariant, Violation, hold};

/// Nothing has happened for this long.
const IDLE: Duration = Duration::from_secs(8);
/// For this long it is waited in one go.
const WAIT: Duration = Duration::from_secs(2);
/// Everything comes to rest in this time: statuses that others overwrote are set back after 300 s at most, and a lost
/// status is written again after 60 s; sessions are tried again after 120 s at most.
const REST_MAX: Duration = Duration::from_secs(900);
/// A speaker that plans nothing before this has nothing more to do.
const PLANS_MIN: Duration = Duration::from_secs(20);
/// How long an answer to a question may take.
const ANSWER: Duration = Duration::from_millis(50);
/// In this time an address that has moved is told of for the last time, until it is refreshed.
pub(super) const ROUNDS: Duration = Duration::from_secs(6);
/// For so long nothing is written at rest: longer than it takes a controller to repeat what was not seen to arrive.
const QUIET: Duration = Duration::from_secs(65);

/// Who answers where, as it should be: by link and address, the Ethernet addresses.
type Answers = BTreeMap<(Lan, IpAddr), BTreeSet<Mac>>;

impl Cluster {
    /// Mends everything, waits until nothing happens any more, and checks what must hold then.
    pub fn rest(&mut self) -> Result<(), Violation> {
        self.mend()?;
        let limit = self.now + REST_MAX;
        loop {
            let verdict = match self.unrest() {
                None => self.check_books(),
                Some(reason) => Err(Violation::new(Invariant::ComesToRest, reason)),
            };
            match verdict {
                Ok(()) => break,
                Err(violation) if self.now >= limit => return Err(violation),
                Err(_) => self.run_for(WAIT)?,
            }
        }
        self.say(|| "at rest".to_owned());
        self.check_configurations()?;
        self.check_routes()?;
        self.check_answers()?;
        self.check_spread()?;
        self.check_reasons()?;
        // What went wrong before is no excuse from now on.
        self.disturbed.retain(|(node, _), _| !self.machines.get(node).is_some_and(|machine| machine.is_on));
        Ok(())
    }

    /// Nothing is written, and no route told, while nothing happens; and of each address the network is told once at most, if it
    /// is to be told at all. The cluster has to be at rest.
    pub fn check_quiet(&mut self) -> Result<(), Violation> {
        // The last rounds of those that moved last.
        self.run_for(ROUNDS)?;
        let before = (self.writes, self.update_count());
        self.asker.count_tellings();
        self.run_for(QUIET)?;
        for ((lan, address), times) in self.asker.tellings() {
            let most = if self.climate.refresh == l2::Refresh::Never { 0 } else { l2::frames_per_round(address) };
            // Where two answer (see `check_single_owners`) each hears the other claim the address, and says so on all links.
            let is_contested = Lan::ALL.into_iter().any(|lan| self.answering(lan, *address) > 1);
            hold(*times <= most || is_contested, Invariant::RestIsQuiet, || {
                format!("of {address} the network {lan:?} was told {times} times, and not {most}")
            })?;
        }
        let after = (self.writes, self.update_count());
        hold(before == after, Invariant::RestIsQuiet, || {
            format!("statuses written and UPDATEs sent went from {before:?} to {after:?}")
        })
    }

    /// Ends all faults.
    fn mend(&mut self) -> Result<(), Violation> {
        self.lossy_until = None;
        self.rivals.clear();
        self.strangers_go();
        self.blocked.values_mut().for_each(|until| *until = self.now);
        self.unblocked();
        for process in self.clients.keys().copied().collect::<Vec<_>>() {
            if let Some(client) = self.clients.get_mut(&process).filter(|client| client.is_cut()) {
                client.cut_until = Some(self.now);
                self.uncut(process)?;
            }
        }
        for node in self.machines.keys().copied().collect::<Vec<_>>() {
            let broken = self.machines.get_mut(&node).map(super::Machine::mend).unwrap_or_default();
            for lan in broken {
                self.port_changed(node, lan);
            }
            if let Some(machine) = self.machines.get_mut(&node).filter(|machine| !machine.ways_lost.is_empty()) {
                machine.ways_lost.clear();
                self.ways_changed(node);
            }
        }
        for number in self.connections.between(None, None) {
            self.unstall(number);
        }
        for down in self.routers_down.values_mut() {
            *down = self.now;
        }
        for router in self.routers_down.keys().copied().collect::<Vec<_>>() {
            self.plan_in(Duration::ZERO, Event::RouterBack(router));
        }
        self.run_now()
    }

    /// What still has to happen before the cluster is at rest.
    fn unrest(&self) -> Option<String> {
        if self.now - self.last_active < IDLE {
            return Some("something has just happened".to_owned());
        }
        let late = self.clients.iter().find(|(_, client)| !client.is_caught_up(&self.api));
        if let Some((process, _)) = late {
            return Some(format!("{process} has not heard, or not said, everything"));
        }
        if self.controller.as_ref().is_none_or(|controller| !controller.is_synced()) {
            return Some("the controller has not started".to_owned());
        }
        if self.controller.as_ref().is_some_and(|controller| controller.spread_deadline().is_some()) {
            return Some("the controller is to look at how addresses are spread".to_owned());
        }
        if let Some(node) = self.machines.keys().find(|node| self.has_to_go_on(**node)) {
            return Some(format!("the speaker of {node} is not yet where it belongs"));
        }
        if let Some(reason) = all_nodes().find_map(|node| self.stale_session(node)) {
            return Some(reason);
        }
        self.machines.iter().find_map(|(node, machine)| match &machine.speaker {
            Some(speaker) if speaker.is_synced() => speaker.sessions().states().find_map(|(peer, state)| {
                let router = router_of(peer)?;
                let is_up = state == State::Established
                    && self.routers.get(&router).is_some_and(|router| router.is_established(*node));
                (!is_up).then(|| format!("{node} has no session with {}: {state}", peer.name))
            }),
            Some(_) => Some(format!("the speaker of {node} has not heard of everything")),
            None if machine.is_on => Some(format!("the speaker of {node} does not run")),
            None => {
                let is_known = self.api.node(&node.name()).is_some_and(|it| it.condition("Ready") == Some("True"));
                is_known.then(|| format!("nobody has noticed that {node} is off"))
            }
        })
    }

    /// True for a speaker that has not found the others yet, or counts as hindered by what is mended, or whose node is still
    /// leaving.
    fn has_to_go_on(&self, node: NodeId) -> bool {
        let Some(speaker) = self.speaker(node).filter(|speaker| speaker.configuration().is_some()) else {
            return false;
        };
        let joins = self.climate.membership == Membership::Memberlist && !self.members.contains(&node);
        // For minutes afterwards it remembers what it has lost, which changes nothing.
        let has_plans = speaker.core().next_deadline().is_some_and(|at| at <= self.now + PLANS_MIN);
        joins || has_plans || !self.is_hindered_as_told(node)
    }

    /// What keeps each machine from announcing, by the configuration that is in force there.
    fn plights(&self) -> BTreeMap<NodeId, Plight> {
        let of = |(node, machine): (&NodeId, &super::Machine)| {
            let config = machine.speaker.as_ref()?.configuration()?;
            Some((*node, model::plight(config, self.api.node(&node.name())?, machine)))
        };
        self.machines.iter().filter_map(of).collect()
    }

    /// Whether a speaker says of its node what is true of it.
    fn is_hindered_as_told(&self, node: NodeId) -> bool {
        let plight = self.plights().remove(&node).unwrap_or_default();
        self.speaker(node).is_none_or(|speaker| plight.is(speaker.core().hindrances()))
    }

    /// A router that takes a session for established which the node does not have.
    fn stale_session(&self, node: NodeId) -> Option<String> {
        let mut there = self.routers.iter().filter(|(_, router)| router.is_established(node)).map(|(name, _)| *name);
        let has = |name: RouterName| {
            let mut sessions = self.speaker(node).into_iter().flat_map(|speaker| speaker.sessions().states());
            sessions.any(|(peer, state)| state == State::Established && router_of(peer) == Some(name))
        };
        there.find(|name| !has(*name)).map(|name| format!("router {name} has an old session with {node}"))
    }

    fn update_count(&self) -> u64 {
        self.routers.values().flat_map(|router| all_nodes().map(|node| router.updates(node))).sum()
    }

    /// The configuration in force for a reader, if it is there.
    fn in_force(&self, process: ProcessId) -> Option<&Config> {
        match process {
            ProcessId::Controller => self.controller.as_ref()?.configuration().map(|config| &**config),
            ProcessId::Speaker(node) => self.speaker(node)?.configuration().map(|config| &**config),
        }
    }

    /// What the objects say to a process, if they are valid.
    fn configured(&self, process: ProcessId) -> Option<Config> {
        let reader = match process {
            ProcessId::Controller => Reader::Controller,
            ProcessId::Speaker(node) => Reader::Speaker(node.name()),
        };
        let mut objects = config::Objects::new();
        for kind in api::Kind::ALL.iter().filter(|kind| reader.scope().reads(**kind)) {
            for (_, object) in self.api.of_kind(*kind) {
                objects.insert((**object).clone());
            }
        }
        let scope: Scope<'_> = reader.scope();
        config::validate(&objects, scope, Some(NAMESPACE)).ok().map(|accepted| accepted.config)
    }

    /// True when what is configured is valid for everyone.
    pub(super) fn is_valid_everywhere(&self) -> bool {
        self.clients.keys().all(|process| self.configured(*process).is_some())
    }

    fn check_configurations(&self) -> Result<(), Violation> {
        for process in self.clients.keys() {
            let Some(configured) = self.configured(*process) else { continue };
            let in_force = self.in_force(*process);
            hold(in_force == Some(&configured), Invariant::ValidConfigurationIsInForce, || {
                format!("{process} has {in_force:?}, and not {configured:?}")
            })?;
        }
        Ok(())
    }
}

/// All machines that there may ever be.
fn all_nodes() -> impl Iterator<Item = NodeId> {
    (1..=NODES_MAX).map(NodeId)
}

/// Statuses and counters.
impl Cluster {
    /// Statuses and counters are what the controller means. Before it has a configuration it means nothing.
    fn check_books(&self) -> Result<(), Violation> {
        let Some(controller) = self.controller.as_ref().filter(|controller| controller.core().is_active()) else {
            return Ok(());
        };
        let books = controller.books();
        for service in self.api.services() {
            self.check_status(service, books)?;
        }
        let Some(config) = controller.configuration() else { return Ok(()) };
        for pool in self.api.pools() {
            let Some(configured) = config.pools.get(&pool.metadata.name) else { continue };
            let expected = recount(configured, books);
            hold(pool.status == Some(expected), Invariant::CountersAreARecount, || {
                format!("pool {} shows {:?}, and not {expected:?}", pool.metadata.name, pool.status)
            })?;
        }
        Ok(())
    }

    fn check_status(&self, service: &Service, books: &ledger::Books) -> Result<(), Violation> {
        if !is_served(service, self.climate.class) && service.spec.type_.as_deref() == Some("LoadBalancer") {
            // What another load balancer serves may show what that one likes.
            return Ok(());
        }
        if !is_served(service, self.climate.class) && self.climate.class.is_some() {
            // Nobody knows whose it was, but what has our annotation was ours (D16).
            return hold(shown(service).1.is_none(), Invariant::StatusesAreTheLedger, || {
                format!("{} is no load balancer and shows {:?}", service.metadata.key(), shown(service))
            });
        }
        let key = service.metadata.key();
        let assigned = books.get(&key);
        let texts: Vec<String> =
            assigned.into_iter().flat_map(|assigned| &assigned.addresses).map(ToString::to_string).collect();
        let expected = (texts.iter().map(String::as_str).collect(), assigned.map(|assigned| &*assigned.pool));
        let shown = shown(service);
        hold(shown == expected, Invariant::StatusesAreTheLedger, || {
            format!("{key} shows {shown:?}, and not {expected:?}")
        })
    }
}

fn shown(service: &Service) -> (Vec<&str>, Option<&str>) {
    let ingress = &service.status.load_balancer.ingress;
    let pool = service.metadata.annotations.get(api::ALLOCATED_FROM_POOL).map(String::as_str);
    (ingress.iter().filter_map(|entry| entry.ip.as_deref()).collect(), pool)
}

/// The counters of a pool: distinct addresses in use, and how many more can be given out (contract 1.1, 3.5).
fn recount(pool: &config::Pool, books: &ledger::Books) -> PoolCounters {
    let all = books.values().flat_map(|assigned| &assigned.addresses);
    let used: BTreeSet<IpAddr> = all.copied().filter(|address| pool.contains(address)).collect();
    let count = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
    let of = |family: Family| {
        let used = used.iter().filter(|address| Family::of(address) == family).count() as u128;
        let usable = pool.ranges.iter().filter(|range| range.family() == family).fold(0_u128, |sum, range| {
            let left_out = if pool.avoid_buggy_ips { range.buggy_count() } else { 0 };
            sum.saturating_add(range.size().saturating_sub(left_out))
        });
        (count(used), count(usable.saturating_sub(used)))
    };
    let ((assigned_ipv4, available_ipv4), (assigned_ipv6, available_ipv6)) = (of(Family::V4), of(Family::V6));
    PoolCounters { assigned_ipv4, assigned_ipv6, available_ipv4, available_ipv6 }
}

/// What is announced.
impl Cluster {
    pub(super) fn view<'a>(
        &'a self,
        node: NodeId,
        config: &'a Config,
        plights: &'a BTreeMap<NodeId, Plight>,
    ) -> View<'a> {
        let members = (self.climate.membership == Membership::Memberlist).then_some(&self.members);
        View { node, config, api: &self.api, climate: &self.climate, members, plights }
    }

    fn views<'a>(&'a self, plights: &'a BTreeMap<NodeId, Plight>) -> impl Iterator<Item = View<'a>> {
        self.machines.iter().filter_map(move |(node, machine)| {
            let config = machine.speaker.as_ref()?.configuration()?;
            Some(self.view(*node, config, plights))
        })
    }

    /// What each router has from each node.
    pub(super) fn tables(&self) -> BTreeMap<(RouterName, NodeId), Table> {
        let all = self.routers.iter().flat_map(|router| all_nodes().map(move |node| (router, node)));
        all.map(|((name, router), node)| ((*name, node), router.table(node).cloned().unwrap_or_default())).collect()
    }

    fn check_routes(&self) -> Result<(), Violation> {
        let (mut tables, plights) = (self.tables(), self.plights());
        for view in self.views(&plights) {
            for (peer, router) in model::peers(view) {
                let expected = model::table(view, peer, router);
                let has = tables.remove(&(router, view.node)).unwrap_or_default();
                let agree = has.len() == expected.len()
                    && expected.iter().all(|(prefix, route)| has.get(prefix).is_some_and(|has| route.is(has)));
                hold(agree, Invariant::RoutersHaveTheRoutes, || {
                    format!("router {router} has {has:?} from {}, and not {expected:?}", view.node)
                })?;
            }
        }
        let left_over = tables.into_iter().find(|(_, table)| !table.is_empty());
        hold(left_over.is_none(), Invariant::RoutersHaveTheRoutes, || {
            format!("there should be no session: {left_over:?}")
        })
    }

    /// Who should answer where.
    pub(super) fn expected_answers(&self) -> Answers {
        let (mut expected, plights) = (Answers::new(), self.plights());
        for view in self.views(&plights) {
            for (addresses, lans) in self.api.services().filter_map(|service| model::layer2(view, service)) {
                let places = addresses.into_iter().flat_map(|address| lans.iter().map(move |lan| (*lan, address)));
                for (lan, address) in places {
                    let machine = self.machines.get(&view.node).filter(|machine| machine.is_connected(lan));
                    let Some(mac) = machine.map(|machine| machine.mac(lan)) else { continue };
                    expected.entry((lan, address)).or_default().insert(mac);
                }
            }
        }
        expected
    }

    /// How many should answer for an address on a link.
    fn answering(&self, lan: Lan, address: IpAddr) -> usize {
        self.expected_answers().get(&(lan, address)).map_or(0, BTreeSet::len)
    }

    /// Those who hear each other on a link agree who answers there, although memberlist does not get through: nobody is left
    /// without an answer where there should be one, and no two answer that should not. It is the one that the election finds,
    /// unless somebody is hindered, of which only memberlist tells.
    pub(super) fn check_agreed(&mut self) -> Result<(), Violation> {
        let answers = self.answers()?;
        let expected = self.expected_answers();
        let is_hindered = self.plights().values().any(|plight| *plight != Plight::default());
        for (place, macs) in &answers {
            let most = expected.get(place).map_or(1, BTreeSet::len);
            hold(macs.len() <= most, Invariant::ElectedNodeAnswers, || format!("at {place:?} there answer {macs:?}"))?;
        }
        for (place, macs) in &expected {
            let answering = answers.get(place);
            let is_right = answering.is_some_and(|it| it == macs || is_hindered);
            hold(is_right, Invariant::ElectedNodeAnswers, || {
                format!("at {place:?} there answer {answering:?}, and not {macs:?}")
            })?;
        }
        Ok(())
    }

    /// Asks everywhere for every address that any Service ever had, and for one that none has.
    pub(super) fn check_answers(&mut self) -> Result<(), Violation> {
        let answers = self.answers()?;
        let expected = self.expected_answers();
        hold(answers == expected, Invariant::ElectedNodeAnswers, || {
            format!("asked, there answer {answers:?}, and not {expected:?}")
        })?;
        self.check_single_owners(&expected)
    }

    /// Who answers where, when everybody is asked.
    fn answers(&mut self) -> Result<Answers, Violation> {
        self.asker.take_answers();
        let nobodys: [IpAddr; 2] = [[10, 99, 0, 1].into(), [0xfc99, 0, 0, 0, 0, 0, 0, 1].into()];
        for address in self.ever_shown.clone().into_iter().chain(nobodys) {
            for lan in Lan::ALL {
                self.ask(lan, address);
            }
        }
        self.run_for(ANSWER)?;
        Ok(self.asker.take_answers())
    }

    /// One node answers for an address, whoever shares it. Two may where the contract says so: for Services of different
    /// namespaces that share under `externalTrafficPolicy: Local`, each of which has its own endpoints (contract 3.4).
    fn check_single_owners(&self, answers: &Answers) -> Result<(), Violation> {
        if !self.is_valid_everywhere() {
            return Ok(());
        }
        for ((lan, address), macs) in answers {
            let shows = |service: &&Service| shown(service).0.iter().any(|text| text.parse() == Ok(*address));
            let users: Vec<&Service> =
                self.api.services().filter(|it| is_served(it, self.climate.class)).filter(shows).collect();
            let namespaces: BTreeSet<&str> = users.iter().map(|it| it.metadata.namespace.as_str()).collect();
            let is_local = |it: &&Service| it.spec.external_traffic_policy.as_deref() == Some("Local");
            let may_differ = users.iter().all(is_local) && namespaces.len() > 1;
            hold(macs.len() == 1 || may_differ, Invariant::ElectedNodeAnswers, || {
                format!("for {address} on {lan:?} there answer {macs:?}")
            })?;
        }
        Ok(())
    }
}

/// Why not.
impl Cluster {
    /// Whoever has no address, or is not announced, is told why.
    fn check_reasons(&self) -> Result<(), Violation> {
        for service in self.api.services() {
            let key = service.metadata.key();
            self.check_controller_reason(service, &key)?;
            for (node, machine) in &self.machines {
                let Some(speaker) = machine.speaker.as_ref().filter(|it| it.configuration().is_some()) else {
                    continue;
                };
                let Some((layer2, bgp)) = speaker.core().explain(&key) else {
                    let detail = format!("{node} has decided nothing about {key}");
                    return Err(Violation::new(Invariant::RefusalsHaveReasons, detail));
                };
                let refusals =
                    [(Protocol::Layer2, layer2.outcome.as_ref().err()), (Protocol::Bgp, bgp.outcome.as_ref().err())];
                for (protocol, refusal) in refusals {
                    let is_announced = speaker.core().announced(protocol).any(|announced| *announced == key);
                    let has_reason = refusal.is_some_and(|refusal| {
                        !refusal.to_string().is_empty() && protocol.gates().contains(&refusal.gate())
                    });
                    hold(is_announced != has_reason, Invariant::RefusalsHaveReasons, || {
                        format!("{node}, {key}, {protocol}: announced {is_announced}, refusal {refusal:?}")
                    })?;
                }
            }
        }
        Ok(())
    }

    fn check_controller_reason(&self, service: &Service, key: &Key) -> Result<(), Violation> {
        let Some(controller) = self.controller.as_ref().filter(|controller| controller.core().is_active()) else {
            return Ok(());
        };
        let decision = controller.core().explain(key);
        let is_explained = match decision.as_ref().map(|decision| &decision.outcome) {
            Some(Outcome::Assigned { .. }) => controller.books().contains_key(key),
            Some(Outcome::Wanting(problem)) => !problem.cause.to_string().is_empty(),
            Some(Outcome::NotServed) | None => !is_served(service, self.climate.class),
            Some(Outcome::NotStarted) => false,
        };
        hold(is_explained, Invariant::RefusalsHaveReasons, || format!("{key}: {decision:?}"))
    }
}
