//! A host: network, mount and UTS namespaces that live as long as the thread inside them.
//!
//! The thread owns a single-threaded async runtime. Work is sent to it, and processes are started from it, so both are
//! "on the host" without a further word: what a thread opens and what it forks belongs to its namespaces. The kernel
//! kills the processes of a host when its thread ends.

pub(crate) mod interface;
pub(crate) mod neighbour;
pub(crate) mod process;
pub(crate) mod route;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use sys::namespace::{Namespace, mount_bind, mount_new, mounts_make_private, set_host_name, unshare};
use sys::process::{Pid, thread_id};
use tokio::sync::mpsc;

use self::process::{Output, Process};
use crate::WORK;

/// How many pieces of work may wait for a host.
const JOBS_MAX: usize = 1024;

type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A host of the lab. Clones mean the same host, which ends, with all its processes, when the last of them is dropped.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

/// A host that may be gone.
#[derive(Clone, Debug)]
pub(crate) struct HostRef(Weak<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    /// Its place among the hosts of its lab, from 1; MAC addresses are made of it.
    number: u16,
    folder: PathBuf,
    /// Its thread, whose `/proc` folder stands for its namespaces.
    thread_id: Pid,
    netlink: rtnetlink::Handle,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    /// By interface: where the other end of its cable is.
    cables: Mutex<BTreeMap<String, Cable>>,
}

/// The other end of a cable.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    pub(crate) host: HostRef,
    pub(crate) interface: String,
}

/// Work that goes on in a host until it ends or this is dropped.
#[derive(Debug)]
pub struct Task<T> {
    abort: tokio::task::AbortHandle,
    outcome: std::sync::mpsc::Receiver<Result<T>>,
    what: String,
}

impl<T> Task<T> {
    /// Waits for its outcome.
    pub fn join(self) -> Result<T> {
        self.outcome.recv().map_err(|_| anyhow!("{} was stopped or panicked", self.what))?
    }

    /// True when it has ended, well or badly.
    pub fn has_ended(&self) -> bool {
        self.abort.is_finished()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl HostRef {
    pub(crate) fn get(&self) -> Option<Host> {
        self.0.upgrade().map(Host)
    }
}

impl Host {
    /// Makes a host with nothing but a loopback interface. Its files go to `folder`, which must not exist.
    pub(crate) fn start(name: &str, number: u16, folder: PathBuf) -> Result<Host> {
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let (own_name, own_folder) = (name.to_owned(), folder.clone());
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || live(&own_name, &own_folder, queue, &ready))
            .context("starting its thread")?;
        let (thread_id, netlink) = started.recv().map_err(|_| anyhow!("its thread ended"))??;
        let inner = Inner {
            name: name.to_owned(),
            number,
            folder,
            thread_id,
            netlink,
            jobs: Some(jobs),
            thread: Some(thread),
            cables: Mutex::default(),
        };
        let host = Host(Arc::new(inner));
        host.run(sysctls_prepare)?;
        host.up("lo")?;
        Ok(host)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The folder for its files; logs of its processes are `NAME.log` in it.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    pub(crate) fn number(&self) -> u16 {
        self.0.number
    }

    /// The thread that stands for it: `/proc/THREAD/ns` has its namespaces.
    pub fn thread_id(&self) -> Pid {
        self.0.thread_id
    }

    pub(crate) fn netlink(&self) -> rtnetlink::Handle {
        self.0.netlink.clone()
    }

    pub(crate) fn downgrade(&self) -> HostRef {
        HostRef(Arc::downgrade(&self.0))
    }

    /// Runs async code in the host and waits for its outcome.
    pub fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce() -> Result<T> + Send + 'static,
    {
        let (tell, outcome) = std::sync::mpsc::sync_channel(1);
        self.send(Box::new(move || {
            Box::pin(async move {
                // The caller waits below, unless it was killed.
                drop(tell.send(work().await));
            })
        }))?;
        outcome.recv().map_err(|_| anyhow!("work in host {} panicked", self.name()))?
    }

    /// Starts async code in the host and leaves it running.
    pub fn start_task<T, F>(&self, what: &str, work: F) -> Result<Task<T>>
    where
        T: Send + 'static,
        F: AsyncFnOnce() -> Result<T> + Send + 'static,
    {
        let (tell, outcome) = std::sync::mpsc::sync_channel(1);
        let abort = self.run(async move || {
            let task = tokio::task::spawn_local(async move {
                // A `Task` that was dropped does not want the outcome.
                drop(tell.send(work().await));
            });
            Ok(task.abort_handle())
        })?;
        Ok(Task { abort, outcome, what: format!("{what} in host {}", self.name()) })
    }

    fn send(&self, job: Job) -> Result<()> {
        let sent = self.0.jobs.as_ref().map(|jobs| jobs.try_send(job));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(anyhow!("host {} takes no work: it ended, or {JOBS_MAX} pieces wait already", self.name())),
        }
    }

    /// Starts a program in the host; what it writes goes to a log named after it.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        let log = self.folder().join(format!("{name}.log"));
        let on = self.name().to_owned();
        let name = name.to_owned();
        self.run(async move || Process::start(&on, &name, command, &log))
    }

    /// Runs a program in the host to its end and gives back what it wrote.
    pub fn output(&self, mut command: Command) -> Result<Output> {
        let on = self.name().to_owned();
        let child = self.run(async move || process::start_piped(&on, &mut command))?;
        Output::collect(child)
    }

    /// Runs a program as [`Host::output`] does; failing when it fails. Gives back its standard output.
    pub fn output_ok(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.output(command)?.ok().with_context(|| format!("{program} {} on {}", arguments.join(" "), self.name()))
    }

    /// Sets a kernel parameter of the host, by its path below `/proc/sys`, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let (file, value) = (Path::new("/proc/sys").join(path), value.to_owned());
        self.run(async move || {
            fs::write(&file, &value).with_context(|| format!("writing {value:?} to {}", file.display()))
        })
    }

    /// Makes the host pass on packets that are not for it, in both families.
    pub fn forward_packets(&self) -> Result<()> {
        self.sysctl("net/ipv4/ip_forward", "1")?;
        self.sysctl("net/ipv6/conf/all/forwarding", "1")
    }

    pub(crate) fn cable_set(&self, interface: &str, far_host: &Host, far_interface: &str) {
        let cable = Cable { host: far_host.downgrade(), interface: far_interface.to_owned() };
        if let Ok(mut cables) = self.0.cables.lock() {
            cables.insert(interface.to_owned(), cable);
        }
    }

    pub(crate) fn cable(&self, interface: &str) -> Result<(Host, String)> {
        let cables = self.0.cables.lock().map_err(|_| anyhow!("a thread panicked"))?;
        let cable = cables.get(interface).with_context(|| format!("host {} has no {interface}", self.name()))?;
        let far = cable.host.get().with_context(|| format!("nothing is at the other end of {interface}"))?;
        Ok((far, cable.interface.clone()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // It reported its own panic; here there is nothing to add.
            drop(thread.join());
        }
    }
}

type Started = Result<(Pid, rtnetlink::Handle)>;

/// The host's thread, from its first to its last moment.
fn live(name: &str, folder: &Path, mut queue: mpsc::Receiver<Job>, ready: &std::sync::mpsc::SyncSender<Started>) {
    let runtime = namespaces_enter(name, folder)
        .and_then(|()| Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        // Whoever makes the host waits for this.
        Err(error) => return drop(ready.send(Err(error))),
    };
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match rtnetlink::new_connection() {
            Ok((connection, netlink, _)) => {
                tokio::task::spawn_local(connection);
                drop(ready.send(Ok((thread_id(), netlink))));
            }
            Err(error) => return drop(ready.send(Err(error.into()))),
        }
        while let Some(job) = queue.recv().await {
            tokio::task::spawn_local(job());
        }
    });
}

/// Gives the calling thread its namespaces: own interfaces, own host name, own `/sys`, own `/run` with the work folder.
fn namespaces_enter(name: &str, folder: &Path) -> Result<()> {
    unshare(&[Namespace::Network, Namespace::Mount, Namespace::Uts])?;
    mounts_make_private()?;
    set_host_name(name)?;
    mount_new("sysfs", Path::new("/sys"))?;
    let run = folder.join("run");
    let work = run.join("lab");
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    mount_bind(Path::new(WORK), &work)?;
    mount_bind(&run, Path::new("/run"))?;
    Ok(())
}

/// No waiting for duplicate address detection and no router advertisements: a host is ready at once, and has the
/// addresses it was given.
async fn sysctls_prepare() -> Result<()> {
    for scope in ["all", "default"] {
        for (parameter, value) in [
            ("disable_ipv6", "0"),
            ("accept_dad", "0"),
            ("dad_transmits", "0"),
            ("accept_ra", "0"),
            ("router_solicitations", "0"),
        ] {
            let file = format!("/proc/sys/net/ipv6/conf/{scope}/{parameter}");
            fs::write(&file, value).with_context(|| format!("writing {value} to {file}"))?;
        }
    }
    Ok(())
}
