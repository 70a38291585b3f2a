//! The port: one request a call.
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::blobs::Blobs;
use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, RetryConfig};
use tokio::sync::Semaphore;

use super::bucket;
use super::config::{REGION, S3Config};
use super::failure::{no_object, port_error};
use super::http::Http;
use super::signing::Sha2;

/// Calls that may wait through one port handle; a further one is refused.
pub const WAITING_MAX: usize = 256;
/// Bytes of an object; a larger one is refused in both directions.
pub const OBJECT_MAX: usize = 256 * 1024 * 1024;
/// Names one `list` looks at; a folder that holds more is refused.
pub const NAMES_MAX: usize = 100_000;

/// A bucket as a port. A clone shares its connections; [`Self::handle`] gives a port with a limit of waiting calls of its own.
///
/// Names are paths of plain segments; one that is empty, or that a path cannot hold, is refused. Connections belong to the runtime
/// that makes the calls.
#[derive(Clone)]
pub struct S3Blobs {
    config: S3Config,
    http: Http,
    store: AmazonS3,
}

impl S3Blobs {
    /// A client of the bucket; nothing is sent yet. Refused when endpoint or bucket make no address.
    pub fn connect(config: S3Config) -> Result<Self, PortError> {
        config.check()?;
        let no_retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let http = Http::new(config.call / 2);
        let store = AmazonS3Builder::new()
            .with_endpoint(&config.endpoint)
            .with_bucket_name(&config.bucket)
            .with_region(REGION)
            .with_access_key_id(&config.access_key)
            .with_secret_access_key(&config.secret_key)
            .with_crypto_provider(Arc::new(Sha2))
            .with_virtual_hosted_style_request(false)
            .with_disable_bulk_delete(true)
            .with_allow_http(true)
            .with_http_connector(http.clone())
            .with_retry(no_retry)
            .build()
            .map_err(port_error)?;
        Ok(Self { config, http, store })
    }

    /// Makes the bucket within the limit of a call; one that is there already and ours is no error.
    pub async fn create_bucket(&self) -> Result<(), PortError> {
        within(self.config.call, bucket::create(&self.config, &self.http)).await
    }

    /// A handle with its own limit of waiting calls.
    pub fn handle(&self) -> Arc<dyn Blobs> {
        let waiting = Semaphore::new(WAITING_MAX);
        Arc::new(Handle { store: self.store.clone(), call: self.config.call, waiting })
    }
}

struct Handle {
    store: AmazonS3,
    call: Duration,
    waiting: Semaphore,
}

impl Handle {
    async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, PortError>>,
    ) -> Result<T, PortError> {
        let place = self.waiting.try_acquire();
        let _place = place.map_err(|_| PortError::Refused("too many calls waiting".to_owned()))?;
        within(self.call, work).await
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    let done = tokio::time::timeout(limit, work).await;
    done.map_err(|_| PortError::Unknown(format!("no answer within {limit:?}")))?
}

#[async_trait]
impl Blobs for Handle {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), PortError> {
        let name = object(name)?;
        fits(bytes.len() as u64)?;
        self.call(async {
            self.store.put(&name, bytes.into()).await.map_err(port_error)?;
            Ok(())
        })
        .await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, PortError> {
        let name = object(name)?;
        self.call(async {
            let found = match self.store.get(&name).await {
                Ok(found) => found,
                Err(error) if no_object(&error) => return Ok(None),
                Err(error) => return Err(port_error(error)),
            };
            fits(found.meta.size)?;
            found.bytes().await.map(Some).map_err(port_error)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        // The store lists folders; a prefix may end amid a name, so its last part is matched here.
        let folder = prefix.rsplit_once('/').map(|(folder, _)| Path::parse(folder)).transpose();
        let folder = folder.map_err(|error| PortError::Refused(error.to_string()))?;
        self.call(async {
            let (mut names, mut looked) = (Vec::new(), 0);
            let mut listing = self.store.list(folder.as_ref());
            while let Some(meta) = listing.try_next().await.map_err(port_error)? {
                looked += 1;
                if looked > NAMES_MAX {
                    let why = format!("`{prefix}` lists more than {NAMES_MAX} names");
                    return Err(PortError::Refused(why));
                }
                if meta.location.as_ref().starts_with(prefix) {
                    names.push(String::from(meta.location));
                }
            }
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        let name = object(name)?;
        self.call(async {
            match self.store.delete(&name).await {
                Ok(()) => Ok(()),
                Err(error) if no_object(&error) => Ok(()),
                Err(error) => Err(port_error(error)),
            }
        })
        .await
    }
}

fn object(name: &str) -> Result<Path, PortError> {
    let parsed = Path::parse(name).map_err(|error| PortError::Refused(error.to_string()))?;
    // The store strips slashes at the ends; two names must never mean one object.
    if name.is_empty() || parsed.as_ref() != name {
        return Err(PortError::Refused(format!("`{name}` is no name of an object")));
    }
    Ok(parsed)
}

fn fits(bytes: u64) -> Result<(), PortError> {
    if bytes <= OBJECT_MAX as u64 {
        Ok(())
    } else {
        Err(PortError::Refused(format!("an object of {bytes} bytes is too large")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_name_objects() {
        assert!(object("fold/00001/00000000000000000042").is_ok());
        for name in ["", "/", "/a", "a/", "a//b", "../a", "a/./b"] {
            assert!(object(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn object_has_a_largest_size() {
        assert!(fits(OBJECT_MAX as u64).is_ok());
        assert!(fits(OBJECT_MAX as u64 + 1).is_err());
    }
}
