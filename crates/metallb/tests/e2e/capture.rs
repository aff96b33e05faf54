//! Captures for bug reports: `metallb capture bgp` beside routers, read by tcpdump.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use kit::Secret;
use lab::router::{Router, RouterKind};
use lab::testing::Trial;
use lab::{Host, Lab, Output, eventually};

use crate::cluster::{Cluster, LIMIT, PROGRAM};
use crate::edge::{Edge, OURS, THEIRS, accepting, announce_routed, host_route, put_peers};
use crate::objects::Service;

const PASSWORD: &str = "not-for-the-file";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("a_capture_of_sessions_with_frr_is_what_tcpdump_reads", frr),
        Trial::new("a_capture_of_sessions_with_bird_is_what_tcpdump_reads", bird),
        Trial::new("a_capture_that_cannot_be_says_why", refused),
    ]
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["capture", "bgp"]).args(arguments);
    command
}

/// The file as tcpdump tells it. It would give up its rights before it opens a file, so it reads from a pipe.
fn told(host: &Host, file: &Path) -> Result<String> {
    let mut tcpdump = Command::new("sh");
    tcpdump.args(["-c", "tcpdump -n -v -r - <\"$0\""]).arg(file);
    host.output(tcpdump)?.ok()
}

/// Waits until there is something in a file.
fn wait_begin(path: &Path) -> Result<()> {
    eventually(LIMIT, || {
        ensure!(std::fs::metadata(path).is_ok_and(|file| file.len() > 0), "{} is empty", path.display());
        Ok(())
    })
}

fn frr(lab: &Lab) -> Result<()> {
    captured(lab, RouterKind::Frr)
}

fn bird(lab: &Lab) -> Result<()> {
    captured(lab, RouterKind::Bird)
}

fn captured(lab: &Lab, kind: RouterKind) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let config = accepting(&cluster, THEIRS, OURS, |peer| peer.password = Some(Secret::new(PASSWORD)))?;
    let mut edge = Edge::start(lab, &cluster, 254, kind, &config)?;
    let host = cluster.host("node-a").clone();
    announce_routed(&cluster)?;
    put_peers(&cluster, &format!(", connectTime: 1s, enableGracefulRestart: true, password: {PASSWORD}"))?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }

    // Of a session that there is, the beginning is told as well; then the router is started again.
    let file = |name: &str| -> (PathBuf, String) {
        let path = host.folder().join(name);
        let text = path.display().to_string();
        (path, text)
    };
    let ((four, to_four), (all, to_all)) = (file("four.pcapng"), file("all.pcapng"));
    let mut of_four = host.spawn("capture-four", command(&["four", "--output", &to_four, "--count", "7"]))?;
    let mut of_all = host.spawn("capture-all", command(&["--output", &to_all]))?;
    wait_begin(&four)?;
    wait_begin(&all)?;
    edge.router.stop()?;
    edge.router = Router::start(&edge.router.host().clone(), kind, &config)?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    ensure!(of_four.wait(LIMIT)?.success(), "{}", of_four.log());
    ensure!(of_four.log().contains("packets captured"), "{}", of_four.log());

    for path in [&four, &all] {
        let bytes = std::fs::read(path)?;
        ensure!(!bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()), "the password is in the file");
    }
    let said = told(&host, &four)?;
    // Once rebuilt, once as it was.
    for (what, least) in [("Open Message", 4), ("Keepalive Message", 4), ("Update Message", 1), ("Flags [S]", 2)] {
        ensure!(said.matches(what).count() >= least, "fewer than {least} of {what:?}:\n{said}");
    }
    ensure!(said.contains(&host_route(addresses[0])), "no route to {}:\n{said}", addresses[0]);
    ensure!(said.contains("192.168.1.11.") && said.contains("192.168.1.254.179"), "{said}");
    ensure!(!said.contains("IP6") && !said.contains("incorrect") && !said.contains("[|bgp"), "{said}");
    // A file is good whenever its capture ends, and however.
    eventually(LIMIT, || {
        let said = told(&host, &all)?;
        ensure!(addresses.iter().all(|target| said.contains(&host_route(*target))) && said.contains("IP6"), "{said}");
        Ok(())
    })?;
    of_all.kill()?;
    told(&host, &all).map(drop)
}

fn capture(host: &Host, arguments: &[&str]) -> Result<Output> {
    host.output(command(arguments))
}

fn refused(lab: &Lab) -> Result<()> {
    let cluster = Cluster::start(lab, &["node-a"])?;
    let host = cluster.host("node-a").clone();
    announce_routed(&cluster)?;
    put_peers(&cluster, "")?;
    let output = eventually(LIMIT, || {
        let output = capture(&host, &["fuor"])?;
        ensure!(output.stderr.contains("did you mean \"four\"?"), "{output:?}");
        Ok(output)
    })?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let output = capture(&host, &["--socket", "/run/nothing.sock"])?;
    ensure!(output.status.code() == Some(2) && output.stderr.contains("hint: "), "{output:?}");
    // Four at a time, and one more when one of them has ended.
    let path = |number: usize| host.folder().join(format!("{number}.pcapng")).display().to_string();
    let mut others = Vec::new();
    for number in 0..4 {
        others.push(host.spawn(&format!("capture-{number}"), command(&["--output", &path(number)]))?);
        wait_begin(Path::new(&path(number)))?;
    }
    let output = capture(&host, &["--output", &path(5), "--duration", "1s"])?;
    ensure!(output.status.code() == Some(1) && output.stderr.contains("end another one first"), "{output:?}");
    others.pop().context("there are four")?.kill()?;
    eventually(LIMIT, || capture(&host, &["--output", &path(5), "--duration", "1s"])?.ok().map(drop))
}
