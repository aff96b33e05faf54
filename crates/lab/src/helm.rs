//! The helm of the tests, and our chart.
//!
//! The program is made by `scripts/helm.sh`; one that was made from another version is not used.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::built;

/// The folder of our chart.
pub fn chart() -> PathBuf {
    root().join("charts/metallb")
}

/// The program, if it is the one that is wanted.
pub fn program() -> Result<PathBuf> {
    built("helm")
}

/// A `helm` without arguments, and without the settings of the user who runs the test.
pub fn command() -> Result<Command> {
    let mut command = Command::new(program()?);
    for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("HELM_") || name == "KUBECONFIG") {
        command.env_remove(variable);
    }
    for kind in ["CACHE", "CONFIG", "DATA"] {
        command.env(format!("HELM_{kind}_HOME"), root().join(".cache/helm/home").join(kind.to_lowercase()));
    }
    Ok(command)
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}
