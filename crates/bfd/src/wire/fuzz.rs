//! Entry points for fuzzers. Nothing may panic, and what is understood must survive a round trip.

use super::{ControlPacket, Datagram, EchoKey, EchoPacket};

/// Reads bytes as a control packet, an echo packet, and a datagram.
///
/// # Panics
///
/// When what comes out makes no sense: that is what a fuzzer looks for.
pub fn fuzz_wire(bytes: &[u8]) {
    match ControlPacket::decode(bytes) {
        Ok((packet, authentication)) => {
            assert_eq!(ControlPacket::decode(&packet.encode()), Ok((packet, None)), "written and read again");
            assert!(authentication.is_none() || bytes.len() >= 26);
            assert!(!packet.to_string().is_empty());
        }
        Err(discard) => assert!(!discard.to_string().is_empty()),
    }
    if let Some(echo) = EchoPacket::decode(bytes) {
        let key = EchoKey::new([0; 16]);
        assert_eq!(EchoPacket::decode(&echo.encode(&key)), Some(echo));
    }
    if let Some(datagram) = Datagram::decode(bytes) {
        assert!(datagram.payload.len() < bytes.len());
    }
}
