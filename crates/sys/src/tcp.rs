//! Socket options of TCP for routing: MD5 signatures (RFC 2385), TCP-AO (RFC 5925), TTL security (RFC 5082), precedence,
//! devices.
//!
//! It takes any socket and changes one thing about it. When to do so is known to the drivers: a key is set before the
//! connection is made, or before the one that it is for can be accepted.

mod ao;

use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use kit::{Family, MacAlgorithm, Secret};
use socket2::SockRef;

pub use ao::{ao_keys_add, ao_keys_remove, ao_keys_set};

/// The longest password or key that Linux takes (`TCP_MD5SIG_MAXKEYLEN`, `TCP_AO_MAXKEYLEN`), in bytes.
pub const KEY_MAX: usize = 80;

/// Precedence "internetwork control" (RFC 4271 appendix E), as TOS byte and traffic class.
const PRECEDENCE_INTERNETWORK_CONTROL: u32 = 0xc0;

/// An option of a socket could not be set.
#[derive(Debug, thiserror::Error)]
pub enum TcpOptionError {
    /// The password or key does not fit.
    #[error("the password or key has {0} bytes, the kernel takes at most {KEY_MAX}")]
    KeyTooLong(usize),
    /// The kernel can not sign segments: it was built without, or runs in FIPS mode.
    #[error("this kernel has no TCP MD5 signatures")]
    NoMd5,
    /// The kernel has no TCP-AO: it is too old, or was built without.
    #[error("this kernel has no TCP-AO, which came with Linux 6.7 and CONFIG_TCP_AO")]
    NoAo,
    /// The kernel has TCP-AO, but not this algorithm.
    #[error("this kernel has no {0} for TCP-AO")]
    NoAlgorithm(MacAlgorithm),
    /// Another password or key of the socket stands in the way: it is for addresses that this one is for too.
    #[error("the socket has another password or key for the address, which does not go with this one")]
    KeyClash(#[source] io::Error),
    /// There is no interface or VRF of this name.
    #[error("there is no interface or VRF {0}")]
    Device(String),
    /// The kernel refused.
    #[error("could not set {option}")]
    Refused {
        /// What was to be set.
        option: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl TcpOptionError {
    fn refused(option: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| TcpOptionError::Refused { option, source }
    }
}

/// The bytes of a `sockaddr_storage` behind its family.
const SOCKADDR_AFTER_FAMILY: usize = 126;

/// `struct tcp_md5sig` of `linux/tcp.h`. Its address is a `sockaddr_storage`, which begins with the family.
#[repr(C, align(8))]
struct TcpMd5Sig {
    family: libc::sa_family_t,
    /// Port, then for IPv6 the flow, then the address.
    address: [u8; SOCKADDR_AFTER_FAMILY],
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    interface_index: libc::c_int,
    key: [u8; KEY_MAX],
}

const _: () = assert!(mem::size_of::<TcpMd5Sig>() == 216, "the kernel checks the size");

/// `flags`: the key is for a prefix.
const MD5_FLAG_PREFIX: u8 = 1;

/// Signs and checks all segments to and from a peer with a password; its port does not matter. On a listening socket
/// there may be a key for each of many peers. An empty password removes the key.
pub fn md5_password_set(socket: &impl AsFd, peer: IpAddr, password: &Secret) -> Result<(), TcpOptionError> {
    md5_password_set_for_network(socket, peer, Family::of(&peer).bits(), password)
}

/// The same for all peers whose address begins with these bits of `network`.
pub fn md5_password_set_for_network(
    socket: &impl AsFd,
    network: IpAddr,
    prefix_length: u8,
    password: &Secret,
) -> Result<(), TcpOptionError> {
    let (key, length) = key_bytes(password)?;
    let (family, address) = sockaddr(network);
    let mut option = TcpMd5Sig {
        family,
        address,
        flags: MD5_FLAG_PREFIX,
        prefix_len: prefix_length,
        key_len: length.into(),
        interface_index: 0,
        key,
    };
    let result = match md5_option_set(socket.as_fd(), libc::TCP_MD5SIG_EXT, &option) {
        // Kernels before 4.13 know only the option without a prefix.
        Err(error)
            if error.raw_os_error() == Some(libc::ENOPROTOOPT) && prefix_length == Family::of(&network).bits() =>
        {
            (option.flags, option.prefix_len) = (0, 0);
            md5_option_set(socket.as_fd(), libc::TCP_MD5SIG, &option)
        }
        result => result,
    };
    result.map_err(|source| match source.raw_os_error() {
        Some(libc::ENOPROTOOPT | libc::EPERM) => TcpOptionError::NoMd5,
        Some(libc::EKEYREJECTED) => TcpOptionError::KeyClash(source),
        _ => TcpOptionError::Refused { option: "the TCP MD5 password", source },
    })
}

/// A password or key as the kernel takes it, and its length.
fn key_bytes(secret: &Secret) -> Result<([u8; KEY_MAX], u8), TcpOptionError> {
    let bytes = secret.reveal().as_bytes();
    let mut key = [0; KEY_MAX];
    match (key.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
        (Some(begin), Ok(length)) => {
            begin.copy_from_slice(bytes);
            Ok((key, length))
        }
        _ => Err(TcpOptionError::KeyTooLong(bytes.len())),
    }
}

/// The content of a `sockaddr_in` or `sockaddr_in6`, without a port.
fn sockaddr(peer: IpAddr) -> (libc::sa_family_t, [u8; SOCKADDR_AFTER_FAMILY]) {
    const BEFORE_V4: usize = 2;
    const BEFORE_V6: usize = 6;
    let (family, octets, before) = match peer {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec(), BEFORE_V4),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec(), BEFORE_V6),
    };
    let mut bytes = [0; SOCKADDR_AFTER_FAMILY];
    for (to, from) in bytes.iter_mut().skip(before).zip(octets) {
        *to = from;
    }
    (libc::sa_family_t::try_from(family).unwrap_or_default(), bytes)
}

fn md5_option_set(socket: BorrowedFd<'_>, name: libc::c_int, option: &TcpMd5Sig) -> io::Result<()> {
    option_set(socket, libc::IPPROTO_TCP, name, option)
}

pub(crate) fn option_set<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    option: &T,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(mem::size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer is to a live value of exactly `length` bytes, which the kernel only reads.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *option).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends packets with this TTL, or hop limit.
pub fn ttl_set(socket: &impl AsFd, family: Family, ttl: u8) -> Result<(), TcpOptionError> {
    let socket = SockRef::from(socket);
    match family {
        Family::V4 => socket.set_ttl_v4(u32::from(ttl)),
        Family::V6 => socket.set_unicast_hops_v6(u32::from(ttl)),
    }
    .map_err(TcpOptionError::refused("the TTL"))
}

/// Drops packets that come with a lower TTL, or hop limit, than this (RFC 5082).
pub fn ttl_minimum_set(socket: &impl AsFd, family: Family, minimum: u8) -> Result<(), TcpOptionError> {
    let (level, name) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MINTTL),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    option_set(socket.as_fd(), level, name, &libc::c_int::from(minimum))
        .map_err(TcpOptionError::refused("the minimum TTL"))
}

/// Marks packets as what keeps the network together, so that queues on the way prefer them.
pub fn precedence_set(socket: &impl AsFd, family: Family) -> Result<(), TcpOptionError> {
    let socket = SockRef::from(socket);
    match family {
        Family::V4 => socket.set_tos_v4(PRECEDENCE_INTERNETWORK_CONTROL),
        Family::V6 => socket.set_tclass_v6(PRECEDENCE_INTERNETWORK_CONTROL),
    }
    .map_err(TcpOptionError::refused("the precedence"))
}

/// Uses this interface, or VRF, and no other.
pub fn device_set(socket: &impl AsFd, device: &str) -> Result<(), TcpOptionError> {
    SockRef::from(socket).bind_device(Some(device.as_bytes())).map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => TcpOptionError::Device(device.to_owned()),
        _ => TcpOptionError::refused("the device")(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    /// Connects over loopback with a password on each side.
    fn connects(address: &str, listener_password: &str, dialer_password: &str) -> bool {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let local = listener.local_addr().unwrap();
        let dialer = Socket::new(Domain::for_address(local), Type::STREAM, None).unwrap();
        for (socket, password) in [(listener.as_fd(), listener_password), (dialer.as_fd(), dialer_password)] {
            if !password.is_empty() {
                md5_password_set(&socket, local.ip(), &Secret::new(password)).unwrap();
            }
        }
        dialer.connect_timeout(&local.into(), Duration::from_millis(200)).is_ok()
    }

    #[test]
    fn rfc2385_equal_passwords_connect_and_others_do_not() {
        for address in ["127.0.0.1", "::1"] {
            assert!(connects(address, "", ""), "{address}: the control");
            assert!(connects(address, "secret", "secret"), "{address}");
            assert!(!connects(address, "secret", "Secret"), "{address}");
            assert!(!connects(address, "secret", ""), "{address}");
            assert!(!connects(address, "", "secret"), "{address}");
        }
    }

    #[test]
    fn rfc2385_a_password_for_a_network_is_for_every_address_in_it() {
        let connects = |address: &str, (network, bits): (&str, u8), password: Option<&str>| {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let local = listener.local_addr().unwrap();
            let secret = Secret::new("secret");
            md5_password_set_for_network(&listener, network.parse().unwrap(), bits, &secret).unwrap();
            let dialer = Socket::new(Domain::for_address(local), Type::STREAM, None).unwrap();
            if let Some(password) = password {
                md5_password_set(&dialer, local.ip(), &Secret::new(password)).unwrap();
            }
            dialer.connect_timeout(&local.into(), Duration::from_millis(200)).is_ok()
        };
        for (address, inside, outside) in
            [("127.0.0.1", ("127.0.0.0", 8), ("127.9.0.0", 16)), ("::1", ("::", 64), ("2001:db8::", 64))]
        {
            assert!(connects(address, inside, Some("secret")), "{address}");
            assert!(!connects(address, inside, Some("other")), "{address}");
            assert!(!connects(address, inside, None), "{address}");
            assert!(connects(address, outside, None), "{address}");
        }
    }

    #[test]
    fn an_empty_password_removes_the_key() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        md5_password_set(&listener, local.ip(), &Secret::new("secret")).unwrap();
        md5_password_set(&listener, local.ip(), &Secret::new("")).unwrap();
        assert!(TcpStream::connect(local).is_ok());
    }

    #[test]
    fn a_password_that_the_kernel_cannot_take_is_an_error_without_the_password() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap().ip();
        assert!(md5_password_set(&listener, peer, &Secret::new("x".repeat(80))).is_ok());
        let error = md5_password_set(&listener, peer, &Secret::new("x".repeat(81))).unwrap_err();
        assert_eq!(error.to_string(), "the password or key has 81 bytes, the kernel takes at most 80");
    }

    #[test]
    fn rfc5082_packets_from_too_far_are_dropped() {
        for (address, family) in [("127.0.0.1", Family::V4), ("::1", Family::V6)] {
            let listener = TcpListener::bind((address, 0)).unwrap();
            ttl_minimum_set(&listener, family, 255).unwrap();
            let local = listener.local_addr().unwrap();
            for (ttl, expected) in [(255, true), (254, false)] {
                let dialer = Socket::new(Domain::for_address(local), Type::STREAM, None).unwrap();
                ttl_set(&dialer, family, ttl).unwrap();
                precedence_set(&dialer, family).unwrap();
                let result = dialer.connect_timeout(&local.into(), Duration::from_millis(200));
                assert_eq!(result.is_ok(), expected, "{address} with {ttl}");
            }
        }
    }

    #[test]
    fn a_device_that_does_not_exist_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(device_set(&listener, "lo").is_ok());
        let error = device_set(&listener, "no-such-device").unwrap_err();
        assert_eq!(error.to_string(), "there is no interface or VRF no-such-device");
    }
}
