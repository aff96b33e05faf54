//! BIRD 2 or 3: one daemon, one file, and `birdc`, whose answers are text for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use kit::{Community, Duration, Family};

use super::{Opening, PATHS_MAX, PeerPlace, Programs, RouterConfig, RouterPeer, RouterRoute, RouterSession};
use crate::{Host, Process, eventually};

const START_LIMIT: Duration = Duration::from_secs(60);
const SOCKET: &str = "/run/bird.ctl";

#[derive(Debug)]
pub(super) struct Bird {
    process: Process,
}

impl Bird {
    pub(super) fn start(host: &Host, config: &RouterConfig) -> Result<Bird> {
        let programs = &config.programs;
        let file = host.folder().join("bird.conf");
        fs::write(&file, configuration(config)).with_context(|| format!("writing {}", file.display()))?;
        let mut command = Command::new(programs.path("bird"));
        command.args(["-f", "-s", SOCKET, "-c"]).arg(&file);
        let bird = Bird { process: host.spawn("bird", command).context("is bird2 installed?")? };
        eventually(START_LIMIT, || self::command(host, programs, &["show", "status"]).map(drop))
            .context("starting BIRD")?;
        Ok(bird)
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    pub(super) fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

pub(super) fn command(host: &Host, programs: &Programs, words: &[&str]) -> Result<String> {
    let mut arguments = vec!["-s", SOCKET];
    arguments.extend(words);
    host.output_ok(&programs.name("birdc"), &arguments)
}

fn configuration(config: &RouterConfig) -> String {
    let mut text = format!("router id {};\nlog stderr all;\nprotocol device {{ scan time 1; }}\n", config.router_id);
    for word in ["ipv4", "ipv6"] {
        let _ = write!(
            text,
            "protocol kernel {{ merge paths on limit {PATHS_MAX}; {word} {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol static own_{word} {{ {word};\n"
        );
        let family = if word == "ipv4" { Family::V4 } else { Family::V6 };
        for network in config.announce.iter().filter(|network| Family::of(&network.addr()) == family) {
            let _ = writeln!(text, "  route {} blackhole;", network.trunc());
        }
        text.push_str("}\n");
    }
    // One timing for all: BIRD has it by interface, not by neighbour.
    if let Some(bfd) = config.peers.iter().find_map(|peer| peer.bfd) {
        let (millis, multiplier) = (bfd.interval.as_millis(), bfd.multiplier);
        let _ = writeln!(
            text,
            "protocol bfd {{ interface \"*\" {{ interval {millis} ms; multiplier {multiplier}; }}; \
             multihop {{ interval {millis} ms; multiplier {multiplier}; }}; }}"
        );
    }
    for (number, peer) in config.peers.iter().enumerate() {
        peer_block(&mut text, config, number, peer);
    }
    text.push_str(&config.extra);
    text
}

fn peer_block(text: &mut String, config: &RouterConfig, number: usize, peer: &RouterPeer) {
    let _ = writeln!(text, "protocol bgp peer{number} {{\n  local as {};", config.asn);
    match &peer.place {
        PeerPlace::Address(address) => drop(writeln!(text, "  neighbor {address} as {};", peer.remote_as)),
        PeerPlace::Network(network) => drop(writeln!(
            text,
            "  neighbor range {} as {};\n  dynamic name \"peer{number}_\";",
            network.trunc(),
            peer.remote_as
        )),
        PeerPlace::Interface(interface) => drop(writeln!(
            text,
            "  neighbor range fe80::/10 as {};\n  interface \"{interface}\";\n  dynamic name \"peer{number}_\";",
            peer.remote_as
        )),
    }
    let hold = peer.hold_time.as_secs();
    let _ = writeln!(
        text,
        "  hold time {hold};\n  error wait time 1, 2;\n  connect retry time 1;\n  connect delay time 0;"
    );
    if peer.opening == Opening::Waits {
        text.push_str("  passive on;\n");
    }
    if let Some(password) = &peer.password {
        let _ = writeln!(text, "  password \"{}\";", password.reveal());
    }
    if peer.multi_hop {
        text.push_str("  multihop 64;\n");
    }
    if peer.bfd.is_some() {
        text.push_str("  bfd on;\n");
    }
    for family in &peer.families {
        let word = if *family == Family::V4 { "ipv4" } else { "ipv6" };
        let own = if peer.remote_as == config.asn { " next hop self;" } else { "" };
        // Over a link without IPv4 addresses (RFC 8950).
        let is_unnumbered = matches!(peer.place, PeerPlace::Interface(_)) && *family == Family::V4;
        let extended = if is_unnumbered { " extended next hop on;" } else { "" };
        let _ = writeln!(text, "  {word} {{ import all; export where source = RTS_STATIC;{own}{extended} }};");
    }
    text.push_str("}\n");
    if let PeerPlace::Interface(interface) = &peer.place {
        // The other end finds this router by its advertisements; it is one for nobody else.
        let _ = writeln!(
            text,
            "protocol radv {{ interface \"{interface}\" {{ min ra interval 3; max ra interval 4; default lifetime 0; }}; }}"
        );
    }
}

pub(super) fn sessions(host: &Host, programs: &Programs) -> Result<Vec<RouterSession>> {
    Ok(sessions_read(&command(host, programs, &["show", "protocols", "all"])?))
}

/// Reads `show protocols all`. A template for dynamic peers has no neighbour address, so it is no session.
fn sessions_read(text: &str) -> Vec<RouterSession> {
    let mut sessions: Vec<RouterSession> = Vec::new();
    let mut state = "";
    let mut is_last = false;
    for line in text.lines().map(str::trim) {
        let Some((key, value)) = line.split_once(':').map(|(key, value)| (key, value.trim())) else {
            is_last &= !line.is_empty();
            continue;
        };
        match key {
            "BGP state" => (state, is_last) = (value, false),
            "Neighbor address" => {
                // A link-local address carries its interface.
                let address = value.split('%').next().unwrap_or_default();
                if let Ok(peer) = address.parse() {
                    sessions.push(RouterSession { peer, state: state.to_owned(), last_error: String::new() });
                    is_last = true;
                }
            }
            "Last error" if is_last => {
                if let Some(session) = sessions.last_mut() {
                    value.clone_into(&mut session.last_error);
                }
            }
            _ => {}
        }
    }
    sessions
}

pub(super) fn routes(host: &Host, programs: &Programs) -> Result<Vec<RouterRoute>> {
    routes_read(&command(host, programs, &["show", "route", "all", "where", "source", "=", "RTS_BGP"])?)
}

/// Reads `show route all`: a line that begins with a network or blanks and has a protocol in brackets begins a route;
/// lines that begin with a tab tell about it.
fn routes_read(text: &str) -> Result<Vec<RouterRoute>> {
    let mut routes = Vec::new();
    let mut prefix: Option<IpNet> = None;
    for line in text.lines() {
        if let Some(detail) = line.strip_prefix('\t') {
            if let Some(route) = routes.last_mut() {
                detail_read(route, detail).with_context(|| line.to_owned())?;
            }
        } else if line.contains('[') {
            let first = line.split_whitespace().next().unwrap_or_default();
            prefix = if line.starts_with(' ') { prefix } else { Some(first.parse().with_context(|| line.to_owned())?) };
            let prefix = prefix.with_context(|| format!("no network before {line:?}"))?;
            routes.push(RouterRoute {
                prefix,
                next_hop: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
                as_path: Vec::new(),
                origin: String::new(),
                med: None,
                local_pref: None,
                communities: BTreeSet::new(),
            });
        }
    }
    Ok(routes)
}

fn detail_read(route: &mut RouterRoute, detail: &str) -> Result<()> {
    let Some((key, value)) = detail.split_once(": ") else { return Ok(()) };
    // BIRD 3 has `bgp_origin` where BIRD 2 has `BGP.origin`.
    match key.trim().to_ascii_lowercase().replace('.', "_").as_str() {
        "bgp_origin" => route.origin = value.to_uppercase(),
        "bgp_as_path" | "bgp_path" => {
            route.as_path = value.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        }
        "bgp_next_hop" => {
            // Two for IPv6 with a link-local one: the global comes first, and is the unspecified one if there is none.
            let mut next_hops = value.split_whitespace().filter(|text| *text != "::");
            route.next_hop = next_hops.next().unwrap_or_default().parse()?;
        }
        "bgp_med" => route.med = Some(value.parse()?),
        "bgp_local_pref" => route.local_pref = Some(value.parse()?),
        "bgp_community" => route.communities.extend(communities_read(value, "")?),
        "bgp_large_community" => route.communities.extend(communities_read(value, "large:")?),
        _ => {}
    }
    Ok(())
}

/// Reads `(64512,1) (64512,2)`, with blanks after the commas for large ones.
fn communities_read(text: &str, prefix: &str) -> Result<BTreeSet<Community>> {
    let inner = text.split(')').filter_map(|part| part.split_once('(')).map(|(_, inner)| inner);
    let read = |inner: &str| Ok(format!("{prefix}{}", inner.replace(", ", ":").replace(',', ":")).parse()?);
    inner.map(read).collect()
}
