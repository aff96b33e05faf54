//! Every state of a member with everything that is said about it: what is believed, what is passed on, what is told.

use std::fmt::Write as _;
use std::net::SocketAddr;

use expect_test::{Expect, expect};
use gossip::wire::{Alive, Dead, Message, Suspect, Versions};
use gossip::{Config, Input, Keyring, MemberState, Membership, Name, OUTBOX_LIMIT, Output, Vigilance};
use kit::{Duration, Instant, Outbox, Rng};

const NOW: Instant = Instant::from_micros(1_000_000);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::new([10, 0, 0, host].into(), 7946)
}

/// A member called `us` that knows `b`.
struct Us {
    membership: Membership,
    out: Outbox<Output>,
}

impl Us {
    fn new() -> Self {
        let plain = Config::new(name("us"), address(1), Keyring::plaintext());
        let config = Config { vigilance: Vigilance::Wanted, ..plain };
        let membership = Membership::new(config, Rng::new(1), Instant::ZERO);
        let mut us = Us { membership, out: Outbox::with_limit(OUTBOX_LIMIT) };
        us.hear(&alive("b", 1, address(3)));
        us
    }

    fn hear(&mut self, message: &Message) -> Vec<Output> {
        let input = Input::Packet { from: address(3), bytes: message.encode() };
        self.membership.handle(NOW, input, &mut self.out);
        self.out.drain().collect()
    }

    fn state_of(&self, of: &str) -> String {
        let view = self.membership.view();
        let member = view.members.iter().find(|member| member.name.as_str() == of);
        member.map_or_else(|| "unknown".to_owned(), |it| format!("{}@{} at {}", it.state, it.incarnation, it.address))
    }
}

fn alive(of: &str, incarnation: u32, address: SocketAddr) -> Message {
    let (node, versions) = (name(of), Some(Versions::OURS));
    Message::Alive(Alive { incarnation, node, address, meta: Vec::new(), versions })
}

fn suspect(of: &str, incarnation: u32) -> Message {
    Message::Suspect(Suspect { incarnation, node: name(of), from: name("b") })
}

fn dead(of: &str, incarnation: u32) -> Message {
    Message::Dead(Dead { incarnation, node: name(of), from: name("b") })
}

fn left(of: &str, incarnation: u32) -> Message {
    Message::Dead(Dead { incarnation, node: name(of), from: name(of) })
}

/// What may be said of a member that is in incarnation 5.
fn sayings(of: &str, at: SocketAddr) -> Vec<(&'static str, Message)> {
    vec![
        ("alive, before", alive(of, 4, at)),
        ("alive, now", alive(of, 5, at)),
        ("alive, later", alive(of, 6, at)),
        ("alive elsewhere", alive(of, 6, address(99))),
        ("suspect, before", suspect(of, 4)),
        ("suspect, now", suspect(of, 5)),
        ("suspect, later", suspect(of, 6)),
        ("dead, before", dead(of, 4)),
        ("dead, now", dead(of, 5)),
        ("dead, later", dead(of, 6)),
        ("left, before", left(of, 4)),
        ("left, now", left(of, 5)),
    ]
}

/// Applies each saying to a member that `prepare` has brought into its state.
fn check(prepare: &[Message], expect: Expect) {
    let mut text = String::new();
    for (what, message) in sayings("a", address(2)) {
        let mut us = Us::new();
        for message in prepare {
            us.hear(message);
        }
        let queued = us.membership.view().queued;
        let outputs = us.hear(&message);
        let passed_on = if us.membership.view().queued > queued || is_requeued(&mut us) { ", passed on" } else { "" };
        let told = outputs.iter().map(show).collect::<Vec<_>>().join(", ");
        let told = if told.is_empty() { told } else { format!("; {told}") };
        writeln!(text, "{what:16} {}{passed_on}{told}", us.state_of("a")).unwrap();
    }
    expect.assert_eq(&text);
}

/// Whether the message about `a` that waits has not been sent: it is a new one.
fn is_requeued(us: &mut Us) -> bool {
    // The first packet to somebody carries what was sent least often.
    let mut company = |to: u8| {
        let ping = gossip::wire::Ping { sequence: 1, node: None, source: None };
        let input = Input::Packet { from: address(to), bytes: Message::Ping(ping).encode() };
        us.membership.handle(NOW, input, &mut us.out);
        let sent: usize =
            us.out.drain().map(|it| if let Output::Send { bytes, .. } = it { bytes.len() } else { 0 }).sum();
        sent
    };
    company(200) > 30
}

fn show(output: &Output) -> String {
    match output {
        Output::MemberChanged(change) => format!("{} is {}: {}", change.name, change.state, change.cause),
        Output::Report(report) => format!("report: {report}"),
        Output::Send { to, .. } => format!("a packet to {to}"),
        other => format!("{other:?}"),
    }
}

/// Makes `is_requeued` see only what comes later: everything that waits was sent to that address.
fn drained(messages: &[Message]) -> Vec<Message> {
    let mut drained = messages.to_vec();
    let source = gossip::wire::Source { address: address(200), node: None };
    drained.push(Message::Ping(gossip::wire::Ping { sequence: 1, node: None, source: Some(source) }));
    drained
}

#[test]
fn of_a_member_that_is_not_known() {
    check(
        &drained(&[]),
        expect![[r#"
        alive, before    alive@4 at 10.0.0.2:7946, passed on; a is alive: it said so
        alive, now       alive@5 at 10.0.0.2:7946, passed on; a is alive: it said so
        alive, later     alive@6 at 10.0.0.2:7946, passed on; a is alive: it said so
        alive elsewhere  alive@6 at 10.0.0.99:7946, passed on; a is alive: it said so
        suspect, before  unknown
        suspect, now     unknown
        suspect, later   unknown
        dead, before     unknown
        dead, now        unknown
        dead, later      unknown
        left, before     unknown
        left, now        unknown
    "#]],
    );
}

#[test]
fn of_a_member_that_is_alive() {
    check(
        &drained(&[alive("a", 5, address(2))]),
        expect![[r#"
        alive, before    alive@5 at 10.0.0.2:7946
        alive, now       alive@5 at 10.0.0.2:7946
        alive, later     alive@6 at 10.0.0.2:7946, passed on
        alive elsewhere  alive@5 at 10.0.0.2:7946; report: two members are called a: one at 10.0.0.2:7946, another at 10.0.0.99:7946
        suspect, before  alive@5 at 10.0.0.2:7946
        suspect, now     suspect@5 at 10.0.0.2:7946, passed on; a is suspect: b said so
        suspect, later   suspect@6 at 10.0.0.2:7946, passed on; a is suspect: b said so
        dead, before     alive@5 at 10.0.0.2:7946
        dead, now        dead@5 at 10.0.0.2:7946, passed on; a is dead: b said so
        dead, later      dead@6 at 10.0.0.2:7946, passed on; a is dead: b said so
        left, before     alive@5 at 10.0.0.2:7946
        left, now        left@5 at 10.0.0.2:7946, passed on; a is left: it said so
    "#]],
    );
}

#[test]
fn of_a_suspect() {
    check(
        &drained(&[alive("a", 5, address(2)), suspect("a", 5)]),
        expect![[r#"
        alive, before    suspect@5 at 10.0.0.2:7946
        alive, now       suspect@5 at 10.0.0.2:7946
        alive, later     alive@6 at 10.0.0.2:7946, passed on; a is alive: it said so
        alive elsewhere  suspect@5 at 10.0.0.2:7946; report: two members are called a: one at 10.0.0.2:7946, another at 10.0.0.99:7946
        suspect, before  suspect@5 at 10.0.0.2:7946
        suspect, now     suspect@5 at 10.0.0.2:7946
        suspect, later   suspect@5 at 10.0.0.2:7946
        dead, before     suspect@5 at 10.0.0.2:7946
        dead, now        dead@5 at 10.0.0.2:7946, passed on; a is dead: b said so
        dead, later      dead@6 at 10.0.0.2:7946, passed on; a is dead: b said so
        left, before     suspect@5 at 10.0.0.2:7946
        left, now        left@5 at 10.0.0.2:7946, passed on; a is left: it said so
    "#]],
    );
}

#[test]
fn of_the_dead() {
    check(
        &drained(&[alive("a", 5, address(2)), dead("a", 5)]),
        expect![[r#"
        alive, before    dead@5 at 10.0.0.2:7946
        alive, now       dead@5 at 10.0.0.2:7946
        alive, later     alive@6 at 10.0.0.2:7946, passed on; a is alive: it said so
        alive elsewhere  dead@5 at 10.0.0.2:7946; report: two members are called a: one at 10.0.0.2:7946, another at 10.0.0.99:7946
        suspect, before  dead@5 at 10.0.0.2:7946
        suspect, now     dead@5 at 10.0.0.2:7946
        suspect, later   dead@5 at 10.0.0.2:7946
        dead, before     dead@5 at 10.0.0.2:7946
        dead, now        dead@5 at 10.0.0.2:7946
        dead, later      dead@5 at 10.0.0.2:7946
        left, before     dead@5 at 10.0.0.2:7946
        left, now        dead@5 at 10.0.0.2:7946
    "#]],
    );
}

#[test]
fn of_one_who_left() {
    check(
        &drained(&[alive("a", 5, address(2)), left("a", 5)]),
        expect![[r#"
        alive, before    left@5 at 10.0.0.2:7946
        alive, now       left@5 at 10.0.0.2:7946
        alive, later     alive@6 at 10.0.0.2:7946, passed on; a is alive: it said so
        alive elsewhere  alive@6 at 10.0.0.99:7946, passed on; a is alive: it said so
        suspect, before  left@5 at 10.0.0.2:7946
        suspect, now     left@5 at 10.0.0.2:7946
        suspect, later   left@5 at 10.0.0.2:7946
        dead, before     left@5 at 10.0.0.2:7946
        dead, now        left@5 at 10.0.0.2:7946
        dead, later      left@5 at 10.0.0.2:7946
        left, before     left@5 at 10.0.0.2:7946
        left, now        left@5 at 10.0.0.2:7946
    "#]],
    );
}

#[test]
fn of_ourselves() {
    let mut text = String::new();
    for (what, message) in sayings("us", address(1)) {
        let mut us = Us::new();
        // Four denials bring us into incarnation 5.
        for incarnation in 1..5 {
            us.hear(&suspect("us", incarnation));
        }
        let outputs = us.hear(&message);
        let told = outputs.iter().map(show).collect::<Vec<_>>().join(", ");
        let told = if told.is_empty() { told } else { format!("; {told}") };
        writeln!(text, "{what:16} {}{told}", us.state_of("us")).unwrap();
    }
    expect![[r#"
        alive, before    alive@5 at 10.0.0.1:7946
        alive, now       alive@5 at 10.0.0.1:7946
        alive, later     alive@7 at 10.0.0.1:7946
        alive elsewhere  alive@5 at 10.0.0.1:7946; report: two members are called us: one at 10.0.0.1:7946, another at 10.0.0.99:7946
        suspect, before  alive@5 at 10.0.0.1:7946; a packet to 10.0.0.3:7946
        suspect, now     alive@6 at 10.0.0.1:7946; report: b said that this node is suspect; that was denied
        suspect, later   alive@7 at 10.0.0.1:7946; report: b said that this node is suspect; that was denied
        dead, before     alive@5 at 10.0.0.1:7946; a packet to 10.0.0.3:7946
        dead, now        alive@6 at 10.0.0.1:7946; report: b said that this node is dead; that was denied, a packet to 10.0.0.3:7946
        dead, later      alive@7 at 10.0.0.1:7946; report: b said that this node is dead; that was denied, a packet to 10.0.0.3:7946
        left, before     alive@5 at 10.0.0.1:7946
        left, now        alive@6 at 10.0.0.1:7946; report: us said that this node is dead; that was denied, a packet to 10.0.0.3:7946
    "#]].assert_eq(&text);
}

#[test]
fn of_ourselves_after_we_left() {
    for (what, message) in sayings("us", address(1)) {
        let mut us = Us::new();
        us.membership.handle(NOW, Input::Leave, &mut us.out);
        us.out.drain().for_each(drop);
        us.hear(&message);
        assert_eq!(us.state_of("us"), "left@1 at 10.0.0.1:7946", "{what}");
    }
}

#[test]
fn others_shorten_a_suspicion_once_each() {
    let deadlines = |suspects: &[&str]| {
        let mut us = Us::new();
        for (host, other) in (10..).zip(["a", "c", "d", "e", "f"]) {
            us.hear(&alive(other, 1, address(host)));
        }
        for from in suspects {
            us.hear(&Message::Suspect(Suspect { incarnation: 1, node: name("a"), from: name(from) }));
        }
        let mut now = NOW;
        while us.state_of("a").starts_with("suspect") {
            now = us.membership.next_deadline().unwrap();
            us.membership.handle(now, Input::Tick, &mut us.out);
            us.out.drain().for_each(drop);
        }
        (now - NOW).as_millis()
    };
    // Our own probe fails too, and so we are always one of those that confirm.
    assert_eq!(deadlines(&["b"]), 11_381);
    assert_eq!(deadlines(&["b", "b", "us"]), 11_381, "each is counted once");
    assert_eq!(deadlines(&["b", "c"]), 5811, "at once when our own probe fails");
    assert_eq!(deadlines(&["b", "c", "d"]), 4000);
    assert_eq!(deadlines(&["b", "c", "d", "e"]), 4000);
}

#[test]
fn a_member_without_a_port_has_ours() {
    let mut us = Us::new();
    us.hear(&alive("a", 1, SocketAddr::new([10, 0, 0, 2].into(), 0)));
    assert_eq!(us.state_of("a"), "alive@1 at 10.0.0.2:7946");
}

#[test]
fn impossible_members_are_not_taken() {
    let mut us = Us::new();
    for address in ["0.0.0.0:7946", "224.0.0.1:7946", "[::]:7946", "[ff02::1]:7946", "[::ffff:224.0.0.1]:7946"] {
        us.hear(&alive("a", 1, address.parse().unwrap()));
    }
    for versions in [(0, 5), (1, 0), (3, 2)] {
        let versions = Versions { protocol_min: versions.0, protocol_max: versions.1, ..Versions::OURS };
        let (node, address) = (name("a"), address(2));
        let alive = Alive { incarnation: 1, node, address, meta: Vec::new(), versions: Some(versions) };
        us.hear(&Message::Alive(alive));
    }
    us.hear(&alive("a", 0, address(2)));
    assert_eq!(us.state_of("a"), "unknown");
}

#[test]
fn there_are_not_more_members_than_the_limit() {
    let mut us = Us::new();
    for number in 0..gossip::wire::MEMBERS_MAX + 10 {
        let [_, _, high, low] = u32::try_from(number).unwrap().to_be_bytes();
        us.hear(&alive(&format!("m{number}"), 1, SocketAddr::new([10, 1, high, low].into(), 7946)));
    }
    let view = us.membership.view();
    assert_eq!((view.members.len(), view.counters.members_refused), (gossip::wire::MEMBERS_MAX, 12));
    assert!(view.members.iter().all(|member| member.state == MemberState::Alive));
}

#[test]
fn whoever_accuses_us_with_an_old_incarnation_is_told_again() {
    let mut us = Us::new();
    us.hear(&suspect("us", 1));
    let outputs = us.hear(&suspect("us", 1));
    assert!(matches!(&outputs[..], [Output::Send { to, .. }] if *to == address(3)), "{outputs:?}");
    assert_eq!(us.state_of("us"), "alive@2 at 10.0.0.1:7946");
}

#[test]
fn the_dead_are_forgotten_after_a_while() {
    let mut us = Us::new();
    us.hear(&alive("a", 5, address(2)));
    us.hear(&dead("a", 5));
    let mut now = NOW;
    while us.state_of("a").starts_with("dead") {
        now = us.membership.next_deadline().unwrap();
        us.membership.handle(now, Input::Tick, &mut us.out);
        us.out.drain().for_each(drop);
    }
    assert!(now - NOW > Duration::from_secs(30) && now - NOW < Duration::from_secs(40), "{}", now - NOW);
}
