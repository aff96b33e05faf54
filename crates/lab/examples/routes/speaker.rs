//! The program itself with many Services: from its start until a router has all routes, and from a change until the
//! router hears of it.

use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::{fmt, fs};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use kit::{Duration, Instant};
use lab::confined::{self, Capabilities};
use lab::router::{Router, RouterConfig, RouterKind, RouterPeer};
use lab::{Host, Lab, Process, usage};
use netio::clock::Clock;

use crate::api::Api;
use crate::dump::LIMIT;
use crate::objects::{Endpoints, NAMESPACE, NODE, SERVICES, SLICES, cluster, service, slice};
use crate::sink::{Session, prefix};

const OURS: u32 = 64_500;
const THEIRS: u32 = 64_501;
const NODE_ADDRESS: &str = "192.168.1.1";
const ROUTER: &str = "192.168.1.2";
/// How long the router must hear nothing more after a change.
const QUIET: Duration = Duration::from_millis(50);

/// Where the speaker has its objects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder with one file.
    Manifests,
    /// An API server that answers at once.
    Api,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Manifests => "from a folder",
            Source::Api => "from an API server",
        })
    }
}

/// What a start needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// From before the process was there until the router had all routes.
    pub(crate) time: Duration,
    /// Then, in KiB.
    pub(crate) resident: u64,
    /// The most until then, in KiB.
    pub(crate) peak: u64,
}

/// How long changes took until the router knew of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// A Service that is deleted or comes.
    pub(crate) services: Vec<Duration>,
    /// The endpoint of a Service with the policy `Local` goes or comes back.
    pub(crate) endpoints: Vec<Duration>,
}

struct Site {
    _lab: Lab,
    node: Host,
    router: Host,
    clock: Clock,
}

fn site() -> Result<Site> {
    let lab = Lab::new("speaker")?;
    let (node, router) = (lab.host(NODE)?, lab.host("router")?);
    let (near, far) = node.cable_to("eth0", &router, "eth0")?;
    near.address(&format!("{NODE_ADDRESS}/24"))?;
    far.address(&format!("{ROUTER}/24"))?;
    Ok(Site { _lab: lab, node, router, clock: Clock::start() })
}

fn speaker_start(node: &Host, program: &Path, (flag, place): (&str, &Path)) -> Result<Process> {
    let mut command = confined::command(program, Capabilities::NetRaw);
    command.args(["speaker", "--namespace", NAMESPACE, "--node-name", NODE, flag]).arg(place);
    node.spawn("speaker", command)
}

/// Starts a speaker with so many Services, and waits until BIRD has their routes.
pub(crate) fn start(program: &Path, services: u32, source: Source) -> Result<Start> {
    let site = site()?;
    let config = RouterConfig::new(THEIRS, ROUTER)?;
    let config = config.with_peer(RouterPeer::accept(&format!("{NODE_ADDRESS}/32"), OURS)?);
    let router = Router::start(&site.router, RouterKind::Bird, &config)?;
    let objects = cluster(services, (NODE_ADDRESS, ROUTER), (OURS, THEIRS));
    let (_api, place) = match source {
        Source::Manifests => {
            let folder = site.node.folder().join("manifests");
            fs::create_dir(&folder)?;
            let documents: Vec<String> = objects.values().flatten().map(ToString::to_string).collect();
            fs::write(folder.join("all.yaml"), documents.join("\n---\n"))?;
            // Otherwise it would have to be found unchanged first.
            thread::sleep(Duration::from_secs(1).into());
            (None, ("--manifests", folder))
        }
        Source::Api => {
            let api = Api::start(&site.node, objects)?;
            let kubeconfig = api.kubeconfig(&site.node)?;
            (Some(api), ("--kubeconfig", kubeconfig))
        }
    };
    let wanted = format!("{services} of {services} routes");
    let begin = site.clock.now();
    let speaker = speaker_start(&site.node, program, (place.0, &place.1))?;
    let time = loop {
        let answer = router.command(&["show", "route", "count"])?;
        let time = site.clock.now() - begin;
        if answer.contains(&wanted) {
            break time;
        }
        ensure!(time < LIMIT, "the router has {answer}, and the speaker says:\n{}", speaker.log());
    };
    Ok(Start { time, resident: usage::resident(speaker.id())?, peak: usage::peak(speaker.id())? })
}

/// Changes one thing after another in a cluster with so many Services. Each must come as one UPDATE with one prefix.
pub(crate) fn changes(program: &Path, services: u32, times: u32) -> Result<Changes> {
    let site = site()?;
    let listener = listen(&site.router)?;
    let api = Api::start(&site.node, cluster(services, (NODE_ADDRESS, ROUTER), (OURS, THEIRS)))?;
    let kubeconfig = api.kubeconfig(&site.node)?;
    let _speaker = speaker_start(&site.node, program, ("--kubeconfig", &kubeconfig))?;
    let mut session = Session::accept(&listener, THEIRS, site.clock)?;
    session.fill(services as usize)?;
    [SERVICES, SLICES].iter().try_for_each(|path| api.wait_watched(path))?;
    quiet(&session)?;
    let mut changes = Changes::default();
    for number in (0..times).map(|time| time * (services / times)) {
        let tell = |path, what, object| api.tell(path, what, &object, site.clock);
        let object = || service(number);
        let at = tell(SERVICES, "DELETED", object())?;
        changes.services.push(one_update(&session, at, &[], &[prefix(number)])?);
        let at = tell(SERVICES, "ADDED", object())?;
        changes.services.push(one_update(&session, at, &[prefix(number)], &[])?);
        let at = tell(SLICES, "MODIFIED", slice(number, Endpoints::Unready))?;
        changes.endpoints.push(one_update(&session, at, &[], &[prefix(number)])?);
        let at = tell(SLICES, "MODIFIED", slice(number, Endpoints::Ready))?;
        changes.endpoints.push(one_update(&session, at, &[prefix(number)], &[])?);
    }
    Ok(changes)
}

fn listen(router: &Host) -> Result<TcpListener> {
    let address: IpAddr = ROUTER.parse()?;
    router.run(async move || {
        let listener = tokio::net::TcpListener::bind((address, 179)).await?.into_std()?;
        listener.set_nonblocking(false)?;
        Ok(listener)
    })
}

/// Takes what is still on its way.
fn quiet(session: &Session) -> Result<()> {
    while session.next(Duration::from_millis(500))?.is_some() {}
    Ok(())
}

/// Waits for the UPDATE that a change makes, and sees that there is no other.
fn one_update(session: &Session, begin: Instant, announced: &[IpNet], withdrawn: &[IpNet]) -> Result<Duration> {
    let (at, new, gone) = session.next_update()?;
    ensure!(new == announced && gone == withdrawn, "announced {new:?}, withdrawn {gone:?}");
    let more = session.next(QUIET)?;
    ensure!(more.is_none(), "one change made more than one UPDATE: {more:?}");
    Ok(at - begin)
}
