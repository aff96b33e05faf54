//! The timers of a BGPPeer (contract 4.2 rules 14, 15 and 19, vectors in 13.3).
//!
//! Seconds are what counts: BGP has no fractions (RFC 4271 section 4.2), so they are dropped, and a fraction that
//! leaves nothing over is worth a warning. Unlike upstream, a hold time that does not fit in 16 bits is refused (D21).

use api::{BGPPeerSpec, GoDuration};
use kit::{Duration, HoldTime};

use crate::finding::Report;

const HOLD: &str = "/spec/holdTime";
const KEEPALIVE: &str = "/spec/keepaliveTime";
const CONNECT: &str = "/spec/connectTime";

const NANOS_PER_SEC: i64 = 1_000_000_000;

/// The longest time between attempts to connect, in seconds.
const CONNECT_SECS_MAX: i64 = 65_535;

/// Hold time and time between KEEPALIVEs; `None` for what the session decides by itself.
pub(crate) fn hold_and_keepalive(spec: &BGPPeerSpec, report: &mut Report) -> (Option<HoldTime>, Option<Duration>) {
    let hold = duration(spec.hold_time.as_deref(), HOLD, report);
    let keepalive = duration(spec.keepalive_time.as_deref(), KEEPALIVE, report);
    if let (Some(hold), Some(keepalive)) = (hold, keepalive)
        && keepalive > hold
    {
        let shown = |text: &Option<String>| text.clone().unwrap_or_default();
        let (keepalive, hold) = (shown(&spec.keepalive_time), shown(&spec.hold_time));
        report
            .error("keepalive-time", KEEPALIVE, format!("keepaliveTime {keepalive} must be lower than holdTime {hold}"))
            .hint("leave keepaliveTime out to have a third of the hold time");
        return (None, None);
    }
    let hold_secs = match (hold, keepalive) {
        (Some(hold), _) => Some(hold.as_secs()),
        (None, Some(keepalive)) => Some(keepalive.as_nanos().saturating_mul(3) / NANOS_PER_SEC),
        (None, None) => None,
    };
    let hold_time = hold_secs.and_then(|secs| match u64::try_from(secs).map(HoldTime::from_secs) {
        Ok(Ok(hold_time)) => Some(hold_time),
        Ok(Err(error)) => {
            let pointer = if hold.is_some() { HOLD } else { KEEPALIVE };
            report
                .error("hold-time", pointer, error.to_string())
                .hint("routers commonly use 90s with 30s, or 9s with 3s");
            None
        }
        // Negative times were refused when they were read.
        Err(_) => None,
    });
    if hold_time == Some(HoldTime::NEVER) {
        let pointer = if hold.is_some() { HOLD } else { KEEPALIVE };
        let message = match hold {
            Some(hold) if hold.has_fraction() => "fractions of a second are dropped, which leaves a hold time of 0",
            _ => "with a hold time of 0 a dead router is never noticed by BGP",
        };
        report
            .warning("hold-time-never", pointer, message)
            .hint("remove holdTime and keepaliveTime to have the usual ones, or watch the router with a bfdProfile");
        return (hold_time, None);
    }
    if hold_secs.is_some() && hold_time.is_none() {
        return (None, None);
    }
    (hold_time, keepalive.and_then(|keepalive| keepalive_time(keepalive, report)))
}

fn keepalive_time(keepalive: GoDuration, report: &mut Report) -> Option<Duration> {
    if keepalive.as_nanos() == 0 {
        report
            .warning(
                "keepalive-time-zero",
                KEEPALIVE,
                "keepaliveTime 0s counts as left out: without KEEPALIVEs the session would expire",
            )
            .hint("remove keepaliveTime to have a third of the hold time");
        return None;
    }
    // RFC 4271 section 4.4: KEEPALIVE messages MUST NOT be sent more frequently than one per second.
    let secs = u64::try_from(keepalive.as_secs()).unwrap_or(0).max(1);
    if keepalive.as_secs() < 1 {
        report
            .warning("keepalive-time-fraction", KEEPALIVE, "keepaliveTime below one second counts as 1s")
            .hint("use 1s or more");
    }
    Some(Duration::from_secs(secs))
}

/// Time between attempts to connect.
pub(crate) fn connect_time(spec: &BGPPeerSpec, report: &mut Report) -> Option<Duration> {
    let time = duration(spec.connect_time.as_deref(), CONNECT, report)?;
    if time.has_fraction() {
        report
            .error("connect-time", CONNECT, "connect time should contain a whole number of seconds")
            .hint("write it without a fraction, such as 10s");
        return None;
    }
    let secs = time.as_secs();
    if !(1..=CONNECT_SECS_MAX).contains(&secs) {
        report
            .error("connect-time", CONNECT, "connect time should be between 1 seconds to 65535")
            .hint("leave it out to have the usual one");
        return None;
    }
    u64::try_from(secs).ok().map(Duration::from_secs)
}

/// How long a router keeps routes while we restart, if nothing is said: long enough for a pod to start on a busy node. FRR
/// has the same.
const RESTART_DEFAULT: Duration = Duration::from_secs(120);
/// What fits in the capability (RFC 4724 section 3).
const RESTART_SECS_MAX: i64 = 4095;

/// The restart time of RFC 4724.
pub(crate) fn graceful_restart_time(spec: &BGPPeerSpec, report: &mut Report) -> Option<Duration> {
    const PLACE: &str = "/spec/gracefulRestartTime";
    let Some(text) = spec.graceful_restart_time.as_deref() else { return Some(RESTART_DEFAULT) };
    let time = duration(Some(text), PLACE, report)?;
    if time.has_fraction() || !(1..=RESTART_SECS_MAX).contains(&time.as_secs()) {
        report
            .error(
                "graceful-restart-time",
                PLACE,
                format!("invalid gracefulRestartTime {text}: it must be 1s to {RESTART_SECS_MAX}s, in whole seconds"),
            )
            .hint("leave it out to have 120s");
        return None;
    }
    u64::try_from(time.as_secs()).ok().map(Duration::from_secs)
}

fn duration(text: Option<&str>, pointer: &str, report: &mut Report) -> Option<GoDuration> {
    match GoDuration::parse(text?) {
        Ok(time) if time.is_negative() => {
            report.error("duration", pointer, "a time must not be negative").hint("write a time such as 90s or 1m30s");
            None
        }
        Ok(time) => Some(time),
        Err(error) => {
            report
                .error("duration", pointer, error.to_string())
                .hint("write a number with a unit, such as 90s or 1m30s");
            None
        }
    }
}
