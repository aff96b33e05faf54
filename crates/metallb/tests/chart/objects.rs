//! What holds of the objects whatever the values are.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use crate::helm::{Rendering, variants};

/// Each variant, and the plain manifests.
fn each(check: impl Fn(&str, &Rendering)) {
    for (name, values) in variants() {
        check(&name, &Rendering::of("metallb", &["--values", values.to_str().unwrap()]).unwrap());
    }
    check("plain", &Rendering::of("metallb", &["--set", "naming=plain"]).unwrap());
}

/// Pod Security, profile "restricted", but for what a speaker is for: the network of its node, and packet sockets.
#[test]
fn pods_may_do_as_little_as_possible() {
    each(|variant, rendering| {
        for (owner, pod) in rendering.pods() {
            let (pod, is_speaker) = (&pod["spec"], owner["kind"] == "DaemonSet");
            let context = &pod["securityContext"];
            assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}), "{variant}");
            if !is_speaker {
                assert_eq!(context["runAsNonRoot"], true, "{variant}");
                assert_eq!(context["runAsUser"], 65534, "{variant}");
            }
            assert_eq!(pod["hostNetwork"].as_bool().unwrap_or_default(), is_speaker, "{variant}");
            assert!(pod.get("hostPID").is_none() && pod.get("hostIPC").is_none(), "{variant}");
            let mut wanted = json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            });
            if is_speaker {
                wanted["capabilities"]["add"] = json!(["NET_RAW"]);
            }
            assert_eq!(pod["containers"][0]["securityContext"], wanted, "{variant}");
            let volumes = pod["volumes"].as_array().cloned().unwrap_or_default();
            assert!(volumes.iter().all(|volume| volume.get("hostPath").is_none()), "{variant}");
        }
    });
}

/// A selector can never be changed, so that it must be that of the Go implementation, and the pods' labels have to have it;
/// Services and policies have to find the same pods.
#[test]
fn selectors_find_the_pods() {
    each(|variant, rendering| {
        let mut selectors = Vec::new();
        for (owner, pod) in rendering.pods() {
            selectors.push((&owner["spec"]["selector"]["matchLabels"], &owner["metadata"]["labels"]));
            selectors.push((&owner["spec"]["selector"]["matchLabels"], &pod["metadata"]["labels"]));
        }
        let labels: Vec<&Value> = rendering.pods().into_iter().map(|(_, pod)| &pod["metadata"]["labels"]).collect();
        for (selector, labels) in &selectors {
            let keys: Vec<&String> = selector.as_object().unwrap().keys().collect();
            match variant {
                "plain" => assert_eq!(keys, ["app", "component"]),
                _ => assert_eq!(
                    keys,
                    ["component", "instance", "name"]
                        .map(|key| format!("app.kubernetes.io/{key}"))
                        .iter()
                        .collect::<Vec<_>>()
                ),
            }
            assert!(has(labels, selector), "{variant}: {labels}");
        }
        let services = rendering.kind("Service").into_iter().map(|service| &service["spec"]["selector"]);
        let policies = rendering.kind("NetworkPolicy").into_iter();
        let policies = policies.filter_map(|policy| policy["spec"]["podSelector"].get("matchLabels"));
        let monitors =
            rendering.kind("PodMonitor").into_iter().map(|monitor| &monitor["spec"]["selector"]["matchLabels"]);
        for selector in services.chain(policies).chain(monitors) {
            assert_eq!(labels.iter().filter(|labels| has(labels, selector)).count(), 1, "{variant}: {selector}");
        }
        for monitor in rendering.kind("ServiceMonitor") {
            let found =
                |service: &&&Value| has(&service["metadata"]["labels"], &monitor["spec"]["selector"]["matchLabels"]);
            assert_eq!(rendering.kind("Service").iter().filter(found).count(), 1, "{variant}: {monitor}");
        }
    });
}

fn has(labels: &Value, selector: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// What a pod refers to is part of the chart, or made by the controller or the operator.
#[test]
fn what_is_referred_to_is_there() {
    each(|variant, rendering| {
        let names = |kind: &str| -> BTreeSet<&str> {
            rendering.kind(kind).into_iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
        };
        for binding in [rendering.kind("RoleBinding"), rendering.kind("ClusterRoleBinding")].concat() {
            let role = &binding["roleRef"];
            assert!(
                names(role["kind"].as_str().unwrap()).contains(role["name"].as_str().unwrap()),
                "{variant}: {role}"
            );
            for subject in binding["subjects"].as_array().unwrap() {
                let name = subject["name"].as_str().unwrap();
                let is_ours = names("ServiceAccount").contains(name) || ["prometheus", "shared"].contains(&name);
                assert!(is_ours, "{variant}: {subject}");
            }
        }
        for (_, pod) in rendering.pods() {
            let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
            let volume_names: BTreeSet<&str> = volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
            let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
            let mounted: BTreeSet<&str> = mounts.iter().map(|mount| mount["name"].as_str().unwrap()).collect();
            assert_eq!(volume_names, mounted, "{variant}");
            let needed = volumes.iter().filter_map(|volume| volume["secret"]["secretName"].as_str());
            for secret in needed {
                let from_elsewhere =
                    ["memberlist", "metallb-memberlist", "gossip", "controller-metrics", "speaker-metrics"];
                assert!(names("Secret").contains(secret) || from_elsewhere.contains(&secret), "{variant}: {secret}");
            }
        }
        for webhook in rendering.kind("ValidatingWebhookConfiguration") {
            for webhook in webhook["webhooks"].as_array().unwrap() {
                let service = webhook["clientConfig"]["service"]["name"].as_str().unwrap();
                assert!(names("Service").contains(service), "{variant}: {service}");
            }
        }
    });
}

/// The program that the chart starts understands the arguments that it gives, also under the names that the Go implementation
/// has for its programs: it fails later, for want of a cluster, and not for its arguments (which would be status 2).
#[test]
fn the_program_takes_the_arguments() {
    let image = crate::tempdir("image");
    std::fs::create_dir(&image).unwrap();
    for name in ["metallb", "controller", "speaker"] {
        symlink(env!("CARGO_BIN_EXE_metallb"), image.join(name)).unwrap();
    }
    let commands = Cell::new([0; 2]);
    each(|variant, rendering| {
        for (_, pod) in rendering.pods() {
            let container = &pod["spec"]["containers"][0];
            let words = |field: &str| -> Vec<&str> {
                container[field].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
            };
            let command_words = words("command");
            let mut count = commands.get();
            count[command_words.len() - 1] += 1;
            commands.set(count);
            let mut command = Command::new(image.join(command_words[0].strip_prefix('/').unwrap()));
            command.args(&command_words[1..]).args(words("args")).args(["--namespace=x", "--kubeconfig=no-such-file"]);
            for variable in container["env"].as_array().unwrap() {
                command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap_or("10.0.0.1"));
            }
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{variant}, {command_words:?}: {said}");
        }
    });
    assert!(commands.get().into_iter().all(|count| count > 0), "{:?}", commands.get());
}
