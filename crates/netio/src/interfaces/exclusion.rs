//! The operator's list of interfaces that never announce (`announcedInterfacesToExclude`, contract 5.3).

use l2::Exclusion;
use regex_lite::Regex;

/// Patterns for names of interfaces; each matches anywhere in a name unless it is anchored.
#[derive(Clone, Debug)]
pub struct Exclusions {
    patterns: Vec<Regex>,
}

/// A pattern that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("invalid pattern {pattern:?} in announcedInterfacesToExclude")]
pub struct ExclusionError {
    pattern: String,
    #[source]
    source: regex_lite::Error,
}

impl Exclusions {
    /// No interface is excluded, as when there is no list.
    pub fn none() -> Self {
        Exclusions { patterns: Vec::new() }
    }

    /// Understands the patterns of the list: regular expressions in the syntax of Go, but for Unicode classes.
    pub fn compile<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, ExclusionError> {
        let compile = |pattern: &str| {
            Regex::new(pattern).map_err(|source| ExclusionError { pattern: pattern.to_owned(), source })
        };
        Ok(Exclusions { patterns: patterns.into_iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// Whether the interface of this name may announce.
    pub fn decide(&self, name: &str) -> Exclusion {
        if self.patterns.iter().any(|pattern| pattern.is_match(name)) {
            Exclusion::Excluded
        } else {
            Exclusion::Allowed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contract 5.3.
    const DEFAULT: [&str; 14] = [
        "^docker.*",
        "^cbr.*",
        "^dummy.*",
        "^virbr.*",
        "^lxcbr.*",
        "^veth.*",
        "^lo$",
        "^cali.*",
        "^tunl.*",
        "^flannel.*",
        "^kube-ipvs.*",
        "^cni.*",
        "^nodelocaldns.*",
        "^lxc.*",
    ];

    #[test]
    fn contract_5_3_the_default_list() {
        let exclusions = Exclusions::compile(DEFAULT).unwrap();
        for name in ["docker0", "veth12ab", "lo", "cali0", "kube-ipvs0", "lxcbr0", "cni0", "lxc_health", "flannel.1"] {
            assert_eq!(exclusions.decide(name), Exclusion::Excluded, "{name}");
        }
        for name in ["eth0", "lo0", "eno1", "bond0", "br-docker0", "wlan0", "ens3.100"] {
            assert_eq!(exclusions.decide(name), Exclusion::Allowed, "{name}");
        }
    }

    #[test]
    fn a_pattern_matches_anywhere_unless_it_is_anchored() {
        let exclusions = Exclusions::compile(["th[0-9]", r"\d{3}$"]).unwrap();
        assert_eq!(exclusions.decide("eth7"), Exclusion::Excluded);
        assert_eq!(exclusions.decide("ens3.100"), Exclusion::Excluded);
        assert_eq!(exclusions.decide("ens3.10"), Exclusion::Allowed);
    }

    #[test]
    fn without_a_list_nothing_is_excluded() {
        assert_eq!(Exclusions::none().decide("lo"), Exclusion::Allowed);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Exclusions::compile(["^lo$", "eth(", "x"]).unwrap_err();
        assert_eq!(error.to_string(), r#"invalid pattern "eth(" in announcedInterfacesToExclude"#);
    }
}
