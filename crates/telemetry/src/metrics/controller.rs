//! The controller's series (contract 8.1).

use super::family::{self, Family, flag, known, number};
use super::{Metrics, Origin, Text, Work};

/// What a controller knows when a scrape comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerReport {
    /// What was worked on.
    pub work: Work,
    /// Every pool that is in force. A pool that is gone has no series.
    pub pools: Vec<PoolReport>,
    /// Services that should have an address and have none.
    pub services_unassigned: u64,
    /// Services that show why nobody announces them, by reason.
    pub services_not_announced: Vec<(&'static str, u64)>,
    /// Nodes that addresses can be assigned to, each with how many are.
    pub addresses_assigned: Vec<(String, u64)>,
    /// Statuses that something else had written and that were set back.
    pub statuses_restored: u64,
    /// It is this controller that writes.
    pub leads: bool,
    /// When the certificate of the webhooks ends, in seconds since 1970, if they are served.
    pub webhook_certificate_end: Option<u64>,
}

/// How full a pool is. Counts of addresses stop at `i64::MAX`, as they do in the status of the pool (D3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolReport {
    /// Its name.
    pub name: String,
    /// Usable IPv4 addresses.
    pub ipv4_total: u64,
    /// Usable IPv6 addresses.
    pub ipv6_total: u64,
    /// Distinct IPv4 addresses in use.
    pub ipv4_in_use: u64,
    /// Distinct IPv6 addresses in use.
    pub ipv6_in_use: u64,
    /// Services with an address of the pool (D42).
    pub services: u64,
}

/// The sum of both families, as large as a status can show it (D3).
fn sum(ipv4: u64, ipv6: u64) -> f64 {
    number(ipv4.saturating_add(ipv6).min(i64::MAX.unsigned_abs()))
}

const fn of_pool(name: &'static str, help: &'static str, value: fn(&PoolReport) -> f64) -> Family<PoolReport, 1> {
    Family::gauge(Origin::MetalLb, name, help, value).by(["pool"])
}

pub(super) const POOLS: [Family<PoolReport, 1>; 7] = [
    of_pool("metallb_allocator_addresses_total", "Number of usable IP addresses, per pool.", |pool| {
        sum(pool.ipv4_total, pool.ipv6_total)
    }),
    of_pool("metallb_allocator_ipv4_addresses_total", "Number of usable IPv4 addresses, per pool.", |pool| {
        number(pool.ipv4_total)
    }),
    of_pool("metallb_allocator_ipv6_addresses_total", "Number of usable IPv6 addresses, per pool.", |pool| {
        number(pool.ipv6_total)
    }),
    of_pool("metallb_allocator_addresses_in_use_total", "Number of IP addresses in use, per pool.", |pool| {
        sum(pool.ipv4_in_use, pool.ipv6_in_use)
    }),
    of_pool("metallb_allocator_ipv4_addresses_in_use_total", "Number of IPv4 addresses in use, per pool.", |pool| {
        number(pool.ipv4_in_use)
    }),
    of_pool("metallb_allocator_ipv6_addresses_in_use_total", "Number of IPv6 addresses in use, per pool.", |pool| {
        number(pool.ipv6_in_use)
    }),
    of_pool("metallb_allocator_services_allocated_total", "Number of Services with an address, per pool.", |pool| {
        number(pool.services)
    }),
];

pub(super) const ALONE: [Family<ControllerReport, 0>; 4] = [
    Family::gauge(
        Origin::Ours,
        "metallb_allocator_services_unassigned",
        "Number of Services that should have an address and have none.",
        |report| number(report.services_unassigned),
    ),
    Family::counter(
        Origin::Ours,
        "metallb_allocator_statuses_restored_total",
        "Number of statuses of Services that something else had changed and that were set back.",
        |report| number(report.statuses_restored),
    ),
    Family::gauge(
        Origin::Ours,
        "metallb_controller_leader",
        "1 if it is this controller that gives addresses and writes statuses.",
        |report| flag(report.leads),
    ),
    Family::gauge(
        Origin::Ours,
        "metallb_controller_webhook_certificate_expiry_timestamp_seconds",
        "When the certificate that the webhooks show ends, in seconds since 1970.",
        |report| known(report.webhook_certificate_end),
    ),
];

pub(super) const SILENT: [Family<u64, 1>; 1] = [Family::gauge(
    Origin::Ours,
    "metallb_controller_services_not_announced",
    "Number of Services without an address or that nobody announces, by the reason in their condition metallb.io/Announced.",
    |services| number(*services),
)
.by(["reason"])];

pub(super) const ASSIGNED: [Family<u64, 1>; 1] = [Family::gauge(
    Origin::Ours,
    "metallb_controller_l2_addresses_assigned",
    "Number of addresses that are assigned to the node, under L2Advertisements with ownerSelection Balanced.",
    |addresses| number(*addresses),
)
.by(["node"])];

impl Metrics for ControllerReport {
    fn write(&self, text: &mut Text) {
        family::write(text, &POOLS, |row| self.pools.iter().for_each(|pool| row([&pool.name], pool)));
        family::write_known(text, &ALONE, self);
        family::write(text, &SILENT, |row| self.services_not_announced.iter().for_each(|(reason, n)| row([reason], n)));
        family::write(text, &ASSIGNED, |row| self.addresses_assigned.iter().for_each(|(node, n)| row([node], n)));
        self.work.write(text);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::render;
    use super::*;

    #[test]
    fn a_pool_has_its_series_and_sums_stop_where_a_status_does_d3() {
        let report = ControllerReport {
            pools: vec![
                PoolReport { name: "a".to_owned(), ..PoolReport::default() },
                PoolReport {
                    name: "b".to_owned(),
                    ipv4_total: 4,
                    ipv6_total: i64::MAX.unsigned_abs(),
                    ipv4_in_use: 1,
                    ipv6_in_use: 2,
                    services: 3,
                },
            ],
            services_unassigned: 5,
            services_not_announced: vec![("NoAddressAvailable", 5), ("NoEndpoints", 2)],
            leads: true,
            webhook_certificate_end: Some(1_827_273_600),
            addresses_assigned: vec![("n1".to_owned(), 3), ("n2".to_owned(), 0)],
            ..ControllerReport::default()
        };
        expect![[r##"
            # HELP metallb_allocator_addresses_total Number of usable IP addresses, per pool.
            # TYPE metallb_allocator_addresses_total gauge
            metallb_allocator_addresses_total{pool="a"} 0
            metallb_allocator_addresses_total{pool="b"} 9223372036854776000
            # HELP metallb_allocator_ipv4_addresses_total Number of usable IPv4 addresses, per pool.
            # TYPE metallb_allocator_ipv4_addresses_total gauge
            metallb_allocator_ipv4_addresses_total{pool="a"} 0
            metallb_allocator_ipv4_addresses_total{pool="b"} 4
            # HELP metallb_allocator_ipv6_addresses_total Number of usable IPv6 addresses, per pool.
            # TYPE metallb_allocator_ipv6_addresses_total gauge
            metallb_allocator_ipv6_addresses_total{pool="a"} 0
            metallb_allocator_ipv6_addresses_total{pool="b"} 9223372036854776000
            # HELP metallb_allocator_addresses_in_use_total Number of IP addresses in use, per pool.
            # TYPE metallb_allocator_addresses_in_use_total gauge
            metallb_allocator_addresses_in_use_total{pool="a"} 0
            metallb_allocator_addresses_in_use_total{pool="b"} 3
            # HELP metallb_allocator_ipv4_addresses_in_use_total Number of IPv4 addresses in use, per pool.
            # TYPE metallb_allocator_ipv4_addresses_in_use_total gauge
            metallb_allocator_ipv4_addresses_in_use_total{pool="a"} 0
            metallb_allocator_ipv4_addresses_in_use_total{pool="b"} 1
            # HELP metallb_allocator_ipv6_addresses_in_use_total Number of IPv6 addresses in use, per pool.
            # TYPE metallb_allocator_ipv6_addresses_in_use_total gauge
            metallb_allocator_ipv6_addresses_in_use_total{pool="a"} 0
            metallb_allocator_ipv6_addresses_in_use_total{pool="b"} 2
            # HELP metallb_allocator_services_allocated_total Number of Services with an address, per pool.
            # TYPE metallb_allocator_services_allocated_total gauge
            metallb_allocator_services_allocated_total{pool="a"} 0
            metallb_allocator_services_allocated_total{pool="b"} 3
            # HELP metallb_allocator_services_unassigned Number of Services that should have an address and have none.
            # TYPE metallb_allocator_services_unassigned gauge
            metallb_allocator_services_unassigned 5
            # HELP metallb_allocator_statuses_restored_total Number of statuses of Services that something else had changed and that were set back.
            # TYPE metallb_allocator_statuses_restored_total counter
            metallb_allocator_statuses_restored_total 0
            # HELP metallb_controller_leader 1 if it is this controller that gives addresses and writes statuses.
            # TYPE metallb_controller_leader gauge
            metallb_controller_leader 1
            # HELP metallb_controller_webhook_certificate_expiry_timestamp_seconds When the certificate that the webhooks show ends, in seconds since 1970.
            # TYPE metallb_controller_webhook_certificate_expiry_timestamp_seconds gauge
            metallb_controller_webhook_certificate_expiry_timestamp_seconds 1827273600
            # HELP metallb_controller_services_not_announced Number of Services without an address or that nobody announces, by the reason in their condition metallb.io/Announced.
            # TYPE metallb_controller_services_not_announced gauge
            metallb_controller_services_not_announced{reason="NoAddressAvailable"} 5
            metallb_controller_services_not_announced{reason="NoEndpoints"} 2
            # HELP metallb_controller_l2_addresses_assigned Number of addresses that are assigned to the node, under L2Advertisements with ownerSelection Balanced.
            # TYPE metallb_controller_l2_addresses_assigned gauge
            metallb_controller_l2_addresses_assigned{node="n1"} 3
            metallb_controller_l2_addresses_assigned{node="n2"} 0
            # HELP metallb_k8s_client_updates_total Number of changes of Services, nodes and the configuration that have been worked on.
            # TYPE metallb_k8s_client_updates_total counter
            metallb_k8s_client_updates_total 0
            # HELP metallb_k8s_client_update_errors_total Number of those changes that could not be worked on.
            # TYPE metallb_k8s_client_update_errors_total counter
            metallb_k8s_client_update_errors_total 0
            # HELP metallb_k8s_client_config_loaded_bool 1 if a configuration has been in force at least once.
            # TYPE metallb_k8s_client_config_loaded_bool gauge
            metallb_k8s_client_config_loaded_bool 0
            # HELP metallb_k8s_client_config_stale_bool 1 if the newest configuration is not the one in force.
            # TYPE metallb_k8s_client_config_stale_bool gauge
            metallb_k8s_client_config_stale_bool 0
        "##]]
        .assert_eq(&render(&[&report]));
    }

    #[test]
    fn a_controller_without_pools_has_none_of_their_series() {
        let text = render(&[&ControllerReport::default()]);
        let values: String =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| line.to_owned() + "\n").collect();
        expect![[r#"
            metallb_allocator_services_unassigned 0
            metallb_allocator_statuses_restored_total 0
            metallb_controller_leader 0
            metallb_k8s_client_updates_total 0
            metallb_k8s_client_update_errors_total 0
            metallb_k8s_client_config_loaded_bool 0
            metallb_k8s_client_config_stale_bool 0
        "#]]
        .assert_eq(&values);
    }
}
