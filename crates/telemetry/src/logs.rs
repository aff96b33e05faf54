//! Logs: what `tracing` is told, as lines of JSON with MetalLB's keys (contract 7.1), or as text for people.
//!
//! ```text
//! {"caller":"session.rs:12","level":"info","msg":"session is up","peer":"10.0.0.1:179","ts":"2026-11-22T13:00:00.123Z"}
//! 13:00:00.123 info  session.rs:12 session is up peer=10.0.0.1:179
//! ```
//!
//! - The message is constant and stands in `msg`; values stand in fields, under one name for one thing. `op` and
//!   `event` pass through like any other field.
//! - A message that others can cause at will (bytes from the network) carries the field `limited = true` where it is
//!   written: `tracing::warn!(limited = true, %peer, "malformed message")`. Of such a place some are written, and with
//!   the next one how many were not (`suppressed`).
//! - Who logs never waits: lines go to a thread through a bounded queue. When that is full, lines are dropped, counted,
//!   and the count is told.
//! - Of other crates only warnings and errors are shown, unless everything is asked for.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt::{self, Debug, Write as _};
use std::io::{self, Write as _};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::limit::Limiter;

/// Lines that wait for the thread that writes them. More are dropped.
const LINES_WAITING_MAX: usize = 8_192;
/// The field that marks a message whose rate is limited.
const LIMITED: &str = "limited";
/// Of one limited place in the code: lines at once,
const LIMITED_BURST: u32 = 5;
/// and the time for each further one.
const LIMITED_INTERVAL: Duration = Duration::from_secs(10);

/// The crates whose messages are shown at the level asked for.
const OUR_CRATES: [&str; 17] = [
    "api",
    "bfd",
    "bgp",
    "config",
    "controller",
    "gossip",
    "ipam",
    "kit",
    "l2",
    "lab",
    "metallb",
    "netio",
    "serve",
    "source",
    "speaker",
    "sys",
    "telemetry",
];

/// How much is logged (contract 7.1, `--log-level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Everything, also what other crates say in detail.
    All,
    /// From debugging messages on.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should look at.
    Warn,
    /// What does not work.
    Error,
    /// Nothing at all.
    None,
}

impl Level {
    /// The names, as the flag takes them.
    pub const NAMES: [&str; 6] = ["all", "debug", "info", "warn", "error", "none"];

    fn filter(self) -> LevelFilter {
        match self {
            Level::All => LevelFilter::TRACE,
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
            Level::None => LevelFilter::OFF,
        }
    }

    fn admits(self, metadata: &Metadata<'_>) -> bool {
        let name = metadata.target().split("::").next().unwrap_or_default();
        let is_ours = OUR_CRATES.contains(&name);
        let limit = if is_ours || self == Level::All { LevelFilter::TRACE } else { LevelFilter::WARN };
        *metadata.level() <= self.filter().min(limit)
    }
}

/// Not a level.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a log level; use all, debug, info, warn, error or none")]
pub struct LevelError(String);

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Level::All),
            "debug" => Ok(Level::Debug),
            "info" => Ok(Level::Info),
            "warn" => Ok(Level::Warn),
            "error" => Ok(Level::Error),
            "none" => Ok(Level::None),
            other => Err(LevelError(other.to_owned())),
        }
    }
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For programs.
    Json,
    /// For people at a terminal.
    Text,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Where MetalLB's components log.
    Stdout,
    /// For commands whose data goes to stdout.
    Stderr,
}

/// Logging has been started before.
#[derive(Debug, thiserror::Error)]
#[error("cannot start logging: {0}")]
pub struct LogsError(#[source] Box<dyn Error + Send + Sync>);

/// Starts logging for the whole process. Lines are written until the returned value is dropped, which waits for the
/// last.
pub fn init(level: Level, format: Format, output: Output) -> Result<Logs, LogsError> {
    let failed = |error: io::Error| LogsError(Box::new(error));
    let (sender, receiver) = channel();
    let queue = Queue { sender, counts: Arc::default() };
    let counts = queue.counts.clone();
    let thread = std::thread::Builder::new()
        .name("logs".to_owned())
        .spawn(move || write_lines(&receiver, &counts, format, output))
        .map_err(failed)?;
    let dropped_total = queue.counts.dropped_total.clone();
    let logs = Logs { sender: queue.sender.clone(), thread: Some(thread), dropped_total };
    tracing_subscriber::registry()
        .with(LogLayer { level, format, lines: queue, limiters: Mutex::default() })
        .try_init()
        .map_err(|error: TryInitError| LogsError(Box::new(error)))?;
    Ok(logs)
}

/// Keeps the logs being written.
#[derive(Debug)]
pub struct Logs {
    sender: Sender<Message>,
    thread: Option<JoinHandle<()>>,
    dropped_total: Arc<AtomicU64>,
}

impl Logs {
    /// How many lines were dropped because more came than could be written; it goes on counting.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped_total.clone()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // If the thread is gone already there is nothing to wait for.
        if self.sender.send(Message::End).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ended = thread.join();
        }
    }
}

enum Message {
    /// As long as it is and no longer: thousands may wait.
    Line(Box<str>),
    End,
}

/// The way to the thread that writes. Its limit is a count: a channel that has one of its own takes the room of as many lines
/// from the start.
struct Queue {
    sender: Sender<Message>,
    counts: Arc<Counts>,
}

/// What became of lines.
#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    /// Since it was last told.
    dropped: AtomicU64,
    /// Since the start.
    dropped_total: Arc<AtomicU64>,
}

/// Where a layer leaves its lines.
trait Lines: Send + Sync + 'static {
    fn push(&self, line: String);
}

impl Lines for Queue {
    fn push(&self, line: String) {
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) < LINES_WAITING_MAX {
            // When nobody writes any more, the program ends.
            let _sent = self.sender.send(Message::Line(line.into()));
        } else {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            self.counts.dropped_total.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_lines(lines: &Receiver<Message>, counts: &Counts, format: Format, output: Output) {
    let write = |line: &str| {
        // Nobody is left to be told when this fails.
        let _result = match output {
            Output::Stdout => io::stdout().lock().write_all(line.as_bytes()),
            Output::Stderr => io::stderr().lock().write_all(line.as_bytes()),
        };
    };
    while let Ok(Message::Line(line)) = lines.recv() {
        counts.waiting.fetch_sub(1, Ordering::Relaxed);
        write(&line);
        let dropped = counts.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let mut fields = Fields::default();
            fields.0.insert("dropped", dropped.into());
            write(&fields.line(
                format,
                "logs.rs:1",
                "warn",
                "log lines were dropped: more came than could be written",
                Timestamp::now(),
            ));
        }
    }
}

/// Makes lines of events.
struct LogLayer<L> {
    level: Level,
    format: Format,
    lines: L,
    limiters: Mutex<HashMap<Identifier, Limiter>>,
}

impl<S: Subscriber, L: Lines> Layer<S> for LogLayer<L> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.level.admits(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.level.admits(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.filter())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        if metadata.fields().field(LIMITED).is_some() {
            match self.admit(metadata.callsite()) {
                None => return,
                Some(0) => {}
                Some(suppressed) => {
                    fields.0.insert("suppressed", suppressed.into());
                }
            }
        }
        event.record(&mut fields);
        fields.0.remove(LIMITED);
        let message = match fields.0.remove("message") {
            Some(Value::String(message)) => message,
            _ => metadata.name().to_owned(),
        };
        let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let caller = format!("{file}:{}", metadata.line().unwrap_or_default());
        let level = match *metadata.level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            // MetalLB has no level below.
            tracing::Level::DEBUG | tracing::Level::TRACE => "debug",
        };
        self.lines.push(fields.line(self.format, &caller, level, &message, Timestamp::now()));
    }
}

impl<L> LogLayer<L> {
    /// Whether a message of this place may be written now; if so, how many were not. The map has one entry for each
    /// place in the code.
    fn admit(&self, place: Identifier) -> Option<u64> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        limiters.entry(place).or_insert_with(|| Limiter::new(LIMITED_BURST, LIMITED_INTERVAL)).admit(Instant::now())
    }
}

/// The values of an event.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, Value>);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // A string takes all that is written to it.
            let _always_ok = write!(text, ": {error}");
            cause = error.source();
        }
        self.0.insert(field.name(), text.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").into());
    }
}

impl Fields {
    /// A line with its end. The four keys of every line win over fields of the same names.
    fn line(mut self, format: Format, caller: &str, level: &str, message: &str, now: Timestamp) -> String {
        match format {
            Format::Json => {
                let ts = now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
                let keys = [("caller", caller), ("level", level), ("msg", message), ("ts", &ts)];
                self.0.extend(keys.map(|(key, value)| (key, Value::from(value))));
                let mut line = serde_json::to_string(&self.0).unwrap_or_default();
                line.push('\n');
                line
            }
            Format::Text => {
                let ts = now.strftime("%H:%M:%S%.3f");
                let fields: String = self.0.iter().map(|(name, value)| format!(" {name}={}", Plain(value))).collect();
                format!("{ts} {level:5} {caller} {}{fields}\n", printable(message))
            }
        }
    }
}

/// A value as people read it: in quotes only where it would run into the next one.
struct Plain<'a>(&'a Value);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => f.write_str(&printable(text)),
            Value::String(text) => write!(f, "{text:?}"),
            other => write!(f, "{other}"),
        }
    }
}

/// Text without characters that would do something to a terminal.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<String>>>);

    impl Lines for Memory {
        fn push(&self, line: String) {
            self.0.lock().unwrap().push(line);
        }
    }

    /// The lines of what is logged inside, with times and line numbers masked.
    fn logged(level: Level, format: Format, work: impl FnOnce()) -> String {
        let memory = Memory::default();
        let layer = LogLayer { level, format, lines: memory.clone(), limiters: Mutex::default() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let lines = memory.0.lock().unwrap().concat();
        lines.lines().map(|line| mask(line) + "\n").collect()
    }

    fn mask(line: &str) -> String {
        let mut masked = line.to_owned();
        if let Some(at) = masked.find("logs.rs:") {
            let digits = masked[at + 8..].chars().take_while(char::is_ascii_digit).count();
            masked.replace_range(at + 8..at + 8 + digits, "0");
        }
        if let Some(at) = masked.find("\"ts\":\"") {
            let end = at + 6 + "2026-11-22T13:00:00.123Z".len();
            assert_eq!(&masked[end - 1..=end], "Z\"", "{line}");
            masked.replace_range(at + 6..end, "T");
        } else {
            masked.replace_range(..12, "T");
        }
        masked
    }

    fn check(level: Level, format: Format, work: impl FnOnce(), expected: Expect) {
        expected.assert_eq(&logged(level, format, work));
    }

    fn samples() {
        let error = io::Error::other("no route");
        tracing::info!(op = "startup", event = "start", port = 179, load = 0.5, is_up = true, "speaker starting");
        tracing::warn!(error = %error, peer = ?"10.0.0.1", "a \"quoted\"\nmessage");
        tracing::error!(error = &error as &dyn Error, msg = "hidden", ts = 1, level = "x", "failed");
        tracing::debug!(r#type = "gossip", text = "two words", empty = "", "detail");
        tracing::trace!("more detail");
    }

    #[test]
    fn json_lines_have_the_keys_of_metallb() {
        check(
            Level::Debug,
            Format::Json,
            samples,
            expect![[r#"
                {"caller":"logs.rs:0","event":"start","is_up":true,"level":"info","load":0.5,"msg":"speaker starting","op":"startup","port":179,"ts":"T"}
                {"caller":"logs.rs:0","error":"no route","level":"warn","msg":"a \"quoted\"\nmessage","peer":"\"10.0.0.1\"","ts":"T"}
                {"caller":"logs.rs:0","error":"no route","level":"error","msg":"failed","ts":"T"}
                {"caller":"logs.rs:0","empty":"","level":"debug","msg":"detail","text":"two words","ts":"T","type":"gossip"}
            "#]],
        );
    }

    #[test]
    fn text_is_for_people() {
        check(
            Level::All,
            Format::Text,
            samples,
            expect![[r#"
                T info  logs.rs:0 speaker starting event=start is_up=true load=0.5 op=startup port=179
                T warn  logs.rs:0 a "quoted"\nmessage error="no route" peer="\"10.0.0.1\""
                T error logs.rs:0 failed error="no route" level=x msg=hidden ts=1
                T debug logs.rs:0 detail empty="" text="two words" type=gossip
                T debug logs.rs:0 more detail
            "#]],
        );
    }

    #[test]
    fn text_cannot_do_anything_to_a_terminal() {
        check(
            Level::Info,
            Format::Text,
            || tracing::info!(from_network = "\u{1b}[2J", "hello"),
            expect![[r#"
                T info  logs.rs:0 hello from_network=\u{1b}[2J
            "#]],
        );
    }

    #[test]
    fn levels_are_those_of_the_flag() {
        let counts = Level::NAMES.map(|name| logged(name.parse().unwrap(), Format::Json, samples).lines().count());
        assert_eq!(counts, [5, 4, 3, 2, 1, 0]);
        assert_eq!(
            "verbose".parse::<Level>().unwrap_err().to_string(),
            "\"verbose\" is not a log level; use all, debug, info, warn, error or none"
        );
    }

    #[test]
    fn of_other_crates_only_warnings_are_shown_unless_everything_is_asked_for() {
        let others = || {
            tracing::info!(target: "hyper::client", "detail");
            tracing::warn!(target: "hyper::client", "look");
        };
        assert_eq!(logged(Level::Debug, Format::Json, others).lines().count(), 1);
        assert_eq!(logged(Level::Error, Format::Json, others).lines().count(), 0);
        assert_eq!(logged(Level::All, Format::Json, others).lines().count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_others_can_cause_are_limited_and_counted() {
        let memory = Memory::default();
        let layer =
            LogLayer { level: Level::Info, format: Format::Json, lines: memory.clone(), limiters: Mutex::default() };
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let flood = |times| {
            for number in 0..times {
                tracing::warn!(limited = true, number, "malformed message");
            }
        };
        flood(100);
        tracing::warn!(limited = true, "another place has its own limit");
        tracing::warn!("no limit");
        tokio::time::advance(LIMITED_INTERVAL).await;
        flood(3);
        let lines: String = memory.0.lock().unwrap().iter().map(|line| mask(line)).collect();
        expect![[r#"
            {"caller":"logs.rs:0","level":"warn","msg":"malformed message","number":0,"ts":"T"}
            {"caller":"logs.rs:0","level":"warn","msg":"malformed message","number":1,"ts":"T"}
            {"caller":"logs.rs:0","level":"warn","msg":"malformed message","number":2,"ts":"T"}
            {"caller":"logs.rs:0","level":"warn","msg":"malformed message","number":3,"ts":"T"}
            {"caller":"logs.rs:0","level":"warn","msg":"malformed message","number":4,"ts":"T"}
            {"caller":"logs.rs:0","level":"warn","msg":"another place has its own limit","ts":"T"}
            {"caller":"logs.rs:0","level":"warn","msg":"no limit","ts":"T"}
            {"caller":"logs.rs:0","level":"warn","msg":"malformed message","number":0,"suppressed":95,"ts":"T"}
        "#]]
        .assert_eq(&lines);
    }

    #[test]
    fn who_logs_never_waits_and_drops_are_counted() {
        let (sender, receiver) = channel();
        let queue = Queue { sender, counts: Arc::default() };
        for _ in 0..LINES_WAITING_MAX + 3 {
            queue.push("line\n".to_owned());
        }
        assert_eq!(receiver.try_iter().count(), LINES_WAITING_MAX);
        assert_eq!(queue.counts.dropped.swap(0, Ordering::Relaxed), 3);
        assert_eq!(queue.counts.dropped_total.load(Ordering::Relaxed), 3);
        queue.counts.waiting.store(0, Ordering::Relaxed);
        drop(receiver);
        queue.push("nobody writes any more\n".to_owned());
        assert_eq!(queue.counts.dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_was_logged_is_written_before_the_end() {
        let logs = init(Level::None, Format::Json, Output::Stderr).unwrap();
        assert!(init(Level::None, Format::Json, Output::Stderr).is_err(), "once per process");
        for _ in 0..100 {
            logs.sender.send(Message::Line(Box::default())).unwrap();
        }
        drop(logs);
    }
}
