//! What two OPENs make of a session (RFC 4271 sections 4.2 and 6.2; RFC 4760 section 8, 5492, 6286, 6793, 8950), and
//! which of two connections stays (RFC 4271 section 6.8, RFC 6286 section 2.3).
//!
//! Pure functions: no connection and no timer is touched here.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use kit::{Asn, Duration, Family, HoldTime, RemoteAs, RouterId};

use crate::wire::{
    AfiSafi, AsnSize, Capability, DecodeError, ErrorCode, ExtendedNextHop, MessageLimit, Notification, Open,
    RefreshKnowledge, Relation, RestartFamily, ValidOpen,
};
use crate::{Beginning, Families, GracefulRestart, Notifications, PeerConfig, Reception, RouterIdSource};

/// KEEPALIVEs are never sent more often than this (RFC 4271 section 4.4).
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);

/// Why we end a connection: what the peer is told, and what our operator reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) notification: Notification,
    pub(crate) detail: String,
}

impl Refusal {
    pub(crate) fn new(error: ErrorCode, detail: impl Into<String>) -> Self {
        Refusal { notification: Notification::new(error), detail: detail.into() }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Refusal { detail: error.to_string(), notification: error.notification }
    }
}

/// Whether our OPEN has capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// All that we have.
    Everything,
    /// None: the peer does not even know the parameter that they are in (RFC 5492 section 3).
    Nothing,
}

/// Our side of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalOpen {
    pub(crate) router_id: RouterId,
    pub(crate) families: BTreeSet<Family>,
    pub(crate) open: Open,
}

/// In the capability of graceful restart (RFC 4724 section 3, RFC 8538 section 2).
const FLAG_RESTARTED: u8 = 0x8;
const FLAG_NOTIFICATIONS: u8 = 0x4;
const FLAG_FORWARDING_PRESERVED: u8 = 0x80;

impl LocalOpen {
    /// What we say over a connection with this local end.
    pub(crate) fn new(config: &PeerConfig, local: SocketAddr, offer: Offer) -> Self {
        let session_family = Family::of(&local.ip());
        let router_id = match (config.router_id, local.ip()) {
            (RouterIdSource::Configured(router_id), _) => router_id,
            (RouterIdSource::Session { otherwise }, IpAddr::V4(address)) => {
                RouterId::new(u32::from(address)).unwrap_or(otherwise)
            }
            (RouterIdSource::Session { otherwise }, IpAddr::V6(_)) => otherwise,
        };
        let families: BTreeSet<Family> = match config.families {
            Families::OfSession => [session_family].into(),
            Families::Both => Family::ALL.into(),
        };
        match offer {
            Offer::Everything => {
                let capabilities = capabilities(config, session_family, &families);
                let open = Open::new(config.local_as, config.hold_time, router_id, capabilities);
                LocalOpen { router_id, families, open }
            }
            // Without capabilities there is IPv4 alone (RFC 4760 section 8).
            Offer::Nothing => {
                let open = Open::plain(config.local_as, config.hold_time, router_id);
                LocalOpen { router_id, families: [Family::V4].into(), open }
            }
        }
    }

    /// How large the messages are that we must take (RFC 8654 section 4: what we announced counts, not what the peer
    /// did).
    pub(crate) fn message_limit(&self) -> MessageLimit {
        message_limit(&self.open.capabilities)
    }
}

fn capabilities(config: &PeerConfig, session_family: Family, families: &BTreeSet<Family>) -> Vec<Capability> {
    let mut capabilities: Vec<Capability> =
        families.iter().map(|family| Capability::Multiprotocol(AfiSafi::unicast(*family))).collect();
    capabilities.push(Capability::RouteRefresh);
    if session_family == Family::V6 && families.contains(&Family::V4) {
        capabilities.push(Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_OVER_IPV6]));
    }
    capabilities.push(Capability::ExtendedMessage);
    // Those who keep routes would have to mark and sweep them: for RFC 7313 between the marks, and for RFC 4724 while
    // the peer restarts. Whoever refuses them all has nothing to do for either.
    if config.reception == Reception::Refuse {
        capabilities.push(Capability::EnhancedRouteRefresh);
        capabilities.push(graceful_restart(config.graceful_restart, families));
    }
    capabilities
}

/// Without families it still says that End-of-RIB is sent and understood, and that the peer may restart (RFC 4724
/// sections 3 and 4).
fn graceful_restart(config: Option<GracefulRestart>, families: &BTreeSet<Family>) -> Capability {
    let Some(config) = config else {
        return Capability::GracefulRestart { flags: 0, restart_time_secs: 0, families: Vec::new() };
    };
    let restarted = if config.beginning == Beginning::Restarted { FLAG_RESTARTED } else { 0 };
    let notifications = if config.notifications == Notifications::KeepRoutes { FLAG_NOTIFICATIONS } else { 0 };
    let seconds = config.restart_time.min(crate::RESTART_TIME_MAX).as_secs();
    Capability::GracefulRestart {
        flags: restarted | notifications,
        restart_time_secs: u16::try_from(seconds).unwrap_or(u16::MAX),
        families: families
            .iter()
            .map(|family| RestartFamily { routes: AfiSafi::unicast(*family), flags: FLAG_FORWARDING_PRESERVED })
            .collect(),
    }
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) remote_as: Asn,
    pub(crate) remote_router_id: RouterId,
    pub(crate) relation: Relation,
    pub(crate) asn_size: AsnSize,
    pub(crate) hold_time: HoldTime,
    /// The time between KEEPALIVEs before jitter; `None` when there are none.
    pub(crate) keepalive_time: Option<Duration>,
    pub(crate) families: BTreeSet<Family>,
    pub(crate) extended_next_hop: bool,
    /// How large the messages are that the peer takes (RFC 8654 section 4).
    pub(crate) message_limit: MessageLimit,
    pub(crate) refresh: RefreshKnowledge,
    /// The peer wants to know when it has all routes (RFC 4724 section 3).
    pub(crate) end_of_rib: bool,
    pub(crate) routes_kept: RoutesKept,
    /// The peer said that it keeps its own forwarding state: its next connection is the end of this one (RFC 4724
    /// section 4.2).
    pub(crate) peer_restarts: bool,
    pub(crate) capabilities_received: Vec<Capability>,
}

impl Negotiated {
    /// The peer's OPEN, but for its own offer of a hold time, which is not kept.
    pub(crate) fn open_received(&self) -> Open {
        Open {
            my_as: self.remote_as.as_two_bytes().unwrap_or(Asn::TRANS),
            hold_time_secs: self.hold_time.as_secs(),
            identifier: self.remote_router_id.get(),
            capabilities: self.capabilities_received.clone(),
        }
    }
}

/// What the peer does with our routes when the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoutesKept {
    /// It drops them.
    Never,
    /// It keeps them if the connection ends without a NOTIFICATION (RFC 4724 section 4.2).
    WithoutNotification,
    /// It keeps them unless it is told a hard reset (RFC 8538 section 3).
    WithoutHardReset,
}

/// Judges the peer's OPEN against our configuration.
pub(crate) fn negotiate(config: &PeerConfig, local: &LocalOpen, open: Open) -> Result<Negotiated, Refusal> {
    let my_as = open.my_as;
    let remote = open.validate()?;
    if !config.remote_as.admits(config.local_as, remote.asn) {
        let detail = format!("the peer is in AS {}, but {}", remote.asn, expectation(config));
        let notification = Notification::with_data(ErrorCode::BAD_PEER_AS, &my_as.to_be_bytes());
        return Err(Refusal { notification, detail });
    }
    let relation = if remote.asn == config.local_as { Relation::Internal } else { Relation::External };
    // RFC 6286 section 2.2: within an AS identifiers are unique.
    if relation == Relation::Internal && remote.router_id == local.router_id {
        let detail = format!("the peer has our own router ID {}", local.router_id);
        return Err(Refusal::new(ErrorCode::BAD_BGP_IDENTIFIER, detail));
    }
    let hold_time = hold_time(local, remote.hold_time);
    let (ours, theirs) = (restart_capability(&local.open.capabilities), restart_capability(&remote.capabilities));
    let has = |capability: &Capability| {
        local.open.capabilities.contains(capability) && remote.capabilities.contains(capability)
    };
    Ok(Negotiated {
        remote_as: remote.asn,
        remote_router_id: remote.router_id,
        relation,
        asn_size: asn_size(local, &remote),
        hold_time,
        keepalive_time: keepalive_time(config.keepalive_time, hold_time),
        families: common_families(local, &remote)?,
        extended_next_hop: has_extended_next_hop(&local.open.capabilities)
            && has_extended_next_hop(&remote.capabilities),
        message_limit: message_limit(&remote.capabilities),
        refresh: if has(&Capability::EnhancedRouteRefresh) {
            RefreshKnowledge::Enhanced
        } else {
            RefreshKnowledge::Plain
        },
        end_of_rib: ours.is_some() && theirs.is_some(),
        routes_kept: routes_kept(ours, theirs),
        peer_restarts: theirs.is_some_and(|(_, families)| !families.is_empty()),
        capabilities_received: remote.capabilities,
    })
}

/// Which AS the configuration wants the peer to be in.
fn expectation(config: &PeerConfig) -> String {
    match config.remote_as {
        RemoteAs::Exactly(asn) => format!("AS {asn} is configured"),
        RemoteAs::Internal => format!("our own AS {} is configured", config.local_as),
        RemoteAs::External => format!("another than our own AS {} is configured", config.local_as),
    }
}

/// The smaller one of both offers (RFC 4271 section 4.2). What we offered is in our OPEN; the configuration may have
/// changed since.
fn hold_time(local: &LocalOpen, theirs: HoldTime) -> HoldTime {
    HoldTime::from_secs(u64::from(local.open.hold_time_secs)).map_or(theirs, |ours| ours.min(theirs))
}

/// A third of the hold time, or less if that is configured; at least a second (RFC 4271 section 4.4).
pub(crate) fn keepalive_time(configured: Option<Duration>, hold_time: HoldTime) -> Option<Duration> {
    let third = hold_time.expiry()?.divided_by(3);
    let time = configured.filter(|time| !time.is_zero()).map_or(third, |time| time.min(third));
    Some(time.max(KEEPALIVE_MIN))
}

/// The families that both sides announced. A peer without the capability means IPv4 (RFC 4760 section 8). Without
/// any in common no route could ever go over the session, so there is none (RFC 5492 section 3).
fn common_families(local: &LocalOpen, remote: &ValidOpen) -> Result<BTreeSet<Family>, Refusal> {
    let announced: Vec<AfiSafi> = remote.capabilities.iter().filter_map(multiprotocol).collect();
    let supports = |family: &Family| match announced.as_slice() {
        [] => *family == Family::V4,
        announced => announced.contains(&AfiSafi::unicast(*family)),
    };
    let families: BTreeSet<Family> = local.families.iter().copied().filter(supports).collect();
    if !families.is_empty() {
        return Ok(families);
    }
    let list = |routes: &[AfiSafi]| routes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let ours: Vec<AfiSafi> = local.families.iter().copied().map(AfiSafi::unicast).collect();
    let theirs = if announced.is_empty() { vec![AfiSafi::IPV4_UNICAST] } else { announced };
    let detail = format!("no address family in common: we have {}, the peer has {}", list(&ours), list(&theirs));
    // The data is the capabilities that we miss.
    let mut data = Vec::new();
    for routes in ours {
        Capability::Multiprotocol(routes).encode(&mut data);
    }
    Err(Refusal { notification: Notification::with_data(ErrorCode::UNSUPPORTED_CAPABILITY, &data), detail })
}

fn multiprotocol(capability: &Capability) -> Option<AfiSafi> {
    match capability {
        Capability::Multiprotocol(routes) => Some(*routes),
        _ => None,
    }
}

fn has_extended_next_hop(capabilities: &[Capability]) -> bool {
    capabilities.iter().any(|capability| match capability {
        Capability::ExtendedNextHop(pairs) => pairs.contains(&ExtendedNextHop::IPV4_OVER_IPV6),
        _ => false,
    })
}

/// RFC 4724 section 3: all but the last instance are ignored.
fn restart_capability(capabilities: &[Capability]) -> Option<(u8, &[RestartFamily])> {
    capabilities.iter().rev().find_map(|capability| match capability {
        Capability::GracefulRestart { flags, families, .. } => Some((*flags, families.as_slice())),
        _ => None,
    })
}

fn routes_kept(ours: Option<(u8, &[RestartFamily])>, theirs: Option<(u8, &[RestartFamily])>) -> RoutesKept {
    match (ours, theirs) {
        (Some((flags, [_, ..])), Some((peer_flags, _))) if flags & peer_flags & FLAG_NOTIFICATIONS != 0 => {
            RoutesKept::WithoutHardReset
        }
        (Some((_, [_, ..])), Some(_)) => RoutesKept::WithoutNotification,
        _ => RoutesKept::Never,
    }
}

/// Numbers of four bytes are for two sides that both say so (RFC 6793 section 4.1).
fn asn_size(local: &LocalOpen, remote: &ValidOpen) -> AsnSize {
    if local.open.capabilities.is_empty() { AsnSize::Two } else { remote.asn_size }
}

fn message_limit(capabilities: &[Capability]) -> MessageLimit {
    if capabilities.contains(&Capability::ExtendedMessage) { MessageLimit::Extended } else { MessageLimit::Standard }
}

/// Which side opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    /// We did.
    Dialed,
    /// The peer did.
    Accepted,
}

/// Which of two connections stays: the one opened by the side with the higher identifier, or the higher AS if they
/// have the same.
pub(crate) fn collision_winner(local: (RouterId, Asn), remote: (RouterId, Asn)) -> Direction {
    if local > remote { Direction::Dialed } else { Direction::Accepted }
}

#[cfg(test)]
mod tests;
