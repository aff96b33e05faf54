//! A real API server and kube-proxy in the lab.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::kubernetes::{Cluster, ProxyMode, User};
use lab::testing::Trial;
use lab::{Host, Lab, eventually, http};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    lab::testing::main([
        Trial::new("an_api_server_starts_pauses_dies_and_comes_back_with_what_it_stored", api),
        Trial::new("kube_proxy_with_nftables_brings_a_load_balancer_address_to_an_endpoint", |lab| {
            proxy(lab, ProxyMode::Nftables)
        }),
        Trial::new("kube_proxy_with_iptables_brings_a_load_balancer_address_to_an_endpoint", |lab| {
            proxy(lab, ProxyMode::Iptables)
        }),
    ])
}

fn control(lab: &Lab, lan: &lab::Switch) -> Result<Cluster> {
    let control = lab.host("control")?;
    control.plug("eth0", lan)?.address("10.0.0.100/24")?.address("fd00::100/64")?;
    Cluster::start(&control, "10.0.0.100".parse()?)
}

fn api(lab: &Lab) -> Result<()> {
    let lan = lab.switch("lan")?;
    let mut cluster = control(lab, &lan)?;
    cluster.add_node("node1", &["10.0.0.1".parse()?])?;
    let names = cluster.kubectl(&["get", "nodes", "-o", "name"])?;
    ensure!(names == "node/node1\n", "{names}");
    cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: metallb-system}}")?;

    // The rights of a speaker come from its manifests alone: none so far.
    let kubeconfig = cluster.kubeconfig(User::Speaker);
    let kubeconfig = kubeconfig.to_str().context("a path")?;
    let whoami = cluster.kubectl(&[
        "--kubeconfig",
        kubeconfig,
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
    ])?;
    ensure!(whoami == "system:serviceaccount:metallb-system:speaker", "{whoami}");
    let refused = cluster.kubectl(&["--kubeconfig", kubeconfig, "get", "nodes"]);
    ensure!(format!("{:#}", refused.unwrap_err()).contains("forbidden"));

    cluster.api_pause()?;
    let frozen = cluster.kubectl(&["get", "nodes", "--request-timeout=1s"]);
    ensure!(frozen.is_err(), "a paused API server answers");
    cluster.api_resume()?;
    cluster.get("/api/v1/nodes/node1")?;
    cluster.api_kill()?;
    ensure!(cluster.get("/api/v1/nodes/node1").is_err(), "a dead API server answers");
    cluster.api_restart()?;
    let node = cluster.get("/api/v1/nodes/node1")?;
    ensure!(node["status"]["addresses"][0]["address"] == "10.0.0.1", "{node}");
    Ok(())
}

/// Answers every connection to port 8080 with the name of the host, as HTTP.
fn serve(host: &Host) -> Result<lab::Task<()>> {
    let name = host.name().to_owned();
    host.start_task("backend", async move || {
        let listener = TcpListener::bind("[::]:8080").await?;
        loop {
            let mut stream = listener.accept().await?.0;
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await?;
            stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{name}").as_bytes()).await?;
        }
    })
}

fn proxy(lab: &Lab, mode: ProxyMode) -> Result<()> {
    let lan = lab.switch("lan")?;
    let cluster = control(lab, &lan)?;
    let (mut held, mut endpoints) = (Vec::new(), Vec::new());
    for number in 1..=2 {
        let node = lab.host(&format!("node{number}"))?;
        let address: IpAddr = format!("10.0.0.{number}").parse()?;
        node.plug("eth0", &lan)?.address(&format!("{address}/24"))?;
        node.set_route("0.0.0.0/0", &["10.0.0.100".parse()?])?;
        node.forward_packets()?;
        cluster.add_node(node.name(), &[address])?;
        held.push((cluster.proxy_start(&node, mode)?, serve(&node)?, node.clone()));
        endpoints.push(json!({
            "addresses": [address.to_string()], "nodeName": node.name(), "conditions": {"ready": true},
        }));
    }
    cluster.create(
        "/api/v1/namespaces/default/services",
        &json!({"kind": "Service", "metadata": {"name": "web"}, "spec": {
            "type": "LoadBalancer", "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
        }}),
    )?;
    cluster.patch(
        "/api/v1/namespaces/default/services/web/status",
        &json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}),
    )?;
    cluster.create(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        &json!({
            "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
        }),
    )?;
    // The address is brought to node1 by a route; which endpoint answers is kube-proxy's choice.
    let client = lab.host("client")?;
    client.plug("eth0", &lan)?.address("10.0.0.200/24")?;
    client.set_route("192.0.2.1/32", &["10.0.0.1".parse()?])?;
    let mut seen = std::collections::BTreeSet::new();
    eventually(LIMIT, || {
        seen.insert(client.run(async || {
            let server: SocketAddr = "192.0.2.1:80".parse()?;
            let answer = http::request(server, "GET", "/", None);
            Ok(tokio::time::timeout(Duration::from_secs(2).into(), answer).await??.body)
        })?);
        ensure!(seen.len() == 2, "so far {seen:?} answered");
        Ok(())
    })
}
