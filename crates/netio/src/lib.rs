//! Drivers of the cores: they move bytes and time between the kernel and the cores, and decide nothing.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation))]

pub mod bfd;
pub mod bgp;
mod causes;
pub mod clock;
pub mod gateways;
pub mod gossip;
pub mod interfaces;
pub mod neighbours;
mod netlink;
pub mod packet;
pub mod settings;
pub mod unnumbered;
mod watch;
