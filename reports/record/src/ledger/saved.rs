//! A ledger as bytes: what changed since the last checkpoint, and reading all of it back.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counts::LedgerCounts;
use super::number::Number;
use super::pairs::PairRow;
use super::plane::Plane;
use super::row::{Attempt, Closed, Opened, Reference, Row};
use super::{Ledger, LedgerConfig, NodeActivity};
use crate::store::frame::{Frame, Frames, Kind, pack, unpack};

/// Pairs of one frame.
const PAIRS_PER_FRAME: usize = 65_536;

/// Rows written so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SavedUpTo {
    config: bool,
    rows: usize,
    attempts: usize,
    opened: usize,
    closed: usize,
}

/// What a ledger has to add to its file.
#[derive(Debug, Default)]
pub struct Checkpoint {
    pub(crate) shard: u16,
    pub(crate) bytes: Vec<u8>,
}

/// What is small and replaced as a whole.
#[derive(Serialize, Deserialize)]
struct Tail {
    counts: LedgerCounts,
    rejects: BTreeMap<String, u64>,
    nodes: Vec<NodeActivity>,
    unanswered: Vec<(Number, Reference)>,
    ends: Vec<u64>,
}

impl Ledger {
    /// What changed since the last call, as frames for the ledger's file. The last one brings the pairs too.
    pub fn checkpoint(&mut self, last: bool) -> Checkpoint {
        let mut frames = Frames::default();
        if !self.saved.config {
            frames.push(Kind::LedgerConfig, &pack(&self.config));
            self.saved.config = true;
        }
        for (at, stream) in self.streams.iter_mut().enumerate() {
            for (block, dirty) in stream.dirty.iter_mut().enumerate() {
                if !std::mem::take(dirty) {
                    continue;
                }
                for (which, plane) in
                    [&stream.submitted, &stream.outcome, &stream.delivered].into_iter().enumerate()
                {
                    if let Some(words) = plane.block(block) {
                        frames.push(Kind::LedgerBlock, &block_bytes(at, which, block, words));
                    }
                }
            }
        }
        let saved = &mut self.saved;
        frames.push_new(Kind::LedgerRows, &self.rows, &mut saved.rows);
        frames.push_new(Kind::LedgerAttempts, &self.attempts, &mut saved.attempts);
        frames.push_new(Kind::LedgerOpened, &self.opened, &mut saved.opened);
        frames.push_new(Kind::LedgerClosed, &self.closed, &mut saved.closed);
        if last {
            for chunk in self.pairs.sorted().chunks(PAIRS_PER_FRAME) {
                frames.push(Kind::LedgerPairs, &pack(&chunk));
            }
            let beyond: Vec<([u32; 2], Vec<[u32; 2]>)> =
                self.pairs.all_beyond().map(|(key, ranges)| (key, ranges.to_vec())).collect();
            frames.push(Kind::LedgerBeyond, &pack(&beyond));
        }
        let tail = Tail {
            counts: self.counts,
            rejects: self.rejects.clone(),
            nodes: self.nodes.clone(),
            unanswered: self.unanswered().into_iter().collect(),
            ends: self.streams.iter().map(|stream| stream.end).collect(),
        };
        frames.push(Kind::LedgerTail, &pack(&tail));
        Checkpoint { shard: self.config.shard, bytes: frames.into_bytes() }
    }

    /// Reads the frames of a shard back; `None` when there is no configuration. Frames that cannot be understood are named.
    pub(crate) fn restore(bytes: &[u8], damaged: &mut Vec<String>) -> Option<Self> {
        let mut ledger: Option<Self> = None;
        for frame in Frame::read_all(bytes, "ledger", damaged) {
            if frame.kind == Kind::LedgerConfig {
                match unpack::<LedgerConfig>(frame.payload) {
                    Ok(config) => {
                        ledger = Some(Self::new(LedgerConfig {
                            pairs: config.pairs.min(1 << 16),
                            ..config
                        }));
                    }
                    Err(error) => damaged.push(format!("ledger: configuration: {error}")),
                }
                continue;
            }
            let Some(ledger) = &mut ledger else { continue };
            if let Err(error) = ledger.absorb(&frame) {
                damaged.push(format!("ledger: {error}"));
            }
        }
        ledger
    }

    fn absorb(&mut self, frame: &Frame<'_>) -> Result<(), rmp_serde::decode::Error> {
        match frame.kind {
            Kind::LedgerBlock => self.absorb_block(frame.payload),
            Kind::LedgerRows => self.rows.extend(unpack::<Vec<Row>>(frame.payload)?),
            Kind::LedgerAttempts => self.attempts.extend(unpack::<Vec<Attempt>>(frame.payload)?),
            Kind::LedgerOpened => self.opened.extend(unpack::<Vec<Opened>>(frame.payload)?),
            Kind::LedgerClosed => self.closed.extend(unpack::<Vec<Closed>>(frame.payload)?),
            Kind::LedgerPairs => {
                for row in unpack::<Vec<PairRow>>(frame.payload)? {
                    *self.pairs.entry(row.device, row.peer) = row.pair;
                }
            }
            Kind::LedgerBeyond => {
                for ([device, peer], ranges) in
                    unpack::<Vec<([u32; 2], Vec<[u32; 2]>)>>(frame.payload)?
                {
                    self.pairs.put_beyond(device, peer, ranges);
                }
            }
            Kind::LedgerTail => {
                let tail: Tail = unpack(frame.payload)?;
                self.counts = tail.counts;
                self.rejects = tail.rejects;
                self.nodes = tail.nodes;
                self.early = tail.unanswered.into_iter().collect();
                for (stream, end) in self.streams.iter_mut().zip(tail.ends) {
                    stream.end = end;
                }
            }
            Kind::LedgerConfig | Kind::Slice | Kind::Total | Kind::Control => {}
        }
        Ok(())
    }

    fn absorb_block(&mut self, bytes: &[u8]) {
        let Some((head, words)) = bytes.split_at_checked(8) else { return };
        let stream = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let block = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(stream) = self.streams.get_mut(stream) else { return };
        let plane: &mut Plane = match head[2] {
            0 => &mut stream.submitted,
            1 => &mut stream.outcome,
            _ => &mut stream.delivered,
        };
        let words: Vec<u64> = words
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight")))
            .collect();
        plane.replace_block(block, &words);
    }
}

fn block_bytes(stream: usize, which: usize, block: usize, words: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + words.len() * 8);
    bytes.extend_from_slice(&u16::try_from(stream).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(&[u8::try_from(which).unwrap_or(u8::MAX), 0]);
    bytes.extend_from_slice(&u32::try_from(block).unwrap_or(u32::MAX).to_le_bytes());
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}
