//! Whose turn it is to write, as the follower of Services sees it: when it becomes ours, what the others wrote has to be
//! read to its end before anything is decided, so the Services are listed anew.

use lease::Term;
use tokio::sync::watch;

use super::lease::Standing;

/// What was told about the turn.
pub(super) struct Turn {
    standing: watch::Receiver<Standing>,
    /// The term as it was looked at last.
    seen: Option<Term>,
    /// The term that was told.
    told: Option<Term>,
}

impl Turn {
    pub(super) fn new(standing: watch::Receiver<Standing>) -> Turn {
        Turn { standing, seen: None, told: None }
    }

    /// Looks whose turn it is. True if that ours is over has to be told.
    pub(super) fn look(&mut self) -> bool {
        self.seen = self.standing.borrow_and_update().term();
        let is_over = self.told.is_some() && self.told != self.seen;
        if is_over {
            self.told = None;
        }
        is_over
    }

    /// True if a list has to begin, since it became our turn.
    pub(super) fn is_to_list(&self) -> bool {
        self.seen.is_some() && self.told.is_none()
    }

    /// A list is complete that began after the last look. Gives the term that has to be told, if it is still ours.
    pub(super) fn listed(&mut self) -> Option<Term> {
        let term = self.seen.filter(|_| self.is_to_list() && self.standing.borrow().term() == self.seen)?;
        self.told = Some(term);
        Some(term)
    }

    /// Waits until it is another's turn than at the last look.
    pub(super) async fn changed(&mut self) {
        let seen = self.seen;
        if self.standing.wait_for(|standing| standing.term() != seen).await.is_err() {
            // The Lease ended with the source.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_term_is_told_when_a_list_that_began_in_it_is_complete() {
        let (sender, standing) = watch::channel(Standing::Following);
        let mut turn = Turn::new(standing);
        let lead = |term| {
            sender.send_replace(Standing::Leading { term: Term(term), until: Instant::now() });
        };
        assert!(!turn.look() && !turn.is_to_list());
        lead(1);
        assert_eq!(turn.listed(), None, "the list began before");
        assert!(!turn.look() && turn.is_to_list());
        assert_eq!(turn.listed(), Some(Term(1)));
        assert!(!turn.look() && !turn.is_to_list(), "a renewal changes nothing");
        assert_eq!(turn.listed(), None, "and a later list neither");
        lead(2);
        assert!(turn.look() && turn.is_to_list(), "the first term is over, the second begins");
        sender.send_replace(Standing::Following);
        assert_eq!(turn.listed(), None, "it is over already");
        assert!(!turn.look() && !turn.is_to_list(), "and was never told");
    }
}
