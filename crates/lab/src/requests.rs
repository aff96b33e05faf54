//! A client that asks a Service at a steady rate, and what became of its requests.
//!
//! Requests begin on a grid of time that does not wait for answers, so an outage is known to within one step of the grid.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use kit::{Duration, Instant};
use netio::clock::Clock;
use tokio::net::UdpSocket;

use crate::backend::Answer;
use crate::{Host, Task, http};

/// How many requests may be under way; one more counts as failed.
const IN_FLIGHT_MAX: usize = 1_000;

/// How often to ask, and how long to wait for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between the beginnings of two requests.
    pub every: Duration,
    /// After this a request has failed. Less than a second: the kernel sends a lost SYN again after that.
    pub timeout: Duration,
}

/// A request that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it began, on the clock that the stream was given.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

impl Record {
    /// Whether a backend answered.
    pub fn is_answered(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(_))
    }

    /// Whether its connection was cut by somebody who did not know it, as by a node to which its packets go in the middle of it.
    pub fn is_reset(&self) -> bool {
        matches!(&self.outcome, Outcome::Failed(reason) if reason.contains("Connection reset by peer"))
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A backend answered.
    Answered(Answer),
    /// Nobody did, for this reason.
    Failed(String),
}

/// A time of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outage {
    /// When the first request began that failed.
    pub from: Instant,
    /// When the first request after that succeeded; when the last one failed, if none did. A request that begins while
    /// nobody answers can still succeed, when its first packet waits for a neighbour entry.
    pub to: Instant,
}

impl Outage {
    /// How long it lasted.
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }
}

/// Requests that go on until this is stopped or dropped.
#[derive(Debug)]
pub struct RequestStream {
    records: Arc<Mutex<Vec<Record>>>,
    timeout: Duration,
    host: Host,
    task: Task<()>,
}

impl RequestStream {
    /// Begins to ask a Service from a host.
    pub fn start(host: &Host, service: SocketAddr, pace: Pace, clock: Clock) -> Result<RequestStream> {
        let records = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&records);
        let task = host.start_task("request stream", async move || {
            let mut ticks = tokio::time::interval(pace.every.into());
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let begun = clock.now();
                let shared = Arc::clone(&shared);
                if Arc::strong_count(&shared) > IN_FLIGHT_MAX {
                    let outcome = Outcome::Failed(format!("{IN_FLIGHT_MAX} requests are under way already"));
                    record(&shared, Record { begun, took: Duration::ZERO, outcome });
                    continue;
                }
                tokio::task::spawn_local(async move {
                    let outcome = ask(service, pace.timeout).await;
                    let outcome = outcome.map_or_else(|error| Outcome::Failed(format!("{error:#}")), Outcome::Answered);
                    record(&shared, Record { begun, took: clock.now().since(begun), outcome });
                });
            }
        })?;
        Ok(RequestStream { records, timeout: pace.timeout, host: host.clone(), task })
    }

    /// The requests that are over, in the order in which they began.
    pub fn records(&self) -> Vec<Record> {
        let mut records = self.records.lock().map(|records| records.clone()).unwrap_or_default();
        records.sort_by_key(|record| record.begun);
        records
    }

    /// Begins no more requests, waits for those under way, and gives back all.
    pub fn stop(self) -> Result<Vec<Record>> {
        let RequestStream { records, timeout, host, task } = self;
        drop(task);
        let under_way = Arc::clone(&records);
        host.run(async move || {
            let over = async {
                // One is ours, one the caller's.
                while Arc::strong_count(&under_way) > 2 {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            };
            // Each request has a limit of its own; this one is for a machine that is very busy.
            tokio::time::timeout(timeout.times(10).into(), over).await.context("requests do not end")
        })?;
        let mut records = records.lock().map(|records| records.clone()).unwrap_or_default();
        records.sort_by_key(|record| record.begun);
        Ok(records)
    }
}

fn record(records: &Mutex<Vec<Record>>, record: Record) {
    if let Ok(mut records) = records.lock() {
        records.push(record);
    }
}

/// Asks a Service once, from inside a host.
async fn ask(service: SocketAddr, limit: Duration) -> Result<Answer> {
    let answer = tokio::time::timeout(limit.into(), http::request(service, "GET", "/", None)).await;
    Answer::parse(&answer.with_context(|| format!("no answer within {limit}"))??.body)
}

impl Host {
    /// Asks a Service once.
    pub fn ask(&self, service: SocketAddr, limit: Duration) -> Result<Answer> {
        self.run(async move || ask(service, limit).await)
    }

    /// Asks a Service once over UDP, with one packet.
    pub fn ask_udp(&self, service: SocketAddr, limit: Duration) -> Result<Answer> {
        self.run(async move || {
            let any: IpAddr =
                if service.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(service).await?;
            socket.send(b"?").await?;
            let mut answer = [0; 2048];
            let received = tokio::time::timeout(limit.into(), socket.recv(&mut answer)).await;
            let length = received.with_context(|| format!("no answer within {limit}"))??;
            Answer::parse(&String::from_utf8_lossy(answer.get(..length).unwrap_or_default()))
        })
    }
}

/// The times in which no request succeeded, among requests in the order in which they began.
pub fn outages(records: &[Record]) -> Vec<Outage> {
    let mut outages = Vec::new();
    let mut open: Option<Outage> = None;
    for record in records {
        let over = record.begun + record.took;
        match (&record.outcome, &mut open) {
            (Outcome::Failed(_), Some(outage)) => outage.to = over,
            (Outcome::Failed(_), None) => open = Some(Outage { from: record.begun, to: over }),
            (Outcome::Answered(_), _) => outages.extend(open.take().map(|outage| Outage { to: over, ..outage })),
        }
    }
    outages.extend(open);
    outages
}

/// The times in which requests failed, whether others succeeded meanwhile or not; `quiet` without a failure ends one.
///
/// Where flows are spread over several nodes and one of them is gone, this is how long some of them suffer.
pub fn disturbances(records: &[Record], quiet: Duration) -> Vec<Outage> {
    let mut found: Vec<Outage> = Vec::new();
    for record in records.iter().filter(|record| matches!(record.outcome, Outcome::Failed(_))) {
        let over = record.begun + record.took;
        match found.last_mut() {
            Some(last) if record.begun.since(last.to) < quiet => last.to = last.to.max(over),
            _ => found.push(Outage { from: record.begun, to: over }),
        }
    }
    found
}

/// How many requests each backend answered.
pub fn answers_by_backend(records: &[Record]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        if let Outcome::Answered(answer) = &record.outcome {
            let count: &mut usize = counts.entry(answer.backend.clone()).or_default();
            *count = count.saturating_add(1);
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text with a letter for each request, 10 ms apart: the backend that answered, or a dash.
    fn records(text: &str) -> Vec<Record> {
        let record = |(position, letter): (usize, char)| Record {
            begun: Instant::ZERO + Duration::from_millis(10).times(position as u64),
            took: Duration::from_millis(1),
            outcome: match letter {
                '-' => Outcome::Failed("no answer".to_owned()),
                letter => Outcome::Answered(Answer { backend: letter.to_string(), client: [10, 0, 0, 1].into() }),
            },
        };
        text.chars().enumerate().map(record).collect()
    }

    fn lengths(text: &str) -> Vec<u64> {
        outages(&records(text)).iter().map(|outage| outage.length().as_millis()).collect()
    }

    #[test]
    fn an_outage_lasts_from_the_first_failure_until_the_next_success() {
        assert_eq!(lengths("aaaa"), [0; 0]);
        assert_eq!(lengths("aa-aa"), [11]);
        assert_eq!(lengths("aa---bb-b"), [31, 11]);
        assert_eq!(lengths("---a"), [31]);
    }

    #[test]
    fn an_outage_without_end_lasts_to_the_last_failure() {
        assert_eq!(lengths("aa---"), [21]);
        assert_eq!(lengths(""), [0; 0]);
    }

    #[test]
    fn a_disturbance_lasts_until_nothing_has_failed_for_a_while() {
        let lengths = |text: &str| -> Vec<u64> {
            let found = disturbances(&records(text), Duration::from_millis(25));
            found.iter().map(|one| one.length().as_millis()).collect()
        };
        assert_eq!(lengths("aaaa"), [0; 0]);
        assert_eq!(lengths("a-a-a-a"), [41]);
        assert_eq!(lengths("-aaaa-a"), [1, 1]);
    }

    #[test]
    fn answers_are_counted_by_backend() {
        let counts = answers_by_backend(&records("aab-a"));
        assert_eq!(counts, BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 1)]));
    }
}
