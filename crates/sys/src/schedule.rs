//! How the kernel schedules the calling thread.

use std::io;

/// Before all ordinary threads, but behind every other real-time one: the kernel's own are at 50 and more.
const PRIORITY: libc::c_int = 1;
/// The highest weight of an ordinary thread.
const NICE: libc::c_int = -20;

/// How long a thread may run before others get their turn, in nanoseconds. The kernel lets who wants little run soon.
const SLICE: u64 = 100_000;

/// What a thread got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precedence {
    /// It runs before every ordinary thread (`SCHED_FIFO`).
    RealTime,
    /// It gets more time than others, and soon (`nice -20`).
    High,
    /// It is a thread like others, the process may do nothing about it; but it runs in short slices, and sooner for that
    /// (Linux 6.12 and later).
    Ordinary,
}

/// Gives the calling thread the highest precedence that the process may give, and timers without slack. It needs
/// `CAP_SYS_NICE`, or limits that allow it (`RLIMIT_RTPRIO`, `RLIMIT_NICE`). Threads that it starts later are ordinary.
pub fn hurry() -> Precedence {
    timer_slack_remove();
    if real_time_begin().is_ok() {
        Precedence::RealTime
    } else if nice_set().is_ok() {
        Precedence::High
    } else {
        // Kernels that do not know of slices take no notice.
        drop(slice_set());
        Precedence::Ordinary
    }
}

/// Ordinary threads may be woken 50 µs late, to save power. Everybody may have less.
fn timer_slack_remove() {
    let nanoseconds: libc::c_ulong = 1;
    // SAFETY: the option takes one number.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
}

fn real_time_begin() -> io::Result<()> {
    // `struct sched_param` of the kernel has this one member; those of C libraries may have more.
    let parameter: libc::c_int = PRIORITY;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // Not by its function: musl's always fails, for it would mean the calling thread and not the process.
    // SAFETY: 0 is the calling thread, and the parameter is a live value that the kernel only reads.
    checked(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) } == 0)
}

fn nice_set() -> io::Result<()> {
    // SAFETY: three numbers; 0 is the calling thread.
    checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } == 0)
}

/// `struct sched_attr` of `linux/sched/types.h`, in its first version.
#[repr(C)]
#[derive(Debug, Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const _: () = assert!(size_of::<SchedAttr>() == 48, "SCHED_ATTR_SIZE_VER0");

fn slice_set() -> io::Result<()> {
    // SAFETY: two numbers; 0 is the calling thread.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = SchedAttr { size: 48, nice, runtime: SLICE, ..SchedAttr::default() };
    // SAFETY: 0 is the calling thread, the structure is as long as it says, and the kernel only reads it.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } == 0)
}

fn checked(is_done: bool) -> io::Result<()> {
    if is_done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calling thread's policy, priority and niceness.
    fn schedule() -> (i64, libc::c_int, libc::c_int) {
        let mut priority: libc::c_int = -1;
        // SAFETY: 0 is the calling thread; the kernel fills in a live value of one number; two numbers.
        let (policy, result, nice) = unsafe {
            (
                libc::syscall(libc::SYS_sched_getscheduler, 0),
                libc::syscall(libc::SYS_sched_getparam, 0, &raw mut priority),
                libc::getpriority(libc::PRIO_PROCESS, 0),
            )
        };
        assert_eq!(result, 0);
        (policy & !i64::from(libc::SCHED_RESET_ON_FORK), priority, nice)
    }

    #[test]
    fn a_thread_gets_what_it_is_told_it_got_and_others_get_nothing() {
        let before = schedule();
        let (precedence, inside, child) = std::thread::spawn(|| {
            let precedence = hurry();
            (precedence, schedule(), std::thread::spawn(schedule).join().unwrap())
        })
        .join()
        .unwrap();
        match precedence {
            Precedence::RealTime => assert_eq!((inside.0, inside.1), (libc::SCHED_FIFO.into(), PRIORITY)),
            Precedence::High => assert_eq!((inside.0, inside.2), (libc::SCHED_OTHER.into(), NICE)),
            Precedence::Ordinary => assert_eq!(inside, before),
        }
        assert_eq!(schedule(), before);
        assert_eq!(child.0, i64::from(libc::SCHED_OTHER));
    }

    #[test]
    fn a_short_slice_is_all_that_changes() {
        let (before, set, after) = std::thread::spawn(|| (schedule(), slice_set().is_ok(), schedule())).join().unwrap();
        assert!(set && before == after);
    }
}
