//! A cluster of hosts, each with a member: ours, or one of HashiCorp's library.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail, ensure};
use gossip::{
    Config, Counters, Input, Key, Keyring, MemberChange, MemberState, Membership, Name, OUTBOX_LIMIT, Output,
};
use kit::{Duration, Family, Instant, Outbox, Rng};
use lab::{Host, Lab, Process, Switch, Task, eventually};
use netio::clock::Clock;
use netio::gossip::{AesGcm, Transport};
use sys::process::Signal;
use tokio::sync::mpsc;

/// Generous: the machine may be busy with other things.
pub(crate) const LIMIT: Duration = Duration::from_secs(150);
const PORT: u16 = 7946;
/// The secret of MetalLB, as its controller makes one.
const SECRET: &[u8] = b"AAECAwQFBgcICQoLDA0ODw";

/// Whose program a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    Ours,
    Go,
}

/// Whether a cluster is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    Plaintext,
    Encrypted,
}

/// A host with a member.
pub(crate) struct Member {
    pub(crate) host: Host,
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    program: Program,
}

enum Program {
    Ours(Ours),
    Go(Process),
    Ended,
}

/// A member of ours.
struct Ours {
    inputs: mpsc::Sender<Input>,
    seen: Arc<Mutex<Seen>>,
    task: Task<()>,
}

impl Ours {
    /// Ends the program, and waits until its sockets are closed.
    fn end(self) -> Result<()> {
        drop(self.inputs);
        self.task.join()
    }
}

/// What a member of ours has told its driver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) names: BTreeSet<String>,
    pub(crate) changes: Vec<(Instant, MemberChange)>,
    pub(crate) reports: Vec<String>,
    pub(crate) has_left: bool,
    pub(crate) counters: Counters,
}

pub(crate) struct Cluster {
    pub(crate) clock: Clock,
    pub(crate) members: Vec<Member>,
    secrecy: Secrecy,
    _lan: Switch,
}

impl Cluster {
    /// A cluster of these members, all of whom know each other.
    pub(crate) fn start(lab: &Lab, secrecy: Secrecy, makers: &[Maker]) -> Result<Cluster> {
        Cluster::start_over(lab, Family::V4, secrecy, makers)
    }

    /// A cluster over this family of addresses.
    pub(crate) fn start_over(lab: &Lab, family: Family, secrecy: Secrecy, makers: &[Maker]) -> Result<Cluster> {
        let clock = Clock::start();
        let lan = lab.switch("lan")?;
        let mut cluster = Cluster { clock, members: Vec::new(), secrecy, _lan: lan.clone() };
        for number in 0..makers.len() {
            let host = lab.host(&format!("node-{number}"))?;
            let last = u8::try_from(number + 1)?;
            let (address, length): (IpAddr, _) = match family {
                Family::V4 => (Ipv4Addr::new(10, 0, 0, last).into(), 24),
                Family::V6 => (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into(), 64),
            };
            host.plug("eth0", &lan)?.address(&format!("{address}/{length}"))?;
            let name = host.name().to_owned();
            cluster.members.push(Member { host, name, address, program: Program::Ended });
        }
        for (number, maker) in makers.iter().enumerate() {
            cluster.program_start(number, *maker)?;
        }
        cluster.agrees()?;
        Ok(cluster)
    }

    /// Starts a program on a host. Members of ours are told of all; Go's only of the first two others, as its joins are
    /// one after the other.
    pub(crate) fn program_start(&mut self, number: usize, maker: Maker) -> Result<()> {
        let program = match maker {
            Maker::Ours => Program::Ours(self.ours_start(number)?),
            Maker::Go => Program::Go(self.go_start(number)?),
        };
        self.members[number].program = program;
        self.introduce()
    }

    fn ours_start(&self, number: usize) -> Result<Ours> {
        let member = &self.members[number];
        let keyring = match self.secrecy {
            Secrecy::Plaintext => Keyring::plaintext(),
            Secrecy::Encrypted => {
                let cipher = AesGcm::new(&Key::from_secret(SECRET)?).context("a cipher")?;
                Keyring::new(Arc::new(cipher), [])?
            }
        };
        let config = Config::new(Name::new(&member.name)?, SocketAddr::new(member.address, PORT), keyring);
        let (inputs, received) = mpsc::channel(100);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (shown, clock) = (Arc::clone(&seen), self.clock);
        let task = member.host.start_task("gossip", async move || drive(clock, config, received, &shown).await)?;
        Ok(Ours { inputs, seen, task })
    }

    fn go_start(&self, number: usize) -> Result<Process> {
        let member = &self.members[number];
        let mut command = Command::new(lab::built("memberlist")?);
        command.args(["member", &member.name, &member.address.to_string(), &PORT.to_string()]);
        let others = self.members.iter().filter(|other| other.name != member.name).take(2);
        let join: Vec<String> = others.map(|other| SocketAddr::new(other.address, PORT).to_string()).collect();
        command.arg(format!("join={}", join.join(",")));
        if self.secrecy == Secrecy::Encrypted {
            let key = Key::from_secret(SECRET)?;
            command.arg(format!("key={}", key.bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
        }
        member.host.spawn("memberlist", command)
    }

    /// Tells members of ours where all are, and has them watch all.
    fn introduce(&self) -> Result<()> {
        let addresses: BTreeSet<SocketAddr> =
            self.members.iter().map(|member| SocketAddr::new(member.address, PORT)).collect();
        let names = self.members.iter().map(|member| Name::new(&member.name)).collect::<Result<BTreeSet<_>, _>>()?;
        for member in &self.members {
            member.tell(Input::Peers { addresses: addresses.clone() })?;
            member.tell(Input::Watch { members: names.clone() })?;
        }
        Ok(())
    }

    /// Waits until all that run see exactly those that run.
    pub(crate) fn agrees(&self) -> Result<()> {
        let running: BTreeSet<String> = self.running().map(|(_, member)| member.name.clone()).collect();
        eventually(LIMIT, || {
            for (_, member) in self.running() {
                let names = member.names()?;
                ensure!(names == running, "{} sees {names:?}, and there are {running:?}", member.name);
            }
            Ok(())
        })
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &Member)> {
        let is_running = |member: &Member| !matches!(member.program, Program::Ended);
        self.members.iter().enumerate().filter(move |(_, member)| is_running(member))
    }

    pub(crate) fn ours(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.running().filter(|(_, member)| matches!(member.program, Program::Ours(_)))
    }

    pub(crate) fn go(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.running().filter(|(_, member)| matches!(member.program, Program::Go(_)))
    }

    /// The host loses its power: first its cable, for it not to say a last word.
    pub(crate) fn power_off(&mut self, number: usize) -> Result<Instant> {
        let cut = self.clock.now();
        self.members[number].host.unplug("eth0")?;
        self.members[number].end()?;
        Ok(cut)
    }

    /// Waits until every other member of ours has told this, since `from`, and gives back how long the first and the
    /// last took.
    pub(crate) fn told(&self, of: usize, state: MemberState, from: Instant) -> Result<(Duration, Duration)> {
        let name = &self.members[of].name;
        eventually(LIMIT, || {
            let mut times = Vec::new();
            for (_, member) in self.ours().filter(|(number, _)| *number != of) {
                let seen = member.seen()?;
                let is_it = |(at, change): &&(Instant, MemberChange)| {
                    *at >= from && change.name.as_str() == name && change.state == state
                };
                let (at, _) =
                    seen.changes.iter().find(is_it).with_context(|| format!("{} has not said it", member.name))?;
                times.push(*at - from);
            }
            times.sort();
            Ok((times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default()))
        })
    }

    /// Deaths that members of ours have told of members that run.
    pub(crate) fn false_deaths(&self) -> Result<Vec<String>> {
        let running: BTreeSet<&str> = self.running().map(|(_, member)| member.name.as_str()).collect();
        let mut deaths = Vec::new();
        for (_, member) in self.ours() {
            for (at, change) in member.seen()?.changes {
                if change.state == MemberState::Dead && running.contains(change.name.as_str()) {
                    deaths.push(format!("{}: {} at {at:?}: {}", member.name, change.name, change.cause));
                }
            }
        }
        Ok(deaths)
    }

    /// Has every host lose so many of a hundred packets that come to it, whatever they are.
    pub(crate) fn lose(&self, percent: u32) -> Result<()> {
        let rules = format!(
            "table inet lossy {{\n chain input {{\n type filter hook input priority -300; policy accept;\n \
             iifname \"eth0\" numgen random mod 100 < {percent} drop\n }}\n }}\n"
        );
        for member in &self.members {
            member.host.output_ok("nft", &[&rules])?;
        }
        Ok(())
    }
}

impl Member {
    /// Whom it counts as members.
    pub(crate) fn names(&self) -> Result<BTreeSet<String>> {
        match &self.program {
            Program::Ours(_) => Ok(self.seen()?.names),
            Program::Go(process) => {
                let log = process.log();
                let line = log.lines().rev().find_map(|line| line.strip_prefix("members "));
                Ok(line.unwrap_or_default().split(',').map(str::to_owned).collect())
            }
            Program::Ended => bail!("no program runs on {}", self.name),
        }
    }

    /// What a member of ours has told.
    pub(crate) fn seen(&self) -> Result<Seen> {
        match &self.program {
            Program::Ours(ours) => Ok(ours.seen.lock().map_err(|_| anyhow::anyhow!("its driver panicked"))?.clone()),
            Program::Go(_) | Program::Ended => bail!("{} is not ours", self.name),
        }
    }

    /// What a member of Go has written.
    pub(crate) fn log(&self) -> String {
        if let Program::Go(process) = &self.program { process.log() } else { String::new() }
    }

    /// Tells a member of ours something; without effect for others.
    pub(crate) fn tell(&self, input: Input) -> Result<()> {
        if let Program::Ours(ours) = &self.program {
            ours.inputs.blocking_send(input).context("its driver has ended")?;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match &self.program {
            Program::Go(process) => process.signal(signal),
            Program::Ours(_) | Program::Ended => bail!("{} is no process", self.name),
        }
    }

    /// The program ends without a word.
    pub(crate) fn end(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.program, Program::Ended) {
            Program::Go(mut process) => process.kill(),
            Program::Ours(ours) => ours.end(),
            Program::Ended => Ok(()),
        }
    }

    /// The program leaves and ends.
    pub(crate) fn leave(&mut self) -> Result<()> {
        match &mut self.program {
            Program::Go(process) => drop(process.stop()?),
            Program::Ours(ours) => {
                ours.inputs.blocking_send(Input::Leave).context("its driver has ended")?;
                eventually(LIMIT, || {
                    ensure!(self.seen()?.has_left, "it has not left");
                    Ok(())
                })?;
            }
            Program::Ended => bail!("no program runs on {}", self.name),
        }
        self.end()
    }
}

/// The loop of docs in `netio::gossip`.
async fn drive(clock: Clock, config: Config, mut inputs: mpsc::Receiver<Input>, seen: &Mutex<Seen>) -> Result<()> {
    let mut transport = Transport::bind(config.address)?;
    let mut membership = Membership::new(config, Rng::new(transport.seed()), clock.now());
    let mut out = Outbox::with_limit(OUTBOX_LIMIT);
    loop {
        let input = tokio::select! {
            input = transport.next(&clock, membership.next_deadline()) => Some(input),
            input = inputs.recv() => input,
        };
        let Some(input) = input else {
            transport.finish().await;
            return Ok(());
        };
        membership.handle(clock.now(), input, &mut out);
        ensure!(out.dropped() == 0, "the outbox is too small");
        let news: Vec<Output> = out.drain().filter_map(|output| transport.execute(output)).collect();
        let mut seen = seen.lock().map_err(|_| anyhow::anyhow!("the test panicked"))?;
        for output in news {
            match output {
                Output::MemberChanged(change) => seen.changes.push((clock.now(), change)),
                Output::Left => seen.has_left = true,
                Output::Report(report) if seen.reports.len() < 1000 => seen.reports.push(report.to_string()),
                _ => {}
            }
        }
        seen.names = membership.names().map(ToString::to_string).collect();
        seen.counters = membership.counters();
    }
}
