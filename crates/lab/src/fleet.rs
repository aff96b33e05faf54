//! The machines of a topology with everything that runs on them: controller, speakers, backends, service proxies, routers.
//!
//! The cluster is a folder of manifests. The lab plays those parts of Kubernetes that our program does not: it writes
//! the Nodes and EndpointSlices, its service proxies stand in for kube-proxy, and it marks a node that is gone.

pub(crate) mod upkeep;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow, ensure};
use ipnet::IpNet;
use kit::{Duration, Family, Mac};

pub use self::upkeep::forwards_of;
use self::upkeep::{NodeRecord, Upkeep, World};
use crate::backend::Backend;
use crate::manifests::{LabService, ManifestFolder, services_in};
use crate::router::{Router, RouterConfig, RouterKind, RouterPeer};
use crate::service_proxy::ServiceProxy;
use crate::topology::{BgpPlan, HostPlan, Role, Topology};
use crate::{Host, Lab, Process, Switch, eventually};

/// Where every backend listens.
pub const BACKEND_PORT: u16 = 8080;

/// The secret of the speakers' memberlist.
const MEMBER_SECRET: &str = "AAECAwQFBgcICQoLDA0ODw";

/// The namespace of MetalLB's own objects.
const NAMESPACE: &str = "metallb-system";

/// A running topology.
#[derive(Debug)]
pub struct Fleet {
    topology: Topology,
    program: PathBuf,
    hosts: BTreeMap<String, Host>,
    services: Vec<LabService>,
    controllers: Vec<Process>,
    routers: BTreeMap<String, Router>,
    nodes: BTreeMap<String, Running>,
    /// The folder with the key of memberlist.
    secrets: PathBuf,
    world: Arc<Mutex<World>>,
    // Dropped before what it looks after.
    _upkeep: Upkeep,
    _switches: Vec<Switch>,
}

/// What runs on a node that has power.
#[derive(Debug)]
struct Running {
    speaker: Process,
    _backend: Backend,
}

impl Fleet {
    /// Sets up a topology and starts everything; `program` is ours, `router` what routers with BGP run.
    pub fn start(lab: &Lab, topology: &Topology, program: PathBuf, router: RouterKind) -> Result<Fleet> {
        ensure!(router != RouterKind::GoBgp, "gobgp sets no routes in the kernel, so it routes nothing in a topology");
        let services = services_in(&topology.manifests).context("the manifests of the topology")?;
        let (hosts, switches) = wire(lab, topology)?;
        let folder = ManifestFolder::create(lab.folder().join("cluster"))?;
        folder.write("topology", &topology.manifests)?;
        let secrets = lab.folder().join("memberlist");
        fs::create_dir_all(&secrets)?;
        fs::write(secrets.join("secretkey"), MEMBER_SECRET)?;

        let mut routers = BTreeMap::new();
        for plan in topology.hosts_with(Role::Router) {
            let host = host_of(&hosts, &plan.name)?;
            match &plan.bgp {
                Some(bgp) => {
                    let peers = node_addresses(topology, &bgp.networks);
                    routers.insert(plan.name.clone(), router_start(host, plan, bgp, &peers, router)?);
                }
                None => host.forward_packets()?,
            }
        }
        let mut world = World::new(folder.clone(), services.clone());
        for plan in topology.hosts_with(Role::Node) {
            let host = host_of(&hosts, &plan.name)?;
            let proxy = ServiceProxy::start(host)?;
            world.nodes.insert(plan.name.clone(), NodeRecord::new(proxy, plan.addresses().collect()));
        }
        world.write_nodes_and_endpoints()?;

        let mut controllers = Vec::new();
        for plan in topology.hosts_with(Role::Control) {
            controllers.push(controller_start(host_of(&hosts, &plan.name)?, &program, &folder)?);
        }
        let world = Arc::new(Mutex::new(world));
        let mut fleet = Fleet {
            topology: topology.clone(),
            program,
            hosts,
            services,
            controllers,
            routers,
            nodes: BTreeMap::new(),
            secrets,
            _upkeep: Upkeep::start(Arc::clone(&world))?,
            world,
            _switches: switches,
        };
        for plan in topology.hosts_with(Role::Node) {
            let running = fleet.node_start(&plan.name)?;
            fleet.nodes.insert(plan.name.clone(), running);
        }
        Ok(fleet)
    }

    /// What it was made from.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A host by name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        host_of(&self.hosts, name)
    }

    /// The routers that speak BGP.
    pub fn routers(&self) -> impl Iterator<Item = &Router> {
        self.routers.values()
    }

    /// The Services of type LoadBalancer.
    pub fn services(&self) -> &[LabService] {
        &self.services
    }

    /// The folder that is the cluster.
    pub fn manifests(&self) -> Result<ManifestFolder> {
        Ok(self.world()?.folder.clone())
    }

    /// The controller's process.
    pub fn controller(&mut self) -> Result<&mut Process> {
        self.controllers.first_mut().context("there is no controller")
    }

    /// The speaker's process on a node that has power.
    pub fn speaker(&mut self, node: &str) -> Result<&mut Process> {
        let running = self.nodes.get_mut(node).with_context(|| format!("{node} is no node with power"))?;
        Ok(&mut running.speaker)
    }

    /// Ends a speaker in order and starts it again, as an upgrade does.
    pub fn restart_speaker(&mut self, node: &str) -> Result<()> {
        self.speaker(node)?.stop()?;
        let speaker = self.speaker_start(node)?;
        *self.speaker(node)? = speaker;
        Ok(())
    }

    /// Ends the controller in order and starts it again.
    pub fn restart_controller(&mut self) -> Result<()> {
        self.controller()?.stop()?;
        let plan = self.topology.hosts_with(Role::Control).next().context("there is no controller")?;
        let controller = controller_start(self.host(&plan.name)?, &self.program, &self.manifests()?)?;
        *self.controller()? = controller;
        Ok(())
    }

    /// The addresses of a Service that it has now.
    pub fn addresses_of(&self, service: &LabService) -> Result<Vec<IpAddr>> {
        let assigned = self.world()?.folder.assigned()?;
        Ok(assigned.get(&(service.namespace.clone(), service.name.clone())).cloned().unwrap_or_default())
    }

    /// Waits until a Service has an address of each family.
    pub fn wait_addresses(&self, service: &LabService, limit: Duration) -> Result<Vec<IpAddr>> {
        eventually(limit, || {
            let addresses = self.addresses_of(service)?;
            let has = |family| addresses.iter().any(|address| Family::of(address) == family);
            ensure!(Family::ALL.into_iter().all(has), "Service {} has {addresses:?}", service.name);
            Ok(addresses)
        })
    }

    /// The host with this MAC address.
    pub fn host_with_mac(&self, mac: Mac) -> Result<Option<&str>> {
        for plan in &self.topology.hosts {
            let host = self.host(&plan.name)?;
            for position in 0..plan.links.len() {
                if host.mac(&interface(position))? == mac {
                    return Ok(Some(&plan.name));
                }
            }
        }
        Ok(None)
    }

    /// The host with this address.
    pub fn host_with_address(&self, address: IpAddr) -> Option<&str> {
        let plan = self.topology.hosts.iter().find(|plan| plan.addresses().any(|own| own == address));
        plan.map(|plan| plan.name.as_str())
    }

    /// Takes the power from a node: its links go, then everything that runs on it. After a while the lab, as the node
    /// controller of the cluster, marks it.
    pub fn power_cut(&mut self, node: &str) -> Result<()> {
        let mut running = self.nodes.remove(node).with_context(|| format!("{node} is no node with power"))?;
        for position in 0..self.link_count(node)? {
            self.host(node)?.unplug(&interface(position))?;
        }
        running.speaker.kill()?;
        self.world()?.node_lost(node);
        Ok(())
    }

    /// Gives a node its power back. After a while the cluster calls it ready.
    pub fn power_on(&mut self, node: &str) -> Result<()> {
        ensure!(!self.nodes.contains_key(node), "{node} has power");
        for position in 0..self.link_count(node)? {
            self.host(node)?.replug_anew(&interface(position))?;
        }
        let running = self.node_start(node)?;
        self.nodes.insert(node.to_owned(), running);
        self.world()?.node_back(node);
        Ok(())
    }

    fn link_count(&self, host: &str) -> Result<usize> {
        Ok(self.plan(host)?.links.len())
    }

    fn plan(&self, host: &str) -> Result<&HostPlan> {
        let plan = self.topology.hosts.iter().find(|plan| plan.name == host);
        plan.with_context(|| format!("there is no host {host}"))
    }

    fn node_start(&self, node: &str) -> Result<Running> {
        let backend = Backend::start(self.host(node)?, BACKEND_PORT)?;
        Ok(Running { speaker: self.speaker_start(node)?, _backend: backend })
    }

    fn speaker_start(&self, node: &str) -> Result<Process> {
        let mut command = Command::new(&self.program);
        command.args(["speaker", "--namespace", NAMESPACE, "--node-name", node, "--manifests"]);
        command.arg(self.world()?.folder.path());
        // As the chart has it: on the first address of the node, with the key that is mounted.
        if let Some(address) = self.plan(node)?.addresses().next() {
            command.args(["--ml-bindaddr", &address.to_string(), "--ml-secret-key-path"]).arg(&self.secrets);
        }
        self.host(node)?.spawn("speaker", command)
    }

    fn world(&self) -> Result<std::sync::MutexGuard<'_, World>> {
        self.world.lock().map_err(|_| anyhow!("the upkeep of the lab panicked"))
    }
}

/// The name of an interface by its place among the links.
pub fn interface(position: usize) -> String {
    format!("eth{position}")
}

fn controller_start(host: &Host, program: &Path, folder: &ManifestFolder) -> Result<Process> {
    let mut command = Command::new(program);
    command.args(["controller", "--namespace", NAMESPACE, "--manifests"]).arg(folder.path());
    host.spawn("controller", command)
}

fn host_of<'a>(hosts: &'a BTreeMap<String, Host>, name: &str) -> Result<&'a Host> {
    hosts.get(name).with_context(|| format!("there is no host {name}"))
}

/// Makes the hosts and connects them.
fn wire(lab: &Lab, topology: &Topology) -> Result<(BTreeMap<String, Host>, Vec<Switch>)> {
    let mut switches = BTreeMap::new();
    for segment in &topology.segments {
        switches.insert(segment.clone(), lab.switch(segment)?);
    }
    let mut hosts = BTreeMap::new();
    for plan in &topology.hosts {
        let host = lab.host(&plan.name)?;
        for (position, link) in plan.links.iter().enumerate() {
            let switch = switches.get(&link.segment).with_context(|| format!("no segment {}", link.segment))?;
            let plugged = host.plug(&interface(position), switch)?;
            for address in &link.addresses {
                plugged.address(&address.to_string())?;
            }
        }
        for router in &plan.routers {
            let everything = if router.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            host.set_route(everything, &[*router])?;
        }
        hosts.insert(plan.name.clone(), host);
    }
    Ok((hosts, switches.into_values().collect()))
}

/// The addresses of nodes that may talk to a router.
fn node_addresses(topology: &Topology, networks: &[IpNet]) -> Vec<IpAddr> {
    let may_talk = |address: &IpAddr| networks.iter().any(|network| network.contains(address));
    topology.hosts_with(Role::Node).flat_map(HostPlan::addresses).filter(may_talk).collect()
}

fn router_start(host: &Host, plan: &HostPlan, bgp: &BgpPlan, peers: &[IpAddr], kind: RouterKind) -> Result<Router> {
    let id = plan.addresses().find(IpAddr::is_ipv4).with_context(|| format!("{} has no IPv4 address", plan.name))?;
    let mut config = RouterConfig::new(bgp.asn, &id.to_string())?;
    for peer in peers {
        let network = IpNet::from(*peer).to_string();
        config.peers.push(RouterPeer::accept(&network, bgp.peers_asn)?);
    }
    Router::start(host, kind, &config).with_context(|| format!("starting {kind} on {}", plan.name))
}
