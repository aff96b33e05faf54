//! `metallb lint`: checks manifests by the rules that controller, speakers and webhook go by.
//!
//! Findings go to stdout, all else to stderr. All files count as one set of objects, so a pool may overlap one in
//! another file. Values that are secret are neither in messages nor in the lines that are shown around them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use api::{Object, ObjectRef, Severity};
use clap::{Args, ValueEnum};
use config::{Finding, Objects, Scope};
use serde::Serialize;
use source::yaml::{self, Document, Manifest, Place, Problem, Reading};

/// How deep folders are searched; a loop of links ends there.
const FOLDER_DEPTH_MAX: usize = 32;
/// What can be read in a folder.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// What the structure check calls a value of the right type that is not allowed.
const VALUE_CODES: [&str; 2] = ["out-of-range", "unknown-value"];
/// What the structure check calls a value that could not be read.
const UNREAD_CODE: &str = "wrong-type";
/// Longer lines are not shown.
const LINE_SHOWN_MAX: usize = 400;

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  metallb lint pool.yaml
  metallb lint --namespace metallb-system manifests/
  kustomize build . | metallb lint -

Nodes, Namespaces and Secrets among the manifests take part in the checks that need them. Other kinds are skipped.
Exits with 0 if there are no errors (there may be warnings), 1 if there are, and 2 if something could not be read.")]
pub(crate) struct LintFlags {
    /// Files and folders to check; - for stdin. In folders: .yaml, .yml and .json, at any depth, nothing hidden
    #[arg(required = true, value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,

    /// Namespace of MetalLB; with it, objects of other namespaces are errors
    #[arg(long)]
    namespace: Option<String>,

    /// Form of the findings
    #[arg(long, short, default_value = "text", value_name = "FORM")]
    output: Output,

    /// Any text in it keeps colours away
    #[arg(long, env = "NO_COLOR", hide = true)]
    no_color: Option<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people: with the line in question
    Text,
    /// For programs: a list of objects
    Json,
}

/// Runs the command.
pub(crate) fn run(flags: &LintFlags) -> ExitCode {
    let mut talk = io::stderr().lock();
    let mut texts = Vec::new();
    let mut is_complete = true;
    for path in &flags.paths {
        is_complete &= collect(path, &mut texts, &mut talk);
    }
    let report = Report::new(texts, flags.namespace.as_deref());
    let written = match flags.output {
        Output::Text => {
            let plain = flags.no_color.as_ref().is_some_and(|text| !text.is_empty()) || !io::stdout().is_terminal();
            report.write_text(if plain { Renderer::plain() } else { Renderer::styled() }, &mut io::stdout().lock())
        }
        Output::Json => report.write_json(&mut io::stdout().lock()),
    };
    // Who reads only the first lines closes the pipe; the verdict stays.
    if let Err(error) = written.and_then(|()| writeln!(talk, "{}", report.summary()))
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return ExitCode::from(2);
    }
    match (is_complete, report.count(Severity::Error)) {
        (false, _) => ExitCode::from(2),
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(1),
    }
}

/// A text and where it came from.
struct Text {
    name: String,
    text: String,
}

/// Reads what is at a path. False if something could not be read, which has been told.
fn collect(path: &Path, texts: &mut Vec<Text>, talk: &mut dyn Write) -> bool {
    let mut failures = Vec::new();
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        // One byte more than allowed, so that what is too long is seen to be.
        let limit = u64::try_from(yaml::TEXT_LENGTH_MAX).unwrap_or(u64::MAX).saturating_add(1);
        match io::stdin().lock().take(limit).read_to_end(&mut bytes) {
            // So it is when what should have written there has failed.
            Ok(0) => failures.push("nothing came by stdin; did the command before the pipe fail?".to_owned()),
            Ok(_) => texts.extend(text_of("stdin".to_owned(), bytes, &mut failures)),
            Err(error) => failures.push(format!("cannot read stdin: {error}")),
        }
    } else if path.is_dir() {
        let before = texts.len();
        collect_folder(path, 0, texts, &mut failures);
        if texts.len() == before && failures.is_empty() {
            failures.push(format!("no manifests in {}: looking for .yaml, .yml and .json", path.display()));
        }
    } else {
        collect_file(path, texts, &mut failures);
    }
    for failure in &failures {
        // Nobody to tell if stderr is closed.
        let _ = writeln!(talk, "metallb lint: {failure}");
    }
    failures.is_empty()
}

fn collect_folder(path: &Path, depth: usize, texts: &mut Vec<Text>, failures: &mut Vec<String>) {
    if depth >= FOLDER_DEPTH_MAX {
        failures.push(format!("cannot read {}: more than {FOLDER_DEPTH_MAX} folders deep", path.display()));
        return;
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries: Vec<PathBuf> = match entries {
        Ok(entries) => entries.iter().map(fs::DirEntry::path).collect(),
        Err(error) => {
            failures.push(format!("cannot read {}: {error}", path.display()));
            return;
        }
    };
    entries.sort_unstable();
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    for entry in entries.into_iter().filter(|entry| !is_hidden(entry)) {
        let extension = entry.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if entry.is_dir() {
            collect_folder(&entry, depth.saturating_add(1), texts, failures);
        } else if EXTENSIONS.contains(&extension) {
            collect_file(&entry, texts, failures);
        }
    }
}

fn collect_file(path: &Path, texts: &mut Vec<Text>, failures: &mut Vec<String>) {
    match fs::read(path) {
        Ok(bytes) => texts.extend(text_of(path.display().to_string(), bytes, failures)),
        Err(error) => failures.push(format!("cannot read {}: {error}", path.display())),
    }
}

fn text_of(name: String, bytes: Vec<u8>, failures: &mut Vec<String>) -> Option<Text> {
    let text = String::from_utf8(bytes);
    if text.is_err() {
        failures.push(format!("cannot read {name}: it is not UTF-8 text"));
    }
    Some(Text { name, text: text.ok()? })
}

/// One thing to show.
#[derive(Debug)]
struct Line {
    file: usize,
    place: Place,
    code: &'static str,
    severity: Severity,
    object: Option<ObjectRef>,
    pointer: String,
    message: String,
    hint: Option<String>,
}

/// All there is to say about some texts.
struct Report {
    texts: Vec<Text>,
    /// For each text, the bytes that must not be shown.
    secrets: Vec<Vec<Range<usize>>>,
    objects: usize,
    lines: Vec<Line>,
}

impl Report {
    fn new(texts: Vec<Text>, namespace: Option<&str>) -> Self {
        let mut report = Report { texts, secrets: Vec::new(), objects: 0, lines: Vec::new() };
        let mut set = Set::default();
        let mut places: BTreeMap<ObjectRef, (usize, Document)> = BTreeMap::new();
        let mut told: BTreeSet<(ObjectRef, String)> = BTreeSet::new();
        let mut out_of_range: BTreeMap<(ObjectRef, String), Line> = BTreeMap::new();
        let readings: Vec<Reading> = report.texts.iter().map(|text| yaml::read(&text.text)).collect();
        for (file, reading) in readings.into_iter().enumerate() {
            report.secrets.push(reading.secrets);
            set.has_gaps |= !reading.problems.is_empty();
            for problem in reading.problems {
                report.lines.push(line_of_problem(file, problem));
            }
            for Manifest { object, document, problems } in reading.objects {
                report.objects = report.objects.saturating_add(1);
                let reference = object.reference();
                let is_whole = problems.iter().all(|problem| problem.code != UNREAD_CODE);
                for problem in problems {
                    let at = (reference.clone(), problem.pointer.clone());
                    let line = line_of_problem(file, problem);
                    if VALUE_CODES.contains(&line.code) {
                        out_of_range.insert(at, line);
                    } else {
                        told.insert(at);
                        report.lines.push(line);
                    }
                }
                if let Some((other, _)) = places.get(&reference) {
                    let message = format!("{reference} is defined in {}, too", report.name(*other));
                    report.lines.push(duplicate(file, &document, reference, message));
                    continue;
                }
                places.insert(reference, (file, document));
                set.add(object, is_whole);
            }
        }
        let findings = set.findings(namespace);
        for finding in findings.into_iter().filter(|finding| !is_told(finding, &told)) {
            // The rules know better than the schema which values are meant.
            out_of_range.remove(&(finding.object.clone(), finding.pointer.clone()));
            report.lines.extend(line_of_finding(finding, &places));
        }
        report.lines.extend(out_of_range.into_values());
        report.lines.sort_by(|a, b| (a.file, a.place, a.code, &a.message).cmp(&(b.file, b.place, b.code, &b.message)));
        report
    }

    fn name(&self, file: usize) -> &str {
        self.texts.get(file).map_or("", |text| &text.name)
    }

    fn count(&self, severity: Severity) -> usize {
        self.lines.iter().filter(|line| line.severity == severity).count()
    }

    /// `2 errors, 1 warning in 14 objects of 3 files`
    fn summary(&self) -> String {
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            number => format!("{number} {what}s"),
        };
        let found = match (self.count(Severity::Error), self.count(Severity::Warning)) {
            (0, 0) => "no problems".to_owned(),
            (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
        };
        format!("{found} in {} of {}", count(self.objects, "object"), count(self.texts.len(), "file"))
    }

    fn write_text(&self, renderer: Renderer, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{}\n", self.render(line, &renderer))?;
        }
        Ok(())
    }

    fn render(&self, line: &Line, renderer: &Renderer) -> String {
        let level = match line.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(line.message.as_str()).id(line.code);
        let Place { line: number, column, .. } = line.place;
        let mut group = match self.shown_line(line) {
            Some((text, span)) => title.element(
                Snippet::source(text)
                    .line_start(number)
                    .path(self.name(line.file))
                    .annotation(AnnotationKind::Primary.span(span)),
            ),
            None => {
                Group::with_title(title).element(Origin::path(self.name(line.file)).line(number).char_column(column))
            }
        };
        if let Some(hint) = &line.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        renderer.render(&[group])
    }

    /// The line of text at the place, with secrets masked, and the bytes of it to point at; `None` where it is better
    /// not shown.
    fn shown_line(&self, line: &Line) -> Option<(String, Range<usize>)> {
        let text = &self.texts.get(line.file)?.text;
        let start = line.place.start;
        let begin = text.get(..start)?.rfind('\n').map_or(0, |position| position.saturating_add(1));
        let end = text.get(start..)?.find(['\n', '\r']).map_or(text.len(), |length| start.saturating_add(length));
        let mut shown = text.get(begin..end)?.to_owned();
        if shown.len() > LINE_SHOWN_MAX {
            return None;
        }
        for secret in self.secrets.get(line.file)?.iter().filter(|range| range.start < end && range.end > begin) {
            if secret.contains(&start) {
                return None;
            }
            let masked = secret.start.max(begin).saturating_sub(begin)..secret.end.min(end).saturating_sub(begin);
            let stars = "*".repeat(shown.get(masked.clone())?.len());
            shown.replace_range(masked, &stars);
        }
        let span = start.saturating_sub(begin)..line.place.end.clamp(start, end).saturating_sub(begin);
        Some((shown, span))
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let lines: Vec<JsonLine<'_>> = self.lines.iter().map(|line| self.json(line)).collect();
        serde_json::to_writer_pretty(&mut *out, &lines)?;
        writeln!(out)
    }

    fn json<'a>(&'a self, line: &'a Line) -> JsonLine<'a> {
        JsonLine {
            code: line.code,
            severity: line.severity.as_str(),
            file: self.name(line.file),
            line: line.place.line,
            column: line.place.column,
            object: line.object.as_ref().map(|object| JsonObject {
                kind: object.kind.name(),
                namespace: &object.key.namespace,
                name: &object.key.name,
            }),
            pointer: &line.pointer,
            message: &line.message,
            hint: line.hint.as_deref(),
        }
    }
}

/// The objects to judge.
#[derive(Default)]
struct Set {
    /// Those that are judged together.
    whole: Objects,
    /// Those of which a value could not be read. What they have to do with others cannot be said: a list of nodes that
    /// is not there means all nodes.
    partial: Vec<Object>,
    /// Something could not be read. What seems to be missing may be there.
    has_gaps: bool,
}

impl Set {
    fn add(&mut self, object: Object, is_whole: bool) {
        if is_whole {
            self.whole.insert(object);
        } else {
            self.partial.push(object);
            self.has_gaps = true;
        }
    }

    fn findings(self, namespace: Option<&str>) -> Vec<Finding> {
        let mut findings = findings(&self.whole, namespace);
        if self.has_gaps {
            findings.retain(|finding| !finding.transient || finding.severity == Severity::Error);
        }
        for object in self.partial {
            let mut alone = Objects::new();
            alone.insert(object);
            findings.extend(self::findings(&alone, namespace).into_iter().filter(|finding| !finding.transient));
        }
        findings
    }
}

fn findings(objects: &Objects, namespace: Option<&str>) -> Vec<Finding> {
    match config::validate(objects, Scope::Everything, namespace) {
        Ok(accepted) => accepted.warnings,
        Err(refused) => refused.findings,
    }
}

/// A finding as programs read it.
#[derive(Serialize)]
struct JsonLine<'a> {
    code: &'a str,
    severity: &'a str,
    file: &'a str,
    line: usize,
    column: usize,
    object: Option<JsonObject<'a>>,
    pointer: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonObject<'a> {
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
}

fn line_of_problem(file: usize, problem: Problem) -> Line {
    let Problem { object, code, severity, place, pointer, message, hint } = problem;
    Line { file, place, code, severity, object, pointer, message, hint }
}

fn line_of_finding(finding: Finding, places: &BTreeMap<ObjectRef, (usize, Document)>) -> Option<Line> {
    let Finding { code, severity, object, pointer, message, hint, transient: _ } = finding;
    let (file, document) = places.get(&object)?;
    let place = match pointer.as_str() {
        // The object as a whole is best shown by its name.
        "" => document.place("/metadata/name"),
        pointer => document.place(pointer),
    };
    Some(Line { file: *file, place, code, severity, object: Some(object), pointer, message, hint })
}

fn duplicate(file: usize, document: &Document, object: ObjectRef, message: String) -> Line {
    Line {
        file,
        place: document.place("/metadata/name"),
        code: "duplicate-object",
        severity: Severity::Error,
        object: Some(object),
        pointer: "/metadata/name".to_owned(),
        message,
        hint: Some("remove one of them: the one that is applied last would win".to_owned()),
    }
}

/// True when the structure at the place, or around it, has been complained about already.
fn is_told(finding: &Finding, told: &BTreeSet<(ObjectRef, String)>) -> bool {
    let mut pointer = finding.pointer.as_str();
    loop {
        if told.contains(&(finding.object.clone(), pointer.to_owned())) {
            return true;
        }
        match pointer.rsplit_once('/') {
            Some((around, _)) => pointer = around,
            None => return false,
        }
    }
}
