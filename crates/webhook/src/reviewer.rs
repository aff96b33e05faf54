//! Judges changes together with all other objects, and puts the judgement into an AdmissionReview.
//!
//! The rules are those of `config`. What is known here beside them is time: what the API server was just told to let pass
//! will be seen as an object a moment later, and counts until then as if it had been (R17: objects are watched, not read
//! anew for each question).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use api::{Object, ObjectRef, Severity};
use config::{Change, Finding, Objects, review};
use kit::{Duration, Instant};
use serde_json::{Value, json};

use crate::question::{Question, Run, Wish};

/// How long a change that was allowed counts as made without having been seen. It may have failed for another reason.
pub const EXPECTED_TIME: Duration = Duration::from_secs(2);
/// Changes that were allowed and not seen yet. Beyond that many, the watch alone has to do.
pub const EXPECTED_MAX: usize = 256;
/// Findings that a refusal, or the warnings, tell; the rest is counted.
const FINDINGS_TOLD: usize = 10;
/// The longest warning in bytes. The API server cuts them off when there are many.
const WARNING_BYTES_MAX: usize = 1024;

/// Everything that changes are judged by.
#[derive(Debug)]
pub struct Reviewer {
    namespace: String,
    objects: Objects,
    /// Changes that were allowed and not seen yet, with the end of our patience.
    expected: BTreeMap<ObjectRef, (Instant, Change)>,
}

/// What the API server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    uid: String,
    /// Why the change is refused; empty if it is allowed.
    refusal: String,
    warnings: Vec<String>,
}

impl Reviewer {
    /// Judges for the MetalLB of this namespace. Knows no objects yet.
    pub fn new(namespace: String) -> Reviewer {
        Reviewer { namespace, objects: Objects::new(), expected: BTreeMap::new() }
    }

    /// An object is there, or has changed.
    pub fn applied(&mut self, object: Object) {
        self.expected.remove(&object.reference());
        self.objects.insert(object);
    }

    /// An object is gone.
    pub fn deleted(&mut self, reference: &ObjectRef) {
        self.expected.remove(reference);
        self.objects.remove(reference);
    }

    /// Judges what somebody wants to do.
    ///
    /// A refusal may be about objects that are gone and still known for a moment. Whoever asks should do so again, a little
    /// later, before passing it on.
    pub fn answer(&mut self, now: Instant, question: &Question) -> Answer {
        let uid = question.uid.clone();
        let change = match &question.wish {
            Wish::Change(change) => change,
            Wish::Nothing => return Answer { uid, refusal: String::new(), warnings: Vec::new() },
            Wish::Unreadable(problems) => return Answer { uid, refusal: problems.join("\n"), warnings: Vec::new() },
        };
        self.expected.retain(|_, (until, _)| *until > now);
        let review = if self.expected.is_empty() {
            review(&self.objects, change, &self.namespace)
        } else {
            review(&self.with_expected(), change, &self.namespace)
        };
        if review.refusals.is_empty() && question.run == Run::Real {
            self.expect(now, change);
        }
        Answer { uid, refusal: refusal(&review.refusals), warnings: warnings(&review.warnings) }
    }

    fn with_expected(&self) -> Objects {
        let mut objects = self.objects.clone();
        for (_, change) in self.expected.values() {
            match change {
                Change::Create(object) | Change::Update(object) => drop(objects.insert((**object).clone())),
                Change::Delete(reference) => drop(objects.remove(reference)),
            }
        }
        objects
    }

    fn expect(&mut self, now: Instant, change: &Change) {
        let reference = match change {
            Change::Create(object) | Change::Update(object) => object.reference(),
            Change::Delete(reference) => reference.clone(),
        };
        if self.expected.len() < EXPECTED_MAX || self.expected.contains_key(&reference) {
            self.expected.insert(reference, (now + EXPECTED_TIME, change.clone()));
        }
    }
}

impl Answer {
    /// Why the change is refused; none if it is allowed.
    pub fn refusal(&self) -> Option<&str> {
        Some(self.refusal.as_str()).filter(|refusal| !refusal.is_empty())
    }

    /// The body of the answer.
    pub fn to_json(&self) -> String {
        let mut response = json!({"uid": self.uid, "allowed": self.refusal.is_empty()});
        if let Some(fields) = response.as_object_mut() {
            if let Some(message) = self.refusal() {
                // As clients know it from the Go implementation.
                let status = json!({"code": 403, "reason": "Forbidden", "message": message});
                fields.insert("status".to_owned(), status);
            }
            if !self.warnings.is_empty() {
                fields.insert("warnings".to_owned(), Value::from(self.warnings.clone()));
            }
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string()
    }
}

/// Lines for a terminal.
fn refusal(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings.iter().take(FINDINGS_TOLD) {
        if !text.is_empty() {
            text.push('\n');
        }
        // Writing to a string does not fail.
        let _written = write!(text, "{finding}");
        if !finding.pointer.is_empty() {
            let _written = write!(text, " (at {})", finding.pointer);
        }
        if let Some(hint) = &finding.hint {
            let _written = write!(text, "\nhint: {hint}");
        }
    }
    if let Some(more) = findings.len().checked_sub(FINDINGS_TOLD).filter(|more| *more > 0) {
        let _written = write!(text, "\nand {more} more");
    }
    text
}

/// One line each: they travel in headers. That a pool has no advertisement yet is no news to whoever applies both at once.
fn warnings(findings: &[Finding]) -> Vec<String> {
    let is_told = |finding: &&Finding| !finding.transient || finding.severity == Severity::Error;
    let findings: Vec<&Finding> = findings.iter().filter(is_told).collect();
    let line = |finding: &&Finding| {
        let hint = finding.hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
        let text = format!("{finding}{hint}").replace(char::is_control, " ");
        let end = text.floor_char_boundary(WARNING_BYTES_MAX);
        text.get(..end).unwrap_or_default().to_owned()
    };
    let mut lines: Vec<String> = findings.iter().take(FINDINGS_TOLD).map(line).collect();
    if let Some(more) = findings.len().checked_sub(FINDINGS_TOLD).filter(|more| *more > 0) {
        lines.push(format!("and {more} more warnings"));
    }
    lines
}
