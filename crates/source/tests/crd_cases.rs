//! The cases of `tests/crd-cases`, which a real API server decides by the definitions of `metallb crds`, against our own
//! check of structures: both must say the same, CEL rules apart.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use api::{Document, Severity, Violation};
use serde_json::{Value, json};

#[test]
fn our_check_of_structures_agrees_with_the_api_server() {
    let text = std::fs::read_to_string("../../tests/crd-cases/cases.yaml").unwrap();
    let stream = source::yaml::parse(&text);
    assert!(stream.problems.is_empty(), "{:?}", stream.problems);
    let cases = stream.documents[0].value.as_array().unwrap();
    assert!(cases.len() > 100);
    for case in cases.iter().filter(|case| case["cel"] != true) {
        let mut last = case.get("update").unwrap_or(&case["manifest"]).clone();
        if let Some(status) = case.get("status-update").or(case.get("status")) {
            last["status"] = status.clone();
        }
        let errors = errors_of(&last);
        assert_eq!(errors.is_empty(), case.get("accepted").is_some(), "{}: {errors:?}", case["rule"]);
        assert_ne!(case.get("accepted").is_some(), case.get("refused").is_some(), "{}", case["rule"]);
    }
}

fn errors_of(object: &Value) -> Vec<Violation> {
    let violations = match api::read(object) {
        Document::Object(read) => read.violations,
        Document::Broken { violations, .. } => violations,
        Document::Foreign { .. } => panic!("not one of ours: {object}"),
    };
    violations.into_iter().filter(|violation| violation.severity == Severity::Error).collect()
}

#[test]
fn every_kind_of_ours_has_cases_both_ways() {
    let text = std::fs::read_to_string("../../tests/crd-cases/cases.yaml").unwrap();
    let stream = source::yaml::parse(&text);
    let cases = stream.documents[0].value.as_array().unwrap();
    for kind in api::crd::KINDS {
        for verdict in ["accepted", "refused"] {
            let has = |case: &&Value| case["manifest"]["kind"] == json!(kind.name()) && case.get(verdict).is_some();
            assert!(cases.iter().any(|case| has(&case)), "no {kind} is {verdict}");
        }
    }
}
