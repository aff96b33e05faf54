//! Container images made here, without a registry and without a tool: one layer with a few files, in the form that
//! `docker save` writes and every container runtime imports.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Archives are made of blocks.
const BLOCK: usize = 512;

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name with its tag. A tag `latest` would be asked of a registry, which there is not.
    pub name: String,
    /// The program that a container of it runs, with its first arguments.
    pub entrypoint: Vec<String>,
    /// What is in it.
    pub files: Vec<ImageFile>,
}

/// A file in an image, owned by root.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// Its path, such as `/bin/pod`.
    pub path: String,
    /// What it is.
    pub content: Content,
}

/// What a file is.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file of its own.
    File {
        /// Its permissions, such as `0o755`.
        mode: u32,
        /// What is in it.
        bytes: Vec<u8>,
    },
    /// A link to another path.
    Link(String),
}

impl Image {
    /// An image of a folder with all that is below it.
    pub fn of_folder(name: &str, folder: &Path, entrypoint: &str) -> Result<Image> {
        let (mut files, mut open) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(next) = open.pop() {
            for entry in fs::read_dir(&next).with_context(|| format!("reading {}", next.display()))? {
                let path = entry?.path();
                let metadata = path.symlink_metadata()?;
                let content = if metadata.is_dir() {
                    open.push(path);
                    continue;
                } else if metadata.is_symlink() {
                    Content::Link(text(&fs::read_link(&path)?)?)
                } else {
                    Content::File { mode: metadata.permissions().mode() & 0o7777, bytes: fs::read(&path)? }
                };
                files.push(ImageFile { path: text(path.strip_prefix(folder)?)?, content });
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Image { name: name.to_owned(), entrypoint: vec![entrypoint.to_owned()], files })
    }

    /// An image of one program, which is its entry point with the arguments that are given here.
    pub fn of_program(name: &str, program: &Path, arguments: &[&str]) -> Result<Image> {
        let file_name = program.file_name().and_then(|name| name.to_str()).context("a program without a name")?;
        let path = format!("/{file_name}");
        let bytes = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
        let entrypoint = [path.as_str()].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        let content = Content::File { mode: 0o755, bytes };
        Ok(Image { name: name.to_owned(), entrypoint, files: vec![ImageFile { path, content }] })
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not text", path.display()))
}

/// Writes an archive with images. Equal layers are in it once.
pub(super) fn save(images: &[Image], archive: &Path) -> Result<()> {
    let mut file = Archive::create(archive)?;
    let (mut manifest, mut written) = (Vec::new(), BTreeSet::new());
    for image in images {
        ensure!(image.name.contains(':'), "the image {} has no tag", image.name);
        let layer = layer(&image.files)?;
        let digest = digest(&layer);
        let layer_name = format!("{digest}.tar");
        let config = serde_json::to_vec(&json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Entrypoint": image.entrypoint, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
            "history": [{"created_by": "lab"}],
        }))?;
        let config_name = format!("{}.json", self::digest(&config));
        for (name, content) in [(&layer_name, &layer), (&config_name, &config)] {
            if written.insert(name.clone()) {
                file.add(name, content)?;
            }
        }
        manifest.push(json!({"Config": config_name, "RepoTags": [image.name], "Layers": [layer_name]}));
    }
    file.add("manifest.json", &serde_json::to_vec(&manifest)?)?;
    file.finish()
}

/// What images call the architecture of this machine.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn layer(files: &[ImageFile]) -> Result<Vec<u8>> {
    let mut layer = Vec::new();
    for file in files {
        let path = file.path.trim_start_matches('/');
        match &file.content {
            Content::File { mode, bytes } => entry(&mut layer, path, &Entry::file(*mode, bytes))?,
            Content::Link(target) => entry(&mut layer, path, &Entry::link(target))?,
        }
    }
    end(&mut layer);
    Ok(layer)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive on its way to a file.
struct Archive {
    path: PathBuf,
    file: fs::File,
}

impl Archive {
    fn create(path: &Path) -> Result<Archive> {
        let file = fs::File::create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Archive { path: path.to_owned(), file })
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        entry(&mut bytes, name, &Entry::file(0o644, content))?;
        self.write(&bytes)
    }

    fn finish(mut self) -> Result<()> {
        let mut bytes = Vec::new();
        end(&mut bytes);
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).with_context(|| format!("writing {}", self.path.display()))
    }
}

/// What an entry of an archive has beside its name.
struct Entry<'a> {
    mode: u32,
    /// `0` is a file, `2` a symbolic link.
    kind: &'a str,
    link: &'a str,
    content: &'a [u8],
}

impl<'a> Entry<'a> {
    fn file(mode: u32, content: &'a [u8]) -> Entry<'a> {
        Entry { mode, kind: "0", link: "", content }
    }

    fn link(target: &'a str) -> Entry<'a> {
        Entry { mode: 0o777, kind: "2", link: target, content: &[] }
    }
}

/// An entry as POSIX `ustar` has it: a block of text fields, then the content up to a whole block. No times and no
/// names of users, so equal contents give equal archives.
fn entry(out: &mut Vec<u8>, name: &str, entry: &Entry<'_>) -> Result<()> {
    let Entry { mode, kind, link, content } = entry;
    let mut header = [0; BLOCK];
    let mut put = |from: usize, length: usize, text: &str| {
        let field = header.iter_mut().skip(from).take(length);
        ensure!(text.len() <= length, "{text:?} is too long for an archive");
        field.zip(text.bytes()).for_each(|(place, byte)| *place = byte);
        Ok(())
    };
    put(0, 100, name)?;
    put(100, 8, &format!("{mode:07o}"))?;
    put(108, 8, "0000000")?;
    put(116, 8, "0000000")?;
    put(124, 12, &format!("{:011o}", content.len()))?;
    put(136, 12, "00000000000")?;
    // The sum is taken with spaces in its own place.
    put(148, 8, "        ")?;
    put(156, 1, kind)?;
    put(157, 100, link)?;
    put(257, 8, "ustar\x0000")?;
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    let digits = format!("{sum:06o}\0 ");
    let place = header.get_mut(148..156).ok_or_else(|| anyhow!("a header is shorter than itself"))?;
    place.copy_from_slice(digits.as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

/// An archive ends with two empty blocks.
fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; BLOCK]);
    out.extend_from_slice(&[0; BLOCK]);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use expect_test::expect;

    use super::*;

    fn file(path: &str, mode: u32, bytes: &[u8]) -> ImageFile {
        ImageFile { path: path.to_owned(), content: Content::File { mode, bytes: bytes.to_vec() } }
    }

    fn two_images() -> Vec<Image> {
        let files = vec![
            file("/pod", 0o755, b"program"),
            file("/etc/ssl/roots", 0o644, &[b'x'; 1024]),
            ImageFile { path: "/backend".to_owned(), content: Content::Link("pod".to_owned()) },
        ];
        let image = |name: &str, word: &str| Image {
            name: format!("test.local/{name}:1"),
            entrypoint: vec!["/pod".to_owned(), word.to_owned()],
            files: files.clone(),
        };
        vec![image("pause", "pause"), image("backend", "backend")]
    }

    fn saved(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lab-image-{}-{name}.tar", std::process::id()));
        save(&two_images(), &path).unwrap();
        path
    }

    #[test]
    fn tar_reads_the_archive_and_its_layer() {
        let path = saved("list");
        let list = Command::new("tar").args(["--list", "--verbose", "--utc", "--file"]).arg(&path).output().unwrap();
        assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
        let names = String::from_utf8(list.stdout).unwrap();
        assert_eq!(names.lines().count(), 4, "a layer, two configurations and the manifest: {names}");
        let layer = names.lines().filter_map(|line| line.split(' ').next_back()).find(|name| !name.contains("json"));
        let layer = layer.unwrap();
        let script = format!("tar --extract --to-stdout --file {} {layer} | tar --list --verbose", path.display());
        let inner = Command::new("sh").args(["-c", &script]).env("TZ", "UTC").output().unwrap();
        fs::remove_file(path).unwrap();
        expect![[r"
            -rwxr-xr-x 0/0               7 1970-01-01 00:00 pod
            -rw-r--r-- 0/0            1024 1970-01-01 00:00 etc/ssl/roots
            lrwxrwxrwx 0/0               0 1970-01-01 00:00 backend -> pod
        "]]
        .assert_eq(&String::from_utf8(inner.stdout).unwrap());
        assert_eq!(String::from_utf8(inner.stderr).unwrap(), "");
    }

    #[test]
    fn a_folder_becomes_an_image_with_its_links_and_permissions() {
        let folder = std::env::temp_dir().join(format!("lab-image-{}-folder", std::process::id()));
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::write(folder.join("etc/roots"), "roots").unwrap();
        fs::write(folder.join("program"), "program").unwrap();
        fs::set_permissions(folder.join("program"), fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("program", folder.join("alias")).unwrap();
        let image = Image::of_folder("test.local/x:1", &folder, "/program");
        fs::remove_dir_all(folder).unwrap();
        let lines = image.unwrap().files.into_iter().map(|file| match file.content {
            Content::File { mode, bytes } => format!("{} {mode:o} {}", file.path, String::from_utf8(bytes).unwrap()),
            Content::Link(target) => format!("{} -> {target}", file.path),
        });
        expect![[r"
            alias -> program
            etc/roots 644 roots
            program 750 program"]]
        .assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn equal_images_give_equal_archives() {
        let (one, other) = (saved("one"), saved("other"));
        let equal = fs::read(&one).unwrap() == fs::read(&other).unwrap();
        fs::remove_file(one).unwrap();
        fs::remove_file(other).unwrap();
        assert!(equal);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let long = file(&"x".repeat(101), 0o644, b"");
        assert!(layer(&[long]).unwrap_err().to_string().contains("too long"));
        let untagged = Image { name: "test.local/pod".to_owned(), entrypoint: Vec::new(), files: Vec::new() };
        let path = std::env::temp_dir().join(format!("lab-image-{}-untagged.tar", std::process::id()));
        assert!(save(&[untagged], &path).unwrap_err().to_string().contains("no tag"));
        fs::remove_file(path).unwrap();
    }
}
