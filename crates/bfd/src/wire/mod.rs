//! Bytes to packets and back: control packets (RFC 5880 section 4) and our echo packets with the headers around them.
//!
//! Nothing here allocates or panics, whatever the bytes are. Which session a packet belongs to is not known here.

mod control;
mod datagram;
mod echo;
mod fuzz;
mod siphash;

pub use control::{AuthenticationType, CONTROL_LEN, ControlPacket, Diagnostic, Discriminator, State};
pub use datagram::{Datagram, ECHO_PORT, EchoDatagram};
pub use echo::{ECHO_LEN, EchoKey, EchoPacket};
#[doc(hidden)]
pub use fuzz::fuzz_wire;

#[cfg(test)]
mod tests;
