//! Who of several controllers writes: the driver of `lease` on a Lease of coordination.k8s.io.
//!
//! One task owns the [`Candidate`] and talks to the API server about the Lease; another one watches it, so that a Lease
//! that was given back is taken at once. Three things look at the outcome: the follower of Services lists anew when this
//! process begins to lead (`follow`), the sink asks before each write (`sink`), and who ends gives the Lease back.
//!
//! In the Lease, `holderIdentity` is the pod and, behind `_`, the process. The targets that may have writes under way are
//! the annotation [`api::LEASE_OPEN`], as `namespace/name`, separated by commas.

mod record;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::kube::api::{GetParams, Patch, PatchParams, PostParams, WatchParams};
use ::kube::core::Request;
use api::{FENCED_BY, Key};
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use kit::Outbox;
use lease::{Candidate, Input, OUTPUTS_PER_INPUT, Output, Sighting, Target, Term, Ticket, Version};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::record::Stored;
use super::follow::Lines;
use super::message::Line;
use super::request::{Failure, Server, next_data};
use super::sink::small;
use crate::backoff::{Backoff, random};

/// How long a request about the Lease may take: three of them fit in the time after which who leads gives up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The time between tries to fence a target, and to watch.
const RETRY: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(2) };
/// How long a watch is asked to last, in seconds, and how much longer it may.
const WATCH_SECONDS: u32 = 290;
const WATCH_OVERTIME: Duration = Duration::from_secs(30);
/// Questions that wait for the candidate; who asks waits when there are that many.
const ASKS_WAITING_MAX: usize = 1_024;
/// Targets that are fenced at one time.
const FENCES_AT_ONCE: usize = super::WRITES_AT_ONCE;

/// Whether this process writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does not.
    #[default]
    Following,
    /// It does until then, unless it hears more.
    Leading { term: Term, until: Instant },
}

impl Standing {
    /// The term in which this process leads.
    pub(super) fn term(self) -> Option<Term> {
        match self {
            Standing::Following => None,
            Standing::Leading { term, .. } => Some(term),
        }
    }
}

/// What is asked of the candidate.
enum Ask {
    Open { term: Term, target: Target, answer: oneshot::Sender<()> },
    Close { term: Term, target: Target },
    Release(oneshot::Sender<()>),
}

/// What others may know and ask of the Lease.
#[derive(Clone)]
pub(super) struct Guard {
    asks: mpsc::Sender<Ask>,
    standing: watch::Receiver<Standing>,
}

impl Guard {
    /// Whether this process still leads in this term.
    pub(super) fn holds(&self, term: Term) -> bool {
        matches!(*self.standing.borrow(), Standing::Leading { term: now, until } if now == term && Instant::now() < until)
    }

    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Waits until a write to this target may be sent; false if it must not be.
    pub(super) async fn open(&self, term: Term, target: Target) -> bool {
        let (answer, opened) = oneshot::channel();
        self.asks.send(Ask::Open { term, target, answer }).await.is_ok() && opened.await.is_ok()
    }

    /// No write to this target is under way any more.
    pub(super) async fn close(&self, term: Term, target: Target) {
        // With the driver the Lease ends too.
        let _told = self.asks.send(Ask::Close { term, target }).await;
    }
}

/// A place in the line of those who want to write.
#[derive(Clone)]
pub struct Lease(Guard);

impl Lease {
    /// Gives the Lease back, if this process has it, and asks for it no more. Waits at most this long. True if it was
    /// given back, so that the next one need not wait.
    pub async fn release(&self, within: Duration) -> bool {
        let release = async {
            let (answer, released) = oneshot::channel();
            self.0.asks.send(Ask::Release(answer)).await.is_ok() && released.await.is_ok()
        };
        tokio::time::timeout(within, release).await.unwrap_or(false)
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&*self.0.standing.borrow()).finish()
    }
}

/// Begins to ask for the Lease of this name.
pub(super) fn start(
    tasks: &mut JoinSet<()>,
    server: Server,
    namespace: &str,
    options: &crate::LeaseOptions,
) -> (Lease, Guard) {
    let place = Place {
        server,
        path: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
        name: options.name.to_owned(),
    };
    let process = format!("{:016x}", random());
    // Without a name of its own a process must not take itself for its predecessor.
    let holder = if options.holder.is_empty() { format!("controller-{process}") } else { options.holder.clone() };
    let (asks, questions) = mpsc::channel(ASKS_WAITING_MAX);
    let (standing, standings) = watch::channel(Standing::Following);
    let (seen, sightings) = watch::channel(None);
    tasks.spawn(watch_lease(place.clone(), seen));
    let driver = Driver {
        mark: format!("{holder}_{process}"),
        candidate: Candidate::new(&holder, &process, random()),
        place,
        began: Instant::now(),
        out: Outbox::with_limit(OUTPUTS_PER_INPUT),
        questions,
        standing,
        sightings,
        tickets: BTreeMap::new(),
        last_ticket: 0,
        request: None,
        fences: FuturesUnordered::new(),
        fence_permits: Arc::new(Semaphore::new(FENCES_AT_ONCE)),
        releasing: None,
        last_holder: String::new(),
        last_error: String::new(),
    };
    tasks.spawn(driver.run());
    let guard = Guard { asks, standing: standings };
    (Lease(guard.clone()), guard)
}

/// Where the Lease is.
#[derive(Clone)]
struct Place {
    server: Server,
    path: String,
    name: String,
}

type Answered = Pin<Box<dyn Future<Output = Result<Input, Failure>> + Send>>;
type Fenced = Pin<Box<dyn Future<Output = (Term, Target)> + Send>>;

struct Driver {
    candidate: Candidate,
    place: Place,
    /// The origin of the candidate's time.
    began: Instant,
    out: Outbox<Output>,
    /// Who this is, in a fence.
    mark: String,
    questions: mpsc::Receiver<Ask>,
    standing: watch::Sender<Standing>,
    sightings: watch::Receiver<Option<Sighting>>,
    tickets: BTreeMap<Ticket, oneshot::Sender<()>>,
    last_ticket: u64,
    /// The request that is under way, and the input that stands for no answer.
    request: Option<(Answered, Input)>,
    fences: FuturesUnordered<Fenced>,
    fence_permits: Arc<Semaphore>,
    releasing: Option<oneshot::Sender<()>>,
    /// Who had the Lease when it was stored last.
    last_holder: String,
    /// The failure that was told last and is not over; empty for none.
    last_error: String,
}

impl Driver {
    async fn run(mut self) {
        loop {
            let deadline = self.candidate.next_deadline().map(|at| self.at(at));
            let input = tokio::select! {
                () = sleep_until(deadline) => Input::Tick,
                input = answer(&mut self.request) => self.answered(input),
                Some((term, target)) = self.fences.next() => Input::Close { term, target },
                Some(ask) = self.questions.recv() => self.asked(ask),
                Ok(()) = self.sightings.changed() => match self.sightings.borrow_and_update().clone() {
                    Some(sighting) => Input::Seen(sighting),
                    None => Input::Tick,
                },
            };
            let now = self.now();
            self.candidate.handle(now, input, &mut self.out);
            while let Some(output) = self.out.pop() {
                self.carry_out(output);
            }
            self.tell_standing();
        }
    }

    fn now(&self) -> kit::Instant {
        let micros = Instant::now().saturating_duration_since(self.began).as_micros();
        kit::Instant::ZERO + kit::Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn at(&self, at: kit::Instant) -> Instant {
        crate::backoff::later(self.began, Duration::from_micros(at.since(kit::Instant::ZERO).as_micros()))
    }

    /// What the answer of a request means.
    fn answered(&mut self, answer: Result<Input, Failure>) -> Input {
        let no_answer = self.request.take().map_or(Input::Tick, |(_, no_answer)| no_answer);
        match answer {
            Ok(input) => {
                if !std::mem::take(&mut self.last_error).is_empty() {
                    tracing::info!(lease = self.place.name, "the Lease can be used again");
                }
                input
            }
            Err(failure) => {
                let text = failure.to_string();
                if self.last_error != text {
                    let hint = if matches!(failure, Failure::Refused { code: 403, .. }) {
                        "the account of the controller needs the rights on leases that the manifests give"
                    } else {
                        ""
                    };
                    tracing::warn!(lease = self.place.name, error = text, hint, "cannot use the Lease; will try again");
                    self.last_error = text;
                }
                no_answer
            }
        }
    }

    fn asked(&mut self, ask: Ask) -> Input {
        match ask {
            Ask::Open { term, target, answer } => {
                self.last_ticket = self.last_ticket.wrapping_add(1);
                let ticket = Ticket(self.last_ticket);
                self.tickets.insert(ticket, answer);
                Input::Open { term, ticket, target }
            }
            Ask::Close { term, target } => Input::Close { term, target },
            Ask::Release(answer) => {
                self.releasing = Some(answer);
                Input::Release
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Read => {
                let place = self.place.clone();
                let request: Answered = Box::pin(async move { place.read().await });
                self.request = Some((request, Input::ReadFailed));
            }
            Output::Write { record, over } => {
                let is_new = std::mem::replace(&mut self.last_holder, record.process.clone()) != record.process;
                let stored = Stored::of(&record, Timestamp::now(), is_new);
                let place = self.place.clone();
                let request: Answered = Box::pin(async move { place.write(&stored, over).await });
                self.request = Some((request, Input::WriteUnanswered));
            }
            Output::Opened(tickets) => {
                for ticket in tickets.iter().filter_map(|ticket| self.tickets.remove(ticket)) {
                    // Who asked may have lost patience; then it does not write either.
                    let _waits = ticket.send(());
                }
            }
            Output::Denied(ticket) => drop(self.tickets.remove(&ticket)),
            Output::Fence { term, targets } => {
                tracing::info!(targets = targets.len(), "fencing what the one before may have been writing");
                for target in targets {
                    let fence =
                        fence(self.place.server.clone(), self.fence_permits.clone(), self.mark.clone(), term, target);
                    self.fences.push(Box::pin(fence));
                }
            }
            Output::Lead(term) => {
                tracing::info!(
                    event = "leaderElected",
                    lease = self.place.name,
                    term = term.0,
                    "this controller leads"
                );
            }
            Output::Follow => {
                self.tickets.clear();
                self.fences = FuturesUnordered::new();
                tracing::warn!(event = "leaderLost", lease = self.place.name, "this controller does not lead any more");
            }
            Output::Released => {
                if let Some(answer) = self.releasing.take() {
                    let _waits = answer.send(());
                }
            }
        }
    }

    /// Has everybody know how things stand.
    fn tell_standing(&self) {
        let standing = match self.candidate.leads() {
            Some((term, until)) => Standing::Leading { term, until: self.at(until) },
            None => Standing::Following,
        };
        self.standing.send_if_modified(|told| std::mem::replace(told, standing) != standing);
    }
}

impl Place {
    fn request(&self) -> Request {
        Request::new(&self.path)
    }

    /// What the Lease says now.
    async fn read(&self) -> Result<Input, Failure> {
        let answer = in_time(self.server.get(self.request().get(&self.name, &GetParams::default()))).await;
        match answer {
            Ok(text) => Ok(Input::Read(Some(sighting(&text)?))),
            Err(Failure::Refused { code: 404, .. }) => Ok(Input::Read(None)),
            Err(failure) => Err(failure),
        }
    }

    /// Stores the record in place of that of this version, or makes the Lease.
    async fn write(&self, stored: &Stored, over: Option<Version>) -> Result<Input, Failure> {
        let request = if let Some(Version(version)) = over {
            let patch = Patch::Merge(stored.patch(&version));
            self.request().patch(&self.name, &PatchParams::default(), &patch)
        } else {
            let body = stored.object(&self.name).to_string().into_bytes();
            self.request().create(&PostParams::default(), body)
        };
        match in_time(self.server.get(small(request))).await {
            Ok(text) => Ok(Input::Written(sighting(&text)?.version)),
            // Another version, there already, or gone.
            Err(Failure::Refused { code: 404 | 409, .. }) => Ok(Input::WriteRefused),
            Err(failure) => Err(failure),
        }
    }
}

fn sighting(text: &[u8]) -> Result<Sighting, Failure> {
    let stored: Stored =
        serde_json::from_slice(text).map_err(|error| Failure::Unreadable(format!("a Lease: {error}")))?;
    Ok(stored.sighting())
}

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(REQUEST_TIMEOUT, work).await.unwrap_or_else(|_elapsed| {
        Err(Failure::Unreachable(format!("a request about the Lease took longer than {} s", REQUEST_TIMEOUT.as_secs())))
    })
}

async fn answer(request: &mut Option<(Answered, Input)>) -> Result<Input, Failure> {
    match request {
        Some((request, _)) => request.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Changes a target, so that no write that was meant for it as it was is accepted any more. Does not end before that.
async fn fence(server: Server, permits: Arc<Semaphore>, mark: String, term: Term, target: Target) -> (Term, Target) {
    let Some((namespace, name)) = target.as_str().split_once('/') else { return (term, target) };
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { FENCED_BY: format!("{mark}_{}", term.0) } } }));
    let mut failures: u32 = 0;
    loop {
        let path = Request::new(format!("/api/v1/namespaces/{namespace}/services"));
        let request = path.patch_subresource("status", name, &PatchParams::default(), &patch);
        let permit = permits.acquire().await;
        let result = in_time(server.get(small(request))).await;
        drop(permit);
        match result {
            // What is gone takes no write either: one that comes names the uid.
            Ok(_) | Err(Failure::Refused { code: 404, .. }) => return (term, target),
            Err(failure) => {
                failures = failures.saturating_add(1);
                tracing::warn!(limited = true, service = %target, error = %failure, "cannot fence a Service yet");
                tokio::time::sleep(RETRY.delay(failures)).await;
            }
        }
    }
}

/// The target that a Service is.
pub(super) fn target(service: &Key) -> Target {
    Target::new(&format!("{}/{}", service.namespace, service.name))
}

/// Watches the Lease for ever. What is missed here costs time and nothing else: the candidate reads before it writes.
async fn watch_lease(place: Place, seen: watch::Sender<Option<Sighting>>) {
    let mut failures: u32 = 0;
    while !seen.is_closed() {
        match watch_once(&place, &seen).await {
            Ok(()) => failures = 0,
            Err(failure) => {
                failures = failures.saturating_add(1);
                tracing::debug!(lease = place.name, error = %failure, "cannot watch the Lease");
            }
        }
        tokio::time::sleep(RETRY.delay(failures.max(1))).await;
    }
}

async fn watch_once(place: &Place, seen: &watch::Sender<Option<Sighting>>) -> Result<(), Failure> {
    let field_selector = Some(format!("metadata.name={}", place.name));
    let params = WatchParams { timeout: Some(WATCH_SECONDS), field_selector, ..WatchParams::default() };
    // From no version on: the Lease as it is comes first.
    let mut body = place.server.open(place.request().watch(&params, "0")).await?;
    let until = crate::backoff::later(Instant::now(), Duration::from_secs(WATCH_SECONDS.into()));
    let mut lines = Lines::default();
    loop {
        let data = tokio::select! {
            data = next_data(&mut body) => data?,
            () = tokio::time::sleep_until(crate::backoff::later(until, WATCH_OVERTIME)) => None,
            () = seen.closed() => None,
        };
        let Some(data) = data else { return Ok(()) };
        lines.push(&data)?;
        while let Some(line) = lines.next() {
            let unreadable = |error: serde_json::Error| Failure::Unreadable(format!("a watch of the Lease: {error}"));
            let line: Line<'_> = serde_json::from_slice(line).map_err(unreadable)?;
            if line.type_ == "ERROR" {
                return Err(Failure::Unreadable("the watch of the Lease ends in an error".to_owned()));
            }
            if matches!(line.type_.as_str(), "ADDED" | "MODIFIED") {
                let stored: Stored = serde_json::from_str(line.object.get()).map_err(unreadable)?;
                seen.send_replace(Some(stored.sighting()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
