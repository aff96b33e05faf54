//! BGP messages: read in every context, judged, printed and written again.
//!
//! The first byte of the input chooses: nearly always a header is put before the rest, so that the fuzzer need not find
//! out about markers and lengths; otherwise the bytes are taken as they are.

#![no_main]

use bgp::wire::fuzz_message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, body)) = input.split_first() else { return };
    match choice {
        // Types 1 to 5, and one that there is not.
        0..=5 => fuzz_message(&with_header(choice.wrapping_add(1), body)),
        _ => fuzz_message(body),
    }
});

fn with_header(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 19).unwrap_or(u16::MAX);
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}
