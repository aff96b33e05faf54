//! All families of series, for documentation and for the tests that hold them to the contract.

use super::family::{Family, Origin, SeriesType};
use super::{bfd, controller, process, speaker, system};

/// Whose series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The controller's.
    Controller,
    /// The speaker's.
    Speaker,
    /// Both components'.
    Both,
}

/// What a family of series is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Who has it.
    pub component: Component,
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub type_: SeriesType,
    /// The names of its labels.
    pub labels: Vec<&'static str>,
    /// Whose name it is.
    pub origin: Origin,
    /// What it says, as its `# HELP` line does.
    pub help: &'static str,
}

/// All families, in the order in which they are written.
pub fn catalog() -> Vec<Description> {
    use Component::{Both, Controller, Speaker};
    [
        of(Controller, &controller::POOLS),
        of(Controller, &controller::ALONE),
        of(Controller, &controller::SILENT),
        of(Controller, &controller::ASSIGNED),
        of(Speaker, &speaker::ANNOUNCED),
        of(Speaker, &speaker::REFUSED),
        of(Speaker, &speaker::LAYER2),
        of(Speaker, &speaker::FRAMES),
        of(Speaker, &speaker::FRAMES_DROPPED),
        of(Speaker, &speaker::HOST),
        of(Speaker, &speaker::HINDRANCES),
        of(Speaker, &speaker::BGP),
        of(Speaker, &bfd::SESSIONS),
        of(Speaker, &bfd::DISCARDED),
        of(Speaker, &bfd::THREAD),
        of(Both, &process::WORK),
        of(Both, &process::SOURCE),
        of(Both, &process::DROPPED),
        of(Both, &process::PROCESS),
        of(Both, &process::RESPONSES),
        of(Both, &process::CERTIFICATE),
        of(Both, &system::PROCESS),
    ]
    .concat()
}

fn of<T, const N: usize>(component: Component, families: &[Family<T, N>]) -> Vec<Description> {
    let describe = |family: &Family<T, N>| Description {
        component,
        name: family.name,
        type_: family.type_,
        labels: family.labels.to_vec(),
        origin: family.origin,
        help: family.help,
    };
    families.iter().map(describe).collect()
}

#[cfg(test)]
mod tests;
