//! A node from the inside: the program starts itself once more as the first process of the node, which mounts what a
//! machine has, starts the container runtime, the kubelet and the service proxy, and reaps.
//!
//! ```text
//! host's thread
//!  └─ outer    joins nothing, makes the namespaces, waits; to kill it is to take the power
//!      └─ init   process 1 of the node
//!          ├─ containerd, kubelet, kube-proxy
//!          └─ the shims of containers, when their parents have ended
//! ```
//!
//! Settings of the kernel that no namespace divides belong to the machine, and root of a user namespace may write them
//! where it is root outside, too. So the node sees files of its own in the place of those that a kubelet wants to be so.

use std::fs::{self, File};
use std::io::{PipeReader, pipe};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use kit::Duration;
use serde::{Deserialize, Serialize};
use sys::namespace::{
    Namespace, mount_bind, mount_cgroup_v1, mount_make_read_only, mount_new, mounts_make_private, mounts_make_shared,
    unshare,
};
use sys::process::{
    ExitStatus, Fork, Pid, child_wait, child_wait_next, die_with_parent, exit_at_once, fork, pipe_is_closed,
};

use crate::eventually;

/// As what the program runs when it is the first process of a node.
const NAME: &str = "lab-node";

/// Where containerd listens.
pub(super) const RUNTIME_SOCKET: &str = "/run/containerd/containerd.sock";
/// What kubelet and containerd call their own in there.
pub(super) const RUNTIME_NAMESPACE: &str = "k8s.io";

/// Settings that a kubelet insists on, with the values that it wants.
const KUBELET_SETTINGS: [(&str, &str); 4] =
    [("vm/overcommit_memory", "1"), ("vm/panic_on_oom", "0"), ("kernel/panic", "10"), ("kernel/panic_on_oops", "1")];

const START_LIMIT: Duration = Duration::from_secs(60);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a node does when it gets power.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The folder of the host.
    pub(super) folder: PathBuf,
    /// The hierarchies of control groups, by what they control.
    pub(super) controllers: Vec<String>,
    /// The program that is all of Kubernetes.
    pub(super) kubernetes: PathBuf,
    /// Archives to be imported before the kubelet starts.
    pub(super) images: Vec<PathBuf>,
    /// The container runtime with its arguments.
    pub(super) runtime: Vec<String>,
    /// Parts of Kubernetes with their arguments.
    pub(super) components: Vec<Vec<String>>,
}

/// The command that starts a node, on its host.
pub(super) fn command(plan: &Plan) -> Result<Command> {
    let file = plan.folder.join("node.json");
    fs::write(&file, serde_json::to_vec(plan)?).with_context(|| format!("writing {}", file.display()))?;
    // This name stays ours even when the file that we were started from has been replaced.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(file);
    Ok(command)
}

/// Never returns in a process that was started by [`command`]. To be called first in `main`.
pub(super) fn run_if_asked() {
    let mut arguments = std::env::args_os();
    if arguments.next().is_none_or(|name| name != NAME) {
        return;
    }
    let outcome = arguments.next().context("no plan").and_then(|plan| outer_run(Path::new(&plan)));
    let status = outcome.unwrap_or_else(|error| {
        report(&format!("{error:#}"));
        ExitStatus(1)
    });
    exit_at_once(status)
}

#[allow(clippy::print_stderr, reason = "the log of the node is where its standard error goes")]
fn report(text: &str) {
    eprintln!("{text}");
}

fn outer_run(plan: &Path) -> Result<ExitStatus> {
    let plan: Plan = serde_json::from_slice(&fs::read(plan)?)?;
    unshare(&[Namespace::Mount, Namespace::Pid, Namespace::Ipc, Namespace::Cgroup])?;
    let (alive, alive_here) = pipe()?;
    match fork()? {
        Fork::Parent(init) => {
            drop(alive);
            let status = child_wait(init)?;
            drop(alive_here);
            Ok(status)
        }
        Fork::Child => {
            drop(alive_here);
            init_run(&plan, &alive)
        }
    }
}

fn init_run(plan: &Plan, alive: &PipeReader) -> Result<ExitStatus> {
    die_with_parent()?;
    // When the outer process ended before that, nobody holds the writing end.
    ensure!(!pipe_is_closed(alive)?, "the power went while the node started");
    mount_all(plan)?;
    let runtime = start(&plan.folder, "containerd", &plan.runtime)?;
    eventually(START_LIMIT, || Ok(UnixStream::connect(RUNTIME_SOCKET)?)).context("starting containerd")?;
    for image in &plan.images {
        import(image)?;
    }
    let mut services = vec![(runtime, "containerd")];
    let kubernetes = kubernetes_seen(plan);
    for component in &plan.components {
        let (name, _) = component.split_first().context("a component without a name")?;
        let program = kubernetes.to_str().context("a path that is not text")?.to_owned();
        let line: Vec<String> = [program].into_iter().chain(component.iter().cloned()).collect();
        services.push((start(&plan.folder, name, &line)?, name));
    }
    loop {
        let (child, status) = child_wait_next()?;
        // All others are what containers leave behind.
        if let Some((_, name)) = services.iter().find(|(id, _)| *id == child) {
            report(&format!("{name} ended with status {}", status.0));
        }
    }
}

/// Where the program of Kubernetes is seen on the node, whatever hides the place that it has on the machine.
fn kubernetes_seen(plan: &Plan) -> PathBuf {
    plan.folder.join("programs/kubernetes")
}

fn mount_all(plan: &Plan) -> Result<()> {
    mounts_make_private()?;
    mount_new("proc", Path::new("/proc"))?;
    for (setting, value) in KUBELET_SETTINGS {
        let own = plan.folder.join(setting.replace('/', "."));
        fs::write(&own, value)?;
        mount_bind(&own, &Path::new("/proc/sys").join(setting))?;
    }
    // The file system `sys` is the host's already, which has the node's interfaces and an empty folder for groups.
    let groups = Path::new("/sys/fs/cgroup");
    mount_new("tmpfs", groups)?;
    for controllers in &plan.controllers {
        let folder = groups.join(controllers.trim_start_matches("name="));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        mount_cgroup_v1(controllers, &folder)?;
    }
    run_clear()?;
    let kubernetes = kubernetes_seen(plan);
    fs::create_dir_all(plan.folder.join("programs"))?;
    File::create(&kubernetes)?;
    mount_bind(&plan.kubernetes, &kubernetes)?;
    for (own, place) in [("lib", "/var/lib"), ("log", "/var/log"), ("tmp", "/tmp")] {
        let own = plan.folder.join(own);
        fs::create_dir_all(&own)?;
        mount_bind(&own, Path::new(place))?;
    }
    fs::create_dir_all("/var/log/containers")?;
    // All else of the machine can be read only.
    mount_make_read_only(Path::new("/"))?;
    // What the kubelet mounts has to be seen by the containers that have it as a volume.
    mounts_make_shared()?;
    Ok(())
}

/// A machine that starts has nothing in `/run`; here there is the work folder of the lab.
fn run_clear() -> Result<()> {
    for entry in fs::read_dir("/run")?.flatten() {
        let path = entry.path();
        if entry.file_name() == "lab" {
            continue;
        }
        let is_folder = entry.file_type()?.is_dir();
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

/// Starts a program; what it writes goes to a log named after it, beside that of the node itself.
fn start(folder: &Path, name: &str, line: &[String]) -> Result<Pid> {
    let (program, arguments) = line.split_first().context("no program")?;
    let log = File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", PATH).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().with_context(|| format!("starting {program}"))?;
    Pid::new(child.id()).context("a process without an id")
}

fn import(image: &Path) -> Result<()> {
    let mut command = import_command(image);
    let output = command.env("PATH", PATH).output().context("starting ctr")?;
    if !output.status.success() {
        bail!("importing {}: {}", image.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The command that imports an archive of images on a node, by the socket of its runtime.
pub(super) fn import_command(image: &Path) -> Command {
    let mut command = Command::new("ctr");
    command.args(["--address", RUNTIME_SOCKET, "--namespace", RUNTIME_NAMESPACE, "images", "import"]).arg(image);
    command
}
