//! Random draws as pure functions of (seed, purpose, index): nothing has to be drawn before anything else.

use sha2::{Digest, Sha256};

/// A key from which numbered draws are made. Two purposes never share draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64, u64);

impl Key {
    /// The key of one purpose of a run.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update(purpose.as_bytes())
            .finalize();
        let word = |at: usize| {
            let bytes: [u8; 8] =
                digest[at..at + 8].try_into().expect("a SHA-256 digest has 32 bytes");
            u64::from_le_bytes(bytes)
        };
        Self(word(0), word(8))
    }

    /// 64 uniform bits: draw `lane` of item `index`.
    #[inline]
    pub fn bits(self, index: u64, lane: u64) -> u64 {
        mix(mix(self.0 ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            ^ self.1
            ^ lane.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    /// A number in `0..n`; 0 when n is 0. The bias is below n / 2^64.
    #[inline]
    pub fn below(self, index: u64, lane: u64, n: u64) -> u64 {
        ((u128::from(self.bits(index, lane)) * u128::from(n)) >> 64) as u64
    }
}

/// A bijection of 64 bits in which every input bit reaches every output bit.
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x ^= x >> 32;
    x = x.wrapping_mul(0x0E98_46AF_9B1A_615D);
    x ^= x >> 32;
    x = x.wrapping_mul(0x0E98_46AF_9B1A_615D);
    x ^ (x >> 28)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_lanes_and_indices_are_independent() {
        let a = Key::new(1, "sender");
        let b = Key::new(1, "recipient");
        assert_ne!(a, b);
        assert_ne!(a.bits(0, 0), b.bits(0, 0));
        assert_ne!(a.bits(0, 0), a.bits(0, 1));
        assert_ne!(a.bits(0, 1), a.bits(1, 0));
        assert_eq!(a.bits(7, 3), Key::new(1, "sender").bits(7, 3));
    }

    #[test]
    fn small_ranges_are_filled_evenly() {
        let key = Key::new(42, "even");
        let mut bins = [0_u32; 10];
        for k in 0..100_000 {
            bins[usize::try_from(key.below(k, 0, 10)).unwrap()] += 1;
        }
        assert!(bins.iter().all(|n| (9_600..10_400).contains(n)), "{bins:?}");
    }
}
