//! The frames that we send: answers to what was asked, and announcements that nobody asked for (contract 5.4 to 5.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kit::Mac;

use crate::wire::arp::Operation;
use crate::wire::ndp::{ALL_NODES, Message, solicited_node};
use crate::wire::{Arp, Frame, Ndp, Payload};

/// The answer to an ARP request (RFC 826; contract 5.4): unicast to the sender's hardware address, whatever the sender's
/// protocol address is. So probes are answered, which is how a host that means to take the address is told that it is in
/// use (RFC 5227 section 2.1.1), and so are announcements of others.
///
/// RFC 5227 section 2.4 would let us broadcast a defence as well. We do not: an address that moves from node to node is
/// announced by the new node while the old one still answers, and the old one must not call the traffic back.
pub(crate) fn arp_reply(own: Mac, request: &Arp) -> Frame {
    let reply = Arp {
        operation: Operation::Reply,
        sender_mac: own,
        sender_address: request.target_address,
        target_mac: request.sender_mac,
        target_address: request.sender_address,
    };
    Frame { source: own, destination: request.sender_mac, payload: Payload::Arp(reply) }
}

/// The answer to a Neighbor Solicitation from `asker` (RFC 4861 section 7.2.4; contract 5.5).
///
/// The Override flag stays 0, which RFC 4861 section 7.2.4 asks of those who answer for an address that others may answer
/// for as well. Here it keeps the old node, while it still answers, from winning back who has already been told of the new
/// one; and it costs nothing: who has no entry takes any answer, and who asks again because the old node is dead asks by
/// multicast after its unicast probes have failed.
pub(crate) fn solicited_advertisement(
    own: Mac,
    link_local: Ipv6Addr,
    target: Ipv6Addr,
    asker: (Mac, Ipv6Addr),
) -> Frame {
    let (mac, destination) = asker;
    let message =
        Message::Advertisement { target, target_mac: Some(own), router: false, solicited: true, overriding: false };
    let ndp = Ndp { source: link_local, destination, message };
    Frame { source: own, destination: mac, payload: Payload::Ndp(ndp) }
}

/// A Neighbor Advertisement to all nodes: an announcement (RFC 4861 section 7.2.6; contract 5.5), and also the answer to
/// a probe for duplicates, which has no address to send an answer to (RFC 4861 section 7.2.4, RFC 4862 section 5.4.3).
pub(crate) fn unsolicited_advertisement(own: Mac, link_local: Ipv6Addr, target: Ipv6Addr) -> Frame {
    let message =
        Message::Advertisement { target, target_mac: Some(own), router: false, solicited: false, overriding: true };
    let ndp = Ndp { source: link_local, destination: ALL_NODES, message };
    Frame { source: own, destination: Mac::multicast_for(ALL_NODES), payload: Payload::Ndp(ndp) }
}

/// The same to one neighbour.
pub(crate) fn advertisement_to(own: Mac, link_local: Ipv6Addr, target: Ipv6Addr, to: (Mac, Ipv6Addr)) -> Frame {
    let message =
        Message::Advertisement { target, target_mac: Some(own), router: false, solicited: false, overriding: true };
    let (mac, destination) = to;
    Frame { source: own, destination: mac, payload: Payload::Ndp(Ndp { source: link_local, destination, message }) }
}

/// Asks for the station of a neighbour (RFC 4861 section 7.2.2).
pub(crate) fn solicitation(own: Mac, link_local: Ipv6Addr, target: Ipv6Addr) -> Frame {
    let destination = solicited_node(target);
    let message = Message::Solicitation { target, source_mac: Some(own) };
    let ndp = Ndp { source: link_local, destination, message };
    Frame { source: own, destination: Mac::multicast_for(destination), payload: Payload::Ndp(ndp) }
}

/// Asks a neighbour for its station in the name of an address. It notes where the address is before it answers (RFC 826,
/// "Packet Reception"), also if it takes no notice of announcements. The question goes to its station if that is known.
pub(crate) fn arp_question(own: Mac, address: Ipv4Addr, to: (Ipv4Addr, Option<Mac>)) -> Frame {
    let (target_address, mac) = to;
    let arp = Arp {
        operation: Operation::Request,
        sender_mac: own,
        sender_address: address,
        target_mac: Mac::ZERO,
        target_address,
    };
    Frame { source: own, destination: mac.unwrap_or(Mac::BROADCAST), payload: Payload::Arp(arp) }
}

/// Asks who has an address: one station, or all. The ARP question is a probe (RFC 5227 section 2.1.1), which changes nothing in
/// the tables of those who hear it; the other one is a solicitation (RFC 4861 section 7.2.2, to one station as in 7.3.3).
pub(crate) fn question(own: Mac, link_local: Option<Ipv6Addr>, address: IpAddr, whom: Option<Mac>) -> Option<Frame> {
    match (address, link_local, whom) {
        (IpAddr::V4(address), _, whom) => Some(arp_question(own, Ipv4Addr::UNSPECIFIED, (address, whom))),
        (IpAddr::V6(address), Some(link_local), None) => Some(solicitation(own, link_local, address)),
        (IpAddr::V6(target), Some(link_local), Some(mac)) => {
            let message = Message::Solicitation { target, source_mac: Some(own) };
            let ndp = Ndp { source: link_local, destination: target, message };
            Some(Frame { source: own, destination: mac, payload: Payload::Ndp(ndp) })
        }
        (IpAddr::V6(_), None, _) => None,
    }
}

/// Both forms of an ARP announcement (contract 5.4): hosts differ in which one they believe.
pub(crate) fn gratuitous_arp(own: Mac, address: Ipv4Addr) -> [Frame; 2] {
    [Operation::Request, Operation::Reply].map(|operation| {
        let arp = Arp {
            operation,
            sender_mac: own,
            sender_address: address,
            target_mac: Mac::BROADCAST,
            target_address: address,
        };
        Frame { source: own, destination: Mac::BROADCAST, payload: Payload::Arp(arp) }
    })
}

/// The one frame that defends an address (RFC 5227 section 2.4); none for an IPv6 address without a link-local address to
/// send it from.
pub(crate) fn defence(own: Mac, link_local: Option<Ipv6Addr>, address: IpAddr) -> Option<Frame> {
    match (address, link_local) {
        (IpAddr::V4(address), _) => {
            let [request, _] = gratuitous_arp(own, address);
            Some(request)
        }
        (IpAddr::V6(address), Some(link_local)) => Some(unsolicited_advertisement(own, link_local, address)),
        (IpAddr::V6(_), None) => None,
    }
}

/// One round of announcements; none for an IPv6 address without a link-local address to send it from.
pub(crate) fn announcement(own: Mac, link_local: Option<Ipv6Addr>, address: IpAddr) -> Vec<Frame> {
    match (address, link_local) {
        (IpAddr::V4(address), _) => gratuitous_arp(own, address).to_vec(),
        (IpAddr::V6(address), Some(link_local)) => vec![unsolicited_advertisement(own, link_local, address)],
        (IpAddr::V6(_), None) => Vec::new(),
    }
}
