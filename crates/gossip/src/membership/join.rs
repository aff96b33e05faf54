//! Finding the other speakers: addresses of all that should be there are given from outside, and those that are no
//! members are contacted until they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kit::{Duration, Instant};

use super::{Membership, Moment, Timer};
use crate::member::canonical;
use crate::wire::MEMBERS_MAX;

/// How many speakers are contacted at a time: each of them knows most of the others.
const AT_ONCE: usize = 4;
/// The time until a speaker is contacted again that could not be, at first and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// The time until a speaker is contacted again that was, and is no member all the same.
const RETRY_JOINED: Duration = Duration::from_secs(30);
/// After a death: whoever died may be back, or was never gone.
const AFTER_DEATH: Duration = Duration::from_secs(1);

/// Where speakers should be.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    by_address: BTreeMap<SocketAddr, Peer>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    /// Attempts that failed since the last that did not.
    failures: u32,
    /// When the next attempt is due.
    due: Instant,
    attempt: Attempt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    None,
    GoingOn,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Joined,
    Failed,
}

impl Membership {
    pub(super) fn peers_set(&mut self, moment: &mut Moment<'_>, addresses: BTreeSet<SocketAddr>) {
        let mut by_address = BTreeMap::new();
        for address in addresses.into_iter().map(canonical).take(MEMBERS_MAX) {
            let new = Peer { failures: 0, due: moment.now, attempt: Attempt::None };
            by_address.insert(address, self.peers.by_address.get(&address).copied().unwrap_or(new));
        }
        self.peers.by_address = by_address;
        self.join_due(moment);
    }

    /// Where speakers should be, and are no members.
    pub(super) fn missing(&self) -> impl Iterator<Item = SocketAddr> {
        let members = self.members.iter().filter(|(_, member)| member.state().is_member());
        let members: BTreeSet<SocketAddr> = members.map(|(_, member)| member.address()).collect();
        self.peers.by_address.keys().copied().filter(move |address| !members.contains(address))
    }

    /// Contacts speakers that are no members, those first that were not contacted for longest.
    pub(super) fn join_due(&mut self, moment: &mut Moment<'_>) {
        self.timers.clear(&Timer::Join);
        if !self.presence.is_member() {
            return;
        }
        let missing = self.missing().filter_map(|address| Some((address, *self.peers.by_address.get(&address)?)));
        let (going_on, waiting): (Vec<_>, Vec<_>) = missing.partition(|(_, peer)| peer.attempt == Attempt::GoingOn);
        let mut waiting = waiting;
        waiting.sort_by_key(|(address, peer)| (peer.due, *address));
        let free = AT_ONCE.saturating_sub(going_on.len());
        let due = waiting.iter().take(free).take_while(|(_, peer)| peer.due <= moment.now).count();
        for (address, _) in waiting.drain(..due) {
            if let Some(peer) = self.peers.by_address.get_mut(&address) {
                peer.attempt = Attempt::GoingOn;
            }
            self.exchange_dial(moment, address, super::exchange::Purpose::Join);
        }
        if due < free
            && let Some((_, next)) = waiting.first()
        {
            self.timers.set(Timer::Join, next.due);
        }
    }

    /// An attempt has ended; the next may begin.
    pub(super) fn join_ended(&mut self, moment: &mut Moment<'_>, address: SocketAddr, outcome: Outcome) {
        if let Some(peer) = self.peers.by_address.get_mut(&address) {
            peer.attempt = Attempt::None;
            let wait = match outcome {
                Outcome::Joined => {
                    peer.failures = 0;
                    RETRY_JOINED
                }
                Outcome::Failed => {
                    let wait = RETRY_FIRST.times(1 << peer.failures.min(8)).min(RETRY_MAX);
                    peer.failures = peer.failures.saturating_add(1);
                    wait
                }
            };
            peer.due = moment.now + self.rng.jitter(wait, 75, 125);
        }
        self.join_due(moment);
    }

    /// Somebody died: if it should be there, it will be contacted soon.
    pub(super) fn join_soon(&mut self, now: Instant) {
        let at = now + AFTER_DEATH;
        if self.presence.is_member() && self.timers.get(&Timer::Join).is_none_or(|set| set > at) {
            self.timers.set(Timer::Join, at);
        }
    }
}
