//! The newest resource version of each Service and pool, as the watch has shown it or as an answer to a write named it.
//!
//! A write that only one of several controllers may do names the version that it is meant for (`lease`). There is an
//! entry for each of these objects that exists, and none for others.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::{KeyText, Kind, ObjectRef};

/// Versions by object.
#[derive(Default)]
pub(super) struct Versions(Mutex<HashMap<(Kind, KeyText), Known>>);

struct Known {
    uid: Box<str>,
    version: Box<str>,
}

impl Versions {
    /// Whether versions of this kind are kept.
    pub(super) const fn are_of(kind: Kind) -> bool {
        matches!(kind, Kind::Service | Kind::IPAddressPool)
    }

    /// The object of this name and uid has this version now.
    pub(super) fn seen(&self, object: &ObjectRef, uid: &str, version: &str) {
        self.entries().insert(entry(object), Known { uid: uid.into(), version: version.into() });
    }

    /// The object is gone.
    pub(super) fn gone(&self, object: &ObjectRef) {
        self.entries().remove(&entry(object));
    }

    /// A write that named one version made another, unless the object is gone meanwhile or is another one. What the watch
    /// has shown since is as new or newer.
    pub(super) fn written(&self, object: &ObjectRef, uid: &str, named: &str, made: &str) {
        let mut entries = self.entries();
        let known = entries.get_mut(&entry(object)).filter(|known| &*known.uid == uid && &*known.version == named);
        if let Some(known) = known {
            known.version = made.into();
        }
    }

    /// The uid and the version of the object of this name.
    pub(super) fn of(&self, object: &ObjectRef) -> Option<(String, String)> {
        self.entries().get(&entry(object)).map(|known| (known.uid.to_string(), known.version.to_string()))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<(Kind, KeyText), Known>> {
        // Each method leaves the map whole, whatever panics elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry(object: &ObjectRef) -> (Kind, KeyText) {
    (object.kind, KeyText::from(&object.key))
}

#[cfg(test)]
mod tests {
    use api::Key;

    use super::*;

    #[test]
    fn a_version_is_that_of_this_very_object() {
        let object = |kind| ObjectRef { kind, key: Key::new("shop", "web") };
        let (versions, web) = (Versions::default(), object(Kind::Service));
        let known = || versions.of(&web).map(|(uid, version)| format!("{uid}{version}"));
        versions.written(&web, "a", "0", "1");
        assert_eq!(known(), None, "what is not there has no version");
        versions.seen(&web, "a", "2");
        assert_eq!(known().as_deref(), Some("a2"));
        assert_eq!(versions.of(&object(Kind::IPAddressPool)), None);
        versions.written(&web, "a", "2", "3");
        versions.written(&web, "b", "3", "4");
        assert_eq!(known().as_deref(), Some("a3"));
        versions.seen(&web, "a", "6");
        versions.written(&web, "a", "3", "4");
        assert_eq!(known().as_deref(), Some("a6"), "an answer that comes after the watch is old");
        versions.seen(&web, "b", "5");
        assert_eq!(known().as_deref(), Some("b5"));
        versions.gone(&web);
        assert_eq!(known(), None);
    }
}
