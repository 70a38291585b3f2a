//! Where facts go, and who may stop a run.
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use storm_record::facts::Fact;
use tokio_util::sync::CancellationToken;

/// Takes facts as they are seen.
pub trait Notes: Send + Sync {
    /// Notes one.
    fn note(&self, fact: Fact);
}

/// Stops a run: by signal or by a stop condition. The first reason stays.
#[derive(Clone, Default)]
pub struct StopSwitch {
    token: CancellationToken,
    why: Arc<Mutex<Option<String>>>,
}

impl StopSwitch {
    /// Stops the run; load ends, every fault heals, drain and judge follow.
    pub fn stop(&self, why: impl Into<String>) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.into());
        self.token.cancel();
    }

    /// Why the run was stopped, if it was.
    pub fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves once the run is stopped.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// Whether the run is stopped.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }
}
