//! `metallb lab`: the command line of the lab.

use std::io::stdout;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::demo::{self, Demo};
use crate::router::RouterKind;
use crate::shell::{self, Shell};
use crate::topology::Topology;

/// `metallb lab`.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything happens in namespaces of its own: nothing on this machine is changed, and nothing is left
when it ends. It needs root, or a kernel that lets users make namespaces.

Examples:
  metallb lab demo
  metallb lab demo --router frr
  metallb lab shell"
)]
pub struct LabCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Shows Services being reached, and a node being lost, in less than a minute
    Demo(SetupFlags),
    /// Gives a shell in a running topology
    Shell {
        #[command(flatten)]
        setup: SetupFlags,
        /// The shell
        #[arg(long, env = "SHELL", default_value = "/bin/sh", hide_env_values = true)]
        shell: PathBuf,
    },
    /// Runs a command on a host; in the lab's shell
    #[command(hide = true)]
    On {
        host: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Takes the power from a node; in the lab's shell
    #[command(hide = true)]
    PowerOff { node: String },
    /// Gives a node its power back; in the lab's shell
    #[command(hide = true)]
    PowerOn { node: String },
}

#[derive(Debug, Args)]
struct SetupFlags {
    /// What routers run: embedded, frr, bird
    #[arg(long, default_value = "embedded", value_name = "ROUTER", value_parser = router)]
    router: RouterKind,
    /// Hosts and manifests: a file, or the name of one that is built in
    #[arg(long, default_value = "three-nodes", value_name = "FILE")]
    topology: String,
}

/// A router that sets routes in the kernel, as those of a topology have to.
fn router(text: &str) -> Result<RouterKind, String> {
    let kind = RouterKind::ALL.into_iter().find(|kind| kind.to_string() == text);
    kind.filter(|kind| *kind != RouterKind::GoBgp).ok_or_else(|| match kind {
        Some(kind) => format!("{kind} sets no routes in the kernel; choose embedded, frr or bird"),
        None => "choose embedded, frr or bird".to_owned(),
    })
}

/// Runs the command. To be called while the program has one thread.
pub fn run(command: LabCommand) -> Result<()> {
    match command.what {
        What::Demo(SetupFlags { router, topology }) => {
            let topology = Topology::load(&topology)?;
            crate::enter()?;
            demo::run(&Demo { program: own_program()?, topology, router }, &mut stdout())
        }
        What::Shell { setup: SetupFlags { router, topology }, shell } => {
            let topology = Topology::load(&topology)?;
            crate::enter()?;
            shell::run(&Shell { program: own_program()?, topology, router, shell }, &mut stdout())
        }
        What::On { host, command } => shell::on(&host, &command),
        What::PowerOff { node } => shell::power("power-off", &node),
        What::PowerOn { node } => shell::power("power-on", &node),
    }
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("finding our own program")
}
