//! AES-256-GCM for memberlist's packets and streams.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use gossip::{Key, NONCE_LEN, Seal};

/// AES-256-GCM with one key.
#[derive(Debug)]
pub struct AesGcm(LessSafeKey);

impl AesGcm {
    /// The cipher with this key.
    ///
    /// # Errors
    ///
    /// When the library refuses the key, which it does for no key of this length.
    pub fn new(key: &Key) -> Result<Self, Unspecified> {
        Ok(AesGcm(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.bytes())?)))
    }

    fn seal_with_nonce(&self, associated: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(unique, Aad::from(associated), &mut sealed)?;
        out.extend_from_slice(&nonce);
        out.append(&mut sealed);
        Ok(())
    }
}

impl Seal for AesGcm {
    fn seal(&self, associated: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        // Without randomness nothing is sent: what would be appended is no message, and everybody drops it.
        if self.seal_with_nonce(associated, plain, out).is_err() {
            tracing::debug!("a message could not be encrypted");
        }
    }

    fn open(&self, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.0.open_in_place(nonce, Aad::from(associated), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_ne!(sealed, again, "no nonce is used twice");
    }
}
