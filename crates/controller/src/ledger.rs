//! The status that the cluster shows for one Service, against what it should show.
//!
//! A status that differs is not always somebody else's doing: our own write may still be on its way, or an older one
//! may arrive late. Only what we neither wrote nor saw before we wrote is foreign, and then it is set back with growing
//! pauses; and somebody who insists is left alone, but for one write in ten minutes that finds out whether it still does: two
//! load balancers that both serve a Service must not keep the API server busy, or make its address flap.

use std::borrow::Cow;
use std::net::IpAddr;

use api::core::{Ingress, Service};
use ipam::{Addresses, Allocator, Holding, PoolName};
use kit::{Duration, Instant};

use crate::decide::Had;
use crate::demand::address;

/// The pause before a foreign status is set back again; doubles each time.
pub(crate) const RESTORE_PAUSE: Duration = Duration::from_secs(1);
/// A status that was set back this often in a row is left alone.
const RESTORES_MAX: u32 = 5;
/// The longest such pause.
pub(crate) const RESTORE_PAUSE_MAX: Duration = Duration::from_secs(300);
/// After this time without a foreign status the next one is set back at once.
pub(crate) const CALM: Duration = Duration::from_secs(600);
/// After this time a write that was not seen to arrive is repeated; doubles each time. Whoever writes tries again by
/// itself while the API server is away; this is for what it gave up, and for what arrived and was overwritten unseen.
pub(crate) const REPEAT_PAUSE: Duration = Duration::from_secs(60);
/// The longest such pause.
const REPEAT_PAUSE_MAX: Duration = Duration::from_secs(900);
/// The mode of an address that the API server fills in.
const VIP: &str = "VIP";
/// How many statuses from before our newest write are remembered; an older one counts as foreign and is looked at again.
const IN_FLIGHT_MAX: usize = 8;

/// Remembers this as the newest, and forgets the oldest if there are too many.
pub(crate) fn remember<T: PartialEq>(memory: &mut Vec<T>, newest: T) {
    memory.retain(|one| *one != newest);
    if memory.len() >= IN_FLIGHT_MAX {
        memory.remove(0);
    }
    memory.push(newest);
}

/// A status as the cluster shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    entries: Box<[Entry]>,
    /// The annotation that names the pool.
    pub(crate) pool: Option<PoolName>,
    /// Who wrote the list, if the API server knows.
    pub(crate) writer: Box<str>,
}

/// An entry of the list. There are as many as Services, and nearly all are one of the first two.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// An address, written as everybody writes it, and nothing else.
    Address(IpAddr),
    /// The same with the mode that the API server fills in.
    Vip(IpAddr),
    /// Anything else.
    Other(Box<Ingress>),
}

impl Entry {
    fn of(entry: Ingress) -> Self {
        let plain = match &entry {
            Ingress { ip: Some(ip), hostname: None, ip_mode, ports: None } => {
                let written_so = |address: &IpAddr| address.to_string() == *ip;
                address(ip).filter(written_so).map(|address| (address, ip_mode.as_deref()))
            }
            Ingress { .. } => None,
        };
        match plain {
            Some((address, None)) => Entry::Address(address),
            Some((address, Some(VIP))) => Entry::Vip(address),
            Some((_, Some(_))) | None => Entry::Other(Box::new(entry)),
        }
    }

    fn ingress(&self) -> Ingress {
        match self {
            Entry::Address(address) => Ingress { ip: Some(address.to_string()), ..Ingress::default() },
            Entry::Vip(address) => {
                Ingress { ip: Some(address.to_string()), ip_mode: Some(VIP.to_owned()), ..Ingress::default() }
            }
            Entry::Other(other) => (**other).clone(),
        }
    }

    /// The address as it is written; an entry that only has a name has none.
    fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Entry::Address(address) | Entry::Vip(address) => Some(address.to_string().into()),
            Entry::Other(other) => other.ip.as_deref().filter(|text| !text.is_empty()).map(Cow::Borrowed),
        }
    }

    /// The address; `None` for a text that is none, and for an entry without.
    fn address(&self) -> Option<IpAddr> {
        match self {
            Entry::Address(address) | Entry::Vip(address) => Some(*address),
            Entry::Other(other) => other.ip.as_deref().and_then(address),
        }
    }

    fn has_text(&self) -> bool {
        !matches!(self, Entry::Other(other) if other.ip.as_deref().is_none_or(str::is_empty))
    }
}

impl Seen {
    /// The status of a Service. Names of pools that are known are shared with the allocator.
    pub(crate) fn of(mut service: Service, allocator: &Allocator) -> Self {
        let pool = service.metadata.annotations.remove(api::ALLOCATED_FROM_POOL);
        let entries = service.status.load_balancer.ingress.into_iter().map(Entry::of).collect();
        let pool = pool.map(|pool| allocator.pool_name(&pool).cloned().unwrap_or_else(|| pool.into()));
        Seen { entries, pool, writer: service.metadata.ingress_writer.into() }
    }

    /// True when there is an address in it, or something in the place of one.
    pub(crate) fn has_addresses(&self) -> bool {
        self.entries.iter().any(Entry::has_text)
    }

    /// The addresses; `None` for what is written as one but is none.
    fn addresses(&self) -> impl Iterator<Item = Option<IpAddr>> + '_ {
        self.entries.iter().filter(|entry| entry.has_text()).map(Entry::address)
    }

    /// The assignment that it stands for.
    pub(crate) fn assignment(&self) -> Had {
        let addresses: Option<Vec<IpAddr>> = self.addresses().collect();
        match addresses.as_deref() {
            Some([]) => Had::Nothing,
            Some(list) => Addresses::from_list(list).map_or_else(|| Had::Garbage(self.list()), Had::Addresses),
            None => Had::Garbage(self.list()),
        }
    }

    /// The addresses as Go prints them: `["10.0.0.1" "fc00::1"]`.
    fn list(&self) -> String {
        let quoted: Vec<String> = self.entries.iter().filter_map(Entry::text).map(|text| format!("{text:?}")).collect();
        format!("[{}]", quoted.join(" "))
    }

    /// The part that is ours, for people.
    pub(crate) fn text(&self) -> String {
        match &self.pool {
            Some(pool) => format!("{} from pool {pool:?}", self.list()),
            None => format!("{} from no pool", self.list()),
        }
    }

    /// True when it is exactly what this Service should show: these addresses in this order, from this pool. Modes,
    /// ports and names beside them are other writers' (D8).
    pub(crate) fn shows(&self, holding: Option<&Holding>) -> bool {
        let mut shown = self.addresses();
        let mut wanted = holding.into_iter().flat_map(|holding| holding.addresses.iter());
        let same_addresses =
            wanted.by_ref().all(|address| shown.next() == Some(Some(address))) && shown.next().is_none();
        same_addresses && self.pool.as_deref() == holding.map(|holding| &*holding.pool)
    }

    /// The status that shows this assignment and leaves alone what others wrote into it (D8).
    pub(crate) fn with(&self, holding: Option<&Holding>) -> Vec<Ingress> {
        let addresses = holding.map_or(0, |holding| holding.addresses.iter().count());
        // No room to spare: thousands of these wait to be written when a controller starts.
        let mut ingress = Vec::with_capacity(self.entries.len().saturating_add(addresses));
        for wanted in holding.into_iter().flat_map(|holding| holding.addresses.iter()) {
            let present = self.entries.iter().find(|entry| entry.address() == Some(wanted));
            let new = || Ingress { ip: Some(wanted.to_string()), ..Ingress::default() };
            ingress.push(present.map_or_else(new, Entry::ingress));
        }
        ingress.extend(self.entries.iter().filter(|entry| !entry.has_text()).map(Entry::ingress));
        ingress
    }
}

/// The part of a status that is ours: the addresses as listed, and the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    addresses: String,
    pool: Option<PoolName>,
}

impl Shown {
    fn is_vacant(&self) -> bool {
        self.addresses == "[]"
    }

    fn in_status(seen: &Seen) -> Self {
        Shown { addresses: seen.list(), pool: seen.pool.clone() }
    }

    fn of(holding: Option<&Holding>) -> Self {
        Shown {
            addresses: holding.map_or_else(|| "[]".to_owned(), |holding| holding.addresses.to_string()),
            pool: holding.map(|holding| holding.pool.clone()),
        }
    }
}

/// What is known about the status of one Service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// What the cluster showed last.
    pub(crate) seen: Seen,
    /// The assignment is another one than when the status was written last.
    pub(crate) is_outdated: bool,
    /// What the cluster may show until our newest write is there; empty when nothing is on its way.
    in_flight: Box<[Shown]>,
    /// The newest write, until it is seen to have arrived: whatever is shown now, this will be shown next.
    newest: Option<Box<Shown>>,
    /// What may still pass by although something newer seems to have arrived.
    echoes: Option<Box<Echoes>>,
    /// How often the newest write was repeated.
    repeated: u32,
    /// A pause is over.
    is_due: bool,
    contest: Option<Box<Contest>>,
}

/// Earlier writes of ours. A status that was right, was changed and is right again is seen twice; who takes the first
/// time for the second must not take what comes between for somebody else's.
#[derive(Clone, Debug)]
struct Echoes {
    written: Vec<Shown>,
    until: Instant,
}

/// Somebody else writes the status too.
#[derive(Clone, Debug)]
struct Contest {
    /// How often it was set back since the last calm.
    restored: u32,
    last: Instant,
    /// The foreign status that was told about.
    told: Option<Shown>,
    /// The foreign status that is left alone.
    left: Option<Shown>,
    /// Since when the status has been right again.
    right_since: Option<Instant>,
}

/// What to do about a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is right.
    Settled,
    /// It will be right when our write arrives.
    Wait,
    /// It has to be written, since the assignment changed, and looked at again at this time.
    Write(Instant),
    /// It was written, but did not arrive: write it again, and look again at this time.
    Repeat(Instant),
    /// It is foreign: write it, and look again at this time.
    Restore(Instant, News),
    /// It is foreign, but was set back a moment ago: look again at this time.
    Pause(Instant, News),
    /// It is foreign, and whoever wrote it insists: leave it alone until this time.
    Leave(Instant, News),
}

impl Step {
    /// True when the status has to be written.
    pub(crate) const fn writes(self) -> bool {
        matches!(self, Step::Write(_) | Step::Repeat(_) | Step::Restore(..))
    }
}

/// Whether a foreign status was told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It has to be.
    Fresh,
    /// It was.
    Stale,
}

impl Ledger {
    /// The status of a Service that is new to us.
    pub(crate) fn new(seen: Seen) -> Self {
        Ledger { seen, ..Ledger::default() }
    }

    /// What to do about the status, given what it should show.
    pub(crate) fn settle(&mut self, now: Instant, holding: Option<&Holding>) -> Step {
        let (is_outdated, is_due) = (std::mem::take(&mut self.is_outdated), std::mem::take(&mut self.is_due));
        // What is shown may be right and yet about to be overwritten, by a write of ours that is no longer meant.
        let is_superseded = self.newest.as_ref().is_some_and(|newest| **newest != Shown::of(holding));
        if self.seen.shows(holding) && !is_superseded {
            self.in_flight = Box::default();
            self.newest = None;
            self.repeated = 0;
            self.forget_echoes(now, &Shown::of(holding));
            if let Some(contest) = &mut self.contest {
                contest.right_since.get_or_insert(now);
            }
            return Step::Settled;
        }
        if is_outdated || self.seen.shows(holding) {
            self.expect(now, holding);
            self.repeated = 0;
            return Step::Write(now + REPEAT_PAUSE);
        }
        let shown = Shown::in_status(&self.seen);
        match self.echo_until(now, &shown) {
            Some(until) if self.newest.is_none() => return Step::Pause(until, News::Stale),
            // It did not pass by. It may be somebody else's, or ours, when a status from before it was taken for its arrival:
            // then nobody insists, and there is no hurry.
            None if is_due
                && self.newest.is_none()
                && self.was_written(&shown)
                && self.contested_until(now).is_none() =>
            {
                return match self.contest(now, holding) {
                    Step::Restore(_, news) => Step::Restore(now + REPEAT_PAUSE, news),
                    step => step,
                };
            }
            None if !self.in_flight.contains(&shown) => return self.contest(now, holding),
            Some(_) | None => {}
        }
        match (is_due, self.contested_until(now)) {
            (false, _) => Step::Wait,
            (true, Some(_)) => self.contest(now, holding),
            (true, None) => {
                self.repeated = self.repeated.saturating_add(1);
                Step::Repeat(now + doubled(REPEAT_PAUSE, self.repeated).min(REPEAT_PAUSE_MAX))
            }
        }
    }

    /// The pause is over: what is shown now counts, even if it could be an old status.
    pub(crate) fn pause_over(&mut self) {
        self.is_due = true;
    }

    /// Until when a foreign status is set back with pauses; `None` when all is calm.
    pub(crate) fn contested_until(&self, now: Instant) -> Option<Instant> {
        self.contest.as_ref().map(|contest| contest.last + CALM).filter(|until| now < *until)
    }

    /// Until when a status that is right may turn out not to be: somebody else wrote it, or a write of ours may pass by.
    pub(crate) fn unsettled_until(&self, now: Instant) -> Option<Instant> {
        let echoes = self.echoes.as_ref().map(|echoes| echoes.until).filter(|until| now < *until);
        self.contested_until(now).max(echoes)
    }

    fn contest(&mut self, now: Instant, holding: Option<&Holding>) -> Step {
        let contest = self.contest.get_or_insert_with(|| {
            Box::new(Contest { restored: 0, last: now, told: None, left: None, right_since: None })
        });
        let shown = Shown::in_status(&self.seen);
        let has_gone = shown.is_vacant() && contest.left.as_ref().is_some_and(|left| !left.is_vacant());
        let was_right = contest.right_since.take().is_some_and(|since| now.since(since) >= CALM);
        let is_calm = now.since(contest.last) >= CALM;
        if has_gone || was_right || (is_calm && contest.left.is_none()) {
            (contest.restored, contest.told, contest.left) = (0, None, None);
        } else if is_calm {
            // One write finds out whether it is still insisted on.
            contest.restored = RESTORES_MAX.saturating_sub(1);
        } else if contest.left.as_ref() == Some(&shown) {
            return Step::Leave(contest.last + CALM, News::Stale);
        }
        let shown = Some(shown);
        let news = if contest.told == shown { News::Stale } else { News::Fresh };
        contest.told = shown;
        let due = contest.last + pause(contest.restored);
        if now < due {
            return Step::Pause(due, news);
        }
        if contest.restored >= RESTORES_MAX {
            let is_news = contest.left.is_none();
            contest.left.clone_from(&contest.told);
            let step = Step::Leave(contest.last + CALM, if is_news { News::Fresh } else { News::Stale });
            // What is shown is not on its way to what should be.
            (self.in_flight, self.newest) = (Box::default(), None);
            return step;
        }
        contest.restored = contest.restored.saturating_add(1);
        contest.last = now;
        let again = now + pause(contest.restored);
        self.expect(now, holding);
        Step::Restore(again, news)
    }

    /// A write goes out. Until it arrives, the cluster may show what it shows now and what was written before.
    fn expect(&mut self, now: Instant, written: Option<&Holding>) {
        let mut in_flight = std::mem::take(&mut self.in_flight).into_vec();
        for shown in [Shown::in_status(&self.seen), Shown::of(written)] {
            remember(&mut in_flight, shown);
        }
        self.in_flight = in_flight.into();
        let written = Shown::of(written);
        self.newest = Some(Box::new(written.clone()));
        let echoes = self.echoes.get_or_insert_with(|| Box::new(Echoes { written: Vec::new(), until: now }));
        echoes.until = now + REPEAT_PAUSE;
        remember(&mut echoes.written, written);
    }

    /// Until when this may be an earlier write of ours that passes by; `None` if it is not.
    fn echo_until(&self, now: Instant, shown: &Shown) -> Option<Instant> {
        let echoes = self.echoes.as_ref().filter(|echoes| now < echoes.until && echoes.written.contains(shown))?;
        Some(echoes.until)
    }

    /// Whether this was a write of ours, lately or before that and not forgotten.
    fn was_written(&self, shown: &Shown) -> bool {
        self.echoes.as_ref().is_some_and(|echoes| echoes.written.contains(shown))
    }

    /// Forgets them when their time is over, and when what is shown is all that was written lately: so it is with most
    /// Services.
    fn forget_echoes(&mut self, now: Instant, shown: &Shown) {
        self.echoes.take_if(|echoes| now >= echoes.until || echoes.written.iter().all(|written| written == shown));
    }
}

/// The pause after something was set back this often.
pub(crate) fn pause(restored: u32) -> Duration {
    match restored.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => doubled(RESTORE_PAUSE, doublings).min(RESTORE_PAUSE_MAX),
    }
}

fn doubled(pause: Duration, times: u32) -> Duration {
    pause.times(1u64.checked_shl(times).unwrap_or(u64::MAX))
}
