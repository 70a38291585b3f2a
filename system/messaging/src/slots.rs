//! What the relay slots are owed by one source, and what they have confirmed. Sans-IO.
//!
//! Items wait in order. They are cut into offers, each covering the positions (`prev`, `last`] of the source; at most
//! [`UNCONFIRMED_MAX`] offers of a slot are on the way. Everything that is not confirmed is kept, so that it can be offered again.
use std::collections::VecDeque;
use std::time::Duration;

use chat_ports::registry::NodeKey;
use chat_protocol::ids::SLOTS;
use chat_protocol::node::{EnqueueBatch, EnqueueOutcome, QueueItem};
use tokio::time::Instant;

/// Offers of one source and slot that may be on the way.
pub(crate) const UNCONFIRMED_MAX: usize = 2;
/// An offer is cut at this many items, or at [`OFFER_BYTES`], whichever comes first; one position is never cut apart.
pub(crate) const OFFER_ITEMS: usize = 64;
/// Bytes at which an offer is cut.
pub(crate) const OFFER_BYTES: usize = 128 * 1024;
/// A slot that failed, or has no node, is tried again after this long.
pub(crate) const RETRY: Duration = Duration::from_millis(50);
/// What an item costs besides its payload.
const ITEM_BYTES: usize = 64;

struct Owed {
    position: u64,
    item: QueueItem,
}

struct Offer {
    prev: u64,
    last: u64,
    items: Vec<Owed>,
    offers: u32,
}

struct Slot {
    /// The slot has everything up to here.
    confirmed: u64,
    /// Everything up to here is confirmed or in `offers`.
    cut: u64,
    waiting: VecDeque<Owed>,
    offers: VecDeque<Offer>,
    /// Index of the offer that goes next.
    next: usize,
    /// Answers awaited from `node`.
    in_flight: usize,
    node: Option<NodeKey>,
    /// Offer again from the front once no answer is awaited.
    rewind: bool,
    /// Not before.
    retry_at: Option<Instant>,
}

/// What an answer of a relay node changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing unusual.
    Progress,
    /// The slot had a first offer already: another owner of the partition is at work.
    Overtaken,
    /// The slot had a repeated offer already.
    Repeated,
    /// The slot forgot what it had confirmed; it has everything up to here.
    Forgot(u64),
}

/// The slots as one source sees them.
pub(crate) struct Slots {
    by_number: Vec<Slot>,
    /// Everything up to here was owed.
    emitted: u64,
    bytes: usize,
}

impl Slots {
    /// Slots that have everything up to the given positions.
    pub(crate) fn new(confirmed: [u64; SLOTS as usize], emitted: u64) -> Self {
        let slot = |confirmed| Slot {
            confirmed,
            cut: confirmed,
            waiting: VecDeque::new(),
            offers: VecDeque::new(),
            next: 0,
            in_flight: 0,
            node: None,
            rewind: false,
            retry_at: None,
        };
        Self { by_number: confirmed.map(slot).into(), emitted, bytes: 0 }
    }

    /// Owes an item. What the slot has already is skipped.
    pub(crate) fn owe(&mut self, slot: u32, position: u64, item: QueueItem) {
        let slot = &mut self.by_number[slot as usize];
        if position > slot.cut {
            self.bytes += item.payload.len() + ITEM_BYTES;
            slot.waiting.push_back(Owed { position, item });
        }
    }

    /// Everything up to `position` has been owed.
    pub(crate) fn emitted(&mut self, position: u64) {
        self.emitted = self.emitted.max(position);
    }

    /// Bytes that are kept because they are not confirmed.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Position that every slot has confirmed.
    pub(crate) fn confirmed(&self) -> u64 {
        self.by_number.iter().map(|slot| slot.confirmed).min().unwrap_or(0)
    }

    /// Moves idle slots up by an empty range.
    pub(crate) fn move_idle_up(&mut self) {
        for slot in &mut self.by_number {
            if slot.offers.is_empty() && slot.waiting.is_empty() && slot.cut < self.emitted {
                slot.offers.push_back(Offer {
                    prev: slot.cut,
                    last: self.emitted,
                    items: Vec::new(),
                    offers: 0,
                });
                slot.cut = self.emitted;
            }
        }
    }

    /// Node that the slot's unanswered offers went to; a further one must go there too.
    pub(crate) fn bound_to(&self, slot: u32) -> Option<&NodeKey> {
        let slot = &self.by_number[slot as usize];
        slot.node.as_ref().filter(|_| slot.in_flight > 0)
    }

    /// The offer that goes next, if one may go now.
    pub(crate) fn ready(&mut self, slot: u32, now: Instant) -> bool {
        let emitted = self.emitted;
        let slot = &mut self.by_number[slot as usize];
        if slot.rewind
            || slot.in_flight >= UNCONFIRMED_MAX
            || slot.retry_at.is_some_and(|at| now < at)
        {
            return false;
        }
        slot.retry_at = None;
        if slot.next == slot.offers.len() {
            slot.cut_offer(emitted);
        }
        slot.next < slot.offers.len()
    }

    /// The batch of a slot that is ready, for a store of this incarnation.
    pub(crate) fn batch(&self, slot: u32, source: &str, incarnation: u64) -> Option<EnqueueBatch> {
        let number = slot;
        let slot = &self.by_number[slot as usize];
        let offer = slot.offers.get(slot.next)?;
        let items = offer.items.iter().map(|owed| owed.item.clone()).collect();
        Some(EnqueueBatch {
            slot: number,
            source: source.into(),
            prev: offer.prev,
            last: offer.last,
            items,
            incarnation,
        })
    }

    /// The batch of the slot left to a node.
    pub(crate) fn sent(&mut self, slot: u32, node: NodeKey) {
        let slot = &mut self.by_number[slot as usize];
        if let Some(offer) = slot.offers.get_mut(slot.next) {
            offer.offers += 1;
            slot.next += 1;
            slot.in_flight += 1;
            slot.node = Some(node);
        }
    }

    /// The batch of the slot found no way: later.
    pub(crate) fn later(&mut self, slot: u32, now: Instant) {
        self.by_number[slot as usize].retry_at = Some(now + RETRY);
    }

    /// When a slot wants to be tried again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.by_number.iter().filter_map(|slot| slot.retry_at).min()
    }

    /// The stream to a node is gone: what it did not answer is offered again.
    pub(crate) fn closed(&mut self, node: &NodeKey) {
        for slot in &mut self.by_number {
            if slot.node.as_ref() == Some(node) {
                slot.node = None;
                slot.in_flight = 0;
                slot.next = 0;
                slot.rewind = false;
            }
        }
    }

    /// Takes an answer of `node` in.
    pub(crate) fn answered(
        &mut self,
        slot: u32,
        node: &NodeKey,
        outcome: EnqueueOutcome,
        watermark: u64,
        now: Instant,
    ) -> Change {
        let Some(slot) = self.by_number.get_mut(slot as usize) else { return Change::Progress };
        let current = slot.node.as_ref() == Some(node) && slot.in_flight > 0;
        if current {
            slot.in_flight -= 1;
        }
        let first_offer = slot.offers.front().is_some_and(|offer| offer.offers <= 1);
        let mut change = Change::Progress;
        match outcome {
            EnqueueOutcome::Applied => self.bytes -= slot.advance(watermark),
            EnqueueOutcome::Duplicate => {
                let news = watermark > slot.confirmed;
                self.bytes -= slot.advance(watermark);
                if current && news {
                    change = if first_offer { Change::Overtaken } else { Change::Repeated };
                }
                slot.rewind |= current && slot.next > 0;
            }
            EnqueueOutcome::Gap | EnqueueOutcome::Reset if watermark < slot.confirmed => {
                return Change::Forgot(watermark);
            }
            EnqueueOutcome::Gap | EnqueueOutcome::Reset | EnqueueOutcome::Failed => {
                if outcome != EnqueueOutcome::Failed {
                    self.bytes -= slot.advance(watermark);
                }
                if current {
                    slot.rewind = true;
                    slot.retry_at = Some(now + RETRY);
                }
            }
        }
        if slot.in_flight == 0 && slot.rewind {
            slot.rewind = false;
            slot.next = 0;
        }
        change
    }
}

impl Slot {
    /// Cuts what waits into one more offer.
    fn cut_offer(&mut self, emitted: u64) {
        let (mut items, mut bytes) = (Vec::with_capacity(self.waiting.len().min(OFFER_ITEMS)), 0);
        let mut last = None;
        while let Some(owed) = self.waiting.front() {
            let full = items.len() >= OFFER_ITEMS || bytes >= OFFER_BYTES;
            if full && last != Some(owed.position) {
                break;
            }
            last = Some(owed.position);
            bytes += owed.item.payload.len();
            items.extend(self.waiting.pop_front());
        }
        if items.is_empty() {
            return;
        }
        // What was emitted behind the last item of this slot does not concern it.
        let last =
            self.waiting.front().map_or(emitted.max(last.unwrap_or(0)), |owed| owed.position - 1);
        self.offers.push_back(Offer { prev: self.cut, last, items, offers: 0 });
        self.cut = last;
    }

    /// The slot has everything up to `watermark`: forgets what is not owed any more, answers its bytes.
    fn advance(&mut self, watermark: u64) -> usize {
        if watermark <= self.confirmed {
            return 0;
        }
        self.confirmed = watermark;
        let mut freed = 0;
        let size = |owed: &Owed| owed.item.payload.len() + ITEM_BYTES;
        while let Some(offer) = self.offers.pop_front_if(|offer| offer.last <= watermark) {
            freed += offer.items.iter().map(size).sum::<usize>();
            self.next = self.next.saturating_sub(1);
        }
        if let Some(offer) = self.offers.front_mut().filter(|offer| offer.prev < watermark) {
            offer.prev = watermark;
            let had = offer
                .items
                .iter()
                .position(|owed| owed.position > watermark)
                .unwrap_or(offer.items.len());
            freed += offer.items.drain(..had).map(|owed| size(&owed)).sum::<usize>();
        }
        if watermark > self.cut {
            self.cut = watermark;
            while let Some(owed) = self.waiting.pop_front_if(|owed| owed.position <= watermark) {
                freed += size(&owed);
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn node(name: &str) -> NodeKey {
        NodeKey { name: name.into(), epoch: 1 }
    }

    fn owe(slots: &mut Slots, slot: u32, positions: impl IntoIterator<Item = u64>) {
        for position in positions {
            slots.owe(
                slot,
                position,
                QueueItem { device: position, payload: Bytes::from_static(b"x") },
            );
            slots.emitted(position);
        }
    }

    /// Sends what may go and answers the ranges.
    fn go(slots: &mut Slots, slot: u32, to: &str) -> Vec<(u64, u64, Vec<u64>)> {
        let mut gone = Vec::new();
        while slots.ready(slot, Instant::now()) {
            let batch = slots.batch(slot, "m0", 1).unwrap();
            gone.push((
                batch.prev,
                batch.last,
                batch.items.iter().map(|item| item.device).collect(),
            ));
            slots.sent(slot, node(to));
        }
        gone
    }

    fn answer(slots: &mut Slots, from: &str, outcome: EnqueueOutcome, watermark: u64) -> Change {
        slots.answered(0, &node(from), outcome, watermark, Instant::now())
    }

    #[test]
    fn two_offers_are_on_the_way_at_most_and_each_is_bounded() {
        let mut slots = Slots::new([0; 4], 0);
        owe(&mut slots, 0, 1..=200);
        let gone = go(&mut slots, 0, "a");
        assert_eq!(
            gone.iter().map(|(prev, last, items)| (*prev, *last, items.len())).collect::<Vec<_>>(),
            [(0, 64, 64), (64, 128, 64)]
        );
        assert_eq!(answer(&mut slots, "a", EnqueueOutcome::Applied, 64), Change::Progress);
        assert_eq!(go(&mut slots, 0, "a").len(), 1);
    }

    #[test]
    fn one_position_is_never_cut_apart() {
        let mut slots = Slots::new([0; 4], 0);
        owe(&mut slots, 0, 1..=60);
        owe(&mut slots, 0, std::iter::repeat_n(61, 30));
        owe(&mut slots, 0, [65]);
        let gone = go(&mut slots, 0, "a");
        assert_eq!(gone[0].2.len(), 90);
        assert_eq!((gone[0].1, gone[1].0, gone[1].1), (64, 64, 65));
    }

    #[test]
    fn duplicate_goes_on_from_the_watermark() {
        let mut slots = Slots::new([0; 4], 0);
        owe(&mut slots, 0, 1..=10);
        go(&mut slots, 0, "a");
        assert_eq!(answer(&mut slots, "a", EnqueueOutcome::Duplicate, 7), Change::Overtaken);
        assert_eq!(go(&mut slots, 0, "a"), [(7, 10, vec![8, 9, 10])]);
        answer(&mut slots, "a", EnqueueOutcome::Applied, 10);
        assert_eq!(slots.bytes(), 0);
    }

    #[test]
    fn slot_that_is_ahead_is_not_owed_what_it_has() {
        let mut slots = Slots::new([0; 4], 0);
        owe(&mut slots, 0, 1..=3);
        go(&mut slots, 0, "a");
        answer(&mut slots, "a", EnqueueOutcome::Duplicate, 20);
        owe(&mut slots, 0, 4..=21);
        assert_eq!(go(&mut slots, 0, "a"), [(20, 21, vec![21])]);
    }

    #[test]
    fn failure_offers_everything_unconfirmed_again_in_order() {
        let mut slots = Slots::new([0; 4], 0);
        owe(&mut slots, 0, 1..=100);
        go(&mut slots, 0, "a");
        answer(&mut slots, "a", EnqueueOutcome::Failed, 0);
        assert!(go(&mut slots, 0, "a").is_empty(), "the second answer is awaited first");
        answer(&mut slots, "a", EnqueueOutcome::Gap, 0);
        let later = Instant::now() + RETRY;
        assert!(slots.ready(0, later));
        let batch = slots.batch(0, "m0", 1).unwrap();
        assert_eq!((batch.prev, batch.last), (0, 64));
    }

    #[test]
    fn closed_stream_offers_again_to_the_next_node() {
        let mut slots = Slots::new([0; 4], 0);
        owe(&mut slots, 0, 1..=100);
        let first = go(&mut slots, 0, "a");
        assert_eq!(slots.bound_to(0), Some(&node("a")));
        slots.closed(&node("a"));
        assert_eq!(slots.bound_to(0), None);
        assert_eq!(go(&mut slots, 0, "b"), first);
        // A late answer of the first node tells what is stored, and is not counted as the second one's.
        answer(&mut slots, "a", EnqueueOutcome::Applied, 64);
        assert_eq!(slots.bound_to(0), Some(&node("b")));
        answer(&mut slots, "b", EnqueueOutcome::Duplicate, 64);
        answer(&mut slots, "b", EnqueueOutcome::Applied, 100);
        assert_eq!((slots.by_number[0].confirmed, slots.bytes()), (100, 0));
    }

    #[test]
    fn slot_that_forgot_what_it_confirmed_says_from_where_to_start() {
        let mut slots = Slots::new([50; 4], 50);
        owe(&mut slots, 0, 51..=52);
        go(&mut slots, 0, "a");
        assert_eq!(answer(&mut slots, "a", EnqueueOutcome::Gap, 30), Change::Forgot(30));
    }

    #[test]
    fn idle_slots_are_moved_up_by_empty_ranges() {
        let mut slots = Slots::new([0; 4], 0);
        owe(&mut slots, 0, 1..=5);
        go(&mut slots, 0, "a");
        answer(&mut slots, "a", EnqueueOutcome::Applied, 5);
        assert_eq!(slots.confirmed(), 0);
        slots.move_idle_up();
        for slot in 1..SLOTS {
            assert_eq!(go(&mut slots, slot, "a"), [(0, 5, vec![])]);
            slots.answered(slot, &node("a"), EnqueueOutcome::Applied, 5, Instant::now());
        }
        assert_eq!(slots.confirmed(), 5);
    }
}
