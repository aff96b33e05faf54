//! The record of `lease` as an object of coordination.k8s.io/v1.

use std::collections::BTreeSet;

use api::LEASE_OPEN;
use jiff::Timestamp;
use kit::Duration;
use lease::{Record, Sighting, Target, Version};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// Between pod and process in `holderIdentity`. Names of pods do not have it.
const SEPARATOR: char = '_';

/// A Lease as it is stored.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stored {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    resource_version: String,
    #[serde(deserialize_with = "null_to_default")]
    annotations: Annotations,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Annotations {
    #[serde(rename = "metallb.io/open-writes", default)]
    open: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "null_to_default")]
    holder_identity: String,
    #[serde(deserialize_with = "null_to_default")]
    lease_duration_seconds: u64,
    #[serde(deserialize_with = "null_to_default")]
    lease_transitions: u32,
    #[serde(deserialize_with = "null_to_default")]
    renew_time: String,
    /// Empty: as it was.
    #[serde(deserialize_with = "null_to_default")]
    acquire_time: String,
}

fn null_to_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

impl Stored {
    /// What to store for this record at this time; `is_new` if somebody else had it before.
    pub(super) fn of(record: &Record, now: Timestamp, is_new: bool) -> Stored {
        let open: Vec<&str> = record.open.iter().map(Target::as_str).collect();
        let now = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        Stored {
            metadata: Metadata { annotations: Annotations { open: open.join(",") }, ..Metadata::default() },
            spec: Spec {
                holder_identity: match record.holder.as_str() {
                    "" => String::new(),
                    holder => format!("{holder}{SEPARATOR}{}", record.process),
                },
                lease_duration_seconds: record.duration.as_secs(),
                lease_transitions: record.transitions,
                acquire_time: if is_new { now.clone() } else { String::new() },
                renew_time: now,
            },
        }
    }

    /// What it says.
    pub(super) fn sighting(self) -> Sighting {
        let (holder, process) =
            self.spec.holder_identity.split_once(SEPARATOR).unwrap_or((&self.spec.holder_identity, ""));
        let open: BTreeSet<Target> =
            self.metadata.annotations.open.split(',').filter(|name| !name.is_empty()).map(Target::new).collect();
        Sighting {
            version: Version(self.metadata.resource_version),
            record: Record {
                holder: holder.to_owned(),
                process: process.to_owned(),
                duration: Duration::from_secs(self.spec.lease_duration_seconds),
                transitions: self.spec.lease_transitions,
                renewed: self.spec.renew_time,
                open,
            },
        }
    }

    /// A merge patch that stores it over this version.
    pub(super) fn patch(&self, version: &str) -> Value {
        let open = (!self.metadata.annotations.open.is_empty()).then_some(&self.metadata.annotations.open);
        json!({
            "metadata": { "resourceVersion": version, "annotations": { LEASE_OPEN: open } },
            "spec": self.fields(),
        })
    }

    /// The object that stores it anew.
    pub(super) fn object(&self, name: &str) -> Value {
        let open = &self.metadata.annotations.open;
        let annotations = if open.is_empty() { json!({}) } else { json!({ LEASE_OPEN: open }) };
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name, "annotations": annotations },
            "spec": self.fields(),
        })
    }

    fn fields(&self) -> Value {
        let Spec { holder_identity, lease_duration_seconds, lease_transitions, renew_time, acquire_time } = &self.spec;
        let mut fields = json!({
            "holderIdentity": holder_identity,
            "leaseDurationSeconds": lease_duration_seconds,
            "leaseTransitions": lease_transitions,
            "renewTime": renew_time,
        });
        if let (false, Some(fields)) = (acquire_time.is_empty(), fields.as_object_mut()) {
            fields.insert("acquireTime".to_owned(), json!(acquire_time));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn record() -> Record {
        Record {
            holder: "controller-1".to_owned(),
            process: "abc".to_owned(),
            duration: Duration::from_secs(10),
            transitions: 3,
            renewed: String::new(),
            open: ["shop/web", "shop/db"].map(Target::new).into(),
        }
    }

    #[test]
    fn a_record_is_a_lease_that_kubectl_shows() {
        let stored = Stored::of(&record(), Timestamp::from_second(1_800_000_000).unwrap(), true);
        let text = serde_json::to_string_pretty(&stored.object("metallb-controller")).unwrap();
        expect![[r#"
            {
              "apiVersion": "coordination.k8s.io/v1",
              "kind": "Lease",
              "metadata": {
                "annotations": {
                  "metallb.io/open-writes": "shop/db,shop/web"
                },
                "name": "metallb-controller"
              },
              "spec": {
                "acquireTime": "2027-01-15T08:00:00.000000Z",
                "holderIdentity": "controller-1_abc",
                "leaseDurationSeconds": 10,
                "leaseTransitions": 3,
                "renewTime": "2027-01-15T08:00:00.000000Z"
              }
            }"#]]
        .assert_eq(&text);
        let read: Stored = serde_json::from_str(&text).unwrap();
        let renewed = "2027-01-15T08:00:00.000000Z".to_owned();
        assert_eq!(read.sighting().record, Record { renewed, ..record() });
    }

    #[test]
    fn a_lease_given_back_names_nobody_and_removes_the_annotation() {
        let record = Record { holder: String::new(), process: String::new(), open: BTreeSet::new(), ..record() };
        let patch = Stored::of(&record, Timestamp::UNIX_EPOCH, false).patch("7");
        assert_eq!(
            patch,
            json!({
                "metadata": {"resourceVersion": "7", "annotations": {"metallb.io/open-writes": null}},
                "spec": {
                    "holderIdentity": "", "leaseDurationSeconds": 10, "leaseTransitions": 3,
                    "renewTime": "1970-01-01T00:00:00.000000Z",
                },
            })
        );
    }

    #[test]
    fn leases_of_others_are_read_whatever_they_leave_out() {
        for (text, holder) in [
            (r#"{"metadata": {"resourceVersion": "1"}}"#, ""),
            (
                r#"{"metadata": {"annotations": null}, "spec": {"holderIdentity": null, "leaseDurationSeconds": null}}"#,
                "",
            ),
            (r#"{"metadata": {"annotations": {"a": "b"}}, "spec": {"holderIdentity": "somebody"}}"#, "somebody"),
        ] {
            let sighting = serde_json::from_str::<Stored>(text).unwrap().sighting();
            assert_eq!((sighting.record.holder.as_str(), sighting.record.process.as_str()), (holder, ""), "{text}");
        }
    }
}
