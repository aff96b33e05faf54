//! `metallb status bgp`: asks the speaker of this pod about its BGP and BFD sessions, and shows the answer.

pub(crate) mod model;
pub(crate) mod server;
mod table;

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use model::{Line, Status};

/// Where a speaker's socket is unless said otherwise.
pub(crate) const SOCKET: &str = "/run/metallb/speaker.sock";
/// How long the speaker may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Lines are shorter; one that is not comes from something else.
const LINE_MAX: u64 = 1 << 20;

/// Shows what a running speaker knows
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusCommand {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Clone, Debug, Subcommand)]
enum Subject {
    /// The BGP and BFD sessions of a node: states, reasons, timers, counters; with --peer its routes too
    Bgp(BgpFlags),
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples, in the pod of a speaker:
  kubectl -n metallb-system exec ds/metallb-speaker -- /metallb status bgp
  kubectl -n metallb-system exec POD -- /metallb status bgp --peer rack-1
  kubectl -n metallb-system exec POD -- /metallb status bgp --output json | jq '.peers[] | select(.state != \"Established\")'

Exits with 0 when it has shown something, 1 when there is no such BGPPeer on the node, and 2 when it could not ask.")]
struct BgpFlags {
    /// Only this BGPPeer: everything about it, and its routes with their attributes
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,

    /// Form of the answer
    #[arg(long, short, default_value = "table", value_name = "FORM")]
    output: Output,

    /// Socket of the speaker
    #[arg(long, default_value = SOCKET, value_name = "PATH")]
    socket: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("cannot ask the speaker at {}: {error}", .socket.display())]
    Unreachable { socket: PathBuf, error: io::Error },
    #[error("the speaker refuses: {0}")]
    Refused(String),
    #[error("the answer of the speaker ends too soon; it may just have ended")]
    CutShort,
    #[error("the answer of the speaker cannot be read: {0}")]
    Unreadable(String),
}

impl AskError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            AskError::Unreachable { .. } => {
                Some("run it in the pod of a speaker (--help has examples), or name the socket by --socket")
            }
            AskError::Refused(_) | AskError::CutShort | AskError::Unreadable(_) => None,
        }
    }
}

/// Runs the command.
pub(crate) fn run(command: &StatusCommand) -> ExitCode {
    let Subject::Bgp(flags) = &command.subject;
    let mut talk = io::stderr().lock();
    let status = match ask(&flags.socket, flags.peer.as_deref()) {
        Ok(status) => status,
        Err(error) => {
            let _ = writeln!(talk, "metallb status: {error}");
            if let Some(hint) = error.hint() {
                let _ = writeln!(talk, "hint: {hint}");
            }
            return ExitCode::from(2);
        }
    };
    if let Some(peer) = &flags.peer
        && !status.peers.iter().any(|found| found.name == *peer)
    {
        let _ = writeln!(talk, "metallb status: node {} has no BGPPeer {peer:?}", status.speaker.node);
        let _ = writeln!(talk, "hint: {}", hint(peer, &status.speaker.peer_names));
        return ExitCode::from(1);
    }
    let text = match (flags.output, &flags.peer) {
        (Output::Json, _) => serde_json::to_string_pretty(&status).map(|text| text + "\n").map_err(io::Error::other),
        (Output::Table, None) => Ok(table::overview(&status)),
        (Output::Table, Some(_)) => Ok(table::details(&status)),
    };
    match text.and_then(|text| io::stdout().lock().write_all(text.as_bytes())) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(talk, "metallb status: {error}");
            ExitCode::from(2)
        }
        _ => ExitCode::SUCCESS,
    }
}

pub(crate) fn hint(peer: &str, names: &[String]) -> String {
    match api::closest(peer, names.iter().map(String::as_str)) {
        Some(close) => format!("did you mean {close:?}?"),
        None if names.is_empty() => "no BGPPeer selects this node; look at their nodeSelectors".to_owned(),
        None => format!("it has {}", names.join(", ")),
    }
}

/// Asks a speaker.
fn ask(socket: &Path, peer: Option<&str>) -> Result<Status, AskError> {
    let query = peer.map(|peer| format!("?peer={}", encoded(peer))).unwrap_or_default();
    read(request(socket, &format!("{}{query}", server::BGP_PATH), Some(SILENCE_MAX))?)
}

/// Asks for a path, and gives the body of the answer if it is a good one. The speaker may say nothing for as long as `silence`,
/// or for ever once it has begun.
pub(crate) fn request(socket: &Path, path: &str, silence: Option<Duration>) -> Result<BufReader<UnixStream>, AskError> {
    let unreachable = |error| AskError::Unreachable { socket: socket.to_owned(), error };
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(SILENCE_MAX)).map_err(unreachable)?;
    // With HTTP/1.0 the answer ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: speaker\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut answer = BufReader::new(stream);
    head(&mut answer)?;
    answer.get_ref().set_read_timeout(silence).map_err(unreachable)?;
    Ok(answer)
}

/// A text as it may be in the query of a URL (RFC 3986 section 2.1).
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// Reads the head of an answer of HTTP, and all of one that is a refusal.
fn head(answer: &mut impl BufRead) -> Result<(), AskError> {
    let head = line(answer)?;
    let is_good = head.split_whitespace().nth(1) == Some("200");
    while !line(answer)?.is_empty() {}
    if is_good {
        return Ok(());
    }
    let mut text = String::new();
    let read = answer.take(LINE_MAX).read_to_string(&mut text);
    Err(AskError::Refused(read.map_or(head, |_| text.trim().to_owned())))
}

/// Reads the body of an answer about sessions, which is lines.
fn read(mut answer: impl BufRead) -> Result<Status, AskError> {
    let mut status = Status::default();
    loop {
        let text = line(&mut answer)?;
        match serde_json::from_str(&text).map_err(|error| AskError::Unreadable(error.to_string()))? {
            Line::Speaker(speaker) => status.speaker = speaker,
            Line::Peer(peer) => status.peers.push(*peer),
            Line::Route(route) => {
                if let Some(peer) = status.peers.last_mut() {
                    peer.routes.push(route);
                }
            }
            Line::Bfd(session) => status.bfd.push(*session),
            Line::End => break,
        }
    }
    status.peers.sort_by(|one, other| (&one.name, &one.router).cmp(&(&other.name, &other.router)));
    status.bfd.sort_by(|one, other| (&one.remote, &one.interface).cmp(&(&other.remote, &other.interface)));
    Ok(status)
}

/// The next line without its end.
fn line(answer: &mut impl BufRead) -> Result<String, AskError> {
    let mut text = String::new();
    let count = answer.take(LINE_MAX).read_line(&mut text).map_err(|error| AskError::Unreadable(error.to_string()))?;
    if count == 0 || !text.ends_with('\n') {
        return Err(AskError::CutShort);
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(mut answer: &[u8]) -> Result<Status, AskError> {
        head(&mut answer)?;
        read(answer)
    }

    const HEAD: &str = "HTTP/1.0 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n";
    const SPEAKER: &str = "{\"speaker\":{\"node\":\"n\",\"version\":\"1\",\"time\":\"t\",\"peerNames\":[]}}\n";

    #[test]
    fn an_answer_counts_when_it_is_complete() {
        let whole = format!("{HEAD}{SPEAKER}\"end\"\n");
        assert_eq!(answered(whole.as_bytes()).unwrap().speaker.node, "n");
        for length in 0..whole.len() {
            assert!(matches!(answered(&whole.as_bytes()[..length]), Err(AskError::CutShort)), "{length}");
        }
    }

    #[test]
    fn a_refusal_is_told_as_it_is() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\n\r\nthe speaker is busy; try again\n";
        assert_eq!(
            answered(answer.as_bytes()).unwrap_err().to_string(),
            "the speaker refuses: the speaker is busy; try again"
        );
        let other = format!("{HEAD}nonsense\n");
        assert!(matches!(answered(other.as_bytes()), Err(AskError::Unreadable(_))));
    }

    #[test]
    fn names_are_written_as_urls_want_them() {
        assert_eq!(encoded("rack-1.a_b~"), "rack-1.a_b~");
        assert_eq!(encoded("a b&c=d/é%"), "a%20b%26c%3Dd%2F%C3%A9%25");
    }

    #[test]
    fn a_hint_for_a_name_that_is_not_there() {
        let names = ["rack-1".to_owned(), "spine".to_owned()];
        assert_eq!(hint("rack1", &names), "did you mean \"rack-1\"?");
        assert_eq!(hint("elsewhere", &names), "it has rack-1, spine");
        assert_eq!(hint("x", &[]), "no BGPPeer selects this node; look at their nodeSelectors");
    }
}
