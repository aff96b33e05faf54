//! The usable backends of one Service, by EndpointSlice.

use std::collections::BTreeMap;

use api::core::EndpointSlice;
use api::{Key, KeyText};

use crate::facts::SliceFacts;

/// What the slices of a Service say, in the order of their names. Nearly all Services have one slice or two, and there are
/// thousands of Services: a map for each would be mostly room.
#[derive(Debug, Default)]
pub(crate) struct Backends(Vec<(Box<str>, SliceFacts)>);

impl Backends {
    /// A slice says this now. False if it did before.
    pub(crate) fn set(&mut self, slice: &str, facts: SliceFacts) -> bool {
        match self.find(slice) {
            Ok(place) => match self.0.get_mut(place) {
                Some((_, old)) if *old != facts => *old = facts,
                _ => return false,
            },
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (slice.into(), facts));
            }
        }
        true
    }

    /// A slice is gone.
    pub(crate) fn remove(&mut self, slice: &str) {
        if let Ok(place) = self.find(slice) {
            self.0.remove(place);
        }
    }

    /// There are no slices.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// There is a usable backend, on whatever node.
    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(|(_, slice)| slice.any)
    }

    /// There is a usable backend on this node.
    pub(crate) fn on(&self, node: &str) -> bool {
        self.0.iter().any(|(_, slice)| slice.is_on(node))
    }

    fn find(&self, slice: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(slice))
    }
}

/// The Service of each EndpointSlice: always one of its own namespace (contract 2.2).
#[derive(Debug, Default)]
pub(crate) struct SliceOwners(BTreeMap<KeyText, Box<str>>);

impl SliceOwners {
    /// The slice is there, or has changed. Returns the Service that it does not belong to any more, if it did to another one,
    /// and the one that it names; without the label it belongs to nobody.
    pub(crate) fn apply(&mut self, slice: &EndpointSlice) -> (Option<Key>, Option<Key>) {
        let (key, service) = (slice.metadata.key(), slice.metadata.labels.get(api::SERVICE_NAME));
        let is_same = self.0.get(&(&key).into()).map(|name| &**name) == service.map(String::as_str);
        let before = if is_same { None } else { self.remove(&key) };
        if let Some(name) = service.filter(|_| !is_same) {
            self.0.insert((&key).into(), name.as_str().into());
        }
        (before, service.map(|name| Key::new(key.namespace, name.clone())))
    }

    /// The slice is gone. Returns the Service that it belonged to.
    pub(crate) fn remove(&mut self, slice: &Key) -> Option<Key> {
        let name = self.0.remove(&slice.into())?;
        Some(Key::new(slice.namespace.clone(), String::from(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(nodes: &[&str]) -> SliceFacts {
        let endpoints: Vec<_> =
            nodes.iter().map(|node| serde_json::json!({"addresses": ["10.0.0.1"], "nodeName": node})).collect();
        SliceFacts::read(&serde_json::from_value(serde_json::json!({"endpoints": endpoints})).unwrap())
    }

    #[test]
    fn a_slice_belongs_to_the_service_that_it_names_last() {
        let slice = |labels: serde_json::Value| -> EndpointSlice {
            let metadata = serde_json::json!({"name": "s", "namespace": "shop", "labels": labels});
            serde_json::from_value(serde_json::json!({"metadata": metadata})).unwrap()
        };
        let of = |service: &str| slice(serde_json::json!({api::SERVICE_NAME: service}));
        let key = |name: &str| Some(Key::new("shop", name));
        let mut owners = SliceOwners::default();
        assert_eq!(owners.apply(&slice(serde_json::json!({}))), (None, None));
        assert_eq!(owners.apply(&of("a")), (None, key("a")));
        assert_eq!(owners.apply(&of("a")), (None, key("a")));
        assert_eq!(owners.apply(&of("b")), (key("a"), key("b")));
        assert_eq!(owners.apply(&slice(serde_json::json!({}))), (key("b"), None));
        assert_eq!(owners.remove(&Key::new("shop", "s")), None);
        assert_eq!(owners.apply(&of("c")), (None, key("c")));
        assert_eq!(owners.remove(&Key::new("shop", "s")), key("c"));
    }

    #[test]
    fn backends_are_those_of_all_slices() {
        let mut backends = Backends::default();
        assert!(backends.set("b", facts(&["node-2"])) && backends.set("a", facts(&["node-1"])));
        assert!(!backends.set("a", facts(&["node-1"])), "it said so before");
        assert!(backends.any() && backends.on("node-1") && backends.on("node-2") && !backends.on("node-3"));
        assert!(backends.set("a", facts(&[])));
        assert!(backends.any() && !backends.on("node-1"));
        backends.remove("c");
        backends.remove("b");
        assert!(!backends.any() && !backends.is_empty());
        backends.remove("a");
        assert!(backends.is_empty());
    }
}
