//! What whoever asks on the speaker's socket is told of BGP and BFD: line by line and in portions, each when there is room
//! for it, so that nothing waits for a reader and no table is there twice.

use std::collections::BTreeMap;

use bgp::{MessageCounts, PeerView, RouteView};
use ipnet::IpNet;
use jiff::Timestamp;
use kit::{Duration, Instant};
use netio::bfd::Precedence;
use tokio::sync::mpsc::OwnedPermit;

use super::collection::Progress;
use super::sessions::{BfdSnapshot, Neighbour, SessionId, Sessions};
use crate::status::model::{
    BfdStatus, BfdThreadStatus, Counts, Ending, FamilyStatus, Line, MessagesStatus, PeerStatus, RouteStatus,
    SessionStatus, SpeakerStatus,
};
use crate::status::server::{Piece, Query};

/// Sessions in one portion.
const SESSIONS_PORTION: usize = 32;
/// Routes in one portion.
const ROUTES_PORTION: usize = 256;

/// An answer in the making.
pub(super) struct Answer {
    query: Query,
    stage: Stage,
    clock: WallClock,
    bfd: BfdSnapshot,
}

/// What is next.
enum Stage {
    Speaker,
    /// The sessions behind this one.
    Peers(Option<SessionId>),
    /// The routes of a session behind this one, then the sessions behind it.
    Routes(SessionId, Option<IpNet>),
    /// The sessions of BFD from this position on.
    Bfd(usize),
    Over,
}

/// What a moment of the cores is for people.
#[derive(Clone, Copy)]
struct WallClock {
    now: Instant,
    time: Timestamp,
}

impl WallClock {
    fn at(self, moment: Instant) -> String {
        let micros = i64::try_from((self.now - moment).as_micros()).unwrap_or(i64::MAX);
        let time = self.time.checked_sub(jiff::SignedDuration::from_micros(micros)).unwrap_or(self.time);
        format!("{time:.0}")
    }

    /// A moment to come.
    fn until(self, moment: Instant) -> String {
        let micros = i64::try_from((moment - self.now).as_micros()).unwrap_or(i64::MAX);
        let time = self.time.checked_add(jiff::SignedDuration::from_micros(micros)).unwrap_or(self.time);
        format!("{time:.0}")
    }
}

impl Answer {
    /// Nothing is said yet.
    pub(super) fn begin(query: Query, now: Instant, time: Timestamp, sessions: &Sessions) -> Answer {
        let bfd = sessions.bfd_status().unwrap_or_default();
        Answer { query, stage: Stage::Speaker, clock: WallClock { now, time }, bfd }
    }

    /// Waits until there is room for a portion; `None` when nobody reads any more. Safe to cancel.
    pub(super) async fn room(answer: Option<&Answer>) -> Option<OwnedPermit<Piece>> {
        match answer {
            Some(answer) => answer.query.pieces.clone().reserve_owned().await.ok(),
            None => std::future::pending().await,
        }
    }

    /// Says one more portion.
    pub(super) fn step(&mut self, node: &str, sessions: &Sessions, room: OwnedPermit<Piece>) -> Progress {
        let mut lines = Vec::new();
        self.stage = match self.stage {
            Stage::Speaker => {
                lines.push(Line::Speaker(self.speaker(node, sessions)));
                Stage::Peers(None)
            }
            Stage::Peers(after) => self.peers(after, sessions, &mut lines),
            Stage::Routes(session, after) => {
                let routes: Vec<RouteView> =
                    sessions.routes_after(session, after.as_ref()).take(ROUTES_PORTION).collect();
                let last = routes.last().map(|route| route.prefix);
                lines.extend(routes.iter().map(|route| Line::Route(route_status(route))));
                last.map_or(Stage::Peers(Some(session)), |last| Stage::Routes(session, Some(last)))
            }
            Stage::Bfd(from) => {
                let portion: Vec<_> = self.bfd.sessions.iter().skip(from).take(SESSIONS_PORTION).collect();
                let seen = portion.len();
                let of_peers = portion.into_iter().filter_map(|session| self.bfd_session(session, sessions));
                lines.extend(of_peers.map(|session| Line::Bfd(Box::new(session))));
                if seen < SESSIONS_PORTION {
                    lines.push(Line::End);
                    Stage::Over
                } else {
                    Stage::Bfd(from.saturating_add(seen))
                }
            }
            Stage::Over => Stage::Over,
        };
        room.send(Piece::of(&lines));
        if matches!(self.stage, Stage::Over) { Progress::Done } else { Progress::More }
    }

    fn is_asked_for(&self, name: &str) -> bool {
        self.query.peer.as_ref().is_none_or(|peer| peer == name)
    }

    fn speaker(&self, node: &str, sessions: &Sessions) -> SpeakerStatus {
        let thread = self.bfd.precedence.map(|precedence| BfdThreadStatus {
            precedence: match precedence {
                Precedence::RealTime => "real-time",
                Precedence::High => "high",
                Precedence::Ordinary => "ordinary",
            }
            .to_owned(),
            longest_delay_ms: millis(self.bfd.delay_max),
            troubles: self.bfd.troubles.clone(),
        });
        SpeakerStatus {
            node: node.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: self.clock.at(self.clock.now),
            peer_names: sessions.names().map(str::to_owned).collect(),
            bfd_thread: thread,
        }
    }

    fn peers(&self, after: Option<SessionId>, sessions: &Sessions, lines: &mut Vec<Line>) -> Stage {
        let states: BTreeMap<SessionId, String> = self
            .bfd
            .sessions
            .iter()
            .flat_map(|session| session.clients.iter().map(|id| (*id, session.local.state.to_string())))
            .collect();
        let mut last = None;
        for (id, neighbour) in sessions.neighbours_after(after).take(SESSIONS_PORTION) {
            last = Some(id);
            if !self.is_asked_for(&neighbour.peer.name) {
                continue;
            }
            let bfd = neighbour.peer.bfd.as_ref().map(|_| states.get(&id).map_or("Down", String::as_str).to_owned());
            lines.push(Line::Peer(Box::new(self.peer(&neighbour, bfd))));
            // Whoever asks for one peer wants its routes too; those of all would be a table for each.
            if self.query.peer.is_some() {
                return Stage::Routes(id, None);
            }
        }
        if let Some(last) = last {
            return Stage::Peers(Some(last));
        }
        let idle = sessions.ranges_without_routers().filter(|(peer, _)| self.is_asked_for(&peer.name));
        lines.extend(idle.map(|(peer, obstacle)| Line::Peer(Box::new(listening(peer, obstacle)))));
        Stage::Bfd(0)
    }

    fn peer(&self, neighbour: &Neighbour<'_>, bfd: Option<String>) -> PeerStatus {
        let Neighbour { peer, router, view, waits_for } = neighbour;
        let ending =
            |(at, reason): &(Instant, bgp::DownReason)| Ending { time: self.clock.at(*at), reason: reason.to_string() };
        PeerStatus {
            router: router.clone(),
            state: view.state.to_string(),
            since: Some(self.clock.at(view.since)),
            waits_for: waits_for.clone(),
            next_attempt: view.next_attempt.map(|at| self.clock.until(at)),
            failed_attempts: view.failed_attempts,
            established: view.sessions,
            last_down: view.last_down.as_ref().map(ending),
            last_notification: view.last_notification.as_ref().map(ending),
            session: view.session.as_ref().map(session_status),
            bfd,
            families: families(view),
            messages: messages(view),
            ..configured(peer)
        }
    }

    fn bfd_session(&self, session: &bfd::SessionView<SessionId>, sessions: &Sessions) -> Option<BfdStatus> {
        let peers: Vec<String> =
            session.clients.iter().filter_map(|id| sessions.name_of(*id)).map(str::to_owned).collect();
        if !peers.iter().any(|peer| self.is_asked_for(peer)) {
            return None;
        }
        let bfd::SessionView { path, counters, local, remote, .. } = session;
        Some(BfdStatus {
            peers,
            remote: path.remote.to_string(),
            local: path.local.map(|local| local.to_string()),
            interface: path.interface.map(|index| sessions.interface_name(index)),
            vrf: path.vrf.map(|index| sessions.interface_name(index)),
            hops: match path.hops {
                bfd::Hops::Single => "single".to_owned(),
                bfd::Hops::Multi => "multi".to_owned(),
            },
            state: local.state.to_string(),
            since: self.clock.at(session.since),
            last_down: session.last_down.map(|reason| reason.to_string()),
            remote_state: remote.map(|remote| remote.state.to_string()),
            diagnostic: local.diagnostic.to_string(),
            remote_diagnostic: remote.map(|remote| remote.diagnostic.to_string()),
            transmit_interval_ms: session.transmit_interval.map(millis),
            detection_time_ms: session.detection_time.map(millis),
            detect_multiplier: session.profile.detect_multiplier.get(),
            echo: match session.echo {
                bfd::EchoState::Off => "off".to_owned(),
                bfd::EchoState::Probing => "sent, and none has returned yet".to_owned(),
                bfd::EchoState::Active => "active".to_owned(),
            },
            control_packets_received: counters.control_packet_input,
            control_packets_sent: counters.control_packet_output,
            echo_packets_returned: counters.echo_packet_input,
            echo_packets_sent: counters.echo_packet_output,
            ups: counters.session_up_events,
            downs: counters.session_down_events,
        })
    }
}

/// What the BGPPeer says.
fn configured(peer: &config::Peer) -> PeerStatus {
    PeerStatus {
        name: peer.name.clone(),
        router: peer.endpoint.to_string(),
        vrf: peer.vrf.clone(),
        local_as: peer.local_as().get(),
        remote_as: peer.remote_as.to_string(),
        bfd_profile: peer.bfd.as_ref().map(|bfd| bfd.name.clone()),
        ..PeerStatus::default()
    }
}

fn listening(peer: &config::Peer, obstacle: Option<&str>) -> PeerStatus {
    let waits_for = obstacle.map(|reason| format!("leave to listen: {reason}"));
    let waits_for = waits_for.or(Some("a router that connects".to_owned()));
    PeerStatus { state: "Listening".to_owned(), waits_for, ..configured(peer) }
}

fn session_status(session: &bgp::SessionView) -> SessionStatus {
    SessionStatus {
        local: session.local.to_string(),
        remote: session.remote.to_string(),
        local_router_id: session.local_router_id.to_string(),
        remote_router_id: session.remote_router_id.to_string(),
        remote_as: session.remote_as.get(),
        hold_time_seconds: session.hold_time.as_secs().into(),
        keepalive_time_seconds: session.keepalive_time.map(Duration::as_secs),
        keeps_routes: session.keeps_routes,
        capabilities_sent: session.capabilities_sent.iter().map(ToString::to_string).collect(),
        capabilities_received: session.capabilities_received.iter().map(ToString::to_string).collect(),
    }
}

fn families(view: &PeerView) -> Vec<FamilyStatus> {
    let concerned = view.families.iter().filter(|family| family.wanted > 0 || family.blocked.is_none());
    let status = |family: &bgp::FamilyView| FamilyStatus {
        family: family.family.to_string(),
        wanted: family.wanted,
        announced: family.announced,
        blocked: family.blocked.map(|why| why.to_string()),
    };
    concerned.map(status).collect()
}

fn messages(view: &PeerView) -> MessagesStatus {
    let counts = |counts: &MessageCounts| Counts {
        opens: counts.opens,
        updates: counts.updates,
        notifications: counts.notifications,
        keepalives: counts.keepalives,
        route_refreshes: counts.route_refreshes,
    };
    MessagesStatus {
        sent: counts(&view.counters.sent),
        received: counts(&view.counters.received),
        updates_treated_as_withdraw: view.counters.updates_treated_as_withdraw,
        attributes_discarded: view.counters.attributes_discarded,
    }
}

fn route_status(route: &RouteView) -> RouteStatus {
    let RouteView { prefix, state, sent } = route;
    let told = RouteStatus { prefix: prefix.to_string(), state: state.to_string(), ..RouteStatus::default() };
    let Some(bgp::SentRoute { next_hop, attributes }) = sent else { return told };
    let communities = attributes.communities.iter().map(ToString::to_string);
    let extended = attributes.extended_communities.iter().map(ToString::to_string);
    RouteStatus {
        next_hop: Some(next_hop.to_string()),
        as_path: Some(attributes.as_path.to_string()),
        local_pref: attributes.local_pref,
        med: attributes.multi_exit_disc,
        communities: communities.chain(extended).collect(),
        ..told
    }
}

#[expect(clippy::cast_precision_loss, reason = "intervals are far below 2^53 microseconds")]
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bgp::RouteAttributes;
    use config::{ConnectionMode, Peer, PeerEndpoint};
    use netio::clock::Clock;
    use tokio::sync::mpsc;

    use super::super::sessions::tests::plain_peer;
    use super::*;

    fn peer(name: &str) -> Arc<Peer> {
        // There is no such interface, so nothing leaves this process.
        let endpoint = PeerEndpoint::Interface(format!("no-{name}"));
        Arc::new(plain_peer(name.to_owned(), endpoint, ConnectionMode::Active))
    }

    /// The pieces of an answer, each as its lines.
    async fn pieces(sessions: &Sessions, peer: Option<&str>) -> Vec<Vec<Line>> {
        let (sender, mut answer) = mpsc::channel(1);
        let query = Query { peer: peer.map(str::to_owned), pieces: sender };
        let mut making = Answer::begin(query, Instant::ZERO, Timestamp::UNIX_EPOCH, sessions);
        let mut pieces = Vec::new();
        let mut progress = Progress::More;
        while progress == Progress::More {
            let room = Answer::room(Some(&making)).await.unwrap();
            progress = making.step("node-1", sessions, room);
            let text = answer.recv().await.unwrap().into_text();
            pieces.push(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
        }
        pieces
    }

    #[tokio::test]
    async fn an_answer_comes_in_portions_and_is_complete() {
        let mut sessions = Sessions::new("node-1", 179, 0, Clock::start());
        for number in 0..70 {
            sessions.add(Instant::ZERO, peer(&format!("rack-{number}")));
        }
        for number in 0..600_u32 {
            let prefix = IpNet::new((0xc612_0000 + number).to_be_bytes().into(), 32).unwrap();
            sessions.announce(Instant::ZERO, "rack-7", prefix, &Arc::new(RouteAttributes::default()));
        }
        let count =
            |pieces: &[Vec<Line>], is: fn(&Line) -> bool| pieces.iter().flatten().filter(|line| is(line)).count();
        let is_peer = |line: &Line| matches!(line, Line::Peer(_));
        let is_route = |line: &Line| matches!(line, Line::Route(_));

        let all = pieces(&sessions, None).await;
        assert_eq!((count(&all, is_peer), count(&all, is_route)), (70, 0));
        assert!(all.iter().all(|piece| piece.len() <= SESSIONS_PORTION + 1));
        assert_eq!(all.last().unwrap().last(), Some(&Line::End));

        let one = pieces(&sessions, Some("rack-7")).await;
        assert_eq!((count(&one, is_peer), count(&one, is_route)), (1, 600));
        assert_eq!(one.iter().map(Vec::len).max(), Some(ROUTES_PORTION));
        assert_eq!(one.last().unwrap().last(), Some(&Line::End));

        let none = pieces(&sessions, Some("elsewhere")).await;
        assert_eq!((count(&none, is_peer), none.last().unwrap().last()), (0, Some(&Line::End)));
    }

    #[tokio::test]
    async fn who_has_gone_is_not_waited_for() {
        let sessions = Sessions::new("node-1", 179, 0, Clock::start());
        let (sender, answer) = mpsc::channel(1);
        let query = Query { peer: None, pieces: sender };
        let making = Answer::begin(query, Instant::ZERO, Timestamp::UNIX_EPOCH, &sessions);
        drop(answer);
        assert!(Answer::room(Some(&making)).await.is_none());
    }
}
