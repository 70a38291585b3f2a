//! Flat bit planes indexed by message number, in blocks that are allocated when first touched.
#![expect(
    clippy::cast_possible_truncation,
    reason = "positions inside a block are below 2^16 times the bits a number"
)]

/// Numbers of one block.
pub const BLOCK: u64 = 65_536;

/// `bits` bits for each number of a stream.
#[derive(Clone, Debug)]
pub struct Plane {
    bits: u64,
    blocks: Vec<Option<Box<[u64]>>>,
}

impl Plane {
    /// An empty plane of up to `numbers` numbers.
    pub(crate) fn new(bits: u8, numbers: u64) -> Self {
        let blocks = numbers.div_ceil(BLOCK) as usize;
        Self { bits: u64::from(bits.max(1)), blocks: vec![None; blocks] }
    }

    /// Bits of each number.
    pub fn bits(&self) -> u8 {
        self.bits as u8
    }

    /// Blocks, allocated or not.
    pub(crate) fn block_count(&self) -> usize {
        self.blocks.len()
    }

    fn words(bits: u64) -> usize {
        (BLOCK * bits / 64) as usize
    }

    fn place(&self, k: u64, bit: u64) -> (usize, usize, u64) {
        let inside = (k % BLOCK) * self.bits + bit;
        ((k / BLOCK) as usize, (inside / 64) as usize, inside % 64)
    }

    /// Whether the bit is set; numbers outside the plane have none.
    #[inline]
    pub fn get(&self, k: u64, bit: u8) -> bool {
        let (block, word, shift) = self.place(k, u64::from(bit));
        matches!(self.blocks.get(block), Some(Some(words)) if words[word] >> shift & 1 == 1)
    }

    /// Sets a bit and says whether it was set before; `None` outside the plane.
    #[inline]
    pub(crate) fn set(&mut self, k: u64, bit: u8) -> Option<bool> {
        let bits = self.bits;
        let (block, word, shift) = self.place(k, u64::from(bit));
        let words = self
            .blocks
            .get_mut(block)?
            .get_or_insert_with(|| vec![0; Self::words(bits)].into_boxed_slice());
        let before = words[word] >> shift & 1 == 1;
        words[word] |= 1 << shift;
        Some(before)
    }

    /// Clears a bit. For tests of the judge, which mutate records.
    pub fn clear(&mut self, k: u64, bit: u8) {
        let (block, word, shift) = self.place(k, u64::from(bit));
        if let Some(Some(words)) = self.blocks.get_mut(block) {
            words[word] &= !(1 << shift);
        }
    }

    /// Bits of one number as a mask; at most 32 bits.
    #[inline]
    pub fn mask(&self, k: u64) -> u32 {
        let (block, word, shift) = self.place(k, 0);
        let Some(Some(words)) = self.blocks.get(block) else { return 0 };
        let low = words[word] >> shift;
        let straddles = shift + self.bits > 64;
        let all = if straddles { low | words[word + 1] << (64 - shift) } else { low };
        (all & ((1 << self.bits) - 1)) as u32
    }

    /// Whether any bit of the number is set.
    pub fn any(&self, k: u64) -> bool {
        self.mask(k) != 0
    }

    /// The words of a block, if it was touched.
    pub(crate) fn block(&self, at: usize) -> Option<&[u64]> {
        self.blocks.get(at)?.as_deref()
    }

    /// Merges words into a block: by OR.
    pub(crate) fn merge_block(&mut self, at: usize, words: &[u64]) {
        if at >= self.blocks.len() {
            self.blocks.resize(at + 1, None);
        }
        let bits = self.bits;
        let mine =
            self.blocks[at].get_or_insert_with(|| vec![0; Self::words(bits)].into_boxed_slice());
        for (mine, theirs) in mine.iter_mut().zip(words) {
            *mine |= theirs;
        }
    }

    /// Puts words in place of a block's.
    pub(crate) fn replace_block(&mut self, at: usize, words: &[u64]) {
        if words.len() == Self::words(self.bits) && at < 1 << 24 {
            if at >= self.blocks.len() {
                self.blocks.resize(at + 1, None);
            }
            self.blocks[at] = Some(words.into());
        }
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.iter().flatten().map(|block| block.len() * 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_a_number_are_found_whatever_their_width() {
        for bits in 1..=32_u8 {
            let mut plane = Plane::new(bits, 200_000);
            for k in [0, 1, 2, 63, 65_535, 65_536, 199_999] {
                let bit = (k % u64::from(bits)) as u8;
                assert_eq!(plane.set(k, bit), Some(false));
                assert_eq!(plane.set(k, bit), Some(true));
                assert!(plane.get(k, bit));
                assert_eq!(plane.mask(k), 1 << bit, "width {bits}, number {k}");
                plane.clear(k, bit);
                assert!(!plane.any(k));
            }
        }
    }

    #[test]
    fn a_number_beyond_the_plane_is_refused() {
        let mut plane = Plane::new(1, 10);
        assert_eq!(plane.set(BLOCK, 0), None);
        assert!(!plane.get(BLOCK * 9, 0));
    }
}
