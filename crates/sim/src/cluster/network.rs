//! The links: frames and who gets them, cables, interfaces and what the kernel tells of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kit::{Duration, Family, InterfaceIndex, Mac};
use l2::Interface;
use l2::wire::arp::Operation;
use l2::wire::{Arp, Frame, Payload};

use super::strangers::is_strange;
use super::{Cluster, Event};
use crate::asker::Asker;
use crate::names::{Lan, NodeId, ProcessId};
use crate::violation::Violation;

/// How long a frame takes.
const FRAME: Duration = Duration::from_millis(2);
/// How long it takes a process to hear from its kernel.
const NETLINK: Duration = Duration::from_millis(50);
/// How long a new interface tries whether somebody else has its IPv6 address.
const TENTATIVE: Duration = Duration::from_millis(1_500);
/// Frames that may get lost in a row: an announcement is repeated more often than that.
const LOSSES_MAX: u32 = 2;
/// The Ethernet address of somebody who answers for an address that is not its own.
const ROGUE: Mac = Mac([2, 0xba, 0xdb, 0xad, 0xba, 0xd0]);

impl Cluster {
    /// A machine sends a frame. It is lost if the cable is out.
    pub(super) fn frame_leaves(&mut self, node: NodeId, interface: InterfaceIndex, bytes: Vec<u8>) {
        let Some(lan) = Lan::of_index(interface) else { return };
        let is_connected = self.machines.get(&node).is_some_and(|machine| machine.is_connected(lan));
        if let (true, Ok(frame)) = (is_connected, Frame::decode(&bytes)) {
            self.send_frame(lan, Some(node), frame, bytes);
        }
    }

    pub(super) fn send_frame(&mut self, lan: Lan, from: Option<NodeId>, frame: Frame, bytes: Vec<u8>) {
        let span = self.up_to(FRAME);
        self.plan_in(span, Event::Frame { lan, from, frame, bytes });
    }

    /// A host asks who has the address.
    pub(super) fn ask(&mut self, lan: Lan, address: IpAddr) {
        let frame = Asker::question(lan, address);
        self.send_frame(lan, None, frame, frame.encode());
    }

    /// A frame reaches everybody whose cable is in and whose filter lets it pass.
    pub(super) fn frame_arrives(
        &mut self,
        lan: Lan,
        from: Option<NodeId>,
        frame: &Frame,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        if !self.asker.repeats(lan, frame) {
            self.is_active();
        }
        self.say(|| format!("on {}: {frame}", lan.interface()));
        let hears = |(node, machine): (&NodeId, &crate::machine::Machine)| {
            let is_there = Some(*node) != from && machine.is_connected(lan);
            (is_there && machine.speaker.as_ref().is_some_and(|speaker| speaker.hears(lan, machine.mac(lan), frame)))
                .then_some(*node)
        };
        let hearers: Vec<NodeId> = self.machines.iter().filter_map(hears).collect();
        for node in hearers {
            if !self.loses() {
                let is_foreign = is_strange(frame);
                self.with_speaker(node, |speaker, now| {
                    if is_foreign {
                        speaker.foreign_frame(now, lan, frame)
                    } else {
                        speaker.frame(now, lan, bytes.to_vec())
                    }
                })?;
            }
        }
        if from.is_some() && !self.loses() {
            self.asker.hear(lan, frame);
        }
        self.rogue_answers(lan, frame);
        Ok(())
    }

    /// Whether a frame is lost on its way to somebody.
    fn loses(&mut self) -> bool {
        let is_lost = self.lossy_until.is_some() && self.losses < LOSSES_MAX && self.rng.one_in(3);
        self.losses = if is_lost { self.losses.saturating_add(1) } else { 0 };
        is_lost
    }

    fn rogue_answers(&mut self, lan: Lan, frame: &Frame) {
        let Payload::Arp(arp) = frame.payload else { return };
        let is_asked = arp.operation == Operation::Request && frame.source == Asker::mac(lan);
        if is_asked && self.rogue == Some((lan, IpAddr::V4(arp.target_address))) {
            let answer = Arp {
                operation: Operation::Reply,
                sender_mac: ROGUE,
                sender_address: arp.target_address,
                target_mac: arp.sender_mac,
                target_address: arp.sender_address,
            };
            self.asker.hear(lan, &Frame { source: ROGUE, destination: arp.sender_mac, payload: Payload::Arp(answer) });
        }
    }

    /// A cable is pulled out for a while.
    pub(super) fn unplug(&mut self, node: NodeId, lan: Lan, span: Duration) {
        let until = self.now + span;
        let Some(port) = self.machines.get_mut(&node).and_then(|machine| machine.port_mut(lan)) else { return };
        port.down_until = port.down_until.max(Some(until));
        self.schedule.plan(until, Event::PortBack { node, lan });
        self.port_changed(node, lan);
        if lan == Lan::Front {
            self.disturb(Some(node), None);
        }
    }

    /// A machine loses its default route of a family for a while.
    pub(super) fn lose_way(&mut self, node: NodeId, family: Family, span: Duration) {
        let until = self.now + span;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let lost = machine.ways_lost.entry(family).or_insert(until);
        *lost = until.max(*lost);
        self.schedule.plan(until, Event::WaysBack(node));
        self.ways_changed(node);
    }

    /// A machine may have its default routes again.
    pub(super) fn ways_back(&mut self, node: NodeId) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let before = machine.ways_lost.len();
        machine.ways_lost.retain(|_, until| *until > now);
        if machine.ways_lost.len() != before {
            self.ways_changed(node);
        }
    }

    /// The kernel of a machine tells its speaker of the default routes.
    pub(super) fn ways_changed(&mut self, node: NodeId) {
        self.is_active();
        let Some(ways) = self.machines.get(&node).map(crate::machine::Machine::ways_out) else { return };
        if let Some(client) = self.clients.get(&ProcessId::Speaker(node)) {
            let epoch = client.epoch;
            self.plan_in(NETLINK, Event::Ways { node, epoch, ways });
        }
    }

    /// A speaker hears of its default routes.
    pub(super) fn ways_heard(
        &mut self,
        node: NodeId,
        epoch: u64,
        ways: BTreeMap<Family, BTreeSet<InterfaceIndex>>,
    ) -> Result<(), Violation> {
        if self.clients.get(&ProcessId::Speaker(node)).is_none_or(|client| client.epoch != epoch) {
            return Ok(());
        }
        self.is_active();
        self.frozen.remove(&ProcessId::Speaker(node));
        self.with_speaker(node, |speaker, now| speaker.ways_changed(now, ways))
    }

    /// An interface vanishes for a while.
    pub(super) fn vanish(&mut self, node: NodeId, lan: Lan, span: Duration) {
        let until = self.now + span;
        let Some(port) = self.machines.get_mut(&node).and_then(|machine| machine.port_mut(lan)) else { return };
        port.gone_until = port.gone_until.max(Some(until));
        self.schedule.plan(until, Event::PortBack { node, lan });
        self.port_changed(node, lan);
        // What is announced may depend on which interfaces there are.
        self.frozen.remove(&ProcessId::Speaker(node));
    }

    /// An interface gets another Ethernet address.
    pub(super) fn swap_mac(&mut self, node: NodeId, lan: Lan) {
        let Some(port) = self.machines.get_mut(&node).and_then(|machine| machine.port_mut(lan)) else { return };
        port.swaps = port.swaps.wrapping_add(1);
        self.port_changed(node, lan);
    }

    /// A cable may be in again, an interface be there, or its address be usable.
    pub(super) fn port_back(&mut self, node: NodeId, lan: Lan) {
        let now = self.now;
        let Some(port) = self.machines.get_mut(&node).and_then(|machine| machine.port_mut(lan)) else { return };
        let was_gone = port.gone_until.is_some();
        if !port.pass(now) {
            return;
        }
        if was_gone && port.gone_until.is_none() {
            let until = now + TENTATIVE;
            port.tentative_until = Some(until);
            self.schedule.plan(until, Event::PortBack { node, lan });
        }
        self.port_changed(node, lan);
    }

    /// The kernel of a machine tells its speaker of an interface.
    pub(super) fn port_changed(&mut self, node: NodeId, lan: Lan) {
        self.is_active();
        let Some(interface) = self.machines.get(&node).map(|machine| machine.interface(lan)) else { return };
        if let Some(client) = self.clients.get(&ProcessId::Speaker(node)) {
            let epoch = client.epoch;
            // One delay for all, so that nothing overtakes.
            self.plan_in(NETLINK, Event::Netlink { node, epoch, lan, interface });
        }
        if lan == Lan::Front {
            self.members_changed();
        }
        if lan == Lan::Front && self.machines.get(&node).is_some_and(|machine| machine.is_connected(lan)) {
            self.release(Some(node), None);
        }
    }

    /// A speaker hears from its kernel.
    pub(super) fn netlink(
        &mut self,
        node: NodeId,
        epoch: u64,
        lan: Lan,
        interface: Option<Interface>,
    ) -> Result<(), Violation> {
        if self.clients.get(&ProcessId::Speaker(node)).is_none_or(|client| client.epoch != epoch) {
            return Ok(());
        }
        self.is_active();
        self.frozen.remove(&ProcessId::Speaker(node));
        self.with_speaker(node, |speaker, now| speaker.interface_changed(now, lan, interface))
    }
}
