//! `metallb speaker`: one loop that drives the decisions, ARP and NDP, and the BGP sessions of a node.

mod segment;
mod sessions;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use api::{Kind, Object, ObjectRef};
use kit::{Instant, InterfaceIndex, Outbox};
use netio::clock::Clock;
use netio::interfaces::{self, Exclusions, Interface, Monitor};
use source::manifests::StatusFiles;
use source::{Change, PoolStatus, Writer};
use speaker::{Exclusion, Input, Options, Output, Speaker};
use sys::packet::{Capture, PacketSocket};

use crate::arguments::SpeakerFlags;
use crate::configuration::{Configuration, Verdict};
use crate::process::{self, Reach, Shutdown};
use segment::Segment;
use sessions::{News, SessionId, Sessions};

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

/// Outputs of the decisions between two looks at what they ask for.
const OUTBOX_LIMIT: usize = 4096;

/// Runs the speaker until a signal ends it.
pub(crate) fn run(flags: Box<SpeakerFlags>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(&flags))
}

async fn serve(flags: &SpeakerFlags) -> Result<()> {
    let mut shutdown = Shutdown::listen()?;
    let _logs = process::start_logs(&flags.common)?;
    process::warn_of_unused(&flags.future.given());
    check_packet_sockets()?;
    let exclusions = read_exclusions(&flags.exclude_interfaces_file)?;
    let health = process::serve_health(Reach::Loopback, flags.common.health_probe_port).await?;
    let namespace = process::namespace(&flags.common)?;
    let mut source = process::source(
        &flags.common,
        "metallb-speaker",
        &flags.node_name,
        namespace.as_deref(),
        &KINDS,
        PoolStatus::Ignored,
        StatusFiles::ReadOnly,
    )
    .await?;
    let mut monitor = Monitor::start().await?;
    let clock = Clock::start();
    let mut node = Node {
        decisions: Speaker::new(Options {
            node: flags.node_name.clone(),
            load_balancer_class: flags.common.lb_class.clone(),
            exclusion: if flags.ignore_exclude_lb { Exclusion::Ignored } else { Exclusion::Honoured },
        }),
        configuration: Configuration::of_speaker(flags.node_name.clone(), namespace),
        segment: Segment::new(),
        sessions: Sessions::new(&flags.node_name, seed()),
        writer: source.writer.clone(),
        exclusions,
        out: Outbox::with_limit(OUTBOX_LIMIT),
        synced: false,
    };
    let mut changes = Vec::with_capacity(CHANGES_PER_TURN);
    let signal = loop {
        node.tick(clock.now());
        tokio::select! {
            signal = shutdown.wait() => break signal,
            () = clock.sleep_until(node.next_deadline()) => {}
            Ok(()) = source.connection.changed() => {
                process::report_source(&health, &source.connection.borrow_and_update());
            }
            (session, input) = node.sessions.next() => node.session_input(clock.now(), session, input),
            input = node.segment.next() => node.segment.tell(clock.now(), input),
            change = monitor.next() => node.interface_changed(clock.now(), &change, &monitor),
            count = source.changes.recv_many(&mut changes, CHANGES_PER_TURN) => {
                anyhow::ensure!(count > 0, "the source of objects ended");
                let is_last = source.changes.is_empty();
                node.objects_changed(clock.now(), changes.drain(..), is_last);
            }
        }
    };
    tracing::info!(op = "shutdown", signal, "done");
    node.sessions.finish(clock.now()).await;
    source.writer.flush(process::FLUSH_TIMEOUT).await;
    Ok(())
}

/// Everything that one node does, driven by one loop.
struct Node {
    decisions: Speaker,
    configuration: Configuration,
    segment: Segment,
    sessions: Sessions,
    writer: Writer,
    exclusions: Exclusions,
    out: Outbox<Output>,
    /// Every object has been told once; before, a configuration would be half of the truth.
    synced: bool,
}

impl Node {
    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.decisions.next_deadline(), self.segment.next_deadline(), self.sessions.next_deadline()];
        deadlines.into_iter().flatten().min()
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
        if is_due(self.decisions.next_deadline()) {
            self.decide(now, Input::Tick);
        }
    }

    /// Takes in changes of objects; the configuration is looked at when no other change waits.
    fn objects_changed(&mut self, now: Instant, changes: impl Iterator<Item = Change>, is_last: bool) {
        for change in changes {
            match change {
                Change::Applied(object) => self.object_applied(now, object),
                Change::Deleted(reference) => self.object_deleted(now, &reference),
                Change::Synced => {
                    self.synced = true;
                    self.validate(now);
                    self.decide(now, Input::Synced);
                }
            }
        }
        if self.synced && is_last {
            self.validate(now);
        }
    }

    fn object_applied(&mut self, now: Instant, object: Object) {
        match object {
            Object::Service(service) => self.decide(now, Input::ServiceApplied(service)),
            Object::EndpointSlice(slice) => self.decide(now, Input::EndpointSliceApplied(slice)),
            Object::Node(node) => {
                self.configuration.apply(Object::Node(node.clone()));
                self.decide(now, Input::NodeApplied(node));
            }
            object => self.configuration.apply(object),
        }
    }

    fn object_deleted(&mut self, now: Instant, reference: &ObjectRef) {
        self.configuration.delete(reference);
        match reference.kind {
            Kind::Service => self.decide(now, Input::ServiceDeleted(reference.key.clone())),
            Kind::EndpointSlice => self.decide(now, Input::EndpointSliceDeleted(reference.key.clone())),
            Kind::Node => self.decide(now, Input::NodeDeleted(reference.key.name.clone())),
            _ => {}
        }
    }

    fn validate(&mut self, now: Instant) {
        match self.configuration.validate() {
            Some(Verdict::Changed(config)) => {
                tracing::info!(op = "setConfig", event = "configLoaded", "config (re)loaded");
                self.decide(now, Input::Configured(config));
            }
            Some(Verdict::Same(_) | Verdict::Refused(_)) | None => {}
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
        self.sessions.interfaces_changed(now, interfaces);
        self.decide(now, Input::Interfaces(names));
    }

    fn session_input(&mut self, now: Instant, session: SessionId, input: bgp::Input) {
        let news = self.sessions.tell(now, session, input);
        log_sessions(news);
    }

    /// Gives the decisions one input, and has carried out what they want.
    fn decide(&mut self, now: Instant, input: Input) {
        self.decisions.handle(now, input, &mut self.out);
        while let Some(output) = self.out.pop() {
            match output {
                Output::AddressAnnounce { address, interfaces } => self.segment.announce(now, address, interfaces),
                Output::AddressWithdraw { address } => self.segment.withdraw(now, address),
                Output::PeerAdd(peer) => self.sessions.add(now, peer),
                Output::PeerRemove(name) => self.sessions.remove(now, &name),
                Output::RouteAnnounce { peer, prefix, attributes } => {
                    self.sessions.announce(now, &peer, prefix, attributes);
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
                Output::ServiceWithdrawn { service, protocol, addresses, refusal } => tracing::info!(
                    event = "serviceWithdrawn",
                    service = %service,
                    ips = ?addresses,
                    protocol = protocol.as_str(),
                    reason = refusal.as_ref().map_or("serviceDeleted", |refusal| refusal.reason()),
                    "withdrawing service announcement"
                ),
                Output::Write(write) => self.writer.write(write),
                Output::Settled => tracing::info!(event = "settled", "everything known at the start is announced"),
            }
        }
    }
}

fn log_sessions(news: Vec<News>) {
    for news in news {
        match news {
            News::Up { peer, local } => tracing::info!(
                event = "sessionUp",
                peer = %peer.endpoint,
                localAddress = local.map(|local| local.to_string()),
                localASN = %peer.local_asn.unwrap_or(peer.my_asn),
                peerASN = %peer.remote_as,
                "BGP session established"
            ),
            News::Down { peer, reason } => {
                tracing::warn!(event = "sessionDown", peer = %peer.endpoint, error = reason, "BGP session down");
            }
            News::AttemptFailed { peer, reason } => {
                tracing::warn!(peer = %peer.endpoint, error = reason, "failed to establish BGP session");
            }
        }
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

/// Spreads the timers of different speakers; any number will do.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
