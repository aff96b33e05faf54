//! A topology with everything in it, and the shell in it. The program under test is this binary itself: as `controller`
//! it gives fixed addresses, as `speaker` it only logs, so that what is seen is the lab's own work.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use kit::Duration;
use lab::fleet::Fleet;
use lab::router::RouterKind;
use lab::testing::Trial;
use lab::topology::Topology;
use lab::{Lab, eventually};

const LIMIT: Duration = Duration::from_secs(60);
const ONCE: Duration = Duration::from_secs(1);

#[derive(Parser)]
enum Cli {
    Lab(lab::command::LabCommand),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("controller") => {
            assign(Path::new(arguments.last().unwrap()));
            park()
        }
        Some("speaker") => park(),
        Some("lab") => {
            let Cli::Lab(command) = Cli::parse();
            match lab::command::run(command) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error:#}");
                    ExitCode::FAILURE
                }
            }
        }
        _ => lab::testing::main([
            Trial::new("services_of_a_topology_are_reached_over_any_node", services_are_reached),
            Trial::new("a_node_without_power_is_silent_and_marked_until_it_is_back", power),
            Trial::new("the_shell_runs_commands_on_hosts_and_cuts_the_power", shell),
            Trial::new("commands_of_the_shell_say_what_is_wrong_elsewhere", outside),
        ]),
    }
}

fn park() -> ExitCode {
    println!("running");
    std::thread::park();
    ExitCode::SUCCESS
}

/// What a controller would write for the Services of the topology.
fn assign(folder: &Path) {
    let status = folder.join("status");
    fs::create_dir_all(&status).unwrap();
    for (name, v4, v6) in [("web", "10.0.0.100", "fd00::100"), ("api", "203.0.113.0", "2001:db8:1::")] {
        let ingress = format!("[{{ip: {v4}}}, {{ip: '{v6}'}}]");
        let text = format!(
            "kind: Service\nmetadata: {{name: {name}, namespace: default}}\nstatus: {{loadBalancer: {{ingress: {ingress}}}}}\n"
        );
        fs::write(status.join(format!(".{name}")), text).unwrap();
        fs::rename(status.join(format!(".{name}")), status.join(format!("{name}.yaml"))).unwrap();
    }
}

fn fleet(lab: &Lab) -> Result<Fleet> {
    let topology = Topology::load("three-nodes")?;
    let fleet = Fleet::start(lab, &topology, std::env::current_exe()?, RouterKind::Embedded)?;
    for service in fleet.services() {
        fleet.wait_addresses(service, LIMIT)?;
    }
    Ok(fleet)
}

fn services_are_reached(lab: &Lab) -> Result<()> {
    let fleet = fleet(lab)?;
    ensure!(fleet.services().len() == 2, "{:?}", fleet.services());
    // Instead of speakers: routes of the client and of the router, to one node after the other.
    for (number, node) in ["node1", "node2", "node3"].into_iter().enumerate() {
        let last = number.checked_add(11).unwrap();
        let (v4, v6) = (format!("10.0.0.{last}").parse()?, format!("fd00::{last}").parse()?);
        let (client, router) = (fleet.host("client")?, fleet.host("router")?);
        client.set_route("10.0.0.100/32", &[v4])?;
        client.set_route("fd00::100/128", &[v6])?;
        router.set_route("203.0.113.0/32", &[v4])?;
        router.set_route("2001:db8:1::/128", &[v6])?;
        for (client, service) in [
            ("client", "10.0.0.100:80"),
            ("client", "[fd00::100]:80"),
            ("remote", "203.0.113.0:80"),
            ("remote", "[2001:db8:1::]:80"),
        ] {
            let service: SocketAddr = service.parse()?;
            let answer = eventually(LIMIT, || fleet.host(client)?.ask(service, ONCE));
            let answer = answer.with_context(|| format!("{client} to {service} over {node}"))?;
            ensure!(answer.backend == node, "over {node} {answer:?} answers");
        }
    }
    ensure!(fleet.host_with_address("10.0.0.12".parse()?) == Some("node2"));
    let mac = fleet.host("node3")?.mac("eth0")?;
    ensure!(fleet.host_with_mac(mac)? == Some("node3"));
    Ok(())
}

fn power(lab: &Lab) -> Result<()> {
    let mut fleet = fleet(lab)?;
    let folder = fleet.manifests()?.path().to_owned();
    let node = || fs::read_to_string(folder.join("node-node1.yaml"));
    let endpoints = || fs::read_to_string(folder.join("endpoints-default-web.yaml"));
    let backend: SocketAddr = "10.0.0.11:8080".parse()?;
    let ask = |fleet: &Fleet| fleet.host("client")?.ask(backend, ONCE);
    eventually(LIMIT, || ask(&fleet))?;
    ensure!(node()?.contains("\"True\"") && !endpoints()?.contains("false"));

    let (speaker, controller) = (fleet.speaker("node1")?.id(), fleet.controller()?.id());
    fleet.restart_speaker("node1")?;
    fleet.restart_controller()?;
    ensure!(fleet.speaker("node1")?.id() != speaker && fleet.controller()?.id() != controller);

    fleet.power_cut("node1")?;
    ensure!(fleet.speaker("node1").is_err() && ask(&fleet).is_err(), "node1 is still there");
    ensure!(fleet.power_cut("node1").is_err(), "the power is cut already");
    eventually(LIMIT, || {
        let (node, endpoints) = (node()?, endpoints()?);
        ensure!(node.contains("\"Unknown\""), "{node}");
        ensure!(endpoints.matches("\"ready\":false").count() == 2, "{endpoints}");
        Ok(())
    })?;

    fleet.power_on("node1")?;
    eventually(LIMIT, || ask(&fleet))?;
    eventually(LIMIT, || {
        let (node, endpoints) = (node()?, endpoints()?);
        ensure!(node.contains("\"True\"") && !endpoints.contains("false"), "{node} {endpoints}");
        Ok(())
    })?;
    ensure!(fleet.speaker("node1")?.ended()?.is_none());
    Ok(())
}

fn shell(_: &Lab) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["lab", "shell", "--shell", "/bin/sh"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let script = "
        echo host is $(on node2 hostname)
        on client ip -br -4 addr show eth0
        on node9 true
        power-off node1; echo off $?
        power-off node1; echo again $?
        power-on node1; echo on $?
        exit
    ";
    child.stdin.take().context("no standard input")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let all = format!("{text}\n{errors}");
    ensure!(output.status.success(), "{all}");
    for expected in ["2001:db8:1::", "host is node2", "10.0.0.200/24", "off 0", "again 1", "on 0"] {
        ensure!(text.contains(expected), "no {expected:?} in {all}");
    }
    for expected in ["there is no host node9; there are client, control, lan,", "node1 is no node with power"] {
        ensure!(errors.contains(expected), "no {expected:?} in {all}");
    }
    Ok(())
}

fn outside(_: &Lab) -> Result<()> {
    for command in [&["lab", "on", "node1", "true"][..], &["lab", "power-off", "node1"]] {
        let output = Command::new(std::env::current_exe()?).args(command).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && errors.contains("`metallb lab shell`"), "{errors}");
    }
    Ok(())
}
