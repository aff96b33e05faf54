//! A cluster in a few lines: it keeps Services as the API server does, applies what the controller writes, and lets it
//! come back through the watch. Scenarios are text, one step a line:
//!
//! ```text
//! pool a 10.0.0.0/30 fc00::/126 [avoid-buggy] [no-auto] [priority 5] [ns x,y] [ns-label k=v] [label k=v]
//! no-pool a                         the pool is gone from the configuration
//! config                            the pools as they are now are in force
//! bad-config                        the newest configuration is invalid
//! sync                              every object was told
//! namespace x k=v                   a namespace; `no-namespace x` removes it
//! svc x/a [v4|v6|dual|prefer-v4|prefer-v6] [tcp/80] [key k] [local app=x] [ip 10.0.0.1] [from a] [label k=v] ...
//!                                   a Service is created or changed; its status stays. See `Cluster::change`
//! delete x/a
//! foreign x/a 192.0.2.1 [of p] [by m]   something else writes the status
//! pool-status a 1 2 3 4             something else writes the status of a pool
//! hold / release                    the watch brings no Services until released; with `hold-pools` no statuses of pools
//! deaf / hear                       statuses that are written get lost until heard again
//! relist                            what was held is forgotten; the watch brings every Service as it is now
//! +5s                               time passes
//! restart                           a new controller, told everything that the cluster has
//! resign                            another controller decides from now on; `sync` ends that
//! why x/a                           prints the decision
//! ```
//!
//! What the controller writes is printed. After each step the invariants are checked.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use api::core::{Ingress, Namespace, Service, ServicePort};
use api::{Key, PoolCounters, Write};
use config::Config;
use controller::{Controller, Input, OUTPUTS_PER_STEP, Settings};
use kit::{AddrRange, Duration, Instant, Outbox, Selector, SelectorList};

/// Runs a scenario and returns what it printed.
pub(crate) fn run(scenario: &str) -> String {
    run_with(
        Settings { namespace: "metallb-system".into(), load_balancer_class: None, pool_status_pace: Duration::ZERO },
        scenario,
    )
}

/// Runs a scenario for a controller with these settings.
pub(crate) fn run_with(settings: Settings, scenario: &str) -> String {
    let mut cluster = Cluster::new(settings);
    for line in scenario.lines().map(str::trim).filter(|line| !line.is_empty()) {
        cluster.step(line);
    }
    cluster.output
}

/// What the API server and the controller know.
pub(crate) struct Cluster {
    settings: Settings,
    pub(crate) controller: Controller,
    now: Instant,
    out: Outbox<Write>,
    pools: BTreeMap<String, config::Pool>,
    pub(crate) services: BTreeMap<Key, Service>,
    namespaces: BTreeMap<String, Namespace>,
    pool_statuses: BTreeMap<String, PoolCounters>,
    /// What the watch has still to bring.
    watch: VecDeque<Input>,
    /// It brings no Services.
    is_held: bool,
    /// It brings no statuses of pools.
    holds_pools: bool,
    /// Statuses that are written get lost.
    is_deaf: bool,
    last_uid: u32,
    pub(crate) output: String,
}

impl Cluster {
    pub(crate) fn new(settings: Settings) -> Self {
        Cluster {
            controller: Controller::new(settings.clone()),
            settings,
            now: Instant::ZERO,
            // Barely room for one step, so that work has to go on in the next tick.
            out: Outbox::with_limit(OUTPUTS_PER_STEP),
            pools: BTreeMap::new(),
            services: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            pool_statuses: BTreeMap::new(),
            watch: VecDeque::new(),
            is_held: false,
            holds_pools: false,
            is_deaf: false,
            last_uid: 0,
            output: String::new(),
        }
    }

    /// Does what a line of a scenario says.
    pub(crate) fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "pool" => {
                self.pools.insert(words[1].to_owned(), pool(words[1], &words[2..]));
                let status = self.pool_statuses.get(words[1]).copied();
                self.tell(Input::PoolStatus { pool: words[1].to_owned(), status });
            }
            "no-pool" => {
                self.pools.remove(words[1]).unwrap();
                self.pool_statuses.remove(words[1]);
                self.tell(Input::PoolDeleted(words[1].to_owned()));
            }
            "config" => self.tell(Input::Config(self.config())),
            "bad-config" => self.tell(Input::ConfigInvalid),
            "sync" => self.tell(Input::Synced),
            "resign" => self.tell(Input::Resigned),
            "namespace" => {
                let mut namespace = Namespace::default();
                namespace.metadata.name = words[1].to_owned();
                namespace.metadata.labels = words[2..].iter().map(|word| pair(word)).collect();
                self.namespaces.insert(words[1].to_owned(), namespace.clone());
                self.tell(Input::Namespace(Box::new(namespace)));
            }
            "no-namespace" => {
                self.namespaces.remove(words[1]).unwrap();
                self.tell(Input::NamespaceDeleted(words[1].to_owned()));
            }
            "svc" => self.change(words[1], &words[2..]),
            "delete" => {
                self.services.remove(&key(words[1])).unwrap();
                self.tell(Input::ServiceDeleted(key(words[1])));
            }
            "foreign" => {
                let service = self.services.get_mut(&key(words[1])).unwrap();
                let entry = |text: &str| Ingress { ip: Some(text.to_owned()), ..Ingress::default() };
                service.status.load_balancer.ingress = words[2].split(',').filter(|w| *w != "-").map(entry).collect();
                match option(&words, "of") {
                    Some(pool) => service.metadata.annotations.insert(api::ALLOCATED_FROM_POOL.into(), pool.into()),
                    None => service.metadata.annotations.remove(api::ALLOCATED_FROM_POOL),
                };
                service.metadata.ingress_writer = option(&words, "by").unwrap_or_default().to_owned();
                let service = service.clone();
                self.tell(Input::Service(Box::new(service)));
            }
            "pool-status" => {
                let number = |at: usize| words[at].parse().unwrap();
                let status = PoolCounters {
                    assigned_ipv4: number(2),
                    assigned_ipv6: number(3),
                    available_ipv4: number(4),
                    available_ipv6: number(5),
                };
                self.pool_statuses.insert(words[1].to_owned(), status);
                self.tell(Input::PoolStatus { pool: words[1].to_owned(), status: Some(status) });
            }
            "deaf" => self.is_deaf = true,
            "hear" => self.is_deaf = false,
            "hold" => self.is_held = true,
            "hold-pools" => self.holds_pools = true,
            "release" => {
                (self.is_held, self.holds_pools) = (false, false);
                self.tell(Input::Tick);
            }
            "relist" => {
                self.is_held = false;
                self.watch.clear();
                for service in self.services.values().cloned().collect::<Vec<_>>() {
                    self.tell(Input::Service(Box::new(service)));
                }
            }
            "restart" => self.restart(),
            "why" => {
                let decision = self.controller.explain(&key(words[1]));
                let text = decision.map_or_else(|| "not served".to_owned(), |decision| decision.to_string());
                writeln!(self.output, "{text}").unwrap();
            }
            time if time.starts_with('+') => self.pass(time[1..time.len() - 1].parse().unwrap()),
            other => panic!("unknown word {other:?} in {line:?}"),
        }
        self.controller.check_invariants();
    }

    /// Creates a Service or changes what it asks for. Besides the words of the module's example: `cluster-ips A,B`,
    /// `policy P`, `type T`, `class C`, `spec-ip A`, `annotation K=V`, `new` (another uid), `ip-mode` (the API server
    /// fills in a mode), `hostname N` (an entry of somebody else's).
    fn change(&mut self, name: &str, words: &[&str]) {
        let service = self.services.entry(key(name)).or_default();
        let is_new = service.metadata.uid.is_empty() || words.contains(&"new");
        if is_new {
            self.last_uid += 1;
            *service = Service::default();
            service.metadata.uid = format!("uid-{}", self.last_uid);
        }
        let key = key(name);
        (service.metadata.namespace, service.metadata.name) = (key.namespace.clone(), key.name.clone());
        service.metadata.labels = option(words, "label").map(pair).into_iter().collect();
        service.metadata.annotations.retain(|key, _| key == api::ALLOCATED_FROM_POOL);
        let annotations = [("ip", "loadBalancerIPs"), ("from", "address-pool"), ("key", "allow-shared-ip")];
        for (word, annotation) in annotations {
            let value = option(words, word).map(|value| value.replace('+', " "));
            service.metadata.annotations.extend(value.map(|value| (format!("metallb.io/{annotation}"), value)));
        }
        service.metadata.annotations.extend(option(words, "annotation").map(pair));
        let stack: (&[&str], _, &[&str]) = match words.first().copied() {
            Some("v6") => (&["fd00::1"], "SingleStack", &["IPv6"]),
            Some("dual") => (&["10.96.0.1", "fd00::1"], "RequireDualStack", &["IPv4", "IPv6"]),
            Some("prefer-v4") => (&["10.96.0.1", "fd00::1"], "PreferDualStack", &["IPv4", "IPv6"]),
            Some("prefer-v6") => (&["fd00::1", "10.96.0.1"], "PreferDualStack", &["IPv6", "IPv4"]),
            _ => (&["10.96.0.1"], "SingleStack", &["IPv4"]),
        };
        let (cluster_ips, policy, families) = stack;
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let spec = &mut service.spec;
        spec.cluster_ips = match option(words, "cluster-ips") {
            Some("-") => Vec::new(),
            Some(list) => list.split(',').map(str::to_owned).collect(),
            None => owned(cluster_ips),
        };
        spec.ip_family_policy = Some(option(words, "policy").unwrap_or(policy).to_owned());
        spec.ip_families = owned(families);
        spec.type_ = Some(option(words, "type").unwrap_or("LoadBalancer").to_owned());
        spec.load_balancer_class = option(words, "class").map(str::to_owned);
        spec.load_balancer_ip = option(words, "spec-ip").map(str::to_owned);
        spec.external_traffic_policy = option(words, "local").map(|_| "Local".to_owned());
        spec.selector = option(words, "local").map(pair).into_iter().collect();
        spec.ports = words.iter().filter_map(|word| port(word)).collect();
        for entry in &mut service.status.load_balancer.ingress {
            entry.ip_mode = words.contains(&"ip-mode").then(|| "VIP".to_owned());
        }
        let hostname = option(words, "hostname").map(str::to_owned);
        let named = hostname.map(|hostname| Ingress { hostname: Some(hostname), ..Ingress::default() });
        service.status.load_balancer.ingress.extend(named);
        let service = service.clone();
        self.tell(Input::Service(Box::new(service)));
    }

    fn config(&self) -> Arc<Config> {
        let pools = self.pools.iter().map(|(name, pool)| (name.clone(), Arc::new(pool.clone()))).collect();
        Arc::new(Config { pools, ..Config::default() })
    }

    /// Starts a new controller with what the cluster has.
    pub(crate) fn restart(&mut self) {
        self.controller = Controller::new(self.settings.clone());
        for namespace in self.namespaces.values().cloned().collect::<Vec<_>>() {
            self.tell(Input::Namespace(Box::new(namespace)));
        }
        for service in self.services.values().cloned().collect::<Vec<_>>() {
            self.tell(Input::Service(Box::new(service)));
        }
        for (pool, status) in self.pool_statuses.clone() {
            self.tell(Input::PoolStatus { pool, status: Some(status) });
        }
        self.tell(Input::Config(self.config()));
        self.tell(Input::Synced);
    }

    /// Lets so many seconds pass, tick by tick.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(deadline) = self.controller.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.tell(Input::Tick);
        }
        self.now = end;
        self.tell(Input::Tick);
    }

    /// Tells the controller something, and all that follows from what it writes then.
    fn tell(&mut self, input: Input) {
        self.watch.push_back(input);
        for round in 0.. {
            assert!(round < 100_000, "the controller never comes to rest");
            let is_due = self.controller.next_deadline().is_some_and(|deadline| deadline <= self.now);
            let is_held = |input: &Input| match input {
                Input::Service(_) | Input::ServiceDeleted(_) => self.is_held,
                Input::PoolStatus { .. } => self.holds_pools,
                _ => false,
            };
            let next = if is_due {
                Input::Tick
            } else {
                let Some(first) = self.watch.iter().position(|input| !is_held(input)) else { break };
                self.watch.remove(first).unwrap()
            };
            self.controller.handle(self.now, next, &mut self.out);
            for write in std::iter::from_fn(|| self.out.pop()).collect::<Vec<_>>() {
                let echo = self.apply(write);
                self.watch.extend(echo);
            }
        }
        assert_eq!(self.out.dropped(), 0, "the outbox overflowed");
    }

    /// Does what the controller wants written, and returns what the watch will bring for it.
    fn apply(&mut self, write: Write) -> Option<Input> {
        match write {
            Write::ServiceStatus { service: key, uid, ingress, pool } => {
                let shown: Vec<String> = ingress.iter().map(show).collect();
                let from = pool.as_ref().map(|pool| format!(" from {pool}")).unwrap_or_default();
                writeln!(self.output, "{key} := [{}]{from}", shown.join(" ")).unwrap();
                let service =
                    self.services.get_mut(&key).filter(|service| service.metadata.uid == uid && !self.is_deaf)?;
                service.status.load_balancer.ingress = ingress;
                match pool {
                    Some(pool) => service.metadata.annotations.insert(api::ALLOCATED_FROM_POOL.into(), pool),
                    None => service.metadata.annotations.remove(api::ALLOCATED_FROM_POOL),
                };
                Some(Input::Service(Box::new(service.clone())))
            }
            Write::PoolStatus { pool, status } => {
                assert_eq!(pool.namespace, self.settings.namespace);
                writeln!(
                    self.output,
                    "pool {} := {}+{} used, {}+{} free",
                    pool.name, status.assigned_ipv4, status.assigned_ipv6, status.available_ipv4, status.available_ipv6
                )
                .unwrap();
                if self.is_deaf || !self.pools.contains_key(&pool.name) {
                    return None;
                }
                self.pool_statuses.insert(pool.name.clone(), status);
                Some(Input::PoolStatus { pool: pool.name, status: Some(status) })
            }
            Write::AssignedNode { .. }
            | Write::ServiceCondition { .. }
            | Write::Report { .. }
            | Write::ReportGone { .. } => {
                unreachable!("the controller's own core has no reports; those are of the program's")
            }
            Write::Event(event) => {
                let known =
                    self.services.get(&event.object.key).is_some_and(|service| service.metadata.uid == event.uid);
                assert!(known, "an event about nobody: {event:?}");
                let type_ = event.type_.as_str();
                writeln!(self.output, "{} {type_} {}: {}", event.object.key, event.reason, event.message).unwrap();
                None
            }
        }
    }

    /// The addresses that each Service shows.
    pub(crate) fn addresses(&self) -> BTreeMap<Key, Vec<String>> {
        let shown = |service: &Service| {
            service.status.load_balancer.ingress.iter().filter_map(|entry| entry.ip.clone()).collect()
        };
        self.services.iter().map(|(key, service)| (key.clone(), shown(service))).collect()
    }
}

fn show(entry: &Ingress) -> String {
    let mut text = entry.ip.clone().or_else(|| entry.hostname.clone()).unwrap_or_default();
    if let Some(mode) = &entry.ip_mode {
        write!(text, "({mode})").unwrap();
    }
    text
}

fn key(name: &str) -> Key {
    let (namespace, name) = name.split_once('/').unwrap();
    Key::new(namespace, name)
}

/// The word behind another.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1])
}

fn pair(word: &str) -> (String, String) {
    let (key, value) = word.split_once('=').unwrap();
    (key.to_owned(), value.to_owned())
}

fn port(word: &str) -> Option<ServicePort> {
    let (protocol, number) = word.split_once('/')?;
    let protocol = match protocol {
        "tcp" => "TCP",
        "udp" => "UDP",
        _ => return None,
    };
    Some(ServicePort { protocol: Some(protocol.to_owned()), port: number.parse().ok()? })
}

fn pool(name: &str, words: &[&str]) -> config::Pool {
    let selector = |word| {
        let (key, value) = pair(word);
        SelectorList(vec![Selector::label(key, value)])
    };
    let namespaces = option(words, "ns");
    let (namespace_label, label, priority) =
        (option(words, "ns-label"), option(words, "label"), option(words, "priority"));
    let is_pinned = [namespaces, namespace_label, label, priority].iter().any(Option::is_some);
    config::Pool {
        name: name.to_owned(),
        ranges: words.iter().filter_map(|word| AddrRange::parse(word).ok()).collect(),
        auto_assign: !words.contains(&"no-auto"),
        avoid_buggy_ips: words.contains(&"avoid-buggy"),
        allocation: is_pinned.then(|| config::ServiceAllocation {
            priority: priority.map(|number| number.parse().unwrap()),
            namespaces: namespaces.into_iter().flat_map(|list| list.split(',')).map(str::to_owned).collect(),
            namespace_selectors: namespace_label.map(selector).unwrap_or_default(),
            service_selectors: label.map(selector).unwrap_or_default(),
        }),
        l2_advertisements: BTreeMap::new(),
        bgp_advertisements: BTreeMap::new(),
    }
}
