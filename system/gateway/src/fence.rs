//! Whether this node may go on without its lease: tells a store outage from a fault of its own.
use std::sync::Arc;
use std::time::Duration;

use chat_ports::nodes::LeaseState;
use chat_ports::streams::kinds::SessionsUpItem;
use chat_protocol::node::StoreCheck;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::deps::FenceRule;
use crate::hub::{Check, Hub, lock};

/// Looks so many times in each renewal period.
const LOOKS_A_RENEWAL: u32 = 8;

/// What the sessions nodes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    /// At least one could renew, or nobody answered: the fault is here.
    ItIsUs,
    /// Nobody could: the store is out.
    ItIsTheStore,
}

/// Returns when the node must stop serving; never with `FenceRule::Never`.
pub(crate) async fn watch(hub: Arc<Hub>) {
    if hub.deps.policies.fence == FenceRule::Never {
        std::future::pending::<()>().await;
    }
    let timers = hub.deps.timers;
    let mut look = tokio::time::interval(
        (timers.lease_renew / LOOKS_A_RENEWAL).max(Duration::from_millis(10)),
    );
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lease = hub.deps.view.lease.clone();
    let mut next_id = 1;
    // Since when others could renew again after an outage, and this node has not.
    let mut alone_since: Option<Instant> = None;
    let mut next_check = Instant::now();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            changed = lease.changed() => if changed.is_err() {
                // The keeper has ended with the node: nothing is left to watch.
                std::future::pending::<()>().await;
            }
        }
        let state = *lease.borrow_and_update();
        if state.lost {
            return;
        }
        let now = Instant::now();
        if now.saturating_duration_since(state.renewed) <= timers.self_fence {
            if hub.outage() {
                hub.set_outage(false);
            }
            alone_since = None;
            next_check = now;
            continue;
        }
        if now < next_check {
            continue;
        }
        let others = ask(&hub, next_id).await;
        next_id += 1;
        if lease.borrow().renewed > state.renewed {
            continue;
        }
        match others {
            Others::ItIsTheStore => {
                if !hub.outage() {
                    hub.set_outage(true);
                    hub.deps.observer.sometimes("store-outage-told-from-node-fault");
                }
                alone_since = None;
                next_check = Instant::now() + timers.lease_renew / 2;
            }
            // After an outage sweepers wait, so this node has the time of one renewal to come back as others did.
            Others::ItIsUs if hub.outage() => {
                let since = *alone_since.get_or_insert_with(Instant::now);
                if since.elapsed() > timers.lease_renew + timers.store_call {
                    return;
                }
                next_check = Instant::now() + timers.lease_renew / LOOKS_A_RENEWAL;
            }
            Others::ItIsUs => {
                // The store may have come back just now, and the others were first: the renewal that is on its way decides.
                let a_renewal_more = timers.self_fence + timers.lease_renew;
                let last = timers.lease_ttl.saturating_sub(timers.lease_renew / 4);
                let until = state.renewed + a_renewal_more.min(last);
                if !renewed_by(&mut lease, state.renewed, until).await {
                    return;
                }
            }
        }
    }
}

/// Waits for a renewal later than one, until then; a lease that is lost brings none.
async fn renewed_by(
    lease: &mut watch::Receiver<LeaseState>,
    known: Instant,
    until: Instant,
) -> bool {
    let later = lease.wait_for(|lease| lease.lost || lease.renewed > known);
    matches!(tokio::time::timeout_at(until, later).await, Ok(Ok(state)) if !state.lost)
}

/// Asks every sessions node; answers as soon as it is clear.
async fn ask(hub: &Hub, id: u64) -> Others {
    *lock(&hub.check) = Check { id, yes: 0, no: 0 };
    let mut asked = 0;
    for stream in hub.sessions.open().values() {
        if stream.offer(SessionsUpItem::Check(StoreCheck { id })).is_ok() {
            asked += 1;
        }
    }
    // An answer of "no" takes the time of a failed store call.
    let until = Instant::now() + hub.deps.timers.store_call * 3 / 2;
    loop {
        let (yes, no) = {
            let check = lock(&hub.check);
            (check.yes, check.no)
        };
        if yes > 0 || asked == 0 {
            return Others::ItIsUs;
        }
        if no >= asked {
            return Others::ItIsTheStore;
        }
        if tokio::time::timeout_at(until, hub.checked.notified()).await.is_err() {
            return if no > 0 { Others::ItIsTheStore } else { Others::ItIsUs };
        }
    }
}
