//! Labels and the selectors over them (Kubernetes' meta/v1 LabelSelector, once validated).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// One condition on labels. The variants with values hold at least one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The label is there and has one of the values.
    In(String, BTreeSet<String>),
    /// The label is absent or has none of the values.
    NotIn(String, BTreeSet<String>),
    /// The label is there.
    Exists(String),
    /// The label is absent.
    DoesNotExist(String),
}

impl Requirement {
    /// True when the labels meet the condition.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match self {
            Requirement::In(key, values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Requirement::In(key, values) => write!(f, "{key} in ({})", list(values)),
            Requirement::NotIn(key, values) => write!(f, "{key} notin ({})", list(values)),
            Requirement::Exists(key) => write!(f, "{key}"),
            Requirement::DoesNotExist(key) => write!(f, "!{key}"),
        }
    }
}

/// Conditions that all have to hold; without any, everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(BTreeSet<Requirement>);

impl Selector {
    /// The selector with these conditions.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        Selector(requirements.into_iter().collect())
    }

    /// The selector that wants one label to have one value.
    pub fn label(key: impl Into<String>, value: impl Into<String>) -> Self {
        Selector::new([Requirement::In(key.into(), BTreeSet::from([value.into()]))])
    }

    /// True when the labels meet every condition.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }
}

impl fmt::Display for Selector {
    /// Writes the form that `kubectl --selector` reads; `<everything>` for no condition.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("<everything>");
        }
        for (position, requirement) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

/// Selectors of which one has to match; an empty list means everything (contract 1: "a list of selectors is always an OR").
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SelectorList(pub Vec<Selector>);

impl SelectorList {
    /// True when the list is empty or one of its selectors matches.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.is_empty() || self.any_matches(labels)
    }

    /// True when one of its selectors matches; never for an empty list.
    pub fn any_matches(&self, labels: &Labels) -> bool {
        self.0.iter().any(|selector| selector.matches(labels))
    }

    /// True when there is no selector in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn values(text: &str) -> BTreeSet<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn requirements_read_absent_labels_as_kubernetes_does() {
        let cases = [
            (Requirement::In("zone".into(), values("a,b")), "zone=a", true),
            (Requirement::In("zone".into(), values("a,b")), "zone=c", false),
            (Requirement::In("zone".into(), values("a,b")), "", false),
            (Requirement::NotIn("zone".into(), values("a")), "zone=a", false),
            (Requirement::NotIn("zone".into(), values("a")), "", true),
            (Requirement::Exists("zone".into()), "zone=", true),
            (Requirement::Exists("zone".into()), "", false),
            (Requirement::DoesNotExist("zone".into()), "", true),
            (Requirement::DoesNotExist("zone".into()), "zone=x", false),
        ];
        for (requirement, text, expected) in cases {
            assert_eq!(requirement.matches(&labels(text)), expected, "{requirement} on {text:?}");
        }
    }

    #[test]
    fn an_empty_selector_and_an_empty_list_match_everything() {
        assert!(Selector::default().matches(&labels("a=b")));
        assert!(SelectorList::default().matches(&Labels::new()));
        assert!(!SelectorList::default().any_matches(&Labels::new()));
    }

    #[test]
    fn a_list_is_an_or_and_a_selector_an_and() {
        let both = Selector::new([Requirement::In("app".into(), values("web")), Requirement::Exists("tier".into())]);
        assert!(!both.matches(&labels("app=web")));
        assert!(both.matches(&labels("app=web,tier=1")));
        let list = SelectorList(vec![both, Selector::label("app", "db")]);
        assert!(list.matches(&labels("app=db")));
        assert!(!list.matches(&labels("app=web")));
    }

    #[test]
    fn selectors_print_as_kubectl_reads_them() {
        let selector = Selector::new([
            Requirement::In("zone".into(), values("a,b")),
            Requirement::In("app".into(), values("web")),
            Requirement::DoesNotExist("gpu".into()),
        ]);
        assert_eq!(selector.to_string(), "app=web,zone in (a,b),!gpu");
        assert_eq!(Selector::default().to_string(), "<everything>");
    }
}
