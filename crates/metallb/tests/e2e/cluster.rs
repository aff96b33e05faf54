//! A cluster on one segment: the real controller and speakers on a folder of manifests, a backend and a service proxy on
//! every node, and a client with an ordinary kernel.
//!
//! The test plays the rest of Kubernetes: it writes Nodes, Services and EndpointSlices. The service proxies are brought
//! up to date whenever a client asks, so nothing runs in the background but the programs under test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use kit::{Duration, Mac};
use lab::backend::{Answer, Backend};
use lab::confined::{self, Capabilities};
use lab::fleet::{BACKEND_PORT, forwards_of};
use lab::manifests::{LabEndpoint, ManifestFolder};
use lab::service_proxy::{Forward, ServiceProxy};
use lab::{Host, Lab, NeighbourState, Process, Switch, eventually};
use serde_json::{Value, json};

use crate::objects::{NAMESPACE, Service, object};

/// For everything that has to happen sooner or later. Generous: it is used up only when something is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// How long one request may take.
pub(crate) const ONCE: Duration = Duration::from_secs(1);

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_metallb");

/// The segment's networks, and what of them is for Services.
pub(crate) const SEGMENT_POOL: &str =
    "addresses: [192.168.1.240-192.168.1.249, \"fc00:f853:ccd:e799::1-fc00:f853:ccd:e799::9\"]";

/// The address of the host with this number on the segment.
pub(crate) fn v4(number: u8) -> IpAddr {
    [192, 168, 1, number].into()
}

/// Its IPv6 address, whose last digits look like the number: 254 has `::254`.
pub(crate) fn v6(number: u8) -> IpAddr {
    address(&format!("fc00:f853:ccd:e799::{number}"))
}

/// An address that is written in the test.
pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A port of an address.
pub(crate) fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// What is not the same in every cluster.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Names of the nodes; they have the numbers from 11 on.
    pub(crate) nodes: Vec<&'static str>,
    /// More arguments for the controller.
    pub(crate) controller: Vec<String>,
    /// More arguments for every speaker.
    pub(crate) speaker: Vec<String>,
    /// What every speaker may do.
    pub(crate) capabilities: Capabilities,
    /// How speakers know of each other.
    pub(crate) members: MemberList,
}

/// How speakers know of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberList {
    /// From the readiness of their nodes alone.
    Off,
    /// By memberlist, encrypted with [`MEMBER_SECRET`], as the chart has it.
    On,
}

/// The content of the memberlist Secret.
pub(crate) const MEMBER_SECRET: &str = "AAECAwQFBgcICQoLDA0ODw";

impl Setup {
    /// With these nodes.
    pub(crate) fn nodes(nodes: &[&'static str]) -> Setup {
        Setup {
            nodes: nodes.to_vec(),
            controller: Vec::new(),
            speaker: Vec::new(),
            capabilities: Capabilities::NetRaw,
            members: MemberList::Off,
        }
    }

    /// With these nodes, whose speakers find and watch each other.
    pub(crate) fn members(nodes: &[&'static str]) -> Setup {
        Setup { members: MemberList::On, ..Setup::nodes(nodes) }
    }
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    setup: Setup,
    folder: ManifestFolder,
    segment: Switch,
    control: Host,
    client: Host,
    controller: Process,
    nodes: BTreeMap<&'static str, Node>,
    services: BTreeMap<String, Service>,
}

#[derive(Debug)]
struct Node {
    host: Host,
    addresses: Vec<IpAddr>,
    labels: BTreeMap<String, String>,
    taints: BTreeSet<String>,
    ready: bool,
    network_unavailable: bool,
    speaker: Process,
    proxy: ServiceProxy,
    forwards: Vec<Forward>,
    _backend: Backend,
}

impl Cluster {
    /// Starts a cluster with these nodes.
    pub(crate) fn start(lab: &Lab, nodes: &[&'static str]) -> Result<Cluster> {
        Cluster::start_with(lab, Setup::nodes(nodes))
    }

    /// Starts a cluster.
    pub(crate) fn start_with(lab: &Lab, setup: Setup) -> Result<Cluster> {
        let (segment, control, client) = (lab.switch("segment")?, lab.host("control")?, lab.host("client")?);
        control.plug("eth0", &segment)?.address("192.168.1.10/24")?.address("fc00:f853:ccd:e799::10/64")?;
        client.plug("eth0", &segment)?.address("192.168.1.200/24")?.address("fc00:f853:ccd:e799::200/64")?;
        ask_quickly(&client, "eth0")?;
        let folder = ManifestFolder::create(lab.folder().join("cluster"))?;
        let controller = controller_start(&control, &folder, &setup.controller)?;
        let mut nodes = BTreeMap::new();
        for (name, number) in setup.nodes.iter().copied().zip(11..) {
            let host = lab.host(name)?;
            let eth0 = host.plug("eth0", &segment)?;
            eth0.address(&format!("{}/24", v4(number)))?.address(&format!("{}/64", v6(number)))?;
            let node = Node {
                addresses: vec![v4(number), v6(number)],
                labels: BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]),
                taints: BTreeSet::new(),
                ready: true,
                network_unavailable: false,
                speaker: speaker_start(&host, (name, v4(number)), &folder, &setup)?,
                proxy: ServiceProxy::start(&host)?,
                forwards: Vec::new(),
                _backend: Backend::start(&host, BACKEND_PORT)?,
                host,
            };
            nodes.insert(name, node);
        }
        let services = BTreeMap::new();
        let cluster = Cluster { setup, folder, segment, control, client, controller, nodes, services };
        cluster.nodes.keys().try_for_each(|node| cluster.node_write(node))?;
        Ok(cluster)
    }

    /// The segment that everything is on.
    pub(crate) fn segment(&self) -> &Switch {
        &self.segment
    }

    /// The client on the segment.
    pub(crate) fn client(&self) -> &Host {
        &self.client
    }

    /// The machine of the controller.
    pub(crate) fn control(&self) -> &Host {
        &self.control
    }

    /// The machine of a node.
    pub(crate) fn host(&self, node: &str) -> &Host {
        &self.node(node).host
    }

    /// The addresses of a node: IPv4, IPv6.
    pub(crate) fn addresses_of_node(&self, node: &str) -> &[IpAddr] {
        &self.node(node).addresses
    }

    /// The names of the nodes.
    pub(crate) fn node_names(&self) -> impl Iterator<Item = &'static str> {
        self.nodes.keys().copied()
    }

    fn node(&self, node: &str) -> &Node {
        self.nodes.get(node).unwrap_or_else(|| panic!("there is no node {node}"))
    }

    fn node_mut(&mut self, node: &str) -> &mut Node {
        self.nodes.get_mut(node).unwrap_or_else(|| panic!("there is no node {node}"))
    }
}

/// What the test does as the administrator.
impl Cluster {
    /// Writes a pool of the segment's addresses with an advertisement for it, both called `segment`.
    pub(crate) fn announce_on_segment(&self) -> Result<()> {
        self.put("IPAddressPool", "segment", SEGMENT_POOL)?;
        self.put("L2Advertisement", "segment", "ipAddressPools: [segment]")
    }

    /// Writes an object of MetalLB's own, or replaces it.
    pub(crate) fn put(&self, kind: &str, name: &str, spec: &str) -> Result<()> {
        self.write(&format!("{kind}-{name}"), &object(kind, name, spec))
    }

    /// Removes it.
    pub(crate) fn remove(&self, kind: &str, name: &str) -> Result<()> {
        self.folder.remove(&format!("{kind}-{name}"))
    }

    /// Writes a file of manifests as it is.
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<()> {
        self.folder.write(file, text)
    }

    /// Writes a Service and its endpoints, or replaces them.
    pub(crate) fn apply(&mut self, service: &Service) -> Result<()> {
        self.services.insert(service.name.clone(), service.clone());
        self.folder.write_endpoints(&service.for_lab(), &self.endpoints(service), BACKEND_PORT)?;
        self.write(&format!("service-{}", service.name), &service.manifest())
    }

    /// Deletes a Service with its endpoints.
    pub(crate) fn delete(&mut self, service: &str) -> Result<()> {
        self.services.remove(service).with_context(|| format!("there is no Service {service}"))?;
        self.folder.remove(&format!("service-{service}"))?;
        self.folder.remove(&format!("endpoints-default-{service}"))
    }

    /// Makes the endpoints of a Service on these nodes, and on no others, unfit for traffic.
    pub(crate) fn unready(&mut self, service: &str, nodes: &[&str]) -> Result<()> {
        let found = self.services.get_mut(service).with_context(|| format!("there is no Service {service}"))?;
        found.unready = nodes.iter().map(|node| (*node).to_owned()).collect();
        let changed = found.clone();
        self.folder.write_endpoints(&changed.for_lab(), &self.endpoints(&changed), BACKEND_PORT)
    }

    fn endpoints(&self, service: &Service) -> Vec<LabEndpoint> {
        let with_endpoint = self.nodes.iter().filter(|(name, _)| service.has_endpoint_on(name));
        let endpoint = |(name, node): (&&str, &Node)| LabEndpoint {
            node: (*name).to_owned(),
            addresses: node.addresses.clone(),
            ready: node.ready && !service.unready.contains(*name),
        };
        with_endpoint.map(endpoint).collect()
    }

    /// Gives a node a label.
    pub(crate) fn label(&mut self, node: &str, key: &str, value: &str) -> Result<()> {
        self.node_mut(node).labels.insert(key.to_owned(), value.to_owned());
        self.node_write(node)
    }

    /// Takes a label from a node.
    pub(crate) fn unlabel(&mut self, node: &str, key: &str) -> Result<()> {
        self.node_mut(node).labels.remove(key);
        self.node_write(node)
    }

    /// Gives a node a taint, as `kubectl cordon` and `kubectl taint` do.
    pub(crate) fn taint(&mut self, node: &str, key: &str) -> Result<()> {
        self.node_mut(node).taints.insert(key.to_owned());
        self.node_write(node)
    }

    /// Takes a taint from a node.
    pub(crate) fn untaint(&mut self, node: &str, key: &str) -> Result<()> {
        self.node_mut(node).taints.remove(key);
        self.node_write(node)
    }

    /// Sets the condition `NetworkUnavailable` of a node.
    pub(crate) fn network_unavailable(&mut self, node: &str, unavailable: bool) -> Result<()> {
        self.node_mut(node).network_unavailable = unavailable;
        self.node_write(node)
    }

    fn node_write(&self, name: &str) -> Result<()> {
        let node = self.node(name);
        let address = |address: &IpAddr| json!({"type": "InternalIP", "address": address.to_string()});
        let taint = |key: &String| json!({"key": key, "effect": "NoSchedule"});
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": node.labels},
            "spec": {"taints": node.taints.iter().map(taint).collect::<Vec<_>>()},
            "status": {
                "addresses": node.addresses.iter().map(address).collect::<Vec<_>>(),
                "conditions": [
                    {"type": "Ready", "status": if node.ready { "True" } else { "Unknown" }},
                    {"type": "NetworkUnavailable", "status": if node.network_unavailable { "True" } else { "False" }},
                ],
            },
        });
        self.write(&format!("node-{name}"), &manifest.to_string())
    }

    /// Marks a node as the node controller does: as one that is not heard from, or as ready, with its endpoints.
    pub(crate) fn mark_ready(&mut self, node: &str, ready: bool) -> Result<()> {
        self.node_mut(node).ready = ready;
        self.node_write(node)?;
        self.services.values().try_for_each(|service| {
            self.folder.write_endpoints(&service.for_lab(), &self.endpoints(service), BACKEND_PORT)
        })
    }

    /// Takes the power from a node: its link goes, and its speaker without a word.
    pub(crate) fn power_off(&mut self, node: &str) -> Result<()> {
        let node = self.node_mut(node);
        node.host.unplug("eth0")?;
        node.speaker.kill()
    }

    /// Gives it back.
    pub(crate) fn power_on(&mut self, node: &'static str) -> Result<()> {
        self.host(node).replug_anew("eth0")?;
        self.speaker_begin(node)
    }

    /// Changes the memberlist Secret as a node has it.
    pub(crate) fn member_secret(&self, node: &str, secret: &str) -> Result<()> {
        Ok(fs::write(key_directory(&self.folder, node).join("secretkey"), secret)?)
    }

    /// The speaker of a node.
    pub(crate) fn speaker(&mut self, node: &str) -> &mut Process {
        &mut self.node_mut(node).speaker
    }

    /// Starts the speaker of a node again, after it ended.
    pub(crate) fn speaker_begin(&mut self, node: &'static str) -> Result<()> {
        let named = (node, self.addresses_of_node(node)[0]);
        let speaker = speaker_start(self.host(node), named, &self.folder, &self.setup)?;
        *self.speaker(node) = speaker;
        Ok(())
    }

    /// The controller.
    pub(crate) fn controller(&mut self) -> &mut Process {
        &mut self.controller
    }

    /// Starts the controller again, after it ended.
    pub(crate) fn controller_begin(&mut self) -> Result<()> {
        self.controller = controller_start(&self.control, &self.folder, &self.setup.controller)?;
        Ok(())
    }
}

/// What can be seen.
impl Cluster {
    /// The addresses that a Service has.
    pub(crate) fn addresses(&self, service: &str) -> Result<Vec<IpAddr>> {
        let key = ("default".to_owned(), service.to_owned());
        Ok(self.folder.assigned()?.remove(&key).unwrap_or_default())
    }

    /// Waits until a Service has an address of each of its families.
    pub(crate) fn wait_addresses(&self, service: &str) -> Result<Vec<IpAddr>> {
        let wanted = self.services.get(service).with_context(|| format!("there is no Service {service}"))?;
        eventually(LIMIT, || {
            let addresses = self.addresses(service)?;
            ensure!(addresses.len() == wanted.address_count(), "Service {service} has {addresses:?}");
            Ok(addresses)
        })
    }

    /// Waits until a Service has exactly these addresses.
    pub(crate) fn wait_exactly(&self, service: &str, wanted: &[&str]) -> Result<()> {
        let wanted: Vec<IpAddr> = wanted.iter().map(|text| address(text)).collect();
        eventually(LIMIT, || {
            let addresses = self.addresses(service)?;
            ensure!(addresses == wanted, "Service {service} has {addresses:?}, not {wanted:?}");
            Ok(())
        })
    }

    /// Tells every service proxy what to do with the Services' present addresses, as kube-proxy would be told.
    fn proxies_update(&mut self) -> Result<()> {
        let assigned = self.folder.assigned()?;
        let mut forwards: BTreeMap<&'static str, Vec<Forward>> = BTreeMap::new();
        for service in self.services.values() {
            let key = ("default".to_owned(), service.name.clone());
            let addresses = assigned.get(&key).map(Vec::as_slice).unwrap_or_default();
            let endpoints = self.endpoints(service);
            for name in self.nodes.keys() {
                let of_service = forwards_of(&service.for_lab(), addresses, name, &endpoints);
                forwards.entry(name).or_default().extend(of_service);
            }
        }
        for (name, node) in &mut self.nodes {
            let wanted = forwards.remove(name).unwrap_or_default();
            if node.forwards != wanted {
                node.proxy.set(&wanted).with_context(|| format!("the service proxy of {name}"))?;
                node.forwards = wanted;
            }
        }
        Ok(())
    }

    /// Waits until a client reaches a Service over TCP.
    pub(crate) fn reach(&mut self, from: &Host, service: SocketAddr) -> Result<Answer> {
        let answer = eventually(LIMIT, || {
            self.proxies_update()?;
            from.ask(service, ONCE)
        });
        answer.with_context(|| format!("{} reaches {service}", from.name()))
    }

    /// Waits until a client reaches a Service over UDP.
    pub(crate) fn reach_udp(&mut self, from: &Host, service: SocketAddr) -> Result<Answer> {
        let answer = eventually(LIMIT, || {
            self.proxies_update()?;
            from.ask_udp(service, ONCE)
        });
        answer.with_context(|| format!("{} reaches {service} over UDP", from.name()))
    }

    /// Waits until this node answers on the segment for an address, as the client's kernel finds out when it asks anew.
    pub(crate) fn wait_owner(&self, address: IpAddr, node: &str) -> Result<()> {
        wait_mac(&self.client, address, self.host(node).mac("eth0")?)
            .with_context(|| format!("{node} answers for {address}"))
    }

    /// Waits until nobody answers for an address on the segment, and makes sure that it stays so.
    pub(crate) fn wait_silence(&self, address: IpAddr) -> Result<()> {
        wait_nobody(&self.client, address)
    }

    /// How many lines the speaker of a node has logged.
    pub(crate) fn log_length(&self, node: &str) -> usize {
        self.node(node).speaker.log().lines().count()
    }

    /// Waits for a line in the log of a node's speaker, after the first `lines`.
    pub(crate) fn wait_speaker_log(&self, node: &str, lines: usize, pieces: &[&str]) -> Result<String> {
        wait_log(&self.node(node).speaker, lines, pieces).with_context(|| format!("the log of the speaker of {node}"))
    }

    /// Waits for a line in the log of the controller, after the first `lines`.
    pub(crate) fn wait_controller_log(&self, lines: usize, pieces: &[&str]) -> Result<String> {
        wait_log(&self.controller, lines, pieces)
    }

    /// The events so far, in order.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.folder.path().join("status/events.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Waits for an event of a Service, and gives back its message.
    pub(crate) fn wait_event(&self, service: &str, reason: &str, piece: &str) -> Result<String> {
        eventually(LIMIT, || {
            let events = self.events()?;
            let of_service: Vec<_> = events.iter().filter(|event| event["name"] == service).collect();
            let found = of_service.iter().rev().find_map(|event| {
                let message = event["message"].as_str().filter(|message| message.contains(piece))?;
                (event["reason"] == reason).then(|| message.to_owned())
            });
            found.with_context(|| format!("no event {reason} with {piece:?} for {service} among {of_service:?}"))
        })
    }

    /// The file with the status of a Service.
    pub(crate) fn status_file(&self, service: &str) -> String {
        let file = self.folder.path().join(format!("status/service.default.{service}.yaml"));
        fs::read_to_string(file).unwrap_or_default()
    }

    /// Waits until the status of a pool says that so many IPv4 addresses are in use, and so many are not.
    pub(crate) fn wait_pool(&self, pool: &str, assigned: i64, available: i64) -> Result<()> {
        let file = self.folder.path().join(format!("status/ipaddresspool.{NAMESPACE}.{pool}.yaml"));
        eventually(LIMIT, || {
            let text = fs::read_to_string(&file).with_context(|| format!("pool {pool} has no status"))?;
            let wanted = [format!("assignedIPv4: {assigned}\n"), format!("availableIPv4: {available}\n")];
            ensure!(wanted.iter().all(|line| text.contains(line)), "{assigned} and {available} wanted: {text}");
            Ok(())
        })
    }

    /// The folder of the manifests.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// Lets a host give up after asking three times within 0.6 s, not 3 s, so that silence is found out soon.
pub(crate) fn ask_quickly(host: &Host, interface: &str) -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        host.sysctl(&format!("net/{family}/neigh/{interface}/retrans_time_ms"), "200")?;
    }
    Ok(())
}

/// Lets the kernel of a host find out anew who answers for an address on its links; `None` when it has asked as often as
/// it does and nobody did.
pub(crate) fn resolve(host: &Host, address: IpAddr) -> Result<Option<Mac>> {
    host.forget_neighbour(address)?;
    let any: IpAddr = if address.is_ipv4() { "0.0.0.0".parse()? } else { "::".parse()? };
    host.run(async move || {
        let socket = tokio::net::UdpSocket::bind((any, 0)).await?;
        // The discard port: what counts is that the kernel has to resolve the address. It may report an earlier failure.
        drop(socket.send_to(b"?", (address, 9)).await);
        Ok(())
    })?;
    eventually(LIMIT, || {
        let neighbours = host.neighbours()?;
        let found = neighbours.iter().find(|neighbour| neighbour.address == address);
        match found {
            Some(neighbour) if neighbour.state == NeighbourState::Failed => Ok(None),
            Some(neighbour) if neighbour.mac.is_some() => Ok(neighbour.mac),
            // The kernel drops the entry of one that it cannot find.
            None => Ok(None),
            Some(neighbour) => bail!("{neighbour:?}"),
        }
    })
}

/// Waits until this MAC address answers for an address, as a host's kernel finds out when it asks anew.
pub(crate) fn wait_mac(host: &Host, address: IpAddr, mac: Mac) -> Result<()> {
    eventually(LIMIT, || {
        let found = resolve(host, address)?;
        ensure!(found == Some(mac), "{found:?} answers for {address}, not {mac}");
        Ok(())
    })
}

/// Waits until nobody answers for an address, and makes sure that it stays so: the kernel asks three times, gives up, and
/// is made to ask three times again.
pub(crate) fn wait_nobody(host: &Host, address: IpAddr) -> Result<()> {
    eventually(LIMIT, || {
        let found = resolve(host, address)?;
        ensure!(found.is_none(), "{found:?} answers for {address}, and nobody should");
        Ok(())
    })?;
    let again = resolve(host, address)?;
    ensure!(again.is_none(), "{again:?} answers again for {address}");
    Ok(())
}

/// Waits for a line in a program's log that has all these pieces, after the first `lines`.
pub(crate) fn wait_log(process: &Process, lines: usize, pieces: &[&str]) -> Result<String> {
    eventually(LIMIT, || {
        let log = process.log();
        let found = log.lines().skip(lines).find(|line| pieces.iter().all(|piece| line.contains(piece)));
        Ok(found.with_context(|| format!("{} has logged no line with {pieces:?}", process.name()))?.to_owned())
    })
}

/// Where the speaker of a node finds the key of memberlist.
fn key_directory(folder: &ManifestFolder, node: &str) -> PathBuf {
    folder.path().with_extension(format!("key.{node}"))
}

/// The flags of memberlist, and the key that they name if there is none yet.
fn member_arguments(node: &str, address: IpAddr, folder: &ManifestFolder) -> Result<Vec<String>> {
    let directory = key_directory(folder, node);
    let file = directory.join("secretkey");
    fs::create_dir_all(&directory)?;
    if !file.exists() {
        fs::write(&file, MEMBER_SECRET)?;
    }
    Ok(vec![format!("--ml-bindaddr={address}"), format!("--ml-secret-key-path={}", directory.display())])
}

fn controller_start(host: &Host, folder: &ManifestFolder, more: &[String]) -> Result<Process> {
    let mut command = confined::command(Path::new(PROGRAM), Capabilities::None);
    command.args(["controller", "--namespace", NAMESPACE, "--manifests"]).arg(folder.path()).args(more);
    host.spawn("controller", command)
}

fn speaker_start(
    host: &Host,
    (node, address): (&str, IpAddr),
    folder: &ManifestFolder,
    setup: &Setup,
) -> Result<Process> {
    let mut command = confined::command(Path::new(PROGRAM), setup.capabilities);
    command.args(["speaker", "--namespace", NAMESPACE, "--node-name", node, "--manifests"]);
    command.arg(folder.path()).args(&setup.speaker);
    if setup.members == MemberList::On {
        command.args(member_arguments(node, address, folder)?);
    }
    host.spawn("speaker", command)
}
