//! Entry points for fuzzers, and what `cargo test` does with them: every message cut at every length, and many with
//! random edits. Nothing may panic, and what is believed must make sense.

use kit::{Asn, Family};

use super::{
    AsnSize, Disposition, Header, MESSAGE_MAX, Message, MessageLimit, RefreshKnowledge, Relation, Update,
    UpdateContext, decode, validate,
};

/// Reads bytes as one message in all contexts there are, and prints and judges what comes out.
///
/// # Panics
///
/// When what comes out makes no sense: that is what a fuzzer looks for.
pub fn fuzz_message(bytes: &[u8]) {
    for (asn_size, limit) in [(AsnSize::Two, MessageLimit::Standard), (AsnSize::Four, MessageLimit::Extended)] {
        let length = Header::decode(bytes, limit).ok().flatten().map(|header| header.length);
        match decode(bytes, asn_size, limit) {
            Ok(message) => {
                assert_eq!(length, Some(bytes.len()));
                assert!(bytes.len() <= limit.bytes());
                assert!(!message.to_string().is_empty());
                message_check(message, bytes);
            }
            Err(error) => {
                assert!(error.offset <= bytes.len(), "an error beyond the message");
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

fn message_check(message: Message<'_>, bytes: &[u8]) {
    match message {
        Message::Update(update) => update_check(&update),
        Message::Open(open) => {
            let mut again = Vec::new();
            open.encode(&mut again);
            if let Ok(valid) = open.validate() {
                assert!(!matches!(valid.hold_time.as_secs(), 1 | 2));
            }
        }
        Message::Notification(notification) => {
            let mut again = Vec::new();
            notification.encode(&mut again);
            assert!(again == bytes || again.len() == MESSAGE_MAX, "read and written again");
        }
        Message::RouteRefresh(refresh) => {
            for knowledge in [RefreshKnowledge::Plain, RefreshKnowledge::Enhanced] {
                if let Err(error) = refresh.validate(bytes, knowledge) {
                    assert_ne!(error.notification.error.subcode, 0, "a reset says why");
                }
            }
        }
        Message::Keepalive => {}
    }
}

fn update_check(update: &Update<'_>) {
    let Some(remote_as) = Asn::new(65001) else { return };
    for relation in [Relation::Internal, Relation::External] {
        for extended_next_hop in [false, true] {
            let context = UpdateContext { relation, remote_as, families: Family::ALL.into(), extended_next_hop };
            match validate(update, &context) {
                Ok(valid) => {
                    assert!(valid.reachable.iter().all(|reachable| !reachable.prefixes.is_empty()));
                    assert!(valid.end_of_rib.is_none() || valid.reachable.is_empty());
                    assert!(valid.disposition() < Some(Disposition::Reset), "a reset is an error");
                    assert!(valid.disposition() < Some(Disposition::Withdraw) || valid.reachable.is_empty());
                    assert!(!valid.to_string().contains('\u{fffd}'));
                }
                Err(error) => assert_ne!(error.notification.error.subcode, 0, "a reset says why"),
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::tests::samples;
    use kit::Rng;

    /// Debug builds take long for each; release builds do a million in some seconds.
    const EDITED: u64 = if cfg!(debug_assertions) { 40_000 } else { 1_000_000 };

    /// Changes a few bytes, or the length; keeps the header right most of the time, so that the rest is looked at.
    pub(crate) fn edit(message: &mut Vec<u8>, rng: &mut Rng) {
        for _ in 0..=rng.below(4) {
            let at = rng.index(message.len());
            match rng.below(6) {
                0 => message[at] = 0,
                1 => message[at] = 0xff,
                2 => message[at] ^= 1 << rng.below(8),
                3 => message[at] = rng.next_u64().to_le_bytes()[0],
                4 if at > 19 => message.truncate(at),
                4 => {}
                _ => message.insert(at, rng.next_u64().to_le_bytes()[0]),
            }
        }
        if !rng.one_in(20) && message.len() >= 19 {
            message[..16].fill(0xff);
            let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
            message[16..18].copy_from_slice(&length);
        }
    }

    #[test]
    fn messages_cut_at_every_length_do_not_panic() {
        for sample in samples() {
            for length in 0..=sample.len() {
                let mut cut = sample[..length].to_vec();
                fuzz_message(&cut);
                if length >= 18 {
                    cut[16..18].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
                    fuzz_message(&cut);
                }
            }
        }
    }

    #[test]
    fn messages_with_random_edits_do_not_panic() {
        let samples = samples();
        let mut rng = Rng::new(4271);
        for _ in 0..EDITED {
            let mut message = rng.pick(&samples).unwrap().clone();
            edit(&mut message, &mut rng);
            fuzz_message(&message);
        }
    }

    #[test]
    fn random_bytes_do_not_panic() {
        let mut rng = Rng::new(7606);
        for _ in 0..EDITED / 4 {
            let bytes: Vec<u8> = (0..rng.below(64)).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
            fuzz_message(&bytes);
        }
    }
}
