//! ARP for IPv4 over Ethernet (RFC 826).

use std::fmt;
use std::net::Ipv4Addr;

use kit::Mac;

use super::{Discard, array};

/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4: the only kind of ARP that is understood.
const KIND: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const LENGTH: usize = 28;

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Question or answer.
    pub operation: Operation,
    /// Hardware address of who speaks.
    pub sender_mac: Mac,
    /// Protocol address of who speaks; 0.0.0.0 in a probe (RFC 5227 section 1.1).
    pub sender_address: Ipv4Addr,
    /// Hardware address of who is meant; of no meaning in a request.
    pub target_mac: Mac,
    /// Protocol address of who is meant.
    pub target_address: Ipv4Addr,
}

/// What an ARP packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opcode 1.
    Request,
    /// Opcode 2.
    Reply,
}

impl Arp {
    pub(super) fn decode(bytes: &[u8]) -> Result<Arp, Discard> {
        let bytes: &[u8; LENGTH] = bytes.first_chunk().ok_or(Discard::ArpTruncated)?;
        if !bytes.starts_with(&KIND) {
            return Err(Discard::ArpKind);
        }
        let operation = match u16::from_be_bytes(array(bytes, 6).ok_or(Discard::ArpTruncated)?) {
            1 => Operation::Request,
            2 => Operation::Reply,
            other => return Err(Discard::ArpOperation(other)),
        };
        let addresses = || {
            Some(Arp {
                operation,
                sender_mac: Mac(array(bytes, 8)?),
                sender_address: Ipv4Addr::from(array::<4>(bytes, 14)?),
                target_mac: Mac(array(bytes, 18)?),
                target_address: Ipv4Addr::from(array::<4>(bytes, 24)?),
            })
        };
        addresses().ok_or(Discard::ArpTruncated)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let opcode: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        [
            &KIND[..],
            &opcode.to_be_bytes(),
            &self.sender_mac.0,
            &self.sender_address.octets(),
            &self.target_mac.0,
            &self.target_address.octets(),
        ]
        .concat()
    }

    /// Writes the packet as part of a frame with these addresses.
    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, source: Mac, destination: Mac) -> fmt::Result {
        let (sender, target) = (self.sender_address, self.target_address);
        let unless = |mac: Mac, usual: Mac| if mac == usual { String::new() } else { format!(" ({mac})") };
        match self.operation {
            Operation::Request => {
                let target_mac = unless(self.target_mac, Mac::ZERO);
                let sender_mac = unless(self.sender_mac, source);
                write!(f, "arp who-has {target}{target_mac} tell {sender}{sender_mac}")
            }
            Operation::Reply => {
                let target_mac = unless(self.target_mac, destination);
                write!(f, "arp reply {sender} is-at {} to {target}{target_mac}", self.sender_mac)
            }
        }
    }
}
