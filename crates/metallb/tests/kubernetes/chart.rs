//! The chart on a real API server: what it renders is valid, and releases come, change and go without taking along what
//! belongs to the operator.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::NAMESPACE;
use lab::{Lab, eventually};
use serde_json::{Value, json};

use crate::site::{LIMIT, SEGMENT, Site, configuration, on_bare_site, service};

/// Contract 4.4.
const WEBHOOKS: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/metallb-webhook-configuration";
const PEERS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/bgppeers.metallb.io";
/// The lab's accounts are those of the plain manifests.
const ACCOUNTS: &str = "controller.serviceAccount.name=controller,speaker.serviceAccount.name=speaker";

/// The API server knows each field of each object and finds nothing wrong.
pub(crate) fn variants(lab: &Lab) -> Result<()> {
    on_bare_site(lab, |site| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart/values");
        let mut count = 0;
        for entry in fs::read_dir(folder)? {
            let values = entry?.path();
            let text = helm(site, &["template", "metallb", chart()?.as_str(), "--values", as_text(&values)?])?;
            dry_run(site, &text).with_context(|| values.display().to_string())?;
            count += 1;
        }
        ensure!(count > 5, "only {count} variants");
        let plain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/metallb-native.yaml");
        dry_run(site, &fs::read_to_string(plain)?)
    })
}

/// Has the API server check the objects of Kubernetes itself; it knows nothing of the kinds of the Prometheus operator.
fn dry_run(site: &Site, text: &str) -> Result<()> {
    let ours: Vec<&str> =
        text.split("\n---\n").filter(|object| !object.contains("monitoring.coreos.com/v1\n")).collect();
    let file = site.cluster.control().folder().join("rendering.yaml");
    fs::write(&file, ours.join("\n---\n"))?;
    let arguments = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-n", NAMESPACE, "-f"];
    let said = site.cluster.kubectl_any(&[&arguments[..], &[as_text(&file)?]].concat())?;
    let warnings = said.stderr.clone();
    said.ok()?;
    ensure!(warnings.is_empty(), "{warnings}");
    Ok(())
}

pub(crate) fn release(lab: &Lab) -> Result<()> {
    on_bare_site(lab, |site| {
        install(site, &chart()?, &[])?;
        let _controller = site.controller()?;
        site.apply(&[configuration(4), vec![service("lan", "segment")]].concat())?;
        site.wait_ingress("lan", &SEGMENT)?;
        let pool = site.object("ipaddresspools", "segment")?;
        // What the controller adds to the chart's objects.
        let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/metallb-webhook-cert");
        let (webhooks, certificate) = eventually(LIMIT, || {
            let webhooks = site.cluster.get(WEBHOOKS)?["webhooks"].clone();
            let bundle = |webhook: &Value| webhook["clientConfig"]["caBundle"].is_string();
            ensure!(webhooks.as_array().is_some_and(|all| all.iter().all(bundle)), "{webhooks}");
            let data = site.cluster.get(&secret)?["data"].clone();
            ensure!(data["tls.crt"].is_string(), "no certificate");
            Ok((webhooks, data))
        })?;

        upgrade(site, &chart()?, &["--set", "controller.logLevel=debug"])?;
        let deployment = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/metallb-controller");
        ensure!(site.cluster.get(&deployment)?["metadata"]["generation"] == 2, "the Deployment did not change");
        ensure!(site.cluster.get(WEBHOOKS)?["webhooks"] == webhooks, "the authority is gone");
        ensure!(site.cluster.get(&secret)?["data"] == certificate, "the certificate is gone");
        unharmed(site, &pool)?;

        upgrade(site, &chart()?, &["--set", "crds.enabled=false"])?;
        unharmed(site, &pool)?;

        helm(site, &["uninstall", "metallb", "--wait"])?;
        let left = site.cluster.kubectl(&[
            "get",
            "all,configmaps,secrets,roles,rolebindings",
            "-n",
            NAMESPACE,
            "-o",
            "name",
        ])?;
        ensure!(left.trim() == "configmap/kube-root-ca.crt" || left.trim().is_empty(), "left behind: {left}");
        unharmed(site, &pool)?;

        // The controller is still there, without rights until the next release gives them back.
        install(site, &chart()?, &[])?;
        unharmed(site, &pool)?;
        site.apply(&[service("second", "segment")])?;
        site.wait_ingress("second", &["10.0.0.211", "fd00::211"])?;
        site.wait_ingress("lan", &SEGMENT)
    })
}

/// The pool is the same object, the Service has its addresses.
fn unharmed(site: &Site, pool: &Value) -> Result<()> {
    let now = site.object("ipaddresspools", "segment")?;
    ensure!(now["metadata"]["uid"] == pool["metadata"]["uid"], "the pool is another one: {now}");
    let addresses: Vec<String> = site.ingress("lan")?.iter().map(ToString::to_string).collect();
    ensure!(addresses == SEGMENT, "the Service has {addresses:?}");
    let definitions = site.cluster.kubectl(&["get", "crd", "-o", "name"])?;
    ensure!(definitions.lines().count() == 9, "{definitions}");
    Ok(())
}

/// A release of the Go implementation's chart has a definition of BGPPeer that asks for a conversion webhook, with a
/// certificate that its controller wrote. Both ways of helm upgrade it; the notes tell how to be rid of the webhook, and that
/// works.
pub(crate) fn takeover(lab: &Lab) -> Result<()> {
    on_bare_site(lab, |site| {
        let theirs = theirs(lab)?;
        for way in ["--server-side=true", "--server-side=false"] {
            install(site, as_text(&theirs)?, &[way])?;
            let authority = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": AUTHORITY}}}}});
            site.cluster.patch(&format!("{PEERS}?fieldManager=MetalLB"), &authority)?;
            site.apply(&configuration(1))?;
            let before = conversion(site)?;
            ensure!(
                before["strategy"] == "Webhook" && before["webhook"]["clientConfig"]["caBundle"] == AUTHORITY,
                "{before}"
            );

            let notes = upgrade(site, &chart()?, &[way]).with_context(|| way.to_owned())?;
            ensure!(conversion(site)? == before, "{way}: {before}, then {}", conversion(site)?);
            let (_, advice) = notes.split_once("kubectl patch crd").context("no advice")?;
            let patch = advice.split('\'').nth(1).context("no patch")?;
            site.cluster.kubectl(&["patch", "crd", "bgppeers.metallb.io", "--type=merge", "-p", patch])?;
            eventually(LIMIT, || {
                site.cluster.kubectl(&["get", "bgppeers.v1beta1.metallb.io", "-n", NAMESPACE]).map(drop)
            })?;

            let notes = upgrade(site, &chart()?, &[way, "--set", "controller.logLevel=debug"])?;
            ensure!(!notes.contains("kubectl patch crd"), "{notes}");
            ensure!(conversion(site)? == json!({"strategy": "None"}), "{way}: {}", conversion(site)?);
            helm(site, &["uninstall", "metallb", "--wait"])?;
            site.cluster.kubectl(&["delete", "crd", "--all"])?;
        }
        Ok(())
    })
}

fn conversion(site: &Site) -> Result<Value> {
    Ok(site.cluster.get(PEERS)?["spec"]["conversion"].clone())
}

/// Our chart with that definition of theirs.
fn theirs(lab: &Lab) -> Result<PathBuf> {
    let copy = lab.folder().join("theirs");
    let status = std::process::Command::new("cp").arg("-r").arg(lab::helm::chart()).arg(&copy).status()?;
    ensure!(status.success(), "copying the chart");
    let file = copy.join("files/crds.yaml");
    let conversion = "  conversion:\n    strategy: Webhook\n    webhook:\n      conversionReviewVersions: [v1beta1, v1beta2]\n      \
                      clientConfig:\n        service: {name: metallb-webhook-service, namespace: metallb-system, path: /convert}\n";
    let text = fs::read_to_string(&file)?;
    let (before, after) =
        text.split_once("  name: bgppeers.metallb.io\nspec:\n").context("no definition of BGPPeer")?;
    fs::write(&file, format!("{before}  name: bgppeers.metallb.io\nspec:\n{conversion}{after}"))?;
    Ok(copy)
}

/// Runs `helm` in MetalLB's namespace.
fn helm(site: &Site, arguments: &[&str]) -> Result<String> {
    site.cluster.helm(&[arguments, &["--namespace", NAMESPACE]].concat())
}

fn install(site: &Site, chart: &str, arguments: &[&str]) -> Result<()> {
    let all = [&["install", "metallb", chart, "--set", ACCOUNTS], arguments].concat();
    helm(site, &all)?;
    site.cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).map(drop)
}

/// Returns what the release says at its end.
fn upgrade(site: &Site, chart: &str, arguments: &[&str]) -> Result<String> {
    helm(site, &[&["upgrade", "metallb", chart, "--set", ACCOUNTS], arguments].concat())
}

fn chart() -> Result<String> {
    as_text(&lab::helm::chart()).map(str::to_owned)
}

fn as_text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}

/// A certificate authority, in base64; nobody has its key.
const AUTHORITY: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJkakNDQVJ1Z0F3SUJBZ0lVQTRkL1R4RlhvVGFYMUsxeC9CWkdNNTBxdEpFd0NnWUlLb1pJemowRUF3SXcKRHpFTk1Bc0dBMVVFQXd3RVkyVnlkREFnRncweU5qRXhNamN3TWpReE16UmFHQTh5TVRJMk1URXdNekF5TkRFegpORm93RHpFTk1Bc0dBMVVFQXd3RVkyVnlkREJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSEEwSUFCQThrClVHZVlJbGJPNnBJRHY2UXBSWXJNcDVOaWJSejQvOWNwb2hIekNuYzlwS1c4c2VpRjFDY21pTzYvcFh3SnBrb1EKZ29JdjI2RlNjckR0dmJUY1MyYWpVekJSTUIwR0ExVWREZ1FXQkJUY2RvbnE4MVk4bktrQi9JOXFFcDV0ZHBtRwp4ekFmQmdOVkhTTUVHREFXZ0JUY2RvbnE4MVk4bktrQi9JOXFFcDV0ZHBtR3h6QVBCZ05WSFJNQkFmOEVCVEFECkFRSC9NQW9HQ0NxR1NNNDlCQU1DQTBrQU1FWUNJUUNXK0c1UjdyUVMzcWMzZWVqTitKZGc1RTRYOTZsNHgzTTcKUVFCSzBHcXBUUUloQUw2S1pIK0hURC81bmNKK21kV0pjQnM0SkJUQ3IvakFoSkVTZERKZ1JLbm8KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";
