//! Raw ICMPv6 sockets for Router Advertisements and Solicitations on one interface (RFC 4861). The kernel fills in and
//! checks checksums.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use kit::InterfaceIndex;
use socket2::{Domain, MaybeUninitSlice, MsgHdrMut, Protocol, SockAddr, Socket, Type};

use crate::tcp::option_set;

/// Longer messages are cut. An advertisement with every option that there is has a few hundred bytes.
pub const MESSAGE_MAX: usize = 1500;

/// RFC 4861 section 4.2.
const ROUTER_ADVERTISEMENT: usize = 134;
/// RFC 4861 section 6: whatever comes from farther away has less.
const HOP_LIMIT: u32 = 255;
/// Room for one `cmsghdr` with a number.
const CONTROL_LEN: usize = 64;

/// `ICMPV6_FILTER` of `linux/icmpv6.h`, which libc does not have.
const ICMPV6_FILTER: libc::c_int = 1;

/// `struct icmp6_filter`: a bit for each type, set for those that are blocked.
#[repr(C)]
struct Icmp6Filter([u32; 8]);

/// A raw ICMPv6 socket that receives Router Advertisements: non-blocking, and closed when a child process starts.
#[derive(Debug)]
pub struct RouterSocket {
    socket: Socket,
    index: InterfaceIndex,
}

/// A message that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// From this address.
    pub source: Ipv6Addr,
    /// With this hop limit.
    pub hop_limit: u8,
    /// So many bytes of it are in the buffer, from its type on.
    pub length: usize,
}

impl RouterSocket {
    /// Opens a socket on an interface. Needs the capability `NET_RAW`.
    pub fn open(index: InterfaceIndex) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
        let mut filter = Icmp6Filter([u32::MAX; 8]);
        if let Some(word) = filter.0.get_mut(ROUTER_ADVERTISEMENT >> 5) {
            *word &= !(1 << (ROUTER_ADVERTISEMENT & 31));
        }
        // Messages that come in before the filter is in place are looked at all the same.
        option_set(socket.as_fd(), libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter)?;
        option_set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &1_i32)?;
        socket.bind_device_by_index_v6(NonZeroU32::new(index.get()))?;
        socket.set_multicast_if_v6(index.get())?;
        socket.set_multicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_loop_v6(false)?;
        Ok(RouterSocket { socket, index })
    }

    /// Sends a message, from the type on, whose checksum is filled in.
    pub fn send(&self, destination: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let address = SockAddr::from(SocketAddrV6::new(destination, 0, 0, self.index.get()));
        self.socket.send_to_vectored(&[IoSlice::new(message)], &address).map(|_| ())
    }

    /// Reads one message; `WouldBlock` when none waits. One whose hop limit is not told counts as having 0.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut uninitialized = [MaybeUninit::<u8>::uninit(); MESSAGE_MAX];
        let mut parts = [MaybeUninitSlice::new(&mut uninitialized)];
        let mut control = [MaybeUninit::<u8>::zeroed(); CONTROL_LEN];
        let mut address = SockAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
        let mut message = MsgHdrMut::new().with_addr(&mut address).with_buffers(&mut parts).with_control(&mut control);
        let length = self.socket.recvmsg(&mut message, 0)?;
        let control_length = message.control_len();
        let source = address.as_socket_ipv6().map_or(Ipv6Addr::UNSPECIFIED, |from| *from.ip());
        // SAFETY: the array was zeroed, so all of it is initialized.
        let control = control.map(|byte| unsafe { byte.assume_init() });
        let hop_limit = control.get(..control_length).and_then(hop_limit).unwrap_or(0);
        let length = length.min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(uninitialized.iter().take(length)) {
            // SAFETY: the kernel has written the first `length` bytes.
            *to = unsafe { from.assume_init() };
        }
        Ok(Received { source, hop_limit, length })
    }
}

/// The hop limit in a `cmsghdr`: its length, level and type, then an `int`.
fn hop_limit(control: &[u8]) -> Option<u8> {
    let (_length, rest) = control.split_first_chunk::<{ size_of::<usize>() }>()?;
    let (level, rest) = rest.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let (value, _) = rest.split_first_chunk::<4>()?;
    let is_hop_limit =
        i32::from_ne_bytes(*level) == libc::IPPROTO_IPV6 && i32::from_ne_bytes(*kind) == libc::IPV6_HOPLIMIT;
    u8::try_from(i32::from_ne_bytes(*value)).ok().filter(|_| is_hop_limit)
}

impl AsFd for RouterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for RouterSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hop_limit_is_read_from_a_control_message() {
        let message = |level: i32, kind: i32, value: i32| {
            let length = 20_usize.to_ne_bytes();
            [&length[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), &value.to_ne_bytes(), &[0; 4]].concat()
        };
        assert_eq!(hop_limit(&message(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, 255)), Some(255));
        assert_eq!(hop_limit(&message(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, -1)), None);
        assert_eq!(hop_limit(&message(libc::SOL_SOCKET, libc::IPV6_HOPLIMIT, 255)), None);
        assert_eq!(hop_limit(&message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 255)), None);
        for length in 0..20 {
            assert_eq!(hop_limit(&vec![0; length]), None);
        }
    }

    #[test]
    fn rfc4861_6_1_2_advertisements_come_with_their_source_and_hop_limit_and_nothing_else_does() {
        // The loopback interface: in every namespace, and it has one IPv6 address, which multicast does not need.
        let loopback = InterfaceIndex::new(1).unwrap();
        let receiver = RouterSocket::open(loopback).unwrap();
        let sender = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
        sender.set_multicast_if_v6(1).unwrap();
        let to = SockAddr::from(SocketAddrV6::new("::1".parse().unwrap(), 0, 0, 1));
        for (hops, kind) in [(255, 133), (255, 134), (64, 134), (255, 135)] {
            sender.set_unicast_hops_v6(hops).unwrap();
            let mut message = [0; 16];
            message[0] = kind;
            sender.send_to(&message, &to).unwrap();
        }
        let mut buffer = [0; 64];
        for hop_limit in [255, 64] {
            let received = receiver.receive(&mut buffer).unwrap();
            let source = "::1".parse().unwrap();
            assert_eq!(received, Received { source, hop_limit, length: 16 });
            assert_eq!(buffer[0], 134);
            assert_ne!(buffer[2..4], [0, 0], "the kernel filled in the checksum");
        }
        assert_eq!(receiver.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
