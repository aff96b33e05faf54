//! A cluster with everything around it, the same for each trial:
//!
//! ```text
//!  control   manager   node1   node2   client          far client
//!  (API)    (controller) (speaker, kube-proxy, backend)    |
//!     |         |         |       |       |                | 10.9.0.0/24, fd09::/64
//!  ---+---------+---------+-------+-------+--- lan --- router (FRR)
//!                                   10.0.0.0/24, fd00::/64
//! ```
//!
//! Pool `segment` is on the lan and announced by ARP and NDP, pool `routed` is not on any segment and announced by BGP.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use kit::{Duration, Secret};
use lab::backend::{Answer, Backend};
use lab::kubernetes::{Cluster, Face, NAMESPACE, ProxyMode, User};
use lab::router::{Router, RouterConfig, RouterKind, RouterPeer};
use lab::{Host, Lab, Process, eventually, http};
use serde_json::{Value, json};

/// For everything that must come: costs nothing while it does.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// For one request of a client that waits for an answer.
pub(crate) const ONE_REQUEST: Duration = Duration::from_secs(2);

pub(crate) const CONTROL: &str = "10.0.0.100";
pub(crate) const ROUTER: [&str; 2] = ["10.0.0.254", "fd00::fe"];
pub(crate) const OUR_ASN: u32 = 64512;
const ROUTER_ASN: u32 = 64500;
pub(crate) const SEGMENT: [&str; 2] = ["10.0.0.210", "fd00::210"];
pub(crate) const ROUTED: [&str; 2] = ["192.0.2.1", "2001:db8:7::1"];

/// Where backends listen, and where Services do.
const BACKEND_PORT: u16 = 8080;
pub(crate) const SERVICE_PORT: u16 = 80;
const HEALTH_PORT: u16 = 17472;
/// By which speakers find each other's pods.
const SPEAKER_LABELS: &str = "app=metallb,component=speaker";

/// How much of each answer of the API a failure shows.
const STATE_LINES: usize = 150;

/// A cluster and its surroundings.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    /// Where the controller runs.
    pub(crate) manager: Host,
    pub(crate) nodes: [Host; 2],
    pub(crate) router: Host,
    /// On the segment of the nodes.
    pub(crate) client: Host,
    /// Behind the router.
    pub(crate) far_client: Host,
    /// What the audit log had when [`Site::nothing_was_denied`] looked last.
    audited: Cell<usize>,
    /// What a kubelet would mount: the Secret of memberlist.
    keys: PathBuf,
    _backends: Vec<Backend>,
}

/// Runs a trial on a site that is ready, and tells what the API server has when it fails.
pub(crate) fn on_site(lab: &Lab, trial: impl FnOnce(&mut Site) -> Result<()>) -> Result<()> {
    on_bare_site(lab, |site| {
        site.grant()?;
        site.define()?;
        trial(site)?;
        site.nothing_was_denied()
    })
}

/// The same with neither rights nor definitions.
pub(crate) fn on_bare_site(lab: &Lab, trial: impl FnOnce(&mut Site) -> Result<()>) -> Result<()> {
    let mut site = Site::start(lab)?;
    trial(&mut site).map_err(|error| anyhow!("{error:#}\nthe API server has\n{}", site.state()))
}

/// What `metallb crds` prints.
pub(crate) fn definitions() -> Result<String> {
    let output = Command::new(program()).arg("crds").output()?;
    ensure!(output.status.success(), "metallb crds: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_metallb"))
}

impl Site {
    fn start(lab: &Lab) -> Result<Site> {
        let (lan, far) = (lab.switch("lan")?, lab.switch("far")?);
        let host = |name: &str, last: &str| {
            let host = lab.host(name)?;
            host.plug("eth0", &lan)?.address(&format!("10.0.0.{last}/24"))?.address(&format!("fd00::{last}/64"))?;
            for (everything, router) in ["0.0.0.0/0", "::/0"].into_iter().zip(ROUTER) {
                host.set_route(everything, &[router.parse()?])?;
            }
            anyhow::Ok(host)
        };
        let (control, manager, client) = (host("control", "100")?, host("manager", "99")?, host("client", "200")?);
        let nodes = [host("node1", "1")?, host("node2", "2")?];
        let router = lab.host("router")?;
        router.plug("eth0", &lan)?.address("10.0.0.254/24")?.address("fd00::fe/64")?;
        router.plug("eth1", &far)?.address("10.9.0.254/24")?.address("fd09::fe/64")?;
        router.forward_packets()?;
        let far_client = lab.host("far-client")?;
        far_client.plug("eth0", &far)?.address("10.9.0.2/24")?.address("fd09::2/64")?;
        far_client.set_route("0.0.0.0/0", &["10.9.0.254".parse()?])?;
        far_client.set_route("::/0", &["fd09::fe".parse()?])?;

        let keys = lab.folder().join("memberlist");
        std::fs::create_dir_all(&keys)?;
        std::fs::write(keys.join("secretkey"), "AAECAwQFBgcICQoLDA0ODw")?;
        let cluster = Cluster::start(&control, CONTROL.parse()?)?;
        cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"))?;
        let mut backends = Vec::new();
        for node in &nodes {
            node.forward_packets()?;
            cluster.add_node(node.name(), &addresses_of(node)?)?;
            backends.push(Backend::start(node, BACKEND_PORT)?);
        }
        Ok(Site {
            cluster,
            manager,
            nodes,
            router,
            client,
            far_client,
            audited: Cell::new(0),
            keys,
            _backends: backends,
        })
    }

    /// Gives controller and speakers their rights.
    pub(crate) fn grant(&self) -> Result<()> {
        self.cluster.apply(&crate::manifest::rights())?;
        let mut pods = vec![pod(&self.manager, Face::Controller)];
        pods.extend(self.nodes.iter().map(|node| pod(node, Face::Speaker)));
        pods.push(deployment());
        self.apply(&pods)?;
        // As the kubelet does it.
        for node in &self.nodes {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}/status", Cluster::pod_of(node, Face::Speaker));
            let ips = addresses_of(node)?.map(|address| json!({"ip": address.to_string()}));
            let status = json!({"phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips, "hostIP": ips[0]["ip"]});
            self.cluster.patch(&path, &json!({"status": status}))?;
        }
        Ok(())
    }

    /// Makes MetalLB's own kinds known, as `metallb crds` prints them.
    pub(crate) fn define(&self) -> Result<()> {
        self.cluster.apply(&definitions()?)?;
        self.cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).map(drop)
    }

    /// Starts FRR on the router: a session with each node in each family.
    pub(crate) fn frr(&self, password: Option<&str>) -> Result<Router> {
        let mut config = RouterConfig::new(ROUTER_ASN, ROUTER[0])?;
        for node in &self.nodes {
            for address in addresses_of(node)? {
                let peer = RouterPeer::accept(&ipnet::IpNet::from(address).to_string(), OUR_ASN)?;
                config.peers.push(RouterPeer { password: password.map(Secret::new), ..peer });
            }
        }
        Router::start(&self.router, RouterKind::Frr, &config)
    }

    pub(crate) fn proxies(&self, mode: ProxyMode) -> Result<Vec<Process>> {
        self.nodes.iter().map(|node| self.cluster.proxy_start(node, mode)).collect()
    }

    /// Starts the controller with the rights of its account.
    pub(crate) fn controller(&self) -> Result<Process> {
        let more = ["--ml-secret-name=memberlist", "--deployment=controller"].map(str::to_owned);
        self.cluster.ours_start(&self.manager, program(), (Face::Controller, User::Controller), &more)
    }

    /// Starts the speaker of a node without memberlist: nothing moves when another one is away for a moment.
    pub(crate) fn speaker_alone(&self, node: &Host) -> Result<Process> {
        self.cluster.ours_start(node, program(), (Face::Speaker, User::Speaker), &[])
    }

    /// The same on another host, and with more arguments.
    pub(crate) fn controller_on(&self, host: &Host, arguments: &[&str]) -> Result<Process> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.cluster.ours_start(host, program(), (Face::Controller, User::Controller), &arguments)
    }

    /// Has the API server ask the controllers on these hosts about objects; there is nobody to find their pods.
    pub(crate) fn webhooks(&self, hosts: &[&Host]) -> Result<()> {
        self.cluster.apply(&crate::manifest::webhooks())?;
        let addresses = hosts.iter().map(|host| match host.name() {
            "manager" => Ok("10.0.0.99"),
            "client" => Ok("10.0.0.200"),
            other => bail!("no controller runs on {other}"),
        });
        let endpoints = addresses.map(|address| Ok(json!({"addresses": [address?], "conditions": {"ready": true}})));
        self.apply(&[json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "webhooks", "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": "metallb-webhook-service"},
            },
            "endpoints": endpoints.collect::<Result<Vec<Value>>>()?,
            "ports": [{"port": 9443, "protocol": "TCP", "name": "webhook-server"}],
        })])
    }

    /// Starts another one on the host of the client, where no pod of it is yet.
    pub(crate) fn second_controller(&self) -> Result<Process> {
        self.apply(&[pod(&self.client, Face::Controller)])?;
        self.controller_on(&self.client, &[])
    }

    /// Starts the speaker of a node with the rights of its account.
    pub(crate) fn speaker(&self, node: &Host) -> Result<Process> {
        self.speaker_with(node, Vec::new())
    }

    /// The same with a state file, which a later one of the same node finds.
    pub(crate) fn speaker_that_remembers(&self, node: &Host) -> Result<Process> {
        self.speaker_with(node, vec![format!("--state-file={}", self.state_file(node).display())])
    }

    /// Where that file is.
    pub(crate) fn state_file(&self, node: &Host) -> PathBuf {
        self.keys.join(node.name()).with_extension("state")
    }

    fn speaker_with(&self, node: &Host, mut more: Vec<String>) -> Result<Process> {
        more.extend([
            format!("--ml-bindaddr={}", addresses_of(node)?[0]),
            format!("--ml-labels={SPEAKER_LABELS}"),
            format!("--ml-secret-key-path={}", self.keys.display()),
        ]);
        self.cluster.ours_start(node, program(), (Face::Speaker, User::Speaker), &more)
    }

    pub(crate) fn speakers(&self) -> Result<Vec<Process>> {
        self.nodes.iter().map(|node| self.speaker(node)).collect()
    }

    /// Applies objects with `kubectl`, all at once.
    pub(crate) fn apply(&self, objects: &[Value]) -> Result<()> {
        self.cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())
    }

    /// An object of the namespace `default`, or of MetalLB's if it is its kind.
    pub(crate) fn object(&self, plural: &str, name: &str) -> Result<Value> {
        self.cluster.get(&match plural {
            "services" | "events" => format!("/api/v1/namespaces/default/{plural}/{name}"),
            _ => format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/{plural}/{name}"),
        })
    }

    /// The addresses in the status of a Service of the namespace `default`.
    pub(crate) fn ingress(&self, service: &str) -> Result<Vec<IpAddr>> {
        let object = self.object("services", service)?;
        let entries = object["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
        entries.iter().filter_map(|entry| entry["ip"].as_str()).map(|ip| Ok(ip.parse()?)).collect()
    }

    /// Waits until these are the addresses of a Service, in this order.
    pub(crate) fn wait_ingress(&self, service: &str, wanted: &[&str]) -> Result<()> {
        let wanted: Vec<IpAddr> = wanted.iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
        eventually(LIMIT, || {
            let has = self.ingress(service)?;
            ensure!(has == wanted, "Service {service} has {has:?}, not {wanted:?}");
            Ok(())
        })
    }

    /// Waits until the first addresses of the pool `routed` are announced by these nodes alone, in each family.
    pub(crate) fn wait_routes(&self, router: &Router, nodes: &[usize]) -> Result<()> {
        for (family, prefix) in ROUTED_PREFIXES.into_iter().enumerate() {
            router.wait_next_hops(prefix, &self.next_hops(nodes, family)?, LIMIT)?;
        }
        Ok(())
    }

    /// Fails unless they are announced by these nodes alone.
    pub(crate) fn check_routes(&self, router: &Router, nodes: &[usize]) -> Result<()> {
        for (family, prefix) in ROUTED_PREFIXES.into_iter().enumerate() {
            let mut seen: Vec<IpAddr> = router.routes_to(prefix)?.iter().map(|route| route.next_hop).collect();
            seen.sort();
            let wanted = self.next_hops(nodes, family)?;
            ensure!(seen == wanted, "the next hops to {prefix} are {seen:?}, not {wanted:?}");
        }
        Ok(())
    }

    fn next_hops(&self, nodes: &[usize], family: usize) -> Result<Vec<IpAddr>> {
        nodes.iter().map(|node| Ok(addresses_of(&self.nodes[*node])?[family])).collect()
    }

    /// Waits until the router has a session with each node in each family.
    pub(crate) fn wait_sessions(&self, router: &Router) -> Result<()> {
        let peers = self.nodes.iter().map(addresses_of).collect::<Result<Vec<_>>>()?.concat();
        router.wait_established(&peers, LIMIT)
    }

    /// Reason, message and source of our events about a Service of the namespace `default`; the API server may write its
    /// own.
    pub(crate) fn events(&self, service: &str) -> Result<Vec<(String, String, String)>> {
        let selector = format!("--field-selector=involvedObject.kind=Service,involvedObject.name={service}");
        let list: Value = serde_json::from_str(&self.cluster.kubectl(&["get", "events", &selector, "-o", "json"])?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let read =
            |event: &Value| (text(&event["reason"]), text(&event["message"]), text(&event["source"]["component"]));
        let all = list["items"].as_array().context("a list without items")?.iter().map(read);
        Ok(all.filter(|(_, _, source)| source.starts_with("metallb-")).collect())
    }

    /// The node whose MAC address answers for an address on the segment, as a client there sees it when it asks anew.
    pub(crate) fn answering(&self, address: &str) -> Result<usize> {
        let address: IpAddr = address.parse()?;
        self.client.forget_neighbour(address)?;
        self.client.ask(SocketAddr::new(address, SERVICE_PORT), ONE_REQUEST)?;
        let mac = self.client.neighbour_mac(address)?.context("nobody answers")?;
        for (number, node) in self.nodes.iter().enumerate() {
            if node.mac("eth0")? == mac {
                return Ok(number);
            }
        }
        bail!("{mac} answers for {address}, which is no node")
    }

    /// Waits until a client gets an answer from a backend.
    pub(crate) fn wait_answer(&self, client: &Host, address: &str) -> Result<Answer> {
        let service = SocketAddr::new(address.parse()?, SERVICE_PORT);
        eventually(LIMIT, || client.ask(service, ONE_REQUEST))
            .with_context(|| format!("{} asks {service}", client.name()))
    }

    /// The status and text that a program of ours gives to the probe `path`.
    pub(crate) fn probe(&self, host: &Host, path: &'static str) -> Result<(u16, String)> {
        host.run(async move || {
            let server = SocketAddr::from(([127, 0, 0, 1], HEALTH_PORT));
            let answer = tokio::time::timeout(ONE_REQUEST.into(), http::request(server, "GET", path, None)).await??;
            Ok((answer.status, answer.body))
        })
    }

    /// Waits until a program of ours is ready.
    pub(crate) fn wait_ready(&self, host: &Host) -> Result<()> {
        eventually(LIMIT, || {
            let (status, text) = self.probe(host, "/readyz")?;
            ensure!(status == 200, "{} says {status} {text}", host.name());
            Ok(())
        })
    }

    /// Contract 7.6: the rights that the roles give were enough since the last look.
    pub(crate) fn nothing_was_denied(&self) -> Result<()> {
        let all = self.cluster.audit()?;
        let requests = all.get(self.audited.replace(all.len())..).unwrap_or_default();
        ensure!(!requests.is_empty(), "nothing is in the audit log");
        let denied: Vec<_> = requests.iter().filter(|request| matches!(request.code, 401 | 403)).collect();
        ensure!(denied.is_empty(), "denied: {denied:?}");
        Ok(())
    }

    /// An API server that has just started denies what it does not know to be granted yet; that does not count.
    pub(crate) fn forgive_denials(&self) -> Result<()> {
        self.audited.set(self.cluster.audit()?.len());
        Ok(())
    }

    /// What the API server has, for a report.
    fn state(&self) -> String {
        // A trial may have left it frozen or dead.
        drop(self.cluster.api_resume());
        let mut text = String::new();
        for what in [
            &["services,endpointslices.discovery.k8s.io,nodes", "-o", "wide"][..],
            &["events", "--sort-by=.lastTimestamp"][..],
            &["services", "-o", "yaml"][..],
            &["ipaddresspools,l2advertisements,bgpadvertisements,bgppeers", "-o", "yaml"][..],
        ] {
            let arguments = [&["get", "-A", "--request-timeout=10s"], what].concat();
            let answer = self.cluster.kubectl_any(&arguments);
            let answer = answer.map_or_else(|error| format!("{error:#}"), |output| output.stdout + &output.stderr);
            let shown: Vec<&str> = answer.lines().take(STATE_LINES).collect();
            text.extend(["--- kubectl ", &arguments.join(" "), "\n", &shown.join("\n"), "\n"]);
        }
        text
    }
}

/// The addresses of a node, by its name.
pub(crate) fn addresses_of(node: &Host) -> Result<[IpAddr; 2]> {
    let last = node.name().strip_prefix("node").context("no node")?;
    Ok([format!("10.0.0.{last}").parse()?, format!("fd00::{last}").parse()?])
}

/// A pool of `count` addresses of each family, from these on.
pub(crate) fn pool(name: &str, first: [&str; 2], count: u8) -> Value {
    let range = |first: &str| {
        let start = first.trim_end_matches(|digit: char| digit.is_ascii_digit());
        let number: u8 = first.strip_prefix(start).unwrap().parse().unwrap();
        format!("{first}-{start}{}", number + (count - 1))
    };
    let addresses = first.map(range);
    ours("IPAddressPool", "v1beta1", name, json!({"addresses": addresses}))
}

/// The pod that a program of ours takes itself for; there is no kubelet to run it.
fn pod(host: &Host, face: Face) -> Value {
    let account = if face == Face::Controller { "controller" } else { "speaker" };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": Cluster::pod_of(host, face), "namespace": NAMESPACE,
            "labels": {"app": "metallb", "component": account},
        },
        "spec": {
            "nodeName": host.name(), "serviceAccountName": account,
            "containers": [{"name": account, "image": "metallb"}],
        },
    })
}

/// The Deployment of the controller, which owns the key of memberlist.
fn deployment() -> Value {
    let labels = json!({"app": "metallb", "component": "controller"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "controller", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "controller", "image": "metallb"}]},
            },
        },
    })
}

/// An object of MetalLB's own kinds.
pub(crate) fn ours(kind: &str, version: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("metallb.io/{version}"), "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })
}

/// A peer of each node, over each family.
pub(crate) fn peer(family: usize, edit: impl FnOnce(&mut Value)) -> Value {
    let name = ["router-v4", "router-v6"][family];
    let spec = json!({"myASN": OUR_ASN, "peerASN": ROUTER_ASN, "peerAddress": ROUTER[family]});
    let mut peer = ours("BGPPeer", "v1beta2", name, spec);
    edit(&mut peer["spec"]);
    peer
}

/// The routes to [`ROUTED`].
const ROUTED_PREFIXES: [&str; 2] = ["192.0.2.1/32", "2001:db8:7::1/128"];

/// Both pools with `count` addresses of each family, their advertisements and the peers.
pub(crate) fn configuration(count: u8) -> Vec<Value> {
    vec![
        pool("segment", SEGMENT, count),
        pool("routed", ROUTED, count),
        ours("L2Advertisement", "v1beta1", "segment", json!({"ipAddressPools": ["segment"]})),
        ours("BGPAdvertisement", "v1beta1", "routed", json!({"ipAddressPools": ["routed"]})),
        peer(0, |_| {}),
        peer(1, |_| {}),
    ]
}

/// A Service with both families that wants its addresses from a pool.
pub(crate) fn service(name: &str, pool: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": {"metallb.io/address-pool": pool}},
        "spec": {
            "type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack",
            "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": SERVICE_PORT, "targetPort": BACKEND_PORT, "protocol": "TCP"}],
        },
    })
}

/// The EndpointSlices of a Service: backends on these nodes, one slice for each family.
pub(crate) fn slices(service: &str, nodes: &[&Host]) -> Result<Vec<Value>> {
    let mut slices = Vec::new();
    for (family, address_type) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let mut endpoints = Vec::new();
        for node in nodes {
            let address = addresses_of(node)?[family].to_string();
            endpoints.push(json!({
                "addresses": [address], "nodeName": node.name(), "conditions": {"ready": true, "serving": true},
            }));
        }
        slices.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": address_type,
            "metadata": {
                "name": format!("{service}-{}", address_type.to_lowercase()), "namespace": "default",
                "labels": {"kubernetes.io/service-name": service},
            },
            "endpoints": endpoints,
            "ports": [{"port": BACKEND_PORT, "protocol": "TCP", "name": ""}],
        }));
    }
    Ok(slices)
}
