//! What the controller may mean a Service to have: contract section 3, read anew and as plainly as possible.
//!
//! Nothing here chooses an address. It judges what was chosen: whether a Service may have it, beside all others, and
//! whether it had to give up what it had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::Key;
use api::core::Service;
use config::{Config, Pool};
use kit::{Family, Labels};

use crate::violation::{Invariant, Violation, hold};

/// What a Service has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Which Service of its name.
    pub uid: String,
    /// The addresses, in order.
    pub addresses: Vec<IpAddr>,
    /// The pool they are from.
    pub pool: String,
}

/// What each Service has; those that have nothing are not there.
pub type Books = BTreeMap<Key, Assigned>;

/// What a controller was told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// All Services.
    pub services: &'a BTreeMap<Key, Service>,
    /// The labels of all namespaces.
    pub namespaces: &'a BTreeMap<String, Labels>,
    /// The configuration in force.
    pub config: &'a Config,
    /// The load balancer class that is served; `None` for Services without one.
    pub class: Option<&'a str>,
}

/// The families that a Service needs (contract 2.3, 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    One(Family),
    Both,
    /// Both if they can be had, else one.
    PreferBoth,
}

impl Need {
    fn of(service: &Service) -> Option<Need> {
        let spec = &service.spec;
        let single: Vec<String> = spec.cluster_ip.iter().cloned().collect();
        let texts = if spec.cluster_ips.is_empty() { &single } else { &spec.cluster_ips };
        let addresses: Option<Vec<IpAddr>> = texts.iter().map(|text| text.parse().ok()).collect();
        let families: Vec<Family> = addresses?.iter().map(Family::of).collect();
        let policy = spec.ip_family_policy.as_deref();
        match families.as_slice() {
            [_] if policy == Some("RequireDualStack") => None,
            [one] => Some(Need::One(*one)),
            [one, other] if one == other => None,
            [_, _] if policy == Some("PreferDualStack") => Some(Need::PreferBoth),
            [_, _] => Some(Need::Both),
            _ => None,
        }
    }

    fn allows(self, addresses: &[IpAddr]) -> bool {
        let families: BTreeSet<Family> = addresses.iter().map(Family::of).collect();
        let are_distinct = families.len() == addresses.len() && !addresses.is_empty();
        are_distinct
            && match self {
                Need::One(family) => families == BTreeSet::from([family]),
                Need::Both => families.len() == 2,
                Need::PreferBoth => true,
            }
    }
}

/// True when the Service is one that gets addresses here.
pub(crate) fn is_served(service: &Service, class: Option<&str>) -> bool {
    service.spec.type_.as_deref() == Some("LoadBalancer") && service.spec.load_balancer_class.as_deref() == class
}

/// What must agree for two Services to share an address: the key, and where traffic goes (contract 3.4).
fn sharing(service: &Service) -> Option<(&str, Option<String>)> {
    let key = service.annotation(api::ALLOW_SHARED_IP).filter(|key| !key.is_empty())?;
    let is_local = service.spec.external_traffic_policy.as_deref() == Some("Local");
    let selector = || service.spec.selector.iter().map(|(key, value)| format!("{key}={value}"));
    Some((key, is_local.then(|| selector().collect::<Vec<_>>().join(","))))
}

fn ports(service: &Service) -> BTreeSet<(&str, i32)> {
    service.spec.ports.iter().map(|port| (port.protocol.as_deref().unwrap_or("TCP"), port.port)).collect()
}

fn may_share(one: &Service, other: &Service) -> bool {
    let (here, there) = (sharing(one), sharing(other));
    here.is_some() && here == there && ports(one).is_disjoint(&ports(other))
}

/// Why a Service may not have these addresses, from what is configured alone; else the pool that they are from.
fn pool_for<'a>(told: &Told<'a>, service: &Service, addresses: &[IpAddr]) -> Result<&'a Pool, String> {
    let mut pools = told.config.pools.values();
    let pool = pools.find(|pool| addresses.iter().all(|address| pool.contains(address)));
    let pool = pool.ok_or_else(|| "no pool has all of them".to_owned())?;
    if pool.avoid_buggy_ips && addresses.iter().any(kit::is_buggy) {
        return Err(format!("pool {} leaves out .0 and .255", pool.name));
    }
    let Some(allocation) = &pool.allocation else { return Ok(pool) };
    let namespace = &service.metadata.namespace;
    let is_open = allocation.namespaces.is_empty() && allocation.namespace_selectors.is_empty();
    let is_selected =
        || told.namespaces.get(namespace).is_some_and(|labels| allocation.namespace_selectors.any_matches(labels));
    if !is_open && !allocation.namespaces.contains(namespace) && !is_selected() {
        return Err(format!("pool {} does not accept namespace {namespace}", pool.name));
    }
    if !allocation.service_selectors.matches(&service.metadata.labels) {
        return Err(format!("pool {} does not accept the labels", pool.name));
    }
    Ok(pool)
}

/// Checks that every Service may have what it has.
pub fn check(told: &Told<'_>, books: &Books) -> Result<(), Violation> {
    let mut users: BTreeMap<IpAddr, Vec<&Key>> = BTreeMap::new();
    for (key, assigned) in books {
        let accepted = |condition, why: &str| {
            let detail = || format!("{key} has {:?} of pool {}: {why}", assigned.addresses, assigned.pool);
            hold(condition, Invariant::PoolAcceptsTheService, detail)
        };
        let Some(service) = told.services.get(key) else { return accepted(false, "there is no such Service") };
        accepted(is_served(service, told.class), "it is not served")?;
        let need = Need::of(service);
        accepted(need.is_some_and(|need| need.allows(&assigned.addresses)), "it needs other families")?;
        match pool_for(told, service, &assigned.addresses) {
            Ok(pool) => accepted(pool.name == assigned.pool, "they are of another pool")?,
            Err(why) => accepted(false, &why)?,
        }
        for address in &assigned.addresses {
            let beside = users.entry(*address).or_default();
            for other in &*beside {
                let may = told.services.get(*other).is_some_and(|other| may_share(service, other));
                hold(may, Invariant::AddressIsNotGivenTwice, || format!("{address} is given to {other} and {key}"))?;
            }
            beside.push(key);
        }
    }
    Ok(())
}

/// Checks that nobody gave up addresses that were still valid, unless for what it wished. Of two addresses of which one
/// is valid no more, the other one stays, unless both are given up for two of another pool.
///
/// The subjects are the Services that were changed meanwhile: of two that can no longer share, the one that changed has
/// to go. Where several changed, nobody knows what was in between, so of these nothing is said.
pub fn check_moves(told: &Told<'_>, before: &Books, after: &Books, subjects: &[Key]) -> Result<(), Violation> {
    for (key, had) in before {
        let same = |service: &&Service| service.metadata.uid == had.uid && is_served(service, told.class);
        let Some(service) = told.services.get(key).filter(same) else { continue };
        let has = after.get(key);
        let is_unclear = subjects.len() > 1 && subjects.contains(key);
        if is_unclear || has.is_some_and(|has| has.addresses.starts_with(&had.addresses)) {
            continue;
        }
        let others: Books = before
            .iter()
            .filter(|(other, _)| *other != key && !subjects.contains(*other))
            .map(|(other, assigned)| (other.clone(), assigned.clone()))
            .collect();
        let Some(must_stay) = still_valid(told, service, had, &others) else { continue };
        let is_whole = must_stay.len() == had.addresses.len();
        let stays = had.addresses.iter().any(|address| has.is_some_and(|has| has.addresses.contains(address)));
        let is_pair_elsewhere = !is_whole && has.is_some_and(|has| has.addresses.len() > must_stay.len());
        // Pools may have been renamed: what counts is where its addresses are now.
        let pool = pool_for(told, service, &must_stay).map(|pool| pool.name.clone()).unwrap_or_default();
        let stayed = Assigned { uid: had.uid.clone(), addresses: must_stay.clone(), pool };
        let got_its_wish = has.is_some_and(|has| is_wish(service, has) && !is_wish(service, &stayed));
        hold((stays && !is_whole) || is_pair_elsewhere || got_its_wish, Invariant::ValidAddressStays, || {
            let has = has.map(|has| &has.addresses);
            format!(
                "{key} had {:?}, could keep {must_stay:?}, and has {has:?} after news of {subjects:?}",
                had.addresses
            )
        })?;
    }
    Ok(())
}

/// What a Service may keep of what it had, beside the others: all of it, or else the first address that will do alone.
fn still_valid(told: &Told<'_>, service: &Service, had: &Assigned, others: &Books) -> Option<Vec<IpAddr>> {
    let need = Need::of(service)?;
    let is_valid = |addresses: &[IpAddr]| {
        let meets = |assigned: &Assigned| assigned.addresses.iter().any(|address| addresses.contains(address));
        let shares = |other: &Key| told.services.get(other).is_none_or(|other| may_share(service, other));
        need.allows(addresses)
            && pool_for(told, service, addresses).is_ok()
            && others.iter().all(|(other, assigned)| !meets(assigned) || shares(other))
    };
    if is_valid(&had.addresses) {
        return Some(had.addresses.clone());
    }
    had.addresses.iter().map(|address| vec![*address]).find(|alone| is_valid(alone))
}

/// True when this is what the Service asks for by address or by pool.
fn is_wish(service: &Service, assigned: &Assigned) -> bool {
    let list = service.annotation(api::LOAD_BALANCER_IPS).filter(|list| !list.is_empty());
    let one = service.spec.load_balancer_ip.as_deref();
    let wished: BTreeSet<IpAddr> =
        list.or(one).into_iter().flat_map(|list| list.split(',')).filter_map(|text| text.trim().parse().ok()).collect();
    let pool = service.annotation(api::ADDRESS_POOL).filter(|pool| !pool.is_empty());
    let has: BTreeSet<IpAddr> = assigned.addresses.iter().copied().collect();
    if wished.is_empty() { pool == Some(&*assigned.pool) } else { wished == has }
}
