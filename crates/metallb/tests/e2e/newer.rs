//! Routers that are newer than those of Debian 12, where most tests are at home: FRR 10, BIRD 3 and GoBGP 4. Restarts of a
//! speaker beside them are in `leaving.rs`.

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Secret};
use lab::router::{Bfd, RouterConfig, RouterKind};
use lab::testing::Trial;
use lab::{Lab, eventually};

use crate::cluster::{Cluster, LIMIT, at};
use crate::edge::{Edge, OURS, ROUTED_POOL, THEIRS, accepting, host_route, newer, put_peers};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("frr_10_takes_attributes_passwords_and_bfd_of_two_nodes", |lab| {
            interoperation(lab, RouterKind::Frr)
        }),
        Trial::new("bird_3_takes_attributes_passwords_and_bfd_of_two_nodes", |lab| {
            interoperation(lab, RouterKind::Bird)
        }),
        Trial::new("gobgp_4_takes_attributes_and_passwords_of_two_nodes", |lab| interoperation(lab, RouterKind::GoBgp)),
    ]
}

fn interoperation(lab: &Lab, kind: RouterKind) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    // GoBGP has no BFD, sets no passwords for whole networks, and no routes in the kernel.
    let is_whole = kind != RouterKind::GoBgp;
    let bfd = Bfd { interval: Duration::from_millis(300), multiplier: 5 };
    let mut config = accepting(&cluster, THEIRS, OURS, |peer| {
        peer.password = is_whole.then(|| Secret::new("between-routers"));
        peer.bfd = is_whole.then_some(bfd);
    })?;
    config.announce = vec!["192.0.2.0/24".parse()?, "2001:db8:2::/64".parse()?];
    let edge = Edge::start(lab, &cluster, 254, kind, &RouterConfig { programs: newer(), ..config })?;
    cluster.put("IPAddressPool", "routed", ROUTED_POOL)?;
    let attributes = "ipAddressPools: [routed], med: 7, asPathPrepend: 1, communities: [\"64500:1\", \"large:1:2:3\"]";
    cluster.put("BGPAdvertisement", "routed", attributes)?;
    cluster.put("BFDProfile", "watch", "detectMultiplier: 5")?;
    let more = if is_whole { ", password: \"between-routers\", bfdProfile: watch" } else { "" };
    put_peers(&cluster, &format!(", connectTime: 1s{more}"))?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a", "node-b"])?;
        for route in edge.router.routes_to(&host_route(*target))? {
            ensure!(route.as_path == [OURS, OURS] && route.med == Some(7) && route.origin == "IGP", "{route:?}");
            let communities: Vec<String> = route.communities.iter().map(ToString::to_string).collect();
            ensure!(communities == ["64500:1", "large:1:2:3"], "{route:?}");
        }
        if is_whole {
            cluster.reach(&edge.remote, at(*target, 80))?;
        }
    }

    // A node that dies is found out by BFD long before the hold time of 90 s; without BFD its speaker says good-bye.
    if is_whole {
        eventually(LIMIT, || {
            let answer = match kind {
                RouterKind::Frr => edge.router.command(&["show bfd peers brief"])?,
                _ => edge.router.command(&["show", "bfd", "sessions"])?,
            };
            ensure!(answer.to_lowercase().matches(" up ").count() == 4, "{answer}");
            Ok(())
        })?;
        cluster.host("node-b").unplug("eth0")?;
    } else {
        cluster.speaker("node-b").stop()?;
    }
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"]).context("node-b is gone")?;
        if is_whole {
            cluster.reach(&edge.remote, at(*target, 80))?;
        }
    }
    cluster.delete("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &[]).context("the Service is deleted")?;
    }
    Ok(())
}
