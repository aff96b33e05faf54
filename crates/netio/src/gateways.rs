//! Where the default routes of this host lead, as netlink tells: all at the start, and again after each change of one.
//!
//! Only the main table counts. The gateway of a family is that of the route with the lowest metric; the ways out are all.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use kit::{Family, InterfaceIndex};
use sys::netlink::{News, RouteSocket};
use tokio::io::unix::AsyncFd;

use crate::netlink::{self, AF_INET, AF_INET6, NLMSG_DONE, NLMSG_ERROR, array, attributes, list_request};
use crate::watch::watch;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// `struct rtmsg`.
const ROUTE_LENGTH: usize = 12;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;

const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
/// `struct rtnexthop`: length, flags, hops, interface.
const NEXT_HOP_LENGTH: usize = 8;

/// The kernel's datagrams are at most half as long.
const DATAGRAM_MAX: usize = 1 << 16;
/// Between two attempts to open a socket.
const RETRY: Duration = Duration::from_secs(1);

/// A router that a default route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// Its address.
    pub address: IpAddr,
    /// The interface that leads to it.
    pub index: InterfaceIndex,
}

/// The gateway of each family that has one.
pub type Gateways = BTreeMap<Family, Gateway>;

/// What the default routes of this host say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultRoutes {
    /// Where the best of them lead: the lowest metric, and the first of several next hops.
    pub gateways: Gateways,
    /// The interfaces of all next hops of all routes, by the family of the packets, whether there is a gateway or not.
    pub ways_out: BTreeMap<Family, BTreeSet<InterfaceIndex>>,
}

/// Follows the default routes of the network namespace in which it was made.
#[derive(Debug)]
pub struct GatewayMonitor {
    socket: Option<AsyncFd<RouteSocket>>,
    list: List,
    told: Option<DefaultRoutes>,
    buffer: Vec<u8>,
}

impl GatewayMonitor {
    /// One that has not read anything yet.
    pub fn new() -> Self {
        GatewayMonitor { socket: None, list: List::default(), told: None, buffer: vec![0; DATAGRAM_MAX] }
    }

    /// The default routes, first as they are and then whenever they are others. Dropping the future loses nothing.
    pub async fn next(&mut self) -> DefaultRoutes {
        loop {
            if let Some(found) = self.list.complete()
                && self.told.as_ref() != Some(&found)
            {
                self.told = Some(found.clone());
                return found;
            }
            if let Err(error) = self.advance().await {
                tracing::warn!(error = %error, "could not read the default routes of this host over netlink");
                self.socket = None;
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Takes in one datagram, or begins anew.
    async fn advance(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            let socket = watch(RouteSocket::open(News::Routes)?)?;
            socket.get_ref().send(&self.list.begin())?;
            self.socket = Some(socket);
            return Ok(());
        };
        let mut ready = socket.readable().await?;
        let Ok(received) = ready.try_io(|socket| socket.get_ref().receive(&mut self.buffer)) else { return Ok(()) };
        let datagram = self.buffer.get(..received?).unwrap_or_default();
        match self.list.receive(datagram)? {
            Next::Nothing => Ok(()),
            Next::Send(request) => socket.get_ref().send(&request),
        }
    }
}

impl Default for GatewayMonitor {
    fn default() -> Self {
        Self::new()
    }
}

/// The state of reading: a list that comes in, and whether it is to be read again.
#[derive(Debug, Default)]
struct List {
    sequence: u32,
    state: ListState,
    /// The best default route so far, by metric.
    best: BTreeMap<Family, (u32, Gateway)>,
    ways_out: BTreeMap<Family, BTreeSet<InterfaceIndex>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ListState {
    /// The answer to the last request is coming; a default route has changed meanwhile, or not.
    Coming { again: bool },
    /// It has come.
    Complete,
    /// Nothing was asked for.
    #[default]
    Unasked,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Send(Vec<u8>),
}

impl List {
    fn begin(&mut self) -> Vec<u8> {
        self.best.clear();
        self.ways_out.clear();
        self.state = ListState::Coming { again: false };
        // 0 is the number of news.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        list_request(RTM_GETROUTE, self.sequence, &[0; ROUTE_LENGTH])
    }

    fn complete(&self) -> Option<DefaultRoutes> {
        let gateways = || self.best.iter().map(|(family, (_, gateway))| (*family, *gateway)).collect();
        let routes = || DefaultRoutes { gateways: gateways(), ways_out: self.ways_out.clone() };
        (self.state == ListState::Complete).then(routes)
    }

    fn receive(&mut self, datagram: &[u8]) -> io::Result<Next> {
        for message in netlink::messages(datagram) {
            let is_answer = message.sequence == self.sequence;
            match (message.kind, self.state) {
                (RTM_NEWROUTE, ListState::Coming { .. }) if is_answer => self.take(message.body),
                (RTM_NEWROUTE | RTM_DELROUTE, state) => match (is_default(message.body), state) {
                    (true, ListState::Coming { .. }) => self.state = ListState::Coming { again: true },
                    (true, ListState::Complete) => return Ok(Next::Send(self.begin())),
                    (_, _) => {}
                },
                (NLMSG_DONE, ListState::Coming { again }) if is_answer => {
                    if again || message.is_interrupted {
                        return Ok(Next::Send(self.begin()));
                    }
                    self.state = ListState::Complete;
                }
                (NLMSG_ERROR, _) if is_answer => {
                    let errno = array(message.body, 0).map_or(0, i32::from_ne_bytes);
                    return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
                }
                _ => {}
            }
        }
        Ok(Next::Nothing)
    }

    /// Keeps where a default route leaves, and its gateway if it is the best of its family: the lowest metric, then the
    /// lowest address.
    fn take(&mut self, body: &[u8]) {
        let Some(DefaultRoute { family, metric, gateway, interfaces }) = default_route(body) else { return };
        if !interfaces.is_empty() {
            self.ways_out.entry(family).or_default().extend(interfaces);
        }
        let Some(gateway) = gateway else { return };
        let family = Family::of(&gateway.address);
        let is_better = self.best.get(&family).is_none_or(|best| (metric, gateway) < *best);
        if is_better {
            self.best.insert(family, (metric, gateway));
        }
    }
}

/// A unicast route to everywhere in the main table.
fn is_default(body: &[u8]) -> bool {
    match body {
        [AF_INET | AF_INET6, 0, _, _, RT_TABLE_MAIN, _, _, RTN_UNICAST, ..] => body.len() >= ROUTE_LENGTH,
        _ => false,
    }
}

/// A route to everywhere.
#[derive(Debug, PartialEq, Eq)]
struct DefaultRoute {
    /// Of the packets; the gateway can be of the other one.
    family: Family,
    metric: u32,
    /// The first one where there are several; none on a link that has but one other end.
    gateway: Option<Gateway>,
    interfaces: BTreeSet<InterfaceIndex>,
}

fn default_route(body: &[u8]) -> Option<DefaultRoute> {
    if !is_default(body) {
        return None;
    }
    let octet = *body.first()?;
    let family = if octet == AF_INET { Family::V4 } else { Family::V6 };
    let (mut metric, mut address, mut index, mut interfaces) = (0, None, None, BTreeSet::new());
    for (kind, value) in attributes(body.get(ROUTE_LENGTH..)?) {
        match kind {
            RTA_PRIORITY => metric = array(value, 0).map_or(metric, u32::from_ne_bytes),
            RTA_OIF => index = interface_at(value, 0),
            RTA_GATEWAY => address = read_address(octet, value),
            RTA_VIA => address = via(value),
            RTA_MULTIPATH => {
                interfaces.extend(next_hops(value).filter_map(|hop| interface_at(hop, 4)));
                let first = next_hops(value).next()?;
                index = interface_at(first, 4);
                for (kind, value) in attributes(first.get(NEXT_HOP_LENGTH..)?) {
                    match kind {
                        RTA_GATEWAY => address = read_address(octet, value),
                        RTA_VIA => address = via(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    interfaces.extend(index);
    let gateway = address.zip(index).map(|(address, index)| Gateway { address, index });
    Some(DefaultRoute { family, metric, gateway, interfaces })
}

fn interface_at(bytes: &[u8], offset: usize) -> Option<InterfaceIndex> {
    array(bytes, offset).map(u32::from_ne_bytes).and_then(InterfaceIndex::new)
}

/// Each `struct rtnexthop` with its attributes. They begin at multiples of four bytes.
fn next_hops(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(array(rest, 0)?));
        let hop = rest.get(..length).filter(|hop| hop.len() >= NEXT_HOP_LENGTH)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(hop)
    })
}

/// `struct rtvia`: a gateway of another family than the route's.
fn via(value: &[u8]) -> Option<IpAddr> {
    let family = u8::try_from(u16::from_ne_bytes(array(value, 0)?)).ok()?;
    read_address(family, value.get(2..)?)
}

fn read_address(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => <[u8; 4]>::try_from(value).ok().map(|octets| IpAddr::V4(Ipv4Addr::from_octets(octets))),
        AF_INET6 => <[u8; 16]>::try_from(value).ok().map(|octets| IpAddr::V6(Ipv6Addr::from_octets(octets))),
        _ => None,
    }
}

/// Entry point for a fuzzer: whatever bytes come, nothing panics.
pub fn fuzz_routes(bytes: &[u8]) {
    let mut list = List::default();
    list.begin();
    if list.receive(bytes).is_ok() {
        list.complete();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::build;

    fn gateway(address: &str, index: u32) -> Gateway {
        Gateway { address: address.parse().unwrap(), index: InterfaceIndex::new(index).unwrap() }
    }

    /// Interfaces by the families of the packets that leave by them.
    fn ways_out(some: &[(Family, &[u32])]) -> BTreeMap<Family, BTreeSet<InterfaceIndex>> {
        let set = |indices: &[u32]| indices.iter().map(|index| InterfaceIndex::new(*index).unwrap()).collect();
        some.iter().map(|(family, indices)| (*family, set(indices))).collect()
    }

    fn octets(address: &str) -> (u8, Vec<u8>) {
        match address.parse().unwrap() {
            IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
        }
    }

    fn route(address: &str, index: u32, metric: u32) -> Vec<u8> {
        let (family, address) = octets(address);
        let mut body = vec![family, 0, 0, 0, RT_TABLE_MAIN, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
        body.extend(build::attribute(RTA_GATEWAY, &address));
        body.extend(build::attribute(RTA_OIF, &index.to_ne_bytes()));
        body.extend(build::attribute(RTA_PRIORITY, &metric.to_ne_bytes()));
        body
    }

    /// A list that was asked for and has come.
    fn listed(routes: &[Vec<u8>]) -> List {
        let mut list = List::default();
        list.begin();
        for body in routes {
            assert_eq!(list.receive(&build::message(RTM_NEWROUTE, 2, 1, body)).unwrap(), Next::Nothing);
        }
        assert_eq!(list.complete(), None);
        list.receive(&build::message(NLMSG_DONE, 2, 1, &[0; 4])).unwrap();
        list
    }

    #[test]
    fn the_route_with_the_lowest_metric_is_the_one_of_its_family() {
        let mut other_table = route("10.0.0.9", 2, 0);
        other_table[4] = 255;
        let mut network = route("10.0.0.9", 2, 0);
        network[1] = 8;
        let mut blackhole = route("10.0.0.9", 2, 0);
        blackhole[7] = 6;
        let list = listed(&[
            route("10.0.0.2", 2, 100),
            route("10.0.0.1", 3, 50),
            other_table,
            network,
            blackhole,
            route("fe80::1", 4, 1024),
        ]);
        let gateways =
            [(Family::V4, gateway("10.0.0.1", 3)), (Family::V6, gateway("fe80::1", 4))].into_iter().collect();
        // All of them are ways out.
        let ways_out = ways_out(&[(Family::V4, &[2, 3]), (Family::V6, &[4])]);
        assert_eq!(list.complete(), Some(DefaultRoutes { gateways, ways_out }));
        assert_eq!(listed(&[]).complete(), Some(DefaultRoutes::default()));
    }

    #[test]
    fn the_first_of_several_next_hops_and_one_of_another_family() {
        let mut body = vec![AF_INET, 0, 0, 0, RT_TABLE_MAIN, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
        let hop = |address: &str, index: u32| {
            let attribute = build::attribute(RTA_GATEWAY, &octets(address).1);
            let length = u16::try_from(NEXT_HOP_LENGTH + attribute.len()).unwrap();
            [&length.to_ne_bytes()[..], &[0, 0], &index.to_ne_bytes(), &attribute].concat()
        };
        let hops = [hop("10.0.0.1", 3), hop("10.0.0.2", 4)].concat();
        body.extend(build::attribute(RTA_MULTIPATH, &hops));
        let found = listed(&[body]).complete().unwrap();
        assert_eq!(found.gateways, [(Family::V4, gateway("10.0.0.1", 3))].into_iter().collect());
        assert_eq!(found.ways_out, ways_out(&[(Family::V4, &[3, 4])]));
        let mut body = vec![AF_INET, 0, 0, 0, RT_TABLE_MAIN, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
        let (family, address) = octets("fe80::7");
        body.extend(build::attribute(RTA_VIA, &[&u16::from(family).to_ne_bytes()[..], &address].concat()));
        body.extend(build::attribute(RTA_OIF, &5_u32.to_ne_bytes()));
        let found = listed(&[body]).complete().unwrap();
        assert_eq!(found.gateways, [(Family::V6, gateway("fe80::7", 5))].into_iter().collect());
        assert_eq!(found.ways_out, ways_out(&[(Family::V4, &[5])]));
        // A link that has one other end.
        let mut body = vec![AF_INET6, 0, 0, 0, RT_TABLE_MAIN, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
        body.extend(build::attribute(RTA_OIF, &6_u32.to_ne_bytes()));
        let found = listed(&[body]).complete().unwrap();
        assert_eq!(found, DefaultRoutes { gateways: Gateways::new(), ways_out: ways_out(&[(Family::V6, &[6])]) });
    }

    #[test]
    fn news_of_a_default_route_have_the_list_read_again_and_others_do_not() {
        let mut list = listed(&[route("10.0.0.1", 3, 0)]);
        let mut network = route("10.0.0.9", 2, 0);
        network[1] = 8;
        assert_eq!(list.receive(&build::message(RTM_NEWROUTE, 0, 0, &network)).unwrap(), Next::Nothing);
        assert!(list.complete().is_some());
        let gone = build::message(RTM_DELROUTE, 0, 0, &route("10.0.0.1", 3, 0));
        assert!(matches!(list.receive(&gone).unwrap(), Next::Send(_)));
        // Another change while the list comes: it may be in the list or not.
        assert_eq!(list.receive(&gone).unwrap(), Next::Nothing);
        let done = |sequence| build::message(NLMSG_DONE, 2, sequence, &[0; 4]);
        assert!(matches!(list.receive(&done(2)).unwrap(), Next::Send(_)));
        // The end of a list that is not the last one.
        assert_eq!(list.receive(&done(2)).unwrap(), Next::Nothing);
        assert_eq!(list.complete(), None);
        assert_eq!(list.receive(&done(3)).unwrap(), Next::Nothing);
        assert_eq!(list.complete(), Some(DefaultRoutes::default()));
        assert!(list.receive(&build::message(NLMSG_ERROR, 0, 3, &(-1_i32).to_ne_bytes())).is_err());
    }

    #[test]
    fn messages_with_random_edits_do_not_panic() {
        let mut rng = kit::Rng::new(26);
        let good = [
            build::message(RTM_NEWROUTE, 2, 1, &route("10.0.0.1", 3, 0)),
            build::message(RTM_NEWROUTE, 2, 1, &route("fe80::1", 3, 0)),
            build::message(NLMSG_DONE, 2, 1, &[0; 4]),
        ]
        .concat();
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..=rng.below(4) {
                let at = rng.index(bytes.len());
                bytes[at] = rng.next_u64().to_le_bytes()[0];
            }
            bytes.truncate(rng.index(bytes.len() + 1));
            fuzz_routes(&bytes);
        }
    }
}
