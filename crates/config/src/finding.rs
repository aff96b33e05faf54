//! What is wrong with a set of objects, in a form that every place can show: the linter, the webhook, a condition, a
//! log.

use std::fmt;

use api::ObjectRef;
pub use api::Severity;

/// One thing that is wrong, where, and what to do about it. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable name of the rule, such as `pool-overlap`.
    pub code: &'static str,
    /// A warning leaves the configuration usable, an error does not.
    pub severity: Severity,
    /// True when nothing has to be edited for it to go away: something that is named does not exist yet. Whoever
    /// judges a single change (a webhook) should let it pass.
    pub transient: bool,
    /// The object to look at.
    pub object: ObjectRef,
    /// JSON pointer (RFC 6901) to the place inside the object; empty for the object as a whole.
    pub pointer: String,
    /// What is wrong. Holds the stable part of contract 4.2, which users search for.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

/// The findings about one object, while its rules run.
#[derive(Debug)]
pub(crate) struct Report {
    object: ObjectRef,
    findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(object: ObjectRef) -> Self {
        Report { object, findings: Vec::new() }
    }

    /// Something that keeps the configuration from being used.
    pub(crate) fn error(
        &mut self,
        code: &'static str,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) -> Last<'_> {
        self.push(Severity::Error, code, pointer.into(), message.into())
    }

    /// Something that is surely not meant as it is written.
    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) -> Last<'_> {
        self.push(Severity::Warning, code, pointer.into(), message.into())
    }

    fn push(&mut self, severity: Severity, code: &'static str, pointer: String, message: String) -> Last<'_> {
        let object = self.object.clone();
        self.findings.push(Finding { code, severity, transient: false, object, pointer, message, hint: None });
        Last(self)
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

/// The finding that was just reported, to say more about it.
pub(crate) struct Last<'a>(&'a mut Report);

impl Last<'_> {
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        if let Some(finding) = self.0.findings.last_mut() {
            finding.hint = Some(hint.into());
        }
        self
    }

    pub(crate) fn transient(self) -> Self {
        if let Some(finding) = self.0.findings.last_mut() {
            finding.transient = true;
        }
        self
    }
}
