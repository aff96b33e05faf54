//! The configuration in force in one process, as the real program keeps it: objects in as they are told, a validated
//! [`Config`] out when it is another one. An invalid set never replaces the one in force (contract 4.1).

use std::sync::Arc;

use api::{Object, ObjectRef};
use config::{Config, Objects, Scope};

use crate::sabotage::Sabotage;

/// The namespace of MetalLB.
pub(crate) const NAMESPACE: &str = "metallb-system";

/// For whom the configuration is.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    Controller,
    Speaker(String),
    /// The controller, where it looks at all nodes.
    Overview,
}

impl Reader {
    pub(crate) fn scope(&self) -> Scope<'_> {
        match self {
            Reader::Controller => Scope::Controller,
            Reader::Overview => Scope::Everything,
            Reader::Speaker(node) => Scope::Speaker { node },
        }
    }
}

/// What a process knows of the configuration.
#[derive(Debug)]
pub(crate) struct Configuration {
    reader: Reader,
    objects: Objects,
    is_dirty: bool,
    in_force: Option<Arc<Config>>,
    sabotage: Option<Sabotage>,
    was_refused: bool,
}

/// What came of looking at the objects again.
#[derive(Debug)]
pub(crate) enum Verdict {
    Same(Arc<Config>),
    Changed(Arc<Config>),
    Refused,
}

impl Configuration {
    pub(crate) fn new(reader: Reader, sabotage: Option<Sabotage>) -> Self {
        let (objects, in_force) = (Objects::new(), None);
        Configuration { reader, objects, is_dirty: true, in_force, sabotage, was_refused: false }
    }

    pub(crate) fn in_force(&self) -> Option<&Arc<Config>> {
        self.in_force.as_ref()
    }

    pub(crate) fn apply(&mut self, object: &Object) {
        if self.reader.scope().reads(object.kind()) {
            self.is_dirty |= self.objects.insert(object.clone());
        }
    }

    pub(crate) fn delete(&mut self, reference: &ObjectRef) {
        self.is_dirty |= self.objects.remove(reference);
    }

    /// Validates what has changed since the last time; `None` when nothing has.
    pub(crate) fn validate(&mut self) -> Option<Verdict> {
        if !std::mem::take(&mut self.is_dirty) {
            return None;
        }
        let accepted = config::validate(&self.objects, self.reader.scope(), Some(NAMESPACE));
        self.was_refused |= accepted.is_err();
        let is_stuck = self.was_refused && self.sabotage == Some(Sabotage::StayInvalid);
        let Some(accepted) = accepted.ok().filter(|_| !is_stuck) else { return Some(Verdict::Refused) };
        let accepted = accepted.config;
        if let Some(in_force) = self.in_force.as_ref().filter(|in_force| ***in_force == accepted) {
            return Some(Verdict::Same(Arc::clone(in_force)));
        }
        let config = Arc::new(accepted);
        self.in_force = Some(Arc::clone(&config));
        Some(Verdict::Changed(config))
    }
}
