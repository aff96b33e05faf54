//! Decisions together with real sessions, in virtual time: no history of Services, endpoints, nodes and pools costs a
//! session, and what changed for a router is all that it is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bgp::{
    ConnectRetry, ConnectionId, Families, Input, Mode, PeerConfig, Reception, RouteAttributes, RouterIdSource, State,
};
use ipnet::IpNet;
use kit::{Asn, Duration, HoldTime, Instant, Outbox, RemoteAs, Rng, RouterId};
use speaker::{Options, Output};

use crate::scenario::Scenario;

/// One end of a session.
struct End {
    core: bgp::Peer,
    out: Outbox<bgp::Output>,
    connection: ConnectionId,
    address: SocketAddr,
    /// What the other end has announced and not withdrawn.
    table: BTreeMap<IpNet, Arc<bgp::wire::PathAttributes>>,
    ups: usize,
    downs: usize,
}

impl End {
    fn new(local: u32, remote: u32, mode: Mode, connection: ConnectionId, address: [u8; 4]) -> End {
        let config = PeerConfig {
            local_as: Asn::new(local).unwrap(),
            remote_as: RemoteAs::Exactly(Asn::new(remote).unwrap()),
            router_id: RouterIdSource::Session { otherwise: RouterId::new(local).unwrap() },
            hold_time: HoldTime::from_secs(3).unwrap(),
            keepalive_time: None,
            connect_retry: ConnectRetry::BackOff,
            families: Families::Both,
            mode,
            reception: Reception::Report { prefixes_max: 10_000 },
            graceful_restart: None,
        };
        End {
            core: bgp::Peer::new(config, Rng::new(u64::from(local)), Instant::ZERO),
            out: Outbox::with_limit(bgp::OUTBOX_LIMIT),
            connection,
            address: (address, 179).into(),
            table: BTreeMap::new(),
            ups: 0,
            downs: 0,
        }
    }
}

/// A node's session with a router, over a connection without latency: the node's end comes first.
struct Session {
    ends: [End; 2],
}

impl Session {
    fn begin(now: Instant) -> Session {
        let node = End::new(64512, 64500, Mode::Active, ConnectionId::Dialed(1), [192, 0, 2, 1]);
        let router = End::new(64500, 64512, Mode::Passive, ConnectionId::Accepted(1), [192, 0, 2, 2]);
        let mut session = Session { ends: [node, router] };
        let address = "2001:db8::1".parse().ok();
        for side in [0, 1] {
            session.tell(now, side, Input::Start);
            session.tell(now, side, Input::NextHop { family: kit::Family::V6, address });
        }
        let addresses = [session.ends[0].address, session.ends[1].address];
        let connected = [0, 1].map(|side| {
            let connection = session.ends[side].connection;
            (side, Input::Connected { connection, local: addresses[side], remote: addresses[1 - side] })
        });
        session.deliver(now, connected.into());
        session
    }

    /// Tells one end something, and both what follows from it.
    fn tell(&mut self, now: Instant, side: usize, input: Input) {
        self.deliver(now, VecDeque::from([(side, input)]));
    }

    fn deliver(&mut self, now: Instant, mut inputs: VecDeque<(usize, Input)>) {
        while let Some((side, input)) = inputs.pop_front() {
            let End { core, out, connection, table, ups, downs, .. } = &mut self.ends[side];
            core.handle(now, input, out);
            for output in out.drain() {
                match output {
                    bgp::Output::Send { bytes, .. } => {
                        inputs.push_back((side, Input::Written { connection: *connection, count: bytes.len() }));
                        let other = [ConnectionId::Accepted(1), ConnectionId::Dialed(1)][side];
                        inputs.push_back((1 - side, Input::Received { connection: other, bytes }));
                    }
                    bgp::Output::SessionUp { .. } => *ups += 1,
                    bgp::Output::RoutesAnnounced { prefixes, attributes, .. } => {
                        table.extend(prefixes.into_iter().map(|prefix| (prefix, Arc::clone(&attributes))));
                    }
                    bgp::Output::RoutesWithdrawn { prefixes } => table.retain(|prefix, _| !prefixes.contains(prefix)),
                    bgp::Output::SessionDown { .. } | bgp::Output::AttemptFailed { .. } => *downs += 1,
                    bgp::Output::MalformedUpdate { text, .. } => panic!("malformed: {text}"),
                    bgp::Output::Dial { .. } | bgp::Output::Close { .. } => {}
                }
            }
        }
    }

    fn pass(&mut self, until: Instant) {
        loop {
            let next = |end: &End| end.core.next_deadline();
            let due = self.ends.iter().enumerate().filter_map(|(side, end)| Some((next(end)?, side))).min();
            match due.filter(|(due, _)| *due <= until) {
                Some((due, side)) => self.tell(due, side, Input::Tick),
                None => return,
            }
        }
    }

    fn updates(&self) -> u64 {
        self.ends[0].core.view().counters.sent.updates
    }
}

/// A node with its sessions, and what each router should have.
struct Node {
    scenario: Scenario,
    now: Instant,
    sessions: BTreeMap<String, Session>,
    wanted: BTreeMap<(String, IpNet), Arc<RouteAttributes>>,
    began: usize,
}

impl Node {
    fn new() -> Node {
        let scenario = Scenario::new(Options { node: "n1".into(), ..Options::default() });
        Node { scenario, now: Instant::ZERO, sessions: BTreeMap::new(), wanted: BTreeMap::new(), began: 0 }
    }

    fn feed(&mut self, line: &str) {
        self.feed_at_once(line);
        self.pass(Duration::from_millis(100));
    }

    /// Gives a line and all that follows from it without a timer that would have to run: no time passes.
    fn feed_at_once(&mut self, line: &str) {
        for output in self.scenario.feed(line) {
            match output {
                Output::PeerAdd(peer) => {
                    self.began += 1;
                    self.sessions.insert(peer.name.clone(), Session::begin(self.now));
                }
                Output::PeerRemove(name) => drop(self.sessions.remove(&name)),
                Output::PeerReset { peer, .. } => panic!("{line} resets the session with {}", peer.name),
                Output::PeerComplete(name) => self.tell(&name, Input::Complete),
                Output::RouteAnnounce { peer, prefix, attributes } => {
                    self.wanted.insert((peer.clone(), prefix), Arc::clone(&attributes));
                    self.tell(&peer, Input::Announce { prefix, attributes });
                }
                Output::RouteWithdraw { peer, prefix } => {
                    self.wanted.remove(&(peer.clone(), prefix));
                    self.tell(&peer, Input::Withdraw { prefix });
                }
                _ => {}
            }
        }
    }

    fn tell(&mut self, name: &str, input: Input) {
        let session = self.sessions.get_mut(name).unwrap_or_else(|| panic!("{name} has no session"));
        session.tell(self.now, 0, input);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for session in self.sessions.values_mut() {
            session.pass(self.now);
        }
    }

    /// The routes that a router should have, with what says how they look.
    fn wanted_of(&self, name: &str) -> BTreeMap<IpNet, Arc<RouteAttributes>> {
        let of_peer = self.wanted.iter().filter(|((peer, _), _)| peer == name);
        of_peer.map(|((_, prefix), attributes)| (*prefix, Arc::clone(attributes))).collect()
    }

    fn check(&self, history: &[String]) {
        for (name, session) in &self.sessions {
            let [node, router] = &session.ends;
            assert_eq!(node.core.state(), State::Established, "{name}: {history:#?}");
            assert_eq!((node.ups, node.downs, router.ups, router.downs), (1, 0, 1, 0), "{name}: {history:#?}");
            let wanted = self.wanted_of(name);
            assert_eq!(router.table.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{history:#?}");
            for (prefix, attributes) in &wanted {
                assert_eq!(router.table[prefix].communities, attributes.communities, "{prefix}: {history:#?}");
                assert_eq!(router.table[prefix].multi_exit_disc, attributes.multi_exit_disc, "{prefix}");
            }
        }
    }
}

const START: &str = "
    pool p 10.0.0.0/24 fc00::/120
    pool q 10.0.1.0/24
    bgp p one
    bgp q one
    peer r1 192.0.2.1 dual
    peer r2 192.0.2.2
    configure
    node n1 zone=a
    node n2 zone=b
    synced";

/// What Services, endpoints, nodes, pools and advertisements can do.
fn line(rng: &mut Rng) -> String {
    let pick = |rng: &mut Rng, words: &[&str]| (*rng.pick(words).unwrap()).to_owned();
    let service = pick(rng, &["s1", "s2", "s3", "s4", "s5"]);
    match rng.below(12) {
        0..=2 => {
            let addresses = pick(rng, &["10.0.0.1", "10.0.0.2", "10.0.1.3", "10.0.0.1,fc00::1", "fc00::2", "-"]);
            format!("svc {service} {addresses} {}", pick(rng, &["", "local", "app=web", "class=x"]))
        }
        3 => format!("delete svc {service}"),
        4..=6 => format!("eps {service} {}", pick(rng, &["n1:ready", "n2:ready", "n1:notready", "n1:ready n2:ready"])),
        7 => format!("delete eps {service}"),
        8 => format!("node n2 {}", pick(rng, &["zone=a", "zone=b", "zone=b exclude", "!ready", "!network"])),
        // Of its own labels, only those that select peers could touch a session; here none does.
        9 => format!("node n1 {}", pick(rng, &["zone=a", "zone=a exclude", "zone=a !ready", "zone=a !network"])),
        10 => {
            let options = pick(rng, &["", "length=24", "services=app=web", "peers=r1", "communities=1:1", "med=5"]);
            format!("bgp {} {} {options}\nconfigure", pick(rng, &["p", "q"]), pick(rng, &["one", "two"]))
        }
        _ => {
            let ranges = pick(rng, &["10.0.1.0/24", "10.0.1.0/25", "10.0.2.0/24"]);
            format!("pool q {ranges}\nbgp q one\nconfigure")
        }
    }
}

#[test]
fn no_service_endpoint_node_or_pool_ever_resets_a_session() {
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let mut node = Node::new();
        START.lines().for_each(|line| node.feed(line));
        let mut history = Vec::new();
        for _ in 0..40 {
            let lines = line(&mut rng);
            let before: BTreeMap<String, _> =
                node.sessions.iter().map(|(name, it)| (name.clone(), (it.updates(), node.wanted_of(name)))).collect();
            lines.lines().for_each(|line| node.feed(line));
            history.push(lines);
            for (name, (updates, wanted)) in before {
                let (sent, now) = (node.sessions[&name].updates() - updates, node.wanted_of(&name));
                let prefixes: BTreeSet<_> = wanted.keys().chain(now.keys()).collect();
                let changed = prefixes.into_iter().filter(|prefix| wanted.get(*prefix) != now.get(*prefix)).count();
                let changed = u64::try_from(changed).unwrap();
                // One changed route is one UPDATE, and no change is none; several may share one.
                assert!(sent <= changed && (sent > 0) == (changed > 0), "{name}: {sent} for {changed}: {history:#?}");
            }
            // Long enough for a keepalive that was forgotten to show.
            node.pass(Duration::from_millis(rng.below(5_000)));
        }
        node.check(&history);
        assert_eq!(node.began, 2, "{history:#?}");
    }
}

/// Contract 6.1 row 7: with the policy `Local`, packets that come for an endpoint that has gone are lost until the router knows.
/// So what the cores add to the network's time is this, whatever the sessions are about just then, and whatever else changed.
#[test]
fn an_endpoint_that_goes_with_policy_local_is_withdrawn_without_delay() {
    const WITHDRAWAL_DELAY_MAX: Duration = Duration::ZERO;
    let gone = ["eps s1 n2:ready", "eps s1 n1:notready n2:ready", "eps s1", "delete eps s1", "delete svc s1"];
    for gone in gone {
        // Right after the route came, in the middle of a hold time, and when a KEEPALIVE has just gone.
        for before_ms in [0, 1, 100, 999, 1_000, 1_700, 60_000] {
            let mut node = Node::new();
            START.lines().for_each(|line| node.feed(line));
            node.feed("svc s1 10.0.0.1 local");
            node.feed("svc other 10.0.0.2,fc00::2");
            node.feed("eps other n1:ready");
            node.feed_at_once("eps s1 n1:ready");
            node.pass(Duration::from_millis(before_ms));
            let prefix: IpNet = "10.0.0.1/32".parse().unwrap();
            let has_route =
                |node: &Node| node.sessions.values().filter(|it| it.ends[1].table.contains_key(&prefix)).count();
            assert_eq!(has_route(&node), 2, "{gone} after {before_ms} ms: both routers have it");
            let updates = |node: &Node| node.sessions.values().map(Session::updates).sum::<u64>();
            let sent = updates(&node);
            // Something else changes first, in the same moment.
            node.feed_at_once("svc more 10.0.0.3");
            node.feed_at_once("eps more n1:ready");
            node.feed_at_once(gone);
            node.pass(WITHDRAWAL_DELAY_MAX);
            assert_eq!(has_route(&node), 0, "{gone} after {before_ms} ms");
            assert_eq!(updates(&node), sent + 4, "{gone}: to each router one UPDATE for each of the two routes");
            node.check(&[gone.to_owned()]);
        }
    }
}
