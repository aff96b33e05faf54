//! The program as a process: its flags, what it says when it cannot begin, its probes and its end (contract 7).

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::testing::Trial;
use lab::{Host, Lab, Output, eventually, http};
use sys::process::Signal;

use crate::cluster::{LIMIT, ONCE, PROGRAM, wait_log};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("what_is_wrong_on_the_command_line_ends_the_program_with_2_and_a_clear_line", wrong_use),
        Trial::new("what_is_missing_ends_the_program_with_1_and_one_clear_line", missing),
        Trial::new("contract_7_2_probes_tell_what_is_missing_until_it_is_there", probes),
        Trial::new("signals_end_the_program_in_order", signals),
    ]
}

/// What the probes of the kubelet ask by default.
const PROBES: &str = "127.0.0.1:17472";

fn program(host: &Host, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    host.output(command)
}

fn wrong_use(lab: &Lab) -> Result<()> {
    let host = lab.host("host")?;
    for (arguments, pieces) in [
        (&["speaker", "-node-name", "a", "-no-such-flag"][..], &["error: unexpected argument '--no-such-flag'"][..]),
        (&["speaker", "--manifests", "x"], &["error: ", "--node-name"]),
        (&["speaker", "--node-name", "a", "--log-level", "loud"], &["error: ", "--log-level", "loud", "warn"]),
        (&["controller", "--health-probe-port", "70000"], &["error: ", "--health-probe-port", "70000"]),
        (&["controller", "--manifests", "x", "--kubeconfig", "y"], &["error: ", "--manifests", "--kubeconfig"]),
        (&["controller", "--tls-min-version", "VersionTLS11"], &["error: ", "--tls-min-version", "VersionTLS12"]),
        (&["controller", "--tls-curve-preferences", "29,29"], &["error: ", "--tls-curve-preferences", "twice"]),
        (
            &["controller", "--tls-cipher-suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
            &["error: ", "--tls-cipher-suites", "--tls-min-version VersionTLS12"],
        ),
        (&["governor"], &["error: unrecognized subcommand 'governor'"]),
    ] {
        let output = program(&host, arguments)?;
        ensure!(output.status.code() == Some(2), "{arguments:?} ends with {}: {}", output.status, output.stderr);
        ensure!(output.stdout.is_empty(), "{arguments:?} has no result, but writes {:?}", output.stdout);
        for piece in pieces {
            ensure!(output.stderr.contains(piece), "{arguments:?}: no {piece:?} in {}", output.stderr);
        }
    }
    Ok(())
}

fn missing(lab: &Lab) -> Result<()> {
    let (host, folder) = (lab.host("host")?, lab.folder().join("manifests"));
    fs::create_dir(&folder)?;
    let folder = folder.display().to_string();
    let mut command = Command::new(PROGRAM);
    command.args(["controller", "--manifests", &folder]);
    let controller = host.spawn("controller", command)?;
    eventually(LIMIT, || probe(&host, PROBES, "/healthz").map(drop))?;
    let without_raw = ["--bounding-set", "-net_raw", "--inh-caps", "-net_raw", PROGRAM];
    let mut capability = Command::new("setpriv");
    capability.args(without_raw).args(["speaker", "--node-name", "a", "--manifests", &folder]);
    let speaker = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["speaker", "--node-name", "a"]).args(arguments);
        command
    };
    let broken = lab.folder().join("excludel2.yaml");
    fs::write(&broken, "announcedInterfacesToExclude: [\"(\"]\n")?;
    let broken = broken.display().to_string();
    for (command, pieces) in [
        (capability, &["NET_RAW"][..]),
        // The controller has the port.
        (speaker(&["--manifests", &folder]), &["port 17472", "--health-probe-port", "in use"]),
        (
            speaker(&["--namespace", "x", "--kubeconfig", "no-such-file", "--health-probe-port", "1234"]),
            &["no-such-file", "No such file"],
        ),
        (
            speaker(&["--kubeconfig", "no-such-file", "--health-probe-port", "1234"]),
            &["--namespace", "METALLB_NAMESPACE"],
        ),
        (speaker(&["--manifests", &folder, "--exclude-interfaces-file", &broken]), &["excludel2.yaml", "("]),
    ] {
        let what = format!("{command:?}");
        let output = host.output(command)?;
        let errors = &output.stderr;
        ensure!(output.status.code() == Some(1), "{what} ends with {}: {errors}", output.status);
        let is_one_line = errors.lines().count() == 1 && errors.starts_with("error: ");
        ensure!(is_one_line, "not one line, from {what}:\n{errors}");
        for piece in pieces {
            ensure!(errors.contains(piece), "{what}: no {piece:?} in {errors}");
        }
        let reason = errors.matches("No such file").count();
        ensure!(reason <= 1, "the reason is told {reason} times: {errors}");
    }
    drop(controller);
    Ok(())
}

fn probe(host: &Host, server: &str, path: &'static str) -> Result<http::Response> {
    let server: SocketAddr = server.parse()?;
    host.run(async move || {
        let answer = tokio::time::timeout(ONCE.into(), http::request(server, "GET", path, None)).await;
        answer.with_context(|| format!("no answer from {server} within {ONCE}"))?
    })
}

fn probes(lab: &Lab) -> Result<()> {
    let (lan, host, other) = (lab.switch("lan")?, lab.host("host")?, lab.host("other")?);
    host.plug("eth0", &lan)?.address("10.0.0.1/24")?.address("fd00::1/64")?;
    other.plug("eth0", &lan)?.address("10.0.0.2/24")?.address("fd00::2/64")?;
    let folder = lab.folder().join("later");
    let mut command = Command::new(PROGRAM);
    command.args(["controller", "--manifests"]).arg(&folder);
    let controller = host.spawn("controller", command)?;
    let mut command = Command::new(PROGRAM);
    // What the environment says counts as well.
    command
        .args(["speaker", "--health-probe-port", "1234", "--port", "0", "--manifests"])
        .arg(&folder)
        .env("METALLB_NODE_NAME", "host");
    let speaker = host.spawn("speaker", command)?;
    for (process, server) in [(&controller, PROBES), (&speaker, "127.0.0.1:1234")] {
        eventually(LIMIT, || {
            let alive = probe(&host, server, "/healthz")?;
            ensure!(alive.status == 200, "{} is not alive: {alive:?}", process.name());
            let ready = probe(&host, server, "/readyz")?;
            ensure!(ready.status == 503 && ready.body.contains("objects"), "{} is ready: {ready:?}", process.name());
            Ok(())
        })?;
        wait_log(process, 0, &["cannot read", "later", "No such file or directory"])?;
    }
    fs::create_dir(&folder)?;
    for (process, server) in [(&controller, PROBES), (&speaker, "127.0.0.1:1234")] {
        eventually(LIMIT, || {
            let ready = probe(&host, server, "/readyz")?;
            ensure!(ready.status == 200, "the folder is there, and {} is not ready: {ready:?}", process.name());
            Ok(())
        })?;
    }
    // The controller's probes are for the pod's network, the speaker's for its node alone.
    for address in ["10.0.0.1", "[fd00::1]"] {
        let ready = probe(&other, &format!("{address}:17472"), "/readyz")?;
        ensure!(ready.status == 200, "{ready:?}");
        let refusal = probe(&other, &format!("{address}:1234"), "/readyz");
        ensure!(refusal.is_err(), "the speaker's probes answer others: {refusal:?}");
    }
    Ok(())
}

fn signals(lab: &Lab) -> Result<()> {
    let (host, folder) = (lab.host("host")?, lab.folder().join("manifests"));
    fs::create_dir(&folder)?;
    for (signal, name) in [(Signal::Terminate, "SIGTERM"), (Signal::Interrupt, "SIGINT"), (Signal::Quit, "SIGQUIT")] {
        let mut command = Command::new(PROGRAM);
        command.args(["controller", "--manifests"]).arg(&folder);
        let mut controller = host.spawn("controller", command)?;
        let mut command = Command::new(PROGRAM);
        command
            .args(["speaker", "-node-name", "host", "-health-probe-port=1234", "-port=0", "-manifests"])
            .arg(&folder);
        let mut speaker = host.spawn("speaker", command)?;
        for (process, server) in [(&mut controller, PROBES), (&mut speaker, "127.0.0.1:1234")] {
            eventually(LIMIT, || {
                let ready = probe(&host, server, "/readyz")?;
                ensure!(ready.status == 200, "{} is not ready: {ready:?}", process.name());
                Ok(())
            })?;
            process.signal(signal)?;
            let status = process.wait(LIMIT)?;
            ensure!(status.success(), "{} ends with {status} on {name}", process.name());
            wait_log(process, 0, &["shutdown", name])?;
        }
    }
    Ok(())
}
