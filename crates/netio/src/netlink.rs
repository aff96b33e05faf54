//! The framing of routing netlink: messages, their attributes, and requests for lists, in the byte order of the machine
//! (`linux/netlink.h`, `linux/rtnetlink.h`).

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

const HEADER_LENGTH: usize = 16;
/// The two high bits of an attribute's type are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

/// A request for a list of this kind; the body says what of.
pub(crate) fn list_request(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_LENGTH.saturating_add(body.len())).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // The port: the kernel fills it in.
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

/// A message with what its header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawMessage<'a> {
    pub(crate) kind: u16,
    /// Of the request that it answers; 0 for news.
    pub(crate) sequence: u32,
    /// The list changed while it was made, and must be asked for again.
    pub(crate) is_interrupted: bool,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram; what comes after a message with an impossible length is left out.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = RawMessage<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(array(datagram, 0)?)).ok()?;
        let kind = u16::from_ne_bytes(array(datagram, 4)?);
        let flags = u16::from_ne_bytes(array(datagram, 6)?);
        let sequence = u32::from_ne_bytes(array(datagram, 8)?);
        let body = datagram.get(HEADER_LENGTH..length)?;
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        Some(RawMessage { kind, sequence, is_interrupted: flags & NLM_F_DUMP_INTR != 0, body })
    })
}

/// The attributes behind a message's fixed part: type and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(array(bytes, 0)?));
        let kind = u16::from_ne_bytes(array(bytes, 2)?) & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Messages and attributes begin at multiples of 4.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
pub(crate) mod build {
    //! Messages as the kernel writes them.

    use super::*;

    pub(crate) const INTERRUPTED: u16 = NLM_F_DUMP_INTR;

    pub(crate) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = (HEADER_LENGTH + body.len()) as u32;
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes()].concat();
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = (4 + value.len()) as u16;
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }
}
