//! Clusters in virtual time.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod believing;
mod circle;
mod encryption;
mod hostile;
mod lifecycle;
mod network;
mod properties;
mod scale;
mod watch;
