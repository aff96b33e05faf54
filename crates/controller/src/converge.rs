//! Brings one Service to where it should be: decides, writes, tells, and offers to others what it gave up.

use api::Write;
use ipam::{Holder, Holding, Vacancy};
use kit::{Instant, Outbox, TimerTable};

use crate::controller::{Controller, Record, Timer};
use crate::decide::{Decided, Had, decide};
use crate::demand::{Ask, Demand, Leftovers, key};
use crate::events::Teller;
use crate::ledger::{News, Step};
use crate::problem::{Cause, Problem};

/// Deprecated annotations of one Service that are told about at once.
const DEPRECATED_TOLD_MAX: usize = 8;

impl Controller {
    /// Looks at one Service. Nothing that goes wrong with it is of consequence for another (D17).
    pub(crate) fn converge(&mut self, now: Instant, holder: &Holder, out: &mut Outbox<Write>) {
        match self.services.get(holder).map(|record| record.demand.clone()) {
            Some(Demand::Serve(ask)) => self.serve(now, holder, &ask, out),
            Some(Demand::Nothing(leftovers)) => self.clear(now, holder, leftovers, out),
            None => {}
        }
    }

    fn serve(&mut self, now: Instant, holder: &Holder, ask: &Ask, out: &mut Outbox<Write>) {
        let had = self.had(holder);
        let Decided { cleared, gained, problem, vacancies, .. } = decide(&mut self.allocator, ask, had);
        let Some(record) = self.services.get_mut(holder) else { return };
        record.ledger.is_outdated |= record.is_new || cleared.is_some() || gained.is_some();
        record.is_new = false;
        record.lost = None;
        let holding = self.allocator.holding(holder);
        let ticket = record.ticket.take();
        if problem.as_ref().is_some_and(may_be_helped) {
            record.ticket = self.queue.enter(holding, ask, ticket);
        } else {
            self.queue.leave(holder, ticket);
        }
        let step = record.ledger.settle(now, holding);
        if step.writes() {
            out.push(status(holder, record, holding));
        }
        let teller = Teller { holder, uid: &record.uid };
        let mut tell = |event| out.push(Write::Event(event));
        cleared.iter().map(|cleared| teller.cleared(cleared)).for_each(&mut tell);
        gained.iter().map(|gained| teller.gained(gained)).for_each(&mut tell);
        let news = problem.as_ref().filter(|problem| record.problem.as_deref() != Some(problem));
        news.and_then(|problem| teller.problem(&self.allocator, ask, problem)).into_iter().for_each(&mut tell);
        if matches!(step, Step::Write(_)) {
            let deprecated = ask.deprecated().iter().take(DEPRECATED_TOLD_MAX);
            deprecated.map(|annotation| teller.deprecated(annotation)).for_each(&mut tell);
        }
        if let Step::Restore(_, News::Fresh) | Step::Pause(_, News::Fresh) = step {
            tell(teller.overwritten(&record.ledger.seen, holding));
        }
        if let Step::Leave(_, News::Fresh) = step {
            tell(teller.left_alone(&record.ledger.seen, holding));
        }
        look_again(&mut self.timers, holder, step);
        let is_error = problem.as_ref().is_some_and(|problem| problem.keeps.is_none());
        if record.problem.as_deref() != problem.as_ref() {
            self.news.insert(holder.clone());
        }
        record.problem = problem.map(Box::new);
        self.count(step, is_error);
        self.offer(vacancies);
    }

    /// What a Service has: what we gave it, or had to take from it, or what its status showed before we came.
    fn had(&self, holder: &Holder) -> Had {
        let Some(record) = self.services.get(holder) else { return Had::Nothing };
        match (&record.lost, self.allocator.holding(holder)) {
            (Some(lost), _) => Had::Addresses(**lost),
            (None, Some(holding)) => Had::Addresses(holding.addresses),
            (None, None) if record.is_new => record.ledger.seen.assignment(),
            (None, None) => Had::Nothing,
        }
    }

    /// Takes away what a Service has that is not to have anything from us, and clears its status as far as it is ours
    /// (D16). Then it is forgotten.
    fn clear(&mut self, now: Instant, holder: &Holder, leftovers: Leftovers, out: &mut Outbox<Write>) {
        let Some(record) = self.services.get_mut(holder) else { return };
        let had = self.allocator.holding(holder);
        let is_remembered = had.is_some() || record.lost.is_some();
        let shows_ours = had.is_some() && record.ledger.seen.shows(had);
        let vacancies = self.allocator.release(holder);
        self.queue.leave(holder, record.ticket.take());
        if record.problem.take().is_some() {
            self.news.insert(holder.clone());
        }
        record.lost = None;
        let is_new = std::mem::take(&mut record.is_new);
        let is_ours = match leftovers {
            Leftovers::All => true,
            Leftovers::Ours => is_remembered || record.ledger.seen.pool.is_some(),
            Leftovers::Unchanged => shows_ours,
        };
        record.ledger.is_outdated |= is_remembered || (is_new && record.ledger.seen.pool.is_some());
        let step = if is_ours { record.ledger.settle(now, None) } else { Step::Settled };
        if step.writes() {
            out.push(status(holder, record, None));
        }
        let teller = Teller { holder, uid: &record.uid };
        if let Step::Restore(_, News::Fresh) | Step::Pause(_, News::Fresh) = step {
            out.push(Write::Event(teller.overwritten(&record.ledger.seen, None)));
        }
        if let Step::Leave(_, News::Fresh) = step {
            out.push(Write::Event(teller.left_alone(&record.ledger.seen, None)));
        }
        look_again(&mut self.timers, holder, step);
        match record.ledger.unsettled_until(now) {
            _ if leftovers == Leftovers::Unchanged => self.forget(holder),
            Some(until) if step == Step::Settled => self.timers.set(Timer::Service(holder.clone()), until),
            None if step == Step::Settled => self.forget(holder),
            Some(_) | None => {}
        }
        self.count(step, false);
        self.offer(vacancies);
    }

    /// Offers to those who wait what they may have now.
    pub(crate) fn offer(&mut self, vacancies: Vec<Vacancy>) {
        for vacancy in vacancies.into_iter().filter(|_| !self.queue.is_empty()) {
            self.opportunities.offer(vacancy);
        }
    }

    fn count(&mut self, step: Step, is_error: bool) {
        self.stats.updates = self.stats.updates.saturating_add(1);
        self.stats.update_errors = self.stats.update_errors.saturating_add(u64::from(is_error));
        let is_restored = matches!(step, Step::Restore(..));
        self.stats.statuses_restored = self.stats.statuses_restored.saturating_add(u64::from(is_restored));
    }
}

/// True when something that others do may solve the problem. The rest only a change of the Service can.
fn may_be_helped(problem: &Problem) -> bool {
    match problem.cause {
        Cause::NoPools | Cause::Refused(_) | Cause::NoSecondAddress(_) => true,
        Cause::NoClusterIp | Cause::NotEnoughClusterIps(_) | Cause::ClusterIpFamilies(_) | Cause::Malformed(_) => false,
    }
}

fn status(holder: &Holder, record: &Record, holding: Option<&Holding>) -> Write {
    Write::ServiceStatus {
        service: key(holder),
        uid: record.uid.to_string(),
        ingress: record.ledger.seen.with(holding),
        pool: holding.map(|holding| holding.pool.to_string()),
    }
}

fn look_again(timers: &mut TimerTable<Timer>, holder: &Holder, step: Step) {
    let timer = Timer::Service(holder.clone());
    match step {
        Step::Write(at) | Step::Repeat(at) | Step::Restore(at, _) | Step::Pause(at, _) | Step::Leave(at, _) => {
            timers.set(timer, at);
        }
        Step::Settled => timers.clear(&timer),
        Step::Wait => {}
    }
}
