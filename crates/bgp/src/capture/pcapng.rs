//! The file format: pcapng (draft-ietf-opsawg-pcapng), as little of it as is written here, with numbers in little-endian order.
//!
//! Of its blocks there are a section header with one interface whose packets begin with the header of IP, packets with their
//! direction and what was lost before them, and at the end how many there were.

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Says in which order the bytes of numbers are.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// LINKTYPE_RAW: packets begin with the header of IP.
const LINK_TYPE_RAW: u16 = 101;

const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const PACKET_FLAGS: u16 = 2;
const PACKET_LOST: u16 = 4;
const STATISTICS_RECEIVED: u16 = 4;
const STATISTICS_LOST: u16 = 5;

/// Type and both lengths of a block.
const FRAME_LEN: usize = 12;
/// No block that is written here comes near; one that is larger is not ours.
pub const BLOCK_MAX: usize = 1 << 20;

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the peer.
    Sent,
    /// From the peer.
    Received,
}

impl Direction {
    /// The other one.
    pub fn opposite(self) -> Direction {
        match self {
            Direction::Sent => Direction::Received,
            Direction::Received => Direction::Sent,
        }
    }

    /// Bits 0 and 1 of the flags of a packet.
    fn flags(self) -> u32 {
        match self {
            Direction::Received => 1,
            Direction::Sent => 2,
        }
    }
}

/// A packet of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it came or went: microseconds since 1970.
    pub unix_micros: u64,
    /// Which way.
    pub direction: Direction,
    /// What is said about it.
    pub comment: Option<&'a str>,
    /// How many packets between the one before and this one are missing.
    pub lost: u64,
    /// The packet, from the header of IP on.
    pub data: &'a [u8],
}

/// A block of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// A packet.
    Packet(Packet<'a>),
    /// The last block of a capture that ended in order.
    Statistics {
        /// Packets that there were, with those that were lost.
        packets: u64,
        /// Packets that are missing, because they could not be written in time.
        lost: u64,
    },
    /// Any other.
    Other,
}

/// Why bytes are not such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A length is not possible.
    #[error("this is no pcapng file, or a damaged one: a block cannot have {0} bytes")]
    Length(u32),
    /// A block of a known type has not what it must have.
    #[error("this is no pcapng file, or a damaged one: a block of type {0} is too short")]
    Short(u32),
    /// A section is in another byte order or version.
    #[error("this is no pcapng file that was written by MetalLB")]
    Foreign,
}

/// The begin of a file: the program that writes it, and what is in it.
pub fn head(program: &str, comment: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut body = BYTE_ORDER.to_le_bytes().to_vec();
    // Version 1.0; the length of the section is not known.
    body.extend_from_slice(&[1, 0, 0, 0]);
    body.extend_from_slice(&[0xff; 8]);
    option(OPTION_COMMENT, comment.as_bytes(), &mut body);
    option(SECTION_APPLICATION, program.as_bytes(), &mut body);
    option(OPTION_END, &[], &mut body);
    block(SECTION_HEADER, &body, &mut out);
    let [low, high] = LINK_TYPE_RAW.to_le_bytes();
    // No limit of the length of packets.
    let mut body = vec![low, high, 0, 0, 0, 0, 0, 0];
    option(INTERFACE_NAME, b"bgp", &mut body);
    option(OPTION_END, &[], &mut body);
    block(INTERFACE_DESCRIPTION, &body, &mut out);
    out
}

/// The end of a file, with the number of packets and how many of them are missing.
pub fn tail(unix_micros: u64, packets: u64, lost: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut body = vec![0; 4];
    body.extend_from_slice(&time(unix_micros));
    option(STATISTICS_RECEIVED, &packets.to_le_bytes(), &mut body);
    option(STATISTICS_LOST, &lost.to_le_bytes(), &mut body);
    option(OPTION_END, &[], &mut body);
    block(INTERFACE_STATISTICS, &body, &mut out);
    out
}

impl Packet<'_> {
    /// Appends the block.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = vec![0; 4];
        body.extend_from_slice(&time(self.unix_micros));
        let length = u32::try_from(self.data.len()).unwrap_or(u32::MAX).to_le_bytes();
        body.extend_from_slice(&length);
        body.extend_from_slice(&length);
        padded(self.data, &mut body);
        option(PACKET_FLAGS, &self.direction.flags().to_le_bytes(), &mut body);
        if self.lost > 0 {
            option(PACKET_LOST, &self.lost.to_le_bytes(), &mut body);
        }
        if let Some(comment) = self.comment {
            option(OPTION_COMMENT, comment.as_bytes(), &mut body);
        }
        option(OPTION_END, &[], &mut body);
        block(ENHANCED_PACKET, &body, out);
    }
}

impl<'a> Block<'a> {
    /// The block at the begin of these bytes, and the bytes behind it; `None` when there is no whole one.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Block<'a>, &'a [u8])>, BlockError> {
        let mut reader = Reader(bytes);
        let (Some(kind), Some(length)) = (reader.u32(), reader.u32()) else { return Ok(None) };
        let whole = usize::try_from(length).unwrap_or(usize::MAX);
        if !(FRAME_LEN..=BLOCK_MAX).contains(&whole) || whole % 4 != 0 {
            return Err(BlockError::Length(length));
        }
        let Some((block, after)) = bytes.split_at_checked(whole) else { return Ok(None) };
        let body = block.get(8..whole.saturating_sub(4)).unwrap_or_default();
        let mut reader = Reader(body);
        let block = match kind {
            SECTION_HEADER if reader.u32() != Some(BYTE_ORDER) => return Err(BlockError::Foreign),
            ENHANCED_PACKET => Block::Packet(reader.packet().ok_or(BlockError::Short(kind))?),
            INTERFACE_STATISTICS => reader.statistics().ok_or(BlockError::Short(kind))?,
            _ => Block::Other,
        };
        Ok(Some((block, after)))
    }
}

/// Reads parts of a block.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn padded(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.take(count)?;
        self.take(padding(count))?;
        Some(taken)
    }

    /// The next option; `None` behind the last.
    fn option(&mut self) -> Option<(u16, &'a [u8])> {
        let (code, length) = (self.u16()?, self.u16()?);
        let value = self.padded(usize::from(length))?;
        (code != OPTION_END).then_some((code, value))
    }

    fn time(&mut self) -> Option<u64> {
        let (high, low) = (self.u32()?, self.u32()?);
        Some(u64::from(high) << 32 | u64::from(low))
    }

    fn packet(&mut self) -> Option<Packet<'a>> {
        let (_interface, unix_micros) = (self.u32()?, self.time()?);
        let (captured, _original) = (self.u32()?, self.u32()?);
        let data = self.padded(usize::try_from(captured).ok()?)?;
        let (mut direction, mut comment, mut lost) = (None, None, 0);
        while let Some((code, value)) = self.option() {
            match code {
                PACKET_FLAGS => direction = Reader(value).u32(),
                PACKET_LOST => lost = u64::from_le_bytes(value.try_into().ok()?),
                OPTION_COMMENT => comment = std::str::from_utf8(value).ok(),
                _ => {}
            }
        }
        let direction = [Direction::Sent, Direction::Received].into_iter().find(|it| Some(it.flags()) == direction)?;
        Some(Packet { unix_micros, direction, comment, lost, data })
    }

    fn statistics(&mut self) -> Option<Block<'a>> {
        let (_interface, _time) = (self.u32()?, self.time()?);
        let (mut packets, mut lost) = (0, 0);
        while let Some((code, value)) = self.option() {
            match code {
                STATISTICS_RECEIVED => packets = u64::from_le_bytes(value.try_into().ok()?),
                STATISTICS_LOST => lost = u64::from_le_bytes(value.try_into().ok()?),
                _ => {}
            }
        }
        Some(Block::Statistics { packets, lost })
    }
}

/// Bytes between this many and the next multiple of four.
fn padding(count: usize) -> usize {
    count.wrapping_neg() % 4
}

fn padded(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes);
    out.extend(std::iter::repeat_n(0, padding(bytes.len())));
}

/// Appends an option. Texts are far from the limit of its length.
fn option(code: u16, value: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    padded(value.get(..usize::from(length)).unwrap_or_default(), out);
}

/// The upper half first, each with its bytes in little-endian order.
fn time(unix_micros: u64) -> [u8; 8] {
    unix_micros.rotate_left(32).to_le_bytes()
}

/// Appends a block; its body has a multiple of four bytes.
fn block(kind: u32, body: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(body.len().saturating_add(FRAME_LEN)).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&length);
    out.extend_from_slice(body);
    out.extend_from_slice(&length);
}
