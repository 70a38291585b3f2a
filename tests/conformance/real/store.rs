//! Redis.
use std::sync::Arc;
use std::time::Duration;

use chat_external::redis::{RedisConfig, RedisStore};
use chat_ports::clock::SteadyClock;
use chat_ports::observe::Observer;
use chat_ports::registry::SessionRegistry;
use chat_ports::relay_queue::RelayQueue;

/// Longest duration of a call: generous, since all stories share two cores with the backends.
const CALL: Duration = Duration::from_secs(5);

pub(crate) async fn registry() -> Option<Arc<dyn SessionRegistry>> {
    Some(store().await?.registry())
}

pub(crate) async fn relay_queue() -> Option<Arc<dyn RelayQueue>> {
    Some(store().await?.relay_queue())
}

/// A store under a prefix of its own.
async fn store() -> Option<RedisStore> {
    let config = RedisConfig {
        addr: super::set::quiet()?.redis(),
        prefix: super::fresh_name(),
        relay_queue: crate::arm::QUEUE_MAX,
        call: CALL,
    };
    let observer = Observer::new(Arc::new(SteadyClock::new(1_700_000_000_000)));
    Some(RedisStore::connect(config, &observer).await.unwrap())
}
