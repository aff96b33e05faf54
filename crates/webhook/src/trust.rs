//! The certificate of the webhooks, and who has to trust it: what to do next, from what is there (contract 4.4).
//!
//! One certificate is shared by all controllers, in a Secret, with the authority that signed it. The API server trusts the
//! authorities that its registrations name: the webhook configuration, and a definition that asks for conversion. A new
//! certificate comes with a new authority, whose key signs nothing else. So that no question stays unanswered meanwhile, an
//! authority is trusted before the first controller shows what it signed, and its predecessor is trusted until the next
//! change: controllers may show the old certificate for as long as they have not seen the new one.
//!
//! Several controllers may do this at one time. Each adds to what is trusted, one of them gets to write the Secret, and that
//! one tidies up. Knows no key, no clock and no API.

use kit::Duration;

/// A certificate with less time left than this is replaced.
pub const RENEW_BEFORE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often to look, even if nothing seems to change.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(12 * 3600);
/// How long a new authority is trusted before its certificate is shown: API servers learn of a registration by a watch.
pub const SETTLE_TIME: Duration = Duration::from_secs(10);
/// Authorities in one bundle. More than three are there only while several controllers replace a certificate at once.
pub const AUTHORITIES_MAX: usize = 8;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The certificate in the Secret, if it can be used today.
    pub stored: Option<Stored>,
    /// One that this controller has made, and not stored yet.
    pub candidate: Option<Candidate>,
    /// The registrations, each with the bundles that it names: one for each of its webhooks, empty where there is none.
    pub registrations: Vec<Vec<String>>,
    /// Who wrote the Secret.
    pub writer: Writer,
}

/// A certificate that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The authority that signed it, and those that shall be trusted beside it, in PEM.
    pub authorities: String,
    /// How long it can be used.
    pub left: Duration,
}

/// A certificate to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its authority, and those that shall be trusted beside it, in PEM.
    pub authorities: String,
    /// For how long all registrations have named its authority.
    pub trusted_for: Duration,
}

/// Who wrote what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writer {
    /// Another controller, or this one before it was started.
    #[default]
    Someone,
    /// This controller, and it has not rested since.
    Us,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a candidate.
    Issue,
    /// Have the registration of this number name this bundle, in all its webhooks.
    Trust {
        /// Its place in [`View::registrations`].
        registration: usize,
        /// In PEM.
        bundle: String,
    },
    /// Write the candidate into the Secret.
    Store,
    /// Nothing, until something changes or this time is over.
    Rest(Duration),
}

/// The next step. Each leads to another view, and they end with a rest.
pub fn next(view: &View) -> Step {
    match (&view.stored, &view.candidate) {
        (Some(stored), _) if stored.left > RENEW_BEFORE => {
            let wanted = certificates(&stored.authorities);
            let is_wrong = |bundle: &String| match view.writer {
                // What is there besides may be a candidate of another controller.
                Writer::Someone => lacks(bundle, &wanted),
                Writer::Us => certificates(bundle) != wanted,
            };
            match view.registrations.iter().position(|bundles| bundles.iter().any(is_wrong)) {
                Some(registration) => Step::Trust { registration, bundle: join(&wanted) },
                None => Step::Rest(LOOK_INTERVAL.min(stored.left - RENEW_BEFORE)),
            }
        }
        (_, None) => Step::Issue,
        // Nobody shows a certificate, so nobody has to be trusted meanwhile.
        (None, Some(_)) => Step::Store,
        (Some(stored), Some(candidate)) => {
            let mut wanted = certificates(&stored.authorities);
            wanted.extend(certificates(&candidate.authorities).into_iter().take(1));
            let lacking = |bundles: &Vec<String>| bundles.iter().any(|bundle| lacks(bundle, &wanted));
            if let Some(registration) = view.registrations.iter().position(lacking) {
                let named = view.registrations.get(registration).into_iter().flatten();
                return Step::Trust { registration, bundle: added(named, wanted) };
            }
            let left = SETTLE_TIME - candidate.trusted_for;
            if left.is_zero() { Step::Store } else { Step::Rest(left) }
        }
    }
}

/// The authorities to store beside a new one: the one whose certificate is shown until then.
pub fn with_predecessor(new: &str, stored: Option<&Stored>) -> String {
    let predecessor = stored.into_iter().flat_map(|stored| certificates(&stored.authorities).into_iter().take(1));
    let all: Vec<String> = certificates(new).into_iter().chain(predecessor).collect();
    join(&all)
}

/// What the bundles name already, and what is wanted; the oldest are left out if that is too much.
fn added<'a>(named: impl Iterator<Item = &'a String>, wanted: Vec<String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for certificate in named.flat_map(|bundle| certificates(bundle)) {
        if !all.contains(&certificate) && !wanted.contains(&certificate) {
            all.push(certificate);
        }
    }
    let too_many = all.len().saturating_add(wanted.len()).saturating_sub(AUTHORITIES_MAX).min(all.len());
    all.drain(..too_many);
    all.extend(wanted);
    join(&all)
}

fn lacks(bundle: &str, wanted: &[String]) -> bool {
    let named = certificates(bundle);
    wanted.iter().any(|certificate| !named.contains(certificate))
}

/// The certificates of a text in PEM (RFC 7468), each on lines of its own.
fn certificates(text: &str) -> Vec<String> {
    let blocks = text.split(BEGIN).skip(1).filter_map(|rest| rest.split_once(END));
    blocks
        .map(|(base64, _)| {
            let lines: Vec<&str> = base64.split_whitespace().collect();
            format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
        })
        .collect()
}

fn join(certificates: &[String]) -> String {
    certificates.concat()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use kit::Rng;

    use super::*;

    /// An authority, as short as one can be.
    fn pem(name: &str) -> String {
        format!("{BEGIN}\n{name}\n{END}\n")
    }

    fn bundle(names: &str) -> String {
        names.split_whitespace().map(pem).collect()
    }

    fn names(bundle: &str) -> String {
        certificates(bundle).iter().filter_map(|pem| pem.lines().nth(1)).collect::<Vec<_>>().join(" ")
    }

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 24 * 3600)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as a view has it")]
    fn stored(authorities: &str, left: u64) -> Option<Stored> {
        Some(Stored { authorities: bundle(authorities), left: days(left) })
    }

    #[expect(clippy::unnecessary_wraps, reason = "as a view has it")]
    fn candidate(authorities: &str, trusted_for: u64) -> Option<Candidate> {
        Some(Candidate { authorities: bundle(authorities), trusted_for: Duration::from_secs(trusted_for) })
    }

    fn say(step: &Step) -> String {
        match step {
            Step::Trust { registration, bundle } => format!("{registration} trusts {}", names(bundle)),
            Step::Rest(time) => format!("rest {} s", time.as_secs()),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn contract_4_4_what_follows_from_what_is_there() {
        let check = |stored: Option<Stored>, candidate, registrations: &[&[&str]], writer, expected: Expect| {
            let registrations =
                registrations.iter().map(|bundles| bundles.iter().map(|names| bundle(names)).collect()).collect();
            expected.assert_eq(&say(&next(&View { stored, candidate, registrations, writer })));
        };
        let (us, someone) = (Writer::Us, Writer::Someone);
        // Nothing there.
        check(None, None, &[&["", ""]], someone, expect!["Issue"]);
        check(None, candidate("b", 0), &[&["", ""]], someone, expect!["Store"]);
        check(stored("b", 365), None, &[&["", "b"], &[""]], us, expect!["0 trusts b"]);
        check(stored("b", 365), None, &[&["b", "b"], &[""]], us, expect!["1 trusts b"]);
        check(stored("b", 365), None, &[&["b", "b"], &["b"]], us, expect!["rest 43200 s"]);
        // No registration, or none that asks.
        check(stored("b", 91), None, &[&[], &[]], someone, expect!["rest 43200 s"]);
        // What others add is left to them; what is missing is not.
        check(stored("b a", 365), None, &[&["a b c"]], someone, expect!["rest 43200 s"]);
        check(stored("b a", 365), None, &[&["a b c"]], us, expect!["0 trusts b a"]);
        check(stored("b a", 365), None, &[&["b"]], someone, expect!["0 trusts b a"]);
        check(stored("b a", 365), None, &[&["junk"]], someone, expect!["0 trusts b a"]);
        // Its time comes: first trusted, then shown.
        check(stored("a z", 90), None, &[&["a z"]], someone, expect!["Issue"]);
        check(stored("a z", 90), candidate("b a", 0), &[&["a z"], &["a"]], someone, expect!["0 trusts a z b"]);
        check(stored("a z", 90), candidate("b a", 0), &[&["a z b"], &["a"]], someone, expect!["1 trusts a z b"]);
        check(stored("a z", 90), candidate("b a", 0), &[&["a z b"], &["a z b"]], someone, expect!["rest 10 s"]);
        check(stored("a z", 90), candidate("b a", 4), &[&["a z b"]], someone, expect!["rest 6 s"]);
        check(stored("a z", 90), candidate("b a", 10), &[&["a z b"]], someone, expect!["Store"]);
        // Another controller does the same, and a third one was quicker.
        check(stored("a", 90), candidate("b a", 0), &[&["a c"]], someone, expect!["0 trusts c a b"]);
        check(stored("c a", 365), candidate("b a", 3), &[&["a c b"]], someone, expect!["rest 43200 s"]);
        // There is a limit to this.
        check(
            stored("a", 90),
            candidate("b a", 0),
            &[&["1 2 3 4 5 6 7 a"]],
            someone,
            expect!["0 trusts 2 3 4 5 6 7 a b"],
        );
    }

    #[test]
    fn what_surrounds_certificates_does_not_count() {
        let text = format!("subject=x\r\n{BEGIN}\r\nQUJD\r\nREVG\r\n{END}\r\njunk {BEGIN}cut off");
        assert_eq!(certificates(&text), [format!("{BEGIN}\nQUJD\nREVG\n{END}\n")]);
        assert!(certificates("").is_empty());
        let before = Stored { authorities: bundle("a z"), left: days(1) };
        assert_eq!(names(&with_predecessor(&pem("b"), Some(&before))), "b a");
        assert_eq!(names(&with_predecessor(&pem("b"), None)), "b");
    }

    /// A controller that acts on what it saw, at any speed.
    #[derive(Default)]
    struct Controller {
        /// The version of the Secret and the registrations, as they were seen last.
        secret_seen: (u64, Option<Stored>),
        registrations_seen: Vec<(u64, String)>,
        candidate: Option<Candidate>,
        writer: Writer,
        /// The authority of the certificate that it shows.
        shown: Option<String>,
    }

    /// Any interleaving of any number of controllers: whatever is shown is trusted, everywhere, from the moment on at which
    /// all was well for the first time; and in the end all is well again.
    #[test]
    fn nobody_shows_what_is_not_trusted() {
        for seed in 0..150 {
            let mut rng = Rng::new(seed);
            let mut controllers: Vec<Controller> = (0..=rng.below(3)).map(|_| Controller::default()).collect();
            let mut secret: (u64, Option<Stored>) = (0, None);
            let mut registrations = vec![(0_u64, String::new()), (0, String::new())];
            let mut number = 0;
            for round in 0..4 {
                if let Some(stored) = &mut secret.1 {
                    stored.left = days(30);
                }
                // In the last steps of a round nobody is held up any more.
                for step in 0..600 {
                    let at = rng.index(controllers.len());
                    let controller = &mut controllers[at];
                    match rng.below(if step < 400 { 4 } else { 3 }) {
                        0 => {
                            if controller.secret_seen.0 != secret.0 {
                                controller.candidate = None;
                                controller.writer = Writer::Someone;
                            }
                            controller.secret_seen = secret.clone();
                            if let Some(stored) = &secret.1 {
                                controller.shown = Some(certificates(&stored.authorities)[0].clone());
                            }
                            controller.registrations_seen = registrations.clone();
                        }
                        1 => {}
                        _ if controller.registrations_seen.is_empty() => {}
                        _ => {
                            let view = View {
                                stored: controller.secret_seen.1.clone(),
                                candidate: controller.candidate.clone(),
                                registrations: controller
                                    .registrations_seen
                                    .iter()
                                    .map(|(_, bundle)| vec![bundle.clone()])
                                    .collect(),
                                writer: controller.writer,
                            };
                            match next(&view) {
                                Step::Issue => {
                                    number += 1;
                                    let authorities =
                                        with_predecessor(&pem(&format!("n{number}")), view.stored.as_ref());
                                    controller.candidate = Some(Candidate { authorities, trusted_for: Duration::ZERO });
                                }
                                Step::Trust { registration, bundle } => {
                                    let seen = &mut controller.registrations_seen[registration];
                                    if registrations[registration].0 == seen.0 {
                                        registrations[registration] = (seen.0 + 1, bundle);
                                        *seen = registrations[registration].clone();
                                    }
                                }
                                Step::Rest(_) => {
                                    if let Some(candidate) = &mut controller.candidate {
                                        candidate.trusted_for = SETTLE_TIME;
                                        controller.registrations_seen = registrations.clone();
                                    }
                                    controller.writer = Writer::Someone;
                                }
                                Step::Store => {
                                    let candidate = controller.candidate.take().unwrap();
                                    if secret.0 == controller.secret_seen.0 {
                                        let authorities = candidate.authorities;
                                        controller.shown = Some(certificates(&authorities)[0].clone());
                                        secret = (secret.0 + 1, Some(Stored { authorities, left: days(365) }));
                                        controller.secret_seen = secret.clone();
                                        controller.writer = Writer::Us;
                                    }
                                }
                            }
                        }
                    }
                    if round > 0 {
                        for shown in controllers.iter().filter_map(|it| it.shown.as_ref()) {
                            for (_, bundle) in &registrations {
                                assert!(bundle.contains(shown), "seed {seed}: {} lack {}", names(bundle), names(shown));
                            }
                        }
                    }
                }
                let stored = secret.1.as_ref().unwrap();
                assert!(stored.left > RENEW_BEFORE, "seed {seed}: not replaced");
                for (_, bundle) in &registrations {
                    assert!(!lacks(bundle, &certificates(&stored.authorities)), "seed {seed}: {}", names(bundle));
                }
            }
        }
    }
}
