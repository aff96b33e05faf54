//! Accepting connections: who may come in, and under which name. MetalLB's speakers listen only when a peer is configured
//! to call; routers of the lab do.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bgp::ConnectionId;
use ipnet::IpNet;
use kit::{Family, Secret, TcpAuthentication};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use sys::tcp::{self, TcpOptionError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::causes::with_causes;

use super::{ConnectionState, Endpoint, Event, Transport, Ttl, connection};

/// Connections that the kernel keeps for us.
const BACKLOG: u16 = 128;
/// How long to wait when accepting fails: when there are no descriptors left, trying at once would only burn time.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Names a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(u64);

/// Why there is no listening socket, or not for this peer.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is in use, or not on this host, or below the ports that we may have.
    #[error("could not listen on {address}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An option could not be set.
    #[error("could not prepare the listening socket")]
    Option(#[from] TcpOptionError),
    /// There is no such listener.
    #[error("the listener is closed")]
    Closed,
}

/// How often passwords and keys were added to a listening socket. What was accepted at an earlier epoch was not checked with
/// those that came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch(u64);

/// A connection as the kernel gave it to us.
#[derive(Debug)]
pub(super) struct Accepted {
    stream: TcpStream,
    remote: SocketAddr,
    epoch: Epoch,
}

/// A listening socket with those who may come in.
#[derive(Debug)]
pub(super) struct Listener<K> {
    socket: Arc<TcpListener>,
    local: SocketAddr,
    peers: HashMap<IpAddr, Caller<K>>,
    ranges: Vec<(IpNet, Caller<K>)>,
    epoch: Arc<AtomicU64>,
    task: AbortHandle,
}

/// Who may come in.
#[derive(Debug)]
struct Caller<K> {
    peer: K,
    endpoint: Endpoint,
    /// Since when its password or keys are in place.
    since: Epoch,
}

impl<K> Listener<K> {
    /// Who calls from this address: a peer with exactly this one, else the range that says most about it.
    fn caller(&self, remote: &IpAddr) -> Option<&Caller<K>> {
        let inside = self.ranges.iter().filter(|(network, _)| network.contains(remote));
        let narrowest = || inside.max_by_key(|(network, _)| network.prefix_len()).map(|(_, caller)| caller);
        self.peers.get(remote).or_else(narrowest)
    }

    /// Puts in place what an endpoint has: from then on what is not signed does not get in. What waits to be accepted came
    /// before, and is returned so that it can be told from what comes later.
    fn prepare(&mut self, network: IpNet, endpoint: &Endpoint) -> Result<(Epoch, Vec<Accepted>), TcpOptionError> {
        if let Ttl::Security { .. } = endpoint.ttl {
            // The answer to the peer's first packet leaves before there is a connection with options of its own.
            tcp::ttl_set(&*self.socket, Family::of(&network.addr()), u8::MAX)?;
        }
        let before = Epoch(self.epoch.load(Ordering::SeqCst));
        let Some(authentication) = &endpoint.authentication else { return Ok((before, Vec::new())) };
        self.sign(network, authentication)?;
        // The queue is in order and not longer than this, so all that was in it is taken out before the epoch ends.
        let waiting = (0..=BACKLOG)
            .map(|_| accept_now(&self.socket, before))
            .take_while(|result| !result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
            .flatten()
            .collect();
        let since = Epoch(before.0.saturating_add(1));
        self.epoch.store(since.0, Ordering::SeqCst);
        Ok((since, waiting))
    }

    /// Signs and checks what goes to and comes from this network.
    fn sign(&self, network: IpNet, authentication: &TcpAuthentication) -> Result<(), TcpOptionError> {
        let (socket, address, length) = (&*self.socket, network.addr(), network.prefix_len());
        match authentication {
            TcpAuthentication::Password(password) => {
                tcp::md5_password_set_for_network(socket, address, length, password)
            }
            TcpAuthentication::Keys(keys) => tcp::ao_keys_add(socket, address, length, keys),
        }
    }

    /// The opposite; connections that there are stay signed.
    fn sign_no_longer(&self, network: IpNet, authentication: &TcpAuthentication) -> Result<(), TcpOptionError> {
        let (socket, address, length) = (&*self.socket, network.addr(), network.prefix_len());
        match authentication {
            TcpAuthentication::Password(_) => {
                tcp::md5_password_set_for_network(socket, address, length, &Secret::new(""))
            }
            TcpAuthentication::Keys(keys) => tcp::ao_keys_remove(socket, address, length, keys),
        }
    }
}

impl<K> Drop for Listener<K> {
    fn drop(&mut self) {
        // The task has the socket until it is next polled; the port is free at once.
        if let Err(error) = SockRef::from(&*self.socket).shutdown(Shutdown::Both) {
            tracing::debug!(local = %self.local, %error, "a listening socket was not shut down");
        }
        self.task.abort();
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Transport<K> {
    /// Listens on an address, and in a device or VRF if one is given. Nobody is let in yet.
    pub fn listen(&mut self, address: SocketAddr, device: Option<&str>) -> Result<ListenerId, ListenError> {
        let failed = |source| ListenError::Socket { address, source };
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP));
        let socket = socket.map_err(failed)?;
        if let Some(device) = device {
            tcp::device_set(&socket, device)?;
        }
        tcp::precedence_set(&socket, Family::of(&address.ip()))?;
        let bound = || {
            if address.is_ipv6() {
                // An IPv4 peer has its own listener, so that its address is an IPv4 one everywhere.
                socket.set_only_v6(true)?;
            }
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG.into())
        };
        bound().map_err(failed)?;
        let socket = TcpListener::from_std(socket.into()).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let socket = Arc::new(socket);
        self.listened = self.listened.saturating_add(1);
        let id = ListenerId(self.listened);
        let epoch = Arc::new(AtomicU64::new(0));
        let task = self.tasks.spawn(accept(id, Arc::clone(&socket), Arc::clone(&epoch), self.events.clone()));
        let listener = Listener { socket, local, peers: HashMap::new(), ranges: Vec::new(), epoch, task };
        self.listeners.insert(id, listener);
        Ok(id)
    }

    /// The address that a listener got: the port, if it was left to the kernel.
    pub fn local_address(&self, listener: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(&listener).map(|listener| listener.local)
    }

    /// Lets a peer in that comes from `endpoint`'s address, from any port, and with its password or key if it has one.
    /// All others are turned away without a word, and so is who came from there before the password or key was in place.
    pub fn allow(&mut self, listener: ListenerId, peer: K, endpoint: &Endpoint) -> Result<(), ListenError> {
        let address = endpoint.address.ip();
        self.allow_from(listener, address.into(), endpoint, |listener, since| {
            listener.peers.insert(address, Caller { peer, endpoint: endpoint.clone(), since });
        })
    }

    /// The same for everybody who comes from a network. All their connections are reported under one name, which the
    /// remote ends tell apart.
    pub fn allow_range(
        &mut self,
        listener: ListenerId,
        peer: K,
        network: IpNet,
        endpoint: &Endpoint,
    ) -> Result<(), ListenError> {
        self.allow_from(listener, network, endpoint, |listener, since| {
            listener.ranges.push((network, Caller { peer, endpoint: endpoint.clone(), since }));
        })
    }

    fn allow_from(
        &mut self,
        id: ListenerId,
        network: IpNet,
        endpoint: &Endpoint,
        enter: impl FnOnce(&mut Listener<K>, Epoch),
    ) -> Result<(), ListenError> {
        let listener = self.listeners.get_mut(&id).ok_or(ListenError::Closed)?;
        let (since, waiting) = listener.prepare(network, endpoint)?;
        enter(listener, since);
        for accepted in waiting {
            self.admit(id, accepted);
        }
        Ok(())
    }

    /// Lets a peer, or a range, in no longer; connections that there are stay.
    pub fn disallow(&mut self, listener: ListenerId, peer: &K) {
        let Some(listener) = self.listeners.get_mut(&listener) else { return };
        let addresses = listener.peers.extract_if(|_, caller| caller.peer == *peer);
        let ranges = listener.ranges.extract_if(.., |(_, caller)| caller.peer == *peer);
        let gone: Vec<(IpNet, Caller<K>)> =
            addresses.map(|(address, caller)| (IpNet::from(address), caller)).chain(ranges).collect();
        for (network, Caller { endpoint, .. }) in gone {
            if let Some(authentication) = &endpoint.authentication
                && let Err(error) = listener.sign_no_longer(network, authentication)
            {
                tracing::warn!(
                    %network,
                    error = with_causes(&error),
                    hint = "restart the speaker if routers from there are to connect without it, or with another one",
                    "a password or key was not removed from the listening socket, which goes on asking for it"
                );
            }
        }
    }

    /// Closes a listening socket; connections that came through it stay.
    pub fn unlisten(&mut self, listener: ListenerId) {
        self.listeners.remove(&listener);
    }

    /// Makes a connection of what was accepted, if it is from a peer. Its task reports it, before the first byte.
    pub(super) fn admit(&mut self, listener: ListenerId, accepted: Accepted) {
        let Accepted { stream, remote, epoch } = accepted;
        let Some(listener) = self.listeners.get(&listener) else { return };
        let Some(Caller { peer, endpoint, since }) = listener.caller(&remote.ip()) else {
            tracing::debug!(%remote, "turned away a connection from an address that is no peer's");
            return;
        };
        if endpoint.authentication.is_some() && epoch < *since {
            tracing::debug!(%remote, "turned away a connection that was made before the password or keys were in place");
            return;
        }
        let peer = peer.clone();
        let is_prepared =
            endpoint.ttl.set(&stream, Family::of(&remote.ip())).is_ok() && stream.set_nodelay(true).is_ok();
        let Some(local) = stream.local_addr().ok().filter(|_| is_prepared) else {
            tracing::debug!(%remote, "could not prepare a connection that was accepted");
            return;
        };
        self.accepted = self.accepted.saturating_add(1);
        let id = ConnectionId::Accepted(self.accepted);
        self.spawn(&peer, id, ConnectionState::Open, |line, work| connection::serve(stream, local, remote, line, work));
    }
}

/// What waits to be accepted, whether or not the runtime has heard of it yet.
fn accept_now(socket: &TcpListener, epoch: Epoch) -> io::Result<Accepted> {
    let (stream, remote) = SockRef::from(socket).accept()?;
    stream.set_nonblocking(true)?;
    let remote = remote.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok(Accepted { stream: TcpStream::from_std(stream.into())?, remote, epoch })
}

async fn accept<K>(
    listener: ListenerId,
    socket: Arc<TcpListener>,
    epoch: Arc<AtomicU64>,
    events: mpsc::Sender<Event<K>>,
) {
    loop {
        let next = std::future::poll_fn(|context| {
            // Looked at first, so that it is never later than the moment in which the kernel gives the connection.
            let epoch = Epoch(epoch.load(Ordering::SeqCst));
            socket.poll_accept(context).map_ok(|(stream, remote)| Accepted { stream, remote, epoch })
        });
        match next.await {
            Ok(accepted) => {
                if events.send(Event::Accepted { listener, accepted }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
