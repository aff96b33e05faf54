//! The core: its inputs, its state, and in which order work is done.
//!
//! What is decided about one Service is in `decide.rs`, what that has for consequences in `converge.rs`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::core::{Namespace, Service};
use api::{Key, PoolCounters, Write};
use config::Config;
use ipam::{Allocator, Holder, Pinning, Pool, PoolName, PoolUsage};
use kit::{Duration, Instant, Outbox, TimerTable};

use crate::decide::Had;
use crate::demand::{Ask, Demand, Leftovers, holder, key};
use crate::ledger::{Ledger, Seen};
use crate::pools::Pools;
use crate::problem::Problem;
use crate::waiting::{Opportunities, Queue, Ticket};

/// How much room an [`Outbox`] must have for one step of work: the status of a Service and what is told about it. An
/// outbox that never has it never gets anything; one that has a hundred times as much has the counters of pools written
/// once for all that happens at once, instead of with each step.
pub const OUTPUTS_PER_STEP: usize = 16;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A valid configuration is in force.
    Config(Arc<Config>),
    /// The configuration is invalid; the one before stays in force.
    ConfigInvalid,
    /// A Service is there, or is another than before.
    Service(Box<Service>),
    /// A Service is gone. One that is only marked for deletion is still there and keeps its addresses.
    ServiceDeleted(Key),
    /// A namespace is there, or is another than before.
    Namespace(Box<Namespace>),
    /// A namespace is gone.
    NamespaceDeleted(String),
    /// What the status of an IPAddressPool shows.
    PoolStatus {
        /// The name of the pool.
        pool: String,
        /// Its status; `None` if it has none.
        status: Option<PoolCounters>,
    },
    /// An IPAddressPool is gone.
    PoolDeleted(String),
    /// Every Service, namespace and pool that exists was told, and it is this controller that decides.
    Synced,
    /// Another controller decides from now on, until [`Input::Synced`] comes again.
    Resigned,
    /// Time has passed.
    Tick,
}

/// What is set when the program starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of MetalLB's own objects.
    pub namespace: String,
    /// The load balancer class that is served; `None` for Services without one (`--lb-class`).
    pub load_balancer_class: Option<String>,
    /// Time between two writes of one pool's counters. Thousands of Services that come one after the other cost a write
    /// each for their addresses, and should not cost a second one for a number that people look at.
    pub pool_status_pace: Duration,
}

/// Numbers for the metrics of contract 8.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Decisions about Services and changes of the configuration.
    pub updates: u64,
    /// Those after which a Service had no address although it should, and invalid configurations.
    pub update_errors: u64,
    /// A configuration is in force.
    pub config_loaded: bool,
    /// The newest configuration is not the one in force.
    pub config_stale: bool,
    /// Statuses that something else had written and that were set back.
    pub statuses_restored: u64,
}

/// What is known about a Service.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) uid: Box<str>,
    pub(crate) demand: Demand,
    pub(crate) ledger: Ledger,
    /// Addresses that it lost to a change of the pools, until that is dealt with; a part of them may be held for it.
    pub(crate) lost: Option<Box<ipam::Addresses>>,
    /// The status was there before us and has not been looked at: the addresses in it are what the Service has.
    pub(crate) is_new: bool,
    /// What is wrong, as it was told.
    pub(crate) problem: Option<Box<Problem>>,
    pub(crate) ticket: Option<Box<Ticket>>,
}

/// A timer of the core.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Look again at a status that something else wrote.
    Service(Holder),
    /// Look again at the status of a pool.
    Pool(PoolName),
    /// The status of a pool may be written again.
    PoolPace(PoolName),
}

/// Decides which Service gets which addresses.
#[derive(Clone, Debug)]
pub struct Controller {
    pub(crate) settings: Settings,
    pub(crate) allocator: Allocator,
    pub(crate) services: BTreeMap<Holder, Box<Record>>,
    /// Services to look at, those of a rank in the order of their tickets.
    dirty: BTreeSet<((Rank, u64), Holder)>,
    pub(crate) queue: Queue,
    /// Services whose problem is another one than before, until somebody asks.
    pub(crate) news: BTreeSet<Holder>,
    pub(crate) opportunities: Opportunities,
    pub(crate) pools: Pools,
    pub(crate) timers: TimerTable<Timer>,
    pub(crate) stats: Stats,
    phase: Phase,
    now: Instant,
}

/// Who is looked at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Those who have addresses, or had them a moment ago.
    Assigned,
    /// Those who want some.
    Waiting,
}

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Neither the configuration nor all objects are known.
    Blind,
    /// A configuration is in force.
    Configured,
    /// All objects are known.
    Synced,
    /// Both: decisions are made.
    Active,
}

impl Controller {
    /// A controller that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Controller {
            pools: Pools::new(settings.pool_status_pace),
            settings,
            allocator: Allocator::new(),
            services: BTreeMap::new(),
            dirty: BTreeSet::new(),
            queue: Queue::default(),
            news: BTreeSet::new(),
            opportunities: Opportunities::default(),
            timers: TimerTable::new(),
            stats: Stats::default(),
            phase: Phase::Blind,
            now: Instant::ZERO,
        }
    }

    /// Takes in what happened, and does as much of what follows as `out` has room for; [`Controller::next_deadline`] is
    /// due at once if something is left.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Outbox<Write>) {
        self.now = now;
        match input {
            Input::Config(config) => self.configure(&config),
            Input::ConfigInvalid => {
                self.stats.updates = self.stats.updates.saturating_add(1);
                self.stats.update_errors = self.stats.update_errors.saturating_add(1);
                self.stats.config_stale = true;
            }
            Input::Service(service) => self.service_applied(*service),
            Input::ServiceDeleted(key) => self.forget(&holder(&key)),
            Input::Namespace(namespace) => {
                let name = &namespace.metadata.name;
                if self.allocator.set_namespace(name, namespace.metadata.labels) {
                    self.mark_namespace(name);
                }
            }
            Input::NamespaceDeleted(name) => {
                if self.allocator.remove_namespace(&name) {
                    self.mark_namespace(&name);
                }
            }
            Input::PoolStatus { pool, status } => self.pools.seen(now, pool.into(), status, &mut self.timers),
            Input::PoolDeleted(pool) => self.pools.gone(now, pool.into(), &mut self.timers),
            Input::Synced => {
                self.phase = match self.phase {
                    Phase::Blind | Phase::Synced => Phase::Synced,
                    Phase::Configured => self.start(),
                    // From then on memory is the truth.
                    Phase::Active => Phase::Active,
                }
            }
            Input::Resigned => self.resign(),
            Input::Tick => {}
        }
        self.work(now, out);
    }

    /// When to call [`Controller::handle`] again with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let has_work = !self.dirty.is_empty() || !self.opportunities.is_empty() || self.pools.has_changes();
        if has_work && self.phase == Phase::Active { Some(self.now) } else { self.timers.next_deadline() }
    }

    /// What a Service has, and from which pool, whatever its status shows at the moment.
    pub fn assignment(&self, service: &Key) -> Option<(ipam::Addresses, &PoolName)> {
        self.allocator.holding(&holder(service)).map(|holding| (holding.addresses, &holding.pool))
    }

    /// How full each pool is, by name; for the metrics of contract 8.1.
    pub fn pool_usages(&self) -> impl Iterator<Item = PoolUsage> + '_ {
        self.allocator.usages()
    }

    /// A Service of which [`Controller::complaint`] may say something else than before, until there is none.
    pub fn next_news(&mut self) -> Option<Key> {
        self.news.pop_first().map(|holder| key(&holder))
    }

    /// How many Services should have an address and have none. Costs O(n) in the number of Services.
    pub fn unassigned(&self) -> usize {
        let problems = self.services.values().filter_map(|record| record.problem.as_ref());
        problems.filter(|problem| problem.keeps.is_none()).count()
    }

    /// Counters for metrics.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The time of the last input.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// True once existing assignments are claimed and decisions are made.
    pub fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    fn configure(&mut self, config: &Config) {
        self.stats.updates = self.stats.updates.saturating_add(1);
        (self.stats.config_loaded, self.stats.config_stale) = (true, false);
        let had_pools = self.allocator.has_pools();
        let replaced = self.allocator.replace(config.pools.values().map(|pool| pool_of(pool)).collect());
        for (holder, addresses) in replaced.uncovered {
            self.lose(&holder, addresses);
            self.mark(holder);
        }
        for holder in replaced.moved {
            if let Some(record) = self.services.get_mut(&holder) {
                record.ledger.is_outdated = true;
            }
        }
        let mut concerned: BTreeSet<Holder> = BTreeSet::new();
        for pool in &replaced.changed {
            concerned.extend(self.allocator.holders(pool));
            concerned.extend(self.queue.for_pool(pool));
            for range in config.pools.get(&**pool).into_iter().flat_map(|pool| &pool.ranges) {
                concerned.extend(self.queue.for_range(range.first_address(), range.last_address()));
            }
            self.opportunities.offer_pool(&self.allocator, &self.queue, pool);
        }
        if had_pools != self.allocator.has_pools() {
            concerned.extend(self.services.keys().cloned());
        }
        for holder in concerned {
            self.mark(holder);
        }
        self.phase = match self.phase {
            Phase::Blind | Phase::Configured => Phase::Configured,
            Phase::Synced => self.start(),
            Phase::Active => Phase::Active,
        };
    }

    /// Forgets what was decided and goes back to what the cluster shows: from now on that is what another controller wrote.
    fn resign(&mut self) {
        self.phase = match self.phase {
            Phase::Blind | Phase::Synced => Phase::Blind,
            Phase::Configured | Phase::Active => Phase::Configured,
        };
        let services = std::mem::take(&mut self.services);
        for holder in services.keys() {
            // Who waits for it is asked by another one.
            let _vacancies = self.allocator.release(holder);
        }
        (self.queue, self.opportunities) = (Queue::default(), Opportunities::default());
        self.timers = TimerTable::new();
        self.dirty.clear();
        self.news.clear();
        self.pools.resign();
        for (holder, record) in services {
            let Record { uid, demand, ledger, .. } = *record;
            self.insert(holder, uid, demand, ledger.seen);
        }
    }

    /// Claims every assignment that the cluster shows before anything is given out, so that a restart moves nothing: who
    /// has most first, then by name. What nobody else holds stays where it is, even if its Service wishes another. Those
    /// without are served in the order in which they were told, which is by name where an API server lists them.
    fn start(&mut self) -> Phase {
        self.phase = Phase::Active;
        let mut assigned: Vec<(Reverse<usize>, Holder, ipam::Addresses)> = Vec::new();
        for (holder, record) in &self.services {
            if let (Demand::Serve(_), Had::Addresses(addresses)) = (&record.demand, record.ledger.seen.assignment()) {
                assigned.push((Reverse(addresses.iter().count()), holder.clone(), addresses));
            }
        }
        assigned.sort_unstable_by(|a, b| (a.0, a.1.as_str()).cmp(&(b.0, b.1.as_str())));
        let mut refused = Vec::new();
        for (_, holder, addresses) in assigned {
            let Some(Demand::Serve(ask)) = self.services.get(&holder).map(|record| &record.demand) else { continue };
            let is_allowed = ask.stack.as_ref().is_ok_and(|stack| stack.allows(&addresses));
            if !is_allowed || self.allocator.claim(&ask.client, &addresses).is_err() {
                refused.push((holder, addresses));
            }
        }
        for (holder, addresses) in refused {
            self.lose(&holder, addresses);
        }
        for holder in self.services.keys().cloned().collect::<Vec<_>>() {
            self.mark(holder);
        }
        self.phase
    }

    /// A Service cannot have these addresses any more. Whether it keeps one of two is decided, and told, when its turn
    /// comes; until then nobody else may take it.
    fn lose(&mut self, holder: &Holder, addresses: ipam::Addresses) {
        let Some(record) = self.services.get_mut(holder) else { return };
        record.lost = Some(Box::new(addresses));
        let Demand::Serve(Ask { client, stack: Ok(stack), .. }) = &record.demand else { return };
        let may_stay = |part: &ipam::Addresses| *stack == ipam::Stack::Dual || stack.allows(part);
        let mut parts = addresses.iter().map(ipam::Addresses::one).filter(may_stay);
        let _held = parts.find(|part| self.allocator.claim(client, part).is_ok());
    }

    fn service_applied(&mut self, service: Service) {
        let mut demand = Demand::of(&service, self.settings.load_balancer_class.as_deref());
        let name = || Holder::new(&service.metadata.namespace, &service.metadata.name);
        let holder = demand.holder().cloned().unwrap_or_else(name);
        let uid = service.metadata.uid.as_str().into();
        let seen = Seen::of(service, &self.allocator);
        if self.services.get(&holder).is_some_and(|record| record.uid != uid) {
            // Another Service of the same name.
            self.forget(&holder);
        }
        if let Some(record) = self.services.get_mut(&holder) {
            demand.share_with(&record.demand);
            record.demand = demand;
            record.ledger.seen = seen;
        } else {
            self.insert(holder.clone(), uid, demand, seen);
        }
        self.mark(holder);
    }

    /// A Service is new to us, if it concerns us.
    fn insert(&mut self, holder: Holder, uid: Box<str>, demand: Demand, seen: Seen) {
        let concerns_us = match demand {
            Demand::Serve(_) => true,
            Demand::Nothing(Leftovers::All) => seen.has_addresses() || seen.pool.is_some(),
            Demand::Nothing(Leftovers::Ours) => seen.pool.is_some(),
            Demand::Nothing(Leftovers::Unchanged) => false,
        };
        if concerns_us {
            let ledger = Ledger::new(seen);
            // Whoever comes first is served first, if not all can be at once.
            let ticket = Some(Box::new(self.queue.ticket()));
            let record = Record { uid, demand, ledger, lost: None, is_new: true, problem: None, ticket };
            self.services.insert(holder, Box::new(record));
        }
    }

    /// Forgets a Service and offers what it had to others.
    pub(crate) fn forget(&mut self, holder: &Holder) {
        let Some(record) = self.services.remove(holder) else { return };
        self.queue.leave(holder, record.ticket);
        self.timers.clear(&Timer::Service(holder.clone()));
        let vacancies = self.allocator.release(holder);
        self.offer(vacancies);
    }

    fn mark_namespace(&mut self, namespace: &str) {
        let before = Holder::before(namespace);
        let inside = self.services.range(&before..).map(|(holder, _)| holder);
        let inside: Vec<Holder> = inside.take_while(|holder| holder.is_beside(&before)).cloned().collect();
        for holder in inside {
            self.mark(holder);
        }
    }

    /// Has a Service looked at. At the start all are. Marking it twice, before and after its rank changed, does no harm.
    pub(crate) fn mark(&mut self, holder: Holder) {
        let Some(record) = self.services.get(&holder).filter(|_| self.phase == Phase::Active) else { return };
        let number = record.ticket.as_ref().map_or(0, |ticket| ticket.number);
        let shows_addresses = record.is_new && record.ledger.seen.has_addresses();
        let has_addresses = record.lost.is_some() || shows_addresses || self.allocator.holding(&holder).is_some();
        let rank = if has_addresses { Rank::Assigned } else { Rank::Waiting };
        self.dirty.insert(((rank, number), holder));
    }

    fn work(&mut self, now: Instant, out: &mut Outbox<Write>) {
        if self.phase != Phase::Active {
            return;
        }
        while out.room() >= OUTPUTS_PER_STEP {
            if let Some((_, holder)) = self.dirty.pop_first() {
                self.converge(now, &holder, out);
            } else if let Some(holder) = self.opportunities.next(&self.allocator, &self.queue) {
                self.converge(now, &holder, out);
            } else if let Some(timer) = self.timers.pop_expired(now) {
                self.expired(timer);
            } else {
                break;
            }
        }
        self.pools.write(now, &mut self.allocator, &self.settings.namespace, &mut self.timers, out);
    }

    fn expired(&mut self, timer: Timer) {
        match timer {
            Timer::Service(holder) => {
                if let Some(record) = self.services.get_mut(&holder) {
                    record.ledger.pause_over();
                    self.mark(holder);
                }
            }
            Timer::Pool(pool) => self.pools.pause_over(pool),
            Timer::PoolPace(pool) => self.pools.pace_over(pool),
        }
    }
}

fn pool_of(pool: &config::Pool) -> Pool {
    Pool {
        name: pool.name.as_str().into(),
        ranges: pool.ranges.clone(),
        auto_assign: pool.auto_assign,
        avoid_buggy_ips: pool.avoid_buggy_ips,
        pinning: pool.allocation.as_ref().map(|allocation| Pinning {
            priority: allocation.priority,
            namespaces: allocation.namespaces.clone(),
            namespace_selectors: allocation.namespace_selectors.clone(),
            service_selectors: allocation.service_selectors.clone(),
        }),
    }
}
