//! The table of values in the chart's README is what `values.yaml` says: each value, its default and its comment.

use std::fmt::Write;
use std::fs;

use expect_test::expect_file;

const BEGIN: &str = "| Value | Default | |\n|---|---|---|\n";

#[test]
fn the_table_of_values_is_complete() {
    let readme = lab::helm::chart().join("README.md");
    let text = fs::read_to_string(&readme).unwrap();
    let (before, after) = text.split_once(BEGIN).unwrap();
    let after =
        after.lines().skip_while(|line| line.starts_with('|')).fold(String::new(), |text, line| text + line + "\n");
    let values = fs::read_to_string(lab::helm::chart().join("values.yaml")).unwrap();
    expect_file![readme].assert_eq(&format!("{before}{BEGIN}{}{after}", rows(&values)));
}

/// A row for each value. A comment belongs to the key below it, and to all that is in it.
fn rows(values: &str) -> String {
    let mut rows = String::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment = String::new();
    let mut lines = values.lines().peekable();
    while let Some(line) = lines.next() {
        let depth = line.len() - line.trim_start().len();
        let content = line.trim_start();
        if content.is_empty() {
            comment.clear();
        } else if let Some(text) = content.strip_prefix("# ") {
            comment = if comment.is_empty() { text.to_owned() } else { format!("{comment} {text}") };
        } else {
            let (key, value) = content.split_once(':').unwrap();
            path.retain(|(of, _)| *of < depth);
            path.push((depth, key.to_owned()));
            let is_list = lines.peek().is_some_and(|next| next.trim_start().starts_with("- "));
            let is_map = lines.peek().is_some_and(|next| next.len() - next.trim_start().len() > depth);
            let name = path.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(".");
            let default = match value.trim() {
                "" if is_list => {
                    while lines
                        .next_if(|next| next.trim_start().starts_with("- ") || next.starts_with(&" ".repeat(depth + 2)))
                        .is_some()
                    {}
                    "see values.yaml".to_owned()
                }
                "" if is_map => String::new(),
                "" => "unset".to_owned(),
                value => format!("`{value}`"),
            };
            if !(default.is_empty() && comment.is_empty()) {
                writeln!(rows, "| `{name}` | {default} | {comment} |").unwrap();
            }
            comment.clear();
        }
    }
    rows
}

#[test]
fn a_row_has_path_default_and_comment() {
    let values = "# Of the chart.\n\n# Of both\n# lines.\na:\n  b: 1\n  # C.\n  c:\nd:\n  e:\n  - x: 1\n    y: 2\n  # F.\n  f: []\n";
    let expected = "| `a` |  | Of both lines. |\n| `a.b` | `1` |  |\n| `a.c` | unset | C. |\n\
                    | `d.e` | see values.yaml |  |\n| `d.f` | `[]` | F. |\n";
    assert_eq!(rows(values), expected);
}
