//! The speaker's decisions, situation by situation, in a small language.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod assigning;
mod assignments;
mod bgp;
mod conflicts;
mod hindrances;
mod incremental;
mod layer2;
mod members;
mod overview;
mod recalled;
mod reports;
mod scenario;
mod sessions;
mod sharing;
mod sharing_segment;
mod takeover;
