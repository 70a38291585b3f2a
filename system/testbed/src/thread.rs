//! A node of the embedded substrate: an OS thread with its own current-thread runtime.
//!
//! Kill drops the runtime with all its sockets and tasks. Pause blocks the thread, so nothing of the node executes while
//! its sockets stay open. A node that vanishes is a paused one that is never resumed.
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;

use chat_embedded::guard::standstill;
use tokio::sync::{mpsc, oneshot};

use crate::cpu::CpuLedger;

/// What a node runs: makes a future that ends when the node is drained.
pub(crate) type Main = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Commands that may wait for a node's thread; a further one waits.
const COMMANDS: usize = 4;

enum Command {
    Kill,
    /// Block until the receiver gets something; `resume` decides what comes after.
    Pause(std_mpsc::Receiver<After>, oneshot::Sender<()>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Resume,
    Die,
}

/// A running node thread.
pub(crate) struct NodeThread {
    commands: mpsc::Sender<Command>,
    paused: Option<std_mpsc::SyncSender<After>>,
    thread: Option<JoinHandle<()>>,
}

impl NodeThread {
    /// Starts a thread named `name` that runs `main`.
    pub(crate) fn start(name: &str, cpu: Arc<CpuLedger>, main: Main) -> std::io::Result<Self> {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(live(main(), receiver));
                    // Sockets close here; nothing is waited for.
                    runtime.shutdown_background();
                }
                Err(error) => tracing::error!(%error, "A node has no runtime."),
            }
            cpu.this_thread_ends();
        })?;
        Ok(Self { commands, paused: None, thread: Some(thread) })
    }

    /// Whether the thread has ended by itself.
    pub(crate) fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops execution; returns when the thread stands still.
    pub(crate) async fn pause(&mut self) -> bool {
        let (resume, wait) = std_mpsc::sync_channel(1);
        let (standing, stands) = oneshot::channel();
        if self.commands.send(Command::Pause(wait, standing)).await.is_err() {
            return false;
        }
        self.paused = Some(resume);
        stands.await.is_ok()
    }

    /// Goes on after a pause.
    pub(crate) fn resume(&mut self) -> bool {
        self.paused.take().is_some_and(|paused| paused.send(After::Resume).is_ok())
    }

    /// Ends the node now and joins its thread.
    pub(crate) async fn kill(mut self) {
        self.end();
        self.join().await;
    }

    /// Tells the thread to end. One that has ended does not hear it, which is as well.
    fn end(&mut self) {
        let woken = self.paused.take().is_some_and(|paused| paused.send(After::Die).is_ok());
        if !woken && self.commands.try_send(Command::Kill).is_err() {
            tracing::trace!("A node's thread had ended already.");
        }
    }

    /// Joins a thread that ends, without blocking the caller's runtime.
    pub(crate) async fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("A node's thread panicked.");
        }
    }
}

impl Drop for NodeThread {
    fn drop(&mut self) {
        // A dropped node is killed; its thread joins itself soon after.
        self.end();
    }
}

async fn live(main: Pin<Box<dyn Future<Output = ()>>>, mut commands: mpsc::Receiver<Command>) {
    let mut main = main;
    loop {
        tokio::select! {
            () = &mut main => return,
            command = commands.recv() => match command {
                None | Some(Command::Kill) => return,
                Some(Command::Pause(wait, standing)) => {
                    if standing.send(()).is_err() {
                        tracing::trace!("Nobody waits for the pause any more.");
                    }
                    // Blocks the thread on purpose: this is what a pause is. The other end decides what follows; if it
                    // is gone, so is the testbed, and the node dies.
                    let after = standstill::blocked(|| wait.recv());
                    if after.unwrap_or(After::Die) == After::Die {
                        return;
                    }
                }
            },
        }
    }
}
