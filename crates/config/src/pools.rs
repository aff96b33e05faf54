//! The rules of IPAddressPools (contract 4.2 rules 2 to 8).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::{IPAddressPool, Key, Kind, ObjectRef};
use kit::{AddrRange, AddrRangeError, Family};

use crate::finding::{Finding, Report};
use crate::objects::Objects;
use crate::selectors::selector_list;
use crate::{Pool, ServiceAllocation};

/// Reads one pool, without its advertisements, and gives it its place among the others.
pub(crate) fn pool<'a>(key: &'a Key, written: &'a IPAddressPool, space: &mut Space<'a>, report: &mut Report) -> Pool {
    let (name, spec) = (&written.metadata.name, &written.spec);
    if spec.addresses.is_empty() {
        report
            .error("pool-empty", "/spec/addresses", "pool has no prefixes defined")
            .hint("list the addresses it holds, such as 198.51.100.0/24 or 198.51.100.10-198.51.100.20");
    }
    let mut ranges = Vec::with_capacity(spec.addresses.len());
    for (position, entry) in spec.addresses.iter().enumerate() {
        match AddrRange::parse(entry) {
            Ok(range) => {
                space.insert(Entry { range, key, position, text: entry }, report);
                ranges.push(range);
            }
            Err(error) => {
                let message = match error {
                    AddrRangeError::NotACidr(_) => format!("{error} in pool {name:?}"),
                    error => format!("{error} (pool {name:?})"),
                };
                report
                    .error("pool-address", format!("/spec/addresses/{position}"), message)
                    .hint(hint_for_entry(entry));
            }
        }
    }
    let avoid_buggy_ips = spec.avoid_buggy_ips.unwrap_or(false);
    let pool = Pool {
        name: name.clone(),
        ranges,
        auto_assign: spec.auto_assign.unwrap_or(true),
        avoid_buggy_ips,
        allocation: spec.service_allocation.as_ref().map(|written| allocation(written, report)),
        l2_advertisements: BTreeMap::new(),
        bgp_advertisements: BTreeMap::new(),
    };
    let is_unusable = |range: &AddrRange| avoid_buggy_ips && range.buggy_count() == range.size();
    if !pool.ranges.is_empty() && pool.ranges.iter().all(is_unusable) {
        report
            .warning(
                "pool-unusable",
                "/spec/avoidBuggyIPs",
                "no address of the pool can be used: all end in .0 or .255",
            )
            .hint("add other addresses, or set avoidBuggyIPs to false");
    }
    pool
}

fn hint_for_entry(entry: &str) -> String {
    match entry.trim().parse::<IpAddr>() {
        Ok(address) => format!("for a single address write {address}/{}", Family::of(&address).bits()),
        Err(_) => "write a prefix such as 198.51.100.0/24 or a range such as 198.51.100.10-198.51.100.20".to_owned(),
    }
}

fn allocation(written: &api::ServiceAllocation, report: &mut Report) -> ServiceAllocation {
    const PLACE: &str = "/spec/serviceAllocation";
    let priority = written.priority.unwrap_or(0);
    if priority < 0 {
        // Upstream leaves the order of negative numbers open (D40); here they are what is not a positive number: last.
        report
            .warning(
                "pool-priority",
                format!("{PLACE}/priority"),
                format!("priority {priority} counts as none: the pool is tried last"),
            )
            .hint("use a positive number; lower ones are tried first");
    }
    let mut namespaces = BTreeSet::new();
    for (position, namespace) in written.namespaces.iter().enumerate() {
        if !namespaces.insert(namespace.clone()) {
            let message = format!("duplicate definition in namespaces field: {namespace:?} is there twice");
            report
                .error("duplicate-namespace", format!("{PLACE}/namespaces/{position}"), message)
                .hint("remove one of them");
        }
    }
    ServiceAllocation {
        priority: u32::try_from(priority.clamp(0, i64::from(u32::MAX))).ok().filter(|priority| *priority > 0),
        namespaces,
        namespace_selectors: selector_list(
            &written.namespace_selectors,
            &format!("{PLACE}/namespaceSelectors"),
            report,
        ),
        service_selectors: selector_list(&written.service_selectors, &format!("{PLACE}/serviceSelectors"), report),
    }
}

/// One entry of one pool.
#[derive(Clone, Copy)]
struct Entry<'a> {
    range: AddrRange,
    key: &'a Key,
    position: usize,
    text: &'a str,
}

/// The entries of all pools, by first address; no two overlap.
#[derive(Default)]
pub(crate) struct Space<'a> {
    entries: BTreeMap<(Family, u128), Entry<'a>>,
}

impl<'a> Space<'a> {
    /// Puts an entry in. One that overlaps another one that is in already stays out, and is reported (rule 5).
    fn insert(&mut self, entry: Entry<'a>, report: &mut Report) {
        let range = entry.range;
        let Some(earlier) = self.last_before(range.family(), range.last()).filter(|other| other.range.overlaps(&range))
        else {
            self.entries.insert((range.family(), range.first()), entry);
            return;
        };
        let message = format!(
            "CIDR {:?} in pool {:?} overlaps with already defined CIDR {:?} in pool {:?}",
            entry.text, entry.key.name, earlier.text, earlier.key.name
        );
        report
            .error("pool-overlap", entry.pointer(), message)
            .hint("an address can be in one pool only; shorten or remove one of the two");
    }

    /// The entry with the highest first address that is not above `number`. Since no two overlap, it is the only one
    /// that can reach up to there.
    fn last_before(&self, family: Family, number: u128) -> Option<&Entry<'a>> {
        self.entries.range((family, 0)..=(family, number)).next_back().map(|(_, entry)| entry)
    }

    /// Warns of entries that hold the address of a node: a Service would get it, and both would be lost.
    pub(crate) fn node_addresses(&self, objects: &Objects) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (node, known) in &objects.nodes {
            for address in known.addresses.iter().filter_map(|address| address.address.parse::<IpAddr>().ok()) {
                let entry = self.last_before(Family::of(&address), Family::number(&address));
                let Some(entry) = entry.filter(|entry| entry.range.contains(&address)) else { continue };
                let mut report = Report::new(ObjectRef { kind: Kind::IPAddressPool, key: entry.key.clone() });
                let message = format!("pool {:?} holds {address}, the address of node {node:?}", entry.key.name);
                report
                    .warning("pool-node-address", entry.pointer(), message)
                    .hint("leave the addresses of nodes out of the pool, or a Service may be given one");
                findings.extend(report.into_findings());
            }
        }
        findings
    }
}

impl Entry<'_> {
    fn pointer(&self) -> String {
        format!("/spec/addresses/{}", self.position)
    }
}

/// Pinned pools that no namespace may use, where the namespaces are known (D6: such a pool serves nobody).
pub(crate) fn namespaces(pool: &Pool, objects: &Objects, report: &mut Report) {
    let Some(allocation) = &pool.allocation else { return };
    let is_open = allocation.namespaces.is_empty() && allocation.namespace_selectors.is_empty();
    let mut known = objects.namespaces.iter();
    let serves_one = known.any(|(name, labels)| {
        allocation.namespaces.contains(name) || allocation.namespace_selectors.any_matches(labels)
    });
    if is_open || serves_one || objects.namespaces.is_empty() {
        return;
    }
    report
        .warning(
            "pool-without-namespace",
            "/spec/serviceAllocation",
            "no namespace matches, so no Service can use the pool",
        )
        .hint("check the names and labels of the namespaces");
}
