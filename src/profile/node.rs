//! serde's view of a TOML document: a deserializer that knows the place of each value, and goes on after an error.
//!
//! A struct is given each of its fields, also those that are not there, and its unknown keys are reported here. What is wrong with
//! the value of a `Key` is reported at its place, and the `Key` has none then.

use std::fmt;
use std::slice;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Log, Place, hint, nearest};

/// The name by which a `Key` asks the deserializer for its place.
pub(super) const KEY: &str = "$dormgate::profile::document::Key";

/// Why a value is not what its type asks for, without its place.
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

/// One value of the document, or a key that is not there.
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

    pub(super) fn child(&self, key: &str, value: Option<&'a Spanned<DeValue<'a>>>) -> Self {
        let path = if self.place.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.path) };
        let place = match value {
            Some(value) => self.log.place(&value.span(), path),
            None => Place { path, ..self.place },
        };
        Self { value, place, log: self.log }
    }
}

fn wrong_type(wanted: &str, value: &DeValue<'_>) -> Error {
    let found = value.type_str();
    let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
    Error(format!("{wanted} is wanted, this is {article} {found}"))
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value()? {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(digits) => {
                let number = i64::from_str_radix(digits.as_str(), digits.radix());
                // Larger than any range: its range reports it.
                visitor.visit_i64(number.unwrap_or(if digits.as_str().starts_with('-') { i64::MIN } else { i64::MAX }))
            }
            DeValue::Float(float) => {
                let number = float.as_str().parse().ok().filter(|n: &f64| n.is_finite());
                visitor.visit_f64(number.ok_or_else(|| Error("a finite decimal number is wanted".to_owned()))?)
            }
            DeValue::Boolean(flag) => visitor.visit_bool(*flag),
            DeValue::Array(items) => visitor.visit_seq(Items { items: items.iter(), at: 0, parent: self }),
            DeValue::Table(table) => {
                let entries = table.iter().map(|(key, value)| (&**key.get_ref(), Some(value)));
                visitor.visit_map(Entries { entries, value: None, parent: self })
            }
            DeValue::Datetime(_) => Err(serde::de::Error::invalid_type(Unexpected::Other("a datetime"), &visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value()? {
            DeValue::String(text) => visitor.visit_enum(StrDeserializer::<Error>::new(text)),
            other => Err(wrong_type("text in quotes", other)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let table = self.table()?;
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !fields.contains(&name) {
                let place = self.log.place(&key.span(), self.child(name, None).place.path);
                self.log.add(place, format!("unknown key; {}", hint(name, fields.iter().copied())));
            }
        }
        let entries = fields.iter().map(|name| (*name, table.get(*name)));
        visitor.visit_map(Entries { entries, value: None, parent: self })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == KEY {
            visitor.visit_seq(Placed { node: Some(self), step: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// A node as a `Key` wants it: line, column, path, whether it is there, and the value.
struct Placed<'a> {
    node: Option<Node<'a>>,
    step: u8,
}

impl<'de> SeqAccess<'de> for Placed<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(node) = &self.node else { return Ok(None) };
        self.step += 1;
        match self.step {
            1 => seed.deserialize(node.place.line.into_deserializer()).map(Some),
            2 => seed.deserialize(node.place.column.into_deserializer()).map(Some),
            3 => seed.deserialize(node.place.path.as_str().into_deserializer()).map(Some),
            4 => seed.deserialize(node.value.is_some().into_deserializer()).map(Some),
            _ => {
                let Some(node) = self.node.take().filter(|node| node.value.is_some()) else { return Ok(None) };
                let (place, log) = (node.place.clone(), node.log);
                let value = seed.deserialize(node);
                value.map(Some).inspect_err(|Error(message)| log.add(place, message.as_str()))
            }
        }
    }
}

struct Items<'a> {
    items: slice::Iter<'a, Spanned<DeValue<'a>>>,
    at: usize,
    parent: Node<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let path = format!("{}[{}]", self.parent.place.path, self.at);
        self.at += 1;
        let place = self.parent.log.place(&item.span(), path);
        seed.deserialize(Node { value: Some(item), place, log: self.parent.log }).map(Some)
    }
}

/// The entries of a table: those that its author chose, or the fields of a struct, each of them, also those that are not there.
struct Entries<'a, I> {
    entries: I,
    value: Option<Node<'a>>,
    parent: Node<'a>,
}

impl<'de, 'a, I> MapAccess<'de> for Entries<'a, I>
where
    I: Iterator<Item = (&'a str, Option<&'a Spanned<DeValue<'a>>>)>,
{
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((name, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(self.parent.child(name, value));
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.value.take().ok_or_else(|| Error("a value without its key".to_owned()))?)
    }
}
