//! The state file: its lines, and how it is read.
//!
//! A line each, and each has its mark:
//!
//! ```text
//! metallb speaker state 1 node-1 metallb-system https://10.0.0.1:6443/ 0123456789abcdef
//! + Service shop/web {"metadata":{...}}       it is there, or is different from before
//! - Service shop/web                          it is gone
//! ! BGPPeer metallb-system/router             it is there, and holds a password: the rest is not in this file
//! = 2026-11-27T13:00:00Z                      up to here all was known at this moment
//! ```
//!
//! The first part was written as a whole and put in place by its name; what came later was appended. So what is behind the last
//! `=` may be half of something, and is not believed. Neither is what follows a line that makes no sense: a machine that lost
//! its power leaves such lines.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api::{Key, Kind, Object, ObjectRef};
use jiff::{SignedDuration, Timestamp};

/// What every state file begins with; the number is that of its form.
const TITLE: &str = "metallb speaker state ";
const FORM: &str = "1";
/// The longest line: an object in etcd has at most 1.5 MiB.
const LINE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Read and copied in portions of this size.
const BUFFER_BYTES: usize = 32 * 1024;

/// Why a state file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("there is none")]
    Absent,
    #[error("{0}")]
    Io(io::Error),
    #[error("it is none")]
    NoState,
    #[error("it has the form of another version of MetalLB")]
    OtherForm,
    #[error("it is of another node, namespace or cluster")]
    OtherOwner,
    #[error("it ends in line {0}, before anything in it is complete")]
    Incomplete(u64),
    #[error("it is of {as_of}, which is too long ago (--state-max-age)")]
    TooOld { as_of: Timestamp },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Fault::Absent } else { Fault::Io(error) }
    }
}

/// The first line of the file of this owner.
pub(super) fn title(owner: &str) -> String {
    format!("{TITLE}{FORM} {owner}")
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    There { kind: Kind, key: &'a str, json: &'a str },
    Gone { kind: Kind, key: &'a str },
    Withheld { kind: Kind, key: &'a str },
    AsOf(Timestamp),
}

impl Line<'_> {
    fn parse(text: &str) -> Option<Line<'_>> {
        let (mark, rest) = text.split_once(' ')?;
        if mark == "=" {
            return Some(Line::AsOf(rest.parse().ok()?));
        }
        let (kind, rest) = rest.split_once(' ')?;
        let kind = *Kind::ALL.iter().find(|known| known.name() == kind)?;
        match mark {
            "+" => rest.split_once(' ').map(|(key, json)| Line::There { kind, key, json }),
            "-" => Some(Line::Gone { kind, key: rest }),
            "!" => Some(Line::Withheld { kind, key: rest }),
            _ => None,
        }
    }
}

/// What a state file remembers.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one; a box for each would cost more")]
pub(super) enum Memory {
    /// From this moment it all is.
    AsOf(Timestamp),
    /// An object.
    There(Object),
    /// An object that holds a password, of which there is no more than this.
    Withheld(ObjectRef),
}

/// Adds the line of an object to the text.
pub(super) fn write_there(text: &mut Vec<u8>, object: &Object) {
    let start = text.len();
    // Writing into memory does not fail, and objects consist of what always serialises.
    let written = write!(text, "+ {} ", object.reference())
        .map_err(drop)
        .and_then(|()| serde_json::to_writer(&mut *text, object).map_err(drop));
    if written.is_err() {
        text.truncate(start);
        return;
    }
    text.push(b'\n');
}

/// Adds the line of an object that is gone.
pub(super) fn write_gone(text: &mut Vec<u8>, reference: &ObjectRef) {
    text.extend_from_slice(format!("- {reference}\n").as_bytes());
}

/// Adds the line of an object that is kept for oneself.
pub(super) fn write_withheld(text: &mut Vec<u8>, reference: &ObjectRef) {
    text.extend_from_slice(format!("! {reference}\n").as_bytes());
}

/// Adds the line that makes everything before it count.
pub(super) fn write_as_of(text: &mut Vec<u8>, now: Timestamp) {
    // More than seconds would be of no use to anybody.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    text.extend_from_slice(format!("= {now}\n").as_bytes());
}

/// Which lines of a file count: of each object the last, up to the last moment at which all was known.
struct Survey {
    as_of: Timestamp,
    /// Where they begin, in order.
    lines: Vec<u64>,
    /// The number of the first line that makes no sense, if there is one.
    nonsense: Option<u64>,
}

/// Reads a file line by line.
struct Lines {
    file: BufReader<File>,
    buffer: Vec<u8>,
    /// Where the next line begins.
    at: u64,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Lines, Fault> {
        let file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
        Ok(Lines { file, buffer: Vec::new(), at: 0, number: 0 })
    }

    /// The next line without its end, and where it begins; `None` where the file ends or a line is not whole.
    fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        self.buffer.clear();
        let start = self.at;
        let length = (&mut self.file).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.buffer)?;
        self.at = self.at.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        self.number = self.number.saturating_add(1);
        Ok(self.buffer.strip_suffix(b"\n").map(|line| (start, line)))
    }
}

/// Finds out which lines count.
fn survey(path: &Path, title: &str) -> Result<Survey, Fault> {
    let mut lines = Lines::open(path)?;
    check_title(lines.next()?, title)?;
    let hasher = RandomState::new();
    // Sixteen bytes for each line: this is the one thing that grows with the file.
    let mut seen: Vec<(u64, u64)> = Vec::new();
    // Those that say that something is gone.
    let mut gone: Vec<u64> = Vec::new();
    let (mut complete, mut as_of, mut nonsense) = (0, None, None);
    while let Some((start, line)) = lines.next()? {
        let (kind, key) = match std::str::from_utf8(line).ok().and_then(Line::parse) {
            Some(Line::AsOf(moment)) => {
                complete = seen.len();
                as_of = Some(moment);
                continue;
            }
            Some(Line::Gone { kind, key }) => {
                gone.push(start);
                (kind, key)
            }
            Some(Line::There { kind, key, .. } | Line::Withheld { kind, key }) => (kind, key),
            None => {
                nonsense = Some(lines.number);
                break;
            }
        };
        seen.push((hasher.hash_one((kind, key)), start));
    }
    let Some(as_of) = as_of else { return Err(Fault::Incomplete(nonsense.unwrap_or(lines.number))) };
    seen.truncate(complete);
    seen.sort_unstable();
    let last_of_each = seen.chunk_by(|(one, _), (other, _)| one == other).filter_map(|lines| lines.last());
    let mut counting: Vec<u64> =
        last_of_each.map(|(_, start)| *start).filter(|start| gone.binary_search(start).is_err()).collect();
    counting.sort_unstable();
    Ok(Survey { as_of, lines: counting, nonsense })
}

fn check_title(line: Option<(u64, &[u8])>, title: &str) -> Result<(), Fault> {
    let line = line.and_then(|(_, line)| std::str::from_utf8(line).ok()).ok_or(Fault::NoState)?;
    if line == title {
        return Ok(());
    }
    let form = line.strip_prefix(TITLE).ok_or(Fault::NoState)?.split(' ').next();
    Err(if form == Some(FORM) { Fault::OtherOwner } else { Fault::OtherForm })
}

/// Gives each line that counts to `take`, until that says no.
fn each(path: &Path, survey: &Survey, mut take: impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<()> {
    let mut lines =
        Lines { file: BufReader::with_capacity(BUFFER_BYTES, File::open(path)?), buffer: Vec::new(), at: 0, number: 0 };
    let mut counting = survey.lines.iter().peekable();
    while counting.peek().is_some()
        && let Some((start, line)) = lines.next()?
    {
        if counting.next_if_eq(&&start).is_some() && !take(line)? {
            break;
        }
    }
    Ok(())
}

/// Reads what a state file remembers, if it is of this owner and not too old. `take` gets one after the other, and says no when
/// it wants no more.
pub(super) fn recall(
    path: &Path,
    title: &str,
    now: Timestamp,
    max_age: SignedDuration,
    mut take: impl FnMut(Memory) -> bool,
) -> Result<(), Fault> {
    let survey = survey(path, title)?;
    let as_of = survey.as_of;
    // A clock that was set back makes it look young: there is no telling then, and the file is the best that there is.
    if now.duration_since(as_of) > max_age {
        return Err(Fault::TooOld { as_of });
    }
    if let Some(line) = survey.nonsense {
        tracing::warn!(path = %path.display(), line, %as_of, "the state file is damaged; what is before that counts");
    }
    if !take(Memory::AsOf(as_of)) {
        return Ok(());
    }
    each(path, &survey, |line| {
        let memory = match std::str::from_utf8(line).ok().and_then(Line::parse) {
            Some(Line::There { kind, json, key }) => match Object::from_json(kind, json) {
                Ok(object) => Memory::There(object),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %kind, object = key, %error, "cannot read an object of the state file");
                    return Ok(true);
                }
            },
            Some(Line::Withheld { kind, key }) => Memory::Withheld(ObjectRef { kind, key: parse_key(key) }),
            _ => return Ok(true),
        };
        Ok(take(memory))
    })?;
    Ok(())
}

fn parse_key(text: &str) -> Key {
    match text.split_once('/') {
        Some((namespace, name)) => Key::new(namespace, name),
        None => Key::new("", text),
    }
}

/// A state file that is written.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    title: String,
    file: File,
    bytes: u64,
    /// The size that it had when each object was in it once.
    compact_bytes: u64,
}

/// The name of a file that is not complete yet.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Takes a file away that will not be completed.
pub(super) fn forget_unfinished(path: &Path) {
    // It is in nobody's way but for the room that it takes.
    drop(std::fs::remove_file(unfinished(path)));
}

/// A new file, for this user alone, with the first line in it.
fn begin(path: &Path, title: &str) -> io::Result<(File, u64)> {
    let new = unfinished(path);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let line = format!("{title}\n");
    file.write_all(line.as_bytes())?;
    Ok((file, length(line.as_bytes())))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Book {
    /// Begins a file. It is put in the place of the one before by [`Book::establish`].
    pub(super) fn begin(path: &Path, title: &str) -> io::Result<Book> {
        let (file, bytes) = begin(path, title)?;
        Ok(Book { path: path.to_owned(), title: title.to_owned(), file, bytes, compact_bytes: 0 })
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The size that it had when each object was in it once; zero while it is begun.
    pub(super) fn compact_bytes(&self) -> u64 {
        self.compact_bytes
    }

    /// Appends lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.bytes = self.bytes.saturating_add(length(lines));
        Ok(())
    }

    /// The first state is complete: from now on this is the file that counts.
    pub(super) fn establish(&mut self) -> io::Result<()> {
        self.put_in_place()
    }

    fn put_in_place(&mut self) -> io::Result<()> {
        // Some file systems put the name in place before the content, and a loss of power shows it.
        self.file.sync_data()?;
        std::fs::rename(unfinished(&self.path), &self.path)?;
        self.compact_bytes = self.bytes;
        Ok(())
    }

    /// Writes the file anew with nothing in it that does not count.
    pub(super) fn compact(&mut self) -> Result<(), Fault> {
        let survey = survey(&self.path, &self.title)?;
        if let Some(line) = survey.nonsense {
            // What is behind that counts no more, and would be missing.
            return Err(Fault::Incomplete(line));
        }
        let (file, mut bytes) = begin(&self.path, &self.title)?;
        let mut writer = io::BufWriter::with_capacity(BUFFER_BYTES, file);
        each(&self.path, &survey, |line| {
            writer.write_all(line)?;
            writer.write_all(b"\n")?;
            bytes = bytes.saturating_add(length(line)).saturating_add(1);
            Ok(true)
        })?;
        let mut end = Vec::new();
        write_as_of(&mut end, survey.as_of);
        writer.write_all(&end)?;
        self.file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.bytes = bytes.saturating_add(length(&end));
        self.put_in_place()?;
        Ok(())
    }
}
