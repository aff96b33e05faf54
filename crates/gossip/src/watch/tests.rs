//! Every state of a watch with everything that can happen to it, and the verdicts one by one.

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// A watch with its time, and the numbers of its pings.
struct Watched {
    watch: Watch,
    now: Instant,
    sequence: u32,
    company: Company,
}

impl Watched {
    fn new() -> Self {
        Watched { watch: Watch::new(at(1000), Proof::Missing), now: at(1000), sequence: 0, company: Company::Others }
    }

    /// A watch that was answered a few times, and whose kernel was asked and answered.
    fn answering() -> Self {
        let mut watched = Self::new();
        for _ in 0..5 {
            watched.step();
            watched.watch.answered(watched.now, watched.sequence);
        }
        watched.watch.kernel_answered(watched.now);
        watched
    }

    /// A watch over a member that had answered something else before.
    fn proven() -> Self {
        Watched { watch: Watch::new(at(1000), Proof::Answered), ..Self::new() }
    }

    /// A look at a member because others are silent.
    fn sweeping() -> Self {
        Watched { watch: Watch::sweeping(at(1000)), ..Self::new() }
    }

    /// A watch with a late answer.
    fn doubtful() -> Self {
        let mut watched = Self::answering();
        while watched.watch.state() == WatchState::Answering {
            watched.step();
        }
        watched
    }

    /// A watch over a node that was declared dead.
    fn declared() -> Self {
        let mut watched = Self::doubtful();
        watched.watch.witnessed();
        while watched.watch.state() == WatchState::Doubtful {
            watched.step();
        }
        watched
    }

    /// Does what is due next.
    fn step(&mut self) -> Vec<Action> {
        self.now = self.watch.deadline().max(self.now);
        let actions = self.watch.step(self.now, &Patience::DEFAULT, self.company);
        for action in &actions {
            if matches!(action, Action::Ping | Action::PingAccused) {
                self.sequence += 1;
                self.watch.sent(self.now, self.sequence);
            }
        }
        actions
    }

    /// Goes on until a verdict, and tells what it is and how long it took from the last answer.
    fn verdict(&mut self, mut meanwhile: impl FnMut(&mut Watch, Instant)) -> Option<(Silence, u64)> {
        let start = self.now;
        for _ in 0..1000 {
            for action in self.step() {
                if let Action::Declare(silence) = action {
                    return Some((silence, (self.now - start).as_millis()));
                }
            }
            meanwhile(&mut self.watch, self.now);
        }
        None
    }
}

type Happening = (&'static str, fn(&mut Watched));

const HAPPENINGS: [Happening; 10] = [
    ("nothing, until the deadline", |_| {}),
    ("an answer to the last ping", |it| it.watch.answered(it.now, it.sequence)),
    ("an answer to no ping of ours", |it| it.watch.answered(it.now, 4711)),
    ("somebody vouches for it", |it| it.watch.vouched(it.now, it.now)),
    ("the port is closed", |it| it.watch.refused(it.now)),
    ("the kernel answers", |it| it.watch.kernel_answered(it.now)),
    ("somebody else answers", |it| it.watch.witnessed()),
    ("we paused for a second", |it| it.watch.own_pause(it.now, Duration::from_secs(1))),
    ("it says that it lives", |it| it.watch.restart(it.now)),
    ("somebody says that it is dead", |it| it.watch.declared(it.now)),
];

/// What becomes of a state with each happening, and what is done then.
fn check(make: fn() -> Watched, expect: Expect) {
    let mut text = String::new();
    for (happening, happen) in HAPPENINGS {
        let mut watched = make();
        happen(&mut watched);
        let state = watched.watch.state();
        let wait = watched.watch.deadline() - watched.now;
        let actions = watched.step();
        writeln!(text, "{happening}: {state:?}, after {wait} {actions:?}").unwrap();
    }
    expect.assert_eq(&text);
}

#[test]
fn unproven_with_everything() {
    check(
        || {
            let mut watched = Watched::new();
            watched.step();
            watched
        },
        expect![[r#"
            nothing, until the deadline: Unproven, after 100ms [Ping]
            an answer to the last ping: Answering, after 100ms [Ping]
            an answer to no ping of ours: Unproven, after 100ms [Ping]
            somebody vouches for it: Unproven, after 100ms [Ping]
            the port is closed: Unproven, after 100ms [Ping]
            the kernel answers: Unproven, after 100ms [Ping]
            somebody else answers: Unproven, after 100ms [Ping]
            we paused for a second: Unproven, after 0ns [Ping]
            it says that it lives: Unproven, after 0ns [Ping]
            somebody says that it is dead: Declared, after 0ns [PingAccused]
        "#]],
    );
}

#[test]
fn proven_with_everything() {
    check(
        || {
            let mut watched = Watched::proven();
            watched.step();
            watched
        },
        expect![[r#"
            nothing, until the deadline: Answering, after 25ms [Ping, KernelProbe]
            an answer to the last ping: Answering, after 100ms [Ping]
            an answer to no ping of ours: Answering, after 25ms [Ping, KernelProbe]
            somebody vouches for it: Answering, after 100ms [Ping]
            the port is closed: Doubtful, after 0ns [Ping, KernelProbe]
            the kernel answers: Answering, after 25ms [Ping, KernelProbe]
            somebody else answers: Answering, after 25ms [Ping, KernelProbe]
            we paused for a second: Answering, after 0ns [Ping]
            it says that it lives: Unproven, after 0ns [Ping]
            somebody says that it is dead: Declared, after 0ns [PingAccused]
        "#]],
    );
}

#[test]
fn sweeping_with_everything() {
    check(
        || {
            let mut watched = Watched::sweeping();
            watched.step();
            watched
        },
        expect![[r#"
            nothing, until the deadline: Doubtful, after 100ms [Ping, KernelProbe, AskOthers]
            an answer to the last ping: Answering, after 100ms [Ping, KernelProbe]
            an answer to no ping of ours: Doubtful, after 100ms [Ping, KernelProbe, AskOthers]
            somebody vouches for it: Answering, after 100ms [Ping, KernelProbe]
            the port is closed: Doubtful, after 100ms [Ping, KernelProbe, AskOthers]
            the kernel answers: Doubtful, after 100ms [Ping, KernelProbe, AskOthers]
            somebody else answers: Doubtful, after 100ms [Ping, KernelProbe, AskOthers]
            we paused for a second: Doubtful, after 0ns [Ping]
            it says that it lives: Unproven, after 0ns [Ping, KernelProbe]
            somebody says that it is dead: Declared, after 0ns [PingAccused]
        "#]],
    );
}

#[test]
fn answering_with_everything() {
    check(
        || {
            let mut watched = Watched::answering();
            watched.step();
            watched
        },
        expect![[r#"
            nothing, until the deadline: Answering, after 25ms [Ping, KernelProbe]
            an answer to the last ping: Answering, after 100ms [Ping]
            an answer to no ping of ours: Answering, after 25ms [Ping, KernelProbe]
            somebody vouches for it: Answering, after 100ms [Ping]
            the port is closed: Doubtful, after 0ns [Ping, KernelProbe]
            the kernel answers: Answering, after 25ms [Ping, KernelProbe]
            somebody else answers: Answering, after 25ms [Ping, KernelProbe]
            we paused for a second: Answering, after 0ns [Ping]
            it says that it lives: Unproven, after 0ns [Ping]
            somebody says that it is dead: Declared, after 0ns [PingAccused]
        "#]],
    );
}

#[test]
fn doubtful_with_everything() {
    check(
        Watched::doubtful,
        expect![[r#"
        nothing, until the deadline: Doubtful, after 25ms [Ping, KernelProbe, AskOthers]
        an answer to the last ping: Answering, after 100ms [Ping]
        an answer to no ping of ours: Doubtful, after 25ms [Ping, KernelProbe, AskOthers]
        somebody vouches for it: Answering, after 100ms [Ping]
        the port is closed: Doubtful, after 25ms [Ping, KernelProbe, AskOthers]
        the kernel answers: Doubtful, after 25ms [Ping, KernelProbe, AskOthers]
        somebody else answers: Doubtful, after 25ms [Ping, KernelProbe, AskOthers]
        we paused for a second: Doubtful, after 0ns [Ping, KernelProbe]
        it says that it lives: Unproven, after 0ns [Ping]
        somebody says that it is dead: Declared, after 0ns [PingAccused]
    "#]],
    );
}

#[test]
fn declared_with_everything() {
    check(
        Watched::declared,
        expect![[r#"
        nothing, until the deadline: Declared, after 25ms [PingAccused]
        an answer to the last ping: Declared, after 25ms [PingAccused]
        an answer to no ping of ours: Declared, after 25ms [PingAccused]
        somebody vouches for it: Declared, after 25ms [PingAccused]
        the port is closed: Declared, after 25ms [PingAccused]
        the kernel answers: Declared, after 25ms [PingAccused]
        somebody else answers: Declared, after 25ms [PingAccused]
        we paused for a second: Declared, after 0ns [PingAccused]
        it says that it lives: Unproven, after 0ns [Ping]
        somebody says that it is dead: Declared, after 25ms [PingAccused]
    "#]],
    );
}

#[test]
fn a_silent_node_is_dead_after_an_interval_and_the_patience() {
    let verdict = Watched::answering().verdict(|watch, _| watch.witnessed());
    assert_eq!(verdict, Some((Silence::Node, 425)));
}

#[test]
fn without_a_witness_we_may_be_the_ones_who_are_cut_off() {
    assert_eq!(Watched::answering().verdict(|_, _| {}), Some((Silence::Alone, 1100)));
    let mut alone = Watched::answering();
    alone.company = Company::Nobody;
    assert_eq!(alone.verdict(|_, _| {}), Some((Silence::Node, 425)));
}

#[test]
fn a_node_that_answers_for_a_silent_program_is_given_time() {
    let verdict = Watched::answering().verdict(Watch::kernel_answered);
    assert_eq!(verdict, Some((Silence::Stopped, 1400)));
}

#[test]
fn a_closed_port_is_given_the_time_of_a_restart() {
    let verdict = Watched::answering().verdict(|watch, now| {
        watch.kernel_answered(now);
        watch.refused(now);
    });
    assert_eq!(verdict, Some((Silence::Closed, 1100)));
}

#[test]
fn whoever_cannot_be_asked_is_given_a_second() {
    let mut watched = Watched::new();
    for _ in 0..5 {
        watched.step();
        watched.watch.answered(watched.now, watched.sequence);
    }
    assert_eq!(watched.verdict(|watch, _| watch.witnessed()), Some((Silence::Unknown, 1100)));
}

#[test]
fn a_kernel_that_stops_answering_looks_is_not_asked_in_earnest() {
    let mut watched = Watched::answering();
    let mut looks = 0;
    while watched.watch.kernel.answers {
        looks += watched.step().iter().filter(|action| **action == Action::KernelProbe).count();
        watched.watch.answered(watched.now, watched.sequence);
    }
    assert_eq!(looks, 6);
}

#[test]
fn a_program_that_never_answered_is_never_judged() {
    let mut watched = Watched::new();
    assert_eq!(watched.verdict(|watch, _| watch.witnessed()), None);
    assert_eq!(watched.watch.state(), WatchState::Unproven);
}

#[test]
fn our_own_pauses_do_not_add_up_to_a_silence() {
    let mut watched = Watched::doubtful();
    watched.watch.witnessed();
    for _ in 0..100 {
        watched.now += Duration::from_millis(200);
        watched.watch.own_pause(watched.now, Duration::from_millis(200));
        let actions = watched.step();
        assert!(!matches!(actions.first(), Some(Action::Declare(_))), "{actions:?}");
        watched.watch.answered(watched.now, watched.sequence);
    }
}

#[test]
fn under_constant_pauses_a_death_is_found_all_the_same() {
    // How late we come each time, in milliseconds: always, or every other time.
    for lateness in [[25, 0], [25, 25], [100, 0], [100, 100], [20, 400]] {
        let mut watched = Watched::doubtful();
        watched.watch.witnessed();
        let start = watched.now;
        let mut lateness = lateness.iter().cycle();
        while watched.watch.state() == WatchState::Doubtful {
            let late = Duration::from_millis(*lateness.next().unwrap());
            watched.now = watched.watch.deadline().max(watched.now) + late;
            if !late.is_zero() {
                watched.watch.own_pause(watched.now, late);
            }
            watched.step();
            assert!(watched.now - start < Duration::from_secs(10), "{late}");
        }
    }
}

#[test]
fn what_is_usual_for_a_far_member_is_not_late() {
    let mut watched = Watched::new();
    let mut flight: VecDeque<(Instant, u32)> = VecDeque::new();
    for _ in 0..200 {
        watched.now = watched.watch.deadline();
        while let Some((arrival, sequence)) = flight.front().copied()
            && arrival <= watched.now
        {
            flight.pop_front();
            watched.watch.answered(arrival, sequence);
        }
        watched.step();
        flight.push_back((watched.now + Duration::from_millis(80), watched.sequence));
    }
    assert_eq!(watched.watch.state(), WatchState::Answering);
    let usual = watched.watch.round_trip().unwrap();
    assert!(usual >= Duration::from_millis(75) && usual <= Duration::from_millis(85), "{usual}");
}

#[test]
fn one_long_pause_of_a_member_does_not_make_us_slow() {
    let mut watched = Watched::doubtful();
    while watched.now < at(2300) {
        watched.step();
        watched.watch.kernel_answered(watched.now);
    }
    // All answers come at once.
    for sequence in 0..=watched.sequence {
        watched.watch.answered(watched.now, sequence);
    }
    assert_eq!(watched.watch.state(), WatchState::Answering);
    assert!(watched.watch.late() <= Duration::from_millis(60), "{}", watched.watch.late());
}

#[test]
fn answers_that_come_one_by_one_after_a_pause_are_not_mistaken() {
    let mut watched = Watched::doubtful();
    watched.watch.witnessed();
    let first = watched.sequence;
    while watched.sequence < first + 30 {
        watched.step();
        watched.watch.kernel_answered(watched.now);
    }
    // The program runs again; between two of its answers we go on asking.
    for sequence in first..first + 30 {
        watched.watch.answered(watched.now, sequence);
        let actions = watched.step();
        assert!(!actions.iter().any(|it| matches!(it, Action::Declare(_))), "after the answer {sequence}: {actions:?}");
    }
}

#[test]
fn the_dead_are_pinged_less_often_after_a_while() {
    let mut watched = Watched::declared();
    let start = watched.now;
    let mut pings = 0;
    while watched.now - start < Duration::from_secs(60) {
        pings += watched.step().len();
    }
    assert!((320..350).contains(&pings), "{pings}");
}

#[test]
fn whoever_answered_before_and_never_again_is_found_in_a_second() {
    let verdict = Watched::proven().verdict(|watch, _| watch.witnessed());
    assert_eq!(verdict, Some((Silence::Unknown, 1000)));
    // What others say of it counts: this watch has had no answer.
    assert!(!Watched::proven().watch.is_answering());
}

#[test]
fn one_that_is_looked_at_is_given_a_second_in_wide_steps() {
    let mut pings = 0;
    let mut watched = Watched::sweeping();
    let verdict = watched.verdict(|watch, _| {
        watch.witnessed();
        pings += 1;
    });
    assert_eq!((verdict, pings), (Some((Silence::Unknown, 1000)), 10));
    assert_eq!(Watched::sweeping().verdict(|_, _| {}), Some((Silence::Alone, 1000)));
    let stopped = Watched::sweeping().verdict(Watch::kernel_answered);
    assert_eq!(stopped, Some((Silence::Stopped, 1300)));
    // It is not pinged eagerly when it is dead.
    let declared = watched.now;
    while watched.now - declared < Duration::from_secs(10) {
        pings += watched.step().len();
    }
    assert_eq!(pings, 10 + 11);
}

#[test]
fn others_are_looked_at_once_in_a_silence_and_only_if_the_kernel_is_silent_too() {
    let sweeps = |mut watched: Watched, meanwhile: fn(&mut Watch, Instant)| {
        let mut sweeps = Vec::new();
        let start = watched.now;
        while watched.watch.state() != WatchState::Declared {
            let actions = watched.step();
            if actions.contains(&Action::Sweep) {
                sweeps.push((watched.now - start).as_millis());
            }
            meanwhile(&mut watched.watch, watched.now);
        }
        sweeps
    };
    assert_eq!(sweeps(Watched::answering(), |watch, _| watch.witnessed()), [425]);
    assert_eq!(sweeps(Watched::answering(), |_, _| {}), [425]);
    assert_eq!(sweeps(Watched::answering(), Watch::kernel_answered), [0; 0]);
    assert_eq!(sweeps(Watched::proven(), |watch, _| watch.witnessed()), [325]);
    assert_eq!(sweeps(Watched::sweeping(), |watch, _| watch.witnessed()), [0; 0]);
}
