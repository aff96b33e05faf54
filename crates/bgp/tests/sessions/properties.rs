//! Random histories: whatever happens to routes and connections, the receiver ends with what is wanted, and nothing
//! that happens to routes costs a session.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::wire::LOCAL_PREF_DEFAULT;
use bgp::{Families, Input, Mode, PeerConfig, RouteAttributes};
use ipnet::IpNet;
use kit::{Community, Duration, Family};
use proptest::prelude::*;

use crate::network::{A, B, Network, Weather, config, secs};

#[derive(Clone, Debug)]
enum Op {
    Announce {
        prefix: u8,
        attributes: u8,
    },
    Withdraw {
        prefix: u8,
    },
    /// Many at once, so that the work takes several parts.
    AnnounceMany {
        attributes: u8,
    },
    WithdrawMany,
    NextHop {
        address: Option<u8>,
    },
    Wait {
        millis: u16,
    },
    Reset,
    Cut {
        secs: u8,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => (any::<u8>(), 0..4_u8).prop_map(|(prefix, attributes)| Op::Announce { prefix, attributes }),
        6 => any::<u8>().prop_map(|prefix| Op::Withdraw { prefix }),
        1 => (0..4_u8).prop_map(|attributes| Op::AnnounceMany { attributes }),
        1 => Just(Op::WithdrawMany),
        1 => proptest::option::of(1..9_u8).prop_map(|address| Op::NextHop { address }),
        6 => (0..200_u16).prop_map(|millis| Op::Wait { millis }),
        1 => Just(Op::Reset),
        1 => (1..200_u8).prop_map(|secs| Op::Cut { secs }),
    ];
    proptest::collection::vec(op, 1..60)
}

/// Prefixes of both families, some inside others.
fn prefix(n: u8) -> IpNet {
    let [high, low] = [n >> 2, n & 3];
    let text = match low {
        0 => format!("198.51.100.{high}/32"),
        1 => format!("198.18.{high}.0/24"),
        2 => format!("2001:db8:{high}::/48"),
        _ => format!("2001:db8::{high}/128"),
    };
    text.parse().unwrap()
}

fn many(n: u32) -> IpNet {
    IpNet::new(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 32).unwrap()
}

const MANY: u32 = 1500;

fn attributes(n: u8) -> Arc<RouteAttributes> {
    let communities = (0..n).map(|n| Community::Standard(u32::from(n))).collect();
    Arc::new(RouteAttributes { local_pref: (n > 1).then_some(u32::from(n)), communities, ..RouteAttributes::default() })
}

/// The other side's table, as it should be.
type Model = BTreeMap<IpNet, Arc<RouteAttributes>>;

fn run(internal: bool, seed: u64, ops: &[Op]) -> (Network, Model) {
    let remote_as = if internal { 65001 } else { 65000 };
    let both = |config: PeerConfig| PeerConfig { families: Families::Both, ..config };
    let mut network =
        Network::new(both(config(65001, remote_as, Mode::Active)), both(config(remote_as, 65001, Mode::Passive)), seed);
    network.latency_ms = (1, 40);
    network.input(A, Input::NextHop { family: Family::V6, address: Some("2001:db8::1".parse().unwrap()) });
    network.start();
    let mut model = Model::new();
    for op in ops {
        match op {
            Op::Announce { prefix: n, attributes: a } => announce(&mut network, &mut model, prefix(*n), attributes(*a)),
            Op::Withdraw { prefix: n } => withdraw(&mut network, &mut model, prefix(*n)),
            Op::AnnounceMany { attributes: a } => {
                (0..MANY).for_each(|n| announce(&mut network, &mut model, many(n), attributes(*a)));
            }
            Op::WithdrawMany => (0..MANY).for_each(|n| withdraw(&mut network, &mut model, many(n))),
            Op::NextHop { address } => {
                let address = address.map(|n| format!("2001:db8::{n}").parse().unwrap());
                network.input(A, Input::NextHop { family: Family::V6, address });
            }
            Op::Wait { millis } => network.run_for(Duration::from_millis(u64::from(*millis))),
            Op::Reset => network.reset_connections(),
            Op::Cut { secs: n } => {
                network.weather = Weather::Cut;
                network.run_for(secs(u64::from(*n)));
                // What was lost on the way is lost for good here, as if both hosts had been restarted.
                network.reset_connections();
                network.weather = Weather::Fair;
            }
        }
    }
    network.input(A, Input::NextHop { family: Family::V6, address: Some("2001:db8::1".parse().unwrap()) });
    network.run_for(secs(200));
    (network, model)
}

fn announce(network: &mut Network, model: &mut Model, prefix: IpNet, attributes: Arc<RouteAttributes>) {
    model.insert(prefix, Arc::clone(&attributes));
    network.input(A, Input::Announce { prefix, attributes });
}

fn withdraw(network: &mut Network, model: &mut Model, prefix: IpNet) {
    model.remove(&prefix);
    network.input(A, Input::Withdraw { prefix });
}

fn check_table(network: &Network, model: &Model, internal: bool) {
    let table = &network.hosts[B].table;
    assert_eq!(table.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
    for (prefix, (next_hop, got)) in table {
        let wanted = &model[prefix];
        assert_eq!(got.communities, wanted.communities, "{prefix}");
        let local_pref = internal.then(|| wanted.local_pref.unwrap_or(LOCAL_PREF_DEFAULT));
        assert_eq!(got.local_pref, local_pref, "{prefix}");
        let expected =
            if prefix.addr().is_ipv4() { network.hosts[A].address.ip() } else { "2001:db8::1".parse().unwrap() };
        assert_eq!(*next_hop, expected, "{prefix}");
    }
    let view = network.hosts[A].peer.view();
    assert_eq!((view.prefixes_wanted, view.prefixes_announced), (model.len(), model.len()));
    assert_eq!(network.hosts[B].peer.view().prefixes_received, model.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_receiver_ends_with_what_is_wanted(internal: bool, seed: u64, ops in ops()) {
        let (network, model) = run(internal, seed, &ops);
        check_table(&network, &model, internal);
    }

    #[test]
    fn no_change_of_routes_costs_a_session(internal: bool, seed: u64, ops in ops()) {
        let calm: Vec<Op> = ops.into_iter().filter(|op| !matches!(op, Op::Reset | Op::Cut { .. })).collect();
        let (network, model) = run(internal, seed, &calm);
        check_table(&network, &model, internal);
        for side in [A, B] {
            let view = network.hosts[side].peer.view();
            prop_assert_eq!((view.sessions, network.hosts[side].log.len()), (1, 1));
        }
    }

    #[test]
    fn one_change_is_one_update(changes in proptest::collection::vec((any::<u8>(), proptest::option::of(0..4_u8)), 1..60)) {
        let (mut network, mut model) = run(false, 1, &[]);
        for (n, change) in changes {
            let before = (network.hosts[A].peer.view().counters.sent.updates, model.get(&prefix(n)).cloned());
            match change {
                Some(a) => announce(&mut network, &mut model, prefix(n), attributes(a)),
                None => withdraw(&mut network, &mut model, prefix(n)),
            }
            network.run_for(Duration::from_millis(100));
            let sent = network.hosts[A].peer.view().counters.sent.updates - before.0;
            prop_assert_eq!(sent, u64::from(before.1.as_ref() != model.get(&prefix(n))));
        }
    }
}
