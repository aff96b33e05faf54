//! The API server: objects, what happened to them in order, and what becomes of a write.
//!
//! It knows no time: how late processes hear of a change, and whether they can reach it, is theirs ([`crate::client`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::{EndpointSlice, Ingress, Node, Service};
use api::{IPAddressPool, Key, Kind, Object, ObjectRef, PoolCounters, Write};

/// The objects and their history.
#[derive(Debug, Default)]
pub(crate) struct ApiServer {
    objects: BTreeMap<ObjectRef, Arc<Object>>,
    /// Everything that happened to the objects of a kind, in order.
    logs: BTreeMap<Kind, Vec<Entry>>,
    /// It fills in the mode of addresses, as recent ones do.
    fills_ip_mode: bool,
    last_uid: u64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// What the object was from then on; `None` when it was deleted.
    pub(crate) object: Option<Arc<Object>>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The object is another one now.
    Changed,
    /// It said what was there already.
    Unchanged,
    /// The object is gone, or is another one of its name.
    Refused,
}

impl ApiServer {
    /// One without objects.
    pub(crate) fn new(fills_ip_mode: bool) -> Self {
        ApiServer { fills_ip_mode, ..ApiServer::default() }
    }

    /// The objects of a kind, by name.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&ObjectRef, &Arc<Object>)> {
        let first = ObjectRef { kind, key: Key::default() };
        self.objects.range(first..).take_while(move |(reference, _)| reference.kind == kind)
    }

    pub(crate) fn get(&self, reference: &ObjectRef) -> Option<&Arc<Object>> {
        self.objects.get(reference)
    }

    /// What happened to the objects of a kind.
    pub(crate) fn log(&self, kind: Kind) -> &[Entry] {
        self.logs.get(&kind).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Service> {
        self.of_kind(Kind::Service).filter_map(|(_, object)| match &**object {
            Object::Service(service) => Some(service),
            _ => None,
        })
    }

    pub(crate) fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.of_kind(Kind::EndpointSlice).filter_map(|(_, object)| match &**object {
            Object::EndpointSlice(slice) => Some(slice),
            _ => None,
        })
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.of_kind(Kind::Node).filter_map(|(_, object)| match &**object {
            Object::Node(node) => Some(node),
            _ => None,
        })
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &IPAddressPool> {
        self.of_kind(Kind::IPAddressPool).filter_map(|(_, object)| match &**object {
            Object::IPAddressPool(pool) => Some(pool),
            _ => None,
        })
    }

    pub(crate) fn service(&self, key: &Key) -> Option<&Service> {
        match &**self.get(&ObjectRef { kind: Kind::Service, key: key.clone() })? {
            Object::Service(service) => Some(service),
            _ => None,
        }
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        match &**self.get(&ObjectRef { kind: Kind::Node, key: Key::new("", name) })? {
            Object::Node(node) => Some(node),
            _ => None,
        }
    }

    fn pool(&self, key: &Key) -> Option<&IPAddressPool> {
        match &**self.get(&ObjectRef { kind: Kind::IPAddressPool, key: key.clone() })? {
            Object::IPAddressPool(pool) => Some(pool),
            _ => None,
        }
    }

    /// A user creates or edits an object. What is in the status of the one that is there stays, and so does what it is
    /// known by. True when that changed anything.
    pub(crate) fn edit(&mut self, mut object: Object) -> bool {
        let reference = object.reference();
        let there = self.objects.get(&reference).map(|there| (**there).clone());
        let uid = there.as_ref().map(|there| there.metadata().uid.clone());
        object.metadata_mut().uid = uid.unwrap_or_else(|| self.new_uid());
        match (&mut object, there) {
            (Object::Service(new), Some(Object::Service(old))) => {
                new.status = old.status;
                let written = [api::ALLOCATED_FROM_POOL, api::LAYER2_ASSIGNED_NODE];
                let kept = old.metadata.annotations.into_iter().filter(|(name, _)| written.contains(&name.as_str()));
                new.metadata.annotations.extend(kept);
            }
            (Object::IPAddressPool(new), Some(Object::IPAddressPool(old))) => new.status = old.status,
            _ => {}
        }
        self.put(object)
    }

    fn new_uid(&mut self) -> String {
        self.last_uid = self.last_uid.saturating_add(1);
        format!("uid-{}", self.last_uid)
    }

    /// Deletes an object. False when there was none.
    pub(crate) fn delete(&mut self, reference: &ObjectRef) -> bool {
        let was_there = self.objects.remove(reference).is_some();
        if was_there {
            let entry = Entry { key: reference.key.clone(), object: None };
            self.logs.entry(reference.kind).or_default().push(entry);
        }
        was_there
    }

    fn put(&mut self, object: Object) -> bool {
        let reference = object.reference();
        if self.objects.get(&reference).is_some_and(|there| **there == object) {
            return false;
        }
        let object = Arc::new(object);
        let entry = Entry { key: reference.key.clone(), object: Some(Arc::clone(&object)) };
        self.logs.entry(reference.kind).or_default().push(entry);
        self.objects.insert(reference, object);
        true
    }

    /// Applies a write of MetalLB's. Events and conditions are nothing that anybody here looks at.
    pub(crate) fn apply(&mut self, write: &Write) -> Applied {
        match write {
            Write::ServiceStatus { service, uid, ingress, pool } => {
                self.set_status(service, Some(uid), ingress, pool.as_deref())
            }
            Write::AssignedNode { service, uid, node } => self.set_node(service, uid, node.as_deref()),
            Write::PoolStatus { pool, status } => self.set_counters(pool, *status),
            Write::ServiceCondition { .. } | Write::Report { .. } | Write::ReportGone { .. } | Write::Event(_) => {
                Applied::Unchanged
            }
        }
    }

    /// Writes the status of a Service, of the one with this uid if one is given.
    pub(crate) fn set_status(
        &mut self,
        key: &Key,
        uid: Option<&str>,
        ingress: &[Ingress],
        pool: Option<&str>,
    ) -> Applied {
        let is_meant = |service: &&Service| uid.is_none_or(|uid| service.metadata.uid == uid);
        let Some(mut service) = self.service(key).filter(is_meant).cloned() else { return Applied::Refused };
        service.status.load_balancer.ingress = ingress.to_vec();
        if self.fills_ip_mode {
            for entry in service.status.load_balancer.ingress.iter_mut().filter(|entry| entry.ip.is_some()) {
                entry.ip_mode.get_or_insert_with(|| "VIP".to_owned());
            }
        }
        match pool {
            Some(pool) => service.metadata.annotations.insert(api::ALLOCATED_FROM_POOL.to_owned(), pool.to_owned()),
            None => service.metadata.annotations.remove(api::ALLOCATED_FROM_POOL),
        };
        if self.put(Object::Service(service)) { Applied::Changed } else { Applied::Unchanged }
    }

    /// Writes to which node a Service is assigned.
    fn set_node(&mut self, key: &Key, uid: &str, node: Option<&str>) -> Applied {
        let is_meant = |service: &&Service| service.metadata.uid == uid;
        let Some(mut service) = self.service(key).filter(is_meant).cloned() else { return Applied::Refused };
        match node {
            Some(node) => service.metadata.annotations.insert(api::LAYER2_ASSIGNED_NODE.to_owned(), node.to_owned()),
            None => service.metadata.annotations.remove(api::LAYER2_ASSIGNED_NODE),
        };
        if self.put(Object::Service(service)) { Applied::Changed } else { Applied::Unchanged }
    }

    /// Writes the counters of a pool.
    pub(crate) fn set_counters(&mut self, key: &Key, counters: PoolCounters) -> Applied {
        let Some(mut pool) = self.pool(key).cloned() else { return Applied::Refused };
        pool.status = Some(counters);
        if self.put(Object::IPAddressPool(pool)) { Applied::Changed } else { Applied::Unchanged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Object {
        let mut service = Service::default();
        service.metadata.name = name.to_owned();
        Object::Service(service)
    }

    fn status(uid: &str, address: &str) -> Write {
        let ingress = vec![Ingress { ip: Some(address.to_owned()), ..Ingress::default() }];
        Write::ServiceStatus { service: Key::new("", "a"), uid: uid.to_owned(), ingress, pool: Some("p".to_owned()) }
    }

    #[test]
    fn a_status_reaches_the_service_it_is_meant_for_and_survives_edits() {
        let mut api = ApiServer::new(true);
        assert!(api.edit(service("a")));
        assert_eq!(api.apply(&status("uid-1", "10.0.0.1")), Applied::Changed);
        assert_eq!(api.apply(&status("uid-1", "10.0.0.1")), Applied::Unchanged);
        assert!(!api.edit(service("a")), "an edit that changes nothing");
        let written = api.service(&Key::new("", "a")).unwrap();
        assert_eq!(written.status.load_balancer.ingress[0].ip_mode.as_deref(), Some("VIP"));

        assert!(api.delete(&service("a").reference()));
        assert!(api.edit(service("a")));
        assert_eq!(api.apply(&status("uid-1", "10.0.0.1")), Applied::Refused, "meant for the one before");
        assert_eq!(api.log(Kind::Service).len(), 4);
    }
}
