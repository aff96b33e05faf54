//! Asking the kernel of another host whether it lives: ICMP echo, or a TCP connection to the member's port, which a
//! kernel makes or refuses without its program.
//!
//! An unprivileged ICMP socket is tried first (`net.ipv4.ping_group_range`), then a raw one (`CAP_NET_RAW`, which the
//! speaker has). Without either, and for hosts whose firewall drops ICMP, TCP is used.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use gossip::Input;
use kit::Family;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Event;

/// Connections that may be in the making at a time; a probe more is not sent.
const CONNECTS_MAX: usize = 128;
/// A kernel that lives answers sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// After so many echoes without an answer TCP is used too.
const UNANSWERED_MAX: u32 = 3;

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
/// Type, code, checksum, identifier, number; then our mark.
const HEADER_LEN: usize = 8;
const MARK_LEN: usize = 8;

/// Asks kernels.
#[derive(Debug)]
pub(super) struct Prober {
    v4: Icmp,
    v6: Icmp,
    /// Who asks: answers to others are told apart by it.
    mark: [u8; MARK_LEN],
    /// ICMP echoes without an answer, of each host that is asked.
    unanswered: HashMap<IpAddr, u32>,
    events: mpsc::Sender<Event>,
    /// Readers of ICMP sockets, and connections that are being made.
    readers: JoinSet<()>,
    connects: JoinSet<()>,
}

/// An ICMP socket, if there could be one.
#[derive(Debug)]
enum Icmp {
    NotYet,
    Open { socket: Arc<UdpSocket> },
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The kernel writes identifier and checksum, and gives us only our answers.
    Unprivileged,
    /// We get all answers, and those of IPv4 behind their IP header.
    Raw,
}

impl Prober {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        let mut mark = [0; MARK_LEN];
        if rand::fill(&mut mark).is_err() {
            // Then answers to another program on this host would count as ours, which does little harm.
            tracing::debug!("no random bytes for the mark of ICMP echoes");
        }
        Prober {
            v4: Icmp::NotYet,
            v6: Icmp::NotYet,
            mark,
            unanswered: HashMap::new(),
            events,
            readers: JoinSet::new(),
            connects: JoinSet::new(),
        }
    }

    pub(super) fn ask(&mut self, address: SocketAddr) {
        while self.connects.try_join_next().is_some() {}
        let unanswered = self.unanswered.entry(address.ip()).or_default();
        *unanswered = unanswered.saturating_add(1);
        let is_silent = *unanswered > UNANSWERED_MAX;
        let is_sent = self.echo(address);
        if !is_sent || is_silent {
            self.connect(address);
        }
    }

    /// A host answered by ICMP.
    pub(super) fn answered(&mut self, address: IpAddr) {
        if let Some(unanswered) = self.unanswered.get_mut(&address) {
            *unanswered = 0;
        }
    }

    pub(super) fn release(&mut self, address: IpAddr) {
        self.unanswered.remove(&address);
    }

    /// Sends an ICMP echo request, if that is possible.
    fn echo(&mut self, address: SocketAddr) -> bool {
        let family = Family::of(&address.ip());
        let (mark, events) = (self.mark, self.events.clone());
        let icmp = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        if let Icmp::NotYet = icmp {
            *icmp = match open(family) {
                Ok((socket, kind)) => {
                    let socket = Arc::new(socket);
                    self.readers.spawn(read(Arc::clone(&socket), family, kind, mark, events));
                    Icmp::Open { socket }
                }
                Err(error) => {
                    tracing::info!(%error, %family, "no ICMP socket: kernels are asked over TCP");
                    Icmp::Refused
                }
            };
        }
        let Icmp::Open { socket } = icmp else { return false };
        let mut to = address;
        to.set_port(0);
        SockRef::from(&**socket).send_to(&request(family, mark), &to.into()).is_ok()
    }

    /// Makes a connection: that it is made, or refused, is the kernel's answer.
    fn connect(&mut self, address: SocketAddr) {
        if self.connects.len() >= CONNECTS_MAX {
            return;
        }
        let events = self.events.clone();
        self.connects.spawn(async move {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
            let is_refused = match connected {
                Ok(Ok(stream)) => {
                    // A reset leaves nothing behind on either side.
                    drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
                    false
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => true,
                Ok(Err(_)) | Err(_) => return,
            };
            // Events that do not fit are like packets that are lost.
            drop(events.try_send(Event::Input(Input::KernelAnswered { address: address.ip() })));
            if is_refused {
                drop(events.try_send(Event::Input(Input::Refused { address })));
            }
        });
    }
}

fn open(family: Family) -> io::Result<(UdpSocket, Kind)> {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let open = |kind| Socket::new(domain, kind, Some(protocol));
    let unprivileged = open(Type::DGRAM.nonblocking()).map(|socket| (socket, Kind::Unprivileged));
    let (socket, kind) = unprivileged.or_else(|_| Ok::<_, io::Error>((open(Type::RAW.nonblocking())?, Kind::Raw)))?;
    // What both have in common is that they send to an address and receive from one.
    Ok((UdpSocket::from_std(socket.into())?, kind))
}

/// An echo request. The checksum of IPv6 is the kernel's work.
fn request(family: Family, mark: [u8; MARK_LEN]) -> Vec<u8> {
    let [a, b, ..] = mark;
    let (kind, checksum_is_ours) = match family {
        Family::V4 => (ECHO_REQUEST_V4, true),
        Family::V6 => (ECHO_REQUEST_V6, false),
    };
    let mut packet = vec![kind, 0, 0, 0, a, b, 0, 0];
    packet.extend_from_slice(&mark);
    if checksum_is_ours {
        let sum = checksum(&packet).to_be_bytes();
        packet.splice(2..4, sum);
    }
    packet
}

/// The checksum of the internet (RFC 1071) over whole words.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let sum = words.fold(0_u32, u32::wrapping_add);
    let folded = (sum & 0xffff).wrapping_add(sum >> 16);
    let folded = (folded & 0xffff).wrapping_add(folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

/// Whether a packet is an answer to us.
fn is_answer(packet: &[u8], family: Family, kind: Kind, mark: [u8; MARK_LEN]) -> bool {
    let packet = match (family, kind) {
        (Family::V4, Kind::Raw) => {
            let length = packet.first().map_or(0, |first| usize::from(first & 0x0f).saturating_mul(4));
            packet.get(length..).unwrap_or_default()
        }
        _ => packet,
    };
    let reply = match family {
        Family::V4 => ECHO_REPLY_V4,
        Family::V6 => ECHO_REPLY_V6,
    };
    packet.first() == Some(&reply) && packet.get(HEADER_LEN..) == Some(&mark[..])
}

async fn read(socket: Arc<UdpSocket>, family: Family, kind: Kind, mark: [u8; MARK_LEN], events: mpsc::Sender<Event>) {
    let mut buffer = [0; 256];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                if is_answer(buffer.get(..length).unwrap_or_default(), family, kind, mark) {
                    drop(events.try_send(Event::Echo { from: from.ip() }));
                }
            }
            Err(error) => {
                // A single packet's trouble, such as an unreachable host.
                tracing::trace!(%error, "receiving ICMP");
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_right_checksum_and_its_answer_is_known() {
        let mark = *b"12345678";
        let request_v4 = request(Family::V4, mark);
        assert_eq!(checksum(&request_v4), 0, "over a packet with its checksum it is zero");
        let mut reply = request_v4;
        reply[0] = ECHO_REPLY_V4;
        assert!(is_answer(&reply, Family::V4, Kind::Unprivileged, mark));
        assert!(!is_answer(&reply, Family::V4, Kind::Unprivileged, *b"87654321"));
        let mut behind_header = vec![0x45; 20];
        behind_header.extend_from_slice(&reply);
        assert!(is_answer(&behind_header, Family::V4, Kind::Raw, mark));
        let mut reply = request(Family::V6, mark);
        assert!(!is_answer(&reply, Family::V6, Kind::Raw, mark), "our own request is no answer");
        reply[0] = ECHO_REPLY_V6;
        assert!(is_answer(&reply, Family::V6, Kind::Raw, mark));
        for length in 0..16 {
            assert!(!is_answer(&reply[..length], Family::V6, Kind::Raw, mark));
            assert!(!is_answer(&behind_header[..length], Family::V4, Kind::Raw, mark));
        }
    }

    async fn event(events: &mut mpsc::Receiver<Event>) -> Event {
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, events.recv()).await.expect("an event in time").expect("the prober lives")
    }

    #[tokio::test]
    async fn without_icmp_a_kernel_is_asked_over_tcp() {
        let (sender, mut events) = mpsc::channel(8);
        let mut prober = Prober::new(sender);
        (prober.v4, prober.v6) = (Icmp::Refused, Icmp::Refused);
        // Nobody accepts, as if the program were stopped.
        let listener = std::net::TcpListener::bind("127.0.0.51:0").unwrap();
        let address = listener.local_addr().unwrap();
        prober.ask(address);
        let answered = event(&mut events).await;
        assert!(matches!(answered, Event::Input(Input::KernelAnswered { address: it }) if it == address.ip()));
        drop(listener);
        prober.ask(address);
        let answered = [event(&mut events).await, event(&mut events).await];
        assert!(matches!(answered[0], Event::Input(Input::KernelAnswered { .. })));
        assert!(matches!(answered[1], Event::Input(Input::Refused { address: it }) if it == address));
    }

    #[tokio::test]
    async fn the_kernel_of_this_host_answers_by_whatever_is_permitted() {
        for address in ["127.0.0.1:9", "[::1]:9"] {
            let (sender, mut events) = mpsc::channel(8);
            let mut prober = Prober::new(sender);
            let address: SocketAddr = address.parse().unwrap();
            prober.ask(address);
            let from = match event(&mut events).await {
                Event::Echo { from } | Event::Input(Input::KernelAnswered { address: from }) => from,
                other => panic!("{other:?}"),
            };
            assert_eq!(from, address.ip());
        }
    }
}
