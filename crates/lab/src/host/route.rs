//! Routes of a host, by netlink.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use ipnet::IpNet;
use kit::Family;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use rtnetlink::{Handle, RouteMessageBuilder, RouteNextHopBuilder};

use super::Host;
use super::interface::find;

/// Routing tables of the kernel.
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;

/// A route in a host's main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Where next: several share the traffic.
    pub next_hops: Vec<RouteNextHop>,
}

/// One way a route takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteNextHop {
    /// The router; `None` for what is on the link.
    pub via: Option<IpAddr>,
    /// The interface by name; empty when it has gone meanwhile.
    pub interface: String,
}

impl Host {
    /// Sets the route to a network through one router or several, which then share the traffic. A route to the same
    /// network is replaced.
    pub fn set_route(&self, destination: &str, routers: &[IpAddr]) -> Result<()> {
        let network = IpNet::from_str(destination).with_context(|| format!("{destination:?} is not a network"))?;
        let (netlink, routers) = (self.netlink(), routers.to_vec());
        self.run(async move || route_set(&netlink, network, &routers, RouteProtocol::Static).await)
            .with_context(|| format!("a route to {destination} on {}", self.name()))
    }

    /// Removes the route to a network.
    pub fn remove_route(&self, destination: &str) -> Result<()> {
        let network = IpNet::from_str(destination).with_context(|| format!("{destination:?} is not a network"))?;
        let netlink = self.netlink();
        self.run(async move || route_remove(&netlink, network).await)
            .with_context(|| format!("removing the route to {destination} on {}", self.name()))
    }

    /// Makes the host take packets to an address for its own, without having the address on an interface.
    pub fn set_local(&self, address: IpAddr) -> Result<()> {
        let netlink = self.netlink();
        self.run(async move || {
            let loopback = find(&netlink, "lo").await?.header.index;
            Ok(netlink.route().add(local_message(address, loopback)?).replace().execute().await?)
        })
        .with_context(|| format!("taking {address} for its own on {}", self.name()))
    }

    /// Undoes [`Host::set_local`].
    pub fn unset_local(&self, address: IpAddr) -> Result<()> {
        let netlink = self.netlink();
        self.run(async move || {
            let loopback = find(&netlink, "lo").await?.header.index;
            Ok(netlink.route().del(local_message(address, loopback)?).execute().await?)
        })
        .with_context(|| format!("taking {address} no longer for its own on {}", self.name()))
    }

    /// The routes of a family in the main table, those that were learnt included.
    pub fn routes(&self, family: Family) -> Result<Vec<Route>> {
        let netlink = self.netlink();
        self.run(async move || routes(&netlink, family).await)
    }

    /// The route to exactly this network, if there is one.
    pub fn route_to(&self, destination: &str) -> Result<Option<Route>> {
        let network = IpNet::from_str(destination).with_context(|| format!("{destination:?} is not a network"))?;
        let routes = self.routes(Family::of(&network.addr()))?;
        Ok(routes.into_iter().find(|route| route.destination == network))
    }
}

/// Sets a route from inside its host; `protocol` tells where it comes from.
pub(crate) async fn route_set(
    netlink: &Handle,
    network: IpNet,
    routers: &[IpAddr],
    protocol: RouteProtocol,
) -> Result<()> {
    let mut message = route_message(network, routers)?;
    message.header.protocol = protocol;
    Ok(netlink.route().add(message).replace().execute().await?)
}

/// Removes a route from inside its host.
pub(crate) async fn route_remove(netlink: &Handle, network: IpNet) -> Result<()> {
    let mut message = route_message(network, &[])?;
    // Whichever scope and origin it has.
    message.header.scope = RouteScope::NoWhere;
    message.header.protocol = RouteProtocol::Unspec;
    Ok(netlink.route().del(message).execute().await?)
}

fn route_message(network: IpNet, routers: &[IpAddr]) -> Result<RouteMessage> {
    let network = network.trunc();
    let builder = RouteMessageBuilder::<IpAddr>::new().destination_prefix(network.addr(), network.prefix_len())?;
    let builder = match routers {
        [] => builder,
        [router] => builder.gateway(*router)?,
        several => {
            let family = match network {
                IpNet::V4(_) => AddressFamily::Inet,
                IpNet::V6(_) => AddressFamily::Inet6,
            };
            let next_hop = |router: &IpAddr| Ok(RouteNextHopBuilder::new(family).via(*router)?.build());
            builder.multipath(several.iter().map(next_hop).collect::<Result<_>>()?)
        }
    };
    Ok(builder.build())
}

fn local_message(address: IpAddr, loopback: u32) -> Result<RouteMessage> {
    let bits = Family::of(&address).bits();
    let builder = RouteMessageBuilder::<IpAddr>::new().destination_prefix(address, bits)?;
    let builder = builder.output_interface(loopback).table_id(TABLE_LOCAL.into()).kind(RouteType::Local);
    Ok(builder.scope(RouteScope::Host).protocol(RouteProtocol::Static).build())
}

async fn routes(netlink: &Handle, family: Family) -> Result<Vec<Route>> {
    let names: BTreeMap<u32, String> = Box::pin(netlink.link().get().execute())
        .try_filter_map(async |message| Ok(name_of(&message).map(|name| (message.header.index, name))))
        .try_collect()
        .await?;
    let query = match family {
        Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    let messages: Vec<_> = Box::pin(netlink.route().get(query).execute()).try_collect().await?;
    let name = |index: Option<u32>| index.and_then(|index| names.get(&index).cloned()).unwrap_or_default();
    let mut routes: Vec<_> = messages
        .iter()
        .filter(|message| message.header.table == TABLE_MAIN && message.header.kind == RouteType::Unicast)
        .filter_map(|message| route_read(message, family, &name))
        .collect();
    routes.sort();
    Ok(routes)
}

fn name_of(message: &LinkMessage) -> Option<String> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn route_read(message: &RouteMessage, family: Family, name: &impl Fn(Option<u32>) -> String) -> Option<Route> {
    let (mut destination, mut next_hops) = (family.address(0)?, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = address_of(address)?,
            RouteAttribute::MultiPath(several) => {
                next_hops = several
                    .iter()
                    .map(|one| RouteNextHop {
                        via: gateway_of(&one.attributes),
                        interface: name(Some(one.interface_index)),
                    })
                    .collect();
            }
            _ => {}
        }
    }
    if next_hops.is_empty() {
        let index = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        next_hops.push(RouteNextHop { via: gateway_of(&message.attributes), interface: name(index) });
    }
    next_hops.sort();
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(Route { destination, next_hops })
}

fn gateway_of(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => address_of(address),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
