//! Manifests as tests write them: short, and complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kit::Family;
use lab::manifests::LabService;

/// The namespace of MetalLB's own objects.
pub(crate) const NAMESPACE: &str = "metallb-system";

/// An object of MetalLB's own; `spec` is what stands between the braces of `spec: {}`.
pub(crate) fn object(kind: &str, name: &str, spec: &str) -> String {
    let version = if kind == "BGPPeer" { "v1beta2" } else { "v1beta1" };
    format!(
        "apiVersion: metallb.io/{version}\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}}}\nspec: {{{spec}}}\n"
    )
}

/// A Secret with the password of a peer.
pub(crate) fn secret(name: &str, password: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/basic-auth\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}}}\nstringData: {{password: {password}}}\n"
    )
}

/// A Service of type LoadBalancer in the namespace `default`, with an endpoint on every node unless said otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    families: Vec<Family>,
    ports: Vec<(&'static str, u16)>,
    local: bool,
    class: Option<&'static str>,
    annotations: BTreeMap<&'static str, String>,
    labels: BTreeMap<&'static str, &'static str>,
    /// Nodes with an endpoint; none: all.
    nodes: Option<BTreeSet<String>>,
    /// Nodes whose endpoint cannot take traffic.
    pub(crate) unready: BTreeSet<String>,
}

impl Service {
    /// Over IPv4, on TCP port 80.
    pub(crate) fn v4(name: &str) -> Service {
        Service {
            name: name.to_owned(),
            families: vec![Family::V4],
            ports: vec![("TCP", 80)],
            local: false,
            class: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            nodes: None,
            unready: BTreeSet::new(),
        }
    }

    /// The same over IPv6.
    pub(crate) fn v6(name: &str) -> Service {
        Service { families: vec![Family::V6], ..Service::v4(name) }
    }

    /// The same over both.
    pub(crate) fn dual(name: &str) -> Service {
        Service { families: vec![Family::V4, Family::V6], ..Service::v4(name) }
    }

    /// With `externalTrafficPolicy: Local`.
    pub(crate) fn local(self) -> Service {
        Service { local: true, ..self }
    }

    /// With endpoints on these nodes alone.
    pub(crate) fn on(self, nodes: &[&str]) -> Service {
        Service { nodes: Some(nodes.iter().map(|node| (*node).to_owned()).collect()), ..self }
    }

    /// With this port alone.
    pub(crate) fn port(self, protocol: &'static str, port: u16) -> Service {
        Service { ports: vec![(protocol, port)], ..self }
    }

    /// With one more port.
    pub(crate) fn and_port(mut self, protocol: &'static str, port: u16) -> Service {
        self.ports.push((protocol, port));
        self
    }

    /// With a `loadBalancerClass`.
    pub(crate) fn class(self, class: &'static str) -> Service {
        Service { class: Some(class), ..self }
    }

    /// With one more label.
    pub(crate) fn label(mut self, key: &'static str, value: &'static str) -> Service {
        self.labels.insert(key, value);
        self
    }

    /// With one more annotation.
    pub(crate) fn annotation(mut self, key: &'static str, value: &str) -> Service {
        self.annotations.insert(key, value.to_owned());
        self
    }

    /// With addresses that it asks for, separated by commas.
    pub(crate) fn wants(self, addresses: &str) -> Service {
        self.annotation("metallb.io/loadBalancerIPs", addresses)
    }

    /// With a pool that it asks for.
    pub(crate) fn from(self, pool: &str) -> Service {
        self.annotation("metallb.io/address-pool", pool)
    }

    /// With a key for sharing addresses.
    pub(crate) fn shares(self, key: &str) -> Service {
        self.annotation("metallb.io/allow-shared-ip", key)
    }

    pub(crate) fn has_endpoint_on(&self, node: &str) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.contains(node))
    }

    /// How many addresses it should get.
    pub(crate) fn address_count(&self) -> usize {
        self.families.len()
    }

    /// As the lab's service proxies know it.
    pub(crate) fn for_lab(&self) -> LabService {
        LabService {
            namespace: "default".to_owned(),
            name: self.name.clone(),
            ports: self.ports.iter().map(|(protocol, port)| ((*protocol).to_owned(), *port)).collect(),
            local: self.local,
        }
    }

    /// As a manifest.
    pub(crate) fn manifest(&self) -> String {
        let cluster_ip = |family: &Family| if *family == Family::V4 { "10.96.0.20" } else { "\"fd00:96::20\"" };
        let list = |items: Vec<String>| items.join(", ");
        let cluster_ips = list(self.families.iter().map(|family| cluster_ip(family).to_owned()).collect());
        let port = |(protocol, port)| format!("{{name: p{port}, protocol: {protocol}, port: {port}}}");
        let ports = list(self.ports.iter().copied().map(port).collect());
        let annotations = list(self.annotations.iter().map(|(key, value)| format!("{key}: \"{value}\"")).collect());
        let labels = list(self.labels.iter().map(|(key, value)| format!("{key}: \"{value}\"")).collect());
        let policy = if self.families.len() == 1 { "SingleStack" } else { "RequireDualStack" };
        let mut text = format!(
            "apiVersion: v1\nkind: Service\n\
             metadata: {{name: {}, namespace: default, labels: {{{labels}}}, annotations: {{{annotations}}}}}\n\
             spec:\n  type: LoadBalancer\n  selector: {{app: web}}\n  ipFamilyPolicy: {policy}\n  \
             clusterIPs: [{cluster_ips}]\n  ports: [{ports}]\n",
            self.name,
        );
        let _ = writeln!(text, "  externalTrafficPolicy: {}", if self.local { "Local" } else { "Cluster" });
        if let Some(class) = self.class {
            let _ = writeln!(text, "  loadBalancerClass: {class}");
        }
        text
    }
}
