//! AS paths, with numbers of 2 or 4 bytes (RFC 4271 section 4.3 (b), RFC 6793).

use std::fmt;

use kit::Asn;

use super::error::Fault;
use super::reader::Reader;

/// How many bytes an AS number takes in AS_PATH and AGGREGATOR: 4 if both sides said so in their OPEN (RFC 6793).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AsnSize {
    /// Between speakers one of which does not know better.
    Two,
    /// Between speakers that both have the capability.
    Four,
}

impl AsnSize {
    /// Bytes.
    pub fn bytes(self) -> usize {
        match self {
            AsnSize::Two => 2,
            AsnSize::Four => 4,
        }
    }

    pub(super) fn read(self, reader: &mut Reader<'_>) -> Option<u32> {
        match self {
            AsnSize::Two => reader.u16().map(u32::from),
            AsnSize::Four => reader.u32(),
        }
    }

    /// Appends a number; AS_TRANS stands for one that does not fit (RFC 6793 section 4.2.2).
    pub(super) fn write(self, asn: Asn, out: &mut Vec<u8>) {
        match self {
            AsnSize::Two => out.extend_from_slice(&asn.as_two_bytes().unwrap_or(Asn::TRANS).to_be_bytes()),
            AsnSize::Four => out.extend_from_slice(&asn.get().to_be_bytes()),
        }
    }
}

/// A kind of AS path segment; the numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// Unordered.
    Set = 1,
    /// In order, the nearest AS first.
    Sequence = 2,
    /// A sequence within a confederation (RFC 5065).
    ConfederationSequence = 3,
    /// A set within a confederation (RFC 5065).
    ConfederationSet = 4,
}

impl SegmentKind {
    fn from_wire(number: u8) -> Option<Self> {
        [SegmentKind::Set, SegmentKind::Sequence, SegmentKind::ConfederationSequence, SegmentKind::ConfederationSet]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    /// True for the kinds that only mean something within a confederation.
    pub fn is_confederation(self) -> bool {
        matches!(self, SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet)
    }
}

/// A part of an AS path. On the wire it has 1 to 255 numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// How to read the numbers.
    pub kind: SegmentKind,
    /// The numbers.
    pub asns: Vec<Asn>,
}

/// The ASes that a route came through, the nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath(pub Vec<Segment>);

impl AsPath {
    /// The path of a route that one AS originated.
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        AsPath(vec![Segment { kind: SegmentKind::Sequence, asns: asns.into_iter().collect() }])
    }

    /// True when the AS is anywhere in the path (RFC 4271 section 9.1.2: a loop, if it is our own).
    pub fn contains(&self, asn: Asn) -> bool {
        self.0.iter().any(|segment| segment.asns.contains(&asn))
    }

    /// The AS that the route came from last; `None` when the path does not begin with a sequence.
    pub fn leftmost(&self) -> Option<Asn> {
        self.0.first().filter(|segment| segment.kind == SegmentKind::Sequence)?.asns.first().copied()
    }

    /// How long the path counts: a set is one AS, confederations are none (RFC 4271 section 9.1.2.2, RFC 5065).
    pub fn length(&self) -> usize {
        self.0.iter().map(Segment::length).fold(0, usize::saturating_add)
    }

    /// Reads a path. RFC 7606 section 7.2 and RFC 7607: unknown segment types, segments beyond the end, a single
    /// byte left over, segments without a number and AS 0 are malformed.
    pub(super) fn decode(reader: &mut Reader<'_>, size: AsnSize) -> Result<AsPath, Fault> {
        let mut segments = Vec::new();
        while !reader.is_empty() {
            let offset = reader.offset();
            let fault = |problem: &str| Fault::new(offset, problem);
            let kind = reader.u8().ok_or_else(|| fault("a segment without a type"))?;
            let count = reader.u8().ok_or_else(|| fault("a single byte is left over"))?;
            let kind = SegmentKind::from_wire(kind).ok_or_else(|| fault(&format!("segment type {kind} is unknown")))?;
            if count == 0 {
                return Err(fault("a segment without AS numbers"));
            }
            let mut numbers = reader
                .sub(usize::from(count).saturating_mul(size.bytes()))
                .ok_or_else(|| fault(&format!("a segment of {count} AS numbers goes beyond the attribute")))?;
            let mut asns = Vec::with_capacity(usize::from(count));
            while let Some(number) = size.read(&mut numbers) {
                asns.push(Asn::new(number).ok_or_else(|| fault("AS 0 is not an AS"))?);
            }
            segments.push(Segment { kind, asns });
        }
        Ok(AsPath(segments))
    }

    /// Appends the value of AS_PATH, or with 4 bytes that of AS4_PATH.
    pub(super) fn encode(&self, size: AsnSize, out: &mut Vec<u8>) {
        for segment in &self.0 {
            for part in segment.asns.chunks(usize::from(u8::MAX)) {
                out.extend_from_slice(&[segment.kind as u8, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
                for asn in part {
                    size.write(*asn, out);
                }
            }
        }
    }

    /// True when no number needs 4 bytes: then there is no AS4_PATH (RFC 6793 section 4.2.2).
    pub(super) fn fits_two_bytes(&self) -> bool {
        self.0.iter().flat_map(|segment| &segment.asns).all(|asn| asn.as_two_bytes().is_some())
    }

    /// The path without confederation segments: they must not be in AS4_PATH (RFC 6793 section 3).
    pub(super) fn without_confederations(&self) -> AsPath {
        AsPath(self.0.iter().filter(|segment| !segment.kind.is_confederation()).cloned().collect())
    }

    /// Puts the numbers of AS4_PATH in the place of AS_TRANS (RFC 6793 section 4.2.3): as many leading ASes of this
    /// path as AS4_PATH is shorter, then AS4_PATH. If AS4_PATH is the longer one, it is ignored.
    pub(super) fn merge(self, as4_path: &AsPath) -> AsPath {
        let Some(mut lead) = self.length().checked_sub(as4_path.length()) else {
            return self;
        };
        let mut segments = Vec::new();
        for segment in self.0 {
            let length = segment.length();
            if length <= lead && (lead > 0 || segment.kind.is_confederation()) {
                lead = lead.saturating_sub(length);
                segments.push(segment);
            } else {
                if lead > 0 {
                    segments.push(Segment { kind: segment.kind, asns: segment.asns.into_iter().take(lead).collect() });
                }
                break;
            }
        }
        for segment in &as4_path.0 {
            match segments.last_mut() {
                Some(last) if last.kind == SegmentKind::Sequence && segment.kind == SegmentKind::Sequence => {
                    last.asns.extend_from_slice(&segment.asns);
                }
                _ => segments.push(segment.clone()),
            }
        }
        AsPath(segments)
    }
}

impl Segment {
    fn length(&self) -> usize {
        match self.kind {
            SegmentKind::Sequence => self.asns.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet => 0,
        }
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("empty");
        }
        for (index, segment) in self.0.iter().enumerate() {
            let (open, between, close) = match segment.kind {
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::ConfederationSequence => ("(", " ", ")"),
                SegmentKind::ConfederationSet => ("[", ",", "]"),
            };
            let asns: Vec<String> = segment.asns.iter().map(ToString::to_string).collect();
            write!(f, "{}{open}{}{close}", if index == 0 { "" } else { " " }, asns.join(between))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Reads `1 2 {3,4} (5) [6]`.
    fn path(text: &str) -> AsPath {
        let mut segments: Vec<Segment> = Vec::new();
        for word in text.split_whitespace() {
            let kind = match word.as_bytes()[0] {
                b'{' => SegmentKind::Set,
                b'(' => SegmentKind::ConfederationSequence,
                b'[' => SegmentKind::ConfederationSet,
                _ => SegmentKind::Sequence,
            };
            let asns = word.trim_matches(['{', '}', '(', ')', '[', ']']).split(',');
            let asns: Vec<Asn> = asns.map(|asn| Asn::new(asn.parse().unwrap()).unwrap()).collect();
            match segments.last_mut() {
                Some(last) if kind == SegmentKind::Sequence && last.kind == kind => last.asns.extend(asns),
                _ => segments.push(Segment { kind, asns }),
            }
        }
        AsPath(segments)
    }

    fn check(size: AsnSize, bytes: &[u8], expected: Expect) {
        expected.assert_eq(&match AsPath::decode(&mut Reader::new(bytes, 0), size) {
            Ok(path) => path.to_string(),
            Err(fault) => format!("byte {}: {}", fault.offset, fault.problem),
        });
    }

    #[test]
    fn paths_with_two_and_four_bytes() {
        check(AsnSize::Two, &[], expect!["empty"]);
        check(AsnSize::Two, &[2, 2, 0xfd, 0xe9, 0, 1, 1, 2, 0, 2, 0, 3], expect!["65001 1 {2,3}"]);
        check(AsnSize::Four, &[2, 1, 0, 1, 0, 0, 3, 1, 0, 0, 0, 7], expect!["65536 (7)"]);
    }

    #[test]
    fn rfc7606_7_2_malformed_segments() {
        check(AsnSize::Two, &[2, 1, 0, 1, 5, 1, 0, 1], expect!["byte 4: segment type 5 is unknown"]);
        check(AsnSize::Two, &[2, 2, 0, 1, 0], expect!["byte 0: a segment of 2 AS numbers goes beyond the attribute"]);
        check(AsnSize::Two, &[2, 1, 0, 1, 2], expect!["byte 4: a single byte is left over"]);
        check(AsnSize::Two, &[2, 0], expect!["byte 0: a segment without AS numbers"]);
    }

    #[test]
    fn rfc7607_2_as_0_in_a_path_is_malformed() {
        check(AsnSize::Four, &[2, 1, 0, 0, 0, 0], expect!["byte 0: AS 0 is not an AS"]);
    }

    #[test]
    fn rfc6793_4_2_3_the_numbers_of_as4_path_take_the_place_of_as_trans() {
        let merged = |as_path: &str, as4_path: &str| path(as_path).merge(&path(as4_path)).to_string();
        assert_eq!(merged("23456", "70000"), "70000");
        assert_eq!(merged("100 23456 23456", "70000 80000"), "100 70000 80000");
        assert_eq!(merged("100 200 23456 300", "70000 300"), "100 200 70000 300");
        assert_eq!(merged("(1) 100 23456", "70000"), "(1) 100 70000");
        assert_eq!(merged("(1) 23456", "70000"), "(1) 70000");
        assert_eq!(merged("100 {5,6} 23456", "{5,6} 70000"), "100 {5,6} 70000");
        assert_eq!(merged("100 23456 {5,6}", "70000"), "100 23456 70000", "a set counts as one AS");
        assert_eq!(merged("23456", "70000 80000"), "23456", "a longer AS4_PATH is ignored");
        assert_eq!(merged("100 200", ""), "100 200");
    }

    #[test]
    fn rfc6793_4_2_2_as_trans_stands_for_what_does_not_fit() {
        let mut bytes = Vec::new();
        path("70000 1").encode(AsnSize::Two, &mut bytes);
        assert_eq!(bytes, [2, 2, 0x5b, 0xa0, 0, 1]);
        assert!(!path("70000 1").fits_two_bytes() && path("65535").fits_two_bytes());
    }

    #[test]
    fn segments_of_more_than_255_numbers_are_split() {
        let long = AsPath::sequence((1..=300).filter_map(Asn::new));
        let mut bytes = Vec::new();
        long.encode(AsnSize::Four, &mut bytes);
        let back = AsPath::decode(&mut Reader::new(&bytes, 0), AsnSize::Four).unwrap();
        assert_eq!((back.0.len(), back.length(), back.leftmost()), (2, 300, Asn::new(1)));
    }
}
