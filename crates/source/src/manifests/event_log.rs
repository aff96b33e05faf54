//! `status/events.log`: what happened, a line of JSON each. Several processes write to it. When it has grown too long,
//! it becomes `events.log.1`, and the one of before is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::folder::Signature;
use crate::Identity;
use crate::events::EventWrite;

/// The length at which a new file is begun, in bytes.
const LENGTH_MAX: u64 = 1024 * 1024;
const NAME: &str = "events.log";
const OLD_NAME: &str = "events.log.1";

/// Appends an event, or the repeat of one with its new count.
pub(super) fn append(directory: &Path, identity: &Identity, write: &EventWrite) -> io::Result<()> {
    let event = &write.event;
    let line = json!({
        "ts": write.last.to_string(),
        "component": identity.component,
        "instance": identity.instance,
        "kind": event.object.kind.name(),
        "namespace": event.object.key.namespace,
        "name": event.object.key.name,
        "type": event.type_.as_str(),
        "reason": event.reason,
        "message": event.message,
        "count": write.count,
    });
    super::status::make_folder(directory)?;
    let path = directory.join(NAME);
    let mut file = open_locked(&path)?;
    if file.metadata()?.len() >= LENGTH_MAX {
        fs::rename(&path, directory.join(OLD_NAME))?;
        file = open_locked(&path)?;
    }
    // One write for the whole line: a reader never sees a half.
    file.write_all(format!("{line}\n").as_bytes())
}

/// Opens the file and locks it. Another process may move it away in between; then the new one is taken.
fn open_locked(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        file.lock()?;
        let is_still_there = fs::metadata(path).is_ok_and(|there| {
            file.metadata().is_ok_and(|ours| Signature::of(&ours).is_same_file(&Signature::of(&there)))
        });
        if is_still_there {
            return Ok(file);
        }
    }
}
