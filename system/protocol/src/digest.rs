//! The additive digest by which two readers of the same history are compared.
//!
//! `digest(conversation) = sum of H(conv, cseq, mid)` modulo 2^64: order of arrival does not matter, and a missing,
//! extra or renumbered message changes it.
use crate::{ConvId, Mid};

/// Mixes words into one well-spread 64-bit value (the finaliser of `SplitMix64`, Steele, Lea and Flood 2014, chained).
pub fn mix(words: &[u64]) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for word in words {
        state = finalise(state.wrapping_add(*word).wrapping_mul(0xd6e8_feb8_6659_fd93));
    }
    finalise(state)
}

fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// H of one message. Add these up with wrapping addition.
pub fn message_hash(conv: ConvId, cseq: u64, mid: Mid) -> u64 {
    let (high, low) = mid.0.as_u64_pair();
    mix(&[conv.hash64(), cseq, high, low])
}
