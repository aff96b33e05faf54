//! BFD against FRR, BIRD and plain sockets: our driver on one host, counterparts on others.

#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod bird;
mod frr;
mod speaker;
mod wire;

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bfd::Profile;
use kit::Duration;
use lab::testing::Trial;
use lab::{Host, Lab, eventually};

fn main() -> ExitCode {
    lab::testing::main([
        Trial::new("contract_10_3_frr_shows_the_default_profile", frr::default_profile),
        Trial::new("contract_10_3_frr_shows_a_full_profile", frr::full_profile),
        Trial::new(
            "contract_10_3_frr_shows_a_profile_with_echo_mode_and_echo_packets_return_both_ways",
            frr::echo_profile,
        ),
        Trial::new("rfc5881_4_echo_packets_that_frr_does_not_forward_any_more_end_the_session", frr::echo_failure),
        Trial::new("rfc5883_5_frr_is_watched_over_several_hops", frr::several_hops),
        Trial::new("contract_1_7_frr_beyond_the_minimum_ttl_stays_down", frr::minimum_ttl),
        Trial::new("contract_10_3_frr_is_watched_by_its_link_local_address", frr::link_local),
        Trial::new("rfc5880_6_1_either_side_may_be_passive", frr::passive),
        Trial::new("rfc5880_6_8_16_either_side_may_be_switched_off", frr::switched_off),
        Trial::new("frr_that_is_killed_is_noticed_and_taken_back", frr::killed),
        Trial::new("frr_sees_no_flap_when_a_profile_changes", frr::profile_change),
        Trial::new("frr_on_the_same_host_is_a_trouble_with_a_hint_and_ends", frr::port_in_use),
        Trial::new("bird_is_watched_over_one_hop", bird::one_hop),
        Trial::new("bird_is_watched_over_several_hops", bird::several_hops),
        Trial::new("bird_that_is_killed_is_noticed_and_taken_back", bird::killed),
        Trial::new("bird_sees_no_flap_when_a_profile_changes", bird::profile_change),
        Trial::new("rfc5881_4_and_5_ports_and_ttl_of_control_packets", wire::control_packets),
        Trial::new("rfc5881_5_packets_from_afar_change_nothing", wire::packets_from_afar),
        Trial::new("a_cut_link_is_noticed_at_once", wire::link_down),
        Trial::new("clients_of_one_path_share_a_session", wire::shared),
        Trial::new("a_device_has_sessions_and_sockets_of_its_own", wire::device),
    ])
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Far from what a busy machine can miss, where a test is not about speed.
fn patient() -> Profile {
    Profile { detect_multiplier: NonZeroU8::new(50).unwrap(), ..Profile::default() }
}

/// Our host and a router's on one segment: 10.0.0.1 and fd00::1, 10.0.0.2 and fd00::2. Both forward packets.
fn segment(lab: &Lab) -> Result<(Host, Host)> {
    let lan = lab.switch("lan")?;
    let host = |name: &str, last: u8| {
        let host = lab.host(name)?;
        host.plug("eth0", &lan)?.address(&format!("10.0.0.{last}/24"))?.address(&format!("fd00::{last}/64"))?;
        host.forward_packets()?;
        anyhow::Ok(host)
    };
    let (node, router) = (host("node", 1)?, host("router", 2)?);
    for (host, last) in [(&node, 1), (&router, 2)] {
        wait_usable(host, &format!("fd00::{last}"))?;
    }
    Ok((node, router))
}

/// Our host and a router's in a row with so many other routers in between: 10.0.0.1 and fd00:0::1 at one end, 10.0.N.2 and
/// fd00:N::2 at the other.
fn far_apart(lab: &Lab, between: u8) -> Result<(Host, Host)> {
    let last = between + 1;
    let name = |number: u8| match number {
        0 => "node".to_owned(),
        _ if number == last => "router".to_owned(),
        _ => format!("between{number}"),
    };
    let hosts: Vec<Host> = (0..=last).map(|number| lab.host(&name(number))).collect::<Result<_>>()?;
    for (link, pair) in hosts.windows(2).enumerate() {
        let (right, left) = pair[0].cable_to("right", &pair[1], "left")?;
        right.address(&format!("10.0.{link}.1/24"))?.address(&format!("fd00:{link}::1/64"))?;
        left.address(&format!("10.0.{link}.2/24"))?.address(&format!("fd00:{link}::2/64"))?;
    }
    for (number, host) in hosts.iter().enumerate() {
        host.forward_packets()?;
        for link in 0..usize::from(last) {
            // Its own links are number - 1, to the left, and number, to the right.
            let routers = if link > number {
                [format!("10.0.{number}.2"), format!("fd00:{number}::2")]
            } else if link + 1 < number {
                [format!("10.0.{}.1", number - 1), format!("fd00:{}::1", number - 1)]
            } else {
                continue;
            };
            host.set_route(&format!("10.0.{link}.0/24"), &[address(&routers[0])])?;
            host.set_route(&format!("fd00:{link}::/64"), &[address(&routers[1])])?;
        }
    }
    let (near, far) = (hosts[0].clone(), hosts[usize::from(last)].clone());
    wait_usable(&near, "fd00:0::1")?;
    wait_usable(&far, &format!("fd00:{between}::2"))?;
    Ok((near, far))
}

/// Waits until programs can use an IPv6 address: on a busy machine the kernel takes its time, and BIRD does not try twice.
fn wait_usable(host: &Host, local: &str) -> Result<()> {
    let local = address(local);
    eventually(speaker::LIMIT, || {
        host.run(async move || std::net::UdpSocket::bind((local, 0)).map(drop).context("not usable yet"))
    })
}
