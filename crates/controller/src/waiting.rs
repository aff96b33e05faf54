//! Who waits for what, and to whom something freed is offered.
//!
//! A Service that does not have all it asks for waits under each thing that would help it. Something that becomes
//! available is an *opportunity*: it is offered to those who wait for it, the longest waiting first, one at a time, until
//! it is taken or everyone was asked. So one freed address costs one allocation, however many wait. Who waited longest is
//! forgotten in a restart; then it goes by the order in which Services are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use ipam::{Allocator, Audience, Families, Holder, Holding, PoolName, Ports, Sharing, Stack, Vacancy};
use kit::Family;

use crate::demand::Ask;

/// What would help a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Interest {
    /// This address.
    Address(IpAddr),
    /// Addresses of these families from this pool.
    Pool(PoolName, Families),
    /// Addresses of these families from any pool that is for everyone.
    Anywhere(Families),
    /// Addresses of these families from a pool that is for Services of this namespace.
    Namespace(Arc<str>, Families),
    /// A seat for these ports at an address that is shared under this identity.
    Seat(Arc<Sharing>, Ports),
}

/// The place of a Service in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The lower, the longer it waits.
    pub(crate) number: u64,
    interests: Vec<Interest>,
}

/// The Services that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeSet<(Interest, u64, Holder)>,
    last_number: u64,
}

/// Something that became available.
///
/// In the order in which they are offered: who asks for an address by name can take nothing else, so it goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opportunity {
    /// An address, or a part of it.
    Address(IpAddr),
    /// Seats at an address that is shared under an identity.
    Seats { address: IpAddr, sharing: Arc<Sharing> },
    /// Free addresses of a family in a pool.
    Room { pool: PoolName, family: Family },
}

/// The opportunities that are being offered, with the number of the Service that was asked last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opportunities(BTreeMap<Opportunity, u64>);

impl Queue {
    /// A place at the end of the queue, for a Service that may have to wait.
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.last_number = self.last_number.saturating_add(1);
        Ticket { number: self.last_number, interests: Vec::new() }
    }

    /// True when nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a Service in the queue, at its old place if it has one.
    pub(crate) fn enter(
        &mut self,
        holding: Option<&Holding>,
        ask: &Ask,
        old: Option<Box<Ticket>>,
    ) -> Option<Box<Ticket>> {
        let Ok(stack) = ask.stack else {
            self.leave(&ask.client.holder, old);
            return None;
        };
        let interests = interests(holding, ask, stack);
        if old.as_ref().is_some_and(|old| old.interests == interests) {
            return old;
        }
        let number = old.as_ref().map(|old| old.number);
        self.leave(&ask.client.holder, old);
        let number = number.unwrap_or_else(|| self.ticket().number);
        for interest in &interests {
            self.waiting.insert((interest.clone(), number, ask.client.holder.clone()));
        }
        Some(Box::new(Ticket { number, interests }))
    }

    /// Takes a Service out of the queue.
    pub(crate) fn leave(&mut self, holder: &Holder, ticket: Option<Box<Ticket>>) {
        let Some(ticket) = ticket else { return };
        let Ticket { number, interests } = *ticket;
        for interest in interests {
            self.waiting.remove(&(interest, number, holder.clone()));
        }
    }

    /// Those who wait for a pool by name.
    pub(crate) fn for_pool<'a>(&'a self, pool: &'a PoolName) -> impl Iterator<Item = Holder> + 'a {
        Families::ALL.into_iter().flat_map(move |families| self.all(Interest::Pool(pool.clone(), families)))
    }

    /// Those who wait for an address of a range by name.
    pub(crate) fn for_range(&self, first: IpAddr, last: IpAddr) -> impl Iterator<Item = Holder> + '_ {
        let start = Bound::Included((Interest::Address(first), 0, Holder::default()));
        self.waiting
            .range((start, Bound::Unbounded))
            .take_while(move |(interest, ..)| matches!(interest, Interest::Address(address) if *address <= last))
            .map(|(_, _, holder)| holder.clone())
    }

    /// The first behind `number` to whom the opportunity is to be offered; `None` when it is gone or all were asked.
    fn next(&self, allocator: &Allocator, opportunity: &Opportunity, number: u64) -> Option<(u64, Holder)> {
        match opportunity {
            Opportunity::Address(address) => self.first(Interest::Address(*address), number),
            Opportunity::Seats { address, sharing } => self
                .port_lists(sharing)
                .filter(|ports| allocator.has_seat(address, sharing, ports))
                .filter_map(|ports| self.first(Interest::Seat(sharing.clone(), ports), number))
                .min(),
            Opportunity::Room { pool, family } => [Families::from(*family), Families::Both]
                .into_iter()
                .filter(|families| allocator.has_room(pool, *families))
                .filter_map(|families| self.next_for_room(allocator, pool, families, number))
                .min(),
        }
    }

    fn next_for_room(
        &self,
        allocator: &Allocator,
        pool: &PoolName,
        families: Families,
        number: u64,
    ) -> Option<(u64, Holder)> {
        let by_name = self.first(Interest::Pool(pool.clone(), families), number);
        let unasked = match allocator.audience(pool)? {
            Audience::Everyone => self.first(Interest::Anywhere(families), number),
            Audience::Accepted => self
                .namespaces()
                .filter(|namespace| allocator.accepts_namespace(pool, namespace))
                .filter_map(|namespace| self.first(Interest::Namespace(namespace, families), number))
                .min(),
            Audience::Nobody => None,
        };
        by_name.into_iter().chain(unasked).min()
    }

    fn first(&self, interest: Interest, number: u64) -> Option<(u64, Holder)> {
        let start = Bound::Included((interest.clone(), number.saturating_add(1), Holder::default()));
        let (found, number, holder) = self.waiting.range((start, Bound::Unbounded)).next()?;
        (*found == interest).then(|| (*number, holder.clone()))
    }

    fn all(&self, interest: Interest) -> impl Iterator<Item = Holder> + '_ {
        let start = Bound::Included((interest.clone(), 0, Holder::default()));
        self.waiting
            .range((start, Bound::Unbounded))
            .take_while(move |(found, ..)| *found == interest)
            .map(|(_, _, holder)| holder.clone())
    }

    /// The namespaces of those who would take anything, each once.
    fn namespaces(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        let behind = |name: &Arc<str>| Interest::Namespace(name.clone(), Families::Both);
        let next = move |start| match self.first_behind(start)? {
            Interest::Namespace(name, _) => Some(name.clone()),
            _ => None,
        };
        let first = Bound::Included(Interest::Namespace(Arc::default(), Families::V4));
        std::iter::successors(next(first), move |name| next(Bound::Excluded(behind(name))))
    }

    /// The port lists of those who would share under this identity, each once.
    fn port_lists<'a>(&'a self, sharing: &'a Arc<Sharing>) -> impl Iterator<Item = Ports> + 'a {
        let seat = |ports| Interest::Seat(sharing.clone(), ports);
        let next = move |start| match self.first_behind(start)? {
            Interest::Seat(found, ports) if found == sharing => Some(ports.clone()),
            _ => None,
        };
        let first = Bound::Included(seat(Ports::default()));
        std::iter::successors(next(first), move |ports| next(Bound::Excluded(seat(ports.clone()))))
    }

    /// The first interest that somebody has, from the start or behind it.
    fn first_behind(&self, start: Bound<Interest>) -> Option<&Interest> {
        let start = match start {
            Bound::Included(interest) => Bound::Included((interest, 0, Holder::default())),
            // Numbers start at 1 and never come to the end.
            Bound::Excluded(interest) => Bound::Excluded((interest, u64::MAX, Holder::default())),
            Bound::Unbounded => Bound::Unbounded,
        };
        self.waiting.range((start, Bound::Unbounded)).next().map(|(interest, ..)| interest)
    }

    /// Checks that the tickets and the queue say the same.
    pub(crate) fn check_invariants<'a>(&self, tickets: impl Iterator<Item = (&'a Holder, &'a Ticket)>) {
        let expected: BTreeSet<(Interest, u64, Holder)> = tickets
            .flat_map(|(holder, ticket)| {
                ticket.interests.iter().map(|interest| (interest.clone(), ticket.number, holder.clone()))
            })
            .collect();
        assert_eq!(self.waiting, expected, "the queue and the tickets differ");
    }
}

impl Opportunities {
    /// Offers a vacancy.
    pub(crate) fn offer(&mut self, vacancy: Vacancy) {
        match vacancy {
            Vacancy::Address { pool, address } => {
                self.add(Opportunity::Address(address));
                self.add(Opportunity::Room { pool, family: Family::of(&address) });
            }
            Vacancy::Seats { address, sharing } => {
                self.add(Opportunity::Address(address));
                self.add(Opportunity::Seats { address, sharing });
            }
        }
    }

    /// Offers all that a pool has.
    pub(crate) fn offer_pool(&mut self, allocator: &Allocator, queue: &Queue, pool: &PoolName) {
        for family in Family::ALL {
            self.add(Opportunity::Room { pool: pool.clone(), family });
        }
        for (address, sharing) in allocator.shared_addresses(pool) {
            if queue.port_lists(&sharing).next().is_some() {
                self.add(Opportunity::Seats { address, sharing });
            }
        }
    }

    fn add(&mut self, opportunity: Opportunity) {
        self.0.insert(opportunity, 0);
    }

    /// The next Service to whom something is offered.
    pub(crate) fn next(&mut self, allocator: &Allocator, queue: &Queue) -> Option<Holder> {
        loop {
            let mut first = self.0.first_entry()?;
            if let Some((number, holder)) = queue.next(allocator, first.key(), *first.get()) {
                first.insert(number);
                return Some(holder);
            }
            first.remove();
        }
    }

    /// True when nothing is left to offer.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What would help a Service that does not have all it asks for.
fn interests(holding: Option<&Holding>, ask: &Ask, stack: Stack) -> Vec<Interest> {
    if let Ok(Some(addresses)) = ask.addresses() {
        return addresses.iter().map(Interest::Address).collect();
    }
    let needs = match (stack, holding) {
        (Stack::Single(family), _) => vec![Families::from(family)],
        // Whoever shares may find a seat of one family beside a free address of the other.
        (Stack::Dual, _) if ask.client.sharing.is_some() => vec![Families::V4, Families::V6],
        (Stack::Dual, _) => vec![Families::Both],
        // What it waits for is a second address, or another pool.
        (Stack::PreferDual { .. }, Some(holding)) if is_in_wished_pool(holding, ask) => {
            let missing = Family::of(&holding.addresses.first()).other();
            let mut interests = vec![Interest::Pool(holding.pool.clone(), missing.into())];
            interests.extend(seat(ask));
            return interests;
        }
        (Stack::PreferDual { .. }, _) => vec![Families::V4, Families::V6],
    };
    let mut interests: Vec<Interest> = if let Some(pool) = ask.pool() {
        needs.iter().map(|families| Interest::Pool(pool.into(), *families)).collect()
    } else {
        let namespace: Arc<str> = ask.client.namespace().into();
        let both =
            |families: &Families| [Interest::Anywhere(*families), Interest::Namespace(namespace.clone(), *families)];
        needs.iter().flat_map(both).collect()
    };
    interests.extend(seat(ask));
    interests
}

fn seat(ask: &Ask) -> Option<Interest> {
    let sharing = ask.client.sharing.clone()?;
    Some(Interest::Seat(sharing, ask.client.ports.clone()))
}

fn is_in_wished_pool(holding: &Holding, ask: &Ask) -> bool {
    ask.pool().is_none_or(|pool| *pool == *holding.pool)
}
