//! docs/acceptance.md has every row of MetalLB's own end-to-end list, and the tests that it names exist.

use crate::{has_extension, read, root};

const PAGE: &str = "docs/acceptance.md";

/// The sections, and how many rows the list has for each (contract 10.1 to 10.4).
const SECTIONS: [(&str, usize); 4] =
    [("Layer 2", 33), ("Assignment", 13), ("BGP", 36), ("Webhooks, states of the configuration, policies", 6)];

/// What a row begins with that no test proves.
const NONE: &str = "— ";

/// A row of a table.
struct Row {
    what: String,
    here: String,
}

/// The rows of the table below a heading, without its own.
fn rows(page: &str, heading: &str) -> Vec<Row> {
    let mark = format!("\n## {heading}\n");
    let Some((_, section)) = page.split_once(&mark) else { return Vec::new() };
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let cells = lines.map(|line| line.split_once('|').unwrap_or((line, "")));
    cells.skip(1).map(|(what, here)| Row { what: what.trim().to_owned(), here: here.trim().to_owned() }).collect()
}

/// The names in a text, each with the file that was named last before it. Before the first file there is none.
fn names(text: &str) -> Vec<(&str, &str)> {
    let mut file = "";
    let mut names = Vec::new();
    for word in text.split('`').skip(1).step_by(2) {
        if has_extension(word, "rs") {
            file = word;
        } else if !file.is_empty() {
            names.push((file, word));
        }
    }
    names
}

/// Whether a file has a test of this name, or a trial.
fn has_test(text: &str, name: &str) -> bool {
    let function = format!("#[test]\nfn {name}()");
    let inside = format!("#[test]\n    fn {name}()");
    let trial = format!("\"{name}\"");
    text.contains(&function) || text.contains(&inside) || (text.contains(&trial) && text.contains("Trial::new("))
}

/// Whether what stands before the first name is more than a word or two.
fn is_reason(text: &str) -> bool {
    text.split('`').next().is_some_and(|reason| reason.len() > 30)
}

/// What is wrong with what a text names.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, name) in names(text) {
        if !root().join(file).is_file() {
            faults.push(format!("there is no file {file:?} for {name}"));
        } else if !has_test(&read(file), name) {
            faults.push(format!("there is no test {name} in {file}"));
        }
    }
    faults
}

#[test]
fn every_row_of_the_list_has_a_test_that_exists_or_a_reason() {
    let page = read(PAGE);
    let introduction = page.split("\n## ").next().unwrap_or_default();
    assert!(!names(introduction).is_empty(), "the introduction names tests");
    let mut all = faults(introduction);
    for (heading, count) in SECTIONS {
        let rows = rows(&page, heading);
        assert!(rows.len() >= count, "{heading}: {} rows of {count}", rows.len());
        for Row { what, here } in rows {
            assert!(!what.is_empty(), "{heading}: a row that says nothing: {here}");
            let mut faults = faults(&here);
            let is_settled = here.strip_prefix(NONE).map_or(!names(&here).is_empty(), is_reason);
            if !is_settled {
                faults.push("no test, and no reason".to_owned());
            }
            all.extend(faults.into_iter().map(|fault| format!("{what}: {fault}")));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn rows_and_names_are_found_and_missed() {
    let page = "# T\n\n## A\n\n| What | Here |\n|---|---|\n| one | `a.rs`: `b`, `c`; core `d.rs`: `e` |\n| two |  |\n\n\
                ## B\n| no | `x` |\n";
    let rows = rows(page, "A");
    let cells: Vec<_> = rows.iter().map(|row| (row.what.as_str(), row.here.as_str())).collect();
    assert_eq!(cells, [("one", "`a.rs`: `b`, `c`; core `d.rs`: `e`"), ("two", "")]);
    assert!(names("`b` of nothing").is_empty());
    assert_eq!(names(&rows[0].here), [("a.rs", "b"), ("a.rs", "c"), ("d.rs", "e")]);

    assert!(has_test("#[test]\nfn a() {}", "a") && has_test("Trial::new(\"a\", b)", "a"));
    assert!(!has_test("fn a() {}", "a") && !has_test("#[test]\nfn ab() {}", "a") && !has_test("\"a\"", "a"));
    let this = "crates/metallb/tests/documentation/acceptance.rs";
    assert_eq!(faults(&format!("`{this}`: `rows_and_names_are_found_and_missed`")), [""; 0]);
    assert!(is_reason("nothing like it is where we test; `a.rs`: `b`") && !is_reason("no; `a.rs`: `b`"));
    let missed = faults(&format!("`{this}`: `faults`; `crates/none.rs`: `a`"));
    assert_eq!(
        missed,
        [format!("there is no test faults in {this}"), "there is no file \"crates/none.rs\" for a".into()]
    );
}
