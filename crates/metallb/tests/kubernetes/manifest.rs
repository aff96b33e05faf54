//! The plain manifest that is made from the chart: the one place where rights are written down.

use serde::Deserialize;

const MANIFEST: &str = include_str!("../../../../manifests/metallb-native.yaml");

/// The accounts of controller and speakers, with their roles, as a stream of documents.
pub(crate) fn rights() -> String {
    let is_about_rights = |document: &&str| {
        ["ServiceAccount", "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding"]
            .iter()
            .any(|kind| document.contains(&format!("\nkind: {kind}\n")))
    };
    documents().filter(is_about_rights).collect::<Vec<_>>().join("\n---\n")
}

/// What has the API server ask about objects: the Service and the webhook configuration, as a stream of documents.
pub(crate) fn webhooks() -> String {
    let is_about_webhooks = |document: &&str| {
        ["Service", "ValidatingWebhookConfiguration"].iter().any(|kind| document.contains(&format!("\nkind: {kind}\n")))
    };
    documents().filter(is_about_webhooks).collect::<Vec<_>>().join("\n---\n")
}

fn documents() -> impl Iterator<Item = &'static str> {
    MANIFEST.split("\n---\n")
}

/// A role, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct Role {
    pub(crate) kind: String,
    pub(crate) metadata: Name,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Name {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) api_groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    #[serde(default)]
    pub(crate) resource_names: Vec<String>,
    pub(crate) verbs: Vec<String>,
}

/// All roles, of the cluster and of the namespace.
pub(crate) fn roles() -> Vec<Role> {
    let is_role = |document: &&str| document.contains("\nkind: ClusterRole\n") || document.contains("\nkind: Role\n");
    documents().filter(is_role).map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}
