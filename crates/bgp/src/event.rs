//! What a peer is told and what it wants done: the seam between the core and its driver.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use kit::{Asn, Family, RouterId};

use crate::view::DownReason;
use crate::wire::{DecodeError, Disposition, ErrorCode, PathAttributes};
use crate::{PeerConfig, RouteAttributes};

/// The outbox that a driver should give to [`crate::Peer::handle`], and empty after each call.
pub const OUTBOX_LIMIT: usize = 1024;

/// Names one TCP connection, or the attempt to make one. A name is never used again, so a late event of an old
/// connection cannot be taken for one of the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionId {
    /// We opened it; the core counts.
    Dialed(u64),
    /// The peer opened it; the driver counts.
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

/// What a peer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Begin (RFC 4271 ManualStart). Without effect when begun.
    Start,
    /// End the session, if there is one, and stay idle until the next `Start` (RFC 4271 ManualStop).
    Stop {
        /// What the peer is told.
        reason: StopReason,
    },
    /// The peer is to be treated differently from now on. No session ends: what an OPEN says holds from the next one
    /// on, the rest at once. Where that is not enough, `Stop` and a new [`crate::Peer`] are.
    Configure(Box<PeerConfig>),
    /// Every route that the peer should have at the begin has been told. Until then it gets no End-of-RIB, for that
    /// would have it forget routes of a session before (RFC 4724 section 4.2).
    Complete,
    /// A deadline may have come.
    Tick,
    /// The peer should have this route; replaces what was wanted for the prefix before. In any state. Host bits of
    /// the prefix are ignored.
    Announce {
        /// The destination.
        prefix: IpNet,
        /// The attributes; routes that share an `Arc` share memory.
        attributes: Arc<RouteAttributes>,
    },
    /// The peer should not have a route to this prefix. In any state.
    Withdraw {
        /// The destination.
        prefix: IpNet,
    },
    /// Our next hop for routes of a family that the session's own addresses are not of. In any state; announced
    /// routes are sent again.
    NextHop {
        /// The family of the routes.
        family: Family,
        /// An address of that family on the link to the peer, if there is one.
        address: Option<IpAddr>,
    },
    /// A connection was made, by us or by the peer.
    Connected {
        /// The name from [`Output::Dial`], or a new one for an accepted connection.
        connection: ConnectionId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// Dialing failed.
    ConnectFailed {
        /// The name from [`Output::Dial`].
        connection: ConnectionId,
        /// Why.
        error: ConnectError,
    },
    /// Bytes came in. At most [`crate::wire::MESSAGE_MAX`] times 4 per input is best.
    Received {
        /// Over this connection.
        connection: ConnectionId,
        /// The next bytes of the stream.
        bytes: Vec<u8>,
    },
    /// The kernel took bytes of [`Output::Send`].
    Written {
        /// Over this connection.
        connection: ConnectionId,
        /// How many since the last report.
        count: usize,
    },
    /// The connection is gone, not by our `Close`.
    Closed {
        /// Which one.
        connection: ConnectionId,
        /// How it ended.
        reason: CloseReason,
    },
}

/// What a peer wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a connection to the peer; answer with `Connected` or `ConnectFailed`.
    Dial {
        /// Its name.
        connection: ConnectionId,
    },
    /// Write to the connection; answer with `Written`.
    Send {
        /// Over this connection.
        connection: ConnectionId,
        /// One or more whole messages.
        bytes: Vec<u8>,
    },
    /// Write out what was sent before, then close; or give up dialing. No answer is needed.
    Close {
        /// Which one.
        connection: ConnectionId,
    },
    /// The session is established.
    SessionUp {
        /// The AS of the peer.
        remote_as: Asn,
        /// The BGP identifier of the peer.
        remote_router_id: RouterId,
    },
    /// The session is no longer established. All routes that were reported are gone.
    SessionDown {
        /// Why.
        reason: DownReason,
    },
    /// An attempt failed before a session was established.
    AttemptFailed {
        /// Why.
        reason: DownReason,
    },
    /// An UPDATE was wrong. It is for the log: RFC 7606 section 6 wants the routes and the whole message there. A peer
    /// may send such messages without end, so the log needs a limit.
    MalformedUpdate {
        /// The strongest of what the errors cost.
        disposition: Disposition,
        /// What is wrong.
        errors: Vec<DecodeError>,
        /// The message as text, with its routes, as far as it can be read.
        text: String,
        /// The message.
        message: Vec<u8>,
    },
    /// The peer has these routes; each replaces an earlier one to the same prefix ([`crate::Reception::Report`]).
    RoutesAnnounced {
        /// The destinations; none is twice in one output.
        prefixes: Vec<IpNet>,
        /// Where packets for them go.
        next_hop: IpAddr,
        /// Everything else that the peer said.
        attributes: Arc<PathAttributes>,
    },
    /// The peer has these routes no longer ([`crate::Reception::Report`]).
    RoutesWithdrawn {
        /// The destinations; all were announced before.
        prefixes: Vec<IpNet>,
    },
}

/// Why the operator, or the program, ends a session: the Cease subcode that the peer reads (RFC 4486).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Switched off, perhaps with a text for the other side's operator, cut at 255 bytes (RFC 9003).
    AdministrativeShutdown {
        /// What to tell; empty for nothing.
        text: String,
    },
    /// The peer is no longer configured.
    PeerDeconfigured,
    /// The configuration of the peer changed; a new session follows, and our routes are to be kept until then.
    ConfigurationChange,
    /// This process ends, and another will take its place; our routes are to be kept until then.
    Restart,
    /// BFD says that the path is down (RFC 9384).
    BfdDown,
}

impl StopReason {
    /// The Cease subcode.
    pub fn code(&self) -> ErrorCode {
        match self {
            StopReason::AdministrativeShutdown { .. } => ErrorCode::ADMINISTRATIVE_SHUTDOWN,
            StopReason::PeerDeconfigured => ErrorCode::PEER_DECONFIGURED,
            StopReason::ConfigurationChange => ErrorCode::OTHER_CONFIGURATION_CHANGE,
            StopReason::Restart => ErrorCode::ADMINISTRATIVE_RESET,
            StopReason::BfdDown => ErrorCode::BFD_DOWN,
        }
    }

    /// Whether the peer should keep our routes, if it can.
    pub(crate) fn keeps_routes(&self) -> bool {
        match self {
            StopReason::ConfigurationChange | StopReason::Restart => true,
            StopReason::AdministrativeShutdown { .. } | StopReason::PeerDeconfigured | StopReason::BfdDown => false,
        }
    }
}

/// Why a connection could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The peer's host answered that nothing listens there, or that it does not want us.
    #[error("connection refused: nothing listens on the peer's port, or it does not accept us as a neighbour")]
    Refused,
    /// Nothing came back. The core says this after its own time, a driver after the kernel's.
    #[error(
        "no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 \
         passwords or TCP-AO keys differ"
    )]
    NoAnswer,
    /// There is no route to the peer, or a router on the way said so.
    #[error("the peer's address is unreachable: {0}")]
    Unreachable(String),
    /// The configured source address is not on this host.
    #[error("the source address {0} is not on this host")]
    SourceAddress(IpAddr),
    /// The interface or VRF that the session is bound to does not exist.
    #[error("there is no interface or VRF {0} on this host")]
    Device(String),
    /// An option of the socket could not be set.
    #[error("the socket could not be prepared: {0}")]
    Socket(String),
    /// Anything else.
    #[error("could not connect: {0}")]
    Other(String),
}

/// How a connection ended that we did not close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it in order.
    #[error("the peer closed the connection without a NOTIFICATION")]
    ByPeer,
    /// The peer, or something on the way, reset it.
    #[error("the connection was reset by the peer")]
    Reset,
    /// The kernel gave up.
    #[error("the connection failed: {0}")]
    Failed(String),
    /// The peer made another connection, as one does that was restarted (RFC 4724 section 4.2).
    #[error("the peer was restarted and connected again")]
    Replaced,
}
