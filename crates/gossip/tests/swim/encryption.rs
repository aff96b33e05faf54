//! Clusters with keys: who is believed, and how a key is changed without anybody being lost.

use std::net::SocketAddr;
use std::sync::Arc;

use gossip::{Config, Input, Keyring, Label, MemberState, NONCE_LEN, Name, Profile, Seal, TAG_LEN};
use kit::Duration;

use crate::network::{Network, Weather};

/// A cipher for tests: whoever has another key cannot read it.
#[derive(Debug)]
struct Toy(u8);

impl Toy {
    fn tag(&self, associated: &[u8], plain: &[u8]) -> [u8; TAG_LEN] {
        let sum = associated
            .iter()
            .chain(plain)
            .fold(u64::from(self.0), |sum, byte| sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(*byte)));
        let mut tag = [self.0; TAG_LEN];
        tag[..8].copy_from_slice(&sum.to_be_bytes());
        tag
    }
}

impl Seal for Toy {
    fn seal(&self, associated: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; NONCE_LEN]);
        out.extend(plain.iter().map(|byte| byte ^ self.0));
        out.extend_from_slice(&self.tag(associated, plain));
    }

    fn open(&self, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (masked, tag) = sealed.get(NONCE_LEN..)?.split_last_chunk::<TAG_LEN>()?;
        let plain: Vec<u8> = masked.iter().map(|byte| byte ^ self.0).collect();
        (*tag == self.tag(associated, &plain)).then_some(plain)
    }
}

fn keyring(keys: &[u8]) -> Keyring {
    let mut keys = keys.iter().map(|key| -> Arc<dyn Seal> { Arc::new(Toy(*key)) });
    Keyring::new(keys.next().unwrap(), keys).unwrap()
}

fn encrypted(name: Name, address: SocketAddr) -> Config {
    Config::new(name, address, keyring(&[1]))
}

/// The first two hosts have another key than the others.
fn divided(name: Name, address: SocketAddr) -> Config {
    let key = if ["node-0", "node-1"].contains(&name.as_str()) { 2 } else { 1 };
    Config::new(name, address, keyring(&[key]))
}

/// The first two hosts have no key.
fn half_plain(name: Name, address: SocketAddr) -> Config {
    let is_plain = ["node-0", "node-1"].contains(&name.as_str());
    Config::new(name, address, if is_plain { Keyring::plaintext() } else { keyring(&[1]) })
}

fn labelled(name: Name, address: SocketAddr) -> Config {
    Config { label: Label::new(b"blue").unwrap(), ..encrypted(name, address) }
}

#[test]
fn a_cluster_with_a_key_or_a_label_works_like_one_without() {
    for configure in [encrypted, labelled] {
        let mut network = Network::configured(5, Weather::FAIR, 1, configure);
        network.join_all();
        network.run(Duration::from_secs(2));
        network.assert_all_alive();
        network.watch_all();
        network.run(Duration::from_secs(2));
        let cut = network.now;
        network.power_off(0);
        network.run(Duration::from_secs(1));
        assert!(network.told_at(1, 0, MemberState::Dead, cut).is_some());
        assert_eq!(network.hosts[1].membership.counters().packets_dropped, 0);
        assert_eq!(network.hosts[1].membership.counters().streams_dropped, 0);
    }
}

#[test]
fn whoever_has_another_key_or_none_is_no_member() {
    for configure in [divided, half_plain] {
        let mut network = Network::configured(4, Weather::FAIR, 1, configure);
        network.join_all();
        network.run(Duration::from_secs(60));
        for host in &network.hosts {
            assert_eq!(host.membership.names().count(), 2, "{}", host.name);
        }
        assert!(network.hosts[2].membership.counters().streams_dropped > 0);
    }
}

#[test]
fn on_the_way_to_encryption_both_are_understood() {
    fn lenient(name: Name, address: SocketAddr) -> Config {
        let mut config = half_plain(name, address);
        // What MetalLB's documentation calls verification of what comes and of what goes.
        config.profile =
            Profile { incoming: gossip::wire::Plaintext::Taken, outgoing: gossip::Outgoing::Plaintext, ..Profile::LAN };
        config
    }
    let mut network = Network::configured(4, Weather::FAIR, 1, lenient);
    network.join_all();
    network.run(Duration::from_secs(10));
    network.assert_all_alive();
    assert!(network.hosts[2].membership.counters().plaintext_taken > 0);
}

#[test]
fn a_key_is_changed_in_three_steps_and_nobody_is_lost() {
    let mut network = Network::configured(5, Weather::FAIR, 1, encrypted);
    network.join_all();
    network.run(Duration::from_secs(2));
    network.watch_all();
    network.changes.clear();
    for keys in [&[1, 2][..], &[2, 1], &[2]] {
        // One host after the other, with time between.
        for host in 0..5 {
            network.input(host, Input::Keyring(keyring(keys)));
            network.run(Duration::from_secs(5));
        }
        if keys == [2, 1] {
            let before = network.hosts[0].membership.counters().opened_with_other_key;
            network.run(Duration::from_secs(60));
            let after = network.hosts[0].membership.counters().opened_with_other_key;
            assert_eq!(before, after, "the old key is not used any more, so it may go");
        }
    }
    network.run(Duration::from_secs(60));
    assert!(network.changes.is_empty(), "{:?}", network.changes);
    network.assert_all_alive();
    assert!(network.hosts.iter().all(|host| host.membership.counters().packets_dropped == 0));
}
