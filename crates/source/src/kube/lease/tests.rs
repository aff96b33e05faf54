//! Two processes and one Lease, against a server in the same process, in virtual time.

use std::time::Duration;

use ::api::core::Ingress;
use ::api::{Key, Kind, Write};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::kube::fake_api::{FakeApi, Fault};
use crate::kube::start;
use crate::testing::changes;
use crate::{Change, Identity, LeaseOptions, Options, PoolStatus, Source};

const SERVICES: &str = "/api/v1/services";
const POOLS: &str = "/apis/metallb.io/v1beta1/ipaddresspools";
const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
const SOON: Duration = Duration::from_secs(5);

fn server() -> FakeApi {
    let api = FakeApi::knowing(&[SERVICES, POOLS, LEASES]);
    for name in ["web", "db"] {
        api.put(SERVICES, json!({"metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}")}}));
    }
    api
}

fn process(api: &FakeApi, holder: &str) -> Source {
    let options = Options {
        kinds: vec![Kind::Service, Kind::IPAddressPool],
        reports: Vec::new(),
        namespace: "metallb-system".to_owned(),
        identity: Identity { component: "metallb-controller", instance: holder.to_owned(), pod: None },
        pool_status: PoolStatus::Read,
        lease: Some(LeaseOptions { name: "metallb-controller", holder: holder.to_owned() }),
    };
    let source = start(api.client(), options);
    source.writer.pause();
    source
}

fn status(name: &str, ip: &str) -> Write {
    Write::ServiceStatus {
        service: Key::new("shop", name),
        uid: format!("uid-{name}"),
        ingress: vec![Ingress { ip: Some(ip.to_owned()), ..Ingress::default() }],
        pool: Some("pool-1".to_owned()),
    }
}

/// Waits until a process leads, and has it write in that term.
async fn lead(source: &mut Source) {
    let term = tokio::time::timeout(Duration::from_mins(1), async {
        loop {
            match source.changes.recv().await {
                Some(Change::Leading(term)) => return term,
                Some(_) => {}
                None => panic!("the source ended"),
            }
        }
    });
    source.writer.begin(term.await.expect("nobody leads"));
}

fn holder(api: &FakeApi) -> String {
    let lease = api.get(LEASES, "metallb-system/metallb-controller");
    lease["spec"]["holderIdentity"].as_str().unwrap().split('_').next().unwrap().to_owned()
}

fn open(api: &FakeApi) -> Value {
    api.get(LEASES, "metallb-system/metallb-controller")["metadata"]["annotations"]["metallb.io/open-writes"].clone()
}

fn ip_of(api: &FakeApi, name: &str) -> Value {
    api.get(SERVICES, &format!("shop/{name}"))["status"]["loadBalancer"]["ingress"][0]["ip"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_write_is_announced_in_the_lease_and_names_the_version_from_before() {
    let api = server();
    let mut one = process(&api, "one");
    lead(&mut one).await;
    api.requests();
    one.writer.write(status("web", "10.0.0.1"));
    one.writer.write(status("db", "10.0.0.2"));
    assert_eq!(one.writer.flush(SOON).await, 0);
    let requests = api.requests();
    let at = |texts: &[&str]| requests.iter().position(|request| texts.iter().all(|text| request.contains(text)));
    for (name, version) in [("web", "1"), ("db", "2")] {
        let written =
            at(&["PATCH", &format!("/services/{name}/status"), &format!("\"resourceVersion\":\"{version}\"")]);
        let announced = at(&["PATCH", "/leases/", &format!("shop/{name}")]);
        assert!(written.is_some() && announced.is_some() && announced < written, "{requests:#?}");
    }
    // What was answered is not open any more with the next renewal.
    tokio::time::sleep(SOON).await;
    assert_eq!(open(&api), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_wanted_together_are_announced_together() {
    let api = server();
    for number in 0..100 {
        let name = format!("s{number}");
        api.put(SERVICES, json!({"metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}")}}));
    }
    let mut one = process(&api, "one");
    lead(&mut one).await;
    api.requests();
    for number in 0..100 {
        one.writer.write(status(&format!("s{number}"), "10.0.0.1"));
    }
    assert_eq!(one.writer.flush(SOON).await, 0);
    let announced = api.requests().iter().filter(|request| request.contains("/leases/")).count();
    assert!(announced <= 3, "100 statuses took {announced} writes of the Lease");
    assert!(api.under_way_max() <= crate::kube::WRITES_AT_ONCE + 4, "{} at one time", api.under_way_max());
}

#[tokio::test(start_paused = true)]
async fn who_stands_by_takes_over_at_once_when_the_lease_is_given_back() {
    let api = server();
    let mut one = process(&api, "one");
    lead(&mut one).await;
    let mut other = process(&api, "other");
    let text = changes(&mut other).await;
    assert!(text.contains("synced") && !text.contains("leading"), "it watches and does not lead: {text}");
    other.writer.write(status("web", "10.0.0.9"));
    let began = Instant::now();
    assert!(one.lease.as_ref().unwrap().release(SOON).await);
    lead(&mut other).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(holder(&api), "other");
    assert_eq!(changes(&mut one).await.lines().last(), Some("following"));
    // What was wanted before it led is forgotten, and what the first one wants now is not written.
    one.writer.write(status("web", "10.0.0.1"));
    tokio::time::sleep(SOON).await;
    assert_eq!(ip_of(&api, "web"), Value::Null);
    other.writer.write(status("web", "10.0.0.2"));
    assert_eq!(other.writer.flush(SOON).await, 0);
    assert_eq!(ip_of(&api, "web"), json!("10.0.0.2"));
}

#[tokio::test(start_paused = true)]
async fn a_write_of_a_dead_process_does_not_arrive_in_the_time_of_the_next_one() {
    let api = server();
    let mut one = process(&api, "one");
    lead(&mut one).await;
    api.requests();
    // It is sent, and for a long time nobody knows what becomes of it.
    api.fail("PATCH*/services/web/status", 1, Fault::Hang);
    one.writer.write(status("web", "10.0.0.1"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let late = api.requests().into_iter().find(|request| request.contains("/services/web/status")).unwrap();
    drop(one);
    let mut other = process(&api, "other");
    lead(&mut other).await;
    let web = api.get(SERVICES, "shop/web");
    assert!(web["metadata"]["annotations"]["metallb.io/fenced-by"].is_string(), "{web}");
    assert_eq!(api.get(SERVICES, "shop/db")["metadata"].get("annotations"), None, "the other one was not touched");
    let named: Value = serde_json::from_str(late.splitn(3, ' ').last().unwrap()).unwrap();
    assert_ne!(named["metadata"]["resourceVersion"], web["metadata"]["resourceVersion"], "it would be accepted");
    // The next status takes the mark away.
    other.writer.write(status("web", "10.0.0.2"));
    assert_eq!(other.writer.flush(SOON).await, 0);
    assert_eq!(
        api.get(SERVICES, "shop/web")["metadata"]["annotations"],
        json!({"metallb.io/ip-allocated-from-pool": "pool-1"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_that_meets_another_version_is_tried_again() {
    let api = server();
    let mut one = process(&api, "one");
    lead(&mut one).await;
    api.fail("PATCH*/services/web/status", 1, Fault::Status(409, ""));
    one.writer.write(status("web", "10.0.0.1"));
    api.put(
        SERVICES,
        json!({"metadata": {"namespace": "shop", "name": "web", "uid": "uid-web", "labels": {"a": "b"}}}),
    );
    assert_eq!(one.writer.flush(SOON).await, 0);
    assert_eq!(ip_of(&api, "web"), json!("10.0.0.1"));
}

fn condition(name: &str, uid: &str) -> Write {
    let condition = ::api::Condition {
        type_: ::api::ANNOUNCED.to_owned(),
        status: "False".to_owned(),
        observed_generation: None,
        last_transition_time: String::new(),
        reason: "NoPeer".to_owned(),
        message: "m".to_owned(),
    };
    Write::ServiceCondition { service: Key::new("shop", name), uid: uid.to_owned(), condition: Some(condition) }
}

#[tokio::test(start_paused = true)]
async fn a_condition_is_of_a_term_and_of_the_version_that_the_addresses_made() {
    let api = server();
    let mut one = process(&api, "one");
    let mut other = process(&api, "other");
    other.writer.write(condition("web", "uid-web"));
    lead(&mut one).await;
    changes(&mut other).await;
    other.writer.write(condition("web", "uid-web"));
    api.requests();
    one.writer.write(condition("web", "uid-web"));
    one.writer.write(status("web", "10.0.0.1"));
    one.writer.write(condition("db", "of its predecessor"));
    assert_eq!(one.writer.flush(SOON).await, 0);
    let requests = api.requests();
    let conditions: Vec<&String> = requests.iter().filter(|request| request.contains("metallb-conditions")).collect();
    let [of_web] = conditions.as_slice() else { panic!("not by who stands by, nor for a predecessor: {requests:#?}") };
    let addresses = requests.iter().position(|request| request.contains("10.0.0.1")).unwrap();
    assert!(Some(addresses) < requests.iter().position(|request| request.contains("metallb-conditions")));
    let announced = requests.iter().filter(|it| it.contains("/leases/") && it.contains("shop/web")).count();
    assert!(announced >= 1, "{requests:#?}");
    let version = api.get(SERVICES, "shop/web")["metadata"]["resourceVersion"].clone();
    assert!(!of_web.contains(r#""resourceVersion":"1""#), "that from before the addresses: {of_web}");
    // The answer to a condition names the version of the next status: nothing has to be tried twice.
    one.writer.write(status("web", "10.0.0.2"));
    assert_eq!(one.writer.flush(SOON).await, 0);
    let written = api.requests().into_iter().filter(|request| request.contains("10.0.0.2")).collect::<Vec<_>>();
    assert!(written.len() == 1 && written[0].contains(&format!("\"resourceVersion\":{version}")), "{written:#?}");
    assert_eq!(one.counters.write_retries.get(), 0);
    // One that waits is forgotten with the term.
    api.fail("PATCH*/services/db/status", 1, Fault::Status(409, ""));
    one.writer.write(condition("db", "uid-db"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(one.lease.as_ref().unwrap().release(SOON).await);
    api.requests();
    tokio::time::sleep(SOON).await;
    let late = api.requests().into_iter().filter(|request| request.contains("metallb-conditions")).count();
    assert_eq!(late, 0, "written in the time of another one");
}

/// As addresses do: see `lease`.
#[tokio::test(start_paused = true)]
async fn an_assigned_node_is_of_a_term_and_of_a_version_that_the_lease_was_told_before() {
    let node = |node: &str| Write::AssignedNode {
        service: Key::new("shop", "web"),
        uid: "uid-web".to_owned(),
        node: Some(node.to_owned()),
    };
    let api = server();
    let mut one = process(&api, "one");
    let mut other = process(&api, "other");
    other.writer.write(node("n9"));
    lead(&mut one).await;
    changes(&mut other).await;
    other.writer.write(node("n9"));
    api.requests();
    one.writer.write(condition("web", "uid-web"));
    one.writer.write(node("n1"));
    one.writer.write(status("web", "10.0.0.1"));
    assert_eq!(one.writer.flush(SOON).await, 0);
    let requests = api.requests();
    let place = |what: &str| requests.iter().position(|request| request.contains(what));
    let (open, addresses, assigned) =
        (place("shop/web").unwrap(), place("10.0.0.1").unwrap(), place("l2-assigned").unwrap());
    assert!(open < addresses && addresses < assigned && Some(assigned) < place("metallb-conditions"), "{requests:#?}");
    assert!(requests[assigned].contains("\"resourceVersion\""), "{}", requests[assigned]);
    assert_eq!(api.get(SERVICES, "shop/web")["metadata"]["annotations"]["metallb.io/l2-assigned-node"], json!("n1"));
    assert_eq!(one.counters.write_retries.get(), 0);
    // It hangs, and the next one makes sure that it comes to nothing.
    api.fail("PATCH*/services/web/status", 1, Fault::Hang);
    one.writer.write(node("n2"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let late = api.requests().into_iter().find(|request| request.contains("/services/web/status")).unwrap();
    drop(one);
    lead(&mut other).await;
    let named: Value = serde_json::from_str(late.splitn(3, ' ').last().unwrap()).unwrap();
    let version = api.get(SERVICES, "shop/web")["metadata"]["resourceVersion"].clone();
    assert_ne!(named["metadata"]["resourceVersion"], version, "it would be accepted");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_before_another_one_begins() {
    let api = server();
    let mut one = process(&api, "one");
    lead(&mut one).await;
    changes(&mut one).await;
    api.go_down();
    let began = Instant::now();
    // Nothing tells it but the time.
    let standing = one.lease.as_ref().unwrap().0.standing();
    while standing.borrow().term().is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() <= Duration::from_millis(7_600), "{:?}", began.elapsed());
    one.writer.write(status("web", "10.0.0.1"));
    api.requests();
    api.come_back();
    lead(&mut one).await;
    let requests = api.requests();
    assert!(!requests.iter().any(|request| request.contains("/services/web/status")), "{requests:#?}");
}

#[tokio::test(start_paused = true)]
async fn without_the_rights_on_the_lease_nothing_is_written_until_they_come() {
    let api = server();
    api.fail("/leases", 20, Fault::Status(403, ""));
    let mut one = process(&api, "one");
    let text = changes(&mut one).await;
    assert!(!text.contains("leading"), "{text}");
    lead(&mut one).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_restarted_in_its_pod_goes_on_at_once() {
    let api = server();
    let mut one = process(&api, "one");
    lead(&mut one).await;
    drop(one);
    let began = Instant::now();
    let mut again = process(&api, "one");
    lead(&mut again).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
