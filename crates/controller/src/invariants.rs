//! What must hold after every input, checked by recounting. For tests and the simulator.

use std::collections::BTreeSet;

use ipam::{Holder, Holding};

use crate::controller::Controller;
use crate::decide::{Had, decide};
use crate::demand::{Ask, Demand};
use crate::problem::Problem;

impl Controller {
    /// Checks the allocator ([`ipam::Allocator::check_invariants`]) and that what is known about Services agrees with it:
    /// only Services that are to be served have addresses, those are of the families they need, and whoever has none is
    /// known to have a problem. When no work is left, nobody waits who could be helped. Costs O(n), and again O(n) for
    /// each Service that does not have what it asks for.
    ///
    /// # Panics
    ///
    /// If one of that does not hold.
    pub fn check_invariants(&self) {
        self.allocator.check_invariants();
        let holders: BTreeSet<Holder> =
            self.allocator.usages().flat_map(|usage| self.allocator.holders(&usage.name)).collect();
        for holder in &holders {
            assert!(self.services.contains_key(holder), "{holder} has addresses but is not there");
        }
        let tickets = self.services.iter().filter_map(|(holder, record)| Some((holder, record.ticket.as_deref()?)));
        self.queue.check_invariants(tickets);
        if self.next_deadline().is_some_and(|deadline| deadline <= self.now()) || !self.is_active() {
            // Work is left, and what it will change may be out of step.
            return;
        }
        for (holder, record) in &self.services {
            let holding = self.allocator.holding(holder);
            match &record.demand {
                Demand::Serve(ask) => {
                    let fits = holding.is_none_or(|held| ask.stack.as_ref().is_ok_and(|s| s.allows(&held.addresses)));
                    assert!(fits, "{holder} has addresses of families it does not need: {holding:?}");
                    let is_told = holding.is_some() || record.problem.is_some();
                    assert!(is_told, "{holder} has no address, and nothing is known to be wrong");
                    let keeps = record.problem.as_ref().map(|problem| problem.keeps);
                    let agrees = keeps.is_none_or(|keeps| keeps == holding.map(|held| held.addresses));
                    assert!(agrees, "{holder} is told to keep {keeps:?} but has {holding:?}");
                    self.check_nothing_was_missed(ask, holding, record.problem.as_deref());
                }
                Demand::Nothing(_) => assert!(holding.is_none(), "{holder} is not to have {holding:?}"),
            }
        }
    }

    /// Whoever is refused would be refused again.
    fn check_nothing_was_missed(&self, ask: &Ask, holding: Option<&Holding>, problem: Option<&Problem>) {
        let Some(problem) = problem else { return };
        let had = holding.map_or(Had::Nothing, |held| Had::Addresses(held.addresses));
        let again = decide(&mut self.allocator.clone(), ask, had);
        assert!(again.gained.is_none(), "{} could have more: {again:?}, not {problem:?}", ask.client.holder);
    }
}
