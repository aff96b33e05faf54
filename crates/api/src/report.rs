//! What the objects that MetalLB writes whole say: ServiceL2Status, ServiceBGPStatus and ConfigurationState (contract 1.9).

use std::collections::BTreeMap;

use crate::{
    Condition, ConfigurationState, ConfigurationStateStatus, InterfaceInfo, Key, Kind, Object, ObjectRef,
    STATUS_COMPONENT, STATUS_CONFIGURATION_NODE, STATUS_NODE, STATUS_SERVICE_NAME, STATUS_SERVICE_NAMESPACE,
    ServiceBGPStatusFields, ServiceL2StatusFields,
};

/// The longest name of an object.
const NAME_MAX: usize = 253;

/// What one of these objects says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A node answers for a Service on the local segment.
    Layer2 {
        /// The node.
        node: String,
        /// The Service.
        service: Key,
        /// The interfaces it is restricted to, in order; none: all.
        interfaces: Vec<String>,
    },
    /// A node announces a Service to routers.
    Bgp {
        /// The node.
        node: String,
        /// The Service.
        service: Key,
        /// Names of the BGPPeers, in order.
        peers: Vec<String>,
    },
    /// What a part of MetalLB makes of the configuration.
    Configuration {
        /// Which part.
        component: Component,
        /// What it says.
        verdict: ConfigurationVerdict,
    },
}

/// The parts of MetalLB that judge the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// The controller.
    Controller,
    /// The speaker of this node.
    Speaker(String),
}

/// What a part makes of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigurationVerdict {
    /// It has not looked yet.
    Unknown,
    /// It is in force.
    Valid {
        /// What of it cannot be honoured; usually empty.
        warnings: String,
    },
    /// The one before stays in force, and this is why.
    Invalid(String),
}

impl Component {
    /// The type of its condition.
    pub const fn condition(&self) -> &'static str {
        match self {
            Component::Controller => "poolReconcilerValid",
            Component::Speaker(_) => "configReconcilerValid",
        }
    }

    /// The owner of the fields in its status.
    pub const fn field_manager(&self) -> &'static str {
        match self {
            Component::Controller => "poolReconciler",
            Component::Speaker(_) => "configReconciler",
        }
    }

    /// The name of its ConfigurationState.
    pub fn object_name(&self) -> String {
        match self {
            Component::Controller => "controller".to_owned(),
            Component::Speaker(node) => format!("speaker-{node}"),
        }
    }
}

impl Report {
    /// The kind of object that says it.
    pub const fn kind(&self) -> Kind {
        match self {
            Report::Layer2 { .. } => Kind::ServiceL2Status,
            Report::Bgp { .. } => Kind::ServiceBGPStatus,
            Report::Configuration { .. } => Kind::ConfigurationState,
        }
    }

    /// The object that says it, in the namespace of MetalLB.
    ///
    /// A ServiceL2Status is named after its Service alone, so that there is never more than one: a new owner writes it
    /// when the old one's is gone. Neither namespaces nor names of Services have dots, so names never meet.
    pub fn object(&self, namespace: &str) -> ObjectRef {
        let name = match self {
            Report::Layer2 { service, .. } => format!("l2-{}.{}", service.namespace, service.name),
            Report::Bgp { node, service, .. } => format!("bgp-{}.{}.{node}", service.namespace, service.name),
            Report::Configuration { component, .. } => component.object_name(),
        };
        ObjectRef { kind: self.kind(), key: Key::new(namespace, shortened(name)) }
    }

    /// The Service it is about, if it is about one.
    pub const fn service(&self) -> Option<&Key> {
        match self {
            Report::Layer2 { service, .. } | Report::Bgp { service, .. } => Some(service),
            Report::Configuration { .. } => None,
        }
    }

    /// The node it is about, if it is about one.
    pub fn node(&self) -> Option<&str> {
        match self {
            Report::Layer2 { node, .. } | Report::Bgp { node, .. } => Some(node),
            Report::Configuration { component: Component::Speaker(node), .. } => Some(node),
            Report::Configuration { component: Component::Controller, .. } => None,
        }
    }

    /// The labels of the object, by which others look it up.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let pairs: Vec<(&str, &str)> = match self {
            Report::Layer2 { node, service, .. } | Report::Bgp { node, service, .. } => vec![
                (STATUS_NODE, node),
                (STATUS_SERVICE_NAME, &service.name),
                (STATUS_SERVICE_NAMESPACE, &service.namespace),
            ],
            Report::Configuration { component: Component::Controller, .. } => vec![(STATUS_COMPONENT, "controller")],
            Report::Configuration { component: Component::Speaker(node), .. } => {
                vec![(STATUS_COMPONENT, "speaker"), (STATUS_CONFIGURATION_NODE, node)]
            }
        };
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Its status as JSON. `now` is the time of a condition that is new with it.
    pub fn status(&self, now: &str) -> serde_json::Value {
        let text = |text: &str| Some(text.to_owned());
        match self {
            Report::Layer2 { node, service, interfaces } => serde_json::json!(ServiceL2StatusFields {
                node: text(node),
                service_name: text(&service.name),
                service_namespace: text(&service.namespace),
                interfaces: interfaces.iter().map(|name| InterfaceInfo { name: text(name) }).collect(),
            }),
            Report::Bgp { node, service, peers } => serde_json::json!(ServiceBGPStatusFields {
                node: text(node),
                service_name: text(&service.name),
                service_namespace: text(&service.namespace),
                peers: peers.clone(),
            }),
            Report::Configuration { component, verdict } => serde_json::json!(configuration(component, verdict, now)),
        }
    }

    /// What an object says, if it says it in the form that is written here.
    pub fn read(object: &Object) -> Option<Report> {
        match object {
            Object::ServiceL2Status(object) => {
                let status = &object.status;
                Some(Report::Layer2 {
                    node: status.node.clone()?,
                    service: Key::new(status.service_namespace.clone()?, status.service_name.clone()?),
                    interfaces: status.interfaces.iter().map(|it| it.name.clone()).collect::<Option<_>>()?,
                })
            }
            Object::ServiceBGPStatus(object) => {
                let status = &object.status;
                Some(Report::Bgp {
                    node: status.node.clone()?,
                    service: Key::new(status.service_namespace.clone()?, status.service_name.clone()?),
                    peers: status.peers.clone(),
                })
            }
            Object::ConfigurationState(object) => read_configuration(object),
            _ => None,
        }
    }
}

/// The status of a ConfigurationState (contract 1.9): one condition, or none before anything was looked at.
fn configuration(component: &Component, verdict: &ConfigurationVerdict, now: &str) -> ConfigurationStateStatus {
    let (result, status, reason, message) = match verdict {
        ConfigurationVerdict::Unknown => {
            return ConfigurationStateStatus { result: Some("Unknown".into()), ..ConfigurationStateStatus::default() };
        }
        ConfigurationVerdict::Valid { warnings } => ("Valid", "True", "Reconciled", warnings.as_str()),
        ConfigurationVerdict::Invalid(message) => ("Invalid", "False", "ConfigurationError", message.as_str()),
    };
    ConfigurationStateStatus {
        result: Some(result.to_owned()),
        error_summary: matches!(verdict, ConfigurationVerdict::Invalid(_)).then(|| message.to_owned()),
        conditions: vec![Condition {
            type_: component.condition().to_owned(),
            status: status.to_owned(),
            observed_generation: None,
            last_transition_time: now.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }],
    }
}

/// What a ConfigurationState says; nothing if any of its fields is not as it would be written for that.
fn read_configuration(object: &ConfigurationState) -> Option<Report> {
    let component = match object.metadata.labels.get(STATUS_COMPONENT)?.as_str() {
        "controller" => Component::Controller,
        "speaker" => Component::Speaker(object.metadata.labels.get(STATUS_CONFIGURATION_NODE)?.clone()),
        _ => return None,
    };
    let time = object.status.conditions.first().map(|condition| condition.last_transition_time.as_str());
    let verdict = match object.status.result.as_deref()? {
        "Unknown" => ConfigurationVerdict::Unknown,
        "Valid" => ConfigurationVerdict::Valid { warnings: object.status.conditions.first()?.message.clone() },
        "Invalid" => ConfigurationVerdict::Invalid(object.status.error_summary.clone()?),
        _ => return None,
    };
    let as_written = configuration(&component, &verdict, time.unwrap_or_default());
    (as_written == object.status).then_some(Report::Configuration { component, verdict })
}

/// A name that is too long keeps its beginning and gets a checksum.
fn shortened(name: String) -> String {
    if name.len() <= NAME_MAX {
        return name;
    }
    // FNV-1a: nobody gains anything from two names that meet.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let beginning: String = name.chars().take(NAME_MAX.saturating_sub(17)).collect();
    format!("{}-{hash:016x}", beginning.trim_end_matches(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectMeta;

    fn all() -> Vec<Report> {
        let (node, service) = ("n1".to_owned(), Key::new("shop", "web"));
        let configuration = |component: Component, verdict| Report::Configuration { component, verdict };
        let speaker = || Component::Speaker("n1".into());
        vec![
            Report::Layer2 { node: node.clone(), service: service.clone(), interfaces: vec![] },
            Report::Layer2 { node: node.clone(), service: service.clone(), interfaces: vec!["a".into(), "b".into()] },
            Report::Bgp { node, service, peers: vec!["r1".into(), "r2".into()] },
            configuration(Component::Controller, ConfigurationVerdict::Unknown),
            configuration(Component::Controller, ConfigurationVerdict::Valid { warnings: String::new() }),
            configuration(speaker(), ConfigurationVerdict::Valid { warnings: "bgpextras".into() }),
            configuration(speaker(), ConfigurationVerdict::Invalid("configuration error: no".into())),
        ]
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for report in all() {
            let value = serde_json::json!({
                "metadata": ObjectMeta { labels: report.labels(), ..ObjectMeta::default() },
                "status": report.status("2026-01-01T00:00:00Z"),
            });
            let object = Object::from_value(report.kind(), value).unwrap();
            assert_eq!(Report::read(&object), Some(report));
        }
    }

    #[test]
    fn names_are_those_of_the_contract_and_never_meet() {
        let names: Vec<_> = all().iter().map(|report| report.object("m").key.name).collect();
        assert_eq!(
            names,
            ["l2-shop.web", "l2-shop.web", "bgp-shop.web.n1", "controller", "controller", "speaker-n1", "speaker-n1"]
        );
        let long = |last: char| Report::Bgp {
            node: format!("{}{last}", "n".repeat(250)),
            service: Key::new("shop", "web"),
            peers: vec![],
        };
        let (one, other) = (long('a').object("m").key.name, long('b').object("m").key.name);
        assert!(one != other && one.len() <= NAME_MAX, "{one} {other}");
    }

    #[test]
    fn a_state_that_says_more_is_not_ours() {
        let report = &all()[5];
        let mut status = report.status("2026-01-01T00:00:00Z");
        status["errorSummary"] = serde_json::json!("something");
        let value = serde_json::json!({
            "metadata": ObjectMeta { labels: report.labels(), ..ObjectMeta::default() }, "status": status,
        });
        assert_eq!(Report::read(&Object::from_value(report.kind(), value).unwrap()), None);
    }
}
