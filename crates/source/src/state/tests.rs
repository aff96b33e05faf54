//! The state file by itself, and a source that is silent at the start.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::Kind;
use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::file::{self, Book, Memory};
use super::{Settings, keep};
use crate::connection::ConnectionState;
use crate::kube::fake_api::{FakeApi, Fault};
use crate::testing::{TemporaryDirectory, changes};
use crate::{Identity, Options, PoolStatus, Source};

const OWNER: &str = "node-1 metallb-system https://10.0.0.1:6443/ 0123456789abcdef";
const SERVICES: &str = "/api/v1/services";
const SECRETS: &str = "/api/v1/secrets";
const POOLS: &str = "/apis/metallb.io/v1beta1/ipaddresspools";
const PEERS: &str = "/apis/metallb.io/v1beta2/bgppeers";

// The file.

fn title() -> String {
    file::title(OWNER)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What a file of this text remembers an hour after noon, where two hours are not too long ago.
fn recalled(path: &Path, text: &[u8]) -> String {
    fs::write(path, text).unwrap();
    let mut all = String::new();
    let result = file::recall(path, &title(), at("2026-11-27T13:00:00Z"), SignedDuration::from_hours(2), |memory| {
        match memory {
            Memory::AsOf(moment) => writeln!(all, "as of {moment}").unwrap(),
            Memory::There(object) => {
                let class = match &object {
                    api::Object::Service(service) => service.spec.load_balancer_class.clone().unwrap_or_default(),
                    _ => String::new(),
                };
                writeln!(all, "{} {class}", object.reference()).unwrap();
            }
            Memory::Withheld(reference) => writeln!(all, "withheld: {reference}").unwrap(),
        }
        true
    });
    if let Err(fault) = result {
        writeln!(all, "{fault}").unwrap();
    }
    all
}

fn line(name: &str, class: &str) -> String {
    let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"loadBalancerClass": class}});
    format!("+ Service shop/{name} {object}\n")
}

fn check_file(lines: &[&str], expected: Expect) {
    let directory = TemporaryDirectory::new();
    expected.assert_eq(&recalled(&directory.path().join("state"), lines.concat().as_bytes()));
}

#[test]
fn the_last_word_on_each_object_counts_up_to_the_last_moment() {
    let title = title() + "\n";
    let (a, b) = (line("web", "a"), line("web", "b"));
    let db = line("db", "a");
    let noon = "= 2026-11-27T12:00:00Z\n";
    let later = "= 2026-11-27T12:30:00Z\n";
    check_file(
        &[&title, &a, &db, noon],
        expect![[r"
        as of 2026-11-27T12:00:00Z
        Service shop/web a
        Service shop/db a
    "]],
    );
    check_file(
        &[&title, &a, &db, noon, &b, later],
        expect![[r"
        as of 2026-11-27T12:30:00Z
        Service shop/db a
        Service shop/web b
    "]],
    );
    check_file(
        &[&title, &a, &db, noon, "- Service shop/web\n", later],
        expect![[r"
        as of 2026-11-27T12:30:00Z
        Service shop/db a
    "]],
    );
    check_file(
        &[&title, &a, noon, "- Service shop/web\n", &b, "! BGPPeer metallb-system/r\n", later],
        expect![[r"
        as of 2026-11-27T12:30:00Z
        Service shop/web b
        withheld: BGPPeer metallb-system/r
    "]],
    );
    // A process that died while it wrote.
    check_file(
        &[&title, &a, noon, &b, "- Service"],
        expect![[r"
        as of 2026-11-27T12:00:00Z
        Service shop/web a
    "]],
    );
    // A machine that lost its power.
    check_file(
        &[&title, &a, noon, "\0\0\0\0\n", &b, later],
        expect![[r"
        as of 2026-11-27T12:00:00Z
        Service shop/web a
    "]],
    );
    // One object that makes no sense.
    check_file(
        &[&title, &a, "+ Service shop/db {\"metadata\":7}\n", noon],
        expect![[r"
        as of 2026-11-27T12:00:00Z
        Service shop/web a
    "]],
    );
}

#[test]
fn a_file_that_is_of_no_use_says_why() {
    let (title, a, noon) = (title() + "\n", line("web", "a"), "= 2026-11-27T12:00:00Z\n");
    check_file(
        &[""],
        expect![[r"
        it is none
    "]],
    );
    check_file(
        &["#!/bin/sh\n", &a, noon],
        expect![[r"
        it is none
    "]],
    );
    check_file(
        &["metallb speaker state 2 x\n", &a, noon],
        expect![[r"
        it has the form of another version of MetalLB
    "]],
    );
    check_file(
        &["metallb speaker state 1 node-2 metallb-system\n", &a, noon],
        expect![[r"
        it is of another node, namespace or cluster
    "]],
    );
    check_file(
        &[&title, &a],
        expect![[r"
        it ends in line 3, before anything in it is complete
    "]],
    );
    check_file(
        &[&title, "+ Pod shop/web {}\n", noon],
        expect![[r"
        it ends in line 2, before anything in it is complete
    "]],
    );
    check_file(
        &[&title, &a, "= 2026-11-27T10:59:59Z\n"],
        expect![[r"
        it is of 2026-11-27T10:59:59Z, which is too long ago (--state-max-age)
    "]],
    );
    let directory = TemporaryDirectory::new();
    let absent = directory.path().join("no/such/file");
    let fault = file::recall(&absent, &title, at("2026-11-27T13:00:00Z"), SignedDuration::from_hours(1), |_| true);
    assert_eq!(fault.unwrap_err().to_string(), "there is none");
}

/// Whatever a disk makes of a file: what is read of it was written, and nothing is of a moment that never was.
#[test]
fn mutated_bytes_never_invent_objects() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("state");
    let good = [
        &title(),
        "\n",
        &line("web", "a"),
        &line("db", "a"),
        "= 2026-11-27T12:00:00Z\n",
        &line("db", "b"),
        "= 2026-11-27T12:30:00Z\n",
    ]
    .concat()
    .into_bytes();
    let begin = title().len() + 1;
    for place in 0..good.len() {
        let bytes = [0, b'\n', b' ', b'=', 0xff, good[place] ^ 1];
        for byte in [bytes[place % bytes.len()], bytes[(place + 1) % bytes.len()]] {
            let mut bad = good.clone();
            bad[place] = byte;
            let text = recalled(&path, &bad);
            assert!(text.lines().count() <= 4, "{place}: {text}");
            assert!(place >= begin || byte == good[place] || !text.contains("Service"), "{place}: {text}");
        }
    }
    for length in begin..good.len() {
        let text = recalled(&path, &good[..length]);
        assert!(!text.contains("db b"), "{length}: {text}");
    }
}

#[test]
fn a_file_that_is_written_anew_says_the_same() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("state");
    let mut book = Book::begin(&path, &title()).unwrap();
    assert!(!path.exists(), "not before it is complete");
    let text = [line("web", "a"), line("db", "a"), "= 2026-11-27T12:00:00Z\n".to_owned()].concat();
    book.append(text.as_bytes()).unwrap();
    book.establish().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for round in 0..100 {
        let end = "= 2026-11-27T12:30:00Z\n";
        book.append([line("web", &round.to_string()).as_str(), "- Service shop/db\n", end].concat().as_bytes())
            .unwrap();
    }
    book.append(line("half", "a").as_bytes()).unwrap();
    let before = recalled(&path, &fs::read(&path).unwrap());
    book.compact().unwrap();
    let text = fs::read(&path).unwrap();
    assert_eq!(recalled(&path, &text), before);
    assert_eq!((text.split(|byte| *byte == b'\n').count() - 1, text.len() as u64), (3, book.bytes()));
    book.append("- Service shop/web\n= 2026-11-27T12:40:00Z\n".as_bytes()).unwrap();
    assert_eq!(recalled(&path, &fs::read(&path).unwrap()), "as of 2026-11-27T12:40:00Z\n");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
}

// The source behind it.

fn server() -> FakeApi {
    FakeApi::knowing(&[SERVICES, SECRETS, POOLS, PEERS])
}

fn service(name: &str, class: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}")},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": class},
    })
}

fn ours(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"namespace": "metallb-system", "name": name, "uid": format!("uid-{name}")}, "spec": spec})
}

fn start(api: &FakeApi, path: &Path) -> Source {
    let options = Options {
        kinds: vec![Kind::Service, Kind::Secret, Kind::IPAddressPool, Kind::BGPPeer],
        reports: Vec::new(),
        namespace: "metallb-system".to_owned(),
        identity: Identity { component: "metallb-speaker", instance: "node-1".to_owned(), pod: None },
        pool_status: PoolStatus::Ignored,
        lease: None,
    };
    let max_age = Duration::from_hours(1);
    let settings = Settings { path: path.to_owned(), max_age, owner: OWNER.to_owned() };
    keep(crate::kube::start(api.client(), options), settings)
}

async fn check(source: &mut Source, expected: Expect) {
    expected.assert_eq(&sorted(source).await);
}

/// What comes within some time. The order of the kinds before they all are there is nobody's business.
async fn sorted(source: &mut Source) -> String {
    let text = changes(source).await;
    match text.split_once("recalled\n").or_else(|| text.split_once("synced\n")) {
        Some((before, _)) => {
            let mut lines: Vec<&str> = before.lines().collect();
            lines.sort_unstable();
            lines.iter().fold(String::new(), |all, line| all + line + "\n") + text.strip_prefix(before).unwrap()
        }
        None => text,
    }
}

struct Disk {
    _directory: TemporaryDirectory,
    path: PathBuf,
}

impl Disk {
    fn new() -> Disk {
        let directory = TemporaryDirectory::new();
        let path = directory.path().join("state");
        Disk { _directory: directory, path }
    }
}

/// A server with something of each kind, and a speaker that has known all of it for a while.
async fn remembered(disk: &Disk) -> FakeApi {
    let api = server();
    for (path, object) in [
        (SERVICES, service("web", "a")),
        (SERVICES, service("db", "a")),
        (SERVICES, json!({"metadata": {"namespace": "shop", "name": "inner"}, "spec": {"type": "ClusterIP"}})),
        (POOLS, ours("pool", &json!({"addresses": ["10.0.0.0/24"]}))),
        (PEERS, ours("open", &json!({"peerAddress": "10.0.0.1"}))),
        (PEERS, ours("closed", &json!({"peerAddress": "10.0.0.2", "password": "hunter2"}))),
        (PEERS, ours("sealed", &json!({"peerAddress": "10.0.0.3", "passwordSecret": {"name": "s"}}))),
        (PEERS, ours("signed", &json!({"peerAddress": "10.0.0.4", "tcpAuthenticationKeys": [{"secretName": "s"}]}))),
        (
            SECRETS,
            json!({"metadata": {"namespace": "metallb-system", "name": "s"}, "type": "kubernetes.io/basic-auth",
            "data": {"password": "aHVudGVyMg=="}}),
        ),
    ] {
        api.put(path, object);
    }
    let mut source = start(&api, &disk.path);
    check(
        &mut source,
        expect![[r#"
        + BGPPeer metallb-system/closed
        + BGPPeer metallb-system/open
        + BGPPeer metallb-system/sealed
        + BGPPeer metallb-system/signed
        + IPAddressPool metallb-system/pool
        + Secret metallb-system/s
        + Service shop/db a
        + Service shop/inner
        + Service shop/web a
        synced
    "#]],
    )
    .await;
    api.put(SERVICES, service("web", "b"));
    changes(&mut source).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    api.go_down();
    api
}

#[tokio::test(start_paused = true)]
async fn a_silent_source_is_replaced_by_memory_and_then_the_differences_come() {
    let disk = Disk::new();
    let api = remembered(&disk).await;
    let mut source = start(&api, &disk.path);
    assert_eq!(changes(&mut source).await, "", "it is waited for");
    tokio::time::sleep(Duration::from_secs(3)).await;
    check(
        &mut source,
        expect![[r#"
        + BGPPeer metallb-system/open
        + IPAddressPool metallb-system/pool
        + Service shop/db a
        + Service shop/web b
        recalled
    "#]],
    )
    .await;
    assert_eq!(source.connection.borrow().state, ConnectionState::Down);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(changes(&mut source).await, "", "once");

    // Some of it has changed meanwhile, and the configuration comes as one.
    api.come_back();
    api.delete(SERVICES, "shop/db");
    api.put(SERVICES, service("new", "a"));
    api.delete(PEERS, "metallb-system/open");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let text = changes(&mut source).await;
    let rest = text.strip_prefix("+ Service shop/inner\n+ Service shop/new a\n").expect(&text);
    let together = rest.strip_suffix("- BGPPeer metallb-system/open\n- Service shop/db\nsynced\n").expect(&text);
    assert_eq!(together.lines().count(), 4, "three peers and a Secret: {text}");
    assert!(!text.contains("shop/web") && !text.contains("IPAddressPool"), "those are as they were: {text}");
    api.put(SERVICES, service("web", "c"));
    assert_eq!(changes(&mut source).await, "+ Service shop/web c\n");
    drop(source);

    // And what was told then is what is remembered.
    tokio::time::sleep(Duration::from_secs(3)).await;
    api.go_down();
    let mut source = start(&api, &disk.path);
    tokio::time::sleep(Duration::from_secs(4)).await;
    check(
        &mut source,
        expect![[r#"
        + IPAddressPool metallb-system/pool
        + Service shop/new a
        + Service shop/web b
        recalled
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_password_is_in_the_file() {
    let disk = Disk::new();
    remembered(&disk).await;
    let text = fs::read_to_string(&disk.path).unwrap();
    for hidden in ["hunter2", "aHVudGVyMg", "10.0.0.2", "10.0.0.3", "10.0.0.4", "Secret", "+ Service shop/inner"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    for name in ["closed", "sealed", "signed"] {
        assert!(text.contains(&format!("! BGPPeer metallb-system/{name}\n")), "{text}");
    }
    assert_eq!(fs::metadata(&disk.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_answers_is_waited_for() {
    let disk = Disk::new();
    let api = remembered(&disk).await;
    api.come_back();
    let mut source = start(&api, &disk.path);
    let text = changes(&mut source).await;
    assert!(text.contains("+ Service shop/web b") && text.ends_with("synced\n"), "{text}");
    assert!(!text.contains("recalled"), "{text}");

    // One kind cannot be listed for long: nothing would ever be announced.
    for _ in 0..40 {
        api.fail("/bgppeers", 1, Fault::Status(503, ""));
    }
    api.delete(SERVICES, "shop/db");
    drop(source);
    let mut source = start(&api, &disk.path);
    tokio::time::sleep(Duration::from_secs(19)).await;
    let text = changes(&mut source).await;
    assert!(text.contains("+ Service shop/web b") && !text.contains("recalled"), "{text}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = changes(&mut source).await;
    assert_eq!(text, "+ Service shop/db a\n+ BGPPeer metallb-system/open\nrecalled\n", "what it told counts");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_used_or_written_holds_up_nothing() {
    let disk = Disk::new();
    let api = remembered(&disk).await;
    fs::write(&disk.path, "nonsense").unwrap();
    let mut source = start(&api, &disk.path);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(changes(&mut source).await, "");
    api.come_back();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(changes(&mut source).await.ends_with("synced\n"));
    drop(source);

    let nowhere = disk.path.join("no/such/directory");
    let mut source = start(&api, &nowhere);
    assert!(changes(&mut source).await.ends_with("synced\n"));
    api.put(SERVICES, service("web", "z"));
    assert_eq!(changes(&mut source).await, "+ Service shop/web z\n");
}

#[tokio::test(start_paused = true)]
async fn the_file_grows_with_changes_only_so_far_and_is_confirmed_without_any() {
    let disk = Disk::new();
    let api = server();
    api.put(SERVICES, service("web", "a"));
    let mut source = start(&api, &disk.path);
    changes(&mut source).await;
    let as_of = || fs::read_to_string(&disk.path).unwrap().matches("\n= ").count();
    assert_eq!(as_of(), 1);
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(as_of(), 6, "each minute");
    api.go_down();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let then = as_of();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(as_of(), then, "not while nobody can know");
    api.come_back();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let long = "x".repeat(60_000);
    for round in 0..60 {
        api.put(SERVICES, service("web", &format!("{long}{round}")));
        changes(&mut source).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(fs::metadata(&disk.path).unwrap().len() < 1_500_000, "{round}");
    }
    let mut source = start(&api, &disk.path);
    assert!(changes(&mut source).await.contains(&format!("{long}59")));
}
