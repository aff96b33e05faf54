//! The Ethernet header: two addresses and what follows.

use kit::Mac;

use super::{Discard, array};

/// EtherType of ARP.
pub(super) const ARP: u16 = 0x0806;
/// EtherType of IPv6 (RFC 2464 section 3).
pub(super) const IPV6: u16 = 0x86dd;

const HEADER_LENGTH: usize = 14;

/// The header, and the bytes behind it.
pub(super) struct Header<'a> {
    pub(super) destination: Mac,
    pub(super) source: Mac,
    pub(super) ether_type: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> Header<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Discard> {
        let fields = || {
            Some(Header {
                destination: Mac(array(bytes, 0)?),
                source: Mac(array(bytes, 6)?),
                ether_type: u16::from_be_bytes(array(bytes, 12)?),
                payload: bytes.get(HEADER_LENGTH..)?,
            })
        };
        fields().ok_or(Discard::EthernetTruncated)
    }
}

pub(super) fn encode(destination: Mac, source: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, &ether_type.to_be_bytes(), payload].concat()
}
