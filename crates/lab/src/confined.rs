//! Programs with no more than the containers of our chart have (contract 7.5).

use std::path::Path;
use std::process::Command;

/// Capabilities of a container, beside which there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capabilities {
    /// As the controller.
    None,
    /// As a speaker: packet sockets.
    NetRaw,
    /// As a speaker that routers may call: the port of BGP needs a capability of its own.
    NetRawAndBindService,
}

/// A command that runs this program with these capabilities and without a way to get others; its arguments are to be added.
/// It needs `setpriv`, which becomes the program.
pub fn command(program: &Path, capabilities: Capabilities) -> Command {
    let kept = match capabilities {
        Capabilities::None => "-all",
        Capabilities::NetRaw => "-all,+net_raw",
        Capabilities::NetRawAndBindService => "-all,+net_raw,+net_bind_service",
    };
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all"]).arg(format!("--bounding-set={kept}"));
    command.arg(program);
    command
}
