//! The thread that owns the Toxiproxy library.
//!
//! The library blocks, panics inside a runtime and on broken connections, and after a panic its lock is poisoned for good. So it has a
//! thread to itself; each call is inside `catch_unwind`, and after a panic the client is made anew. It never looks at an HTTP status:
//! whoever asks reads back what came of it.
use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use toxiproxy_rust::client::Client;
use toxiproxy_rust::proxy::ProxyPack;

use super::LinkError;
use super::toxic::Toxic;

/// Commands that wait for the thread; a further one is refused.
pub(super) const COMMANDS_MAX: usize = 64;

type Command = Box<dyn FnOnce(&mut Library) + Send>;

/// Asks the library. The thread ends with it: a call that hangs holds it for the library's own limit of 30 s.
pub(super) struct Driver {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    limit: Duration,
}

impl Driver {
    /// Starts the thread. A command that is not answered within `limit` has failed; one that still waits then is never begun.
    pub(super) fn start(addr: SocketAddr, limit: Duration) -> Result<Self, LinkError> {
        let (commands, mut queue) = mpsc::channel::<Command>(COMMANDS_MAX);
        let begun = std::thread::Builder::new().name("toxiproxy-ask".to_owned());
        let thread = begun.spawn(move || {
            let mut library = Library { addr, client: None };
            while let Some(command) = queue.blocking_recv() {
                command(&mut library);
            }
        });
        let thread = thread.map_err(|error| LinkError::Library {
            act: "start its thread",
            why: error.to_string(),
        })?;
        Ok(Self { commands: Mutex::new(Some(commands)), thread: Mutex::new(Some(thread)), limit })
    }

    /// What the server says of its version.
    pub(super) async fn version(&self) -> Result<String, LinkError> {
        self.ask("say its version", Client::version).await
    }

    /// Opens listeners: (name, where it listens, where it leads).
    pub(super) async fn populate(
        &self,
        listeners: Vec<(String, String, String)>,
    ) -> Result<(), LinkError> {
        let pack = |(name, listen, upstream)| ProxyPack::new(name, listen, upstream);
        let packs: Vec<_> = listeners.into_iter().map(pack).collect();
        self.ask("open listeners", |client| client.populate(packs).map(drop)).await
    }

    /// Whether the library has a call for this kind of toxic.
    pub(super) fn knows(toxic: &Toxic) -> bool {
        matches!(toxic.kind.as_str(), "latency" | "timeout")
    }

    /// Adds a toxic. The library makes up its name, which is the one that this toxic has.
    pub(super) async fn add(&self, listener: &str, toxic: &Toxic) -> Result<(), LinkError> {
        let (listener, toxic) = (listener.to_owned(), toxic.clone());
        self.ask("add a toxic", move |client| {
            let value = |name: &str| {
                let value = toxic.attributes.get(name).copied().unwrap_or(0);
                u32::try_from(value).map_err(|_| format!("`{name}` cannot be {value}"))
            };
            let stream = toxic.stream.name().to_owned();
            let proxy = client.find_proxy(&listener)?;
            match toxic.kind.as_str() {
                "latency" => {
                    proxy.with_latency(stream, value("latency")?, value("jitter")?, toxic.toxicity);
                }
                "timeout" => {
                    proxy.with_timeout(stream, value("timeout")?, toxic.toxicity);
                }
                other => return Err(format!("the library knows no toxic `{other}` of one rule")),
            }
            Ok(())
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        act: &'static str,
        work: impl FnOnce(&Client) -> Result<T, String> + Send + 'static,
    ) -> Result<T, LinkError> {
        let (reply, answer) = oneshot::channel();
        let by = Instant::now() + self.limit;
        let command: Command = Box::new(move |library| {
            // Nobody waits any more: done now, it would be done behind the back of whoever heals.
            if reply.is_closed() || Instant::now() >= by {
                return;
            }
            if reply.send(library.run(act, work)).is_err() {
                tracing::debug!(act, "The answer of Toxiproxy came too late.");
            }
        });
        let Some(commands) = lock(&self.commands).clone() else { return Err(LinkError::Ended) };
        commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LinkError::Full(COMMANDS_MAX),
            mpsc::error::TrySendError::Closed(_) => LinkError::Ended,
        })?;
        drop(commands);
        match timeout_at(by, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => {
                Err(LinkError::Silent { act: act.to_owned(), limit: self.limit })
            }
        }
    }

    /// Ends the thread and waits for it.
    pub(super) async fn stop(&self) {
        drop(lock(&self.commands).take());
        let Some(thread) = lock(&self.thread).take() else { return };
        if !tokio::task::spawn_blocking(|| thread.join().is_ok()).await.unwrap_or(false) {
            tracing::error!("The thread of the Toxiproxy library panicked.");
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(lock(&self.commands).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("The thread of the Toxiproxy library panicked.");
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The library on its thread.
struct Library {
    addr: SocketAddr,
    /// `None` before the first call and after a panic.
    client: Option<Client>,
}

impl Library {
    fn run<T>(
        &mut self,
        act: &'static str,
        work: impl FnOnce(&Client) -> Result<T, String>,
    ) -> Result<T, LinkError> {
        let (kept, addr) = (self.client.take(), self.addr);
        // What a panic leaves behind is dropped with it: the client is not seen again.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let client = kept.unwrap_or_else(|| Client::new(addr));
            let done = work(&client);
            (client, done)
        }));
        match outcome {
            Ok((client, done)) => {
                self.client = Some(client);
                done.map_err(|why| LinkError::Library { act, why })
            }
            Err(panic) => Err(LinkError::Panicked { act, why: words(&*panic) }),
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
