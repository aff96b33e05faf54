//! Keys, and the cipher that uses them, which is handed in: this crate holds no cryptography.

use std::fmt;
use std::sync::Arc;

/// The length of the keys that MetalLB uses: AES-256.
pub const KEY_LEN: usize = 32;

/// The random part of each encrypted message.
pub const NONCE_LEN: usize = 12;

/// The part of each encrypted message that authenticates it.
pub const TAG_LEN: usize = 16;

/// The SHA-256 of nothing.
const SHA256_OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// A key of AES-256-GCM. It never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_LEN]);

/// The secret is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memberlist secret is empty")]
pub struct EmptySecret;

impl Key {
    /// The key of MetalLB's memberlist secret, the content of its key `secretkey` (contract 5.2).
    ///
    /// It is no hash of the secret, though it was meant to be: Go's `sha256.New().Sum(secret)` appends the hash of
    /// nothing to the secret, and the first 32 bytes of that are taken. Old and new speakers only understand each other
    /// when both do the same.
    pub fn from_secret(secret: &[u8]) -> Result<Key, EmptySecret> {
        if secret.is_empty() {
            return Err(EmptySecret);
        }
        let mut key = [0; KEY_LEN];
        for (byte, from) in key.iter_mut().zip(secret.iter().chain(&SHA256_OF_NOTHING)) {
            *byte = *from;
        }
        Ok(Key(key))
    }

    /// The bytes, for the cipher.
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// AES-256-GCM with one key. `netio::gossip::AesGcm` is one; tests have one that only looks like it.
pub trait Seal: fmt::Debug + Send + Sync {
    /// Appends a nonce that was never used with this key, the encrypted message, and the tag: [`NONCE_LEN`] +
    /// `plain.len()` + [`TAG_LEN`] bytes.
    fn seal(&self, associated: &[u8], plain: &[u8], out: &mut Vec<u8>);

    /// What was sealed, if it was with this key and these associated bytes and nobody changed it.
    fn open(&self, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>>;
}

/// The most keys at a time: each is tried on what no other opens.
pub const KEYS_MAX: usize = 4;

/// The keys of a cluster. What is sent is encrypted with the first one; what any of them opens is believed.
///
/// A key is changed in three steps, each on all nodes before the next: the new key is added, then it becomes the first,
/// then the old one is removed.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Vec<Arc<dyn Seal>>);

/// There are more keys than [`KEYS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are more than {KEYS_MAX} memberlist keys")]
pub struct TooManyKeys;

impl Keyring {
    /// No key: nothing is encrypted.
    pub fn plaintext() -> Self {
        Keyring(Vec::new())
    }

    /// These keys, the one to send with first.
    pub fn new(first: Arc<dyn Seal>, others: impl IntoIterator<Item = Arc<dyn Seal>>) -> Result<Self, TooManyKeys> {
        let keys: Vec<_> = std::iter::once(first).chain(others).take(KEYS_MAX.saturating_add(1)).collect();
        if keys.len() > KEYS_MAX { Err(TooManyKeys) } else { Ok(Keyring(keys)) }
    }

    /// True if nothing is encrypted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key to send with.
    pub(crate) fn first(&self) -> Option<&dyn Seal> {
        self.0.first().map(|key| &**key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn Seal> {
        self.0.iter().map(|key| &**key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn contract_5_2_the_key_of_a_secret() {
        let key = Key::from_secret(b"AAECAwQFBgcICQoLDA0ODw").unwrap();
        assert_eq!(hex(key.bytes()), "41414543417751464267634943516f4c4441304f4477e3b0c44298fc1c149afb");
    }

    #[test]
    fn contract_5_2_long_secrets_are_cut_and_short_ones_filled() {
        assert_eq!(Key::from_secret(&[b'x'; 100]).unwrap().bytes(), &[b'x'; 32]);
        let short = Key::from_secret(b"x").unwrap();
        assert_eq!(hex(short.bytes()), "78e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8");
        assert_eq!(Key::from_secret(b""), Err(EmptySecret));
    }

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?}", Key::from_secret(b"hunter2").unwrap()), "***");
    }
}
