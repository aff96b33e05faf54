//! The embedded router: our own BGP core on the accepting side, and routes set in the kernel by netlink.
//!
//! It runs inside the program, in the router's host, so a lab needs no other router. It knows peers by address, takes
//! the best paths by the first steps of RFC 4271 section 9.1.2.2 (LOCAL_PREF, length of AS_PATH, ORIGIN) and uses all that are equal so far.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow, bail};
use bgp::wire::{LOCAL_PREF_DEFAULT, PathAttributes};
use bgp::{
    ConnectRetry, Families, Input, Mode, Output, Peer, PeerConfig, Reception, RouteAttributes, RouterIdSource,
    StopReason,
};
use ipnet::IpNet;
use kit::{Duration, Family, Outbox, RemoteAs, Rng, TcpAuthentication};
use netio::bgp::{Endpoint, Transport, Ttl};
use netio::clock::Clock;
use rtnetlink::Handle;
use rtnetlink::packet_route::route::RouteProtocol;
use tokio::sync::oneshot;

use super::{Opening, PATHS_MAX, PeerPlace, RouterConfig, RouterPeer, RouterRoute, RouterSession};
use crate::host::route::{route_remove, route_set};
use crate::{Host, Task};

const BGP_PORT: u16 = 179;
/// More than any test announces.
const PREFIXES_MAX: u32 = 100_000;
/// How long to wait before dialing again.
const CONNECT_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Embedded {
    task: Option<Task<()>>,
    stop: Option<oneshot::Sender<()>>,
    view: Arc<Mutex<View>>,
}

/// What can be asked, kept by the task.
#[derive(Debug, Default)]
struct View {
    sessions: Vec<RouterSession>,
    routes: Vec<RouterRoute>,
}

impl Embedded {
    pub(super) fn start(host: &Host, config: &RouterConfig) -> Result<Embedded> {
        if !config.extra.is_empty() {
            bail!("the embedded router has no language for extra configuration");
        }
        let view = Arc::new(Mutex::new(View::default()));
        let (netlink, config, shared) = (host.netlink(), config.clone(), Arc::clone(&view));
        let (stop, stopped) = oneshot::channel();
        // Made in the host, but before this returns: a router that listens is ready.
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let task = host.start_task("embedded router", async move || {
            let mut router = match Speaker::start(netlink, &config, shared) {
                Ok(router) => router,
                Err(error) => {
                    drop(ready.send(Err(error)));
                    return Ok(());
                }
            };
            drop(ready.send(Ok(())));
            tokio::select! {
                outcome = router.run() => outcome,
                _ = stopped => router.finish().await,
            }
        })?;
        is_ready.recv().map_err(|_| anyhow!("the embedded router ended"))??;
        Ok(Embedded { task: Some(task), stop: Some(stop), view })
    }

    pub(super) fn sessions(&self) -> Vec<RouterSession> {
        self.view.lock().map(|view| view.sessions.clone()).unwrap_or_default()
    }

    pub(super) fn routes(&self) -> Vec<RouterRoute> {
        self.view.lock().map(|view| view.routes.clone()).unwrap_or_default()
    }

    /// Says good-bye to every peer, and ends.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.stop = None;
        self.task.take().map_or(Ok(()), Task::join)
    }

    /// Ends without a word.
    pub(super) fn kill(&mut self) {
        self.task = None;
    }
}

/// The router inside its host.
struct Speaker {
    netlink: Handle,
    clock: Clock,
    transport: Transport<IpAddr>,
    peers: BTreeMap<IpAddr, (Endpoint, Peer)>,
    out: Outbox<Output>,
    /// By destination, then by peer.
    routes: BTreeMap<IpNet, BTreeMap<IpAddr, Path>>,
    /// Destinations whose routes in the kernel may be out of date.
    changed: BTreeSet<IpNet>,
    view: Arc<Mutex<View>>,
}

struct Path {
    next_hop: IpAddr,
    attributes: Arc<PathAttributes>,
}

impl Speaker {
    fn start(netlink: Handle, config: &RouterConfig, view: Arc<Mutex<View>>) -> Result<Speaker> {
        let clock = Clock::start();
        let mut transport = Transport::new();
        let v4 = transport.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, BGP_PORT)), None)?;
        let v6 = transport.listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, BGP_PORT)), None)?;
        let mut peers = BTreeMap::new();
        for (number, peer) in config.peers.iter().enumerate() {
            let PeerPlace::Address(address) = peer.place else {
                bail!("the embedded router knows its peers by address");
            };
            if peer.bfd.is_some() {
                bail!("the embedded router has no BFD");
            }
            let mut endpoint = Endpoint::new(SocketAddr::new(address, BGP_PORT));
            endpoint.authentication = match (&peer.keys, &peer.password) {
                (Some(keys), _) => Some(TcpAuthentication::Keys(keys.clone())),
                (None, password) => password.clone().map(TcpAuthentication::Password),
            };
            endpoint.ttl = if peer.multi_hop { Ttl::Hops(64) } else { Ttl::System };
            transport.allow(if address.is_ipv4() { v4 } else { v6 }, address, &endpoint)?;
            let seed = u64::try_from(number).unwrap_or(u64::MAX);
            let core = Peer::new(peer_config(config, peer), Rng::new(seed), clock.now());
            peers.insert(address, (endpoint, core));
        }
        let mut router = Speaker {
            netlink,
            clock,
            transport,
            peers,
            out: Outbox::with_limit(bgp::OUTBOX_LIMIT),
            routes: BTreeMap::new(),
            changed: BTreeSet::new(),
            view,
        };
        let addresses: Vec<IpAddr> = router.peers.keys().copied().collect();
        for address in addresses {
            for prefix in &config.announce {
                let attributes = Arc::new(RouteAttributes::default());
                router.handle(address, Input::Announce { prefix: *prefix, attributes });
            }
            router.handle(address, Input::Start);
            router.handle(address, Input::Complete);
        }
        router.show();
        Ok(router)
    }

    async fn run(&mut self) -> Result<()> {
        loop {
            let deadline = self.peers.values().filter_map(|(_, peer)| peer.next_deadline()).min();
            tokio::select! {
                (address, input) = self.transport.next() => self.handle(address, input),
                () = self.clock.sleep_until(deadline) => {
                    let now = self.clock.now();
                    let is_due = |(_, peer): &(Endpoint, Peer)| peer.next_deadline().is_some_and(|at| at <= now);
                    let due: Vec<_> = self.peers.iter().filter(|(_, peer)| is_due(peer)).map(|(at, _)| *at).collect();
                    for address in due {
                        self.handle(address, Input::Tick);
                    }
                }
            }
            self.show();
            self.kernel_update().await?;
        }
    }

    async fn finish(mut self) -> Result<()> {
        let addresses: Vec<_> = self.peers.keys().copied().collect();
        for address in addresses {
            let reason = StopReason::AdministrativeShutdown { text: String::new() };
            self.handle(address, Input::Stop { reason });
        }
        self.show();
        self.kernel_update().await?;
        self.transport.finish().await;
        Ok(())
    }

    fn handle(&mut self, address: IpAddr, input: Input) {
        let Some((endpoint, peer)) = self.peers.get_mut(&address) else { return };
        peer.handle(self.clock.now(), input, &mut self.out);
        let outputs: Vec<Output> = self.out.drain().collect();
        let endpoint = endpoint.clone();
        for output in outputs {
            if let Some(news) = self.transport.execute(&address, &endpoint, output) {
                self.learn(address, news);
            }
        }
    }

    fn learn(&mut self, peer: IpAddr, news: Output) {
        match news {
            Output::RoutesAnnounced { prefixes, next_hop, attributes } => {
                for prefix in prefixes {
                    let path = Path { next_hop, attributes: Arc::clone(&attributes) };
                    self.routes.entry(prefix).or_default().insert(peer, path);
                    self.changed.insert(prefix);
                }
            }
            Output::RoutesWithdrawn { prefixes } => {
                for prefix in prefixes {
                    self.forget(peer, prefix);
                }
            }
            Output::SessionDown { .. } => {
                let prefixes: Vec<_> = self.routes.keys().copied().collect();
                for prefix in prefixes {
                    self.forget(peer, prefix);
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self, peer: IpAddr, prefix: IpNet) {
        if let Some(paths) = self.routes.get_mut(&prefix)
            && paths.remove(&peer).is_some()
        {
            self.changed.insert(prefix);
        }
    }

    /// Brings the routes in the kernel up to date.
    async fn kernel_update(&mut self) -> Result<()> {
        while let Some(prefix) = self.changed.pop_first() {
            let routers = self.routes.get(&prefix).map(best_next_hops).unwrap_or_default();
            let outcome = if routers.is_empty() {
                self.routes.remove(&prefix);
                route_remove(&self.netlink, prefix).await
            } else {
                route_set(&self.netlink, prefix, &routers, RouteProtocol::Bgp).await
            };
            // A next hop may be out of reach, and a route may have gone with its interface.
            if let Err(error) = outcome {
                tracing::warn!(%prefix, error = format!("{error:#}"), "a route was not set in the kernel");
            }
        }
        Ok(())
    }

    /// Lets what was learnt be seen from outside.
    fn show(&self) {
        let session = |(address, (_, peer)): (&IpAddr, &(Endpoint, Peer))| {
            let view = peer.view();
            RouterSession {
                peer: *address,
                state: view.state.to_string(),
                last_error: view.last_down.map(|(_, reason)| reason.to_string()).unwrap_or_default(),
            }
        };
        let routes = self.routes.iter().flat_map(|(prefix, paths)| paths.values().map(|path| route(*prefix, path)));
        if let Ok(mut view) = self.view.lock() {
            *view = View { sessions: self.peers.iter().map(session).collect(), routes: routes.collect() };
        }
    }
}

fn peer_config(config: &RouterConfig, peer: &RouterPeer) -> PeerConfig {
    PeerConfig {
        local_as: config.asn,
        remote_as: RemoteAs::Exactly(peer.remote_as),
        router_id: RouterIdSource::Configured(config.router_id),
        hold_time: peer.hold_time,
        keepalive_time: None,
        connect_retry: ConnectRetry::Every(CONNECT_RETRY),
        families: if peer.families.len() == Family::ALL.len() { Families::Both } else { Families::OfSession },
        mode: match peer.opening {
            Opening::Waits => Mode::Passive,
            Opening::Dials => Mode::Active,
        },
        reception: Reception::Report { prefixes_max: PREFIXES_MAX },
        graceful_restart: None,
    }
}

/// The next hops of the best paths, as many as are used at once.
fn best_next_hops(paths: &BTreeMap<IpAddr, Path>) -> Vec<IpAddr> {
    let rank = |path: &Path| {
        let attributes = &path.attributes;
        let local_pref = attributes.local_pref.unwrap_or(LOCAL_PREF_DEFAULT);
        (Reverse(local_pref), attributes.as_path.length(), attributes.origin as u8)
    };
    let best = paths.values().map(rank).min();
    let next_hops: BTreeSet<_> =
        paths.values().filter(|path| Some(rank(path)) == best).map(|path| path.next_hop).collect();
    next_hops.into_iter().take(usize::from(PATHS_MAX)).collect()
}

fn route(prefix: IpNet, path: &Path) -> RouterRoute {
    let attributes = &path.attributes;
    RouterRoute {
        prefix,
        next_hop: path.next_hop,
        as_path: attributes.as_path.0.iter().flat_map(|segment| &segment.asns).map(|asn| asn.get()).collect(),
        origin: attributes.origin.to_string().to_uppercase(),
        med: attributes.multi_exit_disc,
        local_pref: attributes.local_pref,
        communities: attributes.communities.clone(),
    }
}
