//! What a process reports of itself in status objects: the book of them, driven.

use api::{Component, ConfigurationVerdict, Kind, Object, ObjectRef, Report};
use kit::{Instant, Outbox};
use netio::clock::Clock;
use report::{Book, Input};
use source::{Owner, Writer};

/// Where reports are where nothing says what the namespace of MetalLB is: beside manifests.
const USUAL_NAMESPACE: &str = "metallb-system";

/// The status objects of this process.
pub(crate) struct Reports {
    book: Book,
    component: Component,
    writer: Writer,
    out: Outbox<api::Write>,
}

impl Reports {
    /// Reports of this part of MetalLB. The configuration was not looked at yet.
    pub(crate) fn new(component: Component, namespace: Option<&str>, writer: Writer) -> Self {
        let node = match &component {
            Component::Speaker(node) => Some(node.clone()),
            Component::Controller => None,
        };
        let book = Book::new(namespace.unwrap_or(USUAL_NAMESPACE).to_owned(), node);
        Reports { book, component, writer, out: Outbox::with_limit(report::OUTPUTS_PER_INPUT) }
    }

    /// The objects to read for this.
    pub(crate) fn kinds(component: &Component) -> Vec<source::Reports> {
        let labelled =
            |kind, key: &str, value: &str| source::Reports { kind, label_selector: format!("{key}={value}") };
        match component {
            Component::Controller => {
                vec![labelled(Kind::ConfigurationState, api::STATUS_COMPONENT, "controller")]
            }
            Component::Speaker(node) => vec![
                // Those of all nodes: a new owner makes room for its own.
                source::Reports { kind: Kind::ServiceL2Status, label_selector: String::new() },
                labelled(Kind::ServiceBGPStatus, api::STATUS_NODE, node),
                labelled(Kind::ConfigurationState, api::STATUS_CONFIGURATION_NODE, node),
            ],
        }
    }

    /// Says what the configuration is worth.
    pub(crate) fn configuration(&mut self, now: Instant, verdict: ConfigurationVerdict) {
        self.tell(now, Input::Say(Report::Configuration { component: self.component.clone(), verdict }));
    }

    /// An object is there or has changed; gives it back if it is no report.
    pub(crate) fn applied(&mut self, now: Instant, object: Object) -> Option<Object> {
        if !is_report(object.kind()) {
            return Some(object);
        }
        self.tell(now, Input::Seen(object));
        None
    }

    /// An object is gone.
    pub(crate) fn deleted(&mut self, now: Instant, reference: &ObjectRef) {
        if is_report(reference.kind) {
            self.tell(now, Input::Gone(reference.clone()));
        }
    }

    /// It is known who owns the reports, or still not.
    pub(crate) fn owned(&mut self, now: Instant, owner: &Owner) {
        match owner {
            Owner::Unknown => {}
            Owner::Nobody => self.tell(now, Input::Owner(String::new())),
            Owner::Pod(pod) => self.tell(now, Input::Owner(pod.uid.clone())),
        }
    }

    /// Another process says it from now on, until the owner is told again.
    pub(crate) fn resign(&mut self, now: Instant) {
        self.out.drain().for_each(drop);
        self.tell(now, Input::Resigned);
    }

    /// Gives the book one input, and has written what it wants.
    pub(crate) fn tell(&mut self, now: Instant, input: Input) {
        self.book.handle(now, input, &mut self.out);
        self.carry_out();
    }

    /// Has written what the book wants, as long as there is room. What there is none for stays in the book, where it takes
    /// less.
    pub(crate) fn carry_out(&mut self) {
        while self.writer.has_room()
            && let Some(write) = self.out.pop()
        {
            self.writer.write(write);
        }
    }

    /// Something is to be written and waits until there is room for it.
    pub(crate) fn is_held_back(&self) -> bool {
        !self.out.is_empty()
    }

    /// When [`Input::Tick`] is due. What is held back waits for room, and not for a time.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.book.next_deadline().filter(|_| self.out.is_empty())
    }

    /// Has the last of it written, at most this long.
    pub(crate) async fn finish(&mut self, clock: &Clock, within: std::time::Duration) {
        let all = async {
            loop {
                self.tell(clock.now(), Input::Tick);
                if self.out.is_empty() && self.next_deadline().is_none_or(|deadline| deadline > clock.now()) {
                    return self.writer.flush(within).await;
                }
                self.writer.room().await;
            }
        };
        // What is left is left to those who come after.
        let _in_time = tokio::time::timeout(within, all).await;
    }
}

fn is_report(kind: Kind) -> bool {
    matches!(kind, Kind::ServiceL2Status | Kind::ServiceBGPStatus | Kind::ConfigurationState)
}
