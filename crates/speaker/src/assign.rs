//! The controller's part in elections: it assigns addresses to nodes, where an L2Advertisement asks for that (ADR 16), and
//! writes the node at their Services. What is written there is all that is remembered: whoever begins to assign takes over what
//! it finds.
//!
//! How many a node may have is in `balance.rs`, what follows from an assignment in `contest.rs`. Who is alive the speakers
//! find without this, and much sooner.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::{Key, Write};
use kit::{Duration, Instant, Outbox};

use super::Overview;
use crate::balance::Balance;
use crate::contest::{self, Eligible};
use crate::decide::Exclusion;
use crate::facts::{NodeFacts, ServiceFacts};
use crate::verdict::Refusal;

/// How long a node must be Ready with a speaker, or not, before that counts: longer than a speaker takes to start anew.
const SETTLE: Duration = Duration::from_secs(20);
/// Nodes whose change has lasted wait for those that still change, so that a cluster which starts is not filled from one end;
/// but no longer than this.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How many Services may get another node in [`PACE_SPAN`]: every speaker hears of each, and addresses pass from node to
/// node.
const PACE: u32 = 50;
/// See [`PACE`].
const PACE_SPAN: Duration = Duration::from_secs(1);
/// What was asked for and does not show, or not any more, is asked for again after this: nobody is fought about it.
const RECHECK: Duration = Duration::from_secs(60);
/// Services and addresses that are looked at in one step.
const PORTION: usize = 256;

/// What is known of assignments.
#[derive(Debug, Default)]
pub(super) struct Assigner {
    balance: Balance,
    services: BTreeMap<Key, Member>,
    /// The Services of each address that elects for them: those that share one are on one node.
    by_address: BTreeMap<IpAddr, BTreeSet<Key>>,
    presence: Presence,
    phase: Phase,
    /// Services of which something has changed.
    changed: BTreeSet<Key>,
    /// Addresses whose eligible nodes may have changed.
    unsettled: BTreeSet<IpAddr>,
    /// Services that may show another node than they should.
    unwritten: BTreeSet<Key>,
    /// What was asked for in the last [`RECHECK`].
    asked: BTreeMap<Key, Asked>,
    pace: Pace,
    recheck_at: Option<Instant>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing was looked at yet.
    #[default]
    Fresh,
    /// Nodes that seem to be away may have been so for a moment or for long. Until that is known nothing moves that has a node.
    Beginning { until: Instant },
    /// All counts.
    Steady,
}

/// A Service whose owner the controller chooses.
#[derive(Debug)]
struct Member {
    address: IpAddr,
    /// The node it shows.
    shown: Option<Box<str>>,
}

/// What is to be written at a Service.
#[derive(Debug)]
struct Asked {
    uid: String,
    node: Option<String>,
    at: Instant,
    /// What the Service showed last. What it shows all the time may be older than what was asked for before.
    seen: Option<Box<str>>,
    effect: Effect,
}

/// Whether what was asked for has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Awaited,
    Seen,
}

/// What a Service is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted<'a> {
    /// What it shows.
    AsItIs,
    Node(&'a str),
    Nothing,
}

/// The nodes that are Ready and have a speaker, damped.
#[derive(Debug, Default)]
struct Presence {
    counted: BTreeSet<String>,
    /// Nodes that have addresses and were away already when this began.
    doubted: BTreeSet<String>,
    /// Those of which the opposite is true, and since when.
    changing: BTreeMap<String, Instant>,
    /// A node or a speaker has changed since the last look.
    news: bool,
}

#[derive(Debug, Default)]
struct Pace {
    since: Option<Instant>,
    spent: u32,
}

impl Presence {
    /// These are present now. True if others count than before.
    fn look(&mut self, now: Instant, present: &BTreeSet<String>) -> bool {
        self.news = false;
        // It was away for a moment.
        let (back, away) = std::mem::take(&mut self.doubted).into_iter().partition(|node| present.contains(node));
        self.doubted = away;
        let is_back = !BTreeSet::is_empty(&back);
        self.counted.extend(back);
        self.changing.retain(|node, _| present.contains(node) != self.counted.contains(node));
        for node in present.symmetric_difference(&self.counted) {
            self.changing.entry(node.clone()).or_insert(now);
        }
        if self.deadline().is_none_or(|at| at > now) {
            return is_back;
        }
        let lasting: Vec<String> = self
            .changing
            .iter()
            .filter(|(_, since)| now.since(**since) >= SETTLE)
            .map(|(node, _)| node.clone())
            .collect();
        for node in &lasting {
            self.changing.remove(node);
            if !self.counted.remove(node) {
                self.counted.insert(node.clone());
            }
        }
        is_back || !lasting.is_empty()
    }

    /// When what has changed counts, if nothing else changes.
    fn deadline(&self) -> Option<Instant> {
        let (first, last) = (self.changing.values().min()?, self.changing.values().max()?);
        Some((*last + SETTLE).min(*first + SETTLE_MAX))
    }
}

impl Pace {
    /// True if one more may be written.
    fn spend(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.since(since) >= PACE_SPAN) {
            (self.since, self.spent) = (Some(now), 0);
        }
        let may = self.spent < PACE;
        self.spent = self.spent.saturating_add(u32::from(may));
        may
    }

    fn deadline(&self) -> Instant {
        match self.since {
            Some(since) if self.spent >= PACE => since + PACE_SPAN,
            Some(_) | None => Instant::ZERO,
        }
    }
}

impl Assigner {
    /// Something about a Service has changed.
    pub(super) fn look_at(&mut self, service: &Key) {
        self.changed.insert(service.clone());
    }

    /// A node, or a speaker, has changed.
    pub(super) fn nodes_changed(&mut self) {
        self.presence.news = true;
    }

    fn deadline(&self) -> Option<Instant> {
        let is_busy =
            self.presence.news || !self.changed.is_empty() || !self.unsettled.is_empty() || self.balance.may_place();
        if is_busy {
            return Some(Instant::ZERO);
        }
        let presence = self.presence.deadline();
        let moves = match self.phase {
            Phase::Fresh | Phase::Steady => Instant::ZERO,
            Phase::Beginning { until } => until,
        };
        let has_moves = self.balance.may_move() || !self.presence.doubted.is_empty();
        let moves = has_moves.then_some(moves);
        let writes = (!self.unwritten.is_empty()).then(|| self.pace.deadline());
        [moves, writes, presence, self.recheck_at].into_iter().flatten().min()
    }

    /// Whoever is away still when the beginning is over was away for long.
    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Fresh => self.phase = Phase::Beginning { until: now + SETTLE },
            Phase::Beginning { until } if until <= now => {
                self.phase = Phase::Steady;
                self.presence.doubted.clear();
                self.unsettled.extend(self.by_address.keys());
            }
            Phase::Beginning { .. } | Phase::Steady => {}
        }
    }

    /// A Service and those that share its address, as far as they may show another node than they should.
    fn unwritten_with(&self, service: Key) -> Vec<Key> {
        let sharing = self.services.get(&service).and_then(|member| self.by_address.get(&member.address));
        let others = sharing.into_iter().flatten().filter(|other| **other != service);
        let others: Vec<Key> = others.filter(|other| self.unwritten.contains(*other)).cloned().collect();
        std::iter::once(service).chain(others).collect()
    }

    /// Gives addresses to nodes, one by one.
    fn next_move(&mut self) -> Option<IpAddr> {
        match self.balance.next_placement() {
            None if self.phase == Phase::Steady => self.balance.next_move(),
            placed => placed,
        }
    }

    /// Lets an address have another Service, or one less.
    fn leave(&mut self, service: &Key) {
        let Some(member) = self.services.remove(service) else { return };
        let Some(others) = self.by_address.get_mut(&member.address) else { return };
        others.remove(service);
        if others.is_empty() {
            self.by_address.remove(&member.address);
            self.unsettled.remove(&member.address);
            self.balance.remove(member.address);
        } else {
            self.unsettled.insert(member.address);
        }
    }

    fn join(&mut self, service: &Key, address: IpAddr, shown: Option<&str>) {
        let shown: Option<Box<str>> = shown.map(Box::from);
        let before = self.services.get(service).filter(|member| member.address == address);
        let has_changed = before.is_some_and(|member| member.shown != shown);
        if before.is_none() {
            self.leave(service);
            self.by_address.entry(address).or_default().insert(service.clone());
        }
        // What was asked for comes late; what was not, whoever led before had under way, or somebody wants it.
        let is_awaited = self.asked.get(service).is_some_and(|asked| asked.effect == Effect::Awaited);
        let is_news = has_changed && !is_awaited;
        if let Some(node) = shown.as_deref().filter(|_| is_news || self.balance.node(&address).is_none()) {
            self.balance.adopt(address, node);
            self.unwritten.extend(self.by_address.get(&address).into_iter().flatten().cloned());
        }
        self.services.insert(service.clone(), Member { address, shown });
        self.unsettled.insert(address);
    }

    /// Forgets what was asked for long ago, and has it asked for again where it does not show.
    fn recheck(&mut self, now: Instant) {
        if self.recheck_at.is_none_or(|at| at > now) {
            return;
        }
        let old = self.asked.extract_if(.., |_, asked| now.since(asked.at) >= RECHECK);
        self.unwritten.extend(old.map(|(service, _)| service));
        self.recheck_at = self.asked.values().map(|asked| asked.at + RECHECK).min();
    }

    /// What a Service is to show.
    fn wanted(&self, service: &Key) -> Wanted<'_> {
        let Some(member) = self.services.get(service) else { return Wanted::Nothing };
        self.balance.node(&member.address).map_or(Wanted::AsItIs, Wanted::Node)
    }
}

impl Overview {
    /// Assigns addresses from now on, if it does not yet: what Services show is what they are assigned.
    pub fn begin_assigning(&mut self) {
        if self.assigner.is_some() {
            return;
        }
        let mut assigner = Assigner::default();
        let shown = self.services.values().filter_map(|view| view.facts.as_ref()?.assigned.as_deref());
        assigner.presence.counted = self.present().collect();
        assigner.presence.doubted = shown.map(str::to_owned).collect();
        assigner.presence.news = true;
        self.assigner = Some(Box::new(assigner));
        self.assign_all();
    }

    /// Assigns nothing any more: another process does.
    pub fn end_assigning(&mut self) {
        self.assigner = None;
    }

    /// When [`Overview::assign`] is due.
    pub fn assign_deadline(&self) -> Option<Instant> {
        self.config.as_ref()?;
        self.assigner.as_ref()?.deadline()
    }

    /// How many addresses each node is assigned.
    pub fn assigned_addresses(&self) -> impl Iterator<Item = (&str, usize)> {
        self.assigner.iter().flat_map(|assigner| assigner.balance.loads())
    }

    /// Looks at what has changed, in bounded steps, and leaves in `out` what has to be written.
    pub fn assign(&mut self, now: Instant, out: &mut Outbox<Write>) {
        let (Some(_), Some(mut assigner)) = (&self.config, self.assigner.take()) else { return };
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if assigner.presence.news || is_due(assigner.presence.deadline()) {
            let has_news = assigner.presence.news;
            if assigner.presence.look(now, &self.present().collect()) || has_news {
                assigner.unsettled.extend(assigner.by_address.keys());
            }
        }
        assigner.advance(now);
        for _ in 0..PORTION {
            let Some(service) = assigner.changed.pop_first() else { break };
            self.classify(&service, &mut assigner);
        }
        if assigner.changed.is_empty() {
            for _ in 0..PORTION {
                let Some(address) = assigner.unsettled.pop_first() else { break };
                self.settle_address(address, &mut assigner);
            }
        }
        if assigner.changed.is_empty() && assigner.unsettled.is_empty() {
            for _ in 0..PORTION {
                let Some(address) = assigner.next_move() else { break };
                assigner.unwritten.extend(assigner.by_address.get(&address).into_iter().flatten().cloned());
            }
            self.write_assignments(now, &mut assigner, out);
        }
        self.assigner = Some(assigner);
    }

    /// The nodes that are Ready and have a speaker.
    fn present(&self) -> impl Iterator<Item = String> {
        let is_present = |name: &String, facts: &NodeFacts| facts.ready && self.speakers.contains_key(name);
        self.nodes
            .iter()
            .filter(move |(name, view)| view.facts().is_some_and(|it| is_present(name, it)))
            .map(|(name, _)| name.clone())
    }

    /// Has every Service looked at.
    pub(super) fn assign_all(&mut self) {
        if let Some(assigner) = &mut self.assigner {
            let known = self.services.iter().filter(|(_, view)| view.facts.is_some());
            assigner.changed.extend(known.map(|(key, _)| key.key()));
        }
    }

    /// Others share an address with these Services than before.
    pub(super) fn assign_anew(&mut self, services: &BTreeSet<Key>) {
        if let Some(assigner) = &mut self.assigner {
            assigner.changed.extend(services.iter().cloned());
        }
    }

    /// A Service is gone.
    pub(super) fn assign_no_more(&mut self, service: &Key) {
        if let Some(assigner) = &mut self.assigner {
            assigner.leave(service);
            assigner.changed.remove(service);
            assigner.unwritten.remove(service);
            assigner.asked.remove(service);
        }
    }

    /// Finds whether the controller chooses the owner of a Service.
    fn classify(&self, service: &Key, assigner: &mut Assigner) {
        let Some(facts) = self.facts(service) else { return };
        let shown = facts.assigned.as_deref();
        match self.eligible(service, &assigner.presence.counted) {
            Some(Eligible { address, .. }) => assigner.join(service, address, shown),
            None => assigner.leave(service),
        }
        if let Some(asked) = assigner.asked.get_mut(service)
            && asked.seen.as_deref() != shown
        {
            asked.seen.clone_from(&facts.assigned);
            if asked.uid == facts.uid && asked.node.as_deref() == shown {
                asked.effect = Effect::Seen;
            }
        }
        assigner.unwritten.insert(service.clone());
    }

    /// Finds the nodes on which an address may be: those that its Services have in common.
    fn settle_address(&self, address: IpAddr, assigner: &mut Assigner) {
        let Some(services) = assigner.by_address.get(&address) else { return };
        let counted = &assigner.presence.counted;
        let mut common: Option<Vec<&str>> = None;
        for eligible in services.iter().filter_map(|service| self.eligible(service, counted)) {
            common = match common {
                None => Some(eligible.nodes),
                Some(mut nodes) if nodes.iter().any(|node| eligible.nodes.contains(node)) => {
                    nodes.retain(|node| eligible.nodes.contains(node));
                    Some(nodes)
                }
                // One of them is nowhere.
                nodes => nodes.filter(|nodes| !nodes.is_empty()).or(Some(eligible.nodes)),
            };
        }
        let shown = services.iter().find_map(|service| assigner.services.get(service)?.shown.clone());
        let before = assigner.balance.node(&address).map(str::to_owned);
        let is_doubted = |node: &str| assigner.presence.doubted.contains(node);
        // For now it stays where it is.
        let common = common.filter(|_| !before.as_deref().or(shown.as_deref()).is_some_and(is_doubted));
        assigner.balance.set(address, &common.unwrap_or_default(), shown.as_deref());
        if assigner.balance.node(&address) != before.as_deref() {
            assigner.unwritten.extend(services.iter().cloned());
        }
    }

    /// Has Services show where they are, if they do not.
    fn write_assignments(&self, now: Instant, assigner: &mut Assigner, out: &mut Outbox<Write>) {
        assigner.recheck(now);
        while out.room() > 0 {
            let Some(service) = assigner.unwritten.first().cloned() else { break };
            // Those that share the address go by one of them until all show the same.
            let together = assigner.unwritten_with(service).into_iter();
            let to_ask: Vec<_> = together.map(|service| (self.to_ask(now, &service, assigner), service)).collect();
            if to_ask.iter().any(|(asked, _)| asked.is_some()) && !assigner.pace.spend(now) {
                break;
            }
            for (asked, service) in to_ask.into_iter().take(out.room()) {
                assigner.unwritten.remove(&service);
                if let Some(asked) = asked {
                    let (uid, node) = (asked.uid.clone(), asked.node.clone());
                    out.push(Write::AssignedNode { service: service.clone(), uid, node });
                    assigner.asked.insert(service, asked);
                    assigner.recheck_at.get_or_insert(now + RECHECK);
                }
            }
        }
    }

    /// What has to be written at a Service, if it shows something else and was not asked for that.
    fn to_ask(&self, now: Instant, service: &Key, assigner: &Assigner) -> Option<Asked> {
        let facts = self.facts(service)?;
        let node = match assigner.wanted(service) {
            // What others serve is theirs.
            _ if matches!(facts.addresses, Err(Refusal::OtherClass)) => return None,
            Wanted::AsItIs => return None,
            Wanted::Node(node) => Some(node),
            Wanted::Nothing => None,
        };
        let shows_another = node != facts.assigned.as_deref();
        let is_due = match assigner.asked.get(service) {
            Some(before) if (before.uid.as_str(), before.node.as_deref()) == (facts.uid.as_str(), node) => false,
            // That may be under way, whatever is shown.
            Some(before) if before.effect == Effect::Awaited => true,
            Some(_) | None => shows_another,
        };
        let (uid, seen) = (facts.uid.clone(), facts.assigned.clone());
        is_due.then(|| Asked { uid, node: node.map(str::to_owned), at: now, seen, effect: Effect::Awaited })
    }

    fn facts(&self, service: &Key) -> Option<&ServiceFacts> {
        self.services.get(&service.into())?.facts.as_ref()
    }

    fn eligible<'a>(&'a self, service: &Key, counted: &BTreeSet<String>) -> Option<Eligible<'a>> {
        let view = self.services.get(&service.into())?;
        let counting = self.nodes.iter().filter(|(name, _)| counted.contains(*name));
        let nodes = counting.filter_map(|(name, view)| Some((name.as_str(), view.facts()?)));
        let facts = view.facts.as_ref()?;
        contest::eligible(facts, &view.slices, &self.pools, &self.sharing, nodes, Exclusion::Honoured)
    }
}
