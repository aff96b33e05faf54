//! Processes and signals: forking while there is one thread, waiting with a limit, dying with the parent.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use kit::Duration;

/// The id of a process or a thread, as the caller's pid namespace numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(libc::pid_t);

impl Pid {
    /// The process with this number; `None` for 0 and for what does not fit, which name groups or nothing.
    pub fn new(number: u32) -> Option<Pid> {
        libc::pid_t::try_from(number).ok().filter(|number| *number > 0).map(Pid)
    }

    /// The number.
    pub const fn get(self) -> i32 {
        self.0
    }
}

/// The signals that the program sends or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// The terminal went away.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-\.
    Quit,
    /// The request to end.
    Terminate,
    /// The end, without being asked.
    Kill,
    /// Hold still; cannot be refused.
    Stop,
    /// Go on after `Stop`.
    Continue,
    /// A child ended.
    Child,
}

impl Signal {
    const ALL: [Signal; 8] = [
        Signal::Hangup,
        Signal::Interrupt,
        Signal::Quit,
        Signal::Terminate,
        Signal::Kill,
        Signal::Stop,
        Signal::Continue,
        Signal::Child,
    ];

    const fn number(self) -> libc::c_int {
        match self {
            Signal::Hangup => libc::SIGHUP,
            Signal::Interrupt => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
            Signal::Child => libc::SIGCHLD,
        }
    }
}

/// Which side of a fork is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the id of the new one.
    Parent(Pid),
}

/// How a process ended, as a shell tells it: its exit status, or 128 plus the number of the signal that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(pub i32);

impl ExitStatus {
    fn from_wait(status: libc::c_int) -> ExitStatus {
        if libc::WIFEXITED(status) {
            ExitStatus(libc::WEXITSTATUS(status))
        } else {
            ExitStatus(libc::WTERMSIG(status).saturating_add(128))
        }
    }
}

/// The user that the process acts as; 0 is root.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// The group that the process acts as.
pub fn effective_group() -> u32 {
    // SAFETY: getegid takes nothing and cannot fail.
    unsafe { libc::getegid() }
}

/// The id of the calling thread.
pub fn thread_id() -> Pid {
    // SAFETY: gettid takes nothing and cannot fail.
    Pid(unsafe { libc::gettid() })
}

/// Makes a copy of the process.
///
/// Refused when the process has more than one thread: the copy would hold the locks of threads that it does not have.
pub fn fork() -> io::Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("a process with {threads} threads must not fork")));
    }
    // SAFETY: there is one thread, so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid(pid))),
    }
}

/// Ends the process at once: no destructor, no buffer is written. For the processes that only stand around the program.
pub fn exit_at_once(status: ExitStatus) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(status.0) }
}

/// Asks the kernel to kill this process when the thread that made it ends.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: this prctl takes a signal number only.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the command killed when the thread that starts it ends, however it ends.
pub fn command_dies_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(die_with_parent) };
}

/// The processor time that a process with all its threads, those that have ended included, has used so far. Finer than
/// the hundredths of a second of `/proc/PID/stat`.
pub fn cpu_time(process: Pid) -> io::Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the number of a clock is written to `clock`, which outlives the call.
    match unsafe { libc::clock_getcpuclockid(process.0, &raw mut clock) } {
        0 => {}
        // It returns the error instead of setting it.
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to `time`, which outlives the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    Ok(Duration::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)))
}

/// Sends a signal to a process.
pub fn signal_send(process: Pid, signal: Signal) -> io::Result<()> {
    // SAFETY: kill takes numbers only; a `Pid` is never 0 or negative, so no group is meant.
    match unsafe { libc::kill(process.0, signal.number()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes the next child that has ended, if one has.
pub fn child_reap() -> Option<(Pid, ExitStatus)> {
    let mut status = 0;
    // SAFETY: waitpid writes to `status`, which lives longer than the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (Pid(pid), ExitStatus::from_wait(status)))
}

/// Waits until the next child has ended, whichever it is, and takes it; fails when there is none.
pub fn child_wait_next() -> io::Result<(Pid, ExitStatus)> {
    let mut status = 0;
    loop {
        // SAFETY: waitpid writes to `status`, which lives longer than the call.
        match unsafe { libc::waitpid(-1, &raw mut status, 0) } {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            pid => return Ok((Pid(pid), ExitStatus::from_wait(status))),
        }
    }
}

/// Waits until a child has ended, and takes it.
pub fn child_wait(child: Pid) -> io::Result<ExitStatus> {
    let mut status = 0;
    loop {
        // SAFETY: waitpid writes to `status`, which lives longer than the call.
        match unsafe { libc::waitpid(child.0, &raw mut status, 0) } {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            _ => return Ok(ExitStatus::from_wait(status)),
        }
    }
}

/// Where a signal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel: a key on the terminal, or a child that ended.
    Kernel,
    /// A process that sent it to us alone.
    Process,
}

/// Signals that are held back until they are waited for. Dropped: the mask is as it was before.
#[derive(Debug)]
pub struct SignalsHeld {
    held: libc::sigset_t,
    before: libc::sigset_t,
}

impl SignalsHeld {
    /// Holds these signals back, for the calling thread.
    pub fn hold(signals: &[Signal]) -> io::Result<SignalsHeld> {
        // SAFETY: a sigset_t is plain data; sigemptyset initialises the set before it is read, and every pointer is
        // to a local that outlives its call.
        unsafe {
            let mut held: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut held);
            for signal in signals {
                libc::sigaddset(&raw mut held, signal.number());
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const held, &raw mut before) {
                0 => Ok(SignalsHeld { held, before }),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// Waits for the next of them, and says where it came from.
    pub fn wait(&self) -> io::Result<(Signal, Origin)> {
        loop {
            // SAFETY: a siginfo_t is plain data that sigwaitinfo fills; both pointers outlive the call.
            let (number, info) = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                (libc::sigwaitinfo(&raw const self.held, &raw mut info), info)
            };
            if number == -1 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            let origin = if info.si_code <= 0 { Origin::Process } else { Origin::Kernel };
            if let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.number() == number) {
                return Ok((signal, origin));
            }
        }
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        // SAFETY: `before` was filled by pthread_sigmask; the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// True when no process holds the writing end of a pipe any more.
pub fn pipe_is_closed(pipe: &PipeReader) -> io::Result<bool> {
    Ok(poll(pipe.as_fd(), 0)? & libc::POLLHUP != 0)
}

/// Waits at most this long for something to happen on a descriptor; 0 when nothing did.
fn poll(descriptor: BorrowedFd<'_>, millis: libc::c_int) -> io::Result<libc::c_short> {
    let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd is passed by pointer with the count 1, and its descriptor is open while it is borrowed.
    match unsafe { libc::poll(&raw mut poll, 1, millis) } {
        -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(0),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(poll.revents),
    }
}

/// A process held by descriptor, so that its number cannot come to mean another one.
#[derive(Debug)]
pub struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// The process with this id, which must not have been reaped yet.
    pub fn open(process: Pid) -> io::Result<ProcessHandle> {
        // SAFETY: pidfd_open takes a pid and flags.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_open, process.0, 0) };
        match i32::try_from(result) {
            // SAFETY: the kernel has just made this descriptor for us alone.
            Ok(descriptor) if descriptor >= 0 => Ok(ProcessHandle(unsafe { OwnedFd::from_raw_fd(descriptor) })),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until the process has ended, at most this long; true when it has. It still has to be reaped by its parent.
    /// A signal to the waiting thread can make the wait shorter.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let millis = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
        Ok(poll(self.0.as_fd(), millis)? != 0)
    }
}
