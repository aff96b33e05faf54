//! All sessions of a host: who watches which path, and which packet is for which session.
//!
//! Clients that watch the same path share a session. Of their profiles the one holds that notices a failure first
//! (receive interval times multiplier): it serves the others too, and a mixture would be what nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kit::{Duration, Family, Instant, InterfaceIndex, Outbox, Rng};

use crate::echo::Return;
use crate::session::{self, Session};
use crate::timing::SLOW_INTERVAL;
use crate::wire::{ControlPacket, Discriminator, EchoDatagram, EchoKey, EchoPacket, State};
use crate::{Arrival, Change, Discard, Forwarding, Hops, Input, Output, Path, Profile, Refusal, SessionView};

/// How many sessions there may be. Every packet for discriminator zero is compared with all of them.
pub const SESSIONS_MAX: usize = 512;
/// How many clients there may be.
pub const CLIENTS_MAX: usize = 2048;
/// How many outputs fit between two calls of [`Registry::handle`]; the driver takes all of them out each time. Everything
/// that can happen at once: all sessions change, and all clients are told.
pub const OUTBOX_MAX: usize = SESSIONS_MAX.saturating_mul(4).saturating_add(CLIENTS_MAX);
/// Discarded packets are reported at most this often; they are counted always.
pub const DISCARD_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// A neighbour is told good-bye for a detection time (RFC 5880 section 6.8.16), but no longer than this.
const CLOSING_MAX: Duration = Duration::from_secs(60);
/// What packets on one hop must arrive with (RFC 5881 section 5).
const TTL_SINGLE_HOP: u8 = 255;
/// What our echo packets come back with: 255, less one for the neighbour that forwarded them.
const TTL_ECHO_RETURNED: u8 = 254;
/// Steps of one session between two looks at its outputs: an answer, a packet, an echo packet and two changes at most.
const SESSION_OUTBOX_MAX: usize = 8;

/// The BFD sessions of a host, with clients that are named by keys of the caller's.
///
/// An input costs O(log n) in the number of sessions; `Tick`, [`Registry::next_deadline`] and packets for discriminator zero
/// cost O(n), which for [`SESSIONS_MAX`] is some microseconds. In a steady state nothing is allocated.
#[derive(Clone, Debug)]
pub struct Registry<K> {
    sessions: BTreeMap<Discriminator, Entry<K>>,
    by_path: BTreeMap<Path, Discriminator>,
    /// The path that each client watches.
    clients: BTreeMap<K, Path>,
    forwarding: BTreeSet<Family>,
    discards: BTreeMap<Discard, u64>,
    discard_report: DiscardReport,
    echo_key: EchoKey,
    random: Rng,
    /// What a session has just said; empty between inputs.
    said: Outbox<session::Output>,
}

#[derive(Clone, Debug)]
struct Entry<K> {
    session: Session,
    /// Who watches, and what each asked for. Nobody while the neighbour is told good-bye.
    users: BTreeMap<K, Profile>,
    /// When the session is forgotten, if nobody watches it again.
    closes_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct DiscardReport {
    last_at: Option<Instant>,
    suppressed: u64,
}

impl<K: Ord + Clone> Registry<K> {
    /// No sessions yet. The generator makes discriminators and jitter; the key signs echo packets, and nobody else must
    /// know it.
    pub fn new(random: Rng, echo_key: EchoKey) -> Self {
        Registry {
            sessions: BTreeMap::new(),
            by_path: BTreeMap::new(),
            clients: BTreeMap::new(),
            forwarding: BTreeSet::new(),
            discards: BTreeMap::new(),
            discard_report: DiscardReport::default(),
            echo_key,
            random,
            said: Outbox::with_limit(SESSION_OUTBOX_MAX),
        }
    }

    /// Takes in what happened, and says what is to be done.
    pub fn handle(&mut self, now: Instant, input: Input<'_, K>, out: &mut Outbox<Output<K>>) {
        match input {
            Input::Watch { client, path, profile } => self.watch(now, client, path, profile, out),
            Input::Unwatch { client } => self.unwatch(now, client, out),
            Input::UnwatchAll => {
                let clients: Vec<K> = self.clients.keys().cloned().collect();
                for client in &clients {
                    self.unwatch(now, client, out);
                }
            }
            Input::Control { payload, arrival } => match self.select(payload, &arrival) {
                Ok((id, packet)) => {
                    self.step(now, id, session::Input::Packet { packet: &packet, arrival: &arrival }, out);
                    self.close_what_is_done(now, id, out);
                }
                Err(discard) => self.discard(now, discard, Some(arrival.source), out),
            },
            Input::EchoReturned { payload, ttl } => self.echo_returned(now, payload, ttl, out),
            Input::EchoUnsent { session } => {
                if let Some(entry) = self.sessions.get_mut(&session) {
                    entry.session.echo_unsent();
                }
            }
            Input::EchoRequested { arrival } => self.echo_requested(now, &arrival, out),
            Input::Forwarding { family, forwarding } => self.forwarding_set(now, family, forwarding, out),
            Input::LinkDown { interface } => self.link_down(now, interface, out),
            Input::Tick => self.tick(now, out),
        }
    }

    /// When [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(Entry::next_deadline).min()
    }

    /// The sessions, those included whose neighbour is just told good-bye.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView<K>> {
        self.sessions.values().map(|entry| entry.view(Vec::new()))
    }

    /// Replaces `views` by those of all sessions. Where nothing but numbers has changed, no memory is asked for.
    pub fn sessions_into(&self, views: &mut Vec<SessionView<K>>) {
        views.truncate(self.sessions.len());
        for (position, entry) in self.sessions.values().enumerate() {
            match views.get_mut(position) {
                Some(view) => *view = entry.view(std::mem::take(&mut view.clients)),
                None => views.push(entry.view(Vec::new())),
            }
        }
    }

    /// The state of the session that a client watches.
    pub fn state_of(&self, client: &K) -> Option<State> {
        let id = self.by_path.get(self.clients.get(client)?)?;
        self.sessions.get(id).map(|entry| entry.session.state())
    }

    /// The paths of the sessions.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.by_path.keys()
    }

    /// True when there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many packets were discarded, by reason.
    pub fn discards(&self) -> &BTreeMap<Discard, u64> {
        &self.discards
    }

    fn watch(&mut self, now: Instant, client: &K, path: Path, profile: Profile, out: &mut Outbox<Output<K>>) {
        if self.clients.get(client).is_some_and(|before| *before != path) {
            self.unwatch(now, client, out);
        }
        if let Some(refusal) = self.refusal(client, &path) {
            return out.push(Output::Refused { client: client.clone(), refusal });
        }
        let is_new_client = self.clients.insert(client.clone(), path).is_none();
        let id = match self.by_path.get(&path) {
            Some(id) => *id,
            None => self.open(now, path, profile),
        };
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        entry.users.insert(client.clone(), profile);
        let is_back = entry.closes_at.take().is_some();
        if is_new_client && entry.session.state() == State::Up {
            entry.session.counters.notified();
            out.push(Output::Changed { client: client.clone(), change: Change::Up });
        }
        self.profile_choose(now, id, out);
        if is_back {
            self.step(now, id, session::Input::Enable, out);
        }
    }

    fn refusal(&self, client: &K, path: &Path) -> Option<Refusal> {
        if let Some(refusal) = path.refusal() {
            return Some(refusal);
        }
        if !self.clients.contains_key(client) && self.clients.len() >= CLIENTS_MAX {
            return Some(Refusal::TooManyClients);
        }
        let is_full = self.sessions.len() >= SESSIONS_MAX;
        (is_full && !self.by_path.contains_key(path)).then_some(Refusal::TooManySessions)
    }

    fn open(&mut self, now: Instant, path: Path, profile: Profile) -> Discriminator {
        let id = self.discriminator_new();
        let forwarding = self.forwarding_of(path.family());
        let random = Rng::new(self.random.next_u64());
        let session = Session::new(now, path, profile, forwarding, id, random);
        self.sessions.insert(id, Entry { session, users: BTreeMap::new(), closes_at: None });
        self.by_path.insert(path, id);
        id
    }

    /// A number that no other session has, and that nobody can guess (RFC 5880 section 6.8.1).
    fn discriminator_new(&mut self) -> Discriminator {
        loop {
            let number = self.random.next_u64() >> 32;
            let discriminator = u32::try_from(number).ok().and_then(Discriminator::new);
            if let Some(discriminator) = discriminator.filter(|it| !self.sessions.contains_key(it)) {
                return discriminator;
            }
        }
    }

    fn unwatch(&mut self, now: Instant, client: &K, out: &mut Outbox<Output<K>>) {
        let Some(path) = self.clients.remove(client) else { return };
        let Some(id) = self.by_path.get(&path).copied() else { return };
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        entry.users.remove(client);
        if !entry.users.is_empty() {
            return self.profile_choose(now, id, out);
        }
        // RFC 5880 section 6.8.16: tell it for a Detection Time of the neighbour's, now that we send once a second. Who is
        // not heard has no session with us.
        let multiplier = u64::from(entry.session.profile().detect_multiplier.get());
        let detection_time = |remote: &ControlPacket| SLOW_INTERVAL.max(remote.required_min_rx).times(multiplier);
        let time = entry.session.remote().map_or(Duration::ZERO, detection_time);
        entry.closes_at = Some(now + time.min(CLOSING_MAX));
        self.step(now, id, session::Input::Disable, out);
        self.close_what_is_done(now, id, out);
    }

    /// Forgets a session that nobody watches when its neighbour knows, or was told for long enough.
    fn close_what_is_done(&mut self, now: Instant, id: Discriminator, out: &mut Outbox<Output<K>>) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let Some(closes_at) = entry.closes_at else { return };
        let knows = |remote: &ControlPacket| matches!(remote.state, State::Down | State::AdminDown);
        if now >= closes_at || entry.session.remote().is_some_and(knows) {
            self.by_path.remove(entry.session.path());
            self.sessions.remove(&id);
            out.push(Output::Close { session: id });
        }
    }

    /// Puts the fastest of the users' profiles in force.
    fn profile_choose(&mut self, now: Instant, id: Discriminator, out: &mut Outbox<Output<K>>) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let fastest = entry.users.values().min_by_key(|profile| profile.by_speed());
        if let Some(fastest) = fastest.copied().filter(|fastest| fastest != entry.session.profile()) {
            self.step(now, id, session::Input::Profile(fastest), out);
        }
    }

    /// Finds the session that a packet is for (RFC 5880 section 6.8.6 and sections 4 and 5 of RFCs 5881 and 5883).
    fn select(&self, payload: &[u8], arrival: &Arrival) -> Result<(Discriminator, ControlPacket), Discard> {
        let (packet, authentication) = ControlPacket::decode(payload)?;
        let (id, entry) = match packet.your_discriminator {
            // By the discriminator alone, wherever the packet comes from (RFC 5880 section 6.3).
            Some(yours) => self.sessions.get_key_value(&yours).ok_or(Discard::YourDiscriminatorUnknown)?,
            None if matches!(packet.state, State::Init | State::Up) => return Err(Discard::YourDiscriminatorZero),
            None => self.find(arrival).ok_or(Discard::NoSession)?,
        };
        let path = entry.session.path();
        if authentication.is_some() {
            return Err(Discard::Authenticated);
        }
        if path.hops != arrival.hops {
            return Err(Discard::Port);
        }
        if path.vrf != arrival.vrf {
            return Err(Discard::Vrf);
        }
        match path.hops {
            Hops::Single if arrival.ttl != TTL_SINGLE_HOP => Err(Discard::TtlSingleHop),
            Hops::Multi if arrival.ttl < entry.session.profile().minimum_ttl => Err(Discard::TtlMultiHop),
            _ => Ok((*id, packet)),
        }
    }

    /// The session with the sender of a packet. Where several would do, the one that says most about its path.
    fn find(&self, arrival: &Arrival) -> Option<(&Discriminator, &Entry<K>)> {
        let matching = self.sessions.iter().filter(|(_, entry)| is_path_of(entry.session.path(), arrival));
        matching.max_by_key(|(_, entry)| {
            let path = entry.session.path();
            (path.interface.is_some(), path.local.is_some())
        })
    }

    fn echo_returned(&mut self, now: Instant, payload: &[u8], ttl: u8, out: &mut Outbox<Output<K>>) {
        // What does not look like ours is another system's, on its way through this host.
        let Some(echo) = EchoPacket::decode(payload) else { return };
        let Some(entry) = self.sessions.get_mut(&echo.discriminator) else { return };
        if !echo.is_signed(payload, &self.echo_key) {
            return self.discard(now, Discard::EchoForged, None, out);
        }
        if ttl != TTL_ECHO_RETURNED {
            return self.discard(now, Discard::EchoTtl, None, out);
        }
        let returned = entry.session.echo_returned(now, echo.sequence, &mut self.said);
        self.pass_on(echo.discriminator, out);
        if returned == Return::Replayed {
            self.discard(now, Discard::EchoReplayed, None, out);
        }
    }

    /// Some neighbours send echo packets to our address, where the kernel does not forward them. RFC 5881 section 4 wants
    /// the destination to be such that it does, but FRR for one does so over IPv6.
    fn echo_requested(&mut self, now: Instant, arrival: &Arrival, out: &mut Outbox<Output<K>>) {
        let Some((id, _)) = self.find(arrival) else {
            return self.discard(now, Discard::NoSession, Some(arrival.source), out);
        };
        let id = *id;
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        if arrival.ttl != TTL_SINGLE_HOP {
            return self.discard(now, Discard::TtlSingleHop, Some(arrival.source), out);
        }
        if entry.session.state() == State::Up && !entry.session.required_min_echo_rx().is_zero() {
            out.push(Output::ReturnEcho);
        }
    }

    fn forwarding_of(&self, family: Family) -> Forwarding {
        if self.forwarding.contains(&family) { Forwarding::On } else { Forwarding::Off }
    }

    fn forwarding_set(&mut self, now: Instant, family: Family, forwarding: Forwarding, out: &mut Outbox<Output<K>>) {
        if self.forwarding_of(family) == forwarding {
            return;
        }
        match forwarding {
            Forwarding::On => self.forwarding.insert(family),
            Forwarding::Off => self.forwarding.remove(&family),
        };
        self.step_where(now, session::Input::Forwarding(forwarding), out, |session| session.path().family() == family);
    }

    /// RFC 5880 section 6.8.17 leaves it to us what to do when something else says that the path is broken. Sessions over
    /// several hops may find another way.
    fn link_down(&mut self, now: Instant, interface: InterfaceIndex, out: &mut Outbox<Output<K>>) {
        self.step_where(now, session::Input::PathDown, out, |session| {
            session.interface() == Some(interface) && session.path().hops == Hops::Single
        });
    }

    fn tick(&mut self, now: Instant, out: &mut Outbox<Output<K>>) {
        let mut next = self.sessions.first_key_value().map(|(id, _)| *id);
        while let Some(id) = next {
            next = self.sessions.range(id..).nth(1).map(|(id, _)| *id);
            let deadline = self.sessions.get(&id).and_then(Entry::next_deadline);
            if deadline.is_some_and(|deadline| deadline <= now) {
                self.step(now, id, session::Input::Tick, out);
                self.close_what_is_done(now, id, out);
            }
        }
    }

    fn step_where(
        &mut self,
        now: Instant,
        input: session::Input<'_>,
        out: &mut Outbox<Output<K>>,
        concerns: impl Fn(&Session) -> bool,
    ) {
        let concerned = self.sessions.iter().filter(|(_, entry)| concerns(&entry.session));
        let ids: Vec<_> = concerned.map(|(id, _)| *id).collect();
        for id in ids {
            self.step(now, id, input.clone(), out);
        }
    }

    fn step(&mut self, now: Instant, id: Discriminator, input: session::Input<'_>, out: &mut Outbox<Output<K>>) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        let was_echo_wanted = entry.session.is_echo_wanted();
        entry.session.handle(now, input, &mut self.said);
        if was_echo_wanted && !entry.session.is_echo_wanted() {
            out.push(Output::StopEcho { session: id });
        }
        self.pass_on(id, out);
    }

    /// Turns what a session said into what the driver and the clients are told.
    fn pass_on(&mut self, id: Discriminator, out: &mut Outbox<Output<K>>) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        while let Some(said) = self.said.pop() {
            match said {
                session::Output::Control(packet) => {
                    out.push(Output::SendControl { session: id, path: *entry.session.path(), packet });
                }
                session::Output::Echo { local, interface, sequence } => {
                    let payload = EchoPacket { discriminator: id, sequence }.encode(&self.echo_key);
                    let datagram = EchoDatagram::new(local, &payload);
                    let remote = entry.session.path().remote;
                    out.push(Output::SendEcho { session: id, remote, interface, datagram });
                }
                session::Output::Changed(change) => {
                    if !entry.users.is_empty() {
                        entry.session.counters.notified();
                    }
                    let told = entry.users.keys().cloned();
                    told.for_each(|client| out.push(Output::Changed { client, change }));
                }
            }
        }
    }

    fn discard(&mut self, now: Instant, discard: Discard, source: Option<IpAddr>, out: &mut Outbox<Output<K>>) {
        let count = self.discards.entry(discard).or_insert(0);
        *count = count.saturating_add(1);
        let report = &mut self.discard_report;
        if report.last_at.is_some_and(|last_at| now.since(last_at) < DISCARD_REPORT_INTERVAL) {
            report.suppressed = report.suppressed.saturating_add(1);
            return;
        }
        report.last_at = Some(now);
        out.push(Output::Discarded { discard, source, more: std::mem::take(&mut report.suppressed) });
    }
}

impl<K: Ord + Clone> Entry<K> {
    fn next_deadline(&self) -> Option<Instant> {
        [self.session.next_deadline(), self.closes_at].into_iter().flatten().min()
    }

    /// `clients` is what has been there before.
    fn view(&self, mut clients: Vec<K>) -> SessionView<K> {
        let session = &self.session;
        if !clients.iter().eq(self.users.keys()) {
            clients.clear();
            clients.extend(self.users.keys().cloned());
        }
        SessionView {
            path: *session.path(),
            clients,
            profile: *session.profile(),
            local: session.local(),
            remote: session.remote().copied(),
            since: session.since(),
            last_down: session.last_down(),
            transmit_interval: session.transmit_interval(),
            detection_time: session.detection_time(),
            echo: session.echo_state(),
            counters: session.counters,
        }
    }
}

/// True when a packet that came so may begin a session over the path (RFC 5881 sections 3 and 6, RFC 5883 section 4.1).
fn is_path_of(path: &Path, arrival: &Arrival) -> bool {
    path.remote == arrival.source
        && path.hops == arrival.hops
        && path.vrf == arrival.vrf
        && path.local.is_none_or(|local| local == arrival.local)
        && path.interface.is_none_or(|interface| arrival.interface == Some(interface))
}

impl<K: Ord + Clone + std::fmt::Debug> Registry<K> {
    /// What must hold between any two inputs; tests and the simulator call it after each.
    ///
    /// # Panics
    ///
    /// When something does not hold.
    pub fn check_invariants(&self) {
        assert!(self.sessions.len() <= SESSIONS_MAX && self.clients.len() <= CLIENTS_MAX);
        assert_eq!(self.sessions.len(), self.by_path.len());
        assert!(self.said.is_empty() && self.said.dropped() == 0);
        let users: usize = self.sessions.values().map(|entry| entry.users.len()).sum();
        assert_eq!(users, self.clients.len());
        for (id, entry) in &self.sessions {
            let local = entry.session.local();
            assert_eq!(local.my_discriminator, *id);
            assert_eq!(self.by_path.get(entry.session.path()), Some(id));
            assert_eq!(entry.users.is_empty(), entry.closes_at.is_some(), "{}", entry.session.path());
            assert!(entry.users.keys().all(|client| self.clients.get(client) == Some(entry.session.path())));
            entry.session.check_invariants();
        }
    }
}

#[cfg(test)]
mod tests;
