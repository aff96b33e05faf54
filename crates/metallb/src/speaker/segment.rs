//! ARP and NDP on this node: the core, its sockets, and what they report.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kit::{Family, Instant, InterfaceIndex, Outbox};
use l2::{ClaimKind, Claimant, Counters, Coverage, Gateway, Input, InterfaceSet, Output, Report, Responder, Settings};
use netio::gateways::{GatewayMonitor, Gateways};
use netio::packet::{DropCounters, L2Io};
use speaker::Rival;

/// Interfaces that are named when none of them answers; a node can have hundreds.
const OBSTACLES_TOLD_MAX: usize = 8;

/// The responder and its sockets.
pub(super) struct Segment {
    core: Responder,
    io: L2Io,
    gateways: GatewayMonitor,
    out: Outbox<Output>,
    names: BTreeMap<InterfaceIndex, String>,
    /// What the decisions have to know and were not told yet: as much as one call of the core says.
    news: Vec<speaker::Input>,
}

impl Segment {
    pub(super) fn new(settings: Settings) -> Self {
        Segment {
            core: Responder::new(settings),
            io: L2Io::new(),
            gateways: GatewayMonitor::new(),
            out: Outbox::with_limit(l2::OUTBOX_MAX),
            names: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Answers for the address on these interfaces.
    pub(super) fn announce(&mut self, now: Instant, address: IpAddr, interfaces: InterfaceSet) {
        self.tell(now, Input::Announce { address, interfaces });
    }

    /// Answers for the address no more.
    pub(super) fn withdraw(&mut self, now: Instant, address: IpAddr) {
        self.tell(now, Input::Withdraw { address });
    }

    /// Answers for the address until another machine has announced it.
    pub(super) fn hand_over(&mut self, now: Instant, address: IpAddr) {
        self.tell(now, Input::HandOver { address });
    }

    /// How many addresses are still answered for those who are to announce them.
    pub(super) fn handing_over(&self) -> usize {
        self.core.handing_over()
    }

    /// The next frame, failure of a socket or change of a default route. Safe to cancel.
    pub(super) async fn next(&mut self) -> Input {
        tokio::select! {
            input = self.io.recv() => input,
            gateways = self.gateways.next() => Input::Gateways(for_responder(&gateways)),
        }
    }

    /// When [`Input::Tick`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.core.next_deadline()
    }

    /// What has happened to the addresses behind this one.
    pub(super) fn counters_after(&self, after: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, Counters)> + '_ {
        self.core.counters_after(after)
    }

    /// Frames that broke the rules.
    pub(super) fn malformed_frames(&self) -> u64 {
        self.core.malformed_frames()
    }

    /// Frames that were lost here.
    pub(super) fn drops(&self) -> DropCounters {
        self.io.drops()
    }

    /// Gives the core what happened, and carries out what it wants.
    pub(super) fn tell(&mut self, now: Instant, input: Input) {
        match &input {
            Input::Interface(interface) => {
                self.names.insert(interface.index, interface.name.clone());
            }
            Input::InterfaceGone { index } => {
                self.names.remove(index);
            }
            _ => {}
        }
        self.core.handle(now, input, &mut self.out);
        while let Some(output) = self.out.pop() {
            match output {
                Output::Action(action) => self.io.execute(action),
                Output::Report(report) => {
                    self.log(&report);
                    let news = self.news_of(report);
                    self.news.extend(news);
                }
            }
        }
    }

    /// What the decisions have to know, since this was asked last.
    pub(super) fn take_news(&mut self) -> Vec<speaker::Input> {
        std::mem::take(&mut self.news)
    }

    /// What keeps each of these interfaces from answering.
    fn obstacles(&self, interfaces: &InterfaceSet, family: Family) -> String {
        let meant = self.core.obstacles(family).filter(|(interface, _)| interfaces.contains(&interface.name));
        let told = meant.filter_map(|(interface, obstacle)| Some(format!("{}: {}", interface.name, obstacle?)));
        let mut told: Vec<String> = told.take(OBSTACLES_TOLD_MAX.saturating_add(1)).collect();
        if told.len() > OBSTACLES_TOLD_MAX {
            told.truncate(OBSTACLES_TOLD_MAX);
            told.push("and more".to_owned());
        }
        told.join("; ")
    }

    fn log(&self, report: &Report) {
        match report {
            Report::Coverage { family, coverage: Coverage::Answered(names), .. } => {
                let interfaces = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                tracing::info!(interfaces, %family, "announced addresses are answered");
            }
            Report::Coverage { interfaces, family, coverage: Coverage::Obstructed | Coverage::Absent } => {
                let obstacles = self.obstacles(interfaces, *family);
                tracing::warn!(%family, obstacles, "announced addresses are answered on no interface");
            }
            Report::Conflict { address, interface, mac, kind, claimant } => {
                let interface = self.names.get(interface).map_or("?", String::as_str);
                let by = match kind {
                    ClaimKind::ArpRequest => "ARP request",
                    ClaimKind::ArpReply => "ARP reply",
                    ClaimKind::NeighborSolicitation => "Neighbor Solicitation",
                    ClaimKind::NeighborAdvertisement => "Neighbor Advertisement",
                };
                let node = match claimant {
                    Claimant::Fellow(fellow) => Some(fellow.to_string()),
                    Claimant::Stranger => None,
                };
                tracing::warn!(
                    event = "addressConflict",
                    ip = %address,
                    interface,
                    %mac,
                    by,
                    node,
                    "another machine answers for an address that is announced here"
                );
            }
            Report::Answer { .. } => {}
        }
    }

    /// What the decisions have to know of a report.
    fn news_of(&self, report: Report) -> Option<speaker::Input> {
        match report {
            Report::Coverage { .. } => None,
            Report::Conflict { address, interface, mac, claimant, .. } => Some(speaker::Input::Conflict(Rival {
                address,
                interface: self.names.get(&interface).cloned().unwrap_or_default(),
                mac,
                fellow: match claimant {
                    Claimant::Fellow(fellow) => Some(fellow),
                    Claimant::Stranger => None,
                },
            })),
            Report::Answer { fellow, .. } => Some(speaker::Input::Answered { fellow }),
        }
    }
}

fn for_responder(gateways: &Gateways) -> BTreeMap<Family, Gateway> {
    let gateway = |gateway: &netio::gateways::Gateway| Gateway { interface: gateway.index, address: gateway.address };
    gateways.iter().map(|(family, it)| (*family, gateway(it))).collect()
}
