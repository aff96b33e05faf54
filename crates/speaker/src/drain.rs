//! How a node leaves: first its routes become the last choice, and when traffic has had time to go elsewhere, they are
//! withdrawn (RFC 8326). It leaves for good when it is drained, and for a while when its speaker ends.

use std::collections::BTreeSet;

use kit::{Duration, Instant};

/// How a node leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainOptions {
    /// How long routes are the last choice before they are withdrawn; with zero they are withdrawn at once.
    pub time: Duration,
    /// Keys of taints that say that a node is drained.
    pub taints: BTreeSet<String>,
}

/// How far somebody has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not at all.
    #[default]
    Present,
    /// Routes are the last choice until then.
    Leaving { until: Instant },
    /// Wholly.
    Gone,
}

impl Standing {
    /// Begins to leave, if that was not begun before.
    pub(crate) fn leave(self, now: Instant, time: Duration) -> Standing {
        match self {
            Standing::Present if time.is_zero() => Standing::Gone,
            Standing::Present => Standing::Leaving { until: now + time },
            Standing::Leaving { .. } | Standing::Gone => self,
        }
    }

    /// What it is at this time.
    pub(crate) fn at(self, now: Instant) -> Standing {
        match self {
            Standing::Leaving { until } if until <= now => Standing::Gone,
            other => other,
        }
    }

    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Standing::Leaving { until } => Some(until),
            Standing::Present | Standing::Gone => None,
        }
    }
}

/// Who leaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Departure {
    /// The node: excluded by its label, or drained.
    pub(crate) node: Standing,
    /// This process.
    pub(crate) process: Standing,
    /// Peers that keep our routes when this process ends, by name: for them it does not leave.
    pub(crate) kept: BTreeSet<String>,
    /// It was said that this process has left.
    pub(crate) told: bool,
}

/// What becomes of routes on their way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// They go as they are.
    Normal,
    /// They go as the last choice.
    Lowered,
    /// They are withdrawn.
    Withdrawn,
}

impl Departure {
    /// For this peer.
    pub(crate) fn treatment(&self, peer: &str) -> Treatment {
        match (self.process, self.node) {
            (Standing::Gone, _) if !self.kept.contains(peer) => Treatment::Withdrawn,
            (Standing::Leaving { .. }, _) if !self.kept.contains(peer) => Treatment::Lowered,
            (_, Standing::Leaving { .. }) => Treatment::Lowered,
            (_, Standing::Present | Standing::Gone) => Treatment::Normal,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.node.deadline(), self.process.deadline()].into_iter().flatten().min()
    }
}
