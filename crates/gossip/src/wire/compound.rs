//! Several messages in one (type 7): their number, their lengths, then they themselves.

use super::{DecodeError, MessageType};

/// The most messages in one: their number is a byte.
pub(crate) const PARTS_MAX: usize = u8::MAX as usize;

/// What a compound costs beside its parts, and for each part.
pub(crate) const OVERHEAD: usize = 2;

/// The messages in one; without the head if it is but one. What does not fit in lengths of 16 bits, or is more than
/// [`PARTS_MAX`], is left out: the caller sees to both.
pub(crate) fn encode(parts: Vec<Vec<u8>>) -> Vec<u8> {
    let mut parts = parts;
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    parts.truncate(PARTS_MAX);
    parts.retain(|part| u16::try_from(part.len()).is_ok());
    let mut out = vec![MessageType::Compound as u8, u8::try_from(parts.len()).unwrap_or(u8::MAX)];
    for part in &parts {
        out.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
    }
    for part in &parts {
        out.extend_from_slice(part);
    }
    out
}

/// The parts of a compound whose type is taken off. Those that are cut short are missing, as Go has it.
pub(crate) fn decode(body: &[u8]) -> Result<impl Iterator<Item = &[u8]>, DecodeError> {
    let truncated = DecodeError::Truncated("compound");
    let (count, rest) = body.split_first().ok_or(truncated.clone())?;
    let (lengths, mut rest) = rest.split_at_checked(usize::from(*count).saturating_mul(2)).ok_or(truncated)?;
    let lengths = lengths.as_chunks::<2>().0.iter().map(|length| usize::from(u16::from_be_bytes(*length)));
    Ok(lengths.map_while(move |length| {
        let (part, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(part)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let parts = vec![vec![1], vec![], vec![2; 300]];
        let bytes = encode(parts.clone());
        assert_eq!(bytes[..2], [7, 3]);
        assert_eq!(decode(&bytes[1..]).unwrap().collect::<Vec<_>>(), parts);
        assert_eq!(encode(vec![vec![9, 9]]), [9, 9], "one alone needs no envelope");
    }

    #[test]
    fn parts_that_are_cut_short_are_missing() {
        let bytes = encode(vec![vec![1, 1], vec![2, 2]]);
        assert_eq!(decode(&bytes[1..bytes.len() - 1]).unwrap().collect::<Vec<_>>(), [[1, 1]]);
        assert!(decode(&[]).is_err());
        assert!(decode(&[2, 0, 1]).is_err());
    }
}
