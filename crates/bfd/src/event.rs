//! What the registry is told and what it says: the seam between the core, its driver and its clients.

use std::net::IpAddr;

use kit::{Family, Instant, InterfaceIndex};

use crate::wire::{ControlPacket, Diagnostic, Discriminator, EchoDatagram};
use crate::{Discard, Hops, Path, Profile, Refusal};

/// What the registry is told. Clients have keys of the caller's choice; for MetalLB each is a BGP peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a, K> {
    /// The client wants to know whether the path works. Saying it again with something else changes it: another profile is
    /// negotiated without a flap, another path is another session.
    Watch {
        /// Who.
        client: &'a K,
        /// The path.
        path: Path,
        /// How fast, and so on.
        profile: Profile,
    },
    /// The client does not want to know any more. When nobody does, the neighbour is told that the session is
    /// administratively down, and it is forgotten a little later.
    Unwatch {
        /// Who.
        client: &'a K,
    },
    /// As `Unwatch` for every client: the program ends.
    UnwatchAll,
    /// A UDP payload came to port 3784 or 4784.
    Control {
        /// The payload.
        payload: &'a [u8],
        /// How it came.
        arrival: Arrival,
    },
    /// An echo packet of ours may have come back: the payload of a datagram to port 3785 and our own address.
    EchoReturned {
        /// The payload.
        payload: &'a [u8],
        /// Its TTL or hop limit.
        ttl: u8,
    },
    /// The echo packet that was just asked for could not be sent, so that none is missing when it does not return.
    EchoUnsent {
        /// The session.
        session: Discriminator,
    },
    /// A neighbour's echo packet came to port 3785 and our address, to be returned by us and not by the kernel.
    EchoRequested {
        /// How it came.
        arrival: Arrival,
    },
    /// Whether this host forwards packets of the family, and with them the echo packets of neighbours.
    Forwarding {
        /// The family.
        family: Family,
        /// Whether it does; not so before it is said.
        forwarding: Forwarding,
    },
    /// An interface is down, without carrier, or gone. Sessions over it need not wait to find out.
    LinkDown {
        /// The interface.
        interface: InterfaceIndex,
    },
    /// The deadline that `next_deadline` showed has come. All packets that had arrived by then must have been told.
    Tick,
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When the kernel got it. Earlier than now, if the program had no time to read it.
    pub received_at: Instant,
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address, one of ours.
    pub local: IpAddr,
    /// The interface it came in by.
    pub interface: Option<InterfaceIndex>,
    /// The VRF that the receiving socket is bound to.
    pub vrf: Option<InterfaceIndex>,
    /// Its TTL or hop limit.
    pub ttl: u8,
    /// Which port it came to.
    pub hops: Hops,
}

/// Whether a host passes packets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forwarding {
    /// It does.
    On,
    /// It drops them.
    Off,
}

/// What the registry says, to be carried out in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<K> {
    /// Send a control packet: from a port of 49152 to 65535 that is the session's own, with TTL 255 (RFC 5881 sections 4
    /// and 5).
    SendControl {
        /// The session, to find its socket.
        session: Discriminator,
        /// Where to.
        path: Path,
        /// What.
        packet: ControlPacket,
    },
    /// Put an echo packet on the link of the neighbour, to the neighbour's link-layer address.
    SendEcho {
        /// The session.
        session: Discriminator,
        /// The neighbour.
        remote: IpAddr,
        /// The link.
        interface: InterfaceIndex,
        /// The packet from its IP header on.
        datagram: EchoDatagram,
    },
    /// The session sends no more echo packets, not even after it was down.
    StopEcho {
        /// The session.
        session: Discriminator,
    },
    /// Send the payload of the `EchoRequested` that was just told back to where it came from, with TTL 254.
    ReturnEcho,
    /// A session has come up or gone down. The first news of a client is that the session is up: until then it is not.
    Changed {
        /// Whom to tell.
        client: K,
        /// What.
        change: Change,
    },
    /// The client's path cannot be watched, and is not.
    Refused {
        /// Who.
        client: K,
        /// Why.
        refusal: Refusal,
    },
    /// A packet was discarded. Said once in [`crate::DISCARD_REPORT_INTERVAL`] at most, for the log.
    Discarded {
        /// Why.
        discard: Discard,
        /// Who sent it; `None` where that is not known.
        source: Option<IpAddr>,
        /// How many more were discarded since the last report.
        more: u64,
    },
    /// The session is no more: its socket can be closed.
    Close {
        /// The session.
        session: Discriminator,
    },
}

/// What has become of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// Packets pass in both directions.
    Up,
    /// The session is not up any more.
    Down(DownReason),
}

/// Why a session went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum DownReason {
    /// Nothing was heard for the detection time.
    #[error("nothing was heard from the neighbour for the detection time")]
    DetectionExpired,
    /// Our echo packets did not return.
    #[error("echo packets do not return")]
    EchoFailed,
    /// The neighbour says so: it does not hear us, or it began anew.
    #[error("the neighbour signalled that the session is down: {0}")]
    NeighborSignaledDown(Diagnostic),
    /// The neighbour's operator switched the session off.
    #[error("the neighbour's side is administratively down")]
    NeighborAdminDown,
    /// The interface does not work.
    #[error("the interface is down")]
    PathDown,
    /// Nobody watches the session any more.
    #[error("the session was switched off")]
    AdminDown,
}

impl DownReason {
    /// True if packets on this path are lost, as far as BFD can tell. Not so when an operator switched a session off: that
    /// has no meaning for the path (RFC 5880 section 6.2), and whatever runs over it should go on.
    pub fn is_failure(self) -> bool {
        match self {
            DownReason::DetectionExpired
            | DownReason::EchoFailed
            | DownReason::NeighborSignaledDown(_)
            | DownReason::PathDown => true,
            DownReason::NeighborAdminDown | DownReason::AdminDown => false,
        }
    }
}
