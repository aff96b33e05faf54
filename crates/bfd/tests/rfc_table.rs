//! `docs/rfc/bfd.md` names files and tests for clauses of RFCs; here is checked that they exist, and that none is forgotten.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic, also in its helpers")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where tests of BFD are.
const SOURCES: [&str; 7] = [
    "crates/bfd/src",
    "crates/bfd/tests",
    "crates/netio/src/bfd",
    "crates/sys/src/udp.rs",
    "crates/lab/tests/bfd",
    "crates/speaker/src/watch.rs",
    "crates/metallb/tests/e2e/bfd.rs",
];

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of all source files with tests of BFD.
fn sources() -> Vec<String> {
    let mut paths: Vec<PathBuf> = SOURCES.iter().map(|path| root().join(path)).collect();
    let mut texts = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = path.read_dir().expect("a directory can be listed");
            paths.extend(entries.map(|entry| entry.expect("an entry can be read").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(&path).expect("a source file can be read"));
        }
    }
    texts
}

/// The names of functions that follow a `#[test]` line, and of trials of the lab.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for text in sources() {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            match name {
                Some(name) if is_test => {
                    tests.insert(name.to_owned());
                    is_test = false;
                }
                Some(_) => is_test = false,
                None if line.starts_with("#[test]") => is_test = true,
                None => {}
            }
        }
        let trials = text.split("Trial::new(").skip(1);
        tests
            .extend(trials.filter_map(|rest| Some(rest.trim_start().strip_prefix('"')?.split('"').next()?.to_owned())));
    }
    tests
}

/// The rows of the tables of clauses, cell by cell; the table of deviations has three columns.
fn rows() -> Vec<[String; 4]> {
    let table = std::fs::read_to_string(root().join("docs/rfc/bfd.md")).expect("the table can be read");
    let cells = |line: &str| {
        let cells: Vec<String> = line.trim_matches(['|', ' ']).split(" | ").map(str::to_owned).collect();
        <[String; 4]>::try_from(cells).ok()
    };
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).filter_map(cells).collect();
    rows.into_iter().filter(|[clause, ..]| clause != "Clause").collect()
}

/// What is in backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn named() -> BTreeSet<String> {
    rows().iter().flat_map(|row| quoted(&row[3]).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_test_that_the_table_names_exists() {
    let (named, tests) = (named(), tests());
    assert!(named.len() > 60, "the table was found: {}", named.len());
    let missing: Vec<_> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "named in docs/rfc/bfd.md, but there is no such test: {missing:?}");
}

#[test]
fn every_file_that_the_table_names_exists() {
    for [clause, _, code, _] in rows() {
        for file in quoted(&code).filter(|text| text.contains(".rs")) {
            assert!(root().join("crates").join(file).is_file(), "{clause}: there is no {file}");
        }
    }
}

#[test]
fn every_clause_has_code_and_a_test_or_says_why_not() {
    for [clause, demand, code, test] in rows() {
        let is_done = code != "–" && quoted(&test).next().is_some();
        let is_explained = test.split_whitespace().filter(|word| !word.contains('`')).count() >= 4;
        assert!(is_done || is_explained, "{clause}: {demand}");
    }
}

#[test]
fn every_test_that_names_an_rfc_is_in_the_table() {
    let (named, tests) = (named(), tests());
    let forgotten: Vec<_> = tests.iter().filter(|name| name.starts_with("rfc") && !named.contains(*name)).collect();
    assert!(forgotten.is_empty(), "not in docs/rfc/bfd.md: {forgotten:?}");
}
