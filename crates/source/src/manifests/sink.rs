//! Writes to files beside the manifests.

use std::io;
use std::path::{Path, PathBuf};

use super::overlay::Known;
use super::{event_log, status};
use crate::Identity;
use crate::queue::{Job, Outcome, Status, Target, Turn};
use crate::writer::Sink;

/// Writes to this folder, in this name.
pub(super) struct FileSink {
    directory: PathBuf,
    identity: Identity,
    known: Known,
}

impl FileSink {
    pub(super) fn new(directory: PathBuf, identity: Identity, known: Known) -> FileSink {
        FileSink { directory, identity, known }
    }
}

impl Sink for FileSink {
    async fn perform(&self, job: &Job, _turn: Turn) -> Outcome {
        let (directory, identity, known, job) =
            (self.directory.clone(), self.identity.clone(), self.known.clone(), job.clone());
        let written = tokio::task::spawn_blocking(move || match &job {
            Job::Status(status) => write_status(&directory, &known, status),
            Job::Event(event) => event_log::append(&directory, &identity, event).map(|()| Outcome::Done),
        });
        match written.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
            Ok(outcome) => outcome,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                tracing::error!(limited = true, %error, "not written, and not tried again");
                Outcome::Refused
            }
            Err(error) => {
                tracing::warn!(limited = true, %error, "not written yet; will try again");
                Outcome::Later { after: None }
            }
        }
    }
}

/// Writes the status of an object that is there: one that is gone or replaced gets none.
fn write_status(directory: &Path, known: &Known, status: &Status) -> io::Result<Outcome> {
    match status {
        Status::Report { .. } => return status::write(directory, status, "").map(|()| Outcome::Done),
        Status::ReportGone { object, uid } => {
            return status::remove_report(directory, object, uid).map(|()| Outcome::Done);
        }
        Status::Service { .. } | Status::Assignment { .. } | Status::Condition { .. } | Status::Pool { .. } => {}
    }
    let object = match status.target() {
        Target::Assignment(service) | Target::Condition(service) => Target::Service(service),
        target => target,
    };
    let Some(uid) = known.lock().get(&object).cloned() else { return Ok(Outcome::Refused) };
    match status {
        Status::Service { uid: meant, .. }
        | Status::Assignment { uid: meant, .. }
        | Status::Condition { uid: meant, .. }
            if *meant != uid =>
        {
            return Ok(Outcome::Refused);
        }
        _ => {}
    }
    status::write(directory, status, &uid).map(|()| Outcome::Done)
}
