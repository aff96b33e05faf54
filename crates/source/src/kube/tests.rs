//! The Kubernetes source against a server in the same process, in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use ::api::core::Ingress;
use ::api::{Event, EventType, Key, Kind, Object, ObjectRef, PoolCounters, Write};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::fake_api::{FakeApi, Fault};
use super::{WRITES_AT_ONCE, start};
use crate::connection::ConnectionState;
use crate::testing::{changes, describe};
use crate::{Change, Identity, Options, PoolStatus, Source};

const SERVICES: &str = "/api/v1/services";
const NODES: &str = "/api/v1/nodes";
const SECRETS: &str = "/api/v1/secrets";
const EVENTS: &str = "/api/v1/events";
const POOLS: &str = "/apis/metallb.io/v1beta1/ipaddresspools";

fn options(kinds: &[Kind]) -> Options {
    Options {
        kinds: kinds.to_vec(),
        reports: Vec::new(),
        namespace: "metallb-system".to_owned(),
        identity: Identity { component: "metallb-controller", instance: "controller-1".to_owned(), pod: None },
        pool_status: PoolStatus::Read,
        lease: None,
    }
}

/// A server that knows Services, Nodes, Secrets, events and pools.
fn server() -> FakeApi {
    FakeApi::knowing(&[SERVICES, NODES, SECRETS, EVENTS, POOLS])
}

fn service(name: &str, class: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "managedFields": [{"a": 1}]},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": class},
    })
}

fn node(name: &str, ready: &str, heartbeat: u32) -> Value {
    json!({
        "metadata": {"name": name, "uid": "n"},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}]},
    })
}

async fn check(source: &mut Source, expected: Expect) {
    expected.assert_eq(&changes(source).await);
}

fn status(name: &str, ip: &str) -> Write {
    Write::ServiceStatus {
        service: Key::new("shop", name),
        uid: format!("uid-{name}"),
        ingress: vec![Ingress { ip: Some(ip.to_owned()), ..Ingress::default() }],
        pool: Some("pool-1".to_owned()),
    }
}

fn event(name: &str, message: &str) -> Write {
    Write::Event(Event {
        object: ObjectRef { kind: Kind::Service, key: Key::new("shop", name) },
        uid: format!("uid-{name}"),
        type_: EventType::Normal,
        reason: "IPAllocated",
        message: message.to_owned(),
    })
}

fn ip_of(api: &FakeApi, name: &str) -> Value {
    api.get(SERVICES, &format!("shop/{name}"))["status"]["loadBalancer"]["ingress"][0]["ip"].clone()
}

const SOON: Duration = Duration::from_secs(5);

// Reading.

#[tokio::test(start_paused = true)]
async fn all_kinds_are_listed_and_then_synced_once() {
    let api = server();
    api.put(SERVICES, service("web", "a"));
    api.put(NODES, node("n1", "True", 1));
    let mut source = start(api.client(), options(&[Kind::Service, Kind::Node]));
    let text = changes(&mut source).await;
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.pop(), Some("synced"), "last, and once: {text}");
    lines.sort_unstable();
    assert_eq!(lines, ["+ Node n1", "+ Service shop/web a"]);
    api.put(SERVICES, service("db", "a"));
    check(
        &mut source,
        expect![[r#"
        + Service shop/db a
    "#]],
    )
    .await;
    assert_eq!(source.connection.borrow().state, ConnectionState::Up);
}

#[tokio::test(start_paused = true)]
async fn a_long_list_comes_in_pages_and_waits_for_a_slow_reader() {
    let api = server();
    for n in 0..2_600 {
        api.put(SERVICES, service(&format!("s{n:04}"), "a"));
    }
    let mut source = start(api.client(), options(&[Kind::Service]));
    tokio::time::sleep(SOON).await;
    assert!(source.changes.len() <= crate::CHANGES_WAITING_MAX, "the channel is bounded");
    assert!(api.requests().len() < 11, "pages wait for the reader");
    let text = changes(&mut source).await;
    assert_eq!(text.lines().count(), 2_601);
    assert!(text.ends_with("+ Service shop/s2599 a\nsynced\n"));
}

#[tokio::test(start_paused = true)]
async fn changes_are_sent_as_they_come() {
    let api = server();
    let mut source = start(api.client(), options(&[Kind::Service]));
    changes(&mut source).await;
    api.put(SERVICES, service("web", "a"));
    api.put(SERVICES, service("web", "b"));
    api.delete(SERVICES, "shop/web");
    api.put(SERVICES, service("web", "c"));
    check(
        &mut source,
        expect![[r#"
        + Service shop/web a
        + Service shop/web b
        - Service shop/web
        + Service shop/web c
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_of_a_node_ends_here() {
    let api = server();
    api.put(NODES, node("n1", "True", 1));
    let mut source = start(api.client(), options(&[Kind::Node]));
    changes(&mut source).await;
    api.put(NODES, node("n1", "True", 2));
    api.put(NODES, node("n1", "True", 3));
    check(&mut source, expect![""]).await;
    api.put(NODES, node("n1", "Unknown", 3));
    check(
        &mut source,
        expect![[r#"
        + Node n1
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_is_resumed_where_it_was() {
    let api = server();
    api.put(SERVICES, service("web", "a"));
    let mut source = start(api.client(), options(&[Kind::Service]));
    changes(&mut source).await;
    tokio::time::sleep(SOON).await;
    api.requests();
    api.end_watches();
    api.delete(SERVICES, "shop/web");
    api.put(SERVICES, service("db", "a"));
    check(
        &mut source,
        expect![[r#"
        - Service shop/web
        + Service shop/db a
    "#]],
    )
    .await;
    let requests = api.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].contains("watch=true") && requests[0].ends_with("resourceVersion=1"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_its_time_and_is_resumed_without_a_list() {
    let api = server();
    let mut source = start(api.client(), options(&[Kind::Service]));
    changes(&mut source).await;
    api.requests();
    // The fake server never ends one, as one that hangs.
    tokio::time::sleep(Duration::from_secs(340)).await;
    let requests = api.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].contains("watch=true"));
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_moves_the_moment_to_resume_at() {
    let api = server();
    let mut source = start(api.client(), options(&[Kind::Service]));
    changes(&mut source).await;
    for n in 0..5 {
        api.put(NODES, node("n1", "True", n));
    }
    api.bookmark();
    tokio::time::sleep(SOON).await;
    api.requests();
    api.end_watches();
    tokio::time::sleep(SOON).await;
    let requests = api.requests();
    assert!(requests[0].ends_with("resourceVersion=6"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn after_410_only_the_difference_is_sent() {
    let api = server();
    for name in ["same", "changed", "gone", "replaced"] {
        api.put(SERVICES, service(name, "a"));
    }
    let mut source = start(api.client(), options(&[Kind::Service]));
    changes(&mut source).await;
    tokio::time::sleep(SOON).await;
    api.end_watches();
    api.put(SERVICES, service("same", "a"));
    api.put(SERVICES, service("changed", "b"));
    api.put(SERVICES, service("new", "a"));
    api.delete(SERVICES, "shop/gone");
    let mut successor = service("replaced", "a");
    successor["metadata"]["uid"] = json!("another");
    api.put(SERVICES, successor);
    api.forget();
    check(
        &mut source,
        expect![[r#"
        + Service shop/changed b
        + Service shop/new a
        - Service shop/replaced
        + Service shop/replaced a
        - Service shop/gone
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_list_of_the_configuration_has_changed_comes_together() {
    let api = server();
    let pool = |name: &str, addresses: &str| json!({"metadata": {"namespace": "metallb-system", "name": name}, "spec": {"addresses": [addresses]}});
    api.put(POOLS, pool("a", "10.0.0.0/24"));
    api.put(POOLS, pool("c", "10.0.2.0/24"));
    let mut source = start(api.client(), options(&[Kind::IPAddressPool]));
    changes(&mut source).await;
    // A range goes from one pool to another, while nobody watches.
    tokio::time::sleep(SOON).await;
    api.end_watches();
    api.put(POOLS, pool("a", "10.0.0.0/25"));
    api.put(POOLS, pool("b", "10.0.0.128/25"));
    api.delete(POOLS, "metallb-system/c");
    api.forget();
    let Some(Change::Together(together)) = source.changes.recv().await else { panic!("they come one by one") };
    expect![[r#"
        + IPAddressPool metallb-system/a
        + IPAddressPool metallb-system/b
        - IPAddressPool metallb-system/c
    "#]]
    .assert_eq(&describe(&together));
    // Then they come one by one again, and a list that changes nothing says nothing.
    api.put(POOLS, pool("b", "10.0.0.192/26"));
    assert!(matches!(source.changes.recv().await, Some(Change::Applied(_))));
    tokio::time::sleep(SOON).await;
    api.end_watches();
    api.forget();
    check(&mut source, expect![""]).await;
}

#[tokio::test(start_paused = true)]
async fn watches_that_say_a_word_and_end_are_not_hammered_either() {
    let api = server();
    let mut source = start(api.client(), options(&[Kind::Service]));
    changes(&mut source).await;
    api.requests();
    for _ in 0..600 {
        api.bookmark();
        api.end_watches();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let tries = api.requests().len();
    assert!((50..=61).contains(&tries), "{tries} requests in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgets_everything_at_once_is_not_hammered() {
    let api = server();
    api.fail("watch=true", 1_000, Fault::Status(410, ""));
    let mut source = start(api.client(), options(&[Kind::Service]));
    tokio::time::sleep(Duration::from_mins(1)).await;
    let tries = api.requests().len();
    assert!(tries < 40, "{tries} requests in a minute");
    check(
        &mut source,
        expect![[r#"
        synced
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn losing_the_api_deletes_nothing_and_on_return_only_differences_are_sent() {
    let api = server();
    for name in ["same", "gone"] {
        api.put(SERVICES, service(name, "a"));
    }
    let mut source = start(api.client(), options(&[Kind::Service]));
    changes(&mut source).await;
    tokio::time::sleep(SOON).await;
    api.go_down();
    tokio::time::sleep(Duration::from_hours(1)).await;
    check(&mut source, expect![""]).await;
    let connection = source.connection.borrow_and_update().clone();
    assert_eq!(connection.state, ConnectionState::Down);
    assert!(connection.error.unwrap().contains("connection refused"));
    let tries = api.requests().len();
    assert!((300..900).contains(&tries), "{tries} tries in an hour");

    api.delete(SERVICES, "shop/gone");
    api.forget();
    api.come_back();
    tokio::time::sleep(Duration::from_secs(11)).await;
    check(
        &mut source,
        expect![[r#"
        - Service shop/gone
    "#]],
    )
    .await;
    let connection = source.connection.borrow_and_update().clone();
    assert_eq!((connection.state, connection.error), (ConnectionState::Up, None));
}

#[tokio::test(start_paused = true)]
async fn one_unreadable_object_never_blocks_the_others() {
    let api = server();
    let broken = |name: &str| json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"ports": 7}});
    api.put(SERVICES, service("good", "a"));
    api.put(SERVICES, broken("bad"));
    api.put(SERVICES, service("zzz", "a"));
    let mut source = start(api.client(), options(&[Kind::Service]));
    check(
        &mut source,
        expect![[r#"
        + Service shop/good a
        + Service shop/zzz a
        synced
    "#]],
    )
    .await;
    assert_eq!(source.counters.unreadable.get(), 1);

    api.put(SERVICES, broken("good"));
    api.put(SERVICES, service("bad", "a"));
    api.put(SERVICES, service("more", "a"));
    check(
        &mut source,
        expect![[r#"
        + Service shop/bad a
        + Service shop/more a
    "#]],
    )
    .await;
    assert_eq!(source.counters.unreadable.get(), 2, "what was known of good stays in force");

    // Also through a list; and an object that cannot be read is not one that is gone.
    tokio::time::sleep(SOON).await;
    api.end_watches();
    api.forget();
    api.put(NODES, node("n1", "True", 1));
    api.forget();
    check(&mut source, expect![""]).await;
    api.delete(SERVICES, "shop/good");
    check(
        &mut source,
        expect![[r#"
        - Service shop/good
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_kind_is_told_and_holds_up_nothing_but_synced() {
    let api = FakeApi::knowing(&[SERVICES]);
    api.put(SERVICES, service("web", "a"));
    let mut source = start(api.client(), options(&[Kind::Service, Kind::IPAddressPool]));
    check(
        &mut source,
        expect![[r#"
        + Service shop/web a
    "#]],
    )
    .await;
    let connection = source.connection.borrow().clone();
    assert_eq!(connection.state, ConnectionState::Up, "404 is an answer");
    assert_eq!(connection.missing.keys().collect::<Vec<_>>(), [&Kind::IPAddressPool]);
    expect![[r#"the API server does not know this kind: install the CustomResourceDefinitions of MetalLB"#]]
        .assert_eq(connection.missing[&Kind::IPAddressPool].as_deref().unwrap());

    api.learn(POOLS);
    tokio::time::sleep(Duration::from_secs(11)).await;
    check(
        &mut source,
        expect![[r#"
        synced
    "#]],
    )
    .await;
    assert!(source.connection.borrow().missing.is_empty());
}

#[tokio::test(start_paused = true)]
async fn secrets_and_our_own_kinds_are_read_in_our_namespace_alone() {
    let api = server();
    let object = |namespace: &str, name: &str| json!({"metadata": {"namespace": namespace, "name": name, "uid": "u"}});
    for path in [SECRETS, POOLS] {
        api.put(path, object("metallb-system", "ours"));
        api.put(path, object("shop", "theirs"));
    }
    let mut source = start(api.client(), options(&[Kind::Secret, Kind::IPAddressPool]));
    let first = changes(&mut source).await;
    assert!(!first.contains("theirs") && first.lines().count() == 3, "{first}");
    api.put(SECRETS, object("shop", "more"));
    api.put(SECRETS, object("metallb-system", "more"));
    check(
        &mut source,
        expect![[r#"
        + Secret metallb-system/more
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_secrets_only_bgp_passwords_are_kept() {
    let api = server();
    let secret = |name: &str, type_: &str| {
        json!({
            "metadata": {"namespace": "metallb-system", "name": name, "uid": "u", "resourceVersion": "9"},
            "type": type_,
            "data": {"password": "c2VjcmV0"},
        })
    };
    api.put(SECRETS, secret("bgp", "kubernetes.io/basic-auth"));
    api.put(SECRETS, secret("other", "Opaque"));
    let mut source = start(api.client(), options(&[Kind::Secret]));
    for (name, values) in [("bgp", 1), ("other", 0)] {
        let Some(Change::Applied(Object::Secret(secret))) = source.changes.recv().await else { panic!() };
        assert_eq!((secret.metadata.name.as_str(), secret.data.len()), (name, values));
        assert!(secret.metadata.resource_version.is_empty(), "it would be out of date");
    }
}

#[tokio::test(start_paused = true)]
async fn the_counters_of_a_pool_wake_only_those_who_ask_for_them() {
    for (pool_status, expected) in [(PoolStatus::Ignored, 0), (PoolStatus::Read, 1)] {
        let api = server();
        let pool = |used: u32| {
            json!({
                "metadata": {"namespace": "metallb-system", "name": "p", "uid": "u"},
                "spec": {"addresses": ["10.0.0.0/24"]},
                "status": {"assignedIPv4": used, "assignedIPv6": 0, "availableIPv4": 9, "availableIPv6": 0},
            })
        };
        api.put(POOLS, pool(1));
        let mut source = start(api.client(), Options { pool_status, ..options(&[Kind::IPAddressPool]) });
        changes(&mut source).await;
        api.put(POOLS, pool(2));
        assert_eq!(changes(&mut source).await.lines().count(), expected, "{pool_status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_each_watch_at_once_is_not_hammered() {
    let api = server();
    api.fail("watch=true", 1_000, Fault::Empty);
    let mut source = start(api.client(), options(&[Kind::Service]));
    tokio::time::sleep(Duration::from_mins(1)).await;
    let tries = api.requests().len();
    assert!(tries < 30, "{tries} requests in a minute");
    check(
        &mut source,
        expect![[r#"
        synced
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_make_no_sense_are_asked_for_again() {
    let api = server();
    api.put(SERVICES, service("web", "a"));
    api.fail("GET", 3, Fault::Garbage);
    let mut source = start(api.client(), options(&[Kind::Service]));
    tokio::time::sleep(SOON).await;
    check(
        &mut source,
        expect![[r#"
        + Service shop/web a
        synced
    "#]],
    )
    .await;
    api.say("{\"type\":\"ADDED\"\n");
    api.say("{\"type\":\"NEWS\",\"object\":{}}\n");
    api.put(SERVICES, service("db", "a"));
    tokio::time::sleep(SOON).await;
    check(
        &mut source,
        expect![[r#"
        + Service shop/db a
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up_and_tried_again() {
    let api = server();
    api.fail("GET", 1, Fault::Hang);
    let mut source = start(api.client(), options(&[Kind::Service]));
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(source.connection.borrow().state, ConnectionState::Connecting);
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    let connection = source.connection.borrow().clone();
    assert_eq!((connection.state, connection.error.as_deref()), (ConnectionState::Down, Some("no answer for 30 s")));
    check(
        &mut source,
        expect![[r#"
        synced
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_as_long_as_the_server_asks_for() {
    let api = server();
    api.fail("GET", 1, Fault::Status(429, "20"));
    let mut source = start(api.client(), options(&[Kind::Service]));
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert_eq!(api.requests().len(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    check(
        &mut source,
        expect![[r#"
        synced
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_moment_that_cannot_be_resumed_is_left_for_a_new_list() {
    let api = server();
    let mut source = start(api.client(), options(&[Kind::Service]));
    changes(&mut source).await;
    tokio::time::sleep(SOON).await;
    api.fail("watch=true", 4, Fault::Status(504, ""));
    api.end_watches();
    api.requests();
    tokio::time::sleep(SOON).await;
    let requests: Vec<_> =
        api.requests().iter().map(|request| if request.contains("watch=true") { "watch" } else { "list" }).collect();
    assert_eq!(requests, ["watch", "watch", "watch", "watch", "list", "watch"]);
}

#[tokio::test(start_paused = true)]
async fn the_source_ends_with_its_reader() {
    let api = server();
    let Source { changes, mut tasks, .. } = start(api.client(), options(&[Kind::Service]));
    drop(changes);
    api.put(SERVICES, service("web", "a"));
    let ended = tokio::time::timeout(SOON, tasks.ended()).await;
    assert!(ended.is_ok(), "the reading task is over");
}

/// What the changes so far add up to: uid and class by name. Nothing is told twice, nothing unknown goes, and another
/// object of a name comes only after the one before has gone.
#[derive(Default)]
struct Told {
    objects: BTreeMap<String, (String, String)>,
    synced: u32,
}

impl Told {
    fn take(&mut self, source: &mut Source) {
        while let Ok(change) = source.changes.try_recv() {
            match change {
                Change::Applied(Object::Service(service)) => {
                    let class = service.spec.load_balancer_class.unwrap_or_default();
                    let told = (service.metadata.uid.clone(), class);
                    let before = self.objects.insert(service.metadata.key().to_string(), told.clone());
                    assert_ne!(before.as_ref(), Some(&told), "told twice");
                    assert!(before.is_none_or(|(uid, _)| uid == told.0), "another object of the name, with no word");
                }
                Change::Applied(other) => panic!("{other:?}"),
                Change::Deleted(reference) => {
                    assert!(self.objects.remove(&reference.key.to_string()).is_some(), "{reference} was not there");
                }
                Change::Synced => self.synced += 1,
                Change::Together(_)
                | Change::Recalled
                | Change::ReportsSynced
                | Change::Leading(_)
                | Change::Following => {
                    panic!("nobody asked for {change:?}")
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_the_changes_add_up_to_what_is_there() {
    for seed in 0..300_u64 {
        let mut random = seed;
        let mut below = |n: u32| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(random >> 33).unwrap() % n
        };
        let api = server();
        let mut source = start(api.client(), options(&[Kind::Service]));
        let mut told = Told::default();
        for _ in 0..60 {
            let name = format!("s{}", below(6));
            match below(12) {
                0..=4 => {
                    let mut object = service(&name, &format!("class-{}", below(3)));
                    object["metadata"]["uid"] = json!(format!("uid-{}", below(2)));
                    api.put(SERVICES, object);
                }
                5 | 6 => {
                    if api.all(SERVICES).iter().any(|object| object["metadata"]["name"] == name.as_str()) {
                        api.delete(SERVICES, &format!("shop/{name}"));
                    }
                }
                7 => api.end_watches(),
                8 => api.forget(),
                9 => {
                    let fault = match below(7) {
                        0 => Fault::Hang,
                        1 => Fault::Empty,
                        2 => Fault::Garbage,
                        3 => Fault::Status(410, ""),
                        4 => Fault::Status(429, "2"),
                        5 => Fault::Status(500, ""),
                        _ => Fault::Status(504, ""),
                    };
                    let what = if below(2) == 0 { "watch=true" } else { "GET" };
                    api.fail(what, 1 + below(6), fault);
                }
                10 => {
                    api.go_down();
                    tokio::time::sleep(Duration::from_secs(below(40).into())).await;
                    api.come_back();
                }
                _ => api.bookmark(),
            }
            tokio::time::sleep(Duration::from_millis(below(3_000).into())).await;
            if below(3) == 0 {
                told.take(&mut source);
            }
        }
        tokio::time::sleep(Duration::from_hours(1)).await;
        told.take(&mut source);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let there: BTreeMap<String, (String, String)> = api
            .all(SERVICES)
            .iter()
            .map(|object| {
                let key = format!("shop/{}", text(&object["metadata"]["name"]));
                (key, (text(&object["metadata"]["uid"]), text(&object["spec"]["loadBalancerClass"])))
            })
            .collect();
        assert_eq!((told.objects, told.synced), (there, 1), "seed {seed}");
    }
}

// Writing.

#[tokio::test(start_paused = true)]
async fn a_status_and_its_annotation_go_in_one_patch_guarded_by_the_uid() {
    let api = server();
    api.put(SERVICES, service("web", "a"));
    let source = start(api.client(), options(&[]));
    source.writer.write(status("web", "10.0.0.1"));
    assert_eq!(source.writer.flush(SOON).await, 0);
    expect![[r#"PATCH /api/v1/namespaces/shop/services/web/status?&fieldManager=metallb-controller {"metadata":{"annotations":{"metallb.io/ip-allocated-from-pool":"pool-1"},"uid":"uid-web"},"status":{"loadBalancer":{"ingress":[{"ip":"10.0.0.1"}]}}}"#]]
    .assert_eq(&api.requests().join("\n"));
    assert_eq!(source.counters.written.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_status_removes_the_addresses_and_the_annotation_and_nothing_else() {
    let api = server();
    let mut web = service("web", "a");
    web["metadata"]["annotations"] = json!({"metallb.io/ip-allocated-from-pool": "p", "other": "kept"});
    web["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}, "conditions": ["kept"]});
    api.put(SERVICES, web);
    let source = start(api.client(), options(&[]));
    let uid = "uid-web".to_owned();
    source.writer.write(Write::ServiceStatus { service: Key::new("shop", "web"), uid, ingress: vec![], pool: None });
    assert_eq!(source.writer.flush(SOON).await, 0);
    let web = api.get(SERVICES, "shop/web");
    assert_eq!(web["metadata"]["annotations"], json!({"other": "kept"}));
    assert_eq!(web["status"], json!({"loadBalancer": {}, "conditions": ["kept"]}));
}

fn condition(uid: &str, reason: Option<&str>) -> Write {
    let condition = reason.map(|reason| api::Condition {
        type_: api::ANNOUNCED.to_owned(),
        status: "False".to_owned(),
        observed_generation: None,
        last_transition_time: "2026-01-01T00:00:00Z".to_owned(),
        reason: reason.to_owned(),
        message: "m".to_owned(),
    });
    Write::ServiceCondition { service: Key::new("shop", "web"), uid: uid.to_owned(), condition }
}

#[tokio::test(start_paused = true)]
async fn the_node_of_a_service_is_an_annotation_beside_others_and_never_reaches_a_successor() {
    let api = server();
    let mut web = service("web", "a");
    web["metadata"]["annotations"] = json!({"other": "kept"});
    api.put(SERVICES, web);
    let source = start(api.client(), options(&[]));
    let node = |uid: &str, node: Option<&str>| Write::AssignedNode {
        service: Key::new("shop", "web"),
        uid: uid.to_owned(),
        node: node.map(str::to_owned),
    };
    for (write, shown) in [
        (node("uid-web", Some("n1")), json!({"other": "kept", "metallb.io/l2-assigned-node": "n1"})),
        (
            status("web", "10.0.0.1"),
            json!({"other": "kept", "metallb.io/ip-allocated-from-pool": "pool-1", "metallb.io/l2-assigned-node": "n1"}),
        ),
        (node("uid-web", None), json!({"other": "kept", "metallb.io/ip-allocated-from-pool": "pool-1"})),
        (node("another", Some("n2")), json!({"other": "kept", "metallb.io/ip-allocated-from-pool": "pool-1"})),
        (node("", Some("n2")), json!({"other": "kept", "metallb.io/ip-allocated-from-pool": "pool-1"})),
    ] {
        source.writer.write(write);
        assert_eq!(source.writer.flush(SOON).await, 0);
        assert_eq!(api.get(SERVICES, "shop/web")["metadata"]["annotations"], shown);
    }
    assert_eq!((source.counters.written.get(), source.counters.write_refusals.get()), (3, 2));
    let requests = api.requests();
    let first = "PATCH /api/v1/namespaces/shop/services/web/status?&fieldManager=metallb-controller \
                 {\"metadata\":{\"annotations\":{\"metallb.io/l2-assigned-node\":\"n1\"},\"uid\":\"uid-web\"}}";
    assert_eq!(requests.first().map(String::as_str), Some(first));
}

/// What it does on a real API server is shown by the trials of `metallb`.
#[tokio::test(start_paused = true)]
async fn a_condition_is_applied_under_a_name_of_its_own_and_beside_the_addresses() {
    let api = server();
    api.put(SERVICES, service("web", "a"));
    let source = start(api.client(), options(&[]));
    for write in [condition("uid-web", Some("NoPeer")), status("web", "10.0.0.1")] {
        source.writer.write(write);
    }
    assert_eq!(source.writer.flush(SOON).await, 0);
    for write in [condition("uid-web", None), condition("", None), condition("another", Some("NoPeer"))] {
        source.writer.write(write);
        assert_eq!(source.writer.flush(SOON).await, 0);
    }
    expect![[r#"
        PATCH /api/v1/namespaces/shop/services/web/status?&fieldManager=metallb-controller {"metadata":{"annotations":{"metallb.io/ip-allocated-from-pool":"pool-1"},"uid":"uid-web"},"status":{"loadBalancer":{"ingress":[{"ip":"10.0.0.1"}]}}}
        PATCH /api/v1/namespaces/shop/services/web/status?&force=true&fieldManager=metallb-conditions {"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","uid":"uid-web"},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"m","reason":"NoPeer","status":"False","type":"metallb.io/Announced"}]}}
        PATCH /api/v1/namespaces/shop/services/web/status?&force=true&fieldManager=metallb-conditions {"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","uid":"uid-web"}}
        PATCH /api/v1/namespaces/shop/services/web/status?&force=true&fieldManager=metallb-conditions {"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","uid":"another"},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"m","reason":"NoPeer","status":"False","type":"metallb.io/Announced"}]}}"#]].assert_eq(&api.requests().join("\n"));
    assert_eq!((source.counters.written.get(), source.counters.write_refusals.get()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn our_condition_wakes_only_those_who_ask_for_it_and_that_of_others_nobody() {
    for (pool_status, expected) in [(PoolStatus::Read, 1), (PoolStatus::Ignored, 0)] {
        let api = server();
        api.put(SERVICES, service("web", "a"));
        let mut source = start(api.client(), Options { pool_status, ..options(&[Kind::Service]) });
        check(&mut source, expect!["+ Service shop/web a\nsynced\n"]).await;
        for (type_, number) in [("example.com/Other", 0), (api::ANNOUNCED, expected)] {
            let mut web = service("web", "a");
            web["status"] = json!({"conditions": [{"type": type_, "status": "False", "reason": "R"}]});
            api.put(SERVICES, web);
            assert_eq!(changes(&mut source).await.lines().count(), number, "{type_} {pool_status:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_counters_of_a_pool_are_written_to_its_status() {
    let api = server();
    api.put(POOLS, json!({"metadata": {"namespace": "metallb-system", "name": "p", "uid": "u"}}));
    let source = start(api.client(), options(&[]));
    let status = PoolCounters { assigned_ipv4: 1, assigned_ipv6: 2, available_ipv4: 3, available_ipv6: 4 };
    source.writer.write(Write::PoolStatus { pool: Key::new("metallb-system", "p"), status });
    assert_eq!(source.writer.flush(SOON).await, 0);
    expect![[r#"PATCH /apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools/p/status?&fieldManager=metallb-controller {"status":{"assignedIPv4":1,"assignedIPv6":2,"availableIPv4":3,"availableIPv6":4}}"#]]
    .assert_eq(&api.requests().join("\n"));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_replaced_or_not_accepted_is_given_up() {
    let api = server();
    let mut successor = service("replaced", "a");
    successor["metadata"]["uid"] = json!("another");
    api.put(SERVICES, successor);
    api.put(SERVICES, service("invalid", "a"));
    api.fail("services/invalid/status", 1, Fault::Status(422, ""));
    let source = start(api.client(), options(&[]));
    for name in ["replaced", "gone", "invalid"] {
        source.writer.write(status(name, "10.0.0.1"));
    }
    assert_eq!(source.writer.flush(SOON).await, 0);
    assert_eq!(source.counters.write_refusals.get(), 3);
    assert_eq!(ip_of(&api, "replaced"), Value::Null, "a status never reaches a successor");
    assert_eq!(api.requests().len(), 3, "no second try");
}

#[tokio::test(start_paused = true)]
async fn a_status_without_a_uid_is_not_written() {
    let api = server();
    api.put(SERVICES, service("web", "a"));
    let source = start(api.client(), options(&[]));
    let service = Key::new("shop", "web");
    source.writer.write(Write::ServiceStatus { service, uid: String::new(), ingress: vec![], pool: None });
    assert_eq!(source.writer.flush(SOON).await, 0);
    assert_eq!((api.requests().len(), source.counters.write_refusals.get()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_are_tried_again_without_holding_up_others() {
    let api = server();
    for name in ["slow", "web"] {
        api.put(SERVICES, service(name, "a"));
    }
    for code in [500, 409, 403] {
        api.fail("services/slow/status", 1, Fault::Status(code, ""));
    }
    let source = start(api.client(), options(&[]));
    source.writer.write(status("slow", "10.0.0.1"));
    source.writer.write(status("web", "10.0.0.2"));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(ip_of(&api, "web"), json!("10.0.0.2"));
    assert_eq!(source.writer.waiting(), 1);
    assert_eq!(source.writer.flush(Duration::from_mins(1)).await, 0);
    assert_eq!(ip_of(&api, "slow"), json!("10.0.0.1"));
    assert_eq!(source.counters.write_retries.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn all_writes_wait_as_long_as_the_server_asks_for() {
    for code in [429, 503] {
        let api = server();
        for n in 0..40 {
            api.put(SERVICES, service(&format!("s{n}"), "a"));
        }
        api.fail("PATCH", 16, Fault::Status(code, "15"));
        let source = start(api.client(), options(&[]));
        for n in 0..40 {
            source.writer.write(status(&format!("s{n}"), "10.0.0.1"));
        }
        tokio::time::sleep(Duration::from_secs(14)).await;
        assert_eq!(api.requests().len(), WRITES_AT_ONCE, "{code}");
        assert_eq!(source.writer.flush(SOON).await, 0, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_api_is_away_the_latest_of_each_target_is_kept() {
    let api = server();
    for name in ["web", "db"] {
        api.put(SERVICES, service(name, "a"));
    }
    let source = start(api.client(), options(&[]));
    api.go_down();
    for n in 1..=200 {
        source.writer.write(status("web", &format!("10.0.0.{n}")));
        source.writer.write(status("db", &format!("10.0.1.{n}")));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(source.writer.waiting(), 2);
    let tries = api.requests().len();
    assert!(tries < 600, "{tries} tries in 2,000 s");
    api.come_back();
    assert_eq!(source.writer.flush(Duration::from_secs(11)).await, 0);
    assert_eq!((ip_of(&api, "web"), ip_of(&api, "db")), (json!("10.0.0.200"), json!("10.0.1.200")));
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_is_given_up_and_tried_again() {
    let api = server();
    api.put(SERVICES, service("web", "a"));
    api.fail("PATCH", 1, Fault::Hang);
    let source = start(api.client(), options(&[]));
    source.writer.write(status("web", "10.0.0.1"));
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert_eq!(api.requests().len(), 1);
    assert_eq!(source.writer.flush(SOON).await, 0);
    assert_eq!(ip_of(&api, "web"), json!("10.0.0.1"));
}

#[tokio::test(start_paused = true)]
async fn five_thousand_statuses_are_written_with_sixteen_under_way() {
    let api = server();
    for n in 0..5_000 {
        api.put(SERVICES, service(&format!("s{n}"), "a"));
    }
    let source = start(api.client(), options(&[]));
    for n in 0..5_000 {
        source.writer.write(status(&format!("s{n}"), "10.0.0.1"));
    }
    let began = tokio::time::Instant::now();
    assert_eq!(source.writer.flush(SOON).await, 0);
    assert_eq!(api.under_way_max(), WRITES_AT_ONCE);
    assert_eq!(api.requests().len(), 5_000);
    let took = began.elapsed();
    assert!(took < Duration::from_millis(400), "each takes 1 ms, {WRITES_AT_ONCE} at a time: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn flush_says_how_many_writes_were_not_done() {
    let api = server();
    api.go_down();
    let source = start(api.client(), options(&[]));
    for n in 0..3 {
        source.writer.write(status(&format!("s{n}"), "10.0.0.1"));
    }
    source.writer.write(event("s0", "hello"));
    let began = tokio::time::Instant::now();
    assert_eq!(source.writer.flush(SOON).await, 4);
    assert_eq!(began.elapsed(), SOON);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_created_and_its_repeats_raise_the_count() {
    let api = server();
    let source = start(api.client(), options(&[]));
    source.writer.write(event("web", "Assigned IP [\"10.0.0.1\"]"));
    assert_eq!(source.writer.flush(SOON).await, 0);
    for _ in 0..3 {
        source.writer.write(event("web", "Assigned IP [\"10.0.0.1\"]"));
    }
    assert_eq!(source.writer.flush(SOON).await, 0);
    let requests = api.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    let events = api.all(EVENTS);
    let [event] = events.as_slice() else { panic!("{events:?}") };
    let mut event = event.clone();
    let name = event["metadata"]["name"].take();
    assert!(name.as_str().unwrap().starts_with("web.") && requests[1].contains(name.as_str().unwrap()));
    for time in ["firstTimestamp", "lastTimestamp"] {
        let time = event[time].take();
        assert_eq!(time.as_str().unwrap().len(), "2026-11-22T13:00:00Z".len(), "{time}");
    }
    expect![[r#"
        {
          "apiVersion": "v1",
          "count": 4,
          "firstTimestamp": null,
          "involvedObject": {
            "apiVersion": "v1",
            "kind": "Service",
            "name": "web",
            "namespace": "shop",
            "uid": "uid-web"
          },
          "kind": "Event",
          "lastTimestamp": null,
          "message": "Assigned IP [\"10.0.0.1\"]",
          "metadata": {
            "name": null,
            "namespace": "shop",
            "resourceVersion": "1"
          },
          "reason": "IPAllocated",
          "reportingComponent": "metallb-controller",
          "reportingInstance": "controller-1",
          "source": {
            "component": "metallb-controller",
            "host": "controller-1"
          },
          "type": "Normal"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&event).unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_repeat_of_an_event_that_is_gone_makes_a_new_one() {
    let api = server();
    let source = start(api.client(), options(&[]));
    source.writer.write(event("web", "hello"));
    source.writer.flush(SOON).await;
    let name = api.all(EVENTS)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    api.delete(EVENTS, &format!("shop/{name}"));
    source.writer.write(event("web", "hello"));
    assert_eq!(source.writer.flush(SOON).await, 0);
    assert_eq!(api.all(EVENTS)[0]["count"], json!(2));
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_answer_was_lost_is_not_made_twice() {
    let api = server();
    let source = start(api.client(), options(&[]));
    api.fail("POST", 1, Fault::Status(500, ""));
    source.writer.write(event("web", "hello"));
    source.writer.flush(SOON).await;
    assert_eq!(api.all(EVENTS).len(), 1);
    // The same name again: the server has it already.
    api.fail("PATCH", 1, Fault::Status(404, ""));
    source.writer.write(event("web", "hello"));
    assert_eq!(source.writer.flush(SOON).await, 0);
    assert_eq!(api.all(EVENTS).len(), 1);
    assert_eq!(source.counters.write_refusals.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_about_things_without_a_namespace_go_to_default() {
    let api = server();
    let source = start(api.client(), options(&[]));
    let Write::Event(event) = event("n1", "hello") else { panic!() };
    let object = ObjectRef { kind: Kind::Node, key: Key::new("", "n1") };
    source.writer.write(Write::Event(Event { object, uid: String::new(), ..event }));
    assert_eq!(source.writer.flush(SOON).await, 0);
    let event = &api.all(EVENTS)[0];
    assert_eq!(event["metadata"]["namespace"], json!("default"));
    assert_eq!(event["involvedObject"], json!({"apiVersion": "v1", "kind": "Node", "name": "n1"}));
}
