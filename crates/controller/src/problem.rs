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
