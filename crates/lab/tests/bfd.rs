//! BFD against FRR and BIRD: our driver on one host, routers on others.

#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use bfd::{Path, Profile};
use kit::{Duration, Instant};
use lab::router::{Router, RouterConfig, RouterKind};
use lab::testing::Trial;
use lab::{Host, Lab, Task, eventually};
use netio::bfd::{Bfd, Event, Reader, Status};
use netio::clock::Clock;
use serde_json::Value;
use tokio::sync::mpsc;

/// Generous: the machine may be busy with other things.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    lab::testing::main([Trial::new("frr", frr)])
}

/// A host with our driver.
struct Speaker {
    commands: mpsc::Sender<Command>,
    seen: Arc<Mutex<Vec<(Instant, String, Event)>>>,
    reader: Reader<String>,
    clock: Clock,
    _task: Task<()>,
}

enum Command {
    Watch(String, Path, Profile),
    Unwatch(String),
}

impl Speaker {
    fn start(host: &Host) -> Result<Speaker> {
        let (commands, mut received) = mpsc::channel(64);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (clock, shown) = (Clock::start(), Arc::clone(&seen));
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let task = host.start_task("bfd", async move || {
            let mut bfd = Bfd::start(clock)?;
            tell.send(bfd.reader())?;
            loop {
                tokio::select! {
                    (client, event) = bfd.next() => shown.lock().unwrap().push((clock.now(), client, event)),
                    command = received.recv() => match command {
                        Some(Command::Watch(client, path, profile)) => bfd.watch(client, path, profile),
                        Some(Command::Unwatch(client)) => bfd.unwatch(&client),
                        None => return Ok(bfd.finish().await),
                    }
                }
            }
        })?;
        Ok(Speaker { commands, seen, reader: told.recv()?, clock, _task: task })
    }

    fn watch(&self, client: &str, path: Path, profile: Profile) -> Result<()> {
        self.commands.blocking_send(Command::Watch(client.to_owned(), path, profile)).context("it has ended")
    }
    fn status(&self) -> Status<String> {
        self.reader.status()
    }
}

fn frr(lab: &Lab) -> Result<()> {
    let (lan, host, router_host) = (lab.switch("lan")?, lab.host("node")?, lab.host("router")?);
    host.plug("eth0", &lan)?.address("10.0.0.1/24")?.address("fd00::1/64")?;
    router_host.plug("eth0", &lan)?.address("10.0.0.2/24")?.address("fd00::2/64")?;
    host.forward_packets()?;
    router_host.forward_packets()?;
    let router = Router::start(&router_host, RouterKind::Frr, &RouterConfig::new(64500, "10.0.0.2")?)?;
    router.command(&["conf t", "bfd", "profile e", "echo-mode", "exit", "peer 10.0.0.1 interface eth0", "profile e", "exit", "peer fd00::1 local-address fd00::2 interface eth0", "echo-mode"])?;
    let speaker = Speaker::start(&host)?;
    let p = Profile { echo: bfd::EchoMode::On, ..Profile::default() };
    speaker.watch("v4", Path::single_hop("10.0.0.2".parse()?), p)?;
    speaker.watch("v6", Path::single_hop("fd00::2".parse()?), p)?;
    std::thread::sleep(std::time::Duration::from_secs(8));
    println!("{}", router.command(&["show bfd peers json"])?);
    println!("{}", router.command(&["show bfd peers counters json"])?);
    println!("{:#?}", speaker.status());
    println!("{:#?}", speaker.seen);
    Ok(())
}
