//! The real program against real counterparts: controller and speakers as processes on a folder of manifests; the Linux
//! kernel, FRR and BIRD on the other side of every wire.
//!
//! `cluster` is what the tests stand on; the other modules hold the tests by subject. A test waits for what must come with
//! [`lab::eventually`], and says what was seen last when it does not come.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test may panic, and tells what it measured"
)]

mod bfd;
mod capture;
mod cluster;
mod command_line;
mod conditions;
mod configuration;
mod conflicts;
mod edge;
mod failover;
mod hindrances;
mod hostile;
mod interfaces;
mod layer2;
mod leaving;
mod members;
mod metrics;
mod newer;
mod objects;
mod peering;
mod restarts;
mod routes;
mod services;
mod sessions;
mod sharing;
mod splits;
mod spreading;
mod status;

use std::process::ExitCode;

fn main() -> ExitCode {
    let modules = [
        layer2::trials(),
        interfaces::trials(),
        routes::trials(),
        sessions::trials(),
        services::trials(),
        restarts::trials(),
        leaving::trials(),
        members::trials(),
        conflicts::trials(),
        hindrances::trials(),
        spreading::trials(),
        sharing::trials(),
        splits::trials(),
        peering::trials(),
        failover::trials(),
        conditions::trials(),
        configuration::trials(),
        command_line::trials(),
        metrics::trials(),
        bfd::trials(),
        status::trials(),
        capture::trials(),
        newer::trials(),
        hostile::trials(),
    ];
    lab::testing::main(modules.into_iter().flatten())
}
