//! What happens to the holders of addresses when the set of pools changes (contract 3.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::allocator::{Allocator, Holding, PoolState, Room};
use crate::{Addresses, Holder, Pool, PoolName};

/// What a new set of pools changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// The pools that are new, gone or different.
    pub changed: BTreeSet<PoolName>,
    /// The Services whose addresses no pool holds any more, with those addresses. They have nothing now.
    pub uncovered: Vec<(Holder, Addresses)>,
    /// The Services whose addresses are in a pool of another name now.
    pub moved: Vec<Holder>,
}

impl Allocator {
    /// Puts a new set of pools in force. Costs as much as the sets are long, plus what is held in pools whose addresses
    /// changed.
    ///
    /// A Service keeps its addresses wherever one pool still holds them all, under whatever name. Whether a changed pool
    /// still accepts the Services in it ([`Allocator::holders`]) is for the next [`Allocator::claim`] to say.
    pub fn replace(&mut self, pools: Vec<Pool>) -> Replaced {
        let new: BTreeMap<PoolName, Pool> = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
        let gone: Vec<PoolName> = self.pools.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        let mut changed = BTreeSet::new();
        let mut displaced = Vec::new();
        for name in gone {
            displaced.extend(self.vacate(&name));
            self.pools.remove(&name);
            changed.insert(name);
        }
        for (name, pool) in new {
            match self.pools.get_mut(&name) {
                Some(state) if state.pool == pool => continue,
                Some(state) if has_same_addresses(&state.pool, &pool) => state.pool = pool,
                Some(_) | None => {
                    displaced.extend(self.vacate(&name));
                    self.pools.insert(name.clone(), PoolState::new(pool));
                }
            }
            changed.insert(name);
        }
        self.reindex(&changed);
        let mut replaced = Replaced { changed, ..Replaced::default() };
        for held in displaced {
            self.settle(held, &mut replaced);
        }
        replaced
    }

    /// Detaches everyone who has addresses of the pool.
    fn vacate(&mut self, pool: &str) -> Vec<Holding> {
        self.holders(pool).iter().filter_map(|holder| self.detach(holder)).collect()
    }

    /// Gives a Service back the addresses it had, if one pool holds them all.
    fn settle(&mut self, held: Holding, replaced: &mut Replaced) {
        let mut pools = held.addresses.iter().map(|address| self.place(&address).ok().map(|place| place.pool));
        let first = pools.next().flatten().filter(|first| pools.all(|pool| pool.as_ref() == Some(first)));
        match first {
            Some(pool) => {
                if pool != held.pool {
                    replaced.moved.push(held.client.holder.clone());
                }
                self.attach(held.client, pool, held.addresses);
            }
            None => replaced.uncovered.push((held.client.holder.clone(), held.addresses)),
        }
    }

    /// Brings everything that is derived from the set of pools up to date.
    fn reindex(&mut self, changed: &BTreeSet<PoolName>) {
        let mut states: Vec<&PoolState> = self.pools.values().collect();
        states.sort_by(|a, b| a.pool.trial_order(&b.pool));
        self.order = states.iter().map(|state| state.pool.name.clone()).collect();
        let bounds = |state: &PoolState| -> Vec<(IpAddr, (IpAddr, PoolName))> {
            let name = &state.pool.name;
            state.pool.ranges.iter().map(|r| (r.first_address(), (r.last_address(), name.clone()))).collect()
        };
        self.ranges = states.into_iter().flat_map(bounds).collect();
        self.pinned.clear();
        self.with_room.retain(|(_, name)| !changed.contains(name));
        for name in changed {
            if let Some(state) = self.pools.get_mut(name) {
                state.room = Room::default();
            }
            self.note_usage(name);
        }
    }
}

/// True when both pools have the same usable addresses in the same order, so that nothing has to be laid out anew.
fn has_same_addresses(old: &Pool, new: &Pool) -> bool {
    old.ranges == new.ranges && old.avoid_buggy_ips == new.avoid_buggy_ips
}
