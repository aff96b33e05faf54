//! BGP sessions: passwords, timers, what both ends say when a session ends, and who is told what (contract 6.3, 6.4).

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use kit::{HoldTime, MacAlgorithm, MasterKeyTuple, MasterKeys, Secret};
use lab::confined::Capabilities;
use lab::router::{PeerPlace, RouterKind, RouterPeer};
use lab::testing::Trial;
use lab::{Host, Lab, eventually};
use sys::tcp::TcpOptionError;

use crate::cluster::{Cluster, LIMIT, PROGRAM, Setup, address, at, v4, v6};
use crate::edge::{Edge, OURS, THEIRS, accepting, announce_routed, host_route, put_peers};
use crate::objects::{Service, secret};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_6_4_a_password_has_to_be_the_one_that_frr_has", passwords),
        Trial::new("contract_1_2_a_password_comes_from_a_secret_and_follows_it", password_secret),
        Trial::new("rfc_5925_keys_sign_a_session_or_there_is_none", keys),
        Trial::new("rfc_4271_6_5_a_router_that_holds_still_is_given_up_and_found_again", hold_timer),
        Trial::new("rfc_4486_both_ends_are_told_in_words_why_a_session_ends", notifications),
        Trial::new("contract_6_2_two_routers_are_told_what_the_advertisements_to_each_say", two_routers),
        Trial::new("bird_has_sessions_of_both_families_with_a_password_and_all_communities", bird),
    ]
}

/// How many segments a host's kernel has refused because of their MD5 signature, or for want of one.
fn signatures_refused(host: &Host) -> Result<u64> {
    let text = host.output_ok("cat", &["/proc/net/netstat"])?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let counters = names.split_whitespace().zip(values.split_whitespace());
    let about_md5 = counters.filter(|(name, _)| name.starts_with("TCPMD5"));
    about_md5.map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
}

/// Waits until the router's kernel has refused several attempts, and sees that none made a session.
fn refused(edge: &Edge, peers: &[std::net::IpAddr]) -> Result<()> {
    let before = signatures_refused(edge.router.host())?;
    eventually(LIMIT, || {
        let refused = signatures_refused(edge.router.host())? - before;
        ensure!(refused >= 4, "the router's kernel has refused {refused} segments");
        Ok(())
    })?;
    for peer in peers {
        let session = edge.session(*peer)?;
        ensure!(!session.is_established(), "established with a wrong password: {session:?}");
    }
    Ok(())
}

fn passwords(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let with_password = |peer: &mut RouterPeer| peer.password = Some(Secret::new("correct-horse"));
    let config = accepting(&cluster, THEIRS, OURS, with_password)?;
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    announce_routed(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let peers = [v4(11), v6(11)];
    put_peers(&cluster, ", connectTime: 1s, password: \"correct-horse\"")?;
    edge.wait_sessions(&cluster).context("with the right password")?;
    for target in cluster.wait_addresses("web")? {
        edge.wait_nodes(&cluster, target, &["node-a"])?;
        cluster.reach(&edge.remote, at(target, 80))?;
    }
    put_peers(&cluster, ", connectTime: 1s, password: \"wrong-horse\"")?;
    eventually(LIMIT, || {
        for peer in peers {
            let session = edge.session(peer)?;
            ensure!(!session.is_established(), "with a wrong password: {session:?}");
        }
        Ok(())
    })?;
    refused(&edge, &peers).context("with a wrong password")?;
    put_peers(&cluster, ", connectTime: 1s")?;
    refused(&edge, &peers).context("without a password")?;
    put_peers(&cluster, ", connectTime: 1s, password: \"correct-horse\"")?;
    edge.wait_sessions(&cluster).context("with the right password again")?;
    let log = cluster.speaker("node-a").log();
    ensure!(!log.contains("horse"), "the speaker logs a password:\n{log}");
    Ok(())
}

fn password_secret(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let with_password = |peer: &mut RouterPeer| peer.password = Some(Secret::new("from-secret"));
    let config = accepting(&cluster, THEIRS, OURS, with_password)?;
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    announce_routed(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    // Contract 4.2 rule 17: without the Secret the configuration is refused; the Service has its address meanwhile.
    put_peers(&cluster, ", connectTime: 1s, passwordSecret: {name: peers}")?;
    cluster.wait_speaker_log("node-a", 0, &["failed to parse the configuration", "secret ref not found"])?;
    let addresses = cluster.wait_addresses("web")?;
    cluster.write("secret-peers", &secret("peers", "from-secret"))?;
    edge.wait_sessions(&cluster).context("with the password that the Secret has")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    cluster.write("secret-peers", &secret("peers", "another"))?;
    refused(&edge, &[v4(11), v6(11)]).context("with another password in the Secret")?;
    cluster.write("secret-peers", &secret("peers", "from-secret"))?;
    edge.wait_sessions(&cluster).context("with the right password in the Secret again")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    let log = cluster.speaker("node-a").log();
    ensure!(!log.contains("from-secret"), "the speaker logs a password:\n{log}");
    Ok(())
}

/// Where the kernel has TCP-AO, the embedded router and a speaker have sessions by keys. Where it has not, the speaker says so
/// and there is no session without keys instead; the one beside it is not disturbed.
fn keys(lab: &Lab) -> Result<()> {
    let setup = Setup { capabilities: Capabilities::NetRawAndBindService, ..Setup::nodes(&["node-a"]) };
    let mut cluster = Cluster::start_with(lab, setup)?;
    let tuple = |send_id, receive_id, algorithm, text| MasterKeyTuple {
        send_id,
        receive_id,
        algorithm,
        key: Secret::new(text),
    };
    let of_router =
        [tuple(2, 1, MacAlgorithm::HmacSha1, "spring-water"), tuple(4, 3, MacAlgorithm::Aes128Cmac, "summer-rain")];
    let of_router = MasterKeys::new(of_router.to_vec()).context("no keys")?;
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let is_able = match sys::tcp::ao_keys_add(&socket, "192.0.2.1".parse()?, 32, &of_router) {
        Ok(()) => true,
        Err(TcpOptionError::NoAo) => false,
        Err(error) => return Err(error.into()),
    };
    let with_keys = |peer: &mut RouterPeer| {
        let is_four = peer.place == PeerPlace::Address(v4(11));
        peer.keys = is_four.then(|| of_router.clone()).filter(|_| is_able);
    };
    let config = accepting(&cluster, THEIRS, OURS, with_keys)?;
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Embedded, &config)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s")?;
    cluster.write("secret-spring", &secret("spring", "spring-water"))?;
    cluster.write("secret-summer", &secret("summer", "summer-rain"))?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    edge.wait_nodes(&cluster, addresses[1], &["node-a"]).context("without keys")?;
    let peer = format!("myASN: {OURS}, peerASN: {THEIRS}, peerAddress: {}, connectTime: 1s", v4(254));
    let signed = |keys: &str| format!("{peer}, tcpAuthenticationKeys: [{keys}]");
    let first = "{sendID: 1, receiveID: 2, algorithm: hmac-sha-1-96, secretName: spring}";
    let second = "{sendID: 3, receiveID: 4, algorithm: aes-128-cmac-96, secretName: summer}";
    let router = v4(254).to_string();
    // The lines of the log that come after this change, when it has ended the session.
    let change = |keys: &str| -> Result<usize> {
        let seen = cluster.log_length("node-a");
        cluster.put("BGPPeer", "four", &signed(keys))?;
        cluster.wait_speaker_log("node-a", seen, &["peerChanged", "tcpAuthenticationKeys", "reset"])?;
        Ok(seen)
    };
    let seen = change(&format!("{first}, {second}"))?;
    if is_able {
        cluster.wait_speaker_log("node-a", seen, &["sessionUp", &router]).context("with both keys")?;
        edge.wait_nodes(&cluster, addresses[0], &["node-a"]).context("with both keys")?;
        let seen = change(second)?;
        cluster.wait_speaker_log("node-a", seen, &["sessionUp", &router]).context("with the second key alone")?;
        edge.wait_nodes(&cluster, addresses[0], &["node-a"]).context("with the second key alone")?;
        let seen = change(&second.replace("summer", "spring"))?;
        cluster.wait_speaker_log("node-a", seen, &["failed to establish", &router]).context("with another key")?;
        edge.wait_nodes(&cluster, addresses[0], &[]).context("with another key")?;
    } else {
        for mode in ["active", "passive", "both"] {
            let seen = cluster.log_length("node-a");
            cluster.put("BGPPeer", "four", &format!("{}, connectionMode: {mode}", signed(first)))?;
            let text = if mode == "passive" { "could not listen for BGP" } else { "failed to establish BGP session" };
            cluster.wait_speaker_log("node-a", seen, &[text, "this kernel has no TCP-AO"]).context(mode)?;
            let mut status = Command::new(PROGRAM);
            status.args(["status", "bgp", "--peer", "four"]);
            let status = cluster.host("node-a").output(status)?.ok()?;
            ensure!(status.contains("this kernel has no TCP-AO"), "{mode}: {status}");
            edge.wait_nodes(&cluster, addresses[0], &[]).context(mode)?;
            ensure!(!edge.session(v4(11))?.is_established(), "{mode}: a session without keys");
        }
    }
    // The session beside it is the one of the beginning.
    edge.wait_nodes(&cluster, addresses[1], &["node-a"])?;
    let log = cluster.speaker("node-a").log();
    let of_six = |line: &&str| line.contains("sessionUp") && line.contains(&v6(254).to_string());
    ensure!(log.lines().filter(of_six).count() == 1, "the other session was touched:\n{log}");
    ensure!(!log.contains("-water") && !log.contains("-rain"), "the speaker logs a key:\n{log}");
    Ok(())
}

fn hold_timer(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let mut edge = Edge::frr(lab, &cluster)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", holdTime: 3s, keepaliveTime: 1s, connectTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    let both = ["node-a", "node-b"];
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &both)?;
    }
    // The router holds still. Each speaker notices by the hold timer alone: the connections stay open.
    edge.router.hold_still()?;
    for node in both {
        for router in [v4(254), v6(254)] {
            let peer = at(router, 179).ip().to_string();
            cluster.wait_speaker_log(node, 0, &["sessionDown", &peer, "sent Hold Timer Expired"])?;
        }
    }
    edge.router.go_on()?;
    edge.wait_sessions(&cluster).context("the router goes on")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &both).context("the router goes on")?;
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    // A speaker holds still. The router drops its routes, and says why; the other node is not concerned.
    let seen = cluster.log_length("node-b");
    cluster.speaker("node-b").signal(sys::process::Signal::Stop)?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"]).context("node-b holds still")?;
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    cluster.speaker("node-b").signal(sys::process::Signal::Continue)?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &both).context("node-b goes on")?;
    }
    for router in [v4(254), v6(254)] {
        cluster.wait_speaker_log(
            "node-b",
            seen,
            &["sessionDown", &router.to_string(), "received Hold Timer Expired"],
        )?;
    }
    Ok(())
}

fn notifications(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let edge = Edge::frr(lab, &cluster)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    // Ours is deconfigured: the router reads why, and the other session lives.
    let before = edge.counters()?;
    cluster.remove("BGPPeer", "four")?;
    edge.wait_error(v4(11), "Cease/Peer De-configured").context("the BGPPeer is deleted")?;
    cluster.wait_speaker_log("node-a", 0, &["peerRemoved", "192.168.1.254"])?;
    edge.wait_nodes(&cluster, addresses[0], &[])?;
    ensure!(edge.counters()?[&v6(11)] == before[&v6(11)], "the other session was touched");
    put_peers(&cluster, ", connectTime: 1s")?;
    edge.wait_sessions(&cluster).context("the BGPPeer is back")?;

    // Theirs is deconfigured, and shut down: our log says so in words.
    let seen = cluster.log_length("node-a");
    let in_bgp = format!("router bgp {THEIRS}");
    edge.router.command(&["configure terminal", &in_bgp, "no neighbor 192.168.1.11"])?;
    cluster.wait_speaker_log("node-a", seen, &["sessionDown", "192.168.1.254", "Cease", "Peer De-configured"])?;
    let text = "neighbor fc00:f853:ccd:e799::11 shutdown message maintenance until four";
    edge.router.command(&["configure terminal", &in_bgp, text])?;
    let line = ["sessionDown", "fc00:f853:ccd:e799::254", "Administrative Shutdown", "maintenance until four"];
    cluster.wait_speaker_log("node-a", seen, &line)?;
    edge.router.command(&["configure terminal", &in_bgp, "no neighbor fc00:f853:ccd:e799::11 shutdown"])?;
    edge.wait_nodes(&cluster, addresses[1], &["node-a"]).context("the router lets us in again")?;

    // A router that expects another AS says so, and we go on trying.
    let seen = cluster.log_length("node-a");
    cluster.put(
        "BGPPeer",
        "six",
        &format!("myASN: 64999, peerASN: {THEIRS}, peerAddress: \"{}\", connectTime: 1s", v6(254)),
    )?;
    cluster.wait_speaker_log("node-a", seen, &["failed to establish BGP session", "Bad Peer AS"])?;
    put_peers(&cluster, ", connectTime: 1s")?;
    edge.wait_nodes(&cluster, addresses[1], &["node-a"]).context("the AS is right again")?;

    // SIGTERM: the router gets a Cease with a text, and the routes go at once.
    let status = cluster.speaker("node-a").stop()?;
    ensure!(status.success(), "the speaker ends with {status}");
    edge.wait_error(v6(11), "Cease/Administrative Shutdown").context("the speaker is stopped")?;
    edge.wait_nodes(&cluster, addresses[1], &[])?;
    Ok(())
}

fn two_routers(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let first = Edge::frr(lab, &cluster)?;
    let config = accepting(&cluster, 64_600, OURS, |_| {})?;
    let second = Edge::start(lab, &cluster, 253, RouterKind::Bird, &config)?;
    put_peers(&cluster, "")?;
    for (name, router) in [("second-four", v4(253)), ("second-six", v6(253))] {
        cluster.put("BGPPeer", name, &format!("myASN: {OURS}, peerASN: 64600, peerAddress: \"{router}\""))?;
    }
    cluster.put("IPAddressPool", "routed", crate::edge::ROUTED_POOL)?;
    // Names of peers that do not exist count for nothing.
    cluster.put(
        "BGPAdvertisement",
        "to-first",
        "ipAddressPools: [routed], peers: [four, six, nobody], communities: [\"64500:1\"]",
    )?;
    cluster.put(
        "BGPAdvertisement",
        "to-second",
        "ipAddressPools: [routed], peers: [second-four, second-six], communities: [\"64500:2\", \"large:1:2:3\"],
         serviceSelectors: [{matchLabels: {reach: both}}]",
    )?;
    first.wait_sessions(&cluster)?;
    second.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("both").from("routed").label("reach", "both"))?;
    cluster.apply(&Service::dual("one").from("routed"))?;
    let nodes = ["node-a", "node-b"];
    let (both, one) = (cluster.wait_addresses("both")?, cluster.wait_addresses("one")?);
    for target in &both {
        for (edge, wanted) in [(&first, &["64500:1"][..]), (&second, &["64500:2", "large:1:2:3"])] {
            edge.wait_nodes(&cluster, *target, &nodes).with_context(|| edge.router.kind().to_string())?;
            for route in edge.router.routes_to(&host_route(*target))? {
                let found: Vec<_> = route.communities.iter().map(ToString::to_string).collect();
                ensure!(found == wanted, "{} has {route:?}, not {wanted:?}", edge.router.kind());
            }
            cluster.reach(&edge.remote, at(*target, 80))?;
        }
    }
    for target in &one {
        first.wait_nodes(&cluster, *target, &nodes)?;
        // Its announcement to the first went out in one step with that to the second.
        let routes = second.router.routes_to(&host_route(*target))?;
        ensure!(routes.is_empty(), "an advertisement for other Services reached BIRD: {routes:?}");
    }
    // The labels decide at any time; and without a list of peers, all are told.
    cluster.apply(&Service::dual("one").from("routed").label("reach", "both"))?;
    cluster.apply(&Service::dual("both").from("routed"))?;
    for (target, at_second) in both.iter().map(|it| (it, false)).chain(one.iter().map(|it| (it, true))) {
        second.wait_nodes(&cluster, *target, if at_second { &nodes } else { &[] })?;
        first.wait_nodes(&cluster, *target, &nodes)?;
    }
    cluster.put("BGPAdvertisement", "to-first", "ipAddressPools: [routed], communities: [\"64500:1\"]")?;
    for target in both.iter().chain(&one) {
        second.wait_nodes(&cluster, *target, &nodes).context("an advertisement without a list of peers")?;
    }
    Ok(())
}

fn bird(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let edit = |peer: &mut RouterPeer| {
        peer.password = Some(Secret::new("bird-song"));
        peer.hold_time = HoldTime::from_secs(9).unwrap();
    };
    let config = accepting(&cluster, THEIRS, OURS, edit)?;
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Bird, &config)?;
    cluster.put("IPAddressPool", "routed", crate::edge::ROUTED_POOL)?;
    cluster.put(
        "BGPAdvertisement",
        "routed",
        "ipAddressPools: [routed], localPref: 300, communities: [\"64500:100\", \"65535:65281\", \"large:4200000001:7:8\"]",
    )?;
    put_peers(&cluster, ", connectTime: 1s, password: bird-song")?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    let nodes = ["node-a", "node-b"];
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &nodes)?;
        for route in edge.router.routes_to(&host_route(*target))? {
            let found: Vec<_> = route.communities.iter().map(ToString::to_string).collect();
            ensure!(found == ["64500:100", "65535:65281", "large:4200000001:7:8"], "{route:?}");
            ensure!(route.as_path == [OURS] && route.origin == "IGP" && route.med.is_none(), "{route:?}");
        }
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    cluster.apply(&Service::dual("web").from("routed").local().on(&["node-b"]))?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-b"]).context("Local, with an endpoint on node-b")?;
    }
    cluster.delete("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &[]).context("the Service is deleted")?;
    }
    for peer in [v4(11), v4(12), v6(11), v6(12)] {
        let session = edge.session(peer)?;
        ensure!(session.is_established() && session.last_error.is_empty(), "a Service touched the session {session:?}");
    }
    // A wrong password ends the sessions; BIRD names no reason for what its kernel keeps from it.
    put_peers(&cluster, ", connectTime: 1s, password: cuckoo")?;
    refused(&edge, &[]).context("with a wrong password")?;
    let sessions = edge.router.sessions()?;
    ensure!(sessions.iter().all(|session| !session.is_established()), "with a wrong password: {sessions:?}");
    put_peers(&cluster, ", connectTime: 1s, password: bird-song")?;
    edge.wait_sessions(&cluster).context("with the right password again")?;
    cluster.remove("BGPPeer", "four")?;
    edge.wait_error(address("192.168.1.11"), "Peer de-configured").context("the BGPPeer is deleted")?;
    Ok(())
}
