//! MetalLB: the load balancer for Kubernetes clusters that no cloud serves.
//!
//! One program with several faces: `controller` and `speaker` run in the cluster, `status`, `capture`, `lint`, `convert`, `crds` and
//! `lab` are for people.
//! Here arguments are read and parts are wired together; nothing is decided.

mod arguments;
mod capture;
mod configuration;
mod controller;
mod convert;
mod crds;
mod lint;
mod metrics;
mod process;
mod reports;
mod speaker;
mod status;
mod webhook;

use std::process::ExitCode;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; clap knows which stream and which status each of them has.
            let status = u8::try_from(error.exit_code()).unwrap_or(2);
            return match error.print() {
                Ok(()) => ExitCode::from(status),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    match arguments.command {
        Command::Controller(flags) => process::exit_status(controller::run(flags)),
        Command::Speaker(flags) => process::exit_status(speaker::run(flags)),
        Command::Lab(command) => process::exit_status(lab::command::run(command)),
        Command::Lint(flags) => lint::run(&flags),
        Command::Status(command) => status::run(&command),
        Command::Capture(command) => capture::run(&command),
        Command::Crds(flags) => crds::run(&flags),
        Command::Convert(flags) => convert::run(&flags),
    }
}
