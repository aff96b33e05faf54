//! What must hold after every operation, checked by recounting. For tests and the simulator.

use std::collections::{BTreeMap, BTreeSet};

use kit::Family;

use crate::allocator::{Allocator, PoolState};
use crate::pool::Automatic;
use crate::space::Use;
use crate::{Families, Holder, PoolName, Port};

/// The users of each address, by pool, family and position.
type Users = BTreeMap<(PoolName, Family, u128), BTreeSet<Holder>>;

impl Allocator {
    /// Checks that no address has two users that may not share it, that every held address is one of its pool's, and
    /// that all counters and indexes equal a recount. Costs O(n).
    ///
    /// # Panics
    ///
    /// If one of that does not hold.
    pub fn check_invariants(&self) {
        let mut users = self.recount();
        for (name, state) in &self.pools {
            self.check_pool(name, state, &mut users);
        }
        assert!(users.is_empty(), "addresses are held in pools that are gone: {users:?}");
        self.seats.check_invariants();
        for (group, place, taken) in self.seats.taken() {
            let users = self.use_at(place, group.family).into_iter().flat_map(Use::users);
            let ports: BTreeSet<Port> =
                users.filter_map(|user| self.holdings.get(user)).flat_map(|held| held.client.ports.iter()).collect();
            assert_eq!(ports, *taken, "ports taken at {place:?}");
        }
    }

    /// Who uses what, from the holdings alone.
    fn recount(&self) -> Users {
        let mut users = Users::new();
        for (holder, held) in &self.holdings {
            assert_eq!(*holder, held.client.holder, "a holding is filed under another name");
            for address in held.addresses.iter() {
                let family = Family::of(&address);
                let place = self.place(&address).ok();
                assert!(place.is_some(), "{holder} holds {address} of no pool");
                let Some(place) = place else { continue };
                assert_eq!(place.pool, held.pool, "{holder} holds {address} of another pool");
                let sharing = self.use_at(&place, family).map(|at| at.sharing.as_ref());
                assert_eq!(sharing, Some(held.client.sharing.as_ref()), "{holder} holds {address} as someone else");
                let beside = users.entry((place.pool, family, place.position)).or_default();
                for other in beside.iter().filter_map(|other| self.holdings.get(other)) {
                    let clash = held.client.ports.iter().find(|port| other.client.ports.contains(*port));
                    assert_eq!(clash, None, "{holder} and {} share {address}", other.client.holder);
                }
                beside.insert(holder.clone());
            }
        }
        users
    }

    fn check_pool(&self, name: &PoolName, state: &PoolState, users: &mut Users) {
        for (family, space) in [(Family::V4, &state.v4), (Family::V6, &state.v6)] {
            space.check_invariants();
            for (position, at) in space.uses() {
                let expected = users.remove(&(name.clone(), family, position));
                assert_eq!(Some(at.users().cloned().collect()), expected, "users of position {position} in {name}");
            }
        }
        let services = self.holdings.values().filter(|held| held.pool == *name).count();
        assert_eq!(state.services, services, "Services of pool {name}");
        for families in Families::ALL {
            let expected = state.pool.automatic() == Automatic::Open && state.has_room(families);
            let listed = self.with_room.contains(&(families, name.clone()));
            assert_eq!(listed, expected, "whether {name} has room for {families}");
        }
    }
}
