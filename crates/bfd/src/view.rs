//! What a session looks like from outside.

use kit::{Duration, Instant};

use crate::wire::ControlPacket;
use crate::{DownReason, EchoState, Path, Profile};

/// A session with its numbers, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView<K> {
    /// Its two ends.
    pub path: Path,
    /// Who watches it; nobody while the neighbour is told good-bye.
    pub clients: Vec<K>,
    /// The profile in force: of those that its clients ask for, the one that notices a failure first.
    pub profile: Profile,
    /// Our side, as the packet that we would send now: state, diagnostic, discriminators, offers.
    pub local: ControlPacket,
    /// The neighbour's side, as its last packet; `None` when nothing was heard for the detection time.
    pub remote: Option<ControlPacket>,
    /// When the state changed last.
    pub since: Instant,
    /// Why the session went down last.
    pub last_down: Option<DownReason>,
    /// The interval between our packets, before jitter; `None` while none are sent periodically.
    pub transmit_interval: Option<Duration>,
    /// How long the neighbour may be silent; `None` while it has not been heard.
    pub detection_time: Option<Duration>,
    /// How far the echo function has come.
    pub echo: EchoState,
    /// What has happened so far.
    pub counters: Counters,
}

/// What has happened to a session since it was made (contract 8.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Control packets received that were for the session: `control_packet_input`.
    pub control_packet_input: u64,
    /// Control packets sent: `control_packet_output`.
    pub control_packet_output: u64,
    /// Echo packets of ours that came back: `echo_packet_input`.
    pub echo_packet_input: u64,
    /// Echo packets sent, those of the neighbour that we returned not included: `echo_packet_output`.
    pub echo_packet_output: u64,
    /// How often it came up: `session_up_events`.
    pub session_up_events: u64,
    /// How often it went down: `session_down_events`.
    pub session_down_events: u64,
    /// How often clients were told something new, which FRR does through its zebra daemon: `zebra_notifications`.
    pub zebra_notifications: u64,
}

impl Counters {
    pub(crate) fn notified(&mut self) {
        self.zebra_notifications = self.zebra_notifications.saturating_add(1);
    }
}
