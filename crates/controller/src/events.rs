//! What is told about a Service, as Kubernetes events (contract 3.6). Reasons and the quoted parts are what programs and
//! people look for.

use api::core::Service;
use api::{Event, EventType, ObjectRef, Resource};
use ipam::{Allocator, Holder, Holding};

use crate::decide::{Cleared, Gained, Loss, want};
use crate::demand::{Ask, key};
use crate::ledger::Seen;
use crate::problem::{Cause, Problem};

const IP_ALLOCATED: &str = "IPAllocated";
const CLEAR_ASSIGNMENT: &str = "ClearAssignment";
const ADDITIONAL_ASSIGN_FAILED: &str = "AdditionalAssignFailed";
const ALLOCATION_FAILED: &str = "AllocationFailed";
const LOAD_BALANCER_FAILED: &str = "LoadBalancerFailed";
const NOT_ENOUGH_CLUSTER_IPS: &str = "not enough clusterips";
const STATUS_FAMILIES: &str = "nolbIPsIPFamily";
const CLUSTER_IP_FAMILIES: &str = "noclusterIPsIPFamily";
const DEPRECATED_ANNOTATION: &str = "deprecatedAnnotation";
const STATUS_OVERWRITTEN: &str = "StatusOverwritten";

/// Pools that are named when none has an address; an event has to stay readable.
const POOLS_TOLD_MAX: usize = 6;

/// About whom something is told.
pub(crate) struct Teller<'a> {
    pub(crate) holder: &'a Holder,
    pub(crate) uid: &'a str,
}

impl Teller<'_> {
    fn event(&self, type_: EventType, reason: &'static str, message: String) -> Event {
        let object = ObjectRef { kind: Service::KIND, key: key(self.holder) };
        Event { object, uid: self.uid.to_owned(), type_, reason, message }
    }

    pub(crate) fn cleared(&self, cleared: &Cleared) -> Event {
        let service = self.holder;
        match cleared {
            Cleared::Addresses(addresses, loss) => {
                let cause = match loss {
                    Loss::Families(stack) => format!("it does not match the ipFamily of the service, {stack}"),
                    Loss::Refused(refusal) => refusal.to_string(),
                    Loss::Cause(cause) => cause.to_string(),
                };
                let message = format!("Service {service:?} can no longer have {addresses}: {cause}");
                self.event(EventType::Normal, CLEAR_ASSIGNMENT, message)
            }
            Cleared::Garbage(shown) => {
                let message = format!(
                    "The status of service {service:?} shows {shown}, which is not one address or one of each family"
                );
                self.event(EventType::Warning, STATUS_FAMILIES, message)
            }
        }
    }

    pub(crate) fn gained(&self, gained: &Gained) -> Event {
        let message = match gained {
            Gained::Addresses(addresses, pool) => format!("Assigned IP {addresses} from pool {pool:?}"),
            Gained::Second(address) => format!("Assigned additional IP \"{address}\""),
        };
        self.event(EventType::Normal, IP_ALLOCATED, message)
    }

    /// Tells why a Service does not have what it asks for; nothing while it cannot be known what that would be.
    pub(crate) fn problem(&self, allocator: &Allocator, ask: &Ask, problem: &Problem) -> Option<Event> {
        let (type_, reason) = match (&problem.cause, problem.keeps) {
            (Cause::NoClusterIp, _) => return None,
            (Cause::NotEnoughClusterIps(_), _) => (EventType::Warning, NOT_ENOUGH_CLUSTER_IPS),
            (Cause::ClusterIpFamilies(_), _) => (EventType::Warning, CLUSTER_IP_FAMILIES),
            (Cause::NoSecondAddress(_), _) => (EventType::Normal, ADDITIONAL_ASSIGN_FAILED),
            (Cause::Malformed(_), Some(_)) => (EventType::Warning, LOAD_BALANCER_FAILED),
            (Cause::NoPools | Cause::Malformed(_) | Cause::Refused(_), _) => (EventType::Warning, ALLOCATION_FAILED),
        };
        let (service, cause) = (self.holder, &problem.cause);
        let message = match problem.keeps {
            Some(addresses) => format!("Service {service:?} keeps {addresses}: {cause}"),
            None => format!("Service {service:?} has no address: {}", lament(allocator, ask, cause)),
        };
        Some(self.event(type_, reason, message))
    }

    pub(crate) fn deprecated(&self, annotation: &str) -> Event {
        let present = annotation.replacen(api::LEGACY_ANNOTATION_PREFIX, api::ANNOTATION_PREFIX, 1);
        let message = format!("The annotation {annotation:?} is deprecated; use {present:?}");
        self.event(EventType::Warning, DEPRECATED_ANNOTATION, message)
    }

    pub(crate) fn overwritten(&self, seen: &Seen, holding: Option<&Holding>) -> Event {
        let message = format!(
            "{} set the status of service {:?} to {}; it is set back to {}. \
             Another load balancer may be serving it too",
            writer(seen),
            self.holder,
            seen.text(),
            right(holding),
        );
        self.event(EventType::Warning, STATUS_OVERWRITTEN, message)
    }

    pub(crate) fn left_alone(&self, seen: &Seen, holding: Option<&Holding>) -> Event {
        let message = format!(
            "{} keeps setting the status of service {:?} to {}; it is left alone now, though it should be {}. \
             Two load balancers serve this service: end one of them (of k3s: --disable=servicelb), or keep them apart by \
             spec.loadBalancerClass",
            writer(seen),
            self.holder,
            seen.text(),
            right(holding),
        );
        self.event(EventType::Warning, STATUS_OVERWRITTEN, message)
    }
}

/// Who wrote a status.
fn writer(seen: &Seen) -> String {
    if seen.writer.is_empty() { "Something else".to_owned() } else { format!("{:?}", seen.writer) }
}

/// What a status should show.
fn right(holding: Option<&Holding>) -> String {
    match holding {
        Some(holding) => format!("{} from pool {:?}", holding.addresses, holding.pool),
        None => "no address".to_owned(),
    }
}

/// Why a Service has no address, what each pool says to it if none was named, and what to do.
pub(crate) fn lament(allocator: &Allocator, ask: &Ask, cause: &Cause) -> String {
    let tried = match cause {
        Cause::Refused(ipam::Refusal::NoneAvailable) => pools_tried(allocator, ask),
        _ => String::new(),
    };
    format!("{cause}{tried}; hint: {}", cause.hint())
}

/// ` (pool a: ...; pool b: ...; and 3 more)`.
fn pools_tried(allocator: &Allocator, ask: &Ask) -> String {
    let Some(want) = ask.stack.as_ref().ok().and_then(|stack| want(ask, *stack, None).ok()) else {
        return String::new();
    };
    let told: Vec<String> =
        allocator.verdicts(&ask.client, &want).take(POOLS_TOLD_MAX).map(|report| report.to_string()).collect();
    let more = allocator.usages().count().saturating_sub(told.len());
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!(" ({}{rest})", told.join("; "))
}
