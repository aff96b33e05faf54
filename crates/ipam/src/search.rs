//! How addresses are chosen (contract 3.3, 3.4). Nothing here changes anything.

use std::net::IpAddr;
use std::ops::Bound;

use kit::Family;

use crate::allocator::{Allocator, PoolState};
use crate::pool::Automatic;
use crate::seats::{Group, Place};
use crate::{
    Addresses, Client, Difference, Families, Holder, Misplaced, PoolName, PoolReport, PoolVerdict, Refusal, Stack, Want,
};

type Found = (PoolName, Addresses);

impl Allocator {
    /// What the Service would get, if it had nothing yet: requested addresses first, else from the requested pool,
    /// else from any pool that may be used unasked.
    pub fn search(&self, client: &Client, want: &Want<'_>) -> Result<Found, Refusal> {
        if let Some(addresses) = want.addresses {
            return self.requested(client, want, addresses);
        }
        if let Some(name) = want.pool {
            let Some(state) = self.pools.get(name) else { return Err(Refusal::UnknownPool(name.into())) };
            self.check_accepted(&state.pool.name, client)?;
        }
        match want.stack {
            Stack::Single(family) => {
                self.kept_alone(client, want, &[family]).map_or_else(|| self.fresh(client, want, family.into()), Ok)
            }
            Stack::Dual => {
                self.kept_with_second(client, want).map_or_else(|| self.fresh(client, want, Families::Both), Ok)
            }
            Stack::PreferDual { primary } => {
                let (first, second) = (primary, primary.other());
                self.kept_with_second(client, want)
                    .or_else(|| self.fresh(client, want, Families::Both).ok())
                    .or_else(|| self.kept_alone(client, want, &[first, second]))
                    .map_or_else(|| self.fresh(client, want, first.into()), Ok)
                    .or_else(|refusal| self.fresh(client, want, second.into()).map_err(|_| refusal))
            }
        }
    }

    /// What every pool that may be used says to the Service, in the order in which they are tried. For requested
    /// addresses there is nothing to say beyond the refusal.
    pub fn verdicts<'a>(&'a self, client: &'a Client, want: &'a Want<'a>) -> impl Iterator<Item = PoolReport> + 'a {
        let is_asked = move |name: &&PoolName| match (want.addresses, want.pool) {
            (Some(_), _) => false,
            (None, Some(pool)) => ***name == *pool,
            (None, None) => true,
        };
        self.order
            .iter()
            .filter(is_asked)
            .filter_map(|name| self.pools.get(name))
            .map(move |state| PoolReport { pool: state.pool.name.clone(), verdict: self.verdict(state, client, want) })
    }

    fn verdict(&self, state: &PoolState, client: &Client, want: &Want<'_>) -> PoolVerdict {
        match state.pool.automatic() {
            Automatic::Off if want.pool.is_none() => return PoolVerdict::NotAutomatic,
            Automatic::OnRequest if want.pool.is_none() => return PoolVerdict::OnRequestOnly,
            Automatic::Off | Automatic::OnRequest | Automatic::Pinned | Automatic::Open => {}
        }
        if let Err(because) = self.accepts(state, client) {
            return PoolVerdict::NotAccepted(because);
        }
        let offer = match want.stack {
            Stack::Single(family) => self.offer(state, client, family.into()),
            Stack::Dual => self.offer(state, client, Families::Both),
            Stack::PreferDual { primary } => self
                .offer(state, client, Families::Both)
                .or_else(|_| self.offer(state, client, primary.into()))
                .or_else(|because| self.offer(state, client, primary.other().into()).map_err(|_| because)),
        };
        offer.map_or_else(|because| because, PoolVerdict::Gives)
    }

    /// The requested addresses, if they may be had.
    fn requested(&self, client: &Client, want: &Want<'_>, addresses: &Addresses) -> Result<Found, Refusal> {
        if !want.stack.may_request(addresses) {
            return Err(Refusal::WrongFamily { addresses: *addresses, stack: want.stack });
        }
        let pool = self.check_addresses(client, addresses)?;
        match want.pool.filter(|requested| **requested != *pool) {
            Some(requested) => Err(Refusal::WrongPool { addresses: *addresses, pool, requested: requested.into() }),
            None => Ok((pool, *addresses)),
        }
    }

    /// The pool that may give exactly these addresses to the Service: they are in one pool, which accepts it, and each
    /// is free or can be shared. What `autoAssign` says does not matter.
    pub(crate) fn check_addresses(&self, client: &Client, addresses: &Addresses) -> Result<PoolName, Refusal> {
        let misplaced = |because| Refusal::NotInConfig { addresses: *addresses, because };
        let first = self.place(&addresses.first()).map_err(misplaced)?;
        let second = addresses.second().map(|second| self.place(&second)).transpose().map_err(misplaced)?;
        if let Some(second) = second.as_ref().filter(|second| second.pool != first.pool) {
            return Err(misplaced(Misplaced::TwoPools(first.pool, second.pool.clone())));
        }
        self.check_accepted(&first.pool, client)?;
        for (address, place) in addresses.iter().zip(std::iter::once(&first).chain(&second)) {
            self.check_place(client, address, place)?;
        }
        Ok(first.pool)
    }

    /// Where an address is, if it is a usable one of a pool.
    pub(crate) fn place(&self, address: &IpAddr) -> Result<Place, Misplaced> {
        let family = Family::of(address);
        let below = self.ranges.range(..=*address).next_back().filter(|(_, (last, _))| address <= last);
        let Some((_, (_, name))) = below else { return Err(Misplaced::NoPool(*address)) };
        let position = self.pools.get(name).and_then(|state| state.space(family).layout.position(address));
        match position {
            Some(position) => Ok(Place { pool: name.clone(), position }),
            None => Err(Misplaced::Buggy(*address, name.clone())),
        }
    }

    /// Whether the address is free, or its users share it with the Service (contract 3.4).
    pub(crate) fn check_place(&self, client: &Client, address: IpAddr, place: &Place) -> Result<(), Refusal> {
        let family = Family::of(&address);
        let Some(at) = self.use_at(place, family) else { return Ok(()) };
        let mut others = at.users().filter(|user| **user != client.holder);
        let Some(by) = others.next() else { return Ok(()) };
        if let Some(difference) = Difference::between(at.sharing.as_ref(), client.sharing.as_ref()) {
            let (service, by, more) = (client.holder.clone(), by.clone(), others.count());
            let difference = Box::new(difference);
            return Err(Refusal::NotShareable { service, address, by, more, difference });
        }
        let Some(sharing) = client.sharing.clone() else { return Ok(()) };
        let group = Group { sharing, family };
        let holder_of = |port| -> Option<&Holder> {
            at.users()
                .filter(|user| **user != client.holder)
                .find(|user| self.holdings.get(*user).is_some_and(|held| held.client.ports.contains(port)))
        };
        for port in client.ports.iter().filter(|port| self.seats.is_taken(&group, place, *port)) {
            if let Some(by) = holder_of(port) {
                return Err(Refusal::PortInUse { address, port, by: by.clone() });
            }
        }
        Ok(())
    }

    /// New addresses of these families from one pool: the requested one, else the first in order.
    fn fresh(&self, client: &Client, want: &Want<'_>, families: Families) -> Result<Found, Refusal> {
        let Some(name) = want.pool else {
            return self
                .first_pinned(client, families)
                .or_else(|| self.first_open(client, families))
                .ok_or(Refusal::NoneAvailable);
        };
        let state = self.pools.get(name).ok_or_else(|| Refusal::UnknownPool(name.into()))?;
        let pool = state.pool.name.clone();
        match self.offer(state, client, families) {
            Ok(addresses) => Ok((pool, addresses)),
            Err(because) => Err(Refusal::NoneAvailableIn { pool, families, because }),
        }
    }

    /// From the first pool that is meant for the Service.
    fn first_pinned(&self, client: &Client, families: Families) -> Option<Found> {
        let pools = self.pinned_for(client.namespace());
        let mut states = pools.iter().filter_map(|name| self.pools.get(name));
        states.find_map(|state| {
            let is_accepted = state.pool.accepts_labels(&client.labels);
            let addresses = is_accepted.then(|| self.offer(state, client, families))?.ok()?;
            Some((state.pool.name.clone(), addresses))
        })
    }

    /// From the first pool that is open to everyone.
    fn first_open(&self, client: &Client, families: Families) -> Option<Found> {
        let mut after = None;
        loop {
            let name = self.next_open(client, families, after.as_ref())?;
            let state = self.pools.get(&name)?;
            if let Ok(addresses) = self.offer(state, client, families) {
                return Some((name, addresses));
            }
            after = Some(name);
        }
    }

    /// The next pool open to everyone that has room, or an address that the Service can share.
    fn next_open(&self, client: &Client, families: Families, after: Option<&PoolName>) -> Option<PoolName> {
        let start = match after {
            Some(name) => Bound::Excluded((families, name.clone())),
            None => Bound::Included((families, PoolName::default())),
        };
        let with_room = self
            .with_room
            .range((start, Bound::Unbounded))
            .next()
            .filter(|(found, _)| *found == families)
            .map(|(_, name)| name.clone());
        let with_seat = families.list().iter().filter_map(|family| self.next_seat(client, *family, after)).min();
        with_room.into_iter().chain(with_seat).min()
    }

    /// The next pool open to everyone that has an address of the family which the Service can share.
    fn next_seat(&self, client: &Client, family: Family, after: Option<&PoolName>) -> Option<PoolName> {
        let group = Group { sharing: client.sharing.clone()?, family };
        let mut seat = match after {
            Some(pool) => self.seats.find_behind(&group, &client.ports, pool)?,
            None => self.seats.find_from(&group, &client.ports, &PoolName::default())?,
        };
        while !self.pools.get(&seat.pool).is_some_and(|state| state.pool.automatic() == Automatic::Open) {
            seat = self.seats.find_behind(&group, &client.ports, &seat.pool)?;
        }
        Some(seat.pool)
    }

    /// The lowest addresses of these families that the pool has for the Service, IPv4 first.
    pub(crate) fn offer(
        &self,
        state: &PoolState,
        client: &Client,
        families: Families,
    ) -> Result<Addresses, PoolVerdict> {
        match families {
            Families::V4 => self.lowest(state, client, Family::V4).map(Addresses::one),
            Families::V6 => self.lowest(state, client, Family::V6).map(Addresses::one),
            Families::Both => {
                let v4 = self.lowest(state, client, Family::V4)?;
                let v6 = self.lowest(state, client, Family::V6)?;
                Addresses::pair(v4, v6).ok_or(PoolVerdict::FamilyMissing(Family::V6))
            }
        }
    }

    /// The first address in the pool's order that is free or can be shared: one in use goes before a free one behind it.
    fn lowest(&self, state: &PoolState, client: &Client, family: Family) -> Result<IpAddr, PoolVerdict> {
        let space = state.space(family);
        let free = space.first_free();
        let shared = client.sharing.as_ref().and_then(|sharing| {
            let group = Group { sharing: sharing.clone(), family };
            let seat = self.seats.find_from(&group, &client.ports, &state.pool.name)?;
            (seat.pool == state.pool.name).then_some(seat.position)
        });
        let position = free.into_iter().chain(shared).min();
        let exhausted = || match space.layout.last_position() {
            Some(_) => {
                let key = client.sharing.as_ref().map(|sharing| sharing.key.clone());
                PoolVerdict::Exhausted { family, usable: space.layout.usable(), key }
            }
            None => PoolVerdict::FamilyMissing(family),
        };
        position.and_then(|position| space.layout.address(position)).ok_or_else(exhausted)
    }

    /// Of the addresses the Service had, the one of the first of these families that it may keep.
    fn kept_alone(&self, client: &Client, want: &Want<'_>, families: &[Family]) -> Option<Found> {
        let previous = want.previous?;
        families.iter().find_map(|family| self.kept(client, want, previous.of(*family)?))
    }

    /// An address the Service had and may keep, with one of the other family from the same pool; in the place in the
    /// list that it had.
    fn kept_with_second(&self, client: &Client, want: &Want<'_>) -> Option<Found> {
        let previous = want.previous?;
        previous.iter().find_map(|address| {
            let (pool, _) = self.kept(client, want, address)?;
            let other = Family::of(&address).other();
            let second = self.lowest(self.pools.get(&pool)?, client, other).ok()?;
            let both = if address == previous.first() {
                Addresses::pair(address, second)
            } else {
                Addresses::pair(second, address)
            };
            Some((pool, both?))
        })
    }

    /// The address, if the Service may keep it.
    fn kept(&self, client: &Client, want: &Want<'_>, address: IpAddr) -> Option<Found> {
        let alone = Addresses::one(address);
        let pool = self.check_addresses(client, &alone).ok()?;
        want.pool.is_none_or(|requested| *requested == *pool).then_some((pool, alone))
    }
}
