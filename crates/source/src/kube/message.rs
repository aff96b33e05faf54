//! What the API server sends around the objects: pages of a list, lines of a watch, errors. Objects stay text here, so
//! that one which cannot be read does not spoil the page it is on.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    pub(super) metadata: PageMeta,
    #[serde(borrow, default, deserialize_with = "null_to_empty")]
    pub(super) items: Vec<&'a RawValue>,
}

/// Where in the list, and of which moment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct PageMeta {
    pub(super) resource_version: String,
    /// Asks for the next page; empty on the last one.
    pub(super) r#continue: String,
}

/// A line of a watch.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "type")]
    pub(super) type_: String,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// What an object is called; read of objects that cannot be read otherwise, and of those that are gone.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Named {
    pub(super) metadata: NamedMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NamedMeta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) resource_version: String,
    pub(super) uid: String,
}

/// An error (meta/v1 Status).
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) message: String,
    #[serde(deserialize_with = "null_to_empty")]
    pub(super) details: StatusDetails,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StatusDetails {
    pub(super) retry_after_seconds: u64,
}

fn null_to_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}
