//! The command line: MetalLB's flags with their names, defaults and variables (contract 7.1), and our own commands.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use api::GoDuration;
use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use kit::Duration;
use serve::{CipherSuites, Curves, TlsPolicy, TlsPolicyError, TlsVersion};
use telemetry::logs::Level;

/// Load balancer for Kubernetes clusters that no cloud serves.
///
/// Gives Services of type LoadBalancer an address, and makes the network deliver its traffic: by answering ARP and NDP
/// on the local segment, or by announcing routes over BGP.
#[derive(Debug, Parser)]
#[command(name = "metallb", version, propagate_version = true, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads a command line, each flag by itself and those that only make sense together.
    pub(crate) fn read(words: impl Iterator<Item = OsString>) -> Result<Arguments, clap::Error> {
        let arguments = Arguments::try_parse_from(with_two_dashes(with_face_of_name(words).into_iter()))?;
        let common = match &arguments.command {
            Command::Controller(flags) => {
                if flags.common.manifests.is_some() && flags.webhook.webhook_mode == WebhookMode::OnlyWebhook {
                    let text = "--webhook-mode=onlywebhook and --manifests: there is nobody who would ask";
                    return Err(Arguments::command().error(ErrorKind::ArgumentConflict, text));
                }
                &flags.common
            }
            Command::Speaker(flags) => &flags.common,
            Command::Status(_)
            | Command::Capture(_)
            | Command::Lab(_)
            | Command::Lint(_)
            | Command::Convert(_)
            | Command::Crds(_) => return Ok(arguments),
        };
        match common.tls.policy() {
            Ok(_) => Ok(arguments),
            Err(error) => Err(Arguments::command().error(ErrorKind::ArgumentConflict, error)),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Gives addresses to Services; one per cluster does, others stand by
    Controller(Box<ControllerFlags>),
    /// Announces addresses; one on every node
    Speaker(Box<SpeakerFlags>),
    /// Shows what a running speaker knows: its BGP and BFD sessions
    Status(crate::status::StatusCommand),
    /// Writes down what a running speaker and its routers say to each other
    Capture(crate::capture::CaptureCommand),
    /// Shows MetalLB at work on this machine, in network namespaces
    Lab(lab::command::LabCommand),
    /// Checks manifests before they are applied
    Lint(crate::lint::LintFlags),
    /// Turns the ConfigMap of MetalLB up to 0.12 into objects
    Convert(crate::convert::ConvertFlags),
    /// Prints the CustomResourceDefinitions
    Crds(crate::crds::CrdsFlags),
}

/// What controller and speaker have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonFlags {
    /// HTTPS port of /metrics; 0 for none
    ///
    /// Who asks needs a bearer token of the cluster whose user may `get` the nonResourceURL /metrics. With --manifests
    /// there is nobody who knows tokens: anyone on this host may ask, and nobody else.
    #[arg(long, default_value_t = 9120, value_name = "PORT")]
    pub(crate) port: u16,

    #[command(flatten)]
    pub(crate) tls: TlsFlags,

    /// Directory with tls.crt and tls.key for /metrics, read again when they change; else self-signed
    #[arg(long, default_value = "", hide_default_value = true, value_name = "DIR")]
    pub(crate) metrics_cert_dir: String,

    /// HTTP port of /healthz and /readyz
    #[arg(long, default_value_t = 17472, value_name = "PORT")]
    pub(crate) health_probe_port: u16,

    /// Namespace that MetalLB runs in; the service account's by default
    #[arg(long, env = "METALLB_NAMESPACE", default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,

    /// Name of the pod this runs in
    #[arg(long, env = "METALLB_POD_NAME", default_value = "", hide_default_value = true)]
    pub(crate) pod_name: String,

    /// What to log: all, debug, info, warn, error or none
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub(crate) log_level: Level,

    /// Serve only Services of this loadBalancerClass; without it, only Services that have none
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CLASS")]
    pub(crate) lb_class: String,

    /// Kubeconfig to use outside of a cluster
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Work on the manifests in this directory instead of a Kubernetes API; status goes to DIR/status
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    pub(crate) manifests: Option<PathBuf>,

    /// Backend of the Go implementation to stand in for; all are served by the native one
    #[arg(long = "bgp-type", env = "METALLB_BGP_TYPE", default_value = "native", hide = true)]
    pub(crate) bgp_type: BgpType,
}

/// Which TLS is spoken.
#[derive(Clone, Debug, Args)]
pub(crate) struct TlsFlags {
    /// Lowest version of TLS: VersionTLS12, or VersionTLS13 as without it
    #[arg(long, default_value = "", hide_default_value = true, value_name = "VERSION")]
    tls_min_version: TlsVersion,

    /// Cipher suites for TLS 1.2, with commas between; all without it
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAMES")]
    tls_cipher_suites: CipherSuites,

    /// Numbers of the curves for the key exchange, the most wanted first, with commas between
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NUMBERS")]
    tls_curve_preferences: Curves,
}

impl TlsFlags {
    /// All three together.
    pub(crate) fn policy(&self) -> Result<TlsPolicy, TlsPolicyError> {
        TlsPolicy::new(self.tls_min_version, self.tls_cipher_suites.clone(), self.tls_curve_preferences.clone())
    }
}

/// Flags of the Go implementation that belong to parts which this version does not have yet. They are taken, so that its
/// manifests start, and named in a warning, so that nobody counts on them.
#[derive(Clone, Debug, Args)]
pub(crate) struct FutureCommonFlags {
    #[arg(long, hide = true)]
    pprof_bind_address: Option<String>,
}

impl FutureCommonFlags {
    fn given(&self) -> Vec<&'static str> {
        named([("--pprof-bind-address", is_set(self.pprof_bind_address.as_ref()))])
    }
}

/// The controller's flags of this sort.
#[derive(Clone, Debug, Args)]
pub(crate) struct FutureControllerFlags {
    #[command(flatten)]
    common: FutureCommonFlags,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    webhook_http2: Option<bool>,
}

impl FutureControllerFlags {
    /// Those that were given, in order.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let own = named([("--webhook-http2", self.webhook_http2 == Some(true))]);
        [self.common.given(), own].concat()
    }
}

/// The speaker's flags of this sort.
#[derive(Clone, Debug, Args)]
pub(crate) struct FutureSpeakerFlags {
    #[command(flatten)]
    common: FutureCommonFlags,
}

impl FutureSpeakerFlags {
    /// Those that were given, in order.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        self.common.given()
    }
}

fn is_set(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn named<const N: usize>(flags: [(&'static str, bool); N]) -> Vec<&'static str> {
    flags.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  metallb controller --kubeconfig ~/.kube/config --namespace metallb-system
  metallb controller --manifests ./cluster

The flags are MetalLB's; each may have one dash or two.")]
pub(crate) struct ControllerFlags {
    #[command(flatten)]
    pub(crate) common: CommonFlags,

    /// Name of the Secret with the key of the speakers' memberlist, to be made if it is not there; none by default
    #[arg(long, env = "METALLB_ML_SECRET_NAME", default_value = "", hide_default_value = true, value_name = "NAME")]
    pub(crate) ml_secret_name: String,

    /// Name of the Deployment of the controller, which owns that Secret
    #[arg(long, env = "METALLB_DEPLOYMENT", default_value = "", hide_default_value = true, value_name = "NAME")]
    pub(crate) deployment: String,

    /// Write only while holding the Lease metallb-controller, so that any number of controllers may run
    ///
    /// Without it, a second controller may give out an address a second time. Manifests have no Lease.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) leader_elect: bool,

    #[command(flatten)]
    pub(crate) webhook: WebhookFlags,

    #[command(flatten)]
    pub(crate) future: FutureControllerFlags,
}

/// How the API server asks about objects before it takes them.
#[derive(Clone, Debug, Args)]
pub(crate) struct WebhookFlags {
    /// Whether to serve the webhooks on port 9443; with onlywebhook, no addresses are given
    ///
    /// With --manifests there is nobody who would ask, and they are not served.
    #[arg(long, default_value = "enabled", value_name = "MODE")]
    pub(crate) webhook_mode: WebhookMode,

    /// Leave the certificate of the webhooks, and whom the API server trusts, to somebody else: see --cert-dir
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) disable_cert_rotation: bool,

    /// Directory with tls.crt and tls.key for the webhooks, read again when they change; with --disable-cert-rotation
    #[arg(long, default_value = "/tmp/k8s-webhook-server/serving-certs", value_name = "DIR")]
    pub(crate) cert_dir: PathBuf,

    /// Service by which the API server calls the webhooks
    #[arg(long, default_value = "metallb-webhook-service", value_name = "NAME")]
    pub(crate) cert_service_name: String,

    /// Secret with the certificate of the webhooks; made if it is not there
    #[arg(long, default_value = "metallb-webhook-cert", value_name = "NAME")]
    pub(crate) webhook_secret: String,
}

/// What a controller does about webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WebhookMode {
    /// Serves them.
    Enabled,
    /// Does not.
    Disabled,
    /// Does nothing else.
    #[value(name = "onlywebhook")]
    OnlyWebhook,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  metallb speaker --node-name node-1 --kubeconfig ~/.kube/config --namespace metallb-system
  metallb speaker --node-name node-1 --manifests ./cluster

Needs CAP_NET_RAW to answer ARP and NDP. The flags are MetalLB's; each may have one dash or two.")]
pub(crate) struct SpeakerFlags {
    #[command(flatten)]
    pub(crate) common: CommonFlags,

    /// Name of the Node object this runs on
    #[arg(long, env = "METALLB_NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: String,

    /// Address of the node: others reach memberlist there if it listens on all addresses. Else not used
    #[arg(long, env = "METALLB_HOST", hide = true)]
    pub(crate) host: Option<String>,

    #[command(flatten)]
    pub(crate) members: MemberFlags,

    /// Announce even from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) ignore_exclude_lb: bool,

    /// File with the interfaces that never announce, as regular expressions
    #[arg(long, default_value = "/etc/metallb/excludel2.yaml", hide = true)]
    pub(crate) exclude_interfaces_file: PathBuf,

    /// How long the frr mode of the Go implementation collected changes, in milliseconds; nothing waits here
    #[arg(long, env = "METALLB_BGP_DEBOUNCE_TIMEOUT", default_value = "3000", hide = true)]
    pub(crate) bgp_debounce_timeout: NonZeroU64,

    /// Namespace of frr-k8s in the Go implementation; there is none here
    #[arg(long, env = "FRRK8S_NAMESPACE", hide = true)]
    pub(crate) frrk8s_namespace: Option<String>,

    /// Whether the Go implementation passes secrets on to frr-k8s; there is none here
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) frrk8s_secret_passthrough: Option<bool>,

    /// How long routes are the last choice of routers before they are withdrawn, when the speaker ends or its node is
    /// drained, such as 10s; the pod needs more time than that to end. At once by default
    #[arg(long, env = "METALLB_BGP_DRAIN_TIME", default_value = "0s", value_name = "TIME")]
    pub(crate) bgp_drain_time: DrainTime,

    /// Taints of a node that say that it is drained, by key and separated by commas, such as
    /// node.kubernetes.io/unschedulable
    #[arg(long, env = "METALLB_BGP_DRAIN_TAINTS", value_delimiter = ',', value_name = "KEYS")]
    pub(crate) bgp_drain_taints: Vec<String>,

    /// TCP port to listen on for BGP, if a BGPPeer asks for that
    #[arg(long, env = "METALLB_BGP_LISTEN_PORT", default_value_t = 179, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) bgp_listen_port: u16,

    /// How often the network is told of addresses about which nothing has happened, such as 120s; 0 for never
    #[arg(long, env = "METALLB_L2_REFRESH_INTERVAL", default_value = "120s", value_name = "TIME")]
    pub(crate) l2_refresh_interval: RefreshInterval,

    /// Socket for metallb status and metallb capture; none for an empty path
    #[arg(long, env = "METALLB_STATUS_SOCKET", default_value = crate::status::SOCKET, value_name = "PATH", value_parser = path)]
    pub(crate) status_socket: PathBuf,

    /// File for what this speaker knows, for a start without the API server; none for an empty path. Its directory has to be
    /// there and outlive the container
    #[arg(
        long,
        env = "METALLB_STATE_FILE",
        default_value = "/var/lib/metallb/speaker.state",
        value_name = "FILE",
        value_parser = path,
        conflicts_with = "manifests"
    )]
    pub(crate) state_file: PathBuf,

    /// How old what is in that file may be to be announced, such as 1h
    #[arg(long, env = "METALLB_STATE_MAX_AGE", default_value = "1h", value_name = "TIME")]
    pub(crate) state_max_age: StateAge,

    #[command(flatten)]
    pub(crate) future: FutureSpeakerFlags,
}

/// A path, or nothing: which clap would refuse by itself.
#[expect(clippy::unnecessary_wraps, reason = "clap asks for it")]
fn path(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(PathBuf::from(text))
}

/// How old a state may be. Longer than a day, the addresses in it may have been given to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateAge(pub(crate) Duration);

impl FromStr for StateAge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = GoDuration::parse(text).map_err(|error| error.to_string())?;
        let micros = u64::try_from(time.as_nanos()).map_err(|_| "a time must not be negative".to_owned())? / 1000;
        match Duration::from_micros(micros) {
            time if time < Duration::from_secs(60) => Err("it must be at least 1m".to_owned()),
            time if time > Duration::from_secs(86_400) => Err("it must be at most 24h".to_owned()),
            time => Ok(StateAge(time)),
        }
    }
}

/// How often addresses are told again: from 10 s, for a host may not announce what another one claims more often than that
/// (RFC 5227 section 2.4), to an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefreshInterval(pub(crate) l2::Refresh);

impl FromStr for RefreshInterval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = GoDuration::parse(text).map_err(|error| error.to_string())?;
        let micros = u64::try_from(time.as_nanos()).map_err(|_| "a time must not be negative".to_owned())? / 1000;
        match Duration::from_micros(micros) {
            Duration::ZERO => Ok(RefreshInterval(l2::Refresh::Never)),
            time if time < Duration::from_secs(10) => Err("it must be 0 or at least 10s".to_owned()),
            time if time > Duration::from_secs(3600) => Err("it must be at most 1h".to_owned()),
            time => Ok(RefreshInterval(l2::Refresh::Every(time))),
        }
    }
}

/// How a speaker finds the others and knows which are alive: by HashiCorp's memberlist (contract 5.2).
#[derive(Clone, Debug, Args)]
pub(crate) struct MemberFlags {
    /// Address for memberlist, usually the node's; without it there is none, and a dead node is noticed late
    #[arg(long, env = "METALLB_ML_BIND_ADDR", default_value = "", hide_default_value = true, value_name = "ADDRESS")]
    pub(crate) ml_bindaddr: Given<IpAddr>,

    /// UDP and TCP port for memberlist; 7946 by default
    #[arg(long, env = "METALLB_ML_BIND_PORT", default_value = "", hide_default_value = true, value_name = "PORT")]
    pub(crate) ml_bindport: Given<NonZeroU16>,

    /// Labels of the speakers' pods, by which they find each other; without them there is no memberlist. With
    /// --manifests speakers are where the nodes are
    #[arg(long, env = "METALLB_ML_LABELS", default_value = "", hide_default_value = true, value_name = "LABELS")]
    pub(crate) ml_labels: String,

    /// Directory with the file secretkey, read again when it changes; without it memberlist is not encrypted
    #[arg(long, env = "METALLB_ML_SECRET_KEY_PATH", default_value = "", hide_default_value = true, value_name = "DIR")]
    pub(crate) ml_secret_key_path: String,

    /// Give memberlist more time, for nodes that are far from each other
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) ml_wan_config: bool,

    /// File with the timing of memberlist
    #[arg(long, default_value = "/etc/metallb/memberlist/config.json", hide = true)]
    pub(crate) ml_config_file: PathBuf,
}

/// A value of a flag whose empty text is as good as no flag: variables are often set and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given<T>(pub(crate) Option<T>);

impl<T: FromStr> FromStr for Given<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text.is_empty() { Ok(Given(None)) } else { text.parse().map(|value| Given(Some(value))) }
    }
}

/// A time as Go writes it: `10s`, `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainTime(pub(crate) Duration);

/// The longest drain: whoever means more than that wants to change the configuration instead.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3600);

impl FromStr for DrainTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = GoDuration::parse(text).map_err(|error| error.to_string())?;
        let micros = u64::try_from(time.as_nanos()).map_err(|_| "a time must not be negative".to_owned())? / 1000;
        let time = Duration::from_micros(micros);
        if time > DRAIN_TIME_MAX { Err("more than an hour is too long".to_owned()) } else { Ok(DrainTime(time)) }
    }
}

/// The backends of the Go implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BgpType {
    Native,
    Frr,
    FrrK8s,
}

/// The images of the Go implementation hold the programs `controller` and `speaker`; so does ours, as links to this
/// one. A program of that name is that face: the name is the command.
fn with_face_of_name(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    if let Some(face) = name.filter(|name| *name == "controller" || *name == "speaker").map(OsStr::to_owned) {
        arguments.insert(1, face);
    }
    arguments
}

/// MetalLB's flags come with one dash as well as with two; long flags with one dash get the second.
fn with_two_dashes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut is_lab = false;
    let fix = |(position, argument): (usize, OsString)| {
        // The lab's commands are given other programs' arguments, which are none of ours.
        is_lab |= position == 1 && argument == "lab";
        match argument.to_str() {
            Some(text) if !is_lab && is_long_with_one_dash(text) => OsString::from(format!("-{text}")),
            _ => argument,
        }
    };
    arguments.enumerate().map(fix).collect()
}

fn is_long_with_one_dash(text: &str) -> bool {
    let Some(name) = text.strip_prefix('-') else { return false };
    let mut letters = name.chars();
    letters.next().is_some_and(char::is_alphabetic)
        && letters.next().is_some_and(|letter| letter.is_alphanumeric() || letter == '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_program_named_like_a_face_is_that_face() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, expected) in [
            ("/controller", "/controller controller"),
            ("/speaker --port=9120", "/speaker speaker --port=9120"),
            ("controller -lb-class x", "controller controller -lb-class x"),
            ("metallb lint controller", "metallb lint controller"),
            ("/speaker/metallb crds", "/speaker/metallb crds"),
        ] {
            assert_eq!(with_face_of_name(words(line).into_iter()), words(expected), "{line}");
        }
        assert!(with_face_of_name(std::iter::empty()).is_empty());
    }

    #[test]
    fn flags_have_one_dash_or_two() {
        for line in [
            "metallb speaker -node-name=n1 -lb-class x -ignore-exclude-lb",
            "metallb speaker --node-name n1 --lb-class=x --ignore-exclude-lb=true",
        ] {
            let Command::Speaker(flags) = parse(line).unwrap().command else { panic!("not a speaker") };
            assert_eq!(
                (flags.node_name.as_str(), flags.common.lb_class.as_str(), flags.ignore_exclude_lb),
                ("n1", "x", true)
            );
        }
    }

    #[test]
    fn short_flags_and_values_stay_as_they_are() {
        let words = ["-h", "-", "-1", "--already", "plain"].map(OsString::from);
        assert_eq!(with_two_dashes(words.clone().into_iter()), words);
    }

    #[test]
    fn flags_of_parts_to_come_are_taken_and_named() {
        let line = "metallb speaker -node-name n1 --pprof-bind-address=:6060";
        let Command::Speaker(flags) = parse(line).unwrap().command else { panic!("not a speaker") };
        assert_eq!(flags.future.given(), ["--pprof-bind-address"]);
        let line = "metallb controller --webhook-http2";
        let Command::Controller(flags) = parse(line).unwrap().command else { panic!("not a controller") };
        assert_eq!(flags.future.given(), ["--webhook-http2"]);
    }

    #[test]
    fn contract_7_1_flags_of_the_webhooks() {
        let read = |line: &str| match parse(line).unwrap().command {
            Command::Controller(flags) => flags.webhook,
            _ => panic!("no controller"),
        };
        let usual = read("metallb controller");
        assert_eq!((usual.webhook_mode, usual.disable_cert_rotation), (WebhookMode::Enabled, false));
        assert_eq!(usual.cert_dir, Path::new("/tmp/k8s-webhook-server/serving-certs"));
        assert_eq!(usual.cert_service_name, "metallb-webhook-service");
        assert_eq!(usual.webhook_secret, "metallb-webhook-cert");
        let given = read(
            "metallb controller -webhook-mode onlywebhook --disable-cert-rotation -cert-dir=/certs \
             --cert-service-name=s --webhook-secret w",
        );
        assert_eq!((given.webhook_mode, given.disable_cert_rotation), (WebhookMode::OnlyWebhook, true));
        assert_eq!((given.cert_dir.as_path(), given.cert_service_name.as_str()), (Path::new("/certs"), "s"));
        assert_eq!(given.webhook_secret, "w");
        assert_eq!(read("metallb controller --webhook-mode=disabled").webhook_mode, WebhookMode::Disabled);
    }

    #[test]
    fn the_address_of_the_node_may_be_anything() {
        assert!(parse("metallb speaker --node-name n1 --host=").is_ok());
    }

    #[test]
    fn contract_7_1_flags_of_the_metrics() {
        let Command::Controller(flags) = parse("metallb controller").unwrap().command else { panic!("no controller") };
        assert_eq!((flags.common.port, flags.common.metrics_cert_dir.as_str()), (9120, ""));
        assert_eq!(flags.common.tls.policy().unwrap().to_string(), "TLS 1.3");
        let line = "metallb controller -port=0 --metrics-cert-dir=/etc/metrics -tls-min-version VersionTLS12 \
                    -tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 -tls-curve-preferences 29,25";
        let Command::Controller(flags) = parse(line).unwrap().command else { panic!("no controller") };
        assert_eq!((flags.common.port, flags.common.metrics_cert_dir.as_str()), (0, "/etc/metrics"));
        let policy = flags.common.tls.policy().unwrap();
        assert_eq!((policy.to_string().as_str(), policy.left_out()), ("TLS 1.2 and 1.3", vec!["25"]));
    }

    #[test]
    fn the_lease_is_ours_and_on_unless_taken_away() {
        for (line, wanted) in [
            ("metallb controller", true),
            ("metallb controller -leader-elect", true),
            ("metallb controller --leader-elect=false", false),
        ] {
            let Command::Controller(flags) = parse(line).unwrap().command else { panic!("no controller") };
            assert_eq!(flags.leader_elect, wanted, "{line}");
        }
    }

    #[test]
    fn the_flags_of_bgp_are_ours_and_off_unless_given() {
        let Command::Speaker(flags) = parse("metallb speaker -node-name n1").unwrap().command else { panic!() };
        assert_eq!((flags.bgp_drain_time.0, flags.bgp_listen_port), (Duration::ZERO, 179));
        assert!(flags.bgp_drain_taints.is_empty());
        let line = "metallb speaker -node-name n1 -bgp-drain-time=1m30s --bgp-drain-taints a,b -bgp-listen-port 1179";
        let Command::Speaker(flags) = parse(line).unwrap().command else { panic!() };
        assert_eq!((flags.bgp_drain_time.0, flags.bgp_listen_port), (Duration::from_secs(90), 1179));
        assert_eq!(flags.bgp_drain_taints, ["a", "b"]);
    }

    #[test]
    fn the_state_is_kept_unless_taken_away() {
        let read = |line: &str| match parse(line).unwrap().command {
            Command::Speaker(flags) => (flags.state_file.clone(), flags.state_max_age.0),
            _ => panic!("no speaker"),
        };
        let hour = Duration::from_secs(3600);
        assert_eq!(read("metallb speaker -node-name n1"), ("/var/lib/metallb/speaker.state".into(), hour));
        let line = "metallb speaker -node-name n1 --state-file= --status-socket= -state-max-age=24h";
        assert_eq!(read(line), ("".into(), hour.times(24)));
    }

    #[test]
    fn contract_7_1_flags_of_memberlist() {
        let Command::Speaker(flags) =
            parse("metallb speaker -node-name n1 -ml-bindaddr= --ml-bindport=").unwrap().command
        else {
            panic!()
        };
        assert_eq!((flags.members.ml_bindaddr, flags.members.ml_bindport), (Given(None), Given(None)));
        let line = "metallb speaker -node-name n1 -ml-bindaddr fd00::1 -ml-bindport=7 -ml-labels a=b,c=d -ml-wan-config \
                    -ml-secret-key-path=/etc/ml";
        let Command::Speaker(flags) = parse(line).unwrap().command else { panic!() };
        let members = flags.members;
        assert_eq!(members.ml_bindaddr, Given(Some("fd00::1".parse().unwrap())));
        assert_eq!(members.ml_bindport, Given(NonZeroU16::new(7)));
        assert_eq!((members.ml_labels.as_str(), members.ml_secret_key_path.as_str()), ("a=b,c=d", "/etc/ml"));
        assert!(members.ml_wan_config);
    }

    #[test]
    fn arguments_of_other_programs_stay_as_they_are() {
        let words = ["metallb", "lab", "on", "client", "tcpdump", "-ni", "eth0"].map(OsString::from);
        assert_eq!(with_two_dashes(words.clone().into_iter()), words);
    }

    #[test]
    fn a_bad_value_is_refused() {
        for line in [
            "metallb speaker --node-name n1 --bgp-debounce-timeout 0",
            "metallb speaker --node-name n1 --log-level loud",
            "metallb speaker --node-name n1 --bgp-drain-time soon",
            "metallb speaker --node-name n1 --bgp-drain-time=-1s",
            "metallb speaker --node-name n1 --bgp-drain-time 2h",
            "metallb speaker --node-name n1 --bgp-listen-port 0",
            "metallb speaker --node-name n1 --state-max-age 59s",
            "metallb speaker --node-name n1 --state-max-age 25h",
            "metallb speaker --node-name n1 --manifests a --state-file b",
            "metallb speaker --node-name n1 --ml-bindport 0",
            "metallb speaker --node-name n1 --ml-bindport 70000",
            "metallb speaker --node-name n1 --ml-bindaddr node-1",
            "metallb controller --health-probe-port 70000",
            "metallb controller --no-such-flag",
            "metallb speaker --node-name n1 --manifests a --kubeconfig b",
            "metallb controller --port 65536",
            "metallb controller --webhook-mode maybe",
            "metallb controller --webhook-mode onlywebhook --manifests a",
            "metallb controller --tls-min-version VersionTLS10",
            "metallb controller --tls-min-version VersionTLS12 --tls-cipher-suites TLS_NONE",
            "metallb controller --tls-curve-preferences 29,29",
            "metallb controller --tls-curve-preferences=-1",
            "metallb speaker --node-name n1 --tls-cipher-suites TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
