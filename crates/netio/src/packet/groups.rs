//! Multicast groups of one interface: in the NIC's filter, and told to switches by MLD, as the kernel does for every
//! group that a socket joins (`IPV6_JOIN_GROUP` needs no capability).
//!
//! A socket holds a limited number of groups (`net.core.optmem_max`: about 2,300 of them today, 365 on kernels before
//! 6.8), so there are as many sockets as it takes. Joining slows down as groups become many, since the kernel searches a
//! list: ten thousand take half a second. So a task of its own joins and leaves, a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;

use kit::InterfaceIndex;
use socket2::{Domain, Socket, Type};
use sys::packet::PacketSocket;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Sockets for the groups of one interface: room for over 20,000 groups on any kernel.
const GROUP_SOCKETS_MAX: usize = 64;
/// The task lets others have their turn after this many groups: a few milliseconds at worst.
const GROUPS_PER_TURN: usize = 32;

/// The groups of an interface, as long as this lives.
#[derive(Debug)]
pub(super) struct Groups {
    wanted: watch::Sender<BTreeSet<Ipv6Addr>>,
}

impl Groups {
    /// Begins without groups. `socket` receives on the interface what the groups are joined for.
    pub(super) fn start(interface: InterfaceIndex, socket: Arc<AsyncFd<PacketSocket>>) -> Self {
        let (wanted, receiver) = watch::channel(BTreeSet::new());
        tokio::spawn(follow(Memberships::new(interface), socket, receiver));
        Groups { wanted }
    }

    /// Joins, soon.
    pub(super) fn join(&self, groups: Vec<Ipv6Addr>) {
        self.wanted.send_modify(|wanted| wanted.extend(groups));
    }

    /// Leaves, soon.
    pub(super) fn leave(&self, groups: &[Ipv6Addr]) {
        self.wanted.send_modify(|wanted| wanted.retain(|group| !groups.contains(group)));
    }
}

/// Makes what is held what is wanted, until nobody wants anything.
async fn follow(
    mut memberships: Memberships,
    socket: Arc<AsyncFd<PacketSocket>>,
    mut wanted: watch::Receiver<BTreeSet<Ipv6Addr>>,
) {
    while wanted.changed().await.is_ok() {
        loop {
            let (leave, join) = memberships.differences(&wanted.borrow_and_update(), GROUPS_PER_TURN);
            if leave.is_empty() && join.is_empty() {
                break;
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

    /// At most so many groups to leave, and so many to join.
    fn differences(&self, wanted: &BTreeSet<Ipv6Addr>, limit: usize) -> (Vec<Ipv6Addr>, Vec<Ipv6Addr>) {
        let leave = self.held.keys().filter(|group| !wanted.contains(group));
        let join = wanted.iter().filter(|group| !self.held.contains_key(group));
        (leave.take(limit).copied().collect(), join.take(limit).copied().collect())
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
