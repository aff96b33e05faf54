//! What only a test does to a cluster at rest, behind everybody's back, to see that it is noticed.

use std::net::IpAddr;

use api::Kind;
use kit::Family;

use super::Cluster;
use crate::names::Lan;

/// Things that only a test does to a cluster, to see that they are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// Somebody answers for the address of a Service.
    SecondAnswer,
    /// A Service shows the address of another.
    DoubleAddress,
    /// A router loses a route.
    LostRoute,
    /// A pool shows other counters.
    WrongCounters,
}

impl Cluster {
    /// Tampers with the cluster behind everybody's back; false when there is nothing to tamper with. Nobody hears of it,
    /// so only a look at the whole can find it.
    pub fn tamper(&mut self, tampering: Tampering) -> bool {
        match tampering {
            Tampering::SecondAnswer => {
                let mut places = self.expected_answers().into_keys();
                let place = places.find(|(lan, address)| *lan == Lan::Front && Family::of(address) == Family::V4);
                self.rogue = place;
                place.is_some()
            }
            Tampering::DoubleAddress => self.double_address().is_some(),
            Tampering::LostRoute => {
                let found = self.tables().into_iter().find_map(|(place, table)| Some((place, *table.keys().next()?)));
                let Some(((name, node), prefix)) = found else { return false };
                if let Some(router) = self.routers.get_mut(&name) {
                    router.lose_route(node, &prefix);
                }
                true
            }
            Tampering::WrongCounters => {
                let Some(pool) = self.api.pools().find(|pool| pool.status.is_some()).cloned() else { return false };
                let counters = pool.status.unwrap_or_default();
                let wrong = api::PoolCounters { assigned_ipv4: counters.assigned_ipv4.saturating_add(1), ..counters };
                self.api.set_counters(&pool.metadata.key(), wrong);
                self.pretend_heard(Kind::IPAddressPool);
                true
            }
        }
    }

    fn double_address(&mut self) -> Option<()> {
        let statuses = self.statuses();
        let mut with_address = statuses.iter().filter(|(_, shown)| !shown.is_empty());
        let (one, _) = with_address.next()?;
        let (_, address) = with_address.next()?;
        let service = self.api.service(one)?.clone();
        let mut ingress = service.status.load_balancer.ingress.clone();
        ingress.first_mut()?.ip = address.first().cloned();
        let pool = service.metadata.annotations.get(api::ALLOCATED_FROM_POOL).cloned();
        self.api.set_status(one, None, &ingress, pool.as_deref());
        self.pretend_heard(Kind::Service);
        Some(())
    }

    /// Everybody takes what happened to the objects of a kind for heard.
    fn pretend_heard(&mut self, kind: Kind) {
        for client in self.clients.values_mut() {
            client.watch.take(&self.api, kind, usize::MAX);
        }
    }

    /// The addresses that Services show, for those who look on from outside.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.statuses().into_values().flatten().filter_map(|text| text.parse().ok()).collect()
    }
}
