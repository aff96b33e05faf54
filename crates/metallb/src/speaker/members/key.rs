//! The key of memberlist, from the file that the Secret is mounted as, and its change without a gap.
//!
//! All nodes read a new Secret, each at its time: the kubelet brings it within a minute or two. So a new key is first only
//! understood, then used while the old one is understood, and in the end alone; each for [`STEP`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use gossip::{Key, Keyring, Seal};
use kit::{Duration, Instant};
use netio::gossip::AesGcm;

/// The file in the directory of the flag (contract 7.1).
const FILE: &str = "secretkey";
/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The time in which all nodes have a new Secret.
const STEP: Duration = Duration::from_secs(180);
/// The longest secret; 32 bytes of it count.
const SECRET_MAX: usize = 4096;

/// The key in force, and the one that is to follow.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    key: Key,
    /// A cipher counts what it has sealed, so there is one for each key and no other.
    cipher: Arc<dyn Seal>,
    change: Change,
    look: Instant,
}

/// How far a change has come.
#[derive(Debug)]
enum Change {
    None,
    /// The next key is understood, and the present one used, until then.
    Coming {
        key: Key,
        cipher: Arc<dyn Seal>,
        until: Instant,
    },
    /// The old key is understood, until then.
    Going {
        cipher: Arc<dyn Seal>,
        until: Instant,
    },
}

impl KeyFile {
    /// Reads the file; a speaker that should have a key does not start without one.
    pub(super) fn read(directory: &str, now: Instant) -> Result<KeyFile> {
        let path = Path::new(directory).join(FILE);
        let key = key_in(&path)?;
        let cipher = cipher(&key)?;
        Ok(KeyFile { path, key, cipher, change: Change::None, look: now + LOOK_INTERVAL })
    }

    /// The keys as they are now.
    pub(super) fn keyring(&self) -> Keyring {
        let (first, other) = match &self.change {
            Change::None => (&self.cipher, None),
            Change::Coming { cipher, .. } | Change::Going { cipher, .. } => (&self.cipher, Some(Arc::clone(cipher))),
        };
        // Two are not too many.
        Keyring::new(Arc::clone(first), other).unwrap_or_default()
    }

    /// When [`KeyFile::look`] is due.
    pub(super) fn next_deadline(&self) -> Instant {
        match &self.change {
            Change::None => self.look,
            Change::Coming { until, .. } | Change::Going { until, .. } => *until,
        }
    }

    /// Does what is due. Gives the keys if they are others than before.
    pub(super) fn look(&mut self, now: Instant) -> Option<Keyring> {
        match std::mem::replace(&mut self.change, Change::None) {
            Change::Coming { key, cipher, until } if until <= now => {
                let old = std::mem::replace(&mut self.cipher, cipher);
                self.key = key;
                self.change = Change::Going { cipher: old, until: now + STEP };
                tracing::info!("the new key of memberlist is used; the old one is still understood");
            }
            Change::Going { until, .. } if until <= now => {
                tracing::info!("the old key of memberlist is not understood any more");
            }
            Change::None if self.look <= now => {
                self.look = now + LOOK_INTERVAL;
                let new = key_in(&self.path).and_then(|key| Ok((cipher(&key)?, key)));
                match new {
                    Ok((_, key)) if key == self.key => return None,
                    Ok((cipher, key)) => {
                        self.change = Change::Coming { key, cipher, until: now + STEP };
                        tracing::info!(
                            "there is a new key of memberlist; it is understood now, and used when all nodes have it"
                        );
                    }
                    Err(error) => {
                        tracing::warn!(
                            limited = true,
                            error = format!("{error:#}"),
                            "cannot read the key of memberlist again; the one that was read stays in force"
                        );
                        return None;
                    }
                }
            }
            same => {
                self.change = same;
                return None;
            }
        }
        Some(self.keyring())
    }
}

fn key_in(path: &Path) -> Result<Key> {
    let hint = "hint: mount the memberlist Secret there, or unset --ml-secret-key-path to do without encryption";
    let secret = std::fs::read(path)
        .with_context(|| format!("cannot read the key of memberlist from {} ({hint})", path.display()))?;
    anyhow::ensure!(secret.len() <= SECRET_MAX, "{} is longer than {SECRET_MAX} bytes", path.display());
    Key::from_secret(&secret).with_context(|| format!("cannot use {}", path.display()))
}

fn cipher(key: &Key) -> Result<Arc<dyn Seal>> {
    Ok(Arc::new(AesGcm::new(key).context("no random bytes for the cipher of memberlist")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn cipher_of(secret: &str) -> Arc<dyn Seal> {
        cipher(&Key::from_secret(secret.as_bytes()).unwrap()).unwrap()
    }

    /// Whether a keyring understands what is sealed with a secret, and what it seals with.
    fn uses(file: &KeyFile, secret: &str) -> bool {
        let mut sealed = Vec::new();
        file.cipher.seal(b"", b"x", &mut sealed);
        cipher_of(secret).open(b"", &sealed).is_some()
    }

    #[test]
    fn a_new_key_is_understood_then_used_then_alone() {
        let folder = std::env::temp_dir().join(format!("metallb-key-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let directory = folder.display().to_string();
        assert!(KeyFile::read(&directory, at(0)).unwrap_err().to_string().contains("hint:"));
        std::fs::write(folder.join(FILE), "").unwrap();
        assert!(KeyFile::read(&directory, at(0)).is_err());
        std::fs::write(folder.join(FILE), "one").unwrap();
        let mut file = KeyFile::read(&directory, at(0)).unwrap();
        assert!(file.look(at(9)).is_none() && file.look(at(10)).is_none());
        std::fs::write(folder.join(FILE), "two").unwrap();
        assert_eq!(file.next_deadline(), at(20));
        assert!(file.look(at(20)).is_some() && uses(&file, "one"));
        // What the file says meanwhile waits for the end of this.
        std::fs::remove_file(folder.join(FILE)).unwrap();
        assert!(file.look(at(199)).is_none());
        assert!(file.look(at(200)).is_some() && uses(&file, "two"));
        assert!(matches!(file.change, Change::Going { .. }));
        assert!(file.look(at(380)).is_some() && matches!(file.change, Change::None));
        assert!(file.look(at(400)).is_none() && uses(&file, "two"), "the file is gone, and the key stays");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
