//! What the core is told and what it says: the seam between the responder, its driver and the speaker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use kit::{Family, InterfaceIndex, Mac};

use crate::{Coverage, Gateway, Interface, InterfaceSet, Protocol};

/// What the core is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// An interface appeared, or something about it changed; the whole of what is known. Saying it again is free.
    Interface(Interface),
    /// An interface is no more.
    InterfaceGone {
        /// Which.
        index: InterfaceIndex,
    },
    /// The socket that [`Action::Open`] asked for could not be opened, or has died. The core asks again later.
    SocketFailed {
        /// The interface it was for.
        interface: InterfaceIndex,
        /// What it was for.
        protocol: Protocol,
    },
    /// Answer for the address on these interfaces, and tell the network. Saying it again with nothing changed sends
    /// nothing; other interfaces than before replace the earlier ones.
    Announce {
        /// The address.
        address: IpAddr,
        /// Where.
        interfaces: InterfaceSet,
    },
    /// Answer for the address no more. Nothing is sent (contract 5.6).
    Withdraw {
        /// The address.
        address: IpAddr,
    },
    /// Another machine is to announce the address. It is answered here until that machine has said so on the segment,
    /// for [`crate::HAND_OVER_MAX`] at most, so that nobody asks in vain meanwhile. Nothing is sent but answers.
    HandOver {
        /// The address.
        address: IpAddr,
    },
    /// The routers of the default routes are these now.
    Gateways(BTreeMap<Family, Gateway>),
    /// Addresses of the other hosts that announce with us: what they claim is no conflict while an address moves.
    Fellows(BTreeSet<IpAddr>),
    /// The station of a host, which [`Report::Unknown`] asked about; of no meaning unless it is one of [`Input::Fellows`].
    Station {
        /// An address of the host.
        address: IpAddr,
        /// Its station.
        mac: Mac,
    },
    /// Tell everybody once more where the address is, if it is announced here: another host says otherwise, and we come
    /// first. Once in [`crate::REPEAT_INTERVAL`] at most: it waits as long, but is never left out.
    Repeat {
        /// The address.
        address: IpAddr,
    },
    /// Ask another host whether it has the address: see [`Report::Answer`].
    Ask {
        /// The address.
        address: IpAddr,
        /// One of [`Input::Fellows`].
        fellow: IpAddr,
    },
    /// A frame arrived, from the Ethernet header on.
    Frame {
        /// Where.
        interface: InterfaceIndex,
        /// The bytes; padding at the end is allowed.
        bytes: Vec<u8>,
    },
    /// The deadline that `next_deadline` showed has come.
    Tick,
}

/// What the core says. The order counts: a group is joined before the frame is sent that makes others ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// For the driver of the sockets.
    Action(Action),
    /// For the speaker.
    Report(Report),
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Receive the frames of the protocol on the interface.
    Open {
        /// The interface.
        interface: InterfaceIndex,
        /// The frames.
        protocol: Protocol,
    },
    /// Stop receiving, and leave all groups that were joined for the protocol there.
    Close {
        /// The interface.
        interface: InterfaceIndex,
        /// The frames.
        protocol: Protocol,
    },
    /// Receive what is sent to these multicast groups, in the NIC's filter and by MLD.
    Join {
        /// The interface; its NDP socket is open.
        interface: InterfaceIndex,
        /// Solicited-node groups, none of which is joined there now.
        groups: Vec<Ipv6Addr>,
    },
    /// Leave these multicast groups.
    Leave {
        /// The interface.
        interface: InterfaceIndex,
        /// Solicited-node groups, all of which are joined there now.
        groups: Vec<Ipv6Addr>,
    },
    /// Send a frame.
    Send {
        /// The interface.
        interface: InterfaceIndex,
        /// Which of its sockets carries it.
        protocol: Protocol,
        /// The bytes from the Ethernet header on, without padding.
        frame: Vec<u8>,
    },
}

/// What the speaker may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Addresses of this family that are announced on these interfaces are answered there from now on. Sent when the
    /// first such address is announced and whenever it changes; [`Coverage::Absent`] is contract 5.3's `announceFailed`.
    Coverage {
        /// As in [`Input::Announce`].
        interfaces: InterfaceSet,
        /// The family of the addresses.
        family: Family,
        /// Where they are answered.
        coverage: Coverage,
    },
    /// Another machine says that an address is its own while we announce it, and goes on saying so when an address that
    /// moves would have moved. At most one per address and second.
    Conflict {
        /// The address.
        address: IpAddr,
        /// Where it was seen.
        interface: InterfaceIndex,
        /// The other machine.
        mac: Mac,
        /// How it was said.
        kind: ClaimKind,
        /// Who that is.
        claimant: Claimant,
    },
    /// A station that is not known claims an address. If it is that of one of the hosts that announce with us, the core should
    /// be told within [`crate::CONFLICT_GRACE`]: [`Input::Station`]. At most one per station in ten seconds.
    Unknown {
        /// The station.
        mac: Mac,
    },
    /// One of the hosts that announce with us has answered what [`Input::Ask`] asked for.
    Answer {
        /// The address that was asked for.
        address: IpAddr,
        /// Who has it: one of [`Input::Fellows`].
        fellow: IpAddr,
    },
}

/// Who claims an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claimant {
    /// One of the hosts that announce with us, by its address.
    Fellow(IpAddr),
    /// Nobody we know.
    Stranger,
}

/// How another machine claimed an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimKind {
    /// As the sender of an ARP request (also a gratuitous one).
    ArpRequest,
    /// As the sender of an ARP reply.
    ArpReply,
    /// As the source of a Neighbor Solicitation.
    NeighborSolicitation,
    /// As the target of a Neighbor Advertisement.
    NeighborAdvertisement,
}
