//! The catalog against what is written, the contract and the documentation.

use std::collections::BTreeSet;
use std::path::Path;

use expect_test::expect;

use super::*;
use crate::metrics::{
    AnnouncedService, BfdReport, BfdSession, BgpMessages, BgpSession, CertificateReport, ControllerReport, FrameCounts,
    Layer2Address, PoolReport, ProcessReport, Protocol, RefusedServices, SpeakerReport, Work, render,
};

/// A report that has a series of every family.
fn controller_text() -> String {
    let report = ControllerReport {
        pools: vec![PoolReport::default()],
        services_not_announced: vec![("NoEndpoints", 1)],
        webhook_certificate_end: Some(0),
        addresses_assigned: vec![("n1".to_owned(), 1)],
        ..ControllerReport::default()
    };
    render(&[&report, &process_report()])
}

fn speaker_text() -> String {
    let ip = "10.0.0.1".parse().unwrap();
    let report = SpeakerReport {
        work: Work::default(),
        node: "node".to_owned(),
        announced: vec![AnnouncedService { service: "a/b".to_owned(), protocol: Protocol::Bgp, addresses: vec![ip] }],
        refused: RefusedServices::from([((Protocol::Layer2, "notOwner"), 1)]),
        layer2: vec![Layer2Address {
            ip,
            requests_received: 0,
            responses_sent: 0,
            gratuitous_sent: 0,
            gateways_told: 0,
            foreign_claims: 0,
        }],
        frames: FrameCounts::default(),
        host_findings: vec![("noStrictARP", "eth0".to_owned())],
        hindrances: vec!["no default route for IPv4 works any more".to_owned()],
        sessions: vec![BgpSession {
            peer: "10.0.0.254:179".parse().unwrap(),
            vrf: None,
            is_up: false,
            prefixes_announced: 0,
            prefixes_wanted: 0,
            sent: BgpMessages::default(),
            received: BgpMessages::default(),
            established: 0,
            failed_attempts: 0,
            updates_treated_as_withdraw: 0,
            attributes_discarded: 0,
        }],
        bfd: Some(bfd_report()),
    };
    render(&[&report, &process_report()])
}

fn bfd_report() -> BfdReport {
    let session = BfdSession {
        peer: "10.0.0.254".parse().unwrap(),
        vrf: None,
        is_up: false,
        control_packet_input: 0,
        control_packet_output: 0,
        echo_packet_input: 0,
        echo_packet_output: 0,
        session_up_events: 0,
        session_down_events: 0,
        zebra_notifications: 0,
    };
    BfdReport { sessions: vec![session], discarded: [("port", 0)].into(), ..BfdReport::default() }
}

fn process_report() -> ProcessReport {
    let certificate = Some(CertificateReport { end: Some(0), ..CertificateReport::default() });
    ProcessReport { certificate, ..ProcessReport::default() }
}

/// `name type {labels}` of every family in a text.
fn families(text: &str) -> BTreeSet<String> {
    let mut families = BTreeSet::new();
    for line in text.lines() {
        let Some((name, type_)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) else { continue };
        let series = text.lines().find(|line| !line.starts_with('#') && line.split(['{', ' ']).next() == Some(name));
        let labels = series.unwrap().split_once('{').map(|(_, labels)| labels.split('}').next().unwrap());
        let names: Vec<_> =
            labels.unwrap_or_default().split(',').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        families.insert(format!("{name} {type_} {{{}}}", names.join(", ")));
    }
    families
}

fn described(component: Component) -> BTreeSet<String> {
    let concerned = catalog().into_iter().filter(|family| [component, Component::Both].contains(&family.component));
    concerned
        .map(|family| format!("{} {} {{{}}}", family.name, family.type_.as_str(), family.labels.join(", ")))
        .collect()
}

#[test]
fn the_catalog_has_what_is_written_and_nothing_else() {
    assert_eq!(families(&controller_text()), described(Component::Controller));
    assert_eq!(families(&speaker_text()), described(Component::Speaker));
}

#[test]
fn no_name_is_there_twice_and_each_says_what_it_is() {
    let names: BTreeSet<_> = catalog().iter().map(|family| family.name).collect();
    assert_eq!(names.len(), catalog().len());
    for family in catalog() {
        assert!(family.help.ends_with('.'), "{}: a sentence ends with a full stop", family.name);
        let is_common = family.origin == Origin::Common;
        assert_eq!(family.name.starts_with("metallb_"), !is_common, "{}", family.name);
    }
}

/// Contract 8, complete.
#[test]
fn contract_8_names_types_and_labels() {
    let lines = lines(|origin| !matches!(origin, Origin::Ours | Origin::Common));
    expect![[r#"
        Controller metallb_allocator_addresses_total gauge pool
        Controller metallb_allocator_ipv4_addresses_total gauge pool
        Controller metallb_allocator_ipv6_addresses_total gauge pool
        Controller metallb_allocator_addresses_in_use_total gauge pool
        Controller metallb_allocator_ipv4_addresses_in_use_total gauge pool
        Controller metallb_allocator_ipv6_addresses_in_use_total gauge pool
        Controller metallb_allocator_services_allocated_total gauge pool
        Speaker metallb_speaker_announced gauge service,protocol,node,ip
        Speaker metallb_layer2_requests_received counter ip
        Speaker metallb_layer2_responses_sent counter ip
        Speaker metallb_layer2_gratuitous_sent counter ip
        Speaker metallb_bgp_session_up gauge peer,vrf
        Speaker metallb_bgp_announced_prefixes_total gauge peer,vrf
        Speaker metallb_bgp_pending_prefixes_total gauge peer,vrf
        Speaker metallb_bgp_updates_total counter peer,vrf
        Speaker metallb_bgp_updates_total_received counter peer,vrf
        Speaker metallb_bgp_opens_sent counter peer,vrf
        Speaker metallb_bgp_opens_received counter peer,vrf
        Speaker metallb_bgp_notifications_sent counter peer,vrf
        Speaker metallb_bgp_keepalives_sent counter peer,vrf
        Speaker metallb_bgp_keepalives_received counter peer,vrf
        Speaker metallb_bgp_route_refresh_sent counter peer,vrf
        Speaker metallb_bgp_total_sent counter peer,vrf
        Speaker metallb_bgp_total_received counter peer,vrf
        Speaker metallb_bfd_session_up gauge peer,vrf
        Speaker metallb_bfd_control_packet_input counter peer,vrf
        Speaker metallb_bfd_control_packet_output counter peer,vrf
        Speaker metallb_bfd_echo_packet_input counter peer,vrf
        Speaker metallb_bfd_echo_packet_output counter peer,vrf
        Speaker metallb_bfd_session_up_events counter peer,vrf
        Speaker metallb_bfd_session_down_events counter peer,vrf
        Speaker metallb_bfd_zebra_notifications counter peer,vrf
        Both metallb_k8s_client_updates_total counter
        Both metallb_k8s_client_update_errors_total counter
        Both metallb_k8s_client_config_loaded_bool gauge
        Both metallb_k8s_client_config_stale_bool gauge
    "#]]
    .assert_eq(&lines);
}

#[test]
fn what_is_ours() {
    let lines = lines(|origin| matches!(origin, Origin::Ours | Origin::Common));
    expect![[r#"
        Controller metallb_allocator_services_unassigned gauge
        Controller metallb_allocator_statuses_restored_total counter
        Controller metallb_controller_leader gauge
        Controller metallb_controller_webhook_certificate_expiry_timestamp_seconds gauge
        Controller metallb_controller_services_not_announced gauge reason
        Controller metallb_controller_l2_addresses_assigned gauge node
        Speaker metallb_speaker_services_not_announced gauge protocol,reason
        Speaker metallb_layer2_gateway_sent_total counter ip
        Speaker metallb_layer2_foreign_claims_total counter ip
        Speaker metallb_layer2_frames_malformed_total counter
        Speaker metallb_layer2_frames_dropped_total counter direction
        Speaker metallb_layer2_host_check_failed gauge check,interface
        Speaker metallb_layer2_node_hindered gauge hindrance
        Speaker metallb_bgp_notifications_received counter peer,vrf
        Speaker metallb_bgp_established_total counter peer,vrf
        Speaker metallb_bgp_failed_attempts gauge peer,vrf
        Speaker metallb_bgp_updates_treated_as_withdraw_total counter peer,vrf
        Speaker metallb_bgp_attributes_discarded_total counter peer,vrf
        Speaker metallb_bfd_packets_discarded_total counter reason
        Speaker metallb_bfd_delay_max_seconds gauge
        Both metallb_source_up gauge
        Both metallb_source_kinds_missing gauge
        Both metallb_source_unreadable_total counter
        Both metallb_source_read_failures_total counter
        Both metallb_source_writes_total counter
        Both metallb_source_write_retries_total counter
        Both metallb_source_write_refusals_total counter
        Both metallb_source_writes_waiting gauge
        Both metallb_source_writes_dropped_total counter type
        Both metallb_log_lines_dropped_total counter
        Both metallb_metrics_connection_waits_total counter
        Both metallb_metrics_responses_total counter code
        Both certwatcher_read_certificate_total counter
        Both certwatcher_read_certificate_errors_total counter
        Both metallb_metrics_certificate_expiry_timestamp_seconds gauge
        Both process_cpu_seconds_total counter
        Both process_resident_memory_bytes gauge
        Both process_virtual_memory_bytes gauge
        Both process_open_fds gauge
        Both process_max_fds gauge
        Both process_start_time_seconds gauge
    "#]]
    .assert_eq(&lines);
}

/// A table for each component.
fn tables() -> String {
    let table = |(component, title): (Component, &str)| {
        let concerned = catalog().into_iter().filter(move |family| family.component == component);
        let rows: String = concerned.map(|family| row(&family)).collect();
        format!("\n### {title}\n\n| series | type | labels | from | meaning |\n|---|---|---|---|---|\n{rows}")
    };
    let titles = ["Controller", "Speaker", "Controller and speaker"];
    [Component::Controller, Component::Speaker, Component::Both].into_iter().zip(titles).map(table).collect()
}

fn row(family: &Description) -> String {
    let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    let origin = match family.origin {
        Origin::MetalLb => "MetalLB",
        Origin::Native => "MetalLB, native mode",
        Origin::Frr => "MetalLB, FRR mode",
        Origin::NativeAndFrr => "MetalLB, native and FRR mode",
        Origin::Common => "common",
        Origin::Ours => "ours",
    };
    let cells = [&format!("`{}`", family.name), family.type_.as_str(), &labels.join(", "), origin, family.help];
    format!("| {} |\n", cells.join(" | "))
}

/// Those of some origins, one on each line.
fn lines(has: impl Fn(Origin) -> bool) -> String {
    let line = |family: Description| {
        let (component, labels) = (format!("{:?}", family.component), family.labels.join(","));
        [component.as_str(), family.name, family.type_.as_str(), labels.as_str()].join(" ").trim_end().to_owned() + "\n"
    };
    catalog().into_iter().filter(|family| has(family.origin)).map(line).collect()
}

#[test]
fn the_documentation_has_every_series() {
    const BEGIN: &str = "<!-- series: written by a test, change them in crates/telemetry/src/metrics -->\n";
    const END: &str = "\n<!-- end of series -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", tables())).unwrap();
    } else {
        assert!(written == tables(), "docs/metrics.md is out of date: run this test with UPDATE_EXPECT=1");
    }
}
