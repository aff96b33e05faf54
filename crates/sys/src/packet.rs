//! Packet sockets (`AF_PACKET`): whole frames of one kind on one interface, picked by a filter in the kernel.

#![expect(clippy::cast_possible_truncation, reason = "C constants and sizes are wider than the fields they are for")]

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use kit::{Family, InterfaceIndex};
use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

/// Longer frames are cut. Ethernet's usual MTU with a VLAN tag; ARP and Neighbor Discovery need a tenth of it.
pub const FRAME_MAX: usize = 1518;
/// Room for frames that arrive while nobody reads: over a thousand. The kernel gives less where `net.core.rmem_max` says so.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Which frames a socket receives. All are untagged, and for this host or for everybody: what a promiscuous interface
/// sees of others' traffic stays in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// ARP requests and replies.
    Arp,
    /// ICMPv6 Neighbor Solicitations and Advertisements in IPv6 without extension headers.
    NeighborDiscovery,
    /// UDP to the ports of BFD over one hop, 3784 (control packets) and 3785 (echo packets), in IPv4 without options or IPv6
    /// without extension headers.
    Bfd(Family),
}

/// Why a packet socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process may not.
    #[error(
        "packet sockets need the capability NET_RAW, which this process does not have; \
         add NET_RAW to securityContext.capabilities of the container, or run it as root"
    )]
    NotPermitted,
    /// The kernel refused a step.
    #[error("could not {step} a packet socket")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A packet socket on one interface: non-blocking, and closed when a child process starts.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    index: InterfaceIndex,
}

impl PacketSocket {
    /// Opens a socket. It receives nothing before the filter is in place: until it is bound, it has no protocol.
    ///
    /// Binding to an interface that is down succeeds; the next call then says `ENETDOWN`, once.
    pub fn open(index: InterfaceIndex, capture: Capture) -> Result<Self, OpenError> {
        let refused = |step| move |source| OpenError::Refused { step, source };
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => OpenError::NotPermitted,
            _ => OpenError::Refused { step: "open", source: error },
        })?;
        socket.set_nonblocking(true).map_err(refused("unblock"))?;
        socket.attach_filter(&capture.filter()).map_err(refused("attach a filter to"))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(refused("set the receive buffer of"))?;
        socket.bind(&link_layer_address(index, capture)).map_err(refused("bind"))?;
        Ok(PacketSocket { socket, index })
    }

    /// Reads one frame from its Ethernet header on, and returns its length; `WouldBlock` when none waits.
    ///
    /// `ENETDOWN` is said once when the interface goes down or away. If it was only down, frames arrive again when it is
    /// up.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }

    /// Sends one frame. `WouldBlock` or `ENOBUFS` when the interface cannot take more now.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        (&self.socket).write(frame).map(|_| ())
    }

    /// Has the interface receive all multicast frames, as long as this socket lives.
    pub fn receive_all_multicast(&self) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: self.index.get().cast_signed(),
            mr_type: libc::PACKET_MR_ALLMULTI as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // SAFETY: the socket is open, and the pointer and the length describe `request`, which the kernel only reads.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn link_layer_address(index: InterfaceIndex, capture: Capture) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of the socket address structures, and all zeros is a value of it.
    let address: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = capture.ether_type().to_be();
    address.sll_ifindex = index.get().cast_signed();
    // SAFETY: the storage holds a `sockaddr_ll`, which is that long.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

// Classic BPF: loads from the frame, jumps, and the number of bytes to keep.
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// One thing that a filter looks at: how it is loaded, where it is, and the values that are let through.
type Rule = (u16, u32, &'static [u32]);

/// For whom the frame is. What this host sends itself (`PACKET_OUTGOING`) and what is meant for others is not let through.
const FOR_US: Rule = (
    LOAD_BYTE,
    libc::SKF_AD_OFF.wrapping_add(libc::SKF_AD_PKTTYPE).cast_unsigned(),
    &[libc::PACKET_HOST as u32, libc::PACKET_BROADCAST as u32, libc::PACKET_MULTICAST as u32],
);

impl Capture {
    const fn ether_type(self) -> u16 {
        match self {
            Capture::Arp => libc::ETH_P_ARP as u16,
            Capture::NeighborDiscovery | Capture::Bfd(Family::V6) => libc::ETH_P_IPV6 as u16,
            Capture::Bfd(Family::V4) => libc::ETH_P_IP as u16,
        }
    }

    /// What must be so of a frame, the cheapest test that most frames fail first.
    ///
    /// VLAN tags need no test: the kernel has taken them off before, and given the frame to the VLAN's interface, or
    /// marked it as another host's when there is none.
    const fn rules(self) -> &'static [Rule] {
        match self {
            // EtherType; operation: request or reply.
            Capture::Arp => &[(LOAD_HALF, 12, &[0x0806]), (LOAD_HALF, 20, &[1, 2]), FOR_US],
            // Next header: ICMPv6; type: solicitation or advertisement; EtherType.
            Capture::NeighborDiscovery => {
                &[(LOAD_BYTE, 20, &[58]), (LOAD_BYTE, 54, &[135, 136]), (LOAD_HALF, 12, &[0x86dd]), FOR_US]
            }
            // Protocol: UDP; destination port; version and header length; EtherType.
            Capture::Bfd(Family::V4) => &[
                (LOAD_BYTE, 23, &[17]),
                (LOAD_HALF, 36, &[3784, 3785]),
                (LOAD_BYTE, 14, &[0x45]),
                (LOAD_HALF, 12, &[0x0800]),
                FOR_US,
            ],
            // Next header: UDP; destination port; EtherType.
            Capture::Bfd(Family::V6) => {
                &[(LOAD_BYTE, 20, &[17]), (LOAD_HALF, 56, &[3784, 3785]), (LOAD_HALF, 12, &[0x86dd]), FOR_US]
            }
        }
    }

    /// The program that the kernel runs on each frame. It is written from its end, because jumps only go forward and
    /// count the instructions that they leave out.
    fn filter(self) -> Vec<SockFilter> {
        let mut reversed = vec![SockFilter::new(RETURN, 0, 0, 0), SockFilter::new(RETURN, 0, 0, FRAME_MAX as u32)];
        for (load, offset, values) in self.rules().iter().rev() {
            let to_drop = u8::try_from(reversed.len()).unwrap_or(u8::MAX).saturating_sub(1);
            for (later, value) in values.iter().rev().enumerate() {
                let to_next_rule = u8::try_from(later).unwrap_or(u8::MAX);
                let otherwise = if later == 0 { to_drop } else { 0 };
                reversed.push(SockFilter::new(JUMP_IF_EQUAL, to_next_rule, otherwise, *value));
            }
            reversed.push(SockFilter::new(*load, 0, 0, *offset));
        }
        reversed.reverse();
        reversed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    /// Runs the filter in the kernel, which lets it be attached to any kind of socket: `Some(length)` if it is kept.
    fn kept(capture: Capture, frame: &[u8]) -> Option<usize> {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let receiver = Socket::from(std::os::fd::OwnedFd::from(receiver));
        receiver.attach_filter(&capture.filter()).unwrap();
        receiver.set_nonblocking(true).unwrap();
        sender.send(frame).unwrap();
        match (&receiver).read(&mut [0; 4096]) {
            Ok(length) => Some(length),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                None
            }
        }
    }

    fn arp() -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        frame[20..22].copy_from_slice(&[0, 1]);
        frame
    }

    fn solicitation() -> Vec<u8> {
        let mut frame = vec![0; 86];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[20] = 58;
        frame[54] = 135;
        frame
    }

    #[test]
    fn the_arp_filter_keeps_requests_and_replies_only() {
        for operation in (0..=255).chain((1..=255).map(|high| high << 8 | 1)) {
            let mut frame = arp();
            frame[20..22].copy_from_slice(&u16::to_be_bytes(operation));
            let expected = matches!(operation, 1 | 2).then_some(60);
            assert_eq!(kept(Capture::Arp, &frame), expected, "operation {operation}");
        }
        for at in [12, 13] {
            let mut frame = arp();
            frame[at] ^= 1;
            assert_eq!(kept(Capture::Arp, &frame), None);
        }
        assert_eq!(kept(Capture::Arp, &solicitation()), None);
    }

    #[test]
    fn the_neighbor_discovery_filter_keeps_solicitations_and_advertisements_only() {
        for kind in 0..=255 {
            let mut frame = solicitation();
            frame[54] = kind;
            let expected = (kind == 135 || kind == 136).then_some(86);
            assert_eq!(kept(Capture::NeighborDiscovery, &frame), expected, "type {kind}");
        }
        for next_header in (0..=255).filter(|n| *n != 58) {
            let mut frame = solicitation();
            frame[20] = next_header;
            assert_eq!(kept(Capture::NeighborDiscovery, &frame), None, "next header {next_header}");
        }
        for at in [12, 13] {
            let mut frame = solicitation();
            frame[at] ^= 1;
            assert_eq!(kept(Capture::NeighborDiscovery, &frame), None);
        }
        assert_eq!(kept(Capture::NeighborDiscovery, &arp()), None);
    }

    fn echo(family: Family, port: u16) -> Vec<u8> {
        let mut frame = vec![0; 90];
        let (ether_type, protocol_at, port_at) = match family {
            Family::V4 => (0x0800, 23, 36),
            Family::V6 => (0x86dd, 20, 56),
        };
        frame[12..14].copy_from_slice(&u16::to_be_bytes(ether_type));
        frame[14] = if family == Family::V4 { 0x45 } else { 0x60 };
        frame[protocol_at] = 17;
        frame[port_at..][..2].copy_from_slice(&port.to_be_bytes());
        frame
    }

    #[test]
    fn the_bfd_filter_keeps_control_and_echo_packets_of_its_family_only() {
        for (family, other, protocol_at) in [(Family::V4, Family::V6, 23), (Family::V6, Family::V4, 20)] {
            for port in 0..=u16::MAX {
                let expected = matches!(port, 3784 | 3785).then_some(90);
                assert_eq!(kept(Capture::Bfd(family), &echo(family, port)), expected, "{family:?} port {port}");
            }
            assert_eq!(kept(Capture::Bfd(family), &echo(other, 3785)), None);
            let mut tcp = echo(family, 3785);
            tcp[protocol_at] = 6;
            assert_eq!(kept(Capture::Bfd(family), &tcp), None);
        }
        let mut options = echo(Family::V4, 3785);
        options[14] = 0x46;
        assert_eq!(kept(Capture::Bfd(Family::V4), &options), None);
    }

    #[test]
    fn short_frames_are_dropped_and_long_ones_cut() {
        for length in 1..22 {
            assert_eq!(kept(Capture::Arp, &arp()[..length]), None, "{length} bytes");
        }
        for length in 1..55 {
            assert_eq!(kept(Capture::NeighborDiscovery, &solicitation()[..length]), None, "{length} bytes");
        }
        let mut long = arp();
        long.resize(4000, 0);
        assert_eq!(kept(Capture::Arp, &long), Some(FRAME_MAX));
    }

    /// Gives up all capabilities of the calling thread.
    fn drop_capabilities() {
        const VERSION_3: u32 = 0x2008_0522;
        let (header, none) = ([VERSION_3, 0], [0u32; 6]);
        // SAFETY: capset reads a version and a thread id (0: the caller), and three sets of two words each.
        let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn without_the_capability_the_error_says_what_to_do() {
        let attempt = std::thread::spawn(|| {
            drop_capabilities();
            PacketSocket::open(InterfaceIndex::new(1).unwrap(), Capture::Arp)
        });
        let error = attempt.join().unwrap().unwrap_err();
        assert!(matches!(error, OpenError::NotPermitted));
        assert!(error.to_string().contains("add NET_RAW to securityContext.capabilities"), "{error}");
    }
}
