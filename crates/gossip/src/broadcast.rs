//! Messages that are on their way to everybody: each is sent a few times, to members chosen at random, the new ones
//! first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::Name;
use crate::wire::PARTS_MAX;

/// The most messages that wait. There is one for each member, so more cannot be; should there be, the oldest go.
const QUEUE_MAX: usize = crate::wire::MEMBERS_MAX;
/// Of so many members at most it is known which messages they had with answers and pings.
const COMPANY_MAX: usize = 128;

/// Where a message stands: those that were sent less often come first, then the longer, then the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    transmits: u32,
    length: Reverse<usize>,
    id: Reverse<u64>,
}

#[derive(Clone, Debug)]
struct Broadcast {
    about: Name,
    bytes: Vec<u8>,
    /// How often it was sent by chance.
    transmits: u32,
}

impl Broadcast {
    fn place(&self, id: u64) -> Place {
        Place { transmits: self.transmits, length: Reverse(self.bytes.len()), id: Reverse(id) }
    }
}

/// Messages about members, at most one about each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    /// By their numbers, which grow.
    messages: BTreeMap<u64, Broadcast>,
    order: BTreeSet<Place>,
    ids: BTreeMap<Name, u64>,
    last_id: u64,
    /// The last message that each of those had that we talk to anyway.
    company: BTreeMap<SocketAddr, u64>,
}

/// Where messages are taken for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum For {
    /// A round of gossip: chance decides who gets them.
    Gossip,
    /// A packet that goes to this member anyway. It gets each message once, for it may be one that we talk to all the time;
    /// and that does not count, for those that we talk to would use up what others are to hear by chance.
    Company(SocketAddr),
}

impl Queue {
    /// Adds a message, in place of an earlier one about the same member.
    pub(crate) fn push(&mut self, about: Name, bytes: Vec<u8>) {
        self.remove(&about);
        while self.messages.len() >= QUEUE_MAX
            && let Some(oldest) = self.order.last().map(|place| place.id.0)
        {
            self.remove_id(oldest);
        }
        self.last_id = self.last_id.saturating_add(1);
        let broadcast = Broadcast { about: about.clone(), bytes, transmits: 0 };
        self.order.insert(broadcast.place(self.last_id));
        self.messages.insert(self.last_id, broadcast);
        self.ids.insert(about, self.last_id);
    }

    pub(crate) fn remove(&mut self, about: &Name) {
        if let Some(id) = self.ids.get(about).copied() {
            self.remove_id(id);
        }
    }

    fn remove_id(&mut self, id: u64) {
        if let Some(broadcast) = self.messages.remove(&id) {
            self.order.remove(&broadcast.place(id));
            self.ids.remove(&broadcast.about);
        }
        if self.messages.is_empty() {
            self.company.clear();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Messages for one packet that has `room` bytes, each of which costs `overhead` beside its own length. A message
    /// that was taken `limit` times for gossip is removed.
    pub(crate) fn take(&mut self, room: usize, overhead: usize, limit: u32, purpose: For) -> Vec<Vec<u8>> {
        match purpose {
            For::Gossip => self.take_for_gossip(room, overhead, limit),
            For::Company(address) => self.take_for(address, room, overhead),
        }
    }

    fn take_for_gossip(&mut self, room: usize, overhead: usize, limit: u32) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        let mut again = Vec::new();
        let mut room = room;
        let mut tier = self.order.first().map(|place| place.transmits);
        while let Some(transmits) = tier {
            let Some(free) = room.checked_sub(overhead).filter(|free| *free > 0) else { break };
            // The longest of the tier that fits.
            let from = Place { transmits, length: Reverse(free), id: Reverse(u64::MAX) };
            let Some(place) = self.order.range(from..).next().copied().filter(|place| place.transmits == transmits)
            else {
                tier = self.tier_after(transmits);
                continue;
            };
            self.order.remove(&place);
            let Some(broadcast) = self.messages.get_mut(&place.id.0) else { break };
            room = free.saturating_sub(broadcast.bytes.len());
            taken.push(broadcast.bytes.clone());
            broadcast.transmits = transmits.saturating_add(1);
            again.push(place.id.0);
        }
        for id in again {
            match self.messages.get(&id) {
                Some(broadcast) if broadcast.transmits < limit => drop(self.order.insert(broadcast.place(id))),
                _ => self.remove_id(id),
            }
        }
        taken
    }

    /// The next number of transmissions that a message has.
    fn tier_after(&self, transmits: u32) -> Option<u32> {
        let from = Place { transmits: transmits.saturating_add(1), length: Reverse(usize::MAX), id: Reverse(u64::MAX) };
        self.order.range(from..).next().map(|place| place.transmits)
    }

    /// In the order in which they came.
    fn take_for(&mut self, address: SocketAddr, room: usize, overhead: usize) -> Vec<Vec<u8>> {
        if self.company.len() >= COMPANY_MAX && !self.company.contains_key(&address) {
            self.forget_furthest_behind();
        }
        let last = self.company.entry(address).or_default();
        let mut taken = Vec::new();
        let mut room = room;
        for (id, broadcast) in self.messages.range(last.saturating_add(1)..) {
            match room.checked_sub(overhead.saturating_add(broadcast.bytes.len())) {
                Some(free) if taken.len() < PARTS_MAX.saturating_sub(1) => {
                    room = free;
                    taken.push(broadcast.bytes.clone());
                }
                // The next packet has room.
                _ if !taken.is_empty() => break,
                // No packet ever has: it gets this one by chance.
                _ => {}
            }
            *last = *id;
        }
        taken
    }

    /// Strangers have had the least, and make room for each other.
    fn forget_furthest_behind(&mut self) {
        if let Some(furthest) = self.company.iter().min_by_key(|(_, last)| **last).map(|(address, _)| *address) {
            self.company.remove(&furthest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn lengths(taken: Vec<Vec<u8>>) -> Vec<usize> {
        taken.iter().map(Vec::len).collect()
    }

    #[test]
    fn new_messages_come_first_and_then_the_longest_that_fit() {
        let mut queue = Queue::default();
        for length in [10, 30, 20] {
            queue.push(name(&format!("n{length}")), vec![0; length]);
        }
        assert_eq!(lengths(queue.take(36, 2, 9, For::Gossip)), [30], "2 + 30, and then 2 + 10 do not fit");
        queue.push(name("new"), vec![0; 5]);
        assert_eq!(lengths(queue.take(100, 2, 9, For::Gossip)), [20, 10, 5, 30]);
    }

    #[test]
    fn a_message_is_taken_as_often_as_the_limit_says() {
        let mut queue = Queue::default();
        queue.push(name("a"), vec![1]);
        for _ in 0..4 {
            assert_eq!(queue.take(100, 2, 4, For::Gossip), [[1]]);
        }
        assert!(queue.take(100, 2, 4, For::Gossip).is_empty());
        assert_eq!((queue.len(), queue.ids.len(), queue.order.len()), (0, 0, 0));
    }

    #[test]
    fn a_later_message_about_the_same_member_replaces_the_earlier() {
        let mut queue = Queue::default();
        queue.push(name("a"), vec![1]);
        queue.take(100, 2, 4, For::Gossip);
        queue.push(name("a"), vec![2]);
        assert_eq!((queue.len(), queue.take(100, 2, 4, For::Gossip)), (1, vec![vec![2]]));
    }

    #[test]
    fn whoever_we_talk_to_all_the_time_gets_each_message_once() {
        let mut queue = Queue::default();
        let [a, b] = ["10.0.0.1:1", "10.0.0.2:1"].map(|it| it.parse::<SocketAddr>().unwrap());
        queue.push(name("x"), vec![1]);
        assert_eq!(queue.take(100, 2, 4, For::Company(a)).len(), 1);
        assert_eq!(queue.take(100, 2, 4, For::Company(a)).len(), 0);
        assert_eq!(queue.take(100, 2, 4, For::Company(b)).len(), 1);
        assert_eq!(queue.take(100, 2, 4, For::Gossip).len(), 1);
    }

    #[test]
    fn whom_we_talk_to_does_not_use_up_what_others_hear_by_chance() {
        let mut queue = Queue::default();
        for text in ["x", "y", "z"] {
            queue.push(name(text), text.as_bytes().to_vec());
        }
        let company = |number: u16| For::Company(SocketAddr::new([10, 0, 0, 1].into(), number));
        // Two messages fit into a packet, the older first.
        for number in 0..100 {
            assert_eq!(queue.take(6, 2, 1, company(number)), [b"x", b"y"]);
            assert_eq!(queue.take(6, 2, 1, company(number)), [b"z"]);
        }
        // What is new about somebody is told again.
        queue.push(name("x"), b"X".to_vec());
        assert_eq!(queue.take(6, 2, 1, company(0)), [b"X"]);
        assert_eq!(queue.take(100, 2, 1, For::Gossip).len(), 3);
        assert_eq!((queue.len(), queue.company.len()), (0, 0));
    }

    #[test]
    fn strangers_without_end_take_no_room_without_end_and_nobody_elses() {
        let mut queue = Queue::default();
        for number in 0..4 {
            queue.push(name(&format!("n{number}")), vec![number]);
        }
        let told = |queue: &mut Queue, port: u16, room| {
            let address = SocketAddr::new([10, 0, 0, 1].into(), port);
            queue.take(room, 2, 4, For::Company(address)).len()
        };
        assert_eq!(told(&mut queue, 1, 100), 4);
        for stranger in 1_000..2_000 {
            assert_eq!(told(&mut queue, stranger, 9), 3);
            assert!(queue.company.len() <= COMPANY_MAX);
        }
        assert_eq!(told(&mut queue, 1, 100), 0, "who had all of them is remembered");
    }

    #[test]
    fn what_fits_into_no_packet_does_not_hold_up_what_does() {
        let mut queue = Queue::default();
        queue.push(name("long"), vec![0; 50]);
        queue.push(name("short"), vec![1]);
        let address = SocketAddr::new([10, 0, 0, 1].into(), 1);
        assert_eq!(queue.take(40, 2, 4, For::Company(address)), [[1]]);
        assert_eq!(queue.take(60, 2, 4, For::Gossip)[0].len(), 50);
    }
}
