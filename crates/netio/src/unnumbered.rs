//! Sockets for unnumbered peering: Router Advertisements go out and come in on links, by key of the caller's.
//!
//! What they mean, and when some are due, is for [`bgp::discovery`] to say.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;

use bgp::discovery::DiscoveryInput;
use kit::InterfaceIndex;
use sys::icmpv6::{MESSAGE_MAX, RouterSocket};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::watch::watch;

/// Advertisements that wait for the caller, from all links; what does not fit is dropped, for it will be repeated.
const EVENTS_MAX: usize = 64;

/// The links on which routers are looked for. All methods need a tokio runtime.
#[derive(Debug)]
pub struct Links<K> {
    links: HashMap<K, Link>,
    events: mpsc::Sender<(K, DiscoveryInput)>,
    incoming: mpsc::Receiver<(K, DiscoveryInput)>,
}

#[derive(Debug)]
struct Link {
    index: InterfaceIndex,
    socket: Arc<AsyncFd<RouterSocket>>,
    reader: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Links<K> {
    /// None yet.
    pub fn new() -> Self {
        let (events, incoming) = mpsc::channel(EVENTS_MAX);
        Links { links: HashMap::new(), events, incoming }
    }

    /// Looks for routers on an interface, in place of another one under the same key.
    pub fn open(&mut self, key: K, index: InterfaceIndex) -> io::Result<()> {
        let socket = Arc::new(watch(RouterSocket::open(index)?)?);
        let reader = tokio::spawn(read(key.clone(), Arc::clone(&socket), self.events.clone())).abort_handle();
        self.links.insert(key, Link { index, socket, reader });
        Ok(())
    }

    /// The interface that is looked at under a key.
    pub fn index(&self, key: &K) -> Option<InterfaceIndex> {
        self.links.get(key).map(|link| link.index)
    }

    /// Looks no more.
    pub fn close(&mut self, key: &K) {
        self.links.remove(key);
    }

    /// Sends a message over a link. What cannot be sent is lost, and the next one is due soon.
    pub fn send(&self, key: &K, destination: Ipv6Addr, message: &[u8]) {
        if let Some(link) = self.links.get(key)
            && let Err(error) = link.socket.get_ref().send(destination, message)
        {
            tracing::debug!(interface = link.index.get(), error = %error, "router discovery message not sent");
        }
    }

    /// The next message. Safe to cancel.
    pub async fn next(&mut self) -> (K, DiscoveryInput) {
        // This struct holds a sender, so that the channel never ends.
        match self.incoming.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Default for Links<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// Moves messages into the channel until the socket fails, as it does when its interface is gone.
async fn read<K: Clone>(key: K, socket: Arc<AsyncFd<RouterSocket>>, events: mpsc::Sender<(K, DiscoveryInput)>) {
    let mut buffer = [0; MESSAGE_MAX];
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        let received = match ready.try_io(|socket| socket.get_ref().receive(&mut buffer)) {
            Ok(Ok(received)) => received,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(Err(error)) => {
                tracing::debug!(error = %error, "router discovery ended");
                return;
            }
            Err(_would_block) => continue,
        };
        let message = buffer.get(..received.length).unwrap_or_default().to_vec();
        let input = DiscoveryInput::Received { source: received.source, hop_limit: received.hop_limit, message };
        if events.try_send((key.clone(), input)).is_err() {
            tracing::debug!("a router advertisement was dropped");
        }
    }
}
