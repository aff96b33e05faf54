//! Whole sessions between two peers, in virtual time.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::format_collect,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic, also in their helpers, and `expect-test` writes hashes"
)]

mod collision;
mod lifecycle;
mod network;
mod properties;
mod restart;
mod routes;
