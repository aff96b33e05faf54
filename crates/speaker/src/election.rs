//! Which node answers for an address on the local segment (contract 5.1).
//!
//! The order is stateless: every node that knows the same candidates finds the same first one. The Go implementation's
//! speakers compute the same order, bit for bit, so that both kinds can work side by side while a cluster changes over.

use std::cmp::Reverse;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

/// The place of a candidate; the smallest wins: first the higher preference, then the node that the controller has assigned
/// the address to, if that counts (ADR 16), then the lower digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    score: Reverse<u64>,
    choice: Choice,
    digest: [u8; 32],
}

/// Why a node comes before others that are preferred as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Choice {
    /// The controller chose it.
    Assigned,
    /// Its digest alone counts.
    ByDigest,
}

impl Rank {
    /// The rank of a node for an address, given the sum of the preference weights that apply to the node.
    pub fn new(score: u64, node: &str, address: &IpAddr) -> Self {
        Rank { score: Reverse(score), choice: Choice::ByDigest, digest: digest(node, address) }
    }

    /// The same for the node that the address is assigned to.
    #[must_use]
    pub fn assigned(self) -> Self {
        Rank { choice: Choice::Assigned, ..self }
    }
}

/// SHA-256 of `<node>#<address>`, the address in its canonical text.
pub fn digest(node: &str, address: &IpAddr) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(node.as_bytes());
    hasher.update(b"#");
    hasher.update(address.to_string().as_bytes());
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(address: &str) -> Vec<&'static str> {
        let address: IpAddr = address.parse().unwrap();
        let mut nodes = ["node-a", "node-b", "node-c", "worker1", "kind-worker", "kind-worker2", "kind-control-plane"];
        nodes.sort_by_key(|node| Rank::new(0, node, &address));
        nodes.to_vec()
    }

    #[test]
    fn vectors_of_contract_5_1() {
        assert_eq!(
            order("192.168.1.240"),
            ["kind-control-plane", "node-a", "kind-worker2", "kind-worker", "worker1", "node-c", "node-b"]
        );
        assert_eq!(
            order("10.0.0.1"),
            ["kind-worker2", "kind-worker", "node-b", "worker1", "kind-control-plane", "node-a", "node-c"]
        );
        assert_eq!(
            order("fc00:f853:ccd:e799::1"),
            ["worker1", "node-b", "kind-worker2", "kind-control-plane", "node-a", "kind-worker", "node-c"]
        );
    }

    #[test]
    fn digest_of_contract_5_1() {
        let hex: String =
            digest("node-a", &"192.168.1.240".parse().unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0905ce28e61d7edba0d1a1e81637d349ef0299ecc2fb9fc9c8347049ba3a9c82");
    }

    #[test]
    fn adr_16_an_assignment_comes_before_the_digest_and_after_the_preference() {
        let address = "10.0.0.1".parse().unwrap();
        let rank = |score, node| Rank::new(score, node, &address);
        assert!(rank(0, "node-c").assigned() < rank(0, "kind-worker2"));
        assert!(rank(1, "kind-worker2") < rank(0, "node-c").assigned());
    }

    #[test]
    fn preference_comes_before_the_digest() {
        let address = "10.0.0.1".parse().unwrap();
        assert!(Rank::new(1, "node-c", &address) < Rank::new(0, "kind-worker2", &address));
    }
}
