//! The codec against what Go sent (`tests/vectors.txt`, made by `tests/memberlist vectors`), and against hostile bytes.

use std::sync::LazyLock;

use expect_test::{Expect, expect};

use super::fuzz::Transparent;
use super::packet::{Dress, Guard, open};
use super::*;
use crate::Keyring;
use crate::Name;

/// What carried a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Packet,
    Stream,
}

/// Something that Go sent.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    /// How Go was configured.
    pub(crate) variant: String,
    pub(crate) carrier: Carrier,
    pub(crate) bytes: Vec<u8>,
}

impl Vector {
    /// The label of its cluster.
    fn label(&self) -> &'static [u8] {
        if self.variant.starts_with("labelled") { b"blue" } else { b"" }
    }

    /// Only who dials says a label; without one there is no difference.
    fn direction(&self) -> Direction {
        let is_answer = !self.label().is_empty() && self.bytes.first() != Some(&244);
        if is_answer { Direction::Answer } else { Direction::Dialed }
    }
}

pub(crate) fn vectors() -> Vec<Vector> {
    let text = include_str!("../../tests/vectors.txt");
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let variant = words.next().unwrap().to_owned();
        let carrier = if words.next().unwrap() == "packet" { Carrier::Packet } else { Carrier::Stream };
        let hex = words.next().unwrap();
        let byte = |at| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap();
        Vector { variant, carrier, bytes: (0..hex.len()).step_by(2).map(byte).collect() }
    };
    text.lines().map(parse).collect()
}

static NO_KEY: LazyLock<Keyring> = LazyLock::new(Keyring::plaintext);

fn plain_guard(label: &'static [u8]) -> Guard<'static> {
    Guard { label, keyring: &NO_KEY, plaintext: Plaintext::Refused }
}

fn dress(label: &'static [u8], compression: Compression) -> Dress<'static> {
    Dress { label, key: None, compression }
}

fn read_stream(bytes: &[u8], guard: &Guard<'_>) -> Result<Option<StreamMessage>, DecodeError> {
    read_direction(bytes, guard, Direction::Dialed)
}

fn read_direction(bytes: &[u8], guard: &Guard<'_>, direction: Direction) -> Result<Option<StreamMessage>, DecodeError> {
    Ok(StreamReader::new(direction).read(bytes, guard)?.map(|(message, _)| message))
}

/// What is in a vector, a message a line.
fn show(vector: &Vector) -> String {
    let label = vector.label();
    let direction = vector.direction();
    match vector.carrier {
        Carrier::Packet => match open(&vector.bytes, &plain_guard(label)) {
            Ok(opened) => {
                let show = |message: Result<Message, DecodeError>| match message {
                    Ok(message) => format!("    {message}\n"),
                    Err(error) => format!("    error: {error}\n"),
                };
                opened.messages.into_iter().map(show).collect()
            }
            Err(error) => format!("    error: {error}\n"),
        },
        Carrier::Stream => match read_direction(&vector.bytes, &plain_guard(label), direction) {
            Ok(Some(StreamMessage::PushPull(exchange))) => {
                let join = if exchange.join { "join" } else { "exchange" };
                let node = |it: &NodeState| format!("    {:?}: {}\n", it.health, Message::Alive(it.node.clone()));
                format!("    {join}\n{}", exchange.nodes.iter().map(node).collect::<String>())
            }
            other => format!("    {other:?}\n"),
        },
    }
}

fn check(variant: &str, expect: Expect) {
    let vectors: Vec<_> = vectors().into_iter().filter(|it| it.variant == variant).collect();
    let text = vectors.iter().map(|it| format!("{:?} {}\n{}", it.carrier, it.bytes[0], show(it))).collect::<String>();
    expect.assert_eq(&text);
}

#[test]
fn what_go_sends_plain() {
    check(
        "plain",
        expect![[r#"
        Stream 6
            join
            Alive: alive node-b@1 at 127.0.0.12:17946 meta of node-b
        Stream 6
            join
            Alive: alive node-a@1 at 127.0.0.11:17946
        Packet 12
            alive node-b@1 at 127.0.0.12:17946 meta of node-b
            alive node-a@1 at 127.0.0.11:17946
            alive node-c@1 at 127.0.0.13:17946
        Packet 12
            alive node-b@1 at 127.0.0.12:17946 meta of node-b
            alive node-a@1 at 127.0.0.11:17946
        Packet 0
            ping node-c #1 from node-a at 127.0.0.11:17946
        Packet 7
            ping node-a #1 from node-b at 127.0.0.12:17946
            alive node-c@1 at 127.0.0.13:17946
            alive node-d@1 at 127.0.0.14:17946
            alive node-b@1 at 127.0.0.12:17946 meta of node-b
            alive node-a@1 at 127.0.0.11:17946
        Packet 2
            ack #1
        Packet 2
            ack #1
        Packet 0
            ping node-b #1 from node-c at 127.0.0.13:17946
        Stream 8
            Ok(Some(User))
        Stream 9
            Err(Invalid { field: "Algo", problem: "there is no such compression" })
        Stream 13
            Ok(Some(Error("Cannot decompress unknown algorithm 1")))
        Packet 1
            ping node-d at 127.0.0.14:17946 for me #6, or nack from node-c at 127.0.0.13:17946
        Packet 1
            ping node-d at 127.0.0.14:17946 for me #6, or nack from node-a at 127.0.0.11:17946
        Packet 11
            nack #6
        Packet 11
            nack #6
        Packet 7
            ping node-b #8 from node-c at 127.0.0.13:17946
            suspect node-d@1 by node-c
        Packet 7
            ping node-b #8 from node-a at 127.0.0.11:17946
            suspect node-d@1 by node-a
        Packet 7
            ping node-d at 127.0.0.14:17946 for me #7, or nack from node-b at 127.0.0.12:17946
            suspect node-d@1 by node-a
        Packet 7
            ack #13
            dead node-d@1 by node-b
    "#]],
    );
}

#[test]
fn what_go_sends_compressed() {
    check(
        "compressed",
        expect![[r#"
        Stream 9
            join
            Alive: alive node-b@1 at 127.0.1.12:17946 meta of node-b
        Stream 9
            join
            Alive: alive node-a@1 at 127.0.1.11:17946
        Packet 12
            alive node-b@1 at 127.0.1.12:17946 meta of node-b
            alive node-d@1 at 127.0.1.14:17946
            alive node-c@1 at 127.0.1.13:17946
            alive node-a@1 at 127.0.1.11:17946
        Packet 12
            alive node-b@1 at 127.0.1.12:17946 meta of node-b
            alive node-d@1 at 127.0.1.14:17946
            alive node-c@1 at 127.0.1.13:17946
            alive node-a@1 at 127.0.1.11:17946
        Packet 0
            ping node-a #1 from node-d at 127.0.1.14:17946
        Packet 0
            ping node-a #1 from node-c at 127.0.1.13:17946
        Packet 2
            ack #1
        Packet 2
            ack #1
        Packet 1
            ping node-d at 127.0.1.14:17946 for me #6, or nack from node-b at 127.0.1.12:17946
        Packet 11
            nack #6
        Packet 7
            ping node-d at 127.0.1.14:17946 for me #7, or nack from node-b at 127.0.1.12:17946
            suspect node-d@1 by node-b
        Packet 1
            ping node-d at 127.0.1.14:17946 for me #8, or nack from node-a at 127.0.1.11:17946
        Packet 7
            ping node-d #9 from node-c at 127.0.1.13:17946
            suspect node-d@1 by node-b
        Packet 11
            nack #8
        Packet 7
            ping node-c #9 from node-a at 127.0.1.11:17946
            suspect node-d@1 by node-a
        Packet 7
            ack #8
            suspect node-d@1 by node-a
        Packet 7
            ping node-d at 127.0.1.14:17946 for me #10, or nack from node-c at 127.0.1.13:17946
            suspect node-d@1 by node-a
    "#]],
    );
}

#[test]
fn what_go_sends_with_a_label() {
    check(
        "labelled",
        expect![[r#"
        Stream 244
            join
            Alive: alive node-b@1 at 127.0.4.12:17946 meta of node-b
        Stream 6
            join
            Alive: alive node-a@1 at 127.0.4.11:17946
        Stream 244
            join
            Alive: alive node-c@1 at 127.0.4.13:17946
        Stream 6
            join
            Alive: alive node-b@1 at 127.0.4.12:17946 meta of node-b
            Alive: alive node-a@1 at 127.0.4.11:17946
        Packet 244
            alive node-b@1 at 127.0.4.12:17946 meta of node-b
            alive node-a@1 at 127.0.4.11:17946
            alive node-c@1 at 127.0.4.13:17946
            alive node-d@1 at 127.0.4.14:17946
        Packet 244
            alive node-b@1 at 127.0.4.12:17946 meta of node-b
            alive node-a@1 at 127.0.4.11:17946
        Stream 13
            Ok(Some(Error("Cannot decompress unknown algorithm 1")))
    "#]],
    );
}

#[test]
fn what_go_sends_is_what_we_send() {
    let mut compared = 0;
    for vector in vectors() {
        let (label, compression): (&[u8], _) = match vector.variant.as_str() {
            "plain" => (b"", Compression::Off),
            "compressed" => (b"", Compression::Lzw),
            "labelled" => (b"blue", Compression::Off),
            _ => continue,
        };
        let (guard, direction) = (plain_guard(label), vector.direction());
        match vector.carrier {
            Carrier::Packet => {
                let messages = open(&vector.bytes, &guard).unwrap().messages;
                let messages = messages.into_iter().map(|message| message.unwrap().encode()).collect();
                let after_label = vector.bytes[label::length(label)];
                let checksum = if after_label == 12 { Checksum::Added } else { Checksum::Absent };
                assert_eq!(dress(label, compression).packet(messages, checksum), vector.bytes);
            }
            Carrier::Stream => match read_direction(&vector.bytes, &guard, direction) {
                Ok(Some(StreamMessage::User)) | Err(_) => continue,
                Ok(Some(message)) => {
                    assert_eq!(dress(label, compression).stream(&message, direction), vector.bytes);
                }
                Ok(None) => panic!("a message was cut short"),
            },
        }
        compared += 1;
    }
    assert!(compared > 35, "{compared} vectors were compared");
}

#[test]
fn every_message_type_is_among_the_vectors() {
    let mut seen = [false; 256];
    for vector in vectors() {
        seen[usize::from(vector.bytes[0])] = true;
        if vector.variant == "plain" && vector.carrier == Carrier::Packet {
            let Ok(opened) = open(&vector.bytes, &plain_guard(b"")) else { continue };
            for message in opened.messages {
                seen[usize::from(message.unwrap().encode()[0])] = true;
            }
        }
    }
    let missing: Vec<_> = (0..=13).chain([244]).filter(|kind| !seen[*kind]).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn alive(name: &str, meta: &[u8]) -> Message {
    Message::Alive(Alive {
        incarnation: 3,
        node: Name::new(name).unwrap(),
        address: "10.0.0.1:7946".parse().unwrap(),
        meta: meta.to_vec(),
        versions: Some(Versions::OURS),
    })
}

#[test]
fn fields_that_make_no_sense_are_refused() {
    let decode = |bytes: &[u8]| Message::decode(bytes).map(|message| message.to_string()).map_err(|it| it.to_string());
    assert!(decode(&alive("a", &[b'm'; META_MAX]).encode()).is_ok());
    assert_eq!(decode(&alive("a", &[b'm'; META_MAX + 1]).encode()), Err("Meta is larger than 512".to_owned()));
    let message = |fields: &str| [b"\x04\x86", fields.as_bytes()].concat();
    let fields = "\u{7f}";
    assert_eq!(decode(&message(fields)), Err("alive: a value is neither text nor bytes".to_owned()));
    assert_eq!(decode(b"\x05\x82\xa4Node\xa1a\xa4From\xa0"), Err("From: it is no name".to_owned()));
    assert_eq!(decode(b"\x04\x82\xa4Node\xa1a\xa4Addr\xa3abc"), Err("Addr: an address has 4 or 16 bytes".to_owned()));
    assert_eq!(
        decode(b"\x04\x83\xa4Node\xa1a\xa4Addr\xa4abcd\xa3Vsn\xa3\x01\x02\x03"),
        Err("Vsn: there are fewer than six versions".to_owned())
    );
    assert_eq!(decode(b"\x06"), Err("message type 6 is not expected here".to_owned()));
    assert_eq!(decode(b"\x63"), Err("message type 99 is not expected here".to_owned()));
    assert_eq!(decode(b""), Err("message is cut short".to_owned()));
}

#[test]
fn an_ipv4_address_in_sixteen_bytes_is_passed_on_as_it_came() {
    let mapped = b"\x04\x82\xa4Node\xa1a\xa4Addr\xb0\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01";
    let Ok(Message::Alive(alive)) = Message::decode(mapped) else { panic!("it is an alive message") };
    assert!(Message::Alive(alive).encode().windows(16).any(|bytes| bytes == &mapped[mapped.len() - 16..]));
}

fn messages_in(bytes: &[u8]) -> Vec<Result<Message, DecodeError>> {
    open(bytes, &plain_guard(b"")).unwrap().messages
}

#[test]
fn compounds_in_compounds_end() {
    let mut bytes = vec![2];
    for _ in 0..100 {
        bytes = compound::encode(vec![bytes.clone(), vec![]]);
    }
    assert!(
        messages_in(&bytes).iter().any(|it| it.as_ref().is_err_and(|it| it.to_string().contains("nested too deep")))
    );
    let many = compound::encode(vec![compound::encode(vec![vec![]; 255]); 100]);
    assert!(messages_in(&many).len() <= PACKET_MESSAGES_MAX);
}

#[test]
fn a_bomb_in_each_part_of_a_compound_costs_no_more_than_one() {
    let bomb = compress::encode(&vec![0; 200_000]);
    let bytes = compound::encode(vec![bomb; 60]);
    assert!(bytes.len() < 65_507, "it fits a packet: {}", bytes.len());
    let refused = messages_in(&bytes).iter().filter(|it| matches!(it, Err(DecodeError::TooLarge { .. }))).count();
    assert_eq!(refused, 59, "the first took most of the budget");
}

#[test]
fn a_push_pull_that_claims_a_million_members_is_refused_at_once() {
    let claim = |nodes: &[u8]| [b"\x06\x81\xa5Nodes", nodes].concat();
    let million = claim(&[0xce, 0, 0x0f, 0x42, 0x40]);
    let refusal = Err(DecodeError::TooLarge { field: "Nodes", limit: MEMBERS_MAX });
    assert_eq!(read_stream(&million, &plain_guard(b"")), refusal);
    let mut reader = StreamReader::new(Direction::Dialed);
    assert!(matches!(reader.read(&claim(&[0xcd, 0x20, 0]), &plain_guard(b"")), Ok(None)), "8192 are waited for");
    assert!(reader.buffered() < 100);
}

#[test]
fn a_stream_that_never_ends_is_given_up() {
    let mut reader = StreamReader::new(Direction::Dialed);
    assert!(matches!(reader.read(b"\x00\x81\xa4Node\xdb\x7f\xff\xff\xff", &plain_guard(b"")), Ok(None)));
    let outcome = (0..100).find_map(|_| reader.read(&vec![0; 65_536], &plain_guard(b"")).err());
    assert_eq!(outcome, Some(DecodeError::TooLarge { field: "a message", limit: STREAM_BYTES_MAX }));
    assert_eq!(reader.buffered(), 0);
}

#[test]
fn a_member_that_makes_no_sense_does_not_keep_the_others_away() {
    let state = |name: &str, health| {
        let Message::Alive(node) = alive(name, b"") else { panic!("it is") };
        NodeState { node, health }
    };
    let exchange = PushPull { join: true, nodes: vec![state("a", Health::Alive), state("b", Health::Left)] };
    let mut bytes = exchange.encode();
    let at = bytes.windows(3).position(|it| it == b"\xa1b\xa4").unwrap();
    bytes[at + 1] = 7;
    let Ok(Some(StreamMessage::PushPull(read))) = read_stream(&bytes, &plain_guard(b"")) else { panic!("it is") };
    assert_eq!(read.nodes, [state("a", Health::Alive)]);
}

#[test]
fn once_there_is_a_key_plaintext_is_refused_and_told_from_another_key() {
    let (ours, others) = (Transparent::keyring(&[b"ours", b"new"]), Transparent::keyring(&[b"others"]));
    let new = Transparent::keyring(&[b"new"]);
    let plain = alive("node-a", b"").encode();
    let sealed = |keyring: &Keyring| {
        Dress { label: b"", key: keyring.first(), compression: Compression::Off }
            .packet(vec![plain.clone()], Checksum::Added)
    };
    let open_with = |bytes: &[u8], plaintext| {
        open(bytes, &Guard { label: b"", keyring: &ours, plaintext }).map(|it| (it.messages.len(), it.key))
    };
    assert_eq!(open_with(&plain, Plaintext::Refused), Err(DecodeError::Plaintext));
    assert_eq!(open_with(&plain, Plaintext::Taken), Ok((1, None)));
    assert_eq!(open_with(&sealed(&others), Plaintext::Refused), Err(DecodeError::Sealed));
    assert_eq!(open_with(&sealed(&ours), Plaintext::Refused), Ok((1, Some(0))));
    assert_eq!(open_with(&sealed(&new), Plaintext::Refused), Ok((1, Some(1))));

    let ping = StreamMessage::Ping(Ping { sequence: 1, node: None, source: None });
    let stream = |keyring: &Keyring| {
        Dress { label: b"", key: keyring.first(), compression: Compression::Lzw }.stream(&ping, Direction::Dialed)
    };
    let read = |bytes: Vec<u8>, plaintext| read_stream(&bytes, &Guard { label: b"", keyring: &ours, plaintext });
    assert_eq!(read(stream(&NO_KEY), Plaintext::Refused), Err(DecodeError::Plaintext));
    assert_eq!(read(stream(&NO_KEY), Plaintext::Taken), Ok(Some(ping.clone())));
    assert_eq!(read(stream(&others), Plaintext::Refused), Err(DecodeError::Sealed));
    assert_eq!(read(stream(&ours), Plaintext::Refused), Ok(Some(ping.clone())));
    assert_eq!(read(stream(&new), Plaintext::Refused), Ok(Some(ping.clone())));
    assert_eq!(read_stream(&stream(&ours), &plain_guard(b"")), Err(DecodeError::NoKey));
}

#[test]
fn another_label_is_refused() {
    let packet = dress(b"blue", Compression::Off).packet(vec![alive("a", b"").encode()], Checksum::Absent);
    assert_eq!(open(&packet, &plain_guard(b"")).unwrap_err(), DecodeError::Label);
    assert_eq!(open(&packet, &plain_guard(b"green")).unwrap_err(), DecodeError::Label);
    assert!(open(&packet, &plain_guard(b"blue")).is_ok());
    let ping = StreamMessage::Ping(Ping { sequence: 1, node: None, source: None });
    let stream = dress(b"blue", Compression::Off).stream(&ping, Direction::Dialed);
    assert_eq!(read_stream(&stream, &plain_guard(b"")), Err(DecodeError::Label));
    assert_eq!(read_stream(&stream, &plain_guard(b"blue")), Ok(Some(ping)));
}

#[test]
fn padding_that_is_none_is_refused() {
    let keyring = Transparent::keyring(&[b"ours"]);
    let packet = |padding: u8| {
        let mut plain = vec![2; 20];
        plain.push(padding);
        let mut bytes = vec![0];
        keyring.first().unwrap().seal(b"", &plain, &mut bytes);
        open(&bytes, &Guard { label: b"", keyring: &keyring, plaintext: Plaintext::Refused }).map(|_| ())
    };
    assert_eq!(packet(16), Ok(()));
    for padding in [0, 17, 255] {
        assert_eq!(packet(padding), Err(DecodeError::invalid("padding", "it is none")), "{padding}");
    }
}
