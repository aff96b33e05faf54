//! Programs that run on a host.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use kit::Duration;
use sys::process::{Pid, ProcessHandle, Signal, command_dies_with_parent, signal_send};

/// How long a program has to end when it is asked to, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Where daemons are that stand in the path of root alone. In the lab everybody is root.
pub(crate) const SBIN: &str = ":/usr/local/sbin:/usr/sbin:/sbin";

/// A program that runs on a host; killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    host: String,
    log: PathBuf,
    child: Child,
    handle: ProcessHandle,
    id: Pid,
}

impl Process {
    /// To be called on the host's thread.
    pub(crate) fn start(host: &str, name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("opening {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = start_child(host, &mut command)?;
        let id = Pid::new(child.id()).context("a process without an id")?;
        let handle = ProcessHandle::open(id).with_context(|| format!("holding on to {name}"))?;
        Ok(Process { name: name.to_owned(), host: host.to_owned(), log: log.to_owned(), child, handle, id })
    }

    /// What it was named when it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> Pid {
        self.id
    }

    /// All that it and earlier programs of this name on this host have written.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_send(self.id, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for it to end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        if !self.handle.wait(limit)? {
            bail!("{} on {} did not end within {limit}", self.name, self.host);
        }
        Ok(self.child.wait()?)
    }

    /// Asks it to end, and waits; fails when it has to be killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::Terminate)?;
        self.wait(STOP_LIMIT).or_else(|error| {
            self.kill()?;
            Err(error)
        })
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("killing {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nothing left to do then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a program wrote, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    pub(crate) fn collect(mut child: Child) -> Result<Output> {
        let errors = child.stderr.take();
        let reader = thread::spawn(move || read_all(errors));
        let stdout = read_all(child.stdout.take())?;
        let stderr = reader.join().map_err(|_| anyhow!("the reader of its standard error panicked"))??;
        Ok(Output { status: child.wait()?, stdout, stderr })
    }

    /// Its standard output, if it ended well.
    pub fn ok(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        bail!("{}: {}{}", self.status, self.stdout, self.stderr)
    }
}

fn read_all(stream: Option<impl std::io::Read>) -> Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Starts a program whose output is read by the caller. To be called on the host's thread.
pub(crate) fn start_piped(host: &str, command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    start_child(host, command)
}

/// A process group of its own keeps the keys of the terminal from it; it ends with the host's thread in any case.
fn start_child(host: &str, command: &mut Command) -> Result<Child> {
    command.process_group(0);
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(SBIN);
    command.env("PATH", path);
    command_dies_with_parent(command);
    let program = command.get_program().to_owned();
    command.spawn().with_context(|| format!("starting {} on {host}", program.display()))
}
