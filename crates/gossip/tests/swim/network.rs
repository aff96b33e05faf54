//! A cluster in virtual time: members on hosts, and a network that loses, delays and cuts. Programs pause and end,
//! hosts lose their power, kernels answer for themselves. The same seed gives the same history.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;

use gossip::{
    Cause, CloseReason, Config, ConnectionId, Input, MemberState, Membership, Name, OUTBOX_LIMIT, Output, Report,
    Vigilance,
};
use kit::{Duration, Instant, Outbox, Rng};

pub(crate) const PORT: u16 = 7946;

/// How a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    On,
    /// No power: nothing of it answers.
    Off,
}

/// How the program on a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Running,
    /// Stopped, or without processor time; its kernel takes what comes.
    Paused,
    /// Its port is closed.
    Ended,
}

/// A host with its member.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) name: Name,
    pub(crate) address: SocketAddr,
    pub(crate) membership: Membership,
    pub(crate) power: Power,
    pub(crate) program: Program,
    /// The island that it is on: packets reach others of the same number.
    pub(crate) island: u32,
    clock: HostClock,
    out: Outbox<Output>,
    /// What the kernel holds while the program does not run.
    inbox: VecDeque<Input>,
    /// The tick that is scheduled.
    tick: Option<Instant>,
    accepted: u64,
    /// The program's life: what was scheduled for an earlier one is lost.
    life: u32,
    /// ICMP errors that its kernel may still send, as Linux limits them for each destination.
    errors: BTreeMap<usize, (Instant, u64)>,
    /// The states of others as they were told, for the check that each change is told once.
    told: BTreeMap<Name, (MemberState, SocketAddr)>,
}

/// The clock of a host: when it began to count, and how many millionths it is too quick.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostClock {
    offset_us: u64,
    quick_ppm: i64,
}

impl HostClock {
    /// What it shows.
    fn shows(self, now: Instant) -> Instant {
        let true_us = now.since(Instant::ZERO).as_micros();
        let ahead_us = i64::try_from(true_us).unwrap() * self.quick_ppm / 1_000_000;
        Instant::from_micros((self.offset_us + true_us).checked_add_signed(ahead_us).unwrap())
    }

    /// When it will show this.
    fn will_show(self, time: Instant) -> Instant {
        let counted_us = i128::from(time.since(Instant::ZERO).as_micros()) - i128::from(self.offset_us);
        let true_us = counted_us.max(0) * 1_000_000 / i128::from(1_000_000 + self.quick_ppm);
        let mut now = Instant::from_micros(u64::try_from(true_us).unwrap());
        while self.shows(now) < time {
            now += Duration::from_micros(1);
        }
        now
    }
}

/// A change that a member told its driver.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) at: Instant,
    /// Who told it.
    pub(crate) observer: usize,
    pub(crate) name: Name,
    pub(crate) state: MemberState,
    pub(crate) cause: Cause,
}

/// What the network does to packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Of a hundred packets so many are lost, in each direction.
    pub(crate) loss_percent: u64,
    /// Least and most time on the way, in microseconds.
    pub(crate) latency: (u64, u64),
    /// The most time that a program is late after its deadline, or after a packet came, in microseconds.
    pub(crate) scheduling: u64,
    /// Whether kernels answer the question whether they live.
    pub(crate) echo: Echo,
}

/// What a host's kernel says when it is asked for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    Answered,
    /// A firewall drops the question.
    Dropped,
}

impl Weather {
    pub(crate) const FAIR: Weather =
        Weather { loss_percent: 0, latency: (100, 300), scheduling: 500, echo: Echo::Answered };
    pub(crate) const LOSSY: Weather = Weather { loss_percent: 20, ..Weather::FAIR };
}

#[derive(Clone)]
enum Event {
    /// Something reaches the program of a host.
    Input {
        to: usize,
        life: u32,
        input: Input,
    },
    /// A packet reaches a host.
    Packet {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
        kind: Kind,
    },
    KernelAsked {
        from: usize,
        to: usize,
    },
    Request {
        from: usize,
        to: usize,
        connection: ConnectionId,
    },
    /// The deadline of a program has come, unless it has another one by now.
    Tick {
        host: usize,
        life: u32,
        deadline: Instant,
    },
    Resume {
        host: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// From the common socket.
    Plain,
    /// From a socket that hears of closed ports.
    Ping,
}

/// One TCP connection.
#[derive(Clone)]
struct Pipe {
    ends: [(usize, ConnectionId); 2],
    /// When the last bytes towards each end arrive.
    arrival: [Instant; 2],
}

/// The whole of it.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) weather: Weather,
    pub(crate) changes: Vec<Change>,
    pub(crate) reports: Vec<(Instant, usize, Report)>,
    pub(crate) left: BTreeSet<usize>,
    /// Hosts whose program was told to leave, and was not started anew.
    pub(crate) leaving: BTreeSet<usize>,
    /// Pairs of hosts that do not reach each other; the lower number first.
    pub(crate) cuts: BTreeSet<(usize, usize)>,
    /// Hosts whose firewalls drop the packets that come to the member's port; connections get through.
    pub(crate) deaf: BTreeSet<usize>,
    /// A clock for those who want to know what the members cost: nanoseconds.
    pub(crate) clock: fn() -> u64,
    pub(crate) spent: u64,
    /// Dials that found no host, forgotten.
    pipes: Vec<Pipe>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    rng: Rng,
    by_address: BTreeMap<SocketAddr, usize>,
    configure: fn(Name, SocketAddr) -> Config,
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn name(host: usize) -> Name {
    Name::new(&format!("node-{host}")).unwrap()
}

fn address(host: usize) -> SocketAddr {
    let [_, high, middle, low] = u32::try_from(host + 1).unwrap().to_be_bytes();
    SocketAddr::new([10, high, middle, low].into(), PORT)
}

/// As MetalLB has it, without encryption.
pub(crate) fn watchful(name: Name, address: SocketAddr) -> Config {
    Config::new(name, address, gossip::Keyring::plaintext())
}

/// The same, but nobody is watched whom nobody wants watched: they are left to memberlist.
pub(crate) fn plain(name: Name, address: SocketAddr) -> Config {
    Config { vigilance: Vigilance::Wanted, ..watchful(name, address) }
}

impl Network {
    /// Hosts that do not know each other.
    pub(crate) fn new(count: usize, weather: Weather, seed: u64) -> Self {
        Self::configured(count, weather, seed, plain)
    }

    pub(crate) fn configured(
        count: usize,
        weather: Weather,
        seed: u64,
        configure: fn(Name, SocketAddr) -> Config,
    ) -> Self {
        let mut rng = Rng::new(seed);
        let host = |number: usize, rng: &mut Rng| {
            let (name, address) = (name(number), address(number));
            let config = configure(name.clone(), address);
            Host {
                membership: Membership::new(config, Rng::new(rng.next_u64()), Instant::ZERO),
                name,
                address,
                power: Power::On,
                program: Program::Running,
                island: 0,
                clock: HostClock::default(),
                out: Outbox::with_limit(OUTBOX_LIMIT),
                inbox: VecDeque::new(),
                tick: None,
                accepted: 0,
                life: 0,
                errors: BTreeMap::new(),
                told: BTreeMap::new(),
            }
        };
        let hosts: Vec<Host> = (0..count).map(|number| host(number, &mut rng)).collect();
        let by_address = hosts.iter().enumerate().map(|(number, host)| (host.address, number)).collect();
        let mut network = Network {
            now: Instant::ZERO,
            hosts,
            weather,
            changes: Vec::new(),
            reports: Vec::new(),
            left: BTreeSet::new(),
            leaving: BTreeSet::new(),
            cuts: BTreeSet::new(),
            deaf: BTreeSet::new(),
            clock: || 0,
            spent: 0,
            pipes: Vec::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            rng,
            by_address,
            configure,
        };
        for host in 0..count {
            network.tick_schedule(host);
        }
        network
    }

    /// A cluster all of whose members know each other, and nobody is watched.
    pub(crate) fn joined(count: usize, weather: Weather, seed: u64) -> Self {
        Self::joined_as(count, weather, seed, plain)
    }

    /// The same with a circle.
    pub(crate) fn joined_watchfully(count: usize, weather: Weather, seed: u64) -> Self {
        Self::joined_as(count, weather, seed, watchful)
    }

    fn joined_as(count: usize, weather: Weather, seed: u64, configure: fn(Name, SocketAddr) -> Config) -> Self {
        let mut network = Self::configured(count, Weather { loss_percent: 0, ..weather }, seed, configure);
        network.join_all();
        network.run(Duration::from_secs(if count > 100 { 30 } else { 10 }));
        network.assert_all_alive();
        network.weather = weather;
        network.changes.clear();
        network.reports.clear();
        network
    }

    /// The same with a circle, and no two clocks agree: they began to count at some time in an hour, and are this much too
    /// quick or too slow at most.
    pub(crate) fn joined_with_drift(count: usize, weather: Weather, seed: u64, most_ppm: u64) -> Self {
        let mut network = Self::configured(count, Weather { loss_percent: 0, ..weather }, seed, watchful);
        for host in 0..count {
            let quick_ppm = network.rng.below(2 * most_ppm + 1) as i64 - most_ppm as i64;
            network.hosts[host].clock = HostClock { offset_us: network.rng.below(3_600_000_000), quick_ppm };
            network.end(host);
            network.start(host);
        }
        network.run(Duration::from_secs(if count > 100 { 30 } else { 10 }));
        network.assert_all_alive();
        network.weather = weather;
        network.changes.clear();
        network.reports.clear();
        network
    }

    /// What is lost from now on, and how long packets are under way, follows from this.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.rng = Rng::new(seed);
    }

    /// Tells every host where all are.
    pub(crate) fn join_all(&mut self) {
        let addresses: BTreeSet<SocketAddr> = self.hosts.iter().map(|host| host.address).collect();
        for host in 0..self.hosts.len() {
            self.input(host, Input::Peers { addresses: addresses.clone() });
        }
    }

    /// Every host watches all others.
    pub(crate) fn watch_all(&mut self) {
        let names: BTreeSet<Name> = self.hosts.iter().map(|host| host.name.clone()).collect();
        for host in 0..self.hosts.len() {
            self.input(host, Input::Watch { members: names.clone() });
        }
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    pub(crate) fn assert_all_alive(&self) {
        for host in self.hosts.iter().filter(|host| host.power == Power::On && host.program != Program::Ended) {
            let seen: BTreeSet<&Name> = host.membership.names().collect();
            let all: BTreeSet<&Name> = self
                .hosts
                .iter()
                .filter(|other| other.power == Power::On && other.program != Program::Ended)
                .map(|other| &other.name)
                .collect();
            assert_eq!(seen, all, "at {:?}, {} sees others than there are", self.now, host.name);
        }
    }

    /// Whether all that run see exactly those that run.
    pub(crate) fn agrees(&self) -> bool {
        let runs = |host: &&Host| host.power == Power::On && host.program == Program::Running;
        let all: BTreeSet<&Name> = self.hosts.iter().filter(runs).map(|host| &host.name).collect();
        self.hosts.iter().filter(runs).all(|host| host.membership.names().collect::<BTreeSet<_>>() == all)
    }

    /// Deaths that were told of hosts that lived.
    pub(crate) fn false_deaths(&self) -> Vec<&Change> {
        let lives = |name: &Name| {
            self.hosts.iter().any(|it| it.name == *name && it.power == Power::On && it.program != Program::Ended)
        };
        self.changes.iter().filter(|change| change.state == MemberState::Dead && lives(&change.name)).collect()
    }

    /// The first time that a host told this of another, since `from`.
    pub(crate) fn told_at(&self, observer: usize, of: usize, state: MemberState, from: Instant) -> Option<Instant> {
        let of = &self.hosts[of].name;
        let is_it = |it: &&Change| it.observer == observer && it.name == *of && it.state == state && it.at >= from;
        self.changes.iter().find(is_it).map(|change| change.at)
    }

    // What happens to hosts.

    pub(crate) fn power_off(&mut self, host: usize) {
        self.hosts[host].power = Power::Off;
        self.end(host);
    }

    /// The program ends without a word.
    pub(crate) fn end(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.program = Program::Ended;
        host.life += 1;
        host.inbox.clear();
        host.tick = None;
        host.told.clear();
    }

    /// A new program on the host.
    pub(crate) fn start(&mut self, host: usize) {
        let config = (self.configure)(self.hosts[host].name.clone(), self.hosts[host].address);
        let now = self.hosts[host].clock.shows(self.now);
        let membership = Membership::new(config, Rng::new(self.rng.next_u64()), now);
        let started = &mut self.hosts[host];
        (started.power, started.program) = (Power::On, Program::Running);
        started.membership = membership;
        started.life += 1;
        self.left.remove(&host);
        self.leaving.remove(&host);
        self.tick_schedule(host);
        let addresses = self.hosts.iter().map(|host| host.address).collect();
        self.input(host, Input::Peers { addresses });
    }

    /// The program does not run for a while.
    pub(crate) fn pause(&mut self, host: usize, time: Duration) {
        if self.hosts[host].program == Program::Running {
            self.hosts[host].program = Program::Paused;
            self.schedule(self.now + time, Event::Resume { host });
        }
    }

    /// Tells a program something.
    pub(crate) fn input(&mut self, host: usize, input: Input) {
        if let Input::Leave = input {
            self.leaving.insert(host);
        }
        match self.hosts[host].program {
            Program::Running => self.handle(host, input),
            Program::Paused => self.hosts[host].inbox.push_back(input),
            Program::Ended => {}
        }
    }

    fn handle(&mut self, host: usize, input: Input) {
        let before = (self.clock)();
        let to = &mut self.hosts[host];
        to.membership.handle(to.clock.shows(self.now), input, &mut to.out);
        self.spent += (self.clock)() - before;
        let to = &mut self.hosts[host];
        assert_eq!(to.out.dropped(), 0, "the outbox overflowed");
        let outputs: Vec<Output> = to.out.drain().collect();
        for output in outputs {
            self.execute(host, output);
        }
        self.tick_schedule(host);
    }

    fn tick_schedule(&mut self, host: usize) {
        let deadline = self.hosts[host].membership.next_deadline();
        if deadline != self.hosts[host].tick {
            self.hosts[host].tick = deadline;
            if let Some(deadline) = deadline {
                let late = Duration::from_micros(self.rng.below(self.weather.scheduling + 1));
                let life = self.hosts[host].life;
                let due = self.hosts[host].clock.will_show(deadline);
                self.schedule(due.max(self.now) + late, Event::Tick { host, life, deadline });
            }
        }
    }

    fn execute(&mut self, from: usize, output: Output) {
        match output {
            Output::Send { to, bytes } => self.send(from, to, bytes, Kind::Plain),
            Output::Ping { to, bytes } => self.send(from, to, bytes, Kind::Ping),
            Output::KernelProbe { address } => {
                if let Some(to) = self.by_address.get(&address).copied()
                    && self.arrives(from, to)
                {
                    let due = self.now + self.latency();
                    self.schedule(due, Event::KernelAsked { from, to });
                }
            }
            Output::Release { .. } => {}
            Output::Dial { connection, address } => {
                if let Some(to) = self.by_address.get(&address).copied() {
                    let due = self.now + self.latency() + self.lost_segments(Duration::from_secs(1));
                    self.schedule(due, Event::Request { from, to, connection });
                }
            }
            Output::Write { connection, bytes } => self.write(from, connection, bytes),
            Output::Close { connection } => self.close(from, connection),
            Output::MemberChanged(change) => {
                let host = &mut self.hosts[from];
                let news = (change.state, change.address);
                assert_ne!(host.told.insert(change.name.clone(), news), Some(news), "{} was told twice", change.name);
                self.changes.push(Change {
                    at: self.now,
                    observer: from,
                    name: change.name,
                    state: change.state,
                    cause: change.cause,
                });
            }
            Output::Left => {
                self.left.insert(from);
            }
            Output::Report(report) => self.reports.push((self.now, from, report)),
        }
    }

    fn latency(&mut self) -> Duration {
        let (least, most) = self.weather.latency;
        Duration::from_micros(least + self.rng.below(most - least + 1))
    }

    fn is_reachable(&self, from: usize, to: usize) -> bool {
        if self.cuts.contains(&(from.min(to), from.max(to))) {
            return false;
        }
        let (from, to) = (&self.hosts[from], &self.hosts[to]);
        from.power == Power::On && to.power == Power::On && from.island == to.island
    }

    fn arrives(&mut self, from: usize, to: usize) -> bool {
        self.is_reachable(from, to) && self.rng.below(100) >= self.weather.loss_percent
    }

    /// The time that TCP needs to send again what was lost.
    fn lost_segments(&mut self, wait: Duration) -> Duration {
        let mut late = Duration::ZERO;
        let mut wait = wait;
        while self.rng.below(100) < self.weather.loss_percent {
            late = late + wait;
            wait = wait.times(2);
        }
        late
    }

    fn schedule(&mut self, due: Instant, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((due, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn send(&mut self, from: usize, to: SocketAddr, bytes: Vec<u8>, kind: Kind) {
        if let Some(to) = self.by_address.get(&to).copied()
            && self.arrives(from, to)
        {
            let due = self.now + self.latency();
            self.schedule(due, Event::Packet { from, to, bytes, kind });
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse((due, sequence))) = self.queue.peek().copied()
            && due <= end
        {
            self.queue.pop();
            self.now = self.now.max(due);
            if let Some(event) = self.events.remove(&sequence) {
                self.event(event);
            }
        }
        self.now = end;
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Input { to, life, input } => {
                if self.hosts[to].life != life || self.hosts[to].power == Power::Off {
                    return;
                }
                self.input(to, input);
            }
            Event::Tick { host, life, deadline } => {
                let due = &mut self.hosts[host];
                // A program that does not run gets its tick when it does again.
                if (due.life, due.tick, due.program) == (life, Some(deadline), Program::Running) {
                    due.tick = None;
                    self.handle(host, Input::Tick);
                }
            }
            Event::Packet { from, to, bytes, kind } => self.packet_arrived(from, to, bytes, kind),
            Event::KernelAsked { from, to } => {
                if self.weather.echo == Echo::Answered && self.arrives(to, from) {
                    let due = self.now + self.latency();
                    let (life, address) = (self.hosts[from].life, self.hosts[to].address.ip());
                    self.schedule(due, Event::Input { to: from, life, input: Input::KernelAnswered { address } });
                }
            }
            Event::Request { from, to, connection } => self.requested(from, to, connection),
            Event::Resume { host } => {
                if self.hosts[host].program == Program::Paused {
                    self.hosts[host].program = Program::Running;
                    while let Some(input) = self.hosts[host].inbox.pop_front() {
                        self.handle(host, input);
                    }
                    self.hosts[host].tick = None;
                    self.handle(host, Input::Tick);
                }
            }
        }
    }

    fn packet_arrived(&mut self, from: usize, to: usize, bytes: Vec<u8>, kind: Kind) {
        if self.hosts[to].power == Power::Off || self.deaf.contains(&to) {
            return;
        }
        if self.hosts[to].program == Program::Ended {
            if kind == Kind::Ping && self.error_allowed(to, from) && self.arrives(to, from) {
                let due = self.now + self.latency();
                let (life, address) = (self.hosts[from].life, self.hosts[to].address);
                self.schedule(due, Event::Input { to: from, life, input: Input::Refused { address } });
            }
            return;
        }
        let from = self.hosts[from].address;
        let late = Duration::from_micros(self.rng.below(self.weather.scheduling / 5 + 1));
        let life = self.hosts[to].life;
        self.schedule(self.now + late, Event::Input { to, life, input: Input::Packet { from, bytes } });
    }

    /// Linux sends six ICMP errors to a destination, and then one a second.
    fn error_allowed(&mut self, at: usize, to: usize) -> bool {
        let (since, tokens) = self.hosts[at].errors.get(&to).copied().unwrap_or((self.now, 6));
        let refilled = (self.now - since).as_secs();
        let tokens = (tokens + refilled).min(6);
        let since = since + Duration::from_secs(refilled);
        self.hosts[at].errors.insert(to, (since, tokens.saturating_sub(1)));
        tokens > 0
    }

    fn requested(&mut self, from: usize, to: usize, connection: ConnectionId) {
        if !self.is_reachable(from, to) {
            return;
        }
        let life = self.hosts[from].life;
        let due = self.now + self.latency();
        if self.hosts[to].program == Program::Ended {
            let input = Input::Closed { connection, reason: CloseReason::Refused };
            return self.schedule(due, Event::Input { to: from, life, input });
        }
        let remote = self.hosts[from].address;
        self.hosts[to].accepted += 1;
        let theirs = ConnectionId::Accepted(self.hosts[to].accepted + u64::from(self.hosts[to].life) * 1_000_000);
        self.pipes.push(Pipe { ends: [(from, connection), (to, theirs)], arrival: [due, self.now] });
        self.input(to, Input::Accepted { connection: theirs, remote });
        self.schedule(due, Event::Input { to: from, life, input: Input::Connected { connection } });
    }

    fn pipe(&self, host: usize, connection: ConnectionId) -> Option<(usize, usize)> {
        let ends = self.pipes.iter().enumerate().rev();
        let mut ends = ends.flat_map(|(place, pipe)| [(place, 0, pipe.ends[0]), (place, 1, pipe.ends[1])]);
        ends.find(|(_, _, end)| *end == (host, connection)).map(|(place, side, _)| (place, side))
    }

    fn write(&mut self, from: usize, connection: ConnectionId, bytes: Vec<u8>) {
        let Some((place, side)) = self.pipe(from, connection) else { return };
        let (to, theirs) = self.pipes[place].ends[1 - side];
        if !self.is_reachable(from, to) {
            return;
        }
        let life = self.hosts[to].life;
        for part in bytes.chunks(16 * 1024) {
            let late = self.latency() + self.lost_segments(millis(200));
            let due = (self.now + late).max(self.pipes[place].arrival[1 - side]);
            self.pipes[place].arrival[1 - side] = due;
            let input = Input::Received { connection: theirs, bytes: part.to_vec() };
            self.schedule(due, Event::Input { to, life, input });
        }
    }

    fn close(&mut self, from: usize, connection: ConnectionId) {
        let Some((place, side)) = self.pipe(from, connection) else { return };
        let pipe = self.pipes.swap_remove(place);
        let (to, theirs) = pipe.ends[1 - side];
        let life = self.hosts[to].life;
        if self.is_reachable(from, to) {
            let due = (self.now + self.latency()).max(pipe.arrival[1 - side]);
            let input = Input::Closed { connection: theirs, reason: CloseReason::ByPeer };
            self.schedule(due, Event::Input { to, life, input });
        }
    }
}
