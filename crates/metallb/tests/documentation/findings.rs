//! The list of findings is made from the cases of the linter: what it says, and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use crate::{cell, check_generated, files_below, has_extension, read, root};

struct Finding {
    severity: String,
    message: String,
    hint: Option<String>,
}

/// Codes that the linter cannot show: the structure is checked first, and says it in other words; what is in
/// use is the webhook's to know.
const NOT_SHOWN: [&str; 3] = ["bfd-profile-in-use", "local-pref", "peer-port"];

/// The first finding of each code, in the order of the cases.
fn shown() -> BTreeMap<String, Finding> {
    let mut findings: BTreeMap<String, Finding> = BTreeMap::new();
    for path in files_below("crates/metallb/tests/lint") {
        if !has_extension(&path, "txt") {
            continue;
        }
        let text = fs::read_to_string(root().join(&path)).unwrap();
        for part in text.split("\n\n") {
            let mut lines = part.lines();
            let Some((head, message)) = lines.next().and_then(|line| line.split_once("]: ")) else { continue };
            let Some((severity, code)) = head.split_once('[') else { continue };
            let hint = lines.find_map(|line| line.split_once("= hint: ")).map(|(_, hint)| hint.to_owned());
            let finding = Finding { severity: severity.to_owned(), message: message.to_owned(), hint };
            findings.entry(code.to_owned()).or_insert(finding);
        }
    }
    findings
}

/// Every code that stands in the code of the rules, as `Finding::error("code"` and the like.
fn codes() -> BTreeSet<String> {
    let files = files_below("crates/config/src");
    let text: String = files.iter().map(|path| read(path)).collect();
    let parts = text.split('"').skip(1).step_by(2);
    let is_code = |part: &&str| part.contains('-') && part.chars().all(|it| it.is_ascii_lowercase() || it == '-');
    parts.filter(is_code).map(str::to_owned).collect()
}

#[test]
fn findings_are_what_the_linter_says() {
    let findings = shown();
    assert!(findings.len() > 60, "findings are not found");
    let mut text = "| code | | what it says | what to do |\n|---|---|---|---|\n".to_owned();
    for (code, Finding { severity, message, hint }) in &findings {
        let (message, hint) = (cell(message), cell(hint.as_deref().unwrap_or_default()));
        writeln!(text, "| `{code}` | {severity} | {message} | {hint} |").unwrap();
    }
    check_generated("docs/findings.md", &text);
}

#[test]
fn every_finding_has_a_case() {
    let shown: BTreeSet<String> = shown().into_keys().collect();
    let missing = codes().into_iter().filter(|code| !shown.contains(code) && !NOT_SHOWN.contains(&code.as_str()));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "no case in tests/lint has {missing:?}");
}
