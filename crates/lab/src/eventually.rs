//! Waiting for what must come.

use std::thread;

use anyhow::{Result, anyhow};
use kit::Duration;
use netio::clock::Clock;

/// The pause between two looks, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Looks again and again until `look` succeeds, and gives back what it saw.
///
/// After `limit` it fails with what `look` said last: let that say what was seen, not only that it was wrong. Limits
/// should be generous; they cost nothing while things work.
pub fn eventually<T>(limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let clock = Clock::start();
    let deadline = clock.now() + limit;
    let mut pause = PAUSE_FIRST;
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(error) if clock.now() >= deadline => return Err(anyhow!("not within {limit}: {error:#}")),
            Err(_) => thread::sleep(pause.into()),
        }
        pause = pause.times(2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn what_was_seen_last_is_told_when_time_is_up() {
        let mut looks = 0;
        let outcome: Result<()> = eventually(Duration::from_millis(20), || {
            looks += 1;
            bail!("look {looks}")
        });
        assert_eq!(outcome.unwrap_err().to_string(), format!("not within 20ms: look {looks}"));
        assert!(looks > 1);
    }

    #[test]
    fn the_first_success_is_given_back() {
        let mut left = 3;
        let seen = eventually(Duration::from_secs(60), || {
            left -= 1;
            if left == 0 { Ok("seen") } else { bail!("not yet") }
        });
        assert_eq!(seen.unwrap(), "seen");
    }
}
