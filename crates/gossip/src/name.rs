//! The name of a member.

use std::fmt;
use std::sync::Arc;

/// The longest name that is taken. A node of Kubernetes has at most 253 characters.
pub const NAME_MAX: usize = 255;

/// The name of a member: the name of its Kubernetes node. Not empty, at most [`NAME_MAX`] bytes, nothing that
/// a terminal would obey; cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The text is no name of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a member's name has 1 to {NAME_MAX} bytes of UTF-8, and no control characters")]
pub struct NameError;

impl Name {
    /// The name with this text.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let wrong = text.is_empty() || text.len() > NAME_MAX || text.chars().any(char::is_control);
        if wrong { Err(NameError) } else { Ok(Name(text.into())) }
    }

    /// Reads the name in a message.
    pub(crate) fn from_wire(bytes: &[u8]) -> Result<Self, NameError> {
        Name::new(std::str::from_utf8(bytes).map_err(|_| NameError)?)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_length() {
        assert_eq!(Name::new(""), Err(NameError));
        assert_eq!(Name::new(&"x".repeat(NAME_MAX + 1)), Err(NameError));
        assert_eq!(Name::new(&"x".repeat(NAME_MAX)).unwrap().as_str().len(), NAME_MAX);
        assert_eq!(Name::from_wire(&[0xff]), Err(NameError));
        assert_eq!(Name::from_wire(b"a\nb"), Err(NameError));
    }
}
