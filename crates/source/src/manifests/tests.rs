//! The manifests source: the directory by itself, at times that the test sets, and the whole with its task and writer.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::core::{Ingress, Service};
use api::{Event, EventType, Key, Kind, Object, ObjectRef, PoolCounters, Write};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::overlay::{Known, Overlay};
use super::status::StatusFolder;
use super::{SETTLE_TIME, StatusFiles, start};
use crate::connection::ConnectionState;
use crate::counters::Counters;
use crate::testing::{TemporaryDirectory, changes, describe};
use crate::{Change, Identity, Options, PoolStatus, Source};

fn service(name: &str, class: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{type: LoadBalancer, loadBalancerClass: {class}}}\n---\n"
    )
}

fn options() -> Options {
    Options {
        kinds: vec![Kind::Service, Kind::Node, Kind::IPAddressPool, Kind::Secret],
        reports: Vec::new(),
        namespace: "metallb-system".to_owned(),
        identity: Identity { component: "metallb-controller", instance: "host-1".to_owned(), pod: None },
        pool_status: PoolStatus::Read,
        lease: None,
    }
}

/// A directory that is looked at when the test says so, with all files old enough.
struct Bench {
    directory: TemporaryDirectory,
    overlay: Overlay,
    counters: Arc<Counters>,
}

impl Bench {
    fn new() -> Bench {
        Bench::over(TemporaryDirectory::new(), StatusFiles::Owned)
    }

    fn over(directory: TemporaryDirectory, status_files: StatusFiles) -> Bench {
        let counters = Arc::new(Counters::default());
        let path = directory.path().to_owned();
        let overlay = Overlay::new(path, options(), status_files, Known::default(), counters.clone());
        Bench { directory, overlay, counters }
    }

    fn poll_at(&mut self, now: SystemTime) -> String {
        describe(&self.overlay.poll(now).unwrap())
    }

    /// Looks twice, long after all that was done.
    fn check(&mut self, expected: Expect) {
        let late = now() + Duration::from_hours(1);
        let both = self.poll_at(late) + &self.poll_at(late);
        expected.assert_eq(&both);
    }
}

fn now() -> SystemTime {
    SystemTime::from(jiff::Timestamp::now())
}

#[test]
fn files_are_read_in_the_order_of_their_names_and_only_manifests() {
    let mut bench = Bench::new();
    let directory = &bench.directory;
    directory.write("b.yaml", &(service("b1", "x") + &service("b2", "x")));
    directory.write("a.yml", &service("a", "x"));
    directory.write("c.json", r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}"#);
    for name in [".hidden.yaml", "notes.txt", "d.yaml~", "yaml"] {
        directory.write(name, &service("never", "x"));
    }
    fs::create_dir(directory.path().join("folder.yaml")).unwrap();
    bench.check(expect![[r#"
        + Service shop/a x
        + Service shop/b1 x
        + Service shop/b2 x
        + Node n1
    "#]]);
    assert!(bench.overlay.is_settled());
}

#[test]
fn only_what_changed_is_sent() {
    let mut bench = Bench::new();
    bench.directory.write("a.yaml", &(service("same", "x") + &service("changed", "x") + &service("gone", "x")));
    bench.directory.write("b.yaml", &service("moved", "x"));
    bench.check(expect![[r#"
        + Service shop/same x
        + Service shop/changed x
        + Service shop/gone x
        + Service shop/moved x
    "#]]);
    bench.directory.write("a.yaml", &(service("same", "x") + "# a remark\n---\n" + &service("changed", "b")));
    bench.directory.write("c.yaml", &service("moved", "x"));
    bench.directory.remove("b.yaml");
    bench.check(expect![[r#"
        + Service shop/changed b
        - Service shop/gone
    "#]]);
    bench.directory.write("a.yaml", "");
    bench.check(expect![[r#"
        - Service shop/changed
        - Service shop/same
    "#]]);
}

#[test]
fn a_file_counts_when_it_is_still() {
    let mut bench = Bench::new();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let path = bench.directory.path().join("a.yaml");
    let written_at = |text: &str, at| {
        fs::write(&path, text).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    };
    written_at(&service("half", "x"), start);
    assert_eq!(bench.poll_at(start), "", "it may be half written");
    assert!(!bench.overlay.is_settled());
    written_at(&(service("half", "x") + &service("whole", "x")), start + Duration::from_millis(100));
    assert_eq!(bench.poll_at(start + Duration::from_millis(150)), "", "it has changed since");
    let twice = bench.poll_at(start + Duration::from_millis(160));
    assert_eq!(twice, "+ Service shop/half x\n+ Service shop/whole x\n", "the same at two looks");
    assert!(bench.overlay.is_settled());
    written_at(&service("half", "x"), start + Duration::from_secs(10));
    assert_eq!(bench.poll_at(start + Duration::from_secs(10) + SETTLE_TIME), "- Service shop/whole\n", "old enough");
}

#[test]
fn a_file_that_is_away_for_a_moment_is_not_gone() {
    let mut bench = Bench::new();
    bench.directory.write("a.yaml", &service("web", "x"));
    let late = now() + Duration::from_hours(1);
    bench.poll_at(late);
    bench.directory.remove("a.yaml");
    assert_eq!(bench.poll_at(late), "");
    bench.directory.write("a.yaml", &service("web", "b"));
    assert_eq!(bench.poll_at(late), "+ Service shop/web b\n");
    bench.directory.remove("a.yaml");
    assert_eq!(bench.poll_at(late), "");
    assert_eq!(bench.poll_at(late), "- Service shop/web\n");
}

#[test]
fn a_swap_of_links_as_for_a_config_map_is_a_change() {
    let mut bench = Bench::new();
    let path = bench.directory.path().to_owned();
    for (version, class) in [("..1", "x"), ("..2", "b")] {
        fs::create_dir(path.join(version)).unwrap();
        fs::write(path.join(version).join("a.yaml"), service("web", class)).unwrap();
    }
    symlink("..1", path.join("..data")).unwrap();
    symlink("..data/a.yaml", path.join("a.yaml")).unwrap();
    bench.check(expect![[r#"
        + Service shop/web x
    "#]]);
    symlink("..2", path.join("..data_tmp")).unwrap();
    fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    bench.check(expect![[r#"
        + Service shop/web b
    "#]]);
}

#[test]
fn the_last_good_version_of_a_broken_file_stays_in_force() {
    let mut bench = Bench::new();
    bench.directory.write("a.yaml", &(service("one", "x") + &service("two", "x")));
    bench.directory.write("b.yaml", &service("other", "x"));
    bench.check(expect![[r#"
        + Service shop/one x
        + Service shop/two x
        + Service shop/other x
    "#]]);
    for broken in ["{", "kind: Service\n", "\u{fffe}", &service("one", "b").replace("LoadBalancer", "[]")] {
        bench.directory.write("a.yaml", broken);
        bench.check(expect![""]);
    }
    fs::write(bench.directory.path().join("a.yaml"), b"\xff\xfe").unwrap();
    bench.check(expect![""]);
    assert_eq!(bench.counters.unreadable.get(), 5, "each version once");
    bench.directory.write("b.yaml", &service("other", "b"));
    bench.directory.write("a.yaml", &service("one", "b"));
    bench.check(expect![[r#"
        + Service shop/one b
        + Service shop/other b
        - Service shop/two
    "#]]);
}

#[test]
fn without_a_good_version_what_can_be_used_is() {
    let mut bench = Bench::new();
    bench.directory.write("a.yaml", &(service("one", "x") + "kind: Service\n---\n" + &service("two", "x")));
    bench.check(expect![[r#"
        + Service shop/one x
        + Service shop/two x
    "#]]);
}

#[test]
fn of_an_object_in_two_files_the_first_counts() {
    let mut bench = Bench::new();
    bench.directory.write("b.yaml", &service("web", "second"));
    bench.directory.write("a.yaml", &(service("web", "first") + &service("web", "again")));
    bench.check(expect![[r#"
        + Service shop/web first
    "#]]);
    bench.directory.remove("a.yaml");
    bench.check(expect![[r#"
        + Service shop/web second
    "#]]);
}

#[test]
fn what_an_api_server_would_fill_in_is_filled_in() {
    let mut bench = Bench::new();
    bench.directory.write(
        "a.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\n\
         apiVersion: v1\nkind: Node\nmetadata: {name: n1, namespace: mistaken, uid: given}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p}\nspec: {addresses: [10.0.0.0/24]}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {name: elsewhere, namespace: shop}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {name: not-asked-for}\n",
    );
    let changes = bench.overlay.poll(now() + Duration::from_hours(1)).unwrap();
    expect![[r#"
        + Service default/web
        + Node n1
        + IPAddressPool metallb-system/p
    "#]]
    .assert_eq(&describe(&changes));
    let uids: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::Applied(object) => object.metadata().uid.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(uids, ["manifest/Service/default/web", "given", "manifest/IPAddressPool/metallb-system/p"]);
}

#[test]
fn without_a_namespace_of_our_own_all_are() {
    let directory = TemporaryDirectory::new();
    let pool = |metadata| {
        format!(
            "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {metadata}\nspec: {{addresses: []}}\n---\n"
        )
    };
    directory.write("a.yaml", &(pool("{name: p}") + &pool("{name: p, namespace: shop}")));
    let options = Options { namespace: String::new(), ..options() };
    let path = directory.path().to_owned();
    let mut overlay = Overlay::new(path, options, StatusFiles::Owned, Known::default(), Arc::default());
    expect![[r#"
        + IPAddressPool metallb-system/p
        + IPAddressPool shop/p
    "#]]
    .assert_eq(&describe(&overlay.poll(now() + Duration::from_hours(1)).unwrap()));
}

#[test]
fn losing_the_directory_deletes_nothing() {
    let mut bench = Bench::new();
    bench.directory.write("a.yaml", &service("web", "x"));
    bench.check(expect![[r#"
        + Service shop/web x
    "#]]);
    let (path, away) = (bench.directory.path().to_owned(), bench.directory.path().with_extension("away"));
    fs::rename(&path, &away).unwrap();
    assert!(bench.overlay.poll(now()).is_err());
    fs::rename(&away, &path).unwrap();
    bench.check(expect![""]);
}

fn status_of(service: &str, uid: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: shop\n  name: {service}\n  uid: {uid}\n  annotations:\n    \
         metallb.io/ip-allocated-from-pool: p\nstatus:\n  loadBalancer:\n    ingress:\n    - ip: {ip}\n"
    )
}

#[test]
fn the_status_file_is_laid_over_the_manifest() {
    let mut bench = Bench::new();
    bench.directory.write("a.yaml", &(service("web", "x") + "status: {loadBalancer: {ingress: [{ip: 10.9.9.9}]}}\n"));
    fs::create_dir(bench.directory.path().join("status")).unwrap();
    bench.directory.write("status/service.shop.web.yaml", &status_of("web", "manifest/Service/shop/web", "10.0.0.1"));
    bench.directory.write("status/broken.yaml", "{");
    bench.check(expect![[r#"
        + Service shop/web x 10.0.0.1 p
    "#]]);
    bench.directory.write("status/service.shop.web.yaml", "{");
    fs::write(bench.directory.path().join("status/new"), "").unwrap();
    bench.poll_at(now());
    bench.directory.write("status/service.shop.web.yaml", &status_of("web", "manifest/Service/shop/web", "10.0.0.2"));
    bench.check(expect![[r#"
        + Service shop/web x 10.0.0.2 p
    "#]]);
}

/// Somebody edits the file: whatever becomes of the conditions, the addresses count.
#[test]
fn of_the_conditions_in_a_status_file_ours_count_and_bad_ones_hide_nothing() {
    let ours = "{type: metallb.io/Announced, status: 'False', reason: NoPeer, message: m, lastTransitionTime: t}";
    for (conditions, reasons) in [
        (format!("[{{type: example.com/Other, status: 'True', reason: Other}}, {ours}]"), vec!["NoPeer"]),
        (format!("[5, {{type: [], status: 5}}, {ours}]"), vec!["NoPeer"]),
        ("[{type: example.com/Other, status: 'True', reason: Other}]".to_owned(), vec![]),
        ("{type: 5}".to_owned(), vec![]),
        ("null".to_owned(), vec![]),
        ("web".to_owned(), vec![]),
    ] {
        let directory = TemporaryDirectory::new();
        let uid = "manifest/Service/shop/web";
        let text = status_of("web", uid, "10.0.0.1") + &format!("  conditions: {conditions}\n");
        directory.write("service.shop.web.yaml", &text);
        let mut folder = StatusFolder::new(directory.path().to_owned());
        assert!(folder.poll(now()));
        let mut service = api::core::Service::default();
        (service.metadata.namespace, service.metadata.name) = ("shop".to_owned(), "web".to_owned());
        service.metadata.uid = uid.to_owned();
        let mut object = Object::Service(service);
        folder.lay_over(&mut object);
        let Object::Service(service) = object else { panic!("{object:?}") };
        let told: Vec<_> = service.status.conditions.iter().map(|it| it.reason.as_str()).collect();
        let ips: Vec<_> = service.status.load_balancer.ingress.iter().filter_map(|it| it.ip.as_deref()).collect();
        assert_eq!((told, ips), (reasons, vec!["10.0.0.1"]), "{conditions}");
    }
}

#[test]
fn the_status_of_a_predecessor_is_not_inherited() {
    let mut bench = Bench::new();
    fs::create_dir(bench.directory.path().join("status")).unwrap();
    bench.directory.write("status/service.shop.web.yaml", &status_of("web", "another", "10.0.0.1"));
    bench.directory.write("a.yaml", &service("web", "x"));
    bench.check(expect![[r#"
        + Service shop/web x
    "#]]);
}

#[test]
fn the_status_of_what_is_gone_is_removed_by_its_owner_alone() {
    for (status_files, left) in [
        (StatusFiles::Owned, vec!["unknown.yaml"]),
        (StatusFiles::ReadOnly, vec!["service.shop.web.yaml", "unknown.yaml"]),
    ] {
        let mut bench = Bench::over(TemporaryDirectory::new(), status_files);
        fs::create_dir(bench.directory.path().join("status")).unwrap();
        bench.directory.write("a.yaml", &service("web", "x"));
        let status = status_of("web", "manifest/Service/shop/web", "10.0.0.1");
        bench.directory.write("status/service.shop.web.yaml", &status);
        bench.directory.write("status/unknown.yaml", "");
        bench.check(expect![[r#"
            + Service shop/web x 10.0.0.1 p
        "#]]);
        // Even while another file is broken.
        bench.directory.write("b.yaml", "{");
        bench.directory.remove("a.yaml");
        bench.check(expect![[r#"
            - Service shop/web
        "#]]);
        assert_eq!(bench.directory.statuses(), left, "{status_files:?}");
    }
}

#[test]
fn at_start_statuses_are_kept_as_long_as_a_broken_file_may_hold_their_objects() {
    let mut bench = Bench::new();
    fs::create_dir(bench.directory.path().join("status")).unwrap();
    bench.directory.write("a.yaml", "{");
    for name in ["web", "old"] {
        let status = status_of(name, &format!("manifest/Service/shop/{name}"), "10.0.0.1");
        bench.directory.write(&format!("status/service.shop.{name}.yaml"), &status);
    }
    bench.check(expect![""]);
    assert_eq!(bench.directory.statuses().len(), 2);
    bench.directory.write("a.yaml", &service("web", "x"));
    bench.check(expect![[r#"
        + Service shop/web x 10.0.0.1 p
    "#]]);
    assert_eq!(bench.directory.statuses(), ["service.shop.web.yaml"], "gone while nobody was here");
}

// The whole.

fn status(name: &str, ips: &[&str], pool: Option<&str>) -> Write {
    Write::ServiceStatus {
        service: Key::new("shop", name),
        uid: format!("manifest/Service/shop/{name}"),
        ingress: ips.iter().map(|ip| Ingress { ip: Some((*ip).to_owned()), ..Ingress::default() }).collect(),
        pool: pool.map(str::to_owned),
    }
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn what_a_look_finds_changed_comes_together() {
    let pool = |name: &str, addresses: &str| {
        format!(
            "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n\
             metadata: {{name: {name}, namespace: metallb-system}}\nspec: {{addresses: [{addresses}]}}\n---\n"
        )
    };
    let directory = TemporaryDirectory::new();
    directory.write("a.yaml", &pool("a", "10.0.0.0/24"));
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    changes(&mut source).await;
    directory.write("a.yaml", &(pool("a", "10.0.0.0/25") + &pool("b", "10.0.0.128/25") + &service("web", "x")));
    let Some(Change::Together(together)) = source.changes.recv().await else { panic!("they come one by one") };
    let mut lines: Vec<String> = describe(&together).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["+ IPAddressPool metallb-system/a", "+ IPAddressPool metallb-system/b", "+ Service shop/web x"]);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_was_written_is_read_and_outlives_a_restart() {
    let directory = TemporaryDirectory::new();
    directory.write("a.yaml", &service("web", "x"));
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    expect![[r#"
        + Service shop/web x
        synced
    "#]]
    .assert_eq(&changes(&mut source).await);
    assert_eq!(source.connection.borrow().state, ConnectionState::Up);

    source.writer.write(status("web", &["10.0.0.1", "fc00::1"], Some("pool-1")));
    assert_eq!(source.writer.flush(SOON).await, 0);
    expect![[r#"
        + Service shop/web x 10.0.0.1 fc00::1 pool-1
    "#]]
    .assert_eq(&changes(&mut source).await);
    expect![[r#"
        apiVersion: v1
        kind: Service
        metadata:
          annotations:
            metallb.io/ip-allocated-from-pool: pool-1
          name: web
          namespace: shop
          uid: manifest/Service/shop/web
        status:
          loadBalancer:
            ingress:
            - ip: "10.0.0.1"
            - ip: fc00::1
    "#]]
    .assert_eq(&directory.read("status/service.shop.web.yaml"));

    drop(source);
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::ReadOnly);
    expect![[r#"
        + Service shop/web x 10.0.0.1 fc00::1 pool-1
        synced
    "#]]
    .assert_eq(&changes(&mut source).await);
}

#[tokio::test(start_paused = true)]
async fn an_empty_status_overrides_that_of_the_manifest() {
    let directory = TemporaryDirectory::new();
    directory.write(
        "a.yaml",
        &service("web", "x").replace("---\n", "status: {loadBalancer: {ingress: [{ip: 10.0.0.1}]}}\n"),
    );
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    changes(&mut source).await;
    source.writer.write(status("web", &[], None));
    assert_eq!(source.writer.flush(SOON).await, 0);
    expect![[r#"
        + Service shop/web x
    "#]]
    .assert_eq(&changes(&mut source).await);
}

fn condition(reason: Option<&str>) -> Write {
    let condition = reason.map(|reason| api::Condition {
        type_: api::ANNOUNCED.to_owned(),
        status: "False".to_owned(),
        observed_generation: None,
        last_transition_time: "2026-01-01T00:00:00Z".to_owned(),
        reason: reason.to_owned(),
        message: "nobody".to_owned(),
    });
    let (service, uid) = (Key::new("shop", "web"), "manifest/Service/shop/web".to_owned());
    Write::ServiceCondition { service, uid, condition }
}

/// Addresses and condition are in one file, and neither write touches what the other has written.
#[tokio::test(start_paused = true)]
async fn a_condition_and_addresses_leave_each_other_alone() {
    let directory = TemporaryDirectory::new();
    directory.write(
        "a.yaml",
        &service("web", "x").replace("---\n", "status: {loadBalancer: {ingress: [{ip: 10.0.0.9}]}}\n"),
    );
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    changes(&mut source).await;
    let mut story = String::new();
    let writes = [
        condition(Some("NoPeer")),
        status("web", &["10.0.0.1"], Some("pool-1")),
        condition(Some("NoEndpoints")),
        status("web", &["10.0.0.2"], Some("pool-2")),
        condition(None),
    ];
    for write in writes {
        source.writer.write(write);
        assert_eq!(source.writer.flush(SOON).await, 0);
        let mut told = String::new();
        while let Ok(Some(Change::Applied(Object::Service(service)))) =
            tokio::time::timeout(Duration::from_millis(700), source.changes.recv()).await
        {
            let reasons: Vec<_> = service.status.conditions.iter().map(|it| it.reason.as_str()).collect();
            let ips: Vec<_> = service.status.load_balancer.ingress.iter().filter_map(|it| it.ip.as_deref()).collect();
            let words = [reasons.join(" "), ips.join(" "), format!("{:?}\n", service.metadata.annotations)];
            told.push_str(&words.join(" "));
        }
        story.push_str(&told);
    }
    expect![[r#"
        NoPeer 10.0.0.9 {}
        NoPeer 10.0.0.1 {"metallb.io/ip-allocated-from-pool": "pool-1"}
        NoEndpoints 10.0.0.1 {"metallb.io/ip-allocated-from-pool": "pool-1"}
        NoEndpoints 10.0.0.2 {"metallb.io/ip-allocated-from-pool": "pool-2"}
         10.0.0.2 {"metallb.io/ip-allocated-from-pool": "pool-2"}
    "#]]
    .assert_eq(&story);
    expect![[r#"
        apiVersion: v1
        kind: Service
        metadata:
          annotations:
            metallb.io/ip-allocated-from-pool: pool-2
          name: web
          namespace: shop
          uid: manifest/Service/shop/web
        status:
          loadBalancer:
            ingress:
            - ip: "10.0.0.2"
    "#]]
    .assert_eq(&directory.read("status/service.shop.web.yaml"));
}

/// The node that a Service is assigned to is the third part of that file. What the manifest says of it counts until the first
/// part is written.
#[tokio::test(start_paused = true)]
async fn an_assigned_node_is_kept_beside_addresses_and_condition() {
    let directory = TemporaryDirectory::new();
    let by_hand = "metallb.io/l2-assigned-node: by-hand";
    let text = service("web", "x");
    directory
        .write("a.yaml", &text.replace("namespace: shop", &format!("namespace: shop, annotations: {{{by_hand}}}")));
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    let web = services(&mut source).await.remove(0);
    assert_eq!(web.metadata.annotations[api::LAYER2_ASSIGNED_NODE], "by-hand");
    let node = |node: Option<&str>| Write::AssignedNode {
        service: Key::new("shop", "web"),
        uid: "manifest/Service/shop/web".to_owned(),
        node: node.map(str::to_owned),
    };
    let shown = |directory: &TemporaryDirectory| {
        let file: Value = serde_saphyr::from_str(&directory.read("status/service.shop.web.yaml")).unwrap();
        file["metadata"]["annotations"].clone()
    };
    let (pool, assigned) = ("metallb.io/ip-allocated-from-pool", "metallb.io/l2-assigned-node");
    for (write, expected) in [
        (status("web", &["10.0.0.1"], Some("pool-1")), json!({pool: "pool-1"})),
        (node(Some("n1")), json!({pool: "pool-1", assigned: "n1"})),
        (condition(Some("NoPeer")), json!({pool: "pool-1", assigned: "n1"})),
        (status("web", &["10.0.0.2"], Some("pool-2")), json!({pool: "pool-2", assigned: "n1"})),
        (node(None), json!({pool: "pool-2"})),
        (node(Some("n2")), json!({pool: "pool-2", assigned: "n2"})),
    ] {
        source.writer.write(write);
        assert_eq!(source.writer.flush(SOON).await, 0);
        assert_eq!(shown(&directory), expected);
    }
    let mut last = None;
    while let Ok(Some(change)) = tokio::time::timeout(Duration::from_millis(700), source.changes.recv()).await {
        if let Change::Applied(Object::Service(web)) = change {
            last = Some((web.metadata.annotations, web.status.conditions.len()));
        }
    }
    let annotations = [(pool, "pool-2"), (assigned, "n2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(last, Some((annotations.into(), 1)));
}

/// Many at once, in any order: the two halves of one file are never mixed up with those of another time.
#[tokio::test]
async fn both_halves_may_be_written_at_the_same_time() {
    let directory = TemporaryDirectory::new();
    directory.write("a.yaml", &service("web", "x"));
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    assert!(changes(&mut source).await.contains("synced"));
    for number in 1..=50 {
        source.writer.write(condition(Some(&format!("R{number}"))));
        source.writer.write(status("web", &[&format!("10.0.0.{number}")], Some("pool-1")));
        tokio::task::yield_now().await;
    }
    assert_eq!(source.writer.flush(SOON).await, 0);
    let text = directory.read("status/service.shop.web.yaml");
    assert!(text.contains("R50") && text.contains("10.0.0.50"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_for_what_is_not_there() {
    let directory = TemporaryDirectory::new();
    directory.write("a.yaml", &service("web", "x"));
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    changes(&mut source).await;
    source.writer.write(status("gone", &["10.0.0.1"], None));
    let Write::ServiceStatus { service, ingress, pool, .. } = status("web", &["10.0.0.1"], None) else { panic!() };
    source.writer.write(Write::ServiceStatus { service, uid: "another".to_owned(), ingress, pool });
    let pool = Key::new("metallb-system", "../../escape");
    source.writer.write(Write::PoolStatus { pool, status: PoolCounters::default() });
    assert_eq!(source.writer.flush(SOON).await, 0);
    assert_eq!(source.counters.write_refusals.get(), 3);
    assert_eq!(directory.statuses(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn names_that_lead_elsewhere_get_no_file() {
    let directory = TemporaryDirectory::new();
    directory.write("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: ../escape, namespace: shop}\n");
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    let Some(Change::Applied(object)) = source.changes.recv().await else { panic!() };
    let (service, uid) = (object.metadata().key(), object.metadata().uid.clone());
    source.writer.write(Write::ServiceStatus { service, uid, ingress: vec![], pool: None });
    assert_eq!(source.writer.flush(SOON).await, 0);
    assert_eq!((source.counters.write_refusals.get(), directory.statuses().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_counters_of_a_pool_are_written_and_read() {
    let directory = TemporaryDirectory::new();
    directory.write(
        "a.yaml",
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a.b, namespace: metallb-system}\n\
         spec: {addresses: [10.0.0.0/24]}\n",
    );
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    changes(&mut source).await;
    let status = PoolCounters { assigned_ipv4: 1, assigned_ipv6: 0, available_ipv4: 254, available_ipv6: i64::MAX };
    source.writer.write(Write::PoolStatus { pool: Key::new("metallb-system", "a.b"), status });
    assert_eq!(source.writer.flush(SOON).await, 0);
    let Some(Change::Applied(Object::IPAddressPool(pool))) = source.changes.recv().await else { panic!() };
    assert_eq!(pool.status, Some(status));
    assert_eq!(directory.statuses(), ["ipaddresspool.metallb-system.a.b.yaml"]);
}

#[tokio::test(start_paused = true)]
async fn events_are_lines_of_a_log_that_is_bounded() {
    let directory = TemporaryDirectory::new();
    let source = start(directory.path().to_owned(), options(), StatusFiles::ReadOnly);
    let event = |message: String| {
        Write::Event(Event {
            object: ObjectRef { kind: Kind::Service, key: Key::new("shop", "web") },
            uid: "u".to_owned(),
            type_: EventType::Normal,
            reason: "nodeAssigned",
            message,
        })
    };
    let message = "announcing from node \"host-1\" with protocol \"layer2\"";
    source.writer.write(event(message.to_owned()));
    source.writer.flush(SOON).await;
    source.writer.write(event(message.to_owned()));
    source.writer.flush(SOON).await;
    let log = directory.read("status/events.log");
    let times_masked: Vec<_> =
        log.lines().map(|line| line.split_once(",\"ts\":").map_or(line, |(head, _)| head)).collect();
    expect![[r#"
        {"component":"metallb-controller","count":1,"instance":"host-1","kind":"Service","message":"announcing from node \"host-1\" with protocol \"layer2\"","name":"web","namespace":"shop","reason":"nodeAssigned"
        {"component":"metallb-controller","count":2,"instance":"host-1","kind":"Service","message":"announcing from node \"host-1\" with protocol \"layer2\"","name":"web","namespace":"shop","reason":"nodeAssigned""#]]
    .assert_eq(&times_masked.join("\n"));

    for n in 0..2_500 {
        source.writer.write(event(format!("{n} {}", "x".repeat(1_000))));
    }
    assert_eq!(source.writer.flush(Duration::from_hours(1)).await, 0);
    let length = |name: &str| fs::metadata(directory.path().join("status").join(name)).unwrap().len();
    assert!(length("events.log") < 1_100_000 && length("events.log.1") < 1_100_000);
    assert!(directory.read("status/events.log").ends_with("}\n"));
    assert_eq!(directory.statuses(), ["events.log", "events.log.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_not_there_yet_is_waited_for() {
    let directory = TemporaryDirectory::new();
    let mut source = start(directory.path().join("later"), options(), StatusFiles::Owned);
    assert_eq!(changes(&mut source).await, "");
    let connection = source.connection.borrow().clone();
    assert_eq!(connection.state, ConnectionState::Down);
    assert!(connection.error.unwrap().contains("No such file or directory"));
    fs::create_dir(directory.path().join("later")).unwrap();
    directory.write("later/a.yaml", &service("web", "x"));
    expect![[r#"
        + Service shop/web x
        synced
    "#]]
    .assert_eq(&changes(&mut source).await);
    assert_eq!(source.connection.borrow().state, ConnectionState::Up);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_does_not_bring_a_directory_back_that_is_away() {
    let directory = TemporaryDirectory::new();
    let here = directory.path().join("here");
    fs::create_dir(&here).unwrap();
    directory.write("here/a.yaml", &service("web", "x"));
    let mut source = start(here.clone(), options(), StatusFiles::Owned);
    changes(&mut source).await;
    fs::rename(&here, directory.path().join("away")).unwrap();
    source.writer.write(status("web", &["10.0.0.1"], Some("p")));
    source.writer.write(Write::Event(Event {
        object: ObjectRef { kind: Kind::Service, key: Key::new("shop", "web") },
        uid: "u".to_owned(),
        type_: EventType::Normal,
        reason: "nodeAssigned",
        message: String::new(),
    }));
    source.writer.flush(SOON).await;
    assert_eq!(changes(&mut source).await, "", "nothing was deleted");
    assert!(!here.exists());
    fs::rename(directory.path().join("away"), &here).unwrap();
    source.writer.flush(Duration::from_mins(5)).await;
    assert!(directory.read("here/status/service.shop.web.yaml").contains("10.0.0.1"));
}

#[tokio::test(start_paused = true)]
async fn the_source_ends_with_its_reader() {
    let directory = TemporaryDirectory::new();
    let Source { changes, mut tasks, .. } = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    drop(changes);
    assert!(tokio::time::timeout(SOON, tasks.ended()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_services_are_read_and_written() {
    let directory = TemporaryDirectory::new();
    let text: String = (0..1_000).map(|n| service(&format!("s{n}"), "x")).collect();
    directory.write("a.yaml", &text);
    let mut source = start(directory.path().to_owned(), options(), StatusFiles::Owned);
    let mut told = Vec::new();
    while told.len() < 1_000 {
        told.extend(services(&mut source).await);
    }
    for object in told {
        source.writer.write(status(&object.metadata.name, &["10.0.0.1"], Some("p")));
    }
    assert_eq!(source.changes.recv().await, Some(Change::Synced));
    assert_eq!(source.writer.flush(Duration::from_mins(1)).await, 0);
    let mut echoed = 0;
    while echoed < 1_000 {
        for service in services(&mut source).await {
            assert_eq!(service.status.load_balancer.ingress.len(), 1);
            echoed += 1;
        }
    }
}

/// The Services of the next change, or of those that come together.
async fn services(source: &mut Source) -> Vec<Service> {
    let service = |change| match change {
        Change::Applied(Object::Service(service)) => service,
        change => panic!("{change:?}"),
    };
    match source.changes.recv().await.unwrap() {
        Change::Together(changes) => changes.into_iter().map(service).collect(),
        change => vec![service(change)],
    }
}
