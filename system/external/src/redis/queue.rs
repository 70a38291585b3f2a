//! Relay queues.
use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::relay_queue::{
    Enqueue, QueueItem, QueuePage, QueueState, RelayQueue, SourceOutcome, SourceRange, Stored,
};
use chat_protocol::DeviceId;
use chat_protocol::ids::SLOTS;
use redis::Value;

use super::answer::{self, odd};
use super::keys;
use super::registry::same_number;
use super::scripts::{Call, Script};
use super::store::Door;

/// A full queue loses this part of its limit at once (at least one item), so that a long absence does not raise the floor with
/// every single item.
const CUT_PART: u64 = 16;
/// Sources of one call; more are refused. A script hands the names of all of them to one command, which has room for about 4,000.
const SOURCES_MAX: usize = 2_048;
/// Payload bytes after which a page holds no further items; it has one at least. Readers ask again for the rest.
const PAGE_BYTES: usize = 256 * 1024;
/// Pages read by one script, so that it keeps the server from others for less than a millisecond.
const SCRIPT_PAGES: usize = 16;
/// Acks done by one script, for the same reason.
const SCRIPT_ACKS: usize = 128;
/// Positions from here on were never given out. Numbers of Lua are exact up to 2^53.
const POSITION_MAX: u64 = 1 << 52;

/// [`RelayQueue`] in Redis.
pub(super) struct RedisQueue {
    door: Door,
}

/// A call of a script on queues.
fn on_queues(door: &Door, script: Script, more_keys: &[String]) -> Call {
    let keys = &door.shared.keys;
    let all: Vec<String> =
        [keys.incarnation()].into_iter().chain(more_keys.iter().cloned()).collect();
    Call::new(script, &all).arg(keys.queues()).arg(keys.devices())
}

/// States of queues, each with the milliseconds that its oldest item has waited, 0 when it is empty. `None`: there is no queue.
pub(super) async fn states(
    door: &Door,
    devices: &[DeviceId],
) -> Result<Vec<Option<(QueueState, u64)>>, PortError> {
    let mut call = on_queues(door, Script::States, &[]);
    for device in devices {
        call = call.arg(keys::device(*device));
    }
    let state = |value: Value| {
        if value == Value::Nil {
            return Ok(None);
        }
        let [epoch, floor, base, top, waited] = answer::few(value)?;
        Ok(Some((state_of([&epoch, &floor, &base, &top])?, answer::number(&waited)?)))
    };
    let all: Result<Vec<_>, PortError> =
        answer::list(door.ask(call).await?)?.into_iter().map(state).collect();
    same_number(all?, devices.len())
}

fn state_of([epoch, floor, base, top]: [&Value; 4]) -> Result<QueueState, PortError> {
    Ok(QueueState {
        epoch: answer::number(epoch)?,
        floor: answer::number(floor)?,
        base: answer::number(base)?,
        top: answer::number(top)?,
    })
}

impl RedisQueue {
    pub(super) fn new(door: Door) -> Self {
        Self { door }
    }
}

#[async_trait]
impl RelayQueue for RedisQueue {
    async fn enqueue(&self, call: Enqueue) -> Result<Vec<SourceOutcome>, PortError> {
        let Enqueue { slot, sources } = call;
        if sources.iter().any(|range| range.last < range.prev) {
            return Err(PortError::Refused("a range ends before it starts".to_owned()));
        }
        if sources.len() > SOURCES_MAX {
            return Err(PortError::Refused(format!("{} sources in one call", sources.len())));
        }
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let shared = &self.door.shared;
        let most = shared.relay_queue;
        let mut request = on_queues(&self.door, Script::Enqueue, &[shared.keys.watermarks(slot)])
            .arg(most)
            .arg((most / CUT_PART).max(1));
        for SourceRange { source, prev, last, incarnation, items } in &sources {
            request =
                request.arg(&**source).arg(*prev).arg(*last).arg(*incarnation).arg(items.len());
            for (device, payload) in items {
                request = request.arg(keys::device(*device)).arg(&payload[..]);
            }
        }
        shared.scripts.add(1);
        shared.items.add(sources.iter().map(|range| range.items.len() as u64).sum());
        let mut answer = answer::list(self.door.ask(request).await?)?.into_iter();
        let (Some(longest), Some(raised)) = (answer.next(), answer.next()) else {
            return Err(odd());
        };
        self.door.grew(answer::number(&longest)?);
        self.door.raised(raised)?;
        let outcomes = answer.zip(&sources).map(|(value, range)| outcome(value, range.items.len()));
        same_number(outcomes.collect::<Result<Vec<_>, _>>()?, sources.len())
    }

    async fn trim(&self, acks: &[(DeviceId, u64, u64)]) -> Result<(), PortError> {
        let script = |acks: &[(DeviceId, u64, u64)]| {
            let call = on_queues(&self.door, Script::Trim, &[]);
            acks.iter().fold(call, |call, (device, epoch, up_to)| {
                call.arg(keys::device(*device)).arg(*epoch).arg((*up_to).min(POSITION_MAX))
            })
        };
        let calls: Vec<Call> = acks.chunks(SCRIPT_ACKS).map(script).collect();
        if calls.is_empty() {
            return Ok(());
        }
        self.door.ask_all(calls).await.map(drop)
    }

    async fn read(&self, pages: &[(DeviceId, u64, u32)]) -> Result<Vec<QueuePage>, PortError> {
        let script = |pages: &[(DeviceId, u64, u32)]| {
            let call = on_queues(&self.door, Script::Read, &[]).arg(PAGE_BYTES);
            pages.iter().fold(call, |call, (device, after, limit)| {
                call.arg(keys::device(*device)).arg((*after).min(POSITION_MAX)).arg(*limit)
            })
        };
        let calls: Vec<Call> = pages.chunks(SCRIPT_PAGES).map(script).collect();
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = Vec::with_capacity(pages.len());
        for answer in self.door.ask_all(calls).await? {
            let mut answer = answer::list(answer)?.into_iter();
            self.door.raised(answer.next().ok_or_else(odd)?)?;
            for value in answer {
                read.push(page(value)?);
            }
        }
        same_number(read, pages.len())
    }

    async fn states(&self, devices: &[DeviceId]) -> Result<Vec<QueueState>, PortError> {
        let states = states(&self.door, devices).await?;
        Ok(states
            .into_iter()
            .map(|state| state.map_or_else(QueueState::default, |s| s.0))
            .collect())
    }

    async fn watermarks(&self) -> Result<Vec<(Arc<str>, u32, u64)>, PortError> {
        let keys = &self.door.shared.keys;
        let slots: Vec<String> = (0..SLOTS).map(|slot| keys.watermarks(slot)).collect();
        let answer = self.door.ask(Call::new(Script::Watermarks, &slots)).await?;
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        let mut all = Vec::new();
        for (slot, marks) in (0..SLOTS).zip(answer::list(answer)?) {
            for [source, mark] in answer::groups(answer::list(marks)?)? {
                let source = answer::text(&source)?;
                let name = names.entry(source.to_owned()).or_insert_with(|| source.into());
                all.push((Arc::clone(name), slot, answer::number(&mark)?));
            }
        }
        Ok(all)
    }

    async fn incarnation(&self) -> Result<u64, PortError> {
        let key = self.door.shared.keys.incarnation();
        let answer = self.door.ask(Call::new(Script::Incarnation, &[key])).await?;
        answer::number(answer::list(answer)?.first().ok_or_else(odd)?)
    }
}

/// Fate of a source with so many items.
fn outcome(value: Value, items: usize) -> Result<SourceOutcome, PortError> {
    let mut values = answer::list(value)?;
    if values.is_empty() {
        return Err(odd());
    }
    let rest = values.split_off(1);
    match (answer::text(&values[0])?, &rest[..]) {
        ("D", [mark]) => Ok(SourceOutcome::Duplicate(answer::number(mark)?)),
        ("G", [mark]) => Ok(SourceOutcome::Gap(answer::number(mark)?)),
        ("A", _) => {
            let stored = |[id, route]: [Value; 2]| {
                let (epoch, dseq) = answer::entry_id(&id)?;
                Ok(Stored { epoch, dseq, route: answer::route(&route)? })
            };
            let all: Result<Vec<_>, PortError> = answer::groups(rest)?.map(stored).collect();
            Ok(SourceOutcome::Applied(same_number(all?, items)?))
        }
        _ => Err(odd()),
    }
}

fn page(value: Value) -> Result<QueuePage, PortError> {
    let mut values = answer::list(value)?;
    if values.len() < 4 {
        return Err(odd());
    }
    let entries = values.split_off(4);
    let state = match &values[..] {
        [epoch, floor, base, top] => state_of([epoch, floor, base, top])?,
        _ => return Err(odd()),
    };
    let item = |[id, payload]: [Value; 2]| {
        let (_, dseq) = answer::entry_id(&id)?;
        Ok(QueueItem { dseq, payload: Bytes::from(answer::bytes(payload)?) })
    };
    let items: Result<Vec<_>, PortError> = answer::groups(entries)?.map(item).collect();
    Ok(QueuePage { state, items: items? })
}
