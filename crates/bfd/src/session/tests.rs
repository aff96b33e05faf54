//! One session, packet by packet: every input in every state, and each rule of RFC 5880 section 6.8 about time.

use super::*;

use std::fmt::Write as _;
use std::num::NonZeroU8;

use expect_test::expect;

const LOCAL: &str = "192.0.2.1";
const REMOTE: &str = "192.0.2.2";

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

/// A neighbour's packet that knows us: 100 ms both ways, times 3.
fn packet(state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::None,
        state,
        poll: false,
        final_bit: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: Discriminator::new(2).unwrap(),
        your_discriminator: Discriminator::new(1),
        desired_min_tx: millis(100),
        required_min_rx: millis(100),
        required_min_echo_rx: Duration::ZERO,
    }
}

/// A session with a clock, and what it said.
struct Bench {
    session: Session,
    now: Instant,
    out: Outbox<Output>,
}

impl Bench {
    fn new(profile: Profile) -> Self {
        Bench::over(Path::single_hop(REMOTE.parse().unwrap()), profile)
    }

    fn over(path: Path, profile: Profile) -> Self {
        let id = Discriminator::new(1).unwrap();
        let session = Session::new(Instant::ZERO, path, profile, Forwarding::Off, id, Rng::new(1));
        Bench { session, now: Instant::ZERO, out: Outbox::with_limit(1 << 16) }
    }

    /// A session in this state, with a neighbour where there is one, and nothing left to say.
    fn in_state(state: State, profile: Profile) -> Self {
        let mut bench = Bench::new(profile);
        bench.tick();
        match state {
            State::Down => {}
            State::AdminDown => bench.tell(Input::Disable),
            State::Init => bench.receive(packet(State::Down)),
            State::Up => {
                bench.receive(packet(State::Down));
                bench.receive(packet(State::Init));
                // The answer to our poll, and one that is none.
                bench.receive(ControlPacket { final_bit: true, ..packet(State::Up) });
                bench.receive(packet(State::Up));
            }
        }
        assert_eq!(bench.session.state(), state);
        bench.out.drain().for_each(drop);
        bench
    }

    fn up(profile: Profile) -> Self {
        Bench::in_state(State::Up, profile)
    }

    fn tell(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input, &mut self.out);
        self.session.check_invariants();
    }

    fn tick(&mut self) {
        self.tell(Input::Tick);
    }

    fn receive(&mut self, packet: ControlPacket) {
        self.receive_late(packet, Duration::ZERO);
    }

    /// Receives a packet that has waited in the kernel.
    fn receive_late(&mut self, packet: ControlPacket, waited: Duration) {
        let arrival = Arrival {
            received_at: Instant::ZERO + (self.now.since(Instant::ZERO) - waited),
            source: REMOTE.parse().unwrap(),
            local: LOCAL.parse().unwrap(),
            interface: InterfaceIndex::new(7),
            vrf: None,
            ttl: 255,
            hops: self.session.path().hops,
        };
        self.tell(Input::Packet { packet: &packet, arrival: &arrival });
    }

    /// Ticks at each deadline until this much time has passed.
    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(deadline) = self.session.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.tick();
        }
        self.now = until;
    }

    /// As `run`, while the neighbour sends this packet every so often.
    fn run_hearing(&mut self, span: Duration, packet: ControlPacket, interval: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.run(interval);
            self.receive(packet);
        }
    }

    fn said(&mut self) -> Vec<Output> {
        self.out.drain().collect()
    }

    fn packets(&mut self) -> Vec<ControlPacket> {
        let packets = self.said().into_iter().filter_map(|output| match output {
            Output::Control(packet) => Some(packet),
            _ => None,
        });
        packets.collect()
    }

    fn changes(&mut self) -> Vec<Change> {
        let changes = self.said().into_iter().filter_map(|output| match output {
            Output::Changed(change) => Some(change),
            _ => None,
        });
        changes.collect()
    }
}

/// What is said, shortly.
fn shown(outputs: &[Output]) -> String {
    let mut text = String::new();
    for output in outputs {
        match output {
            Output::Control(packet) => {
                let bits = [(packet.poll, "+poll"), (packet.final_bit, "+final")];
                let bits: String = bits.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
                let _ = write!(text, " send {}{bits}", packet.state);
                if packet.diagnostic != Diagnostic::None {
                    let _ = write!(text, "({})", packet.diagnostic.code());
                }
            }
            Output::Echo { .. } => text.push_str(" echo"),
            Output::Changed(Change::Up) => text.push_str(" told up"),
            Output::Changed(Change::Down(reason)) => {
                let _ = write!(text, " told down: {reason}");
            }
        }
    }
    text
}

type Step = (&'static str, fn(&mut Bench));

#[test]
fn rfc5880_6_2_every_input_in_every_state() {
    let inputs: [Step; 12] = [
        ("AdminDown", |bench| bench.receive(packet(State::AdminDown))),
        ("Down", |bench| bench.receive(packet(State::Down))),
        ("Init", |bench| bench.receive(packet(State::Init))),
        ("Up", |bench| bench.receive(packet(State::Up))),
        ("Up+poll", |bench| bench.receive(ControlPacket { poll: true, ..packet(State::Up) })),
        ("Up+final", |bench| bench.receive(ControlPacket { final_bit: true, ..packet(State::Up) })),
        ("silence", |bench| {
            // Only what comes of the silence: what is sent all the time is in the tests of timers.
            bench.run(millis(5000));
            let said: Vec<_> = bench.said();
            let is_news =
                |output: &&Output| !matches!(output, Output::Control(packet) if packet.diagnostic == Diagnostic::None);
            let news: Vec<_> = said.iter().filter(is_news).take(2).cloned().collect();
            for output in news {
                bench.out.push(output);
            }
        }),
        ("path down", |bench| bench.tell(Input::PathDown)),
        ("disable", |bench| bench.tell(Input::Disable)),
        ("enable", |bench| bench.tell(Input::Enable)),
        ("profile", |bench| bench.tell(Input::Profile(profile(2000, 2000, 5)))),
        ("forwarding", |bench| bench.tell(Input::Forwarding(Forwarding::On))),
    ];
    let mut table = String::new();
    for state in State::ALL {
        for (name, input) in inputs {
            let mut bench = Bench::in_state(state, profile(100, 100, 3));
            input(&mut bench);
            let said = bench.said();
            let _ =
                writeln!(table, "{state:<9} {name:<10} -> {:<9}{}", bench.session.state().to_string(), shown(&said));
        }
    }
    expect![[r#"
        AdminDown AdminDown  -> AdminDown send AdminDown(7)
        AdminDown Down       -> AdminDown send AdminDown(7)
        AdminDown Init       -> AdminDown send AdminDown(7)
        AdminDown Up         -> AdminDown send AdminDown(7)
        AdminDown Up+poll    -> AdminDown send AdminDown(7)
        AdminDown Up+final   -> AdminDown send AdminDown(7)
        AdminDown silence    -> AdminDown send AdminDown(7) send AdminDown(7)
        AdminDown path down  -> AdminDown
        AdminDown disable    -> AdminDown
        AdminDown enable     -> Down      send Down
        AdminDown profile    -> AdminDown send AdminDown+poll(7)
        AdminDown forwarding -> AdminDown send AdminDown(7)
        Down AdminDown  -> Down      send Down
        Down Down       -> Init      send Init
        Down Init       -> Up        told up send Up+poll
        Down Up         -> Down      send Down
        Down Up+poll    -> Down      send Down+final
        Down Up+final   -> Down      send Down
        Down silence    -> Down
        Down path down  -> Down
        Down disable    -> AdminDown send AdminDown(7)
        Down enable     -> Down
        Down profile    -> Down      send Down+poll
        Down forwarding -> Down      send Down
        Init AdminDown  -> Down      send Down(3)
        Init Down       -> Init
        Init Init       -> Up        told up send Up+poll
        Init Up         -> Up        told up send Up+poll
        Init Up+poll    -> Up        told up send Up+final
        Init Up+final   -> Up        told up send Up+poll
        Init silence    -> Down      send Down(1) send Down(1)
        Init path down  -> Down      send Down(5)
        Init disable    -> AdminDown send AdminDown(7)
        Init enable     -> Init
        Init profile    -> Init      send Init+poll
        Init forwarding -> Init      send Init
        Up AdminDown  -> Down      told down: the neighbour's side is administratively down send Down+poll(3)
        Up Down       -> Down      told down: the neighbour signalled that the session is down: no diagnostic send Down+poll(3)
        Up Init       -> Up
        Up Up         -> Up
        Up Up+poll    -> Up        send Up+final
        Up Up+final   -> Up
        Up silence    -> Down      told down: nothing was heard from the neighbour for the detection time send Down+poll(1)
        Up path down  -> Down      told down: the interface is down send Down+poll(5)
        Up disable    -> AdminDown told down: the session was switched off send AdminDown+poll(7)
        Up enable     -> Up
        Up profile    -> Up        send Up+poll
        Up forwarding -> Up        send Up
    "#]].assert_eq(&table.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>());
}

#[test]
fn rfc5880_6_8_1_a_new_session_knows_nothing() {
    let bench = Bench::new(profile(50, 50, 3));
    let local = bench.session.local();
    assert_eq!((local.state, local.diagnostic, local.your_discriminator), (State::Down, Diagnostic::None, None));
    assert_eq!(local.desired_min_tx, SLOW_INTERVAL);
    assert!(!local.demand && bench.session.remote().is_none() && bench.session.detection_time().is_none());
    // bfd.RemoteMinRxInterval begins at 1 µs: only our own wish counts.
    assert_eq!(bench.session.transmit_interval(), Some(SLOW_INTERVAL));
}

#[test]
fn rfc5880_6_1_an_active_session_speaks_first_and_a_passive_one_when_it_has_heard() {
    let mut active = Bench::new(profile(100, 100, 3));
    active.run(millis(10_000));
    assert!((10..=14).contains(&active.packets().len()));

    let mut passive = Bench::new(Profile { role: Role::Passive, ..profile(100, 100, 3) });
    assert_eq!(passive.session.next_deadline(), None);
    passive.run(millis(10_000));
    assert_eq!(passive.packets(), []);
    passive.receive(ControlPacket { your_discriminator: None, ..packet(State::Down) });
    assert_eq!(passive.packets().iter().map(|packet| packet.state).collect::<Vec<_>>(), [State::Init]);
    passive.receive(packet(State::Init));
    assert_eq!(passive.session.state(), State::Up);
    // RFC 5880 section 6.8.7: a passive side is silent again when the neighbour is not heard any more.
    passive.run(millis(300));
    assert_eq!(passive.session.state(), State::Down);
    assert!(passive.packets().iter().all(|packet| packet.state == State::Up), "not even that it is down");
    passive.run(millis(10_000));
    assert_eq!(passive.packets(), []);
}

#[test]
fn rfc5880_6_8_1_a_silent_neighbour_is_forgotten_after_a_detection_time() {
    let mut bench = Bench::in_state(State::Down, profile(100, 100, 3));
    bench.receive(packet(State::AdminDown));
    assert_eq!(bench.session.local().your_discriminator, Discriminator::new(2));
    bench.run(millis(299));
    assert_eq!(bench.session.local().your_discriminator, Discriminator::new(2), "kept for a detection time");
    bench.run(millis(1));
    assert_eq!(bench.session.local().your_discriminator, None);
}

#[test]
fn rfc5880_6_8_4_the_detection_time_is_the_neighbours_multiplier_times_the_slower_interval() {
    for (ours_ms, theirs_ms, multiplier, expected_ms) in [
        (100, 100, 3, 300),
        (50, 100, 3, 300),
        (100, 50, 3, 300),
        (100, 50, 7, 700),
        (100, 100, 1, 100),
        (60, 61, 2, 122),
    ] {
        let mut bench = Bench::up(profile(100, ours_ms, 9));
        bench.receive(ControlPacket {
            desired_min_tx: millis(theirs_ms),
            detect_multiplier: NonZeroU8::new(multiplier).unwrap(),
            ..packet(State::Up)
        });
        bench.said();
        assert_eq!(bench.session.detection_time(), Some(millis(expected_ms)));
        bench.run(millis(expected_ms) - Duration::from_micros(1));
        assert_eq!(bench.session.state(), State::Up);
        bench.run(Duration::from_micros(1));
        assert_eq!(bench.changes(), [Change::Down(DownReason::DetectionExpired)]);
        assert_eq!(bench.session.local().diagnostic, Diagnostic::DetectionExpired);
    }
}

#[test]
fn rfc5880_6_8_4_time_runs_from_when_the_kernel_got_the_packet() {
    let mut bench = Bench::up(profile(100, 100, 3));
    bench.now += millis(200);
    bench.receive_late(packet(State::Up), millis(150));
    bench.said();
    bench.run(millis(149));
    assert_eq!(bench.session.state(), State::Up);
    bench.run(millis(1));
    assert_eq!(bench.session.state(), State::Down);
}

#[test]
fn a_late_program_does_not_take_a_living_neighbour_for_dead() {
    let mut bench = Bench::up(profile(100, 100, 3));
    // The program was asleep for ten seconds, and the kernel had room for the first few packets only.
    bench.now += millis(10_000);
    bench.receive_late(packet(State::Up), millis(9_800));
    bench.tick();
    assert_eq!(bench.session.state(), State::Up);
    bench.run(millis(99));
    bench.receive(packet(State::Up));
    bench.run(millis(200));
    assert_eq!(bench.changes(), []);
    // And a dead one is found out an interval later.
    let mut bench = Bench::up(profile(100, 100, 3));
    bench.now += millis(10_000);
    bench.tick();
    bench.run(millis(99));
    assert_eq!(bench.session.state(), State::Up);
    bench.run(millis(1));
    assert_eq!(bench.changes(), [Change::Down(DownReason::DetectionExpired)]);
}

#[test]
fn rfc5880_6_8_3_unless_up_packets_go_out_once_a_second_at_most() {
    for state in [State::Down, State::Init, State::AdminDown] {
        let mut bench = Bench::in_state(state, profile(10, 10, 3));
        let hearing = if state == State::Init { State::Down } else { State::AdminDown };
        bench.run_hearing(millis(20_000), packet(hearing), millis(100));
        let packets = bench.packets();
        assert!(packets.len() <= 29, "{state}: {}", packets.len());
        assert!(packets.iter().all(|packet| packet.desired_min_tx == SLOW_INTERVAL));
    }
}

#[test]
fn rfc5880_6_8_7_periodic_packets_come_at_the_negotiated_interval_less_up_to_a_quarter() {
    for (multiplier, latest_ms) in [(3, 100), (1, 90)] {
        let mut bench = Bench::up(profile(100, 100, multiplier));
        let mut spans = Vec::new();
        let mut last = None;
        for _ in 0..60_000 {
            bench.run(millis(1));
            if bench.now.as_micros().is_multiple_of(50_000) {
                bench.receive(packet(State::Up));
            }
            if !bench.packets().is_empty() {
                spans.extend(last.map(|last| bench.now.since(last).as_millis()));
                last = Some(bench.now);
            }
        }
        // Times are seen in steps of a millisecond.
        let (low, high) = (*spans.iter().min().unwrap(), *spans.iter().max().unwrap());
        assert!(low >= 74 && high <= latest_ms + 1, "{multiplier}: {low} to {high}");
        assert!(high - low >= 10, "jitter is applied to each packet: {low} to {high}");
    }
}

#[test]
fn rfc5880_6_8_7_no_periodic_packets_for_a_neighbour_that_wants_none() {
    let mut bench = Bench::up(profile(100, 100, 3));
    let wants_none = ControlPacket { required_min_rx: Duration::ZERO, ..packet(State::Up) };
    bench.receive(wants_none);
    bench.said();
    bench.run_hearing(millis(5000), wants_none, millis(100));
    assert_eq!(bench.packets(), []);
    // Answers and news are no periodic packets.
    bench.receive(ControlPacket { poll: true, ..wants_none });
    bench.tell(Input::Profile(profile(100, 100, 4)));
    assert_eq!(shown(&bench.said()), " send Up+final send Up");
    bench.run_hearing(millis(1000), packet(State::Up), millis(100));
    assert!(bench.packets().len() >= 10);
}

#[test]
fn rfc5880_6_6_and_6_8_7_no_periodic_packets_in_demand_mode_but_polls() {
    let mut bench = Bench::up(profile(100, 100, 3));
    let demand = ControlPacket { demand: true, ..packet(State::Up) };
    bench.receive(demand);
    bench.said();
    bench.run_hearing(millis(5000), demand, millis(100));
    assert_eq!(bench.packets(), []);
    // RFC 5880 section 6.6: whatever changes is polled, and the poll repeated until it is answered.
    bench.tell(Input::Profile(profile(100, 100, 4)));
    assert_eq!(shown(&bench.said()), " send Up+poll");
    bench.run_hearing(millis(500), demand, millis(100));
    let polls = bench.packets();
    assert!(polls.len() >= 4 && polls.iter().all(|packet| packet.poll), "{polls:?}");
    bench.receive(ControlPacket { final_bit: true, ..demand });
    bench.run_hearing(millis(5000), demand, millis(100));
    assert_eq!(bench.packets(), []);
    // RFC 5880 section 6.8.14: periodic packets begin again when it ends, or when the session is not up.
    bench.run_hearing(millis(1000), packet(State::Up), millis(100));
    assert!(bench.packets().len() >= 10);
}

#[test]
fn rfc5880_6_6_a_second_change_in_demand_mode_is_polled_too() {
    let mut bench = Bench::up(profile(100, 100, 3));
    let demand = ControlPacket { demand: true, ..packet(State::Up) };
    bench.receive(demand);
    bench.tell(Input::Profile(profile(100, 100, 4)));
    bench.tell(Input::Profile(profile(100, 100, 5)));
    bench.said();
    bench.receive(ControlPacket { final_bit: true, ..demand });
    bench.receive(demand);
    bench.run(millis(100));
    let polls = bench.packets();
    assert!(polls.len() == 1 && polls[0].poll && polls[0].detect_multiplier.get() == 5, "{polls:?}");
    bench.receive(ControlPacket { final_bit: true, ..demand });
    bench.run_hearing(millis(1000), demand, millis(100));
    assert_eq!(bench.packets(), []);
}

#[test]
fn rfc5880_6_5_a_poll_is_answered_at_once_with_final_and_without_poll() {
    // Our own poll runs when the neighbour's arrives.
    let mut bench = Bench::up(profile(100, 100, 3));
    bench.tell(Input::Profile(profile(400, 100, 3)));
    assert_eq!(shown(&bench.said()), " send Up+poll");
    let before = bench.session.next_deadline();
    bench.receive(ControlPacket { poll: true, ..packet(State::Up) });
    assert_eq!(shown(&bench.said()), " send Up+final");
    assert_eq!(bench.session.next_deadline(), before, "the answer takes the place of no periodic packet");
    for state in [State::Down, State::Init] {
        let mut bench = Bench::in_state(state, profile(100, 100, 3));
        bench.receive(ControlPacket { poll: true, ..packet(State::AdminDown) });
        let answers: Vec<_> = bench.packets().into_iter().filter(|packet| packet.final_bit).collect();
        assert_eq!(answers.len(), 1, "{state}");
    }
}

#[test]
fn rfc5880_6_5_a_poll_goes_on_until_it_is_answered() {
    let mut bench = Bench::up(profile(100, 100, 3));
    bench.tell(Input::Profile(profile(100, 400, 3)));
    bench.run_hearing(millis(2000), packet(State::Up), millis(100));
    let polls = bench.packets();
    assert!(polls.len() > 10 && polls.iter().all(|packet| packet.poll), "on the periodic packets, and no others");
    assert!(polls.len() < 30);
    bench.receive(ControlPacket { final_bit: true, ..packet(State::Up) });
    bench.run_hearing(millis(1000), packet(State::Up), millis(100));
    assert!(bench.packets().iter().all(|packet| !packet.poll));
}

#[test]
fn rfc5880_6_8_3_sending_less_often_waits_for_the_answer() {
    let mut bench = Bench::up(profile(100, 100, 3));
    bench.tell(Input::Profile(profile(1000, 100, 3)));
    let sent = bench.packets();
    assert!(sent[0].poll && sent[0].desired_min_tx == millis(1000));
    assert_eq!(bench.session.transmit_interval(), Some(millis(100)));
    bench.receive(ControlPacket { final_bit: true, ..packet(State::Up) });
    assert_eq!(bench.session.transmit_interval(), Some(millis(1000)));
}

#[test]
fn rfc5880_6_8_3_expecting_packets_sooner_waits_for_the_answer() {
    let mut bench = Bench::up(profile(100, 300, 3));
    bench.tell(Input::Profile(profile(100, 100, 3)));
    assert_eq!(bench.session.detection_time(), Some(millis(900)));
    bench.receive(ControlPacket { final_bit: true, ..packet(State::Up) });
    assert_eq!(bench.session.detection_time(), Some(millis(300)));
}

#[test]
fn rfc5880_6_8_3_a_shorter_interval_holds_from_the_last_packet_on() {
    let mut bench = Bench::up(profile(1000, 100, 3));
    bench.run_hearing(millis(3000), packet(State::Up), millis(100));
    bench.said();
    let long = bench.session.next_deadline();
    // The neighbour does not care, so ours is what counts; then it is ready for more.
    bench.tell(Input::Profile(profile(100, 100, 3)));
    assert_eq!(bench.session.transmit_interval(), Some(millis(100)));
    assert!(bench.session.next_deadline() <= long);
    bench.run(millis(100));
    assert!(!bench.packets().is_empty());

    let mut bench = Bench::up(profile(100, 100, 9));
    let slow = ControlPacket { required_min_rx: millis(2000), ..packet(State::Up) };
    bench.receive(slow);
    while bench.packets().is_empty() {
        bench.run_hearing(millis(100), slow, millis(100));
    }
    bench.run_hearing(millis(200), slow, millis(100));
    assert_eq!(bench.packets(), []);
    bench.receive(packet(State::Up));
    assert_eq!(bench.packets().len(), 1, "the neighbour's new interval is over already");
}

#[test]
fn rfc5880_6_8_7_news_does_not_wait_for_its_time() {
    let mut bench = Bench::up(profile(1000, 100, 3));
    bench.tell(Input::Profile(profile(1000, 100, 5)));
    let sent = bench.packets();
    assert_eq!(sent.len(), 1);
    // RFC 5880 section 6.8.12: a multiplier needs no poll.
    assert!(sent[0].detect_multiplier.get() == 5 && !sent[0].poll);
    bench.tell(Input::Forwarding(Forwarding::On));
    assert_eq!(bench.packets().iter().map(|packet| packet.required_min_echo_rx).collect::<Vec<_>>(), [millis(50)]);
    bench.receive(packet(State::Up));
    assert_eq!(bench.packets(), [], "nothing new");
}

#[test]
fn rfc5880_6_8_7_what_is_in_a_packet() {
    let mut bench = Bench::new(Profile { echo_interval: millis(62), ..profile(60, 61, 5) });
    bench.tell(Input::Forwarding(Forwarding::On));
    bench.receive(packet(State::Down));
    bench.receive(packet(State::Up));
    let sent: String = bench.packets().iter().map(|packet| format!("{packet}\n")).collect();
    expect![[r#"
        Down my=1 your=0 tx=1s rx=61ms echo=62ms x5
        Init my=1 your=2 tx=1s rx=61ms echo=62ms x5
        Up poll my=1 your=2 tx=60ms rx=61ms echo=62ms x5
    "#]]
    .assert_eq(&sent);
}

#[test]
fn rfc5880_6_8_16_an_administrator_stops_it_and_nothing_but_he_starts_it() {
    let mut bench = Bench::up(profile(100, 100, 3));
    bench.tell(Input::Disable);
    assert_eq!(shown(&bench.said()), " told down: the session was switched off send AdminDown+poll(7)");
    bench.run_hearing(millis(10_000), packet(State::Down), millis(1000));
    let packets = bench.packets();
    assert!(packets.len() >= 10, "the neighbour is told for as long as the session is there");
    assert!(packets.iter().all(|packet| packet.state == State::AdminDown));
    bench.tell(Input::Enable);
    bench.receive(packet(State::Down));
    bench.receive(packet(State::Init));
    assert_eq!(bench.session.state(), State::Up);
    assert_eq!(bench.session.local().diagnostic, Diagnostic::None);
}

#[test]
fn rfc5880_6_8_5_missing_echo_packets_take_the_session_down() {
    let mut bench = echoing(Profile { echo: EchoMode::On, ..profile(100, 100, 3) });
    let hears = ControlPacket { required_min_echo_rx: millis(80), ..packet(State::Up) };
    // As long as they return, and for three intervals of the slower side after that.
    for sequence in 1..=20 {
        bench.run_hearing(millis(80), hears, millis(80));
        bench.session.echo_returned(bench.now, sequence, &mut bench.out);
    }
    assert_eq!((bench.session.echo_state(), bench.changes()), (EchoState::Active, vec![]));
    bench.run_hearing(millis(3 * 80 - 40), hears, millis(40));
    assert_eq!(bench.changes(), []);
    bench.run_hearing(millis(160), hears, millis(40));
    assert_eq!(bench.changes(), [Change::Down(DownReason::EchoFailed)]);
    assert_eq!(bench.session.local().diagnostic, Diagnostic::EchoFailed);
    assert_eq!(bench.session.echo_state(), EchoState::Off);
}

/// A session that sends echo packets, of which none has returned.
fn echoing(profile: Profile) -> Bench {
    let mut bench = Bench::up(profile);
    bench.receive(ControlPacket { required_min_echo_rx: millis(80), ..packet(State::Up) });
    assert_eq!(bench.session.echo_state(), EchoState::Probing);
    bench.said();
    bench
}

fn echoes(bench: &mut Bench) -> usize {
    bench.said().iter().filter(|output| matches!(output, Output::Echo { .. })).count()
}

#[test]
fn rfc5880_6_8_9_echo_packets_only_while_up_and_as_often_as_the_neighbour_allows() {
    let on = Profile { echo: EchoMode::On, echo_interval: millis(50), ..profile(100, 100, 3) };
    let hears = ControlPacket { required_min_echo_rx: millis(80), ..packet(State::Up) };
    let mut bench = echoing(on);
    bench.run_hearing(millis(8000), hears, millis(80));
    let sent = echoes(&mut bench);
    assert!((100..=134).contains(&sent), "{sent}");
    // RFC 5880 section 6.8.6: they cease when the neighbour returns none any more.
    bench.receive(packet(State::Up));
    assert_eq!(bench.session.echo_state(), EchoState::Off);
    bench.run_hearing(millis(1000), packet(State::Up), millis(100));
    assert_eq!(echoes(&mut bench), 0);
    for not_up in [State::Down, State::AdminDown] {
        let mut bench = echoing(on);
        bench.receive(ControlPacket { required_min_echo_rx: millis(80), ..packet(not_up) });
        bench.said();
        bench.run_hearing(
            millis(1000),
            ControlPacket { required_min_echo_rx: millis(80), ..packet(not_up) },
            millis(100),
        );
        assert_eq!(echoes(&mut bench), 0);
    }
    // RFC 5880 section 6.8.13: on and off at any time, and RFC 5883 section 3: never over several hops.
    let mut bench = echoing(on);
    bench.tell(Input::Profile(Profile { echo: EchoMode::Off, ..on }));
    assert_eq!(bench.session.echo_state(), EchoState::Off);
    bench.tell(Input::Profile(on));
    assert_eq!(bench.session.echo_state(), EchoState::Probing);
}

#[test]
fn rfc5883_3_there_are_no_echo_packets_over_several_hops() {
    let on = Profile { echo: EchoMode::On, ..profile(100, 100, 3) };
    let mut bench = Bench::over(Path::multi_hop(REMOTE.parse().unwrap()), on);
    bench.tell(Input::Forwarding(Forwarding::On));
    bench.receive(ControlPacket { required_min_echo_rx: millis(50), ..packet(State::Down) });
    bench.receive(ControlPacket { required_min_echo_rx: millis(50), ..packet(State::Up) });
    assert_eq!((bench.session.state(), bench.session.echo_state()), (State::Up, EchoState::Off));
    // What routers show of MetalLB with FRR, whatever the profile says (contract 10.3).
    assert_eq!(bench.session.local().required_min_echo_rx, millis(50));
}

#[test]
fn rfc5881_4_link_local_addresses_send_no_echo_packets() {
    let path = Path { interface: InterfaceIndex::new(7), ..Path::single_hop("fe80::2".parse().unwrap()) };
    let mut bench = Bench::over(path, Profile { echo: EchoMode::On, ..profile(100, 100, 3) });
    for state in [State::Down, State::Up] {
        let packet = ControlPacket { required_min_echo_rx: millis(50), ..packet(state) };
        let arrival = Arrival {
            received_at: bench.now,
            source: path.remote,
            local: "fe80::1".parse().unwrap(),
            interface: path.interface,
            vrf: None,
            ttl: 255,
            hops: Hops::Single,
        };
        bench.tell(Input::Packet { packet: &packet, arrival: &arrival });
    }
    assert_eq!((bench.session.state(), bench.session.echo_state()), (State::Up, EchoState::Off));
}

#[test]
fn contract_10_3_echo_packets_do_not_change_what_the_neighbour_sees() {
    let mut bench = echoing(Profile { echo: EchoMode::On, ..profile(81, 80, 3) });
    bench.session.echo_returned(bench.now, 1, &mut bench.out);
    assert_eq!(bench.session.echo_state(), EchoState::Active);
    let local = bench.session.local();
    assert_eq!((local.desired_min_tx, local.required_min_rx), (millis(81), millis(80)));
}

#[test]
fn profiles_change_without_a_flap() {
    let intervals = [10, 50, 300, 1000, 60_000];
    for (before, after) in intervals.iter().flat_map(|before| intervals.iter().map(move |after| (*before, *after))) {
        let mut bench = Bench::up(profile(before, before, 3));
        bench.tell(Input::Profile(Profile { role: Role::Passive, ..profile(after, after, 2) }));
        bench.run_hearing(millis(1000), packet(State::Up), millis(10));
        bench.receive(ControlPacket { final_bit: true, ..packet(State::Up) });
        bench.run_hearing(millis(1000), packet(State::Up), millis(100));
        assert_eq!(bench.changes(), [], "{before} to {after}");
        let local = bench.session.local();
        assert_eq!((local.desired_min_tx, local.required_min_rx), (millis(after), millis(after)));
    }
}

#[test]
fn intervals_that_nobody_can_keep_are_kept_within_limits() {
    let mut bench =
        Bench::up(Profile { transmit_interval: Duration::ZERO, receive_interval: Duration::MAX, ..profile(1, 1, 3) });
    let local = bench.session.local();
    assert_eq!((local.desired_min_tx, local.required_min_rx), (crate::INTERVAL_MIN, crate::INTERVAL_MAX));
    bench.receive(ControlPacket { desired_min_tx: crate::INTERVAL_MAX, ..packet(State::Up) });
    bench.run(millis(1000));
    assert_eq!(bench.session.state(), State::Up);
}
