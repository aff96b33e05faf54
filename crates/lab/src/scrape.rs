//! Metrics as a scraper sees them: fetched with `curl`, and read from the text format of Prometheus.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{Host, http};

/// For one scrape; used up only when something is broken.
const SECONDS_MAX: &str = "30";

/// Fetches an address with `curl`, which believes any certificate. Without an answer it is an error, in curl's words.
pub fn fetch(host: &Host, url: &str, arguments: &[&str]) -> Result<http::Response> {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--insecure",
        "--max-time",
        SECONDS_MAX,
        "--write-out",
        "\n%{http_code}",
    ]);
    command.args(arguments).arg(url);
    let answer = host.output(command).context("is curl installed?")?.ok()?;
    let (body, status) = answer.rsplit_once('\n').context("no status from curl")?;
    Ok(http::Response { status: status.trim().parse()?, body: body.to_owned() })
}

/// The series of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Series(Vec<(String, BTreeMap<String, String>, f64)>);

impl Series {
    /// Reads the text format 0.0.4; of escapes in labels none is undone.
    pub fn parse(text: &str) -> Result<Series> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines
            .map(|line| series(line).with_context(|| format!("no series: {line:?}")))
            .collect::<Result<_>>()
            .map(Series)
    }

    /// The value of the one series of this name that has these labels among its own, as Prometheus selects it; none if
    /// there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<Option<f64>> {
        match self.select(name, labels).as_slice() {
            [] => Ok(None),
            [value] => Ok(Some(*value)),
            several => bail!("{name} with {labels:?} is there {} times", several.len()),
        }
    }

    /// How many series of this name have these labels among their own.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        self.select(name, labels).len()
    }

    fn select(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let has = |own: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| own.get(*label).is_some_and(|own| own == value))
        };
        self.0.iter().filter(|(own, labels, _)| own == name && has(labels)).map(|(_, _, value)| *value).collect()
    }
}

/// `name{label="value",...} 1`
fn series(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
    let pairs = labels.strip_suffix('}')?.split("\",").filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (label, value) = pair.split_once("=\"")?;
        Some((label.to_owned(), value.trim_end_matches('"').to_owned()))
    };
    Some((name.to_owned(), pairs.map(pair).collect::<Option<_>>()?, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn series_are_selected_by_some_of_their_labels() {
        let text = "# HELP a says what it is\n# TYPE a gauge\na{x=\"1\",y=\"b c,d\"} 2\na{x=\"2\",y=\"\"} 0.5\n\nb 7\n";
        let series = Series::parse(text).unwrap();
        for (name, labels, expected) in [
            ("a", &[("x", "1")][..], Some(2.0)),
            ("a", &[("y", "b c,d")], Some(2.0)),
            ("a", &[("x", "2"), ("y", "")], Some(0.5)),
            ("a", &[("x", "3")], None),
            ("b", &[], Some(7.0)),
            ("c", &[], None),
        ] {
            assert_eq!(series.value(name, labels).unwrap(), expected, "{name} {labels:?}");
        }
        assert!(series.value("a", &[]).is_err(), "there are two");
        assert_eq!(series.count("a", &[]), 2);
    }

    #[test]
    fn what_is_no_series_is_an_error() {
        for text in ["a", "a b", "a{x=\"1\" 1", "a{x} 1"] {
            assert!(Series::parse(text).is_err(), "{text}");
        }
    }
}
