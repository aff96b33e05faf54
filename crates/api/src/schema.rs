//! Checks the structure of an object that is still JSON: fields that do not exist, wrong types, numbers out of range.
//!
//! The kinds of `metallb.io` are checked against the very schemas of their CustomResourceDefinitions, as the API server
//! does; what an API server drops silently (a misspelt field) is told here. Of Kubernetes' own kinds only the types of
//! the fields that MetalLB reads are checked. CEL rules are not looked at: `config` knows them better.
//!
//! No message shows a value of the object, except numbers and words that are compared with a list: others may be
//! secret.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::core::{ConfigMap, EndpointSlice, Namespace, Node, Secret, Service};
use crate::crd::{self, structural_schema};
use crate::suggest::closest;
use crate::{Kind, ObjectMeta};

/// The code of a value that has another type than its field.
pub(crate) const WRONG_TYPE: &str = "wrong-type";

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth telling; the object can be used.
    Warning,
    /// The object cannot be used.
    Error,
}

impl Severity {
    /// `warning` or `error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing that is wrong with the structure of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// A stable name of the rule, such as `unknown-field`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// JSON pointer (RFC 6901) to the place; to where it should be for a field that is missing.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Violation {
    pub(crate) fn error(code: &'static str, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Violation { code, severity: Severity::Error, pointer: pointer.into(), message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Violation { hint: Some(hint.into()), ..self }
    }
}

/// What to make of a field that the schema does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnknownFields {
    Refused,
    Ignored,
}

/// Checks a whole object, given as it was written, in the version that it names.
pub(crate) fn check(kind: Kind, api_version: &str, object: &Value) -> Vec<Violation> {
    let mut violations = Vec::new();
    check_metadata(kind, object.get("metadata").unwrap_or(&Value::Null), &mut violations);
    let unknown = if kind.is_ours() { UnknownFields::Refused } else { UnknownFields::Ignored };
    if let Some(schema) = schemas().of(kind, api_version) {
        walk(schema, object, &mut String::new(), unknown, &mut violations);
    }
    violations
}

/// Takes out of an object what has the wrong type, so that the rest of it can be read and judged as well. In a list, where
/// the others must keep their positions, an empty value of the right type comes in its place.
pub(crate) fn repair(kind: Kind, api_version: &str, object: &mut Value) {
    let schemas = schemas();
    if let Some(metadata) = object.get_mut("metadata") {
        repair_parts(&schemas.metadata, metadata);
    }
    if let Some(schema) = schemas.of(kind, api_version) {
        repair_parts(schema, object);
    }
}

/// Takes out what has the wrong type inside of a mapping or list.
fn repair_parts(schema: &Value, value: &mut Value) {
    let others = schema.get("additionalProperties");
    let schema_of = |name: &str| schema.get("properties").and_then(|properties| properties.get(name)).or(others);
    match value {
        Value::Object(fields) => fields.retain(|name, value| {
            let Some(schema) = schema_of(name) else { return true };
            repair_parts(schema, value);
            has_type(schema, value)
        }),
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for item in items {
                if item.is_null() || !has_type(schema, item) {
                    *item = empty_of(schema);
                }
                repair_parts(schema, item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The schemas, made once.
struct Schemas {
    present: BTreeMap<Kind, Value>,
    peer_v1beta1: Value,
    metadata: Value,
}

impl Schemas {
    fn of(&self, kind: Kind, api_version: &str) -> Option<&Value> {
        match kind {
            Kind::BGPPeer if api_version == crd::PEER_DEPRECATED_API_VERSION => Some(&self.peer_v1beta1),
            kind => self.present.get(&kind),
        }
    }
}

fn schemas() -> &'static Schemas {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    SCHEMAS.get_or_init(|| Schemas {
        present: Kind::ALL.iter().map(|kind| (*kind, schema_of(*kind))).collect(),
        peer_v1beta1: with_any_metadata(crd::peer_v1beta1_schema()),
        metadata: structural_schema::<ObjectMeta>(),
    })
}

fn schema_of(kind: Kind) -> Value {
    with_any_metadata(match kind {
        Kind::Service => structural_schema::<Service>(),
        Kind::EndpointSlice => structural_schema::<EndpointSlice>(),
        Kind::Node => structural_schema::<Node>(),
        Kind::Namespace => structural_schema::<Namespace>(),
        Kind::Secret => structural_schema::<Secret>(),
        Kind::ConfigMap => structural_schema::<ConfigMap>(),
        ours => crd::schema_of(ours),
    })
}

/// Metadata are checked apart, in the same way for all kinds.
fn with_any_metadata(mut schema: Value) -> Value {
    if let Some(metadata) = schema.pointer_mut("/properties/metadata") {
        *metadata = serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    schema
}

fn check_metadata(kind: Kind, metadata: &Value, violations: &mut Vec<Violation>) {
    let before = violations.len();
    walk(&schemas().metadata, metadata, &mut "/metadata".to_owned(), UnknownFields::Ignored, violations);
    if violations.len() != before {
        return;
    }
    match metadata.get("name").and_then(Value::as_str) {
        None | Some("") => violations.push(
            Violation::error("missing-field", "/metadata/name", "missing field \"name\" in metadata")
                .with_hint("every object needs a name"),
        ),
        Some(name) if kind.is_ours() && !is_dns_subdomain(name) => violations.push(
            Violation::error("invalid-name", "/metadata/name", format!("{name:?} is not a valid name"))
                .with_hint("use lower case letters, digits, '-' and '.', with a letter or digit at both ends"),
        ),
        Some(_) => {}
    }
}

/// True for a name that the API server takes for our kinds (RFC 1123 section 2.1, in lower case).
fn is_dns_subdomain(name: &str) -> bool {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            label.starts_with(is_end) && label.ends_with(is_end) && label.chars().all(|c| is_end(c) || c == '-')
        })
}

/// Checks a value against its schema. `pointer` is where the value is, and is left as it was.
fn walk(schema: &Value, value: &Value, pointer: &mut String, unknown: UnknownFields, out: &mut Vec<Violation>) {
    if !has_type(schema, value) {
        out.push(wrong_type(type_of(schema), value, pointer));
        return;
    }
    match value {
        _ if type_of(schema).is_empty() => {}
        Value::Object(fields) => walk_object(schema, fields, pointer, unknown, out),
        Value::Array(items) => walk_array(schema, items, pointer, unknown, out),
        Value::String(text) => out.extend(check_text(schema, text, pointer)),
        Value::Number(number) => out.extend(check_number(schema, number, pointer)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// The type that a schema asks for; empty where it asks for none.
fn type_of(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn has_type(schema: &Value, value: &Value) -> bool {
    match (type_of(schema), value) {
        // To the API server a field that is null is one that is absent.
        ("", _) | (_, Value::Null) | ("boolean", Value::Bool(_)) | ("string", Value::String(_)) => true,
        ("object", Value::Object(_)) | ("array", Value::Array(_)) => true,
        ("integer", Value::Number(number)) => !number.is_f64(),
        _ => false,
    }
}

/// A value of the type that a schema asks for, with nothing in it.
fn empty_of(schema: &Value) -> Value {
    match type_of(schema) {
        "object" => Value::Object(Map::new()),
        "array" => Value::Array(Vec::new()),
        "integer" => Value::from(0),
        "boolean" => Value::Bool(false),
        _ => Value::String(String::new()),
    }
}

fn wrong_type(expected: &str, value: &Value, pointer: &str) -> Violation {
    let wanted = match expected {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        _ => "true or false",
    };
    let message = format!("{} must be {wanted}, not {}", field_name(pointer), name_of(value));
    let violation = Violation::error(WRONG_TYPE, pointer, message);
    match hint_for_type(expected, value) {
        Some(hint) => violation.with_hint(hint),
        None => violation,
    }
}

fn hint_for_type(expected: &str, value: &Value) -> Option<&'static str> {
    match (expected, value) {
        ("string", Value::Number(_) | Value::Bool(_)) => Some("put the value in quotes"),
        ("integer", Value::String(text)) if text.parse::<i64>().is_ok() => Some("remove the quotes"),
        ("boolean", Value::String(text)) if matches!(text.as_str(), "true" | "false") => Some("remove the quotes"),
        ("array", Value::String(_) | Value::Number(_)) => Some("put \"- \" before the value to make it a list of one"),
        ("object", Value::Array(_)) => Some("remove the \"- \" at the beginning"),
        _ => None,
    }
}

fn walk_object(
    schema: &Value,
    fields: &Map<String, Value>,
    pointer: &mut String,
    unknown: UnknownFields,
    out: &mut Vec<Violation>,
) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties");
    let keeps_all = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
    for (name, value) in fields {
        let known = properties.and_then(|properties| properties.get(name)).or(others);
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&escape(name));
        match known {
            Some(schema) => walk(schema, value, pointer, unknown, out),
            None if unknown == UnknownFields::Refused && !keeps_all => {
                out.push(unknown_field(name, pointer, properties));
            }
            None => {}
        }
        pointer.truncate(length);
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in required.filter(|name| fields.get(*name).is_none_or(Value::is_null)) {
        let place = field_name(pointer);
        let pointer = format!("{pointer}/{}", escape(name));
        out.push(Violation::error("missing-field", pointer, format!("missing field {name:?} in {place}")));
    }
}

fn unknown_field(name: &str, pointer: &str, properties: Option<&Map<String, Value>>) -> Violation {
    let known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let violation = Violation::error("unknown-field", pointer, format!("unknown field {name:?}"));
    match (closest(name, known.iter().copied()), known.as_slice()) {
        (Some(close), _) => violation.with_hint(format!("did you mean {close:?}?")),
        (None, []) => violation.with_hint("no fields are known here"),
        (None, known) => violation.with_hint(format!("the fields known here are {}", known.join(", "))),
    }
}

fn walk_array(schema: &Value, items: &[Value], pointer: &mut String, unknown: UnknownFields, out: &mut Vec<Violation>) {
    let at_least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
    if u64::try_from(items.len()).is_ok_and(|length| length < at_least) {
        let name = field_name(pointer);
        out.push(Violation::error(
            "wrong-length",
            pointer.clone(),
            format!("{name} must have at least {at_least} item"),
        ));
    }
    let Some(schema) = schema.get("items") else { return };
    for (position, item) in items.iter().enumerate() {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&position.to_string());
        if item.is_null() {
            out.push(Violation::error(WRONG_TYPE, pointer.clone(), "an item of the list is empty"));
        } else {
            walk(schema, item, pointer, unknown, out);
        }
        pointer.truncate(length);
    }
}

fn check_text(schema: &Value, text: &str, pointer: &str) -> Option<Violation> {
    let name = field_name(pointer);
    let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
    if limit("minLength").is_some_and(|min| length < min) {
        return Some(Violation::error("wrong-length", pointer, format!("{name} must not be empty")));
    }
    if let Some(max) = limit("maxLength").filter(|max| length > *max) {
        return Some(Violation::error("wrong-length", pointer, format!("{name} must have at most {max} characters")));
    }
    let allowed: Vec<&str> = schema.get("enum")?.as_array()?.iter().filter_map(Value::as_str).collect();
    if allowed.contains(&text) {
        return None;
    }
    let violation = Violation::error("unknown-value", pointer, format!("{name} must be one of {}", allowed.join(", ")));
    Some(match closest(text, allowed.iter().copied()) {
        Some(close) => violation.with_hint(format!("did you mean {close:?}?")),
        None => violation,
    })
}

fn check_number(schema: &Value, number: &serde_json::Number, pointer: &str) -> Option<Violation> {
    let (low, high) = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    let low = schema.get("minimum").and_then(Value::as_i64).unwrap_or(low);
    let high = schema.get("maximum").and_then(Value::as_i64).unwrap_or(high);
    if number.as_i64().is_some_and(|number| (low..=high).contains(&number)) {
        return None;
    }
    let name = field_name(pointer);
    Some(Violation::error("out-of-range", pointer, format!("{name} must be {low} to {high}, not {number}")))
}

/// What a value is, in words.
fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// How to call the place in a message: by its last name that is not a position in a list.
fn field_name(pointer: &str) -> String {
    let mut parts = pointer.rsplit('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some(last), Some(list)) if last.parse::<usize>().is_ok() => format!("an item of {}", unescape(list)),
        (Some(last), _) => unescape(last),
        (None, _) => "the object".to_owned(),
    }
}

/// A name as a part of a JSON pointer (RFC 6901 section 3).
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}
