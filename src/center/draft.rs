//! What a center's operator writes by hand: ops, or a whole message for trials of what a gateway refuses.

use super::{Center, CenterError, Content, Entry, SignedMessage, Storage};
use crate::access::change::{Op, Position};
use crate::access::id::{GatewayId, StreamName, Timestamp};
use crate::wire::claims::{Members, VERSION};
use crate::wire::down::{self, WriteError};
use crate::wire::envelope::sign;
use crate::wire::limits::MESSAGE_BYTES_MAX;

/// The content of a file for `center send`.
#[derive(Clone, Debug)]
pub enum Draft {
    /// Ops; the center finds the stream of each and numbers the messages.
    Ops(Vec<Op>),
    /// A whole message, sent as written even where it is wrong.
    Claims(DraftClaims),
}

/// The claims of a message written by hand.
#[derive(Clone, Debug)]
pub struct DraftClaims(Members);

impl Draft {
    /// Reads a list of ops, an object with `ops` and nothing else, or a whole claims object (recognised by its `iss`). The error names
    /// what is wrong, where, and what to do.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            let what =
                format!("{} bytes are too many, {MESSAGE_BYTES_MAX} are allowed; send several files", bytes.len());
            return Err(what);
        }
        let text = bytes.trim_ascii();
        // A bare list is the same as an object with it.
        let wrapped = if text.starts_with(b"[") { [b"{\"ops\":", text, b"}"].concat() } else { text.to_vec() };
        let members = Members::parse(&wrapped).map_err(|e| format!("not ops in JSON: {e}"))?;
        if members.get("iss").is_some() {
            return Ok(Self::Claims(DraftClaims(members)));
        }
        if let Some(other) = members.keys().find(|key| *key != "ops") {
            return Err(format!("`{other}` stands beside `ops`; write ops only, or a whole message with `iss`"));
        }
        let example = "write a list of ops, e.g. `[{\"op\":\"report_lost\",\"uid\":\"1EA68671\"}]`";
        let ops = down::read_ops(members.get("ops").ok_or(example)?).map_err(|errors| {
            errors.iter().map(|e| format!("{}: {}", e.code.as_str(), e.message)).collect::<Vec<_>>().join("; ")
        })?;
        if ops.is_empty() { Err(example.to_owned()) } else { Ok(Self::Ops(ops)) }
    }
}

impl DraftClaims {
    /// Which stream is to sign.
    pub(super) fn stream(&self) -> Result<StreamName, CenterError> {
        let iss = self.0.get("iss").unwrap_or_default();
        iss.trim_matches('"').parse().map_err(|e| CenterError::Draft(format!("`iss`: {e}")))
    }

    /// Whether the message brings its own number and so stands outside the stream's.
    pub(crate) fn is_numbered(&self) -> bool {
        self.0.get("seq").or(self.0.get("epoch")).is_some()
    }

    /// The claims with what the operator left out: `v`, `aud`, `iat` and, unless the message is numbered, `epoch` and `seq`.
    pub(super) fn complete(&self, aud: &str, iat: Timestamp, at: Position) -> Result<String, WriteError> {
        let mut members = self.0.clone();
        if !self.is_numbered() {
            members.set("epoch", &at.epoch)?;
            members.set("seq", &at.seq)?;
        }
        if members.get("v").is_none() {
            members.set("v", &VERSION)?;
        }
        if members.get("aud").is_none() {
            members.set("aud", &aud)?;
        }
        if members.get("iat").is_none() {
            members.set("iat", &iat.unix_seconds())?;
        }
        members.to_json()
    }
}

impl<S: Storage> Center<S> {
    /// Signs a message written by hand. One without a number gets the next one of its stream and is appended; one that has a number is
    /// sent as it is and kept nowhere. Fails when `iss` names no stream of this center, no gateway is named for a gateway stream, or the
    /// storage cannot be written.
    pub fn publish_as_written(
        &mut self,
        to: Option<&GatewayId>,
        written: &DraftClaims,
        now: Timestamp,
    ) -> Result<SignedMessage, CenterError> {
        let name = written.stream()?;
        self.transaction(|center| {
            let found = center.streams.iter().enumerate().find(|(_, stream)| stream.spec.name == name);
            let (place, stream) = found.ok_or_else(|| CenterError::UnknownStream(name.clone()))?;
            let audience = center.audience(stream, to)?.ok_or_else(|| CenterError::NoGateway(name.clone()))?;
            let at = stream.next(&audience, center.epoch);
            let message = sign(&written.complete(audience.aud(), now, at)?, &name, &stream.key);
            if written.is_numbered() {
                let own = down::read_evidence(message.as_bytes()).ok().map(|read| (name.clone(), read.at));
                return Ok(SignedMessage { number: own, ..stream.signed_message(&audience, message, at) });
            }
            let content = Entry::read(&message).map_or(Content::Refused, |entry| entry.content);
            let signed = stream.signed_message(&audience, message.clone(), at);
            center.append(place, &audience, at, (content, &message))?;
            Ok(signed)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn ops_are_read_as_a_list_or_under_their_name() {
        for text in [r#"[{"op":"reinstate","uid":"1ea68671"}]"#, r#" {"ops":[{"op":"reinstate","uid":"1EA68671"}]}"#] {
            let Ok(Draft::Ops(ops)) = Draft::parse(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(ops, [Op::Reinstate { uid: "1EA68671".parse().unwrap() }]);
        }
    }

    #[test]
    fn a_wrong_file_is_named_before_anything_is_sent() {
        for (text, part) in [
            (r#"[{"op":"re_issue"}]"#, "unknown_op: `ops[0].op`"),
            (r#"{"ops":[],"seq":3}"#, "`seq` stands beside"),
            (r#"[{"op":"found","op":"found","uid":"1EA68671"}]"#, "`ops[0].op`: is given twice"),
            ("{}", "write a list of ops"),
            ("[]", "write a list of ops"),
            ("uid,holder", "not ops"),
        ] {
            let error = Draft::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_whole_message_keeps_its_fields_and_gets_those_it_lacks() {
        let text = br#"{"iss":"office","v":9,"ops":[{"op":"tea"}]}"#;
        let Ok(Draft::Claims(claims)) = Draft::parse(text) else { panic!("not claims") };
        let at = Position { epoch: NonZeroU32::MIN, seq: 7 };
        assert_eq!(
            claims.complete("g1", Timestamp(5_000), at).unwrap(),
            r#"{"aud":"g1","epoch":1,"iat":5,"iss":"office","ops":[{"op":"tea"}],"seq":7,"v":9}"#
        );
    }
}
