//! Who is who in a cluster: one authority, made anew for each, that signs for the API server and its clients.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::Host;

/// In the folder of the control host: the authority's certificate.
pub(crate) const AUTHORITY: &str = "ca.crt";
/// The key that signs the tokens of service accounts.
pub(crate) const ACCOUNTS_KEY: &str = "accounts.key";

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// Its files are named after it.
    pub(crate) file: String,
    /// What Kubernetes calls the user.
    pub(crate) user: String,
    /// The group of the user; empty for none.
    pub(crate) group: String,
}

impl Credentials {
    /// A component of the control plane, or kube-proxy: Kubernetes has a role for the name.
    pub(crate) fn component(name: &str) -> Credentials {
        Credentials { file: name.to_owned(), user: format!("system:{name}"), group: String::new() }
    }

    /// The kubelet of a node.
    pub(crate) fn node(name: &str) -> Credentials {
        Credentials {
            file: format!("kubelet-{name}"),
            user: format!("system:node:{name}"),
            group: "system:nodes".to_owned(),
        }
    }
}

/// Makes the authority, the server's certificate, the one that it shows to kubelets, and the key for service accounts.
pub(crate) fn authority_make(control: &Host, address: IpAddr) -> Result<()> {
    let script = format!(
        "set -e; cd {folder}
        key() {{ openssl ecparam -name prime256v1 -genkey -noout -out $1.key; }}
        key ca; key server; key accounts
        openssl req -x509 -new -key ca.key -subj /CN=lab-ca -days 30 -out {AUTHORITY} \
            -addext keyUsage=critical,keyCertSign,cRLSign
        openssl req -new -key server.key -subj /CN=kube-apiserver -out server.csr
        printf 'subjectAltName=IP:{address},IP:127.0.0.1,IP:10.96.0.1,DNS:kubernetes.default.svc\n' > server.ext
        printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n' >> server.ext
        openssl x509 -req -in server.csr -CA {AUTHORITY} -CAkey ca.key -days 30 -extfile server.ext -out server.crt",
        folder = control.folder().display()
    );
    control.output_ok("sh", &["-c", &script]).context("making certificates")?;
    let to_kubelets = Credentials {
        file: "to-kubelets".to_owned(),
        user: "kube-apiserver-kubelet-client".to_owned(),
        group: "system:masters".to_owned(),
    };
    client_make(control, &to_kubelets).map(drop)
}

/// Makes a client's certificate, and gives back where it and its key are.
pub(crate) fn client_make(control: &Host, credentials: &Credentials) -> Result<(PathBuf, PathBuf)> {
    let Credentials { file, user, group } = credentials;
    let group = if group.is_empty() { String::new() } else { format!("/O={group}") };
    let script = format!(
        "set -e; cd {folder}
        openssl ecparam -name prime256v1 -genkey -noout -out {file}.key
        openssl req -new -key {file}.key -subj '{group}/CN={user}' -out {file}.csr
        printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n' > {file}.ext
        openssl x509 -req -in {file}.csr -CA {AUTHORITY} -CAkey ca.key -days 30 -extfile {file}.ext -out {file}.crt",
        folder = control.folder().display()
    );
    control.output_ok("sh", &["-c", &script]).with_context(|| format!("making a certificate for {user}"))?;
    let path = |extension: &str| control.folder().join(format!("{file}.{extension}"));
    Ok((path("crt"), path("key")))
}
