//! Certificates for whoever calls us by a name: made together with the authority that signs them, and looked at to see
//! whether they can still be used.
//!
//! A caller that is told of the authority believes the certificate and nothing else. Of the text of a certificate only the
//! validity is read here (RFC 5280 section 4.1); names, signatures and chains are rustls's business.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::{PemError, certified_pem};

/// How long a certificate is valid.
pub const CERTIFICATE_TIME: Duration = Duration::from_hours(365 * 24);
/// How long an authority is: as in the Go implementation ten years, but its key signs one certificate only.
const AUTHORITY_TIME: Duration = Duration::from_hours(10 * 365 * 24);
/// How much the clock of a caller may be behind ours.
const CLOCK_SKEW_MAX: Duration = Duration::from_hours(1);

/// A certificate with everything that belongs to it, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The authority, perhaps followed by others that are trusted beside it.
    pub authority: String,
    /// The key of the authority.
    pub authority_key: String,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableError {
    /// Certificate or key cannot be read, or they are no pair.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The authority cannot be read.
    #[error("there is no authority")]
    NoAuthority,
    /// Something in it is not as it should be.
    #[error("the certificate says not in a readable way how long it is valid")]
    NoValidity,
    /// It is for another name, from another authority, or not valid now.
    #[error("a caller would not believe the certificate")]
    NotBelieved(#[source] rustls::Error),
}

impl Issued {
    /// Makes an authority, and has it sign a certificate for these names. Both are valid from now on.
    pub fn new(names: &[String], now: SystemTime) -> Result<Issued, rcgen::Error> {
        let begin = now.checked_sub(CLOCK_SKEW_MAX).unwrap_or(UNIX_EPOCH);
        let end = |time: Duration| now.checked_add(time).unwrap_or(now);
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::OrganizationName, "metallb");
        authority.distinguished_name.push(DnType::CommonName, "cert");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        authority.not_before = begin.into();
        authority.not_after = end(AUTHORITY_TIME).into();
        let authority_certificate = authority.self_signed(&authority_key)?;

        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::OrganizationName, "metallb");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = begin.into();
        params.not_after = end(CERTIFICATE_TIME).into();
        let certificate = params.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;
        Ok(Issued {
            authority: authority_certificate.pem(),
            authority_key: authority_key.serialize_pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// How long a caller that knows nothing but the authority, and calls us by this name, will believe the certificate.
    pub fn time_left(&self, name: &str, now: SystemTime) -> Result<Duration, UnusableError> {
        certified_pem(self.certificate.as_bytes(), self.key.as_bytes())?;
        let chain = chain(&self.certificate);
        let authorities = chain_of_authorities(&self.authority)?;
        let (Some((leaf, others)), Some(authority)) = (chain.split_first(), authorities.first()) else {
            return Err(UnusableError::NoAuthority);
        };
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone()).map_err(UnusableError::NotBelieved)?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| UnusableError::NoAuthority)?;
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| UnusableError::NotBelieved(rustls::Error::General(format!("{name:?} is no name"))))?;
        let at = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        verifier.verify_server_cert(leaf, others, &server, &[], at).map_err(UnusableError::NotBelieved)?;
        // The verifier believes an authority for ever; Go's, which API servers have, does not.
        let end = [leaf, authority].map(|certificate| end_of_validity(certificate));
        let [Some(leaf_end), Some(authority_end)] = end else { return Err(UnusableError::NoValidity) };
        let end = leaf_end.min(authority_end);
        end.duration_since(now).map_err(|_| UnusableError::NotBelieved(rustls::CertificateError::Expired.into()))
    }
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect()
}

fn chain_of_authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, UnusableError> {
    let authorities = chain(pem);
    if authorities.is_empty() { Err(UnusableError::NoAuthority) } else { Ok(authorities) }
}

/// Without the keys.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Tags of ASN.1 (X.690).
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// `notAfter` of a certificate (RFC 5280 section 4.1.2.5).
pub(crate) fn end_of_validity(certificate: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (fields, _) = element(certificate, SEQUENCE)?;
    // The first version has no version.
    let fields = element(fields, VERSION).map_or(fields, |(_, rest)| rest);
    let (_serial, fields) = element(fields, INTEGER)?;
    let (_algorithm, fields) = element(fields, SEQUENCE)?;
    let (_issuer, fields) = element(fields, SEQUENCE)?;
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_begin, end) = time(validity)?;
    time(end).map(|(end, _)| end)
}

fn time(bytes: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (text, rest) = if let Some((text, rest)) = element(bytes, UTC_TIME) {
        let text = std::str::from_utf8(text).ok()?;
        // Two digits are of the years 1950 to 2049.
        let century = if text.get(..2)? < "50" { "20" } else { "19" };
        (format!("{century}{text}"), rest)
    } else {
        let (text, rest) = element(bytes, GENERALIZED_TIME)?;
        (std::str::from_utf8(text).ok()?.to_owned(), rest)
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some((time.timestamp().into(), rest))
}

/// What an element of this tag holds, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // Lengths of more than two bytes are longer than any certificate.
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "metallb-webhook-service.metallb-system.svc";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// 2026-11-27.
    fn now() -> SystemTime {
        at(1_795_737_600)
    }

    fn issue() -> Issued {
        Issued::new(&[NAME.to_owned()], now()).unwrap()
    }

    fn problem(issued: &Issued, name: &str, now: SystemTime) -> String {
        let error = issued.time_left(name, now).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    }

    #[test]
    fn contract_4_4_a_certificate_is_for_its_name_and_a_year() {
        let issued = issue();
        assert_eq!(issued.time_left(NAME, now()).unwrap(), CERTIFICATE_TIME);
        let day = Duration::from_hours(24);
        assert_eq!(issued.time_left(NAME, now() + 364 * day).unwrap(), day);
        // Clocks differ.
        assert!(issued.time_left(NAME, now() - CLOCK_SKEW_MAX).is_ok());
        for (name, now) in
            [("other.svc", now()), ("", now()), (NAME, now() + 366 * day), (NAME, now() - 2 * CLOCK_SKEW_MAX)]
        {
            assert!(problem(&issued, name, now).starts_with("a caller would not believe the certificate: "), "{name}");
        }
        assert_ne!(issue(), issued, "each has keys of its own");
    }

    #[test]
    fn any_of_several_authorities_will_do_and_none_but_them() {
        let (issued, other) = (issue(), issue());
        let both = Issued { authority: issued.authority.clone() + &other.authority, ..issued.clone() };
        assert_eq!(both.time_left(NAME, now()).unwrap(), CERTIFICATE_TIME);
        let wrong = Issued { authority: other.authority.clone(), ..issued.clone() };
        assert!(problem(&wrong, NAME, now()).starts_with("a caller would not believe the certificate: "));
        let keys = Issued { key: other.key.clone(), ..issued.clone() };
        assert_eq!(
            problem(&keys, NAME, now()),
            "certificate and key are no pair: keys may not be consistent: KeyMismatch"
        );
    }

    #[test]
    fn what_is_missing_is_said_without_the_keys() {
        let good = issue();
        let empty = String::new;
        for (issued, expected) in [
            (Issued { authority: empty(), ..good.clone() }, "there is no authority"),
            (Issued { authority: "hidden".to_owned(), ..good.clone() }, "there is no authority"),
            (Issued { certificate: empty(), ..good.clone() }, "there is no certificate in PEM"),
            (Issued { key: "hidden".to_owned(), ..good.clone() }, "there is no private key in PEM"),
        ] {
            assert_eq!(problem(&issued, NAME, now()), expected);
        }
        let shown = format!("{good:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }

    /// The end of an authority counts as well: API servers look at it.
    #[test]
    fn the_first_of_both_ends_counts() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        for (year, seconds) in [(2030, 1_893_456_000), (2049, 2_493_072_000), (2051, 2_556_144_000)] {
            // From 2050 on it is written in another way.
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            assert_eq!(end_of_validity(params.self_signed(&key).unwrap().der()), Some(at(seconds)), "{year}");
        }
        params.not_after = rcgen::date_time_ymd(1999, 12, 31);
        assert_eq!(end_of_validity(params.self_signed(&key).unwrap().der()), Some(at(946_598_400)));
    }

    #[test]
    fn mutated_certificates_do_no_harm() {
        let good = chain(&issue().certificate).remove(0).to_vec();
        let end = end_of_validity(&good);
        assert!(end.is_some());
        let mut seed: u32 = 1;
        let mut random = || {
            // Numerical Recipes' generator; there is no need for a better one.
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from(seed >> 8).unwrap()
        };
        let (mut same, mut none) = (0, 0);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            let at = random() % 120;
            bytes[at] = u8::try_from(random() % 256).unwrap();
            if random() % 4 == 0 {
                bytes.truncate(at);
            }
            match end_of_validity(&bytes) {
                None => none += 1,
                found if found == end => same += 1,
                Some(_) => {}
            }
        }
        assert!(same > 1_000 && none > 1_000, "{same} the same, {none} unreadable");
    }
}
