//! Whole sessions over a network that delays, loses and cuts, in virtual time; and programs that are late.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic, also in its helpers"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU8;

use bfd::wire::{Datagram, Diagnostic, Discriminator, EchoKey, State};
use bfd::{
    Arrival, Change, DownReason, EchoMode, EchoState, Forwarding, Hops, Input, OUTBOX_MAX, Output, Path, Profile,
    Registry, Role, SessionView,
};
use kit::{Duration, Family, Instant, InterfaceIndex, Outbox, Rng};
use proptest::prelude::*;

/// How many histories of each kind.
const CASES: u32 = if cfg!(debug_assertions) { 24 } else { 512 };

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn profile(transmit_ms: u64, receive_ms: u64, multiplier: u8) -> Profile {
    Profile {
        transmit_interval: millis(transmit_ms),
        receive_interval: millis(receive_ms),
        detect_multiplier: NonZeroU8::new(multiplier).unwrap(),
        ..Profile::default()
    }
}

/// What the network does to each packet.
#[derive(Clone, Copy, Debug)]
struct Weather {
    delay_min: Duration,
    delay_max: Duration,
    /// One in so many is lost; 0 for none. Never `lost_in_a_row_max` in a row.
    one_lost_in: u64,
    lost_in_a_row_max: u64,
}

const FAIR: Weather =
    Weather { delay_min: Duration::ZERO, delay_max: Duration::from_micros(200), one_lost_in: 0, lost_in_a_row_max: 0 };

#[derive(Clone, Debug)]
struct Packet {
    to: usize,
    kind: Kind,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Control,
    /// An echo packet on its way back.
    Echo,
}

struct Node {
    registry: Registry<&'static str>,
    /// Until then its program does not run, and the kernel keeps what arrives.
    asleep_until: Instant,
    waiting: Vec<(Instant, Packet)>,
    changes: Vec<(Instant, Change)>,
    lost_in_a_row: u64,
    /// When the last packet that it sent arrives: one link has one order.
    last_arrival: Instant,
}

/// Two neighbours, 0 and 1.
struct Network {
    nodes: [Node; 2],
    /// In order of arrival; the number keeps those of one moment apart.
    on_the_way: BTreeMap<(Instant, u64), Packet>,
    sent: u64,
    weather: Weather,
    /// Whether what each node sends arrives, control and echo packets.
    is_cut: [bool; 2],
    echo_is_cut: bool,
    now: Instant,
    random: Rng,
}

const NAMES: [&str; 2] = ["a", "b"];

fn address(node: usize) -> IpAddr {
    IpAddr::from([192, 0, 2, 1 + node as u8])
}

fn path(node: usize) -> Path {
    Path::single_hop(address(1 - node))
}

impl Network {
    fn new(seed: u64, weather: Weather) -> Self {
        let node = |number: u64| Node {
            registry: Registry::new(Rng::new(seed * 2 + number), EchoKey::new([number as u8; 16])),
            asleep_until: Instant::ZERO,
            waiting: Vec::new(),
            changes: Vec::new(),
            lost_in_a_row: 0,
            last_arrival: Instant::ZERO,
        };
        Network {
            nodes: [node(0), node(1)],
            on_the_way: BTreeMap::new(),
            sent: 0,
            weather,
            is_cut: [false; 2],
            echo_is_cut: false,
            now: Instant::ZERO,
            random: Rng::new(seed ^ 0x5881),
        }
    }

    /// Two neighbours with these profiles, up, with nothing left to negotiate.
    fn up(seed: u64, weather: Weather, profiles: [Profile; 2]) -> Self {
        let mut network = Network::new(seed, weather);
        network.watch(0, profiles[0]);
        network.watch(1, profiles[1]);
        network.run(Duration::from_secs(20));
        for node in 0..2 {
            assert_eq!(network.state(node), Some(State::Up), "{:?}", network.nodes[node].changes);
            network.nodes[node].changes.clear();
        }
        network
    }

    fn watch(&mut self, node: usize, profile: Profile) {
        self.tell(node, &Input::Watch { client: &NAMES[node], path: path(node), profile });
    }

    fn tell(&mut self, node: usize, input: &Input<'_, &'static str>) {
        let mut out = Outbox::with_limit(OUTBOX_MAX);
        self.nodes[node].registry.handle(self.now, *input, &mut out);
        self.nodes[node].registry.check_invariants();
        assert_eq!(out.dropped(), 0);
        for output in out.drain() {
            match output {
                Output::SendControl { packet, path, .. } => {
                    assert_eq!(path.remote, address(1 - node));
                    self.send(node, Kind::Control, 1 - node, packet.encode().to_vec());
                }
                Output::SendEcho { datagram, .. } => {
                    let payload = Datagram::decode(datagram.bytes()).unwrap().payload.to_vec();
                    self.send(node, Kind::Echo, node, payload);
                }
                Output::Changed { client, change } => {
                    assert_eq!(client, NAMES[node]);
                    self.nodes[node].changes.push((self.now, change));
                }
                Output::Refused { refusal, .. } => unreachable!("{refusal}"),
                Output::StopEcho { .. } | Output::ReturnEcho | Output::Discarded { .. } | Output::Close { .. } => {}
            }
        }
    }

    fn send(&mut self, from: usize, kind: Kind, to: usize, payload: Vec<u8>) {
        let is_cut = if kind == Kind::Echo { self.echo_is_cut } else { self.is_cut[from] };
        let Weather { delay_min, delay_max, one_lost_in, lost_in_a_row_max } = self.weather;
        let in_a_row = &mut self.nodes[from].lost_in_a_row;
        let is_lost = self.random.one_in(one_lost_in) && *in_a_row + 1 < lost_in_a_row_max;
        *in_a_row = if is_lost { *in_a_row + 1 } else { 0 };
        if is_cut || is_lost {
            return;
        }
        let span = (delay_max - delay_min).as_micros();
        let hops = if kind == Kind::Echo { 2 } else { 1 };
        let delay = (delay_min + Duration::from_micros(self.random.below(span + 1))).times(hops);
        self.sent += 1;
        let at = (self.now + delay).max(self.nodes[from].last_arrival);
        self.nodes[from].last_arrival = at;
        self.on_the_way.insert((at, self.sent), Packet { to, kind, payload });
    }

    /// Lets this much time pass.
    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            let arrival = self.on_the_way.keys().next().map(|(at, _)| *at);
            let wake = |node: &Node| Some(node.registry.next_deadline()?.max(node.asleep_until));
            let reading = |node: &Node| (!node.waiting.is_empty()).then_some(node.asleep_until);
            let ticks = self.nodes.iter().flat_map(|node| [wake(node), reading(node)]);
            let Some(next) = ticks.chain([arrival]).flatten().min().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            self.arrive();
            (0..2)
                .filter(|node| self.nodes[*node].asleep_until <= self.now)
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|node| self.turn(node));
        }
        self.now = until;
    }

    /// Puts what has arrived by now where the nodes will read it.
    fn arrive(&mut self) {
        while let Some(entry) = self.on_the_way.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let ((at, _), packet) = entry.remove_entry();
            self.nodes[packet.to].waiting.push((at, packet));
        }
    }

    /// One turn of a node's driver: packets first, then what is due.
    fn turn(&mut self, node: usize) {
        for (received_at, packet) in std::mem::take(&mut self.nodes[node].waiting) {
            let arrival = Arrival {
                received_at,
                source: address(1 - node),
                local: address(node),
                interface: InterfaceIndex::new(7),
                vrf: None,
                ttl: 255,
                hops: Hops::Single,
            };
            match packet.kind {
                Kind::Control => self.tell(node, &Input::Control { payload: &packet.payload, arrival }),
                Kind::Echo => self.tell(node, &Input::EchoReturned { payload: &packet.payload, ttl: 254 }),
            }
        }
        if self.nodes[node].registry.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.tell(node, &Input::Tick);
        }
    }

    fn view(&self, node: usize) -> Option<SessionView<&'static str>> {
        self.nodes[node].registry.sessions().next()
    }

    fn state(&self, node: usize) -> Option<State> {
        Some(self.view(node)?.local.state)
    }

    fn changes(&self, node: usize) -> Vec<Change> {
        self.nodes[node].changes.iter().map(|(_, change)| *change).collect()
    }

    /// When a node saw the session go down, and why.
    fn down(&self, node: usize) -> (Instant, DownReason) {
        match self.nodes[node].changes.as_slice() {
            [(at, Change::Down(reason))] => (*at, *reason),
            changes => unreachable!("node {node} was told {changes:?}"),
        }
    }
}

fn weather() -> impl Strategy<Value = Weather> {
    (0u64..5_000, 0u64..5_000).prop_map(|(from, jitter)| Weather {
        delay_min: Duration::from_micros(from),
        delay_max: Duration::from_micros(from + jitter),
        ..FAIR
    })
}

/// What MetalLB's users may configure, in the part that tests have time for.
fn any_profile() -> impl Strategy<Value = Profile> {
    (10u64..1000, 10u64..1000, 2u8..10)
        .prop_map(|(transmit, receive, multiplier)| profile(transmit, receive, multiplier))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Loss that leaves one packet of each detection time never takes a session down. Jitter moves a packet by a quarter of
    /// an interval at most, and the weather by less than the interval that is left.
    #[test]
    fn what_a_detection_time_allows_is_no_alarm(
        seed in 0u64..1_000_000,
        weather in weather(),
        profiles in [any_profile(), any_profile()],
    ) {
        let multiplier = profiles.iter().map(|profile| u64::from(profile.detect_multiplier.get())).min().unwrap();
        let weather = Weather { one_lost_in: 3, lost_in_a_row_max: multiplier - 1, ..weather };
        let mut network = Network::up(seed, weather, profiles);
        network.run(Duration::from_secs(120));
        prop_assert_eq!((network.changes(0), network.changes(1)), (vec![], vec![]));
    }

    /// Both ends agree on the intervals of both directions (RFC 5880 section 6.8.2).
    #[test]
    fn both_ends_agree_on_what_was_negotiated(seed in 0u64..1_000_000, profiles in [any_profile(), any_profile()]) {
        let network = Network::up(seed, FAIR, profiles);
        for (here, there) in [(0, 1), (1, 0)] {
            let interval = profiles[here].transmit_interval.max(profiles[there].receive_interval);
            let (sender, receiver) = (network.view(here).unwrap(), network.view(there).unwrap());
            prop_assert_eq!(sender.transmit_interval, Some(interval));
            prop_assert_eq!(receiver.detection_time, Some(interval.times(profiles[here].detect_multiplier.get().into())));
        }
    }

    /// A cut is noticed by each side within its detection time and not much before.
    #[test]
    fn a_cut_is_noticed_in_the_detection_time(
        seed in 0u64..1_000_000,
        weather in weather(),
        profiles in [any_profile(), any_profile()],
        when_ms in 0u64..3000,
    ) {
        let mut network = Network::up(seed, weather, profiles);
        network.run(millis(when_ms));
        network.is_cut = [true; 2];
        let (cut_at, span) = (network.now, Duration::from_secs(20));
        let limits: Vec<Duration> = (0..2).map(|node| network.view(node).unwrap().detection_time.unwrap()).collect();
        network.run(span);
        for (node, limit) in limits.into_iter().enumerate() {
            let (at, reason) = network.down(node);
            prop_assert_eq!(reason, DownReason::DetectionExpired);
            prop_assert!(at.since(cut_at) <= limit + weather.delay_max, "{} of {limit}", at.since(cut_at));
            let multiplier = u64::from(profiles[1 - node].detect_multiplier.get());
            prop_assert!(at.since(cut_at) + weather.delay_max >= limit.divided_by(multiplier).times(multiplier - 1));
        }
    }

    /// A cut of one direction takes both ends down: one hears nothing, and tells the other.
    #[test]
    fn a_cut_of_one_direction_is_told_to_the_other_side(seed in 0u64..1_000_000, profiles in [any_profile(), any_profile()]) {
        let mut network = Network::up(seed, FAIR, profiles);
        network.is_cut = [true, false];
        let limit = network.view(1).unwrap().detection_time.unwrap();
        network.run(limit + millis(10));
        prop_assert_eq!(network.down(1).1, DownReason::DetectionExpired);
        prop_assert_eq!(network.down(0).1, DownReason::NeighborSignaledDown(Diagnostic::DetectionExpired));
        prop_assert!(network.down(0).0.since(network.down(1).0) <= millis(1));
        // And it comes back when the direction does.
        network.is_cut = [false; 2];
        network.run(Duration::from_secs(10));
        prop_assert_eq!((network.state(0), network.state(1)), (Some(State::Up), Some(State::Up)));
    }

    /// Profiles may change at any moment, also again before the last change is negotiated.
    #[test]
    fn profiles_change_without_a_flap(
        seed in 0u64..1_000_000,
        weather in weather(),
        steps in proptest::collection::vec((0usize..2, any_profile(), 0u64..3000), 1..12),
    ) {
        // A detection time must have room for the weather.
        let slow = |profile: Profile| Profile {
            transmit_interval: profile.transmit_interval.max(millis(50)),
            receive_interval: profile.receive_interval.max(millis(50)),
            ..profile
        };
        let mut network = Network::up(seed, weather, [profile(300, 300, 3); 2]);
        let mut last = [profile(300, 300, 3); 2];
        for (node, profile, then_ms) in steps {
            last[node] = slow(profile);
            network.watch(node, last[node]);
            network.run(millis(then_ms));
        }
        network.run(Duration::from_secs(20));
        prop_assert_eq!((network.changes(0), network.changes(1)), (vec![], vec![]));
        for (here, there) in [(0, 1), (1, 0)] {
            let interval = last[here].transmit_interval.max(last[there].receive_interval);
            prop_assert_eq!(network.view(here).unwrap().transmit_interval, Some(interval));
        }
    }

    /// Whenever one program sleeps, it takes nobody for dead afterwards who was alive; and its neighbour, which waits long
    /// enough, does not either.
    #[test]
    fn a_program_that_sleeps_takes_no_living_neighbour_for_dead(
        seed in 0u64..1_000_000,
        weather in weather(),
        naps_ms in proptest::collection::vec((1u64..4000, 1u64..4000), 1..20),
    ) {
        // 3 x 20 ms towards the one that sleeps; 255 x 20 ms towards the other.
        let mut network = Network::up(seed, weather, [profile(20, 20, 255), profile(20, 20, 3)]);
        prop_assert_eq!(network.view(0).unwrap().detection_time, Some(millis(60)));
        for (nap, awake) in naps_ms {
            network.nodes[0].asleep_until = network.now + millis(nap);
            network.run(millis(nap + awake));
        }
        prop_assert_eq!((network.changes(0), network.changes(1)), (vec![], vec![]));
    }
}

/// Hardware often has these only, and takes the next longer one where it is asked for another.
#[test]
fn rfc7419_3_common_intervals_are_kept_to_the_microsecond() {
    for micros in [3_300, 10_000, 20_000, 50_000, 100_000, 1_000_000] {
        let interval = Duration::from_micros(micros);
        let common = Profile { transmit_interval: interval, receive_interval: interval, ..Profile::default() };
        let network = Network::up(1, FAIR, [common; 2]);
        let view = network.view(0).unwrap();
        assert_eq!((view.local.desired_min_tx, view.local.required_min_rx), (interval, interval));
        assert_eq!((view.transmit_interval, view.detection_time), (Some(interval), Some(interval.times(3))));
    }
}

#[test]
fn sessions_come_up_through_heavy_loss() {
    for seed in 0..50 {
        let weather = Weather { one_lost_in: 2, lost_in_a_row_max: u64::MAX, delay_max: millis(50), ..FAIR };
        let mut network = Network::new(seed, weather);
        network.watch(0, profile(1000, 1000, 20));
        network.watch(1, profile(1000, 1000, 20));
        network.run(Duration::from_secs(60));
        assert_eq!((network.state(0), network.state(1)), (Some(State::Up), Some(State::Up)), "seed {seed}");
    }
}

#[test]
fn rfc5880_6_1_a_passive_side_follows_and_two_of_them_stay_silent() {
    let passive = |interval| Profile { role: Role::Passive, ..profile(interval, interval, 3) };
    let mut network = Network::up(1, FAIR, [passive(100), profile(100, 100, 3)]);
    network.is_cut = [true; 2];
    network.run(Duration::from_secs(5));
    network.is_cut = [false; 2];
    network.run(Duration::from_secs(5));
    assert_eq!(network.state(0), Some(State::Up), "the active side begins again");
    let mut network = Network::new(1, FAIR);
    network.watch(0, passive(100));
    network.watch(1, passive(100));
    network.run(Duration::from_secs(60));
    assert_eq!((network.sent, network.state(0)), (0, Some(State::Down)));
}

#[test]
fn rfc5880_6_2_an_administrator_at_the_other_end_is_no_failure() {
    let mut network = Network::up(1, FAIR, [profile(100, 100, 3); 2]);
    network.tell(1, &Input::Unwatch { client: &"b" });
    network.run(millis(100));
    let (_, reason) = network.down(0);
    assert_eq!((reason, reason.is_failure()), (DownReason::NeighborAdminDown, false));
    assert_eq!(network.state(1), None, "the neighbour has confirmed it, so the session is forgotten");
    network.nodes[0].changes.clear();
    network.run(Duration::from_secs(10));
    network.watch(1, profile(100, 100, 3));
    network.run(Duration::from_secs(5));
    assert_eq!(network.changes(0), [Change::Up]);
}

#[test]
fn a_neighbour_that_starts_again_is_noticed_at_once_and_taken_back() {
    let mut network = Network::up(1, FAIR, [profile(1000, 1000, 10); 2]);
    let before: Option<Discriminator> = network.view(0).unwrap().local.your_discriminator;
    network.nodes[1].registry = Registry::new(Rng::new(77), EchoKey::new([77; 16]));
    network.watch(1, profile(1000, 1000, 10));
    network.run(millis(10));
    // At once: what is new does not wait for its time.
    let down = Change::Down(DownReason::NeighborSignaledDown(Diagnostic::None));
    assert_eq!(network.changes(0), [down, Change::Up]);
    assert_ne!(network.view(0).unwrap().local.your_discriminator, before);
}

/// Two neighbours that return echo packets; the first sends some.
fn echoing(seed: u64) -> Network {
    let on = Profile { echo: EchoMode::On, echo_interval: millis(50), ..profile(1000, 1000, 3) };
    let mut network = Network::new(seed, FAIR);
    for node in 0..2 {
        network.tell(node, &Input::Forwarding { family: Family::V4, forwarding: Forwarding::On });
    }
    network.watch(0, on);
    network.watch(1, profile(1000, 1000, 3));
    network.run(Duration::from_secs(20));
    assert_eq!(network.changes(0), [Change::Up]);
    network.nodes.iter_mut().for_each(|node| node.changes.clear());
    network
}

#[test]
fn echo_packets_notice_a_cut_long_before_slow_control_packets_do() {
    for seed in 0..50 {
        let mut network = echoing(seed);
        assert_eq!(network.view(0).unwrap().echo, EchoState::Active);
        network.run(millis(seed * 7));
        network.echo_is_cut = true;
        let cut_at = network.now;
        network.run(Duration::from_secs(2));
        let (at, reason) = network.down(0);
        assert_eq!(reason, DownReason::EchoFailed);
        let took = at.since(cut_at);
        assert!(took >= millis(145) && took <= millis(201), "seed {seed}: {took}");
        // The neighbour is told why.
        assert_eq!(network.down(1).1, DownReason::NeighborSignaledDown(Diagnostic::EchoFailed));
        // As long as nothing else has become better, one attempt in ten seconds and more.
        network.run(Duration::from_secs(60));
        let downs = network.changes(0).iter().filter(|change| **change == Change::Down(DownReason::EchoFailed)).count();
        assert!((5..=7).contains(&downs), "{downs}");
        network.echo_is_cut = false;
        network.run(Duration::from_secs(20));
        network.nodes[0].changes.clear();
        network.run(Duration::from_secs(60));
        assert_eq!((network.state(0), network.changes(0)), (Some(State::Up), vec![]));
    }
}

#[test]
fn a_neighbour_that_says_it_returns_echo_packets_and_does_not_is_no_failure() {
    let on = Profile { echo: EchoMode::On, ..profile(100, 100, 3) };
    let mut dark = Network::new(1, FAIR);
    dark.echo_is_cut = true;
    for node in 0..2 {
        dark.tell(node, &Input::Forwarding { family: Family::V4, forwarding: Forwarding::On });
    }
    dark.watch(0, on);
    dark.watch(1, on);
    dark.run(Duration::from_secs(60));
    assert_eq!((dark.changes(0), dark.view(0).unwrap().echo), (vec![Change::Up], EchoState::Probing));
}

#[test]
fn a_program_that_sleeps_does_not_miss_its_own_echo_packets() {
    let mut network = echoing(3);
    for nap in [10, 100, 170, 900, 2000] {
        network.nodes[0].asleep_until = network.now + millis(nap);
        network.run(millis(nap + 500));
    }
    assert_eq!((network.changes(0), network.changes(1)), (vec![], vec![]));
}
