//! A call's way to the server: one session from its begin to its end, and a place among the requests for each of its own.
use std::ops::ControlFlow;
use std::sync::Arc;

use chat_ports::PortError;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::response::PagingState;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::Semaphore;

use super::failure::unreadable;
use super::link::{Link, Live};
use super::statements::Statements;

/// What a call needs to reach the server.
pub(super) struct Way<'a> {
    link: &'a Link,
    room: &'a Semaphore,
    live: Arc<Live>,
}

impl<'a> Way<'a> {
    pub(super) fn new(link: &'a Link, room: &'a Semaphore) -> Self {
        Self { link, room, live: link.live() }
    }

    pub(super) fn session(&self) -> &Session {
        &self.live.session
    }

    pub(super) fn statements(&self) -> &Statements {
        &self.live.statements
    }

    /// Makes one request once there is a place for it.
    pub(super) fn request<T>(
        &self,
        request: impl Future<Output = Result<T, ExecutionError>>,
    ) -> impl Future<Output = Result<T, PortError>> {
        // The driver's futures are large, and a call holds several: they are kept out of its own.
        let request = Box::pin(request);
        async move {
            let place = self.room.acquire().await;
            let _place =
                place.map_err(|_| PortError::Refused("the store was closed".to_owned()))?;
            request.await.map_err(|error| self.link.failed(&self.live, &error))
        }
    }

    /// Reads all rows of a statement, an answer of the statement's page size at a time.
    pub(super) async fn read<Row>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Clone,
        mut take: impl FnMut(Row),
    ) -> Result<(), PortError>
    where
        Row: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let mut state = PagingState::start();
        loop {
            let request = self.session().execute_single_page(statement, values.clone(), state);
            let (answer, next) = self.request(request).await?;
            let answer = answer.into_rows_result().map_err(unreadable)?;
            for row in answer.rows::<Row>().map_err(unreadable)? {
                take(row.map_err(unreadable)?);
            }
            match next.into_paging_control_flow() {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(next) => state = next,
            }
        }
    }
}
