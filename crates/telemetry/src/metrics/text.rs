//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write;

/// What a family of series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesType {
    /// Only grows, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Series being written.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family: all its series follow, and no other family of its name.
    pub fn family(&mut self, name: &str, type_: SeriesType, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let type_ = match type_ {
            SeriesType::Counter => "counter",
            SeriesType::Gauge => "gauge",
        };
        // A string takes all that is written to it, here and below.
        let _always_ok = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {type_}");
    }

    /// Writes one series. Labels without a value are left out: for Prometheus that is the same.
    pub fn series(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        let mut separator = '{';
        for (label, text) in labels.iter().filter(|(_, text)| !text.is_empty()) {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _always_ok = write!(self.0, "{separator}{label}=\"{text}\"");
            separator = ',';
        }
        if separator == ',' {
            self.0.push('}');
        }
        let _always_ok = writeln!(self.0, " {value}");
    }

    /// A family of one series without labels.
    pub fn single(&mut self, name: &str, type_: SeriesType, help: &str, value: impl std::fmt::Display) {
        self.family(name, type_, help);
        self.series(name, &[], value);
    }

    /// What was written.
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn labels_and_help_are_escaped() {
        let mut text = Text::default();
        text.family("a_total", SeriesType::Counter, "with \\ and\nnew line");
        text.series("a_total", &[("x", "back\\slash \"quotes\"\nline"), ("empty", ""), ("y", "ü")], 1);
        text.series("a_total", &[("empty", "")], 0.25);
        text.single("b", SeriesType::Gauge, "alone", -3);
        expect![[r#"
            # HELP a_total with \\ and\nnew line
            # TYPE a_total counter
            a_total{x="back\\slash \"quotes\"\nline",y="ü"} 1
            a_total 0.25
            # HELP b alone
            # TYPE b gauge
            b -3
        "#]]
        .assert_eq(&text.into_string());
    }
}
