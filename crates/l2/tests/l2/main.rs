//! Tests of the core from outside, in a small text language (`text.rs`).

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod clauses;
mod hostile;
mod interfaces;
mod model;
mod scenarios;
mod switch;
mod text;
mod wire;
