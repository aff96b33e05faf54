//! Services from `kubectl apply` to the answer of a backend, and back: what is written, told and announced on the way.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::kubernetes::{ProxyMode, User};
use lab::{Lab, eventually};
use netio::clock::Clock;
use serde_json::{Value, json};

use crate::site::{LIMIT, ONE_REQUEST, ROUTED, SEGMENT, SERVICE_PORT, Site, configuration, on_site, service, slices};

const POOL_SIZE: u8 = 4;

pub(crate) fn services(lab: &Lab, mode: ProxyMode) -> Result<()> {
    on_site(lab, |site| {
        let router = site.frr(None)?;
        let _proxies = site.proxies(mode)?;
        let (_controller, _speakers) = (site.controller()?, site.speakers()?);
        site.apply(&configuration(POOL_SIZE))?;
        site.wait_sessions(&router)?;
        // A Service that came before the pools would be told that there are none.
        for pool in ["segment", "routed"] {
            wait_counters(site, pool, 0)?;
        }

        measure_first_answer(site, mode)?;
        site.apply(
            &[vec![service("routed", "routed")], slices("routed", &[&site.nodes[0], &site.nodes[1]])?].concat(),
        )?;
        site.wait_ingress("routed", &ROUTED)?;
        for client in [&site.client, &site.far_client] {
            for address in SEGMENT.iter().chain(&ROUTED) {
                site.wait_answer(client, address)?;
            }
        }
        assigned(site)?;
        told(site)?;
        site.wait_routes(&router, &[0, 1])?;

        // With externalTrafficPolicy Local only the node with an endpoint announces, and the backend sees the client.
        site.apply(&slices("routed", &[&site.nodes[1]])?)?;
        let local = r#"{"spec":{"externalTrafficPolicy":"Local"}}"#;
        site.cluster.kubectl(&["patch", "service", "routed", "--type=merge", "-p", local])?;
        site.wait_routes(&router, &[1])?;
        for (address, own) in ROUTED.into_iter().zip(["10.9.0.2", "fd09::2"]) {
            eventually(LIMIT, || {
                let answer = site.far_client.ask(SocketAddr::new(address.parse()?, SERVICE_PORT), ONE_REQUEST)?;
                ensure!(answer.backend == "node2" && answer.client.to_string() == own, "{answer:?}");
                Ok(())
            })?;
        }

        // What is no longer a load balancer, or no longer there, gives everything back.
        let cluster_ip =
            r#"{"spec":{"type":"ClusterIP","allocateLoadBalancerNodePorts":null,"externalTrafficPolicy":null}}"#;
        site.cluster.kubectl(&["patch", "service", "routed", "--type=merge", "-p", cluster_ip])?;
        site.cluster.kubectl(&["delete", "service", "lan"])?;
        site.wait_routes(&router, &[])?;
        eventually(LIMIT, || {
            let routed = site.object("services", "routed")?;
            ensure!(routed["status"]["loadBalancer"] == json!({}), "{routed}");
            ensure!(routed["metadata"]["annotations"].get("metallb.io/ip-allocated-from-pool").is_none(), "{routed}");
            Ok(())
        })?;
        for pool in ["segment", "routed"] {
            wait_counters(site, pool, 0)?;
        }
        eventually(LIMIT, || {
            for address in SEGMENT {
                site.client.forget_neighbour(address.parse()?)?;
                let answer =
                    site.client.ask(SocketAddr::new(address.parse()?, SERVICE_PORT), Duration::from_millis(300));
                ensure!(answer.is_err(), "{address} still answers: {answer:?}");
            }
            Ok(())
        })?;
        rights_in_use(site)
    })
}

/// From `kubectl apply` to the address in the status, and to the first answer that a client gets.
fn measure_first_answer(site: &Site, mode: ProxyMode) -> Result<()> {
    // The Service comes first, as in a cluster its endpoints do after it.
    let clock = Clock::start();
    site.apply(&[vec![service("lan", "segment")], slices("lan", &[&site.nodes[0], &site.nodes[1]])?].concat())?;
    let applied = clock.now();
    site.wait_ingress("lan", &SEGMENT)?;
    let assigned = clock.now();
    // Short requests: one that is lost must not hide when the next one would have been answered.
    let address = SocketAddr::new(SEGMENT[0].parse()?, SERVICE_PORT);
    eventually(LIMIT, || site.client.ask(address, Duration::from_millis(100)))?;
    let answered = clock.now();
    eprintln!(
        "measured ({mode:?}): kubectl apply took {} ms; after it, the address was seen within {} ms, and a client had its \
         first answer within {} ms",
        applied.as_micros() / 1000,
        assigned.since(applied).as_millis(),
        answered.since(applied).as_millis(),
    );
    Ok(())
}

/// Contract 1.1, 2.1, 3.2: the status, the annotation and the counters.
fn assigned(site: &Site) -> Result<()> {
    for (name, addresses) in [("lan", SEGMENT), ("routed", ROUTED)] {
        let pool = if name == "lan" { "segment" } else { "routed" };
        let object = site.object("services", name)?;
        ensure!(object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"] == pool, "{object}");
        // The API server adds the mode; nobody else writes there.
        let ingress = addresses.map(|ip| json!({"ip": ip, "ipMode": "VIP"}));
        ensure!(object["status"]["loadBalancer"]["ingress"] == json!(ingress), "{object}");
        wait_counters(site, pool, 1)?;
    }
    Ok(())
}

fn wait_counters(site: &Site, pool: &str, assigned: u8) -> Result<()> {
    let available = POOL_SIZE - assigned;
    let wanted = json!({
        "assignedIPv4": assigned, "assignedIPv6": assigned, "availableIPv4": available, "availableIPv6": available,
    });
    eventually(LIMIT, || {
        let text = site.cluster.kubectl(&["get", "ipaddresspool", pool, "-n", "metallb-system", "-o", "yaml"])?;
        let object: Value = serde_saphyr::from_str(&text)?;
        ensure!(object["status"] == wanted, "{text}");
        Ok(())
    })
}

/// Contract 3.6: the events that `kubectl get events` shows.
fn told(site: &Site) -> Result<()> {
    let owner = site.nodes[site.answering(SEGMENT[0])?].name();
    let both = site.nodes.each_ref().map(|node| (node.name(), "bgp"));
    for (name, pool, addresses, announced) in
        [("lan", "segment", SEGMENT, &[(owner, "layer2")][..]), ("routed", "routed", ROUTED, &both)]
    {
        let [v4, v6] = addresses;
        let mut wanted = BTreeSet::from([(
            "IPAllocated".to_owned(),
            format!("Assigned IP [\"{v4}\" \"{v6}\"] from pool \"{pool}\""),
            "metallb-controller".to_owned(),
        )]);
        wanted.extend(announced.iter().map(|(node, protocol)| {
            let message = format!("announcing from node \"{node}\" with protocol \"{protocol}\"");
            ("nodeAssigned".to_owned(), message, "metallb-speaker".to_owned())
        }));
        eventually(LIMIT, || {
            let seen: BTreeSet<_> = site.events(name)?.into_iter().collect();
            ensure!(seen == wanted, "events of {name}: {seen:?}, not {wanted:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What the accounts ask for, which is less than contract 7.6 gives.
fn rights_in_use(site: &Site) -> Result<()> {
    let used: BTreeSet<(String, String, String)> =
        site.cluster.audit()?.into_iter().map(|request| (request.user, request.resource, request.verb)).collect();
    let mut allowed = BTreeSet::new();
    let read =
        |user: User, resource: &str| ["list", "watch"].map(|verb| (user.name(), resource.to_owned(), verb.to_owned()));
    for resource in [
        "services",
        "namespaces",
        "nodes",
        "ipaddresspools",
        "l2advertisements",
        "bgpadvertisements",
        "bgppeers",
        "bfdprofiles",
        "communities",
        "endpointslices",
        "servicel2statuses",
        "servicebgpstatuses",
        "configurationstates",
    ] {
        allowed.extend(read(User::Controller, resource));
    }
    for resource in [
        "services",
        "endpointslices",
        "nodes",
        "ipaddresspools",
        "l2advertisements",
        "bgpadvertisements",
        "bgppeers",
        "bfdprofiles",
        "communities",
        "secrets",
        "configmaps",
        "servicel2statuses",
        "servicebgpstatuses",
        "configurationstates",
    ] {
        allowed.extend(read(User::Speaker, resource));
    }
    for (user, resource, verb) in [
        (User::Controller, "services/status", "patch"),
        (User::Controller, "ipaddresspools/status", "patch"),
        (User::Controller, "events", "create"),
        (User::Controller, "events", "patch"),
        (User::Speaker, "events", "create"),
        (User::Speaker, "events", "patch"),
        (User::Controller, "leases", "create"),
        (User::Controller, "leases", "get"),
        (User::Controller, "leases", "watch"),
        (User::Controller, "leases", "patch"),
        (User::Controller, "secrets", "get"),
        (User::Controller, "secrets", "create"),
        (User::Controller, "secrets", "watch"),
        (User::Controller, "validatingwebhookconfigurations", "get"),
        (User::Controller, "validatingwebhookconfigurations", "watch"),
        (User::Controller, "customresourcedefinitions", "get"),
        (User::Controller, "customresourcedefinitions", "watch"),
        (User::Controller, "deployments", "get"),
        (User::Controller, "pods", "get"),
        (User::Controller, "configurationstates", "patch"),
        (User::Controller, "configurationstates/status", "patch"),
        (User::Speaker, "pods", "get"),
        (User::Speaker, "pods", "list"),
        (User::Speaker, "configurationstates", "patch"),
        (User::Speaker, "configurationstates/status", "patch"),
        (User::Speaker, "servicel2statuses", "patch"),
        (User::Speaker, "servicel2statuses", "delete"),
        (User::Speaker, "servicel2statuses/status", "patch"),
        (User::Speaker, "servicebgpstatuses", "patch"),
        (User::Speaker, "servicebgpstatuses", "delete"),
        (User::Speaker, "servicebgpstatuses/status", "patch"),
    ] {
        allowed.insert((user.name(), resource.to_owned(), verb.to_owned()));
    }
    let more: Vec<_> = used.difference(&allowed).collect();
    ensure!(more.is_empty(), "asked for more than is listed here: {more:?}");
    used.iter().find(|(_, resource, _)| resource == "services/status").context("the audit log has no status")?;
    Ok(())
}
