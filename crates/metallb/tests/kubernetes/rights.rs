//! Contract 7.6, "or less": each right that the manifest gives is used, and without it that use is denied.
//!
//! First everything is made to happen that controller and speakers do. Then, for each verb of each resource in the roles, a
//! request must be in the audit log that only it allows. Last, each is taken away in turn, and the API server is asked about
//! that request again.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::{AuditedRequest, NAMESPACE, User};
use lab::{Lab, eventually};
use serde_json::{Value, json};

use crate::site::{LIMIT, SEGMENT, Site, configuration, on_site, service, slices};
use crate::{manifest, metrics};

/// Rights of parts that are on their way: user, resource, verbs. A right that is used does not belong here, and the test says so.
const AWAITED: [(User, &str, &[&str]); 7] = [
    // Webhooks.
    (User::Controller, "validatingwebhookconfigurations", &["get", "patch"]),
    (User::Controller, "customresourcedefinitions", &["get", "patch"]),
    (User::Controller, "bfdprofiles", &["list", "watch"]),
    (User::Controller, "secrets", &["create", "get", "list", "watch", "patch"]),
    // Memberlist.
    (User::Controller, "deployments", &["get"]),
    (User::Speaker, "pods", &["get", "list"]),
    // The Lease of the controller.
    (User::Controller, "leases", &["create", "get", "update"]),
];

/// One verb of one resource in one role.
#[derive(Clone, Debug)]
struct Right {
    /// The path of the role in the API.
    role: String,
    user: User,
    is_of_namespace: bool,
    group: String,
    resource: String,
    names: Vec<String>,
    verb: String,
}

impl Right {
    fn allows(&self, request: &AuditedRequest) -> bool {
        request.user == self.user.name()
            && request.verb == self.verb
            && request.resource == self.resource
            && (!self.is_of_namespace || request.namespace == NAMESPACE)
            && (self.names.is_empty() || self.names.contains(&request.name))
    }

    fn is_awaited(&self) -> bool {
        let resource = self.resource.as_str();
        AWAITED.iter().any(|(user, awaited, verbs)| {
            // The status of an object is written with it.
            let is_same = *awaited == resource || resource.strip_suffix("/status") == Some(awaited);
            *user == self.user && is_same && verbs.contains(&self.verb.as_str())
        })
    }

    fn rule(&self) -> Value {
        json!({
            "apiGroups": [self.group], "resources": [self.resource], "resourceNames": self.names, "verbs": [self.verb],
        })
    }
}

pub(crate) fn rights(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let requests = everything(site)?;
        let rights = given();
        for request in &requests {
            let by = rights.iter().filter(|right| right.allows(request)).count();
            ensure!(by == 1, "{by} rights allow {request:?}");
        }
        let mut uses = Vec::new();
        for right in &rights {
            match requests.iter().find(|request| right.allows(request)) {
                Some(request) if !right.is_awaited() => uses.push((right.clone(), request.clone())),
                Some(request) => anyhow::bail!("{right:?} is used by {request:?}: it is not awaited any more"),
                None => ensure!(right.is_awaited(), "nobody uses {right:?}"),
            }
        }
        eprintln!("measured: {} rights are used, {} are awaited", uses.len(), rights.len() - uses.len());
        for (right, request) in &uses {
            let without = |other: &Right| format!("{other:?}") != format!("{right:?}");
            set_role(site, &right.role, rights.iter().filter(|other| without(other)))?;
            wait_allowed(site, right, request, false)?;
            set_role(site, &right.role, rights.iter())?;
            wait_allowed(site, right, request, true)?;
        }
        Ok(())
    })
}

/// The rights in the manifest, one by one.
fn given() -> Vec<Right> {
    let mut rights = Vec::new();
    for role in manifest::roles() {
        let name = &role.metadata.name;
        let user = if name.ends_with("controller") { User::Controller } else { User::Speaker };
        let is_of_namespace = role.kind == "Role";
        let path = if is_of_namespace { format!("namespaces/{NAMESPACE}/roles") } else { "clusterroles".to_owned() };
        for rule in role.rules {
            for (resource, verb) in
                rule.resources.iter().flat_map(|resource| rule.verbs.iter().map(move |verb| (resource, verb)))
            {
                assert_eq!(rule.api_groups.len(), 1, "one group for each rule");
                rights.push(Right {
                    role: format!("/apis/rbac.authorization.k8s.io/v1/{path}/{name}"),
                    user,
                    is_of_namespace,
                    group: rule.api_groups[0].clone(),
                    resource: resource.clone(),
                    names: rule.resource_names.clone(),
                    verb: verb.clone(),
                });
            }
        }
    }
    rights
}

/// Has controller and speakers do all they can, ends them, and returns what they asked of the API server.
fn everything(site: &Site) -> Result<Vec<AuditedRequest>> {
    let (controller, speakers) = (site.controller()?, site.speakers()?);
    let nodes = [&site.nodes[0]];
    let mut objects = configuration(4);
    objects.push(service("lan", "segment"));
    objects.extend(slices("lan", &nodes)?);
    site.apply(&objects)?;
    site.wait_ingress("lan", &SEGMENT)?;
    // The same events a second time: their count is raised.
    let assigned = || count_of(site, "lan", "nodeAssigned");
    eventually(LIMIT, || assigned().and_then(|count| ensure_at_least(count, 1)))?;
    for slice in slices("lan", &nodes)? {
        let name = slice["metadata"]["name"].as_str().context("no name")?;
        site.cluster.delete(&format!("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/{name}"))?;
    }
    eventually(LIMIT, || {
        ensure!(speakers[0].log().contains("serviceWithdrawn"), "not withdrawn");
        Ok(())
    })?;
    site.apply(&slices("lan", &nodes)?)?;
    eventually(LIMIT, || assigned().and_then(|count| ensure_at_least(count, 2)))?;
    for pool in ["none", "neither", "none"] {
        site.apply(&[service("wrong", pool)])?;
        eventually(LIMIT, || {
            let events = site.events("wrong")?;
            ensure!(events.iter().any(|(_, message, _)| message.contains(&format!("\"{pool}\""))), "{events:?}");
            Ok(())
        })?;
    }
    eventually(LIMIT, || count_of(site, "wrong", "AllocationFailed").and_then(|count| ensure_at_least(count, 2)))?;
    metrics::scrape(site)?;
    // An API server that has just learned of a kind may let its readers wait a little.
    for state in ["controller", "speaker-node1", "speaker-node2"] {
        eventually(LIMIT, || {
            let object = site.object("configurationstates", state)?;
            ensure!(object["status"]["result"] == "Valid", "{object}");
            Ok(())
        })?;
    }
    // A watch is noted when it ends.
    drop((controller, speakers));
    eventually(LIMIT, || {
        let requests = site.cluster.audit()?;
        let of_verb = |verb: &str| -> BTreeSet<(&str, &str)> {
            let those = requests.iter().filter(|request| request.verb == verb);
            those.map(|request| (request.user.as_str(), request.resource.as_str())).collect()
        };
        let (listed, watched) = (of_verb("list"), of_verb("watch"));
        let open: Vec<_> = listed.difference(&watched).collect();
        ensure!(open.is_empty(), "still watched: {open:?}");
        Ok(requests)
    })
}

/// How often an event of this reason happened, by the event that happened most.
fn count_of(site: &Site, service: &str, reason: &str) -> Result<u64> {
    let list = site.cluster.get("/api/v1/namespaces/default/events")?;
    let events = list["items"].as_array().context("a list without items")?.iter();
    let ours = events.filter(|event| event["reason"] == reason && event["involvedObject"]["name"] == service);
    Ok(ours.filter_map(|event| event["count"].as_u64()).max().unwrap_or_default())
}

fn ensure_at_least(count: u64, wanted: u64) -> Result<()> {
    ensure!(count >= wanted, "{count} times, not {wanted}");
    Ok(())
}

fn set_role<'a>(site: &Site, role: &str, rights: impl Iterator<Item = &'a Right>) -> Result<()> {
    let rules: Vec<Value> = rights.filter(|right| right.role == role).map(Right::rule).collect();
    site.cluster.patch(role, &json!({"rules": rules})).map(drop)
}

/// Asks the API server whether it would allow this request, until it says what is wanted.
fn wait_allowed(site: &Site, right: &Right, request: &AuditedRequest, wanted: bool) -> Result<()> {
    let (resource, subresource) = request.resource.split_once('/').unwrap_or((&request.resource, ""));
    let review = json!({"spec": {
        "user": request.user,
        "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{NAMESPACE}"), "system:authenticated"],
        "resourceAttributes": {
            "group": right.group, "resource": resource, "subresource": subresource, "verb": request.verb,
            "namespace": request.namespace, "name": request.name,
        },
    }});
    eventually(LIMIT, || {
        let answer = site.cluster.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)?;
        ensure!(
            answer["status"]["allowed"] == wanted,
            "with {right:?} changed, {request:?} is judged: {}",
            answer["status"]
        );
        Ok(())
    })
}
