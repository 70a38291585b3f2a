//! Access tokens for all devices, over a few connections that are kept.
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chat_client::Dial;
use chat_client::rest::Rest;
use chat_protocol::DeviceId;
use chat_protocol::frame::DeviceClass;

use super::{Io, identity, place};

/// Connections that fetch tokens.
const PROVISIONERS: usize = 8;
/// Tries for one token.
const TOKEN_TRIES: u32 = 20;

impl Io {
    pub(super) fn provision(&self) {
        let waiting = Rc::new(RefCell::new(self.mine.clone()));
        for n in 0..PROVISIONERS {
            let (waiting, dial, observer) =
                (Rc::clone(&waiting), Rc::clone(&self.dial), Rc::clone(&self.observer));
            let population = Arc::clone(self.shard.schedule.population());
            let handles = self.handles.clone();
            let limit = self.shard.config.timers.connect;
            let task = async move {
                let mut rest = None;
                loop {
                    let next = waiting.borrow_mut().pop();
                    let Some(ix) = next else { return };
                    let (device, class) = identity(&population, ix);
                    let mut got = None;
                    for attempt in 0..TOKEN_TRIES {
                        let entry = n + usize::try_from(attempt).unwrap_or(0);
                        let asking = token(&*dial, device, class, entry, &mut rest);
                        if let Ok(Some(token)) = tokio::time::timeout(limit, asking).await {
                            got = Some(token);
                            break;
                        }
                        rest = None;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    let mut state = observer.0.borrow_mut();
                    match (got, &handles[place(ix)]) {
                        (Some(token), Some(handle)) => {
                            handle.set_token(token.into());
                            state.totals.provisioned += 1;
                        }
                        _ => state.totals.unprovisioned += 1,
                    }
                }
            };
            drop(self.tasks.spawn_local(task));
        }
    }
}

async fn token(
    dial: &dyn Dial,
    device: DeviceId,
    class: DeviceClass,
    entry: usize,
    kept: &mut Option<Rest>,
) -> Option<String> {
    let mut rest = match kept.take() {
        Some(rest) => rest,
        None => {
            Rest::start(dial.dial(device, entry % dial.entries().max(1)).await.ok()?).await.ok()?
        }
    };
    let token = rest.token(device, class).await.ok()?;
    *kept = Some(rest);
    Some(token)
}
