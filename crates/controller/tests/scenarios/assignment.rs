//! Contract 3.1 to 3.5, and each row of 10.2.

use controller::Settings;
use expect_test::{Expect, expect};

use crate::world;

fn check(scenario: &str, expected: Expect) {
    expected.assert_eq(&world::run(scenario));
}

#[test]
fn nothing_is_written_before_configuration_and_list_are_there() {
    check(
        "svc x/a
         sync
         svc x/b
         pool a 10.0.0.0/30
         config",
        expect![[r#"
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/b := [10.0.0.1] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 2+0 free
        "#]],
    );
    check(
        "pool a 10.0.0.0/30
         config
         svc x/a
         foreign x/a 10.0.0.3
         why x/a
         bad-config
         sync
         why x/a",
        expect![[r#"
            Service x/a: nothing is decided yet
            x/a := [10.0.0.3] from a
            pool a := 1+0 used, 3+0 free
            Service x/a: has ["10.0.0.3"] from pool a
        "#]],
    );
}

#[test]
fn row_1a_a_freed_address_is_used_again_after_a_type_change() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/first
         svc x/second
         svc x/first type ClusterIP",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/first := [10.0.0.0] from a
            x/first Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/second Warning AllocationFailed: Service "x/second" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/first := []
            pool a := 0+0 used, 1+0 free
            x/second := [10.0.0.0] from a
            x/second Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
        "#]],
    );
}

#[test]
fn row_1b_a_freed_address_is_used_again_after_a_delete() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/first
         svc x/second
         svc x/third
         delete x/first",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/first := [10.0.0.0] from a
            x/first Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/second Warning AllocationFailed: Service "x/second" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/third Warning AllocationFailed: Service "x/third" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/second := [10.0.0.0] from a
            x/second Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

#[test]
fn row_2_a_restart_moves_nothing() {
    check(
        "pool a 10.0.0.0/32 10.0.1.0/32
         config
         sync
         svc x/d
         svc x/c
         svc x/b
         svc x/a
         restart
         restart
         restart
         restart
         restart
         delete x/c",
        expect![[r#"
            pool a := 0+0 used, 2+0 free
            x/d := [10.0.0.0] from a
            x/d Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 1+0 free
            x/c := [10.0.1.0] from a
            x/c Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "a"
            pool a := 2+0 used, 0+0 free
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a := [10.0.1.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "a"
        "#]],
    );
}

#[test]
fn row_3_sharing_is_reconsidered_and_the_one_that_changes_loses() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/first tcp/80 key k
         svc x/second tcp/443 key k
         svc x/second tcp/443 key k local app=web
         svc x/first tcp/80 key k local app=web
         svc x/second tcp/443 key k local app=db
         svc x/first tcp/80 key k local app=db",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/first := [10.0.0.0] from a
            x/first Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/second := [10.0.0.0] from a
            x/second Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            x/second := []
            x/second Normal ClearAssignment: Service "x/second" can no longer have ["10.0.0.0"]: can't change sharing key for "x/second": 10.0.0.0 is used by "x/first", which has externalTrafficPolicy Cluster while this Service has externalTrafficPolicy Local with selector "app=web"
            x/second Warning AllocationFailed: Service "x/second" has no address: no available IPs (pool a: its only IPv4 address is in use, and none under sharing key "k" has a place); hint: add addresses to a pool that accepts the Service, or delete Services
            x/second := [10.0.0.0] from a
            x/second Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            x/second := []
            x/second Normal ClearAssignment: Service "x/second" can no longer have ["10.0.0.0"]: can't change sharing key for "x/second": 10.0.0.0 is used by "x/first", which has externalTrafficPolicy Local with selector "app=web" while this Service has externalTrafficPolicy Local with selector "app=db"
            x/second Warning AllocationFailed: Service "x/second" has no address: no available IPs (pool a: its only IPv4 address is in use, and none under sharing key "k" has a place); hint: add addresses to a pool that accepts the Service, or delete Services
            x/second := [10.0.0.0] from a
            x/second Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

#[test]
fn row_4_without_any_pool_every_service_is_cleared() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a
         svc x/b
         no-pool a
         config
         why x/a
         pool b 10.0.1.0/32
         config
         why x/a
         why x/b",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/b := [10.0.0.1] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 2+0 free
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: no available IPs: no IPAddressPool is configured
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs: no IPAddressPool is configured; hint: create an IPAddressPool
            x/b := []
            x/b Normal ClearAssignment: Service "x/b" can no longer have ["10.0.0.1"]: no available IPs: no IPAddressPool is configured
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs: no IPAddressPool is configured; hint: create an IPAddressPool
            Service x/a: has no address: no available IPs: no IPAddressPool is configured
            x/a := [10.0.1.0] from b
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool b := 1+0 used, 0+0 free
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool b: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            Service x/a: has ["10.0.1.0"] from pool b
            Service x/b: has no address: no available IPs
              pool b: its only IPv4 address is in use
        "#]],
    );
}

#[test]
fn row_5_a_service_whose_pool_is_deleted_moves_to_another() {
    check(
        "pool a 10.0.0.0/32 ns x priority 20
         pool b 10.0.1.0/32
         config
         sync
         svc x/a
         no-pool a
         config",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            pool b := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/a := [10.0.1.0] from b
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: ["10.0.0.0"] is not allowed in config: 10.0.0.0 is in no pool
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool b := 1+0 used, 0+0 free
        "#]],
    );
}

#[test]
fn row_6_service_allocation() {
    check(
        "pool lower 10.0.5.0/32 ns x priority 20
         pool higher 10.0.10.0/32 ns x priority 10
         pool none 10.0.20.0/32 ns x
         pool label 10.0.30.0/32 label test=e2e priority 5
         pool open 10.0.40.0/32
         config
         sync
         svc x/a label test=e2e
         svc x/b
         svc x/c
         svc x/d
         svc y/e",
        expect![[r#"
            pool higher := 0+0 used, 1+0 free
            pool label := 0+0 used, 1+0 free
            pool lower := 0+0 used, 1+0 free
            pool none := 0+0 used, 1+0 free
            pool open := 0+0 used, 1+0 free
            x/a := [10.0.30.0] from label
            x/a Normal IPAllocated: Assigned IP ["10.0.30.0"] from pool "label"
            pool label := 1+0 used, 0+0 free
            x/b := [10.0.10.0] from higher
            x/b Normal IPAllocated: Assigned IP ["10.0.10.0"] from pool "higher"
            pool higher := 1+0 used, 0+0 free
            x/c := [10.0.5.0] from lower
            x/c Normal IPAllocated: Assigned IP ["10.0.5.0"] from pool "lower"
            pool lower := 1+0 used, 0+0 free
            x/d := [10.0.20.0] from none
            x/d Normal IPAllocated: Assigned IP ["10.0.20.0"] from pool "none"
            pool none := 1+0 used, 0+0 free
            y/e := [10.0.40.0] from open
            y/e Normal IPAllocated: Assigned IP ["10.0.40.0"] from pool "open"
            pool open := 1+0 used, 0+0 free
        "#]],
    );
}

#[test]
fn row_6_namespace_labels_take_effect_when_they_change() {
    check(
        "pool red 10.0.0.0/30 ns-label team=red
         config
         namespace x team=blue
         sync
         svc x/a
         why x/a
         namespace x team=red
         namespace x team=blue
         no-namespace x",
        expect![[r#"
            pool red := 0+0 used, 4+0 free
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool red: it is not for namespace "x"); hint: add addresses to a pool that accepts the Service, or delete Services
            Service x/a: has no address: no available IPs
              pool red: it is not for namespace "x"
            x/a := [10.0.0.0] from red
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "red"
            pool red := 1+0 used, 3+0 free
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: pool red not compatible for ip assignment: it is not for namespace "x"
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool red: it is not for namespace "x"); hint: add addresses to a pool that accepts the Service, or delete Services
            pool red := 0+0 used, 4+0 free
        "#]],
    );
}

#[test]
fn row_7_prefer_dual_stack_takes_both_addresses_of_a_dual_pool() {
    check(
        "pool v4 10.0.0.0/32
         pool v6 fc00::/128
         pool z-dual 10.0.1.0/32 fc00:1::/124
         config
         sync
         svc x/a prefer-v4",
        expect![[r#"
            pool v4 := 0+0 used, 1+0 free
            pool v6 := 0+0 used, 0+1 free
            pool z-dual := 0+0 used, 1+16 free
            x/a := [10.0.1.0 fc00:1::] from z-dual
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0" "fc00:1::"] from pool "z-dual"
            pool z-dual := 1+1 used, 0+15 free
        "#]],
    );
}

#[test]
fn row_8_prefer_dual_stack_follows_the_primary_family_among_single_pools() {
    check(
        "pool v4 10.0.0.0/31
         pool v6 fc00::/127
         config
         sync
         svc x/a prefer-v4
         svc x/b prefer-v6",
        expect![[r#"
            pool v4 := 0+0 used, 2+0 free
            pool v6 := 0+0 used, 0+2 free
            x/a := [10.0.0.0] from v4
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "v4"
            x/a Normal AdditionalAssignFailed: Service "x/a" keeps ["10.0.0.0"]: PreferDualStack, but no available IPs in pool v4 for IPv6: it has no usable IPv6 addresses
            pool v4 := 1+0 used, 1+0 free
            x/b := [fc00::] from v6
            x/b Normal IPAllocated: Assigned IP ["fc00::"] from pool "v6"
            x/b Normal AdditionalAssignFailed: Service "x/b" keeps ["fc00::"]: PreferDualStack, but no available IPs in pool v6 for IPv4: it has no usable IPv4 addresses
            pool v6 := 0+1 used, 0+1 free
        "#]],
    );
}

#[test]
fn row_9_a_pool_that_becomes_dual_adds_the_second_address_behind_the_first() {
    check(
        "pool a 10.0.0.100/32
         config
         sync
         svc x/a prefer-v6
         pool a 10.0.0.0/24 fc00::/124
         config",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.100] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.100"] from pool "a"
            x/a Normal AdditionalAssignFailed: Service "x/a" keeps ["10.0.0.100"]: PreferDualStack, but no available IPs in pool a for IPv6: it has no usable IPv6 addresses
            pool a := 1+0 used, 0+0 free
            x/a := [10.0.0.100 fc00::] from a
            x/a Normal IPAllocated: Assigned additional IP "fc00::"
            pool a := 1+1 used, 255+15 free
        "#]],
    );
}

#[test]
fn row_10_require_dual_stack_loses_the_address_and_prefer_gets_it_again() {
    check(
        "pool a 10.0.0.100/32
         config
         sync
         svc x/a prefer-v4
         svc x/a dual
         svc x/a prefer-v4",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.100] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.100"] from pool "a"
            x/a Normal AdditionalAssignFailed: Service "x/a" keeps ["10.0.0.100"]: PreferDualStack, but no available IPs in pool a for IPv6: it has no usable IPv6 addresses
            pool a := 1+0 used, 0+0 free
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.100"]: it does not match the ipFamily of the service, dual-stack
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool a: it has no usable IPv6 addresses); hint: add addresses to a pool that accepts the Service, or delete Services
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.100] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.100"] from pool "a"
            x/a Normal AdditionalAssignFailed: Service "x/a" keeps ["10.0.0.100"]: PreferDualStack, but no available IPs in pool a for IPv6: it has no usable IPv6 addresses
            pool a := 1+0 used, 0+0 free
        "#]],
    );
}

#[test]
fn row_11_a_service_does_not_jump_to_a_dual_pool() {
    check(
        "pool v4 10.0.0.100/32
         config
         sync
         svc x/a prefer-v4
         pool a-dual 10.0.1.0/30 fc00::/124
         config
         svc x/a prefer-v4 label touched=yes",
        expect![[r#"
            pool v4 := 0+0 used, 1+0 free
            x/a := [10.0.0.100] from v4
            x/a Normal IPAllocated: Assigned IP ["10.0.0.100"] from pool "v4"
            x/a Normal AdditionalAssignFailed: Service "x/a" keeps ["10.0.0.100"]: PreferDualStack, but no available IPs in pool v4 for IPv6: it has no usable IPv6 addresses
            pool v4 := 1+0 used, 0+0 free
            pool a-dual := 0+0 used, 4+16 free
        "#]],
    );
}

#[test]
fn row_12_a_dual_pool_that_loses_a_family_is_left_for_another_dual_pool() {
    check(
        "pool one 10.0.0.100/32 fc00::/124 ns x
         config
         sync
         svc x/a prefer-v4
         pool one fc00::/124 ns x
         pool dual 10.0.1.0/32 fc00:1::/124
         config",
        expect![[r#"
            pool one := 0+0 used, 1+16 free
            x/a := [10.0.0.100 fc00::] from one
            x/a Normal IPAllocated: Assigned IP ["10.0.0.100" "fc00::"] from pool "one"
            pool one := 1+1 used, 0+15 free
            x/a := [10.0.1.0 fc00:1::] from dual
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.100" "fc00::"]: ["10.0.0.100" "fc00::"] is not allowed in config: 10.0.0.100 is in no pool
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0" "fc00:1::"] from pool "dual"
            pool dual := 1+1 used, 0+15 free
            pool one := 0+0 used, 0+16 free
        "#]],
    );
}

#[test]
fn row_13_pool_status_counts_creation_assignment_growth_and_release() {
    check(
        "pool a 10.0.0.0/30 fc00::/126
         config
         sync
         svc x/a dual
         pool a 10.0.0.0/29 fc00::/125
         config
         delete x/a
         pool-status a 7 7 7 7
         +1s",
        expect![[r#"
            pool a := 0+0 used, 4+4 free
            x/a := [10.0.0.0 fc00::] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0" "fc00::"] from pool "a"
            pool a := 1+1 used, 3+3 free
            pool a := 1+1 used, 7+7 free
            pool a := 0+0 used, 8+8 free
            pool a := 0+0 used, 8+8 free
        "#]],
    );
}

#[test]
fn d1_prefer_dual_stack_on_a_single_stack_cluster_keeps_one_address() {
    check(
        "pool a 10.0.0.0/30 fc00::/126
         config
         sync
         svc x/a v4 policy PreferDualStack
         svc x/a v4 policy PreferDualStack label touched=yes",
        expect![[r#"
            pool a := 0+0 used, 4+4 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+4 free
        "#]],
    );
}

#[test]
fn d7_a_wish_that_cannot_be_met_costs_nothing() {
    check(
        "pool a 10.0.0.0/31
         pool b 10.0.1.0/32
         config
         sync
         svc x/other from b
         svc x/a
         svc x/a from b
         svc x/a from b label touched=yes
         svc x/a ip 10.0.1.0
         svc x/a ip 192.0.2.1
         svc x/a from nowhere
         svc x/a ip 10.0.0.1 from b
         why x/a
         restart
         svc x/a from b
         delete x/other",
        expect![[r#"
            pool a := 0+0 used, 2+0 free
            pool b := 0+0 used, 1+0 free
            x/other := [10.0.1.0] from b
            x/other Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool b := 1+0 used, 0+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 1+0 free
            x/a Warning AllocationFailed: Service "x/a" keeps ["10.0.0.0"]: no available IPs in pool b for IPv4: its only IPv4 address is in use
            x/a Warning AllocationFailed: Service "x/a" keeps ["10.0.0.0"]: can't change sharing key for "x/a": 10.0.1.0 is used by "x/other", and neither has a sharing key
            x/a Warning AllocationFailed: Service "x/a" keeps ["10.0.0.0"]: ["192.0.2.1"] is not allowed in config: 192.0.2.1 is in no pool
            x/a Warning AllocationFailed: Service "x/a" keeps ["10.0.0.0"]: unknown pool "nowhere"
            x/a Warning AllocationFailed: Service "x/a" keeps ["10.0.0.0"]: requested loadBalancer IP(s) ["10.0.0.1"] is not compatible with requested address pool b: it is in pool a
            Service x/a: keeps ["10.0.0.0"]: requested loadBalancer IP(s) ["10.0.0.1"] is not compatible with requested address pool b: it is in pool a
            x/a Warning AllocationFailed: Service "x/a" keeps ["10.0.0.0"]: requested loadBalancer IP(s) ["10.0.0.1"] is not compatible with requested address pool b: it is in pool a
            x/a Warning AllocationFailed: Service "x/a" keeps ["10.0.0.0"]: no available IPs in pool b for IPv4: its only IPv4 address is in use
            x/a := [10.0.1.0] from b
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool a := 0+0 used, 2+0 free
        "#]],
    );
}

#[test]
fn d7_a_wish_that_can_be_met_swaps() {
    check(
        "pool a 10.0.0.0/31
         pool b 10.0.1.0/32
         config
         sync
         svc x/a
         svc x/waits from a ip 10.0.0.0
         svc x/a from b
         svc x/a from a
         svc x/a ip 10.0.1.0",
        expect![[r#"
            pool a := 0+0 used, 2+0 free
            pool b := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 1+0 free
            x/waits Warning AllocationFailed: Service "x/waits" has no address: can't change sharing key for "x/waits": 10.0.0.0 is used by "x/a", and neither has a sharing key; hint: ask for another address, or give both Services the same metallb.io/allow-shared-ip, policy and backends
            x/a := [10.0.1.0] from b
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool a := 0+0 used, 2+0 free
            pool b := 1+0 used, 0+0 free
            x/waits := [10.0.0.0] from a
            x/waits Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 1+0 free
            x/a := [10.0.0.1] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 0+0 free
            pool b := 0+0 used, 1+0 free
            x/a := [10.0.1.0] from b
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool a := 1+0 used, 1+0 free
            pool b := 1+0 used, 0+0 free
        "#]],
    );
}

#[test]
fn d9_requested_addresses_keep_the_order_first_written() {
    check(
        "pool a 10.0.0.0/30 fc00::/126
         config
         sync
         svc x/a dual ip fc00::2,10.0.0.2
         svc x/a dual ip 10.0.0.2,fc00::2
         restart
         svc x/a dual ip fc00::3,10.0.0.2",
        expect![[r#"
            pool a := 0+0 used, 4+4 free
            x/a := [fc00::2 10.0.0.2] from a
            x/a Normal IPAllocated: Assigned IP ["fc00::2" "10.0.0.2"] from pool "a"
            pool a := 1+1 used, 3+3 free
            x/a := [fc00::3 10.0.0.2] from a
            x/a Normal IPAllocated: Assigned additional IP "fc00::3"
        "#]],
    );
}

#[test]
fn a_malformed_request_keeps_what_is_there() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a ip web
         svc x/a
         svc x/a ip 10.0.0.1,10.0.0.2
         svc x/a ip 10.0.0.1 spec-ip 10.0.0.1
         svc x/a spec-ip 10.0.0.1",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a Warning AllocationFailed: Service "x/a" has no address: invalid metallb.io/loadBalancerIPs "web"; hint: correct what is named, or remove it to get any address
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a Warning LoadBalancerFailed: Service "x/a" keeps ["10.0.0.0"]: invalid metallb.io/loadBalancerIPs "10.0.0.1,10.0.0.2": it takes one address, or one of each family
            x/a Warning LoadBalancerFailed: Service "x/a" keeps ["10.0.0.0"]: service can not have both metallb.io/loadBalancerIPs and spec.loadBalancerIP
            x/a := [10.0.0.1] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
        "#]],
    );
}

#[test]
fn cluster_addresses_that_tell_no_family_clear_the_service() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a
         svc x/a cluster-ips None
         svc x/a
         svc x/a policy RequireDualStack
         svc x/a
         svc x/a cluster-ips -",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: its cluster IPs have to be one address, or one of each family, but are None
            x/a Warning noclusterIPsIPFamily: Service "x/a" has no address: its cluster IPs have to be one address, or one of each family, but are None; hint: give it a cluster IP: a headless Service cannot be served
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: it requires dual stack but has not enough cluster IPs: 10.96.0.1
            x/a Warning not enough clusterips: Service "x/a" has no address: it requires dual stack but has not enough cluster IPs: 10.96.0.1; hint: set ipFamilyPolicy to SingleStack, or make the cluster dual-stack
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: it has no cluster IP yet, which would tell the family
            pool a := 0+0 used, 4+0 free
        "#]],
    );
}

/// Whoever shows what keeps a Service from an address asks for it when it changes, though no event says so.
#[test]
fn another_problem_is_news_even_if_no_event_tells_it() {
    let mut cluster = world::Cluster::new(Settings { namespace: "metallb-system".into(), ..Settings::default() });
    let mut news = |line: &str| -> String {
        cluster.step(line);
        let services: Vec<_> = std::iter::from_fn(|| cluster.controller.next_news()).collect();
        let complaint = |service| cluster.controller.complaint(service).map_or("none", |complaint| complaint.reason);
        services.iter().map(|service| format!("{service} {};", complaint(service))).collect()
    };
    let script = "svc x/a cluster-ips -
                  svc x/b
                  svc x/c from a
                  sync
                  config
                  pool a 10.0.0.0/32
                  config
                  svc x/a cluster-ips -
                  svc x/a
                  svc x/c from b
                  svc x/c cluster-ips -
                  delete x/b
                  resign
                  sync";
    let said: String = script.lines().map(str::trim).map(|line| format!("{line}: {}\n", news(line))).collect();
    expect![[r#"
        svc x/a cluster-ips -: 
        svc x/b: 
        svc x/c from a: 
        sync: 
        config: x/a NoClusterIP;x/c NoPools;x/b NoPools;
        pool a 10.0.0.0/32: 
        config: x/c NoAddressInPool;x/b none;
        svc x/a cluster-ips -: 
        svc x/a: x/a NoAddressAvailable;
        svc x/c from b: x/c UnknownPool;
        svc x/c cluster-ips -: x/c NoClusterIP;
        delete x/b: x/a none;
        resign: 
        sync: x/c NoClusterIP;
    "#]]
    .assert_eq(&said);
}

#[test]
fn a_status_that_is_no_assignment_is_cleared_at_the_start() {
    check(
        "svc x/a
         foreign x/a 10.0.0.2,10.0.0.3 of a
         svc x/b
         foreign x/b web
         svc x/c
         foreign x/c 192.0.2.1
         pool a 10.0.0.0/30
         config
         sync",
        expect![[r#"
            x/a := [10.0.0.0] from a
            x/a Warning nolbIPsIPFamily: The status of service "x/a" shows ["10.0.0.2" "10.0.0.3"], which is not one address or one of each family
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/b := [10.0.0.1] from a
            x/b Warning nolbIPsIPFamily: The status of service "x/b" shows ["web"], which is not one address or one of each family
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 2+0 free
            x/c := [10.0.0.2] from a
            x/c Normal ClearAssignment: Service "x/c" can no longer have ["192.0.2.1"]: ["192.0.2.1"] is not allowed in config: 192.0.2.1 is in no pool
            x/c Normal IPAllocated: Assigned IP ["10.0.0.2"] from pool "a"
            pool a := 3+0 used, 1+0 free
        "#]],
    );
}

#[test]
fn who_has_most_claims_first_then_by_name() {
    check(
        "svc x/a v4
         foreign x/a 10.0.0.1 of a
         svc x/b dual
         foreign x/b 10.0.0.1,fc00::1 of a
         svc x/c v4
         foreign x/c 10.0.0.2 of a
         svc x/d v4
         foreign x/d 10.0.0.2 of a
         pool a 10.0.0.0/30 fc00::/126
         sync
         config",
        expect![[r#"
            x/a := [10.0.0.0] from a
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.1"]: can't change sharing key for "x/a": 10.0.0.1 is used by "x/b", and neither has a sharing key
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 3+1 used, 1+3 free
            x/d := [10.0.0.3] from a
            x/d Normal ClearAssignment: Service "x/d" can no longer have ["10.0.0.2"]: can't change sharing key for "x/d": 10.0.0.2 is used by "x/c", and neither has a sharing key
            x/d Normal IPAllocated: Assigned IP ["10.0.0.3"] from pool "a"
            pool a := 4+1 used, 0+3 free
        "#]],
    );
}

#[test]
fn a_wish_at_the_start_never_takes_what_another_has() {
    check(
        "svc x/a ip 10.0.0.1
         foreign x/a 10.0.0.0 of a
         svc x/b
         foreign x/b 10.0.0.1 of a
         pool a 10.0.0.0/30
         config
         sync",
        expect![[r#"
            x/a Warning AllocationFailed: Service "x/a" keeps ["10.0.0.0"]: can't change sharing key for "x/a": 10.0.0.1 is used by "x/b", and neither has a sharing key
            pool a := 2+0 used, 2+0 free
        "#]],
    );
}

#[test]
fn the_longest_waiting_gets_what_is_freed() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/holder
         svc x/z
         svc x/a
         svc x/z label touched=yes
         delete x/holder
         delete x/z",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/holder := [10.0.0.0] from a
            x/holder Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/z Warning AllocationFailed: Service "x/z" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/z := [10.0.0.0] from a
            x/z Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

#[test]
fn a_pool_change_is_offered_to_those_who_wait_for_it() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/a
         svc x/by-address ip 10.0.1.7
         svc x/by-pool from b
         svc x/any
         svc x/v6 v6
         svc y/pinned from c
         pool b 10.0.1.0/29
         pool c 10.0.2.0/32 ns z
         config
         pool c 10.0.2.0/32 ns y
         config
         pool d fc00::/128
         config",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/by-address Warning AllocationFailed: Service "x/by-address" has no address: ["10.0.1.7"] is not allowed in config: 10.0.1.7 is in no pool; hint: ask for an address of a pool, or add it to one
            x/by-pool Warning AllocationFailed: Service "x/by-pool" has no address: unknown pool "b"; hint: create the IPAddressPool, or name another in metallb.io/address-pool
            x/any Warning AllocationFailed: Service "x/any" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/v6 Warning AllocationFailed: Service "x/v6" has no address: no available IPs (pool a: it has no usable IPv6 addresses); hint: add addresses to a pool that accepts the Service, or delete Services
            y/pinned Warning AllocationFailed: Service "y/pinned" has no address: unknown pool "c"; hint: create the IPAddressPool, or name another in metallb.io/address-pool
            x/by-address := [10.0.1.7] from b
            x/by-address Normal IPAllocated: Assigned IP ["10.0.1.7"] from pool "b"
            pool b := 1+0 used, 7+0 free
            pool c := 0+0 used, 1+0 free
            x/by-pool := [10.0.1.0] from b
            x/by-pool Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool b := 2+0 used, 6+0 free
            y/pinned Warning AllocationFailed: Service "y/pinned" has no address: pool c not compatible for ip assignment: it is not for namespace "y"; hint: change serviceAllocation of the pool, or ask for another pool
            x/any := [10.0.1.1] from b
            x/any Normal IPAllocated: Assigned IP ["10.0.1.1"] from pool "b"
            pool b := 3+0 used, 5+0 free
            y/pinned := [10.0.2.0] from c
            y/pinned Normal IPAllocated: Assigned IP ["10.0.2.0"] from pool "c"
            pool c := 1+0 used, 0+0 free
            x/v6 := [fc00::] from d
            x/v6 Normal IPAllocated: Assigned IP ["fc00::"] from pool "d"
            pool d := 0+1 used, 0+0 free
        "#]],
    );
}

#[test]
fn a_pool_that_no_longer_accepts_a_service_is_left() {
    check(
        "pool a 10.0.0.0/30 label app=web
         pool b 10.0.1.0/30
         config
         sync
         svc x/a label app=web
         svc x/a label app=db
         svc x/b label app=web
         pool a 10.0.0.0/30 label app=mail
         config
         svc x/c from a label app=web",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            pool b := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.1.0] from b
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: pool a not compatible for ip assignment: none of its serviceSelectors matches the labels of the Service
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool a := 0+0 used, 4+0 free
            pool b := 1+0 used, 3+0 free
            x/b := [10.0.0.0] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/b := [10.0.1.1] from b
            x/b Normal ClearAssignment: Service "x/b" can no longer have ["10.0.0.0"]: pool a not compatible for ip assignment: none of its serviceSelectors matches the labels of the Service
            x/b Normal IPAllocated: Assigned IP ["10.0.1.1"] from pool "b"
            pool a := 0+0 used, 4+0 free
            pool b := 2+0 used, 2+0 free
            x/c Warning AllocationFailed: Service "x/c" has no address: pool a not compatible for ip assignment: none of its serviceSelectors matches the labels of the Service; hint: change serviceAllocation of the pool, or ask for another pool
        "#]],
    );
}

#[test]
fn a_renamed_pool_changes_the_annotation_alone() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a
         no-pool a
         pool b 10.0.0.0/29
         config",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.0] from b
            pool b := 1+0 used, 7+0 free
        "#]],
    );
}

#[test]
fn an_invalid_configuration_disturbs_nothing() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a
         bad-config
         svc x/b
         why x/a",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/b := [10.0.0.1] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 2+0 free
            Service x/a: has ["10.0.0.0"] from pool a
        "#]],
    );
}

#[test]
fn a_service_created_again_under_its_name_is_another() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a ip 10.0.0.3
         svc x/a new
         delete x/a
         svc x/a",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.3] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.3"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
        "#]],
    );
}

#[test]
fn a_second_address_is_told_to_be_missing_once() {
    check(
        "pool a 10.0.0.0/30 fc00::/128
         config
         sync
         svc x/first dual
         svc x/a prefer-v4 from a
         svc x/a prefer-v4 from a label touched=yes
         why x/a
         delete x/first",
        expect![[r#"
            pool a := 0+0 used, 4+1 free
            x/first := [10.0.0.0 fc00::] from a
            x/first Normal IPAllocated: Assigned IP ["10.0.0.0" "fc00::"] from pool "a"
            pool a := 1+1 used, 3+0 free
            x/a := [10.0.0.1] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            x/a Normal AdditionalAssignFailed: Service "x/a" keeps ["10.0.0.1"]: PreferDualStack, but no available IPs in pool a for IPv6: its only IPv6 address is in use
            pool a := 2+1 used, 2+0 free
            Service x/a: keeps ["10.0.0.1"]: PreferDualStack, but no available IPs in pool a for IPv6: its only IPv6 address is in use
            x/a := [10.0.0.1 fc00::] from a
            x/a Normal IPAllocated: Assigned additional IP "fc00::"
            pool a := 1+1 used, 3+0 free
        "#]],
    );
}

#[test]
fn what_can_stay_stays_when_the_families_change() {
    check(
        "pool a 10.0.0.0/30 fc00::/126
         config
         sync
         svc x/first dual
         svc x/a v4
         svc x/a dual
         delete x/first
         svc x/a v6",
        expect![[r#"
            pool a := 0+0 used, 4+4 free
            x/first := [10.0.0.0 fc00::] from a
            x/first Normal IPAllocated: Assigned IP ["10.0.0.0" "fc00::"] from pool "a"
            pool a := 1+1 used, 3+3 free
            x/a := [10.0.0.1] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+1 used, 2+3 free
            x/a := [10.0.0.1 fc00::1] from a
            x/a Normal IPAllocated: Assigned additional IP "fc00::1"
            pool a := 2+2 used, 2+2 free
            pool a := 1+1 used, 3+3 free
            x/a := [fc00::1] from a
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.1"]: it does not match the ipFamily of the service, IPv6
            pool a := 0+1 used, 4+3 free
        "#]],
    );
}

#[test]
fn d7_what_can_stay_stays_beside_a_wish_that_cannot_be_met() {
    check(
        "pool a 10.0.0.0/30 fc00::/126
         config
         sync
         svc x/a dual
         svc x/a v6 from nowhere
         restart
         svc x/a v4 from nowhere
         svc x/b prefer-v4
         svc x/b prefer-v4 ip 192.0.2.1,fc00::9
         pool a 10.0.0.8/30 fc00::/126
         config
         why x/b",
        expect![[r#"
            pool a := 0+0 used, 4+4 free
            x/a := [10.0.0.0 fc00::] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0" "fc00::"] from pool "a"
            pool a := 1+1 used, 3+3 free
            x/a := [fc00::] from a
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: it does not match the ipFamily of the service, IPv6
            x/a Warning AllocationFailed: Service "x/a" keeps ["fc00::"]: unknown pool "nowhere"
            pool a := 0+1 used, 4+3 free
            x/a Warning AllocationFailed: Service "x/a" keeps ["fc00::"]: unknown pool "nowhere"
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["fc00::"]: it does not match the ipFamily of the service, IPv4
            x/a Warning AllocationFailed: Service "x/a" has no address: unknown pool "nowhere"; hint: create the IPAddressPool, or name another in metallb.io/address-pool
            pool a := 0+0 used, 4+4 free
            x/b := [10.0.0.0 fc00::] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.0" "fc00::"] from pool "a"
            pool a := 1+1 used, 3+3 free
            x/b Warning AllocationFailed: Service "x/b" keeps ["10.0.0.0" "fc00::"]: ["192.0.2.1" "fc00::9"] is not allowed in config: 192.0.2.1 is in no pool
            x/b := [fc00::] from a
            x/b Normal ClearAssignment: Service "x/b" can no longer have ["10.0.0.0"]: ["10.0.0.0" "fc00::"] is not allowed in config: 10.0.0.0 is in no pool
            x/b Warning AllocationFailed: Service "x/b" keeps ["fc00::"]: ["192.0.2.1" "fc00::9"] is not allowed in config: 192.0.2.1 is in no pool
            pool a := 0+1 used, 4+3 free
            Service x/b: keeps ["fc00::"]: ["192.0.2.1" "fc00::9"] is not allowed in config: 192.0.2.1 is in no pool
        "#]],
    );
}

#[test]
fn what_can_stay_of_two_addresses_is_not_given_to_others() {
    check(
        "pool a 10.0.0.0/31 fc00::/127
         config
         sync
         svc x/a v4
         svc x/b prefer-v4
         svc x/c v4
         no-pool a
         pool d 10.0.0.1/32 10.0.0.2/32
         config
         why x/b",
        expect![[r#"
            pool a := 0+0 used, 2+2 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 1+2 free
            x/b := [10.0.0.1 fc00::] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1" "fc00::"] from pool "a"
            pool a := 2+1 used, 0+1 free
            x/c Warning AllocationFailed: Service "x/c" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a := [10.0.0.2] from d
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: ["10.0.0.0"] is not allowed in config: 10.0.0.0 is in no pool
            x/a Normal IPAllocated: Assigned IP ["10.0.0.2"] from pool "d"
            pool d := 2+0 used, 0+0 free
            x/b := [10.0.0.1] from d
            x/b Normal ClearAssignment: Service "x/b" can no longer have ["fc00::"]: ["10.0.0.1" "fc00::"] is not allowed in config: fc00:: is in no pool
            x/b Normal AdditionalAssignFailed: Service "x/b" keeps ["10.0.0.1"]: PreferDualStack, but no available IPs in pool d for IPv6: it has no usable IPv6 addresses
            Service x/b: keeps ["10.0.0.1"]: PreferDualStack, but no available IPs in pool d for IPv6: it has no usable IPv6 addresses
        "#]],
    );
    check(
        "pool d 10.0.0.1/32 10.0.0.2/32
         svc x/a v4
         foreign x/a 10.0.0.0 of a
         svc x/b dual
         foreign x/b 10.0.0.1,fc00:: of a
         svc x/b prefer-v4
         config
         sync",
        expect![[r#"
            x/a := [10.0.0.2] from d
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: ["10.0.0.0"] is not allowed in config: 10.0.0.0 is in no pool
            x/a Normal IPAllocated: Assigned IP ["10.0.0.2"] from pool "d"
            pool d := 2+0 used, 0+0 free
            x/b := [10.0.0.1] from d
            x/b Normal ClearAssignment: Service "x/b" can no longer have ["fc00::"]: ["10.0.0.1" "fc00::"] is not allowed in config: fc00:: is in no pool
            x/b Normal AdditionalAssignFailed: Service "x/b" keeps ["10.0.0.1"]: PreferDualStack, but no available IPs in pool d for IPv6: it has no usable IPv6 addresses
        "#]],
    );
}

#[test]
fn sharers_wait_for_ports_and_for_keys() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/web tcp/80 key k
         svc x/web2 tcp/80 key k
         svc x/dns udp/53 key k
         svc x/alien tcp/443 key other
         svc x/web tcp/81 key k
         delete x/web2
         delete x/dns
         svc x/web tcp/81 key other",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/web := [10.0.0.0] from a
            x/web Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/web2 Warning AllocationFailed: Service "x/web2" has no address: no available IPs (pool a: its only IPv4 address is in use, and none under sharing key "k" has a place); hint: add addresses to a pool that accepts the Service, or delete Services
            x/dns := [10.0.0.0] from a
            x/dns Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            x/alien Warning AllocationFailed: Service "x/alien" has no address: no available IPs (pool a: its only IPv4 address is in use, and none under sharing key "other" has a place); hint: add addresses to a pool that accepts the Service, or delete Services
            x/web2 := [10.0.0.0] from a
            x/web2 Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            x/alien := [10.0.0.0] from a
            x/alien Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

#[test]
fn exhaustion_is_told_once_with_the_pools_tried() {
    check(
        "pool a 10.0.0.0/32
         pool b 10.0.1.0/32 ns y
         pool c fc00::/126
         pool d 10.0.2.0/32 no-auto
         pool e 10.0.3.0/32 priority 1
         pool f fc00:1::/126
         pool g fc00:2::/126
         pool h fc00:3::/126
         config
         sync
         svc x/a
         svc x/b
         svc x/b label touched=yes
         why x/b",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            pool b := 0+0 used, 1+0 free
            pool c := 0+0 used, 0+4 free
            pool d := 0+0 used, 1+0 free
            pool e := 0+0 used, 1+0 free
            pool f := 0+0 used, 0+4 free
            pool g := 0+0 used, 0+4 free
            pool h := 0+0 used, 0+4 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool e: its serviceAllocation names no namespace and no Service, so it has to be asked for; pool b: it is not for namespace "x"; pool a: its only IPv4 address is in use; pool c: it has no usable IPv4 addresses; pool d: its autoAssign is off; pool f: it has no usable IPv4 addresses; and 2 more); hint: add addresses to a pool that accepts the Service, or delete Services
            Service x/b: has no address: no available IPs
              pool e: its serviceAllocation names no namespace and no Service, so it has to be asked for
              pool b: it is not for namespace "x"
              pool a: its only IPv4 address is in use
              pool c: it has no usable IPv4 addresses
              pool d: its autoAssign is off
              pool f: it has no usable IPv4 addresses
              pool g: it has no usable IPv4 addresses
              pool h: it has no usable IPv4 addresses
        "#]],
    );
}

#[test]
fn a_place_beside_someone_who_took_the_last_address_is_offered() {
    check(
        "pool c 10.0.0.0/31 label app=web
         config
         sync
         svc x/sharer key k udp/53
         svc x/first label app=web
         svc x/last ip 10.0.0.1 key k tcp/80
         pool c 10.0.0.0/31
         config",
        expect![[r#"
            pool c := 0+0 used, 2+0 free
            x/sharer Warning AllocationFailed: Service "x/sharer" has no address: no available IPs (pool c: none of its serviceSelectors matches the labels of the Service); hint: add addresses to a pool that accepts the Service, or delete Services
            x/first := [10.0.0.0] from c
            x/first Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "c"
            pool c := 1+0 used, 1+0 free
            x/last Warning AllocationFailed: Service "x/last" has no address: pool c not compatible for ip assignment: none of its serviceSelectors matches the labels of the Service; hint: change serviceAllocation of the pool, or ask for another pool
            x/last := [10.0.0.1] from c
            x/last Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "c"
            pool c := 2+0 used, 0+0 free
            x/sharer := [10.0.0.1] from c
            x/sharer Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "c"
        "#]],
    );
}

#[test]
fn ports_given_up_together_with_the_address_are_offered() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/web tcp/80 key k
         svc x/dns udp/53 key k
         svc x/waits tcp/80 key k
         svc x/web v6 key k",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/web := [10.0.0.0] from a
            x/web Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/dns := [10.0.0.0] from a
            x/dns Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            x/waits Warning AllocationFailed: Service "x/waits" has no address: no available IPs (pool a: its only IPv4 address is in use, and none under sharing key "k" has a place); hint: add addresses to a pool that accepts the Service, or delete Services
            x/web := []
            x/web Normal ClearAssignment: Service "x/web" can no longer have ["10.0.0.0"]: it does not match the ipFamily of the service, IPv6
            x/web Warning AllocationFailed: Service "x/web" has no address: no available IPs (pool a: it has no usable IPv6 addresses); hint: add addresses to a pool that accepts the Service, or delete Services
            x/waits := [10.0.0.0] from a
            x/waits Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

#[test]
fn a_pool_that_accepts_more_offers_its_shared_addresses_too() {
    check(
        "pool a 10.0.0.0/32 label app=web
         config
         sync
         svc x/web tcp/80 key k label app=web
         svc x/dns udp/53 key k
         pool a 10.0.0.0/32
         config",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/web := [10.0.0.0] from a
            x/web Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/dns Warning AllocationFailed: Service "x/dns" has no address: no available IPs (pool a: none of its serviceSelectors matches the labels of the Service); hint: add addresses to a pool that accepts the Service, or delete Services
            x/dns := [10.0.0.0] from a
            x/dns Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

#[test]
fn a_pool_created_again_under_its_name_gets_its_status() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         no-pool a
         pool a 10.0.0.0/32",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            pool a := 0+0 used, 1+0 free
        "#]],
    );
}

#[test]
fn a_dual_stack_sharer_gets_a_seat_of_one_family_with_a_free_address_of_the_other() {
    check(
        "pool a 10.0.0.0/32 fc00::/128
         config
         sync
         svc x/web v4 tcp/80 key k
         svc x/six v6 tcp/80
         svc x/both dual udp/53 key k
         svc x/alone dual tcp/25
         delete x/six",
        expect![[r#"
            pool a := 0+0 used, 1+1 free
            x/web := [10.0.0.0] from a
            x/web Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+1 free
            x/six := [fc00::] from a
            x/six Normal IPAllocated: Assigned IP ["fc00::"] from pool "a"
            pool a := 1+1 used, 0+0 free
            x/both Warning AllocationFailed: Service "x/both" has no address: no available IPs (pool a: its only IPv6 address is in use, and none under sharing key "k" has a place); hint: add addresses to a pool that accepts the Service, or delete Services
            x/alone Warning AllocationFailed: Service "x/alone" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/both := [10.0.0.0 fc00::] from a
            x/both Normal IPAllocated: Assigned IP ["10.0.0.0" "fc00::"] from pool "a"
        "#]],
    );
}

#[test]
fn those_who_have_nothing_are_counted_until_they_have() {
    let mut cluster = world::Cluster::new(Settings::default());
    let mut counts = Vec::new();
    for line in [
        "pool a 10.0.0.0/32",
        "config",
        "svc x/a",
        "sync",
        "svc x/b",
        "svc x/c type ClusterIP",
        // One of two is not nothing.
        "svc x/a prefer-v4",
        "svc x/d ip web",
        "delete x/a",
        "delete x/d",
    ] {
        cluster.step(line);
        counts.push(cluster.controller.unassigned());
    }
    assert_eq!(counts, [0, 0, 0, 0, 1, 1, 1, 2, 1, 0]);
}
