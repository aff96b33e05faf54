//! What is still to come, in the order of time. What is due at one moment comes in the order in which it was planned.

use std::collections::BTreeMap;

use kit::Instant;

/// Events with the time at which they happen.
#[derive(Debug)]
pub(crate) struct Schedule<E> {
    events: BTreeMap<(Instant, u64), E>,
    planned: u64,
}

impl<E> Schedule<E> {
    pub(crate) fn new() -> Self {
        Schedule { events: BTreeMap::new(), planned: 0 }
    }

    /// Plans an event.
    pub(crate) fn plan(&mut self, at: Instant, event: E) {
        self.planned = self.planned.saturating_add(1);
        self.events.insert((at, self.planned), event);
    }

    /// When the next event is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next event.
    pub(crate) fn take(&mut self) -> Option<E> {
        self.events.pop_first().map(|(_, event)| event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_planned() {
        let mut schedule = Schedule::new();
        for (at, event) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            schedule.plan(Instant::from_micros(at), event);
        }
        assert_eq!(schedule.due(), Some(Instant::from_micros(1)));
        assert_eq!(std::iter::from_fn(|| schedule.take()).collect::<String>(), "abcd");
    }
}
