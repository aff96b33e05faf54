//! Community (contract 1.8).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ObjectMeta;
use crate::meta::null_to_default;

/// Community gives names to BGP communities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Community {
    /// Its name, which nothing refers to: the names it defines do not depend on it.
    pub metadata: ObjectMeta,
    /// The names, and what they stand for.
    pub spec: CommunitySpec,
}

/// CommunitySpec is a list of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CommunitySpec {
    /// The names. No name may be defined twice, in this object or in another one.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<CommunityAlias>,
}

/// CommunityAlias is a name for a BGP community.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CommunityAlias {
    /// The name, to be used in BGPAdvertisements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The community: 65000:100 or large:65000:1:2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}
