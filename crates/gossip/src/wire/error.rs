//! Why bytes are not what they should be.

/// What is wrong with a packet, a stream or a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early. On a stream, more may come.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// A value that the field cannot have.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, in memberlist's words.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More than we take.
    #[error("{field} is larger than {limit}")]
    TooLarge {
        /// What is too large.
        field: &'static str,
        /// The limit that it breaks.
        limit: usize,
    },
    /// A message type that does not belong here, or that nobody knows.
    #[error("message type {0} is not expected here")]
    Unexpected(u8),
    /// No key of ours opens it.
    #[error("no key of ours opens it")]
    Sealed,
    /// It is encrypted, and we have no key.
    #[error("it is encrypted, and no key is configured here")]
    NoKey,
    /// It is not encrypted, and we have a key.
    #[error("it is not encrypted, and a key is configured here")]
    Plaintext,
    /// It belongs to members with another label.
    #[error("it has another label")]
    Label,
    /// The bytes changed on the way.
    #[error("the checksum is wrong")]
    Checksum,
}

impl DecodeError {
    pub(crate) fn invalid(field: &'static str, problem: &'static str) -> Self {
        DecodeError::Invalid { field, problem }
    }
}
