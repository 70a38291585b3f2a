//! The schedule: which intent is due when, from whom to whom, in exact integer arithmetic.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::distribution::Sampler;
use crate::draw::{Key, mix};
use crate::file::{Arrival, PAYLOAD_MIN};
use crate::fixed::{FRACTION_BITS, exponential};
use crate::plan::Plan;
use crate::population::{DeviceIx, Population};

/// Sends of one stream in one phase; sums of their gaps stay inside 128 bits.
pub const COUNT_MAX: u64 = 1 << 28;

const LANE_RECIPIENT: u64 = 1;
const LANE_SIZE: u64 = 2;
const LANE_CID: u64 = 5;

/// A message number: the stream, and how many intents of the stream come before, through all phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Number {
    /// Stream in plan order.
    pub stream: u16,
    /// From 0 through all phases.
    pub k: u64,
}

/// One send before it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// Which message.
    pub number: Number,
    /// Intended start, nanoseconds from the start of its phase.
    pub due_ns: u64,
    /// The device that sends.
    pub sender: DeviceIx,
    /// The user it writes to.
    pub to_user: u32,
    /// Bytes of the body.
    pub size: u32,
}

/// A stretch of constant rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Start, nanoseconds from the start of the phase.
    pub start_ns: u64,
    /// Length in nanoseconds.
    pub len_ns: u64,
    /// Intents in it.
    pub count: u64,
}

/// What drawing the messages of one stream needs.
#[derive(Debug)]
struct StreamDraw {
    message: Key,
    arrival_key: Key,
    arrival: Arrival,
    size: Sampler,
}

/// The intents of a plan. Made once, shared by all that enumerate it or recompute a message.
#[derive(Debug)]
pub struct Schedule {
    plan: Arc<Plan>,
    population: Arc<Population>,
    streams: Vec<StreamDraw>,
}

impl Schedule {
    /// Prepares the draws of a plan.
    pub fn new(plan: Arc<Plan>) -> Self {
        let population = Arc::clone(plan.population());
        let streams = plan
            .streams
            .iter()
            .map(|stream| StreamDraw {
                message: Key::new(plan.seed, &format!("stream/{}/message", stream.name)),
                arrival_key: Key::new(plan.seed, &format!("stream/{}/arrival", stream.name)),
                arrival: stream.arrival,
                size: stream.payload.sampler(),
            })
            .collect();
        Self { plan, population, streams }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The people of the plan.
    pub fn population(&self) -> &Arc<Population> {
        &self.population
    }

    /// All intents of a phase in due order across streams; none for a phase that does not exist or sends nothing.
    pub fn enumerate(&self, phase_ix: usize) -> Intents<'_> {
        let phase = self.plan.phases.get(phase_ix);
        let from_ns = phase.and_then(|p| p.from_ns).unwrap_or(0);
        let mut heads = Vec::new();
        for part in phase.map_or(&[][..], |p| &p.streams) {
            let draw = &self.streams[usize::from(part.stream)];
            let key = draw.arrival_key;
            let mut arrivals =
                Arrivals::new(draw.arrival, key, part.first_k, part.count, &part.segments);
            if let Some(due_ns) = arrivals.next() {
                heads.push(Head { stream: part.stream, k: part.first_k, due_ns, arrivals });
            }
        }
        Intents { schedule: self, from_ns, heads }
    }

    /// The message of a number whose intended start is known.
    #[inline]
    pub fn intent(&self, number: Number, due_ns: u64, at_load_ns: u64) -> Intent {
        let draw = &self.streams[usize::from(number.stream)];
        let sender = self.population.sender(draw.message, number.k, at_load_ns);
        let contacts = self.population.contacts_of(self.population.user_of(sender));
        let pick = draw.message.below(number.k, LANE_RECIPIENT, contacts.len() as u64);
        let to_user = contacts[usize::try_from(pick).expect("below the number of contacts")];
        let size = draw.size.draw(draw.message, number.k, LANE_SIZE).max(PAYLOAD_MIN);
        Intent { number, due_ns, sender, to_user, size: u32::try_from(size).unwrap_or(u32::MAX) }
    }

    /// The idempotency key of a message; every retry carries the same.
    #[inline]
    pub fn cid(&self, number: Number) -> [u8; 16] {
        let key = self.streams[usize::from(number.stream)].message;
        let mut cid = [0; 16];
        cid[..8].copy_from_slice(&key.bits(number.k, LANE_CID).to_le_bytes());
        cid[8..].copy_from_slice(&key.bits(number.k, LANE_CID + 1).to_le_bytes());
        cid
    }

    /// Appends the `len` bytes of a message's filler.
    pub fn payload_into(&self, number: Number, len: usize, out: &mut Vec<u8>) {
        let start = self.streams[usize::from(number.stream)].message.bits(number.k, LANE_CID + 2);
        out.reserve(len);
        for (word, left) in (0_u64..).zip((0..len).step_by(8).map(|at| (len - at).min(8))) {
            out.extend_from_slice(&filler(start, word)[..left]);
        }
    }

    /// Whether `bytes` are the filler of a message.
    pub fn payload_matches(&self, number: Number, bytes: &[u8]) -> bool {
        let start = self.streams[usize::from(number.stream)].message.bits(number.k, LANE_CID + 2);
        (0_u64..)
            .zip(bytes.chunks(8))
            .all(|(word, chunk)| filler(start, word)[..chunk.len()] == *chunk)
    }
}

#[inline]
fn filler(start: u64, word: u64) -> [u8; 8] {
    mix(start.wrapping_add(word.wrapping_mul(0x9E37_79B9_7F4A_7C15))).to_le_bytes()
}

#[derive(Debug)]
struct Head<'s> {
    stream: u16,
    k: u64,
    due_ns: u64,
    arrivals: Arrivals<'s>,
}

/// The intents of one phase in due order; equal instants in stream order.
#[derive(Debug)]
pub struct Intents<'s> {
    schedule: &'s Schedule,
    from_ns: u64,
    heads: Vec<Head<'s>>,
}

impl Iterator for Intents<'_> {
    type Item = Intent;

    #[inline]
    fn next(&mut self) -> Option<Intent> {
        let first = (0..self.heads.len()).min_by_key(|ix| self.heads[*ix].due_ns)?;
        let head = &mut self.heads[first];
        let number = Number { stream: head.stream, k: head.k };
        let due_ns = head.due_ns;
        match head.arrivals.next() {
            Some(next) => {
                head.due_ns = next;
                head.k += 1;
            }
            None => {
                self.heads.remove(first);
            }
        }
        Some(self.schedule.intent(number, due_ns, self.from_ns + due_ns))
    }
}

/// The instants of one stream in one phase.
#[derive(Debug)]
struct Arrivals<'s> {
    arrival: Arrival,
    key: Key,
    next_k: u64,
    end_k: u64,
    /// Sum of the exponential gaps so far, Q32.
    cumulative: u64,
    /// `count << 96 / total`, so that `cumulative * scale >> 64` is a position in Q32.
    scale: u128,
    first_k: u64,
    segments: std::slice::Iter<'s, Segment>,
    segment: Segment,
    /// Intents before the current segment.
    before: u64,
    /// Nanoseconds an intent of the current segment, Q32.
    step: u128,
}

impl<'s> Arrivals<'s> {
    fn new(arrival: Arrival, key: Key, first_k: u64, count: u64, segments: &'s [Segment]) -> Self {
        let scale = match arrival {
            Arrival::Uniform => 0,
            Arrival::Poisson => {
                // One gap more than there are intents: a Poisson process conditioned on its count.
                let total: u128 =
                    (first_k..=first_k + count).map(|k| u128::from(gap(key, k, count))).sum();
                (u128::from(count) << 96) / total.max(1)
            }
        };
        let mut arrivals = Self {
            arrival,
            key,
            next_k: first_k,
            end_k: first_k + count,
            cumulative: 0,
            scale,
            first_k,
            segments: segments.iter(),
            segment: Segment { start_ns: 0, len_ns: 0, count: 0 },
            before: 0,
            step: 0,
        };
        arrivals.advance();
        arrivals
    }

    /// Steps to the next segment with intents; false when there is none.
    fn advance(&mut self) -> bool {
        for segment in self.segments.by_ref() {
            if segment.count > 0 {
                self.before += self.segment.count;
                self.segment = *segment;
                self.step =
                    (u128::from(segment.len_ns) << FRACTION_BITS) / u128::from(segment.count);
                return true;
            }
        }
        false
    }
}

/// Exponential gap before intent `k`. The count is part of the index, so that phases of one stream do not share gaps by accident.
#[inline]
fn gap(key: Key, k: u64, count: u64) -> u64 {
    exponential(key.bits(k, count))
}

impl Iterator for Arrivals<'_> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        if self.next_k >= self.end_k {
            return None;
        }
        let position = match self.arrival {
            Arrival::Uniform => u128::from(self.next_k - self.first_k) << FRACTION_BITS,
            Arrival::Poisson => {
                self.cumulative += gap(self.key, self.next_k, self.end_k - self.first_k);
                (u128::from(self.cumulative) * self.scale) >> 64
            }
        };
        while position >= u128::from(self.before + self.segment.count) << FRACTION_BITS {
            if !self.advance() {
                break;
            }
        }
        self.next_k += 1;
        let inside = position.saturating_sub(u128::from(self.before) << FRACTION_BITS);
        let offset = u64::try_from((inside * self.step) >> 64).unwrap_or(u64::MAX);
        // Rounding may touch the end of the last segment; the phase ends before it.
        Some(self.segment.start_ns + offset.min(self.segment.len_ns.saturating_sub(1)))
    }
}

/// A hash over every intent of a plan; the sum of the hashes of its shards.
pub fn schedule_hash(schedule: &Schedule) -> u64 {
    shard_hash(schedule, 0, 1)
}

/// The part of [`schedule_hash`] that comes from senders of one shard.
pub fn shard_hash(schedule: &Schedule, shard: u32, shards: u32) -> u64 {
    let population = schedule.population();
    let mut hash = 0_u64;
    for phase in 0..schedule.plan().phases.len() {
        for intent in schedule.enumerate(phase) {
            if population.shard_of(population.user_of(intent.sender), shards) != shard {
                continue;
            }
            let fields = [
                phase as u64,
                u64::from(intent.number.stream),
                intent.number.k,
                intent.due_ns,
                u64::from(intent.sender.0) << 32 | u64::from(intent.to_user),
                u64::from(intent.size),
            ];
            hash = hash.wrapping_add(
                fields.iter().fold(0x51_7C_C1_B7, |h, field| mix(h ^ mix(*field ^ 0xA5A5))),
            );
        }
    }
    hash
}
