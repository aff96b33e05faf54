//! Something keeps this node from announcing, or does no longer: who is told, and what is decided anew. What that may be
//! is in `hindrance.rs`, how it is found in `fitness.rs`.

use kit::{Instant, Labels, Outbox};

use super::{Output, Speaker};
use crate::fitness::Outcome;
use crate::hindrance::Hindrances;

impl Speaker {
    /// What keeps this node from announcing, as the others are told.
    pub fn hindrances(&self) -> &Hindrances {
        self.fitness.told()
    }

    /// Looks at what is known of this node's interfaces and routes, once there is a configuration to look for.
    pub(super) fn assess(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let Some(config) = &self.config else { return };
        let nowhere = Labels::default();
        let labels = self.nodes.get(&self.options.node).map_or(&nowhere, |facts| &facts.labels);
        let outcome = self.fitness.assess(now, config, labels);
        if outcome == Outcome::Told {
            // The others before anything is handed over to them.
            out.push(Output::State(self.fitness.told().clone()));
        }
        if outcome != Outcome::Same {
            self.dirty.extend(self.services.keys().cloned());
        }
    }
}
