//! The `main` of end-to-end tests: binaries with `harness = false`, which move into namespaces of their own before the
//! first test.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use anyhow::Result;
use kit::Duration;
use libtest_mimic::{Arguments, Failed};
use sys::process::{ExitStatus, exit_at_once};

use crate::Lab;

/// How many tests run at once unless the command line says otherwise: they wait more than they compute.
const TEST_THREADS: usize = 2;

/// How long a test may take, which is many times what any takes on a busy machine. Then the whole binary ends and says
/// which test it was: whoever runs it, perhaps a machine at night, must not wait for ever and see nothing.
const TRIAL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// A test with a lab of its own.
pub struct Trial {
    name: &'static str,
    test: fn(&Lab) -> Result<()>,
}

impl Trial {
    /// The test of this name. It fails by an error or by a panic, and then the logs of its hosts are shown.
    pub const fn new(name: &'static str, test: fn(&Lab) -> Result<()>) -> Trial {
        Trial { name, test }
    }

    fn run(self) -> Result<(), Failed> {
        let lab = Lab::new(self.name).map_err(|error| Failed::from(format!("{error:#}")))?;
        let outcome = thread::scope(|scope| {
            let (_ending, ended) = channel();
            scope.spawn(|| watch(self.name, &lab, ended));
            catch_unwind(AssertUnwindSafe(|| (self.test)(&lab)))
        });
        let failure = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => format!("panic: {}", message_of(&*panic)),
        };
        Err(Failed::from(format!("{failure}\n{}", lab.log_tails())))
    }
}

/// Ends this process when the sender of `ended` is still there after [`TRIAL_LIMIT`].
#[expect(clippy::print_stderr, reason = "nobody else will tell")]
fn watch(name: &'static str, lab: &Lab, ended: Receiver<()>) {
    if ended.recv_timeout(TRIAL_LIMIT.into()) == Err(RecvTimeoutError::Timeout) {
        eprintln!("\nerror: test {name} has not ended in {TRIAL_LIMIT}\n{}", lab.log_tails());
        exit_at_once(ExitStatus(101));
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// Runs the tests that the command line selects, as `cargo test` does. To be called first in `main`.
///
/// A test is never skipped because something is missing on the machine: it fails, and says what to do.
pub fn main(trials: impl IntoIterator<Item = Trial>) -> ExitCode {
    crate::cluster::node_run_if_asked();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TEST_THREADS);
    let trials = trials.into_iter().map(|trial| libtest_mimic::Trial::test(trial.name, move || trial.run()));
    let refusal = if arguments.list { None } else { crate::cluster::enter().err() };
    let trials = trials.map(|trial| match &refusal {
        None => trial,
        Some(refusal) => {
            let (name, text) = (trial.name().to_owned(), refusal.to_string());
            libtest_mimic::Trial::test(name, move || Err(Failed::from(text)))
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
