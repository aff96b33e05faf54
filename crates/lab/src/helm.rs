//! The helm of the tests, and our chart.
//!
//! The program is made by `scripts/helm.sh`; one that was made from another version is not used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// The folder of our chart.
pub fn chart() -> PathBuf {
    root().join("charts/metallb")
}

/// The program, if it is the one that is wanted.
pub fn program() -> Result<PathBuf> {
    let (source, made) = (root().join("tests/helm"), root().join(".cache/helm"));
    let is_same = |file: &&str| fs::read(source.join(file)).ok() == fs::read(made.join(file)).ok();
    let up_to_date = made.join("helm").exists() && ["go.mod", "go.sum"].iter().all(is_same);
    ensure!(up_to_date, "the helm of the tests is not built\nhint: run scripts/helm.sh");
    Ok(made.join("helm"))
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
