//! A cursor over bytes that cannot run off their end.

/// What is left to read, and where it began in the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, the first of which is at `offset` of its message.
    pub(crate) fn new(bytes: &'a [u8], offset: usize) -> Self {
        Reader { bytes, offset }
    }

    /// Where the next byte is in the message.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next `count` bytes, or nothing at all.
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        self.offset = self.offset.saturating_add(count);
        Some(taken)
    }

    /// A reader of the next `count` bytes.
    pub(crate) fn sub(&mut self, count: usize) -> Option<Reader<'a>> {
        let offset = self.offset;
        self.take(count).map(|bytes| Reader { bytes, offset })
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_stops_at_the_end_and_knows_where_it_is() {
        let mut reader = Reader::new(&[1, 0, 2, 9, 9], 19);
        assert_eq!((reader.u8(), reader.u16(), reader.offset()), (Some(1), Some(2), 22));
        assert_eq!((reader.u32(), reader.remaining()), (None, 2));
        let mut sub = reader.sub(1).unwrap();
        assert_eq!((sub.offset(), sub.u8(), sub.is_empty()), (22, Some(9), true));
        assert!(reader.sub(2).is_none());
    }
}
