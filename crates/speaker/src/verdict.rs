//! The verdict chain: which gate stopped an announcement, and what to do about it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::hindrance::Hindrance;

/// How an address is made reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// By answering ARP and NDP.
    Layer2,
    /// By routes given to routers.
    Bgp,
}

impl Protocol {
    /// Both.
    pub const ALL: [Protocol; 2] = [Protocol::Layer2, Protocol::Bgp];

    /// As it stands in metrics, logs and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Layer2 => "layer2",
            Protocol::Bgp => "bgp",
        }
    }

    /// The gates an announcement has to pass, in order (contract 5.1 and 6.1).
    pub const fn gates(self) -> &'static [Gate] {
        match self {
            Protocol::Layer2 => &[
                Gate::Type,
                Gate::Class,
                Gate::Address,
                Gate::Pool,
                Gate::Advertisement,
                Gate::Endpoints,
                Gate::Sharing,
                Gate::NodeSelected,
                Gate::NodeNetwork,
                Gate::NodeLabel,
                Gate::LocalEndpoints,
                Gate::NodeReady,
                Gate::Election,
                Gate::Interface,
            ],
            Protocol::Bgp => &[
                Gate::Type,
                Gate::Class,
                Gate::Address,
                Gate::Pool,
                Gate::Advertisement,
                Gate::NodeSelected,
                Gate::LocalPreference,
                Gate::NodeNetwork,
                Gate::NodeLabel,
                Gate::LocalEndpoints,
                Gate::Endpoints,
                Gate::Peer,
            ],
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One condition of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// The Service is of type LoadBalancer.
    Type,
    /// Its class is the one this program serves.
    Class,
    /// It has addresses, all of them valid.
    Address,
    /// They lie in one pool.
    Pool,
    /// An advertisement of the pool is meant for the Service.
    Advertisement,
    /// A backend can take traffic.
    Endpoints,
    /// A shared address is not announced by an advertisement with service selectors.
    Sharing,
    /// One of those advertisements selects this node.
    NodeSelected,
    /// The advertisements agree about the local preference.
    LocalPreference,
    /// The node's network is up.
    NodeNetwork,
    /// The node is neither labelled for exclusion nor drained.
    NodeLabel,
    /// Under `externalTrafficPolicy: Local`, a backend on this node can take traffic.
    LocalEndpoints,
    /// The node is alive, or no candidate is.
    NodeReady,
    /// The node is first in the election.
    Election,
    /// An interface that the advertisements name exists here.
    Interface,
    /// There is a peer to tell.
    Peer,
}

/// Why a Service is not announced from this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not of type LoadBalancer.
    NotLoadBalancer,
    /// Its class is another one.
    OtherClass,
    /// The controller gave it no address yet.
    NoAddress,
    /// An entry of its status is not an address.
    InvalidAddress(String),
    /// No pool holds this address.
    NotInPool(IpAddr),
    /// Its addresses are from different pools.
    SeveralPools,
    /// No advertisement selects the pool.
    NoAdvertisement(String),
    /// The pool's advertisements have service selectors, and none matches.
    ServiceNotSelected(String),
    /// No backend anywhere can take traffic.
    NoEndpoints,
    /// A sharing key together with service selectors.
    SharedWithServiceSelector,
    /// The cluster has no node of this name.
    NodeUnknown,
    /// The advertisements are for other nodes.
    NodeNotSelected,
    /// Two advertisements that want different local preferences for one route.
    ConflictingAdvertisements(String, String),
    /// The node has the condition `NetworkUnavailable`.
    NetworkUnavailable,
    /// The node has the label that excludes it from load balancers.
    ExcludedByLabel,
    /// The node has this taint, which says that it is drained.
    Drained(String),
    /// The node is not Ready, and another one can announce it.
    NodeNotReady,
    /// No backend on this node can take traffic.
    NoLocalEndpoints,
    /// This speaker has not found the others yet, of whom one may be the owner.
    NotJoined,
    /// Another node answers for it, or none can.
    NotElected(Option<String>),
    /// This keeps the node from announcing it, and another one can, or may.
    Hindered(Hindrance),
    /// None of the interfaces that the advertisements name exists here.
    NoSuchInterface(BTreeSet<String>),
    /// None of the peers it should be told to has a session on this node.
    NoPeer,
}

/// Why a Service is not announced any more as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is gone.
    Deleted,
    /// It is announced with other addresses: it has others, or this node announces one more of them.
    Changed,
    /// It, or one of its addresses, did not pass a gate.
    Refused(Refusal),
}

impl Loss {
    /// The word that MetalLB's logs have for it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Loss::Deleted => "serviceDeleted",
            Loss::Changed => "loadBalancerIPChanged",
            Loss::Refused(refusal) => refusal.reason(),
        }
    }
}

impl Refusal {
    /// The gate that it did not pass.
    pub const fn gate(&self) -> Gate {
        match self {
            Refusal::NotLoadBalancer => Gate::Type,
            Refusal::OtherClass => Gate::Class,
            Refusal::NoAddress | Refusal::InvalidAddress(_) => Gate::Address,
            Refusal::NotInPool(_) | Refusal::SeveralPools => Gate::Pool,
            Refusal::NoAdvertisement(_) | Refusal::ServiceNotSelected(_) => Gate::Advertisement,
            Refusal::NoEndpoints => Gate::Endpoints,
            Refusal::SharedWithServiceSelector => Gate::Sharing,
            Refusal::NodeUnknown | Refusal::NodeNotSelected => Gate::NodeSelected,
            Refusal::ConflictingAdvertisements(..) => Gate::LocalPreference,
            Refusal::NetworkUnavailable => Gate::NodeNetwork,
            Refusal::ExcludedByLabel | Refusal::Drained(_) => Gate::NodeLabel,
            Refusal::NodeNotReady => Gate::NodeReady,
            Refusal::NoLocalEndpoints => Gate::LocalEndpoints,
            Refusal::NotJoined | Refusal::NotElected(_) | Refusal::Hindered(_) => Gate::Election,
            Refusal::NoSuchInterface(_) => Gate::Interface,
            Refusal::NoPeer => Gate::Peer,
        }
    }

    /// How an address that was announced so far is given up: another node may well be about to announce it.
    pub(crate) const fn ending(&self) -> Ending {
        match self {
            Refusal::NotElected(Some(_))
            | Refusal::Hindered(_)
            | Refusal::NodeNotReady
            | Refusal::ExcludedByLabel
            | Refusal::NodeNotSelected => Ending::HandOver,
            _ => Ending::Withdraw,
        }
    }

    /// The word that MetalLB's logs have for it (contract 5.1, 6.1).
    pub const fn reason(&self) -> &'static str {
        match self {
            Refusal::NotLoadBalancer => "notLoadBalancer",
            Refusal::OtherClass => "otherLoadBalancerClass",
            Refusal::NoAddress => "noIPAllocated",
            Refusal::InvalidAddress(_) => "invalidIP",
            Refusal::NotInPool(_) | Refusal::SeveralPools => "ipNotAllowed",
            Refusal::NoAdvertisement(_) | Refusal::ServiceNotSelected(_) | Refusal::NodeNotSelected => {
                "noMatchingAdvertisement"
            }
            Refusal::NodeUnknown => "nodeUnknown",
            Refusal::NoEndpoints => "noEndpoints",
            Refusal::SharedWithServiceSelector => "sharedIPWithServiceSelector",
            Refusal::ConflictingAdvertisements(..) => "conflictingAdvertisements",
            Refusal::NetworkUnavailable => "nodeNetworkUnavailable",
            Refusal::ExcludedByLabel => "nodeLabeledExcludeBalancers",
            Refusal::Drained(_) => "nodeDrained",
            Refusal::NodeNotReady => "nodeNotReady",
            Refusal::NoLocalEndpoints => "noLocalEndpoints",
            Refusal::NotJoined => "notJoined",
            Refusal::NotElected(_) => "notOwner",
            Refusal::Hindered(_) => "nodeHindered",
            Refusal::NoSuchInterface(_) => "noSuchInterface",
            Refusal::NoPeer => "noPeer",
        }
    }

    /// What the reader can do about it; `None` where things are as they should be.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Refusal::NotLoadBalancer | Refusal::OtherClass | Refusal::NotElected(Some(_)) => None,
            Refusal::NoAddress => Some("look at the events of the Service: the controller says why it got no address"),
            Refusal::InvalidAddress(_) => Some("something else writes this Service's status: find it and stop it"),
            Refusal::NotInPool(_) => Some("add the address to an IPAddressPool, or let the controller reassign it"),
            Refusal::SeveralPools => Some("delete one of the addresses from the status; both must be from one pool"),
            Refusal::NoAdvertisement(_) => {
                Some("create an L2Advertisement or a BGPAdvertisement that selects the pool")
            }
            Refusal::ServiceNotSelected(_) => Some("change the serviceSelectors or the labels of the Service"),
            Refusal::NoEndpoints => Some("start a pod that the Service selects and that is ready"),
            Refusal::SharedWithServiceSelector => {
                Some("remove allow-shared-ip from the Service or serviceSelectors from the L2Advertisement")
            }
            Refusal::NodeUnknown => Some("give the speaker the name that its Node object has (--node-name)"),
            Refusal::NodeNotSelected => Some("change the nodeSelectors of the advertisement or the labels of the node"),
            Refusal::ConflictingAdvertisements(..) => Some("give both advertisements the same localPref"),
            Refusal::NetworkUnavailable => Some("look at the condition NetworkUnavailable of the node"),
            Refusal::ExcludedByLabel => Some(
                "remove the label node.kubernetes.io/exclude-from-external-load-balancers, or run with --ignore-exclude-lb",
            ),
            Refusal::Drained(_) => Some("remove the taint from the node when it is to take traffic again"),
            Refusal::NodeNotReady => Some("look at the condition Ready of the node"),
            Refusal::NoLocalEndpoints => {
                Some("run a backend on this node, or set externalTrafficPolicy: Cluster on the Service")
            }
            Refusal::NotJoined => {
                Some("wait a few seconds; else look at the speaker's log for what it says of memberlist")
            }
            Refusal::NotElected(None) => Some("no node can announce it: look at the nodes' labels and conditions"),
            Refusal::Hindered(_) => {
                Some("look at the node's links, addresses and default routes; what is back counts after a while")
            }
            Refusal::NoSuchInterface(_) => Some("correct the interfaces of the L2Advertisement, or select other nodes"),
            Refusal::NoPeer => Some("create a BGPPeer that selects this node and that the advertisement names"),
        }
    }

    /// The reason that a condition on the Service has for it.
    pub const fn condition_reason(&self) -> &'static str {
        match self {
            Refusal::NotLoadBalancer => "NotLoadBalancer",
            Refusal::OtherClass => "OtherClass",
            Refusal::NoAddress => "NoAddress",
            Refusal::InvalidAddress(_) => "InvalidAddress",
            Refusal::NotInPool(_) => "NotInPool",
            Refusal::SeveralPools => "SeveralPools",
            Refusal::NoAdvertisement(_) => "NoAdvertisement",
            Refusal::ServiceNotSelected(_) => "ServiceNotSelected",
            Refusal::NoEndpoints => "NoEndpoints",
            Refusal::SharedWithServiceSelector => "SharedWithServiceSelector",
            Refusal::NodeUnknown => "NodeUnknown",
            Refusal::NodeNotSelected => "NodeNotSelected",
            Refusal::ConflictingAdvertisements(..) => "ConflictingAdvertisements",
            Refusal::NetworkUnavailable => "NetworkUnavailable",
            Refusal::ExcludedByLabel => "ExcludedByLabel",
            Refusal::Drained(_) => "Drained",
            Refusal::NodeNotReady => "NodeNotReady",
            Refusal::NoLocalEndpoints => "NoLocalEndpoints",
            Refusal::NotJoined => "NotJoined",
            Refusal::NotElected(_) => "NotElected",
            Refusal::Hindered(_) => "Hindered",
            Refusal::NoSuchInterface(_) => "NoSuchInterface",
            Refusal::NoPeer => "NoPeer",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotLoadBalancer => f.write_str("the Service is not of type LoadBalancer"),
            Refusal::OtherClass => f.write_str("the Service's loadBalancerClass is served by someone else"),
            Refusal::NoAddress => f.write_str("the Service has no address"),
            Refusal::InvalidAddress(text) => write!(f, "the Service's status holds {text:?}, which is no address"),
            Refusal::NotInPool(address) => write!(f, "no pool holds {address}"),
            Refusal::SeveralPools => f.write_str("the Service's addresses are from different pools"),
            Refusal::NoAdvertisement(pool) => write!(f, "no advertisement selects pool {pool:?}"),
            Refusal::ServiceNotSelected(pool) => {
                write!(f, "the advertisements of pool {pool:?} do not select the Service")
            }
            Refusal::NoEndpoints => f.write_str("no backend can take traffic"),
            Refusal::SharedWithServiceSelector => {
                f.write_str("the address may be shared, and an advertisement of it has serviceSelectors")
            }
            Refusal::NodeUnknown => f.write_str("the cluster has no node of this name"),
            Refusal::NodeNotSelected => f.write_str("no advertisement for the Service selects this node"),
            Refusal::ConflictingAdvertisements(one, other) => {
                write!(f, "advertisements {one:?} and {other:?} want different localPref for the same route")
            }
            Refusal::NetworkUnavailable => f.write_str("the node's network is unavailable"),
            Refusal::ExcludedByLabel => f.write_str("the node is labelled to be excluded from load balancers"),
            Refusal::Drained(taint) => write!(f, "the node is drained: it has the taint {taint}"),
            Refusal::NodeNotReady => f.write_str("the node is not ready, and others are"),
            Refusal::NoLocalEndpoints => f.write_str("no backend on this node can take traffic"),
            Refusal::NotJoined => f.write_str("the speaker has not found the other speakers yet"),
            Refusal::NotElected(Some(owner)) => write!(f, "node {owner:?} announces it"),
            Refusal::NotElected(None) => f.write_str("no node can announce it"),
            Refusal::Hindered(hindrance) => write!(f, "others are to announce it, for here {hindrance}"),
            Refusal::NoSuchInterface(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                write!(f, "the node has none of the interfaces {}", names.join(", "))
            }
            Refusal::NoPeer => f.write_str("none of its peers has a session on this node"),
        }
    }
}

/// How an address is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// At once.
    Withdraw,
    /// When another node has announced it.
    HandOver,
}

/// What was decided for one Service and one protocol on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<T> {
    /// What is announced, or the first gate that was not passed.
    pub outcome: Result<T, Refusal>,
}

/// How one gate of a chain was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The condition holds.
    Passed,
    /// It does not: this is why nothing is announced.
    Refused(&'a Refusal),
    /// A gate before it refused, so nobody asked.
    NotReached,
}

impl<T> Decision<T> {
    /// The whole chain, gate by gate.
    pub fn chain(&self, protocol: Protocol) -> Vec<(Gate, Verdict<'_>)> {
        let refusal = self.outcome.as_ref().err();
        let mut refused = false;
        let verdict_of = |gate: &Gate| match refusal {
            Some(refusal) if refusal.gate() == *gate => {
                refused = true;
                (*gate, Verdict::Refused(refusal))
            }
            _ if refused => (*gate, Verdict::NotReached),
            _ => (*gate, Verdict::Passed),
        };
        protocol.gates().iter().map(verdict_of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_stops_at_the_first_refusal() {
        let decision: Decision<()> = Decision { outcome: Err(Refusal::NoEndpoints) };
        let chain = decision.chain(Protocol::Layer2);
        let position = Protocol::Layer2.gates().iter().position(|gate| *gate == Gate::Endpoints).unwrap();
        assert!(chain[..position].iter().all(|(_, verdict)| *verdict == Verdict::Passed));
        assert_eq!(chain[position].1, Verdict::Refused(&Refusal::NoEndpoints));
        assert!(chain[position + 1..].iter().all(|(_, verdict)| *verdict == Verdict::NotReached));
    }

    #[test]
    fn a_grant_passed_every_gate() {
        let decision = Decision { outcome: Ok(()) };
        for protocol in Protocol::ALL {
            assert!(decision.chain(protocol).iter().all(|(_, verdict)| *verdict == Verdict::Passed));
        }
    }

    #[test]
    fn a_loss_has_the_word_that_the_go_implementation_logs() {
        assert_eq!(Loss::Deleted.reason(), "serviceDeleted");
        assert_eq!(Loss::Changed.reason(), "loadBalancerIPChanged");
        assert_eq!(Loss::Refused(Refusal::NotElected(None)).reason(), "notOwner");
    }
}
