//! The paths to neighbours, watched by BFD where a BGPPeer asks for it, and its verdict carried to the BGP sessions.
//!
//! What is to be watched, and what a verdict means, is decided in `speaker::watch`. The sessions of BFD run on a thread of
//! their own (`netio::bfd`), which begins with the first peer that wants one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bgp::{Input, StopReason};
use ipnet::IpNet;
use kit::{Instant, InterfaceIndex};
use l2::InterfaceFlags;
use netio::bfd::{Bfd, Event};
use netio::clock::Clock;
use netio::interfaces::Interface;
use speaker::watch::{Distance, Guard, Order, Place, Report, watch};

use super::{BfdSnapshot, News, SessionId, Sessions};

/// The paths that are watched.
pub(super) struct Paths {
    clock: Clock,
    /// Begins when a peer needs it.
    driver: Option<Bfd<SessionId>>,
    watched: BTreeMap<SessionId, Watched>,
}

struct Watched {
    path: bfd::Path,
    profile: bfd::Profile,
    guard: Guard,
}

impl Paths {
    pub(super) fn new(clock: Clock) -> Self {
        Paths { clock, driver: None, watched: BTreeMap::new() }
    }

    /// Safe to cancel.
    pub(super) async fn next(&mut self) -> (SessionId, Event) {
        match &mut self.driver {
            Some(driver) => driver.next().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.watched.values().filter_map(|watched| watched.guard.deadline()).min()
    }

    /// What BFD knows of its sessions; `None` where there never was one.
    pub(super) fn status(&self) -> Option<BfdSnapshot> {
        self.driver.as_ref().map(|driver| driver.reader().status())
    }

    /// Whether a session waits until its path works again.
    pub(super) fn is_held(&self, id: SessionId) -> bool {
        self.watched.get(&id).is_some_and(|watched| watched.guard.is_held())
    }

    /// Watches the path of a session from now on, or another one, or none.
    fn watch(&mut self, now: Instant, id: SessionId, wanted: Option<(bfd::Path, bfd::Profile)>) -> Option<Order> {
        let Some((path, profile)) = wanted else { return self.forget(now, id) };
        let driver = begun(&mut self.driver, self.clock)?;
        let Some(watched) = self.watched.get_mut(&id) else {
            self.watched.insert(id, Watched { path, profile, guard: Guard::default() });
            driver.watch(id, path, profile);
            return None;
        };
        let same_path = watched.path == path;
        if same_path && watched.profile == profile {
            return None;
        }
        (watched.path, watched.profile) = (path, profile);
        driver.watch(id, path, profile);
        if same_path { None } else { watched.guard.handle(now, Report::Forgotten) }
    }

    /// Watches the path of a session no longer.
    pub(super) fn forget(&mut self, now: Instant, id: SessionId) -> Option<Order> {
        let mut watched = self.watched.remove(&id)?;
        if let Some(driver) = &mut self.driver {
            driver.unwatch(&id);
        }
        watched.guard.handle(now, Report::Forgotten)
    }

    fn report(&mut self, now: Instant, id: SessionId, report: Report) -> Option<Order> {
        self.watched.get_mut(&id)?.guard.handle(now, report)
    }

    /// Sessions over an interface that does not work any more need not wait to find out.
    fn links_compare(&self, before: &[Interface], after: &[Interface]) {
        let Some(driver) = &self.driver else { return };
        let works = |index: InterfaceIndex, interfaces: &[Interface]| {
            let working = InterfaceFlags::UP | InterfaceFlags::CARRIER;
            interfaces.iter().any(|interface| interface.index == index && interface.flags.contains(working))
        };
        let indexes = before.iter().map(|interface| interface.index);
        indexes
            .filter(|index| works(*index, before) && !works(*index, after))
            .for_each(|index| driver.link_down(index));
    }

    /// Tells the neighbours that their sessions are switched off.
    pub(super) async fn finish(self) {
        if let Some(driver) = self.driver {
            driver.finish().await;
        }
    }
}

/// The driver, which begins now if it has not begun.
fn begun(driver: &mut Option<Bfd<SessionId>>, clock: Clock) -> Option<&mut Bfd<SessionId>> {
    if driver.is_none() {
        match Bfd::start(clock) {
            Ok(begun) => *driver = Some(begun),
            Err(error) => tracing::error!(
                limited = true,
                error = %error,
                hint = "BGP goes on without; raise the limits for threads and descriptors of the container",
                "BFD does not work"
            ),
        }
    }
    driver.as_mut()
}

impl Sessions {
    /// Has the path to a neighbour watched as its BGPPeer says now.
    pub(super) fn path(&mut self, now: Instant, id: SessionId) -> Vec<News> {
        let wanted = self.sessions.get(&id).and_then(|session| {
            let place = self.place_of(session.at?, session.peer.vrf.as_deref())?;
            watch(&session.peer, &place)
        });
        let order = self.paths.watch(now, id, wanted);
        self.carry_out(now, id, order)
    }

    /// `None` while there is no such VRF.
    fn place_of(&self, at: SocketAddr, vrf: Option<&str>) -> Option<Place> {
        let index_of = |name: &str| Some(self.interfaces.iter().find(|interface| interface.name == name)?.index);
        let is_near = |interface: &Interface| {
            let networks = interface.addresses.iter().filter_map(|own| IpNet::new(own.address, own.prefix_length).ok());
            networks.into_iter().any(|network| network.contains(&at.ip()))
        };
        Some(Place {
            remote: at.ip(),
            interface: match at {
                SocketAddr::V6(at) => InterfaceIndex::new(at.scope_id()),
                SocketAddr::V4(_) => None,
            },
            vrf: match vrf {
                Some(name) => Some(index_of(name)?),
                None => None,
            },
            distance: if self.interfaces.iter().any(is_near) { Distance::OnLink } else { Distance::Beyond },
        })
    }

    /// BFD says something about the path of a session.
    pub(super) fn path_event(&mut self, now: Instant, id: SessionId, event: Event) -> Vec<News> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let (peer, at) = (&session.peer.endpoint, session.at().map(tracing::field::display));
        let report = match event {
            Event::Up => {
                tracing::info!(event = "bfdUp", %peer, peerAddress = at, "BFD session up");
                Report::Changed(bfd::Change::Up)
            }
            Event::Down(reason) => {
                let effect = if reason.is_failure() { "the BGP session ends" } else { "nothing changes for BGP" };
                tracing::warn!(
                    event = "bfdDown",
                    %peer,
                    peerAddress = at,
                    error = %reason,
                    effect,
                    "BFD session down"
                );
                Report::Changed(bfd::Change::Down(reason))
            }
            Event::Refused(refusal) => {
                tracing::error!(
                    event = "bfdRefused",
                    %peer,
                    peerAddress = at,
                    error = %refusal,
                    hint = "the BGP session is not watched; correct the BGPPeer, or remove its bfdProfile",
                    "BFD cannot watch the path to the peer"
                );
                Report::Forgotten
            }
        };
        let order = self.paths.report(now, id, report);
        self.carry_out(now, id, order)
    }

    /// Lets sessions begin that have waited for their path for long enough.
    pub(super) fn paths_tick(&mut self, now: Instant) -> Vec<News> {
        let due = |watched: &Watched| watched.guard.deadline().is_some_and(|due| due <= now);
        let due: Vec<SessionId> = self.paths.watched.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id).collect();
        let mut news = Vec::new();
        for id in due {
            let order = self.paths.report(now, id, Report::Tick);
            news.extend(self.carry_out(now, id, order));
        }
        news
    }

    fn carry_out(&mut self, now: Instant, id: SessionId, order: Option<Order>) -> Vec<News> {
        match order {
            None => Vec::new(),
            Some(Order::Start) => self.tell(now, id, Input::Start),
            Some(Order::Stop) => {
                let news = self.tell(now, id, Input::Stop { reason: StopReason::BfdDown });
                // Who calls from a network is a new neighbour when it calls again.
                self.caller_forget(now, id);
                news
            }
        }
    }

    /// The interfaces of this host were these until now.
    pub(super) fn paths_interfaces_changed(&mut self, now: Instant, before: &[Interface]) -> Vec<News> {
        self.paths.links_compare(before, &self.interfaces);
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        ids.into_iter().flat_map(|id| self.path(now, id)).collect()
    }
}
