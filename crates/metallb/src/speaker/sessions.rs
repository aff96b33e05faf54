//! The BGP sessions of this node: one core per neighbour, and the connections they share.
//!
//! Where neighbours are that are not given by address is found out in `place.rs`; those that call are in `callers.rs`; that
//! BFD watches the paths to them is in `paths.rs`; who reads along in `captures.rs`.

mod callers;
mod captures;
mod paths;
mod place;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bgp::{
    Beginning, ConnectRetry, Families, Input, Mode, Notifications, Output, PeerConfig, Reception, RouteAttributes,
    RouterIdSource, StopReason,
};
use config::{ConnectionMode, Effect, Peer, PeerChange, PeerEndpoint};
use ipnet::IpNet;
use kit::{Family, HoldTime, Instant, InterfaceIndex, Outbox, Rng, RouterId, TimerTable};
use netio::bgp::{Endpoint, Transport, Ttl};
use netio::clock::Clock;
use netio::interfaces::Interface;

use callers::{Callers, Listeners};
use captures::Captures;
use paths::Paths;
use place::Places;

pub(super) use views::Neighbour;

/// How much of a message that is wrong the log shows, in bytes; most are whole within that.
const MALFORMED_SHOWN_MAX: usize = 4096;

/// The sessions by name of their BGPPeer.
pub(super) struct Sessions {
    node: String,
    transport: Transport<SessionId>,
    places: Places,
    paths: Paths,
    listeners: Listeners,
    sessions: BTreeMap<SessionId, Session>,
    /// Peers that are whoever calls from a network.
    callers: BTreeMap<SessionId, Callers>,
    by_name: BTreeMap<String, SessionId>,
    deadlines: TimerTable<SessionId>,
    /// The addresses of this host, by interface.
    interfaces: Vec<Interface>,
    random: Rng,
    next_id: u64,
    /// Whether sessions that begin now may follow those of a process before this one.
    beginning: Beginning,
    captures: Captures,
    out: Outbox<Output>,
}

/// Tells a session from an earlier one of the same peer, so that what its connections report late reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionId(u64);

/// What BFD knows of its sessions.
pub(super) type BfdSnapshot = netio::bfd::Status<SessionId>;

/// A neighbour.
struct Session {
    peer: Arc<Peer>,
    endpoint: Endpoint,
    /// Where it was found; `None` while it is looked for.
    at: Option<SocketAddr>,
    core: bgp::Peer,
    /// Whose connections are its own: those of the same name, or those of the callers that it is one of.
    wire: SessionId,
}

/// Something that happened to a session, for logs and metrics.
pub(super) enum News {
    Up { peer: Arc<Peer>, at: Option<IpAddr>, local: Option<SocketAddr> },
    Down { peer: Arc<Peer>, at: Option<IpAddr>, reason: String },
    AttemptFailed { peer: Arc<Peer>, at: Option<IpAddr>, reason: String },
}

/// Something that sessions wait for.
pub(super) enum Event {
    /// A connection reports.
    Transport(SessionId, Input),
    /// Where neighbours are.
    Place(place::Event),
    /// BFD reports about a path.
    Path(SessionId, netio::bfd::Event),
}

impl Sessions {
    pub(super) fn new(node: &str, listen_port: u16, seed: u64, clock: Clock) -> Self {
        Sessions {
            node: node.to_owned(),
            transport: Transport::new(),
            places: Places::new(seed),
            paths: Paths::new(clock),
            listeners: Listeners::new(listen_port),
            sessions: BTreeMap::new(),
            callers: BTreeMap::new(),
            by_name: BTreeMap::new(),
            deadlines: TimerTable::new(),
            interfaces: Vec::new(),
            random: Rng::new(seed),
            next_id: 0,
            beginning: Beginning::Restarted,
            captures: Captures::default(),
            out: Outbox::with_limit(bgp::OUTBOX_LIMIT),
        }
    }

    /// Begins a session with the peer.
    pub(super) fn add(&mut self, now: Instant, peer: Arc<Peer>) {
        tracing::info!(
            event = "peerAdded",
            peer = %peer.endpoint,
            localASN = %peer.local_as(),
            peerASN = %peer.remote_as,
            "peer configured, starting BGP session"
        );
        let id = self.new_id();
        self.by_name.insert(peer.name.clone(), id);
        if let PeerEndpoint::Range { network, .. } = peer.endpoint {
            self.callers_add(now, id, peer, network);
            return;
        }
        let core = bgp::Peer::new(self.peer_config(&peer), Rng::new(self.random.next_u64()), now);
        let endpoint = endpoint(&peer);
        self.sessions.insert(id, Session { peer, endpoint, at: None, core, wire: id });
        self.place(now, id);
    }

    /// Ends the session with the peer, in order.
    pub(super) fn remove(&mut self, now: Instant, name: &str) {
        let Some(id) = self.by_name.remove(name) else { return };
        if let Some(peer) = self.end(now, id, &StopReason::PeerDeconfigured) {
            tracing::info!(event = "peerRemoved", peer = %peer.endpoint, "peer deconfigured, closing BGP session");
        }
    }

    /// Ends the session with the peer and begins another; a router that does graceful restart keeps the routes meanwhile.
    pub(super) fn reset(&mut self, now: Instant, peer: Arc<Peer>, change: &PeerChange) {
        log_change(&peer, change);
        if let Some(id) = self.by_name.remove(&peer.name) {
            self.end(now, id, &StopReason::ConfigurationChange);
        }
        self.add(now, peer);
    }

    /// Treats the peer like this from now on.
    pub(super) fn change(&mut self, now: Instant, from: &str, peer: &Arc<Peer>, change: &PeerChange) {
        log_change(peer, change);
        let Some(id) = self.by_name.remove(from) else { return };
        self.by_name.insert(peer.name.clone(), id);
        let config = self.peer_config(peer);
        for session in self.ids_of(id) {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.peer = Arc::clone(peer);
            }
            self.tell(now, session, Input::Configure(Box::new(config.clone())));
            self.path(now, session);
        }
        if let Some(callers) = self.callers.get_mut(&id) {
            callers.peer = Arc::clone(peer);
        }
    }

    /// Gives a route to a peer.
    pub(super) fn announce(&mut self, now: Instant, name: &str, prefix: IpNet, attributes: &Arc<RouteAttributes>) {
        let Some(id) = self.by_name.get(name).copied() else { return };
        if let Some(callers) = self.callers.get_mut(&id) {
            callers.routes.insert(prefix, Arc::clone(attributes));
        }
        for session in self.ids_of(id) {
            self.tell(now, session, Input::Announce { prefix, attributes: Arc::clone(attributes) });
        }
    }

    /// Takes a route back from a peer.
    pub(super) fn withdraw(&mut self, now: Instant, name: &str, prefix: IpNet) {
        let Some(id) = self.by_name.get(name).copied() else { return };
        if let Some(callers) = self.callers.get_mut(&id) {
            callers.routes.remove(&prefix);
        }
        for session in self.ids_of(id) {
            self.tell(now, session, Input::Withdraw { prefix });
        }
    }

    /// A peer was given every route that it should have at the begin.
    pub(super) fn complete(&mut self, now: Instant, name: &str) {
        let Some(id) = self.by_name.get(name).copied() else { return };
        if let Some(callers) = self.callers.get_mut(&id) {
            callers.is_complete = true;
        }
        for session in self.ids_of(id) {
            self.tell(now, session, Input::Complete);
        }
    }

    /// All that there was when this process began is decided: sessions that begin from now on are new.
    pub(super) fn settled(&mut self) {
        self.beginning = Beginning::New;
    }

    /// The next event. Safe to cancel.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            (id, input) = self.transport.next() => Event::Transport(id, input),
            event = self.places.next() => Event::Place(event),
            (id, event) = self.paths.next() => Event::Path(id, event),
        }
    }

    /// Takes in an event.
    pub(super) fn handle(&mut self, now: Instant, event: Event) -> Vec<News> {
        match event {
            Event::Transport(id, input) if self.callers.contains_key(&id) => self.called(now, id, input),
            Event::Transport(id, input) => self.tell(now, id, input),
            Event::Place(event) => self.place_event(now, event),
            Event::Path(id, event) => self.path_event(now, id, event),
        }
    }

    /// When [`Sessions::tick`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let all = [
            self.deadlines.next_deadline(),
            self.places.next_deadline(),
            self.paths.next_deadline(),
            self.listeners.next_deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// Lets the sessions whose deadline has come do what is due.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        // One round: a session that has more to do is due at once, but lets packets and other sessions come first.
        let due: Vec<SessionId> = std::iter::from_fn(|| self.deadlines.pop_expired(now)).collect();
        for id in due {
            news.extend(self.tell(now, id, Input::Tick));
        }
        self.places_tick(now);
        news.extend(self.paths_tick(now));
        self.listeners.tick(now, &mut self.transport);
        news
    }

    /// Gives a session what happened to it.
    fn tell(&mut self, now: Instant, id: SessionId, input: Input) -> Vec<News> {
        let before = match &input {
            Input::Connected { local, .. } => self.before_connected(id, &local.ip()),
            _ => Vec::new(),
        };
        let mut news = Vec::new();
        let Some(session) = self.sessions.get_mut(&id) else { return news };
        let captured = (!self.captures.is_empty()).then(|| Arc::clone(&session.peer));
        for input in before.into_iter().chain([input]) {
            if let Some(peer) = &captured {
                self.captures.input(now, id, &peer.name, &input);
            }
            session.core.handle(now, input, &mut self.out);
        }
        match session.core.next_deadline() {
            Some(deadline) => self.deadlines.set(id, deadline),
            None => self.deadlines.clear(&id),
        }
        while let Some(output) = self.out.pop() {
            if let Some(peer) = &captured {
                self.captures.output(now, id, &peer.name, &output);
            }
            if let Some(output) = self.transport.execute(&session.wire, &session.endpoint, output) {
                news.extend(session.report(output));
            }
        }
        if captured.is_some() {
            self.captures.flush();
        }
        for one in &news {
            self.places.session(now, id, one);
        }
        if !news.is_empty() {
            self.caller_gone(now, id);
        }
        news
    }

    /// The name of an interface of this host, or its number if it has gone.
    pub(super) fn interface_name(&self, index: InterfaceIndex) -> String {
        let found = self.interfaces.iter().find(|interface| interface.index == index);
        found.map_or_else(|| index.to_string(), |interface| interface.name.clone())
    }

    /// What a session must know before it has a connection with this local end: our identifier for it, and the next hop
    /// that its own addresses do not give.
    fn before_connected(&self, id: SessionId, local: &IpAddr) -> Vec<Input> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let mut inputs = Vec::from_iter(self.next_hop_beside(local));
        let config = session.core.config();
        let source = self.router_id_source(&session.peer, local);
        if config.router_id != source {
            inputs.push(Input::Configure(Box::new(PeerConfig { router_id: source, ..config.clone() })));
        }
        inputs
    }

    /// The interfaces of this host have changed.
    pub(super) fn interfaces_changed(&mut self, now: Instant, interfaces: Vec<Interface>) -> Vec<News> {
        let before = std::mem::replace(&mut self.interfaces, interfaces);
        let established: Vec<(SessionId, IpAddr)> = self
            .sessions
            .iter()
            .filter_map(|(id, session)| Some((*id, session.core.view().session?.local.ip())))
            .collect();
        for (id, local) in established {
            if let Some(next_hop) = self.next_hop_beside(&local) {
                self.tell(now, id, next_hop);
            }
        }
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        let mut news: Vec<News> = ids.into_iter().flat_map(|id| self.place(now, id)).collect();
        news.extend(self.paths_interfaces_changed(now, &before));
        news
    }

    /// The peers that keep our routes when this process ends, by name.
    pub(super) fn keepers(&self) -> BTreeSet<String> {
        let keeps = |id: &SessionId| {
            let sessions = self.ids_of(*id);
            let keeps = |id: &SessionId| self.sessions.get(id).is_some_and(Session::keeps_routes);
            !sessions.is_empty() && sessions.iter().all(keeps)
        };
        self.by_name.iter().filter(|(_, id)| keeps(id)).map(|(name, _)| name.clone()).collect()
    }

    /// True when everything that peers should be told has left this process.
    pub(super) fn is_quiet(&self) -> bool {
        self.sessions.values().all(|session| session.core.is_quiet())
    }

    /// Ends all sessions in order, and waits until the peers have been told.
    pub(super) async fn finish(mut self, now: Instant) {
        let ids: Vec<(SessionId, bool)> =
            self.sessions.iter().map(|(id, session)| (*id, session.keeps_routes())).collect();
        for (id, keeps_routes) in ids {
            let text = "the speaker of this node is stopped".to_owned();
            let reason = if keeps_routes { StopReason::Restart } else { StopReason::AdministrativeShutdown { text } };
            self.tell(now, id, Input::Stop { reason });
        }
        self.transport.finish().await;
        // Not before the routers know that the sessions end: some take a BFD session that is switched off for a failure,
        // and forget the routes that they were to keep.
        self.paths.finish().await;
    }

    fn new_id(&mut self) -> SessionId {
        let id = SessionId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    /// The sessions of a peer: one, or those of its callers.
    fn ids_of(&self, id: SessionId) -> Vec<SessionId> {
        match self.callers.get(&id) {
            Some(callers) => callers.sessions.values().copied().collect(),
            None => vec![id],
        }
    }

    /// Ends all sessions of a peer and forgets it.
    fn end(&mut self, now: Instant, id: SessionId, reason: &StopReason) -> Option<Arc<Peer>> {
        let ids = self.ids_of(id);
        let callers = self.callers.remove(&id);
        let mut peer = callers.map(|callers| callers.peer);
        for id in ids {
            self.tell(now, id, Input::Stop { reason: reason.clone() });
            self.deadlines.clear(&id);
            self.paths.forget(now, id);
            peer = self.sessions.remove(&id).map(|session| session.peer).or(peer);
        }
        self.places.forget(id);
        self.listeners.disallow(&mut self.transport, id);
        peer
    }

    /// What routes of the other family have as next hop: an address on the same interface.
    fn next_hop_beside(&self, local: &IpAddr) -> Option<Input> {
        let interface = self.interfaces.iter().find(|interface| has(interface, local))?;
        let family = Family::of(local).other();
        let addresses: BTreeSet<IpAddr> = interface
            .addresses
            .iter()
            .map(|address| address.address)
            .filter(|address| Family::of(address) == family && is_global(address))
            .collect();
        Some(Input::NextHop { family, address: addresses.first().copied() })
    }

    /// Our identifier (contract 6.4): the one that is configured; else our IPv4 address of the session; else the first
    /// IPv4 address of the interface that the session uses; else a number made of the node's name.
    fn router_id_source(&self, peer: &Peer, local: &IpAddr) -> RouterIdSource {
        let of_interface = self.interfaces.iter().find(|interface| has(interface, local)).and_then(|interface| {
            interface.addresses.iter().find_map(|address| match address.address {
                IpAddr::V4(v4) => RouterId::new(u32::from(v4)),
                IpAddr::V6(_) => None,
            })
        });
        let otherwise = of_interface.unwrap_or_else(|| router_id_of_name(&self.node));
        peer.router_id.map_or(RouterIdSource::Session { otherwise }, RouterIdSource::Configured)
    }

    fn peer_config(&self, peer: &Peer) -> PeerConfig {
        PeerConfig {
            local_as: peer.local_as(),
            remote_as: peer.remote_as,
            // What it is over IPv6 is known when there is a connection.
            router_id: self.router_id_source(peer, &IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
            hold_time: peer.hold_time.unwrap_or(HoldTime::DEFAULT),
            keepalive_time: peer.keepalive_time,
            connect_retry: peer.connect_time.map_or(ConnectRetry::BackOff, ConnectRetry::Every),
            families: if Family::ALL.into_iter().all(|family| peer.carries(family)) {
                Families::Both
            } else {
                Families::OfSession
            },
            mode: match peer.connection_mode {
                ConnectionMode::Active => Mode::Active,
                ConnectionMode::Passive => Mode::Passive,
                ConnectionMode::Both => Mode::Both,
            },
            reception: Reception::Refuse,
            graceful_restart: peer.graceful_restart.map(|restart| bgp::GracefulRestart {
                restart_time: restart.time,
                beginning: self.beginning,
                notifications: if restart.notification { Notifications::KeepRoutes } else { Notifications::DropRoutes },
            }),
        }
    }
}

impl Session {
    fn keeps_routes(&self) -> bool {
        self.core.view().session.is_some_and(|session| session.keeps_routes)
    }

    /// Where the neighbour is, for logs.
    fn at(&self) -> Option<IpAddr> {
        self.at.map(|at| at.ip())
    }

    fn report(&self, output: Output) -> Option<News> {
        let (peer, at) = (Arc::clone(&self.peer), self.at());
        match output {
            Output::SessionUp { .. } => {
                let local = self.core.view().session.map(|session| session.local);
                Some(News::Up { peer, at, local })
            }
            Output::SessionDown { reason } => Some(News::Down { peer, at, reason: reason.to_string() }),
            Output::AttemptFailed { reason } => Some(News::AttemptFailed { peer, at, reason: reason.to_string() }),
            // RFC 7606 section 6 wants it logged; a router can send such messages without end.
            Output::MalformedUpdate { errors, text, message, .. } => {
                tracing::warn!(
                    limited = true,
                    peer = %peer.endpoint,
                    peerAddress = at.map(tracing::field::display),
                    error = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                    update = text.chars().take(MALFORMED_SHOWN_MAX).collect::<String>(),
                    length = message.len(),
                    bytes =
                        message.iter().take(MALFORMED_SHOWN_MAX).map(|byte| format!("{byte:02x}")).collect::<String>(),
                    "malformed UPDATE from the peer"
                );
                None
            }
            // Routes that peers send are refused by configuration, so there is nothing else.
            _ => None,
        }
    }
}

/// The effect is known before the change is made, and this says so.
fn log_change(peer: &Peer, change: &PeerChange) {
    let effect = change.effect();
    let (fields, next) = (change.field_names(), change.field_names_of_next_session());
    let next = (!next.is_empty()).then_some(next);
    let message = match effect {
        Effect::Reset => "peer changed, the BGP session begins anew",
        Effect::Nothing | Effect::Attributes | Effect::Soft => "peer changed, the BGP session goes on",
    };
    tracing::info!(
        event = "peerChanged",
        peer = %peer.endpoint,
        effect = %effect,
        fields,
        nextSession = next,
        "{message}"
    );
}

/// How the neighbour is talked to; its address is filled in when it is known.
fn endpoint(peer: &Peer) -> Endpoint {
    let address = match peer.endpoint {
        PeerEndpoint::Address(address) => address,
        PeerEndpoint::Gateway(_) | PeerEndpoint::Interface(_) | PeerEndpoint::Range { .. } => {
            IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
        }
    };
    let device = match &peer.endpoint {
        PeerEndpoint::Interface(name) => Some(name.clone()),
        _ => peer.vrf.clone(),
    };
    Endpoint {
        address: SocketAddr::new(address, peer.port),
        source: peer.source_address,
        device,
        authentication: peer.authentication.clone(),
        // Routers with TTL security want 255, and none minds it: sessions may cross any number of hops (contract 6.4).
        ttl: peer.ttl_security_hops.map_or(Ttl::Hops(u8::MAX), |hops| Ttl::Security { hops: hops.get() }),
    }
}

fn has(interface: &Interface, local: &IpAddr) -> bool {
    interface.addresses.iter().any(|address| address.address == *local)
}

fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback(),
    }
}

/// CRC-32 of the name with its bytes in little-endian order, as the Go implementation has it (contract 6.4).
fn router_id_of_name(name: &str) -> RouterId {
    let crc = name.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    let id = u32::from_be_bytes((!crc).to_le_bytes());
    // One name in four thousand million has the checksum zero, which is no identifier.
    RouterId::new(id).or(RouterId::new(1)).unwrap_or_else(|| router_id_of_name("node"))
}

#[cfg(test)]
pub(super) mod tests {
    use kit::{Asn, RemoteAs, SelectorList};

    use super::*;

    /// A peer to which nothing special applies.
    pub(in super::super) fn plain_peer(name: String, endpoint: PeerEndpoint, connection_mode: ConnectionMode) -> Peer {
        Peer {
            name,
            my_asn: Asn::new(64512).unwrap(),
            local_asn: None,
            remote_as: RemoteAs::External,
            endpoint,
            port: 179,
            connection_mode,
            source_address: None,
            hold_time: None,
            keepalive_time: None,
            connect_time: None,
            router_id: None,
            node_selectors: SelectorList::default(),
            authentication: None,
            bfd: None,
            graceful_restart: None,
            ebgp_multi_hop: false,
            ttl_security_hops: None,
            vrf: None,
            dual_stack_address_family: false,
        }
    }

    #[test]
    fn the_identifier_of_a_name_is_its_checksum() {
        // CRC-32 of "123456789" is cbf43926: the check value of the polynomial.
        assert_eq!(router_id_of_name("123456789").to_string(), "38.57.244.203");
    }
}
