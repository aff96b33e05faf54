//! Prefixes as routes carry them: a length in bits, and as many bytes as it takes (RFC 4271 section 4.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kit::Family;

use super::error::Fault;
use super::reader::Reader;

/// Reads prefixes to the end. RFC 7606 section 5.3: a length beyond the family's, or a prefix beyond the end, makes
/// the whole field incorrect. Bits behind the prefix mean nothing (RFC 4271 section 4.3) and are cleared.
pub(super) fn decode_all(reader: &mut Reader<'_>, family: Family) -> Result<Vec<IpNet>, Fault> {
    let mut prefixes = Vec::new();
    while !reader.is_empty() {
        let offset = reader.offset();
        prefixes.push(decode(reader, family).map_err(|problem| Fault::new(offset, problem))?);
    }
    Ok(prefixes)
}

fn decode(reader: &mut Reader<'_>, family: Family) -> Result<IpNet, String> {
    let bits = reader.u8().ok_or("a prefix without a length")?;
    if bits > family.bits() {
        return Err(format!("a prefix length of {bits} is more than the {} bits of an address", family.bits()));
    }
    let count = usize::from(bits).div_ceil(8);
    let bytes =
        reader.take(count).ok_or_else(|| format!("a /{bits} needs {count} bytes, {} are left", reader.remaining()))?;
    let prefix = match family {
        Family::V4 => Ipv4Net::new(Ipv4Addr::from(padded::<4>(bytes)), bits).map(IpNet::V4),
        Family::V6 => Ipv6Net::new(Ipv6Addr::from(padded::<16>(bytes)), bits).map(IpNet::V6),
    };
    prefix.map(|prefix| prefix.trunc()).map_err(|error| error.to_string())
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    for (to, from) in array.iter_mut().zip(bytes) {
        *to = *from;
    }
    array
}

/// Bytes that a prefix takes.
pub(super) fn encoded_len(prefix: &IpNet) -> usize {
    usize::from(prefix.prefix_len()).div_ceil(8).saturating_add(1)
}

/// Appends a prefix.
pub(super) fn encode(prefix: &IpNet, out: &mut Vec<u8>) {
    out.push(prefix.prefix_len());
    let count = usize::from(prefix.prefix_len()).div_ceil(8);
    match prefix {
        IpNet::V4(net) => out.extend(net.network().octets().iter().take(count)),
        IpNet::V6(net) => out.extend(net.network().octets().iter().take(count)),
    }
}

/// The family of a prefix.
pub(crate) fn family_of(prefix: &IpNet) -> Family {
    match prefix {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(family: Family, bytes: &[u8], expected: Expect) {
        let text = match decode_all(&mut Reader::new(bytes, 23), family) {
            Ok(prefixes) => prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(fault) => format!("byte {}: {}", fault.offset, fault.problem),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn prefixes_of_every_shape() {
        check(Family::V4, &[], expect![[""]]);
        check(Family::V4, &[0], expect!["0.0.0.0/0"]);
        check(
            Family::V4,
            &[1, 0x80, 32, 192, 0, 2, 1, 24, 198, 51, 100],
            expect!["128.0.0.0/1 192.0.2.1/32 198.51.100.0/24"],
        );
        check(Family::V6, &[32, 0x20, 1, 0x0d, 0xb8, 0], expect!["2001:db8::/32 ::/0"]);
    }

    #[test]
    fn rfc4271_4_3_bits_behind_the_prefix_mean_nothing() {
        check(Family::V4, &[9, 10, 255], expect!["10.128.0.0/9"]);
    }

    #[test]
    fn rfc7606_5_3_prefix_longer_than_an_address_is_incorrect() {
        check(
            Family::V4,
            &[8, 10, 33, 1, 2, 3, 4, 5],
            expect!["byte 25: a prefix length of 33 is more than the 32 bits of an address"],
        );
        check(Family::V6, &[129], expect!["byte 23: a prefix length of 129 is more than the 128 bits of an address"]);
    }

    #[test]
    fn rfc7606_5_3_prefix_beyond_the_field_is_incorrect() {
        check(Family::V4, &[8, 10, 24, 1, 2], expect!["byte 25: a /24 needs 3 bytes, 2 are left"]);
    }

    #[test]
    fn encoding_is_the_inverse() {
        for text in
            ["0.0.0.0/0", "10.0.0.0/8", "10.128.0.0/9", "192.0.2.1/32", "2001:db8::/33", "::/0", "2001:db8::1/128"]
        {
            let prefix: IpNet = text.parse().unwrap();
            let mut bytes = Vec::new();
            encode(&prefix, &mut bytes);
            assert_eq!(bytes.len(), encoded_len(&prefix));
            assert_eq!(decode_all(&mut Reader::new(&bytes, 0), family_of(&prefix)).unwrap(), [prefix]);
        }
    }
}
