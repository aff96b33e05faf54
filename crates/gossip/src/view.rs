//! What an operator reads about the cluster.

use std::net::SocketAddr;

use kit::{Duration, Instant};

use crate::{MemberState, Name, WatchState};

/// Everything about the cluster, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipView {
    /// This node.
    pub name: Name,
    /// All that are known, this node included, in the order of their names. The dead stay for a while.
    pub members: Vec<MemberView>,
    /// Where speakers should be, and are no members.
    pub missing: Vec<SocketAddr>,
    /// How well this node does itself: 0 is well, and others get more time the higher it is.
    pub health_score: u32,
    /// Messages that are on their way to everybody.
    pub queued: usize,
    /// Connections that are open, or being made.
    pub connections: usize,
    /// Whether there is a key.
    pub is_encrypted: bool,
    /// What has been counted.
    pub counters: Counters,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub name: Name,
    /// Where.
    pub address: SocketAddr,
    /// How it is.
    pub state: MemberState,
    /// Since when.
    pub since: Instant,
    /// How often it had to say that it lives.
    pub incarnation: u32,
    /// What the watch over it sees, if it is watched.
    pub watch: Option<WatchView>,
}

/// The watch over a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchView {
    /// How it does.
    pub state: WatchState,
    /// The usual time until it answers, once it did.
    pub round_trip: Option<Duration>,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// UDP packets that came.
    pub packets_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// UDP packets that went out.
    pub packets_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Packets that could not be read, all or in part.
    pub packets_dropped: u64,
    /// Messages over TCP that could not be read.
    pub streams_dropped: u64,
    /// Connections that were refused because there were too many, or too much waited in them.
    pub streams_refused: u64,
    /// What was opened with a key that is not the first: it is 0 for a while before an old key may be removed.
    pub opened_with_other_key: u64,
    /// What was not encrypted and taken nevertheless.
    pub plaintext_taken: u64,
    /// Probes that nobody answered.
    pub probes_failed: u64,
    /// Members that watches declared dead.
    pub watch_declared: u64,
    /// How often others were looked at because a watched node fell silent: the network might have fallen apart.
    pub sweeps: u64,
    /// How often we had to say that we live.
    pub denials: u64,
    /// How often this program did not run when it should have.
    pub own_pauses: u64,
    /// Members that were not taken because there were too many.
    pub members_refused: u64,
    /// Pings for others that were not sent because too many waited.
    pub relays_refused: u64,
}

impl Counters {
    pub(crate) fn packet_received(&mut self, bytes: usize) {
        self.packets_received = self.packets_received.saturating_add(1);
        self.bytes_received = self.bytes_received.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(crate) fn packet_sent(&mut self, bytes: usize) {
        self.packets_sent = self.packets_sent.saturating_add(1);
        self.bytes_sent = self.bytes_sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}
