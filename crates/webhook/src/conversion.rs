//! A ConversionReview (apiextensions.k8s.io): objects in, the same objects in another version out (contract 1.4).
//!
//! Our own definition of BGPPeer needs no conversion; one that the Go implementation left behind asks for it. It names
//! `v1beta1` and `v1beta2` as the versions of reviews, of which API servers know the first: so they send that, not `v1`. Both
//! have the same form.

use api::conversion;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Unreadable;

/// Where the API server asks for conversion.
pub const CONVERSION_PATH: &str = "/convert";

/// The versions of reviews that are answered, each in itself.
const REVIEW_VERSIONS: [&str; 2] = ["apiextensions.k8s.io/v1", "apiextensions.k8s.io/v1beta1"];

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Request {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: String,
    objects: Vec<Value>,
}

/// Reads the body of a request and writes that of the answer. One object that cannot be converted fails all, since the API
/// server wants as many back as it sent.
pub fn convert(body: &[u8]) -> Result<String, Unreadable> {
    let review: Review = serde_json::from_slice(body)?;
    if review.kind != "ConversionReview" || !REVIEW_VERSIONS.contains(&review.api_version.as_str()) {
        let found = format!("{} {}", review.api_version, review.kind);
        return Err(Unreadable::OtherKind { found, wanted: "a ConversionReview of apiextensions.k8s.io" });
    }
    let request = review.request.filter(|request| !request.uid.is_empty()).ok_or(Unreadable::Empty)?;
    let version = &request.desired_api_version;
    let converted: Result<Vec<Value>, _> =
        request.objects.into_iter().map(|object| conversion::convert(object, version)).collect();
    let mut response = match converted {
        Ok(objects) => json!({"result": {"status": "Success"}, "convertedObjects": objects}),
        Err(error) => json!({"result": {"status": "Failure", "message": error.to_string()}}),
    };
    if let Some(fields) = response.as_object_mut() {
        fields.insert("uid".to_owned(), Value::String(request.uid));
    }
    Ok(json!({"apiVersion": review.api_version, "kind": review.kind, "response": response}).to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(body: &str, expected: Expect) {
        let answer = convert(body.as_bytes()).unwrap_or_else(|error| error.to_string());
        expected.assert_eq(&answer);
    }

    fn review(version: &str, objects: &str) -> String {
        format!(
            r#"{{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
                "request": {{"uid": "u1", "desiredAPIVersion": "{version}", "objects": {objects}}}}}"#
        )
    }

    #[test]
    fn contract_1_4_peers_are_converted_both_ways_and_keep_their_order() {
        check(
            &review(
                "metallb.io/v1beta2",
                r#"[{"apiVersion": "metallb.io/v1beta1", "kind": "BGPPeer", "metadata": {"name": "a"}, "spec": {"myASN": 1}},
                    {"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": {"name": "b"}, "spec": {"vrf": "x"}}]"#,
            ),
            expect![[
                r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","response":{"convertedObjects":[{"apiVersion":"metallb.io/v1beta2","kind":"BGPPeer","metadata":{"name":"a"},"spec":{"myASN":1}},{"apiVersion":"metallb.io/v1beta2","kind":"BGPPeer","metadata":{"name":"b"},"spec":{"vrf":"x"}}],"result":{"status":"Success"},"uid":"u1"}}"#
            ]],
        );
        check(
            &review(
                "metallb.io/v1beta1",
                r#"[{"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": {"name": "b"},
                     "spec": {"peerASN": 2, "peerAddress": "192.0.2.1", "vrf": "x"}}]"#,
            ),
            expect![[
                r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","response":{"convertedObjects":[{"apiVersion":"metallb.io/v1beta1","kind":"BGPPeer","metadata":{"annotations":{"metallb.io/v1beta2-fields":"{\"vrf\":\"x\"}"},"name":"b"},"spec":{"peerASN":2,"peerAddress":"192.0.2.1"}}],"result":{"status":"Success"},"uid":"u1"}}"#
            ]],
        );
        // As it is asked where both versions of the Go implementation's definition are named.
        let old = review("metallb.io/v1beta1", "[]").replace("apiextensions.k8s.io/v1", "apiextensions.k8s.io/v1beta1");
        check(
            &old,
            expect![[
                r#"{"apiVersion":"apiextensions.k8s.io/v1beta1","kind":"ConversionReview","response":{"convertedObjects":[],"result":{"status":"Success"},"uid":"u1"}}"#
            ]],
        );
    }

    #[test]
    fn what_cannot_be_converted_fails_the_review_with_a_reason() {
        let peer = r#"{"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer"}"#;
        check(
            &review("metallb.io/v1", &format!("[{peer}]")),
            expect![[
                r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","response":{"result":{"message":"BGPPeer has no version \"metallb.io/v1\"","status":"Failure"},"uid":"u1"}}"#
            ]],
        );
        check(
            &review("metallb.io/v1beta2", &format!(r#"[{peer}, {{"apiVersion": "v1", "kind": "Pod"}}]"#)),
            expect![[
                r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","response":{"result":{"message":"Pod cannot be converted: only BGPPeer of metallb.io has more than one version","status":"Failure"},"uid":"u1"}}"#
            ]],
        );
        check(
            &review("metallb.io/v1beta2", "[7]"),
            expect![[
                r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","response":{"result":{"message":" cannot be converted: only BGPPeer of metallb.io has more than one version","status":"Failure"},"uid":"u1"}}"#
            ]],
        );
    }

    #[test]
    fn what_is_no_review_has_no_answer() {
        check("", expect!["the request is no review in JSON (line 1, column 0)"]);
        check("{}", expect![[r#"the request is " ", not a ConversionReview of apiextensions.k8s.io"#]]);
        check(
            r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}"#,
            expect!["the review has no request, or one without uid"],
        );
        check(
            &review("metallb.io/v1beta2", r#"{"password": "hidden"}"#),
            expect!["the request is no review in JSON (line 2, column 95)"],
        );
    }
}
