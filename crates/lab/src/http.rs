//! The least of an HTTP client that the lab needs: one request for each connection.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// What came after the headers.
    pub body: String,
}

/// Sends a request and reads the answer to its end. To be called inside a host, with a time limit around it.
///
/// It speaks HTTP/1.0, so a server sends no chunks and closes after the answer.
pub async fn request(server: SocketAddr, method: &str, path: &str, body: Option<(&str, &str)>) -> Result<Response> {
    let mut stream = TcpStream::connect(server).await.with_context(|| format!("connecting to {server}"))?;
    let (kind, body) = body.unwrap_or(("text/plain", ""));
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {server}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.context("sending a request")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.context("reading an answer")?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Response> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no HTTP answer: {text:?}"))?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok(Response { status: status.with_context(|| format!("no status in {head:?}"))?, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = parse(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nnothing\r\n\r\nhere").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (404, "nothing\r\n\r\nhere"));
        assert_eq!(parse(b"HTTP/1.1 204\r\n\r\n").unwrap().status, 204);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        for bytes in [&b""[..], b"HTTP/1.0 200 OK\r\n", b"garbage\r\n\r\n"] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
