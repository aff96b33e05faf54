//! The BGP sessions of this node: one core per peer, and the connections they share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bgp::{
    ConnectRetry, Families, Input, Mode, Output, PeerConfig, Reception, RouteAttributes, RouterIdSource, StopReason,
};
use config::{Peer, PeerEndpoint};
use ipnet::IpNet;
use kit::{Family, HoldTime, Instant, Outbox, Rng, RouterId, TimerTable};
use netio::bgp::{Endpoint, Transport, Ttl};
use netio::interfaces::Interface;

/// The sessions by name of their BGPPeer.
pub(super) struct Sessions {
    node: String,
    transport: Transport<SessionId>,
    sessions: BTreeMap<SessionId, Session>,
    by_name: BTreeMap<String, SessionId>,
    deadlines: TimerTable<SessionId>,
    /// The addresses of this host, by interface.
    interfaces: Vec<Interface>,
    random: Rng,
    next_id: u64,
    out: Outbox<Output>,
}

/// Tells a session from an earlier one of the same peer, so that what its connections report late reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionId(u64);

struct Session {
    peer: Arc<Peer>,
    endpoint: Endpoint,
    core: bgp::Peer,
}

/// Something that happened to a session, for logs and metrics.
pub(super) enum News {
    Up { peer: Arc<Peer>, local: Option<SocketAddr> },
    Down { peer: Arc<Peer>, reason: String },
    AttemptFailed { peer: Arc<Peer>, reason: String },
}

impl Sessions {
    pub(super) fn new(node: &str, seed: u64) -> Self {
        Sessions {
            node: node.to_owned(),
            transport: Transport::new(),
            sessions: BTreeMap::new(),
            by_name: BTreeMap::new(),
            deadlines: TimerTable::new(),
            interfaces: Vec::new(),
            random: Rng::new(seed),
            next_id: 0,
            out: Outbox::with_limit(bgp::OUTBOX_LIMIT),
        }
    }

    /// Begins a session with the peer.
    pub(super) fn add(&mut self, now: Instant, peer: Arc<Peer>) {
        let PeerEndpoint::Address(address) = peer.endpoint else {
            tracing::error!(peer = peer.name, "a peer given by interface is not supported yet: it gets no session");
            return;
        };
        let endpoint = Endpoint {
            address: SocketAddr::new(address, peer.port),
            source: peer.source_address,
            device: peer.vrf.clone(),
            password: peer.password.clone(),
            ttl: Ttl::System,
        };
        let config = peer_config(&peer, self.router_id_towards(&address));
        let id = SessionId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let core = bgp::Peer::new(config, Rng::new(self.random.next_u64()), now);
        tracing::info!(
            event = "peerAdded",
            peer = %endpoint.address,
            localASN = %peer.local_asn.unwrap_or(peer.my_asn),
            peerASN = %peer.remote_as,
            "peer configured, starting BGP session"
        );
        self.by_name.insert(peer.name.clone(), id);
        self.sessions.insert(id, Session { peer, endpoint, core });
        self.tell(now, id, Input::Start);
    }

    /// Ends the session with the peer, in order.
    pub(super) fn remove(&mut self, now: Instant, name: &str) {
        let Some(id) = self.by_name.remove(name) else { return };
        self.tell(now, id, Input::Stop { reason: StopReason::PeerDeconfigured });
        self.deadlines.clear(&id);
        if let Some(session) = self.sessions.remove(&id) {
            tracing::info!(event = "peerRemoved", peer = %session.endpoint.address, "peer deconfigured, closing BGP session");
        }
    }

    /// Gives a route to a peer.
    pub(super) fn announce(&mut self, now: Instant, name: &str, prefix: IpNet, attributes: Arc<RouteAttributes>) {
        if let Some(id) = self.by_name.get(name) {
            self.tell(now, *id, Input::Announce { prefix, attributes });
        }
    }

    /// Takes a route back from a peer.
    pub(super) fn withdraw(&mut self, now: Instant, name: &str, prefix: IpNet) {
        if let Some(id) = self.by_name.get(name) {
            self.tell(now, *id, Input::Withdraw { prefix });
        }
    }

    /// The next event of a connection. Safe to cancel.
    pub(super) async fn next(&mut self) -> (SessionId, Input) {
        self.transport.next().await
    }

    /// When [`Sessions::tick`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next_deadline()
    }

    /// Lets the sessions whose deadline has come do what is due.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        // One round: a session that has more to do is due at once, but lets packets and other sessions come first.
        let due: Vec<SessionId> = std::iter::from_fn(|| self.deadlines.pop_expired(now)).collect();
        for id in due {
            news.extend(self.tell(now, id, Input::Tick));
        }
        news
    }

    /// Gives a session what happened to it.
    pub(super) fn tell(&mut self, now: Instant, id: SessionId, input: Input) -> Vec<News> {
        let mut news = Vec::new();
        let next_hop = match &input {
            Input::Connected { local, .. } => self.next_hop_beside(&local.ip()),
            _ => None,
        };
        let Some(session) = self.sessions.get_mut(&id) else { return news };
        if let Some(next_hop) = next_hop {
            session.core.handle(now, next_hop, &mut self.out);
        }
        session.core.handle(now, input, &mut self.out);
        match session.core.next_deadline() {
            Some(deadline) => self.deadlines.set(id, deadline),
            None => self.deadlines.clear(&id),
        }
        while let Some(output) = self.out.pop() {
            let peer = || Arc::clone(&session.peer);
            match self.transport.execute(&id, &session.endpoint, output) {
                Some(Output::SessionUp { .. }) => {
                    let local = session.core.view().session.map(|session| session.local);
                    news.push(News::Up { peer: peer(), local });
                }
                Some(Output::SessionDown { reason }) => {
                    news.push(News::Down { peer: peer(), reason: reason.to_string() });
                }
                Some(Output::AttemptFailed { reason }) => {
                    news.push(News::AttemptFailed { peer: peer(), reason: reason.to_string() });
                }
                // RFC 7606 section 6 wants it logged; a router can send such messages without end.
                Some(Output::MalformedUpdate { errors, text, message, .. }) => tracing::warn!(
                    limited = true,
                    peer = %session.endpoint.address,
                    error = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                    update = text,
                    bytes = message.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
                    "malformed UPDATE from the peer"
                ),
                // Routes that peers send are refused by configuration, so there is nothing else.
                Some(_) | None => {}
            }
        }
        news
    }

    /// The interfaces of this host have changed.
    pub(super) fn interfaces_changed(&mut self, now: Instant, interfaces: Vec<Interface>) {
        self.interfaces = interfaces;
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
    }

    /// Ends all sessions in order, and waits until the peers have been told.
    pub(super) async fn finish(mut self, now: Instant) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let reason = StopReason::AdministrativeShutdown { text: "the speaker of this node is stopped".to_owned() };
            self.tell(now, id, Input::Stop { reason });
        }
        self.transport.finish().await;
    }

    /// What routes of the family that the session's own addresses are not of have as next hop: an address of that
    /// family on the same interface.
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

    /// Our identifier for a session over IPv6 (contract 6.4): the first IPv4 address of the interface towards the peer,
    /// else a number made of the node's name.
    fn router_id_towards(&self, peer: &IpAddr) -> RouterId {
        let towards = |interface: &&Interface| {
            interface.addresses.iter().any(|address| {
                IpNet::new(address.address, address.prefix_length).is_ok_and(|subnet| subnet.contains(peer))
            })
        };
        let of_interface = self.interfaces.iter().find(towards).and_then(|interface| {
            interface.addresses.iter().find_map(|address| match address.address {
                IpAddr::V4(v4) => RouterId::new(u32::from(v4)),
                IpAddr::V6(_) => None,
            })
        });
        of_interface.unwrap_or_else(|| router_id_of_name(&self.node))
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

fn peer_config(peer: &Peer, otherwise: RouterId) -> PeerConfig {
    PeerConfig {
        local_as: peer.local_asn.unwrap_or(peer.my_asn),
        remote_as: peer.remote_as,
        router_id: peer.router_id.map_or(RouterIdSource::Session { otherwise }, RouterIdSource::Configured),
        hold_time: peer.hold_time.unwrap_or(HoldTime::DEFAULT),
        keepalive_time: peer.keepalive_time,
        connect_retry: peer.connect_time.map_or(ConnectRetry::BackOff, ConnectRetry::Every),
        families: if peer.dual_stack_address_family { Families::Both } else { Families::OfSession },
        mode: Mode::Active,
        reception: Reception::Refuse,
        graceful_restart: None,
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
mod tests {
    use super::*;

    #[test]
    fn the_identifier_of_a_name_is_its_checksum() {
        // CRC-32 of "123456789" is cbf43926: the check value of the polynomial.
        assert_eq!(router_id_of_name("123456789").to_string(), "38.57.244.203");
    }
}
