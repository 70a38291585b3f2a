//! End-to-end envelopes: XChaCha20-Poly1305, so servers see ciphertext of the true size and nothing else.
//!
//! A sealed body is `cid` (16 bytes), ciphertext, tag (16 bytes). The 24-byte nonce is the conversation followed by the
//! folded `cid`: its first 16 bytes make `HChaCha20` derive a key for the conversation, the rest is the nonce below it. The
//! associated data binds `cid` and the sender's device.
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use chat_protocol::{Cid, ConvId, DeviceId};

use crate::policy::Seal;

/// Bytes that sealing adds.
pub const OVERHEAD: usize = 32;

/// A body that does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body does not open")]
pub struct Unreadable;

/// Seals and opens bodies.
pub struct Sealer {
    cipher: Option<XChaCha20Poly1305>,
}

impl Sealer {
    /// A sealer of a policy.
    pub fn new(seal: &Seal) -> Self {
        let cipher = match seal {
            Seal::Off => None,
            Seal::Envelope(secret) => Some(XChaCha20Poly1305::new(secret.into())),
        };
        Self { cipher }
    }

    /// Writes the sealed body: `compose` appends the plaintext.
    pub fn seal(
        &self,
        conv: ConvId,
        cid: Cid,
        from: DeviceId,
        compose: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        let Some(cipher) = &self.cipher else {
            compose(&mut body);
            return body;
        };
        body.extend_from_slice(&cid.to_bytes());
        compose(&mut body);
        let (head, text) = body.split_at_mut(16);
        let tag = cipher
            .encrypt_inout_detached(&nonce(conv, head), &associated(head, from), text.into())
            .expect("a body is far below the cipher's limit of 256 GiB");
        body.extend_from_slice(&tag);
        body
    }

    /// Opens a body into `plaintext`, which is cleared first.
    pub fn open(
        &self,
        conv: ConvId,
        from: DeviceId,
        body: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        plaintext.clear();
        let Some(cipher) = &self.cipher else {
            plaintext.extend_from_slice(body);
            return Ok(());
        };
        let (head, rest) = body.split_at_checked(16).ok_or(Unreadable)?;
        let (text, tag) = rest.split_last_chunk::<16>().ok_or(Unreadable)?;
        plaintext.extend_from_slice(text);
        cipher
            .decrypt_inout_detached(
                &nonce(conv, head),
                &associated(head, from),
                plaintext.as_mut_slice().into(),
                tag.into(),
            )
            .map_err(|_| Unreadable)
    }
}

fn nonce(conv: ConvId, cid: &[u8]) -> XNonce {
    let mut nonce = [0_u8; 24];
    nonce[..16].copy_from_slice(&conv.to_bytes());
    for (i, byte) in cid.iter().enumerate() {
        nonce[16 + i % 8] ^= byte;
    }
    nonce.into()
}

fn associated(cid: &[u8], from: DeviceId) -> [u8; 24] {
    let mut data = [0_u8; 24];
    data[..16].copy_from_slice(cid);
    data[16..].copy_from_slice(&from.0.to_be_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_protocol::UserId;

    fn conv(a: u64, b: u64) -> ConvId {
        ConvId::direct(UserId(a), UserId(b)).unwrap()
    }

    fn cid(bits: u8) -> Cid {
        Cid::from_bytes(&[bits; 16]).unwrap()
    }

    #[test]
    fn sealed_body_opens_for_its_conversation_and_sender_only() {
        let sealer = Sealer::new(&Seal::Envelope([7; 32]));
        let from = UserId(1).device(0);
        let body = sealer.seal(conv(1, 2), cid(9), from, |body| body.extend_from_slice(b"hello"));
        assert_eq!(body.len(), 5 + OVERHEAD);
        assert!(!body.windows(5).any(|w| w == b"hello"));
        let mut text = Vec::new();
        sealer.open(conv(1, 2), from, &body, &mut text).unwrap();
        assert_eq!(text, b"hello");
        assert_eq!(sealer.open(conv(1, 3), from, &body, &mut text), Err(Unreadable));
        assert_eq!(sealer.open(conv(1, 2), UserId(2).device(0), &body, &mut text), Err(Unreadable));
        for at in 0..body.len() {
            let mut bad = body.clone();
            bad[at] ^= 1;
            assert_eq!(sealer.open(conv(1, 2), from, &bad, &mut text), Err(Unreadable), "{at}");
        }
        assert_eq!(sealer.open(conv(1, 2), from, b"short", &mut text), Err(Unreadable));
    }

    #[test]
    fn without_sealing_a_body_is_its_text() {
        let sealer = Sealer::new(&Seal::Off);
        let body = sealer
            .seal(conv(1, 2), cid(9), UserId(1).device(0), |body| body.extend_from_slice(b"hello"));
        assert_eq!(body, b"hello");
    }
}
