//! Durations as Kubernetes writes them (`metav1.Duration`, which is Go's `time.Duration` as text): `1m30s`, `1.5h`,
//! `500ms`.

use std::fmt;

/// Nanoseconds in a second.
const NANOS_PER_SEC: i64 = 1_000_000_000;

/// The units, longest name first where one begins like another, in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A span of time in nanoseconds; negative ones can be written, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoDurationError(String);

impl fmt::Display for GoDurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid duration {:?}", self.0)
    }
}

impl std::error::Error for GoDurationError {}

impl GoDuration {
    /// Reads numbers with units (`h`, `m`, `s`, `ms`, `us`, `ns`), with or without a fraction, of which there may be
    /// several in any order; or `0` alone. A sign may stand before all of it.
    pub fn parse(text: &str) -> Result<Self, GoDurationError> {
        let error = || GoDurationError(text.to_owned());
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..)),
            Some(b'+') => (false, text.get(1..)),
            _ => (false, Some(text)),
        };
        let mut rest = unsigned.filter(|rest| !rest.is_empty()).ok_or_else(error)?;
        if rest == "0" {
            return Ok(GoDuration(0));
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (nanos, after) = number_with_unit(rest).ok_or_else(error)?;
            total = total.checked_add(nanos).ok_or_else(error)?;
            rest = after;
        }
        // The longest negative span has no positive counterpart.
        let signed = if negative { 0i64.checked_sub_unsigned(total) } else { i64::try_from(total).ok() };
        signed.map(GoDuration).ok_or_else(error)
    }

    /// Nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds; the fraction is dropped, as everywhere in MetalLB where only seconds count.
    pub const fn as_secs(self) -> i64 {
        self.0 / NANOS_PER_SEC
    }

    /// True when there is a fraction of a second.
    pub const fn has_fraction(self) -> bool {
        self.0 % NANOS_PER_SEC != 0
    }

    /// True below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// Splits `1.5h30m` into the nanoseconds of `1.5h` and `30m`.
fn number_with_unit(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // A unit ends where the next number begins, so `m` is never taken for the beginning of `ms`.
    let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(end)?;
    let (_, nanos_per_unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let nanos = whole.checked_mul(*nanos_per_unit)?.checked_add(fraction_of(fraction, *nanos_per_unit)?)?;
    Some((nanos, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `digits` behind a decimal point, times the unit, rounded down to whole nanoseconds.
fn fraction_of(digits: &str, nanos_per_unit: u64) -> Option<u64> {
    // Sixteen digits say more than an hour has nanoseconds; those behind them cannot matter.
    let digits = digits.get(..digits.len().min(16))?;
    if digits.is_empty() {
        return Some(0);
    }
    let scale = 10u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let scaled = u128::from(digits.parse::<u64>().ok()?).checked_mul(u128::from(nanos_per_unit))?;
    u64::try_from(scaled.checked_div(scale)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("90s", Some(90_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("500ms", Some(500_000_000)),
            ("1h2m3s4ms5us6ns", Some(3_723_004_005_006)),
            ("2\u{b5}s", Some(2_000)),
            ("2\u{3bc}s", Some(2_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("30s1m", Some(90_000_000_000)),
            ("-3s", Some(-3_000_000_000)),
            ("+3s", Some(3_000_000_000)),
            ("0.333333333333333333333s", Some(333_333_333)),
            ("9223372036854775807ns", Some(i64::MAX)),
            ("-9223372036854775808ns", Some(i64::MIN)),
            ("9223372036854775808ns", None),
            ("99999999999h", None),
            ("", None),
            ("-", None),
            ("90", None),
            ("s", None),
            (".s", None),
            ("1d", None),
            ("1 s", None),
            ("1s ", None),
            ("1.2.3s", None),
            ("--1s", None),
            ("1sm", None),
        ];
        for (text, expected) in cases {
            assert_eq!(GoDuration::parse(text).ok().map(GoDuration::as_nanos), expected, "{text:?}");
        }
    }

    #[test]
    fn fractions_of_seconds_are_seen_and_dropped() {
        let half = GoDuration::parse("500ms").unwrap();
        assert!(half.has_fraction() && half.as_secs() == 0);
        let three = GoDuration::parse("3s").unwrap();
        assert!(!three.has_fraction() && three.as_secs() == 3);
        assert!(GoDuration::parse("-1ns").unwrap().is_negative());
    }
}
