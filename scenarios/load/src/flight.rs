//! Messages under way: one ring a stream, indexed by number, as long as the rate times the deadline.
//!
//! A message leaves the ring at its deadline, whatever became of it; nothing is looked up in a map.
use storm_workload::DeviceIx;

/// One message under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Intended start.
    pub due_ns: u64,
    /// Low half of the number: distinguishes what falls on one place.
    tag: u32,
    /// From the intended start to the first encoding, microseconds.
    pub held_us: u32,
    /// Who sends.
    pub sender: DeviceIx,
    /// To which user.
    pub to_user: u32,
    /// Bytes of the body.
    pub size: u32,
    /// Slots in which it is due: devices that the plan has online.
    pub owed: u16,
    /// Slots in which it surfaced.
    pub got: u16,
    /// What is known.
    pub state: State,
}

/// What is known of a message under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct State {
    used: bool,
    /// A frame of it was encoded.
    pub written: bool,
    /// It is durable.
    pub accepted: bool,
    /// It was refused for good.
    pub rejected: bool,
    /// Its sender reported it unknown.
    pub unknown: bool,
    /// It was never written and never will be.
    pub unsent: bool,
    /// An attempt was refused without a time to come back.
    pub bare: bool,
    /// It was counted as delivered.
    pub done: bool,
    /// Something of it took longer than a second.
    pub slow: bool,
}

impl Flight {
    /// A message that became due.
    pub fn new(due_ns: u64, sender: DeviceIx, to_user: u32, size: u32, owed: u16) -> Self {
        Self {
            due_ns,
            tag: 0,
            held_us: 0,
            sender,
            to_user,
            size,
            owed,
            got: 0,
            state: State::default(),
        }
    }

    /// Slots in which it is due and did not surface.
    pub fn missing(&self) -> u32 {
        (self.owed & !self.got).count_ones()
    }
}

/// The messages of one stream under way. The default has no places and is only put where a ring was taken from.
#[derive(Debug, Default)]
pub struct Ring {
    places: Vec<Flight>,
    mask: u64,
    /// Everything below has left.
    oldest: u64,
    /// One past the highest number put in.
    next: u64,
    under_way: u64,
}

impl Ring {
    /// A ring for so many messages at once, rounded up to a power of two.
    pub fn new(at_once: u64) -> Self {
        let len = at_once.clamp(1_024, 1 << 26).next_power_of_two();
        let empty = Flight::new(0, DeviceIx(0), 0, 0, 0);
        let places = vec![empty; usize::try_from(len).expect("at most 2^26 places")];
        Self { places, mask: len - 1, oldest: 0, next: 0, under_way: 0 }
    }

    /// Messages under way.
    pub fn len(&self) -> u64 {
        self.under_way
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way == 0
    }

    /// Puts a message in. Numbers rise. What still lies on its place leaves early and is returned.
    pub fn put(&mut self, k: u64, mut flight: Flight) -> Option<Flight> {
        flight.tag = tag(k);
        flight.state.used = true;
        if self.next == 0 {
            self.oldest = k;
        }
        self.next = self.next.max(k + 1);
        let place = &mut self.places[at(k, self.mask)];
        let left = place.state.used.then_some(*place);
        *place = flight;
        self.under_way += u64::from(left.is_none());
        left
    }

    /// The message with this number, if it is under way.
    pub fn get(&mut self, k: u64) -> Option<&mut Flight> {
        let place = &mut self.places[at(k, self.mask)];
        (place.state.used && place.tag == tag(k) && k < self.next && k >= self.oldest)
            .then_some(place)
    }

    /// Takes out messages due at or before `due_ns`, in order.
    pub fn expire(&mut self, due_ns: u64, mut left: impl FnMut(u64, Flight)) {
        while self.oldest < self.next {
            let k = self.oldest;
            let place = &mut self.places[at(k, self.mask)];
            if place.state.used && place.tag == tag(k) {
                if place.due_ns > due_ns {
                    return;
                }
                let flight = *place;
                place.state.used = false;
                self.under_way -= 1;
                left(k, flight);
            }
            self.oldest += 1;
        }
    }
}

fn at(k: u64, mask: u64) -> usize {
    usize::try_from(k & mask).expect("a place in the ring")
}

fn tag(k: u64) -> u32 {
    u32::try_from(k & 0xffff_ffff).expect("the low half")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(due_ns: u64) -> Flight {
        Flight::new(due_ns, DeviceIx(1), 2, 48, 0b11)
    }

    #[test]
    fn a_message_is_found_until_its_deadline() {
        let mut ring = Ring::new(1_024);
        for k in [5, 6, 9] {
            assert_eq!(ring.put(k, flight(k * 10)), None);
        }
        ring.get(6).unwrap().got |= 1;
        assert!(ring.get(7).is_none(), "another shard's");
        let mut left = Vec::new();
        ring.expire(60, |k, flight| left.push((k, flight.missing())));
        assert_eq!(left, [(5, 2), (6, 1)]);
        assert!(ring.get(6).is_none());
        assert_eq!(ring.len(), 1);
    }

    #[test]
    fn what_lies_on_a_place_that_is_needed_leaves_early() {
        let mut ring = Ring::new(1);
        ring.put(0, flight(1));
        assert_eq!(ring.put(1_024, flight(2)).map(|flight| flight.due_ns), Some(1));
        assert_eq!(ring.len(), 1);
        let mut left = Vec::new();
        ring.expire(u64::MAX, |k, _| left.push(k));
        assert_eq!(left, [1_024]);
        assert!(ring.is_empty());
    }
}
