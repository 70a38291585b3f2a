//! The preamble: sixteen bytes by which a dialler names its device, read and stripped by a proxy that was told to expect it.

/// Bytes of a preamble on the wire.
pub const PREAMBLE_LEN: usize = 16;

const MAGIC: [u8; 4] = *b"CSPX";

/// The name a dialler gives itself: magic `CSPX`, four reserved bytes, the device id as an unsigned 64-bit big-endian number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Id of the device that dials.
    pub device: u64,
}

impl Preamble {
    /// The bytes to write before anything else.
    pub fn encode(self) -> [u8; PREAMBLE_LEN] {
        let mut bytes = [0; PREAMBLE_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[8..].copy_from_slice(&self.device.to_be_bytes());
        bytes
    }

    /// Reads a preamble; `None` where the magic is another. The reserved bytes are not looked at.
    pub fn decode(bytes: &[u8; PREAMBLE_LEN]) -> Option<Preamble> {
        if bytes[..4] != MAGIC {
            return None;
        }
        let mut device = [0; 8];
        device.copy_from_slice(&bytes[8..]);
        Some(Preamble { device: u64::from_be_bytes(device) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preamble_reads_back_what_was_written() {
        let preamble = Preamble { device: 0x0102_0304_0506_0708 };
        assert_eq!(&preamble.encode(), b"CSPX\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08");
        assert_eq!(Preamble::decode(&preamble.encode()), Some(preamble));
        assert_eq!(Preamble::decode(b"GET / HTTP/1.1\r\n"), None);
    }
}
