//! Registering and unregistering devices, in batches of what one gateway asked.
use chat_ports::PortError;
use chat_ports::registry::{NodeKey, Route};
use chat_ports::streams::StreamSender;
use chat_ports::streams::kinds::SessionsDownItem;
use chat_protocol::DeviceId;
use chat_protocol::node::{Displaced, Register, Registered, SessionsDown, SessionsUp, Unregister};
use tokio::sync::mpsc;

use crate::policy::RouteCompare;
use crate::service::Shared;

/// Batches taken into one registry call.
const BATCHES_A_CALL: usize = 8;

/// Works off the batches of one stream until it ends.
pub(crate) async fn work(
    shared: &Shared,
    node: &NodeKey,
    mut waiting: mpsc::Receiver<SessionsUp>,
    down: &StreamSender<SessionsDown>,
) {
    let mut batches = Vec::with_capacity(BATCHES_A_CALL);
    while waiting.recv_many(&mut batches, BATCHES_A_CALL).await > 0 {
        let (mut registers, mut gone) = (Vec::new(), Vec::new());
        for batch in batches.drain(..) {
            registers.extend(batch.registers);
            gone.extend(batch.unregisters.iter().map(|gone| route_of(node, gone)));
        }
        if !registers.is_empty() && register(shared, node, &registers, down).await.is_err() {
            return;
        }
        if !gone.is_empty() {
            unregister(shared, gone).await;
        }
    }
}

/// The route that an unregistration names.
pub(crate) fn route_of(node: &NodeKey, gone: &Unregister) -> (DeviceId, Route) {
    (
        DeviceId(gone.device),
        Route { node: node.clone(), conn_epoch: gone.conn_epoch, conn: gone.conn },
    )
}

/// Registers, answers, and tells the nodes of displaced connections. `Err` when the stream is gone.
async fn register(
    shared: &Shared,
    node: &NodeKey,
    registers: &[Register],
    down: &StreamSender<SessionsDown>,
) -> Result<(), SessionsDownItem> {
    let devices: Vec<_> = registers.iter().map(|r| (DeviceId(r.device), r.conn)).collect();
    let answers = match shared.deps.registry.register(node, &devices).await {
        Ok(answers) if answers.len() == registers.len() => answers,
        Ok(_) => {
            tracing::error!(node = %node.name, "The registry answered another number of registrations than were asked.");
            Vec::new()
        }
        Err(error) => {
            tracing::debug!(node = %node.name, %error, "Registrations failed.");
            Vec::new()
        }
    };
    let mut answers = answers.into_iter();
    for register in registers {
        let (device, conn) = (register.device, register.conn);
        let Some(answer) = answers.next() else {
            shared.counters.register_failed.add(1);
            down.send(SessionsDownItem::Registered(Registered {
                device,
                conn,
                ok: false,
                conn_epoch: 0,
            }))
            .await?;
            continue;
        };
        shared.counters.registered.add(1);
        let registered = Registered { device, conn, ok: true, conn_epoch: answer.conn_epoch };
        down.send(SessionsDownItem::Registered(registered)).await?;
        // A connection that registers again after the store lost its route displaces nobody.
        if let Some(previous) =
            answer.previous.filter(|previous| previous.node != *node || previous.conn != conn)
        {
            displace(shared, device, &previous);
        }
    }
    Ok(())
}

fn displace(shared: &Shared, device: u64, previous: &Route) {
    shared.counters.displaced.add(1);
    let displaced = Displaced { device, conn: previous.conn, conn_epoch: previous.conn_epoch };
    let told = shared
        .stream_of(&previous.node)
        .is_some_and(|stream| stream.offer(SessionsDownItem::Displaced(displaced)).is_ok());
    if !told {
        shared.counters.displaced_unreachable.add(1);
    }
}

/// Deletes routes as the policy compares them; what the registry did not answer is kept for later.
pub(crate) async fn unregister(shared: &Shared, gone: Vec<(DeviceId, Route)>) {
    match delete(shared, &gone).await {
        Ok(deleted) => {
            let count = deleted.iter().filter(|deleted| **deleted).count() as u64;
            shared.counters.unregistered.add(count);
            shared.counters.unregister_stale.add(gone.len() as u64 - count.min(gone.len() as u64));
        }
        Err(error) => {
            tracing::debug!(%error, "Unregistrations failed and are kept.");
            shared.keep_for_later(gone);
        }
    }
}

async fn delete(shared: &Shared, gone: &[(DeviceId, Route)]) -> Result<Vec<bool>, PortError> {
    let registry = &shared.deps.registry;
    let compare = shared.deps.policies.compare;
    if compare == RouteCompare::Whole {
        return registry.unregister(gone).await;
    }
    let devices: Vec<_> = gone.iter().map(|(device, _)| *device).collect();
    let present = registry.routes(&devices).await?;
    let chosen: Vec<_> = gone
        .iter()
        .zip(present)
        .filter_map(|((device, closed), present)| {
            let present = present?;
            (compare == RouteCompare::Nothing || present.node == closed.node)
                .then_some((*device, present))
        })
        .collect();
    registry.unregister(&chosen).await
}
