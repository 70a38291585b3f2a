//! The record handler of `chat.messages`: fold, owe what was accepted, answer the sender's gateway.
use std::sync::Arc;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::blobs::Blobs;
use chat_ports::consumer::{FoldEntry, FoldViews, MidRule, Mids, SEQUENCER, snapshots};
use chat_ports::log::Record;
use chat_ports::observe::{Counter, Observer};
use chat_ports::registry::NodeKey;
use chat_ports::streams::kinds::MessagesDownItem;
use chat_protocol::fold::{Fold, Input, Refusal, Verdict};
use chat_protocol::frame::RejectCode;
use chat_protocol::ids::slot_of;
use chat_protocol::node::{Envelope, LogSend, Message, QueueItem, Reject, Sent, envelope};
use chat_protocol::{Cid, ConvId, DeviceId, Mid, UserId};
use prost::Message as _;
use tokio::time::Instant;

use crate::answers::{Answers, OpenAnswers};
use crate::directory::{Directory, Found};
use crate::pump::{Factory, Handler};
use crate::slots::Slots;
use crate::{AnswerPoint, Deps, StartRule};

/// Makes the handlers of one node.
pub(crate) struct SequencerFactory {
    node: NodeKey,
    blobs: Arc<dyn Blobs>,
    directory: Arc<Directory>,
    answers: Answers,
    folds: FoldViews,
    start: StartRule,
    answer: AnswerPoint,
    mids: MidRule,
    retry_after_ms: u32,
    counters: Counters,
}

#[derive(Clone)]
struct Counters {
    accepted: Counter,
    duplicates: Counter,
    refused: Counter,
    unreadable: Counter,
    answers_dropped: Counter,
    duplicate_retry_answered: Counter,
    stale_send_refused: Counter,
    start_from_snapshot: Counter,
}

impl Counters {
    fn new(observer: &Observer) -> Self {
        Self {
            accepted: observer.counter("sequencer.accepted"),
            duplicates: observer.counter("sequencer.duplicates"),
            refused: observer.counter("sequencer.refused"),
            unreadable: observer.counter("sequencer.unreadable"),
            answers_dropped: observer.counter("messaging.answers_dropped"),
            duplicate_retry_answered: observer.counter("sometimes.duplicate-retry-answered"),
            stale_send_refused: observer.counter("sometimes.stale-send-refused"),
            start_from_snapshot: observer.counter("sometimes.start-from-snapshot"),
        }
    }
}

impl SequencerFactory {
    pub(crate) fn new(deps: &Deps, directory: Arc<Directory>, answers: Answers) -> Self {
        Self {
            node: deps.view.key.clone(),
            blobs: Arc::clone(&deps.blobs),
            directory,
            answers,
            folds: deps.folds.clone(),
            start: deps.policies.start,
            answer: deps.policies.answer,
            mids: deps.policies.mids,
            retry_after_ms: u32::try_from(deps.timers.log_election.as_millis()).unwrap_or(u32::MAX),
            counters: Counters::new(&deps.observer),
        }
    }
}

impl Factory for SequencerFactory {
    type Handler = Sequencer;

    fn source(&self, partition: u32) -> String {
        format!("m{partition}")
    }

    async fn open(&self, partition: u32, begin: u64) -> Result<Sequencer, PortError> {
        let (fold, next) = match self.start {
            StartRule::FromSnapshot => {
                let fold = snapshots::load(&*self.blobs, partition, begin).await?;
                let next = fold.next_offset();
                if next > 0 {
                    self.counters.start_from_snapshot.add(1);
                }
                (fold, next)
            }
            StartRule::Empty => (Fold::new(partition), begin),
        };
        Ok(Sequencer {
            partition,
            fold,
            next,
            keeps_state: self.start == StartRule::FromSnapshot,
            mids: self.mids.of_fold(&[1, self.node.epoch, u64::from(partition), next]),
            answers_on_fold: self.answer == AnswerPoint::AfterFold,
            directory: Arc::clone(&self.directory),
            answers: self.answers.clone(),
            entry: self.folds.entry(SEQUENCER, &self.node.name),
            retry_after_ms: self.retry_after_ms,
            prepared: Vec::new(),
            devices: Vec::new(),
            after: next,
            counters: self.counters.clone(),
        })
    }
}

/// The handler of one partition.
pub(crate) struct Sequencer {
    partition: u32,
    fold: Fold,
    next: u64,
    keeps_state: bool,
    mids: Mids,
    answers_on_fold: bool,
    directory: Arc<Directory>,
    answers: Answers,
    entry: FoldEntry,
    retry_after_ms: u32,
    prepared: Vec<Prepared>,
    /// Of recipient and sender of each prepared record with effects.
    devices: Vec<Found>,
    /// Offset behind the prepared page.
    after: u64,
    counters: Counters,
}

/// A readable record.
struct Prepared {
    input: Input,
    from: DeviceId,
    to: UserId,
    send: LogSend,
}

/// Reads a record; `None` when it is none of ours. Every reader must skip the same ones.
fn read(record: &Record) -> Option<Prepared> {
    let send = LogSend::decode(record.value.clone()).ok()?;
    let conv = ConvId::from_bytes(&send.conv).ok()?;
    let from = DeviceId(send.device);
    let to = conv.peer(from.user())?;
    let cid = Cid::from_bytes(&send.cid)?;
    let input = Input {
        offset: record.offset,
        log_ms: record.log_ms,
        cid,
        conv,
        from,
        client_ms: send.client_ms,
    };
    Some(Prepared { input, from, to, send })
}

impl Handler for Sequencer {
    fn next_offset(&self) -> u64 {
        self.next
    }

    async fn prepare(&mut self, page: &[Record], effects_from: u64) -> Result<(), PortError> {
        self.prepared.clear();
        self.prepared.extend(page.iter().filter_map(read));
        self.counters.unreadable.add((page.len() - self.prepared.len()) as u64);
        self.after = page.last().map_or(self.next, |record| record.offset + 1);
        let with_effects =
            self.prepared.iter().filter(|record| record.input.offset >= effects_from);
        let users: Vec<UserId> =
            with_effects.flat_map(|record| [record.to, record.from.user()]).collect();
        self.devices = self.directory.devices(&users).await;
        if self.devices.contains(&Found::Unreachable) {
            return Err(PortError::Unknown(
                "the directory has a list that is neither cached nor readable".into(),
            ));
        }
        Ok(())
    }

    fn take(&mut self, effects_from: u64, slots: &mut Slots) {
        let open = self.answers.open();
        let devices = std::mem::take(&mut self.devices);
        let mut devices = devices.chunks_exact(2);
        for record in std::mem::take(&mut self.prepared) {
            let verdict = self.fold.apply(&record.input);
            if record.input.offset < effects_from {
                continue;
            }
            let found =
                devices.next().expect("devices were looked up for every record with effects");
            match verdict {
                Verdict::Accepted { mid, cseq } => {
                    let mid = self.mids.of(mid);
                    self.counters.accepted.add(1);
                    owe(&record, mid, cseq, found, slots);
                    self.answer(&open, &record, mid, cseq, None);
                }
                Verdict::Duplicate { mid, cseq, log_ms } => {
                    self.counters.duplicates.add(1);
                    self.counters.duplicate_retry_answered.add(1);
                    self.answer(&open, &record, self.mids.of(mid), cseq, Some(log_ms));
                }
                Verdict::Refused(refusal) => self.refuse(&open, &record, refusal),
            }
        }
        self.next = self.after;
        slots.emitted(self.next);
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn flush(&mut self, _: &mut Slots) {}

    fn show(&mut self) {
        self.entry.show(self.partition, &self.fold);
    }

    fn snapshot(&self) -> Option<(u64, Bytes)> {
        // A snapshot is named by the fold's own offset: an unreadable record at the very end is read again.
        self.keeps_state.then(|| (self.fold.next_offset(), self.fold.snapshot().into()))
    }
}

/// Owes an accepted message to every device of the recipient and to the sender's other devices.
fn owe(record: &Prepared, mid: Mid, cseq: u64, found: &[Found], slots: &mut Slots) {
    let message = Message {
        mid: Bytes::copy_from_slice(&mid.to_bytes()),
        conv: record.send.conv.clone(),
        cseq,
        from_device: record.from.0,
        kind: record.send.kind,
        server_ms: record.input.log_ms,
        body: record.send.body.clone(),
    };
    let payload: Bytes =
        Envelope { item: Some(envelope::Item::Message(message)) }.encode_to_vec().into();
    let position = record.input.offset + 1;
    for (user, found) in [record.to, record.from.user()].into_iter().zip(found) {
        let Found::Devices(indexes) = found else { continue };
        let slot = slot_of(user);
        for index in indexes {
            let device = user.device(*index);
            if device != record.from {
                slots.owe(slot, position, QueueItem { device: device.0, payload: payload.clone() });
            }
        }
    }
}

impl Sequencer {
    /// Answers `sent`; `first_ms` is the log's stamp of the first copy when this is a further one.
    fn answer(
        &self,
        open: &OpenAnswers,
        record: &Prepared,
        mid: Mid,
        cseq: u64,
        first_ms: Option<u64>,
    ) {
        if !self.answers_on_fold {
            return;
        }
        let sent = Sent {
            device: record.from.0,
            conn: record.send.conn,
            cid: record.send.cid.clone(),
            mid: Bytes::copy_from_slice(&mid.to_bytes()),
            cseq,
            server_ms: first_ms.unwrap_or(record.input.log_ms),
            dup: first_ms.is_some(),
        };
        self.say(open, record, MessagesDownItem::Sent(sent));
    }

    fn refuse(&self, open: &OpenAnswers, record: &Prepared, refusal: Refusal) {
        self.counters.refused.add(1);
        let (code, retryable, retry_after_ms) = match refusal {
            Refusal::Stale => {
                self.counters.stale_send_refused.add(1);
                (RejectCode::Stale, false, 0)
            }
            Refusal::Busy => (RejectCode::Busy, true, self.retry_after_ms),
            Refusal::CidTaken => (RejectCode::CidTaken, false, 0),
        };
        if !self.answers_on_fold {
            return;
        }
        let reject = Reject {
            device: record.from.0,
            conn: record.send.conn,
            cid: record.send.cid.clone(),
            attempt: record.send.attempt,
            code: code.to_wire(),
            retryable,
            effect_unknown: false,
            retry_after_ms,
        };
        self.say(open, record, MessagesDownItem::Reject(reject));
    }

    /// An answer that finds no open stream is dropped: the client retries and is a duplicate then.
    fn say(&self, open: &OpenAnswers, record: &Prepared, item: MessagesDownItem) {
        let taken = match open.to(&record.send.origin, record.send.origin_epoch) {
            Some(stream) => stream.offer(item).is_ok(),
            None => false,
        };
        if !taken {
            self.counters.answers_dropped.add(1);
        }
    }
}
