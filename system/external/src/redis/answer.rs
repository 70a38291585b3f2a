//! What the server answered. An answer of another shape than the script gives is `Unknown`: the script may have run.
use chat_ports::PortError;
use chat_ports::registry::Route;
use redis::Value;

use super::keys;

/// The error of an answer that no script gives.
pub(super) fn odd() -> PortError {
    PortError::Unknown("the store's answer is not understood".to_owned())
}

/// A list.
pub(super) fn list(value: Value) -> Result<Vec<Value>, PortError> {
    if let Value::Array(values) = value { Ok(values) } else { Err(odd()) }
}

/// A list of `N`.
pub(super) fn few<const N: usize>(value: Value) -> Result<[Value; N], PortError> {
    list(value)?.try_into().map_err(|_| odd())
}

/// Bytes as they were stored.
pub(super) fn bytes(value: Value) -> Result<Vec<u8>, PortError> {
    if let Value::BulkString(bytes) = value { Ok(bytes) } else { Err(odd()) }
}

/// Text, or `None` where the script has nothing.
pub(super) fn optional_text(value: &Value) -> Result<Option<&str>, PortError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| odd()),
        _ => Err(odd()),
    }
}

/// Text.
pub(super) fn text(value: &Value) -> Result<&str, PortError> {
    optional_text(value)?.ok_or_else(odd)
}

/// A number, written out or as such.
pub(super) fn number(value: &Value) -> Result<u64, PortError> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| odd()),
        _ => text(value)?.parse().map_err(|_| odd()),
    }
}

/// A yes or no, given as 1 or 0.
pub(super) fn flag(value: &Value) -> Result<bool, PortError> {
    match value {
        Value::Int(0) => Ok(false),
        Value::Int(1) => Ok(true),
        _ => Err(odd()),
    }
}

/// A route, or `None` where there is none.
pub(super) fn route(value: &Value) -> Result<Option<Route>, PortError> {
    optional_text(value)?.map(|text| keys::parse_route(text).ok_or_else(odd)).transpose()
}

/// Both numbers of a stream's entry id.
pub(super) fn entry_id(value: &Value) -> Result<(u64, u64), PortError> {
    let parse = |text: &str| {
        let (first, second) = text.split_once('-')?;
        Some((first.parse().ok()?, second.parse().ok()?))
    };
    parse(text(value)?).ok_or_else(odd)
}

/// Values in groups of `N`.
pub(super) fn groups<const N: usize>(
    values: Vec<Value>,
) -> Result<impl Iterator<Item = [Value; N]>, PortError> {
    if !values.len().is_multiple_of(N) {
        return Err(odd());
    }
    let mut values = values.into_iter();
    Ok(std::iter::from_fn(move || {
        let group: Vec<Value> = values.by_ref().take(N).collect();
        group.try_into().ok()
    }))
}
