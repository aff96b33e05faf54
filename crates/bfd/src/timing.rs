//! Intervals and how they change: the rules of RFC 5880 sections 6.5, 6.8.2, 6.8.3 and 6.8.7 as numbers, without a clock.

use kit::{Duration, Instant, Rng};

use crate::wire::State;

/// What is offered while a session is not up is at least this (RFC 5880 section 6.8.3).
pub(crate) const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Our part of the negotiation: bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) desired_min_tx: Duration,
    pub(crate) required_min_rx: Duration,
}

/// What we offer, what is in force of it, and the Poll Sequence that makes the two the same.
///
/// While a session is up, two changes wait until the neighbour has confirmed them: sending less often, and expecting
/// packets more often. Everything else holds at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Negotiation {
    /// What our packets say.
    offered: Offer,
    /// What our timers use.
    in_force: Offer,
    poll: Poll,
    /// Another sequence has to follow, for something that came up while one ran.
    poll_again: bool,
}

/// A Poll Sequence (RFC 5880 section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    Idle,
    /// Our packets carry the Poll bit.
    Active,
    /// The neighbour has answered. Another answer may be on the way, so the next sequence waits for a packet without
    /// the Final bit (RFC 5880 section 6.8.3, third choice).
    Settling,
}

impl Negotiation {
    pub(crate) fn new(offer: Offer) -> Self {
        Negotiation { offered: offer, in_force: offer, poll: Poll::Idle, poll_again: false }
    }

    pub(crate) fn offered(&self) -> Offer {
        self.offered
    }

    pub(crate) fn is_polling(&self) -> bool {
        self.poll == Poll::Active
    }

    /// What we want while the state stays what it is. A change that needs a Poll Sequence waits while one runs, so that
    /// each answer is to one question only.
    pub(crate) fn want(&mut self, wanted: Offer, state: State) {
        if wanted == self.offered {
            return;
        }
        if state != State::Up {
            self.begin(wanted);
        } else if self.poll == Poll::Idle {
            let Offer { desired_min_tx, required_min_rx } = wanted;
            self.in_force.desired_min_tx = self.in_force.desired_min_tx.min(desired_min_tx);
            self.in_force.required_min_rx = self.in_force.required_min_rx.max(required_min_rx);
            self.offered = wanted;
            self.poll = Poll::Active;
        }
    }

    /// Asks the neighbour to confirm the next packet, whatever is in it.
    pub(crate) fn poll(&mut self) {
        match self.poll {
            Poll::Idle => self.poll = Poll::Active,
            Poll::Active | Poll::Settling => self.poll_again = true,
        }
    }

    /// What we want from now on, because the state has just changed. It holds at once, also when a Poll Sequence runs:
    /// into Up we only begin to send more often, and otherwise the session is not up, so that nothing has to wait.
    pub(crate) fn begin(&mut self, wanted: Offer) {
        if wanted != self.offered {
            self.poll = Poll::Active;
        }
        self.offered = wanted;
        self.in_force = wanted;
    }

    /// A packet came, with or without the Final bit.
    pub(crate) fn received(&mut self, is_final: bool) {
        match (self.poll, is_final) {
            (Poll::Active, true) => {
                self.poll = Poll::Settling;
                self.in_force = self.offered;
            }
            (Poll::Settling, false) if std::mem::take(&mut self.poll_again) => self.poll = Poll::Active,
            (Poll::Settling, false) => self.poll = Poll::Idle,
            _ => {}
        }
    }

    /// The interval between our packets: the slower side decides (RFC 5880 section 6.8.7).
    pub(crate) fn transmit_interval(&self, remote_required_min_rx: Duration) -> Duration {
        self.in_force.desired_min_tx.max(remote_required_min_rx)
    }

    /// The interval between the neighbour's packets (RFC 5880 section 6.8.4).
    pub(crate) fn receive_interval(&self, remote_desired_min_tx: Duration) -> Duration {
        self.in_force.required_min_rx.max(remote_desired_min_tx)
    }
}

/// The time until the next periodic packet: up to a quarter less than the interval, and for a multiplier of 1 at least a
/// tenth less, because then no packet may come late (RFC 5880 section 6.8.7).
pub(crate) fn jittered(interval: Duration, detect_multiplier: u8, random: &mut Rng) -> Duration {
    random.jitter(interval, 75, if detect_multiplier == 1 { 90 } else { 100 })
}

/// One extension of a deadline by which something must be heard.
///
/// Who looks long after the deadline was asleep: the program, or the whole machine. Packets that came meanwhile were read
/// before, but some may still be on their way through the network card and the kernel. So the first late look grants one
/// interval more instead of a verdict. Looks in time never do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Grace(Option<Instant>);

impl Grace {
    /// The deadline with the extension, if there is one.
    pub(crate) fn deadline(&self, deadline: Instant) -> Instant {
        self.0.map_or(deadline, |until| until.max(deadline))
    }

    /// True when time is up. A look counts as late after a quarter of the interval between packets.
    pub(crate) fn has_expired(&mut self, now: Instant, deadline: Instant, interval: Duration) -> bool {
        let deadline = self.deadline(deadline);
        if now < deadline {
            return false;
        }
        if self.0.is_none() && now.since(deadline) > interval.divided_by(4) {
            self.0 = Some(now + interval);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(tx_ms: u64, rx_ms: u64) -> Offer {
        Offer { desired_min_tx: Duration::from_millis(tx_ms), required_min_rx: Duration::from_millis(rx_ms) }
    }

    /// Offered and in force, in milliseconds, and whether a poll runs.
    fn seen(negotiation: &Negotiation) -> ((u64, u64), (u64, u64), bool) {
        let pair = |offer: Offer| (offer.desired_min_tx.as_millis(), offer.required_min_rx.as_millis());
        (pair(negotiation.offered), pair(negotiation.in_force), negotiation.is_polling())
    }

    #[test]
    fn rfc5880_6_8_3_sending_less_often_waits_for_the_final() {
        let mut negotiation = Negotiation::new(offer(50, 50));
        negotiation.want(offer(300, 50), State::Up);
        assert_eq!(seen(&negotiation), ((300, 50), (50, 50), true));
        negotiation.received(false);
        assert_eq!(seen(&negotiation), ((300, 50), (50, 50), true));
        negotiation.received(true);
        assert_eq!(seen(&negotiation), ((300, 50), (300, 50), false));
    }

    #[test]
    fn rfc5880_6_8_3_expecting_packets_more_often_waits_for_the_final() {
        let mut negotiation = Negotiation::new(offer(300, 300));
        negotiation.want(offer(300, 50), State::Up);
        assert_eq!(seen(&negotiation), ((300, 50), (300, 300), true));
        negotiation.received(true);
        assert_eq!(seen(&negotiation), ((300, 50), (300, 50), false));
    }

    #[test]
    fn rfc5880_6_8_3_every_other_change_holds_at_once() {
        let mut negotiation = Negotiation::new(offer(300, 50));
        negotiation.want(offer(50, 300), State::Up);
        assert_eq!(seen(&negotiation), ((50, 300), (50, 300), true));
        for state in [State::AdminDown, State::Down, State::Init] {
            let mut negotiation = Negotiation::new(offer(50, 300));
            negotiation.want(offer(300, 50), state);
            assert_eq!(seen(&negotiation), ((300, 50), (300, 50), true), "{state}");
        }
    }

    #[test]
    fn rfc5880_6_8_3_a_second_change_waits_for_a_packet_without_final() {
        let mut negotiation = Negotiation::new(offer(50, 50));
        negotiation.want(offer(300, 50), State::Up);
        negotiation.want(offer(400, 50), State::Up);
        assert_eq!(seen(&negotiation), ((300, 50), (50, 50), true));
        negotiation.received(true);
        negotiation.want(offer(400, 50), State::Up);
        assert_eq!(seen(&negotiation), ((300, 50), (300, 50), false));
        // The answer to a poll that was sent twice is not the answer to the next one.
        negotiation.received(true);
        negotiation.want(offer(400, 50), State::Up);
        assert_eq!(seen(&negotiation), ((300, 50), (300, 50), false));
        negotiation.received(false);
        negotiation.want(offer(400, 50), State::Up);
        assert_eq!(seen(&negotiation), ((400, 50), (300, 50), true));
    }

    #[test]
    fn nothing_is_polled_when_nothing_changes() {
        let mut negotiation = Negotiation::new(offer(50, 50));
        negotiation.want(offer(50, 50), State::Up);
        negotiation.begin(offer(50, 50));
        assert!(!negotiation.is_polling());
    }

    #[test]
    fn a_late_look_grants_one_interval_once_and_a_look_in_time_none() {
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        let (deadline, interval) = (at(150), Duration::from_millis(40));
        assert!(!Grace::default().has_expired(at(149), deadline, interval));
        assert!(Grace::default().has_expired(at(150), deadline, interval));
        assert!(Grace::default().has_expired(at(160), deadline, interval), "a quarter is not late yet");
        let mut grace = Grace::default();
        assert!(!grace.has_expired(at(161), deadline, interval));
        assert_eq!(grace.deadline(deadline), at(201));
        assert!(!grace.has_expired(at(200), deadline, interval));
        assert!(grace.has_expired(at(500), deadline, interval), "late again");
    }

    #[test]
    fn rfc5880_6_8_7_the_slower_side_decides() {
        let negotiation = Negotiation::new(offer(50, 60));
        assert_eq!(negotiation.transmit_interval(Duration::from_millis(40)), Duration::from_millis(50));
        assert_eq!(negotiation.transmit_interval(Duration::from_millis(70)), Duration::from_millis(70));
        assert_eq!(negotiation.receive_interval(Duration::from_millis(40)), Duration::from_millis(60));
        assert_eq!(negotiation.receive_interval(Duration::from_millis(70)), Duration::from_millis(70));
    }

    #[test]
    fn rfc5880_6_8_7_jitter_is_up_to_a_quarter_and_for_multiplier_1_at_least_a_tenth() {
        let mut random = Rng::new(1);
        for (multiplier, latest) in [(1, 90), (2, 100), (3, 100), (255, 100)] {
            let spans: Vec<u64> = (0..20_000)
                .map(|_| jittered(Duration::from_millis(100), multiplier, &mut random).as_micros())
                .collect();
            let (low, high) = (*spans.iter().min().unwrap(), *spans.iter().max().unwrap());
            assert!((75_000..75_100).contains(&low), "{multiplier}: {low}");
            assert!((latest * 1000 - 100..=latest * 1000).contains(&high), "{multiplier}: {high}");
        }
    }
}
