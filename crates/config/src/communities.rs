//! The rules of Community objects: names for BGP communities (contract 4.2 rules 24 and 25).

use std::collections::BTreeMap;

use api::{Kind, ObjectRef};
use kit::Community;

use crate::finding::{Finding, Report};
use crate::objects::Objects;

/// What each name stands for.
pub(crate) type Aliases<'a> = BTreeMap<&'a str, Alias>;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alias {
    /// A community.
    Known(Community),
    /// A value that cannot be read, which is reported where the name is defined and nowhere else.
    Broken,
}

/// Collects the names of all Community objects.
pub(crate) fn aliases<'a>(objects: &'a Objects, findings: &mut Vec<Finding>) -> Aliases<'a> {
    let mut aliases: Aliases<'a> = BTreeMap::new();
    let mut defined_in: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, object) in &objects.communities {
        let mut report = Report::new(ObjectRef { kind: Kind::Community, key: key.clone() });
        for (position, alias) in object.spec.communities.iter().enumerate() {
            let pointer = format!("/spec/communities/{position}");
            let name = alias.name.as_deref().unwrap_or_default();
            let value = match alias.value.as_deref().unwrap_or_default().parse::<Community>() {
                Ok(value) => Alias::Known(value),
                Err(error) => {
                    report
                        .error("community-value", format!("{pointer}/value"), error.to_string())
                        .hint("write 65000:100 or large:65000:1:2, in decimal numbers");
                    Alias::Broken
                }
            };
            if let Some(other) = defined_in.get(name) {
                let message =
                    format!("duplicate definition of community {name:?}, which Community {other:?} defines, too");
                report
                    .error("community-twice", format!("{pointer}/name"), message)
                    .hint("use another name, or remove one of them");
                continue;
            }
            if name.is_empty() {
                report
                    .warning("community-name", &pointer, "a community without a name cannot be used")
                    .hint("give it a name");
            }
            defined_in.insert(name, &key.name);
            aliases.insert(name, value);
        }
        findings.extend(report.into_findings());
    }
    aliases
}
