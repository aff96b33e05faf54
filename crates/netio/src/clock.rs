//! The one place where a monotonic clock is read.

use kit::{Duration, Instant};

/// The driver's clock: microseconds since it was made, as the cores want them.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock that starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "this is the place that the lint points to")]
    pub fn start() -> Self {
        Clock { origin: std::time::Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        Instant::ZERO + Duration::from(self.origin.elapsed())
    }

    /// The time of a core's deadline as tokio's timers want it.
    pub fn deadline(&self, deadline: Instant) -> tokio::time::Instant {
        let at = self.origin.checked_add(std::time::Duration::from_micros(deadline.as_micros()));
        tokio::time::Instant::from_std(at.unwrap_or(self.origin))
    }

    /// Waits until a core's deadline; forever if there is none. One that has come already is not slept for, but lets
    /// other tasks run: a timer of tokio takes a millisecond or two at least, and work that is done in parts would take as
    /// long for each of them.
    pub async fn sleep_until(&self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) if deadline <= self.now() => tokio::task::yield_now().await,
            Some(deadline) => tokio::time::sleep_until(self.deadline(deadline)).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_has_come_needs_no_timer() {
        // A runtime without timers: whoever wants to sleep in it panics.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let clock = Clock::start();
        runtime.block_on(clock.sleep_until(Some(Instant::ZERO)));
        runtime.block_on(clock.sleep_until(Some(clock.now())));
    }
}
