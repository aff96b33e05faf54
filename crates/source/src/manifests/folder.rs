//! The files of the directory: which have changed, and the objects of their last good versions.
//!
//! Knows nothing of status and nothing of which object wins when two files hold the same.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use api::{Kind, Object, Severity};

use super::{FILES_MAX, SETTLE_TIME};
use crate::yaml::{self, Problem, Reading, TEXT_LENGTH_MAX};

/// The longest piece of a file that is shown with an error, in characters.
const SNIPPET_LENGTH_MAX: usize = 120;

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    length: u64,
    modified: Option<SystemTime>,
    inode: u64,
    device: u64,
}

impl Signature {
    pub(super) fn of(metadata: &Metadata) -> Signature {
        Signature {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// True for two versions of one file, or for the same.
    pub(super) fn is_same_file(&self, other: &Signature) -> bool {
        (self.inode, self.device) == (other.inode, other.device)
    }

    /// True when nobody has written for a while.
    fn is_still(&self, now: SystemTime) -> bool {
        let age = self.modified.and_then(|modified| now.duration_since(modified).ok());
        age.is_some_and(|age| age >= SETTLE_TIME)
    }
}

#[derive(Debug, Default)]
struct Manifests {
    /// The version that was read last.
    read: Option<Signature>,
    /// A version that is not read yet: it may be half written.
    unsettled: Option<Signature>,
    /// Whether the file was not there at the last look. Editors take files away for a moment.
    is_missing: bool,
    /// The version that was read last is free of errors.
    is_good: bool,
    /// The objects of the last good version.
    objects: Vec<Object>,
}

/// The files of a directory.
#[derive(Debug)]
pub(super) struct Folder {
    directory: PathBuf,
    files: BTreeMap<String, Manifests>,
    has_told_of_limit: bool,
}

impl Folder {
    pub(super) fn new(directory: PathBuf) -> Folder {
        Folder { directory, files: BTreeMap::new(), has_told_of_limit: false }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Looks at all files, and reads those that have changed. Returns how many versions were read or went away, and how
    /// many of them have an error.
    pub(super) fn poll(&mut self, now: SystemTime) -> io::Result<(usize, usize)> {
        let present = self.list()?;
        let (mut changed, mut broken): (usize, usize) = (0, 0);
        self.files.retain(|name, file| {
            let is_gone = !present.contains_key(name) && file.is_missing;
            file.is_missing = !present.contains_key(name);
            changed = changed.saturating_add(is_gone.into());
            !is_gone
        });
        for (name, signature) in present {
            let file = self.files.entry(name.clone()).or_default();
            if file.read == Some(signature) {
                file.unsettled = None;
                continue;
            }
            let was_seen_before = file.unsettled.replace(signature) == Some(signature);
            if !was_seen_before && !signature.is_still(now) {
                continue;
            }
            match read(&self.directory.join(&name), signature) {
                Ok(Some(text)) => {
                    file.take(&name, &text);
                    (file.read, file.unsettled) = (Some(signature), None);
                }
                // It changes under our eyes.
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(file = name, %error, "cannot read a manifest; its last good version stays in force");
                    (file.read, file.unsettled, file.is_good) = (Some(signature), None, false);
                }
            }
            changed = changed.saturating_add(1);
            broken = broken.saturating_add((!file.is_good).into());
        }
        Ok((changed, broken))
    }

    /// True when every file that is there has been read as it is.
    pub(super) fn is_settled(&self) -> bool {
        self.files.values().all(|file| file.unsettled.is_none() && !file.is_missing)
    }

    /// True when, besides, no file has an error: then an object that is in none of them is not wanted.
    pub(super) fn is_complete(&self) -> bool {
        self.is_settled() && self.files.values().all(|file| file.is_good)
    }

    /// All objects with the names of their files, in the order of the names.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&str, &Object)> {
        self.files.iter().flat_map(|(name, file)| file.objects.iter().map(|object| (name.as_str(), object)))
    }

    fn list(&mut self) -> io::Result<BTreeMap<String, Signature>> {
        let mut present = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_manifest(&name) {
                continue;
            }
            // Links are followed. One that leads nowhere, as in the middle of a swap, counts as a missing file.
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_file() => {
                    present.insert(name, Signature::of(&metadata));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if present.len() > FILES_MAX {
            if !std::mem::replace(&mut self.has_told_of_limit, true) {
                tracing::error!(
                    files = present.len(),
                    limit = FILES_MAX,
                    "too many manifests; the last ones are not read"
                );
            }
            present = present.into_iter().take(FILES_MAX).collect();
        }
        Ok(present)
    }
}

impl Manifests {
    /// Takes a new version of the file over, if it is good.
    fn take(&mut self, name: &str, text: &[u8]) {
        let (text, reading) = match std::str::from_utf8(text) {
            Ok(text) => (text, yaml::read(text)),
            Err(error) => {
                let message = format!("not text in UTF-8, from byte {} on", error.valid_up_to());
                tracing::error!(
                    file = name,
                    error = message,
                    "cannot use a manifest; its last good version stays in force"
                );
                self.is_good = false;
                return;
            }
        };
        self.is_good = report(name, text, &reading);
        // Where there is no good version yet, what can be used is: one broken object never holds up another.
        if self.is_good || self.objects.is_empty() {
            let sound = reading.objects.into_iter().filter(yaml::Manifest::is_sound);
            self.objects = sound.map(|manifest| manifest.object).collect();
        }
    }
}

/// True for the names of files that are read.
fn is_manifest(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Reads this version of a file; none if it is another one by now.
fn read(path: &Path, signature: Signature) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let limit = TEXT_LENGTH_MAX.saturating_add(1);
    let mut text = Vec::new();
    file.by_ref().take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut text)?;
    if text.len() >= limit {
        return Err(io::Error::other(format!("it is longer than {TEXT_LENGTH_MAX} bytes")));
    }
    Ok((Signature::of(&file.metadata()?) == signature).then_some(text))
}

/// Tells all that is wrong with a file. True if it can be used.
fn report(name: &str, text: &str, reading: &Reading) -> bool {
    let problems = reading.problems.iter().chain(reading.objects.iter().flat_map(|manifest| &manifest.problems));
    let mut is_good = true;
    for problem in problems {
        let Problem { place, message, hint, .. } = problem;
        let file = format!("{name}:{}:{}", place.line, place.column);
        let object = problem.object.as_ref().map(ToString::to_string).unwrap_or_default();
        let snippet = snippet(text, problem).unwrap_or_default();
        let hint = hint.as_deref().unwrap_or_default();
        if problem.severity == Severity::Error {
            is_good = false;
            tracing::error!(
                file,
                object,
                error = message,
                hint,
                snippet,
                "cannot use a manifest; its last good version stays in force"
            );
        } else {
            tracing::warn!(file, object, warning = message, hint, snippet, "a manifest should be changed");
        }
    }
    is_good
}

/// The line that a problem is on; none where it may hold a password.
fn snippet(text: &str, problem: &Problem) -> Option<String> {
    let may_hold_secrets = match problem.object.as_ref().map(|object| object.kind) {
        Some(kind) => matches!(kind, Kind::Secret | Kind::BGPPeer),
        None => text.contains("Secret") || text.to_lowercase().contains("password"),
    };
    if may_hold_secrets {
        return None;
    }
    let line = text.lines().nth(problem.place.line.checked_sub(1)?)?;
    Some(line.trim().chars().take(SNIPPET_LENGTH_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The snippets of all problems of a text.
    fn snippets(text: &str) -> Vec<Option<String>> {
        let reading = yaml::read(text);
        let problems = reading.problems.iter().chain(reading.objects.iter().flat_map(|manifest| &manifest.problems));
        problems.map(|problem| snippet(text, problem)).collect()
    }

    #[test]
    fn an_error_is_shown_with_its_line() {
        let pool = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p}\nspec:\n  addreses: []\n";
        assert!(snippets(pool).contains(&Some("addreses: []".to_owned())), "{:?}", snippets(pool));
        assert_eq!(snippets("a: [1,\nb: 2\n").len(), 1);
    }

    #[test]
    fn lines_that_may_hold_a_password_are_not_shown() {
        for text in [
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: 7}\n",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: \"hidden}\n",
            "apiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: p}\nspec: {password: 7}\n",
            "spec: {passWord: hidden\n",
        ] {
            let snippets = snippets(text);
            assert!(!snippets.is_empty() && snippets.iter().all(Option::is_none), "{text}: {snippets:?}");
        }
    }
}
