//! Looks at the brokers again and again, so that an election is noted when it happens and not when somebody asks.
use std::sync::Arc;
use std::time::Duration;

use chat_external::kafka::KafkaAdmin;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Brokers are asked this often; an election takes seconds.
const LOOK: Duration = Duration::from_millis(500);

/// The task that looks; it ends with its owner.
pub(super) struct Leaders {
    _task: AbortOnDropHandle<()>,
}

impl Leaders {
    pub(super) fn watch(kafka: Arc<KafkaAdmin>) -> Self {
        let look = async move {
            loop {
                // The operator's handle notes what changed since its last look; without an answer there is nothing to note.
                if let Err(error) = kafka.brokers().await {
                    tracing::debug!(%error, "The brokers do not answer.");
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        Self { _task: AbortOnDropHandle::new(TaskTracker::new().spawn(look)) }
    }
}
