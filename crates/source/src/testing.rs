//! What the tests of both sources share.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::Object;

use crate::backoff::random;
use crate::{Change, Source};

/// What arrives until nothing has arrived for a while.
pub(crate) async fn changes(source: &mut Source) -> String {
    let mut all = Vec::new();
    while let Ok(Some(change)) = tokio::time::timeout(Duration::from_millis(700), source.changes.recv()).await {
        all.push(change);
    }
    describe(&all)
}

/// Changes, a line each, also of those that come together: of a Service also its class, its addresses and its pool.
pub(crate) fn describe(changes: &[Change]) -> String {
    let line = |change: &Change| match change {
        Change::Applied(Object::Service(service)) => {
            let ips: Vec<_> =
                service.status.load_balancer.ingress.iter().filter_map(|entry| entry.ip.clone()).collect();
            let mut line = format!("+ Service {}", service.metadata.key());
            let class = service.spec.load_balancer_class.clone();
            let pool = service.metadata.annotations.get(api::ALLOCATED_FROM_POOL).cloned();
            for part in class.into_iter().chain(ips).chain(pool) {
                line.push(' ');
                line.push_str(&part);
            }
            line
        }
        Change::Applied(object) => format!("+ {}", object.reference()),
        Change::Deleted(reference) => format!("- {reference}"),
        Change::Together(_) => String::new(),
        Change::Recalled => "recalled".to_owned(),
        Change::Synced => "synced".to_owned(),
        Change::ReportsSynced => "reports synced".to_owned(),
        Change::Leading(term) => format!("leading in term {}", term.0),
        Change::Following => "following".to_owned(),
    };
    let lines = |change: &Change| match change {
        Change::Together(changes) => describe(changes),
        change => format!("{}\n", line(change)),
    };
    changes.iter().map(lines).collect()
}

/// A directory that goes away with the test.
pub(crate) struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    pub(crate) fn new() -> TemporaryDirectory {
        let path = std::env::temp_dir().join(format!("metallb-source-{:016x}", random()));
        fs::create_dir(&path).unwrap();
        TemporaryDirectory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        // The clock of file times ticks every 10 ms at worst. Outside of tests a file is read when it is older than
        // that.
        std::thread::sleep(Duration::from_millis(11));
        fs::write(self.0.join(name), text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// The names of the status files.
    pub(crate) fn statuses(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("status")).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}
