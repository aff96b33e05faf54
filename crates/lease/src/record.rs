//! The record that the candidates share.

use std::collections::BTreeSet;
use std::fmt;

use kit::Duration;

use crate::LEASE;

/// What the record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who leads: the name of a pod. Empty for nobody.
    pub holder: String,
    /// Which process of that name it is; empty if it is none of ours.
    pub process: String,
    /// How long the record is valid if it does not change.
    pub duration: Duration,
    /// How often it has changed hands.
    pub transitions: u32,
    /// When it was renewed, by the holder's clock. Nobody here believes it, but that it changes. Who stores a record
    /// fills it in.
    pub renewed: String,
    /// Targets to which writes may be under way.
    pub open: BTreeSet<Target>,
}

impl Record {
    /// The shortest and the longest time for which a record of somebody else is taken to be valid.
    const DURATIONS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

    /// How long the record counts from its last change.
    pub(crate) fn validity(&self) -> Duration {
        match self.duration {
            Duration::ZERO => LEASE,
            duration => duration.clamp(Self::DURATIONS.0, Self::DURATIONS.1),
        }
    }
}

/// The record as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Which moment.
    pub version: Version,
    /// What it said.
    pub record: Record,
}

/// Tells two moments of an object apart. It has no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version(pub String);

/// The object that a write goes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target(Box<str>);

impl Target {
    /// The object of this name.
    pub fn new(name: &str) -> Self {
        Target(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A time of leading without a break, counted by the one who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub u64);
