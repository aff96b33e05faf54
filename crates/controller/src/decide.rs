//! The decision for one Service that is to be served: contract 3.2, with D1 and D7.
//!
//! The order matters. First, whether what it has is still *valid*; if not, it loses that, and as much as can stay stays.
//! Then, whether it is what was *wished*; if not, the wish is tried, and what it has is given up only when it is met.

use std::net::IpAddr;

use ipam::{Addresses, Allocator, Grant, PoolName, Refusal, Stack, Vacancy, Want};

use crate::demand::Ask;
use crate::problem::{Cause, Problem};

/// What a Service has before the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Had {
    /// Nothing.
    Nothing,
    /// These addresses.
    Addresses(Addresses),
    /// A status that cannot be an assignment: no addresses, too many, or two of one family; as it is shown.
    Garbage(String),
}

/// What was decided. What the Service has now is in the allocator.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    /// It lost what it had.
    pub(crate) cleared: Option<Cleared>,
    /// It got something.
    pub(crate) gained: Option<Gained>,
    /// It does not have all that it asks for.
    pub(crate) problem: Option<Problem>,
    /// What it has now.
    pub(crate) has: Option<Addresses>,
    /// What others may have now.
    pub(crate) vacancies: Vec<Vacancy>,
}

/// What was lost, and why.
#[derive(Debug)]
pub(crate) enum Cleared {
    /// These addresses.
    Addresses(Addresses, Loss),
    /// Something that was no assignment.
    Garbage(String),
}

/// Why addresses were lost.
#[derive(Debug)]
pub(crate) enum Loss {
    /// They are not of the families that the Service needs.
    Families(Stack),
    /// The Service may not have them any more.
    Refused(Refusal),
    /// The Service may not have any.
    Cause(Cause),
}

/// What was got.
#[derive(Debug)]
pub(crate) enum Gained {
    /// New addresses.
    Addresses(Addresses, PoolName),
    /// A second address beside the first.
    Second(IpAddr),
}

pub(crate) fn decide(allocator: &mut Allocator, ask: &Ask, had: Had) -> Decided {
    let stack = match &ask.stack {
        Ok(stack) => *stack,
        Err(cause) => return nothing(allocator, ask, had, (**cause).clone()),
    };
    if !allocator.has_pools() {
        return nothing(allocator, ask, had, Cause::NoPools);
    }
    let current = match had {
        Had::Nothing => return assign(allocator, ask, stack, None),
        Had::Garbage(shown) => {
            let decided = assign(allocator, ask, stack, None);
            return Decided { cleared: Some(Cleared::Garbage(shown)), ..decided };
        }
        Had::Addresses(current) => current,
    };
    let loss = if stack.allows(&current) {
        match allocator.claim(&ask.client, &current) {
            Ok(grant) => return improve(allocator, ask, stack, grant),
            Err(refusal) => Loss::Refused(refusal),
        }
    } else {
        Loss::Families(stack)
    };
    let decided = assign(allocator, ask, stack, Some(&current));
    let has_now = |address: &IpAddr| decided.has.is_some_and(|has| has.contains(address));
    let lost: Vec<IpAddr> = current.iter().filter(|address| !has_now(address)).collect();
    let cleared = Addresses::from_list(&lost).map(|lost| Cleared::Addresses(lost, loss));
    Decided { cleared, ..decided }
}

/// A Service that may have nothing gives up what it has.
fn nothing(allocator: &mut Allocator, ask: &Ask, had: Had, cause: Cause) -> Decided {
    let cleared = match had {
        Had::Nothing => None,
        Had::Addresses(addresses) => Some(Cleared::Addresses(addresses, Loss::Cause(cause.clone()))),
        Had::Garbage(shown) => Some(Cleared::Garbage(shown)),
    };
    let vacancies = allocator.release(&ask.client.holder);
    Decided { cleared, problem: Some(Problem { cause, keeps: None }), vacancies, ..Decided::default() }
}

/// A Service without valid addresses gets some. Of those it had, what can stay stays, also when it wishes something else
/// that it cannot have (D7).
fn assign(allocator: &mut Allocator, ask: &Ask, stack: Stack, previous: Option<&Addresses>) -> Decided {
    let result =
        want(ask, stack, previous).and_then(|want| allocator.allocate(&ask.client, &want).map_err(Cause::Refused));
    let cause = match result {
        Ok(grant) => return granted(allocator, ask, stack, previous, grant),
        Err(cause) => cause,
    };
    let part = previous.and_then(|previous| valid_part(allocator, ask, stack, previous));
    let keeps = part.as_ref().map(|grant| grant.addresses);
    let vacancies = part.map_or_else(|| allocator.release(&ask.client.holder), |grant| grant.vacancies);
    Decided { problem: Some(Problem { cause, keeps }), has: keeps, vacancies, ..Decided::default() }
}

/// The first of the addresses it had that it may have alone.
fn valid_part(allocator: &mut Allocator, ask: &Ask, stack: Stack, previous: &Addresses) -> Option<Grant> {
    let alone = previous.iter().map(Addresses::one).filter(|alone| stack.allows(alone));
    alone.into_iter().find_map(|alone| allocator.claim(&ask.client, &alone).ok())
}

/// A Service with valid addresses gets what it wishes, if that is something else and can be had.
fn improve(allocator: &mut Allocator, ask: &Ask, stack: Stack, current: Grant) -> Decided {
    let wish = want(ask, stack, Some(&current.addresses)).and_then(|want| {
        let is_met = want.addresses.is_none_or(|wished| wished.same_set(&current.addresses))
            && want.pool.is_none_or(|wished| *wished == *current.pool);
        if is_met { Ok(None) } else { allocator.allocate(&ask.client, &want).map(Some).map_err(Cause::Refused) }
    });
    let mut decided = match wish {
        Ok(None) => second(allocator, ask, stack, current.addresses),
        Ok(Some(grant)) => granted(allocator, ask, stack, Some(&current.addresses), grant),
        Err(cause) => {
            let keeps = Some(current.addresses);
            Decided { problem: Some(Problem { cause, keeps }), has: keeps, ..Decided::default() }
        }
    };
    decided.vacancies.extend(current.vacancies);
    decided
}

/// What follows from new addresses, given what it had.
fn granted(allocator: &mut Allocator, ask: &Ask, stack: Stack, old: Option<&Addresses>, grant: Grant) -> Decided {
    let is_new = |address: &IpAddr| old.is_none_or(|old| !old.contains(address));
    let new: Vec<IpAddr> = grant.addresses.iter().filter(is_new).collect();
    let kept_one = new.len() < grant.addresses.iter().count();
    let gained = match new.as_slice() {
        [] => None,
        [second] if kept_one => Some(Gained::Second(*second)),
        _ => Some(Gained::Addresses(grant.addresses, grant.pool)),
    };
    let mut decided = second(allocator, ask, stack, grant.addresses);
    decided.gained = gained;
    decided.vacancies.extend(grant.vacancies);
    decided
}

/// A Service that prefers to have two addresses and has one gets another, if there is one in the same pool. Whoever named
/// one address gets no other beside it.
fn second(allocator: &mut Allocator, ask: &Ask, stack: Stack, has: Addresses) -> Decided {
    let may_extend = matches!(stack, Stack::PreferDual { .. }) && ask.addresses() == Ok(None);
    match may_extend.then(|| allocator.extend(&ask.client.holder)).flatten() {
        Some(Ok(Grant { addresses: both, vacancies, .. })) => {
            Decided { gained: both.second().map(Gained::Second), has: Some(both), vacancies, ..Decided::default() }
        }
        Some(Err(refusal)) => {
            let problem = Some(Problem { cause: Cause::NoSecondAddress(refusal), keeps: Some(has) });
            Decided { problem, has: Some(has), ..Decided::default() }
        }
        None => Decided { has: Some(has), ..Decided::default() },
    }
}

/// What the Service asks the allocator for.
pub(crate) fn want<'a>(ask: &'a Ask, stack: Stack, previous: Option<&'a Addresses>) -> Result<Want<'a>, Cause> {
    let addresses = ask.addresses().map_err(|error| Cause::Malformed(error.clone()))?;
    Ok(Want { stack, addresses, pool: ask.pool(), previous })
}
