//! What happened, line by line, for the reader of a failure.

use kit::Instant;

/// Lines with their time. Writing them costs more than what they tell about, so it has to be asked for.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps what is said.
    pub(crate) fn kept() -> Self {
        Trace { lines: Some(Vec::new()) }
    }

    /// Says a line.
    pub(crate) fn say(&mut self, now: Instant, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let millis = now.since(Instant::ZERO).as_millis();
            lines.push(format!("{:>6}.{:03} {}", millis / 1000, millis % 1000, line()));
        }
    }

    /// What was said so far.
    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
