//! What must hold at rest of addresses that are spread evenly (ADR 16), read anew: who is assigned, and that no node has too many.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Cluster;
use crate::model;
use crate::violation::{Invariant, Violation, hold};

impl Cluster {
    /// What is to be spread has a node that can have it, nothing else has one, and no node has more than its bound.
    pub(super) fn check_spread(&self) -> Result<(), Violation> {
        let Some(config) = self.controller.as_ref().and_then(|controller| controller.spread_by()) else {
            return Ok(());
        };
        let mut eligible: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
        let mut assigned: BTreeMap<IpAddr, String> = BTreeMap::new();
        for service in self.api.services() {
            let key = service.metadata.key();
            let shown = service.metadata.annotations.get(api::LAYER2_ASSIGNED_NODE);
            let Some((address, nodes)) = model::eligible(&self.api, config, &self.climate, service) else {
                // What another load balancer serves is its own.
                let is_ours = crate::ledger::is_served(service, self.climate.class)
                    || service.spec.type_.as_deref() != Some("LoadBalancer");
                hold(shown.is_none() || !is_ours, Invariant::AddressesAreSpread, || {
                    format!("{key} is not to be spread, and shows {shown:?}")
                })?;
                continue;
            };
            if let Some(node) = shown {
                let is_same = assigned.get(&address).is_none_or(|other| other == node);
                hold(is_same, Invariant::AddressesAreSpread, || format!("{address} is assigned twice"))?;
                assigned.insert(address, node.clone());
            }
            // Of Services that share an address those count that are somewhere, as far as they have nodes in common.
            let common = eligible.entry(address).or_insert_with(|| nodes.clone());
            let both: BTreeSet<String> = common.intersection(&nodes).cloned().collect();
            if !both.is_empty() {
                *common = both;
            } else if common.is_empty() {
                *common = nodes;
            }
        }
        let load = |node: &String| assigned.values().filter(|it| *it == node).count();
        for (address, nodes) in eligible.iter().filter(|(_, nodes)| !nodes.is_empty()) {
            let all: usize = nodes.iter().map(load).sum();
            let more = all.saturating_mul(5).checked_div(nodes.len().saturating_mul(4)).unwrap_or(0);
            let bound = all.div_ceil(nodes.len()).max(more);
            let is_well = assigned.get(address).is_some_and(|node| nodes.contains(node) && load(node) <= bound);
            hold(is_well, Invariant::AddressesAreSpread, || {
                format!("{address}, of {nodes:?} with {bound} at most, is one of {assigned:?}")
            })?;
        }
        Ok(())
    }
}
