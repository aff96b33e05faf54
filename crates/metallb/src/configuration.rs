//! The configuration in force: objects in as they change, a validated [`Config`] out when it is another one.
//!
//! An invalid set of objects never replaces the one in force (contract 4.1).

use std::sync::Arc;

use api::{ConfigurationVerdict, Object, ObjectRef};
use config::{Config, Finding, Objects, Scope, Severity};

/// Collects objects and validates them, all at once, when they have changed.
#[derive(Debug)]
pub(crate) struct Configuration {
    objects: Objects,
    /// The node a speaker runs on; none for the controller.
    node: Option<String>,
    /// The namespace that the objects must be in; none where nobody cares.
    namespace: Option<String>,
    /// Something changed since the last validation.
    is_dirty: bool,
    in_force: Option<Arc<Config>>,
    /// What the last validation found.
    found: Vec<Finding>,
    verdict: ConfigurationVerdict,
}

/// The longest text of a condition, in bytes (Kubernetes meta/v1).
const CONDITION_TEXT_MAX: usize = 32_768;

/// What came of looking at the objects again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They say what is in force already; perhaps they did not a moment ago (D2).
    Same(Arc<Config>),
    /// This is in force from now on.
    Changed {
        /// In place of this.
        before: Option<Arc<Config>>,
        /// From now on.
        config: Arc<Config>,
    },
    /// They are invalid; what was in force stays so. The text is that of contract 1.9's condition.
    Refused(String),
}

impl Configuration {
    /// The configuration of a controller: pools, communities and namespaces count.
    pub(crate) fn of_controller(namespace: Option<String>) -> Self {
        let (objects, found, verdict) = (Objects::new(), Vec::new(), ConfigurationVerdict::Unknown);
        Configuration { objects, node: None, namespace, is_dirty: true, in_force: None, found, verdict }
    }

    /// The configuration of the speaker on a node.
    pub(crate) fn of_speaker(node: String, namespace: Option<String>) -> Self {
        Configuration { node: Some(node), ..Configuration::of_controller(namespace) }
    }

    /// An object is there, or has changed.
    pub(crate) fn apply(&mut self, object: Object) {
        if self.scope().reads(object.kind()) {
            self.is_dirty |= self.objects.insert(object);
        }
    }

    /// An object is gone.
    pub(crate) fn delete(&mut self, reference: &ObjectRef) {
        self.is_dirty |= self.objects.remove(reference);
    }

    /// What the last validation came to.
    pub(crate) fn verdict(&self) -> ConfigurationVerdict {
        self.verdict.clone()
    }

    /// Validates what has changed since the last time; `None` when nothing has.
    pub(crate) fn validate(&mut self) -> Option<Verdict> {
        if !std::mem::take(&mut self.is_dirty) {
            return None;
        }
        match config::validate(&self.objects, self.scope(), self.namespace.as_deref()) {
            Ok(accepted) => {
                for finding in self.news(&accepted.warnings) {
                    tracing::warn!(
                        object = %finding.object,
                        path = finding.pointer,
                        code = finding.code,
                        warning = finding.message,
                        hint = finding.hint,
                        "a part of the configuration should be changed"
                    );
                }
                let warnings: Vec<String> = accepted.warnings.iter().map(ToString::to_string).collect();
                self.verdict = ConfigurationVerdict::Valid { warnings: condition_text(&warnings.join("\n")) };
                if let Some(in_force) = self.in_force.as_ref().filter(|in_force| ***in_force == accepted.config) {
                    return Some(Verdict::Same(Arc::clone(in_force)));
                }
                let config = Arc::new(accepted.config);
                let before = self.in_force.replace(Arc::clone(&config));
                Some(Verdict::Changed { before, config })
            }
            Err(refused) => {
                let news = self.news(&refused.findings);
                for finding in news.iter().filter(|finding| finding.severity == Severity::Error) {
                    tracing::error!(
                        op = "setConfig",
                        object = %finding.object,
                        path = finding.pointer,
                        code = finding.code,
                        error = finding.message,
                        hint = finding.hint,
                        "failed to parse the configuration"
                    );
                }
                let text = format!("configuration error: {refused}");
                self.verdict = ConfigurationVerdict::Invalid(condition_text(&text));
                Some(Verdict::Refused(text))
            }
        }
    }

    /// Those that the validation before did not find. Whatever changes about a node has everything validated, which must
    /// not tell everything again.
    fn news(&mut self, findings: &[Finding]) -> Vec<Finding> {
        let before = std::mem::replace(&mut self.found, findings.to_vec());
        findings.iter().filter(|finding| !before.contains(finding)).cloned().collect()
    }

    fn scope(&self) -> Scope<'_> {
        match &self.node {
            Some(node) => Scope::Speaker { node },
            None => Scope::Controller,
        }
    }
}

/// As much of a text as a condition can hold.
fn condition_text(text: &str) -> String {
    let end = text.floor_char_boundary(CONDITION_TEXT_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, addresses: &str) -> Object {
        let mut pool = api::IPAddressPool::default();
        pool.metadata.name = name.to_owned();
        pool.metadata.namespace = "metallb-system".to_owned();
        pool.spec.addresses = vec![addresses.to_owned()];
        Object::IPAddressPool(pool)
    }

    #[test]
    fn an_invalid_set_keeps_what_is_in_force() {
        let mut configuration = Configuration::of_controller(Some("metallb-system".to_owned()));
        configuration.apply(pool("a", "10.0.0.0/24"));
        let Some(Verdict::Changed { config, .. }) = configuration.validate() else { panic!("a valid pool") };
        assert_eq!(config.pools.len(), 1);
        assert_eq!(configuration.validate(), None, "nothing changed");

        configuration.apply(pool("b", "10.0.0.0/25"));
        let Some(Verdict::Refused(text)) = configuration.validate() else { panic!("two pools that overlap") };
        assert_eq!(configuration.verdict(), ConfigurationVerdict::Invalid(text.clone()));
        assert!(text.starts_with("configuration error: "), "{text}");

        let findings = configuration.found.clone();
        assert_eq!(findings.len(), 1);
        configuration.apply(pool("c", "192.0.2.0/24"));
        assert!(matches!(configuration.validate(), Some(Verdict::Refused(_))));
        assert_eq!(configuration.news(&findings), [], "it was told");
        configuration.delete(&pool("c", "").reference());

        // D2: back to what is in force counts as valid.
        configuration.delete(&pool("b", "").reference());
        assert_eq!(configuration.validate(), Some(Verdict::Same(config)));
    }
}
