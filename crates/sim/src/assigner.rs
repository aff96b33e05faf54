//! The part of the controller that assigns addresses to nodes, driven as the real program drives it.
//!
//! Status objects are not simulated: every node counts as one with a speaker.

use api::{Component, ConfigurationState, ConfigurationVerdict, Kind, Object, ObjectMeta, ObjectRef, Report, Write};
use config::Config;
use kit::{Instant, Outbox};
use speaker::{Overview, OverviewInput};

use crate::Sabotage;
use crate::configuration::{Configuration, NAMESPACE, Reader, Verdict};

/// What it reads besides what the controller does.
pub(crate) const KINDS: [Kind; 3] = [Kind::Node, Kind::EndpointSlice, Kind::L2Advertisement];

/// What one turn may want written.
const OUTBOX_LIMIT: usize = 64;

/// The overview of all nodes.
#[derive(Debug)]
pub(crate) struct Assigner {
    overview: Overview,
    configuration: Configuration,
    out: Outbox<Write>,
    sabotage: Option<Sabotage>,
}

impl Assigner {
    pub(crate) fn new(class: Option<&str>, sabotage: Option<Sabotage>) -> Self {
        Assigner {
            overview: Overview::new(class.unwrap_or_default().to_owned()),
            configuration: Configuration::new(Reader::Overview, None),
            out: Outbox::with_limit(OUTBOX_LIMIT),
            sabotage,
        }
    }

    /// The configuration by which it does.
    pub(crate) fn config(&self) -> Option<&Config> {
        self.configuration.in_force().map(AsRef::as_ref)
    }

    /// When something is due; what that is may be far away.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.overview.assign_deadline()
    }

    pub(crate) fn applied(&mut self, object: &Object) {
        self.configuration.apply(object);
        match object {
            Object::Service(service) => self.overview.handle(OverviewInput::ServiceApplied(service)),
            Object::EndpointSlice(slice) => self.overview.handle(OverviewInput::EndpointSliceApplied(slice)),
            Object::Node(node) => {
                self.overview.handle(OverviewInput::NodeApplied(node));
                self.overview.handle(OverviewInput::ReportApplied(&state(&node.metadata.name)));
            }
            _ => {}
        }
    }

    pub(crate) fn deleted(&mut self, reference: &ObjectRef) {
        self.configuration.delete(reference);
        match reference.kind {
            Kind::Service => self.overview.handle(OverviewInput::ServiceDeleted(&reference.key)),
            Kind::EndpointSlice => self.overview.handle(OverviewInput::EndpointSliceDeleted(&reference.key)),
            Kind::Node => self.overview.handle(OverviewInput::NodeDeleted(&reference.key.name)),
            _ => {}
        }
    }

    /// Looks at the configuration, when no other change waits.
    pub(crate) fn validate(&mut self) {
        if let Some(Verdict::Changed(config)) = self.configuration.validate() {
            self.overview.handle(OverviewInput::Configured(config));
        }
    }

    /// What it wants written now.
    pub(crate) fn assign(&mut self, now: Instant) -> Vec<Write> {
        if self.sabotage == Some(Sabotage::NeverSpread) {
            return Vec::new();
        }
        self.overview.begin_assigning();
        // Nobody else asks.
        while self.overview.next_dirty().is_some() {}
        self.overview.assign(now, &mut self.out);
        self.out.drain().collect()
    }
}

/// A speaker of the node says that all is well.
fn state(node: &str) -> Object {
    let verdict = ConfigurationVerdict::Valid { warnings: String::new() };
    let report = Report::Configuration { component: Component::Speaker(node.to_owned()), verdict };
    let key = report.object(NAMESPACE).key;
    let metadata =
        ObjectMeta { name: key.name, namespace: key.namespace, labels: report.labels(), ..ObjectMeta::default() };
    Object::ConfigurationState(ConfigurationState { metadata, ..ConfigurationState::default() })
}
