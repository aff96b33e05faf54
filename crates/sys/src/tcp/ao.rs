//! TCP-AO (RFC 5925) of Linux 6.7 and later: which keys a socket signs and checks segments with.
//!
//! A kernel without it says so when a key is to be set, and that is an error like any other: nothing here goes on without.
//! Which of several keys a connection uses is the kernel's to agree on with the peer's.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use kit::{Family, MacAlgorithm, MasterKeyTuple, MasterKeys};

use super::{KEY_MAX, SOCKADDR_AFTER_FAMILY, TcpOptionError, key_bytes, option_set, sockaddr};

/// Bytes of a signature in each segment: the 96 bits of both algorithms.
const MAC_LENGTH: u8 = 12;

/// Options of `linux/tcp.h`.
const TCP_AO_ADD_KEY: libc::c_int = 38;
const TCP_AO_DEL_KEY: libc::c_int = 39;
const TCP_AO_INFO: libc::c_int = 40;

/// Bits of the fields that the kernel declares as bit fields, which begin at the lowest bit of a little-endian number.
const SET_CURRENT: u32 = 1;
const SET_RNEXT: u32 = 1 << 1;
const AO_REQUIRED: u32 = 1 << 2;
/// Of a listening socket only: deleting does not wait until all of the kernel has let go of the key.
const DEL_ASYNC: u32 = 1 << 2;
const _: () = assert!(cfg!(target_endian = "little"), "bit fields begin at the other end");

/// `struct tcp_ao_add`. Its address is a `sockaddr_storage`, which begins with the family.
#[repr(C, align(8))]
struct TcpAoAdd {
    family: libc::sa_family_t,
    /// Port, then for IPv6 the flow, then the address, whose bits behind the prefix are zero.
    address: [u8; SOCKADDR_AFTER_FAMILY],
    algorithm: [u8; 64],
    interface_index: i32,
    choice: u32,
    reserved: u16,
    prefix_len: u8,
    send_id: u8,
    receive_id: u8,
    mac_len: u8,
    key_flags: u8,
    key_len: u8,
    key: [u8; KEY_MAX],
}

/// `struct tcp_ao_del`.
#[repr(C, align(8))]
struct TcpAoDel {
    family: libc::sa_family_t,
    address: [u8; SOCKADDR_AFTER_FAMILY],
    interface_index: i32,
    choice: u32,
    reserved: u16,
    prefix_len: u8,
    send_id: u8,
    receive_id: u8,
    current_key: u8,
    rnext: u8,
    key_flags: u8,
}

/// `struct tcp_ao_info_opt`.
#[repr(C, align(8))]
struct TcpAoInfo {
    choice: u32,
    reserved: u16,
    current_key: u8,
    rnext: u8,
    /// Segments that were good, bad, of an unknown key, without a signature, and ICMP errors that were ignored.
    counters: [u64; 5],
}

const _: () = assert!(mem::size_of::<TcpAoAdd>() == 288, "the kernel checks the size");
const _: () = assert!(mem::size_of::<TcpAoDel>() == 144, "the kernel checks the size");
const _: () = assert!(mem::size_of::<TcpAoInfo>() == 48, "the kernel checks the size");

/// Which key is used until the peer asks for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preference {
    /// This one, in both directions.
    First,
    /// Another one, or the one that the peer has begun with.
    Later,
}

/// Signs and checks all segments to and from a peer with these keys, and takes none that is not signed. For a socket that
/// will connect; the connection begins with the first key.
pub fn ao_keys_set(socket: &impl AsFd, peer: IpAddr, keys: &MasterKeys) -> Result<(), TcpOptionError> {
    let preferences = std::iter::once(Preference::First).chain(std::iter::repeat(Preference::Later));
    for (key, preference) in keys.iter().zip(preferences) {
        key_add(socket.as_fd(), peer, Family::of(&peer).bits(), key, preference)?;
    }
    let required = TcpAoInfo { choice: AO_REQUIRED, reserved: 0, current_key: 0, rnext: 0, counters: [0; 5] };
    option_set(socket.as_fd(), libc::IPPROTO_TCP, TCP_AO_INFO, &required).map_err(refused)
}

/// Signs and checks all segments to and from every peer whose address begins with these bits of `network`, which has no
/// others. For a listening socket: what is not signed does not get in. If it fails, none of the keys is left there.
pub fn ao_keys_add(
    socket: &impl AsFd,
    network: IpAddr,
    prefix_length: u8,
    keys: &MasterKeys,
) -> Result<(), TcpOptionError> {
    for (count, key) in keys.iter().enumerate() {
        if let Err(error) = key_add(socket.as_fd(), network, prefix_length, key, Preference::Later) {
            for added in keys.iter().take(count) {
                // The first error is the one that says what is wrong.
                let _same_cause = key_remove(socket.as_fd(), network, prefix_length, added);
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Takes these keys from a listening socket. Connections that came through it keep theirs.
pub fn ao_keys_remove(
    socket: &impl AsFd,
    network: IpAddr,
    prefix_length: u8,
    keys: &MasterKeys,
) -> Result<(), TcpOptionError> {
    let results = keys.iter().map(|key| key_remove(socket.as_fd(), network, prefix_length, key));
    // All are tried, whatever becomes of one.
    results.fold(Ok(()), Result::and)
}

fn key_add(
    socket: BorrowedFd<'_>,
    network: IpAddr,
    prefix_length: u8,
    key: &MasterKeyTuple,
    preference: Preference,
) -> Result<(), TcpOptionError> {
    let option = TcpAoAdd::new(network, prefix_length, key, preference)?;
    option_set(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &option).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT) => TcpOptionError::NoAlgorithm(key.algorithm),
        _ => refused(source),
    })
}

fn key_remove(
    socket: BorrowedFd<'_>,
    network: IpAddr,
    prefix_length: u8,
    key: &MasterKeyTuple,
) -> Result<(), TcpOptionError> {
    let option = TcpAoDel::new(network, prefix_length, key);
    option_set(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &option).map_err(refused)
}

fn refused(source: io::Error) -> TcpOptionError {
    match source.raw_os_error() {
        Some(libc::ENOPROTOOPT) => TcpOptionError::NoAo,
        Some(libc::EEXIST | libc::EKEYREJECTED) => TcpOptionError::KeyClash(source),
        _ => TcpOptionError::Refused { option: "the keys of TCP-AO", source },
    }
}

impl TcpAoAdd {
    fn new(
        network: IpAddr,
        prefix_length: u8,
        tuple: &MasterKeyTuple,
        preference: Preference,
    ) -> Result<Self, TcpOptionError> {
        let (key, key_len) = key_bytes(&tuple.key)?;
        let (family, address) = sockaddr(network);
        Ok(TcpAoAdd {
            family,
            address,
            algorithm: name_in_kernel(tuple.algorithm),
            interface_index: 0,
            choice: match preference {
                Preference::First => SET_CURRENT | SET_RNEXT,
                Preference::Later => 0,
            },
            reserved: 0,
            prefix_len: prefix_length,
            send_id: tuple.send_id,
            receive_id: tuple.receive_id,
            mac_len: MAC_LENGTH,
            key_flags: 0,
            key_len,
            key,
        })
    }
}

impl TcpAoDel {
    fn new(network: IpAddr, prefix_length: u8, tuple: &MasterKeyTuple) -> Self {
        let (family, address) = sockaddr(network);
        TcpAoDel {
            family,
            address,
            interface_index: 0,
            choice: DEL_ASYNC,
            reserved: 0,
            prefix_len: prefix_length,
            send_id: tuple.send_id,
            receive_id: tuple.receive_id,
            current_key: 0,
            rnext: 0,
            key_flags: 0,
        }
    }
}

/// What the kernel calls an algorithm. The name of the second one says that keys of any length are derived as RFC 5926
/// section 3.1.1.2 has it.
fn name_in_kernel(algorithm: MacAlgorithm) -> [u8; 64] {
    let name = match algorithm {
        MacAlgorithm::HmacSha1 => "hmac(sha1)",
        MacAlgorithm::Aes128Cmac => "cmac(aes128)",
    };
    let mut bytes = [0; 64];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::Secret;
    use socket2::{Domain, Socket, Type};
    use std::net::TcpListener;
    use std::time::Duration;

    fn key(send_id: u8, receive_id: u8, algorithm: MacAlgorithm, text: &str) -> MasterKeyTuple {
        MasterKeyTuple { send_id, receive_id, algorithm, key: Secret::new(text) }
    }

    fn keys(all: &[MasterKeyTuple]) -> MasterKeys {
        MasterKeys::new(all.to_vec()).unwrap()
    }

    /// The bytes that are not zero, with where they are.
    fn bytes<T>(option: &T) -> Vec<(usize, u8)> {
        // SAFETY: the structures of this file are plain numbers without padding, as their sizes say, and live as long.
        let all = unsafe { std::slice::from_raw_parts((&raw const *option).cast::<u8>(), mem::size_of::<T>()) };
        all.iter().copied().enumerate().filter(|(_, byte)| *byte != 0).collect()
    }

    fn at(offset: usize, text: &[u8]) -> Vec<(usize, u8)> {
        (offset..).zip(text.iter().copied()).collect()
    }

    /// Offsets as a C compiler gives them for `linux/tcp.h` of Linux 6.12, on x86-64 and on arm64.
    #[test]
    fn options_are_laid_out_as_in_the_kernel_s_header() {
        let sha = key(0x11, 0x22, MacAlgorithm::HmacSha1, "abc");
        let option = TcpAoAdd::new("192.0.2.1".parse().unwrap(), 32, &sha, Preference::First).unwrap();
        let expected = [
            at(0, &[2]),
            at(4, &[192]),
            at(6, &[2, 1]),
            at(128, b"hmac(sha1)"),
            at(196, &[3]),
            at(202, &[32, 0x11, 0x22, 12]),
            at(207, &[3]),
            at(208, b"abc"),
        ];
        assert_eq!(bytes(&option), expected.concat());

        let cmac = key(0, 255, MacAlgorithm::Aes128Cmac, &"k".repeat(KEY_MAX));
        let option = TcpAoAdd::new("2001:db8::".parse().unwrap(), 64, &cmac, Preference::Later).unwrap();
        let expected = [
            at(0, &[10]),
            at(8, &[0x20, 0x01, 0x0d, 0xb8]),
            at(128, b"cmac(aes128)"),
            at(202, &[64]),
            at(204, &[255, 12]),
            at(207, &[80]),
            at(208, "k".repeat(KEY_MAX).as_bytes()),
        ];
        assert_eq!(bytes(&option), expected.concat());

        let option = TcpAoDel::new("192.0.2.0".parse().unwrap(), 24, &sha);
        let expected = [at(0, &[2]), at(4, &[192]), at(6, &[2]), at(132, &[4]), at(138, &[24, 0x11, 0x22])];
        assert_eq!(bytes(&option), expected.concat());

        let option =
            TcpAoInfo { choice: AO_REQUIRED, reserved: 0, current_key: 5, rnext: 6, counters: [1, 0, 0, 0, 7] };
        assert_eq!(bytes(&option), [at(0, &[4]), at(6, &[5, 6]), at(8, &[1]), at(40, &[7])].concat());
    }

    /// The longest key is taken and a longer one is an error without the key; so far no kernel is asked.
    #[test]
    fn a_key_that_the_kernel_cannot_take_is_an_error_without_the_key() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap().ip();
        let long = keys(&[key(1, 1, MacAlgorithm::HmacSha1, &"x".repeat(81))]);
        for error in [ao_keys_set(&listener, peer, &long), ao_keys_add(&listener, peer, 32, &long)] {
            let error = error.unwrap_err().to_string();
            assert_eq!(error, "the password or key has 81 bytes, the kernel takes at most 80");
        }
    }

    /// Connects over loopback with keys on each side: whether there is a connection, or why a key was not set.
    fn connects(
        address: &str,
        (network, bits): (&str, u8),
        listening: &MasterKeys,
        dialing: Option<&MasterKeys>,
    ) -> Result<bool, TcpOptionError> {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let local = listener.local_addr().unwrap();
        ao_keys_add(&listener, network.parse().unwrap(), bits, listening)?;
        let dialer = Socket::new(Domain::for_address(local), Type::STREAM, None).unwrap();
        if let Some(keys) = dialing {
            ao_keys_set(&dialer, local.ip(), keys)?;
        }
        Ok(dialer.connect_timeout(&local.into(), Duration::from_millis(200)).is_ok())
    }

    /// On a kernel that has TCP-AO, keys decide who connects; one that has not says so, and neither lets anybody in.
    #[test]
    fn rfc5925_equal_keys_connect_and_others_do_not_or_the_kernel_is_named() {
        let [sha, cmac] = MacAlgorithm::ALL;
        let both = keys(&[key(1, 2, sha, "secret"), key(3, 4, cmac, "another")]);
        let other_end = keys(&[key(2, 1, sha, "secret"), key(4, 3, cmac, "another")]);
        let second = keys(&[key(4, 3, cmac, "another")]);
        let wrong_key = keys(&[key(2, 1, sha, "Secret")]);
        let wrong_id = keys(&[key(9, 1, sha, "secret")]);
        for (address, inside, outside) in
            [("127.0.0.1", ("127.0.0.0", 8), ("127.9.0.0", 16)), ("::1", ("::", 0), ("2001:db8::", 64))]
        {
            for (network, dialing, expected) in [
                (inside, Some(&other_end), true),
                (inside, Some(&second), true),
                (inside, Some(&wrong_key), false),
                (inside, Some(&wrong_id), false),
                (inside, None, false),
                (outside, None, true),
            ] {
                match connects(address, network, &both, dialing) {
                    Ok(connected) => assert_eq!(connected, expected, "{address} {network:?} {dialing:?}"),
                    Err(TcpOptionError::NoAo) => {}
                    Err(error) => panic!("{address} {network:?} {dialing:?}: {error:?}"),
                }
            }
        }
    }

    /// Identifiers are used once among keys whose addresses overlap (RFC 5925 section 3.1), and a password does not go with keys.
    #[test]
    fn rfc5925_3_1_keys_that_do_not_go_together_are_an_error_of_their_own() {
        let network = "192.0.2.0".parse().unwrap();
        let inside = "192.0.2.1".parse().unwrap();
        let [first, second] =
            [(1, 1), (2, 2)].map(|(send, receive)| keys(&[key(send, receive, MacAlgorithm::HmacSha1, "a")]));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        match ao_keys_add(&listener, network, 24, &first) {
            Err(TcpOptionError::NoAo) => {
                return assert!(matches!(ao_keys_add(&listener, inside, 32, &first), Err(TcpOptionError::NoAo)));
            }
            result => result.unwrap(),
        }
        let clash = |result| matches!(result, Err(TcpOptionError::KeyClash(_)));
        assert!(clash(ao_keys_add(&listener, inside, 32, &first)));
        ao_keys_add(&listener, inside, 32, &second).unwrap();
        assert!(clash(crate::tcp::md5_password_set(&listener, inside, &Secret::new("a"))));
    }

    #[test]
    fn keys_are_taken_away_again_or_the_kernel_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let keys = keys(&[key(1, 1, MacAlgorithm::HmacSha1, "a"), key(2, 2, MacAlgorithm::Aes128Cmac, "b")]);
        match (ao_keys_add(&listener, local.ip(), 32, &keys), ao_keys_remove(&listener, local.ip(), 32, &keys)) {
            (Ok(()), Ok(())) => assert!(std::net::TcpStream::connect(local).is_ok()),
            (Err(TcpOptionError::NoAo), Err(TcpOptionError::NoAo)) => {}
            other => panic!("{other:?}"),
        }
    }
}
