//! Backends of Services: they tell who they are and whom they see.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use kit::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::{Host, Task};

/// Longer than any header that a client of the lab sends.
const HEADER_MAX: u64 = 16 * 1024;
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// A running backend: HTTP and UDP on one port, both families.
#[derive(Debug)]
pub struct Backend {
    _tcp: Task<()>,
    _udp: Task<()>,
}

/// What a backend answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// The name of the backend.
    pub backend: String,
    /// The address that the request came from, as the backend sees it.
    pub client: IpAddr,
}

impl Answer {
    /// Reads an answer's text.
    pub fn parse(text: &str) -> Result<Answer> {
        let words = text.strip_prefix("backend ").and_then(|rest| rest.trim_end().split_once(" sees "));
        let (backend, client) = words.with_context(|| format!("no answer of a backend: {text:?}"))?;
        let client = client.parse().with_context(|| format!("no address in {text:?}"))?;
        Ok(Answer { backend: backend.to_owned(), client })
    }

    fn text(&self) -> String {
        format!("backend {} sees {}\n", self.backend, self.client)
    }
}

impl Backend {
    /// Starts a backend on a host, named after it.
    pub fn start(host: &Host, port: u16) -> Result<Backend> {
        let any = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        let listener = host.run(async move || Ok(TcpListener::bind(any).await?.into_std()?));
        let listener = listener.with_context(|| format!("a backend on port {port} of {}", host.name()))?;
        let name = host.name().to_owned();
        let tcp = host.start_task("backend", async move || {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, from) = listener.accept().await?;
                let answer = Answer { backend: name.clone(), client: from.ip().to_canonical() };
                tokio::task::spawn_local(tokio::time::timeout(REQUEST_LIMIT.into(), answer_one(stream, answer)));
            }
        })?;
        let socket = host.run(async move || Ok(UdpSocket::bind(any).await?.into_std()?));
        let socket = socket.with_context(|| format!("a backend on UDP port {port} of {}", host.name()))?;
        let name = host.name().to_owned();
        let udp = host.start_task("backend", async move || {
            let socket = UdpSocket::from_std(socket)?;
            let mut request = [0; 2048];
            loop {
                let (_, from) = socket.recv_from(&mut request).await?;
                let answer = Answer { backend: name.clone(), client: from.ip().to_canonical() };
                // A client that is gone is no reason to stop.
                drop(socket.send_to(answer.text().as_bytes(), from).await);
            }
        })?;
        Ok(Backend { _tcp: tcp, _udp: udp })
    }
}

/// Answers one request. A line in the form of the PROXY protocol before it tells for whom a service proxy forwards.
async fn answer_one(stream: TcpStream, mut answer: Answer) -> Result<()> {
    let mut reader = BufReader::new(stream.take(HEADER_MAX));
    let mut line = String::new();
    loop {
        line.clear();
        let read = reader.read_line(&mut line).await?;
        if let Some(client) = line.strip_prefix("PROXY ").and_then(|rest| rest.split_whitespace().nth(1)) {
            answer.client = client.parse().context("an address in a PROXY line")?;
        }
        if read == 0 || line == "\r\n" {
            break;
        }
    }
    let text = answer.text();
    let head = format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len());
    let mut stream = reader.into_inner().into_inner();
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}
