//! A whole cluster: scheduled pods in containers, Services of both families in both modes of kube-proxy, the loss of a
//! node, Helm, and nothing left afterwards.
//!
//! For the last of these the test binary starts itself, with `--as-program`, as a program that holds a cluster.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use kit::Duration;
use lab::cluster::{self, Cluster, ClusterPlan, Image, POD_IMAGE};
use lab::kubernetes::ProxyMode;
use lab::testing::Trial;
use lab::{Host, Lab, eventually};
use serde_json::json;

/// For everything that must come: costs nothing while it does.
const LIMIT: Duration = Duration::from_secs(180);
const ONE_REQUEST: Duration = Duration::from_secs(2);
/// What a client outside asks.
const SERVICE: [&str; 2] = ["192.0.2.1", "2001:db8:7::1"];
const CLIENT: [&str; 2] = ["10.0.0.200", "fd00::200"];
const NODES: [[&str; 2]; 2] = [["10.0.0.1", "fd00::1"], ["10.0.0.2", "fd00::2"]];
/// Settings of the machine that a kubelet wants to change.
const MACHINE_SETTINGS: [&str; 4] = ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"];
/// Where programs on nodes make folders.
const MACHINE_FOLDERS: [&str; 5] = ["/var/lib", "/var/log", "/etc", "/opt", "/usr/libexec"];

fn main() -> ExitCode {
    cluster::node_run_if_asked();
    if std::env::args().nth(1).is_some_and(|argument| argument == "--as-program") {
        return hold();
    }
    lab::testing::main([
        Trial::new("services_reach_ready_pods_in_both_families_with_nftables", |lab| {
            services(lab, ProxyMode::Nftables)
        }),
        Trial::new("services_reach_ready_pods_in_both_families_with_iptables", |lab| {
            services(lab, ProxyMode::Iptables)
        }),
        Trial::new("a_node_without_power_is_lost_and_its_pods_come_back_elsewhere_and_then_it_does_too", power),
        Trial::new("helm_installs_upgrades_and_removes_a_chart_with_an_image_made_here", helm),
        Trial::new("a_program_that_ends_or_is_killed_leaves_nothing_of_its_cluster", nothing_left),
    ])
}

/// A cluster, and a client on its segment that brings the addresses of a Service to the first node.
struct Site {
    cluster: Cluster,
    client: Host,
}

impl Site {
    fn start(lab: &Lab, nodes: u8, proxy: ProxyMode) -> Result<Site> {
        let lan = lab.switch("lan")?;
        let client = lab.host("client")?;
        client.plug("eth0", &lan)?;
        for (address, length) in CLIENT.into_iter().zip([24, 64]) {
            client.add_address("eth0", &format!("{address}/{length}"))?;
        }
        let cluster = Cluster::start(lab, &lan, &ClusterPlan { nodes, proxy, images: Vec::new() })?;
        cluster.route_pods(&client)?;
        for ((address, length), node) in SERVICE.into_iter().zip([32, 128]).zip(NODES[0]) {
            client.set_route(&format!("{address}/{length}"), &[node.parse()?])?;
        }
        Ok(Site { cluster, client })
    }

    fn kubectl(&self, line: &str) -> Result<String> {
        self.cluster.api().kubectl(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Asks until each of these backends has answered since one that is not among them.
    fn wait_answers(&self, service: SocketAddr, backends: &BTreeSet<String>) -> Result<()> {
        let mut seen = BTreeSet::new();
        eventually(LIMIT, || {
            let answer = self.client.ask(service, ONE_REQUEST)?;
            if !backends.contains(&answer.backend) {
                seen.clear();
                bail!("{} answered, which is not among {backends:?}", answer.backend);
            }
            seen.insert(answer.backend);
            ensure!(seen == *backends, "{seen:?} answered, not {backends:?}");
            Ok(())
        })
        .with_context(|| format!("asking {service}"))
    }

    /// The names of the pods with a label that are ready.
    fn ready_pods(&self, label: &str) -> Result<BTreeSet<String>> {
        let list = self.cluster.api().get(&format!("/api/v1/namespaces/default/pods?labelSelector={label}"))?;
        let is_ready = |pod: &serde_json::Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        let pods = list["items"].as_array().context("a list without items")?.iter().filter(|pod| is_ready(pod));
        Ok(pods.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect())
    }

    fn state(&self) -> String {
        let show = |line: &str| self.kubectl(line).unwrap_or_else(|error| format!("{error:#}"));
        ["get nodes,pods,services,endpointslices -A -o wide", "describe pods -A", "get events -A"].map(show).join("\n")
    }
}

/// Runs a trial and tells what the cluster has when it fails; then ends the cluster, of which nothing may be left.
fn on_site(lab: &Lab, nodes: u8, proxy: ProxyMode, trial: impl FnOnce(&mut Site) -> Result<()>) -> Result<()> {
    let machine = machine()?;
    let mut site = Site::start(lab, nodes, proxy)?;
    trial(&mut site).map_err(|error| anyhow!("{error:#}\nthe cluster has\n{}", site.state()))?;
    site.cluster.stop()?;
    let after = self::machine()?;
    ensure!(machine == after, "the machine was {machine:?}, and is {after:?}");
    Ok(())
}

/// What of the machine a cluster could change.
fn machine() -> Result<Vec<BTreeSet<String>>> {
    let read = |name: &str| Ok(BTreeSet::from([fs::read_to_string(format!("/proc/sys/{name}"))?]));
    MACHINE_SETTINGS.into_iter().map(read).chain(MACHINE_FOLDERS.into_iter().map(names)).collect()
}

/// Backends with the label `app: web`; `probe` is the port that says whether they are ready.
fn deployment(name: &str, replicas: u8, probe: u16) -> String {
    // A node that is lost is given up two seconds after it was noticed, not five minutes.
    let tolerations = ["not-ready", "unreachable"].map(|reason| {
        let key = format!("node.kubernetes.io/{reason}");
        json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2})
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web", "part": name}},
            "template": {
                "metadata": {"labels": {"app": "web", "part": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": {"part": name}},
                    }],
                    "tolerations": tolerations,
                    "containers": [{
                        "name": "backend", "image": POD_IMAGE, "args": ["backend"],
                        "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
                        "securityContext": {
                            "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "runAsUser": 65534,
                            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "readinessProbe": {"httpGet": {"path": "/", "port": probe}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
    .to_string()
}

fn service(name: &str, traffic: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "type": "LoadBalancer", "selector": {"app": "web"}, "ipFamilyPolicy": "RequireDualStack",
            "externalTrafficPolicy": traffic, "ports": [{"port": 80, "targetPort": 8080}],
        },
    })
    .to_string()
}

fn services(lab: &Lab, mode: ProxyMode) -> Result<()> {
    on_site(lab, 2, mode, |site| {
        let api = site.cluster.api();
        api.apply(&deployment("good", 2, 8080))?;
        // Nothing listens there: these never become ready, and nobody may be sent to them.
        api.apply(&deployment("bad", 1, 8099))?;
        api.apply(&service("web", "Cluster"))?;
        let ingress = SERVICE.map(|address| json!({"ip": address}));
        api.patch(
            "/api/v1/namespaces/default/services/web/status",
            &json!({"status": {"loadBalancer": {"ingress": ingress}}}),
        )?;
        site.kubectl("rollout status deployment/good --timeout=180s")?;
        let pods = site.ready_pods("part=good")?;
        ensure!(pods.len() == 2, "{pods:?} are ready");
        let nodes = site.kubectl("get pods -l part=good -o jsonpath={.items[*].spec.nodeName}")?;
        ensure!(nodes.split(' ').collect::<BTreeSet<_>>().len() == 2, "both are on one node: {nodes}");

        // By its addresses from outside, by those inside from a pod, and by the API server, which has no kube-proxy.
        for address in SERVICE {
            site.wait_answers(SocketAddr::new(address.parse()?, 80), &pods)?;
        }
        let inside = site.kubectl("get service web -o jsonpath={.spec.clusterIPs[*]}")?;
        for address in inside.split(' ').map(str::parse::<IpAddr>) {
            let service = SocketAddr::new(address?, 80);
            let answer = eventually(LIMIT, || site.kubectl(&format!("exec deployment/good -- /pod get {service}")))?;
            ensure!(pods.iter().any(|pod| answer.starts_with(&format!("backend {pod} sees "))), "{answer}");
        }
        let path = "/api/v1/namespaces/default/services/web:80/proxy/";
        let answer = eventually(LIMIT, || site.kubectl(&format!("get --raw {path}")))?;
        ensure!(answer.starts_with("backend good-"), "{answer}");

        // With the policy Local only the pods of the node that got the packet answer, and they see the client.
        site.kubectl(r#"patch service web -p {"spec":{"externalTrafficPolicy":"Local"}}"#)?;
        let on_first = site.kubectl("get pods -l part=good --field-selector=spec.nodeName=node1 -o name")?;
        let on_first = BTreeSet::from([on_first.trim().trim_start_matches("pod/").to_owned()]);
        for (address, client) in SERVICE.into_iter().zip(CLIENT) {
            let service = SocketAddr::new(address.parse()?, 80);
            let client: IpAddr = client.parse()?;
            eventually(LIMIT, || {
                for _ in 0..10 {
                    let answer = site.client.ask(service, ONE_REQUEST)?;
                    ensure!(on_first.contains(&answer.backend) && answer.client == client, "{answer:?}");
                }
                Ok(())
            })?;
        }
        ensure!(site.ready_pods("part=bad")?.is_empty(), "a pod without its port is ready");
        Ok(())
    })
}

fn power(lab: &Lab) -> Result<()> {
    on_site(lab, 2, ProxyMode::Nftables, |site| {
        site.cluster.api().apply(&deployment("good", 2, 8080))?;
        site.cluster.api().apply(&service("web", "Cluster"))?;
        let ingress = SERVICE.map(|address| json!({"ip": address}));
        site.cluster.api().patch(
            "/api/v1/namespaces/default/services/web/status",
            &json!({"status": {"loadBalancer": {"ingress": ingress}}}),
        )?;
        site.kubectl("rollout status deployment/good --timeout=180s")?;
        let before = site.ready_pods("part=good")?;

        site.cluster.power_cut("node2")?;
        ensure!(site.cluster.power_cut("node2").is_err(), "the power of a node can be cut twice");
        site.cluster.wait_lost("node2")?;
        let after = eventually(LIMIT, || {
            let pods = site.ready_pods("part=good")?;
            ensure!(pods.len() == 2 && pods != before, "{pods:?} are ready");
            Ok(pods)
        })?;
        let nodes = site.kubectl(&format!(
            "get pods {} -o jsonpath={{.items[*].spec.nodeName}}",
            after.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
        ))?;
        ensure!(nodes == "node1 node1", "{nodes}");
        site.wait_answers(SocketAddr::new(SERVICE[0].parse()?, 80), &after)?;

        site.cluster.power_on("node2")?;
        site.cluster.wait_ready("node2")?;
        // It runs pods again, and takes part in Services.
        site.kubectl("scale deployment/good --replicas=4")?;
        site.kubectl("rollout status deployment/good --timeout=180s")?;
        let nodes = site.kubectl("get pods -l part=good -o jsonpath={.items[*].spec.nodeName}")?;
        ensure!(nodes.contains("node2"), "{nodes}");
        for ((address, length), node) in SERVICE.into_iter().zip([32, 128]).zip(NODES[1]) {
            site.client.set_route(&format!("{address}/{length}"), &[node.parse()?])?;
        }
        let pods = site.ready_pods("part=good")?;
        for address in SERVICE {
            site.wait_answers(SocketAddr::new(address.parse()?, 80), &pods)?;
        }
        Ok(())
    })
}

/// A chart with a pod on the network of each node, as MetalLB's speaker is.
const CHART: [(&str, &str); 2] = [
    ("Chart.yaml", "apiVersion: v2\nname: tiny\nversion: 1.0.0\nkubeVersion: \">=1.19.0-0\"\n"),
    (
        "templates/all.yaml",
        r#"
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-secret}
stringData: {word: {{ .Values.word | quote }}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: tiny}}
  template:
    metadata: {labels: {app: tiny}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 1
      containers:
        - name: backend
          image: {{ .Values.image }}
          args: ["9090"]
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_RAW]}}
          readinessProbe: {httpGet: {path: /, port: 9090}, periodSeconds: 1}
          volumeMounts: [{name: secret, mountPath: /secret}]
      volumes: [{name: secret, secret: {secretName: {{ .Release.Name }}-secret}}]
"#,
    ),
];

fn helm(lab: &Lab) -> Result<()> {
    let chart = lab.folder().join("tiny");
    fs::create_dir_all(chart.join("templates"))?;
    for (name, content) in CHART {
        fs::write(chart.join(name), content)?;
    }
    on_site(lab, 2, ProxyMode::Nftables, |site| {
        let chart = chart.to_str().context("a path that is not text")?;
        for (action, tag) in [("install", "2"), ("upgrade", "3")] {
            let name = format!("test.local/backend:{tag}");
            let program = cluster::pod_program()?;
            site.cluster.import(&[Image::of_program(&name, &program, &["backend"])?])?;
            let image = format!("image={name}");
            site.cluster.api().helm(&[
                action,
                "tiny",
                chart,
                "--set",
                &image,
                "--set",
                "word=hush",
                "--wait",
                "--timeout=180s",
            ])?;
            // The last of the old pods may still be ending.
            eventually(LIMIT, || {
                let images =
                    site.kubectl("get pods -A -l app=tiny -o jsonpath={.items[*].spec.containers[*].image}")?;
                ensure!(images == format!("{name} {name}"), "after helm {action}: {images}");
                Ok(())
            })?;
            for (node, addresses) in site.cluster.nodes().zip(NODES) {
                for address in addresses {
                    let answer = site.client.ask(SocketAddr::new(address.parse()?, 9090), ONE_REQUEST)?;
                    ensure!(answer.backend == node.name(), "{address} is {}", answer.backend);
                }
            }
        }
        let version = site.kubectl("get --raw /version")?;
        ensure!(version.contains("\"gitVersion\": \"v1."), "charts would refuse {version}");
        site.cluster.api().helm(&["uninstall", "tiny", "--wait", "--timeout=180s"])?;
        eventually(LIMIT, || {
            let left = site.kubectl("get pods,secrets -A -o name")?;
            ensure!(left.is_empty(), "{left} are left");
            Ok(())
        })
    })
}

/// The program of which nothing may be left: it starts a cluster, says so, and ends when its standard input does.
fn hold() -> ExitCode {
    cluster::enter().unwrap();
    let lab = Lab::new("hold").unwrap();
    let site = Site::start(&lab, 1, ProxyMode::Nftables).unwrap();
    site.cluster.api().apply(&deployment("good", 1, 8080)).unwrap();
    site.kubectl("rollout status deployment/good --timeout=180s").unwrap();
    // Whoever started this may be gone.
    drop(std::io::stdout().write_all(b"ready\n"));
    let ended = std::io::stdin().lock().read_line(&mut String::new());
    if ended.is_ok_and(|read| read > 0) { ExitCode::SUCCESS } else { ExitCode::from(3) }
}

fn start_holder() -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.arg("--as-program").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

/// When and how the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    KilledAsNodesStart,
    Killed,
    Asked,
}

/// The control groups of the run that a process began, in all hierarchies.
fn groups_of(process: u32) -> Vec<String> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut found = Vec::new();
    for line in own.lines() {
        let (controllers, path) = line.split_once(':').unwrap().1.split_once(":/").unwrap();
        let folder = format!("/sys/fs/cgroup/{}/{path}", controllers.trim_start_matches("name="));
        let names =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path().display().to_string());
        found.extend(names.filter(|name| name.contains(&format!("/metallb-lab-{process}-"))));
    }
    found
}

fn nothing_left(_: &Lab) -> Result<()> {
    let mounts = || fs::read_to_string("/proc/self/mountinfo");
    let before = (mounts()?, machine()?);
    for end in [End::KilledAsNodesStart, End::Killed, End::Asked] {
        let mut child = start_holder()?;
        let process = child.id();
        let groups = || groups_of(process);
        if end == End::KilledAsNodesStart {
            eventually(LIMIT, || groups().pop().context("no groups"))?;
        } else {
            let mut line = String::new();
            BufReader::new(child.stdout.take().context("its standard output")?).read_line(&mut line)?;
            ensure!(line == "ready\n", "{line:?}");
            ensure!(groups().len() >= 7, "the groups are {:?}", groups());
        }
        let family = descendants(process);
        ensure!(family.len() > 5, "a cluster of {} processes", family.len());
        if end == End::Asked {
            child.stdin.take().context("its standard input")?.write_all(b"end\n")?;
            let status = child.wait()?;
            ensure!(status.success(), "{status}");
            ensure!(groups().is_empty(), "{:?} are left at the end", groups());
        } else {
            child.kill()?;
            child.wait()?;
        }
        eventually(LIMIT, || {
            let left: BTreeSet<_> = processes()?.intersection(&family).copied().collect();
            ensure!(left.is_empty(), "processes {left:?} are left");
            ensure!(groups().is_empty(), "{:?} are left", groups());
            Ok(())
        })
        .with_context(|| format!("{end:?}"))?;
    }
    let after = (mounts()?, machine()?);
    ensure!(before == after, "before: {before:?}\nafter: {after:?}");
    Ok(())
}

fn names(folder: &str) -> Result<BTreeSet<String>> {
    Ok(fs::read_dir(folder)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn processes() -> Result<BTreeSet<u32>> {
    Ok(names("/proc")?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The processes that descend from one, by walking up.
fn descendants(ancestor: u32) -> BTreeSet<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let descends = |pid: &u32| std::iter::successors(Some(*pid), |pid| parent(*pid)).any(|pid| pid == ancestor);
    processes().unwrap().into_iter().filter(descends).collect()
}
