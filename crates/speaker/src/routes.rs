//! The routes this node gives to each peer, merged from all Services that share a prefix (contract 6.2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Key;
use bgp::RouteAttributes;
use config::{BgpAdvertisement, Peer};
use ipnet::IpNet;
use kit::{Family, Outbox};

use crate::core::Output;
use crate::decide::{carries, is_for};

/// Prefixes with what asks for them and what each peer was given; differences are worked off in [`Routes::settle`].
#[derive(Debug, Default)]
pub(crate) struct Routes {
    prefixes: BTreeMap<IpNet, Prefix>,
    /// Prefixes of which a source or a peer changed.
    dirty: BTreeSet<IpNet>,
    /// Services with a prefix that other peers have now.
    regiven: BTreeSet<Key>,
}

#[derive(Debug, Default)]
struct Prefix {
    /// How many Services ask for the prefix through each advertisement. Counting keeps the cost of one Service's change
    /// independent of how many others lie under the same aggregate.
    sources: BTreeMap<String, (Arc<BgpAdvertisement>, usize)>,
    /// The Services that have the prefix.
    holders: BTreeSet<Key>,
    /// What each peer was told last.
    given: BTreeMap<String, Arc<RouteAttributes>>,
}

type Wanted = BTreeMap<IpNet, Vec<Arc<BgpAdvertisement>>>;

impl Routes {
    /// Replaces what one Service asks for.
    pub(crate) fn replace(&mut self, service: &Key, old: &Wanted, new: &Wanted) {
        self.regiven.insert(service.clone());
        for (prefix, advertisements) in new {
            let entry = self.prefixes.entry(*prefix).or_default();
            entry.holders.insert(service.clone());
            for advertisement in advertisements {
                let source =
                    entry.sources.entry(advertisement.name.clone()).or_insert_with(|| (Arc::clone(advertisement), 0));
                // A changed advertisement keeps its name: the new one counts, for all Services soon.
                source.0 = Arc::clone(advertisement);
                source.1 = source.1.saturating_add(1);
            }
            self.dirty.insert(*prefix);
        }
        for (prefix, advertisements) in old {
            let Some(entry) = self.prefixes.get_mut(prefix) else { continue };
            if !new.contains_key(prefix) {
                entry.holders.remove(service);
            }
            for advertisement in advertisements {
                if let Some(source) = entry.sources.get_mut(&advertisement.name) {
                    source.1 = source.1.saturating_sub(1);
                    if source.1 == 0 {
                        entry.sources.remove(&advertisement.name);
                    }
                }
            }
            self.dirty.insert(*prefix);
        }
    }

    /// A peer came, went or was replaced: everything is to be looked at again for it.
    pub(crate) fn peer_changed(&mut self, name: &str) {
        for (prefix, entry) in &mut self.prefixes {
            if entry.given.remove(name).is_some() {
                self.regiven.extend(entry.holders.iter().cloned());
            }
            self.dirty.insert(*prefix);
        }
    }

    /// True while there is something to settle.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Tells the peers of changed prefixes, as long as `out` has room for all peers of one.
    pub(crate) fn settle(&mut self, peers: &BTreeMap<String, Arc<Peer>>, out: &mut Outbox<Output>) {
        while out.room() > peers.len() {
            let Some(prefix) = self.dirty.pop_first() else { return };
            let Some(entry) = self.prefixes.get_mut(&prefix) else { continue };
            if entry.settle(prefix, peers, out) == Peers::Changed {
                self.regiven.extend(entry.holders.iter().cloned());
            }
            if entry.sources.is_empty() {
                self.prefixes.remove(&prefix);
            }
        }
    }

    /// A Service whose routes other peers may have now than before.
    pub(crate) fn pop_regiven(&mut self) -> Option<Key> {
        if self.is_dirty() { None } else { self.regiven.pop_first() }
    }

    /// The peers that were given one of the prefixes.
    pub(crate) fn peers_of<'a>(&'a self, prefixes: impl Iterator<Item = &'a IpNet>) -> BTreeSet<&'a str> {
        prefixes
            .filter_map(|prefix| self.prefixes.get(prefix))
            .flat_map(|entry| entry.given.keys().map(String::as_str))
            .collect()
    }
}

/// Whether other peers have a prefix now than before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peers {
    Same,
    Changed,
}

impl Prefix {
    fn settle(&mut self, prefix: IpNet, peers: &BTreeMap<String, Arc<Peer>>, out: &mut Outbox<Output>) -> Peers {
        let mut changed = Peers::Same;
        for (name, peer) in peers {
            match self.merged(peer, prefix) {
                Some(attributes) if self.given.get(name).is_some_and(|given| **given == attributes) => {}
                Some(attributes) => {
                    let attributes = Arc::new(attributes);
                    if self.given.insert(name.clone(), Arc::clone(&attributes)).is_none() {
                        changed = Peers::Changed;
                    }
                    out.push(Output::RouteAnnounce { peer: name.clone(), prefix, attributes });
                }
                None if self.given.remove(name).is_some() => {
                    changed = Peers::Changed;
                    out.push(Output::RouteWithdraw { peer: name.clone(), prefix });
                }
                None => {}
            }
        }
        changed
    }

    /// One route out of all that asks for the prefix towards the peer: communities are united; of several local
    /// preferences, which validation refuses where it can see them, the highest counts.
    fn merged(&self, peer: &Peer, prefix: IpNet) -> Option<RouteAttributes> {
        if !carries(peer, Family::of(&prefix.addr())) {
            return None;
        }
        let mut sources = self.sources.values().map(|(it, _)| it).filter(|it| is_for(it, &peer.name)).peekable();
        sources.peek()?;
        let mut merged = RouteAttributes::default();
        for source in sources {
            merged.local_pref = merged.local_pref.max(source.local_pref);
            merged.communities.extend(source.communities.iter().copied());
        }
        Some(merged)
    }
}
