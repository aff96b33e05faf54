//! The keys of TCP-AO of a BGPPeer, each from its Secret: `tcpAuthenticationKeys`, a field of ours.
//!
//! As with passwords, messages name fields and Secrets, never what is in them.

use std::collections::BTreeMap;

use api::{BGPPeer, Key, Kind, ObjectRef, TCPAuthenticationKey};
use ipnet::IpNet;
use kit::{MacAlgorithm, MasterKeyTuple, MasterKeys, TcpAuthentication};

use crate::finding::{Finding, Report};
use crate::password::{Use, secret_text};
use crate::peers::share_a_node;
use crate::validate::Context;
use crate::{Peer, PeerEndpoint};

/// Keys of one peer: changing from one to the next takes two.
const KEYS_MAX: usize = 8;

const KEYS: &str = "/spec/tcpAuthenticationKeys";

/// Reads the keys of a peer, if it is to have some.
pub(crate) fn master_keys(peer: &BGPPeer, context: &Context<'_>, report: &mut Report) -> Option<MasterKeys> {
    let written = &peer.spec.tcp_authentication_keys;
    if written.len() > KEYS_MAX {
        let message = format!("{} keys of TCP-AO: there can be at most {KEYS_MAX}", written.len());
        report.error("tcp-keys", KEYS, message).hint("remove those that neither end uses any more");
        return None;
    }
    let mut keys = Vec::new();
    for (position, key) in written.iter().enumerate() {
        let place = format!("{KEYS}/{position}");
        let send_id = id(key.send_id, &place, "sendID", report);
        let receive_id = id(key.receive_id, &place, "receiveID", report);
        for (field, is_taken) in [
            ("sendID", send_id.is_some_and(|id| is_used(written, position, |key| key.send_id, id))),
            ("receiveID", receive_id.is_some_and(|id| is_used(written, position, |key| key.receive_id, id))),
        ] {
            if is_taken {
                // RFC 5925 section 3.1.
                report
                    .error("tcp-key-id", format!("{place}/{field}"), format!("another key has the same {field}"))
                    .hint("give each key of a peer identifiers of its own, the same at both ends");
            }
        }
        let algorithm = algorithm(&key.algorithm, &place, report);
        let secret = secret(peer, key, &place, context, report);
        keys.push((|| {
            Some(MasterKeyTuple { send_id: send_id?, receive_id: receive_id?, algorithm: algorithm?, key: secret? })
        })());
    }
    MasterKeys::new(keys.into_iter().collect::<Option<_>>()?)
}

/// True when a key before this one has the identifier.
fn is_used(
    keys: &[TCPAuthenticationKey],
    position: usize,
    of: impl Fn(&TCPAuthenticationKey) -> Option<i64>,
    id: u8,
) -> bool {
    keys.iter().take(position).any(|key| of(key) == Some(i64::from(id)))
}

fn id(written: Option<i64>, place: &str, field: &str, report: &mut Report) -> Option<u8> {
    let Some(number) = written else {
        report
            .error("tcp-key-id", place, format!("a key without {field}"))
            .hint("set both identifiers: sendID is what the router receives, receiveID what it sends");
        return None;
    };
    let id = u8::try_from(number).ok();
    if id.is_none() {
        let message = format!("invalid {field} {number}: it must be 0 to 255");
        report.error("tcp-key-id", format!("{place}/{field}"), message);
    }
    id
}

fn algorithm(written: &str, place: &str, report: &mut Report) -> Option<MacAlgorithm> {
    let found = MacAlgorithm::ALL.into_iter().find(|algorithm| algorithm.to_string() == written);
    if found.is_none() {
        report
            .error("tcp-key-algorithm", format!("{place}/algorithm"), format!("invalid algorithm {written:?}"))
            .hint("use hmac-sha-1-96 or aes-128-cmac-96, the same at both ends");
    }
    found
}

fn secret(
    peer: &BGPPeer,
    key: &TCPAuthenticationKey,
    place: &str,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<kit::Secret> {
    if key.secret_name.is_empty() {
        report
            .error("tcp-key-secret", place, "a key without secretName")
            .hint("put the key into a Secret of type kubernetes.io/basic-auth, and its name here");
        return None;
    }
    let place = format!("{place}/secretName");
    let text = secret_text(peer, &key.secret_name, Use::Key, &place, context, report)?;
    if text.is_empty() {
        // Unlike an empty password it does not stand for none: that would be a session without what was asked for.
        report
            .error("tcp-key-secret", place, format!("the key in Secret {:?} is empty", key.secret_name))
            .hint("put the key into the Secret, under \"password\"");
        return None;
    }
    Some(text)
}

/// Peers that call from inside of another one's range, and whose packets a listening socket cannot tell from those of the range:
/// Linux keeps keys by address and identifiers. A peer that is called has a socket of its own.
pub(crate) fn overlaps(peers: &BTreeMap<Key, Peer>, context: &Context<'_>) -> Vec<Finding> {
    // Of one whose Secret is missing it is not known what it has; that is told as such.
    let is_known = |key: &Key, peer: &Peer| {
        peer.authentication.is_some()
            || !context.objects.peers.get(key).is_some_and(|peer| peer.spec.is_authenticated())
    };
    let calling = || {
        let calling = peers.iter().filter(|(key, peer)| peer.connection_mode.listens() && is_known(key, peer));
        calling.filter_map(|(key, peer)| Some((key, peer, network_of(peer)?)))
    };
    let ranges = || calling().filter(|(_, peer, _)| matches!(peer.endpoint, PeerEndpoint::Range { .. }));
    let mut findings = Vec::new();
    for (key, peer, network) in calling() {
        let around = ranges().filter(|(other, range, around)| {
            // Two that are the same clash anyhow.
            *other != key && range.endpoint != peer.endpoint && range.vrf == peer.vrf && around.contains(&network)
        });
        for (_, range, _) in around {
            let Some(reason) = clash(range.authentication.as_ref(), peer.authentication.as_ref()) else { continue };
            if !share_a_node(&range.node_selectors, &peer.node_selectors, context) {
                continue;
            }
            let pointer = match peer.endpoint {
                PeerEndpoint::Range { .. } => "/spec/peerRange",
                _ => "/spec/peerAddress",
            };
            let message = format!(
                "{} is in {}, the peerRange of BGPPeer {:?}, {reason}",
                peer.endpoint, range.endpoint, range.name
            );
            let mut report = Report::new(ObjectRef { kind: Kind::BGPPeer, key: key.clone() });
            report.error("tcp-keys-overlap", pointer, message).hint(
                "take it out of the range, or give both keys, with identifiers of their own; a peerAddress may have \
                     connectionMode: active instead",
            );
            findings.extend(report.into_findings());
        }
    }
    findings
}

/// Where a peer calls from, if that is said.
fn network_of(peer: &Peer) -> Option<IpNet> {
    match peer.endpoint {
        PeerEndpoint::Address(address) => Some(address.into()),
        PeerEndpoint::Range { network, .. } => Some(network),
        PeerEndpoint::Gateway(_) | PeerEndpoint::Interface(_) => None,
    }
}

/// Why a peer cannot have this authentication in a range that has that one. One with keys or a password in a range without is
/// told from the others by its address.
fn clash(range: Option<&TcpAuthentication>, inside: Option<&TcpAuthentication>) -> Option<&'static str> {
    use TcpAuthentication::{Keys, Password};
    match (range?, inside) {
        (Keys(_), None) => Some("which has keys of TCP-AO: what it sends without would be dropped"),
        (Keys(_), Some(Password(_))) => Some("which has keys of TCP-AO: the kernel takes no password for a part of it"),
        (Password(_), Some(Keys(_))) => {
            Some("which has a password: the kernel takes no keys of TCP-AO for a part of it")
        }
        // RFC 5925 section 3.1, and so it is even if the keys are the same.
        (Keys(of_range), Some(Keys(keys))) => {
            let are_shared = keys.iter().any(|key| {
                of_range.iter().any(|other| key.send_id == other.send_id || key.receive_id == other.receive_id)
            });
            are_shared.then_some("whose keys of TCP-AO have some of the same identifiers")
        }
        (Password(_), None | Some(Password(_))) => None,
    }
}
