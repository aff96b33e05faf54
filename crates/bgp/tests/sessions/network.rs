//! Two peers and a network between them, in virtual time: connections that take a while, lose their way, break, or are
//! not read from. The same seed gives the same history.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bgp::wire::{self, AsnSize, Header, MessageLimit, PathAttributes};
use bgp::{
    CloseReason, ConnectError, ConnectRetry, ConnectionId, Families, Input, Mode, Output, Peer, PeerConfig, Reception,
    RouteAttributes, RouterIdSource, State,
};
use ipnet::IpNet;
use kit::{Asn, Duration, HoldTime, Instant, Outbox, RemoteAs, Rng};

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;

/// A side of the session, with everything that it told its driver.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) peer: Peer,
    out: Outbox<Output>,
    accepted: u64,
    /// What the other side has announced and not withdrawn.
    pub(crate) table: BTreeMap<IpNet, (IpAddr, Arc<PathAttributes>)>,
    /// Sessions and failures, with their time.
    pub(crate) log: Vec<String>,
    /// The connections that this side has been told of and has not closed.
    pub(crate) open: BTreeSet<ConnectionId>,
    dialing: BTreeSet<ConnectionId>,
}

/// What the network does to packets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Everything is lost; nobody is told.
    Cut,
}

/// A connection: each side's name of it, and when the last byte towards each side arrives.
struct Pipe {
    names: [ConnectionId; 2],
    arrival: [Instant; 2],
}

enum Event {
    /// A request to connect reaches the other side.
    Request { from: usize, connection: ConnectionId },
    /// Something reaches a side.
    Input { to: usize, input: Input },
}

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) hosts: [Host; 2],
    pub(crate) weather: Weather,
    /// The side that does not take bytes from the kernel, so that the other's writes wait.
    pub(crate) deaf: Option<usize>,
    /// Least and most latency, in milliseconds.
    pub(crate) latency_ms: (u64, u64),
    /// All messages, as a capture would show them.
    pub(crate) capture: Vec<String>,
    pipes: Vec<Pipe>,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    rng: Rng,
}

/// A configuration for AS `local` towards AS `remote`: both sides dial quickly, and report what they receive.
pub(crate) fn config(local: u32, remote: u32, mode: Mode) -> PeerConfig {
    PeerConfig {
        local_as: Asn::new(local).unwrap(),
        remote_as: RemoteAs::Exactly(Asn::new(remote).unwrap()),
        router_id: RouterIdSource::Session { otherwise: kit::RouterId::new(local).unwrap() },
        hold_time: HoldTime::DEFAULT,
        keepalive_time: None,
        connect_retry: ConnectRetry::BackOff,
        families: Families::OfSession,
        mode,
        reception: Reception::Report { prefixes_max: 1_000_000 },
        graceful_restart: None,
    }
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl Network {
    /// Over IPv4, with a latency of 10 ms.
    pub(crate) fn new(a: PeerConfig, b: PeerConfig, seed: u64) -> Self {
        Self::over([[192, 0, 2, 1].into(), [192, 0, 2, 2].into()], a, b, seed)
    }

    pub(crate) fn over(addresses: [IpAddr; 2], a: PeerConfig, b: PeerConfig, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut host = |address: IpAddr, config: PeerConfig| Host {
            address: SocketAddr::new(address, 179),
            peer: Peer::new(config, Rng::new(rng.next_u64()), Instant::ZERO),
            out: Outbox::with_limit(bgp::OUTBOX_LIMIT),
            accepted: 0,
            table: BTreeMap::new(),
            log: Vec::new(),
            open: BTreeSet::new(),
            dialing: BTreeSet::new(),
        };
        let hosts = [host(addresses[A], a), host(addresses[B], b)];
        Network {
            now: Instant::ZERO,
            hosts,
            weather: Weather::Fair,
            deaf: None,
            latency_ms: (10, 10),
            capture: Vec::new(),
            pipes: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            rng,
        }
    }

    pub(crate) fn start(&mut self) {
        for side in [A, B] {
            self.input(side, Input::Start);
            self.input(side, Input::Complete);
        }
    }

    /// Tells a side something, now, and executes what it wants.
    pub(crate) fn input(&mut self, side: usize, input: Input) {
        let host = &mut self.hosts[side];
        match &input {
            Input::Connected { connection, .. } => {
                host.dialing.remove(connection);
                host.open.insert(*connection);
            }
            Input::ConnectFailed { connection, .. } | Input::Closed { connection, .. } => {
                host.dialing.remove(connection);
                host.open.remove(connection);
            }
            _ => {}
        }
        host.peer.handle(self.now, input, &mut host.out);
        assert_eq!(host.out.dropped(), 0, "the outbox overflowed");
        let outputs: Vec<Output> = host.out.drain().collect();
        for output in outputs {
            self.execute(side, output);
        }
    }

    fn execute(&mut self, side: usize, output: Output) {
        let at = |text: String| {
            format!("{:.3} {text}", std::time::Duration::from(self.now.since(Instant::ZERO)).as_secs_f64())
        };
        let host = &mut self.hosts[side];
        match output {
            Output::Dial { connection } => {
                host.dialing.insert(connection);
                let due = self.now + self.latency();
                self.schedule(due, Event::Request { from: side, connection });
            }
            Output::Send { connection, bytes } => self.send(side, connection, bytes),
            Output::Close { connection } => self.close(side, connection),
            Output::SessionUp { remote_as, remote_router_id } => {
                host.log.push(at(format!("up: AS {remote_as}, router {remote_router_id}")));
            }
            Output::SessionDown { reason } => {
                host.table.clear();
                host.log.push(at(format!("down: {reason}")));
            }
            Output::MalformedUpdate { errors, .. } => panic!("we sent a malformed UPDATE: {errors:?}"),
            Output::AttemptFailed { reason } => host.log.push(at(format!("failed: {reason}"))),
            Output::RoutesAnnounced { prefixes, next_hop, attributes } => {
                for prefix in prefixes {
                    host.table.insert(prefix, (next_hop, Arc::clone(&attributes)));
                }
            }
            Output::RoutesWithdrawn { prefixes } => {
                for prefix in prefixes {
                    assert!(host.table.remove(&prefix).is_some(), "{prefix} was withdrawn but not there");
                }
            }
        }
    }

    fn latency(&mut self) -> Duration {
        let (least, most) = self.latency_ms;
        Duration::from_millis(least + self.rng.below(most - least + 1))
    }

    fn schedule(&mut self, due: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((due, self.sequence), event);
    }

    fn pipe(&mut self, side: usize, connection: ConnectionId) -> Option<usize> {
        self.pipes.iter().position(|pipe| pipe.names[side] == connection)
    }

    /// When something that leaves now arrives: never before what left earlier.
    fn arrival(&mut self, pipe: usize, to: usize) -> Instant {
        let due = (self.now + self.latency()).max(self.pipes[pipe].arrival[to]);
        self.pipes[pipe].arrival[to] = due;
        due
    }

    fn send(&mut self, side: usize, connection: ConnectionId, bytes: Vec<u8>) {
        self.record(side, &bytes);
        let Some(pipe) = self.pipe(side, connection) else { return };
        let to = 1 - side;
        if self.deaf != Some(to) {
            self.schedule(
                self.now,
                Event::Input { to: side, input: Input::Written { connection, count: bytes.len() } },
            );
        }
        let name = self.pipes[pipe].names[to];
        let mut rest = bytes.as_slice();
        // A stream has no borders of messages.
        while !rest.is_empty() {
            let cut = if self.rng.one_in(3) { 1 + self.rng.index(rest.len()) } else { rest.len() };
            let (part, after) = rest.split_at(cut);
            rest = after;
            let due = self.arrival(pipe, to);
            if self.deaf != Some(to) && self.weather == Weather::Fair {
                self.schedule(
                    due,
                    Event::Input { to, input: Input::Received { connection: name, bytes: part.to_vec() } },
                );
            }
        }
    }

    fn close(&mut self, side: usize, connection: ConnectionId) {
        self.hosts[side].dialing.remove(&connection);
        self.hosts[side].open.remove(&connection);
        if let Some(pipe) = self.pipe(side, connection)
            && self.weather == Weather::Fair
        {
            let to = 1 - side;
            let due = self.arrival(pipe, to);
            let input = Input::Closed { connection: self.pipes[pipe].names[to], reason: CloseReason::ByPeer };
            self.schedule(due, Event::Input { to, input });
        }
    }

    fn record(&mut self, side: usize, bytes: &[u8]) {
        let time = std::time::Duration::from(self.now.since(Instant::ZERO)).as_secs_f64();
        let mut rest = bytes;
        while let Some(header) = Header::decode(rest, MessageLimit::Extended).expect("we send messages") {
            let (message, after) = rest.split_at(header.length);
            let text = wire::decode(message, AsnSize::Four, MessageLimit::Extended)
                .map_or_else(|error| error.to_string(), |m| m.to_string());
            self.capture.push(format!("{time:.3} {} > {}: {text}", ["a", "b"][side], ["b", "a"][side]));
            rest = after;
        }
        assert!(rest.is_empty(), "we send whole messages");
    }

    /// All connections break, and both sides are told.
    pub(crate) fn reset_connections(&mut self) {
        for side in [A, B] {
            for connection in self.hosts[side].open.clone() {
                self.input(side, Input::Closed { connection, reason: CloseReason::Reset });
            }
        }
    }

    /// The next thing that happens, if it does so by then.
    fn step(&mut self, until: Instant) -> bool {
        let event_due = self.queue.first_key_value().map(|((due, _), _)| *due);
        let tick =
            [A, B].into_iter().filter_map(|side| self.hosts[side].peer.next_deadline().map(|due| (due, side))).min();
        match (event_due, tick) {
            (Some(due), tick) if due <= until && tick.is_none_or(|(tick_due, _)| due <= tick_due) => {
                self.now = self.now.max(due);
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
                true
            }
            (_, Some((due, side))) if due <= until => {
                self.now = self.now.max(due);
                self.input(side, Input::Tick);
                true
            }
            _ => false,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Request { from, connection } => self.request(from, connection),
            Event::Input { to, input } => {
                let is_open = match &input {
                    Input::Received { connection, .. }
                    | Input::Written { connection, .. }
                    | Input::Closed { connection, .. } => self.hosts[to].open.contains(connection),
                    Input::Connected { connection: connection @ ConnectionId::Dialed(_), .. }
                    | Input::ConnectFailed { connection, .. } => self.hosts[to].dialing.contains(connection),
                    _ => true,
                };
                if is_open {
                    self.input(to, input);
                }
            }
        }
    }

    fn request(&mut self, from: usize, connection: ConnectionId) {
        if self.weather == Weather::Cut {
            return;
        }
        let to = 1 - from;
        let back = self.now + self.latency();
        if self.hosts[to].peer.config().mode == Mode::Active {
            let input = Input::ConnectFailed { connection, error: ConnectError::Refused };
            self.schedule(back, Event::Input { to: from, input });
            return;
        }
        self.hosts[to].accepted += 1;
        let accepted = ConnectionId::Accepted(self.hosts[to].accepted);
        let mut names = [connection; 2];
        names[to] = accepted;
        let mut arrival = [back; 2];
        arrival[to] = self.now;
        self.pipes.push(Pipe { names, arrival });
        let [local, remote] = [self.hosts[from].address, self.hosts[to].address];
        self.schedule(back, Event::Input { to: from, input: Input::Connected { connection, local, remote } });
        self.input(to, Input::Connected { connection: accepted, local: remote, remote: local });
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        let mut steps = 0;
        while self.step(until) {
            steps += 1;
            assert!(steps < 1_000_000, "time does not pass");
        }
        self.now = until;
    }

    /// Lets time pass until the session is up on both sides.
    pub(crate) fn establish(&mut self) {
        for _ in 0..10_000 {
            if self.hosts.iter().all(|host| host.peer.state() == State::Established) {
                return;
            }
            self.run_for(Duration::from_millis(10));
        }
        panic!("no session: {:#?} {:#?}", self.hosts[A].log, self.hosts[B].log);
    }

    pub(crate) fn announce(&mut self, side: usize, prefix: &str, attributes: &RouteAttributes) {
        let attributes = Arc::new(attributes.clone());
        self.input(side, Input::Announce { prefix: prefix.parse().unwrap(), attributes });
    }

    pub(crate) fn withdraw(&mut self, side: usize, prefix: &str) {
        self.input(side, Input::Withdraw { prefix: prefix.parse().unwrap() });
    }

    /// The table of a side as text.
    pub(crate) fn table(&self, side: usize) -> String {
        let line = |(prefix, (next_hop, attributes)): (&IpNet, &(IpAddr, Arc<PathAttributes>))| {
            format!("{prefix} via {next_hop}, {attributes}\n")
        };
        self.hosts[side].table.iter().map(line).collect()
    }

    /// The messages since the last call, as text.
    pub(crate) fn captured(&mut self) -> String {
        std::mem::take(&mut self.capture).into_iter().map(|line| line + "\n").collect()
    }

    pub(crate) fn log(&self, side: usize) -> String {
        self.hosts[side].log.iter().map(|line| format!("{line}\n")).collect()
    }
}
