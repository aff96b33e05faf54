//! What is in a UDP packet: label, encryption, checksum, then messages in compound and compressed envelopes.

use super::{DecodeError, Message, MessageType, compound, compress, crc, envelope, label};
use crate::key::{Keyring, Seal};

/// How much all compressed parts of a packet may become together. A packet has 65,507 bytes at most, and no member
/// packs more than one packet's worth.
const UNPACKED_MAX: usize = 256 * 1024;

/// The most messages that are taken from one packet. A packet of 1,400 bytes holds about 60.
pub const PACKET_MESSAGES_MAX: usize = 512;

/// How deep envelopes may be nested. Members nest two: a compressed compound.
const DEPTH_MAX: usize = 4;

/// What a packet or a stream must have for us to believe it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard<'a> {
    /// The label of our members; empty for none.
    pub(crate) label: &'a [u8],
    /// The keys that may have encrypted it. If there are none, nothing is encrypted.
    pub(crate) keyring: &'a Keyring,
    pub(crate) plaintext: Plaintext,
}

/// What becomes of messages that are not encrypted when we have keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// They are refused.
    Refused,
    /// They are taken: for a cluster on its way to encryption (`GossipVerifyIncoming: false`).
    Taken,
}

/// What a packet holds.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Its messages, and what is wrong with those that cannot be read.
    pub(crate) messages: Vec<Result<Message, DecodeError>>,
    /// The place in the keyring of the key that opened it; none if it was not encrypted.
    pub(crate) key: Option<usize>,
}

/// Opens a packet.
pub(crate) fn open(bytes: &[u8], guard: &Guard<'_>) -> Result<Opened, DecodeError> {
    let (found, rest) = label::split(bytes)?.ok_or(DecodeError::Truncated("label"))?;
    if found != guard.label {
        return Err(DecodeError::Label);
    }
    if guard.keyring.is_empty() {
        return Ok(Opened { messages: unpack(rest)?, key: None });
    }
    match envelope::open(guard.keyring, guard.label, rest) {
        Ok((plain, key)) => Ok(Opened { messages: unpack(&plain)?, key: Some(key) }),
        Err(error) => {
            let plain = unpack(rest).ok().filter(|messages| messages.iter().any(Result::is_ok)).ok_or(error)?;
            match guard.plaintext {
                Plaintext::Refused => Err(DecodeError::Plaintext),
                Plaintext::Taken => Ok(Opened { messages: plain, key: None }),
            }
        }
    }
}

/// The messages behind the checksum, if there is one.
fn unpack(bytes: &[u8]) -> Result<Vec<Result<Message, DecodeError>>, DecodeError> {
    let bytes = match bytes.split_first() {
        Some((kind, rest)) if *kind == MessageType::HasCrc as u8 && rest.len() >= 4 => crc::decode(rest)?,
        _ => bytes,
    };
    let mut unpacker = Unpacker { messages: Vec::new(), budget: UNPACKED_MAX };
    unpacker.unpack(bytes, DEPTH_MAX);
    Ok(unpacker.messages)
}

/// Takes envelopes off. What all of them cost together is bounded, however they are nested.
struct Unpacker {
    messages: Vec<Result<Message, DecodeError>>,
    /// How much may still be unpacked.
    budget: usize,
}

impl Unpacker {
    fn unpack(&mut self, bytes: &[u8], depth: usize) {
        if self.messages.len() >= PACKET_MESSAGES_MAX {
            return;
        }
        let message = match bytes.split_first() {
            Some((kind, body)) if *kind == MessageType::Compound as u8 => self.nested(depth, |this, depth| {
                for part in compound::decode(body)? {
                    this.unpack(part, depth);
                }
                Ok(())
            }),
            Some((kind, body)) if *kind == MessageType::Compress as u8 => self.nested(depth, |this, depth| {
                let unpacked = compress::decode(body, this.budget)?;
                this.budget = this.budget.saturating_sub(unpacked.len());
                this.unpack(&unpacked, depth);
                Ok(())
            }),
            _ => return self.messages.push(Message::decode(bytes)),
        };
        if let Err(error) = message {
            self.messages.push(Err(error));
        }
    }

    fn nested(
        &mut self,
        depth: usize,
        content: impl FnOnce(&mut Self, usize) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let depth = depth.checked_sub(1);
        content(self, depth.ok_or(DecodeError::invalid("packet", "envelopes are nested too deep"))?)
    }
}

/// Whether messages are compressed before they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// When it makes them smaller.
    Lzw,
    /// Never.
    Off,
}

/// Whether a packet carries a checksum: members of protocol 5 and later understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    Added,
    Absent,
}

/// Below this, LZW makes nothing smaller.
const COMPRESS_FROM: usize = 100;

/// How packets to somebody look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dress<'a> {
    pub(crate) label: &'a [u8],
    /// What to encrypt with, if anything.
    pub(crate) key: Option<&'a dyn Seal>,
    pub(crate) compression: Compression,
}

impl Dress<'_> {
    /// What the envelopes add to messages at most, beside what a compound costs.
    pub(crate) fn overhead(&self) -> usize {
        let sealed = if self.key.is_some() { envelope::OVERHEAD } else { 0 };
        label::length(self.label).saturating_add(sealed)
    }

    /// The packet that holds these messages.
    pub(crate) fn packet(&self, messages: Vec<Vec<u8>>, checksum: Checksum) -> Vec<u8> {
        let mut bytes = compound::encode(messages);
        if self.compression == Compression::Lzw && bytes.len() >= COMPRESS_FROM {
            let packed = compress::encode(&bytes);
            if packed.len() < bytes.len() {
                bytes = packed;
            }
        }
        if checksum == Checksum::Added {
            bytes = crc::encode(&bytes);
        }
        let mut out = label::encode(self.label);
        match self.key {
            Some(key) => envelope::seal(key, self.label, &bytes, &mut out),
            None => out.extend_from_slice(&bytes),
        }
        out
    }
}
