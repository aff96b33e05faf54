//! Which TLS is spoken: the three flags of contract 7.1, parsed and put together.
//!
//! The lists may name what the Go implementation can and this one cannot (CBC suites, P-521). Leaving those out makes TLS
//! stricter and never weaker, so a list with something left is accepted, and [`TlsPolicy::left_out`] says what is gone.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, ALL_CIPHER_SUITES, ALL_KX_GROUPS};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::ResolvesServerCert;
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version};

/// The lowest version that is spoken (`--tls-min-version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// `VersionTLS12`.
    Tls12,
    /// `VersionTLS13`, and what the empty text means.
    Tls13,
}

/// Suites for TLS 1.2 (`--tls-cipher-suites`); those of TLS 1.3 cannot be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CipherSuites {
    /// None for all.
    chosen: Option<Vec<&'static str>>,
    left_out: Vec<String>,
}

/// Groups for the key exchange, the most wanted first (`--tls-curve-preferences`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Curves {
    /// None for the usual ones.
    chosen: Option<Vec<u16>>,
    left_out: Vec<String>,
}

/// Why the flags cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsPolicyError {
    /// Not one of the two versions.
    #[error("{0:?} is not a version of TLS that is served; use VersionTLS12 or VersionTLS13")]
    UnknownVersion(String),
    /// Neither a suite of ours nor one of the Go implementation.
    #[error("{0:?} is not a cipher suite; those for TLS 1.2 are {suites}", suites = names_12().join(", "))]
    UnknownCipherSuite(String),
    /// Nothing is left of the list.
    #[error("none of the cipher suites {0} is served; those for TLS 1.2 are {suites}", suites = names_12().join(", "))]
    NoCipherSuite(String),
    /// TLS 1.3 has suites of its own, all of which are safe.
    #[error("--tls-cipher-suites is for TLS 1.2, but the minimum version is 1.3; add --tls-min-version VersionTLS12")]
    CipherSuitesWithTls13,
    /// Not a number.
    #[error("{0:?} is not the number of a curve (1 to 65535); those served are {curves}", curves = served_curves())]
    NoCurveNumber(String),
    /// Said twice.
    #[error("curve {0} is there twice")]
    CurveTwice(u16),
    /// A number that is not known.
    #[error("curve {0} is not known; those served are {curves}", curves = served_curves())]
    UnknownCurve(u16),
    /// Nothing is left of the list.
    #[error("none of the curves {0} is served; those served are {curves}", curves = served_curves())]
    NoCurve(String),
}

/// The Go implementation's suites that rustls leaves out: without forward secrecy, with CBC, 3DES or RC4.
const SUITES_OF_GO: [&str; 16] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// Other names of suites, which Kubernetes takes as well.
const SUITE_ALIASES: [(&str, &str); 2] = [
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// The Go implementation's curves that rustls leaves out: P-521, and the largest hybrid one.
const CURVES_OF_GO: [u16; 2] = [25, 4589];

/// Numbers and names of the curves that are served (IANA's "TLS Supported Groups").
const CURVES: [(u16, &str); 5] =
    [(23, "P-256"), (24, "P-384"), (29, "X25519"), (4587, "P-256 with ML-KEM-768"), (4588, "X25519 with ML-KEM-768")];

impl FromStr for TlsVersion {
    type Err = TlsPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" | "VersionTLS13" => Ok(TlsVersion::Tls13),
            "VersionTLS12" => Ok(TlsVersion::Tls12),
            other => Err(TlsPolicyError::UnknownVersion(other.to_owned())),
        }
    }
}

impl FromStr for CipherSuites {
    type Err = TlsPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(CipherSuites::default());
        }
        let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
        for name in text.split(',').map(str::trim) {
            let name = SUITE_ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
            if let Some(ours) = ALL_CIPHER_SUITES.iter().map(|suite| name_of(*suite)).find(|ours| *ours == name) {
                chosen.push(ours);
            } else if SUITES_OF_GO.contains(&name) {
                left_out.push(name.to_owned());
            } else {
                return Err(TlsPolicyError::UnknownCipherSuite(name.to_owned()));
            }
        }
        if chosen.is_empty() {
            return Err(TlsPolicyError::NoCipherSuite(left_out.join(", ")));
        }
        Ok(CipherSuites { chosen: Some(chosen), left_out })
    }
}

impl FromStr for Curves {
    type Err = TlsPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Curves::default());
        }
        let (mut seen, mut chosen, mut left_out) = (BTreeSet::new(), Vec::new(), Vec::new());
        for number in text.split(',').map(str::trim) {
            let wrong = || TlsPolicyError::NoCurveNumber(number.to_owned());
            let number: u16 = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
            if !seen.insert(number) {
                return Err(TlsPolicyError::CurveTwice(number));
            }
            if group_of(number).is_some() {
                chosen.push(number);
            } else if CURVES_OF_GO.contains(&number) {
                left_out.push(number.to_string());
            } else {
                return Err(TlsPolicyError::UnknownCurve(number));
            }
        }
        if chosen.is_empty() {
            return Err(TlsPolicyError::NoCurve(left_out.join(", ")));
        }
        Ok(Curves { chosen: Some(chosen), left_out })
    }
}

/// Which TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    version: TlsVersion,
    cipher_suites: CipherSuites,
    curves: Curves,
}

impl TlsPolicy {
    /// The three flags together.
    pub fn new(version: TlsVersion, cipher_suites: CipherSuites, curves: Curves) -> Result<TlsPolicy, TlsPolicyError> {
        if cipher_suites.chosen.is_some() && version == TlsVersion::Tls13 {
            return Err(TlsPolicyError::CipherSuitesWithTls13);
        }
        Ok(TlsPolicy { version, cipher_suites, curves })
    }

    /// What was asked for and is not served: cipher suites by name, curves by number.
    pub fn left_out(&self) -> Vec<&str> {
        self.cipher_suites.left_out.iter().chain(&self.curves.left_out).map(String::as_str).collect()
    }

    /// The configuration of a server that speaks HTTP/1.1 by it.
    pub(crate) fn server_config(
        &self,
        certificates: Arc<impl ResolvesServerCert + 'static>,
    ) -> Result<ServerConfig, rustls::Error> {
        let versions: &[&SupportedProtocolVersion] = match self.version {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(self.provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(chosen) = &self.cipher_suites.chosen {
            provider.cipher_suites.retain(|suite| !is_for_12(*suite) || chosen.contains(&name_of(*suite)));
        }
        if let Some(chosen) = &self.curves.chosen {
            provider.kx_groups = chosen.iter().filter_map(|number| group_of(*number)).collect();
        }
        provider
    }
}

impl fmt::Display for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.version {
            TlsVersion::Tls12 => "TLS 1.2 and 1.3",
            TlsVersion::Tls13 => "TLS 1.3",
        })
    }
}

/// The name under which IANA has a suite; those of TLS 1.3 are called otherwise in rustls.
fn name_of(suite: SupportedCipherSuite) -> &'static str {
    let name = suite.suite().as_str().unwrap_or_default();
    match name {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        name => name,
    }
}

fn is_for_12(suite: SupportedCipherSuite) -> bool {
    matches!(suite, SupportedCipherSuite::Tls12(_))
}

fn names_12() -> Vec<&'static str> {
    ALL_CIPHER_SUITES.iter().filter(|suite| is_for_12(**suite)).map(|suite| name_of(*suite)).collect()
}

fn group_of(number: u16) -> Option<&'static dyn SupportedKxGroup> {
    CURVES.iter().find(|(curve, _)| *curve == number)?;
    ALL_KX_GROUPS.iter().copied().find(|group| u16::from(group.name()) == number)
}

fn served_curves() -> String {
    CURVES.map(|(number, name)| format!("{number} ({name})")).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(version: &str, suites: &str, curves: &str) -> Result<TlsPolicy, TlsPolicyError> {
        TlsPolicy::new(version.parse()?, suites.parse()?, curves.parse()?)
    }

    /// What is left of it.
    fn text(version: &str, suites: &str, curves: &str) -> String {
        match policy(version, suites, curves) {
            Err(error) => error.to_string(),
            Ok(policy) => {
                let provider = policy.provider();
                let suites: Vec<_> =
                    provider.cipher_suites.iter().filter(|it| is_for_12(**it)).map(|it| name_of(*it)).collect();
                let curves: Vec<_> = provider.kx_groups.iter().map(|it| u16::from(it.name()).to_string()).collect();
                format!("{policy}; {}; {}; {}", suites.join(" "), curves.join(" "), policy.left_out().join(" "))
            }
        }
    }

    #[test]
    fn nothing_said_is_tls_1_3_with_what_is_usual() {
        let usual: Vec<_> =
            aws_lc_rs::DEFAULT_KX_GROUPS.iter().map(|group| u16::from(group.name()).to_string()).collect();
        assert_eq!(text("", "", ""), format!("TLS 1.3; {}; {}; ", names_12().join(" "), usual.join(" ")));
        assert_eq!(text("VersionTLS13", "", "29"), format!("TLS 1.3; {}; 29; ", names_12().join(" ")));
    }

    #[test]
    fn lists_choose_in_their_order_and_say_what_is_left_out() {
        let gcm = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        for (suites, curves, expected) in [
            (gcm, "24, 23", format!("TLS 1.2 and 1.3; {gcm}; 24 23; ")),
            // TLS 1.3 keeps its own whatever is said of them.
            ("TLS_AES_128_GCM_SHA256", "29,4588", "TLS 1.2 and 1.3; ; 29 4588; ".to_owned()),
            (
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
                "4587",
                "TLS 1.2 and 1.3; TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256; 4587; ".to_owned(),
            ),
            (
                &format!("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, {gcm}"),
                "23,24,25,29",
                format!("TLS 1.2 and 1.3; {gcm}; 23 24 29; TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA 25"),
            ),
        ] {
            assert_eq!(text("VersionTLS12", suites, curves), expected);
        }
    }

    #[test]
    fn what_cannot_be_followed_is_said_with_what_can() {
        let suites = "those for TLS 1.2 are TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, \
                      TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, \
                      TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, \
                      TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256";
        let curves = "those served are 23 (P-256), 24 (P-384), 29 (X25519), 4587 (P-256 with ML-KEM-768), \
                      4588 (X25519 with ML-KEM-768)";
        let number = |text: &str| format!("{text:?} is not the number of a curve (1 to 65535); {curves}");
        for (flags, expected) in [
            (
                ["VersionTLS99", "", ""],
                "\"VersionTLS99\" is not a version of TLS that is served; use VersionTLS12 or VersionTLS13".to_owned(),
            ),
            (
                ["VersionTLS11", "", ""],
                "\"VersionTLS11\" is not a version of TLS that is served; use VersionTLS12 or VersionTLS13".to_owned(),
            ),
            (["VersionTLS12", "TLS_FAKE", ""], format!("\"TLS_FAKE\" is not a cipher suite; {suites}")),
            (["VersionTLS12", ",", ""], format!("\"\" is not a cipher suite; {suites}")),
            (
                ["VersionTLS12", "TLS_RSA_WITH_AES_128_CBC_SHA", ""],
                format!("none of the cipher suites TLS_RSA_WITH_AES_128_CBC_SHA is served; {suites}"),
            ),
            (
                ["VersionTLS13", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", ""],
                TlsPolicyError::CipherSuitesWithTls13.to_string(),
            ),
            (["", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", ""], TlsPolicyError::CipherSuitesWithTls13.to_string()),
            (["", "", "X25519"], number("X25519")),
            (["", "", "99999"], number("99999")),
            (["", "", "-1"], number("-1")),
            (["", "", "0"], number("0")),
            (["", "", "29,"], number("")),
            (["", "", "29,23,29"], "curve 29 is there twice".to_owned()),
            (["", "", "65535"], format!("curve 65535 is not known; {curves}")),
            (["", "", "25,4589"], format!("none of the curves 25, 4589 is served; {curves}")),
        ] {
            let [version, suites, curves] = flags;
            assert_eq!(policy(version, suites, curves).unwrap_err().to_string(), expected, "{flags:?}");
        }
    }

    #[test]
    fn every_curve_of_the_table_is_there() {
        assert!(CURVES.iter().all(|(number, _)| group_of(*number).is_some()));
        assert!(CURVES_OF_GO.iter().all(|number| group_of(*number).is_none()));
    }
}
