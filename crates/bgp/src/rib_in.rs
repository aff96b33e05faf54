//! Adj-RIB-In: what the peer says that it has. A speaker refuses all of it; the lab's router hands it on.
//!
//! Only the prefixes are kept, so that a withdrawal is told once and their number has a limit; what they mean is kept
//! by whoever is told.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kit::{Asn, Outbox};

use crate::negotiation::Refusal;
use crate::wire::{AfiSafi, ErrorCode, Notification, Reachable, ValidUpdate, family_of};
use crate::{Output, Reception};

/// The routes of one session.
#[derive(Debug)]
pub(crate) struct AdjRibIn {
    local_as: Asn,
    local_address: IpAddr,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Nothing,
    Prefixes { prefixes: BTreeSet<IpNet>, max: u32 },
}

impl AdjRibIn {
    /// A session that has received nothing, seen from our AS and our end of the connection.
    pub(crate) fn new(reception: Reception, local_as: Asn, local_address: IpAddr) -> Self {
        let kept = match reception {
            Reception::Refuse => Kept::Nothing,
            Reception::Report { prefixes_max } => Kept::Prefixes { prefixes: BTreeSet::new(), max: prefixes_max },
        };
        AdjRibIn { local_as, local_address, kept }
    }

    /// How many prefixes the peer has announced, where that is known.
    pub(crate) fn len(&self) -> usize {
        match &self.kept {
            Kept::Nothing => 0,
            Kept::Prefixes { prefixes, .. } => prefixes.len(),
        }
    }

    /// Takes an UPDATE: at most three outputs, withdrawals first. `Err` when there are too many prefixes.
    pub(crate) fn apply(&mut self, update: ValidUpdate, out: &mut Outbox<Output>) -> Result<(), Refusal> {
        // RFC 4271 section 9.1.2: a path through our own AS is a loop. Section 5.1.3: neither is a route of use whose
        // next hop are we ourselves. Each replaces what the peer said before, so what it replaces is gone.
        let is_loop = update.attributes.as_path.contains(self.local_as);
        let local_address = self.local_address;
        let is_usable = |reachable: &Reachable| !is_loop && reachable.next_hop.address() != local_address;
        let (usable, useless): (Vec<Reachable>, Vec<Reachable>) = update.reachable.into_iter().partition(is_usable);

        let Kept::Prefixes { prefixes, max } = &mut self.kept else {
            return Ok(());
        };
        let announced: BTreeSet<IpNet> = usable.iter().flat_map(|reachable| &reachable.prefixes).copied().collect();
        let gone = update.withdrawn.into_iter().chain(useless.into_iter().flat_map(|reachable| reachable.prefixes));
        // RFC 4271 section 4.3: a prefix that is withdrawn and announced in one message is announced.
        let gone: BTreeSet<IpNet> = gone.filter(|prefix| !announced.contains(prefix)).collect();
        let gone: Vec<IpNet> = gone.into_iter().filter(|prefix| prefixes.remove(prefix)).collect();
        if !gone.is_empty() {
            out.push(Output::RoutesWithdrawn { prefixes: gone });
        }
        for prefix in &announced {
            prefixes.insert(*prefix);
            if prefixes.len() > usize::try_from(*max).unwrap_or(usize::MAX) {
                return Err(too_many(prefix, *max));
            }
        }
        for reachable in usable {
            let next_hop = reachable.next_hop.address();
            let unique: BTreeSet<IpNet> = reachable.prefixes.into_iter().collect();
            let attributes = Arc::clone(&update.attributes);
            out.push(Output::RoutesAnnounced { prefixes: unique.into_iter().collect(), next_hop, attributes });
        }
        Ok(())
    }
}

/// RFC 4486 section 4: the data says which family and which limit.
fn too_many(prefix: &IpNet, max: u32) -> Refusal {
    let routes = AfiSafi::unicast(family_of(prefix));
    let [high, low] = routes.afi.to_be_bytes();
    let [a, b, c, d] = max.to_be_bytes();
    let data = [high, low, routes.safi, a, b, c, d];
    Refusal {
        notification: Notification::with_data(ErrorCode::MAXIMUM_PREFIXES_REACHED, &data),
        detail: format!("the peer announces more than {max} prefixes"),
    }
}
