//! The reference of objects is made from the types, by way of their definitions.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::{cell, check_generated};

/// How the types say that a field is not MetalLB's.
const OURS: &str = "Not known to other implementations of MetalLB.";

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_selector(schema: &Value) -> bool {
    let properties = &schema["properties"];
    properties.get("matchLabels").is_some() && properties.get("matchExpressions").is_some()
}

/// The type of a field in words.
fn type_of(schema: &Value) -> String {
    if is_selector(schema) {
        return "[selector](#selectors)".to_owned();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", value.as_str().unwrap())).collect();
        return values.join(", ");
    }
    match text(schema, "type") {
        "array" => format!("list of {}", type_of(&schema["items"])),
        "object" if schema.get("additionalProperties").is_some() => "map".to_owned(),
        "integer" => match (schema.get("minimum"), schema.get("maximum")) {
            (Some(least), Some(most)) => format!("integer, {least} to {most}"),
            (Some(least), None) => format!("integer, at least {least}"),
            _ => "integer".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// The meaning of a field, with whose it is, and what holds where it is left out.
fn meaning(schema: &Value, is_required: bool) -> String {
    let description = text(schema, "description");
    let mut parts = Vec::new();
    if description.contains(OURS) {
        parts.push("**Ours.**".to_owned());
    }
    parts.push(description.replace(OURS, "").trim().replace("  ", " "));
    if is_required {
        parts.push("Required.".to_owned());
    }
    if let Some(default) = schema.get("default") {
        parts.push(format!("Default: `{default}`."));
    }
    parts.retain(|part| !part.is_empty());
    cell(&parts.join(" "))
}

/// A row for each field, outer ones first.
fn rows(schema: &Value, prefix: &str, out: &mut Vec<(String, String)>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, field) in properties {
        let path = format!("{prefix}{name}");
        let is_required = required.iter().any(|it| it == name);
        out.push((path.clone(), format!("{} | {}", type_of(field), meaning(field, is_required))));
        if !is_selector(field) {
            rows(field, &format!("{path}."), out);
            if !is_selector(&field["items"]) {
                rows(&field["items"], &format!("{path}[]."), out);
            }
        }
    }
}

fn table(schema: &Value, part: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    rows(&schema["properties"][part], &format!("{part}."), &mut out);
    out
}

fn print(rows: &[(String, String)], out: &mut String) {
    out.push_str("| field | type | meaning |\n|---|---|---|\n");
    for (path, rest) in rows {
        writeln!(out, "| `{path}` | {rest} |").unwrap();
    }
    out.push('\n');
}

/// Conditions that the API server checks by itself.
fn rules(schema: &Value, path: &str, out: &mut Vec<String>) {
    let own = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
    out.extend(own.map(|rule| format!("- `{path}`: {}", text(rule, "message"))));
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.for_each(|(name, field)| rules(field, &format!("{path}.{name}"), out));
}

fn describe(definition: &Value, out: &mut String) {
    let kind = text(&definition["spec"]["names"], "kind");
    let versions: BTreeMap<&str, &Value> = definition["spec"]["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| (text(version, "name"), &version["schema"]["openAPIV3Schema"]))
        .collect();
    let (newest, schema) = versions.last_key_value().unwrap();
    write!(out, "## {kind}\n\n`metallb.io/{newest}`, {}. ", text(&definition["spec"]["names"], "plural")).unwrap();
    write!(out, "{}\n\n", text(schema, "description")).unwrap();
    for part in ["spec", "status"] {
        let rows = table(schema, part);
        if !rows.is_empty() {
            print(&rows, out);
        }
    }
    let mut conditions = Vec::new();
    rules(&schema["properties"]["spec"], "spec", &mut conditions);
    if !conditions.is_empty() {
        write!(out, "The API server also checks:\n\n{}\n\n", conditions.join("\n")).unwrap();
    }
    for (version, old) in versions.iter().filter(|(version, _)| *version != newest) {
        let rows_of_newest = table(schema, "spec");
        let differing: Vec<_> = table(old, "spec").into_iter().filter(|row| !rows_of_newest.contains(row)).collect();
        write!(out, "### {kind} {version}\n\nDeprecated. What differs from {newest}:\n\n").unwrap();
        print(&differing, out);
    }
}

#[test]
fn objects_are_what_the_types_say() {
    let mut text = String::new();
    let definitions = api::crd::definitions();
    for definition in &definitions {
        describe(definition, &mut text);
    }
    assert!(text.contains("| `spec.peerGateway` | `IPv4`, `IPv6` | **Ours.**"), "{text}");
    assert!(!text.contains("Not known to"), "a field of ours is not marked");
    check_generated("docs/api.md", &text);
}
