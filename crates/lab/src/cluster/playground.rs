//! A whole cluster for a person: MetalLB in it, something to ask, and a shell with `kubectl`, `helm`, a client and the
//! nodes' power at hand.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow};
use kit::Duration;
use serde_json::Value;

use super::{Cluster, ClusterPlan, metallb};
use crate::account::table;
use crate::kubernetes::{NAMESPACE, ProxyMode, User};
use crate::shell::{Power, command_write, commands_write, hosts_write, power_serve, shell_run, work};
use crate::{Host, Lab, Switch, eventually, helm};

/// Backends, a Service and the pool that it gets its addresses from.
const EXAMPLE: &str = include_str!("playground.yaml");

const LIMIT: Duration = Duration::from_secs(120);

/// What to play with.
#[derive(Clone, Debug)]
pub struct Playground {
    /// How many nodes.
    pub nodes: u8,
    /// What kube-proxy works with.
    pub proxy: ProxyMode,
    /// The program that runs this: it has the commands of the shell.
    pub program: PathBuf,
    /// The shell itself.
    pub shell: PathBuf,
}

/// Starts a cluster, installs MetalLB, tells what there is, and runs the shell to its end; then takes all away.
pub fn run(playground: &Playground, out: &mut dyn Write) -> Result<()> {
    let lab = Lab::new("cluster")?;
    let lan = lab.switch("lan")?;
    writeln!(out, "Starting {} nodes...", playground.nodes)?;
    let plan = ClusterPlan { nodes: playground.nodes, proxy: playground.proxy, images: vec![metallb::image()?] };
    let cluster = Cluster::start(&lab, &lan, &plan)?;
    client_start(&lab, &lan, &cluster)?;
    writeln!(out, "Installing MetalLB from its chart...")?;
    metallb::install(&cluster, &[])?;
    let addresses = example_apply(&cluster)?;

    hosts_write(&lab)?;
    let launcher = format!("'{}'", playground.program.display());
    commands_write(&launcher)?;
    let settings = tools_write(&cluster, &launcher)?;
    writeln!(out, "\n{}\n", map(playground.nodes))?;
    writeln!(out, "{}", hints(&addresses, &lab))?;
    out.flush()?;
    let cluster = Arc::new(Mutex::new(cluster));
    let served = Arc::clone(&cluster);
    power_serve(move |power, node| {
        let mut cluster = served.lock().map_err(|_| anyhow!("an earlier command panicked"))?;
        match power {
            Power::Off => cluster.power_cut(node),
            Power::On => cluster.power_on(node),
        }
    })?;
    shell_run(&playground.shell, &settings)?;
    writeln!(out, "Taking the cluster away...")?;
    cluster.lock().map_err(|_| anyhow!("an earlier command panicked"))?.remove()
}

fn client_start(lab: &Lab, lan: &Switch, cluster: &Cluster) -> Result<Host> {
    let client = lab.host("client")?;
    client.plug("eth0", lan)?.address("10.0.0.200/24")?.address("fd00::200/64")?;
    cluster.route_pods(&client)?;
    Ok(client)
}

/// Makes something to ask, and gives back its addresses.
fn example_apply(cluster: &Cluster) -> Result<Vec<String>> {
    cluster.api().apply(EXAMPLE)?;
    cluster.api().kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    eventually(LIMIT, || {
        let service = cluster.api().get("/api/v1/namespaces/default/services/web")?;
        let ingress = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
        let addresses = ingress.context("Service web has no address yet")?.iter();
        Ok(addresses.filter_map(|entry| entry.get("ip")?.as_str()).map(str::to_owned).collect())
    })
}

/// Makes the commands `kubectl` and `helm`, and gives back the settings that they and others want.
fn tools_write(cluster: &Cluster, launcher: &str) -> Result<String> {
    let (program, helm) = (cluster.api().program().canonicalize()?, helm::program()?);
    command_write("kubectl", &format!("{launcher} on control '{}' kubectl", program.display()))?;
    command_write("helm", &format!("{launcher} on control '{}'", helm.display()))?;
    let settings = [
        ("KUBECONFIG", cluster.api().kubeconfig(User::Administrator)),
        ("KUBECACHEDIR", work("kubectl")),
        ("HELM_CACHE_HOME", work("helm/cache")),
        ("HELM_CONFIG_HOME", work("helm/config")),
        ("HELM_DATA_HOME", work("helm/data")),
    ];
    Ok(settings.map(|(name, path)| format!("{name}={}; export {name}\n", path.display())).concat())
}

fn map(nodes: u8) -> String {
    let hosts = std::iter::once(("control".to_owned(), "100".to_owned()))
        .chain((1..=nodes).map(|number| (format!("node{number}"), number.to_string())))
        .chain([("client".to_owned(), "200".to_owned())]);
    let rows: Vec<_> =
        hosts.map(|(name, last)| vec![name, format!("10.0.0.{last}"), format!("fd00::{last}")]).collect();
    table(&["host", "IPv4", "IPv6"], &rows)
}

fn hints(addresses: &[String], lab: &Lab) -> String {
    let url = |address: &String| {
        if address.contains(':') { format!("http://[{address}]/") } else { format!("http://{address}/") }
    };
    let rows = [
        ("kubectl get pods -A -o wide".to_owned(), "what runs"),
        ("kubectl get service web".to_owned(), "a Service with addresses from MetalLB"),
        (format!("on client curl {}", addresses.first().map(url).unwrap_or_default()), "ask it from outside"),
        (format!("on client curl -g '{}'", addresses.last().map(url).unwrap_or_default()), "the same by IPv6"),
        ("on client ip neighbour".to_owned(), "who answers for which address"),
        (format!("kubectl -n {NAMESPACE} logs daemonset/metallb-speaker"), "what MetalLB says"),
        ("power-off node1, power-on node1".to_owned(), "take the power from a node, and give it back"),
        (format!("ls {}/node1", lab.folder().display()), "logs of its kubelet, containerd, kube-proxy"),
        ("exit".to_owned(), "end everything"),
    ];
    let rows: Vec<_> = rows.into_iter().map(|(command, what)| vec![command, what.to_owned()]).collect();
    table(&["try", ""], &rows)
}
