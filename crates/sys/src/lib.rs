//! System calls that have no safe wrapper elsewhere: the only crate with `unsafe` code.
//!
//! Every function here checks what it is given, calls the kernel once and turns `errno` into an error that says what
//! was tried. It holds no state and takes no decision.

pub mod icmpv6;
pub mod namespace;
pub mod netlink;
pub mod packet;
pub mod process;
pub mod schedule;
pub mod tcp;
pub mod udp;
pub mod wait;
