//! Runs helm on the chart, and reads what it renders.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs a command of helm on the chart: what it says, or how it fails.
pub(crate) fn run(arguments: &[&str]) -> Result<String, String> {
    let output = lab::helm::command()
        .unwrap()
        .args(arguments)
        .arg(lab::helm::chart())
        .args(["--namespace", "metallb-system"])
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Renders the chart as a release of this name.
pub(crate) fn render(release: &str, arguments: &[&str]) -> Result<String, String> {
    run(&[&["template", release], arguments].concat())
}

/// The files of `values/`, by name.
pub(crate) fn variants() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart/values");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let named = |file: PathBuf| (file.file_stem().unwrap().to_str().unwrap().to_owned(), file);
    files.into_iter().map(named).collect()
}

/// The objects of a rendering.
pub(crate) struct Rendering {
    pub(crate) objects: Vec<Value>,
}

impl Rendering {
    pub(crate) fn of(release: &str, arguments: &[&str]) -> Result<Rendering, String> {
        let text = render(release, arguments)?;
        let documents = text.split("\n---\n").map(|document| document.trim_start_matches("---\n"));
        let objects = documents
            .map(|document| serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}: {document}")));
        Ok(Rendering { objects: objects.filter(|object: &Value| !object.is_null()).collect() })
    }

    /// The objects of a kind.
    pub(crate) fn kind(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// Every template of a pod, with the object that it belongs to.
    pub(crate) fn pods(&self) -> Vec<(&Value, &Value)> {
        let owners = [self.kind("Deployment"), self.kind("DaemonSet")].concat();
        owners.into_iter().map(|owner| (owner, &owner["spec"]["template"])).collect()
    }
}
