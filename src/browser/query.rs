//! The query of a request: a key that is not known, that is missing or that has a wrong value is refused with its name and with what is
//! wanted. A misspelt key that was passed over would give an answer to another question.

use std::collections::BTreeSet;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::Uri;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor, value};

/// Why a query cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// The key that is wrong; `None`: the query as a whole.
    pub key: Option<String>,
    /// What is wrong, and what is wanted.
    pub message: String,
}

/// Reads the query of a request as the fields of `T`.
///
/// # Errors
/// [`QueryError`] names the key, and the keys that there are.
pub fn read<T: DeserializeOwned>(uri: &Uri) -> Result<T, QueryError> {
    check(uri, keys_of::<T>())?;
    part(uri)
}

/// The same where somebody else reads, and judges, the other keys.
///
/// # Errors
/// [`QueryError`] names a key that is missing or whose value is wrong.
pub fn part<T: DeserializeOwned>(uri: &Uri) -> Result<T, QueryError> {
    Query::try_from_uri(uri).map(|Query(asked)| asked).map_err(|error| {
        let text = error.body_text();
        let what = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, what)| what);
        let known = keys_of::<T>().unwrap_or_default();
        // A missing key is named between backticks, one with a wrong value in front of what is wrong with it.
        let missing = what.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        if let Some(key) = missing {
            let message = format!("`{key}` is missing; `{}` takes {}", uri.path(), listed(known));
            return QueryError { key: Some(key.to_owned()), message };
        }
        let Some((key, why)) = what.split_once(": ").filter(|(key, _)| known.contains(key)) else {
            return QueryError { key: None, message: format!("the query: {what}") };
        };
        let wanted = if why.contains("true") {
            "; `true` or `false` is wanted".to_owned()
        } else if ["digit", "integer", "number"].iter().any(|of_a_number| why.contains(of_a_number)) {
            "; a whole number is wanted".to_owned()
        } else {
            format!(": {why}")
        };
        QueryError { key: Some(key.to_owned()), message: format!("`{key}` is `{}`{wanted}", value_of(uri, key)) }
    })
}

/// Refuses the query of a path that takes none.
///
/// # Errors
/// [`QueryError`] names the first key.
pub fn none(uri: &Uri) -> Result<(), QueryError> {
    check(uri, Some(&[]))
}

/// The keys and values of a query.
fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, QueryError> {
    let wrong = |error: QueryRejection| QueryError { key: None, message: format!("the query: {}", error.body_text()) };
    Query::try_from_uri(uri).map(|Query(pairs)| pairs).map_err(wrong)
}

fn value_of(uri: &Uri, key: &str) -> String {
    let given = pairs(uri).unwrap_or_default();
    given.into_iter().find(|(name, _)| name == key).map_or_else(String::new, |(_, value)| value)
}

/// Each key is there once, and known; `None`: any may be there.
fn check(uri: &Uri, known: Option<&[&str]>) -> Result<(), QueryError> {
    let Some(known) = known else { return Ok(()) };
    let given = pairs(uri)?;
    let mut seen = BTreeSet::new();
    for (key, _) in &given {
        let wrong = |message| QueryError { key: Some(key.clone()), message };
        if !known.contains(&key.as_str()) {
            let message = format!("`{key}` is not a parameter of `{}`, which takes {}", uri.path(), listed(known));
            return Err(wrong(message));
        }
        if !seen.insert(key) {
            return Err(wrong(format!("`{key}` is given twice")));
        }
    }
    Ok(())
}

fn listed(keys: &[&str]) -> String {
    match keys {
        [] => "none".to_owned(),
        keys => keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
    }
}

/// The names of the fields of `T`, if it is a struct.
fn keys_of<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut keys = None;
    // The error is how the names get out.
    drop(T::deserialize(Names(&mut keys)));
    keys
}

/// Takes the names of a struct's fields, and reads nothing.
struct Names<'n>(&'n mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = Some(fields);
        Err(Self::Error::custom("read"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("no struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Asked {
        uid: String,
        portal: Option<String>,
        from: Option<u64>,
        #[serde(default)]
        force: bool,
        #[serde(rename = "type")]
        kind: Option<String>,
    }

    fn asked(query: &str) -> Result<Asked, QueryError> {
        read(&format!("/api/v1/query?{query}").parse().unwrap())
    }

    #[test]
    fn a_query_is_read_by_its_keys() {
        let Asked { uid, portal, from, force, kind } = asked("uid=1E%3AA6&from=7&force=true&type=x&").unwrap();
        assert_eq!((uid.as_str(), portal, from, force, kind.as_deref()), ("1E:A6", None, Some(7), true, Some("x")));
    }

    #[test]
    fn what_is_wrong_with_a_query_is_refused_with_the_key_and_what_is_wanted() {
        for (query, key, message) in [
            ("", "uid", "`uid` is missing; `/api/v1/query` takes `uid`, `portal`, `from`, `force`, `type`"),
            (
                "uid=1&zz=1",
                "zz",
                "`zz` is not a parameter of `/api/v1/query`, which takes `uid`, `portal`, `from`, `force`, `type`",
            ),
            ("uid=1&uid=2", "uid", "`uid` is given twice"),
            ("uid=1&from=abc", "from", "`from` is `abc`; a whole number is wanted"),
            ("uid=1&from=-1", "from", "`from` is `-1`; a whole number is wanted"),
            ("uid=1&from=", "from", "`from` is ``; a whole number is wanted"),
            ("uid=1&force=yes", "force", "`force` is `yes`; `true` or `false` is wanted"),
        ] {
            let error = asked(query).unwrap_err();
            assert_eq!((error.key.as_deref(), error.message.as_str()), (Some(key), message), "{query}");
        }
        let some = part::<Asked>(&"/x?uid=1&zz=1".parse().unwrap()).map(|asked| asked.uid);
        assert_eq!(some, Ok("1".to_owned()), "somebody else reads the others");
        let nothing = |text: &str| none(&text.parse().unwrap());
        assert_eq!((nothing("/x"), nothing("/x?")), (Ok(()), Ok(())));
        assert_eq!(nothing("/x?zz=1").unwrap_err().message, "`zz` is not a parameter of `/x`, which takes none");
    }
}
