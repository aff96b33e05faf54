//! Moves the whole program into namespaces of its own, so that nothing it does reaches the machine, and nothing of it
//! stays when it ends, however it ends.
//!
//! ```text
//! outer      waits, passes signals on, ends with the program's status        machine's pid namespace
//!  ├─ cleaner   waits for the end of all others; only if there is something to clean
//!  └─ init   process 1: reaps; dies with the outer process                   own pid namespace
//!      └─ program   returns from `enter` and goes on
//! ```
//!
//! The kernel ends every process of a pid namespace with its process 1, and frees a network namespace, its interfaces
//! and its mounts with the last process in it. So the one link that has to be made by hand is from the outer process to
//! process 1, and that is a parent-death signal. Files are written below [`WORK`] alone, which is memory of the mount
//! namespace. What no namespace holds, such as control groups, is removed by the cleaner (`enter_and_clean`).

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sys::namespace::{Namespace, NamespaceError, mount_new, mounts_make_private, unshare};
use sys::process::{
    ExitStatus, Fork, Origin, Pid, Signal, SignalsHeld, child_reap, child_wait, die_with_parent, effective_group,
    effective_user, exit_at_once, fork, pipe_is_closed, signal_send,
};

/// The folder that the lab writes to, in memory, gone with the program.
pub const WORK: &str = "/run/lab";

/// Why the program could not have namespaces of its own. The text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The kernel does not let this user make a user namespace.
    #[error(
        "the lab needs network namespaces of its own, and the kernel refuses a user namespace ({0}): run it as root \
         (in a container: a privileged one), or allow it with `sysctl -w kernel.unprivileged_userns_clone=1` (Debian), `sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu) or `sysctl -w user.max_user_namespaces=10000`"
    )]
    Refused(String),
    /// A step failed that a permitted user can expect to work.
    #[error("the lab could not prepare its namespaces: {0}")]
    Step(String),
}

static ENTERED: AtomicBool = AtomicBool::new(false);

/// True in a program that [`enter`] has moved.
pub(crate) fn has_entered() -> bool {
    ENTERED.load(Ordering::Relaxed)
}

/// Moves the program into user, network, mount, pid, IPC and UTS namespaces of its own, and returns inside.
///
/// To be called first thing in `main`, while there is one thread. The calling process itself stays outside, waits, and
/// never returns from here unless something failed; SIGINT, SIGTERM, SIGHUP and SIGQUIT that are sent to it reach the
/// program, and it ends with the program's exit status.
///
/// As root every user id is kept, so that daemons may change to users of their own. As another user that user becomes
/// root inside, and there is no other.
pub fn enter() -> Result<(), EnterError> {
    let held = signals_hold()?;
    inside_make(held, None)
}

/// Does what [`enter`] does; and when the program and all that it started have ended, however they ended, `clean` runs
/// outside of the namespaces, with the rights of the caller. The calling process ends after that.
#[cfg(feature = "testing")]
pub(crate) fn enter_and_clean(clean: impl FnOnce()) -> Result<(), EnterError> {
    let held = signals_hold()?;
    let (gone, alive) = pipe().map_err(step("make a pipe"))?;
    match fork().map_err(step("start the process that cleans up"))? {
        Fork::Parent(process) => {
            drop(gone);
            inside_make(held, Some(Cleaner { process, alive }))
        }
        Fork::Child => {
            drop(alive);
            // Nobody writes: this ends when the last of those who could has ended. Its signals stay held back.
            let _ = (&gone).read(&mut [0; 1]);
            clean();
            exit_at_once(ExitStatus(0))
        }
    }
}

/// The process that cleans up, and the end of its pipe which every other process holds.
struct Cleaner {
    process: Pid,
    alive: PipeWriter,
}

fn signals_hold() -> Result<SignalsHeld, EnterError> {
    let forwarded = [Signal::Interrupt, Signal::Terminate, Signal::Hangup, Signal::Quit, Signal::Child];
    SignalsHeld::hold(&forwarded).map_err(step("hold signals back"))
}

fn inside_make(held: SignalsHeld, cleaner: Option<Cleaner>) -> Result<(), EnterError> {
    user_namespace_enter()?;
    unshare(&[Namespace::Mount, Namespace::Network, Namespace::Pid, Namespace::Ipc, Namespace::Uts])
        .map_err(|error| EnterError::Step(describe(&error)))?;
    let (report, reporter) = pipe().map_err(step("make a pipe"))?;
    let (alive, alive_here) = pipe().map_err(step("make a pipe"))?;
    match fork().map_err(step("start process 1"))? {
        Fork::Parent(init) => {
            drop((reporter, alive));
            outer_run(&held, init, report, alive_here, cleaner)
        }
        Fork::Child => {
            drop((report, alive_here));
            // Held open until the program ends: the cleaner must not start before.
            std::mem::forget(cleaner);
            init_run(held, reporter, alive)
        }
    }
}

fn step(action: &'static str) -> impl Fn(io::Error) -> EnterError {
    move |error| EnterError::Step(format!("could not {action}: {error}"))
}

fn describe(error: &NamespaceError) -> String {
    format!("{error}: {}", error.kernel_error())
}

/// Enters a new user namespace. Its maps can be written only by a process outside of it, so one is made beforehand.
fn user_namespace_enter() -> Result<(), EnterError> {
    let maps = Maps::wanted().map_err(step("read which user ids there are"))?;
    let process = std::process::id();
    let (mut go, go_here) = pipe().map_err(step("make a pipe"))?;
    let (mut outcome, outcome_there) = pipe().map_err(step("make a pipe"))?;
    let writer = match fork().map_err(step("start the process that writes the id maps"))? {
        Fork::Parent(writer) => writer,
        Fork::Child => {
            drop((go_here, outcome));
            maps_write_when_told(&maps, process, &mut go, outcome_there)
        }
    };
    drop((go, outcome_there));
    let unshared = unshare(&[Namespace::User]);
    if unshared.is_ok() {
        (&go_here).write_all(b"!").map_err(step("wake the process that writes the id maps"))?;
    }
    drop(go_here);
    let mut refusal = String::new();
    outcome.read_to_string(&mut refusal).map_err(step("hear from the process that writes the id maps"))?;
    child_wait(writer).map_err(step("wait for the process that writes the id maps"))?;
    unshared.map_err(|error| EnterError::Refused(error.kernel_error().to_string()))?;
    if refusal.is_empty() { Ok(()) } else { Err(EnterError::Refused(refusal)) }
}

fn maps_write_when_told(maps: &Maps, process: u32, go: &mut PipeReader, mut outcome: PipeWriter) -> ! {
    let mut told = [0; 1];
    if go.read_exact(&mut told).is_ok()
        && let Err(error) = maps.write(process)
    {
        // Nobody is left to hear of it when this fails.
        let _ = outcome.write_all(format!("writing its id maps: {error}").as_bytes());
    }
    exit_at_once(ExitStatus(0))
}

/// Which ids exist inside, as `/proc/PID/uid_map` wants it: lines of first id inside, first id outside, count.
struct Maps {
    users: String,
    groups: String,
    /// A user without privileges gives up the right to drop groups, or the kernel refuses the map.
    set_groups: bool,
}

impl Maps {
    fn wanted() -> io::Result<Maps> {
        if effective_user() == 0 {
            return Ok(Maps {
                users: identity(&fs::read_to_string("/proc/self/uid_map")?),
                groups: identity(&fs::read_to_string("/proc/self/gid_map")?),
                set_groups: true,
            });
        }
        let only = |id: u32| format!("0 {id} 1\n");
        Ok(Maps { users: only(effective_user()), groups: only(effective_group()), set_groups: false })
    }

    fn write(&self, process: u32) -> io::Result<()> {
        let folder = Path::new("/proc").join(process.to_string());
        if !self.set_groups {
            fs::write(folder.join("setgroups"), "deny")?;
        }
        fs::write(folder.join("uid_map"), &self.users)?;
        fs::write(folder.join("gid_map"), &self.groups)
    }
}

/// The map that keeps every id which exists here.
///
/// It is never the one line that the machine's own namespace has: container runtimes take that line for the proof that
/// they are not in a user namespace, and then ask for devices of their own, which the kernel refuses.
fn identity(map: &str) -> String {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (first, _outside, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        let rest = (first == 0 && count > 1).then(|| format!("1 1 {}\n", count.saturating_sub(1)));
        let head = if rest.is_some() { 1 } else { count };
        Some(format!("{first} {first} {head}\n{}", rest.unwrap_or_default()))
    };
    map.lines().filter_map(line).collect()
}

/// The outer process: passes signals on and waits. Returns only when the inside could not be prepared.
fn outer_run(
    held: &SignalsHeld,
    init: Pid,
    mut report: PipeReader,
    alive_here: PipeWriter,
    cleaner: Option<Cleaner>,
) -> Result<(), EnterError> {
    let mut failure = String::new();
    report.read_to_string(&mut failure).map_err(step("hear from process 1"))?;
    if !failure.is_empty() {
        child_wait(init).map_err(step("wait for process 1"))?;
        return Err(EnterError::Step(failure));
    }
    let status = wait_and_forward(held, init, init);
    drop(alive_here);
    if let Some(Cleaner { process, alive }) = cleaner {
        drop(alive);
        // It may have been killed; then there is nothing to wait for.
        drop(child_wait(process));
    }
    exit_at_once(status)
}

/// Waits for `program`, one of the caller's children, and reaps all others. Signals that a process sent go on to
/// `target`; the keys of the terminal have reached it already, as part of the foreground group. A terminal that is gone
/// is told to the first process of its session alone, which may be us.
fn wait_and_forward(held: &SignalsHeld, target: Pid, program: Pid) -> ExitStatus {
    loop {
        while let Some((child, status)) = child_reap() {
            if child == program {
                return status;
            }
        }
        match held.wait() {
            Ok((Signal::Child, _)) => {}
            // The target may have ended just now; then its status comes next.
            Ok((signal @ Signal::Hangup, _) | (signal, Origin::Process)) => drop(signal_send(target, signal)),
            Ok((_, Origin::Kernel)) => {}
            Err(_) => return ExitStatus(1),
        }
    }
}

/// Process 1 of the new pid namespace. Only the program, its child, returns.
fn init_run(held: SignalsHeld, mut reporter: PipeWriter, alive: PipeReader) -> Result<(), EnterError> {
    if let Err(failure) = init_prepare(alive) {
        // When the outer process is gone there is nobody to tell.
        let _ = reporter.write_all(failure.as_bytes());
        drop(reporter);
        exit_at_once(ExitStatus(1));
    }
    match fork() {
        Ok(Fork::Child) => {
            drop((reporter, held));
            ENTERED.store(true, Ordering::Relaxed);
            Ok(())
        }
        Ok(Fork::Parent(program)) => {
            drop(reporter);
            exit_at_once(wait_and_forward(&held, program, program))
        }
        Err(error) => {
            let _ = reporter.write_all(format!("could not start the program: {error}").as_bytes());
            exit_at_once(ExitStatus(1))
        }
    }
}

fn init_prepare(alive: PipeReader) -> Result<(), String> {
    die_with_parent().map_err(|error| format!("could not be bound to its parent: {error}"))?;
    // When the outer process ended before that, nobody holds the writing end of this pipe.
    if pipe_is_closed(&alive).map_err(|error| format!("could not look for its parent: {error}"))? {
        return Err("its parent ended".to_owned());
    }
    let mounts = || {
        mounts_make_private()?;
        mount_new("proc", Path::new("/proc"))?;
        mount_new("tmpfs", Path::new("/run"))
    };
    mounts().map_err(|error| describe(&error))?;
    fs::create_dir(WORK).map_err(|error| format!("could not make {WORK}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn the_identity_map_keeps_what_exists_here_and_nothing_else() {
        assert_eq!(identity("         0          0 4294967295\n"), "0 0 1\n1 1 4294967294\n");
        assert_eq!(identity("0 0 1\n1 1 4294967294\n"), "0 0 1\n1 1 4294967294\n");
        assert_eq!(identity("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
        assert_eq!(identity(""), "");
    }
}
