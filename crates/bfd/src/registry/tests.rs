//! Many sessions: who shares which, which packet is whose, and packets from people who mean no good.

use super::*;

use std::num::NonZeroU8;

use crate::wire::Diagnostic;
use crate::{DownReason, EchoMode, EchoState};

/// Debug builds take long for each; release builds do a million in a few seconds.
const MUTATED: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

type Said = Vec<Output<&'static str>>;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn interface(number: u32) -> InterfaceIndex {
    InterfaceIndex::new(number).unwrap()
}

fn profile(interval_ms: u64, multiplier: u8) -> Profile {
    Profile {
        transmit_interval: millis(interval_ms),
        receive_interval: millis(interval_ms),
        detect_multiplier: NonZeroU8::new(multiplier).unwrap(),
        ..Profile::default()
    }
}

fn single_hop() -> Path {
    Path::single_hop(address("192.0.2.2"))
}

fn multi_hop() -> Path {
    Path::multi_hop(address("198.51.100.2"))
}

/// As the neighbour of a path sends it.
fn arrival(path: Path, now: Instant) -> Arrival {
    let local = if path.remote.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
    Arrival {
        received_at: now,
        source: path.remote,
        local: path.local.unwrap_or(address(local)),
        interface: path.interface.or(InterfaceIndex::new(7)),
        vrf: path.vrf,
        ttl: 255,
        hops: path.hops,
    }
}

fn packet(state: State, yours: Option<Discriminator>) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::None,
        state,
        poll: false,
        final_bit: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: Discriminator::new(99).unwrap(),
        your_discriminator: yours,
        desired_min_tx: millis(100),
        required_min_rx: millis(100),
        required_min_echo_rx: Duration::ZERO,
    }
}

struct Bench {
    registry: Registry<&'static str>,
    now: Instant,
    out: Outbox<Output<&'static str>>,
}

impl Bench {
    fn new() -> Self {
        let registry = Registry::new(Rng::new(1), EchoKey::new([7; 16]));
        Bench { registry, now: Instant::ZERO, out: Outbox::with_limit(OUTBOX_MAX) }
    }

    fn tell(&mut self, input: Input<'_, &'static str>) -> Said {
        self.registry.handle(self.now, input, &mut self.out);
        self.registry.check_invariants();
        assert_eq!(self.out.dropped(), 0);
        self.out.drain().collect()
    }

    fn watch(&mut self, client: &'static str, path: Path, profile: Profile) -> Said {
        self.tell(Input::Watch { client: &client, path, profile })
    }

    fn unwatch(&mut self, client: &'static str) -> Said {
        self.tell(Input::Unwatch { client: &client })
    }

    fn receive(&mut self, packet: ControlPacket, arrival: Arrival) -> Said {
        self.tell(Input::Control { payload: &packet.encode(), arrival })
    }

    /// Ticks at each deadline until this much time has passed.
    fn run(&mut self, span: Duration) -> Said {
        let until = self.now + span;
        let mut said = Vec::new();
        while let Some(deadline) = self.registry.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            said.extend(self.tell(Input::Tick));
        }
        self.now = until;
        said
    }

    fn id_of(&self, path: Path) -> Discriminator {
        self.view(path).local.my_discriminator
    }

    fn view(&self, path: Path) -> SessionView<&'static str> {
        self.registry.sessions().find(|session| session.path == path).expect("there is a session")
    }

    fn state_of(&self, path: Path) -> State {
        self.view(path).local.state
    }

    /// Brings the session over a path up.
    fn up(&mut self, path: Path) -> Said {
        let id = self.id_of(path);
        let mut said = self.receive(packet(State::Down, None), arrival(path, self.now));
        said.extend(self.receive(packet(State::Init, Some(id)), arrival(path, self.now)));
        assert_eq!(self.state_of(path), State::Up);
        said
    }

    /// A registry with one client, whose session is up.
    fn with_session(path: Path, profile: Profile) -> (Self, Discriminator) {
        let mut bench = Bench::new();
        bench.watch("a", path, profile);
        bench.up(path);
        let id = bench.id_of(path);
        (bench, id)
    }
}

fn changes(said: &Said) -> Vec<(&'static str, Change)> {
    let changes = said.iter().filter_map(|output| match output {
        Output::Changed { client, change } => Some((*client, *change)),
        _ => None,
    });
    changes.collect()
}

fn packets(said: &Said) -> Vec<ControlPacket> {
    let packets = said.iter().filter_map(|output| match output {
        Output::SendControl { packet, .. } => Some(*packet),
        _ => None,
    });
    packets.collect()
}

fn discards(said: &Said) -> Vec<Discard> {
    let discards = said.iter().filter_map(|output| match output {
        Output::Discarded { discard, .. } => Some(*discard),
        _ => None,
    });
    discards.collect()
}

#[test]
fn clients_of_one_path_share_a_session_and_are_told_together() {
    let mut bench = Bench::new();
    bench.watch("a", single_hop(), profile(300, 3));
    bench.watch("b", single_hop(), profile(300, 3));
    assert_eq!(bench.registry.sessions().count(), 1);
    assert_eq!(changes(&bench.up(single_hop())), [("a", Change::Up), ("b", Change::Up)]);
    assert_eq!(changes(&bench.watch("c", single_hop(), profile(300, 3))), [("c", Change::Up)], "it is up already");
    assert_eq!(changes(&bench.watch("c", single_hop(), profile(300, 3))), [], "and is told so once");
    assert_eq!((bench.registry.state_of(&"c"), bench.registry.state_of(&"d")), (Some(State::Up), None));
    let down = Change::Down(DownReason::DetectionExpired);
    assert_eq!(changes(&bench.run(millis(900))), [("a", down), ("b", down), ("c", down)]);
    assert_eq!(bench.view(single_hop()).counters.zebra_notifications, 3);
}

#[test]
fn the_profile_that_notices_first_holds_and_changes_hands_without_a_flap() {
    let (mut bench, id) = Bench::with_session(single_hop(), profile(300, 3));
    bench.watch("b", single_hop(), profile(100, 5));
    assert_eq!(bench.view(single_hop()).profile, profile(100, 5));
    bench.watch("c", single_hop(), profile(100, 4));
    assert_eq!(bench.view(single_hop()).profile, profile(100, 4));
    bench.watch("c", single_hop(), profile(1000, 4));
    assert_eq!(bench.view(single_hop()).profile, profile(100, 5));
    bench.watch("c", single_hop(), profile(140, 3));
    assert_eq!(bench.view(single_hop()).profile, profile(140, 3), "420 ms are less than 500");
    bench.watch("c", single_hop(), profile(1000, 4));
    let said = bench.unwatch("b");
    assert_eq!(bench.view(single_hop()).profile, profile(300, 3));
    assert_eq!((changes(&said), bench.id_of(single_hop()), bench.state_of(single_hop())), (vec![], id, State::Up));
}

#[test]
fn rfc5880_6_8_16_a_neighbour_is_told_when_nobody_watches_any_more() {
    let (mut bench, id) = Bench::with_session(single_hop(), profile(300, 3));
    let said = bench.unwatch("a");
    assert_eq!(changes(&said), []);
    assert_eq!(packets(&said).iter().map(|packet| packet.state).collect::<Vec<_>>(), [State::AdminDown]);
    // For a detection time, in which we send once a second.
    let said = bench.run(millis(2999));
    assert!(packets(&said).len() >= 2 && bench.registry.sessions().count() == 1);
    assert_eq!(bench.run(millis(1)).last(), Some(&Output::Close { session: id }));
    assert!(bench.registry.is_empty() && bench.registry.next_deadline().is_none());
}

#[test]
fn a_neighbour_that_wants_a_packet_an_hour_is_told_for_a_minute() {
    let (mut bench, id) = Bench::with_session(single_hop(), profile(300, 3));
    let hourly = ControlPacket { required_min_rx: Duration::from_secs(3600), ..packet(State::Up, Some(id)) };
    bench.receive(hourly, arrival(single_hop(), bench.now));
    bench.unwatch("a");
    bench.run(Duration::from_secs(59));
    assert!(!bench.registry.is_empty());
    bench.run(Duration::from_secs(1));
    assert!(bench.registry.is_empty());
}

#[test]
fn a_session_closes_as_soon_as_the_neighbour_knows_or_was_never_heard() {
    let (mut bench, id) = Bench::with_session(single_hop(), profile(300, 3));
    bench.unwatch("a");
    let said = bench.receive(packet(State::Up, Some(id)), arrival(single_hop(), bench.now));
    assert!(!said.contains(&Output::Close { session: id }), "this packet was under way");
    let said = bench.receive(packet(State::Down, Some(id)), arrival(single_hop(), bench.now));
    assert_eq!(said.last(), Some(&Output::Close { session: id }));
    bench.watch("a", single_hop(), profile(300, 3));
    let second = bench.id_of(single_hop());
    assert_ne!(second, id);
    assert_eq!(bench.unwatch("a").last(), Some(&Output::Close { session: second }));
}

#[test]
fn who_comes_back_in_time_finds_the_session_again() {
    let (mut bench, id) = Bench::with_session(single_hop(), profile(300, 3));
    bench.unwatch("a");
    bench.run(millis(500));
    bench.watch("b", single_hop(), profile(300, 3));
    assert_eq!((bench.id_of(single_hop()), bench.state_of(single_hop())), (id, State::Down));
    assert_eq!(changes(&bench.up(single_hop())), [("b", Change::Up)]);
    bench.run(millis(10_000));
    assert_eq!(bench.registry.sessions().count(), 1);
}

#[test]
fn another_path_is_another_session() {
    let (mut bench, id) = Bench::with_session(single_hop(), profile(300, 3));
    let said = bench.watch("a", multi_hop(), profile(300, 3));
    assert_eq!(packets(&said)[0].state, State::AdminDown, "the old neighbour is told");
    assert_ne!(bench.id_of(multi_hop()), id);
    assert_eq!(bench.view(single_hop()).clients, Vec::<&str>::new());
    assert_eq!(bench.view(multi_hop()).clients, ["a"]);
}

#[test]
fn all_clients_leave_at_the_end() {
    let (mut bench, _) = Bench::with_session(single_hop(), profile(300, 3));
    bench.watch("b", multi_hop(), profile(300, 3));
    bench.up(multi_hop());
    let said = bench.tell(Input::UnwatchAll);
    let states: Vec<State> = packets(&said).iter().map(|packet| packet.state).collect();
    assert_eq!(states, [State::AdminDown, State::AdminDown]);
    bench.run(Duration::from_secs(60));
    assert!(bench.registry.is_empty());
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let link_local = Path::single_hop(address("fe80::2"));
    let table = [
        (link_local, Refusal::LinkLocalWithoutInterface),
        (Path { hops: Hops::Multi, interface: Some(interface(7)), ..link_local }, Refusal::LinkLocalMultiHop),
        (Path { local: Some(address("2001:db8::1")), ..single_hop() }, Refusal::FamiliesDiffer),
    ];
    for (path, refusal) in table {
        let mut bench = Bench::new();
        assert_eq!(bench.watch("a", path, profile(300, 3)), [Output::Refused { client: "a", refusal }]);
        assert!(bench.registry.is_empty());
        // A client that had a session has none now.
        let (mut bench, _) = Bench::with_session(single_hop(), profile(300, 3));
        assert!(bench.watch("a", path, profile(300, 3)).contains(&Output::Refused { client: "a", refusal }));
        assert_eq!(bench.view(single_hop()).clients, Vec::<&str>::new());
    }
}

#[test]
fn views_are_the_same_in_new_memory_and_in_old() {
    let mut bench = Bench::new();
    let mut views = Vec::new();
    let steps: [fn(&mut Bench) -> Said; 6] = [
        |bench| bench.watch("a", single_hop(), profile(300, 3)),
        |bench| bench.watch("b", single_hop(), profile(100, 3)),
        |bench| bench.watch("b", multi_hop(), profile(100, 3)),
        |bench| bench.up(multi_hop()),
        |bench| bench.unwatch("a"),
        |bench| bench.run(Duration::from_secs(60)),
    ];
    for step in steps {
        step(&mut bench);
        bench.registry.sessions_into(&mut views);
        assert_eq!(views, bench.registry.sessions().collect::<Vec<_>>());
        let paths: BTreeSet<Path> = views.iter().map(|view| view.path).collect();
        assert_eq!(bench.registry.paths().copied().collect::<BTreeSet<_>>(), paths);
    }
}

#[test]
fn limits_refuse_more_sessions_and_more_clients() {
    let mut registry: Registry<usize> = Registry::new(Rng::new(1), EchoKey::new([7; 16]));
    let mut out = Outbox::with_limit(OUTBOX_MAX);
    let path = |number: usize| Path::single_hop(IpAddr::from([10, 0, (number >> 8) as u8, number as u8]));
    let mut watch = |client: usize, path: Path| {
        registry.handle(Instant::ZERO, Input::Watch { client: &client, path, profile: profile(300, 3) }, &mut out);
        let said: Vec<_> = out.drain().collect();
        said.into_iter().find_map(|output| match output {
            Output::Refused { refusal, .. } => Some(refusal),
            _ => None,
        })
    };
    for client in 0..SESSIONS_MAX {
        assert_eq!(watch(client, path(client)), None);
    }
    assert_eq!(watch(SESSIONS_MAX, path(SESSIONS_MAX)), Some(Refusal::TooManySessions));
    for client in SESSIONS_MAX..CLIENTS_MAX {
        assert_eq!(watch(client, path(0)), None);
    }
    assert_eq!(watch(CLIENTS_MAX, path(0)), Some(Refusal::TooManyClients));
    assert_eq!(watch(0, path(0)), None, "who is there already may stay");
    registry.check_invariants();
    // Everything that can happen at once fits into the outbox.
    registry.handle(Instant::ZERO + Duration::from_secs(2), Input::Tick, &mut out);
    registry.handle(Instant::ZERO + Duration::from_secs(2), Input::UnwatchAll, &mut out);
    assert_eq!(out.dropped(), 0);
}

#[test]
fn rfc5880_6_8_1_discriminators_are_unique_and_cannot_be_guessed() {
    let mut seen = BTreeSet::new();
    for seed in 0..20 {
        let mut registry: Registry<u8> = Registry::new(Rng::new(seed), EchoKey::new([7; 16]));
        let mut out = Outbox::with_limit(OUTBOX_MAX);
        for client in 0..100 {
            let path = Path::single_hop(IpAddr::from([10, 0, 0, client]));
            registry.handle(Instant::ZERO, Input::Watch { client: &client, path, profile: profile(300, 3) }, &mut out);
        }
        seen.extend(registry.sessions().map(|session| session.local.my_discriminator));
    }
    assert_eq!(seen.len(), 2000, "no two are equal, also not after a restart");
}

#[test]
fn rfc5880_6_3_a_packet_that_knows_us_is_taken_by_its_discriminator_alone() {
    let (mut bench, id) = Bench::with_session(single_hop(), profile(300, 3));
    let elsewhere = Arrival {
        source: address("203.0.113.9"),
        local: address("203.0.113.1"),
        interface: Some(interface(8)),
        ..arrival(single_hop(), bench.now)
    };
    let said = bench.receive(ControlPacket { poll: true, ..packet(State::Up, Some(id)) }, elsewhere);
    assert!(packets(&said)[0].final_bit);
    // RFC 5881 section 6: what we send still goes where it was configured to go.
    assert!(said.iter().any(|output| matches!(output, Output::SendControl { path, .. } if *path == single_hop())));
}

#[test]
fn rfc5881_3_a_packet_that_does_not_know_us_is_taken_by_where_it_comes_from() {
    let remote = address("fe80::2");
    let on = |number| Path { interface: Some(interface(number)), ..Path::single_hop(remote) };
    let plain = single_hop();
    let from = Path { local: Some(address("192.0.2.7")), ..plain };
    let far = Path { hops: Hops::Multi, ..plain };
    let in_vrf = Path { vrf: Some(interface(9)), ..plain };
    // A path that says by which interface is nearer to the truth than one that says from which address.
    let over = Path { interface: Some(interface(5)), ..plain };
    let paths = [on(3), on(4), plain, from, over, far, in_vrf];
    let mut bench = Bench::new();
    for (name, path) in ["3", "4", "plain", "from", "over", "far", "vrf"].into_iter().zip(paths) {
        bench.watch(name, path, Profile { minimum_ttl: 1, ..profile(300, 3) });
    }
    for path in paths {
        bench.receive(packet(State::Down, None), arrival(path, bench.now));
        let heard: Vec<Path> = bench.registry.sessions().filter(|it| it.remote.is_some()).map(|it| it.path).collect();
        assert_eq!(heard, [path]);
        bench.run(Duration::from_secs(10));
    }
    bench.receive(packet(State::Down, None), Arrival { interface: over.interface, ..arrival(from, bench.now) });
    assert!(bench.view(over).remote.is_some() && bench.view(from).remote.is_none());
    bench.run(Duration::from_secs(10));
    let nobody = [
        Arrival { source: address("192.0.2.3"), ..arrival(plain, bench.now) },
        Arrival { interface: Some(interface(5)), ..arrival(on(3), bench.now) },
        Arrival { vrf: Some(interface(8)), ..arrival(in_vrf, bench.now) },
    ];
    for stranger in nobody {
        bench.receive(packet(State::Down, None), stranger);
        assert!(bench.registry.sessions().all(|session| session.remote.is_none()));
    }
    assert_eq!(bench.registry.discards()[&Discard::NoSession], 3);
}

#[test]
fn rfc5881_2_each_family_has_a_session_of_its_own() {
    let mut bench = Bench::new();
    bench.watch("v4", single_hop(), profile(300, 3));
    bench.watch("v6", Path::single_hop(address("2001:db8::2")), profile(300, 3));
    assert_eq!(bench.registry.sessions().count(), 2);
    bench.up(single_hop());
    assert_eq!(bench.state_of(Path::single_hop(address("2001:db8::2"))), State::Down);
}

#[test]
fn rfc5880_6_8_6_every_reason_to_discard_a_packet() {
    let (mut bench, id) = Bench::with_session(single_hop(), profile(300, 3));
    bench.watch("b", multi_hop(), Profile { minimum_ttl: 250, ..profile(300, 3) });
    bench.up(multi_hop());
    let far = bench.id_of(multi_hop());
    let good = packet(State::Up, Some(id));
    let stranger = Discriminator::new(id.get() ^ 1);
    let near = arrival(single_hop(), bench.now);
    let distant = arrival(multi_hop(), bench.now);
    let authenticated = {
        let mut bytes = [good.encode().as_slice(), &[1, 9, 1, 2, 3, 4, 5, 6, 7]].concat();
        bytes[1] |= 0x04;
        bytes[3] = 33;
        bytes
    };
    let zero = |state| packet(state, None).encode().to_vec();
    let table: [(Vec<u8>, Arrival, Option<Discard>); 16] = [
        (good.encode().to_vec(), near, None),
        (good.encode()[..23].to_vec(), near, Some(Discard::Truncated)),
        (packet(State::Up, stranger).encode().to_vec(), near, Some(Discard::YourDiscriminatorUnknown)),
        (zero(State::Up), near, Some(Discard::YourDiscriminatorZero)),
        (zero(State::Init), near, Some(Discard::YourDiscriminatorZero)),
        (zero(State::Down), Arrival { source: address("192.0.2.3"), ..near }, Some(Discard::NoSession)),
        (authenticated, near, Some(Discard::Authenticated)),
        // RFC 5881 section 4 and RFC 5883 section 5: the ports are not interchangeable.
        (good.encode().to_vec(), Arrival { hops: Hops::Multi, ..near }, Some(Discard::Port)),
        (
            packet(State::Up, Some(far)).encode().to_vec(),
            Arrival { hops: Hops::Single, ..distant },
            Some(Discard::Port),
        ),
        (good.encode().to_vec(), Arrival { vrf: Some(interface(9)), ..near }, Some(Discard::Vrf)),
        // RFC 5881 section 5.
        (good.encode().to_vec(), Arrival { ttl: 254, ..near }, Some(Discard::TtlSingleHop)),
        (good.encode().to_vec(), Arrival { ttl: 0, ..near }, Some(Discard::TtlSingleHop)),
        (zero(State::Down), Arrival { ttl: 254, ..near }, Some(Discard::TtlSingleHop)),
        // Contract 1.7: minimumTtl.
        (packet(State::Up, Some(far)).encode().to_vec(), Arrival { ttl: 249, ..distant }, Some(Discard::TtlMultiHop)),
        (packet(State::Up, Some(far)).encode().to_vec(), Arrival { ttl: 250, ..distant }, None),
        (packet(State::Up, Some(far)).encode().to_vec(), distant, None),
    ];
    let mut expected: BTreeMap<Discard, u64> = BTreeMap::new();
    for (payload, arrival, discard) in table {
        bench.tell(Input::Control { payload: &payload, arrival });
        if let Some(discard) = discard {
            *expected.entry(discard).or_default() += 1;
        }
        assert_eq!(*bench.registry.discards(), expected);
    }
    // The two of the beginning, and those that were good.
    assert_eq!(bench.view(single_hop()).counters.control_packet_input, 3);
    assert_eq!(bench.view(multi_hop()).counters.control_packet_input, 4);
}

#[test]
fn discards_are_counted_always_and_reported_seldom() {
    let mut bench = Bench::new();
    let mut reports = Vec::new();
    for _ in 0..100 {
        reports.extend(bench.tell(Input::Control { payload: &[], arrival: arrival(single_hop(), bench.now) }));
    }
    bench.now += DISCARD_REPORT_INTERVAL;
    reports.extend(bench.tell(Input::Control { payload: &[], arrival: arrival(single_hop(), bench.now) }));
    let report = |more| Output::Discarded { discard: Discard::Truncated, source: Some(address("192.0.2.2")), more };
    assert_eq!(reports, [report(0), report(99)]);
    assert_eq!(bench.registry.discards()[&Discard::Truncated], 101);
}

#[test]
fn a_link_that_is_down_takes_its_sessions_down_at_once() {
    let on = |number| Path { interface: Some(interface(number)), ..single_hop() };
    let mut bench = Bench::new();
    let paths = [("3", on(3)), ("4", on(4)), ("any", single_hop()), ("far", multi_hop())];
    for (client, path) in paths {
        bench.watch(client, path, profile(300, 3));
    }
    bench.up(on(3));
    bench.up(on(4));
    // This one came in by interface 7.
    bench.up(single_hop());
    bench.up(multi_hop());
    let said = bench.tell(Input::LinkDown { interface: interface(3) });
    assert_eq!(changes(&said), [("3", Change::Down(DownReason::PathDown))]);
    let said = bench.tell(Input::LinkDown { interface: interface(7) });
    assert_eq!(changes(&said), [("any", Change::Down(DownReason::PathDown))], "packets to far places find other ways");
    assert_eq!(changes(&bench.up(on(3))), [("3", Change::Up)], "when it works again, the neighbours find each other");
}

/// A session that sends echo packets, with the first of them.
fn echoing() -> (Bench, Discriminator, EchoDatagram) {
    let (mut bench, id) = Bench::with_session(single_hop(), Profile { echo: EchoMode::On, ..profile(300, 3) });
    let ready = ControlPacket { required_min_echo_rx: millis(50), ..packet(State::Up, Some(id)) };
    let said = bench.receive(ready, arrival(single_hop(), bench.now));
    let sent = said.iter().find_map(|output| match output {
        Output::SendEcho { session, remote, interface: over, datagram } => {
            assert_eq!((*session, *remote, *over), (id, address("192.0.2.2"), interface(7)));
            Some(*datagram)
        }
        _ => None,
    });
    (bench, id, sent.expect("an echo packet is sent"))
}

fn payload_of(datagram: &EchoDatagram) -> Vec<u8> {
    crate::wire::Datagram::decode(datagram.bytes()).expect("it is a datagram").payload.to_vec()
}

#[test]
fn rfc5880_6_8_8_an_echo_packet_counts_for_the_session_that_sent_it_and_only_if_it_did() {
    let (mut bench, id, sent) = echoing();
    let payload = payload_of(&sent);
    let mut forged = payload.clone();
    forged[5] ^= 1;
    let mut foreign = payload.clone();
    foreign[0] ^= 1;
    let counted = |bench: &Bench| bench.view(single_hop()).counters.echo_packet_input;
    for (payload, ttl, reason) in [
        (&forged, 254, Some(Discard::EchoForged)),
        // It was on the link only, and not forwarded.
        (&payload, 255, Some(Discard::EchoTtl)),
        (&payload, 253, Some(Discard::EchoTtl)),
        (&foreign, 254, None),
        (&vec![1, 2, 3], 254, None),
    ] {
        let before = bench.registry.discards().clone();
        bench.tell(Input::EchoReturned { payload, ttl });
        let more = reason.map(|reason| before.get(&reason).copied().unwrap_or(0) + 1);
        assert_eq!(reason.and_then(|reason| bench.registry.discards().get(&reason).copied()), more);
        assert_eq!((counted(&bench), bench.view(single_hop()).echo), (0, EchoState::Probing));
    }
    bench.tell(Input::EchoReturned { payload: &payload, ttl: 254 });
    assert_eq!((counted(&bench), bench.view(single_hop()).echo), (1, EchoState::Active));
    bench.tell(Input::EchoReturned { payload: &payload, ttl: 254 });
    assert_eq!((counted(&bench), bench.registry.discards()[&Discard::EchoReplayed]), (1, 1));
    // The driver is told when no more will be sent, and not when it is for a while only.
    let stop = Output::StopEcho { session: id };
    assert!(!bench.receive(packet(State::Up, Some(id)), arrival(single_hop(), bench.now)).contains(&stop));
    assert!(bench.watch("a", single_hop(), profile(300, 3)).contains(&stop));
}

#[test]
fn an_echo_packet_that_did_not_go_out_is_not_counted_and_not_missed() {
    let (mut bench, id, sent) = echoing();
    bench.tell(Input::EchoReturned { payload: &payload_of(&sent), ttl: 254 });
    let until = bench.now + Duration::from_secs(2);
    while bench.now < until {
        let said = bench.run(millis(10));
        for output in &said {
            if let Output::SendEcho { session, .. } = output {
                bench.tell(Input::EchoUnsent { session: *session });
            }
        }
        let hears = ControlPacket { required_min_echo_rx: millis(50), ..packet(State::Up, Some(id)) };
        bench.receive(hears, arrival(single_hop(), bench.now));
    }
    let view = bench.view(single_hop());
    assert_eq!((view.local.state, view.counters.echo_packet_output), (State::Up, 1));
}

#[test]
fn rfc5881_4_echo_packets_of_a_neighbour_are_returned_while_its_session_is_up() {
    let (mut bench, _) = Bench::with_session(single_hop(), profile(300, 3));
    let request = |bench: &Bench| Input::EchoRequested { arrival: arrival(single_hop(), bench.now) };
    assert_eq!(bench.tell(request(&bench)), [], "we said that we return none");
    bench.tell(Input::Forwarding { family: Family::V6, forwarding: Forwarding::On });
    assert_eq!(bench.tell(request(&bench)), []);
    let said = bench.tell(Input::Forwarding { family: Family::V4, forwarding: Forwarding::On });
    assert_eq!(
        packets(&said)[0].required_min_echo_rx,
        millis(50),
        "and the neighbour is told at once that it may send"
    );
    assert_eq!(bench.tell(request(&bench)), [Output::ReturnEcho]);
    let from_afar = Arrival { ttl: 254, ..arrival(single_hop(), bench.now) };
    assert_eq!(discards(&bench.tell(Input::EchoRequested { arrival: from_afar })), [Discard::TtlSingleHop]);
    bench.run(DISCARD_REPORT_INTERVAL);
    let stranger = Arrival { source: address("192.0.2.3"), ..arrival(single_hop(), bench.now) };
    assert_eq!(discards(&bench.tell(Input::EchoRequested { arrival: stranger })), [Discard::NoSession]);
    assert_eq!(bench.state_of(single_hop()), State::Down);
    assert_eq!(bench.tell(request(&bench)), [], "the session is not up");
}

#[test]
fn counters_count_what_contract_8_4_names() {
    let (mut bench, id, sent) = echoing();
    bench.tell(Input::EchoReturned { payload: &payload_of(&sent), ttl: 254 });
    bench.receive(packet(State::Down, Some(id)), arrival(single_hop(), bench.now));
    bench.receive(packet(State::Init, Some(id)), arrival(single_hop(), bench.now));
    let counters = bench.view(single_hop()).counters;
    assert_eq!(
        counters,
        crate::Counters {
            control_packet_input: 5,
            control_packet_output: counters.control_packet_output,
            echo_packet_input: 1,
            echo_packet_output: 1,
            session_up_events: 2,
            session_down_events: 1,
            zebra_notifications: 3,
        }
    );
    assert!((4..=8).contains(&counters.control_packet_output), "{counters:?}");
    assert_eq!(bench.view(single_hop()).last_down, Some(DownReason::NeighborSignaledDown(Diagnostic::None)));
}

#[test]
fn mutated_packets_break_nothing_and_make_no_more_traffic_than_they_are() {
    let (mut bench, id, echo) = echoing();
    bench.watch("far", multi_hop(), profile(10, 2));
    bench.tell(Input::Forwarding { family: Family::V4, forwarding: Forwarding::On });
    let far = bench.id_of(multi_hop());
    let mut samples: Vec<Vec<u8>> = Vec::new();
    for state in State::ALL {
        for yours in [None, Some(id), Some(far)] {
            samples.push(packet(state, yours).encode().to_vec());
            samples.push(ControlPacket { poll: true, demand: true, ..packet(state, yours) }.encode().to_vec());
        }
    }
    samples.push(payload_of(&echo));
    let mut random = Rng::new(5880);
    let mut pick = |bound: u64| random.below(bound);
    for _ in 0..MUTATED {
        let mut bytes = samples[pick(samples.len() as u64) as usize].clone();
        for _ in 0..pick(4) {
            let at = pick(bytes.len() as u64) as usize;
            match pick(4) {
                0 => bytes[at] ^= 1 << pick(8),
                1 => bytes[at] = pick(256) as u8,
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, pick(256) as u8),
            }
        }
        let path = if pick(2) == 0 { single_hop() } else { multi_hop() };
        let ttl = if pick(8) == 0 { pick(256) as u8 } else { 255 };
        let arrival = Arrival { ttl, ..arrival(path, bench.now) };
        let said = match pick(10) {
            0 => bench.tell(Input::EchoReturned { payload: &bytes, ttl: 254 }),
            1 => bench.tell(Input::EchoRequested { arrival }),
            _ => bench.tell(Input::Control { payload: &bytes, arrival }),
        };
        // An answer, news, and an echo packet when the session has just come up.
        let sent = said.iter().filter(|it| matches!(it, Output::SendControl { .. } | Output::SendEcho { .. })).count();
        assert!(sent <= 3, "{said:?}");
        bench.now += Duration::from_micros(pick(20_000));
        bench.tell(Input::Tick);
        assert!(bench.registry.next_deadline().is_none_or(|deadline| deadline > bench.now), "no tick is due for ever");
    }
    assert_eq!(bench.registry.sessions().count(), 2);
}
