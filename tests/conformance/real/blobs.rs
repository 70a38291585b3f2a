//! Blobs on an S3 server, in a bucket of the story's own.
use std::sync::Arc;
use std::time::Duration;

use chat_external::s3::{S3Blobs, S3Config};
use chat_ports::blobs::Blobs;
use chat_testbed::containers::BackendSet;

/// The limit of a call in the reference system (`Timers::DEFAULT`): short timers would test the host.
const CALL: Duration = Duration::from_secs(2);

pub(crate) async fn blobs() -> Option<Arc<dyn Blobs>> {
    let store = S3Blobs::connect(config(super::set::quiet()?, CALL)).unwrap();
    store.create_bucket().await.unwrap();
    // Whoever starts a system makes the bucket without knowing whether it is there.
    store.create_bucket().await.unwrap();
    Some(store.handle())
}

/// A bucket that nobody else uses, on the S3 server of a set.
pub(super) fn config(set: &BackendSet, call: Duration) -> S3Config {
    let contact = set.s3();
    S3Config {
        endpoint: format!("http://{}", contact.addr),
        bucket: super::fresh_name(),
        access_key: contact.access_key.to_owned(),
        secret_key: contact.secret_key.to_owned(),
        call,
    }
}
