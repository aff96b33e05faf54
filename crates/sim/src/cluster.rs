//! The cluster: machines with speakers, a controller, an API server, routers and hosts that ask, in virtual time.
//!
//! Here is what drives it all: events in the order of time, and cores whose deadline has come. The parts of what can
//! happen are in the modules below; what must hold at rest is in [`rest`] and [`exam`].

mod connections;
mod exam;
mod members;
mod network;
mod objects;
mod processes;
mod rest;
mod spread;
mod steps;
mod strangers;
mod tamper;

pub use exam::Exam;
pub use strangers::{Claim, Manner};
pub use tamper::Tampering;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::core::Ingress;
use api::{Key, Kind, Write};
use bgp::ConnectionId;
use kit::{Duration, Family, HoldTime, Instant, InterfaceIndex, Mac, Rng};
use l2::wire::Frame;
use speaker::{Exclusion, Hindrances};

use crate::Sabotage;
use crate::api_server::ApiServer;
use crate::asker::Asker;
use crate::client::{ApiClient, Outcome, Target};
use crate::controller_process::ControllerProcess;
use crate::ledger::Books;
use crate::machine::Machine;
use crate::names::{Lan, NODES_MAX, NodeId, ProcessId, RouterName};
use crate::router::Router;
use crate::schedule::Schedule;
use crate::sessions::SessionId;
use crate::speaker_process::{Claims, SpeakerProcess};
use crate::step::PodState;
use crate::tcp::{Connections, Side};
use crate::trace::Trace;
use crate::violation::{Invariant, Violation, hold};
use strangers::Stranger;

/// The taint of nodes that are drained.
pub(crate) const DRAIN_TAINT: &str = "example.com/drained";
/// Events at one moment: more, and time does not pass.
const EVENTS_AT_ONCE_MAX: u32 = 100_000;

/// What is the same through the life of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Climate {
    /// Machines at the start.
    pub nodes: u8,
    /// How late a process hears of a change, at most.
    pub lag: Duration,
    /// How many changes a process takes in at once, at most.
    pub batch: usize,
    /// The API server fills in the mode of addresses.
    pub fills_ip_mode: bool,
    /// One write of so many meets another one; never for 0.
    pub conflict_one_in: u64,
    /// What the outbox of the controller holds.
    pub controller_outbox: usize,
    /// What the outbox of a speaker's decisions holds.
    pub speaker_outbox: usize,
    /// What routers offer.
    pub hold_time: HoldTime,
    /// The load balancer class that is served (`--lb-class`).
    pub class: Option<&'static str>,
    /// What the label that excludes a node means (`--ignore-exclude-lb`).
    pub exclusion: Exclusion,
    /// How speakers know of each other.
    pub membership: Membership,
    /// How long routes are the last choice before they are withdrawn (`--bgp-drain-time`).
    pub drain_time: Duration,
    /// The taint that says that a node is drained (`--bgp-drain-taints`).
    pub drain_taint: Option<&'static str>,
    /// How often the network is told of addresses about which nothing has happened (`--l2-refresh-interval`).
    pub refresh: l2::Refresh,
}

/// How speakers know of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// By their nodes' readiness.
    Nodes,
    /// By memberlist. What its members say to each other is not simulated here, but what each comes to know.
    Memberlist,
}

impl Climate {
    /// A climate that depends on the seed alone.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x00c1_1a7e);
        let lag_ms = [20, 200, 1_000, 6_000].get(rng.index(4)).copied().unwrap_or(20);
        let hold_secs = [9, 9, 30, 90].get(rng.index(4)).copied().unwrap_or(90);
        let outboxes = [controller::OUTPUTS_PER_STEP, 64, 1024];
        Climate {
            nodes: u8::try_from(rng.below(4)).unwrap_or(0).saturating_add(1),
            lag: Duration::from_millis(lag_ms),
            batch: if rng.one_in(3) { 2 } else { 64 },
            fills_ip_mode: rng.one_in(2),
            conflict_one_in: if rng.one_in(3) { 12 } else { 0 },
            controller_outbox: outboxes.get(rng.index(3)).copied().unwrap_or(1024),
            speaker_outbox: if rng.one_in(3) { 64 } else { 4096 },
            hold_time: HoldTime::from_secs(hold_secs).unwrap_or(HoldTime::DEFAULT),
            class: rng.one_in(5).then_some("metallb"),
            exclusion: if rng.one_in(5) { Exclusion::Ignored } else { Exclusion::Honoured },
            membership: if rng.one_in(2) { Membership::Memberlist } else { Membership::Nodes },
            drain_time: Duration::from_secs(if rng.one_in(3) { 4 } else { 0 }),
            drain_taint: rng.one_in(2).then_some(DRAIN_TAINT),
            refresh: if rng.one_in(2) { l2::Refresh::DEFAULT } else { l2::Refresh::Never },
        }
    }
}

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// News of a kind reach a process.
    Deliver { process: ProcessId, epoch: u64, kind: Kind },
    /// A process looks into its inbox.
    Wake { process: ProcessId, epoch: u64 },
    /// A process sends what it wants written.
    WriterTurn { process: ProcessId, epoch: u64 },
    /// A write reaches the API server.
    WriteArrives { process: ProcessId, epoch: u64, target: Target, write: Write },
    /// The answer to a write reaches the process.
    WriteAnswered { process: ProcessId, epoch: u64, target: Target, write: Write, outcome: Outcome },
    /// A write is repeated for no reason.
    WriteAgain { write: Write },
    /// A process may reach the API again.
    Uncut(ProcessId),
    /// A process starts.
    Start(ProcessId),
    /// A process that was asked to end may be ready for it.
    MayEnd { process: ProcessId, epoch: u64 },
    /// A machine has started.
    Booted { node: NodeId, boots: u64 },
    /// The cluster has noticed that a machine is gone.
    NodeLost { node: NodeId, boots: u64 },
    /// A speaker has looked for the others long enough.
    Joined { node: NodeId, epoch: u64 },
    /// A speaker hears which others there are.
    MembersHeard { node: NodeId, epoch: u64 },
    /// The kernel tells a process of an interface.
    Netlink { node: NodeId, epoch: u64, lan: Lan, interface: Option<l2::Interface> },
    /// The kernel tells a process of the default routes.
    Ways { node: NodeId, epoch: u64, ways: BTreeMap<Family, BTreeSet<InterfaceIndex>> },
    /// A machine may have its default routes again.
    WaysBack(NodeId),
    /// A cable may be in again, or an interface be there.
    PortBack { node: NodeId, lan: Lan },
    /// Links may be good again.
    LossEnds,
    /// Somebody who insists on the status of a Service writes it.
    RivalWrites(Key),
    /// A frame reaches everybody on a link.
    Frame { lan: Lan, from: Option<NodeId>, frame: Frame, bytes: Vec<u8> },
    /// A request to connect reaches where it goes.
    Syn { node: NodeId, session: SessionId, connection: ConnectionId, to: std::net::SocketAddr },
    /// It was refused.
    Refused { node: NodeId, session: SessionId, connection: ConnectionId },
    /// Something reaches a side of a connection.
    Arrive { connection: u64, side: Side },
    /// The kernel took what a side wrote.
    Written { connection: u64, side: Side, count: usize },
    /// A side learns that its connection is no more.
    Reset { connection: u64, side: Side },
    /// Things may get through again.
    Unstall { connection: u64 },
    /// A router may have power again.
    RouterBack(RouterName),
    /// A stranger says that an address is its own.
    StrangerClaims { stranger: Stranger, number: u64 },
    /// Memberlist may get through again.
    Unblocked,
    /// A speaker hears whose station it is that it asked about.
    LookedUp { node: NodeId, epoch: u64, mac: Mac },
}

/// What a process meant when it lost the API.
#[derive(Debug)]
pub(crate) enum Frozen {
    Controller(Books),
    Speaker(Claims),
}

/// Somebody who insists on the status of a Service for a while.
#[derive(Debug)]
pub(crate) struct Rival {
    ingress: Vec<Ingress>,
    until: Instant,
    /// How often its status was overwritten.
    overwritten: u32,
}

/// Whose deadline has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Controller,
    Speaker(NodeId),
    Router(RouterName),
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    now: Instant,
    /// How much has happened at this moment.
    events_at_once: u32,
    schedule: Schedule<Event>,
    rng: Rng,
    climate: Climate,
    sabotage: Option<Sabotage>,
    trace: Trace,

    api: ApiServer,
    clients: BTreeMap<ProcessId, ApiClient>,
    controller: Option<ControllerProcess>,
    machines: BTreeMap<NodeId, Machine>,
    pods: BTreeMap<(String, String), Vec<(NodeId, PodState)>>,
    frozen: BTreeMap<ProcessId, Frozen>,
    /// How many processes there were.
    epochs: u64,

    /// The machines whose speakers take part in memberlist.
    members: BTreeSet<NodeId>,
    /// What speakers say of themselves, if they have said something.
    statements: BTreeMap<NodeId, Hindrances>,
    asker: Asker,
    /// Somebody who answers for an address that is not its own.
    rogue: Option<(Lan, IpAddr)>,
    lossy_until: Option<Instant>,
    /// Frames lost in a row.
    losses: u32,
    /// How many strangers there were, and how many of these are gone for good.
    strangers: u64,
    strangers_gone: u64,
    /// Nodes that memberlist does not reach, and until when.
    blocked: BTreeMap<NodeId, Instant>,

    routers: BTreeMap<RouterName, Router>,
    routers_down: BTreeMap<RouterName, Instant>,
    connections: Connections,
    dialing: BTreeSet<(SessionId, ConnectionId)>,
    /// Between which nodes and routers something went wrong since their session was established, and until when it goes
    /// on doing so at least.
    disturbed: BTreeMap<(NodeId, RouterName), Instant>,

    /// When something happened last that does not happen all the time.
    last_active: Instant,
    /// Statuses that reached the API server.
    writes: u64,
    rivals: BTreeMap<Key, Rival>,
    /// When something else than MetalLB wrote a status last.
    foreign_writes: BTreeMap<Target, Instant>,
    /// Addresses that any Service ever had.
    ever_shown: BTreeSet<IpAddr>,
}

impl Cluster {
    /// A cluster in this climate, with its machines, their Nodes and everything that runs on them, and no other object.
    pub fn new(climate: Climate, seed: u64, sabotage: Option<Sabotage>, keeps_trace: KeepsTrace) -> Self {
        let mut rng = Rng::new(seed ^ 0x0c10_57e2);
        let routers = RouterName::ALL.map(|name| (name, Router::new(name, climate.hold_time, rng.next_u64())));
        let mut cluster = Cluster {
            now: Instant::ZERO,
            events_at_once: 0,
            schedule: Schedule::new(),
            rng,
            climate,
            sabotage,
            trace: if keeps_trace == KeepsTrace::Yes { Trace::kept() } else { Trace::default() },
            api: ApiServer::new(climate.fills_ip_mode),
            clients: BTreeMap::new(),
            controller: None,
            machines: BTreeMap::new(),
            pods: BTreeMap::new(),
            frozen: BTreeMap::new(),
            epochs: 0,
            members: BTreeSet::new(),
            statements: BTreeMap::new(),
            asker: Asker::default(),
            rogue: None,
            lossy_until: None,
            losses: 0,
            strangers: 0,
            strangers_gone: 0,
            blocked: BTreeMap::new(),
            routers: routers.into(),
            routers_down: BTreeMap::new(),
            connections: Connections::default(),
            dialing: BTreeSet::new(),
            disturbed: BTreeMap::new(),
            last_active: Instant::ZERO,
            writes: 0,
            rivals: BTreeMap::new(),
            foreign_writes: BTreeMap::new(),
            ever_shown: BTreeSet::new(),
        };
        for node in (1..=climate.nodes.min(NODES_MAX)).map(NodeId) {
            cluster.join(node);
        }
        cluster.schedule.plan(Instant::ZERO, Event::Start(ProcessId::Controller));
        cluster
    }

    /// What happened so far, line by line, if it is kept.
    pub fn trace(&self) -> &[String] {
        self.trace.lines()
    }

    /// Lets this much time pass.
    pub fn run_for(&mut self, span: Duration) -> Result<(), Violation> {
        let until = self.now + span;
        while self.step(until)? {}
        self.now = until;
        Ok(())
    }

    /// Lets the next thing happen, if it does so until then. Time passes only as far as that.
    fn step(&mut self, until: Instant) -> Result<bool, Violation> {
        let (event, tick) = (self.schedule.due(), self.next_tick());
        let is_tick = match (event, tick) {
            (Some(event), Some((deadline, _))) => deadline < event || (deadline == event && !self.rng.one_in(4)),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let due = if is_tick { tick.map(|(deadline, _)| deadline) } else { event };
        let Some(due) = due.filter(|due| *due <= until) else { return Ok(false) };
        self.time_passes(due)?;
        match (is_tick, tick) {
            (true, Some((_, due))) => self.tick(due)?,
            _ => {
                if let Some(event) = self.schedule.take() {
                    self.happen(event)?;
                }
            }
        }
        Ok(true)
    }

    /// It is this time now, if it is not later. A core that always has something to do at once would stop the clock.
    fn time_passes(&mut self, due: Instant) -> Result<(), Violation> {
        self.events_at_once = if due > self.now { 0 } else { self.events_at_once.saturating_add(1) };
        self.now = self.now.max(due);
        hold(self.events_at_once <= EVENTS_AT_ONCE_MAX, Invariant::ComesToRest, || "time does not pass".to_owned())
    }

    /// Lets everything happen that is due now.
    fn run_now(&mut self) -> Result<(), Violation> {
        while self.step(self.now)? {}
        Ok(())
    }

    /// The earliest deadline of a core. One that has passed counts as now.
    fn next_tick(&self) -> Option<(Instant, Due)> {
        let controller = self.controller.as_ref().and_then(ControllerProcess::next_deadline);
        let speakers = self.machines.iter().filter_map(|(node, machine)| {
            let deadline = machine.speaker.as_ref()?.next_deadline()?;
            Some((deadline, Due::Speaker(*node)))
        });
        let routers =
            self.routers.iter().filter_map(|(name, router)| Some((router.next_deadline()?, Due::Router(*name))));
        let all = speakers.chain(routers).chain(controller.map(|deadline| (deadline, Due::Controller)));
        all.map(|(deadline, due)| (deadline.max(self.now), due)).min()
    }

    fn tick(&mut self, due: Due) -> Result<(), Violation> {
        match due {
            Due::Controller => self.with_controller(ControllerProcess::tick),
            Due::Speaker(node) => self.with_speaker(node, SpeakerProcess::tick),
            Due::Router(name) => self.tick_router(name),
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Deliver { process, epoch, kind } => self.deliver(process, epoch, kind),
            Event::Wake { process, epoch } => return self.wake(process, epoch),
            Event::WriterTurn { process, epoch } => self.writer_turn(process, epoch),
            Event::WriteArrives { process, epoch, target, write } => self.write_arrives(process, epoch, target, write),
            Event::WriteAnswered { process, epoch, target, write, outcome } => {
                self.write_answered(process, epoch, target, write, outcome);
            }
            Event::WriteAgain { write } => self.write_again(write),
            Event::Uncut(process) => return self.uncut(process),
            Event::Start(process) => return self.start(process),
            Event::MayEnd { process, epoch } => return self.may_end(process, epoch),
            Event::Booted { node, boots } => return self.booted(node, boots),
            Event::NodeLost { node, boots } => self.node_lost(node, boots),
            Event::Joined { node, epoch } => self.joined(node, epoch),
            Event::MembersHeard { node, epoch } => return self.members_heard(node, epoch),
            Event::Netlink { node, epoch, lan, interface } => return self.netlink(node, epoch, lan, interface),
            Event::Ways { node, epoch, ways } => return self.ways_heard(node, epoch, ways),
            Event::WaysBack(node) => self.ways_back(node),
            Event::PortBack { node, lan } => self.port_back(node, lan),
            Event::LossEnds => self.lossy_until = self.lossy_until.filter(|until| *until > self.now),
            Event::RivalWrites(service) => return self.rival_writes(&service),
            Event::Frame { lan, from, frame, bytes } => return self.frame_arrives(lan, from, &frame, &bytes),
            Event::Syn { node, session, connection, to } => return self.syn(node, session, connection, to),
            Event::Refused { node, session, connection } => return self.refused(node, session, connection),
            Event::Arrive { connection, side } => return self.arrive(connection, side),
            Event::Written { connection, side, count } => return self.written(connection, side, count),
            Event::Reset { connection, side } => return self.reset(connection, side),
            Event::Unstall { connection } => self.unstall(connection),
            Event::RouterBack(router) => self.router_back(router),
            Event::StrangerClaims { stranger, number } => self.stranger_claims(stranger, number),
            Event::Unblocked => self.unblocked(),
            Event::LookedUp { node, epoch, mac } => return self.looked_up(node, epoch, mac),
        }
        Ok(())
    }

    /// A span of at most this long.
    fn up_to(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.rng.below(span.as_micros().saturating_add(1)))
    }

    fn plan_in(&mut self, span: Duration, event: Event) {
        self.schedule.plan(self.now + span, event);
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        self.trace.say(self.now, line);
    }

    /// Something happens that does not happen all the time.
    fn is_active(&mut self) {
        self.last_active = self.now;
    }
}

/// Whether a cluster remembers what happened in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepsTrace {
    /// It does, which takes more time than what happens.
    Yes,
    /// It does not.
    No,
}
