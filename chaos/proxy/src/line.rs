//! The timestamped delay line of one pipe: bounded, in order, each chunk stamped with when it is due. Takes time as an argument.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use tokio::time::Instant;

/// Most chunks in a line; at the limit the pipe stops reading and its peer feels TCP back-pressure.
pub(crate) const CHUNKS_MAX: usize = 256;

/// Most bytes in a line; same effect.
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// Most bytes of one chunk, and of one read.
pub(crate) const CHUNK_BYTES_MAX: usize = 16 << 10;

/// A chunk takes in what is due this soon after it: a 200th of the delay, at least a quarter of a millisecond. A line full of chunks
/// then covers more than the delay at any rate, so the limit on chunks is not what a steady stream of small frames runs into.
const MERGE_SHARE: u32 = 200;
const MERGE_MIN: Duration = Duration::from_micros(250);

/// Bytes on their way, in order.
#[derive(Debug, Default)]
pub(crate) struct Line {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Stamp of the latest chunk, kept after it left: nothing may overtake it.
    last_due: Option<Instant>,
    /// When the end of file behind the last chunk is due.
    end_due: Option<Instant>,
}

#[derive(Debug)]
struct Chunk {
    read_at: Instant,
    /// Stamp of the first bytes: merging looks at it, so that a chunk cannot grow into a later time.
    first_due: Instant,
    due: Instant,
    data: Vec<u8>,
    written: usize,
}

/// A chunk that has left: what was asked of it and what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) asked: Duration,
    pub(crate) given: Duration,
}

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether one more read of [`CHUNK_BYTES_MAX`] fits.
    pub(crate) fn has_room(&self) -> bool {
        self.chunks.len() < CHUNKS_MAX && self.bytes + CHUNK_BYTES_MAX <= BYTES_MAX
    }

    /// Takes bytes read at `now`, to leave `delay` later but not before what is already in the line.
    pub(crate) fn push(&mut self, now: Instant, delay: Duration, data: &[u8]) {
        let due = self.stamp(now, delay);
        let window = MERGE_MIN.max(delay / MERGE_SHARE);
        self.bytes += data.len();
        if let Some(back) = self.chunks.back_mut()
            && due <= back.first_due + window
            && back.data.len() + data.len() <= CHUNK_BYTES_MAX
        {
            back.data.extend_from_slice(data);
            back.due = due;
            return;
        }
        self.chunks.push_back(Chunk {
            read_at: now,
            first_due: due,
            due,
            data: data.to_vec(),
            written: 0,
        });
    }

    /// Takes the end of file, which leaves behind everything in the line.
    pub(crate) fn push_end(&mut self, now: Instant, delay: Duration) {
        self.end_due = Some(self.stamp(now, delay));
    }

    fn stamp(&mut self, now: Instant, delay: Duration) -> Instant {
        let due = self.last_due.map_or(now + delay, |last| last.max(now + delay));
        self.last_due = Some(due);
        due
    }

    /// When the next thing leaves: the front chunk, or the end of file behind an empty line.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.chunks.front().map_or(self.end_due, |chunk| Some(chunk.due))
    }

    /// Whether the end of file has come to the front and is due.
    pub(crate) fn end_is_due(&self, now: Instant) -> bool {
        self.chunks.is_empty() && self.end_due.is_some_and(|due| due <= now)
    }

    /// Fills `slices` with the bytes that are due, in order; returns how many it filled.
    pub(crate) fn gather<'a>(&'a self, now: Instant, slices: &mut [IoSlice<'a>]) -> usize {
        let due = self.chunks.iter().take_while(|chunk| chunk.due <= now);
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(due) {
            *slice = IoSlice::new(&chunk.data[chunk.written..]);
            filled += 1;
        }
        filled
    }

    /// Takes out `written` bytes from the front, calling `passed` for each chunk that has left entirely.
    pub(crate) fn advance(
        &mut self,
        now: Instant,
        mut written: usize,
        mut passed: impl FnMut(Passed),
    ) {
        self.bytes -= written;
        while let Some(front) = self.chunks.front_mut() {
            let left = front.data.len() - front.written;
            if written < left {
                front.written += written;
                return;
            }
            written -= left;
            passed(Passed {
                asked: front.due - front.read_at,
                given: now.saturating_duration_since(front.read_at),
            });
            self.chunks.pop_front();
            if written == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn drain(line: &mut Line, now: Instant) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = line.gather(now, &mut slices);
            if filled == 0 {
                return out;
            }
            let before = out.len();
            slices[..filled].iter().for_each(|slice| out.extend_from_slice(slice));
            let written = out.len() - before;
            line.advance(now, written, |_| ());
        }
    }

    #[test]
    fn delays_pipeline_instead_of_adding_up() {
        let start = Instant::now();
        let mut line = Line::default();
        (0_u8..50).for_each(|k| line.push(start + MS * u32::from(k), MS * 100, &[k]));
        assert!(drain(&mut line, start + MS * 99).is_empty());
        assert_eq!(drain(&mut line, start + MS * 149), (0..50).collect::<Vec<u8>>());
    }

    #[test]
    fn order_survives_a_shrinking_delay() {
        let start = Instant::now();
        let mut line = Line::default();
        line.push(start, MS * 100, b"slow");
        line.push(start + MS, Duration::ZERO, b"fast");
        assert!(drain(&mut line, start + MS * 99).is_empty());
        assert_eq!(drain(&mut line, start + MS * 100), b"slowfast");
    }

    #[test]
    fn end_of_file_leaves_last_and_late() {
        let start = Instant::now();
        let mut line = Line::default();
        line.push(start, MS * 100, b"bye");
        line.push_end(start + MS * 10, MS * 100);
        assert_eq!(drain(&mut line, start + MS * 105), b"bye");
        assert!(!line.end_is_due(start + MS * 105));
        assert_eq!(line.next_due(), Some(start + MS * 110));
        assert!(line.end_is_due(start + MS * 110));
    }

    #[test]
    fn a_partial_write_keeps_the_rest_in_order() {
        let start = Instant::now();
        let mut line = Line::default();
        line.push(start, Duration::ZERO, b"abcdef");
        line.push(start + MS, Duration::ZERO, b"ghi");
        let mut left = Vec::new();
        line.advance(start + MS * 2, 4, |passed| left.push(passed));
        assert_eq!((line.bytes(), left.len()), (5, 0));
        line.advance(start + MS * 2, 3, |passed| left.push(passed));
        assert_eq!(left, [Passed { asked: Duration::ZERO, given: MS * 2 }]);
        assert_eq!(drain(&mut line, start + MS * 2), b"hi");
        assert_eq!(line.bytes(), 0);
    }

    #[test]
    fn small_frames_at_any_rate_do_not_fill_the_line_before_they_are_due() {
        for (delay, gap) in
            [(MS * 100, Duration::from_micros(50)), (MS * 1_000, Duration::from_micros(200))]
        {
            let start = Instant::now();
            let mut line = Line::default();
            let mut now = start;
            while now < start + delay {
                assert!(line.has_room(), "full after {:?} of {delay:?}", now - start);
                line.push(now, delay, &[0; 16]);
                now += gap;
            }
        }
    }

    #[test]
    fn line_is_full_at_its_limit_of_chunks_and_of_bytes() {
        let start = Instant::now();
        let mut by_chunks = Line::default();
        (0..256).for_each(|k| by_chunks.push(start + MS * 10 * k, MS, b"x"));
        assert!(!by_chunks.has_room());
        let mut by_bytes = Line::default();
        (0..64).for_each(|k| by_bytes.push(start + MS * 10 * k, MS, &[0; CHUNK_BYTES_MAX]));
        assert!(!by_bytes.has_room());
        assert_eq!(by_bytes.bytes(), BYTES_MAX);
    }
}
