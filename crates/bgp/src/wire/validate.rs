//! What we believe of an UPDATE: RFC 7606, with RFC 4760, 6793, 7607 and 8092 for their attributes.
//!
//! Every error has a disposition, and the strongest of a message holds: an attribute is ignored, or the routes count
//! as withdrawn, or the session ends. It knows the session's parameters, but no table and no policy: loops and next
//! hops of our own are judged in `rib_in.rs`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use kit::{Asn, ExtendedCommunity, Family};

use super::attribute::{FLAG_OPTIONAL, FLAG_TRANSITIVE, RawAttribute};
use super::error::{DecodeError, Disposition, Fault};
use super::multiprotocol::{NextHop, Reach, Unreach};
use super::{AfiSafi, Aggregator, AsPath, AsnSize, AttributeType, ErrorCode, PathAttributes, Update};

/// Which side of an AS border the peer is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// In our AS (iBGP).
    Internal,
    /// In another (eBGP).
    External,
}

/// What the session says about its UPDATEs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateContext {
    /// Ours or another AS.
    pub relation: Relation,
    /// The peer's AS.
    pub remote_as: Asn,
    /// The families that were negotiated.
    pub families: BTreeSet<Family>,
    /// Both sides know IPv4 routes over IPv6 (RFC 8950).
    pub extended_next_hop: bool,
}

/// An error with what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// What it costs; never a reset, which is the `Err` of [`validate`].
    pub disposition: Disposition,
    /// What is wrong.
    pub error: DecodeError,
}

/// Routes that share a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// Where packets go.
    pub next_hop: NextHop,
    /// The destinations.
    pub prefixes: Vec<IpNet>,
}

impl Reachable {
    fn new((next_hop, prefixes): (NextHop, Vec<IpNet>)) -> Self {
        Reachable { next_hop, prefixes }
    }
}

/// An UPDATE as we believe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidUpdate {
    /// Routes that are gone: withdrawn, or taken as such.
    pub withdrawn: Vec<IpNet>,
    /// Routes that are there. A prefix that is withdrawn in the same message is there (RFC 4271 section 4.3).
    pub reachable: Vec<Reachable>,
    /// The attributes of those routes.
    pub attributes: Arc<PathAttributes>,
    /// The peer has sent all routes of these (RFC 4724 section 2).
    pub end_of_rib: Option<AfiSafi>,
    /// What was wrong.
    pub issues: Vec<Issue>,
}

impl ValidUpdate {
    /// The strongest disposition; `None` for a message without a fault.
    pub fn disposition(&self) -> Option<Disposition> {
        self.issues.iter().map(|issue| issue.disposition).max()
    }
}

/// Judges an UPDATE. `Err` is an error that ends the session, with the NOTIFICATION that says so.
pub fn validate(update: &Update<'_>, context: &UpdateContext) -> Result<ValidUpdate, DecodeError> {
    let mut validation = Validation::new(context, update.asn_size);
    for attribute in &update.attributes {
        validation.attribute(attribute);
    }
    if let Some(cut) = &update.attributes_cut {
        // RFC 7606 section 4; but the routes of an attribute that is not whole are not known (section 3 (j)).
        let disposition = match cut.kind {
            Some(AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI) => Disposition::Reset,
            _ => Disposition::Withdraw,
        };
        validation.issue(disposition, cut.error.clone());
    }
    validation.four_byte_numbers();
    validation.finish(update)
}

/// What has been read so far.
struct Validation<'c> {
    context: &'c UpdateContext,
    asn_size: AsnSize,
    seen: BTreeSet<AttributeType>,
    attributes: PathAttributes,
    next_hop: Option<NextHop>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    reach: Option<Reach>,
    unreach: Option<Unreach>,
    issues: Vec<Issue>,
}

impl<'c> Validation<'c> {
    fn new(context: &'c UpdateContext, asn_size: AsnSize) -> Self {
        Validation {
            context,
            asn_size,
            seen: BTreeSet::new(),
            attributes: PathAttributes::default(),
            next_hop: None,
            as4_path: None,
            as4_aggregator: None,
            reach: None,
            unreach: None,
            issues: Vec::new(),
        }
    }

    fn issue(&mut self, disposition: Disposition, error: DecodeError) {
        self.issues.push(Issue { disposition, error });
    }

    fn attribute_issue(
        &mut self,
        disposition: Disposition,
        code: ErrorCode,
        attribute: &RawAttribute<'_>,
        fault: Fault,
    ) {
        let error =
            DecodeError::new(fault.offset, attribute.kind.name(), code, fault.problem).with_data(attribute.whole);
        self.issue(disposition, error);
    }

    /// Reads one attribute, unless it is there for a second time, or not for us, or its flags are wrong.
    fn attribute(&mut self, attribute: &RawAttribute<'_>) {
        let kind = attribute.kind;
        if !self.seen.insert(kind) {
            self.duplicate(attribute);
            return;
        }
        let Some((_, flags)) = kind.known() else {
            self.unknown(attribute);
            return;
        };
        if let Some(fault) = self.not_for_us(attribute) {
            self.attribute_issue(Disposition::Discard, ErrorCode::MALFORMED_ATTRIBUTE_LIST, attribute, fault);
            return;
        }
        // RFC 7606 section 3 (c): only these two bits can be wrong.
        if attribute.flags & (FLAG_OPTIONAL | FLAG_TRANSITIVE) != flags {
            let fault = attribute.fault(format!("flags 0x{:02x} contradict 0x{flags:02x}", attribute.flags));
            self.attribute_issue(malformed(kind), ErrorCode::ATTRIBUTE_FLAGS_ERROR, attribute, fault);
            return;
        }
        if let Err(fault) = self.value(attribute) {
            self.attribute_issue(malformed(kind), malformed_code(attribute), attribute, fault);
        }
    }

    /// RFC 7606 section 3 (g): the first one counts, but two of MP_REACH_NLRI or MP_UNREACH_NLRI end the session.
    fn duplicate(&mut self, attribute: &RawAttribute<'_>) {
        let disposition = match attribute.kind {
            AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI => Disposition::Reset,
            _ => Disposition::Discard,
        };
        let fault = attribute.fault(format!("{} is there more than once", attribute.kind));
        self.attribute_issue(disposition, ErrorCode::MALFORMED_ATTRIBUTE_LIST, attribute, fault);
    }

    /// RFC 4271 section 6.3: a well-known attribute must be known. Optional ones are skipped (section 5): the
    /// routes go no further from here.
    fn unknown(&mut self, attribute: &RawAttribute<'_>) {
        if attribute.flags & FLAG_OPTIONAL == 0 {
            let fault = attribute.fault(format!("{} is not optional and not known", attribute.kind));
            self.attribute_issue(Disposition::Reset, ErrorCode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE, attribute, fault);
        }
    }

    /// Attributes that a peer of this kind must not send: RFC 7606 sections 7.5, 7.9 and 7.10; RFC 6793 section 6.
    fn not_for_us(&self, attribute: &RawAttribute<'_>) -> Option<Fault> {
        let problem = match attribute.kind {
            AttributeType::LOCAL_PREF | AttributeType::ORIGINATOR_ID | AttributeType::CLUSTER_LIST
                if self.context.relation == Relation::External =>
            {
                "comes from an external peer"
            }
            AttributeType::AS4_PATH | AttributeType::AS4_AGGREGATOR if self.asn_size == AsnSize::Four => {
                "comes from a peer with 4-byte AS numbers"
            }
            _ => return None,
        };
        Some(attribute.fault(problem))
    }

    /// Reads the value into its place.
    fn value(&mut self, attribute: &RawAttribute<'_>) -> Result<(), Fault> {
        match attribute.kind {
            AttributeType::ORIGIN => self.attributes.origin = attribute.origin()?,
            AttributeType::AS_PATH => self.attributes.as_path = self.as_path(attribute)?,
            AttributeType::NEXT_HOP => self.next_hop = Some(next_hop(attribute)?),
            AttributeType::MULTI_EXIT_DISC => self.attributes.multi_exit_disc = Some(attribute.number()?),
            AttributeType::LOCAL_PREF => self.attributes.local_pref = Some(attribute.number()?),
            AttributeType::ATOMIC_AGGREGATE => {
                let [] = attribute.array()?;
                self.attributes.atomic_aggregate = true;
            }
            AttributeType::AGGREGATOR => self.attributes.aggregator = Some(attribute.aggregator(self.asn_size)?),
            AttributeType::COMMUNITIES => self.attributes.communities.extend(attribute.communities()?),
            AttributeType::LARGE_COMMUNITY => self.attributes.communities.extend(attribute.large_communities()?),
            AttributeType::EXTENDED_COMMUNITIES => {
                let communities = attribute.items()?.iter().copied().map(ExtendedCommunity);
                self.attributes.extended_communities.extend(communities);
            }
            AttributeType::ORIGINATOR_ID => {
                attribute.number()?;
            }
            AttributeType::CLUSTER_LIST => {
                attribute.items::<4>()?;
            }
            AttributeType::IPV6_EXTENDED_COMMUNITIES => {
                attribute.items::<20>()?;
            }
            AttributeType::AS4_PATH => self.as4_path = Some(as4_path(attribute)?),
            AttributeType::AS4_AGGREGATOR => self.as4_aggregator = Some(attribute.aggregator(AsnSize::Four)?),
            AttributeType::MP_REACH_NLRI => self.reach = Some(self.reach(attribute)?),
            AttributeType::MP_UNREACH_NLRI => self.unreach = Some(Unreach::decode(attribute)?),
            _ => {}
        }
        Ok(())
    }

    /// RFC 7606 section 7.2; RFC 5065 section 5 for confederations, which we are never in; RFC 4271 section 6.3 for
    /// the first AS.
    fn as_path(&self, attribute: &RawAttribute<'_>) -> Result<AsPath, Fault> {
        let path = attribute.as_path(self.asn_size)?;
        if path.0.iter().any(|segment| segment.kind.is_confederation()) {
            return Err(attribute.fault("a confederation's segment comes from outside of it"));
        }
        let remote_as = self.context.remote_as;
        if self.context.relation == Relation::External && path.leftmost() != Some(remote_as) {
            return Err(attribute.fault(format!("the path does not begin with the peer's AS {remote_as}: {path}")));
        }
        Ok(path)
    }

    /// RFC 8950 section 4: an IPv6 next hop for IPv4 only where both sides said that they know it.
    fn reach(&self, attribute: &RawAttribute<'_>) -> Result<Reach, Fault> {
        let reach = Reach::decode(attribute)?;
        let is_extended = reach.routes == AfiSafi::IPV4_UNICAST
            && reach.known.as_ref().is_some_and(|(next_hop, _)| next_hop.family() == Family::V6);
        if is_extended && !self.context.extended_next_hop {
            return Err(attribute.fault("an IPv6 next hop for IPv4 was not negotiated"));
        }
        Ok(reach)
    }

    /// RFC 6793 section 4.2.3: what an old speaker passed on takes the place of AS_TRANS, unless another old speaker
    /// formed an aggregate since.
    fn four_byte_numbers(&mut self) {
        if let (Some(aggregator), Some(as4_aggregator)) = (self.attributes.aggregator, self.as4_aggregator) {
            if aggregator.asn.get() != u32::from(Asn::TRANS) {
                return;
            }
            self.attributes.aggregator = Some(as4_aggregator);
        }
        if let Some(as4_path) = self.as4_path.take() {
            self.attributes.as_path = std::mem::take(&mut self.attributes.as_path).merge(&as4_path);
        }
    }

    /// Sums up the message.
    fn finish(mut self, update: &Update<'_>) -> Result<ValidUpdate, DecodeError> {
        let end_of_rib = self.end_of_rib(update);
        // A family that is not known here still carries routes.
        let has_reachable = !update.nlri.is_empty()
            || self.reach.as_ref().is_some_and(|reach| reach.known.as_ref().is_none_or(|(_, nlri)| !nlri.is_empty()));
        if has_reachable {
            self.mandatory(update);
        }
        self.unresolvable_next_hop();
        self.resets(has_reachable)?;

        let mut withdrawn = update.withdrawn.clone();
        withdrawn.extend(self.unreach.take().and_then(|unreach| unreach.prefixes).unwrap_or_default());
        let reach = self.reach.take().and_then(|reach| reach.known);
        let mut reachable = Vec::new();
        if self.issues.iter().any(|issue| issue.disposition == Disposition::Withdraw) {
            withdrawn.extend(&update.nlri);
            withdrawn.extend(reach.map(|(_, prefixes)| prefixes).unwrap_or_default());
        } else {
            let nlri = self.next_hop.map(|next_hop| (next_hop, update.nlri.clone()));
            reachable.extend([nlri, reach].into_iter().flatten().map(Reachable::new));
        }
        let carried = |prefix: &IpNet| self.context.families.contains(&super::prefix::family_of(prefix));
        withdrawn.retain(carried);
        reachable.retain_mut(|reachable| {
            reachable.prefixes.retain(carried);
            !reachable.prefixes.is_empty()
        });
        let attributes = Arc::new(self.attributes);
        Ok(ValidUpdate { withdrawn, reachable, attributes, end_of_rib, issues: self.issues })
    }

    /// RFC 7606 section 3 (d): routes without a mandatory attribute are withdrawn. NEXT_HOP is one for the message's
    /// own field (RFC 4760 section 3), LOCAL_PREF from internal peers (RFC 4271 section 5.1.5).
    fn mandatory(&mut self, update: &Update<'_>) {
        let mut mandatory = vec![AttributeType::ORIGIN, AttributeType::AS_PATH];
        if !update.nlri.is_empty() {
            mandatory.push(AttributeType::NEXT_HOP);
        }
        if self.context.relation == Relation::Internal {
            mandatory.push(AttributeType::LOCAL_PREF);
        }
        for kind in mandatory {
            if !self.seen.contains(&kind) {
                let problem = format!("{kind} is missing");
                let error = DecodeError::new(23, "path attributes", ErrorCode::MISSING_WELL_KNOWN_ATTRIBUTE, problem);
                self.issue(Disposition::Withdraw, error.with_data(&[kind.0]));
            }
        }
    }

    /// A next hop in MP_REACH_NLRI that is no host's address: its routes cannot be used, but they are known.
    fn unresolvable_next_hop(&mut self) {
        if let Some((next_hop, _)) = self.reach.as_ref().and_then(|reach| reach.known.as_ref())
            && !next_hop.is_host()
        {
            let problem = format!("next hop {next_hop} is not a host's address");
            let error = DecodeError::new(23, "MP_REACH_NLRI", ErrorCode::OPTIONAL_ATTRIBUTE_ERROR, problem);
            self.issue(Disposition::Withdraw, error);
        }
    }

    /// RFC 7606 section 3 (h): the strongest holds. Section 5.2: an error in a message that has attributes but no
    /// reachable routes casts doubt on whether the routes were found at all, so anything beyond a discard resets.
    fn resets(&mut self, has_reachable: bool) -> Result<(), DecodeError> {
        let limit = if has_reachable { Disposition::Reset } else { Disposition::Withdraw };
        match self.issues.iter().position(|issue| issue.disposition >= limit) {
            Some(index) => Err(self.issues.swap_remove(index).error),
            None => Ok(()),
        }
    }

    /// RFC 4724 section 2: an empty message, or one with nothing but an empty MP_UNREACH_NLRI.
    fn end_of_rib(&self, update: &Update<'_>) -> Option<AfiSafi> {
        if !update.withdrawn.is_empty() || !update.nlri.is_empty() || update.attributes_cut.is_some() {
            return None;
        }
        match (update.attributes.as_slice(), &self.unreach) {
            ([], _) => Some(AfiSafi::IPV4_UNICAST),
            ([_], Some(unreach)) if unreach.is_empty => Some(unreach.routes),
            _ => None,
        }
    }
}

/// RFC 7606 section 7.3 for the length; RFC 4271 section 6.3 for the address.
fn next_hop(attribute: &RawAttribute<'_>) -> Result<NextHop, Fault> {
    let next_hop = NextHop::V4(attribute.number()?.into());
    if next_hop.is_host() { Ok(next_hop) } else { Err(attribute.fault(format!("{next_hop} is not a host's address"))) }
}

/// RFC 6793 section 6: an empty one is malformed too; confederation segments are left out.
fn as4_path(attribute: &RawAttribute<'_>) -> Result<AsPath, Fault> {
    if attribute.value.is_empty() {
        return Err(attribute.fault("the length is 0"));
    }
    Ok(attribute.as_path(AsnSize::Four)?.without_confederations())
}

/// What a malformed attribute of this type costs.
fn malformed(kind: AttributeType) -> Disposition {
    match kind {
        // RFC 7606 section 3 (f); RFC 6793 section 6.
        AttributeType::ATOMIC_AGGREGATE
        | AttributeType::AGGREGATOR
        | AttributeType::AS4_PATH
        | AttributeType::AS4_AGGREGATOR => Disposition::Discard,
        // RFC 7606 sections 3 (j), 5.3, 7.11 and 7.12: the routes are not known.
        AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI => Disposition::Reset,
        // RFC 7606 sections 3 (e) and 7.
        _ => Disposition::Withdraw,
    }
}

/// What a NOTIFICATION would call it (RFC 4271 section 6.3).
fn malformed_code(attribute: &RawAttribute<'_>) -> ErrorCode {
    match attribute.kind {
        AttributeType::ORIGIN if attribute.value.len() == 1 => ErrorCode::INVALID_ORIGIN,
        AttributeType::AS_PATH => ErrorCode::MALFORMED_AS_PATH,
        AttributeType::NEXT_HOP if attribute.value.len() == 4 => ErrorCode::INVALID_NEXT_HOP,
        kind if kind.known().is_some_and(|(_, flags)| flags & FLAG_OPTIONAL != 0) => {
            ErrorCode::OPTIONAL_ATTRIBUTE_ERROR
        }
        _ => ErrorCode::ATTRIBUTE_LENGTH_ERROR,
    }
}

fn list(prefixes: &[IpNet]) -> String {
    prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for ValidUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.withdrawn.is_empty() {
            writeln!(f, "withdrawn {}", list(&self.withdrawn))?;
        }
        for Reachable { next_hop, prefixes } in &self.reachable {
            writeln!(f, "reachable {} via {next_hop}, {}", list(prefixes), self.attributes)?;
        }
        if let Some(routes) = self.end_of_rib {
            writeln!(f, "end of {routes}")?;
        }
        self.issues.iter().try_for_each(|issue| writeln!(f, "{}: {}", issue.disposition, issue.error))
    }
}

#[cfg(test)]
mod tests;
