//! The validated configuration: what the rest of the program believes without looking again.
//!
//! Selectors stay selectors: which nodes, namespaces and Services they mean is decided where those are known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16};
use std::sync::Arc;

use ipnet::IpNet;
use kit::{
    AddrRange, Asn, Community, Duration, ExtendedCommunity, Family, HoldTime, RemoteAs, RouterId, Selector,
    SelectorList, TcpAuthentication,
};

/// Everything that is configured, without contradictions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Pools by name.
    pub pools: BTreeMap<String, Arc<Pool>>,
    /// BGP peers by name of their BGPPeer.
    pub peers: BTreeMap<String, Arc<Peer>>,
    /// BFD profiles by name.
    pub bfd_profiles: BTreeMap<String, BfdProfile>,
}

impl Config {
    /// The pool that holds the address. Pools never overlap, so there is at most one.
    pub fn pool_of(&self, address: &IpAddr) -> Option<&Arc<Pool>> {
        self.pools.values().find(|pool| pool.contains(address))
    }
}

/// A pool of addresses with the advertisements that apply to it (contract 1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Name of the IPAddressPool.
    pub name: String,
    /// `addresses`, in order; no two overlap.
    pub ranges: Vec<AddrRange>,
    /// May be used without being named.
    pub auto_assign: bool,
    /// Leave out IPv4 addresses that end in 0 or 255.
    pub avoid_buggy_ips: bool,
    /// Present for a pinned pool.
    pub allocation: Option<ServiceAllocation>,
    /// The L2Advertisements that select this pool, by name.
    pub l2_advertisements: BTreeMap<String, Arc<L2Advertisement>>,
    /// The BGPAdvertisements that select this pool, by name.
    pub bgp_advertisements: BTreeMap<String, Arc<BgpAdvertisement>>,
}

impl Pool {
    /// True when the address is one of the pool's, usable or not.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// True when the pool has addresses of this family.
    pub fn has_family(&self, family: Family) -> bool {
        self.ranges.iter().any(|range| range.family() == family)
    }
}

/// Which Services may use a pinned pool, and how early it is tried (contract 3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAllocation {
    /// The lower, the earlier; `None` (0 or unset) is last.
    pub priority: Option<u32>,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label.
    pub namespace_selectors: SelectorList,
    /// Services by label; holds together with the namespace condition.
    pub service_selectors: SelectorList,
}

/// How the addresses of a pool are announced on the local segment (contract 1.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L2Advertisement {
    /// Name of the object.
    pub name: String,
    /// Interfaces by exact name; empty for all.
    pub interfaces: BTreeSet<String>,
    /// Nodes that may announce.
    pub node_selectors: SelectorList,
    /// Services it applies to.
    pub service_selectors: SelectorList,
    /// Nodes that are preferred.
    pub preferences: Vec<Preference>,
    /// How the owner is found among those that are preferred equally.
    pub owner_selection: OwnerSelection,
}

/// How the node that announces an address on the local segment is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerSelection {
    /// By the hash of contract 5.1.
    #[default]
    Hash,
    /// The controller sees to it that all have about as many.
    Balanced,
}

/// A soft preference for nodes (contract 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// 1 to 100.
    pub weight: NonZeroU8,
    /// The nodes it is for.
    pub selector: Selector,
}

/// How the addresses of a pool are announced over BGP (contract 1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpAdvertisement {
    /// Name of the object.
    pub name: String,
    /// Length of the announced IPv4 prefixes: 1 to 32.
    pub aggregation_length: u8,
    /// Length of the announced IPv6 prefixes: 1 to 128.
    pub aggregation_length_v6: u8,
    /// LOCAL_PREF towards iBGP peers; `None` when unset (0).
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC; `None` for none.
    pub med: Option<u32>,
    /// How many more times our AS is in the path towards eBGP peers.
    pub as_path_prepend: u8,
    /// Communities, aliases resolved.
    pub communities: BTreeSet<Community>,
    /// Extended communities.
    pub extended_communities: BTreeSet<ExtendedCommunity>,
    /// Nodes that announce.
    pub node_selectors: SelectorList,
    /// BGPPeers by name; empty for all.
    pub peers: BTreeSet<String>,
    /// Services it applies to.
    pub service_selectors: SelectorList,
}

impl BgpAdvertisement {
    /// Length of the announced prefixes of a family.
    pub fn aggregation_length_of(&self, family: Family) -> u8 {
        match family {
            Family::V4 => self.aggregation_length,
            Family::V6 => self.aggregation_length_v6,
        }
    }

    /// True when the two want different local preferences for the same route to the same peer (contract 4.2 rules 33
    /// and 35). Which nodes and Services they select is not looked at.
    ///
    /// Lengths are compared for the families that the pool has; a pool of both families clashes unless both differ.
    pub fn clashes_with(&self, other: &BgpAdvertisement, pool: &Pool) -> bool {
        self.local_pref != other.local_pref && self.shares_a_route_with(other, pool)
    }

    /// True when the two can be for the same route to the same peer.
    pub fn shares_a_route_with(&self, other: &BgpAdvertisement, pool: &Pool) -> bool {
        let shares_a_peer = self.peers.is_empty() || other.peers.is_empty() || !self.peers.is_disjoint(&other.peers);
        let shares_a_prefix = Family::ALL.into_iter().any(|family| {
            pool.has_family(family) && self.aggregation_length_of(family) == other.aggregation_length_of(family)
        });
        shares_a_peer && shares_a_prefix
    }
}

/// A router to talk to (contract 1.2, 6.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name of the BGPPeer.
    pub name: String,
    /// Our AS.
    pub my_asn: Asn,
    /// The AS we show to this peer instead.
    pub local_asn: Option<Asn>,
    /// Its AS.
    pub remote_as: RemoteAs,
    /// Where it is.
    pub endpoint: PeerEndpoint,
    /// TCP port, 179 unless said otherwise.
    pub port: u16,
    /// Who opens the connection.
    pub connection_mode: ConnectionMode,
    /// Our address of the session.
    pub source_address: Option<IpAddr>,
    /// Hold time to offer.
    pub hold_time: Option<HoldTime>,
    /// Time between KEEPALIVEs, at most the hold time.
    pub keepalive_time: Option<Duration>,
    /// Time between attempts to connect; whole seconds.
    pub connect_time: Option<Duration>,
    /// BGP identifier to use.
    pub router_id: Option<RouterId>,
    /// Nodes that run the session.
    pub node_selectors: SelectorList,
    /// The TCP MD5 password, from the field or from its Secret, or the keys of TCP-AO from theirs.
    pub authentication: Option<TcpAuthentication>,
    /// How the path to it is watched by BFD; not at all if absent.
    pub bfd: Option<PeerBfd>,
    /// Keep routes across a restart of ours.
    pub graceful_restart: Option<GracefulRestart>,
    /// The peer is more than one hop away.
    pub ebgp_multi_hop: bool,
    /// How far away the peer is at most; nothing is checked if absent.
    pub ttl_security_hops: Option<NonZeroU8>,
    /// Linux VRF to connect from.
    pub vrf: Option<String>,
    /// Exchange both families over this session.
    pub dual_stack_address_family: bool,
}

impl Peer {
    /// Our AS in the session and in the paths that it carries (contract 6.4).
    pub fn local_as(&self) -> Asn {
        self.local_asn.unwrap_or(self.my_asn)
    }

    /// True when routes of the family go over a session with the peer (contract 6.2, row "Family").
    pub fn carries(&self, family: Family) -> bool {
        let own = match &self.endpoint {
            PeerEndpoint::Address(address) => Family::of(address),
            PeerEndpoint::Gateway(family) => *family,
            PeerEndpoint::Range { network, .. } => Family::of(&network.addr()),
            PeerEndpoint::Interface(_) => return true,
        };
        self.dual_stack_address_family || own == family
    }
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerEndpoint {
    /// At this address.
    Address(IpAddr),
    /// At the other end of this interface of the node (unnumbered).
    Interface(String),
    /// Where the node's default route of this family leads.
    Gateway(Family),
    /// Anywhere in this network: each that connects is one.
    Range {
        /// The network.
        network: IpNet,
        /// How many there may be at the same time.
        limit: NonZeroU16,
    },
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionMode {
    /// We do, and never listen.
    Active,
    /// The peer does.
    Passive,
    /// Either.
    Both,
}

impl ConnectionMode {
    /// True when the peer may open the connection.
    pub fn listens(self) -> bool {
        self != ConnectionMode::Active
    }
}

/// How long, and when, a router is to keep our routes without a session (RFC 4724, RFC 8538).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// How long: whole seconds, 1 to 4095.
    pub time: Duration,
    /// Also when the session ends by a NOTIFICATION or by silence.
    pub notification: bool,
}

impl std::fmt::Display for PeerEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PeerEndpoint::Address(address) => address.fmt(f),
            PeerEndpoint::Interface(name) => name.fmt(f),
            PeerEndpoint::Gateway(family) => write!(f, "{family} gateway"),
            PeerEndpoint::Range { network, .. } => network.fmt(f),
        }
    }
}

/// The BFD profile of a peer: what its `bfdProfile` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerBfd {
    /// The name.
    pub name: String,
    /// What it says.
    pub profile: BfdProfile,
}

/// Timing of BFD sessions (contract 1.7); what is absent takes FRR's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BfdProfile {
    /// Required interval between packets received.
    pub receive_interval: Option<Duration>,
    /// Desired interval between packets sent.
    pub transmit_interval: Option<Duration>,
    /// Packets that may be missed.
    pub detect_multiplier: Option<NonZeroU8>,
    /// Interval of the echo function, in both directions.
    pub echo_interval: Option<Duration>,
    /// Use the echo function.
    pub echo_mode: bool,
    /// Wait for the other side to begin.
    pub passive_mode: bool,
    /// Lowest TTL accepted on multi-hop sessions.
    pub minimum_ttl: Option<NonZeroU8>,
}
