//! A host on each link that asks who has an address, and listens to what it is told without asking.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kit::{Family, Mac};
use l2::wire::arp::Operation;
use l2::wire::ndp::{Message, solicited_node};
use l2::wire::{Arp, Frame, Ndp, Payload};

use crate::names::Lan;

/// What the hosts that ask have heard.
#[derive(Debug, Default)]
pub(crate) struct Asker {
    /// Who answered since the answers were last taken.
    answers: BTreeMap<(Lan, IpAddr), BTreeSet<Mac>>,
    /// Who said last, without being asked, that an address is its own.
    told: BTreeMap<(Lan, IpAddr), Mac>,
    /// How often that was said since the count began.
    tellings: BTreeMap<(Lan, IpAddr), u32>,
}

impl Asker {
    /// The Ethernet address of the one on this link.
    pub(crate) fn mac(lan: Lan) -> Mac {
        match lan {
            Lan::Front => Mac([2, 0, 0, 0, 0, 250]),
            Lan::Back => Mac([2, 0, 0, 0, 1, 250]),
        }
    }

    /// The question who has the address.
    pub(crate) fn question(lan: Lan, address: IpAddr) -> Frame {
        let source = Asker::mac(lan);
        match (address, lan.client(Family::of(&address))) {
            (IpAddr::V4(target_address), IpAddr::V4(sender_address)) => {
                let (operation, sender_mac, target_mac) = (Operation::Request, source, Mac::ZERO);
                let arp = Arp { operation, sender_mac, sender_address, target_mac, target_address };
                Frame { source, destination: Mac::BROADCAST, payload: Payload::Arp(arp) }
            }
            (IpAddr::V6(target), IpAddr::V6(own)) => {
                let group = solicited_node(target);
                let message = Message::Solicitation { target, source_mac: Some(source) };
                let ndp = Ndp { source: own, destination: group, message };
                Frame { source, destination: Mac::multicast_for(group), payload: Payload::Ndp(ndp) }
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                unreachable!("the address of a family is of that family")
            }
        }
    }

    /// Listens to a frame on a link.
    pub(crate) fn hear(&mut self, lan: Lan, frame: &Frame) {
        let (address, mac) = match frame.payload {
            Payload::Arp(arp) => (IpAddr::V4(arp.sender_address), arp.sender_mac),
            Payload::Ndp(Ndp { message: Message::Advertisement { target, target_mac: Some(mac), .. }, .. }) => {
                (IpAddr::V6(target), mac)
            }
            Payload::Ndp(_) => return,
        };
        if frame.destination == Asker::mac(lan) {
            self.answers.entry((lan, address)).or_default().insert(mac);
        } else if frame.destination.is_multicast() {
            self.told.insert((lan, address), mac);
            let tellings = self.tellings.entry((lan, address)).or_default();
            *tellings = tellings.saturating_add(1);
        }
    }

    /// Who answered since this was last asked.
    pub(crate) fn take_answers(&mut self) -> BTreeMap<(Lan, IpAddr), BTreeSet<Mac>> {
        std::mem::take(&mut self.answers)
    }

    /// Begins to count what is said without being asked.
    pub(crate) fn count_tellings(&mut self) {
        self.tellings.clear();
    }

    /// How often each address was told of since then.
    pub(crate) fn tellings(&self) -> &BTreeMap<(Lan, IpAddr), u32> {
        &self.tellings
    }

    /// Whether a frame says once more what was said last: that is no news.
    pub(crate) fn repeats(&self, lan: Lan, frame: &Frame) -> bool {
        let claim = match frame.payload {
            Payload::Arp(arp) => Some((IpAddr::V4(arp.sender_address), arp.sender_mac)),
            Payload::Ndp(Ndp { message: Message::Advertisement { target, target_mac: Some(mac), .. }, .. }) => {
                Some((IpAddr::V6(target), mac))
            }
            Payload::Ndp(_) => None,
        };
        let is_for_all = frame.destination.is_multicast();
        is_for_all && claim.is_some_and(|(address, mac)| self.told(lan, address) == Some(mac))
    }

    /// Forgets what was said without being asked.
    pub(crate) fn forget_told(&mut self) {
        self.told.clear();
    }

    /// Who said last, without being asked, that the address is its own.
    pub(crate) fn told(&self, lan: Lan, address: IpAddr) -> Option<Mac> {
        self.told.get(&(lan, address)).copied()
    }
}
