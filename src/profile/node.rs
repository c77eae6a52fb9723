//! A serde deserializer for TOML documents that knows the place of each value and goes on after an error.
//!
//! A struct gets each of its fields, also those that are not set; unknown keys are reported here. An error in the value of a `Key` is
//! reported at its place, and the `Key` then has no value.

use std::fmt;
use std::{slice, vec};

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Log, Place, hint, nearest};

/// The name of the newtype by which a `Key` asks the deserializer for its place.
pub(super) const KEY: &str = "$dormgate::profile::document::Key";

/// Why a value does not have its type, without its place.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(pub(super) String);

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        let wanted = wanted.to_string();
        let wanted = match wanted.as_str() {
            "a boolean" => "`true` or `false`",
            "a string" => "text in quotes",
            "a sequence" => "a list in brackets",
            "a map" => "a table",
            "f32" | "f64" => "a number",
            number if number.len() < 5 && number.starts_with(['i', 'u']) => "a whole number",
            other => other,
        };
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Signed(_) => "an integer",
            Unexpected::Float(_) => "a float",
            Unexpected::Str(_) => "a string",
            Unexpected::Seq => "an array",
            Unexpected::Other(other) => other,
            _ => "a table",
        };
        Self(format!("{wanted} is wanted, this is {found}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let all = expected.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let near = nearest(variant, expected.iter().copied());
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Self(format!("one of {all} is wanted, got `{variant}`{hint}"))
    }
}

/// One value of the document, or a key that is not set.
pub(super) struct Node<'a> {
    pub(super) value: Option<&'a Spanned<DeValue<'a>>>,
    pub(super) place: Place,
    pub(super) log: &'a Log,
}

impl<'a> Node<'a> {
    fn value(&self) -> Result<&'a DeValue<'a>, Error> {
        self.value.map(Spanned::get_ref).ok_or_else(|| Error("this is missing".to_owned()))
    }

    pub(super) fn table(&self) -> Result<&'a DeTable<'a>, Error> {
        match self.value()? {
            DeValue::Table(table) => Ok(table),
            other => Err(wrong_type("a table", other)),
        }
    }

    fn text(&self) -> Result<&'a str, Error> {
        match self.value()? {
            DeValue::String(text) => without_nul(text),
            other => Err(wrong_type("text in quotes", other)),
        }
    }

    pub(super) fn child(&self, key: &str, value: Option<&'a Spanned<DeValue<'a>>>) -> Self {
        let path = if self.place.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.path) };
        let place = match value {
            Some(value) => self.log.place(&value.span(), path),
            None => Place { path, ..self.place },
        };
        Self { value, place, log: self.log }
    }

    fn items(&self) -> Result<Items<'_, 'a>, Error> {
        match self.value()? {
            DeValue::Array(items) => Ok(Items { items: items.iter(), at: 0, parent: self }),
            other => Err(wrong_type("a list in brackets", other)),
        }
    }

    /// Every entry of the table.
    fn entries(&self) -> Result<Entries<'_, 'a>, Error> {
        let entries: Vec<_> = self.table()?.iter().map(|(key, value)| (&**key.get_ref(), Some(value))).collect();
        Ok(Entries { entries: entries.into_iter(), value: None, parent: self })
    }

    /// The fields of a struct; unknown keys are reported.
    fn fields(&self, fields: &'static [&'static str]) -> Result<Entries<'_, 'a>, Error> {
        let table = self.table()?;
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !fields.contains(&name) {
                let place = self.log.place(&key.span(), self.child(name, None).place.path);
                self.log.add(place, format!("{UNKNOWN_KEY}; {}", hint(name, fields.iter().copied())));
            }
        }
        let entries: Vec<_> = fields.iter().map(|name| (*name, table.get(*name))).collect();
        Ok(Entries { entries: entries.into_iter(), value: None, parent: self })
    }

    fn report(&self, Error(message): &Error) {
        self.log.add(self.place.clone(), message.as_str());
    }
}

/// How the diagnostic of a key begins that no table of its kind has.
pub const UNKNOWN_KEY: &str = "unknown key";

/// No name, path or password of a document has a NUL: the system takes it for the end of the text, or refuses it when it is too late.
fn without_nul(text: &str) -> Result<&str, Error> {
    if text.contains('\0') { Err(Error(NUL.to_owned())) } else { Ok(text) }
}

const NUL: &str = "there is a NUL in this text (`\\u0000`); leave it out";

fn wrong_type(wanted: &str, value: &DeValue<'_>) -> Error {
    let found = value.type_str();
    let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
    Error(format!("{wanted} is wanted, this is {article} {found}"))
}

/// Each generic function here is compiled for each type of a field, about a hundred times: what does not need the type is in
/// functions of [`Node`], [`Items`] and [`Entries`].
impl<'de> Deserializer<'de> for &Node<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value()? {
            DeValue::String(text) => visitor.visit_str(without_nul(text)?),
            DeValue::Integer(digits) => {
                let number = i64::from_str_radix(digits.as_str(), digits.radix());
                // What does not fit is outside every range, and the check of the range reports it.
                visitor.visit_i64(number.unwrap_or(if digits.as_str().starts_with('-') { i64::MIN } else { i64::MAX }))
            }
            DeValue::Float(float) => {
                let number = float.as_str().parse().ok().filter(|n: &f64| n.is_finite());
                visitor.visit_f64(number.ok_or_else(|| Error("a finite decimal number is wanted".to_owned()))?)
            }
            DeValue::Boolean(flag) => visitor.visit_bool(*flag),
            DeValue::Array(_) => visitor.visit_seq(self.items()?),
            DeValue::Table(_) => visitor.visit_map(self.entries()?),
            DeValue::Datetime(_) => Err(serde::de::Error::invalid_type(Unexpected::Other("a datetime"), &visitor)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self.items()?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.entries()?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(StrDeserializer::<Error>::new(self.text()?))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(self.fields(fields)?)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == KEY { visitor.visit_map(Placed(self)) } else { visitor.visit_newtype_struct(self) }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// A node as a map of one entry, for a `Key`. The key is the text `LINE COLUMN SET PATH`, where `SET` is 1 if there is a value.
pub(super) struct Placed<'n, 'a>(&'n Node<'a>);

impl<'de> MapAccess<'de> for Placed<'_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Place { line, column, path } = &self.0.place;
        let position = format!("{line} {column} {} {path}", u8::from(self.0.value.is_some()));
        seed.deserialize(position.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.0).inspect_err(|error| self.0.report(error))
    }
}

/// The items of a list.
struct Items<'n, 'a> {
    items: slice::Iter<'a, Spanned<DeValue<'a>>>,
    at: usize,
    parent: &'n Node<'a>,
}

impl<'a> Items<'_, 'a> {
    fn advance(&mut self) -> Option<Node<'a>> {
        let item = self.items.next()?;
        let path = format!("{}[{}]", self.parent.place.path, self.at);
        self.at += 1;
        Some(Node { value: Some(item), place: self.parent.log.place(&item.span(), path), log: self.parent.log })
    }
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(item) = self.advance() else { return Ok(None) };
        seed.deserialize(&item).map(Some)
    }
}

/// The entries of a table: those that the document has, or each field of a struct, also those that are not set.
struct Entries<'n, 'a> {
    entries: vec::IntoIter<(&'n str, Option<&'a Spanned<DeValue<'a>>>)>,
    value: Option<Node<'a>>,
    parent: &'n Node<'a>,
}

impl<'n> Entries<'n, '_> {
    fn advance(&mut self) -> Option<&'n str> {
        let (name, value) = self.entries.next()?;
        self.value = Some(self.parent.child(name, value));
        Some(name)
    }

    fn value(&self) -> Result<&Node<'_>, Error> {
        self.value.as_ref().ok_or_else(|| Error("a value without its key".to_owned()))
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(name) = self.advance() else { return Ok(None) };
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.value()?)
    }
}
