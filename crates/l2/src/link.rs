//! One interface with what the core holds there: its sockets, its multicast groups and its schedule.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use kit::{Instant, Mac};

use crate::schedule::{Refresh, Schedule};
use crate::wire::ndp::solicited_node;
use crate::{Interface, InterfaceFlags, InterfaceSet, Obstacle, Protocol};

/// A socket, as far as the core knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    /// Not asked for.
    Closed,
    /// Asked for, and nothing bad heard since.
    Open,
    /// Asked for, and reported as failed; it will be asked for again.
    Failed,
}

/// What decides whether and how an address is answered on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Face {
    pub(crate) interface: Interface,
    pub(crate) arp: Socket,
    pub(crate) ndp: Socket,
}

/// How an address stands on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// It is not answered there.
    Absent,
    /// It would be answered, but nothing can come in or go out.
    Silent,
    /// It is answered, with this address.
    Live(Mac),
}

impl Face {
    pub(crate) fn socket(&self, protocol: Protocol) -> Socket {
        match protocol {
            Protocol::Arp => self.arp,
            Protocol::Ndp => self.ndp,
        }
    }

    /// Asks for the socket, or gives it up, as the interface is now.
    pub(crate) fn want_socket(&mut self, protocol: Protocol) {
        match (self.socket(protocol), self.interface.obstacle(protocol)) {
            (Socket::Closed, None) => self.set_socket(protocol, Socket::Open),
            (_, Some(_)) => self.set_socket(protocol, Socket::Closed),
            (Socket::Open | Socket::Failed, None) => {}
        }
    }

    pub(crate) fn set_socket(&mut self, protocol: Protocol, socket: Socket) {
        match protocol {
            Protocol::Arp => self.arp = socket,
            Protocol::Ndp => self.ndp = socket,
        }
    }

    /// How an address of this protocol stands there that is announced on these interfaces.
    pub(crate) fn placement(&self, protocol: Protocol, interfaces: &InterfaceSet) -> Placement {
        if self.socket(protocol) != Socket::Open || !interfaces.contains(&self.interface.name) {
            return Placement::Absent;
        }
        match self.interface.mac {
            Some(mac) if self.has_carrier() => Placement::Live(mac),
            _ => Placement::Silent,
        }
    }

    /// Why the protocol is not answered there, everything counted.
    pub(crate) fn obstacle(&self, protocol: Protocol) -> Option<Obstacle> {
        let no_socket = (self.socket(protocol) == Socket::Failed).then_some(Obstacle::NoSocket);
        let no_carrier = (!self.has_carrier()).then_some(Obstacle::NoCarrier);
        self.interface.obstacle(protocol).or(no_socket).or(no_carrier)
    }

    fn has_carrier(&self) -> bool {
        self.interface.flags.contains(InterfaceFlags::CARRIER)
    }
}

/// An interface and its state.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) face: Face,
    pub(crate) schedule: Schedule,
    /// The solicited-node groups that are joined, and how many addresses need each (contract 5.5).
    pub(crate) groups: BTreeMap<Ipv6Addr, usize>,
}

/// Which groups a change joins and leaves.
#[derive(Debug, Default)]
pub(crate) struct GroupChanges {
    pub(crate) leave: Vec<Ipv6Addr>,
    pub(crate) join: Vec<Ipv6Addr>,
}

impl Link {
    /// An interface that is not used yet.
    pub(crate) fn new(interface: Interface, refresh: Refresh, seed: u64) -> Self {
        Link {
            face: Face { interface, arp: Socket::Closed, ndp: Socket::Closed },
            schedule: Schedule::new(refresh, seed),
            groups: BTreeMap::new(),
        }
    }

    /// Moves an address from how it stood to how it stands now. It is announced when it becomes live, and when the
    /// address it is answered with changes; never for anything else (contract 12.2 R3).
    pub(crate) fn place(
        &mut self,
        now: Instant,
        address: IpAddr,
        (before, after): (Placement, Placement),
        changes: &mut GroupChanges,
    ) {
        if before == after {
            return;
        }
        if let IpAddr::V6(address) = address {
            match (before, after) {
                (Placement::Absent, _) => self.group_join(solicited_node(address), changes),
                (_, Placement::Absent) => self.group_leave(solicited_node(address), changes),
                _ => {}
            }
        }
        match after {
            Placement::Live(_) => self.schedule.start(now, address),
            Placement::Silent | Placement::Absent => self.schedule.stop(&address),
        }
    }

    fn group_join(&mut self, group: Ipv6Addr, changes: &mut GroupChanges) {
        let users = self.groups.entry(group).or_insert(0);
        if *users == 0 {
            changes.join.push(group);
        }
        *users = users.saturating_add(1);
    }

    fn group_leave(&mut self, group: Ipv6Addr, changes: &mut GroupChanges) {
        let Some(users) = self.groups.get_mut(&group) else { return };
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.groups.remove(&group);
            changes.leave.push(group);
        }
    }
}
