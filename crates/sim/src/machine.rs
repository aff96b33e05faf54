//! A machine: whether it runs, its interfaces, and its speaker.

use std::collections::BTreeMap;

use kit::Instant;
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
}

impl Machine {
    /// A machine that is on, with all cables in, and without a speaker.
    pub(crate) fn new(node: NodeId) -> Self {
        let port = |lan: &Lan| (*lan, Port { down_until: None, gone_until: None });
        Machine { node, is_on: true, ports: node.lans().iter().map(port).collect(), speaker: None, boots: 1 }
    }

    /// Mends everything about its interfaces, and says which were not as they should be.
    pub(crate) fn mend(&mut self) -> Vec<Lan> {
        let is_broken = |port: &Port| port.down_until.is_some() || port.gone_until.is_some();
        let broken: Vec<Lan> = self.ports.iter().filter(|(_, port)| is_broken(port)).map(|(lan, _)| *lan).collect();
        for port in self.ports.values_mut() {
            (port.down_until, port.gone_until) = (None, None);
        }
        broken
    }

    pub(crate) fn port_mut(&mut self, lan: Lan) -> Option<&mut Port> {
        self.ports.get_mut(&lan)
    }

    /// True when frames get through to and from the link.
    pub(crate) fn is_connected(&self, lan: Lan) -> bool {
        let is_up = |port: &Port| port.down_until.is_none() && port.gone_until.is_none();
        self.is_on && self.ports.get(&lan).is_some_and(is_up)
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
            mac: Some(self.node.mac(lan)),
            flags,
            master: None,
            link_local: [self.node.link_local(lan)].into(),
            exclusion: Exclusion::Allowed,
        })
    }
}
