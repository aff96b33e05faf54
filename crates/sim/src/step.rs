//! What can be done to a cluster, one thing at a time, and how that reads.

use std::fmt;

use api::core::Ingress;
use api::{Key, Object, ObjectRef, PoolCounters};
use kit::{Duration, Family};

use crate::cluster::Claim;
use crate::names::{Lan, NodeId, ProcessId, RouterName};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to, and says goodbye.
    Ordered,
    /// It crashes: the kernel closes its sockets.
    Crash,
}

/// Pods that back Services, as EndpointSlices show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It takes traffic.
    Ready,
    /// Nobody has said whether it does, which counts as yes.
    Unknown,
    /// It does not take traffic.
    NotReady,
    /// It is on its way out, but still takes traffic.
    Terminating,
}

/// What may happen to an API object or to a part of the cluster. Steps about something that is not there do nothing, so
/// any of them can be left out of a history.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A user creates or edits an object; its status stays.
    Put(Box<Object>),
    /// A user deletes an object.
    Delete(ObjectRef),
    /// A user deletes an object and creates another one of its name at once.
    Replace(Box<Object>),
    /// A pool gets another name and keeps everything else.
    RenamePool {
        /// The one it has.
        from: String,
        /// The one it gets.
        to: String,
    },
    /// The pods of an app are these from now on.
    Pods {
        /// The namespace.
        namespace: String,
        /// The value of their label `app`.
        app: String,
        /// Where they run.
        pods: Vec<(NodeId, PodState)>,
    },
    /// Something else writes the status of a Service.
    ForeignStatus {
        /// The Service.
        service: Key,
        /// The whole list.
        ingress: Vec<Ingress>,
        /// The annotation that names the pool.
        pool: Option<String>,
    },
    /// Something else writes the counters of a pool.
    ForeignCounters {
        /// The name of the pool.
        pool: String,
        /// The counters.
        counters: PoolCounters,
    },
    /// Something else insists on the status of a Service for a while: it writes it again whenever it is overwritten.
    Rival {
        /// The Service.
        service: Key,
        /// The whole list.
        ingress: Vec<Ingress>,
        /// How long.
        span: Duration,
    },
    /// A process ends, and another one takes its place.
    Restart(ProcessId, Exit),
    /// A process cannot reach the API.
    Cut(ProcessId, Duration),
    /// Nobody can reach the API.
    CutAll(Duration),
    /// A machine joins the cluster.
    Join(NodeId),
    /// A machine leaves the cluster: it is switched off, and its Node is deleted.
    Leave(NodeId),
    /// A machine loses power.
    PowerOff(NodeId),
    /// A machine gets power again.
    PowerOn(NodeId),
    /// A cable is pulled out.
    Unplug(NodeId, Lan, Duration),
    /// A machine loses its default route of a family for a while.
    LoseWay(NodeId, Family, Duration),
    /// An interface vanishes, and comes back.
    Vanish(NodeId, Duration),
    /// An interface gets another Ethernet address.
    SwapMac(NodeId, Lan),
    /// A socket of a responder dies.
    KillSocket(NodeId, Lan, l2::Protocol),
    /// Links lose frames.
    Lose(Duration),
    /// The connections between a node and a router break.
    Break(NodeId, RouterName),
    /// Nothing gets through between a node and a router, and nobody is told.
    Stall(NodeId, RouterName, Duration),
    /// A router loses power for a while.
    RouterDown(RouterName, Duration),
    /// A host asks who has an address.
    Ask(std::net::IpAddr),
    /// Somebody who does not belong to the cluster claims an address for a while.
    Stranger(Claim, Duration),
    /// Memberlist does not get through to or from a node for a while, but everything else does.
    Block(NodeId, Duration),
    /// Everything is mended, and the cluster is left alone until it rests; then it is looked at as a whole.
    Rest,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Put(object) => write!(f, "put {}", Written(object)),
            Step::Delete(reference) => write!(f, "delete {reference}"),
            Step::Replace(object) => write!(f, "replace {}", Written(object)),
            Step::RenamePool { from, to } => write!(f, "rename pool {from} to {to}"),
            Step::Pods { namespace, app, pods } => {
                write!(f, "pods of {namespace}/{app}:")?;
                pods.iter().try_for_each(|(node, state)| write!(f, " {node}:{state:?}"))
            }
            Step::ForeignStatus { service, ingress, pool } => {
                write!(f, "someone else writes the status of {service}: {:?} of {pool:?}", shown(ingress))
            }
            Step::Rival { service, ingress, span } => {
                write!(f, "someone else insists on the status of {service} for {span}: {:?}", shown(ingress))
            }
            Step::ForeignCounters { pool, .. } => write!(f, "someone else writes the counters of {pool}"),
            Step::Restart(process, exit) => write!(f, "restart {process} ({exit:?})"),
            Step::Cut(process, span) => write!(f, "cut {process} off the API for {span}"),
            Step::CutAll(span) => write!(f, "cut everyone off the API for {span}"),
            Step::Join(node) => write!(f, "{node} joins"),
            Step::Leave(node) => write!(f, "{node} leaves"),
            Step::PowerOff(node) => write!(f, "{node} loses power"),
            Step::PowerOn(node) => write!(f, "{node} gets power"),
            Step::Unplug(node, lan, span) => write!(f, "unplug {} of {node} for {span}", lan.interface()),
            Step::LoseWay(node, family, span) => write!(f, "{node} has no default route for {family} for {span}"),
            Step::Vanish(node, span) => write!(f, "eth1 of {node} vanishes for {span}"),
            Step::SwapMac(node, lan) => write!(f, "{} of {node} gets another address", lan.interface()),
            Step::KillSocket(node, lan, protocol) => {
                write!(f, "the {protocol} socket of {node} on {} dies", lan.interface())
            }
            Step::Lose(span) => write!(f, "links lose frames for {span}"),
            Step::Break(node, router) => write!(f, "connections between {node} and {router} break"),
            Step::Stall(node, router, span) => write!(f, "nothing between {node} and {router} for {span}"),
            Step::RouterDown(router, span) => write!(f, "router {router} is down for {span}"),
            Step::Ask(address) => write!(f, "ask who has {address}"),
            Step::Stranger(claim, span) => write!(f, "{claim} for {span}"),
            Step::Block(node, span) => write!(f, "no memberlist to or from {node} for {span}"),
            Step::Rest => f.write_str("rest"),
        }
    }
}

/// The entries of a status.
pub(crate) fn shown(ingress: &[Ingress]) -> Vec<&str> {
    ingress.iter().filter_map(|entry| entry.ip.as_deref().or(entry.hostname.as_deref())).collect()
}

/// An object in one line.
struct Written<'a>(&'a Object);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.reference())?;
        // Everything here can be written as JSON; if not, the name has to do.
        self.0.to_value().map_or(Ok(()), |value| write!(f, " {value}"))
    }
}
