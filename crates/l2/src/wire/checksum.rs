//! The checksum of ICMPv6 (RFC 4443 section 2.3, RFC 8200 section 8.1).

use std::net::Ipv6Addr;

use super::ndp::ICMPV6;

/// The checksum over the pseudo-header and a message. Over a message whose checksum field is filled in rightly it is 0.
pub(super) fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    // 64 bits hold the sum of far more words than a packet has, so that it never wraps.
    let sum = words(&source.octets())
        .wrapping_add(words(&destination.octets()))
        .wrapping_add(message.len() as u64)
        .wrapping_add(u64::from(ICMPV6))
        .wrapping_add(words(message));
    !fold(sum)
}

/// The sum of the big-endian 16-bit words; an odd byte at the end is followed by a zero.
fn words(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    pairs.iter().fold(last, |sum, pair| sum.wrapping_add(u64::from(u16::from_be_bytes(*pair))))
}

/// Adds what does not fit in 16 bits back in at the low end.
fn fold(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(folded) => return folded,
            Err(_) => sum = (sum & 0xffff).wrapping_add(sum >> 16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_folded_until_it_fits() {
        assert_eq!(fold(0xffff), 0xffff);
        assert_eq!(fold(0x1_0000), 1);
        assert_eq!(fold(0x1_ffff), 1);
        assert_eq!(fold(u64::MAX), 0xffff);
    }

    #[test]
    fn an_odd_byte_counts_as_the_high_half_of_a_word() {
        assert_eq!(words(&[0x12, 0x34, 0x56]), 0x1234 + 0x5600);
        assert_eq!(words(&[]), 0);
    }
}
