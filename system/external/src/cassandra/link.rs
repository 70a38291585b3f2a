//! The session with the server, and who replaces it when it has no connection left.
//!
//! The driver fills an empty pool again by itself, but rests up to ten seconds between its tries, so a server that is back would be
//! taken for a dead one. A keeper therefore opens a new session as soon as a call finds the present one without a connection.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_ports::PortError;
use chat_ports::observe::Counter;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{ExecutionError, TranslationError};
use scylla::policies::address_translator::{AddressTranslator, UntranslatedPeer};
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::{Consistency, SerialConsistency};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::failure::port_error;
use super::statements::Statements;
use super::store::CassandraConfig;

/// A session must be open and its statements prepared after this long; then the try counts as failed.
pub const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The keeper rests this long between two tries; it tries until the store is dropped.
pub const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// A connection is asked for a sign of life this often, and closed when none comes within the same time again.
pub const KEEPALIVE: Duration = Duration::from_secs(3);

/// Sends the driver to the contact address, whatever address a server gives for itself: that one may lie inside a network of
/// containers, or beside a proxy that stands between.
struct OneContact(SocketAddr);

#[expect(elided_lifetimes_in_paths, reason = "the trait hides it too, and both must agree")]
#[async_trait]
impl AddressTranslator for OneContact {
    async fn translate_address(
        &self,
        _peer: &UntranslatedPeer,
    ) -> Result<SocketAddr, TranslationError> {
        Ok(self.0)
    }
}

/// The settings of every session; `request` bounds each request.
pub(super) fn builder(config: &CassandraConfig, request: Duration) -> SessionBuilder {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::Serial))
        .request_timeout(Some(request))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .speculative_execution_policy(None)
        // One server coordinates everything, so there is nothing to choose by token.
        .load_balancing_policy(DefaultPolicy::builder().token_aware(false).build())
        .build();
    SessionBuilder::new()
        .known_node_addr(config.contact)
        .address_translator(Arc::new(OneContact(config.contact)))
        .default_execution_profile_handle(profile.into_handle())
        .pool_size(PoolSize::PerHost(std::num::NonZeroUsize::MIN))
        .connection_timeout(config.call)
        .metadata_request_clientside_timeout(config.call)
        .keepalive_interval(KEEPALIVE)
        .keepalive_timeout(KEEPALIVE)
        .fetch_schema_metadata(false)
        .driver_config_reporting(false)
}

/// A session with its statements.
pub(super) struct Live {
    pub(super) session: Session,
    pub(super) statements: Statements,
    generation: u64,
}

impl Live {
    async fn open(config: &CassandraConfig, generation: u64) -> Result<Arc<Self>, PortError> {
        let opening = async {
            let session = builder(config, config.call).build().await.map_err(refused)?;
            let statements =
                Statements::prepare(&session, &config.keyspace).await.map_err(refused)?;
            Ok(Arc::new(Self { session, statements, generation }))
        };
        let opened = tokio::time::timeout(CONNECT_MAX, Box::pin(opening)).await;
        opened.map_err(|_| PortError::Refused(format!("no session within {CONNECT_MAX:?}")))?
    }
}

fn refused(error: impl std::error::Error) -> PortError {
    PortError::Refused(error.to_string())
}

/// The present session. The keeper ends when this is dropped.
pub(super) struct Link {
    live: watch::Receiver<Arc<Live>>,
    /// Highest generation that was found without a connection.
    lost: watch::Sender<u64>,
    _keeper: JoinSet<()>,
}

impl Link {
    /// Opens the first session; the runtime of the caller is the link's.
    pub(super) async fn open(
        config: CassandraConfig,
        reconnects: Counter,
    ) -> Result<Self, PortError> {
        let first = Live::open(&config, 1).await?;
        let (sender, live) = watch::channel(first);
        let lost = watch::Sender::new(0);
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(config, sender, lost.subscribe(), reconnects));
        Ok(Self { live, lost, _keeper: keeper })
    }

    /// The session a call uses from its begin to its end.
    pub(super) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }

    /// Sorts the error of a request, and calls the keeper when the session had no connection for it.
    pub(super) fn failed(&self, live: &Live, error: &ExecutionError) -> PortError {
        if matches!(error, ExecutionError::ConnectionPoolError(_) | ExecutionError::EmptyPlan) {
            self.lost.send_if_modified(|lost| {
                let newer = *lost < live.generation;
                *lost = live.generation.max(*lost);
                newer
            });
        }
        port_error(error)
    }
}

/// Replaces the session each time it was found without a connection, for as long as the link is there.
async fn keep(
    config: CassandraConfig,
    live: watch::Sender<Arc<Live>>,
    mut lost: watch::Receiver<u64>,
    reconnects: Counter,
) {
    for generation in 2.. {
        if lost.wait_for(|lost| *lost + 1 >= generation).await.is_err() {
            return;
        }
        let next = loop {
            match Live::open(&config, generation).await {
                Ok(next) => break next,
                Err(error) => {
                    tracing::debug!(%error, "Cassandra does not take a new session yet.");
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
        };
        reconnects.add(1);
        live.send_replace(next);
    }
}
