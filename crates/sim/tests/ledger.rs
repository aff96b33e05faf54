//! The judgement of what a Service may have and had to give up, on books that no controller would write.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic, also in its helpers")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::Key;
use api::core::{Service, ServicePort};
use config::{Config, Pool, ServiceAllocation};
use kit::{AddrRange, Labels, Selector, SelectorList};
use sim::Invariant;
use sim::ledger::{Assigned, Books, Told, check, check_moves};

/// Services as words: `v4`, `v6`, `dual` or `prefer`, then `key=k`, `local=app`, `port=80`, `ip=...`, `from=pool`,
/// `tier=gold`.
struct Case {
    services: BTreeMap<Key, Service>,
    namespaces: BTreeMap<String, Labels>,
    config: Config,
}

impl Case {
    fn new(pools: &[(&str, &[&str])], services: &[(&str, &str)]) -> Self {
        let services = services.iter().map(|(name, words)| (key(name), service(name, words))).collect();
        let pools = pools.iter().map(|(name, ranges)| ((*name).to_owned(), Arc::new(pool(name, ranges)))).collect();
        Case { services, namespaces: BTreeMap::new(), config: Config { pools, ..Config::default() } }
    }

    fn told(&self) -> Told<'_> {
        Told { services: &self.services, namespaces: &self.namespaces, config: &self.config, class: None }
    }

    /// What is wrong with these books.
    fn verdict(&self, books: &[(&str, &str)]) -> Option<Invariant> {
        check(&self.told(), &read(books)).err().map(|violation| violation.invariant)
    }

    /// What is wrong with the way from one to the other, after news of these Services.
    fn move_verdict(&self, before: &[(&str, &str)], after: &[(&str, &str)], news: &[&str]) -> Option<Invariant> {
        let news: Vec<Key> = news.iter().map(|name| key(name)).collect();
        let result = check_moves(&self.told(), &read(before), &read(after), &news);
        result.err().map(|violation| violation.invariant)
    }
}

fn key(name: &str) -> Key {
    let (namespace, name) = name.split_once('/').unwrap();
    Key::new(namespace, name)
}

fn service(name: &str, words: &str) -> Service {
    let mut service = Service::default();
    let key = key(name);
    (service.metadata.namespace, service.metadata.name) = (key.namespace, key.name);
    service.spec.type_ = Some("LoadBalancer".to_owned());
    for word in words.split_whitespace() {
        let spec = &mut service.spec;
        let mut annotate = |name: &str, value: &str| {
            service.metadata.annotations.insert(format!("metallb.io/{name}"), value.to_owned());
        };
        match word.split_once('=') {
            None => {
                let ips: &[&str] = match word {
                    "v4" => &["10.96.0.1"],
                    "v6" => &["fd00::1"],
                    _ => &["10.96.0.1", "fd00::1"],
                };
                spec.cluster_ips = ips.iter().map(|ip| (*ip).to_owned()).collect();
                let policy = if word == "prefer" { "PreferDualStack" } else { "RequireDualStack" };
                spec.ip_family_policy = (ips.len() == 2).then(|| policy.to_owned());
            }
            Some(("key", key)) => annotate(api::ALLOW_SHARED_IP, key),
            Some(("ip", ips)) => annotate(api::LOAD_BALANCER_IPS, ips),
            Some(("from", pool)) => annotate(api::ADDRESS_POOL, pool),
            Some(("port", port)) => {
                spec.ports.push(ServicePort { protocol: None, port: port.parse().unwrap() });
            }
            Some(("local", app)) => {
                spec.external_traffic_policy = Some("Local".to_owned());
                spec.selector.insert("app".to_owned(), app.to_owned());
            }
            Some((label, value)) => {
                service.metadata.labels.insert(label.to_owned(), value.to_owned());
            }
        }
    }
    service
}

/// A pool; the word `gold` makes it one for Services of the label `tier=gold`, `x` one for that namespace.
fn pool(name: &str, words: &[&str]) -> Pool {
    let has = |word: &str| words.contains(&word);
    let gold = SelectorList(vec![Selector::label("tier", "gold")]);
    Pool {
        name: name.to_owned(),
        ranges: words.iter().filter_map(|word| AddrRange::parse(word).ok()).collect(),
        auto_assign: true,
        avoid_buggy_ips: has("avoid-buggy"),
        allocation: (has("gold") || has("x")).then(|| ServiceAllocation {
            namespaces: has("x").then(|| "x".to_owned()).into_iter().collect(),
            service_selectors: if has("gold") { gold } else { SelectorList::default() },
            ..ServiceAllocation::default()
        }),
        l2_advertisements: BTreeMap::new(),
        bgp_advertisements: BTreeMap::new(),
    }
}

/// Books as words: `10.0.0.1,fc00::1 of a`.
fn read(books: &[(&str, &str)]) -> Books {
    let assigned = |text: &str| {
        let (addresses, pool) = text.split_once(" of ").unwrap();
        let addresses: Vec<IpAddr> = addresses.split(',').map(|text| text.parse().unwrap()).collect();
        Assigned { uid: String::new(), addresses, pool: pool.to_owned() }
    };
    books.iter().map(|(name, text)| (key(name), assigned(text))).collect()
}

const POOLS: [(&str, &[&str]); 3] = [
    ("a", &["10.0.0.0/30", "fc00::/126"]),
    ("b", &["10.0.0.4/30", "avoid-buggy", "gold"]),
    ("c", &["10.0.1.0/24", "avoid-buggy", "x"]),
];

#[test]
fn what_may_be_is_accepted() {
    let case = Case::new(
        &POOLS,
        &[("x/a", "v4 key=k port=80"), ("y/b", "v4 key=k port=443"), ("x/c", "dual"), ("x/d", "v4 tier=gold")],
    );
    let books = [("x/a", "10.0.0.1 of a"), ("y/b", "10.0.0.1 of a"), ("x/c", "10.0.0.2,fc00::2 of a")];
    assert_eq!(case.verdict(&books), None);
    assert_eq!(case.verdict(&[("x/d", "10.0.0.5 of b"), ("x/a", "10.0.1.7 of c")]), None);
}

#[test]
fn an_address_given_twice_is_found() {
    let pairs = [
        ("v4 port=80", "v4 port=443"),
        ("v4 key=k port=80", "v4 port=443"),
        ("v4 key=k port=80", "v4 key=z port=443"),
        ("v4 key=k port=80", "v4 key=k port=80"),
        ("v4 key=k port=80", "v4 key=k port=443 local=web"),
        ("v4 key=k port=80 local=db", "v4 key=k port=443 local=web"),
    ];
    for (one, other) in pairs {
        let case = Case::new(&POOLS, &[("x/a", one), ("x/b", other)]);
        let books = [("x/a", "10.0.0.1 of a"), ("x/b", "10.0.0.1 of a")];
        assert_eq!(case.verdict(&books), Some(Invariant::AddressIsNotGivenTwice), "{one} and {other}");
    }
}

#[test]
fn an_address_that_the_service_may_not_have_is_found() {
    let cases = [
        ("v4", "192.0.2.1 of a"),
        ("v4", "10.0.0.1 of b"),
        ("v4", "10.0.0.5 of b"),
        ("v4", "fc00::1 of a"),
        ("dual", "10.0.0.1 of a"),
        ("dual", "10.0.0.1,10.0.0.2 of a"),
        ("v4 tier=gold", "10.0.0.0,fc00::1 of a"),
    ];
    for (words, assigned) in cases {
        let case = Case::new(&POOLS, &[("x/a", words)]);
        let found = case.verdict(&[("x/a", assigned)]);
        assert_eq!(found, Some(Invariant::PoolAcceptsTheService), "{words}: {assigned}");
    }
    let case = Case::new(&POOLS, &[("y/a", "v4"), ("x/a", "v4")]);
    for books in [("y/a", "10.0.1.7 of c"), ("x/a", "10.0.1.0 of c"), ("x/gone", "10.0.0.1 of a")] {
        assert_eq!(case.verdict(&[books]), Some(Invariant::PoolAcceptsTheService), "{books:?}");
    }
}

#[test]
fn a_valid_address_that_moves_is_found() {
    let case = Case::new(&POOLS, &[("x/a", "v4"), ("x/b", "prefer"), ("x/c", "v6")]);
    let broken = Some(Invariant::ValidAddressStays);
    let had = [("x/a", "10.0.0.1 of a"), ("x/b", "10.0.0.2,fc00::2 of a")];
    assert_eq!(case.move_verdict(&had, &had, &[]), None);
    let moved = [("x/a", "10.0.0.3 of a"), had[1]];
    assert_eq!(case.move_verdict(&had, &moved, &["x/a"]), broken, "for its own sake");
    assert_eq!(case.move_verdict(&had, &moved, &["x/c"]), broken, "because of another one");
    assert_eq!(case.move_verdict(&had, &[had[0]], &[]), broken, "lost");
    assert_eq!(case.move_verdict(&had, &[had[0], ("x/b", "10.0.0.2 of a")], &[]), broken, "a part");
    assert_eq!(case.move_verdict(&had, &[had[0], ("x/b", "fc00::2,10.0.0.2 of a")], &[]), broken, "the order");

    // Of two addresses of which one is valid no more the other one stays.
    let had = [("x/b", "10.0.0.2,fc99::2 of a")];
    assert_eq!(case.move_verdict(&had, &[], &[]), broken);
    assert_eq!(case.move_verdict(&had, &[("x/b", "10.0.0.3 of a")], &[]), broken);
    assert_eq!(case.move_verdict(&had, &[("x/b", "10.0.0.2 of a")], &[]), None);
    assert_eq!(case.move_verdict(&had, &[("x/b", "10.0.0.3,fc00::3 of a")], &[]), None, "two of another pool");
}

#[test]
fn what_is_no_longer_valid_or_was_wished_may_move() {
    let case = Case::new(&POOLS, &[("x/a", "v4"), ("x/wish", "v4 ip=10.0.0.3"), ("x/from", "v4 from=c")]);
    let moves = [
        ("x/a", "192.0.2.1 of a", "10.0.0.1 of a"),
        ("x/a", "10.0.0.5 of b", "10.0.0.1 of a"),
        ("x/a", "fc00::1 of a", "10.0.0.1 of a"),
        ("x/wish", "10.0.0.1 of a", "10.0.0.3 of a"),
        ("x/from", "10.0.0.1 of a", "10.0.1.1 of c"),
        ("x/gone", "10.0.0.1 of a", "10.0.0.2 of a"),
    ];
    for (name, had, has) in moves {
        assert_eq!(case.move_verdict(&[(name, had)], &[(name, has)], &[]), None, "{name}: {had} to {has}");
    }
    let broken = Some(Invariant::ValidAddressStays);
    assert_eq!(case.move_verdict(&[("x/wish", "10.0.0.1 of a")], &[], &[]), broken, "a wish that is not met");
    assert_eq!(case.move_verdict(&[("x/wish", "10.0.0.3 of a")], &[("x/wish", "10.0.0.1 of a")], &[]), broken);
    assert_eq!(case.move_verdict(&[("x/from", "10.0.1.2 of c")], &[("x/from", "10.0.1.1 of c")], &[]), broken);
}

#[test]
fn of_two_that_can_no_longer_share_the_one_that_changed_goes() {
    let case = Case::new(&POOLS, &[("x/a", "v4 key=k port=80"), ("x/b", "v4 key=z port=443")]);
    let had = [("x/a", "10.0.0.1 of a"), ("x/b", "10.0.0.1 of a")];
    let (a_went, b_went) = ([("x/a", "10.0.0.2 of a"), had[1]], [had[0], ("x/b", "10.0.0.2 of a")]);
    assert_eq!(case.move_verdict(&had, &b_went, &["x/b"]), None);
    assert_eq!(case.move_verdict(&had, &a_went, &["x/b"]), Some(Invariant::ValidAddressStays));
    assert_eq!(case.move_verdict(&had, &a_went, &["x/a", "x/b"]), None, "nobody knows which one was first");
}
