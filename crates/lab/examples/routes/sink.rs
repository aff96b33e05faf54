//! The router that everybody announces to: it takes whatever comes, as fast as it comes, and notes when.
//!
//! It is no router at all but a thread for each session, which splits the stream into messages and reads the prefixes of
//! UPDATEs. So it costs as little as a counterpart can, the same whoever announces, and what is measured is the announcer.
//!
//! BIRD (2.0.12) leaves a part of its routes until something happens, a whole second if need be. In a network something
//! does; here a [`Pulse`] of KEEPALIVEs wakes it up each millisecond, so that it is measured and not its sleep.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bgp::wire::{AfiSafi, AsnSize, Capability, Header, Message, MessageLimit, MessageType, Open, decode, keepalive};
use ipnet::IpNet;
use kit::{Asn, Duration, HoldTime, Instant, RouterId};
use lab::Host;
use netio::clock::Clock;

/// Longer than anything here lasts, so that the one KEEPALIVE at the begin is enough.
const HOLD_TIME_SECS: u64 = 600;
/// What one read takes at most.
const READ_MAX: usize = 256 * 1024;
/// Messages that may wait for whoever counts.
const NEWS_MAX: usize = 1 << 16;
/// Until something must have come.
const PATIENCE: Duration = Duration::from_secs(120);

/// The prefix of this number: addresses from 10.0.0.0 on.
pub(crate) fn prefix(number: u32) -> IpNet {
    IpNet::from(IpAddr::V4(Ipv4Addr::from_bits(FIRST + number)))
}

const FIRST: u32 = 10 << 24;

/// What came over a session.
#[derive(Debug)]
pub(crate) enum News {
    /// Our KEEPALIVE goes out: with it the session is established for the announcer, and not sooner.
    Established { at: Instant },
    /// An UPDATE, and when its last byte was here.
    Update { at: Instant, announced: Vec<IpNet>, withdrawn: Vec<IpNet> },
    /// There is no session any more.
    Ended { why: String },
}

/// Whether KEEPALIVEs follow each other at once until all routes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    None,
    EachMillisecond,
}

/// One session with whoever announces.
#[derive(Debug)]
pub(crate) struct Session {
    news: Receiver<News>,
    /// That it is gone ends the pulse.
    pulse: Option<SyncSender<()>>,
}

/// When a session had all that it was to have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    pub(crate) established: Instant,
    pub(crate) full: Instant,
    pub(crate) updates: usize,
}

impl Session {
    /// Opens sessions from these addresses of the host, in this AS: all connections first, so that the sessions begin
    /// together.
    pub(crate) fn dial_all(
        host: &Host,
        (from, to): (&[IpAddr], SocketAddr),
        asn: u32,
        pulse: Pulse,
        clock: Clock,
    ) -> Result<Vec<Session>> {
        let connect = |from: &IpAddr| {
            let from = SocketAddr::new(*from, 0);
            host.run(async move || {
                let socket = tokio::net::TcpSocket::new_v4()?;
                socket.bind(from)?;
                let stream = socket.connect(to).await?.into_std()?;
                stream.set_nonblocking(false)?;
                Ok(stream)
            })
        };
        let streams: Vec<TcpStream> = from.iter().map(connect).collect::<Result<_>>()?;
        streams.into_iter().map(|stream| Session::begin(stream, asn, pulse, clock)).collect()
    }

    /// Waits for somebody who opens one.
    pub(crate) fn accept(listener: &TcpListener, asn: u32, clock: Clock) -> Result<Session> {
        Session::begin(listener.accept()?.0, asn, Pulse::None, clock)
    }

    fn begin(stream: TcpStream, asn: u32, pulse: Pulse, clock: Clock) -> Result<Session> {
        stream.set_nodelay(true)?;
        let (pulse, ends) = match pulse {
            Pulse::None => (None, None),
            Pulse::EachMillisecond => {
                let (pulse, ends) = sync_channel(0);
                (Some(pulse), Some(ends))
            }
        };
        let (tell, news) = sync_channel(NEWS_MAX);
        thread::Builder::new().name("sink".to_owned()).spawn(move || {
            let why = match serve(stream, asn, ends, clock, &tell) {
                Ok(()) => "nobody wants to know any more".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            // It ends too when nobody listens.
            drop(tell.send(News::Ended { why }));
        })?;
        Ok(Session { news, pulse })
    }

    /// The next that comes, if something comes in time.
    pub(crate) fn next(&self, limit: Duration) -> Result<Option<News>> {
        match self.news.recv_timeout(limit.into()) {
            Ok(News::Ended { why }) => bail!("the session ended: {why}"),
            Ok(news) => Ok(Some(news)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the session has ended"),
        }
    }

    /// The next UPDATE, which must come.
    pub(crate) fn next_update(&self) -> Result<(Instant, Vec<IpNet>, Vec<IpNet>)> {
        loop {
            match self.next(PATIENCE)?.context("no UPDATE came")? {
                News::Update { at, announced, withdrawn } => return Ok((at, announced, withdrawn)),
                News::Established { .. } | News::Ended { .. } => {}
            }
        }
    }

    /// Waits until so many prefixes, from the first on, were announced.
    pub(crate) fn fill(&mut self, routes: usize) -> Result<Filled> {
        let mut there = vec![false; routes];
        let (mut missing, mut updates, mut established) = (routes, 0, None);
        loop {
            let news = self.next(PATIENCE)?;
            match news.with_context(|| format!("{missing} of {routes} routes are missing"))? {
                News::Established { at } => established = Some(at),
                News::Ended { .. } => {}
                News::Update { at, announced, withdrawn } => {
                    // What stays empty is an End-of-RIB.
                    updates += usize::from(!announced.is_empty());
                    ensure!(withdrawn.is_empty(), "{withdrawn:?} were withdrawn");
                    for prefix in announced {
                        let IpAddr::V4(address) = prefix.addr() else { bail!("{prefix} was not asked for") };
                        let number = address.to_bits().checked_sub(FIRST).map(|number| number as usize);
                        let place = number.and_then(|number| there.get_mut(number));
                        let place = place.with_context(|| format!("{prefix} was not asked for"))?;
                        missing -= usize::from(!std::mem::replace(place, true));
                    }
                    if missing == 0 {
                        self.pulse = None;
                        let established = established.context("an UPDATE before the session was established")?;
                        return Ok(Filled { established, full: at, updates });
                    }
                }
            }
        }
    }
}

fn serve(
    mut stream: TcpStream,
    asn: u32,
    mut pulse: Option<Receiver<()>>,
    clock: Clock,
    tell: &SyncSender<News>,
) -> Result<()> {
    let asn = Asn::new(asn).context("an AS number is not 0")?;
    let hold_time = HoldTime::from_secs(HOLD_TIME_SECS)?;
    let SocketAddr::V4(own) = stream.local_addr()? else { bail!("a session over IPv6") };
    let identifier = RouterId::new(own.ip().to_bits()).context("no identifier")?;
    let capabilities = vec![Capability::Multiprotocol(AfiSafi::IPV4_UNICAST), Capability::RouteRefresh];
    let mut out = Vec::new();
    Open::new(asn, hold_time, identifier, capabilities).encode(&mut out);
    stream.write_all(&out)?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut chunk = vec![0; READ_MAX];
    loop {
        let count = stream.read(&mut chunk)?;
        let at = clock.now();
        ensure!(count > 0, "the announcer closed the connection");
        bytes.extend_from_slice(&chunk[..count]);
        let mut begin = 0;
        while let Some(header) = Header::decode(&bytes[begin..], MessageLimit::Standard)?
            && let Some(message) = bytes.get(begin..begin + header.length)
        {
            begin += header.length;
            let news = match (header.kind, decode(message, AsnSize::Four, MessageLimit::Standard)?) {
                (MessageType::Open, _) => {
                    let mut out = Vec::new();
                    keepalive(&mut out);
                    let at = clock.now();
                    stream.write_all(&out)?;
                    News::Established { at }
                }
                (_, Message::Notification(notification)) => return Err(anyhow!("received {notification}")),
                (_, Message::Update(update)) => {
                    News::Update { at, announced: update.nlri, withdrawn: update.withdrawn }
                }
                (MessageType::Keepalive, _) => {
                    if let Some(ends) = pulse.take() {
                        let stream = stream.try_clone()?;
                        thread::spawn(move || beat(stream, &ends));
                    }
                    continue;
                }
                _ => continue,
            };
            if tell.send(news).is_err() {
                return Ok(());
            }
        }
        bytes.drain(..begin);
    }
}

/// Sends KEEPALIVEs until nobody wants them.
fn beat(mut stream: TcpStream, ends: &Receiver<()>) {
    let mut bytes = Vec::new();
    keepalive(&mut bytes);
    let pause = Duration::from_millis(1).into();
    while ends.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) && stream.write_all(&bytes).is_ok() {}
}
