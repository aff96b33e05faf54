//! What a change of the configuration does to BGP sessions, known before it is made.
//!
//! Nothing is done here; the speaker goes by it, and says so in its log. What a node's own labels do to a peer is known
//! to the speaker alone.

use std::collections::BTreeSet;
use std::fmt;

use api::Kind;
use kit::{Asn, Family, RemoteAs, TcpAuthentication};

use crate::{Config, Peer, PeerEndpoint};

/// What a change costs, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Nothing is sent.
    Nothing,
    /// Routes are announced anew or withdrawn, those that it is about and no others.
    Attributes,
    /// The session goes on, differently: at once, or from its next begin on.
    Soft,
    /// The session ends, and begins again. A peer that does graceful restart keeps the routes meanwhile.
    Reset,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Nothing => "nothing",
            Effect::Attributes => "attributes",
            Effect::Soft => "soft",
            Effect::Reset => "reset",
        })
    }
}

/// What the change of one field does to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldChange {
    /// Nothing of the session depends on it.
    None,
    /// It holds at once.
    AtOnce,
    /// It is agreed on when a session begins, so it holds from the next one on. FRR has it like that for timers: a change
    /// of comfort is not worth an interruption.
    NextSession,
    /// It cannot hold in this session, and what was asked for is more than comfort.
    Reset,
}

/// What a change of a BGPPeer does to its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerChange {
    /// Fields of the spec, with what each does.
    pub fields: BTreeSet<(&'static str, FieldChange)>,
}

impl PeerChange {
    /// What it costs.
    pub fn effect(&self) -> Effect {
        match self.fields.iter().map(|(_, change)| change).max() {
            None | Some(FieldChange::None) => Effect::Nothing,
            Some(FieldChange::AtOnce | FieldChange::NextSession) => Effect::Soft,
            Some(FieldChange::Reset) => Effect::Reset,
        }
    }

    /// The fields, separated by blanks.
    pub fn field_names(&self) -> String {
        self.fields.iter().map(|(field, _)| *field).collect::<Vec<_>>().join(" ")
    }

    /// The fields that hold from the next session on, separated by blanks.
    pub fn field_names_of_next_session(&self) -> String {
        let next = self.fields.iter().filter(|(_, change)| *change == FieldChange::NextSession);
        next.map(|(field, _)| *field).collect::<Vec<_>>().join(" ")
    }
}

impl Peer {
    /// What becomes of a session with this peer when it is to be like `new`.
    pub fn change_to(&self, new: &Peer) -> PeerChange {
        // Named one by one, so that the compiler asks for the effect of every new field.
        let Peer {
            name,
            my_asn,
            local_asn,
            remote_as,
            endpoint,
            port,
            connection_mode,
            source_address,
            hold_time,
            keepalive_time,
            connect_time,
            router_id,
            node_selectors,
            authentication,
            bfd,
            graceful_restart,
            ebgp_multi_hop,
            ttl_security_hops,
            vrf,
            dual_stack_address_family,
        } = self;
        let local_as = if self.local_as() == new.local_as() { FieldChange::None } else { FieldChange::Reset };
        let families = if Family::ALL.into_iter().all(|family| self.carries(family) || !new.carries(family)) {
            FieldChange::AtOnce
        } else {
            FieldChange::Reset
        };
        // Only BFD asks how far away the peer is.
        let hops = if new.bfd.is_some() { FieldChange::AtOnce } else { FieldChange::None };
        let remote =
            if is_wider(*remote_as, new.remote_as, self.local_as()) { FieldChange::AtOnce } else { FieldChange::Reset };
        // What keys there are, and with which one it begins, a connection is told before its first packet.
        let has_keys = [authentication, &new.authentication]
            .into_iter()
            .any(|authentication| matches!(authentication, Some(TcpAuthentication::Keys(_))));
        let authenticated_by = if has_keys { "tcpAuthenticationKeys" } else { "password" };
        let same_place = match (endpoint, &new.endpoint) {
            // Routers that are there already stay.
            (PeerEndpoint::Range { network, .. }, PeerEndpoint::Range { network: other, .. }) => network == other,
            (endpoint, other) => endpoint == other,
        };
        let fields = [
            ("name", *name != new.name, FieldChange::None),
            ("myASN", *my_asn != new.my_asn, local_as),
            ("localASN", *local_asn != new.local_asn, local_as),
            ("peerASN", *remote_as != new.remote_as, remote),
            ("peerAddress", !same_place, FieldChange::Reset),
            ("peerRangeLimit", same_place && *endpoint != new.endpoint, FieldChange::AtOnce),
            ("peerPort", *port != new.port, FieldChange::Reset),
            ("connectionMode", *connection_mode != new.connection_mode, FieldChange::Reset),
            ("sourceAddress", *source_address != new.source_address, FieldChange::Reset),
            ("holdTime", *hold_time != new.hold_time, FieldChange::NextSession),
            ("keepaliveTime", *keepalive_time != new.keepalive_time, FieldChange::AtOnce),
            ("connectTime", *connect_time != new.connect_time, FieldChange::AtOnce),
            ("routerID", *router_id != new.router_id, FieldChange::Reset),
            ("nodeSelectors", *node_selectors != new.node_selectors, FieldChange::None),
            (authenticated_by, *authentication != new.authentication, FieldChange::Reset),
            ("bfdProfile", *bfd != new.bfd, FieldChange::AtOnce),
            ("enableGracefulRestart", *graceful_restart != new.graceful_restart, FieldChange::NextSession),
            ("ebgpMultiHop", *ebgp_multi_hop != new.ebgp_multi_hop, hops),
            ("ttlSecurityHops", *ttl_security_hops != new.ttl_security_hops, FieldChange::Reset),
            ("vrf", *vrf != new.vrf, FieldChange::Reset),
            ("dualStackAddressFamily", *dual_stack_address_family != new.dual_stack_address_family, families),
        ];
        let changed = fields.into_iter().filter(|(_, differs, _)| *differs);
        PeerChange { fields: changed.map(|(field, _, change)| (field, change)).collect() }
    }
}

/// True when every AS that was admitted still is.
fn is_wider(old: RemoteAs, new: RemoteAs, local: Asn) -> bool {
    match old {
        RemoteAs::Exactly(remote) => new.admits(local, remote),
        RemoteAs::Internal => new.admits(local, local),
        // Nearly every number is another one.
        RemoteAs::External => new == RemoteAs::External,
    }
}

/// An object that changes, and what that costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What it costs: for sessions that exist.
    pub effect: Effect,
    /// The fields of a BGPPeer that change, separated by blanks; `added` or `removed` for an object as a whole, and
    /// empty where nothing more is to say.
    pub what: String,
}

/// All that changes in the configuration, peers first. A peer that comes or goes begins or ends its own session, and
/// touches no other.
pub fn changes(old: &Config, new: &Config) -> Vec<ObjectChange> {
    let mut changes = Vec::new();
    for name in union(old.peers.keys(), new.peers.keys()) {
        let (effect, what) = match (old.peers.get(name), new.peers.get(name)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(old), Some(new)) => {
                let change = old.change_to(new);
                (change.effect(), change.field_names())
            }
            (None, _) => (Effect::Nothing, "added".to_owned()),
            (_, None) => (Effect::Reset, "removed".to_owned()),
        };
        changes.push(ObjectChange { kind: Kind::BGPPeer, name: name.clone(), effect, what });
    }
    for name in union(old.pools.keys(), new.pools.keys()) {
        let what = match (old.pools.get(name), new.pools.get(name)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(_), Some(_)) => "",
            (None, _) => "added",
            (_, None) => "removed",
        };
        let (name, what) = (name.clone(), what.to_owned());
        // A pool here has its advertisements in it.
        changes.push(ObjectChange { kind: Kind::IPAddressPool, name, effect: Effect::Attributes, what });
    }
    changes
}

fn union<'a>(one: impl Iterator<Item = &'a String>, other: impl Iterator<Item = &'a String>) -> BTreeSet<&'a String> {
    one.chain(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectionMode;
    use expect_test::{Expect, expect};
    use kit::{Duration, HoldTime, Secret, SelectorList};
    use std::sync::Arc;

    fn asn(number: u32) -> Asn {
        Asn::new(number).unwrap()
    }

    fn peer() -> Peer {
        Peer {
            name: "router".to_owned(),
            my_asn: asn(64512),
            local_asn: None,
            remote_as: RemoteAs::Exactly(asn(64500)),
            endpoint: PeerEndpoint::Address("192.0.2.1".parse().unwrap()),
            port: 179,
            connection_mode: ConnectionMode::Active,
            source_address: None,
            hold_time: None,
            keepalive_time: None,
            connect_time: None,
            router_id: None,
            node_selectors: SelectorList::default(),
            authentication: None,
            bfd: None,
            graceful_restart: None,
            ebgp_multi_hop: false,
            ttl_security_hops: None,
            vrf: None,
            dual_stack_address_family: false,
        }
    }

    fn keys() -> Option<TcpAuthentication> {
        let algorithm = kit::MacAlgorithm::HmacSha1;
        let key = kit::MasterKeyTuple { send_id: 1, receive_id: 2, algorithm, key: Secret::new("x") };
        kit::MasterKeys::new(vec![key]).map(TcpAuthentication::Keys)
    }

    fn watched(name: &str, interval_ms: u64) -> crate::PeerBfd {
        let receive_interval = Some(Duration::from_millis(interval_ms));
        crate::PeerBfd {
            name: name.to_owned(),
            profile: crate::BfdProfile { receive_interval, ..crate::BfdProfile::default() },
        }
    }

    fn check(edit: impl Fn(&mut Peer), expected: Expect) {
        check_from(peer(), edit, expected);
    }

    fn check_from(old: Peer, edit: impl Fn(&mut Peer), expected: Expect) {
        let mut new = old.clone();
        edit(&mut new);
        let change = old.change_to(&new);
        let next = change.field_names_of_next_session();
        let next = if next.is_empty() { next } else { format!(" (next session: {next})") };
        expected.assert_eq(format!("{} {}{next}", change.effect(), change.field_names()).trim_end());
    }

    #[test]
    fn every_field_has_its_effect() {
        check(|_| {}, expect!["nothing"]);
        check(|peer| peer.name = "other".to_owned(), expect!["nothing name"]);
        check(
            |peer| peer.node_selectors = SelectorList(vec![kit::Selector::label("a", "b")]),
            expect!["nothing nodeSelectors"],
        );
        check(|peer| peer.bfd = Some(watched("fast", 50)), expect!["soft bfdProfile"]);
        check(|peer| peer.ebgp_multi_hop = true, expect!["nothing ebgpMultiHop"]);
        let watched_peer = Peer { bfd: Some(watched("fast", 50)), ..peer() };
        check_from(watched_peer.clone(), |peer| peer.bfd = Some(watched("fast", 100)), expect!["soft bfdProfile"]);
        check_from(watched_peer.clone(), |peer| peer.bfd = None, expect!["soft bfdProfile"]);
        check_from(watched_peer, |peer| peer.ebgp_multi_hop = true, expect!["soft ebgpMultiHop"]);
        check(|peer| peer.connect_time = Some(Duration::from_secs(7)), expect!["soft connectTime"]);
        check(|peer| peer.keepalive_time = Some(Duration::from_secs(7)), expect!["soft keepaliveTime"]);
        check(|peer| peer.hold_time = HoldTime::from_secs(9).ok(), expect!["soft holdTime (next session: holdTime)"]);
        check(
            |peer| {
                let time = Duration::from_secs(60);
                peer.graceful_restart = Some(crate::GracefulRestart { time, notification: false });
            },
            expect!["soft enableGracefulRestart (next session: enableGracefulRestart)"],
        );
        check(|peer| peer.my_asn = asn(64513), expect!["reset myASN"]);
        check(|peer| peer.local_asn = Some(asn(64513)), expect!["reset localASN"]);
        check(|peer| peer.remote_as = RemoteAs::Exactly(asn(64501)), expect!["reset peerASN"]);
        check(|peer| peer.port = 1179, expect!["reset peerPort"]);
        check(|peer| peer.endpoint = PeerEndpoint::Gateway(Family::V4), expect!["reset peerAddress"]);
        check(|peer| peer.connection_mode = ConnectionMode::Both, expect!["reset connectionMode"]);
        check(|peer| peer.source_address = "192.0.2.9".parse().ok(), expect!["reset sourceAddress"]);
        check(|peer| peer.router_id = "192.0.2.9".parse().ok(), expect!["reset routerID"]);
        let password = || Some(TcpAuthentication::Password(Secret::new("x")));
        check(|peer| peer.authentication = password(), expect!["reset password"]);
        check(|peer| peer.authentication = keys(), expect!["reset tcpAuthenticationKeys"]);
        let signed = Peer { authentication: keys(), ..peer() };
        check_from(signed, |peer| peer.authentication = password(), expect!["reset tcpAuthenticationKeys"]);
        check(|peer| peer.ttl_security_hops = std::num::NonZeroU8::new(1), expect!["reset ttlSecurityHops"]);
        check(|peer| peer.vrf = Some("red".to_owned()), expect!["reset vrf"]);
        check(|peer| peer.dual_stack_address_family = true, expect!["reset dualStackAddressFamily"]);
    }

    #[test]
    fn what_the_session_already_is_does_not_reset_it() {
        // The AS that the router sees stays the same.
        check(|peer| (peer.my_asn, peer.local_asn) = (asn(64999), Some(asn(64512))), expect!["nothing localASN myASN"]);
        // The router is still admitted.
        check(|peer| peer.remote_as = RemoteAs::External, expect!["soft peerASN"]);
        check(|peer| peer.remote_as = RemoteAs::Internal, expect!["reset peerASN"]);
        let external = Peer { remote_as: RemoteAs::External, ..peer() };
        check_from(external, |peer| peer.remote_as = RemoteAs::Exactly(asn(64500)), expect!["reset peerASN"]);
        // A family that is carried no longer is withdrawn.
        let dual = Peer { dual_stack_address_family: true, ..peer() };
        check_from(dual, |peer| peer.dual_stack_address_family = false, expect!["soft dualStackAddressFamily"]);
        let unnumbered = Peer { endpoint: PeerEndpoint::Interface("eth0".to_owned()), ..peer() };
        check_from(unnumbered, |peer| peer.dual_stack_address_family = true, expect!["soft dualStackAddressFamily"]);
        // Of a range, routers that are there stay.
        let range = |limit| PeerEndpoint::Range {
            network: "192.0.2.0/24".parse().unwrap(),
            limit: std::num::NonZeroU16::new(limit).unwrap(),
        };
        let callers = Peer { endpoint: range(16), ..peer() };
        check_from(callers, |peer| peer.endpoint = range(2), expect!["soft peerRangeLimit"]);
        // Several at once cost what the dearest costs.
        check(
            |peer| (peer.port, peer.connect_time) = (1179, Some(Duration::from_secs(1))),
            expect!["reset connectTime peerPort"],
        );
    }

    /// The table in `docs/bgp.md` has every field, and the cost that it has at most.
    #[test]
    fn the_documentation_says_the_same() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bgp.md")).unwrap();
        let table = text.split("| Field | Changed, it costs |").nth(1).unwrap();
        let rows: Vec<(&str, &str)> = table
            .lines()
            .skip(2)
            .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
            .collect();
        let range = |network: &str, limit| PeerEndpoint::Range {
            network: network.parse().unwrap(),
            limit: std::num::NonZeroU16::new(limit).unwrap(),
        };
        let old = Peer { endpoint: range("192.0.2.0/24", 1), ..peer() };
        let other = Peer {
            name: "other".to_owned(),
            my_asn: asn(1),
            local_asn: Some(asn(2)),
            remote_as: RemoteAs::Exactly(asn(3)),
            endpoint: range("192.0.2.0/24", 2),
            port: 1179,
            connection_mode: ConnectionMode::Both,
            source_address: "192.0.2.9".parse().ok(),
            hold_time: HoldTime::from_secs(9).ok(),
            keepalive_time: Some(Duration::from_secs(3)),
            connect_time: Some(Duration::from_secs(3)),
            router_id: "192.0.2.9".parse().ok(),
            node_selectors: SelectorList(vec![kit::Selector::label("a", "b")]),
            authentication: Some(TcpAuthentication::Password(Secret::new("x"))),
            bfd: Some(watched("fast", 50)),
            graceful_restart: Some(crate::GracefulRestart { time: Duration::from_secs(60), notification: false }),
            ebgp_multi_hop: true,
            ttl_security_hops: std::num::NonZeroU8::new(1),
            vrf: Some("red".to_owned()),
            dual_stack_address_family: true,
        };
        let elsewhere = Peer { endpoint: range("192.0.2.0/25", 1), ..peer() };
        let signed = Peer { authentication: keys(), ..peer() };
        let mut fields = &old.change_to(&other).fields | &old.change_to(&elsewhere).fields;
        fields.extend(peer().change_to(&signed).fields);
        assert!(fields.len() > 20, "{fields:?}");
        for (field, change) in fields {
            let words = match change {
                FieldChange::None => "nothing",
                FieldChange::AtOnce => "at once",
                FieldChange::NextSession => "next session",
                FieldChange::Reset => "reset",
            };
            let row = rows.iter().find(|(fields, _)| fields.contains(&format!("`{field}`")));
            assert!(row.is_some_and(|(_, cost)| cost.contains(words)), "{field} costs {words}: {row:?}");
        }
    }

    #[test]
    fn changes_of_a_whole_configuration() {
        let pool = |auto_assign| crate::Pool {
            name: "p".to_owned(),
            ranges: Vec::new(),
            auto_assign,
            avoid_buggy_ips: false,
            allocation: None,
            l2_advertisements: std::collections::BTreeMap::new(),
            bgp_advertisements: std::collections::BTreeMap::new(),
        };
        let config = |peers: Vec<Peer>, auto_assign| Config {
            peers: peers.into_iter().map(|peer| (peer.name.clone(), Arc::new(peer))).collect(),
            pools: [("p".to_owned(), Arc::new(pool(auto_assign)))].into(),
            ..Config::default()
        };
        let named = |name: &str, port| Peer { name: name.to_owned(), port, ..peer() };
        let old = config(vec![named("a", 179), named("b", 179), named("c", 179)], true);
        let new = config(vec![named("a", 179), named("b", 180), named("d", 179)], false);
        let lines: Vec<String> = changes(&old, &new)
            .iter()
            .map(|it| format!("{} {} {}: {}", it.kind.name(), it.name, it.what, it.effect))
            .collect();
        expect![[r"
            BGPPeer b peerPort: reset
            BGPPeer c removed: reset
            BGPPeer d added: nothing
            IPAddressPool p : attributes"]]
        .assert_eq(&lines.join("\n"));
        assert!(changes(&old, &old).is_empty());
    }
}
