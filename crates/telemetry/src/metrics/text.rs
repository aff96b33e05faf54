//! The text format of Prometheus, version 0.0.4, written piece by piece to whoever reads it.
//!
//! Written here, and not by a library: those build an object for each series and then one text of all of them, and with
//! five thousand Services there are sixty thousand series. promtool reads what is written, in the end-to-end tests.

use std::fmt::Write as _;

use tokio::sync::mpsc;

use super::{Metrics, SeriesType};

/// A piece ends with the series that makes it as long as this.
const PIECE_BYTES: usize = 64 * 1024;
/// Room for that series; a label can be long, and then the piece grows.
const SERIES_BYTES: usize = 1024;
/// Pieces that wait for the reader. Who writes waits for room.
pub const PIECES_WAITING_MAX: usize = 2;

/// Series being written.
#[derive(Debug)]
pub struct Text {
    reader: Reader,
    piece: String,
    /// Name and head of the family that was begun; the head is written with the first series.
    family: (String, String),
}

/// Where pieces go.
#[derive(Debug)]
enum Reader {
    /// All of them are wanted at once.
    Memory(String),
    /// Each is wanted as soon as it is there, and not too many before.
    Channel(mpsc::Sender<String>),
    /// Nobody wants them any more.
    Gone,
}

impl Text {
    fn new(reader: Reader) -> Text {
        Text { reader, piece: String::new(), family: Default::default() }
    }

    /// Begins a family: all its series follow, and no other family of its name. One without series is left out.
    pub fn family(&mut self, name: &str, type_: SeriesType, help: &str) {
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        let head = format!("# HELP {name} {help}\n# TYPE {name} {}\n", type_.as_str());
        self.family = (name.to_owned(), head);
    }

    /// Writes one series of the family begun last. No two have the same labels.
    pub fn series<const N: usize>(&mut self, labels: [(&str, &str); N], value: f64) {
        if matches!(self.reader, Reader::Gone) {
            return;
        }
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE_BYTES.saturating_add(SERIES_BYTES));
        }
        self.piece.push_str(&std::mem::take(&mut self.family.1));
        self.piece.push_str(&self.family.0);
        for (number, (label, value)) in labels.into_iter().enumerate() {
            self.piece.push(if number == 0 { '{' } else { ',' });
            self.piece.push_str(label);
            self.piece.push_str("=\"");
            push_escaped(&mut self.piece, value);
            self.piece.push('"');
        }
        if N > 0 {
            self.piece.push('}');
        }
        // A string takes all that is written to it.
        let _written = match value {
            f64::INFINITY => writeln!(self.piece, " +Inf"),
            f64::NEG_INFINITY => writeln!(self.piece, " -Inf"),
            value => writeln!(self.piece, " {value}"),
        };
        if self.piece.len() >= PIECE_BYTES {
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return;
        }
        match &mut self.reader {
            Reader::Memory(text) => text.push_str(&piece),
            Reader::Channel(sender) => {
                if sender.blocking_send(piece).is_err() {
                    self.reader = Reader::Gone;
                }
            }
            Reader::Gone => {}
        }
    }

    fn write(mut self, sets: &[&dyn Metrics]) -> Reader {
        for set in sets {
            set.write(&mut self);
        }
        self.pass_on();
        self.reader
    }
}

/// All series of these, in the text format 0.0.4.
pub fn render(sets: &[&dyn Metrics]) -> String {
    match Text::new(Reader::Memory(String::new())).write(sets) {
        Reader::Memory(text) => text,
        Reader::Channel(_) | Reader::Gone => String::new(),
    }
}

/// The same, piece by piece; waits while the reader has enough, so it is for a thread that may wait. Ends early when the
/// reader is gone.
pub fn render_into(sets: &[&dyn Metrics], reader: mpsc::Sender<String>) {
    Text::new(Reader::Channel(reader)).write(sets);
}

fn push_escaped(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str(r"\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str(r"\n"),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn memory() -> Text {
        Text::new(Reader::Memory(String::new()))
    }

    fn finish(text: Text) -> String {
        match text.write(&[]) {
            Reader::Memory(text) => text,
            Reader::Channel(_) | Reader::Gone => panic!("it was to be kept"),
        }
    }

    #[test]
    fn labels_and_help_are_escaped() {
        let mut text = memory();
        text.family("a_total", SeriesType::Counter, "with \\ and\nnew line");
        text.series([("x", "back\\slash \"quotes\"\nline"), ("y", "ü")], 1.0);
        text.series([("x", ""), ("y", "")], 0.25);
        text.family("none", SeriesType::Gauge, "nothing is known");
        text.family("b", SeriesType::Gauge, "alone");
        text.series([], -3.0);
        expect![[r#"
            # HELP a_total with \\ and\nnew line
            # TYPE a_total counter
            a_total{x="back\\slash \"quotes\"\nline",y="ü"} 1
            a_total{x="",y=""} 0.25
            # HELP b alone
            # TYPE b gauge
            b -3
        "#]]
        .assert_eq(&finish(text));
    }

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e-9, "0.000000001"),
            (1_700_000_123.45, "1700000123.45"),
            (9_223_372_036_854_775_807.0, "9223372036854776000"), // as near as it gets
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut text = memory();
            text.family("a", SeriesType::Gauge, "b");
            text.series([], value);
            let text = finish(text);
            let written = text.lines().last().unwrap().strip_prefix("a ").unwrap();
            assert_eq!(written, expected);
        }
    }

    /// Many series, the last of which is longer than a piece.
    struct Many;

    impl Metrics for Many {
        fn write(&self, text: &mut Text) {
            text.family("a", SeriesType::Gauge, "b");
            for number in 0..20_000_u16 {
                text.series([("number", &number.to_string())], 1.0);
            }
            text.series([("number", &"x".repeat(3 * PIECE_BYTES))], 1.0);
        }
    }

    #[test]
    fn pieces_end_between_series_and_lose_nothing() {
        let (sender, mut receiver) = mpsc::channel(PIECES_WAITING_MAX);
        let writer = std::thread::spawn(move || render_into(&[&Many], sender));
        let pieces: Vec<String> = std::iter::from_fn(|| receiver.blocking_recv()).collect();
        writer.join().unwrap();
        assert!(pieces.len() > 3);
        assert!(pieces.iter().all(|piece| piece.ends_with('\n')));
        let short = pieces.iter().filter(|piece| piece.capacity() <= PIECE_BYTES + SERIES_BYTES).count();
        assert_eq!(short, pieces.len() - 1, "but for the one with the long label");
        let text = pieces.concat();
        assert_eq!(text, render(&[&Many]));
        assert_eq!(text.lines().count(), 2 + 20_000 + 1);
        assert_eq!(text.matches("# TYPE").count(), 1);
        assert!(text.contains("a{number=\"19999\"} 1\n"));
    }

    #[test]
    fn who_is_gone_is_not_written_for() {
        let (sender, mut receiver) = mpsc::channel(PIECES_WAITING_MAX);
        let writer = std::thread::spawn(move || render_into(&[&Many], sender));
        assert!(receiver.blocking_recv().is_some());
        drop(receiver);
        writer.join().unwrap();
    }
}
