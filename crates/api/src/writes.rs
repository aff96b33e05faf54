//! What MetalLB writes back: the same values go to the Kubernetes API or to files beside the manifests.

use crate::core::Ingress;
use crate::{Condition, Key, ObjectRef, PoolCounters, Report};

/// One thing to write. A later write of the same target replaces an earlier one that has not happened yet; events never
/// replace each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The load balancer status of a Service together with the annotation that names its pool
    /// ([`crate::ALLOCATED_FROM_POOL`]); both go through the status subresource (contract 2.1, 3.2 step 13).
    ServiceStatus {
        /// The Service.
        service: Key,
        /// Its uid: a status meant for a Service must never reach its successor of the same name.
        uid: String,
        /// The whole new list.
        ingress: Vec<Ingress>,
        /// The pool its addresses are from; `None` removes the annotation.
        pool: Option<String>,
    },
    /// The condition of a Service that tells why nobody announces it ([`crate::ANNOUNCED`]). The rest of its status stays.
    ServiceCondition {
        /// The Service.
        service: Key,
        /// Its uid: a successor of the same name has other reasons.
        uid: String,
        /// The condition, with an empty time for now; `None` removes it.
        condition: Option<Condition>,
    },
    /// The annotation of a Service that says to which node its address is assigned ([`crate::LAYER2_ASSIGNED_NODE`]).
    AssignedNode {
        /// The Service.
        service: Key,
        /// Its uid: a successor of the same name has another address.
        uid: String,
        /// The node; `None` removes the annotation.
        node: Option<String>,
    },
    /// The counters of a pool (contract 1.1).
    PoolStatus {
        /// The IPAddressPool.
        pool: Key,
        /// The counters.
        status: PoolCounters,
    },
    /// An object of ours that shows what is (contract 1.9): it is made if it is not there.
    Report {
        /// The object.
        object: ObjectRef,
        /// What it has to say.
        report: Report,
        /// What of it is written.
        parts: ReportParts,
    },
    /// Such an object shows what is no more, and goes.
    ReportGone {
        /// The object.
        object: ObjectRef,
        /// Its uid: a successor of the same name stays.
        uid: String,
    },
    /// Something to tell about an object.
    Event(Event),
}

/// What of a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportParts {
    /// The object with its labels and its owner, and its status.
    Whole,
    /// The status: the rest is right.
    Status,
}

/// Something to tell about an object (contract 3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The object.
    pub object: ObjectRef,
    /// Its uid, empty if unknown.
    pub uid: String,
    /// Good news or bad.
    pub type_: EventType,
    /// A word that programs read, such as `IPAllocated`.
    pub reason: &'static str,
    /// A sentence that people read.
    pub message: String,
}

/// Whether an event is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// Things went as they should.
    Normal,
    /// Someone should look.
    Warning,
}

impl EventType {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}
