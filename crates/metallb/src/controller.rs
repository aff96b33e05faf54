//! `metallb controller`: gives addresses to Services.

mod conditions;

use anyhow::{Context as _, Result};
use api::{Component, ConfigurationVerdict, IPAddressPool, Kind, Object, ObjectRef, PoolCounters, Write};
use controller::{Controller, Input, Settings};
use ipam::PoolUsage;
use kit::{Duration, Instant, Outbox};
use netio::clock::Clock;
use source::kube::{Client, MemberKey};
use source::manifests::StatusFiles;
use source::{Change, LeaseOptions, Owner, PoolStatus, Source, Writer};
use telemetry::health::Health;
use telemetry::logs::Logs;
use telemetry::metrics::{ControllerReport, PoolReport, Work};

use crate::arguments::{ControllerFlags, WebhookMode};
use crate::configuration::{Configuration, Verdict};
use crate::metrics::{self, Scrapes, count};
use crate::process::{self, Reach, Shutdown};
use crate::reports::Reports;
use crate::webhook::{self, Webhooks};
use conditions::{Conditions, Verdicts};

/// What a controller reads.
const KINDS: [Kind; 4] = [Kind::Service, Kind::Namespace, Kind::IPAddressPool, Kind::Community];

/// Changes taken in before timers get their turn again.
const CHANGES_PER_TURN: usize = 64;

/// What one turn may want written; the rest follows in the next one.
const OUTBOX_LIMIT: usize = 256;

/// Time between two writes of one pool's counters: soon enough for whoever looks at them.
const POOL_STATUS_PACE: Duration = Duration::from_secs(1);

/// The Lease that controllers share.
const LEASE: &str = "metallb-controller";

/// Runs the controller until a signal ends it.
pub(crate) fn run(flags: Box<ControllerFlags>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(&flags))
}

async fn serve(flags: &ControllerFlags) -> Result<()> {
    let shutdown = Shutdown::listen()?;
    let logs = process::start_logs(&flags.common)?;
    process::warn_of_unused(&flags.future.given());
    let health = process::serve_health(Reach::Everywhere, flags.common.health_probe_port).await?;
    let namespace = process::namespace(&flags.common)?;
    let webhooks = match (&namespace, flags.webhook.webhook_mode) {
        // Nobody would ask about a directory of manifests.
        _ if flags.common.manifests.is_some() => None,
        (Some(namespace), WebhookMode::OnlyWebhook) => {
            return serve_webhooks(flags, &logs, namespace, &health, shutdown).await;
        }
        (Some(namespace), WebhookMode::Enabled) => {
            let (source, _) = webhook::source(flags, namespace).await?;
            Some(webhook::start(flags, namespace, source, &health).await?)
        }
        (Some(_), WebhookMode::Disabled) | (None, _) => None,
    };
    let (source, api) = source(flags, namespace.as_deref()).await?;
    let beside = conditions::source(&flags.common, namespace.as_deref()).await?;
    let scrapes = metrics::serve(&flags.common, &logs, &source, api.as_ref()).await?;
    make_member_key(flags, api, namespace.as_deref())?;
    let mut around = Around { source, beside, scrapes, webhooks, health, shutdown, clock: Clock::start() };
    let mut cluster = Cluster::new(&flags.common.lb_class, namespace, &mut around.source);
    cluster.begin(around.clock.now());
    let signal = drive(&mut cluster, &mut around).await?;
    tracing::info!(op = "shutdown", signal, "done");
    end(around, cluster.leads).await;
    Ok(())
}

/// The source of what a controller decides about.
async fn source(flags: &ControllerFlags, namespace: Option<&str>) -> Result<(Source, Option<Client>)> {
    let instance = if flags.common.pod_name.is_empty() { "controller" } else { flags.common.pod_name.as_str() };
    process::source(
        &flags.common,
        "metallb-controller",
        instance,
        namespace,
        &KINDS,
        Reports::kinds(&Component::Controller),
        PoolStatus::Read,
        flags.leader_elect.then(|| LeaseOptions { name: LEASE, holder: flags.common.pod_name.clone() }),
        StatusFiles::Owned,
    )
    .await
}

/// What a controller hears from, and what it ends with.
struct Around {
    source: Source,
    /// What is read for conditions alone.
    beside: Source,
    scrapes: Scrapes<ControllerReport>,
    webhooks: Option<Webhooks>,
    health: Health,
    shutdown: Shutdown,
    clock: Clock,
}

/// Has the cluster hear everything, until a signal comes: its name.
async fn drive(cluster: &mut Cluster, around: &mut Around) -> Result<&'static str> {
    let (mut changes, mut changes_beside) = (Vec::with_capacity(CHANGES_PER_TURN), Vec::new());
    let Around { source, beside, scrapes, webhooks, health, shutdown, clock } = around;
    loop {
        cluster.turn(clock.now());
        tokio::select! {
            signal = shutdown.wait() => return Ok(signal),
            () = clock.sleep_until(cluster.next_deadline()) => {}
            () = source.writer.room(), if cluster.is_held_back() => {
                // Addresses first.
                cluster.carry_out();
                cluster.reports.carry_out();
                cluster.show(clock.now());
            }
            Ok(()) = source.owner.changed() => {
                cluster.owner = source.owner.borrow_and_update().clone();
                cluster.owned(clock.now());
            }
            Ok(()) = source.connection.changed() => {
                process::report_source(health, &source.connection.borrow_and_update());
            }
            envelope = scrapes.next() => {
                // Who asked may have gone.
                let report = ControllerReport {
                    webhook_certificate_end: certificate_end(webhooks.as_ref()),
                    ..cluster.report()
                };
                let _sent = envelope.send(report);
            }
            count = source.changes.recv_many(&mut changes, CHANGES_PER_TURN) => {
                anyhow::ensure!(count > 0, "the source of objects ended");
                let is_last = source.changes.is_empty();
                cluster.objects_changed(clock.now(), &mut changes.drain(..), is_last);
                // Whether this process may say anything can have changed, too.
                cluster.show(clock.now());
            }
            count = beside.changes.recv_many(&mut changes_beside, CHANGES_PER_TURN) => {
                anyhow::ensure!(count > 0, "the source of objects beside ended");
                cluster.conditions.changed(&mut changes_beside.drain(..));
                cluster.show(clock.now());
            }
        }
    }
}

/// Has the rest written, and lets another controller go on.
async fn end(around: Around, leads: bool) {
    around.source.writer.flush(process::FLUSH_TIMEOUT).await;
    if let Some(lease) = &around.source.lease
        && lease.release(process::FLUSH_TIMEOUT).await
        && leads
    {
        tracing::info!(op = "shutdown", lease = LEASE, "gave the Lease back");
    }
    // The next leader gives addresses meanwhile.
    if let Some(webhooks) = around.webhooks {
        webhooks.drain().await;
    }
}

/// When the certificate of the webhooks ends, in seconds since 1970.
fn certificate_end(webhooks: Option<&Webhooks>) -> Option<u64> {
    webhooks?.certificate_end().map(metrics::seconds_since_1970)
}

/// Makes sure that the Secret is there which speakers wait for (contract 7.7), beside everything else.
fn make_member_key(flags: &ControllerFlags, api: Option<Client>, namespace: Option<&str>) -> Result<()> {
    let (Some(client), false) = (api, flags.ml_secret_name.is_empty()) else { return Ok(()) };
    anyhow::ensure!(
        !flags.deployment.is_empty(),
        "--ml-secret-name needs --deployment (METALLB_DEPLOYMENT): the Secret belongs to the Deployment of the controller"
    );
    let secret = MemberKey {
        namespace: namespace.unwrap_or_default().to_owned(),
        secret: flags.ml_secret_name.clone(),
        deployment: flags.deployment.clone(),
    };
    let key = netio::gossip::new_secret().context("no random bytes for a key of memberlist")?;
    tokio::spawn(async move { secret.ensure(client, key.reveal()).await });
    Ok(())
}

/// Does nothing but answer the API server.
async fn serve_webhooks(
    flags: &ControllerFlags,
    logs: &Logs,
    namespace: &str,
    health: &Health,
    mut shutdown: Shutdown,
) -> Result<()> {
    let (source, api) = webhook::source(flags, namespace).await?;
    let mut scrapes: Scrapes<ControllerReport> = metrics::serve(&flags.common, logs, &source, api.as_ref()).await?;
    let webhooks = webhook::start(flags, namespace, source, health).await?;
    health.ready(process::READY_OBJECTS);
    loop {
        tokio::select! {
            signal = shutdown.wait() => {
                tracing::info!(op = "shutdown", signal, "done");
                webhooks.drain().await;
                return Ok(());
            }
            envelope = scrapes.next() => {
                let work = Work { is_loaded: health.missing().is_empty(), ..Work::default() };
                let webhook_certificate_end = certificate_end(Some(&webhooks));
                // Who asked may have gone.
                let _sent = envelope.send(ControllerReport { work, webhook_certificate_end, ..ControllerReport::default() });
            }
        }
    }
}

/// Everything that a controller does, driven by one loop.
struct Cluster {
    decisions: Controller,
    configuration: Configuration,
    reports: Reports,
    conditions: Conditions,
    writer: Writer,
    out: Outbox<Write>,
    /// Every object has been told once; before, a configuration would be half of the truth.
    synced: bool,
    /// It is this process that writes.
    leads: bool,
    owner: Owner,
}

impl Cluster {
    fn new(class: &str, namespace: Option<String>, source: &mut Source) -> Self {
        Cluster {
            decisions: Controller::new(Settings {
                namespace: namespace.clone().unwrap_or_default(),
                load_balancer_class: (!class.is_empty()).then(|| class.to_owned()),
                pool_status_pace: POOL_STATUS_PACE,
            }),
            reports: Reports::new(Component::Controller, namespace.as_deref(), source.writer.clone()),
            conditions: Conditions::new(class.to_owned(), namespace.clone(), source.writer.clone()),
            configuration: Configuration::of_controller(namespace),
            writer: source.writer.clone(),
            out: Outbox::with_limit(OUTBOX_LIMIT),
            synced: false,
            // Without a Lease there is nobody else.
            leads: source.lease.is_none(),
            owner: source.owner.borrow_and_update().clone(),
        }
    }

    /// Says what is known before anything is heard.
    fn begin(&mut self, now: Instant) {
        if !self.leads {
            self.writer.pause();
        }
        self.reports.configuration(now, self.configuration.verdict());
        self.owned(now);
    }

    /// Has written what there is room for, and does what is due.
    fn turn(&mut self, now: Instant) {
        self.carry_out();
        self.reports.carry_out();
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_due(self.decisions.next_deadline()) {
            self.decide(now, Input::Tick);
        }
        if is_due(self.reports.next_deadline()) {
            self.reports.tell(now, report::Input::Tick);
        }
        if is_due(self.conditions.next_deadline()) {
            self.show(now);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        // What the decisions still have to do waits until there is room for it.
        let decisions = self.decisions.next_deadline().filter(|_| self.out.is_empty());
        let cores = [decisions, self.reports.next_deadline(), self.conditions.next_deadline()];
        cores.into_iter().flatten().min()
    }

    /// Something is decided and waits until there is room for it.
    fn is_held_back(&self) -> bool {
        !self.out.is_empty() || self.conditions.is_held_back() || self.reports.is_held_back()
    }

    /// Has what is wrong with Services told.
    fn show(&mut self, now: Instant) {
        let verdict = self.configuration.verdict();
        let refused = match &verdict {
            ConfigurationVerdict::Invalid(why) => Some(why.as_str()).filter(|_| self.leads),
            ConfigurationVerdict::Unknown | ConfigurationVerdict::Valid { .. } => None,
        };
        self.conditions.work(now, &Verdicts { decisions: &self.decisions, refused });
    }

    /// Takes in changes of objects; the configuration is looked at when no other change waits.
    fn objects_changed(&mut self, now: Instant, changes: &mut dyn Iterator<Item = Change>, is_last: bool) {
        for change in changes {
            match change {
                Change::Applied(object) => self.object_applied(now, object),
                Change::Deleted(reference) => self.object_deleted(now, &reference),
                Change::Together(changes) => self.objects_changed(now, &mut changes.into_iter(), false),
                Change::Synced => {
                    self.synced = true;
                    self.validate(now);
                    self.lead(now);
                }
                // Only speakers remember: an address that was given out meanwhile would be given out twice.
                Change::Recalled => {}
                Change::ReportsSynced => self.reports.tell(now, report::Input::Listed),
                Change::Leading(term) => {
                    self.leads = true;
                    self.forget();
                    self.writer.begin(term);
                    self.owned(now);
                    self.lead(now);
                }
                Change::Following => {
                    self.leads = false;
                    self.forget();
                    self.writer.pause();
                    self.reports.resign(now);
                    self.decide(now, Input::Resigned);
                    self.show(now);
                }
            }
        }
        if self.synced && is_last {
            self.validate(now);
        }
    }

    /// Begins to decide, once everything is known and it is this process that does.
    fn lead(&mut self, now: Instant) {
        if self.synced && self.leads {
            self.decide(now, Input::Synced);
        }
    }

    /// Has the reports of this process belong to its pod, while it writes them.
    fn owned(&mut self, now: Instant) {
        if self.leads {
            self.reports.owned(now, &self.owner);
        }
    }

    fn object_applied(&mut self, now: Instant, object: Object) {
        let Some(object) = self.reports.applied(now, object) else { return };
        self.conditions.applied(now, &object);
        match object {
            Object::Service(service) => self.decide(now, Input::Service(Box::new(service))),
            Object::Namespace(namespace) => self.decide(now, Input::Namespace(Box::new(namespace))),
            Object::IPAddressPool(pool) => {
                let (name, status) = (pool.metadata.name.clone(), counters(&pool));
                self.configuration.apply(Object::IPAddressPool(pool));
                self.decide(now, Input::PoolStatus { pool: name, status });
            }
            object => self.configuration.apply(object),
        }
    }

    fn object_deleted(&mut self, now: Instant, reference: &ObjectRef) {
        self.reports.deleted(now, reference);
        self.conditions.deleted(now, reference);
        self.configuration.delete(reference);
        match reference.kind {
            Kind::Service => self.decide(now, Input::ServiceDeleted(reference.key.clone())),
            Kind::Namespace => self.decide(now, Input::NamespaceDeleted(reference.key.name.clone())),
            Kind::IPAddressPool => self.decide(now, Input::PoolDeleted(reference.key.name.clone())),
            _ => {}
        }
    }

    fn validate(&mut self, now: Instant) {
        let verdict = self.configuration.validate();
        self.reports.configuration(now, self.configuration.verdict());
        match verdict {
            Some(Verdict::Changed { config, .. }) => {
                tracing::info!(op = "setConfig", event = "configLoaded", "config (re)loaded");
                self.decide(now, Input::Config(config));
            }
            Some(Verdict::Refused(_)) => self.decide(now, Input::ConfigInvalid),
            Some(Verdict::Same(config)) => self.decide(now, Input::Config(config)),
            None => {}
        }
    }

    /// Forgets what was decided in an earlier turn and not written yet.
    fn forget(&mut self) {
        self.out.drain().for_each(drop);
        self.conditions.forget();
    }

    /// Gives the decisions one input, and has written what they want.
    fn decide(&mut self, now: Instant, input: Input) {
        self.decisions.handle(now, input, &mut self.out);
        self.carry_out();
        while let Some(service) = self.decisions.next_news() {
            self.conditions.decided(&service);
        }
    }

    /// Has written what the decisions want, as long as there is room. What there is none for stays in the outbox, so that the
    /// decisions wait too, and not thousands of writes and what is said of them.
    fn carry_out(&mut self) {
        while self.writer.has_room()
            && let Some(write) = self.out.pop()
        {
            match &write {
                Write::ServiceStatus { service, ingress, pool, .. } => {
                    let ips: Vec<&str> = ingress.iter().filter_map(|it| it.ip.as_deref()).collect();
                    tracing::info!(
                        event = "serviceUpdated",
                        service = %service,
                        ips = ?ips,
                        pool = pool.as_deref().unwrap_or_default(),
                        "updated service object"
                    );
                }
                Write::Event(event) => {
                    tracing::info!(event = event.reason, object = %event.object, "{}", event.message);
                }
                Write::PoolStatus { .. }
                | Write::AssignedNode { .. }
                | Write::ServiceCondition { .. }
                | Write::Report { .. }
                | Write::ReportGone { .. } => {}
            }
            self.writer.write(write);
        }
    }

    /// What a scrape is told. Who stands by knows of no addresses in use, and does not say that there are none.
    fn report(&self) -> ControllerReport {
        let stats = self.decisions.stats();
        // As far as the status of a pool counts (D3).
        let addresses = |number: u128| i64::try_from(number).unwrap_or(i64::MAX).unsigned_abs();
        let pool = |usage: PoolUsage| PoolReport {
            name: usage.name.to_string(),
            ipv4_total: addresses(usage.usable_ipv4),
            ipv6_total: addresses(usage.usable_ipv6),
            ipv4_in_use: count(usage.in_use_ipv4),
            ipv6_in_use: count(usage.in_use_ipv6),
            services: count(usage.services),
        };
        ControllerReport {
            work: Work {
                updates: stats.updates,
                update_errors: stats.update_errors,
                is_loaded: stats.config_loaded,
                is_stale: stats.config_stale,
            },
            pools: self.decisions.pool_usages().filter(|_| self.leads).map(pool).collect(),
            services_unassigned: count(self.decisions.unassigned()),
            addresses_assigned: self
                .conditions
                .assigned()
                .map(|(node, number)| (node.to_owned(), count(number)))
                .collect(),
            services_not_announced: self.conditions.told().filter(|_| self.leads).collect(),
            statuses_restored: stats.statuses_restored,
            leads: self.leads,
            webhook_certificate_end: None,
        }
    }
}

fn counters(pool: &IPAddressPool) -> Option<PoolCounters> {
    pool.status.as_ref().map(|status| PoolCounters {
        assigned_ipv4: status.assigned_ipv4,
        assigned_ipv6: status.assigned_ipv6,
        available_ipv4: status.available_ipv4,
        available_ipv6: status.available_ipv6,
    })
}
