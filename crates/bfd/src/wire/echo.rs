//! Our echo packets. RFC 5880 leaves their content to the sender, for nobody else reads them.
//!
//! ```text
//!  0  discriminator of our session (4 bytes)
//!  4  sequence number (8 bytes)
//! 12  tag: SipHash-2-4 of the twelve bytes before (8 bytes)
//! ```
//!
//! Without the tag anybody on the link could keep a dead session up by inventing echo packets. The sequence number keeps
//! old ones from counting again.

use std::fmt;

use super::Discriminator;
use super::siphash::siphash;

/// The length of an echo packet, in bytes.
pub const ECHO_LEN: usize = 20;

/// An echo packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoPacket {
    /// Our name of the session.
    pub discriminator: Discriminator,
    /// Counts the echo packets of the session.
    pub sequence: u64,
}

/// The key of the tags: known to this program only, and another one each time it starts.
#[derive(Clone, PartialEq, Eq)]
pub struct EchoKey([u8; 16]);

impl EchoKey {
    /// A key of bytes that nobody else knows.
    pub const fn new(bytes: [u8; 16]) -> Self {
        EchoKey(bytes)
    }
}

impl fmt::Debug for EchoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EchoKey(***)")
    }
}

impl EchoPacket {
    /// The packet as a UDP payload, signed.
    pub fn encode(&self, key: &EchoKey) -> [u8; ECHO_LEN] {
        let mut bytes = [0; ECHO_LEN];
        let tag = siphash(&key.0, &self.content()).to_be_bytes();
        for (to, from) in bytes.iter_mut().zip(self.content().into_iter().chain(tag)) {
            *to = from;
        }
        bytes
    }

    /// What a UDP payload says, if it has the form of our packets. Whether it is one is told by [`EchoPacket::is_signed`].
    pub fn decode(payload: &[u8]) -> Option<EchoPacket> {
        let payload: &[u8; ECHO_LEN] = payload.try_into().ok()?;
        let discriminator = u32::from_be_bytes(*payload.first_chunk()?);
        let sequence = u64::from_be_bytes(*payload.get(4..)?.first_chunk()?);
        Some(EchoPacket { discriminator: Discriminator::new(discriminator)?, sequence })
    }

    /// True when the payload that says this was made with the key.
    pub fn is_signed(&self, payload: &[u8], key: &EchoKey) -> bool {
        self.encode(key) == payload
    }

    fn content(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let content = self.discriminator.get().to_be_bytes().into_iter().chain(self.sequence.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(content) {
            *to = from;
        }
        bytes
    }
}
