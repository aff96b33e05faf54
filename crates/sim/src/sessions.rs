//! The BGP sessions of one speaker, driven as the real program drives them, with connections that are names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bgp::{
    Beginning, ConnectRetry, ConnectionId, DownReason, Families, Input, Mode, Notifications, Output, PeerConfig,
    Reception, RouteAttributes, RouterIdSource, State, StopReason,
};
use config::{Peer, PeerEndpoint};
use ipnet::IpNet;
use kit::{Family, HoldTime, Instant, Outbox, Rng, RouterId};

use crate::names::{NodeId, RouterName};
use crate::violation::{Invariant, Violation, hold};

/// Sessions of one process in its life: more than it ever has, so that no two processes use one number.
const SESSIONS_PER_PROCESS: u64 = 1 << 32;

/// Tells a session from all others there ever were on any machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

/// What the sessions want done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Open a connection.
    Dial { session: SessionId, connection: ConnectionId, to: SocketAddr },
    /// Write to one.
    Send { session: SessionId, connection: ConnectionId, bytes: Vec<u8> },
    /// Write out what was sent, then close.
    Close { session: SessionId, connection: ConnectionId },
    /// A session is established.
    Up { peer: Arc<Peer> },
    /// It is no longer, and it was not us who ended it.
    Down { peer: Arc<Peer>, reason: DownReason },
}

/// The sessions of one speaker.
#[derive(Debug)]
pub(crate) struct Sessions {
    node: NodeId,
    sessions: BTreeMap<SessionId, Session>,
    by_name: BTreeMap<String, SessionId>,
    random: Rng,
    next_id: u64,
    /// Whether sessions that begin now may follow those of a process before this one.
    beginning: Beginning,
    out: Outbox<Output>,
}

#[derive(Debug)]
struct Session {
    peer: Arc<Peer>,
    to: SocketAddr,
    core: bgp::Peer,
}

impl Sessions {
    /// None yet, in the process with this number.
    pub(crate) fn new(node: NodeId, epoch: u64, seed: u64) -> Self {
        Sessions {
            node,
            sessions: BTreeMap::new(),
            by_name: BTreeMap::new(),
            random: Rng::new(seed),
            next_id: epoch.saturating_mul(SESSIONS_PER_PROCESS),
            beginning: Beginning::Restarted,
            out: Outbox::with_limit(bgp::OUTBOX_LIMIT),
        }
    }

    /// Begins a session with the peer.
    pub(crate) fn add(&mut self, now: Instant, peer: Arc<Peer>, effects: &mut Vec<Effect>) -> Result<(), Violation> {
        // Histories have no peers that have to be found first.
        let PeerEndpoint::Address(address) = peer.endpoint else { return Ok(()) };
        let id = SessionId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        let core = bgp::Peer::new(self.peer_config(&peer), Rng::new(self.random.next_u64()), now);
        self.by_name.insert(peer.name.clone(), id);
        let to = SocketAddr::new(address, peer.port);
        self.sessions.insert(id, Session { peer, to, core });
        self.tell(now, id, Input::Start, effects)
    }

    /// Ends the session with the peer, in order.
    pub(crate) fn remove(&mut self, now: Instant, name: &str, effects: &mut Vec<Effect>) -> Result<(), Violation> {
        let Some(id) = self.by_name.remove(name) else { return Ok(()) };
        self.tell(now, id, Input::Stop { reason: StopReason::PeerDeconfigured }, effects)?;
        self.sessions.remove(&id);
        Ok(())
    }

    /// Ends the session with the peer and begins another.
    pub(crate) fn reset(&mut self, now: Instant, peer: Arc<Peer>, effects: &mut Vec<Effect>) -> Result<(), Violation> {
        if let Some(id) = self.by_name.remove(&peer.name) {
            self.tell(now, id, Input::Stop { reason: StopReason::ConfigurationChange }, effects)?;
            self.sessions.remove(&id);
        }
        self.add(now, peer, effects)
    }

    /// Treats the peer like this from now on; its session lasts.
    pub(crate) fn change(
        &mut self,
        now: Instant,
        from: &str,
        peer: Arc<Peer>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        let Some(id) = self.by_name.remove(from) else { return Ok(()) };
        self.by_name.insert(peer.name.clone(), id);
        let config = self.peer_config(&peer);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.peer = peer;
        }
        self.tell(now, id, Input::Configure(Box::new(config)), effects)
    }

    /// The peer was given every route that it should have at the begin.
    pub(crate) fn complete(&mut self, now: Instant, name: &str, effects: &mut Vec<Effect>) -> Result<(), Violation> {
        let Some(id) = self.by_name.get(name).copied() else { return Ok(()) };
        self.tell(now, id, Input::Complete, effects)
    }

    /// All that there was when this process began is decided: sessions that begin from now on are new.
    pub(crate) fn settled(&mut self) {
        self.beginning = Beginning::New;
    }

    /// True when everything that peers should be told has left this process.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sessions.values().all(|session| session.core.is_quiet())
    }

    /// Ends all sessions in order, as a process does that is asked to end.
    pub(crate) fn finish(&mut self, now: Instant, effects: &mut Vec<Effect>) -> Result<(), Violation> {
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let reason = StopReason::AdministrativeShutdown { text: "the speaker is stopped".to_owned() };
            self.tell(now, id, Input::Stop { reason }, effects)?;
        }
        Ok(())
    }

    pub(crate) fn announce(
        &mut self,
        now: Instant,
        name: &str,
        prefix: IpNet,
        attributes: Arc<RouteAttributes>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        let Some(id) = self.by_name.get(name).copied() else { return Ok(()) };
        self.tell(now, id, Input::Announce { prefix, attributes }, effects)
    }

    pub(crate) fn withdraw(
        &mut self,
        now: Instant,
        name: &str,
        prefix: IpNet,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        let Some(id) = self.by_name.get(name).copied() else { return Ok(()) };
        self.tell(now, id, Input::Withdraw { prefix }, effects)
    }

    /// Gives a session what happened to it; nothing happens to one that is gone.
    pub(crate) fn tell(
        &mut self,
        now: Instant,
        id: SessionId,
        input: Input,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let is_stopped = matches!(input, Input::Stop { .. });
        if let Input::Connected { local, .. } = &input {
            let family = Family::of(&local.ip()).other();
            let address = Some(self.node.address(family));
            session.core.handle(now, Input::NextHop { family, address }, &mut self.out);
        }
        session.core.handle(now, input, &mut self.out);
        hold(self.out.dropped() == 0, Invariant::OutboxIsLargeEnough, || {
            format!("the session of {} with {} said too much", self.node, session.peer.name)
        })?;
        for output in self.out.drain() {
            match output {
                Output::Dial { connection } => effects.push(Effect::Dial { session: id, connection, to: session.to }),
                Output::Send { connection, bytes } => effects.push(Effect::Send { session: id, connection, bytes }),
                Output::Close { connection } => effects.push(Effect::Close { session: id, connection }),
                Output::SessionUp { .. } => effects.push(Effect::Up { peer: Arc::clone(&session.peer) }),
                Output::SessionDown { reason } if !is_stopped => {
                    effects.push(Effect::Down { peer: Arc::clone(&session.peer), reason });
                }
                Output::SessionDown { .. } | Output::AttemptFailed { .. } => {}
                Output::MalformedUpdate { .. } | Output::RoutesAnnounced { .. } | Output::RoutesWithdrawn { .. } => {
                    let detail = format!("{} heard routes from {}, which has none: {output:?}", self.node, session.to);
                    return Err(Violation::new(Invariant::CoreAddsUp, detail));
                }
            }
        }
        Ok(())
    }

    /// When [`Sessions::tick`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(|session| session.core.next_deadline()).min()
    }

    /// Lets the sessions whose deadline has come do what is due, each once.
    pub(crate) fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) -> Result<(), Violation> {
        let is_due = |session: &Session| session.core.next_deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| is_due(session)).map(|(id, _)| *id).collect();
        for id in due {
            self.tell(now, id, Input::Tick, effects)?;
        }
        Ok(())
    }

    /// The session with a peer: how far it is, and with which router.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&Arc<Peer>, State)> {
        self.sessions.values().map(|session| (&session.peer, session.core.state()))
    }

    fn peer_config(&self, peer: &Peer) -> PeerConfig {
        // The first IPv4 address of the interface towards the peer (contract 6.4).
        let IpAddr::V4(own) = self.node.address(Family::V4) else { unreachable!("an address has its family") };
        let Some(otherwise) = RouterId::new(u32::from(own)) else { unreachable!("{own} is not zero") };
        PeerConfig {
            local_as: peer.local_as(),
            remote_as: peer.remote_as,
            router_id: peer.router_id.map_or(RouterIdSource::Session { otherwise }, RouterIdSource::Configured),
            hold_time: peer.hold_time.unwrap_or(HoldTime::DEFAULT),
            keepalive_time: peer.keepalive_time,
            connect_retry: peer.connect_time.map_or(ConnectRetry::BackOff, ConnectRetry::Every),
            families: if Family::ALL.into_iter().all(|family| peer.carries(family)) {
                Families::Both
            } else {
                Families::OfSession
            },
            mode: Mode::Active,
            reception: Reception::Refuse,
            // No router here keeps routes, but what is agreed on must work out all the same.
            graceful_restart: peer.graceful_restart.map(|restart| bgp::GracefulRestart {
                restart_time: restart.time,
                beginning: self.beginning,
                notifications: if restart.notification { Notifications::KeepRoutes } else { Notifications::DropRoutes },
            }),
        }
    }
}

/// The router that a peer stands for, if there can be a session with it: it is where the peer says and in the AS that the
/// peer says, and takes ours.
pub(crate) fn router_of(peer: &Peer) -> Option<RouterName> {
    let PeerEndpoint::Address(address) = peer.endpoint else { return None };
    let router = RouterName::of_address(&address).filter(|_| peer.port == crate::router::PORT)?;
    let own = peer.local_as();
    (peer.remote_as.admits(own, router.asn()) && router.neighbours_are().admits(router.asn(), own)).then_some(router)
}
