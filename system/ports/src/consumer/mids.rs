//! Where a reader of `chat.messages` takes the `mid` of an accepted record from.
use chat_protocol::Mid;
use chat_protocol::digest::mix;
use chat_protocol::fold::mid_from_bits;

/// Where the `mid` of an accepted record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MidRule {
    /// From the record's place in the log: every reader computes the same.
    #[default]
    FromLog,
    /// Random bits, drawn anew by every fold that is started, from this seed.
    Random(u64),
}

/// The rule as one fold applies it.
#[derive(Clone, Copy, Debug)]
pub struct Mids(Option<u64>);

impl MidRule {
    /// The rule for one started fold; `fold` tells folds apart (group, member, partition, start).
    pub fn of_fold(self, fold: &[u64]) -> Mids {
        match self {
            Self::FromLog => Mids(None),
            Self::Random(seed) => Mids(Some(mix(&[seed, mix(fold)]))),
        }
    }
}

impl Mids {
    /// The `mid` this fold gives to a record whose place in the log gives `computed`.
    pub fn of(self, computed: Mid) -> Mid {
        let Some(seed) = self.0 else { return computed };
        let (high, low) = computed.0.as_u64_pair();
        let half = |salt: u64| u128::from(mix(&[seed, salt, high, low]));
        mid_from_bits((half(1) << 64) | half(2))
    }
}
