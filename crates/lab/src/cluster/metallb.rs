//! MetalLB in a whole cluster, as it is installed anywhere: its image, and its chart by Helm.

use anyhow::{Context as _, Result};

use super::image::architecture;
use super::{Cluster, Image, freshness_check, root};
use crate::helm;
use crate::kubernetes::NAMESPACE;

const REPOSITORY: &str = "test.local/metallb";
const TAG: &str = "1";

/// The image, with what `scripts/static.sh` has put together for it.
pub fn image() -> Result<Image> {
    let folder = root().join("target/image").join(architecture());
    let built = format!(".cache/static/{}-unknown-linux-musl/release/metallb.d", std::env::consts::ARCH);
    freshness_check(&folder.join("metallb"), &root().join(built), &format!("scripts/static.sh {}", architecture()))?;
    Image::of_folder(&format!("{REPOSITORY}:{TAG}"), &folder, "/metallb")
}

/// Installs MetalLB from its chart and waits until its pods are ready. `settings` are further arguments of Helm, such as
/// `--set=speaker.logLevel=debug`. The nodes must have the image.
pub fn install(cluster: &Cluster, settings: &[&str]) -> Result<()> {
    let chart = helm::chart();
    let chart = chart.to_str().context("a path that is not text")?;
    let images: Vec<String> = ["controller", "speaker"]
        .iter()
        .flat_map(|part| [("repository", REPOSITORY), ("tag", TAG)].map(|(value, text)| (part, value, text)))
        .map(|(part, value, text)| format!("--set-string={part}.image.{value}={text}"))
        .collect();
    let mut arguments = vec!["install", "metallb", chart, "--namespace", NAMESPACE, "--create-namespace", "--wait"];
    arguments.extend(images.iter().map(String::as_str));
    arguments.extend(settings);
    cluster.api().helm(&arguments).map(drop)
}
