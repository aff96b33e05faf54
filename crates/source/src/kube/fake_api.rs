//! An API server in the test's own process, without sockets, so that it runs in virtual time: lists in pages, watches,
//! merge patches of status, events; and everything that goes wrong with one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use ::kube::client::{Body, Client};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use serde_json::{Value, json};
use tower::BoxError;

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// An answer of this code, with this `Retry-After` unless it is empty.
    Status(u16, &'static str),
    /// No answer, ever.
    Hang,
    /// A good answer that ends at once.
    Empty,
    /// An answer that is not what was asked for.
    Garbage,
}

struct Watch {
    path: String,
    namespace: Option<String>,
    lines: Sender<Bytes, BoxError>,
}

struct Entry {
    version: u64,
    path: String,
    type_: &'static str,
    object: Value,
}

#[derive(Default)]
struct State {
    version: u64,
    /// Objects by the path of their kind (without a namespace) and by `namespace/name`.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    history: Vec<Entry>,
    forgotten_until: u64,
    watches: Vec<Watch>,
    faults: VecDeque<(String, u32, Fault)>,
    is_down: bool,
    requests: Vec<String>,
    under_way: usize,
    under_way_max: usize,
}

type Answer = Response<Channel<Bytes, BoxError>>;

#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

impl FakeApi {
    /// A server that knows these kinds, by the paths of their lists.
    pub(crate) fn knowing(paths: &[&str]) -> FakeApi {
        let api = FakeApi::default();
        for path in paths {
            api.learn(path);
        }
        api
    }

    pub(crate) fn learn(&self, path: &str) {
        self.state().objects.entry(path.to_owned()).or_default();
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        Client::new(tower::service_fn(move |request| api.clone().serve(request)), "default")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Creates or changes an object. Its name and namespace are read from it.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state();
        let key = key_of(&object);
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let known = state.objects.entry(path.to_owned()).or_default().insert(key, object.clone());
        state.tell(path, if known.is_some() { "MODIFIED" } else { "ADDED" }, object);
    }

    pub(crate) fn delete(&self, path: &str, key: &str) {
        let mut state = self.state();
        state.version += 1;
        let mut object = state.objects.get_mut(path).unwrap().remove(key).unwrap();
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.tell(path, "DELETED", object);
    }

    pub(crate) fn get(&self, path: &str, key: &str) -> Value {
        self.state().objects[path][key].clone()
    }

    pub(crate) fn all(&self, path: &str) -> Vec<Value> {
        self.state().objects[path].values().cloned().collect()
    }

    /// Sends a bookmark on every watch.
    pub(crate) fn bookmark(&self) {
        let mut state = self.state();
        state.version += 1;
        let object = json!({"metadata": {"resourceVersion": state.version.to_string()}});
        state.tell_all(&line("BOOKMARK", &object));
    }

    /// Sends this on every watch.
    pub(crate) fn say(&self, text: &str) {
        self.state().tell_all(text);
    }

    /// Ends all watches as a server does when their time is over.
    pub(crate) fn end_watches(&self) {
        self.state().watches.clear();
    }

    /// Forgets the past: a watch from before now is answered with 410.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.forgotten_until = state.version;
        state.history.clear();
    }

    /// Cuts all connections, and refuses new ones.
    pub(crate) fn go_down(&self) {
        let mut state = self.state();
        state.is_down = true;
        for watch in std::mem::take(&mut state.watches) {
            watch.lines.abort("connection reset".into());
        }
    }

    pub(crate) fn come_back(&self) {
        self.state().is_down = false;
    }

    /// The next `times` requests whose method and path contain this text meet a fault.
    pub(crate) fn fail(&self, text: &str, times: u32, fault: Fault) {
        self.state().faults.push_back((text.to_owned(), times, fault));
    }

    /// All requests so far, and forgets them.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// The most requests that were under way at one time.
    pub(crate) fn under_way_max(&self) -> usize {
        self.state().under_way_max
    }

    async fn serve(self, request: Request<Body>) -> Result<Answer, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let what = format!("{} {}", head.method, head.uri);
        let fault = {
            let mut state = self.state();
            state.requests.push(if body.is_empty() {
                what.clone()
            } else {
                format!("{what} {}", String::from_utf8_lossy(&body))
            });
            if state.is_down {
                return Err("connection refused".into());
            }
            state.under_way += 1;
            state.under_way_max = state.under_way_max.max(state.under_way);
            state.next_fault(&what)
        };
        if !what.contains("watch=true") {
            // What a server takes for an answer.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let answer = match fault {
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Status(code, retry_after)) => Ok(answer(
                code,
                retry_after,
                &json!({"kind": "Status", "code": code, "message": "no luck"}).to_string(),
            )),
            Some(Fault::Empty) => Ok(answer(200, "", "")),
            Some(Fault::Garbage) => Ok(answer(200, "", "<html>")),
            None => Ok(self.answer(head.method.as_str(), &head.uri, &body)),
        };
        self.state().under_way -= 1;
        answer
    }

    fn answer(&self, method: &str, uri: &http::Uri, body: &[u8]) -> Answer {
        let query: BTreeMap<&str, &str> =
            uri.query().unwrap_or("").split('&').filter_map(|pair| pair.split_once('=')).collect();
        let (path, namespace, name) = split(uri.path());
        let mut state = self.state();
        if !state.objects.contains_key(&path) {
            return answer(404, "", "404 page not found");
        }
        match method {
            "GET" if query.contains_key("watch") => state.watch(path, namespace, query["resourceVersion"]),
            "GET" if name.is_some() => {
                match state.objects[&path].get(&format!("{}/{}", namespace.unwrap_or_default(), name.unwrap())) {
                    Some(object) => answer(200, "", &object.to_string()),
                    None => refuse(404, "not found"),
                }
            }
            "GET" => state.list(&path, namespace.as_deref(), &query),
            "POST" => {
                let mut object: Value = serde_json::from_slice(body).unwrap();
                if let (Some(namespace), None) = (namespace, object["metadata"]["namespace"].as_str()) {
                    object["metadata"]["namespace"] = json!(namespace);
                }
                let key = key_of(&object);
                if state.objects[&path].contains_key(&key) {
                    return refuse(409, "already exists");
                }
                if !path.ends_with("/events") {
                    state.version += 1;
                    object["metadata"]["resourceVersion"] = json!(state.version.to_string());
                }
                state.objects.get_mut(&path).unwrap().insert(key, object.clone());
                let metadata = json!({"metadata": object["metadata"]});
                state.tell(&path, "ADDED", object);
                answer(201, "", &metadata.to_string())
            }
            "PATCH" => state.patch(&path, &format!("{}/{}", namespace.unwrap_or_default(), name.unwrap()), body),
            other => panic!("unexpected method {other}"),
        }
    }
}

impl State {
    fn next_fault(&mut self, what: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(text, ..)| text.split('*').all(|part| what.contains(part)))?;
        let (_, times, fault) = &mut self.faults[at];
        let fault = fault.clone();
        *times -= 1;
        if *times == 0 {
            self.faults.remove(at);
        }
        Some(fault)
    }

    fn tell(&mut self, path: &str, type_: &'static str, object: Value) {
        let text = line(type_, &object);
        self.watches.retain_mut(|watch| !watch.wants(path, &object) || watch.lines.try_send(frame(&text)).is_ok());
        self.history.push(Entry { version: self.version, path: path.to_owned(), type_, object });
    }

    fn tell_all(&mut self, text: &str) {
        self.watches.retain_mut(|watch| watch.lines.try_send(frame(text)).is_ok());
    }

    fn list(&self, path: &str, namespace: Option<&str>, query: &BTreeMap<&str, &str>) -> Answer {
        let after = query.get("continue").map(|token| token.replace("%2F", "/"));
        let limit: usize = query["limit"].parse().unwrap();
        let mut rest = self.objects[path]
            .iter()
            .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
            .filter(|(key, _)| namespace.is_none_or(|namespace| key.starts_with(&format!("{namespace}/"))));
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let token = match (rest.next(), page.last()) {
            (Some(_), Some((key, _))) => key.as_str(),
            _ => "",
        };
        let items: Vec<_> = page.iter().map(|(_, object)| object).collect();
        let metadata = json!({"resourceVersion": self.version.to_string(), "continue": token});
        answer(200, "", &json!({"metadata": metadata, "items": items}).to_string())
    }

    fn watch(&mut self, path: String, namespace: Option<String>, from: &str) -> Answer {
        let from: u64 = from.parse().unwrap();
        let (lines, body) = Channel::new(4_096);
        let mut watch = Watch { path, namespace, lines };
        if from < self.forgotten_until {
            let status = json!({"kind": "Status", "code": 410, "message": "too old resource version"});
            watch.lines.try_send(frame(&line("ERROR", &status))).unwrap();
            return Response::new(body);
        }
        for entry in self.history.iter().filter(|entry| entry.version > from) {
            if watch.wants(&entry.path, &entry.object) {
                watch.lines.try_send(frame(&line(entry.type_, &entry.object))).unwrap();
            }
        }
        self.watches.push(watch);
        Response::new(body)
    }

    fn patch(&mut self, path: &str, key: &str, body: &[u8]) -> Answer {
        let patch: Value = serde_json::from_slice(body).unwrap();
        let Some(object) = self.objects.get_mut(path).unwrap().get_mut(key) else { return refuse(404, "not found") };
        if let Some(uid) = patch["metadata"].get("uid").filter(|uid| **uid != object["metadata"]["uid"]) {
            return refuse(422, &format!("metadata.uid: Invalid value: {uid}: field is immutable"));
        }
        if patch["metadata"].get("resourceVersion").is_some_and(|it| *it != object["metadata"]["resourceVersion"]) {
            return refuse(409, "the object has been modified");
        }
        merge(object, &patch);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = object.clone();
        let metadata = json!({"metadata": object["metadata"]});
        self.tell(path, "MODIFIED", object);
        answer(200, "", &metadata.to_string())
    }
}

impl Watch {
    fn wants(&self, path: &str, object: &Value) -> bool {
        let namespace = object["metadata"]["namespace"].as_str();
        self.path == path && self.namespace.as_deref().is_none_or(|wanted| namespace == Some(wanted))
    }
}

/// A path without its namespace and name, and these two.
fn split(path: &str) -> (String, Option<String>, Option<String>) {
    let mut parts: Vec<&str> = path.split('/').collect();
    let mut namespace = None;
    if let Some(at) = parts.iter().position(|part| *part == "namespaces")
        && parts.len() > at + 2
    {
        namespace = Some(parts[at + 1].to_owned());
        parts.drain(at..at + 2);
    }
    let kind_at = if parts[1] == "api" { 3 } else { 4 };
    let name = parts.get(kind_at + 1).map(|name| (*name).to_owned());
    parts.truncate(kind_at + 1);
    (parts.join("/"), namespace, name)
}

fn key_of(object: &Value) -> String {
    let text = |field| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

fn line(type_: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": type_, "object": object}))
}

/// A JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(target.as_object_mut().unwrap().entry(name).or_insert(Value::Null), value);
        }
    }
}

fn refuse(code: u16, message: &str) -> Answer {
    answer(code, "", &json!({"kind": "Status", "code": code, "message": message}).to_string())
}

fn answer(code: u16, retry_after: &str, text: &str) -> Answer {
    let (mut sender, body) = Channel::new(1);
    sender.try_send(frame(text)).unwrap();
    let mut response = Response::builder().status(code);
    if !retry_after.is_empty() {
        response = response.header("retry-after", retry_after);
    }
    response.body(body).unwrap()
}

fn frame(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::from(text.to_owned()))
}
