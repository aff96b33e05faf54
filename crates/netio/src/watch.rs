//! Sockets that tokio has no type for, with its reactor.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;

/// Has the reactor tell when the socket is ready.
#[expect(
    deprecated,
    reason = "the replacement is unsafe, and only `sys` may hold unsafe code; what it asks for is so by `AsFd`: the \
              descriptor is the socket's own and stays open as long as the socket lives"
)]
pub(crate) fn watch<T: AsFd + AsRawFd>(socket: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(socket)
}
