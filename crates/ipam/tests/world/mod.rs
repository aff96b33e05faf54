//! A small text language for scenarios.
//!
//! ```text
//! pool a 10.0.0.0/30 fc00::/126 [avoid-buggy] [no-auto] [pinned] [priority 5] [ns x,y] [ns-label k=v] [label k=v]
//! no-pool a
//! namespace x k=v
//! claim x/web 10.0.0.1[,fc00::1] WHO
//! get x/web v4|v6|dual|prefer-v4|prefer-v6 [ip 10.0.0.1,fc00::1] [from a] [had 10.0.0.1] WHO
//! extend x/web
//! release x/web
//! why x/web v4|... [from a] WHO
//! usage
//!   WHO: [tcp/80] [udp/53] [key k] [local app=x] [label k=v]
//! ```
//!
//! Pool lines take effect together, before the next line that is none. Each other line prints its outcome.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use ipam::{
    Addresses, Allocator, Backend, Client, Grant, LabelText, Pinning, Pool, Port, Protocol, Refusal, Sharing, Stack,
    Vacancy, Want,
};
use kit::{AddrRange, Family, Labels, Selector};

/// Runs a scenario and returns what it printed. Invariants are checked after each line.
pub(crate) fn run(scenario: &str) -> String {
    let mut world = World::default();
    for line in scenario.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
        world.allocator.check_invariants();
    }
    world.output
}

#[derive(Default)]
struct World {
    allocator: Allocator,
    pools: BTreeMap<String, Pool>,
    pending: bool,
    output: String,
}

impl World {
    fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "pool" => {
                self.pools.insert(words[1].to_owned(), pool(words[1], &words[2..]));
                self.pending = true;
                return;
            }
            "no-pool" => {
                self.pools.remove(words[1]).unwrap();
                self.pending = true;
                return;
            }
            _ => {}
        }
        if std::mem::take(&mut self.pending) {
            let replaced = self.allocator.replace(self.pools.values().cloned().collect());
            for (holder, addresses) in replaced.uncovered {
                writeln!(self.output, "{holder}: lost {addresses}").unwrap();
            }
            for holder in replaced.moved {
                writeln!(self.output, "{holder}: now in pool {}", self.allocator.holding(&holder).unwrap().pool)
                    .unwrap();
            }
        }
        match words[0] {
            "namespace" => {
                let labels: Labels = words[2..].iter().map(|word| pair(word)).collect();
                let matters = self.allocator.set_namespace(words[1], labels);
                writeln!(self.output, "namespace {}: {}", words[1], if matters { "matters" } else { "no matter" })
                    .unwrap();
            }
            "claim" => {
                let client = client(words[1], &words[3..]);
                let result = self.allocator.claim(&client, &addresses(words[2]));
                self.print(words[1], result);
            }
            "get" => self.get(words[1], &words[2..]),
            "extend" => match self.allocator.extend(&words[1].into()) {
                Some(result) => self.print(words[1], result),
                None => writeln!(self.output, "{}: nothing to extend", words[1]).unwrap(),
            },
            "release" => {
                let vacancies = self.allocator.release(&words[1].into());
                writeln!(self.output, "{}: released", words[1]).unwrap();
                self.print_vacancies(&vacancies);
            }
            "why" => {
                let client = client(words[1], &words[2..]);
                let pool = option(&words, "from");
                let want = Want { stack: stack(words[2]), addresses: None, pool, previous: None };
                writeln!(self.output, "{}:", words[1]).unwrap();
                for report in self.allocator.verdicts(&client, &want) {
                    writeln!(self.output, "  {report}").unwrap();
                }
            }
            "usage" => {
                for usage in self.allocator.usages() {
                    writeln!(
                        self.output,
                        "{}: {}/{} IPv4, {}/{} IPv6, {} Services",
                        usage.name,
                        usage.in_use_ipv4,
                        usage.usable_ipv4,
                        usage.in_use_ipv6,
                        usage.usable_ipv6,
                        usage.services
                    )
                    .unwrap();
                }
            }
            other => panic!("unknown word {other:?} in {line:?}"),
        }
    }

    fn get(&mut self, name: &str, words: &[&str]) {
        let client = client(name, words);
        let requested = option(words, "ip").map(addresses);
        let previous = option(words, "had").map(addresses);
        let want = Want {
            stack: stack(words[0]),
            addresses: requested.as_ref(),
            pool: option(words, "from"),
            previous: previous.as_ref(),
        };
        let result = self.allocator.allocate(&client, &want);
        self.print(name, result);
    }

    fn print(&mut self, name: &str, result: Result<Grant, Refusal>) {
        match result {
            Ok(grant) => {
                writeln!(self.output, "{name}: {} from {}", grant.addresses, grant.pool).unwrap();
                self.print_vacancies(&grant.vacancies);
            }
            Err(refusal) => writeln!(self.output, "{name}: refused: {refusal}").unwrap(),
        }
    }

    fn print_vacancies(&mut self, vacancies: &[Vacancy]) {
        for vacancy in vacancies {
            match vacancy {
                Vacancy::Address { pool, address } => writeln!(self.output, "  free: {address} of {pool}"),
                Vacancy::Seats { address, sharing } => {
                    writeln!(self.output, "  seats: {address} under {:?}", sharing.key)
                }
            }
            .unwrap();
        }
    }
}

/// The word behind another.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1])
}

fn pair(word: &str) -> (String, String) {
    let (key, value) = word.split_once('=').unwrap();
    (key.to_owned(), value.to_owned())
}

fn addresses(list: &str) -> Addresses {
    let list: Vec<IpAddr> = list.split(',').map(|one| one.parse().unwrap()).collect();
    Addresses::from_list(&list).unwrap()
}

fn stack(word: &str) -> Stack {
    match word {
        "v4" => Stack::Single(Family::V4),
        "v6" => Stack::Single(Family::V6),
        "dual" => Stack::Dual,
        "prefer-v4" => Stack::PreferDual { primary: Family::V4 },
        "prefer-v6" => Stack::PreferDual { primary: Family::V6 },
        other => panic!("unknown stack {other:?}"),
    }
}

fn pool(name: &str, words: &[&str]) -> Pool {
    let selector = |word| {
        let (key, value) = pair(word);
        kit::SelectorList(vec![Selector::label(key, value)])
    };
    let namespaces = option(words, "ns");
    let (namespace_label, label, priority) =
        (option(words, "ns-label"), option(words, "label"), option(words, "priority"));
    let is_pinned = [namespaces, namespace_label, label, priority].iter().any(Option::is_some);
    let pinning = (is_pinned || words.contains(&"pinned")).then(|| Pinning {
        priority: priority.map(|number| number.parse().unwrap()),
        namespaces: namespaces.into_iter().flat_map(|list| list.split(',')).map(str::to_owned).collect(),
        namespace_selectors: namespace_label.map(selector).unwrap_or_default(),
        service_selectors: label.map(selector).unwrap_or_default(),
    });
    Pool {
        name: name.into(),
        ranges: words.iter().filter_map(|word| AddrRange::parse(word).ok()).collect(),
        auto_assign: !words.contains(&"no-auto"),
        avoid_buggy_ips: words.contains(&"avoid-buggy"),
        pinning,
    }
}

fn client(name: &str, words: &[&str]) -> Arc<Client> {
    let backend = match option(words, "local") {
        Some(selector) => Backend::Local(selector.into()),
        None => Backend::Cluster,
    };
    let port = |word: &&str| {
        let (protocol, number) = word.split_once('/')?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        Some(Port { protocol, number: number.parse().ok()? })
    };
    Arc::new(Client {
        holder: name.into(),
        labels: LabelText::new(&option(words, "label").map(pair).into_iter().collect()),
        sharing: option(words, "key").map(|key| Arc::new(Sharing { key: key.into(), backend })),
        ports: words.iter().filter_map(port).collect(),
    })
}
