//! Who takes part in the elections on the local segment: the members of memberlist that are alive, or, without
//! memberlist, the nodes that are Ready (contract 5.2, R8). And whom this node has to watch.

use std::collections::{BTreeMap, BTreeSet};

use crate::hindrance::Hindrances;

/// What is known of the other speakers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Members {
    /// There is no memberlist: every node counts, and those that are Ready count more.
    #[default]
    Off,
    /// There is one, and this speaker has not found the others yet. It must not take addresses from them.
    Joining,
    /// These speakers are alive, by names of their nodes. This one is among them, whether it is named or not.
    Alive(BTreeMap<String, Statement>),
}

/// What another speaker says of what keeps its node from announcing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Statement {
    /// Nothing, as those of the Go implementation. They take no statement in either.
    #[default]
    Missing,
    /// These hindrances, and no others.
    Made(Hindrances),
}

/// By which rules elections are held: all have to find the same owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rules {
    /// By ours: the nodes that the controller assigns addresses to count (ADR 16), and who shares an address (ADR 3).
    #[default]
    Ours,
    /// By those of the Go implementation, for somebody knows no others.
    Common,
}

/// Whether a candidate is known to be alive. One that is not comes after all that are, and is a candidate nevertheless:
/// where no node is Ready, as on the only node of a cluster whose kubelet is gone, or when a cluster has just found its
/// API again, the wrong node is better than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Liveness {
    Alive,
    NotReady,
}

/// Whether this process takes part for much longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    Stays,
    /// It ends as soon as others have taken over.
    Leaves,
}

impl Members {
    /// These are alive, and make no statement.
    pub fn alive(names: impl IntoIterator<Item = String>) -> Members {
        Members::Alive(names.into_iter().map(|name| (name, Statement::Missing)).collect())
    }

    /// How alive a node other than this one is; none if it takes no part. Contract 5.2: members count, whether their nodes are Ready or not,
    /// so that speakers of the Go implementation find the same.
    pub(crate) fn liveness(&self, node: &str, ready: bool) -> Option<Liveness> {
        match self {
            Members::Off => Some(if ready { Liveness::Alive } else { Liveness::NotReady }),
            Members::Joining => None,
            Members::Alive(names) => names.contains_key(node).then_some(Liveness::Alive),
        }
    }

    /// What a node says of itself; none if that does not count: without memberlist nobody would hear it.
    pub(crate) fn statement(&self, node: &str) -> Option<&Statement> {
        match self {
            Members::Off | Members::Joining => None,
            Members::Alive(names) => names.get(node),
        }
    }

    /// The rules among these members. Speakers of the Go implementation, which make no statement, know none of ours. Without
    /// memberlist nobody can tell who they are.
    pub(crate) fn rules(&self, here: &str) -> Rules {
        let is_strange = |(name, statement): (&String, &Statement)| name != here && *statement == Statement::Missing;
        match self {
            Members::Alive(members) if members.iter().any(is_strange) => Rules::Common,
            Members::Off | Members::Joining | Members::Alive(_) => Rules::Ours,
        }
    }

    /// The nodes about which the two differ; none if that cannot be said.
    pub(crate) fn difference(&self, other: &Members) -> Option<BTreeSet<String>> {
        match (self, other) {
            (Members::Alive(one), Members::Alive(other)) => {
                let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
                Some(names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect())
            }
            _ => None,
        }
    }
}

/// How many places of an election are kept: the owner and two heirs. Each heir watches those before it, so that the
/// addresses of two nodes that die together are taken over as quickly as those of one.
pub(crate) const PLACES: usize = 3;

/// The first places of the elections of a Service. Nearly always there is one, for all of its addresses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Places {
    /// Of one election, or of none.
    One(Vec<String>),
    /// Of several, in the order of the groups of addresses that they are about.
    Several(Box<[Vec<String>]>),
}

impl Default for Places {
    fn default() -> Self {
        Places::One(Vec::new())
    }
}

impl Places {
    /// Those of these elections.
    pub(crate) fn new(mut elections: Vec<Vec<String>>) -> Places {
        match elections.len() {
            0 | 1 => Places::One(elections.pop().unwrap_or_default()),
            _ => Places::Several(elections.into()),
        }
    }

    /// Election by election.
    pub(crate) fn elections(&self) -> &[Vec<String>] {
        match self {
            Places::One(places) => std::slice::from_ref(places),
            Places::Several(elections) => elections,
        }
    }

    /// Whether a node has one in any of them.
    pub(crate) fn has(&self, node: &str) -> bool {
        self.elections().iter().flatten().any(|name| name == node)
    }
}

/// The nodes whose addresses this node would inherit, each with the number of elections that say so.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    reasons: BTreeMap<String, usize>,
    told: BTreeSet<String>,
}

impl Watching {
    /// The places of one Service are other ones than before.
    pub(crate) fn replace(&mut self, node: &str, old: &Places, new: &Places) {
        for name in new.elections().iter().flat_map(|places| predecessors(node, places)) {
            let reasons = self.reasons.entry(name.clone()).or_default();
            *reasons = reasons.saturating_add(1);
        }
        for name in old.elections().iter().flat_map(|places| predecessors(node, places)) {
            let Some(reasons) = self.reasons.get_mut(name) else { continue };
            *reasons = reasons.saturating_sub(1);
            if *reasons == 0 {
                self.reasons.remove(name);
            }
        }
    }

    /// Whom to watch from now on, if that is not what was told last.
    pub(crate) fn news(&mut self) -> Option<BTreeSet<String>> {
        if self.reasons.len() == self.told.len() && self.reasons.keys().eq(self.told.iter()) {
            return None;
        }
        self.told = self.reasons.keys().cloned().collect();
        Some(self.told.clone())
    }
}

/// Those before a node in the places of an election; none if it has no place.
fn predecessors<'a>(node: &str, places: &'a [String]) -> &'a [String] {
    let place = places.iter().position(|name| name == node).unwrap_or(0);
    places.get(..place).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One election a line.
    fn places(text: &str) -> Places {
        Places::new(text.split(',').map(|line| line.split_whitespace().map(str::to_owned).collect()).collect())
    }

    fn names(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_node_watches_those_before_it_for_as_long_as_any_service_says_so() {
        let mut watching = Watching::default();
        let none = Places::default();
        assert_eq!(watching.news(), None);
        watching.replace("n1", &none, &places("n2 n3 n1"));
        watching.replace("n1", &none, &places("n2 n1 n3"));
        watching.replace("n1", &none, &places("n1 n4 n5"));
        watching.replace("n1", &none, &places("n6 n7 n8"));
        assert_eq!(watching.news(), Some(names("n2 n3")));
        watching.replace("n1", &places("n2 n3 n1"), &places("n2 n1"));
        assert_eq!(watching.news(), Some(names("n2")));
        watching.replace("n1", &places("n2 n1"), &none);
        assert_eq!(watching.news(), None);
        watching.replace("n1", &places("n2 n1 n3"), &places("n1 n3"));
        assert_eq!(watching.news(), Some(BTreeSet::new()));
    }

    #[test]
    fn contract_12_1_d10_each_election_of_a_service_has_its_own_places() {
        let mut watching = Watching::default();
        watching.replace("n1", &Places::default(), &places("n1 n2 n3, n4 n5 n1"));
        assert_eq!(watching.news(), Some(names("n4 n5")));
        watching.replace("n1", &places("n1 n2 n3, n4 n5 n1"), &places("n2 n1, n4 n1"));
        assert_eq!(watching.news(), Some(names("n2 n4")));
        watching.replace("n1", &places("n2 n1, n4 n1"), &places("n2 n1 n4"));
        assert_eq!(watching.news(), Some(names("n2")));
        // A Service with one takes no more memory than its list.
        assert_eq!(size_of::<Places>(), size_of::<Vec<String>>());
    }
}
