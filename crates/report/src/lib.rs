//! The objects that show what is: ServiceL2Status, ServiceBGPStatus, ConfigurationState (contract 1.9), and the condition
//! of a Service that nobody announces.
//!
//! [`Book`] knows what each should say and what it says, and leaves in its outbox what has to be written: on change
//! alone, and again when somebody else changed or deleted it. It knows no decision and no connection: what is to be said
//! comes from the speaker and the configuration, and how it is written is the source's. [`Notices`] is the same for
//! conditions.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod book;
mod notices;

pub use book::{Book, Input, OUTPUTS_PER_INPUT, RECHECK};
pub use notices::{Healing, Notice, Notices, Notification, PACE, TURN_MAX, ToldBy};
