//! `metallb lab demo` as people run it, with each router: it ends well, and tells what they should see.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn demo(router: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metallb"));
    let output = command.args(["lab", "demo", "--router", router]).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{errors}");
    text.into_owned()
}

fn check(router: &str) {
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
}

#[test]
fn the_demonstration_ends_well_with_the_embedded_router() {
    check("embedded");
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
