//! The label before a packet, or at the begin of a stream (type 244): clusters with different labels ignore each other.
//! MetalLB sets none.

use super::{DecodeError, MessageType};

/// The most bytes of a label.
pub const LABEL_MAX: usize = 255;

/// What a label adds.
pub(crate) fn length(label: &[u8]) -> usize {
    if label.is_empty() { 0 } else { label.len().saturating_add(2) }
}

/// The header of a label, at most [`LABEL_MAX`] bytes of it; nothing for an empty one.
pub(crate) fn encode(label: &[u8]) -> Vec<u8> {
    let label = label.get(..LABEL_MAX).unwrap_or(label);
    if label.is_empty() {
        return Vec::new();
    }
    let mut out = vec![MessageType::HasLabel as u8, u8::try_from(label.len()).unwrap_or(u8::MAX)];
    out.extend_from_slice(label);
    out
}

/// What comes first in a packet or stream, and the rest.
type Split<'a> = (&'a [u8], &'a [u8]);

/// Takes the label off; an empty one if there is none, and `None` if the bytes end within it.
pub(crate) fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, DecodeError> {
    match bytes {
        [kind, 0, ..] if *kind == MessageType::HasLabel as u8 => {
            Err(DecodeError::invalid("label", "it is there, and empty"))
        }
        [kind, length, rest @ ..] if *kind == MessageType::HasLabel as u8 => {
            Ok(rest.split_at_checked(usize::from(*length)))
        }
        [kind] if *kind == MessageType::HasLabel as u8 => Ok(None),
        _ => Ok(Some((&[], bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_taken_off() {
        let bytes = [encode(b"blue"), vec![0, 1]].concat();
        assert_eq!(bytes, b"\xf4\x04blue\x00\x01");
        assert_eq!(split(&bytes), Ok(Some((&b"blue"[..], &[0, 1][..]))));
        assert_eq!(split(&[0, 1]), Ok(Some((&[][..], &[0, 1][..]))));
        assert!(encode(b"").is_empty());
        for cut in 1..6 {
            assert_eq!(split(&bytes[..cut]), Ok(None), "{cut}");
        }
        assert!(split(&[244, 0]).is_err());
        assert_eq!(encode(&[b'x'; 300]).len(), length(&[b'x'; LABEL_MAX]));
    }
}
