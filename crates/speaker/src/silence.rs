//! Why nobody announces a Service, in words for people and for programs.

use std::fmt;

use kit::Duration;

use crate::verdict::{Gate, Protocol, Refusal};

/// How long a fault may take to heal by itself before anybody is told: objects that belong together are written one after
/// the other, and an address changes hands.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where pods have to start: backends at first and in a roll-out, a speaker that is replaced.
const PATIENCE_WITH_PODS: Duration = Duration::from_secs(20);
/// Nodes that are named; the rest is counted.
const NODES_NAMED_MAX: usize = 3;
/// Different refusals that are told.
const REFUSALS_TOLD_MAX: usize = 3;

/// Why nobody announces a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// This is why on every node: what stopped a node, and which ones, the furthest first. A refusal that is not about nodes
    /// names none.
    Refused(Vec<(Refusal, Vec<String>)>),
    /// The cluster has no nodes.
    NoNodes,
    /// The configuration is not in force, for this reason if it is known.
    InvalidConfiguration(Option<String>),
    /// These nodes could, but no speaker runs there.
    NoSpeaker(Vec<String>),
    /// These nodes could, and have a speaker, which does not.
    Idle(Vec<String>),
}

/// Where one node stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    position: usize,
    refusal: Refusal,
}

impl Stop {
    pub(crate) fn new(protocol: Protocol, refusal: Refusal) -> Stop {
        let gate = refusal.gate();
        let position = protocol.gates().iter().position(|other| *other == gate).unwrap_or_default();
        Stop { position, refusal }
    }

    /// Whether both protocols stopped before the first gate that looks at the node.
    pub(crate) fn is_everywhere(&self) -> bool {
        matches!(self.refusal.gate(), Gate::Type | Gate::Class | Gate::Address | Gate::Pool | Gate::Advertisement)
    }

    /// Of two that stopped at the same gate, the one that has an advertisement tells more.
    pub(crate) fn is_further_than(&self, other: &Stop) -> bool {
        let rank = |stop: &Stop| (stop.position, !matches!(stop.refusal, Refusal::NoAdvertisement(_)));
        rank(self) > rank(other)
    }
}

impl Silence {
    /// What to say of nodes that all stopped somewhere.
    pub(crate) fn of(mut stops: Vec<(Stop, String)>) -> Silence {
        stops.sort_by(|(one, one_name), (other, other_name)| {
            other.position.cmp(&one.position).then_with(|| one_name.cmp(other_name))
        });
        let mut told: Vec<(Refusal, Vec<String>)> = Vec::new();
        for (Stop { refusal, .. }, node) in stops {
            let node = is_about_a_node(refusal.gate()).then_some(node);
            match told.iter_mut().find(|(other, _)| *other == refusal) {
                Some((_, nodes)) => nodes.extend(node),
                None => told.push((refusal, node.into_iter().collect())),
            }
        }
        match told.first() {
            None | Some((Refusal::NodeUnknown, _)) => Silence::NoNodes,
            Some(_) => Silence::Refused(told),
        }
    }

    /// Whether another configuration would help.
    pub(crate) fn is_about_configuration(&self) -> bool {
        let Silence::Refused(told) = self else { return false };
        told.iter().any(|(refusal, _)| {
            matches!(
                refusal.gate(),
                Gate::Pool
                    | Gate::Advertisement
                    | Gate::Sharing
                    | Gate::NodeSelected
                    | Gate::LocalPreference
                    | Gate::Peer
            )
        })
    }

    fn refusal(&self) -> Option<&Refusal> {
        match self {
            Silence::Refused(told) => told.first().map(|(refusal, _)| refusal),
            _ => None,
        }
    }

    /// The word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Silence::Refused(_) => self.refusal().map_or("NoNodes", Refusal::condition_reason),
            Silence::NoNodes => "NoNodes",
            Silence::InvalidConfiguration(_) => "InvalidConfiguration",
            Silence::NoSpeaker(_) => "NoSpeaker",
            Silence::Idle(_) => "SpeakerIdle",
        }
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Silence::Refused(_) => self.refusal().and_then(Refusal::hint),
            Silence::NoNodes => Some("add a node"),
            Silence::InvalidConfiguration(_) => Some("correct what the ConfigurationStates of MetalLB complain about"),
            Silence::NoSpeaker(_) => {
                Some("look at the DaemonSet of the speakers, its events and its nodeSelector, or select other nodes")
            }
            Silence::Idle(_) => Some(
                "look at the events of the Service and the log of that speaker: an interface may be missing there, or the \
                 node drained",
            ),
        }
    }

    /// Whether it looks the same where a speaker announces it already, and has not come to write so.
    pub fn may_be_unwritten(&self) -> bool {
        matches!(self, Silence::Idle(_))
    }

    /// How long it may take to heal by itself.
    pub fn patience(&self) -> Duration {
        match self {
            Silence::NoSpeaker(_) | Silence::Idle(_) => PATIENCE_WITH_PODS,
            Silence::Refused(_) => match self.refusal() {
                Some(Refusal::NoEndpoints | Refusal::NoLocalEndpoints) => PATIENCE_WITH_PODS,
                _ => PATIENCE,
            },
            Silence::NoNodes | Silence::InvalidConfiguration(_) => PATIENCE,
        }
    }
}

const fn is_about_a_node(gate: Gate) -> bool {
    match gate {
        Gate::Type
        | Gate::Class
        | Gate::Address
        | Gate::Pool
        | Gate::Advertisement
        | Gate::Endpoints
        | Gate::Sharing => false,
        Gate::NodeSelected
        | Gate::LocalPreference
        | Gate::NodeNetwork
        | Gate::NodeLabel
        | Gate::LocalEndpoints
        | Gate::NodeReady
        | Gate::Election
        | Gate::Interface
        | Gate::Peer => true,
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::Refused(told) => {
                for (number, (refusal, nodes)) in told.iter().take(REFUSALS_TOLD_MAX).enumerate() {
                    if number > 0 {
                        f.write_str("; ")?;
                    }
                    if !nodes.is_empty() {
                        write!(f, "{}: ", Names(nodes))?;
                    }
                    refusal.fmt(f)?;
                }
                match told.len().saturating_sub(REFUSALS_TOLD_MAX) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more reasons on other nodes"),
                }
            }
            Silence::NoNodes => f.write_str("the cluster has no nodes"),
            Silence::InvalidConfiguration(None) => f.write_str("no configuration is in force"),
            Silence::InvalidConfiguration(Some(why)) => f.write_str(why),
            Silence::NoSpeaker(nodes) => write!(f, "{} could announce it, but no speaker runs there", Names(nodes)),
            Silence::Idle(nodes) => write!(f, "{} could announce it, but the speaker there does not", Names(nodes)),
        }
    }
}

/// `node-1, node-2, node-3 and 5 more`.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.0.iter().take(NODES_NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.0.len().saturating_sub(NODES_NAMED_MAX) {
            0 => f.write_str(&named),
            more => write!(f, "{named} and {more} more"),
        }
    }
}
