//! Network interfaces and their addresses as netlink tells them: all at the start, then each change; no rescans.
//!
//! It knows nothing of what the interfaces are for. ARP and NDP use it, and BGP for the addresses of this host.
//!
//! ```no_run
//! # async fn watch() -> Result<(), netio::interfaces::MonitorError> {
//! use netio::interfaces::{Change, Monitor};
//!
//! let mut monitor = Monitor::start().await?;
//! loop {
//!     match monitor.next().await {
//!         Change::Set(interface) => println!("{} is {:?}", interface.name, interface.flags),
//!         Change::Gone(index) => println!("interface {index} is no more"),
//!     }
//! }
//! # }
//! ```

mod exclusion;
mod inventory;
mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use kit::{InterfaceIndex, Mac};
use l2::InterfaceFlags;
use sys::netlink::{News, RouteSocket};
use tokio::io::unix::AsyncFd;

pub use exclusion::{ExclusionError, Exclusions};
pub use inventory::fuzz_netlink;

use crate::watch::watch;
use inventory::{Inventory, Next};

/// The kernel's datagrams are at most half as long.
const DATAGRAM_MAX: usize = 1 << 16;
/// Between two attempts to open a socket.
const RETRY: Duration = Duration::from_secs(1);

/// An interface of this host (this network namespace).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number, which stays while it lives.
    pub index: InterfaceIndex,
    /// Its name, which can change.
    pub name: String,
    /// Its Ethernet address; `None` when it has another kind of address, or none.
    pub mac: Option<Mac>,
    /// Its state.
    pub flags: InterfaceFlags,
    /// The bond, bridge or VRF that it is part of.
    pub master: Option<InterfaceIndex>,
    /// Its addresses of both families.
    pub addresses: BTreeSet<InterfaceAddress>,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress {
    /// The address itself; on a point-to-point link, this end's.
    pub address: IpAddr,
    /// How many bits name the subnet: up to 32 or 128.
    pub prefix_length: u8,
    /// Whether it can be used.
    pub state: AddressState,
}

/// Whether an address can be used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressState {
    /// It can.
    Ready,
    /// IPv6 only: it is being probed for duplicates, or a duplicate was found (RFC 4862 section 5.4).
    Tentative,
}

impl Interface {
    /// The interface as the l2 core wants it.
    pub fn for_responder(&self, exclusions: &Exclusions) -> l2::Interface {
        l2::Interface {
            index: self.index,
            name: self.name.clone(),
            mac: self.mac,
            flags: self.flags,
            master: self.master,
            link_local: self.link_local().collect(),
            exclusion: exclusions.decide(&self.name),
        }
    }

    /// The networks of its addresses.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> + '_ {
        let networks = self.addresses.iter().map(|it| IpNet::new(it.address, it.prefix_length));
        networks.filter_map(|network| Some(network.ok()?.trunc()))
    }

    /// Its IPv6 link-local addresses that can be used.
    pub fn link_local(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        let ready = self.addresses.iter().filter(|address| address.state == AddressState::Ready);
        ready.filter_map(|address| match address.address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(v6),
            _ => None,
        })
    }
}

/// What happened to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It appeared or changed; the whole of what is known. Several changes in a row may come as one.
    Set(Interface),
    /// It is no more.
    Gone(InterfaceIndex),
}

/// The interfaces of this host could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the interfaces of this host over netlink")]
pub struct MonitorError(#[from] io::Error);

/// Follows the interfaces of the network namespace in which it was started.
#[derive(Debug)]
pub struct Monitor {
    /// `None` after something went wrong: everything is read anew over a new socket, on which no old answer can arrive.
    socket: Option<AsyncFd<RouteSocket>>,
    inventory: Inventory,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Reads everything once. Each interface that is there now is also the first [`Change`] about it.
    pub async fn start() -> Result<Self, MonitorError> {
        let mut monitor = Monitor { socket: None, inventory: Inventory::new(), buffer: vec![0; DATAGRAM_MAX] };
        monitor.open()?;
        while !monitor.inventory.is_complete() {
            monitor.advance().await;
        }
        Ok(monitor)
    }

    /// The interfaces as they are known now.
    pub fn interfaces(&self) -> BTreeMap<InterfaceIndex, Interface> {
        self.inventory.interfaces()
    }

    /// The next change. Whatever goes wrong on the way is logged, and everything is read anew: nothing is missed.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.inventory.next_change() {
                return change;
            }
            self.advance().await;
        }
    }

    /// Takes in one datagram, or begins anew.
    async fn advance(&mut self) {
        if self.socket.is_some() {
            if let Err(error) = self.read().await {
                tracing::warn!(error = %error, "interfaces are read anew");
                self.socket = None;
            }
        } else if let Err(error) = self.open() {
            tracing::error!(error = %error, "could not read the interfaces of this host over netlink");
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut ready = socket.readable().await?;
        let Ok(received) = ready.try_io(|socket| socket.get_ref().receive(&mut self.buffer)) else { return Ok(()) };
        let datagram = self.buffer.get(..received?).unwrap_or_default();
        match self.inventory.receive(datagram) {
            Next::Nothing => Ok(()),
            Next::Send(request) => socket.get_ref().send(&request),
            Next::Fail(error) => Err(error),
        }
    }

    fn open(&mut self) -> io::Result<()> {
        let socket = watch(RouteSocket::open(News::Interfaces)?)?;
        socket.get_ref().send(&self.inventory.begin())?;
        self.socket = Some(socket);
        Ok(())
    }
}
