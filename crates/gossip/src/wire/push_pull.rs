//! All that a member knows of all members, over TCP (type 6): how members join, and how lists that drifted apart come
//! together.

use super::message::{RawNode, node_encode};
use super::msgpack::{self, Known, Reader};
use super::{Alive, DecodeError, MessageType};

/// The most members of one exchange, and of a list. Kubernetes is built for 5,000 nodes.
pub const MEMBERS_MAX: usize = 8192;

/// A member, as somebody else sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Who and where.
    pub node: Alive,
    /// What the sender makes of it.
    pub health: Health,
}

/// What a member makes of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It is there.
    Alive = 0,
    /// It may have failed.
    Suspect = 1,
    /// It failed.
    Dead = 2,
    /// It left.
    Left = 3,
}

impl Health {
    fn from_wire(number: u64) -> Option<Health> {
        [Health::Alive, Health::Suspect, Health::Dead, Health::Left].into_iter().find(|it| *it as u64 == number)
    }
}

/// One direction of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushPull {
    /// Whether the sender joins, or looks whether something was missed.
    pub join: bool,
    /// Those that it knows, itself included.
    pub nodes: Vec<NodeState>,
}

impl PushPull {
    /// The exchange as it is sent.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![MessageType::PushPull as u8];
        msgpack::write_map(&mut out, 3);
        msgpack::write_raw(&mut out, b"Join");
        msgpack::write_boolean(&mut out, self.join);
        msgpack::write_raw(&mut out, b"Nodes");
        msgpack::write_unsigned(&mut out, u64::try_from(self.nodes.len()).unwrap_or(u64::MAX));
        msgpack::write_raw(&mut out, b"UserStateLen");
        msgpack::write_unsigned(&mut out, 0);
        for state in &self.nodes {
            node_encode(&mut out, &state.node, Some(state.health as u8));
        }
        out
    }
}

/// An exchange that is being read: members come one after the other, perhaps in pieces.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    join: bool,
    /// How many members are still to come.
    left: usize,
    nodes: Vec<NodeState>,
}

impl Progress {
    /// Reads the head; the reader then stands at the first member.
    pub(super) fn begin(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mut join, mut left) = (false, 0);
        reader.map(|key, value| {
            match key {
                b"Join" => join = value.boolean()?,
                b"Nodes" => left = value.unsigned()?,
                // The state of an application, which comes last. There is none that we know, so it is not waited for.
                _ => return Ok(Known::No),
            }
            Ok(Known::Yes)
        })?;
        if left > MEMBERS_MAX {
            return Err(DecodeError::TooLarge { field: "Nodes", limit: MEMBERS_MAX });
        }
        Ok(Progress { join, left, nodes: Vec::new() })
    }

    /// Reads as many members as are there, and leaves the reader behind the last whole one. A member that makes no
    /// sense is left out: it is not to keep the others away.
    pub(super) fn advance(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        while self.left > 0 {
            let mut ahead = *reader;
            match RawNode::decode(&mut ahead) {
                Ok(raw) => {
                    if let Ok((node, number)) = raw.validate()
                        && let Some(health) = Health::from_wire(number)
                    {
                        self.nodes.push(NodeState { node, health });
                    }
                }
                Err(DecodeError::Truncated(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
            *reader = ahead;
            self.left = self.left.saturating_sub(1);
        }
        Ok(())
    }

    /// The exchange, if all of it is there.
    pub(super) fn finish(&mut self) -> Option<PushPull> {
        (self.left == 0).then(|| PushPull { join: self.join, nodes: std::mem::take(&mut self.nodes) })
    }
}
