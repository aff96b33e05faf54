//! `docs/rfc/bgp.md` names tests for clauses of RFCs; here is checked that they exist, and that none is forgotten.

#![allow(clippy::expect_used, reason = "a test may panic, also in its helpers")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of all source files below these paths.
fn sources() -> Vec<String> {
    let begin = ["crates/bgp/src", "crates/bgp/tests", "crates/netio/src/bgp", "crates/sys/src/tcp.rs"];
    let mut paths: Vec<PathBuf> = begin.iter().map(|path| root().join(path)).collect();
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

/// The names of functions that follow a `#[test]` or `#[tokio::test]` line, or stand in a `proptest!` block.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for text in sources() {
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
    }
    tests
}

/// The names in backquotes in the last column of the tables.
fn named() -> BTreeSet<String> {
    let table = std::fs::read_to_string(root().join("docs/rfc/bgp.md")).expect("the table can be read");
    // The table of deviations has three columns and names no tests.
    let rows = table.lines().filter_map(|line| {
        match line.trim_matches(['|', ' ']).split(" | ").collect::<Vec<_>>().as_slice() {
            [_, _, _, last] => Some((*last).to_owned()),
            _ => None,
        }
    });
    let rows: Vec<String> = rows.collect();
    rows.iter().flat_map(|column| column.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_table_names_exists() {
    let (named, tests) = (named(), tests());
    assert!(named.len() > 80, "the table was found: {}", named.len());
    let missing: Vec<_> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "named in docs/rfc/bgp.md, but there is no such test: {missing:?}");
}

#[test]
fn every_test_that_names_an_rfc_is_in_the_table() {
    let (named, tests) = (named(), tests());
    let forgotten: Vec<_> = tests.iter().filter(|name| name.starts_with("rfc") && !named.contains(*name)).collect();
    assert!(forgotten.is_empty(), "not in docs/rfc/bgp.md: {forgotten:?}");
}
