//! ARP and NDP on this node: the core, its sockets, and what they report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kit::{Duration, Family, Instant, InterfaceIndex, Mac, Outbox};
use l2::host::{self, Finding, IPVS_INTERFACE, ServiceProxy, WayBack};
use l2::{ClaimKind, Claimant, Counters, Coverage, Gateway, Input, InterfaceSet, Output, Report, Responder, Settings};
use netio::gateways::{GatewayMonitor, Gateways};
use netio::neighbours;
use netio::packet::{DropCounters, L2Io};
use netio::settings;
use speaker::Rival;

/// Interfaces that are named when none of them answers; a node can have hundreds.
const OBSTACLES_TOLD_MAX: usize = 8;

/// Between a change of interfaces, routes or announcements and a look at the settings of this host: changes come together.
const INSPECTION_DELAY: Duration = Duration::from_secs(2);

/// The responder and its sockets.
pub(super) struct Segment {
    core: Responder,
    io: L2Io,
    gateways: GatewayMonitor,
    out: Outbox<Output>,
    names: BTreeMap<InterfaceIndex, String>,
    /// What the decisions have to know and were not told yet: as much as one call of the core says.
    news: Vec<speaker::Input>,
    /// Where answers to clients on other IPv4 segments leave the host.
    way_back: Option<InterfaceIndex>,
    /// When the settings of this host are to be looked at.
    inspection: Option<Instant>,
    /// What was found wrong about this host so far: each is told once.
    told: BTreeSet<(Finding, String)>,
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
            way_back: None,
            inspection: None,
            told: BTreeSet::new(),
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
            routes = self.gateways.next() => {
                self.news.push(speaker::Input::Gateways(routes.ways_out));
                Input::Gateways(for_responder(&routes.gateways))
            }
        }
    }

    /// When [`Input::Tick`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.core.next_deadline().into_iter().chain(self.inspection).min()
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
                self.inspect_soon(now);
            }
            Input::InterfaceGone { index } => {
                self.names.remove(index);
            }
            Input::Gateways(gateways) => {
                self.way_back = gateways.get(&Family::V4).map(|gateway| gateway.interface);
                self.inspect_soon(now);
            }
            Input::Tick if self.inspection.is_some_and(|at| at <= now) => {
                self.inspection = None;
                self.inspect();
            }
            _ => {}
        }
        let mut unknown = Vec::new();
        self.core.handle(now, input, &mut self.out);
        while let Some(output) = self.out.pop() {
            match output {
                Output::Action(action) => self.io.execute(action),
                Output::Report(Report::Unknown { mac }) => unknown.push(mac),
                Output::Report(report) => {
                    self.log(&report);
                    if matches!(report, Report::Coverage { .. }) {
                        self.inspect_soon(now);
                    }
                    let news = self.news_of(report);
                    self.news.extend(news);
                }
            }
        }
        for mac in unknown {
            self.identify(now, mac);
        }
    }

    /// Tells the core what the kernel knows of a station: nodes talk to each other, if not on the segment where they announce.
    fn identify(&mut self, now: Instant, mac: Mac) {
        match neighbours::at(mac) {
            Ok(addresses) => {
                for address in addresses {
                    self.tell(now, Input::Station { address, mac });
                }
            }
            Err(error) => tracing::warn!(error = %error, "cannot read /proc/net/arp"),
        }
    }

    fn inspect_soon(&mut self, now: Instant) {
        self.inspection.get_or_insert(now + INSPECTION_DELAY);
    }

    /// What about this host stands in the way of traffic, interface by interface. What is new is logged.
    pub(super) fn inspect(&mut self) -> BTreeSet<(Finding, String)> {
        let mut families: BTreeMap<InterfaceIndex, Vec<Family>> = BTreeMap::new();
        for family in Family::ALL {
            for interface in self.core.meant(family) {
                families.entry(interface.index).or_default().push(family);
            }
        }
        let has_ipvs = self.names.values().any(|name| name == IPVS_INTERFACE);
        let proxy = if has_ipvs { ServiceProxy::Ipvs } else { ServiceProxy::Other };
        let mut found = BTreeSet::new();
        for (index, families) in families {
            let Some(name) = self.names.get(&index) else { continue };
            let leads_elsewhere = self.way_back.is_some_and(|way_back| way_back != index);
            let way_back = if leads_elsewhere { WayBack::Other } else { WayBack::Same };
            let findings = host::findings(settings::read(name), proxy, way_back, &families);
            found.extend(findings.into_iter().map(|finding| (finding, name.clone())));
        }
        for (finding, interface) in found.difference(&self.told) {
            tracing::warn!(
                event = "hostCheck",
                check = finding.code(),
                interface,
                hint = finding.hint().replace("INTERFACE", interface),
                "{finding}"
            );
        }
        self.told.extend(found.iter().cloned());
        found
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
            Report::Unknown { .. } | Report::Answer { .. } => {}
        }
    }

    /// What the decisions have to know of a report.
    fn news_of(&self, report: Report) -> Option<speaker::Input> {
        match report {
            Report::Coverage { .. } | Report::Unknown { .. } => None,
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
