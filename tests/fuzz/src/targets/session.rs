//! A peer that is told anything in any order: messages of the other side, cut anywhere, among changes of routes, time that
//! passes, and connections that come and go. What it sends must be messages that it would believe itself.
//!
//! The input is a list of steps. The first byte chooses how the peer is configured, and whether a session is up at the
//! begin.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bgp::wire::{
    AfiSafi, AsnSize, Capability, Header, Message, MessageLimit, Open, Relation, UpdateContext, decode, keepalive,
    validate,
};
use bgp::{
    Beginning, CloseReason, ConnectRetry, ConnectionId, Families, GracefulRestart, Input, Mode, Notifications,
    OUTBOX_LIMIT, Output, Peer, PeerConfig, Reception, RouteAttributes, RouterIdSource, StopReason,
};
use ipnet::IpNet;
use kit::{Asn, Duration, Family, HoldTime, Instant, Outbox, RemoteAs, Rng, RouterId};

pub(crate) fn play(input: &[u8]) {
    let Some((&choice, steps)) = input.split_first() else { return };
    let mut bench = Bench::new(choice);
    if choice & 1 == 0 {
        bench.establish(choice);
    }
    bench.play(steps);
}

/// Two AS numbers, one of them for an internal peer.
fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

struct Bench {
    peer: Peer,
    now: Instant,
    out: Outbox<Output>,
    open: BTreeSet<ConnectionId>,
    dialing: BTreeSet<ConnectionId>,
    accepted: u64,
    relation: Relation,
    attributes: [Arc<RouteAttributes>; 2],
}

impl Bench {
    fn new(choice: u8) -> Bench {
        let is_internal = choice & 2 != 0;
        let config = PeerConfig {
            local_as: asn(65001),
            remote_as: if is_internal { RemoteAs::Internal } else { RemoteAs::Exactly(asn(65000)) },
            router_id: RouterIdSource::Configured(RouterId::new(9).unwrap()),
            hold_time: HoldTime::DEFAULT,
            keepalive_time: None,
            connect_retry: ConnectRetry::BackOff,
            families: if choice & 4 != 0 { Families::Both } else { Families::OfSession },
            mode: Mode::Both,
            reception: if choice & 8 != 0 { Reception::Report { prefixes_max: 64 } } else { Reception::Refuse },
            graceful_restart: (choice & 16 != 0).then_some(GracefulRestart {
                restart_time: Duration::from_secs(120),
                beginning: Beginning::Restarted,
                notifications: Notifications::KeepRoutes,
            }),
        };
        let low = RouteAttributes { local_pref: Some(7), ..RouteAttributes::default() };
        let mut bench = Bench {
            peer: Peer::new(config, Rng::new(u64::from(choice)), Instant::ZERO),
            now: Instant::ZERO,
            out: Outbox::with_limit(OUTBOX_LIMIT),
            open: BTreeSet::new(),
            dialing: BTreeSet::new(),
            accepted: 0,
            relation: if is_internal { Relation::Internal } else { Relation::External },
            attributes: [Arc::new(RouteAttributes::default()), Arc::new(low)],
        };
        bench.input(Input::Start);
        bench
    }

    fn input(&mut self, input: Input) {
        self.peer.handle(self.now, input, &mut self.out);
        for output in self.out.drain() {
            match output {
                Output::Dial { connection } => {
                    self.dialing.insert(connection);
                }
                Output::Send { connection, bytes } => {
                    assert!(self.open.contains(&connection), "bytes for {connection}, which is not open");
                    messages_check(&bytes, self.relation);
                }
                Output::Close { connection } => {
                    self.open.remove(&connection);
                    self.dialing.remove(&connection);
                }
                Output::SessionUp { .. }
                | Output::SessionDown { .. }
                | Output::AttemptFailed { .. }
                | Output::MalformedUpdate { .. }
                | Output::RoutesAnnounced { .. }
                | Output::RoutesWithdrawn { .. } => {}
            }
        }
        assert!(self.open.len() <= 2, "{:?} are open", self.open);
    }

    fn connect(&mut self) -> ConnectionId {
        let connection = self.dialing.pop_first().unwrap_or_else(|| {
            self.accepted += 1;
            ConnectionId::Accepted(self.accepted)
        });
        let end = |last| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), 179);
        self.open.insert(connection);
        self.input(Input::Connected { connection, local: end(1), remote: end(2) });
        connection
    }

    /// Plays the other side of the handshake.
    fn establish(&mut self, choice: u8) {
        let mut capabilities: Vec<Capability> =
            Family::ALL.map(|family| Capability::Multiprotocol(AfiSafi::unicast(family))).into();
        capabilities.extend([Capability::RouteRefresh, Capability::EnhancedRouteRefresh]);
        if choice & 32 != 0 {
            capabilities.push(Capability::ExtendedMessage);
        }
        let remote = if self.relation == Relation::Internal { 65001 } else { 65000 };
        let open = Open::new(asn(remote), HoldTime::DEFAULT, RouterId::new(7).unwrap(), capabilities);
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        keepalive(&mut bytes);
        let connection = self.connect();
        self.input(Input::Received { connection, bytes });
    }

    /// Steps: a byte that says what, one that says how much of what follows is for it, and that.
    fn play(&mut self, mut steps: &[u8]) {
        while let [what, length, rest @ ..] = steps {
            let (body, rest) = rest.split_at(usize::from(*length).min(rest.len()));
            steps = rest;
            self.step(*what, body);
        }
    }

    fn step(&mut self, what: u8, body: &[u8]) {
        let number = body.first().copied().unwrap_or_default();
        let connection = self.open.iter().nth(usize::from(what >> 7)).copied();
        let prefix = IpNet::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)), 32).unwrap();
        match (what & 0x0f, connection) {
            (0..=5, Some(connection)) => {
                let bytes = super::with_header((what & 0x0f) + 1, body);
                self.input(Input::Received { connection, bytes });
            }
            (6, Some(connection)) => self.input(Input::Received { connection, bytes: body.to_vec() }),
            (7, Some(connection)) => self.input(Input::Written { connection, count: usize::from(number) << 8 }),
            (8, Some(connection)) => {
                self.open.remove(&connection);
                self.input(Input::Closed { connection, reason: CloseReason::ByPeer });
            }
            (9, _) => {
                self.now += Duration::from_millis(u64::from(number) * 1000);
                self.input(Input::Tick);
            }
            (10, _) => {
                let attributes = Arc::clone(&self.attributes[usize::from(number & 1)]);
                self.input(Input::Announce { prefix, attributes });
            }
            (11, _) => self.input(Input::Withdraw { prefix }),
            (12, _) => self.input(Input::Complete),
            (13, _) => self.input(Input::Stop { reason: StopReason::Restart }),
            (14, _) => self.input(Input::Start),
            _ if self.open.len() < 2 => drop(self.connect()),
            _ => {}
        }
    }
}

/// What we send must be what we would take: messages one behind the other, and UPDATEs without a fault.
fn messages_check(mut bytes: &[u8], relation: Relation) {
    while !bytes.is_empty() {
        let header = Header::decode(bytes, MessageLimit::Extended).unwrap().expect("a whole header");
        let (message, rest) = bytes.split_at(header.length);
        // Which numbers the peer reads was agreed in the OPENs.
        let is_good = [AsnSize::Four, AsnSize::Two].into_iter().any(|size| is_good(message, size, relation));
        assert!(is_good, "a message that we would not take: {message:?}");
        bytes = rest;
    }
}

fn is_good(bytes: &[u8], size: AsnSize, relation: Relation) -> bool {
    let context =
        UpdateContext { relation, remote_as: asn(65001), families: Family::ALL.into(), extended_next_hop: true };
    match decode(bytes, size, MessageLimit::Extended) {
        Ok(Message::Update(update)) => validate(&update, &context).is_ok_and(|valid| valid.disposition().is_none()),
        Ok(Message::Open(open)) => open.validate().is_ok(),
        Ok(_) => true,
        Err(_) => false,
    }
}
