//! The owner of ten thousand addresses dies: the decisions of its heir and what its responder sends, together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use kit::{Duration, Instant, Outbox};
use l2::wire::{Frame, Payload};
use l2::{Action, Refresh, Responder, Settings};
use speaker::{Input, Options, Output};

use crate::scenario::Scenario;

const ADDRESSES: u32 = 10_000;
/// What leaves the decisions between two looks at packets and timers.
const OUTBOX: usize = 4096;

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
}

/// Gives the decisions one input and then ticks until nothing is left to do at this moment; returns in how many turns.
fn decide(scenario: &mut Scenario, now: Instant, input: Input, mut take: impl FnMut(Output)) -> usize {
    let mut out = Outbox::with_limit(OUTBOX);
    let (mut next, mut turns) = (Some(input), 0);
    while let Some(input) = next.take() {
        scenario.speaker.handle(now, input, &mut out);
        assert_eq!(out.dropped(), 0);
        out.drain().for_each(&mut take);
        next = scenario.speaker.next_deadline().filter(|due| *due <= now).map(|_| Input::Tick);
        turns += 1;
    }
    turns
}

#[test]
fn ten_thousand_addresses_of_a_dead_node_are_told_within_a_second_and_paced() {
    let mut scenario = Scenario::new(Options { node: "n1".into(), ..Options::default() });
    for line in ["pool p 10.0.0.0/18", "l2 p adv prefer=50:first=yes", "configure", "node n1", "node n2 first=yes"] {
        scenario.feed(line);
    }
    scenario.feed("members n1 n2");
    for number in 0..ADDRESSES {
        scenario.feed(&format!("svc s{number} {}", address(number)));
        scenario.feed(&format!("eps s{number} n2:ready"));
    }
    let mut announced = BTreeSet::new();
    decide(&mut scenario, Instant::ZERO, Input::Synced, |output| {
        assert!(!matches!(output, Output::AddressAnnounce { .. }), "the other node is the owner: {output:?}");
    });

    let mut responder = Responder::new(Settings { refresh: Refresh::Never, seed: 7 });
    let mut l2_out = Outbox::with_limit(l2::OUTBOX_MAX);
    let eth0 = Scenario::interface("eth0");
    responder.handle(Instant::ZERO, l2::Input::Interface(eth0), &mut l2_out);
    let died = Instant::ZERO + Duration::from_secs(100);
    let mut told: BTreeMap<IpAddr, Instant> = BTreeMap::new();
    let mut frames: BTreeMap<u64, u32> = BTreeMap::new();
    let mut hear = |now: Instant, out: &mut Outbox<l2::Output>| {
        for output in out.drain() {
            let l2::Output::Action(Action::Send { frame, .. }) = output else { continue };
            if let Payload::Arp(arp) = Frame::decode(&frame).unwrap().payload {
                told.entry(IpAddr::V4(arp.sender_address)).or_insert(now);
                *frames.entry(now.as_micros() / l2::PACE.as_micros()).or_default() += 1;
            }
        }
    };
    let alone = speaker::Members::alive(["n1".to_owned()]);
    let turns = decide(&mut scenario, died, Input::Members(alone), |output| {
        if let Output::AddressAnnounce { address, interfaces } = output {
            announced.insert(address);
            responder.handle(died, l2::Input::Announce { address, interfaces }, &mut l2_out);
            hear(died, &mut l2_out);
        }
    });
    assert_eq!(announced.len(), ADDRESSES as usize);
    assert!(turns > 20, "packets and timers had {turns} turns between");
    while let Some(deadline) = responder.next_deadline() {
        responder.handle(deadline, l2::Input::Tick, &mut l2_out);
        hear(deadline, &mut l2_out);
    }
    assert_eq!(told.len(), ADDRESSES as usize);
    let last = told.values().max().unwrap().since(died);
    assert!(last <= Duration::from_secs(1), "the last one was told after {last}");
    assert!(frames.values().all(|frames| *frames <= l2::FRAMES_PER_PACE));
}
