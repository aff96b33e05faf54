//! The cluster as a folder of manifests: what the lab writes into it, and what our program answers.
//!
//! One file for each object that the lab writes. A file is replaced at once, so that a reader never sees half of one.
//! Statuses come back as Kubernetes objects below `status`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kit::Family;
use serde::Deserialize;
use serde_json::{Value, json};

/// A folder of manifests.
#[derive(Clone, Debug)]
pub struct ManifestFolder {
    path: PathBuf,
}

/// A Service of type LoadBalancer, as far as the lab needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ports with their protocols.
    pub ports: Vec<(String, u16)>,
    /// Only endpoints of the node that a packet arrives at (external traffic policy `Local`).
    pub local: bool,
}

/// An endpoint of every Service of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabEndpoint {
    /// The node.
    pub node: String,
    /// The node's addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it can take traffic.
    pub ready: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    kind: String,
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    type_: String,
    ports: Vec<Port>,
    external_traffic_policy: String,
}

#[derive(Deserialize)]
struct Port {
    #[serde(default = "tcp")]
    protocol: String,
    port: u16,
}

fn tcp() -> String {
    "TCP".to_owned()
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<Ingress>,
}

#[derive(Deserialize)]
struct Ingress {
    ip: Option<IpAddr>,
}

/// The Services of type LoadBalancer in a text of YAML documents.
pub fn services_in(text: &str) -> Result<Vec<LabService>> {
    let documents: Vec<Document> = serde_saphyr::from_multiple(text)?;
    let is_ours = |document: &Document| document.kind == "Service" && document.spec.type_ == "LoadBalancer";
    let service = |document: Document| LabService {
        namespace: namespace_or_default(document.metadata.namespace),
        name: document.metadata.name,
        ports: document.spec.ports.into_iter().map(|port| (port.protocol, port.port)).collect(),
        local: document.spec.external_traffic_policy == "Local",
    };
    Ok(documents.into_iter().filter(is_ours).map(service).collect())
}

fn namespace_or_default(namespace: String) -> String {
    if namespace.is_empty() { "default".to_owned() } else { namespace }
}

impl ManifestFolder {
    /// Makes an empty folder.
    pub fn create(path: PathBuf) -> Result<ManifestFolder> {
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(ManifestFolder { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of manifests, or replaces it.
    pub fn write(&self, name: &str, manifests: &str) -> Result<()> {
        let (hidden, file) = (self.path.join(format!(".{name}.new")), self.path.join(format!("{name}.yaml")));
        fs::write(&hidden, manifests).with_context(|| format!("writing {}", hidden.display()))?;
        fs::rename(&hidden, &file).with_context(|| format!("writing {}", file.display()))
    }

    /// Removes a file of manifests, and with it the objects in it.
    pub fn remove(&self, name: &str) -> Result<()> {
        let file = self.path.join(format!("{name}.yaml"));
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))
    }

    /// Writes a Node that is ready or, as the node controller has it when nothing is heard from it, unknown.
    pub fn write_node(&self, name: &str, addresses: &[IpAddr], ready: bool) -> Result<()> {
        let address = |address: &IpAddr| json!({"type": "InternalIP", "address": address.to_string()});
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {
                "addresses": addresses.iter().map(address).collect::<Vec<_>>(),
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "Unknown" }}],
            },
        });
        self.write(&format!("node-{name}"), &node.to_string())
    }

    /// Writes the EndpointSlices of a Service, one for each family.
    pub fn write_endpoints(&self, service: &LabService, endpoints: &[LabEndpoint], port: u16) -> Result<()> {
        let slices: Vec<String> =
            Family::ALL.into_iter().map(|family| slice(service, endpoints, port, family).to_string()).collect();
        self.write(&format!("endpoints-{}-{}", service.namespace, service.name), &slices.join("\n---\n"))
    }

    /// The addresses that each Service got, by namespace and name.
    pub fn assigned(&self) -> Result<BTreeMap<(String, String), Vec<IpAddr>>> {
        let mut assigned = BTreeMap::new();
        let mut folders = vec![self.path.join("status")];
        while let Some(folder) = folders.pop() {
            // Nothing is there before the first status.
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "json") {
                    assigned_in(&path, &mut assigned)?;
                }
            }
        }
        Ok(assigned)
    }
}

fn assigned_in(path: &Path, assigned: &mut BTreeMap<(String, String), Vec<IpAddr>>) -> Result<()> {
    // It may have gone since its folder was read.
    let Ok(text) = fs::read_to_string(path) else { return Ok(()) };
    let documents: Vec<Document> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("reading {}", path.display()))?;
    for document in documents.into_iter().filter(|document| document.kind == "Service") {
        let key = (namespace_or_default(document.metadata.namespace), document.metadata.name);
        assigned.insert(key, document.status.load_balancer.ingress.into_iter().filter_map(|one| one.ip).collect());
    }
    Ok(())
}

fn slice(service: &LabService, endpoints: &[LabEndpoint], port: u16, family: Family) -> Value {
    let endpoint = |endpoint: &LabEndpoint| {
        let of_family = |address: &&IpAddr| Family::of(address) == family;
        let addresses: Vec<_> = endpoint.addresses.iter().filter(of_family).map(ToString::to_string).collect();
        (!addresses.is_empty()).then(|| {
            json!({
                "addresses": addresses, "nodeName": endpoint.node,
                "conditions": {"ready": endpoint.ready, "serving": endpoint.ready},
            })
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{}", service.name, family.to_string().to_lowercase()),
            "namespace": service.namespace,
            "labels": {"kubernetes.io/service-name": service.name},
        },
        "addressType": family.to_string(),
        "endpoints": endpoints.iter().filter_map(endpoint).collect::<Vec<_>>(),
        "ports": [{"protocol": "TCP", "port": port}],
    })
}

/// The sockets of endpoints that can take traffic of a family.
pub fn ready_sockets<'a>(
    endpoints: impl Iterator<Item = &'a LabEndpoint>,
    family: Family,
    port: u16,
) -> Vec<SocketAddr> {
    endpoints
        .filter(|endpoint| endpoint.ready)
        .filter_map(|endpoint| endpoint.addresses.iter().find(|address| Family::of(address) == family))
        .map(|address| SocketAddr::new(*address, port))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_other_types_and_other_kinds_are_left_out() {
        let text = "kind: Service\nmetadata: {name: a}\nspec: {type: ClusterIP}\n---\n\
                    kind: Pod\nmetadata: {name: b}\n---\n\
                    kind: Service\nmetadata: {name: c, namespace: n}\n\
                    spec: {type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}, {port: 53, protocol: UDP}]}";
        let service = LabService {
            namespace: "n".to_owned(),
            name: "c".to_owned(),
            ports: vec![("TCP".to_owned(), 80), ("UDP".to_owned(), 53)],
            local: true,
        };
        assert_eq!(services_in(text).unwrap(), [service]);
    }

    #[test]
    fn assigned_addresses_are_read_wherever_they_are_below_the_status_folder() {
        let path = std::env::temp_dir().join(format!("lab-manifests-{}", std::process::id()));
        let folder = ManifestFolder::create(path.clone()).unwrap();
        assert!(folder.assigned().unwrap().is_empty());
        fs::create_dir_all(path.join("status/services")).unwrap();
        let status = "kind: Service\nmetadata: {name: web}\n\
                      status: {loadBalancer: {ingress: [{ip: 10.0.0.1}, {hostname: x}, {ip: 'fd00::1'}]}}";
        fs::write(path.join("status/services/web.yaml"), status).unwrap();
        fs::write(path.join("status/note.txt"), "kind: [").unwrap();
        let assigned = folder.assigned().unwrap();
        let addresses: Vec<String> = assigned.values().flatten().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
        fs::remove_dir_all(path).unwrap();
    }
}
