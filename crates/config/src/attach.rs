//! The rules that span kinds: advertisements meet pools, peers and each other (contract 4.2 rules 31, 33 and 34).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Key, Kind, ObjectRef};
use kit::{Family, RemoteAs};

use crate::advertisements::PoolChoice;
use crate::finding::{Finding, Report};
use crate::validate::Context;
use crate::{BgpAdvertisement, L2Advertisement, Peer, Pool};

/// An advertisement that could be read, and the pools it is for.
pub(crate) type Read<T> = BTreeMap<Key, (PoolChoice, Arc<T>)>;

/// Gives each pool its advertisements.
pub(crate) fn attach(
    pools: &mut BTreeMap<Key, Pool>,
    l2: &Read<L2Advertisement>,
    bgp: &Read<BgpAdvertisement>,
    context: &Context<'_>,
) {
    for (choice, advertisement) in l2.values() {
        for key in choice.pools(context) {
            if let Some(pool) = pools.get_mut(key) {
                pool.l2_advertisements.insert(advertisement.name.clone(), Arc::clone(advertisement));
            }
        }
    }
    for (choice, advertisement) in bgp.values() {
        for key in choice.pools(context) {
            if let Some(pool) = pools.get_mut(key) {
                pool.bgp_advertisements.insert(advertisement.name.clone(), Arc::clone(advertisement));
            }
        }
    }
}

/// Runs the rules over pools that have their advertisements.
pub(crate) fn check(
    pools: &BTreeMap<Key, Pool>,
    bgp: &Read<BgpAdvertisement>,
    peers: &BTreeMap<Key, Peer>,
    context: &Context<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, (choice, advertisement)) in bgp {
        let chosen: Vec<(&Key, &Pool)> =
            choice.pools(context).into_iter().filter_map(|key| pools.get_key_value(key)).collect();
        let mut report = Report::new(ObjectRef { kind: Kind::BGPAdvertisement, key: key.clone() });
        aggregation(advertisement, &chosen, context, &mut report);
        local_preferences(advertisement, &chosen, context, &mut report);
        without_effect(advertisement, peers, &mut report);
        different_preferences(advertisement, &chosen, context, &mut report);
        findings.extend(report.into_findings());
    }
    findings.extend(echo(pools, peers));
    findings
}

/// Rule 31: a route must not cover more than an entry of a pool does. One finding for each family.
fn aggregation(advertisement: &BgpAdvertisement, pools: &[(&Key, &Pool)], context: &Context<'_>, report: &mut Report) {
    let mut told = BTreeSet::new();
    for (key, pool) in pools {
        let texts = context.objects.pools.get(*key).map(|pool| pool.spec.addresses.as_slice()).unwrap_or_default();
        // Where an entry could not be read, positions do not match; it is an error anyway.
        if texts.len() != pool.ranges.len() {
            continue;
        }
        for (range, text) in pool.ranges.iter().zip(texts) {
            let length = advertisement.aggregation_length_of(range.family());
            if length == range.family().bits() || told.contains(&range.family()) {
                continue;
            }
            let shortest = range.prefixes().iter().map(ipnet::IpNet::prefix_len).min().unwrap_or_default();
            if length < shortest {
                told.insert(range.family());
                let field = match range.family() {
                    Family::V4 => "aggregationLength",
                    Family::V6 => "aggregationLengthV6",
                };
                let message = format!(
                    "invalid aggregation length {length}: prefix {shortest} in this pool is more specific than the \
                     aggregation length for addresses {text} (pool {:?})",
                    pool.name
                );
                report.error("aggregation-too-short", format!("/spec/{field}"), message).hint(format!(
                    "use {shortest} or more, or select other pools: one route would attract addresses that are \
                         not in the pool"
                ));
            }
        }
    }
}

/// Rule 33: one route cannot have two local preferences. Told at the later of the two, by name.
fn local_preferences(
    advertisement: &BgpAdvertisement,
    pools: &[(&Key, &Pool)],
    context: &Context<'_>,
    report: &mut Report,
) {
    if !advertisement.service_selectors.is_empty() {
        return;
    }
    for (_, pool) in pools {
        let earlier = pool.bgp_advertisements.range::<String, _>(..advertisement.name.clone()).map(|(_, other)| other);
        let clash = earlier
            .filter(|other| other.service_selectors.is_empty() && advertisement.clashes_with(other, pool))
            .find(|other| {
                context
                    .nodes()
                    .any(|labels| advertisement.node_selectors.matches(labels) && other.node_selectors.matches(labels))
            });
        if let Some(other) = clash {
            let shown = |local_pref: Option<u32>| local_pref.unwrap_or(0);
            let message = format!(
                "invalid local preference {}: BGPAdvertisement {:?} announces pool {:?} to the same peer from the same \
                 node with {}",
                shown(advertisement.local_pref),
                other.name,
                pool.name,
                shown(other.local_pref)
            );
            report
                .error("local-pref-clash", "/spec/localPref", message)
                .hint("give both the same localPref, or other peers, nodes or aggregation lengths");
            return;
        }
    }
}

/// External sessions never carry a local preference (RFC 4271 section 5.1.5), internal ones never a path (5.1.2).
fn without_effect(advertisement: &BgpAdvertisement, peers: &BTreeMap<Key, Peer>, report: &mut Report) {
    let addressed: Vec<&Peer> = peers
        .values()
        .filter(|peer| advertisement.peers.is_empty() || advertisement.peers.contains(&peer.name))
        .collect();
    if addressed.is_empty() {
        return;
    }
    let is_external = |peer: &&Peer| match peer.remote_as {
        RemoteAs::Exactly(asn) => asn != peer.my_asn,
        RemoteAs::External => true,
        RemoteAs::Internal => false,
    };
    if advertisement.local_pref.is_some() && addressed.iter().all(is_external) {
        report
            .warning(
                "local-pref-external",
                "/spec/localPref",
                "localPref has no effect: all peers of this advertisement are external",
            )
            .hint("to be preferred by routers of another AS, use med, asPathPrepend or communities that they honour");
    }
    if advertisement.as_path_prepend > 0 && !addressed.iter().any(is_external) {
        report
            .warning(
                "as-path-prepend-internal",
                "/spec/asPathPrepend",
                "asPathPrepend has no effect: all peers of this advertisement are internal",
            )
            .hint("to be preferred by routers of the same AS, use localPref");
    }
}

/// Two advertisements of one route that want another `med` or `asPathPrepend`: the more preferred one counts, which is
/// perhaps not what was meant. Told at the later of the two, by name.
fn different_preferences(
    advertisement: &BgpAdvertisement,
    pools: &[(&Key, &Pool)],
    context: &Context<'_>,
    report: &mut Report,
) {
    let differs = |other: &BgpAdvertisement| {
        (advertisement.med, advertisement.as_path_prepend) != (other.med, other.as_path_prepend)
    };
    let meets = |other: &BgpAdvertisement| {
        let both = |labels| advertisement.node_selectors.matches(labels) && other.node_selectors.matches(labels);
        other.service_selectors.is_empty() && context.nodes().any(both)
    };
    if !advertisement.service_selectors.is_empty() {
        return;
    }
    for (_, pool) in pools {
        let earlier = pool.bgp_advertisements.range::<String, _>(..advertisement.name.clone()).map(|(_, other)| other);
        let mut same_routes = earlier.filter(|other| advertisement.shares_a_route_with(other, pool));
        let Some(other) = same_routes.find(|other| differs(other) && meets(other)) else { continue };
        let (field, value) =
            if advertisement.med == other.med { ("asPathPrepend", "lower") } else { ("med", "lower, or the only") };
        let message = format!(
            "BGPAdvertisement {:?} announces pool {:?} to the same peer from the same node with another {field}: the \
             {value} one counts",
            other.name, pool.name
        );
        report
            .warning("preference-clash", format!("/spec/{field}"), message)
            .hint(format!("give both the same {field}, or other peers, nodes or aggregation lengths"));
        return;
    }
}

/// Rule 34: BFD echo does not go with IPv6 addresses.
fn echo(pools: &BTreeMap<Key, Pool>, peers: &BTreeMap<Key, Peer>) -> Vec<Finding> {
    let has_echo = |peer: &Peer| peer.bfd.as_ref().is_some_and(|bfd| bfd.profile.echo_mode);
    let mut findings = Vec::new();
    for (key, peer) in peers.iter().filter(|(_, peer)| has_echo(peer)) {
        let announced = pools.values().filter(|pool| pool.has_family(Family::V6)).find_map(|pool| {
            let mut advertisements = pool.bgp_advertisements.values();
            let reaches = |advertisement: &&Arc<BgpAdvertisement>| {
                advertisement.peers.is_empty() || advertisement.peers.contains(&peer.name)
            };
            advertisements.find(reaches).map(|advertisement| (pool, advertisement))
        });
        if let Some((pool, advertisement)) = announced {
            let message = format!(
                "pool {:?} has IPv6 addresses and BGPAdvertisement {:?} towards peer {:?} which has bfd echo enabled",
                pool.name, advertisement.name, peer.name
            );
            let mut report = Report::new(ObjectRef { kind: Kind::BGPPeer, key: key.clone() });
            report
                .error("bfd-echo-ipv6", "/spec/bfdProfile", message)
                .hint("use a profile without echoMode, or name other peers in the advertisement");
            findings.extend(report.into_findings());
        }
    }
    findings
}
