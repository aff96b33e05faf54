//! Routers that no standard knows, all at once: one that reads nothing and asks for everything again and again, one that
//! speaks nonsense, one whose UPDATEs are nonsense, and one that hangs up as soon as there is a session.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use bgp::wire::{AfiSafi, Capability, Open, keepalive};
use kit::{Asn, Duration, Family, HoldTime, Rng, RouterId};
use lab::testing::Trial;
use lab::{Host, Lab, Task, eventually, usage};
use netio::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::cluster::{Cluster, LIMIT, v4};
use crate::edge::{Edge, OURS, announce_routed, put_peers};
use crate::objects::Service;

/// For how long they go on.
const SPAN: Duration = Duration::from_secs(15);
/// What a speaker may grow by, in KiB: buffers that are in use, and nothing that grows with time.
const GROWTH_MAX: u64 = 16 * 1024;
const STRANGERS_AS: u32 = 64_600;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::new("routers_that_are_deaf_talk_nonsense_or_flap_disturb_no_other_session", strangers)]
}

#[derive(Clone, Copy)]
enum Manner {
    Deaf,
    Nonsense,
    NonsenseUpdates,
    Flapping,
}

const MANNERS: [Manner; 4] = [Manner::Deaf, Manner::Nonsense, Manner::NonsenseUpdates, Manner::Flapping];

/// The messages that establish a session, whatever the other side says.
fn greeting(address: IpAddr) -> Vec<u8> {
    let id = match address {
        IpAddr::V4(address) => RouterId::new(address.into()).unwrap(),
        IpAddr::V6(_) => RouterId::new(1).unwrap(),
    };
    let capabilities = vec![Capability::Multiprotocol(AfiSafi::unicast(Family::V4)), Capability::RouteRefresh];
    let mut bytes = Vec::new();
    Open::new(Asn::new(STRANGERS_AS).unwrap(), HoldTime::DEFAULT, id, capabilities).encode(&mut bytes);
    keepalive(&mut bytes);
    bytes
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// Serves one connection after the other, and counts them.
async fn serve(address: IpAddr, manner: Manner, count: Arc<AtomicU64>) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // What nobody reads is to wait at the speaker and not here.
    socket.set_recv_buffer_size(4096)?;
    socket.bind(SocketAddr::new(address, 179))?;
    let listener = socket.listen(16)?;
    let mut random = Rng::new(7);
    loop {
        let (stream, _) = listener.accept().await?;
        count.fetch_add(1, Ordering::Relaxed);
        // It ends when the speaker hangs up, which is what most of them ask for.
        let _hung_up = behave(stream, address, manner, &mut random).await;
    }
}

async fn behave(mut stream: TcpStream, address: IpAddr, manner: Manner, random: &mut Rng) -> Result<()> {
    let mut noise = |length: usize| (0..length).map(|_| random.next_u64().to_le_bytes()[0]).collect::<Vec<u8>>();
    match manner {
        Manner::Deaf => {
            stream.write_all(&greeting(address)).await?;
            let all_again = message(5, &[0, 1, 0, 1]).repeat(100);
            loop {
                stream.write_all(&all_again).await?;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        Manner::Nonsense => {
            stream.write_all(&noise(64 * 1024)).await?;
            drain(stream).await
        }
        Manner::NonsenseUpdates => {
            stream.write_all(&greeting(address)).await?;
            for length in (4..400).cycle() {
                stream.write_all(&message(2, &noise(length))).await?;
            }
            Ok(())
        }
        Manner::Flapping => {
            stream.write_all(&greeting(address)).await?;
            // By then the session is up.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            Ok(())
        }
    }
}

async fn drain(mut stream: TcpStream) -> Result<()> {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

fn start(host: &Host, address: IpAddr, manner: Manner) -> Result<(Task<()>, Arc<AtomicU64>)> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    Ok((host.start_task("stranger", async move || serve(address, manner, counted).await)?, count))
}

fn strangers(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let edge = Edge::frr(lab, &cluster)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", holdTime: 3s, keepaliveTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    let speaker = cluster.speaker("node-a").id();
    let (before, cpu_before) = (usage::resident(speaker)?, usage::cpu(speaker)?);

    let host = lab.host("strangers")?;
    let link = host.plug("eth0", cluster.segment())?;
    let mut strangers = Vec::new();
    for (number, manner) in (201..).zip(MANNERS) {
        let address = v4(number);
        link.address(&format!("{address}/24"))?;
        strangers.push(start(&host, address, manner)?);
        let peer = format!("myASN: {OURS}, peerASN: {STRANGERS_AS}, peerAddress: \"{address}\", connectTime: 1s");
        cluster.put("BGPPeer", &format!("stranger-{number}"), &peer)?;
    }
    std::thread::sleep(SPAN.into());

    // Each had its turn, and those who were thrown out more than one.
    let counts: Vec<u64> = strangers.iter().map(|(_, count)| count.load(Ordering::Relaxed)).collect();
    ensure!(counts[0] >= 1 && counts[1..].iter().all(|count| *count >= 3), "connections: {counts:?}");
    let clock = Clock::start();
    let asked = clock.now();
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    let (after, cpu) = (usage::resident(speaker)?, usage::cpu(speaker)?);
    eprintln!(
        "measured: beside four strange routers a route took {} ms, memory from {before} to {after} KiB, {} ms of processor time in {SPAN}; connections {counts:?}",
        clock.now().since(asked).as_millis(),
        cpu.as_millis().saturating_sub(cpu_before.as_millis())
    );
    ensure!(after < before + GROWTH_MAX, "the speaker had {before} KiB and has {after}");
    for (peer, counters) in edge.counters()? {
        ensure!(counters.is_first(), "{peer}: {counters:?}");
    }
    // They are told apart: the one that is deaf has a session, and nobody else has lost one for it.
    eventually(LIMIT, || {
        let status = cluster.host("node-a").output_ok(crate::cluster::PROGRAM, &["status", "bgp"])?;
        let deaf = status.lines().find(|line| line.starts_with("stranger-201")).unwrap_or_default();
        ensure!(deaf.contains("Established"), "{status}");
        Ok(())
    })
}
