//! FRR, BIRD and GoBGP as counterparts: sessions among themselves show that the lab starts them well and reads them well.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use kit::{Duration, Family, Secret};
use lab::router::{Bfd, Opening, PeerPlace, Programs, Router, RouterConfig, RouterKind, RouterPeer};
use lab::testing::Trial;
use lab::{Host, Lab, eventually};

const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    lab::testing::main([
        Trial::new("our_router_learns_every_attribute_that_bird_sends", |lab| {
            attributes(lab, RouterKind::Embedded, &installed())
        }),
        Trial::new("frr_learns_every_attribute_that_bird_sends", |lab| attributes(lab, RouterKind::Frr, &installed())),
        Trial::new("bird_learns_every_attribute_that_bird_sends", |lab| {
            attributes(lab, RouterKind::Bird, &installed())
        }),
        Trial::new("gobgp_learns_every_attribute_that_bird_sends", |lab| {
            attributes(lab, RouterKind::GoBgp, &installed())
        }),
        Trial::new("our_router_reads_a_med_that_frr_sends", |lab| med(lab, RouterKind::Embedded)),
        Trial::new("frr_reads_a_med_that_frr_sends", |lab| med(lab, RouterKind::Frr)),
        Trial::new("bird_reads_a_med_that_frr_sends", |lab| med(lab, RouterKind::Bird)),
        Trial::new("gobgp_reads_a_med_that_frr_sends", |lab| med(lab, RouterKind::GoBgp)),
        Trial::new("our_router_spreads_traffic_over_two_peers", |lab| multipath(lab, RouterKind::Embedded)),
        Trial::new("frr_spreads_traffic_over_two_peers", |lab| multipath(lab, RouterKind::Frr)),
        Trial::new("bird_spreads_traffic_over_two_peers", |lab| multipath(lab, RouterKind::Bird)),
        Trial::new("our_router_refuses_a_wrong_password", |lab| passwords(lab, RouterKind::Embedded, &installed())),
        Trial::new("frr_refuses_a_wrong_password", |lab| passwords(lab, RouterKind::Frr, &installed())),
        Trial::new("bird_refuses_a_wrong_password", |lab| passwords(lab, RouterKind::Bird, &installed())),
        Trial::new("gobgp_refuses_a_wrong_password", |lab| passwords(lab, RouterKind::GoBgp, &installed())),
        Trial::new("frr_notices_a_dead_peer_by_bfd", |lab| bfd(lab, RouterKind::Frr, &installed())),
        Trial::new("bird_notices_a_dead_peer_by_bfd", |lab| bfd(lab, RouterKind::Bird, &installed())),
        Trial::new("our_router_tells_why_a_session_ended", |lab| last_error(lab, RouterKind::Embedded)),
        Trial::new("frr_tells_why_a_session_ended", |lab| last_error(lab, RouterKind::Frr)),
        Trial::new("bird_tells_why_a_session_ended", |lab| last_error(lab, RouterKind::Bird)),
        Trial::new("frr_10_learns_every_attribute_that_bird_sends", |lab| attributes(lab, RouterKind::Frr, &newer())),
        Trial::new("bird_3_learns_every_attribute_that_bird_sends", |lab| attributes(lab, RouterKind::Bird, &newer())),
        Trial::new("gobgp_4_learns_every_attribute_that_bird_sends", |lab| {
            attributes(lab, RouterKind::GoBgp, &newer())
        }),
        Trial::new("frr_10_refuses_a_wrong_password", |lab| passwords(lab, RouterKind::Frr, &newer())),
        Trial::new("bird_3_refuses_a_wrong_password", |lab| passwords(lab, RouterKind::Bird, &newer())),
        Trial::new("gobgp_4_refuses_a_wrong_password", |lab| passwords(lab, RouterKind::GoBgp, &newer())),
        Trial::new("frr_10_notices_a_dead_peer_by_bfd", |lab| bfd(lab, RouterKind::Frr, &newer())),
        Trial::new("bird_3_notices_a_dead_peer_by_bfd", |lab| bfd(lab, RouterKind::Bird, &newer())),
    ])
}

/// Those of Debian.
fn installed() -> Programs {
    Programs::default()
}

/// FRR 10, BIRD 3 and GoBGP 4.
fn newer() -> Programs {
    Programs::of(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/routers/bin")))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A router and others that dial it, on one segment: 10.0.0.1 and from 10.0.0.2 on.
fn segment(lab: &Lab, dialers: u8) -> Result<(Host, Vec<Host>)> {
    let (lan, router) = (lab.switch("lan")?, lab.host("router")?);
    router.plug("eth0", &lan)?.address("10.0.0.1/24")?.address("fd00::1/64")?;
    let dialer = |number: u8| {
        let host = lab.host(&format!("dialer{number}"))?;
        let last = number + 1;
        host.plug("eth0", &lan)?.address(&format!("10.0.0.{last}/24"))?.address(&format!("fd00::{last}/64"))?;
        Ok(host)
    };
    Ok((router, (1..=dialers).map(dialer).collect::<Result<_>>()?))
}

/// A router that takes whoever calls, in each family over a session of its own.
fn accepting(edit: impl Fn(&mut RouterPeer)) -> Result<RouterConfig> {
    let mut config = RouterConfig::new(64500, "10.0.0.1")?;
    for network in ["10.0.0.0/24", "fd00::/64"] {
        let mut peer = RouterPeer::accept(network, 64512)?;
        edit(&mut peer);
        config.peers.push(peer);
    }
    Ok(config)
}

/// Replaces networks by the addresses in them.
fn at_known_addresses(config: &mut RouterConfig, addresses: &[&str]) {
    let networks = std::mem::take(&mut config.peers);
    for peer in addresses {
        let network = networks.iter().find(|network| network.families.contains(&Family::of(&address(peer))));
        let mut peer_here = network.unwrap().clone();
        peer_here.place = PeerPlace::Address(address(peer));
        config.peers.push(peer_here);
    }
}

/// One that dials it over two sessions and announces a network of each family.
fn dialing(id: &str, edit: impl Fn(&mut RouterPeer)) -> Result<RouterConfig> {
    let mut config = RouterConfig::new(64512, id)?;
    for router in ["10.0.0.1/32", "fd00::1/128"] {
        let mut peer = RouterPeer::accept(router, 64500)?;
        peer.opening = Opening::Dials;
        edit(&mut peer);
        config.peers.push(peer);
    }
    config.announce = vec!["192.0.2.1/32".parse()?, "2001:db8::/64".parse()?];
    Ok(config)
}

/// Every kind but FRR and BIRD has to know its peers: GoBGP sets no passwords for whole networks.
fn for_kind(kind: RouterKind, mut config: RouterConfig) -> RouterConfig {
    if matches!(kind, RouterKind::Embedded | RouterKind::GoBgp) {
        at_known_addresses(&mut config, &["10.0.0.2", "fd00::2", "10.0.0.3", "fd00::3"]);
    }
    config
}

fn attributes(lab: &Lab, kind: RouterKind, programs: &Programs) -> Result<()> {
    let (host, dialers) = segment(lab, 1)?;
    let accepting = RouterConfig { programs: programs.clone(), ..accepting(|_| {})? };
    let router = Router::start(&host, kind, &for_kind(kind, accepting))?;
    let mut config = dialing("10.0.0.2", |_| {})?;
    config.announce.clear();
    let route = |network| {
        format!(
            "route {network} blackhole {{
               bgp_community.add((64512,100)); bgp_community.add((65535,65281)); bgp_large_community.add((64512,1,2));
             }};"
        )
    };
    let (v4, v6) = (route("192.0.2.1/32"), route("2001:db8::/64"));
    config.extra = format!("protocol static {{ ipv4; {v4} }} protocol static {{ ipv6; {v6} }}");
    let _dialer = Router::start(&dialers[0], RouterKind::Bird, &config)?;
    router.wait_established(&[address("10.0.0.2"), address("fd00::2")], LIMIT)?;
    for (prefix, next_hop) in [("192.0.2.1/32", "10.0.0.2"), ("2001:db8::/64", "fd00::2")] {
        let routes = router.wait_next_hops(prefix, &[address(next_hop)], LIMIT)?;
        let route = &routes[0];
        let communities: Vec<_> = route.communities.iter().map(ToString::to_string).collect();
        ensure!(communities == ["64512:100", "65535:65281", "large:64512:1:2"], "{communities:?}");
        ensure!(route.as_path == [64512] && route.origin == "IGP" && route.med.is_none(), "{route:?}");
    }
    Ok(())
}

fn med(lab: &Lab, kind: RouterKind) -> Result<()> {
    let (host, dialers) = segment(lab, 1)?;
    let router = Router::start(&host, kind, &for_kind(kind, accepting(|_| {})?))?;
    let _dialer = Router::start(&dialers[0], RouterKind::Frr, &dialing("10.0.0.2", |_| {})?)?;
    for (prefix, next_hop) in [("192.0.2.1/32", "10.0.0.2"), ("2001:db8::/64", "fd00::2")] {
        let routes = router.wait_next_hops(prefix, &[address(next_hop)], LIMIT)?;
        ensure!(routes[0].med == Some(0), "{routes:?}");
    }
    Ok(())
}

fn multipath(lab: &Lab, kind: RouterKind) -> Result<()> {
    let (host, dialers) = segment(lab, 2)?;
    let router = Router::start(&host, kind, &for_kind(kind, accepting(|_| {})?))?;
    let _dialers = [
        Router::start(&dialers[0], RouterKind::Bird, &dialing("10.0.0.2", |_| {})?)?,
        Router::start(&dialers[1], RouterKind::Bird, &dialing("10.0.0.3", |_| {})?)?,
    ];
    for (prefix, next_hops) in [("192.0.2.1/32", ["10.0.0.2", "10.0.0.3"]), ("2001:db8::/64", ["fd00::2", "fd00::3"])] {
        router.wait_next_hops(prefix, &next_hops.map(address), LIMIT)?;
        eventually(LIMIT, || {
            let route = host.route_to(prefix)?;
            let hops = route.iter().flat_map(|route| &route.next_hops).count();
            ensure!(hops == 2, "the kernel has {route:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn passwords(lab: &Lab, kind: RouterKind, programs: &Programs) -> Result<()> {
    let (host, dialers) = segment(lab, 2)?;
    let config = accepting(|peer| peer.password = Some(Secret::new("right")))?;
    let config = RouterConfig { programs: programs.clone(), ..config };
    let router = Router::start(&host, kind, &for_kind(kind, config))?;
    let dialer = |host: &Host, id: &str, password: &str| {
        Router::start(host, RouterKind::Bird, &dialing(id, |peer| peer.password = Some(Secret::new(password)))?)
    };
    let _wrong = dialer(&dialers[1], "10.0.0.3", "wrong")?;
    let _right = dialer(&dialers[0], "10.0.0.2", "right")?;
    router.wait_established(&[address("10.0.0.2"), address("fd00::2")], LIMIT)?;
    let sessions = router.sessions()?;
    let wrong = sessions.iter().find(|session| session.peer == address("10.0.0.3") && session.is_established());
    ensure!(wrong.is_none(), "{sessions:?}");
    Ok(())
}

fn bfd(lab: &Lab, kind: RouterKind, programs: &Programs) -> Result<()> {
    let (host, dialers) = segment(lab, 1)?;
    let with_bfd = |peer: &mut RouterPeer| peer.bfd = Some(Bfd { interval: Duration::from_millis(100), multiplier: 5 });
    let accepting = RouterConfig { programs: programs.clone(), ..accepting(with_bfd)? };
    let router = Router::start(&host, kind, &accepting)?;
    let mut dialer = Router::start(&dialers[0], RouterKind::Bird, &dialing("10.0.0.2", with_bfd)?)?;
    router.wait_next_hops("192.0.2.1/32", &[address("10.0.0.2")], LIMIT)?;
    eventually(LIMIT, || {
        let answer = match kind {
            RouterKind::Frr => router.command(&["show bfd peers brief"])?,
            _ => router.command(&["show", "bfd", "sessions"])?,
        };
        ensure!(answer.to_lowercase().matches(" up ").count() == 2, "{answer}");
        Ok(())
    })?;
    // The hold time is 90 s: within the limit only BFD can have noticed.
    dialers[0].unplug("eth0")?;
    dialer.kill()?;
    router.wait_next_hops("192.0.2.1/32", &[], LIMIT).map(drop)
}

fn last_error(lab: &Lab, kind: RouterKind) -> Result<()> {
    let (host, dialers) = segment(lab, 1)?;
    let mut config = accepting(|_| {})?;
    at_known_addresses(&mut config, &["10.0.0.2", "fd00::2"]);
    let router = Router::start(&host, kind, &config)?;
    let mut dialer = Router::start(&dialers[0], RouterKind::Bird, &dialing("10.0.0.2", |_| {})?)?;
    router.wait_established(&[address("10.0.0.2"), address("fd00::2")], LIMIT)?;
    router.wait_next_hops("2001:db8::/64", &[address("fd00::2")], LIMIT)?;
    // A connection that is closed before all is read is reset, and that overtakes the reason.
    std::thread::sleep(std::time::Duration::from_secs(1));
    dialer.stop()?;
    eventually(LIMIT, || {
        let sessions = router.sessions()?;
        let told = |peer: &str| {
            let session = sessions.iter().find(|session| session.peer == address(peer));
            session.is_some_and(|session| {
                !session.is_established() && session.last_error.to_lowercase().contains("administrative shutdown")
            })
        };
        if told("10.0.0.2") && told("fd00::2") { Ok(()) } else { bail!("{sessions:?}") }
    })
}
