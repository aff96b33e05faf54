//! Routing netlink sockets: requests about interfaces, addresses and routes, and news of them.

#![expect(clippy::cast_possible_truncation, reason = "C constants and sizes are wider than the fields they are for")]

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// Room for news that come while nobody reads: thousands. The kernel gives less where `net.core.rmem_max` says so.
const RECEIVE_BUFFER: usize = 1 << 20;

/// What a socket gets unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Every change of an interface and of an IPv4 or IPv6 address.
    Interfaces,
    /// Every change of an IPv4 or IPv6 route.
    Routes,
}

impl News {
    fn groups(self) -> u32 {
        let groups = match self {
            News::Interfaces => libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR,
            News::Routes => libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE,
        };
        groups.cast_unsigned()
    }
}

/// A `NETLINK_ROUTE` socket: non-blocking, and closed when a child process starts.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
}

impl RouteSocket {
    /// Opens a socket that gets these news of this network namespace, and that takes messages from the kernel only.
    pub fn open(news: News) -> io::Result<Self> {
        let route = Protocol::from(libc::NETLINK_ROUTE);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(route))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&netlink_address(news.groups()))?;
        // A connected netlink socket refuses messages from anybody but its peer, here the kernel.
        socket.connect(&netlink_address(0))?;
        Ok(RouteSocket { socket })
    }

    /// Sends a request to the kernel.
    pub fn send(&self, request: &[u8]) -> io::Result<()> {
        (&self.socket).write(request).map(|_| ())
    }

    /// Reads one datagram, which may hold several messages; `WouldBlock` when none waits, and `ENOBUFS` once after news
    /// were lost because nobody read in time.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for RouteSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The kernel's address, or one's own with the multicast groups to get.
fn netlink_address(groups: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_nl` is one of the socket address structures, and all zeros is a value of it.
    let address: &mut libc::sockaddr_nl = unsafe { storage.view_as() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    // SAFETY: the storage holds a `sockaddr_nl`, which is that long.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_nl>() as libc::socklen_t) }
}
