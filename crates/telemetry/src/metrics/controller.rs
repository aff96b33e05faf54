//! The controller's series (contract 8.1).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{CommonMetrics, Metrics, SeriesType, Text};

/// How full a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Usable IPv4 addresses.
    pub ipv4_total: u64,
    /// Usable IPv6 addresses; [`u64::MAX`] stands for that many and more (D3).
    pub ipv6_total: u64,
    /// Distinct IPv4 addresses in use.
    pub ipv4_in_use: u64,
    /// Distinct IPv6 addresses in use.
    pub ipv6_in_use: u64,
    /// Services with an address of the pool (D42).
    pub services: u64,
}

/// The controller's series.
#[derive(Debug, Default)]
pub struct ControllerMetrics {
    common: CommonMetrics,
    pools: Mutex<BTreeMap<String, PoolUse>>,
}

impl ControllerMetrics {
    /// Nothing has happened yet.
    pub fn new() -> ControllerMetrics {
        ControllerMetrics::default()
    }

    /// The series that the speaker has too.
    pub fn common(&self) -> &CommonMetrics {
        &self.common
    }

    /// A pool is there, and this full.
    pub fn pool(&self, name: &str, usage: PoolUse) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), usage);
    }

    /// A pool is gone; so are its series.
    pub fn pool_removed(&self, name: &str) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

type Reading = fn(&PoolUse) -> u64;

/// Name, help and value of each.
const POOL_SERIES: [(&str, &str, Reading); 7] = [
    ("metallb_allocator_addresses_total", "Number of usable IP addresses, per pool.", |pool| {
        pool.ipv4_total.saturating_add(pool.ipv6_total)
    }),
    ("metallb_allocator_ipv4_addresses_total", "Number of usable IPv4 addresses, per pool.", |pool| pool.ipv4_total),
    ("metallb_allocator_ipv6_addresses_total", "Number of usable IPv6 addresses, per pool.", |pool| pool.ipv6_total),
    ("metallb_allocator_addresses_in_use_total", "Number of IP addresses in use, per pool.", |pool| {
        pool.ipv4_in_use.saturating_add(pool.ipv6_in_use)
    }),
    ("metallb_allocator_ipv4_addresses_in_use_total", "Number of IPv4 addresses in use, per pool.", |pool| {
        pool.ipv4_in_use
    }),
    ("metallb_allocator_ipv6_addresses_in_use_total", "Number of IPv6 addresses in use, per pool.", |pool| {
        pool.ipv6_in_use
    }),
    ("metallb_allocator_services_allocated_total", "Number of Services with an address, per pool.", |pool| {
        pool.services
    }),
];

impl Metrics for ControllerMetrics {
    fn write(&self, text: &mut Text) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, help, value) in POOL_SERIES {
            text.family(name, SeriesType::Gauge, help);
            for (pool, usage) in &pools {
                text.series(&[("pool", pool)], value(usage));
            }
        }
        self.common.write(text);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::ConfigState;
    use super::*;

    /// All but the series of the process.
    fn text(metrics: &ControllerMetrics) -> String {
        metrics.render().split("# HELP process_").next().unwrap().to_owned()
    }

    #[test]
    fn names_types_and_labels_are_those_of_the_contract() {
        let metrics = ControllerMetrics::new();
        metrics.pool("b", PoolUse { ipv4_total: 4, ipv6_total: u64::MAX, ipv4_in_use: 1, ipv6_in_use: 2, services: 3 });
        metrics.pool("a", PoolUse::default());
        metrics.common().updated();
        metrics.common().update_failed();
        metrics.common().config(ConfigState::Stale);
        metrics.common().observe("metallb_source_unreadable_total", SeriesType::Counter, "Not readable.", || 7);
        expect![[r##"
            # HELP metallb_allocator_addresses_total Number of usable IP addresses, per pool.
            # TYPE metallb_allocator_addresses_total gauge
            metallb_allocator_addresses_total{pool="a"} 0
            metallb_allocator_addresses_total{pool="b"} 18446744073709552000
            # HELP metallb_allocator_ipv4_addresses_total Number of usable IPv4 addresses, per pool.
            # TYPE metallb_allocator_ipv4_addresses_total gauge
            metallb_allocator_ipv4_addresses_total{pool="a"} 0
            metallb_allocator_ipv4_addresses_total{pool="b"} 4
            # HELP metallb_allocator_ipv6_addresses_total Number of usable IPv6 addresses, per pool.
            # TYPE metallb_allocator_ipv6_addresses_total gauge
            metallb_allocator_ipv6_addresses_total{pool="a"} 0
            metallb_allocator_ipv6_addresses_total{pool="b"} 18446744073709552000
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
            # HELP metallb_k8s_client_updates_total Number of changes of Kubernetes objects that have been worked on.
            # TYPE metallb_k8s_client_updates_total counter
            metallb_k8s_client_updates_total 2
            # HELP metallb_k8s_client_update_errors_total Number of changes of Kubernetes objects that could not be worked on.
            # TYPE metallb_k8s_client_update_errors_total counter
            metallb_k8s_client_update_errors_total 1
            # HELP metallb_k8s_client_config_loaded_bool 1 if a configuration has been in force at least once.
            # TYPE metallb_k8s_client_config_loaded_bool gauge
            metallb_k8s_client_config_loaded_bool 0
            # HELP metallb_k8s_client_config_stale_bool 1 if the newest configuration is not the one in force.
            # TYPE metallb_k8s_client_config_stale_bool gauge
            metallb_k8s_client_config_stale_bool 1
            # HELP metallb_source_unreadable_total Not readable.
            # TYPE metallb_source_unreadable_total counter
            metallb_source_unreadable_total 7
        "##]].assert_eq(&text(&metrics));
    }

    #[test]
    fn the_four_of_the_client_exist_from_the_start_and_pools_only_while_they_are_there() {
        let metrics = ControllerMetrics::new();
        let values = || -> String {
            text(&metrics).lines().filter(|line| !line.starts_with('#')).map(|line| line.to_owned() + "\n").collect()
        };
        let at_start = values();
        expect![[r#"
            metallb_k8s_client_updates_total 0
            metallb_k8s_client_update_errors_total 0
            metallb_k8s_client_config_loaded_bool 0
            metallb_k8s_client_config_stale_bool 0
        "#]]
        .assert_eq(&at_start);
        metrics.pool("a", PoolUse::default());
        assert_eq!(values().lines().count(), 4 + 7);
        metrics.pool_removed("a");
        assert_eq!(values(), at_start);
    }

    #[test]
    fn a_bad_configuration_that_is_taken_back_is_not_stale_d2() {
        let metrics = ControllerMetrics::new();
        let flags = || {
            let text = text(&metrics);
            let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
            value("metallb_k8s_client_config_loaded_bool") + &value("metallb_k8s_client_config_stale_bool")
        };
        let mut seen = vec![flags()];
        for state in [ConfigState::Stale, ConfigState::InForce, ConfigState::Stale, ConfigState::InForce] {
            metrics.common().config(state);
            seen.push(flags());
        }
        assert_eq!(seen, ["00", "01", "10", "11", "10"]);
    }
}
