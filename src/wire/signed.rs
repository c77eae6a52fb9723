//! Whether a signed message that was kept is of the stream it is recorded for: the look back at what [`envelope`](super::envelope)
//! verified on arrival.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;

use super::envelope;
use super::text::quote;
use crate::access::event::{AuditEvent, Event, StreamRevision};
use crate::access::snapshot::PART_SEPARATOR;

/// The keys of the streams that are configured, by their names: an empty list where one need not sign.
pub type StreamKeys = BTreeMap<String, Vec<VerifyingKey>>;

/// What a kept message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A key of its stream verifies it.
    Verified,
    /// Nothing can be known: no stream of this name is configured, or it need not sign.
    NoKey(String),
    /// It is not what its stream signed.
    Wrong(String),
}

/// What an event is recorded for, and whether as a change, which has one number. A message that was rejected is not kept, although its
/// number is used up: such events without one are in every journal, so it would prove nothing of those that have none.
fn recorded_for(event: &Event) -> Option<(&StreamRevision, bool)> {
    match event {
        Event::ChangesApplied { revision, snapshot } => Some((revision, snapshot.is_none())),
        _ => None,
    }
}

/// Judges the message that is kept as `evidence` beside `event`; `None`: none belongs there, and none is.
#[must_use]
pub fn prove(event: &AuditEvent, evidence: &[u8], keys: &StreamKeys) -> Option<Proof> {
    let recorded = recorded_for(&event.body);
    let Some((revision, is_change)) = recorded else {
        return (!evidence.is_empty()).then(|| Proof::Wrong("no message belongs to an event of its type".to_owned()));
    };
    let stream = revision.stream.as_str();
    let Some(keys) = keys.get(stream).filter(|keys| !keys.is_empty()) else {
        return Some(Proof::NoKey(stream.to_owned()));
    };
    let wrong = evidence.split(|byte| *byte == PART_SEPARATOR).find_map(|part| wrong(part, revision, is_change, keys));
    Some(wrong.map_or(Proof::Verified, Proof::Wrong))
}

/// What is wrong with one signed message.
fn wrong(message: &[u8], revision: &StreamRevision, is_change: bool, keys: &[VerifyingKey]) -> Option<String> {
    let stream = revision.stream.as_str();
    match envelope::signed_by(message, keys) {
        Some(kid) if kid != stream => {
            Some(format!("it is recorded for stream `{stream}` and signed as {}", quote(&kid)))
        }
        Some(_) => {
            let at = envelope::peek(message).at;
            let is_there = at.is_some_and(|at| (at.epoch, at.seq) == (revision.epoch, revision.seq));
            (is_change && !is_there)
                .then(|| format!("it is message {} of stream `{stream}`, and another is signed", revision.seq))
        }
        None => Some(format!(
            "no configured key of stream `{stream}` verifies the message beside it; if it is older than a change of the key, name \
             the former one with `--former-key`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::access::change::ErrorCode;
    use crate::access::event::Mark;
    use crate::access::id::{ClockTrust, Mono, Now, Timestamp};

    fn event(seq: u64) -> AuditEvent {
        let revision = StreamRevision { stream: "office".parse().unwrap(), epoch: NonZeroU32::MIN, seq };
        let now = Now { wall: Timestamp(0), mono: Mono(0), clock: ClockTrust::Trusted };
        AuditEvent::new(1, "b", now, Event::ChangesApplied { revision, snapshot: None })
    }

    fn message(stream: &str, seq: u64, key: u8) -> String {
        let claims = format!(r#"{{"v":1,"iss":"{stream}","aud":"g","iat":1,"epoch":1,"seq":{seq},"ops":[]}}"#);
        envelope::sign(&claims, &stream.parse().unwrap(), &SigningKey::from_bytes(&[key; 32]))
    }

    fn keys(of: &[u8]) -> StreamKeys {
        let of = of.iter().map(|key| SigningKey::from_bytes(&[*key; 32]).verifying_key());
        BTreeMap::from([("office".to_owned(), of.collect()), ("trial".to_owned(), Vec::new())])
    }

    fn is_wrong(event: &AuditEvent, evidence: &str, of: &[u8]) -> bool {
        matches!(prove(event, evidence.as_bytes(), &keys(of)), Some(Proof::Wrong(_)))
    }

    #[test]
    fn a_message_is_proved_by_a_key_of_the_stream_it_is_recorded_for_and_for_its_number_only() {
        let signed = message("office", 3, 1);
        assert_eq!(prove(&event(3), signed.as_bytes(), &keys(&[2, 1])), Some(Proof::Verified));
        assert!(is_wrong(&event(3), &signed, &[2]), "another key");
        assert!(is_wrong(&event(4), &signed, &[1]), "an old message under a new number");
        assert!(is_wrong(&event(3), &message("other", 3, 1), &[1]), "under the name of another stream");
        assert!(is_wrong(&event(3), "", &[1]), "none");
        assert!(is_wrong(&event(3), r#"{"v":1,"iss":"office","epoch":1,"seq":3}"#, &[1]), "unsigned");
        let (text, _) = signed.rsplit_once('.').unwrap();
        assert!(is_wrong(&event(3), &format!("{text}.{}", "A".repeat(86)), &[1]), "no signature");
        for stream in ["trial", "former"] {
            let revision = StreamRevision { stream: stream.parse().unwrap(), epoch: NonZeroU32::MIN, seq: 3 };
            let event = AuditEvent { body: Event::ChangesApplied { revision, snapshot: None }, ..event(3) };
            assert_eq!(prove(&event, b"{}", &keys(&[1])), Some(Proof::NoKey(stream.to_owned())));
        }
        let note = AuditEvent { body: Event::Config { mark: Mark::Note, detail: String::new() }, ..event(1) };
        assert_eq!(prove(&note, b"", &keys(&[1])), None);
        assert!(is_wrong(&note, &signed, &[1]), "beside an event that has none");
        let used_up = Some(StreamRevision { stream: "office".parse().unwrap(), epoch: NonZeroU32::MIN, seq: 3 });
        let body = Event::RejectedMessage { code: ErrorCode::ForbiddenOp, used_up, count: 0, detail: String::new() };
        let rejected = AuditEvent { body, ..event(3) };
        assert_eq!(prove(&rejected, b"", &keys(&[1])), None, "of a message without effect nothing is kept");
        assert!(is_wrong(&rejected, &signed, &[1]));
    }

    #[test]
    fn every_part_of_a_snapshot_is_proved() {
        let snapshot = crate::access::event::AppliedSnapshot { id: "s".into(), owns: Default::default() };
        let revision = StreamRevision { stream: "office".parse().unwrap(), epoch: NonZeroU32::MIN, seq: 9 };
        let event = AuditEvent { body: Event::ChangesApplied { revision, snapshot: Some(snapshot) }, ..event(9) };
        let parts = |keys: [u8; 2]| keys.map(|key| message("office", 9, key)).join("\u{1e}");
        assert_eq!(prove(&event, parts([1, 1]).as_bytes(), &keys(&[1])), Some(Proof::Verified));
        assert!(is_wrong(&event, &parts([1, 2]), &[1]));
    }
}
