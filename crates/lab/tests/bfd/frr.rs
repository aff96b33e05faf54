//! Against FRR's bfdd, which has everything that MetalLB's profiles name.

use std::num::NonZeroU8;

use anyhow::{Context as _, Result, ensure};
use bfd::wire::{Diagnostic, State};
use bfd::{DownReason, EchoMode, EchoState, Path, Profile, Role};
use kit::InterfaceIndex;
use lab::router::{Router, RouterConfig, RouterKind};
use lab::{Host, Lab, eventually};
use netio::bfd::Event;
use serde_json::Value;

use crate::speaker::{LIMIT, Speaker};
use crate::{address, far_apart, millis, patient, segment};

/// Slow enough for a busy machine; what a test is about comes on top.
const SLOW: [&str; 3] = ["detect-multiplier 50", "receive-interval 1000", "transmit-interval 300"];

fn start(host: &Host) -> Result<Router> {
    Router::start(host, RouterKind::Frr, &RouterConfig::new(64500, "10.0.0.2")?)
}

/// Has FRR watch somebody: `peer` and what belongs to its name, then lines about it.
fn watch(router: &Router, peer: &str, lines: &[&str]) -> Result<()> {
    let peer = format!("peer {peer}");
    let commands = [["conf t", "bfd", peer.as_str()].as_slice(), &SLOW, lines].concat();
    router.command(&commands).map(drop)
}

/// What FRR shows of a peer.
fn shown(router: &Router, peer: &str, what: &str) -> Result<Value> {
    let text = router.command(&[&format!("show bfd {what} json")])?;
    let peers: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
    let found = peers.into_iter().find(|entry| entry["peer"] == peer);
    found.with_context(|| format!("no {peer} in {text}"))
}

fn wait_shown(router: &Router, peer: &str, expected: &[(&str, Value)]) -> Result<()> {
    eventually(LIMIT, || {
        let entry = shown(router, peer, "peers")?;
        for (key, value) in expected {
            ensure!(entry[key] == *value, "{key} is not {value}: {entry}");
        }
        Ok(())
    })
}

fn counter(router: &Router, peer: &str, name: &str) -> Result<u64> {
    let entry = shown(router, peer, "peers counters")?;
    entry[name].as_u64().with_context(|| format!("no {name} in {entry}"))
}

fn one_hop(remote: &str) -> Path {
    Path::single_hop(address(remote))
}

const BOTH: [(&str, &str); 2] = [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1")];

/// Both ends watch each other in both families, and see what they were told to see.
fn profile(lab: &Lab, profile: Profile, lines: &[&str], expected: &[(&str, Value)]) -> Result<(Router, Speaker)> {
    let (node, host) = segment(lab)?;
    let (router, speaker) = (start(&host)?, Speaker::start(&node)?);
    for (remote, local) in BOTH {
        watch(&router, &format!("{local} local-address {remote} interface eth0"), lines)?;
        speaker.watch(one_hop(remote), profile)?;
    }
    for (remote, local) in BOTH {
        speaker.wait_up(one_hop(remote))?;
        wait_shown(&router, local, &[expected, &[("status", "up".into())]].concat())?;
    }
    Ok((router, speaker))
}

pub(crate) fn default_profile(lab: &Lab) -> Result<()> {
    let expected = [
        ("remote-receive-interval", 300.into()),
        ("remote-transmit-interval", 300.into()),
        ("remote-detect-multiplier", 3.into()),
        ("remote-echo-receive-interval", 50.into()),
    ];
    let (_router, speaker) = profile(lab, Profile::default(), &[], &expected)?;
    for (remote, _) in BOTH {
        speaker.wait(one_hop(remote), |view| {
            view.transmit_interval == Some(millis(1000)) && view.detection_time == Some(millis(50 * 300))
        })?;
    }
    Ok(())
}

pub(crate) fn full_profile(lab: &Lab) -> Result<()> {
    let full = Profile {
        receive_interval: millis(60),
        transmit_interval: millis(61),
        detect_multiplier: NonZeroU8::new(40).unwrap(),
        echo: EchoMode::Off,
        echo_interval: millis(62),
        role: Role::Active,
        minimum_ttl: 254,
    };
    let expected = [
        ("remote-receive-interval", 60.into()),
        ("remote-transmit-interval", 61.into()),
        ("remote-detect-multiplier", 40.into()),
        ("remote-echo-receive-interval", 62.into()),
    ];
    profile(lab, full, &[], &expected).map(drop)
}

/// A profile as MetalLB's tests have it, but for a multiplier that a busy machine can keep.
fn with_echo() -> Profile {
    Profile {
        receive_interval: millis(80),
        transmit_interval: millis(81),
        echo: EchoMode::On,
        echo_interval: millis(82),
        ..patient()
    }
}

pub(crate) fn echo_profile(lab: &Lab) -> Result<()> {
    let expected = [
        ("remote-receive-interval", 80.into()),
        ("remote-transmit-interval", 81.into()),
        ("remote-echo-receive-interval", 82.into()),
    ];
    let (router, speaker) = profile(lab, with_echo(), &["echo-mode"], &expected)?;
    for (remote, local) in BOTH {
        speaker.wait(one_hop(remote), |view| view.echo == EchoState::Active && view.counters.echo_packet_input > 20)?;
        // And those of FRR, which our kernel forwards (IPv4) or our driver returns (IPv6).
        eventually(LIMIT, || {
            let returned = counter(&router, local, "echo-packet-input")?;
            ensure!(returned > 20, "{local}: {returned} returned");
            Ok(())
        })?;
        // That they return changes nothing of what the other side is shown.
        wait_shown(&router, local, &expected)?;
    }
    Ok(())
}

pub(crate) fn echo_failure(lab: &Lab) -> Result<()> {
    let (router, speaker) = profile(lab, with_echo(), &[], &[])?;
    for (remote, _) in BOTH {
        speaker.wait(one_hop(remote), |view| view.echo == EchoState::Active)?;
    }
    router.host().sysctl("net/ipv4/ip_forward", "0")?;
    router.host().sysctl("net/ipv6/conf/all/forwarding", "0")?;
    let failed = Event::Down(DownReason::EchoFailed);
    for (remote, local) in BOTH {
        eventually(LIMIT, || {
            let told = speaker.told(one_hop(remote));
            ensure!(told.contains(&failed), "{remote}: {told:?}");
            Ok(())
        })?;
        ensure!(counter(&router, local, "session-down")? >= 1, "FRR was told");
    }
    router.host().forward_packets()?;
    for (remote, _) in BOTH {
        speaker.wait(one_hop(remote), |view| {
            view.local.state == State::Up && view.echo == EchoState::Active && view.counters.echo_packet_input > 0
        })?;
    }
    Ok(())
}

pub(crate) fn several_hops(lab: &Lab) -> Result<()> {
    let (node, host) = far_apart(lab, 1)?;
    let (router, speaker) = (start(&host)?, Speaker::start(&node)?);
    for (remote, local) in [("10.0.1.2", "10.0.0.1"), ("fd00:1::2", "fd00::1")] {
        watch(&router, &format!("{local} multihop local-address {remote}"), &[])?;
        // An echo mode is of no consequence here.
        let path = Path::multi_hop(address(remote));
        speaker.watch(path, with_echo())?;
        let view = speaker.wait_up(path)?;
        ensure!(view.echo == EchoState::Off, "{view:?}");
        wait_shown(
            &router,
            local,
            &[
                ("status", "up".into()),
                ("remote-receive-interval", 80.into()),
                ("remote-transmit-interval", 81.into()),
                ("remote-echo-receive-interval", 50.into()),
            ],
        )?;
    }
    Ok(())
}

pub(crate) fn minimum_ttl(lab: &Lab) -> Result<()> {
    // Its packets start with 255 and come with 253.
    let (node, host) = far_apart(lab, 2)?;
    let (router, speaker) = (start(&host)?, Speaker::start(&node)?);
    for (remote, local) in [("10.0.2.2", "10.0.0.1"), ("fd00:2::2", "fd00::1")] {
        watch(&router, &format!("{local} multihop local-address {remote}"), &["minimum-ttl 200"])?;
        let path = Path::multi_hop(address(remote));
        let discarded =
            |speaker: &Speaker| speaker.status().discards.get(&bfd::Discard::TtlMultiHop).copied().unwrap_or_default();
        let before = discarded(&speaker);
        speaker.watch(path, Profile { minimum_ttl: 254, ..patient() })?;
        eventually(LIMIT, || {
            ensure!(discarded(&speaker) > before + 3, "{:?}", speaker.status());
            Ok(())
        })?;
        let view = speaker.view(path)?;
        ensure!(view.remote.is_none() && view.local.state == State::Down, "{view:?}");
        speaker.watch(path, Profile { minimum_ttl: 253, ..patient() })?;
        speaker.wait_up(path)?;
    }
    Ok(())
}

pub(crate) fn link_local(lab: &Lab) -> Result<()> {
    let (node, host) = segment(lab)?;
    let (router, speaker) = (start(&host)?, Speaker::start(&node)?);
    let of = |host: &Host| anyhow::Ok(link_local_of(host.mac("eth0")?));
    let (ours, theirs) = (of(&node)?, of(&host)?);
    watch(&router, &format!("{ours} local-address {theirs} interface eth0"), &[])?;
    let path = Path { interface: InterfaceIndex::new(node.interface_index("eth0")?), ..one_hop(&theirs) };
    speaker.watch(path, with_echo())?;
    let view = speaker.wait_up(path)?;
    // Link-local addresses are not forwarded, so that nothing would come back.
    ensure!(view.echo == EchoState::Off, "{view:?}");
    wait_shown(&router, &ours, &[("status", "up".into()), ("remote-transmit-interval", 81.into())])
}

/// The address that the kernel makes of a MAC address (RFC 4291 appendix A).
fn link_local_of(mac: kit::Mac) -> String {
    let [a, b, c, d, e, f] = mac.0;
    let groups = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
    let [w, x, y, z] = groups;
    std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, w, x, y, z).to_string()
}

pub(crate) fn passive(lab: &Lab) -> Result<()> {
    let (node, host) = segment(lab)?;
    let (router, speaker) = (start(&host)?, Speaker::start(&node)?);
    watch(&router, "10.0.0.1 local-address 10.0.0.2 interface eth0", &[])?;
    speaker.watch(one_hop("10.0.0.2"), Profile { role: Role::Passive, ..patient() })?;
    watch(&router, "fd00::1 local-address fd00::2 interface eth0", &["passive-mode"])?;
    speaker.watch(one_hop("fd00::2"), patient())?;
    for (remote, local) in BOTH {
        speaker.wait_up(one_hop(remote))?;
        wait_shown(&router, local, &[("status", "up".into())])?;
    }
    Ok(())
}

pub(crate) fn switched_off(lab: &Lab) -> Result<()> {
    let (router, speaker) = profile(lab, patient(), &[], &[])?;
    // By FRR's administrator: no reason to give up what runs over the path.
    let (remote, local) = BOTH[0];
    let peer = format!("peer {local} local-address {remote} interface eth0");
    router.command(&["conf t", "bfd", &peer, "shutdown"])?;
    speaker.wait_told(one_hop(remote), Event::Down(DownReason::NeighborAdminDown))?;
    ensure!(!DownReason::NeighborAdminDown.is_failure());
    router.command(&["conf t", "bfd", &peer, "no shutdown"])?;
    speaker.wait_told(one_hop(remote), Event::Up)?;
    // By us: because nobody watches any more, and because the program ends.
    speaker.unwatch(one_hop(remote))?;
    let off = [("status", "down".into()), ("remote-diagnostic", "administratively down".into())];
    wait_shown(&router, local, &off)?;
    speaker.finish()?;
    wait_shown(&router, BOTH[1].1, &off)
}

pub(crate) fn killed(lab: &Lab) -> Result<()> {
    let fast = Profile { transmit_interval: millis(50), receive_interval: millis(50), ..Profile::default() };
    let (node, host) = segment(lab)?;
    let (mut router, speaker) = (start(&host)?, Speaker::start(&node)?);
    // Three times 100 ms.
    let lines = ["detect-multiplier 3", "receive-interval 50", "transmit-interval 100"];
    let begin = |router: &Router| {
        BOTH.iter().try_for_each(|(remote, local)| {
            watch(router, &format!("{local} local-address {remote} interface eth0"), &lines)
        })
    };
    begin(&router)?;
    for (remote, _) in BOTH {
        speaker.watch(one_hop(remote), fast)?;
        speaker.wait(one_hop(remote), |view| view.detection_time == Some(millis(300)))?;
    }
    router.kill()?;
    for (remote, _) in BOTH {
        speaker.wait_told(one_hop(remote), Event::Down(DownReason::DetectionExpired))?;
        let view = speaker.wait(one_hop(remote), |view| view.remote.is_none())?;
        ensure!(view.local.diagnostic == Diagnostic::DetectionExpired, "{view:?}");
    }
    let router = start(&host)?;
    begin(&router)?;
    for (remote, _) in BOTH {
        speaker.wait_told(one_hop(remote), Event::Up)?;
    }
    Ok(())
}

pub(crate) fn profile_change(lab: &Lab) -> Result<()> {
    let (router, speaker) = profile(lab, patient(), &[], &[])?;
    for (transmit, receive, multiplier) in [(10, 10, 200), (1000, 20, 10), (50, 3000, 60), (300, 300, 50)] {
        let changed = Profile {
            transmit_interval: millis(transmit),
            receive_interval: millis(receive),
            detect_multiplier: NonZeroU8::new(multiplier).unwrap(),
            ..patient()
        };
        for (remote, local) in BOTH {
            speaker.watch(one_hop(remote), changed)?;
            wait_shown(
                &router,
                local,
                &[
                    ("remote-transmit-interval", transmit.into()),
                    ("remote-receive-interval", receive.into()),
                    ("remote-detect-multiplier", multiplier.into()),
                ],
            )?;
        }
    }
    for (remote, local) in BOTH {
        ensure!(speaker.told(one_hop(remote)) == [Event::Up], "{:?}", speaker.told(one_hop(remote)));
        ensure!(counter(&router, local, "session-down")? == 0, "FRR saw {local} go down");
    }
    Ok(())
}

pub(crate) fn port_in_use(lab: &Lab) -> Result<()> {
    let (node, host) = segment(lab)?;
    let mut at_home = start(&node)?;
    let router = start(&host)?;
    watch(&router, "10.0.0.1 local-address 10.0.0.2 interface eth0", &[])?;
    let speaker = Speaker::start(&node)?;
    speaker.watch(one_hop("10.0.0.2"), patient())?;
    eventually(LIMIT, || {
        let troubles = speaker.status().troubles;
        let told = troubles.iter().any(|text| text.contains("UDP port 3784 is in use; hint: another BFD daemon"));
        ensure!(told, "{troubles:?}");
        Ok(())
    })?;
    at_home.kill()?;
    speaker.wait_up(one_hop("10.0.0.2"))?;
    eventually(LIMIT, || {
        ensure!(speaker.status().troubles.is_empty(), "{:?}", speaker.status().troubles);
        Ok(())
    })
}
