//! A host with our driver, and what its clients were told.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail, ensure};
use bfd::wire::State;
use bfd::{Path, Profile, SessionView};
use kit::{Duration, InterfaceIndex};
use lab::{Host, Task, eventually};
use netio::bfd::{Bfd, Event, Reader, Status};
use netio::clock::Clock;
use tokio::sync::mpsc;

/// Generous: the machine may be busy with other things.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The driver, with one client for each path, by its text.
pub(crate) struct Speaker {
    commands: mpsc::Sender<Command>,
    told: Arc<Mutex<Vec<(String, Event)>>>,
    reader: Reader<String>,
    task: Task<()>,
}

enum Command {
    Watch(String, Path, Profile),
    Unwatch(String),
    LinkDown(InterfaceIndex),
}

impl Speaker {
    pub(crate) fn start(host: &Host) -> Result<Speaker> {
        let (commands, mut received) = mpsc::channel(64);
        let told = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&told);
        let (give, given) = std::sync::mpsc::sync_channel(1);
        let task = host.start_task("bfd", async move || {
            let mut bfd = Bfd::start(Clock::start())?;
            give.send(bfd.reader())?;
            loop {
                tokio::select! {
                    event = bfd.next() => shown.lock().unwrap().push(event),
                    command = received.recv() => match command {
                        Some(Command::Watch(client, path, profile)) => bfd.watch(client, path, profile),
                        Some(Command::Unwatch(client)) => bfd.unwatch(&client),
                        Some(Command::LinkDown(interface)) => bfd.link_down(interface),
                        None => {
                            bfd.finish().await;
                            return Ok(());
                        }
                    }
                }
            }
        })?;
        Ok(Speaker { commands, told, reader: given.recv()?, task })
    }

    pub(crate) fn watch(&self, path: Path, profile: Profile) -> Result<()> {
        self.watch_as(&path.to_string(), path, profile)
    }

    pub(crate) fn watch_as(&self, client: &str, path: Path, profile: Profile) -> Result<()> {
        self.tell(Command::Watch(client.to_owned(), path, profile))
    }

    pub(crate) fn unwatch(&self, path: Path) -> Result<()> {
        self.tell(Command::Unwatch(path.to_string()))
    }

    pub(crate) fn link_down(&self, interface: InterfaceIndex) -> Result<()> {
        self.tell(Command::LinkDown(interface))
    }

    fn tell(&self, command: Command) -> Result<()> {
        self.commands.blocking_send(command).context("the driver has ended")
    }

    /// Ends the driver as a program that ends does.
    pub(crate) fn finish(self) -> Result<()> {
        drop(self.commands);
        self.task.join()
    }

    pub(crate) fn status(&self) -> Status<String> {
        self.reader.status()
    }

    pub(crate) fn view(&self, path: Path) -> Result<SessionView<String>> {
        let view = self.status().sessions.into_iter().find(|view| view.path == path);
        view.with_context(|| format!("there is no session with {path}"))
    }

    pub(crate) fn wait_up(&self, path: Path) -> Result<SessionView<String>> {
        self.wait(path, |view| view.local.state == State::Up && view.transmit_interval == settled(view))
    }

    /// Waits until a session is as it should be.
    pub(crate) fn wait(
        &self,
        path: Path,
        is_right: impl Fn(&SessionView<String>) -> bool,
    ) -> Result<SessionView<String>> {
        eventually(LIMIT, || {
            let view = self.view(path)?;
            ensure!(is_right(&view), "{view:?}, {:?}", self.status());
            Ok(view)
        })
    }

    /// All that a client was told.
    pub(crate) fn told(&self, path: Path) -> Vec<Event> {
        self.told_as(&path.to_string())
    }

    pub(crate) fn told_as(&self, client: &str) -> Vec<Event> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|(name, _)| name == client).map(|(_, event)| *event).collect()
    }

    /// Waits until this is the last thing that a client was told.
    pub(crate) fn wait_told(&self, path: Path, event: Event) -> Result<()> {
        self.wait_told_as(&path.to_string(), event)
    }

    pub(crate) fn wait_told_as(&self, client: &str, event: Event) -> Result<()> {
        eventually(LIMIT, || match self.told_as(client).last() {
            Some(last) if *last == event => Ok(()),
            _ => bail!("{client} was told {:?}", self.told_as(client)),
        })
    }
}

/// The interval of a session that has nothing more to negotiate.
fn settled(view: &SessionView<String>) -> Option<Duration> {
    Some(view.local.desired_min_tx.max(view.remote?.required_min_rx))
}
