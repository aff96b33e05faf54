//! What a Service asks for, read from its fields and annotations (contract 2.1, 2.3).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::Service;
use ipam::{Addresses, Backend, Client, Holder, LabelText, Port, Ports, Protocol, Sharing, Stack};
use kit::Family;

use crate::problem::Cause;

/// What is to become of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// It gets addresses.
    Serve(Ask),
    /// It gets none from us, and this much of its status is to be cleared.
    Nothing(Leftovers),
}

/// What is cleared from the status of a Service that gets no addresses from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// Every address: it is no load balancer, and all load balancers without a class are ours.
    All,
    /// What we gave, by memory or by our annotation: it is no load balancer any more, and no class says whose it was
    /// (D16).
    Ours,
    /// What we gave, by memory, and only if it still shows exactly that: another class serves it now.
    Unchanged,
}

/// What a Service asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Who asks.
    pub(crate) client: Arc<Client>,
    /// The families it needs, or why that cannot be said.
    pub(crate) stack: Result<Stack, Box<Cause>>,
    /// What most Services do not have.
    wishes: Option<Box<Wishes>>,
}

/// What a Service asks for beyond an address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wishes {
    addresses: Result<Option<Addresses>, RequestError>,
    pool: Option<Box<str>>,
    deprecated: Box<[Box<str>]>,
}

impl Ask {
    /// The addresses it wants, or what is wrong with the request.
    pub(crate) fn addresses(&self) -> Result<Option<&Addresses>, &RequestError> {
        self.wishes.as_ref().map_or(Ok(None), |wishes| wishes.addresses.as_ref().map(Option::as_ref))
    }

    /// The pool it wants.
    pub(crate) fn pool(&self) -> Option<&str> {
        self.wishes.as_ref()?.pool.as_deref()
    }

    /// Annotations of the old prefix that it has.
    pub(crate) fn deprecated(&self) -> &[Box<str>] {
        self.wishes.as_ref().map_or(&[], |wishes| &wishes.deprecated)
    }
}

/// What is wrong with requested addresses (contract 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Both the annotation and `spec.loadBalancerIP` are set.
    Both,
    /// A text that is no address, or not a list of them; with the place it stands in.
    NotAnAddress {
        /// The field or annotation.
        place: &'static str,
        /// What it holds.
        text: Box<str>,
    },
    /// More than two addresses, or two of one family.
    TooMany(Box<str>),
}

const ANNOTATION: &str = "metallb.io/loadBalancerIPs";
const FIELD: &str = "spec.loadBalancerIP";

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Both => write!(f, "service can not have both {ANNOTATION} and {FIELD}"),
            RequestError::NotAnAddress { place, text } => write!(f, "invalid {place} {text:?}"),
            RequestError::TooMany(text) => {
                write!(f, "invalid {ANNOTATION} {text:?}: it takes one address, or one of each family")
            }
        }
    }
}

/// The name under which a Service is known.
pub(crate) fn holder(key: &api::Key) -> Holder {
    Holder::new(&key.namespace, &key.name)
}

/// The key of a name.
pub(crate) fn key(holder: &Holder) -> api::Key {
    let (namespace, name) = holder.as_str().split_once('/').unwrap_or(("", holder.as_str()));
    api::Key::new(namespace, name)
}

impl Demand {
    /// Reads a Service, for a controller that serves this load balancer class (contract 2.3).
    pub(crate) fn of(service: &Service, class: Option<&str>) -> Self {
        let is_load_balancer = service.spec.type_.as_deref() == Some("LoadBalancer");
        match (is_load_balancer, class) {
            (true, _) if service.spec.load_balancer_class.as_deref() == class => Demand::Serve(ask(service)),
            (true, _) => Demand::Nothing(Leftovers::Unchanged),
            (false, None) => Demand::Nothing(Leftovers::All),
            (false, Some(_)) => Demand::Nothing(Leftovers::Ours),
        }
    }

    /// The name of the Service, if it was needed to read it.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        match self {
            Demand::Serve(ask) => Some(&ask.client.holder),
            Demand::Nothing(_) => None,
        }
    }

    /// Takes over who asks if that is the same as before, so that there is one copy of it.
    pub(crate) fn share_with(&mut self, old: &Demand) {
        if let (Demand::Serve(new), Demand::Serve(old)) = (self, old)
            && new.client == old.client
        {
            new.client = old.client.clone();
        }
    }
}

fn ask(service: &Service) -> Ask {
    let sharing = service.annotation(api::ALLOW_SHARED_IP).filter(|key| !key.is_empty());
    let wishes = Wishes {
        addresses: requested(service),
        pool: service.annotation(api::ADDRESS_POOL).filter(|pool| !pool.is_empty()).map(Box::from),
        deprecated: api::deprecated_annotations(&service.metadata.annotations).map(Box::from).collect(),
    };
    let has_none = wishes.addresses == Ok(None) && wishes.pool.is_none() && wishes.deprecated.is_empty();
    Ask {
        client: Arc::new(Client {
            holder: Holder::new(&service.metadata.namespace, &service.metadata.name),
            labels: LabelText::new(&service.metadata.labels),
            sharing: sharing.map(|key| Arc::new(Sharing { key: key.into(), backend: backend(service) })),
            ports: ports(service),
        }),
        stack: stack(service).map_err(Box::new),
        wishes: (!has_none).then(|| Box::new(wishes)),
    }
}

/// Contract 3.4: Local shares only with Local of the same selector, and Cluster only with Cluster.
fn backend(service: &Service) -> Backend {
    if service.spec.external_traffic_policy.as_deref() != Some("Local") {
        return Backend::Cluster;
    }
    let pairs: Vec<String> = service.spec.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Backend::Local(pairs.join(",").into())
}

/// A port whose protocol or number no kernel knows takes no part: it can neither serve nor clash.
fn ports(service: &Service) -> Ports {
    let port = |port: &api::core::ServicePort| {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) => return None,
        };
        Some(Port { protocol, number: u16::try_from(port.port).ok()? })
    };
    service.spec.ports.iter().filter_map(port).collect()
}

/// Contract 2.3: the cluster addresses decide the families. A second family is only ever added where they have both (D1).
fn stack(service: &Service) -> Result<Stack, Cause> {
    let spec = &service.spec;
    let listed = || spec.cluster_ips.iter().chain(spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_empty()));
    let texts: Vec<&String> = listed().filter(|text| !text.is_empty()).collect();
    let policy = spec.ip_family_policy.as_deref();
    let shown = || texts.iter().map(|text| text.as_str()).collect::<Vec<_>>().join(", ").into();
    if texts.is_empty() {
        return Err(Cause::NoClusterIp);
    }
    if policy == Some("RequireDualStack") && texts.len() < 2 {
        return Err(Cause::NotEnoughClusterIps(shown()));
    }
    let addresses: Option<Vec<IpAddr>> = texts.iter().map(|text| address(text)).collect();
    let addresses = addresses.and_then(|list| Addresses::from_list(&list));
    let Some(addresses) = addresses else { return Err(Cause::ClusterIpFamilies(shown())) };
    Ok(match addresses.second() {
        None => Stack::Single(Family::of(&addresses.first())),
        Some(_) if policy == Some("PreferDualStack") => {
            let is_v6_first = spec.ip_families.first().is_some_and(|family| family == "IPv6");
            Stack::PreferDual { primary: if is_v6_first { Family::V6 } else { Family::V4 } }
        }
        Some(_) => Stack::Dual,
    })
}

fn requested(service: &Service) -> Result<Option<Addresses>, RequestError> {
    let list = service.annotation(api::LOAD_BALANCER_IPS).filter(|text| !text.is_empty());
    let field = service.spec.load_balancer_ip.as_deref().filter(|text| !text.is_empty());
    let (place, text) = match (list, field) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(RequestError::Both),
        (Some(list), None) => (ANNOTATION, list),
        (None, Some(field)) => (FIELD, field),
    };
    let parts = text.split(',').filter(|_| place == ANNOTATION).chain((place == FIELD).then_some(text));
    let addresses: Option<Vec<IpAddr>> = parts.map(|part| address(part.trim())).collect();
    let addresses = addresses.ok_or_else(|| RequestError::NotAnAddress { place, text: text.into() })?;
    let addresses = Addresses::from_list(&addresses).ok_or_else(|| RequestError::TooMany(text.into()))?;
    Ok(Some(addresses))
}

/// An address as people write it; an IPv4-mapped one counts as IPv4 (contract 3.3).
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn service(change: impl FnOnce(&mut Service)) -> Service {
        let mut service = Service::default();
        service.metadata.namespace = "x".into();
        service.metadata.name = "a".into();
        service.spec.type_ = Some("LoadBalancer".into());
        service.spec.cluster_ips = vec!["10.96.0.1".into()];
        change(&mut service);
        service
    }

    fn check_stack(cluster_ips: &[&str], policy: Option<&str>, families: &[&str], expected: Expect) {
        let service = service(|service| {
            service.spec.cluster_ips = cluster_ips.iter().map(|text| (*text).to_owned()).collect();
            service.spec.ip_family_policy = policy.map(str::to_owned);
            service.spec.ip_families = families.iter().map(|text| (*text).to_owned()).collect();
        });
        expected.assert_eq(&match stack(&service) {
            Ok(stack) => format!("{stack:?}"),
            Err(cause) => format!("{cause}"),
        });
    }

    #[test]
    fn cluster_addresses_decide_the_families() {
        check_stack(&["10.96.0.1"], None, &[], expect!["Single(V4)"]);
        check_stack(&["fd00::1"], Some("SingleStack"), &["IPv6"], expect!["Single(V6)"]);
        check_stack(&["10.96.0.1", "fd00::1"], Some("RequireDualStack"), &[], expect!["Dual"]);
        check_stack(&["10.96.0.1", "fd00::1"], Some("PreferDualStack"), &[], expect!["PreferDual { primary: V4 }"]);
        check_stack(
            &["fd00::1", "10.96.0.1"],
            Some("PreferDualStack"),
            &["IPv6", "IPv4"],
            expect!["PreferDual { primary: V6 }"],
        );
        check_stack(
            &["10.96.0.1"],
            Some("RequireDualStack"),
            &[],
            expect!["it requires dual stack but has not enough cluster IPs: 10.96.0.1"],
        );
        check_stack(
            &["None"],
            None,
            &[],
            expect!["its cluster IPs have to be one address, or one of each family, but are None"],
        );
        check_stack(
            &["10.96.0.1", "10.96.0.2"],
            None,
            &[],
            expect!["its cluster IPs have to be one address, or one of each family, but are 10.96.0.1, 10.96.0.2"],
        );
        check_stack(&[], None, &[], expect!["it has no cluster IP yet, which would tell the family"]);
        check_stack(&[""], None, &[], expect!["it has no cluster IP yet, which would tell the family"]);
    }

    #[test]
    fn d1_prefer_dual_stack_on_a_single_stack_cluster_is_single_stack() {
        check_stack(&["10.96.0.1"], Some("PreferDualStack"), &[], expect!["Single(V4)"]);
    }

    #[test]
    fn the_old_cluster_ip_field_counts_where_the_list_is_absent() {
        let old = service(|service| {
            service.spec.cluster_ips.clear();
            service.spec.cluster_ip = Some("fd00::1".into());
        });
        assert_eq!(stack(&old), Ok(Stack::Single(Family::V6)));
    }

    fn check_request(annotation: Option<&str>, field: Option<&str>, expected: Expect) {
        let service = service(|service| {
            if let Some(text) = annotation {
                service.metadata.annotations.insert(ANNOTATION.into(), text.into());
            }
            service.spec.load_balancer_ip = field.map(str::to_owned);
        });
        expected.assert_eq(&match requested(&service) {
            Ok(Some(addresses)) => addresses.to_string(),
            Ok(None) => "nothing".to_owned(),
            Err(error) => format!("error: {error}"),
        });
    }

    #[test]
    fn requests_by_address() {
        check_request(None, None, expect!["nothing"]);
        check_request(Some(""), Some(""), expect!["nothing"]);
        check_request(Some("10.0.0.1"), None, expect![[r#"["10.0.0.1"]"#]]);
        check_request(None, Some("fc00::1"), expect![[r#"["fc00::1"]"#]]);
        check_request(Some(" fc00::1 , 10.0.0.1 "), None, expect![[r#"["fc00::1" "10.0.0.1"]"#]]);
        check_request(Some("::ffff:10.0.0.1"), None, expect![[r#"["10.0.0.1"]"#]]);
        check_request(
            Some("10.0.0.1"),
            Some("10.0.0.1"),
            expect!["error: service can not have both metallb.io/loadBalancerIPs and spec.loadBalancerIP"],
        );
        check_request(
            Some("10.0.0.1,10.0.0.2"),
            None,
            expect![[
                r#"error: invalid metallb.io/loadBalancerIPs "10.0.0.1,10.0.0.2": it takes one address, or one of each family"#
            ]],
        );
        check_request(
            Some("10.0.0.1,fc00::1,fc00::2"),
            None,
            expect![[
                r#"error: invalid metallb.io/loadBalancerIPs "10.0.0.1,fc00::1,fc00::2": it takes one address, or one of each family"#
            ]],
        );
        check_request(Some("10.0.0.1,"), None, expect![[r#"error: invalid metallb.io/loadBalancerIPs "10.0.0.1,""#]]);
        check_request(Some("web"), None, expect![[r#"error: invalid metallb.io/loadBalancerIPs "web""#]]);
        check_request(
            None,
            Some("10.0.0.1,fc00::1"),
            expect![[r#"error: invalid spec.loadBalancerIP "10.0.0.1,fc00::1""#]],
        );
    }

    #[test]
    fn classes_of_contract_2_3() {
        let with = |type_: &str, class: Option<&str>| {
            service(|service| {
                service.spec.type_ = Some(type_.into());
                service.spec.load_balancer_class = class.map(str::to_owned);
            })
        };
        let is_served = |service: &Service, class| matches!(Demand::of(service, class), Demand::Serve(_));
        assert!(is_served(&with("LoadBalancer", None), None));
        assert!(!is_served(&with("LoadBalancer", Some("other")), None));
        assert!(!is_served(&with("LoadBalancer", None), Some("ours")));
        assert!(is_served(&with("LoadBalancer", Some("ours")), Some("ours")));
        assert!(!is_served(&with("ClusterIP", None), None));
        assert_eq!(Demand::of(&with("ClusterIP", None), None), Demand::Nothing(Leftovers::All));
        assert_eq!(Demand::of(&with("ClusterIP", None), Some("ours")), Demand::Nothing(Leftovers::Ours));
        assert_eq!(Demand::of(&with("LoadBalancer", Some("x")), None), Demand::Nothing(Leftovers::Unchanged));
    }

    #[test]
    fn the_sharing_identity_of_contract_3_4() {
        let sharing = |key: &str, policy: Option<&str>| {
            let service = service(|service| {
                service.metadata.annotations.insert("metallb.io/allow-shared-ip".into(), key.into());
                service.spec.external_traffic_policy = policy.map(str::to_owned);
                service.spec.selector = [("tier", "1"), ("app", "web")].map(|(k, v)| (k.into(), v.into())).into();
            });
            ask(&service).client.sharing.clone()
        };
        assert_eq!(sharing("", None), None);
        assert_eq!(sharing("k", None).unwrap().backend, Backend::Cluster);
        assert_eq!(sharing("k", Some("Cluster")).unwrap().backend, Backend::Cluster);
        assert_eq!(sharing("k", Some("Local")).unwrap().backend, Backend::Local("app=web,tier=1".into()));
    }

    #[test]
    fn ports_without_a_protocol_are_tcp_and_unknown_ones_take_no_part() {
        let port =
            |protocol: Option<&str>, port| api::core::ServicePort { protocol: protocol.map(str::to_owned), port };
        let service = service(|service| {
            service.spec.ports = vec![
                port(None, 80),
                port(Some("UDP"), 53),
                port(Some("SCTP"), 1),
                port(Some("QUIC"), 2),
                port(None, 70_000),
                port(None, -1),
            ];
        });
        let ports: Vec<String> = ports(&service).iter().map(|port| port.to_string()).collect();
        assert_eq!(ports, ["TCP/80", "UDP/53", "SCTP/1"]);
    }
}
