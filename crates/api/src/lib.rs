//! The objects MetalLB works on, as they are written: the kinds of `metallb.io` and the few Kubernetes kinds it reads.
//!
//! Types here mirror YAML and JSON. They hold what was written, not what is valid: numbers are wide, addresses and
//! durations are text, and `config` is where they are believed. Of the Kubernetes kinds only the fields that MetalLB
//! reads exist (contract section 2), so that ten thousand Services fit in a small process.
//!
//! No client, no I/O, no opinion.

mod annotations;
pub mod core;
mod meta;
mod object;
mod writes;

pub use annotations::*;
pub use meta::{Key, LabelSelector, LabelSelectorRequirement, ObjectMeta};
pub use object::{Kind, Object, ObjectError, ObjectRef, Resource};
pub use writes::{Event, EventType, PoolCounters, Write};
