//! Any number of proxies on one own thread, steered from others.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::control::{ControlError, ProxyControl};
use crate::counters::locked;
use crate::proxy::{Proxy, ProxyConfig, StartError};

/// Name of the thread; CPU is attributed to the harness by its prefix.
const THREAD_NAME: &str = "storm-proxy";

/// Most commands waiting for the thread; the next caller waits. Only starting and ending proxies are commands, rules are not.
const COMMANDS_MAX: usize = 64;

/// Owns the thread that all its proxies run on. Dropping it ends them and joins the thread.
#[derive(Debug)]
pub struct ProxySet {
    handle: ProxyHandle,
    /// Ends the set even while handles live and the command queue is full.
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl ProxySet {
    /// Starts the thread, without proxies.
    pub fn start() -> Result<ProxySet, StartError> {
        // The runtime is built here, so that its failure is this call's failure.
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| StartError::Thread { source })?;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let controls = Arc::<Mutex<Controls>>::default();
        let handle = ProxyHandle { commands, controls: Arc::clone(&controls) };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = Builder::new()
            .name(String::from(THREAD_NAME))
            .spawn(move || runtime.block_on(serve(inbox, controls, stopped)))
            .map_err(|source| StartError::Thread { source })?;
        Ok(ProxySet { handle, stop, thread: Some(thread) })
    }

    /// A handle for other threads; it does not keep the set running.
    pub fn handle(&self) -> ProxyHandle {
        self.handle.clone()
    }

    /// Ends every proxy, resetting its connections, and joins the thread: at most about five seconds. Blocks; inside a runtime use
    /// [`ProxyHandle::shutdown`] first.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for ProxySet {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.cancel();
        // A panic of the thread has been reported by the panic hook; there is nothing to add while dropping.
        drop(thread.join());
    }
}

/// Steers the proxies of a set from any thread. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct ProxyHandle {
    commands: mpsc::Sender<Command>,
    controls: Arc<Mutex<Controls>>,
}

type Controls = BTreeMap<String, ProxyControl>;

/// Never made: the shutdown answers by dropping its sender when all has ended.
#[derive(Debug)]
enum Ended {}

#[derive(Debug)]
enum Command {
    Add(Box<ProxyConfig>, oneshot::Sender<Result<ProxyControl, StartError>>),
    Shutdown(oneshot::Sender<Ended>),
}

impl ProxyHandle {
    /// Starts a proxy with its rules in one step. Names are unique; a port that is taken is tried again for five seconds.
    pub async fn add(&self, config: ProxyConfig) -> Result<ProxyControl, StartError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Add(Box::new(config), reply))
            .await
            .map_err(|_| StartError::Stopped)?;
        answer.await.map_err(|_| StartError::Stopped)?
    }

    /// Same, blocking; not from within a runtime.
    pub fn add_blocking(&self, config: ProxyConfig) -> Result<ProxyControl, StartError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .blocking_send(Command::Add(Box::new(config), reply))
            .map_err(|_| StartError::Stopped)?;
        answer.blocking_recv().map_err(|_| StartError::Stopped)?
    }

    /// The control of one proxy, by name.
    pub fn proxy(&self, name: &str) -> Result<ProxyControl, ControlError> {
        let found = locked(&self.controls).get(name).cloned();
        found.ok_or_else(|| ControlError::Unknown { name: String::from(name) })
    }

    /// The controls of all proxies, by name.
    pub fn proxies(&self) -> Vec<ProxyControl> {
        locked(&self.controls).values().cloned().collect()
    }

    /// Ends every proxy and returns when all their tasks have ended, at most about five seconds. Afterwards the set starts no more.
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).await.is_ok() {
            // Nothing is ever sent: the fall of the sender is the answer.
            drop(ended.await);
        }
    }
}

async fn serve(
    mut inbox: mpsc::Receiver<Command>,
    controls: Arc<Mutex<Controls>>,
    stop: CancellationToken,
) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut proxies: Vec<Proxy> = Vec::new();
    let mut done = None;
    while let Some(Some(command)) = stop.run_until_cancelled(inbox.recv()).await {
        match command {
            Command::Add(config, reply) => {
                let started = add(*config, &open, &controls).await;
                let answer = started.map(|proxy| {
                    let control = proxy.control();
                    proxies.push(proxy);
                    control
                });
                // Whoever asked may have given up; the proxy runs and is found by its name.
                drop(reply.send(answer));
            }
            Command::Shutdown(reply) => {
                done = Some(reply);
                break;
            }
        }
    }
    inbox.close();
    proxies.iter().for_each(Proxy::stop);
    for proxy in proxies {
        proxy.shutdown().await;
    }
    // Whoever asked for the end learns it by the fall of this sender.
    drop(done);
}

async fn add(
    config: ProxyConfig,
    open: &Arc<AtomicUsize>,
    controls: &Mutex<Controls>,
) -> Result<Proxy, StartError> {
    let name = config.name.clone();
    if locked(controls).contains_key(&name) {
        return Err(StartError::NameTaken { name });
    }
    let proxy = Proxy::start_within(config, Arc::clone(open)).await?;
    locked(controls).insert(name, proxy.control());
    Ok(proxy)
}
