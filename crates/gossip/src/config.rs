//! What a member is told once, when it is made.

use std::net::SocketAddr;

use crate::wire::{LABEL_MAX, META_MAX};
use crate::{Keyring, Name, Patience, Profile};

/// How a member is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name: that of the Kubernetes node.
    pub name: Name,
    /// Where others reach it. Its port is also that of members that do not say theirs.
    pub address: SocketAddr,
    /// How it behaves in time.
    pub profile: Profile,
    /// How long watched members may be silent.
    pub patience: Patience,
    /// Who is watched.
    pub vigilance: Vigilance,
    /// The keys of the cluster.
    pub keyring: Keyring,
    /// The label of the cluster; MetalLB has none.
    pub label: Label,
    /// What it says about itself; MetalLB says nothing.
    pub meta: Meta,
}

impl Config {
    /// As MetalLB sets up its members, with default timing.
    pub fn new(name: Name, address: SocketAddr, keyring: Keyring) -> Self {
        Config {
            name,
            address,
            profile: Profile::LAN,
            patience: Patience::DEFAULT,
            vigilance: Vigilance::Circle,
            keyring,
            label: Label::default(),
            meta: Meta::default(),
        }
    }
}

/// Who is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vigilance {
    /// Whom the speaker wants watched, and no others: they are left to memberlist's own probes.
    Wanted,
    /// A few others too, in a circle of all members: wherever the network falls apart, both sides see it.
    Circle,
}

/// The label of a cluster: members with different ones ignore each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label(Vec<u8>);

/// What a member says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta(Vec<u8>);

/// There are too many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are more than {0} bytes")]
pub struct TooLong(usize);

impl Label {
    /// A label of at most [`LABEL_MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, TooLong> {
        if bytes.len() > LABEL_MAX { Err(TooLong(LABEL_MAX)) } else { Ok(Label(bytes.to_vec())) }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Meta {
    /// At most [`META_MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, TooLong> {
        if bytes.len() > META_MAX { Err(TooLong(META_MAX)) } else { Ok(Meta(bytes.to_vec())) }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
