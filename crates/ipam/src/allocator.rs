//! The allocator's state and what changes it: who holds which addresses of which pools.
//!
//! Every change goes through [`Allocator::attach`] and [`Allocator::detach`], so that all indexes stay in step. How an
//! address is chosen is in `search.rs`; how the set of pools changes is in `replace.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kit::{Family, Labels};

use crate::pool::Automatic;
use crate::seats::{Group, Place, Seats};
use crate::space::{Space, Use};
use crate::{Addresses, Client, Families, Holder, NotAccepted, Pool, PoolName, Ports, Refusal, Sharing, Want};

/// Pools and who holds which of their addresses.
///
/// Giving out, claiming and giving back an address cost O(log n), whatever the size of the pools, how full they are, and
/// how many Services share.
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    pub(crate) pools: BTreeMap<PoolName, PoolState>,
    /// All pools in the order in which they are tried.
    pub(crate) order: Vec<PoolName>,
    /// The first address of each range, with its last one and its pool.
    pub(crate) ranges: BTreeMap<IpAddr, (IpAddr, PoolName)>,
    /// The pools that are open to everyone and have a free address of these families.
    pub(crate) with_room: BTreeSet<(Families, PoolName)>,
    /// The pools that are meant for some and accept this namespace, in order; filled when first asked for.
    pub(crate) pinned: BTreeMap<Box<str>, Arc<[PoolName]>>,
    pub(crate) namespaces: BTreeMap<String, Labels>,
    pub(crate) holdings: BTreeMap<Holder, Holding>,
    pub(crate) seats: Seats,
    pub(crate) touched: BTreeSet<PoolName>,
}

/// A pool and what is in use of it.
#[derive(Clone, Debug)]
pub(crate) struct PoolState {
    pub(crate) pool: Pool,
    pub(crate) v4: Space,
    pub(crate) v6: Space,
    pub(crate) services: usize,
    /// What [`Allocator::with_room`] says about it.
    pub(crate) room: Room,
}

/// Whether a pool that is open to everyone has a free address of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    v4: bool,
    v6: bool,
}

impl Room {
    fn has(self, families: Families) -> bool {
        match families {
            Families::V4 => self.v4,
            Families::V6 => self.v6,
            Families::Both => self.v4 && self.v6,
        }
    }
}

/// What a Service has.
#[derive(Clone, Debug)]
pub struct Holding {
    /// The Service, as it was when it got or last claimed its addresses.
    pub client: Arc<Client>,
    /// The pool of its addresses.
    pub pool: PoolName,
    /// Its addresses.
    pub addresses: Addresses,
}

/// Addresses were given.
#[derive(Debug)]
pub struct Grant {
    /// The pool they are from.
    pub pool: PoolName,
    /// The addresses.
    pub addresses: Addresses,
    /// What others may have now.
    pub vacancies: Vec<Vacancy>,
}

/// Something that another Service may have now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vacancy {
    /// Nobody uses the address any more.
    Address {
        /// The pool.
        pool: PoolName,
        /// The address.
        address: IpAddr,
    },
    /// The address can be shared as it could not be before: ports on it were given up, it has another sharing identity,
    /// or it has just come into use.
    Seats {
        /// The address.
        address: IpAddr,
        /// With whom it can be shared.
        sharing: Arc<Sharing>,
    },
}

/// For whom a pool is when nobody asks for it by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// For every Service.
    Everyone,
    /// For the Services it accepts.
    Accepted,
    /// For none.
    Nobody,
}

/// How full a pool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// The pool.
    pub name: PoolName,
    /// IPv4 addresses that can be given out.
    pub usable_ipv4: u128,
    /// IPv6 addresses that can be given out; `u128::MAX` where contract 3.5 counts no further.
    pub usable_ipv6: u128,
    /// Distinct IPv4 addresses in use.
    pub in_use_ipv4: usize,
    /// Distinct IPv6 addresses in use.
    pub in_use_ipv6: usize,
    /// Services that hold addresses.
    pub services: usize,
}

impl Allocator {
    /// An allocator without pools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the Service what it wants. What it has until then counts as free and is given up in exchange; if it is
    /// refused, it keeps what it has.
    pub fn allocate(&mut self, client: &Arc<Client>, want: &Want<'_>) -> Result<Grant, Refusal> {
        self.remember_pinned(client.namespace());
        let old = self.detach(&client.holder);
        match self.search(client, want) {
            Ok((pool, addresses)) => {
                self.attach(client.clone(), pool.clone(), addresses);
                let vacancies = self.vacancies(old.as_ref(), &client.holder);
                Ok(Grant { pool, addresses, vacancies })
            }
            Err(refusal) => {
                self.reattach(old);
                Err(refusal)
            }
        }
    }

    /// Confirms that the Service, as it is now, may have exactly these addresses, and records it. This is how existing
    /// assignments survive a restart and a change of the Service (contract 3.1, 3.2 step 7). If it is refused, nothing
    /// changes.
    pub fn claim(&mut self, client: &Arc<Client>, addresses: &Addresses) -> Result<Grant, Refusal> {
        if let Some(held) = self.holdings.get(&client.holder)
            && held.addresses == *addresses
            && (Arc::ptr_eq(&held.client, client) || held.client == *client)
        {
            self.check_accepted(&held.pool, client)?;
            return Ok(Grant { pool: held.pool.clone(), addresses: *addresses, vacancies: Vec::new() });
        }
        let old = self.detach(&client.holder);
        match self.check_addresses(client, addresses) {
            Ok(pool) => {
                self.attach(client.clone(), pool.clone(), *addresses);
                let vacancies = self.vacancies(old.as_ref(), &client.holder);
                Ok(Grant { pool, addresses: *addresses, vacancies })
            }
            Err(refusal) => {
                self.reattach(old);
                Err(refusal)
            }
        }
    }

    /// Gives a Service that has one address a second one of the other family, from the same pool and after the first
    /// (contract 3.2 step 11). `None` if it does not have exactly one.
    pub fn extend(&mut self, holder: &Holder) -> Option<Result<Grant, Refusal>> {
        let held = self.holdings.get(holder).filter(|held| held.addresses.second().is_none())?.clone();
        let first = held.addresses.first();
        let missing = Families::from(Family::of(&first).other());
        let offer = self.pools.get(&held.pool).map(|state| self.offer(state, &held.client, missing));
        Some(match offer? {
            Ok(more) => {
                let addresses = Addresses::pair(first, more.first())?;
                let old = self.detach(holder);
                self.attach(held.client, held.pool.clone(), addresses);
                Ok(Grant { pool: held.pool, addresses, vacancies: self.vacancies(old.as_ref(), holder) })
            }
            Err(because) => Err(Refusal::NoneAvailableIn { pool: held.pool, families: missing, because }),
        })
    }

    /// Takes away what the Service has; it need not have anything.
    pub fn release(&mut self, holder: &Holder) -> Vec<Vacancy> {
        let old = self.detach(holder);
        self.vacancies(old.as_ref(), holder)
    }

    /// Records a namespace and its labels. True when some pool chooses namespaces by label and these are new, so that
    /// the Services of the namespace have to be looked at again.
    pub fn set_namespace(&mut self, name: &str, labels: Labels) -> bool {
        if self.namespaces.get(name) == Some(&labels) {
            return false;
        }
        self.namespaces.insert(name.to_owned(), labels);
        self.forget_pinned(name)
    }

    /// Forgets a namespace; true as for [`Allocator::set_namespace`].
    pub fn remove_namespace(&mut self, name: &str) -> bool {
        self.namespaces.remove(name).is_some() && self.forget_pinned(name)
    }

    /// What a Service has.
    pub fn holding(&self, holder: &Holder) -> Option<&Holding> {
        self.holdings.get(holder)
    }

    /// True when there is a pool.
    pub fn has_pools(&self) -> bool {
        !self.pools.is_empty()
    }

    /// The name of a pool, if there is one of this name.
    pub fn pool_name(&self, name: &str) -> Option<&PoolName> {
        self.pools.get_key_value(name).map(|(name, _)| name)
    }

    /// For whom the pool is when nobody asks for it; `None` if there is no such pool.
    pub fn audience(&self, pool: &str) -> Option<Audience> {
        self.pools.get(pool).map(|state| match state.pool.automatic() {
            Automatic::Open => Audience::Everyone,
            Automatic::Pinned => Audience::Accepted,
            Automatic::Off | Automatic::OnRequest => Audience::Nobody,
        })
    }

    /// True when the pool exists and accepts Services of the namespace.
    pub fn accepts_namespace(&self, pool: &str, namespace: &str) -> bool {
        self.pools
            .get(pool)
            .is_some_and(|state| state.pool.accepts_namespace(namespace, self.namespaces.get(namespace)))
    }

    /// True when the pool has a free address of each of these families.
    pub fn has_room(&self, pool: &str, families: Families) -> bool {
        self.pools.get(pool).is_some_and(|state| state.has_room(families))
    }

    /// True when the address is in use under this sharing identity, and none of these ports is taken on it.
    pub fn has_seat(&self, address: &IpAddr, sharing: &Arc<Sharing>, ports: &Ports) -> bool {
        let family = Family::of(address);
        let Ok(place) = self.place(address) else { return false };
        let group = Group { sharing: sharing.clone(), family };
        self.use_at(&place, family).is_some_and(|at| at.sharing.as_ref() == Some(sharing))
            && !ports.iter().any(|port| self.seats.is_taken(&group, &place, port))
    }

    /// The addresses of a pool that are in use and can be shared, with whom. Costs O(n) in those in use.
    pub fn shared_addresses(&self, pool: &str) -> impl Iterator<Item = (IpAddr, Arc<Sharing>)> + '_ {
        let spaces = self.pools.get(pool).into_iter().flat_map(|state| [&state.v4, &state.v6]);
        spaces.flat_map(|space| {
            space.uses().filter_map(|(position, at)| Some((space.layout.address(position)?, at.sharing.clone()?)))
        })
    }

    /// How full each pool is, by name.
    pub fn usages(&self) -> impl Iterator<Item = PoolUsage> + '_ {
        self.pools.values().map(PoolState::usage)
    }

    /// How full a pool is.
    pub fn usage(&self, pool: &str) -> Option<PoolUsage> {
        self.pools.get(pool).map(PoolState::usage)
    }

    /// The Services that have addresses of the pool, by name. Costs O(n) in their number.
    pub fn holders(&self, pool: &str) -> BTreeSet<Holder> {
        let state = self.pools.get(pool);
        let spaces = state.into_iter().flat_map(|state| [&state.v4, &state.v6]);
        spaces.flat_map(Space::uses).flat_map(|(_, at)| at.users().cloned()).collect()
    }

    /// The pools whose usage changed since this was last asked.
    pub fn take_touched(&mut self) -> BTreeSet<PoolName> {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn check_accepted(&self, pool: &PoolName, client: &Client) -> Result<(), Refusal> {
        let state = self.pools.get(pool).ok_or_else(|| Refusal::UnknownPool(pool.clone()))?;
        self.accepts(state, client).map_err(|because| Refusal::NotAccepted { pool: pool.clone(), because })
    }

    pub(crate) fn accepts(&self, state: &PoolState, client: &Client) -> Result<(), NotAccepted> {
        let namespace = client.namespace();
        if !state.pool.accepts_namespace(namespace, self.namespaces.get(namespace)) {
            Err(NotAccepted::Namespace(namespace.into()))
        } else if !state.pool.accepts_labels(&client.labels) {
            Err(NotAccepted::Labels)
        } else {
            Ok(())
        }
    }

    pub(crate) fn use_at(&self, place: &Place, family: Family) -> Option<&Use> {
        self.pools.get(&place.pool)?.space(family).use_at(place.position)
    }

    /// Records what a Service has from now on; it must have nothing, and every address must be free for it.
    pub(crate) fn attach(&mut self, client: Arc<Client>, pool: PoolName, addresses: Addresses) {
        let Some(state) = self.pools.get_mut(&pool) else { return };
        for address in addresses.iter() {
            let family = Family::of(&address);
            let space = state.space_mut(family);
            let Some(position) = space.layout.position(&address) else { continue };
            let is_first = space.enter(position, client.holder.clone(), client.sharing.as_ref());
            if let Some(sharing) = &client.sharing {
                let group = Group { sharing: sharing.clone(), family };
                let place = Place { pool: pool.clone(), position };
                if is_first {
                    self.seats.open(&group, &place);
                }
                self.seats.sit(&group, &place, &client.ports);
            }
        }
        state.services = state.services.saturating_add(1);
        self.note_usage(&pool);
        self.holdings.insert(client.holder.clone(), Holding { client, pool, addresses });
    }

    /// Takes away what a Service has and returns it.
    pub(crate) fn detach(&mut self, holder: &Holder) -> Option<Holding> {
        let held = self.holdings.remove(holder)?;
        let Some(state) = self.pools.get_mut(&held.pool) else { return Some(held) };
        for address in held.addresses.iter() {
            let family = Family::of(&address);
            let space = state.space_mut(family);
            let Some(position) = space.layout.position(&address) else { continue };
            let was_last = space.leave(position, holder);
            if let Some(sharing) = &held.client.sharing {
                let group = Group { sharing: sharing.clone(), family };
                let place = Place { pool: held.pool.clone(), position };
                self.seats.leave(&group, &place, &held.client.ports);
                if was_last {
                    self.seats.close(&group, &place);
                }
            }
        }
        state.services = state.services.saturating_sub(1);
        self.note_usage(&held.pool);
        Some(held)
    }

    fn reattach(&mut self, held: Option<Holding>) {
        if let Some(held) = held {
            self.attach(held.client, held.pool, held.addresses);
        }
    }

    /// What others may have now that a Service has something else than before.
    fn vacancies(&self, old: Option<&Holding>, holder: &Holder) -> Vec<Vacancy> {
        let new = self.holdings.get(holder);
        let given_up = old.into_iter().flat_map(|old| old.addresses.iter().map(move |address| (old, address)));
        let given_up = given_up.filter_map(|(old, address)| {
            let Some(at) = self.used(&address) else {
                return Some(Vacancy::Address { pool: old.pool.clone(), address });
            };
            // Without a sharing key on the address nobody else can use it.
            let sharing = at.sharing.clone()?;
            let keeps = new.filter(|new| new.addresses.contains(&address)).map(|new| &new.client.ports);
            let gives_up_ports = old.client.ports.iter().any(|port| keeps.is_none_or(|keeps| !keeps.contains(port)));
            (old.client.sharing.as_ref() != Some(&sharing) || gives_up_ports)
                .then_some(Vacancy::Seats { address, sharing })
        });
        let taken_up = new.into_iter().flat_map(|new| new.addresses.iter()).filter_map(|address| {
            let at = self.used(&address).filter(|at| at.users().nth(1).is_none())?;
            let is_new = old.is_none_or(|old| !old.addresses.contains(&address));
            Some(Vacancy::Seats { address, sharing: at.sharing.clone().filter(|_| is_new)? })
        });
        given_up.chain(taken_up).collect()
    }

    fn used(&self, address: &IpAddr) -> Option<&Use> {
        let place = self.place(address).ok()?;
        self.use_at(&place, Family::of(address))
    }

    /// Keeps the index of pools with room in step with a pool, and remembers that its usage changed.
    pub(crate) fn note_usage(&mut self, pool: &PoolName) {
        self.touched.insert(pool.clone());
        let Some(state) = self.pools.get_mut(pool) else { return };
        let is_open = state.pool.automatic() == Automatic::Open;
        let room = Room { v4: is_open && state.has_room(Families::V4), v6: is_open && state.has_room(Families::V6) };
        if room == state.room {
            return;
        }
        state.room = room;
        for families in Families::ALL {
            let entry = (families, pool.clone());
            if room.has(families) {
                self.with_room.insert(entry);
            } else {
                self.with_room.remove(&entry);
            }
        }
    }

    /// The pools that are meant for some and accept the namespace, in the order in which they are tried.
    pub(crate) fn pinned_for(&self, namespace: &str) -> Arc<[PoolName]> {
        if !self.has_pinned() {
            return Arc::default();
        }
        if let Some(known) = self.pinned.get(namespace) {
            return known.clone();
        }
        let labels = self.namespaces.get(namespace);
        let accepts = |name: &&PoolName| {
            self.pools.get(*name).is_some_and(|state| {
                state.pool.automatic() == Automatic::Pinned && state.pool.accepts_namespace(namespace, labels)
            })
        };
        self.order.iter().filter(accepts).cloned().collect()
    }

    /// Pinned pools come first in the order.
    fn has_pinned(&self) -> bool {
        let first = self.order.first().and_then(|name| self.pools.get(name));
        first.is_some_and(|state| state.pool.pinning.is_some())
    }

    fn remember_pinned(&mut self, namespace: &str) {
        if self.has_pinned() && !self.pinned.contains_key(namespace) {
            self.pinned.insert(namespace.into(), self.pinned_for(namespace));
        }
    }

    fn forget_pinned(&mut self, namespace: &str) -> bool {
        self.pinned.remove(namespace);
        self.pools.values().any(|state| state.pool.selects_namespaces())
    }
}

impl PoolState {
    pub(crate) fn new(pool: Pool) -> Self {
        let (v4, v6) = (Space::new(Family::V4, &pool), Space::new(Family::V6, &pool));
        PoolState { pool, v4, v6, services: 0, room: Room::default() }
    }

    pub(crate) fn space(&self, family: Family) -> &Space {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn space_mut(&mut self, family: Family) -> &mut Space {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    pub(crate) fn has_room(&self, families: Families) -> bool {
        families.list().iter().all(|family| self.space(*family).first_free().is_some())
    }

    fn usage(&self) -> PoolUsage {
        PoolUsage {
            name: self.pool.name.clone(),
            usable_ipv4: self.v4.layout.usable(),
            usable_ipv6: self.v6.layout.usable(),
            in_use_ipv4: self.v4.in_use(),
            in_use_ipv6: self.v6.in_use(),
            services: self.services,
        }
    }
}
