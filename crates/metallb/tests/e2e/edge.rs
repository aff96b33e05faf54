//! The routers of a cluster: each on the segment, with a client behind it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use kit::Family;
use lab::router::{Programs, Router, RouterConfig, RouterKind, RouterPeer, RouterSession};
use lab::{Host, Lab, eventually};
use serde_json::Value;

use crate::cluster::{Cluster, LIMIT, v4, v6};

/// Our AS in most tests; it takes four bytes.
pub(crate) const OURS: u32 = 4_200_000_001;
/// The routers' AS in most tests; it takes four bytes too.
pub(crate) const THEIRS: u32 = 4_200_000_002;

/// The pool of the addresses that are announced by BGP; it is used only when a Service asks for it.
pub(crate) const ROUTED_POOL: &str = "addresses: [203.0.113.0/28, \"2001:db8:1::/124\"], autoAssign: false";

/// A router and a client behind it.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) router: Router,
    pub(crate) remote: Host,
}

impl Edge {
    /// Starts a router that has this number on the segment, and makes it the nodes' way to the client behind it.
    pub(crate) fn start(
        lab: &Lab,
        cluster: &Cluster,
        number: u8,
        kind: RouterKind,
        config: &RouterConfig,
    ) -> Result<Edge> {
        let (host, remote) = (lab.host(&format!("router{number}"))?, lab.host(&format!("remote{number}"))?);
        let (four, six) = (v4(number), v6(number));
        host.plug("eth0", cluster.segment())?.address(&format!("{four}/24"))?.address(&format!("{six}/64"))?;
        let (inner, outer) = host.cable_to("eth1", &remote, "eth0")?;
        inner.address(&format!("10.{number}.0.1/24"))?.address(&format!("fd00:{number}::1/64"))?;
        outer.address(&format!("10.{number}.0.2/24"))?.address(&format!("fd00:{number}::2/64"))?;
        remote.set_route("0.0.0.0/0", &[format!("10.{number}.0.1").parse()?])?;
        remote.set_route("::/0", &[format!("fd00:{number}::1").parse()?])?;
        for node in cluster.node_names() {
            cluster.host(node).set_route(&format!("10.{number}.0.0/24"), &[four])?;
            cluster.host(node).set_route(&format!("fd00:{number}::/64"), &[six])?;
        }
        Ok(Edge { router: Router::start(&host, kind, config)?, remote })
    }

    /// Starts FRR as router 254 with a session of each family for each node, in the usual ASes.
    pub(crate) fn frr(lab: &Lab, cluster: &Cluster) -> Result<Edge> {
        let config = accepting(cluster, THEIRS, OURS, |_| {})?;
        Edge::start(lab, cluster, 254, RouterKind::Frr, &config)
    }

    /// Waits until the sessions with all nodes are established, of both families.
    pub(crate) fn wait_sessions(&self, cluster: &Cluster) -> Result<()> {
        let addresses: Vec<IpAddr> =
            cluster.node_names().flat_map(|node| cluster.addresses_of_node(node)).copied().collect();
        self.router.wait_established(&addresses, LIMIT)
    }

    /// Waits until exactly these nodes are the next hops to an address, which is announced by itself.
    pub(crate) fn wait_nodes(&self, cluster: &Cluster, address: IpAddr, nodes: &[&str]) -> Result<()> {
        let family = Family::of(&address);
        let own = |node: &&str| cluster.addresses_of_node(node).iter().copied().find(|own| Family::of(own) == family);
        let next_hops: Vec<IpAddr> = nodes.iter().filter_map(own).collect();
        self.router.wait_next_hops(&host_route(address), &next_hops, LIMIT)?;
        Ok(())
    }

    /// The session with this address, as the router sees it.
    pub(crate) fn session(&self, peer: IpAddr) -> Result<RouterSession> {
        let sessions = self.router.sessions()?;
        let found = sessions.iter().find(|session| session.peer == peer);
        found.cloned().with_context(|| format!("the router knows no session with {peer} among {sessions:?}"))
    }

    /// Waits until the session with this address is down and its last error has this in it.
    pub(crate) fn wait_error(&self, peer: IpAddr, words: &str) -> Result<()> {
        eventually(LIMIT, || {
            let session = self.session(peer)?;
            ensure!(session.last_error.contains(words), "no {words:?} in {session:?}");
            Ok(())
        })
    }

    /// What FRR counts about its sessions, by address of the other end.
    pub(crate) fn counters(&self) -> Result<BTreeMap<IpAddr, SessionCounters>> {
        let text = self.router.command(&["show bgp neighbors json"])?;
        let Value::Object(neighbours) = serde_json::from_str(&text)? else { bail!("no sessions in {text}") };
        let mut counters = BTreeMap::new();
        for (name, neighbour) in neighbours {
            let Ok(peer) = name.parse() else { continue };
            let number = |key: &str| neighbour[key].as_u64();
            counters.insert(
                peer,
                SessionCounters {
                    established: number("connectionsEstablished").with_context(|| text.clone())?,
                    dropped: number("connectionsDropped").with_context(|| text.clone())?,
                },
            );
        }
        Ok(counters)
    }

    /// Says how FRR sees the session with this address, all of it.
    pub(crate) fn neighbour(&self, peer: IpAddr) -> Result<Value> {
        let text = self.router.command(&[&format!("show bgp neighbors {peer} json")])?;
        let answer: Value = serde_json::from_str(&text)?;
        answer.get(peer.to_string()).cloned().with_context(|| format!("no session with {peer} in {text}"))
    }
}

/// What FRR counts about a session: unchanged as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionCounters {
    established: u64,
    dropped: u64,
}

impl SessionCounters {
    /// True when the session was never interrupted since the router started.
    pub(crate) fn is_first(&self) -> bool {
        self.established == 1 && self.dropped == 0
    }
}

/// The network with one address in it.
pub(crate) fn host_route(address: IpAddr) -> String {
    format!("{address}/{}", Family::of(&address).bits())
}

/// A router that waits for the nodes, in each family over a session of its own.
pub(crate) fn accepting(
    cluster: &Cluster,
    router_as: u32,
    nodes_as: u32,
    edit: impl Fn(&mut RouterPeer),
) -> Result<RouterConfig> {
    let mut config = RouterConfig::new(router_as, "192.168.1.254")?;
    for address in cluster.node_names().flat_map(|node| cluster.addresses_of_node(node)) {
        let mut peer = RouterPeer::accept(&host_route(*address), nodes_as)?;
        edit(&mut peer);
        config.peers.push(peer);
    }
    Ok(config)
}

/// What the manifests say of the usual router: a BGPPeer of each family, `four` and `six`.
pub(crate) fn put_peers(cluster: &Cluster, more: &str) -> Result<()> {
    for (name, address) in [("four", v4(254)), ("six", v6(254))] {
        cluster.put("BGPPeer", name, &format!("myASN: {OURS}, peerASN: {THEIRS}, peerAddress: \"{address}\"{more}"))?;
    }
    Ok(())
}

/// FRR 10, BIRD 3 and GoBGP 4 (`scripts/newer-routers.sh`).
pub(crate) fn newer() -> Programs {
    Programs::of(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/routers/bin")))
}

/// Writes the pool of routed addresses with an advertisement for it, both called `routed`.
pub(crate) fn announce_routed(cluster: &Cluster) -> Result<()> {
    cluster.put("IPAddressPool", "routed", ROUTED_POOL)?;
    cluster.put("BGPAdvertisement", "routed", "ipAddressPools: [routed]")
}
