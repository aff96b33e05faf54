//! How the connections of a BGPPeer are authenticated: by a password, from the peer itself or from its Secret (contract 4.2
//! rules 16 and 17), or by the keys of `tcp_keys.rs`.
//!
//! Messages here name fields and Secrets, never what is in them.

use std::fmt;

use api::core::Secret as SecretObject;
use api::{BGPPeer, Key};
use kit::{Secret, TcpAuthentication};

use crate::finding::Report;
use crate::tcp_keys::master_keys;
use crate::validate::{Context, Scope};

/// The type that a Secret with a password has.
const SECRET_TYPE: &str = "kubernetes.io/basic-auth";
/// The key of the password in it.
const SECRET_KEY: &str = "password";
/// The longest key that Linux takes for TCP MD5 and TCP-AO (`TCP_MD5SIG_MAXKEYLEN`, `TCP_AO_MAXKEYLEN`), in bytes.
const PASSWORD_LENGTH_MAX: usize = 80;

const PASSWORD: &str = "/spec/password";
const REFERENCE: &str = "/spec/passwordSecret";

/// What a secret text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The password of TCP MD5.
    Password,
    /// A key of TCP-AO.
    Key,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Use::Password => "password",
            Use::Key => "TCP-AO key",
        })
    }
}

/// Finds the password or the keys of a peer, if it is to have some.
pub(crate) fn authentication(peer: &BGPPeer, context: &Context<'_>, report: &mut Report) -> Option<TcpAuthentication> {
    let keys = master_keys(peer, context, report);
    let password = password(peer, context, report);
    let [plain, reference] = peer.spec.passwords();
    if (plain.or(reference)).is_some() && !peer.spec.tcp_authentication_keys.is_empty() {
        report
            .error(
                "password-and-keys",
                "/spec/tcpAuthenticationKeys",
                "can not have both a password and tcpAuthenticationKeys",
            )
            .hint("remove one of them: packets are signed by a password (TCP MD5) or by keys (TCP-AO)");
        return None;
    }
    keys.map(TcpAuthentication::Keys).or(password.map(TcpAuthentication::Password))
}

/// Finds the password of a peer, if it is to have one.
fn password(peer: &BGPPeer, context: &Context<'_>, report: &mut Report) -> Option<Secret> {
    match peer.spec.passwords() {
        // D19: that both are there is told, whatever they hold.
        [Some(_), Some(_)] => {
            report
                .error("password-twice", REFERENCE, "can not have both password and secret ref")
                .hint("remove password, and keep passwordSecret");
            None
        }
        [Some(plain), None] => checked(plain.to_owned(), Use::Password, PASSWORD, report),
        [None, Some(name)] => {
            let password = secret_text(peer, name, Use::Password, REFERENCE, context, report)?;
            if password.is_empty() {
                report
                    .warning(
                        "password-empty",
                        REFERENCE,
                        format!("the password in Secret {name:?} is empty: the session has none"),
                    )
                    .hint("remove passwordSecret if that is meant");
            }
            Some(password).filter(|password| !password.is_empty())
        }
        [None, None] => None,
    }
}

/// The password, or the text of a key, that the Secret of this name has; it may be empty. `pointer` is what refers to it.
pub(crate) fn secret_text(
    peer: &BGPPeer,
    name: &str,
    purpose: Use,
    pointer: &str,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<Secret> {
    let secrets = &context.objects.secrets;
    let namespace = context.namespace.unwrap_or(&peer.metadata.namespace);
    // Manifests may leave the namespace out.
    let secret = secrets.get(&Key::new(namespace, name)).or_else(|| secrets.get(&Key::new("", name)));
    let Some(secret) = secret else {
        missing(name, namespace, pointer, context, report);
        return None;
    };
    if secret.type_.as_deref() != Some(SECRET_TYPE) {
        report
            .error(
                "secret-type",
                pointer,
                format!("secret type mismatch: Secret {name:?} is not of type {SECRET_TYPE}"),
            )
            .hint(format!("create the Secret anew with type: {SECRET_TYPE}"));
        return None;
    }
    let text = match value_of(secret, purpose) {
        Ok(text) => text,
        Err(problem) => {
            report.error("secret-password", pointer, format!("Secret {name:?} {problem}")).hint(format!(
                "put the {purpose} under the key {SECRET_KEY:?}, as text under stringData or in base64 under data"
            ));
            return None;
        }
    };
    checked(text, purpose, pointer, report)
}

/// A Secret that is not there: sure of a speaker, which sees them all, but a guess where objects come from files.
fn missing(name: &str, namespace: &str, pointer: &str, context: &Context<'_>, report: &mut Report) {
    let place = if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace:?}") };
    let message = format!("secret ref not found: there is no Secret {name:?}{place}");
    match context.scope {
        Scope::Everything if context.objects.secrets.is_empty() => {}
        Scope::Everything => {
            report
                .warning("secret-missing", pointer, message)
                .hint("speakers refuse the configuration until the Secret is in the cluster")
                .transient();
        }
        Scope::Controller | Scope::Speaker { .. } => {
            report
                .error("secret-missing", pointer, message)
                .hint("create the Secret in MetalLB's namespace")
                .transient();
        }
    }
}

fn value_of(secret: &SecretObject, purpose: Use) -> Result<String, String> {
    // The API server lets stringData win over data.
    if let Some(text) = secret.string_data.get(SECRET_KEY) {
        return Ok(text.clone());
    }
    let encoded = secret.data.get(SECRET_KEY).ok_or("has no key \"password\"")?;
    let bytes = decode_base64(encoded).ok_or_else(|| format!("has a {purpose} that is not base64"))?;
    String::from_utf8(bytes).map_err(|_| format!("has a {purpose} that is not UTF-8 text"))
}

fn checked(text: String, purpose: Use, pointer: &str, report: &mut Report) -> Option<Secret> {
    if text.len() > PASSWORD_LENGTH_MAX {
        report
            .error("password-length", pointer, format!("the {purpose} is longer than {PASSWORD_LENGTH_MAX} bytes"))
            .hint("Linux takes at most that; use a shorter one on both ends");
        return None;
    }
    if text.ends_with(['\n', '\r']) {
        let example = match purpose {
            Use::Password => "PASSWORD",
            Use::Key => "KEY",
        };
        report
            .warning(
                "password-newline",
                pointer,
                format!("the {purpose} ends with a line break, which counts as a part of it"),
            )
            .hint(format!("when encoding it, leave the line break out: printf %s {example} | base64"));
    }
    Some(Secret::new(text))
}

/// Decodes base64 with the standard alphabet and padding (RFC 4648 section 4), as Secrets have it; line breaks are
/// skipped.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let symbols: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    let mut bytes = Vec::with_capacity(symbols.len());
    let groups = symbols.chunks_exact(4);
    if !groups.remainder().is_empty() {
        return None;
    }
    let last = groups.len().checked_sub(1);
    for (position, group) in groups.enumerate() {
        let padding = group.iter().rev().take_while(|symbol| **symbol == b'=').count();
        if padding > 2 || (padding > 0 && Some(position) != last) {
            return None;
        }
        let mut number: u32 = 0;
        for symbol in group {
            let value = match symbol {
                b'A'..=b'Z' => symbol.checked_sub(b'A')?,
                b'a'..=b'z' => symbol.checked_sub(b'a')?.checked_add(26)?,
                b'0'..=b'9' => symbol.checked_sub(b'0')?.checked_add(52)?,
                b'+' => 62,
                b'/' => 63,
                b'=' => 0,
                _ => return None,
            };
            number = number << 6 | u32::from(value);
        }
        let [_, decoded @ ..] = number.to_be_bytes();
        // An equals sign before the padding reads as zero above; it is refused here.
        if group.iter().rev().skip(padding).any(|symbol| *symbol == b'=') {
            return None;
        }
        bytes.extend(decoded.iter().take(decoded.len().saturating_sub(padding)));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_vectors_of_rfc_4648_section_10() {
        let cases = [
            ("", Some("")),
            ("Zg==", Some("f")),
            ("Zm8=", Some("fo")),
            ("Zm9v", Some("foo")),
            ("Zm9vYg==", Some("foob")),
            ("Zm9vYmE=", Some("fooba")),
            ("Zm9v\nYmFy\n", Some("foobar")),
            ("Zg=", None),
            ("Zg", None),
            ("Z===", None),
            ("Zg==Zg==", None),
            ("Z=g=", None),
            ("Zm9-", None),
        ];
        for (encoded, expected) in cases {
            let decoded = decode_base64(encoded).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(decoded.as_deref(), expected, "{encoded:?}");
        }
    }
}
