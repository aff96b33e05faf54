//! What runs in the containers of the lab's clusters: one small static program that is a backend, a client, and the
//! process that holds the namespaces of a pod.
//!
//! A backend answers as those of the lab do (`lab::backend`): `backend NAME sees ADDRESS`.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use sys::process::{Signal, SignalsHeld, child_reap};

const USAGE: &str = "usage: pod pause\n       pod backend [PORT]\n       pod get ADDRESS:PORT [PATH]";

const PORT: &str = "8080";
/// For one request, on either side.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Longer than any header that a client here sends.
const HEADER_MAX: u64 = 16 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["pause"] => until_terminated(),
        ["backend"] => backend(PORT),
        ["backend", port] => backend(port),
        ["get", server] => get(server, "/"),
        ["get", server, path] => get(server, path),
        _ => {
            report(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn report(text: &str) {
    // Without a standard error there is nobody to tell.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Reaps what is left in the pod, until it is told to end: the first process of a container gets no signal that it does
/// not wait for.
fn until_terminated() -> Result<()> {
    let held = SignalsHeld::hold(&[Signal::Interrupt, Signal::Terminate, Signal::Child])?;
    loop {
        match held.wait()? {
            (Signal::Child, _) => while child_reap().is_some() {},
            _ => return Ok(()),
        }
    }
}

/// Answers HTTP and UDP on a port, in both families, with the name of the pod and the address of whoever asks.
fn backend(port: &str) -> Result<()> {
    let port = port.parse().with_context(|| format!("{port:?} is no port"))?;
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("reading the name of the pod")?;
    let name = name.trim_end().to_owned();
    let (listener, socket) = (TcpListener::bind(any)?, UdpSocket::bind(any)?);
    // Held before there are threads, which take it over.
    let held = SignalsHeld::hold(&[Signal::Interrupt, Signal::Terminate])?;
    let datagram_name = name.clone();
    thread::spawn(move || {
        let mut request = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut request) {
            // A client that is gone is no reason to stop.
            drop(socket.send_to(answer(&datagram_name, from.ip()).as_bytes(), from));
        }
    });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            // Where there are too many the client gets no answer, as from any server.
            drop(thread::Builder::new().spawn(move || serve(stream, &name)));
        }
    });
    held.wait().map(drop).context("waiting for the end")
}

fn answer(name: &str, client: IpAddr) -> String {
    format!("backend {name} sees {}\n", client.to_canonical())
}

/// Answers one request, whatever it asks for.
fn serve(mut stream: TcpStream, name: &str) -> Result<()> {
    stream.set_read_timeout(Some(REQUEST_LIMIT))?;
    stream.set_write_timeout(Some(REQUEST_LIMIT))?;
    let client = stream.peer_addr()?.ip();
    let mut reader = BufReader::new(stream.try_clone()?.take(HEADER_MAX));
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        line.clear();
    }
    let text = answer(name, client);
    let head = format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len());
    stream.write_all(&[head, text].concat().into_bytes())?;
    Ok(())
}

/// Asks a server and prints its answer.
fn get(server: &str, path: &str) -> Result<()> {
    let address: SocketAddr = server.parse().with_context(|| format!("{server:?} is no address with a port"))?;
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_LIMIT)?;
    stream.set_read_timeout(Some(REQUEST_LIMIT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("{server} answered no HTTP: {text:?}") };
    io::stdout().write_all(body.as_bytes())?;
    let status = head.split_whitespace().nth(1);
    ensure!(status == Some("200"), "{server} answered {head:?}");
    Ok(())
}
