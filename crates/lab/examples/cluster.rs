//! `make cluster`: a whole Kubernetes on this machine, with MetalLB in it, for as long as a shell runs.

use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use lab::cluster::{self, playground};
use lab::kubernetes::ProxyMode;
use lab::shell;

/// Starts a whole Kubernetes on this machine, with MetalLB in it, and gives a shell with kubectl, helm and a client.
#[derive(Debug, Parser)]
#[command(
    name = "cluster",
    after_help = "Everything happens in namespaces of its own: nothing on this machine is changed, and nothing is left
when the shell ends. It needs root and control groups of version 1."
)]
struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// What kube-proxy works with: nftables, iptables
    #[arg(long, default_value = "nftables", value_name = "MODE")]
    proxy: ProxyMode,
    /// The shell
    #[arg(long, env = "SHELL", default_value = "/bin/sh", hide_env_values = true)]
    shell: PathBuf,
    #[command(subcommand)]
    inside: Option<Inside>,
}

/// The commands of the shell.
#[derive(Debug, Subcommand)]
enum Inside {
    /// Runs a command on a host
    #[command(hide = true)]
    On {
        host: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Takes the power from a node
    #[command(hide = true)]
    PowerOff { node: String },
    /// Gives a node its power back
    #[command(hide = true)]
    PowerOn { node: String },
}

fn main() -> ExitCode {
    cluster::node_run_if_asked();
    let outcome = match Arguments::parse() {
        Arguments { inside: Some(Inside::On { host, command }), .. } => shell::on(&host, &command),
        Arguments { inside: Some(Inside::PowerOff { node }), .. } => shell::power("power-off", &node),
        Arguments { inside: Some(Inside::PowerOn { node }), .. } => shell::power("power-on", &node),
        Arguments { nodes, proxy, shell, inside: None } => play(nodes, proxy, shell),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a standard error there is nobody to tell.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn play(nodes: u8, proxy: ProxyMode, shell: PathBuf) -> Result<()> {
    let program = std::env::current_exe().context("finding our own program")?;
    cluster::enter()?;
    playground::run(&playground::Playground { nodes, proxy, program, shell }, &mut stdout())
}
