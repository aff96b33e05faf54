//! Against BIRD 2, which has no echo function, and sets no timers by neighbour.

use anyhow::{Context as _, Result, ensure};
use bfd::wire::State;
use bfd::{DownReason, Path, Profile};
use lab::router::{Router, RouterConfig, RouterKind};
use lab::{Host, Lab, eventually};
use netio::bfd::Event;

use crate::speaker::{LIMIT, Speaker};
use crate::{address, far_apart, millis, patient, segment};

const TIMES: &str = "min rx interval 1000 ms; min tx interval 300 ms; idle tx interval 1000 ms; multiplier 50;";

fn start(host: &Host, times: &str, neighbours: &str) -> Result<Router> {
    let mut config = RouterConfig::new(64500, "10.0.0.2")?;
    config.extra = format!("protocol bfd {{ interface \"*\" {{ {times} }}; multihop {{ {times} }}; {neighbours} }}\n");
    Router::start(host, RouterKind::Bird, &config)
}

/// Waits until BIRD shows a session like this.
fn wait_shown(router: &Router, peer: &str, state: &str) -> Result<()> {
    eventually(LIMIT, || {
        let text = router.command(&["show", "bfd", "sessions"])?;
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(peer)).unwrap_or_default();
        ensure!(line.split_whitespace().nth(2) == Some(state), "{peer} is not {state}: {text}");
        Ok(())
    })
}

const NEIGHBOURS: &str = "neighbor 10.0.0.1 dev \"eth0\"; neighbor fd00::1 dev \"eth0\";";

fn paths() -> [(Path, &'static str); 2] {
    [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1")].map(|(remote, local)| (Path::single_hop(address(remote)), local))
}

fn on_one_segment(lab: &Lab, profile: Profile, times: &str) -> Result<(Router, Speaker)> {
    let (node, host) = segment(lab)?;
    let (router, speaker) = (start(&host, times, NEIGHBOURS)?, Speaker::start(&node)?);
    for (path, _) in paths() {
        speaker.watch(path, profile)?;
    }
    for (path, local) in paths() {
        speaker.wait_up(path)?;
        wait_shown(&router, local, "Up")?;
    }
    Ok((router, speaker))
}

pub(crate) fn one_hop(lab: &Lab) -> Result<()> {
    let (_router, speaker) = on_one_segment(lab, patient(), TIMES)?;
    for (path, _) in paths() {
        speaker.wait(path, |view| {
            view.transmit_interval == Some(millis(1000)) && view.detection_time == Some(millis(50 * 300))
        })?;
    }
    Ok(())
}

pub(crate) fn several_hops(lab: &Lab) -> Result<()> {
    let (node, host) = far_apart(lab, 1)?;
    let neighbours = "neighbor 10.0.0.1 local 10.0.1.2 multihop on; neighbor fd00::1 local fd00:1::2 multihop on;";
    let (router, speaker) = (start(&host, TIMES, neighbours)?, Speaker::start(&node)?);
    for (remote, local) in [("10.0.1.2", "10.0.0.1"), ("fd00:1::2", "fd00::1")] {
        // The address of ours that BIRD knows us by.
        let path = Path { local: Some(address(local)), ..Path::multi_hop(address(remote)) };
        // Over several hops BIRD sends with the system's TTL, 64, which MetalLB's default does not let pass.
        speaker.watch(path, patient())?;
        eventually(LIMIT, || {
            let discards = speaker.status().discards;
            ensure!(discards.contains_key(&bfd::Discard::TtlMultiHop), "{discards:?}");
            Ok(())
        })?;
        ensure!(speaker.told(path).is_empty(), "{:?}", speaker.told(path));
        speaker.watch(path, Profile { minimum_ttl: 63, ..patient() })?;
        speaker.wait_up(path)?;
        wait_shown(&router, local, "Up")?;
    }
    Ok(())
}

pub(crate) fn killed(lab: &Lab) -> Result<()> {
    let fast = Profile { transmit_interval: millis(50), receive_interval: millis(50), ..Profile::default() };
    let times = "interval 100 ms; idle tx interval 1000 ms; multiplier 3;";
    let (node, host) = segment(lab)?;
    let (mut router, speaker) = (start(&host, times, NEIGHBOURS)?, Speaker::start(&node)?);
    for (path, _) in paths() {
        speaker.watch(path, fast)?;
        speaker.wait(path, |view| view.local.state == State::Up && view.detection_time == Some(millis(300)))?;
    }
    router.kill()?;
    for (path, _) in paths() {
        speaker.wait_told(path, Event::Down(DownReason::DetectionExpired))?;
    }
    let _router = start(&host, times, NEIGHBOURS)?;
    for (path, _) in paths() {
        speaker.wait_told(path, Event::Up)?;
    }
    Ok(())
}

pub(crate) fn profile_change(lab: &Lab) -> Result<()> {
    let (router, speaker) = on_one_segment(lab, patient(), TIMES)?;
    let before = up_since(&router)?;
    for (transmit, receive) in [(1000, 50), (50, 1000), (2000, 2000), (300, 300)] {
        for (path, _) in paths() {
            let changed =
                Profile { transmit_interval: millis(transmit), receive_interval: millis(receive), ..patient() };
            speaker.watch(path, changed)?;
            speaker.wait(path, |view| {
                view.transmit_interval == Some(millis(transmit.max(1000)))
                    && view.detection_time == Some(millis(receive.max(300) * 50))
            })?;
        }
    }
    for (path, local) in paths() {
        wait_shown(&router, local, "Up")?;
        ensure!(speaker.told(path) == [Event::Up], "{:?}", speaker.told(path));
    }
    // It computes the time anew each time, and rounds it.
    let after = up_since(&router)?;
    let is_same = before.iter().zip(&after).all(|(before, after)| before.abs_diff(*after) < 500);
    ensure!(
        before.len() == 2 && after.len() == 2 && is_same,
        "BIRD's sessions are up since {before:?}, then {after:?}"
    );
    Ok(())
}

/// Since when BIRD's sessions are up, in milliseconds of the day.
fn up_since(router: &Router) -> Result<Vec<u64>> {
    let text = router.command(&["show", "bfd", "sessions"])?;
    let lines = text.lines().filter(|line| line.contains("eth0"));
    let time = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().nth(3)?.split([':', '.']).collect();
        let [hours, minutes, seconds, millis] = words.as_slice() else { return None };
        let number = |word: &&str| word.parse::<u64>().ok();
        Some(((number(hours)? * 60 + number(minutes)?) * 60 + number(seconds)?) * 1000 + number(millis)?)
    };
    lines.map(|line| time(line).with_context(|| format!("no time in {line:?}"))).collect()
}
