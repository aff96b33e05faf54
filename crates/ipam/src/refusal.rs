//! Why a Service does not get what it asks for, as values. The texts hold the stable parts of contract 3.6, which people
//! search for, and name the other Service, port or pool that is in the way.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use kit::Family;

use crate::{Addresses, Backend, Families, Holder, PoolName, Port, Sharing, Stack};

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No pool that may be used unasked has what is needed; [`crate::Allocator::verdicts`] tells about each.
    NoneAvailable,
    /// The requested pool, or the pool of the address that a second one should join, has nothing left.
    NoneAvailableIn {
        /// The pool.
        pool: PoolName,
        /// What is needed.
        families: Families,
        /// What kept the pool from giving it.
        because: PoolVerdict,
    },
    /// There is no pool of the requested name.
    UnknownPool(PoolName),
    /// Addresses that no pool may give out together.
    NotInConfig {
        /// The addresses.
        addresses: Addresses,
        /// What is wrong with them.
        because: Misplaced,
    },
    /// The pool does not accept the Service.
    NotAccepted {
        /// The pool.
        pool: PoolName,
        /// The condition that does not hold.
        because: NotAccepted,
    },
    /// The address is used by a Service that cannot share it with this one.
    NotShareable {
        /// The Service that asks.
        service: Holder,
        /// The address.
        address: IpAddr,
        /// A Service that uses it.
        by: Holder,
        /// How many more use it.
        more: usize,
        /// Why the two cannot share.
        difference: Box<Difference>,
    },
    /// The address is shared with a Service that listens on the same port.
    PortInUse {
        /// The address.
        address: IpAddr,
        /// The port.
        port: Port,
        /// The Service that has it.
        by: Holder,
    },
    /// The requested addresses are not of the families of the Service.
    WrongFamily {
        /// The addresses.
        addresses: Addresses,
        /// What the Service needs.
        stack: Stack,
    },
    /// The requested addresses are not in the requested pool.
    WrongPool {
        /// The addresses.
        addresses: Addresses,
        /// The pool they are in.
        pool: PoolName,
        /// The pool that is requested.
        requested: PoolName,
    },
}

/// Why no pool may give out some addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// No pool holds the address.
    NoPool(IpAddr),
    /// The address ends in 0 or 255 and its pool has `avoidBuggyIPs`.
    Buggy(IpAddr, PoolName),
    /// The two addresses are in different pools.
    TwoPools(PoolName, PoolName),
}

/// Why a pool does not accept a Service (`serviceAllocation`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// It is not for this namespace.
    Namespace(Box<str>),
    /// It is for Services with other labels.
    Labels,
}

/// Why two Services cannot share an address (contract 3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Neither has a sharing key.
    NeitherShares,
    /// The one that has the address has no sharing key.
    TheyDoNotShare,
    /// The one that asks has no sharing key.
    WeDoNotShare,
    /// The keys differ.
    Keys {
        /// The key on the address.
        theirs: Box<str>,
        /// The key of the one that asks.
        ours: Box<str>,
    },
    /// Traffic policy or backends differ.
    Backends {
        /// What the address is used for.
        theirs: Backend,
        /// What the one that asks wants.
        ours: Backend,
    },
}

impl Difference {
    /// What keeps these two apart; `None` when nothing does.
    pub(crate) fn between(theirs: Option<&Arc<Sharing>>, ours: Option<&Arc<Sharing>>) -> Option<Difference> {
        match (theirs, ours) {
            (None, None) => Some(Difference::NeitherShares),
            (None, Some(_)) => Some(Difference::TheyDoNotShare),
            (Some(_), None) => Some(Difference::WeDoNotShare),
            (Some(theirs), Some(ours)) if theirs.key != ours.key => {
                Some(Difference::Keys { theirs: theirs.key.clone(), ours: ours.key.clone() })
            }
            (Some(theirs), Some(ours)) if theirs.backend != ours.backend => {
                Some(Difference::Backends { theirs: theirs.backend.clone(), ours: ours.backend.clone() })
            }
            (Some(_), Some(_)) => None,
        }
    }
}

/// What one pool says to one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReport {
    /// The pool.
    pub pool: PoolName,
    /// What it says.
    pub verdict: PoolVerdict,
}

/// Whether a pool gives addresses to a Service, and if not why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolVerdict {
    /// It would give these.
    Gives(Addresses),
    /// All its addresses of a family are in use, and none can be shared.
    Exhausted {
        /// The family.
        family: Family,
        /// How many addresses of it can be used.
        usable: u128,
        /// The sharing key of the Service, if it has one.
        key: Option<Box<str>>,
    },
    /// It has no addresses of a family that may be given out.
    FamilyMissing(Family),
    /// It does not accept the Service.
    NotAccepted(NotAccepted),
    /// `autoAssign` is off, and nobody asked for it.
    NotAutomatic,
    /// `serviceAllocation` names neither namespaces nor Services, so it is only used when asked for.
    OnRequestOnly,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoneAvailable => f.write_str("no available IPs"),
            Refusal::NoneAvailableIn { pool, families, because } => {
                write!(f, "no available IPs in pool {pool} for {families}: {because}")
            }
            Refusal::UnknownPool(pool) => write!(f, "unknown pool {pool:?}"),
            Refusal::NotInConfig { addresses, because } => {
                write!(f, "{addresses} is not allowed in config: {because}")
            }
            Refusal::NotAccepted { pool, because } => {
                write!(f, "pool {pool} not compatible for ip assignment: {because}")
            }
            Refusal::NotShareable { service, address, by, more, difference } => {
                write!(f, "can't change sharing key for {service:?}: {address} is used by {by:?}")?;
                if *more > 0 {
                    write!(f, " and {more} more")?;
                }
                write!(f, ", {difference}")
            }
            Refusal::PortInUse { address, port, by } => {
                write!(f, "port {port} is already in use on \"{address}\" by {by:?}")
            }
            Refusal::WrongFamily { addresses, stack } => {
                write!(
                    f,
                    "requested loadBalancer IP(s) {addresses} does not match the ipFamily of the service, {stack}"
                )
            }
            Refusal::WrongPool { addresses, pool, requested } => {
                write!(
                    f,
                    "requested loadBalancer IP(s) {addresses} is not compatible with requested address pool {requested}: \
                     it is in pool {pool}"
                )
            }
        }
    }
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misplaced::NoPool(address) => write!(f, "{address} is in no pool"),
            Misplaced::Buggy(address, pool) => {
                write!(f, "{address} ends in 0 or 255, which pool {pool} avoids (avoidBuggyIPs)")
            }
            Misplaced::TwoPools(first, second) => write!(f, "one is in pool {first}, the other in pool {second}"),
        }
    }
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAccepted::Namespace(namespace) => write!(f, "it is not for namespace {namespace:?}"),
            NotAccepted::Labels => f.write_str("none of its serviceSelectors matches the labels of the Service"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::NeitherShares => f.write_str("and neither has a sharing key"),
            Difference::TheyDoNotShare => f.write_str("which has no sharing key"),
            Difference::WeDoNotShare => f.write_str("and this Service has no sharing key"),
            Difference::Keys { theirs, ours } => {
                write!(f, "which has sharing key {theirs:?} while this Service has {ours:?}")
            }
            Difference::Backends { theirs, ours } => write!(f, "which has {theirs} while this Service has {ours}"),
        }
    }
}

impl fmt::Display for PoolVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolVerdict::Gives(addresses) => write!(f, "it gives {addresses}"),
            PoolVerdict::Exhausted { family, usable, key } => {
                match usable {
                    1 => write!(f, "its only {family} address is in use")?,
                    // Contract 3.5 counts no further.
                    &u128::MAX => write!(f, "all its {family} addresses are in use")?,
                    usable => write!(f, "all {usable} of its {family} addresses are in use")?,
                }
                key.iter().try_for_each(|key| write!(f, ", and none under sharing key {key:?} has a place"))
            }
            PoolVerdict::FamilyMissing(family) => write!(f, "it has no usable {family} addresses"),
            PoolVerdict::NotAccepted(because) => because.fmt(f),
            PoolVerdict::NotAutomatic => f.write_str("its autoAssign is off"),
            PoolVerdict::OnRequestOnly => {
                f.write_str("its serviceAllocation names no namespace and no Service, so it has to be asked for")
            }
        }
    }
}

impl fmt::Display for PoolReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}: {}", self.pool, self.verdict)
    }
}
