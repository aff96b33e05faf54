//! A lab: the hosts that are made together, and the folder that their files go to.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::enter::{WORK, has_entered};
use crate::{Host, Switch};

/// How much of a log a failure shows.
const LOG_TAIL_LINES: usize = 40;

static LABS: AtomicU32 = AtomicU32::new(0);

/// Hosts that belong together. Names and MAC addresses are the same in every run; two labs never see each other.
#[derive(Debug)]
pub struct Lab {
    folder: PathBuf,
    hosts: Mutex<Vec<Host>>,
}

impl Lab {
    /// An empty lab. The program must be inside namespaces of its own; see [`crate::enter()`].
    pub fn new(name: &str) -> Result<Lab> {
        ensure!(has_entered(), "a lab exists only inside namespaces of its own: call lab::enter() first in main");
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(WORK).join(format!("{number}-{name}"));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Lab { folder, hosts: Mutex::default() })
    }

    /// The folder for its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a host that is connected to nothing.
    pub fn host(&self, name: &str) -> Result<Host> {
        let mut hosts = self.hosts.lock().map_err(|_| anyhow!("a thread panicked while it made a host"))?;
        ensure!(hosts.iter().all(|host| host.name() != name), "there is a host {name} already");
        let number = u16::try_from(hosts.len()).ok().and_then(|made| made.checked_add(1)).context("too many hosts")?;
        let host = Host::start(name, number, self.folder.join(name)).with_context(|| format!("making host {name}"))?;
        hosts.push(host.clone());
        Ok(host)
    }

    /// Makes a switch.
    pub fn switch(&self, name: &str) -> Result<Switch> {
        Switch::start(self.host(name)?)
    }

    /// Its hosts in the order in which they were made, switches included.
    pub fn hosts(&self) -> Vec<Host> {
        self.hosts.lock().map(|hosts| hosts.clone()).unwrap_or_default()
    }

    /// The end of every log of its hosts, as text to be read.
    pub fn log_tails(&self) -> String {
        let mut text = String::new();
        for host in self.hosts() {
            let Ok(entries) = fs::read_dir(host.folder()) else { continue };
            let mut logs: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
            logs.sort();
            for log in logs {
                let name = log.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                let content = fs::read(&log).unwrap_or_default();
                text.extend(["--- ", &name, " on ", host.name(), "\n", &tail(&String::from_utf8_lossy(&content))]);
            }
        }
        text
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let from = lines.len().saturating_sub(LOG_TAIL_LINES);
    lines.iter().skip(from).flat_map(|line| [line, "\n"]).collect()
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The folder is memory of our own mount namespace, which goes with the program at the latest.
        drop(fs::remove_dir_all(&self.folder));
    }
}
