//! Random edits of good and bad manifests, from the bytes to the verdict: nothing panics, and what has to hold holds.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use config::{Objects, Scope, validate};
use kit::Rng;

/// Edited manifests that are tried.
const EDITS: usize = 20_000;

/// Pieces that manifests are made of, and some that they should not be made of.
const PIECES: [&str; 28] = [
    "---\n",
    "- ",
    ": ",
    "\n",
    "  ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: *a",
    "\"",
    "'",
    "|\n",
    "null",
    "~",
    "0",
    "-1",
    "4294967296",
    "99999999999999999999",
    "1e309",
    ".nan",
    "yes",
    "\u{e4}",
    "\0",
    "/",
    "10.0.0.0/0",
];

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint");
    let mut corpus = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        for name in ["accepted.yaml", "refused.yaml"] {
            corpus.extend(fs::read(entry.as_ref().unwrap().path().join(name)).ok());
        }
    }
    corpus.sort();
    assert!(corpus.len() > 60);
    corpus
}

fn edit(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.index(bytes.len() + 1);
    let length = rng.index(12).min(bytes.len() - at);
    match rng.below(5) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..at + length)),
        2 => bytes.splice(at..at + length, rng.pick(&PIECES).unwrap().bytes()).for_each(drop),
        3 => {
            let from = rng.index(other.len() + 1);
            let piece = other[from..].iter().copied().take(rng.index(80));
            bytes.splice(at..at, piece).for_each(drop);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
    }
}

fn judge(bytes: &[u8]) {
    source::yaml::fuzz_read(bytes);
    let mut objects = Objects::new();
    for manifest in source::yaml::read(&String::from_utf8_lossy(bytes)).objects {
        objects.insert(manifest.object);
    }
    for scope in [Scope::Everything, Scope::Controller, Scope::Speaker { node: "one" }] {
        let findings = match validate(&objects, scope, None) {
            Ok(accepted) => accepted.warnings,
            Err(refused) => {
                assert!(refused.errors().next().is_some());
                refused.findings
            }
        };
        assert!(findings.iter().all(|finding| !finding.message.is_empty()));
    }
}

#[test]
fn edited_manifests_never_panic() {
    let corpus = corpus();
    let mut rng = Rng::new(20_261_122);
    for sample in &corpus {
        judge(sample);
    }
    for _ in 0..EDITS {
        let mut bytes = rng.pick(&corpus).unwrap().clone();
        let other = rng.pick(&corpus).unwrap();
        for _ in 0..=rng.below(4) {
            edit(&mut rng, &mut bytes, other);
        }
        judge(&bytes);
    }
}
