//! `metallb lint` and `metallb crds` as people run them.
//!
//! Each folder in `tests/lint` shows one rule: `accepted.yaml` keeps it, `refused.yaml` breaks it, and beside each stands
//! what the linter says. `UPDATE_EXPECT=1 cargo test` writes those texts anew.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use expect_test::{Expect, expect, expect_file};

fn metallb(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metallb"));
    command.args(arguments).current_dir(cases()).env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn check(output: &Output, status: i32, expected: Expect) {
    assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
    expected.assert_eq(&format!("{}{}", text(&output.stdout), text(&output.stderr)));
}

#[test]
fn every_rule_accepts_and_refuses() {
    let mut folders: Vec<PathBuf> = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 30, "rules are missing");
    for folder in folders {
        for (name, status) in [("accepted", 0), ("refused", 1)] {
            let manifest = folder.join(name).with_extension("yaml");
            let Ok(yaml) = fs::read_to_string(&manifest) else {
                // Only warnings have nothing to refuse.
                assert!(folder.to_string_lossy().ends_with("warnings") && name == "refused", "{}", folder.display());
                continue;
            };
            let flags = yaml.lines().find_map(|line| line.strip_prefix("# flags: ")).unwrap_or_default();
            let output = metallb(&["lint"])
                .args(flags.split_whitespace())
                .arg(format!("{name}.yaml"))
                .current_dir(&folder)
                .output()
                .unwrap();
            let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(status), "{}: {said}", manifest.display());
            expect_file![manifest.with_extension("txt")].assert_eq(&said);
        }
    }
}

#[test]
fn no_secret_is_ever_shown() {
    for entry in fs::read_dir(cases()).unwrap() {
        for name in ["accepted.txt", "refused.txt"] {
            let said = fs::read_to_string(entry.as_ref().unwrap().path().join(name)).unwrap_or_default();
            for secret in ["hunter2", "aHVudGVy", "12345"] {
                assert!(!said.contains(secret), "{entry:?} {name}");
            }
        }
    }
}

#[test]
fn folders_are_searched_in_order_and_count_as_one_set() {
    let folder = tempfile("folder");
    fs::create_dir_all(folder.join("b/.hidden")).unwrap();
    let pool = |name: &str| {
        format!(
            "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: {name}}}\n\
             spec: {{addresses: [198.51.100.0/24]}}\n"
        )
    };
    fs::write(folder.join("b/2.yml"), pool("two")).unwrap();
    fs::write(
        folder.join("a.json"),
        r#"{"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": {"name": "all"}}"#,
    )
    .unwrap();
    fs::write(folder.join("b/1.yaml"), pool("one")).unwrap();
    fs::write(folder.join("b/.hidden/3.yaml"), pool("three")).unwrap();
    fs::write(folder.join("b/README.md"), "not: [yaml").unwrap();
    let output = metallb(&["lint", "."]).current_dir(&folder).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    check(
        &output,
        1,
        expect![[r#"
        error[pool-overlap]: CIDR "198.51.100.0/24" in pool "two" overlaps with already defined CIDR "198.51.100.0/24" in pool "one"
         --> ./b/2.yml:4:20
          |
        4 | spec: {addresses: [198.51.100.0/24]}
          |                    ^^^^^^^^^^^^^^^
          |
          = hint: an address can be in one pool only; shorten or remove one of the two

        1 error, 0 warnings in 3 objects of 3 files
    "#]],
    );
}

#[test]
fn stdin_is_a_file_named_so() {
    let mut child = metallb(&["lint", "-", "--output", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: all, namespace: x}\nspec: {pools: []}\n";
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    check(
        &child.wait_with_output().unwrap(),
        1,
        expect![[r#"
        [
          {
            "code": "unknown-field",
            "severity": "error",
            "file": "stdin",
            "line": 4,
            "column": 8,
            "object": {
              "kind": "L2Advertisement",
              "namespace": "x",
              "name": "all"
            },
            "pointer": "/spec/pools",
            "message": "unknown field \"pools\"",
            "hint": "the fields known here are interfaces, ipAddressPoolSelectors, ipAddressPools, nodeSelectors, ownerSelection, preferredNodeSelectors, serviceSelectors"
          }
        ]
        1 error, 0 warnings in 1 object of 1 file
    "#]],
    );
}

#[test]
fn nothing_by_stdin_is_no_success() {
    check(
        &metallb(&["lint", "-"]).output().unwrap(),
        2,
        expect![[r"
            metallb lint: nothing came by stdin; did the command before the pipe fail?
            no problems in 0 objects of 0 files
        "]],
    );
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_checked() {
    let output = metallb(&["lint", "no-such-file.yaml", "02-pool-without-addresses/accepted.yaml"]).output().unwrap();
    check(
        &output,
        2,
        expect![["
            metallb lint: cannot read no-such-file.yaml: No such file or directory (os error 2)
            no problems in 2 objects of 1 file
        "]],
    );
    let empty = tempfile("empty");
    fs::create_dir_all(&empty).unwrap();
    fs::write(empty.join("latin.txt"), b"\xe4").unwrap();
    let output = metallb(&["lint", ".", "latin.txt"]).current_dir(&empty).output().unwrap();
    fs::remove_dir_all(&empty).unwrap();
    check(
        &output,
        2,
        expect![["
            metallb lint: no manifests in .: looking for .yaml, .yml and .json
            metallb lint: cannot read latin.txt: it is not UTF-8 text
            no problems in 0 objects of 0 files
        "]],
    );
    assert_eq!(metallb(&["lint"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn definitions_say_the_same_in_yaml_and_json() {
    let yaml = metallb(&["crds"]).output().unwrap();
    let json = metallb(&["crds", "--output", "json"]).output().unwrap();
    let documents: Vec<serde_json::Value> =
        source::yaml::parse(text(&yaml.stdout)).documents.into_iter().map(|document| document.value).collect();
    let list: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(documents.len(), 9);
    assert_eq!(serde_json::Value::Array(documents), list["items"]);
}

/// A path for this test alone.
fn tempfile(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("metallb-lint-{name}-{}", std::process::id()))
}
