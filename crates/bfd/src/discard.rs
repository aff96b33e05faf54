//! Why a received packet is not believed.

/// A rule of reception that a packet breaks. Each is counted; the first of RFC 5880 section 6.8.6 that applies holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Discard {
    /// Too few bytes for a control packet (RFC 5880 section 6.8.6).
    #[error("the payload is shorter than a control packet")]
    Truncated,
    /// RFC 5880 section 6.8.6: the version must be 1.
    #[error("the version is not 1")]
    Version,
    /// RFC 5880 section 6.8.6: 24 at least, 26 with authentication.
    #[error("the length field is too small")]
    LengthTooShort,
    /// RFC 5880 section 6.8.6.
    #[error("the length field is larger than the payload")]
    LengthBeyondPayload,
    /// RFC 5880 section 6.8.6.
    #[error("the detect multiplier is zero")]
    DetectMultiplierZero,
    /// RFC 5880 section 6.8.6.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// RFC 5880 section 6.8.6.
    #[error("the sender's discriminator is zero")]
    MyDiscriminatorZero,
    /// RFC 5880 section 6.8.6: we have no session of this name. Common for a moment after a restart.
    #[error("no session has the discriminator that the packet is for")]
    YourDiscriminatorUnknown,
    /// RFC 5880 section 6.8.6: only who is down may not know our discriminator.
    #[error("the packet is for discriminator zero, but its sender is neither down nor administratively down")]
    YourDiscriminatorZero,
    /// RFC 5880 section 6.8.6: nobody asked for a session with this sender.
    #[error("no session with the sender is configured")]
    NoSession,
    /// RFC 5880 section 6.8.6: authentication is not in use.
    #[error("the packet is authenticated, and the session is not")]
    Authenticated,
    /// RFC 5881 section 4 and RFC 5883 section 5: 3784 is for one hop, 4784 for several.
    #[error("the packet came to the port of the other kind of session")]
    Port,
    /// What belongs to one VRF does not reach another.
    #[error("the packet came in another VRF")]
    Vrf,
    /// RFC 5881 section 5: what has less than 255 has come over a router.
    #[error("the TTL is not 255, so the sender is more than one hop away")]
    TtlSingleHop,
    /// The TTL is below the profile's minimum (contract 1.7).
    #[error("the TTL is below the profile's minimum")]
    TtlMultiHop,
    /// An echo packet with a discriminator of ours and a wrong tag: somebody forges them.
    #[error("the echo packet was not made by us")]
    EchoForged,
    /// An echo packet that nobody forwarded: a loop on the link, which says nothing about the neighbour.
    #[error("the echo packet has not been at the neighbour: its TTL is not 254")]
    EchoTtl,
    /// An echo packet that has been seen, or was never sent.
    #[error("the echo packet has an old or unknown sequence number")]
    EchoReplayed,
}

impl Discard {
    /// A short name, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Discard::Truncated => "truncated",
            Discard::Version => "version",
            Discard::LengthTooShort => "lengthTooShort",
            Discard::LengthBeyondPayload => "lengthBeyondPayload",
            Discard::DetectMultiplierZero => "detectMultiplierZero",
            Discard::Multipoint => "multipoint",
            Discard::MyDiscriminatorZero => "myDiscriminatorZero",
            Discard::YourDiscriminatorUnknown => "yourDiscriminatorUnknown",
            Discard::YourDiscriminatorZero => "yourDiscriminatorZero",
            Discard::NoSession => "noSession",
            Discard::Authenticated => "authenticated",
            Discard::Port => "port",
            Discard::Vrf => "vrf",
            Discard::TtlSingleHop => "ttlSingleHop",
            Discard::TtlMultiHop => "ttlMultiHop",
            Discard::EchoForged => "echoForged",
            Discard::EchoTtl => "echoTtl",
            Discard::EchoReplayed => "echoReplayed",
        }
    }
}
