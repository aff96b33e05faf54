//! The definitions that `metallb crds` prints, as the API server understands them: `tests/crd-cases` and the columns of
//! `kubectl get`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use expect_test::{Expect, expect};
use lab::Lab;
use lab::kubernetes::NAMESPACE;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::site::{Site, definitions, on_bare_site, ours};

/// See `tests/crd-cases/README.md`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Case {
    rule: String,
    manifest: Value,
    update: Option<Value>,
    status: Option<Value>,
    status_update: Option<Value>,
    accepted: Option<Value>,
    refused: Option<String>,
    warning: Option<String>,
    #[serde(default, rename = "cel")]
    _cel: bool,
}

/// What a run of `kubectl` over many files said: by name of the object, what was refused and why.
struct Answer {
    accepted: String,
    refused: BTreeMap<String, String>,
    warnings: Vec<String>,
}

pub(crate) fn cases(lab: &Lab) -> Result<()> {
    on_bare_site(lab, |site| {
        site.define()?;
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/crd-cases/cases.yaml"))?;
        let cases: Vec<Case> = serde_saphyr::from_str(&text)?;
        check_cases(site, &cases)?;
        columns(site)?;
        // Applied again, they change nothing.
        let again = lab.folder().join("definitions.yaml");
        fs::write(&again, definitions()?)?;
        let again = site.cluster.kubectl(&["apply", "--server-side", "-f", again.to_str().context("a path")?])?;
        ensure!(again.lines().count() == 9, "{again}");
        let dry = site.cluster.kubectl(&["get", "crd", "-o", "jsonpath={.items[*].metadata.generation}"])?;
        ensure!(dry == ["1"; 9].join(" "), "generations of the definitions: {dry}");
        Ok(())
    })
}

fn name(number: usize) -> String {
    format!("case-{number:03}")
}

/// Runs one step for all cases that have it, and remembers what was refused.
fn step(
    site: &Site,
    cases: &[Case],
    arguments: &[&str],
    object: impl Fn(&Case) -> Option<Value>,
    refusals: &mut BTreeMap<String, String>,
) -> Result<Answer> {
    let folder = site.cluster.control().folder().join(arguments.join("-").replace('/', "-"));
    // Each step has a folder of its own.
    let folder = (0..1_000).map(|number| folder.with_extension(number.to_string())).find(|folder| !folder.exists());
    let folder = folder.context("a folder")?;
    fs::create_dir(&folder)?;
    let mut count = 0;
    for (number, case) in cases.iter().enumerate() {
        let name = name(number);
        let Some(mut object) = object(case) else { continue };
        ensure!(!refusals.contains_key(&name), "{}: refused before its last step: {}", case.rule, refusals[&name]);
        object["metadata"] = json!({"name": name, "namespace": NAMESPACE});
        fs::write(folder.join(format!("{name}.json")), object.to_string())?;
        count += 1;
    }
    ensure!(count > 0, "no case has the step {arguments:?}");
    let folder = folder.to_str().context("a path")?;
    let output = site.cluster.kubectl_any(&[arguments, &["-f", folder]].concat())?;
    let answer = read(&output.stdout, &output.stderr);
    refusals.extend(answer.refused.clone());
    Ok(answer)
}

/// Each error names its object or its file, which are called the same; lines that name none go on with the one before.
fn read(stdout: &str, stderr: &str) -> Answer {
    let mut answer = Answer { accepted: stdout.to_owned(), refused: BTreeMap::new(), warnings: Vec::new() };
    let mut current = String::new();
    for line in stderr.lines() {
        if line.starts_with("Warning:") {
            answer.warnings.push(line.to_owned());
            continue;
        }
        if let Some(at) = line.find("case-") {
            current = line.get(at..).unwrap_or_default().chars().take("case-000".len()).collect();
        }
        let text = answer.refused.entry(current.clone()).or_default();
        text.push_str(line);
        text.push('\n');
    }
    answer
}

fn check_cases(site: &Site, cases: &[Case]) -> Result<()> {
    let mut refusals = BTreeMap::new();
    let first = step(site, cases, &["apply"], |case| Some(case.manifest.clone()), &mut refusals)?;
    step(site, cases, &["apply"], |case| case.update.clone(), &mut refusals)?;
    let status = ["replace", "--subresource=status"];
    let with = |case: &Case, status: &Option<Value>| {
        let status = status.clone()?;
        let mut object = case.update.clone().unwrap_or_else(|| case.manifest.clone());
        object["status"] = status;
        Some(object)
    };
    step(site, cases, &status, |case| with(case, &case.status), &mut refusals)?;
    step(site, cases, &status, |case| with(case, &case.status_update), &mut refusals)?;

    let objects = objects(site)?;
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        if let Err(error) = judge(case, refusals.get(&name(number)), objects.get(&name(number))) {
            wrong.push(format!("{} ({}): {error:#}", case.rule, name(number)));
        }
        let is_warned = |text: &String| first.warnings.iter().any(|warning| warning.contains(text.as_str()));
        if !case.warning.iter().all(is_warned) {
            wrong.push(format!("{}: no warning among {:?}", case.rule, first.warnings));
        }
    }
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), first.accepted);
    Ok(())
}

fn judge(case: &Case, refusal: Option<&String>, object: Option<&Value>) -> Result<()> {
    match (&case.accepted, &case.refused, refusal) {
        (Some(wanted), None, None) => {
            let object = object.context("neither accepted nor refused")?;
            ensure!(holds(object, wanted), "the object is {object}");
            Ok(())
        }
        (None, Some(wanted), Some(refusal)) => {
            ensure!(refusal.contains(wanted.as_str()), "refused, but with: {refusal}");
            Ok(())
        }
        (Some(_), None, Some(refusal)) => bail!("refused: {refusal}"),
        (None, Some(_), None) => bail!("accepted: {object:?}"),
        _ => bail!("a case is either accepted or refused"),
    }
}

/// True when `object` has everything that is in `wanted`.
fn holds(object: &Value, wanted: &Value) -> bool {
    match (object, wanted) {
        (Value::Object(object), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| object.get(key).is_some_and(|has| holds(has, value)))
        }
        (object, wanted) => object == wanted,
    }
}

/// All objects of our kinds by name.
fn objects(site: &Site) -> Result<BTreeMap<String, Value>> {
    let plurals: Vec<String> = api::crd::KINDS.iter().map(|kind| format!("{}.metallb.io", kind.plural())).collect();
    let list = site.cluster.kubectl(&["get", &plurals.join(","), "-n", NAMESPACE, "-o", "json"])?;
    let list: Value = serde_json::from_str(&list)?;
    let items = list["items"].as_array().context("a list without items")?;
    let named = |item: &Value| Some((item["metadata"]["name"].as_str()?.to_owned(), item.clone()));
    Ok(items.iter().filter_map(named).collect())
}

/// Contract 1: the printer columns, as `kubectl get -o wide` shows them.
fn columns(site: &Site) -> Result<()> {
    let selector = json!([{"matchLabels": {"rack": "a"}}]);
    site.apply(&[
        ours("IPAddressPool", "v1beta1", "shown", json!({"addresses": ["198.51.100.0/24", "fd00:100::/120"]})),
        ours("BGPPeer", "v1beta2", "shown", json!({
            "myASN": 64512, "peerASN": 64500, "peerAddress": "10.0.0.254", "bfdProfile": "fast", "ebgpMultiHop": true,
        })),
        ours("BGPAdvertisement", "v1beta1", "shown", json!({
            "ipAddressPools": ["a"], "ipAddressPoolSelectors": selector, "peers": ["p"], "nodeSelectors": selector,
        })),
        ours("L2Advertisement", "v1beta1", "shown", json!({
            "ipAddressPools": ["a"], "ipAddressPoolSelectors": selector, "interfaces": ["eth0"], "nodeSelectors": selector,
        })),
        ours("BFDProfile", "v1beta1", "shown", json!({
            "passiveMode": true, "transmitInterval": 50, "receiveInterval": 60, "detectMultiplier": 3,
        })),
        ours("Community", "v1beta1", "shown", json!({"communities": []})),
        ours("ServiceL2Status", "v1beta1", "shown", json!({})),
        ours("ServiceBGPStatus", "v1beta1", "shown", json!({})),
        ours("ConfigurationState", "v1beta1", "shown", json!({})),
    ])?;
    let announced = r#"{"status":{"node":"n1","serviceName":"web","serviceNamespace":"shop"}}"#;
    let invalid = r#"{"status":{"result":"Invalid","errorSummary":"a pool overlaps"}}"#;
    for (kind, status) in
        [("servicel2status", announced), ("servicebgpstatus", announced), ("configurationstate", invalid)]
    {
        site.cluster.kubectl(&[
            "patch",
            kind,
            "shown",
            "-n",
            NAMESPACE,
            "--subresource=status",
            "--type=merge",
            "-p",
            status,
        ])?;
    }
    check_columns(
        site,
        "ipaddresspool",
        expect![[r#"
        NAME | AUTO ASSIGN | AVOID BUGGY IPS | ADDRESSES
        shown | true | false | ["198.51.100.0/24","fd00:100::/120"]"#]],
    )?;
    check_columns(
        site,
        "bgppeer",
        expect![[r#"
        NAME | ADDRESS | ASN | BFD PROFILE | MULTI HOPS
        shown | 10.0.0.254 | 64500 | fast | true"#]],
    )?;
    check_columns(
        site,
        "bgppeers.v1beta1.metallb.io",
        expect![[r#"
        NAME | ADDRESS | ASN | BFD PROFILE | MULTI HOPS
        shown | 10.0.0.254 | 64500 | fast | true"#]],
    )?;
    check_columns(
        site,
        "bgpadvertisement",
        expect![[r#"
        NAME | IPADDRESSPOOLS | IPADDRESSPOOL SELECTORS | PEERS | NODE SELECTORS
        shown | ["a"] | [{"matchLabels":{"rack":"a"}}] | ["p"] | [{"matchLabels":{"rack":"a"}}]"#]],
    )?;
    check_columns(
        site,
        "l2advertisement",
        expect![[r#"
        NAME | IPADDRESSPOOLS | IPADDRESSPOOL SELECTORS | INTERFACES | NODE SELECTORS
        shown | ["a"] | [{"matchLabels":{"rack":"a"}}] | ["eth0"] | [{"matchLabels":{"rack":"a"}}]"#]],
    )?;
    check_columns(
        site,
        "bfdprofile",
        expect![[r#"
        NAME | PASSIVE MODE | TRANSMIT INTERVAL | RECEIVE INTERVAL | MULTIPLIER
        shown | true | 50 | 60 | 3"#]],
    )?;
    check_columns(
        site,
        "servicel2status",
        expect![[r#"
        NAME | ALLOCATED NODE | SERVICE NAME | SERVICE NAMESPACE
        shown | n1 | web | shop"#]],
    )?;
    check_columns(
        site,
        "servicebgpstatus",
        expect![[r#"
        NAME | NODE | SERVICE NAME | SERVICE NAMESPACE
        shown | n1 | web | shop"#]],
    )?;
    check_columns(
        site,
        "configurationstate",
        expect![[r#"
        NAME | RESULT | ERRORSUMMARY | AGE
        shown | Invalid | a pool overlaps | AGE"#]],
    )?;
    check_columns(
        site,
        "community",
        expect![[r#"
        NAME | AGE
        shown | AGE"#]],
    )
}

fn check_columns(site: &Site, kind: &str, expected: Expect) -> Result<()> {
    let table = site.cluster.kubectl(&["get", kind, "shown", "-n", NAMESPACE, "-o", "wide"])?;
    let cells = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        // An age is another one each time.
        cells.map(|cell| if is_age(cell) { "AGE" } else { cell }).collect::<Vec<_>>().join(" | ")
    };
    expected.assert_eq(&table.lines().map(cells).collect::<Vec<_>>().join("\n"));
    Ok(())
}

fn is_age(cell: &str) -> bool {
    cell.strip_suffix(['s', 'm']).is_some_and(|number| number.chars().all(|letter| letter.is_ascii_digit()))
}
