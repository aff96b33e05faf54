//! The thread: reads sockets, tells the core, does what it says, and waits for the next packet or deadline.
//!
//! Each turn looks at the clock first, then reads everything that has come, and only then has the core look at its deadlines,
//! by the time of the beginning. So, wherever in between the thread is stopped by the scheduler, no neighbour is taken for
//! dead whose packet is there. In a steady state no memory is asked for: an allocator may have locks too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use bfd::wire::{ControlPacket, Discriminator, EchoKey, State};
use bfd::{Change, Forwarding, Input, Output, Path, Registry};
use kit::{Duration, Family, Instant, Rng};
use sys::packet::FRAME_MAX;
use sys::schedule::{Precedence, hurry};
use sys::wait::Waiter;

use super::echo::{EchoLinks, Returned, Sending};
use super::mailbox::{self, Generation, Remark, Shared, TRY_AGAIN, Wish, try_for};
use super::receivers::{Kind, PAYLOAD_MAX, Reading, Receivers};
use super::senders::Senders;
use crate::clock::Clock;

/// Between two looks at what nobody tells about, while there are sessions: whether this host forwards packets, and sockets
/// that could not be opened.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);
/// Between two times that the status is put where others see it, while there are sessions.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Driver<K> {
    shared: Arc<Shared<K>>,
    clock: Clock,
    precedence: Precedence,
    registry: Registry<K>,
    /// What the core said last; empty between inputs.
    out: kit::Outbox<Output<K>>,
    /// What each client watches, as far as the core knows.
    watched: BTreeMap<K, (Generation, Path)>,
    /// What is not in the mailbox yet.
    unsent: mailbox::Outbox<K>,
    io: Io,
    housekeeping_at: Instant,
    status_at: Instant,
    delay_max: Duration,
    /// A session ended, so that sockets may be without use.
    has_closed: bool,
}

/// Sockets, and what is known about them.
struct Io {
    receivers: Receivers,
    senders: Senders,
    echo: EchoLinks,
    waiter: Waiter,
    random: Rng,
    /// As they were told last.
    troubles: Vec<String>,
}

/// Whether the echo packet that the core was just told of goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bounce {
    Wanted,
    Unwanted,
}

/// What a turn has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Done,
    /// Somebody held a lock; it is tried again soon.
    Unfinished,
    Over,
}

impl<K: Ord + Clone> Driver<K> {
    pub(super) fn new(shared: Arc<Shared<K>>, clock: Clock, mut random: Rng, key: EchoKey) -> Self {
        let registry = Registry::new(Rng::new(random.next_u64()), key);
        Driver {
            shared,
            clock,
            precedence: Precedence::Ordinary,
            registry,
            out: kit::Outbox::with_limit(bfd::OUTBOX_MAX),
            watched: BTreeMap::new(),
            unsent: mailbox::Outbox::default(),
            io: Io {
                receivers: Receivers::default(),
                senders: Senders::default(),
                echo: EchoLinks::default(),
                waiter: Waiter::new(),
                random,
                troubles: Vec::new(),
            },
            housekeeping_at: Instant::ZERO,
            status_at: Instant::ZERO,
            delay_max: Duration::ZERO,
            has_closed: false,
        }
    }

    /// The whole life of the thread.
    pub(super) fn run(mut self) {
        self.precedence = hurry();
        loop {
            let now = self.clock.now();
            self.shared.thread.clear();
            let reading = self.read(now);
            let inbox = self.take_in(now);
            self.tick(now);
            self.keep_house(now);
            let outbox = self.give_out(now);
            match (inbox, outbox) {
                (Turn::Over, _) => return self.end(),
                (Turn::Done, Turn::Done) => self.wait(now, reading, None),
                _ => self.wait(now, reading, Some(now + TRY_AGAIN)),
            }
        }
    }

    /// Tells the core everything that has come.
    fn read(&mut self, now: Instant) -> Reading {
        let mut buffer = [0; PAYLOAD_MAX];
        self.io.receivers.turn_begin();
        while let Some(packet) = self.io.receivers.next(self.clock, &mut buffer) {
            let payload = buffer.get(..packet.length).unwrap_or_default();
            match packet.kind {
                Kind::Control(_) => self.tell(now, Input::Control { payload, arrival: packet.arrival }),
                // One of ours that has come back over IPv6 comes here too, and was seen on the link already.
                Kind::Echo if packet.arrival.source == packet.arrival.local => {}
                Kind::Echo => {
                    self.registry.handle(now, Input::EchoRequested { arrival: packet.arrival }, &mut self.out);
                    if self.act(now) == Bounce::Wanted {
                        self.io.receivers.bounce(&packet, payload);
                    }
                }
            }
        }
        let mut frame = [0; FRAME_MAX];
        self.io.echo.turn_begin();
        while let Some(Returned { payload, ttl }) = self.io.echo.next(now, &mut frame) {
            self.tell(now, Input::EchoReturned { payload: &payload, ttl });
        }
        match self.io.echo.reading() {
            Reading::Finished => self.io.receivers.reading(),
            Reading::CutShort => Reading::CutShort,
        }
    }

    /// Takes in what the rest of the program wants.
    fn take_in(&mut self, now: Instant) -> Turn {
        let shared = Arc::clone(&self.shared);
        let Some(mut inbox) = try_for(&shared.inbox) else { return Turn::Unfinished };
        let (mut wishes, mut links_down, is_over) =
            (std::mem::take(&mut inbox.wishes), std::mem::take(&mut inbox.links_down), inbox.is_over);
        drop(inbox);
        while let Some(interface) = links_down.pop_first() {
            self.tell(now, Input::LinkDown { interface });
        }
        if !wishes.is_empty() {
            self.look_at_forwarding(now);
        }
        let has_wishes = !wishes.is_empty();
        while let Some((client, wish)) = wishes.pop_first() {
            match wish {
                Some(wish) => self.watch(now, client, wish),
                None => self.unwatch(now, &client),
            }
        }
        if has_wishes {
            self.fit_receivers(now);
        }
        if is_over { Turn::Over } else { Turn::Done }
    }

    fn watch(&mut self, now: Instant, client: K, wish: Wish) {
        let Wish { generation, path, profile } = wish;
        let before = self.watched.insert(client.clone(), (generation, path));
        self.tell(now, Input::Watch { client: &client, path, profile });
        // For the core nothing is new when somebody left and came back at once; for the client everything is.
        let is_back = before
            .is_some_and(|(generation_before, path_before)| path_before == path && generation_before != generation);
        if is_back && self.registry.state_of(&client) == Some(State::Up) {
            self.unsent.changed(client, generation, Change::Up);
        }
    }

    fn unwatch(&mut self, now: Instant, client: &K) {
        self.watched.remove(client);
        self.tell(now, Input::Unwatch { client });
    }

    /// Lets the core look at its deadlines.
    fn tick(&mut self, now: Instant) {
        if let Some(deadline) = self.registry.next_deadline().filter(|deadline| *deadline <= now) {
            self.delay_max = self.delay_max.max(now.since(deadline));
            self.tell(now, Input::Tick);
        }
    }

    fn tell(&mut self, now: Instant, input: Input<'_, K>) {
        self.registry.handle(now, input, &mut self.out);
        self.act(now);
    }

    /// Does what the core said.
    fn act(&mut self, now: Instant) -> Bounce {
        let mut bounce = Bounce::Unwanted;
        while let Some(output) = self.out.pop() {
            match output {
                Output::SendControl { session, path, packet } => self.io.send(session, &path, &packet),
                Output::SendEcho { session, remote, interface, datagram } => {
                    if self.io.echo.send(now, session, (interface, remote), &datagram) == Sending::Impossible {
                        // Nothing is said to this.
                        self.registry.handle(now, Input::EchoUnsent { session }, &mut self.out);
                    }
                }
                Output::StopEcho { session } => self.io.echo.stop(session),
                Output::ReturnEcho => bounce = Bounce::Wanted,
                Output::Changed { client, change } => {
                    if let Some((generation, _)) = self.watched.get(&client) {
                        self.unsent.changed(client, *generation, change);
                    }
                    self.status_at = now;
                }
                Output::Refused { client, refusal } => {
                    if let Some((generation, _)) = self.watched.get(&client) {
                        self.unsent.refused(client, *generation, refusal);
                    }
                }
                Output::Discarded { discard, source, more } => {
                    self.unsent.remarks.push(Remark::Discarded { discard, source, more });
                }
                Output::Close { session } => {
                    self.io.senders.close(session);
                    self.io.echo.stop(session);
                    self.has_closed = true;
                }
            }
        }
        bounce
    }

    /// Looks at what nobody tells about.
    fn keep_house(&mut self, now: Instant) {
        if std::mem::take(&mut self.has_closed) {
            self.fit_receivers(now);
        }
        if self.housekeeping_at <= now && !self.registry.is_empty() {
            self.housekeeping_at = now + HOUSEKEEPING_INTERVAL;
            self.io.receivers.retry(now);
            self.look_at_forwarding(now);
            self.io.troubles_gather(&mut self.unsent.remarks);
        }
    }

    fn fit_receivers(&mut self, now: Instant) {
        self.io.receivers.fit(now, self.registry.paths());
        self.io.troubles_gather(&mut self.unsent.remarks);
        self.status_at = now;
    }

    /// Whether neighbours' echo packets are returned is up to this host's kernel.
    fn look_at_forwarding(&mut self, now: Instant) {
        for family in Family::ALL {
            self.tell(now, Input::Forwarding { family, forwarding: forwarding_of(family) });
        }
    }

    /// Puts news into the mailbox, and the status where others see it.
    fn give_out(&mut self, now: Instant) -> Turn {
        if !self.unsent.is_empty() {
            let Some(mut outbox) = try_for(&self.shared.outbox) else { return Turn::Unfinished };
            outbox.append(&mut self.unsent);
            drop(outbox);
            self.shared.task.wake();
        }
        if self.status_at <= now {
            let Some(mut status) = try_for(&self.shared.status) else { return Turn::Unfinished };
            self.registry.sessions_into(&mut status.sessions);
            for (discard, count) in self.registry.discards() {
                status.discards.insert(*discard, *count);
            }
            status.precedence = Some(self.precedence);
            status.delay_max = self.delay_max;
            status.troubles.clone_from(&self.io.troubles);
            self.status_at = now + STATUS_INTERVAL;
        }
        Turn::Done
    }

    /// Waits for packets, wishes and deadlines.
    fn wait(&mut self, began: Instant, reading: Reading, try_again: Option<Instant>) {
        let own = (!self.registry.is_empty()).then(|| self.housekeeping_at.min(self.status_at));
        let deadline = [self.registry.next_deadline(), own, try_again].into_iter().flatten().min();
        let now = self.clock.now();
        let limit = deadline.map(|deadline| deadline.since(now));
        let Io { receivers, echo, waiter, .. } = &mut self.io;
        let wake_up = [self.shared.thread.as_fd()].into_iter();
        // Waiting fails for want of memory only; then the next turn begins at once.
        drop(match reading {
            Reading::Finished => waiter.wait(wake_up.chain(receivers.descriptors()).chain(echo.descriptors()), limit),
            // Somebody sends more than anybody needs to: others get their turn for as long as this one took.
            Reading::CutShort => waiter.wait(wake_up, Some(limit.unwrap_or(Duration::MAX).min(now.since(began)))),
        });
    }

    /// Says good-bye to all neighbours.
    fn end(mut self) {
        let now = self.clock.now();
        self.tell(now, Input::UnwatchAll);
        self.unsent.has_ended = true;
        // Now nothing depends on time any more.
        mailbox::wait_for(&self.shared.outbox).append(&mut self.unsent);
        self.shared.task.wake();
    }
}

impl Io {
    fn send(&mut self, session: Discriminator, path: &Path, packet: &ControlPacket) {
        self.senders.send(session, path, packet, &mut self.random);
    }

    /// Collects what does not work. What was not told yet is.
    fn troubles_gather(&mut self, remarks: &mut mailbox::Remarks) {
        let now = || self.receivers.troubles().chain(self.senders.troubles()).chain(self.echo.troubles());
        if now().eq(self.troubles.iter().map(String::as_str)) {
            return;
        }
        let troubles: Vec<String> = now().map(str::to_owned).collect();
        for trouble in troubles.iter().filter(|trouble| !self.troubles.contains(trouble)) {
            remarks.push(Remark::Trouble(trouble.clone()));
        }
        self.troubles = troubles;
    }
}

/// Whether this host forwards packets of a family.
fn forwarding_of(family: Family) -> Forwarding {
    let file = match family {
        Family::V4 => "/proc/sys/net/ipv4/ip_forward",
        Family::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    };
    let mut value = [0];
    // Where it cannot be read, nothing is promised.
    match File::open(file).and_then(|mut file| file.read_exact(&mut value)) {
        Ok(()) if value != *b"0" => Forwarding::On,
        _ => Forwarding::Off,
    }
}
