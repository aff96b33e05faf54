//! Control groups of nodes, version 1: one for each node in every hierarchy, below the group that the program was
//! started in. So the limits of that group hold, and nothing else on the machine is touched.
//!
//! ```text
//! GROUP OF THE PROGRAM / RUN / LAB / NODE / what its kubelet and its container runtime make
//! ```
//!
//! No namespace takes them away with the last process; that is done when a node is removed, and for all of a run by the
//! process that `enter_and_clean` leaves outside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use sys::process::Pid;

use crate::eventually;

/// Without one of these a kubelet or a container runtime does not start.
const CONTROLLERS: [&str; 7] = ["cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"];

/// How long the kernel may take to end killed processes and to let go of their group.
const END_LIMIT: Duration = Duration::from_secs(60);

static RUN: OnceLock<String> = OnceLock::new();

/// The name of the groups of this run, the same in the process that cleans up. To be called first before the program
/// is forked.
pub(super) fn run_name() -> &'static str {
    RUN.get_or_init(|| {
        let random = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
        let word: String = random.chars().take_while(|letter| *letter != '-').collect();
        format!("metallb-lab-{}-{word}", std::process::id())
    })
}

/// Removes all groups of a run, when its processes have ended.
pub(super) fn run_remove(name: &str) {
    let hierarchies = hierarchies().unwrap_or_default();
    // Nobody is left to be told of what could not be removed.
    drop(eventually(END_LIMIT, || {
        for hierarchy in &hierarchies {
            tree_remove(&hierarchy.folder.join(name))?;
        }
        Ok(())
    }));
}

/// One hierarchy, mounted on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// What it controls, such as `cpu,cpuacct`, or its name: `name=systemd`.
    controllers: String,
    /// The group that the program is in.
    folder: PathBuf,
}

impl Hierarchy {
    fn controls(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|each| each == controller)
    }

    /// Makes a group below this one. A new group of `cpuset` takes no process before it has processors and memory.
    fn make(&self, path: &Path) -> Result<()> {
        let mut folder = self.folder.clone();
        for part in path {
            let above = folder.clone();
            folder.push(part);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.with_context(|| format!("making the control group {}", folder.display()))?,
            }
            if self.controls("cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = fs::read(above.join(file)).with_context(|| format!("reading {file}"))?;
                    fs::write(folder.join(file), value).with_context(|| format!("writing {file}"))?;
                }
            }
        }
        Ok(())
    }
}

/// The groups of a node, with the thread of its host in them, so that everything started there is.
#[derive(Debug)]
pub(super) struct NodeGroups {
    hierarchies: Vec<Hierarchy>,
    path: PathBuf,
    thread: Pid,
}

impl NodeGroups {
    /// Makes the groups of a node, which is told by its lab and its name, and moves the thread there.
    pub(super) fn make(node: &Path, thread: Pid) -> Result<NodeGroups> {
        let hierarchies = hierarchies()?;
        controllers_check(&hierarchies)?;
        let groups = NodeGroups { hierarchies, path: Path::new(run_name()).join(node), thread };
        for hierarchy in &groups.hierarchies {
            hierarchy.make(&groups.path)?;
            move_thread(thread, &hierarchy.folder.join(&groups.path))?;
        }
        Ok(groups)
    }

    /// The hierarchies by what they control, as they are to be mounted on the node.
    pub(super) fn controllers(&self) -> Vec<String> {
        self.hierarchies.iter().map(|hierarchy| hierarchy.controllers.clone()).collect()
    }

    /// Waits until no process is left but the host's own, and removes what the node made: after a power cut.
    pub(super) fn wait_empty(&self) -> Result<()> {
        eventually(END_LIMIT, || {
            for hierarchy in &self.hierarchies {
                let folder = hierarchy.folder.join(&self.path);
                for below in folders_in(&folder)? {
                    tree_remove(&below)?;
                }
                let tasks = fs::read_to_string(folder.join("tasks"))?;
                ensure!(tasks.lines().all(|task| task == self.thread.get().to_string()), "tasks are left: {tasks}");
            }
            Ok(())
        })
        .context("after a power cut")
    }

    /// Moves the thread back, and removes the groups.
    pub(super) fn remove(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            move_thread(self.thread, &hierarchy.folder)?;
        }
        eventually(END_LIMIT, || {
            for hierarchy in &self.hierarchies {
                tree_remove(&hierarchy.folder.join(&self.path))?;
            }
            Ok(())
        })
    }
}

/// Fails, and says what is missing, on a machine that has not all of [`CONTROLLERS`] in hierarchies of version 1.
fn controllers_check(hierarchies: &[Hierarchy]) -> Result<()> {
    let has = |controller: &&str| hierarchies.iter().any(|one| one.controls(controller));
    let missing: Vec<_> = CONTROLLERS.into_iter().filter(|controller| !has(controller)).collect();
    ensure!(
        missing.is_empty(),
        "the nodes of a whole cluster need control groups of version 1, and none are mounted here for {}\n\
         hint: version 2 alone is not supported yet; the rest of the lab works. A kernel with the parameters \
         systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller has version 1, where systemd is older \
         than 258",
        missing.join(", ")
    );
    Ok(())
}

fn move_thread(thread: Pid, group: &Path) -> Result<()> {
    fs::write(group.join("tasks"), thread.get().to_string())
        .with_context(|| format!("moving a thread into the control group {}", group.display()))
}

/// Removes a group and those below it; succeeds when there is none.
fn tree_remove(folder: &Path) -> Result<()> {
    for below in folders_in(folder)? {
        tree_remove(&below)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing the control group {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {}", folder.display()))?,
    };
    Ok(entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|it| it.path())
        .collect())
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let own = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(hierarchies_read(&own, &mounts))
}

/// Reads the two files of `/proc` together: which group is ours in each hierarchy, and where that is mounted.
fn hierarchies_read(own: &str, mounts: &str) -> Vec<Hierarchy> {
    let mounts: Vec<_> = mounts.lines().filter_map(mount_read).collect();
    let read = |line: &str| {
        let (_number, rest) = line.split_once(':')?;
        // A name may have a colon in it, a controller not; the path comes last.
        let (controllers, path) = rest.split_once(":/")?;
        let is_it = |mount: &&MountedHierarchy<'_>| {
            !controllers.is_empty() && controllers.split(',').all(|each| mount.options.split(',').any(|it| it == each))
        };
        let mount = mounts.iter().find(is_it)?;
        // In a container the root of the mount can be the container's own group.
        let below = Path::new("/").join(path);
        let folder = Path::new(mount.point).join(below.strip_prefix(mount.root).ok()?);
        Some(Hierarchy { controllers: controllers.to_owned(), folder })
    };
    own.lines().filter_map(read).collect()
}

struct MountedHierarchy<'a> {
    root: &'a str,
    point: &'a str,
    options: &'a str,
}

fn mount_read(line: &str) -> Option<MountedHierarchy<'_>> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ').skip(3);
    let (root, point) = (head.next()?, head.next()?);
    let mut tail = tail.split(' ');
    let (kind, _source, options) = (tail.next()?, tail.next()?, tail.next()?);
    (kind == "cgroup").then_some(MountedHierarchy { root, point, options })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{controllers_check, hierarchies_read};

    fn check(own: &str, mounts: &str, expected: expect_test::Expect) {
        let lines: Vec<_> = hierarchies_read(own, mounts)
            .iter()
            .map(|it| format!("{} at {}", it.controllers, it.folder.display()))
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn each_hierarchy_is_found_where_it_is_mounted() {
        check(
            "9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/user\n0::/\n",
            "30 23 0:26 / /sys/fs/cgroup rw shared:4 - tmpfs tmpfs rw,mode=755\n\
             31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory\n\
             33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n\
             34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            expect![[r"
                name=systemd at /sys/fs/cgroup/systemd/
                memory at /sys/fs/cgroup/memory/a/b
                cpu,cpuacct at /sys/fs/cgroup/cpu,cpuacct/user"]],
        );
    }

    #[test]
    fn in_a_container_the_mount_begins_at_the_containers_group() {
        check(
            "4:memory:/docker/0a1b/below\n5:pids:/elsewhere\n",
            "32 30 0:28 /docker/0a1b /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
             33 30 0:29 /docker/0a1b /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n",
            expect!["memory at /sys/fs/cgroup/memory/below"],
        );
    }

    #[test]
    fn version_2_alone_has_no_hierarchy_and_that_is_told() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        check("0::/user.slice\n", mounts, expect![""]);
        let error = controllers_check(&hierarchies_read("0::/user.slice\n", mounts)).unwrap_err().to_string();
        let (first, hint) = error.split_once('\n').unwrap();
        expect!["the nodes of a whole cluster need control groups of version 1, and none are mounted here for cpu, cpuacct, cpuset, devices, freezer, memory, pids"].assert_eq(first);
        assert!(hint.starts_with("hint: version 2 alone is not supported yet"), "{hint}");
    }
}
