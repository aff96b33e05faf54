//! Frames arrive: what is a question is answered, and what is a claim is noted.

use std::net::{IpAddr, Ipv6Addr};

use kit::{Instant, InterfaceIndex, Mac, Outbox};

use super::claims::{Audience, Claim};
use super::{Announcement, Counters, Responder, send};
use crate::answer;
use crate::link::Placement;
use crate::wire::arp::Operation;
use crate::wire::ndp::Message;
use crate::wire::{Arp, Frame, Ndp, Payload};
use crate::{ClaimKind, Output, Protocol};

impl Responder {
    pub(super) fn frame(&mut self, now: Instant, index: InterfaceIndex, bytes: &[u8], out: &mut Outbox<Output>) {
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(discard) => {
                self.malformed = self.malformed.saturating_add(u64::from(discard.is_malformed()));
                return;
            }
        };
        let Some(own) = self.links.get(&index).and_then(|link| link.face.interface.mac) else { return };
        // What another interface of this host sent is neither a question nor a claim.
        if self.own_macs.contains_key(&frame.source) {
            return;
        }
        match frame.payload {
            // Contract 5.4: frames to other stations are ignored.
            Payload::Arp(arp) if frame.destination == own || frame.destination == Mac::BROADCAST => {
                self.arp(now, index, own, (frame.destination, &arp), out);
            }
            Payload::Ndp(ndp) if frame.destination == own || frame.destination.is_multicast() => {
                self.ndp(now, index, own, frame.source, &ndp, out);
            }
            Payload::Arp(_) | Payload::Ndp(_) => {}
        }
    }

    fn arp(
        &mut self,
        now: Instant,
        index: InterfaceIndex,
        own: Mac,
        (destination, arp): (Mac, &Arp),
        out: &mut Outbox<Output>,
    ) {
        if !self.is_foreign(arp.sender_mac) {
            return;
        }
        let kind = match arp.operation {
            Operation::Request => ClaimKind::ArpRequest,
            Operation::Reply => ClaimKind::ArpReply,
        };
        let audience = if destination == own { Audience::Us } else { Audience::Everybody };
        let claim = Claim { interface: index, mac: arp.sender_mac, kind, audience };
        self.heard(now, IpAddr::V4(arp.sender_address), claim, out);
        if arp.operation == Operation::Request {
            let target = IpAddr::V4(arp.target_address);
            self.answer(index, target, &answer::arp_reply(own, arp), out);
            if destination == Mac::BROADCAST && arp.sender_address.is_unspecified() {
                self.asked_by(now, target, arp.sender_mac);
            }
        }
    }

    fn ndp(
        &mut self,
        now: Instant,
        index: InterfaceIndex,
        own: Mac,
        frame_source: Mac,
        ndp: &Ndp,
        out: &mut Outbox<Output>,
    ) {
        match ndp.message {
            Message::Solicitation { target, source_mac } => {
                let Some(link_local) = self.link_local(index) else { return };
                if ndp.source.is_unspecified() {
                    let advertisement = answer::unsolicited_advertisement(own, link_local, target);
                    self.answer(index, IpAddr::V6(target), &advertisement, out);
                    return;
                }
                // RFC 4861 section 4.3 demands the option in a multicast solicitation, so without it there is nobody to
                // answer (section 7.2.4 would have us resolve the sender first, and the kernel does not answer either).
                // A unicast one may lack it (section 7.2.2): the frame says where it comes from.
                let is_unicast = !ndp.destination.is_multicast();
                let Some(asker) = source_mac.or(is_unicast.then_some(frame_source)) else { return };
                if !self.is_foreign(asker) {
                    return;
                }
                let (kind, audience) = (ClaimKind::NeighborSolicitation, audience(ndp));
                let claim = Claim { interface: index, mac: asker, kind, audience };
                self.heard(now, IpAddr::V6(ndp.source), claim, out);
                let advertisement = answer::solicited_advertisement(own, link_local, target, (asker, ndp.source));
                self.answer(index, IpAddr::V6(target), &advertisement, out);
                if !is_unicast && ndp.source.is_unicast_link_local() {
                    self.asked_by(now, IpAddr::V6(target), asker);
                }
            }
            Message::Advertisement { target, target_mac, .. } => {
                let mac = target_mac.unwrap_or(frame_source);
                if self.is_foreign(mac) {
                    let (kind, audience) = (ClaimKind::NeighborAdvertisement, audience(ndp));
                    let claim = Claim { interface: index, mac, kind, audience };
                    self.heard(now, IpAddr::V6(target), claim, out);
                }
            }
        }
    }

    /// True for an address that can be that of another machine.
    fn is_foreign(&self, mac: Mac) -> bool {
        mac != Mac::ZERO && !mac.is_multicast() && !self.own_macs.contains_key(&mac)
    }

    fn link_local(&self, index: InterfaceIndex) -> Option<Ipv6Addr> {
        self.links.get(&index)?.face.interface.link_local_source()
    }

    /// The announcement of the address, if it is answered on the interface.
    pub(super) fn announced_on(&mut self, index: InterfaceIndex, address: &IpAddr) -> Option<&mut Announcement> {
        let face = &self.links.get(&index)?.face;
        let announcement = self.addresses.get_mut(address)?;
        let placement = face.placement(Protocol::of(address), &announcement.interfaces);
        (placement != Placement::Absent).then_some(announcement)
    }

    fn answer(&mut self, index: InterfaceIndex, target: IpAddr, answer: &Frame, out: &mut Outbox<Output>) {
        let Some(announcement) = self.announced_on(index, &target) else { return };
        let counters = &mut announcement.counters;
        counters.add(&Counters { requests: 1, responses: 1, ..Counters::default() });
        out.push(send(index, &target, answer));
    }

    /// A machine said that an address is its own.
    fn heard(&mut self, now: Instant, address: IpAddr, claim: Claim, out: &mut Outbox<Output>) {
        self.gateways.heard(claim.interface, address, claim.mac);
        self.fellows.heard(address, claim.mac);
        self.claim(now, address, claim, out);
    }
}

fn audience(ndp: &Ndp) -> Audience {
    if ndp.destination.is_multicast() { Audience::Everybody } else { Audience::Us }
}
