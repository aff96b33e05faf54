//! BGPPeer: `v1beta2`, the stored version, and the deprecated `v1beta1` (contract 1.2, 1.3).
//!
//! All of the program works on `v1beta2`. [`v1beta1`] exists for its schema; [`crate::conversion`] turns one into the
//! other.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::null_to_default;
use crate::{LabelSelector, ObjectMeta};

/// BGPPeer is a router that the nodes announce addresses to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BGPPeer {
    /// Its name; advertisements refer to it.
    pub metadata: ObjectMeta,
    /// Where the router is, and how to talk to it.
    pub spec: BGPPeerSpec,
}

/// BGPPeerSpec says where the router is and how to talk to it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["myASN"]))]
pub struct BGPPeerSpec {
    /// AS number of this end of the session.
    #[serde(rename = "myASN")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub my_asn: i64,

    /// AS number that the router must have. Give either this or dynamicASN.
    #[serde(rename = "peerASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub peer_asn: Option<i64>,

    /// Accepts a router of any AS number: "internal" for the same one as ours, "external" for any other. Give either
    /// this or peerASN.
    #[serde(rename = "dynamicASN", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["internal", "external"]))]
    pub dynamic_asn: Option<String>,

    /// AS number to show to this router instead of myASN, which does not appear in the path then. External sessions
    /// only.
    #[serde(rename = "localASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub local_asn: Option<i64>,

    /// IP address of the router. Give one of this, interface, peerGateway and peerRange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,

    /// Network interface of the node with the router at its other end (unnumbered peering). Give either this or
    /// peerAddress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,

    /// Takes the node's default gateway of this IP family for the router, so that one BGPPeer is enough for nodes that
    /// have different routers. Instead of peerAddress. Not known to other implementations of MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["IPv4", "IPv6"]))]
    pub peer_gateway: Option<String>,

    /// Accepts every router that connects from this network, in CIDR notation; the speaker listens then. Instead of
    /// peerAddress. Not known to other implementations of MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_range: Option<String>,

    /// How many routers may connect from peerRange at the same time; 16 if left out. Not known to other
    /// implementations of MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 1, max = 1000))]
    pub peer_range_limit: Option<i64>,

    /// Who opens the connection: "active" if the speaker does, "passive" if it waits for the router, "both" for either.
    /// The speaker listens unless it is "active", which it is if left out. Not known to other implementations of
    /// MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["active", "passive", "both"]))]
    pub connection_mode: Option<String>,

    /// IP address of the node to connect from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<String>,

    /// TCP port of the router.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 1, max = 16384), extend("default" = 179))]
    pub peer_port: Option<i64>,

    /// Time after which a silent router counts as dead, such as 90s: at least 3s, or 0s for never. The shorter one of
    /// both ends is used. Fractions of a second are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<String>,

    /// Time between keepalive messages, such as 30s. A third of the hold time if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<String>,

    /// Time between attempts to connect, in whole seconds, such as 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('65535s')",
            "message": "connect time should be between 1 seconds to 65535",
        },
        {
            "rule": "duration(self).getMilliseconds() % 1000 == 0",
            "message": "connect time should contain a whole number of seconds",
        },
    ]))]
    pub connect_time: Option<String>,

    /// BGP identifier to use in this session, in the form of an IPv4 address.
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,

    /// Nodes that run this session, by label. All nodes if left out.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// Password of the session (TCP MD5), readable by whoever may read this object. Better use passwordSecret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,

    /// Secret that holds the password of the session: of type kubernetes.io/basic-auth, under the key "password", in
    /// MetalLB's own namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretReference>,

    /// Keys that sign the packets of the session (TCP-AO, RFC 5925), instead of a password. The session begins with the
    /// first; the router can ask for any other while it lasts. The nodes need Linux 6.7 with TCP-AO built in: without
    /// it the session stays down. Not known to other implementations of MetalLB.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub tcp_authentication_keys: Vec<TCPAuthenticationKey>,

    /// Name of the BFDProfile to watch the router with. No BFD if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd_profile: Option<String>,

    /// Asks the router to keep our routes while a speaker restarts. Cannot be changed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "self == oldSelf", "message": "EnableGracefulRestart cannot be changed after creation"},
    ]))]
    pub enable_graceful_restart: Option<bool>,

    /// How long the router is asked to keep our routes while a speaker restarts, in whole seconds, such as 60s; 120s if
    /// left out. Needs enableGracefulRestart. Not known to other implementations of MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graceful_restart_time: Option<String>,

    /// Asks the router to keep our routes also when a session ends by an error or by silence (RFC 8538). It then keeps
    /// those of a node that has died, too, until the time is over. Needs enableGracefulRestart. Not known to other
    /// implementations of MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graceful_restart_notification: Option<bool>,

    /// Whether the router is more than one hop away. External sessions only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ebgp_multi_hop: Option<bool>,

    /// Drops packets of the session that come from farther away than this many hops, 1 for a router on the link (TTL
    /// security, RFC 5082). The router has to send with a TTL of 255. Not known to other implementations of MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 1, max = 254))]
    pub ttl_security_hops: Option<i64>,

    /// Linux VRF of the node to connect from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,

    /// Has no effect; kept so that older objects can still be read.
    #[serde(rename = "disableMP", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub disable_mp: Option<bool>,

    /// Whether to announce addresses of both IP families in this session, not only those of the session's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub dual_stack_address_family: Option<bool>,
}

impl BGPPeerSpec {
    /// The password and the name of the Secret with one (contract 4.2 rule 16); empty ones are none.
    pub fn passwords(&self) -> [Option<&str>; 2] {
        let reference = self.password_secret.as_ref().and_then(|reference| reference.name.as_deref());
        [self.password.as_deref(), reference].map(|text| text.filter(|text| !text.is_empty()))
    }

    /// Whether connections are to have a password or keys, whether or not they can be found.
    pub fn is_authenticated(&self) -> bool {
        self.passwords().iter().any(Option::is_some) || !self.tcp_authentication_keys.is_empty()
    }

    /// Takes both away, for whoever needs to know neither.
    pub fn remove_authentication(&mut self) {
        (self.password, self.password_secret) = (None, None);
        self.tcp_authentication_keys.clear();
    }
}

impl fmt::Debug for BGPPeerSpec {
    /// Everything but the password, which is told to be there or not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = BGPPeerSpec { password: self.password.as_ref().map(|_| "***".to_owned()), ..self.clone() };
        match serde_json::to_value(&shown) {
            Ok(fields) => write!(f, "BGPPeerSpec {fields}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

/// SecretReference names a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretReference {
    /// Name of the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace of the Secret. Has no effect: the Secret is looked for in MetalLB's own namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// TCPAuthenticationKey is a key that signs the packets of a session (TCP-AO). Both ends have the same, with the two
/// identifiers the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["algorithm", "receiveID", "secretName", "sendID"]))]
pub struct TCPAuthenticationKey {
    /// Identifier in the packets of the speaker: what the router receives.
    #[serde(rename = "sendID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 0, max = 255))]
    pub send_id: Option<i64>,

    /// Identifier in the packets of the router: what it sends.
    #[serde(rename = "receiveID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 0, max = 255))]
    pub receive_id: Option<i64>,

    /// How packets are signed: "hmac-sha-1-96" or "aes-128-cmac-96".
    #[schemars(extend("enum" = ["hmac-sha-1-96", "aes-128-cmac-96"]))]
    pub algorithm: String,

    /// Name of the Secret that holds the key, as text: of type kubernetes.io/basic-auth, under the key "password", in
    /// MetalLB's own namespace.
    pub secret_name: String,
}

/// The deprecated version.
pub mod v1beta1 {
    use super::{Deserialize, JsonSchema, Serialize, null_to_default};
    use std::collections::BTreeMap;

    /// BGPPeerSpec says where the router is and how to talk to it.
    #[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", default)]
    #[schemars(extend("required" = ["myASN", "peerASN", "peerAddress"]))]
    pub struct BGPPeerSpec {
        /// AS number of this end of the session.
        #[serde(rename = "myASN")]
        #[schemars(range(min = 0, max = 4_294_967_295_i64))]
        pub my_asn: i64,

        /// AS number that the router must have.
        #[serde(rename = "peerASN")]
        #[schemars(range(min = 0, max = 4_294_967_295_i64))]
        pub peer_asn: i64,

        /// IP address of the router.
        pub peer_address: String,

        /// IP address of the node to connect from.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub source_address: Option<String>,

        /// TCP port of the router; 179 if 0 or left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(schema_with = "crate::crd::plain_integer", range(min = 0, max = 16384))]
        pub peer_port: Option<i64>,

        /// Time after which a silent router counts as dead, such as 90s: at least 3s, or 0s for never.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub hold_time: Option<String>,

        /// Time between keepalive messages, such as 30s. A third of the hold time if left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub keepalive_time: Option<String>,

        /// BGP identifier to use in this session, in the form of an IPv4 address.
        #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
        pub router_id: Option<String>,

        /// Nodes that run this session, by label. All nodes if left out.
        #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
        pub node_selectors: Vec<NodeSelector>,

        /// Password of the session (TCP MD5), readable by whoever may read this object.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub password: Option<String>,

        /// Name of the BFDProfile to watch the router with. No BFD if left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bfd_profile: Option<String>,

        /// Whether the router is more than one hop away. External sessions only.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ebgp_multi_hop: Option<bool>,
    }

    /// NodeSelector selects nodes by their labels. All of its conditions have to hold.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", default)]
    pub struct NodeSelector {
        /// Labels that must be there with exactly these values.
        #[serde(deserialize_with = "null_to_default", skip_serializing_if = "BTreeMap::is_empty")]
        pub match_labels: BTreeMap<String, String>,
        /// Conditions on labels.
        #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
        pub match_expressions: Vec<MatchExpression>,
    }

    /// MatchExpression is one condition on a label.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
    #[schemars(extend("required" = ["key", "operator", "values"]))]
    #[serde(default)]
    pub struct MatchExpression {
        /// The label's key.
        pub key: String,
        /// In, NotIn, Exists or DoesNotExist.
        pub operator: String,
        /// The values to compare with.
        #[serde(deserialize_with = "null_to_default")]
        #[schemars(length(min = 1))]
        pub values: Vec<String>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_does_not_print_its_password() {
        let spec = BGPPeerSpec { my_asn: 64512, password: Some("hunter2".to_owned()), ..BGPPeerSpec::default() };
        let text = format!("{spec:?}");
        assert!(!text.contains("hunter2") && text.contains("***") && text.contains("64512"), "{text}");
    }
}
