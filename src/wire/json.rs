//! The one way to read and to write JSON. Reading is two passes: [`check`] finds what no type finds (a key given twice, nesting
//! without end), then [`read`] and [`read_tagged`] give a typed value or an error that names op, field and code.
//!
//! A fault of form does not stop the first pass, because the number of a well-signed message with a fault is still needed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use super::limits::{JSON_DEPTH_MAX, JSON_FAULTS_MAX, OP_ERRORS_MAX, QUOTE_CHARS_MAX};
use super::text::shorten;
use super::wanted::sentence;
use crate::access::change::{ErrorCode, OpError};

/// Why bytes are not a JSON object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object: {0}")]
pub(super) struct JsonError(String);

/// The text of the one JSON object that fills `bytes`, and what is wrong with its form.
pub(super) fn check(bytes: &[u8]) -> Result<(&str, Vec<OpError>), JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|e| JsonError(format!("not UTF-8: {e}")))?;
    let mut form = Form { path: Vec::new(), faults: Vec::new() };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let checked = Check(&mut form).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    checked.map_err(|e| JsonError(shorten(&e.to_string(), 4 * QUOTE_CHARS_MAX)))?;
    if !text.trim_start().starts_with('{') {
        return Err(JsonError("an object in braces is wanted".to_owned()));
    }
    Ok((text, form.faults))
}

/// A key, borrowed where it has no escapes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(transparent)]
struct Key<'t>(#[serde(borrow)] Cow<'t, str>);

enum Step<'t> {
    Key(Key<'t>),
    Index(usize),
}

struct Form<'t> {
    path: Vec<Step<'t>>,
    faults: Vec<OpError>,
}

impl Form<'_> {
    fn add(&mut self, code: ErrorCode, what: &str) {
        if self.faults.len() >= JSON_FAULTS_MAX {
            return;
        }
        let mut place = String::new();
        for step in &self.path {
            match step {
                Step::Key(Key(key)) => push_key(&mut place, key),
                Step::Index(at) => place = format!("{place}[{at}]"),
            }
        }
        let op = match self.path.as_slice() {
            [Step::Key(Key(key)), Step::Index(at), ..] if key == "ops" => u32::try_from(*at).ok(),
            _ => None,
        };
        self.faults.push(OpError { op, code, message: format!("`{place}`: {what}") });
    }

    fn too_deep(&mut self) -> bool {
        // The members of the outermost object have a path of one step.
        let deep = self.path.len() >= JSON_DEPTH_MAX;
        if deep {
            let what = format!("is nested deeper than {JSON_DEPTH_MAX} levels; flatten it");
            self.add(ErrorCode::TooLarge, &what);
        }
        deep
    }
}

/// Appends the name of a field to a path.
fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&shorten(key, QUOTE_CHARS_MAX));
}

/// Checks the value at the path in `Form`.
struct Check<'f, 't>(&'f mut Form<'t>);

impl<'t> DeserializeSeed<'t> for Check<'_, 't> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Check<'_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut items: A) -> Result<(), A::Error> {
        if self.0.too_deep() {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        for at in 0.. {
            self.0.path.push(Step::Index(at));
            let item = items.next_element_seed(Check(self.0))?;
            self.0.path.pop();
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'t>>(self, mut members: A) -> Result<(), A::Error> {
        if self.0.too_deep() {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        while let Some(key) = members.next_key::<Key<'t>>()? {
            let again = !seen.insert(key.clone());
            self.0.path.push(Step::Key(key));
            members.next_value_seed(Check(self.0))?;
            if again {
                self.0.add(ErrorCode::InvalidField, "is given twice; give each field once");
            }
            self.0.path.pop();
        }
        Ok(())
    }
}

/// Where an object stands in a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// It is the message itself.
    Message,
    /// It is this op of it.
    Op(u32),
    /// It is this item of a list with this name.
    In(&'static str, usize),
}

impl Place {
    /// An error at field `path` of the object.
    pub fn error(self, code: ErrorCode, path: &str, what: impl fmt::Display) -> OpError {
        let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        let (op, message) = match self {
            Self::Message => (None, format!("`{path}`: {what}")),
            Self::Op(op) => (Some(op), format!("`ops[{op}]{dot}{path}`: {what}")),
            Self::In(list, at) => (None, format!("`{list}[{at}]{dot}{path}`: {what}")),
        };
        OpError { op, code, message }
    }

    /// The same of a value whose fields have the right form.
    pub fn wrong(self, (code, field, what): Wrong) -> OpError {
        self.error(code, &field, what)
    }
}

/// What is wrong with a value whose fields have the right form: code, field, message.
pub(super) type Wrong = (ErrorCode, String, String);

/// An `invalid_field`.
pub(super) fn invalid(field: impl Into<String>, what: impl Into<String>) -> Wrong {
    (ErrorCode::InvalidField, field.into(), what.into())
}

/// `too_large` for a list that is longer than `most`.
pub(super) fn at_most<T>(list: &[T], most: usize, field: &str) -> Result<(), Wrong> {
    if list.len() > most {
        let what = format!("{} items are too many, {most} are allowed", list.len());
        return Err((ErrorCode::TooLarge, field.to_owned(), what));
    }
    Ok(())
}

/// All items, if each is right; or what is wrong with the first [`OP_ERRORS_MAX`] of the wrong ones, and how many more there are.
pub(super) fn all_right<T>(items: impl Iterator<Item = Result<T, OpError>>) -> Result<Vec<T>, (Vec<OpError>, usize)> {
    let (mut right, mut errors, mut more) = (Vec::with_capacity(items.size_hint().0), Vec::new(), 0);
    for item in items {
        match item {
            Ok(item) => right.push(item),
            Err(error) if errors.len() < OP_ERRORS_MAX => errors.push(error),
            Err(_) => more += 1,
        }
    }
    if errors.is_empty() { Ok(right) } else { Err((errors, more)) }
}

/// The value of type `T` that is `text`. An error has the code `invalid_uid` at a field that holds a UID, else `invalid_field`.
pub(super) fn read<'t, T: Deserialize<'t>>(text: &'t str, place: Place) -> Result<T, OpError> {
    serde_json::from_str(text).map_err(|_| {
        // The path costs time, so it is only followed for an error.
        match serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(text)) {
            Err(error) => describe(&error, place),
            Ok(_) => place.error(ErrorCode::InvalidField, "", "more follows the value"),
        }
    })
}

/// The members of an object, each still unread: one that cannot be read does not hide the others. One that is given twice or is
/// `null` counts as absent.
pub(super) struct Fields<'t>(BTreeMap<Key<'t>, Option<&'t RawValue>>);

impl<'t> Fields<'t> {
    /// Field `key`, if it is there.
    pub fn read<T: Deserialize<'t>>(&self, key: &str) -> Result<Option<T>, OpError> {
        let key = Key(Cow::Borrowed(key));
        let Some(raw) = self.0.get(&key).copied().flatten() else { return Ok(None) };
        let named = |e: OpError| OpError { message: e.message.replacen("``", &format!("`{}`", key.0), 1), ..e };
        read(raw.get(), Place::Message).map(Some).map_err(named)
    }

    /// Field `key`, which has to be there.
    pub fn need<T: Deserialize<'t>>(&self, key: &str) -> Result<T, OpError> {
        let missing = || Place::Message.error(ErrorCode::InvalidField, key, "is missing; add it");
        self.read(key)?.ok_or_else(missing)
    }
}

impl<'t> Deserialize<'t> for Fields<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'t> Visitor<'t> for Members {
            type Value = Fields<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'t>>(self, mut members: A) -> Result<Fields<'t>, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((key, value)) = members.next_entry::<Key<'t>, &RawValue>()? {
                    let value = Some(value).filter(|value| value.get() != "null");
                    all.entry(key).and_modify(|earlier| *earlier = None).or_insert(value);
                }
                Ok(Fields(all))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// The variant of the enum `T` that is called `name`, with its fields from the object `text`. (serde's own tagged enums lose the path of
/// an error.)
pub(super) fn read_tagged<T: DeserializeOwned>(name: &str, text: &str, place: Place) -> Result<T, OpError> {
    // serde would take a list for the fields in their order.
    if text.trim_start().starts_with('[') {
        return Err(place.error(ErrorCode::InvalidField, "", "an object in braces is wanted"));
    }
    read(&format!("{{\"{name}\":{text}}}"), place)
}

/// A typed error as it is answered. serde names what is missing in its text, not in the path.
fn describe(error: &serde_path_to_error::Error<serde_json::Error>, place: Place) -> OpError {
    let mut path = String::new();
    for segment in error.path() {
        match segment {
            Segment::Map { key } => push_key(&mut path, key),
            Segment::Seq { index } => path = format!("{path}[{index}]"),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let text = error.inner().to_string();
    // serde's position is that within one op, and would mislead.
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let missing = what.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    if let Some(field) = missing {
        push_key(&mut path, field);
    }
    if missing.is_some() || what.starts_with("invalid type: null") {
        return place.error(ErrorCode::InvalidField, &path, "is missing; add it");
    }
    let is_uid = matches!(path.as_str(), "uid" | "old_uid" | "new_uid");
    let what = match what {
        "expected value" => "one of its names in quotes is wanted".to_owned(),
        other => sentence(other),
    };
    let code = if is_uid { ErrorCode::InvalidUid } else { ErrorCode::InvalidField };
    place.error(code, &path, what)
}

/// Writes an enum as the object of its variant, with the variant's name in field `tag`: what [`read_tagged`] reads.
pub(super) fn write_tagged<T: Serialize, S: Serializer>(tag: &str, body: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let value = serde_json::to_value(body).map_err(S::Error::custom)?;
    let Value::Object(variant) = value else { return Err(S::Error::custom("not a variant with fields")) };
    let mut object = serde_json::Map::new();
    for (name, fields) in variant {
        object.insert(tag.to_owned(), Value::String(name));
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
    }
    object.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn faults(text: &str) -> Vec<OpError> {
        check(text.as_bytes()).unwrap().1
    }

    #[test]
    fn the_fields_of_a_variant_are_read_from_an_object_and_not_from_a_list() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Body {
            Pair { a: u8, b: u8 },
        }
        let read = |text: &str| read_tagged::<Body>("pair", text, Place::Message).map_err(|error| error.message);
        assert_eq!(read(r#" {"op":"pair","a":1,"b":2}"#), Ok(Body::Pair { a: 1, b: 2 }));
        assert!(read("[1,2]").unwrap_err().contains("an object in braces is wanted"));
    }

    #[test]
    fn what_is_not_json_has_its_place_in_a_text_that_is_not_long() {
        let error = |bytes: &[u8]| check(bytes).err().map(|error| error.to_string());
        assert_eq!(error(br#"{"v":}"#).as_deref(), Some("not a JSON object: expected value at line 1 column 6"));
        assert_eq!(error(b"[]").as_deref(), Some("not a JSON object: an object in braces is wanted"));
        assert_eq!(error(br#"{"v":1}"#), None);
    }

    #[test]
    fn a_field_given_twice_is_named() {
        let faults = faults(r#"{"v":1,"ops":[{},{"uid":"A","u\u0069d":"B"}],"v":2}"#);
        let named: Vec<_> = faults.iter().map(|f| (f.op, f.code, f.message.as_str())).collect();
        let what = |at: &str| format!("`{at}`: is given twice; give each field once");
        let (uid, v) = (what("ops[1].uid"), what("v"));
        assert_eq!(
            named,
            [(Some(1), ErrorCode::InvalidField, uid.as_str()), (None, ErrorCode::InvalidField, v.as_str())]
        );
    }

    #[test]
    fn nesting_is_counted_and_deep_nesting_is_one_fault() {
        let nested = |depth: usize| format!("{{\"seq\":7,\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(faults(&nested(JSON_DEPTH_MAX - 1)), []);
        for depth in [JSON_DEPTH_MAX, 50_000] {
            let codes: Vec<_> = faults(&nested(depth)).iter().map(|f| f.code).collect();
            assert_eq!(codes, [ErrorCode::TooLarge]);
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for bytes in
            [&b""[..], b"1", b"[]", b"{}x", b"{\"a\":\"\xFF\"}", b"{\"a\":1e999}", b"\xEF\xBB\xBF{}", b"{\"a\":NaN}"]
        {
            assert!(check(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        assert!(check(b" {} \n").is_ok());
    }

    proptest! {
        #[test]
        fn what_passes_the_check_is_json_for_others_too(text in r#"[\[\]{}:,"a01e.\\u-]{0,80}"#) {
            let passed = check(text.as_bytes()).is_ok();
            prop_assert_eq!(passed, serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object()));
        }
    }
}
