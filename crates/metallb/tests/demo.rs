//! `metallb lab demo` as people run it, with each router: it ends well, and tells what they should see.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn demo(router: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metallb"));
    // As of a user that is not root: daemons are elsewhere.
    command.env("PATH", "/usr/bin:/bin");
    let output = command.args(["lab", "demo", "--router", router]).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{errors}");
    text.into_owned()
}

fn check(router: &str) -> String {
    let account = demo(router);
    let has = |parts: &[&str]| account.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    for parts in [
        // Both families by ARP and NDP, and by BGP over all nodes.
        &["client reaches web at 10.0.0.100", "answers"][..],
        &["client reaches web at fd00::100", "answers"],
        &["router routes 203.0.113.0/32", "node1", "node2", "node3"],
        &["router routes 2001:db8:1::/128", "node1", "node2", "node3"],
        // A node is lost and comes back.
        &["every request is answered again"],
        &["takes part again"],
    ] {
        assert!(has(parts), "no line with {parts:?} in\n{account}");
    }
    let rows = account.lines().filter(|line| line.starts_with("client ") || line.starts_with("remote "));
    let answered_by = |node: &str| account.lines().any(|line| line.starts_with("remote  api") && line.contains(node));
    assert!(rows.count() >= 8, "{account}");
    assert!(["node1 ", "node2 ", "node3 "].into_iter().all(answered_by), "{account}");
    assert!(!account.contains('\u{1b}'), "colours in what is no terminal: {account:?}");
    account
}

/// A line without what differs from run to run: numbers, and the widths that come from them.
fn shape(line: &str) -> String {
    let masked: String = line.chars().map(|letter| if letter.is_ascii_digit() { '#' } else { letter }).collect();
    let words: Vec<&str> =
        masked.split_whitespace().map(|word| if word.starts_with('#') { "#" } else { word }).collect();
    words.join(" ")
}

#[test]
fn the_demonstration_ends_well_with_the_embedded_router_and_reads_as_in_the_readme() {
    let account = check("embedded");
    let printed: Vec<String> = account.lines().map(shape).collect();
    let readme = include_str!("../../../README.md");
    // The table at the end has a row for every path, and who answered how often in it.
    let (story, _) = readme.split("```").find_map(|block| block.split_once("from    Service")).unwrap();
    // Whether a request fails when the node returns is not the same in every run.
    let is_fixed = |line: &&str| !line.trim().is_empty() && !line.contains("takes part again");
    let lines: Vec<&str> = story.lines().skip(1).filter(is_fixed).collect();
    assert!(lines.len() > 20, "{story}");
    for line in lines {
        assert!(printed.contains(&shape(line)), "the README shows {line:?}, which is not in\n{account}");
    }
}

#[test]
fn the_demonstration_ends_well_with_frr() {
    check("frr");
}

#[test]
fn the_demonstration_ends_well_with_bird() {
    check("bird");
}

#[test]
fn a_router_that_sets_no_routes_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metallb"));
    let output = command.args(["lab", "demo", "--router", "gobgp"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("gobgp sets no routes in the kernel"), "{errors}");
}
