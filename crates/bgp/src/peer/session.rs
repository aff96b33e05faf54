//! An established session: the peer's messages, and our routes on their way out (RFC 4271 sections 8.2.2 and 9).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use kit::{Duration, Family, Instant, TimerTable};

use super::{Connection, Moment, Negotiated, Peer, Phase, Refusal, SEND_WINDOW, Timer};
use crate::rib_in::AdjRibIn;
use crate::rib_out::{AdjRibOut, SessionPath};
use crate::wire::{
    AfiSafi, Disposition, ErrorCode, MESSAGE_MAX, MessageType, NextHop, RefreshSubtype, Update, UpdateContext, validate,
};
use crate::{ConnectionId, Output, PeerConfig, RouteState};

/// How long a connection may take nothing at all (RFC 9687 section 6: at least eight minutes and twice the hold
/// time).
const SEND_HOLD_TIME_MIN: Duration = Duration::from_secs(8 * 60);
/// How much one part of the table work writes: what a tick may cost all others.
const PART_MAX: usize = 16 * 1024;

/// An established session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Box<Connection>,
    pub(super) negotiated: Negotiated,
    pub(super) rib_out: AdjRibOut,
    pub(super) rib_in: AdjRibIn,
    context: UpdateContext,
}

impl Session {
    pub(super) fn new(
        config: &PeerConfig,
        next_hops: &BTreeMap<Family, IpAddr>,
        connection: Box<Connection>,
        negotiated: Negotiated,
    ) -> Self {
        let path = session_path(config, next_hops, &connection, &negotiated);
        let end_of_rib = if negotiated.end_of_rib { negotiated.families.iter().copied().collect() } else { Vec::new() };
        let context = UpdateContext {
            relation: negotiated.relation,
            remote_as: negotiated.remote_as,
            families: negotiated.families.clone(),
            extended_next_hop: negotiated.extended_next_hop,
        };
        Session {
            rib_out: AdjRibOut::new(path, end_of_rib, negotiated.refresh),
            rib_in: AdjRibIn::new(config.reception, config.local_as, connection.local.ip()),
            connection,
            negotiated,
            context,
        }
    }

    /// RFC 9687 section 6.
    pub(super) fn send_hold_time(&self) -> Duration {
        self.negotiated.hold_time.expiry().map_or(SEND_HOLD_TIME_MIN, |time| time.times(2).max(SEND_HOLD_TIME_MIN))
    }

    fn can_send(&self) -> bool {
        self.connection.in_flight.saturating_add(MESSAGE_MAX) <= SEND_WINDOW
    }
}

/// What this session adds to our routes; for each family the next hop, or why there is none.
fn session_path(
    config: &PeerConfig,
    next_hops: &BTreeMap<Family, IpAddr>,
    connection: &Connection,
    negotiated: &Negotiated,
) -> SessionPath {
    let next_hop = |family: Family| {
        if !connection.local_open.families.contains(&family) {
            return Err(RouteState::FamilyNotConfigured);
        }
        if !negotiated.families.contains(&family) {
            return Err(RouteState::FamilyNotNegotiated);
        }
        let session = connection.local.ip();
        let supplied = next_hops.get(&family).copied().filter(|address| Family::of(address) == family);
        match (session, supplied) {
            // On an unnumbered link every route goes over the link-local address, IPv4 too if the peer knows how (RFC
            // 8950): a global address means nothing to a router that has none of its network.
            (IpAddr::V6(address), _)
                if family == Family::V4 && address.is_unicast_link_local() && negotiated.extended_next_hop =>
            {
                Ok(NextHop::V6 { address, link_local: None })
            }
            // Our end of the session is the next hop of its family (contract 6.5).
            (IpAddr::V4(address), _) if family == Family::V4 => Ok(NextHop::V4(address)),
            (IpAddr::V6(address), _) if family == Family::V6 => Ok(NextHop::V6 { address, link_local: None }),
            (_, Some(IpAddr::V4(address))) => Ok(NextHop::V4(address)),
            (_, Some(IpAddr::V6(address))) => Ok(NextHop::V6 { address, link_local: None }),
            // IPv4 over the session's own IPv6 address (RFC 8950).
            (IpAddr::V6(address), None) if negotiated.extended_next_hop => {
                Ok(NextHop::V6 { address, link_local: None })
            }
            (_, None) => Err(RouteState::NoNextHop),
        }
    };
    SessionPath {
        relation: negotiated.relation,
        local_as: config.local_as,
        asn_size: negotiated.asn_size,
        message_limit: negotiated.message_limit,
        next_hop_v4: next_hop(Family::V4),
        next_hop_v6: next_hop(Family::V6),
    }
}

/// The timer of RFC 9687 runs while bytes wait, and begins anew whenever some of them get away.
pub(super) fn send_hold_restart(timers: &mut TimerTable<Timer>, now: Instant, time: Duration, is_idle: bool) {
    if is_idle {
        timers.clear(&Timer::SendHold);
    } else {
        timers.set(Timer::SendHold, now + time);
    }
}

impl Peer {
    fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Established(session) => Some(session),
            Phase::Idle | Phase::Opening(_) => None,
        }
    }

    /// Stops what only a session has.
    pub(super) fn session_ended(&mut self) {
        self.timers.clear(&Timer::SendHold);
        self.timers.clear(&Timer::Work);
    }

    /// What the peer should have changed. It is sent at the next tick, which is due at once: so changes that come
    /// together go together.
    pub(super) fn wanted_changed(&mut self, moment: &mut Moment<'_>, prefix: IpNet) {
        if let Some(session) = self.session_mut() {
            session.rib_out.touch(prefix);
            self.work_schedule(moment.now);
        }
    }

    pub(super) fn next_hop_changed(&mut self, moment: &mut Moment<'_>, family: Family, address: Option<IpAddr>) {
        match address {
            Some(address) => self.next_hops.insert(family, address),
            None => self.next_hops.remove(&family),
        };
        if let Phase::Established(session) = &mut self.phase {
            let path = session_path(&self.config, &self.next_hops, &session.connection, &session.negotiated);
            session.rib_out.path_changed(path);
            self.work_schedule(moment.now);
        }
    }

    /// Asks for a tick when there is something to send and the connection takes it.
    pub(super) fn work_schedule(&mut self, now: Instant) {
        if let Phase::Established(session) = &self.phase
            && session.rib_out.has_work(&self.wanted)
            && session.can_send()
        {
            self.timers.set(Timer::Work, now);
        }
    }

    /// One part of the work: sends routes as far as the connection takes them.
    pub(super) fn work(&mut self, moment: &mut Moment<'_>) {
        let Phase::Established(session) = &mut self.phase else { return };
        if !session.can_send() {
            return;
        }
        let id = session.connection.id;
        let window = SEND_WINDOW.saturating_sub(session.connection.in_flight).saturating_sub(MESSAGE_MAX);
        let mut bytes = Vec::new();
        let written = session.rib_out.flush(&self.wanted, window.clamp(1, PART_MAX), &mut bytes);
        if !bytes.is_empty() {
            self.history.counters.sent.count(MessageType::Update, written.updates);
            self.history.counters.sent.count(MessageType::RouteRefresh, written.refreshes);
            self.send(moment, id, bytes);
            // RFC 4271 section 8.2.2: an UPDATE is a sign of life too.
            self.keepalive_restart(moment.now, id.direction());
        }
        self.work_schedule(moment.now);
    }

    pub(super) fn keepalive_received(&mut self, moment: &mut Moment<'_>) {
        if let Phase::Established(session) = &self.phase {
            let (direction, time) = (session.connection.id.direction(), session.negotiated.hold_time.expiry());
            self.hold_restart(moment.now, direction, time);
        }
    }

    /// RFC 4271 section 6.3 and RFC 7606.
    pub(super) fn update_received(
        &mut self,
        moment: &mut Moment<'_>,
        id: ConnectionId,
        update: &Update<'_>,
        message: &[u8],
    ) {
        self.keepalive_received(moment);
        let Phase::Established(session) = &mut self.phase else { return };
        let malformed = |disposition, errors| {
            let (text, message) = (update.to_string(), message.to_vec());
            Output::MalformedUpdate { disposition, errors, text, message }
        };
        let valid = match validate(update, &session.context) {
            Ok(valid) => valid,
            Err(error) => {
                moment.out.push(malformed(Disposition::Reset, vec![error.clone()]));
                self.refuse(moment, id, error.into());
                return;
            }
        };
        if let Some(disposition) = valid.disposition() {
            self.history.counters.issues_count(&valid.issues);
            let errors = valid.issues.iter().map(|issue| issue.error.clone()).collect();
            moment.out.push(malformed(disposition, errors));
        }
        if let Err(refusal) = session.rib_in.apply(valid, moment.out) {
            self.refuse(moment, id, refusal);
        }
    }

    /// RFC 2918 section 4: everything of the family again, if we announced it. The peer's own marks (RFC 7313) are for
    /// those who hold its routes.
    pub(super) fn refresh_received(
        &mut self,
        moment: &mut Moment<'_>,
        routes: AfiSafi,
        subtype: Option<RefreshSubtype>,
    ) {
        if let Some(session) = self.session_mut()
            && subtype == Some(RefreshSubtype::Request)
            && let Some(family) = routes.unicast_family()
            && session.connection.local_open.families.contains(&family)
        {
            session.rib_out.refresh(family);
            self.work_schedule(moment.now);
        }
    }

    /// RFC 9687 section 4.3, Event 29: the peer takes nothing from us, so it only looks alive.
    pub(super) fn send_hold_expired(&mut self, moment: &mut Moment<'_>) {
        if let Phase::Established(session) = &self.phase {
            let id = session.connection.id;
            let detail = "the peer took nothing from the connection in time";
            self.refuse(moment, id, Refusal::new(ErrorCode::SEND_HOLD_TIMER_EXPIRED, detail));
        }
    }
}
