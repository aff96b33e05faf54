//! Network interfaces as the core sees them, and which of them respond (contract 5.3).

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::BitOr;

use kit::{Family, InterfaceIndex, Mac};

/// One of the two protocols by which addresses are found on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// For IPv4 addresses (RFC 826).
    Arp,
    /// For IPv6 addresses (RFC 4861).
    Ndp,
}

impl Protocol {
    /// Both protocols.
    pub const ALL: [Protocol; 2] = [Protocol::Arp, Protocol::Ndp];

    /// The protocol that finds addresses of this family.
    pub const fn for_family(family: Family) -> Protocol {
        match family {
            Family::V4 => Protocol::Arp,
            Family::V6 => Protocol::Ndp,
        }
    }

    /// The protocol that finds this address.
    pub const fn of(address: &IpAddr) -> Protocol {
        Protocol::for_family(Family::of(address))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Arp => "ARP",
            Protocol::Ndp => "NDP",
        })
    }
}

/// The interfaces on which an address is announced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterfaceSet {
    /// All that respond.
    All,
    /// Those with these names, as far as they respond.
    Named(BTreeSet<String>),
}

impl InterfaceSet {
    /// True when the set has the interface of this name.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            InterfaceSet::All => true,
            InterfaceSet::Named(names) => names.contains(name),
        }
    }
}

/// What the kernel says about an interface, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceFlags(u8);

impl InterfaceFlags {
    /// Nothing is set.
    pub const NONE: InterfaceFlags = InterfaceFlags(0);
    /// The administrator switched it on (`IFF_UP`).
    pub const UP: InterfaceFlags = InterfaceFlags(1);
    /// It can carry traffic: the cable is in, the station is associated (`IFF_LOWER_UP` and `IFF_RUNNING`).
    pub const CARRIER: InterfaceFlags = InterfaceFlags(1 << 1);
    /// It knows broadcast (`IFF_BROADCAST`).
    pub const BROADCAST: InterfaceFlags = InterfaceFlags(1 << 2);
    /// Addresses are not to be resolved there (`IFF_NOARP`).
    pub const NOARP: InterfaceFlags = InterfaceFlags(1 << 3);

    const NAMES: [(InterfaceFlags, &str); 4] = [
        (InterfaceFlags::UP, "up"),
        (InterfaceFlags::CARRIER, "carrier"),
        (InterfaceFlags::BROADCAST, "broadcast"),
        (InterfaceFlags::NOARP, "noarp"),
    ];

    /// True when all of `flags` are set.
    pub const fn contains(self, flags: InterfaceFlags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for InterfaceFlags {
    type Output = InterfaceFlags;

    fn bitor(self, other: InterfaceFlags) -> InterfaceFlags {
        InterfaceFlags(self.0 | other.0)
    }
}

impl FromIterator<InterfaceFlags> for InterfaceFlags {
    fn from_iter<I: IntoIterator<Item = InterfaceFlags>>(flags: I) -> Self {
        flags.into_iter().fold(InterfaceFlags::NONE, BitOr::bitor)
    }
}

impl fmt::Display for InterfaceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for InterfaceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

/// Whether the operator's list of interfaces that never announce has this one (`announcedInterfacesToExclude`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exclusion {
    /// It may be used.
    Allowed,
    /// It matches the list.
    Excluded,
}

/// An interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number, which stays while it lives.
    pub index: InterfaceIndex,
    /// Its name, which can change.
    pub name: String,
    /// Its Ethernet address; `None` when it has another kind of address, or none.
    pub mac: Option<Mac>,
    /// Its state.
    pub flags: InterfaceFlags,
    /// The bond, bridge or VRF that it is part of.
    pub master: Option<InterfaceIndex>,
    /// Its IPv6 link-local addresses that may be used as a source, that is, not tentative (RFC 4862 section 5.4).
    pub link_local: BTreeSet<Ipv6Addr>,
    /// Decided by the driver, which can match patterns.
    pub exclusion: Exclusion,
}

impl Interface {
    /// What keeps the interface from responding (contract 5.3); an interface without an obstacle responds, as far as its
    /// socket can be opened.
    pub fn obstacle(&self, protocol: Protocol) -> Option<Obstacle> {
        let lacks = |flag| !self.flags.contains(flag);
        let obstacles = [
            (self.exclusion == Exclusion::Excluded, Obstacle::Excluded),
            (lacks(InterfaceFlags::UP), Obstacle::Down),
            (self.master.is_some(), Obstacle::Enslaved),
            (self.mac.is_none(), Obstacle::NoEthernetAddress),
            (!lacks(InterfaceFlags::NOARP), Obstacle::NoArp),
            (protocol == Protocol::Arp && lacks(InterfaceFlags::BROADCAST), Obstacle::NotBroadcast),
            (protocol == Protocol::Ndp && self.link_local.is_empty(), Obstacle::NoLinkLocal),
        ];
        obstacles.into_iter().find(|(met, _)| *met).map(|(_, obstacle)| obstacle)
    }

    /// The address that advertisements come from.
    pub(crate) fn link_local_source(&self) -> Option<Ipv6Addr> {
        self.link_local.first().copied()
    }
}

/// Why an interface does not respond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Obstacle {
    /// The operator's list has it.
    #[error("excluded by announcedInterfacesToExclude")]
    Excluded,
    /// The administrator switched it off.
    #[error("it is down")]
    Down,
    /// Its master responds instead.
    #[error("it is part of a bond, bridge or VRF")]
    Enslaved,
    /// It has no Ethernet address to answer with.
    #[error("it has no Ethernet address")]
    NoEthernetAddress,
    /// Addresses are not to be resolved there.
    #[error("it has the NOARP flag")]
    NoArp,
    /// ARP needs broadcast.
    #[error("it cannot broadcast")]
    NotBroadcast,
    /// NDP needs a link-local address to answer from.
    #[error("it has no IPv6 link-local address")]
    NoLinkLocal,
    /// The socket could not be opened; the driver's log has the cause.
    #[error("its packet socket could not be opened")]
    NoSocket,
    /// Nothing can arrive.
    #[error("it has no carrier")]
    NoCarrier,
}

/// Where the addresses of a family are answered that are announced on a set of interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// On the interfaces of these names: at least one.
    Answered(BTreeSet<String>),
    /// Nowhere: each interface that is meant has an [`Obstacle`]; see [`crate::Responder::obstacles`].
    Obstructed,
    /// Nowhere: none of the named interfaces exists.
    Absent,
}
