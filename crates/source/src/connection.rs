//! How a source is: whether it can be reached, since when, and which kinds are still missing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use api::Kind;
use jiff::Timestamp;
use tokio::sync::watch;

/// Whether the source can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Nothing was heard yet, neither good nor bad.
    Connecting,
    /// It answers.
    Up,
    /// It does not answer. What is known stays in force.
    Down,
}

/// How a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Whether it can be reached.
    pub state: ConnectionState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// The last error, in words; none while all is well.
    pub error: Option<String>,
    /// The kinds that have not been listed yet, each with the reason if there is one. [`crate::Change::Synced`] comes
    /// when this is empty.
    pub missing: BTreeMap<Kind, Option<String>>,
}

impl fmt::Display for Connection {
    /// A line for people: `down since 2026-11-22T13:00:00Z: connection refused; waiting for Service, Node`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            ConnectionState::Connecting => "connecting",
            ConnectionState::Up => "up",
            ConnectionState::Down => "down",
        };
        write!(f, "{state} since {}", self.since)?;
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        for (n, (kind, reason)) in self.missing.iter().enumerate() {
            f.write_str(if n == 0 { "; waiting for " } else { ", " })?;
            match reason {
                Some(reason) => write!(f, "{kind} ({reason})")?,
                None => write!(f, "{kind}")?,
            }
        }
        Ok(())
    }
}

/// Where the readers of the kinds report; makes one [`Connection`] of it.
///
/// The source is down while at least one kind gets no answer: with one server behind all kinds, that one is telling.
#[derive(Debug)]
pub(crate) struct Reporter {
    sender: watch::Sender<Connection>,
    unreachable: Mutex<BTreeMap<Kind, String>>,
}

impl Reporter {
    pub(crate) fn new(kinds: &[Kind], now: Timestamp) -> (Reporter, watch::Receiver<Connection>) {
        let (sender, receiver) = watch::channel(Connection {
            state: ConnectionState::Connecting,
            since: now,
            error: None,
            missing: kinds.iter().map(|kind| (*kind, None)).collect(),
        });
        (Reporter { sender, unreachable: Mutex::default() }, receiver)
    }

    /// The reader of this kind got an answer, of whatever content.
    pub(crate) fn answered(&self, kind: Kind, now: Timestamp) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        unreachable.remove(&kind);
        let error = unreachable.values().next().cloned();
        self.set(if error.is_some() { ConnectionState::Down } else { ConnectionState::Up }, error, now);
    }

    /// The reader of this kind got no answer.
    pub(crate) fn unreachable(&self, kind: Kind, error: String, now: Timestamp) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        unreachable.insert(kind, error.clone());
        self.set(ConnectionState::Down, Some(error), now);
    }

    /// This kind cannot be listed, for this reason.
    pub(crate) fn not_listed(&self, kind: Kind, reason: &str) {
        self.sender.send_if_modified(|connection| match connection.missing.get_mut(&kind) {
            Some(known) if known.as_deref() != Some(reason) => {
                *known = Some(reason.to_owned());
                true
            }
            _ => false,
        });
    }

    /// This kind has been listed. True for the one call that finds no other kind missing: the moment of
    /// [`crate::Change::Synced`].
    pub(crate) fn listed(&self, kind: Kind) -> bool {
        let mut is_last = false;
        self.sender.send_if_modified(|connection| {
            let was_missing = connection.missing.remove(&kind).is_some();
            is_last = was_missing && connection.missing.is_empty();
            was_missing
        });
        is_last
    }

    fn set(&self, state: ConnectionState, error: Option<String>, now: Timestamp) {
        self.sender.send_if_modified(|connection| {
            if connection.state != state {
                connection.since = now;
                let error = error.as_deref().unwrap_or_default();
                match (connection.state, state) {
                    (ConnectionState::Connecting, ConnectionState::Down) => {
                        tracing::warn!(error, "cannot reach the source of objects; waiting for it");
                    }
                    (_, ConnectionState::Down) => {
                        tracing::warn!(error, "lost the source of objects; what is known stays in force");
                    }
                    (_, ConnectionState::Up | ConnectionState::Connecting) => {
                        tracing::info!("reached the source of objects");
                    }
                }
            } else if connection.error == error {
                return false;
            }
            connection.state = state;
            connection.error = error;
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn down_while_one_kind_gets_no_answer() {
        let (reporter, connection) = Reporter::new(&[Kind::Service, Kind::Node], at(0));
        assert_eq!(connection.borrow().to_string(), "connecting since 1970-01-01T00:00:00Z; waiting for Service, Node");
        reporter.answered(Kind::Service, at(1));
        assert!(!reporter.listed(Kind::Service));
        assert_eq!(connection.borrow().to_string(), "up since 1970-01-01T00:00:01Z; waiting for Node");
        reporter.unreachable(Kind::Node, "connection refused".to_owned(), at(2));
        reporter.answered(Kind::Service, at(3));
        assert_eq!(
            connection.borrow().to_string(),
            "down since 1970-01-01T00:00:02Z: connection refused; waiting for Node"
        );
        reporter.answered(Kind::Node, at(4));
        reporter.not_listed(Kind::Node, "the server does not know the kind");
        assert_eq!(
            connection.borrow().to_string(),
            "up since 1970-01-01T00:00:04Z; waiting for Node (the server does not know the kind)"
        );
        assert!(reporter.listed(Kind::Node));
        assert!(!reporter.listed(Kind::Node), "Synced comes once");
        assert_eq!(connection.borrow().to_string(), "up since 1970-01-01T00:00:04Z");
    }

    #[test]
    fn readers_are_woken_by_differences_only() {
        let (reporter, mut connection) = Reporter::new(&[Kind::Node], at(0));
        reporter.answered(Kind::Node, at(1));
        assert!(connection.has_changed().unwrap());
        connection.mark_unchanged();
        reporter.answered(Kind::Node, at(2));
        assert!(!connection.has_changed().unwrap());
        reporter.unreachable(Kind::Node, "reset".to_owned(), at(3));
        connection.mark_unchanged();
        reporter.unreachable(Kind::Node, "reset".to_owned(), at(4));
        assert!(!connection.has_changed().unwrap());
    }
}
