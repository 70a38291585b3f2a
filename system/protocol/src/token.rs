//! Self-contained signed access tokens, so that a mass reconnect never touches a user store.
//!
//! A token is `v1.<device>.<expiry, seconds since 1970>.<base64 of HMAC-SHA256>`.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::DeviceId;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token, or not signed by this system.
    #[error("the token is not one of this system")]
    Bad,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// Signs and checks tokens; every gateway holds the same key.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// A key from 32 secret bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// A token for `device`, good until `expiry_s` (seconds since 1970).
    pub fn sign(&self, device: DeviceId, expiry_s: u64) -> String {
        let claims = format!("v1.{}.{expiry_s}", device.0);
        let signature = STANDARD.encode(self.mac(claims.as_bytes()).finalize().into_bytes());
        format!("{claims}.{signature}")
    }

    /// The device a token was signed for.
    pub fn check(&self, token: &str, now_s: u64) -> Result<DeviceId, TokenError> {
        let (claims, signature) = token.rsplit_once('.').ok_or(TokenError::Bad)?;
        let signature = STANDARD.decode(signature).map_err(|_| TokenError::Bad)?;
        self.mac(claims.as_bytes()).verify_slice(&signature).map_err(|_| TokenError::Bad)?;
        let mut parts = claims.splitn(3, '.').skip(1).map(str::parse::<u64>);
        let (Some(Ok(device)), Some(Ok(expiry_s))) = (parts.next(), parts.next()) else {
            return Err(TokenError::Bad);
        };
        if now_s < expiry_s { Ok(DeviceId(device)) } else { Err(TokenError::Expired) }
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(bytes);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_good_for_its_device_and_its_time_only() {
        let key = TokenKey::new([7; 32]);
        let token = key.sign(DeviceId(513), 100);
        assert_eq!(key.check(&token, 99), Ok(DeviceId(513)));
        assert_eq!(key.check(&token, 100), Err(TokenError::Expired));
        assert_eq!(TokenKey::new([8; 32]).check(&token, 99), Err(TokenError::Bad));
        assert_eq!(key.check(&token.replace("513", "514"), 99), Err(TokenError::Bad));
        assert_eq!(key.check("", 99), Err(TokenError::Bad));
    }
}
