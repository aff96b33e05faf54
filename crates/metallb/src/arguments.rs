//! The command line: MetalLB's flags with their names, defaults and variables (contract 7.1), and our own commands.

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Gives addresses to Services; one per cluster
    Controller(Box<ControllerFlags>),
    /// Announces addresses; one on every node
    Speaker(Box<SpeakerFlags>),
    /// Shows MetalLB at work on this machine, in network namespaces
    Lab(lab::command::LabCommand),
    /// Checks manifests before they are applied
    Lint(crate::lint::LintFlags),
    /// Prints the CustomResourceDefinitions
    Crds(crate::crds::CrdsFlags),
}

/// What controller and speaker have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonFlags {
    /// HTTPS port of the metrics; 0 switches them off
    #[arg(long, default_value_t = 9120, value_name = "PORT")]
    pub(crate) port: u16,

    /// HTTP port of /healthz and /readyz
    #[arg(long, default_value_t = 17472, value_name = "PORT")]
    pub(crate) health_probe_port: u16,

    /// Namespace that MetalLB runs in; the service account's by default
    #[arg(long, env = "METALLB_NAMESPACE", default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,

    /// Name of the pod this runs in
    #[arg(long, env = "METALLB_POD_NAME", default_value = "", hide_default_value = true)]
    pub(crate) pod_name: String,

    /// What to log
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub(crate) log_level: LogLevel,

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

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  metallb controller --kubeconfig ~/.kube/config --namespace metallb-system
  metallb controller --manifests ./cluster

The flags are MetalLB's; each may have one dash or two.")]
pub(crate) struct ControllerFlags {
    #[command(flatten)]
    pub(crate) common: CommonFlags,
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

    /// Address of the node; not used
    #[arg(long, env = "METALLB_HOST", hide = true)]
    pub(crate) host: Option<IpAddr>,

    /// Announce even from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) ignore_exclude_lb: bool,

    /// File with the interfaces that never announce, as regular expressions
    #[arg(long, default_value = "/etc/metallb/excludel2.yaml", hide = true)]
    pub(crate) exclude_interfaces_file: PathBuf,

    /// How long the frr mode of the Go implementation collected changes, in milliseconds; nothing waits here
    #[arg(long, env = "METALLB_BGP_DEBOUNCE_TIMEOUT", default_value = "3000", hide = true)]
    pub(crate) bgp_debounce_timeout: NonZeroU64,
}

/// The levels of MetalLB's logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    All,
    Debug,
    Info,
    Warn,
    Error,
    None,
}

/// The backends of the Go implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BgpType {
    Native,
    Frr,
    FrrK8s,
}

/// MetalLB's flags come with one dash as well as with two; long flags with one dash get the second.
pub(crate) fn with_two_dashes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let fix = |argument: OsString| match argument.to_str() {
        Some(text) if is_long_with_one_dash(text) => OsString::from(format!("-{text}")),
        _ => argument,
    };
    arguments.map(fix).collect()
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
        Arguments::try_parse_from(with_two_dashes(line.split_whitespace().map(OsString::from)))
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
    fn a_bad_value_is_refused() {
        for line in [
            "metallb speaker --node-name n1 --bgp-debounce-timeout 0",
            "metallb speaker --node-name n1 --log-level loud",
            "metallb controller --port 70000",
            "metallb controller --no-such-flag",
            "metallb speaker --node-name n1 --manifests a --kubeconfig b",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
