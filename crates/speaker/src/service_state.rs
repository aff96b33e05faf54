//! What a speaker knows of one Service, what it decided last, and what changes concern that.

use l2::InterfaceSet;

use super::granted;
use crate::backends::Backends;
use crate::contest;
use crate::decide::{BgpGrant, Layer2Grant, Surroundings};
use crate::facts::ServiceFacts;
use crate::members::Places;
use crate::verdict::{Decision, Ending, Protocol, Refusal};

/// A Service, or endpoints of one that is not known yet.
#[derive(Debug, Default)]
pub(super) struct ServiceState {
    pub(super) facts: Option<ServiceFacts>,
    pub(super) slices: Backends,
    pub(super) layer2: Option<Decision<Layer2Grant>>,
    /// The first places of its elections.
    pub(super) places: Places,
    pub(super) bgp: Option<Decision<BgpGrant>>,
    /// What is shown of it: the interfaces it is restricted to, and the peers it is announced to.
    pub(super) shown_interfaces: Option<Vec<String>>,
    pub(super) shown_peers: Vec<String>,
}

impl ServiceState {
    pub(super) fn is_announced(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Layer2 => granted(self.layer2.as_ref()).is_some(),
            Protocol::Bgp => granted(self.bgp.as_ref()).is_some(),
        }
    }

    /// The pool it was announced from, if it was.
    pub(super) fn pool(&self) -> Option<&str> {
        let layer2 = granted(self.layer2.as_ref()).map(|grant| grant.pool.as_str());
        layer2.or_else(|| granted(self.bgp.as_ref()).map(|grant| grant.pool.as_str()))
    }

    /// Whether a change of another node can change the decision: only the election looks at other nodes.
    pub(super) fn is_affected_by(&self, node: &str, around: &Surroundings<'_>) -> bool {
        let Some(facts) = &self.facts else { return false };
        match self.layer2.as_ref().map(|decision| &decision.outcome) {
            // Whether others that are not heard of could announce it.
            Some(Err(Refusal::Hindered(_))) if !around.cut.is_empty() => return true,
            Some(Ok(_) | Err(Refusal::NoSuchInterface(_))) if around.is_alone() && !around.cut.is_empty() => {
                return true;
            }
            // The outcome is that of all its elections together, and one of several may have been lost for that reason.
            Some(Ok(_) | Err(Refusal::NoSuchInterface(_) | Refusal::NotElected(_)))
                if facts.may_share && !around.cut.is_empty() =>
            {
                return true;
            }
            Some(Ok(_) | Err(Refusal::NoSuchInterface(_) | Refusal::NotElected(_) | Refusal::Hindered(_))) => {}
            // It is the last choice, for as long as there is another.
            Some(Err(Refusal::NodeNotReady)) => return true,
            Some(Err(_)) | None => return false,
        }
        self.places.has(node) || contest::challenges(node, &self.places, facts, &self.slices, around)
    }

    /// Whether its elections depend on the rules by which they are held: the controller has chosen a node for it, or it may
    /// share an address.
    pub(super) fn depends_on_rules(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.assigned.is_some() || facts.may_share)
    }

    /// How an address of it that it does not hold here was given up.
    pub(super) fn ending(&self) -> Ending {
        match self.layer2.as_ref().map(|decision| &decision.outcome) {
            // Another node is elected for this one, or that is to be decided yet.
            Some(Ok(_)) | None => Ending::HandOver,
            Some(Err(refusal)) => refusal.ending(),
        }
    }

    pub(super) fn depends_on_interfaces(&self) -> bool {
        match self.layer2.as_ref().map(|decision| &decision.outcome) {
            Some(Ok(grant)) => grant.interfaces != InterfaceSet::All,
            Some(Err(refusal)) => matches!(refusal, Refusal::NoSuchInterface(_)),
            None => false,
        }
    }

    pub(super) fn depends_on_peers(&self) -> bool {
        matches!(self.bgp.as_ref().map(|it| &it.outcome), Some(Ok(_) | Err(Refusal::NoPeer)))
    }
}
