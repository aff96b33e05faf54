//! Interfaces and addresses of a host, by netlink.

use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use futures::TryStreamExt as _;
use ipnet::IpNet;
use kit::{Duration, Mac};
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::Host;
use crate::{Switch, eventually};

/// How long a carrier may take to be noticed; costs nothing while it is.
const CARRIER_LIMIT: Duration = Duration::from_secs(30);

/// An interface of a host.
#[derive(Clone, Debug)]
pub struct Interface {
    host: Host,
    name: String,
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
            let mut request = netlink.address().add(index, net.addr(), net.prefix_len());
            // Even without detection of duplicates, an address is tentative for a moment without this, and nothing can be
            // bound to it.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            request.execute().await
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

    /// Puts the cable back into a host that starts after it had no power: its kernel knows no neighbours. One that ran on
    /// would have asked for some in vain, and ask again only when a second is over, however early the cable is back.
    pub fn replug_anew(&self, interface: &str) -> Result<()> {
        self.replug(interface)?;
        // Until both ends know of it, what the host sends is dropped.
        let (far, far_interface) = self.cable(interface)?;
        for (host, interface) in [(self, interface), (&far, &*far_interface)] {
            eventually(CARRIER_LIMIT, || {
                let message = host.interface_find(interface)?;
                let is_up = |attribute: &LinkAttribute| *attribute == LinkAttribute::OperState(State::Up);
                ensure!(message.attributes.iter().any(is_up), "{}/{interface} has no carrier", host.name());
                Ok(())
            })?;
        }
        self.forget_neighbours()
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
}

pub(super) async fn find(netlink: &Handle, name: &str) -> Result<LinkMessage> {
    let mut found = Box::pin(netlink.link().get().match_name(name).execute());
    match found.try_next().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => bail!("there is no interface {name}"),
        Err(error) => Err(error).with_context(|| format!("there is no interface {name}")),
    }
}
