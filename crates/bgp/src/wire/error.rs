//! What is wrong with a message, where, and what the peer is told about it.

use std::fmt;

use super::{ErrorCode, Notification};

/// One thing that is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The byte of the message, its header included, at which the wrong thing begins.
    pub offset: usize,
    /// The field, in the words of its RFC.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What the peer is told if the session ends over this.
    pub notification: Notification,
}

impl DecodeError {
    pub(super) fn new(offset: usize, field: &'static str, code: ErrorCode, problem: impl Into<String>) -> Self {
        DecodeError { offset, field, problem: problem.into(), notification: Notification::new(code) }
    }

    pub(super) fn with_data(self, data: &[u8]) -> Self {
        DecodeError { notification: Notification::with_data(self.notification.error, data), ..self }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.field, self.offset, self.problem)
    }
}

impl std::error::Error for DecodeError {}

/// Something wrong inside a value, before it is known what that means for the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) problem: String,
}

impl Fault {
    pub(super) fn new(offset: usize, problem: impl Into<String>) -> Self {
        Fault { offset, problem: problem.into() }
    }
}

/// What an error costs, the mildest first (RFC 7606 section 2). The strongest of a message holds (section 3 (h)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disposition {
    /// The attribute is ignored.
    Discard,
    /// The routes of the message are taken as withdrawn.
    Withdraw,
    /// The session ends.
    Reset,
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Disposition::Discard => "attribute discarded",
            Disposition::Withdraw => "treated as withdraw",
            Disposition::Reset => "session reset",
        })
    }
}
