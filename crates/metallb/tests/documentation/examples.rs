//! Examples in pages are what the linter accepts, and the values in them are values of the chart.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::markdown::{Block, pages};
use crate::read;

/// The first line of an example of values for the chart.
const VALUES: &str = "# values.yaml";
/// Begins the first line of an example that is wrong; the code of the finding follows.
const REFUSED: &str = "# refused: ";

fn lint(text: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metallb"));
    command.args(["lint", "--namespace", "metallb-system", "-"]);
    answer(command, text)
}

/// What a program makes of a text: how it ended, and what it said.
fn answer(mut command: Command, text: &str) -> (Option<i32>, String) {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn documents(text: &str) -> Vec<Value> {
    source::yaml::parse(text).documents.into_iter().map(|document| document.value).collect()
}

/// The places in values that the chart does not have.
fn unknown_values(values: &Value, known: &Value, path: &str, out: &mut Vec<String>) {
    let Some(fields) = values.as_object() else { return };
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        match known.get(name) {
            None => out.push(path),
            // What has no fields in the chart is the operator's alone.
            Some(known) if known.as_object().is_none_or(serde_json::Map::is_empty) => {}
            Some(known) => unknown_values(value, known, &path, out),
        }
    }
}

fn fault(block: &Block) -> Option<String> {
    if block.text.starts_with(VALUES) {
        let known = documents(&read("charts/metallb/values.yaml")).remove(0);
        let mut unknown = Vec::new();
        for values in documents(&block.text) {
            unknown_values(&values, &known, "", &mut unknown);
        }
        return (!unknown.is_empty()).then(|| format!("the chart has no {}", unknown.join(", ")));
    }
    let (status, said) = lint(&block.text);
    if let Some(code) = block.text.lines().next().and_then(|line| line.strip_prefix(REFUSED)) {
        let is_refused = status == Some(1) && said.contains(&format!("error[{code}]"));
        return (!is_refused).then(|| format!("not refused as {code}:\n{said}"));
    }
    (status != Some(0) || !said.starts_with("no problems in ")).then_some(said)
}

#[test]
fn every_example_is_accepted() {
    let mut faults = Vec::new();
    let mut count = 0;
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.language == "yaml") {
            count += 1;
            faults.extend(fault(block).map(|fault| format!("{}:{}: {fault}", page.path, block.line)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 20, "examples are not found: {count}");
}

/// What FRR says of a configuration, if it does not take it.
fn refused_by_frr(configuration: &str) -> Option<String> {
    let mut command = Command::new("vtysh");
    command.args(["--dryrun", "--inputfile", "/dev/stdin"]);
    let (status, said) = answer(command, configuration);
    (status != Some(0)).then_some(said)
}

#[test]
fn frr_reads_the_router_of_the_tutorial() {
    let page = read("docs/tutorial.md");
    let (_, rest) = page.split_once("cat >frr/frr.conf <<EOF\n").unwrap();
    let configuration = rest.split("EOF\n").next().unwrap();
    assert_eq!(refused_by_frr(configuration), None);
    assert!(refused_by_frr(&configuration.replace("peer-group", "peers")).is_some());
}

#[test]
fn faults_of_examples_are_found() {
    let block = |text: &str| Block { line: 1, language: "yaml".to_owned(), text: text.to_owned() };
    assert_eq!(fault(&block("# values.yaml\nspeaker: {no: 1}\n")).unwrap(), "the chart has no .speaker.no");
    let pool = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a, namespace: metallb-system}\n";
    assert!(fault(&block(&format!("{pool}spec: {{addresses: []}}\n"))).is_some());
    assert_eq!(fault(&block(&format!("# refused: pool-empty\n{pool}spec: {{addresses: []}}\n"))), None);
}
