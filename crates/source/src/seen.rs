//! What is known of the objects of one kind: just enough to tell a change from a repetition, and to miss what is gone.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;

use api::{Key, KeyText, Object};

/// What an object is in comparison with what was there under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// The same as before.
    Same,
    /// New, or different from before.
    Changed,
    /// Another object of the same name.
    Replaced,
}

#[derive(Debug)]
struct Entry {
    content: u64,
    uid: u64,
    round: u32,
}

/// The objects of one kind. Bounded by what the source holds: an entry costs less than a hundred bytes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    hasher: RandomState,
    entries: HashMap<KeyText, Entry>,
    /// Counts the complete lists; an object that was not seen in the latest is gone.
    round: u32,
}

impl Seen {
    /// This object is there.
    pub(crate) fn applied(&mut self, object: &Object) -> Observation {
        let metadata = object.metadata();
        let (content, uid) = (self.content(object), self.hasher.hash_one(&metadata.uid));
        match self.entries.insert(KeyText::from(&metadata.key()), Entry { content, uid, round: self.round }) {
            Some(old) if old.uid != uid => Observation::Replaced,
            Some(old) if old.content == content => Observation::Same,
            _ => Observation::Changed,
        }
    }

    /// An object of this name is there, but cannot be read: what was known of it stays.
    pub(crate) fn unreadable(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(&key.into()) {
            entry.round = self.round;
        }
    }

    /// The object of this name is gone. True if it was known.
    pub(crate) fn deleted(&mut self, key: &Key) -> bool {
        self.entries.remove(&key.into()).is_some()
    }

    /// A complete list begins.
    pub(crate) fn begin_list(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// The list is complete: forgets what was not in it, and says what that was.
    pub(crate) fn end_list(&mut self) -> Vec<Key> {
        let round = self.round;
        let gone = self.entries.extract_if(|_, entry| entry.round != round);
        let mut gone: Vec<Key> = gone.map(|(key, _)| key.key()).collect();
        gone.sort();
        gone
    }

    fn content(&self, object: &Object) -> u64 {
        let mut hash = HashWriter(self.hasher.build_hasher());
        // Objects consist of text, numbers, lists and maps with text as keys: that always serialises. If it did not,
        // the object would count as changed whenever another part of it is.
        let _always_ok = serde_json::to_writer(&mut hash, object);
        hash.0.finish()
    }
}

/// Hashes what is written.
struct HashWriter<H>(H);

impl<H: Hasher> io::Write for HashWriter<H> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use api::Kind;

    use super::*;

    fn node(name: &str, uid: &str, ready: &str) -> Object {
        Object::from_value(
            Kind::Node,
            serde_json::json!({
                "metadata": {"name": name, "uid": uid},
                "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": uid}]},
            }),
        )
        .unwrap()
    }

    #[test]
    fn an_object_is_the_same_changed_or_replaced() {
        let mut seen = Seen::default();
        assert_eq!(seen.applied(&node("a", "1", "True")), Observation::Changed);
        assert_eq!(seen.applied(&node("a", "1", "True")), Observation::Same);
        assert_eq!(seen.applied(&node("a", "1", "False")), Observation::Changed);
        assert_eq!(seen.applied(&node("a", "2", "False")), Observation::Replaced);
        assert!(seen.deleted(&Key::new("", "a")));
        assert!(!seen.deleted(&Key::new("", "a")));
        assert_eq!(seen.applied(&node("a", "2", "False")), Observation::Changed);
    }

    #[test]
    fn what_is_not_in_the_list_is_gone_unless_it_was_unreadable() {
        let mut seen = Seen::default();
        seen.begin_list();
        for name in ["a", "b", "c", "d"] {
            seen.applied(&node(name, "1", "True"));
        }
        assert_eq!(seen.end_list(), []);
        seen.begin_list();
        seen.applied(&node("c", "1", "True"));
        seen.unreadable(&Key::new("", "b"));
        seen.unreadable(&Key::new("", "never-read"));
        assert_eq!(seen.end_list(), [Key::new("", "a"), Key::new("", "d")]);
        assert_eq!(seen.end_list(), []);
    }
}
