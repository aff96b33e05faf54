//! The control packet (RFC 5880 section 4.1) and those rules of reception that need nothing but the packet (6.8.6).

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};

use kit::Duration;

use crate::Discard;

/// The length of a control packet without authentication, in bytes.
pub const CONTROL_LEN: usize = 24;
/// The same as its length field says it.
const LENGTH_FIELD: u8 = 24;
const _: () = assert!(LENGTH_FIELD as usize == CONTROL_LEN);
/// The shortest length with authentication: its type and length at least.
const AUTHENTICATED_LEN_MIN: u8 = 26;
const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// A control packet. Intervals are microseconds on the wire, 71 minutes at most; longer ones are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the bits of the packet")]
pub struct ControlPacket {
    /// Why the sender's state changed last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender asks for a packet with `final_bit`.
    pub poll: bool,
    /// The answer to `poll`.
    pub final_bit: bool,
    /// The sender's BFD goes on when its routing protocols fail.
    pub control_plane_independent: bool,
    /// The sender wants no periodic packets while the session is up.
    pub demand: bool,
    /// How many of the sender's packets may be missed.
    pub detect_multiplier: NonZeroU8,
    /// The sender's name of the session.
    pub my_discriminator: Discriminator,
    /// The receiver's name of the session; `None` (zero) while the sender does not know it.
    pub your_discriminator: Option<Discriminator>,
    /// The shortest interval at which the sender would like to send.
    pub desired_min_tx: Duration,
    /// The shortest interval at which the sender can receive; zero: no periodic packets, please.
    pub required_min_rx: Duration,
    /// The shortest interval at which the sender returns echo packets; zero: it returns none.
    pub required_min_echo_rx: Duration,
}

/// A system's own name of a session: unique among its sessions, and never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Discriminator(NonZeroU32);

/// The state of a session (RFC 5880 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Switched off by its operator, which says nothing about the path.
    AdminDown = 0,
    /// Nothing is known of the other side, or something is wrong.
    Down = 1,
    /// The other side is heard; it is not known whether it hears us.
    Init = 2,
    /// Both sides hear each other.
    Up = 3,
}

/// Why a session changed its state (RFC 5880 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Diagnostic {
    /// 0: nothing to say.
    None,
    /// 1: no control packet came for the detection time.
    DetectionExpired,
    /// 2: echo packets did not return.
    EchoFailed,
    /// 3: the other side said that the session is down.
    NeighborSignaledDown,
    /// 4: forwarding began anew.
    ForwardingPlaneReset,
    /// 5: something outside of BFD says that the path is down.
    PathDown,
    /// 6: a path that this one depends on is down.
    ConcatenatedPathDown,
    /// 7: the operator wants it.
    AdministrativelyDown,
    /// 8: as 6, for the other direction.
    ReverseConcatenatedPathDown,
    /// 9 to 31: not defined by RFC 5880.
    Other(u8),
}

/// The type in an authentication section (RFC 5880 section 4.1). We have none, so the rest is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthenticationType(pub u8);

impl ControlPacket {
    /// Reads a UDP payload. The rules of RFC 5880 section 6.8.6 are applied in its order, up to the choice of a session.
    ///
    /// A packet with an authentication section is told from one without, for whether that is right depends on the session.
    pub fn decode(payload: &[u8]) -> Result<(ControlPacket, Option<AuthenticationType>), Discard> {
        let (words, _) = payload.as_chunks::<4>();
        let [head, mine, yours, desired_min_tx, required_min_rx, required_min_echo_rx, ..] = words else {
            return Err(Discard::Truncated);
        };
        let [version_and_diagnostic, state_and_flags, detect_multiplier, length] = *head;
        if version_and_diagnostic >> 5 != VERSION {
            return Err(Discard::Version);
        }
        let is_set = |flag| state_and_flags & flag != 0;
        let length_min = if is_set(AUTHENTICATION) { AUTHENTICATED_LEN_MIN } else { LENGTH_FIELD };
        if length < length_min {
            return Err(Discard::LengthTooShort);
        }
        if usize::from(length) > payload.len() {
            return Err(Discard::LengthBeyondPayload);
        }
        let detect_multiplier = NonZeroU8::new(detect_multiplier).ok_or(Discard::DetectMultiplierZero)?;
        if is_set(MULTIPOINT) {
            return Err(Discard::Multipoint);
        }
        let discriminator = |bytes: &[u8; 4]| Discriminator::new(u32::from_be_bytes(*bytes));
        let interval = |bytes: &[u8; 4]| Duration::from_micros(u32::from_be_bytes(*bytes).into());
        let packet = ControlPacket {
            diagnostic: Diagnostic::from_code(version_and_diagnostic),
            state: State::from_code(state_and_flags >> 6),
            poll: is_set(POLL),
            final_bit: is_set(FINAL),
            control_plane_independent: is_set(CONTROL_PLANE_INDEPENDENT),
            demand: is_set(DEMAND),
            detect_multiplier,
            my_discriminator: discriminator(mine).ok_or(Discard::MyDiscriminatorZero)?,
            your_discriminator: discriminator(yours),
            desired_min_tx: interval(desired_min_tx),
            required_min_rx: interval(required_min_rx),
            required_min_echo_rx: interval(required_min_echo_rx),
        };
        let authentication = payload.get(CONTROL_LEN).filter(|_| is_set(AUTHENTICATION));
        Ok((packet, authentication.map(|kind| AuthenticationType(*kind))))
    }

    /// The packet as a UDP payload.
    pub fn encode(&self) -> [u8; CONTROL_LEN] {
        let flags = [
            (self.poll, POLL),
            (self.final_bit, FINAL),
            (self.control_plane_independent, CONTROL_PLANE_INDEPENDENT),
            (self.demand, DEMAND),
        ];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag);
        let interval = |span: Duration| u32::try_from(span.as_micros()).unwrap_or(u32::MAX).to_be_bytes();
        let words = [
            [
                (VERSION << 5) | self.diagnostic.code(),
                ((self.state as u8) << 6) | flags,
                self.detect_multiplier.get(),
                LENGTH_FIELD,
            ],
            self.my_discriminator.get().to_be_bytes(),
            self.your_discriminator.map_or(0, Discriminator::get).to_be_bytes(),
            interval(self.desired_min_tx),
            interval(self.required_min_rx),
            interval(self.required_min_echo_rx),
        ];
        let mut bytes = [0; CONTROL_LEN];
        for (to, from) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *to = from;
        }
        bytes
    }

    /// The same packet as an ordinary one: neither a question nor an answer.
    pub(crate) fn without_poll_and_final(self) -> Self {
        ControlPacket { poll: false, final_bit: false, ..self }
    }
}

impl Discriminator {
    /// The discriminator with this number; `None` for zero, which stands for "not known".
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Discriminator(number)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl State {
    /// Every state.
    pub const ALL: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];

    const fn from_code(code: u8) -> State {
        match code & 0b11 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        }
    }
}

impl Diagnostic {
    /// The diagnostic with this code; only its low five bits count.
    pub const fn from_code(code: u8) -> Diagnostic {
        match code & 0x1f {
            0 => Diagnostic::None,
            1 => Diagnostic::DetectionExpired,
            2 => Diagnostic::EchoFailed,
            3 => Diagnostic::NeighborSignaledDown,
            4 => Diagnostic::ForwardingPlaneReset,
            5 => Diagnostic::PathDown,
            6 => Diagnostic::ConcatenatedPathDown,
            7 => Diagnostic::AdministrativelyDown,
            8 => Diagnostic::ReverseConcatenatedPathDown,
            code => Diagnostic::Other(code),
        }
    }

    /// Its code, 0 to 31.
    pub const fn code(self) -> u8 {
        match self {
            Diagnostic::None => 0,
            Diagnostic::DetectionExpired => 1,
            Diagnostic::EchoFailed => 2,
            Diagnostic::NeighborSignaledDown => 3,
            Diagnostic::ForwardingPlaneReset => 4,
            Diagnostic::PathDown => 5,
            Diagnostic::ConcatenatedPathDown => 6,
            Diagnostic::AdministrativelyDown => 7,
            Diagnostic::ReverseConcatenatedPathDown => 8,
            Diagnostic::Other(code) => code & 0x1f,
        }
    }
}

/// Like tcpdump: state, flags, discriminators, then what is offered.
impl fmt::Display for ControlPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        let flags = [
            (self.poll, "poll"),
            (self.final_bit, "final"),
            (self.control_plane_independent, "control-plane-independent"),
            (self.demand, "demand"),
        ];
        for (_, name) in flags.into_iter().filter(|(is_set, _)| *is_set) {
            write!(f, " {name}")?;
        }
        write!(f, " my={} your={}", self.my_discriminator, self.your_discriminator.map_or(0, Discriminator::get))?;
        write!(f, " tx={} rx={}", self.desired_min_tx, self.required_min_rx)?;
        write!(f, " echo={} x{}", self.required_min_echo_rx, self.detect_multiplier)?;
        if self.diagnostic == Diagnostic::None { Ok(()) } else { write!(f, " ({})", self.diagnostic) }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Diagnostic::None => "no diagnostic",
            Diagnostic::DetectionExpired => "detection time expired",
            Diagnostic::EchoFailed => "echo failed",
            Diagnostic::NeighborSignaledDown => "neighbor signaled session down",
            Diagnostic::ForwardingPlaneReset => "forwarding plane reset",
            Diagnostic::PathDown => "path down",
            Diagnostic::ConcatenatedPathDown => "concatenated path down",
            Diagnostic::AdministrativelyDown => "administratively down",
            Diagnostic::ReverseConcatenatedPathDown => "reverse concatenated path down",
            Diagnostic::Other(code) => return write!(f, "diagnostic {code}"),
        })
    }
}

impl fmt::Display for Discriminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Discriminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
