//! Neighbours that call: listening sockets, which exist only while a BGPPeer asks for one, and BGPPeers that are whoever
//! calls from a network.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bgp::{ConnectionId, Input, RouteAttributes, State, StopReason};
use config::{Peer, PeerEndpoint};
use ipnet::IpNet;
use kit::{Duration, Family, Instant, Rng};
use netio::bgp::{Endpoint, ListenError, ListenerId, Transport};
use sys::tcp::TcpOptionError;

use super::{News, Session, SessionId, Sessions, endpoint};

/// A BGPPeer that is whoever calls from a network.
pub(super) struct Callers {
    pub(super) peer: Arc<Peer>,
    /// Those that have called, by address.
    pub(super) sessions: BTreeMap<IpAddr, SessionId>,
    connections: BTreeMap<ConnectionId, SessionId>,
    /// What each of them should have.
    pub(super) routes: BTreeMap<IpNet, Arc<RouteAttributes>>,
    /// These are all of them.
    pub(super) is_complete: bool,
}

/// When to try again to listen, or to let somebody in: the port may become free, and the VRF there.
const LISTEN_RETRY: Duration = Duration::from_secs(10);

/// The sockets on which neighbours call, by family and VRF.
pub(super) struct Listeners {
    port: u16,
    sockets: BTreeMap<(Family, Option<String>), Socket>,
    /// Who could not be let in, why, and when that is tried again.
    waiting: Vec<(Admission, String)>,
    retry: Option<Instant>,
}

struct Socket {
    id: ListenerId,
    /// Who may call.
    users: Vec<SessionId>,
}

/// Who may call, and from where.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) peer: SessionId,
    pub(super) endpoint: Endpoint,
    /// From anywhere in here; `None` means from the endpoint's address.
    pub(super) network: Option<IpNet>,
}

impl Listeners {
    pub(super) fn new(port: u16) -> Self {
        Listeners { port, sockets: BTreeMap::new(), waiting: Vec::new(), retry: None }
    }

    /// Lets a peer in, as soon as that is possible.
    pub(super) fn allow(&mut self, now: Instant, transport: &mut Transport<SessionId>, admission: Admission) {
        let Err(error) = self.try_allow(transport, &admission) else { return };
        let reason = chain(&error);
        tracing::error!(limited = true, error = reason, hint = hint(&error), "could not listen for BGP connections");
        self.waiting.push((admission, reason));
        self.retry.get_or_insert(now + LISTEN_RETRY);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.retry
    }

    /// Tries again what could not be done, when it is time.
    pub(super) fn tick(&mut self, now: Instant, transport: &mut Transport<SessionId>) {
        if self.retry.is_none_or(|due| due > now) {
            return;
        }
        self.retry = None;
        for (admission, _) in std::mem::take(&mut self.waiting) {
            self.allow(now, transport, admission);
        }
    }

    /// Why a peer is not let in, if it is not.
    pub(super) fn obstacle(&self, peer: SessionId) -> Option<&str> {
        self.waiting.iter().find(|(admission, _)| admission.peer == peer).map(|(_, reason)| reason.as_str())
    }

    fn try_allow(&mut self, transport: &mut Transport<SessionId>, admission: &Admission) -> Result<(), ListenError> {
        let Admission { peer, endpoint, network } = admission;
        let from = network.map_or(endpoint.address.ip(), |network| network.addr());
        let socket = self.socket(transport, Family::of(&from), endpoint.device.as_deref())?;
        match network {
            Some(network) => transport.allow_range(socket.id, *peer, *network, endpoint)?,
            None => transport.allow(socket.id, *peer, endpoint)?,
        }
        socket.users.push(*peer);
        Ok(())
    }

    fn socket(
        &mut self,
        transport: &mut Transport<SessionId>,
        family: Family,
        device: Option<&str>,
    ) -> Result<&mut Socket, ListenError> {
        match self.sockets.entry((family, device.map(str::to_owned))) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let anywhere = match family {
                    Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                let id = transport.listen(SocketAddr::new(anywhere, self.port), device)?;
                tracing::info!(event = "bgpListening", port = self.port, family = %family, vrf = device, "listening");
                Ok(entry.insert(Socket { id, users: Vec::new() }))
            }
        }
    }

    /// Lets a peer in no longer. Sockets on which nobody may call are closed.
    pub(super) fn disallow(&mut self, transport: &mut Transport<SessionId>, peer: SessionId) {
        self.waiting.retain(|(admission, _)| admission.peer != peer);
        self.sockets.retain(|_, socket| {
            if socket.users.contains(&peer) {
                transport.disallow(socket.id, &peer);
                socket.users.retain(|user| *user != peer);
            }
            if socket.users.is_empty() {
                transport.unlisten(socket.id);
            }
            !socket.users.is_empty()
        });
    }
}

/// What to do about it. A peer whose connections cannot be signed is not let in without.
fn hint(error: &ListenError) -> &'static str {
    match error {
        ListenError::Option(TcpOptionError::NoAo | TcpOptionError::NoAlgorithm(_)) => {
            "give the node another kernel, or both ends a password instead of tcpAuthenticationKeys"
        }
        ListenError::Option(TcpOptionError::NoMd5) => "give the node another kernel: passwords need CONFIG_TCP_MD5SIG",
        ListenError::Option(TcpOptionError::Device(_)) => "is vrf of the BGPPeer right? It is waited for",
        ListenError::Option(TcpOptionError::KeyClash(_)) => {
            "does another BGPPeer have a password or keys for the same address, or for a peerRange around it?"
        }
        ListenError::Option(TcpOptionError::KeyTooLong(_)) => "use a shorter password or key at both ends",
        ListenError::Option(TcpOptionError::Refused { .. }) => {
            "does the container have the capabilities that the manifest gives it? It is tried again"
        }
        ListenError::Socket { .. } | ListenError::Closed => {
            "free the port, choose another one by --bgp-listen-port, or give the container NET_BIND_SERVICE"
        }
    }
}

/// True when both are at one address, and on one link if that has to be said.
fn is_same_router(mut at: SocketAddr, remote: SocketAddr) -> bool {
    at.set_port(remote.port());
    at == remote
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Sessions {
    pub(super) fn callers_add(&mut self, now: Instant, id: SessionId, peer: Arc<Peer>, network: IpNet) {
        let admission = Admission { peer: id, endpoint: endpoint(&peer), network: Some(network) };
        self.listeners.allow(now, &mut self.transport, admission);
        let callers = Callers {
            peer,
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            routes: BTreeMap::new(),
            is_complete: false,
        };
        self.callers.insert(id, callers);
    }

    /// A connection of a caller reports. Its first word makes the caller a neighbour, if there is room for one more.
    pub(super) fn called(&mut self, now: Instant, id: SessionId, input: Input) -> Vec<News> {
        let (Input::Connected { connection, .. }
        | Input::Received { connection, .. }
        | Input::Written { connection, .. }
        | Input::Closed { connection, .. }) = input
        else {
            return Vec::new();
        };
        if let Input::Connected { remote, .. } = &input {
            let Some(session) = self.caller(now, id, *remote) else {
                self.transport.close(&id, connection);
                return Vec::new();
            };
            if let Some(callers) = self.callers.get_mut(&id) {
                // A neighbour that calls again has given up the connection before.
                callers.connections.retain(|_, other| *other != session);
                callers.connections.insert(connection, session);
            }
        }
        let Some(callers) = self.callers.get_mut(&id) else { return Vec::new() };
        let session = match input {
            Input::Closed { .. } => callers.connections.remove(&connection),
            _ => callers.connections.get(&connection).copied(),
        };
        session.map(|session| self.tell(now, session, input)).unwrap_or_default()
    }

    /// The session with the caller at this address; a new one if there is none, and room for it.
    fn caller(&mut self, now: Instant, id: SessionId, remote: SocketAddr) -> Option<SessionId> {
        let callers = self.callers.get(&id)?;
        if self.is_signed_elsewhere(&callers.peer, remote) {
            tracing::debug!(%remote, peer = %callers.peer.endpoint, "turned away the router of a BGPPeer with a password or keys");
            return None;
        }
        if let Some(session) = callers.sessions.get(&remote.ip()) {
            return Some(*session);
        }
        let PeerEndpoint::Range { limit, .. } = callers.peer.endpoint else { return None };
        if callers.sessions.len() >= usize::from(limit.get()) {
            tracing::warn!(
                limited = true,
                peer = %callers.peer.endpoint,
                peerAddress = %remote.ip(),
                limit,
                hint = "raise peerRangeLimit of the BGPPeer, or make peerRange smaller",
                "turned away a BGP connection: as many routers as may have connected already"
            );
            return None;
        }
        let peer = Arc::clone(&callers.peer);
        let routes: Vec<(IpNet, Arc<RouteAttributes>)> =
            callers.routes.iter().map(|(prefix, attributes)| (*prefix, Arc::clone(attributes))).collect();
        let is_complete = callers.is_complete;
        let core = bgp::Peer::new(self.peer_config(&peer), Rng::new(self.random.next_u64()), now);
        let endpoint = Endpoint { address: remote, ..endpoint(&peer) };
        let session = self.new_id();
        self.sessions.insert(session, Session { peer, endpoint, at: Some(remote), core, wire: id });
        if let Some(callers) = self.callers.get_mut(&id) {
            callers.sessions.insert(remote.ip(), session);
        }
        for (prefix, attributes) in routes {
            self.tell(now, session, Input::Announce { prefix, attributes });
        }
        if is_complete {
            self.tell(now, session, Input::Complete);
        }
        self.path(now, session);
        self.tell(now, session, Input::Start);
        Some(session)
    }

    /// True when another BGPPeer, which has a password or keys, is at this address. If its router is not let in under that
    /// name, since it is to be called or the kernel cannot sign, it is not let in as one of a range either, which may ask for
    /// nothing.
    fn is_signed_elsewhere(&self, range: &Peer, remote: SocketAddr) -> bool {
        self.sessions.iter().any(|(id, session)| {
            session.wire == *id
                && session.peer.authentication.is_some()
                && session.peer.vrf == range.vrf
                && session.at.is_some_and(|at| is_same_router(at, remote))
        })
    }

    /// Ends the sessions that a router has as one of a range, when a BGPPeer with a password or keys turns out to be there.
    pub(super) fn callers_yield(&mut self, now: Instant, id: SessionId) -> Vec<News> {
        let Some(Session { peer, at: Some(at), .. }) = self.sessions.get(&id) else { return Vec::new() };
        if peer.authentication.is_none() {
            return Vec::new();
        }
        let is_same =
            |other: &Session| other.peer.vrf == peer.vrf && other.at.is_some_and(|remote| is_same_router(*at, remote));
        let callers = self.sessions.iter().filter(|(id, other)| other.wire != **id && is_same(other));
        let callers: Vec<SessionId> = callers.map(|(id, _)| *id).collect();
        let mut news = Vec::new();
        for caller in callers {
            news.extend(self.tell(now, caller, Input::Stop { reason: StopReason::ConfigurationChange }));
            self.caller_forget(now, caller);
        }
        news
    }

    /// A caller whose connection is gone is forgotten; it is a new one when it calls again.
    pub(super) fn caller_gone(&mut self, now: Instant, session: SessionId) {
        if self.sessions.get(&session).is_some_and(|it| it.core.state() == State::Active) {
            self.caller_forget(now, session);
        }
    }

    /// Forgets a neighbour if it is one that calls; others are configured.
    pub(super) fn caller_forget(&mut self, now: Instant, session: SessionId) {
        let Some(Session { wire, .. }) = self.sessions.get(&session) else { return };
        let id = *wire;
        if id == session {
            return;
        }
        self.sessions.remove(&session);
        self.paths.forget(now, session);
        self.deadlines.clear(&session);
        if let Some(callers) = self.callers.get_mut(&id) {
            callers.sessions.retain(|_, other| *other != session);
            callers.connections.retain(|_, other| *other != session);
        }
    }
}

#[cfg(test)]
mod tests {
    use config::ConnectionMode;
    use kit::{Secret, TcpAuthentication};
    use netio::clock::Clock;
    use tokio::net::{TcpSocket, TcpStream};

    use super::super::Event;
    use super::super::tests::plain_peer;
    use super::*;

    fn peer(endpoint: PeerEndpoint, connection_mode: ConnectionMode, password: Option<&str>) -> Arc<Peer> {
        let authentication = password.map(|text| TcpAuthentication::Password(Secret::new(text)));
        Arc::new(Peer { port: 1, authentication, ..plain_peer(endpoint.to_string(), endpoint, connection_mode) })
    }

    /// Connects from an address, and goes on until the sessions have heard of it.
    async fn call(sessions: &mut Sessions, from: IpAddr) -> TcpStream {
        let socket = sessions.listeners.sockets.values().next().unwrap();
        let port = sessions.transport.local_address(socket.id).unwrap().port();
        let router = TcpSocket::new_v4().unwrap();
        router.bind(SocketAddr::new(from, 0)).unwrap();
        let stream = router.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
        let ours = stream.local_addr().unwrap();
        loop {
            let event = sessions.next().await;
            let is_heard = matches!(&event, Event::Transport(_, Input::Connected { remote, .. }) if *remote == ours);
            sessions.handle(Instant::ZERO, event);
            if is_heard {
                return stream;
            }
        }
    }

    fn called(sessions: &Sessions) -> Vec<IpAddr> {
        sessions.callers.values().flat_map(|callers| callers.sessions.keys().copied()).collect()
    }

    /// The router of a BGPPeer that is called, and whose packets have to be signed, does not come in unsigned as one of a range.
    #[tokio::test]
    async fn a_router_whose_bgppeer_has_a_password_is_no_router_of_a_range_without() {
        let mut sessions = Sessions::new("node-1", 0, 0, Clock::start());
        let [unsigned, signed, stranger] = [7, 8, 9].map(|last| IpAddr::from([127, 0, 0, last]));
        let (network, limit) = ("127.0.0.0/8".parse().unwrap(), 16.try_into().unwrap());
        let range = peer(PeerEndpoint::Range { network, limit }, ConnectionMode::Passive, None);
        sessions.add(Instant::ZERO, range);
        sessions.add(Instant::ZERO, peer(PeerEndpoint::Address(unsigned), ConnectionMode::Active, None));
        sessions.add(Instant::ZERO, peer(PeerEndpoint::Address(signed), ConnectionMode::Active, Some("hunter2")));
        let _unsigned = call(&mut sessions, unsigned).await;
        let _signed = call(&mut sessions, signed).await;
        let _stranger = call(&mut sessions, stranger).await;
        assert_eq!(called(&sessions), [unsigned, stranger]);
        // One that comes later takes the router from the range.
        sessions.add(Instant::ZERO, peer(PeerEndpoint::Address(stranger), ConnectionMode::Active, Some("hunter2")));
        assert_eq!(called(&sessions), [unsigned]);
    }
}
