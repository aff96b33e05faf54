//! What is written where other writers write too: D8, D16, load balancer classes, restored statuses, deprecated
//! annotations.

use controller::Settings;
use expect_test::{Expect, expect};
use kit::Duration;

use crate::world;

fn check(scenario: &str, expected: Expect) {
    expected.assert_eq(&world::run(scenario));
}

fn check_with_class(scenario: &str, expected: Expect) {
    let settings = Settings {
        namespace: "metallb-system".into(),
        load_balancer_class: Some("ours".into()),
        pool_status_pace: Duration::ZERO,
    };
    expected.assert_eq(&world::run_with(settings, scenario));
}

#[test]
fn d8_modes_and_names_of_others_are_left_alone_and_cause_no_write() {
    check(
        "pool a 10.0.0.0/30 fc00::/126
         config
         sync
         svc x/a
         svc x/a ip-mode
         svc x/a ip-mode hostname lb.example
         svc x/a prefer-v4 ip-mode
         svc x/a v6 ip-mode",
        expect![[r#"
            pool a := 0+0 used, 4+4 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+4 free
            x/a := [10.0.0.0(VIP) fc00:: lb.example(VIP)] from a
            x/a Normal IPAllocated: Assigned additional IP "fc00::"
            pool a := 1+1 used, 3+3 free
            x/a := [fc00::(VIP) lb.example(VIP)] from a
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: it does not match the ipFamily of the service, IPv6
            pool a := 0+1 used, 4+3 free
        "#]],
    );
}

#[test]
fn d16_a_service_that_stops_being_ours_is_released_and_cleaned() {
    check_with_class(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a class ours
         svc x/b class ours
         svc x/a type ClusterIP
         svc x/b class other
         svc x/c class ours",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/b := [10.0.0.1] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 2+0 free
            x/a := []
            pool a := 1+0 used, 3+0 free
            x/b := []
            pool a := 0+0 used, 4+0 free
            x/c := [10.0.0.0] from a
            x/c Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
        "#]],
    );
}

#[test]
fn d16_after_a_restart_our_annotation_tells_what_was_ours() {
    check_with_class(
        "svc x/a type ClusterIP
         foreign x/a 10.0.0.0 of a
         svc x/b type ClusterIP
         foreign x/b 10.0.0.1
         pool a 10.0.0.0/30
         config
         sync",
        expect![[r#"
            x/a := []
            pool a := 0+0 used, 4+0 free
        "#]],
    );
}

#[test]
fn a_service_of_another_class_is_never_touched() {
    check(
        "svc x/a class other
         foreign x/a 10.0.0.0 of theirs
         pool a 10.0.0.0/30
         config
         sync
         svc x/a class other label touched=yes
         why x/a",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            not served
        "#]],
    );
    check_with_class(
        "svc x/a
         foreign x/a 10.0.0.0 of theirs
         pool a 10.0.0.0/30
         config
         sync
         svc x/a label touched=yes",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
        "#]],
    );
}

#[test]
fn a_service_that_another_class_took_over_keeps_what_that_one_wrote() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a
         hold
         svc x/a class other
         foreign x/a 192.0.2.1
         relist
         svc x/b",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            pool a := 0+0 used, 4+0 free
            x/b := [10.0.0.0] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
        "#]],
    );
}

#[test]
fn without_a_class_filter_a_status_on_another_type_is_cleared() {
    check(
        "svc x/a type NodePort
         foreign x/a 10.0.0.0
         svc x/b type ClusterIP hostname lb.example
         pool a 10.0.0.0/30
         config
         sync",
        expect![[r#"
            x/a := []
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["10.0.0.0"] from no pool; it is set back to no address. Another load balancer may be serving it too
            pool a := 0+0 used, 4+0 free
        "#]],
    );
}

#[test]
fn a_foreign_status_is_set_back_with_growing_pauses_and_told_once() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a
         foreign x/a 192.0.2.1
         foreign x/a 192.0.2.1
         +1s
         foreign x/a 192.0.2.1
         +1s
         +1s
         foreign x/a 192.0.2.1
         foreign x/a 192.0.2.2
         +3s
         +1s
         +600s
         foreign x/a 192.0.2.1",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["192.0.2.1"] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["192.0.2.2"] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["192.0.2.1"] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
        "#]],
    );
}

/// k3s's servicelb, say, or a second MetalLB.
#[test]
fn who_insists_is_named_and_left_alone() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a
         foreign x/a 192.0.2.1 by k3s
         foreign x/a 192.0.2.1 by k3s
         +1s
         foreign x/a 192.0.2.1 by k3s
         +2s
         foreign x/a 192.0.2.1 by k3s
         +4s
         foreign x/a 192.0.2.1 by k3s
         +8s
         foreign x/a 192.0.2.1 by k3s
         +16s
         why x/a
         foreign x/a 192.0.2.1 by k3s
         +500s
         config
         +100s
         foreign x/a 192.0.2.1 by k3s
         foreign x/a 192.0.2.2 by k3s
         +16s
         +500s
         +100s
         +3600s
         foreign x/a 192.0.2.1 by k3s
         +1s",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: "k3s" set the status of service "x/a" to ["192.0.2.1"] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: "k3s" keeps setting the status of service "x/a" to ["192.0.2.1"] from no pool; it is left alone now, though it should be ["10.0.0.0"] from pool "a". Two load balancers serve this service: end one of them (of k3s: --disable=servicelb), or keep them apart by spec.loadBalancerClass
            Service x/a: has ["10.0.0.0"] from pool a
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: "k3s" set the status of service "x/a" to ["192.0.2.1"] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
        "#]],
    );
}

/// Nobody else has an address meanwhile, so trying again disturbs nobody.
#[test]
fn who_clears_again_and_again_is_left_alone_for_a_while() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/a
         foreign x/a - by cleaner
         +1s
         foreign x/a - by cleaner
         +2s
         foreign x/a - by cleaner
         +4s
         foreign x/a - by cleaner
         +8s
         foreign x/a - by cleaner
         +16s
         foreign x/a - by cleaner
         foreign x/a - by cleaner
         +16s
         +500s
         +100s",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: "cleaner" set the status of service "x/a" to [] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: "cleaner" keeps setting the status of service "x/a" to [] from no pool; it is left alone now, though it should be ["10.0.0.0"] from pool "a". Two load balancers serve this service: end one of them (of k3s: --disable=servicelb), or keep them apart by spec.loadBalancerClass
            x/a := [10.0.0.0] from a
        "#]],
    );
}

/// The address was kept for it all the time.
#[test]
fn who_ends_is_followed_at_once() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/a
         foreign x/a 192.0.2.1 by k3s
         +1s
         foreign x/a 192.0.2.1 by k3s
         +2s
         foreign x/a 192.0.2.1 by k3s
         +4s
         foreign x/a 192.0.2.1 by k3s
         +8s
         foreign x/a 192.0.2.1 by k3s
         +16s
         foreign x/a 192.0.2.1 by k3s
         svc x/b
         foreign x/a -
         +1s
         delete x/a",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: "k3s" set the status of service "x/a" to ["192.0.2.1"] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: "k3s" keeps setting the status of service "x/a" to ["192.0.2.1"] from no pool; it is left alone now, though it should be ["10.0.0.0"] from pool "a". Two load balancers serve this service: end one of them (of k3s: --disable=servicelb), or keep them apart by spec.loadBalancerClass
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to [] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/b := [10.0.0.0] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

#[test]
fn a_foreign_status_on_a_waiting_service_is_cleared_with_growing_pauses() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/a
         svc x/b
         foreign x/b 192.0.2.1
         foreign x/b 192.0.2.1
         +1s
         delete x/a",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/b := []
            x/b Warning StatusOverwritten: Something else set the status of service "x/b" to ["192.0.2.1"] from no pool; it is set back to no address. Another load balancer may be serving it too
            x/b := []
            x/b := [10.0.0.0] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

#[test]
fn an_old_status_that_arrives_late_is_not_foreign() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/a
         hold
         no-pool a
         config
         pool b 10.0.1.0/32
         config
         pool c 10.0.2.0/32
         no-pool b
         config
         release
         +600s",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: no available IPs: no IPAddressPool is configured
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs: no IPAddressPool is configured; hint: create an IPAddressPool
            x/a := [10.0.1.0] from b
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool b := 1+0 used, 0+0 free
            x/a := [10.0.2.0] from c
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.1.0"]: ["10.0.1.0"] is not allowed in config: 10.0.1.0 is in no pool
            x/a Normal IPAllocated: Assigned IP ["10.0.2.0"] from pool "c"
            pool c := 1+0 used, 0+0 free
        "#]],
    );
}

#[test]
fn a_removed_annotation_is_restored() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/a
         foreign x/a 10.0.0.0
         foreign x/a 10.0.0.0 of b
         +1s",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["10.0.0.0"] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["10.0.0.0"] from pool "b"; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/a := [10.0.0.0] from a
        "#]],
    );
}

#[test]
fn deprecated_annotations_are_told_when_the_service_changes() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a annotation metallb.universe.tf/address-pool=a
         svc x/a annotation metallb.universe.tf/address-pool=a label touched=yes
         svc x/a annotation metallb.universe.tf/loadBalancerIPs=10.0.0.3
         svc x/b annotation metallb.universe.tf/whatever=1 from nowhere",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            x/a Warning deprecatedAnnotation: The annotation "metallb.universe.tf/address-pool" is deprecated; use "metallb.io/address-pool"
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.3] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.3"] from pool "a"
            x/a Warning deprecatedAnnotation: The annotation "metallb.universe.tf/loadBalancerIPs" is deprecated; use "metallb.io/loadBalancerIPs"
            x/b Warning AllocationFailed: Service "x/b" has no address: unknown pool "nowhere"; hint: create the IPAddressPool, or name another in metallb.io/address-pool
        "#]],
    );
}

#[test]
fn a_pool_status_that_somebody_edits_again_and_again_is_restored_with_pauses() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         pool-status a 9 9 9 9
         +1s
         pool-status a 9 9 9 9
         +1s
         pool-status a 9 9 9 9
         +1s
         +1s
         restart",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            pool a := 0+0 used, 1+0 free
            pool a := 0+0 used, 1+0 free
            pool a := 0+0 used, 1+0 free
        "#]],
    );
}

/// Found by the simulator: the status from before the first write was taken for the second one, and so the first one,
/// when it came, for somebody else's.
#[test]
fn a_status_that_is_right_again_is_not_taken_for_foreign_when_it_passes_by() {
    check(
        "config
         sync
         svc x/a
         hold
         svc x/a label touched=yes
         pool a 10.0.0.0/30
         config
         no-pool a
         config
         release
         +1s
         foreign x/a 10.0.0.0 of a
         +58s
         +1s",
        expect![[r#"
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs: no IPAddressPool is configured; hint: create an IPAddressPool
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: no available IPs: no IPAddressPool is configured
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs: no IPAddressPool is configured; hint: create an IPAddressPool
            x/a := []
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["10.0.0.0"] from pool "a"; it is set back to no address. Another load balancer may be serving it too
        "#]],
    );
}

/// Found by the simulator: the Service was forgotten when its status was right, so its own address, when that passed by,
/// was cleared once more.
#[test]
fn a_service_that_gets_nothing_is_remembered_until_its_writes_have_passed_by() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a from b
         hold
         svc x/a type ClusterIP
         svc x/a type ClusterIP label touched=yes
         pool b 10.0.0.8/30
         config
         release
         +100s
         why x/a",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a Warning AllocationFailed: Service "x/a" has no address: unknown pool "b"; hint: create the IPAddressPool, or name another in metallb.io/address-pool
            x/a := [10.0.0.8] from b
            x/a Normal IPAllocated: Assigned IP ["10.0.0.8"] from pool "b"
            pool b := 1+0 used, 3+0 free
            x/a := []
            pool b := 0+0 used, 4+0 free
            not served
        "#]],
    );
}

/// Found by the simulator: behind a slow API server the counters were written again each second.
#[test]
fn a_pool_status_that_is_slow_to_arrive_is_waited_for() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         hold-pools
         svc x/a
         svc x/b
         delete x/b
         +5s
         release
         +100s
         pool-status a 2 0 2 0
         +1s",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/b := [10.0.0.1] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 2+0 free
            pool a := 1+0 used, 3+0 free
            pool a := 1+0 used, 3+0 free
        "#]],
    );
}

/// Found by the simulator: of more than eight writes in a minute the newest ones were not remembered.
#[test]
fn the_newest_of_many_pool_statuses_are_waited_for() {
    check(
        "pool a 10.0.0.0/28
         config
         sync
         svc x/a
         svc x/b
         svc x/c
         svc x/d
         svc x/e
         svc x/f
         svc x/g
         svc x/h
         svc x/i
         svc x/j
         pool-status a 8 0 8 0
         +30s
         pool-status a 10 0 6 0
         +60s
         pool-status a 9 0 7 0
         +1s",
        expect![[r#"
            pool a := 0+0 used, 16+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 15+0 free
            x/b := [10.0.0.1] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 14+0 free
            x/c := [10.0.0.2] from a
            x/c Normal IPAllocated: Assigned IP ["10.0.0.2"] from pool "a"
            pool a := 3+0 used, 13+0 free
            x/d := [10.0.0.3] from a
            x/d Normal IPAllocated: Assigned IP ["10.0.0.3"] from pool "a"
            pool a := 4+0 used, 12+0 free
            x/e := [10.0.0.4] from a
            x/e Normal IPAllocated: Assigned IP ["10.0.0.4"] from pool "a"
            pool a := 5+0 used, 11+0 free
            x/f := [10.0.0.5] from a
            x/f Normal IPAllocated: Assigned IP ["10.0.0.5"] from pool "a"
            pool a := 6+0 used, 10+0 free
            x/g := [10.0.0.6] from a
            x/g Normal IPAllocated: Assigned IP ["10.0.0.6"] from pool "a"
            pool a := 7+0 used, 9+0 free
            x/h := [10.0.0.7] from a
            x/h Normal IPAllocated: Assigned IP ["10.0.0.7"] from pool "a"
            pool a := 8+0 used, 8+0 free
            x/i := [10.0.0.8] from a
            x/i Normal IPAllocated: Assigned IP ["10.0.0.8"] from pool "a"
            pool a := 9+0 used, 7+0 free
            x/j := [10.0.0.9] from a
            x/j Normal IPAllocated: Assigned IP ["10.0.0.9"] from pool "a"
            pool a := 10+0 used, 6+0 free
            pool a := 10+0 used, 6+0 free
        "#]],
    );
}

/// Found by the simulator: what was written before a pool was made anew was not remembered.
#[test]
fn a_pool_status_that_reaches_another_pool_of_its_name_is_waited_for() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a
         svc x/b
         no-pool a
         delete x/b
         pool a 10.0.0.0/30
         pool-status a 2 0 2 0
         +30s
         pool-status a 1 0 3 0
         +60s
         pool-status a 2 0 2 0
         +1s
         no-pool a
         config
         +100s",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/b := [10.0.0.1] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 2+0 free
            pool a := 1+0 used, 3+0 free
            pool a := 1+0 used, 3+0 free
            pool a := 1+0 used, 3+0 free
            x/a := []
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: no available IPs: no IPAddressPool is configured
            x/a Warning AllocationFailed: Service "x/a" has no address: no available IPs: no IPAddressPool is configured; hint: create an IPAddressPool
        "#]],
    );
}

/// Found by the simulator: it was waited for up to a minute, although it had been written to nobody.
#[test]
fn a_pool_that_is_made_anew_gets_its_counters_at_once() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         no-pool a
         svc x/a
         +5s
         pool a 10.0.0.0/30",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            pool a := 1+0 used, 3+0 free
        "#]],
    );
}

/// Found by the simulator: it may have arrived and been overwritten while nobody watched.
#[test]
fn a_pool_status_that_is_not_seen_to_arrive_is_repeated() {
    check(
        "pool a 10.0.0.0/32
         config
         deaf
         sync
         +59s
         hear
         +1s
         +1000s",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            pool a := 0+0 used, 1+0 free
        "#]],
    );
}

/// Found by the simulator: or it would be repeated for ever.
#[test]
fn the_status_of_a_pool_that_is_gone_but_in_force_is_not_repeated() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         no-pool a
         svc x/a
         +1000s",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
        "#]],
    );
}

#[test]
fn what_is_in_the_way_of_ports_is_told_by_name() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/web tcp/80 tcp/443 key k
         svc x/other tcp/443 key k ip 10.0.0.0
         svc x/alone tcp/22 ip 10.0.0.0
         svc x/key tcp/22 key z ip 10.0.0.0
         svc x/local tcp/22 key k local app=web ip 10.0.0.0
         svc x/v6 v6 ip 10.0.0.0
         svc x/dual dual ip 10.0.0.0
         why x/other
         delete x/web",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/web := [10.0.0.0] from a
            x/web Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/other Warning AllocationFailed: Service "x/other" has no address: port TCP/443 is already in use on "10.0.0.0" by "x/web"; hint: use another port, or ask for another address
            x/alone Warning AllocationFailed: Service "x/alone" has no address: can't change sharing key for "x/alone": 10.0.0.0 is used by "x/web", and this Service has no sharing key; hint: ask for another address, or give both Services the same metallb.io/allow-shared-ip, policy and backends
            x/key Warning AllocationFailed: Service "x/key" has no address: can't change sharing key for "x/key": 10.0.0.0 is used by "x/web", which has sharing key "k" while this Service has "z"; hint: ask for another address, or give both Services the same metallb.io/allow-shared-ip, policy and backends
            x/local Warning AllocationFailed: Service "x/local" has no address: can't change sharing key for "x/local": 10.0.0.0 is used by "x/web", which has externalTrafficPolicy Cluster while this Service has externalTrafficPolicy Local with selector "app=web"; hint: ask for another address, or give both Services the same metallb.io/allow-shared-ip, policy and backends
            x/v6 Warning AllocationFailed: Service "x/v6" has no address: requested loadBalancer IP(s) ["10.0.0.0"] does not match the ipFamily of the service, IPv6; hint: ask for addresses of the families that its cluster IPs have
            x/dual Warning AllocationFailed: Service "x/dual" has no address: requested loadBalancer IP(s) ["10.0.0.0"] does not match the ipFamily of the service, dual-stack; hint: ask for addresses of the families that its cluster IPs have
            Service x/other: has no address: port TCP/443 is already in use on "10.0.0.0" by "x/web"
            x/other := [10.0.0.0] from a
            x/other Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            x/alone Warning AllocationFailed: Service "x/alone" has no address: can't change sharing key for "x/alone": 10.0.0.0 is used by "x/other", and this Service has no sharing key; hint: ask for another address, or give both Services the same metallb.io/allow-shared-ip, policy and backends
            x/key Warning AllocationFailed: Service "x/key" has no address: can't change sharing key for "x/key": 10.0.0.0 is used by "x/other", which has sharing key "k" while this Service has "z"; hint: ask for another address, or give both Services the same metallb.io/allow-shared-ip, policy and backends
            x/local Warning AllocationFailed: Service "x/local" has no address: can't change sharing key for "x/local": 10.0.0.0 is used by "x/other", which has externalTrafficPolicy Cluster while this Service has externalTrafficPolicy Local with selector "app=web"; hint: ask for another address, or give both Services the same metallb.io/allow-shared-ip, policy and backends
        "#]],
    );
}

#[test]
fn a_write_that_is_lost_is_repeated_quietly_with_growing_pauses() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         deaf
         svc x/a
         +59s
         +1s
         svc x/a label touched=yes
         +119s
         +1s
         hear
         +240s
         +1000s",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.0] from a
            pool a := 1+0 used, 3+0 free
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.0] from a
            pool a := 1+0 used, 3+0 free
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.0] from a
        "#]],
    );
}

#[test]
fn a_status_that_returns_unseen_is_found_after_a_while() {
    check(
        "svc x/a
         foreign x/a 192.0.2.1
         pool a 10.0.0.0/30
         config
         hold
         sync
         foreign x/a 192.0.2.1
         relist
         +60s
         +1000s",
        expect![[r#"
            x/a := [10.0.0.0] from a
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["192.0.2.1"]: ["192.0.2.1"] is not allowed in config: 192.0.2.1 is in no pool
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.0] from a
        "#]],
    );
}

#[test]
fn a_status_on_another_type_that_returns_is_cleared_with_pauses() {
    check(
        "svc x/a type NodePort
         foreign x/a 10.0.0.0
         pool a 10.0.0.0/30
         config
         sync
         foreign x/a 10.0.0.0
         foreign x/a 10.0.0.0
         +1s
         foreign x/a 10.0.0.0
         +2s
         +700s
         foreign x/a 10.0.0.0
         why x/a
         delete x/a",
        expect![[r#"
            x/a := []
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["10.0.0.0"] from no pool; it is set back to no address. Another load balancer may be serving it too
            pool a := 0+0 used, 4+0 free
            x/a := []
            x/a := []
            x/a := []
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["10.0.0.0"] from no pool; it is set back to no address. Another load balancer may be serving it too
            Service x/a: it is not served by this controller
        "#]],
    );
}

#[test]
fn being_told_again_that_all_is_known_changes_nothing() {
    check(
        "pool a 10.0.0.0/31
         pool b 10.0.1.0/31
         config
         sync
         svc x/a
         hold
         no-pool a
         config
         sync
         release",
        expect![[r#"
            pool a := 0+0 used, 2+0 free
            pool b := 0+0 used, 2+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 1+0 free
            x/a := [10.0.1.0] from b
            x/a Normal ClearAssignment: Service "x/a" can no longer have ["10.0.0.0"]: ["10.0.0.0"] is not allowed in config: 10.0.0.0 is in no pool
            x/a Normal IPAllocated: Assigned IP ["10.0.1.0"] from pool "b"
            pool b := 1+0 used, 1+0 free
        "#]],
    );
}

#[test]
fn d16_a_service_that_stops_being_ours_in_a_contest_is_released_too() {
    check(
        "pool a 10.0.0.0/32
         config
         sync
         svc x/a
         svc x/b
         foreign x/a 192.0.2.1
         foreign x/a -
         svc x/a type ClusterIP",
        expect![[r#"
            pool a := 0+0 used, 1+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 0+0 free
            x/b Warning AllocationFailed: Service "x/b" has no address: no available IPs (pool a: its only IPv4 address is in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/a := [10.0.0.0] from a
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to ["192.0.2.1"] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/a Warning StatusOverwritten: Something else set the status of service "x/a" to [] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
            x/b := [10.0.0.0] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

/// Found by the simulator: the address that the late write shows may be another Service's by then.
#[test]
fn what_is_shown_is_written_again_while_a_write_that_is_no_longer_meant_is_on_its_way() {
    check(
        "pool a 10.0.0.0/30
         config
         sync
         svc x/a v4
         deaf
         svc x/a v4 ip 10.0.0.2
         hear
         svc x/a v4 ip 10.0.0.0",
        expect![[r#"
            pool a := 0+0 used, 4+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 3+0 free
            x/a := [10.0.0.2] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.2"] from pool "a"
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
        "#]],
    );
}

#[test]
fn counters_are_written_at_their_pace() {
    let settings = Settings {
        namespace: "metallb-system".into(),
        load_balancer_class: None,
        pool_status_pace: Duration::from_secs(1),
    };
    let scenario = "
        pool p 10.0.0.0/28
        config
        sync
        svc x/a
        svc x/b
        svc x/c
        +1s
        delete x/a
        svc x/a
        +2s
        svc x/d";
    expect![[r#"
        pool p := 0+0 used, 16+0 free
        x/a := [10.0.0.0] from p
        x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "p"
        x/b := [10.0.0.1] from p
        x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "p"
        x/c := [10.0.0.2] from p
        x/c Normal IPAllocated: Assigned IP ["10.0.0.2"] from pool "p"
        pool p := 3+0 used, 13+0 free
        x/a := [10.0.0.0] from p
        x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "p"
        x/d := [10.0.0.3] from p
        x/d Normal IPAllocated: Assigned IP ["10.0.0.3"] from pool "p"
        pool p := 4+0 used, 12+0 free
    "#]]
    .assert_eq(&world::run_with(settings, scenario));
}

/// What it decided is forgotten; what the cluster shows when it decides again is what counts.
#[test]
fn who_resigns_decides_nothing_until_it_is_told_again() {
    check(
        "pool a 10.0.0.0/31
         config
         sync
         svc x/a
         svc x/b ip 10.0.0.1
         svc x/c
         resign
         foreign x/a 10.0.0.1 of a
         foreign x/b - of a
         delete x/b
         svc x/d
         pool-status a 2 0 0 0
         +600s
         sync
         foreign x/c 192.0.2.1",
        expect![[r#"
            pool a := 0+0 used, 2+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 1+0 free
            x/b := [10.0.0.1] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 0+0 free
            x/c Warning AllocationFailed: Service "x/c" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/c := [10.0.0.0] from a
            x/c Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            x/d Warning AllocationFailed: Service "x/d" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/c := [10.0.0.0] from a
            x/c Warning StatusOverwritten: Something else set the status of service "x/c" to ["192.0.2.1"] from no pool; it is set back to ["10.0.0.0"] from pool "a". Another load balancer may be serving it too
        "#]],
    );
}

#[test]
fn who_resigns_and_is_told_again_changes_nothing() {
    check(
        "pool a 10.0.0.0/31
         config
         sync
         svc x/a
         svc x/b
         svc x/c
         resign
         config
         sync
         resign
         sync",
        expect![[r#"
            pool a := 0+0 used, 2+0 free
            x/a := [10.0.0.0] from a
            x/a Normal IPAllocated: Assigned IP ["10.0.0.0"] from pool "a"
            pool a := 1+0 used, 1+0 free
            x/b := [10.0.0.1] from a
            x/b Normal IPAllocated: Assigned IP ["10.0.0.1"] from pool "a"
            pool a := 2+0 used, 0+0 free
            x/c Warning AllocationFailed: Service "x/c" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/c Warning AllocationFailed: Service "x/c" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
            x/c Warning AllocationFailed: Service "x/c" has no address: no available IPs (pool a: all 2 of its IPv4 addresses are in use); hint: add addresses to a pool that accepts the Service, or delete Services
        "#]],
    );
}
