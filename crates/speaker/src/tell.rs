//! What follows from a decision that differs from the one before: what is announced and given up, and who is told of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::{Event, EventType, Key, Kind, ObjectRef, Report, Write};
use kit::Outbox;
use l2::InterfaceSet;

use super::{Output, Speaker, granted, refusal};
use crate::decide::{BgpGrant, Layer2, Layer2Grant};
use crate::verdict::{Decision, Ending, Loss, Protocol, Refusal};

impl Speaker {
    /// Shows on which interfaces the Service is answered for, if that is not what is shown.
    pub(super) fn show_interfaces(&mut self, key: &Key, out: &mut Outbox<Output>) {
        let Some(state) = self.services.get_mut(key) else { return };
        // There is one for a Service (contract 12.3): where several nodes announce it, that of the one with its first address.
        let first = state.facts.as_ref().and_then(|facts| facts.addresses.as_ref().ok()?.first());
        let shown = granted(state.layer2.as_ref()).filter(|grant| grant.addresses.first() == first);
        let interfaces = shown.map(|grant| match &grant.interfaces {
            InterfaceSet::All => Vec::new(),
            InterfaceSet::Named(names) => names.intersection(&self.interfaces).cloned().collect(),
        });
        if state.shown_interfaces == interfaces {
            return;
        }
        state.shown_interfaces.clone_from(&interfaces);
        out.push(match interfaces {
            Some(interfaces) => Output::Say(self.report_layer2(key, interfaces)),
            None => Output::Unsay(self.report_layer2(key, Vec::new())),
        });
    }

    /// Shows to which peers the Service is announced, if that is not what is shown.
    pub(super) fn show_peers(&mut self, key: &Key, out: &mut Outbox<Output>) {
        let peers: Vec<String> = self.peers_of(key).into_iter().map(str::to_owned).collect();
        let Some(state) = self.services.get_mut(key) else { return };
        if state.shown_peers == peers {
            return;
        }
        state.shown_peers.clone_from(&peers);
        let is_empty = peers.is_empty();
        let report = self.report_bgp(key, peers);
        out.push(if is_empty { Output::Unsay(report) } else { Output::Say(report) });
    }

    pub(super) fn report_layer2(&self, service: &Key, interfaces: Vec<String>) -> Report {
        Report::Layer2 { node: self.options.node.clone(), service: service.clone(), interfaces }
    }

    pub(super) fn report_bgp(&self, service: &Key, peers: Vec<String>) -> Report {
        Report::Bgp { node: self.options.node.clone(), service: service.clone(), peers }
    }

    pub(super) fn settle_layer2(
        &mut self,
        key: &Key,
        old: Option<&Decision<Layer2Grant>>,
        new: Option<&Layer2>,
        out: &mut Outbox<Output>,
    ) {
        let addresses = |grant: &Layer2Grant| (grant.addresses.clone(), grant.pool.clone());
        let elsewhere = new.map(|it| it.elsewhere.as_slice()).unwrap_or_default();
        let new = new.map(|it| &it.decision);
        let (before, after) = (granted(old), granted(new));
        if before != after {
            let (services, sharing) = (&self.services, &self.sharing);
            let ending = |address: &IpAddr| {
                let refused = elsewhere.iter().find(|(other, _)| other == address).map(|(_, refusal)| refusal);
                let own = refused.or(refusal(new)).map_or(Ending::Withdraw, Refusal::ending);
                // Others that share it may have given it up before, in the same move.
                let others = sharing.services(address).filter(|other| other != key);
                let mut others = others.filter_map(|other| Some(services.get(&other)?.ending()));
                if others.any(|other| other == Ending::HandOver) { Ending::HandOver } else { own }
            };
            self.holdings.replace(key, before, after, ending, out);
        }
        // Of several addresses it may have lost some.
        let is_lost = |address: &IpAddr| before.is_some_and(|grant| grant.addresses.contains(address));
        let lost = elsewhere.iter().find(|(address, _)| is_lost(address)).map(|(_, refusal)| refusal);
        let loss = loss(new, refusal(new).or(lost));
        self.tell(key, Protocol::Layer2, before.map(addresses), after.map(addresses), loss, out);
        if let (Some(missing @ Refusal::NoSuchInterface(_)), true) = (refusal(new), refusal(old) != refusal(new)) {
            let message = format!(
                "failed to announce from node {:?} with protocol {:?}: {missing}",
                self.options.node,
                Protocol::Layer2.as_str()
            );
            self.event(key, EventType::Warning, "announceFailed", message, out);
        }
    }

    pub(super) fn settle_bgp(
        &mut self,
        key: &Key,
        old: Option<&Decision<BgpGrant>>,
        new: Option<&Decision<BgpGrant>>,
        out: &mut Outbox<Output>,
    ) {
        let addresses = |grant: &BgpGrant| (grant.addresses.clone(), grant.pool.clone());
        let nothing = BTreeMap::new();
        let (before, after) = (granted(old), granted(new));
        if before != after {
            let routes = |grant: Option<&BgpGrant>| grant.map_or_else(|| nothing.clone(), |it| it.routes.clone());
            self.routes.replace(key, &routes(before), &routes(after));
        }
        self.tell(key, Protocol::Bgp, before.map(addresses), after.map(addresses), loss(new, refusal(new)), out);
    }

    /// Tells that a Service began or ceased to be announced, or with which other addresses; nothing when nothing changed (R3).
    fn tell(
        &self,
        service: &Key,
        protocol: Protocol,
        before: Option<(Vec<IpAddr>, String)>,
        after: Option<(Vec<IpAddr>, String)>,
        loss: Loss,
        out: &mut Outbox<Output>,
    ) {
        let withdrawn = |addresses| Output::ServiceWithdrawn { service: service.clone(), protocol, addresses, loss };
        match (before, after) {
            (Some((old, _)), None) => out.push(withdrawn(old)),
            (before, Some((addresses, pool))) if before.as_ref().map(|(old, _)| old) != Some(&addresses) => {
                if let Some((old, _)) = before {
                    out.push(withdrawn(old));
                }
                let part = self.part(service, &addresses);
                out.push(Output::ServiceAnnounced { service: service.clone(), protocol, addresses, pool });
                // Contract 3.6 and 12.3: programs read the quoted node name out of this text.
                let mut message =
                    format!("announcing from node {:?} with protocol {:?}", self.options.node, protocol.as_str());
                if let Some(part) = part {
                    message.push_str(": ");
                    message.push_str(&part);
                }
                self.event(service, EventType::Normal, "nodeAssigned", message, out);
            }
            (_, _) => {}
        }
    }

    /// These addresses in words, if the Service has others as well.
    fn part(&self, service: &Key, addresses: &[IpAddr]) -> Option<String> {
        let all = self.services.get(service)?.facts.as_ref()?.addresses.as_ref().ok()?;
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        (addresses.len() < all.len()).then(|| texts.join(", "))
    }

    pub(super) fn event(
        &self,
        service: &Key,
        type_: EventType,
        reason: &'static str,
        message: String,
        out: &mut Outbox<Output>,
    ) {
        let facts = self.services.get(service).and_then(|state| state.facts.as_ref());
        out.push(Output::Write(Write::Event(Event {
            object: ObjectRef { kind: Kind::Service, key: service.clone() },
            uid: facts.map(|facts| facts.uid.clone()).unwrap_or_default(),
            type_,
            reason,
            message,
        })));
    }
}

/// Why a Service is not announced as before, if this was decided of it now and this refused.
fn loss<T>(new: Option<&Decision<T>>, refusal: Option<&Refusal>) -> Loss {
    match (new, refusal) {
        (None, _) => Loss::Deleted,
        (Some(_), None) => Loss::Changed,
        (Some(_), Some(refusal)) => Loss::Refused(refusal.clone()),
    }
}
