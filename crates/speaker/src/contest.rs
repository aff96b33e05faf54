//! Who can answer for the addresses of a Service on the local segment, and in which order they would (contract 5.1).
//!
//! What a place in that order is worth is in `election.rs`, what follows from it for this node in `decide.rs`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use config::{L2Advertisement, OwnerSelection, Pool};
use kit::Labels;

use crate::backends::Backends;
use crate::decide::{Exclusion, Surroundings, addresses_and_pool, node_refusal};
use crate::election::Rank;
use crate::facts::{NodeFacts, PoolIndex, ServiceFacts};
use crate::hindrance::{Hindrance, Hindrances};
use crate::members::{Liveness, Members, PLACES, Places, Rules, Statement, Stay};
use crate::sharing::{Bond, Sharing};
use crate::verdict::Refusal;

/// The L2Advertisements of the pool that are meant for the Service.
fn layer2_advertisements<'a>(service: &ServiceFacts, pool: &'a Pool) -> Vec<&'a L2Advertisement> {
    let all = pool.l2_advertisements.values();
    all.filter(|it| it.service_selectors.matches(&service.labels)).map(Arc::as_ref).collect()
}

/// A node in an election for addresses of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate<'a> {
    pub(crate) liveness: Liveness,
    rank: Rank,
    pub(crate) node: &'a str,
    aptitude: Aptitude,
}

/// Whether a candidate can announce the addresses, as far as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aptitude {
    /// It can.
    Able,
    /// It does not say. It counts as able, but does not know that others are not, so it takes nothing over from them.
    Unknown,
    /// It cannot.
    Hindered,
}

/// What the elections of a Service are about.
pub(crate) struct Subject<'a> {
    service: &'a ServiceFacts,
    pub(crate) addresses: &'a [IpAddr],
    /// One for each election; nearly always one.
    groups: Vec<Group<'a>>,
    /// The node that the controller has assigned it to, whether that counts or not.
    assigned: Option<&'a str>,
    pub(crate) pool: &'a Pool,
    pub(crate) advertisements: Vec<&'a L2Advertisement>,
}

/// Addresses of a Service that have one owner.
struct Group<'a> {
    addresses: Cow<'a, [IpAddr]>,
    /// As in the Go implementation the Service's first address (contract 5.1), but where Services that share one would find
    /// different owners for it (contract 12.1 D10).
    elected_by: IpAddr,
    bond: Bond,
}

/// The addresses of a Service, by what elects their owner. Nothing is shared where elections are held by common rules.
fn groups<'a>(
    service: &ServiceFacts,
    addresses: &'a [IpAddr],
    sharing: Option<&Sharing>,
) -> Result<Vec<Group<'a>>, Refusal> {
    let first = *addresses.first().ok_or(Refusal::NoAddress)?;
    let whole = |addresses| Group { addresses, elected_by: first, bond: Bond::Whole };
    let sharing = sharing.filter(|_| service.may_share);
    let bond = |address: &IpAddr| sharing.map_or(Bond::Whole, |sharing| sharing.bond(address));
    if addresses.iter().all(|address| bond(address) == Bond::Whole) {
        return Ok(vec![whole(Cow::Borrowed(addresses))]);
    }
    let mut groups: Vec<Group<'a>> = Vec::new();
    for address in addresses {
        let bond = bond(address);
        match (bond, groups.iter_mut().find(|group| group.bond == Bond::Whole)) {
            (Bond::Whole, Some(group)) => group.addresses.to_mut().push(*address),
            (Bond::Whole, None) => groups.push(whole(Cow::Owned(vec![*address]))),
            (Bond::First | Bond::Apart, _) => {
                let elected_by = if bond == Bond::First { first } else { *address };
                groups.push(Group { addresses: Cow::Owned(vec![*address]), elected_by, bond });
            }
        }
    }
    Ok(groups)
}

impl<'a> Subject<'a> {
    /// The gates up to the advertisements, which are the same on all nodes.
    pub(crate) fn of(
        service: &'a ServiceFacts,
        pools: &'a PoolIndex,
        sharing: Option<&'a Sharing>,
    ) -> Result<Subject<'a>, Refusal> {
        let (addresses, pool) = addresses_and_pool(service, pools)?;
        if pool.l2_advertisements.is_empty() {
            return Err(Refusal::NoAdvertisement(pool.name.clone()));
        }
        let advertisements = layer2_advertisements(service, pool);
        if advertisements.is_empty() {
            return Err(Refusal::ServiceNotSelected(pool.name.clone()));
        }
        let groups = groups(service, addresses, sharing)?;
        let assigned = match (sharing.filter(|_| service.may_share), addresses.first()) {
            (Some(sharing), Some(first)) => sharing.assigned(first),
            (None, _) | (_, None) => service.assigned.as_deref(),
        };
        Ok(Subject { service, addresses, groups, assigned, pool, advertisements })
    }

    /// Refuses where two nodes could be elected for an address that Services share (contract 5.1 row 3).
    pub(crate) fn may_elect(&self) -> Result<(), Refusal> {
        let has_selectors = || self.advertisements.iter().any(|it| !it.service_selectors.is_empty());
        if self.service.may_share && has_selectors() { Err(Refusal::SharedWithServiceSelector) } else { Ok(()) }
    }

    /// Whether the controller chooses an owner: one advertisement that says so is enough. It chooses for the first address, so
    /// this looks at the bond of that one: if it elects by itself, its Services could be given different nodes, and none is
    /// chosen for any address of the Service.
    fn is_balanced(&self) -> bool {
        self.groups.first().is_some_and(|group| group.bond != Bond::Apart)
            && self.advertisements.iter().any(|it| it.owner_selection == OwnerSelection::Balanced)
    }

    /// The preference for a node if nobody asks whether it is alive and able, or has endpoints; none if it is no candidate.
    fn score(&self, facts: &NodeFacts, exclusion: Exclusion) -> Option<u64> {
        if node_refusal(facts, exclusion).is_some() {
            return None;
        }
        let mut selecting = self.advertisements.iter().filter(|it| it.node_selectors.matches(&facts.labels)).peekable();
        selecting.peek()?;
        Some(selecting.map(|advertisement| preference(advertisement, &facts.labels)).sum())
    }

    /// Whether a node that is alive and able may announce the Service.
    fn admits(&self, node: &str, backends: &Backends) -> bool {
        !self.service.local_only || backends.on(node)
    }

    /// Its elections.
    pub(crate) fn contests(&self) -> impl Iterator<Item = Contest<'_>> {
        self.groups.iter().map(|group| Contest { subject: self, group })
    }

    /// The election that an address has.
    fn contest(&self, address: &IpAddr) -> Option<Contest<'_>> {
        self.contests().find(|contest| contest.group.addresses.contains(address))
    }
}

/// One election.
#[derive(Clone, Copy)]
pub(crate) struct Contest<'s> {
    subject: &'s Subject<'s>,
    group: &'s Group<'s>,
}

impl<'s> Contest<'s> {
    /// What it is about.
    pub(crate) fn addresses(&self) -> &'s [IpAddr] {
        &self.group.addresses
    }

    /// The rank of a node that may be a candidate.
    fn rank(&self, node: &str, facts: &NodeFacts, around: &Surroundings<'_>) -> Option<Rank> {
        let rank = Rank::new(self.subject.score(facts, around.exclusion)?, node, &self.group.elected_by);
        // The first address may be chosen for, and this one elect by itself: then the choice is none for it.
        let is_assigned = around.rules == Rules::Ours
            && self.group.bond != Bond::Apart
            && self.subject.assigned == Some(node)
            && self.subject.is_balanced();
        Some(if is_assigned { rank.assigned() } else { rank })
    }

    /// The place of a node, if it is a candidate at all (contract 5.1 rows 5 to 7).
    fn candidate<'n>(&self, node: &'n str, facts: &NodeFacts, around: &Surroundings<'_>) -> Option<Candidate<'n>> {
        let is_here = node == around.node;
        let liveness = match around.members {
            Members::Alive(_) if is_here => Liveness::Alive,
            _ if around.conflicts.hears(node, self.addresses()) => Liveness::Alive,
            members => members.liveness(node, facts.ready)?,
        };
        if is_here && around.stay == Stay::Leaves {
            return None;
        }
        let rank = self.rank(node, facts, around)?;
        Some(Candidate { liveness, rank, node, aptitude: self.aptitude(node, facts, around) })
    }

    fn aptitude(&self, node: &str, facts: &NodeFacts, around: &Surroundings<'_>) -> Aptitude {
        let hindrances = match around.members.statement(node) {
            _ if node == around.node && matches!(around.members, Members::Alive(_)) => around.hindrances,
            Some(Statement::Made(hindrances)) => hindrances,
            // It is not heard of by memberlist, and answers: so it is able to.
            None if around.conflicts.hears(node, self.addresses()) => return Aptitude::Able,
            Some(Statement::Missing) | None => return Aptitude::Unknown,
        };
        if self.hindrance(hindrances, facts).is_some() { Aptitude::Hindered } else { Aptitude::Able }
    }

    /// What keeps a node from announcing one of the addresses.
    pub(crate) fn hindrance<'h>(&self, hindrances: &'h Hindrances, facts: &NodeFacts) -> Option<&'h Hindrance> {
        let selecting = || self.subject.advertisements.iter().filter(|it| it.node_selectors.matches(&facts.labels));
        let of_address = |address: &IpAddr| hindrances.of_address(address, selecting().map(|it| it.name.as_str()));
        self.addresses().iter().find_map(of_address)
    }

    /// The first [`PLACES`] of the election: each is who would be the owner if those before it were not there.
    ///
    /// The first by rank is the owner, as in the Go implementation. If it says that it is hindered, the first takes its place
    /// that is able and says so, because only such a one knows. If there is none, nothing moves.
    pub(crate) fn first_places<'a>(&self, backends: &Backends, around: &Surroundings<'a>) -> Vec<Candidate<'a>> {
        let (mut all, mut able) = (First::default(), First::default());
        for (name, facts) in around.nodes.iter().filter(|(name, _)| self.subject.admits(name, backends)) {
            if let Some(candidate) = self.candidate(name, facts, around) {
                all.insert(candidate);
                if candidate.aptitude == Aptitude::Able {
                    able.insert(candidate);
                }
            }
        }
        let mut places: Vec<Candidate<'a>> = Vec::with_capacity(PLACES);
        while places.len() < PLACES {
            let next = |first: &First<'a>| first.0.iter().find(|it| !places.contains(it)).copied();
            let Some(head) = next(&all) else { break };
            let substitute = || next(&able).filter(|able| able.liveness == head.liveness);
            let owner = if head.aptitude == Aptitude::Hindered { substitute().unwrap_or(head) } else { head };
            places.push(owner);
        }
        places
    }

    /// What cuts this node off from an address, if it knows of nobody else and there are others that could announce it: they
    /// may well do. It would only take the address from them for as long as it takes to hear of them.
    pub(crate) fn cut_off<'a>(
        &self,
        backends: &Backends,
        here: &NodeFacts,
        around: &Surroundings<'a>,
    ) -> Option<&'a Hindrance> {
        if !around.is_alone() {
            return None;
        }
        let hindrance = self.hindrance(around.cut, here)?;
        let mut others = around.nodes.iter().filter(|(name, _)| name.as_str() != around.node);
        let may_announce = |(name, facts): (&String, &NodeFacts)| {
            self.subject.admits(name, backends) && self.subject.score(facts, around.exclusion).is_some()
        };
        others.any(may_announce).then_some(hindrance)
    }

    /// Whether a node's change can give it one of the first places, which have been these so far.
    fn is_challenged(
        &self,
        challenger: &str,
        places: &[String],
        backends: &Backends,
        around: &Surroundings<'_>,
    ) -> bool {
        let candidate = |node: &str| {
            let facts = around.nodes.get(node).filter(|_| self.subject.admits(node, backends))?;
            let Candidate { liveness, rank, aptitude, .. } = self.candidate(node, facts, around)?;
            Some((liveness, rank, aptitude))
        };
        let Some((liveness, rank, aptitude)) = candidate(challenger) else { return false };
        // Whoever is hindered makes room for one that is able, whatever their ranks.
        let makes_room = |name: &String| {
            let facts = around.nodes.get(name);
            facts.is_some_and(|facts| self.aptitude(name, facts, around) == Aptitude::Hindered)
        };
        if aptitude == Aptitude::Able && places.iter().any(makes_room) {
            return true;
        }
        let last = if places.len() < PLACES { None } else { places.last() };
        last.and_then(|last| candidate(last))
            .is_none_or(|(last_liveness, last_rank, _)| (liveness, rank) < (last_liveness, last_rank))
    }
}

/// Which of two nodes comes first in the election for an address of the Service, whether they are alive or not: true for the
/// first of them. `None` if the second is no candidate.
pub(crate) fn precedes(
    one: &str,
    other: &str,
    service: &ServiceFacts,
    address: &IpAddr,
    around: &Surroundings<'_>,
) -> Option<bool> {
    let subject = Subject::of(service, around.pools, around.sharing).ok()?;
    let contest = subject.contest(address)?;
    let standing = |node: &str| {
        let facts = around.nodes.get(node)?;
        Some((contest.rank(node, facts, around)?, contest.aptitude(node, facts, around)))
    };
    let (other_rank, other_aptitude) = standing(other)?;
    let Some((rank, aptitude)) = standing(one) else { return Some(false) };
    // As in [`Contest::first_places`].
    Some(match (aptitude, other_aptitude) {
        (Aptitude::Able, Aptitude::Hindered) => true,
        (Aptitude::Hindered, Aptitude::Able) => false,
        _ => rank < other_rank,
    })
}

/// The weights of the preferences that match a node which the advertisement selects.
fn preference(advertisement: &L2Advertisement, labels: &Labels) -> u64 {
    let matching = advertisement.preferences.iter().filter(|preference| preference.selector.matches(labels));
    matching.map(|preference| u64::from(preference.weight.get())).sum()
}

/// The first [`PLACES`] of some candidates by rank.
#[derive(Default)]
struct First<'a>(Vec<Candidate<'a>>);

impl<'a> First<'a> {
    fn insert(&mut self, candidate: Candidate<'a>) {
        self.0.push(candidate);
        self.0.sort_unstable();
        self.0.truncate(PLACES);
    }
}

/// Whether a node's change can give it one of the first places of a Service's elections, which have been these so far.
///
/// Saves all elections of every Service each time a node changes: only the changed node is compared.
pub(crate) fn challenges(
    challenger: &str,
    places: &Places,
    service: &ServiceFacts,
    backends: &Backends,
    around: &Surroundings<'_>,
) -> bool {
    let Ok(subject) = Subject::of(service, around.pools, around.sharing) else { return false };
    let mut elections = subject.contests().zip(places.elections());
    elections.any(|(contest, places)| contest.is_challenged(challenger, places, backends, around))
}

/// The places of the election for an address of the Service, among those of all of its elections.
pub(crate) fn places_for<'p>(
    address: &IpAddr,
    places: &'p Places,
    service: &ServiceFacts,
    around: &Surroundings<'_>,
) -> Option<&'p [String]> {
    let subject = Subject::of(service, around.pools, around.sharing).ok()?;
    let mut elections = subject.contests().zip(places.elections());
    let (_, places) = elections.find(|(contest, _)| contest.addresses().contains(address))?;
    Some(places)
}

/// Among whom the controller chooses the owner of a Service (ADR 16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eligible<'n> {
    /// The address that elects.
    pub(crate) address: IpAddr,
    /// The nodes that are preferred most, in their order; empty if it has no endpoints.
    pub(crate) nodes: Vec<&'n str>,
}

/// Those of these nodes that would be candidates for the Service were they alive, and of these the most preferred; `None` if
/// the hash finds its owner.
pub(crate) fn eligible<'n>(
    service: &ServiceFacts,
    backends: &Backends,
    pools: &PoolIndex,
    sharing: &Sharing,
    nodes: impl Iterator<Item = (&'n str, &'n NodeFacts)>,
    exclusion: Exclusion,
) -> Option<Eligible<'n>> {
    let subject = Subject::of(service, pools, Some(sharing)).ok()?;
    if !subject.is_balanced() || subject.may_elect().is_err() {
        return None;
    }
    let has_backends = |node: &str| if service.local_only { backends.on(node) } else { backends.any() };
    let candidates = nodes.filter(|(node, _)| has_backends(node));
    let scored: Vec<(u64, &str)> =
        candidates.filter_map(|(node, facts)| Some((subject.score(facts, exclusion)?, node))).collect();
    let best = scored.iter().map(|(score, _)| *score).max();
    let preferred = scored.iter().filter(|(score, _)| Some(*score) == best);
    Some(Eligible { address: *subject.addresses.first()?, nodes: preferred.map(|(_, node)| *node).collect() })
}
