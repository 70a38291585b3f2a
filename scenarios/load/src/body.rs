//! The header inside every body: 48 bytes by which a recipient knows which message it got and when it was due.
//!
//! Canary of the run (16), stream (2), zero (2), sender (4), number (8), intended start (8), microseconds from there to the
//! first encoding (4), CRC-32 of what is before (4), all little-endian. The filler of the plan follows. A retry keeps both
//! times.
use storm_workload::Number;

/// Bytes of the header; the smallest body.
pub const HEADER: usize = 48;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which message.
    pub number: Number,
    /// Dense number of the sending device.
    pub sender: u32,
    /// Intended start, nanoseconds since the run's start.
    pub due_ns: u64,
    /// From the intended start to the first encoding, microseconds.
    pub held_us: u32,
}

impl Header {
    /// Appends the header.
    pub fn write(&self, canary: &[u8; 16], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(canary);
        out.extend_from_slice(&self.number.stream.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.sender.to_le_bytes());
        out.extend_from_slice(&self.number.k.to_le_bytes());
        out.extend_from_slice(&self.due_ns.to_le_bytes());
        out.extend_from_slice(&self.held_us.to_le_bytes());
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Reads a body: header and filler. `None` when it is no body of this run.
    pub fn read<'a>(canary: &[u8; 16], body: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, filler) = body.split_first_chunk::<HEADER>()?;
        let (content, crc) = head.split_last_chunk::<4>()?;
        if !content.starts_with(canary) || crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return None;
        }
        let word = |at: usize| {
            content[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let half = |at: usize| {
            content[at..].first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let header = Self {
            number: Number { stream: u16::from_le_bytes([content[16], content[17]]), k: word(24) },
            sender: half(20),
            due_ns: word(32),
            held_us: half(40),
        };
        Some((header, filler))
    }
}

/// The canary of a run.
pub fn canary(run_id: &str) -> [u8; 16] {
    let hash = |salt: u64| {
        let start = chat_protocol::digest::mix(&[salt, run_id.len() as u64]);
        run_id
            .bytes()
            .fold(start, |hash, byte| chat_protocol::digest::mix(&[hash, u64::from(byte)]))
    };
    let mut canary = [0; 16];
    canary[..8].copy_from_slice(&hash(1).to_le_bytes());
    canary[8..].copy_from_slice(&hash(2).to_le_bytes());
    canary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_known_by_its_run_and_any_damage_is_seen() {
        let canary_of = canary("20261121-063522-7f3a");
        let header = Header {
            number: Number { stream: 3, k: 1 << 40 },
            sender: 77,
            due_ns: 123_456_789,
            held_us: 42,
        };
        let mut body = Vec::new();
        header.write(&canary_of, &mut body);
        assert_eq!(body.len(), HEADER);
        body.extend_from_slice(b"filler");
        assert_eq!(Header::read(&canary_of, &body), Some((header, &b"filler"[..])));
        assert_eq!(Header::read(&canary("another"), &body), None);
        assert_eq!(Header::read(&canary_of, &body[..47]), None);
        for at in 0..HEADER {
            let mut bad = body.clone();
            bad[at] ^= 1;
            assert_eq!(Header::read(&canary_of, &bad), None, "{at}");
        }
    }
}
