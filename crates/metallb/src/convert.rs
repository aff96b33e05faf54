//! `metallb convert`: turns the configuration of MetalLB up to 0.12, a ConfigMap, into objects (contract 1, legacy).
//!
//! Works offline. The objects go to stdout as YAML, all else to stderr; with an error nothing goes to stdout. What is
//! converted is known in `api::legacy`, and where it stands in the file is known here.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use api::legacy::Converter;
use api::{Severity, Violation};
use clap::Args;
use serde_json::Value;
use source::yaml::{self, Document, Place, Stream};

/// The key of the ConfigMap.
const CONFIG_POINTER: &str = "/data/config";
const USUAL_NAMESPACE: &str = "metallb-system";

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  kubectl get configmap -n metallb-system config -o yaml | metallb convert - > metallb.yaml
  metallb convert config.yaml | metallb lint -

FILE has the ConfigMap, or only what is under its key `config`. Look at the outcome, check it with `metallb lint`, and
apply it. Exits with 0 if all was converted, 1 if not (then nothing is printed), and 2 if something could not be read.")]
pub(crate) struct ConvertFlags {
    /// File with the ConfigMap; - for stdin
    #[arg(value_name = "FILE|-")]
    path: PathBuf,

    /// Namespace of the objects; by default that of the ConfigMap, or metallb-system
    #[arg(long)]
    namespace: Option<String>,
}

/// Runs the command.
pub(crate) fn run(flags: &ConvertFlags) -> ExitCode {
    let mut talk = io::stderr().lock();
    // Nobody to tell if stderr is closed.
    let mut say = |text: &str| drop(writeln!(talk, "{text}"));
    let (name, text) = match read(&flags.path) {
        Ok(text) => text,
        Err(error) => {
            say(&format!("metallb convert: {error}"));
            return ExitCode::from(2);
        }
    };
    let conversion = Conversion::of(&text, flags.namespace.as_deref());
    for complaint in &conversion.complaints {
        say(&complaint.text(&name));
    }
    let errors = conversion.complaints.iter().filter(|complaint| complaint.severity == Severity::Error).count();
    if errors > 0 {
        say(&format!("{errors} of these are errors: nothing was converted"));
        return ExitCode::from(1);
    }
    let objects = conversion.objects.len();
    match write(conversion.objects) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("metallb convert: {error}"));
            ExitCode::from(2)
        }
        _ => {
            say(&format!("{objects} objects; check them with `metallb lint`"));
            ExitCode::SUCCESS
        }
    }
}

fn read(path: &Path) -> io::Result<(String, String)> {
    let name = if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() };
    let failed = |error: io::Error| io::Error::other(format!("cannot read {name}: {error}"));
    // One byte more than allowed, so that what is too long is seen to be.
    let limit = u64::try_from(yaml::TEXT_LENGTH_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    let taken = if name == "stdin" {
        io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    taken.map_err(failed)?;
    Ok((name, text))
}

fn write(objects: Vec<Value>) -> io::Result<()> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&object).map_err(io::Error::other)?);
    }
    io::stdout().lock().write_all(text.as_bytes())
}

/// Something to tell.
struct Complaint {
    line: usize,
    column: usize,
    severity: Severity,
    message: String,
    hint: Option<String>,
}

impl Complaint {
    fn new(place: Place, message: impl Into<String>, hint: &str) -> Complaint {
        Complaint {
            line: place.line,
            column: place.column,
            severity: Severity::Error,
            message: message.into(),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        }
    }

    /// `config.yaml:7:3: error: ...`, and its hint on a line of its own.
    fn text(&self, file: &str) -> String {
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
        format!("{file}:{}:{}: {severity}: {}{hint}", self.line, self.column, self.message)
    }
}

/// What became of a file.
struct Conversion {
    objects: Vec<Value>,
    complaints: Vec<Complaint>,
}

impl Conversion {
    fn of(text: &str, namespace: Option<&str>) -> Conversion {
        let Stream { documents, problems, .. } = yaml::parse(text);
        let mut complaints: Vec<Complaint> =
            problems.into_iter().map(|problem| Complaint::new(problem.place, problem.message, "")).collect();
        if documents.is_empty() && complaints.is_empty() {
            complaints.push(Complaint::new(
                Place { line: 1, column: 1, ..Place::default() },
                "there is nothing in it",
                "",
            ));
        }
        let of_map = documents.iter().find_map(|document| document.value.pointer("/metadata/namespace")?.as_str());
        let mut converter = Converter::new(namespace.or(of_map).unwrap_or(USUAL_NAMESPACE));
        for document in &documents {
            if document.value.get("kind").and_then(Value::as_str) == Some("ConfigMap") {
                of_config_map(&mut converter, text, document, &mut complaints);
            } else if Converter::knows(&document.value) {
                let found = converter.convert(&document.value);
                complaints
                    .extend(found.into_iter().map(|violation| complaint(violation, document, &Offset::default())));
            } else {
                let hint = "expected a ConfigMap, or the fields address-pools, peers, bgp-communities and bfd-profiles";
                complaints.push(Complaint::new(document.place(""), "this is no configuration of MetalLB", hint));
            }
        }
        complaints.sort_by_key(|complaint| (complaint.line, complaint.column));
        Conversion { objects: converter.into_objects(), complaints }
    }
}

/// Where a text inside of a text begins.
#[derive(Default)]
struct Offset {
    lines: usize,
    columns: usize,
}

fn of_config_map(converter: &mut Converter, text: &str, map: &Document, complaints: &mut Vec<Complaint>) {
    let Some(config) = map.value.pointer(CONFIG_POINTER).and_then(Value::as_str) else {
        let hint = "the configuration is a text under the key config of its data";
        return complaints.push(Complaint::new(map.place("/data"), "the ConfigMap has no key config", hint));
    };
    let offset = offset(text, map.place(CONFIG_POINTER));
    let Stream { documents, problems, .. } = yaml::parse(config);
    complaints.extend(problems.into_iter().map(|problem| Complaint {
        line: problem.place.line.saturating_add(offset.lines),
        column: problem.place.column.saturating_add(offset.columns),
        ..Complaint::new(problem.place, problem.message, "")
    }));
    for document in &documents {
        let found = converter.convert(&document.value);
        complaints.extend(found.into_iter().map(|violation| complaint(violation, document, &offset)));
    }
}

/// Above the lines of a block there is its key, and each has the same indentation. Any other form is shown where it begins.
fn offset(text: &str, place: Place) -> Offset {
    let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
    let indentation = line.chars().take_while(|letter| *letter == ' ').count();
    let is_block = place.column.saturating_sub(1) <= indentation;
    Offset { lines: place.line.saturating_sub(1), columns: if is_block { indentation } else { 0 } }
}

fn complaint(violation: Violation, document: &Document, offset: &Offset) -> Complaint {
    let Violation { code, severity, pointer, message, hint } = violation;
    // Of a field that should not be there the name is what matters, not the value.
    let place = if code == "unknown-field" { document.key_place(&pointer) } else { document.place(&pointer) };
    Complaint {
        line: place.line.saturating_add(offset.lines),
        column: place.column.saturating_add(offset.columns),
        severity,
        message,
        hint,
    }
}
