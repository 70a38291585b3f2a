//! What an operator may see of the store, and how he empties it.
use std::sync::Arc;

use chat_control::inspect::{LeaseView, QueueView, RouteChange, RouteView};
use chat_ports::PortError;
use chat_ports::registry::Route;
use chat_ports::relay_queue::QueueState;
use chat_protocol::DeviceId;
use redis::Value;
use tokio::sync::Mutex;

use super::answer::{self, odd};
use super::keys;
use super::queue;
use super::registry;
use super::scripts::{Call, Script};
use super::store::Door;

/// Changes read by one script.
const PAGE: usize = 4_096;
/// Pages of one answer, which is more than the store keeps of changes; beyond it the next call goes on.
const PAGES_MAX: usize = 40;
/// Keys that one step of a scan looks at.
const SCAN_KEYS: usize = 1_024;
/// Steps of one scan, which is ten million keys; beyond it the listing is refused.
const SCAN_STEPS_MAX: usize = 10_240;
/// Keys of a server that is wiped; with more a wipe is refused. All are read and deleted by one script, which keeps the server from
/// others meanwhile, and may not do so for as long as a call lasts.
const WIPED_KEYS_MAX: usize = 100_000;
/// Changes that wipes have left to be listed; with more a further wipe is refused.
const WIPED_MAX: usize = 1_000_000;
/// A cursor has the time of a change in its upper bits and its number within the millisecond in these.
const CURSOR_BITS: u32 = 20;
/// The cursor before the first change ever: of a store in which no route has changed yet.
const CURSOR_FIRST: u64 = 1;

/// What an operator may see of the store.
#[derive(Clone)]
pub struct RedisAdmin {
    door: Door,
    /// What a wipe took, until it was listed: an emptied store cannot tell of it. Held through a wipe and a look, for a look amid a
    /// wipe would be told first what came after it.
    wiped: Arc<Mutex<Vec<RouteChange>>>,
}

impl RedisAdmin {
    pub(super) fn new(door: Door) -> Self {
        Self { door, wiped: Arc::default() }
    }

    /// Changes of routes since a cursor, and the next cursor. Cursor 0 lists all present routes; a cursor that fell more than
    /// 131,072 changes behind, or whose changes the store has lost, gets the present state of every device instead, removed routes
    /// included as far as the store remembers their devices (7 days).
    ///
    /// Such a listing reads all keys of the server, a step of 1,024 a call, and is refused beyond ten million. Changes while it is
    /// made come again with its cursor.
    ///
    /// What [`Self::wipe`] took comes first in the next answer to a cursor above 0: every device as it was, then the removal of its
    /// route. Such a call waits for a wipe that is under way.
    pub async fn routes_since(&self, cursor: u64) -> Result<(Vec<RouteChange>, u64), PortError> {
        if cursor == 0 {
            return self.state(true).await;
        }
        let mut wiped = self.wiped.lock().await;
        let (changes, next) = match self.changes(cursor).await? {
            Some(answer) => answer,
            None => self.state(false).await?,
        };
        let mut all = std::mem::take(&mut *wiped);
        all.extend(changes);
        Ok((all, next))
    }

    /// Present routes, or the state of every device, and the cursor behind them.
    async fn state(&self, routed: bool) -> Result<(Vec<RouteChange>, u64), PortError> {
        // The cursor is taken first, so that nothing that changes meanwhile is missed.
        let next = self.newest().await?;
        Ok((self.listing(routed).await?, next))
    }

    /// Empties the server: every key is gone at once, those of other systems too. The floor of every queue counts as raised,
    /// because its content is lost.
    ///
    /// [`Self::routes_since`] tells of it; what was there is read in the same step, so that no change before it is missed. The step
    /// takes about 7 ms for 1,000 devices with a queue, 0.15 s for 20,000, in which the server does nothing else. Refused above
    /// 100,000 keys, and while more than a million changes of earlier wipes wait to be listed. After an unknown outcome nobody is
    /// told what was lost.
    pub async fn wipe(&self) -> Result<(), PortError> {
        let mut wiped = self.wiped.lock().await;
        if wiped.len() > WIPED_MAX {
            return Err(PortError::Refused("earlier wipes were not listed yet".to_owned()));
        }
        let keys = &self.door.shared.keys;
        let [queues, devices] = [keys.queues(), keys.devices()].map(|begin| format!("{begin}*"));
        let call = Call::new(Script::Wipe, &[]).arg(queues).arg(devices).arg(WIPED_KEYS_MAX);
        let answer = self.door.ask(call).await?;
        if answer == Value::Nil {
            return Err(PortError::Refused("the store has too many keys for a wipe".to_owned()));
        }
        let [at_ms, queues, devices] = answer::few(answer)?;
        let at_ms = answer::number(&at_ms)?;
        for was in states(answer::list(devices)?)? {
            // Nobody may have looked since it changed.
            let gone = was.route.is_some().then_some(RouteChange { route: None, at_ms, ..was });
            wiped.push(was);
            wiped.extend(gone);
        }
        self.door.raised(queues)
    }

    /// All node leases, ended ones included.
    pub async fn leases(&self) -> Result<Vec<LeaseView>, PortError> {
        let view = |node: registry::Listed| LeaseView {
            node: node.key.name.to_string(),
            epoch: node.key.epoch,
            left_ms: node.left_ms,
        };
        Ok(registry::nodes(&self.door).await?.into_iter().map(view).collect())
    }

    /// Queues of devices, in order; a missing one has epoch 0.
    pub async fn queues(&self, devices: &[DeviceId]) -> Result<Vec<QueueView>, PortError> {
        let states = queue::states(&self.door, devices).await?;
        let view = |(device, found): (&DeviceId, Option<(QueueState, u64)>)| {
            let (state, oldest_ms) = found.unwrap_or_default();
            let QueueState { epoch, floor, base, top } = state;
            QueueView { device: *device, epoch, floor, base, top, oldest_ms }
        };
        Ok(devices.iter().zip(states).map(view).collect())
    }

    /// Changes after a cursor, or `None` when some of them may be gone.
    async fn changes(&self, cursor: u64) -> Result<Option<(Vec<RouteChange>, u64)>, PortError> {
        let mut next = cursor;
        let mut changes = Vec::new();
        for _ in 0..PAGES_MAX {
            let call = Call::new(Script::Changes, &[self.door.shared.keys.changes()]);
            let call = call.arg(entry_after(next)).arg(PAGE);
            let mut answer = answer::list(self.door.ask(call).await?)?.into_iter();
            if !answer::flag(&answer.next().ok_or_else(odd)?)? {
                return Ok(None);
            }
            let before = changes.len();
            for entry in answer {
                let (change, at) = change_of(entry)?;
                changes.push(change);
                next = at;
            }
            if changes.len() - before < PAGE {
                break;
            }
        }
        Ok(Some((changes, next)))
    }

    /// The cursor behind the newest change.
    async fn newest(&self) -> Result<u64, PortError> {
        let call = Call::new(Script::Newest, &[self.door.shared.keys.changes()]);
        let answer = answer::list(self.door.ask(call).await?)?;
        answer.first().map_or(Ok(CURSOR_FIRST), |id| cursor_of(answer::entry_id(id)?))
    }

    /// The present state of every device, or of those that have a route, in the order of devices.
    async fn listing(&self, routed: bool) -> Result<Vec<RouteChange>, PortError> {
        let pattern = format!("{}*", self.door.shared.keys.devices());
        let mut listed = Vec::new();
        let mut at = "0".to_owned();
        for _ in 0..SCAN_STEPS_MAX {
            let call = Call::new(Script::Devices, &[]).arg(&at).arg(&pattern).arg(SCAN_KEYS);
            let mut answer = answer::list(self.door.ask(call).await?)?;
            let found = answer.split_off(1.min(answer.len()));
            answer::text(answer.first().ok_or_else(odd)?)?.clone_into(&mut at);
            listed.extend(states(found)?.into_iter().filter(|c| c.route.is_some() || !routed));
            if at == "0" {
                listed.sort_unstable_by_key(|change| change.device);
                // A scan may show a key twice.
                listed.dedup_by_key(|change| change.device);
                return Ok(listed);
            }
        }
        Err(PortError::Refused("the store has too many keys for a listing".to_owned()))
    }
}

fn view(route: &Route) -> RouteView {
    RouteView {
        node: route.node.name.to_string(),
        node_epoch: route.node.epoch,
        conn_epoch: route.conn_epoch,
    }
}

/// The state of devices that a script tells of, but for those that never had a route.
fn states(told: Vec<Value>) -> Result<Vec<RouteChange>, PortError> {
    let state = |[key, route, at_ms]: [Value; 3]| {
        let id = answer::text(&key)?.rsplit_once(':').and_then(|(_, id)| id.parse().ok());
        let device = DeviceId(id.ok_or_else(odd)?);
        let route = answer::route(&route)?;
        // A device that never had a route has no time of a change.
        let Some(at_ms) = answer::optional_text(&at_ms)? else { return Ok(None) };
        let at_ms = at_ms.parse().map_err(|_| odd())?;
        Ok(Some(RouteChange { device, route: route.as_ref().map(view), at_ms }))
    };
    answer::groups(told)?.map(state).filter_map(Result::transpose).collect()
}

/// One change and the cursor behind it.
fn change_of(entry: Value) -> Result<(RouteChange, u64), PortError> {
    let [id, fields] = answer::few(entry)?;
    let [device, route] = answer::few(fields)?;
    let (at_ms, number) = answer::entry_id(&id)?;
    let route = match answer::text(&route)? {
        "" => None,
        route => Some(view(&keys::parse_route(route).ok_or_else(odd)?)),
    };
    let device = DeviceId(answer::number(&device)?);
    Ok((RouteChange { device, route, at_ms }, cursor_of((at_ms, number))?))
}

/// The cursor behind a change.
fn cursor_of((at_ms, number): (u64, u64)) -> Result<u64, PortError> {
    let fits = number < 1 << CURSOR_BITS && at_ms > 0 && at_ms < 1 << (u64::BITS - CURSOR_BITS);
    if fits { Ok((at_ms << CURSOR_BITS) | number) } else { Err(odd()) }
}

/// The entry that a cursor is behind.
fn entry_after(cursor: u64) -> String {
    if cursor == CURSOR_FIRST {
        return "0-0".to_owned();
    }
    format!("{}-{}", cursor >> CURSOR_BITS, cursor & ((1 << CURSOR_BITS) - 1))
}
