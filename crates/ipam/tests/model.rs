//! The allocator against a model that looks at one address after the other, over any order of requests, claims, releases,
//! pool changes and restarts.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipam::{
    Addresses, Allocator, Backend, Client, Holder, LabelText, Pool, Port, Protocol, Refusal, Sharing, Stack, Want,
};
use kit::{AddrRange, Family};
use proptest::prelude::*;

/// What the pools may look like; one of these is in force at a time.
const POOL_SETS: [&[(&str, &str)]; 6] = [
    &[("a", "10.0.0.0/30 fc00::/127"), ("b", "10.0.0.4-10.0.0.6"), ("c", "fc00::2/127 10.0.0.7/32 no-auto")],
    &[("a", "10.0.0.4-10.0.0.5 10.0.0.0/30"), ("b", "fc00::/126 10.0.0.6/32")],
    &[("renamed", "10.0.0.0/30 fc00::/127"), ("b", "10.0.0.4-10.0.0.6")],
    &[("a", "10.0.0.254-10.0.1.1 10.0.0.0/30 avoid-buggy"), ("b", "fc00::/127 10.0.0.4-10.0.0.6")],
    &[("a", "10.0.0.1/32")],
    &[],
];

fn pools(set: usize) -> Vec<Pool> {
    let pool = |(name, text): &(&str, &str)| Pool {
        name: (*name).into(),
        ranges: text.split(' ').filter_map(|word| AddrRange::parse(word).ok()).collect(),
        auto_assign: !text.contains("no-auto"),
        avoid_buggy_ips: text.contains("avoid-buggy"),
        pinning: None,
    };
    POOL_SETS[set].iter().map(pool).collect()
}

#[derive(Clone, Debug)]
struct Who {
    name: u8,
    key: Option<u8>,
    ports: Vec<u16>,
}

impl Who {
    fn client(&self) -> Arc<Client> {
        let port = |number: &u16| Port { protocol: Protocol::Tcp, number: *number };
        let sharing = |key| Arc::new(Sharing { key: format!("k{key}").into(), backend: Backend::Cluster });
        Arc::new(Client {
            holder: Holder::new("ns", &self.name.to_string()),
            labels: LabelText::default(),
            sharing: self.key.map(sharing),
            ports: self.ports.iter().map(port).collect(),
        })
    }

    fn may_share_with(&self, other: &Who) -> bool {
        self.key.is_some() && self.key == other.key && !self.ports.iter().any(|port| other.ports.contains(port))
    }
}

#[derive(Clone, Debug)]
enum Op {
    Get { who: Who, stack: usize, pool: Option<&'static str>, address: Option<(u8, bool)> },
    Claim { who: Who, address: u8 },
    Extend(u8),
    Release(u8),
    Pools(usize),
    Restart,
}

const STACKS: [Stack; 5] = [
    Stack::Single(Family::V4),
    Stack::Single(Family::V6),
    Stack::Dual,
    Stack::PreferDual { primary: Family::V4 },
    Stack::PreferDual { primary: Family::V6 },
];

/// One of the addresses that some pool set holds, or one behind them.
fn v4(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn v6(number: u8) -> IpAddr {
    format!("fc00::{}", number % 5).parse().unwrap()
}

fn requested(stack: Stack, number: u8, swapped: bool) -> Addresses {
    match stack {
        Stack::Single(Family::V4) => Addresses::one(v4(number)),
        Stack::Single(Family::V6) => Addresses::one(v6(number)),
        _ if swapped => Addresses::pair(v6(number), v4(number)).unwrap(),
        _ => Addresses::pair(v4(number), v6(number)).unwrap(),
    }
}

/// The reference: pools as lists of addresses, holders as a list.
#[derive(Default)]
struct Model {
    /// Name, addresses in order, whether it may be used unasked.
    pools: Vec<(String, Vec<IpAddr>, bool)>,
    held: BTreeMap<u8, (Who, Vec<IpAddr>)>,
}

impl Model {
    fn set_pools(&mut self, set: usize) {
        let addresses = |pool: &Pool| -> Vec<IpAddr> {
            let all = pool.ranges.iter().flat_map(|r| (r.first()..=r.last()).filter_map(|n| r.family().address(n)));
            all.filter(|address| !pool.avoid_buggy_ips || !kit::is_buggy(address)).collect()
        };
        self.pools = pools(set).iter().map(|pool| (pool.name.to_string(), addresses(pool), pool.auto_assign)).collect();
        self.pools.sort();
        let pools = &self.pools;
        self.held.retain(|_, (_, held)| pools.iter().any(|(_, all, _)| held.iter().all(|one| all.contains(one))));
    }

    fn fits(&self, who: &Who, address: IpAddr) -> bool {
        let others = self.held.values().filter(|(other, held)| other.name != who.name && held.contains(&address));
        others.into_iter().all(|(other, _)| who.may_share_with(other))
    }

    fn lowest(&self, who: &Who, pool: &[IpAddr], families: &[Family]) -> Option<Vec<IpAddr>> {
        let first = |family: &Family| {
            pool.iter().copied().find(|address| Family::of(address) == *family && self.fits(who, *address))
        };
        families.iter().map(first).collect()
    }

    fn get(&self, who: &Who, stack: Stack, pool: Option<&str>) -> Option<Vec<IpAddr>> {
        let tries: &[&[Family]] = match stack {
            Stack::Single(Family::V4) => &[&[Family::V4]],
            Stack::Single(Family::V6) => &[&[Family::V6]],
            Stack::Dual => &[&Family::ALL],
            Stack::PreferDual { primary: Family::V4 } => &[&Family::ALL, &[Family::V4], &[Family::V6]],
            Stack::PreferDual { primary: Family::V6 } => &[&Family::ALL, &[Family::V6], &[Family::V4]],
        };
        let mut candidates =
            self.pools.iter().filter(|(name, _, auto)| pool.map_or(*auto, |asked| asked == name)).collect::<Vec<_>>();
        candidates.sort();
        tries.iter().find_map(|families| candidates.iter().find_map(|(_, all, _)| self.lowest(who, all, families)))
    }

    fn get_addresses(&self, who: &Who, wanted: &Addresses, pool: Option<&str>) -> Option<Vec<IpAddr>> {
        let wanted: Vec<IpAddr> = wanted.iter().collect();
        let (name, _, _) = self.pools.iter().find(|(_, all, _)| wanted.iter().all(|one| all.contains(one)))?;
        let fits = pool.is_none_or(|asked| asked == name) && wanted.iter().all(|one| self.fits(who, *one));
        fits.then_some(wanted)
    }
}

fn who() -> impl Strategy<Value = Who> {
    (0..8u8, prop::option::of(0..2u8), prop::sample::subsequence(vec![80, 443, 53], 1..3))
        .prop_map(|(name, key, ports)| Who { name, key, ports })
}

fn op() -> impl Strategy<Value = Op> {
    let pool = prop::option::of(prop::sample::select(vec!["a", "b", "c", "renamed"]));
    prop_oneof![
        8 => (who(), 0..STACKS.len(), pool, prop::option::weighted(0.3, (0..9u8, any::<bool>())))
            .prop_map(|(who, stack, pool, address)| Op::Get { who, stack, pool, address }),
        2 => (who(), 0..9u8).prop_map(|(who, address)| Op::Claim { who, address }),
        2 => (0..8u8).prop_map(Op::Extend),
        3 => (0..8u8).prop_map(Op::Release),
        1 => (0..POOL_SETS.len()).prop_map(Op::Pools),
        1 => Just(Op::Restart),
    ]
}

fn outcome(result: Result<Addresses, Refusal>) -> Option<Vec<IpAddr>> {
    result.ok().map(|addresses| addresses.iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn agrees_with_looking_at_every_address(first in 0..POOL_SETS.len(), ops in prop::collection::vec(op(), 1..60)) {
        let (mut allocator, mut model, mut set) = (Allocator::new(), Model::default(), first);
        allocator.replace(pools(set));
        model.set_pools(set);
        for op in ops {
            match op {
                Op::Get { who, stack, pool, address } => {
                    let stack = STACKS[stack];
                    let wanted = address.map(|(number, swapped)| requested(stack, number, swapped));
                    let want = Want { stack, addresses: wanted.as_ref(), pool, previous: None };
                    let got = outcome(allocator.allocate(&who.client(), &want).map(|grant| grant.addresses));
                    let expected = match &wanted {
                        Some(wanted) => model.get_addresses(&who, wanted, pool),
                        None => model.get(&who, stack, pool),
                    };
                    prop_assert_eq!(&got, &expected);
                    if let Some(addresses) = expected {
                        model.held.insert(who.name, (who, addresses));
                    }
                }
                Op::Claim { who, address } => {
                    let wanted = Addresses::one(v4(address));
                    let got = outcome(allocator.claim(&who.client(), &wanted).map(|grant| grant.addresses));
                    let expected = model.get_addresses(&who, &wanted, None);
                    prop_assert_eq!(&got, &expected);
                    if let Some(addresses) = expected {
                        model.held.insert(who.name, (who, addresses));
                    }
                }
                Op::Extend(name) => {
                    let extended = allocator.extend(&Holder::new("ns", &name.to_string()));
                    let got = extended.and_then(|result| outcome(result.map(|grant| grant.addresses)));
                    let expected = model.held.get(&name).filter(|(_, held)| held.len() == 1).and_then(|(who, held)| {
                        let (_, all, _) = model.pools.iter().find(|(_, all, _)| all.contains(&held[0]))?;
                        let more = model.lowest(who, all, &[Family::of(&held[0]).other()])?;
                        Some(vec![held[0], more[0]])
                    });
                    prop_assert_eq!(&got, &expected);
                    if let (Some((_, held)), Some(addresses)) = (model.held.get_mut(&name), expected) {
                        *held = addresses;
                    }
                }
                Op::Release(name) => {
                    allocator.release(&Holder::new("ns", &name.to_string()));
                    model.held.remove(&name);
                }
                Op::Pools(other) => {
                    set = other;
                    let lost = allocator.replace(pools(set)).uncovered.len();
                    let before = model.held.len();
                    model.set_pools(set);
                    prop_assert_eq!(lost, before - model.held.len());
                }
                Op::Restart => {
                    allocator = Allocator::new();
                    allocator.replace(pools(set));
                    for (who, held) in model.held.values() {
                        let claimed = allocator.claim(&who.client(), &Addresses::from_list(held).unwrap());
                        prop_assert!(claimed.is_ok(), "a restart moved {who:?}: {claimed:?}");
                    }
                }
            }
            allocator.check_invariants();
            for name in 0..8u8 {
                let held = allocator.holding(&Holder::new("ns", &name.to_string())).map(|held| held.addresses.iter().collect());
                prop_assert_eq!(held, model.held.get(&name).map(|(_, held)| held.clone()));
            }
        }
    }
}
