//! Messages that are on their way to everybody: each is sent a few times, to members chosen at random, the new ones
//! first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::Name;

/// The most messages that wait. There is one for each member, so more cannot be; should there be, the oldest go.
const QUEUE_MAX: usize = crate::wire::MEMBERS_MAX;

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
    /// Who got it with an answer or a ping, at most as many as its transmissions.
    told: Vec<SocketAddr>,
}

/// Messages about members, at most one about each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<Place, Broadcast>,
    places: BTreeMap<Name, Place>,
    last_id: u64,
}

/// Where messages are taken for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum For {
    /// A round of gossip: chance decides who gets them.
    Gossip,
    /// A packet that goes to this member anyway. It gets each message once: it may be one that we talk to all the time,
    /// and would use up what others are to hear.
    Company(SocketAddr),
}

impl Queue {
    /// Adds a message, in place of an earlier one about the same member.
    pub(crate) fn push(&mut self, about: Name, bytes: Vec<u8>) {
        self.remove(&about);
        while self.waiting.len() >= QUEUE_MAX {
            let Some((_, oldest)) = self.waiting.pop_last() else { break };
            self.places.remove(&oldest.about);
        }
        self.last_id = self.last_id.saturating_add(1);
        let place = Place { transmits: 0, length: Reverse(bytes.len()), id: Reverse(self.last_id) };
        self.places.insert(about.clone(), place);
        self.waiting.insert(place, Broadcast { about, bytes, told: Vec::new() });
    }

    pub(crate) fn remove(&mut self, about: &Name) {
        if let Some(place) = self.places.remove(about) {
            self.waiting.remove(&place);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Messages for one packet that has `room` bytes, each of which costs `overhead` beside its own length. A message
    /// that was taken `limit` times is removed.
    pub(crate) fn take(&mut self, room: usize, overhead: usize, limit: u32, purpose: For) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        let mut again = Vec::new();
        let mut room = room;
        let mut tier = self.waiting.keys().next().map(|place| place.transmits);
        while let Some(transmits) = tier {
            let Some(free) = room.checked_sub(overhead).filter(|free| *free > 0) else { break };
            // The longest of the tier that fits.
            let from = Place { transmits, length: Reverse(free), id: Reverse(u64::MAX) };
            let fits =
                |(place, broadcast): &(&Place, &Broadcast)| place.transmits == transmits && !broadcast.is_told(purpose);
            let Some(place) = self
                .waiting
                .range(from..)
                .take_while(|(place, _)| place.transmits == transmits)
                .find(fits)
                .map(|(place, _)| *place)
            else {
                tier = self.tier_after(transmits);
                continue;
            };
            let Some(mut broadcast) = self.waiting.remove(&place) else { break };
            room = free.saturating_sub(broadcast.bytes.len());
            taken.push(broadcast.bytes.clone());
            if let For::Company(address) = purpose {
                broadcast.told.push(address);
            }
            let transmits = transmits.saturating_add(1);
            if transmits < limit {
                again.push((Place { transmits, ..place }, broadcast));
            } else {
                self.places.remove(&broadcast.about);
            }
        }
        for (place, broadcast) in again {
            self.places.insert(broadcast.about.clone(), place);
            self.waiting.insert(place, broadcast);
        }
        taken
    }
}

impl Queue {
    /// The next number of transmissions that a message has.
    fn tier_after(&self, transmits: u32) -> Option<u32> {
        let from = Place { transmits: transmits.saturating_add(1), length: Reverse(usize::MAX), id: Reverse(u64::MAX) };
        self.waiting.range(from..).next().map(|(place, _)| place.transmits)
    }
}

impl Broadcast {
    fn is_told(&self, purpose: For) -> bool {
        match purpose {
            For::Gossip => false,
            For::Company(address) => self.told.contains(&address),
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
        assert_eq!((queue.len(), queue.places.len()), (0, 0));
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
}
