//! A router: the same core in its passive role for each node that connects, and the routes that each has told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::wire::PathAttributes;
use bgp::{ConnectRetry, ConnectionId, Families, Input, Mode, Output, PeerConfig, Reception, RouterIdSource, State};
use ipnet::IpNet;
use kit::{HoldTime, Instant, Outbox, RemoteAs, Rng, RouterId};

use crate::names::{NodeId, RouterName};
use crate::violation::{Invariant, Violation, hold};

/// Where routers listen.
pub(crate) const PORT: u16 = 179;
/// More than all nodes together ever tell.
const PREFIXES_MAX: u32 = 1000;

impl RouterName {
    /// Who may talk to it.
    pub(crate) fn neighbours_are(self) -> RemoteAs {
        match self {
            RouterName::Inner => RemoteAs::Internal,
            RouterName::East | RouterName::Six => RemoteAs::External,
        }
    }

    fn router_id(self) -> RouterId {
        let number = match self {
            RouterName::East => 1,
            RouterName::Inner => 2,
            RouterName::Six => 3,
        };
        let Some(id) = RouterId::new(number) else { unreachable!("{number} is not zero") };
        id
    }
}

/// A route as a node told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where packets go.
    pub next_hop: IpAddr,
    /// Everything else.
    pub attributes: Arc<PathAttributes>,
}

/// What a node has told a router.
pub type Table = BTreeMap<IpNet, Route>;

/// What a router wants done with a connection.
#[derive(Debug)]
pub(crate) enum Effect {
    Send { connection: u64, bytes: Vec<u8> },
    Close { connection: u64 },
}

/// A router and those who talk to it.
#[derive(Debug)]
pub(crate) struct Router {
    name: RouterName,
    hold_time: HoldTime,
    neighbours: BTreeMap<NodeId, Neighbour>,
    random: Rng,
    out: Outbox<Output>,
}

#[derive(Debug)]
struct Neighbour {
    core: bgp::Peer,
    table: Table,
    /// UPDATEs that came.
    updates: u64,
}

impl Router {
    pub(crate) fn new(name: RouterName, hold_time: HoldTime, seed: u64) -> Self {
        Router {
            name,
            hold_time,
            neighbours: BTreeMap::new(),
            random: Rng::new(seed),
            out: Outbox::with_limit(bgp::OUTBOX_LIMIT),
        }
    }

    /// Forgets everything, as by a loss of power.
    pub(crate) fn restart(&mut self) {
        self.neighbours.clear();
    }

    /// What a node has told.
    pub(crate) fn table(&self, node: NodeId) -> Option<&Table> {
        self.neighbours.get(&node).map(|neighbour| &neighbour.table)
    }

    /// Loses a route that a node told, which never happens to a real one. For tests of what watches routers.
    pub(crate) fn lose_route(&mut self, node: NodeId, prefix: &IpNet) {
        if let Some(neighbour) = self.neighbours.get_mut(&node) {
            neighbour.table.remove(prefix);
        }
    }

    /// UPDATEs that came from a node since it first connected.
    pub(crate) fn updates(&self, node: NodeId) -> u64 {
        self.neighbours.get(&node).map_or(0, |neighbour| neighbour.updates)
    }

    pub(crate) fn is_established(&self, node: NodeId) -> bool {
        self.neighbours.get(&node).is_some_and(|neighbour| neighbour.core.state() == State::Established)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.neighbours.values().filter_map(|neighbour| neighbour.core.next_deadline()).min()
    }

    /// The neighbours whose deadline has come.
    pub(crate) fn due(&self, now: Instant) -> Vec<NodeId> {
        let is_due = |neighbour: &Neighbour| neighbour.core.next_deadline().is_some_and(|deadline| deadline <= now);
        self.neighbours.iter().filter(|(_, neighbour)| is_due(neighbour)).map(|(node, _)| *node).collect()
    }

    /// Gives the neighbour what happened to it. A node that connects for the first time becomes one.
    pub(crate) fn tell(&mut self, now: Instant, node: NodeId, input: Input) -> Result<Vec<Effect>, Violation> {
        if matches!(input, Input::Connected { .. }) && !self.neighbours.contains_key(&node) {
            let mut core = bgp::Peer::new(self.peer_config(), Rng::new(self.random.next_u64()), now);
            core.handle(now, Input::Start, &mut self.out);
            self.neighbours.insert(node, Neighbour { core, table: Table::new(), updates: 0 });
        }
        let Some(neighbour) = self.neighbours.get_mut(&node) else { return Ok(Vec::new()) };
        let brings_messages = matches!(input, Input::Received { .. } | Input::Tick);
        neighbour.core.handle(now, input, &mut self.out);
        let name = self.name;
        hold(self.out.dropped() == 0, Invariant::OutboxIsLargeEnough, || format!("router {name} said too much"))?;
        let mut effects = Vec::new();
        let mut news = 0_u64;
        for output in self.out.drain() {
            match output {
                Output::Send { connection: ConnectionId::Accepted(connection), bytes } => {
                    effects.push(Effect::Send { connection, bytes });
                }
                Output::Close { connection: ConnectionId::Accepted(connection) } => {
                    effects.push(Effect::Close { connection });
                }
                Output::RoutesAnnounced { prefixes, next_hop, attributes } => {
                    news = news.saturating_add(1);
                    for prefix in prefixes {
                        let route = Route { next_hop, attributes: Arc::clone(&attributes) };
                        let is_news = neighbour.table.insert(prefix, route.clone()).as_ref() != Some(&route);
                        hold(is_news, Invariant::UpdatesAreNews, || {
                            format!("{node} told router {name} of {prefix} once more")
                        })?;
                    }
                }
                Output::RoutesWithdrawn { prefixes } => {
                    news = news.saturating_add(1);
                    for prefix in prefixes {
                        neighbour.table.remove(&prefix);
                    }
                }
                Output::SessionDown { .. } => neighbour.table.clear(),
                Output::MalformedUpdate { errors, text, .. } => {
                    let detail = format!("router {name} cannot read what {node} sent: {errors:?}: {text}");
                    return Err(Violation::new(Invariant::CoreAddsUp, detail));
                }
                Output::SessionUp { .. } | Output::AttemptFailed { .. } => {}
                Output::Dial { .. } | Output::Send { .. } | Output::Close { .. } => {
                    let detail = format!("router {name} is passive, but wants {output:?}");
                    return Err(Violation::new(Invariant::CoreAddsUp, detail));
                }
            }
        }
        if brings_messages {
            neighbour.count_updates(news, name, node)?;
        }
        Ok(effects)
    }

    fn peer_config(&self) -> PeerConfig {
        PeerConfig {
            local_as: self.name.asn(),
            remote_as: self.name.neighbours_are(),
            router_id: RouterIdSource::Configured(self.name.router_id()),
            hold_time: self.hold_time,
            keepalive_time: None,
            connect_retry: ConnectRetry::BackOff,
            families: Families::Both,
            mode: Mode::Passive,
            reception: Reception::Report { prefixes_max: PREFIXES_MAX },
            graceful_restart: None,
        }
    }
}

impl Neighbour {
    /// Routers do not ask for End-of-RIB here, so each UPDATE has to change something.
    fn count_updates(&mut self, news: u64, router: RouterName, node: NodeId) -> Result<(), Violation> {
        let updates = self.core.view().counters.received.updates;
        let came = updates.saturating_sub(self.updates);
        self.updates = updates;
        hold(came <= news, Invariant::UpdatesAreNews, || {
            format!("of {came} UPDATEs from {node} to router {router} only {news} changed anything")
        })
    }
}
