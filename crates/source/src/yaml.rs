//! YAML text to objects, with the place of every value: for the linter and for the manifests source.
//!
//! [`parse`] takes a stream of documents apart and remembers where everything stands; [`read`] goes on to the objects
//! that MetalLB reads, with all that is wrong with their structure. JSON is YAML, so JSON goes the same way. Lists
//! (`kind: List`, `ServiceList`...) count as their items. What the objects mean together is not looked at: that is
//! `config`.
//!
//! One broken document does not hide the others: documents are taken apart at their `---` lines before they are parsed,
//! which YAML 1.2 section 9.1.2 allows, since no document can hold such a line. Scalars are read as kubectl reads them:
//! `yes` and `on` are true, `0777` is octal.
//!
//! ```
//! let text = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: web}\nspec: {addreses: []}\n";
//! let reading = source::yaml::read(text);
//! let problem = &reading.objects[0].problems[0];
//! assert_eq!((problem.place.line, problem.place.column), (4, 8));
//! assert_eq!(problem.message, "unknown field \"addreses\"");
//! assert_eq!(problem.hint.as_deref(), Some("did you mean \"addresses\"?"));
//! ```

use std::fmt;
use std::ops::Range;

use api::{Object, ObjectRef, Severity, Violation};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value, json};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, MessageFormatter, Options, Spanned, UserMessageFormatter};

/// The longest text that is read, in bytes. Ten thousand Services with everything kubectl prints fit.
pub const TEXT_LENGTH_MAX: usize = 64 * 1024 * 1024;
/// Values in one document.
pub const DOCUMENT_VALUES_MAX: usize = 2_000_000;
/// Values that aliases may repeat in one document: enough for people, too little for a bomb.
pub const ALIAS_VALUES_MAX: usize = 100_000;
/// How deep values may be nested.
pub const DEPTH_MAX: usize = 64;
/// Stack of the thread that parses, in bytes.
const PARSER_STACK: usize = 8 * 1024 * 1024;

/// Where something stands in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// The first byte of the text that belongs to it.
    pub start: usize,
    /// The first byte after it; `start` where the length is not known.
    pub end: usize,
}

/// One document of a stream, or one item of a list. `Debug` shows where it begins, not what it says: that may be secret.
#[derive(Clone, PartialEq)]
pub struct Document {
    /// What it says.
    pub value: Value,
    tree: Tree,
}

impl Document {
    /// The place to show for a JSON pointer: of a single value its own, of a mapping or list that of its key. Where the
    /// pointer leads nowhere, the place of the closest thing around it.
    pub fn place(&self, pointer: &str) -> Place {
        let mut tree = &self.tree;
        for part in pointer.split('/').skip(1) {
            match tree.child(part) {
                Some(child) => tree = child,
                None => break,
            }
        }
        match (&tree.children, tree.key) {
            (Children::Fields(_) | Children::Items(_), Some(key)) => key,
            _ => tree.value,
        }
    }

    /// The bytes of the text with values that must not be shown.
    fn collect_secrets(&self, ranges: &mut Vec<Range<usize>>) {
        // Tools keep copies of whole objects in annotations.
        let pointers: &[&str] = match self.value.get("kind").and_then(Value::as_str) {
            Some("Secret") => &["/data", "/stringData", "/metadata/annotations"],
            Some("BGPPeer") => &["/spec/password", "/metadata/annotations"],
            _ => &[],
        };
        for pointer in pointers {
            let mut parts = pointer.split('/').skip(1);
            if let Some(tree) = parts.try_fold(&self.tree, |tree, part| tree.child(part)) {
                tree.collect_ranges(ranges);
            }
        }
    }

    /// The place of the key that a JSON pointer ends with; like [`Document::place`] where there is none.
    pub fn key_place(&self, pointer: &str) -> Place {
        let mut tree = Some(&self.tree);
        for part in pointer.split('/').skip(1) {
            tree = tree.and_then(|tree| tree.child(part));
        }
        tree.and_then(|tree| tree.key).unwrap_or_else(|| self.place(pointer))
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("place", &self.tree.value).finish_non_exhaustive()
    }
}

/// What a text holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// The documents, in order; those without content are left out.
    pub documents: Vec<Document>,
    /// The documents that are not YAML.
    pub problems: Vec<Problem>,
    /// Of those, the ones that must not be shown: see [`Reading::secrets`].
    pub secrets: Vec<Range<usize>>,
}

/// Something that is wrong in a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object it is about, if that can be told.
    pub object: Option<ObjectRef>,
    /// A stable name of the rule, such as `unknown-field`.
    pub code: &'static str,
    /// An error, unless the object is surely meant as it is understood.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// JSON pointer (RFC 6901) into the document; empty for all of it.
    pub pointer: String,
    /// What is wrong. Never shows a value that may be secret; the text at `place` may.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: {}", self.place.line, self.place.column, self.message)
    }
}

/// An object and the document it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The object, without the fields that are not known.
    pub object: Object,
    /// Where it stands.
    pub document: Document,
    /// What is wrong with it nevertheless. With an error among them, an API server would refuse the object.
    pub problems: Vec<Problem>,
}

impl Manifest {
    /// True when an API server would take the object.
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != Severity::Error)
    }
}

/// A document that MetalLB does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// As written.
    pub api_version: String,
    /// As written.
    pub kind: String,
    /// Where it begins.
    pub place: Place,
}

/// The objects of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The objects that could be read, in order. Look at [`Manifest::is_sound`] before using one.
    pub objects: Vec<Manifest>,
    /// Documents of other kinds, in order.
    pub skipped: Vec<Skipped>,
    /// Documents that could not be read at all.
    pub problems: Vec<Problem>,
    /// The bytes of the text that must not be shown: passwords and what is in Secrets; and documents that could not be
    /// taken apart, if they look as if they held any.
    pub secrets: Vec<Range<usize>>,
}

/// Reads the objects of a text. BGPPeers of the deprecated version are converted to the present one.
pub fn read(text: &str) -> Reading {
    let Stream { documents, problems, secrets } = parse(text);
    let mut reading = Reading { problems, secrets, ..Reading::default() };
    for document in documents {
        document.collect_secrets(&mut reading.secrets);
        match api::read(&document.value) {
            api::Document::Object(read) => {
                let reference = read.object.reference();
                let problem = |violation| problem_of(violation, Some(reference.clone()), &document);
                let problems = read.violations.into_iter().map(problem).collect();
                reading.objects.push(Manifest { object: read.object, document, problems });
            }
            api::Document::Foreign { api_version, kind } => {
                reading.skipped.push(Skipped { api_version, kind, place: document.place("") });
            }
            api::Document::Broken { reference, violations } => {
                let problem = |violation| problem_of(violation, reference.clone(), &document);
                reading.problems.extend(violations.into_iter().map(problem));
            }
        }
    }
    reading
}

fn problem_of(violation: Violation, object: Option<ObjectRef>, document: &Document) -> Problem {
    let Violation { code, severity, pointer, message, hint } = violation;
    // Of a field that should not be there the name is what matters, not the value.
    let place = if code == "unknown-field" { document.key_place(&pointer) } else { document.place(&pointer) };
    Problem { object, code, severity, place, pointer, message, hint }
}

/// Takes a stream of YAML documents apart.
pub fn parse(text: &str) -> Stream {
    if text.len() > TEXT_LENGTH_MAX {
        let message = format!("the text is longer than {TEXT_LENGTH_MAX} bytes");
        return Stream { problems: vec![problem("too-long", Place::default(), message)], ..Stream::default() };
    }
    // The parser calls itself for every level of nesting, up to `DEPTH_MAX` times, and needs some 40 KiB for each in a
    // build without optimisation: more than the stacks of threads that others have made.
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, || parse_chunks(text));
        parser.ok().and_then(|parser| parser.join().ok())
    })
    .unwrap_or_else(|| {
        let message = "the parser could not be started".to_owned();
        Stream { problems: vec![problem("yaml-syntax", Place::default(), message)], ..Stream::default() }
    })
}

fn parse_chunks(text: &str) -> Stream {
    let mut stream = Stream::default();
    for chunk in chunks(text) {
        match serde_saphyr::from_multiple_with_options::<Spanned<Raw>>(chunk.text, options()) {
            Ok(documents) => {
                for raw in documents {
                    let (value, tree) = chunk.grow(raw);
                    expand(Document { value, tree }, &mut stream.documents);
                }
            }
            Err(error) => {
                let place = error.location().map_or(chunk.beginning(), |location| chunk.place(location));
                let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
                stream.problems.push(problem("yaml-syntax", place, message));
                stream.secrets.extend(chunk.secrets());
            }
        }
    }
    stream
}

fn problem(code: &'static str, place: Place, message: String) -> Problem {
    Problem { object: None, code, severity: Severity::Error, place, pointer: String::new(), message, hint: None }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: DOCUMENT_VALUES_MAX.saturating_mul(2),
            max_nodes: DOCUMENT_VALUES_MAX,
            max_depth: DEPTH_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIAS_VALUES_MAX },
        duplicate_keys: DuplicateKeyPolicy::Error,
        legacy_octal_numbers: true,
        with_snippet: false,
    }
}

/// Replaces a list by its items, and those that are lists by theirs.
fn expand(document: Document, documents: &mut Vec<Document>) {
    let text = |key: &str| document.value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
    let (Some(item_kind), Some(Value::Array(items)), Some(tree)) =
        (kind.strip_suffix("List"), document.value.get("items"), document.tree.child("items"))
    else {
        documents.push(document);
        return;
    };
    let Children::Items(trees) = &tree.children else { return };
    for (item, tree) in items.iter().zip(trees) {
        let mut value = item.clone();
        if let (Some(fields), false) = (value.as_object_mut(), item_kind.is_empty()) {
            // The API itself leaves these out of the items of a list that is of one kind.
            fields.entry("apiVersion").or_insert_with(|| json!(api_version));
            fields.entry("kind").or_insert_with(|| json!(item_kind));
        }
        expand(Document { value, tree: tree.clone() }, documents);
    }
}

/// Reads any bytes as a text and checks what has to hold of the result; for fuzzing.
///
/// # Panics
///
/// When something does not hold.
pub fn fuzz_read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let reading = read(&text);
    let sound = reading.objects.iter().all(|manifest| manifest.object.metadata().name.len() <= text.len());
    assert!(sound, "an object has a name that is not in the text");
    let problems = reading.objects.iter().flat_map(|manifest| &manifest.problems).chain(&reading.problems);
    for problem in problems {
        let Place { line, column, start, end } = problem.place;
        assert!(line >= 1 && column >= 1, "a place begins at 1: {problem:?}");
        assert!(text.get(start..end).is_some(), "a place is in the text: {problem:?}");
        assert!(problem.code != "unreadable", "what cannot be read has a better reason: {problem:?}");
    }
    for range in &reading.secrets {
        assert!(text.get(range.clone()).is_some(), "secrets are in the text: {range:?}");
    }
}

/// A part of a text that holds whole documents.
#[derive(Clone, Copy, Debug)]
struct Chunk<'a> {
    text: &'a str,
    /// Bytes and lines before it.
    start: usize,
    lines_before: usize,
}

/// Cuts the text before each `---` that has something before it to cut off.
fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let without_mark = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut cuts = Vec::new();
    let mut position = text.len().saturating_sub(without_mark.len());
    let mut current = (position, 0);
    let mut has_content = false;
    for (line_number, line) in without_mark.split_inclusive('\n').enumerate() {
        let is_marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_marker && has_content {
            cuts.push((current, position));
            current = (position, line_number);
        }
        // Comments and directives before a marker belong to the document behind it.
        has_content |=
            is_marker || !(line.trim().is_empty() || line.trim_start().starts_with('#') || line.starts_with('%'));
        position = position.saturating_add(line.len());
    }
    cuts.push((current, text.len()));
    cuts.into_iter()
        .filter_map(|((start, lines_before), end)| Some(Chunk { text: text.get(start..end)?, start, lines_before }))
        .collect()
}

impl Chunk<'_> {
    fn beginning(&self) -> Place {
        Place { line: self.lines_before.saturating_add(1), column: 1, start: self.start, end: self.start }
    }

    /// A place in this part as one in the whole text.
    fn place(&self, location: Location) -> Place {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let span = location.span();
        // The parser leaves bytes out for some errors.
        let offset = span.byte_offset().filter(|offset| *offset > 0).map(number);
        let start = self.start.saturating_add(offset.unwrap_or_else(|| self.offset_of(location)));
        Place {
            line: self.lines_before.saturating_add(number(location.line()).max(1)),
            column: number(location.column()).max(1),
            start,
            end: start.saturating_add(span.byte_len().map_or(0, number)),
        }
    }

    /// The byte at a line and column.
    fn offset_of(&self, location: Location) -> usize {
        let before = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut lines = self.text.split_inclusive('\n');
        let above: usize = lines.by_ref().take(before(location.line())).map(str::len).sum();
        let in_line = lines.next().unwrap_or_default().chars().take(before(location.column()));
        above.saturating_add(in_line.map(char::len_utf8).sum())
    }

    /// All of it, if it looks as if it held a secret.
    fn secrets(&self) -> Option<Range<usize>> {
        let text = self.text.to_lowercase();
        let is_suspect = text.contains("secret") || text.contains("password");
        is_suspect.then(|| self.start..self.start.saturating_add(self.text.len()))
    }

    fn grow(&self, raw: Spanned<Raw>) -> (Value, Tree) {
        let place = self.place(raw.referenced);
        let leaf = |value| (value, Tree { key: None, value: place, children: Children::None });
        match raw.value {
            Raw::Scalar(value) => leaf(value),
            Raw::List(items) => {
                let (values, trees) = items.into_iter().map(|item| self.grow(item)).unzip();
                (Value::Array(values), Tree { key: None, value: place, children: Children::Items(trees) })
            }
            Raw::Map(fields) => {
                let mut values = serde_json::Map::new();
                let mut trees = Vec::with_capacity(fields.len());
                for (key, field) in fields {
                    let (value, mut tree) = self.grow(field);
                    tree.key = Some(self.place(key.referenced));
                    values.insert(key.value.clone(), value);
                    trees.push((key.value, tree));
                }
                (Value::Object(values), Tree { key: None, value: place, children: Children::Fields(trees) })
            }
        }
    }
}

/// Where a value and what is in it stand.
#[derive(Clone, Debug, PartialEq)]
struct Tree {
    key: Option<Place>,
    value: Place,
    children: Children,
}

#[derive(Clone, Debug, PartialEq)]
enum Children {
    None,
    Items(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

impl Tree {
    /// What a part of a JSON pointer leads to.
    fn child(&self, part: &str) -> Option<&Tree> {
        match &self.children {
            Children::None => None,
            Children::Items(items) => items.get(part.parse::<usize>().ok()?),
            Children::Fields(fields) => fields.iter().find(|(name, _)| api::escape(name) == part).map(|(_, tree)| tree),
        }
    }
}

impl Tree {
    /// The bytes of all single values in it.
    fn collect_ranges(&self, ranges: &mut Vec<Range<usize>>) {
        match &self.children {
            Children::None => ranges.push(self.value.start..self.value.end),
            Children::Items(items) => items.iter().for_each(|item| item.collect_ranges(ranges)),
            Children::Fields(fields) => fields.iter().for_each(|(_, field)| field.collect_ranges(ranges)),
        }
    }
}

/// A value as the parser gives it.
#[derive(Debug)]
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::from(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::from(value)))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Raw::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn describe(reading: &Reading) -> String {
        let mut lines = Vec::new();
        for manifest in &reading.objects {
            let Place { line, column, .. } = manifest.document.place("");
            lines.push(format!("{line}:{column} {}", manifest.object.reference()));
            lines.extend(manifest.problems.iter().map(|problem| format!("  {}", describe_problem(problem))));
        }
        lines.extend(reading.skipped.iter().map(|s| format!("{}: skipped {} {}", s.place.line, s.api_version, s.kind)));
        lines.extend(reading.problems.iter().map(describe_problem));
        lines.join("\n")
    }

    fn describe_problem(problem: &Problem) -> String {
        let Problem { code, severity, place, pointer, message, hint, .. } = problem;
        let hint = hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}:{} {}[{code}] {pointer}: {message}{hint}", place.line, place.column, severity.as_str())
    }

    fn check(text: &str, expected: Expect) {
        expected.assert_eq(&describe(&read(text)));
    }

    #[test]
    fn a_broken_document_does_not_hide_the_others() {
        check(
            "\
# first
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
kind: [
---
apiVersion: v1
kind: Namespace
metadata:
  name: b
...
---
---
# nothing here
--- # a comment
apiVersion: apps/v1
kind: Deployment
metadata: {name: c}
",
            expect![["
                2:1 Namespace a
                8:1 Namespace b
                17: skipped apps/v1 Deployment
                6:7 error[yaml-syntax] : unclosed bracket '['"]],
        );
    }

    #[test]
    fn problems_stand_where_they_are_and_show_no_values() {
        check(
            "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: web
spec:
  adresses:
  - 10.0.0.0/24
  addresses: 10.0.0.0/24
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata:
  name: tor
spec:
  password: 12345
  peerASN: 4294967296
  dynamicASN: Internal
  nodeSelectors:
  - matchLabels: {rack: 1}
---
apiVersion: metallb.io/v1beta2
kind: BFDProfile
metadata: {name: Fast}
---
apiVersion: v1
kind: IPAddressPool
---
apiVersion: metallb.io/v1beta1
kind: AddressPool
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisment
---
apiVersion: metallb.io/v1beta1
kind: MetalLB
---
- just
- a list
",
            expect![[r#"
                1:1 IPAddressPool web
                  8:14 error[wrong-type] /spec/addresses: addresses must be a list, not text (put "- " before the value to make it a list of one)
                  6:3 error[unknown-field] /spec/adresses: unknown field "adresses" (did you mean "addresses"?)
                10:1 BGPPeer tor
                  17:15 error[unknown-value] /spec/dynamicASN: dynamicASN must be one of internal, external (did you mean "internal"?)
                  19:25 error[wrong-type] /spec/nodeSelectors/0/matchLabels/rack: rack must be text, not a number (put the value in quotes)
                  15:13 error[wrong-type] /spec/password: password must be text, not a number (put the value in quotes)
                  16:12 error[out-of-range] /spec/peerASN: peerASN must be 0 to 4294967295, not 4294967296
                  14:1 error[missing-field] /spec/myASN: missing field "myASN" in spec
                34: skipped metallb.io/v1beta1 MetalLB
                21:13 error[unknown-version] /apiVersion: BFDProfile has no version "metallb.io/v1beta2" (use metallb.io/v1beta1)
                25:13 error[unknown-kind] /apiVersion: IPAddressPool is not a kind of v1 (did you mean "apiVersion: metallb.io/v1beta1"?)
                29:7 error[removed-kind] /kind: AddressPool does not exist any more (use an IPAddressPool, and an L2Advertisement or BGPAdvertisement that selects it)
                32:7 error[unknown-kind] /kind: metallb.io has no kind "L2Advertisment" (did you mean "L2Advertisement"?)
                37:1 error[not-an-object] : not a Kubernetes object: apiVersion is missing (a Kubernetes object begins with "apiVersion:" and "kind:")"#]],
        );
    }

    #[test]
    fn text_after_a_byte_order_mark_and_with_carriage_returns_keeps_its_places() {
        let text =
            "\u{feff}---\r\napiVersion: v1\r\nkind: Node\r\nmetadata:\r\n  name: n\u{e4}\r\n  labels: {a: 1}\r\n";
        let reading = read(text);
        let place = reading.objects[0].problems[0].place;
        assert_eq!((place.line, place.column), (6, 15));
        assert_eq!(text.get(place.start..place.end), Some("1"));
    }

    #[test]
    fn places_of_containers_are_those_of_their_keys() {
        let text = "spec:\n  addresses:\n  - 10.0.0.0/24\n  a/b~c: {x: 1}\n";
        let stream = parse(text);
        let document = &stream.documents[0];
        let at = |place: Place| text.get(place.start..place.end).unwrap_or_default();
        assert_eq!(at(document.place("/spec/addresses")), "addresses");
        assert_eq!(at(document.place("/spec/addresses/0")), "10.0.0.0/24");
        assert_eq!(at(document.place("/spec/addresses/7/nowhere")), "addresses");
        assert_eq!(at(document.place("/spec/a~1b~0c")), "a/b~c");
        assert_eq!(at(document.key_place("/spec/a~1b~0c/x")), "x");
        assert_eq!(document.place("/nowhere").line, 1);
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        let stream =
            parse("a: 4294967295\nb: yes\nc: off\nd: 65000:100\ne: 1.5\nf: 'true'\ng: ~\nh: fc00::1\ni: 0777\n");
        let expected = json!({"a": 4_294_967_295_u64, "b": true, "c": false, "d": "65000:100", "e": 1.5, "f": "true",
            "g": null, "h": "fc00::1", "i": 511});
        assert_eq!(stream.documents[0].value, expected);
        let large = parse("a: 18446744073709551615\nb: -9223372036854775808\n");
        assert_eq!(large.documents[0].value, json!({"a": u64::MAX, "b": i64::MIN}));
    }

    #[test]
    fn lists_count_as_their_items_and_json_is_yaml() {
        let text = r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"x": 1}}},
            {"apiVersion": "metallb.io/v1beta1", "kind": "CommunityList", "items": []}]}"#;
        check(
            text,
            expect![[r#"
                2:13 Namespace a
                  2:97 error[wrong-type] /metadata/labels/x: x must be text, not a number (put the value in quotes)"#]],
        );
        let of_one_kind = "apiVersion: v1\nkind: NodeList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n";
        check(
            of_one_kind,
            expect![["
            4:3 Node a
            5:3 Node b"]],
        );
    }

    #[test]
    fn the_deprecated_version_of_bgppeer_is_converted() {
        let text = "apiVersion: metallb.io/v1beta1\nkind: BGPPeer\nmetadata: {name: a}\n\
            spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, peerPort: 0}\n";
        check(
            text,
            expect![["
                1:1 BGPPeer a
                  1:13 warning[deprecated-version] /apiVersion: metallb.io/v1beta1 BGPPeer is deprecated (use metallb.io/v1beta2; all fields keep their names)"]],
        );
        let Object::BGPPeer(peer) = &read(text).objects[0].object else { panic!("not a peer") };
        assert_eq!((peer.spec.peer_port, peer.spec.hold_time.as_ref()), (None, None));
    }

    #[test]
    fn secrets_are_found_whatever_form_they_have() {
        let text = "\
apiVersion: v1
kind: Secret
metadata:
  name: s
  annotations: {copy: hunter0}
data:
  password: aHVudGVyMQ==
stringData:
  a: 'hunter2'
  b: |
    hunter3
    hunter4
  c: >-
    hunter5
    hunter6
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: p}
spec: {password: 123456, nodeSelectors: 1}
---
kind: Secret
data: [hunter7
---
kind: Service
spec: [
";
        let mut shown = text.as_bytes().to_vec();
        for range in read(text).secrets {
            shown[range].fill(b'*');
        }
        let shown = String::from_utf8(shown).unwrap();
        for secret in ["hunter", "aHVudGVy", "123456"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("kind: Service") && shown.contains("password:"), "{shown}");
        assert!(!format!("{:?}", read(text)).contains("hunter"));
    }

    #[test]
    fn errors_have_bytes_that_fit_their_line_and_column() {
        for text in [
            "a: 1\nb: [1\n",
            "\n\n---\na: 1\nb: [1\n---\nc: 2\n",
            "a: \"\u{e4}\n",
            "a: 1\n b: 2\n",
            "a: b: c\n",
            "- a\nb\n",
        ] {
            let stream = parse(text);
            let place = stream.problems[0].place;
            let above = text.get(..place.start).unwrap();
            let line = above.matches('\n').count() + 1;
            let column = above.chars().rev().take_while(|c| *c != '\n').count() + 1;
            assert_eq!((line, column), (place.line, place.column), "{text:?}");
        }
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (level, alias) in
            (1..12).zip(["*a0", "*a1", "*a2", "*a3", "*a4", "*a5", "*a6", "*a7", "*a8", "*a9", "*a10"])
        {
            laughs +=
                &["a", &level.to_string(), ": &a", &level.to_string(), " [", &[alias; 10].join(", "), "]\n"].concat();
        }
        let deep = "[".repeat(100_000);
        let deep_block = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>();
        for text in [laughs, deep, deep_block, "a: *a".to_owned(), "a: &a [*a]".to_owned(), "a: 1\na: 2".to_owned()] {
            let stream = parse(&text);
            assert_eq!((stream.documents.len(), stream.problems.len()), (0, 1), "{:?}", text.get(..9));
        }
        assert_eq!(parse(&" ".repeat(TEXT_LENGTH_MAX + 1)).problems[0].code, "too-long");
    }

    #[test]
    fn the_deepest_allowed_document_needs_no_stack_of_the_caller() {
        for (open, close) in [("[", "]"), ("{a: ", "}")] {
            let deep = format!("{}{}", open.repeat(DEPTH_MAX - 1), close.repeat(DEPTH_MAX - 1));
            let parsed = std::thread::Builder::new().stack_size(256 << 10).spawn(move || parse(&deep)).unwrap();
            assert_eq!(parsed.join().unwrap().documents.len(), 1);
        }
    }
}
