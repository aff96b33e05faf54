//! A node: a host of the lab with control groups of its own, a container runtime, a kubelet and a service proxy.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::boot::{self, Plan, RUNTIME_SOCKET};
use super::groups::NodeGroups;
use super::{PAUSE_IMAGE, POD_NETWORKS};
use crate::kubernetes::certificates::{AUTHORITY, Credentials};
use crate::kubernetes::{self, ProxyMode};
use crate::{Host, Process, Switch, WORK};

/// The interface that a node has.
const INTERFACE: &str = "eth0";
/// Where Debian and Ubuntu have the plugins that connect pods.
const NETWORK_PLUGINS: &str = "/usr/lib/cni";

/// A node, with or without power.
#[derive(Debug)]
pub(super) struct Node {
    host: Host,
    groups: NodeGroups,
    plan: Plan,
    power: Option<Process>,
}

impl Node {
    /// Makes a node and gives it power. `images` is an archive that it has from the start.
    pub(super) fn start(
        host: Host,
        number: u8,
        api: &kubernetes::Cluster,
        mode: ProxyMode,
        images: &Path,
    ) -> Result<Node> {
        let folder = host.folder();
        let file = |name: &str, content: String| {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            path.into_os_string().into_string().ok().context("a path that is not text")
        };
        let networks = folder.join("networks");
        fs::create_dir(&networks)?;
        file("networks/10-lab.conflist", networks_config(number))?;
        let runtime_config = file("containerd.toml", runtime_config(&networks))?;
        let kubelet_config = file("kubelet.json", kubelet_config(&api.control().folder().join(AUTHORITY)))?;
        let [v4, v6] = addresses(number)?;
        let kubelet = vec![
            "kubelet".to_owned(),
            format!("--config={kubelet_config}"),
            format!("--kubeconfig={}", api.component(&Credentials::node(host.name()))?.display()),
            format!("--hostname-override={}", host.name()),
            format!("--node-ip={v4},{v6}"),
        ];
        let proxy_user = Credentials::component("kube-proxy");
        let proxy_config = api.component(&Credentials { file: format!("kube-proxy-{}", host.name()), ..proxy_user })?;
        let proxy = [
            vec!["kube-proxy".to_owned(), format!("--cluster-cidr={}", POD_NETWORKS.join(","))],
            kubernetes::proxy_arguments(&host, mode, &proxy_config),
        ];
        let groups = NodeGroups::make(folder.strip_prefix(WORK)?, host.thread_id())?;
        let plan = Plan {
            folder: folder.to_owned(),
            controllers: groups.controllers(),
            kubernetes: api.program().to_owned(),
            images: vec![images.to_owned()],
            runtime: vec!["containerd".to_owned(), "--config".to_owned(), runtime_config],
            components: vec![kubelet, proxy.concat()],
        };
        let mut node = Node { host, groups, plan, power: None };
        node.power = Some(node.host.spawn("node", boot::command(&node.plan)?)?);
        Ok(node)
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// What the node says of itself: which parts of it ended, or why it did not start.
    pub(super) fn log(&self) -> String {
        self.power.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The link goes first, so nothing that dies can say goodbye.
    pub(super) fn power_cut(&mut self) -> Result<()> {
        let mut power = self.power.take().with_context(|| format!("{} has no power", self.host.name()))?;
        self.host.unplug(INTERFACE)?;
        power.kill()?;
        self.groups.wait_empty()
    }

    /// Files are as they were; memory, and what was in the kernel for pods and Services, is gone.
    pub(super) fn power_on(&mut self) -> Result<()> {
        ensure!(self.power.is_none(), "{} has power", self.host.name());
        self.host.output_ok("nft", &["flush", "ruleset"])?;
        self.host.replug_anew(INTERFACE)?;
        self.plan.images = Vec::new();
        self.power = Some(self.host.spawn("node", boot::command(&self.plan)?)?);
        Ok(())
    }

    /// Imports an archive of images.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        self.host.output(boot::import_command(archive))?.ok().map(drop)
    }

    /// Takes the power away, and all that is not in a namespace.
    pub(super) fn remove(&mut self) -> Result<()> {
        if let Some(mut power) = self.power.take() {
            power.kill()?;
        }
        self.groups.wait_empty()?;
        self.groups.remove()
    }
}

/// Connects a host to the segment of the nodes as the one with this number.
pub(super) fn connect(host: &Host, lan: &Switch, number: u8) -> Result<()> {
    let [v4, v6] = addresses(number)?;
    host.plug(INTERFACE, lan)?.address(&format!("{v4}/24"))?.address(&format!("{v6}/64"))?;
    Ok(())
}

/// The addresses of the host with this number.
pub(super) fn addresses(number: u8) -> Result<[IpAddr; 2]> {
    Ok([format!("10.0.0.{number}").parse()?, format!("fd00::{number}").parse()?])
}

/// The networks of the pods of a node.
pub(super) fn pod_networks(number: u8) -> [String; 2] {
    [format!("10.244.{number}.0/24"), format!("fd00:244:0:{number}::/64")]
}

/// Pods are connected to their node one by one: on a bridge, answers to a pod that asked a Service and was sent to
/// another one beside it would not pass the node's translation of addresses.
fn networks_config(number: u8) -> String {
    let ranges = pod_networks(number).map(|network| json!([{"subnet": network}]));
    let address_plugin = json!({
        "type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    json!({
        "cniVersion": "0.4.0", "name": "lab",
        "plugins": [
            {"type": "ptp", "ipMasq": false, "ipam": address_plugin},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

/// Version 2 of containerd's configuration, which 1.6 and the later ones read.
fn runtime_config(networks: &Path) -> String {
    // The machine's limits on how processes are chosen when memory runs out bind us, and so do its lists of huge pages
    // and of AppArmor profiles: they belong to the machine.
    format!(
        "version = 2\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n\
         path = \"/var/lib/containerd/opt\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = \"{PAUSE_IMAGE}\"\n\
         restrict_oom_score_adj = true\n\
         disable_apparmor = true\n\
         disable_hugetlb_controller = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
         bin_dir = \"{NETWORK_PLUGINS}\"\n\
         conf_dir = \"{}\"\n",
        networks.display()
    )
}

fn kubelet_config(authority: &PathBuf) -> String {
    // Space on the disk and in memory is the machine's: no node may throw out pods, or images that no registry has.
    let never = "0%";
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "featureGates": {"KubeletInUserNamespace": true},
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": authority},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{RUNTIME_SOCKET}"),
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "failSwapOn": false,
        // It finds the settings of the kernel as it wants them; see `boot`.
        "protectKernelDefaults": true,
        "resolvConf": "",
        "volumePluginDir": "/var/lib/kubelet/plugins-of-volumes",
        "evictionHard": {
            "memory.available": never, "nodefs.available": never, "nodefs.inodesFree": never,
            "imagefs.available": never, "imagefs.inodesFree": never,
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "localStorageCapacityIsolation": false,
        // A node that is lost is to be noticed soon.
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 5,
    })
    .to_string()
}
