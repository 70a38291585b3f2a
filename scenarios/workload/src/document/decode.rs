//! Typed values out of the tree. A failed value is reported, marked and stepped over, and the next pass goes on behind it,
//! so that every error of a file is found although serde stops at the first one.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::error::FileError;
use super::node::{Entry, Kind, Mark, Node};
use super::suggest::hint;

/// Passes over one document; each reports at least one error, and nobody reads more than this.
const PASSES_MAX: usize = 200;

/// Decodes `root`; whatever is wrong is appended to `errors`. None when the root itself cannot be read.
pub(super) fn decode<T: DeserializeOwned>(root: &Node, errors: &mut Vec<FileError>) -> Option<T> {
    clear(root);
    for _ in 0..PASSES_MAX {
        match T::deserialize(Decoder { node: root }).map_err(|failure| failure.at(root)) {
            Ok(value) => return Some(value),
            Err(Failure { message, help, at, silent }) => {
                if !silent {
                    let mut error = FileError::new(message, at.unwrap_or_else(|| root.at.clone()));
                    error.help = help;
                    errors.push(error);
                }
            }
        }
        if root.poisoned.get() {
            return None;
        }
    }
    None
}

fn clear(node: &Node) {
    node.poisoned.set(false);
    match &node.kind {
        Kind::List(items) => items.iter().for_each(clear),
        Kind::Map(entries) => entries.iter().for_each(|e| clear(&e.value)),
        _ => {}
    }
}

/// Why a value could not be read; the innermost node gives it its place.
#[derive(Debug)]
struct Failure {
    message: String,
    help: Option<String>,
    at: Option<Mark>,
    /// A consequence of an error already reported.
    silent: bool,
}

impl Failure {
    fn new(message: String, help: Option<String>) -> Self {
        Self { message, help, at: None, silent: false }
    }

    /// Ties the failure to a node, unless a node further in has it already.
    fn at(mut self, node: &Node) -> Self {
        if self.at.is_none() {
            self.at = Some(node.at.clone());
            node.poisoned.set(true);
            if let Some(field) =
                self.message.strip_prefix("missing key `").and_then(|m| m.strip_suffix('`'))
            {
                self.silent = node.get(field).is_some_and(|child| child.poisoned.get());
            }
        }
        self
    }

    /// Ties the failure to a key; its value is what gets stepped over.
    fn at_key(mut self, entry: &Entry) -> Self {
        if self.at.is_none() {
            self.at = Some(entry.key_at.clone());
            entry.value.poisoned.set(true);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Self::new(msg.to_string(), None)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown key `{field}`"), Some(hint(field, expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value `{variant}`"), Some(hint(variant, expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("missing key `{field}`"), None)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            other => other.to_string(),
        };
        Self::new(format!("found {found}, expected {expected}"), None)
    }
}

#[derive(Clone, Copy)]
struct Decoder<'n> {
    node: &'n Node,
}

impl<'n> Decoder<'n> {
    fn list(items: &'n [Node]) -> Items<'n> {
        Items { left: items.iter() }
    }

    fn map(entries: &'n [Entry]) -> Entries<'n> {
        Entries { left: entries.iter(), current: None }
    }
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(v) => visitor.visit_bool(*v),
            Kind::Int(v) => match (u64::try_from(*v), i64::try_from(*v)) {
                (Ok(v), _) => visitor.visit_u64(v),
                (_, Ok(v)) => visitor.visit_i64(v),
                _ => Err(Failure::new(format!("the number {v} is too large"), None)),
            },
            Kind::Float(v) => visitor.visit_f64(*v),
            Kind::Text(v) => visitor.visit_str(v),
            Kind::List(items) => visitor.visit_seq(Self::list(items)),
            Kind::Map(entries) => visitor.visit_map(Self::map(entries)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Kind::Map(entries) if entries.len() == 1 && entries[0].value.poisoned.get() => {
                Err(Failure { silent: true, ..Failure::new("unreadable choice".to_owned(), None) })
            }
            Kind::Map(entries) if entries.len() == 1 => {
                visitor.visit_enum(Choice { entry: &entries[0] })
            }
            Kind::Map(entries) => Err(Failure::new(
                format!("found {} keys where exactly one choice is expected", entries.len()),
                Some(format!("one of: {}", variants.join(", "))),
            )),
            _ => Err(Failure::new(
                "found no choice here".to_owned(),
                Some(format!("one of: {}", variants.join(", "))),
            )),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier
    }
}

struct Items<'n> {
    left: std::slice::Iter<'n, Node>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failure> {
        match self.left.find(|node| !node.poisoned.get()) {
            Some(node) => seed.deserialize(Decoder { node }).map(Some).map_err(|f| f.at(node)),
            None => Ok(None),
        }
    }
}

struct Entries<'n> {
    left: std::slice::Iter<'n, Entry>,
    current: Option<&'n Entry>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        self.current = self.left.find(|entry| !entry.value.poisoned.get());
        match self.current {
            Some(entry) => {
                seed.deserialize(Key { key: &entry.key }).map(Some).map_err(|f| f.at_key(entry))
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let node = &self.current.expect("serde asks for a key before its value").value;
        seed.deserialize(Decoder { node }).map_err(|f| f.at(node))
    }
}

/// A key: text, or the number it spells where a number is asked for.
struct Key<'n> {
    key: &'n str,
}

macro_rules! number_keys {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            match self.key.parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Failure::new(format!("found key `{}`, expected a whole number", self.key), None)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_str(self.key)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_enum(StrDeserializer::new(self.key))
    }

    number_keys!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// An externally tagged choice: the one key is the variant, its value the content.
struct Choice<'n> {
    entry: &'n Entry,
}

impl<'de, 'n> de::EnumAccess<'de> for Choice<'n> {
    type Error = Failure;
    type Variant = Content<'n>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Content<'n>), Failure> {
        let value =
            seed.deserialize(Key { key: &self.entry.key }).map_err(|f| f.at_key(self.entry))?;
        Ok((value, Content { node: &self.entry.value }))
    }
}

struct Content<'n> {
    node: &'n Node,
}

impl<'de> de::VariantAccess<'de> for Content<'_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        match self.node.kind {
            Kind::Null => Ok(()),
            _ => Err(Failure::new("this choice takes no value".to_owned(), None).at(self.node)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        seed.deserialize(Decoder { node: self.node }).map_err(|f| f.at(self.node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Failure> {
        Decoder { node: self.node }.deserialize_any(visitor).map_err(|f| f.at(self.node))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        Decoder { node: self.node }.deserialize_any(visitor).map_err(|f| f.at(self.node))
    }
}
