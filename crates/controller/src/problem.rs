//! Why a Service has no address, or not the one it wants, as values.

use std::fmt;

use ipam::{Addresses, Refusal};

use crate::RequestError;

/// What keeps a Service from having what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub cause: Cause,
    /// What it has nevertheless.
    pub keeps: Option<Addresses>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No pool is configured.
    NoPools,
    /// The Service has no cluster address yet, so its family cannot be known.
    NoClusterIp,
    /// `RequireDualStack`, but the Service has fewer than two cluster addresses; with what it has.
    NotEnoughClusterIps(Box<str>),
    /// The cluster addresses are no addresses, or not one of each family; with what they are.
    ClusterIpFamilies(Box<str>),
    /// The request for addresses cannot be understood.
    Malformed(RequestError),
    /// The request cannot be met.
    Refused(Refusal),
    /// There is no second address for a Service that prefers to have two.
    NoSecondAddress(Refusal),
}

impl Cause {
    /// The word that programs read in the condition of the Service.
    pub const fn reason(&self) -> &'static str {
        match self {
            Cause::NoPools => "NoPools",
            Cause::NoClusterIp => "NoClusterIP",
            Cause::NotEnoughClusterIps(_) => "NotEnoughClusterIPs",
            Cause::ClusterIpFamilies(_) => "ClusterIPFamilies",
            Cause::Malformed(_) => "MalformedRequest",
            Cause::Refused(refusal) | Cause::NoSecondAddress(refusal) => match refusal {
                Refusal::NoneAvailable => "NoAddressAvailable",
                Refusal::NoneAvailableIn { .. } => "NoAddressInPool",
                Refusal::UnknownPool(_) => "UnknownPool",
                Refusal::NotInConfig { .. } => "AddressNotInPool",
                Refusal::NotAccepted { .. } => "NotAcceptedByPool",
                Refusal::NotShareable { .. } => "AddressInUse",
                Refusal::PortInUse { .. } => "PortInUse",
                Refusal::WrongFamily { .. } => "WrongFamily",
                Refusal::WrongPool { .. } => "WrongPool",
            },
        }
    }

    /// What the reader can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Cause::NoPools => "create an IPAddressPool",
            Cause::NoClusterIp => "wait for its cluster IP; one without any cannot be served",
            Cause::NotEnoughClusterIps(_) => "set ipFamilyPolicy to SingleStack, or make the cluster dual-stack",
            Cause::ClusterIpFamilies(_) => "give it a cluster IP: a headless Service cannot be served",
            Cause::Malformed(_) => "correct what is named, or remove it to get any address",
            Cause::Refused(refusal) | Cause::NoSecondAddress(refusal) => match refusal {
                Refusal::NoneAvailable => "add addresses to a pool that accepts the Service, or delete Services",
                Refusal::NoneAvailableIn { .. } => "add addresses to that pool, or ask for another one",
                Refusal::UnknownPool(_) => "create the IPAddressPool, or name another in metallb.io/address-pool",
                Refusal::NotInConfig { .. } => "ask for an address of a pool, or add it to one",
                Refusal::NotAccepted { .. } => "change serviceAllocation of the pool, or ask for another pool",
                Refusal::NotShareable { .. } => {
                    "ask for another address, or give both Services the same metallb.io/allow-shared-ip, policy and backends"
                }
                Refusal::PortInUse { .. } => "use another port, or ask for another address",
                Refusal::WrongFamily { .. } => "ask for addresses of the families that its cluster IPs have",
                Refusal::WrongPool { .. } => "ask for an address of that pool, or do not ask for the pool",
            },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NoPools => f.write_str("no available IPs: no IPAddressPool is configured"),
            Cause::NoClusterIp => f.write_str("it has no cluster IP yet, which would tell the family"),
            Cause::NotEnoughClusterIps(shown) => {
                write!(f, "it requires dual stack but has not enough cluster IPs: {shown}")
            }
            Cause::ClusterIpFamilies(shown) => {
                write!(f, "its cluster IPs have to be one address, or one of each family, but are {shown}")
            }
            Cause::Malformed(error) => error.fmt(f),
            Cause::Refused(refusal) => refusal.fmt(f),
            Cause::NoSecondAddress(refusal) => write!(f, "PreferDualStack, but {refusal}"),
        }
    }
}
