//! Reading JSON objects with the strictness that signed words need: a key given twice or nesting without end is a fault.
//!
//! A fault does not stop the reading, because a well-signed message with a fault still has to give its number.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::limits::{JSON_DEPTH_MAX, JSON_FAULTS_MAX};
use super::text::shorten;
use crate::access::change::{ErrorCode, OpError};

/// A JSON object and what is wrong with its form. A faulty value is `null`, so that neither of two meanings is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    /// The members.
    pub map: Map<String, Value>,
    /// What is wrong with the form; empty for a clean document.
    pub faults: Vec<OpError>,
}

/// Why bytes are no JSON object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonError {
    /// Not UTF-8 JSON.
    #[error("not UTF-8 JSON: {0}")]
    Syntax(String),
    /// JSON, but no object.
    #[error("a JSON object in braces is wanted")]
    NotAnObject,
}

/// Reads one JSON object that fills `bytes` but for white space.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, JsonError> {
    let mut faults = Faults { path: Vec::new(), found: Vec::new() };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Reading { faults: &mut faults }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|e| JsonError::Syntax(shorten(&e.to_string(), 160)))?;
    match value {
        Value::Object(map) => Ok(Document { map, faults: faults.found }),
        _ => Err(JsonError::NotAnObject),
    }
}

enum Step {
    Key(String),
    Index(usize),
}

struct Faults {
    path: Vec<Step>,
    found: Vec<OpError>,
}

impl Faults {
    fn add(&mut self, code: ErrorCode, what: &str) {
        if self.found.len() >= JSON_FAULTS_MAX {
            return;
        }
        let mut place = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => {
                    let dot = if place.is_empty() { "" } else { "." };
                    place = format!("{place}{dot}{}", shorten(key, 64));
                }
                Step::Index(at) => place = format!("{place}[{at}]"),
            }
        }
        let op = match (self.path.first(), self.path.get(1)) {
            (Some(Step::Key(key)), Some(Step::Index(at))) if key == "ops" => u32::try_from(*at).ok(),
            _ => None,
        };
        self.found.push(OpError { op, code, message: format!("`{place}` {what}") });
    }
}

/// Reads one value at the path in `faults`.
struct Reading<'f> {
    faults: &'f mut Faults,
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Reading<'_> {
    fn too_deep(&mut self) -> bool {
        // The members of the outermost object have a path of one step.
        let deep = self.faults.path.len() >= JSON_DEPTH_MAX;
        if deep {
            let what = format!("is nested deeper than {JSON_DEPTH_MAX} levels; flatten it");
            self.faults.add(ErrorCode::TooLarge, &what);
        }
        deep
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        if self.too_deep() {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        }
        let mut list = Vec::new();
        loop {
            self.faults.path.push(Step::Index(list.len()));
            let item = items.next_element_seed(Reading { faults: &mut *self.faults })?;
            self.faults.path.pop();
            match item {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        if self.too_deep() {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        }
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let again = map.contains_key(&key);
            self.faults.path.push(Step::Key(key));
            let value = members.next_value_seed(Reading { faults: &mut *self.faults })?;
            if again {
                self.faults.add(ErrorCode::InvalidField, "is given twice; give each field once");
            }
            if let Some(Step::Key(key)) = self.faults.path.pop() {
                map.insert(key, if again { Value::Null } else { value });
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_given_twice_has_neither_meaning_and_is_named() {
        let read = parse(br#"{"v":1,"ops":[{},{"uid":"A","uid":"B"}],"v":2}"#).unwrap();
        assert_eq!(read.map.get("v"), Some(&Value::Null));
        assert_eq!(read.faults.len(), 2);
        assert_eq!(read.faults[0].op, Some(1));
        assert_eq!(read.faults[0].message, "`ops[1].uid` is given twice; give each field once");
        assert_eq!(read.faults[1].message, "`v` is given twice; give each field once");
    }

    #[test]
    fn endless_nesting_is_a_fault_and_leaves_the_rest_readable() {
        let deep = format!("{{\"seq\":7,\"x\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
        let read = parse(deep.as_bytes()).unwrap();
        assert_eq!(read.map.get("seq"), Some(&Value::from(7)));
        assert_eq!(read.faults[0].code, ErrorCode::TooLarge);
        let just = format!("{{\"x\":{}{}}}", "[".repeat(JSON_DEPTH_MAX - 1), "]".repeat(JSON_DEPTH_MAX - 1));
        assert_eq!(parse(just.as_bytes()).unwrap().faults, []);
        let over = format!("{{\"x\":{}{}}}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
        assert_eq!(parse(over.as_bytes()).unwrap().faults.len(), 1);
    }

    #[test]
    fn what_is_no_single_object_is_refused() {
        for bytes in
            [&b""[..], b"1", b"[]", b"{}x", b"{\"a\":\"\xFF\"}", b"{\"a\":1e999}", b"\xEF\xBB\xBF{}", b"{\"a\":NaN}"]
        {
            assert!(parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        assert!(parse(b" {} \n").is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = parse(&bytes);
        }

        #[test]
        fn no_json_like_text_breaks_the_reader(text in r#"[\[\]{}:,"a01e.\\u-]{0,80}"#) {
            let _read = parse(text.as_bytes());
        }
    }
}
