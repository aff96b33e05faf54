//! Whatever the program can name as a trouble is explained in docs/troubleshooting.md: events, reasons, log messages,
//! alerts.

use std::collections::BTreeSet;

use crate::{files_below, has_extension, read};

const PAGE: &str = "docs/troubleshooting.md";

/// The texts in double quotes after a word, in a part of a file.
fn quoted_after<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.split(word).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

/// The constant messages of warnings and errors in a file: the last text of each, up to what is filled in.
fn messages(text: &str) -> Vec<String> {
    let ordinary = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: Vec<&str> = ordinary.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut messages = Vec::new();
    for macro_ in ["tracing::warn!(", "tracing::error!("] {
        for call in code.split(macro_).skip(1) {
            let arguments = arguments(call);
            let Some((before, _)) = arguments.rsplit_once('"') else { continue };
            let message = before.rsplit_once('"').map_or(before, |(_, message)| message);
            let constant = message.split('{').next().unwrap_or_default().trim_end_matches([':', ' ']);
            messages.push(constant.to_owned());
        }
    }
    messages
}

/// What stands before the bracket that ends a call.
fn arguments(call: &str) -> &str {
    let mut depth = 1_i32;
    let mut is_text = false;
    for (position, letter) in call.char_indices() {
        match letter {
            '"' => is_text = !is_text,
            '(' if !is_text => depth += 1,
            ')' if !is_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &call[..position];
        }
    }
    call
}

fn missing<'a>(page: &str, what: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    what.into_iter().filter(|text| !page.contains(&format!("`{text}`"))).collect()
}

#[test]
fn every_warning_and_error_of_the_log_is_explained() {
    let page = read(PAGE);
    let is_ours = |path: &String| {
        let is_for_tests = path.ends_with("tests.rs") || path.contains("/tests/") || path.ends_with("testing.rs");
        path.contains("/src/") && has_extension(path, "rs") && !path.starts_with("crates/lab/") && !is_for_tests
    };
    let mut count = 0;
    let mut faults = Vec::new();
    for path in files_below("crates").into_iter().filter(is_ours) {
        let messages = messages(&read(&path));
        count += messages.len();
        let missing = missing(&page, messages.iter().map(String::as_str));
        faults.extend(missing.into_iter().map(|message| format!("{path}: {message:?} is not on {PAGE}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 40, "messages are not found: {count}");
}

#[test]
fn every_reason_and_event_is_explained() {
    let page = read(PAGE);
    let verdicts = read("crates/speaker/src/verdict.rs");
    let reasons = verdicts.split_once("fn reason(").unwrap().1.split_once("fn hint(").unwrap().0.to_owned();
    // "=> {" stands before those that do not fit into a line.
    let reasons: BTreeSet<&str> =
        quoted_after(&reasons, "=>").into_iter().chain(quoted_after(&reasons, "=> {")).collect();
    assert!(reasons.len() > 15, "{reasons:?}");
    assert_eq!(missing(&page, reasons), [""; 0]);

    let events = read("crates/controller/src/events.rs");
    let events = quoted_after(&events, ": &str =");
    assert!(events.len() > 8, "{events:?}");
    assert_eq!(missing(&page, events), [""; 0]);
    let speaker = read("crates/speaker/src/tell.rs");
    let types = ["EventType::Normal,", "EventType::Warning,"];
    let events: Vec<&str> = types.iter().flat_map(|type_| quoted_after(&speaker, type_)).collect();
    assert!(!events.is_empty());
    assert_eq!(missing(&page, events), [""; 0]);
}

/// Reasons of single nodes, of which another one passes, and of Services that are none of ours.
const NEVER_AT_A_SERVICE: [&str; 10] = [
    "Drained",
    "Hindered",
    "NoAddress",
    "NoSuchInterface",
    "NodeNotReady",
    "NodeUnknown",
    "NotElected",
    "NotJoined",
    "NotLoadBalancer",
    "OtherClass",
];

#[test]
fn every_reason_of_a_condition_is_explained_and_no_other() {
    let mut reasons = BTreeSet::new();
    for (path, function) in [
        ("crates/controller/src/problem.rs", "fn reason("),
        ("crates/speaker/src/silence.rs", "fn reason("),
        ("crates/speaker/src/verdict.rs", "fn condition_reason("),
    ] {
        let text = read(path);
        let body = text.split_once(function).unwrap().1.split_once("\n    }\n").unwrap().0;
        let words = body.split('"').skip(1).step_by(2).map(str::to_owned);
        reasons.extend(words.filter(|word| !NEVER_AT_A_SERVICE.contains(&word.as_str())));
    }
    assert!(reasons.len() > 25, "{reasons:?}");
    let page = read("docs/conditions.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<_>>(), reasons);
}

#[test]
fn every_alert_is_explained() {
    let page = read(PAGE);
    let alerts = read("monitoring/alerts.yaml");
    let alerts: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(missing(&page, alerts), [""; 0]);
}

#[test]
fn messages_are_found() {
    let text = "tracing::warn!(a = %b(c), \"one ( two\");\ntracing::error!(x = \"y\", \"three: {error:#}\");\n\
                #[cfg(test)]\nmod tests { tracing::warn!(\"no\") }";
    assert_eq!(messages(text), ["one ( two", "three"]);
}
