//! `docs/rfc/bgp.md` names files, functions and tests for clauses of RFCs; here is checked that all of them exist, that
//! every row has a test or a reason why not, and that no RFC and no test that is named after one is forgotten.

#![allow(clippy::expect_used, reason = "a test may panic, also in its helpers")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is claimed, by number.
const RFCS: [&str; 24] = [
    "1997", "2385", "2545", "2918", "4271", "4360", "4486", "4724", "4760", "5082", "5492", "5925", "6286", "6608",
    "6793", "7313", "7606", "7607", "8092", "8326", "8538", "8654", "8950", "9003",
];

/// Where tests are whose names may stand in the table.
const TESTED: [&str; 9] = [
    "crates/bgp/src",
    "crates/bgp/tests",
    "crates/config/tests",
    "crates/kit/src",
    "crates/netio/src",
    "crates/speaker/tests",
    "crates/sys/src",
    "crates/metallb/tests/e2e",
    "crates/metallb/tests/lint.rs",
];

/// Where every test that is named after an RFC is about BGP.
const OURS: [&str; 6] = [
    "crates/bgp/",
    "crates/kit/src",
    "crates/netio/src/bgp",
    "crates/sys/src/tcp.rs",
    "crates/sys/src/tcp",
    "crates/metallb/tests/e2e",
];

/// One row of a table with tests.
struct Row {
    text: String,
    place: String,
    tests: String,
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn table() -> String {
    std::fs::read_to_string(root().join("docs/rfc/bgp.md")).expect("the table can be read")
}

/// The rows of all tables but that of deviations, which has three columns and names no tests.
fn rows() -> Vec<Row> {
    let row = |line: &str| match line.trim_matches(['|', ' ']).split(" | ").collect::<Vec<_>>().as_slice() {
        [_, _, place, tests] if *tests != "Test" => {
            Some(Row { text: line.to_owned(), place: (*place).to_owned(), tests: (*tests).to_owned() })
        }
        _ => None,
    };
    table().lines().filter(|line| line.starts_with("| ")).filter_map(row).collect()
}

/// What stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The source files at or below a path, with their text.
fn sources(begin: &str) -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join(begin)];
    let mut texts = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = path.read_dir().expect("a directory can be listed");
            paths.extend(entries.map(|entry| entry.expect("an entry can be read").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file can be read");
            texts.push((path, text));
        }
    }
    texts
}

/// The tests in a source file: functions that follow a `#[test]` or `#[tokio::test]` line, and trials of the lab.
fn tests_in(text: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let name = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        match name {
            Some(name) if is_test => {
                tests.insert(name.to_owned());
                is_test = false;
            }
            Some(_) => is_test = false,
            None if line.starts_with("#[test]") || line.starts_with("#[tokio::test]") => is_test = true,
            None => {}
        }
    }
    let trials = text.split("Trial::new(").skip(1).filter_map(|rest| rest.split('"').nth(1));
    tests.extend(trials.map(str::to_owned));
    tests
}

/// All tests that the table may name, with the files they are in.
fn tests() -> BTreeMap<String, PathBuf> {
    let files = TESTED.iter().flat_map(|begin| sources(begin));
    files
        .flat_map(|(path, text)| tests_in(&text).into_iter().map(move |test| (test, path.clone())).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_test_that_the_table_names_exists() {
    let tests = tests();
    let rows = rows();
    assert!(rows.len() > 150, "the table was found: {}", rows.len());
    for row in rows {
        let missing: Vec<&str> = quoted(&row.tests).filter(|name| !tests.contains_key(*name)).collect();
        let is_reason = row.tests.starts_with("not applicable: ");
        assert!(is_reason || missing.is_empty(), "there is no test {missing:?}: {}", row.text);
        assert!(is_reason || quoted(&row.tests).count() > 0, "neither a test nor a reason: {}", row.text);
    }
}

#[test]
fn every_place_that_the_table_names_exists() {
    for Row { text, place, .. } in rows() {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for word in quoted(&place) {
            let is_path = word.ends_with('/') || Path::new(word).extension().is_some_and(|extension| extension == "rs");
            let path = if word.starts_with("crates/") { word.to_owned() } else { format!("crates/bgp/src/{word}") };
            if is_path {
                assert!(root().join(&path).exists(), "there is no {word}: {text}");
                files = sources(&path);
            } else {
                // Names without a file before them are those of the crate's own types.
                let files = if files.is_empty() { sources("crates/bgp/src") } else { files.clone() };
                let found = word.split("::").all(|part| files.iter().any(|(_, source)| source.contains(part)));
                assert!(found, "there is no {word} where the table says: {text}");
            }
        }
    }
}

#[test]
fn every_test_that_names_an_rfc_is_in_the_table() {
    let rows = rows();
    let named: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(&row.tests)).collect();
    let is_ours = |path: &Path| OURS.iter().any(|begin| path.starts_with(root().join(begin)));
    let tests = tests();
    let forgotten: Vec<&String> = tests
        .iter()
        // Those of BFD are in a table of their own.
        .filter(|(name, path)| name.starts_with("rfc") && !name.starts_with("rfc588") && is_ours(path))
        .filter(|(name, _)| !named.contains(name.as_str()))
        .map(|(name, _)| name)
        .collect();
    assert!(forgotten.is_empty(), "not in docs/rfc/bgp.md: {forgotten:?}");
}

#[test]
fn every_rfc_has_a_section() {
    let table = table();
    for rfc in RFCS {
        assert!(table.contains(&format!("\n## RFC {rfc}: ")), "no section for RFC {rfc}");
    }
}
