//! BFD on a thread of its own, so that its timing waits for nobody: not for BGP, not for Kubernetes, not for the log.
//!
//! [`Bfd`] is the caller's end: it says which paths are to be watched, and hears what became of them. The thread owns the
//! core ([`bfd::Registry`]), the sockets and the clock, and is scheduled before all others where the process may do so. The
//! two meet in a mailbox where the thread never waits (`bfd/mailbox.rs`).
//!
//! ```no_run
//! # async fn watch() -> Result<(), netio::bfd::StartError> {
//! use bfd::{Path, Profile};
//! use netio::bfd::{Bfd, Event};
//! use netio::clock::Clock;
//!
//! let mut bfd = Bfd::start(Clock::start())?;
//! bfd.watch("router", Path::single_hop("192.0.2.1".parse().expect("an address")), Profile::default());
//! loop {
//!     match bfd.next().await {
//!         (router, Event::Up) => println!("{router} answers"),
//!         (router, Event::Down(reason)) if reason.is_failure() => println!("{router} cannot be reached: {reason}"),
//!         (router, Event::Down(reason)) => println!("{router} is not watched any more: {reason}"),
//!         (router, Event::Refused(refusal)) => println!("{router} cannot be watched: {refusal}"),
//!     }
//! }
//! # }
//! ```

mod driver;
mod echo;
mod mailbox;
mod receivers;
mod senders;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bfd::wire::EchoKey;
use bfd::{Discard, DownReason, Path, Profile, Refusal, SessionView};
use kit::{InterfaceIndex, Rng};
use sys::wait::WakeUp;
use tokio::io::unix::AsyncFd;

pub use sys::schedule::Precedence;

use crate::clock::Clock;
use crate::watch::watch;
use driver::Driver;
use mailbox::{Generation, Inbox, Outbox, Remark, Shared, Wish, wait_for};

/// How long [`Bfd::finish`] waits for the thread.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// The sessions could not be begun.
#[derive(Debug, thiserror::Error)]
#[error("could not start the thread for BFD")]
pub struct StartError(#[from] io::Error);

/// What became of a client's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Packets pass in both directions. Until this is told, they do not.
    Up,
    /// They did, and do not any more; or somebody switched the session off, see [`DownReason::is_failure`].
    Down(DownReason),
    /// The path cannot be watched, and is not.
    Refused(Refusal),
}

/// What the thread does, as of half a second ago at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<K> {
    /// All sessions with their counters, those included whose neighbour is just told good-bye.
    pub sessions: Vec<SessionView<K>>,
    /// How many packets were discarded, by reason.
    pub discards: BTreeMap<Discard, u64>,
    /// How the thread is scheduled; `None` before it runs.
    pub precedence: Option<Precedence>,
    /// The longest time that something due had to wait for the thread. Long ones tell of a machine that is too busy for the
    /// intervals that are configured.
    pub delay_max: kit::Duration,
    /// What does not work at the moment, each with a hint.
    pub troubles: Vec<String>,
}

/// The BFD sessions of a host (network namespace), with clients that are named by keys of the caller's. Clients with the
/// same path share a session.
///
/// When it is dropped, neighbours are told that their sessions are switched off.
#[derive(Debug)]
pub struct Bfd<K> {
    shared: Arc<Shared<K>>,
    wake_up: AsyncFd<Arc<WakeUp>>,
    thread: Option<std::thread::JoinHandle<()>>,
    watched: BTreeMap<K, (Generation, Path)>,
    generation: Generation,
    events: VecDeque<(K, Generation, Event)>,
}

/// Reads the status from anywhere.
#[derive(Clone, Debug)]
pub struct Reader<K>(Arc<Shared<K>>);

impl<K: Ord + Clone + Send + 'static> Bfd<K> {
    /// Starts the thread, in the network namespace of the calling one. It opens no socket before there is something to
    /// watch. Times in the status are those of this clock. Must be called in a tokio runtime.
    pub fn start(clock: Clock) -> Result<Self, StartError> {
        let shared = Arc::new(Shared {
            inbox: Mutex::new(Inbox::default()),
            outbox: Mutex::new(Outbox::default()),
            status: Mutex::new(Status::default()),
            thread: WakeUp::new()?,
            task: Arc::new(WakeUp::new()?),
        });
        let wake_up = watch(Arc::clone(&shared.task))?;
        let (random, key) = secrets()?;
        let driver = Driver::new(Arc::clone(&shared), clock, random, key);
        let thread = std::thread::Builder::new().name("bfd".to_owned()).spawn(move || driver.run())?;
        Ok(Bfd {
            shared,
            wake_up,
            thread: Some(thread),
            watched: BTreeMap::new(),
            generation: Generation::default(),
            events: VecDeque::new(),
        })
    }

    /// Watches a path for a client. Saying it again with something else changes it: another profile is negotiated without a
    /// flap; another path is another session, of which nothing is known before the next [`Event::Up`].
    ///
    /// A path says as much as is known. The address of ours that BGP uses belongs to it if it was configured, or else two
    /// clients of one neighbour would be two sessions, which neighbours do not expect. Never waits.
    pub fn watch(&mut self, client: K, path: Path, profile: Profile) {
        let generation = match self.watched.get(&client) {
            Some((generation, before)) if *before == path => *generation,
            _ => {
                self.generation = Generation(self.generation.0.saturating_add(1));
                self.generation
            }
        };
        self.watched.insert(client.clone(), (generation, path));
        wait_for(&self.shared.inbox).wishes.insert(client, Some(Wish { generation, path, profile }));
        self.shared.thread.wake();
    }

    /// Watches nothing for a client any more. The neighbour is told that the session is switched off, unless others watch
    /// it.
    pub fn unwatch(&mut self, client: &K) {
        if self.watched.remove(client).is_some() {
            wait_for(&self.shared.inbox).wishes.insert(client.clone(), None);
            self.shared.thread.wake();
        }
    }

    /// An interface is down, without carrier, or gone: sessions over it need not wait to find out.
    pub fn link_down(&self, interface: InterfaceIndex) {
        wait_for(&self.shared.inbox).link_down(interface);
        self.shared.thread.wake();
    }

    /// The next thing that a client must be told. Who is slow hears the last failure and what is now, and not what was in
    /// between.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> (K, Event) {
        loop {
            while let Some((client, generation, event)) = self.events.pop_front() {
                if self.watched.get(&client).is_some_and(|(watched, _)| *watched == generation) {
                    return (client, event);
                }
            }
            self.wait().await;
        }
    }

    /// A reader of the status, for other tasks and threads.
    pub fn reader(&self) -> Reader<K> {
        Reader(Arc::clone(&self.shared))
    }

    /// Ends all sessions, and waits until the neighbours were told.
    pub async fn finish(mut self) {
        self.stop();
        let ended = async {
            while !wait_for(&self.shared.outbox).has_ended {
                self.wait().await;
            }
        };
        if tokio::time::timeout(FINISH_TIMEOUT, ended).await.is_err() {
            tracing::debug!("the thread of BFD did not end in time");
        } else if let Some(thread) = self.thread.take() {
            // It ends now. If it panicked, it has said so itself.
            drop(thread.join());
        }
    }

    /// Waits for something from the thread, and takes it in.
    async fn wait(&mut self) {
        match self.wake_up.readable().await {
            Ok(mut ready) => {
                // First this, then a look: what comes after the look wakes again.
                self.shared.task.clear();
                ready.clear_ready();
            }
            // The runtime ends.
            Err(_) => std::future::pending().await,
        }
        self.take_in();
    }

    fn take_in(&mut self) {
        let (news, remarks): (_, Vec<Remark>) = {
            let mut outbox = wait_for(&self.shared.outbox);
            (std::mem::take(&mut outbox.news), outbox.remarks.drain().collect())
        };
        remarks.iter().for_each(log);
        for (client, news) in news {
            self.events.extend(news.events().map(|event| (client.clone(), news.generation, event)));
        }
    }
}

impl<K> Bfd<K> {
    fn stop(&self) {
        wait_for(&self.shared.inbox).is_over = true;
        self.shared.thread.wake();
    }
}

impl<K> Drop for Bfd<K> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<K: Clone> Reader<K> {
    /// The status. Never waits for the thread, nor has the thread wait.
    pub fn status(&self) -> Status<K> {
        wait_for(&self.0.status).clone()
    }
}

impl<K> Default for Status<K> {
    /// Nothing is known yet.
    fn default() -> Self {
        Status {
            sessions: Vec::new(),
            discards: BTreeMap::new(),
            precedence: None,
            delay_max: kit::Duration::ZERO,
            troubles: Vec::new(),
        }
    }
}

fn log(remark: &Remark) {
    match remark {
        Remark::Trouble(error) => tracing::error!(op = "bfd", error, "BFD does not work as it should"),
        Remark::Discarded { discard, source, more } => tracing::warn!(
            op = "bfd",
            source = source.map(|source| source.to_string()),
            reason = %discard,
            more,
            "BFD packets discarded"
        ),
    }
}

/// What nobody can guess: discriminators, and the key of echo packets.
fn secrets() -> io::Result<(Rng, EchoKey)> {
    let (mut seed, mut key) = ([0; 8], [0; 16]);
    let mut source = std::fs::File::open("/dev/urandom")?;
    source.read_exact(&mut seed)?;
    source.read_exact(&mut key)?;
    Ok((Rng::new(u64::from_ne_bytes(seed)), EchoKey::new(key)))
}
