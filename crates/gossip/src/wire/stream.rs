//! One message over TCP in each direction: a label, then an encrypted frame or the bare message, compressed or not.
//!
//! There is no length before a bare message, so [`StreamReader`] reads on as bytes come, and never reads twice what it
//! has understood.

use super::msgpack::{Known, Reader};
use super::packet::{Dress, Guard, Plaintext};
use super::push_pull::{Progress, PushPull};
use super::{Compression, DecodeError, Message, MessageType, Ping, compress, envelope, label, message, msgpack};

/// The most bytes of one message, packed and unpacked: [`super::MEMBERS_MAX`] members with everything that they may say
/// have 7 MB, but nobody says that much.
pub const STREAM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The longest error of another member that is kept.
const ERROR_TEXT_MAX: usize = 256;

/// What members tell each other over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamMessage {
    /// All members that the other knows.
    PushPull(PushPull),
    /// Are you there?
    Ping(Ping),
    /// Yes.
    Ack {
        /// That of the ping.
        sequence: u32,
    },
    /// For the application, which we do not have: not read to its end.
    User,
    /// What the other could not read, in its words.
    Error(String),
}

/// Takes the message out of a stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamReader {
    /// What came and is not understood yet.
    buffer: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Nothing yet.
    Label,
    /// The label was ours, or none is said.
    Message,
    /// Within a bare push/pull.
    PushPull(Progress),
    /// All that we want is read.
    Done,
}

impl StreamReader {
    /// A reader of what comes in this direction.
    pub(crate) fn new(direction: Direction) -> Self {
        let stage = match direction {
            Direction::Dialed => Stage::Label,
            Direction::Answer => Stage::Message,
        };
        StreamReader { buffer: Vec::new(), stage }
    }

    /// How many bytes it holds.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the next bytes, and gives the message back when it is whole, with the place in the keyring of the
    /// key that opened it.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        guard: &Guard<'_>,
    ) -> Result<Option<(StreamMessage, Option<usize>)>, DecodeError> {
        self.buffer.extend_from_slice(bytes);
        let outcome = match self.advance(guard) {
            Ok(None) | Err(DecodeError::Truncated(_)) if self.buffer.len() <= STREAM_BYTES_MAX => return Ok(None),
            Ok(None) | Err(DecodeError::Truncated(_)) => {
                Err(DecodeError::TooLarge { field: "a message", limit: STREAM_BYTES_MAX })
            }
            outcome => outcome,
        };
        self.stage = Stage::Done;
        self.buffer = Vec::new();
        outcome
    }

    fn advance(&mut self, guard: &Guard<'_>) -> Result<Option<(StreamMessage, Option<usize>)>, DecodeError> {
        if matches!(self.stage, Stage::Label) {
            if self.buffer.is_empty() {
                return Ok(None);
            }
            let Some((found, rest)) = label::split(&self.buffer)? else { return Ok(None) };
            if found != guard.label {
                return Err(DecodeError::Label);
            }
            self.buffer = rest.to_vec();
            self.stage = Stage::Message;
        }
        if matches!(self.stage, Stage::Message) {
            match self.message(guard)? {
                Step::Whole(message, key) => return Ok(Some((message, key))),
                Step::Waiting => return Ok(None),
                Step::Members(progress, consumed) => {
                    self.buffer.drain(..consumed);
                    self.stage = Stage::PushPull(progress);
                }
            }
        }
        if let Stage::PushPull(progress) = &mut self.stage {
            let mut reader = Reader::new(&self.buffer, "push/pull");
            progress.advance(&mut reader)?;
            let consumed = self.buffer.len().saturating_sub(reader.rest().len());
            self.buffer.drain(..consumed);
            return Ok(progress.finish().map(|exchange| (StreamMessage::PushPull(exchange), None)));
        }
        self.buffer.clear();
        Ok(None)
    }

    /// Reads the begin of a message, or all of it if it is one that is there whole or not at all.
    fn message(&self, guard: &Guard<'_>) -> Result<Step, DecodeError> {
        let Some((kind, body)) = self.buffer.split_first() else { return Ok(Step::Waiting) };
        if *kind == MessageType::Encrypt as u8 {
            return frame_open(&self.buffer, guard);
        }
        if !guard.keyring.is_empty() && guard.plaintext == Plaintext::Refused {
            return Err(DecodeError::Plaintext);
        }
        if *kind == MessageType::Compress as u8 {
            let unpacked = compress::decode(body, STREAM_BYTES_MAX)?;
            return whole(&unpacked).map(|message| Step::Whole(message, None));
        }
        if *kind == MessageType::PushPull as u8 {
            let mut reader = Reader::new(body, "push/pull");
            let progress = Progress::begin(&mut reader)?;
            return Ok(Step::Members(progress, self.buffer.len().saturating_sub(reader.rest().len())));
        }
        plain(&self.buffer).map(|message| Step::Whole(message, None))
    }
}

/// How far a message was read.
enum Step {
    Waiting,
    Whole(StreamMessage, Option<usize>),
    /// The head of a push/pull is read, in so many bytes.
    Members(Progress, usize),
}

/// Opens an encrypted frame: type, length, encrypted message. Type, length and label are authenticated with it.
fn frame_open(buffer: &[u8], guard: &Guard<'_>) -> Result<Step, DecodeError> {
    if guard.keyring.is_empty() {
        return Err(DecodeError::NoKey);
    }
    let Some((head, rest)) = buffer.split_first_chunk::<5>() else { return Ok(Step::Waiting) };
    let [_, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > STREAM_BYTES_MAX {
        return Err(DecodeError::TooLarge { field: "a message", limit: STREAM_BYTES_MAX });
    }
    let Some(sealed) = rest.get(..length) else { return Ok(Step::Waiting) };
    let associated = [head, guard.label].concat();
    // More bytes would not help a frame that is too short.
    let (bytes, key) = envelope::open(guard.keyring, &associated, sealed).map_err(never_truncated)?;
    let message = match bytes.split_first() {
        Some((kind, body)) if *kind == MessageType::Compress as u8 => {
            whole(&compress::decode(body, STREAM_BYTES_MAX).map_err(never_truncated)?)?
        }
        _ => whole(&bytes)?,
    };
    Ok(Step::Whole(message, Some(key)))
}

fn never_truncated(error: DecodeError) -> DecodeError {
    match error {
        DecodeError::Truncated(what) => DecodeError::invalid(what, "it is cut short"),
        error => error,
    }
}

/// Reads a message all of which is there.
fn whole(bytes: &[u8]) -> Result<StreamMessage, DecodeError> {
    match bytes.split_first() {
        Some((kind, body)) if *kind == MessageType::PushPull as u8 => {
            let mut reader = Reader::new(body, "push/pull");
            let mut progress = Progress::begin(&mut reader).map_err(never_truncated)?;
            progress.advance(&mut reader)?;
            let exchange = progress.finish().ok_or(DecodeError::invalid("push/pull", "it is cut short"))?;
            Ok(StreamMessage::PushPull(exchange))
        }
        _ => plain(bytes).map_err(never_truncated),
    }
}

/// Reads a message that is no push/pull.
fn plain(bytes: &[u8]) -> Result<StreamMessage, DecodeError> {
    let (kind, body) = bytes.split_first().ok_or(DecodeError::Truncated("message"))?;
    match MessageType::from_wire(*kind) {
        Some(MessageType::Ping) => Ping::decode(&mut Reader::new(body, "ping")).map(StreamMessage::Ping),
        Some(MessageType::Ack) => {
            message::sequence_decode(&mut Reader::new(body, "ack")).map(|sequence| StreamMessage::Ack { sequence })
        }
        Some(MessageType::User) => Ok(StreamMessage::User),
        Some(MessageType::Error) => error_decode(body).map(StreamMessage::Error),
        _ => Err(DecodeError::Unexpected(*kind)),
    }
}

fn error_decode(body: &[u8]) -> Result<String, DecodeError> {
    let mut text = String::new();
    Reader::new(body, "error").map(|key, value| {
        if key != b"Error" {
            return Ok(Known::No);
        }
        let raw = value.raw()?;
        let printable = |letter: &char| !letter.is_control();
        text = String::from_utf8_lossy(raw).chars().filter(printable).take(ERROR_TEXT_MAX).collect();
        Ok(Known::Yes)
    })?;
    Ok(text)
}

fn error_encode(text: &str) -> Vec<u8> {
    let mut out = vec![MessageType::Error as u8];
    msgpack::write_map(&mut out, 1);
    msgpack::write_raw(&mut out, b"Error");
    msgpack::write_raw(&mut out, text.as_bytes());
    out
}

impl StreamMessage {
    /// The message without envelopes. User messages are never sent.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            StreamMessage::PushPull(exchange) => exchange.encode(),
            StreamMessage::Ping(ping) => Message::Ping(ping.clone()).encode(),
            StreamMessage::Ack { sequence } => Message::Ack { sequence: *sequence }.encode(),
            StreamMessage::User => Vec::new(),
            StreamMessage::Error(text) => error_encode(text),
        }
    }
}

/// Who speaks first on a connection says the label; the answer comes without (Go's transport adds it when dialing
/// only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Dialed,
    Answer,
}

impl Dress<'_> {
    /// The bytes that carry a message over TCP. Unlike packets, streams are compressed even when that does not pay.
    pub(crate) fn stream(&self, message: &StreamMessage, direction: Direction) -> Vec<u8> {
        let mut bytes = message.encode();
        if self.compression == Compression::Lzw {
            bytes = compress::encode(&bytes);
        }
        let mut out = match direction {
            Direction::Dialed => label::encode(self.label),
            Direction::Answer => Vec::new(),
        };
        let Some(key) = self.key else {
            out.extend_from_slice(&bytes);
            return out;
        };
        let length = u32::try_from(bytes.len().saturating_add(envelope::OVERHEAD)).unwrap_or(u32::MAX).to_be_bytes();
        let mut head = vec![MessageType::Encrypt as u8];
        head.extend_from_slice(&length);
        out.extend_from_slice(&head);
        head.extend_from_slice(self.label);
        envelope::seal(key, &head, &bytes, &mut out);
        out
    }
}
