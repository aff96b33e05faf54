//! Metrics: MetalLB's series (contract 8), typed, so that no name, type or label can be misspelt elsewhere.
//!
//! One struct for each component; methods are named after what happened. What lives and ends (a BGP session, an address
//! on the segment) is a value here: its series are there while it is, and when two of one name meet, the younger one
//! counts, whenever the older one goes (D33).
//!
//! The text format of Prometheus, 0.0.4, is written here too: the client libraries rename counters that do not end in
//! `_total`, or insist on equal labels in a family, and MetalLB's series have neither. They are served over TLS to
//! those who may read them (contract 7.3) by the program; [`respond`] is the answer.

mod common;
mod controller;
mod live;
mod process;
mod speaker;
mod text;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

pub use common::{CommonMetrics, ConfigState};
pub use controller::{ControllerMetrics, PoolUse};
pub use speaker::{BgpMessage, BgpSession, L2Address, Protocol, SpeakerMetrics};
pub use text::{SeriesType, Text};

/// A set of series.
pub trait Metrics {
    /// Writes all of them as they are now.
    fn write(&self, text: &mut Text);

    /// All of them, in the text format 0.0.4.
    fn render(&self) -> String {
        let mut text = Text::default();
        self.write(&mut text);
        text.into_string()
    }
}

/// The answer to `GET /metrics`.
pub fn respond<M: Metrics>(metrics: &M) -> impl IntoResponse + use<M> {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}
