//! Kernel namespaces and the mounts inside them.
//!
//! What a lab puts into its namespaces is decided in `lab`; here each function is one request to the kernel.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A resource that the kernel can give to a group of processes for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// Users, groups and capabilities.
    User,
    /// Mounted file systems.
    Mount,
    /// Process ids; holds for the children that are made next, not for the caller.
    Pid,
    /// Interfaces, addresses, routes, ports.
    Network,
    /// System V and POSIX message queues and shared memory.
    Ipc,
    /// The host name.
    Uts,
    /// The view of the control groups: the caller's own becomes the root of each hierarchy.
    Cgroup,
}

impl Namespace {
    const fn flag(self) -> libc::c_int {
        match self {
            Namespace::User => libc::CLONE_NEWUSER,
            Namespace::Mount => libc::CLONE_NEWNS,
            Namespace::Pid => libc::CLONE_NEWPID,
            Namespace::Network => libc::CLONE_NEWNET,
            Namespace::Ipc => libc::CLONE_NEWIPC,
            Namespace::Uts => libc::CLONE_NEWUTS,
            Namespace::Cgroup => libc::CLONE_NEWCGROUP,
        }
    }

    /// The name of its file under `/proc/PID/ns`.
    pub const fn file_name(self) -> &'static str {
        match self {
            Namespace::User => "user",
            Namespace::Mount => "mnt",
            Namespace::Pid => "pid",
            Namespace::Network => "net",
            Namespace::Ipc => "ipc",
            Namespace::Uts => "uts",
            Namespace::Cgroup => "cgroup",
        }
    }
}

/// A request about a namespace that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("could not {action}")]
pub struct NamespaceError {
    action: String,
    #[source]
    source: io::Error,
}

impl NamespaceError {
    /// What the kernel said.
    pub fn kernel_error(&self) -> &io::Error {
        &self.source
    }
}

fn checked(result: libc::c_int, action: impl FnOnce() -> String) -> Result<(), NamespaceError> {
    if result == 0 {
        return Ok(());
    }
    let source = io::Error::last_os_error();
    Err(NamespaceError { action: action(), source })
}

fn text(value: &[u8], action: &str) -> Result<CString, NamespaceError> {
    CString::new(value).map_err(|_| NamespaceError {
        action: action.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "a zero byte inside a name"),
    })
}

/// Moves the calling thread into new namespaces of these kinds.
///
/// The user namespace is possible only while the process has one thread. A thread in a mount namespace of its own has
/// its working directory and umask to itself from then on.
pub fn unshare(kinds: &[Namespace]) -> Result<(), NamespaceError> {
    let flags = kinds.iter().fold(0, |flags, kind| flags | kind.flag());
    // SAFETY: unshare takes flags only and touches no memory of ours.
    checked(unsafe { libc::unshare(flags) }, || {
        let names: Vec<_> = kinds.iter().map(|kind| kind.file_name()).collect();
        format!("create namespaces of kind {}", names.join(", "))
    })
}

/// Moves the calling thread into the namespace that a file under `/proc/PID/ns` stands for.
pub fn join(namespace: impl AsFd, kind: Namespace) -> Result<(), NamespaceError> {
    // SAFETY: setns takes a descriptor, which is open for as long as it is borrowed, and a flag.
    checked(unsafe { libc::setns(namespace.as_fd().as_raw_fd(), kind.flag()) }, || {
        format!("join a namespace of kind {}", kind.file_name())
    })
}

/// Keeps every later mount of this mount namespace from being seen in others, and theirs from being seen here.
pub fn mounts_make_private() -> Result<(), NamespaceError> {
    Mount { flags: libc::MS_REC | libc::MS_PRIVATE, ..Mount::on(Path::new("/")) }.carry_out()
}

/// Has every later mount seen in the mount namespaces that are made from this one, and theirs here.
pub fn mounts_make_shared() -> Result<(), NamespaceError> {
    Mount { flags: libc::MS_REC | libc::MS_SHARED, ..Mount::on(Path::new("/")) }.carry_out()
}

/// Mounts a new file system of a kind that needs no device: `proc`, `sysfs`, `tmpfs`.
pub fn mount_new(file_system: &str, target: &Path) -> Result<(), NamespaceError> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    Mount { file_system: Some(file_system), flags, ..Mount::on(target) }.carry_out()
}

/// Mounts a hierarchy of control groups, version 1, by its controllers such as `cpu,cpuacct` or its name `name=systemd`.
pub fn mount_cgroup_v1(controllers: &str, target: &Path) -> Result<(), NamespaceError> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    Mount { file_system: Some("cgroup"), flags, options: Some(controllers), ..Mount::on(target) }.carry_out()
}

/// Shows a folder, with all that is mounted in it, at a second place.
pub fn mount_bind(source: &Path, target: &Path) -> Result<(), NamespaceError> {
    Mount { source: Some(source), flags: libc::MS_BIND | libc::MS_REC, ..Mount::on(target) }.carry_out()
}

/// Makes what is mounted here read-only in this mount namespace; what is mounted below it stays as it is.
pub fn mount_make_read_only(target: &Path) -> Result<(), NamespaceError> {
    let path = text(target.as_os_str().as_bytes(), "make a mount read-only")?;
    // SAFETY: a statvfs is plain data that the call fills; both pointers outlive it.
    let (result, status) = unsafe {
        let mut status: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut status), status)
    };
    checked(result, || format!("read the flags of the mount {}", target.display()))?;
    // The flags that it has must be given again: in a user namespace they may not be taken away.
    let kept =
        [(libc::ST_NOSUID, libc::MS_NOSUID), (libc::ST_NODEV, libc::MS_NODEV), (libc::ST_NOEXEC, libc::MS_NOEXEC)];
    let kept = kept.into_iter().filter(|(has, _)| status.f_flag & has != 0).fold(0, |flags, (_, flag)| flags | flag);
    let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | kept;
    Mount { flags, ..Mount::on(target) }.carry_out()
}

/// A request to `mount`.
struct Mount<'a> {
    source: Option<&'a Path>,
    target: &'a Path,
    file_system: Option<&'a str>,
    flags: libc::c_ulong,
    options: Option<&'a str>,
}

impl<'a> Mount<'a> {
    fn on(target: &'a Path) -> Mount<'a> {
        Mount { source: None, target, file_system: None, flags: 0, options: None }
    }

    fn action(&self) -> String {
        let target = self.target.display();
        match (self.source, self.file_system) {
            (_, Some(kind)) => format!("mount {kind} on {target}"),
            (Some(source), None) => format!("show {} at {target}", source.display()),
            (None, None) => format!("change how {target} is mounted"),
        }
    }

    fn carry_out(&self) -> Result<(), NamespaceError> {
        let text = |value: &[u8]| text(value, &self.action());
        let target = text(self.target.as_os_str().as_bytes())?;
        let kind = self.file_system.map(|kind| text(kind.as_bytes())).transpose()?;
        let source = self.source.map(|source| text(source.as_os_str().as_bytes())).transpose()?;
        // A file system without a device is named after its kind in the list of mounts.
        let source = source.or_else(|| kind.clone());
        let options = self.options.map(|options| text(options.as_bytes())).transpose()?;
        let pointer = |value: &Option<CString>| value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
        // SAFETY: each pointer is null, where mount allows it, or a string that lives until the end of this function.
        let result = unsafe {
            libc::mount(pointer(&source), target.as_ptr(), pointer(&kind), self.flags, pointer(&options).cast())
        };
        checked(result, || self.action())
    }
}

/// Sets the host name of the caller's UTS namespace.
pub fn set_host_name(name: &str) -> Result<(), NamespaceError> {
    // SAFETY: the pointer and the length describe the same string, which sethostname only reads.
    checked(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }, || format!("set the host name to {name}"))
}
