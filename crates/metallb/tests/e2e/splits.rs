//! Nodes that hear each other only in part, or not for a while: a link that carries frames out and none in, a segment in two
//! parts, a speaker that is held still. Those who hear each other agree on one owner, and say so.

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Instant};
use lab::testing::Trial;
use lab::{Lab, eventually};
use netio::clock::Clock;
use sys::process::Signal;

use crate::cluster::{Cluster, LIMIT, at};
use crate::conflicts::{self, V4, answerers, targets};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("a_link_that_carries_frames_out_and_none_in_costs_its_node_the_addresses", half_open),
        Trial::new("a_segment_in_two_parts_has_an_owner_in_each_and_one_when_it_is_whole", partition),
        Trial::new("a_part_without_the_owner_and_its_heirs_has_an_owner_too", beyond_heirs),
        Trial::new("a_speaker_that_is_held_still_is_succeeded_and_is_the_owner_again", paused),
    ]
}

/// From a change until there is one owner among those who hear each other. Generous: the machine may be busy.
const AGREED_WITHIN: Duration = Duration::from_secs(10);

/// Owners tell the network often.
fn start(lab: &Lab) -> Result<Cluster> {
    conflicts::start(lab, &["--l2-refresh-interval=10s"])
}

/// Has the switch drop frames at the port of `node-a`.
fn drop_at_port(cluster: &Cluster, directions: &[&str]) -> Result<()> {
    let rules: String = directions.iter().map(|direction| format!("{direction} \"node-a.eth0\" drop; ")).collect();
    let script = format!("table bridge split {{ chain forward {{ type filter hook forward priority 0; {rules}}}; }}");
    cluster.segment().host().output_ok("nft", &[&script]).map(drop)
}

fn mend(cluster: &Cluster) -> Result<()> {
    cluster.segment().host().output_ok("nft", &["delete table bridge split"]).map(drop)
}

/// Waits until a client that asks anew, several times, is answered by this node alone; returns how long that took.
fn wait_agreed(cluster: &Cluster, node: &str, since: Instant, clock: Clock) -> Result<Duration> {
    let wanted = cluster.host(node).mac("eth0")?;
    eventually(LIMIT, || {
        let macs = answerers(cluster, 3)?;
        ensure!(macs == [wanted], "{macs:?} answer, not {wanted} of {node} alone");
        Ok(clock.now().since(since))
    })
}

/// Waits until the metrics of a node say that it announces, or does not.
fn wait_counted(cluster: &Cluster, node: &str, announces: bool) -> Result<()> {
    eventually(LIMIT, || {
        let metrics = cluster.host(node).output_ok("curl", &["-sk", "https://127.0.0.1:9120/metrics"])?;
        let is_of_address = |line: &&str| line.starts_with("metallb_speaker_announced{") && line.contains(V4);
        let found: Vec<&str> = metrics.lines().filter(is_of_address).collect();
        ensure!(found.is_empty() != announces, "{node} counts {found:?}");
        Ok(())
    })
}

fn agreed(took: Duration, what: &str) -> Result<()> {
    eprintln!("measured: {what}: {} ms until one owner answers", took.as_millis());
    ensure!(took <= AGREED_WITHIN, "{what}: one owner after {took}");
    Ok(())
}

fn half_open(lab: &Lab) -> Result<()> {
    let mut cluster = start(lab)?;
    let clock = Clock::start();
    let [seen_b, seen_c] = ["node-b", "node-c"].map(|node| cluster.log_length(node));
    let cut = clock.now();
    drop_at_port(&cluster, &["oifname"])?;
    agreed(wait_agreed(&cluster, "node-c", cut, clock)?, "nothing reaches the owner any more")?;
    cluster.wait_speaker_log("node-c", seen_c, &["memberChanged", "node-a", "dead"])?;
    cluster.wait_speaker_log("node-b", seen_b, &["memberChanged", "node-a", "dead"])?;
    cluster.wait_speaker_log("node-c", seen_c, &["serviceAnnounced", "layer2"])?;
    cluster.wait_event("web", "nodeAssigned", "node-c")?;
    wait_counted(&cluster, "node-c", true)?;
    // It still says that the addresses are its own. Whoever believes it is told otherwise; nobody gives way to it.
    cluster.wait_speaker_log(
        "node-c",
        seen_c,
        &["addressConflict", &cluster.host("node-a").mac("eth0")?.to_string()],
    )?;
    let claimed = clock.now();
    for target in targets() {
        let heir = cluster.host("node-c").mac("eth0")?;
        eventually(LIMIT, || {
            let held = cluster.client().neighbour_mac(target)?;
            ensure!(held == Some(heir), "the client holds {held:?} for {target}, not {heir} of node-c");
            Ok(())
        })?;
    }
    agreed(clock.now().since(claimed), "a claim of a node that hears nobody")?;
    let log = cluster.speaker("node-c").log();
    ensure!(!log.lines().skip(seen_c).any(|line| line.contains("serviceWithdrawn")), "node-c gave way: {log}");

    let seen_c = cluster.log_length("node-c");
    let back = clock.now();
    mend(&cluster)?;
    agreed(wait_agreed(&cluster, "node-a", back, clock)?, "frames reach the owner again")?;
    cluster.wait_speaker_log("node-c", seen_c, &["memberChanged", "node-a", "alive"])?;
    cluster.wait_speaker_log("node-c", seen_c, &["serviceWithdrawn", "notOwner"]).map(drop)
}

fn partition(lab: &Lab) -> Result<()> {
    let mut cluster = start(lab)?;
    let clock = Clock::start();
    let [seen_a, seen_c] = ["node-a", "node-c"].map(|node| cluster.log_length(node));
    let cut = clock.now();
    drop_at_port(&cluster, &["iifname", "oifname"])?;
    agreed(wait_agreed(&cluster, "node-c", cut, clock)?, "the segment is in two parts")?;
    // In its own part the old owner goes on: somebody may hear it there.
    for other in ["node-b", "node-c"] {
        cluster.wait_speaker_log("node-a", seen_a, &["memberChanged", other, "dead"])?;
    }
    let log = cluster.speaker("node-a").log();
    ensure!(!log.lines().skip(seen_a).any(|line| line.contains("serviceWithdrawn")), "{log}");

    let back = clock.now();
    mend(&cluster)?;
    agreed(wait_agreed(&cluster, "node-a", back, clock)?, "the segment is whole again")?;
    cluster.wait_speaker_log("node-c", seen_c, &["serviceWithdrawn", "notOwner"])?;
    wait_counted(&cluster, "node-c", false)?;
    wait_counted(&cluster, "node-a", true)?;
    for target in targets() {
        let client = cluster.client().clone();
        cluster.reach(&client, at(target, 80)).with_context(|| format!("{target} after the segment is whole"))?;
    }
    // It stays so.
    let seen = cluster.log_length("node-c");
    std::thread::sleep(std::time::Duration::from_secs(5));
    let log = cluster.speaker("node-c").log();
    ensure!(!log.lines().skip(seen).any(|line| line.contains("serviceAnnounced")), "node-c took the address again");
    Ok(())
}

/// Nobody of the part in which the client is watches the owner for its address: the fourth of the order is to take over, and
/// the second and third are gone with the first.
fn beyond_heirs(lab: &Lab) -> Result<()> {
    const THERE: [&str; 3] = ["node-a", "node-d", "node-e"];
    const HERE: [&str; 3] = ["node-f", "node-c", "node-b"];
    const BY_WATCHING: [&str; 2] =
        ["neither the speaker nor the kernel of the node answers", "the speaker of the node does not answer"];
    let nodes: Vec<&'static str> = THERE.into_iter().chain(HERE).collect();
    let mut cluster = conflicts::start_with(lab, &nodes, &["--l2-refresh-interval=10s"])?;
    let clock = Clock::start();
    let cut = clock.now();
    let ports = THERE.map(|node| format!("\"{node}.eth0\"")).join(", ");
    let script = format!(
        "table bridge split {{ chain forward {{ type filter hook forward priority 0; \
         iifname {{ {ports} }} oifname != {{ {ports} }} drop; iifname != {{ {ports} }} oifname {{ {ports} }} drop; }}; }}"
    );
    cluster.segment().host().output_ok("nft", &[&script])?;
    agreed(wait_agreed(&cluster, "node-f", cut, clock)?, "the owner and its heirs are in the other part")?;
    for dead in THERE {
        eventually(LIMIT, || {
            let logs = HERE.map(|node| cluster.speaker(node).log()).concat();
            let is_meant = |line: &&str| ["memberChanged", dead, "dead"].iter().all(|piece| line.contains(piece));
            let found: Vec<&str> = logs.lines().filter(is_meant).collect();
            let is_watched = found.iter().any(|line| BY_WATCHING.iter().any(|piece| line.contains(piece)));
            ensure!(is_watched, "{HERE:?} say of {dead}: {found:?}");
            Ok(())
        })?;
    }
    let back = clock.now();
    mend(&cluster)?;
    agreed(wait_agreed(&cluster, "node-a", back, clock)?, "the owner and its heirs are back")?;
    wait_counted(&cluster, "node-f", false)
}

fn paused(lab: &Lab) -> Result<()> {
    let mut cluster = start(lab)?;
    let clock = Clock::start();
    let seen_c = cluster.log_length("node-c");
    let held = clock.now();
    cluster.speaker("node-a").signal(Signal::Stop)?;
    agreed(wait_agreed(&cluster, "node-c", held, clock)?, "the speaker of the owner is held still")?;
    cluster.wait_speaker_log("node-c", seen_c, &["memberChanged", "node-a", "dead"])?;
    cluster.wait_event("web", "nodeAssigned", "node-c")?;

    let seen_c = cluster.log_length("node-c");
    let back = clock.now();
    cluster.speaker("node-a").signal(Signal::Continue)?;
    agreed(wait_agreed(&cluster, "node-a", back, clock)?, "the speaker of the owner goes on")?;
    cluster.wait_speaker_log("node-c", seen_c, &["memberChanged", "node-a", "alive"])?;
    cluster.wait_speaker_log("node-c", seen_c, &["serviceWithdrawn", "notOwner"]).map(drop)
}
