//! A machine: whether it runs, its interfaces, and its speaker.

use std::collections::{BTreeMap, BTreeSet};

use kit::{Family, Instant, InterfaceIndex, Mac};
use l2::{Exclusion, Interface, InterfaceFlags};

use crate::names::{Lan, NodeId};
use crate::speaker_process::SpeakerProcess;

/// A machine of the cluster.
#[derive(Debug)]
pub(crate) struct Machine {
    node: NodeId,
    /// It has power.
    pub(crate) is_on: bool,
    ports: BTreeMap<Lan, Port>,
    /// Until when it has no default route of a family.
    pub(crate) ways_lost: BTreeMap<Family, Instant>,
    /// Its speaker, while that runs.
    pub(crate) speaker: Option<SpeakerProcess>,
    /// How often it was switched on, which tells a report about it from one about its past.
    pub(crate) boots: u64,
}

/// A place for a cable.
#[derive(Debug)]
pub(crate) struct Port {
    /// Until when the cable is out.
    pub(crate) down_until: Option<Instant>,
    /// Until when the interface does not even exist.
    pub(crate) gone_until: Option<Instant>,
    /// Until when its IPv6 address may not be used, because somebody else could have it (RFC 4862 section 5.4).
    pub(crate) tentative_until: Option<Instant>,
    /// How often it got another Ethernet address.
    pub(crate) swaps: u8,
}

impl Port {
    fn new() -> Self {
        Port { down_until: None, gone_until: None, tentative_until: None, swaps: 0 }
    }

    /// Ends everything whose time is over; true when that was anything.
    pub(crate) fn pass(&mut self, now: Instant) -> bool {
        let spans = [&mut self.down_until, &mut self.gone_until, &mut self.tentative_until];
        let ended = spans.into_iter().filter_map(|until| until.take_if(|until| *until <= now));
        ended.count() > 0
    }
}

impl Machine {
    /// A machine that is on, with all cables in, and without a speaker.
    pub(crate) fn new(node: NodeId) -> Self {
        let port = |lan: &Lan| (*lan, Port::new());
        Machine {
            node,
            is_on: true,
            ports: node.lans().iter().map(port).collect(),
            ways_lost: BTreeMap::new(),
            speaker: None,
            boots: 1,
        }
    }

    /// Mends everything about its interfaces, and says which were not as they should be.
    pub(crate) fn mend(&mut self) -> Vec<Lan> {
        let mended = self.ports.iter_mut().map(|(lan, port)| (*lan, port.pass(Instant::from_micros(u64::MAX))));
        mended.filter(|(_, was_broken)| *was_broken).map(|(lan, _)| lan).collect()
    }

    pub(crate) fn port_mut(&mut self, lan: Lan) -> Option<&mut Port> {
        self.ports.get_mut(&lan)
    }

    /// True when frames get through to and from the link.
    pub(crate) fn is_connected(&self, lan: Lan) -> bool {
        let is_up = |port: &Port| port.down_until.is_none() && port.gone_until.is_none();
        self.is_on && self.ports.get(&lan).is_some_and(is_up)
    }

    /// By which interfaces its default routes leave, by family.
    pub(crate) fn ways_out(&self) -> BTreeMap<Family, BTreeSet<InterfaceIndex>> {
        let there = Family::ALL.into_iter().filter(|family| !self.ways_lost.contains_key(family));
        there.map(|family| (family, BTreeSet::from([Lan::Front.index()]))).collect()
    }

    /// The Ethernet address of its interface to a link.
    pub(crate) fn mac(&self, lan: Lan) -> Mac {
        let Mac([first, _, rest @ ..]) = self.node.mac(lan);
        let [a, b, c, d] = rest;
        Mac([first, self.ports.get(&lan).map_or(0, |port| port.swaps), a, b, c, d])
    }

    /// What the kernel tells of an interface; `None` when it does not exist.
    pub(crate) fn interface(&self, lan: Lan) -> Option<Interface> {
        let port = self.ports.get(&lan).filter(|port| port.gone_until.is_none())?;
        let mut flags = InterfaceFlags::UP | InterfaceFlags::BROADCAST;
        if port.down_until.is_none() {
            flags = flags | InterfaceFlags::CARRIER;
        }
        Some(Interface {
            index: lan.index(),
            name: lan.interface().to_owned(),
            mac: Some(self.mac(lan)),
            flags,
            master: None,
            link_local: port.tentative_until.is_none().then(|| self.node.link_local(lan)).into_iter().collect(),
            exclusion: Exclusion::Allowed,
        })
    }
}
