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

use crate::site::{LIMIT, ROUTED, SEGMENT, Site, configuration, on_site, service, slices};
use crate::{manifest, metrics, webhooks};

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
            && (request.verb == self.verb || (self.verb == "create" && has_created(request)))
            && request.resource == self.resource
            && (!self.is_of_namespace || request.namespace == NAMESPACE)
            && (self.names.is_empty() || self.names.contains(&request.name))
    }

    fn rule(&self) -> Value {
        json!({
            "apiGroups": [self.group], "resources": [self.resource], "resourceNames": self.names, "verbs": [self.verb],
        })
    }
}

pub(crate) fn rights(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let mut requests = everything(site)?;
        // What is applied and was not there is created.
        let creating = requests.iter().filter(|request| request.verb == "patch" && request.code == 201);
        let creating: Vec<_> =
            creating.map(|request| AuditedRequest { verb: "create".to_owned(), ..request.clone() }).collect();
        requests.extend(creating);
        let rights = given();
        for request in &requests {
            let by = rights.iter().filter(|right| right.allows(request)).count();
            let wanted = if has_created(request) { 2 } else { 1 };
            ensure!(by == wanted, "{by} rights allow {request:?}");
        }
        let mut uses = Vec::new();
        for right in &rights {
            let request = requests.iter().find(|request| right.allows(request));
            uses.push((right, request.with_context(|| format!("nobody uses {right:?}"))?));
        }
        eprintln!("measured: {} rights are used", uses.len());
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

/// True for a server-side apply that made its object, for which it needs the right to create as well.
fn has_created(request: &AuditedRequest) -> bool {
    request.verb == "patch" && request.code == 201
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
    site.webhooks(&[&site.manager])?;
    webhooks::ask_for_conversion(site)?;
    let (controller, speakers) = (site.controller()?, site.speakers()?);
    let nodes = [&site.nodes[0]];
    webhooks::lose_certificate(site)?;
    let mut objects = configuration(4);
    objects.push(service("lan", "segment"));
    objects.extend(slices("lan", &nodes)?);
    objects.push(service("routed", "routed"));
    objects.extend(slices("routed", &nodes)?);
    site.apply(&objects)?;
    site.wait_ingress("lan", &SEGMENT)?;
    site.wait_ingress("routed", &ROUTED)?;
    // The same events a second time: their count is raised.
    let assigned = || count_of(site, "lan", "nodeAssigned");
    eventually(LIMIT, || assigned().and_then(|count| ensure_at_least(count, 1)))?;
    let statuses = || -> Result<usize> {
        let list = site.cluster.get(&format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/servicebgpstatuses"))?;
        Ok(list["items"].as_array().context("a list without items")?.len())
    };
    eventually(LIMIT, || statuses().and_then(|count| ensure_at_least(u64::try_from(count)?, 1)))?;
    site.cluster.delete("/api/v1/namespaces/default/services/routed")?;
    eventually(LIMIT, || {
        let count = statuses()?;
        ensure!(count == 0, "{count} are left");
        Ok(())
    })?;
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
    announce_by_bgp(site)?;
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
            // Pods are listed from time to time.
            let those = requests.iter().filter(|request| request.verb == verb && request.resource != "pods");
            those.map(|request| (request.user.as_str(), request.resource.as_str())).collect()
        };
        let (mut listed, watched) = (of_verb("list"), of_verb("watch"));
        let controller = User::Controller.name();
        // Single objects are watched without having been listed.
        let single = ["customresourcedefinitions", "secrets", "validatingwebhookconfigurations"];
        listed.extend(single.map(|resource| (controller.as_str(), resource)));
        let open: Vec<_> = listed.difference(&watched).collect();
        ensure!(open.is_empty(), "still watched: {open:?}");
        Ok(requests)
    })
}

/// Has a Service announced to a router, and no more: its ServiceBGPStatuses come, change and go, and so does its
/// ServiceL2Status.
fn announce_by_bgp(site: &Site) -> Result<()> {
    let router = site.frr(None)?;
    let nodes = [&site.nodes[0], &site.nodes[1]];
    site.apply(&[vec![service("routed", "routed")], slices("routed", &nodes)?].concat())?;
    site.wait_ingress("routed", &ROUTED)?;
    site.wait_routes(&router, &[0, 1])?;
    let list = |plural: &str| -> Result<usize> {
        let list = site.cluster.get(&format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/{plural}"))?;
        Ok(list["items"].as_array().context("a list without items")?.len())
    };
    eventually(LIMIT, || ensure_at_least(list("servicebgpstatuses")?.try_into()?, 2))?;
    site.cluster.kubectl(&["delete", "service", "routed", "lan"])?;
    eventually(LIMIT, || {
        let left = (list("servicebgpstatuses")?, list("servicel2statuses")?);
        ensure!(left == (0, 0), "left: {left:?}");
        Ok(())
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
            "group": right.group, "resource": resource, "subresource": subresource, "verb": right.verb,
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
