//! Any object that MetalLB reads, as one closed type.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::core::{ConfigMap, EndpointSlice, Namespace, Node, Secret, Service};
use crate::{
    BFDProfile, BGPAdvertisement, BGPPeer, Community, ConfigurationState, IPAddressPool, Key, L2Advertisement,
    ObjectMeta, ServiceBGPStatus, ServiceL2Status,
};

/// A kind of object: where the API serves it and how to read it.
pub trait Resource: Serialize + DeserializeOwned + Clone + fmt::Debug + PartialEq + Send + Sync + 'static {
    /// Which kind it is.
    const KIND: Kind;

    /// Name, labels and so on.
    fn metadata(&self) -> &ObjectMeta;

    /// The object as one of any kind.
    fn into_object(self) -> Object;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $type:ty, $group:literal, $version:literal, $plural:literal, $scope:ident;)*) => {
        /// The kinds of object that MetalLB reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind,)*];

            /// The name, as in `kind:`.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind),)* }
            }

            /// The API group; empty for the core group.
            pub const fn group(self) -> &'static str {
                match self { $(Kind::$kind => $group,)* }
            }

            /// The version of the group.
            pub const fn version(self) -> &'static str {
                match self { $(Kind::$kind => $version,)* }
            }

            /// The name in URLs.
            pub const fn plural(self) -> &'static str {
                match self { $(Kind::$kind => $plural,)* }
            }

            /// Whether its objects live in a namespace.
            pub const fn is_namespaced(self) -> bool {
                match self { $(Kind::$kind => kinds!(@$scope),)* }
            }
        }

        /// An object of any kind that MetalLB reads.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(clippy::large_enum_variant, reason = "objects are read one by one; a box would cost more than the copy")]
        pub enum Object {
            $($(#[$doc])* $kind($type),)*
        }

        impl Object {
            /// Which kind it is.
            pub const fn kind(&self) -> Kind {
                match self { $(Object::$kind(_) => Kind::$kind,)* }
            }

            /// Name, labels and so on.
            pub const fn metadata(&self) -> &ObjectMeta {
                match self { $(Object::$kind(object) => &object.metadata,)* }
            }

            /// Name, labels and so on, to change.
            pub const fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Object::$kind(object) => &mut object.metadata,)* }
            }

            /// Reads an object of this kind from its JSON text, without a tree of values in between.
            pub fn from_json(kind: Kind, text: &str) -> Result<Object, serde_json::Error> {
                match kind { $(Kind::$kind => serde_json::from_str(text).map(Object::$kind),)* }
            }

            /// Reads an object of this kind.
            pub fn from_value(kind: Kind, value: serde_json::Value) -> Result<Object, serde_json::Error> {
                match kind { $(Kind::$kind => serde_json::from_value(value).map(Object::$kind),)* }
            }

            /// The object as a JSON value, without `apiVersion` and `kind`.
            pub fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
                match self { $(Object::$kind(object) => serde_json::to_value(object),)* }
            }
        }

        impl Serialize for Object {
            /// The object, without `apiVersion` and `kind`.
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Object::$kind(object) => object.serialize(serializer),)* }
            }
        }

        $(impl Resource for $type {
            const KIND: Kind = Kind::$kind;
            fn metadata(&self) -> &ObjectMeta { &self.metadata }
            fn into_object(self) -> Object { Object::$kind(self) }
        })*
    };
    (@Namespaced) => { true };
    (@Cluster) => { false };
}

kinds! {
    /// A Service.
    Service: Service, "", "v1", "services", Namespaced;
    /// The backends of a Service, or a part of them.
    EndpointSlice: EndpointSlice, "discovery.k8s.io", "v1", "endpointslices", Namespaced;
    /// A machine of the cluster.
    Node: Node, "", "v1", "nodes", Cluster;
    /// A namespace.
    Namespace: Namespace, "", "v1", "namespaces", Cluster;
    /// A secret; the BGP passwords are in some.
    Secret: Secret, "", "v1", "secrets", Namespaced;
    /// Values by key; of interest for raw FRR configuration alone.
    ConfigMap: ConfigMap, "", "v1", "configmaps", Namespaced;
    /// A set of addresses.
    IPAddressPool: IPAddressPool, "metallb.io", "v1beta1", "ipaddresspools", Namespaced;
    /// A router to announce to.
    BGPPeer: BGPPeer, "metallb.io", "v1beta2", "bgppeers", Namespaced;
    /// How addresses are announced over BGP.
    BGPAdvertisement: BGPAdvertisement, "metallb.io", "v1beta1", "bgpadvertisements", Namespaced;
    /// How addresses are announced on the local segment.
    L2Advertisement: L2Advertisement, "metallb.io", "v1beta1", "l2advertisements", Namespaced;
    /// Timing of failure detection.
    BFDProfile: BFDProfile, "metallb.io", "v1beta1", "bfdprofiles", Namespaced;
    /// Names for BGP communities.
    Community: Community, "metallb.io", "v1beta1", "communities", Namespaced;
    /// Which node announces a Service on the local segment.
    ServiceL2Status: ServiceL2Status, "metallb.io", "v1beta1", "servicel2statuses", Namespaced;
    /// To which peers a node announces a Service.
    ServiceBGPStatus: ServiceBGPStatus, "metallb.io", "v1beta1", "servicebgpstatuses", Namespaced;
    /// Whether the configuration is accepted.
    ConfigurationState: ConfigurationState, "metallb.io", "v1beta1", "configurationstates", Namespaced;
}

/// The API group of MetalLB's own kinds.
pub const GROUP: &str = "metallb.io";

impl Kind {
    /// True for the kinds in which an operator says what MetalLB shall do (contract section 1).
    pub const fn is_configuration(self) -> bool {
        matches!(
            self,
            Kind::IPAddressPool
                | Kind::BGPPeer
                | Kind::BGPAdvertisement
                | Kind::L2Advertisement
                | Kind::BFDProfile
                | Kind::Community
        )
    }

    /// True for MetalLB's own kinds.
    pub fn is_ours(self) -> bool {
        self.group() == GROUP
    }

    /// `group/version`, or the version alone for the core group: as in `apiVersion:`.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// The kind with this name in this group, whatever the version.
    pub fn find(api_version: &str, name: &str) -> Option<Kind> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Kind::ALL.iter().copied().find(|kind| kind.name() == name && kind.group() == group)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names an object: its kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The kind.
    pub kind: Kind,
    /// Namespace and name.
    pub key: Key,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

impl Object {
    /// Kind, namespace and name.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef { kind: self.kind(), key: self.metadata().key() }
    }
}
