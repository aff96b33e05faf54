//! One session: the state machine and the timers of RFC 5880 section 6.8.
//!
//! It gets packets that were found to be its own; how they are found is known to the registry. Where the RFC has a
//! variable for something that the neighbour said last, here is the neighbour's last packet.

use std::net::IpAddr;

use kit::{Duration, Instant, InterfaceIndex, Outbox, Rng};

use crate::echo::{Echo, EchoState, Return};
use crate::profile::{is_link_local, limited};
use crate::timing::{Grace, Negotiation, Offer, SLOW_INTERVAL, jittered};
use crate::wire::{ControlPacket, Diagnostic, Discriminator, State};
use crate::{Arrival, Change, Counters, DownReason, EchoMode, Forwarding, Hops, Path, Profile, Role};

/// What is said about echo packets over several hops, where there are none (RFC 5883 section 3): FRR's default, which
/// MetalLB's users see at their routers (contract 10.3).
const ECHO_INTERVAL_MULTI_HOP: Duration = Duration::from_millis(50);

/// How long a session stays down when echo packets do not return (RFC 5880 section 6.8.18). They can be tried again only
/// when it is up, and that should not make what runs over it begin and end several times a second.
const ECHO_HOLD_DOWN: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Session {
    path: Path,
    profile: Profile,
    forwarding: Forwarding,
    discriminator: Discriminator,
    state: State,
    diagnostic: Diagnostic,
    /// The neighbour. Nothing is left of it when it was silent for a detection time: bfd.RemoteDiscr must be zero then
    /// (RFC 5880 section 6.8.1), and the rest is as old.
    remote: Option<Remote>,
    negotiation: Negotiation,
    transmission: Transmission,
    echo: Echo,
    /// The neighbour that has returned echo packets before, by its discriminator, which is another after a restart.
    echo_returner: Option<Discriminator>,
    /// Until then it stays down.
    held_until: Instant,
    random: Rng,
    since: Instant,
    last_down: Option<DownReason>,
    pub(crate) counters: Counters,
}

/// The neighbour as its last packet shows it.
#[derive(Clone, Debug)]
struct Remote {
    packet: ControlPacket,
    heard_at: Instant,
    grace: Grace,
    /// Our address that it was sent to.
    local: IpAddr,
    /// Where it came in.
    interface: Option<InterfaceIndex>,
}

/// Our periodic packets.
#[derive(Clone, Debug)]
struct Transmission {
    /// The last packet of any kind.
    last: Option<ControlPacket>,
    /// When the last packet went out that was not an answer to a poll.
    last_at: Option<Instant>,
    /// The interval that `next_at` was made of.
    interval: Option<Duration>,
    next_at: Option<Instant>,
}

/// What a packet is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// It is time, or something has changed.
    Tell,
    /// The neighbour polls.
    Answer,
}

#[derive(Clone, Debug)]
pub(crate) enum Input<'a> {
    Packet {
        packet: &'a ControlPacket,
        arrival: &'a Arrival,
    },
    Profile(Profile),
    Forwarding(Forwarding),
    /// The path is known to be broken; try again.
    PathDown,
    /// Go administratively down, and stay there.
    Disable,
    /// Begin again after that.
    Enable,
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Control(ControlPacket),
    Echo { local: IpAddr, interface: InterfaceIndex, sequence: u64 },
    Changed(Change),
}

impl State {
    /// The state after a packet from a neighbour in state `remote` (RFC 5880 sections 6.2 and 6.8.6).
    const fn after(self, remote: State) -> State {
        match (self, remote) {
            (State::AdminDown, _) => State::AdminDown,
            (_, State::AdminDown) => State::Down,
            (State::Down, State::Down) => State::Init,
            (State::Down, State::Init) => State::Up,
            (State::Down, State::Up) => State::Down,
            (State::Init, State::Down) => State::Init,
            (State::Init, State::Init | State::Up) => State::Up,
            (State::Up, State::Down) => State::Down,
            (State::Up, State::Init | State::Up) => State::Up,
        }
    }
}

impl Session {
    pub(crate) fn new(
        now: Instant,
        path: Path,
        profile: Profile,
        forwarding: Forwarding,
        discriminator: Discriminator,
        random: Rng,
    ) -> Self {
        let mut session = Session {
            path,
            profile,
            forwarding,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::None,
            remote: None,
            negotiation: Negotiation::new(Offer { desired_min_tx: SLOW_INTERVAL, required_min_rx: SLOW_INTERVAL }),
            transmission: Transmission { last: None, last_at: None, interval: None, next_at: None },
            echo: Echo::new(),
            echo_returner: None,
            held_until: now,
            random,
            since: now,
            last_down: None,
            counters: Counters::default(),
        };
        session.negotiation = Negotiation::new(session.wanted());
        session.transmission_schedule(now);
        session
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox<Output>) {
        let mut answer = None;
        match input {
            Input::Packet { packet, arrival } => answer = self.packet(now, packet, arrival, out),
            Input::Profile(profile) => self.profile = profile,
            Input::Forwarding(forwarding) => self.forwarding = forwarding,
            Input::PathDown if matches!(self.state, State::Init | State::Up) => {
                self.change(now, State::Down, Some(DownReason::PathDown), out);
            }
            Input::Disable if self.state != State::AdminDown => {
                self.change(now, State::AdminDown, Some(DownReason::AdminDown), out);
            }
            Input::Enable if self.state == State::AdminDown => self.change(now, State::Down, None, out),
            Input::PathDown | Input::Disable | Input::Enable => {}
            Input::Tick => self.expire(now, out),
        }
        self.settle(now, answer, out);
    }

    /// An echo packet of ours came back.
    pub(crate) fn echo_returned(&mut self, now: Instant, sequence: u64, out: &mut Outbox<Output>) -> Return {
        let returned = self.echo.returned(sequence);
        if returned == Return::Counted {
            self.echo_returner = self.remote().map(|packet| packet.my_discriminator);
            self.counters.echo_packet_input = self.counters.echo_packet_input.saturating_add(1);
        }
        self.settle(now, None, out);
        returned
    }

    /// The echo packet that was just said to be sent did not go out.
    pub(crate) fn echo_unsent(&mut self) {
        self.echo.unsent();
        self.counters.echo_packet_output = self.counters.echo_packet_output.saturating_sub(1);
    }

    /// True when echo packets are sent as soon and as long as it is possible.
    pub(crate) fn is_echo_wanted(&self) -> bool {
        self.profile.echo == EchoMode::On && self.path.hops == Hops::Single
    }

    /// Brings everything in line with what has changed, and sends what is to be sent.
    fn settle(&mut self, now: Instant, answer: Option<Purpose>, out: &mut Outbox<Output>) {
        match self.echo_interval() {
            Some((interval, state)) => self.echo.run(now, interval, state),
            None => self.echo.stop(),
        }
        self.negotiation.want(self.wanted(), self.state);
        if self.is_demand_active() && self.is_news() {
            self.negotiation.poll();
        }
        if let Some(purpose) = answer {
            self.transmit(now, purpose, out);
        }
        self.transmission_schedule(now);
        self.transmit_what_is_due(now, out);
    }

    /// When [`Input::Tick`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let echo = self.echo.next_deadline(self.profile.detect_multiplier.get());
        [self.transmission.next_at, self.detection_deadline(), echo].into_iter().flatten().min()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn profile(&self) -> &Profile {
        &self.profile
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn last_down(&self) -> Option<DownReason> {
        self.last_down
    }

    pub(crate) fn echo_state(&self) -> EchoState {
        self.echo.state()
    }

    /// The neighbour's last packet.
    pub(crate) fn remote(&self) -> Option<&ControlPacket> {
        self.remote.as_ref().map(|remote| &remote.packet)
    }

    /// The interface that the session runs over, as far as it is known.
    pub(crate) fn interface(&self) -> Option<InterfaceIndex> {
        self.path.interface.or_else(|| self.remote.as_ref()?.interface)
    }

    /// The packet that would be sent now, as an ordinary one (RFC 5880 section 6.8.7).
    pub(crate) fn local(&self) -> ControlPacket {
        let offered = self.negotiation.offered();
        ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: false,
            final_bit: false,
            // We share a process with BGP, and end when it ends.
            control_plane_independent: false,
            demand: false,
            detect_multiplier: self.profile.detect_multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote().map(|packet| packet.my_discriminator),
            desired_min_tx: offered.desired_min_tx,
            required_min_rx: offered.required_min_rx,
            required_min_echo_rx: self.required_min_echo_rx(),
        }
    }

    /// The shortest interval at which we return the neighbour's echo packets; zero if we do not.
    pub(crate) fn required_min_echo_rx(&self) -> Duration {
        match (self.forwarding, self.path.hops) {
            (Forwarding::Off, _) => Duration::ZERO,
            (Forwarding::On, Hops::Single) => limited(self.profile.echo_interval),
            (Forwarding::On, Hops::Multi) => ECHO_INTERVAL_MULTI_HOP,
        }
    }

    /// The interval between our periodic packets before jitter; `None` while there must be none (RFC 5880 section 6.8.7).
    pub(crate) fn transmit_interval(&self) -> Option<Duration> {
        let Some(Remote { packet, .. }) = &self.remote else {
            // Nothing is known of the neighbour: its interval counts as 1 µs (RFC 5880 section 6.8.1).
            let interval = self.negotiation.transmit_interval(Duration::from_micros(1));
            return (self.profile.role == Role::Active).then_some(interval);
        };
        if packet.required_min_rx.is_zero() || (self.is_demand_active() && !self.negotiation.is_polling()) {
            return None;
        }
        Some(self.negotiation.transmit_interval(packet.required_min_rx))
    }

    /// True while the neighbour wants no periodic packets (RFC 5880 sections 6.6 and 6.8.6).
    fn is_demand_active(&self) -> bool {
        let remote = self.remote();
        self.state == State::Up && remote.is_some_and(|packet| packet.demand && packet.state == State::Up)
    }

    /// True when the next packet says something else than the last one.
    fn is_news(&self) -> bool {
        self.transmission.last.is_some_and(|last| last.without_poll_and_final() != self.local())
    }

    /// How long the neighbour may be silent (RFC 5880 section 6.8.4).
    pub(crate) fn detection_time(&self) -> Option<Duration> {
        let packet = self.remote()?;
        Some(self.receive_interval(packet).times(packet.detect_multiplier.get().into()))
    }

    fn receive_interval(&self, packet: &ControlPacket) -> Duration {
        self.negotiation.receive_interval(packet.desired_min_tx)
    }

    fn detection_deadline(&self) -> Option<Instant> {
        let remote = self.remote.as_ref()?;
        Some(remote.grace.deadline(remote.heard_at + self.detection_time()?))
    }

    /// Our offer in the present state. That echo packets return does not change it, though RFC 5880 section 6.8.3 thinks it
    /// should: the neighbour's operator sees the configured intervals, as with FRR (contract 10.3), and both ways of
    /// noticing a failure stay as fast as they are configured.
    fn wanted(&self) -> Offer {
        let desired_min_tx = limited(self.profile.transmit_interval);
        Offer {
            // RFC 5880 section 6.8.3: at least a second unless the session is up.
            desired_min_tx: if self.state == State::Up { desired_min_tx } else { desired_min_tx.max(SLOW_INTERVAL) },
            required_min_rx: limited(self.profile.receive_interval),
        }
    }

    /// The interval of our echo packets, and how they begin; `None` while there must be none (RFC 5880 section 6.8.9, RFC
    /// 5881 section 4).
    fn echo_interval(&self) -> Option<(Duration, EchoState)> {
        let remote = self.remote.as_ref()?;
        let is_possible = self.is_echo_wanted()
            && self.state == State::Up
            && !remote.packet.required_min_echo_rx.is_zero()
            // A link-local address is not forwarded, so it does not come back.
            && !is_link_local(&remote.local)
            && self.interface().is_some();
        let interval = limited(self.profile.echo_interval).max(remote.packet.required_min_echo_rx);
        let has_returned = self.echo_returner == Some(remote.packet.my_discriminator);
        is_possible.then_some((interval, if has_returned { EchoState::Active } else { EchoState::Probing }))
    }

    /// A packet of the neighbour (RFC 5880 section 6.8.6, from the choice of the session on).
    fn packet(
        &mut self,
        now: Instant,
        packet: &ControlPacket,
        arrival: &Arrival,
        out: &mut Outbox<Output>,
    ) -> Option<Purpose> {
        self.counters.control_packet_input = self.counters.control_packet_input.saturating_add(1);
        let heard_before = self.remote.as_ref().map_or(arrival.received_at, |remote| remote.heard_at);
        self.remote = Some(Remote {
            packet: *packet,
            heard_at: heard_before.max(arrival.received_at),
            grace: Grace::default(),
            local: arrival.local,
            interface: arrival.interface,
        });
        self.negotiation.received(packet.final_bit);
        if self.state == State::AdminDown {
            return None;
        }
        let next = match self.state {
            State::Down if now < self.held_until => State::Down,
            state => state.after(packet.state),
        };
        if next == State::Down && self.state != State::Down {
            let reason = match packet.state {
                State::AdminDown => DownReason::NeighborAdminDown,
                _ => DownReason::NeighborSignaledDown(packet.diagnostic),
            };
            self.change(now, next, Some(reason), out);
        } else if next != self.state {
            self.change(now, next, None, out);
        }
        packet.poll.then_some(Purpose::Answer)
    }

    /// What has not come in time (RFC 5880 sections 6.8.1, 6.8.4 and 6.8.5).
    fn expire(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if self.echo.has_failed(now, self.profile.detect_multiplier.get()) {
            self.held_until = now + ECHO_HOLD_DOWN;
            self.change(now, State::Down, Some(DownReason::EchoFailed), out);
        }
        let Some(detection_time) = self.detection_time() else { return };
        let Some(remote) = &mut self.remote else { return };
        let interval = self.negotiation.receive_interval(remote.packet.desired_min_tx);
        if !remote.grace.has_expired(now, remote.heard_at + detection_time, interval) {
            return;
        }
        self.remote = None;
        if matches!(self.state, State::Init | State::Up) {
            self.change(now, State::Down, Some(DownReason::DetectionExpired), out);
        }
    }

    fn change(&mut self, now: Instant, state: State, reason: Option<DownReason>, out: &mut Outbox<Output>) {
        let before = std::mem::replace(&mut self.state, state);
        self.since = now;
        self.diagnostic = reason.map_or(Diagnostic::None, diagnostic);
        if state == State::Up {
            self.counters.session_up_events = self.counters.session_up_events.saturating_add(1);
            out.push(Output::Changed(Change::Up));
        }
        if let (State::Up, Some(reason)) = (before, reason) {
            self.last_down = Some(reason);
            self.counters.session_down_events = self.counters.session_down_events.saturating_add(1);
            out.push(Output::Changed(Change::Down(reason)));
        }
        // RFC 5880 section 6.8.9.
        self.echo.stop();
        self.negotiation.begin(self.wanted());
    }

    /// Keeps the timer of periodic packets at the interval in force. A new interval counts from the last packet on, so a
    /// shorter one holds at once (RFC 5880 section 6.8.3).
    fn transmission_schedule(&mut self, now: Instant) {
        let interval = self.transmit_interval();
        if interval == self.transmission.interval {
            return;
        }
        self.transmission.interval = interval;
        self.transmission.next_at = interval.map(|interval| match self.transmission.last_at {
            Some(last_at) => now.max(last_at + self.jittered(interval)),
            None => now,
        });
    }

    fn jittered(&mut self, interval: Duration) -> Duration {
        jittered(interval, self.profile.detect_multiplier.get(), &mut self.random)
    }

    fn transmit_what_is_due(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let is_due = self.transmission.next_at.is_some_and(|next_at| next_at <= now);
        // A passive side says nothing to a neighbour that it does not hear (RFC 5880 section 6.8.7).
        let may_speak = self.remote.is_some() || self.profile.role == Role::Active;
        // RFC 5880 section 6.8.7: a packet with something new SHOULD not wait for its time.
        if is_due || (self.is_news() && may_speak) {
            self.transmit(now, Purpose::Tell, out);
        }
        if let (Some(sequence), Some(Remote { local, .. }), Some(interface)) =
            (self.echo.due(now, &mut self.random), &self.remote, self.interface())
        {
            self.counters.echo_packet_output = self.counters.echo_packet_output.saturating_add(1);
            out.push(Output::Echo { local: *local, interface, sequence });
        }
    }

    fn transmit(&mut self, now: Instant, purpose: Purpose, out: &mut Outbox<Output>) {
        // RFC 5880 section 6.5: never both bits, and the answer to a poll asks nothing.
        let is_answer = purpose == Purpose::Answer;
        let poll = !is_answer && self.negotiation.is_polling();
        let packet = ControlPacket { poll, final_bit: is_answer, ..self.local() };
        self.transmission.last = Some(packet);
        if purpose == Purpose::Tell {
            self.transmission.last_at = Some(now);
            self.transmission.interval = self.transmit_interval();
            self.transmission.next_at = self.transmission.interval.map(|interval| now + self.jittered(interval));
        }
        self.counters.control_packet_output = self.counters.control_packet_output.saturating_add(1);
        out.push(Output::Control(packet));
    }
}

/// What the neighbour is told about a reason.
fn diagnostic(reason: DownReason) -> Diagnostic {
    match reason {
        DownReason::DetectionExpired => Diagnostic::DetectionExpired,
        DownReason::EchoFailed => Diagnostic::EchoFailed,
        DownReason::NeighborSignaledDown(_) | DownReason::NeighborAdminDown => Diagnostic::NeighborSignaledDown,
        DownReason::PathDown => Diagnostic::PathDown,
        DownReason::AdminDown => Diagnostic::AdministrativelyDown,
    }
}

impl Session {
    /// What must hold between any two inputs.
    pub(crate) fn check_invariants(&self) {
        let offered = self.negotiation.offered();
        assert!(offered.desired_min_tx >= SLOW_INTERVAL || self.state == State::Up, "RFC 5880 6.8.3");
        assert!(self.state == State::Up || self.echo.state() == EchoState::Off, "RFC 5880 6.8.9");
        assert_eq!(self.transmission.next_at.is_some(), self.transmit_interval().is_some(), "RFC 5880 6.8.7");
        assert_eq!(self.detection_deadline().is_some(), self.remote.is_some());
        assert!(self.remote.is_some() || !matches!(self.state, State::Init | State::Up), "{} unheard", self.state);
    }
}

#[cfg(test)]
mod tests;
