//! Pools as they are configured: which addresses, for whom, how early (contract 1.1, 3.3).

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use kit::{AddrRange, Labels, SelectorList};

use crate::LabelText;

/// After every priority that can be set.
const PRIORITY_UNSET: u64 = 1 << 32;

/// The name of an IPAddressPool.
pub type PoolName = Arc<str>;

/// A pool of addresses. No two ranges of any pools that are in force together overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Its addresses, in the order in which they are given out.
    pub ranges: Vec<AddrRange>,
    /// It may be used without being asked for.
    pub auto_assign: bool,
    /// IPv4 addresses that end in 0 or 255 are not used.
    pub avoid_buggy_ips: bool,
    /// Present for a pool that is meant for some Services (`serviceAllocation`).
    pub pinning: Option<Pinning>,
}

/// For which Services a pool is meant, and how early it is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinning {
    /// The lower, the earlier; `None` is last.
    pub priority: Option<u32>,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label.
    pub namespace_selectors: SelectorList,
    /// Services by label; holds together with the namespace condition.
    pub service_selectors: SelectorList,
}

impl Pool {
    /// Whether the pool may be used by a Service that asked for nothing in particular, and in which round.
    pub(crate) fn automatic(&self) -> Automatic {
        match &self.pinning {
            _ if !self.auto_assign => Automatic::Off,
            None => Automatic::Open,
            // A pool that has a priority and no condition is meant for nobody in particular: contract 3.3 leaves it to
            // those who ask for it.
            Some(pinning) if pinning.names_nobody() => Automatic::OnRequest,
            Some(_) => Automatic::Pinned,
        }
    }

    /// The order in which pools are tried: the pinned ones by priority, then the others; by name where that is equal
    /// (contract 3.3 with D40).
    pub(crate) fn trial_order(&self, other: &Pool) -> Ordering {
        let rank = |pool: &Pool| match &pool.pinning {
            Some(pinning) => pinning.priority.map_or(PRIORITY_UNSET, u64::from),
            None => u64::MAX,
        };
        rank(self).cmp(&rank(other)).then_with(|| self.name.cmp(&other.name))
    }

    /// True when Services of this namespace may use the pool. `labels` are those of the namespace, `None` if it is not
    /// known.
    ///
    /// Selectors that match no namespace accept nobody, by name of the pool or of an address no more than automatically
    /// (D6).
    pub(crate) fn accepts_namespace(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        self.pinning.as_ref().is_none_or(|pinning| {
            (pinning.namespaces.is_empty() && pinning.namespace_selectors.is_empty())
                || pinning.namespaces.contains(namespace)
                || labels.is_some_and(|labels| pinning.namespace_selectors.any_matches(labels))
        })
    }

    /// True when a Service with these labels may use the pool.
    pub(crate) fn accepts_labels(&self, labels: &LabelText) -> bool {
        self.pinning.as_ref().is_none_or(|pinning| {
            pinning.service_selectors.is_empty() || pinning.service_selectors.matches(&labels.labels())
        })
    }

    /// True when which namespaces it accepts depends on their labels.
    pub(crate) fn selects_namespaces(&self) -> bool {
        self.pinning.as_ref().is_some_and(|pinning| !pinning.namespace_selectors.is_empty())
    }
}

impl Pinning {
    fn names_nobody(&self) -> bool {
        self.namespaces.is_empty() && self.namespace_selectors.is_empty() && self.service_selectors.is_empty()
    }
}

/// How a pool takes part when nothing in particular is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Automatic {
    /// In the first round, for the Services it is meant for.
    Pinned,
    /// In the second round, for everyone.
    Open,
    /// Not at all: `autoAssign` is off.
    Off,
    /// Not at all: `serviceAllocation` says neither which namespaces nor which Services.
    OnRequest,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::Selector;

    fn pool(name: &str, pinning: Option<Pinning>) -> Pool {
        Pool { name: name.into(), ranges: Vec::new(), auto_assign: true, avoid_buggy_ips: false, pinning }
    }

    fn priority(priority: u32) -> Pinning {
        Pinning { priority: Some(priority), ..Pinning::default() }
    }

    #[test]
    fn d40_pools_are_tried_by_priority_then_by_name() {
        let mut pools = [
            pool("open-b", None),
            pool("open-a", None),
            pool("early-name", Some(Pinning::default())),
            pool("late", Some(priority(u32::MAX))),
            pool("z", Some(priority(1))),
            pool("b", Some(priority(5))),
            pool("a", Some(priority(5))),
        ];
        pools.sort_by(Pool::trial_order);
        let names: Vec<&str> = pools.iter().map(|pool| &*pool.name).collect();
        assert_eq!(names, ["z", "a", "b", "late", "early-name", "open-a", "open-b"]);
    }

    #[test]
    fn d6_selectors_that_match_no_namespace_accept_nobody() {
        let selected =
            Pinning { namespace_selectors: SelectorList(vec![Selector::label("team", "red")]), ..Pinning::default() };
        let red: Labels = [("team".to_owned(), "red".to_owned())].into();
        let blue: Labels = [("team".to_owned(), "blue".to_owned())].into();
        let pool = pool("p", Some(selected));
        assert!(pool.accepts_namespace("x", Some(&red)));
        assert!(!pool.accepts_namespace("x", Some(&blue)));
        assert!(!pool.accepts_namespace("x", None));
    }

    #[test]
    fn namespaces_by_name_and_by_label_add_up() {
        let both = Pinning {
            namespaces: ["listed".to_owned()].into(),
            namespace_selectors: SelectorList(vec![Selector::label("team", "red")]),
            ..Pinning::default()
        };
        let pool = pool("p", Some(both));
        let red: Labels = [("team".to_owned(), "red".to_owned())].into();
        assert!(pool.accepts_namespace("listed", None));
        assert!(pool.accepts_namespace("other", Some(&red)));
        assert!(!pool.accepts_namespace("other", Some(&Labels::new())));
    }
}
