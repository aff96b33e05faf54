//! The real program against a real Kubernetes API: kube-apiserver with etcd, kube-proxy on the nodes, FRR as the router.
//!
//! Each trial has a cluster of its own (`site.rs`). Controller and speakers always run with the rights of their service
//! accounts and no others, and each trial ends with a look at the audit log: nothing was denied.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    clippy::print_stderr,
    clippy::unused_self,
    clippy::unwrap_used,
    reason = "a test may panic, tells what it measured, and speaks of a site even where it does not look into it"
)]

mod changeover;
mod chart;
mod conditions;
mod definitions;
mod lease;
mod manifest;
mod metrics;
mod oddities;
mod outages;
mod remembering;
mod reports;
mod restarts;
mod rights;
mod secrets;
mod services;
mod site;
mod spreading;
mod start;
mod traffic;
mod webhooks;
mod writes;

use std::process::ExitCode;

use lab::kubernetes::ProxyMode;
use lab::testing::Trial;

fn main() -> ExitCode {
    // The longest first, so that none of them is alone at the end.
    lab::testing::main([
        Trial::new("an_allocation_is_one_write_and_heartbeats_are_none", writes::writes),
        Trial::new("a_killed_api_server_costs_no_request", outages::kill),
        Trial::new("a_frozen_api_server_costs_no_request", outages::freeze),
        Trial::new("a_partition_from_the_api_server_costs_no_request", outages::partition),
        Trial::new("contract_5_2_a_node_dies_while_there_is_no_api_server", outages::death),
        Trial::new("speakers_that_start_without_the_api_server_announce_what_they_knew", remembering::remembering),
        Trial::new("restarts_move_nothing", restarts::restarts),
        Trial::new("what_the_go_implementation_leaves_stays_as_it_is", changeover::changeover),
        Trial::new("one_of_two_controllers_writes_and_no_address_is_given_twice", lease::takeovers),
        Trial::new("contract_1_9_status_objects_show_who_announces_what", reports::announcements),
        Trial::new("contract_1_9_states_of_the_configuration_follow_it", reports::configuration_states),
        Trial::new("a_service_that_nobody_announces_says_why", conditions::conditions_of_services),
        Trial::new("conditions_are_told_by_one_controller_and_not_again_by_the_next", conditions::takeover),
        Trial::new("adr_16_addresses_are_assigned_once_whoever_leads", spreading::spreading),
        Trial::new("with_the_rights_of_an_older_chart_nothing_else_is_disturbed", conditions::fewer_rights),
        Trial::new("services_are_served_with_kube_proxy_in_nftables_mode", |lab| {
            services::services(lab, ProxyMode::Nftables)
        }),
        Trial::new("services_are_served_with_kube_proxy_in_iptables_mode", |lab| {
            services::services(lab, ProxyMode::Iptables)
        }),
        Trial::new("contract_4_4_certificates_change_and_every_question_is_answered", webhooks::certificates),
        Trial::new("contract_4_4_objects_are_judged_before_they_are_taken", webhooks::judgement),
        Trial::new("contract_1_4_the_definition_of_the_go_implementation_has_its_conversion", webhooks::conversion),
        Trial::new("contract_7_1_modes_of_the_webhooks", webhooks::modes),
        Trial::new("contract_7_3_metrics_are_for_those_who_may_read_them", metrics::access),
        Trial::new("contract_8_5_the_dashboard_and_the_alerts_work_on_a_real_prometheus", metrics::prometheus),
        Trial::new("contract_1_what_the_api_server_accepts_refuses_and_shows", definitions::cases),
        Trial::new("contract_7_6_each_right_is_used_and_needed", rights::rights),
        Trial::new("a_release_comes_changes_and_goes_and_addresses_stay", chart::release),
        Trial::new("definitions_of_the_go_implementation_are_taken_over", chart::takeover),
        Trial::new("every_variant_of_the_chart_is_valid", chart::variants),
        Trial::new("odd_objects_hold_up_nobody_else", oddities::oddities),
        Trial::new("passwords_come_from_secrets_and_change_at_run_time", secrets::secrets),
        Trial::new("rights_and_definitions_may_come_later_and_in_any_order", start::start),
    ])
}
