//! The timing of memberlist: its LAN and WAN profiles (contract 5.2), and the profile that a file may give instead.
//!
//! The file is JSON with the names of memberlist's configuration. MetalLB takes a missing number for zero, which
//! switches failure detection off without a word (contract D43); here the file is refused, with all that is wrong with
//! it.

use std::fmt;

use kit::Duration;
use serde_json::{Map, Value};

use crate::duration::go_duration;
use crate::wire::{Compression, Plaintext};

/// How a member behaves in time; the fields are memberlist's. Defaults are [`Profile::LAN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How long a connection may take, from dialing to its end.
    pub tcp_timeout: Duration,
    /// How many members are asked to ping a member that did not answer.
    pub indirect_checks: usize,
    /// A message is sent on this many times, times the logarithm of the number of members.
    pub retransmit_mult: u32,
    /// A suspect has so many probe intervals, times the logarithm of the number of members, to say that it lives.
    pub suspicion_mult: u32,
    /// While nobody else suspects it too, it has so many times that.
    pub suspicion_max_timeout_mult: u32,
    /// The time between exchanges of all members; none for never.
    pub push_pull_interval: Option<Duration>,
    /// The time between probes.
    pub probe_interval: Duration,
    /// How long a probed member has to answer before others are asked to ping it.
    pub probe_timeout: Duration,
    /// Whether a member that did not answer is pinged over TCP too.
    pub tcp_pings: TcpPings,
    /// The probe interval grows at most to so many times its length while this member itself is not well.
    pub awareness_max_multiplier: u32,
    /// The time between rounds of gossip.
    pub gossip_interval: Duration,
    /// To how many members a round goes.
    pub gossip_nodes: usize,
    /// How long the dead are told too, and kept.
    pub gossip_to_the_dead_time: Duration,
    /// What becomes of what is not encrypted, once there is a key.
    pub incoming: Plaintext,
    /// Whether what is sent is encrypted, once there is a key.
    pub outgoing: Outgoing,
    /// Whether messages are compressed.
    pub compression: Compression,
    /// The most bytes of a packet that is put together of several messages.
    pub udp_buffer_size: usize,
}

/// Whether pings go over TCP too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpPings {
    /// When there was no answer over UDP.
    Fallback,
    /// Never.
    Off,
}

/// Whether what is sent is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// With the first key, if there is one.
    Encrypted,
    /// Not even then: for a cluster on its way to encryption.
    Plaintext,
}

impl Profile {
    /// For members within one network.
    pub const LAN: Profile = Profile {
        tcp_timeout: Duration::from_secs(10),
        indirect_checks: 3,
        retransmit_mult: 4,
        suspicion_mult: 4,
        suspicion_max_timeout_mult: 6,
        push_pull_interval: Some(Duration::from_secs(30)),
        probe_interval: Duration::from_secs(1),
        probe_timeout: Duration::from_millis(500),
        tcp_pings: TcpPings::Fallback,
        awareness_max_multiplier: 8,
        gossip_interval: Duration::from_millis(200),
        gossip_nodes: 3,
        gossip_to_the_dead_time: Duration::from_secs(30),
        incoming: Plaintext::Refused,
        outgoing: Outgoing::Encrypted,
        compression: Compression::Lzw,
        udp_buffer_size: 1400,
    };

    /// For members far from each other (`--ml-wan-config`).
    pub const WAN: Profile = Profile {
        tcp_timeout: Duration::from_secs(30),
        suspicion_mult: 6,
        push_pull_interval: Some(Duration::from_secs(60)),
        probe_interval: Duration::from_secs(5),
        probe_timeout: Duration::from_secs(3),
        gossip_interval: Duration::from_millis(500),
        gossip_nodes: 4,
        gossip_to_the_dead_time: Duration::from_secs(60),
        ..Profile::LAN
    };

    /// Reads the file of a custom profile. All keys must be there; those that are unknown are ignored, and upper and
    /// lower case are the same, as in Go.
    pub fn from_json(text: &str) -> Result<Profile, ProfileError> {
        let value: Value = serde_json::from_str(text).map_err(|error| ProfileError::NotJson(error.to_string()))?;
        let Value::Object(object) = value else { return Err(ProfileError::NotAnObject) };
        let mut fields = Fields { object, problems: Vec::new() };
        let profile = fields.profile();
        if fields.problems.is_empty() { Ok(profile) } else { Err(ProfileError::Fields(fields.problems)) }
    }
}

/// Why a file is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The text is no JSON.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// It is something else than an object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// Keys are missing, or values wrong.
    #[error("{}", lines(.0))]
    Fields(Vec<FieldError>),
}

/// What is wrong with one key of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The key, in memberlist's spelling.
    pub key: &'static str,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

fn lines(problems: &[FieldError]) -> String {
    problems.iter().map(FieldError::to_string).collect::<Vec<_>>().join("; ")
}

/// The longest time that makes sense anywhere.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest number that makes sense for a multiplier or a count.
const COUNT_MAX: u64 = 1000;
/// Fewer bytes would not hold one message about a member with a long name.
const UDP_BUFFER_MIN: u64 = 512;
/// What IPv4 can carry.
const UDP_BUFFER_MAX: u64 = 65_507;

/// The keys of a file, and what was found wrong with them so far.
struct Fields {
    object: Map<String, Value>,
    problems: Vec<FieldError>,
}

impl Fields {
    fn profile(&mut self) -> Profile {
        // Two keys are checked and not used: our queues have limits of their own, and are looked at when asked.
        self.count("HandoffQueueDepth", 1, 10_000_000);
        self.duration("QueueCheckInterval", Duration::ZERO);
        let positive = Duration::from_millis(1);
        let push_pull_interval = self.duration("PushPullInterval", Duration::ZERO);
        Profile {
            tcp_timeout: self.duration("TCPTimeout", positive),
            indirect_checks: self.size("IndirectChecks", 0, COUNT_MAX),
            retransmit_mult: self.multiplier("RetransmitMult"),
            suspicion_mult: self.multiplier("SuspicionMult"),
            suspicion_max_timeout_mult: self.multiplier("SuspicionMaxTimeoutMult"),
            push_pull_interval: (!push_pull_interval.is_zero()).then_some(push_pull_interval),
            probe_timeout: self.duration("ProbeTimeout", positive),
            probe_interval: self.duration("ProbeInterval", positive),
            tcp_pings: if self.boolean("DisableTcpPings") { TcpPings::Off } else { TcpPings::Fallback },
            awareness_max_multiplier: self.multiplier("AwarenessMaxMultiplier"),
            gossip_nodes: self.size("GossipNodes", 1, COUNT_MAX),
            gossip_interval: self.duration("GossipInterval", positive),
            gossip_to_the_dead_time: self.duration("GossipToTheDeadTime", Duration::ZERO),
            incoming: if self.boolean("GossipVerifyIncoming") { Plaintext::Refused } else { Plaintext::Taken },
            outgoing: if self.boolean("GossipVerifyOutgoing") { Outgoing::Encrypted } else { Outgoing::Plaintext },
            compression: if self.boolean("EnableCompression") { Compression::Lzw } else { Compression::Off },
            udp_buffer_size: self.size("UDPBufferSize", UDP_BUFFER_MIN, UDP_BUFFER_MAX),
        }
    }

    fn refuse(&mut self, key: &'static str, problem: impl Into<String>) {
        self.problems.push(FieldError { key, problem: problem.into() });
    }

    fn get(&mut self, key: &'static str) -> Option<Value> {
        let exact = self.object.get(key);
        let found = exact.or_else(|| self.object.iter().find(|(it, _)| it.eq_ignore_ascii_case(key)).map(|(_, it)| it));
        let found = found.cloned();
        if found.is_none() {
            self.refuse(key, "it is missing");
        }
        found
    }

    /// A Go duration of at least `least`.
    fn duration(&mut self, key: &'static str, least: Duration) -> Duration {
        let Some(value) = self.get(key) else { return Duration::ZERO };
        let parsed = value.as_str().and_then(go_duration);
        match parsed {
            None => self.refuse(key, format!("{value} is no duration; write it as \"500ms\" or \"1m30s\"")),
            Some(duration) if duration < least => self.refuse(key, format!("{value} is too short")),
            Some(duration) if duration > DURATION_MAX => self.refuse(key, format!("{value} is more than a day")),
            Some(duration) => return duration,
        }
        Duration::ZERO
    }

    fn count(&mut self, key: &'static str, least: u64, most: u64) -> u64 {
        let Some(value) = self.get(key) else { return 0 };
        match value.as_u64() {
            Some(number) if (least..=most).contains(&number) => return number,
            Some(_) => self.refuse(key, format!("{value} is not between {least} and {most}")),
            None => self.refuse(key, format!("{value} is no whole number between {least} and {most}")),
        }
        0
    }

    fn size(&mut self, key: &'static str, least: u64, most: u64) -> usize {
        usize::try_from(self.count(key, least, most)).unwrap_or(0)
    }

    fn multiplier(&mut self, key: &'static str) -> u32 {
        u32::try_from(self.count(key, 1, COUNT_MAX)).unwrap_or(0)
    }

    fn boolean(&mut self, key: &'static str) -> bool {
        let Some(value) = self.get(key) else { return false };
        value.as_bool().unwrap_or_else(|| {
            self.refuse(key, format!("{value} is neither true nor false"));
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What MetalLB's documentation shows, which is the LAN profile.
    const FILE: &str = r#"{
        "TCPTimeout": "10s", "IndirectChecks": 3, "RetransmitMult": 4, "SuspicionMult": 4, "SuspicionMaxTimeoutMult": 6,
        "PushPullInterval": "30s", "ProbeTimeout": "500ms", "ProbeInterval": "1s", "DisableTcpPings": false,
        "AwarenessMaxMultiplier": 8, "GossipNodes": 3, "GossipInterval": "200ms", "GossipToTheDeadTime": "30s",
        "GossipVerifyIncoming": true, "GossipVerifyOutgoing": true, "EnableCompression": true,
        "HandoffQueueDepth": 1024, "UDPBufferSize": 1400, "QueueCheckInterval": "30s"
    }"#;

    fn with(key: &str, value: &str) -> Result<Profile, String> {
        let mut object: Map<String, Value> = serde_json::from_str(FILE).unwrap();
        object.insert(key.to_owned(), serde_json::from_str(value).unwrap());
        Profile::from_json(&Value::Object(object).to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn contract_5_2_the_whole_file_is_read() {
        assert_eq!(Profile::from_json(FILE), Ok(Profile::LAN));
        assert_eq!(Profile::from_json(&FILE.replace("TCPTimeout", "tcpTimeout")), Ok(Profile::LAN));
        assert_eq!(with("Extra", "1"), Ok(Profile::LAN));
        assert_eq!(with("PushPullInterval", "\"0\"").unwrap().push_pull_interval, None);
        assert_eq!(with("GossipVerifyIncoming", "false").unwrap().incoming, Plaintext::Taken);
    }

    #[test]
    fn contract_d43_nothing_becomes_zero_without_a_word() {
        for (key, value, problem) in [
            ("ProbeInterval", "\"soon\"", "ProbeInterval: \"soon\" is no duration; write it as \"500ms\" or \"1m30s\""),
            ("ProbeInterval", "1", "ProbeInterval: 1 is no duration; write it as \"500ms\" or \"1m30s\""),
            ("ProbeInterval", "\"0s\"", "ProbeInterval: \"0s\" is too short"),
            ("TCPTimeout", "\"300h\"", "TCPTimeout: \"300h\" is more than a day"),
            ("SuspicionMult", "0", "SuspicionMult: 0 is not between 1 and 1000"),
            ("SuspicionMult", "\"4\"", "SuspicionMult: \"4\" is no whole number between 1 and 1000"),
            ("GossipNodes", "-1", "GossipNodes: -1 is no whole number between 1 and 1000"),
            ("DisableTcpPings", "0", "DisableTcpPings: 0 is neither true nor false"),
            ("UDPBufferSize", "100000", "UDPBufferSize: 100000 is not between 512 and 65507"),
        ] {
            assert_eq!(with(key, value), Err(problem.to_owned()));
        }
    }

    #[test]
    fn contract_d43_all_that_is_missing_is_named() {
        let Err(ProfileError::Fields(problems)) = Profile::from_json("{}") else { panic!("nothing is there") };
        assert_eq!(problems.len(), 19);
        assert!(problems.iter().all(|it| it.problem == "it is missing"));
        assert!(matches!(Profile::from_json("{"), Err(ProfileError::NotJson(_))));
        assert_eq!(Profile::from_json("[]"), Err(ProfileError::NotAnObject));
    }
}
