//! A Toxiproxy that does as it is told by a test: it keeps listeners and toxics as the real one does, and lies, hangs or refuses on
//! demand. To a probe in another protocol than HTTP it answers something.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What it does instead of what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Answers this status and does nothing.
    Status(u16),
    /// Answers that it was done, and does nothing.
    Pretend,
    /// Adds the toxic with every number one higher.
    Skew,
    /// Answers what is no JSON.
    Nonsense,
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Once,
    /// Until a listener is closed.
    UntilClosed,
    Ever,
}

#[derive(Debug, Default)]
struct State {
    listeners: BTreeMap<String, Value>,
    /// Method and path of each, in order.
    requests: Vec<String>,
    script: Vec<(&'static str, Act, For)>,
}

pub(super) struct Scripted {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Scripted {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { addr, state, _tasks: tasks }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next request that begins like this meets with the act.
    pub(super) fn script(&self, request: &'static str, act: Act) {
        self.lock().script.push((request, act, For::Once));
    }

    pub(super) fn script_until_closed(&self, request: &'static str, act: Act) {
        self.lock().script.push((request, act, For::UntilClosed));
    }

    pub(super) fn script_always(&self, request: &'static str, act: Act) {
        self.lock().script.push((request, act, For::Ever));
    }

    pub(super) fn forget_script(&self) {
        self.lock().script.clear();
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// Requests that are not mere looks.
    pub(super) fn changes(&self) -> usize {
        self.lock().requests.iter().filter(|request| !request.starts_with("GET")).count()
    }

    /// Names of a listener's toxics.
    pub(super) fn toxics(&self, listener: &str) -> Vec<String> {
        let state = self.lock();
        let toxics = state.listeners[listener]["toxics"].as_array().unwrap();
        toxics.iter().map(|toxic| toxic["name"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn enabled(&self, listener: &str) -> bool {
        self.lock().listeners[listener]["enabled"] == true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Answers one request and closes.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let Some((request, body)) = read(&mut stream).await else { return };
    let act = state.lock().unwrap().act_for(&request);
    let (status, answer) = match act {
        Some(Act::Close) => return,
        Some(Act::Hang) => return std::future::pending().await,
        Some(Act::Status(status)) => (status, json!({ "error": "scripted" }).to_string()),
        Some(Act::Pretend) => (200, "{}".to_owned()),
        Some(Act::Nonsense) => (200, "<html>".to_owned()),
        Some(Act::Skew) => state.lock().unwrap().answer(&request, skewed(body)),
        None => state.lock().unwrap().answer(&request, body),
    };
    let head = format!(
        "HTTP/1.1 {status} scripted\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_ok() {
        stream.shutdown().await.unwrap_or_default();
    }
}

/// "METHOD /path" and the body; what is no HTTP gets an answer and ends.
async fn read(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.starts_with("PING") {
            stream.write_all(b"+PONG\r\n").await.ok()?;
            return None;
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let request = head.split(' ').take(2).collect::<Vec<_>>().join(" ");
        return Some((request, serde_json::from_str(body).unwrap_or(Value::Null)));
    }
}

fn skewed(mut toxic: Value) -> Value {
    for value in toxic["attributes"].as_object_mut().unwrap().values_mut() {
        *value = json!(value.as_i64().unwrap() + 1);
    }
    toxic
}

impl State {
    fn act_for(&mut self, request: &str) -> Option<Act> {
        self.requests.push(request.to_owned());
        let at = self.script.iter().position(|(begin, ..)| request.starts_with(begin))?;
        let (_, act, time) = self.script[at];
        if time == For::Once {
            self.script.remove(at);
        }
        Some(act)
    }

    /// What Toxiproxy does.
    fn answer(&mut self, request: &str, body: Value) -> (u16, String) {
        let parts: Vec<_> = request.split(['/', ' ']).filter(|part| !part.is_empty()).collect();
        let missing = (404, json!({ "error": "not found" }).to_string());
        match parts[..] {
            ["GET", "version"] => (200, json!({ "version": "scripted" }).to_string()),
            ["POST", "populate"] => {
                for listener in body.as_array().unwrap() {
                    let name = listener["name"].as_str().unwrap().to_owned();
                    self.listeners.insert(name, listener.clone());
                }
                (201, json!({ "proxies": [] }).to_string())
            }
            [method, "proxies", name, ..] => {
                let Some(listener) = self.listeners.get_mut(name) else { return missing };
                let toxics = listener["toxics"].as_array_mut().unwrap();
                let place = |toxics: &[Value], toxic: &str| {
                    toxics.iter().position(|one| one["name"] == toxic)
                };
                match (method, &parts[3..]) {
                    ("GET", []) => {}
                    ("PATCH", []) => {
                        listener["enabled"] = body["enabled"].clone();
                        if body["enabled"] == false {
                            self.script.retain(|(_, _, time)| *time != For::UntilClosed);
                        }
                    }
                    ("POST", ["toxics"]) => toxics.push(body),
                    ("PATCH", ["toxics", toxic]) => {
                        let found = place(toxics, toxic).unwrap();
                        toxics[found]["attributes"] = body["attributes"].clone();
                    }
                    ("DELETE", ["toxics", toxic]) => {
                        let Some(found) = place(toxics, toxic) else { return missing };
                        toxics.remove(found);
                    }
                    _ => return missing,
                }
                (200, self.listeners[name].to_string())
            }
            _ => missing,
        }
    }
}
