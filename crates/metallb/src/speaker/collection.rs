//! What a scrape is told: collected in portions, so that packets and keepalives never wait behind it.

use std::net::IpAddr;

use api::Key;
use bgp::{MessageCounts, PeerView, State};
use netio::packet::DropCounters;
use speaker::{Decision, Hindrances, Refusal, Speaker};
use telemetry::metrics::{
    AnnouncedService, BfdReport, BfdSession, BgpMessages, BgpSession, FrameCounts, Layer2Address, Protocol,
    SpeakerReport, Work,
};

use super::segment::Segment;
use super::sessions::{BfdSnapshot, SessionId, Sessions};
use crate::metrics::{Envelope, count};

/// Services or addresses that are looked at between two turns of everything else.
const PORTION: usize = 256;

/// A report in the making.
pub(super) struct Collection {
    envelope: Envelope<SpeakerReport>,
    report: SpeakerReport,
    stage: Stage,
}

/// What is next.
enum Stage {
    /// The Services behind this one.
    Services(Option<Key>),
    /// The addresses behind this one.
    Addresses(Option<IpAddr>),
    /// The rest.
    Sessions,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to do.
    More,
    /// The report is on its way, or nobody wants it any more.
    Done,
}

impl Collection {
    /// A report of nothing yet.
    pub(super) fn begin(envelope: Envelope<SpeakerReport>, node: &str) -> Collection {
        let report = SpeakerReport { node: node.to_owned(), ..SpeakerReport::default() };
        Collection { envelope, report, stage: Stage::Services(None) }
    }

    /// Looks at one more portion.
    pub(super) fn step(&mut self, decisions: &Speaker, segment: &Segment) -> Progress {
        if self.envelope.is_closed() {
            return Progress::Done;
        }
        match &self.stage {
            Stage::Services(after) => {
                let mut last = None;
                for (key, layer2, bgp) in decisions.explain_after(after.as_ref()).take(PORTION) {
                    decided(&mut self.report, key, Protocol::Layer2, layer2, |grant| &grant.addresses);
                    decided(&mut self.report, key, Protocol::Bgp, bgp, |grant| &grant.addresses);
                    last = Some(key);
                }
                self.stage = last.map_or(Stage::Addresses(None), |key| Stage::Services(Some(key.clone())));
                Progress::More
            }
            Stage::Addresses(after) => {
                let before = self.report.layer2.len();
                let portion = segment.counters_after(*after).take(PORTION);
                self.report.layer2.extend(portion.map(|(ip, counters)| Layer2Address {
                    ip,
                    requests_received: counters.requests,
                    responses_sent: counters.responses,
                    gratuitous_sent: counters.gratuitous,
                    gateways_told: counters.gateway_frames,
                    foreign_claims: counters.foreign_claims,
                }));
                let is_over = self.report.layer2.len() == before;
                let last = self.report.layer2.last().map(|address| address.ip);
                self.stage = if is_over { Stage::Sessions } else { Stage::Addresses(last) };
                Progress::More
            }
            Stage::Sessions => Progress::Done,
        }
    }

    /// Adds what takes no time, and sends the report.
    pub(super) fn finish(mut self, work: Work, hindrances: &Hindrances, segment: &mut Segment, sessions: &Sessions) {
        self.report.work = work;
        self.report.host_findings =
            segment.inspect().into_iter().map(|(finding, interface)| (finding.code(), interface)).collect();
        self.report.hindrances = hindrances.iter().map(ToString::to_string).collect();
        let DropCounters { received, sent } = segment.drops();
        self.report.frames =
            FrameCounts { malformed: segment.malformed_frames(), dropped_received: received, dropped_sent: sent };
        self.report.sessions = sessions.views().map(|(endpoint, view)| session(endpoint, &view)).collect();
        self.report.bfd = sessions.bfd_status().map(|status| bfd_report(&status, sessions));
        // Who asked may have gone.
        let _sent = self.envelope.send(self.report);
    }
}

/// Notes what was decided for a Service: with which addresses it is announced, or why it is not.
fn decided<T>(
    report: &mut SpeakerReport,
    key: &Key,
    protocol: Protocol,
    decision: &Decision<T>,
    addresses: impl Fn(&T) -> &Vec<IpAddr>,
) {
    match &decision.outcome {
        Ok(grant) => {
            let mut addresses = addresses(grant).clone();
            addresses.sort_unstable();
            addresses.dedup();
            report.announced.push(AnnouncedService { service: key.to_string(), protocol, addresses });
        }
        // Those are not for us at all.
        Err(Refusal::NotLoadBalancer | Refusal::OtherClass) => {}
        Err(refusal) => {
            let number = report.refused.entry((protocol, refusal.reason())).or_insert(0);
            *number = number.saturating_add(1);
        }
    }
}

fn session(endpoint: &netio::bgp::Endpoint, view: &PeerView) -> BgpSession {
    BgpSession {
        peer: endpoint.address,
        vrf: endpoint.device.clone(),
        is_up: view.state == State::Established,
        prefixes_announced: count(view.prefixes_announced),
        prefixes_wanted: count(view.prefixes_wanted),
        sent: messages(&view.counters.sent),
        received: messages(&view.counters.received),
        established: view.sessions,
        failed_attempts: view.failed_attempts.into(),
        updates_treated_as_withdraw: view.counters.updates_treated_as_withdraw,
        attributes_discarded: view.counters.attributes_discarded,
    }
}

fn bfd_report(status: &BfdSnapshot, sessions: &Sessions) -> BfdReport {
    // Those that nobody watches are only told good-bye.
    let watched = status.sessions.iter().filter(|session| !session.clients.is_empty());
    BfdReport {
        sessions: watched.map(|session| bfd_session(session, sessions)).collect(),
        discarded: status.discards.iter().map(|(reason, count)| (reason.as_str(), *count)).collect(),
        delay_max: status.delay_max.into(),
    }
}

fn bfd_session(session: &bfd::SessionView<SessionId>, sessions: &Sessions) -> BfdSession {
    let counters = &session.counters;
    BfdSession {
        peer: session.path.remote,
        vrf: session.path.vrf.map(|index| sessions.interface_name(index)),
        is_up: session.local.state == bfd::wire::State::Up,
        control_packet_input: counters.control_packet_input,
        control_packet_output: counters.control_packet_output,
        echo_packet_input: counters.echo_packet_input,
        echo_packet_output: counters.echo_packet_output,
        session_up_events: counters.session_up_events,
        session_down_events: counters.session_down_events,
        zebra_notifications: counters.zebra_notifications,
    }
}

fn messages(counts: &MessageCounts) -> BgpMessages {
    BgpMessages {
        opens: counts.opens,
        updates: counts.updates,
        notifications: counts.notifications,
        keepalives: counts.keepalives,
        route_refreshes: counts.route_refreshes,
    }
}

#[cfg(test)]
mod tests {
    use netio::clock::Clock;
    use speaker::Options;
    use tokio::sync::oneshot;

    use super::*;

    const SETTINGS: l2::Settings = l2::Settings { refresh: l2::Refresh::Never, seed: 0 };

    #[test]
    fn a_report_is_collected_step_by_step_unless_nobody_wants_it_any_more() {
        let (decisions, mut segment) = (Speaker::new(Options::default()), Segment::new(SETTINGS));
        let (envelope, mut answer) = oneshot::channel();
        let mut collection = Collection::begin(envelope, "node-1");
        let mut steps = 1;
        while collection.step(&decisions, &segment) == Progress::More {
            assert!(answer.try_recv().is_err(), "not before the end");
            steps += 1;
        }
        assert_eq!(steps, 3, "Services, addresses and the end, of which there are none");
        collection.finish(
            Work { updates: 7, ..Work::default() },
            &Hindrances::default(),
            &mut segment,
            &Sessions::new("node-1", 179, 0, Clock::start()),
        );
        let report = answer.try_recv().unwrap();
        assert_eq!((report.node.as_str(), report.work.updates), ("node-1", 7));

        let (envelope, answer) = oneshot::channel();
        let mut collection = Collection::begin(envelope, "node-1");
        assert_eq!(collection.step(&decisions, &segment), Progress::More);
        drop(answer);
        assert_eq!(collection.step(&decisions, &segment), Progress::Done);
    }
}
