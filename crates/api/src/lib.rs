//! The objects MetalLB works on, as they are written: the kinds of `metallb.io` and the few Kubernetes kinds it reads.
//!
//! Types here mirror YAML and JSON. They hold what was written, not what is valid: numbers are wide, addresses and
//! durations are text, and `config` is where they are believed. Of the Kubernetes kinds only the fields that MetalLB
//! reads exist (contract section 2), so that ten thousand Services fit in a small process.
//!
//! No client, no I/O, no opinion.

mod advertisement;
mod annotations;
mod bfd;
mod community;
pub mod conversion;
pub mod core;
pub mod crd;
mod document;
mod duration;
pub mod legacy;
mod meta;
mod object;
mod peer;
mod pool;
mod report;
mod schema;
mod status;
mod suggest;
mod writes;

pub use advertisement::{
    BGPAdvertisement, BGPAdvertisementSpec, L2Advertisement, L2AdvertisementSpec, PreferredNodeSelector,
};
pub use annotations::*;
pub use bfd::{BFDProfile, BFDProfileSpec};
pub use community::{Community, CommunityAlias, CommunitySpec};
pub use document::{Document, ReadObject, read};
pub use duration::{GoDuration, GoDurationError};
pub use meta::{Key, KeyText, LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference};
pub use object::{GROUP, Kind, Object, ObjectRef, Resource};
pub use peer::{BGPPeer, BGPPeerSpec, SecretReference, TCPAuthenticationKey, v1beta1};
pub use pool::{IPAddressPool, IPAddressPoolSpec, PoolCounters, ServiceAllocation};
pub use report::{Component, ConfigurationVerdict, Report};
pub use schema::{Severity, Violation, escape};
pub use status::{
    Condition, ConfigurationState, ConfigurationStateStatus, InterfaceInfo, ServiceBGPStatus, ServiceBGPStatusFields,
    ServiceL2Status, ServiceL2StatusFields,
};
pub use suggest::closest;
pub use writes::{Event, EventType, ReportParts, Write};
