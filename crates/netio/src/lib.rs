//! Drivers of the cores: they move bytes and time between the kernel and the cores, and decide nothing.

pub mod bgp;
pub mod clock;
pub mod interfaces;
pub mod packet;
