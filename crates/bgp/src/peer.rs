//! One neighbour.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use kit::{Family, Instant, Outbox, Rng};

use crate::{Counters, FamilyView, Input, Output, PeerConfig, PeerView, RouteAttributes, RouteState, State};

/// One neighbour: its connections, its session, and the routes that it should have from us.
#[derive(Debug)]
pub struct Peer {
    config: PeerConfig,
    rng: Rng,
    since: Instant,
    wanted: BTreeMap<IpNet, Arc<RouteAttributes>>,
}

impl Peer {
    /// A peer that is stopped. The generator spreads its timers.
    pub fn new(config: PeerConfig, rng: Rng, now: Instant) -> Self {
        Peer { config, rng, since: now, wanted: BTreeMap::new() }
    }

    /// How it is configured.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// Tells the peer something that happened.
    pub fn handle(&mut self, now: Instant, input: Input, _out: &mut Outbox<Output>) {
        match input {
            Input::Announce { prefix, attributes } => {
                self.wanted.insert(prefix.trunc(), attributes);
            }
            Input::Withdraw { prefix } => {
                self.wanted.remove(&prefix.trunc());
            }
            _ => {
                self.since = now;
                self.rng.next_u64();
            }
        }
    }

    /// When `Input::Tick` is due; `None` while the peer waits for nothing but other inputs.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// How far a route got.
    pub fn route_state(&self, prefix: &IpNet) -> RouteState {
        if self.wanted.contains_key(prefix) { RouteState::NoSession } else { RouteState::NotWanted }
    }

    /// Everything that an operator may ask.
    pub fn view(&self) -> PeerView {
        let family = |family| FamilyView {
            family,
            wanted: self.wanted.len(),
            announced: 0,
            blocked: Some(RouteState::NoSession),
        };
        PeerView {
            state: State::Idle,
            since: self.since,
            next_attempt: None,
            failed_attempts: 0,
            sessions: 0,
            last_down: None,
            counters: Counters::default(),
            prefixes_wanted: self.wanted.len(),
            prefixes_announced: 0,
            prefixes_received: 0,
            session: None,
            families: Family::ALL.map(family),
        }
    }
}
