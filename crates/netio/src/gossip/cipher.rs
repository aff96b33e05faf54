//! AES-256-GCM for memberlist's packets and streams.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use gossip::{Key, NONCE_LEN, Seal};
use kit::Secret;

/// AES-256-GCM with one key.
///
/// Nonces count up from a random start. Drawn anew for each message, as Go's members do, they would begin to repeat
/// after 2^48 messages of all members together, and we send many; counted, two programs would have to start within
/// reach of each other among 2^96 numbers.
#[derive(Debug)]
pub struct AesGcm {
    key: LessSafeKey,
    /// The first nonce, as a number of 96 bits.
    start: u128,
    sealed: AtomicU64,
}

impl AesGcm {
    /// The cipher with this key.
    ///
    /// # Errors
    ///
    /// When there is no randomness to be had.
    pub fn new(key: &Key) -> Result<Self, Unspecified> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.bytes())?);
        let mut start = [0; 16];
        rand::fill(&mut start)?;
        Ok(AesGcm { key, start: u128::from_be_bytes(start), sealed: AtomicU64::new(0) })
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let count = self.sealed.fetch_add(1, Ordering::Relaxed);
        let bytes = self.start.wrapping_add(count.into()).to_be_bytes();
        bytes.last_chunk().copied().unwrap_or_default()
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A secret for the key of a new cluster, as MetalLB makes it: 16 random bytes in base64, unpadded (contract 7.7).
///
/// # Errors
///
/// When there is no randomness to be had.
pub fn new_secret() -> Result<Secret, Unspecified> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(Secret::new(base64(u128::from_be_bytes(bytes))))
}

/// Sixteen bytes: twenty-one digits of six bits, and one of the last two.
fn base64(bytes: u128) -> String {
    let whole = (0..21_u32).rev().map(|digit| bytes >> digit.saturating_mul(6).saturating_add(2));
    let digits = whole.chain([bytes << 4]).map(|bits| usize::try_from(bits & 63).unwrap_or_default());
    digits.filter_map(|digit| BASE64.get(digit)).map(|letter| char::from(*letter)).collect()
}

impl Seal for AesGcm {
    fn seal(&self, associated: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        let nonce = self.nonce();
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        if self.key.seal_in_place_append_tag(unique, Aad::from(associated), &mut sealed).is_err() {
            // It is only refused when it is longer than 64 GB. Everybody drops what is left out here.
            return tracing::debug!("a message could not be encrypted");
        }
        out.extend_from_slice(&nonce);
        out.append(&mut sealed);
    }

    fn open(&self, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key.open_in_place(nonce, Aad::from(associated), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_7_7_a_secret_has_22_characters() {
        assert_eq!(base64(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f), "AAECAwQFBgcICQoLDA0ODw");
        let (one, other) = (new_secret().unwrap(), new_secret().unwrap());
        assert!(one.reveal().len() == 22 && one != other);
    }
    use gossip::TAG_LEN;

    #[test]
    fn what_is_sealed_is_opened_by_nobody_else() {
        let [ours, others] = [b"ours", b"else"].map(|secret| AesGcm::new(&Key::from_secret(secret).unwrap()).unwrap());
        let mut sealed = Vec::new();
        ours.seal(b"label", b"hello", &mut sealed);
        assert_eq!(sealed.len(), NONCE_LEN + 5 + TAG_LEN);
        assert_eq!(ours.open(b"label", &sealed).as_deref(), Some(&b"hello"[..]));
        assert_eq!(ours.open(b"other", &sealed), None);
        assert_eq!(others.open(b"label", &sealed), None);
        assert_eq!(ours.open(b"label", &sealed[..10]), None);
        let mut again = Vec::new();
        ours.seal(b"label", b"hello", &mut again);
        assert_ne!(sealed[..NONCE_LEN], again[..NONCE_LEN], "no nonce is used twice");
        let later = AesGcm::new(&Key::from_secret(b"ours").unwrap()).unwrap();
        let mut other = Vec::new();
        later.seal(b"label", b"hello", &mut other);
        assert_ne!(sealed[..4], other[..4], "another program starts elsewhere");
    }
}
