//! Label selectors: from what is written to what is meant (contract 4.2 rules 7 and 8).

use std::collections::{BTreeMap, BTreeSet};

use api::{LabelSelector, LabelSelectorRequirement};
use kit::{Requirement, Selector, SelectorList};

use crate::finding::Report;

/// The longest name of a label and the longest value, in characters.
const LABEL_PART_MAX: usize = 63;
/// The longest DNS name in front of the name of a label.
const LABEL_PREFIX_MAX: usize = 253;

/// Reads a list of selectors at `/spec/...`; what is wrong with them is reported.
pub(crate) fn selector_list(list: &[LabelSelector], pointer: &str, report: &mut Report) -> SelectorList {
    let field = pointer.rsplit('/').next().unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut selectors = Vec::with_capacity(list.len());
    for (position, written) in list.iter().enumerate() {
        let pointer = format!("{pointer}/{position}");
        selectors.push(selector(written, &pointer, report));
        if !seen.insert(normal_form(written)) {
            report
                .error(
                    "duplicate-selector",
                    pointer,
                    format!("duplicate definition of {field}: the same selector is there twice"),
                )
                .hint("remove one of them");
        }
    }
    SelectorList(selectors)
}

/// Reads one selector.
pub(crate) fn selector(written: &LabelSelector, pointer: &str, report: &mut Report) -> Selector {
    let mut requirements = Vec::new();
    for (key, value) in &written.match_labels {
        let pointer = format!("{pointer}/matchLabels/{}", api::escape(key));
        check_key(key, &pointer, report);
        check_value(value, &pointer, report);
        requirements.push(Requirement::In(key.clone(), BTreeSet::from([value.clone()])));
    }
    let mut seen = BTreeSet::new();
    for (position, expression) in written.match_expressions.iter().enumerate() {
        let pointer = format!("{pointer}/matchExpressions/{position}");
        if !seen.insert(normal_expression(expression)) {
            report
                .error(
                    "duplicate-expression",
                    &pointer,
                    "duplicate definition of matchExpressions: the same condition is there twice",
                )
                .hint("remove one of them");
        }
        requirements.extend(requirement(expression, &pointer, report));
    }
    Selector::new(requirements)
}

fn requirement(expression: &LabelSelectorRequirement, pointer: &str, report: &mut Report) -> Option<Requirement> {
    let LabelSelectorRequirement { key, operator, values } = expression;
    check_key(key, &format!("{pointer}/key"), report);
    let mut set = BTreeSet::new();
    for (position, value) in values.iter().enumerate() {
        let pointer = format!("{pointer}/values/{position}");
        check_value(value, &pointer, report);
        if !set.insert(value.clone()) {
            report
                .error("duplicate-value", pointer, format!("duplicate definition of values: {value:?} is there twice"))
                .hint("remove one of them");
        }
    }
    match (operator.as_str(), values.is_empty()) {
        ("In", false) => return Some(Requirement::In(key.clone(), set)),
        ("NotIn", false) => return Some(Requirement::NotIn(key.clone(), set)),
        ("Exists", true) => return Some(Requirement::Exists(key.clone())),
        ("DoesNotExist", true) => return Some(Requirement::DoesNotExist(key.clone())),
        ("In" | "NotIn", true) => {
            report
                .error("invalid-selector", pointer, format!("invalid selector: {operator} needs values"))
                .hint("name at least one value, or use Exists or DoesNotExist");
        }
        ("Exists" | "DoesNotExist", false) => {
            report
                .error(
                    "invalid-selector",
                    format!("{pointer}/values"),
                    format!("invalid selector: {operator} takes no values"),
                )
                .hint("remove the values, or use In or NotIn");
        }
        _ => {
            report
                .error(
                    "invalid-selector",
                    format!("{pointer}/operator"),
                    format!("invalid selector: unknown operator {operator:?}"),
                )
                .hint("use In, NotIn, Exists or DoesNotExist");
        }
    }
    None
}

fn check_key(key: &str, pointer: &str, report: &mut Report) {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_prefix = |prefix: &str| {
        let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        prefix.len() <= LABEL_PREFIX_MAX
            && prefix.split('.').all(|label| {
                label.starts_with(is_end) && label.ends_with(is_end) && label.chars().all(|c| is_end(c) || c == '-')
            })
    };
    if !(is_label_part(name) && prefix.is_none_or(is_prefix)) {
        report
            .error("invalid-selector", pointer, format!("invalid selector: {key:?} cannot be the key of a label"))
            .hint("a key is up to 63 letters, digits, '-', '_' and '.', after an optional DNS name and '/'");
    }
}

fn check_value(value: &str, pointer: &str, report: &mut Report) {
    if !(value.is_empty() || is_label_part(value)) {
        report
            .error("invalid-selector", pointer, format!("invalid selector: {value:?} cannot be the value of a label"))
            .hint("a value is up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends");
    }
}

fn is_label_part(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    text.len() <= LABEL_PART_MAX
        && text.starts_with(is_end)
        && text.ends_with(is_end)
        && text.chars().all(|c| is_end(c) || matches!(c, '-' | '_' | '.'))
}

type NormalExpression<'a> = (&'a str, &'a str, Vec<&'a str>);

/// A selector in a form in which two that say the same in another order are equal.
fn normal_form(selector: &LabelSelector) -> (&BTreeMap<String, String>, Vec<NormalExpression<'_>>) {
    let mut expressions: Vec<_> = selector.match_expressions.iter().map(normal_expression).collect();
    expressions.sort_unstable();
    (&selector.match_labels, expressions)
}

fn normal_expression(expression: &LabelSelectorRequirement) -> NormalExpression<'_> {
    let mut values: Vec<&str> = expression.values.iter().map(String::as_str).collect();
    values.sort_unstable();
    (&expression.key, &expression.operator, values)
}
