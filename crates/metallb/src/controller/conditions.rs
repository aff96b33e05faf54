//! Tells at each Service that has no address, or that nobody announces, why that is, and to which node its address is
//! assigned: the overview of all nodes and the notices, driven. What the controller itself does not have to know is read
//! beside, and nothing waits for it: where a right for it is missing, Services without an address are told why nevertheless.

use std::sync::Arc;

use anyhow::Result;
use api::{Kind, Object, ObjectRef, Write};
use config::{Objects, Scope};
use controller::Controller;
use kit::{Duration, Instant, Outbox};
use report::{Healing, Notice, Notices, Notification, ToldBy};
use source::manifests::StatusFiles;
use source::{Change, PoolStatus, Source, Writer};
use speaker::{Answer, Overview, OverviewInput, Silence};

use crate::arguments::CommonFlags;
use crate::process;

/// What is read for this alone.
const KINDS: [Kind; 8] = [
    Kind::EndpointSlice,
    Kind::Node,
    Kind::L2Advertisement,
    Kind::BGPAdvertisement,
    Kind::BGPPeer,
    Kind::ServiceL2Status,
    Kind::ServiceBGPStatus,
    Kind::ConfigurationState,
];

/// How long a Service may be without an address before that is told.
const PATIENCE: Duration = Duration::from_secs(5);
/// Services that are looked at between two turns of everything else.
const PORTION: usize = 256;
/// What one turn may want written; the rest follows in the next one.
const OUTBOX_LIMIT: usize = 128;

/// Reads what is needed besides the objects of the controller.
pub(super) async fn source(flags: &CommonFlags, namespace: Option<&str>) -> Result<Source> {
    let (component, status) = ("metallb-controller", PoolStatus::Ignored);
    let files = StatusFiles::ReadOnly;
    let (source, _client) =
        process::source(flags, component, "controller", namespace, &KINDS, Vec::new(), status, None, files).await?;
    Ok(source)
}

/// What decides about Services, as far as it counts here.
pub(super) struct Verdicts<'a> {
    pub(super) decisions: &'a Controller,
    /// Why the configuration is not in force.
    pub(super) refused: Option<&'a str>,
}

/// What this process may say of Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Nothing: another one leads, or not everything is known yet.
    #[default]
    Silent,
    /// It leads, and the configuration has kept it from deciding since it began.
    Refused,
    /// It decides who gets which address.
    Deciding,
}

/// When something is told, and by whom.
struct How {
    patience: Duration,
    healing: Healing,
    told_by: ToldBy,
}

impl How {
    /// It has no address, which is known without what speakers write.
    fn no_address(told_by: ToldBy) -> How {
        How { patience: PATIENCE, healing: Healing::Alone, told_by }
    }

    /// Nobody announces it.
    fn of(silence: &Silence) -> How {
        // Speakers write one status object after the other, and an API server may take long over thousands.
        let healing = if silence.may_be_unwritten() { Healing::InTurn } else { Healing::Alone };
        How { patience: silence.patience(), healing, told_by: ToldBy::Us }
    }
}

/// The conditions of all Services.
pub(super) struct Conditions {
    overview: Overview,
    notices: Notices,
    /// What a configuration for all nodes is made of.
    objects: Objects,
    is_dirty: bool,
    namespace: Option<String>,
    /// All that was asked for beside has been told once.
    is_complete: bool,
    standing: Standing,
    /// Why the configuration is not in force, as it was told.
    refused: Option<String>,
    /// What was said last: very often the next one is told the same.
    last_message: Arc<str>,
    writer: Writer,
    out: Outbox<Write>,
}

impl Conditions {
    pub(super) fn new(load_balancer_class: String, namespace: Option<String>, writer: Writer) -> Self {
        Conditions {
            overview: Overview::new(load_balancer_class),
            notices: Notices::new(),
            objects: Objects::new(),
            is_dirty: true,
            namespace,
            is_complete: false,
            standing: Standing::default(),
            refused: None,
            last_message: Arc::default(),
            writer,
            out: Outbox::with_limit(OUTBOX_LIMIT),
        }
    }

    /// Takes in what was read beside.
    pub(super) fn changed(&mut self, changes: &mut dyn Iterator<Item = Change>) {
        for change in changes {
            match change {
                Change::Applied(Object::EndpointSlice(slice)) => {
                    self.overview.handle(OverviewInput::EndpointSliceApplied(&slice));
                }
                Change::Applied(Object::Node(node)) => {
                    self.overview.handle(OverviewInput::NodeApplied(&node));
                    self.is_dirty |= self.objects.insert(Object::Node(node));
                }
                Change::Applied(Object::BGPPeer(mut peer)) => {
                    // None counts here, and passwords and keys are nothing for the controller.
                    peer.spec.remove_authentication();
                    peer.spec.bfd_profile = None;
                    self.is_dirty |= self.objects.insert(Object::BGPPeer(peer));
                }
                Change::Applied(
                    report @ (Object::ServiceL2Status(_) | Object::ServiceBGPStatus(_) | Object::ConfigurationState(_)),
                ) => self.overview.handle(OverviewInput::ReportApplied(&report)),
                Change::Applied(object) => self.is_dirty |= self.objects.insert(object),
                Change::Deleted(reference) => self.gone_beside(&reference),
                Change::Together(changes) => self.changed(&mut changes.into_iter()),
                Change::Synced => {
                    self.is_complete = true;
                    self.overview.handle(OverviewInput::MarkAll);
                }
                // Neither was asked for.
                Change::Recalled | Change::ReportsSynced | Change::Leading(_) | Change::Following => {}
            }
        }
    }

    fn gone_beside(&mut self, reference: &ObjectRef) {
        self.is_dirty |= self.objects.remove(reference);
        match reference.kind {
            Kind::EndpointSlice => self.overview.handle(OverviewInput::EndpointSliceDeleted(&reference.key)),
            Kind::Node => self.overview.handle(OverviewInput::NodeDeleted(&reference.key.name)),
            _ => self.overview.handle(OverviewInput::ReportDeleted(reference)),
        }
    }

    /// An object that the controller reads is there, or has changed.
    pub(super) fn applied(&mut self, now: Instant, object: &Object) {
        match object {
            Object::Service(service) => {
                self.overview.handle(OverviewInput::ServiceApplied(service));
                let key = service.metadata.key();
                let condition = service.status.conditions.first().cloned();
                let is_ours = self.overview.is_ours(&key);
                if condition.is_some() {
                    // The notices remember nothing of a Service that is well and shows nothing.
                    self.overview.handle(OverviewInput::Mark(&key));
                }
                self.tell(
                    now,
                    match condition {
                        None if !is_ours => Notification::Gone(key),
                        condition => Notification::Seen { service: key, uid: service.metadata.uid.clone(), condition },
                    },
                );
            }
            Object::IPAddressPool(_) | Object::Community(_) => self.is_dirty |= self.objects.insert(object.clone()),
            _ => {}
        }
    }

    /// Such an object is gone.
    pub(super) fn deleted(&mut self, now: Instant, reference: &ObjectRef) {
        self.is_dirty |= self.objects.remove(reference);
        if reference.kind == Kind::Service {
            self.overview.handle(OverviewInput::ServiceDeleted(&reference.key));
            self.tell(now, Notification::Gone(reference.key.clone()));
        }
    }

    /// The controller has decided anew whether the Service can have an address.
    pub(super) fn decided(&mut self, service: &api::Key) {
        self.overview.handle(OverviewInput::Mark(service));
    }

    /// When [`Conditions::work`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.overview.is_dirty() || self.has_to_configure() {
            return Some(Instant::ZERO);
        }
        // What is held back waits for room, and not for a time.
        if self.is_held_back() {
            return None;
        }
        [self.notices.next_deadline(), self.overview.assign_deadline()].into_iter().flatten().min()
    }

    /// Looks at what changed, in bounded portions, and has written what follows.
    pub(super) fn work(&mut self, now: Instant, verdicts: &Verdicts<'_>) {
        let standing = match (verdicts.decisions.is_active(), verdicts.refused) {
            (true, _) => Standing::Deciding,
            (false, Some(_)) => Standing::Refused,
            (false, None) => Standing::Silent,
        };
        if standing != std::mem::replace(&mut self.standing, standing) {
            self.overview.handle(OverviewInput::MarkAll);
            if standing == Standing::Silent {
                self.tell(now, Notification::Forget);
            }
        }
        if self.refused.as_deref() != verdicts.refused {
            self.refused = verdicts.refused.map(str::to_owned);
            if standing == Standing::Refused {
                self.overview.handle(OverviewInput::MarkAll);
            }
        }
        self.configure();
        for _ in 0..PORTION {
            let Some(service) = self.overview.next_dirty() else { break };
            if let Some(notification) = self.judge(service, verdicts) {
                self.tell(now, notification);
            }
        }
        self.assign(now);
        self.tell(now, Notification::Tick);
    }

    /// Has addresses assigned to nodes while this process decides.
    fn assign(&mut self, now: Instant) {
        if self.standing != Standing::Deciding || !self.is_complete {
            self.overview.end_assigning();
            return;
        }
        self.overview.begin_assigning();
        if !self.is_held_back() {
            self.overview.assign(now, &mut self.out);
            self.carry_out();
        }
    }

    /// How many addresses are assigned to each node.
    pub(super) fn assigned(&self) -> impl Iterator<Item = (&str, usize)> {
        self.overview.assigned_addresses()
    }

    /// Something is decided and waits until there is room for it.
    pub(super) fn is_held_back(&self) -> bool {
        !self.out.is_empty()
    }

    /// Forgets what was decided and not written yet.
    pub(super) fn forget(&mut self) {
        self.out.drain().for_each(drop);
    }

    /// How many Services are told that something is wrong, by reason.
    pub(super) fn told(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.notices.told().into_iter()
    }

    fn has_to_configure(&self) -> bool {
        // Before this process decides, its own source of pools may not have told everything.
        self.is_complete && self.is_dirty && self.standing != Standing::Silent
    }

    fn configure(&mut self) {
        if !self.has_to_configure() {
            return;
        }
        self.is_dirty = false;
        match config::validate(&self.objects, Scope::Everything, self.namespace.as_deref()) {
            Ok(accepted) => self.overview.handle(OverviewInput::Configured(Arc::new(accepted.config))),
            Err(refused) => self.overview.handle(OverviewInput::Refused(format!("configuration error: {refused}"))),
        }
    }

    /// What is to be said of a Service; none while that is not known.
    fn judge(&mut self, service: api::Key, verdicts: &Verdicts<'_>) -> Option<Notification> {
        if self.standing == Standing::Silent {
            return None;
        }
        let answer = self.overview.answer(&service);
        if answer != Answer::NotOurs
            && let Some(complaint) = verdicts.decisions.complaint(&service)
        {
            return Some(self.wrong(service, complaint.reason, complaint.message, How::no_address(ToldBy::Others)));
        }
        match answer {
            Answer::NotOurs => Some(Notification::NotOurs(service)),
            Answer::Announced => Some(Notification::Well(service)),
            Answer::NoAddress => {
                let refused = verdicts.refused.filter(|_| self.standing == Standing::Refused)?;
                let message = format!("no address: {refused}; hint: correct it; see ConfigurationState controller");
                Some(self.wrong(service, "InvalidConfiguration", message, How::no_address(ToldBy::Us)))
            }
            Answer::Silent(_) if !self.is_complete || self.standing != Standing::Deciding => None,
            Answer::Silent(silence) => {
                let hint = silence.hint().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
                let message = format!("nobody announces it: {silence}{hint}");
                Some(self.wrong(service, silence.reason(), message, How::of(&silence)))
            }
        }
    }

    fn wrong(&mut self, service: api::Key, reason: &'static str, message: String, how: How) -> Notification {
        if *self.last_message != *message {
            self.last_message = message.into();
        }
        let uid = self.overview.uid(&service).unwrap_or_default().to_owned();
        let How { patience, healing, told_by } = how;
        let notice = Notice { reason, message: self.last_message.clone(), patience, healing, told_by };
        Notification::Wrong { service, uid, notice }
    }

    fn tell(&mut self, now: Instant, notification: Notification) {
        self.notices.handle(now, notification, &mut self.out);
        self.carry_out();
    }

    /// Has written what the notices want, as long as there is room.
    fn carry_out(&mut self) {
        while self.writer.has_room()
            && let Some(write) = self.out.pop()
        {
            match &write {
                Write::ServiceCondition { service, condition: Some(condition), .. } => tracing::info!(
                    event = "conditionSet",
                    %service,
                    reason = condition.reason,
                    why = condition.message,
                    "service is told why nobody announces it"
                ),
                Write::ServiceCondition { service, condition: None, .. } => {
                    tracing::info!(event = "conditionRemoved", %service, "nothing is wrong with the service any more");
                }
                Write::AssignedNode { service, node, .. } => tracing::info!(
                    event = "nodeChosen",
                    %service,
                    node = node.as_deref().unwrap_or_default(),
                    "address is assigned to a node, or to none"
                ),
                _ => {}
            }
            self.writer.write(write);
        }
    }
}
