//! The alerts and the dashboard: the alerts by promtool, and both against the series that there are.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../monitoring")
}

fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool").args(arguments).current_dir(folder()).output();
    let output = output.expect("promtool does not start: run scripts/test-tools.sh");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
    text
}

fn alerts() -> Value {
    serde_saphyr::from_str(&fs::read_to_string(folder().join("alerts.yaml")).unwrap()).unwrap()
}

fn texts<'a>(group: &'a Value, key: &'a str) -> Vec<&'a str> {
    group["rules"].as_array().unwrap().iter().map(|rule| rule[key].as_str().unwrap()).collect()
}

/// The expressions of all alerts.
fn expressions_of_alerts() -> Vec<String> {
    let alerts = alerts();
    let groups = alerts["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| texts(group, "expr")).map(str::to_owned).collect()
}

/// The panels of the dashboard that show something.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(folder().join("dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().clone();
    panels.into_iter().filter(|panel| panel["type"] != "row").collect()
}

fn expressions_of_the_dashboard() -> Vec<String> {
    let targets = panels().into_iter().flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// The names in an expression that are names of series of ours.
fn series(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != '"');
    let is_series = |word: &&str| ["metallb_", "process_", "certwatcher_"].iter().any(|start| word.starts_with(start));
    words.filter(is_series).map(str::to_owned).collect()
}

#[test]
fn promtool_accepts_the_rules_and_every_alert_fires_when_it_must() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"]);
    promtool(&["test", "rules", "alerts_test.yaml"]);
    let tests = fs::read_to_string(folder().join("alerts_test.yaml")).unwrap();
    for group in alerts()["groups"].as_array().unwrap() {
        for name in texts(group, "alert") {
            // Once in a list of those that are quiet, and once with what it says.
            let told = tests.matches(&format!("alertname: {name}\n")).count();
            let quiet = tests.matches(&format!("alertname: {name}}}")).count();
            assert!(told >= 1 && quiet >= 1, "{name} is tried {told} times, and {quiet} times that it is quiet");
        }
    }
}

#[test]
fn contract_8_5_groups_alerts_and_severities() {
    let alerts = alerts();
    let group = &alerts["groups"][0];
    assert_eq!(group["name"], "metallb.rules");
    let rules: Vec<String> = group["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", text(&rule["alert"]), text(&rule["for"]), text(&rule["labels"]["severity"]))
        })
        .collect();
    assert_eq!(
        rules,
        [
            "MetalLBStaleConfig 1m warning",
            "MetalLBConfigNotLoaded 1m warning",
            "MetalLBAddressPoolExhausted 1m critical",
            "MetalLBAddressPoolUsage75Percent - warning",
            "MetalLBAddressPoolUsage85Percent - warning",
            "MetalLBAddressPoolUsage95Percent - critical",
            "MetalLBBGPSessionDown 1m critical",
        ]
    );
    // D41: what the scrape job is called does not matter.
    assert!(expressions_of_alerts().iter().all(|expression| !expression.contains("job")));
}

#[test]
fn alerts_and_dashboard_use_series_that_there_are() {
    let known: BTreeSet<&str> = telemetry::metrics::catalog().iter().map(|family| family.name).collect();
    for expression in expressions_of_alerts().into_iter().chain(expressions_of_the_dashboard()) {
        let series = series(&expression);
        assert!(!series.is_empty(), "no series in {expression}");
        for name in series {
            assert!(known.contains(name.as_str()), "there is no series {name}: {expression}");
        }
    }
}

#[test]
fn panels_do_not_overlap_and_each_says_what_it_shows() {
    let mut seats: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels() {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title} has no description");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "the id of {title} is there twice");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + width <= 24, "{title} is too wide");
        for seat in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(seats.insert(seat), "{title} lies over another panel");
        }
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    assert!(seats.len() > 1_000);
}
