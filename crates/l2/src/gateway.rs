//! The routers behind which the clients of other segments are: told of each address once more, by a frame of their own.
//!
//! Some routers take no notice of what is sent to everybody, and all take notice of what they are asked. Which routers there
//! are is told by the driver; where they are on the segment is learned from what they say there, and asked if they are
//! silent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use kit::{Duration, Family, Instant, InterfaceIndex, Mac};

use crate::answer;
use crate::wire::Frame;

/// A router whose station is not known is asked for it at most once in this time.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// A router that a default route of this host leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// The interface that leads to it.
    pub interface: InterfaceIndex,
    /// Its address on that segment.
    pub address: IpAddr,
}

/// The routers, at most one of each family.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gateways {
    routers: BTreeMap<Family, Router>,
}

#[derive(Clone, Debug)]
struct Router {
    gateway: Gateway,
    mac: Option<Mac>,
    asked: Option<Instant>,
}

impl Gateways {
    /// Replaces the routers; of those that stay, what is known stays.
    pub(crate) fn replace(&mut self, gateways: &BTreeMap<Family, Gateway>) {
        self.routers.retain(|family, router| gateways.get(family) == Some(&router.gateway));
        for (family, gateway) in gateways {
            self.routers.entry(*family).or_insert(Router { gateway: *gateway, mac: None, asked: None });
        }
    }

    /// Somebody said which station an address has.
    pub(crate) fn heard(&mut self, interface: InterfaceIndex, address: IpAddr, mac: Mac) {
        if let Some(router) = self.routers.get_mut(&Family::of(&address))
            && router.gateway == (Gateway { interface, address })
        {
            router.mac = Some(mac);
        }
    }

    /// What tells the router of the interface about an address: for as long as its station is not known, the question where
    /// it is, from time to time.
    pub(crate) fn tell(
        &mut self,
        now: Instant,
        interface: InterfaceIndex,
        (own, link_local): (Mac, Option<Ipv6Addr>),
        address: IpAddr,
    ) -> Option<Frame> {
        let router = self.routers.get_mut(&Family::of(&address))?;
        if router.gateway.interface != interface || router.gateway.address == address {
            return None;
        }
        if router.mac.is_none() {
            if router.asked.is_some_and(|asked| now.since(asked) < ASK_INTERVAL) {
                return None;
            }
            router.asked = Some(now);
        }
        match (address, router.gateway.address, router.mac) {
            (IpAddr::V4(address), IpAddr::V4(router), mac) => Some(answer::arp_question(own, address, (router, mac))),
            (IpAddr::V6(address), IpAddr::V6(router), Some(mac)) => {
                Some(answer::advertisement_to(own, link_local?, address, (mac, router)))
            }
            (IpAddr::V6(_), IpAddr::V6(router), None) => Some(answer::solicitation(own, link_local?, router)),
            (IpAddr::V4(_), IpAddr::V6(_), _) | (IpAddr::V6(_), IpAddr::V4(_), _) => None,
        }
    }
}
