//! Writes down what passes, so that it costs little: a second later, in one piece, and never twice.
//!
//! The first state goes into a new file while it comes; changes are appended. When most of a file no longer counts it is
//! written anew, from itself: nothing is kept in memory for that but where the lines are.

use std::path::PathBuf;
use std::time::Duration;

use api::{Kind, Object};
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::file::{self, Book, Fault};
use super::{READ_TIME, STATE_BYTES_MAX, Settings};
use crate::Change;
use crate::backoff::later;

/// Changes are written down this long after the first of them.
const WRITE_AFTER: Duration = Duration::from_secs(1);
/// While nothing changes it is written down this often that all is as it was.
const CONFIRM_EVERY: Duration = Duration::from_mins(1);
/// Lines that wait to be written, in bytes: more are written at once.
const LINES_WAITING_BYTES: usize = 64 * 1024;
/// How long one write may take: the source waits meanwhile.
const WRITE_TIME: Duration = Duration::from_secs(2);
/// The file is written anew when it is twice as large as it has to be, and this more.
const SLACK_BYTES: u64 = 1024 * 1024;
/// The largest file without anything in it that does not count. It needs room for changes.
const COMPACT_BYTES_MAX: u64 = STATE_BYTES_MAX / 4 * 3;

/// Writes down what changes.
pub(super) struct Journal {
    path: PathBuf,
    /// None when there was a failure, or nothing is to be kept.
    book: Option<Book>,
    /// What is to be written.
    lines: Vec<u8>,
    /// When it is.
    write_at: Option<Instant>,
    progress: Progress,
}

/// How far the file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Not everything is known.
    Listing,
    /// Everything is known, and to be written.
    Complete,
    /// The file counts.
    Established,
}

impl Journal {
    pub(super) fn begin(settings: &Settings, now: Instant) -> Journal {
        let path = settings.path.clone();
        let book = match Book::begin(&path, &file::title(&settings.owner)) {
            Ok(book) => Some(book),
            Err(error) => {
                tracing::info!(
                    path = %path.display(),
                    %error,
                    hint = "mount a directory that can be written and outlives the container, such as an emptyDir; or give --state-file= for none",
                    "nothing is remembered for a start without the API server"
                );
                None
            }
        };
        let (lines, progress) = (Vec::new(), Progress::Listing);
        Journal { path, book, lines, write_at: Some(later(now, CONFIRM_EVERY)), progress }
    }

    pub(super) fn write_at(&self) -> Option<Instant> {
        self.write_at.filter(|_| self.book.is_some())
    }

    /// A change is to be written down.
    pub(super) fn record(&mut self, change: &Change) {
        if self.book.is_none() {
            return;
        }
        let before = self.lines.len();
        self.write_line(change);
        if self.lines.len() > before {
            let soon = later(Instant::now(), WRITE_AFTER);
            self.write_at = Some(self.write_at.map_or(soon, |at| at.min(soon)));
        }
    }

    fn write_line(&mut self, change: &Change) {
        match change {
            Change::Applied(object) => match keeping(object) {
                Keeping::Whole => file::write_there(&mut self.lines, object),
                Keeping::Name => file::write_withheld(&mut self.lines, &object.reference()),
                // It may have been of interest before, even if that was a moment ago.
                Keeping::Nothing if is_kept(object.kind()) => {
                    file::write_gone(&mut self.lines, &object.reference());
                }
                Keeping::Nothing => {}
            },
            Change::Deleted(reference) if is_kept(reference.kind) => file::write_gone(&mut self.lines, reference),
            Change::Together(changes) => changes.iter().for_each(|change| self.write_line(change)),
            _ => {}
        }
    }

    /// The source has told everything: from now on there is something to remember.
    pub(super) fn synced(&mut self) {
        self.progress = Progress::Complete;
    }

    /// Writes what is due.
    pub(super) async fn work(&mut self, now: Instant, is_up: bool) {
        let is_due = self.write_at.is_some_and(|at| at <= now) || self.lines.len() >= LINES_WAITING_BYTES;
        if self.book.is_none() || !(is_due || self.progress == Progress::Complete) {
            return;
        }
        self.write_at = Some(later(now, CONFIRM_EVERY));
        // What is known counts as of now while the source is heard, or has just been.
        let establishes = self.progress == Progress::Complete;
        if establishes || (self.progress == Progress::Established && (is_up || !self.lines.is_empty())) {
            file::write_as_of(&mut self.lines, Timestamp::now());
        }
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return;
        }
        // The first time all of it has to be on the disk.
        let limit = if establishes { READ_TIME } else { WRITE_TIME };
        self.with_book(limit, move |book| {
            book.append(&lines)?;
            if establishes { book.establish().map_err(Fault::from) } else { Ok(()) }
        })
        .await;
        if establishes {
            self.progress = Progress::Established;
        }
        self.keep_small().await;
    }

    /// Writes the file anew when most of it no longer counts, and gives up when it would be too large.
    async fn keep_small(&mut self) {
        let is_too_large = |book: &Book| book.bytes() > STATE_BYTES_MAX || book.compact_bytes() > COMPACT_BYTES_MAX;
        let is_loose = |book: &Book| book.bytes() > book.compact_bytes().saturating_mul(2).saturating_add(SLACK_BYTES);
        let Some(book) = &self.book else { return };
        if self.progress == Progress::Established && (is_loose(book) || is_too_large(book)) {
            self.with_book(READ_TIME, Book::compact).await;
        }
        if self.book.as_ref().is_some_and(is_too_large) {
            self.book = None;
            self.failed(&format!("there is more to write than {COMPACT_BYTES_MAX} bytes"));
        }
    }

    /// Has something done with the file on a thread that may wait; a failure is the end of it.
    async fn with_book(&mut self, limit: Duration, work: impl FnOnce(&mut Book) -> Result<(), Fault> + Send + 'static) {
        let Some(mut book) = self.book.take() else { return };
        let task = tokio::task::spawn_blocking(move || work(&mut book).map(|()| book));
        match timeout(limit, task).await {
            Ok(Ok(Ok(book))) => self.book = Some(book),
            Ok(Ok(Err(fault))) => self.failed(&fault.to_string()),
            Ok(Err(_)) | Err(_) => self.failed("the disk takes too long"),
        }
    }

    fn failed(&mut self, error: &str) {
        self.lines = Vec::new();
        // On a disk that hangs this would hang, too.
        let path = self.path.clone();
        drop(tokio::task::spawn_blocking(move || file::forget_unfinished(&path)));
        tracing::warn!(
            path = %self.path.display(),
            error,
            hint = "is the volume full? It is tried again when the speaker starts",
            "what changes from now on is not remembered for a start without the API server"
        );
    }
}

/// How much of an object is kept.
enum Keeping {
    Whole,
    /// There is one.
    Name,
    Nothing,
}

fn is_kept(kind: Kind) -> bool {
    kind.is_configuration() || matches!(kind, Kind::Service | Kind::EndpointSlice | Kind::Node)
}

/// No password and no key is ever kept. A Service of another type is announced by nobody, and there are many.
fn keeping(object: &Object) -> Keeping {
    match object {
        Object::BGPPeer(peer) if peer.spec.is_authenticated() => Keeping::Name,
        Object::Service(service) if service.spec.type_.as_deref() != Some("LoadBalancer") => Keeping::Nothing,
        object if is_kept(object.kind()) => Keeping::Whole,
        _ => Keeping::Nothing,
    }
}
