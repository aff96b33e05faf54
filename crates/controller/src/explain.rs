//! Why a Service has what it has: the record that `why`, the dashboard and people read.

use std::fmt;

use api::Key;
use ipam::{Addresses, PoolName, PoolReport};

use crate::controller::Controller;
use crate::decide::want;
use crate::demand::{Demand, holder};
use crate::events::lament;
use crate::problem::{Cause, Problem};

/// What was decided about a Service, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The Service.
    pub service: Key,
    /// The result.
    pub outcome: Outcome,
    /// What each pool that may be used says to what the Service asks for, in the order in which they are tried. For a
    /// Service that has what it asks for, and for one that asks for addresses by name, there is nothing to say.
    pub pools: Vec<PoolReport>,
}

/// What became of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is decided yet: the configuration or the list of objects is missing.
    NotStarted,
    /// It is not ours to serve; what it had is being cleared.
    NotServed,
    /// It has what it asks for.
    Assigned {
        /// Its addresses.
        addresses: Addresses,
        /// Their pool.
        pool: PoolName,
    },
    /// It does not have all that it asks for.
    Wanting(Problem),
}

/// What a Service without an address is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The word for programs.
    pub reason: &'static str,
    /// The sentence for people: what is wrong, and what to do.
    pub message: String,
}

impl Controller {
    /// Why the Service has no address; `None` if it has one, or if there is nothing to tell yet. Costs O(number of pools).
    pub fn complaint(&self, service: &Key) -> Option<Complaint> {
        let record = self.services.get(&holder(service))?;
        let problem = record.problem.as_deref().filter(|problem| problem.keeps.is_none())?;
        let Demand::Serve(ask) = &record.demand else { return None };
        let message = format!("no address: {}", lament(&self.allocator, ask, &problem.cause));
        Some(Complaint { reason: problem.cause.reason(), message })
    }

    /// Why the Service has what it has; `None` if it is not ours to serve or not there. Costs O(number of pools).
    pub fn explain(&self, service: &Key) -> Option<Decision> {
        let name = holder(service);
        let record = self.services.get(&name)?;
        let decision = |outcome, pools| Some(Decision { service: service.clone(), outcome, pools });
        if !self.is_active() {
            return decision(Outcome::NotStarted, Vec::new());
        }
        let Demand::Serve(ask) = &record.demand else { return decision(Outcome::NotServed, Vec::new()) };
        let holding = self.allocator.holding(&name);
        let Some(problem) = record.problem.as_deref() else {
            return match holding {
                Some(held) => {
                    decision(Outcome::Assigned { addresses: held.addresses, pool: held.pool.clone() }, Vec::new())
                }
                None => decision(Outcome::NotStarted, Vec::new()),
            };
        };
        let want = ask.stack.as_ref().ok().and_then(|stack| want(ask, *stack, None).ok());
        let Some(want) = want.filter(|_| !matches!(problem.cause, Cause::NoSecondAddress(_))) else {
            return decision(Outcome::Wanting(problem.clone()), Vec::new());
        };
        // What was in the way when it was told may have been replaced by something else since.
        let cause = match self.allocator.search(&ask.client, &want) {
            Err(refusal) if holding.is_none() && self.allocator.has_pools() => Cause::Refused(refusal),
            Ok(_) | Err(_) => problem.cause.clone(),
        };
        let pools = self.allocator.verdicts(&ask.client, &want).collect();
        decision(Outcome::Wanting(Problem { cause, keeps: problem.keeps }), pools)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {}: {}", self.service, self.outcome)?;
        self.pools.iter().try_for_each(|report| write!(f, "\n  {report}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::NotStarted => f.write_str("nothing is decided yet"),
            Outcome::NotServed => f.write_str("it is not served by this controller"),
            Outcome::Assigned { addresses, pool } => write!(f, "has {addresses} from pool {pool}"),
            Outcome::Wanting(Problem { cause, keeps: Some(addresses) }) => write!(f, "keeps {addresses}: {cause}"),
            Outcome::Wanting(Problem { cause, keeps: None }) => write!(f, "has no address: {cause}"),
        }
    }
}
