//! The rules of BFDProfiles (contract 4.2 rule 22).

use std::num::NonZeroU8;
use std::ops::RangeInclusive;

use api::BFDProfile;
use kit::Duration;

use crate::BfdProfile;
use crate::finding::Report;

/// Intervals in milliseconds.
const INTERVALS: RangeInclusive<i64> = 10..=60_000;
/// Packets that may be missed.
const MULTIPLIERS: RangeInclusive<i64> = 2..=255;
/// Lowest TTLs.
const TTLS: RangeInclusive<i64> = 1..=254;

/// Reads one profile.
pub(crate) fn profile(written: &BFDProfile, report: &mut Report) -> BfdProfile {
    let spec = &written.spec;
    let mut number = |field: &str, value: Option<i64>, range: RangeInclusive<i64>| {
        let value = value?;
        if range.contains(&value) {
            return Some(value);
        }
        let message = format!("invalid value {value} for {field}: it must be {} to {}", range.start(), range.end());
        report.error("bfd-value", format!("/spec/{field}"), message);
        None
    };
    let receive_interval = number("receiveInterval", spec.receive_interval, INTERVALS);
    let transmit_interval = number("transmitInterval", spec.transmit_interval, INTERVALS);
    let detect_multiplier = number("detectMultiplier", spec.detect_multiplier, MULTIPLIERS);
    let echo_interval = number("echoInterval", spec.echo_interval, INTERVALS);
    let minimum_ttl = number("minimumTtl", spec.minimum_ttl, TTLS);

    let interval = |millis: Option<i64>| u64::try_from(millis?).ok().map(Duration::from_millis);
    let small = |number: Option<i64>| u8::try_from(number?).ok().and_then(NonZeroU8::new);
    BfdProfile {
        receive_interval: interval(receive_interval),
        transmit_interval: interval(transmit_interval),
        detect_multiplier: small(detect_multiplier),
        echo_interval: interval(echo_interval),
        echo_mode: spec.echo_mode.unwrap_or(false),
        passive_mode: spec.passive_mode.unwrap_or(false),
        minimum_ttl: small(minimum_ttl),
    }
}
