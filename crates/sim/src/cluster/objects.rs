//! Users edit objects, and what Kubernetes itself makes of them: EndpointSlices follow Services and pods.

use std::collections::BTreeSet;

use api::core::{Endpoint, EndpointConditions, EndpointSlice, Service};
use api::{Kind, Object, ObjectRef};

use super::Cluster;
use crate::names::NodeId;
use crate::step::PodState;

impl Cluster {
    /// Somebody creates or edits an object.
    pub(super) fn edit(&mut self, object: Object) {
        let kind = object.kind();
        if self.api.edit(object) {
            self.tell_all(kind);
        }
    }

    /// Somebody deletes an object.
    pub(super) fn delete(&mut self, reference: &ObjectRef) {
        if self.api.delete(reference) {
            self.tell_all(reference.kind);
        }
    }

    /// Somebody edits a Node. What the machine itself tells about being ready is left to it while it is off.
    pub(super) fn edit_node(&mut self, mut object: Object) {
        let Object::Node(new) = &mut object else { return };
        let Some(old) = self.api.node(&new.metadata.name) else { return };
        let is_on = NodeId::of_name(&new.metadata.name)
            .and_then(|node| self.machines.get(&node))
            .is_some_and(|machine| machine.is_on);
        new.status.addresses = old.status.addresses.clone();
        if !is_on {
            new.status.conditions = old.status.conditions.clone();
        }
        self.edit(object);
    }

    /// The pods of an app are others.
    pub(super) fn set_pods(&mut self, namespace: String, app: String, pods: Vec<(NodeId, PodState)>) {
        self.pods.insert((namespace, app), pods);
        self.update_slices();
    }

    /// Brings EndpointSlices in step with Services and pods.
    pub(super) fn update_slices(&mut self) {
        let wanted: Vec<EndpointSlice> = self.api.services().flat_map(|service| self.slices_of(service)).collect();
        let names: BTreeSet<ObjectRef> =
            wanted.iter().map(|slice| ObjectRef { kind: Kind::EndpointSlice, key: slice.metadata.key() }).collect();
        let there: Vec<ObjectRef> =
            self.api.of_kind(Kind::EndpointSlice).map(|(reference, _)| reference.clone()).collect();
        for slice in wanted {
            self.edit(Object::EndpointSlice(slice));
        }
        for reference in there.iter().filter(|reference| !names.contains(*reference)) {
            self.delete(reference);
        }
    }

    /// A Service has a slice for each half of its pods, so that it may have several.
    fn slices_of(&self, service: &Service) -> Vec<EndpointSlice> {
        let metadata = &service.metadata;
        let Some(app) = service.spec.selector.get("app") else { return Vec::new() };
        let pods = self.pods.get(&(metadata.namespace.clone(), app.clone()));
        let pods = pods.map(Vec::as_slice).unwrap_or_default();
        let size = pods.len().div_ceil(2).max(1);
        let slice = |(number, pods): (usize, &[(NodeId, PodState)])| {
            let mut slice = EndpointSlice { address_type: "IPv4".to_owned(), ..EndpointSlice::default() };
            slice.metadata.namespace = metadata.namespace.clone();
            slice.metadata.name = format!("{}-{number}", metadata.name);
            slice.metadata.labels.insert(api::SERVICE_NAME.to_owned(), metadata.name.clone());
            slice.endpoints = pods.iter().map(|(node, state)| endpoint(*node, *state)).collect();
            slice
        };
        pods.chunks(size).enumerate().map(slice).collect()
    }
}

fn endpoint(node: NodeId, state: PodState) -> Endpoint {
    let (ready, serving) = match state {
        PodState::Ready => (Some(true), Some(true)),
        PodState::Unknown => (None, None),
        PodState::NotReady => (Some(false), Some(false)),
        PodState::Terminating => (Some(false), Some(true)),
    };
    Endpoint {
        addresses: vec![format!("10.244.{}.7", node.0)],
        conditions: EndpointConditions { ready, serving },
        node_name: Some(node.name()),
    }
}
