//! The series of BFD (contract 8.4), with the names and labels that MetalLB's FRR mode has, and a few of ours.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::family::{self, Family, flag, number};
use super::speaker::DEFAULT_VRF;
use super::{Metrics, Origin, Text};

/// What is known of BFD when a scrape comes; a speaker that watches no path has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BfdReport {
    /// The sessions. Of two with the same labels the last counts.
    pub sessions: Vec<BfdSession>,
    /// How many packets were discarded, by reason. The reasons are names in the code.
    pub discarded: BTreeMap<&'static str, u64>,
    /// The longest time that something due had to wait for the processor.
    pub delay_max: Duration,
}

/// A session, since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdSession {
    /// The neighbour.
    pub peer: IpAddr,
    /// The VRF it is in, if it is in one.
    pub vrf: Option<String>,
    /// Packets pass in both directions.
    pub is_up: bool,
    /// Control packets received.
    pub control_packet_input: u64,
    /// Control packets sent.
    pub control_packet_output: u64,
    /// Echo packets that came back.
    pub echo_packet_input: u64,
    /// Echo packets sent.
    pub echo_packet_output: u64,
    /// How often it came up.
    pub session_up_events: u64,
    /// How often it went down.
    pub session_down_events: u64,
    /// How often BGP was told something new.
    pub zebra_notifications: u64,
}

const fn of_session(family: Family<BfdSession, 0>) -> Family<BfdSession, 2> {
    family.by(["peer", "vrf"])
}

const fn counter(name: &'static str, help: &'static str, value: fn(&BfdSession) -> f64) -> Family<BfdSession, 2> {
    of_session(Family::counter(Origin::Frr, name, help, value))
}

pub(super) const SESSIONS: [Family<BfdSession, 2>; 8] = [
    of_session(Family::gauge(
        Origin::Frr,
        "metallb_bfd_session_up",
        "1 if packets pass between this node and the peer in both directions.",
        |session| flag(session.is_up),
    )),
    counter("metallb_bfd_control_packet_input", "Number of BFD control packets received.", |session| {
        number(session.control_packet_input)
    }),
    counter("metallb_bfd_control_packet_output", "Number of BFD control packets sent.", |session| {
        number(session.control_packet_output)
    }),
    counter("metallb_bfd_echo_packet_input", "Number of BFD echo packets that came back.", |session| {
        number(session.echo_packet_input)
    }),
    counter("metallb_bfd_echo_packet_output", "Number of BFD echo packets sent.", |session| {
        number(session.echo_packet_output)
    }),
    counter("metallb_bfd_session_up_events", "Number of times that the BFD session came up.", |session| {
        number(session.session_up_events)
    }),
    counter("metallb_bfd_session_down_events", "Number of times that the BFD session went down.", |session| {
        number(session.session_down_events)
    }),
    counter("metallb_bfd_zebra_notifications", "Number of times that BGP was told of the BFD session.", |session| {
        number(session.zebra_notifications)
    }),
];

pub(super) const DISCARDED: [Family<u64, 1>; 1] = [Family::counter(
    Origin::Ours,
    "metallb_bfd_packets_discarded_total",
    "Number of BFD packets received that were discarded, by reason.",
    |count| number(*count),
)
.by(["reason"])];

pub(super) const THREAD: [Family<BfdReport, 0>; 1] = [Family::gauge(
    Origin::Ours,
    "metallb_bfd_delay_max_seconds",
    "Longest time that BFD had to wait for the processor. Near an interval times its multiplier, sessions fail without a reason.",
    |report| report.delay_max.as_secs_f64(),
)];

impl Metrics for BfdReport {
    fn write(&self, text: &mut Text) {
        let labels = |session: &BfdSession| {
            [session.peer.to_string(), session.vrf.clone().unwrap_or_else(|| DEFAULT_VRF.to_owned())]
        };
        let sessions: BTreeMap<[String; 2], &BfdSession> =
            self.sessions.iter().map(|session| (labels(session), session)).collect();
        family::write(text, &SESSIONS, |row| {
            for ([peer, vrf], session) in &sessions {
                row([peer, vrf], session);
            }
        });
        family::write(text, &DISCARDED, |row| {
            for (reason, count) in &self.discarded {
                row([reason], count);
            }
        });
        family::write_one(text, &THREAD, self);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::render;
    use super::*;

    #[test]
    fn contract_8_4_labels_of_sessions_are_an_address_and_a_vrf() {
        let session = |peer: &str, vrf: Option<&str>| BfdSession {
            peer: peer.parse().unwrap(),
            vrf: vrf.map(str::to_owned),
            is_up: true,
            control_packet_input: 1,
            control_packet_output: 2,
            echo_packet_input: 3,
            echo_packet_output: 4,
            session_up_events: 5,
            session_down_events: 6,
            zebra_notifications: 7,
        };
        let report = BfdReport {
            sessions: vec![session("192.0.2.1", None), session("fe80::1", Some("red"))],
            discarded: BTreeMap::from([("ttlSingleHop", 8)]),
            delay_max: Duration::from_millis(9),
        };
        let text = render(&[&report]);
        let text: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        expect![[r#"
            metallb_bfd_session_up{peer="192.0.2.1",vrf="default"} 1
            metallb_bfd_session_up{peer="fe80::1",vrf="red"} 1
            metallb_bfd_control_packet_input{peer="192.0.2.1",vrf="default"} 1
            metallb_bfd_control_packet_input{peer="fe80::1",vrf="red"} 1
            metallb_bfd_control_packet_output{peer="192.0.2.1",vrf="default"} 2
            metallb_bfd_control_packet_output{peer="fe80::1",vrf="red"} 2
            metallb_bfd_echo_packet_input{peer="192.0.2.1",vrf="default"} 3
            metallb_bfd_echo_packet_input{peer="fe80::1",vrf="red"} 3
            metallb_bfd_echo_packet_output{peer="192.0.2.1",vrf="default"} 4
            metallb_bfd_echo_packet_output{peer="fe80::1",vrf="red"} 4
            metallb_bfd_session_up_events{peer="192.0.2.1",vrf="default"} 5
            metallb_bfd_session_up_events{peer="fe80::1",vrf="red"} 5
            metallb_bfd_session_down_events{peer="192.0.2.1",vrf="default"} 6
            metallb_bfd_session_down_events{peer="fe80::1",vrf="red"} 6
            metallb_bfd_zebra_notifications{peer="192.0.2.1",vrf="default"} 7
            metallb_bfd_zebra_notifications{peer="fe80::1",vrf="red"} 7
            metallb_bfd_packets_discarded_total{reason="ttlSingleHop"} 8
            metallb_bfd_delay_max_seconds 0.009
        "#]]
        .assert_eq(&text);
    }
}
