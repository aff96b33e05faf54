//! The other hosts that run this program, as the segment shows them: which station is whose.
//!
//! Their addresses are told; their stations are learned from what they say on the segment about those addresses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use kit::Mac;

/// A host can have several interfaces; of more stations than these, the ones heard longest ago are forgotten.
const STATIONS_PER_FELLOW_MAX: usize = 8;

/// The stations of the other hosts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fellows {
    stations: BTreeMap<IpAddr, VecDeque<Mac>>,
    by_mac: BTreeMap<Mac, IpAddr>,
}

impl Fellows {
    /// Replaces the hosts; of those that stay, what is known stays.
    pub(crate) fn replace(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.stations.retain(|address, _| addresses.contains(address));
        for address in addresses {
            self.stations.entry(*address).or_default();
        }
        let stations = &self.stations;
        self.by_mac.retain(|_, address| stations.contains_key(address));
    }

    /// Somebody said which station an address has.
    pub(crate) fn heard(&mut self, address: IpAddr, mac: Mac) {
        let Some(stations) = self.stations.get_mut(&address) else { return };
        if stations.contains(&mac) {
            return;
        }
        stations.push_back(mac);
        if stations.len() > STATIONS_PER_FELLOW_MAX
            && let Some(oldest) = stations.pop_front()
        {
            self.by_mac.remove(&oldest);
        }
        self.by_mac.insert(mac, address);
    }

    /// The stations of a host, as far as they were heard.
    pub(crate) fn stations(&self, fellow: &IpAddr) -> impl Iterator<Item = Mac> + '_ {
        self.stations.get(fellow).into_iter().flatten().copied()
    }

    /// Whose station this is.
    pub(crate) fn at(&self, mac: Mac) -> Option<IpAddr> {
        self.by_mac.get(&mac).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_are_learned_of_fellows_only_and_bounded() {
        let [first, second, stranger] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|text| text.parse().unwrap());
        let mac = |n: u8| Mac([2, 0, 0, 0, 0, n]);
        let mut fellows = Fellows::default();
        fellows.replace(&[first, second].into());
        fellows.heard(first, mac(1));
        fellows.heard(second, mac(2));
        fellows.heard(stranger, mac(3));
        assert_eq!([1, 2, 3].map(|n| fellows.at(mac(n))), [Some(first), Some(second), None]);
        for n in 10..30 {
            fellows.heard(first, mac(n));
        }
        assert_eq!((10..30).filter(|n| fellows.at(mac(*n)).is_some()).count(), STATIONS_PER_FELLOW_MAX);
        fellows.replace(&[second].into());
        assert_eq!([2, 29].map(|n| fellows.at(mac(n))), [Some(second), None]);
        assert_eq!(fellows.by_mac.len(), 1);
    }
}
