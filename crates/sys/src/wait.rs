//! Waiting for sockets with the precision of the kernel's timers, and waking who waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use kit::Duration;

/// Waits for any of some descriptors. It keeps its memory from one wait to the next.
#[derive(Debug, Default)]
pub struct Waiter {
    polls: Vec<libc::pollfd>,
}

impl Waiter {
    /// One that has not waited yet.
    pub fn new() -> Self {
        Waiter::default()
    }

    /// Waits until one of the descriptors can be read or is broken, a signal comes, or this much time has passed; for ever
    /// without a limit.
    pub fn wait<'a>(
        &mut self,
        descriptors: impl Iterator<Item = BorrowedFd<'a>>,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        self.polls.clear();
        let poll = |fd: BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        self.polls.extend(descriptors.map(poll));
        let count = libc::nfds_t::try_from(self.polls.len()).map_err(io::Error::other)?;
        let limit = limit.map(timespec);
        let timeout = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the first pointer is to `count` entries; the descriptors are borrowed and so open; the timeout is null or
        // a live value; no signal mask is given.
        let result = unsafe { libc::ppoll(self.polls.as_mut_ptr(), count, timeout, std::ptr::null()) };
        match result {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(()),
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

fn timespec(span: Duration) -> libc::timespec {
    let micros = span.as_micros();
    let below_second = micros.checked_rem(1_000_000).unwrap_or(0).saturating_mul(1000);
    libc::timespec {
        // As seconds fit everywhere: 68 years.
        tv_sec: i32::try_from(span.as_secs()).unwrap_or(i32::MAX).into(),
        tv_nsec: libc::c_long::try_from(below_second).unwrap_or(0),
    }
}

/// Wakes a thread, or a task, that waits for a descriptor. It stays readable from `wake` to `clear`, however often it was
/// woken. Neither ever waits.
#[derive(Debug)]
pub struct WakeUp(OwnedFd);

impl WakeUp {
    /// One that is not readable.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes a number and flags.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(WakeUp(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Makes it readable.
    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: the pointer is to the eight bytes that an event descriptor takes. It fails when the count is at its end,
        // and then it is readable already.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: the pointer is to eight bytes of ours, which the kernel fills in. It fails when there is nothing to read.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsFd for WakeUp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for WakeUp {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a wait without time finds it readable.
    fn is_readable(wake_up: &WakeUp) -> bool {
        let mut waiter = Waiter::new();
        waiter.wait([wake_up.as_fd()].into_iter(), Some(Duration::ZERO)).unwrap();
        waiter.polls[0].revents & libc::POLLIN != 0
    }

    #[test]
    fn it_is_readable_from_wake_to_clear() {
        let wake_up = WakeUp::new().unwrap();
        assert!(!is_readable(&wake_up));
        wake_up.wake();
        wake_up.wake();
        assert!(is_readable(&wake_up) && is_readable(&wake_up));
        wake_up.clear();
        assert!(!is_readable(&wake_up));
        wake_up.clear();
        wake_up.wake();
        assert!(is_readable(&wake_up));
    }

    #[test]
    fn a_wait_without_limit_ends_when_somebody_wakes() {
        let wake_up = WakeUp::new().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Waiter::new().wait([wake_up.as_fd()].into_iter(), None));
            wake_up.wake();
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn spans_are_seconds_and_nanoseconds() {
        let parts = |span| {
            let spec = timespec(span);
            (spec.tv_sec, spec.tv_nsec)
        };
        assert_eq!(parts(Duration::ZERO), (0, 0));
        assert_eq!(parts(Duration::from_micros(1_000_001)), (1, 1000));
        assert_eq!(parts(Duration::from_micros(999_999)), (0, 999_999_000));
    }
}
