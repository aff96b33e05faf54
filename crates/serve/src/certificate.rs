//! The certificate that a server shows: self-signed, given, or of a directory, read again when it changes.
//!
//! A directory is looked at now and then instead of being watched: where Secrets are mounted, files change by links that
//! are swapped above them, and a look costs two small reads.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::authority::end_of_validity;

/// How often a directory is looked at.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// The names of the files, as in a Secret of type `kubernetes.io/tls`.
const CERTIFICATE_FILE: &str = "tls.crt";
const KEY_FILE: &str = "tls.key";
/// What is read of a file. A chain with a few certificates has some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// One cannot be made.
    #[error("cannot make a self-signed certificate")]
    SelfSigned(#[source] rcgen::Error),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file has no PEM block of the right kind.
    #[error("{} holds no {what} in PEM", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// Certificate and key cannot be used, or not together.
    #[error("cannot use {CERTIFICATE_FILE} with {KEY_FILE}")]
    Unusable(#[source] rustls::Error),
}

/// Why texts are no certificate with its key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// A text has no PEM block of the right kind. What is wrong with a key must not show the key.
    #[error("there is no {0} in PEM")]
    Missing(&'static str),
    /// They cannot be used, or not together.
    #[error("certificate and key are no pair")]
    NoPair(#[source] rustls::Error),
}

const CERTIFICATE: &str = "certificate";
const KEY: &str = "private key";

/// The certificate in use and where it comes from.
pub struct Certificates {
    current: RwLock<Arc<CertifiedKey>>,
    /// None for a certificate that is not read from files.
    directory: Option<Directory>,
    reads: AtomicU64,
    read_errors: AtomicU64,
}

struct Directory {
    path: PathBuf,
    /// What was read last, whatever came of it.
    seen: Mutex<Files>,
}

#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Certificates {
    /// A certificate that nobody vouches for, with a key that never leaves this process. It is valid as long as the
    /// process can live.
    pub fn self_signed() -> Result<Arc<Certificates>, CertificateError> {
        let (der, key) = self_sign().map_err(CertificateError::SelfSigned)?;
        let certified = certified(vec![der], key).map_err(CertificateError::Unusable)?;
        Ok(Arc::new(Certificates::new(certified, None)))
    }

    /// The certificate in `tls.crt`, followed by those that vouch for it, and its key in `tls.key`.
    pub fn directory(path: &Path) -> Result<Arc<Certificates>, CertificateError> {
        let files = Files::read(path)?;
        let certified = files.certified(path)?;
        let directory = Directory { path: path.to_owned(), seen: Mutex::new(files) };
        let certificates = Certificates::new(certified, Some(directory));
        certificates.reads.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(certificates))
    }

    /// A certificate, followed by those that vouch for it, and its key, both in PEM; [`Certificates::replace`] has it follow
    /// wherever they come from.
    pub fn given(certificate: &str, key: &str) -> Result<Arc<Certificates>, PemError> {
        let certified = certified_pem(certificate.as_bytes(), key.as_bytes())?;
        Ok(Arc::new(Certificates::new(certified, None)))
    }

    /// Shows another certificate from the next connection on.
    pub fn replace(&self, certificate: &str, key: &str) -> Result<(), PemError> {
        self.show(certified_pem(certificate.as_bytes(), key.as_bytes())?);
        Ok(())
    }

    fn show(&self, certified: CertifiedKey) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
    }

    fn new(certified: CertifiedKey, directory: Option<Directory>) -> Certificates {
        let current = RwLock::new(Arc::new(certified));
        Certificates { current, directory, reads: AtomicU64::new(0), read_errors: AtomicU64::new(0) }
    }

    /// Looks at the directory for ever. Keeps the certificate in use while what is there cannot be used.
    pub async fn watch(self: Arc<Self>) {
        if self.directory.is_none() {
            return;
        }
        let mut last_error = String::new();
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            let certificates = self.clone();
            // Files can hang where they are mounted from elsewhere.
            let Ok(reloaded) = tokio::task::spawn_blocking(move || certificates.reload()).await else { continue };
            match reloaded {
                Ok(false) => {}
                Ok(true) => {
                    last_error.clear();
                    tracing::info!("the certificate has changed, and the new one is in use");
                }
                Err(error) => {
                    let text = words(&error);
                    if text != last_error {
                        tracing::error!(error = text, "the certificate has changed, but the old one stays in use");
                        last_error = text;
                    }
                }
            }
        }
    }

    /// Takes up what is in the directory if it is another certificate than before; true if it is.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let Some(directory) = &self.directory else { return Ok(false) };
        let renewed = directory.renewed().inspect_err(|_| {
            self.read_errors.fetch_add(1, Ordering::Relaxed);
        })?;
        let Some(certified) = renewed else { return Ok(false) };
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.show(certified);
        Ok(true)
    }

    /// When the certificate in use ends; none if it does not say so in a readable way.
    pub fn end(&self) -> Option<SystemTime> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        current.cert.first().and_then(|certificate| end_of_validity(certificate))
    }

    /// How often a certificate was read from the directory and taken up.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How often that failed.
    pub fn read_errors(&self) -> u64 {
        self.read_errors.load(Ordering::Relaxed)
    }
}

impl Directory {
    /// A certificate that was not there when this was last asked. One that cannot be used is an error each time, since it
    /// may be half of a pair whose other half is on its way.
    fn renewed(&self) -> Result<Option<CertifiedKey>, CertificateError> {
        let files = Files::read(&self.path)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == files {
            return Ok(None);
        }
        let certified = files.certified(&self.path)?;
        *seen = files;
        Ok(Some(certified))
    }
}

impl Files {
    fn read(directory: &Path) -> Result<Files, CertificateError> {
        let read = |name: &str| {
            let path = directory.join(name);
            let mut bytes = Vec::new();
            match File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)) {
                Ok(_) => Ok(bytes),
                Err(source) => Err(CertificateError::Unreadable { path, source }),
            }
        };
        Ok(Files { certificate: read(CERTIFICATE_FILE)?, key: read(KEY_FILE)? })
    }

    fn certified(&self, directory: &Path) -> Result<CertifiedKey, CertificateError> {
        let missing = |name: &str, what| CertificateError::Missing { path: directory.join(name), what };
        certified_pem(&self.certificate, &self.key).map_err(|error| match error {
            PemError::Missing(what) => missing(if what == KEY { KEY_FILE } else { CERTIFICATE_FILE }, what),
            PemError::NoPair(error) => CertificateError::Unusable(error),
        })
    }
}

/// A certificate with its key, both in PEM.
pub(crate) fn certified_pem(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, PemError> {
    let missing = |_| PemError::Missing(CERTIFICATE);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(missing)?;
    if chain.is_empty() {
        return Err(PemError::Missing(CERTIFICATE));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| PemError::Missing(KEY))?;
    certified(chain, key).map_err(PemError::NoPair)
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
}

fn self_sign() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "metallb");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Without the key.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.as_ref().map(|directory| &directory.path);
        f.debug_struct("Certificates").field("directory", &directory).finish_non_exhaustive()
    }
}
