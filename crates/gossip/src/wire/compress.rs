//! Compressed messages (type 9): LZW, least significant bit first, literals of 8 bits, as Go's `compress/lzw` writes
//! it.

use weezl::{BitOrder, LzwStatus, decode::Decoder, encode::Encoder};

use super::msgpack::{self, Known, Reader};
use super::{DecodeError, MessageType};

const LITERAL_BITS: u8 = 8;
/// The one algorithm that there is.
const ALGORITHM_LZW: u8 = 0;
/// How much is unpacked at a time.
const CHUNK: usize = 4096;

/// The message in its compressed envelope.
pub(crate) fn encode(message: &[u8]) -> Vec<u8> {
    // The encoder only fails when its output cannot grow.
    let packed = Encoder::new(BitOrder::Lsb, LITERAL_BITS).encode(message).unwrap_or_default();
    let mut out = vec![MessageType::Compress as u8];
    msgpack::write_map(&mut out, 2);
    msgpack::write_raw(&mut out, b"Algo");
    msgpack::write_unsigned(&mut out, ALGORITHM_LZW.into());
    msgpack::write_raw(&mut out, b"Buf");
    msgpack::write_raw(&mut out, &packed);
    out
}

/// What is in a compressed envelope whose type is taken off, `limit` bytes at most.
pub(crate) fn decode(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let (mut algorithm, mut packed) = (ALGORITHM_LZW, &[][..]);
    Reader::new(body, "compressed message").map(|key, value| {
        match key {
            b"Algo" => algorithm = value.unsigned()?,
            b"Buf" => {
                // A stream that promises too much ends here, and not when that much has come.
                let length = value.raw_length()?;
                if length > limit {
                    return Err(DecodeError::TooLarge { field: "Buf", limit });
                }
                packed = value.take(length)?;
            }
            _ => return Ok(Known::No),
        }
        Ok(Known::Yes)
    })?;
    if algorithm != ALGORITHM_LZW {
        return Err(DecodeError::invalid("Algo", "there is no such compression"));
    }
    unpack(packed, limit)
}

fn unpack(mut packed: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let wrong = DecodeError::invalid("Buf", "it is not compressed with LZW");
    let mut decoder = Decoder::new(BitOrder::Lsb, LITERAL_BITS);
    let mut out = Vec::new();
    let mut chunk = [0; CHUNK];
    loop {
        let step = decoder.decode_bytes(packed, &mut chunk);
        packed = packed.get(step.consumed_in..).unwrap_or_default();
        out.extend_from_slice(chunk.get(..step.consumed_out).unwrap_or_default());
        if out.len() > limit {
            return Err(DecodeError::TooLarge { field: "what is compressed", limit });
        }
        match step.status {
            Ok(LzwStatus::Done) => return Ok(out),
            Ok(LzwStatus::Ok) => {}
            Ok(LzwStatus::NoProgress) | Err(_) => return Err(wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        for length in [0, 1, 100, 5000, 100_000_u32] {
            let message: Vec<u8> = (0..length).map(|n| (n / 7 % 251) as u8).collect();
            let packed = encode(&message);
            assert_eq!(decode(&packed[1..], 1 << 20).unwrap(), message);
        }
    }

    #[test]
    fn a_decompression_bomb_ends_at_the_limit() {
        let packed = encode(&vec![0; 10 << 20]);
        assert!(packed.len() < 64 << 10, "{} bytes become ten million", packed.len());
        assert_eq!(
            decode(&packed[1..], 65_536),
            Err(DecodeError::TooLarge { field: "what is compressed", limit: 65_536 })
        );
    }

    #[test]
    fn other_algorithms_and_other_bytes_are_refused() {
        assert!(decode(b"\x82\xa4Algo\x01\xa3Buf\xa1\x00", 100).is_err());
        assert!(decode(b"\x82\xa4Algo\x00\xa3Buf\xa1\x00", 100).is_err());
        assert!(decode(b"\x82\xa4Algo\x00\xa3Buf\xdb\x00\xff\xff\xff", 100).is_err());
    }
}
