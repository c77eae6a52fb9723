//! Heads (wire contract, 2.4): how far a center's stream goes, and the digest of what it owns.

use serde_json::{Map, Value, json};

use super::changes::common;
use super::envelope::{self, Opened, Refused};
use super::fields::Fields;
use super::limits::HEAD_BYTES_MAX;
use crate::access::change::{ErrorCode, Head, OpError, Position};
use crate::access::id::{StreamName, Timestamp};

/// Characters of a SHA-256 in hex.
const DIGEST_CHARS: usize = 64;

/// The head in an opened envelope that came on the topic of `topic_stream`. `seq` may be 0 here: a center that has not reported
/// anything in its epoch yet.
///
/// # Errors
/// [`Refused`] with `unknown_stream` if the topic is another stream's, `invalid_field` or `too_large`.
pub fn parse(opened: &Opened<'_>, topic_stream: &StreamName) -> Result<Head, Refused> {
    read(opened, topic_stream).map_err(|e| opened.refuse(e))
}

fn read(opened: &Opened<'_>, topic_stream: &StreamName) -> Result<Head, OpError> {
    opened.clean(HEAD_BYTES_MAX)?;
    let (stream, fields) = (&opened.stream.name, Fields::message(opened.claims()));
    if stream != topic_stream {
        let what = format_args!("the head of `{stream}` came on the topic of `{topic_stream}`").to_string();
        return Err(fields.error(ErrorCode::UnknownStream, "iss", what));
    }
    let epoch = envelope::epoch(&fields)?;
    let at = Position { epoch, seq: fields.whole("seq", 0)? };
    let digest = fields.text("digest")?;
    if digest.len() != DIGEST_CHARS || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(fields.invalid("digest", "a SHA-256 in 64 hex digits is wanted"));
    }
    let (cards, iat) = (fields.whole("cards", 0)?, envelope::issued_at(&fields));
    Ok(Head { stream: stream.clone(), at, iat, cards, digest: digest.to_ascii_lowercase() })
}

/// The claims of a head as a center writes them; `aud` is a gateway's id or `campus`.
#[must_use]
pub fn claims(head: &Head, aud: &str, iat: Timestamp) -> Map<String, Value> {
    let mut map = common(&head.stream, aud, iat);
    map.insert("epoch".into(), json!(head.at.epoch));
    map.insert("seq".into(), json!(head.at.seq));
    map.insert("cards".into(), json!(head.cards));
    map.insert("digest".into(), json!(head.digest));
    map
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::wire::envelope::{Channel, Scope, StreamSpec, open};
    use crate::wire::may::MaySet;

    fn received(claims: &Map<String, Value>, topic: &str) -> Result<Head, ErrorCode> {
        let streams = [StreamSpec {
            name: "office".parse().unwrap(),
            scope: Scope::Campus,
            keys: vec![],
            insecure_unsigned: true,
            may: MaySet::NONE,
        }];
        let text = Value::Object(claims.clone()).to_string();
        let opened = open(text.as_bytes(), Channel::Campus, &"g1".parse().unwrap(), &streams).unwrap();
        parse(&opened, &topic.parse().unwrap()).map_err(|r| r.error.code)
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let at = Position { epoch: NonZeroU32::new(3).unwrap(), seq: 1042 };
        let iat = Some(Timestamp(0));
        let head = Head { stream: "office".parse().unwrap(), at, iat, cards: 1180, digest: "0a".repeat(32) };
        let mut map = claims(&head, "campus", Timestamp(0));
        assert_eq!(received(&map, "office"), Ok(head.clone()));
        assert_eq!(received(&map, "apartment"), Err(ErrorCode::UnknownStream));
        map.insert("digest".into(), json!("0A".repeat(32)));
        map.insert("seq".into(), json!(0));
        assert_eq!(received(&map, "office"), Ok(Head { at: Position { seq: 0, ..at }, ..head }));
        for (key, value) in [
            ("digest", json!("0A")),
            ("digest", json!("é".repeat(32))),
            ("digest", Value::Null),
            ("cards", json!(-1)),
            ("seq", json!("7")),
            ("epoch", json!(0)),
        ] {
            let mut wrong = map.clone();
            wrong.insert(key.into(), value);
            assert_eq!(received(&wrong, "office"), Err(ErrorCode::InvalidField), "{key}");
        }
        map.insert("x".into(), json!("y".repeat(HEAD_BYTES_MAX)));
        assert_eq!(received(&map, "office"), Err(ErrorCode::TooLarge));
    }
}
