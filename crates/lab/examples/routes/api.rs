//! An API server that does nothing but answer: lists that are there from the begin, watches that are told what this program
//! says, and writes that all succeed. So what is measured behind it is the speaker alone.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use kit::Instant;
use lab::{Host, eventually};
use netio::clock::Clock;
use serde_json::{Value, json};

use crate::dump::LIMIT;

/// A running server.
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
}

#[derive(Default)]
struct State {
    /// What lists answer, by path.
    objects: BTreeMap<String, Vec<Value>>,
    /// Who watches, by path.
    watches: BTreeMap<String, Vec<TcpStream>>,
    version: u64,
}

impl Api {
    /// Starts one on the host, which has these objects by the path of their list.
    pub(crate) fn start(host: &Host, objects: BTreeMap<String, Vec<Value>>) -> Result<Api> {
        let listener = host.run(async || {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?.into_std()?;
            listener.set_nonblocking(false)?;
            Ok(listener)
        })?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { objects, version: 1, ..State::default() }));
        let shared = Arc::clone(&state);
        thread::Builder::new().name("api".to_owned()).spawn(move || accept(&listener, &shared))?;
        Ok(Api { state, address })
    }

    /// Writes the file that leads a program here.
    pub(crate) fn kubeconfig(&self, host: &Host) -> Result<PathBuf> {
        let file = host.folder().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "stub",
            "clusters": [{"name": "stub", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "stub", "user": {}}],
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
        });
        fs::write(&file, config.to_string())?;
        Ok(file)
    }

    /// Waits until somebody watches this list.
    pub(crate) fn wait_watched(&self, path: &str) -> Result<()> {
        eventually(LIMIT, || {
            let state = self.state.lock().map_err(|_| anyhow!("a thread of the API server panicked"))?;
            ensure!(state.watches.contains_key(path), "nobody watches {path}");
            Ok(())
        })
    }

    /// Tells those who watch a list of a change (`ADDED`, `MODIFIED`, `DELETED`), and gives back the moment before.
    pub(crate) fn tell(&self, path: &str, what: &str, object: &Value, clock: Clock) -> Result<Instant> {
        let mut state = self.state.lock().map_err(|_| anyhow!("a thread of the API server panicked"))?;
        state.version += 1;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let line = format!("{}\n", json!({"type": what, "object": object}));
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        let watches = state.watches.get_mut(path).with_context(|| format!("nobody watches {path}"))?;
        let before = clock.now();
        for watch in watches {
            watch.write_all(chunk.as_bytes())?;
        }
        Ok(before)
    }
}

fn accept(listener: &TcpListener, state: &Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept() {
        let state = Arc::clone(state);
        // A connection ends with its client.
        thread::spawn(move || drop(serve(stream, &state)));
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if query.contains("watch=true") {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            )?;
            let mut state = state.lock().map_err(|_| anyhow!("another thread panicked"))?;
            state.watches.entry(path).or_default().push(stream.try_clone()?);
            continue;
        }
        let answer = if method == "GET" {
            let state = state.lock().map_err(|_| anyhow!("another thread panicked"))?;
            list(&state, &path, &query).to_string().into_bytes()
        } else {
            body
        };
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(&[head.as_bytes(), &answer].concat())?;
    }
}

/// The page that is asked for. What continues a list is the number of objects before.
fn list(state: &State, path: &str, query: &str) -> Value {
    let number = |name: &str| {
        let parameter = query.split('&').find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='));
        parameter.and_then(|value| value.parse::<usize>().ok())
    };
    let all = state.objects.get(path).map(Vec::as_slice).unwrap_or_default();
    let begin = number("continue").unwrap_or(0);
    let end = all.len().min(begin + number("limit").unwrap_or(usize::MAX - begin));
    let more = if end < all.len() { end.to_string() } else { String::new() };
    json!({
        "kind": "List", "metadata": {"resourceVersion": state.version.to_string(), "continue": more},
        "items": all.get(begin..end).unwrap_or_default(),
    })
}
