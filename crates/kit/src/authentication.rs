//! How the segments of a TCP connection are told from forged ones: by a password (TCP MD5, RFC 2385) or by keys (TCP-AO,
//! RFC 5925, with the algorithms of RFC 5926).
//!
//! What a kernel does with it is not known here.

use std::collections::BTreeSet;
use std::fmt;

use crate::Secret;

/// What both ends of a connection know and nobody else does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpAuthentication {
    /// The password of TCP MD5.
    Password(Secret),
    /// The keys of TCP-AO.
    Keys(MasterKeys),
}

/// The keys of TCP-AO for one peer: at least one, and each with identifiers of its own (RFC 5925 section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeys(Vec<MasterKeyTuple>);

impl MasterKeys {
    /// These keys; connections begin with the first. `None` if there are none, or if identifiers are used twice.
    pub fn new(keys: Vec<MasterKeyTuple>) -> Option<Self> {
        let of = |id: fn(&MasterKeyTuple) -> u8| keys.iter().map(id).collect::<BTreeSet<u8>>().len();
        let are_distinct = of(|key| key.send_id) == keys.len() && of(|key| key.receive_id) == keys.len();
        (!keys.is_empty() && are_distinct).then_some(MasterKeys(keys))
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> std::slice::Iter<'_, MasterKeyTuple> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a MasterKeys {
    type Item = &'a MasterKeyTuple;
    type IntoIter = std::slice::Iter<'a, MasterKeyTuple>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One key with what belongs to it: a "master key tuple" (RFC 5925 section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeyTuple {
    /// What our segments say that they are signed with: the receive identifier of the peer.
    pub send_id: u8,
    /// What the peer's segments say: its send identifier.
    pub receive_id: u8,
    /// How segments are signed.
    pub algorithm: MacAlgorithm,
    /// The key from which those of each connection are derived.
    pub key: Secret,
}

/// The algorithms that every TCP-AO has (RFC 5926 section 2.2): how keys are derived and segments signed, with 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MacAlgorithm {
    /// HMAC-SHA-1-96.
    HmacSha1,
    /// AES-128-CMAC-96.
    Aes128Cmac,
}

impl MacAlgorithm {
    /// Both of them.
    pub const ALL: [MacAlgorithm; 2] = [MacAlgorithm::HmacSha1, MacAlgorithm::Aes128Cmac];
}

impl fmt::Display for MacAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MacAlgorithm::HmacSha1 => "hmac-sha-1-96",
            MacAlgorithm::Aes128Cmac => "aes-128-cmac-96",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(send_id: u8, receive_id: u8) -> MasterKeyTuple {
        MasterKeyTuple { send_id, receive_id, algorithm: MacAlgorithm::HmacSha1, key: Secret::new("hunter2") }
    }

    #[test]
    fn rfc5925_3_1_identifiers_are_used_once() {
        for (keys, expected) in [
            (vec![], false),
            (vec![key(0, 255)], true),
            (vec![key(1, 2), key(2, 1)], true),
            (vec![key(1, 2), key(1, 3)], false),
            (vec![key(1, 2), key(3, 2)], false),
        ] {
            assert_eq!(MasterKeys::new(keys.clone()).is_some(), expected, "{keys:?}");
        }
    }

    #[test]
    fn keys_do_not_print() {
        let all = [
            TcpAuthentication::Password(Secret::new("hunter2")),
            TcpAuthentication::Keys(MasterKeys::new(vec![key(1, 2)]).unwrap()),
        ];
        let text = format!("{all:?}");
        assert!(!text.contains("hunter2") && text.matches("***").count() == 2, "{text}");
    }
}
