//! Our own announcer of the comparison, a process of its own: the core of `crates/bgp` and the driver of `crates/netio` as
//! the speaker has them, with routes that are simply there instead of Services.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bgp::{ConnectRetry, Families, Input, Mode, Output, Peer, PeerConfig, Reception, RouteAttributes, RouterIdSource};
use kit::{Asn, HoldTime, Outbox, RemoteAs, Rng};
use netio::bgp::{Endpoint, Transport};
use netio::clock::Clock;

use crate::sink::prefix;

const BGP_PORT: u16 = 179;

/// Announces so many routes to these peers, who call, until it is killed.
pub(crate) fn run(routes: u32, local_as: u32, remote_as: u32, peers: &[IpAddr]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(routes, local_as, remote_as, peers))
}

async fn serve(routes: u32, local_as: u32, remote_as: u32, addresses: &[IpAddr]) -> Result<()> {
    let clock = Clock::start();
    let mut transport: Transport<IpAddr> = Transport::new();
    let mut out: Outbox<Output> = Outbox::with_limit(bgp::OUTBOX_LIMIT);
    let mut peers = BTreeMap::new();
    let attributes = Arc::new(RouteAttributes::default());
    for (address, seed) in addresses.iter().zip(1..) {
        let mut peer = Peer::new(config(local_as, remote_as)?, Rng::new(seed), clock.now());
        for number in 0..routes {
            let input = Input::Announce { prefix: prefix(number), attributes: Arc::clone(&attributes) };
            peer.handle(clock.now(), input, &mut out);
        }
        peer.handle(clock.now(), Input::Complete, &mut out);
        peer.handle(clock.now(), Input::Start, &mut out);
        peers.insert(*address, (Endpoint::new(SocketAddr::new(*address, BGP_PORT)), peer));
    }
    // Last: whoever reaches it finds it ready.
    let listener = transport.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, BGP_PORT)), None)?;
    for (address, (endpoint, _)) in &peers {
        transport.allow(listener, *address, endpoint)?;
    }
    loop {
        let deadline = peers.values().filter_map(|(_, peer)| peer.next_deadline()).min();
        let (address, input) = tokio::select! {
            event = transport.next() => event,
            () = clock.sleep_until(deadline) => {
                let due = |(_, (_, peer)): &(&IpAddr, &(Endpoint, Peer))| peer.next_deadline() == deadline;
                let Some((address, _)) = peers.iter().find(due) else { continue };
                (*address, Input::Tick)
            }
        };
        let Some((endpoint, peer)) = peers.get_mut(&address) else { continue };
        peer.handle(clock.now(), input, &mut out);
        while let Some(output) = out.pop() {
            transport.execute(&address, endpoint, output);
        }
    }
}

fn config(local_as: u32, remote_as: u32) -> Result<PeerConfig> {
    let asn = |number| Asn::new(number).context("an AS number is not 0");
    Ok(PeerConfig {
        local_as: asn(local_as)?,
        remote_as: RemoteAs::Exactly(asn(remote_as)?),
        router_id: RouterIdSource::Configured("192.168.1.1".parse()?),
        hold_time: HoldTime::DEFAULT,
        keepalive_time: None,
        connect_retry: ConnectRetry::BackOff,
        families: Families::OfSession,
        mode: Mode::Passive,
        reception: Reception::Refuse,
        graceful_restart: None,
    })
}
