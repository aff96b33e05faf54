//! Series on their way into the text format of Prometheus, version 0.0.4.
//!
//! The `prometheus` crate has the format. Its registry is not used: the series here live and end with what they are
//! about.

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::{Metrics, SeriesType};

/// Series being written. Of a family that is complete only the text is kept.
#[derive(Debug, Default)]
pub struct Text {
    complete: String,
    family: Option<MetricFamily>,
}

impl Text {
    /// Begins a family: all its series follow, and no other family of its name.
    pub fn family(&mut self, name: &str, type_: SeriesType, help: &str) {
        self.complete_family();
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(match type_ {
            SeriesType::Counter => MetricType::COUNTER,
            SeriesType::Gauge => MetricType::GAUGE,
        });
        self.family = Some(family);
    }

    /// Writes one series of the family begun last. No two have the same labels.
    pub fn series(&mut self, labels: &[(&str, &str)], value: f64) {
        let Some(family) = &mut self.family else { return };
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        if family.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        family.mut_metric().push(metric);
    }

    /// A family without a series is left out.
    fn complete_family(&mut self) {
        if let Some(family) = self.family.take().filter(|family| !family.get_metric().is_empty()) {
            // Encoding fails for families without a name or a series alone.
            let _encoded = TextEncoder::new().encode_utf8(&[family], &mut self.complete);
        }
    }

    /// What was written.
    pub fn into_string(mut self) -> String {
        self.complete_family();
        self.complete
    }
}

/// All series of these, in the text format 0.0.4.
pub fn render(sets: &[&dyn Metrics]) -> String {
    let mut text = Text::default();
    for set in sets {
        set.write(&mut text);
    }
    text.into_string()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn labels_and_help_are_escaped() {
        let mut text = Text::default();
        text.family("a_total", SeriesType::Counter, "with \\ and\nnew line");
        text.series(&[("x", "back\\slash \"quotes\"\nline"), ("y", "ü")], 1.0);
        text.series(&[("x", ""), ("y", "")], 0.25);
        text.family("none", SeriesType::Gauge, "nothing is known");
        text.family("b", SeriesType::Gauge, "alone");
        text.series(&[], -3.0);
        expect![[r#"
            # HELP a_total with \\ and\nnew line
            # TYPE a_total counter
            a_total{x="back\\slash \"quotes\"\nline",y="ü"} 1
            a_total{x="",y=""} 0.25
            # HELP b alone
            # TYPE b gauge
            b -3
        "#]]
        .assert_eq(&text.into_string());
    }
}
