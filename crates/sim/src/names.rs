//! Who takes part, by name: machines, the links between them, routers and processes.
//!
//! Everything that follows from a name alone (interfaces, Ethernet and IP addresses) is here as well, so that a line of a
//! trace can be read without a map.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kit::{Asn, Family, InterfaceIndex, Mac};

/// How many machines a cluster has at most.
pub const NODES_MAX: u8 = 5;

/// A machine of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub u8);

impl NodeId {
    /// The name of its Node object.
    pub fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// The machine with the Node object of this name.
    pub fn of_name(name: &str) -> Option<NodeId> {
        name.strip_prefix('n')?.parse().ok().map(NodeId)
    }

    /// The links that it has an interface to: every second machine has only one.
    pub fn lans(self) -> &'static [Lan] {
        if self.0 % 2 == 1 { &[Lan::Front, Lan::Back] } else { &[Lan::Front] }
    }

    /// The Ethernet address that its interface to a link has at first.
    pub fn mac(self, lan: Lan) -> Mac {
        Mac([2, 0, 0, 0, lan.number(), self.0])
    }

    /// The link-local address of its interface to a link.
    pub fn link_local(self, lan: Lan) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, lan.number().into(), self.0.into())
    }

    /// Its address of a family on the front link, where the routers are.
    pub fn address(self, family: Family) -> IpAddr {
        Lan::Front.address(family, self.0)
    }

    /// The machine that has this address.
    pub fn of_address(address: &IpAddr) -> Option<NodeId> {
        let number = match address {
            IpAddr::V4(v4) => v4.octets().last().copied(),
            IpAddr::V6(v6) => v6.octets().last().copied(),
        };
        let node = number.filter(|number| (1..=NODES_MAX).contains(number)).map(NodeId)?;
        (node.address(Family::of(address)) == *address).then_some(node)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A network segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lan {
    /// Every machine's `eth0` is here, and so are the routers.
    Front,
    /// Some machines have an `eth1`.
    Back,
}

impl Lan {
    /// Both.
    pub const ALL: [Lan; 2] = [Lan::Front, Lan::Back];

    const fn number(self) -> u8 {
        match self {
            Lan::Front => 0,
            Lan::Back => 1,
        }
    }

    /// The name of an interface to it.
    pub const fn interface(self) -> &'static str {
        match self {
            Lan::Front => "eth0",
            Lan::Back => "eth1",
        }
    }

    /// The number of an interface to it.
    pub fn index(self) -> InterfaceIndex {
        let number = u32::from(self.number()).saturating_add(2);
        let Some(index) = InterfaceIndex::new(number) else { unreachable!("{number} is not zero") };
        index
    }

    /// The link that an interface of this number leads to.
    pub fn of_index(index: InterfaceIndex) -> Option<Lan> {
        Lan::ALL.into_iter().find(|lan| lan.index() == index)
    }

    /// The address of a family that a machine has on it.
    pub fn address_of(self, family: Family, node: NodeId) -> IpAddr {
        self.address(family, node.0)
    }

    fn address(self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 168, self.number(), host)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, self.number().into(), 0, 0, 0, host.into())),
        }
    }

    /// The networks of the addresses on it.
    pub fn networks(self) -> BTreeSet<IpNet> {
        let network = |(family, length)| IpNet::new(self.address(family, 0), length).ok();
        [(Family::V4, 24), (Family::V6, 64)].into_iter().filter_map(network).collect()
    }

    /// The address of a family that the client on it asks from.
    pub fn client(self, family: Family) -> IpAddr {
        self.address(family, 250)
    }
}

/// A router that machines may have sessions with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouterName {
    /// Of another AS, over IPv4.
    East,
    /// Of the cluster's own AS, over IPv4.
    Inner,
    /// Of another AS, over IPv6.
    Six,
}

/// The AS of the cluster.
pub const CLUSTER_AS: u32 = 64_512;

impl RouterName {
    /// All of them.
    pub const ALL: [RouterName; 3] = [RouterName::East, RouterName::Inner, RouterName::Six];

    /// Where it listens.
    pub fn address(self) -> IpAddr {
        match self {
            RouterName::East => Lan::Front.address(Family::V4, 201),
            RouterName::Inner => Lan::Front.address(Family::V4, 202),
            RouterName::Six => Lan::Front.address(Family::V6, 203),
        }
    }

    /// The router that listens there.
    pub fn of_address(address: &IpAddr) -> Option<RouterName> {
        RouterName::ALL.into_iter().find(|router| router.address() == *address)
    }

    /// The number of its AS.
    pub const fn as_number(self) -> u32 {
        match self {
            RouterName::East => 65_001,
            RouterName::Inner => CLUSTER_AS,
            RouterName::Six => 65_003,
        }
    }

    /// Its AS.
    pub fn asn(self) -> Asn {
        let Some(asn) = Asn::new(self.as_number()) else { unreachable!("no router is in AS 0") };
        asn
    }
}

impl fmt::Display for RouterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RouterName::East => "east",
            RouterName::Inner => "inner",
            RouterName::Six => "six",
        })
    }
}

/// A process of MetalLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessId {
    /// The controller.
    Controller,
    /// The speaker of a machine.
    Speaker(NodeId),
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProcessId::Controller => f.write_str("controller"),
            ProcessId::Speaker(node) => write!(f, "speaker {node}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_lead_back_to_each_other() {
        for node in (1..=NODES_MAX).map(NodeId) {
            assert_eq!(NodeId::of_name(&node.name()), Some(node));
            for family in Family::ALL {
                assert_eq!(NodeId::of_address(&node.address(family)), Some(node));
            }
        }
        for router in RouterName::ALL {
            assert_eq!(RouterName::of_address(&router.address()), Some(router));
            assert_eq!(NodeId::of_address(&router.address()), None);
        }
        for lan in Lan::ALL {
            assert_eq!(Lan::of_index(lan.index()), Some(lan));
        }
    }
}
