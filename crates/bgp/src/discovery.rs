//! Unnumbered peering: who is the router at the other end of a link, found by Router Advertisements (RFC 4861 sections
//! 4.1, 4.2 and 6).
//!
//! Routers that peer like this (FRR's `neighbor eth0 interface`) know their neighbours by the advertisements that these
//! send, and nothing else. So we send some too, though we are no router for anybody: their lifetime is 0 (section 6.2.3),
//! which has no host use us. It knows no socket; checksums are the kernel's.

use std::net::Ipv6Addr;

use kit::{Duration, Instant, Outbox, Rng};

/// The outbox that a driver should give to [`Discovery::handle`], and empty after each call.
pub const DISCOVERY_OUTBOX_LIMIT: usize = 8;

/// Every node on the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Every router on the link.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// RFC 4861 section 4.1.
const ROUTER_SOLICITATION: u8 = 133;
/// RFC 4861 section 4.2.
const ROUTER_ADVERTISEMENT: u8 = 134;
/// RFC 4861 section 6.1.2.
const HOP_LIMIT: u8 = 255;
/// The fixed part of an advertisement.
const ADVERTISEMENT_LEN: usize = 16;

/// RFC 4861 section 10: MAX_RTR_SOLICITATIONS, and the time between them.
const SOLICITATIONS_MAX: u32 = 3;
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// RFC 4861 section 10: MIN_DELAY_BETWEEN_RAS, and how many of the first go out that soon.
const ADVERTISEMENT_INTERVAL_MIN: Duration = Duration::from_secs(3);
const ADVERTISEMENTS_SOON: u32 = 3;
/// Between later ones; FRR has the same for its unnumbered peers.
const ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(10);
/// Who was not heard from for this long makes room for another router: three advertisements were missed.
const SILENT_AFTER: Duration = Duration::from_secs(30);

/// What is known of the other end of one link.
#[derive(Debug)]
pub struct Discovery {
    rng: Rng,
    link: Option<Link>,
}

/// A link that is up.
#[derive(Debug)]
struct Link {
    /// The router, and when it was last heard.
    router: Option<(Ipv6Addr, Instant)>,
    session: Session,
    /// Messages so far, and when the next of each kind is due.
    solicitations: u32,
    solicit_at: Option<Instant>,
    advertisements: u32,
    advertise_at: Instant,
}

/// Whether the router that was found is the right one beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// There is none with it.
    Down,
    /// There is one.
    Established,
}

/// What a discovery is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryInput {
    /// The link can be used: it is up, and has a link-local address of ours.
    Up,
    /// It cannot, or it is another one now.
    Down,
    /// An ICMPv6 message with a valid checksum came in.
    Received {
        /// From this address.
        source: Ipv6Addr,
        /// With this hop limit.
        hop_limit: u8,
        /// From its type on.
        message: Vec<u8>,
    },
    /// The session with the router began or ended.
    Session(Session),
    /// The deadline may have come.
    Tick,
}

/// What a discovery wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryOutput {
    /// Send this ICMPv6 message over the link, with a hop limit of 255 and from our link-local address. Its checksum is 0.
    Send {
        /// To these.
        destination: Ipv6Addr,
        /// From its type on.
        message: Vec<u8>,
    },
    /// The router is at this address.
    Found(Ipv6Addr),
    /// The router that was found is of no use any more: the link is down.
    Lost,
}

impl Discovery {
    /// A link that is down.
    pub fn new(rng: Rng) -> Self {
        Discovery { rng, link: None }
    }

    /// The router that was found.
    pub fn router(&self) -> Option<Ipv6Addr> {
        self.link.as_ref()?.router.map(|(router, _)| router)
    }

    /// When [`DiscoveryInput::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let link = self.link.as_ref()?;
        Some(link.solicit_at.map_or(link.advertise_at, |at| at.min(link.advertise_at)))
    }

    /// Tells it something.
    pub fn handle(&mut self, now: Instant, input: DiscoveryInput, out: &mut Outbox<DiscoveryOutput>) {
        match input {
            DiscoveryInput::Up if self.link.is_none() => {
                self.link = Some(Link {
                    router: None,
                    session: Session::Down,
                    solicitations: 0,
                    solicit_at: Some(now),
                    advertisements: 0,
                    advertise_at: now,
                });
            }
            DiscoveryInput::Up | DiscoveryInput::Tick => {}
            DiscoveryInput::Down => {
                if self.link.take().is_some_and(|link| link.router.is_some()) {
                    out.push(DiscoveryOutput::Lost);
                }
            }
            DiscoveryInput::Session(session) => {
                if let Some(link) = &mut self.link {
                    link.session = session;
                }
            }
            DiscoveryInput::Received { source, hop_limit, message } => {
                if is_advertisement(source, hop_limit, &message)
                    && let Some(link) = &mut self.link
                {
                    link.heard(now, source, out);
                }
            }
        }
        self.say(now, out);
    }

    /// Sends what is due.
    fn say(&mut self, now: Instant, out: &mut Outbox<DiscoveryOutput>) {
        let Some(link) = &mut self.link else { return };
        if link.solicit_at.is_some_and(|at| at <= now) {
            link.solicitations = link.solicitations.saturating_add(1);
            let is_last = link.solicitations >= SOLICITATIONS_MAX;
            link.solicit_at = (!is_last).then_some(now + SOLICITATION_INTERVAL);
            out.push(DiscoveryOutput::Send { destination: ALL_ROUTERS, message: solicitation() });
        }
        if link.advertise_at <= now {
            link.advertisements = link.advertisements.saturating_add(1);
            let interval = if link.advertisements < ADVERTISEMENTS_SOON {
                ADVERTISEMENT_INTERVAL_MIN
            } else {
                // RFC 4861 section 6.2.4: at times that differ, so that routers do not fall into step.
                self.rng.jitter(ADVERTISEMENT_INTERVAL, 75, 100)
            };
            link.advertise_at = now + interval;
            out.push(DiscoveryOutput::Send { destination: ALL_NODES, message: advertisement() });
        }
    }
}

impl Link {
    /// The first router that is heard is the one. Another takes its place when it has been silent, unless a session
    /// shows that it is there.
    fn heard(&mut self, now: Instant, source: Ipv6Addr, out: &mut Outbox<DiscoveryOutput>) {
        self.solicit_at = None;
        match &mut self.router {
            Some((router, at)) if *router == source => *at = now,
            Some((_, at)) if self.session == Session::Established || now - *at < SILENT_AFTER => {}
            router => {
                *router = Some((source, now));
                out.push(DiscoveryOutput::Found(source));
            }
        }
    }
}

/// RFC 4861 section 6.1.2.
fn is_advertisement(source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> bool {
    let Some((fixed, options)) = message.split_at_checked(ADVERTISEMENT_LEN) else { return false };
    let [ROUTER_ADVERTISEMENT, 0, ..] = *fixed else { return false };
    source.is_unicast_link_local() && hop_limit == HOP_LIMIT && options_are_whole(options)
}

/// Every option has a length, and none goes beyond the end.
fn options_are_whole(mut options: &[u8]) -> bool {
    while let [_, length, ..] = *options {
        // In units of 8 bytes.
        match options.split_at_checked(usize::from(length) << 3) {
            Some((_, rest)) if length > 0 => options = rest,
            _ => return false,
        }
    }
    options.is_empty()
}

fn solicitation() -> Vec<u8> {
    vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]
}

/// All fields zero: no lifetime as a router, and nothing else is specified.
fn advertisement() -> Vec<u8> {
    let mut message = vec![0; ADVERTISEMENT_LEN];
    if let Some(kind) = message.first_mut() {
        *kind = ROUTER_ADVERTISEMENT;
    }
    message
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::{Expect, expect};
    use kit::Rng;
    use proptest::prelude::*;

    use super::*;

    const ROUTER: &str = "fe80::1";

    fn message(kind: u8, options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; ADVERTISEMENT_LEN];
        message[0] = kind;
        // A lifetime of half an hour, as a router for hosts has it.
        message[6] = 7;
        message.extend(options);
        message
    }

    fn from(source: &str) -> DiscoveryInput {
        let message = message(ROUTER_ADVERTISEMENT, &[1, 1, 2, 0, 0, 0, 0, 1]);
        DiscoveryInput::Received { source: source.parse().unwrap(), hop_limit: 255, message }
    }

    struct Bench {
        discovery: Discovery,
        now: Instant,
        out: Outbox<DiscoveryOutput>,
        said: String,
    }

    impl Bench {
        fn new() -> Bench {
            let out = Outbox::with_limit(DISCOVERY_OUTBOX_LIMIT);
            Bench { discovery: Discovery::new(Rng::new(1)), now: Instant::ZERO, out, said: String::new() }
        }

        fn tell(&mut self, input: DiscoveryInput) -> &mut Self {
            self.discovery.handle(self.now, input, &mut self.out);
            for output in self.out.drain() {
                let what = match output {
                    DiscoveryOutput::Send { destination, message } => format!("type {} to {destination}", message[0]),
                    DiscoveryOutput::Found(router) => format!("found {router}"),
                    DiscoveryOutput::Lost => "lost".to_owned(),
                };
                let time = std::time::Duration::from(self.now.since(Instant::ZERO)).as_secs_f64();
                writeln!(self.said, "{time:.1} {what}").unwrap();
            }
            assert_eq!(self.out.dropped(), 0);
            self
        }

        fn pass(&mut self, secs: u64) -> &mut Self {
            let until = self.now + Duration::from_secs(secs);
            while let Some(due) = self.discovery.next_deadline().filter(|due| *due <= until) {
                self.now = self.now.max(due);
                self.tell(DiscoveryInput::Tick);
            }
            self.now = until;
            self
        }

        /// What was found and lost.
        fn found(&mut self) -> String {
            let said = std::mem::take(&mut self.said);
            said.lines().filter(|line| !line.contains("type")).map(|line| format!("{line}\n")).collect()
        }
    }

    fn check(said: &str, expected: Expect) {
        expected.assert_eq(said);
    }

    #[test]
    fn rfc4861_6_2_4_and_6_3_7_the_first_messages_come_soon_and_the_others_at_times_that_differ() {
        let mut bench = Bench::new();
        bench.pass(10).tell(DiscoveryInput::Up).pass(40).tell(DiscoveryInput::Down).pass(60);
        check(
            &bench.said,
            expect![[r#"
            10.0 type 133 to ff02::2
            10.0 type 134 to ff02::1
            13.0 type 134 to ff02::1
            14.0 type 133 to ff02::2
            16.0 type 134 to ff02::1
            18.0 type 133 to ff02::2
            25.5 type 134 to ff02::1
            34.9 type 134 to ff02::1
            42.6 type 134 to ff02::1
        "#]],
        );
    }

    #[test]
    fn the_first_router_is_found_and_solicited_no_more() {
        let mut bench = Bench::new();
        bench.tell(from(ROUTER));
        assert_eq!(bench.said, "", "on a link that is down");
        bench.tell(DiscoveryInput::Up).pass(1).tell(from(ROUTER)).pass(10).tell(from(ROUTER)).pass(20);
        assert_eq!(bench.discovery.router(), ROUTER.parse().ok());
        assert_eq!(bench.said.matches("type 133").count(), 1);
        check(
            &bench.found(),
            expect![[r#"
            1.0 found fe80::1
        "#]],
        );
    }

    #[test]
    fn another_router_takes_the_place_of_one_that_is_silent() {
        let mut bench = Bench::new();
        bench.tell(DiscoveryInput::Up).tell(from(ROUTER));
        bench.pass(20).tell(from("fe80::2")).pass(9).tell(from("fe80::2")).pass(1).tell(from("fe80::2"));
        check(
            &bench.found(),
            expect![[r#"
            0.0 found fe80::1
            30.0 found fe80::2
        "#]],
        );
        // A session says more than silence.
        bench.tell(DiscoveryInput::Session(Session::Established)).pass(600).tell(from(ROUTER));
        assert_eq!(bench.found(), "");
        bench.tell(DiscoveryInput::Session(Session::Down)).tell(from(ROUTER));
        check(
            &bench.found(),
            expect![[r#"
            630.0 found fe80::1
        "#]],
        );
    }

    #[test]
    fn a_link_that_comes_back_begins_anew() {
        let mut bench = Bench::new();
        bench.tell(DiscoveryInput::Up).tell(from(ROUTER)).pass(1).tell(DiscoveryInput::Down).tell(DiscoveryInput::Down);
        bench.pass(1).tell(DiscoveryInput::Up).tell(DiscoveryInput::Up).tell(from("fe80::2"));
        check(
            &bench.found(),
            expect![[r#"
            0.0 found fe80::1
            1.0 lost
            2.0 found fe80::2
        "#]],
        );
    }

    #[test]
    fn rfc4861_6_1_2_what_is_no_valid_advertisement_is_discarded() {
        let good = message(ROUTER_ADVERTISEMENT, &[]);
        let mut code = good.clone();
        code[1] = 1;
        for (source, hop_limit, message) in [
            ("2001:db8::1", 255, good.clone()),
            ("fe80::1", 254, good.clone()),
            ("fe80::1", 255, code),
            ("fe80::1", 255, good[..15].to_vec()),
            ("fe80::1", 255, message(ROUTER_ADVERTISEMENT, &[1, 0, 0, 0, 0, 0, 0, 0])),
            ("fe80::1", 255, message(ROUTER_ADVERTISEMENT, &[1, 2, 0, 0, 0, 0, 0, 0])),
            ("fe80::1", 255, message(ROUTER_ADVERTISEMENT, &[1])),
            ("fe80::1", 255, message(ROUTER_SOLICITATION, &[])),
            ("fe80::1", 255, Vec::new()),
        ] {
            let mut bench = Bench::new();
            let source = source.parse().unwrap();
            bench.tell(DiscoveryInput::Up).tell(DiscoveryInput::Received { source, hop_limit, message });
            assert_eq!(bench.found(), "", "{source} {hop_limit}");
        }
    }

    #[test]
    fn rfc4861_6_2_3_ours_have_no_lifetime_as_a_router() {
        assert_eq!(advertisement(), [[134, 0, 0, 0], [0; 4], [0; 4], [0; 4]].concat());
        assert!(is_advertisement(ROUTER.parse().unwrap(), 255, &advertisement()), "we believe ourselves");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(message in proptest::collection::vec(any::<u8>(), 0..100), hop_limit: u8) {
            let mut bench = Bench::new();
            let source = ROUTER.parse().unwrap();
            bench.tell(DiscoveryInput::Up).tell(DiscoveryInput::Received { source, hop_limit, message });
        }
    }
}
