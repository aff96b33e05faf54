//! Programs that Go makes for the tests: `scripts/NAME.sh` makes `.cache/NAME/NAME` from `tests/NAME`, and keeps its sources beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The program of this name, if it was made from the sources as they are.
pub fn built(name: &str) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (sources, made) = (root.join("tests").join(name), root.join(".cache").join(name));
    let mut up_to_date = made.join(name).exists();
    for source in fs::read_dir(&sources).with_context(|| format!("the sources of {name}, {}", sources.display()))? {
        let source = source?;
        up_to_date &= fs::read(source.path()).ok() == fs::read(made.join(source.file_name())).ok();
    }
    ensure!(up_to_date, "the {name} of the tests is not built, or from other sources\nhint: run scripts/{name}.sh");
    Ok(made.join(name).canonicalize()?)
}
