//! Who and what: users, devices, conversations, messages.
#![expect(
    clippy::cast_possible_truncation,
    reason = "halves of a 128-bit id and results of a modulo fit by construction"
)]
use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A user. Only the low 56 bits are used, so that a device id has room for its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub u64);

impl UserId {
    /// The largest user number: 2^56 - 1.
    pub const MAX: u64 = (1 << 56) - 1;

    /// The device of this user with the given index.
    pub fn device(self, index: u8) -> DeviceId {
        DeviceId((self.0 << 8) | u64::from(index))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}", self.0)
    }
}

/// One device of a user: `user * 256 + index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(pub u64);

impl DeviceId {
    /// Whose device this is.
    pub fn user(self) -> UserId {
        UserId(self.0 >> 8)
    }

    /// Which of the user's devices, from 0.
    pub fn index(self) -> u8 {
        (self.0 & 0xff) as u8
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}.{}", self.user().0, self.index())
    }
}

/// A conversation. A direct one *is* its ordered pair of users, so that nobody has to look its members up.
///
/// Written `d<low>-<high>` in JSON and in paths, 16 big-endian bytes in `MessagePack`: eight of the lower user, eight of the
/// higher. The top byte of the first half is the kind; 0 is *direct*, others are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConvId(u128);

/// A conversation id that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvIdError {
    /// Not the 16 bytes or the `d<low>-<high>` text of a conversation.
    #[error("a conversation is `d<user>-<user>` or 16 bytes")]
    Form,
    /// The two users are equal, in the wrong order, or too large.
    #[error("a direct conversation names two different users, the lower first, each below 2^56")]
    Users,
}

impl ConvId {
    /// The direct conversation of two users, in any order. Equal users give `None`.
    pub fn direct(a: UserId, b: UserId) -> Option<Self> {
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        (low != high && high.0 <= UserId::MAX)
            .then(|| Self((u128::from(low.0) << 64) | u128::from(high.0)))
    }

    /// The two users, the lower first.
    pub fn users(self) -> (UserId, UserId) {
        (UserId((self.0 >> 64) as u64), UserId(self.0 as u64))
    }

    /// The other user of the conversation; `None` when `user` is not in it.
    pub fn peer(self, user: UserId) -> Option<UserId> {
        let (low, high) = self.users();
        if user == low {
            Some(high)
        } else if user == high {
            Some(low)
        } else {
            None
        }
    }

    /// The 16 big-endian bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads the 16 bytes and checks them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ConvIdError> {
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| ConvIdError::Form)?;
        let id = Self(u128::from_be_bytes(bytes));
        let (low, high) = id.users();
        if low < high && high.0 <= UserId::MAX { Ok(id) } else { Err(ConvIdError::Users) }
    }

    /// A well-mixed 64-bit hash, the same on every node and for good: it decides partitions and digests.
    pub fn hash64(self) -> u64 {
        crate::digest::mix(&[(self.0 >> 64) as u64, self.0 as u64])
    }
}

impl fmt::Display for ConvId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.users();
        write!(f, "d{}-{}", low.0, high.0)
    }
}

impl FromStr for ConvId {
    type Err = ConvIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (low, high) =
            text.strip_prefix('d').and_then(|t| t.split_once('-')).ok_or(ConvIdError::Form)?;
        let number = |t: &str| {
            let plain = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
            if plain {
                t.parse::<u64>().map_err(|_| ConvIdError::Users)
            } else {
                Err(ConvIdError::Form)
            }
        };
        let (low, high) = (UserId(number(low)?), UserId(number(high)?));
        if low < high {
            Self::direct(low, high).ok_or(ConvIdError::Users)
        } else {
            Err(ConvIdError::Users)
        }
    }
}

impl Serialize for ConvId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.to_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for ConvId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ConvVisitor;
        impl Visitor<'_> for ConvVisitor {
            type Value = ConvId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a conversation id")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ConvId, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<ConvId, E> {
                ConvId::from_bytes(bytes).map_err(E::custom)
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(ConvVisitor)
        } else {
            deserializer.deserialize_bytes(ConvVisitor)
        }
        .map_err(D::Error::custom)
    }
}

/// Idempotency key of a send, given by the client: same `cid` means same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cid(pub Uuid);

/// Server id of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mid(pub Uuid);

macro_rules! uuid_bytes {
    ($name:ident) => {
        impl $name {
            /// The 16 bytes.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// Reads 16 bytes; `None` for any other length.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
uuid_bytes!(Cid);
uuid_bytes!(Mid);

/// Partition of a conversation, fixed when a system is created.
pub fn partition_of(conv: ConvId, partitions: u32) -> u32 {
    (conv.hash64() % u64::from(partitions.max(1))) as u32
}

/// How many slots the relay queues are cut into; a slot is what one store call may touch.
pub const SLOTS: u32 = 4;

/// Slot of a user's relay queues.
pub fn slot_of(user: UserId) -> u32 {
    (crate::digest::mix(&[user.0, 0x51_07]) % u64::from(SLOTS)) as u32
}

/// Picks the owner of `key` among `nodes` by rendezvous hashing: every node with the same list picks the same one,
/// and a change of the list moves only the keys of the node that came or went.
pub fn rendezvous<T>(key: u64, nodes: &[T], name: impl Fn(&T) -> &str) -> Option<&T> {
    nodes.iter().max_by_key(|node| {
        let name = name(node);
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        (crate::digest::mix(&[hash, key]), hash)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversation_has_one_form_whoever_starts_it() {
        let (a, b) = (UserId(7), UserId(3));
        let conv = ConvId::direct(a, b).unwrap();
        assert_eq!(conv, ConvId::direct(b, a).unwrap());
        assert_eq!(conv.to_string(), "d3-7");
        assert_eq!("d3-7".parse::<ConvId>().unwrap(), conv);
        assert_eq!(ConvId::from_bytes(&conv.to_bytes()).unwrap(), conv);
        assert_eq!(conv.peer(a), Some(b));
        assert_eq!(conv.peer(UserId(9)), None);
    }

    #[test]
    fn malformed_conversation_is_refused() {
        for text in [
            "",
            "d",
            "d1",
            "d1-",
            "d2-1",
            "d1-1",
            "x1-2",
            "d-1-2",
            "d1-+2",
            "d1-99999999999999999999",
        ] {
            assert!(text.parse::<ConvId>().is_err(), "{text}");
        }
        assert!(ConvId::from_bytes(&[0; 16]).is_err());
        assert!(ConvId::from_bytes(&[1; 15]).is_err());
    }

    #[test]
    fn rendezvous_moves_only_the_keys_of_the_lost_node() {
        let all = ["a", "b", "c"];
        let fewer = ["a", "c"];
        for key in 0..1000 {
            let before = rendezvous(key, &all, |n| n).unwrap();
            let after = rendezvous(key, &fewer, |n| n).unwrap();
            if *before != "b" {
                assert_eq!(before, after);
            }
        }
    }
}
