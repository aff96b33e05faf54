//! Who asks for addresses, and what for: Services as the allocator sees them.
//!
//! Nothing here knows pools. Where the values come from in a Service is the controller's business (contract 2.1, 2.3).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use kit::{Family, Labels};

/// The name of a Service: `namespace/name`. Cheap to clone.
///
/// Names are ordered by a hash of the namespace, then one of the name, and only then by their letters. There are many
/// maps by name and many Services in each, and comparing numbers spares looking at the letters of dozens of other names
/// each time. Services of one namespace still stand together.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    order: u64,
    name: Arc<str>,
}

impl Holder {
    /// The name of this Service; without a namespace, the name alone.
    pub fn new(namespace: &str, name: &str) -> Self {
        let mut text = String::with_capacity(namespace.len().saturating_add(name.len()).saturating_add(1));
        if !namespace.is_empty() {
            text.push_str(namespace);
            text.push('/');
        }
        text.push_str(name);
        Holder { order: order(namespace, name), name: text.into() }
    }

    /// What comes before the names of all Services of a namespace, or of another that happens to have the same hash.
    pub fn before(namespace: &str) -> Self {
        Holder { order: order(namespace, "") >> 32 << 32, name: Arc::default() }
    }

    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The namespace; empty without one.
    pub fn namespace(&self) -> &str {
        self.name.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// True when both are of one namespace, or of two that happen to have the same hash.
    pub fn is_beside(&self, other: &Holder) -> bool {
        self.order >> 32 == other.order >> 32
    }
}

impl From<&str> for Holder {
    fn from(text: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or(("", text));
        Holder::new(namespace, name)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.name, f)
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.name, f)
    }
}

fn order(namespace: &str, name: &str) -> u64 {
    u64::from(fnv1a(namespace)) << 32 | u64::from(fnv1a(name))
}

/// FNV-1a, as it was published: short, even, and the same everywhere.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A Service that has or wants addresses.
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub holder: Holder,
    /// Its labels.
    pub labels: LabelText,
    /// With whom it may share an address; `None` for nobody.
    pub sharing: Option<Arc<Sharing>>,
    /// What it listens on.
    pub ports: Ports,
}

impl Client {
    /// The namespace it lives in.
    pub fn namespace(&self) -> &str {
        self.holder.namespace()
    }
}

/// Labels as one piece of text.
///
/// A map takes half a kilobyte for a single label, and with a hundred thousand Services the labels alone would fill
/// the memory; they are only read when a pool has `serviceSelectors`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelText(Box<str>);

impl LabelText {
    /// The text of these labels.
    pub fn new(labels: &Labels) -> Self {
        let mut text = String::new();
        for part in labels.iter().flat_map(|(key, value)| [key, "=", value, "\n"]) {
            text.push_str(part);
        }
        LabelText(text.into())
    }

    /// The labels again. Neither a key nor a value can hold a line break, and a key no equals sign.
    pub fn labels(&self) -> Labels {
        self.0
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

/// What two Services must have in common to share an address (contract 3.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sharing {
    /// The value of `allow-shared-ip`; never empty.
    pub key: Box<str>,
    /// Where traffic goes.
    pub backend: Backend,
}

/// Where traffic that arrives at a node may go. Services that differ in it must not share an address, since a node that
/// announces it for one could not serve the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// `externalTrafficPolicy: Cluster`: any node serves.
    Cluster,
    /// `externalTrafficPolicy: Local`: the nodes that run pods of this selector, written as a sorted list `k=v,k=v`.
    Local(Box<str>),
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backend::Cluster => f.write_str("externalTrafficPolicy Cluster"),
            Backend::Local(selector) => write!(f, "externalTrafficPolicy Local with selector {selector:?}"),
        }
    }
}

/// A transport protocol of a Service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{protocol}/{}", self.number)
    }
}

/// The ports of a Service: ascending, each once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports(PortList);

/// Most Services have few ports, and a piece of memory of its own takes more than they do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PortList {
    None,
    One(Port),
    Two([Port; 2]),
    More(Box<[Port]>),
}

impl Ports {
    fn list(&self) -> &[Port] {
        match &self.0 {
            PortList::None => &[],
            PortList::One(port) => std::slice::from_ref(port),
            PortList::Two(ports) => ports,
            PortList::More(ports) => ports,
        }
    }

    /// True when the port is one of them.
    pub fn contains(&self, port: Port) -> bool {
        self.list().binary_search(&port).is_ok()
    }

    /// The ports, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Port> + '_ {
        self.list().iter().copied()
    }
}

impl Default for Ports {
    fn default() -> Self {
        Ports(PortList::None)
    }
}

impl FromIterator<Port> for Ports {
    fn from_iter<I: IntoIterator<Item = Port>>(ports: I) -> Self {
        let mut ports: Vec<Port> = ports.into_iter().collect();
        ports.sort_unstable();
        ports.dedup();
        Ports(match ports.as_slice() {
            [] => PortList::None,
            [one] => PortList::One(*one),
            [one, two] => PortList::Two([*one, *two]),
            _ => PortList::More(ports.into()),
        })
    }
}

/// One address, or two of different families, in the order in which they are written to the Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    first: IpAddr,
    second: Option<IpAddr>,
}

impl Addresses {
    /// One address.
    pub const fn one(address: IpAddr) -> Self {
        Addresses { first: address, second: None }
    }

    /// Two addresses in order; `None` if both are of one family.
    pub fn pair(first: IpAddr, second: IpAddr) -> Option<Self> {
        (Family::of(&first) != Family::of(&second)).then_some(Addresses { first, second: Some(second) })
    }

    /// One address or two of different families; `None` for anything else.
    pub fn from_list(addresses: &[IpAddr]) -> Option<Self> {
        match addresses {
            [first] => Some(Self::one(*first)),
            [first, second] => Self::pair(*first, *second),
            _ => None,
        }
    }

    /// The addresses in order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        std::iter::once(self.first).chain(self.second)
    }

    /// The first address.
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The second address, if there are two.
    pub const fn second(&self) -> Option<IpAddr> {
        self.second
    }

    /// The address of a family.
    pub fn of(&self, family: Family) -> Option<IpAddr> {
        self.iter().find(|address| Family::of(address) == family)
    }

    /// True when it is one of them.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.iter().any(|own| own == *address)
    }

    /// True when both hold the same addresses, in whatever order.
    pub fn same_set(&self, other: &Addresses) -> bool {
        self.second.is_some() == other.second.is_some() && self.iter().all(|address| other.contains(&address))
    }
}

impl fmt::Display for Addresses {
    /// As Go prints a list of quoted texts, which is what people search events for: `["10.0.0.1" "fc00::1"]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[\"{}\"", self.first)?;
        if let Some(second) = self.second {
            write!(f, " \"{second}\"")?;
        }
        f.write_str("]")
    }
}

/// The families that something has or needs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// One of each.
    Both,
}

impl Families {
    /// All of them.
    pub const ALL: [Families; 3] = [Families::V4, Families::V6, Families::Both];

    /// Each family, IPv4 first.
    pub const fn list(self) -> &'static [Family] {
        match self {
            Families::V4 => &[Family::V4],
            Families::V6 => &[Family::V6],
            Families::Both => &Family::ALL,
        }
    }
}

impl From<Family> for Families {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Families::V4,
            Family::V6 => Families::V6,
        }
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Families::V4 => "IPv4",
            Families::V6 => "IPv6",
            Families::Both => "IPv4 and IPv6",
        })
    }
}

/// Of which families the addresses of a Service have to be (contract 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// One address of this family.
    Single(Family),
    /// One address of each family, from one pool.
    Dual,
    /// One address of each family if a pool has both to give, else one of the primary family, else one of the other.
    PreferDual {
        /// The family that comes first in `ipFamilies`.
        primary: Family,
    },
}

impl Stack {
    /// True when a Service with these needs may have exactly these addresses.
    pub fn allows(self, addresses: &Addresses) -> bool {
        match self {
            Stack::Single(family) => addresses.second().is_none() && Family::of(&addresses.first()) == family,
            Stack::Dual => addresses.second().is_some(),
            Stack::PreferDual { .. } => true,
        }
    }

    /// True when someone who asks for these addresses by name may get them: a dual-stack Service has to name both.
    pub fn may_request(self, addresses: &Addresses) -> bool {
        match self {
            Stack::Single(_) => self.allows(addresses),
            Stack::Dual | Stack::PreferDual { .. } => addresses.second().is_some(),
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stack::Single(family) => family.fmt(f),
            Stack::Dual | Stack::PreferDual { .. } => f.write_str("dual-stack"),
        }
    }
}

/// What a Service asks for (contract 3.3). Requested addresses go before a requested pool, and that before any pool.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// The families.
    pub stack: Stack,
    /// Exactly these addresses.
    pub addresses: Option<&'a Addresses>,
    /// Addresses of this pool.
    pub pool: Option<&'a str>,
    /// The addresses it had until now, which cannot stay as they are. Where nothing is requested by address, a part of
    /// them that can be part of the answer stays: no address moves that need not.
    pub previous: Option<&'a Addresses>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn names_of_a_namespace_stand_together() {
        let names = ["x/a", "y/a", "x/b", "z/c", "y/b", "x/c", "alone"].map(Holder::from);
        let sorted: std::collections::BTreeSet<Holder> = names.iter().cloned().collect();
        let of_x: Vec<&Holder> =
            sorted.range(Holder::before("x")..).take_while(|name| name.is_beside(&Holder::before("x"))).collect();
        assert_eq!(of_x.len(), 3, "{sorted:?}");
        assert!(of_x.iter().all(|name| name.namespace() == "x"));
        assert_eq!((Holder::from("alone").namespace(), Holder::new("", "alone").as_str()), ("", "alone"));
        assert_eq!(Holder::new("x", "a"), Holder::from("x/a"));
    }

    #[test]
    fn labels_survive_as_text() {
        let labels: Labels =
            [("app", "web"), ("empty", ""), ("x/y", "a=b")].map(|(k, v)| (k.into(), v.into())).into_iter().collect();
        assert_eq!(LabelText::new(&labels).labels(), labels);
        assert_eq!(LabelText::default().labels(), Labels::new());
    }

    #[test]
    fn a_pair_has_both_families_and_compares_as_a_set() {
        let (v4, v6) = (address("10.0.0.1"), address("fc00::1"));
        let pair = Addresses::pair(v4, v6).unwrap();
        assert!(pair.same_set(&Addresses::pair(v6, v4).unwrap()));
        assert!(!pair.same_set(&Addresses::one(v4)));
        assert!(!Addresses::one(v4).same_set(&pair));
        assert_eq!(Addresses::pair(v4, address("10.0.0.2")), None);
        assert_eq!(Addresses::from_list(&[]), None);
        assert_eq!(Addresses::from_list(&[v4, v6, v4]), None);
        assert_eq!(pair.to_string(), r#"["10.0.0.1" "fc00::1"]"#);
    }

    #[test]
    fn ports_are_sorted_and_unique() {
        let port = |number| Port { protocol: Protocol::Tcp, number };
        for count in 0..5 {
            let numbers = [443, 80, 22, 8080, 25].map(port);
            let (list, mut expected) = (numbers.iter().take(count), numbers.iter().take(count).collect::<Vec<_>>());
            let ports: Ports = list.clone().chain(list).copied().collect();
            expected.sort();
            assert_eq!(ports.iter().collect::<Vec<_>>(), expected.into_iter().copied().collect::<Vec<_>>());
            assert_eq!((ports.contains(port(443)), ports.contains(port(53))), (count > 0, false));
        }
    }
}
