//! A shell inside a running topology, with short commands to run things on hosts and to take the power from nodes.
//!
//! The commands are scripts that start our program again: `on HOST COMMAND` joins the host's namespaces, `power-off NODE`
//! and `power-on NODE` ask the program that holds the lab, over a socket. The shell of a whole cluster has the same ones.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use kit::Duration;
use sys::namespace::{Namespace, join};

use crate::account::table;
use crate::demo::map;
use crate::fleet::Fleet;
use crate::host::process::SBIN;
use crate::router::RouterKind;
use crate::topology::{Role, Topology};
use crate::{Lab, WORK};

/// Below the work folder: a file for each host, with the number of its thread.
const HOSTS: &str = "hosts";
const COMMANDS: &str = "bin";
const SOCKET: &str = "power";
const ADDRESSES_LIMIT: Duration = Duration::from_secs(15);

/// What to run.
#[derive(Clone, Debug)]
pub struct Shell {
    /// Our program.
    pub program: PathBuf,
    /// The hosts.
    pub topology: Topology,
    /// What routers run.
    pub router: RouterKind,
    /// The shell itself.
    pub shell: PathBuf,
}

/// Starts the topology, prints a map, and runs the shell to its end.
pub fn run(shell: &Shell, out: &mut dyn Write) -> Result<()> {
    let lab = Lab::new("shell")?;
    let mut fleet = Fleet::start(&lab, &shell.topology, shell.program.clone(), shell.router)?;
    hosts_write(&lab)?;
    commands_write(&format!("'{}' lab", shell.program.display()))?;
    writeln!(out, "{}\n\n{}\n", shell.topology.about, map(&shell.topology))?;
    writeln!(out, "{}\n", services(&fleet))?;
    writeln!(out, "{}", hints(&fleet, &lab))?;
    out.flush()?;
    power_serve(move |power, node| match power {
        Power::Off => fleet.power_cut(node),
        Power::On => fleet.power_on(node),
    })?;
    shell_run(&shell.shell, "")
}

/// Runs the shell, with our commands first in its path and a prompt that tells where one is. `settings` are further
/// lines that it reads first.
pub(crate) fn shell_run(shell: &Path, settings: &str) -> Result<()> {
    let path = format!("PATH={}:$PATH{SBIN}; export PATH\n{settings}", work(COMMANDS).display());
    let start_file = work("shellrc");
    // bash reads this instead of the user's file, so that it is the last to set the prompt; others by the variable ENV.
    fs::write(&start_file, format!("[ -z \"$BASH\" ] || [ ! -r ~/.bashrc ] || . ~/.bashrc\n{path}PS1='lab$ '\n"))?;
    let is_bash = shell.file_name().is_some_and(|name| name == "bash");
    let option = if is_bash { format!("--rcfile {}", start_file.display()) } else { String::new() };
    let script = format!("{path}ENV={}; export ENV; exec \"$0\" {option} -i", start_file.display());
    let status = Command::new("/bin/sh").args(["-c", &script]).arg(shell).status();
    status.with_context(|| format!("running {}", shell.display()))?;
    Ok(())
}

pub(crate) fn work(name: &str) -> PathBuf {
    Path::new(WORK).join(name)
}

/// Notes the hosts, for `on`.
pub(crate) fn hosts_write(lab: &Lab) -> Result<()> {
    fs::create_dir(work(HOSTS))?;
    for host in lab.hosts() {
        fs::write(work(HOSTS).join(host.name()), host.thread_id().get().to_string())?;
    }
    Ok(())
}

/// Makes the commands `on`, `power-off` and `power-on`; `launcher` is what stands before them in the line that runs them.
pub(crate) fn commands_write(launcher: &str) -> Result<()> {
    fs::create_dir(work(COMMANDS))?;
    ["on", "power-off", "power-on"].into_iter().try_for_each(|name| command_write(name, &format!("{launcher} {name}")))
}

/// Makes a command that stands for the beginning of a line.
pub(crate) fn command_write(name: &str, line: &str) -> Result<()> {
    let file = work(COMMANDS).join(name);
    fs::write(&file, format!("#!/bin/sh\nexec {line} \"$@\"\n"))?;
    Ok(fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?)
}

fn services(fleet: &Fleet) -> String {
    let row = |service: &crate::manifests::LabService| {
        let addresses = fleet.wait_addresses(service, ADDRESSES_LIMIT).unwrap_or_default();
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let text = if addresses.is_empty() { "none yet".to_owned() } else { addresses.join(" ") };
        vec![service.name.clone(), text]
    };
    table(&["Service", "addresses"], &fleet.services().iter().map(row).collect::<Vec<_>>())
}

fn hints(fleet: &Fleet, lab: &Lab) -> String {
    let first = |role| fleet.topology().hosts_with(role).next().map_or("HOST", |plan| plan.name.as_str());
    let (client, router, node) = (first(Role::Client), first(Role::Router), first(Role::Node));
    let rows = [
        (format!("on {client} curl http://ADDRESS/"), "ask a Service"),
        (format!("on {client} ip neighbour"), "who answers for which address"),
        (format!("on {router} ip route"), "what the router learnt"),
        (format!("on {node} tcpdump -ni eth0 arp or icmp6"), "watch the wire"),
        (format!("power-off {node}, power-on {node}"), "take the power from a node, and give it back"),
        (format!("ls {}/cluster", lab.folder().display()), "the cluster: manifests, and statuses below status"),
        (format!("tail {}/{node}/speaker.log", lab.folder().display()), "logs"),
        ("exit".to_owned(), "end everything"),
    ];
    let rows: Vec<_> = rows.into_iter().map(|(command, what)| vec![command, what.to_owned()]).collect();
    table(&["try", ""], &rows)
}

/// What can be done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    Off,
    On,
}

/// Serves `power-off` and `power-on`: a line with the command and the node, and the answer, empty when it was done.
pub(crate) fn power_serve(mut act: impl FnMut(Power, &str) -> Result<()> + Send + 'static) -> Result<()> {
    let listener = UnixListener::bind(work(SOCKET)).context("listening for power commands")?;
    let serve = move || {
        for stream in listener.incoming().flatten() {
            // Whoever asked may be gone; the next one is served all the same.
            drop(power_answer(&mut act, stream));
        }
    };
    thread::Builder::new().name("power".to_owned()).spawn(serve)?;
    Ok(())
}

fn power_answer(act: &mut impl FnMut(Power, &str) -> Result<()>, mut stream: UnixStream) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let outcome = match line.trim_end().split_once(' ') {
        Some(("power-off", node)) => act(Power::Off, node),
        Some(("power-on", node)) => act(Power::On, node),
        _ => bail!("{line:?}"),
    };
    if let Err(error) = outcome {
        writeln!(stream, "{error:#}")?;
    }
    Ok(())
}

/// Sends a power command to the program that holds the lab. To be called inside its shell.
pub fn power(command: &str, node: &str) -> Result<()> {
    let mut stream = UnixStream::connect(work(SOCKET)).context(OUTSIDE)?;
    writeln!(stream, "{command} {node}")?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    ensure!(answer.is_empty(), "{}", answer.trim_end());
    Ok(())
}

const OUTSIDE: &str = "there is no lab here; this works in the shell that `metallb lab shell` or `make cluster` gives";

/// Becomes a command on a host. To be called inside the lab's shell; returns only when it fails.
pub fn on(host: &str, command: &[String]) -> Result<()> {
    let hosts = fs::read_dir(work(HOSTS)).context(OUTSIDE)?;
    let mut names: Vec<_> = hosts.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    ensure!(names.iter().any(|name| name == host), "there is no host {host}; there are {}", names.join(", "));
    let thread = fs::read_to_string(work(HOSTS).join(host))?;
    let (program, arguments) = command.split_first().context("which command?")?;
    let here = std::env::current_dir()?;
    let kinds = [Namespace::Network, Namespace::Uts, Namespace::Mount];
    let open = |kind: &Namespace| File::open(format!("/proc/{thread}/ns/{}", kind.file_name()));
    let files = kinds.iter().map(open).collect::<std::io::Result<Vec<_>>>().context("the host is gone")?;
    for (kind, file) in kinds.into_iter().zip(&files) {
        join(file, kind)?;
    }
    // Joining a mount namespace leads to its root. The folder is the same one there.
    std::env::set_current_dir(here)?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("running {program}"))
}
