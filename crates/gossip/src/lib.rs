//! HashiCorp's memberlist as a sans-IO core: who is a member, who failed, and who must be believed about it.
//!
//! - [`wire`] turns bytes into messages and back.

// `expect-test` writes its snapshots with hashes.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::needless_raw_string_hashes))]
#![allow(dead_code, unused_imports)]

mod key;
mod name;
pub mod wire;

pub use key::{EmptySecret, KEY_LEN, KEYS_MAX, Key, Keyring, NONCE_LEN, Seal, TAG_LEN, TooManyKeys};
pub use name::{NAME_MAX, Name, NameError};
