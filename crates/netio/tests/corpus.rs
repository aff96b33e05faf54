//! Plays the inputs that the fuzzer has found (`scripts/fuzz.sh pack`) to every codec, and to the sessions of BGP.
//!
//! It is here because this room knows them all.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic, also in what the fuzzer shares with them"
)]

#[path = "../../../tests/fuzz/src/targets/mod.rs"]
mod targets;

/// Fewer would be no corpus.
const INPUTS_MIN: usize = 20;

#[test]
fn what_the_fuzzer_has_found_does_no_harm() {
    for (name, target) in targets::TARGETS {
        let file = format!("{}/../../tests/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let (mut rest, mut count) = (bytes.as_slice(), 0);
        while let Some((length, after)) = rest.split_first_chunk() {
            let (input, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
            rest = after;
            target(input);
            count += 1;
        }
        assert!(rest.is_empty() && count >= INPUTS_MIN, "{name} has {count} inputs");
    }
}
