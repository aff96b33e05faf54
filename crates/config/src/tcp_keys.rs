//! The keys of TCP-AO of a BGPPeer, each from its Secret: `tcpAuthenticationKeys`, a field of ours.
//!
//! As with passwords, messages name fields and Secrets, never what is in them.

use api::{BGPPeer, TCPAuthenticationKey};
use kit::{MacAlgorithm, MasterKeyTuple, MasterKeys};

use crate::finding::Report;
use crate::password::secret_text;
use crate::validate::Context;

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
    let text = secret_text(peer, &key.secret_name, &place, context, report)?;
    if text.is_empty() {
        // Unlike an empty password it does not stand for none: that would be a session without what was asked for.
        report
            .error("tcp-key-secret", place, format!("the key in Secret {:?} is empty", key.secret_name))
            .hint("put the key into the Secret, under \"password\"");
        return None;
    }
    Some(text)
}
