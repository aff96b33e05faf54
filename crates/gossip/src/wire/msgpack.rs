//! As much MessagePack as memberlist needs: maps with text keys, text, bytes, integers, booleans and nil.
//!
//! It is written the way `go-msgpack` writes it: text and bytes both as the older "raw" type, keys in alphabetical
//! order, empty byte slices as nil. It is read in every form that the specification allows, unknown keys are skipped,
//! and nil is the zero value of each type. Nothing is allocated here.

use super::DecodeError;

/// How deep values that are skipped may be nested.
const DEPTH_MAX: usize = 16;

/// A cursor over MessagePack that cannot run off its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// What is being read, for errors.
    what: &'static str,
}

/// The head of a value.
enum Head {
    Nil,
    Boolean(bool),
    Unsigned(u64),
    Negative,
    /// Text or bytes of this length follow.
    Raw(usize),
    /// So many values follow.
    Array(usize),
    /// So many pairs follow.
    Map(usize),
    /// So many bytes follow that mean nothing here: floats and extensions.
    Other(usize),
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Reader { bytes, what }
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(DecodeError::Truncated(self.what))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Truncated(self.what))
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    fn length8(&mut self) -> Result<usize, DecodeError> {
        self.u8().map(usize::from)
    }

    fn length16(&mut self) -> Result<usize, DecodeError> {
        self.array().map(u16::from_be_bytes).map(usize::from)
    }

    fn length32(&mut self) -> Result<usize, DecodeError> {
        let length = self.array().map(u32::from_be_bytes)?;
        usize::try_from(length).map_err(|_| DecodeError::invalid(self.what, "its length does not fit"))
    }

    fn signed(value: i64) -> Head {
        u64::try_from(value).map_or(Head::Negative, Head::Unsigned)
    }

    fn head(&mut self) -> Result<Head, DecodeError> {
        Ok(match self.u8()? {
            byte @ 0x00..=0x7f => Head::Unsigned(byte.into()),
            byte @ 0x80..=0x8f => Head::Map(usize::from(byte & 0x0f)),
            byte @ 0x90..=0x9f => Head::Array(usize::from(byte & 0x0f)),
            byte @ 0xa0..=0xbf => Head::Raw(usize::from(byte & 0x1f)),
            0xc0 => Head::Nil,
            0xc1 => return Err(DecodeError::invalid(self.what, "0xc1 is no type of MessagePack")),
            0xc2 => Head::Boolean(false),
            0xc3 => Head::Boolean(true),
            0xc4 | 0xd9 => Head::Raw(self.length8()?),
            0xc5 | 0xda => Head::Raw(self.length16()?),
            0xc6 | 0xdb => Head::Raw(self.length32()?),
            0xc7 => Head::Other(self.length8()?.saturating_add(1)),
            0xc8 => Head::Other(self.length16()?.saturating_add(1)),
            0xc9 => Head::Other(self.length32()?.saturating_add(1)),
            0xca => Head::Other(4),
            0xcb => Head::Other(8),
            0xcc => Head::Unsigned(self.u8()?.into()),
            0xcd => Head::Unsigned(self.array().map(u16::from_be_bytes)?.into()),
            0xce => Head::Unsigned(self.array().map(u32::from_be_bytes)?.into()),
            0xcf => Head::Unsigned(self.array().map(u64::from_be_bytes)?),
            0xd0 => Self::signed(self.array().map(i8::from_be_bytes)?.into()),
            0xd1 => Self::signed(self.array().map(i16::from_be_bytes)?.into()),
            0xd2 => Self::signed(self.array().map(i32::from_be_bytes)?.into()),
            0xd3 => Self::signed(self.array().map(i64::from_be_bytes)?),
            0xd4 => Head::Other(2),
            0xd5 => Head::Other(3),
            0xd6 => Head::Other(5),
            0xd7 => Head::Other(9),
            0xd8 => Head::Other(17),
            0xdc => Head::Array(self.length16()?),
            0xdd => Head::Array(self.length32()?),
            0xde => Head::Map(self.length16()?),
            0xdf => Head::Map(self.length32()?),
            0xe0..=0xff => Head::Negative,
        })
    }

    /// A map: `field` is called with each key and a reader that stands at its value. What it does not read is skipped.
    pub(crate) fn map(
        &mut self,
        mut field: impl FnMut(&[u8], &mut Reader<'a>) -> Result<Known, DecodeError>,
    ) -> Result<(), DecodeError> {
        let pairs = match self.head()? {
            Head::Map(pairs) => pairs,
            Head::Nil => 0,
            _ => return Err(DecodeError::invalid(self.what, "it is no map")),
        };
        for _ in 0..pairs {
            let key = self.raw()?;
            if field(key, self)? == Known::No {
                self.skip(DEPTH_MAX)?;
            }
        }
        Ok(())
    }

    /// Text or bytes; nil is empty.
    pub(crate) fn raw(&mut self) -> Result<&'a [u8], DecodeError> {
        match self.head()? {
            Head::Raw(length) => self.take(length),
            Head::Nil => Ok(&[]),
            _ => Err(DecodeError::invalid(self.what, "a value is neither text nor bytes")),
        }
    }

    /// The length of text or bytes, at whose begin the reader stands then.
    pub(crate) fn raw_length(&mut self) -> Result<usize, DecodeError> {
        match self.head()? {
            Head::Raw(length) => Ok(length),
            Head::Nil => Ok(0),
            _ => Err(DecodeError::invalid(self.what, "a value is neither text nor bytes")),
        }
    }

    /// A number that fits its type; nil is 0.
    pub(crate) fn unsigned<T: TryFrom<u64>>(&mut self) -> Result<T, DecodeError> {
        let number = match self.head()? {
            Head::Unsigned(number) => number,
            Head::Nil => 0,
            Head::Negative => return Err(DecodeError::invalid(self.what, "a number is negative")),
            _ => return Err(DecodeError::invalid(self.what, "a value is no number")),
        };
        T::try_from(number).map_err(|_| DecodeError::invalid(self.what, "a number is too large"))
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, DecodeError> {
        match self.head()? {
            Head::Boolean(value) => Ok(value),
            Head::Nil => Ok(false),
            _ => Err(DecodeError::invalid(self.what, "a value is no boolean")),
        }
    }

    /// Passes over one value. Each value takes at least one byte, so a false count ends with the bytes.
    fn skip(&mut self, depth: usize) -> Result<(), DecodeError> {
        let values = match self.head()? {
            Head::Raw(length) | Head::Other(length) => return self.take(length).map(drop),
            Head::Array(length) => length,
            Head::Map(pairs) => pairs.saturating_mul(2),
            Head::Nil | Head::Boolean(_) | Head::Unsigned(_) | Head::Negative => return Ok(()),
        };
        let Some(depth) = depth.checked_sub(1) else {
            return Err(DecodeError::invalid(self.what, "values are nested too deep"));
        };
        for _ in 0..values {
            self.skip(depth)?;
        }
        Ok(())
    }
}

/// Whether the reader of a map's field read the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Yes,
    No,
}

/// Appends the head of a map with at most 15 pairs, which all of memberlist's are.
pub(crate) fn write_map(out: &mut Vec<u8>, pairs: u8) {
    out.push(0x80 | (pairs & 0x0f));
}

/// Appends text, or bytes that are not nil.
pub(crate) fn write_raw(out: &mut Vec<u8>, bytes: &[u8]) {
    match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
        (Ok(length @ 0..=31), _) => out.push(0xa0 | length),
        (_, Ok(length)) => {
            out.push(0xda);
            out.extend_from_slice(&length.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(0xdb);
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// Appends bytes, or nil for none.
pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() { out.push(0xc0) } else { write_raw(out, bytes) }
}

pub(crate) fn write_boolean(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

pub(crate) fn write_unsigned(out: &mut Vec<u8>, number: u64) {
    match (u8::try_from(number), u16::try_from(number), u32::try_from(number)) {
        (Ok(number @ 0..=0x7f), ..) => out.push(number),
        (Ok(number), ..) => out.extend_from_slice(&[0xcc, number]),
        (_, Ok(number), _) => {
            out.push(0xcd);
            out.extend_from_slice(&number.to_be_bytes());
        }
        (_, _, Ok(number)) => {
            out.push(0xce);
            out.extend_from_slice(&number.to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, "test")
    }

    #[test]
    fn numbers_are_written_in_their_shortest_form_and_read_in_every_form() {
        for (number, bytes) in [
            (0, vec![0]),
            (127, vec![0x7f]),
            (128, vec![0xcc, 128]),
            (255, vec![0xcc, 255]),
            (256, vec![0xcd, 1, 0]),
            (65_536, vec![0xce, 0, 1, 0, 0]),
            (1 << 32, vec![0xcf, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_unsigned(&mut out, number);
            assert_eq!(out, bytes);
            assert_eq!(reader(&out).unsigned::<u64>(), Ok(number));
        }
        assert_eq!(reader(&[0xd3, 0, 0, 0, 0, 0, 0, 0, 9]).unsigned::<u8>(), Ok(9));
        assert_eq!(reader(&[0xd0, 5]).unsigned::<u8>(), Ok(5));
        assert_eq!(reader(&[0xc0]).unsigned::<u8>(), Ok(0));
        assert!(reader(&[0xff]).unsigned::<u8>().is_err());
        assert!(reader(&[0xd0, 0xff]).unsigned::<u8>().is_err());
        assert!(reader(&[0xcd, 1, 0]).unsigned::<u8>().is_err(), "256 is no byte");
    }

    #[test]
    fn text_is_read_in_the_old_form_and_in_both_new_ones() {
        for bytes in
            [&[0xa2, b'h', b'i'][..], &[0xd9, 2, b'h', b'i'], &[0xda, 0, 2, b'h', b'i'], &[0xc4, 2, b'h', b'i']]
        {
            assert_eq!(reader(bytes).raw(), Ok(&b"hi"[..]));
        }
        let mut out = Vec::new();
        write_raw(&mut out, &[b'x'; 31]);
        write_raw(&mut out, &[b'x'; 32]);
        write_raw(&mut out, &vec![b'x'; 65_536]);
        let mut reader = reader(&out);
        let lengths = [(); 3].map(|()| reader.raw().unwrap().len());
        assert_eq!((lengths, out[0], out[32], out[67]), ([31, 32, 65_536], 0xbf, 0xda, 0xdb));
    }

    #[test]
    fn unknown_fields_are_skipped_whatever_they_hold() {
        // {"a": [1, {"b": 1.5}, ext, nil], "n": 7}
        let bytes =
            [&[0x82, 0xa1, b'a', 0x94, 1, 0x81, 0xa1, b'b', 0xcb][..], &[0; 8], &[0xd4, 0, 0, 0xc0, 0xa1, b'n', 7]]
                .concat();
        let mut found = 0;
        reader(&bytes)
            .map(|key, value| {
                if key != b"n" {
                    return Ok(Known::No);
                }
                found = value.unsigned::<u8>()?;
                Ok(Known::Yes)
            })
            .unwrap();
        assert_eq!(found, 7);
    }

    #[test]
    fn lengths_and_depths_that_lie_end_with_the_bytes() {
        let skip = |bytes: &[u8]| reader(bytes).skip(DEPTH_MAX);
        assert_eq!(skip(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1, 2]), Err(DecodeError::Truncated("test")));
        assert_eq!(skip(&[0xdf, 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::Truncated("test")));
        assert_eq!(skip(&[0xdb, 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::Truncated("test")));
        assert!(matches!(skip(&[0x91; 1000]), Err(DecodeError::Invalid { .. })));
    }
}
