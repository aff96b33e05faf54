//! Who is at which address: the part of a pool that belongs to one family.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kit::{Family, IntervalSet};

use crate::layout::Layout;
use crate::{Holder, Pool, Sharing};

/// The addresses of one family of a pool, with who uses them.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    pub(crate) layout: Layout,
    /// Positions in use, as intervals: the gaps are what is free.
    used: IntervalSet,
    /// The same positions, with their users.
    uses: BTreeMap<u128, Use>,
}

/// An address in use.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    /// With whom its users share it; `None` when there can be only one.
    pub(crate) sharing: Option<Arc<Sharing>>,
    users: Users,
}

/// The users of an address; nearly always one.
#[derive(Clone, Debug)]
enum Users {
    One(Holder),
    #[expect(clippy::box_collection, reason = "an address in use then takes a sixth less memory")]
    Many(Box<BTreeSet<Holder>>),
}

impl Space {
    pub(crate) fn new(family: Family, pool: &Pool) -> Self {
        Space {
            layout: Layout::new(family, &pool.ranges, pool.avoid_buggy_ips),
            used: IntervalSet::new(),
            uses: BTreeMap::new(),
        }
    }

    /// The lowest position that nobody uses.
    pub(crate) fn first_free(&self) -> Option<u128> {
        self.used.first_gap(0, self.layout.last_position()?)
    }

    /// How many addresses are in use.
    pub(crate) fn in_use(&self) -> usize {
        self.uses.len()
    }

    /// Who uses the address at a position.
    pub(crate) fn use_at(&self, position: u128) -> Option<&Use> {
        self.uses.get(&position)
    }

    /// Every address in use, by position.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (u128, &Use)> {
        self.uses.iter().map(|(position, used)| (*position, used))
    }

    /// Adds a user; true when it is the first one there.
    pub(crate) fn enter(&mut self, position: u128, holder: Holder, sharing: Option<&Arc<Sharing>>) -> bool {
        if let Some(used) = self.uses.get_mut(&position) {
            used.users.add(holder);
            return false;
        }
        self.used.insert(position, position);
        self.uses.insert(position, Use { sharing: sharing.cloned(), users: Users::One(holder) });
        true
    }

    /// Removes a user; true when it was the last one there.
    pub(crate) fn leave(&mut self, position: u128, holder: &Holder) -> bool {
        let Some(used) = self.uses.get_mut(&position) else { return false };
        if !used.users.remove(holder) {
            return false;
        }
        self.uses.remove(&position);
        self.used.remove(position, position);
        true
    }

    /// Checks that both views of what is in use agree. Costs O(n).
    pub(crate) fn check_invariants(&self) {
        let mut used = IntervalSet::new();
        for (position, at) in &self.uses {
            used.insert(*position, *position);
            assert!(self.layout.address(*position).is_some(), "position {position} is in use but has no address");
            assert!(at.sharing.is_some() || at.users.len() == 1, "position {position} is shared without a key");
        }
        assert_eq!(used, self.used, "the free positions are not those without users");
    }
}

impl Use {
    /// Its users, by name.
    pub(crate) fn users(&self) -> impl Iterator<Item = &Holder> {
        let (one, many) = match &self.users {
            Users::One(holder) => (Some(holder), None),
            Users::Many(holders) => (None, Some(holders.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

impl Users {
    fn len(&self) -> usize {
        match self {
            Users::One(_) => 1,
            Users::Many(holders) => holders.len(),
        }
    }

    fn add(&mut self, holder: Holder) {
        match self {
            Users::One(first) => *self = Users::Many(Box::new([first.clone(), holder].into())),
            Users::Many(holders) => {
                holders.insert(holder);
            }
        }
    }

    /// Removes a user; true when nobody is left.
    fn remove(&mut self, holder: &Holder) -> bool {
        match self {
            Users::One(only) => only == holder,
            Users::Many(holders) => {
                holders.remove(holder);
                holders.is_empty()
            }
        }
    }
}
