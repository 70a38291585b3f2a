//! YAML text to the tree of nodes, with every duplicate key noticed.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, MergeKeyPolicy, Options, Spanned};

use super::error::FileError;
use super::node::{Entry, Kind, Mark, Node, SourceText};

/// Parses one document; duplicate keys are added to `errors`, the first value of each is kept.
///
/// # Errors
/// The syntax error that stopped the parser; nothing behind it could be read.
pub(super) fn read(
    source: &Arc<SourceText>,
    errors: &mut Vec<FileError>,
) -> Result<Node, FileError> {
    let lenient = parse(source, DuplicateKeyPolicy::LastWins)?;
    let before = errors.len();
    let node = convert(lenient, source, errors);
    // The lenient pass folds keys that look like numbers before they can be compared; the strict one names those.
    if let Err(strict) = parse(source, DuplicateKeyPolicy::Error)
        && errors[before..].is_empty()
    {
        errors.push(strict);
    }
    Ok(node)
}

fn parse(
    source: &Arc<SourceText>,
    duplicate_keys: DuplicateKeyPolicy,
) -> Result<Spanned<Raw>, FileError> {
    let options: Options = serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(&source.text, options).map_err(|err| {
        let at = err.location().map_or_else(|| start(source), |location| mark(location, source));
        let message = err.without_snippet().to_string();
        // The position is drawn by the diagnostic, so its words are cut off the message.
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        FileError::new(message, at)
    })
}

fn start(source: &Arc<SourceText>) -> Mark {
    Mark { source: Arc::clone(source), offset: 0, len: 0 }
}

fn mark(location: Location, source: &Arc<SourceText>) -> Mark {
    let text = &source.text;
    let span = location.span();
    let offset = span.byte_offset().and_then(|at| usize::try_from(at).ok()).unwrap_or_else(|| {
        // Without byte offsets the line and column still say where.
        let line = usize::try_from(location.line()).unwrap_or(1).saturating_sub(1);
        let column = usize::try_from(location.column()).unwrap_or(1).saturating_sub(1);
        text.split_inclusive('\n').take(line).map(str::len).sum::<usize>() + column
    });
    let offset = offset.min(text.len());
    let len = span.byte_len().and_then(|len| usize::try_from(len).ok()).unwrap_or(1);
    Mark { source: Arc::clone(source), offset, len: len.min(text.len() - offset) }
}

fn convert(raw: Spanned<Raw>, source: &Arc<SourceText>, errors: &mut Vec<FileError>) -> Node {
    let at = mark(raw.referenced, source);
    let kind = match raw.value {
        Raw::Scalar(kind) => kind,
        Raw::List(items) => {
            Kind::List(items.into_iter().map(|item| convert(item, source, errors)).collect())
        }
        Raw::Map(pairs) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
            for (key, value) in pairs {
                let key_at = mark(key.referenced, source);
                if entries.iter().any(|e| e.key == key.value) {
                    errors.push(
                        FileError::new(format!("duplicate key `{}`", key.value), key_at)
                            .with_help("remove one of the two: the second would silently win"),
                    );
                    continue;
                }
                entries.push(Entry {
                    key: key.value,
                    key_at,
                    value: convert(value, source, errors),
                });
            }
            Kind::Map(entries)
        }
    };
    Node::new(kind, at)
}

/// What the parser hands over before positions are turned into marks.
enum Raw {
    Scalar(Kind),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Null))
    }

    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Int(i128::from(v))))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Int(i128::from(v))))
    }

    fn visit_i128<E>(self, v: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Int(v)))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Float(v)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Text(v.to_owned())))
    }

    fn visit_string<E>(self, v: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Text(v)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            pairs.push((key, map.next_value()?));
        }
        Ok(Raw::Map(pairs))
    }
}
