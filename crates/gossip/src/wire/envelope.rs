//! Encryption of packets and streams: version, nonce, encrypted message, tag.
//!
//! Version 0 pads the message to blocks of 16 bytes (PKCS #7), which GCM does not need; version 1 does not. Members of
//! protocol version 2, as all MetalLB speakers are, send version 1 and understand both.

use super::DecodeError;
use crate::key::{Keyring, NONCE_LEN, Seal, TAG_LEN};

/// What we send.
const VERSION: u8 = 1;
const VERSION_PADDED: u8 = 0;
const BLOCK: usize = 16;

/// What encryption adds to a message.
pub(crate) const OVERHEAD: usize = 1 + NONCE_LEN + TAG_LEN;

/// Appends the encrypted message.
pub(crate) fn seal(key: &dyn Seal, associated: &[u8], plain: &[u8], out: &mut Vec<u8>) {
    out.push(VERSION);
    key.seal(associated, plain, out);
}

/// What is in an encrypted message, and the place in the keyring of the key that opened it.
pub(crate) fn open(keyring: &Keyring, associated: &[u8], message: &[u8]) -> Result<(Vec<u8>, usize), DecodeError> {
    let (version, sealed) = message.split_first().ok_or(DecodeError::Truncated("encrypted message"))?;
    if *version > VERSION {
        return Err(DecodeError::Sealed);
    }
    if sealed.len() < NONCE_LEN.saturating_add(TAG_LEN) {
        return Err(DecodeError::Truncated("encrypted message"));
    }
    let opened = keyring.iter().enumerate().find_map(|(place, key)| Some((key.open(associated, sealed)?, place)));
    let (mut plain, place) = opened.ok_or(DecodeError::Sealed)?;
    if *version == VERSION_PADDED {
        let padding = plain.last().copied().map_or(0, usize::from);
        let length = plain.len().checked_sub(padding).filter(|_| (1..=BLOCK).contains(&padding));
        plain.truncate(length.ok_or(DecodeError::invalid("padding", "it is none"))?);
    }
    Ok((plain, place))
}
