//! A switch: a host with a bridge and nothing else, so that no host of the lab sees another's cable.

use anyhow::{Context as _, Result};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use crate::Host;

const BRIDGE: &str = "bridge";

/// An Ethernet segment that hosts plug into.
#[derive(Clone, Debug)]
pub struct Switch {
    host: Host,
}

impl Switch {
    pub(crate) fn start(host: Host) -> Result<Switch> {
        let netlink = host.netlink();
        host.run(async move || {
            // Without a querier a snooping bridge may drop the multicast that neighbour discovery lives on.
            let bridge = LinkMessageBuilder::<LinkBridge>::new(BRIDGE).mcast_snooping(false).up().build();
            Ok(netlink.link().add(bridge).execute().await?)
        })
        .context("making a bridge")?;
        Ok(Switch { host })
    }

    /// The host that the bridge is in, from which its traffic can be watched.
    pub fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn attach(&self, host: &Host, interface: &str) -> Result<()> {
        let port = format!("{}.{interface}", host.name());
        host.veth_make(interface, &self.host, &port)?;
        let (bridge, port_index) = (self.host.interface_index(BRIDGE)?, self.host.interface_index(&port)?);
        let netlink = self.host.netlink();
        self.host.run(async move || {
            let message = LinkMessageBuilder::<LinkUnspec>::new().index(port_index).controller(bridge).build();
            Ok(netlink.link().set(message).execute().await?)
        })
    }
}
