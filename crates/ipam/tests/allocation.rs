//! Contract 3.3, 3.4, 3.5 and 13.2 as scenarios.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod world;

use expect_test::{Expect, expect};

fn check(scenario: &str, expected: Expect) {
    expected.assert_eq(&world::run(scenario));
}

#[test]
fn sharing_vectors_of_contract_13_2() {
    check(
        "pool p 10.0.0.0/30
         claim x/a 10.0.0.1 tcp/80 key k
         claim x/b 10.0.0.1 tcp/80 key k
         claim x/b 10.0.0.1 udp/80
         claim x/b 10.0.0.1 udp/80 key k
         claim x/a 10.0.0.1 tcp/80 key zz
         get x/c v4 tcp/80",
        expect![[r#"
            x/a: ["10.0.0.1"] from p
              seats: 10.0.0.1 under "k"
            x/b: refused: port TCP/80 is already in use on "10.0.0.1" by "x/a"
            x/b: refused: can't change sharing key for "x/b": 10.0.0.1 is used by "x/a", and this Service has no sharing key
            x/b: ["10.0.0.1"] from p
            x/a: refused: can't change sharing key for "x/a": 10.0.0.1 is used by "x/b", which has sharing key "k" while this Service has "zz"
            x/c: ["10.0.0.0"] from p
        "#]],
    );
}

#[test]
fn first_fit_takes_both_ends_and_follows_the_order_of_entries() {
    check(
        "pool p 10.0.1.0/31 10.0.0.2-10.0.0.3
         get x/a v4
         get x/b v4
         get x/c v4
         get x/d v4
         get x/e v4
         release x/b
         get x/e v4
         usage",
        expect![[r#"
            x/a: ["10.0.1.0"] from p
            x/b: ["10.0.1.1"] from p
            x/c: ["10.0.0.2"] from p
            x/d: ["10.0.0.3"] from p
            x/e: refused: no available IPs
            x/b: released
              free: 10.0.1.1 of p
            x/e: ["10.0.1.1"] from p
            p: 4/4 IPv4, 0/0 IPv6, 4 Services
        "#]],
    );
}

#[test]
fn a_shareable_address_in_use_goes_before_a_free_one_behind_it() {
    check(
        "pool p 10.0.0.0/30
         get x/a v4 tcp/80
         get x/b v4 tcp/80 key k
         get x/c v4 tcp/80 key other
         get x/d v4 tcp/443 key k
         get x/e v4 udp/53 key k ip 10.0.0.0
         release x/a
         get x/e v4 udp/53 key k",
        expect![[r#"
            x/a: ["10.0.0.0"] from p
            x/b: ["10.0.0.1"] from p
              seats: 10.0.0.1 under "k"
            x/c: ["10.0.0.2"] from p
              seats: 10.0.0.2 under "other"
            x/d: ["10.0.0.1"] from p
            x/e: refused: can't change sharing key for "x/e": 10.0.0.0 is used by "x/a", which has no sharing key
            x/a: released
              free: 10.0.0.0 of p
            x/e: ["10.0.0.0"] from p
              seats: 10.0.0.0 under "k"
        "#]],
    );
}

#[test]
fn local_shares_only_with_local_of_the_same_selector() {
    check(
        "pool p 10.0.0.0/32
         get x/a v4 tcp/80 key k local app=web
         get y/b v4 tcp/81 key k local app=web
         get x/c v4 tcp/82 key k local app=db
         get x/c v4 ip 10.0.0.0 tcp/82 key k local app=db
         get x/d v4 ip 10.0.0.0 tcp/83 key k",
        expect![[r#"
            x/a: ["10.0.0.0"] from p
              seats: 10.0.0.0 under "k"
            y/b: ["10.0.0.0"] from p
            x/c: refused: no available IPs
            x/c: refused: can't change sharing key for "x/c": 10.0.0.0 is used by "y/b" and 1 more, which has externalTrafficPolicy Local with selector "app=web" while this Service has externalTrafficPolicy Local with selector "app=db"
            x/d: refused: can't change sharing key for "x/d": 10.0.0.0 is used by "y/b" and 1 more, which has externalTrafficPolicy Local with selector "app=web" while this Service has externalTrafficPolicy Cluster
        "#]],
    );
}

#[test]
fn buggy_addresses_are_refused_even_by_name() {
    check(
        "pool p 10.0.0.254-10.0.1.1 avoid-buggy
         get x/a v4
         get x/b v4
         get x/c v4
         get x/c v4 ip 10.0.0.255
         usage",
        expect![[r#"
            x/a: ["10.0.0.254"] from p
            x/b: ["10.0.1.1"] from p
            x/c: refused: no available IPs
            x/c: refused: ["10.0.0.255"] is not allowed in config: 10.0.0.255 ends in 0 or 255, which pool p avoids (avoidBuggyIPs)
            p: 2/2 IPv4, 0/0 IPv6, 2 Services
        "#]],
    );
}

#[test]
fn pinned_pools_come_first_by_priority_then_name_then_the_open_ones() {
    check(
        "pool open 10.9.0.0/32
         pool unset 10.0.0.0/32 ns x
         pool second 10.0.1.0/32 ns x priority 20
         pool first 10.0.2.0/32 label app=web priority 10
         pool also-second 10.0.3.0/32 ns x priority 20
         pool other 10.0.4.0/32 ns y priority 1
         get x/a v4 label app=web
         get x/b v4 label app=web
         get x/c v4 label app=web
         get x/d v4 label app=web
         get x/e v4 label app=web
         get x/f v4 label app=web
         why x/f v4 label app=db",
        expect![[r#"
            x/a: ["10.0.2.0"] from first
            x/b: ["10.0.3.0"] from also-second
            x/c: ["10.0.1.0"] from second
            x/d: ["10.0.0.0"] from unset
            x/e: ["10.9.0.0"] from open
            x/f: refused: no available IPs
            x/f:
              pool other: it is not for namespace "x"
              pool first: none of its serviceSelectors matches the labels of the Service
              pool also-second: its only IPv4 address is in use
              pool second: its only IPv4 address is in use
              pool unset: its only IPv4 address is in use
              pool open: its only IPv4 address is in use
        "#]],
    );
}

#[test]
fn a_pool_with_a_priority_and_no_condition_is_used_only_when_asked_for() {
    check(
        "pool p 10.0.0.0/30 priority 1
         get x/a v4
         why x/a v4
         get x/a v4 from p
         get y/b v4 ip 10.0.0.3",
        expect![[r#"
            x/a: refused: no available IPs
            x/a:
              pool p: its serviceAllocation names no namespace and no Service, so it has to be asked for
            x/a: ["10.0.0.0"] from p
            y/b: ["10.0.0.3"] from p
        "#]],
    );
}

#[test]
fn auto_assign_off_is_used_only_when_asked_for() {
    check(
        "pool p 10.0.0.0/30 no-auto
         get x/a v4
         why x/a v4
         get x/a v4 from p
         get x/b v4 ip 10.0.0.3",
        expect![[r#"
            x/a: refused: no available IPs
            x/a:
              pool p: its autoAssign is off
            x/a: ["10.0.0.0"] from p
            x/b: ["10.0.0.3"] from p
        "#]],
    );
}

#[test]
fn namespace_and_service_conditions_hold_together() {
    check(
        "pool p 10.0.0.0/30 ns x label app=web
         get x/a v4 label app=web
         get x/b v4 label app=db
         get y/c v4 label app=web
         get x/b v4 from p label app=db
         get y/c v4 from p label app=web
         get y/c v4 ip 10.0.0.3 label app=web",
        expect![[r#"
            x/a: ["10.0.0.0"] from p
            x/b: refused: no available IPs
            y/c: refused: no available IPs
            x/b: refused: pool p not compatible for ip assignment: none of its serviceSelectors matches the labels of the Service
            y/c: refused: pool p not compatible for ip assignment: it is not for namespace "y"
            y/c: refused: pool p not compatible for ip assignment: it is not for namespace "y"
        "#]],
    );
}

#[test]
fn d6_a_pool_of_selectors_that_match_no_namespace_is_for_nobody() {
    check(
        "pool p 10.0.0.0/30 ns-label team=red
         get x/a v4 from p
         get x/a v4 ip 10.0.0.1
         namespace x team=blue
         get x/a v4
         namespace x team=red
         get x/a v4
         namespace x team=red",
        expect![[r#"
            x/a: refused: pool p not compatible for ip assignment: it is not for namespace "x"
            x/a: refused: pool p not compatible for ip assignment: it is not for namespace "x"
            namespace x: matters
            x/a: refused: no available IPs
            namespace x: matters
            x/a: ["10.0.0.0"] from p
            namespace x: no matter
        "#]],
    );
}

#[test]
fn families_of_contract_3_3() {
    check(
        "pool a 10.0.0.0/32
         pool b fc00::/128
         pool c 10.0.1.0/31 fc00::1:0/127
         get x/v6 v6
         get x/dual dual
         get x/prefer prefer-v4
         get x/next prefer-v6
         get x/last prefer-v6
         get x/more prefer-v6
         get x/full dual
         why x/full dual",
        expect![[r#"
            x/v6: ["fc00::"] from b
            x/dual: ["10.0.1.0" "fc00::1:0"] from c
            x/prefer: ["10.0.1.1" "fc00::1:1"] from c
            x/next: ["10.0.0.0"] from a
            x/last: refused: no available IPs
            x/more: refused: no available IPs
            x/full: refused: no available IPs
            x/full:
              pool a: its only IPv4 address is in use
              pool b: it has no usable IPv4 addresses
              pool c: all 2 of its IPv4 addresses are in use
        "#]],
    );
}

#[test]
fn prefer_dual_stack_takes_any_dual_pool_before_a_single_one() {
    check(
        "pool a 10.0.0.0/30 ns x
         pool z 10.0.1.0/30 fc00::/126
         get x/a prefer-v4
         get y/b v4
         pool z 10.0.1.0/30
         get x/c prefer-v6",
        expect![[r#"
            x/a: ["10.0.1.0" "fc00::"] from z
            y/b: ["10.0.1.1"] from z
            x/a: lost ["10.0.1.0" "fc00::"]
            x/c: ["10.0.0.0"] from a
        "#]],
    );
}

#[test]
fn a_requested_pool_has_no_fallback() {
    check(
        "pool a 10.0.0.0/32
         pool b 10.0.1.0/30 fc00::/126
         get x/a v4 from a
         get x/b v4 from a
         get x/c v6 from a
         get x/d prefer-v6 from a
         get x/e dual from nowhere
         release x/a
         get x/d prefer-v6 from a",
        expect![[r#"
            x/a: ["10.0.0.0"] from a
            x/b: refused: no available IPs in pool a for IPv4: its only IPv4 address is in use
            x/c: refused: no available IPs in pool a for IPv6: it has no usable IPv6 addresses
            x/d: refused: no available IPs in pool a for IPv6: it has no usable IPv6 addresses
            x/e: refused: unknown pool "nowhere"
            x/a: released
              free: 10.0.0.0 of a
            x/d: ["10.0.0.0"] from a
        "#]],
    );
}

#[test]
fn requested_addresses_are_in_one_pool_and_of_the_families() {
    check(
        "pool a 10.0.0.0/30 fc00::/126
         pool b fc00:1::/126
         get x/a dual ip fc00::1,10.0.0.1
         get x/b dual ip 10.0.0.2
         get x/b prefer-v4 ip 10.0.0.2
         get x/b v6 ip 10.0.0.2
         get x/b v4 ip 10.0.0.2,fc00::2
         get x/b dual ip 10.0.0.2,fc00:1::1
         get x/b v4 ip 192.0.2.1
         get x/b v4 ip 10.0.0.2 from b
         get x/b v4 ip 10.0.0.2 from nowhere
         get x/b v4 ip 10.0.0.1
         get x/b v4 ip 10.0.0.2 from a",
        expect![[r#"
            x/a: ["fc00::1" "10.0.0.1"] from a
            x/b: refused: requested loadBalancer IP(s) ["10.0.0.2"] does not match the ipFamily of the service, dual-stack
            x/b: refused: requested loadBalancer IP(s) ["10.0.0.2"] does not match the ipFamily of the service, dual-stack
            x/b: refused: requested loadBalancer IP(s) ["10.0.0.2"] does not match the ipFamily of the service, IPv6
            x/b: refused: requested loadBalancer IP(s) ["10.0.0.2" "fc00::2"] does not match the ipFamily of the service, IPv4
            x/b: refused: ["10.0.0.2" "fc00:1::1"] is not allowed in config: one is in pool a, the other in pool b
            x/b: refused: ["192.0.2.1"] is not allowed in config: 192.0.2.1 is in no pool
            x/b: refused: requested loadBalancer IP(s) ["10.0.0.2"] is not compatible with requested address pool b: it is in pool a
            x/b: refused: requested loadBalancer IP(s) ["10.0.0.2"] is not compatible with requested address pool nowhere: it is in pool a
            x/b: refused: can't change sharing key for "x/b": 10.0.0.1 is used by "x/a", and neither has a sharing key
            x/b: ["10.0.0.2"] from a
        "#]],
    );
}

#[test]
fn d7_who_is_refused_keeps_what_it_has() {
    check(
        "pool a 10.0.0.0/31
         pool b 10.0.1.0/32
         get x/a v4 from a
         get x/b v4 from b
         get x/a v4 from b
         get x/a v4 ip 10.0.1.0
         usage
         release x/b
         get x/a v4 from b
         usage",
        expect![[r#"
            x/a: ["10.0.0.0"] from a
            x/b: ["10.0.1.0"] from b
            x/a: refused: no available IPs in pool b for IPv4: its only IPv4 address is in use
            x/a: refused: can't change sharing key for "x/a": 10.0.1.0 is used by "x/b", and neither has a sharing key
            a: 1/2 IPv4, 0/0 IPv6, 1 Services
            b: 1/1 IPv4, 0/0 IPv6, 1 Services
            x/b: released
              free: 10.0.1.0 of b
            x/a: ["10.0.1.0"] from b
              free: 10.0.0.0 of a
            a: 0/2 IPv4, 0/0 IPv6, 0 Services
            b: 1/1 IPv4, 0/0 IPv6, 1 Services
        "#]],
    );
}

#[test]
fn who_leaves_a_shared_address_frees_its_ports() {
    check(
        "pool a 10.0.0.0/30
         get x/a v4 tcp/80 tcp/443 key k
         get x/b v4 udp/53 key k
         claim x/a 10.0.0.0 tcp/80 key k
         release x/a
         claim x/b 10.0.0.0 udp/53 key other
         release x/b",
        expect![[r#"
            x/a: ["10.0.0.0"] from a
              seats: 10.0.0.0 under "k"
            x/b: ["10.0.0.0"] from a
            x/a: ["10.0.0.0"] from a
              seats: 10.0.0.0 under "k"
            x/a: released
              seats: 10.0.0.0 under "k"
            x/b: ["10.0.0.0"] from a
              seats: 10.0.0.0 under "other"
            x/b: released
              free: 10.0.0.0 of a
        "#]],
    );
}

#[test]
fn a_pool_that_is_renamed_or_cut_in_two_keeps_its_services() {
    check(
        "pool a 10.0.0.0/30
         get x/a v4
         get x/b v4 tcp/80 key k
         get x/c v4 tcp/81 key k
         no-pool a
         pool lower 10.0.0.0/32
         pool upper 10.0.0.1-10.0.0.3
         usage
         no-pool lower
         usage
         get x/d v4 udp/80 key k",
        expect![[r#"
            x/a: ["10.0.0.0"] from a
            x/b: ["10.0.0.1"] from a
              seats: 10.0.0.1 under "k"
            x/c: ["10.0.0.1"] from a
            x/a: now in pool lower
            x/c: now in pool upper
            x/b: now in pool upper
            lower: 1/1 IPv4, 0/0 IPv6, 1 Services
            upper: 1/3 IPv4, 0/0 IPv6, 2 Services
            x/a: lost ["10.0.0.0"]
            upper: 1/3 IPv4, 0/0 IPv6, 2 Services
            x/d: ["10.0.0.1"] from upper
        "#]],
    );
}

#[test]
fn a_dual_stack_service_needs_both_addresses_in_one_pool() {
    check(
        "pool a 10.0.0.0/30 fc00::/126
         get x/a dual
         pool a 10.0.0.0/30
         pool b fc00::/126
         usage",
        expect![[r#"
            x/a: ["10.0.0.0" "fc00::"] from a
            x/a: lost ["10.0.0.0" "fc00::"]
            a: 0/4 IPv4, 0/0 IPv6, 0 Services
            b: 0/0 IPv4, 0/4 IPv6, 0 Services
        "#]],
    );
}

#[test]
fn what_can_stay_of_the_previous_addresses_stays() {
    check(
        "pool a 10.0.0.0/29 fc00::/125
         get x/first dual
         get x/now-v4 v4 had 10.0.0.5,fc00::5
         get x/now-dual dual had fc00::5
         get x/half dual had 10.0.0.6,fc00:9::1
         get x/other-half dual had 10.0.9.1,fc00::7
         get x/taken v4 had 10.0.0.5
         get x/prefer prefer-v4 from a had 10.0.0.7",
        expect![[r#"
            x/first: ["10.0.0.0" "fc00::"] from a
            x/now-v4: ["10.0.0.5"] from a
            x/now-dual: ["fc00::5" "10.0.0.1"] from a
            x/half: ["10.0.0.6" "fc00::1"] from a
            x/other-half: ["10.0.0.2" "fc00::7"] from a
            x/taken: ["10.0.0.3"] from a
            x/prefer: ["10.0.0.7" "fc00::2"] from a
        "#]],
    );
}

#[test]
fn prefer_dual_stack_moves_to_a_dual_pool_when_its_own_loses_a_family_else_keeps_the_rest() {
    check(
        "pool a fc00::/126
         pool b 10.0.1.0/32 fc00:1::/126
         get x/a prefer-v4 had 10.0.0.0,fc00::2
         get x/b prefer-v4 had 10.0.0.1,fc00::3",
        expect![[r#"
            x/a: ["10.0.1.0" "fc00:1::"] from b
            x/b: ["fc00::3"] from a
        "#]],
    );
}

#[test]
fn a_second_address_comes_from_the_same_pool_behind_the_first() {
    check(
        "pool a 10.0.0.0/30
         get x/a prefer-v4
         extend x/a
         pool a 10.0.0.0/24 fc00::/126
         extend x/a
         extend x/a
         extend x/unknown",
        expect![[r#"
            x/a: ["10.0.0.0"] from a
            x/a: refused: no available IPs in pool a for IPv6: it has no usable IPv6 addresses
            x/a: ["10.0.0.0" "fc00::"] from a
            x/a: nothing to extend
            x/unknown: nothing to extend
        "#]],
    );
}

#[test]
fn sharing_reaches_over_full_pools_in_order() {
    check(
        "pool a 10.0.0.0/32
         pool b 10.0.1.0/32
         pool c 10.0.2.0/31
         get x/a v4 tcp/80 key k
         get x/b v4 tcp/80 key k
         get x/c v4 tcp/80 key k
         get x/d v4 tcp/81 key k
         get x/e v4 tcp/81 key k
         get x/f v4 udp/80 key k from b
         get x/g v4 tcp/80 tcp/81 key k
         get x/h v4 tcp/80 key k",
        expect![[r#"
            x/a: ["10.0.0.0"] from a
              seats: 10.0.0.0 under "k"
            x/b: ["10.0.1.0"] from b
              seats: 10.0.1.0 under "k"
            x/c: ["10.0.2.0"] from c
              seats: 10.0.2.0 under "k"
            x/d: ["10.0.0.0"] from a
            x/e: ["10.0.1.0"] from b
            x/f: ["10.0.1.0"] from b
            x/g: ["10.0.2.1"] from c
              seats: 10.0.2.1 under "k"
            x/h: refused: no available IPs
        "#]],
    );
}

#[test]
fn counters_do_not_overflow() {
    check(
        "pool huge fc00::/48 10.0.0.0/30
         pool buggy 10.1.0.0/32 10.1.0.255/32 avoid-buggy
         get x/a dual
         usage",
        expect![[r#"
            x/a: ["10.0.0.0" "fc00::"] from huge
            buggy: 0/0 IPv4, 0/0 IPv6, 0 Services
            huge: 1/4 IPv4, 1/340282366920938463463374607431768211455 IPv6, 1 Services
        "#]],
    );
}
