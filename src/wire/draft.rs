//! What a center's operator writes by hand, and the same message addressed again: for the reference center only.

use serde_json::{Map, Value, json};

use super::envelope::{self, VERSION};
use super::limits::{MESSAGE_BYTES_MAX, OPS_MAX};
use super::may::MaySet;
use super::{json as reading, ops};
use crate::access::change::{Op, Position};
use crate::access::id::{StreamName, Timestamp};

/// The content of a file for `center send`.
#[derive(Clone, Debug, PartialEq)]
pub enum Draft {
    /// Ops; the center finds whose they are and numbers them.
    Ops(Vec<Op>),
    /// A whole message, sent as written even where it is wrong: for trials of what a gateway refuses.
    Claims(Claims),
}

/// The claims of a message written by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

/// Reads a list of ops, an object with `ops` and nothing else, or a whole claims object (recognised by its `iss`).
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn parse(bytes: &[u8]) -> Result<Draft, String> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(format!("{} bytes are too many, {MESSAGE_BYTES_MAX} are allowed; send several files", bytes.len()));
    }
    let text = bytes.trim_ascii();
    // The reader takes objects only; a bare list is the same as an object with it.
    let wrapped = match text.first() {
        Some(b'[') => [b"{\"ops\":", text, b"}"].concat(),
        _ => text.to_vec(),
    };
    let document = reading::parse(&wrapped).map_err(|e| format!("not ops in JSON: {e}"))?;
    if document.map.contains_key("iss") {
        return Ok(Draft::Claims(Claims(document.map)));
    }
    if let Some(fault) = document.faults.first() {
        return Err(fault.message.clone());
    }
    if let Some(other) = document.map.keys().find(|key| *key != "ops") {
        return Err(format!("`{other}` stands beside `ops`; write ops only, or a whole message with `iss`"));
    }
    let Some(Value::Array(list)) = document.map.get("ops") else {
        return Err("a list of ops is wanted, e.g. `[{\"op\":\"report_lost\",\"uid\":\"1EA68671\"}]`".to_owned());
    };
    if list.is_empty() || list.len() > OPS_MAX {
        return Err(format!("1 to {OPS_MAX} ops are wanted, this has {}", list.len()));
    }
    let parsed: Result<Vec<_>, _> =
        list.iter().zip(0_u32..).map(|(value, place)| ops::parse(value, place, MaySet::ALL)).collect();
    parsed.map(Draft::Ops).map_err(|e| format!("{}: {}", e.code.as_str(), e.message))
}

impl Claims {
    /// Which stream is to sign.
    ///
    /// # Errors
    /// `iss` is no stream's name.
    pub fn stream(&self) -> Result<StreamName, String> {
        let iss = self.0.get("iss").and_then(Value::as_str).unwrap_or_default();
        iss.parse().map_err(|e| format!("`iss`: {e}"))
    }

    /// Whether the message brings its own number and so stands outside the stream's.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        self.0.contains_key("seq") || self.0.contains_key("epoch")
    }

    /// The claims with what the operator left out: `v`, `aud`, `iat` and, unless the message is numbered, `epoch` and `seq`.
    #[must_use]
    pub fn complete(&self, aud: &str, iat: Timestamp, at: Position) -> Map<String, Value> {
        let mut map = self.0.clone();
        if !self.is_numbered() {
            map.insert("epoch".into(), json!(at.epoch));
            map.insert("seq".into(), json!(at.seq));
        }
        for (key, value) in [("v", json!(VERSION)), ("aud", json!(aud)), ("iat", json!(iat.unix_seconds()))] {
            map.entry(key).or_insert(value);
        }
        map
    }
}

/// The claims of a message that this center signed, for another audience: same number, same ops.
#[must_use]
pub fn readdressed(message: &[u8], aud: &str) -> Option<Map<String, Value>> {
    let mut map = envelope::unverified(message).ok()?.map;
    map.insert("aud".into(), json!(aud));
    Some(map)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn ops_are_taken_as_a_list_or_under_their_name() {
        let list = br#"[{"op":"reinstate","uid":"1ea68671"}]"#;
        let ops = Draft::Ops(vec![Op::Reinstate { uid: "1EA68671".parse().unwrap() }]);
        assert_eq!(parse(list), Ok(ops.clone()));
        assert_eq!(parse(br#" {"ops":[{"op":"reinstate","uid":"1EA68671"}]}"#), Ok(ops));
    }

    #[test]
    fn a_wrong_file_is_named_before_anything_is_sent() {
        let wrong = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert!(
            wrong(r#"[{"op":"re_issue"}]"#).contains("did you mean `reissue`"),
            "{}",
            wrong(r#"[{"op":"re_issue"}]"#)
        );
        assert!(wrong(r#"{"ops":[],"seq":3}"#).contains("`seq`"));
        assert!(wrong("{}").contains("a list of ops"));
        assert!(wrong("[]").contains("1 to"));
        assert!(wrong("uid,holder").contains("not ops"));
    }

    #[test]
    fn a_whole_message_keeps_what_it_reports_and_gets_what_it_leaves_out() {
        let Ok(Draft::Claims(claims)) = parse(br#"{"iss":"office","v":9,"ops":[{"op":"tea"}]}"#) else { panic!() };
        let at = Position { epoch: NonZeroU32::MIN, seq: 7 };
        let full = claims.complete("g1", Timestamp(5_000), at);
        assert_eq!(
            Value::Object(full),
            json!({"iss":"office","v":9,"aud":"g1","iat":5,"epoch":1,"seq":7,"ops":[{"op":"tea"}]})
        );
    }
}
