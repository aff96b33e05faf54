//! `metallb capture bgp`: asks the speaker of this pod for the BGP messages of a peer, and writes them into a file for
//! Wireshark or tcpdump. It writes whole blocks, so that the file is good whenever it ends.

pub(crate) mod server;

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use api::GoDuration;
use bgp::capture::{BLOCK_MAX, Block, BlockError};
use clap::{Args, Subcommand};

use crate::status::{AskError, SOCKET, encoded, request};
use server::{CAPTURE_PATH, SECONDS_MAX};

/// Writes down what a running speaker and its routers say to each other
#[derive(Clone, Debug, Args)]
pub(crate) struct CaptureCommand {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Clone, Debug, Subcommand)]
enum Subject {
    /// The BGP messages of a peer, or of all, as a file for Wireshark and tcpdump
    Bgp(BgpFlags),
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples, from outside of the pod of a speaker:
  kubectl -n metallb-system exec POD -- /metallb capture bgp rack-1 --duration 5m >rack-1.pcapng
  kubectl -n metallb-system exec POD -- /metallb capture bgp rack-1 --count 20 | tcpdump -nvr -

Messages are those that the speaker saw, with the time when it did. Of a session that there is already, the beginning is
rebuilt, and those packets say so. There are no passwords in the file, but addresses, AS numbers and routes.

Exits with 0 when it has ended in order, also if packets were lost, which is told; 1 when the speaker does not capture that or has ended, and 2 when it could not be asked.")]
struct BgpFlags {
    /// Only this BGPPeer
    #[arg(value_name = "PEER")]
    peer: Option<String>,

    /// File to write; - for stdout
    #[arg(long, short, default_value = "-", value_name = "FILE")]
    output: PathBuf,

    /// End after this time, such as 5m; an hour at most
    #[arg(long, default_value = "1h", value_name = "TIME")]
    duration: CaptureTime,

    /// End after so many messages; those that come together with the last are there, too
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Socket of the speaker
    #[arg(long, default_value = SOCKET, value_name = "PATH")]
    socket: PathBuf,
}

/// How long a capture lasts, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CaptureTime(u64);

impl FromStr for CaptureTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = GoDuration::parse(text).map_err(|error| error.to_string())?;
        let seconds = u64::try_from(time.as_nanos()).unwrap_or_default() / 1_000_000_000;
        match seconds {
            1..=SECONDS_MAX => Ok(CaptureTime(seconds)),
            _ => Err("it must be between a second and an hour".to_owned()),
        }
    }
}

/// Why a capture is not complete.
#[derive(Debug, thiserror::Error)]
enum CaptureError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("cannot write to {}: {error}", .path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("the speaker has ended, or this took too long to be written; what is there can be used")]
    CutShort,
    #[error("the answer of the speaker cannot be read: {0}")]
    Unreadable(#[from] BlockError),
}

impl CaptureError {
    fn exit_code(&self) -> ExitCode {
        match self {
            CaptureError::Ask(AskError::Refused(_)) | CaptureError::CutShort => ExitCode::from(1),
            CaptureError::Ask(_) | CaptureError::Write { .. } | CaptureError::Unreadable(_) => ExitCode::from(2),
        }
    }
}

/// How many packets there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    packets: u64,
    lost: u64,
}

/// Runs the command.
pub(crate) fn run(command: &CaptureCommand) -> ExitCode {
    let Subject::Bgp(flags) = &command.subject;
    let mut talk = io::stderr().lock();
    if flags.output.as_os_str() == "-" && io::stdout().is_terminal() {
        let _ = writeln!(talk, "metallb capture: the file would go to the terminal");
        let _ = writeln!(talk, "hint: name one by --output FILE, or pipe it into tcpdump -nvr -");
        return ExitCode::from(2);
    }
    match capture(flags) {
        Ok(Outcome { packets, lost: 0 }) => {
            let _ = writeln!(talk, "{packets} packets captured");
            ExitCode::SUCCESS
        }
        Ok(Outcome { packets, lost }) => {
            let _ = writeln!(
                talk,
                "{packets} packets, of which {lost} are missing: they came faster than they were written"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(talk, "metallb capture: {error}");
            if let CaptureError::Ask(error) = &error
                && let Some(hint) = error.hint()
            {
                let _ = writeln!(talk, "hint: {hint}");
            }
            error.exit_code()
        }
    }
}

fn capture(flags: &BgpFlags) -> Result<Outcome, CaptureError> {
    let count = flags.count.map(|count| format!("&count={count}")).unwrap_or_default();
    let peer = flags.peer.as_ref().map(|peer| format!("&peer={}", encoded(peer))).unwrap_or_default();
    let path = format!("{CAPTURE_PATH}?seconds={}{count}{peer}", flags.duration.0);
    // A speaker has nothing to say while nothing happens.
    let answer = request(&flags.socket, &path, None)?;
    let failed = |error| CaptureError::Write { path: flags.output.clone(), error };
    if flags.output.as_os_str() == "-" {
        copy(answer, io::stdout().lock(), failed)
    } else {
        let file = File::create(&flags.output).map_err(failed)?;
        copy(answer, file, failed)
    }
}

/// Copies blocks as they come, until the one that says how many there were.
fn copy(
    mut answer: impl Read,
    mut file: impl Write,
    failed: impl Fn(io::Error) -> CaptureError,
) -> Result<Outcome, CaptureError> {
    let mut waiting = Vec::new();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = answer.read(&mut bytes).map_err(|_| CaptureError::CutShort)?;
        if count == 0 {
            return Err(CaptureError::CutShort);
        }
        waiting.extend_from_slice(bytes.get(..count).unwrap_or_default());
        let mut rest = waiting.as_slice();
        let mut outcome = None;
        while let Some((block, after)) = Block::decode(rest)? {
            rest = after;
            if let Block::Statistics { packets, lost } = block {
                outcome = Some(Outcome { packets, lost });
            }
        }
        let whole = waiting.len().saturating_sub(rest.len());
        let blocks: Vec<u8> = waiting.drain(..whole).collect();
        file.write_all(&blocks).and_then(|()| file.flush()).map_err(&failed)?;
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
        debug_assert!(waiting.len() <= BLOCK_MAX, "the decoder knows no larger block");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(answer: &[u8]) -> (Vec<u8>, Result<Outcome, CaptureError>) {
        let mut file = Vec::new();
        let outcome = copy(answer, &mut file, |error| CaptureError::Write { path: PathBuf::from("file"), error });
        (file, outcome)
    }

    #[test]
    fn whole_blocks_are_written_wherever_the_answer_ends() {
        let mut whole = bgp::capture::head("MetalLB", "a comment");
        let head = whole.len();
        whole.extend(bgp::capture::tail(5, 7, 2));
        for length in 0..whole.len() {
            let (file, outcome) = written(&whole[..length]);
            assert!(matches!(outcome, Err(CaptureError::CutShort)), "{length}");
            assert!(whole.starts_with(&file) && (length < head) != (file.len() == head), "{length}: {}", file.len());
        }
        let (file, outcome) = written(&whole);
        assert_eq!(file, whole);
        assert_eq!(outcome.unwrap(), Outcome { packets: 7, lost: 2 });
        assert!(matches!(written(b"HTTP/1.0 200 OK\r\n\r\n").1, Err(CaptureError::Unreadable(_))));
    }

    #[test]
    fn times_of_captures() {
        assert_eq!("90s".parse(), Ok(CaptureTime(90)));
        assert_eq!("1h".parse(), Ok(CaptureTime(3600)));
        for wrong in ["0s", "100ms", "-5s", "1h1s", "soon"] {
            wrong.parse::<CaptureTime>().unwrap_err();
        }
    }
}
