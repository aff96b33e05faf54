//! The objects of a cluster with many Services, as Kubernetes would have them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sink::prefix;

pub(crate) const NAMESPACE: &str = "metallb-system";
pub(crate) const NODE: &str = "node";
pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// Which endpoints take traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoints {
    Ready,
    Unready,
}

/// A Service with `externalTrafficPolicy: Local` that the controller has given the address of this number.
pub(crate) fn service(number: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": format!("service-{number}"), "namespace": "default", "uid": format!("uid-service-{number}"),
            "resourceVersion": "1", "annotations": {"metallb.io/ip-allocated-from-pool": "all"},
        },
        "spec": {
            "type": "LoadBalancer", "selector": {"app": "web"}, "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
            "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "externalTrafficPolicy": "Local",
            "ports": [{"protocol": "TCP", "port": 80}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": prefix(number).addr().to_string(), "ipMode": "VIP"}]}},
    })
}

/// Its endpoint on the node.
pub(crate) fn slice(number: u32, endpoints: Endpoints) -> Value {
    let name = format!("service-{number}");
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{name}-4"), "namespace": "default", "uid": format!("uid-slice-{number}"),
            "resourceVersion": "1", "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": [{
            "addresses": ["10.244.0.1"], "nodeName": NODE,
            "conditions": {"ready": endpoints == Endpoints::Ready, "serving": endpoints == Endpoints::Ready},
        }],
        "ports": [{"port": 8080, "protocol": "TCP"}],
    })
}

/// A whole cluster with a peer at this address: so many Services, all of which the node announces. By the path of
/// their list.
pub(crate) fn cluster(
    services: u32,
    (node_address, router): (&str, &str),
    (ours, theirs): (u32, u32),
) -> BTreeMap<String, Vec<Value>> {
    let own = |kind: &str, version: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": format!("metallb.io/{version}"), "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-{kind}"), "resourceVersion": "1"},
            "spec": spec,
        })
    };
    let path = |version: &str, plural: &str| format!("/apis/metallb.io/{version}/namespaces/{NAMESPACE}/{plural}");
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NODE, "uid": "uid-node", "resourceVersion": "1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": node_address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    let peer = json!({"myASN": ours, "peerASN": theirs, "peerAddress": router, "connectTime": "1s"});
    BTreeMap::from([
        ("/api/v1/nodes".to_owned(), vec![node]),
        (
            path("v1beta1", "ipaddresspools"),
            vec![own("IPAddressPool", "v1beta1", "all", json!({"addresses": ["10.0.0.0/15"]}))],
        ),
        (
            path("v1beta1", "bgpadvertisements"),
            vec![own("BGPAdvertisement", "v1beta1", "all", json!({"ipAddressPools": ["all"]}))],
        ),
        (path("v1beta2", "bgppeers"), vec![own("BGPPeer", "v1beta2", "router", peer)]),
        (SERVICES.to_owned(), (0..services).map(service).collect()),
        (SLICES.to_owned(), (0..services).map(|number| slice(number, Endpoints::Ready)).collect()),
    ])
}
