//! Seeded randomness: one key a connection, one generator a purpose, so that nothing depends on the order of events.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What the dice of one connection derive from: run seed, proxy, and device with its dial number, or else the connection's ordinal.
#[derive(Clone, Debug)]
pub(crate) struct DiceKey {
    words: [u64; 4],
}

impl DiceKey {
    /// The key of the `dial`-th connection (from 0) of a device through a proxy; it does not depend on what other devices do.
    pub(crate) fn of_device(seed: u64, proxy: &str, device: u64, dial: u32) -> DiceKey {
        DiceKey { words: [seed, name_hash(proxy), device, u64::from(dial)] }
    }

    /// The key of a connection that named no device.
    pub(crate) fn of_ordinal(seed: u64, proxy: &str, ordinal: u64) -> DiceKey {
        DiceKey { words: [seed, name_hash(proxy), ordinal, u64::MAX] }
    }

    /// The generator of one purpose, e.g. `up` or a toxic's name.
    pub(crate) fn generator(&self, purpose: &str) -> ChaCha8Rng {
        let mut bytes = [0; 32];
        for (slot, word) in bytes.chunks_exact_mut(8).zip(self.words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let mut generator = ChaCha8Rng::from_seed(bytes);
        generator.set_stream(name_hash(purpose));
        generator
    }

    /// A die from 0 to 999 for one purpose.
    pub(crate) fn permille(&self, purpose: &str) -> u16 {
        u16::try_from(within(&mut self.generator(purpose), 999))
            .expect("a die of 0 to 999 fits 16 bits")
    }
}

/// A number from 0 to `last`, both included.
pub(crate) fn within(dice: &mut ChaCha8Rng, last: u64) -> u64 {
    // Multiply and shift: the bias is below one part in 2^32 for every range used here.
    let scaled = u128::from(dice.next_u64()) * (u128::from(last) + 1);
    u64::try_from(scaled >> 64).expect("the upper half of a 128-bit product fits 64 bits")
}

/// FNV-1a, written out so that the same names give the same dice with every compiler.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_dice_and_another_seed_gives_others() {
        let draw = |seed| -> Vec<u16> {
            (0..64)
                .map(|device| DiceKey::of_device(seed, "gateway-1", device, 0).permille("reset"))
                .collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn dice_differ_by_purpose_dial_and_kind_of_label() {
        let key = DiceKey::of_device(7, "gateway-1", 5, 0);
        let first = |key: &DiceKey, purpose| within(&mut key.generator(purpose), u64::MAX);
        assert_ne!(first(&key, "up"), first(&key, "down"));
        assert_ne!(first(&key, "up"), first(&DiceKey::of_device(7, "gateway-1", 5, 1), "up"));
        assert_ne!(first(&key, "up"), first(&DiceKey::of_ordinal(7, "gateway-1", 5), "up"));
        assert_ne!(first(&key, "up"), first(&DiceKey::of_device(7, "gateway-2", 5, 0), "up"));
    }

    #[test]
    fn dice_stay_in_range_and_reach_both_ends() {
        let mut generator = DiceKey::of_ordinal(1, "p", 1).generator("range");
        let drawn: Vec<u64> = (0..400).map(|_| within(&mut generator, 3)).collect();
        assert_eq!(drawn.iter().max(), Some(&3));
        assert_eq!(drawn.iter().min(), Some(&0));
    }
}
