//! The server over loopback, with a client of rustls that believes any certificate.

use std::fs;
use std::path::{Path, PathBuf};

use axum::routing::get;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;

fn router() -> Router {
    let long = "x".repeat(8 * 1024 * 1024);
    let patient = long.clone();
    let patient = |Extension(limit): Extension<TimeLimit>| async move {
        limit.set(CONNECTION_TIME_MAX * 3);
        patient
    };
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/long", get(move || async { long }))
        .route("/patient", get(patient))
}

async fn plain_server() -> SocketAddr {
    start(Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap())
}

async fn tls_server(policy: &TlsPolicy, certificates: Arc<Certificates>) -> SocketAddr {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    start(server.with_tls(policy, certificates).unwrap())
}

fn start(server: Server) -> SocketAddr {
    let address = server.local_address().unwrap();
    tokio::spawn(server.run(router()));
    address
}

fn policy(minimum: &str, suites: &str, curves: &str) -> TlsPolicy {
    TlsPolicy::new(minimum.parse().unwrap(), suites.parse().unwrap(), curves.parse().unwrap()).unwrap()
}

fn request(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n")
}

/// The first line and the body of an answer.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Without an end of TLS, or with a reset, what came counts.
    let _end = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    format!("{} {body}", head.lines().next().unwrap_or_default())
}

/// Takes any certificate, and remembers none: [`certificate_of`] asks the connection.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

async fn tls(address: SocketAddr, versions: &[&'static SupportedProtocolVersion]) -> io::Result<TlsStream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

#[tokio::test]
async fn one_request_for_each_connection() {
    let address = plain_server().await;
    let two = request("/hello", "") + &request("/hello", "");
    assert_eq!(exchange(TcpStream::connect(address).await.unwrap(), &two).await, "HTTP/1.1 200 OK hello");
    assert_eq!(
        exchange(TcpStream::connect(address).await.unwrap(), &request("/other", "")).await,
        "HTTP/1.1 404 Not Found "
    );
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let address = plain_server().await;
    for (request, expected) in [
        ("\x16\x03\x01\x00\x05hello\r\n\r\n".to_owned(), "HTTP/1.1 400 Bad Request "),
        (
            request("/hello", &format!("big: {}\r\n", "x".repeat(HEAD_BYTES_MAX))),
            "HTTP/1.1 431 Request Header Fields Too Large ",
        ),
    ] {
        assert_eq!(exchange(TcpStream::connect(address).await.unwrap(), &request).await, expected);
    }
}

#[tokio::test]
async fn tls_is_the_only_way_in_where_it_is_asked_for() {
    let address = tls_server(&policy("", "", ""), Certificates::self_signed().unwrap()).await;
    let stream = tls(address, &BOTH).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(exchange(stream, &request("/hello", "")).await, "HTTP/1.1 200 OK hello");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request("/hello", "").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _end = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "an answer without TLS");
}

#[tokio::test]
async fn the_policy_decides_about_version_suite_and_curve() {
    let certificates = Certificates::self_signed().unwrap();
    let strict = tls_server(&policy("", "", "24"), certificates.clone()).await;
    assert!(tls(strict, &[&version::TLS12]).await.is_err(), "TLS 1.2 is refused by default");
    let stream = tls(strict, &BOTH).await.unwrap();
    assert_eq!(stream.get_ref().1.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::secp384r1);

    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let address = tls_server(&policy("VersionTLS12", suite, ""), certificates.clone()).await;
    let stream = tls(address, &[&version::TLS12]).await.unwrap();
    assert_eq!(stream.get_ref().1.negotiated_cipher_suite().unwrap().suite().as_str(), Some(suite));
    assert_eq!(exchange(stream, &request("/hello", "")).await, "HTTP/1.1 200 OK hello");

    // A key of the other kind than the suite needs: 1.3 goes on, 1.2 does not.
    let rsa = tls_server(&policy("VersionTLS12", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", ""), certificates).await;
    assert!(tls(rsa, &[&version::TLS12]).await.is_err());
    assert!(tls(rsa, &[&version::TLS13]).await.is_ok());
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("metallb-serve-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Writes a certificate and its key, and gives the certificate back.
    fn write(&self, name: &str) -> (Vec<u8>, String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap().der().to_vec();
        let (certificate_pem, key_pem) = (pem("CERTIFICATE", &certificate), pem("PRIVATE KEY", &key.serialize_der()));
        fs::write(self.0.join("tls.crt"), &certificate_pem).unwrap();
        fs::write(self.0.join("tls.key"), &key_pem).unwrap();
        (certificate, certificate_pem, key_pem)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// RFC 7468, for tests alone: the product only reads it.
fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let is_padding = digit > three.len();
            text.push(if is_padding { '=' } else { char::from(DIGITS[bits >> (18 - 6 * digit) & 63]) });
        }
    }
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

async fn certificate_of(address: SocketAddr) -> Vec<u8> {
    tls(address, &BOTH).await.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_certificate_that_changes_is_taken_up_and_a_bad_one_is_not() {
    let folder = Folder::new("reload");
    let (first, first_pem, first_key) = folder.write("first");
    let certificates = Certificates::directory(&folder.0).unwrap();
    let address = tls_server(&policy("", "", ""), certificates.clone()).await;
    assert_eq!(certificate_of(address).await, first);
    assert!(!certificates.reload().unwrap(), "nothing has changed");

    // Half of a new pair, as between two writes; then all of it.
    let (second, _, second_key) = folder.write("second");
    fs::write(folder.0.join("tls.key"), &first_key).unwrap();
    assert!(certificates.reload().is_err());
    assert_eq!(certificate_of(address).await, first, "the old one stays in use");
    fs::write(folder.0.join("tls.key"), &second_key).unwrap();
    assert!(certificates.reload().unwrap());
    assert_eq!(certificate_of(address).await, second);

    fs::remove_file(folder.0.join("tls.crt")).unwrap();
    assert!(certificates.reload().is_err());
    assert_eq!(certificate_of(address).await, second);
    assert_eq!((certificates.reads(), certificates.read_errors()), (2, 2));

    // What was there before is taken up like any other.
    fs::write(folder.0.join("tls.crt"), first_pem).unwrap();
    fs::write(folder.0.join("tls.key"), first_key).unwrap();
    assert!(certificates.reload().unwrap());
    assert_eq!(certificate_of(address).await, first);
}

#[tokio::test]
async fn a_certificate_that_is_given_can_be_replaced() {
    let issue = || crate::Issued::new(&["localhost".to_owned()], std::time::SystemTime::UNIX_EPOCH).unwrap();
    let (first, second) = (issue(), issue());
    let certificates = Certificates::given(&first.certificate, &first.key).unwrap();
    let address = tls_server(&policy("", "", ""), certificates.clone()).await;
    let shown_first = certificate_of(address).await;
    assert!(certificates.replace(&second.certificate, &first.key).is_err());
    assert_eq!(certificate_of(address).await, shown_first, "the old one stays in use");
    certificates.replace(&second.certificate, &second.key).unwrap();
    assert_ne!(certificate_of(address).await, shown_first);
    assert!(!certificates.reload().unwrap(), "there is no directory to look at");
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_looked_at_now_and_then() {
    let folder = Folder::new("watch");
    folder.write("first");
    let certificates = Certificates::directory(&folder.0).unwrap();
    let watch = tokio::spawn(certificates.clone().watch());
    tokio::time::sleep(crate::RELOAD_INTERVAL / 2).await;
    folder.write("second");
    assert_eq!(certificates.reads(), 1);
    while certificates.reads() < 2 {
        assert!(!watch.is_finished());
        tokio::time::sleep(crate::RELOAD_INTERVAL).await;
    }
}

#[test]
fn what_is_wrong_with_a_directory_is_said_without_the_key() {
    let folder = Folder::new("wrong");
    let path = folder.0.clone();
    let text = |path: &Path| {
        let error = Certificates::directory(path).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}").replace(&path.display().to_string(), "DIR")
    };
    assert_eq!(text(&path), "cannot read DIR/tls.crt: No such file or directory (os error 2)");
    let (_, certificate, key) = folder.write("x");
    let other_key = Folder::new("other").write("y").2;
    for (file, content, expected) in [
        ("tls.crt", "", "DIR/tls.crt holds no certificate in PEM"),
        ("tls.crt", &*key, "DIR/tls.crt holds no certificate in PEM"),
        ("tls.key", "secret", "DIR/tls.key holds no private key in PEM"),
        ("tls.key", &*certificate, "DIR/tls.key holds no private key in PEM"),
        ("tls.key", &*other_key, "cannot use tls.crt with tls.key: keys may not be consistent: KeyMismatch"),
    ] {
        fs::write(folder.0.join("tls.crt"), &certificate).unwrap();
        fs::write(folder.0.join("tls.key"), &key).unwrap();
        fs::write(folder.0.join(file), content).unwrap();
        assert_eq!(text(&path), expected, "{file}");
    }
}

#[test]
fn a_certificate_prints_without_its_key() {
    assert_eq!(format!("{:?}", Certificates::self_signed().unwrap()), "Certificates { directory: None, .. }");
}

/// Lets time pass for the server, when it has nothing else to do.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn who_says_nothing_loses_the_place_to_who_waits() {
    for with_tls in [false, true] {
        let mut server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        if with_tls {
            server = server.with_tls(&policy("", "", ""), Certificates::self_signed().unwrap()).unwrap();
        }
        let crowded = server.crowded();
        let address = start(server);
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let client = tokio::spawn(async move {
            if with_tls {
                exchange(tls(address, &BOTH).await.unwrap(), &request("/hello", "")).await
            } else {
                exchange(TcpStream::connect(address).await.unwrap(), &request("/hello", "")).await
            }
        });
        while crowded.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!client.is_finished());
        pass(HEAD_TIME_MAX).await;
        assert_eq!(client.await.unwrap(), "HTTP/1.1 200 OK hello");
        assert_eq!(crowded.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn who_ends_can_wait_for_the_connections_to_end() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let connections = server.connections();
    // Nobody is there.
    connections.ended().await;
    let address = start(server);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET").await.unwrap();
    while connections.0.available_permits() == usize::from(CONNECTIONS_MAX) {
        tokio::task::yield_now().await;
    }
    let ended = tokio::spawn(async move { connections.ended().await });
    tokio::task::yield_now().await;
    assert!(!ended.is_finished());
    drop(stream);
    ended.await.unwrap();
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_cut_off() {
    let address = plain_server().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request("/long", "").as_bytes()).await.unwrap();
    // The answer has begun.
    stream.readable().await.unwrap();
    pass(CONNECTION_TIME_MAX).await;
    let mut answer = Vec::new();
    let _end = stream.read_to_end(&mut answer).await;
    assert!(answer.len() < 8 * 1024 * 1024, "all of it came");
}

#[tokio::test]
async fn an_answer_that_is_given_more_time_has_it_and_no_more() {
    for (rounds, is_whole) in [(2, true), (3, false)] {
        let mut stream = TcpStream::connect(plain_server().await).await.unwrap();
        stream.write_all(request("/patient", "").as_bytes()).await.unwrap();
        stream.readable().await.unwrap();
        for _ in 0..rounds {
            pass(CONNECTION_TIME_MAX).await;
        }
        let mut answer = Vec::new();
        let _end = stream.read_to_end(&mut answer).await;
        assert_eq!(answer.len() > 8 * 1024 * 1024, is_whole, "{} bytes after {rounds} rounds", answer.len());
    }
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = Server::bind(taken.local_addr().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_socket_in_the_file_system_is_ours_alone_and_replaces_one_that_was_left() {
    let folder = std::env::temp_dir().join(format!("metallb-serve-socket-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("speaker.sock");
    // Left by somebody who is not there any more.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = Server::bind_file(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    tokio::spawn(server.run(router()));
    let stream = UnixStream::connect(&path).await.unwrap();
    assert_eq!(exchange(stream, &request("/hello", "")).await, "HTTP/1.1 200 OK hello");
    assert_eq!(Server::bind_file(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let other = folder.join("notes.txt");
    fs::write(&other, "not a socket").unwrap();
    assert_eq!(Server::bind_file(&other).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&other).unwrap(), "not a socket");
    fs::remove_dir_all(&folder).unwrap();
}
