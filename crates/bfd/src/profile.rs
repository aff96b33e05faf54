//! What a session is about, and how fast it is. Everything here was checked before: see contract 4.2 rule 22.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU8;

use kit::{Duration, Family, InterfaceIndex};

/// Shorter intervals count as this: the fastest of the common intervals (RFC 7419 section 3), and about what a program on a
/// busy machine can keep.
pub const INTERVAL_MIN: Duration = Duration::from_micros(3_300);
/// Longer intervals count as this: what fits in a packet.
pub const INTERVAL_MAX: Duration = Duration::from_micros(u32::MAX as u64);

/// The two ends of a session. There is one session per path, however many clients watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// The neighbour's address.
    pub remote: IpAddr,
    /// Our address; `None` for the one that the system picks.
    pub local: Option<IpAddr>,
    /// The interface; needed for a link-local neighbour. `None` for wherever the routes point.
    pub interface: Option<InterfaceIndex>,
    /// The Linux VRF, by the index of its device.
    pub vrf: Option<InterfaceIndex>,
    /// How far away the neighbour is.
    pub hops: Hops,
}

/// How far away a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hops {
    /// On the link (RFC 5881): UDP port 3784, and only packets with a TTL of 255 count.
    Single,
    /// Anywhere (RFC 5883): UDP port 4784, and packets below the profile's minimum TTL do not count.
    Multi,
}

/// How fast a session is, and what else its operator decides (contract 1.7). Intervals are kept between [`INTERVAL_MIN`]
/// and [`INTERVAL_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// The shortest interval between packets that we want to receive.
    pub receive_interval: Duration,
    /// The shortest interval between packets that we want to send.
    pub transmit_interval: Duration,
    /// How many of our packets the neighbour may miss before it calls the session down.
    pub detect_multiplier: NonZeroU8,
    /// Whether we send echo packets.
    pub echo: EchoMode,
    /// The interval between echo packets that we send, and between those that we return.
    pub echo_interval: Duration,
    /// Who begins.
    pub role: Role,
    /// The lowest TTL that counts on a multi-hop session.
    pub minimum_ttl: u8,
}

/// Whether echo packets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EchoMode {
    /// None are sent. Those of the neighbour are returned all the same.
    Off,
    /// They are, where it is possible: the neighbour is one hop away, returns them, and the addresses are not link-local.
    On,
}

/// Who begins (RFC 5880 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// We send from the start.
    Active,
    /// We send nothing before we hear something.
    Passive,
}

impl Default for Profile {
    /// FRR's defaults, which MetalLB's users have where a profile says nothing (contract 1.7).
    fn default() -> Self {
        Profile {
            receive_interval: Duration::from_millis(300),
            transmit_interval: Duration::from_millis(300),
            detect_multiplier: NonZeroU8::MIN.saturating_add(2),
            echo: EchoMode::Off,
            echo_interval: Duration::from_millis(50),
            role: Role::Active,
            minimum_ttl: 254,
        }
    }
}

impl Profile {
    /// Orders profiles by how soon they notice that a neighbour of the same speed is gone, the fastest first.
    pub(crate) fn by_speed(&self) -> (Duration, Self) {
        (self.receive_interval.times(self.detect_multiplier.get().into()), *self)
    }
}

/// An interval as the protocol can carry it and a program can keep it.
pub(crate) fn limited(interval: Duration) -> Duration {
    interval.clamp(INTERVAL_MIN, INTERVAL_MAX)
}

impl Path {
    /// A path to a neighbour on the link, with nothing else fixed.
    pub const fn single_hop(remote: IpAddr) -> Self {
        Path { remote, local: None, interface: None, vrf: None, hops: Hops::Single }
    }

    /// A path to a neighbour that may be far away, with nothing else fixed.
    pub const fn multi_hop(remote: IpAddr) -> Self {
        Path { hops: Hops::Multi, ..Path::single_hop(remote) }
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(&self.remote)
    }

    /// Why no session can run over it, if so.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let is_other_family = |local: IpAddr| Family::of(&local) != self.family();
        match (is_link_local(&self.remote), self.hops) {
            _ if self.local.is_some_and(is_other_family) => Some(Refusal::FamiliesDiffer),
            (true, Hops::Multi) => Some(Refusal::LinkLocalMultiHop),
            (true, Hops::Single) if self.interface.is_none() => Some(Refusal::LinkLocalWithoutInterface),
            _ => None,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)?;
        if let Some(local) = self.local {
            write!(f, " from {local}")?;
        }
        if let Some(interface) = self.interface {
            write!(f, " on interface {interface}")?;
        }
        if let Some(vrf) = self.vrf {
            write!(f, " in VRF {vrf}")?;
        }
        match self.hops {
            Hops::Single => Ok(()),
            Hops::Multi => f.write_str(" over several hops"),
        }
    }
}

/// Why a path cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// [`crate::SESSIONS_MAX`] is reached.
    #[error("there are {} BFD sessions already, which is the limit", crate::SESSIONS_MAX)]
    TooManySessions,
    /// [`crate::CLIENTS_MAX`] is reached.
    #[error("{} clients watch BFD sessions already, which is the limit", crate::CLIENTS_MAX)]
    TooManyClients,
    /// Our address and the neighbour's are of different families.
    #[error("the two addresses are of different families")]
    FamiliesDiffer,
    /// A link-local address means something only on a link.
    #[error("a link-local neighbour needs an interface")]
    LinkLocalWithoutInterface,
    /// A link-local address is on the link.
    #[error("a link-local neighbour cannot be several hops away")]
    LinkLocalMultiHop,
}

/// True for IPv6 link-local addresses. Those of IPv4 are routed like any other by Linux.
pub(crate) fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
