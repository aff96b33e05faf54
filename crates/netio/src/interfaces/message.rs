//! Messages of routing netlink: the two requests that are sent, and the few kinds of answers and news that are read.
//!
//! Only the attributes that are needed are looked at. What the kernel adds to its messages can so never make an interface
//! disappear from view. The layout is that of `linux/rtnetlink.h`, in the byte order of the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kit::{InterfaceIndex, Mac};
use l2::InterfaceFlags;

use super::{AddressState, InterfaceAddress};
use crate::netlink::{self, AF_INET, AF_INET6, NLMSG_DONE, NLMSG_ERROR, RawMessage, array, attributes, list_request};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const LINK_LENGTH: usize = 16;
const ADDRESS_LENGTH: usize = 8;

const AF_UNSPEC: u8 = 0;
const ARPHRD_ETHER: u16 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

const IFF_UP: u32 = 0x1;
const IFF_BROADCAST: u32 = 0x2;
const IFF_RUNNING: u32 = 0x40;
const IFF_NOARP: u32 = 0x80;
const IFF_LOWER_UP: u32 = 0x1_0000;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Links,
    Addresses,
}

/// A request for a list.
pub(super) fn request(list: List, sequence: u32) -> Vec<u8> {
    // A body of zeros: all families, all interfaces.
    match list {
        List::Links => list_request(RTM_GETLINK, sequence, &[0; LINK_LENGTH]),
        List::Addresses => list_request(RTM_GETADDR, sequence, &[0; ADDRESS_LENGTH]),
    }
}

/// A message with what its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Of the request that it answers; 0 for news.
    pub(super) sequence: u32,
    /// The list changed while it was made, and must be asked for again.
    pub(super) is_interrupted: bool,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Link(Link),
    LinkGone(InterfaceIndex),
    Address(InterfaceIndex, InterfaceAddress),
    AddressGone(InterfaceIndex, InterfaceAddress),
    /// The end of a list.
    Done,
    /// A request failed with this `errno`; 0 would be an acknowledgement.
    Error(i32),
    Other,
}

/// An interface without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: InterfaceIndex,
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) flags: InterfaceFlags,
    pub(super) master: Option<InterfaceIndex>,
}

/// The messages of a datagram; what comes after a message with an impossible length is left out.
pub(super) fn parse(datagram: &[u8]) -> impl Iterator<Item = Message> + '_ {
    netlink::messages(datagram).map(|RawMessage { kind, sequence, is_interrupted, body }| Message {
        sequence,
        is_interrupted,
        body: parse_body(kind, body).unwrap_or(Body::Other),
    })
}

fn parse_body(kind: u16, body: &[u8]) -> Option<Body> {
    match kind {
        NLMSG_DONE => Some(Body::Done),
        NLMSG_ERROR => Some(Body::Error(i32::from_ne_bytes(array(body, 0)?).saturating_neg())),
        RTM_NEWLINK | RTM_DELLINK => {
            // A bridge tells of its ports under its own address family; such a port has not gone when it leaves.
            if *body.first()? != AF_UNSPEC {
                return None;
            }
            let index = InterfaceIndex::new(u32::from_ne_bytes(array(body, 4)?))?;
            if kind == RTM_DELLINK { Some(Body::LinkGone(index)) } else { parse_link(index, body).map(Body::Link) }
        }
        RTM_NEWADDR | RTM_DELADDR => {
            let index = InterfaceIndex::new(u32::from_ne_bytes(array(body, 4)?))?;
            let address = parse_address(body)?;
            Some(match kind {
                RTM_NEWADDR => Body::Address(index, address),
                _ => Body::AddressGone(index, address),
            })
        }
        _ => None,
    }
}

fn parse_link(index: InterfaceIndex, body: &[u8]) -> Option<Link> {
    let hardware = u16::from_ne_bytes(array(body, 2)?);
    let kernel_flags = u32::from_ne_bytes(array(body, 8)?);
    let mut link = Link { index, name: String::new(), mac: None, flags: flags(kernel_flags), master: None };
    for (kind, value) in attributes(body.get(LINK_LENGTH..)?) {
        match kind {
            IFLA_IFNAME => {
                let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                link.name = String::from_utf8_lossy(name).into_owned();
            }
            IFLA_ADDRESS if hardware == ARPHRD_ETHER => {
                let mac = <[u8; 6]>::try_from(value).ok().map(Mac);
                link.mac = mac.filter(|mac| *mac != Mac::ZERO && !mac.is_multicast());
            }
            IFLA_MASTER => link.master = array(value, 0).map(u32::from_ne_bytes).and_then(InterfaceIndex::new),
            _ => {}
        }
    }
    Some(link)
}

fn flags(kernel: u32) -> InterfaceFlags {
    let pairs = [
        (IFF_UP, InterfaceFlags::UP),
        // Up below, and not waiting for anything above, such as 802.1X.
        (IFF_LOWER_UP | IFF_RUNNING, InterfaceFlags::CARRIER),
        (IFF_BROADCAST, InterfaceFlags::BROADCAST),
        (IFF_NOARP, InterfaceFlags::NOARP),
    ];
    pairs.into_iter().filter(|(bits, _)| kernel & bits == *bits).map(|(_, flag)| flag).collect()
}

fn parse_address(body: &[u8]) -> Option<InterfaceAddress> {
    let [family, prefix_length, short_flags, ..] = *body else { return None };
    let to_address = |value: &[u8]| match family {
        AF_INET => <[u8; 4]>::try_from(value).ok().map(|octets| IpAddr::V4(Ipv4Addr::from_octets(octets))),
        AF_INET6 => <[u8; 16]>::try_from(value).ok().map(|octets| IpAddr::V6(Ipv6Addr::from_octets(octets))),
        _ => None,
    };
    let (mut address, mut local, mut flags) = (None, None, u32::from(short_flags));
    for (kind, value) in attributes(body.get(ADDRESS_LENGTH..)?) {
        match kind {
            IFA_ADDRESS => address = to_address(value),
            IFA_LOCAL => local = to_address(value),
            IFA_FLAGS => flags = array(value, 0).map_or(flags, u32::from_ne_bytes),
            _ => {}
        }
    }
    let state =
        if flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0 { AddressState::Ready } else { AddressState::Tentative };
    // Of a point-to-point link IFA_ADDRESS is the other end.
    local.or(address).map(|address| InterfaceAddress { address, prefix_length, state })
}

#[cfg(test)]
pub(super) mod build {
    //! Messages as the kernel writes them.

    use super::*;

    pub(in super::super) use crate::netlink::build::{INTERRUPTED, attribute, message};

    pub(in super::super) fn link(index: u32, name: &str, kernel_flags: u32) -> Vec<u8> {
        let mut body = vec![AF_UNSPEC, 0];
        body.extend(ARPHRD_ETHER.to_ne_bytes());
        body.extend(index.to_ne_bytes());
        body.extend(kernel_flags.to_ne_bytes());
        body.extend([0; 4]);
        body.extend(attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat()));
        body.extend(attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, index as u8]));
        body
    }

    pub(in super::super) fn address(index: u32, address: IpAddr, prefix_length: u8, flags: u32) -> Vec<u8> {
        let (family, octets) = match address {
            IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
        };
        let mut body = vec![family, prefix_length, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(attribute(IFA_ADDRESS, &octets));
        body.extend(attribute(IFA_FLAGS, &flags.to_ne_bytes()));
        body
    }

    pub(in super::super) const NEW_LINK: u16 = RTM_NEWLINK;
    pub(in super::super) const DEL_LINK: u16 = RTM_DELLINK;
    pub(in super::super) const NEW_ADDRESS: u16 = RTM_NEWADDR;
    pub(in super::super) const DEL_ADDRESS: u16 = RTM_DELADDR;
    pub(in super::super) const DONE: u16 = NLMSG_DONE;
    pub(in super::super) const ERROR: u16 = NLMSG_ERROR;
    pub(in super::super) const UP: u32 = IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_LOWER_UP;
    pub(in super::super) const TENTATIVE: u32 = IFA_F_TENTATIVE;
}

#[cfg(test)]
mod tests {
    use super::build::*;
    use super::*;

    fn one(kind: u16, body: &[u8]) -> Body {
        let bytes = message(kind, 0, 0, body);
        let messages: Vec<Message> = parse(&bytes).collect();
        assert_eq!(messages.len(), 1);
        messages[0].body.clone()
    }

    fn link_of(body: &[u8]) -> Link {
        match one(NEW_LINK, body) {
            Body::Link(link) => link,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_link() {
        let mut body = link(7, "eth0", UP);
        body.extend(attribute(IFLA_MASTER, &9u32.to_ne_bytes()));
        let expected = Link {
            index: InterfaceIndex::new(7).unwrap(),
            name: "eth0".to_owned(),
            mac: Some("02:00:00:00:00:07".parse().unwrap()),
            flags: InterfaceFlags::UP | InterfaceFlags::CARRIER | InterfaceFlags::BROADCAST,
            master: InterfaceIndex::new(9),
        };
        assert_eq!(link_of(&body), expected);
        assert_eq!(one(DEL_LINK, &body), Body::LinkGone(expected.index));
    }

    #[test]
    fn carrier_needs_both_flags() {
        let carrier = |kernel| link_of(&link(1, "eth0", kernel)).flags.contains(InterfaceFlags::CARRIER);
        assert!(carrier(IFF_LOWER_UP | IFF_RUNNING));
        assert!(!carrier(IFF_LOWER_UP));
        assert!(!carrier(IFF_RUNNING));
    }

    #[test]
    fn only_an_ethernet_address_is_a_mac() {
        let mut body = link(1, "tun0", UP);
        body[2..4].copy_from_slice(&65534u16.to_ne_bytes());
        assert_eq!(link_of(&body).mac, None);
        for value in [&[0; 6][..], &[1, 0, 0x5e, 0, 0, 1], &[2; 20], &[]] {
            let mut body = link(1, "eth0", UP);
            body.extend(attribute(IFLA_ADDRESS, value));
            assert_eq!(link_of(&body).mac, None, "{value:?}");
        }
    }

    #[test]
    fn news_of_a_bridge_about_its_port_is_not_about_the_interface() {
        let mut body = link(7, "eth0", UP);
        body[0] = 7;
        assert_eq!(one(NEW_LINK, &body), Body::Other);
        assert_eq!(one(DEL_LINK, &body), Body::Other);
    }

    #[test]
    fn addresses() {
        let index = InterfaceIndex::new(3).unwrap();
        let v4 = "10.0.0.1".parse().unwrap();
        let v6 = "fe80::1".parse().unwrap();
        let ready = |address, prefix_length| InterfaceAddress { address, prefix_length, state: AddressState::Ready };
        assert_eq!(one(NEW_ADDRESS, &address(3, v4, 24, 0)), Body::Address(index, ready(v4, 24)));
        assert_eq!(one(DEL_ADDRESS, &address(3, v6, 64, 0)), Body::AddressGone(index, ready(v6, 64)));
        for flag in [IFA_F_TENTATIVE, IFA_F_DADFAILED] {
            let Body::Address(_, tentative) = one(NEW_ADDRESS, &address(3, v6, 64, flag)) else { panic!() };
            assert_eq!(tentative.state, AddressState::Tentative);
        }
        let mut point_to_point = address(3, "10.0.0.2".parse().unwrap(), 32, 0);
        point_to_point.extend(attribute(IFA_LOCAL, &[10, 0, 0, 1]));
        assert_eq!(one(NEW_ADDRESS, &point_to_point), Body::Address(index, ready(v4, 32)));
    }

    #[test]
    fn several_messages_and_attributes_that_are_not_known() {
        let mut body = link(1, "eth0", UP);
        body.extend(attribute(0x8039, &[1, 2, 3]));
        let mut bytes = message(NEW_LINK, 0, 5, &body);
        bytes.extend(message(99, 0, 0, &[1, 2, 3, 4, 5]));
        bytes.extend(message(DONE, INTERRUPTED, 5, &[0; 4]));
        bytes.extend(message(ERROR, 0, 5, &(-16i32).to_ne_bytes()));
        let messages: Vec<Message> = parse(&bytes).collect();
        assert_eq!(messages.len(), 4);
        assert!(matches!(&messages[0].body, Body::Link(link) if link.name == "eth0"));
        assert_eq!(messages[1].body, Body::Other);
        assert_eq!(messages[2], Message { sequence: 5, is_interrupted: true, body: Body::Done });
        assert_eq!(messages[3].body, Body::Error(16));
    }
}
