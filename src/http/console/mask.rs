//! What of an audit event a person sees who has not logged in: of a UID the last four hex digits, as in the log. A UID can be copied to
//! a card; the screen in the warden's room is seen by many.

use crate::access::event::{AlarmKind, Event};

/// How the UID begins in the bytes of an event. In the text of another field a quotation mark has a backslash before it.
const UID: &[u8] = br#""uid":""#;
/// Hex digits that are shown.
const SHOWN: usize = 4;

/// The same JSON, with each UID masked. A hash stays: no card can be made from it.
pub(super) fn masked(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.windows(UID.len()).position(|window| window == UID) {
        let (before, after) = rest.split_at(at + UID.len());
        out.extend_from_slice(before);
        let len = after.iter().position(|byte| *byte == b'"').unwrap_or(after.len());
        let (uid, after) = after.split_at(len);
        if uid.len() > SHOWN && uid.iter().all(u8::is_ascii_hexdigit) {
            out.extend_from_slice("…".as_bytes());
            out.extend_from_slice(uid.split_at(uid.len() - SHOWN).1);
        } else {
            out.extend_from_slice(uid);
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// Whether an event is shown only to somebody who has logged in: nothing that others see may show that somebody is under duress.
pub(super) fn is_quiet(event: &Event) -> bool {
    matches!(event, Event::Alarm { kind: AlarmKind::Duress, .. })
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
            (r#"{"detail":"a \"uid\":\"1EA68671\" in a text"}"#, r#"{"detail":"a \"uid\":\"1EA68671\" in a text"}"#),
            (r#"{"uid":"1EA6"#, r#"{"uid":"1EA6"#),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8(masked(json.as_bytes())).unwrap(), expected);
        }
    }
}
