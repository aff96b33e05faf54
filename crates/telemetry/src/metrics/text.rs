//! Series on their way into the text format of Prometheus, version 0.0.4.
//!
//! The `prometheus` crate has the format. Its registry is not used: the series here live and end with what they are about,
//! and a session outside of every VRF has no label `vrf`, while a registry wants the same labels on all series of a family.

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// What a family of series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesType {
    /// Only grows, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A value of a series. Prometheus knows one type of number, and so does this.
pub trait Number {
    /// The value as Prometheus has it.
    fn number(self) -> f64;
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

impl Number for u8 {
    fn number(self) -> f64 {
        f64::from(self)
    }
}

impl Number for u64 {
    #[expect(clippy::cast_precision_loss, reason = "there is no other number; exact up to 2^53")]
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for i64 {
    #[expect(clippy::cast_precision_loss, reason = "there is no other number; exact up to 2^53")]
    fn number(self) -> f64 {
        self as f64
    }
}

/// Series being written.
#[derive(Debug, Default)]
pub struct Text(Vec<MetricFamily>);

impl Text {
    /// Begins a family: all its series follow, and no other family of its name.
    pub fn family(&mut self, name: &str, type_: SeriesType, help: &str) {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(match type_ {
            SeriesType::Counter => MetricType::COUNTER,
            SeriesType::Gauge => MetricType::GAUGE,
        });
        self.0.push(family);
    }

    /// Writes one series of the family begun last. Labels without a value are left out: for Prometheus that is the same.
    pub fn series(&mut self, labels: &[(&str, &str)], value: impl Number) {
        let Some(family) = self.0.last_mut() else { return };
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().filter(|(_, value)| !value.is_empty()).map(pair).collect());
        if family.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value.number());
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value.number());
            metric.set_gauge(gauge);
        }
        family.mut_metric().push(metric);
    }

    /// A family of one series without labels.
    pub fn single(&mut self, name: &str, type_: SeriesType, help: &str, value: impl Number) {
        self.family(name, type_, help);
        self.series(&[], value);
    }

    /// What was written. Families without a series are left out.
    pub fn into_string(mut self) -> String {
        self.0.retain(|family| !family.get_metric().is_empty());
        // Encoding fails for families without a name or a series alone.
        TextEncoder::new().encode_to_string(&self.0).unwrap_or_default()
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
        text.series(&[("x", "back\\slash \"quotes\"\nline"), ("empty", ""), ("y", "ü")], 1_u64);
        text.series(&[("empty", "")], 0.25);
        text.single("b", SeriesType::Gauge, "alone", -3_i64);
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
