//! What a speaker tells of its BGP and BFD sessions: the JSON of its socket and of `metallb status bgp --output json`.
//!
//! Times are in UTC as RFC 3339 has them. What is not there is left out.

use serde::{Deserialize, Serialize};

/// One line of an answer. An answer without the last of them is not complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Line {
    /// Who answers, first.
    Speaker(SpeakerStatus),
    /// A peer.
    Peer(Box<PeerStatus>),
    /// A route of the peer before.
    Route(RouteStatus),
    /// A session of BFD.
    Bfd(Box<BfdStatus>),
    /// The last.
    End,
}

/// Everything that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    pub(crate) speaker: SpeakerStatus,
    pub(crate) peers: Vec<PeerStatus>,
    pub(crate) bfd: Vec<BfdStatus>,
}

/// Who answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpeakerStatus {
    pub(crate) node: String,
    pub(crate) version: String,
    /// When this was so.
    pub(crate) time: String,
    /// The names of all BGPPeers of this node.
    pub(crate) peer_names: Vec<String>,
    /// What the thread of BFD is like, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bfd_thread: Option<BfdThreadStatus>,
}

/// The thread that does BFD.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BfdThreadStatus {
    /// How it is scheduled.
    pub(crate) precedence: String,
    /// The longest time that something due had to wait for the processor.
    pub(crate) longest_delay_ms: f64,
    /// What does not work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) troubles: Vec<String>,
}

/// A router, or a BGPPeer that waits for routers to call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerStatus {
    /// The BGPPeer.
    pub(crate) name: String,
    /// Where it is, or is looked for.
    pub(crate) router: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vrf: Option<String>,
    pub(crate) local_as: u32,
    /// The AS that it must be in: a number, `internal` or `external`.
    pub(crate) remote_as: String,
    /// A state of RFC 4271, or `Listening` for a range from which no router has called.
    pub(crate) state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    /// What keeps the session from beginning, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_attempt: Option<String>,
    /// Attempts that failed since the last session that lasted.
    pub(crate) failed_attempts: u32,
    /// How often a session was established.
    pub(crate) established: u64,
    /// Why the last session or attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_down: Option<Ending>,
    /// The last NOTIFICATION that either side sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_notification: Option<Ending>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<SessionStatus>,
    /// The BFDProfile that its path is watched with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bfd_profile: Option<String>,
    /// The state of that session of BFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bfd: Option<String>,
    pub(crate) families: Vec<FamilyStatus>,
    pub(crate) messages: MessagesStatus,
    /// Its routes, if one peer was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<RouteStatus>,
}

/// Why something ended, and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) time: String,
    pub(crate) reason: String,
}

/// What both sides agreed on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionStatus {
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) local_router_id: String,
    pub(crate) remote_router_id: String,
    pub(crate) remote_as: u32,
    /// 0 for for ever.
    pub(crate) hold_time_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keepalive_time_seconds: Option<u64>,
    /// The router keeps our routes when the speaker restarts (RFC 4724).
    pub(crate) keeps_routes: bool,
    pub(crate) capabilities_sent: Vec<String>,
    pub(crate) capabilities_received: Vec<String>,
}

/// The routes of one family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FamilyStatus {
    pub(crate) family: String,
    /// Prefixes that the router should have.
    pub(crate) wanted: usize,
    /// Prefixes that it has.
    pub(crate) announced: usize,
    /// Why none go out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocked: Option<String>,
}

/// Messages so far, over all sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessagesStatus {
    pub(crate) sent: Counts,
    pub(crate) received: Counts,
    /// UPDATEs whose routes were taken as withdrawn because of an error (RFC 7606).
    pub(crate) updates_treated_as_withdraw: u64,
    /// Attributes that were ignored because of an error (RFC 7606).
    pub(crate) attributes_discarded: u64,
}

/// Messages of each type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    pub(crate) opens: u64,
    pub(crate) updates: u64,
    pub(crate) notifications: u64,
    pub(crate) keepalives: u64,
    pub(crate) route_refreshes: u64,
}

/// A route that a router should have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouteStatus {
    pub(crate) prefix: String,
    /// How far it got, in words.
    pub(crate) state: String,
    /// What the router has; nothing below is there if it has nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_hop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local_pref: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) med: Option<u32>,
    /// Standard, large and extended ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) communities: Vec<String>,
}

/// A session of BFD.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BfdStatus {
    /// The BGPPeers whose path it is.
    pub(crate) peers: Vec<String>,
    pub(crate) remote: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vrf: Option<String>,
    /// `single` or `multi`.
    pub(crate) hops: String,
    pub(crate) state: String,
    pub(crate) since: String,
    /// Why it went down last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_down: Option<String>,
    /// The neighbour's state, if it is heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remote_state: Option<String>,
    /// What is said to the neighbour, and what it says.
    pub(crate) diagnostic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remote_diagnostic: Option<String>,
    /// The time between our packets, as negotiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transmit_interval_ms: Option<f64>,
    /// How long the neighbour may be silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detection_time_ms: Option<f64>,
    pub(crate) detect_multiplier: u8,
    /// Whether echo packets are sent.
    pub(crate) echo: String,
    pub(crate) control_packets_received: u64,
    pub(crate) control_packets_sent: u64,
    pub(crate) echo_packets_returned: u64,
    pub(crate) echo_packets_sent: u64,
    pub(crate) ups: u64,
    pub(crate) downs: u64,
}
