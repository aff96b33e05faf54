//! One seed: its cluster, its history, and what came of it.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Sabotage;
use crate::cluster::{Climate, Cluster, Exam, KeepsTrace};
use crate::history::History;
use crate::violation::{Invariant, Violation};

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed, on which all chance depends.
    pub seed: u64,
    /// What is done to the cluster.
    pub history: History,
    /// A defect that is put in on purpose.
    pub sabotage: Option<Sabotage>,
}

/// Something that must hold did not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub violation: Violation,
    /// How many steps of the history were taken, with the one after which it was seen.
    pub steps: usize,
    /// What happened until then, if it was kept.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {}: after {} steps it is {}", self.seed, self.steps, self.violation)?;
        write!(f, "hint: cargo run -p sim --example replay -- {}", self.seed)
    }
}

impl Plan {
    /// What belongs to a seed.
    pub fn of_seed(seed: u64) -> Self {
        Plan { seed, history: History::of_seed(seed), sabotage: None }
    }

    /// The same with a defect.
    pub fn with(self, sabotage: Sabotage) -> Self {
        Plan { sabotage: Some(sabotage), ..self }
    }

    /// Runs it.
    pub fn run(&self, keeps_trace: KeepsTrace) -> Result<Cluster, Box<Failure>> {
        let climate = Climate::of_seed(self.seed);
        let mut cluster = Cluster::new(climate, self.seed, self.sabotage, keeps_trace);
        let mut steps = 0;
        // A core that finds itself broken panics; that is a violation like any other.
        let result = catch_unwind(AssertUnwindSafe(|| self.live(&mut cluster, &mut steps)));
        let violation = match result {
            Ok(Ok(())) => return Ok(cluster),
            Ok(Err(violation)) => violation,
            Err(panic) => Violation::new(Invariant::CoreAddsUp, message(&*panic)),
        };
        Err(Box::new(Failure { seed: self.seed, violation, steps, trace: cluster.trace().to_vec() }))
    }

    fn live(&self, cluster: &mut Cluster, steps: &mut usize) -> Result<(), Violation> {
        for (pause, step) in &self.history.steps {
            cluster.run_for(*pause)?;
            *steps = steps.saturating_add(1);
            cluster.take(step)?;
        }
        cluster.rest()?;
        cluster.check_quiet()?;
        cluster.pass(Exam::of_seed(self.seed))?;
        Exam::another_of_seed(self.seed).map_or(Ok(()), |exam| cluster.pass(exam))
    }

    /// The shortest history found, by leaving out steps, that breaks the same invariant.
    pub fn shrink(&self) -> Plan {
        let Err(failure) = self.run(KeepsTrace::No) else { return self.clone() };
        let fails = |plan: &Plan| {
            let result = plan.run(KeepsTrace::No);
            result.is_err_and(|found| found.violation.invariant == failure.violation.invariant)
        };
        let mut shortest = self.clone();
        shortest.history.steps.truncate(failure.steps);
        if !fails(&shortest) {
            shortest = self.clone();
        }
        let mut size = shortest.history.steps.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < shortest.history.steps.len() {
                let mut shorter = shortest.clone();
                let to = from.saturating_add(size).min(shorter.history.steps.len());
                shorter.history.steps.drain(from..to);
                if fails(&shorter) {
                    shortest = shorter;
                } else {
                    from = to;
                }
            }
            size /= 2;
        }
        shortest
    }
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic".to_owned())
}
