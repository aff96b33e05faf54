//! How one neighbour is to be treated. Everything here was checked before: see `config` rules of contract 4.2.

use kit::{Asn, Duration, HoldTime, RemoteAs, RouterId};

/// The configuration of one peer (contract 1.2, 6.4).
///
/// It can be changed while a session lasts ([`crate::Input::Configure`]): what is negotiated at the begin of a session
/// then holds from the next one on, everything else at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The AS that we are in towards this peer: `localASN` if there is one (it replaces `myASN` everywhere, also in
    /// the path), else `myASN`.
    pub local_as: Asn,
    /// The AS that the peer must be in.
    pub remote_as: RemoteAs,
    /// Our BGP identifier.
    pub router_id: RouterIdSource,
    /// The hold time that we offer; the smaller offer of both sides holds (RFC 4271 section 4.2).
    pub hold_time: HoldTime,
    /// The longest time between our KEEPALIVEs. A third of the hold time if it is absent, zero or longer than that.
    pub keepalive_time: Option<Duration>,
    /// When to try again after a failure.
    pub connect_retry: ConnectRetry,
    /// What the session carries.
    pub families: Families,
    /// Who opens the connection.
    pub mode: Mode,
    /// What happens to the peer's routes.
    pub reception: Reception,
    /// Whether our routes are to outlive our sessions for a while; `None` if they are not.
    pub graceful_restart: Option<GracefulRestart>,
}

/// What we ask of a peer that can keep our routes while there is no session (RFC 4724). Our forwarding does not depend
/// on this process, so it is always preserved (section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// How long it keeps them at most while we are away: whole seconds, up to [`RESTART_TIME_MAX`].
    pub restart_time: Duration,
    /// How this process came to be.
    pub beginning: Beginning,
    /// What a NOTIFICATION or a hold time that runs out does to our routes.
    pub notifications: Notifications,
}

/// The longest restart time that the capability can say.
pub const RESTART_TIME_MAX: Duration = Duration::from_secs(4095);

/// Whether there may have been a session before this process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// There was none: the peer is new.
    New,
    /// There may have been one, which the first OPENs say (RFC 4724 section 4.1: Restart State).
    Restarted,
}

/// What becomes of our routes when a session ends by a NOTIFICATION, or by silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notifications {
    /// They are dropped (RFC 4724 section 4).
    DropRoutes,
    /// They are kept, if the peer wants that too (RFC 8538: the N bit). A peer then keeps the routes of a node that has
    /// died, too, until the restart time is over.
    KeepRoutes,
}

/// Where our BGP identifier comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterIdSource {
    /// This one.
    Configured(RouterId),
    /// Our IPv4 address of the TCP session; over IPv6, where there is none, `otherwise` (contract 6.4).
    Session {
        /// The identifier for a session over IPv6.
        otherwise: RouterId,
    },
}

/// How long to wait before the next attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRetry {
    /// At once after a session was lost, then ever longer, with jitter; see `backoff.rs` for the steps.
    BackOff,
    /// Always exactly this long (`connectTime`).
    Every(Duration),
}

/// Which routes a session carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Those of the family of its own addresses.
    OfSession,
    /// IPv4 and IPv6 (`dualStackAddressFamily`).
    Both,
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// We dial and never accept; MetalLB's speakers do so.
    Active,
    /// The peer dials, we accept.
    Passive,
    /// Either; when both do at once, RFC 4271 section 6.8 decides.
    Both,
}

/// What happens to the routes that the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// They are checked as the protocol demands, and forgotten; nothing is stored.
    Refuse,
    /// They are told to the driver.
    Report {
        /// With more prefixes than this the session ends (RFC 4486 section 4, subcode 1).
        prefixes_max: u32,
    },
}
