//! What an error of the client library means for the caller: surely nothing, or nobody knows.
use std::error::Error as _;

use chat_ports::PortError;
use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

/// Sorts an error. Refused only where no connection came about or the server turned the request down.
#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
pub(super) fn port_error(error: Error) -> PortError {
    let nothing_happened = match &error {
        Error::NotFound { .. }
        | Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::UnknownConfigurationKey { .. } => true,
        _ => never_connected(&error),
    };
    if nothing_happened {
        PortError::Refused(error.to_string())
    } else {
        PortError::Unknown(error.to_string())
    }
}

/// The same of a bare request.
#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
pub(super) fn of_http(error: HttpError) -> PortError {
    if error.kind() == HttpErrorKind::Connect {
        PortError::Refused(error.to_string())
    } else {
        PortError::Unknown(error.to_string())
    }
}

/// Whether the object is not there, rather than its bucket: a store that lost everything must not pass for one that is empty.
pub(super) fn no_object(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && !error.to_string().contains("NoSuchBucket")
}

fn never_connected(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return http.kind() == HttpErrorKind::Connect;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(kind: HttpErrorKind) -> Error {
        let source = HttpError::new(kind, std::io::Error::other("x"));
        Error::Generic { store: "S3", source: source.into() }
    }

    #[test]
    fn only_what_surely_did_nothing_is_refused() {
        let refused = |error| matches!(port_error(error), PortError::Refused(_));
        let denied = || std::io::Error::other("x").into();
        assert!(refused(Error::PermissionDenied { path: String::new(), source: denied() }));
        assert!(refused(generic(HttpErrorKind::Connect)));
        assert!(!refused(generic(HttpErrorKind::Timeout)));
        assert!(!refused(generic(HttpErrorKind::Interrupted)));
        assert!(!refused(Error::Generic { store: "S3", source: "503".into() }));
    }

    #[test]
    fn missing_bucket_is_not_a_missing_object() {
        let not_found = |said: &str| Error::NotFound { path: "x".to_owned(), source: said.into() };
        assert!(no_object(&not_found("<Code>NoSuchKey</Code>")));
        assert!(!no_object(&not_found("<Code>NoSuchBucket</Code>")));
    }
}
