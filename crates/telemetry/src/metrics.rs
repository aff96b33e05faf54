//! Metrics: MetalLB's series (contract 8) and a few of ours, and who may read them (contract 7.3).
//!
//! Nothing is kept here. Whoever has the numbers fills a report when a scrape comes ([`ControllerReport`],
//! [`SpeakerReport`], [`ProcessReport`]), and the report is written in the text format of Prometheus ([`render_into`]). So a
//! series is there exactly as long as what it is about, the next session of a peer can never be taken for the last one
//! (D33), and a packet costs no more than the counter that its core keeps anyway.
//!
//! All names, types, labels and texts are in tables ([`catalog`]), of which `docs/metrics.md` is made.
//! [`router`] answers scrapes, and [`Guard`] asks somebody else, whom it does not know, who may have an answer.

mod access;
mod bfd;
mod catalog;
mod controller;
mod endpoint;
mod family;
mod process;
mod remembered;
mod speaker;
mod system;
mod text;

pub use access::{Access, Guard, REVIEW_TIME_MAX, Reviewer, Verdict};
pub use bfd::{BfdReport, BfdSession};
pub use catalog::{Component, Description, catalog};
pub use controller::{ControllerReport, PoolReport};
pub use endpoint::{Collect, Late, Responses, router};
pub use family::{Origin, SeriesType};
pub use process::{CertificateReport, ConfigState, ProcessReport, SourceReport, Work};
pub use speaker::{
    AnnouncedService, BgpMessages, BgpSession, FrameCounts, Layer2Address, Protocol, RefusedServices, SpeakerReport,
};
pub use text::{PIECES_WAITING_MAX, Text, render, render_into};

/// A set of series.
pub trait Metrics {
    /// Writes all of them.
    fn write(&self, text: &mut Text);
}
