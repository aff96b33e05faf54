//! Who may read the metrics (contract 7.3): whoever has a bearer token that somebody else vouches for, and a right that
//! the same somebody knows of.
//!
//! Answers are remembered for the times of the contract, so that a scraper costs one question a minute. Tokens are
//! remembered by their digest alone. Strangers cannot make us ask without end: of tokens that were never accepted only
//! some are asked about in a second, while those that were once accepted pass at once.

use std::error::Error;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::remembered::Remembered;
use crate::limit::Limiter;

/// How long a token stays accepted or rejected.
const TOKEN_TIME: Duration = Duration::from_mins(1);
/// How long a right is believed in.
const ALLOWED_TIME: Duration = Duration::from_mins(5);
/// How long the lack of one is.
const DENIED_TIME: Duration = Duration::from_secs(30);
/// How long a question may take, waiting included.
pub const REVIEW_TIME_MAX: Duration = Duration::from_secs(10);
/// Questions at one time.
const REVIEWS_AT_ONCE: usize = 4;
/// Tokens that were accepted; a cluster has a few scrapers.
const ACCEPTED_MAX: usize = 64;
/// Tokens that were not.
const REJECTED_MAX: usize = 1_024;
/// Users whose right was asked about.
const RIGHTS_MAX: usize = 64;
/// Tokens never accepted that are asked about: so many at once,
const STRANGERS_BURST: u32 = 20;
/// and one more in this time.
const STRANGERS_INTERVAL: Duration = Duration::from_millis(100);

/// Whoever knows users and their rights.
pub trait Reviewer: Send + Sync + 'static {
    /// Someone with a right or without.
    type User: Clone + Ord + Send + Sync;
    /// Why there is no answer.
    type Error: Error + Send + Sync + 'static;

    /// Who is behind a token; none if nobody is.
    fn user(&self, token: &str) -> impl Future<Output = Result<Option<Self::User>, Self::Error>> + Send;

    /// Whether they may read the metrics.
    fn may_read(&self, user: &Self::User) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Who may read.
#[derive(Debug)]
pub enum Access<R: Reviewer> {
    /// Everybody who can reach the port.
    Anyone,
    /// Those whom the reviewer lets.
    Reviewed(Guard<R>),
}

/// What comes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It is answered.
    Admitted,
    /// There is no token, or not one that is accepted.
    Unauthenticated,
    /// The token is accepted, but its user may not read.
    Forbidden,
    /// Too many tokens that nobody knows came at once.
    TooMany,
    /// The reviewer gave no answer.
    Failed(Box<dyn Error + Send + Sync>),
}

/// Asks a reviewer, and remembers.
pub struct Guard<R: Reviewer> {
    reviewer: R,
    memory: Mutex<Memory<R::User>>,
    reviews: Semaphore,
}

type Token = [u8; 32];

struct Memory<U> {
    accepted: Remembered<Token, U>,
    rejected: Remembered<Token, ()>,
    rights: Remembered<U, bool>,
    strangers: Limiter,
}

/// What is remembered of a token.
enum Recollection<U> {
    User(U),
    Nobody,
    /// It must be asked about.
    Ask,
    TooMany,
}

impl<R: Reviewer> Guard<R> {
    /// One that remembers nothing yet.
    pub fn new(reviewer: R) -> Guard<R> {
        let memory = Memory {
            accepted: Remembered::new(ACCEPTED_MAX),
            rejected: Remembered::new(REJECTED_MAX),
            rights: Remembered::new(RIGHTS_MAX),
            strangers: Limiter::new(STRANGERS_BURST, STRANGERS_INTERVAL),
        };
        Guard { reviewer, memory: Mutex::new(memory), reviews: Semaphore::new(REVIEWS_AT_ONCE) }
    }

    /// Whether a request with this bearer token is to be answered.
    pub async fn check(&self, token: Option<&str>) -> Verdict {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Verdict::Unauthenticated };
        let digest: Token = Sha256::digest(token).into();
        let recollection = self.memory().recall(Instant::now(), &digest);
        let user = match recollection {
            Recollection::User(user) => user,
            Recollection::Nobody => return Verdict::Unauthenticated,
            Recollection::TooMany => return Verdict::TooMany,
            Recollection::Ask => match self.review(self.reviewer.user(token)).await {
                Err(error) => return Verdict::Failed(error),
                Ok(answer) => match self.memory().reviewed(Instant::now(), digest, answer) {
                    None => return Verdict::Unauthenticated,
                    Some(user) => user,
                },
            },
        };
        let remembered = self.memory().rights.get(Instant::now(), &user).copied();
        let may_read = match remembered {
            Some(may_read) => may_read,
            None => match self.review(self.reviewer.may_read(&user)).await {
                Err(error) => return Verdict::Failed(error),
                Ok(may_read) => {
                    let time = if may_read { ALLOWED_TIME } else { DENIED_TIME };
                    self.memory().rights.insert(Instant::now(), user, may_read, time);
                    may_read
                }
            },
        };
        if may_read { Verdict::Admitted } else { Verdict::Forbidden }
    }

    /// Waits for its turn and for the answer, for a limited time in all.
    async fn review<T>(
        &self,
        question: impl Future<Output = Result<T, R::Error>>,
    ) -> Result<T, Box<dyn Error + Send + Sync>> {
        let asked = timeout(REVIEW_TIME_MAX, async {
            // The semaphore is never closed; if it were, the limit would be gone, and nothing else.
            let _turn = self.reviews.acquire().await;
            question.await
        });
        match asked.await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => Err(format!("no answer for {} s", REVIEW_TIME_MAX.as_secs()).into()),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory<R::User>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<U: Clone + Ord> Memory<U> {
    fn recall(&mut self, now: Instant, token: &Token) -> Recollection<U> {
        if let Some(user) = self.accepted.get(now, token) {
            Recollection::User(user.clone())
        } else if self.rejected.get(now, token).is_some() {
            Recollection::Nobody
        } else if self.accepted.knows(token) || self.strangers.admit(now).is_some() {
            Recollection::Ask
        } else {
            Recollection::TooMany
        }
    }

    fn reviewed(&mut self, now: Instant, token: Token, user: Option<U>) -> Option<U> {
        if let Some(user) = &user {
            self.accepted.insert(now, token, user.clone(), TOKEN_TIME);
        } else {
            self.accepted.remove(&token);
            self.rejected.insert(now, token, (), TOKEN_TIME);
        }
        user
    }
}

impl<R: Reviewer> fmt::Debug for Guard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    /// Why the fake reviewer gives no answer.
    #[derive(Debug, thiserror::Error)]
    #[error("the API server is away")]
    pub(in crate::metrics) struct Away;

    #[derive(Debug, Default)]
    struct State {
        users: BTreeMap<String, &'static str>,
        readers: Vec<&'static str>,
        is_away: bool,
        hangs: bool,
        asked: Vec<String>,
    }

    /// A reviewer that knows `good` as prometheus, who may read, and `other` as someone who may not.
    #[derive(Clone, Debug)]
    pub(in crate::metrics) struct Fake(Arc<Mutex<State>>);

    impl Fake {
        pub(in crate::metrics) fn new() -> Fake {
            let users = [("good".to_owned(), "prometheus"), ("other".to_owned(), "someone")].into();
            Fake(Arc::new(Mutex::new(State { users, readers: vec!["prometheus"], ..State::default() })))
        }

        pub(in crate::metrics) fn set_away(&self, is_away: bool) {
            self.state().is_away = is_away;
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap()
        }

        /// What was asked since the last call.
        fn asked(&self) -> String {
            std::mem::take(&mut self.state().asked).join(" ")
        }
    }

    impl Reviewer for Fake {
        type User = &'static str;
        type Error = Away;

        async fn user(&self, token: &str) -> Result<Option<Self::User>, Away> {
            self.state().asked.push(format!("token:{token}"));
            if self.state().hangs {
                std::future::pending::<()>().await;
            }
            let state = self.state();
            if state.is_away { Err(Away) } else { Ok(state.users.get(token).copied()) }
        }

        async fn may_read(&self, user: &Self::User) -> Result<bool, Away> {
            let mut state = self.state();
            state.asked.push(format!("access:{user}"));
            if state.is_away { Err(Away) } else { Ok(state.readers.contains(user)) }
        }
    }

    fn word(verdict: Verdict) -> String {
        match verdict {
            Verdict::Admitted => "admitted".to_owned(),
            Verdict::Unauthenticated => "unauthenticated".to_owned(),
            Verdict::Forbidden => "forbidden".to_owned(),
            Verdict::TooMany => "too many".to_owned(),
            Verdict::Failed(error) => format!("failed: {error}"),
        }
    }

    /// The verdict, and what was asked for it.
    async fn check(guard: &Guard<Fake>, token: &str) -> String {
        let verdict = word(guard.check(Some(token)).await);
        format!("{verdict} [{}]", guard.reviewer.asked())
    }

    async fn wait(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn contract_7_3_answers_are_remembered_for_their_times() {
        let guard = Guard::new(Fake::new());
        assert_eq!(check(&guard, "good").await, "admitted [token:good access:prometheus]");
        assert_eq!(check(&guard, "good").await, "admitted []");
        wait(59).await;
        assert_eq!(check(&guard, "good").await, "admitted []");
        wait(1).await;
        assert_eq!(check(&guard, "good").await, "admitted [token:good]", "a token lasts a minute");
        wait(239).await;
        assert_eq!(check(&guard, "good").await, "admitted [token:good]");
        wait(1).await;
        assert_eq!(check(&guard, "good").await, "admitted [access:prometheus]", "a right lasts five minutes");

        assert_eq!(check(&guard, "other").await, "forbidden [token:other access:someone]");
        wait(29).await;
        assert_eq!(check(&guard, "other").await, "forbidden []");
        guard.reviewer.state().readers.push("someone");
        wait(1).await;
        assert_eq!(check(&guard, "other").await, "admitted [access:someone]", "a denial lasts half a minute");

        assert_eq!(check(&guard, "bad").await, "unauthenticated [token:bad]");
        assert_eq!(check(&guard, "bad").await, "unauthenticated []");
        wait(60).await;
        assert_eq!(check(&guard, "bad").await, "unauthenticated [token:bad]");
    }

    #[tokio::test(start_paused = true)]
    async fn no_token_asks_nobody() {
        let guard = Guard::new(Fake::new());
        for token in [None, Some("")] {
            assert_eq!(word(guard.check(token).await), "unauthenticated");
        }
        assert_eq!(guard.reviewer.asked(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_taken_back_is_rejected_after_its_time() {
        let guard = Guard::new(Fake::new());
        check(&guard, "good").await;
        guard.reviewer.state().users.remove("good");
        assert_eq!(check(&guard, "good").await, "admitted []");
        wait(60).await;
        assert_eq!(check(&guard, "good").await, "unauthenticated [token:good]");
        assert_eq!(check(&guard, "good").await, "unauthenticated []");
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_a_failure_that_is_not_remembered() {
        let guard = Guard::new(Fake::new());
        guard.reviewer.set_away(true);
        assert_eq!(check(&guard, "good").await, "failed: the API server is away [token:good]");
        assert_eq!(check(&guard, "good").await, "failed: the API server is away [token:good]");
        guard.reviewer.set_away(false);
        assert_eq!(check(&guard, "good").await, "admitted [token:good access:prometheus]");
        guard.reviewer.set_away(true);
        assert_eq!(check(&guard, "good").await, "admitted []", "what is remembered counts while the server is away");
        wait(60).await;
        assert_eq!(check(&guard, "good").await, "failed: the API server is away [token:good]");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_takes_no_longer_than_its_time() {
        let guard = Guard::new(Fake::new());
        guard.reviewer.state().hangs = true;
        let start = Instant::now();
        assert_eq!(check(&guard, "good").await, "failed: no answer for 10 s [token:good]");
        assert_eq!(start.elapsed(), REVIEW_TIME_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_wait_for_their_turn() {
        let guard = Arc::new(Guard::new(Fake::new()));
        guard.reviewer.state().hangs = true;
        let mut checks = tokio::task::JoinSet::new();
        for number in 0..REVIEWS_AT_ONCE + 3 {
            let guard = guard.clone();
            checks.spawn(async move { word(guard.check(Some(&number.to_string())).await) });
        }
        while guard.reviewer.state().asked.len() < REVIEWS_AT_ONCE {
            tokio::task::yield_now().await;
        }
        wait(1).await;
        assert_eq!(guard.reviewer.state().asked.len(), REVIEWS_AT_ONCE);
        while let Some(verdict) = checks.join_next().await {
            assert_eq!(verdict.unwrap(), "failed: no answer for 10 s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_are_limited_and_scrapers_are_not() {
        let guard = Guard::new(Fake::new());
        assert_eq!(check(&guard, "good").await, "admitted [token:good access:prometheus]");
        let mut verdicts = Vec::new();
        for number in 0..3 * STRANGERS_BURST {
            verdicts.push(word(guard.check(Some(&number.to_string())).await));
        }
        let too_many = verdicts.iter().filter(|verdict| *verdict == "too many").count();
        assert_eq!(too_many, 2 * usize::try_from(STRANGERS_BURST).unwrap() + 1);
        guard.reviewer.asked();
        wait(60).await;
        for number in 0..3 * STRANGERS_BURST {
            guard.check(Some(&format!("again {number}"))).await;
        }
        guard.reviewer.asked();
        assert_eq!(check(&guard, "good").await, "admitted [token:good]", "a scraper that was here before");
        assert_eq!(check(&guard, "other").await, "too many []");
        wait(1).await;
        assert_eq!(check(&guard, "other").await, "forbidden [token:other access:someone]");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_has_its_limits() {
        let guard = Guard::new(Fake::new());
        for number in 0..2 * REJECTED_MAX {
            guard.check(Some(&number.to_string())).await;
            tokio::time::advance(STRANGERS_INTERVAL / 8).await;
        }
        let memory = guard.memory();
        assert!(memory.rejected.len() <= REJECTED_MAX && memory.rejected.len() > 100, "{}", memory.rejected.len());
    }

    #[test]
    fn a_guard_prints_without_tokens() {
        assert_eq!(format!("{:?}", Guard::new(Fake::new())), "Guard");
    }
}
