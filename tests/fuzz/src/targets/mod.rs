//! What a fuzzer does with an input, by the name of its target. `cargo test` does the same with the inputs that were found
//! (`crates/netio/tests/corpus.rs`).

mod session;

use std::net::Ipv6Addr;

use bgp::discovery::{Discovery, DiscoveryInput, Session};
use kit::{Duration, Instant, Outbox, Rng};

/// A target, and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 7] = [
    ("bfd_packet", bfd::wire::fuzz_wire),
    ("bgp_discovery", bgp_discovery),
    ("bgp_message", bgp_message),
    ("bgp_session", session::play),
    ("gossip_packet", gossip::wire::fuzz_packet),
    ("gossip_stream", gossip::wire::fuzz_stream),
    ("l2_frame", l2_frame),
];

/// BGP messages: read in every context, judged, printed and written again.
///
/// The first byte of the input chooses: nearly always a header is put before the rest, so that the fuzzer need not find
/// out about markers and lengths; otherwise the bytes are taken as they are.
fn bgp_message(input: &[u8]) {
    let Some((&choice, body)) = input.split_first() else { return };
    match choice {
        // Types 1 to 5, and one that there is not.
        0..=5 => bgp::wire::fuzz_message(&with_header(choice.wrapping_add(1), body)),
        _ => bgp::wire::fuzz_message(body),
    }
}

fn with_header(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 19).unwrap_or(u16::MAX);
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// ARP and NDP: a frame as it comes from the segment, read and written again. The first byte chooses whether the headers of
/// Ethernet and IPv6 are put before the rest, with the right checksum, for no fuzzer finds that out.
fn l2_frame(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    match rest.split_at_checked(44) {
        Some((ends, message)) if choice < 128 => l2::wire::fuzz_frame(&icmp_frame(ends, message)),
        _ => l2::wire::fuzz_frame(rest),
    }
}

/// A frame between these ends, two hardware addresses and two of IPv6, with an ICMPv6 message.
fn icmp_frame(ends: &[u8], message: &[u8]) -> Vec<u8> {
    let (hardware, addresses) = ends.split_at(12);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut message = message.to_vec();
    if let Some(checksum) = message.get_mut(2..4) {
        checksum.fill(0);
    }
    let summed = [addresses, &length, &[0, 58], &message].concat();
    let words = summed.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if let Some(checksum) = message.get_mut(2..4) {
        checksum.copy_from_slice(&(!u16::try_from(sum).unwrap_or_default()).to_be_bytes());
    }
    let header = [0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], 58, 255];
    [hardware, &header, addresses, &message].concat()
}

/// Router advertisements, by which the router at the other end of a link is found: some of them one after the other, each
/// after a byte that says how long it is, from one of two routers.
fn bgp_discovery(mut input: &[u8]) {
    let mut discovery = Discovery::new(Rng::new(1));
    let mut out = Outbox::with_limit(16);
    let mut now = Instant::ZERO;
    discovery.handle(now, DiscoveryInput::Up, &mut out);
    while let Some((&length, rest)) = input.split_first() {
        let (message, rest) = rest.split_at(usize::from(length).min(rest.len()));
        input = rest;
        let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(length & 1));
        now += Duration::from_secs(u64::from(length));
        discovery.handle(now, DiscoveryInput::Session(Session::Down), &mut out);
        let advertisement = DiscoveryInput::Received { source, hop_limit: 255, message: message.to_vec() };
        discovery.handle(now, advertisement, &mut out);
        assert!(discovery.router().is_none_or(|router| router.is_unicast_link_local()));
        assert!(discovery.next_deadline().is_some_and(|deadline| deadline > now));
        out.drain().for_each(drop);
    }
}
