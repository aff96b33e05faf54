//! An AdmissionReview (admission.k8s.io/v1) as it comes: what somebody wants to do with an object.
//!
//! The structure of the object is the API server's business, which has checked it by its schema. What cannot be read
//! nevertheless is no reason to fail but to refuse.

use api::{Document, Key, Kind, Object, ObjectRef, Severity, Violation, read};
use config::Change;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no JSON, or a field has the wrong type. The text is not shown: a review holds whole objects, with passwords.
    #[error("the request is no review in JSON (line {line}, column {column})")]
    Malformed {
        /// Of the first thing that is wrong.
        line: usize,
        /// Of the first thing that is wrong.
        column: usize,
    },
    /// It is something else.
    #[error("the request is {found:?}, not {wanted}")]
    OtherKind {
        /// What it says it is.
        found: String,
        /// What is answered here.
        wanted: &'static str,
    },
    /// There is no request in the review.
    #[error("the review has no request, or one without uid")]
    Empty,
    /// An operation that does not exist.
    #[error("the request is to {0:?}, which is no operation")]
    Operation(String),
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Unreadable {
        Unreadable::Malformed { line: error.line(), column: error.column() }
    }
}

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Names the request in the answer.
    pub(crate) uid: String,
    pub(crate) wish: Wish,
    pub(crate) run: Run,
}

/// Whether what is allowed happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Real,
    Dry,
}

/// What the change is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wish {
    /// One that is judged.
    Change(Change),
    /// One that is not: another kind, or the last writes to an object that goes. Nobody must be kept from tidying up.
    Nothing,
    /// An object that cannot be read, and why.
    Unreadable(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Request {
    uid: String,
    kind: GroupKind,
    #[serde(deserialize_with = "null_to_empty")]
    name: String,
    #[serde(deserialize_with = "null_to_empty")]
    namespace: String,
    operation: String,
    object: Option<Value>,
    #[serde(deserialize_with = "null_to_empty")]
    dry_run: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GroupKind {
    group: String,
    version: String,
    kind: String,
}

impl Question {
    /// Reads the body of a request.
    pub fn read(body: &[u8]) -> Result<Question, Unreadable> {
        let review: Review = serde_json::from_slice(body)?;
        if (review.api_version.as_str(), review.kind.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
            let found = format!("{} {}", review.api_version, review.kind);
            return Err(Unreadable::OtherKind { found, wanted: "an AdmissionReview of admission.k8s.io/v1" });
        }
        let request = review.request.filter(|request| !request.uid.is_empty()).ok_or(Unreadable::Empty)?;
        let run = if request.dry_run { Run::Dry } else { Run::Real };
        Ok(Question { uid: request.uid.clone(), wish: wish(request)?, run })
    }

    /// The object that it is about, if it is judged at all.
    pub fn object(&self) -> Option<ObjectRef> {
        match &self.wish {
            Wish::Change(Change::Create(object) | Change::Update(object)) => Some(object.reference()),
            Wish::Change(Change::Delete(reference)) => Some(reference.clone()),
            Wish::Nothing | Wish::Unreadable(_) => None,
        }
    }
}

fn wish(request: Request) -> Result<Wish, Unreadable> {
    let api_version = format!("{}/{}", request.kind.group, request.kind.version);
    let kind = Kind::find(&api_version, &request.kind.kind);
    let judged = kind.filter(|kind| crate::VALIDATION_PATHS.iter().any(|(judged, _)| judged == kind));
    let Some(kind) = judged else { return Ok(Wish::Nothing) };
    let make: fn(Box<Object>) -> Change = match request.operation.as_str() {
        "CREATE" => Change::Create,
        "UPDATE" => Change::Update,
        "DELETE" => {
            let key = Key::new(request.namespace, request.name);
            return Ok(Wish::Change(Change::Delete(ObjectRef { kind, key })));
        }
        "CONNECT" => return Ok(Wish::Nothing),
        other => return Err(Unreadable::Operation(other.to_owned())),
    };
    let mut value = request.object.unwrap_or_default();
    if value.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()) {
        return Ok(Wish::Nothing);
    }
    // They stand in the object as well, but need not.
    if let Some(fields) = value.as_object_mut() {
        fields.entry("apiVersion").or_insert(Value::String(api_version));
        fields.entry("kind").or_insert(Value::String(kind.name().to_owned()));
    }
    Ok(match object(kind, &value) {
        Ok(mut object) => {
            let metadata = object.metadata_mut();
            if metadata.namespace.is_empty() {
                metadata.namespace = request.namespace;
            }
            Wish::Change(make(Box::new(object)))
        }
        Err(problems) => Wish::Unreadable(problems),
    })
}

/// The object, or what is wrong with it.
fn object(kind: Kind, value: &Value) -> Result<Object, Vec<String>> {
    let is_present = value.get("apiVersion").and_then(Value::as_str) == Some(kind.api_version().as_str());
    if is_present && let Ok(object) = Object::from_value(kind, value.clone()) {
        return Ok(object);
    }
    // Slower, but it knows the other version of BGPPeer, and can say what is wrong.
    let is_error = |violation: &Violation| violation.severity == Severity::Error;
    let violations = match read(value) {
        Document::Object(read) if read.object.kind() == kind && !read.violations.iter().any(is_error) => {
            return Ok(read.object);
        }
        Document::Object(read) => read.violations,
        Document::Broken { violations, .. } => violations,
        Document::Foreign { .. } => Vec::new(),
    };
    let errors = violations.into_iter().filter(is_error);
    let text = |Violation { pointer, message, .. }: Violation| {
        if pointer.is_empty() { message } else { format!("{pointer}: {message}") }
    };
    let problems: Vec<String> = errors.map(text).collect();
    Err(if problems.is_empty() { vec![format!("this is no {kind} that can be read")] } else { problems })
}

fn null_to_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}
