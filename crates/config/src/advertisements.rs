//! The rules of BGPAdvertisements and L2Advertisements taken alone (contract 4.2 rules 26 to 32).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use api::{BGPAdvertisement, IPAddressPool, Key, L2Advertisement, LabelSelector};
use kit::{Community, ExtendedCommunity, SelectorList};

use crate::communities::{Alias, Aliases};
use crate::finding::Report;
use crate::selectors::{selector, selector_list};
use crate::validate::Context;
use crate::{BgpAdvertisement, L2Advertisement as L2, OwnerSelection, Preference};

/// How often an AS can be prepended.
const PREPEND_MAX: u8 = 16;

/// The largest weight of a preference.
const WEIGHT_MAX: u8 = 100;

/// Which pools an advertisement is for.
#[derive(Debug)]
pub(crate) struct PoolChoice {
    names: BTreeSet<String>,
    selectors: SelectorList,
}

impl PoolChoice {
    /// The pools it is for, without looking at each where only names are given.
    pub(crate) fn pools<'a>(&self, context: &Context<'a>) -> Vec<&'a Key> {
        if self.selectors.is_empty() && !self.names.is_empty() {
            return self.names.iter().filter_map(|name| context.pools.get(name.as_str()).copied()).collect();
        }
        context.objects.pools.iter().filter(|(_, pool)| self.includes(pool)).map(|(key, _)| key).collect()
    }

    /// Those that are named and those that are selected; all when there are neither names nor selectors.
    fn includes(&self, pool: &IPAddressPool) -> bool {
        (self.names.is_empty() && self.selectors.is_empty())
            || self.names.contains(&pool.metadata.name)
            || self.selectors.any_matches(&pool.metadata.labels)
    }
}

/// Reads one L2Advertisement.
pub(crate) fn layer2(written: &L2Advertisement, context: &Context<'_>, report: &mut Report) -> (PoolChoice, L2) {
    let spec = &written.spec;
    let choice = pool_choice(&spec.ip_address_pools, &spec.ip_address_pool_selectors, context, report);
    let mut preferences = Vec::new();
    for (position, preferred) in spec.preferred_node_selectors.iter().enumerate() {
        let pointer = format!("/spec/preferredNodeSelectors/{position}");
        let selector = selector(&preferred.preference, &format!("{pointer}/preference"), report);
        let weight =
            u8::try_from(preferred.weight).ok().filter(|weight| *weight <= WEIGHT_MAX).and_then(NonZeroU8::new);
        if weight.is_none() {
            let message = format!("invalid weight {}: it must be 1 to {WEIGHT_MAX}", preferred.weight);
            report.error("preference-weight", format!("{pointer}/weight"), message);
        }
        preferences.extend(weight.map(|weight| Preference { weight, selector }));
    }
    let advertisement = L2 {
        name: written.metadata.name.clone(),
        interfaces: spec.interfaces.iter().cloned().collect(),
        node_selectors: selector_list(&spec.node_selectors, "/spec/nodeSelectors", report),
        service_selectors: selector_list(&spec.service_selectors, "/spec/serviceSelectors", report),
        preferences,
        owner_selection: owner_selection(spec.owner_selection.as_deref(), report),
    };
    (choice, advertisement)
}

fn owner_selection(written: Option<&str>, report: &mut Report) -> OwnerSelection {
    match written.unwrap_or_default() {
        "" | "Hash" => {}
        "Balanced" => return OwnerSelection::Balanced,
        other => {
            report
                .error("owner-selection", "/spec/ownerSelection", format!("invalid ownerSelection {other:?}"))
                .hint("use Hash or Balanced");
        }
    }
    OwnerSelection::Hash
}

/// Reads one BGPAdvertisement; `None` in place of it when a number in it cannot be used.
pub(crate) fn bgp(
    written: &BGPAdvertisement,
    aliases: &Aliases<'_>,
    context: &Context<'_>,
    report: &mut Report,
) -> (PoolChoice, Option<BgpAdvertisement>) {
    let spec = &written.spec;
    let choice = pool_choice(&spec.ip_address_pools, &spec.ip_address_pool_selectors, context, report);
    let aggregation_length = aggregation_length(spec.aggregation_length, "aggregationLength", 32, report);
    // D21: the range holds whether or not a pool has IPv6 addresses.
    let aggregation_length_v6 =
        self::aggregation_length(spec.aggregation_length_v6, "aggregationLengthV6", 128, report);
    let is_aggregated = aggregation_length.is_some_and(|length| length != 32)
        || aggregation_length_v6.is_some_and(|length| length != 128);
    if is_aggregated && !spec.service_selectors.is_empty() {
        report
            .error(
                "aggregation-and-services",
                "/spec/serviceSelectors",
                "serviceSelectors and aggregationLength are mutually exclusive",
            )
            .hint("a route for several addresses cannot be meant for some Services alone; remove one of the two");
    }
    let local_pref = local_pref(spec.local_pref, report);
    let med = med(spec.med, report);
    let as_path_prepend = as_path_prepend(spec.as_path_prepend, report);
    let extended_communities = extended_communities(&spec.extended_communities, report);
    let peers = names(&spec.peers, "peers", report);
    warn_of_unknown(&peers, &spec.peers, "peers", "BGPPeer", &context.peers, report);
    let communities = communities(&spec.communities, aliases, report);
    let node_selectors = selector_list(&spec.node_selectors, "/spec/nodeSelectors", report);
    let service_selectors = selector_list(&spec.service_selectors, "/spec/serviceSelectors", report);
    let advertisement =
        aggregation_length.zip(aggregation_length_v6).map(|(aggregation_length, aggregation_length_v6)| {
            BgpAdvertisement {
                name: written.metadata.name.clone(),
                aggregation_length,
                aggregation_length_v6,
                local_pref,
                med,
                as_path_prepend,
                communities,
                extended_communities,
                node_selectors,
                peers,
                service_selectors,
            }
        });
    (choice, advertisement)
}

fn aggregation_length(written: Option<i64>, field: &str, bits: u8, report: &mut Report) -> Option<u8> {
    let written = written.unwrap_or(i64::from(bits));
    let length = u8::try_from(written).ok().filter(|length| (1..=bits).contains(length));
    if length.is_none() {
        let message = format!("invalid aggregation length {written} in {field}: it must be 1 to {bits}");
        report.error("aggregation-length", format!("/spec/{field}"), message);
    }
    length
}

fn local_pref(written: Option<i64>, report: &mut Report) -> Option<u32> {
    let number = written?;
    let local_pref = u32::try_from(number).ok();
    if local_pref.is_none() {
        let message = format!("invalid local preference {number}: it must be 0 to {}", u32::MAX);
        report.error("local-pref", "/spec/localPref", message);
    }
    // 0 is how upstream says "not set".
    local_pref.filter(|number| *number != 0)
}

fn med(written: Option<i64>, report: &mut Report) -> Option<u32> {
    let number = written?;
    let med = u32::try_from(number).ok();
    if med.is_none() {
        report.error("med", "/spec/med", format!("invalid med {number}: it must be 0 to {}", u32::MAX));
    }
    med
}

/// 0 where it is left out or cannot be used.
fn as_path_prepend(written: Option<i64>, report: &mut Report) -> u8 {
    let number = written.unwrap_or(0);
    let times = u8::try_from(number).ok().filter(|times| *times <= PREPEND_MAX);
    if times.is_none() {
        let message = format!("invalid asPathPrepend {number}: it must be 0 to {PREPEND_MAX}");
        report
            .error("as-path-prepend", "/spec/asPathPrepend", message)
            .hint("three are usually enough: few paths are longer than that");
    }
    times.unwrap_or(0)
}

fn extended_communities(written: &[String], report: &mut Report) -> BTreeSet<ExtendedCommunity> {
    names(written, "extendedCommunities", report);
    let mut communities = BTreeSet::new();
    for (position, text) in written.iter().enumerate() {
        match text.parse::<ExtendedCommunity>() {
            Ok(community) => {
                communities.insert(community);
            }
            Err(error) => {
                report
                    .error(
                        "extended-community",
                        format!("/spec/extendedCommunities/{position}"),
                        format!("{error} (in a BGP advertisement)"),
                    )
                    .hint("write rt:65000:100, soo:65000:100, bandwidth:65000:10G, or 0x with 16 digits");
            }
        }
    }
    communities
}

fn communities(written: &[String], aliases: &Aliases<'_>, report: &mut Report) -> BTreeSet<Community> {
    names(written, "communities", report);
    let mut communities = BTreeSet::new();
    for (position, text) in written.iter().enumerate() {
        let pointer = format!("/spec/communities/{position}");
        match (aliases.get(text.as_str()), text.parse::<Community>()) {
            (Some(Alias::Known(community)), _) => {
                communities.insert(*community);
            }
            (Some(Alias::Broken), _) => {}
            (None, Ok(community)) => {
                communities.insert(community);
            }
            (None, Err(error)) => {
                let message = format!("invalid community {text:?} in BGP advertisement: {error}");
                if text.contains(':') {
                    report
                        .error("advertised-community", pointer, message)
                        .hint("write 65000:100 or large:65000:1:2, in decimal numbers");
                    continue;
                }
                let message =
                    format!("invalid community {text:?} in BGP advertisement: no Community defines this name");
                let hint = match api::closest(text, aliases.keys().copied()) {
                    Some(close) => format!("did you mean {close:?}?"),
                    None => "define it in a Community, or write the community itself, such as 65000:100".to_owned(),
                };
                report.error("unknown-community", pointer, message).hint(hint).transient();
            }
        }
    }
    communities
}

fn pool_choice(
    written: &[String],
    selectors: &[LabelSelector],
    context: &Context<'_>,
    report: &mut Report,
) -> PoolChoice {
    let names = names(written, "ipAddressPools", report);
    warn_of_unknown(&names, written, "ipAddressPools", "IPAddressPool", &context.pools, report);
    PoolChoice { names, selectors: selector_list(selectors, "/spec/ipAddressPoolSelectors", report) }
}

/// A list in which nothing may stand twice.
fn names(written: &[String], field: &str, report: &mut Report) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (position, name) in written.iter().enumerate() {
        if !names.insert(name.clone()) {
            report
                .error(
                    "duplicate-name",
                    format!("/spec/{field}/{position}"),
                    format!("duplicate definition of {field}: {name:?} is there twice"),
                )
                .hint("remove one of them");
        }
    }
    names
}

/// Upstream ignores names that do not exist, so this is no error, but never what was meant for long.
fn warn_of_unknown(
    names: &BTreeSet<String>,
    written: &[String],
    field: &str,
    kind: &str,
    known: &BTreeMap<&str, &Key>,
    report: &mut Report,
) {
    for name in names.iter().filter(|name| !known.contains_key(name.as_str())) {
        let position = written.iter().position(|other| other == name).unwrap_or_default();
        let hint = match api::closest(name, known.keys().copied()) {
            Some(close) => format!("did you mean {close:?}?"),
            None => format!("create the {kind}, or remove its name here"),
        };
        report
            .warning("unknown-name", format!("/spec/{field}/{position}"), format!("there is no {kind} {name:?}"))
            .hint(hint)
            .transient();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::Selector;

    #[test]
    fn names_and_selectors_of_pools_add_up_and_none_of_both_means_all() {
        let mut pool = IPAddressPool::default();
        pool.metadata.name = "a".to_owned();
        pool.metadata.labels.insert("tier".to_owned(), "web".to_owned());
        let choice = |names: &[&str], selectors: Vec<Selector>| PoolChoice {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            selectors: SelectorList(selectors),
        };
        assert!(choice(&[], vec![]).includes(&pool));
        assert!(choice(&["a"], vec![]).includes(&pool));
        assert!(!choice(&["b"], vec![]).includes(&pool));
        assert!(choice(&["b"], vec![Selector::label("tier", "web")]).includes(&pool));
        assert!(!choice(&[], vec![Selector::label("tier", "db")]).includes(&pool));
    }
}
