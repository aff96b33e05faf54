//! Many nodes that announce many addresses, while nodes die and come back, the network falls in two parts, and no two clocks
//! agree: who owns an address follows from who is believed to be alive, and must be one among those who hear each other.
//!
//! The order of an address's nodes is a number of both here, where MetalLB has a digest of both (contract 5.1): it only has to be
//! the same for all. As in a speaker, the second of an order watches the first, and the third watches both.

use std::collections::{BTreeMap, BTreeSet};

use gossip::{Input, MemberState, Name};
use kit::{Duration, Instant, Rng};

use crate::network::{Network, Power, Weather, millis, name};

/// How many nodes of an address's order are kept. That none of them is alive is as good as impossible.
const ORDER_MAX: usize = 24;
/// The owner, and its heirs.
const PLACES: usize = 3;
/// What speakers hear of is acted on so often.
const STEP: Duration = Duration::from_millis(10);
/// A hundred of which so many packets are lost.
const LOSS_PERCENT: u64 = 1;
/// Ten times what a computer's clock is wrong by.
const DRIFT_PPM: u64 = 1_000;
/// In this time after a change of the network, or after it came back, a node may be taken for what it was before.
const SETTLING: Duration = Duration::from_secs(5);
/// In this time all who hear each other agree.
const AGREED_MAX: Duration = Duration::from_secs(30);

/// What is lived through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) addresses: usize,
    /// Nodes that die or come back.
    pub(crate) changes: usize,
    pub(crate) seed: u64,
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// From the death of a node until an heir of one of its addresses knew.
    pub(crate) takeovers: Vec<Duration>,
    /// From the change until each address had one owner among those who hear each other.
    pub(crate) parted: Duration,
    pub(crate) healed: Duration,
    /// Packets of a node in a second, on average: while nodes come and go, and from when the network fell apart until two seconds
    /// after each address had an owner in both parts.
    pub(crate) packets_churn: u64,
    pub(crate) packets_parted: u64,
}

struct World {
    network: Network,
    rng: Rng,
    /// For each address the first nodes of its order.
    orders: Vec<Vec<usize>>,
    /// For each node the addresses in whose order it is.
    listed: Vec<Vec<usize>>,
    /// Whom each node believes to be alive.
    views: Vec<Vec<bool>>,
    /// Whom each node watches, and for how many addresses.
    watched: Vec<BTreeMap<usize, usize>>,
    /// Since when each node runs, or does not.
    since: Vec<Instant>,
    /// When the network changed last.
    changed: Instant,
    /// Heirs that do not know of a death yet: by heir and the dead.
    pending: BTreeMap<(usize, usize), Instant>,
    takeovers: Vec<Duration>,
}

/// Nodes that know each other, no two clocks of which agree.
pub(crate) fn joined(nodes: usize, seed: u64) -> Network {
    let weather = Weather { loss_percent: LOSS_PERCENT, ..Weather::FAIR };
    Network::joined_with_drift(nodes, weather, seed, DRIFT_PPM)
}

/// Lives through all of it, and panics when something does not hold that must.
pub(crate) fn live(plan: Plan) -> Figures {
    live_in(joined(plan.nodes, plan.seed), plan)
}

/// The same from when all nodes have joined, which in large clusters is most of the work.
pub(crate) fn live_in(network: Network, plan: Plan) -> Figures {
    let mut world = World::new(network, plan);
    world.pass(Duration::from_secs(2));
    let (start, before) = (world.network.now, world.packets());
    for _ in 0..plan.changes {
        world.somebody_comes_or_goes();
        let pause = world.rng.below(1_000);
        world.pass(millis(100 + pause));
    }
    world.pass(Duration::from_secs(2));
    let mut figures = Figures { packets_churn: world.rate(start, before), ..Figures::default() };
    for node in 0..plan.nodes {
        if world.network.hosts[node].power == Power::Off {
            world.comes(node);
        }
    }
    world.agree("all are there");
    world.one_owner_each();
    // Of one that has just come back nobody knows yet whether it answers pings, and its silence means nothing to a watch.
    world.pass(Duration::from_secs(1));

    let (cut, before) = (world.network.now, world.packets());
    let islanders: Vec<usize> = (0..plan.nodes).filter(|node| node % 5 < 2).collect();
    world.islands(&islanders, 1);
    world.changed = cut;
    figures.parted = world.settle("the network is in two parts");
    world.pass(Duration::from_secs(2));
    figures.packets_parted = world.rate(cut, before);
    world.agree("the network is in two parts");
    world.one_owner_each();

    let healed = world.network.now;
    world.islands(&islanders, 0);
    world.changed = healed;
    figures.healed = world.settle("the network is whole again");
    world.agree("the network is whole again");
    world.one_owner_each();
    world.pass(SETTLING.times(2));
    world.one_owner_each();
    figures.takeovers = world.takeovers;
    figures
}

impl World {
    fn new(network: Network, plan: Plan) -> Self {
        let Plan { nodes, addresses, seed, .. } = plan;
        let mut network = network;
        network.reseed(seed);
        let mut rng = Rng::new(seed ^ 0x5_ca1e);
        let order = |salt: u64| {
            let mut ranked: Vec<(u64, usize)> =
                (0..nodes).map(|node| (Rng::new(salt ^ node as u64).next_u64(), node)).collect();
            ranked.sort_unstable();
            ranked.into_iter().map(|(_, node)| node).take(ORDER_MAX).collect()
        };
        let orders: Vec<Vec<usize>> = (0..addresses).map(|_| order(rng.next_u64())).collect();
        let mut listed = vec![Vec::new(); nodes];
        for (address, order) in orders.iter().enumerate() {
            for node in order {
                listed[*node].push(address);
            }
        }
        let mut world = World {
            network,
            rng,
            orders,
            listed,
            views: vec![vec![true; nodes]; nodes],
            watched: vec![BTreeMap::new(); nodes],
            since: vec![Instant::ZERO; nodes],
            changed: Instant::ZERO,
            pending: BTreeMap::new(),
            takeovers: Vec::new(),
        };
        (0..nodes).for_each(|node| world.watch_anew(node));
        world
    }

    /// The first nodes of an address's order that somebody believes to be alive.
    fn places(&self, viewer: usize, address: usize) -> impl Iterator<Item = usize> + '_ {
        let alive = move |node: &usize| *node == viewer || self.views[viewer][*node];
        self.orders[address].iter().copied().filter(alive).take(PLACES)
    }

    /// Whom somebody watches for an address: those before it.
    fn predecessors(&self, viewer: usize, address: usize) -> Vec<usize> {
        let places: Vec<usize> = self.places(viewer, address).collect();
        let place = places.iter().position(|node| *node == viewer).unwrap_or(0);
        places[..place].to_vec()
    }

    /// What a node watches, from nothing.
    fn watch_anew(&mut self, node: usize) {
        self.watched[node].clear();
        for address in self.listed[node].clone() {
            for other in self.predecessors(node, address) {
                *self.watched[node].entry(other).or_default() += 1;
            }
        }
        self.watch(node);
    }

    fn watch(&mut self, node: usize) {
        let members: BTreeSet<Name> = self.watched[node].keys().map(|other| name(*other)).collect();
        self.network.input(node, Input::Watch { members });
    }

    /// Lets time pass, and has every node act on what it hears.
    fn pass(&mut self, time: Duration) {
        let end = self.network.now + time;
        while self.network.now < end {
            self.network.run(STEP);
            for change in std::mem::take(&mut self.network.changes) {
                let of = change.name.as_str().trim_start_matches("node-").parse().unwrap();
                let is_alive = matches!(change.state, MemberState::Alive | MemberState::Suspect);
                if change.state == MemberState::Dead {
                    self.died(change.at, change.observer, of);
                }
                self.heard(change.observer, of, is_alive);
            }
        }
    }

    fn died(&mut self, at: Instant, observer: usize, of: usize) {
        if let Some(death) = self.pending.remove(&(observer, of)) {
            self.takeovers.push(at - death);
        }
        let hosts = &self.network.hosts;
        let lives = hosts[of].power == Power::On && hosts[observer].island == hosts[of].island;
        let is_settled = at > self.since[of] + SETTLING && at > self.changed + SETTLING;
        assert!(!lives || !is_settled, "at {at:?} node {observer} takes node {of} for dead, which it hears");
    }

    fn heard(&mut self, observer: usize, of: usize, is_alive: bool) {
        if self.views[observer][of] == is_alive || observer == of {
            return;
        }
        let here: Vec<usize> =
            self.listed[of].iter().copied().filter(|address| self.orders[*address].contains(&observer)).collect();
        let before: Vec<usize> = here.iter().flat_map(|address| self.predecessors(observer, *address)).collect();
        self.views[observer][of] = is_alive;
        let after: Vec<usize> = here.iter().flat_map(|address| self.predecessors(observer, *address)).collect();
        if before == after {
            return;
        }
        for other in after {
            *self.watched[observer].entry(other).or_default() += 1;
        }
        for other in before {
            let count = self.watched[observer].get_mut(&other).unwrap();
            *count -= 1;
            if *count == 0 {
                self.watched[observer].remove(&other);
            }
        }
        self.watch(observer);
    }

    fn runs(&self, node: usize) -> bool {
        self.network.hosts[node].power == Power::On
    }

    /// These nodes hear those of this island alone from now on.
    fn islands(&mut self, nodes: &[usize], island: u32) {
        for node in nodes {
            self.network.hosts[*node].island = island;
        }
    }

    /// A node dies, or one that was dead for some time comes back. Most of them are always there.
    fn somebody_comes_or_goes(&mut self) {
        let count = self.views.len();
        let dead: Vec<usize> = (0..count).filter(|node| !self.runs(*node)).collect();
        let long_dead = dead.iter().copied().find(|node| self.network.now > self.since[*node] + SETTLING);
        match long_dead {
            Some(node) if self.rng.one_in(2) => self.comes(node),
            _ if dead.len() * 4 < count => {
                let stable = |node: &usize| self.runs(*node) && self.network.now > self.since[*node] + SETTLING;
                let alive: Vec<usize> = (0..count).filter(stable).collect();
                if let Some(node) = self.rng.pick(&alive).copied() {
                    self.goes(node);
                }
            }
            _ => {}
        }
    }

    fn goes(&mut self, victim: usize) {
        let now = self.network.now;
        self.network.power_off(victim);
        self.since[victim] = now;
        self.pending.retain(|(heir, _), _| *heir != victim);
        for address in &self.listed[victim] {
            let mut order = self.orders[*address].iter().copied().filter(|node| *node == victim || self.runs(*node));
            // One that has just come back looks around first.
            if order.next() == Some(victim)
                && let Some(heir) = order.next()
                && self.watched[heir].contains_key(&victim)
                && now > self.since[heir] + SETTLING
            {
                self.pending.insert((heir, victim), now);
            }
        }
    }

    fn comes(&mut self, node: usize) {
        self.pending.retain(|(_, dead), _| *dead != node);
        self.since[node] = self.network.now;
        self.views[node].fill(false);
        self.network.start(node);
        self.watch_anew(node);
    }

    /// Lets time pass until everybody believes those to be alive that it hears, and nobody else.
    fn agree(&mut self, when: &str) {
        let limit = self.network.now + AGREED_MAX;
        while let Some(who) = self.who_errs() {
            assert!(self.network.now < limit, "{when}, and after {AGREED_MAX} node {who} does not know who is alive");
            self.pass(millis(100));
        }
        assert!(self.pending.is_empty(), "deaths that heirs never heard of: {:?}", self.pending);
    }

    fn who_errs(&self) -> Option<usize> {
        let hosts = &self.network.hosts;
        let is_right = |one: usize, other: usize| {
            let hears = self.runs(other) && hosts[one].island == hosts[other].island;
            one == other || self.views[one][other] == hears
        };
        (0..hosts.len()).find(|one| self.runs(*one) && !(0..hosts.len()).all(|other| is_right(*one, other)))
    }

    /// Lets time pass until each address has one owner, and tells how much.
    fn settle(&mut self, when: &str) -> Duration {
        let start = self.network.now;
        while let Some(wrong) = self.owners_err() {
            assert!(self.network.now - start < AGREED_MAX, "{when}, and after {AGREED_MAX} {wrong}");
            self.pass(STEP.times(2));
        }
        self.network.now - start
    }

    /// Of those who hear each other exactly one takes itself for the owner of each address.
    fn one_owner_each(&self) {
        assert_eq!(self.owners_err(), None);
    }

    fn owners_err(&self) -> Option<String> {
        let islands: BTreeSet<u32> = self.network.hosts.iter().map(|host| host.island).collect();
        for address in 0..self.orders.len() {
            for island in &islands {
                let hosts = &self.network.hosts;
                let owns = |node: &usize| self.runs(*node) && self.places(*node, address).next() == Some(*node);
                let there = self.orders[address].iter().copied().filter(|node| hosts[*node].island == *island);
                let owners: Vec<usize> = there.filter(owns).collect();
                if owners.len() != 1 {
                    return Some(format!("address {address} has the owners {owners:?} on island {island}"));
                }
            }
        }
        None
    }

    fn packets(&self) -> u64 {
        let running = self.network.hosts.iter().filter(|host| host.power == Power::On);
        running.map(|host| host.membership.counters().packets_sent).sum()
    }

    fn rate(&self, since: Instant, before: u64) -> u64 {
        let time = (self.network.now - since).as_millis().max(1);
        self.packets().saturating_sub(before) * 1_000 / time / self.views.len() as u64
    }
}

#[test]
fn a_few_nodes_that_come_and_go_agree_on_one_owner_over_many_seeds() {
    for seed in 0..30 {
        let figures = live(Plan { nodes: 6, addresses: 60, changes: 8, seed });
        let times = figures.takeovers.iter().copied().chain([figures.parted, figures.healed]);
        let slowest = times.max().unwrap_or_default();
        assert!(slowest <= Duration::from_secs(2), "{slowest} with seed {seed}");
        let most = figures.packets_churn.max(figures.packets_parted);
        assert!(most <= 500, "{most} packets a second from each node with seed {seed}");
    }
}

#[test]
fn where_nobody_watches_the_owner_its_loss_is_seen_all_the_same() {
    // So few addresses that in most parts nobody is an heir.
    for (nodes, seeds) in [(7, 40), (24, 4)] {
        for seed in 0..seeds {
            let Figures { parted, healed, .. } = live(Plan { nodes, addresses: 1, changes: 0, seed });
            let slowest = parted.max(healed);
            assert!(slowest <= Duration::from_secs(2), "{slowest} with {nodes} nodes and seed {seed}");
        }
    }
}
