//! UDP sockets that tell what ordinary ones do not: which address a datagram was for, by which interface it came, how far it
//! has come, and how long it has waited to be read. Made for protocols like BFD, whose packets have a fixed TTL and whose
//! receiver must not take its own lateness for the sender's.

#![expect(clippy::cast_possible_truncation, reason = "C constants and sizes are wider than the fields they are for")]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use kit::{Duration, Family, InterfaceIndex};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

/// Room for datagrams that arrive while nobody reads: a thousand small ones. The kernel gives less where
/// `net.core.rmem_max` says so.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Precedence "internetwork control", as TOS byte and traffic class.
const PRECEDENCE_INTERNETWORK_CONTROL: u32 = 0xc0;
/// Of datagrams from too far away, one in so many is let through, so that somebody can be told about them.
const SAMPLE: u32 = 64;

/// A UDP socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// Another program has the port, or another socket of this one.
    #[error("UDP port {0} is in use")]
    PortInUse(u16),
    /// The kernel refused a step.
    #[error("could not {step} a UDP socket")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl UdpError {
    fn refused(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| UdpError::Refused { step, source }
    }
}

/// What a socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// Everything that is sent to its port.
    All,
    /// Only what comes from the link, with a TTL of 255 (RFC 5082). The kernel drops the rest before it takes room or time,
    /// but for one in 64, from which a receiver can see what is wrong.
    FromLink,
}

/// A datagram's circumstances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes it has. What did not fit into the buffer is lost.
    pub length: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// Which of our addresses it was for.
    pub destination: IpAddr,
    /// The interface it came by.
    pub interface: Option<InterfaceIndex>,
    /// Its TTL or hop limit.
    pub ttl: u8,
    /// How long ago the kernel got it, by a clock that may be set meanwhile.
    pub age: Duration,
}

/// A UDP socket of one family: non-blocking, and closed when a child process starts.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
}

impl UdpSocket {
    /// Opens a socket that receives on a port, at all addresses; with a `device`, only over that interface or VRF.
    ///
    /// Other receivers of the caller's on the same port, with other devices, are told as `beside`. Any other socket on the
    /// port is an error: two programs would take each other's datagrams.
    pub fn receiver(
        family: Family,
        port: u16,
        device: Option<InterfaceIndex>,
        reception: Reception,
        beside: &[&UdpSocket],
    ) -> Result<Self, UdpError> {
        let socket = open(family, device)?;
        let (level, options) = match family {
            Family::V4 => (libc::IPPROTO_IP, [libc::IP_RECVTTL, libc::IP_PKTINFO]),
            Family::V6 => (libc::IPPROTO_IPV6, [libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVPKTINFO]),
        };
        for option in options {
            switch_on(&socket, level, option).map_err(UdpError::refused("have more told by"))?;
        }
        switch_on(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)
            .map_err(UdpError::refused("have the time told by"))?;
        if reception == Reception::FromLink {
            socket.attach_filter(&from_link(family)).map_err(UdpError::refused("attach a filter to"))?;
        }
        socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(UdpError::refused("set the receive buffer of"))?;
        let share = |shared| {
            let sockets = beside.iter().map(|other| &other.socket).chain([&socket]);
            // Where it fails, so does binding, which is reported.
            sockets.for_each(|socket| drop(socket.set_reuse_address(shared)));
        };
        // For this moment only: the kernel compares when it binds.
        share(!beside.is_empty());
        let bound = bind(&socket, SocketAddr::new(unspecified(family), port));
        share(false);
        bound.map(|()| UdpSocket { socket })
    }

    /// Opens a socket that only sends, from this address (unspecified for the kernel's choice) and port, with this TTL; with
    /// a `device`, over that interface or VRF and no other.
    pub fn sender(local: SocketAddr, device: Option<InterfaceIndex>, ttl: u8) -> Result<Self, UdpError> {
        let family = Family::of(&local.ip());
        let socket = open(family, device)?;
        set_ttl(&socket, family, ttl).map_err(UdpError::refused("set the TTL of"))?;
        // What is sent to the port is nothing for us, and would only fill the buffer.
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]).map_err(UdpError::refused("attach a filter to"))?;
        bind(&socket, local)?;
        Ok(UdpSocket { socket })
    }

    /// The port it is bound to.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.as_socket().map_or(0, |address| address.port()))
    }

    /// Reads one datagram of a receiver; `WouldBlock` when none waits.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut storage = SockAddrStorage::zeroed();
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = ControlBuffer([0; CONTROL_LEN]);
        // SAFETY: all zeros is a value of `msghdr`: no name, no parts, no control data.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        // The types of lengths differ between C libraries, hence `as _`.
        message.msg_name = (&raw mut storage).cast();
        message.msg_namelen = storage.size_of();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        // SAFETY: the message describes memory that lives and is ours alone until the call returns, with its lengths.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel has filled in an address of this length.
        let source = unsafe { SockAddr::new(storage, message.msg_namelen) };
        let source = source.as_socket().ok_or_else(|| io::Error::other("a datagram without a sender"))?;
        let told = Told::read(&message);
        let (Some(destination), Some(ttl)) = (told.destination, told.ttl) else {
            return Err(io::Error::other("a datagram without destination and TTL"));
        };
        Ok(Received { length, source, destination, interface: told.interface, ttl, age: told.age.unwrap_or_default() })
    }

    /// Sends a datagram.
    pub fn send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.send_to(payload, &to.into()).map(|_| ())
    }

    /// Answers a datagram with this TTL: from the address it was for, over the interface it came by, to its sender.
    pub fn answer(&self, payload: &[u8], to: &Received, ttl: u8) -> io::Result<()> {
        set_ttl(&self.socket, Family::of(&to.destination), ttl)?;
        let address = SockAddr::from(to.source);
        let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        let mut control = ControlBuffer([0; CONTROL_LEN]);
        // SAFETY: all zeros is a value of `msghdr`: no name, no parts, no control data.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = address.len();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        let interface = to.interface.map_or(0, InterfaceIndex::get);
        message.msg_controllen = match to.destination {
            IpAddr::V4(local) => {
                let from = libc::in_pktinfo {
                    ipi_ifindex: interface.cast_signed(),
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                tell(&message, libc::IPPROTO_IP, libc::IP_PKTINFO, from) as _
            }
            IpAddr::V6(local) => {
                let ipi6_addr = libc::in6_addr { s6_addr: local.octets() };
                let from = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: interface };
                tell(&message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, from) as _
            }
        };
        // SAFETY: the message describes memory that lives until the call returns, with its lengths; it is only read.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn open(family: Family, device: Option<InterfaceIndex>) -> Result<Socket, UdpError> {
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(UdpError::refused("open"))?;
    socket.set_nonblocking(true).map_err(UdpError::refused("unblock"))?;
    let index = device.and_then(|device| std::num::NonZeroU32::new(device.get()));
    if index.is_some() {
        socket.bind_device_by_index_v4(index).map_err(UdpError::refused("bind to an interface"))?;
    }
    match family {
        Family::V4 => socket.set_tos_v4(PRECEDENCE_INTERNETWORK_CONTROL),
        Family::V6 => socket.set_only_v6(true).and_then(|()| socket.set_tclass_v6(PRECEDENCE_INTERNETWORK_CONTROL)),
    }
    .map_err(UdpError::refused("set the precedence of"))?;
    Ok(socket)
}

fn bind(socket: &Socket, local: SocketAddr) -> Result<(), UdpError> {
    socket.bind(&local.into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => UdpError::PortInUse(local.port()),
        _ => UdpError::Refused { step: "bind", source },
    })
}

fn set_ttl(socket: &Socket, family: Family, ttl: u8) -> io::Result<()> {
    match family {
        Family::V4 => socket.set_ttl_v4(ttl.into()),
        Family::V6 => socket.set_unicast_hops_v6(ttl.into()),
    }
}

fn switch_on(socket: &Socket, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = mem::size_of_val(&on) as libc::socklen_t;
    // SAFETY: the pointer is to a live value of exactly `length` bytes, which the kernel only reads.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Keeps what has a TTL of 255, and one in [`SAMPLE`] of the rest.
fn from_link(family: Family) -> [SockFilter; 7] {
    let ttl_at = if family == Family::V4 { 8 } else { 7 };
    let ttl = libc::SKF_NET_OFF.wrapping_add(ttl_at).cast_unsigned();
    let random = libc::SKF_AD_OFF.wrapping_add(libc::SKF_AD_RANDOM).cast_unsigned();
    [
        SockFilter::new(LOAD_BYTE, 0, 0, ttl),
        SockFilter::new(JUMP_IF_EQUAL, 3, 0, 255),
        SockFilter::new(LOAD_WORD, 0, 0, random),
        SockFilter::new(AND, 0, 0, SAMPLE.wrapping_sub(1)),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Room for what the kernel tells beside a datagram: four headers of 16 bytes with at most 20 bytes each.
const CONTROL_LEN: usize = 256;

#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_LEN]);

/// What the kernel told beside a datagram.
#[derive(Default)]
struct Told {
    destination: Option<IpAddr>,
    interface: Option<InterfaceIndex>,
    ttl: Option<u8>,
    age: Option<Duration>,
}

impl Told {
    /// Reads the control data of a message that was received.
    fn read(message: &libc::msghdr) -> Told {
        let mut told = Told::default();
        // SAFETY: the message was filled in by recvmsg, so its control data is a list of headers within its buffer.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
        while !next.is_null() {
            // SAFETY: the pointer is to a header in the control buffer, which is aligned for it.
            let header = unsafe { *next };
            // SAFETY: as above; behind the header is what the kernel put there.
            let data = unsafe { libc::CMSG_DATA(next) };
            told.take_in(&header, data);
            // SAFETY: the header is one of this message.
            next = unsafe { libc::CMSG_NXTHDR(message, next) };
        }
        told
    }

    fn take_in(&mut self, header: &libc::cmsghdr, data: *const u8) {
        // SAFETY (of each `value`): the kernel puts a value of the type that belongs to the kind of header behind it, and
        // `value` looks at the length.
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: see above.
                let info: Option<libc::in_pktinfo> = unsafe { value(header, data) };
                self.destination = info.map(|info| Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
                self.interface = info.and_then(|info| InterfaceIndex::new(info.ipi_ifindex.cast_unsigned()));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: see above.
                let info: Option<libc::in6_pktinfo> = unsafe { value(header, data) };
                self.destination = info.map(|info| Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                self.interface = info.and_then(|info| InterfaceIndex::new(info.ipi6_ifindex));
            }
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                // SAFETY: see above.
                let ttl: Option<libc::c_int> = unsafe { value(header, data) };
                self.ttl = ttl.and_then(|ttl| u8::try_from(ttl).ok());
            }
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) => {
                // SAFETY: see above.
                let at: Option<libc::timespec> = unsafe { value(header, data) };
                self.age = at.map(|at| realtime() - since_epoch(&at));
            }
            _ => {}
        }
    }
}

/// The value behind a header of control data; `None` if it is shorter than that.
///
/// # Safety
///
/// As many bytes as the header says must be readable at `data`, and of the kind that it says every pattern must be a value.
unsafe fn value<T: Copy>(header: &libc::cmsghdr, data: *const u8) -> Option<T> {
    // SAFETY: CMSG_LEN only computes.
    let needed = unsafe { libc::CMSG_LEN(mem::size_of::<T>() as libc::c_uint) };
    // SAFETY: the header says that the value is there; it need not be aligned.
    (header.cmsg_len >= needed as _).then(|| unsafe { data.cast::<T>().read_unaligned() })
}

/// Writes one header with its value into the control buffer of a message, and gives back how much of it is used.
fn tell<T>(message: &libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    const { assert!(mem::size_of::<T>() + 32 < CONTROL_LEN, "header and value fit") };
    let size = mem::size_of::<T>() as libc::c_uint;
    // SAFETY: the buffer of the message is ours, zeroed, aligned for headers, and has room for one with this value.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        libc::CMSG_SPACE(size) as usize
    }
}

/// The time of the clock by which the kernel marks packets.
fn realtime() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux, and the pointer is to a live value that the kernel fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    since_epoch(&now)
}

fn since_epoch(at: &libc::timespec) -> Duration {
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(at.tv_sec)) + Duration::from_micros(part(at.tv_nsec) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: [(&str, Family); 2] = [("127.0.0.1", Family::V4), ("::1", Family::V6)];

    /// A receiver on a free port of its own.
    fn receiver(family: Family, reception: Reception) -> (UdpSocket, u16) {
        let socket = UdpSocket::receiver(family, 0, None, reception, &[]).unwrap();
        let port = socket.port().unwrap();
        (socket, port)
    }

    fn sender(address: &str, ttl: u8) -> UdpSocket {
        UdpSocket::sender(SocketAddr::new(address.parse().unwrap(), 0), None, ttl).unwrap()
    }

    /// Loopback delivers before `send` returns, so that nothing has to be waited for.
    fn next(socket: &UdpSocket) -> Option<(Received, Vec<u8>)> {
        let mut buffer = [0; 64];
        match socket.receive(&mut buffer) {
            Ok(received) => Some((received, buffer[..received.length].to_vec())),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                None
            }
        }
    }

    #[test]
    fn a_datagram_tells_where_it_was_sent_to_and_how_far_it_has_come() {
        for (address, family) in LOOPBACK {
            let (socket, port) = receiver(family, Reception::All);
            assert_eq!(next(&socket), None);
            for ttl in [255, 254, 1] {
                let sender = sender(address, ttl);
                sender.send(b"hello", SocketAddr::new(address.parse().unwrap(), port)).unwrap();
                let (received, payload) = next(&socket).unwrap();
                assert_eq!((payload.as_slice(), received.ttl), (b"hello".as_slice(), ttl));
                assert_eq!(received.source, SocketAddr::new(address.parse().unwrap(), sender.port().unwrap()));
                assert_eq!(received.destination, address.parse::<IpAddr>().unwrap());
                assert_eq!(received.interface, InterfaceIndex::new(1), "loopback is always the first");
                assert!(received.age < Duration::from_secs(60), "{}", received.age);
            }
        }
    }

    #[test]
    fn rfc5082_what_comes_from_far_away_is_dropped_but_for_a_sample() {
        for (address, family) in LOOPBACK {
            let (socket, port) = receiver(family, Reception::FromLink);
            let to = SocketAddr::new(address.parse().unwrap(), port);
            let count = |ttl: u8| {
                let sender = sender(address, ttl);
                let each = (0..6400).map(|_| {
                    sender.send(b"x", to).unwrap();
                    u32::from(next(&socket).is_some())
                });
                each.sum::<u32>()
            };
            assert_eq!(count(255), 6400, "{address}");
            // A hundred are expected; less than 40 or more than 160 come once in a billion runs.
            let sampled = count(254);
            assert!((40..=160).contains(&sampled), "{address}: {sampled}");
        }
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked_with_the_ttl_that_was_wanted() {
        for (address, asked, family) in [("127.0.0.1", "127.0.0.9", Family::V4), ("::1", "::1", Family::V6)] {
            let ((socket, port), (asker, asker_port)) =
                (receiver(family, Reception::All), receiver(family, Reception::All));
            sender(address, 255).send(b"?", SocketAddr::new(asked.parse().unwrap(), port)).unwrap();
            let (received, _) = next(&socket).unwrap();
            let to = Received { source: SocketAddr::new(address.parse().unwrap(), asker_port), ..received };
            socket.answer(b"!", &to, 254).unwrap();
            let (answer, payload) = next(&asker).unwrap();
            assert_eq!((payload.as_slice(), answer.ttl), (b"!".as_slice(), 254));
            assert_eq!(answer.source, SocketAddr::new(asked.parse().unwrap(), port));
        }
    }

    #[test]
    fn a_sender_receives_nothing() {
        for (address, _) in LOOPBACK {
            let socket = sender(address, 255);
            let to = SocketAddr::new(address.parse().unwrap(), socket.port().unwrap());
            sender(address, 255).send(b"x", to).unwrap();
            let error = socket.socket.peek_sender().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_port_has_one_receiver_but_for_those_of_other_devices_that_are_our_own() {
        for (address, family) in LOOPBACK {
            let (socket, port) = receiver(family, Reception::All);
            let loopback = InterfaceIndex::new(1);
            for device in [None, loopback] {
                let error = UdpSocket::receiver(family, port, device, Reception::All, &[]).unwrap_err();
                assert_eq!(error.to_string(), format!("UDP port {port} is in use"));
            }
            let beside = UdpSocket::receiver(family, port, loopback, Reception::All, &[&socket]).unwrap();
            assert!(
                UdpSocket::receiver(family, port, loopback, Reception::All, &[&socket]).is_err(),
                "the same device"
            );
            assert!(UdpSocket::receiver(family, port, None, Reception::All, &[]).is_err(), "another program");
            sender(address, 255).send(b"x", SocketAddr::new(address.parse().unwrap(), port)).unwrap();
            assert!(next(&socket).is_none() && next(&beside).is_some(), "the one with the device is nearer");
        }
    }

    #[test]
    fn over_an_interface_that_does_not_exist_nothing_is_sent() {
        let (_socket, port) = receiver(Family::V4, Reception::All);
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        for (device, expected) in [(1, true), (999_999, false)] {
            let local = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            let sender = UdpSocket::sender(local, InterfaceIndex::new(device), 255).unwrap();
            assert_eq!(sender.send(b"x", to).is_ok(), expected, "interface {device}");
        }
    }
}
