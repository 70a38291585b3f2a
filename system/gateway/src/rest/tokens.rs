//! `POST /v1/tokens`: registers a device in the directory and signs its access token.
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::tables::{Table, Tables};
use chat_protocol::rest::{TokenAnswer, TokenRequest};
use chat_protocol::{DeviceId, UserId};

use super::Json;
use super::problem::Problem;
use crate::hub::Hub;

/// A device list that changes under our hands is read again so many times.
const CONFLICTS_MAX: u32 = 16;

pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    Json(asked): Json<TokenRequest>,
) -> Result<axum::Json<TokenAnswer>, Problem> {
    hub.metrics.rest_requests.add(1);
    let device = device_of(&asked).ok_or_else(|| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the user has no such device")
    })?;
    enlist(&*hub.deps.tables, device).await?;
    let now_ms = hub.deps.clock.wall_ms();
    let expires_s = now_ms / 1_000 + hub.deps.limits.token_life.as_secs();
    hub.metrics.rest_tokens.add(1);
    let token = hub.deps.token_key.sign(device, expires_s);
    Ok(axum::Json(TokenAnswer { token, device, class: asked.class, expires_ms: expires_s * 1_000 }))
}

/// The device that is meant. An index is below 256 and the whole id of a device of any user but 0 is not, and those of
/// user 0 are their indexes, so both forms are told apart.
fn device_of(asked: &TokenRequest) -> Option<DeviceId> {
    if asked.user.0 > UserId::MAX {
        return None;
    }
    match u8::try_from(asked.device.0) {
        Ok(index) => Some(asked.user.device(index)),
        Err(_) => Some(asked.device).filter(|device| device.user() == asked.user),
    }
}

/// Adds the device to its user's list, if it is not there.
async fn enlist(tables: &dyn Tables, device: DeviceId) -> Result<(), Problem> {
    let unavailable = |error: PortError| {
        tracing::debug!(%error, "The directory did not answer.");
        Problem::unavailable("the directory does not answer")
    };
    let key = device.user().0;
    for _ in 0..CONFLICTS_MAX {
        let old =
            tables.get(Table::DevicesByUser, &[key]).await.map_err(unavailable)?.pop().flatten();
        let mut indexes = old.as_ref().map_or_else(Vec::new, |list| list.to_vec());
        let Err(place) = indexes.binary_search(&device.index()) else { return Ok(()) };
        indexes.insert(place, device.index());
        let set =
            tables.compare_and_set(Table::DevicesByUser, key, old, Bytes::from(indexes)).await;
        if set.map_err(unavailable)? {
            return Ok(());
        }
    }
    Err(Problem::unavailable("the directory is contended"))
}
