//! MP_REACH_NLRI and MP_UNREACH_NLRI: routes of any family (RFC 4760; next hops of RFC 2545 and RFC 8950).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kit::Family;

use super::error::Fault;
use super::{AfiSafi, RawAttribute, prefix};

/// Where packets for a route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, perhaps with a link-local one for those on the same link (RFC 2545 section 3).
    V6 {
        /// The global address; link-local itself where there is no global one.
        address: Ipv6Addr,
        /// The link-local address of the same router.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The address that is of use beyond the link, if there is one.
    pub fn address(&self) -> IpAddr {
        match self {
            NextHop::V4(address) => IpAddr::V4(*address),
            NextHop::V6 { address, .. } => IpAddr::V6(*address),
        }
    }

    /// The family of the address.
    pub fn family(&self) -> Family {
        Family::of(&self.address())
    }

    /// True when packets can be sent to this address: what RFC 4271 section 6.3 calls a valid host address.
    pub(super) fn is_host(&self) -> bool {
        match self {
            NextHop::V4(address) => {
                let [first, ..] = address.octets();
                first != 0 && !address.is_loopback() && !address.is_multicast() && !address.is_broadcast()
            }
            NextHop::V6 { address, link_local } => {
                let fit =
                    |address: &Ipv6Addr| !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
                fit(address) && link_local.as_ref().is_none_or(fit)
            }
        }
    }

    /// The bytes of the next hop field: 4, 16 or 32.
    pub(super) fn encoded(&self) -> Vec<u8> {
        match self {
            NextHop::V4(address) => address.octets().to_vec(),
            NextHop::V6 { address, link_local } => {
                let mut bytes = address.octets().to_vec();
                bytes.extend(link_local.iter().flat_map(Ipv6Addr::octets));
                bytes
            }
        }
    }

    /// RFC 4760 section 3 and RFC 2545 section 3: 4 bytes, 16, or 16 twice. Some routers leave the global address
    /// of two empty when they have none; then the link-local one is the address.
    fn decode(bytes: &[u8]) -> Option<NextHop> {
        if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            return Some(NextHop::V4(Ipv4Addr::from_octets(octets)));
        }
        let (first, rest) = bytes.split_first_chunk::<16>()?;
        let address = Ipv6Addr::from_octets(*first);
        if rest.is_empty() {
            return Some(NextHop::V6 { address, link_local: None });
        }
        let second = Ipv6Addr::from_octets(rest.try_into().ok()?);
        Some(if address.is_unspecified() || address == second {
            NextHop::V6 { address: second, link_local: None }
        } else {
            NextHop::V6 { address, link_local: Some(second) }
        })
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::V4(address) => address.fmt(f),
            NextHop::V6 { address, link_local: None } => address.fmt(f),
            NextHop::V6 { address, link_local: Some(link_local) } => write!(f, "{address} ({link_local})"),
        }
    }
}

/// The content of MP_REACH_NLRI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) routes: AfiSafi,
    /// What could be read; `None` for a family that is not known here.
    pub(super) known: Option<(NextHop, Vec<IpNet>)>,
}

/// The content of MP_UNREACH_NLRI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreach {
    pub(super) routes: AfiSafi,
    /// What could be read; `None` for a family that is not known here.
    pub(super) prefixes: Option<Vec<IpNet>>,
    /// Nothing follows the family: End-of-RIB if nothing else is in the message (RFC 4724 section 2).
    pub(super) is_empty: bool,
}

impl Reach {
    /// RFC 7606 sections 5.3 and 7.11: too short, a next hop that does not fit the family, or wrong prefixes.
    pub(super) fn decode(attribute: &RawAttribute<'_>) -> Result<Reach, Fault> {
        let mut reader = attribute.reader();
        let head = (reader.u16(), reader.u8(), reader.u8());
        let (Some(afi), Some(safi), Some(length)) = head else {
            return Err(attribute.fault(format!("{} bytes are less than the least of 5", attribute.value.len())));
        };
        let routes = AfiSafi { afi, safi };
        let offset = reader.offset();
        let next_hop = reader.take(usize::from(length));
        let (Some(next_hop), Some(_reserved)) = (next_hop, reader.u8()) else {
            return Err(Fault::new(offset, format!("a next hop of {length} bytes goes beyond the attribute")));
        };
        let Some(family) = routes.unicast_family() else {
            return Ok(Reach { routes, known: None });
        };
        let known =
            NextHop::decode(next_hop).filter(|next_hop| family == Family::V4 || !matches!(next_hop, NextHop::V4(_)));
        let Some(next_hop) = known else {
            return Err(Fault::new(offset, format!("{routes} has no next hop of {length} bytes")));
        };
        Ok(Reach { routes, known: Some((next_hop, prefix::decode_all(&mut reader, family)?)) })
    }
}

impl Unreach {
    /// RFC 7606 sections 5.3 and 7.12.
    pub(super) fn decode(attribute: &RawAttribute<'_>) -> Result<Unreach, Fault> {
        let mut reader = attribute.reader();
        let (Some(afi), Some(safi)) = (reader.u16(), reader.u8()) else {
            return Err(attribute.fault(format!("{} bytes are less than the least of 3", attribute.value.len())));
        };
        let routes = AfiSafi { afi, safi };
        let is_empty = reader.is_empty();
        let prefixes = match routes.unicast_family() {
            Some(family) => Some(prefix::decode_all(&mut reader, family)?),
            None => None,
        };
        Ok(Unreach { routes, prefixes, is_empty })
    }
}

fn prefixes_format(prefixes: &[IpNet], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !prefixes.is_empty() {
        f.write_str(":")?;
    }
    prefixes.iter().try_for_each(|prefix| write!(f, " {prefix}"))
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.known {
            Some((next_hop, prefixes)) => {
                write!(f, "{} next-hop {next_hop}", self.routes)?;
                prefixes_format(prefixes, f)
            }
            None => self.routes.fmt(f),
        }
    }
}

impl fmt::Display for Unreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.routes.fmt(f)?;
        prefixes_format(self.prefixes.as_deref().unwrap_or_default(), f)
    }
}
