//! Multicast groups of one interface: in the NIC's filter, and told to switches by MLD, as the kernel does for every
//! group that a socket joins (`IPV6_JOIN_GROUP` needs no capability).
//!
//! A socket holds a limited number of groups (`net.core.optmem_max`: about 2,300 of them today, 365 on kernels before
//! 6.8), so there are as many sockets as it takes. Joining slows down as groups become many, since the kernel searches a
//! list: ten thousand take half a second. So a task of its own joins and leaves, a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, PoisonError};

use kit::InterfaceIndex;
use socket2::{Domain, Socket, Type};
use sys::packet::PacketSocket;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Sockets for the groups of one interface: room for over 20,000 groups on any kernel.
const GROUP_SOCKETS_MAX: usize = 64;
/// The task lets others have their turn after this many groups: a few milliseconds at worst.
const GROUPS_PER_TURN: usize = 32;

/// The groups of an interface, as long as this lives.
#[derive(Debug)]
pub(super) struct Groups(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Notify,
}

/// What the task has still to do: at most one thing for each group.
#[derive(Debug, Default)]
struct Pending {
    leave: BTreeSet<Ipv6Addr>,
    join: BTreeSet<Ipv6Addr>,
    has_ended: bool,
}

impl Groups {
    /// Begins without groups. `socket` receives on the interface what the groups are joined for.
    pub(super) fn start(interface: InterfaceIndex, socket: Arc<AsyncFd<PacketSocket>>) -> Self {
        let shared = Arc::new(Shared::default());
        tokio::spawn(follow(Memberships::new(interface), socket, Arc::clone(&shared)));
        Groups(shared)
    }

    /// Joins, soon.
    pub(super) fn join(&self, groups: Vec<Ipv6Addr>) {
        self.0.change(|pending| {
            for group in groups {
                if !pending.leave.remove(&group) {
                    pending.join.insert(group);
                }
            }
        });
    }

    /// Leaves, soon.
    pub(super) fn leave(&self, groups: Vec<Ipv6Addr>) {
        self.0.change(|pending| {
            for group in groups {
                if !pending.join.remove(&group) {
                    pending.leave.insert(group);
                }
            }
        });
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.0.change(|pending| pending.has_ended = true);
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    /// The next groups to leave and to join; `None` at the end.
    fn take(&self) -> Option<(Vec<Ipv6Addr>, Vec<Ipv6Addr>)> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.has_ended {
            return None;
        }
        let take =
            |groups: &mut BTreeSet<Ipv6Addr>| std::iter::from_fn(|| groups.pop_first()).take(GROUPS_PER_TURN).collect();
        Some((take(&mut pending.leave), take(&mut pending.join)))
    }
}

/// Leaves and joins what is pending, until the end.
async fn follow(mut memberships: Memberships, socket: Arc<AsyncFd<PacketSocket>>, shared: Arc<Shared>) {
    while let Some((leave, join)) = shared.take() {
        if leave.is_empty() && join.is_empty() {
            shared.wake.notified().await;
            continue;
        }
        for group in leave {
            memberships.leave(group);
        }
        for group in join {
            if let Err(error) = memberships.join(group) {
                memberships.hold_otherwise(group, socket.get_ref(), &error);
            }
        }
        tokio::task::yield_now().await;
    }
    drop(socket);
    // Closing the sockets leaves the groups, which takes as long as joining them did.
    tokio::task::spawn_blocking(move || drop(memberships));
}

/// The groups that are joined, and by which socket.
#[derive(Debug)]
struct Memberships {
    interface: InterfaceIndex,
    sockets: Vec<GroupSocket>,
    /// `None` for a group that no socket could join.
    held: BTreeMap<Ipv6Addr, Option<usize>>,
    all_multicast: AllMulticast,
}

#[derive(Debug)]
struct GroupSocket {
    socket: Socket,
    room: Room,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Perhaps,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AllMulticast {
    Off,
    On,
}

impl Memberships {
    fn new(interface: InterfaceIndex) -> Self {
        Memberships { interface, sockets: Vec::new(), held: BTreeMap::new(), all_multicast: AllMulticast::Off }
    }

    /// Joins with the first socket that has room, or with a new one.
    fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        let with_room = self.sockets.iter_mut().enumerate().filter(|(_, socket)| socket.room == Room::Perhaps);
        for (position, socket) in with_room {
            match socket.socket.join_multicast_v6(&group, self.interface.get()) {
                Ok(()) => {
                    self.held.insert(group, Some(position));
                    return Ok(());
                }
                Err(error) if is_full(&error) => socket.room = Room::Full,
                Err(error) => return Err(error),
            }
        }
        if self.sockets.len() >= GROUP_SOCKETS_MAX {
            return Err(io::Error::other(format!("{GROUP_SOCKETS_MAX} sockets are full")));
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        socket.join_multicast_v6(&group, self.interface.get())?;
        self.held.insert(group, Some(self.sockets.len()));
        self.sockets.push(GroupSocket { socket, room: Room::Perhaps });
        Ok(())
    }

    fn leave(&mut self, group: Ipv6Addr) {
        let Some(Some(position)) = self.held.remove(&group) else { return };
        let Some(holder) = self.sockets.get_mut(position) else { return };
        if let Err(error) = holder.socket.leave_multicast_v6(&group, self.interface.get()) {
            tracing::debug!(interface = self.interface.get(), %group, error = %error, "multicast group not left");
        }
        holder.room = Room::Perhaps;
    }

    /// Receives the group without joining it: the interface takes in all multicast. Switches that listen to MLD may still
    /// keep it away.
    fn hold_otherwise(&mut self, group: Ipv6Addr, socket: &PacketSocket, error: &io::Error) {
        self.held.insert(group, None);
        if self.all_multicast == AllMulticast::On {
            return;
        }
        tracing::warn!(
            interface = self.interface.get(), %group, error = %error,
            "multicast group not joined; receiving all multicast instead"
        );
        match socket.receive_all_multicast() {
            Ok(()) => self.all_multicast = AllMulticast::On,
            Err(error) => {
                tracing::warn!(interface = self.interface.get(), error = %error, "not receiving all multicast either");
            }
        }
    }
}

/// What the kernel says when a socket can hold no more groups: its option memory is used up.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, n)
    }

    fn shared() -> (Groups, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        (Groups(Arc::clone(&shared)), shared)
    }

    #[test]
    fn what_is_taken_back_in_time_is_never_done() {
        let (groups, shared) = shared();
        groups.join(vec![group(1), group(2)]);
        groups.leave(vec![group(1)]);
        assert_eq!(shared.take(), Some((vec![], vec![group(2)])));
        groups.leave(vec![group(2)]);
        groups.join(vec![group(2)]);
        assert_eq!(shared.take(), Some((vec![], vec![])));
    }

    #[test]
    fn a_turn_is_limited() {
        let (groups, shared) = shared();
        let all: Vec<Ipv6Addr> = (0..100).map(group).collect();
        groups.join(all.clone());
        let mut joined = Vec::new();
        while let Some((_, join)) = shared.take().filter(|(_, join)| !join.is_empty()) {
            assert!(join.len() <= GROUPS_PER_TURN);
            joined.extend(join);
        }
        assert_eq!(joined, all);
    }

    #[test]
    fn the_end_comes_before_what_is_pending() {
        let (groups, shared) = shared();
        groups.join(vec![group(1)]);
        drop(groups);
        assert_eq!(shared.take(), None);
    }
}
