//! What an operator may ask of the sessions.

use std::ops::Bound;
use std::sync::Arc;

use bgp::{PeerView, RouteView, State};
use config::{Peer, PeerEndpoint};
use ipnet::IpNet;
use netio::bgp::Endpoint;

use super::{BfdSnapshot, Session, SessionId, Sessions};

/// A router with which there is a session, or is to be one.
pub(in super::super) struct Neighbour<'a> {
    /// How it is configured.
    pub(in super::super) peer: &'a Peer,
    /// Where it was found, or is looked for.
    pub(in super::super) router: String,
    /// The session.
    pub(in super::super) view: PeerView,
    /// What keeps the session from beginning.
    pub(in super::super) waits_for: Option<String>,
}

impl Sessions {
    /// What the metrics tell of each session; the youngest last.
    pub(in super::super) fn views(&self) -> impl Iterator<Item = (&Endpoint, PeerView)> {
        self.sessions.values().map(|session| (&session.endpoint, session.core.view()))
    }

    /// What BFD knows of its sessions, half a second ago at most; `None` where no peer has wanted one.
    pub(in super::super) fn bfd_status(&self) -> Option<BfdSnapshot> {
        self.paths.status()
    }

    /// The names of the BGPPeers of this node.
    pub(in super::super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The BGPPeer of a session.
    pub(in super::super) fn name_of(&self, id: SessionId) -> Option<&str> {
        self.sessions.get(&id).map(|session| session.peer.name.as_str())
    }

    /// The neighbours behind this one, in the order in which they came.
    pub(in super::super) fn neighbours_after(
        &self,
        after: Option<SessionId>,
    ) -> impl Iterator<Item = (SessionId, Neighbour<'_>)> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sessions.range((begin, Bound::Unbounded)).map(|(id, session)| (*id, self.neighbour(*id, session)))
    }

    fn neighbour<'a>(&self, id: SessionId, session: &'a Session) -> Neighbour<'a> {
        let view = session.core.view();
        let waits_for = if self.paths.is_held(id) {
            Some("the path to work again (BFD)".to_owned())
        } else if session.at.is_none() {
            let place = match &session.peer.endpoint {
                PeerEndpoint::Interface(_) => "a router that advertises itself on the link",
                PeerEndpoint::Gateway(_) => "a default route",
                PeerEndpoint::Address(_) | PeerEndpoint::Range { .. } => "an address",
            };
            Some(place.to_owned())
        } else if let (State::Active, Some(reason)) = (view.state, self.listeners.obstacle(id)) {
            Some(format!("leave to listen: {reason}"))
        } else if view.state == State::Active && view.next_attempt.is_none() {
            Some("the router to connect".to_owned())
        } else {
            None
        };
        let router = session.at.map_or_else(|| session.peer.endpoint.to_string(), |at| at.to_string());
        Neighbour { peer: &session.peer, router, view, waits_for }
    }

    /// The routes that a neighbour should have behind this prefix, in order.
    pub(in super::super) fn routes_after(
        &self,
        id: SessionId,
        prefix: Option<&IpNet>,
    ) -> impl Iterator<Item = RouteView> {
        self.sessions.get(&id).into_iter().flat_map(move |session| session.core.routes_after(prefix))
    }

    /// BGPPeers that are whoever calls from a network, from which nobody has, and why nobody can, if so.
    pub(in super::super) fn ranges_without_routers(&self) -> impl Iterator<Item = (&Arc<Peer>, Option<&str>)> {
        let idle = self.callers.iter().filter(|(_, callers)| callers.sessions.is_empty());
        idle.map(|(id, callers)| (&callers.peer, self.listeners.obstacle(*id)))
    }
}
