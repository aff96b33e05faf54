//! The comparison: the same routes from each announcer to the same sink.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::router::{Router, RouterConfig, RouterKind, RouterPeer};
use lab::{Host, Lab, Process, eventually, usage};
use netio::clock::Clock;
use sys::process::Pid;

use crate::sink::{Pulse, Session, prefix};

const LOCAL_AS: u32 = 64_500;
const SINK_AS: u32 = 64_501;
const ANNOUNCER: &str = "192.168.1.1";
/// Until a daemon has its routes.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Who announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announcer {
    Ours,
    Daemon(RouterKind),
}

impl Announcer {
    pub(crate) const ALL: [Announcer; 4] = [
        Announcer::Ours,
        Announcer::Daemon(RouterKind::Bird),
        Announcer::Daemon(RouterKind::Frr),
        Announcer::Daemon(RouterKind::GoBgp),
    ];
}

impl fmt::Display for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Announcer::Ours => "ours",
            Announcer::Daemon(RouterKind::Bird) => "BIRD",
            Announcer::Daemon(RouterKind::Frr) => "FRR",
            Announcer::Daemon(RouterKind::GoBgp) => "GoBGP",
            Announcer::Daemon(RouterKind::Embedded) => "embedded",
        })
    }
}

/// What one announcer needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// From the first session that was established until the last one had all routes.
    pub(crate) time: Duration,
    /// UPDATEs of one session.
    pub(crate) updates: usize,
    /// The most memory at once, from when the routes were loaded until all sessions had them; KiB.
    pub(crate) peak: u64,
    /// Processor time in the same span.
    pub(crate) cpu: Duration,
    /// Processor time from the start of the process, what it took to load the routes included.
    pub(crate) cpu_all: Duration,
}

impl Figures {
    /// The best of each.
    pub(crate) fn best(self, other: Figures) -> Figures {
        Figures {
            time: self.time.min(other.time),
            updates: self.updates.min(other.updates),
            peak: self.peak.min(other.peak),
            cpu: self.cpu.min(other.cpu),
            cpu_all: self.cpu_all.min(other.cpu_all),
        }
    }
}

/// What runs, for as long as this is there.
enum Running {
    Ours(Process),
    Daemon(Router),
}

impl Running {
    /// The process that speaks BGP; what FRR has beside it is not counted.
    fn pid(&self) -> Result<Pid> {
        match self {
            Running::Ours(process) => Ok(process.id()),
            Running::Daemon(router) => {
                let mut speakers = router.processes().into_iter();
                let speaker = speakers.find(|(name, _)| ["bgpd", "bird", "gobgpd"].contains(name));
                Ok(speaker.context("no process that speaks BGP")?.1)
            }
        }
    }
}

/// Lets one announcer announce so many routes over so many sessions.
pub(crate) fn measure(who: Announcer, routes: u32, peers: u8) -> Result<Figures> {
    let lab = Lab::new("dump")?;
    let (announcer, sink) = (lab.host("announcer")?, lab.host("sink")?);
    let (near, far) = announcer.cable_to("eth0", &sink, "eth0")?;
    near.address(&format!("{ANNOUNCER}/24"))?;
    let addresses: Vec<IpAddr> = (0..peers).map(|number| IpAddr::from([192, 168, 1, 101 + number])).collect();
    far.address("192.168.1.99/24")?;
    addresses.iter().try_for_each(|address| far.address(&format!("{address}/24")).map(drop))?;
    let clock = Clock::start();
    let target = SocketAddr::new(ANNOUNCER.parse()?, 179);
    let running = match who {
        Announcer::Ours => Running::Ours(ours(&announcer, routes, &addresses)?),
        Announcer::Daemon(kind) => Running::Daemon(daemon(&announcer, kind, routes, &addresses)?),
    };
    wait_listening(&sink, target)?;
    let pid = running.pid()?;
    settle(pid)?;
    usage::peak_reset(pid)?;
    let cpu_before = usage::cpu(pid)?;
    let pulse = if who == Announcer::Daemon(RouterKind::Bird) { Pulse::EachMillisecond } else { Pulse::None };
    let mut sessions = Session::dial_all(&sink, (&addresses, target), SINK_AS, pulse, clock)?;
    let mut filled = Vec::new();
    for session in &mut sessions {
        filled.push(session.fill(routes as usize)?);
    }
    settle(pid)?;
    let cpu_after = usage::cpu(pid)?;
    let begin = filled.iter().map(|filled| filled.established).min().context("no session")?;
    let end = filled.iter().map(|filled| filled.full).max().context("no session")?;
    Ok(Figures {
        time: end - begin,
        updates: filled.iter().map(|filled| filled.updates).max().unwrap_or(0),
        peak: usage::peak(pid)?,
        cpu: Duration::from_micros(cpu_after.as_micros() - cpu_before.as_micros()),
        cpu_all: cpu_after,
    })
}

/// Waits until somebody listens. The question comes from an address that is no peer's: a connection that ends at once
/// would count for a peer that failed.
fn wait_listening(sink: &Host, target: SocketAddr) -> Result<()> {
    eventually(LIMIT, || {
        sink.run(async move || {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind((IpAddr::from([192, 168, 1, 99]), 0).into())?;
            drop(socket.connect(target).await?);
            Ok(())
        })
    })
}

/// Waits until a process has nothing more to do: what it does late counts too.
fn settle(pid: Pid) -> Result<()> {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
    let mut before = usage::cpu(pid)?;
    eventually(LIMIT, || {
        thread::sleep(PAUSE);
        let now = usage::cpu(pid)?;
        let used = now.as_micros() - std::mem::replace(&mut before, now).as_micros();
        ensure!(used < 3000, "it used {used} us of the processor in {PAUSE:?}");
        Ok(())
    })
}

fn ours(host: &Host, routes: u32, peers: &[IpAddr]) -> Result<Process> {
    let mut command = Command::new("/proc/self/exe");
    let command_line = ["announce".to_owned(), routes.to_string(), LOCAL_AS.to_string(), SINK_AS.to_string()];
    command.args(command_line).args(peers.iter().map(IpAddr::to_string));
    host.spawn("ours", command)
}

fn daemon(host: &Host, kind: RouterKind, routes: u32, peers: &[IpAddr]) -> Result<Router> {
    let mut config = RouterConfig::new(LOCAL_AS, ANNOUNCER)?;
    for peer in peers {
        config.peers.push(RouterPeer::accept(&format!("{peer}/32"), SINK_AS)?);
    }
    match kind {
        // One by one is what its configuration and its commands offer; a dump of routes goes in as a whole.
        RouterKind::GoBgp => {}
        RouterKind::Frr => {
            // It waits a second for more to announce unless it is told not to; here all is there.
            config.extra.push_str(" coalesce-time 0\n");
            config.announce = (0..routes).map(prefix).collect();
        }
        RouterKind::Bird | RouterKind::Embedded => config.announce = (0..routes).map(prefix).collect(),
    }
    let router = Router::start(host, kind, &config)?;
    if kind == RouterKind::GoBgp {
        let file = host.folder().join("routes.mrt");
        fs::write(&file, mrt(routes))?;
        router.command(&["mrt", "inject", "global", &file.display().to_string()])?;
    }
    eventually(LIMIT, || {
        let (command, wanted): (&[&str], String) = match kind {
            RouterKind::Bird => (&["show", "route", "count"], format!("{routes} of {routes} routes")),
            RouterKind::Frr => {
                (&["show bgp ipv4 unicast statistics"], format!("Total Prefixes                :{routes:>13}"))
            }
            RouterKind::GoBgp => (&["global", "rib", "summary"], format!("Destination: {routes}, Path: {routes}")),
            RouterKind::Embedded => return Ok(()),
        };
        let answer = router.command(command)?;
        ensure!(answer.contains(&wanted), "no {wanted:?} in {answer}");
        Ok(())
    })?;
    if [RouterKind::Frr, RouterKind::GoBgp].contains(&kind) {
        // Both close a connection of a peer that they have not begun to wait for.
        eventually(LIMIT, || {
            let sessions = router.sessions()?;
            ensure!(sessions.iter().all(|session| session.state == "Active"), "{sessions:?}");
            Ok(())
        })?;
    }
    Ok(router)
}

/// The routes as a dump of a table (RFC 6396 section 4.3): one peer, and of each route ORIGIN, an empty AS_PATH and
/// NEXT_HOP.
fn mrt(routes: u32) -> Vec<u8> {
    const ATTRIBUTES: [u8; 14] = [0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 192, 168, 1, 1];
    let mut bytes = Vec::new();
    let mut record = |subtype: u16, parts: &[&[u8]]| {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        bytes.extend_from_slice(&0_u32.to_be_bytes());
        bytes.extend_from_slice(&13_u16.to_be_bytes());
        bytes.extend_from_slice(&subtype.to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        for part in parts {
            bytes.extend_from_slice(part);
        }
    };
    let address = [192, 168, 1, 1];
    // The collector, no name, one peer: its kind (an AS number of four bytes), identifier, address and AS.
    record(1, &[&address, &[0, 0, 0, 1], &[2], &address, &address, &LOCAL_AS.to_be_bytes()]);
    // The command ends before what it sent last has arrived, so the last route comes again and again.
    let padding = std::iter::repeat_n(routes - 1, 5000);
    for number in (0..routes).chain(padding) {
        let IpAddr::V4(network) = prefix(number).addr() else { continue };
        // Its number, the network, one entry: which peer, when, and the length of the attributes.
        record(2, &[&number.to_be_bytes(), &[32], &network.octets(), &[0, 1, 0, 0, 0, 0, 0, 0, 0, 14], &ATTRIBUTES]);
    }
    bytes
}
