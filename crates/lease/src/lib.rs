//! Which of several controllers writes, and that nothing arrives any more from those who did before.
//!
//! The controllers share one record that can be changed only by who has seen its newest version: a Lease of Kubernetes.
//! [`Candidate`] is one of them. It knows no Lease, no connection and no clock: it is told what was read and answered,
//! and says what to read and write. (Contract 12.2 R6; docs/adr/0011.)
//!
//! **Who leads** goes by client-go's rule: a record that has not *changed* for its duration, by the clock of who watches
//! it, is free. The times in it are for people. Who leads stops when no renewal was answered for [`GIVE_UP`], which is
//! less; who is told to end gives the record back, so that the next one takes it at once.
//!
//! **What is written** does not depend on any clock. A write can be sent by one who still leads and arrive when another
//! one does, however long that takes. So each write to a *target* (the status of a Service)
//!
//! 1. names the version of the target that it is meant for, as it was known *before*
//! 2. the record that names the target as *open* was stored by its writer, which it cannot be any more once somebody
//!    else leads; then
//! 3. it is sent, and the target stays open until its answer is there.
//!
//! Who leads next finds the open targets in the record and, before it decides anything, *fences* them: changes each, so
//! that it has another version and no earlier write is accepted. What it reads from then on is all there will ever be
//! of its predecessors.

// `expect_test` writes the hashes when it updates a snapshot.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::needless_raw_string_hashes))]

mod candidate;
mod record;

pub use candidate::{Candidate, Input, Output, Ticket};
pub use record::{Record, Sighting, Target, Term, Version};

use kit::Duration;

/// How long a record is valid that does not change.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed: three renewals may fail before the one who leads gives up.
pub const RENEW_EVERY: Duration = Duration::from_millis(2_500);
/// Who leads stops this long after it sent the last renewal that was answered. Clocks may differ by a third of this
/// before two believe that they lead.
pub const GIVE_UP: Duration = Duration::from_millis(7_500);
/// The pause after a failure.
pub const RETRY: Duration = Duration::from_secs(1);
/// Targets that are open at one time. With the longest names they take a quarter of what the annotations of an object
/// may have.
pub const OPEN_MAX: usize = 512;
/// What one input may leave in the outbox at most.
pub const OUTPUTS_PER_INPUT: usize = 8;
