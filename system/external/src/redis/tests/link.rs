//! Stories of the connection.
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat_ports::PortError;
use chat_ports::clock::SteadyClock;
use chat_ports::observe::Observer;
use chat_ports::relay_queue::RelayQueue;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::redis::{RedisConfig, RedisStore};

/// Limit of a call in stories in which the server answers.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// Limit of a call in stories in which it does not.
const SHORT: Duration = Duration::from_secs(1);

/// How the server meets one command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Says(&'static str),
    Nothing,
    HangsUp,
}
pub(super) use Reply::{HangsUp, Nothing, Says};

pub(super) const INCARNATION: Reply = Says("*1\r\n$1\r\n7\r\n");

/// A server that greets every connection and meets all further commands as told, in order over all connections.
pub(super) struct Server {
    addr: SocketAddr,
    told: Arc<Mutex<VecDeque<Reply>>>,
    greeted: Arc<Mutex<u32>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// `greets` is how the first commands of a connection are met, as far as it goes.
    pub(super) async fn start(greets: bool, told: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(told.iter().copied().collect::<VecDeque<_>>()));
        let greeted = Arc::<Mutex<u32>>::default();
        let (replies, count) = (Arc::clone(&told), Arc::clone(&greeted));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, greets, Arc::clone(&replies), Arc::clone(&count)));
            }
        });
        Self { addr, told, greeted, _tasks: tasks }
    }

    pub(super) async fn connect(&self, call: Duration) -> Result<RedisStore, PortError> {
        connect(self.addr, call).await
    }

    fn connections(&self) -> u32 {
        *self.greeted.lock().unwrap()
    }
}

async fn connect(addr: SocketAddr, call: Duration) -> Result<RedisStore, PortError> {
    let observer = Observer::new(Arc::new(SteadyClock::new(1)));
    let config = RedisConfig { addr, prefix: "p".to_owned(), relay_queue: 8, call };
    RedisStore::connect(config, &observer).await
}

async fn serve(
    stream: TcpStream,
    greets: bool,
    told: Arc<Mutex<VecDeque<Reply>>>,
    greeted: Arc<Mutex<u32>>,
) {
    let mut stream = BufReader::new(stream);
    let mut greeting = true;
    while let Some(words) = command(&mut stream).await {
        let reply = match &words[0][..] {
            _ if !greets => Nothing,
            "HELLO" => Says("%1\r\n$5\r\nproto\r\n:3\r\n"),
            "SCRIPT" => Says("$1\r\nx\r\n"),
            _ if std::mem::take(&mut greeting) => {
                *greeted.lock().unwrap() += 1;
                INCARNATION
            }
            _ => told.lock().unwrap().pop_front().unwrap_or(INCARNATION),
        };
        match reply {
            Says(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Nothing => {}
            HangsUp => return,
        }
    }
}

/// Reads one command; `None` at the end of the connection.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..length(stream).await? {
        let mut word = vec![0; length(stream).await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
    }
    Some(words)
}

/// Reads a line like `*3` or `$5`.
async fn length(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

fn refused<T>(result: &Result<T, PortError>) -> bool {
    matches!(result, Err(PortError::Refused(_)))
}

fn unknown<T>(result: &Result<T, PortError>) -> bool {
    matches!(result, Err(PortError::Unknown(_)))
}

#[tokio::test]
async fn server_that_is_away_or_silent_has_done_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    assert!(refused(&connect(addr, LONG).await));
    let server = Server::start(false, &[]).await;
    assert!(refused(&server.connect(SHORT).await));
}

#[tokio::test]
async fn call_without_an_answer_is_unknown_and_the_next_one_has_a_new_connection() {
    let server = Server::start(true, &[Nothing]).await;
    let queue = server.connect(SHORT).await.unwrap().relay_queue();
    assert!(unknown(&queue.incarnation().await));
    assert_eq!(server.connections(), 1);
    assert_eq!(queue.incarnation().await, Ok(7));
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn caller_that_goes_away_early_leaves_the_connection_to_others() {
    let server = Server::start(true, &[Nothing]).await;
    let queue = server.connect(LONG).await.unwrap().relay_queue();
    let early = tokio::time::timeout(SHORT, queue.incarnation()).await;
    assert!(early.is_err());
    assert!(tokio::time::timeout(SHORT, queue.incarnation()).await.is_err());
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn connection_that_breaks_with_the_answer_is_unknown() {
    let server = Server::start(true, &[HangsUp]).await;
    let queue = server.connect(LONG).await.unwrap().relay_queue();
    assert!(unknown(&queue.incarnation().await));
    assert_eq!(queue.incarnation().await, Ok(7));
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn call_that_the_server_turns_away_is_refused_and_one_that_fails_is_unknown() {
    let told = [
        Says("-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
        Says("-BUSY Redis is busy running a script.\r\n"),
        Says("-ERR user_script:3: what\r\n"),
        Says("+what\r\n"),
    ];
    let server = Server::start(true, &told).await;
    let queue = server.connect(LONG).await.unwrap().relay_queue();
    assert!(refused(&queue.incarnation().await));
    assert!(refused(&queue.incarnation().await));
    assert!(unknown(&queue.incarnation().await));
    assert!(unknown(&queue.incarnation().await));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let gone = Says("-NOSCRIPT No matching script.\r\n");
    let server = Server::start(true, &[gone, INCARNATION, gone, gone]).await;
    let queue = server.connect(LONG).await.unwrap().relay_queue();
    assert_eq!(queue.incarnation().await, Ok(7));
    // Once; a server that forgets at once again has done nothing.
    assert!(refused(&queue.incarnation().await));
    assert!(server.told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn calls_beyond_those_that_may_wait_are_refused() {
    let server = Server::start(true, &[Nothing; 256]).await;
    let store = server.connect(LONG).await.unwrap();
    let queue: Arc<dyn RelayQueue> = store.relay_queue();
    let mut waiting = JoinSet::new();
    for _ in 0..256 {
        let queue = Arc::clone(&queue);
        waiting.spawn(async move { queue.incarnation().await });
    }
    while !server.told.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(refused(&queue.incarnation().await));
    // Another handle has a limit of its own: its call waits.
    assert!(tokio::time::timeout(SHORT, store.relay_queue().incarnation()).await.is_err());
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    assert!(tokio::time::timeout(SHORT, queue.incarnation()).await.is_err());
}
