//! SipHash-2-4 by Aumasson and Bernstein: a short keyed hash that cannot be made without the key.
//!
//! The standard library has it too, but not with a key of one's own that is the same from call to call.

/// The hash of `message` under a key of 16 bytes.
pub(super) fn siphash(key: &[u8; 16], message: &[u8]) -> u64 {
    let [low, high] = halves(key);
    let mut state = State {
        a: low ^ 0x736f_6d65_7073_6575,
        b: high ^ 0x646f_7261_6e64_6f6d,
        c: low ^ 0x6c79_6765_6e65_7261,
        d: high ^ 0x7465_6462_7974_6573,
    };
    let (words, rest) = message.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    // The last word: what is left, and the length of the message (modulo 256) in its highest byte.
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let length = u64::from(message.len().to_le_bytes()[0]) << 56;
    state.absorb(u64::from_le_bytes(last) | length);
    state.c ^= 0xff;
    for _ in 0..4 {
        state.mix();
    }
    state.a ^ state.b ^ state.c ^ state.d
}

fn halves(key: &[u8; 16]) -> [u64; 2] {
    let (halves, _) = key.as_chunks::<8>();
    let mut words = [0; 2];
    for (to, from) in words.iter_mut().zip(halves) {
        *to = u64::from_le_bytes(*from);
    }
    words
}

struct State {
    a: u64,
    b: u64,
    c: u64,
    d: u64,
}

impl State {
    fn absorb(&mut self, word: u64) {
        self.d ^= word;
        self.mix();
        self.mix();
        self.a ^= word;
    }

    fn mix(&mut self) {
        self.a = self.a.wrapping_add(self.b);
        self.b = self.b.rotate_left(13) ^ self.a;
        self.a = self.a.rotate_left(32);
        self.c = self.c.wrapping_add(self.d);
        self.d = self.d.rotate_left(16) ^ self.c;
        self.a = self.a.wrapping_add(self.d);
        self.d = self.d.rotate_left(21) ^ self.a;
        self.c = self.c.wrapping_add(self.b);
        self.b = self.b.rotate_left(17) ^ self.c;
        self.c = self.c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_its_authors() {
        let key: [u8; 16] = std::array::from_fn(|at| at as u8);
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(&key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash(&key, &message[..1]), 0x74f8_39c5_93dc_67fd);
        assert_eq!(siphash(&key, &message[..8]), 0x93f5_f579_9a93_2462);
        assert_eq!(siphash(&key, &message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn another_key_or_another_message_gives_another_hash() {
        let key = [7; 16];
        let mut other = key;
        other[15] ^= 1;
        assert_ne!(siphash(&key, b"echo"), siphash(&other, b"echo"));
        assert_ne!(siphash(&key, b"echo"), siphash(&key, b"echp"));
        assert_ne!(siphash(&key, b""), siphash(&key, b"\0"));
    }
}
