//! The messages that members send each other, one by one (message types 0 to 5, 8 and 11).
//!
//! Field names are memberlist's. Missing fields are zero, unknown ones are skipped: so versions of the protocol lived
//! and live beside each other.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::msgpack::{self, Known, Reader};
use super::{DecodeError, MessageType};
use crate::Name;

/// The most bytes that a member says about itself.
pub const META_MAX: usize = 512;

/// Who sent a ping, and where an answer is to go. The sender's socket may have another address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its address, as others know it.
    pub address: SocketAddr,
    /// Its name; older members do not say it.
    pub node: Option<Name>,
}

/// Are you there?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Comes back in the answer.
    pub sequence: u32,
    /// Who is meant; somebody else at the same address must not answer.
    pub node: Option<Name>,
    /// Who asks.
    pub source: Option<Source>,
}

/// Ask somebody else whether it is there, and tell me.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndirectPing {
    /// Comes back in the answer.
    pub sequence: u32,
    /// Where it is.
    pub target: SocketAddr,
    /// Who it is.
    pub node: Option<Name>,
    /// Whether the asker wants to be told of silence too.
    pub nack: bool,
    /// Who asks.
    pub source: Option<Source>,
}

/// I think that it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The incarnation that is meant; a later one is not.
    pub incarnation: u32,
    /// Who is suspected.
    pub node: Name,
    /// Who suspects; each is counted once.
    pub from: Name,
}

/// It is there: a new member, a change, or the refutation of a suspicion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Which life of it; only itself raises it.
    pub incarnation: u32,
    /// Who.
    pub node: Name,
    /// Where it is. Port 0 means the same port as the receiver's.
    pub address: SocketAddr,
    /// What it says about itself, at most [`META_MAX`] bytes.
    pub meta: Vec<u8>,
    /// What it speaks; very old members do not say it.
    pub versions: Option<Versions>,
}

/// It failed; or it left, when it says so itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// The incarnation that is meant; a later one is not.
    pub incarnation: u32,
    /// Who is dead.
    pub node: Name,
    /// Who says so; the dead itself if it left.
    pub from: Name,
}

/// What a member understands and speaks: protocol minimum, maximum and current, then the same of its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest protocol that it understands.
    pub protocol_min: u8,
    /// The newest protocol that it understands.
    pub protocol_max: u8,
    /// The protocol that it speaks.
    pub protocol: u8,
    /// The same three of what the application sends through memberlist; MetalLB sends nothing.
    pub delegate: [u8; 3],
}

impl Versions {
    /// What memberlist v0.5.1 says by default, and so do we.
    pub const OURS: Versions = Versions { protocol_min: 1, protocol_max: 5, protocol: 2, delegate: [0; 3] };

    fn from_wire(bytes: &[u8]) -> Result<Option<Versions>, DecodeError> {
        match bytes {
            [] => Ok(None),
            [protocol_min, protocol_max, protocol, a, b, c, ..] => Ok(Some(Versions {
                protocol_min: *protocol_min,
                protocol_max: *protocol_max,
                protocol: *protocol,
                delegate: [*a, *b, *c],
            })),
            _ => Err(DecodeError::invalid("Vsn", "there are fewer than six versions")),
        }
    }

    fn to_wire(self) -> [u8; 6] {
        let [a, b, c] = self.delegate;
        [self.protocol_min, self.protocol_max, self.protocol, a, b, c]
    }

    /// False for what memberlist ignores an alive message for.
    pub fn are_possible(&self) -> bool {
        self.protocol_min != 0 && self.protocol_max != 0 && self.protocol_min <= self.protocol_max
    }
}

/// A message that stands for itself, without envelopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Type 0.
    Ping(Ping),
    /// Type 1.
    IndirectPing(IndirectPing),
    /// Type 2: I am there. What Go's `PingDelegate` may add is skipped.
    Ack {
        /// That of the ping.
        sequence: u32,
    },
    /// Type 3.
    Suspect(Suspect),
    /// Type 4.
    Alive(Alive),
    /// Type 5.
    Dead(Dead),
    /// Type 8: for the application. MetalLB has none that takes them.
    User(Vec<u8>),
    /// Type 11: it did not answer me in time.
    Nack {
        /// That of the indirect ping.
        sequence: u32,
    },
}

impl Message {
    /// Reads one message that is in no envelope.
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        let (kind, body) = bytes.split_first().ok_or(DecodeError::Truncated("message"))?;
        match MessageType::from_wire(*kind) {
            Some(MessageType::Ping) => Ping::decode(&mut Reader::new(body, "ping")).map(Message::Ping),
            Some(MessageType::IndirectPing) => indirect_ping_decode(body).map(Message::IndirectPing),
            Some(MessageType::Ack) => {
                sequence_decode(&mut Reader::new(body, "ack")).map(|sequence| Message::Ack { sequence })
            }
            Some(MessageType::Suspect) => {
                let (incarnation, node, from) = accusation_decode(body, "suspect")?;
                Ok(Message::Suspect(Suspect { incarnation, node, from }))
            }
            Some(MessageType::Alive) => {
                RawNode::decode(&mut Reader::new(body, "alive"))?.validate().map(|(alive, _)| Message::Alive(alive))
            }
            Some(MessageType::Dead) => {
                let (incarnation, node, from) = accusation_decode(body, "dead")?;
                Ok(Message::Dead(Dead { incarnation, node, from }))
            }
            Some(MessageType::User) => Ok(Message::User(body.to_vec())),
            Some(MessageType::Nack) => {
                sequence_decode(&mut Reader::new(body, "nack")).map(|sequence| Message::Nack { sequence })
            }
            _ => Err(DecodeError::Unexpected(*kind)),
        }
    }

    /// The message as it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.kind() as u8];
        match self {
            Message::Ping(ping) => ping_encode(ping, &mut out),
            Message::IndirectPing(ping) => indirect_ping_encode(ping, &mut out),
            Message::Ack { sequence } => {
                msgpack::write_map(&mut out, 2);
                msgpack::write_raw(&mut out, b"Payload");
                msgpack::write_bytes(&mut out, &[]);
                number_encode(&mut out, "SeqNo", (*sequence).into());
            }
            Message::Nack { sequence } => {
                msgpack::write_map(&mut out, 1);
                number_encode(&mut out, "SeqNo", (*sequence).into());
            }
            Message::Suspect(Suspect { incarnation, node, from }) | Message::Dead(Dead { incarnation, node, from }) => {
                msgpack::write_map(&mut out, 3);
                text_encode(&mut out, "From", from.as_bytes());
                number_encode(&mut out, "Incarnation", (*incarnation).into());
                text_encode(&mut out, "Node", node.as_bytes());
            }
            Message::Alive(alive) => node_encode(&mut out, alive, None),
            Message::User(payload) => out.extend_from_slice(payload),
        }
        out
    }

    fn kind(&self) -> MessageType {
        match self {
            Message::Ping(_) => MessageType::Ping,
            Message::IndirectPing(_) => MessageType::IndirectPing,
            Message::Ack { .. } => MessageType::Ack,
            Message::Suspect(_) => MessageType::Suspect,
            Message::Alive(_) => MessageType::Alive,
            Message::Dead(_) => MessageType::Dead,
            Message::User(_) => MessageType::User,
            Message::Nack { .. } => MessageType::Nack,
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |node: &Option<Name>| node.as_ref().map_or_else(|| "anybody".to_owned(), Name::to_string);
        let by = |source: &Option<Source>| match source {
            Some(Source { address, node: Some(node) }) => format!(" from {node} at {address}"),
            Some(Source { address, node: None }) => format!(" from {address}"),
            None => String::new(),
        };
        match self {
            Message::Ping(ping) => write!(f, "ping {} #{}{}", of(&ping.node), ping.sequence, by(&ping.source)),
            Message::IndirectPing(ping) => {
                let nack = if ping.nack { ", or nack" } else { "" };
                let node = of(&ping.node);
                write!(f, "ping {node} at {} for me #{}{nack}{}", ping.target, ping.sequence, by(&ping.source))
            }
            Message::Ack { sequence } => write!(f, "ack #{sequence}"),
            Message::Nack { sequence } => write!(f, "nack #{sequence}"),
            Message::Suspect(it) => write!(f, "suspect {}@{} by {}", it.node, it.incarnation, it.from),
            Message::Dead(it) if it.node == it.from => write!(f, "left {}@{}", it.node, it.incarnation),
            Message::Dead(it) => write!(f, "dead {}@{} by {}", it.node, it.incarnation, it.from),
            Message::Alive(it) => {
                write!(f, "alive {}@{} at {}", it.node, it.incarnation, it.address)?;
                if !it.meta.is_empty() {
                    write!(f, " meta {}", it.meta.escape_ascii())?;
                }
                match it.versions {
                    Some(Versions::OURS) => Ok(()),
                    Some(other) => write!(f, " versions {:?}", other.to_wire()),
                    None => write!(f, " without versions"),
                }
            }
            Message::User(payload) => write!(f, "user {}", payload.escape_ascii()),
        }
    }
}

fn number_encode(out: &mut Vec<u8>, key: &str, number: u64) {
    msgpack::write_raw(out, key.as_bytes());
    msgpack::write_unsigned(out, number);
}

fn text_encode(out: &mut Vec<u8>, key: &str, text: &[u8]) {
    msgpack::write_raw(out, key.as_bytes());
    msgpack::write_raw(out, text);
}

fn address_encode(out: &mut Vec<u8>, key: &str, address: IpAddr) {
    match address {
        IpAddr::V4(address) => text_encode(out, key, &address.octets()),
        IpAddr::V6(address) => text_encode(out, key, &address.octets()),
    }
}

/// Four or sixteen bytes. An IPv4 address in sixteen bytes is left as it is, for it is passed on, and Go compares
/// bytes.
fn address_decode(bytes: &[u8], field: &'static str) -> Result<IpAddr, DecodeError> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(octets.into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(octets) => Ok(octets.into()),
        Err(_) => Err(DecodeError::invalid(field, "an address has 4 or 16 bytes")),
    }
}

fn name_decode(bytes: &[u8], field: &'static str) -> Result<Name, DecodeError> {
    Name::from_wire(bytes).map_err(|_| DecodeError::invalid(field, "it is no name"))
}

fn optional_name_decode(bytes: &[u8], field: &'static str) -> Result<Option<Name>, DecodeError> {
    if bytes.is_empty() { Ok(None) } else { name_decode(bytes, field).map(Some) }
}

/// The three fields that say who sent a ping, while they are read.
#[derive(Default)]
struct RawSource<'a> {
    address: &'a [u8],
    port: u16,
    node: &'a [u8],
}

impl<'a> RawSource<'a> {
    fn field(&mut self, key: &[u8], value: &mut Reader<'a>) -> Result<Known, DecodeError> {
        match key {
            b"SourceAddr" => self.address = value.raw()?,
            b"SourcePort" => self.port = value.unsigned()?,
            b"SourceNode" => self.node = value.raw()?,
            _ => return Ok(Known::No),
        }
        Ok(Known::Yes)
    }

    /// Without an address or a port, the answer goes to where the packet came from.
    fn validate(&self) -> Result<Option<Source>, DecodeError> {
        if self.address.is_empty() || self.port == 0 {
            return Ok(None);
        }
        let address = SocketAddr::new(address_decode(self.address, "SourceAddr")?, self.port);
        Ok(Some(Source { address, node: optional_name_decode(self.node, "SourceNode")? }))
    }
}

fn source_encode_head(out: &mut Vec<u8>, source: &Source) {
    address_encode(out, "SourceAddr", source.address.ip());
    if let Some(node) = &source.node {
        text_encode(out, "SourceNode", node.as_bytes());
    }
    number_encode(out, "SourcePort", source.address.port().into());
}

/// How many fields [`source_encode_head`] writes.
fn source_fields(source: Option<&Source>) -> u8 {
    source.map_or(0, |source| if source.node.is_some() { 3 } else { 2 })
}

impl Ping {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Ping, DecodeError> {
        let (mut sequence, mut node, mut source) = (0, &[][..], RawSource::default());
        reader.map(|key, value| {
            match key {
                b"SeqNo" => sequence = value.unsigned()?,
                b"Node" => node = value.raw()?,
                _ => return source.field(key, value),
            }
            Ok(Known::Yes)
        })?;
        Ok(Ping { sequence, node: optional_name_decode(node, "Node")?, source: source.validate()? })
    }
}

fn ping_encode(ping: &Ping, out: &mut Vec<u8>) {
    msgpack::write_map(out, source_fields(ping.source.as_ref()).saturating_add(2));
    text_encode(out, "Node", ping.node.as_ref().map_or(&[], Name::as_bytes));
    number_encode(out, "SeqNo", ping.sequence.into());
    if let Some(source) = &ping.source {
        source_encode_head(out, source);
    }
}

fn indirect_ping_decode(body: &[u8]) -> Result<IndirectPing, DecodeError> {
    let (mut sequence, mut node, mut source) = (0, &[][..], RawSource::default());
    let (mut target, mut port, mut nack) = (&[][..], 0, false);
    Reader::new(body, "indirect ping").map(|key, value| {
        match key {
            b"SeqNo" => sequence = value.unsigned()?,
            b"Target" => target = value.raw()?,
            b"Port" => port = value.unsigned()?,
            b"Node" => node = value.raw()?,
            b"Nack" => nack = value.boolean()?,
            _ => return source.field(key, value),
        }
        Ok(Known::Yes)
    })?;
    let target = SocketAddr::new(address_decode(target, "Target")?, port);
    let (node, source) = (optional_name_decode(node, "Node")?, source.validate()?);
    Ok(IndirectPing { sequence, target, node, nack, source })
}

fn indirect_ping_encode(ping: &IndirectPing, out: &mut Vec<u8>) {
    msgpack::write_map(out, source_fields(ping.source.as_ref()).saturating_add(5));
    msgpack::write_raw(out, b"Nack");
    msgpack::write_boolean(out, ping.nack);
    text_encode(out, "Node", ping.node.as_ref().map_or(&[], Name::as_bytes));
    number_encode(out, "Port", ping.target.port().into());
    number_encode(out, "SeqNo", ping.sequence.into());
    if let Some(source) = &ping.source {
        source_encode_head(out, source);
    }
    address_encode(out, "Target", ping.target.ip());
}

pub(super) fn sequence_decode(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let mut sequence = 0;
    reader.map(|key, value| {
        if key != b"SeqNo" {
            return Ok(Known::No);
        }
        sequence = value.unsigned()?;
        Ok(Known::Yes)
    })?;
    Ok(sequence)
}

fn accusation_decode(body: &[u8], what: &'static str) -> Result<(u32, Name, Name), DecodeError> {
    let (mut incarnation, mut node, mut from) = (0, &[][..], &[][..]);
    Reader::new(body, what).map(|key, value| {
        match key {
            b"Incarnation" => incarnation = value.unsigned()?,
            b"Node" => node = value.raw()?,
            b"From" => from = value.raw()?,
            _ => return Ok(Known::No),
        }
        Ok(Known::Yes)
    })?;
    Ok((incarnation, name_decode(node, "Node")?, name_decode(from, "From")?))
}

/// An alive message, or the state of a node in a push/pull, as it was sent. They differ in the key of the name and in
/// the state.
#[derive(Default)]
pub(super) struct RawNode<'a> {
    name: &'a [u8],
    address: &'a [u8],
    port: u16,
    meta: &'a [u8],
    incarnation: u32,
    state: u64,
    versions: &'a [u8],
}

impl<'a> RawNode<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut raw = RawNode::default();
        reader.map(|key, value| {
            match key {
                b"Name" | b"Node" => raw.name = value.raw()?,
                b"Addr" => raw.address = value.raw()?,
                b"Port" => raw.port = value.unsigned()?,
                b"Meta" => raw.meta = value.raw()?,
                b"Incarnation" => raw.incarnation = value.unsigned()?,
                b"State" => raw.state = value.unsigned()?,
                b"Vsn" => raw.versions = value.raw()?,
                _ => return Ok(Known::No),
            }
            Ok(Known::Yes)
        })?;
        Ok(raw)
    }

    /// What we believe of it, with the number of the state.
    pub(super) fn validate(&self) -> Result<(Alive, u64), DecodeError> {
        if self.meta.len() > META_MAX {
            return Err(DecodeError::TooLarge { field: "Meta", limit: META_MAX });
        }
        let alive = Alive {
            incarnation: self.incarnation,
            node: name_decode(self.name, "Node")?,
            address: SocketAddr::new(address_decode(self.address, "Addr")?, self.port),
            meta: self.meta.to_vec(),
            versions: Versions::from_wire(self.versions)?,
        };
        Ok((alive, self.state))
    }
}

/// Appends an alive message or, with a state, the state of a node in a push/pull.
pub(super) fn node_encode(out: &mut Vec<u8>, node: &Alive, state: Option<u8>) {
    msgpack::write_map(out, if state.is_some() { 7 } else { 6 });
    address_encode(out, "Addr", node.address.ip());
    number_encode(out, "Incarnation", node.incarnation.into());
    msgpack::write_raw(out, b"Meta");
    msgpack::write_bytes(out, &node.meta);
    text_encode(out, if state.is_some() { "Name" } else { "Node" }, node.node.as_bytes());
    number_encode(out, "Port", node.address.port().into());
    if let Some(state) = state {
        number_encode(out, "State", state.into());
    }
    if let Some(versions) = node.versions {
        text_encode(out, "Vsn", &versions.to_wire());
    } else {
        msgpack::write_raw(out, b"Vsn");
        msgpack::write_bytes(out, &[]);
    }
}
