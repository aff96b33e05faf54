//! The addresses this node answers for, merged from all Services that share one (contract 5.7).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::{Key, KeyText};
use kit::Outbox;
use l2::InterfaceSet;

use crate::core::Output;
use crate::decide::Layer2Grant;
use crate::verdict::Ending;

/// Addresses with the Services that hold them; an address is answered as long as one does.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// Nearly all addresses are held by one Service: a map for each would be mostly room.
    holders: BTreeMap<(IpAddr, KeyText), InterfaceSet>,
}

impl Holdings {
    /// The Services that hold an address.
    pub(crate) fn holders(&self, address: &IpAddr) -> impl Iterator<Item = Key> {
        self.of(*address).map(|(service, _)| service.key())
    }

    /// Who holds an address, in which interfaces.
    fn of(&self, address: IpAddr) -> impl Iterator<Item = (&KeyText, &InterfaceSet)> {
        let behind = self.holders.range((address, KeyText::from(&Key::default()))..);
        behind.take_while(move |((held, _), _)| *held == address).map(|((_, service), set)| (service, set))
    }

    /// Replaces what one Service holds and tells the difference, address by address; those that nobody holds any more end
    /// as this says.
    pub(crate) fn replace(
        &mut self,
        service: &Key,
        old: Option<&Layer2Grant>,
        new: Option<&Layer2Grant>,
        ending: impl Fn(&IpAddr) -> Ending,
        out: &mut Outbox<Output>,
    ) {
        let addresses = |grant: Option<&Layer2Grant>| grant.map(|it| it.addresses.clone()).unwrap_or_default();
        let touched: BTreeSet<IpAddr> = addresses(old).into_iter().chain(addresses(new)).collect();
        for address in touched {
            let before = merged(self.of(address));
            let holder = (address, KeyText::from(service));
            match new.filter(|grant| grant.addresses.contains(&address)) {
                Some(grant) => self.holders.insert(holder, grant.interfaces.clone()),
                None => self.holders.remove(&holder),
            };
            let after = merged(self.of(address));
            match after {
                Some(interfaces) if before.as_ref() != Some(&interfaces) => {
                    out.push(Output::AddressAnnounce { address, interfaces });
                }
                None if before.is_some() => out.push(match ending(&address) {
                    Ending::Withdraw => Output::AddressWithdraw { address },
                    Ending::HandOver => Output::AddressHandOver { address },
                }),
                Some(_) | None => {}
            }
        }
    }
}

/// All interfaces on which one of the holders wants the address answered; `None` without holders.
fn merged<'a>(holders: impl Iterator<Item = (&'a KeyText, &'a InterfaceSet)>) -> Option<InterfaceSet> {
    let mut sets = holders.map(|(_, set)| set);
    let first = sets.next()?.clone();
    Some(sets.fold(first, |all, one| match (all, one) {
        (InterfaceSet::Named(mut names), InterfaceSet::Named(more)) => {
            names.extend(more.iter().cloned());
            InterfaceSet::Named(names)
        }
        (InterfaceSet::All, _) | (_, InterfaceSet::All) => InterfaceSet::All,
    }))
}
