//! The addresses of one family of a pool, laid out one after the other.
//!
//! Every usable address has a position: 0 is given out first. So "first fit in the order of `addresses`, ascending
//! inside an entry, without the buggy ones" (contract 3.3) becomes "lowest position that will do", and a full pool is
//! one interval of positions however many ranges it has and however many addresses are left out.

use std::net::IpAddr;

use kit::{AddrRange, Family};

/// From this many host bits on, a prefix counts as endless (contract 3.5, 13.1).
const ENDLESS_HOST_BITS: u8 = 62;

/// How the addresses of a family in a pool are ordered.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    family: Family,
    numbering: Numbering,
    /// Ascending by position, without gaps.
    segments: Vec<Segment>,
    /// The same, ascending by address.
    by_index: Vec<Segment>,
    usable: u128,
}

/// One range of the pool: the usable addresses between two indexes.
#[derive(Clone, Copy, Debug)]
struct Segment {
    position: u128,
    first_index: u128,
    last_index: u128,
}

/// How usable addresses are numbered without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbering {
    /// All are usable: the index is the address.
    Plain,
    /// IPv4 without those that end in 0 or 255: 254 in each 256.
    WithoutBuggy,
}

impl Layout {
    /// Lays out the ranges of this family. The ranges must not overlap.
    pub(crate) fn new(family: Family, ranges: &[AddrRange], avoid_buggy_ips: bool) -> Self {
        let numbering =
            if avoid_buggy_ips && family == Family::V4 { Numbering::WithoutBuggy } else { Numbering::Plain };
        let mut layout = Layout { family, numbering, segments: Vec::new(), by_index: Vec::new(), usable: 0 };
        for range in ranges.iter().filter(|range| range.family() == family) {
            let (Some(first_index), Some(last_index)) =
                (numbering.index_from(range.first()), numbering.index_to(range.last()))
            else {
                continue;
            };
            if first_index > last_index {
                continue;
            }
            let position = layout.end();
            layout.segments.push(Segment { position, first_index, last_index });
            let endless =
                range.prefixes().iter().any(|net| family.bits().saturating_sub(net.prefix_len()) >= ENDLESS_HOST_BITS);
            let size = last_index.saturating_sub(first_index).saturating_add(1);
            layout.usable = layout.usable.saturating_add(if endless { u128::MAX } else { size });
        }
        layout.by_index = layout.segments.clone();
        layout.by_index.sort_unstable_by_key(|segment| segment.first_index);
        layout
    }

    /// The position after the last one.
    fn end(&self) -> u128 {
        self.segments.last().map_or(0, |segment| segment.last_position().saturating_add(1))
    }

    /// The last position; `None` when there is no address.
    pub(crate) fn last_position(&self) -> Option<u128> {
        self.segments.last().map(Segment::last_position)
    }

    /// How many addresses there are to give out; `u128::MAX` where contract 3.5 counts no further.
    pub(crate) fn usable(&self) -> u128 {
        self.usable
    }

    /// The position of an address; `None` if it is not one of the pool's usable ones.
    pub(crate) fn position(&self, address: &IpAddr) -> Option<u128> {
        if Family::of(address) != self.family {
            return None;
        }
        let number = Family::number(address);
        let index = self.numbering.index_from(number).filter(|index| self.numbering.number(*index) == number)?;
        let after = self.by_index.partition_point(|segment| segment.first_index <= index);
        let segment = self.by_index.get(after.checked_sub(1)?)?;
        (index <= segment.last_index)
            .then(|| segment.position.saturating_add(index.saturating_sub(segment.first_index)))
    }

    /// The address at a position.
    pub(crate) fn address(&self, position: u128) -> Option<IpAddr> {
        let after = self.segments.partition_point(|segment| segment.position <= position);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let index = segment.first_index.saturating_add(position.saturating_sub(segment.position));
        self.family.address(self.numbering.number(index)).filter(|_| index <= segment.last_index)
    }
}

impl Segment {
    fn last_position(&self) -> u128 {
        self.position.saturating_add(self.last_index.saturating_sub(self.first_index))
    }
}

impl Numbering {
    /// The index of the first usable address from `number` on.
    fn index_from(self, number: u128) -> Option<u128> {
        match self {
            Numbering::Plain => Some(number),
            Numbering::WithoutBuggy => {
                let (block, octet) = (number / 256, number % 256);
                match octet {
                    0 => block.checked_mul(254),
                    255 => block.checked_add(1)?.checked_mul(254),
                    _ => block.checked_mul(254)?.checked_add(octet.checked_sub(1)?),
                }
            }
        }
    }

    /// The index of the last usable address up to `number`.
    fn index_to(self, number: u128) -> Option<u128> {
        match self {
            Numbering::Plain => Some(number),
            Numbering::WithoutBuggy => {
                let (block, octet) = (number / 256, number % 256);
                match octet {
                    0 => block.checked_mul(254)?.checked_sub(1),
                    255 => block.checked_mul(254)?.checked_add(253),
                    _ => block.checked_mul(254)?.checked_add(octet.checked_sub(1)?),
                }
            }
        }
    }

    /// The address at an index.
    fn number(self, index: u128) -> u128 {
        match self {
            Numbering::Plain => index,
            Numbering::WithoutBuggy => (index / 254).saturating_mul(256).saturating_add(index % 254).saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(entries: &[&str], avoid_buggy_ips: bool) -> Layout {
        let ranges: Vec<AddrRange> = entries.iter().map(|entry| AddrRange::parse(entry).unwrap()).collect();
        Layout::new(ranges[0].family(), &ranges, avoid_buggy_ips)
    }

    fn all(layout: &Layout) -> Vec<String> {
        let Some(last) = layout.last_position() else { return Vec::new() };
        (0..=last).map(|position| layout.address(position).unwrap().to_string()).collect()
    }

    #[test]
    fn entries_come_in_the_order_they_are_written_and_ascend_inside() {
        let layout = layout(&["10.0.9.1-10.0.9.3", "10.0.1.0/31"], false);
        assert_eq!(all(&layout), ["10.0.9.1", "10.0.9.2", "10.0.9.3", "10.0.1.0", "10.0.1.1"]);
        assert_eq!(layout.position(&"10.0.1.1".parse().unwrap()), Some(4));
        assert_eq!(layout.position(&"10.0.9.4".parse().unwrap()), None);
        assert_eq!(layout.position(&"fc00::1".parse().unwrap()), None);
        assert_eq!(layout.address(5), None);
    }

    #[test]
    fn buggy_addresses_have_no_position() {
        let layout = layout(&["10.0.0.254-10.0.1.1", "10.0.2.0/32", "10.0.3.255/32", "10.0.4.255-10.0.5.1"], true);
        assert_eq!(all(&layout), ["10.0.0.254", "10.0.1.1", "10.0.5.1"]);
        assert_eq!(layout.position(&"10.0.1.0".parse().unwrap()), None);
        assert_eq!(layout.usable(), 3);
    }

    #[test]
    fn both_ends_of_the_address_space_are_laid_out() {
        let everything = layout(&["::/0"], false);
        assert_eq!(everything.last_position(), Some(u128::MAX));
        assert_eq!(everything.address(u128::MAX), Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
        let v4 = layout(&["0.0.0.0/0"], true);
        assert_eq!(v4.address(0), Some("0.0.0.1".parse().unwrap()));
        assert_eq!(v4.usable(), 254 << 24);
        assert_eq!(layout(&["0.0.0.0/32"], true).last_position(), None);
        assert_eq!(layout(&["255.255.255.255/32"], true).last_position(), None);
    }

    #[test]
    fn counts_of_contract_13_1() {
        let buggy = ["10.0.0.0/24", "10.0.2.0/32", "10.0.3.255/32", "10.0.4.0/25", "10.0.8.0/22"];
        assert_eq!(layout(&buggy, true).usable(), 1397);
        assert_eq!(layout(&["fc00::/67"], false).usable(), 2_305_843_009_213_693_952);
        assert_eq!(layout(&["fc00::/66"], false).usable(), u128::MAX);
        assert_eq!(layout(&["0.0.0.0/0"], false).usable(), 4_294_967_296);
        assert_eq!(layout(&["fc00::/48", "fd00::/126"], false).usable(), u128::MAX);
    }

    proptest! {
        /// The model is the list of usable addresses, written down one by one.
        #[test]
        fn positions_agree_with_a_plain_list(
            pieces in prop::collection::vec((1u32..300, 1u32..600), 1..5),
            reverse in any::<bool>(),
            avoid_buggy_ips in any::<bool>(),
        ) {
            let mut next = 0x0a00_0000u32;
            let mut ranges = Vec::new();
            for (gap, size) in pieces {
                let first = next + gap;
                next = first + size;
                ranges.push(AddrRange::new(
                    Family::V4.address(first.into()).unwrap(),
                    Family::V4.address((next - 1).into()).unwrap(),
                ).unwrap());
            }
            if reverse {
                ranges.reverse();
            }
            let layout = Layout::new(Family::V4, &ranges, avoid_buggy_ips);
            let expected: Vec<IpAddr> = ranges
                .iter()
                .flat_map(|range| (range.first()..=range.last()).map(|n| Family::V4.address(n).unwrap()))
                .filter(|address| !avoid_buggy_ips || !kit::is_buggy(address))
                .collect();
            prop_assert_eq!(layout.usable(), expected.len() as u128);
            for (position, address) in expected.iter().enumerate() {
                prop_assert_eq!(layout.position(address), Some(position as u128));
                prop_assert_eq!(layout.address(position as u128), Some(*address));
            }
            prop_assert_eq!(layout.address(expected.len() as u128), None);
        }
    }
}
