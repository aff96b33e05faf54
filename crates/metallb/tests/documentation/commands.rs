//! The reference of commands is what `--help` says.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use crate::check_generated;

fn help(path: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_metallb"))
        .args(path)
        .arg("--help")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{path:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// The commands that a help names.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    names.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

fn describe(path: &[String], out: &mut String) {
    let help = help(path);
    let name = [&["metallb".to_owned()], path].concat().join(" ");
    write!(out, "## {name}\n\n```text\n{}\n```\n\n", help.trim_end()).unwrap();
    for command in subcommands(&help) {
        describe(&[path, &[command]].concat(), out);
    }
}

#[test]
fn commands_are_what_help_says() {
    let mut text = String::new();
    describe(&[], &mut text);
    assert!(text.contains("## metallb lab demo") && text.contains("--bgp-listen-port"), "{text}");
    check_generated("docs/commands.md", &text);
}
