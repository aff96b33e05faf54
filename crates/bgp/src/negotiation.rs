//! What two OPENs make of a session (RFC 4271 sections 4.2 and 6.2; RFC 4760 section 8, 5492, 6286, 6793, 8950), and
//! which of two connections stays (RFC 4271 section 6.8, RFC 6286 section 2.3).
//!
//! Pure functions: no connection and no timer is touched here.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use kit::{Asn, Duration, Family, HoldTime, RemoteAs, RouterId};

use crate::wire::{
    AfiSafi, AsnSize, Capability, DecodeError, ErrorCode, ExtendedNextHop, Notification, Open, Relation, ValidOpen,
};
use crate::{Families, PeerConfig, Reception, RouterIdSource};

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

/// Our side of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalOpen {
    pub(crate) router_id: RouterId,
    pub(crate) families: BTreeSet<Family>,
    pub(crate) open: Open,
}

impl LocalOpen {
    /// What we say over a connection with this local end.
    pub(crate) fn new(config: &PeerConfig, local: SocketAddr) -> Self {
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
        let mut capabilities: Vec<Capability> =
            families.iter().map(|family| Capability::Multiprotocol(AfiSafi::unicast(*family))).collect();
        capabilities.push(Capability::RouteRefresh);
        if session_family == Family::V6 && families.contains(&Family::V4) {
            capabilities.push(Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_OVER_IPV6]));
        }
        if config.reception == Reception::Refuse {
            // No families: our forwarding does not survive a restart, but End-of-RIB is sent and understood
            // (RFC 4724 section 3). We hold no routes of the peer, so there are none to keep while it restarts.
            capabilities.push(Capability::GracefulRestart { flags: 0, restart_time_secs: 0, families: Vec::new() });
        }
        let open = Open::new(config.local_as, config.hold_time, router_id, capabilities);
        LocalOpen { router_id, families, open }
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
    /// The peer wants to know when it has all routes (RFC 4724 section 3).
    pub(crate) end_of_rib: bool,
    pub(crate) capabilities_received: Vec<Capability>,
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
    let hold_time = config.hold_time.min(remote.hold_time);
    Ok(Negotiated {
        remote_as: remote.asn,
        remote_router_id: remote.router_id,
        relation,
        asn_size: remote.asn_size,
        hold_time,
        keepalive_time: keepalive_time(config.keepalive_time, hold_time),
        families: common_families(local, &remote)?,
        extended_next_hop: has_extended_next_hop(&local.open.capabilities)
            && has_extended_next_hop(&remote.capabilities),
        end_of_rib: has_graceful_restart(&local.open.capabilities) && has_graceful_restart(&remote.capabilities),
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

/// A third of the hold time, or less if that is configured; at least a second (RFC 4271 section 4.4).
fn keepalive_time(configured: Option<Duration>, hold_time: HoldTime) -> Option<Duration> {
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

fn has_graceful_restart(capabilities: &[Capability]) -> bool {
    capabilities.iter().any(|capability| matches!(capability, Capability::GracefulRestart { .. }))
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
