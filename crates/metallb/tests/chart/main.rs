//! The chart without a cluster: what it renders, what it refuses and what it says.
//!
//! `values/` has one file for each variant that users have reasons for, `snapshots/` what becomes of it. `UPDATE_EXPECT=1
//! cargo test` writes the snapshots anew. On a real API server the chart is in `tests/kubernetes`.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod helm;
mod objects;
mod table;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect_file;
use serde_json::{Value, json};

use crate::helm::{Rendering, render, root, variants};

#[test]
fn helm_finds_nothing_to_say() {
    let mut command = lab::helm::command().unwrap();
    let output = command.args(["lint", "--strict", "--quiet"]).arg(lab::helm::chart()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The whole of the default; of the others, what differs from it.
#[test]
fn each_variant_renders_as_before() {
    let snapshot = |name: &str| here().join("snapshots").join(name);
    let default = render("metallb", &["--set", "crds.enabled=false"]).unwrap();
    expect_file![snapshot("default.yaml")].assert_eq(&default);
    for (name, values) in variants().into_iter().filter(|(name, _)| name != "default") {
        let text = render("metallb", &["--values", values.to_str().unwrap(), "--set", "crds.enabled=false"]).unwrap();
        expect_file![snapshot(&name).with_extension("diff")].assert_eq(&difference(&default, &text));
    }
}

fn difference(before: &str, after: &str) -> String {
    let folder = tempdir("difference");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("default"), before).unwrap();
    fs::write(folder.join("variant"), after).unwrap();
    let mut command = Command::new("diff");
    let output = command
        .args(["-U2", "--label=default", "--label=variant", "default", "variant"])
        .current_dir(&folder)
        .output()
        .unwrap();
    // Line numbers would change with every line that is added before.
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| if line.starts_with("@@") { "@@" } else { line }.to_owned() + "\n").collect()
}

#[test]
fn each_variant_says_what_to_do_next() {
    for (name, values) in variants() {
        let arguments = ["--dry-run=client", "--output=json", "--values", values.to_str().unwrap()];
        let release = helm::run(&[&["install", "metallb"], &arguments[..]].concat()).unwrap();
        let release: Value = serde_json::from_str(&release).unwrap();
        let notes = release["info"]["notes"].as_str().unwrap();
        expect_file![here().join("snapshots").join(name).with_extension("txt")].assert_eq(notes);
    }
}

/// The chart's copy of the definitions is what `metallb crds` prints, and it renders them all, to be kept (contract 1).
#[test]
fn definitions_are_those_of_the_program_and_stay() {
    let print = |output: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_metallb")).args(["crds", "--output", output]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let copy = fs::read_to_string(lab::helm::chart().join("files/crds.yaml")).unwrap();
    assert!(copy == print("yaml"), "charts/metallb/files/crds.yaml is out of date: run make manifests");

    let wanted: Value = serde_json::from_str(&print("json")).unwrap();
    let wanted = wanted["items"].as_array().unwrap();
    let rendering = Rendering::of("metallb", &["--show-only", "templates/crds.yaml"]).unwrap();
    assert_eq!(rendering.objects.len(), wanted.len());
    for (object, wanted) in rendering.objects.iter().zip(wanted) {
        assert_eq!(object["metadata"]["name"], wanted["metadata"]["name"]);
        assert!(object["spec"] == wanted["spec"], "{}", object["metadata"]["name"]);
        assert_eq!(object["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}));
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "metallb");
    }
}

/// `make manifests` was run since the chart changed last.
#[test]
fn plain_manifests_are_made_from_the_chart() {
    let folder = tempdir("manifests");
    let status = Command::new(root().join("scripts/manifests.sh")).arg(&folder).status().unwrap();
    assert!(status.success());
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let made = entry.unwrap();
        let committed = root().join("manifests").join(made.file_name());
        let is_same = fs::read_link(made.path()).ok() == fs::read_link(&committed).ok()
            && fs::read(made.path()).unwrap() == fs::read(&committed).unwrap_or_default();
        assert!(is_same, "{} is out of date: run make manifests", committed.display());
        count += 1;
    }
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(count, 6);
}

#[test]
fn chart_and_program_have_one_version() {
    let chart = fs::read_to_string(lab::helm::chart().join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
}

fn here() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart"))
}

/// A folder of this name that does not exist.
fn tempdir(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart").join(name);
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    folder
}
