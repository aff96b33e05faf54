//! What Kubernetes does in a real cluster while nobody looks: service proxies follow the Services' addresses, and a node
//! that is gone is marked, with its endpoints.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context as _, Result};
use kit::{Duration, Family, Instant};
use netio::clock::Clock;

use super::BACKEND_PORT;
use crate::manifests::{LabEndpoint, LabService, ManifestFolder, ready_sockets};
use crate::service_proxy::{ClientAddress, Forward, Protocol, ServiceProxy};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(50);
/// After this a node that is gone is marked. A real cluster takes 40 s and more; nothing here waits for it.
pub(crate) const NODE_GRACE: Duration = Duration::from_secs(3);

/// After this a node that is back is called ready: it takes a kubelet that long to start and to tell.
pub(crate) const NODE_RETURN: Duration = Duration::from_secs(2);

/// The cluster as the lab keeps it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) folder: ManifestFolder,
    pub(super) nodes: BTreeMap<String, NodeRecord>,
    services: Vec<LabService>,
    clock: Clock,
}

/// A node as the cluster sees it.
#[derive(Debug)]
pub(super) struct NodeRecord {
    proxy: ServiceProxy,
    addresses: Vec<IpAddr>,
    health: Health,
    /// What the proxy was told last.
    forwards: Vec<Forward>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Ready,
    /// Without power since then, and not yet marked.
    Lost(Instant),
    Marked,
    /// With power since then, and not yet called ready.
    Returning(Instant),
}

impl Health {
    /// What the cluster believes.
    fn is_called_ready(self) -> bool {
        matches!(self, Health::Ready | Health::Lost(_))
    }

    /// What becomes of it in the course of time.
    fn next(self, now: Instant) -> Health {
        match self {
            Health::Lost(since) if now.since(since) >= NODE_GRACE => Health::Marked,
            Health::Returning(since) if now.since(since) >= NODE_RETURN => Health::Ready,
            other => other,
        }
    }
}

impl NodeRecord {
    pub(super) fn new(proxy: ServiceProxy, addresses: Vec<IpAddr>) -> NodeRecord {
        NodeRecord { proxy, addresses, health: Health::Ready, forwards: Vec::new() }
    }
}

impl World {
    pub(super) fn new(folder: ManifestFolder, services: Vec<LabService>) -> World {
        World { folder, nodes: BTreeMap::new(), services, clock: Clock::start() }
    }

    pub(super) fn node_lost(&mut self, node: &str) {
        let now = self.clock.now();
        if let Some(record) = self.nodes.get_mut(node) {
            record.health = Health::Lost(now);
        }
    }

    pub(super) fn node_back(&mut self, node: &str) {
        let now = self.clock.now();
        if let Some(record) = self.nodes.get_mut(node) {
            // A node that was away for so short a time that nobody noticed is still called ready.
            record.health = if record.health.is_called_ready() { Health::Ready } else { Health::Returning(now) };
        }
    }

    pub(super) fn write_nodes_and_endpoints(&self) -> Result<()> {
        for (name, node) in &self.nodes {
            self.folder.write_node(name, &node.addresses, node.health.is_called_ready())?;
        }
        let endpoints = self.endpoints();
        self.services.iter().try_for_each(|service| self.folder.write_endpoints(service, &endpoints, BACKEND_PORT))
    }

    fn endpoints(&self) -> Vec<LabEndpoint> {
        let endpoint = |(name, node): (&String, &NodeRecord)| LabEndpoint {
            node: name.clone(),
            addresses: node.addresses.clone(),
            ready: node.health.is_called_ready(),
        };
        self.nodes.iter().map(endpoint).collect()
    }

    /// Looks once at everything.
    fn look(&mut self) -> Result<()> {
        let now = self.clock.now();
        let mut changed = false;
        for node in self.nodes.values_mut() {
            let next = node.health.next(now);
            changed |= next.is_called_ready() != node.health.is_called_ready();
            node.health = next;
        }
        if changed {
            self.write_nodes_and_endpoints()?;
        }
        let (assigned, endpoints) = (self.folder.assigned()?, self.endpoints());
        for (name, node) in &mut self.nodes {
            let mut forwards = Vec::new();
            for service in &self.services {
                let key = (service.namespace.clone(), service.name.clone());
                let addresses = assigned.get(&key).map(Vec::as_slice).unwrap_or_default();
                forwards.extend(forwards_of(service, addresses, name, &endpoints));
            }
            // A node without power is not told; it hears of everything when it is back.
            let has_power = matches!(node.health, Health::Ready | Health::Returning(_));
            if has_power && forwards != node.forwards {
                node.proxy.set(&forwards).with_context(|| format!("the service proxy of {name}"))?;
                node.forwards = forwards;
            }
        }
        Ok(())
    }
}

/// What a node does with packets for a Service that has these addresses. It prefers its own endpoint, as `trafficDistribution: PreferSameNode` has
/// it, so that what is measured is the way to the node.
pub fn forwards_of(service: &LabService, addresses: &[IpAddr], node: &str, endpoints: &[LabEndpoint]) -> Vec<Forward> {
    let mut forwards = Vec::new();
    for address in addresses {
        let family = Family::of(address);
        let own = ready_sockets(endpoints.iter().filter(|one| one.node == node), family, BACKEND_PORT);
        let sockets =
            if own.is_empty() && !service.local { ready_sockets(endpoints.iter(), family, BACKEND_PORT) } else { own };
        for (protocol, port) in &service.ports {
            forwards.push(Forward {
                service: SocketAddr::new(*address, *port),
                protocol: if protocol == "UDP" { Protocol::Udp } else { Protocol::Tcp },
                endpoints: sockets.clone(),
                client: if service.local { ClientAddress::Kept } else { ClientAddress::Replaced },
            });
        }
    }
    forwards
}

/// The thread that looks. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Upkeep {
    stop: Option<SyncSender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Upkeep {
    pub(super) fn start(world: Arc<Mutex<World>>) -> Result<Upkeep> {
        let (stop, stopped) = sync_channel(0);
        let work = move || {
            while stopped.recv_timeout(PERIOD.into()) == Err(RecvTimeoutError::Timeout) {
                let Ok(mut world) = world.lock() else { return };
                // The next look tries again: a status may just be replaced, or a host be on its way down.
                if let Err(error) = world.look() {
                    tracing::warn!(error = format!("{error:#}"), "upkeep of the lab failed");
                }
            }
        };
        let thread = thread::Builder::new().name("upkeep".to_owned()).spawn(work)?;
        Ok(Upkeep { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It reported its own panic.
            drop(thread.join());
        }
    }
}
