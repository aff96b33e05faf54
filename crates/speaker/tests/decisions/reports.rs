//! What is shown in ServiceL2Status and ServiceBGPStatus (contract 1.9).

use expect_test::{Expect, expect};

use crate::scenario::play_reports;

fn check(script: &str, expect: Expect) {
    expect.assert_eq(&play_reports(script));
}

#[test]
fn contract_1_9_interfaces_are_shown_where_they_are_restricted_and_as_far_as_they_exist() {
    check(
        "pool p 10.0.0.0/24
         l2 p adv
         node n1
         interfaces eth0 eth1
         configure
         svc web 10.0.0.1
         eps web n1:ready
         synced
         l2 p adv interfaces=eth0,eth9
         configure
         interfaces eth0 eth1 eth9
         interfaces eth1
         interfaces eth0
         delete svc web",
        expect![[r#"
            > synced
            show layer2 web []
            > configure
            show layer2 web ["eth0"]
            > interfaces eth0 eth1 eth9
            show layer2 web ["eth0", "eth9"]
            > interfaces eth1
            show no layer2 web []
            > interfaces eth0
            show layer2 web ["eth0"]
            > delete svc web
            show no layer2 web []
        "#]],
    );
}

#[test]
fn contract_1_9_peers_are_those_with_a_session_here_that_get_a_route_of_the_service() {
    check(
        "pool p 10.0.0.0/24
         bgp p adv
         peer r1 192.0.2.1
         peer r2 192.0.2.2
         peer r6 2001:db8::1
         node n1
         configure
         svc web 10.0.0.1
         eps web n1:ready
         synced
         bgp p adv peers=r2,gone
         configure
         forget peer r2
         configure
         peer r2 192.0.2.3
         configure
         eps web n1:notready",
        expect![[r#"
            > synced
            show bgp web ["r1", "r2"]
            > configure
            show bgp web ["r2"]
            > configure
            show no bgp web []
            > configure
            show bgp web ["r2"]
            > eps web n1:notready
            show no bgp web []
        "#]],
    );
}

#[test]
fn contract_6_2_services_under_one_aggregate_see_each_others_peers() {
    check(
        "pool p 10.0.0.0/24
         bgp p all length=24 services=app=web peers=r1
         bgp p one length=24 services=app=db peers=r2
         peer r1 192.0.2.1
         peer r2 192.0.2.2
         node n1
         configure
         svc web 10.0.0.1 app=web
         eps web n1:ready
         synced
         eps db n1:ready
         svc db 10.0.0.2 app=db
         delete svc db",
        expect![[r#"
            > synced
            show bgp web ["r1"]
            > svc db 10.0.0.2 app=db
            show bgp db ["r1", "r2"]
            show bgp web ["r1", "r2"]
            > delete svc db
            show no bgp db []
            show bgp web ["r1"]
        "#]],
    );
}
