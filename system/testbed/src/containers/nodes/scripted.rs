//! A node's door that says what a test wants said, and keeps what it heard.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::place::Place;
use crate::process::wire::{self, ASK_MAX, Answer, Ask, Reply};
use crate::unit::{Kind, Unit};

/// What is said to a question.
pub(super) enum Say {
    Answer(Answer),
    /// Nothing, and the connection ends.
    Close,
    /// Nothing, and the connection stays.
    Nothing,
}

type Script = Box<dyn FnMut(&Ask) -> Say + Send>;

struct Shared {
    script: Mutex<Script>,
    heard: Mutex<Vec<Ask>>,
}

pub(super) struct Door {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Door {
    pub(super) async fn open(script: impl FnMut(&Ask) -> Say + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (script, heard) = (Mutex::new(Box::new(script) as Script), Mutex::default());
        let shared = Arc::new(Shared { script, heard });
        let inside = Arc::clone(&shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, Arc::clone(&inside)));
            }
        });
        Self { addr, shared, _tasks: tasks }
    }

    /// Everything that was said through it, in order.
    pub(super) fn heard(&self) -> Vec<Ask> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A gateway behind it.
    pub(super) fn place(&self, name: &str) -> Place {
        let (name, addr) = (name.to_owned(), self.addr);
        let container = format!("chatstorm-scripted-{name}");
        let unit = Unit { name, kind: Kind::Gateway, roles: Vec::new(), addr };
        Place::new(unit, 0, container, addr)
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(ask)) = wire::read::<Ask>(&mut stream, ASK_MAX).await {
        let say = shared.script.lock().unwrap_or_else(PoisonError::into_inner)(&ask);
        shared.heard.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
        match say {
            Say::Answer(answer) => {
                let reply = Reply { ended: false, answer };
                if wire::write(&mut stream, &reply).await.is_err() {
                    return;
                }
            }
            Say::Close => return,
            Say::Nothing => std::future::pending().await,
        }
    }
}
