//! Against plain sockets and links: what is on the wire, what is not believed, what is shared.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU8;

use anyhow::{Result, ensure};
use bfd::wire::{ControlPacket, Diagnostic, Discriminator, State};
use bfd::{Discard, DownReason, Hops, Path, Profile};
use kit::{Duration, Family, InterfaceIndex};
use lab::{Host, Lab, eventually};
use netio::bfd::Event;
use sys::udp::{Received, Reception, UdpSocket};

use crate::speaker::{LIMIT, Speaker};
use crate::{address, patient, segment};

/// Runs work with sockets on a host, again and again until it says that it has what it wants.
fn on<T: Send + 'static>(
    host: &Host,
    family: Family,
    port: u16,
    work: impl FnMut(&UdpSocket) -> Result<Option<T>> + Send + 'static,
) -> Result<T> {
    let mut work = work;
    host.run(async move || {
        let socket = UdpSocket::receiver(family, port, None, Reception::All, &[])?;
        loop {
            if let Some(outcome) = work(&socket)? {
                return Ok(outcome);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
}

/// What waits at a socket.
fn next(socket: &UdpSocket) -> Option<(Received, ControlPacket)> {
    let mut buffer = [0; 64];
    let received = socket.receive(&mut buffer).ok()?;
    let (packet, _) = ControlPacket::decode(&buffer[..received.length]).ok()?;
    Some((received, packet))
}

pub(crate) fn control_packets(lab: &Lab) -> Result<()> {
    let (node, host) = segment(lab)?;
    let speaker = Speaker::start(&node)?;
    let mut ports = BTreeSet::new();
    for remote in ["10.0.0.2", "fd00::2"] {
        for (port, hops) in [(3784, Hops::Single), (4784, Hops::Multi)] {
            let path = Path { hops, ..Path::single_hop(address(remote)) };
            speaker.watch(path, patient())?;
            let mut seen = Vec::new();
            let packets = on(&host, path.family(), port, move |socket| {
                seen.extend(next(socket));
                Ok((seen.len() == 3).then(|| seen.clone()))
            })?;
            for (received, packet) in &packets {
                ensure!(received.ttl == 255, "{received:?}");
                ensure!(received.source.port() >= 49152, "{received:?}");
                ensure!(packet.state == State::Down && packet.your_discriminator.is_none(), "{packet}");
            }
            let of_session: BTreeSet<u16> = packets.iter().map(|(received, _)| received.source.port()).collect();
            ensure!(of_session.len() == 1, "one session, one port: {of_session:?}");
            ports.extend(of_session);
        }
    }
    ensure!(ports.len() == 4, "each session has its own: {ports:?}");
    Ok(())
}

fn packet(state: State, yours: Option<Discriminator>) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::None,
        state,
        poll: false,
        final_bit: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(50).unwrap(),
        my_discriminator: Discriminator::new(99).unwrap(),
        your_discriminator: yours,
        desired_min_tx: Duration::from_secs(1),
        required_min_rx: Duration::from_secs(1),
        required_min_echo_rx: Duration::ZERO,
    }
}

/// Sends a packet so many times with a TTL.
fn send(host: &Host, path: Path, packet: ControlPacket, ttl: u8, times: u32) -> Result<()> {
    let local = if path.remote.is_ipv4() { "10.0.0.1" } else { "fd00::1" };
    let port = if path.hops == Hops::Single { 3784 } else { 4784 };
    let to = SocketAddr::new(address(local), port);
    host.run(async move || {
        let socket = UdpSocket::sender(SocketAddr::new(path.remote, 0), None, ttl)?;
        for number in 0..times {
            // A full queue loses packets here like anywhere.
            drop(socket.send(&packet.encode(), to));
            if number % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    })
}

/// Takes the part of a neighbour that comes up.
fn come_up(speaker: &Speaker, host: &Host, path: Path) -> Result<Discriminator> {
    let id = eventually(LIMIT, || Ok(speaker.view(path)?.local.my_discriminator))?;
    let ups = |speaker: &Speaker| speaker.view(path).map_or(0, |view| view.counters.session_up_events);
    let before = ups(speaker);
    eventually(LIMIT, || {
        for state in [State::Down, State::Init] {
            send(host, path, packet(state, Some(id)), 255, 1)?;
        }
        // Where the link is not ready yet they are lost. Where it is, they must not come again.
        eventually(Duration::from_secs(3), || {
            ensure!(ups(speaker) > before, "not up yet");
            Ok(id)
        })
    })
}

pub(crate) fn packets_from_afar(lab: &Lab) -> Result<()> {
    let (node, host) = segment(lab)?;
    let speaker = Speaker::start(&node)?;
    for remote in ["10.0.0.2", "fd00::2"] {
        let path = Path::single_hop(address(remote));
        speaker.watch(path, patient())?;
        let id = come_up(&speaker, &host, path)?;
        let discarded =
            |speaker: &Speaker| speaker.status().discards.get(&Discard::TtlSingleHop).copied().unwrap_or_default();
        let discarded_before = discarded(&speaker);
        // Each of them would take the session down.
        send(&host, path, packet(State::Down, Some(id)), 254, 20_000)?;
        eventually(LIMIT, || {
            ensure!(discarded(&speaker) > discarded_before, "somebody can see what is wrong");
            Ok(())
        })?;
        // Most of them were dropped by the kernel.
        ensure!(discarded(&speaker) - discarded_before < 5_000, "{}", discarded(&speaker));
        let view = speaker.view(path)?;
        ensure!(view.local.state == State::Up && view.counters.control_packet_input == 2, "{view:?}");
        ensure!(speaker.told(path) == [Event::Up], "{:?}", speaker.told(path));
        // With a TTL of 255 one is enough.
        send(&host, path, packet(State::Down, Some(id)), 255, 1)?;
        speaker.wait_told(path, Event::Down(DownReason::NeighborSignaledDown(Diagnostic::None)))?;
    }
    Ok(())
}

pub(crate) fn link_down(lab: &Lab) -> Result<()> {
    let (node, host) = segment(lab)?;
    let speaker = Speaker::start(&node)?;
    let interface = InterfaceIndex::new(node.interface_index("eth0")?).unwrap();
    let path = Path { interface: Some(interface), ..Path::single_hop(address("10.0.0.2")) };
    // A minute and more without packets would be no reason.
    speaker.watch(path, Profile { receive_interval: Duration::from_secs(60), ..patient() })?;
    come_up(&speaker, &host, path)?;
    node.unplug("eth0")?;
    speaker.link_down(interface)?;
    speaker.wait_told(path, Event::Down(DownReason::PathDown))?;
    node.replug("eth0")?;
    come_up(&speaker, &host, path)?;
    speaker.wait_told(path, Event::Up)
}

pub(crate) fn shared(lab: &Lab) -> Result<()> {
    let (node, host) = segment(lab)?;
    let speaker = Speaker::start(&node)?;
    let (path, other) = (Path::single_hop(address("10.0.0.2")), Path::single_hop(address("10.0.0.3")));
    for client in ["a", "b"] {
        speaker.watch_as(client, path, patient())?;
    }
    eventually(LIMIT, || {
        let sessions = speaker.status().sessions;
        ensure!(sessions.len() == 1 && sessions[0].clients == ["a", "b"], "{sessions:?}");
        Ok(())
    })?;
    come_up(&speaker, &host, path)?;
    for client in ["a", "b"] {
        speaker.wait_told_as(client, Event::Up)?;
    }
    // Who goes elsewhere and comes back is told again, and nobody else notices.
    speaker.watch_as("b", other, patient())?;
    speaker.watch_as("b", path, patient())?;
    eventually(LIMIT, || {
        let told = speaker.told_as("b");
        ensure!(told == [Event::Up, Event::Up], "{told:?}");
        Ok(())
    })?;
    ensure!(speaker.told_as("a") == [Event::Up], "{:?}", speaker.told_as("a"));
    Ok(())
}

/// The kernels of our test machines have no VRF; to a socket its device is like any other.
pub(crate) fn device(lab: &Lab) -> Result<()> {
    let (lan, other_lan) = (lab.switch("lan")?, lab.switch("other")?);
    let (node, near, far) = (lab.host("node")?, lab.host("near")?, lab.host("far")?);
    // The same addresses on both sides.
    node.plug("eth0", &lan)?.address("10.0.0.1/24")?;
    node.plug("eth1", &other_lan)?.address("10.0.0.1/24")?;
    near.plug("eth0", &lan)?.address("10.0.0.2/24")?;
    far.plug("eth0", &other_lan)?.address("10.0.0.2/24")?;
    let speaker = Speaker::start(&node)?;
    let plain = Path::single_hop(address("10.0.0.2"));
    let bound = Path { vrf: InterfaceIndex::new(node.interface_index("eth1")?), ..plain };
    speaker.watch(plain, patient())?;
    speaker.watch(bound, patient())?;
    come_up(&speaker, &far, bound)?;
    let view = speaker.view(plain)?;
    ensure!(view.remote.is_none(), "what came over the one is not for the other: {view:?}");
    come_up(&speaker, &near, plain)?;
    ensure!(speaker.status().troubles.is_empty(), "{:?}", speaker.status().troubles);
    ensure!(speaker.told(bound) == [Event::Up], "{:?}", speaker.told(bound));
    Ok(())
}
