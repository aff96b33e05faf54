//! From a document (JSON that may be a Kubernetes object) to an object of a kind that MetalLB reads.
//!
//! This is where the deprecated version of BGPPeer becomes the present one, and where everything is told that is wrong
//! with the structure of the document.

use serde_json::Value;

use crate::conversion;
use crate::crd::{PEER_API_VERSION, PEER_DEPRECATED_API_VERSION};
use crate::schema::{self, Severity, Violation};
use crate::suggest::closest;
use crate::{GROUP, Key, Kind, Object, ObjectRef};

/// What a document turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// An object of a kind that MetalLB reads.
    Object(Box<ReadObject>),
    /// An object of another kind.
    Foreign {
        /// `apiVersion`, as written.
        api_version: String,
        /// `kind`, as written.
        kind: String,
    },
    /// Cannot be read. There is at least one violation that is an error.
    Broken {
        /// Which object it was meant to be, as far as that can be told.
        reference: Option<ObjectRef>,
        /// What is wrong.
        violations: Vec<Violation>,
    },
}

/// An object, and what is wrong with it nevertheless.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadObject {
    /// The object, without what is not known and what has the wrong type.
    pub object: Object,
    /// What is wrong: with an error in it, an API server would not take the object, or not as it was meant.
    pub violations: Vec<Violation>,
}

/// Removed kinds, and what stands in their place.
const REMOVED_KINDS: [(&str, &str); 1] =
    [("AddressPool", "use an IPAddressPool, and an L2Advertisement or BGPAdvertisement that selects it")];

/// Kinds in the group of MetalLB that belong to other programs.
const KINDS_OF_OTHERS: [&str; 1] = ["MetalLB"];

/// Reads a document. Fields that are null count as absent, as with an API server.
pub fn read(document: &Value) -> Document {
    let broken = |violation| Document::Broken { reference: None, violations: vec![violation] };
    let (api_version, name) = match (text(document, "apiVersion"), text(document, "kind")) {
        (Ok(api_version), Ok(name)) => (api_version, name),
        (Err(violation), _) | (_, Err(violation)) => return broken(violation),
    };
    let Some(kind) = Kind::find(api_version, name) else {
        return match unknown_kind(api_version, name) {
            Some(violation) => broken(violation),
            None => Document::Foreign { api_version: api_version.to_owned(), kind: name.to_owned() },
        };
    };
    let is_deprecated = kind == Kind::BGPPeer && api_version == PEER_DEPRECATED_API_VERSION;
    if api_version != kind.api_version() && !is_deprecated {
        return broken(
            Violation::error("unknown-version", "/apiVersion", format!("{name} has no version {api_version:?}"))
                .with_hint(format!("use {}", kind.api_version())),
        );
    }
    let mut violations = schema::check(kind, api_version, document);
    if is_deprecated {
        violations.push(Violation {
            severity: Severity::Warning,
            ..Violation::error("deprecated-version", "/apiVersion", format!("{api_version} {name} is deprecated"))
                .with_hint(format!("use {PEER_API_VERSION}; all fields keep their names"))
        });
    }
    let mut value = document.clone();
    prune_nulls(&mut value);
    if violations.iter().any(|violation| violation.code == schema::WRONG_TYPE) {
        schema::repair(kind, api_version, &mut value);
    }
    if is_deprecated {
        value = conversion::convert(value, PEER_API_VERSION).unwrap_or_default();
    }
    if let Ok(object) = Object::from_value(kind, value) {
        return Document::Object(Box::new(ReadObject { object, violations }));
    }
    // The error itself is not shown: it may quote a value that is secret.
    if violations.iter().all(|violation| violation.severity != Severity::Error) {
        violations.push(Violation::error("unreadable", "", format!("this {name} cannot be read")));
    }
    Document::Broken { reference: reference(kind, document), violations }
}

fn text<'a>(document: &'a Value, key: &str) -> Result<&'a str, Violation> {
    let error = |message: String| {
        Violation::error("not-an-object", "", message)
            .with_hint("a Kubernetes object begins with \"apiVersion:\" and \"kind:\"")
    };
    match document.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(error(format!("not a Kubernetes object: {key} is not text"))),
        None => Err(error(format!("not a Kubernetes object: {key} is missing"))),
    }
}

/// What is wrong with a kind that is not known, if it looks as if one of MetalLB's was meant.
fn unknown_kind(api_version: &str, name: &str) -> Option<Violation> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let ours = || Kind::ALL.iter().filter(|kind| kind.is_ours());
    if group != GROUP {
        let meant = ours().find(|kind| kind.name() == name && group.is_empty())?;
        let message = format!("{name} is not a kind of {api_version}");
        let hint = format!("did you mean \"apiVersion: {}\"?", meant.api_version());
        return Some(Violation::error("unknown-kind", "/apiVersion", message).with_hint(hint));
    }
    if KINDS_OF_OTHERS.contains(&name) {
        return None;
    }
    if let Some((_, instead)) = REMOVED_KINDS.iter().find(|(removed, _)| *removed == name) {
        let message = format!("{name} does not exist any more");
        return Some(Violation::error("removed-kind", "/kind", message).with_hint(*instead));
    }
    let violation = Violation::error("unknown-kind", "/kind", format!("{GROUP} has no kind {name:?}"));
    Some(match closest(name, ours().map(|kind| kind.name())) {
        Some(close) => violation.with_hint(format!("did you mean {close:?}?")),
        None => violation,
    })
}

fn reference(kind: Kind, document: &Value) -> Option<ObjectRef> {
    let text = |key: &str| document.pointer(&format!("/metadata/{key}")).and_then(Value::as_str);
    Some(ObjectRef { kind, key: Key::new(text("namespace").unwrap_or_default(), text("name")?) })
}

/// Takes fields away that are null. Items of lists stay: there, null is something wrong.
fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
