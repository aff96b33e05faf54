//! FRR: zebra, bfdd and bgpd with a configuration file each, and `vtysh` to ask them.
//!
//! Everything that FRR keeps in its run folder is the host's own, since each host has its own `/run`. The daemons change
//! to the user `frr`, so there has to be one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use kit::{Community, Duration, Family};
use serde::Deserialize;

use super::{Opening, PATHS_MAX, PeerPlace, Programs, RouterConfig, RouterPeer, RouterRoute, RouterSession};
use crate::{Host, Process, eventually};

const START_LIMIT: Duration = Duration::from_secs(60);

/// zebra first: the others tell it their routes. Their options are those of Debian's service.
const DAEMONS: [&str; 3] = ["zebra", "bfdd", "bgpd"];

#[derive(Debug)]
pub(super) struct Frr {
    processes: Vec<Process>,
}

impl Frr {
    pub(super) fn start(host: &Host, config: &RouterConfig) -> Result<Frr> {
        host.output_ok("sh", &["-c", "mkdir -p /run/frr && chown frr:frr /run/frr"])
            .context("FRR runs as the user frr: is it installed, and are we root?")?;
        let programs = &config.programs;
        let mut processes = Vec::new();
        for daemon in DAEMONS {
            let file = host.folder().join(format!("{daemon}.conf"));
            let text = match daemon {
                "bgpd" => bgpd_configuration(config),
                "bfdd" => bfdd_configuration(config),
                _ => String::new(),
            };
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            let mut command = Command::new(programs.path(&format!("/usr/lib/frr/{daemon}")));
            command.args(["--log", "stdout", "-A", "127.0.0.1", "-f"]).arg(&file);
            processes.push(host.spawn(daemon, command)?);
            wait_ready(host, programs, daemon).with_context(|| format!("starting {daemon}"))?;
        }
        Ok(Frr { processes })
    }

    pub(super) fn bfd(&mut self) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.name() == "bfdd")
    }

    pub(super) fn processes(&self) -> &[Process] {
        &self.processes
    }

    pub(super) fn processes_mut(&mut self) -> &mut [Process] {
        &mut self.processes
    }
}

/// A daemon that does not find zebra tries again only after 10 s, so each has to be known to it before the next one
/// starts.
fn wait_ready(host: &Host, programs: &Programs, daemon: &str) -> Result<()> {
    let client = daemon.trim_end_matches('d');
    eventually(START_LIMIT, || {
        let answer = command(host, programs, &["show zebra client summary"])?;
        ensure!(daemon == "zebra" || answer.lines().any(|line| line.starts_with(client)), "{answer}");
        Ok(())
    })
}

pub(super) fn command(host: &Host, programs: &Programs, commands: &[&str]) -> Result<String> {
    let arguments: Vec<_> = commands.iter().flat_map(|command| ["-c", command]).collect();
    host.output_ok(&programs.name("vtysh"), &arguments)
}

fn bfdd_configuration(config: &RouterConfig) -> String {
    let mut text = String::from("bfd\n");
    for (number, bfd) in config.peers.iter().enumerate().filter_map(|(number, peer)| Some((number, peer.bfd?))) {
        let millis = bfd.interval.as_millis();
        let _ = write!(
            text,
            " profile peer{number}\n  detect-multiplier {}\n  receive-interval {millis}\n  transmit-interval {millis}\n exit\n",
            bfd.multiplier
        );
    }
    text.push_str("exit\n");
    text
}

fn bgpd_configuration(config: &RouterConfig) -> String {
    let mut text = format!(
        "router bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n \
         no bgp network import-check\n bgp bestpath as-path multipath-relax\n bgp log-neighbor-changes\n",
        config.asn, config.router_id
    );
    let names: Vec<String> = config.peers.iter().enumerate().map(|(n, peer)| peer_lines(&mut text, n, peer)).collect();
    for family in Family::ALL {
        let word = if family == Family::V4 { "ipv4" } else { "ipv6" };
        let _ = write!(
            text,
            " address-family {word} unicast\n  maximum-paths {PATHS_MAX}\n  maximum-paths ibgp {PATHS_MAX}\n"
        );
        for network in config.announce.iter().filter(|network| Family::of(&network.addr()) == family) {
            let _ = writeln!(text, "  network {network}");
        }
        for (peer, name) in config.peers.iter().zip(&names).filter(|(peer, _)| peer.families.contains(&family)) {
            let _ = writeln!(text, "  neighbor {name} activate");
            if peer.remote_as == config.asn {
                let _ = writeln!(text, "  neighbor {name} next-hop-self");
            }
        }
        text.push_str(" exit-address-family\n");
    }
    text.push_str(&config.extra);
    text.push_str("exit\n");
    text
}

/// Writes what holds for all families, and gives back the name of the neighbour or group.
fn peer_lines(text: &mut String, number: usize, peer: &RouterPeer) -> String {
    let name = match &peer.place {
        PeerPlace::Address(address) => address.to_string(),
        PeerPlace::Interface(interface) => interface.clone(),
        PeerPlace::Network(_) => format!("group{number}"),
    };
    match &peer.place {
        PeerPlace::Address(_) => drop(writeln!(text, " neighbor {name} remote-as {}", peer.remote_as)),
        PeerPlace::Interface(_) => drop(writeln!(text, " neighbor {name} interface remote-as {}", peer.remote_as)),
        PeerPlace::Network(network) => {
            let _ = writeln!(text, " neighbor {name} peer-group\n neighbor {name} remote-as {}", peer.remote_as);
            let _ = writeln!(text, " bgp listen range {} peer-group {name}", network.trunc());
        }
    }
    let hold = peer.hold_time.as_secs();
    let _ = writeln!(text, " neighbor {name} timers {} {hold}", hold.checked_div(3).unwrap_or(0));
    let _ = writeln!(text, " neighbor {name} timers connect 1\n neighbor {name} advertisement-interval 0");
    if let Some(password) = &peer.password {
        let _ = writeln!(text, " neighbor {name} password {}", password.reveal());
    }
    if peer.opening == Opening::Waits && matches!(peer.place, PeerPlace::Address(_)) {
        let _ = writeln!(text, " neighbor {name} passive");
    }
    if peer.multi_hop {
        let _ = writeln!(text, " neighbor {name} ebgp-multihop 64");
    }
    if peer.bfd.is_some() {
        let _ = writeln!(text, " neighbor {name} bfd profile peer{number}");
    }
    name
}

/// An entry of `show bgp neighbors json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Neighbor {
    bgp_state: String,
    #[serde(default)]
    last_reset_due_to: String,
    #[serde(default)]
    last_notification_reason: String,
    bgp_neighbor_addr: Option<String>,
}

pub(super) fn sessions(host: &Host, programs: &Programs) -> Result<Vec<RouterSession>> {
    let text = command(host, programs, &["show bgp neighbors json"])?;
    let neighbours: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).context(text.clone())?;
    let session = |(name, value): (String, serde_json::Value)| {
        let neighbour: Neighbor = serde_json::from_value(value).ok()?;
        let address = neighbour.bgp_neighbor_addr.filter(|address| address != "none").unwrap_or(name);
        let errors = [neighbour.last_reset_due_to, neighbour.last_notification_reason];
        let last_error = errors.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
        Some(RouterSession { peer: address.parse().ok()?, state: neighbour.bgp_state, last_error })
    };
    Ok(neighbours.into_iter().filter_map(session).collect())
}

/// A path in `show bgp FAMILY unicast json detail`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Path {
    #[serde(default)]
    aspath: AsPath,
    origin: String,
    metric: Option<u32>,
    loc_prf: Option<u32>,
    #[serde(default)]
    community: CommunityList,
    #[serde(default)]
    large_community: CommunityList,
    #[serde(default)]
    nexthops: Vec<NextHop>,
    peer: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct AsPath {
    string: String,
}

#[derive(Default, Deserialize)]
struct CommunityList {
    string: String,
}

#[derive(Deserialize)]
struct NextHop {
    ip: IpAddr,
    scope: Option<String>,
}

pub(super) fn routes(host: &Host, programs: &Programs) -> Result<Vec<RouterRoute>> {
    let mut routes = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let text = command(host, programs, &[&format!("show bgp {family} unicast json detail")])?;
        routes.extend(routes_read(&text).with_context(|| text)?);
    }
    Ok(routes)
}

fn routes_read(text: &str) -> Result<Vec<RouterRoute>> {
    let table: serde_json::Value = serde_json::from_str(text)?;
    let mut routes = Vec::new();
    for (prefix, entry) in table.get("routes").and_then(|routes| routes.as_object()).into_iter().flatten() {
        let prefix: IpNet = prefix.parse()?;
        // Newer ones have the paths in a member, older ones in a list after an entry about the network.
        let paths = entry.get("paths").unwrap_or(entry).as_array().into_iter().flatten();
        for path in paths.filter(|path| path.get("origin").is_some()) {
            routes.extend(route_read(prefix, &Path::deserialize(path)?)?);
        }
    }
    Ok(routes)
}

/// `None` for a network of the router's own.
fn route_read(prefix: IpNet, path: &Path) -> Result<Option<RouterRoute>> {
    let is_own = path.peer.as_ref().and_then(|peer| peer.get("peerId")).is_some_and(|id| id == "0.0.0.0" || id == "::");
    if is_own {
        return Ok(None);
    }
    let global = path.nexthops.iter().find(|next_hop| next_hop.scope.as_deref() != Some("link-local"));
    let next_hop = global.or(path.nexthops.first()).context("a route without next hop")?.ip;
    let as_path = path.aspath.string.split_whitespace().filter(|word| *word != "Local");
    let mut communities = BTreeSet::new();
    for word in path.community.string.split_whitespace() {
        communities.insert(well_known(word).map_or_else(|| word.parse(), Ok)?);
    }
    for word in path.large_community.string.split_whitespace() {
        communities.insert(format!("large:{word}").parse()?);
    }
    ensure!(!path.origin.is_empty(), "a route without origin");
    Ok(Some(RouterRoute {
        prefix,
        next_hop,
        as_path: as_path.map(str::parse).collect::<Result<_, _>>().context(path.aspath.string.clone())?,
        origin: path.origin.to_uppercase(),
        med: path.metric,
        local_pref: path.loc_prf,
        communities,
    }))
}

/// The communities that FRR shows by name (RFC 1997, 3765, 7999, 8326, 9494).
fn well_known(word: &str) -> Option<Community> {
    let value = match word {
        "graceful-shutdown" => 0xffff_0000,
        "accept-own" => 0xffff_0001,
        "llgr-stale" => 0xffff_0006,
        "no-llgr" => 0xffff_0007,
        "blackhole" => 0xffff_029a,
        "no-export" => 0xffff_ff01,
        "no-advertise" => 0xffff_ff02,
        "local-AS" => 0xffff_ff03,
        "no-peer" => 0xffff_ff04,
        _ => return None,
    };
    Some(Community::Standard(value))
}
