//! Who is answered, with what, and what is sent without being asked. Each test is one story.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use expect_test::{Expect, expect};
use kit::{Duration, Family, Instant, Outbox};
use l2::{Coverage, Input, InterfaceSet, Obstacle, Output, Refresh};

use crate::text::{self, Lab, check, parse_frame, parse_input, sent, subject};

/// A host with two interfaces, on which the rounds of both addresses are over.
const HOST: &str = "
    interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
    interface 2 eth1 02:00:00:00:00:02 up,carrier,broadcast fe80::2
    announce 10.0.0.9 on eth0
    announce fc00::9 on eth0
    +10000ms
";

/// What the host says to a script.
fn check_host(script: &str, expected: Expect) {
    let mut lab = Lab::new();
    lab.run(HOST);
    expected.assert_eq(&lab.run(script));
}

#[test]
fn contract_5_3_and_5_6_an_announced_address_is_told_in_five_rounds() {
    check(
        "
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        announce 10.0.0.9 on all
        +1200ms
        announce fc00::9 on eth0
        +3500ms
        +60000ms
        ",
        expect![[r#"
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                open ARP on 1
                open NDP on 1
            announce 10.0.0.9 on all
                IPv4 on all: eth0
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            +1200ms
                1100ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1100ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            announce fc00::9 on eth0
                join on 1: ff02::1:ff00:9
                IPv6 on eth0: eth0
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            +3500ms
                2200ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                2200ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                2300ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
                3300ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                3300ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                3400ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
                4400ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                4400ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                4500ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            +60000ms
                5600ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
        "#]],
    );
}

#[test]
fn contract_12_2_r3_announcing_again_with_nothing_changed_sends_nothing() {
    check_host(
        "
        announce 10.0.0.9 on eth0
        announce fc00::9 on eth0
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        +10000ms
        ",
        expect![[r#"
            announce 10.0.0.9 on eth0
            announce fc00::9 on eth0
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
            +10000ms
        "#]],
    );
}

#[test]
fn contract_5_4_arp_requests_are_answered_by_unicast() {
    check_host(
        "
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp who-has 10.0.0.9 (02:00:00:00:00:01) tell 10.0.0.1
        1: 02:00:00:00:00:bb > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1 (02:00:00:00:00:aa)
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.1
            1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp who-has 10.0.0.9 (02:00:00:00:00:01) tell 10.0.0.1
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.1
            1: 02:00:00:00:00:bb > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1 (02:00:00:00:00:aa)
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.1
        "#]],
    );
}

#[test]
fn contract_5_4_other_arp_frames_are_ignored() {
    check_host(
        "
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 tell 10.0.0.1
        1: 02:00:00:00:00:aa > 02:00:00:00:00:02 arp who-has 10.0.0.9 tell 10.0.0.1
        1: 02:00:00:00:00:aa > 33:33:00:00:00:01 arp who-has 10.0.0.9 tell 10.0.0.1
        1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp reply 10.0.0.1 is-at 02:00:00:00:00:aa to 10.0.0.9
        2: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        3: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1 (ff:ff:ff:ff:ff:ff)
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1 (00:00:00:00:00:00)
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 tell 10.0.0.1
            1: 02:00:00:00:00:aa > 02:00:00:00:00:02 arp who-has 10.0.0.9 tell 10.0.0.1
            1: 02:00:00:00:00:aa > 33:33:00:00:00:01 arp who-has 10.0.0.9 tell 10.0.0.1
            1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp reply 10.0.0.1 is-at 02:00:00:00:00:aa to 10.0.0.9
            2: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
            3: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1 (ff:ff:ff:ff:ff:ff)
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1 (00:00:00:00:00:00)
        "#]],
    );
}

#[test]
fn rfc_5227_2_1_1_a_probe_is_answered() {
    check_host(
        "1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0",
        expect![[r#"
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
            1: 02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 0.0.0.0
    "#]],
    );
}

#[test]
fn rfc_5227_2_4_the_announcement_of_another_is_answered_and_reported() {
    check_host(
        "
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.9
        +1000ms
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.9
                who is 02:00:00:00:00:aa?
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            +1000ms
                10800ms 10.0.0.9 claimed by 02:00:00:00:00:aa on 1 (ArpRequest)
                10800ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        "#]],
    );
}

#[test]
fn contract_5_5_solicitations_are_answered() {
    check_host(
        "
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        1: 02:00:00:00:00:bb > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa fe80::1 > fc00::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [solicited]
            1: 02:00:00:00:00:bb > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa fe80::1 > fc00::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [solicited]
        "#]],
    );
}

#[test]
fn contract_12_1_d13_unicast_solicitations_are_answered_rfc_4861_7_2_2_also_without_the_option() {
    check_host(
        "
        1: 02:00:00:00:00:aa > 02:00:00:00:00:01 fc00::1 > fc00::9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        1: 02:00:00:00:00:aa > 02:00:00:00:00:01 fc00::1 > fc00::9 neighbor solicitation who-has fc00::9
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > 02:00:00:00:00:01 fc00::1 > fc00::9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa fe80::1 > fc00::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [solicited]
            1: 02:00:00:00:00:aa > 02:00:00:00:00:01 fc00::1 > fc00::9 neighbor solicitation who-has fc00::9
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa fe80::1 > fc00::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [solicited]
        "#]],
    );
}

#[test]
fn contract_12_1_d13_rfc_4861_7_2_4_rfc_4862_5_4_3_a_probe_is_answered_to_all_nodes() {
    check_host(
        "1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 :: > ff02::1:ff00:9 neighbor solicitation who-has fc00::9",
        expect![[r#"
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 :: > ff02::1:ff00:9 neighbor solicitation who-has fc00::9
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
        "#]],
    );
}

#[test]
fn contract_5_5_other_solicitations_are_ignored() {
    check_host(
        "
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:08 fc00::1 > ff02::1:ff00:8 neighbor solicitation who-has fc00::8 source 02:00:00:00:00:aa
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 33:33:00:00:00:01
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 00:00:00:00:00:00
        1: 02:00:00:00:00:aa > 02:00:00:00:00:02 fc00::1 > fc00::9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        2: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        1: 02:00:00:00:00:aa > 02:00:00:00:00:01 fc00::1 > fe80::1 neighbor advertisement fc00::1 is-at 02:00:00:00:00:aa flags [solicited]
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:08 fc00::1 > ff02::1:ff00:8 neighbor solicitation who-has fc00::8 source 02:00:00:00:00:aa
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 33:33:00:00:00:01
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 00:00:00:00:00:00
            1: 02:00:00:00:00:aa > 02:00:00:00:00:02 fc00::1 > fc00::9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
            2: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
            1: 02:00:00:00:00:aa > 02:00:00:00:00:01 fc00::1 > fe80::1 neighbor advertisement fc00::1 is-at 02:00:00:00:00:aa flags [solicited]
        "#]],
    );
}

#[test]
fn what_this_host_sends_itself_is_neither_a_question_nor_a_claim() {
    check_host(
        "
        1: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.9
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.9 (02:00:00:00:00:02)
        1: 02:00:00:00:00:02 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:02 flags [override]
        1: 02:00:00:00:00:02 > 33:33:ff:00:00:09 :: > ff02::1:ff00:9 neighbor solicitation who-has fc00::9
        ",
        expect![[r#"
            1: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.9
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.9 (02:00:00:00:00:02)
            1: 02:00:00:00:00:02 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:02 flags [override]
            1: 02:00:00:00:00:02 > 33:33:ff:00:00:09 :: > ff02::1:ff00:9 neighbor solicitation who-has fc00::9
        "#]],
    );
}

#[test]
fn foreign_claims_are_reported_once_a_second() {
    check_host(
        "
        1: 02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]
        1: 02:00:00:00:00:bb > 33:33:00:00:00:01 fe80::bb > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:bb flags [override]
        +999ms
        1: 02:00:00:00:00:bb > 33:33:00:00:00:01 fe80::bb > ff02::1 neighbor advertisement fc00::9 flags []
        +1ms
        1: 02:00:00:00:00:bb > 33:33:00:00:00:01 fe80::bb > ff02::1 neighbor advertisement fc00::9 flags []
        1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.1
        +1000ms
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.9
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:01 fc00::9 > ff02::1:ff00:1 neighbor solicitation who-has fc00::1 source 02:00:00:00:00:aa
        +1000ms
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.9
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:01 fc00::9 > ff02::1:ff00:1 neighbor solicitation who-has fc00::1 source 02:00:00:00:00:aa
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]
                who is 02:00:00:00:00:aa?
            1: 02:00:00:00:00:bb > 33:33:00:00:00:01 fe80::bb > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:bb flags [override]
                who is 02:00:00:00:00:bb?
            +999ms
                10800ms fc00::9 claimed by 02:00:00:00:00:bb on 1 (NeighborAdvertisement)
                10800ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            1: 02:00:00:00:00:bb > 33:33:00:00:00:01 fe80::bb > ff02::1 neighbor advertisement fc00::9 flags []
            +1ms
            1: 02:00:00:00:00:bb > 33:33:00:00:00:01 fe80::bb > ff02::1 neighbor advertisement fc00::9 flags []
            1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.1
            +1000ms
                11800ms 10.0.0.9 claimed by 02:00:00:00:00:aa on 1 (ArpReply)
                11800ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.9
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:01 fc00::9 > ff02::1:ff00:1 neighbor solicitation who-has fc00::1 source 02:00:00:00:00:aa
                fc00::9 claimed by 02:00:00:00:00:aa on 1 (NeighborSolicitation)
            +1000ms
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.9
                10.0.0.9 claimed by 02:00:00:00:00:aa on 1 (ArpRequest)
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:01 fc00::9 > ff02::1:ff00:1 neighbor solicitation who-has fc00::1 source 02:00:00:00:00:aa
                fc00::9 claimed by 02:00:00:00:00:aa on 1 (NeighborSolicitation)
        "#]],
    );
}

#[test]
fn foreign_claims_where_we_do_not_announce_are_nobodys_business() {
    check_host(
        "
        2: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        2: 02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.8 is-at 02:00:00:00:00:aa to 10.0.0.8
        1: 02:00:00:00:00:aa > 02:00:00:00:00:02 arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.1
        ",
        expect![[r#"
            2: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
            2: 02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.8 is-at 02:00:00:00:00:aa to 10.0.0.8
            1: 02:00:00:00:00:aa > 02:00:00:00:00:02 arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.1
        "#]],
    );
}

#[test]
fn contract_5_6_and_5_7_nothing_is_sent_on_withdrawal_and_rounds_stop() {
    check(
        "
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        announce 10.0.0.9 on all
        announce fc00::9 on all
        withdraw 10.0.0.9
        withdraw fc00::9
        withdraw fc00::9
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        +10000ms
        ",
        expect![[r#"
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                open ARP on 1
                open NDP on 1
            announce 10.0.0.9 on all
                IPv4 on all: eth0
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            announce fc00::9 on all
                join on 1: ff02::1:ff00:9
                IPv6 on all: eth0
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            withdraw 10.0.0.9
            withdraw fc00::9
                leave on 1: ff02::1:ff00:9
            withdraw fc00::9
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
            +10000ms
        "#]],
    );
}

#[test]
fn contract_5_5_groups_are_counted() {
    check(
        "
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        announce fc00::9 on all
        announce fc00:1::9 on all
        withdraw fc00::9
        withdraw fc00:1::9
        announce fc00::9 on all
        ",
        expect![[r#"
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                open ARP on 1
                open NDP on 1
            announce fc00::9 on all
                join on 1: ff02::1:ff00:9
                IPv6 on all: eth0
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            announce fc00:1::9 on all
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00:1::9 is-at 02:00:00:00:00:01 flags [override]
            withdraw fc00::9
            withdraw fc00:1::9
                leave on 1: ff02::1:ff00:9
            announce fc00::9 on all
                join on 1: ff02::1:ff00:9
                IPv6 on all: eth0
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
        "#]],
    );
}

#[test]
fn contract_12_1_d11_other_interfaces_replace_the_earlier_ones() {
    check_host(
        "
        announce fc00::9 on eth1
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        2: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        announce 10.0.0.9 on absent
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        +500ms
        ",
        expect![[r#"
            announce fc00::9 on eth1
                leave on 1: ff02::1:ff00:9
                join on 2: ff02::1:ff00:9
                IPv6 on eth1: eth1
                2: 02:00:00:00:00:02 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:02 flags [override]
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
            2: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
                2: 02:00:00:00:00:02 > 02:00:00:00:00:aa fe80::2 > fc00::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:02 flags [solicited]
            announce 10.0.0.9 on absent
                IPv4 on absent: Absent
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
            +500ms
        "#]],
    );
}

#[test]
fn a_wider_set_of_interfaces_is_told_only_where_it_is_new() {
    check_host(
        "
        announce 10.0.0.9 on eth0,eth1
        +1100ms
        announce 10.0.0.9 on eth1
        announce 10.0.0.9 on all
        ",
        expect![[r#"
            announce 10.0.0.9 on eth0,eth1
                IPv4 on eth0,eth1: eth0,eth1
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:02 to 10.0.0.9
            +1100ms
                11100ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                11100ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:02 to 10.0.0.9
            announce 10.0.0.9 on eth1
                IPv4 on eth1: eth1
            announce 10.0.0.9 on all
                IPv4 on all: eth0,eth1
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
        "#]],
    );
}

#[test]
fn contract_12_1_d12_an_interface_that_appears_joins_and_tells_everything() {
    check(
        "
        announce fc00::9 on all
        announce fc00::a on eth0
        announce fc00::b on eth1
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        withdraw fc00::a
        ",
        expect![[r#"
            announce fc00::9 on all
                IPv6 on all: Obstructed
            announce fc00::a on eth0
                IPv6 on eth0: Absent
            announce fc00::b on eth1
                IPv6 on eth1: Absent
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                open ARP on 1
                open NDP on 1
                join on 1: ff02::1:ff00:9 ff02::1:ff00:a
                IPv6 on all: eth0
                IPv6 on eth0: eth0
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::a is-at 02:00:00:00:00:01 flags [override]
            withdraw fc00::a
                leave on 1: ff02::1:ff00:a
        "#]],
    );
}

#[test]
fn contract_12_1_d12_a_late_link_local_address_joins_and_tells_everything() {
    check(
        "
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
        announce fc00::9 on all
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        +10000ms
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1 fe80::2
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::2
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
        ",
        expect![[r#"
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
                open ARP on 1
            announce fc00::9 on all
                IPv6 on all: Obstructed
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                open NDP on 1
                join on 1: ff02::1:ff00:9
                IPv6 on all: eth0
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            +10000ms
                1100ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
                2200ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
                3300ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
                4400ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1 fe80::2
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::2
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa fe80::2 > fc00::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [solicited]
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
                close NDP on 1
                IPv6 on all: Obstructed
        "#]],
    );
}

#[test]
fn contract_12_1_d14_a_new_mac_is_used_at_once_and_told() {
    check_host(
        "
        interface 1 eth0 02:00:00:00:00:11 up,carrier,broadcast fe80::1
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp who-has 10.0.0.9 tell 10.0.0.1
        1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
        +800ms
        ",
        expect![[r#"
            interface 1 eth0 02:00:00:00:00:11 up,carrier,broadcast fe80::1
                1: 02:00:00:00:00:11 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:11 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:11 to 10.0.0.9
                1: 02:00:00:00:00:11 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:11 flags [override]
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
                1: 02:00:00:00:00:11 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:11 to 10.0.0.1
            1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp who-has 10.0.0.9 tell 10.0.0.1
            1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                who is 02:00:00:00:00:01?
            +800ms
                10800ms 10.0.0.9 claimed by 02:00:00:00:00:01 on 1 (ArpReply)
                10800ms 1: 02:00:00:00:00:11 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
        "#]],
    );
}

#[test]
fn contract_12_1_d14_a_new_name_is_followed() {
    check_host(
        "
        interface 1 lan0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        interface 2 eth0 02:00:00:00:00:02 up,carrier,broadcast fe80::2
        ",
        expect![[r#"
            interface 1 lan0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                leave on 1: ff02::1:ff00:9
                IPv4 on eth0: Absent
                IPv6 on eth0: Absent
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
            interface 2 eth0 02:00:00:00:00:02 up,carrier,broadcast fe80::2
                join on 2: ff02::1:ff00:9
                IPv4 on eth0: eth0
                IPv6 on eth0: eth0
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:02 to 10.0.0.9
                2: 02:00:00:00:00:02 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:02 flags [override]
        "#]],
    );
}

#[test]
fn contract_12_1_d15_a_link_that_comes_back_is_told() {
    check_host(
        "
        interface 1 eth0 02:00:00:00:00:01 up,broadcast fe80::1
        +10000ms
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        interface 1 eth0 02:00:00:00:00:01 broadcast
        +10000ms
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        ",
        expect![[r#"
            interface 1 eth0 02:00:00:00:00:01 up,broadcast fe80::1
                IPv4 on eth0: Obstructed
                IPv6 on eth0: Obstructed
            +10000ms
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                IPv4 on eth0: eth0
                IPv6 on eth0: eth0
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            interface 1 eth0 02:00:00:00:00:01 broadcast
                close ARP on 1
                close NDP on 1
                IPv4 on eth0: Obstructed
                IPv6 on eth0: Obstructed
            +10000ms
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
                open ARP on 1
                IPv4 on eth0: eth0
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                open NDP on 1
                join on 1: ff02::1:ff00:9
                IPv6 on eth0: eth0
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
        "#]],
    );
}

#[test]
fn an_interface_that_goes_is_forgotten() {
    check_host(
        "
        gone 1
        gone 1
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        +10000ms
        interface 7 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        ",
        expect![[r#"
            gone 1
                close ARP on 1
                close NDP on 1
                IPv4 on eth0: Absent
                IPv6 on eth0: Absent
            gone 1
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
            +10000ms
            interface 7 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                open ARP on 7
                open NDP on 7
                join on 7: ff02::1:ff00:9
                IPv4 on eth0: eth0
                IPv6 on eth0: eth0
                7: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                7: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                7: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
        "#]],
    );
}

#[test]
fn a_socket_that_fails_is_asked_for_again() {
    check_host(
        "
        failed 1 NDP
        failed 1 NDP
        1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
        +4999ms
        +1ms
        failed 1 NDP
        interface 1 eth0 02:00:00:00:00:01 broadcast
        +10000ms
        failed 1 NDP
        failed 9 NDP
        ",
        expect![[r#"
            failed 1 NDP
                close NDP on 1
                IPv6 on eth0: Obstructed
            failed 1 NDP
            1: 02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa
            +4999ms
            +1ms
                15000ms open NDP on 1
                15000ms join on 1: ff02::1:ff00:9
                15000ms IPv6 on eth0: eth0
                15000ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            failed 1 NDP
                close NDP on 1
                IPv6 on eth0: Obstructed
            interface 1 eth0 02:00:00:00:00:01 broadcast
                close ARP on 1
                IPv4 on eth0: Obstructed
            +10000ms
            failed 1 NDP
            failed 9 NDP
        "#]],
    );
}

#[test]
fn contract_5_3_coverage_is_reported_when_it_changes() {
    check(
        "
        announce 10.0.0.9 on eth0,eth1
        announce 10.0.0.8 on eth0,eth1
        interface 1 eth0 02:00:00:00:00:01 none
        interface 2 eth1 02:00:00:00:00:02 up,carrier,broadcast
        interface 1 eth0 02:00:00:00:00:01 up,broadcast
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
        gone 2
        gone 1
        withdraw 10.0.0.9
        withdraw 10.0.0.8
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
        ",
        expect![[r#"
            announce 10.0.0.9 on eth0,eth1
                IPv4 on eth0,eth1: Absent
            announce 10.0.0.8 on eth0,eth1
            interface 1 eth0 02:00:00:00:00:01 none
                IPv4 on eth0,eth1: Obstructed
            interface 2 eth1 02:00:00:00:00:02 up,carrier,broadcast
                open ARP on 2
                IPv4 on eth0,eth1: eth1
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 (ff:ff:ff:ff:ff:ff) tell 10.0.0.8
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.8 is-at 02:00:00:00:00:02 to 10.0.0.8
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:02 to 10.0.0.9
            interface 1 eth0 02:00:00:00:00:01 up,broadcast
                open ARP on 1
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
                IPv4 on eth0,eth1: eth0,eth1
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 (ff:ff:ff:ff:ff:ff) tell 10.0.0.8
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.8 is-at 02:00:00:00:00:01 to 10.0.0.8
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            gone 2
                close ARP on 2
                IPv4 on eth0,eth1: eth0
            gone 1
                close ARP on 1
                IPv4 on eth0,eth1: Absent
            withdraw 10.0.0.9
            withdraw 10.0.0.8
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
                open ARP on 1
        "#]],
    );
}

#[test]
fn coverage_and_obstacles_can_be_asked_for_without_announcing() {
    let mut lab = Lab::new();
    lab.run(
        "
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast
        interface 2 docker0 02:00:00:00:00:02 up,carrier,broadcast fe80::2 excluded
        ",
    );
    let coverage = |names: &str, family| lab.responder.coverage(&text::parse_set(names), family);
    assert_eq!(coverage("all", Family::V4), Coverage::Answered(["eth0".to_owned()].into()));
    assert_eq!(coverage("all", Family::V6), Coverage::Obstructed);
    assert_eq!(coverage("docker0", Family::V4), Coverage::Obstructed);
    assert_eq!(coverage("eth7", Family::V4), Coverage::Absent);
    assert_eq!(Lab::new().responder.coverage(&InterfaceSet::All, Family::V4), Coverage::Obstructed);
    let obstacles: Vec<_> = lab.responder.obstacles(Family::V6).map(|(i, o)| (i.name.as_str(), o)).collect();
    assert_eq!(obstacles, [("eth0", Some(Obstacle::NoLinkLocal)), ("docker0", Some(Obstacle::Excluded))]);
}

#[test]
fn contract_8_3_counters() {
    let mut lab = Lab::new();
    lab.run(HOST);
    lab.run(
        "
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.9
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 tell 10.0.0.1
        2: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        announce fc00::9 on all
        +10000ms
        ",
    );
    let counters: Vec<String> =
        lab.responder.counters().map(|(address, counters)| format!("{address} {counters:?}")).collect();
    expect![[r#"
        10.0.0.9 Counters { requests: 2, responses: 2, gratuitous: 11, gateway_frames: 0, foreign_claims: 1 }
        fc00::9 Counters { requests: 0, responses: 0, gratuitous: 10, gateway_frames: 0, foreign_claims: 0 }
    "#]]
    .assert_eq(&(counters.join("\n") + "\n"));
    let behind = |after: &str| {
        let after: IpAddr = after.parse().unwrap();
        lab.responder.counters_after(Some(after)).map(|(address, _)| address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(behind("10.0.0.8"), ["10.0.0.9", "fc00::9"]);
    assert_eq!(behind("10.0.0.9"), ["fc00::9"]);
    assert_eq!(behind("fc00::9"), [""; 0]);
    lab.run("withdraw 10.0.0.9");
    assert_eq!(lab.responder.counters().count(), 1);
}

#[test]
fn frames_that_break_the_rules_are_counted_and_frames_of_other_kinds_are_not() {
    let mut lab = Lab::new();
    lab.run(HOST);
    let arp = parse_frame("02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 tell 10.0.0.1").encode();
    let ndp = parse_frame(
        "02:00:00:00:00:aa > 33:33:ff:00:00:09 fe80::aa > ff02::1:ff00:9 \
         neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa",
    )
    .encode();
    let edited = |frame: &[u8], at: usize, byte: u8| {
        let mut bytes = frame.to_vec();
        bytes[at] = byte;
        bytes
    };
    let mut out = Outbox::with_limit(l2::OUTBOX_MAX);
    for (bytes, counted) in [
        (arp.clone(), 0),
        (ndp.clone(), 0),
        // RARP, another protocol over Ethernet, another ICMPv6 message, another protocol over IPv6.
        (edited(&arp, 21, 3), 0),
        (edited(&arp, 12, 0x09), 0),
        (edited(&ndp, 54, 134), 0),
        (edited(&ndp, 20, 17), 0),
        (arp[..30].to_vec(), 1),
        (edited(&ndp, 21, 64), 1),
        (edited(&ndp, 56, 0), 1),
        (Vec::new(), 1),
    ] {
        let before = lab.responder.malformed_frames();
        lab.responder.handle(lab.now, Input::Frame { interface: text::index(1), bytes: bytes.clone() }, &mut out);
        assert_eq!(lab.responder.malformed_frames() - before, counted, "{bytes:02x?}");
    }
}

/// Announces many addresses of both families at once on two interfaces, and returns when each was first told on each.
#[test]
fn ten_thousand_addresses_at_once_are_paced_and_still_told_within_a_second() {
    let mut lab = Lab::new();
    lab.run(
        "
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        interface 2 eth1 02:00:00:00:00:02 up,carrier,broadcast fe80::2
        ",
    );
    let mut said: Vec<(Instant, Output)> = Vec::new();
    for n in 0..5_000u32 {
        for address in [
            IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)),
            IpAddr::V6(Ipv6Addr::from(0xfc00_u128 << 112 | u128::from(n))),
        ] {
            let mut out = kit::Outbox::with_limit(l2::OUTBOX_MAX);
            let input = Input::Announce { address, interfaces: InterfaceSet::All };
            lab.responder.handle(lab.now, input, &mut out);
            said.extend(out.drain().map(|output| (lab.now, output)));
        }
    }
    lab.responder.check_invariants();
    while let Some(deadline) = lab.responder.next_deadline() {
        let mut out = kit::Outbox::with_limit(l2::OUTBOX_MAX);
        lab.responder.handle(deadline, Input::Tick, &mut out);
        assert_eq!(out.dropped(), 0);
        said.extend(out.drain().map(|output| (deadline, output)));
    }
    let mut first_told = BTreeMap::new();
    let mut frames_per_pace: BTreeMap<_, u32> = BTreeMap::new();
    for (at, output) in &said {
        for (interface, frame) in sent(std::slice::from_ref(output)) {
            first_told.entry((interface, subject(&frame))).or_insert(*at);
            *frames_per_pace.entry((interface, at.as_micros() / l2::PACE.as_micros())).or_default() += 1;
        }
    }
    assert_eq!(first_told.len(), 20_000);
    let last = first_told.values().max().unwrap().since(Instant::ZERO);
    assert!(last < Duration::from_secs(1), "{last}");
    assert!(frames_per_pace.values().all(|frames| *frames <= l2::FRAMES_PER_PACE));
    let gratuitous: u64 = lab.responder.counters().map(|(_, counters)| counters.gratuitous).sum();
    assert_eq!(gratuitous, 2 * 5 * (5_000 * 2 + 5_000));
}

#[test]
fn an_interface_that_appears_among_ten_thousand_addresses_loses_nothing() {
    let mut lab = Lab::new();
    for n in 0..10_000u32 {
        let address = IpAddr::V6(Ipv6Addr::from(0xfc00_u128 << 112 | u128::from(n)));
        let mut out = kit::Outbox::with_limit(l2::OUTBOX_MAX);
        lab.responder.handle(lab.now, Input::Announce { address, interfaces: InterfaceSet::All }, &mut out);
    }
    let said = lab.handle(parse_input("interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1"));
    let joined: usize = said
        .iter()
        .map(|output| match output {
            Output::Action(l2::Action::Join { groups, .. }) => groups.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(joined, 10_000);
}

#[test]
fn what_does_not_fit_in_the_outbox_comes_at_the_next_tick() {
    let mut lab = Lab::new();
    lab.run("interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1");
    for n in 0..5_000u32 {
        let interfaces = InterfaceSet::Named(["eth1".to_owned(), format!("eth{n}")].into());
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n));
        let mut out = kit::Outbox::with_limit(l2::OUTBOX_MAX);
        lab.responder.handle(lab.now, Input::Announce { address, interfaces }, &mut out);
    }
    let mut said = lab.handle(parse_input("interface 2 eth1 02:00:00:00:00:02 up,carrier,broadcast fe80::2"));
    assert_eq!(lab.responder.next_deadline(), Some(lab.now), "there is more");
    said.extend(lab.pass(Duration::from_secs(20)).into_iter().map(|(_, output)| output));
    let reports = said.iter().filter(|output| matches!(output, Output::Report(_))).count();
    assert_eq!(reports, 5_000);
    // Five rounds of both frames for every address on eth1.
    assert_eq!(sent(&said).iter().filter(|(interface, _)| interface.get() == 2).count(), 5_000 * 2 * 5);
}

#[test]
fn an_address_that_is_handed_over_is_answered_until_the_other_machine_has_announced_it() {
    check_host(
        "
        +5000ms
        hand-over 10.0.0.9
        +1000ms
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        1: 02:00:00:00:00:bb > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.9
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
        hand-over fc00::9
        1: 02:00:00:00:00:bb > 33:33:00:00:00:01 fe80::b > ff02::1 neighbor advertisement fc00::9 target 02:00:00:00:00:bb flags [override]
        +5000ms
        ",
        expect![[r#"
            +5000ms
            hand-over 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
            +1000ms
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.1
            1: 02:00:00:00:00:bb > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.9
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
            hand-over fc00::9
                1: 02:00:00:00:00:01 > 33:33:ff:00:00:09 fe80::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:01
            1: 02:00:00:00:00:bb > 33:33:00:00:00:01 fe80::b > ff02::1 neighbor advertisement fc00::9 target 02:00:00:00:00:bb flags [override]
                leave on 1: ff02::1:ff00:9
            +5000ms
        "#]],
    );
}

#[test]
fn an_address_that_nobody_takes_is_answered_for_two_seconds_and_announced_anew_if_it_comes_back() {
    check_host(
        "
        announce 10.0.0.7 on eth0
        +10ms
        hand-over 10.0.0.7
        +1900ms
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 tell 10.0.0.1
        +200ms
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 tell 10.0.0.1
        announce 10.0.0.7 on eth0
        +5000ms
        hand-over 10.0.0.7
        announce 10.0.0.7 on eth0
        +10ms
        ",
        expect![[r#"
            announce 10.0.0.7 on eth0
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 (ff:ff:ff:ff:ff:ff) tell 10.0.0.7
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.7 is-at 02:00:00:00:00:01 to 10.0.0.7
            +10ms
            hand-over 10.0.0.7
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 tell 0.0.0.0
            +1900ms
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 tell 10.0.0.1
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.7 is-at 02:00:00:00:00:01 to 10.0.0.1
            +200ms
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 tell 10.0.0.1
            announce 10.0.0.7 on eth0
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 (ff:ff:ff:ff:ff:ff) tell 10.0.0.7
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.7 is-at 02:00:00:00:00:01 to 10.0.0.7
            +5000ms
                13210ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 (ff:ff:ff:ff:ff:ff) tell 10.0.0.7
                13210ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.7 is-at 02:00:00:00:00:01 to 10.0.0.7
                14310ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 (ff:ff:ff:ff:ff:ff) tell 10.0.0.7
                14310ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.7 is-at 02:00:00:00:00:01 to 10.0.0.7
                15410ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 (ff:ff:ff:ff:ff:ff) tell 10.0.0.7
                15410ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.7 is-at 02:00:00:00:00:01 to 10.0.0.7
                16510ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 (ff:ff:ff:ff:ff:ff) tell 10.0.0.7
                16510ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.7 is-at 02:00:00:00:00:01 to 10.0.0.7
            hand-over 10.0.0.7
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 tell 0.0.0.0
            announce 10.0.0.7 on eth0
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.7 (ff:ff:ff:ff:ff:ff) tell 10.0.0.7
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.7 is-at 02:00:00:00:00:01 to 10.0.0.7
            +10ms
        "#]],
    );
}

#[test]
fn an_address_is_refreshed_in_both_forms_and_to_the_router_and_nothing_else_makes_it_told_again() {
    let mut lab = Lab::with_refresh(Refresh::Every(Duration::from_secs(120)));
    lab.run(HOST);
    lab.run("gateway 10.0.0.1@1 fe80::fe@1");
    let said = lab.run(
        "
        1: 02:00:00:00:00:fe > 02:00:00:00:00:01 arp reply 10.0.0.1 is-at 02:00:00:00:00:fe to 10.0.0.3
        1: 02:00:00:00:00:fe > 02:00:00:00:00:01 fe80::fe > fe80::1 neighbor advertisement fe80::fe is-at 02:00:00:00:00:fe flags [solicited]
        announce 10.0.0.9 on eth0
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        +110000ms
        ",
    );
    expect![[r#"
        1: 02:00:00:00:00:fe > 02:00:00:00:00:01 arp reply 10.0.0.1 is-at 02:00:00:00:00:fe to 10.0.0.3
        1: 02:00:00:00:00:fe > 02:00:00:00:00:01 fe80::fe > fe80::1 neighbor advertisement fe80::fe is-at 02:00:00:00:00:fe flags [solicited]
        announce 10.0.0.9 on eth0
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        +110000ms
            92471ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            92471ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:fe fe80::1 > fe80::fe neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            97575ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
            97575ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            97575ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:fe arp who-has 10.0.0.1 tell 10.0.0.9
    "#]].assert_eq(&said);
}

#[test]
fn a_router_is_asked_where_it_is_and_then_told_by_itself() {
    check(
        "
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        gateway 10.0.0.1@1 fe80::fe@1
        announce 10.0.0.9 on all
        announce 10.0.0.8 on all
        announce fc00::9 on all
        announce fc00::8 on all
        1: 02:00:00:00:00:fe > 02:00:00:00:00:01 arp reply 10.0.0.1 is-at 02:00:00:00:00:fe to 10.0.0.9
        1: 02:00:00:00:00:fe > 02:00:00:00:00:01 fe80::fe > fe80::1 neighbor advertisement fe80::fe is-at 02:00:00:00:00:fe flags [solicited]
        +1100ms
        gateway 10.0.0.1@2
        +1100ms
        ",
        expect![[r#"
            interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
                open ARP on 1
                open NDP on 1
            gateway 10.0.0.1@1 fe80::fe@1
            announce 10.0.0.9 on all
                IPv4 on all: eth0
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.9
            announce 10.0.0.8 on all
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 (ff:ff:ff:ff:ff:ff) tell 10.0.0.8
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.8 is-at 02:00:00:00:00:01 to 10.0.0.8
            announce fc00::9 on all
                join on 1: ff02::1:ff00:9
                IPv6 on all: eth0
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
                1: 02:00:00:00:00:01 > 33:33:ff:00:00:fe fe80::1 > ff02::1:ff00:fe neighbor solicitation who-has fe80::fe source 02:00:00:00:00:01
            announce fc00::8 on all
                join on 1: ff02::1:ff00:8
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::8 is-at 02:00:00:00:00:01 flags [override]
            1: 02:00:00:00:00:fe > 02:00:00:00:00:01 arp reply 10.0.0.1 is-at 02:00:00:00:00:fe to 10.0.0.9
            1: 02:00:00:00:00:fe > 02:00:00:00:00:01 fe80::fe > fe80::1 neighbor advertisement fe80::fe is-at 02:00:00:00:00:fe flags [solicited]
            +1100ms
                1100ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 (ff:ff:ff:ff:ff:ff) tell 10.0.0.8
                1100ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.8 is-at 02:00:00:00:00:01 to 10.0.0.8
                1100ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:fe arp who-has 10.0.0.1 tell 10.0.0.8
                1100ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1100ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                1100ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:fe arp who-has 10.0.0.1 tell 10.0.0.9
                1100ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::8 is-at 02:00:00:00:00:01 flags [override]
                1100ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:fe fe80::1 > fe80::fe neighbor advertisement fc00::8 is-at 02:00:00:00:00:01 flags [override]
                1100ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
                1100ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:fe fe80::1 > fe80::fe neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            gateway 10.0.0.1@2
            +1100ms
                2200ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 (ff:ff:ff:ff:ff:ff) tell 10.0.0.8
                2200ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.8 is-at 02:00:00:00:00:01 to 10.0.0.8
                2200ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                2200ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                2200ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::8 is-at 02:00:00:00:00:01 flags [override]
                2200ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
        "#]],
    );
}

#[test]
fn rfc_5227_2_4_c_a_stranger_is_answered_by_one_announcement_and_then_left_alone_for_ten_seconds() {
    check_host(
        "
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        +5000ms
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        +9999ms
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        +10000ms
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        1: 02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]
        +1000ms
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
                who is 02:00:00:00:00:aa?
            +5000ms
                10800ms 10.0.0.9 claimed by 02:00:00:00:00:aa on 1 (ArpReply)
                10800ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
                10.0.0.9 claimed by 02:00:00:00:00:aa on 1 (ArpReply)
            +9999ms
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
                10.0.0.9 claimed by 02:00:00:00:00:aa on 1 (ArpReply)
                who is 02:00:00:00:00:aa?
            +10000ms
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
                who is 02:00:00:00:00:aa?
            1: 02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]
            +1000ms
                35799ms 10.0.0.9 claimed by 02:00:00:00:00:aa on 1 (ArpReply)
                35799ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                35799ms fc00::9 claimed by 02:00:00:00:00:aa on 1 (NeighborAdvertisement)
                35799ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
        "#]],
    );
}

#[test]
fn a_claim_of_a_fellow_is_no_conflict_unless_it_still_answers_when_the_address_would_have_moved() {
    check_host(
        "
        fellows 10.0.0.2 10.0.0.3
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.2
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 10.0.0.9
        1: 02:00:00:00:00:b2 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:b2 flags [override]
        +20000ms
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 10.0.0.9
        1: 02:00:00:00:00:b2 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:b2 flags [override]
        +800ms
        1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 0.0.0.0
        1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 fe80::2 > fe80::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:b2 flags [solicited]
        repeat 10.0.0.9
        repeat fc00::9
        +999ms
        repeat 10.0.0.9
        +1ms
        repeat 10.0.0.9
        +20000ms
        ",
        expect![[r#"
            fellows 10.0.0.2 10.0.0.3
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.2
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 10.0.0.9
            1: 02:00:00:00:00:b2 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:b2 flags [override]
            +20000ms
                10800ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 arp who-has 10.0.0.9 tell 0.0.0.0
                10800ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 fe80::1 > fc00::9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:01
                11000ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                11000ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
                11000ms 1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 10.0.0.9
            1: 02:00:00:00:00:b2 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:b2 flags [override]
            +800ms
                30800ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 arp who-has 10.0.0.9 tell 0.0.0.0
                30800ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 fe80::1 > fc00::9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:01
            1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 0.0.0.0
                10.0.0.9 claimed by 02:00:00:00:00:b2 of 10.0.0.2 on 1 (ArpReply)
            1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 fe80::2 > fe80::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:b2 flags [solicited]
                fc00::9 claimed by 02:00:00:00:00:b2 of 10.0.0.2 on 1 (NeighborAdvertisement)
            repeat 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            repeat fc00::9
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            +999ms
            repeat 10.0.0.9
            +1ms
                31800ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                31800ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            repeat 10.0.0.9
            +20000ms
                32800ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                32800ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
        "#]],
    );
}

#[test]
fn a_claim_to_an_address_that_is_handed_over_or_given_up_meanwhile_is_no_conflict() {
    check_host(
        "
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        1: 02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]
        +700ms
        hand-over 10.0.0.9
        withdraw fc00::9
        +20000ms
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
                who is 02:00:00:00:00:aa?
            1: 02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]
            +700ms
            hand-over 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
            withdraw fc00::9
                leave on 1: ff02::1:ff00:9
            +20000ms
        "#]],
    );
}

#[test]
fn a_claim_on_an_interface_that_the_address_has_left_meanwhile_is_no_conflict() {
    check_host(
        "
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        announce 10.0.0.9 on eth1
        +20000ms
        ",
        expect![[r#"
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
                who is 02:00:00:00:00:aa?
            announce 10.0.0.9 on eth1
                IPv4 on eth1: eth1
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:02 to 10.0.0.9
            +20000ms
                11100ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                11100ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:02 to 10.0.0.9
                12200ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                12200ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:02 to 10.0.0.9
                13300ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                13300ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:02 to 10.0.0.9
                14400ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                14400ms 2: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:02 to 10.0.0.9
        "#]],
    );
}

#[test]
fn who_asks_for_an_address_that_it_does_not_have_hears_which_fellow_has_it() {
    check_host(
        "
        fellows 10.0.0.2
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.2
        ask 10.0.0.2 for 10.0.0.7
        ask 10.0.0.2 for fc00::7
        1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp reply 10.0.0.7 is-at 02:00:00:00:00:aa to 0.0.0.0
        1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 fe80::2 > fe80::1 neighbor advertisement fc00::7 is-at 02:00:00:00:00:b2 flags [solicited]
        1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 fe80::2 > fe80::1 neighbor advertisement fc00::7 is-at 02:00:00:00:00:b2 flags [solicited]
        ask 10.0.0.2 for 10.0.0.7
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.7 is-at 02:00:00:00:00:b2 to 10.0.0.7
        1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 arp reply 10.0.0.7 is-at 02:00:00:00:00:b2 to 0.0.0.0
        ",
        expect![[r#"
            fellows 10.0.0.2
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.2
            ask 10.0.0.2 for 10.0.0.7
                1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 arp who-has 10.0.0.7 tell 0.0.0.0
                2: 02:00:00:00:00:02 > 02:00:00:00:00:b2 arp who-has 10.0.0.7 tell 0.0.0.0
            ask 10.0.0.2 for fc00::7
                1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 fe80::1 > fc00::7 neighbor solicitation who-has fc00::7 source 02:00:00:00:00:01
                2: 02:00:00:00:00:02 > 02:00:00:00:00:b2 fe80::2 > fc00::7 neighbor solicitation who-has fc00::7 source 02:00:00:00:00:02
            1: 02:00:00:00:00:aa > 02:00:00:00:00:01 arp reply 10.0.0.7 is-at 02:00:00:00:00:aa to 0.0.0.0
            1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 fe80::2 > fe80::1 neighbor advertisement fc00::7 is-at 02:00:00:00:00:b2 flags [solicited]
                fc00::7 is with 10.0.0.2
            1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 fe80::2 > fe80::1 neighbor advertisement fc00::7 is-at 02:00:00:00:00:b2 flags [solicited]
            ask 10.0.0.2 for 10.0.0.7
                1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 arp who-has 10.0.0.7 tell 0.0.0.0
                2: 02:00:00:00:00:02 > 02:00:00:00:00:b2 arp who-has 10.0.0.7 tell 0.0.0.0
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.7 is-at 02:00:00:00:00:b2 to 10.0.0.7
            1: 02:00:00:00:00:b2 > 02:00:00:00:00:01 arp reply 10.0.0.7 is-at 02:00:00:00:00:b2 to 0.0.0.0
                10.0.0.7 is with 10.0.0.2
        "#]],
    );
}

/// Two strangers claim an address at random times.
#[test]
fn rfc_5227_2_4_c_whatever_strangers_claim_an_address_is_defended_at_most_once_in_ten_seconds() {
    let mut rng = kit::Rng::new(5227);
    let mut defences = 0;
    for _ in 0..50 {
        let mut lab = Lab::new();
        lab.run(HOST);
        let mut unasked: Vec<Instant> = Vec::new();
        let most = 1 + rng.below(30_000);
        for _ in 0..200 {
            let mac = if rng.one_in(3) { "02:00:00:00:00:b2" } else { "02:00:00:00:00:aa" };
            let claim = format!("1: {mac} > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at {mac} to 10.0.0.9");
            let mut said: Vec<(Instant, Output)> =
                lab.handle(parse_input(&claim)).into_iter().map(|output| (lab.now, output)).collect();
            said.extend(lab.pass(Duration::from_millis(rng.below(most))));
            let is_announcement = |output: &Output| {
                sent(std::slice::from_ref(output)).iter().any(|(_, frame)| frame.destination == kit::Mac::BROADCAST)
            };
            unasked.extend(said.iter().filter(|(_, output)| is_announcement(output)).map(|(at, _)| *at));
        }
        defences += unasked.len();
        let gaps: Vec<Duration> = unasked.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert!(gaps.iter().all(|gap| *gap >= l2::DEFEND_INTERVAL), "{gaps:?}");
    }
    assert!(defences > 500, "{defences}");
}

#[test]
fn a_fellow_that_asks_everybody_has_given_the_address_up_and_everybody_is_told() {
    check_host(
        "
        fellows 10.0.0.2
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.2
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
        1: 02:00:00:00:00:b2 > 33:33:ff:00:00:09 fe80::2 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:b2
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
        +10000ms
        ",
        expect![[r#"
            fellows 10.0.0.2
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.1 tell 10.0.0.2
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
                1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 0.0.0.0
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            1: 02:00:00:00:00:b2 > 33:33:ff:00:00:09 fe80::2 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:b2
                1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 fe80::1 > fe80::2 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [solicited]
                1: 02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:01 flags [override]
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
                1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 0.0.0.0
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
                1: 02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 0.0.0.0
            +10000ms
                11000ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                11000ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
        "#]],
    );
}

#[test]
fn whoever_knows_the_station_of_a_fellow_is_asked_before_it_counts_as_a_stranger() {
    check_host(
        "
        fellows 10.0.0.2
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 10.0.0.9
        1: 02:00:00:00:00:b2 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:b2 flags [override]
        station 10.0.0.7 is-at 02:00:00:00:00:b2
        station 10.0.0.2 is-at 02:00:00:00:00:b2
        +900ms
        ",
        expect![[r#"
            fellows 10.0.0.2
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 10.0.0.9
                who is 02:00:00:00:00:b2?
            1: 02:00:00:00:00:b2 > 33:33:00:00:00:01 fe80::2 > ff02::1 neighbor advertisement fc00::9 is-at 02:00:00:00:00:b2 flags [override]
            station 10.0.0.7 is-at 02:00:00:00:00:b2
            station 10.0.0.2 is-at 02:00:00:00:00:b2
            +900ms
                10800ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 arp who-has 10.0.0.9 tell 0.0.0.0
                10800ms 1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 fe80::1 > fc00::9 neighbor solicitation who-has fc00::9 source 02:00:00:00:00:01
        "#]],
    );
}

#[test]
fn a_stranger_is_not_forgotten_because_a_fellow_claims_the_address_too() {
    check_host(
        "
        fellows 10.0.0.2
        1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 10.0.0.9
        station 10.0.0.2 is-at 02:00:00:00:00:b2
        +1000ms
        ",
        expect![[r#"
            fellows 10.0.0.2
            1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9
                who is 02:00:00:00:00:aa?
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:b2 to 10.0.0.9
                who is 02:00:00:00:00:b2?
            station 10.0.0.2 is-at 02:00:00:00:00:b2
            +1000ms
                10800ms 10.0.0.9 claimed by 02:00:00:00:00:aa on 1 (ArpReply)
                10800ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
        "#]],
    );
}

/// Between the two questions the fellow may have told everybody that it has the address.
#[test]
fn a_repetition_that_comes_too_soon_waits_and_is_not_left_out() {
    check_host(
        "
        fellows 10.0.0.2
        station 10.0.0.2 is-at 02:00:00:00:00:b2
        repeat 10.0.0.9
        +300ms
        1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
        repeat 10.0.0.9
        +699ms
        +10000ms
        ",
        expect![[r#"
            fellows 10.0.0.2
            station 10.0.0.2 is-at 02:00:00:00:00:b2
            repeat 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
            +300ms
            1: 02:00:00:00:00:b2 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0
                1: 02:00:00:00:00:01 > 02:00:00:00:00:b2 arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 0.0.0.0
            repeat 10.0.0.9
            +699ms
            +10000ms
                11000ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9
                11000ms 1: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.9
        "#]],
    );
}
