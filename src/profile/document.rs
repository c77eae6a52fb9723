//! Reads TOML documents with serde and keeps the place of each value: for the configuration and the device profiles.
//!
//! A document is deserialized once, into structs whose fields are [`Key`]s. Deserializing a `Key` never fails: a wrong value becomes
//! a [`Diagnostic`] with line, path and remedy, and reading goes on, so one pass reports everything. An unknown key is a diagnostic
//! too. What several keys mean together is checked afterwards, by code that has all of them.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::node::{Error, KEY, Node};

pub use super::diagnostic::{Diagnostic, Log, Place};
pub use super::node::UNKNOWN_KEY;

/// Reads `text` as a `T` and gives it to `check`, which reports what does not fit together and makes the result.
pub fn read<T: DeserializeOwned, R>(
    text: &str,
    check: impl FnOnce(&T, &Log) -> Option<R>,
) -> Result<R, Vec<Diagnostic>> {
    with_root(text, |root| {
        let (place, log) = (root.place.clone(), root.log);
        match T::deserialize(&root) {
            Ok(document) => check(&document, log),
            Err(Error(message)) => {
                log.add(place, message);
                None
            }
        }
    })
}

/// Reads the value at `path` and nothing else: the document may be wrong elsewhere. The errors are those of the syntax and of this value.
pub fn read_at<T: DeserializeOwned>(text: &str, path: &[&str]) -> Result<Option<T>, Vec<Diagnostic>> {
    with_root(text, |mut node| {
        for key in path {
            let value = node.table().ok().and_then(|table| table.get(*key));
            node = node.child(key, value);
        }
        Key::<T>::deserialize(&node).ok().map(|key| key.value)
    })
}

fn with_root<R>(text: &str, read: impl FnOnce(Node<'_>) -> Option<R>) -> Result<R, Vec<Diagnostic>> {
    let log = Log::new(text);
    let (root, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        let message = error.message().lines().next().unwrap_or("syntax error");
        let remedy = if message == "duplicate key" { ": keep one of the two" } else { "" };
        log.add(log.place(&error.span().unwrap_or(0..0), String::new()), format!("not TOML: {message}{remedy}"));
    }
    // After a syntax error, keys may be missing from the tree only because they could not be parsed.
    if !syntax.is_empty() {
        return Err(log.take());
    }
    let root = Spanned::new(root.span(), DeValue::Table(root.into_inner()));
    let place = log.place(&root.span(), String::new());
    let result = read(Node { value: Some(&root), place: place.clone(), log: &log });
    let found = log.take();
    match result {
        Some(result) if found.is_empty() => Ok(result),
        None if found.is_empty() => {
            Err(vec![Diagnostic { file: None, place, message: "the document is incomplete".to_owned() }])
        }
        Some(_) | None => Err(found),
    }
}

/// A key of a table: its value if it is set and valid, and its place.
#[derive(Clone, Debug)]
pub struct Key<T> {
    value: Option<T>,
    set: bool,
    /// Where the value is; where the table is if the key is not set.
    pub place: Place,
}

/// A key whose value is a list.
pub type List<T> = Key<Vec<Key<T>>>;

impl<T> Key<T> {
    /// The value, if it is set and valid.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Whether the key is set, with a valid value or not.
    pub fn is_set(&self) -> bool {
        self.set
    }

    /// The value. A missing key is reported, with `remedy` unless that is empty.
    pub fn need(&self, log: &Log, remedy: &str) -> Option<&T> {
        if !self.set {
            let key = self.place.path.rsplit('.').next().unwrap_or_default();
            let between = if remedy.is_empty() { "" } else { ": " };
            log.add(self.place.of_table(), format!("`{key}` is missing{between}{remedy}"));
        }
        self.get()
    }

    /// Another value at the same place.
    pub fn with<U>(&self, value: U) -> Key<U> {
        Key { value: Some(value), set: self.set, place: self.place.clone() }
    }

    /// Reports a diagnostic at this key.
    pub fn wrong(&self, log: &Log, message: impl Into<String>) {
        log.add(self.place.clone(), message);
    }

    /// Reports the key if it is set, with the reason `why` it may not be.
    pub fn must_not_be_set(&self, log: &Log, why: &str) {
        if self.set {
            self.wrong(log, why);
        }
    }
}

impl<T: Copy> Key<T> {
    /// The value, or `default`.
    pub fn or(&self, default: T) -> T {
        self.value.unwrap_or(default)
    }
}

impl Key<String> {
    /// The text, or nothing.
    #[must_use]
    pub fn text(&self) -> String {
        self.value.clone().unwrap_or_default()
    }

    /// The parsed text; an error of `parse` is reported at this key.
    pub fn parse<T, E: fmt::Display>(&self, log: &Log, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        parse(self.get()?).map_err(|why| self.wrong(log, why.to_string())).ok()
    }
}

impl<T> List<T> {
    /// The items; empty if the key is not set.
    #[must_use]
    pub fn items(&self) -> &[Key<T>] {
        self.value.as_deref().unwrap_or_default()
    }

    /// The items that are valid.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.items().iter().filter_map(Key::get)
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> Key<Whole<MIN, MAX>> {
    /// The number, or `default`.
    pub fn number<N: TryFrom<i64>>(&self, default: N) -> N {
        self.value.and_then(|number| N::try_from(number.0).ok()).unwrap_or(default)
    }
}

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        in_range(i64::deserialize(deserializer)?, MIN, MAX).map(Self).map_err(D::Error::custom)
    }
}

fn in_range(number: i64, min: i64, max: i64) -> Result<i64, String> {
    if (min..=max).contains(&number) { Ok(number) } else { Err(out_of_range(min, max)) }
}

/// The text for a number that is not in its range.
pub(crate) fn out_of_range(min: i64, max: i64) -> String {
    format!("a whole number from {min} to {max} is wanted")
}

/// Text that `T` parses; its error becomes the diagnostic.
#[derive(Clone, Debug)]
pub struct Text<T>(pub T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// Text that is not blank.
#[derive(Clone, Debug)]
pub struct NotBlank(pub String);

impl FromStr for NotBlank {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Err("this is empty; write a value");
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Key<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for KeyVisitor<T> {
            type Value = Key<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key with its place")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Key<T>, A::Error> {
                let (place, set) = position(map.next_key()?);
                // An error in the value was reported by the deserializer.
                Ok(Key { value: if set { map.next_value().ok() } else { None }, set, place })
            }
        }
        deserializer.deserialize_newtype_struct(KEY, KeyVisitor(PhantomData))
    }
}

/// Where the value of a key is, and whether it is set, from the text that the deserializer gives. Not in the visitor, which is compiled
/// for each type of a value.
fn position(text: Option<String>) -> (Place, bool) {
    let text = text.unwrap_or_default();
    let mut parts = text.splitn(4, ' ');
    let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    let (line, column, set) = (number(), number(), number());
    (Place { line, column, path: parts.next().unwrap_or_default().to_owned() }, set == 1)
}
