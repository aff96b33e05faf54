//! Members over loopback, with real sockets, real encryption and real time; every wait has a limit.

use super::*;

use std::collections::BTreeSet;

use gossip::{Config, Key, Keyring, MemberState, Membership, Name, OUTBOX_LIMIT};
use kit::{Outbox, Rng};

/// Far more than any test needs.
const LIMIT: Duration = Duration::from_secs(30);

/// The key that MetalLB derives of this secret (contract 5.2).
fn keyring(secret: &[u8]) -> Keyring {
    let cipher = AesGcm::new(&Key::from_secret(secret).unwrap()).unwrap();
    Keyring::new(Arc::new(cipher), []).unwrap()
}

/// A member with its sockets.
struct Node {
    transport: Transport,
    membership: Membership,
    out: Outbox<Output>,
    states: HashMap<Name, MemberState>,
    causes: Vec<String>,
    has_left: bool,
}

impl Node {
    /// A member at 127.0.0.`host`, or at the IPv6 loopback for 0.
    fn start(clock: &Clock, name: &str, host: u8, keyring: Keyring) -> Node {
        let address = match host {
            0 => "[::1]:0".parse().unwrap(),
            host => SocketAddr::new([127, 0, 0, host].into(), 0),
        };
        let transport = Transport::bind(address).unwrap();
        let config = Config::new(Name::new(name).unwrap(), transport.local_address(), keyring);
        let membership = Membership::new(config, Rng::new(transport.seed()), clock.now());
        Node {
            transport,
            membership,
            out: Outbox::with_limit(OUTBOX_LIMIT),
            states: HashMap::new(),
            causes: Vec::new(),
            has_left: false,
        }
    }

    fn tell(&mut self, clock: &Clock, input: Input) {
        self.membership.handle(clock.now(), input, &mut self.out);
        assert_eq!(self.out.dropped(), 0);
        for output in self.out.drain() {
            match self.transport.execute(output) {
                Some(Output::MemberChanged(change)) => {
                    self.causes.push(format!("{} is {}: {}", change.name, change.state, change.cause));
                    self.states.insert(change.name, change.state);
                }
                Some(Output::Left) => self.has_left = true,
                _ => {}
            }
        }
    }

    async fn step(&mut self, clock: &Clock) {
        let input = self.transport.next(clock, self.membership.next_deadline()).await;
        self.tell(clock, input);
    }

    fn state_of(&self, name: &str) -> Option<MemberState> {
        self.states.get(&Name::new(name).unwrap()).copied()
    }
}

/// Runs all nodes until it is so.
async fn until(clock: &Clock, nodes: &mut [Node], is_so: impl Fn(&[Node]) -> bool) {
    let all = async {
        while !is_so(nodes) {
            let steps = nodes.iter_mut().map(|node| Box::pin(node.step(clock)));
            select_any(steps.collect()).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, all).await.is_ok(), "not within {LIMIT:?}");
}

/// Waits for the first of several futures; the others are dropped, which loses nothing.
async fn select_any(mut futures: Vec<std::pin::Pin<Box<impl Future<Output = ()>>>>) {
    std::future::poll_fn(|context| {
        let is_ready = futures.iter_mut().any(|it| it.as_mut().poll(context).is_ready());
        if is_ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

fn introduce(clock: &Clock, nodes: &mut [Node]) {
    let addresses: BTreeSet<SocketAddr> = nodes.iter().map(|node| node.transport.local_address()).collect();
    let members: BTreeSet<Name> = nodes.iter().map(|node| node.membership.view().name).collect();
    for node in nodes {
        node.tell(clock, Input::Watch { members: members.clone() });
        node.tell(clock, Input::Peers { addresses: addresses.clone() });
    }
}

fn know_each_other(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| node.membership.names().count() == nodes.len())
}

fn all_proven(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| {
        let view = node.membership.view();
        let watched: Vec<_> = view.members.iter().filter_map(|member| member.watch).collect();
        watched.len() == nodes.len() - 1 && watched.iter().all(|watch| watch.round_trip.is_some())
    })
}

#[tokio::test]
async fn members_join_watch_and_leave_encrypted() {
    let clock = Clock::start();
    for hosts in [[11, 12, 13], [0, 0, 0]] {
        let names = ["a", "b", "c"];
        let mut nodes: Vec<Node> =
            names.iter().zip(hosts).map(|(name, host)| Node::start(&clock, name, host, keyring(b"secret"))).collect();
        introduce(&clock, &mut nodes);
        until(&clock, &mut nodes, know_each_other).await;
        until(&clock, &mut nodes, all_proven).await;
        nodes[2].tell(&clock, Input::Leave);
        until(&clock, &mut nodes, |nodes| nodes[2].has_left).await;
        assert_eq!(nodes[0].state_of("c"), Some(MemberState::Left));
        assert_eq!(nodes[1].state_of("c"), Some(MemberState::Left));
        for node in nodes {
            assert_eq!(node.membership.counters().packets_dropped, 0);
            assert_eq!(node.transport.drops(), DropCounters::default());
            node.transport.finish().await;
        }
    }
}

#[tokio::test]
async fn a_program_that_ended_is_told_by_its_kernel() {
    let clock = Clock::start();
    let mut nodes: Vec<Node> = ["a", "b", "c"]
        .iter()
        .zip([21, 22, 23])
        .map(|(name, host)| Node::start(&clock, name, host, Keyring::plaintext()))
        .collect();
    introduce(&clock, &mut nodes);
    until(&clock, &mut nodes, all_proven).await;
    drop(nodes.pop());
    let ended = clock.now();
    until(&clock, &mut nodes, |nodes| nodes.iter().all(|node| node.state_of("c") == Some(MemberState::Dead))).await;
    let after = clock.now() - ended;
    assert!(after >= kit::Duration::from_millis(900), "{after}");
    let causes: Vec<_> = nodes.iter().flat_map(|node| &node.causes).collect();
    assert!(causes.iter().any(|it| it.contains("the speaker of the node has ended")), "{causes:?}");
}

#[tokio::test]
async fn another_key_is_another_cluster() {
    let clock = Clock::start();
    let mut nodes =
        vec![Node::start(&clock, "a", 31, keyring(b"one")), Node::start(&clock, "b", 32, keyring(b"another"))];
    introduce(&clock, &mut nodes);
    until(&clock, &mut nodes, |nodes| nodes.iter().all(|node| node.membership.counters().streams_dropped > 0)).await;
    assert!(nodes.iter().all(|node| node.membership.names().count() == 1));
}

#[tokio::test]
async fn a_tick_comes_after_what_has_arrived_and_is_not_kept_waiting() {
    let clock = Clock::start();
    let mut transport = Transport::bind("127.0.0.41:0".parse().unwrap()).unwrap();
    let other = std::net::UdpSocket::bind("127.0.0.42:0").unwrap();
    for _ in 0..BEFORE_TICK_MAX + 10 {
        other.send_to(&[2], transport.local_address()).unwrap();
    }
    let now = clock.now();
    let mut packets = 0;
    while let Input::Packet { .. } = transport.next(&clock, Some(now)).await {
        packets += 1;
    }
    assert_eq!(packets, BEFORE_TICK_MAX);
    while let Input::Packet { .. } = transport.next(&clock, Some(now)).await {
        packets += 1;
    }
    assert_eq!(packets, BEFORE_TICK_MAX + 10);
}

#[tokio::test]
async fn an_address_that_is_in_use_is_named() {
    let first = Transport::bind("127.0.0.43:0".parse().unwrap()).unwrap();
    let error = Transport::bind(first.local_address()).unwrap_err();
    let address = first.local_address();
    assert_eq!(error.to_string(), format!("could not open the memberlist socket {address} (TCP)"));
}

/// What Go encrypted with this key, as its members sent it.
#[test]
fn what_go_encrypts_is_understood() {
    let vectors = include_str!("../../../gossip/tests/vectors.txt");
    let mut counted = HashMap::new();
    for line in vectors.lines() {
        let mut words = line.split(' ');
        let (variant, carrier, hex) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let label: &[u8] = match variant {
            "encrypted" | "padded" => b"",
            "labelled-encrypted" => b"blue",
            _ => continue,
        };
        let bytes: Vec<u8> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let name = Name::new("node-z").unwrap();
        let mut config = Config::new(name, "127.0.0.1:17946".parse().unwrap(), keyring(b"AAECAwQFBgcICQoLDA0ODw"));
        config.label = gossip::Label::new(label).unwrap();
        let mut member = Membership::new(config, Rng::new(1), Instant::ZERO);
        let mut out = Outbox::with_limit(OUTBOX_LIMIT);
        let from: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let connection = ConnectionId::Accepted(1);
        if carrier == "packet" {
            member.handle(Instant::ZERO, Input::Packet { from, bytes }, &mut out);
        } else if bytes[0] == 10 && !label.is_empty() {
            // An answer, which only comes on a connection that we dialed.
            member.handle(Instant::ZERO, Input::Peers { addresses: [from].into() }, &mut out);
            let Some(Output::Dial { connection, .. }) = out.pop() else { panic!("it dials") };
            member.handle(Instant::ZERO, Input::Received { connection, bytes }, &mut out);
        } else {
            member.handle(Instant::ZERO, Input::Accepted { connection, remote: from }, &mut out);
            member.handle(Instant::ZERO, Input::Received { connection, bytes }, &mut out);
        }
        let counters = member.counters();
        // The last stream of each variant is one that its sender did not encrypt, to provoke an error.
        let is_understood = counters.packets_dropped == 0 && counters.streams_dropped == 0;
        let is_plain = hex.starts_with("0982") || hex.starts_with("0d81") || hex.starts_with("f404626c75650982");
        assert_eq!(is_understood, !is_plain, "{line}");
        *counted.entry(variant).or_insert(0) += usize::from(is_understood);
    }
    assert_eq!(counted.len(), 3);
    assert!(counted.values().all(|count| *count >= 4), "{counted:?}");
}
