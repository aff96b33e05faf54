//! A stand-in for kube-proxy, in user space: it brings connections to a LoadBalancer address to an endpoint.
//!
//! The node takes packets to such an address for its own, but the address is on no interface, and the kernel is told
//! to answer ARP only for addresses of the interface that was asked on. So only our speaker answers for it.
//!
//! What it does not know: Services. It is told what to forward ([`ServiceProxy::set`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow};
use kit::Duration;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::{Host, Task};

/// How long an endpoint may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// After this a UDP flow without packets is forgotten.
const FLOW_IDLE: Duration = Duration::from_secs(30);
/// UDP flows at a time for each port; more are dropped.
const FLOWS_MAX: usize = 1_000;

/// What arrives where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of a LoadBalancer address and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The address and port that clients use.
    pub service: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where to go; one after the other. None: nothing listens.
    pub endpoints: Vec<SocketAddr>,
    /// What the endpoint sees.
    pub client: ClientAddress,
}

/// The address that an endpoint sees as its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// The client's, as with external traffic policy `Local`.
    Kept,
    /// The node's, as with `Cluster`.
    Replaced,
}

/// The service proxy of a node.
#[derive(Debug)]
pub struct ServiceProxy {
    host: Host,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeMap<(SocketAddr, Protocol), Port>,
}

#[derive(Debug)]
struct Port {
    target: Arc<Mutex<Target>>,
    _task: Task<()>,
}

#[derive(Clone, Debug)]
struct Target {
    endpoints: Vec<SocketAddr>,
    client: ClientAddress,
    next: usize,
}

impl Target {
    fn next(&mut self) -> Option<(SocketAddr, ClientAddress)> {
        let index = self.next.checked_rem(self.endpoints.len())?;
        self.next = index.saturating_add(1);
        self.endpoints.get(index).map(|endpoint| (*endpoint, self.client))
    }
}

fn next(target: &Mutex<Target>) -> Option<(SocketAddr, ClientAddress)> {
    target.lock().ok().and_then(|mut target| target.next())
}

impl ServiceProxy {
    /// Prepares a node. Nothing is forwarded yet.
    pub fn start(host: &Host) -> Result<ServiceProxy> {
        // Answer ARP only for addresses of the interface asked on, and never show another one as one's own.
        host.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
        host.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
        // An IPv6 address that is on no interface can be listened on.
        host.sysctl("net/ipv6/ip_nonlocal_bind", "1")?;
        Ok(ServiceProxy { host: host.clone(), state: Mutex::default() })
    }

    /// Forwards exactly this from now on. Connections that exist go on.
    pub fn set(&self, wanted: &[Forward]) -> Result<()> {
        let mut state = self.state.lock().map_err(|_| anyhow!("a thread panicked"))?;
        let addresses: BTreeSet<IpAddr> = wanted.iter().map(|forward| forward.service.ip()).collect();
        for address in addresses.difference(&state.addresses) {
            self.host.set_local(*address)?;
        }
        for address in state.addresses.difference(&addresses) {
            self.host.unset_local(*address)?;
        }
        state.addresses = addresses;
        let listening = |forward: &&Forward| !forward.endpoints.is_empty();
        let keys: BTreeSet<_> = wanted.iter().filter(listening).map(|one| (one.service, one.protocol)).collect();
        state.ports.retain(|key, _| keys.contains(key));
        for forward in wanted.iter().filter(listening) {
            self.set_port(&mut state, forward)?;
        }
        Ok(())
    }

    fn set_port(&self, state: &mut State, forward: &Forward) -> Result<()> {
        let (endpoints, client) = (forward.endpoints.clone(), forward.client);
        let key = (forward.service, forward.protocol);
        if let Some(port) = state.ports.get(&key) {
            let mut target = port.target.lock().map_err(|_| anyhow!("a thread panicked"))?;
            *target = Target { endpoints, client, next: target.next };
            return Ok(());
        }
        let target = Arc::new(Mutex::new(Target { endpoints, client, next: 0 }));
        let task = match forward.protocol {
            Protocol::Tcp => tcp_start(&self.host, forward.service, Arc::clone(&target)),
            Protocol::Udp => udp_start(&self.host, forward.service, Arc::clone(&target)),
        };
        let task = task.with_context(|| format!("listening on {} of {}", forward.service, self.host.name()))?;
        state.ports.insert(key, Port { target, _task: task });
        Ok(())
    }
}

fn tcp_start(host: &Host, service: SocketAddr, target: Arc<Mutex<Target>>) -> Result<Task<()>> {
    let listener = host.run(async move || Ok(TcpListener::bind(service).await?.into_std()?))?;
    host.start_task("service proxy", async move || {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, from) = listener.accept().await?;
            if let Some((endpoint, client)) = next(&target) {
                // A connection that breaks is the business of its two ends.
                tokio::task::spawn_local(async move { drop(tcp_forward(stream, from, endpoint, client).await) });
            }
        }
    })
}

async fn tcp_forward(
    mut stream: TcpStream,
    from: SocketAddr,
    endpoint: SocketAddr,
    client: ClientAddress,
) -> Result<()> {
    let mut onward = tokio::time::timeout(CONNECT_LIMIT.into(), TcpStream::connect(endpoint)).await??;
    if client == ClientAddress::Kept {
        let (kind, service) = (if from.is_ipv4() { "TCP4" } else { "TCP6" }, stream.local_addr()?);
        let line = format!("PROXY {kind} {} {} {} {}\r\n", from.ip(), service.ip(), from.port(), service.port());
        onward.write_all(line.as_bytes()).await?;
    }
    copy_bidirectional(&mut stream, &mut onward).await?;
    Ok(())
}

fn udp_start(host: &Host, service: SocketAddr, target: Arc<Mutex<Target>>) -> Result<Task<()>> {
    let socket = host.run(async move || Ok(UdpSocket::bind(service).await?.into_std()?))?;
    host.start_task("service proxy", async move || {
        let socket = Rc::new(UdpSocket::from_std(socket)?);
        let mut flows: BTreeMap<SocketAddr, Rc<UdpSocket>> = BTreeMap::new();
        let mut packet = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await?;
            // The task that brings the answers back holds the other reference, until it has nothing to do for a while.
            flows.retain(|_, onward| Rc::strong_count(onward) > 1);
            let known = flows.get(&from).map(Rc::clone);
            let onward = match known {
                Some(onward) => onward,
                None if flows.len() >= FLOWS_MAX => continue,
                None => {
                    let Some((endpoint, _)) = next(&target) else { continue };
                    let onward = Rc::new(udp_flow(endpoint).await?);
                    flows.insert(from, Rc::clone(&onward));
                    tokio::task::spawn_local(udp_return(Rc::clone(&socket), Rc::clone(&onward), from));
                    onward
                }
            };
            // UDP may lose packets.
            drop(onward.send(packet.get(..length).unwrap_or_default()).await);
        }
    })
}

async fn udp_flow(endpoint: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = match endpoint {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let onward = UdpSocket::bind((any, 0)).await.context("a UDP flow")?;
    onward.connect(endpoint).await.with_context(|| format!("a UDP flow to {endpoint}"))?;
    Ok(onward)
}

async fn udp_return(service: Rc<UdpSocket>, onward: Rc<UdpSocket>, client: SocketAddr) {
    let mut packet = [0; 2048];
    while let Ok(Ok(length)) = tokio::time::timeout(FLOW_IDLE.into(), onward.recv(&mut packet)).await {
        drop(service.send_to(packet.get(..length).unwrap_or_default(), client).await);
    }
}
