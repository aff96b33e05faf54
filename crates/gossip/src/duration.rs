//! Durations as Go writes them: `500ms`, `1m30s`, `1.5h`.

use kit::Duration;

/// Units with their nanoseconds; a unit comes before those it begins with.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration that is not negative; `None` if it is none. What is below a microsecond is cut.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, after) = UNITS.iter().find_map(|(name, unit)| Some((*unit, after.strip_prefix(name)?)))?;
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanos = nanos.checked_add(whole.checked_mul(unit)?)?.checked_add(part(fraction, unit)?)?;
        rest = after;
    }
    Some(Duration::from_micros(u64::try_from(nanos / 1_000).ok()?))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The digits behind the point, as a part of the unit.
fn part(fraction: &str, unit: u128) -> Option<u128> {
    if fraction.is_empty() {
        return Some(0);
    }
    let precision: String = fraction.chars().take(18).collect();
    let scale = 10_u128.checked_pow(u32::try_from(precision.len()).ok()?)?;
    precision.parse::<u128>().ok()?.checked_mul(unit)?.checked_div(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, micros) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500_000),
            ("1m30s", 90_000_000),
            ("1.5h", 5_400_000_000),
            (".5s", 500_000),
            ("1.s", 1_000_000),
            ("+2us", 2),
            ("2\u{b5}s", 2),
            ("999ns", 0),
            ("1s1s", 2_000_000),
        ] {
            assert_eq!(go_duration(text), Some(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "1", "s", ".s", "1x", "-1s", "1 s", "1s ", "99999999999999999999999999999999999999999h"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
