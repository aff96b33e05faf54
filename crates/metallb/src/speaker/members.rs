//! The other speakers: memberlist's core, its sockets, its key, and where the others are to be found (contract 5.2).
//!
//! This speaker joins when it knows all objects and a configuration, so that the addresses which it takes over as a member
//! are announced in the same moment. Until it has found the others, or knows that there are none, it takes none.

mod key;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result};
use api::core::Node;
use gossip::{Config, Keyring, Membership, Meta, Name, OUTBOX_LIMIT, Output, Profile, Report};
use kit::{Duration, Family, Instant, Outbox, Rng};
use netio::clock::Clock;
use netio::gossip::Transport;
use source::kube::{Client, Pods};
use speaker::{Hindrances, Statement};

use crate::arguments::{MemberFlags, SpeakerFlags};
use key::KeyFile;

/// memberlist's port (contract 5.2).
const PORT: u16 = 7946;
/// How long others are looked for before this speaker takes itself for the only one that is alive.
const JOIN_TIME: Duration = Duration::from_secs(5);
/// So often every other speaker must have turned out to be unreachable before that.
const ATTEMPTS: u32 = 2;

/// The other speakers, if there is memberlist.
pub(super) struct Members {
    setup: Option<Setup>,
    clock: Clock,
    whereabouts: Whereabouts,
    /// The nodes with their addresses, while speakers are looked for there.
    nodes: BTreeMap<String, BTreeSet<IpAddr>>,
    stage: Stage,
}

/// What memberlist is told once.
struct Setup {
    name: Name,
    /// Where it listens.
    bind: SocketAddr,
    /// Where others reach it.
    advertised: SocketAddr,
    profile: Profile,
    key: Option<KeyFile>,
    /// What this node says of itself.
    statement: Hindrances,
}

/// Where other speakers are.
enum Whereabouts {
    /// In pods with our labels.
    Pods { pods: Pods, meanwhile: Meanwhile },
    /// On the nodes of the manifests.
    Nodes,
}

/// Where other speakers are while nobody says where their pods are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    /// It is waited for that somebody does.
    Unknown,
    /// On the nodes that are remembered: speakers share the network with their nodes.
    OnNodes,
    /// Somebody has said.
    Over,
}

enum Stage {
    /// Not begun.
    Waiting,
    /// To begin.
    Due,
    Member(Box<Member>),
}

/// A member of the cluster.
pub(super) struct Member {
    core: Membership,
    transport: Transport,
    out: Outbox<Output>,
    /// Where speakers should be, as far as anybody said; this one may be among them.
    known: Option<BTreeSet<SocketAddr>>,
    joining: Option<Joining>,
    /// Who is alive, this one included, with what each says of itself, if it is not as was told last.
    news: Option<BTreeMap<String, Statement>>,
    has_left: bool,
}

/// The others are looked for.
struct Joining {
    until: Instant,
    failures: BTreeMap<SocketAddr, u32>,
}

/// What the loop has to pass on.
pub(super) enum Event {
    Begun(Box<Member>),
    Gossip(gossip::Input),
    /// The speakers' pods are at these addresses.
    Found(BTreeSet<IpAddr>),
    /// The key has to be looked at.
    Key,
    /// The time to find others is over.
    JoinTime,
}

impl Members {
    /// As the flags say; fails with what is wrong with them and the files that they name.
    pub(super) fn new(
        flags: &SpeakerFlags,
        api: Option<&Client>,
        namespace: Option<&str>,
        clock: Clock,
    ) -> Result<Members> {
        let whereabouts = match api {
            Some(client) if is_wanted(&flags.members, api) => {
                let labels = &flags.members.ml_labels;
                let pods = Pods::follow(client.clone(), namespace.unwrap_or_default(), labels);
                Whereabouts::Pods { pods, meanwhile: Meanwhile::Unknown }
            }
            _ => Whereabouts::Nodes,
        };
        let setup = if is_wanted(&flags.members, api) { Setup::read(flags, clock.now())? } else { None };
        if setup.is_none() {
            tracing::info!(op = "startup", "there is no memberlist: a dead node is noticed when it is not Ready");
        }
        Ok(Members { setup, clock, whereabouts, nodes: BTreeMap::new(), stage: Stage::Waiting })
    }

    /// What is known of the others before anything was said.
    pub(super) fn at_first(&self) -> speaker::Members {
        if self.setup.is_some() { speaker::Members::Joining } else { speaker::Members::Off }
    }

    /// Takes part from now on, if there is memberlist.
    pub(super) fn begin(&mut self) {
        if matches!(self.stage, Stage::Waiting) {
            self.stage = Stage::Due;
        }
    }

    /// What is known is what was known last: others are looked for where they were then, until it is said where they are.
    pub(super) fn recalled(&mut self) {
        if let Whereabouts::Pods { meanwhile: meanwhile @ Meanwhile::Unknown, .. } = &mut self.whereabouts {
            *meanwhile = Meanwhile::OnNodes;
            self.nodes_changed();
        }
    }

    /// A node is new or changed.
    pub(super) fn node_applied(&mut self, node: &Node) {
        if matches!(self.whereabouts, Whereabouts::Pods { meanwhile: Meanwhile::Over, .. }) {
            return;
        }
        let internal = node.status.addresses.iter().filter(|address| address.type_ == "InternalIP");
        let addresses = internal.filter_map(|address| address.address.parse().ok()).collect();
        self.nodes.insert(node.metadata.name.clone(), addresses);
        self.nodes_changed();
    }

    /// A node is gone.
    pub(super) fn node_deleted(&mut self, name: &str) {
        if self.nodes.remove(name).is_some() {
            self.nodes_changed();
        }
    }

    fn nodes_changed(&mut self) {
        let (Whereabouts::Nodes | Whereabouts::Pods { meanwhile: Meanwhile::OnNodes, .. }) = self.whereabouts else {
            return;
        };
        if let (Stage::Member(member), Some(setup)) = (&mut self.stage, &self.setup) {
            member.found(self.clock.now(), setup, self.nodes.values().flatten());
        }
    }

    /// The next thing that [`Members::tell`] has to be told; an error is the end. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Event> {
        let Some(setup) = &self.setup else { return std::future::pending().await };
        let member = match &mut self.stage {
            Stage::Waiting => return std::future::pending().await,
            Stage::Due => return Ok(Event::Begun(Box::new(Member::begin(setup, self.clock.now())?))),
            Stage::Member(member) => member,
        };
        let pods = async {
            match &mut self.whereabouts {
                Whereabouts::Pods { pods, .. } => pods.next().await,
                Whereabouts::Nodes => std::future::pending().await,
            }
        };
        let until = member.joining.as_ref().map(|joining| joining.until);
        let key = setup.key.as_ref().map(KeyFile::next_deadline);
        Ok(tokio::select! {
            input = member.transport.next(&self.clock, member.core.next_deadline()) => Event::Gossip(input),
            found = pods => Event::Found(found),
            () = self.clock.sleep_until(key) => Event::Key,
            () = self.clock.sleep_until(until) => Event::JoinTime,
        })
    }

    /// Takes in what [`Members::next`] gave. Gives who is alive, if that is not as before.
    pub(super) fn tell(&mut self, now: Instant, event: Event) -> Option<speaker::Members> {
        if let Event::Begun(member) = event {
            self.stage = Stage::Member(member);
            self.nodes_changed();
            return self.news();
        }
        let (Some(setup), Stage::Member(member)) = (&mut self.setup, &mut self.stage) else { return None };
        match event {
            Event::Begun(_) => {}
            Event::Gossip(input) => member.tell(now, input),
            Event::Found(addresses) => {
                if let Whereabouts::Pods { meanwhile, .. } = &mut self.whereabouts {
                    *meanwhile = Meanwhile::Over;
                    self.nodes = BTreeMap::new();
                }
                member.found(now, setup, addresses.iter());
            }
            Event::Key => {
                if let Some(keyring) = setup.key.as_mut().and_then(|key| key.look(now)) {
                    member.tell(now, gossip::Input::Keyring(keyring));
                }
            }
            Event::JoinTime => {
                tracing::warn!("no other speaker could be found in time; it is looked for others on and on");
                member.joining = None;
            }
        }
        self.news()
    }

    /// Who is alive; none while others are looked for.
    fn news(&mut self) -> Option<speaker::Members> {
        let Stage::Member(member) = &mut self.stage else { return None };
        if member.joining.is_some() { None } else { member.news.take().map(speaker::Members::Alive) }
    }

    /// Watches these nodes closely.
    pub(super) fn watch(&mut self, now: Instant, nodes: &BTreeSet<String>) {
        if let Stage::Member(member) = &mut self.stage {
            let members = nodes.iter().filter_map(|node| Name::new(node).ok()).collect();
            member.tell(now, gossip::Input::Watch { members });
        }
    }

    /// Tells the others what keeps this node from announcing.
    pub(super) fn state(&mut self, now: Instant, hindrances: Hindrances) {
        let Some(setup) = &mut self.setup else { return };
        if let Stage::Member(member) = &mut self.stage {
            member.tell(now, gossip::Input::Meta(metadata(&hindrances)));
        }
        setup.statement = hindrances;
    }

    /// Tells the others that this speaker ends.
    pub(super) fn leave(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Waiting | Stage::Due => self.setup = None,
            Stage::Member(member) => member.tell(now, gossip::Input::Leave),
        }
    }

    /// True when the others know that this speaker ends, or were told often enough.
    pub(super) fn has_left(&self) -> bool {
        match &self.stage {
            Stage::Waiting | Stage::Due => true,
            Stage::Member(member) => member.has_left,
        }
    }

    /// Closes the sockets.
    pub(super) async fn finish(self) {
        if let Stage::Member(member) = self.stage {
            member.transport.finish().await;
        }
    }
}

/// Contract 5.2: there is memberlist if both an address and labels are given. A directory of manifests has no pods.
fn is_wanted(flags: &MemberFlags, api: Option<&Client>) -> bool {
    flags.ml_bindaddr.0.is_some() && (api.is_none() || !flags.ml_labels.is_empty())
}

impl Setup {
    fn read(flags: &SpeakerFlags, now: Instant) -> Result<Option<Setup>> {
        let members = &flags.members;
        let Some(address) = members.ml_bindaddr.0 else { return Ok(None) };
        let port = members.ml_bindport.0.map_or(PORT, std::num::NonZero::get);
        let advertised = if address.is_unspecified() { own_address(flags.host.as_deref(), address)? } else { address };
        let by_flag = if members.ml_wan_config { Profile::WAN } else { Profile::LAN };
        let key = match members.ml_secret_key_path.as_str() {
            "" => None,
            directory => Some(KeyFile::read(directory, now)?),
        };
        Ok(Some(Setup {
            name: Name::new(&flags.node_name).context("the name of the node is none for memberlist (--node-name)")?,
            bind: SocketAddr::new(address, port),
            advertised: SocketAddr::new(advertised, port),
            profile: profile(&members.ml_config_file, by_flag)?,
            key,
            statement: Hindrances::default(),
        }))
    }
}

/// As metadata in memberlist. It always fits.
fn metadata(hindrances: &Hindrances) -> Meta {
    Meta::new(&hindrances.encode()).unwrap_or_default()
}

/// The address of the node, where memberlist listens on all addresses.
fn own_address(host: Option<&str>, bind: IpAddr) -> Result<IpAddr> {
    host.and_then(|host| host.parse().ok()).with_context(|| {
        format!("memberlist is to listen on {bind}, and it is not known where others reach it; hint: give --host (METALLB_HOST)")
    })
}

/// The timing: as in the file, if there is one, else as the flag says (contract 5.2).
fn profile(file: &Path, by_flag: Profile) -> Result<Profile> {
    match std::fs::read_to_string(file) {
        Ok(text) => Profile::from_json(&text).with_context(|| {
            format!("cannot use {} (key config.json of ConfigMap metallb-memberlist-config)", file.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(by_flag),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

impl Member {
    fn begin(setup: &Setup, now: Instant) -> Result<Member> {
        let transport = Transport::bind(setup.bind).context(
            "memberlist cannot begin (hint: --ml-bindaddr has to be an address of this node, with the port free there)",
        )?;
        let keyring = setup.key.as_ref().map_or_else(Keyring::plaintext, KeyFile::keyring);
        let is_encrypted = !keyring.is_empty();
        let config = Config {
            profile: setup.profile,
            meta: metadata(&setup.statement),
            ..Config::new(setup.name.clone(), setup.advertised, keyring)
        };
        let core = Membership::new(config, Rng::new(transport.seed()), now);
        tracing::info!(op = "startup", address = %setup.advertised, encrypted = is_encrypted, "memberlist begins");
        Ok(Member {
            core,
            transport,
            out: Outbox::with_limit(OUTBOX_LIMIT),
            known: None,
            joining: Some(Joining { until: now + JOIN_TIME, failures: BTreeMap::new() }),
            news: Some(BTreeMap::from([(setup.name.to_string(), Statement::Made(setup.statement.clone()))])),
            has_left: false,
        })
    }

    /// Speakers are at these addresses.
    fn found<'a>(&mut self, now: Instant, setup: &Setup, addresses: impl Iterator<Item = &'a IpAddr>) {
        let family = Family::of(&setup.advertised.ip());
        let of_family = addresses.filter(|address| Family::of(address) == family);
        let addresses: BTreeSet<_> = of_family
            .map(|address| SocketAddr::new(*address, setup.advertised.port()))
            .filter(|address| *address != setup.advertised)
            .collect();
        if self.known.as_ref() == Some(&addresses) {
            return;
        }
        self.known = Some(addresses.clone());
        self.tell(now, gossip::Input::Peers { addresses });
    }

    fn tell(&mut self, now: Instant, input: gossip::Input) {
        let mut has_changed = false;
        let meta_changes = self.core.meta_changes();
        self.core.handle(now, input, &mut self.out);
        while let Some(output) = self.out.pop() {
            match self.transport.execute(output) {
                Some(Output::MemberChanged(change)) => {
                    has_changed = true;
                    tracing::info!(
                        event = "memberChanged",
                        member = %change.name,
                        address = %change.address,
                        state = %change.state,
                        why = %change.cause,
                        "memberlist"
                    );
                }
                Some(Output::Left) => self.has_left = true,
                Some(Output::Report(report)) => self.report(&report),
                _ => {}
            }
        }
        if has_changed || self.core.meta_changes() != meta_changes {
            let statement = |meta: &[u8]| Hindrances::decode(meta).map_or(Statement::Missing, Statement::Made);
            self.news = Some(self.core.metas().map(|(name, meta)| (name.to_string(), statement(meta))).collect());
        }
        self.join_look();
    }

    fn report(&mut self, report: &Report) {
        match report {
            Report::Joined { .. } => {
                tracing::info!(limited = true, "memberlist: {report}");
                self.joining = None;
            }
            Report::JoinFailed { address, .. } => {
                tracing::info!(limited = true, "memberlist: {report}");
                if let Some(joining) = &mut self.joining {
                    let failures = joining.failures.entry(*address).or_default();
                    *failures = failures.saturating_add(1);
                }
            }
            Report::PacketDropped { .. } | Report::StreamDropped { .. } => {
                tracing::warn!(
                    limited = true,
                    hint = "do all speakers have the same key, and does nobody else use this port?",
                    "memberlist: {report}"
                );
            }
            _ => tracing::warn!(limited = true, "memberlist: {report}"),
        }
    }

    /// The search is over when others were found, and when there is nobody to be found.
    fn join_look(&mut self) {
        let (Some(joining), Some(_)) = (&self.joining, &self.known) else { return };
        let has_failed = |address: &SocketAddr| joining.failures.get(address).is_some_and(|times| *times >= ATTEMPTS);
        // Those that have found us before we found them are not missing.
        if self.core.view().missing.iter().all(has_failed) {
            self.joining = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_5_2_a_file_comes_before_the_flag_and_is_checked() {
        let folder = std::env::temp_dir().join(format!("metallb-profile-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.json");
        assert_eq!(profile(&file, Profile::LAN).unwrap(), Profile::LAN);
        assert_eq!(profile(&file, Profile::WAN).unwrap(), Profile::WAN);
        std::fs::write(&file, "{\"TCPTimeout\": \"10s\"}").unwrap();
        let error = format!("{:#}", profile(&file, Profile::LAN).unwrap_err());
        assert!(error.contains("ProbeInterval: it is missing") && error.contains("config.json"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn on_all_addresses_the_node_says_where_it_is_reached() {
        let bind = "0.0.0.0".parse().unwrap();
        assert_eq!(own_address(Some("10.0.0.1"), bind).unwrap(), "10.0.0.1".parse::<IpAddr>().unwrap());
        assert!(own_address(Some(""), bind).is_err() && own_address(None, bind).is_err());
    }
}
