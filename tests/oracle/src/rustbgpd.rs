//! `rustbgpd-wire`, which knows RFC 7606.

use std::net::IpAddr;

use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustbgpd_wire::attribute::{AsPathSegment, PathAttribute};
use rustbgpd_wire::message::{Message, decode_message, encode_message_with_limit};
use rustbgpd_wire::nlri::{Ipv4NlriEntry, NlriEntry, Prefix};
use rustbgpd_wire::update::UpdateMessage;
use rustbgpd_wire::validate::{ErrorDisposition, UpdateValidationOptions, validate_update_attributes_with_options};
use rustbgpd_wire::{Afi, EXTENDED_MAX_MESSAGE_LEN, Safi};

use crate::{Attributes, Meaning, PEER_AS, Session, Verdict};

/// Its answer.
pub fn rustbgpd(bytes: &[u8], session: Session) -> Verdict {
    match decode_message(&mut Bytes::copy_from_slice(bytes), EXTENDED_MAX_MESSAGE_LEN) {
        Ok(Message::Update(update)) => verdict(&update, session),
        Ok(_) => Verdict::Other,
        Err(_) => Verdict::Reset,
    }
}

/// What it writes after it has read the message.
pub fn rustbgpd_again(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let message = decode_message(&mut Bytes::copy_from_slice(bytes), EXTENDED_MAX_MESSAGE_LEN);
    let message = message.map_err(|error| error.to_string())?;
    let again = encode_message_with_limit(&message, EXTENDED_MAX_MESSAGE_LEN).map_err(|error| error.to_string())?;
    Ok(again.to_vec())
}

fn verdict(update: &UpdateMessage, session: Session) -> Verdict {
    let Ok(parsed) = update.parse_revised(session.four_bytes, session.is_internal, false, &[]) else {
        return Verdict::Reset;
    };
    let update = parsed.update;
    let mut meaning = Meaning { attributes: Some(Attributes::default()), ..Meaning::default() };
    let mut next_hop = None;
    let mut reach = None;
    for attribute in &update.attributes {
        match attribute {
            PathAttribute::NextHop(address) => next_hop = Some(IpAddr::V4(*address)),
            PathAttribute::MpReachNlri(it) if it.safi == Safi::Unicast && matches!(it.afi, Afi::Ipv4 | Afi::Ipv6) => {
                reach = Some(it);
            }
            PathAttribute::MpUnreachNlri(it) if it.safi == Safi::Unicast => {
                meaning.withdrawn.extend(it.withdrawn.iter().map(mp_prefix));
            }
            other => attribute_read(other, meaning.attributes.as_mut().unwrap()),
        }
    }
    meaning.withdrawn.extend(update.withdrawn.iter().map(prefix));
    if let Some(next_hop) = next_hop {
        meaning.announced.extend(update.announced.iter().map(|entry| (prefix(entry), (next_hop, None))));
    }
    if let Some(reach) = reach {
        let next_hop = (reach.next_hop, reach.link_local_next_hop.map(IpAddr::V6));
        meaning.announced.extend(reach.announced.iter().map(|entry| (mp_prefix(entry), next_hop)));
    }
    let has_body = !update.announced.is_empty();
    let has_routes = has_body || reach.is_some_and(|reach| !reach.announced.is_empty());
    let mut options = UpdateValidationOptions::default();
    options.allow_ipv4_link_local_mp_reach_next_hop = true;
    options.link_local_next_hop = true;
    let valid = validate_update_attributes_with_options(
        &update.attributes,
        has_routes,
        has_body,
        !session.is_internal,
        options,
    );
    // RFC 4271 section 6.3 and RFC 7606 section 3 (e), which it leaves to its user.
    let first = meaning.attributes.as_ref().and_then(|it| it.path.first().cloned());
    let is_foreign = !session.is_internal && !matches!(first, Some((2, ref asns)) if asns.first() == Some(&PEER_AS));
    let has_path = update.attributes.iter().any(|it| matches!(it, PathAttribute::AsPath(_)));
    let foreign = (is_foreign && has_path).then_some(ErrorDisposition::TreatAsWithdraw);
    let found = parsed.malformed.iter().map(|malformed| malformed.disposition);
    let strongest =
        found.chain(foreign).chain(valid.err().map(|error| error.disposition)).max_by_key(|found| rank(*found));
    match strongest {
        Some(ErrorDisposition::SessionReset) => Verdict::Reset,
        // RFC 7606 section 5.2, which it leaves to its user.
        Some(ErrorDisposition::TreatAsWithdraw) if !has_routes => Verdict::Reset,
        Some(ErrorDisposition::TreatAsWithdraw) => {
            let announced = update.announced.iter().map(prefix);
            let more = reach.iter().flat_map(|reach| reach.announced.iter().map(mp_prefix));
            Verdict::Withdraw(meaning.withdrawn.into_iter().chain(announced).chain(more).collect())
        }
        Some(ErrorDisposition::AttributeDiscard) => {
            Verdict::Update(Meaning { has_discarded: true, ..meaning }.settled())
        }
        None => Verdict::Update(meaning.settled()),
    }
}

fn rank(disposition: ErrorDisposition) -> u8 {
    match disposition {
        ErrorDisposition::AttributeDiscard => 0,
        ErrorDisposition::TreatAsWithdraw => 1,
        ErrorDisposition::SessionReset => 2,
    }
}

fn attribute_read(attribute: &PathAttribute, attributes: &mut Attributes) {
    match attribute {
        PathAttribute::Origin(origin) => attributes.origin = *origin as u8,
        PathAttribute::AsPath(path) => {
            let segment = |segment: &AsPathSegment| match segment {
                AsPathSegment::AsSet(asns) => (1, asns.clone()),
                AsPathSegment::AsSequence(asns) => (2, asns.clone()),
            };
            attributes.path = path.segments.iter().map(segment).collect();
        }
        PathAttribute::Med(med) => attributes.med = Some(*med),
        PathAttribute::LocalPref(local_pref) => attributes.local_pref = Some(*local_pref),
        PathAttribute::Communities(all) | PathAttribute::CommunitiesPartial(all) => {
            attributes.communities = all.iter().copied().collect();
        }
        PathAttribute::LargeCommunities(all) | PathAttribute::LargeCommunitiesPartial(all) => {
            attributes.large = all.iter().map(|it| (it.global_admin, it.local_data1, it.local_data2)).collect();
        }
        _ => {}
    }
}

fn prefix(entry: &Ipv4NlriEntry) -> IpNet {
    IpNet::V4(Ipv4Net::new(entry.prefix.addr, entry.prefix.len).unwrap())
}

fn mp_prefix(entry: &NlriEntry) -> IpNet {
    match entry.prefix {
        Prefix::V4(it) => IpNet::V4(Ipv4Net::new(it.addr, it.len).unwrap()),
        Prefix::V6(it) => IpNet::V6(Ipv6Net::new(it.addr, it.len).unwrap()),
    }
}
