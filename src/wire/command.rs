//! Commands (wire contract, 2.6): claims to [`Command`] and back. Whether one is expired or repeated is the engine's to report.

use serde_json::{Map, Value, json};

use super::changes::common;
use super::envelope::{Opened, Refused};
use super::fields::Fields;
use super::limits::{ACTOR_CHARS_MAX, COMMAND_BYTES_MAX, COMMAND_LIFE_S_MAX, JTI_CHARS_MAX};
use super::may::OpName;
use super::spelling::hint;
use super::text::{is_label, quote};
use crate::access::change::{ErrorCode, OpError};
use crate::access::id::GatewayId;
use crate::access::input::{Command, CommandKind};

/// Names of the commands.
const NAMES: [&str; 5] = ["release", "power", "query", "resync", "forgive"];

/// The command in an opened envelope.
///
/// # Errors
/// [`Refused`] with `forbidden_op` (the stream has no `command` in `may`), `unknown_op` (no such command), `invalid_uid`,
/// `invalid_field` or `too_large`; its `claimed.jti` reports what to answer, if that is readable.
pub fn parse(opened: &Opened<'_>) -> Result<Command, Refused> {
    read(opened).map_err(|e| opened.refuse(e))
}

fn read(opened: &Opened<'_>) -> Result<Command, OpError> {
    let (stream, fields) = (opened.stream, Fields::message(opened.claims()));
    if !stream.may.contains(OpName::Command) {
        let what = format!("stream `{}` may not give commands; add `command` to its `may`", stream.name);
        return Err(fields.error(ErrorCode::ForbiddenOp, "command", what));
    }
    opened.clean(COMMAND_BYTES_MAX)?;
    let label = |key: &str, text: &str, most: usize| {
        if is_label(text, most) {
            return Ok(text.to_owned());
        }
        Err(fields.invalid(key, format_args!("1 to {most} printable characters are wanted")))
    };
    let jti = label("jti", fields.text("jti")?, JTI_CHARS_MAX)?;
    let (iat, exp) = (fields.time("iat")?, fields.time("exp")?);
    if exp <= iat {
        return Err(fields.invalid("exp", "is not later than `iat`; the command was never valid"));
    }
    if exp.0.saturating_sub(iat.0) > COMMAND_LIFE_S_MAX * 1000 {
        let what =
            format_args!("is more than {COMMAND_LIFE_S_MAX} s after `iat`; let the command expire sooner").to_string();
        return Err(fields.invalid("exp", what));
    }
    let actor = fields.text_if("actor")?.map(|text| label("actor", text, ACTOR_CHARS_MAX)).transpose()?;
    Ok(Command { stream: stream.name.clone(), jti, iat, exp, actor, kind: kind(&fields)? })
}

fn kind(fields: &Fields<'_>) -> Result<CommandKind, OpError> {
    Ok(match fields.text("command")? {
        "release" => CommandKind::Release { portal: fields.parsed("portal")? },
        "power" => CommandKind::Power { portal: fields.parsed("portal")?, on: fields.flag("on")? },
        "query" => CommandKind::Query { uid: fields.uid("uid")?, portal: fields.parsed_if("portal")? },
        "resync" => CommandKind::Resync { stream: fields.parsed("stream")? },
        "forgive" => {
            let all = fields.get("uid").and_then(Value::as_str) == Some("*");
            CommandKind::Forgive { uid: if all { None } else { Some(fields.uid("uid")?) } }
        }
        other => {
            let what = format!("{} is no command; {}", quote(other), hint(other, NAMES.into_iter()));
            return Err(fields.error(ErrorCode::UnknownOp, "command", what));
        }
    })
}

/// The claims of a command as a center writes them.
#[must_use]
pub fn claims(command: &Command, gateway: &GatewayId) -> Map<String, Value> {
    let mut map = common(&command.stream, gateway.as_str(), command.iat);
    map.insert("exp".into(), json!(command.exp.unix_seconds()));
    map.insert("jti".into(), json!(command.jti));
    map.insert("command".into(), json!(command.kind.as_str()));
    if let Some(actor) = &command.actor {
        map.insert("actor".into(), json!(actor));
    }
    match &command.kind {
        CommandKind::Release { portal } => {
            map.insert("portal".into(), json!(portal.as_str()));
        }
        CommandKind::Power { portal, on } => {
            map.insert("portal".into(), json!(portal.as_str()));
            map.insert("on".into(), json!(on));
        }
        CommandKind::Query { uid, portal } => {
            map.insert("uid".into(), json!(uid.to_string()));
            if let Some(portal) = portal {
                map.insert("portal".into(), json!(portal.as_str()));
            }
        }
        CommandKind::Resync { stream } => {
            map.insert("stream".into(), json!(stream.as_str()));
        }
        CommandKind::Forgive { uid } => {
            map.insert("uid".into(), uid.map_or_else(|| json!("*"), |uid| json!(uid.to_string())));
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::id::Timestamp;
    use crate::wire::envelope::{Channel, Scope, StreamSpec, open};
    use crate::wire::may::MaySet;

    fn received(text: &str, may: MaySet) -> Result<Command, Refused> {
        let streams = [StreamSpec {
            name: "office".parse().unwrap(),
            scope: Scope::Gateway,
            keys: vec![],
            insecure_unsigned: true,
            may,
        }];
        parse(&open(text.as_bytes(), Channel::Gateway, &"g1".parse().unwrap(), &streams)?)
    }

    fn message(over: &Value) -> String {
        let mut map = json!({
            "v": 1, "iss": "office", "aud": "g1", "iat": 100, "exp": 130, "jti": "01J9", "command": "release", "portal": "gate-in",
        });
        for (key, value) in over.as_object().unwrap() {
            map[key] = value.clone();
        }
        map.to_string()
    }

    fn kind_of(over: &Value) -> Result<CommandKind, (ErrorCode, String)> {
        let received = received(&message(over), MaySet::ALL);
        received.map(|c| c.kind).map_err(|r| (r.error.code, r.error.message))
    }

    #[test]
    fn every_command_is_understood_and_written_back() {
        let portal = || "gate-in".parse().unwrap();
        let uid = "1EA68671".parse().unwrap();
        let table = [
            (json!({"actor": "staff:77"}), CommandKind::Release { portal: portal() }),
            (json!({"command": "power", "on": false}), CommandKind::Power { portal: portal(), on: false }),
            (json!({"command": "query", "uid": "1EA68671"}), CommandKind::Query { uid, portal: Some(portal()) }),
            (json!({"command": "query", "uid": "1EA68671", "portal": null}), CommandKind::Query { uid, portal: None }),
            (
                json!({"command": "resync", "stream": "office"}),
                CommandKind::Resync { stream: "office".parse().unwrap() },
            ),
            (json!({"command": "forgive", "uid": "1EA68671"}), CommandKind::Forgive { uid: Some(uid) }),
            (json!({"command": "forgive", "uid": "*"}), CommandKind::Forgive { uid: None }),
        ];
        for (over, kind) in table {
            let command = received(&message(&over), MaySet::ALL).unwrap();
            assert_eq!(command.kind, kind, "{over}");
            assert_eq!(
                (command.jti.as_str(), command.iat, command.exp),
                ("01J9", Timestamp(100_000), Timestamp(130_000))
            );
            let written = Value::Object(claims(&command, &"g1".parse().unwrap())).to_string();
            let again = received(&written, MaySet::ALL).unwrap();
            assert_eq!((again.kind, again.actor), (command.kind, command.actor));
        }
    }

    #[test]
    fn a_malformed_command_reports_why() {
        use ErrorCode::{InvalidField, InvalidUid, TooLarge, UnknownOp};
        let table = [
            (json!({"command": "releas"}), UnknownOp, "`releas` is no command; did you mean `release`?"),
            (json!({"command": "explode"}), UnknownOp, "known: release, power"),
            (json!({"command": null}), InvalidField, "`command`: is missing"),
            (json!({"exp": null}), InvalidField, "`exp`: is missing"),
            (json!({"exp": 131}), InvalidField, "more than 30 s after `iat`"),
            (json!({"exp": 100}), InvalidField, "not later than `iat`"),
            (json!({"exp": 130.001}), InvalidField, "more than 30 s after `iat`"),
            (json!({"iat": null}), InvalidField, "`iat`: is missing"),
            (json!({"jti": null}), InvalidField, "`jti`: is missing"),
            (json!({"jti": ""}), InvalidField, "`jti`: 1 to 64"),
            (json!({"jti": "x".repeat(65)}), InvalidField, "`jti`: 1 to 64"),
            (json!({"actor": "a\nb"}), InvalidField, "`actor`"),
            (json!({"portal": null}), InvalidField, "`portal`: is missing"),
            (json!({"command": "power"}), InvalidField, "`on`: is missing"),
            (json!({"command": "power", "on": "yes"}), InvalidField, "`on`: `true` or `false`"),
            (json!({"command": "query", "uid": "*"}), InvalidUid, "`uid`"),
            (json!({"command": "forgive"}), InvalidField, "`uid`: is missing"),
            (json!({"command": "forgive", "uid": "all"}), InvalidUid, "`uid`"),
            (json!({"x": "y".repeat(COMMAND_BYTES_MAX)}), TooLarge, "too many"),
        ];
        for (over, code, part) in table {
            let (got, message) = kind_of(&over).unwrap_err();
            assert_eq!(got, code, "{over}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_refused_command_is_answered_by_its_id() {
        let refused = received(&message(&json!({"command": "explode"})), MaySet::ALL).unwrap_err();
        assert_eq!(refused.claimed.jti.as_deref(), Some("01J9"));
        let no_commands = MaySet::of(&[OpName::Enrol]);
        let refused = received(&message(&json!({})), no_commands).unwrap_err();
        assert_eq!((refused.error.code, refused.claimed.jti.as_deref()), (ErrorCode::ForbiddenOp, Some("01J9")));
        let twice = message(&json!({})).replace("\"portal\"", "\"portal\":\"other\",\"portal\"");
        assert_eq!(received(&twice, MaySet::ALL).unwrap_err().error.code, ErrorCode::InvalidField);
    }

    proptest! {
        #[test]
        fn no_times_break_the_parser(iat in any::<f64>(), exp in any::<i64>()) {
            let _read = kind_of(&json!({"iat": iat, "exp": exp}));
            let _read = kind_of(&json!({"iat": exp, "exp": iat}));
        }
    }
}
