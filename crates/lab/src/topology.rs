//! Topologies as small files: which hosts there are, how they are connected, and what runs on them.
//!
//! A file says `about`, `segments`, `hosts` and `manifests`; `topologies/three-nodes.yaml` shows everything there is.
//! A host's interfaces are `eth0`, `eth1`... in the order of its links.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

/// The topologies that come with the program, by name.
pub const BUILT_IN: &[(&str, &str)] = &[("three-nodes", include_str!("../topologies/three-nodes.yaml"))];

/// The longest name of a host: with the name of an interface it has to fit into the kernel's 15 bytes.
const HOST_NAME_MAX: usize = 10;

/// A topology without contradictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// What it shows.
    pub about: String,
    /// Names of the Ethernet segments.
    pub segments: Vec<String>,
    /// The hosts, in the order of the file.
    pub hosts: Vec<HostPlan>,
    /// Kubernetes objects as YAML documents: pools, advertisements, peers, Services.
    pub manifests: String,
}

/// A host of a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its interfaces.
    pub links: Vec<Link>,
    /// Its default routers, at most one of each family.
    pub routers: Vec<IpAddr>,
    /// What it says over BGP; of routers alone.
    pub bgp: Option<BgpPlan>,
}

impl HostPlan {
    /// Its addresses, without the length of their networks.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.links.iter().flat_map(|link| &link.addresses).map(IpNet::addr)
    }
}

/// What a host is, and thereby what runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A node of the cluster: speaker, service proxy and a backend of every Service.
    Node,
    /// Runs the controller.
    Control,
    /// Forwards packets; with `bgp`, learns routes.
    Router,
    /// Asks for Services.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Node => "node",
            Role::Control => "control",
            Role::Router => "router",
            Role::Client => "client",
        })
    }
}

/// An interface on a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The segment.
    pub segment: String,
    /// Addresses with the length of their networks.
    pub addresses: Vec<IpNet>,
}

/// The BGP side of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpPlan {
    /// Its AS.
    pub asn: u32,
    /// The AS of the nodes.
    pub peers_asn: u32,
    /// Where nodes may call from.
    pub networks: Vec<IpNet>,
}

/// Why a file is no topology: one line for each reason, each with its place.
#[derive(Debug, thiserror::Error)]
pub struct TopologyError {
    file: String,
    reasons: Vec<(Option<Location>, String)>,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (place, reason)) in self.reasons.iter().enumerate() {
            let newline = if position == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", self.file)?;
            if let Some(place) = place {
                write!(f, ":{}:{}", place.line(), place.column())?;
            }
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

impl Topology {
    /// The topology that comes with the program under this name, or else the file at this path.
    pub fn load(name_or_path: &str) -> Result<Topology, TopologyError> {
        let built_in = BUILT_IN.iter().find(|(name, _)| *name == name_or_path);
        match built_in {
            Some((name, text)) => Topology::parse(name, text),
            None => match fs::read_to_string(Path::new(name_or_path)) {
                Ok(text) => Topology::parse(name_or_path, &text),
                Err(error) => {
                    let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                    let reason = format!("{error}; built in are: {}", names.join(", "));
                    Err(TopologyError { file: name_or_path.to_owned(), reasons: vec![(None, reason)] })
                }
            },
        }
    }

    /// Reads a topology; `file` is its name in errors.
    pub fn parse(file: &str, text: &str) -> Result<Topology, TopologyError> {
        let error = |reasons| TopologyError { file: file.to_owned(), reasons };
        let written: File = serde_saphyr::from_str(text).map_err(|problem| {
            let (place, problem) = (problem.location(), problem.without_snippet().to_string());
            // The text repeats the place at its end.
            let reason = problem.split(" at line ").next().unwrap_or_default().to_owned();
            error(vec![(place, reason)])
        })?;
        let mut check = Check::default();
        let topology = check.topology(written);
        if check.reasons.is_empty() { Ok(topology) } else { Err(error(check.reasons)) }
    }

    /// The hosts of a role.
    pub fn hosts_with(&self, role: Role) -> impl Iterator<Item = &HostPlan> {
        self.hosts.iter().filter(move |host| host.role == role)
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    segments: Vec<Spanned<String>>,
    hosts: Vec<WrittenHost>,
    #[serde(default)]
    manifests: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHost {
    name: Spanned<String>,
    role: Role,
    links: Vec<WrittenLink>,
    #[serde(default)]
    routers: Vec<Spanned<String>>,
    bgp: Option<Spanned<WrittenBgp>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLink {
    segment: Spanned<String>,
    addresses: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBgp {
    asn: u32,
    peers: WrittenPeers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPeers {
    asn: u32,
    networks: Vec<Spanned<String>>,
}

/// Collects what is wrong on the way from what is written to what is meant.
#[derive(Default)]
struct Check {
    reasons: Vec<(Option<Location>, String)>,
    segments: BTreeSet<String>,
    hosts: BTreeSet<String>,
    addresses: BTreeMap<IpAddr, String>,
}

impl Check {
    fn wrong(&mut self, place: Location, reason: String) {
        self.reasons.push((Some(place), reason));
    }

    fn topology(&mut self, file: File) -> Topology {
        let mut segments = Vec::new();
        for segment in file.segments {
            self.name(&segment);
            if !self.segments.insert(segment.value.clone()) {
                self.wrong(segment.referenced, format!("there are two segments {}", segment.value));
            }
            segments.push(segment.value);
        }
        let hosts: Vec<_> = file.hosts.into_iter().map(|host| self.host(host)).collect();
        for role in [Role::Node, Role::Control] {
            if !hosts.iter().any(|host| host.role == role) {
                self.reasons.push((None, format!("there is no host with role {role}")));
            }
        }
        Topology { about: file.about.trim().to_owned(), segments, hosts, manifests: file.manifests }
    }

    fn name(&mut self, name: &Spanned<String>) {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.value.is_empty() || name.value.len() > HOST_NAME_MAX || !name.value.chars().all(is_plain) {
            let reason =
                format!("{:?} is no name: 1 to {HOST_NAME_MAX} lower-case letters, digits and dashes", name.value);
            self.wrong(name.referenced, reason);
        }
    }

    fn host(&mut self, host: WrittenHost) -> HostPlan {
        self.name(&host.name);
        let name = host.name.value;
        // A switch is a host too.
        if self.segments.contains(&name) || !self.hosts.insert(name.clone()) {
            self.wrong(host.name.referenced, format!("there are two hosts or segments {name}"));
        }
        let links: Vec<_> = host.links.into_iter().map(|link| self.link(&name, link)).collect();
        let networks: Vec<IpNet> = links.iter().flat_map(|link| link.addresses.clone()).collect();
        let routers = host.routers.into_iter().filter_map(|router| self.router(&name, &networks, &router)).collect();
        if let Some(bgp) = host.bgp.as_ref().filter(|_| host.role != Role::Router) {
            self.wrong(bgp.referenced, format!("{name} is no router, so it has no bgp"));
        }
        let bgp = host.bgp.map(|bgp| BgpPlan {
            asn: bgp.value.asn,
            peers_asn: bgp.value.peers.asn,
            networks: bgp.value.peers.networks.iter().filter_map(|network| self.network(network)).collect(),
        });
        HostPlan { name, role: host.role, links, routers, bgp }
    }

    fn link(&mut self, host: &str, link: WrittenLink) -> Link {
        if !self.segments.contains(&link.segment.value) {
            self.wrong(link.segment.referenced, format!("there is no segment {:?}", link.segment.value));
        }
        let mut addresses = Vec::new();
        for written in &link.addresses {
            let Some(network) = self.network(written) else { continue };
            if let Some(other) = self.addresses.insert(network.addr(), host.to_owned()) {
                self.wrong(written.referenced, format!("{other} has {} already", network.addr()));
            }
            addresses.push(network);
        }
        Link { segment: link.segment.value, addresses }
    }

    fn network(&mut self, written: &Spanned<String>) -> Option<IpNet> {
        let network = written.value.parse().ok();
        if network.is_none() {
            let reason =
                format!("{:?} is no address with the length of its network, such as 10.0.0.1/24", written.value);
            self.wrong(written.referenced, reason);
        }
        network
    }

    fn router(&mut self, host: &str, networks: &[IpNet], written: &Spanned<String>) -> Option<IpAddr> {
        let Ok(router) = written.value.parse::<IpAddr>() else {
            self.wrong(written.referenced, format!("{:?} is no address", written.value));
            return None;
        };
        if !networks.iter().any(|network| network.contains(&router)) {
            self.wrong(written.referenced, format!("{router} is in no network of {host}"));
        }
        Some(router)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: Expect) {
        expected.assert_eq(&match Topology::parse("x.yaml", text) {
            Ok(topology) => format!("{:?}", topology.hosts.iter().map(|host| &host.name).collect::<Vec<_>>()),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn what_comes_with_the_program_is_a_topology() {
        for (name, _) in BUILT_IN {
            let topology = Topology::load(name).unwrap_or_else(|error| panic!("{error}"));
            assert!(topology.hosts_with(Role::Node).count() > 0 && !topology.about.is_empty());
        }
    }

    #[test]
    fn an_error_tells_the_line_the_column_and_the_reason() {
        check("about: x\nsegments: [lan]\nhosts: {}\n", expect!["x.yaml:3:8: expected sequence start"]);
        check(
            "about: x\nsegments: [lan]\nhosts:\n  - {name: a, role: king, links: []}\n",
            expect!["x.yaml:4:21: unknown variant `king`, expected one of node, control, router, client"],
        );
        check(
            "about: x\nsegments: [lan]\nhosts: []\ncolour: red\n",
            expect!["x.yaml:4:1: unknown field `colour`, expected one of about, segments, hosts, manifests"],
        );
        check("about: [\n", expect!["x.yaml:1:8: expected string scalar"]);
    }

    #[test]
    fn every_contradiction_is_told_at_its_place() {
        check(
            "about: x
segments: [lan, lan, Outside]
hosts:
  - {name: lan, role: node, links: [{segment: wan, addresses: [10.0.0.1, 10.0.0.1/24]}]}
  - {name: b, role: client, links: [{segment: lan, addresses: [10.0.0.1/24]}], routers: [10.0.1.1, x]}
  - {name: b, role: client, links: [], bgp: {asn: 1, peers: {asn: 2, networks: [any]}}}
",
            expect![[r#"
                x.yaml:2:17: there are two segments lan
                x.yaml:2:22: "Outside" is no name: 1 to 10 lower-case letters, digits and dashes
                x.yaml:4:12: there are two hosts or segments lan
                x.yaml:4:47: there is no segment "wan"
                x.yaml:4:64: "10.0.0.1" is no address with the length of its network, such as 10.0.0.1/24
                x.yaml:5:64: lan has 10.0.0.1 already
                x.yaml:5:90: 10.0.1.1 is in no network of b
                x.yaml:5:100: "x" is no address
                x.yaml:6:12: there are two hosts or segments b
                x.yaml:6:45: b is no router, so it has no bgp
                x.yaml:6:81: "any" is no address with the length of its network, such as 10.0.0.1/24
                x.yaml: there is no host with role control"#]],
        );
    }

    #[test]
    fn a_file_that_is_missing_names_what_is_built_in() {
        let error = Topology::load("no/such/file").unwrap_err().to_string();
        assert!(error.contains("no/such/file: ") && error.contains("three-nodes"), "{error}");
    }
}
