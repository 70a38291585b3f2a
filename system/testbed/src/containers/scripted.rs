//! An engine that answers as a test says: one answer to a request, on a socket of its own.
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::engine::Engine;

/// Tells the sockets of one process apart.
static SOCKETS: AtomicU32 = AtomicU32::new(0);

/// Status and body for a request such as `POST /v1.41/containers/NAME/pause`.
type Script = Box<dyn FnMut(&str) -> (u16, String) + Send>;

pub(super) struct Scripted {
    path: PathBuf,
    _tasks: JoinSet<()>,
}

impl Scripted {
    pub(super) fn start(script: impl FnMut(&str) -> (u16, String) + Send + 'static) -> Self {
        let number = SOCKETS.fetch_add(1, Relaxed);
        let name = format!("chatstorm-engine-{}-{number}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, Arc::clone(&script)));
            }
        });
        Self { path, _tasks: tasks }
    }

    pub(super) fn engine(&self) -> Engine {
        let path = self.path.to_str().unwrap();
        Engine { docker: Docker::connect_with_unix(path, 5, API_DEFAULT_VERSION).unwrap() }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

async fn answer(mut stream: UnixStream, script: Arc<Mutex<Script>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let request = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
    let (status, body) = script.lock().unwrap_or_else(PoisonError::into_inner)(request);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    // Who asked may be gone.
    drop(stream.write_all(answer.as_bytes()).await);
}
