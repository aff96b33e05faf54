//! The series of both components: what was worked on (contract 8.2), the source of objects, the logs, the endpoint
//! itself, and the process.

use std::sync::Arc;

use super::endpoint::Responses;
use super::family::{self, Family, flag, known, number};
use super::{Metrics, Origin, Text, system};

/// How the newest configuration stands to the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigState {
    /// They are the same (also when a bad one was taken back, D2).
    InForce,
    /// The newest one cannot be used; an older one is in force, or none.
    Stale,
}

/// What was worked on, and the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Changes of a Service, of the configuration or of a node that were worked on.
    pub updates: u64,
    /// Those of them that could not be.
    pub update_errors: u64,
    /// A configuration has been in force at least once.
    pub is_loaded: bool,
    /// The newest configuration is not the one in force.
    pub is_stale: bool,
}

impl Work {
    /// A change was worked on.
    pub fn updated(&mut self) {
        self.updates = self.updates.saturating_add(1);
    }

    /// A configuration was looked at. The first one that comes into force loads it for good.
    pub fn configured(&mut self, state: ConfigState) {
        self.updated();
        self.is_stale = state == ConfigState::Stale;
        self.is_loaded |= state == ConfigState::InForce;
        self.update_errors = self.update_errors.saturating_add(u64::from(self.is_stale));
    }
}

/// What both components know of themselves when a scrape comes.
#[derive(Clone, Debug, Default)]
pub struct ProcessReport {
    /// Where objects come from.
    pub source: SourceReport,
    /// Log lines that were dropped because more came than could be written.
    pub log_lines_dropped: u64,
    /// How often a connection had to wait because all places of the metrics endpoint were taken.
    pub connections_crowded: u64,
    /// What was answered to scrapes.
    pub responses: Arc<Responses>,
    /// The certificate of `--metrics-cert-dir`, if it is used.
    pub certificate: Option<CertificateReport>,
}

/// The source of objects: the Kubernetes API, or a directory of manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceReport {
    /// It answers.
    pub is_up: bool,
    /// Kinds of objects that have not been listed yet.
    pub kinds_missing: u64,
    /// Objects, or files of objects, that could not be read.
    pub unreadable: u64,
    /// Times a list or watch failed.
    pub read_failures: u64,
    /// Writes that were done.
    pub written: u64,
    /// Writes that failed and were tried again.
    pub write_retries: u64,
    /// Writes that were refused for good.
    pub write_refusals: u64,
    /// Statuses that were dropped because too many waited.
    pub statuses_dropped: u64,
    /// Events that were dropped because too many waited, or after too many tries.
    pub events_dropped: u64,
    /// Writes that wait or are under way.
    pub writes_waiting: u64,
}

/// How often the certificate was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertificateReport {
    /// With success.
    pub reads: u64,
    /// Without.
    pub read_errors: u64,
    /// When the one in use ends, in seconds since 1970.
    pub end: Option<u64>,
}

pub(super) const WORK: [Family<Work, 0>; 4] = [
    Family::counter(
        Origin::MetalLb,
        "metallb_k8s_client_updates_total",
        "Number of changes of Services, nodes and the configuration that have been worked on.",
        |work| number(work.updates),
    ),
    Family::counter(
        Origin::MetalLb,
        "metallb_k8s_client_update_errors_total",
        "Number of those changes that could not be worked on.",
        |work| number(work.update_errors),
    ),
    Family::gauge(
        Origin::MetalLb,
        "metallb_k8s_client_config_loaded_bool",
        "1 if a configuration has been in force at least once.",
        |work| flag(work.is_loaded),
    ),
    Family::gauge(
        Origin::MetalLb,
        "metallb_k8s_client_config_stale_bool",
        "1 if the newest configuration is not the one in force.",
        |work| flag(work.is_stale),
    ),
];

pub(super) const SOURCE: [Family<SourceReport, 0>; 8] = [
    Family::gauge(
        Origin::Ours,
        "metallb_source_up",
        "1 if the source of objects (the Kubernetes API, or a directory) answers.",
        |source| flag(source.is_up),
    ),
    Family::gauge(
        Origin::Ours,
        "metallb_source_kinds_missing",
        "Number of kinds of objects that have not been listed since the start; nothing is decided before it is 0.",
        |source| number(source.kinds_missing),
    ),
    Family::counter(
        Origin::Ours,
        "metallb_source_unreadable_total",
        "Number of objects, or files of objects, that could not be read.",
        |source| number(source.unreadable),
    ),
    Family::counter(
        Origin::Ours,
        "metallb_source_read_failures_total",
        "Number of lists and watches that failed.",
        |source| number(source.read_failures),
    ),
    Family::counter(Origin::Ours, "metallb_source_writes_total", "Number of statuses and events written.", |source| {
        number(source.written)
    }),
    Family::counter(
        Origin::Ours,
        "metallb_source_write_retries_total",
        "Number of writes that failed and were tried again.",
        |source| number(source.write_retries),
    ),
    Family::counter(
        Origin::Ours,
        "metallb_source_write_refusals_total",
        "Number of writes that were refused for good: the object is gone, or the server does not accept it.",
        |source| number(source.write_refusals),
    ),
    Family::gauge(
        Origin::Ours,
        "metallb_source_writes_waiting",
        "Number of statuses and events that wait to be written.",
        |source| number(source.writes_waiting),
    ),
];

pub(super) const DROPPED: [Family<u64, 1>; 1] = [Family::counter(
    Origin::Ours,
    "metallb_source_writes_dropped_total",
    "Number of writes dropped because too many waited, by what they were: status or event.",
    |count| number(*count),
)
.by(["type"])];

pub(super) const PROCESS: [Family<ProcessReport, 0>; 2] = [
    Family::counter(
        Origin::Ours,
        "metallb_log_lines_dropped_total",
        "Number of log lines dropped because more came than could be written.",
        |process| number(process.log_lines_dropped),
    ),
    Family::counter(
        Origin::Ours,
        "metallb_metrics_connection_waits_total",
        "Number of connections to this endpoint that had to wait because all places were taken.",
        |process| number(process.connections_crowded),
    ),
];

pub(super) const RESPONSES: [Family<u64, 1>; 1] = [Family::counter(
    Origin::Ours,
    "metallb_metrics_responses_total",
    "Number of answers to scrapes, by HTTP status code.",
    |count| number(*count),
)
.by(["code"])];

/// The first two under the names of controller-runtime.
pub(super) const CERTIFICATE: [Family<CertificateReport, 0>; 3] = [
    Family::counter(
        Origin::Common,
        "certwatcher_read_certificate_total",
        "Number of times the certificate of this endpoint was read from its directory and taken up.",
        |certificate| number(certificate.reads),
    ),
    Family::counter(
        Origin::Common,
        "certwatcher_read_certificate_errors_total",
        "Number of times that failed.",
        |certificate| number(certificate.read_errors),
    ),
    Family::gauge(
        Origin::Ours,
        "metallb_metrics_certificate_expiry_timestamp_seconds",
        "When the certificate of this endpoint ends, in seconds since 1970.",
        |certificate| known(certificate.end),
    ),
];

impl Metrics for Work {
    fn write(&self, text: &mut Text) {
        family::write_one(text, &WORK, self);
    }
}

impl Metrics for ProcessReport {
    fn write(&self, text: &mut Text) {
        family::write_one(text, &SOURCE, &self.source);
        family::write(text, &DROPPED, |row| {
            row(["status"], &self.source.statuses_dropped);
            row(["event"], &self.source.events_dropped);
        });
        family::write_one(text, &PROCESS, self);
        let responses = self.responses.counts();
        family::write(text, &RESPONSES, |row| {
            for (code, count) in &responses {
                row([&code.to_string()], count);
            }
        });
        if let Some(certificate) = &self.certificate {
            family::write_known(text, &CERTIFICATE, certificate);
        }
        family::write_known(text, &system::PROCESS, &system::System::read());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_configuration_that_is_taken_back_is_not_stale_d2() {
        let mut work = Work::default();
        let mut seen = Vec::new();
        for state in [ConfigState::Stale, ConfigState::InForce, ConfigState::Stale, ConfigState::InForce] {
            work.configured(state);
            seen.push((work.is_loaded, work.is_stale, work.updates, work.update_errors));
        }
        assert_eq!(seen, [(false, true, 1, 1), (true, false, 2, 1), (true, true, 3, 2), (true, false, 4, 2)]);
    }
}
