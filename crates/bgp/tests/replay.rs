//! Plays captures (`metallb capture bgp`) to a session of today: what the router sent, when it sent it, and what comes of it.
//!
//! A capture from a bug report becomes a test by being put into `tests/captures`; `UPDATE_EXPECT=1 cargo test -p bgp --test
//! replay` writes what comes of it beside it, for a person to read. There, `<` is what the router said, `>` what we said
//! then, and `=` what a session says and does now. KEEPALIVEs are left out, and so are our UPDATEs: the session has no routes
//! to announce. It is configured as our OPEN was.

#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use bgp::capture::{Block, Direction, Packet};
use bgp::wire::{AsnSize, Capability, Header, Message, MessageLimit, decode};
use bgp::{
    Beginning, CloseReason, ConnectRetry, ConnectionId, Families, GracefulRestart, Input, Mode, Notifications, Output,
    Peer, PeerConfig, Reception, RouterIdSource,
};
use expect_test::expect_file;
use kit::{Duration, HoldTime, Instant, Outbox, RemoteAs, Rng};

/// Where captures are.
const FOLDER: &str = "tests/captures";

#[test]
fn captures_end_as_they_did() {
    let mut files: Vec<_> = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pcapng"));
    files.sort();
    assert!(!files.is_empty(), "there are no captures");
    for path in files {
        let story = replay(&std::fs::read(&path).unwrap());
        expect_file![Path::new(env!("CARGO_MANIFEST_DIR")).join(path.with_extension("txt"))].assert_eq(&story);
    }
}

/// All connections of a file, one after the other.
fn replay(file: &[u8]) -> String {
    let mut connections: Vec<(Ends, Vec<Step>)> = Vec::new();
    let mut open: BTreeMap<Ends, usize> = BTreeMap::new();
    let mut rest = file;
    while let Some((block, after)) = Block::decode(rest).expect("a file that our command has written") {
        rest = after;
        let Block::Packet(packet) = block else { continue };
        let (ends, step) = step(&packet);
        if let What::Begin(_) = step.what {
            open.insert(ends, connections.len());
            connections.push((ends, Vec::new()));
        }
        // Packets before the first begin of a connection cannot be understood.
        if let Some(index) = open.get(&ends) {
            connections[*index].1.push(step);
        }
    }
    connections.into_iter().map(|(ends, steps)| tell(ends, &steps)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

/// A packet that matters.
struct Step {
    at: u64,
    lost: u64,
    comment: String,
    direction: Direction,
    what: What,
}

enum What {
    Begin(Direction),
    Bytes(Vec<u8>),
    End(CloseReason),
    Nothing,
}

fn step(packet: &Packet<'_>) -> (Ends, Step) {
    let (source, destination, tcp): (IpAddr, IpAddr, &[u8]) = if packet.data[0] >> 4 == 4 {
        let address = |from: usize| <[u8; 4]>::try_from(&packet.data[from..from + 4]).unwrap().into();
        (address(12), address(16), &packet.data[20..])
    } else {
        let address = |from: usize| <[u8; 16]>::try_from(&packet.data[from..from + 16]).unwrap().into();
        (address(8), address(24), &packet.data[40..])
    };
    let port = |from: usize| u16::from_be_bytes(tcp[from..from + 2].try_into().unwrap());
    let (source, destination) = (SocketAddr::new(source, port(0)), SocketAddr::new(destination, port(2)));
    let ends = match packet.direction {
        Direction::Sent => Ends { local: source, remote: destination },
        Direction::Received => Ends { local: destination, remote: source },
    };
    let (flags, payload) = (tcp[13], &tcp[20..]);
    let what = match flags {
        0x02 => What::Begin(packet.direction),
        _ if flags & 0x04 != 0 => What::End(CloseReason::Reset),
        _ if flags & 0x01 != 0 => What::End(CloseReason::ByPeer),
        _ if payload.is_empty() => What::Nothing,
        _ => What::Bytes(payload.to_vec()),
    };
    let comment = packet.comment.unwrap_or_default().to_owned();
    (ends, Step { at: packet.unix_micros, lost: packet.lost, comment, direction: packet.direction, what })
}

/// One connection as a story.
fn tell(ends: Ends, steps: &[Step]) -> String {
    let mut story = format!("{} - {}, {}\n", ends.local, ends.remote, steps[0].comment);
    let Some(config) = config(steps) else {
        return story + "  one of both OPENs is missing\n\n";
    };
    let mut stage = Stage::new(ends, config, steps);
    for step in steps {
        stage.step(step, &mut story);
    }
    story.push('\n');
    story
}

/// How we were configured, by what we said.
fn config(steps: &[Step]) -> Option<PeerConfig> {
    let first = |wanted: Direction| {
        let of_direction = |step: &&Step| step.direction == wanted;
        let bytes = steps.iter().filter(of_direction).find_map(|step| match &step.what {
            What::Bytes(bytes) => Some(bytes),
            _ => None,
        })?;
        match decode(bytes, AsnSize::Four, MessageLimit::Standard) {
            Ok(Message::Open(open)) => open.validate().ok(),
            _ => None,
        }
    };
    let (ours, theirs) = (first(Direction::Sent)?, first(Direction::Received)?);
    let families = ours.capabilities.iter().filter(|it| matches!(it, Capability::Multiprotocol(_))).count();
    let graceful_restart = ours.capabilities.iter().find_map(|capability| match capability {
        Capability::GracefulRestart { flags, restart_time_secs, families } if !families.is_empty() => {
            Some(GracefulRestart {
                restart_time: Duration::from_secs(u64::from(*restart_time_secs)),
                beginning: if flags & 0x8 != 0 { Beginning::Restarted } else { Beginning::New },
                notifications: if flags & 0x4 != 0 { Notifications::KeepRoutes } else { Notifications::DropRoutes },
            })
        }
        _ => None,
    });
    Some(PeerConfig {
        local_as: ours.asn,
        remote_as: RemoteAs::Exactly(theirs.asn),
        router_id: RouterIdSource::Configured(ours.router_id),
        hold_time: HoldTime::from_secs(u64::from(ours.hold_time.as_secs())).unwrap(),
        keepalive_time: None,
        connect_retry: ConnectRetry::BackOff,
        families: if families > 1 { Families::Both } else { Families::OfSession },
        mode: Mode::Both,
        reception: Reception::Refuse,
        graceful_restart,
    })
}

/// A session and its time.
struct Stage {
    ends: Ends,
    begin: u64,
    now: Instant,
    peer: Peer,
    out: Outbox<Output>,
    connection: ConnectionId,
    is_open: bool,
}

impl Stage {
    fn new(ends: Ends, config: PeerConfig, steps: &[Step]) -> Stage {
        let peer = Peer::new(config, Rng::new(1), Instant::ZERO);
        let out = Outbox::with_limit(bgp::OUTBOX_LIMIT);
        let (begin, now, connection) = (steps[0].at, Instant::ZERO, ConnectionId::Accepted(1));
        Stage { ends, begin, now, peer, out, connection, is_open: true }
    }

    fn step(&mut self, step: &Step, story: &mut String) {
        let now = Instant::from_micros(step.at.saturating_sub(self.begin));
        while let Some(deadline) = self.peer.next_deadline().filter(|deadline| *deadline <= now) {
            self.now = deadline.max(self.now);
            self.input(Input::Tick, story);
        }
        self.now = now.max(self.now);
        if step.lost > 0 {
            self.line(story, "!", &format!("{} packets are missing here", step.lost));
        }
        let connection = self.connection;
        match (&step.what, step.direction) {
            (What::Begin(by), _) => {
                self.input(Input::Start, story);
                if *by == Direction::Sent {
                    self.connection = ConnectionId::Dialed(1);
                }
                let Ends { local, remote } = self.ends;
                self.input(Input::Connected { connection: self.connection, local, remote }, story);
            }
            (What::Bytes(bytes), Direction::Received) => {
                self.line(story, "<", &text(bytes));
                self.input(Input::Received { connection, bytes: bytes.clone() }, story);
            }
            (What::Bytes(bytes), Direction::Sent) => self.line(story, ">", &text(bytes)),
            (What::End(reason), Direction::Received) => {
                self.line(story, "<", &format!("end of the connection: {reason}"));
                self.input(Input::Closed { connection, reason: reason.clone() }, story);
            }
            (What::End(_), Direction::Sent) => {
                self.line(story, ">", "end of the connection");
                if self.is_open {
                    self.line(story, "=", &format!("goes on: {}", self.peer.state()));
                }
            }
            (What::Nothing, _) => {}
        }
    }

    fn input(&mut self, input: Input, story: &mut String) {
        if let Input::Closed { .. } = input {
            self.is_open = false;
        }
        self.peer.handle(self.now, input, &mut self.out);
        for output in self.out.drain().collect::<Vec<_>>() {
            let said = match output {
                Output::Send { connection, bytes } if connection == self.connection => text(&bytes),
                Output::Close { connection } if connection == self.connection => {
                    self.is_open = false;
                    "closes".to_owned()
                }
                Output::SessionUp { remote_as, .. } => format!("up, with AS {remote_as}"),
                Output::SessionDown { reason } => format!("down: {reason}"),
                Output::AttemptFailed { reason } => format!("failed: {reason}"),
                Output::MalformedUpdate { errors, disposition, .. } => {
                    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                    format!("malformed, {disposition:?}: {}", errors.join("; "))
                }
                // It dials on its own, which is not what the capture is about.
                _ => continue,
            };
            self.line(story, "=", &said);
        }
    }

    fn line(&self, story: &mut String, mark: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let micros = self.now.as_micros();
        for text in text.lines() {
            writeln!(story, "  {:>4}.{:06} {mark} {text}", micros / 1_000_000, micros % 1_000_000).unwrap();
        }
    }
}

/// The messages in these bytes, but for KEEPALIVEs.
fn text(mut bytes: &[u8]) -> String {
    let mut lines = String::new();
    while !bytes.is_empty() {
        let length = match Header::decode(bytes, MessageLimit::Extended) {
            Ok(Some(header)) if header.length <= bytes.len() => header.length,
            _ => bytes.len(),
        };
        let (message, rest) = bytes.split_at(length);
        bytes = rest;
        match decode(message, AsnSize::Four, MessageLimit::Extended) {
            Ok(Message::Keepalive) => {}
            Ok(message) => writeln!(lines, "{message}").unwrap(),
            Err(error) => writeln!(lines, "{} bytes: {error}", message.len()).unwrap(),
        }
    }
    lines
}

#[test]
fn a_file_without_connections_tells_nothing() {
    assert_eq!(replay(&bgp::capture::head("MetalLB", "nothing")), "");
}
