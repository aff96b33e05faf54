//! `docs/rfc/l2.md` names a test for each clause of the RFCs; this test checks that the named tests exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all functions, and of all tests of the lab, in the Rust files below a folder.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let after_fn = text.split("fn ").skip(1);
            names.extend(after_fn.filter_map(|rest| rest.split_once('(')).map(|(name, _)| name.to_owned()));
            let after_trial = text.split("Trial::new(\"").skip(1);
            names.extend(after_trial.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn every_clause_names_tests_that_exist_or_says_why_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut names = BTreeSet::new();
    for folder in ["crates/l2/src", "crates/l2/tests", "crates/sys/src", "crates/netio/src", "crates/lab/tests"] {
        functions(&root.join(folder), &mut names);
    }
    let document = fs::read_to_string(root.join("docs/rfc/l2.md")).unwrap();
    let mut clauses = 0;
    for row in document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Clause |")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, clause, _what, code, test, _] = cells.as_slice() else { panic!("not four cells: {row}") };
        clauses += 1;
        if *code == "no" {
            assert!(test.len() > 20, "{clause}: a clause that is not followed needs a reason");
            continue;
        }
        assert!(code.contains('`'), "{clause}: no code named");
        let tests: Vec<&str> = test.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{clause}: no test named");
        for test in tests {
            assert!(names.contains(test), "{clause}: there is no test {test}");
        }
    }
    assert!(clauses > 30, "{clauses} clauses");
}
