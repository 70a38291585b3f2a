//! `MessagePack` and JSON forms of a frame.
use std::cell::RefCell;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Which subprotocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// `chatstorm.v1.msgpack`, binary WebSocket messages.
    MessagePack,
    /// `chatstorm.v1.json`, text WebSocket messages; bodies are base64.
    Json,
}

/// A frame that cannot be read, or that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not `MessagePack`, or not a frame.
    #[error("not a frame of this protocol")]
    MessagePack(#[source] rmp_serde::decode::Error),
    /// Not JSON, or not a frame.
    #[error("not a frame of this protocol")]
    Json(#[source] serde_json::Error),
    /// A frame that cannot be written: never with the frames of this crate.
    #[error("cannot encode the frame")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

thread_local! {
    /// Where a frame is written before its length is known: growing a new buffer for each costs more than the copy. It stays as
    /// large as the thread's largest frame, which `limits::FRAME_MAX` bounds.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Codec {
    /// Both, the default first.
    pub const ALL: [Self; 2] = [Self::MessagePack, Self::Json];

    /// Name of the WebSocket subprotocol.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::MessagePack => "chatstorm.v1.msgpack",
            Self::Json => "chatstorm.v1.json",
        }
    }

    /// The codec with that subprotocol name.
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.subprotocol() == name)
    }

    /// Encodes a frame.
    pub fn encode<T: Serialize>(self, frame: &T) -> Result<Bytes, CodecError> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            match self {
                Self::MessagePack => rmp_serde::encode::write_named(scratch, frame)
                    .map_err(|e| CodecError::Encode(e.into()))?,
                Self::Json => serde_json::to_writer(&mut *scratch, frame)
                    .map_err(|e| CodecError::Encode(e.into()))?,
            }
            Ok(Bytes::copy_from_slice(scratch))
        })
    }

    /// Decodes a frame.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            Self::MessagePack => rmp_serde::from_slice(bytes).map_err(CodecError::MessagePack),
            Self::Json => serde_json::from_slice(bytes).map_err(CodecError::Json),
        }
    }
}

/// Bodies: raw bytes in `MessagePack`, standard base64 with padding in JSON.
pub mod body {
    use std::fmt;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::de::{Error as _, Visitor};
    use serde::{Deserializer, Serializer};

    /// Writes a body.
    pub fn serialize<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(body))
        } else {
            serializer.serialize_bytes(body)
        }
    }

    /// Reads a body.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct BodyVisitor;
        impl Visitor<'_> for BodyVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a body")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                STANDARD.decode(text).map(Bytes::from).map_err(|_| E::custom("not base64"))
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes::from(bytes))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(BodyVisitor)
        } else {
            deserializer.deserialize_byte_buf(BodyVisitor)
        }
        .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{ClientFrame, Send, ServerFrame};
    use crate::{Cid, ConvId, UserId};
    use proptest::prelude::*;
    use uuid::Uuid;

    proptest! {
        #[test]
        fn every_send_survives_both_codecs(cid: u128, a in 0_u64..1000, b in 1000_u64..2000, body: Vec<u8>, client_ms: u64) {
            let conv = ConvId::direct(UserId(a), UserId(b)).unwrap();
            let frame = ClientFrame::Send(Send {
                cid: Cid(Uuid::from_u128(cid)), attempt: 1, conv, kind: 0, body: body.into(), client_ms,
            });
            for codec in Codec::ALL {
                let bytes = codec.encode(&frame).unwrap();
                prop_assert_eq!(codec.decode::<ClientFrame>(&bytes).unwrap(), frame.clone());
            }
        }

        #[test]
        fn arbitrary_bytes_are_an_error_and_never_a_panic(bytes: Vec<u8>) {
            for codec in Codec::ALL {
                drop(codec.decode::<ClientFrame>(&bytes));
                drop(codec.decode::<ServerFrame>(&bytes));
            }
        }
    }

    #[test]
    fn json_reads_like_the_protocol_page() {
        let text = r#"{"send":{"cid":"01890000-0000-7000-8000-000000000001","attempt":1,"conv":"d1-2","kind":0,"body":"aGVsbG8=","client_ms":5}}"#;
        let frame: ClientFrame = Codec::Json.decode(text.as_bytes()).unwrap();
        let ClientFrame::Send(send) = &frame else { panic!("{frame:?}") };
        assert_eq!(&send.body[..], b"hello");
        assert_eq!(&Codec::Json.encode(&frame).unwrap()[..], text.as_bytes());
    }
}
