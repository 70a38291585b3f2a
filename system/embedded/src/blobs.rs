//! Blobs as files below a folder, on the thread `chat-blobs`.
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::blobs::Blobs;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::StartError;
use crate::desk::{BackendThread, Desk, answer};

type Answer<T> = oneshot::Sender<Result<T, PortError>>;

enum Call {
    Put(Name, Bytes, Answer<()>),
    Get(Name, Answer<Option<Bytes>>),
    List(String, Answer<Vec<String>>),
    Delete(Name, Answer<()>),
}

/// The object store as a port. A clone shares its count of waiting calls; [`Self::handle`] gives a fresh one.
///
/// Names are paths of plain segments; one that is empty, or that a path cannot hold, is refused. A put replaces the object in
/// one step, so a reader sees the old bytes or the new ones. Calls are done one after the other.
#[derive(Clone)]
pub struct EmbeddedBlobs {
    desk: Desk<Call>,
}

impl EmbeddedBlobs {
    /// Makes the folder if it is missing and starts the thread.
    pub(crate) fn start(folder: &Path) -> Result<(Self, BackendThread), StartError> {
        std::fs::create_dir_all(folder)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(StartError::blobs)?;
        let (desk, calls) = Desk::open();
        let thread = BackendThread::spawn("chat-blobs", move |stop| run(store, calls, stop))?;
        Ok((Self { desk }, thread))
    }

    /// A handle with its own limit of waiting calls.
    pub fn handle(&self) -> Arc<dyn Blobs> {
        Arc::new(Self { desk: self.desk.handle() })
    }
}

#[async_trait]
impl Blobs for EmbeddedBlobs {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), PortError> {
        let name = object(name)?;
        self.desk.ask(|reply| Call::Put(name, bytes, reply)).await?
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, PortError> {
        let name = object(name)?;
        self.desk.ask(|reply| Call::Get(name, reply)).await?
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        let prefix = prefix.to_owned();
        self.desk.ask(|reply| Call::List(prefix, reply)).await?
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        let name = object(name)?;
        self.desk.ask(|reply| Call::Delete(name, reply)).await?
    }
}

fn object(name: &str) -> Result<Name, PortError> {
    let parsed = Name::parse(name).map_err(|error| PortError::Refused(error.to_string()))?;
    // The store strips slashes at the ends; two names must never mean one object.
    if name.is_empty() || parsed.as_ref() != name {
        return Err(PortError::Refused(format!("`{name}` is no name of an object")));
    }
    Ok(parsed)
}

async fn run(store: LocalFileSystem, mut calls: mpsc::Receiver<Call>, stop: CancellationToken) {
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    loop {
        let call = tokio::select! {
            biased;
            () = &mut stopped => return,
            call = calls.recv() => call,
        };
        match call {
            None => return,
            Some(Call::Put(name, bytes, reply)) => {
                let done = store.put(&name, bytes.into()).await;
                answer(
                    reply,
                    done.map(|_| ()).map_err(|error| PortError::Unknown(error.to_string())),
                );
            }
            Some(Call::Get(name, reply)) => answer(reply, get(&store, &name).await),
            Some(Call::List(prefix, reply)) => answer(reply, list(&store, &prefix).await),
            Some(Call::Delete(name, reply)) => {
                let done = match store.delete(&name).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(PortError::Unknown(error.to_string())),
                };
                answer(reply, done);
            }
        }
    }
}

async fn get(store: &LocalFileSystem, name: &Name) -> Result<Option<Bytes>, PortError> {
    let found = match store.get(name).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(PortError::Refused(error.to_string())),
    };
    found.bytes().await.map(Some).map_err(|error| PortError::Refused(error.to_string()))
}

/// The store lists folders; a prefix may end amid a name, so its last part is matched here.
async fn list(store: &LocalFileSystem, prefix: &str) -> Result<Vec<String>, PortError> {
    let folder = prefix.rsplit_once('/').map(|(folder, _)| Name::parse(folder)).transpose();
    let folder = folder.map_err(|error| PortError::Refused(error.to_string()))?;
    let all: Vec<_> = store
        .list(folder.as_ref())
        .try_collect()
        .await
        .map_err(|error| PortError::Refused(error.to_string()))?;
    let mut names: Vec<String> = all.into_iter().map(|meta| String::from(meta.location)).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort_unstable();
    Ok(names)
}
