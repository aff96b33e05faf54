//! One family of series: its name, type, labels and text, and how its value is read.

use super::Text;

/// What a family of series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesType {
    /// Only grows, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl SeriesType {
    /// As in the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            SeriesType::Counter => "counter",
            SeriesType::Gauge => "gauge",
        }
    }
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// MetalLB has it in every mode.
    MetalLb,
    /// MetalLB has it in native mode.
    Native,
    /// MetalLB has it in FRR mode, where another program serves it on another port.
    Frr,
    /// MetalLB has it in native and in FRR mode.
    NativeAndFrr,
    /// Programs for Kubernetes, or programs in general, have it.
    Common,
    /// MetalLB does not have it.
    Ours,
}

/// A family of series about things of type `T`, with `N` labels.
pub(super) struct Family<T, const N: usize> {
    pub(super) name: &'static str,
    pub(super) type_: SeriesType,
    pub(super) help: &'static str,
    pub(super) labels: [&'static str; N],
    pub(super) origin: Origin,
    pub(super) value: fn(&T) -> f64,
}

impl<T> Family<T, 0> {
    /// A number that goes up and down.
    pub(super) const fn gauge(origin: Origin, name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Self {
        Family { name, type_: SeriesType::Gauge, help, labels: [], origin, value }
    }

    /// A number that only grows.
    pub(super) const fn counter(origin: Origin, name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Self {
        Family { name, type_: SeriesType::Counter, help, labels: [], origin, value }
    }

    /// The same with labels.
    pub(super) const fn by<const N: usize>(self, labels: [&'static str; N]) -> Family<T, N> {
        let Family { name, type_, help, labels: [], origin, value } = self;
        Family { name, type_, help, labels, origin, value }
    }
}

/// Writes the families of a table: for each of them, one series for each row. `rows` gives each row, the values of its
/// labels and the thing it is about, to whom it is told.
pub(super) fn write<T, const N: usize>(
    text: &mut Text,
    families: &[Family<T, N>],
    rows: impl Fn(&mut dyn FnMut([&str; N], &T)),
) {
    for family in families {
        text.family(family.name, family.type_, family.help);
        rows(&mut |values, thing| {
            let mut labels = [("", ""); N];
            for (pair, label) in labels.iter_mut().zip(family.labels.iter().zip(values)) {
                *pair = (label.0, label.1);
            }
            text.series(labels, (family.value)(thing));
        });
    }
}

/// Writes the families of a table about one thing.
pub(super) fn write_one<T>(text: &mut Text, families: &[Family<T, 0>], thing: &T) {
    write(text, families, |row| row([], thing));
}

/// The same, without what is not a number.
pub(super) fn write_known<T>(text: &mut Text, families: &[Family<T, 0>], thing: &T) {
    for family in families.iter().filter(|family| !(family.value)(thing).is_nan()) {
        write_one(text, std::slice::from_ref(family), thing);
    }
}

/// A count as Prometheus has it.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other number; exact up to 2^53")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// A count that is not always known; then there is no series of it ([`write_known`]).
pub(super) fn known(count: Option<u64>) -> f64 {
    count.map_or(f64::NAN, number)
}

/// A truth as Prometheus has it.
pub(super) fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}
