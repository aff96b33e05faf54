//! Interfaces, addresses and routes of a host, by netlink.

use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt as _;
use ipnet::IpNet;
use kit::{Family, Mac};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder, RouteNextHopBuilder};

use super::Host;
use crate::Switch;

/// Routing tables of the kernel.
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;

/// An interface of a host.
#[derive(Clone, Debug)]
pub struct Interface {
    host: Host,
    name: String,
}

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

impl Interface {
    /// The host it belongs to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives it an address with the length of its network, such as `10.0.0.1/24`.
    pub fn address(&self, address: &str) -> Result<&Self> {
        self.host.add_address(&self.name, address)?;
        Ok(self)
    }

    /// Its MAC address.
    pub fn mac(&self) -> Result<Mac> {
        self.host.mac(&self.name)
    }
}

impl Host {
    /// Connects the host to a switch by a new interface, which is up.
    pub fn plug(&self, interface: &str, switch: &Switch) -> Result<Interface> {
        switch.attach(self, interface)?;
        Ok(Interface { host: self.clone(), name: interface.to_owned() })
    }

    /// Connects two hosts by a cable; both interfaces are new and up.
    pub fn cable_to(&self, interface: &str, far: &Host, far_interface: &str) -> Result<(Interface, Interface)> {
        self.veth_make(interface, far, far_interface)?;
        let near = Interface { host: self.clone(), name: interface.to_owned() };
        Ok((near, Interface { host: far.clone(), name: far_interface.to_owned() }))
    }

    /// Makes a pair of interfaces, one end here and one there, and takes both up.
    pub(crate) fn veth_make(&self, interface: &str, far: &Host, far_interface: &str) -> Result<()> {
        let (near_mac, far_mac) = (self.next_mac()?, far.next_mac()?);
        let far_thread = u32::try_from(far.thread_id().get()).context("a thread id is negative")?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new().name(far_interface).address(far_mac.0.to_vec());
        let peer = peer.setns_by_pid(far_thread).build();
        let message = LinkMessageBuilder::<LinkVeth>::new(interface, far_interface)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .address(near_mac.0.to_vec())
            .build();
        let netlink = self.netlink();
        self.run(async move || Ok(netlink.link().add(message).execute().await?))
            .with_context(|| format!("a cable from {}/{interface} to {}/{far_interface}", self.name(), far.name()))?;
        self.cable_set(interface, far, far_interface);
        far.cable_set(far_interface, self, interface);
        far.up(far_interface)?;
        self.up(interface)
    }

    /// MAC addresses are the same in every run: locally administered, the host's number, the interface's number.
    fn next_mac(&self) -> Result<Mac> {
        let position = u8::try_from(self.0.cables.lock().map_or(0, |cables| cables.len()))
            .context("a host has 256 interfaces at most")?;
        let [high, low] = self.number().to_be_bytes();
        Ok(Mac([0x02, 0, 0, high, low, position]))
    }

    /// Gives an interface an address with the length of its network, such as `fd00::1/64`.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<()> {
        let net = IpNet::from_str(address).with_context(|| format!("{address:?} is not an address with a length"))?;
        self.with_interface(interface, async move |netlink, index| {
            netlink.address().add(index, net.addr(), net.prefix_len()).execute().await
        })
        .with_context(|| format!("adding {address} to {}/{interface}", self.name()))
    }

    /// Takes an address away from an interface.
    pub fn remove_address(&self, interface: &str, address: IpAddr) -> Result<()> {
        self.with_interface(interface, async move |netlink, index| {
            let of = netlink.address().get().set_link_index_filter(index).set_address_filter(address);
            let found: Vec<_> = of.execute().try_collect().await?;
            for message in found {
                netlink.address().del(message).execute().await?;
            }
            Ok(())
        })
        .with_context(|| format!("removing {address} from {}/{interface}", self.name()))
    }

    /// Takes an interface up.
    pub fn up(&self, interface: &str) -> Result<()> {
        self.with_interface(interface, async |netlink, index| {
            netlink.link().set(LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build()).execute().await
        })
        .with_context(|| format!("taking {}/{interface} up", self.name()))
    }

    /// Takes an interface down, as its administrator would. Its IPv6 addresses and its routes are lost with it.
    pub fn down(&self, interface: &str) -> Result<()> {
        self.with_interface(interface, async |netlink, index| {
            netlink.link().set(LinkMessageBuilder::<LinkUnspec>::new().index(index).down().build()).execute().await
        })
        .with_context(|| format!("taking {}/{interface} down", self.name()))
    }

    /// Pulls the cable of an interface: the host sees that the carrier is gone, and keeps its addresses.
    pub fn unplug(&self, interface: &str) -> Result<()> {
        let (far, far_interface) = self.cable(interface)?;
        far.down(&far_interface)
    }

    /// Puts the cable of an interface back.
    pub fn replug(&self, interface: &str) -> Result<()> {
        let (far, far_interface) = self.cable(interface)?;
        far.up(&far_interface)
    }

    /// Removes an interface, and with it the other end of its cable.
    pub fn remove_interface(&self, interface: &str) -> Result<()> {
        self.with_interface(interface, async |netlink, index| netlink.link().del(index).execute().await)
            .with_context(|| format!("removing {}/{interface}", self.name()))
    }

    /// Changes the MAC address of an interface.
    pub fn set_mac(&self, interface: &str, mac: Mac) -> Result<()> {
        self.with_interface(interface, async move |netlink, index| {
            let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).address(mac.0.to_vec()).build();
            netlink.link().set(message).execute().await
        })
        .with_context(|| format!("setting the MAC address of {}/{interface}", self.name()))
    }

    /// The MAC address of an interface.
    pub fn mac(&self, interface: &str) -> Result<Mac> {
        let message = self.interface_find(interface)?;
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            _ => None,
        });
        mac.with_context(|| format!("{}/{interface} has no MAC address", self.name()))
    }

    /// The index of an interface.
    pub fn interface_index(&self, interface: &str) -> Result<u32> {
        Ok(self.interface_find(interface)?.header.index)
    }

    fn interface_find(&self, interface: &str) -> Result<LinkMessage> {
        let (netlink, name) = (self.netlink(), interface.to_owned());
        self.run(async move || find(&netlink, &name).await)
    }

    fn with_interface<F>(&self, interface: &str, work: F) -> Result<()>
    where
        F: AsyncFnOnce(Handle, u32) -> Result<(), rtnetlink::Error> + Send + 'static,
    {
        let (netlink, name) = (self.netlink(), interface.to_owned());
        self.run(async move || {
            let index = find(&netlink, &name).await?.header.index;
            Ok(work(netlink, index).await?)
        })
    }

    /// Sets the route to a network through one router or several, which then share the traffic. A route to the same
    /// network is replaced.
    pub fn set_route(&self, destination: &str, routers: &[IpAddr]) -> Result<()> {
        let network = IpNet::from_str(destination).with_context(|| format!("{destination:?} is not a network"))?;
        let message = route_message(network, routers)?;
        let netlink = self.netlink();
        self.run(async move || Ok(netlink.route().add(message).replace().execute().await?))
            .with_context(|| format!("a route to {destination} on {}", self.name()))
    }

    /// Removes the route to a network.
    pub fn remove_route(&self, destination: &str) -> Result<()> {
        let network = IpNet::from_str(destination).with_context(|| format!("{destination:?} is not a network"))?;
        let mut message = route_message(network, &[])?;
        message.header.scope = RouteScope::NoWhere;
        let netlink = self.netlink();
        self.run(async move || Ok(netlink.route().del(message).execute().await?))
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

async fn find(netlink: &Handle, name: &str) -> Result<LinkMessage> {
    let mut found = Box::pin(netlink.link().get().match_name(name).execute());
    match found.try_next().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => bail!("there is no interface {name}"),
        Err(error) => Err(error).with_context(|| format!("there is no interface {name}")),
    }
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
    let names: std::collections::BTreeMap<u32, String> = Box::pin(netlink.link().get().execute())
        .try_filter_map(async |message| Ok(name_of(&message).map(|name| (message.header.index, name))))
        .try_collect()
        .await?;
    let query = match family {
        Family::V4 => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        Family::V6 => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
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
