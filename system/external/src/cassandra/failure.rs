//! What an error of the driver means for the caller: surely nothing, or nobody knows.
use chat_ports::PortError;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};

/// Sorts an error. Refused only where the request did not leave, or the coordinator turned it down before it did anything.
///
/// *Unavailable* and *overloaded* are not among them: the coordinator may raise them at a later mutation of a batch whose first
/// ones it sent on, or at the last round of a lightweight transaction.
pub(super) fn port_error(error: &ExecutionError) -> PortError {
    let nothing_happened = match error {
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(_) => true,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => matches!(
            error,
            DbError::SyntaxError
                | DbError::Invalid
                | DbError::Unauthorized
                | DbError::AuthenticationError
                | DbError::ConfigError
                | DbError::IsBootstrapping
                | DbError::Unprepared { .. }
        ),
        ExecutionError::LastAttemptError(error) => matches!(
            error,
            RequestAttemptError::SerializationError(_)
                | RequestAttemptError::CqlRequestSerialization(_)
                | RequestAttemptError::UnableToAllocStreamId
        ),
        _ => false,
    };
    if nothing_happened {
        PortError::Refused(error.to_string())
    } else {
        PortError::Unknown(error.to_string())
    }
}

/// The refusal of an answer that is not what was asked for.
pub(super) fn unreadable(error: impl std::error::Error) -> PortError {
    PortError::Refused(format!("a stored row is not readable: {error}"))
}

/// The outcome of several requests of one write: refused only when each was, for otherwise some rows may be there.
pub(super) fn of_all(outcomes: Vec<Result<(), PortError>>) -> Result<(), PortError> {
    let all = outcomes.len();
    let errors: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    let unknown = errors.iter().find(|error| matches!(error, PortError::Unknown(_)));
    match (unknown, errors.first()) {
        (_, None) => Ok(()),
        (Some(unknown), _) => Err(unknown.clone()),
        (None, Some(refused)) if errors.len() == all => Err(refused.clone()),
        (None, Some(refused)) => {
            Err(PortError::Unknown(format!("some rows were written, others not: {refused}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refused(error: &ExecutionError) -> bool {
        matches!(port_error(error), PortError::Refused(_))
    }

    fn answered(error: DbError) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new()))
    }

    #[test]
    fn only_what_surely_did_nothing_is_refused() {
        assert!(refused(&ExecutionError::EmptyPlan));
        assert!(refused(&answered(DbError::Invalid)));
        assert!(refused(&answered(DbError::IsBootstrapping)));
        assert!(!refused(&ExecutionError::RequestTimeout(Duration::from_secs(2))));
        assert!(!refused(&answered(DbError::Overloaded)));
        assert!(!refused(&answered(DbError::ServerError)));
        assert!(!refused(&answered(DbError::Other(0x1700))));
    }

    #[test]
    fn write_of_which_a_part_is_there_is_unknown() {
        let refused = || Err(PortError::Refused("no".to_owned()));
        let unknown = || Err(PortError::Unknown("when".to_owned()));
        assert_eq!(of_all(vec![Ok(()), Ok(())]), Ok(()));
        assert_eq!(of_all(vec![refused(), refused()]), refused());
        assert_eq!(of_all(vec![refused(), unknown()]), unknown());
        assert!(matches!(of_all(vec![Ok(()), refused()]), Err(PortError::Unknown(_))));
    }
}
