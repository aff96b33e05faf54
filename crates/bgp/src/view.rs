//! What an operator reads about a peer.

use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;
use kit::{Asn, Duration, Family, HoldTime, Instant, RouterId};

use crate::RouteState;
use crate::event::{CloseReason, ConnectError, ConnectionId};
use crate::wire::{Capability, NextHop, Notification, Open, PathAttributes};

/// The states of RFC 4271 section 8.2.2, of a peer with at most one connection each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Stopped: nothing happens until `Input::Start`.
    Idle,
    /// A connection is being made.
    Connect,
    /// Waiting for the time of the next attempt, or for the peer to connect.
    Active,
    /// Connected; our OPEN is out.
    OpenSent,
    /// Both OPENs were accepted; waiting for the peer's first KEEPALIVE.
    OpenConfirm,
    /// The session is up.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Everything about one peer at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// The state of the connection that got farthest.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// When the next attempt to connect is due.
    pub next_attempt: Option<Instant>,
    /// Attempts that failed since the last session that lasted.
    pub failed_attempts: u32,
    /// How often a session was established.
    pub sessions: u64,
    /// Why the last session or attempt ended, and when.
    pub last_down: Option<(Instant, DownReason)>,
    /// The last of these reasons that one side told the other, and when: a peer that has refused us often says so once
    /// and then only closes connections.
    pub last_notification: Option<(Instant, DownReason)>,
    /// Messages so far, over all sessions.
    pub counters: Counters,
    /// Prefixes that the peer should have.
    pub prefixes_wanted: usize,
    /// Prefixes that it has from us.
    pub prefixes_announced: usize,
    /// Prefixes that we have from it, where they are reported.
    pub prefixes_received: usize,
    /// What the connection that got farthest negotiated; present from OpenConfirm on.
    pub session: Option<SessionView>,
    /// One for each family, IPv4 first.
    pub families: [FamilyView; 2],
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Our end of the connection.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Our BGP identifier.
    pub local_router_id: RouterId,
    /// The peer's.
    pub remote_router_id: RouterId,
    /// The peer's AS.
    pub remote_as: Asn,
    /// The smaller one of both offers.
    pub hold_time: HoldTime,
    /// The time between our KEEPALIVEs; `None` when there are none.
    pub keepalive_time: Option<Duration>,
    /// The peer keeps our routes when we restart (RFC 4724).
    pub keeps_routes: bool,
    /// In our OPEN.
    pub capabilities_sent: Vec<Capability>,
    /// In the peer's OPEN.
    pub capabilities_received: Vec<Capability>,
}

/// A connection on which messages may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView<'a> {
    /// Its name.
    pub id: ConnectionId,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Our OPEN.
    pub open_sent: &'a Open,
    /// The peer's, once it was accepted, with the hold time that both have agreed on.
    pub open_received: Option<Open>,
    /// The session is up on this connection.
    pub is_established: bool,
    /// The begin of a message whose end has not come.
    pub unread: &'a [u8],
}

/// The routes of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyView {
    /// Which one.
    pub family: Family,
    /// Prefixes that the peer should have.
    pub wanted: usize,
    /// Prefixes that it has.
    pub announced: usize,
    /// Why routes of this family do not go out at all; `None` when they do.
    pub blocked: Option<RouteState>,
}

/// A route that a peer should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView {
    /// The destination.
    pub prefix: IpNet,
    /// How far it got.
    pub state: RouteState,
    /// What the peer was told, if it has the route.
    pub sent: Option<SentRoute>,
}

/// A route as the peer has it from us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRoute {
    /// Where packets for it go.
    pub next_hop: NextHop,
    /// Everything else.
    pub attributes: PathAttributes,
}

/// Counts of messages, per type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// OPEN.
    pub opens: u64,
    /// UPDATE.
    pub updates: u64,
    /// NOTIFICATION.
    pub notifications: u64,
    /// KEEPALIVE.
    pub keepalives: u64,
    /// ROUTE-REFRESH.
    pub route_refreshes: u64,
}

impl MessageCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        [self.opens, self.updates, self.notifications, self.keepalives, self.route_refreshes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// What was counted since the peer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that we sent.
    pub sent: MessageCounts,
    /// Messages that came, also those that were wrong.
    pub received: MessageCounts,
    /// UPDATEs whose routes were taken as withdrawn because of an error (RFC 7606).
    pub updates_treated_as_withdraw: u64,
    /// Attributes that were ignored because of an error (RFC 7606).
    pub attributes_discarded: u64,
}

/// Why a session, or the attempt to get one, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// There was no connection.
    Connect(ConnectError),
    /// We ended it and told the peer why.
    Local {
        /// What the peer was told.
        notification: Notification,
        /// What we saw, for our own operator.
        detail: String,
    },
    /// The peer ended it and told us why.
    Remote {
        /// What the peer said.
        notification: Notification,
    },
    /// The connection ended without a word.
    Closed(CloseReason),
    /// We ended it without a word, so that the peer keeps our routes until the next session (RFC 4724).
    Quietly,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownReason::Connect(error) => error.fmt(f),
            DownReason::Local { notification, detail } if detail.is_empty() => write!(f, "sent {notification}"),
            DownReason::Local { notification, detail } => write!(f, "sent {notification}: {detail}"),
            DownReason::Remote { notification } => write!(f, "received {notification}"),
            DownReason::Closed(reason) => reason.fmt(f),
            DownReason::Quietly => f.write_str("closed without a NOTIFICATION, so that the peer keeps our routes"),
        }
    }
}
