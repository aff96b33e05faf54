//! The controller in a small cluster: scenarios as text, and any order of events against what must hold.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::string_slice)]
#![allow(clippy::unwrap_used)]
// expect-test writes them so.
#![allow(clippy::needless_raw_string_hashes)]

mod assignment;
mod histories;
mod status;
mod world;
