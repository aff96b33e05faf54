//! `metallb crds`: prints the CustomResourceDefinitions.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  metallb crds | kubectl apply --server-side -f -
  metallb crds --output json | jq '.items[].metadata.name'")]
pub(crate) struct CrdsFlags {
    /// Form of the definitions
    #[arg(long, short, default_value = "yaml", value_name = "FORM")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A stream of documents
    Yaml,
    /// A list
    Json,
}

/// Runs the command.
pub(crate) fn run(flags: &CrdsFlags) -> ExitCode {
    let text = match flags.output {
        Output::Yaml => yaml(),
        Output::Json => json(),
    };
    let written = text.and_then(|text| io::stdout().lock().write_all(text.as_bytes()));
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr().lock(), "metallb crds: {error}");
            ExitCode::from(2)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn yaml() -> io::Result<String> {
    let mut text = String::new();
    for definition in api::crd::definitions() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition).map_err(io::Error::other)?);
    }
    Ok(text)
}

fn json() -> io::Result<String> {
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": api::crd::definitions()});
    let mut text = serde_json::to_string_pretty(&list)?;
    text.push('\n');
    Ok(text)
}
