//! What is written: as packets that add up, and as a file that can be read again.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use kit::{Asn, HoldTime, RouterId};
use proptest::prelude::*;

use super::*;
use crate::wire::{Capability, Open};

/// The blocks of a file, a line each.
fn blocks(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while let Some((block, rest)) = Block::decode(bytes).unwrap() {
        bytes = rest;
        match block {
            Block::Packet(packet) => text.push_str(&line(&packet)),
            Block::Statistics { packets, lost } => writeln!(text, "{packets} packets, {lost} lost").unwrap(),
            Block::Other => text.push_str("other\n"),
        }
    }
    assert!(bytes.is_empty(), "a block that is cut");
    text
}

fn line(packet: &Packet<'_>) -> String {
    let Packet { unix_micros, direction, comment, lost, data } = packet;
    let header = if data[0] >> 4 == 4 { 20 } else { 40 };
    let tcp = &data[header..];
    let number = |from: usize| u32::from_be_bytes(tcp[from..from + 4].try_into().unwrap());
    let port = |from: usize| u16::from_be_bytes(tcp[from..from + 2].try_into().unwrap());
    let flags: String = ["F", "S", "R", "P", "A"]
        .iter()
        .enumerate()
        .filter(|(bit, _)| tcp[13] & (1 << bit) != 0)
        .map(|(_, letter)| *letter)
        .collect();
    let mut line = format!(
        "{unix_micros} {direction:?} {}->{} {flags} seq {} ack {} {} bytes",
        port(0),
        port(2),
        number(4),
        number(8),
        tcp.len() - 20
    );
    if *lost > 0 {
        write!(line, ", {lost} lost before").unwrap();
    }
    if let Some(comment) = comment {
        write!(line, ", {comment}").unwrap();
    }
    line + "\n"
}

fn check(bytes: &[u8], expected: Expect) {
    expected.assert_eq(&blocks(bytes));
}

fn connected(connection: ConnectionId) -> Input {
    let (local, remote) = ("192.0.2.1:40000", "192.0.2.2:179");
    Input::Connected { connection, local: local.parse().unwrap(), remote: remote.parse().unwrap() }
}

fn open_message() -> Vec<u8> {
    let mut bytes = Vec::new();
    let asn = Asn::new(65001).unwrap();
    Open::new(asn, HoldTime::DEFAULT, RouterId::new(7).unwrap(), vec![Capability::RouteRefresh]).encode(&mut bytes);
    bytes
}

fn keepalives(count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    (0..count).for_each(|_| keepalive(&mut bytes));
    bytes
}

#[test]
fn a_connection_from_its_begin_to_its_end() {
    let dialed = ConnectionId::Dialed(1);
    let mut capture = Capture::new();
    capture.input(1_000_000, 1, "rack", &connected(dialed));
    capture.output(1_000_001, 1, &Output::Send { connection: dialed, bytes: open_message() });
    // An OPEN that comes in two pieces is one packet, with the KEEPALIVE behind it another.
    let theirs = [open_message(), keepalives(1)].concat();
    capture.input(1_000_002, 1, "rack", &Input::Received { connection: dialed, bytes: theirs[..20].to_vec() });
    capture.input(1_000_003, 1, "rack", &Input::Received { connection: dialed, bytes: theirs[20..].to_vec() });
    // What is no message is shown as it is, and what is cut, too.
    capture.input(1_000_004, 1, "rack", &Input::Received { connection: dialed, bytes: vec![b'x'; 40] });
    capture.input(1_000_005, 1, "rack", &Input::Received { connection: dialed, bytes: vec![0xff; 10] });
    capture.output(1_000_006, 1, &Output::Close { connection: dialed });
    // Nothing of a connection that is closed, or was never seen.
    capture.input(1_000_007, 1, "rack", &Input::Received { connection: dialed, bytes: keepalives(1) });
    capture.output(1_000_007, 2, &Output::Send { connection: dialed, bytes: keepalives(1) });
    let recording = capture.take();
    assert_eq!((recording.packets, recording.messages), (9, 4));
    let file = [head("MetalLB", "a test"), recording.bytes, tail(1_000_008, 9, 0)].concat();
    check(
        &file,
        expect![[r#"
        other
        other
        1000000 Sent 40000->179 S seq 0 ack 0 0 bytes, BGPPeer rack
        1000000 Received 179->40000 SA seq 0 ack 1 0 bytes
        1000000 Sent 40000->179 A seq 1 ack 1 0 bytes
        1000001 Sent 40000->179 PA seq 1 ack 1 39 bytes
        1000003 Received 179->40000 PA seq 1 ack 40 39 bytes
        1000003 Received 179->40000 PA seq 40 ack 40 19 bytes
        1000004 Received 179->40000 PA seq 59 ack 40 40 bytes
        1000006 Received 179->40000 PA seq 99 ack 40 10 bytes
        1000006 Sent 40000->179 FA seq 40 ack 109 0 bytes
        9 packets, 0 lost
    "#]],
    );
}

#[test]
fn who_calls_is_the_first_to_speak_and_a_reset_is_one() {
    let accepted = ConnectionId::Accepted(1);
    let mut capture = Capture::new();
    capture.input(5, 1, "rack", &connected(accepted));
    capture.input(6, 1, "rack", &Input::Closed { connection: accepted, reason: CloseReason::Reset });
    check(
        &capture.take().bytes,
        expect![[r#"
        5 Received 179->40000 S seq 0 ack 0 0 bytes, BGPPeer rack
        5 Sent 40000->179 SA seq 0 ack 1 0 bytes
        5 Received 179->40000 A seq 1 ack 1 0 bytes
        6 Received 179->40000 RA seq 1 ack 1 0 bytes, the connection was reset by the peer
    "#]],
    );
}

#[test]
fn what_is_lost_is_said_by_the_next_packet() {
    let dialed = ConnectionId::Dialed(1);
    let mut capture = Capture::new();
    capture.input(5, 1, "rack", &connected(dialed));
    let begin = capture.take();
    for count in [3, 1] {
        capture.input(6, 1, "rack", &Input::Received { connection: dialed, bytes: keepalives(count) });
        let lost = capture.take();
        capture.lost(&lost);
    }
    capture.input(7, 1, "rack", &Input::Received { connection: dialed, bytes: keepalives(2) });
    check(
        &[begin.bytes, capture.take().bytes].concat(),
        expect![[r#"
            5 Sent 40000->179 S seq 0 ack 0 0 bytes, BGPPeer rack
            5 Received 179->40000 SA seq 0 ack 1 0 bytes
            5 Sent 40000->179 A seq 1 ack 1 0 bytes
            7 Received 179->40000 PA seq 77 ack 1 19 bytes, 4 lost before
            7 Received 179->40000 PA seq 96 ack 1 19 bytes
        "#]],
    );
}

#[test]
fn a_session_that_there_is_already_is_told_from_its_begin() {
    let open = Open::new(Asn::new(65001).unwrap(), HoldTime::DEFAULT, RouterId::new(7).unwrap(), Vec::new());
    let (local, remote) = ("[2001:db8::1]:40000", "[2001:db8::2]:179");
    let connection = ConnectionView {
        id: ConnectionId::Dialed(3),
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        open_sent: &open,
        open_received: Some(open.clone()),
        is_established: true,
        unread: &keepalives(1)[..5],
    };
    let mut capture = Capture::new();
    capture.join(5, 1, "rack", &connection);
    capture.input(6, 1, "rack", &Input::Received { connection: connection.id, bytes: keepalives(1)[5..].to_vec() });
    check(
        &capture.take().bytes,
        expect![[r#"
        5 Sent 40000->179 S seq 0 ack 0 0 bytes, BGPPeer rack; rebuilt: this happened before the capture began
        5 Received 179->40000 SA seq 0 ack 1 0 bytes
        5 Sent 40000->179 A seq 1 ack 1 0 bytes
        5 Sent 40000->179 PA seq 1 ack 1 37 bytes, BGPPeer rack; rebuilt: this happened before the capture began
        5 Received 179->40000 PA seq 1 ack 38 37 bytes, BGPPeer rack; rebuilt: this happened before the capture began
        5 Sent 40000->179 PA seq 38 ack 38 19 bytes, BGPPeer rack; rebuilt: this happened before the capture began
        5 Received 179->40000 PA seq 38 ack 57 19 bytes, BGPPeer rack; rebuilt: this happened before the capture began
        6 Received 179->40000 PA seq 57 ack 57 19 bytes
    "#]],
    );
}

#[test]
fn a_message_that_no_packet_holds_is_cut() {
    let dialed = ConnectionId::Dialed(1);
    let mut message = vec![0xff; 16];
    message.extend([0xff, 0xff, 2]);
    message.resize(65_535, 0);
    let mut capture = Capture::new();
    capture.input(5, 1, "rack", &connected(dialed));
    drop(capture.take());
    capture.input(6, 1, "rack", &Input::Received { connection: dialed, bytes: message });
    let recording = capture.take();
    assert_eq!((recording.packets, recording.messages), (4, 1));
}

/// All packets of one direction put together are what went that way, however it was cut.
fn payloads(bytes: &[u8], direction: Direction) -> Vec<u8> {
    let mut rest = bytes;
    let mut payload = Vec::new();
    while let Some((block, after)) = Block::decode(rest).unwrap() {
        rest = after;
        if let Block::Packet(packet) = block
            && packet.direction == direction
        {
            payload.extend_from_slice(&packet.data[40..]);
        }
    }
    payload
}

proptest! {
    #[test]
    fn nothing_is_lost_or_changed_however_the_bytes_come(
        messages in proptest::collection::vec((2_u8..5, 0_usize..300), 0..20),
        garbage in proptest::collection::vec(any::<u8>(), 0..60),
        cuts in proptest::collection::vec(1_usize..200, 1..20),
    ) {
        let mut stream = Vec::new();
        for (kind, length) in messages {
            stream.extend([0xff; 16]);
            stream.extend(u16::try_from(length + 23).unwrap().to_be_bytes());
            stream.push(kind);
            stream.extend(vec![0; length + 4]);
        }
        stream.extend(garbage);
        let dialed = ConnectionId::Dialed(1);
        let mut capture = Capture::new();
        capture.input(0, (), "rack", &connected(dialed));
        let mut rest = stream.as_slice();
        for cut in cuts.into_iter().cycle() {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            capture.input(0, (), "rack", &Input::Received { connection: dialed, bytes: piece.to_vec() });
            if rest.is_empty() {
                break;
            }
        }
        capture.input(0, (), "rack", &Input::Closed { connection: dialed, reason: CloseReason::ByPeer });
        prop_assert_eq!(payloads(&capture.take().bytes, Direction::Received), stream);
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_read(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        edits in proptest::collection::vec((0_usize..400, any::<u8>()), 0..4),
    ) {
        let dialed = ConnectionId::Dialed(1);
        let mut capture = Capture::new();
        capture.input(0, (), "rack", &connected(dialed));
        let mut file = [head("MetalLB", "a test"), capture.take().bytes, tail(0, 3, 0), bytes].concat();
        for (at, byte) in edits {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        let mut rest = file.as_slice();
        while let Ok(Some((_, after))) = Block::decode(rest) {
            prop_assert!(after.len() < rest.len());
            rest = after;
        }
    }
}
