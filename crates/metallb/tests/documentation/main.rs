//! The documentation says what the program does: links lead somewhere, examples are accepted, references are those of the
//! types and of the command line, and every trouble that the program can name is explained.
//!
//! `UPDATE_EXPECT=1 cargo test -p metallb --test documentation` writes anew what is made from the code.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod acceptance;
mod commands;
mod examples;
mod findings;
mod kinds;
mod links;
mod markdown;
mod troubles;

use std::fs;
use std::path::{Path, PathBuf};

const END: &str = "<!-- end of what a test writes -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files below a folder, by their paths from the root.
fn files_below(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Compares the generated part of a page with what it should be, or writes it.
fn check_generated(page: &str, expected: &str) {
    let text = read(page);
    let (head, rest) = text.split_once("<!-- written by a test").unwrap_or_else(|| panic!("{page}: no mark"));
    let (mark, rest) = rest.split_once("-->\n").unwrap();
    let (actual, tail) = rest.split_once(END).unwrap_or_else(|| panic!("{page}: no {END}"));
    let expected = format!("\n{}\n\n", expected.trim());
    if actual == expected {
        return;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let text = format!("{head}<!-- written by a test{mark}-->\n{expected}{END}{tail}");
        fs::write(root().join(page), text).unwrap();
        return;
    }
    let differing = actual.lines().zip(expected.lines()).find(|(actual, expected)| actual != expected);
    panic!(
        "{page} is not what the code says, first at {differing:?}; \
         UPDATE_EXPECT=1 cargo test -p metallb --test documentation writes it anew"
    );
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|it| it == extension)
}

/// A text that can stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('<', "&lt;").replace('|', "\\|").replace('\n', " ")
}
