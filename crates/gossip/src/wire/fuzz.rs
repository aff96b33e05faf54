//! Entry points for fuzzers, and what `cargo test` does with them: all that Go sent in the vectors, cut at every length
//! and with random edits. Nothing may panic, memory stays bounded, and what is believed can be sent again.

use std::sync::Arc;

use super::packet::{Guard, Plaintext, open};
use super::stream::{Direction, StreamReader};
use super::{DecodeError, Message, PACKET_MESSAGES_MAX, STREAM_BYTES_MAX, StreamMessage};
use crate::key::{Key, Keyring, NONCE_LEN, Seal, TAG_LEN};

/// A cipher that hides nothing: so that a fuzzer gets behind it.
#[derive(Debug)]
pub(crate) struct Transparent(Key);

impl Transparent {
    /// A keyring of such keys; of none for no secret.
    pub(crate) fn keyring(secrets: &[&[u8]]) -> Keyring {
        let mut keys = secrets.iter().filter_map(|secret| Key::from_secret(secret).ok());
        let seal = |key| -> Arc<dyn Seal> { Arc::new(Transparent(key)) };
        let first = keys.next().map(seal);
        first.and_then(|first| Keyring::new(first, keys.map(seal)).ok()).unwrap_or_default()
    }
}

impl Seal for Transparent {
    fn seal(&self, _: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; NONCE_LEN]);
        out.extend_from_slice(plain);
        out.extend(self.0.bytes().iter().take(TAG_LEN));
    }

    fn open(&self, _: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let plain = sealed.strip_suffix(self.0.bytes().first_chunk::<TAG_LEN>()?)?;
        Some(plain.get(NONCE_LEN..)?.to_vec())
    }
}

fn guards<T>(check: impl Fn(&Guard<'_>) -> T) -> [T; 4] {
    let (none, two) = (Keyring::plaintext(), Transparent::keyring(&[b"one", b"two"]));
    let guard = |label, keyring, plaintext| check(&Guard { label, keyring, plaintext });
    [
        guard(&b""[..], &none, Plaintext::Refused),
        guard(&b"blue"[..], &none, Plaintext::Refused),
        guard(&b""[..], &two, Plaintext::Refused),
        guard(&b""[..], &two, Plaintext::Taken),
    ]
}

/// Reads bytes as a packet in all contexts there are.
///
/// # Panics
///
/// When what comes out makes no sense: that is what a fuzzer looks for.
pub fn fuzz_packet(bytes: &[u8]) {
    for outcome in guards(|guard| open(bytes, guard)) {
        let Ok(opened) = outcome else { continue };
        assert!(opened.messages.len() <= PACKET_MESSAGES_MAX.saturating_add(1));
        for message in opened.messages.into_iter().flatten() {
            assert!(!message.to_string().is_empty());
            assert_eq!(Message::decode(&message.encode()), Ok(message.clone()), "sent and read again");
        }
    }
}

/// Reads bytes as a stream, at once and in pieces, in all contexts there are.
///
/// # Panics
///
/// When what comes out makes no sense, or depends on how the bytes were cut.
pub fn fuzz_stream(bytes: &[u8]) {
    let at_once = guards(|guard| read(bytes, bytes.len().max(1), guard));
    let in_pieces = guards(|guard| read(bytes, 7, guard));
    assert_eq!(at_once, in_pieces);
    for message in at_once.into_iter().flatten().flatten() {
        if let StreamMessage::PushPull(exchange) = &message {
            assert_eq!(
                guards(|guard| read(&exchange.encode(), 1 << 20, guard))[0],
                Ok(Some(message.clone())),
                "sent and read again"
            );
        }
    }
}

fn read(bytes: &[u8], piece: usize, guard: &Guard<'_>) -> Result<Option<StreamMessage>, DecodeError> {
    let mut reader = StreamReader::new(Direction::Dialed);
    for bytes in bytes.chunks(piece) {
        let outcome = reader.read(bytes, guard)?;
        assert!(reader.buffered() <= STREAM_BYTES_MAX);
        if let Some((message, _)) = outcome {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::{Carrier, vectors};
    use kit::Rng;

    /// Debug builds take long for each; release builds do a million in some seconds.
    const EDITED: u64 = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };

    fn edit(bytes: &mut Vec<u8>, rng: &mut Rng) {
        for _ in 0..=rng.below(4) {
            let at = rng.index(bytes.len());
            match rng.below(7) {
                _ if bytes.is_empty() => bytes.push(7),
                0 => bytes[at] = 0,
                1 => bytes[at] = 0xff,
                2 => bytes[at] ^= 1 << rng.below(8),
                3 => bytes[at] = rng.next_u64().to_le_bytes()[0],
                4 => bytes.truncate(at),
                5 => {
                    // A piece of it once more: envelopes in envelopes.
                    let piece = bytes[at..].to_vec();
                    bytes.extend(piece);
                }
                _ => bytes.insert(at, rng.next_u64().to_le_bytes()[0]),
            }
        }
        bytes.truncate(4096);
    }

    fn fuzz(carrier: Carrier, bytes: &[u8]) {
        match carrier {
            Carrier::Packet => fuzz_packet(bytes),
            Carrier::Stream => fuzz_stream(bytes),
        }
    }

    #[test]
    fn everything_cut_at_every_length_does_not_panic() {
        for vector in vectors() {
            for length in 0..=vector.bytes.len() {
                fuzz(vector.carrier, &vector.bytes[..length]);
            }
        }
    }

    #[test]
    fn everything_with_random_edits_does_not_panic() {
        let vectors = vectors();
        let mut rng = Rng::new(7946);
        for _ in 0..EDITED {
            let vector = rng.pick(&vectors).unwrap();
            let mut bytes = vector.bytes.clone();
            edit(&mut bytes, &mut rng);
            fuzz(vector.carrier, &bytes);
        }
    }

    #[test]
    fn random_bytes_do_not_panic() {
        let mut rng = Rng::new(244);
        for _ in 0..EDITED / 4 {
            let mut bytes: Vec<u8> = (0..rng.below(64)).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
            if let Some(kind) = bytes.first_mut() {
                *kind %= 16;
            }
            fuzz_packet(&bytes);
            fuzz_stream(&bytes);
        }
    }
}
