//! The checksum before a packet (type 12): CRC-32 as Ethernet and Go's `crc32.IEEE` have it, big-endian.

use super::{DecodeError, MessageType};

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLE: [u32; 256] = table();

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "computed by the compiler, with constant bounds"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default()
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The message with its checksum before it.
pub(crate) fn encode(message: &[u8]) -> Vec<u8> {
    let mut out = vec![MessageType::HasCrc as u8];
    out.extend_from_slice(&checksum(message).to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// The message behind a checksum whose type is taken off.
pub(crate) fn decode(body: &[u8]) -> Result<&[u8], DecodeError> {
    let (expected, message) = body.split_first_chunk().ok_or(DecodeError::Truncated("checksum"))?;
    if u32::from_be_bytes(*expected) == checksum(message) { Ok(message) } else { Err(DecodeError::Checksum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_polynomial() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn one_wrong_bit_is_found() {
        let mut bytes = encode(b"hello");
        assert_eq!(decode(&bytes[1..]), Ok(&b"hello"[..]));
        bytes[7] ^= 4;
        assert_eq!(decode(&bytes[1..]), Err(DecodeError::Checksum));
    }
}
