//! The API server asks the controller about objects before it takes them, and for conversion (contract 1.4, 4.4, 10.4).

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use kit::{Duration, Rng};
use lab::kubernetes::{NAMESPACE, User};
use lab::{Host, Lab, Output, eventually};
use serde_json::{Value, json};
use sys::process::Signal;

use crate::site::{LIMIT, ROUTED, SEGMENT, Site, configuration, on_site, ours, peer, pool, service};

const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/metallb-webhook-configuration";
const PEERS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/bgppeers.metallb.io";
const POOLS: &str = "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools";
const SECRET: &str = "/api/v1/namespaces/metallb-system/secrets/metallb-webhook-cert";
/// What the API server calls.
const NAME: &str = "metallb-webhook-service.metallb-system.svc";
/// How often something that depends on an order is tried.
const TIMES: usize = 20;

/// Has every webhook fail requests when it does not answer, or not.
fn set_failure_policy(site: &Site, policy: &str) -> Result<()> {
    let mut configuration = site.cluster.get(CONFIGURATION)?;
    for webhook in configuration["webhooks"].as_array_mut().context("no webhooks")? {
        webhook["failurePolicy"] = json!(policy);
    }
    site.cluster.request("PUT", CONFIGURATION, Some(&configuration)).map(drop)
}

/// Waits until the API server knows of the webhooks, and believes them: it refuses what they refuse.
fn wait_asked(site: &Site) -> Result<()> {
    let nonsense = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": "nonsense", "namespace": NAMESPACE}, "spec": {"addresses": ["nonsense"]},
    });
    eventually(LIMIT, || match site.cluster.create(&format!("{POOLS}?dryRun=All"), &nonsense) {
        Err(error) if format!("{error:#}").contains("invalid CIDR") => Ok(()),
        Err(error) => Err(error),
        Ok(_) => bail!("nobody was asked"),
    })
}

/// Applies an object with `kubectl`, as an operator would.
fn apply(site: &Site, object: &Value) -> Result<Output> {
    let file = site.cluster.control().folder().join("object.json");
    fs::write(&file, object.to_string())?;
    site.cluster.kubectl_any(&["apply", "-f", file.to_str().context("a path that is not text")?])
}

fn is_refused(site: &Site, object: &Value, texts: &[&str]) -> Result<()> {
    let output = apply(site, object)?;
    let said = output.stderr.clone();
    ensure!(output.ok().is_err(), "taken: {object}");
    for text in texts.iter().chain(&["denied the request"]) {
        ensure!(said.contains(text), "{text:?} is not in {said}");
    }
    Ok(())
}

/// Returns the warnings.
fn is_taken(site: &Site, object: &Value) -> Result<String> {
    let output = apply(site, object)?;
    let said = output.stderr.clone();
    output.ok().with_context(|| said.clone())?;
    Ok(said)
}

fn delete(site: &Site, kind: &str, name: &str) -> Result<Output> {
    site.cluster.kubectl_any(&["delete", kind, name, "-n", NAMESPACE])
}

fn delete_everything(site: &Site) -> Result<()> {
    let kinds = "ipaddresspools,bgppeers,bgpadvertisements,l2advertisements,communities";
    site.cluster.kubectl(&["delete", kinds, "--all", "-n", NAMESPACE])?;
    site.cluster.kubectl(&["delete", "bfdprofiles", "--all", "-n", NAMESPACE]).map(drop)
}

pub(crate) fn judgement(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        site.webhooks(&[&site.manager])?;
        away(site)?;
        let controller = site.controller()?;
        site.wait_ready(&site.manager)?;
        wait_asked(site)?;
        set_failure_policy(site, "Fail")?;
        refusals(site)?;
        one_after_the_other(site)?;
        any_order(site)?;
        let log = controller.log();
        ensure!(log.contains("\"changeRefused\""), "{log}");
        ensure!(!log.contains("PRIVATE KEY"), "a key is in the log");
        Ok(())
    })
}

/// Before the controller is there, everything is taken; controller and speakers still judge what they find.
fn away(site: &Site) -> Result<()> {
    let mut objects = configuration(4);
    let twice = ours("IPAddressPool", "v1beta1", "twice", json!({"addresses": [format!("{0}-{0}", SEGMENT[0])]}));
    objects.push(twice);
    site.apply(&objects)?;
    let (controller, speakers) = (site.controller()?, site.speakers()?);
    for process in speakers.iter().chain([&controller]) {
        eventually(LIMIT, || {
            let log = process.log();
            ensure!(log.contains("overlaps with already defined CIDR"), "{} says {log}", process.name());
            Ok(())
        })?;
    }
    // What is broken already keeps nobody from repairing it.
    site.wait_ready(&site.manager)?;
    wait_asked(site)?;
    ensure!(is_taken(site, &service("lan", "segment"))?.is_empty());
    is_taken(site, &ours("Community", "v1beta1", "other", json!({"communities": [{"name": "a", "value": "1:2"}]})))?;
    let repaired = json!({"addresses": ["198.51.100.0/24"]});
    is_taken(site, &ours("IPAddressPool", "v1beta1", "twice", repaired))?;
    site.wait_ingress("lan", &SEGMENT)?;
    site.cluster.kubectl(&["delete", "service", "lan"])?;
    delete_everything(site)
}

fn refusals(site: &Site) -> Result<()> {
    let announced = ours("L2Advertisement", "v1beta1", "all", json!({}));
    let warnings = is_taken(site, &pool("segment", SEGMENT, 4))? + &is_taken(site, &announced)?;
    ensure!(warnings.is_empty(), "{warnings}");
    let spec = |addresses: &str| json!({"addresses": [addresses]});
    is_refused(
        site,
        &ours("IPAddressPool", "v1beta1", "bad", spec("10.0.0.240")),
        &["invalid CIDR \"10.0.0.240\" in pool \"bad\"", "hint: for a single address write 10.0.0.240/32"],
    )?;
    is_refused(
        site,
        &ours("IPAddressPool", "v1beta1", "second", spec("10.0.0.208/29")),
        &["overlaps with already defined CIDR", "hint: an address can be in one pool only"],
    )?;
    // D23: advertisement and pool, in either order.
    let coarse = ours("BGPAdvertisement", "v1beta1", "coarse", json!({"aggregationLength": 20}));
    is_refused(site, &coarse, &["invalid aggregation length 20: prefix 31 in this pool is more specific"])?;
    delete(site, "ipaddresspool", "segment")?.ok()?;
    is_taken(site, &coarse)?;
    is_refused(site, &pool("segment", SEGMENT, 4), &["BGPAdvertisement metallb-system/coarse: invalid aggregation"])?;
    delete(site, "bgpadvertisement", "coarse")?.ok()?;

    let mut elsewhere = pool("segment", SEGMENT, 4);
    elsewhere["metadata"]["namespace"] = json!("default");
    is_refused(site, &elsewhere, &["resource must be created in metallb-system namespace"])?;
    // Peers of both versions, of which the old one is deprecated.
    is_refused(site, &peer(0, |spec| spec["peerAddress"] = json!("router")), &["invalid BGPPeer address \"router\""])?;
    let old = json!({"myASN": 0, "peerASN": 1, "peerAddress": "192.0.2.1"});
    is_refused(site, &ours("BGPPeer", "v1beta1", "old", old), &["missing local ASN"])?;
    // Names that come later are told, and taken; profiles in use stay.
    let with_profile = peer(0, |spec| spec["bfdProfile"] = json!("fast"));
    let warnings = is_taken(site, &with_profile)?;
    ensure!(warnings.contains("Warning: ") && warnings.contains("non existing bfd profile \"fast\""), "{warnings}");
    is_taken(site, &ours("BFDProfile", "v1beta1", "fast", json!({})))?;
    let kept = delete(site, "bfdprofile", "fast")?;
    ensure!(kept.stderr.contains("failed to delete BFDProfile \"fast\""), "{}", kept.stderr);
    ensure!(is_taken(site, &peer(0, |_| {}))?.is_empty());
    delete(site, "bfdprofile", "fast")?.ok()?;
    delete_everything(site)
}

/// What was just made counts, and what was just deleted does not, however quickly one follows the other.
fn one_after_the_other(site: &Site) -> Result<()> {
    let pool = |name: &str| ours("IPAddressPool", "v1beta1", name, json!({"addresses": ["198.51.100.0/24"]}));
    for number in 0..TIMES {
        site.cluster.create(POOLS, &pool("one"))?;
        let second = site.cluster.create(POOLS, &pool("two"));
        ensure!(second.is_err(), "round {number}: both pools were taken");
        site.cluster.delete(&format!("{POOLS}/one"))?;
        site.cluster.create(POOLS, &pool("two")).with_context(|| format!("round {number}: the first one was gone"))?;
        site.cluster.delete(&format!("{POOLS}/two"))?;
    }
    Ok(())
}

/// Everything at once, in whatever order.
fn any_order(site: &Site) -> Result<()> {
    let mut rng = Rng::new(7);
    let mut objects = configuration(4);
    objects.extend([
        ours("BFDProfile", "v1beta1", "fast", json!({})),
        ours("Community", "v1beta1", "names", json!({"communities": [{"name": "gold", "value": "65000:1"}]})),
        service("lan", "segment"),
        service("routed", "routed"),
    ]);
    for object in &mut objects {
        match object["kind"].as_str() {
            Some("BGPPeer") => object["spec"]["bfdProfile"] = json!("fast"),
            Some("BGPAdvertisement") => object["spec"]["communities"] = json!(["gold"]),
            _ => {}
        }
    }
    for number in 0..TIMES {
        for last in (1..objects.len()).rev() {
            objects.swap(last, rng.index(last + 1));
        }
        let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        site.apply(&objects).with_context(|| format!("round {number}: {kinds:?}"))?;
        site.wait_ingress("lan", &SEGMENT)?;
        site.wait_ingress("routed", &ROUTED)?;
        site.cluster.kubectl(&["delete", "service", "lan", "routed"])?;
        delete_everything(site)?;
    }
    Ok(())
}

/// Has the definition of BGPPeer ask for conversion, as that of the Go implementation does.
pub(crate) fn ask_for_conversion(site: &Site) -> Result<()> {
    let conversion = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1beta1", "v1beta2"],
        "clientConfig": {"service": {
            "name": "metallb-webhook-service", "namespace": NAMESPACE, "path": "/convert",
        }},
    }});
    site.cluster.patch(PEERS, &json!({"spec": {"conversion": conversion}})).map(drop)
}

/// Waits for the certificate, takes it away, and waits until it is back.
pub(crate) fn lose_certificate(site: &Site) -> Result<()> {
    let wait = || {
        eventually(LIMIT, || {
            let text = site.cluster.get(SECRET)?["data"]["tls.crt"].as_str().map(str::to_owned);
            text.context("no certificate")
        })
    };
    let before = wait()?;
    site.cluster.patch(SECRET, &json!({"data": {"tls.crt": null}}))?;
    let after = wait()?;
    ensure!(before == after, "what is shown was not put back");
    Ok(())
}

pub(crate) fn conversion(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        site.webhooks(&[&site.manager])?;
        let path = |version: &str| format!("/apis/metallb.io/{version}/namespaces/{NAMESPACE}/bgppeers");
        // They were there before.
        let new = peer(0, |spec| {
            spec["vrf"] = json!("red");
            spec["passwordSecret"] = json!({"name": "router"});
        });
        site.apply(&[new])?;
        ask_for_conversion(site)?;
        let controller = site.controller()?;
        site.wait_ready(&site.manager)?;
        let get = |version: &str, name: &str| site.cluster.get(&format!("{}/{name}", path(version)));

        // Down: a client that knows v1beta1 alone reads, changes and writes, and nothing is lost.
        let before = eventually(LIMIT, || get("v1beta2", "router-v4"))?;
        let mut old = eventually(LIMIT, || get("v1beta1", "router-v4"))?;
        ensure!(old["spec"].get("vrf").is_none(), "converted by the webhook: {old}");
        old["spec"]["holdTime"] = json!("9s");
        site.cluster.request("PUT", &format!("{}/router-v4", path("v1beta1")), Some(&old))?;
        let mut wanted = before["spec"].clone();
        wanted["holdTime"] = json!("9s");
        let after = get("v1beta2", "router-v4")?;
        ensure!(after["spec"] == wanted, "{}, not {wanted}", after["spec"]);
        ensure!(after["metadata"].get("annotations") == before["metadata"].get("annotations"), "{after}");

        // Up (D24): timers that are absent stay so.
        let spec = json!({"myASN": 64512, "peerASN": 64500, "peerAddress": "10.0.0.254", "nodeSelectors": [{}]});
        site.cluster.create(&path("v1beta1"), &ours("BGPPeer", "v1beta1", "second", spec))?;
        let second = get("v1beta2", "second")?;
        ensure!(second["spec"].get("holdTime").is_none() && second["spec"].get("keepaliveTime").is_none(), "{second}");
        let list = site.cluster.get(&path("v1beta1"))?;
        ensure!(list["items"].as_array().is_some_and(|items| items.len() == 2), "{list}");

        // Whoever takes the authority away has it back at once.
        let bundle = |object: &Value| object["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"].clone();
        let trusted = bundle(&site.cluster.get(PEERS)?);
        let nothing = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": null}}}}});
        site.cluster.patch(PEERS, &nothing)?;
        eventually(LIMIT, || {
            let now = bundle(&site.cluster.get(PEERS)?);
            ensure!(now == trusted, "{now}");
            Ok(())
        })?;
        drop(controller);
        Ok(())
    })
}

/// The certificate of the Secret and the authorities that the API server is told of, each in base64.
fn certificate(site: &Site) -> Result<(String, Vec<String>)> {
    let secret = site.cluster.get(SECRET)?;
    Ok((secret["data"]["tls.crt"].as_str().unwrap_or_default().to_owned(), bundles(site)?))
}

fn bundles(site: &Site) -> Result<Vec<String>> {
    let configuration = site.cluster.get(CONFIGURATION)?;
    let webhooks = configuration["webhooks"].as_array().context("no webhooks")?;
    let bundle = |webhook: &Value| webhook["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
    Ok(webhooks.iter().map(bundle).collect())
}

/// Asks with a dry run, which has to be answered.
fn ask(site: &Site) -> Result<()> {
    let pool = ours("IPAddressPool", "v1beta1", "asked", json!({"addresses": ["203.0.113.0/24"]}));
    site.cluster.create(&format!("{POOLS}?dryRun=All"), &pool).map(drop).context("a question was not answered")
}

/// Goes on asking until it holds.
fn ask_until(site: &Site, mut holds: impl FnMut() -> Result<bool>) -> Result<usize> {
    for number in 1..20_000 {
        ask(site)?;
        if number % 10 == 0 && holds()? {
            return Ok(number);
        }
    }
    bail!("it never comes")
}

/// An authority with an RSA key and a certificate that ends soon, as `openssl` makes them, in base64: authority and
/// certificate with their keys.
fn made_by_openssl(host: &Host) -> Result<[String; 4]> {
    let script = format!(
        "set -e; cd {folder}; mkdir -p soon; cd soon
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /O=metallb/CN=cert -days 30 -out ca.crt \
            -addext keyUsage=critical,keyCertSign 2>/dev/null
        openssl genrsa -traditional -out tls.key 2048 2>/dev/null
        openssl req -new -key tls.key -subj /CN=cert -out tls.csr
        printf 'subjectAltName=DNS:{NAME}\nextendedKeyUsage=serverAuth\n' > ext
        openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -days 30 -extfile ext -out tls.crt 2>/dev/null
        for file in ca.crt ca.key tls.crt tls.key; do base64 -w0 $file; echo; done",
        folder = host.folder().display()
    );
    let said = host.output_ok("sh", &["-c", &script])?;
    let lines: Vec<String> = said.lines().map(str::to_owned).collect();
    lines.try_into().map_err(|lines| anyhow::anyhow!("openssl said {lines:?}"))
}

/// Asks a controller as the API server does, believing these authorities alone.
fn is_believed(site: &Site, address: &str, authorities: &str) -> Result<()> {
    let file = site.client.folder().join("authorities");
    let script = format!("echo {authorities} | base64 -d > {}", file.display());
    site.client.output_ok("sh", &["-c", &script])?;
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "10", "--cacert"]).arg(&file);
    command.args(["--resolve", &format!("{NAME}:9443:{address}"), &format!("https://{NAME}:9443/convert")]);
    site.client.output(command)?.ok().map(drop)
}

pub(crate) fn certificates(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        // Two controllers begin at one moment, and share what one of them makes.
        site.webhooks(&[&site.manager, &site.client])?;
        let mut controllers = [site.controller()?, site.controller_on(&site.client, &[])?];
        for host in [&site.manager, &site.client] {
            site.wait_ready(host)?;
        }
        wait_asked(site)?;
        set_failure_policy(site, "Fail")?;
        let (first, bundles) = certificate(site)?;
        ensure!(!first.is_empty() && bundles.len() == 6 && bundles.iter().all(|it| *it == bundles[0]), "{bundles:?}");
        quiet(site)?;

        // One takes over that ends soon: the operator has it trusted, and puts it in the Secret.
        let [authority, authority_key, soon, key] = made_by_openssl(&site.manager)?;
        let both = joined(site, &bundles[0], &authority)?;
        set_bundles(site, &both)?;
        ask_for(site, Duration::from_secs(3))?;
        let data = json!({"ca.crt": authority, "ca.key": authority_key, "tls.crt": soon, "tls.key": key});
        site.cluster.patch(SECRET, &json!({"data": data}))?;
        let asked = ask_until(site, || {
            let now = certificate(site)?.0;
            Ok(now != first && now != soon)
        })?;
        eprintln!("measured: {asked} questions were answered while the certificate changed twice");
        ask_for(site, Duration::from_secs(3))?;
        let (_, bundles) = certificate(site)?;
        ensure!(bundles.iter().all(|bundle| *bundle == bundles[0] && *bundle != both), "{bundles:?}");
        for (controller, address) in controllers.iter().zip(["10.0.0.99", "10.0.0.200"]) {
            is_believed(site, address, &bundles[0]).with_context(|| controller.log())?;
            ensure!(controller.log().matches("\"webhookCertificateShown\"").count() == 2, "{}", controller.log());
        }
        // The one that is shown no more is still trusted: a controller may be late.
        ensure!(bundles[0].len() > authority.len() && bundles[0] != authority, "{bundles:?}");
        quiet(site)?;

        // The Secret is deleted, and the authority taken away: both come back, and are the same.
        let (last, bundles) = certificate(site)?;
        site.cluster.delete(SECRET)?;
        ask_until(site, || Ok(site.cluster.get(SECRET).is_ok()))?;
        ensure!(certificate(site)? == (last, bundles.clone()), "another one");
        set_bundles(site, "")?;
        eventually(LIMIT, || {
            ensure!(certificate(site)?.1 == bundles, "{:?}", certificate(site)?.1);
            ask(site)
        })?;
        quiet(site)?;

        // One ends. Whoever does not know yet goes on asking it, and is answered.
        let [_, leaving] = &mut controllers;
        leaving.signal(Signal::Terminate)?;
        ask_for(site, Duration::from_secs(1))?;
        ensure!(leaving.ended()?.is_none(), "it has ended without waiting for questions");
        site.webhooks(&[&site.manager])?;
        set_bundles(site, &bundles[0])?;
        set_failure_policy(site, "Fail")?;
        ask_for(site, Duration::from_secs(2))?;
        let status = leaving.wait(LIMIT)?;
        ensure!(status.success(), "{status}");
        ask(site)
    })
}

/// Both bundles as one.
fn joined(site: &Site, one: &str, other: &str) -> Result<String> {
    let script = format!("(echo {one} | base64 -d; echo {other} | base64 -d) | base64 -w0");
    site.client.output_ok("sh", &["-c", &script])
}

fn set_bundles(site: &Site, bundle: &str) -> Result<()> {
    // A controller may write at the same time.
    eventually(LIMIT, || {
        let mut configuration = site.cluster.get(CONFIGURATION)?;
        for webhook in configuration["webhooks"].as_array_mut().context("no webhooks")? {
            webhook["clientConfig"]["caBundle"] = if bundle.is_empty() { Value::Null } else { json!(bundle) };
        }
        site.cluster.request("PUT", CONFIGURATION, Some(&configuration)).map(drop)
    })
}

fn ask_for(site: &Site, time: Duration) -> Result<()> {
    let clock = netio::clock::Clock::start();
    ask_until(site, || Ok(clock.now().since(kit::Instant::from_micros(0)) > time)).map(drop)
}

/// Nothing is written while nothing changes.
fn quiet(site: &Site) -> Result<()> {
    let written = || -> Result<Vec<_>> {
        let requests = site.cluster.audit()?.into_iter();
        let ours = |request: &lab::kubernetes::AuditedRequest| {
            request.user == User::Controller.name()
                && !request.is_read()
                && ["secrets", "validatingwebhookconfigurations", "customresourcedefinitions"]
                    .contains(&request.resource.as_str())
        };
        Ok(requests.filter(ours).collect())
    };
    let before = written()?;
    std::thread::sleep(Duration::from_secs(5).into());
    let after = written()?;
    ensure!(before.len() == after.len(), "{:?}", after.get(before.len()..));
    Ok(())
}

pub(crate) fn modes(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        site.webhooks(&[&site.manager])?;
        site.apply(&[configuration(4), vec![service("lan", "segment")]].concat())?;
        // Without webhooks nobody answers, and nothing is made for them.
        let mut controller = site.controller_on(&site.manager, &["--webhook-mode=disabled"])?;
        site.wait_ingress("lan", &SEGMENT)?;
        ensure!(site.cluster.get(SECRET).is_err(), "a certificate was made");
        controller.kill()?;

        // With nothing else there are no addresses.
        let controller = site.controller_on(&site.manager, &["--webhook-mode=onlywebhook"])?;
        site.wait_ready(&site.manager)?;
        wait_asked(site)?;
        site.apply(&[service("second", "segment")])?;
        is_refused(site, &pool("twice", SEGMENT, 4), &["overlaps with already defined CIDR"])?;
        std::thread::sleep(Duration::from_secs(3).into());
        ensure!(site.ingress("second")?.is_empty(), "an address was given");
        drop(controller);

        // A certificate of somebody else: waited for, shown, and left alone.
        let folder = site.manager.folder().join("soon");
        fs::create_dir_all(&folder)?;
        let directory = folder.to_str().context("a path that is not text")?.to_owned();
        site.cluster.delete(SECRET)?;
        let arguments = ["--disable-cert-rotation", "--cert-dir", &directory];
        let _controller = site.controller_on(&site.manager, &arguments)?;
        eventually(LIMIT, || {
            let (status, text) = site.probe(&site.manager, "/readyz")?;
            ensure!(status == 503 && text.contains("webhook certificate: cannot read "), "{status} {text}");
            Ok(())
        })?;
        let [authority, ..] = made_by_openssl(&site.manager)?;
        site.wait_ready(&site.manager)?;
        is_believed(site, "10.0.0.99", &authority)?;
        set_bundles(site, &authority)?;
        wait_asked(site)?;
        site.wait_ingress("second", &["10.0.0.211", "fd00::211"])?;
        ensure!(site.cluster.get(SECRET).is_err(), "a certificate was made");
        ensure!(bundles(site)?.iter().all(|bundle| *bundle == authority), "the authorities were changed");
        Ok(())
    })
}
