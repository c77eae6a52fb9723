//! What of an audit event a person sees who has not logged in: of a UID the last four hex digits, as in the log. A UID can be copied to
//! a card; the screen in the warden's room is seen by many.

use crate::access::event::{AlarmKind, AuditEvent, Event, Mark};
use crate::access::id::HASH_PREFIX;
use crate::access::scrub::{SHOWN, unseen, unseen_message};
use crate::wire::text::quoted_len;

/// Fields that name what is not a card: an id that an office chose may be as long as a UID. The last three list portals in the status, and
/// are compared with the names of the tiles.
const NAMES: [&str; 7] = ["holder", "portal", "boot", "zone", "offline", "unreported", "on"];
/// How the hashes begin in the bytes of an event: of the event before, of what is kept beside it, and of what was erased.
const HASHES: [&[u8]; 3] = [br#","prev":""#, br#","evidence":""#, br#","hash":""#];

/// The same JSON, with each UID masked, in whatever text it stands. The keyed hash of a UID stays: no card can be made from it.
pub(super) fn masked(json: &[u8]) -> Vec<u8> {
    masked_by(json, unseen)
}

/// The same, with what hides the UIDs in a text.
fn masked_by(json: &[u8], unseen: fn(&str) -> String) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut rest, mut key) = (json, String::new());
    while let Some(at) = rest.iter().position(|byte| *byte == b'"') {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        let Some(len) = quoted_len(from) else {
            rest = from;
            break;
        };
        let (text, after) = from.split_at(len);
        if after.first() == Some(&b':') {
            key = serde_json::from_slice(text).unwrap_or_default();
            out.extend_from_slice(text);
        } else {
            out.extend_from_slice(&masked_text(&key, text, unseen).unwrap_or_else(|| text.to_vec()));
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// The value of a field with what may be a UID masked; `None`: it stays as it is.
fn masked_text(key: &str, json: &[u8], unseen: fn(&str) -> String) -> Option<Vec<u8>> {
    let text = serde_json::from_slice::<String>(json).ok().filter(|_| !NAMES.contains(&key))?;
    let masked = match key {
        "uid" if text.starts_with(HASH_PREFIX) => return None,
        "uid" if text.len() > SHOWN && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("…{}", text.split_at(text.len() - SHOWN).1)
        }
        _ => unseen(&text),
    };
    (masked != text).then(|| serde_json::to_vec(&masked).ok()).flatten()
}

/// Whether of an event only its number and time are shown without a login. Nothing that others see may show that somebody is under
/// duress: neither the alarm, nor that its number is left out, nor that somebody has seen to it. What only offices and operators need
/// is shown in the same way, so that not every such event is that alarm.
pub(super) fn is_hidden(event: &Event) -> bool {
    matches!(
        event,
        Event::Alarm { kind: AlarmKind::Duress, .. }
            | Event::Config { mark: Mark::AlarmsAcknowledged { .. } | Mark::PassagesErased(_) | Mark::Note, .. }
            | Event::ChangesApplied { .. }
            | Event::RevocationDurable { .. }
    )
}

/// What is shown in place of such an event.
pub(super) fn hidden(event: &AuditEvent) -> Vec<u8> {
    format!(r#"{{"n":{},"at":"{}","type":"hidden"}}"#, event.n, event.at).into_bytes()
}

/// The bytes of an event without what can be compared with a guess: all of it but two bytes of a UID is shown, so that the hash of the
/// whole event, or of what it rests on, would show these two.
fn without_hashes(mut json: Vec<u8>) -> Vec<u8> {
    for key in HASHES {
        let find = |json: &[u8]| json.windows(key.len()).position(|window| window == key);
        while let Some(at) = find(&json) {
            let value = at + key.len();
            let len = json.get(value..).and_then(|rest| rest.iter().position(|byte| *byte == b'"'));
            json.drain(at..len.map_or(json.len(), |len| value + len + 1));
        }
    }
    json
}

/// An event for somebody who has not logged in.
pub(super) fn event(json: &[u8], event: Option<&AuditEvent>) -> Vec<u8> {
    match event {
        Some(event) if is_hidden(&event.body) => hidden(event),
        Some(AuditEvent { body: Event::RejectedMessage { .. }, .. }) => without_hashes(masked_by(json, unseen_message)),
        _ => without_hashes(masked(json)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_uid_is_masked_and_nothing_else() {
        for (json, expected) in [
            (r#"{"n":1,"uid":"1EA68671","holder":"p1"}"#, r#"{"n":1,"uid":"…8671","holder":"p1"}"#),
            (r#"{"uid":"04A1B2C3D4E5F6"}"#, r#"{"uid":"…E5F6"}"#),
            (r#"[{"uid":"1EA68671"},{"uid":"5B3C0D92"}]"#, r#"[{"uid":"…8671"},{"uid":"…0D92"}]"#),
            (r#"{"uid":"h:5f2b0c00112233445566"}"#, r#"{"uid":"h:5f2b0c00112233445566"}"#),
            (r#"{"detail":"a \"uid\":\"1EA68671\" in a text"}"#, r#"{"detail":"a \"uid\":\"…8671\" in a text"}"#),
            (
                r#"{"detail":"presented `1EA68671AB`","n":7}"#,
                r#"{"detail":"presented 10 characters that are no UID","n":7}"#,
            ),
            (r#"{"detail":"read as `A68671` (x)","n":7}"#, r#"{"detail":"read as (x)","n":7}"#),
            (r#"{"detail":"\u00011EA68671 \\1ea68672"}"#, r#"{"detail":"\u0001…8671 \\…8672"}"#),
            (
                r#"{"errors":["got `0x1EA68671`",{"new_uid":"1EA68671"}]}"#,
                r#"{"errors":["got `0x…8671`",{"new_uid":"…8671"}]}"#,
            ),
            (r#"{"uid":"1EA68671 "}"#, r#"{"uid":"…8671 "}"#),
            (
                r#"{"n":12345678,"at":"2026-11-30T15:00:00.000Z","boot":"00aa11bb22cc33dd","holder":"20230415","portal":"door-00000412"}"#,
                r#"{"n":12345678,"at":"2026-11-30T15:00:00.000Z","boot":"00aa11bb22cc33dd","holder":"20230415","portal":"door-00000412"}"#,
            ),
            (
                r#"{"offline":["door-00000412","box-01-04-12-02"],"unreported":["gate-20260901"],"on":["box-01-04-12-02"],"why":"1EA68671"}"#,
                r#"{"offline":["door-00000412","box-01-04-12-02"],"unreported":["gate-20260901"],"on":["box-01-04-12-02"],"why":"…8671"}"#,
            ),
            (r#"{"uid":"1EA6"#, r#"{"uid":"1EA6"#),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8(masked(json.as_bytes())).unwrap(), expected);
        }
    }

    /// A center that mixes up two fields writes a UID where an op, a holder or a command belongs.
    #[test]
    fn of_a_rejected_message_everybody_sees_what_is_wrong_and_not_what_was_written() {
        use crate::access::id::{ClockTrust, Mono, Now, Timestamp};
        let now = Now { wall: Timestamp(0), mono: Mono(0), clock: ClockTrust::Trusted };
        for (detail, expected) in [
            (
                "changes from office 3.7: `ops[0].op`: `x1EA68671` is not an op; did you mean `reissue`?",
                "changes from office 3.7: `ops[0].op`: text of 9 characters is not an op; did you mean `reissue`?",
            ),
            ("`command`: `1EA68671H` is not a command", "`command`: text of 9 characters is not a command"),
            ("got `30 166 134 113`, `1E/A6/86/71`", "got text of 14 characters, text of 11 characters"),
            ("got `１ＥＡ６８６７１`; `ops[12].uid`", "got text of 8 characters; `ops[12].uid`"),
            ("`1EA68671` twice", "text of 8 characters twice"),
            ("invalid type: string \"UID1EA68671\", expected x", "invalid type: string …, expected x"),
            ("a time like `2026-09-01T08:00:00.000Z`", "a time like `2026-09-01T08:00:00.000Z`"),
            (
                "`entries[12].set.lost`: `free_access` at `door-412`",
                "`entries[12].set.lost`: `free_access` at `door-412`",
            ),
            ("not `ended 1EA68671h", "not text of 15 characters"),
        ] {
            let code = crate::access::change::ErrorCode::InvalidField;
            let body = Event::RejectedMessage { code, used_up: None, count: 0, detail: detail.to_owned() };
            let json = serde_json::json!({ "type": "rejected_message", "detail": detail }).to_string();
            let header = AuditEvent::new(1, "b1", now, body);
            let shown = event(json.as_bytes(), Some(&header));
            let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
            assert_eq!(shown["detail"], expected);
        }
    }

    #[test]
    fn no_hash_is_left_and_a_text_about_one_is() {
        for (json, expected) in [
            (r#"{"n":1,"detail":"x","evidence":"5f","prev":"2b"}"#, r#"{"n":1,"detail":"x"}"#),
            (r#"{"n":1,"type":"erased","hash":"5f","prev":"2b"}"#, r#"{"n":1,"type":"erased"}"#),
            (r#"{"detail":"a,\"prev\":\"2b\" text","prev":"2b"}"#, r#"{"detail":"a,\"prev\":\"2b\" text"}"#),
            (r#"{"n":1,"prev":"2b"#, r#"{"n":1"#),
        ] {
            assert_eq!(String::from_utf8(event(json.as_bytes(), None)).unwrap(), expected);
        }
    }
}
