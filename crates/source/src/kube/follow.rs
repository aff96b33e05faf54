//! Follows the objects of one kind: lists them, then watches, for ever.
//!
//! This is the list-and-watch of the Kubernetes API, written out here instead of taken from kube-runtime. Its watcher
//! asks again without a pause when a server ends each watch at once, sets no limit to the time of a list, and its
//! client logs whole answers that do not decode, be they Secrets. It would also keep a page of objects as values, where
//! here one object at a time leaves the page's text.
//!
//! The rules:
//!
//! - A watch that ends, for whatever reason, is resumed where it was. Only when the server no longer knows that moment
//!   (410), or refuses to resume several times, the kind is listed anew, and the difference is sent.
//! - Every failure is followed by a wait with [`BACKOFF`], or as long as the server asks for.
//! - Losing the server changes nothing that was sent.

use std::sync::Arc;
use std::time::Duration;

use ::kube::api::{ListParams, WatchParams};
use ::kube::core::Request;
use api::{Key, Kind, Object, ObjectRef};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::message::{Line, Named, NamedMeta, Page, Status};
use super::request::{Failure, Server, next_data};
use super::turn::Turn;
use super::versions::Versions;
use crate::backoff::{Backoff, random};
use crate::connection::Reporter;
use crate::counters::Counters;
use crate::seen::{Observation, Seen};
use crate::{Change, PoolStatus};

/// Objects per page: a page of large ones takes about a megabyte.
const PAGE_OBJECTS: u32 = 250;
/// How long a watch is asked to last, in seconds; a part of it more, so that the nodes' watches do not end together.
const WATCH_SECONDS: u32 = 240;
const WATCH_SECONDS_SPREAD: u64 = 60;
/// How long after its time a watch may end.
const WATCH_OVERTIME: Duration = Duration::from_secs(30);
/// The longest line of a watch. An object in etcd has at most 1.5 MiB.
const WATCH_LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Watches follow each other in no shorter time. One that ends sooner without having said anything counts as a failure.
const WATCH_TOO_SHORT: Duration = Duration::from_secs(1);
/// Failures in a row to resume a watch, after which the kind is listed anew: after a restore of etcd, the moment to
/// resume at may lie in a future that never comes.
const RESUME_TRIES: u32 = 4;

const BACKOFF: Backoff = Backoff { min: Duration::from_millis(250), max: Duration::from_secs(10) };

/// The path of a kind's objects. The kinds that are MetalLB's own, and Secrets, are read in its namespace alone.
pub(super) fn path(kind: Kind, namespace: &str) -> String {
    let prefix = if kind.group().is_empty() { "/api" } else { "/apis" };
    let scope = if crate::is_read_in_own_namespace(kind) { format!("namespaces/{namespace}/") } else { String::new() };
    format!("{prefix}/{}/{scope}{}", kind.api_version(), kind.plural())
}

/// The task of one kind.
pub(super) struct Follower {
    pub(super) reader: Reader,
    pub(super) server: Server,
    pub(super) path: String,
    /// Labels that the objects have; empty for all of the kind.
    pub(super) label_selector: String,
    /// What to send when this kind was the last that had not been listed.
    pub(super) synced: Change,
    pub(super) reporter: Arc<Reporter>,
    pub(super) counters: Arc<Counters>,
    /// Whose turn it is to write, where this kind has to be listed anew when it is ours.
    pub(super) turn: Option<Turn>,
    /// The error that was told last and is not over; empty for none.
    pub(super) last_error: String,
}

/// Why following stops for a moment.
enum Stop {
    /// Nobody wants the changes any more.
    ReaderGone,
    /// The server does not know the moment to go on at.
    Expired,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { code: 410, .. } => Stop::Expired,
            other => Stop::Failed(other),
        }
    }
}

impl Follower {
    /// Follows until nobody wants the changes.
    pub(super) async fn run(mut self) {
        // The moment up to which everything was seen; none before the first list, and when it is of no use any more.
        let mut version = None;
        // In a row, up to a watch that did its work. A list alone is not enough: where lists work and watches do not,
        // the waits must grow nevertheless.
        let mut failures: u32 = 0;
        let mut resume_failures: u32 = 0;
        let mut has_expired = false;
        loop {
            if self.has_begun_to_lead().await.is_err() {
                return;
            }
            if self.turn.as_ref().is_some_and(Turn::is_to_list) {
                version = None;
            }
            let is_watch = version.is_some();
            let result = match &mut version {
                None => self.list().await.map(|listed_at| version = Some(listed_at)),
                Some(version) => self.watch(version).await,
            };
            let wait = match result {
                Ok(()) => {
                    if is_watch {
                        failures = 0;
                        has_expired = false;
                    }
                    resume_failures = 0;
                    continue;
                }
                Err(Stop::ReaderGone) => return,
                Err(Stop::Expired) => {
                    tracing::debug!(kind = %self.reader.kind, "listing anew: the server has forgotten the moment to go on at");
                    version = None;
                    if !std::mem::replace(&mut has_expired, true) {
                        continue;
                    }
                    Duration::ZERO
                }
                Err(Stop::Failed(failure)) => {
                    self.report(&failure);
                    resume_failures = resume_failures.saturating_add(1);
                    if resume_failures >= RESUME_TRIES && !matches!(failure, Failure::Unreachable(_)) {
                        version = None;
                    }
                    match failure {
                        Failure::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
                        Failure::Unreachable(_) | Failure::Unreadable(_) => Duration::ZERO,
                    }
                }
            };
            failures = failures.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(BACKOFF.delay(failures).max(wait)) => {}
                () = changed(self.turn.as_mut()) => {}
            }
        }
    }

    /// Tells when another process may write.
    async fn has_begun_to_lead(&mut self) -> Result<(), Stop> {
        if self.turn.as_mut().is_some_and(Turn::look) {
            self.reader.send(Change::Following).await?;
        }
        Ok(())
    }

    /// Reads all objects, page by page, and sends the difference to what was known. Returns the moment of the list.
    async fn list(&mut self) -> Result<String, Stop> {
        let mut continue_token = None;
        self.reader.begin_list();
        loop {
            let label_selector = self.label_selector();
            let params =
                ListParams { limit: Some(PAGE_OBJECTS), continue_token, label_selector, ..ListParams::default() };
            let text = self.server.get(Request::new(&self.path).list(&params)).await?;
            self.answered();
            let page: Page<'_> = serde_json::from_slice(&text).map_err(|error| unreadable("a list", &error))?;
            for item in &page.items {
                self.reader.applied(item.get()).await?;
            }
            if page.metadata.r#continue.is_empty() {
                self.reader.listed().await?;
                if self.reporter.listed(self.reader.kind) {
                    self.reader.send(self.synced.clone()).await?;
                }
                if let Some(term) = self.turn.as_mut().and_then(Turn::listed) {
                    self.reader.send(Change::Leading(term)).await?;
                }
                return Ok(page.metadata.resource_version);
            }
            continue_token = Some(page.metadata.r#continue);
        }
    }

    /// Sends what changes after `version`, and moves it on, until the server ends the watch.
    async fn watch(&mut self, version: &mut String) -> Result<(), Stop> {
        let spread = u32::try_from(random() % WATCH_SECONDS_SPREAD).unwrap_or(0);
        let seconds = WATCH_SECONDS.saturating_add(spread);
        let label_selector = self.label_selector();
        let params = WatchParams { timeout: Some(seconds), label_selector, ..WatchParams::default() };
        let mut body = self.server.open(Request::new(&self.path).watch(&params, version)).await?;
        self.answered();
        let began = Instant::now();
        let limit = Duration::from_secs(seconds.into()).saturating_add(WATCH_OVERTIME);
        let mut lines = Lines::default();
        let mut was_useful = false;
        let ended = loop {
            let Some(left) = limit.checked_sub(began.elapsed()) else { break None };
            let data = tokio::select! {
                data = tokio::time::timeout(left, next_data(&mut body)) => data,
                () = changed(self.turn.as_mut()) => return Ok(()),
            };
            let data = match data {
                Ok(Ok(Some(data))) => data,
                Ok(Ok(None)) | Err(_) => break None,
                Ok(Err(failure)) => break Some(failure),
            };
            lines.push(&data)?;
            while let Some(line) = lines.next() {
                self.line(line, version).await?;
                was_useful = true;
            }
        };
        let lasted = began.elapsed();
        if was_useful || lasted >= WATCH_TOO_SHORT {
            // Servers restart and load balancers lose patience: going on is all there is to do. If that fails, it is
            // told.
            tokio::time::sleep(WATCH_TOO_SHORT.saturating_sub(lasted)).await;
            return Ok(());
        }
        Err(Stop::Failed(ended.unwrap_or_else(|| Failure::Unreadable("it ends each watch at once".to_owned()))))
    }

    fn label_selector(&self) -> Option<String> {
        (!self.label_selector.is_empty()).then(|| self.label_selector.clone())
    }

    /// Acts on one line of a watch.
    async fn line(&mut self, line: &[u8], version: &mut String) -> Result<(), Stop> {
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| unreadable("a line of a watch", &error))?;
        let text = line.object.get();
        match line.type_.as_str() {
            "ADDED" | "MODIFIED" => move_on(version, self.reader.applied(text).await?),
            "DELETED" => move_on(version, self.reader.deleted(text).await?),
            "BOOKMARK" => move_on(version, named(text).resource_version),
            "ERROR" => {
                let status: Status = serde_json::from_str(text).unwrap_or_default();
                return Err(Failure::from(status).into());
            }
            other => tracing::debug!(kind = %self.reader.kind, r#type = other, "unknown line in a watch"),
        }
        Ok(())
    }

    /// Tells that the server answers as it should.
    fn answered(&mut self) {
        self.reporter.answered(self.reader.kind, Timestamp::now());
        if !std::mem::take(&mut self.last_error).is_empty() {
            tracing::info!(kind = %self.reader.kind, "can read again");
        }
    }

    /// Tells of a failure: to the connection, and once to the log.
    fn report(&mut self, failure: &Failure) {
        let kind = self.reader.kind;
        self.counters.read_failures.increment();
        let mut text = failure.to_string();
        match failure {
            Failure::Unreachable(_) => self.reporter.unreachable(kind, text.clone(), Timestamp::now()),
            Failure::Refused { code, .. } => {
                self.reporter.answered(kind, Timestamp::now());
                if *code == 404 && kind.group() == api::GROUP {
                    "the API server does not know this kind: install the CustomResourceDefinitions of MetalLB"
                        .clone_into(&mut text);
                }
            }
            Failure::Unreadable(_) => {}
        }
        self.reporter.not_listed(kind, &text);
        if matches!(failure, Failure::Unreachable(_)) || self.last_error == text {
            // The loss of the server is told once for all kinds, by the reporter.
            tracing::debug!(%kind, error = text, "still cannot read");
        } else {
            tracing::warn!(%kind, error = text, "cannot read; will try again");
            self.last_error = text;
        }
    }
}

async fn changed(turn: Option<&mut Turn>) {
    match turn {
        Some(turn) => turn.changed().await,
        None => std::future::pending().await,
    }
}

fn move_on(version: &mut String, to: String) {
    if !to.is_empty() {
        *version = to;
    }
}

fn unreadable(what: &str, error: &serde_json::Error) -> Failure {
    Failure::Unreadable(format!("{what} has a fault in line {}, column {}", error.line(), error.column()))
}

fn named(text: &str) -> NamedMeta {
    serde_json::from_str::<Named>(text).unwrap_or_default().metadata
}

/// Turns the text of objects into changes.
pub(super) struct Reader {
    kind: Kind,
    pool_status: PoolStatus,
    seen: Seen,
    /// Of Services and pools, where a write names the version it is meant for.
    versions: Option<Arc<Versions>>,
    changes: mpsc::Sender<Change>,
    /// What a list of the configuration has changed so far. Those of other kinds are not kept, for they are many and
    /// each stands for itself.
    together: Option<Vec<Change>>,
    counters: Arc<Counters>,
}

impl Reader {
    pub(super) fn new(
        kind: Kind,
        pool_status: PoolStatus,
        changes: mpsc::Sender<Change>,
        counters: Arc<Counters>,
    ) -> Reader {
        Reader { kind, pool_status, seen: Seen::default(), versions: None, changes, together: None, counters }
    }

    /// Has the versions of Services and pools kept there.
    pub(super) fn with_versions(self, versions: Option<Arc<Versions>>) -> Reader {
        let versions = versions.filter(|_| Versions::are_of(self.kind));
        Reader { versions, ..self }
    }

    /// An object is there. Returns its resource version.
    async fn applied(&mut self, text: &str) -> Result<String, Stop> {
        let mut object = match Object::from_json(self.kind, text) {
            Ok(object) if !object.metadata().name.is_empty() => object,
            Ok(_) => return Ok(self.unreadable(text, "it has no name")),
            Err(error) => return Ok(self.unreadable(text, &self.words(&error))),
        };
        let version = std::mem::take(&mut object.metadata_mut().resource_version);
        if let Some(versions) = &self.versions {
            versions.seen(&object.reference(), &object.metadata().uid, &version);
        }
        crate::slim(&mut object, self.pool_status);
        match self.seen.applied(&object) {
            Observation::Same => {}
            Observation::Changed => self.send(Change::Applied(object)).await?,
            Observation::Replaced => {
                self.send(Change::Deleted(object.reference())).await?;
                self.send(Change::Applied(object)).await?;
            }
        }
        Ok(version)
    }

    /// An object is gone. Returns its last resource version.
    async fn deleted(&mut self, text: &str) -> Result<String, Stop> {
        let NamedMeta { name, namespace, resource_version, .. } = named(text);
        let key = Key::new(namespace, name);
        self.forget_version(&key);
        if self.seen.deleted(&key) {
            self.send(Change::Deleted(ObjectRef { kind: self.kind, key })).await?;
        }
        Ok(resource_version)
    }

    /// A list begins. What one that failed has changed is a part of it.
    fn begin_list(&mut self) {
        self.seen.begin_list();
        if self.kind.is_configuration() && self.together.is_none() {
            self.together = Some(Vec::new());
        }
    }

    /// The list is complete: what was not in it is gone.
    async fn listed(&mut self) -> Result<(), Stop> {
        for key in self.seen.end_list() {
            self.forget_version(&key);
            self.send(Change::Deleted(ObjectRef { kind: self.kind, key })).await?;
        }
        match self.together.take().and_then(Change::together) {
            Some(change) => self.send(change).await,
            None => Ok(()),
        }
    }

    /// An object cannot be read: what was known of it stays in force.
    fn unreadable(&mut self, text: &str, error: &str) -> String {
        let NamedMeta { name, namespace, resource_version, .. } = named(text);
        let key = Key::new(namespace, name);
        self.counters.unreadable.increment();
        tracing::warn!(
            limited = true,
            kind = %self.kind,
            object = %key,
            error,
            "cannot read an object; what was known of it stays in force"
        );
        self.seen.unreadable(&key);
        resource_version
    }

    /// A decoding error in words. Those of serde may quote a value: not where passwords are.
    fn words(&self, error: &serde_json::Error) -> String {
        match self.kind {
            Kind::Secret | Kind::BGPPeer => {
                format!("it does not have the form of a {} (column {})", self.kind, error.column())
            }
            _ => error.to_string(),
        }
    }

    fn forget_version(&self, key: &Key) {
        if let Some(versions) = &self.versions {
            versions.gone(&ObjectRef { kind: self.kind, key: key.clone() });
        }
    }

    /// Waits while the reader is busy: nothing is dropped.
    async fn send(&mut self, change: Change) -> Result<(), Stop> {
        if let Some(together) = &mut self.together {
            together.push(change);
            return Ok(());
        }
        self.changes.send(change).await.map_err(|_closed| Stop::ReaderGone)
    }
}

/// Cuts a stream of bytes in lines.
#[derive(Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Up to here the buffer was given out,
    start: usize,
    /// and up to here it was looked through for the end of a line.
    searched: usize,
}

impl Lines {
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.buffer.drain(..self.start);
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        if self.buffer.len().saturating_add(data.len()) > WATCH_LINE_BYTES_MAX {
            return Err(Failure::Unreadable(format!("a line of a watch has more than {WATCH_LINE_BYTES_MAX} bytes")));
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    pub(super) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let length = self.buffer.get(self.searched..)?.iter().position(|byte| *byte == b'\n');
            let Some(length) = length else {
                self.searched = self.buffer.len();
                return None;
            };
            let end = self.searched.saturating_add(length);
            let start = std::mem::replace(&mut self.start, end.saturating_add(1));
            self.searched = self.start;
            if end > start {
                return self.buffer.get(start..end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let check = |kind, expected| assert_eq!(path(kind, "metallb-system"), expected);
        check(Kind::Service, "/api/v1/services");
        check(Kind::Node, "/api/v1/nodes");
        check(Kind::EndpointSlice, "/apis/discovery.k8s.io/v1/endpointslices");
        check(Kind::Secret, "/api/v1/namespaces/metallb-system/secrets");
        check(Kind::BGPPeer, "/apis/metallb.io/v1beta2/namespaces/metallb-system/bgppeers");
        check(Kind::IPAddressPool, "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools");
    }

    #[test]
    fn lines_come_out_whole_however_they_are_cut() {
        let text = b"{\"a\":1}\n\n{\"b\":22}\n{\"c\":333}\nrest";
        for size in 1..text.len() {
            let (mut lines, mut all) = (Lines::default(), Vec::new());
            for piece in text.chunks(size) {
                lines.push(piece).unwrap();
                while let Some(line) = lines.next() {
                    all.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(all, ["{\"a\":1}", "{\"b\":22}", "{\"c\":333}"], "pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; WATCH_LINE_BYTES_MAX / 2];
        assert!(lines.push(&piece).is_ok());
        assert!(lines.push(&piece).is_ok());
        assert!(lines.push(b"x").is_err());
    }
}
