//! The newest resource version of each Service, as the watch has shown it or as an answer to a write named it.
//!
//! A write that only one of several controllers may do names the version that it is meant for (`lease`). There is an
//! entry for each Service that exists, and none for others.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::Key;

/// Versions by Service.
#[derive(Default)]
pub(super) struct Versions(Mutex<HashMap<Key, Known>>);

struct Known {
    uid: Box<str>,
    version: Box<str>,
}

impl Versions {
    /// The Service of this name and uid has this version now.
    pub(super) fn seen(&self, service: Key, uid: &str, version: &str) {
        self.entries().insert(service, Known { uid: uid.into(), version: version.into() });
    }

    /// The Service is gone.
    pub(super) fn gone(&self, service: &Key) {
        self.entries().remove(service);
    }

    /// A write made this version, unless the Service is gone meanwhile or is another one.
    pub(super) fn written(&self, service: &Key, uid: &str, version: &str) {
        if let Some(known) = self.entries().get_mut(service).filter(|known| &*known.uid == uid) {
            known.version = version.into();
        }
    }

    /// The version of the Service of this name, if it has this uid.
    pub(super) fn of(&self, service: &Key, uid: &str) -> Option<String> {
        self.entries().get(service).filter(|known| &*known.uid == uid).map(|known| known.version.to_string())
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        // Each method leaves the map whole, whatever panics elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_that_of_this_very_service() {
        let (versions, web) = (Versions::default(), Key::new("shop", "web"));
        let of = |uid| versions.of(&web, uid);
        versions.written(&web, "a", "1");
        assert_eq!(of("a"), None, "what is not there has no version");
        versions.seen(web.clone(), "a", "2");
        assert_eq!((of("a").as_deref(), of("b")), (Some("2"), None));
        versions.written(&web, "a", "3");
        versions.written(&web, "b", "4");
        assert_eq!(of("a").as_deref(), Some("3"));
        versions.seen(web.clone(), "b", "5");
        assert_eq!((of("a"), of("b").as_deref()), (None, Some("5")));
        versions.gone(&web);
        assert_eq!(of("b"), None);
    }
}
