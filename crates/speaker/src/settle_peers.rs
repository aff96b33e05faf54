//! Sessions begin, change and end as configuration and this node's labels ask for (contract 6.3).
//!
//! A Service never comes here, so nothing that happens to one can touch a session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use config::{Effect, Peer};
use kit::{Family, Outbox};

use super::{Output, Speaker, Synced};

/// The peers of a node by name.
type Peers = BTreeMap<String, Arc<Peer>>;

impl Speaker {
    /// Tells what has to be done to sessions; true when all of it is told.
    pub(super) fn settle_peers(&mut self, out: &mut Outbox<Output>) -> bool {
        if std::mem::take(&mut self.peers_due) {
            self.compare_peers();
        }
        while out.room() > 0
            && let Some(step) = self.peer_steps.pop_front()
        {
            out.push(step);
        }
        self.peer_steps.is_empty()
    }

    fn compare_peers(&mut self) {
        let Some(config) = &self.config else { return };
        let labels = self.nodes.get(&self.options.node).map(|node| &node.labels);
        let selected = |peer: &&Arc<Peer>| labels.is_some_and(|labels| peer.node_selectors.matches(labels));
        let wanted: Peers =
            config.peers.values().filter(selected).map(|peer| (peer.name.clone(), Arc::clone(peer))).collect();
        if wanted == self.peers {
            return;
        }
        let old = std::mem::replace(&mut self.peers, wanted);
        let (sees, steps) = (sees(&old), steps(&old, &self.peers));
        for step in &steps {
            match step {
                Output::PeerRemove(name) => {
                    self.routes.peer_forget(name);
                    self.incomplete.remove(name);
                }
                Output::PeerAdd(peer) | Output::PeerReset { peer, .. } => {
                    self.routes.peer_forget(&peer.name);
                    self.incomplete.insert(peer.name.clone());
                }
                Output::PeerChange { from, peer, .. } => {
                    self.routes.peer_rename(from, &peer.name);
                    if self.incomplete.remove(from) {
                        self.incomplete.insert(peer.name.clone());
                    }
                }
                _ => {}
            }
        }
        self.peer_steps.extend(steps);
        // Under another name, or with other families, a peer gets other routes.
        if sees != self::sees(&self.peers) {
            self.routes.all_changed();
            let depends = self.services.iter().filter(|(_, state)| state.depends_on_peers());
            self.dirty.extend(depends.map(|(key, _)| key.clone()));
        }
    }

    /// Tells which peers have all of their routes, when that is so. A router then forgets what a process before this one
    /// announced and this one does not: which nobody knows to be gone who only remembers.
    pub(super) fn complete_peers(&mut self, out: &mut Outbox<Output>) {
        if self.synced == Synced::Recalled {
            return;
        }
        while self.dirty.is_empty()
            && !self.routes.is_dirty()
            && out.room() > 0
            && let Some(name) = self.incomplete.pop_first()
        {
            out.push(Output::PeerComplete(name));
        }
    }
}

/// What decides which routes are for a peer.
fn sees(peers: &Peers) -> BTreeSet<(String, bool, bool)> {
    peers.values().map(|peer| (peer.name.clone(), peer.carries(Family::V4), peer.carries(Family::V6))).collect()
}

/// What has to be done to get from some peers to others, in this order.
///
/// A peer under a new name keeps its session, if nothing else about it asks for another one: BGPPeers are renamed by
/// making a new one and deleting the old.
fn steps(old: &Peers, new: &Peers) -> VecDeque<Output> {
    let mut gone: Peers = old
        .iter()
        .filter(|(name, _)| !new.contains_key(*name))
        .map(|(name, peer)| (name.clone(), Arc::clone(peer)))
        .collect();
    let (mut changed, mut added) = (Vec::new(), Vec::new());
    for (name, peer) in new {
        match old.get(name) {
            Some(before) if before == peer => {}
            Some(before) => changed.push(step(before, peer)),
            None => match renamed(&gone, peer).and_then(|from| gone.remove(&from)) {
                Some(before) => changed.push(step(&before, peer)),
                None => added.push(Output::PeerAdd(Arc::clone(peer))),
            },
        }
    }
    gone.into_keys().map(Output::PeerRemove).chain(changed).chain(added).collect()
}

/// The name of the peer that is gone and whose session can go on as that of `peer`.
fn renamed(gone: &Peers, peer: &Peer) -> Option<String> {
    let keeps = |before: &&Arc<Peer>| before.change_to(peer).effect() < Effect::Reset;
    gone.values().find(keeps).map(|before| before.name.clone())
}

fn step(before: &Peer, peer: &Arc<Peer>) -> Output {
    let change = before.change_to(peer);
    let (from, peer) = (before.name.clone(), Arc::clone(peer));
    match change.effect() {
        Effect::Reset => Output::PeerReset { peer, change },
        Effect::Nothing | Effect::Attributes | Effect::Soft => Output::PeerChange { from, peer, change },
    }
}
