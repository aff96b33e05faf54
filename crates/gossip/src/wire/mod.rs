//! HashiCorp memberlist v0.5.1 on the wire: messages, and the envelopes that they travel in.
//!
//! `docs/protocols/memberlist.md` describes all of it. Nothing here panics, whatever the bytes are; what is allocated
//! is bounded by [`STREAM_BYTES_MAX`] for a stream and by a few times the packet for a packet, however bytes are
//! packed.
//!
//! It knows no member and no time, and decides nothing.

mod compound;
mod compress;
mod crc;
mod envelope;
mod error;
mod fuzz;
mod label;
mod message;
mod msgpack;
mod packet;
mod push_pull;
mod stream;

pub use error::DecodeError;
#[doc(hidden)]
pub use fuzz::{fuzz_packet, fuzz_stream};
pub use label::LABEL_MAX;
pub use message::{Alive, Dead, IndirectPing, META_MAX, Message, Ping, Source, Suspect, Versions};
pub use packet::{Compression, PACKET_MESSAGES_MAX, Plaintext};
pub use push_pull::{Health, MEMBERS_MAX, NodeState, PushPull};
pub use stream::{STREAM_BYTES_MAX, StreamMessage};

pub(crate) use compound::{OVERHEAD as COMPOUND_OVERHEAD, PARTS_MAX};
pub(crate) use packet::{Checksum, Dress, Guard, open};
pub(crate) use stream::{Direction, StreamReader};

/// The first byte of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageType {
    /// Are you there?
    Ping = 0,
    /// Ask somebody whether it is there.
    IndirectPing = 1,
    /// I am there.
    Ack = 2,
    /// Somebody may have failed.
    Suspect = 3,
    /// Somebody is there.
    Alive = 4,
    /// Somebody failed or left.
    Dead = 5,
    /// All members, over TCP.
    PushPull = 6,
    /// Several messages.
    Compound = 7,
    /// Of the application.
    User = 8,
    /// A compressed message.
    Compress = 9,
    /// An encrypted message, over TCP. Encrypted packets have no type.
    Encrypt = 10,
    /// It did not answer me.
    Nack = 11,
    /// A message behind its checksum.
    HasCrc = 12,
    /// What could not be read, over TCP.
    Error = 13,
    /// A label, and then the rest.
    HasLabel = 244,
}

impl MessageType {
    fn from_wire(byte: u8) -> Option<MessageType> {
        use MessageType::{
            Ack, Alive, Compound, Compress, Dead, Encrypt, Error, HasCrc, HasLabel, IndirectPing, Nack, Ping, PushPull,
            Suspect, User,
        };
        [
            Ping,
            IndirectPing,
            Ack,
            Suspect,
            Alive,
            Dead,
            PushPull,
            Compound,
            User,
            Compress,
            Encrypt,
            Nack,
            HasCrc,
            Error,
            HasLabel,
        ]
        .into_iter()
        .find(|known| *known as u8 == byte)
    }
}

#[cfg(test)]
pub(crate) mod tests;
