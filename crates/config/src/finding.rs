//! What is wrong with a set of objects, in a form that every place can show: the linter, the webhook, a condition, a log.

use std::fmt;

use api::ObjectRef;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth telling; the configuration can be used.
    Warning,
    /// The configuration cannot be used.
    Error,
}

/// One thing that is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable name of the rule, such as `pool-overlap`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The object to look at.
    pub object: ObjectRef,
    /// JSON pointer (RFC 6901) to the place inside the object; empty for the object as a whole.
    pub pointer: String,
    /// What is wrong. Holds the stable part of contract 4.2, which users search for.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}
