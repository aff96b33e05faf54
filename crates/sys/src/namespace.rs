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
    mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE)
}

/// Mounts a new file system of a kind that needs no device: `proc`, `sysfs`, `tmpfs`.
pub fn mount_new(file_system: &str, target: &Path) -> Result<(), NamespaceError> {
    mount(Some(Path::new(file_system)), target, Some(file_system), libc::MS_NOSUID | libc::MS_NODEV)
}

/// Shows a folder, with all that is mounted in it, at a second place.
pub fn mount_bind(source: &Path, target: &Path) -> Result<(), NamespaceError> {
    mount(Some(source), target, None, libc::MS_BIND | libc::MS_REC)
}

fn mount(
    source: Option<&Path>,
    target: &Path,
    file_system: Option<&str>,
    flags: libc::c_ulong,
) -> Result<(), NamespaceError> {
    let action = || match (source, file_system) {
        (_, Some(kind)) => format!("mount {kind} on {}", target.display()),
        (Some(source), None) => format!("show {} at {}", source.display(), target.display()),
        (None, None) => format!("change how mounts below {} are shared", target.display()),
    };
    let source = source.map(|source| text(source.as_os_str().as_bytes(), &action())).transpose()?;
    let target_text = text(target.as_os_str().as_bytes(), &action())?;
    let kind = file_system.map(|kind| text(kind.as_bytes(), &action())).transpose()?;
    let pointer = |value: &Option<CString>| value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
    // SAFETY: each pointer is null, where mount allows it, or a string that lives until the end of this function.
    let result = unsafe {
        libc::mount(pointer(&source), target_text.as_ptr(), pointer(&kind), flags, std::ptr::null::<libc::c_void>())
    };
    checked(result, action)
}

/// Sets the host name of the caller's UTS namespace.
pub fn set_host_name(name: &str) -> Result<(), NamespaceError> {
    // SAFETY: the pointer and the length describe the same string, which sethostname only reads.
    checked(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }, || format!("set the host name to {name}"))
}
