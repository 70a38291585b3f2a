//! Checksummed frames in an append-only file: kind, length, CRC-32, payload. A torn last frame ends the file.
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest frame that is read; a longer one is damage.
const FRAME_MAX: usize = 256 << 20;
const HEAD: usize = 12;
const MAGIC: [u8; 3] = *b"csr";

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LedgerConfig,
    LedgerBlock,
    LedgerRows,
    LedgerAttempts,
    LedgerOpened,
    LedgerClosed,
    LedgerPairs,
    LedgerBeyond,
    LedgerTail,
    Slice,
    Total,
    Control,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::LedgerConfig,
        Self::LedgerBlock,
        Self::LedgerRows,
        Self::LedgerAttempts,
        Self::LedgerOpened,
        Self::LedgerClosed,
        Self::LedgerPairs,
        Self::LedgerBeyond,
        Self::LedgerTail,
        Self::Slice,
        Self::Total,
        Self::Control,
    ];

    fn code(self) -> u8 {
        let at = Self::ALL.iter().position(|kind| *kind == self).expect("every kind is listed");
        u8::try_from(at).expect("twelve kinds")
    }
}

/// One frame.
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// All whole frames from the begin; what follows a damaged one is not trusted and named.
    pub(crate) fn read_all(bytes: &'a [u8], what: &str, damaged: &mut Vec<String>) -> Vec<Self> {
        let mut frames = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((frame, after)) = Self::read(rest) else {
                damaged.push(format!("{what}: the last {} bytes are torn or damaged", rest.len()));
                break;
            };
            frames.push(frame);
            rest = after;
        }
        frames
    }

    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let kind = *Kind::ALL.get(usize::from(head[3]))?;
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let sum = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        if head[..3] != MAGIC || len > FRAME_MAX {
            return None;
        }
        let (payload, rest) = rest.split_at_checked(len)?;
        (crc32fast::hash(payload) == sum).then_some((Self { kind, payload }, rest))
    }
}

/// Frames to be written.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    pub(crate) fn push(&mut self, kind: Kind, payload: &[u8]) {
        let len = u32::try_from(payload.len()).expect("a frame is below 256 MiB");
        self.bytes.extend_from_slice(&MAGIC);
        self.bytes.push(kind.code());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        self.bytes.extend_from_slice(payload);
    }

    /// Rows above `saved`, if there are any.
    pub(crate) fn push_new<T: Serialize>(&mut self, kind: Kind, rows: &[T], saved: &mut usize) {
        if rows.len() > *saved {
            self.push(kind, &pack(&&rows[*saved..]));
            *saved = rows.len();
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A value as `MessagePack`.
pub(crate) fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("rows are plain data")
}

/// Reads what [`pack`] wrote.
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_before_a_torn_one_are_read() {
        let mut frames = Frames::default();
        frames.push(Kind::Slice, b"one");
        frames.push(Kind::Total, b"two");
        let bytes = frames.into_bytes();
        for cut in 0..bytes.len() {
            let mut damaged = Vec::new();
            let read = Frame::read_all(&bytes[..cut], "slices", &mut damaged);
            let whole = usize::from(HEAD + 3 <= cut);
            assert_eq!(read.len(), whole, "cut at {cut}");
            assert_eq!(damaged.is_empty(), cut == 0 || cut == HEAD + 3);
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut frames = Frames::default();
        frames.push(Kind::Slice, b"payload");
        let mut bytes = frames.into_bytes();
        *bytes.last_mut().unwrap() ^= 1;
        let mut damaged = Vec::new();
        assert!(Frame::read_all(&bytes, "slices", &mut damaged).is_empty());
        assert_eq!(damaged.len(), 1);
    }
}
