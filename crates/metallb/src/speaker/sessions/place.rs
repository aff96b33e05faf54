//! Where neighbours are: at an address that is given, behind the default route, or at the other end of a link.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use bgp::discovery::{DISCOVERY_OUTBOX_LIMIT, Discovery, DiscoveryInput, DiscoveryOutput, Session as Presence};
use bgp::{Input, StopReason};
use config::{ConnectionMode, PeerEndpoint};
use kit::{Instant, InterfaceIndex, Outbox, Rng};
use l2::InterfaceFlags;
use netio::gateways::{GatewayMonitor, Gateways};
use netio::interfaces::Interface;
use netio::unnumbered::Links;

use super::callers::Admission;
use super::{News, SessionId, Sessions};

/// What finds neighbours.
pub(super) struct Places {
    links: Links<SessionId>,
    discoveries: BTreeMap<SessionId, Discovery>,
    /// Begins when a peer needs it.
    monitor: Option<GatewayMonitor>,
    gateways: Gateways,
    random: Rng,
    out: Outbox<DiscoveryOutput>,
}

/// News about where neighbours are.
pub(in super::super) enum Event {
    /// Something came in on a link.
    Router(SessionId, DiscoveryInput),
    /// Default routes are these now.
    Gateways(Gateways),
}

impl Places {
    pub(super) fn new(seed: u64) -> Self {
        Places {
            links: Links::new(),
            discoveries: BTreeMap::new(),
            monitor: None,
            gateways: Gateways::new(),
            random: Rng::new(seed),
            out: Outbox::with_limit(DISCOVERY_OUTBOX_LIMIT),
        }
    }

    /// Safe to cancel.
    pub(super) async fn next(&mut self) -> Event {
        let gateways = async {
            match &mut self.monitor {
                Some(monitor) => monitor.next().await.gateways,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (id, input) = self.links.next() => Event::Router(id, input),
            gateways = gateways => Event::Gateways(gateways),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.discoveries.values().filter_map(Discovery::next_deadline).min()
    }

    /// A session's word on whether the neighbour is where it was looked for.
    pub(super) fn session(&mut self, now: Instant, id: SessionId, news: &News) {
        let presence = match news {
            News::Up { .. } => Presence::Established,
            News::Down { .. } | News::AttemptFailed { .. } => Presence::Down,
        };
        self.discover(now, id, DiscoveryInput::Session(presence));
    }

    pub(super) fn forget(&mut self, id: SessionId) {
        self.links.close(&id);
        self.discoveries.remove(&id);
    }

    /// Tells the discovery on a link something, and sends what it wants sent.
    fn discover(&mut self, now: Instant, id: SessionId, input: DiscoveryInput) {
        let Some(discovery) = self.discoveries.get_mut(&id) else { return };
        discovery.handle(now, input, &mut self.out);
        while let Some(output) = self.out.pop() {
            match output {
                DiscoveryOutput::Send { destination, message } => self.links.send(&id, destination, &message),
                DiscoveryOutput::Found(router) => {
                    tracing::info!(event = "routerFound", router = %router, "a router advertises itself on the link");
                }
                DiscoveryOutput::Lost => {}
            }
        }
    }

    /// Looks at a link: is it there, and can it be used?
    fn link(&mut self, now: Instant, id: SessionId, name: &str, interfaces: &[Interface]) {
        let Places { discoveries, random, .. } = self;
        discoveries.entry(id).or_insert_with(|| Discovery::new(Rng::new(random.next_u64())));
        let usable = |interface: &&Interface| {
            interface.name == name
                && interface.flags.contains(InterfaceFlags::UP)
                && interface.link_local().next().is_some()
        };
        let index = interfaces.iter().find(usable).map(|interface| interface.index);
        if self.links.index(&id) == index {
            return;
        }
        self.links.close(&id);
        self.discover(now, id, DiscoveryInput::Down);
        let Some(index) = index else { return };
        match self.links.open(id, index) {
            Ok(()) => self.discover(now, id, DiscoveryInput::Up),
            Err(error) => tracing::error!(
                interface = name,
                error = %error,
                hint = "give the container the capability NET_RAW",
                "could not look for a router on the link"
            ),
        }
    }

    /// The router on a link.
    fn router(&self, id: SessionId, port: u16) -> Option<SocketAddr> {
        let router = self.discoveries.get(&id)?.router()?;
        Some(scoped(IpAddr::V6(router), port, self.links.index(&id)?))
    }
}

/// A link-local address means something only together with its interface.
fn scoped(address: IpAddr, port: u16, index: InterfaceIndex) -> SocketAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddr::V6(SocketAddrV6::new(v6, port, 0, index.get())),
        other => SocketAddr::new(other, port),
    }
}

impl Sessions {
    pub(super) fn place_event(&mut self, now: Instant, event: Event) -> Vec<News> {
        match event {
            Event::Router(id, input) => {
                self.places.discover(now, id, input);
                self.place(now, id)
            }
            Event::Gateways(gateways) => {
                self.places.gateways = gateways;
                let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
                ids.into_iter().flat_map(|id| self.place(now, id)).collect()
            }
        }
    }

    pub(super) fn places_tick(&mut self, now: Instant) {
        let is_due = |discovery: &Discovery| discovery.next_deadline().is_some_and(|due| due <= now);
        let due: Vec<SessionId> =
            self.places.discoveries.iter().filter(|(_, it)| is_due(it)).map(|(id, _)| *id).collect();
        for id in due {
            self.places.discover(now, id, DiscoveryInput::Tick);
        }
    }

    /// Looks for a neighbour, and begins the session with it where it is found; if it was somewhere else before, that
    /// session ends.
    pub(super) fn place(&mut self, now: Instant, id: SessionId) -> Vec<News> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let (port, is_caller) = (session.peer.port, session.wire != id);
        let found = match &session.peer.endpoint {
            PeerEndpoint::Address(address) => Some(SocketAddr::new(*address, port)),
            PeerEndpoint::Gateway(family) => {
                self.places.monitor.get_or_insert_with(GatewayMonitor::new);
                self.places.gateways.get(family).map(|gateway| scoped(gateway.address, port, gateway.index))
            }
            PeerEndpoint::Interface(name) => {
                self.places.link(now, id, name, &self.interfaces);
                self.places.router(id, port)
            }
            PeerEndpoint::Range { .. } => None,
        };
        let Some(found) = found.filter(|found| !is_caller && session.at != Some(*found)) else { return Vec::new() };
        let was_elsewhere = session.at.is_some();
        let mut news = Vec::new();
        if was_elsewhere {
            news.extend(self.tell(now, id, Input::Stop { reason: StopReason::ConfigurationChange }));
            self.listeners.disallow(&mut self.transport, id);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return news };
        session.at = Some(found);
        session.endpoint.address = found;
        if session.peer.connection_mode != ConnectionMode::Active {
            let admission = Admission { peer: id, endpoint: session.endpoint.clone(), network: None };
            self.listeners.allow(now, &mut self.transport, admission);
        }
        news.extend(self.callers_yield(now, id));
        news.extend(self.path(now, id));
        news.extend(self.tell(now, id, Input::Start));
        news
    }
}
