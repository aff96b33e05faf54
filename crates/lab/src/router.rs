//! Routers: the counterparts of our speakers, and what they believe.
//!
//! Each runs in a host of the lab with a configuration that is made from the same [`RouterConfig`], and answers the same
//! questions. What a daemon knows beyond that is reached by its own command language ([`Router::command`]).

mod bird;
mod embedded;
mod frr;
mod gobgp;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use kit::{Asn, Community, Duration, Family, HoldTime, MasterKeys, RouterId, Secret};
use sys::process::{Pid, Signal};

use crate::{Host, eventually};

/// How many paths to one network a router uses at once.
const PATHS_MAX: u8 = 16;

/// Which program is the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouterKind {
    /// Our own BGP core with routes in the kernel; part of the program. It knows peers by address and has no BFD.
    Embedded,
    /// FRR: bgpd, bfdd and zebra.
    Frr,
    /// BIRD 2 or 3.
    Bird,
    /// GoBGP, which sets no routes in the kernel.
    GoBgp,
}

impl RouterKind {
    /// Every kind.
    pub const ALL: [RouterKind; 4] = [RouterKind::Embedded, RouterKind::Frr, RouterKind::Bird, RouterKind::GoBgp];
}

impl fmt::Display for RouterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RouterKind::Embedded => "embedded",
            RouterKind::Frr => "frr",
            RouterKind::Bird => "bird",
            RouterKind::GoBgp => "gobgp",
        })
    }
}

/// What a router is told.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub router_id: RouterId,
    /// Who may talk to it.
    pub peers: Vec<RouterPeer>,
    /// Networks that it announces to its peers.
    pub announce: Vec<IpNet>,
    /// Lines in the router's own language, at the end of its BGP configuration.
    pub extra: String,
    /// Which programs it is made of.
    pub programs: Programs,
}

/// Where the programs of routers are: those that are installed, unless told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs(Option<PathBuf>);

impl Programs {
    /// The ones in this folder, such as that of `scripts/newer-routers.sh`.
    pub fn of(folder: &Path) -> Programs {
        Programs(Some(folder.to_owned()))
    }

    /// The program that is installed here.
    fn path(&self, installed: &str) -> PathBuf {
        let installed = Path::new(installed);
        match (&self.0, installed.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => installed.to_owned(),
        }
    }

    /// The same, as text for a command line.
    fn name(&self, installed: &str) -> String {
        self.path(installed).display().to_string()
    }
}

/// Who may talk to a router, and how.
#[derive(Clone, Debug)]
pub struct RouterPeer {
    /// Where the peers are.
    pub place: PeerPlace,
    /// Their AS.
    pub remote_as: Asn,
    /// What a session carries.
    pub families: BTreeSet<Family>,
    /// TCP MD5 password.
    pub password: Option<Secret>,
    /// Keys of TCP-AO instead (the embedded router alone).
    pub keys: Option<MasterKeys>,
    /// The hold time to offer.
    pub hold_time: HoldTime,
    /// BFD towards each of them.
    pub bfd: Option<Bfd>,
    /// Allow more than one hop in between.
    pub multi_hop: bool,
    /// Who begins.
    pub opening: Opening,
}

/// Where peers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerPlace {
    /// At this address.
    Address(IpAddr),
    /// Anywhere in this network: each that calls is accepted.
    Network(IpNet),
    /// At the other end of this interface, by link-local address (FRR and BIRD).
    Interface(String),
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The router waits.
    Waits,
    /// The router dials; possible at a known address only.
    Dials,
}

/// Timing of BFD at the router, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// Time between packets.
    pub interval: Duration,
    /// Packets that may be missed.
    pub multiplier: u8,
}

impl RouterConfig {
    /// A router that knows nobody yet.
    pub fn new(asn: u32, router_id: &str) -> Result<RouterConfig> {
        let asn = Asn::new(asn).context("an AS number is not 0")?;
        let router_id = router_id.parse()?;
        Ok(RouterConfig {
            asn,
            router_id,
            peers: Vec::new(),
            announce: Vec::new(),
            extra: String::new(),
            programs: Programs::default(),
        })
    }

    /// The same router with one more entry for peers.
    pub fn with_peer(mut self, peer: RouterPeer) -> RouterConfig {
        self.peers.push(peer);
        self
    }
}

impl RouterPeer {
    /// Accepts whoever calls from this network; `10.0.0.2/32` is one address. The session carries the network's family.
    pub fn accept(network: &str, remote_as: u32) -> Result<RouterPeer> {
        let network: IpNet = network.parse().with_context(|| format!("{network:?} is not a network"))?;
        let family = Family::of(&network.addr());
        let place = if network.prefix_len() == family.bits() {
            PeerPlace::Address(network.addr())
        } else {
            PeerPlace::Network(network)
        };
        Ok(RouterPeer {
            place,
            remote_as: Asn::new(remote_as).context("an AS number is not 0")?,
            families: BTreeSet::from([family]),
            password: None,
            keys: None,
            hold_time: HoldTime::DEFAULT,
            bfd: None,
            multi_hop: false,
            opening: Opening::Waits,
        })
    }

    /// The same with both families in each session.
    pub fn dual_stack(mut self) -> RouterPeer {
        self.families.extend(Family::ALL);
        self
    }
}

/// A session as its router sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterSession {
    /// The other end.
    pub peer: IpAddr,
    /// `Established` or what the router calls its state.
    pub state: String,
    /// What went wrong last, in the router's words; empty when nothing did.
    pub last_error: String,
}

impl RouterSession {
    /// True when routes can be exchanged.
    pub fn is_established(&self) -> bool {
        self.state == "Established"
    }
}

/// A route that a router has learnt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouterRoute {
    /// Where to.
    pub prefix: IpNet,
    /// Its NEXT_HOP; the global one where there are two.
    pub next_hop: IpAddr,
    /// The ASes on the way.
    pub as_path: Vec<u32>,
    /// `IGP`, `EGP` or `INCOMPLETE`.
    pub origin: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF as the router sees it: some give eBGP routes one of their own.
    pub local_pref: Option<u32>,
    /// Standard and large communities.
    pub communities: BTreeSet<Community>,
}

/// A running router. It ends when this is dropped.
#[derive(Debug)]
pub struct Router {
    host: Host,
    kind: RouterKind,
    daemon: Daemon,
    programs: Programs,
}

#[derive(Debug)]
enum Daemon {
    Embedded(embedded::Embedded),
    Frr(frr::Frr),
    Bird(bird::Bird),
    GoBgp(gobgp::GoBgp),
}

impl Router {
    /// Starts a router on a host, makes the host forward packets and spread flows over several paths by their ports.
    /// Returns when the router answers to its own commands.
    pub fn start(host: &Host, kind: RouterKind, config: &RouterConfig) -> Result<Router> {
        for peer in &config.peers {
            let dials = peer.opening == Opening::Dials;
            ensure!(!dials || matches!(peer.place, PeerPlace::Address(_)), "a router can dial an address only");
            ensure!(kind == RouterKind::Embedded || peer.keys.is_none(), "{kind} gets no keys of TCP-AO here");
        }
        host.forward_packets()?;
        host.sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
        host.sysctl("net/ipv6/fib_multipath_hash_policy", "1")?;
        let daemon = match kind {
            RouterKind::Embedded => Daemon::Embedded(embedded::Embedded::start(host, config)?),
            RouterKind::Frr => Daemon::Frr(frr::Frr::start(host, config)?),
            RouterKind::Bird => Daemon::Bird(bird::Bird::start(host, config)?),
            RouterKind::GoBgp => Daemon::GoBgp(gobgp::GoBgp::start(host, config)?),
        };
        Ok(Router { host: host.clone(), kind, daemon, programs: config.programs.clone() })
    }

    /// Where it runs.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Which program it is.
    pub fn kind(&self) -> RouterKind {
        self.kind
    }

    /// The processes that it is made of, by name; none for the embedded one.
    pub fn processes(&self) -> Vec<(&str, Pid)> {
        let processes: Vec<&crate::Process> = match &self.daemon {
            Daemon::Embedded(_) => Vec::new(),
            Daemon::Frr(frr) => frr.processes().iter().collect(),
            Daemon::Bird(bird) => vec![bird.process()],
            Daemon::GoBgp(gobgp) => vec![gobgp.process()],
        };
        processes.into_iter().map(|process| (process.name(), process.id())).collect()
    }

    /// Runs commands in the router's own language (`vtysh -c`, `birdc`, the arguments of `gobgp`) and gives back the answer.
    pub fn command(&self, commands: &[&str]) -> Result<String> {
        match &self.daemon {
            Daemon::Embedded(_) => bail!("the embedded router has no commands"),
            Daemon::Frr(_) => frr::command(&self.host, &self.programs, commands),
            Daemon::Bird(_) => bird::command(&self.host, &self.programs, commands),
            Daemon::GoBgp(_) => gobgp::command(&self.host, &self.programs, commands),
        }
    }

    /// Its sessions, those that are down included where the router knows them.
    pub fn sessions(&self) -> Result<Vec<RouterSession>> {
        match &self.daemon {
            Daemon::Embedded(embedded) => Ok(embedded.sessions()),
            Daemon::Frr(_) => frr::sessions(&self.host, &self.programs),
            Daemon::Bird(_) => bird::sessions(&self.host, &self.programs),
            Daemon::GoBgp(_) => gobgp::sessions(&self.host, &self.programs),
        }
    }

    /// The routes that it has learnt, of both families, in order.
    pub fn routes(&self) -> Result<Vec<RouterRoute>> {
        let mut routes = match &self.daemon {
            Daemon::Embedded(embedded) => Ok(embedded.routes()),
            Daemon::Frr(_) => frr::routes(&self.host, &self.programs),
            Daemon::Bird(_) => bird::routes(&self.host, &self.programs),
            Daemon::GoBgp(_) => gobgp::routes(&self.host, &self.programs),
        }?;
        routes.sort();
        Ok(routes)
    }

    /// The routes to exactly this network, one for each peer that announces it.
    pub fn routes_to(&self, prefix: &str) -> Result<Vec<RouterRoute>> {
        let prefix: IpNet = prefix.parse().with_context(|| format!("{prefix:?} is not a network"))?;
        Ok(self.routes()?.into_iter().filter(|route| route.prefix == prefix).collect())
    }

    /// Waits until the sessions with all these peers are established.
    pub fn wait_established(&self, peers: &[IpAddr], limit: Duration) -> Result<()> {
        eventually(limit, || {
            let sessions = self.sessions()?;
            let is_up = |peer: &IpAddr| sessions.iter().any(|one| one.peer == *peer && one.is_established());
            ensure!(peers.iter().all(is_up), "{} has {sessions:?}", self.kind);
            Ok(())
        })
    }

    /// Waits until exactly these are the next hops to a network; an empty list waits for its withdrawal.
    pub fn wait_next_hops(&self, prefix: &str, next_hops: &[IpAddr], limit: Duration) -> Result<Vec<RouterRoute>> {
        let wanted: BTreeSet<_> = next_hops.iter().copied().collect();
        eventually(limit, || {
            let routes = self.routes_to(prefix)?;
            let seen: BTreeSet<_> = routes.iter().map(|route| route.next_hop).collect();
            ensure!(seen == wanted, "{} reaches {prefix} through {seen:?}, not {wanted:?}", self.kind);
            Ok(routes)
        })
    }

    /// Stops the router as an administrator would: it says good-bye to its peers.
    pub fn stop(&mut self) -> Result<()> {
        match &mut self.daemon {
            Daemon::Embedded(embedded) => embedded.stop(),
            Daemon::Frr(frr) => frr.processes_mut().iter_mut().try_for_each(|process| process.stop().map(drop)),
            Daemon::Bird(bird) => bird.process_mut().stop().map(drop),
            Daemon::GoBgp(gobgp) => gobgp.process_mut().stop().map(drop),
        }
    }

    /// Makes the router hold still: its connections stay open, and it says nothing until [`Router::go_on`].
    pub fn hold_still(&mut self) -> Result<()> {
        self.signal(Signal::Stop)
    }

    /// Makes the router go on where it was held.
    pub fn go_on(&mut self) -> Result<()> {
        self.signal(Signal::Continue)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        match &mut self.daemon {
            Daemon::Embedded(_) => bail!("the embedded router is no process of its own"),
            Daemon::Frr(frr) => frr.processes().iter().try_for_each(|process| process.signal(signal)),
            Daemon::Bird(bird) => bird.process().signal(signal),
            Daemon::GoBgp(gobgp) => gobgp.process().signal(signal),
        }
    }

    /// Kills the part of the router that does BFD, where that is a process of its own (FRR); BGP goes on.
    pub fn kill_bfd(&mut self) -> Result<()> {
        match &mut self.daemon {
            Daemon::Frr(frr) => frr.bfd().context("bfdd has not been started")?.kill(),
            _ => bail!("BFD is no process of its own in {}", self.kind),
        }
    }

    /// Kills the router: it says nothing to anybody, and its routes stay in the kernel.
    pub fn kill(&mut self) -> Result<()> {
        match &mut self.daemon {
            Daemon::Embedded(embedded) => {
                embedded.kill();
                Ok(())
            }
            Daemon::Frr(frr) => frr.processes_mut().iter_mut().try_for_each(crate::Process::kill),
            Daemon::Bird(bird) => bird.process_mut().kill(),
            Daemon::GoBgp(gobgp) => gobgp.process_mut().kill(),
        }
    }
}
