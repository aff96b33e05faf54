//! `metallb speaker`: one loop that drives the decisions, ARP and NDP, and the BGP sessions of a node.

mod answer;
mod collection;
mod members;
mod segment;
mod sessions;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use api::{Component, Kind, Object, ObjectRef};
use kit::{Instant, InterfaceIndex, Outbox};
use netio::clock::Clock;
use netio::interfaces::{self, Exclusions, Interface, Monitor};
use source::manifests::StatusFiles;
use source::{Change, PoolStatus, Writer};
use speaker::{DrainOptions, Exclusion, Hindrances, Input, Link, Options, Output, Speaker};
use sys::packet::{Capture, PacketSocket};
use telemetry::metrics::{ConfigState, SpeakerReport, Work};
use tokio::sync::mpsc::OwnedPermit;

use crate::arguments::SpeakerFlags;
use crate::configuration::{Configuration, Verdict};
use crate::metrics::{self, Scrapes};
use crate::process::{self, Reach, Shutdown};
use crate::reports::Reports;
use crate::status::{self, server::Piece};
use answer::Answer;
use collection::{Collection, Progress};
use members::Members;
use segment::Segment;
use sessions::{News, Sessions};

/// What a speaker reads.
const KINDS: [Kind; 11] = [
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Node,
    Kind::IPAddressPool,
    Kind::L2Advertisement,
    Kind::BGPAdvertisement,
    Kind::BGPPeer,
    Kind::BFDProfile,
    Kind::Community,
    Kind::Secret,
    Kind::ConfigMap,
];

/// Changes taken in before packets, sessions and timers get their turn again.
const CHANGES_PER_TURN: usize = 64;

/// How long the last words to routers may take before their sessions end, and other speakers until they have announced
/// what this one gives up.
const TELLING_TIME: kit::Duration = kit::Duration::from_secs(2);

/// How late this process is when it was held up: stopped, or on a machine that stood still.
const HELD_UP: kit::Duration = kit::Duration::from_millis(100);
/// How long nothing may come from routers until all that waited has been read,
const QUIET: kit::Duration = kit::Duration::from_millis(20);
/// and how long that may take.
const CATCH_UP_MAX: kit::Duration = kit::Duration::from_millis(200);

/// Outputs of the decisions between two looks at what they ask for.
const OUTBOX_LIMIT: usize = 4096;

/// Runs the speaker until a signal ends it.
pub(crate) fn run(flags: Box<SpeakerFlags>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(serve(&flags));
    // A disk that hangs keeps nobody from ending.
    runtime.shutdown_background();
    result
}

async fn serve(flags: &SpeakerFlags) -> Result<()> {
    let mut shutdown = Shutdown::listen()?;
    let logs = process::start_logs(&flags.common)?;
    process::warn_of_unused(&flags.future.given());
    check_packet_sockets()?;
    let exclusions = read_exclusions(&flags.exclude_interfaces_file)?;
    let health = process::serve_health(Reach::Loopback, flags.common.health_probe_port).await?;
    let namespace = process::namespace(&flags.common)?;
    let component = Component::Speaker(flags.node_name.clone());
    let (mut source, api) = process::source(
        &flags.common,
        "metallb-speaker",
        &flags.node_name,
        namespace.as_deref(),
        &KINDS,
        Reports::kinds(&component),
        PoolStatus::Ignored,
        None,
        StatusFiles::ReadOnly,
    )
    .await?;
    if let Some(settings) = state_settings(flags, api.is_some(), namespace.as_deref()).await? {
        source = source::state::keep(source, settings);
    }
    let mut scrapes: Scrapes<SpeakerReport> = metrics::serve(&flags.common, &logs, &source, api.as_ref()).await?;
    let (mut queries, mut captures) = status::server::serve(&flags.status_socket);
    let mut monitor = Monitor::start().await?;
    let clock = Clock::start();
    let mut node = Node {
        decisions: Speaker::new(Options {
            node: flags.node_name.clone(),
            load_balancer_class: flags.common.lb_class.clone(),
            exclusion: if flags.ignore_exclude_lb { Exclusion::Ignored } else { Exclusion::Honoured },
            drain: DrainOptions {
                time: flags.bgp_drain_time.0,
                taints: flags.bgp_drain_taints.iter().filter(|taint| !taint.is_empty()).cloned().collect(),
            },
        }),
        reports: Reports::new(component, namespace.as_deref(), source.writer.clone()),
        members: Members::new(flags, api.as_ref(), namespace.as_deref(), clock)?,
        configuration: Configuration::of_speaker(flags.node_name.clone(), namespace),
        segment: Segment::new(l2::Settings { refresh: flags.l2_refresh_interval.0, seed: seed() }),
        sessions: Sessions::new(&flags.node_name, flags.bgp_listen_port, seed(), clock),
        writer: source.writer.clone(),
        exclusions,
        out: Outbox::with_limit(OUTBOX_LIMIT),
        synced: false,
        work: Work::default(),
        collection: None,
        answer: None,
        leaving: Leaving::No,
        hindrances: Hindrances::default(),
    };
    node.reports.configuration(clock.now(), node.configuration.verdict());
    node.reports.owned(clock.now(), &source.owner.borrow_and_update());
    node.decide(clock.now(), Input::Members(node.members.at_first()));
    let mut changes = Vec::with_capacity(CHANGES_PER_TURN);
    let writer = source.writer.clone();
    while !node.has_left(clock.now()) {
        node.tick(clock.now());
        let planned = node.next_deadline().map(|deadline| deadline.max(clock.now()));
        tokio::select! {
            signal = shutdown.wait() => node.leave(clock.now(), signal),
            () = clock.sleep_until(node.next_deadline()) => {}
            () = writer.room(), if node.reports.is_held_back() => node.reports.carry_out(),
            Ok(()) = source.connection.changed() => {
                process::report_source(&health, &source.connection.borrow_and_update());
            }
            Ok(()) = source.owner.changed() => {
                node.reports.owned(clock.now(), &source.owner.borrow_and_update());
            }
            event = node.sessions.next() => node.session_event(clock.now(), event),
            event = node.members.next() => node.member_event(clock.now(), event?),
            input = node.segment.next() => node.segment.tell(clock.now(), input),
            change = monitor.next() => node.interface_changed(clock.now(), &change, &monitor),
            envelope = scrapes.next(), if node.collection.is_none() => {
                node.collection = Some(Collection::begin(envelope, &flags.node_name));
            }
            () = std::future::ready(()), if node.collection.is_some() => node.collect(),
            query = queries.next(), if node.answer.is_none() => {
                node.answer = Some(Answer::begin(query, clock.now(), jiff::Timestamp::now(), &node.sessions));
            }
            request = captures.next() => {
                let unix_micros = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default();
                node.sessions.capture(clock.now(), unix_micros, request);
            }
            room = Answer::room(node.answer.as_ref()) => node.answer(&flags.node_name, room),
            count = source.changes.recv_many(&mut changes, CHANGES_PER_TURN) => {
                anyhow::ensure!(count > 0, "the source of objects ended");
                let is_last = source.changes.is_empty();
                node.objects_changed(clock.now(), &mut changes.drain(..), is_last);
            }
        }
        if planned.is_some_and(|planned| planned + HELD_UP <= clock.now()) {
            node.catch_up(&clock).await;
        }
    }
    tracing::info!(op = "shutdown", "done");
    node.sessions.finish(clock.now()).await;
    node.members.finish().await;
    node.reports.finish(&clock, process::FLUSH_TIMEOUT).await;
    Ok(())
}

/// Everything that one node does, driven by one loop.
struct Node {
    decisions: Speaker,
    configuration: Configuration,
    reports: Reports,
    segment: Segment,
    members: Members,
    sessions: Sessions,
    writer: Writer,
    exclusions: Exclusions,
    out: Outbox<Output>,
    /// Every object has been told once, or is recalled; before, a configuration would be half of the truth.
    synced: bool,
    /// What was worked on, for the metrics.
    work: Work,
    /// What is being collected for a scrape.
    collection: Option<Collection>,
    /// What is being told to whoever asks on the socket.
    answer: Option<Answer>,
    leaving: Leaving,
    /// What keeps this node from announcing, as was logged.
    hindrances: Hindrances,
}

/// How far the end of this process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// Nobody asked for it.
    No,
    /// Routers were told, and are given time to use other ways.
    Asked,
    /// What was decided is told to the routers, by then at the latest.
    Telling { until: Instant },
    /// Nothing is waited for.
    Now,
}

impl Node {
    fn next_deadline(&self) -> Option<Instant> {
        let leaving = match self.leaving {
            Leaving::Telling { until } => Some(until),
            Leaving::No | Leaving::Asked | Leaving::Now => None,
        };
        let cores = [
            self.decisions.next_deadline(),
            self.segment.next_deadline(),
            self.sessions.next_deadline(),
            self.reports.next_deadline(),
        ];
        cores.into_iter().flatten().chain(leaving).min()
    }

    /// A signal asks for the end. A second one does not wait.
    fn leave(&mut self, now: Instant, signal: &'static str) {
        tracing::info!(op = "shutdown", signal, "ending");
        if self.leaving != Leaving::No {
            self.leaving = Leaving::Now;
            return;
        }
        self.leaving = Leaving::Asked;
        let kept = self.sessions.keepers();
        self.decide(now, Input::Leave { kept });
        self.members.leave(now);
    }

    /// True when nothing is left to wait for.
    fn has_left(&self, now: Instant) -> bool {
        match self.leaving {
            Leaving::No | Leaving::Asked => false,
            Leaving::Telling { until } => {
                let others_know = || self.members.has_left() && self.segment.handing_over() == 0;
                until <= now || (self.sessions.is_quiet() && others_know())
            }
            Leaving::Now => true,
        }
    }

    /// After this process was held up, reads what routers sent meanwhile, before a hold timer says that nothing came.
    async fn catch_up(&mut self, clock: &Clock) {
        let until = clock.now() + CATCH_UP_MAX;
        while clock.now() < until
            && let Ok(event) = tokio::time::timeout(QUIET.into(), self.sessions.next()).await
        {
            self.session_event(clock.now(), event);
        }
    }

    /// Lets every core whose deadline has come do what is due.
    fn tick(&mut self, now: Instant) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_due(self.sessions.next_deadline()) {
            let news = self.sessions.tick(now);
            log_sessions(news);
        }
        if is_due(self.segment.next_deadline()) {
            self.segment.tell(now, l2::Input::Tick);
        }
        for news in self.segment.take_news() {
            self.decide(now, news);
        }
        if is_due(self.decisions.next_deadline()) {
            self.decide(now, Input::Tick);
        }
        if is_due(self.reports.next_deadline()) {
            self.reports.tell(now, report::Input::Tick);
        }
    }

    /// Takes in changes of objects; the configuration is looked at when no other change waits.
    fn objects_changed(&mut self, now: Instant, changes: &mut dyn Iterator<Item = Change>, is_last: bool) {
        for change in changes {
            match change {
                Change::Applied(object) => self.object_applied(now, object),
                Change::Deleted(reference) => self.object_deleted(now, &reference),
                Change::Together(changes) => self.objects_changed(now, &mut changes.into_iter(), false),
                Change::Recalled => {
                    self.synced = true;
                    self.members.recalled();
                    self.validate(now);
                    self.decide(now, Input::Recalled);
                }
                Change::Synced => {
                    self.synced = true;
                    self.validate(now);
                    self.decide(now, Input::Synced);
                }
                Change::ReportsSynced => self.reports.tell(now, report::Input::Listed),
                // Every speaker writes what is of its node.
                Change::Leading(_) | Change::Following => {}
            }
        }
        if self.synced && is_last {
            self.validate(now);
        }
    }

    fn object_applied(&mut self, now: Instant, object: Object) {
        self.count(object.kind());
        let Some(object) = self.reports.applied(now, object) else { return };
        match object {
            Object::Service(service) => self.decide(now, Input::ServiceApplied(service)),
            Object::EndpointSlice(slice) => self.decide(now, Input::EndpointSliceApplied(slice)),
            Object::Node(node) => {
                self.members.node_applied(&node);
                self.configuration.apply(Object::Node(node.clone()));
                self.decide(now, Input::NodeApplied(node));
            }
            object => self.configuration.apply(object),
        }
    }

    fn object_deleted(&mut self, now: Instant, reference: &ObjectRef) {
        self.reports.deleted(now, reference);
        self.count(reference.kind);
        self.configuration.delete(reference);
        match reference.kind {
            Kind::Service => self.decide(now, Input::ServiceDeleted(reference.key.clone())),
            Kind::EndpointSlice => self.decide(now, Input::EndpointSliceDeleted(reference.key.clone())),
            Kind::Node => {
                self.members.node_deleted(&reference.key.name);
                self.decide(now, Input::NodeDeleted(reference.key.name.clone()));
            }
            _ => {}
        }
    }

    /// Counts a change that is worked on at once (contract 8.2); the others make a configuration, which is counted.
    fn count(&mut self, kind: Kind) {
        if matches!(kind, Kind::Service | Kind::EndpointSlice | Kind::Node) {
            self.work.updated();
        }
    }

    fn validate(&mut self, now: Instant) {
        let verdict = self.configuration.validate();
        self.reports.configuration(now, self.configuration.verdict());
        match verdict {
            Some(Verdict::Changed { before, config }) => {
                if let Some(before) = before {
                    log_changes(&config::changes(&before, &config));
                }
                tracing::info!(op = "setConfig", event = "configLoaded", "config (re)loaded");
                self.work.configured(ConfigState::InForce);
                self.decide(now, Input::Configured(config));
                self.members.begin();
            }
            Some(Verdict::Same(_)) => self.work.configured(ConfigState::InForce),
            Some(Verdict::Refused(_)) => self.work.configured(ConfigState::Stale),
            None => {}
        }
    }

    /// Collects one more portion for the scrape.
    fn collect(&mut self) {
        let Some(collection) = &mut self.collection else { return };
        if collection.step(&self.decisions, &self.segment) == Progress::Done
            && let Some(collection) = self.collection.take()
        {
            collection.finish(self.work, &self.hindrances, &mut self.segment, &self.sessions);
        }
    }

    /// Tells one more portion to whoever asks.
    fn answer(&mut self, node: &str, room: Option<OwnedPermit<Piece>>) {
        let more = match (&mut self.answer, room) {
            (Some(answer), Some(room)) => answer.step(node, &self.sessions, room),
            (Some(_) | None, _) => Progress::Done,
        };
        if more == Progress::Done {
            self.answer = None;
        }
    }

    fn interface_changed(&mut self, now: Instant, change: &interfaces::Change, monitor: &Monitor) {
        let input = match change {
            interfaces::Change::Set(interface) => l2::Input::Interface(interface.for_responder(&self.exclusions)),
            interfaces::Change::Gone(index) => l2::Input::InterfaceGone { index: *index },
        };
        self.segment.tell(now, input);
        let interfaces: Vec<_> = monitor.interfaces().into_values().collect();
        let may_announce = |interface: &&Interface| self.exclusions.decide(&interface.name) == l2::Exclusion::Allowed;
        let names: BTreeSet<String> = interfaces.iter().filter(may_announce).map(|it| it.name.clone()).collect();
        let links = interfaces.iter().map(|interface| Link {
            interface: interface.for_responder(&self.exclusions),
            networks: interface.networks().collect(),
        });
        let links = links.collect();
        log_sessions(self.sessions.interfaces_changed(now, interfaces));
        self.decide(now, Input::Interfaces(names));
        self.decide(now, Input::Links(links));
    }

    fn member_event(&mut self, now: Instant, event: members::Event) {
        if let Some(members) = self.members.tell(now, event) {
            self.decide(now, Input::Members(members));
        }
    }

    fn session_event(&mut self, now: Instant, event: sessions::Event) {
        let news = self.sessions.handle(now, event);
        log_sessions(news);
    }

    /// Something keeps this node from announcing, or does no longer.
    fn hindered(&mut self, now: Instant, hindrances: Hindrances) {
        for new in hindrances.without(&self.hindrances) {
            tracing::warn!(
                event = "nodeHindered",
                hint = "others announce what this node cannot, if they run and know",
                "{new}"
            );
        }
        for old in self.hindrances.without(&hindrances) {
            tracing::info!(event = "nodeUnhindered", "no longer so: {old}");
        }
        self.hindrances = hindrances.clone();
        self.members.state(now, hindrances);
    }

    /// Gives the decisions one input, and has carried out what they want.
    fn decide(&mut self, now: Instant, input: Input) {
        self.decisions.handle(now, input, &mut self.out);
        while let Some(output) = self.out.pop() {
            match output {
                Output::AddressAnnounce { address, interfaces } => self.segment.announce(now, address, interfaces),
                Output::AddressWithdraw { address } => self.segment.withdraw(now, address),
                Output::AddressHandOver { address } => self.segment.hand_over(now, address),
                Output::AddressRepeat { address } => self.segment.tell(now, l2::Input::Repeat { address }),
                Output::AddressAsk { address, fellow } => {
                    self.segment.tell(now, l2::Input::Ask { address, fellow });
                }
                Output::Fellows(addresses) => self.segment.tell(now, l2::Input::Fellows(addresses)),
                Output::State(hindrances) => self.hindered(now, hindrances),
                Output::Watch(nodes) => self.members.watch(now, &nodes),
                Output::PeerAdd(peer) => self.sessions.add(now, peer),
                Output::PeerRemove(name) => self.sessions.remove(now, &name),
                Output::PeerChange { from, peer, change } => self.sessions.change(now, &from, &peer, &change),
                Output::PeerReset { peer, change } => self.sessions.reset(now, peer, &change),
                Output::PeerComplete(name) => self.sessions.complete(now, &name),
                Output::RouteAnnounce { peer, prefix, attributes } => {
                    self.sessions.announce(now, &peer, prefix, &attributes);
                }
                Output::RouteWithdraw { peer, prefix } => self.sessions.withdraw(now, &peer, prefix),
                Output::ServiceAnnounced { service, protocol, addresses, pool } => tracing::info!(
                    event = "serviceAnnounced",
                    service = %service,
                    ips = ?addresses,
                    pool,
                    protocol = protocol.as_str(),
                    "service has IP, announcing"
                ),
                Output::ServiceWithdrawn { service, protocol, addresses, loss } => tracing::info!(
                    event = "serviceWithdrawn",
                    service = %service,
                    ips = ?addresses,
                    protocol = protocol.as_str(),
                    reason = loss.reason(),
                    "withdrawing service announcement"
                ),
                Output::Write(write) => self.writer.write(write),
                Output::Say(report) => self.reports.tell(now, report::Input::Say(report)),
                Output::Unsay(report) => self.reports.tell(now, report::Input::Unsay(report)),
                Output::Settled => {
                    self.sessions.settled();
                    tracing::info!(event = "settled", "everything known at the start is announced");
                    self.reports.tell(now, report::Input::Settled);
                }
                Output::Left => self.leaving = Leaving::Telling { until: now + TELLING_TIME },
            }
        }
    }
}

fn log_sessions(news: Vec<News>) {
    for news in news {
        match news {
            News::Up { peer, at, local } => tracing::info!(
                event = "sessionUp",
                peer = %peer.endpoint,
                peerAddress = at.map(tracing::field::display),
                localAddress = local.map(|local| local.to_string()),
                localASN = %peer.local_as(),
                peerASN = %peer.remote_as,
                "BGP session established"
            ),
            News::Down { peer, at, reason } => tracing::warn!(
                event = "sessionDown",
                peer = %peer.endpoint,
                peerAddress = at.map(tracing::field::display),
                error = reason,
                "BGP session down"
            ),
            News::AttemptFailed { peer, at, reason } => tracing::warn!(
                peer = %peer.endpoint,
                peerAddress = at.map(tracing::field::display),
                error = reason,
                "failed to establish BGP session"
            ),
        }
    }
}

/// What a new configuration will do to sessions, before it does.
fn log_changes(changes: &[config::ObjectChange]) {
    for change in changes {
        tracing::info!(
            op = "setConfig",
            event = "configChange",
            object = %format_args!("{} {}", change.kind.name(), change.name),
            effect = %change.effect,
            what = (!change.what.is_empty()).then_some(change.what.as_str()),
            "configuration changes"
        );
    }
}

/// Fails with what is missing where packet sockets cannot be opened, before anything else is begun.
fn check_packet_sockets() -> Result<()> {
    // The loopback interface is there in every network namespace, and it is always the first.
    if let Some(loopback) = InterfaceIndex::new(1) {
        PacketSocket::open(loopback, Capture::Arp)?;
    }
    Ok(())
}

/// The interfaces that never announce: `announcedInterfacesToExclude` of the file; none without the file (contract 5.3).
fn read_exclusions(file: &Path) -> Result<Exclusions> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct List {
        #[serde(default)]
        announced_interfaces_to_exclude: Vec<String>,
    }
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Exclusions::none()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let list: List = serde_saphyr::from_str(&text).with_context(|| format!("{} is not valid", file.display()))?;
    Exclusions::compile(list.announced_interfaces_to_exclude.iter().map(String::as_str))
        .with_context(|| format!("{} is not valid", file.display()))
}

/// Where what is known is kept, if it is: what is in manifests is on this host already.
async fn state_settings(
    flags: &SpeakerFlags,
    has_api: bool,
    namespace: Option<&str>,
) -> Result<Option<source::state::Settings>> {
    if !has_api || flags.state_file.as_os_str().is_empty() {
        return Ok(None);
    }
    let cluster = source::kube::cluster_name(flags.common.kubeconfig.as_deref()).await?;
    Ok(Some(source::state::Settings {
        path: flags.state_file.clone(),
        max_age: flags.state_max_age.0.into(),
        owner: format!("{} {} {cluster}", flags.node_name, namespace.unwrap_or_default()),
    }))
}

/// Spreads the timers of different speakers; any number will do.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
