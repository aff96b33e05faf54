//! The rules of BGPPeers (contract 4.2 rules 9 to 19, 4.3, D20, D21).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16};

use api::{BGPPeer, BGPPeerSpec, Key, Kind, ObjectRef};
use ipnet::IpNet;
use kit::{Asn, Family, RemoteAs, RouterId, SelectorList};

use crate::finding::{Finding, Report};
use crate::password::authentication;
use crate::selectors::selector_list;
use crate::timers::{connect_time, graceful_restart_time, hold_and_keepalive};
use crate::validate::Context;
use crate::{BfdProfile, ConnectionMode, GracefulRestart, Peer, PeerBfd, PeerEndpoint};

/// The port of BGP.
const BGP_PORT: u16 = 179;
/// Ports that the schema allows; 0 is how the deprecated version says 179.
const PORTS: std::ops::RangeInclusive<i64> = 0..=16_384;
/// Routers of one range at the same time: as many as are said, or this many, and never more than that.
const RANGE_LIMIT_DEFAULT: i64 = 16;
const RANGE_LIMIT_MAX: i64 = 1000;
/// How far a peer can be with TTL security: the check leaves at least one hop of 255.
const SECURITY_HOPS_MAX: i64 = 254;

/// Reads one peer; `None` when something in it cannot be used.
pub(crate) fn peer(
    written: &BGPPeer,
    profiles: &BTreeMap<String, BfdProfile>,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<Peer> {
    let spec = &written.spec;
    let my_asn = my_asn(spec, report);
    let remote_as = remote_as(spec, report);
    let local_asn = local_asn(spec, report);
    if let (Some(my_asn), Some(remote_as)) = (my_asn, remote_as) {
        check_kind_of_session(spec, my_asn, remote_as, local_asn, report);
    }
    let endpoint = endpoint(spec, report);
    let connection_mode = connection_mode(spec, endpoint.as_ref(), report);
    let source_address = source_address(spec, endpoint.as_ref(), report);
    let graceful_restart = graceful_restart(spec, report);
    if spec.peer_range_limit.is_some() && spec.peer_range.is_none() {
        report
            .warning("peer-range-limit", "/spec/peerRangeLimit", "peerRangeLimit has no effect without peerRange")
            .hint("remove it");
    }
    let ttl_security_hops = ttl_security_hops(spec, report);
    let (hold_time, keepalive_time) = hold_and_keepalive(spec, report);
    let connect_time = connect_time(spec, report);
    let router_id = router_id(spec, report);
    let port = port(spec, report);
    let node_selectors = selector_list(&spec.node_selectors, "/spec/nodeSelectors", report);
    let authentication = authentication(written, context, report);
    if spec.disable_mp == Some(true) {
        report.warning("disable-mp", "/spec/disableMP", "disableMP is deprecated and has no effect").hint("remove it");
    }
    Some(Peer {
        name: written.metadata.name.clone(),
        my_asn: my_asn?,
        local_asn,
        remote_as: remote_as?,
        endpoint: endpoint?,
        port: port?,
        connection_mode: connection_mode?,
        source_address,
        hold_time,
        keepalive_time,
        connect_time,
        router_id,
        node_selectors,
        authentication,
        bfd: bfd(written, profiles, context, report),
        graceful_restart,
        ebgp_multi_hop: spec.ebgp_multi_hop.unwrap_or(false),
        ttl_security_hops,
        vrf: text(spec.vrf.as_deref()).map(str::to_owned),
        dual_stack_address_family: spec.dual_stack_address_family.unwrap_or(false),
    })
}

/// Empty text is how some clients write a field that is not there.
fn text(field: Option<&str>) -> Option<&str> {
    field.filter(|text| !text.is_empty())
}

fn asn(number: i64, field: &str, report: &mut Report) -> Option<Asn> {
    let asn = u32::try_from(number).ok().and_then(Asn::new);
    if asn.is_none() {
        report.error("asn", format!("/spec/{field}"), format!("invalid {field} {number}: it must be 1 to 4294967295"));
    }
    asn
}

fn my_asn(spec: &BGPPeerSpec, report: &mut Report) -> Option<Asn> {
    if spec.my_asn == 0 {
        report.error("my-asn", "/spec/myASN", "missing local ASN").hint("set myASN to the AS number of the nodes");
        return None;
    }
    asn(spec.my_asn, "myASN", report)
}

fn remote_as(spec: &BGPPeerSpec, report: &mut Report) -> Option<RemoteAs> {
    match (spec.peer_asn.filter(|asn| *asn != 0), text(spec.dynamic_asn.as_deref())) {
        (Some(number), None) => asn(number, "peerASN", report).map(RemoteAs::Exactly),
        (None, Some("internal")) => Some(RemoteAs::Internal),
        (None, Some("external")) => Some(RemoteAs::External),
        (None, Some(other)) => {
            report
                .error("dynamic-asn", "/spec/dynamicASN", format!("invalid dynamicASN {other:?}"))
                .hint("use internal or external");
            None
        }
        (None, None) => {
            report
                .error("peer-asn", "/spec/peerASN", "missing peer ASN and dynamicASN")
                .hint("set peerASN to the AS number of the router, or dynamicASN to internal or external");
            None
        }
        (Some(_), Some(_)) => {
            report
                .error("peer-asn", "/spec/dynamicASN", "both peer ASN and dynamicASN specified")
                .hint("remove one of them");
            None
        }
    }
}

fn local_asn(spec: &BGPPeerSpec, report: &mut Report) -> Option<Asn> {
    asn(spec.local_asn?, "localASN", report)
}

/// What only external sessions may have.
fn check_kind_of_session(
    spec: &BGPPeerSpec,
    my_asn: Asn,
    remote_as: RemoteAs,
    local_asn: Option<Asn>,
    report: &mut Report,
) {
    let is_internal = match remote_as {
        RemoteAs::Exactly(asn) => asn == my_asn,
        RemoteAs::Internal => true,
        RemoteAs::External => false,
    };
    match (is_internal, spec.ebgp_multi_hop, remote_as) {
        (true, Some(true), RemoteAs::Exactly(_)) => {
            report
                .error("ibgp-multi-hop", "/spec/ebgpMultiHop", "invalid ebgp-multihop parameter set for an ibgp peer")
                .hint("remove ebgpMultiHop: internal sessions cross any number of hops");
        }
        (true, Some(true), _) => {
            report
                .warning("ibgp-multi-hop", "/spec/ebgpMultiHop", "ebgpMultiHop has no effect on internal sessions")
                .hint("remove it");
        }
        _ => {}
    }
    let Some(local_asn) = local_asn else { return };
    if is_internal {
        report
            .error(
                "local-asn",
                "/spec/localASN",
                "invalid localASN set for an ibgp peer: it is for external sessions only",
            )
            .hint("remove localASN, or set myASN to the number to be shown");
    } else if RemoteAs::Exactly(local_asn) == remote_as {
        report
            .error(
                "local-asn",
                "/spec/localASN",
                "invalid localASN: it is the peerASN, so the router would take the session for an internal one",
            )
            .hint("use an AS number that is not the router's");
    } else if local_asn == my_asn {
        report
            .warning("local-asn", "/spec/localASN", "localASN is the same as myASN and has no effect")
            .hint("remove it");
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Where the router is: said in one of four ways.
fn endpoint(spec: &BGPPeerSpec, report: &mut Report) -> Option<PeerEndpoint> {
    let said = [
        ("peerAddress", text(spec.peer_address.as_deref())),
        ("interface", text(spec.interface.as_deref())),
        ("peerGateway", text(spec.peer_gateway.as_deref())),
        ("peerRange", text(spec.peer_range.as_deref())),
    ];
    let said: Vec<(&str, &str)> = said.into_iter().filter_map(|(field, text)| Some((field, text?))).collect();
    match said.as_slice() {
        [("peerAddress", written)] => {
            let address = address(written);
            if address.is_none() {
                report
                    .error("peer-address", "/spec/peerAddress", format!("invalid BGPPeer address {written:?}"))
                    .hint("write an IP address, without a prefix length or port");
            }
            address.map(PeerEndpoint::Address)
        }
        [("interface", interface)] => Some(PeerEndpoint::Interface((*interface).to_owned())),
        [("peerGateway", family)] => gateway(family, report),
        [(_, network)] => range(network, spec, report),
        [] => {
            report.error("peer-endpoint", "/spec/peerAddress", "peer has no Address or Interface specified").hint(
                "set peerAddress to the IP address of the router, or interface to the interface that leads to it",
            );
            None
        }
        [("peerAddress", _), ("interface", _)] => {
            report
                .error("peer-endpoint", "/spec/interface", "peer has both Address and Interface specified")
                .hint("remove one of them");
            None
        }
        [(one, _), (other, _), ..] => {
            report
                .error("peer-endpoint", format!("/spec/{other}"), format!("peer has both {one} and {other} specified"))
                .hint("remove one of them");
            None
        }
    }
}

fn gateway(family: &str, report: &mut Report) -> Option<PeerEndpoint> {
    match family {
        "IPv4" => Some(PeerEndpoint::Gateway(Family::V4)),
        "IPv6" => Some(PeerEndpoint::Gateway(Family::V6)),
        other => {
            report
                .error("peer-gateway", "/spec/peerGateway", format!("invalid peerGateway {other:?}"))
                .hint("use IPv4 or IPv6");
            None
        }
    }
}

fn range(written: &str, spec: &BGPPeerSpec, report: &mut Report) -> Option<PeerEndpoint> {
    let network = written.parse::<IpNet>().ok().map(|network| network.trunc());
    if network.is_none() {
        report
            .error("peer-range", "/spec/peerRange", format!("invalid peerRange {written:?}"))
            .hint("write a network such as 192.0.2.0/24");
    }
    let number = spec.peer_range_limit.unwrap_or(RANGE_LIMIT_DEFAULT);
    let limit = u16::try_from(number).ok().filter(|_| number <= RANGE_LIMIT_MAX).and_then(NonZeroU16::new);
    if limit.is_none() {
        let message = format!("invalid peerRangeLimit {number}: it must be 1 to {RANGE_LIMIT_MAX}");
        report.error("peer-range-limit", "/spec/peerRangeLimit", message);
    }
    Some(PeerEndpoint::Range { network: network?, limit: limit? })
}

/// Routers of a range are known when they call, so nobody can call them.
fn connection_mode(spec: &BGPPeerSpec, endpoint: Option<&PeerEndpoint>, report: &mut Report) -> Option<ConnectionMode> {
    const PLACE: &str = "/spec/connectionMode";
    let is_range = matches!(endpoint, Some(PeerEndpoint::Range { .. }));
    match text(spec.connection_mode.as_deref()) {
        None if is_range => Some(ConnectionMode::Passive),
        None => Some(ConnectionMode::Active),
        Some("passive") => Some(ConnectionMode::Passive),
        Some(mode @ ("active" | "both")) if is_range => {
            report
                .error("connection-mode", PLACE, format!("connectionMode {mode} does not go with peerRange"))
                .hint("remove connectionMode: routers of a range are known only when they connect");
            None
        }
        Some("active") => Some(ConnectionMode::Active),
        Some("both") => Some(ConnectionMode::Both),
        Some(other) => {
            report
                .error("connection-mode", PLACE, format!("invalid connectionMode {other:?}"))
                .hint("use active, passive or both");
            None
        }
    }
}

fn graceful_restart(spec: &BGPPeerSpec, report: &mut Report) -> Option<GracefulRestart> {
    let time = graceful_restart_time(spec, report);
    let notification = spec.graceful_restart_notification.unwrap_or(false);
    if spec.enable_graceful_restart.unwrap_or(false) {
        return Some(GracefulRestart { time: time?, notification });
    }
    for (field, is_given) in
        [("gracefulRestartTime", spec.graceful_restart_time.is_some()), ("gracefulRestartNotification", notification)]
    {
        if is_given {
            report
                .warning(
                    "graceful-restart-off",
                    format!("/spec/{field}"),
                    format!("{field} has no effect without enableGracefulRestart"),
                )
                .hint("set enableGracefulRestart: true, or remove it");
        }
    }
    None
}

fn ttl_security_hops(spec: &BGPPeerSpec, report: &mut Report) -> Option<NonZeroU8> {
    let number = spec.ttl_security_hops?;
    let hops = u8::try_from(number).ok().filter(|_| number <= SECURITY_HOPS_MAX).and_then(NonZeroU8::new);
    if hops.is_none() {
        let message = format!("invalid ttlSecurityHops {number}: it must be 1 to {SECURITY_HOPS_MAX}");
        report.error("ttl-security-hops", "/spec/ttlSecurityHops", message).hint("use 1 for a router on the same link");
    }
    hops
}

fn source_address(spec: &BGPPeerSpec, endpoint: Option<&PeerEndpoint>, report: &mut Report) -> Option<IpAddr> {
    const PLACE: &str = "/spec/sourceAddress";
    let written = text(spec.source_address.as_deref())?;
    let Some(source) = address(written) else {
        report
            .error("source-address", PLACE, format!("invalid source IP {written:?}"))
            .hint("write an IP address of the node");
        return None;
    };
    let (field, peer) = match endpoint {
        Some(PeerEndpoint::Address(peer)) => ("peerAddress", Family::of(peer)),
        Some(PeerEndpoint::Gateway(family)) => ("peerGateway", *family),
        Some(PeerEndpoint::Range { network, .. }) => ("peerRange", Family::of(&network.addr())),
        Some(PeerEndpoint::Interface(_)) => ("interface", Family::V6),
        None => return Some(source),
    };
    if peer != Family::of(&source) {
        let message =
            format!("the session can never connect: sourceAddress is {}, {field} {peer}", Family::of(&source));
        report.warning("source-address-family", PLACE, message).hint("use two addresses of one family");
    }
    Some(source)
}

/// D21: IPv4 only, since a BGP identifier has four bytes (RFC 6286 section 2.1).
fn router_id(spec: &BGPPeerSpec, report: &mut Report) -> Option<RouterId> {
    text(spec.router_id.as_deref())?
        .parse()
        .inspect_err(|error: &kit::RouterIdError| {
            report
                .error("router-id", "/spec/routerID", error.to_string())
                .hint("use an IPv4 address of the node, or leave it out");
        })
        .ok()
}

fn port(spec: &BGPPeerSpec, report: &mut Report) -> Option<u16> {
    let port = spec.peer_port.unwrap_or(0);
    if !PORTS.contains(&port) {
        report.error("peer-port", "/spec/peerPort", format!("invalid peerPort {port}: it must be 1 to 16384"));
        return None;
    }
    u16::try_from(port).ok().map(|port| if port == 0 { BGP_PORT } else { port })
}

/// Rule 18, and what a profile asks for that a session cannot give.
fn bfd(
    written: &BGPPeer,
    profiles: &BTreeMap<String, BfdProfile>,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<PeerBfd> {
    const PLACE: &str = "/spec/bfdProfile";
    let name = text(written.spec.bfd_profile.as_deref())?;
    let profile = profiles.get(name);
    match profile {
        None => {
            let peer = &written.metadata.name;
            let message = format!("peer {peer:?} referencing non existing bfd profile {name:?}");
            let known: Vec<&str> = context.objects.bfd_profiles.keys().map(|key| key.name.as_str()).collect();
            let hint = match api::closest(name, known.iter().copied()) {
                Some(close) => format!("did you mean {close:?}?"),
                None => "create the BFDProfile, or remove bfdProfile".to_owned(),
            };
            report.error("bfd-profile-missing", PLACE, message).hint(hint).transient();
        }
        Some(profile) if profile.echo_mode && written.spec.ebgp_multi_hop == Some(true) => {
            report
                .warning(
                    "bfd-echo-multi-hop",
                    PLACE,
                    format!("echoMode of BFDProfile {name:?} has no effect on a router more than one hop away"),
                )
                .hint("use a profile without echoMode");
        }
        Some(_) => {}
    }
    Some(PeerBfd { name: name.to_owned(), profile: profile?.clone() })
}

/// D20: two peers with one endpoint in one VRF that can run on one node would be two sessions that fight.
pub(crate) fn clashes(peers: &BTreeMap<Key, Peer>, context: &Context<'_>) -> Vec<Finding> {
    let mut by_place: BTreeMap<(&PeerEndpoint, Option<&str>), Vec<&Peer>> = BTreeMap::new();
    let mut findings = Vec::new();
    for (key, peer) in peers {
        let others = by_place.entry((&peer.endpoint, peer.vrf.as_deref())).or_default();
        if let Some(other) =
            others.iter().find(|other| share_a_node(&peer.node_selectors, &other.node_selectors, context))
        {
            let mut report = Report::new(ObjectRef { kind: Kind::BGPPeer, key: key.clone() });
            let (what, pointer) = match &peer.endpoint {
                PeerEndpoint::Address(_) => ("address", "/spec/peerAddress"),
                PeerEndpoint::Interface(_) => ("interface", "/spec/interface"),
                PeerEndpoint::Gateway(_) => ("gateway", "/spec/peerGateway"),
                PeerEndpoint::Range { .. } => ("range", "/spec/peerRange"),
            };
            let vrf = peer.vrf.as_deref().map(|vrf| format!(" in vrf {vrf:?}")).unwrap_or_default();
            let message = format!(
                "a peer with {what} {}{vrf} already exists: BGPPeer {:?} can run on the same node",
                peer.endpoint, other.name
            );
            report
                .error("peer-clash", pointer, message)
                .hint("remove one of them, or give them nodeSelectors without a common node");
            findings.extend(report.into_findings());
        }
        others.push(peer);
    }
    findings
}

/// True when a node that is known is selected by both; where none is known, all selectors may meet.
pub(crate) fn share_a_node(a: &SelectorList, b: &SelectorList, context: &Context<'_>) -> bool {
    if context.knows_no_nodes() {
        return true;
    }
    context.nodes().any(|labels| a.matches(labels) && b.matches(labels))
}
