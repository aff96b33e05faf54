//! Judges one change to a set of objects, as a webhook has to (contract 4.4).
//!
//! The whole set is judged on every change (D23), but a change is refused only for what it makes wrong: an error in one
//! object must not keep people from editing another one, least of all from repairing it.

use std::collections::BTreeSet;

use api::{Kind, Object, ObjectRef};

use crate::finding::{Finding, Report, Severity};
use crate::objects::Objects;
use crate::validate::{Scope, outside, validate};

/// A change that someone asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An object that was not there.
    Create(Box<Object>),
    /// An object that takes the place of the one of its name.
    Update(Box<Object>),
    /// An object that goes.
    Delete(ObjectRef),
}

/// The answer to a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Why the change is refused; empty when it is allowed.
    pub refusals: Vec<Finding>,
    /// What to tell whoever made the change, allowed or not.
    pub warnings: Vec<Finding>,
}

/// Judges a change to the objects. What does not exist yet (a BFD profile, a community, a Secret) does not refuse a
/// change: objects may be created in any order.
pub fn review(objects: &Objects, change: &Change, namespace: &str) -> Review {
    match change {
        // R18: an object elsewhere is not read, whether it is new or changes.
        Change::Create(object) | Change::Update(object) => {
            let mut report = Report::new(object.reference());
            outside(&object.reference().key, namespace, &mut report);
            let refusals = report.into_findings();
            if refusals.is_empty() { review_object(objects, object) } else { Review { refusals, ..Review::default() } }
        }
        Change::Delete(reference) => Review { refusals: review_deletion(objects, reference), ..Review::default() },
    }
}

fn review_object(objects: &Objects, object: &Object) -> Review {
    let reference = object.reference();
    // What is wrong at a place may be worded otherwise afterwards, for instance when one of three pools that overlap is
    // repaired; that makes it no new error.
    let before: BTreeSet<(ObjectRef, String, &str)> = all_findings(objects).into_iter().map(place_of).collect();
    let mut changed = objects.clone();
    changed.insert(object.clone());
    let is_new = |finding: &Finding| finding.object == reference || !before.contains(&place_of(finding.clone()));
    let (errors, warnings): (Vec<Finding>, Vec<Finding>) =
        all_findings(&changed).into_iter().partition(|finding| finding.severity == Severity::Error);
    let (waiting, refusals): (Vec<Finding>, Vec<Finding>) =
        errors.into_iter().filter(is_new).partition(|finding| finding.transient);
    let about_it = warnings.into_iter().chain(waiting).filter(|finding| finding.object == reference);
    Review { refusals, warnings: about_it.collect() }
}

/// Rule 23: a profile that a peer names stays.
fn review_deletion(objects: &Objects, reference: &ObjectRef) -> Vec<Finding> {
    if reference.kind != Kind::BFDProfile {
        return Vec::new();
    }
    let profile = &reference.key;
    let mut users = objects.peers.iter().filter(|(key, peer)| {
        key.namespace == profile.namespace && peer.spec.bfd_profile.as_ref() == Some(&profile.name)
    });
    let Some((user, _)) = users.next() else { return Vec::new() };
    let mut report = Report::new(reference.clone());
    let message = format!("failed to delete BFDProfile {:?}: BGPPeer {:?} uses it", profile.name, user.name);
    report.error("bfd-profile-in-use", "", message).hint("take bfdProfile out of the BGPPeer first");
    report.into_findings()
}

fn place_of(finding: Finding) -> (ObjectRef, String, &'static str) {
    (finding.object, finding.pointer, finding.code)
}

fn all_findings(objects: &Objects) -> Vec<Finding> {
    match validate(objects, Scope::Everything, None) {
        Ok(accepted) => accepted.warnings,
        Err(refused) => refused.findings,
    }
}
