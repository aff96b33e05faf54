//! The walls between the rooms: docs/architecture.md says who may use whom, and the manifests obey.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rooms without I/O: nothing in their dependency trees may reach the outside world.
const CORES: [&str; 12] =
    ["kit", "api", "config", "ipam", "bgp", "l2", "report", "gossip", "bfd", "controller", "webhook", "speaker"];

/// Crates that bring I/O, a runtime or a client.
const FORBIDDEN_IN_CORES: [&str; 12] = [
    "tokio",
    "libc",
    "kube",
    "kube-client",
    "k8s-openapi",
    "socket2",
    "mio",
    "rustix",
    "nix",
    "hyper",
    "rtnetlink",
    "getrandom",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The rooms of the table in docs/architecture.md with those they may use.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let [name, _, uses] = cells.as_slice() else { return None };
        let uses = uses.trim_end_matches('|').split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
        Some((name.trim_end_matches('`').to_owned(), uses.collect()))
    };
    text.lines().filter_map(row).collect()
}

/// The entries of the `[dependencies]` table of a room's manifest.
fn dependencies(room: &str) -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(root().join("crates").join(room).join("Cargo.toml")).unwrap();
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn rooms() -> BTreeSet<String> {
    let folders = std::fs::read_dir(root().join("crates")).unwrap();
    folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_table_names_every_room_and_no_other() {
    assert_eq!(allowed().into_keys().collect::<BTreeSet<_>>(), rooms());
}

#[test]
fn no_room_uses_another_but_those_the_table_allows() {
    let (rooms, allowed) = (rooms(), allowed());
    for room in &rooms {
        let used: BTreeSet<String> = dependencies(room).intersection(&rooms).cloned().collect();
        let forbidden: Vec<_> = used.difference(&allowed[room]).collect();
        assert!(forbidden.is_empty(), "{room} uses {forbidden:?}, which docs/architecture.md does not allow");
    }
}

#[test]
fn cores_reach_no_runtime_and_no_system() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let names: BTreeMap<String, String> =
        metadata["packages"].as_array().unwrap().iter().map(|it| (text(&it["id"]), text(&it["name"]))).collect();
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        // An ordinary dependency has the kind null; those of tests and build scripts do not end up in the program.
        let ordinary =
            |it: &&serde_json::Value| it["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
        let used = node["deps"].as_array().unwrap().iter().filter(ordinary).map(|it| text(&it["pkg"]));
        uses.insert(text(&node["id"]), used.collect());
    }
    for core in CORES {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = names.iter().filter(|(_, name)| *name == core).map(|(id, _)| id.as_str()).collect();
        assert!(!open.is_empty(), "{core} is not a package");
        while let Some(id) = open.pop() {
            if reached.insert(id) {
                open.extend(uses[id].iter().map(String::as_str));
            }
        }
        let reached: BTreeSet<&str> = reached.into_iter().map(|id| names[id].as_str()).collect();
        let forbidden: Vec<_> = FORBIDDEN_IN_CORES.iter().filter(|name| reached.contains(**name)).collect();
        assert!(forbidden.is_empty(), "the core {core} reaches {forbidden:?}");
    }
}
