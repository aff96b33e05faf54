//! Metrics as the cluster's monitoring gets them: with tokens that the API server reviews (contract 7.3), and into a real
//! Prometheus, whose answers fill the dashboard and whose alerts tell what is wrong (contract 8.5).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::NAMESPACE;
use lab::scrape::{Series, fetch};
use lab::{Host, Lab, Process, eventually, http};
use serde_json::{Value, json};

use crate::site::{LIMIT, ROUTED, SEGMENT, Site, configuration, on_site, ours, service, slices};

/// Where each of the three programs serves its metrics, for others: the controller, and the speakers by either family.
const TARGETS: [&str; 3] = ["10.0.0.99:9120", "10.0.0.1:9120", "[fd00::2]:9120"];

/// Accounts that ask for metrics: `prometheus` may read them, `stranger` may not.
const ACCOUNTS: &str = r"
---
{apiVersion: v1, kind: Namespace, metadata: {name: monitoring}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: prometheus, namespace: monitoring}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: stranger, namespace: monitoring}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metrics-reader}
rules:
- {nonResourceURLs: [/metrics], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metrics-reader}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: monitoring}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics-reader}
";

fn token(site: &Site, account: &str) -> Result<String> {
    let token = site.cluster.kubectl(&["create", "token", account, "--namespace", "monitoring"])?;
    Ok(token.trim().to_owned())
}

/// Asks a program for its metrics, with this value of the header `Authorization`.
fn ask(client: &Host, target: &str, authorization: Option<&str>) -> Result<http::Response> {
    let header = authorization.map(|value| format!("Authorization: {value}"));
    let arguments: Vec<&str> = header.iter().flat_map(|header| ["--header", header.as_str()]).collect();
    fetch(client, &format!("https://{target}/metrics"), &arguments)
}

/// Has controller and speakers asked for their metrics by one who may read them.
pub(crate) fn scrape(site: &Site) -> Result<()> {
    site.cluster.apply(ACCOUNTS)?;
    let reader = format!("Bearer {}", token(site, "prometheus")?);
    for target in TARGETS {
        eventually(LIMIT, || {
            let answer = ask(&site.client, target, Some(&reader))?;
            ensure!(answer.status == 200, "{target}: {}", answer.status);
            Ok(())
        })?;
    }
    Ok(())
}

pub(crate) fn access(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let (_controller, _speakers) = (site.controller()?, site.speakers()?);
        site.cluster.apply(ACCOUNTS)?;
        let (reader, stranger) = (token(site, "prometheus")?, token(site, "stranger")?);
        for host in [&site.manager, &site.nodes[0], &site.nodes[1]] {
            site.wait_ready(host)?;
        }
        let reader = format!("Bearer {reader}");
        for target in TARGETS {
            for (authorization, status) in [
                (Some(reader.clone()), 200),
                (Some("Bearer wrong".to_owned()), 401),
                (Some(format!("{reader}x")), 401),
                (Some(reader.replace("Bearer", "Basic")), 401),
                (None, 401),
                (Some(format!("Bearer {stranger}")), 403),
            ] {
                let answer = ask(&site.client, target, authorization.as_deref())?;
                ensure!(answer.status == status, "{target}: {} for {status}: {}", answer.status, answer.body);
                let has_series = answer.body.contains("metallb_k8s_client_updates_total");
                ensure!(has_series == (status == 200), "{target}: {}", answer.body);
            }
        }
        while_the_api_server_is_away(site, &reader)?;

        // Who is given the right gets an answer when the refusal is forgotten, after half a minute.
        let subject = "--serviceaccount=monitoring:stranger";
        site.cluster.kubectl(&["create", "clusterrolebinding", "late", "--clusterrole=metrics-reader", subject])?;
        eventually(LIMIT, || {
            let answer = ask(&site.client, TARGETS[0], Some(&format!("Bearer {stranger}")))?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            Ok(())
        })
    })
}

/// A token that was reviewed within the last minute is still good; a new one cannot be reviewed.
fn while_the_api_server_is_away(site: &mut Site, reader: &str) -> Result<()> {
    site.nothing_was_denied()?;
    site.cluster.api_kill()?;
    let known = ask(&site.client, TARGETS[1], Some(reader))?;
    ensure!(known.status == 200, "a token that is known: {} {}", known.status, known.body);
    eventually(LIMIT, || {
        let answer = ask(&site.client, TARGETS[1], Some(reader))?;
        // The minute may be over by now.
        let up = Series::parse(&answer.body).ok().and_then(|series| series.value("metallb_source_up", &[]).ok()?);
        ensure!(answer.status == 500 || up == Some(0.0), "{} {}", answer.status, answer.body);
        Ok(())
    })?;
    let new = ask(&site.client, TARGETS[1], Some("Bearer new"))?;
    ensure!(new.status == 500, "a token that cannot be reviewed: {} {}", new.status, new.body);
    site.cluster.api_restart()?;
    eventually(LIMIT, || {
        let answer = ask(&site.client, TARGETS[1], Some(reader))?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        Ok(())
    })?;
    site.forgive_denials()
}

/// A Prometheus that scrapes all three programs and knows the alerts.
struct Prometheus {
    host: Host,
    _process: Process,
}

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../monitoring")
}

impl Prometheus {
    fn start(host: &Host, token: &str) -> Result<Prometheus> {
        let folder = host.folder();
        fs::write(folder.join("token"), token)?;
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [monitoring().canonicalize()?.join("alerts.yaml")],
            "scrape_configs": [{
                "job_name": "lb",
                "scheme": "https",
                "authorization": {"credentials_file": folder.join("token")},
                "tls_config": {"insecure_skip_verify": true},
                "static_configs": [{"targets": TARGETS}],
            }],
        });
        let file = folder.join("prometheus.yaml");
        fs::write(&file, config.to_string())?;
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(file).arg("--storage.tsdb.path").arg(folder.join("tsdb"));
        command.arg("--web.listen-address=127.0.0.1:9090");
        let process = host.spawn("prometheus", command).context("is prometheus installed?")?;
        Ok(Prometheus { host: host.clone(), _process: process })
    }

    fn get(&self, path: &str) -> Result<Value> {
        let path = path.to_owned();
        let answer = self.host.run(async move || {
            let request = http::request("127.0.0.1:9090".parse()?, "GET", &path, None);
            tokio::time::timeout(LIMIT.into(), request).await?
        })?;
        let value: Value = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
        ensure!(value["status"] == "success", "{value}");
        Ok(value["data"].clone())
    }

    /// The result of a query, now.
    fn query(&self, query: &str) -> Result<Vec<Value>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("/api/v1/query?query={encoded}"))?;
        data["result"].as_array().cloned().with_context(|| format!("{query}: {data}"))
    }

    /// Name, state and labels of every alert that is pending or firing.
    fn alerts(&self) -> Result<Vec<(String, Value)>> {
        let data = self.get("/api/v1/alerts")?;
        let alerts = data["alerts"].as_array().context("no alerts")?;
        Ok(alerts
            .iter()
            .map(|alert| (alert["labels"]["alertname"].as_str().unwrap_or("?").to_owned(), alert.clone()))
            .collect())
    }

    /// Waits until exactly these alerts are pending or firing, each so often.
    fn wait_alerts(&self, wanted: &[(&str, usize)]) -> Result<()> {
        eventually(LIMIT, || {
            let alerts = self.alerts()?;
            for (name, number) in wanted {
                let found = alerts.iter().filter(|(alert, _)| alert == name).count();
                ensure!(found == *number, "{name} {found} times, not {number}: {alerts:?}");
            }
            let other = alerts.iter().find(|(alert, _)| !wanted.iter().any(|(name, _)| name == alert));
            ensure!(other.is_none(), "an alert that nobody expects: {other:?}");
            Ok(())
        })
    }
}

/// Title of the panel and query of each target of the dashboard.
fn queries_of_the_dashboard() -> Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(monitoring().join("dashboard.json"))?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut queries = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().context("a panel without a title")?;
        for target in panel["targets"].as_array().with_context(|| format!("{title} asks for nothing"))? {
            let query = target["expr"].as_str().with_context(|| format!("{title} has a target without a query"))?;
            queries.push((title.to_owned(), query.replace("$__rate_interval", "10s")));
        }
    }
    Ok(queries)
}

pub(crate) fn prometheus(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let mut router = site.frr(None)?;
        let (_controller, _speakers) = (site.controller()?, site.speakers()?);
        site.apply(&configuration(4))?;
        let nodes = [&site.nodes[0], &site.nodes[1]];
        for (name, pool) in [("lan", "segment"), ("routed", "routed")] {
            site.apply(&[vec![service(name, pool)], slices(name, &nodes)?].concat())?;
        }
        site.wait_ingress("lan", &SEGMENT)?;
        site.wait_ingress("routed", &ROUTED)?;
        site.wait_sessions(&router)?;
        site.wait_routes(&router, &[0, 1])?;
        site.cluster.apply(ACCOUNTS)?;
        let prometheus = Prometheus::start(&site.client, &token(site, "prometheus")?)?;
        eventually(LIMIT, || {
            let up = prometheus.query("up == 1")?;
            ensure!(up.len() == TARGETS.len(), "only these are scraped: {up:?}");
            Ok(())
        })?;

        // Every target of every panel shows something.
        let queries = queries_of_the_dashboard()?;
        ensure!(queries.len() > 30, "the dashboard has {} queries", queries.len());
        for (title, query) in &queries {
            eventually(LIMIT, || {
                let result = prometheus.query(query)?;
                ensure!(!result.is_empty(), "panel {title:?} is empty: {query}");
                Ok(())
            })?;
        }
        for (query, expected) in [
            ("sum(metallb_allocator_services_allocated_total)", "2"),
            ("sum(metallb_bgp_session_up)", "4"),
            (r#"metallb_bgp_session_up{peer="10.0.0.254:179", instance="10.0.0.1:9120"}"#, "1"),
            (r#"count(metallb_speaker_announced{protocol="layer2"})"#, "2"),
            (r#"count(metallb_speaker_announced{protocol="bgp"})"#, "4"),
        ] {
            eventually(LIMIT, || {
                let result = prometheus.query(query)?;
                ensure!(result.len() == 1 && result[0]["value"][1] == expected, "{query} is {result:?}");
                Ok(())
            })?;
        }
        alerts(site, &prometheus, &mut router)
    })
}

/// The rules are evaluated, are quiet while all is well, and tell what is not.
fn alerts(site: &Site, prometheus: &Prometheus, router: &mut lab::router::Router) -> Result<()> {
    eventually(LIMIT, || {
        let rules = prometheus.get("/api/v1/rules")?;
        for group in rules["groups"].as_array().context("no groups")? {
            for rule in group["rules"].as_array().context("no rules")? {
                ensure!(rule["health"] == "ok", "{rule}");
            }
        }
        Ok(())
    })?;
    prometheus.wait_alerts(&[]).context("all is well")?;
    router.kill()?;
    let down = ("MetalLBBGPSessionDown", 4);
    prometheus.wait_alerts(&[down]).context("the router is dead")?;
    // Two pools with the same addresses.
    let twice = json!({"addresses": [format!("{0}-{0}", SEGMENT[0])]});
    site.apply(&[ours("IPAddressPool", "v1beta1", "twice", twice)])?;
    prometheus.wait_alerts(&[down, ("MetalLBStaleConfig", 3)]).context("the configuration is invalid")?;
    site.cluster.kubectl(&["delete", "ipaddresspool", "twice", "--namespace", NAMESPACE])?;
    prometheus.wait_alerts(&[down]).context("the configuration is valid again (D2)")
}
