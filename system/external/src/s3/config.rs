//! Where the store is and how long it may take.
use std::fmt;
use std::time::Duration;

use chat_ports::PortError;

/// Signatures name a region; servers of one's own take any.
pub(super) const REGION: &str = "us-east-1";

/// An object store and a bucket of it.
#[derive(Clone)]
pub struct S3Config {
    /// `http://host:port`, nothing behind it.
    pub endpoint: String,
    /// Bucket: 3 to 63 lower-case letters, digits and `-`.
    pub bucket: String,
    /// Who signs.
    pub access_key: String,
    /// What signs.
    pub secret_key: String,
    /// A call ends after this long, the whole object included; a connect after half of it.
    pub call: Duration,
}

/// Without the secret.
impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("access_key", &self.access_key)
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

impl S3Config {
    /// Refuses what would not make an address.
    pub(super) fn check(&self) -> Result<(), PortError> {
        let refused = |what: String| Err(PortError::Refused(what));
        let place = self.endpoint.strip_prefix("http://").unwrap_or_default();
        let plain =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
        if place.is_empty() || !place.bytes().all(plain) {
            return refused(format!("`{}` is not `http://host:port`", self.endpoint));
        }
        let bucket = self.bucket.as_bytes();
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let ends = [bucket.first(), bucket.last()];
        if !(3..=63).contains(&bucket.len())
            || !bucket.iter().all(plain)
            || ends.contains(&Some(&b'-'))
        {
            return refused(format!("`{}` is no name of a bucket", self.bucket));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str, bucket: &str) -> S3Config {
        S3Config {
            endpoint: endpoint.to_owned(),
            bucket: bucket.to_owned(),
            access_key: "user".to_owned(),
            secret_key: "hush".to_owned(),
            call: Duration::from_secs(2),
        }
    }

    #[test]
    fn only_plain_endpoints_and_buckets_make_an_address() {
        assert!(config("http://127.0.0.1:7070", "chatstorm-1").check().is_ok());
        assert!(config("http://[::1]:7070", "abc").check().is_ok());
        for endpoint in ["", "127.0.0.1:7070", "https://h", "http://", "http://h/x", "http://h x"] {
            assert!(config(endpoint, "abc").check().is_err(), "{endpoint:?}");
        }
        for bucket in ["", "ab", "-ab", "ab-", "A-b", "a/b", &"a".repeat(64)] {
            assert!(config("http://h", bucket).check().is_err(), "{bucket:?}");
        }
    }

    #[test]
    fn secret_is_not_shown() {
        assert!(!format!("{:?}", config("http://h", "abc")).contains("hush"));
    }
}
