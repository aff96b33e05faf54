//! Our codec.

use std::net::IpAddr;

use bgp::wire::{
    AsnSize, Disposition, Message, MessageLimit, NextHop, PathAttributes, Relation, UpdateContext, ValidUpdate, decode,
    validate,
};
use kit::{Asn, Community, Family};

use crate::{Attributes, Meaning, PEER_AS, Session, Verdict};

/// Our answer. The peer of another AS is in [`crate::PEER_AS`].
pub fn ours(bytes: &[u8], session: Session) -> Verdict {
    let size = if session.four_bytes { AsnSize::Four } else { AsnSize::Two };
    let update = match decode(bytes, size, MessageLimit::Extended) {
        Ok(Message::Update(update)) => update,
        Ok(_) => return Verdict::Other,
        Err(_) => return Verdict::Reset,
    };
    let context = UpdateContext {
        relation: if session.is_internal { Relation::Internal } else { Relation::External },
        remote_as: Asn::new(PEER_AS).unwrap(),
        families: Family::ALL.into(),
        extended_next_hop: true,
    };
    validate(&update, &context).map_or(Verdict::Reset, verdict)
}

fn verdict(valid: ValidUpdate) -> Verdict {
    let disposition = valid.disposition();
    if disposition >= Some(Disposition::Withdraw) {
        return Verdict::Withdraw(valid.withdrawn.into_iter().collect());
    }
    let mut meaning = Meaning {
        has_discarded: disposition.is_some(),
        withdrawn: valid.withdrawn.into_iter().collect(),
        attributes: Some(attributes(&valid.attributes)),
        ..Meaning::default()
    };
    for reachable in valid.reachable {
        let next_hop = match reachable.next_hop {
            NextHop::V4(address) => (IpAddr::V4(address), None),
            NextHop::V6 { address, link_local } => (IpAddr::V6(address), link_local.map(IpAddr::V6)),
        };
        meaning.announced.extend(reachable.prefixes.into_iter().map(|prefix| (prefix, next_hop)));
    }
    Verdict::Update(meaning.settled())
}

fn attributes(from: &PathAttributes) -> Attributes {
    let mut attributes = Attributes {
        origin: from.origin as u8,
        med: from.multi_exit_disc,
        local_pref: from.local_pref,
        ..Attributes::default()
    };
    let segment = |segment: &bgp::wire::Segment| {
        (segment.kind as u8, segment.asns.iter().map(|asn| asn.get()).collect::<Vec<u32>>())
    };
    attributes.path = from.as_path.0.iter().map(segment).collect();
    for community in &from.communities {
        match community {
            Community::Standard(value) => drop(attributes.communities.insert(*value)),
            Community::Large(admin, one, two) => drop(attributes.large.insert((*admin, *one, *two))),
        }
    }
    attributes
}
