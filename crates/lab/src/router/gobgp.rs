//! GoBGP: one daemon, one file, and `gobgp -j`. It sets no routes in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use kit::{Community, Duration, Family};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Opening, PeerPlace, Programs, RouterConfig, RouterPeer, RouterRoute, RouterSession};
use crate::{Host, Process, eventually};

const START_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct GoBgp {
    process: Process,
}

impl GoBgp {
    pub(super) fn start(host: &Host, config: &RouterConfig) -> Result<GoBgp> {
        let programs = &config.programs;
        let file = host.folder().join("gobgpd.json");
        fs::write(&file, configuration(config)?.to_string()).with_context(|| format!("writing {}", file.display()))?;
        let mut command = Command::new(programs.path("gobgpd"));
        command
            .args(["--log-plain", "--pprof-disable", "--api-hosts", "127.0.0.1:50051", "-t", "json", "-f"])
            .arg(&file);
        let gobgp = GoBgp { process: host.spawn("gobgpd", command).context("is gobgpd installed?")? };
        eventually(START_LIMIT, || self::command(host, programs, &["global"]).map(drop)).context("starting GoBGP")?;
        for network in &config.announce {
            let family = if Family::of(&network.addr()) == Family::V4 { "ipv4" } else { "ipv6" };
            self::command(host, programs, &["global", "rib", "add", "-a", family, &network.trunc().to_string()])?;
        }
        Ok(gobgp)
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    pub(super) fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

pub(super) fn command(host: &Host, programs: &Programs, arguments: &[&str]) -> Result<String> {
    host.output_ok(&programs.name("gobgp"), arguments)
}

fn configuration(config: &RouterConfig) -> Result<Value> {
    let (mut neighbors, mut groups, mut dynamic) = (Vec::new(), Vec::new(), Vec::new());
    for (number, peer) in config.peers.iter().enumerate() {
        let name = format!("group{number}");
        match &peer.place {
            PeerPlace::Address(address) => neighbors.push(peer_value(peer, ("neighbor-address", &address.to_string()))),
            PeerPlace::Network(network) => {
                groups.push(peer_value(peer, ("peer-group-name", &name)));
                dynamic.push(json!({"config": {"prefix": network.trunc().to_string(), "peer-group": name}}));
            }
            PeerPlace::Interface(_) => bail!("the lab has no unnumbered peers for GoBGP"),
        }
    }
    Ok(json!({
        "global": {
            "config": {"as": config.asn.get(), "router-id": config.router_id.to_string()},
            "use-multiple-paths": {"config": {"enabled": true}},
        },
        "neighbors": neighbors,
        "peer-groups": groups,
        "dynamic-neighbors": dynamic,
    }))
}

fn peer_value(peer: &RouterPeer, (key, name): (&str, &str)) -> Value {
    let families: Vec<_> = peer
        .families
        .iter()
        .map(|family| if *family == Family::V4 { "ipv4-unicast" } else { "ipv6-unicast" })
        .map(|name| json!({"config": {"afi-safi-name": name}}))
        .collect();
    let hold = peer.hold_time.as_secs();
    let password = peer.password.as_ref().map(kit::Secret::reveal).unwrap_or_default();
    json!({
        "config": {key: name, "peer-as": peer.remote_as.get(), "auth-password": password},
        "timers": {"config": {
            "hold-time": hold, "keepalive-interval": hold.checked_div(3).unwrap_or(0),
            "connect-retry": 1, "idle-hold-time-after-reset": 1,
        }},
        "transport": {"config": {"passive-mode": peer.opening == Opening::Waits}},
        // FRR and BIRD keep the routes of those who restart without being told to.
        "graceful-restart": {"config": {"enabled": true, "helper-only": true}},
        "ebgp-multihop": {"config": {"enabled": peer.multi_hop, "multihop-ttl": 64}},
        "afi-safis": families,
    })
}

pub(super) fn sessions(host: &Host, programs: &Programs) -> Result<Vec<RouterSession>> {
    sessions_read(&command(host, programs, &["-j", "neighbor"])?)
}

#[derive(Deserialize)]
struct Neighbor {
    state: NeighborState,
}

#[derive(Deserialize)]
struct NeighborState {
    neighbor_address: IpAddr,
    #[serde(default)]
    session_state: u8,
}

fn sessions_read(text: &str) -> Result<Vec<RouterSession>> {
    let neighbors: Vec<Neighbor> = serde_json::from_str(text).with_context(|| text.to_owned())?;
    let session = |Neighbor { state }: Neighbor| RouterSession {
        peer: state.neighbor_address,
        // The numbers of its API.
        state: match state.session_state {
            1 => "Idle",
            2 => "Connect",
            3 => "Active",
            4 => "OpenSent",
            5 => "OpenConfirm",
            6 => "Established",
            _ => "Unknown",
        }
        .to_owned(),
        last_error: String::new(),
    };
    Ok(neighbors.into_iter().map(session).collect())
}

/// A path of `gobgp -j global rib`.
#[derive(Deserialize)]
struct Path {
    attrs: Vec<Value>,
    /// The identifier of the peer, or nothing that can be read for a route of its own. GoBGP 3 calls it the source.
    #[serde(rename = "peer-id", alias = "source-id")]
    peer: Option<String>,
}

pub(super) fn routes(host: &Host, programs: &Programs) -> Result<Vec<RouterRoute>> {
    let mut routes = Vec::new();
    for family in ["ipv4", "ipv6"] {
        routes.extend(routes_read(&command(host, programs, &["-j", "global", "rib", "-a", family])?)?);
    }
    Ok(routes)
}

fn routes_read(text: &str) -> Result<Vec<RouterRoute>> {
    let table: BTreeMap<String, Vec<Path>> = serde_json::from_str(text).with_context(|| text.to_owned())?;
    let mut routes = Vec::new();
    for (prefix, paths) in table {
        let prefix = prefix.parse().with_context(|| prefix.clone())?;
        for path in paths.iter().filter(|path| path.peer.as_deref().is_some_and(|peer| peer.parse::<IpAddr>().is_ok()))
        {
            let mut route = RouterRoute {
                prefix,
                next_hop: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
                as_path: Vec::new(),
                origin: String::new(),
                med: None,
                local_pref: None,
                communities: BTreeSet::new(),
            };
            for attribute in &path.attrs {
                attribute_read(&mut route, attribute).with_context(|| attribute.to_string())?;
            }
            routes.push(route);
        }
    }
    Ok(routes)
}

/// Reads an attribute by its number (RFC 4271, 1997, 4760, 8092).
fn attribute_read(route: &mut RouterRoute, attribute: &Value) -> Result<()> {
    let number = |key: &str| attribute.get(key).and_then(Value::as_u64).and_then(|value| u32::try_from(value).ok());
    let list = |key: &str| attribute.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    match attribute.get("type").and_then(Value::as_u64) {
        Some(1) => {
            let name = match number("value") {
                Some(0) => "IGP",
                Some(1) => "EGP",
                _ => "INCOMPLETE",
            };
            name.clone_into(&mut route.origin);
        }
        Some(2) => {
            for segment in list("as_paths") {
                let asns = segment.get("asns").and_then(Value::as_array).cloned().unwrap_or_default();
                route.as_path.extend(asns.iter().filter_map(Value::as_u64).filter_map(|asn| u32::try_from(asn).ok()));
            }
        }
        Some(3 | 14) => {
            let address = attribute.get("nexthop").and_then(Value::as_str).context("no next hop")?;
            route.next_hop = address.parse()?;
        }
        Some(4) => route.med = number("metric"),
        Some(5) => route.local_pref = number("value"),
        Some(8) => {
            let values = list("communities").into_iter().filter_map(|value| u32::try_from(value.as_u64()?).ok());
            route.communities.extend(values.map(Community::Standard));
        }
        Some(32) => {
            for value in list("value") {
                let part = |key: &str| value.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
                let (a, b, c) = (part("ASN"), part("LocalData1"), part("LocalData2"));
                route.communities.extend(a.zip(b).zip(c).map(|((a, b), c)| Community::Large(a, b, c)));
            }
        }
        _ => {}
    }
    Ok(())
}
