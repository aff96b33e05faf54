//! Two speakers over loopback, with real sockets and real time; every wait has a limit.

use super::*;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp::{
    ConnectRetry, Families, Mode, Peer, PeerConfig, Reception, RouteAttributes, RouterIdSource, State, StopReason,
};
use ipnet::IpNet;
use kit::{Asn, HoldTime, MacAlgorithm, MasterKeyTuple, MasterKeys, Outbox, RemoteAs, Rng, Secret};

use crate::clock::Clock;

/// Far more than any test needs.
const LIMIT: Duration = Duration::from_secs(20);

/// One host with its sessions.
struct Host {
    clock: Clock,
    transport: Transport<&'static str>,
    peers: BTreeMap<&'static str, (Endpoint, Peer)>,
    out: Outbox<Output>,
    routes: BTreeSet<IpNet>,
    log: Vec<String>,
}

fn config(local_as: u32, remote_as: u32, mode: Mode) -> PeerConfig {
    PeerConfig {
        local_as: Asn::new(local_as).unwrap(),
        remote_as: RemoteAs::Exactly(Asn::new(remote_as).unwrap()),
        router_id: RouterIdSource::Configured(kit::RouterId::new(local_as).unwrap()),
        hold_time: HoldTime::DEFAULT,
        keepalive_time: None,
        connect_retry: ConnectRetry::Every(kit::Duration::from_millis(500)),
        families: Families::Both,
        mode,
        reception: Reception::Report { prefixes_max: 100_000 },
        graceful_restart: None,
    }
}

impl Host {
    fn new() -> Self {
        Host {
            clock: Clock::start(),
            transport: Transport::new(),
            peers: BTreeMap::new(),
            out: Outbox::with_limit(bgp::OUTBOX_LIMIT),
            routes: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    fn add(&mut self, name: &'static str, endpoint: Endpoint, config: PeerConfig) {
        let peer = Peer::new(config, Rng::new(7), self.clock.now());
        self.peers.insert(name, (endpoint, peer));
        self.input(name, Input::Start);
        self.input(name, Input::Complete);
    }

    fn input(&mut self, name: &'static str, input: Input) {
        let (endpoint, peer) = self.peers.get_mut(name).unwrap();
        peer.handle(self.clock.now(), input, &mut self.out);
        assert_eq!(self.out.dropped(), 0);
        for output in self.out.drain() {
            match self.transport.execute(&name, endpoint, output) {
                Some(Output::SessionUp { .. }) => self.log.push("up".to_owned()),
                Some(Output::SessionDown { reason }) => {
                    self.routes.clear();
                    self.log.push(format!("down: {reason}"));
                }
                Some(Output::AttemptFailed { reason }) => self.log.push(format!("failed: {reason}")),
                Some(Output::RoutesAnnounced { prefixes, .. }) => self.routes.extend(prefixes),
                Some(Output::RoutesWithdrawn { prefixes }) => self.routes.retain(|prefix| !prefixes.contains(prefix)),
                Some(output) => panic!("{output:?}"),
                None => {}
            }
        }
    }

    /// One event or tick.
    async fn step(&mut self) {
        let deadline = self.peers.values().filter_map(|(_, peer)| peer.next_deadline()).min();
        let (name, input) = tokio::select! {
            event = self.transport.next() => event,
            () = self.clock.sleep_until(deadline) => {
                let (name, _) = self.peers.iter().find(|(_, (_, peer))| peer.next_deadline() == deadline).unwrap();
                (*name, Input::Tick)
            }
        };
        self.input(name, input);
    }

    fn state(&self) -> State {
        self.peers.values().map(|(_, peer)| peer.state()).min().unwrap()
    }
}

/// Drives both hosts until the condition holds.
async fn until(a: &mut Host, b: &mut Host, what: &str, condition: impl Fn(&Host, &Host) -> bool) {
    let all = async {
        while !condition(a, b) {
            tokio::select! {
                () = a.step() => {}
                () = b.step() => {}
            }
        }
    };
    let in_time = tokio::time::timeout(LIMIT, all).await.is_ok();
    assert!(in_time, "{what}: {:?} {:?}", a.log, b.log);
}

fn endpoint(address: SocketAddr, password: Option<&str>) -> Endpoint {
    let authentication = password.map(|password| TcpAuthentication::Password(Secret::new(password)));
    Endpoint { authentication, ..Endpoint::new(address) }
}

/// A router that listens on an address and a speaker that dials it.
fn pair(address: &str, router_password: Option<&str>, speaker_password: Option<&str>) -> (Host, Host) {
    let (mut router, mut speaker) = (Host::new(), Host::new());
    let address: IpAddr = address.parse().unwrap();
    let listener = router.transport.listen(SocketAddr::new(address, 0), None).unwrap();
    let local = router.transport.local_address(listener).unwrap();
    let from_speaker = endpoint(SocketAddr::new(address, 0), router_password);
    router.transport.allow(listener, "speaker", &from_speaker).unwrap();
    router.add("speaker", from_speaker, config(65000, 65001, Mode::Passive));
    let to_router = Endpoint { source: Some(address), ..endpoint(local, speaker_password) };
    speaker.add("router", to_router, config(65001, 65000, Mode::Active));
    (router, speaker)
}

#[tokio::test]
async fn callers_from_a_range_come_under_its_name_and_others_not_at_all() {
    for (address, network, elsewhere) in [("127.0.0.1", "127.0.0.0/8", "10.0.0.0/8"), ("::1", "::/64", "2001:db8::/64")]
    {
        for (network, password, is_let_in) in
            [(network, None, true), (network, Some("secret"), true), (elsewhere, None, false)]
        {
            let (mut router, mut speaker) = (Host::new(), Host::new());
            let address: IpAddr = address.parse().unwrap();
            let listener = router.transport.listen(SocketAddr::new(address, 0), None).unwrap();
            let local = router.transport.local_address(listener).unwrap();
            let anybody = endpoint(SocketAddr::new(address, 0), password);
            let range = network.parse().unwrap();
            router.transport.allow_range(listener, "range", range, &anybody).unwrap();
            router.add("range", anybody, config(65000, 65001, Mode::Passive));
            speaker.add("router", endpoint(local, password), config(65001, 65000, Mode::Active));
            if is_let_in {
                until(&mut router, &mut speaker, "a caller from the range", |router, speaker| {
                    router.state() == State::Established && speaker.state() == State::Established
                })
                .await;
                // Who is in stays in; but the next one is turned away, and the key is gone.
                router.transport.disallow(listener, &"range");
                speaker.add("again", endpoint(local, None), config(65001, 65000, Mode::Active));
            }
            until(&mut router, &mut speaker, "a caller from elsewhere", |_, speaker| {
                speaker.log.iter().any(|line| line.contains("closed the connection") || line.contains("reset"))
            })
            .await;
            assert_eq!(router.state() == State::Established, is_let_in, "{network}: {:?}", router.log);
        }
    }
}

#[tokio::test]
async fn a_port_is_free_as_soon_as_nobody_listens() {
    for address in ["127.0.0.1", "::1"] {
        let mut router = Host::new();
        let address: IpAddr = address.parse().unwrap();
        let first = router.transport.listen(SocketAddr::new(address, 0), None).unwrap();
        let local = router.transport.local_address(first).unwrap();
        // The accepting task runs, and has the socket.
        tokio::task::yield_now().await;
        router.transport.unlisten(first);
        router.transport.listen(local, None).unwrap();
        let twice = router.transport.listen(local, None).unwrap_err();
        assert!(matches!(twice, ListenError::Socket { .. }), "{twice}");
    }
}

fn prefixes(count: u32, family: Family) -> Vec<IpNet> {
    let prefix = |n: u32| match family {
        Family::V4 => IpNet::new(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 32).unwrap(),
        Family::V6 => IpNet::new(IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(n)).to_be_bytes()), 128).unwrap(),
    };
    (0..count).map(prefix).collect()
}

fn announce(host: &mut Host, prefixes: &[IpNet]) {
    let attributes = Arc::new(RouteAttributes::default());
    for prefix in prefixes {
        host.input("router", Input::Announce { prefix: *prefix, attributes: Arc::clone(&attributes) });
    }
}

async fn check_session(address: &str, router_password: Option<&str>, speaker_password: Option<&str>) {
    let (mut router, mut speaker) = pair(address, router_password, speaker_password);
    // A loopback address is no next hop, so the routes are of the other family.
    let family = Family::of(&address.parse().unwrap()).other();
    let next_hop = if family == Family::V4 { "192.0.2.1" } else { "2001:db8::1" };
    speaker.input("router", Input::NextHop { family, address: Some(next_hop.parse().unwrap()) });
    let routes = prefixes(3000, family);
    announce(&mut speaker, &routes);
    until(&mut router, &mut speaker, "all routes arrive", |router, _| router.routes.len() == 3000).await;
    for prefix in routes.iter().skip(1) {
        speaker.input("router", Input::Withdraw { prefix: *prefix });
    }
    until(&mut router, &mut speaker, "all but one go", |router, _| router.routes.len() == 1).await;
    let reason = StopReason::AdministrativeShutdown { text: "good night".to_owned() };
    speaker.input("router", Input::Stop { reason });
    until(&mut router, &mut speaker, "the router hears why", |router, _| router.state() < State::OpenSent).await;
    let last = router.log.last().unwrap();
    assert_eq!(last, "down: received Cease/Administrative Shutdown (\"good night\")");
    assert!(router.routes.is_empty());
    speaker.transport.finish().await;
}

#[tokio::test]
async fn a_session_over_ipv4() {
    check_session("127.0.0.1", None, None).await;
}

#[tokio::test]
async fn a_session_over_ipv6() {
    check_session("::1", None, None).await;
}

#[tokio::test]
async fn rfc2385_sessions_with_the_right_password() {
    check_session("127.0.0.1", Some("secret"), Some("secret")).await;
    check_session("::1", Some("secret"), Some("secret")).await;
}

#[tokio::test]
async fn rfc2385_the_wrong_password_looks_like_silence_and_is_called_so() {
    for (router_password, speaker_password) in [(Some("secret"), Some("other")), (Some("secret"), None)] {
        let (mut router, mut speaker) = pair("127.0.0.1", router_password, speaker_password);
        until(&mut router, &mut speaker, "the attempt fails", |_, speaker| !speaker.log.is_empty()).await;
        assert!(speaker.log[0].contains("TCP MD5 passwords or TCP-AO keys differ"), "{:?}", speaker.log);
        assert_eq!(router.state(), State::Active);
    }
}

/// A key of TCP-AO as this end and as the other one has it.
fn keys(text: &str) -> [Option<TcpAuthentication>; 2] {
    [(1, 2), (2, 1)].map(|(send_id, receive_id)| {
        let key = MasterKeyTuple { send_id, receive_id, algorithm: MacAlgorithm::Aes128Cmac, key: Secret::new(text) };
        MasterKeys::new(vec![key]).map(TcpAuthentication::Keys)
    })
}

/// A kernel with TCP-AO makes sessions by the right keys and no others. One without is named at both ends, and there are no
/// sessions without keys instead: neither where we listen nor where we dial.
#[tokio::test]
async fn rfc5925_sessions_by_keys_or_none_at_all() {
    for address in ["127.0.0.1", "::1"] {
        let ([ours, theirs], [wrong, _]) = (keys("secret"), keys("other"));
        for (authentication, is_right) in [(&ours, true), (&wrong, false), (&None, false)] {
            let (mut router, mut speaker) = (Host::new(), Host::new());
            let address: IpAddr = address.parse().unwrap();
            let listener = router.transport.listen(SocketAddr::new(address, 0), None).unwrap();
            let local = router.transport.local_address(listener).unwrap();
            let from = Endpoint { authentication: theirs.clone(), ..Endpoint::new(SocketAddr::new(address, 0)) };
            let allowed = router.transport.allow(listener, "speaker", &from);
            router.add("speaker", from, config(65000, 65001, Mode::Passive));
            let to = Endpoint { authentication: authentication.clone(), ..Endpoint::new(local) };
            speaker.add("router", to, config(65001, 65000, Mode::Active));
            if allowed.is_ok() && is_right {
                until(&mut router, &mut speaker, "up", |router, _| router.state() == State::Established).await;
                router.transport.disallow(listener, &"speaker");
                continue;
            }
            until(&mut router, &mut speaker, "the attempt fails", |_, speaker| !speaker.log.is_empty()).await;
            assert_eq!(router.state(), State::Active);
            match allowed {
                Ok(()) => assert!(speaker.log[0].contains("TCP-AO keys differ"), "{:?}", speaker.log),
                Err(ListenError::Option(TcpOptionError::NoAo)) if authentication.is_some() => assert_eq!(
                    speaker.log[0],
                    "failed: the socket could not be prepared: this kernel has no TCP-AO, which came with Linux 6.7 and \
                     CONFIG_TCP_AO"
                ),
                // Turned away: no key, so no peer.
                Err(ListenError::Option(TcpOptionError::NoAo)) => assert!(router.log.is_empty(), "{:?}", router.log),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// What connects before a password or key is in place is not signed: it does not come in under the name of who has one, wherever
/// it waits meanwhile. Others that wait with it do. Keys are for kernels that have TCP-AO.
#[tokio::test]
async fn rfc2385_and_rfc5925_who_came_before_the_password_or_key_is_turned_away() {
    let password = Some(TcpAuthentication::Password(Secret::new("secret")));
    for ends in [[password.clone(), password], keys("secret")] {
        for (ours, waits) in [("127.0.0.1", "in the kernel"), ("127.0.0.1", "for the caller"), ("::1", "in the kernel")]
        {
            check_who_came_before(ours, waits, &ends).await;
        }
    }
}

async fn check_who_came_before(ours: &str, waits: &str, [of_listener, of_router]: &[Option<TcpAuthentication>; 2]) {
    let mut transport = Transport::new();
    let address: IpAddr = ours.parse().unwrap();
    let listener = transport.listen(SocketAddr::new(address, 0), None).unwrap();
    let local = transport.local_address(listener).unwrap();
    transport.allow_range(listener, "range", IpNet::from(address), &Endpoint::new(local)).unwrap();
    let before = std::net::TcpStream::connect(local).unwrap();
    if waits == "for the caller" {
        // The task that accepts has done so when its message is there.
        while transport.incoming.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    let signed = Endpoint { authentication: of_listener.clone(), ..Endpoint::new(SocketAddr::new(address, 0)) };
    match transport.allow(listener, "signed", &signed) {
        Err(ListenError::Option(TcpOptionError::NoAo)) => {
            assert!(matches!(of_listener, Some(TcpAuthentication::Keys(_))));
            // Nobody is let in by keys that are not there, and for the range all is as before.
            let (name, input) = transport.next().await;
            assert!(name == "range" && matches!(input, Input::Connected { .. }), "{waits}: {name}: {input:?}");
            return;
        }
        result => result.unwrap(),
    }
    // Who comes by the password afterwards is the first that is heard of.
    let to = Endpoint { authentication: of_router.clone(), ..Endpoint::new(local) };
    transport.dial(&"router", ConnectionId::Dialed(1), &to);
    let mut names = Vec::new();
    while names.len() < 2 {
        let (name, input) = transport.next().await;
        assert!(matches!(input, Input::Connected { .. }), "{waits}: {name}: {input:?}");
        if let (Input::Connected { remote, .. }, "signed") = (&input, name) {
            assert_ne!(*remote, before.local_addr().unwrap(), "{waits}");
        }
        names.push(name);
    }
    names.sort_unstable();
    assert_eq!(names, ["router", "signed"], "{waits}");
    // Without a password nothing is asked of who waits.
    transport.disallow(listener, &"signed");
    let waiting = std::net::TcpStream::connect(local).unwrap();
    let elsewhere = Endpoint { address: "192.0.2.1:0".parse().unwrap(), ..signed };
    if address.is_ipv4() {
        transport.allow(listener, "elsewhere", &elsewhere).unwrap();
    }
    let (name, input) = transport.next().await;
    assert_eq!(name, "range", "{waits}");
    assert!(matches!(input, Input::Connected { remote, .. } if remote == waiting.local_addr().unwrap()));
}

#[tokio::test]
async fn connections_that_fail_say_why() {
    let mut speaker = Host::new();
    let address = IpAddr::from([127, 0, 0, 1]);
    // A port that was just free: nothing listens there.
    let closed = std::net::TcpListener::bind((address, 0)).unwrap().local_addr().unwrap();
    let source = Endpoint { source: Some("192.0.2.77".parse().unwrap()), ..Endpoint::new(closed) };
    speaker.add("refused", Endpoint::new(closed), config(1, 2, Mode::Active));
    speaker.add("source", source, config(1, 2, Mode::Active));
    let mut nobody = Host::new();
    until(&mut nobody, &mut speaker, "both fail", |_, speaker| speaker.log.len() >= 2).await;
    speaker.log.sort();
    assert!(speaker.log[0].starts_with("failed: connection refused"), "{:?}", speaker.log);
    assert!(
        speaker.log.iter().any(|line| line == "failed: the source address 192.0.2.77 is not on this host"),
        "{:?}",
        speaker.log
    );
}

#[tokio::test]
async fn a_stranger_is_turned_away() {
    let (mut router, mut speaker) = (Host::new(), Host::new());
    let address = IpAddr::from([127, 0, 0, 1]);
    let listener = router.transport.listen(SocketAddr::new(address, 0), None).unwrap();
    let local = router.transport.local_address(listener).unwrap();
    let elsewhere = Endpoint::new(SocketAddr::from(([127, 0, 0, 9], 0)));
    router.transport.allow(listener, "speaker", &elsewhere).unwrap();
    router.add("speaker", elsewhere, config(65000, 65001, Mode::Passive));
    speaker.add("router", Endpoint::new(local), config(65001, 65000, Mode::Active));
    until(&mut router, &mut speaker, "the attempt fails", |_, speaker| !speaker.log.is_empty()).await;
    assert_eq!(router.state(), State::Active);
}

/// A connection to somebody who never reads.
async fn deaf() -> (Transport<&'static str>, ConnectionId, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut transport = Transport::new();
    let id = ConnectionId::Dialed(1);
    transport.dial(&"deaf", id, &Endpoint::new(listener.local_addr().unwrap()));
    let (deaf, _) = listener.accept().await.unwrap();
    let (_, connected) = transport.next().await;
    assert!(matches!(connected, Input::Connected { .. }));
    (transport, id, deaf)
}

#[tokio::test]
async fn a_peer_that_reads_nothing_does_not_hold_up_the_end() {
    let (mut transport, id, _deaf) = deaf().await;
    // Far more than the kernel's buffers take.
    for _ in 0..WRITES_MAX {
        transport.send(&"deaf", id, vec![0; 16 * 1024]);
    }
    transport.close(&"deaf", id);
    let begin = tokio::time::Instant::now();
    transport.finish().await;
    assert!(begin.elapsed() < FINISH_TIMEOUT, "closing hung");
}

#[tokio::test]
async fn writing_without_end_drops_the_connection() {
    let (mut transport, id, _deaf) = deaf().await;
    for _ in 0..=WRITES_MAX {
        transport.send(&"deaf", id, vec![0; 19]);
    }
    let (_, closed) = transport.next().await;
    let reason = CloseReason::Failed("too much waits to be written".to_owned());
    assert_eq!(closed, Input::Closed { connection: id, reason });
}

#[tokio::test]
async fn a_hundred_peers_in_one_task() {
    let (mut router, mut speaker) = (Host::new(), Host::new());
    let names: Vec<&'static str> = (0..100).map(|n| &*Box::leak(format!("peer-{n}").into_boxed_str())).collect();
    let address = IpAddr::from([127, 0, 0, 1]);
    let listener = router.transport.listen(SocketAddr::new(address, 0), None).unwrap();
    let local = router.transport.local_address(listener).unwrap();
    for (index, name) in (1..).zip(names) {
        let source = IpAddr::from([127, 0, 1, index]);
        let from = Endpoint::new(SocketAddr::new(source, 0));
        router.transport.allow(listener, name, &from).unwrap();
        router.add(name, from, config(65000, 65001, Mode::Passive));
        let to = Endpoint { source: Some(source), ..Endpoint::new(local) };
        speaker.add(name, to, config(65001, 65000, Mode::Active));
    }
    until(&mut router, &mut speaker, "all are up", |router, speaker| {
        router.state() == State::Established && speaker.state() == State::Established
    })
    .await;
}

#[tokio::test]
async fn rfc5082_ttl_security_lets_a_neighbour_in() {
    let (mut router, mut speaker) = (Host::new(), Host::new());
    let address = IpAddr::from([127, 0, 0, 1]);
    let ttl = Ttl::Security { hops: 1 };
    let listener = router.transport.listen(SocketAddr::new(address, 0), None).unwrap();
    let local = router.transport.local_address(listener).unwrap();
    let from = Endpoint { ttl, ..Endpoint::new(SocketAddr::new(address, 0)) };
    router.transport.allow(listener, "speaker", &from).unwrap();
    router.add("speaker", from, config(65000, 65001, Mode::Passive));
    let to = Endpoint { ttl, ..Endpoint::new(local) };
    speaker.add("router", to, config(65001, 65000, Mode::Active));
    until(&mut router, &mut speaker, "up", |router, _| router.state() == State::Established).await;
}
