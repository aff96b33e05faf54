//! Hosts, switches, cables, addresses and routes, as the kernel sees them.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use kit::{Duration, Family};
use lab::capture::{Capture, Claim};
use lab::testing::Trial;
use lab::{Host, Lab, eventually};
use sys::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Generous: the machine may be busy with other things.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    lab::testing::main([
        Trial::new("two_hosts_on_a_switch_reach_each_other_in_both_families", reach_over_switch),
        Trial::new("a_host_with_routes_passes_packets_between_two_networks", reach_over_router),
        Trial::new("an_unplugged_cable_cuts_and_a_replugged_one_heals", unplug),
        Trial::new("an_interface_that_is_down_loses_its_routes", down),
        Trial::new("routes_over_several_routers_are_set_read_and_removed", multipath),
        Trial::new("an_address_can_be_local_without_an_interface", local_address),
        Trial::new("mac_addresses_and_neighbours_are_the_same_in_every_run", macs),
        Trial::new("a_capture_tells_who_answers_for_an_address", capture),
        Trial::new("a_process_belongs_to_its_host_and_ends_with_it", processes),
        Trial::new("a_process_is_stopped_paused_and_waited_for", signals),
        Trial::new("a_background_task_ends_when_it_is_dropped", tasks),
        Trial::new("work_that_panics_is_an_error_and_the_host_lives_on", panics),
        Trial::new("hosts_have_own_run_folders_and_share_the_work_folder", folders),
    ])
}

/// Listens on a port of a host and answers every connection with a word.
fn serve(host: &Host, address: &'static str, word: &'static str) -> Result<lab::Task<()>> {
    let listener = host.run(async move || Ok(TcpListener::bind(address).await?.into_std()?))?;
    host.start_task("server", async move || {
        let listener = TcpListener::from_std(listener)?;
        loop {
            listener.accept().await?.0.write_all(word.as_bytes()).await?;
        }
    })
}

fn ask(host: &Host, address: &'static str) -> Result<String> {
    host.run(async move || {
        let ask = async {
            let mut word = String::new();
            TcpStream::connect(address).await?.read_to_string(&mut word).await?;
            anyhow::Ok(word)
        };
        tokio::time::timeout(Duration::from_secs(1).into(), ask).await.context("no answer within 1 s")?
    })
}

fn ask_until(host: &Host, address: &'static str, word: &str) -> Result<()> {
    eventually(LIMIT, || {
        let answer = ask(host, address)?;
        ensure!(answer == word, "{answer:?}");
        Ok(())
    })
}

fn pair(lab: &Lab) -> Result<(Host, Host)> {
    let (lan, a, b) = (lab.switch("lan")?, lab.host("a")?, lab.host("b")?);
    a.plug("eth0", &lan)?.address("10.0.0.1/24")?.address("fd00::1/64")?;
    b.plug("eth0", &lan)?.address("10.0.0.2/24")?.address("fd00::2/64")?;
    Ok((a, b))
}

fn reach_over_switch(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let _v4 = serve(&b, "10.0.0.2:80", "four")?;
    let _v6 = serve(&b, "[fd00::2]:80", "six")?;
    ask_until(&a, "10.0.0.2:80", "four")?;
    ask_until(&a, "[fd00::2]:80", "six")?;
    ensure!(ask(&a, "10.0.0.1:80").is_err(), "a host must not answer for another");
    Ok(())
}

fn reach_over_router(lab: &Lab) -> Result<()> {
    let (left, middle, right) = (lab.host("left")?, lab.host("middle")?, lab.host("right")?);
    let (near, far) = left.cable_to("eth0", &middle, "left")?;
    near.address("10.0.1.2/24")?.address("fd00:1::2/64")?;
    far.address("10.0.1.1/24")?.address("fd00:1::1/64")?;
    let (near, far) = right.cable_to("eth0", &middle, "right")?;
    near.address("10.0.2.2/24")?.address("fd00:2::2/64")?;
    far.address("10.0.2.1/24")?.address("fd00:2::1/64")?;
    left.set_route("0.0.0.0/0", &["10.0.1.1".parse()?])?;
    left.set_route("::/0", &["fd00:1::1".parse()?])?;
    right.set_route("10.0.1.0/24", &["10.0.2.1".parse()?])?;
    right.set_route("fd00:1::/64", &["fd00:2::1".parse()?])?;
    let _v4 = serve(&right, "10.0.2.2:80", "four")?;
    let _v6 = serve(&right, "[fd00:2::2]:80", "six")?;
    ensure!(ask(&left, "10.0.2.2:80").is_err(), "a host that is no router must not pass packets on");
    middle.forward_packets()?;
    ask_until(&left, "10.0.2.2:80", "four")?;
    ask_until(&left, "[fd00:2::2]:80", "six")
}

fn unplug(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let _server = serve(&b, "[::]:80", "here")?;
    ask_until(&a, "[fd00::2]:80", "here")?;
    b.unplug("eth0")?;
    ensure!(ask(&a, "10.0.0.2:80").is_err() && ask(&a, "[fd00::2]:80").is_err(), "the cable still works");
    b.replug("eth0")?;
    ask_until(&a, "10.0.0.2:80", "here")?;
    ask_until(&a, "[fd00::2]:80", "here")
}

fn down(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let _server = serve(&b, "10.0.0.2:80", "here")?;
    ask_until(&a, "10.0.0.2:80", "here")?;
    ensure!(a.route_to("10.0.0.0/24")?.is_some(), "{:?}", a.routes(Family::V4)?);
    a.down("eth0")?;
    ensure!(a.routes(Family::V4)?.is_empty(), "{:?}", a.routes(Family::V4)?);
    ensure!(ask(&a, "10.0.0.2:80").is_err(), "an interface that is down still works");
    a.up("eth0")?;
    ask_until(&a, "10.0.0.2:80", "here")
}

fn multipath(lab: &Lab) -> Result<()> {
    let (a, _b) = pair(lab)?;
    for (destination, routers) in
        [("192.0.2.0/24", ["10.0.0.2", "10.0.0.3", "10.0.0.4"]), ("2001:db8::/64", ["fd00::2", "fd00::3", "fd00::4"])]
    {
        let routers: Vec<IpAddr> = routers.iter().map(|router| router.parse().unwrap()).collect();
        for count in [3, 1, 2] {
            let routers = routers.get(..count).unwrap();
            a.set_route(destination, routers)?;
            let route = a.route_to(destination)?.with_context(|| format!("no route over {count} routers"))?;
            let seen: Vec<IpAddr> = route.next_hops.iter().filter_map(|next_hop| next_hop.via).collect();
            ensure!(seen == routers, "set {routers:?}, read {route:?}");
            ensure!(route.next_hops.iter().all(|next_hop| next_hop.interface == "eth0"), "{route:?}");
        }
        a.remove_route(destination)?;
        ensure!(a.route_to(destination)?.is_none(), "{:?}", a.route_to(destination)?);
    }
    let refused = format!("{:#}", a.set_route("192.0.2.0/24", &["172.16.0.1".parse()?]).unwrap_err());
    ensure!(refused.contains("a route to 192.0.2.0/24 on a") && refused.contains("unreachable"), "{refused}");
    Ok(())
}

fn local_address(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let _server = serve(&b, "[::]:80", "local")?;
    for (address, target, via) in
        [("192.0.2.1", "192.0.2.1:80", "10.0.0.2"), ("2001:db8::1", "[2001:db8::1]:80", "fd00::2")]
    {
        a.set_route(&format!("{address}/{}", if address.contains(':') { 128 } else { 32 }), &[via.parse()?])?;
        ensure!(ask(&a, target).is_err(), "{address} is answered before it is local");
        b.set_local(address.parse()?)?;
        ask_until(&a, target, "local")?;
        b.unset_local(address.parse()?)?;
        ensure!(ask(&a, target).is_err(), "{address} is still local");
    }
    Ok(())
}

fn macs(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    ensure!(a.mac("eth0")?.to_string() == "02:00:00:00:02:00", "{}", a.mac("eth0")?);
    ensure!(b.mac("eth0")?.to_string() == "02:00:00:00:03:00", "{}", b.mac("eth0")?);
    let _server = serve(&b, "10.0.0.2:80", "here")?;
    ask_until(&a, "10.0.0.2:80", "here")?;
    ensure!(a.neighbour_mac("10.0.0.2".parse()?)? == Some(b.mac("eth0")?), "{:?}", a.neighbours()?);
    a.forget_neighbour("10.0.0.2".parse()?)?;
    ensure!(a.neighbour_mac("10.0.0.2".parse()?)?.is_none(), "{:?}", a.neighbours()?);
    Ok(())
}

fn capture(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let capture = Capture::start(&a, "eth0", "arp or icmp6")?;
    let _server = serve(&b, "[::]:80", "here")?;
    ask_until(&a, "10.0.0.2:80", "here")?;
    ask_until(&a, "[fd00::2]:80", "here")?;
    for address in ["10.0.0.2", "fd00::2"] {
        let claim = Claim { address: address.parse()?, mac: b.mac("eth0")?, destination: a.mac("eth0")? };
        eventually(LIMIT, || {
            ensure!(capture.claims().contains(&claim), "no {claim:?} in {}", capture.text());
            Ok(())
        })?;
    }
    ensure!(lab.log_tails().contains("capture-eth0 on a"), "{}", lab.log_tails());
    Ok(())
}

fn processes(lab: &Lab) -> Result<()> {
    let host = lab.host("a")?;
    ensure!(host.output_ok("hostname", &[])? == "a\n");
    ensure!(host.output_ok("ls", &["/sys/class/net"])?.trim() == "lo");
    let failed = format!("{:#}", host.output_ok("ls", &["/no/such/file"]).unwrap_err());
    ensure!(failed.starts_with("ls /no/such/file on a: exit status: 2"), "{failed}");
    let mut sleeper = host.spawn("sleeper", shell("echo begin; sleep 1000"))?;
    eventually(LIMIT, || if sleeper.log() == "begin\n" { Ok(()) } else { bail!("{:?}", sleeper.log()) })?;
    ensure!(lab.log_tails() == "--- sleeper on a\nbegin\n", "{}", lab.log_tails());
    ensure!(sleeper.ended()?.is_none());
    let gone = lab::Lab::new("gone")?;
    let mut orphan = gone.host("b")?.spawn("orphan", shell("sleep 1000"))?;
    drop(gone);
    let status = orphan.wait(LIMIT)?;
    ensure!(!status.success(), "{status}");
    sleeper.kill()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn signals(lab: &Lab) -> Result<()> {
    let host = lab.host("a")?;
    let mut polite =
        host.spawn("polite", shell("trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.05; done"))?;
    eventually(LIMIT, || if polite.log().contains("ready") { Ok(()) } else { bail!("{:?}", polite.log()) })?;
    polite.signal(Signal::Stop)?;
    polite.signal(Signal::Terminate)?;
    ensure!(polite.wait(Duration::from_millis(100)).is_err(), "a stopped process must not run its trap");
    polite.signal(Signal::Continue)?;
    let status = polite.wait(LIMIT)?;
    ensure!(status.code() == Some(7) && polite.log().ends_with("asked\n"), "{status} {:?}", polite.log());
    ensure!(polite.stop()?.code() == Some(7), "stopping what has ended tells how it ended");
    Ok(())
}

fn tasks(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let server = serve(&b, "10.0.0.2:80", "here")?;
    ask_until(&a, "10.0.0.2:80", "here")?;
    ensure!(!server.has_ended());
    drop(server);
    eventually(LIMIT, || if ask(&a, "10.0.0.2:80").is_err() { Ok(()) } else { bail!("the server still answers") })?;
    ensure!(a.start_task("sum", async || Ok(1 + 1))?.join()? == 2);
    Ok(())
}

fn panics(lab: &Lab) -> Result<()> {
    let host = lab.host("a")?;
    let outcome: Result<()> = host.run(async || std::panic::resume_unwind(Box::new("on purpose")));
    ensure!(outcome.unwrap_err().to_string() == "work in host a panicked");
    ensure!(host.run(async || Ok(5))? == 5);
    Ok(())
}

fn folders(lab: &Lab) -> Result<()> {
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    a.output(shell("echo mine > /run/mine; echo ours > /run/lab/ours"))?.ok()?;
    ensure!(b.output(shell("cat /run/mine"))?.ok().is_err(), "the run folder is shared");
    ensure!(b.output_ok("cat", &["/run/lab/ours"])? == "ours\n");
    ensure!(std::fs::read_to_string("/run/lab/ours")? == "ours\n");
    Ok(())
}
