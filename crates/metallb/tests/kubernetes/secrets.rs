//! BGP passwords from Secrets (contract 1.2, 4.2 rules 16 and 17): missing, of the wrong type, right, changed.

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::kubernetes::NAMESPACE;
use lab::router::Router;
use lab::{Lab, Process, eventually};
use serde_json::{Value, json};

use crate::site::{LIMIT, ROUTED, Site, addresses_of, configuration, on_site, peer, service, slices};

const PASSWORDS: [&str; 2] = ["first-of-two-passwords", "second-of-two-passwords"];

pub(crate) fn secrets(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let router = site.frr(Some(PASSWORDS[0]))?;
        let (_controller, speakers) = (site.controller()?, site.speakers()?);
        let with_secret = |spec: &mut Value| spec["passwordSecret"] = json!({"name": "router"});
        let mut objects = configuration(4);
        objects.retain(|object| object["kind"] != "BGPPeer");
        objects.extend([peer(0, with_secret), peer(1, with_secret), service("routed", "routed")]);
        objects.extend(slices("routed", &[&site.nodes[0], &site.nodes[1]])?);
        site.apply(&objects)?;
        // A secret that is not there is no concern of the controller.
        site.wait_ingress("routed", &ROUTED)?;
        wait_said(&speakers, "secret ref not found")?;
        site.apply(&[secret("Opaque", PASSWORDS[0])])?;
        wait_said(&speakers, "secret type mismatch")?;

        // The type of a Secret cannot be changed.
        site.cluster.kubectl(&["delete", "secret", "router", "-n", NAMESPACE])?;
        site.apply(&[secret("kubernetes.io/basic-auth", PASSWORDS[0])])?;
        wait_sessions_and_routes(site, &router)?;

        // First the router, as an administrator would; the sessions it has go on until the Secret follows.
        let mut commands = vec!["configure terminal".to_owned(), "router bgp 64500".to_owned()];
        for address in site.nodes.iter().map(addresses_of).collect::<Result<Vec<_>>>()?.concat() {
            commands.push(format!("neighbor {address} password {}", PASSWORDS[1]));
        }
        router.command(&commands.iter().map(String::as_str).collect::<Vec<_>>())?;
        site.apply(&[secret("kubernetes.io/basic-auth", PASSWORDS[1])])?;
        wait_sessions_and_routes(site, &router)?;
        // It is the new password that counts: the old one would not have brought them up again.
        let keys = router.command(&["show running-config"])?;
        ensure!(keys.matches(PASSWORDS[1]).count() == 4 && !keys.contains(PASSWORDS[0]), "{keys}");
        stays(&router)?;

        for speaker in &speakers {
            let log = speaker.log();
            ensure!(PASSWORDS.iter().all(|password| !log.contains(password)), "a password is in the log");
        }
        Ok(())
    })
}

fn secret(type_: &str, password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": type_,
        "metadata": {"name": "router", "namespace": NAMESPACE}, "stringData": {"password": password},
    })
}

fn wait_said(speakers: &[Process], text: &str) -> Result<()> {
    for speaker in speakers {
        eventually(LIMIT, || {
            ensure!(speaker.log().contains(text), "no {text:?} in {}", speaker.log());
            Ok(())
        })?;
    }
    Ok(())
}

fn wait_sessions_and_routes(site: &Site, router: &Router) -> Result<()> {
    site.wait_sessions(router)?;
    site.wait_routes(router, &[0, 1])
}

/// All sessions are up, and still the same some seconds later.
fn stays(router: &Router) -> Result<()> {
    let established = || -> Result<Vec<(String, u64)>> {
        let summary: Value = serde_json::from_str(&router.command(&["show bgp neighbors json"])?)?;
        let neighbors = summary.as_object().context("no neighbours")?;
        let read = |(name, neighbor): (&String, &Value)| {
            ensure!(neighbor["bgpState"] == "Established", "{name} is {}", neighbor["bgpState"]);
            Ok((name.clone(), neighbor["connectionsEstablished"].as_u64().unwrap_or_default()))
        };
        neighbors.iter().map(read).collect()
    };
    let before = eventually(LIMIT, established)?;
    std::thread::sleep(Duration::from_secs(5).into());
    let after = established()?;
    ensure!(before == after, "sessions were established so often: {before:?}, then {after:?}");
    Ok(())
}
