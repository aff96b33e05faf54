//! What the program tells about itself: numbers that follow what happens, and who may read them (contract 7.3, 8).

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use kit::InterfaceIndex;
use lab::scrape::{Series, fetch};
use lab::testing::Trial;
use lab::{Host, Lab, Process, eventually};
use sys::packet::{Capture, PacketSocket};

use crate::cluster::{Cluster, LIMIT, PROGRAM, resolve, v4, v6, wait_log};
use crate::edge::{Edge, announce_routed, put_peers};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_8_numbers_follow_pools_services_and_sessions", numbers),
        Trial::new("contract_8_2_d2_a_configuration_is_stale_until_it_is_repaired", stale),
        Trial::new("contract_7_3_without_kubernetes_the_metrics_are_for_this_host", reach),
        Trial::new("contract_7_1_tls_has_the_version_and_the_certificate_that_the_flags_say", tls),
    ]
}

const METRICS: &str = "https://127.0.0.1:9120/metrics";

fn text_of(host: &Host) -> Result<String> {
    let answer = fetch(host, METRICS, &[])?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer.body)
}

fn series_of(host: &Host) -> Result<Series> {
    Series::parse(&text_of(host)?)
}

/// A series with the value that it should have; none if it should not be there.
pub(crate) type Wanted<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<f64>);

/// Waits until the series of a host have these values.
pub(crate) fn wait_values(host: &Host, wanted: &[Wanted<'_>]) -> Result<()> {
    eventually(LIMIT, || {
        let series = series_of(host)?;
        for (name, labels, value) in wanted {
            let found = series.value(name, labels)?;
            ensure!(found == *value, "{name} {labels:?} of {} is {found:?}, not {value:?}", host.name());
        }
        Ok(())
    })
}

fn numbers(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let edge = Edge::frr(lab, &cluster)?;
    let control = cluster.control().clone();
    cluster.announce_on_segment()?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    pools_of(&control, "segment", [10.0, 9.0], [0.0, 0.0], 0.0)?;
    pools_of(&control, "routed", [16.0, 16.0], [0.0, 0.0], 0.0)?;
    cluster.apply(&Service::dual("web"))?;
    cluster.apply(&Service::v4("more"))?;
    cluster.apply(&Service::dual("api").from("routed"))?;
    cluster.apply(&Service::v4("lost").wants("10.255.255.1"))?;
    let (web, api) = (cluster.wait_addresses("web")?, cluster.wait_addresses("api")?);
    pools_of(&control, "segment", [10.0, 9.0], [2.0, 1.0], 2.0)?;
    pools_of(&control, "routed", [16.0, 16.0], [1.0, 1.0], 1.0)?;
    wait_values(&control, &[("metallb_allocator_services_unassigned", &[], Some(1.0))])?;

    layer2(&cluster, &web)?;
    bgp(&cluster, &edge, &api)?;
    check_by_promtool(&control)?;
    check_by_promtool(cluster.host("node-a"))?;

    // What is withdrawn has no series any more, and what is gone gives its addresses back.
    cluster.delete("web")?;
    cluster.delete("api")?;
    cluster.remove("IPAddressPool", "routed")?;
    cluster.remove("BGPAdvertisement", "routed")?;
    pools_of(&control, "segment", [10.0, 9.0], [1.0, 0.0], 1.0)?;
    wait_values(&control, &[("metallb_allocator_addresses_total", &[("pool", "routed")], None)])?;
    for node in ["node-a", "node-b"] {
        let host = cluster.host(node);
        for ip in web.iter().chain(&api) {
            let ip = ip.to_string();
            wait_values(
                host,
                &[
                    ("metallb_speaker_announced", &[("ip", &ip)], None),
                    ("metallb_layer2_requests_received", &[("ip", &ip)], None),
                ],
            )?;
        }
        let peer = [("peer", "192.168.1.254:179")];
        wait_values(host, &[("metallb_bgp_announced_prefixes_total", &peer, Some(0.0))])?;
    }
    Ok(())
}

/// Waits until a pool has so many addresses of each family, so many in use, and so many Services.
fn pools_of(control: &Host, pool: &str, total: [f64; 2], in_use: [f64; 2], services: f64) -> Result<()> {
    let labels = [("pool", pool)];
    wait_values(
        control,
        &[
            ("metallb_allocator_addresses_total", &labels, Some(total[0] + total[1])),
            ("metallb_allocator_ipv4_addresses_total", &labels, Some(total[0])),
            ("metallb_allocator_ipv6_addresses_total", &labels, Some(total[1])),
            ("metallb_allocator_addresses_in_use_total", &labels, Some(in_use[0] + in_use[1])),
            ("metallb_allocator_ipv4_addresses_in_use_total", &labels, Some(in_use[0])),
            ("metallb_allocator_ipv6_addresses_in_use_total", &labels, Some(in_use[1])),
            ("metallb_allocator_services_allocated_total", &labels, Some(services)),
        ],
    )
}

/// Only who announces an address has series of it, and they count what the client does.
fn layer2(cluster: &Cluster, web: &[IpAddr]) -> Result<()> {
    let announced = |node: &str| series_of(cluster.host(node)).map(|it| is_announced(&it, web[0], "layer2"));
    let (owner, other) = if eventually(LIMIT, || {
        let owners = (announced("node-a")?, announced("node-b")?);
        ensure!(owners.0 != owners.1, "announced by (node-a, node-b): {owners:?}");
        Ok(owners.0)
    })? {
        ("node-a", "node-b")
    } else {
        ("node-b", "node-a")
    };
    let host = cluster.host(owner);
    for ip in web {
        let text = ip.to_string();
        let labels = [("service", "default/web"), ("protocol", "layer2"), ("node", owner), ("ip", text.as_str())];
        wait_values(host, &[("metallb_speaker_announced", &labels, Some(1.0))])?;
        let of_ip = [("ip", text.as_str())];
        let requests = || -> Result<f64> {
            let value = series_of(host)?.value("metallb_layer2_requests_received", &of_ip)?;
            value.with_context(|| format!("no series of {text}"))
        };
        let before = requests()?;
        for _ in 0..3 {
            ensure!(resolve(cluster.client(), *ip)?.is_some(), "nobody answers for {ip}");
        }
        let after = requests()?;
        ensure!(after >= before + 3.0, "the client asked three times, and {before} became {after}");
        // Five rounds, of two packets by ARP and one by NDP.
        let gratuitous = if ip.is_ipv4() { 10.0 } else { 5.0 };
        wait_values(host, &[("metallb_layer2_gratuitous_sent", &of_ip, Some(gratuitous))])?;
        let series = series_of(host)?;
        let value = |name| series.value(name, &of_ip);
        ensure!(value("metallb_layer2_responses_sent")? == value("metallb_layer2_requests_received")?, "{series:?}");
        ensure!(value("metallb_layer2_foreign_claims_total")? == Some(0.0), "{series:?}");
        wait_values(
            cluster.host(other),
            &[("metallb_layer2_requests_received", &of_ip, None), ("metallb_speaker_announced", &of_ip, None)],
        )?;
    }
    let reason = [("protocol", "layer2"), ("reason", "notOwner")];
    let series = series_of(cluster.host(other))?;
    let value = series.value("metallb_speaker_services_not_announced", &reason)?;
    ensure!(value.is_some_and(|value| value >= 1.0), "{series:?}");

    // An ARP request that ends where the addresses should begin.
    let broken = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[8, 6], &[0, 1, 8, 0, 6, 4, 0, 1]].concat();
    let index = InterfaceIndex::new(cluster.client().interface_index("eth0")?).context("an interface")?;
    cluster.client().run(async move || {
        let socket = PacketSocket::open(index, Capture::Arp)?;
        Ok(socket.send(&broken)?)
    })?;
    wait_values(host, &[("metallb_layer2_frames_malformed_total", &[], Some(1.0))])
}

fn is_announced(series: &Series, ip: IpAddr, protocol: &str) -> bool {
    series.count("metallb_speaker_announced", &[("ip", &ip.to_string()), ("protocol", protocol)]) == 1
}

/// What a speaker counts of its sessions is what FRR counts of them.
fn bgp(cluster: &Cluster, edge: &Edge, api: &[IpAddr]) -> Result<()> {
    for (node, number) in [("node-a", 11), ("node-b", 12)] {
        let host = cluster.host(node);
        eventually(LIMIT, || {
            let series = series_of(host)?;
            ensure!(api.iter().all(|ip| is_announced(&series, *ip, "bgp")), "{node} does not announce {api:?}");
            Ok(())
        })?;
        for (own, peer) in [(v4(number), format!("{}:179", v4(254))), (v6(number), format!("{}:179", v6(254)))] {
            let by_peer = [("peer", peer.as_str())];
            wait_values(
                host,
                &[
                    ("metallb_bgp_session_up", &by_peer, Some(1.0)),
                    ("metallb_bgp_session_up", &[("peer", &peer), ("vrf", "default")], Some(1.0)),
                    ("metallb_bgp_announced_prefixes_total", &by_peer, Some(1.0)),
                    ("metallb_bgp_pending_prefixes_total", &by_peer, Some(1.0)),
                    ("metallb_bgp_established_total", &by_peer, Some(1.0)),
                ],
            )?;
            eventually(LIMIT, || {
                let series = series_of(host)?;
                let theirs = edge.neighbour(own)?["messageStats"].clone();
                for (name, of_frr) in [
                    ("opens_sent", "opensRecv"),
                    ("opens_received", "opensSent"),
                    ("updates_total", "updatesRecv"),
                    ("updates_total_received", "updatesSent"),
                    ("keepalives_sent", "keepalivesRecv"),
                    ("keepalives_received", "keepalivesSent"),
                    ("notifications_sent", "notificationsRecv"),
                    ("notifications_received", "notificationsSent"),
                    ("route_refresh_sent", "routeRefreshRecv"),
                    ("total_sent", "totalRecv"),
                    ("total_received", "totalSent"),
                ] {
                    let ours = series.value(&format!("metallb_bgp_{name}"), &by_peer)?;
                    ensure!(ours == theirs[of_frr].as_f64(), "{name} {ours:?}, and FRR has {theirs}");
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// A real reader of the format. Of what it calls bad style, only the names that are MetalLB's may be.
fn check_by_promtool(host: &Host) -> Result<()> {
    let file = host.folder().join("metrics.txt");
    fs::write(&file, text_of(host)?)?;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("promtool check metrics < {}", file.display())]);
    let output = host.output(command)?;
    // 3 is for bad style alone.
    ensure!(matches!(output.status.code(), Some(0 | 3)), "promtool: {} {}", output.status, output.stderr);
    for line in output.stderr.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let is_of_metallb = ["metallb_allocator_", "metallb_bgp_", "metallb_layer2_", "metallb_k8s_client_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        ensure!(is_of_metallb, "promtool: {line}");
    }
    Ok(())
}

fn stale(lab: &Lab) -> Result<()> {
    let cluster = Cluster::start(lab, &["node-a"])?;
    cluster.announce_on_segment()?;
    let hosts = [cluster.control(), cluster.host("node-a")];
    let wait = |flags: [f64; 2]| {
        hosts.iter().try_for_each(|host| {
            wait_values(
                host,
                &[
                    ("metallb_k8s_client_config_loaded_bool", &[], Some(flags[0])),
                    ("metallb_k8s_client_config_stale_bool", &[], Some(flags[1])),
                    ("metallb_source_up", &[], Some(1.0)),
                ],
            )
        })
    };
    wait([1.0, 0.0])?;
    let errors = |host: &Host| series_of(host)?.value("metallb_k8s_client_update_errors_total", &[]);
    let before = hosts.iter().map(|host| errors(host)).collect::<Result<Vec<_>>>()?;
    cluster.put("IPAddressPool", "overlap", "addresses: [192.168.1.0/24]")?;
    wait([1.0, 1.0]).context("two pools overlap")?;
    let after = hosts.iter().map(|host| errors(host)).collect::<Result<Vec<_>>>()?;
    ensure!(before.iter().zip(&after).all(|(before, after)| before < after), "{before:?} became {after:?}");
    // D2: the same configuration as before.
    cluster.remove("IPAddressPool", "overlap")?;
    wait([1.0, 0.0]).context("the pool is gone again")?;
    // A profile that is not there is an error of the speaker alone, since the controller has no peers.
    let of_speaker = |is_stale: f64| {
        let stale = "metallb_k8s_client_config_stale_bool";
        wait_values(cluster.host("node-a"), &[(stale, &[], Some(is_stale))])?;
        wait_values(cluster.control(), &[(stale, &[], Some(0.0))])
    };
    let peer = "myASN: 64512, peerASN: 64513, peerAddress: 192.168.1.254, bfdProfile: quick";
    cluster.put("BGPPeer", "router", peer)?;
    of_speaker(1.0).context("the profile is missing")?;
    cluster.put("BFDProfile", "quick", "receiveInterval: 300")?;
    of_speaker(0.0).context("the profile is there")
}

/// A controller on an empty folder, and what it serves there.
fn controller(lab: &Lab, host: &Host, arguments: &[&str]) -> Result<Process> {
    let folder = lab.folder().join("manifests");
    fs::create_dir_all(&folder)?;
    let mut command = Command::new(PROGRAM);
    command.args(["controller", "--manifests"]).arg(folder).args(arguments);
    host.spawn("controller", command)
}

fn wait_served(host: &Host, arguments: &[&str]) -> Result<()> {
    eventually(LIMIT, || {
        let answer = fetch(host, METRICS, arguments)?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
}

fn reach(lab: &Lab) -> Result<()> {
    let (lan, host, other) = (lab.switch("lan")?, lab.host("host")?, lab.host("other")?);
    host.plug("eth0", &lan)?.address("10.0.0.1/24")?.address("fd00::1/64")?;
    other.plug("eth0", &lan)?.address("10.0.0.2/24")?.address("fd00::2/64")?;
    let running = controller(lab, &host, &[])?;
    wait_served(&host, &[])?;
    for address in ["10.0.0.1", "[fd00::1]"] {
        let refusal = fetch(&other, &format!("https://{address}:9120/metrics"), &[]);
        ensure!(refusal.is_err(), "another host is answered: {refusal:?}");
    }
    let plain = fetch(&host, "http://127.0.0.1:9120/metrics", &[]);
    ensure!(plain.is_err(), "an answer without TLS: {plain:?}");
    let nothing = fetch(&host, "https://127.0.0.1:9120/", &[])?;
    ensure!(nothing.status == 404, "{nothing:?}");
    let mut second = Command::new(PROGRAM);
    second.args(["speaker", "--node-name", "a", "--health-probe-port", "1234", "--manifests"]).arg(lab.folder());
    let output = host.output(second)?;
    let errors = &output.stderr;
    ensure!(output.status.code() == Some(1), "a port in use: {} {errors}", output.status);
    ensure!(errors.contains("port 9120 (--port)") && errors.contains("in use"), "{errors}");
    drop(running);

    let running = controller(lab, &host, &["--port", "0"])?;
    wait_log(&running, 0, &["reached the source"])?;
    let refusal = fetch(&host, METRICS, &[]);
    ensure!(refusal.is_err(), "--port 0: {refusal:?}");
    Ok(())
}

fn tls(lab: &Lab) -> Result<()> {
    let host = lab.host("host")?;
    let running = controller(lab, &host, &[])?;
    wait_served(&host, &["--tls-max", "1.3"])?;
    let refusal = fetch(&host, METRICS, &["--tls-max", "1.2"]);
    ensure!(refusal.is_err(), "TLS 1.2 without having been asked for: {refusal:?}");
    drop(running);

    let folder = lab.folder().join("certificate");
    fs::create_dir_all(&folder)?;
    let certificate = |name: &str| -> Result<()> {
        let script = format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN={name} \
             -addext subjectAltName=IP:127.0.0.1 -keyout {0}/new.key -out {0}/new.crt \
             && mv {0}/new.key {0}/tls.key && mv {0}/new.crt {0}/tls.crt",
            folder.display()
        );
        host.output_ok("sh", &["-c", &script]).map(drop)
    };
    let directory = folder.display().to_string();
    let output = host.output({
        let mut command = Command::new(PROGRAM);
        command.args(["controller", "--metrics-cert-dir", &directory, "--manifests"]).arg(lab.folder());
        command
    })?;
    ensure!(output.status.code() == Some(1), "no certificate: {}", output.status);
    for piece in ["--metrics-cert-dir", "tls.crt", "No such file"] {
        ensure!(output.stderr.contains(piece), "no {piece:?} in {}", output.stderr);
    }
    certificate("first")?;
    let suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_RSA_WITH_AES_128_CBC_SHA";
    let arguments =
        ["--metrics-cert-dir", &directory, "--tls-min-version", "VersionTLS12", "--tls-cipher-suites", suites];
    let running = controller(lab, &host, &arguments)?;
    wait_served(&host, &["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"])?;
    let refusal = fetch(&host, METRICS, &["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"]);
    ensure!(refusal.is_err(), "a suite that the flag does not name: {refusal:?}");
    wait_log(&running, 0, &["not served", "TLS_RSA_WITH_AES_128_CBC_SHA"])?;

    // A client that checks sees which certificate it is; a new one is there ten seconds later.
    trusted(&host, &folder)?;
    let before = fs::read_to_string(folder.join("tls.crt"))?;
    certificate("second")?;
    ensure!(fs::read_to_string(folder.join("tls.crt"))? != before);
    eventually(LIMIT, || trusted(&host, &folder))?;
    wait_values(
        &host,
        &[
            ("certwatcher_read_certificate_total", &[], Some(2.0)),
            ("certwatcher_read_certificate_errors_total", &[], Some(0.0)),
        ],
    )?;
    // One that cannot be used is told, and the last one stays.
    fs::write(folder.join("tls.key"), "no key")?;
    wait_log(&running, 0, &["the old one stays in use", "tls.key"])?;
    trusted(&host, &folder)
}

/// Fails unless the server shows the certificate in the folder, which is its own authority.
fn trusted(host: &Host, folder: &Path) -> Result<()> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--output", "/dev/null", "--cacert"]);
    command.arg(folder.join("tls.crt")).arg(METRICS);
    host.output(command)?.ok().map(drop)
}
