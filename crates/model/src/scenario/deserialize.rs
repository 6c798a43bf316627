//! Reads a TOML table into a type. Its error says what does not fit and where, as data; toml's own is a text.

use std::{iter::Enumerate, ops::Range, slice};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Expected, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{BorrowedStrDeserializer, MapAccessDeserializer},
    },
    forward_to_deserialize_any,
};
use toml::{
    Spanned,
    de::{DeInteger, DeString, DeTable, DeValue},
    map,
};

use super::path::Step;

/// A fault of a file, and its place.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub(super) struct Error {
    pub(super) fault: Fault,
    /// Of the value or key that does not fit, or of the key that is missing.
    pub(super) path: Vec<Step>,
    /// The bytes of that value or key, or of the table that misses a key; empty for the file as a whole.
    pub(super) span: Range<usize>,
}

/// How a file departs from the type that it is read into.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The table has a key that the type has no field for.
    #[error("unknown key")]
    UnknownKey { key: String, known: &'static [&'static str] },
    /// The type has no variant of this name.
    #[error("unknown value")]
    UnknownValue { value: String, known: &'static [&'static str] },
    /// The type needs a key that the table has not.
    #[error("missing key")]
    MissingKey,
    /// The value is a string for a number, say.
    #[error("wrong type")]
    WrongType,
    /// The number does not fit the type of number.
    #[error("number out of range")]
    OutOfRange,
    /// The type's own text for a value that it refuses.
    #[error("{0}")]
    Refused(String),
}

/// Reads a whole file.
pub(super) fn read<'de, T: Deserialize<'de>>(file: &'de DeTable<'de>) -> Result<T, Error> {
    T::deserialize(MapAccessDeserializer::new(Entries::of(file)))
}

impl Error {
    /// The same error, seen from the table or list around the step. A fault that has no place yet is at `span`.
    fn under(mut self, step: Step, span: Range<usize>) -> Self {
        if self.span.is_empty() {
            self.span = span;
        }
        self.path.insert(0, step);
        self
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error { fault, path: Vec::new(), span: 0..0 }
    }
}

impl serde::de::Error for Error {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Fault::Refused(text.to_string()).into()
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Fault::WrongType.into()
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Fault::OutOfRange.into()
    }

    fn unknown_variant(value: &str, known: &'static [&'static str]) -> Self {
        Fault::UnknownValue { value: value.into(), known }.into()
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Fault::UnknownKey { key: key.into(), known }.into()
    }

    fn missing_field(key: &'static str) -> Self {
        Error { path: vec![key.into()], ..Fault::MissingKey.into() }
    }
}

/// A value of the file.
struct Value<'de>(&'de DeValue<'de>);

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            DeValue::String(text) => visitor.visit_borrowed_str(text),
            DeValue::Integer(number) => integer(number, visitor),
            DeValue::Float(number) => float(number.as_str(), visitor),
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            // No key of a scenario takes one.
            DeValue::Datetime(_) => Err(Fault::WrongType.into()),
            DeValue::Array(list) => visitor.visit_seq(Elements(list.iter().enumerate())),
            DeValue::Table(table) => visitor.visit_map(Entries::of(table)),
        }
    }

    /// TOML has no null: a value that is there is `Some`.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// A table alone: serde would take a list of the fields' values too.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            DeValue::Table(table) => visitor.visit_map(Entries::of(table)),
            _ => Err(Fault::WrongType.into()),
        }
    }

    /// A variant is its name, or a table with its name as the only key.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            DeValue::String(name) => visitor.visit_enum(BorrowedStrDeserializer::new(name)),
            DeValue::Table(table) if table.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries::of(table)))
            }
            _ => Err(Fault::WrongType.into()),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

fn integer<'de, V: Visitor<'de>>(number: &DeInteger<'_>, visitor: V) -> Result<V::Value, Error> {
    let (digits, radix) = (number.as_str(), number.radix());
    if let Ok(number) = i64::from_str_radix(digits, radix) {
        return visitor.visit_i64(number);
    }
    match u64::from_str_radix(digits, radix) {
        Ok(number) => visitor.visit_u64(number),
        Err(_) => Err(too_large(visitor.visit_u64(u64::MAX))),
    }
}

fn float<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, Error> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() || !text.contains(|c: char| c.is_ascii_digit()) => {
            visitor.visit_f64(number)
        }
        _ => Err(too_large(visitor.visit_f64(f64::MAX))),
    }
}

/// The error for a number that 64 bits can't hold, from the result for the largest such number: a type that takes no
/// number gives its own error.
fn too_large<T>(largest: Result<T, Error>) -> Error {
    match largest {
        Err(error) if matches!(error.fault, Fault::WrongType) => error,
        _ => Fault::OutOfRange.into(),
    }
}

/// The elements of a list.
struct Elements<'de>(Enumerate<slice::Iter<'de, Spanned<DeValue<'de>>>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.0.next() else { return Ok(None) };
        let element = seed.deserialize(Value(value.get_ref()));
        element.map(Some).map_err(|error| error.under(index.into(), value.span()))
    }
}

/// The entries of a table.
struct Entries<'de> {
    rest: map::Iter<'de, Spanned<DeString<'de>>, Spanned<DeValue<'de>>>,
    /// The entry of the last key.
    last: Option<(&'de Spanned<DeString<'de>>, &'de Spanned<DeValue<'de>>)>,
}

impl<'de> Entries<'de> {
    fn of(table: &'de DeTable<'de>) -> Self {
        Entries { rest: table.iter(), last: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.last = self.rest.next();
        let Some((key, _)) = self.last else { return Ok(None) };
        let name = key.get_ref().as_ref();
        let read = seed.deserialize(BorrowedStrDeserializer::new(name));
        read.map(Some).map_err(|error: Error| error.under(name.into(), key.span()))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, value) = self.last.expect("serde reads a value after its key");
        let read = seed.deserialize(Value(value.get_ref()));
        read.map_err(|error| error.under(key.get_ref().as_ref().into(), value.span()))
    }
}
