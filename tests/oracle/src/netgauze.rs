//! `netgauze-bgp-pkt`, a collector's codec: it reads what is right and refuses the rest.

use std::net::IpAddr;

use ipnet::IpNet;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{AsPath, MpReach, MpUnreach, PathAttributeValue};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;

use crate::{Attributes, Meaning, Session, Verdict};

fn parse(bytes: &[u8], four_bytes: bool) -> Result<BgpMessage, String> {
    let mut context = BgpParsingContext::asn2_default();
    context.set_asn4(four_bytes);
    BgpMessage::parse(&mut SliceReader::new(bytes), &mut context).map_err(|error| format!("{error:?}"))
}

/// Its answer, or why it refuses the message.
pub fn netgauze(bytes: &[u8], session: Session) -> Result<Verdict, String> {
    match parse(bytes, session.four_bytes)? {
        BgpMessage::Update(update) => Ok(Verdict::Update(meaning(&update))),
        _ => Ok(Verdict::Other),
    }
}

/// What it writes after it has read the message.
pub fn netgauze_again(bytes: &[u8], four_bytes: bool) -> Result<Vec<u8>, String> {
    let mut again = Vec::new();
    parse(bytes, four_bytes)?.write(&mut again).map_err(|error| format!("{error:?}"))?;
    Ok(again)
}

fn meaning(update: &BgpUpdateMessage) -> Meaning {
    let mut meaning = Meaning { attributes: Some(Attributes::default()), ..Meaning::default() };
    meaning.withdrawn.extend(update.withdraw_routes().iter().map(|it| IpNet::V4(it.network().address()).trunc()));
    let mut next_hop = None;
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::NextHop(it) => next_hop = Some(IpAddr::V4(it.next_hop())),
            PathAttributeValue::MpReach(reach) => reach_read(reach, &mut meaning),
            PathAttributeValue::MpUnreach(MpUnreach::Ipv4Unicast { nlri }) => {
                meaning.withdrawn.extend(nlri.iter().map(|it| IpNet::V4(it.network().address()).trunc()));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                meaning.withdrawn.extend(nlri.iter().map(|it| IpNet::V6(it.network().address()).trunc()));
            }
            other => attribute_read(other, meaning.attributes.as_mut().unwrap()),
        }
    }
    if let Some(next_hop) = next_hop {
        let routes = update.nlri().iter().map(|it| IpNet::V4(it.network().address()).trunc());
        meaning.announced.extend(routes.map(|prefix| (prefix, (next_hop, None))));
    }
    meaning.settled()
}

fn reach_read(reach: &MpReach, meaning: &mut Meaning) {
    match reach {
        MpReach::Ipv4Unicast { next_hop, next_hop_local, nlri } => {
            let next_hop = (*next_hop, next_hop_local.map(IpAddr::V6));
            let routes = nlri.iter().map(|it| IpNet::V4(it.network().address()).trunc());
            meaning.announced.extend(routes.map(|prefix| (prefix, next_hop)));
        }
        MpReach::Ipv6Unicast { next_hop_global, next_hop_local, nlri } => {
            let next_hop = (IpAddr::V6(*next_hop_global), next_hop_local.map(IpAddr::V6));
            let routes = nlri.iter().map(|it| IpNet::V6(it.network().address()).trunc());
            meaning.announced.extend(routes.map(|prefix| (prefix, next_hop)));
        }
        _ => {}
    }
}

fn attribute_read(value: &PathAttributeValue, attributes: &mut Attributes) {
    match value {
        PathAttributeValue::Origin(origin) => attributes.origin = *origin as u8,
        PathAttributeValue::AsPath(AsPath::As2PathSegments(segments)) => {
            let numbers = |all: &[u16]| all.iter().map(|number| u32::from(*number)).collect();
            attributes.path = segments.iter().map(|it| (it.segment_type() as u8, numbers(it.as_numbers()))).collect();
        }
        PathAttributeValue::AsPath(AsPath::As4PathSegments(segments)) => {
            attributes.path = segments.iter().map(|it| (it.segment_type() as u8, it.as_numbers().to_vec())).collect();
        }
        PathAttributeValue::MultiExitDiscriminator(it) => attributes.med = Some(it.metric()),
        PathAttributeValue::LocalPreference(it) => attributes.local_pref = Some(it.metric()),
        PathAttributeValue::Communities(all) => {
            attributes.communities = all.communities().iter().map(|it| it.value()).collect();
        }
        PathAttributeValue::LargeCommunities(all) => {
            let parts = all.communities().iter().map(|it| (it.global_admin(), it.local_data1(), it.local_data2()));
            attributes.large = parts.collect();
        }
        _ => {}
    }
}
