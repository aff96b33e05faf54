//! One story, told to both sources: nobody behind the seam can tell which one it talks to.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use api::core::Ingress;
use api::{Key, Kind, Write};
use expect_test::expect;
use serde_json::{Value, json};

use crate::kube::fake_api::FakeApi;
use crate::manifests::StatusFiles;
use crate::testing::{TemporaryDirectory, changes};
use crate::{Identity, Options, PoolStatus, Source, kube, manifests};

/// What the story needs of the world around a source.
trait World {
    fn start(&self, options: Options) -> Source;
    fn put(&self, object: &Value);
    fn delete(&self, object: &Value);
    fn lose(&self);
    fn find(&self);
}

fn path_of(object: &Value) -> &'static str {
    if object["kind"] == json!("Node") { "/api/v1/nodes" } else { "/api/v1/services" }
}

impl World for FakeApi {
    fn start(&self, options: Options) -> Source {
        kube::start(self.client(), options)
    }

    fn put(&self, object: &Value) {
        // Like an API server, which does not take the status of a Service with the rest.
        let mut object = object.clone();
        let is_same = |known: &Value| ["namespace", "name", "uid"].iter().all(|f| text(known, f) == text(&object, f));
        let known = self.all(path_of(&object)).into_iter().find(is_same);
        if let Some(known) = known.filter(|known| known["spec"].is_object()) {
            for (part, field) in [("/status", "status"), ("/metadata/annotations", "annotations")] {
                let into = if field == "status" { &mut object } else { &mut object["metadata"] };
                if let Some(value) = known.pointer(part) {
                    into[field] = value.clone();
                }
            }
        }
        FakeApi::put(self, path_of(&object), object);
    }

    fn delete(&self, object: &Value) {
        FakeApi::delete(self, path_of(object), &format!("{}/{}", text(object, "namespace"), text(object, "name")));
    }

    fn lose(&self) {
        self.go_down();
    }

    fn find(&self) {
        self.come_back();
    }
}

struct Directory {
    root: TemporaryDirectory,
    /// Where the manifests are now.
    at: RefCell<PathBuf>,
}

impl Directory {
    fn new() -> Directory {
        let root = TemporaryDirectory::new();
        std::fs::create_dir(root.path().join("here")).unwrap();
        Directory { at: RefCell::new("here".into()), root }
    }

    fn file(&self, object: &Value) -> String {
        format!("{}/{}-{}.json", self.at.borrow().display(), text(object, "namespace"), text(object, "name"))
    }

    fn move_to(&self, to: &str) {
        let from = self.at.replace(to.into());
        std::fs::rename(self.root.path().join(from), self.root.path().join(to)).unwrap();
    }
}

impl World for Directory {
    fn start(&self, options: Options) -> Source {
        manifests::start(self.root.path().join("here"), options, StatusFiles::Owned)
    }

    fn put(&self, object: &Value) {
        self.root.write(&self.file(object), &object.to_string());
    }

    fn delete(&self, object: &Value) {
        self.root.remove(&self.file(object));
    }

    fn lose(&self) {
        self.move_to("away");
    }

    fn find(&self) {
        self.move_to("here");
    }
}

fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}

fn service(name: &str, uid: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": name, "uid": uid},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": class},
    })
}

fn node(ready: &str, heartbeat: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1", "uid": "n"},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}]},
    })
}

fn status(name: &str, uid: &str, ip: &str) -> Write {
    Write::ServiceStatus {
        service: Key::new("shop", name),
        uid: uid.to_owned(),
        ingress: vec![Ingress { ip: Some(ip.to_owned()), ..Ingress::default() }],
        pool: Some("pool-1".to_owned()),
    }
}

async fn tell(world: &impl World) -> String {
    let options = Options {
        kinds: vec![Kind::Service, Kind::Node],
        reports: Vec::new(),
        namespace: "metallb-system".to_owned(),
        identity: Identity { component: "metallb-controller", instance: "c".to_owned(), pod: None },
        pool_status: PoolStatus::Read,
        lease: None,
    };
    let mut story = Vec::new();
    let mut source = world.start(options.clone());
    // Kinds arrive in any order.
    let mut chapter = async |title: &str, source: &mut Source| {
        let text = changes(source).await;
        let (mut lines, synced): (Vec<_>, Vec<_>) = text.lines().partition(|line| *line != "synced");
        lines.sort_unstable();
        lines.extend(synced);
        story.push(format!("{title}: {}\n", lines.join("; ")));
    };
    world.put(&service("web", "1", "a"));
    world.put(&service("db", "2", "a"));
    world.put(&node("True", "12:00"));
    chapter("start", &mut source).await;
    world.put(&node("True", "12:01"));
    chapter("heartbeat", &mut source).await;
    world.put(&node("False", "12:02"));
    world.put(&service("web", "1", "b"));
    chapter("changes", &mut source).await;
    source.writer.write(status("web", "1", "10.0.0.1"));
    source.writer.write(status("db", "2", "10.0.0.2"));
    source.writer.write(status("db", "2", "10.0.0.3"));
    source.writer.write(status("gone", "3", "10.0.0.4"));
    chapter("written", &mut source).await;
    source.writer.write(status("web", "of another", "10.0.0.5"));
    chapter("written for another", &mut source).await;
    world.put(&service("web", "1", "c"));
    chapter("changed with a status", &mut source).await;
    world.put(&service("web", "4", "c"));
    chapter("replaced", &mut source).await;
    world.lose();
    tokio::time::sleep(Duration::from_mins(1)).await;
    chapter("lost", &mut source).await;
    world.delete(&service("web", "4", "c"));
    world.put(&service("new", "5", "a"));
    world.find();
    tokio::time::sleep(Duration::from_secs(11)).await;
    chapter("found", &mut source).await;
    world.put(&service("web", "4", "c"));
    chapter("back", &mut source).await;
    let left = source.writer.flush(Duration::from_secs(1)).await;
    drop(source);
    let mut source = world.start(options);
    chapter("restart", &mut source).await;
    story.push(format!("left to write: {left}\n"));
    story.concat()
}

#[tokio::test(start_paused = true)]
async fn both_sources_tell_the_same_story() {
    let api = FakeApi::knowing(&["/api/v1/services", "/api/v1/nodes"]);
    let of_the_api = tell(&api).await;
    expect![[r#"
        start: + Node n1; + Service shop/db a; + Service shop/web a; synced
        heartbeat: 
        changes: + Node n1; + Service shop/web b
        written: + Service shop/db a 10.0.0.3 pool-1; + Service shop/web b 10.0.0.1 pool-1
        written for another: 
        changed with a status: + Service shop/web c 10.0.0.1 pool-1
        replaced: + Service shop/web c; - Service shop/web
        lost: 
        found: + Service shop/new a; - Service shop/web
        back: + Service shop/web c
        restart: + Node n1; + Service shop/db a 10.0.0.3 pool-1; + Service shop/new a; + Service shop/web c; synced
        left to write: 0
    "#]]
    .assert_eq(&of_the_api);
    assert_eq!(tell(&Directory::new()).await, of_the_api);
}
