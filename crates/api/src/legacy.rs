//! The configuration of MetalLB before it had kinds of its own (up to 0.12; contract 1, legacy): one text in a ConfigMap,
//! with fields in words-and-dashes. Pure: from the value of that text to objects, or to what is wrong with it.
//!
//! Names of peers, advertisements and communities are those that the converter of the Go implementation gives. Pools and
//! profiles keep theirs, as far as Kubernetes allows: Services ask for pools by name.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::schema::{Severity, Violation, escape};
use crate::suggest::closest;

/// The name of the one Community object.
const COMMUNITIES: &str = "communities";
/// The longest name of an object.
const NAME_MAX: usize = 253;

/// What a field of the old form is, and what it is called now.
#[derive(Clone, Copy)]
struct Field {
    old: &'static str,
    new: &'static str,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Number,
    Switch,
    Texts,
    /// A mapping of texts.
    Labels,
    /// Selectors of nodes.
    Selectors,
    /// Conditions of a selector.
    Conditions,
    /// Not copied: looked at by itself.
    Apart,
}

const fn field(old: &'static str, new: &'static str, shape: Shape) -> Field {
    Field { old, new, shape }
}

const TOP: [Field; 4] = [
    field("peers", "", Shape::Apart),
    field("bgp-communities", "", Shape::Apart),
    field("address-pools", "", Shape::Apart),
    field("bfd-profiles", "", Shape::Apart),
];

const PEER: [Field; 12] = [
    field("my-asn", "myASN", Shape::Number),
    field("peer-asn", "peerASN", Shape::Number),
    field("peer-address", "peerAddress", Shape::Text),
    field("source-address", "sourceAddress", Shape::Text),
    field("peer-port", "peerPort", Shape::Number),
    field("hold-time", "holdTime", Shape::Text),
    field("keepalive-time", "keepaliveTime", Shape::Text),
    field("router-id", "routerID", Shape::Text),
    field("node-selectors", "nodeSelectors", Shape::Selectors),
    field("password", "password", Shape::Text),
    field("bfd-profile", "", Shape::Apart),
    field("ebgp-multihop", "ebgpMultiHop", Shape::Switch),
];

const SELECTOR: [Field; 2] = [
    field("match-labels", "matchLabels", Shape::Labels),
    field("match-expressions", "matchExpressions", Shape::Conditions),
];

const CONDITION: [Field; 3] = [
    field("key", "key", Shape::Text),
    field("operator", "operator", Shape::Text),
    field("values", "values", Shape::Texts),
];

const POOL: [Field; 6] = [
    field("protocol", "", Shape::Apart),
    field("name", "", Shape::Apart),
    field("addresses", "addresses", Shape::Texts),
    field("auto-assign", "autoAssign", Shape::Switch),
    field("avoid-buggy-ips", "avoidBuggyIPs", Shape::Switch),
    field("bgp-advertisements", "", Shape::Apart),
];

const ADVERTISEMENT: [Field; 4] = [
    field("aggregation-length", "aggregationLength", Shape::Number),
    field("aggregation-length-v6", "aggregationLengthV6", Shape::Number),
    field("localpref", "localPref", Shape::Number),
    field("communities", "communities", Shape::Texts),
];

const PROFILE: [Field; 8] = [
    field("name", "", Shape::Apart),
    field("receive-interval", "receiveInterval", Shape::Number),
    field("transmit-interval", "transmitInterval", Shape::Number),
    field("detect-multiplier", "detectMultiplier", Shape::Number),
    field("echo-interval", "echoInterval", Shape::Number),
    field("echo-mode", "echoMode", Shape::Switch),
    field("passive-mode", "passiveMode", Shape::Switch),
    field("minimum-ttl", "minimumTtl", Shape::Number),
];

/// Turns configurations of old into objects. Numbers in names go on from one to the next.
#[derive(Debug)]
pub struct Converter {
    namespace: String,
    objects: Vec<Value>,
    violations: Vec<Violation>,
    peers: usize,
    bgp_advertisements: usize,
    l2_advertisements: usize,
    /// The names that pools and profiles have now, by kind and by what they were.
    names: BTreeMap<(&'static str, String), String>,
}

impl Converter {
    /// One that makes objects of this namespace.
    pub fn new(namespace: &str) -> Self {
        Converter {
            namespace: namespace.to_owned(),
            objects: Vec::new(),
            violations: Vec::new(),
            peers: 0,
            bgp_advertisements: 0,
            l2_advertisements: 0,
            names: BTreeMap::new(),
        }
    }

    /// Whether a value looks like such a configuration.
    pub fn knows(value: &Value) -> bool {
        value.as_object().is_some_and(|fields| TOP.iter().any(|field| fields.contains_key(field.old)))
    }

    /// Takes one configuration, and returns what is wrong with it, with pointers into it.
    pub fn convert(&mut self, config: &Value) -> Vec<Violation> {
        let Some(_) = self.fields(config, "", &TOP, "a configuration") else {
            return std::mem::take(&mut self.violations);
        };
        // Peers name profiles, so these come first.
        for (at, profile) in self.items(config, "bfd-profiles") {
            self.profile(&at, &profile);
        }
        for (at, peer) in self.items(config, "peers") {
            self.peer(&at, &peer);
        }
        for (at, pool) in self.items(config, "address-pools") {
            self.pool(&at, &pool);
        }
        self.communities(config);
        std::mem::take(&mut self.violations)
    }

    /// The objects, as JSON with `apiVersion` and `kind`.
    pub fn into_objects(self) -> Vec<Value> {
        self.objects
    }

    fn peer(&mut self, at: &str, peer: &Value) {
        let Some(mut spec) = self.fields(peer, at, &PEER, "a peer") else { return };
        for needed in ["my-asn", "peer-asn", "peer-address"] {
            if peer.get(needed).is_none() {
                self.error("missing-field", at, format!("a peer needs {needed:?}"), None);
            }
        }
        if let Some(profile) = self.text(peer, at, "bfd-profile") {
            let now = self.names.get(&("BFDProfile", profile.clone())).cloned();
            if now.is_none() {
                let message = format!("there is no profile {profile:?} in bfd-profiles");
                self.error("unknown-profile", &format!("{at}/bfd-profile"), message, None);
            }
            spec.insert("bfdProfile".to_owned(), json!(now));
        }
        self.peers = self.peers.saturating_add(1);
        self.object("BGPPeer", "v1beta2", &format!("peer{}", self.peers), spec);
    }

    fn pool(&mut self, at: &str, pool: &Value) {
        let Some(spec) = self.fields(pool, at, &POOL, "an address pool") else { return };
        if pool.get("addresses").is_none() {
            self.error("missing-field", at, "an address pool needs \"addresses\"".to_owned(), None);
        }
        let Some(name) = self.name("IPAddressPool", pool, at) else { return };
        self.object("IPAddressPool", "v1beta1", &name, spec);
        let advertisements = self.items_at(pool, at, "bgp-advertisements");
        match self.text(pool, at, "protocol").as_deref() {
            Some("layer2") => {
                if let Some((first, _)) = advertisements.first() {
                    let hint = "a pool of protocol layer2 has none; remove it, or make the protocol bgp".to_owned();
                    self.error(
                        "not-for-layer2",
                        first,
                        "an advertisement for BGP in a pool of layer 2".to_owned(),
                        Some(hint),
                    );
                }
                self.l2_advertisements = self.l2_advertisements.saturating_add(1);
                let object = format!("l2advertisement{}", self.l2_advertisements);
                self.object("L2Advertisement", "v1beta1", &object, pools(&name));
            }
            Some("bgp") => {
                let mut specs: Vec<Map<String, Value>> = Vec::new();
                for (at, advertisement) in advertisements {
                    specs.extend(self.fields(&advertisement, &at, &ADVERTISEMENT, "an advertisement"));
                }
                if specs.is_empty() {
                    specs.push(Map::new());
                }
                for mut spec in specs {
                    spec.extend(pools(&name));
                    self.bgp_advertisements = self.bgp_advertisements.saturating_add(1);
                    let object = format!("bgpadvertisement{}", self.bgp_advertisements);
                    self.object("BGPAdvertisement", "v1beta1", &object, spec);
                }
            }
            Some(_) => {
                let message = "the protocol is neither layer2 nor bgp".to_owned();
                self.error("unknown-value", &format!("{at}/protocol"), message, None);
            }
            None if pool.get("protocol").is_none() => {
                let hint = "add \"protocol: layer2\" or \"protocol: bgp\"".to_owned();
                self.error("missing-field", at, "an address pool needs \"protocol\"".to_owned(), Some(hint));
            }
            None => {}
        }
    }

    fn profile(&mut self, at: &str, profile: &Value) {
        let Some(spec) = self.fields(profile, at, &PROFILE, "a BFD profile") else { return };
        if let Some(name) = self.name("BFDProfile", profile, at) {
            self.object("BFDProfile", "v1beta1", &name, spec);
        }
    }

    fn communities(&mut self, config: &Value) {
        let at = "/bgp-communities";
        let communities = match config.get("bgp-communities") {
            None | Some(Value::Null) => return,
            Some(Value::Object(communities)) => communities.clone(),
            Some(_) => return self.wrong_type(at, "a mapping from names to communities"),
        };
        let mut aliases = Vec::new();
        for (name, value) in &communities {
            match value {
                Value::String(value) => aliases.push(json!({ "name": name, "value": value })),
                _ => self.wrong_type(&format!("{at}/{}", escape(name)), "a community in quotes, such as \"64512:1\""),
            }
        }
        if !aliases.is_empty() {
            let spec = Map::from_iter([("communities".to_owned(), Value::Array(aliases))]);
            self.object("Community", "v1beta1", COMMUNITIES, spec);
        }
    }

    fn object(&mut self, kind: &str, version: &str, name: &str, spec: Map<String, Value>) {
        self.objects.push(json!({
            "apiVersion": format!("{}/{version}", crate::GROUP),
            "kind": kind,
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": spec,
        }));
    }

    /// The name of a pool or profile, as Kubernetes allows it.
    fn name(&mut self, kind: &'static str, value: &Value, at: &str) -> Option<String> {
        let Some(old) = self.text(value, at, "name") else {
            if value.get("name").is_none() {
                self.error("missing-field", at, format!("{kind} needs a name: add \"name\""), None);
            }
            return None;
        };
        let at = format!("{at}/name");
        let new = allowed(&old);
        if new.is_empty() {
            self.error("bad-name", &at, format!("Kubernetes allows no name like {old:?}"), None);
            return None;
        }
        if self.names.values().zip(self.names.keys()).any(|(name, (of, _))| *of == kind && *name == new) {
            let hint = "names have to be different, and Kubernetes knows no capital letters".to_owned();
            self.error("duplicate-name", &at, format!("there is another {kind} {new:?}"), Some(hint));
            return None;
        }
        if new != old {
            let hint = (kind == "IPAddressPool")
                .then(|| format!("change the annotation {}/address-pool of Services that ask for it", "metallb.io"));
            let message = format!("{old:?} is no name that Kubernetes allows; it becomes {new:?}");
            self.violation("renamed", Severity::Warning, &at, message, hint);
        }
        self.names.insert((kind, old), new.clone());
        Some(new)
    }

    /// The fields of a mapping under their new names.
    fn fields(&mut self, value: &Value, at: &str, known: &[Field], what: &str) -> Option<Map<String, Value>> {
        let Some(fields) = value.as_object() else {
            self.wrong_type(at, what);
            return None;
        };
        let mut spec = Map::new();
        for (name, value) in fields {
            let at = format!("{at}/{}", escape(name));
            let Some(field) = known.iter().find(|field| field.old == name) else {
                let candidates = known.iter().map(|field| field.old);
                let hint = closest(name, candidates.clone()).map(|name| format!("did you mean {name:?}?"));
                let all: Vec<&str> = candidates.collect();
                let hint = hint.unwrap_or_else(|| format!("{what} has {}", all.join(", ")));
                self.error("unknown-field", &at, format!("unknown field {name:?}"), Some(hint));
                continue;
            };
            if value.is_null() || field.shape == Shape::Apart {
                continue;
            }
            if let Some(value) = self.shaped(value, &at, field.shape) {
                spec.insert(field.new.to_owned(), value);
            }
        }
        Some(spec)
    }

    fn shaped(&mut self, value: &Value, at: &str, shape: Shape) -> Option<Value> {
        let wanted = match (shape, value) {
            (Shape::Text, Value::String(_)) | (Shape::Switch, Value::Bool(_)) => return Some(value.clone()),
            (Shape::Number, Value::Number(number)) if number.is_i64() || number.is_u64() => return Some(value.clone()),
            (Shape::Texts, Value::Array(items)) if items.iter().all(Value::is_string) => return Some(value.clone()),
            (Shape::Labels, Value::Object(labels)) if labels.values().all(Value::is_string) => {
                return Some(value.clone());
            }
            (Shape::Selectors, Value::Array(items)) => return self.list(items, at, &SELECTOR, "a selector"),
            (Shape::Conditions, Value::Array(items)) => return self.list(items, at, &CONDITION, "a condition"),
            (Shape::Text, _) => "a text",
            (Shape::Number, _) => "a number",
            (Shape::Switch, _) => "true or false",
            (Shape::Texts, _) => "a list of texts",
            (Shape::Labels, _) => "a mapping of texts (numbers and the like in quotes)",
            (Shape::Selectors | Shape::Conditions, _) => "a list",
            (Shape::Apart, _) => return None,
        };
        self.wrong_type(at, wanted);
        None
    }

    fn list(&mut self, items: &[Value], at: &str, known: &[Field], what: &str) -> Option<Value> {
        let mut list = Vec::new();
        for (number, item) in items.iter().enumerate() {
            list.push(Value::Object(self.fields(item, &format!("{at}/{number}"), known, what)?));
        }
        Some(Value::Array(list))
    }

    fn items(&mut self, config: &Value, name: &str) -> Vec<(String, Value)> {
        self.items_at(config, "", name)
    }

    /// The items of a list with their pointers.
    fn items_at(&mut self, value: &Value, at: &str, name: &str) -> Vec<(String, Value)> {
        let at = format!("{at}/{name}");
        match value.get(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => {
                let with_pointer = |(number, item): (usize, &Value)| (format!("{at}/{number}"), item.clone());
                items.iter().enumerate().map(with_pointer).collect()
            }
            Some(_) => {
                self.wrong_type(&at, "a list");
                Vec::new()
            }
        }
    }

    fn text(&mut self, value: &Value, at: &str, name: &str) -> Option<String> {
        match value.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.wrong_type(&format!("{at}/{name}"), "a text");
                None
            }
        }
    }

    fn wrong_type(&mut self, at: &str, wanted: &str) {
        self.error("wrong-type", at, format!("this has to be {wanted}"), None);
    }

    fn error(&mut self, code: &'static str, at: &str, message: String, hint: Option<String>) {
        self.violation(code, Severity::Error, at, message, hint);
    }

    fn violation(&mut self, code: &'static str, severity: Severity, at: &str, message: String, hint: Option<String>) {
        self.violations.push(Violation { code, severity, pointer: at.to_owned(), message, hint });
    }
}

fn pools(name: &str) -> Map<String, Value> {
    Map::from_iter([("ipAddressPools".to_owned(), json!([name]))])
}

/// The name that is nearest to this one and allowed for an object (RFC 1123): small letters, digits, dashes and dots.
fn allowed(name: &str) -> String {
    let letter = |letter: char| match letter {
        'a'..='z' | '0'..='9' | '.' | '-' => letter,
        'A'..='Z' => letter.to_ascii_lowercase(),
        _ => '-',
    };
    let name: String = name.chars().map(letter).take(NAME_MAX).collect();
    name.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(config: Value) -> Vec<String> {
        let found = Converter::new("metallb-system").convert(&config);
        found
            .into_iter()
            .map(|violation| format!("{} {}: {}", violation.code, violation.pointer, violation.message))
            .collect()
    }

    fn pool(edit: impl FnOnce(&mut Value)) -> Value {
        let mut pool = json!({"name": "p", "protocol": "layer2", "addresses": ["10.0.0.0/24"]});
        edit(&mut pool);
        json!({"address-pools": [pool]})
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_told_with_its_place() {
        for (config, wanted) in [
            (json!([]), "wrong-type : this has to be a configuration"),
            (json!({"pools": []}), "unknown-field /pools: unknown field \"pools\""),
            (json!({"peers": {}}), "wrong-type /peers: this has to be a list"),
            (json!({"peers": [1]}), "wrong-type /peers/0: this has to be a peer"),
            (
                pool(|pool| pool["auto-assign"] = json!("yes")),
                "wrong-type /address-pools/0/auto-assign: this has to be true or false",
            ),
            (
                pool(|pool| pool["addresses"] = json!("10.0.0.0/24")),
                "wrong-type /address-pools/0/addresses: this has to be a list of texts",
            ),
            (
                pool(|pool| pool["protocol"] = json!("arp")),
                "unknown-value /address-pools/0/protocol: the protocol is neither layer2 nor bgp",
            ),
            (
                pool(|pool| drop(pool.as_object_mut().unwrap().remove("protocol"))),
                "missing-field /address-pools/0: an address pool needs \"protocol\"",
            ),
            (
                pool(|pool| pool["name"] = json!("-")),
                "bad-name /address-pools/0/name: Kubernetes allows no name like \"-\"",
            ),
            (
                pool(|pool| pool["name"] = json!("My Pool")),
                "renamed /address-pools/0/name: \"My Pool\" is no name that Kubernetes allows; it becomes \"my-pool\"",
            ),
            (
                pool(|pool| pool["bgp-advertisements"] = json!([{}])),
                "not-for-layer2 /address-pools/0/bgp-advertisements/0: an advertisement for BGP in a pool of layer 2",
            ),
            (
                json!({"bgp-communities": {"a/b": 7}}),
                "wrong-type /bgp-communities/a~1b: this has to be a community in quotes, such as \"64512:1\"",
            ),
        ] {
            assert_eq!(complaints(config.clone()), [wanted], "{config}");
        }
    }

    #[test]
    fn names_that_become_the_same_are_refused() {
        let pool = |name| json!({"name": name, "protocol": "bgp", "addresses": []});
        let found = complaints(json!({"address-pools": [pool("a"), pool("A")]}));
        assert_eq!(found, ["duplicate-name /address-pools/1/name: there is another IPAddressPool \"a\""]);
    }

    #[test]
    fn a_peer_needs_what_it_always_needed_and_a_profile_that_is_there() {
        let found = complaints(json!({"peers": [{"bfd-profile": "fast", "password": 7}]}));
        assert_eq!(
            found,
            [
                "wrong-type /peers/0/password: this has to be a text",
                "missing-field /peers/0: a peer needs \"my-asn\"",
                "missing-field /peers/0: a peer needs \"peer-asn\"",
                "missing-field /peers/0: a peer needs \"peer-address\"",
                "unknown-profile /peers/0/bfd-profile: there is no profile \"fast\" in bfd-profiles",
            ]
        );
    }
}
