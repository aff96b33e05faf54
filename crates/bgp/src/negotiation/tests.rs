use super::*;
use expect_test::{Expect, expect};
use kit::RemoteAs;

use crate::{ConnectRetry, Mode};

fn config() -> PeerConfig {
    PeerConfig {
        local_as: Asn::new(65001).unwrap(),
        remote_as: RemoteAs::External,
        router_id: RouterIdSource::Session { otherwise: RouterId::new(9).unwrap() },
        hold_time: HoldTime::DEFAULT,
        keepalive_time: None,
        connect_retry: ConnectRetry::BackOff,
        families: Families::Both,
        mode: Mode::Active,
        reception: Reception::Refuse,
        graceful_restart: None,
    }
}

fn open(capabilities: Vec<Capability>) -> Open {
    Open { my_as: 65000, hold_time_secs: 180, identifier: 1, capabilities }
}

const V4: Capability = Capability::Multiprotocol(AfiSafi::IPV4_UNICAST);
const V6: Capability = Capability::Multiprotocol(AfiSafi::IPV6_UNICAST);

fn check_with(config: &PeerConfig, local: &str, open: Open, expected: Expect) {
    let local = LocalOpen::new(config, SocketAddr::new(local.parse().unwrap(), 179), Offer::Everything);
    expected.assert_eq(&match negotiate(config, &local, open) {
        Ok(negotiated) => format!(
            "AS {} ({:?}, {:?}), hold {}, keepalive {:?}, {:?}, extended next hop {}, end of RIB {}",
            negotiated.remote_as,
            negotiated.relation,
            negotiated.asn_size,
            negotiated.hold_time,
            negotiated.keepalive_time,
            negotiated.families,
            negotiated.extended_next_hop,
            negotiated.end_of_rib,
        ),
        Err(refusal) => format!("{}: {}", refusal.notification, refusal.detail),
    });
}

fn check(open: Open, expected: Expect) {
    check_with(&config(), "192.0.2.1", open, expected);
}

#[test]
fn rfc4760_8_families_are_those_that_both_announce() {
    check(
        open(vec![V4, V6]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4, V6}, extended next hop false, end of RIB false"
        ],
    );
    check(
        open(vec![V6]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V6}, extended next hop false, end of RIB false"
        ],
    );
    check(
        open(vec![]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4}, extended next hop false, end of RIB false"
        ],
    );
    let only_v6 = PeerConfig { families: Families::OfSession, ..config() };
    check_with(
        &only_v6,
        "2001:db8::1",
        open(vec![V4, V6]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V6}, extended next hop false, end of RIB false"
        ],
    );
}

#[test]
fn rfc5492_3_no_family_in_common_is_refused_with_what_is_missing() {
    let only_own = PeerConfig { families: Families::OfSession, ..config() };
    check_with(
        &only_own,
        "2001:db8::1",
        open(vec![]),
        expect![
            "OPEN Message Error/Unsupported Capability, data 010400020001: no address family in common: we have IPv6 unicast, the peer has IPv4 unicast"
        ],
    );
    check_with(
        &only_own,
        "192.0.2.1",
        open(vec![V6]),
        expect![
            "OPEN Message Error/Unsupported Capability, data 010400010001: no address family in common: we have IPv4 unicast, the peer has IPv6 unicast"
        ],
    );
}

#[test]
fn rfc6793_4_1_the_capability_goes_before_the_field() {
    let four = |my_as, asn| Open { my_as, ..open(vec![V4, Capability::FourOctetAs(asn)]) };
    check(
        four(Asn::TRANS, 4_200_000_000),
        expect![
            "AS 4200000000 (External, Four), hold 90s, keepalive Some(30s), {V4}, extended next hop false, end of RIB false"
        ],
    );
    check(
        four(1, 65000),
        expect![
            "AS 65000 (External, Four), hold 90s, keepalive Some(30s), {V4}, extended next hop false, end of RIB false"
        ],
    );
    check(
        open(vec![V4]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4}, extended next hop false, end of RIB false"
        ],
    );
}

#[test]
fn rfc6793_9_as_trans_and_rfc7607_2_as_0_are_no_peers() {
    let four = |my_as, asn| Open { my_as, ..open(vec![V4, Capability::FourOctetAs(asn)]) };
    check(
        Open { my_as: Asn::TRANS, ..open(vec![V4]) },
        expect!["OPEN Message Error/Bad Peer AS (AS 23456): My Autonomous System at byte 20: AS 23456 is reserved"],
    );
    check(
        four(Asn::TRANS, 23456),
        expect!["OPEN Message Error/Bad Peer AS (AS 23456): My Autonomous System at byte 20: AS 23456 is reserved"],
    );
    check(
        four(65000, 0),
        expect!["OPEN Message Error/Bad Peer AS (AS 65000): My Autonomous System at byte 20: AS 0 is reserved"],
    );
    check(
        Open { my_as: 0, ..open(vec![V4]) },
        expect!["OPEN Message Error/Bad Peer AS (AS 0): My Autonomous System at byte 20: AS 0 is reserved"],
    );
}

#[test]
fn rfc4271_6_2_the_wrong_as_is_a_bad_peer_as() {
    let exactly = PeerConfig { remote_as: RemoteAs::Exactly(Asn::new(64999).unwrap()), ..config() };
    check_with(
        &exactly,
        "192.0.2.1",
        open(vec![V4]),
        expect!["OPEN Message Error/Bad Peer AS (AS 65000): the peer is in AS 65000, but AS 64999 is configured"],
    );
    check(
        Open { my_as: 65001, ..open(vec![V4]) },
        expect![
            "OPEN Message Error/Bad Peer AS (AS 65001): the peer is in AS 65001, but another than our own AS 65001 is configured"
        ],
    );
}

#[test]
fn rfc4271_6_2_hold_times_of_1_and_2_are_unacceptable() {
    check(
        Open { hold_time_secs: 1, ..open(vec![V4]) },
        expect![
            "OPEN Message Error/Unacceptable Hold Time: Hold Time at byte 22: invalid hold time 1s: must be 0 or >=3s, and at most 65535s"
        ],
    );
    check(
        Open { hold_time_secs: 2, ..open(vec![V4]) },
        expect![
            "OPEN Message Error/Unacceptable Hold Time: Hold Time at byte 22: invalid hold time 2s: must be 0 or >=3s, and at most 65535s"
        ],
    );
    check(
        Open { hold_time_secs: 3, ..open(vec![V4]) },
        expect![
            "AS 65000 (External, Two), hold 3s, keepalive Some(1s), {V4}, extended next hop false, end of RIB false"
        ],
    );
}

#[test]
fn rfc4271_4_2_the_smaller_hold_time_holds_and_keepalives_are_a_third() {
    check(
        Open { hold_time_secs: 0, ..open(vec![V4]) },
        expect!["AS 65000 (External, Two), hold 0s, keepalive None, {V4}, extended next hop false, end of RIB false"],
    );
    check(
        Open { hold_time_secs: 65535, ..open(vec![V4]) },
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4}, extended next hop false, end of RIB false"
        ],
    );
    let ours = |hold: u64, keepalive: Option<u64>| PeerConfig {
        hold_time: HoldTime::from_secs(hold).unwrap(),
        keepalive_time: keepalive.map(Duration::from_secs),
        ..config()
    };
    check_with(
        &ours(0, Some(0)),
        "192.0.2.1",
        open(vec![V4]),
        expect!["AS 65000 (External, Two), hold 0s, keepalive None, {V4}, extended next hop false, end of RIB false"],
    );
    check_with(
        &ours(90, Some(0)),
        "192.0.2.1",
        open(vec![V4]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4}, extended next hop false, end of RIB false"
        ],
    );
    check_with(
        &ours(90, Some(10)),
        "192.0.2.1",
        open(vec![V4]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(10s), {V4}, extended next hop false, end of RIB false"
        ],
    );
    check_with(
        &ours(90, Some(80)),
        "192.0.2.1",
        open(vec![V4]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4}, extended next hop false, end of RIB false"
        ],
    );
}

#[test]
fn rfc6286_2_2_identifier_0_is_bad() {
    check(
        Open { identifier: 0, ..open(vec![V4]) },
        expect!["OPEN Message Error/Bad BGP Identifier: BGP Identifier at byte 24: 0.0.0.0 is not an identifier"],
    );
}

#[test]
fn rfc8950_4_the_next_hop_is_extended_if_both_say_so() {
    let extended = || Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_OVER_IPV6]);
    check_with(
        &config(),
        "2001:db8::1",
        open(vec![V4, V6, extended()]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4, V6}, extended next hop true, end of RIB false"
        ],
    );
    check_with(
        &config(),
        "2001:db8::1",
        open(vec![V4, V6]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4, V6}, extended next hop false, end of RIB false"
        ],
    );
    check_with(
        &config(),
        "192.0.2.1",
        open(vec![V4, V6, extended()]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4, V6}, extended next hop false, end of RIB false"
        ],
    );
}

#[test]
fn rfc4724_3_end_of_rib_is_for_those_who_know_it() {
    let restart = || Capability::GracefulRestart { flags: 0, restart_time_secs: 120, families: Vec::new() };
    check(
        open(vec![V4, restart()]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4}, extended next hop false, end of RIB true"
        ],
    );
    let router = PeerConfig { reception: Reception::Report { prefixes_max: 1 }, ..config() };
    check_with(
        &router,
        "192.0.2.1",
        open(vec![V4, restart()]),
        expect![
            "AS 65000 (External, Two), hold 90s, keepalive Some(30s), {V4}, extended next hop false, end of RIB false"
        ],
    );
}

#[test]
fn our_identifier_is_configured_or_that_of_the_session() {
    let id = |router_id, local: &str| {
        let config = PeerConfig { router_id, ..config() };
        LocalOpen::new(&config, SocketAddr::new(local.parse().unwrap(), 179), Offer::Everything).router_id.to_string()
    };
    let session = RouterIdSource::Session { otherwise: RouterId::new(9).unwrap() };
    assert_eq!(id(session, "192.0.2.1"), "192.0.2.1");
    assert_eq!(id(session, "2001:db8::1"), "0.0.0.9");
    assert_eq!(id(RouterIdSource::Configured(RouterId::new(7).unwrap()), "192.0.2.1"), "0.0.0.7");
}

#[test]
fn rfc4271_6_8_and_rfc6286_2_3_the_higher_identifier_wins_then_the_higher_as() {
    let side = |id, asn| (RouterId::new(id).unwrap(), Asn::new(asn).unwrap());
    for (local, remote, winner) in [
        (side(2, 1), side(1, 2), Direction::Dialed),
        (side(1, 2), side(2, 1), Direction::Accepted),
        (side(0x8000_0000, 1), side(0x7fff_ffff, 1), Direction::Dialed),
        (side(1, 2), side(1, 1), Direction::Dialed),
        (side(1, 1), side(1, 2), Direction::Accepted),
    ] {
        assert_eq!(collision_winner(local, remote), winner, "{local:?} {remote:?}");
        let opposite = if winner == Direction::Dialed { Direction::Accepted } else { Direction::Dialed };
        assert_eq!(collision_winner(remote, local), opposite, "both sides keep the same connection");
    }
}
