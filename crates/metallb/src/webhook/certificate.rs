//! The certificate that the webhooks show: the one that all controllers share, or what somebody else puts into a directory.
//!
//! What to do about it is decided by `webhook::trust`; here it is done, one step after the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use kit::Instant;
use netio::clock::Clock;
use serve::{Certificates, Issued};
use source::kube::{Bundles, Registration, Registrations, Seen, Written};
use telemetry::health::Health;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use webhook::trust::{self, Candidate, Step, Stored, View, Writer};

use super::{DIRECTORY_INTERVAL, READY_CERTIFICATE};

/// How long to wait after a step that failed,
const RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// and after one that somebody else was quicker with.
const OVERTAKEN_INTERVAL: Duration = Duration::from_millis(200);

/// The keys of the Secret (contract 4.4).
const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Keeps a certificate that is good, and trusted.
pub(super) struct Keeper {
    registrations: Registrations,
    clock: Clock,
    /// One that was made and is not stored, and since when it has been trusted.
    candidate: Option<(Issued, Instant)>,
    writer: Writer,
    shown: Shown,
    /// What was told last of a failure; empty for none.
    last_error: String,
    health: Health,
}

/// The certificate that is shown.
enum Shown {
    /// None yet; where the first one goes.
    Not(Option<oneshot::Sender<Arc<Certificates>>>),
    /// This one.
    Certificate(Arc<Certificates>, Issued),
}

/// What came of a step.
enum Outcome {
    /// There is another one.
    Again,
    /// Somebody else has written at the same time.
    Overtaken,
    /// All is well for this time.
    Rest(Duration),
}

impl Keeper {
    /// Sends the first certificate there.
    pub(super) fn new(
        registrations: Registrations,
        shown: oneshot::Sender<Arc<Certificates>>,
        health: Health,
    ) -> Keeper {
        let (clock, shown) = (Clock::start(), Shown::Not(Some(shown)));
        let (writer, last_error) = (Writer::Someone, String::new());
        Keeper { registrations, clock, candidate: None, writer, shown, last_error, health }
    }

    /// Does so for ever.
    pub(super) async fn run(mut self) {
        let (changed, _tasks) = self.registrations.watch();
        loop {
            match self.step().await {
                Ok(Outcome::Again) => {}
                Ok(Outcome::Overtaken) => sleep(OVERTAKEN_INTERVAL).await,
                Ok(Outcome::Rest(time)) => {
                    self.last_error.clear();
                    // Whichever is first.
                    let _late = timeout(time, changed.notified()).await;
                }
                Err(error) => {
                    self.tell(format!("{error:#}"));
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Each failure once.
    fn tell(&mut self, error: String) {
        if matches!(self.shown, Shown::Not(_)) {
            self.health.unready(READY_CERTIFICATE, error.clone());
        }
        if error != self.last_error {
            tracing::warn!(error, "the certificate of the webhooks is not as it should be; will try again");
            self.last_error = error;
        }
    }

    async fn step(&mut self) -> Result<Outcome> {
        let secret = self.registrations.secret().await?;
        let stored = self.take_up(&secret.value)?;
        let mut seen: Vec<(Registration, Seen<Bundles>)> = Vec::new();
        for registration in Registration::ALL {
            seen.push((registration, self.registrations.bundles(registration).await?));
        }
        let now = self.clock.now();
        if stored.as_ref().is_some_and(|stored| stored.left > trust::RENEW_BEFORE) {
            // Another controller was quicker, or ours is in.
            self.candidate = None;
        }
        let candidate = self
            .candidate
            .as_ref()
            .map(|(issued, since)| Candidate { authorities: issued.authority.clone(), trusted_for: now.since(*since) });
        let bundles = |(_, seen): &(_, Seen<Bundles>)| seen.value.iter().map(|(_, bundle)| bundle.clone()).collect();
        let view = View { stored, candidate, registrations: seen.iter().map(bundles).collect(), writer: self.writer };
        match trust::next(&view) {
            Step::Issue => {
                let issued = match self.shown_still_good() {
                    // Somebody has deleted the Secret, or broken it. What is shown is trusted.
                    Some(shown) if view.stored.is_none() => shown,
                    _ => self.issue(view.stored.as_ref())?,
                };
                self.candidate = Some((issued, now));
                Ok(Outcome::Again)
            }
            Step::Trust { registration, bundle } => {
                let Some((registration, seen)) = seen.get(registration) else { return Ok(Outcome::Again) };
                let written = self.registrations.bundles_write(*registration, seen, &bundle).await?;
                if let Some((_, trusted_since)) = &mut self.candidate {
                    *trusted_since = self.clock.now();
                }
                tracing::info!(event = "webhookAuthority", place = ?registration, "the API server is told whom to trust");
                Ok(again(written))
            }
            Step::Store => self.store(&secret).await,
            Step::Rest(time) => {
                if self.candidate.is_none() {
                    self.writer = Writer::Someone;
                }
                Ok(Outcome::Rest(time.into()))
            }
        }
    }

    fn issue(&self, stored: Option<&Stored>) -> Result<Issued> {
        let issued = Issued::new(&[self.registrations.server_name()], Timestamp::now().into())?;
        let authority = trust::with_predecessor(&issued.authority, stored);
        Ok(Issued { authority, ..issued })
    }

    fn shown_still_good(&self) -> Option<Issued> {
        let Shown::Certificate(_, shown) = &self.shown else { return None };
        let left = shown.time_left(&self.registrations.server_name(), Timestamp::now().into()).ok()?;
        (kit::Duration::from(left) > trust::RENEW_BEFORE).then(|| shown.clone())
    }

    /// Shows what is stored, if it can be used.
    fn take_up(&mut self, texts: &BTreeMap<String, String>) -> Result<Option<Stored>> {
        let text = |key: &str| texts.get(key).cloned().unwrap_or_default();
        let issued = Issued {
            authority: text(AUTHORITY),
            authority_key: text(AUTHORITY_KEY),
            certificate: text(CERTIFICATE),
            key: text(KEY),
        };
        // As the manifests have it.
        if issued.certificate.is_empty() {
            return Ok(None);
        }
        match issued.time_left(&self.registrations.server_name(), Timestamp::now().into()) {
            Ok(left) => {
                let authorities = issued.authority.clone();
                self.show(issued)?;
                Ok(Some(Stored { authorities, left: left.into() }))
            }
            Err(error) => {
                if self.candidate.is_none() {
                    let error = anyhow::Error::new(error);
                    tracing::warn!("the certificate that is stored is replaced: {error:#}");
                }
                Ok(None)
            }
        }
    }

    async fn store(&mut self, secret: &Seen<BTreeMap<String, String>>) -> Result<Outcome> {
        let Some((issued, _)) = &self.candidate else { return Ok(Outcome::Again) };
        let texts = BTreeMap::from([
            (AUTHORITY, issued.authority.clone()),
            (AUTHORITY_KEY, issued.authority_key.clone()),
            (CERTIFICATE, issued.certificate.clone()),
            (KEY, issued.key.clone()),
        ]);
        let written = self.registrations.secret_write(secret, &texts).await?;
        if written == Written::Done {
            self.writer = Writer::Us;
            tracing::info!(event = "webhookCertificate", "the webhooks have a new certificate");
        }
        // What is there now is shown when it is read.
        Ok(again(written))
    }

    fn show(&mut self, issued: Issued) -> Result<()> {
        match &mut self.shown {
            Shown::Not(first) => {
                let certificates = Certificates::given(&issued.certificate, &issued.key)?;
                if let Some(first) = first.take() {
                    // The server goes with the process.
                    let _sent = first.send(certificates.clone());
                }
                self.shown = Shown::Certificate(certificates, issued);
            }
            Shown::Certificate(_, shown) if *shown == issued => {}
            Shown::Certificate(certificates, shown) => {
                certificates.replace(&issued.certificate, &issued.key)?;
                *shown = issued;
                tracing::info!(event = "webhookCertificateShown", "the webhooks show another certificate");
            }
        }
        Ok(())
    }
}

fn again(written: Written) -> Outcome {
    match written {
        Written::Done => Outcome::Again,
        Written::Overtaken => Outcome::Overtaken,
    }
}

/// Waits for somebody else's certificate, and follows it.
pub(super) async fn directory(path: PathBuf, shown: oneshot::Sender<Arc<Certificates>>, health: Health) {
    let mut last_error = String::new();
    let certificates = loop {
        let directory = path.clone();
        // Files can hang where they are mounted from elsewhere.
        let read = tokio::task::spawn_blocking(move || Certificates::directory(&directory)).await;
        match read {
            Ok(Ok(certificates)) => break certificates,
            Ok(Err(error)) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                health.unready(READY_CERTIFICATE, error.clone());
                if error != last_error {
                    tracing::warn!(error, "the webhooks wait for a certificate (--cert-dir)");
                    last_error = error;
                }
            }
            // The panic hook has told.
            Err(_panicked) => {}
        }
        sleep(DIRECTORY_INTERVAL).await;
    };
    if shown.send(certificates.clone()).is_ok() {
        certificates.watch().await;
    }
}
