//! What the core is told and what it wants done: the seam between it, its driver and the speaker.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use kit::Instant;

use crate::wire::DecodeError;
use crate::{Keyring, Meta, Name, Silence};

/// The outbox that a driver should give to [`crate::Membership::handle`], and empty after each call.
pub const OUTBOX_LIMIT: usize = 4096;

/// Names one TCP connection, or the attempt to make one. A name is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionId {
    /// We opened it; the core counts.
    Dialed(u64),
    /// The other side opened it; the driver counts.
    Accepted(u64),
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionId::Dialed(number) => write!(f, "dialed#{number}"),
            ConnectionId::Accepted(number) => write!(f, "accepted#{number}"),
        }
    }
}

/// What the core is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A deadline may have come. To be given after all packets that have arrived: those that waited while the program
    /// did not run are news of others, and not their silence.
    Tick,
    /// Where speakers should be: all that are known, in place of those said before. Those that are no members are
    /// contacted at once, and again and again.
    Peers {
        /// Address and port of each speaker; our own may be among them.
        addresses: BTreeSet<SocketAddr>,
    },
    /// The members to watch closely: those whose addresses this node would inherit, in place of those said before.
    Watch {
        /// Their names; unknown ones are watched as soon as they are members.
        members: BTreeSet<Name>,
    },
    /// Leave the cluster; [`Output::Left`] follows. Others are still answered.
    Leave,
    /// Other keys than before.
    Keyring(Keyring),
    /// What this member says about itself from now on. Everybody is told at once, up to a limit, and by gossip.
    Meta(Meta),
    /// A UDP packet arrived.
    Packet {
        /// From where.
        from: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// The kernel at this address said that nothing listens on the port: an ICMP error to an [`Output::Ping`], or a TCP
    /// reset.
    Refused {
        /// Where the ping went.
        address: SocketAddr,
    },
    /// The kernel at this address answered an [`Output::KernelProbe`].
    KernelAnswered {
        /// Which.
        address: IpAddr,
    },
    /// Somebody opened a connection to us.
    Accepted {
        /// A new name.
        connection: ConnectionId,
        /// The other end.
        remote: SocketAddr,
    },
    /// A connection was made.
    Connected {
        /// The name from [`Output::Dial`].
        connection: ConnectionId,
    },
    /// Bytes came in.
    Received {
        /// Over this connection.
        connection: ConnectionId,
        /// The next bytes of the stream.
        bytes: Vec<u8>,
    },
    /// A connection could not be made, or has ended, not by our `Close`.
    Closed {
        /// Which one.
        connection: ConnectionId,
        /// How.
        reason: CloseReason,
    },
}

/// What the core wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a packet from the socket of our address.
    Send {
        /// Where to.
        to: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Send a packet from a socket that is connected to this address, for the kernel to tell of a closed port. The
    /// answer comes to the socket of our address.
    Ping {
        /// Where to.
        to: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Ask the kernel at this address for a sign of life, such as an ICMP echo.
    KernelProbe {
        /// The address that is pinged otherwise.
        address: SocketAddr,
    },
    /// There will be no more pings and probes to this address.
    Release {
        /// Which.
        address: SocketAddr,
    },
    /// Open a connection; answer with `Connected` or `Closed`.
    Dial {
        /// Its name.
        connection: ConnectionId,
        /// Where to.
        address: SocketAddr,
    },
    /// Write to a connection.
    Write {
        /// Over this connection.
        connection: ConnectionId,
        /// A whole message.
        bytes: Vec<u8>,
    },
    /// Write out what was sent before, then close; or give up dialing. No answer is needed.
    Close {
        /// Which one.
        connection: ConnectionId,
    },
    /// A member has another state than was last said.
    MemberChanged(MemberChange),
    /// We have left: all members know, or were told often enough.
    Left,
    /// Something for the log. Others can cause reports without end, so the log needs a limit.
    Report(Report),
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It is there.
    Alive,
    /// It may have failed; for MetalLB it still counts (contract 5.2).
    Suspect,
    /// It failed.
    Dead,
    /// It left in order.
    Left,
}

impl MemberState {
    /// True for those that count as members: contract 5.2 has suspects among them.
    pub fn is_member(self) -> bool {
        matches!(self, MemberState::Alive | MemberState::Suspect)
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemberState::Alive => "alive",
            MemberState::Suspect => "suspect",
            MemberState::Dead => "dead",
            MemberState::Left => "left",
        })
    }
}

/// A change of one member's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// Who.
    pub name: Name,
    /// Where it is.
    pub address: SocketAddr,
    /// How it is now.
    pub state: MemberState,
    /// Since when.
    pub since: Instant,
    /// How we know.
    pub cause: Cause,
}

/// How a change became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The member said so itself, perhaps through others.
    Itself,
    /// Another member said so.
    Member(Name),
    /// It did not answer our probe, nor those of others that were asked.
    Probe,
    /// It was suspected, and did not object in time.
    SuspicionTimeout {
        /// How many others suspected it too.
        confirmations: u32,
    },
    /// It was watched, and was silent.
    Watch(Silence),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Itself => f.write_str("it said so"),
            Cause::Member(name) => write!(f, "{name} said so"),
            Cause::Probe => f.write_str("it did not answer a probe"),
            Cause::SuspicionTimeout { confirmations } => {
                write!(f, "it did not object to a suspicion that {confirmations} others shared")
            }
            Cause::Watch(silence) => write!(f, "{silence}"),
        }
    }
}

/// Something that an operator may want to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Report {
    /// A packet, or a part of it, could not be read.
    #[error("a packet from {from} was dropped: {error}")]
    PacketDropped {
        /// From where.
        from: SocketAddr,
        /// Why.
        error: DecodeError,
    },
    /// A stream could not be read.
    #[error("a message over TCP from {from} was dropped: {error}")]
    StreamDropped {
        /// From where.
        from: SocketAddr,
        /// Why.
        error: DecodeError,
    },
    /// A speaker could not be contacted.
    #[error("could not join {address}: {problem}")]
    JoinFailed {
        /// Where it should be.
        address: SocketAddr,
        /// Why.
        problem: String,
    },
    /// A speaker was contacted.
    #[error("joined {address}, which knows {members} members")]
    Joined {
        /// Where it is.
        address: SocketAddr,
        /// How many members it has told us of.
        members: usize,
    },
    /// Two machines have the same name.
    #[error("two members are called {name}: one at {known}, another at {other}")]
    Conflict {
        /// The name.
        name: Name,
        /// The address that is believed.
        known: SocketAddr,
        /// The one that is not.
        other: SocketAddr,
    },
    /// Somebody said that this node has failed; it objected.
    #[error("{by} said that this node is {state}; that was denied")]
    Accused {
        /// Who.
        by: Name,
        /// What we were said to be.
        state: MemberState,
    },
    /// A member answers pings over TCP and not over UDP.
    #[error("{name} answers over TCP and not over UDP: a firewall between the nodes may be wrong")]
    UdpBlocked {
        /// Who.
        name: Name,
    },
    /// Members speak versions of the protocol that do not fit each other.
    #[error("{name} speaks protocol version {version}, and all members together allow {least} to {most}")]
    Incompatible {
        /// Who.
        name: Name,
        /// What it speaks.
        version: u8,
        /// What all understand.
        least: u8,
        /// What all understand.
        most: u8,
    },
    /// There are more members than we take.
    #[error("the member {name} was not taken: there are too many")]
    TooManyMembers {
        /// Who.
        name: Name,
    },
}

/// How a connection ended that we did not close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The other side closed it in order.
    #[error("the other side closed the connection")]
    ByPeer,
    /// Nothing listens there.
    #[error("connection refused: no speaker listens there")]
    Refused,
    /// There was no answer in time.
    #[error("no answer to the connection request")]
    NoAnswer,
    /// Something else.
    #[error("the connection failed: {0}")]
    Failed(String),
}
