//! What a center publishes (wire contract, 2): change messages, heads, commands and audit acks; read from an opened envelope and
//! written for the center. Whether a command is expired or repeated is judged by the engine.
//!
//! A change message that is well signed but wrong in its content is a [`Changes`] with errors, because it uses up its number; one
//! whose number cannot be read is refused and uses up nothing.

use std::borrow::Cow;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use strum::VariantNames;

use super::allowed::{AllowedOps, OpName};
use super::claims::{self, Claimed, Claims, Seconds};
use super::envelope::{self, Opened, Refused};
use super::hash::HashText;
use super::json::{self, Place, all_right};
use super::limits::{
    ACTOR_CHARS_MAX, COMMAND_BYTES_MAX, COMMAND_LIFE_S_MAX, HEAD_BYTES_MAX, JTI_CHARS_MAX, MESSAGE_BYTES_MAX, OPS_MAX,
};
use super::ops::{self, Judge};
use super::text::{hint, is_label, quote};
use crate::access::change::{Changes, ErrorCode, Head, Op, OpError, Position};
use crate::access::id::{GatewayId, StreamName, Timestamp};
use crate::access::input::{Command, CommandKind};

/// Claims that cannot be written as JSON.
pub type WriteError = serde_json::Error;

/// The body of a change message; `O` is an op, written or still unread.
#[derive(Serialize, Deserialize)]
struct ChangesBody<O> {
    epoch: NonZeroU32,
    seq: u64,
    ops: Vec<O>,
}

/// Reads the change message in an opened envelope.
///
/// # Errors
/// [`Refused`] with `invalid_field` if `epoch` or `seq` is unreadable. Everything else that is wrong is in
/// [`Changes::content`].
pub fn read_changes(opened: &Opened<'_>) -> Result<Changes, Refused> {
    let header = opened.claims.header().map_err(|e| opened.refuse(e))?;
    let at = header.position().map_err(|e| opened.refuse(e))?;
    let content = match opened.short(MESSAGE_BYTES_MAX) {
        Ok(()) => content(&opened.claims, Judge::Arrival(opened.stream.allowed)),
        Err(error) => Err(vec![error]),
    };
    Ok(Changes { stream: opened.stream.name.clone(), at, iat: header.issued_at(), content })
}

/// Reads the change message that the journal kept as evidence. It was verified on arrival, so neither the signature nor what the
/// stream is allowed is judged again: keys and rules may have changed since, what was applied stays applied.
///
/// # Errors
/// [`Refused`] if the bytes are not a change message at all.
pub fn read_evidence(bytes: &[u8]) -> Result<Changes, Refused> {
    let refuse = |error| Refused { error, claimed: Claimed::default() };
    let claims = envelope::unverified(bytes).map_err(refuse)?;
    let header = claims.header().map_err(refuse)?;
    let (stream, at) = (header.stream().map_err(refuse)?, header.position().map_err(refuse)?);
    let content = content(&claims, Judge::Replay);
    Ok(Changes { stream, at, iat: header.issued_at(), content })
}

fn content(claims: &Claims, judge: Judge<AllowedOps>) -> Result<Vec<Op>, Vec<OpError>> {
    if !claims.faults.is_empty() {
        return Err(claims.faults.clone());
    }
    let body: ChangesBody<&RawValue> = json::read(&claims.text, Place::Message).map_err(|e| vec![e])?;
    parse_ops(&body.ops, judge)
}

fn parse_ops(list: &[&RawValue], judge: Judge<AllowedOps>) -> Result<Vec<Op>, Vec<OpError>> {
    if list.len() > OPS_MAX {
        let what = format!("{} ops are too many, {OPS_MAX} are allowed", list.len());
        return Err(vec![Place::Message.error(ErrorCode::TooLarge, "ops", what)]);
    }
    let ops = list.iter().zip(0_u32..).map(|(text, place)| ops::parse(text.get(), place, judge));
    all_right(ops).map_err(|(mut errors, more)| {
        if let Some(last) = errors.last_mut().filter(|_| more > 0) {
            last.message.push_str(&format!(" (and {more} more ops are wrong)"));
        }
        errors
    })
}

/// Reads a list of ops in JSON, as a person writes it.
///
/// # Errors
/// What is wrong with the list, or with each wrong op.
pub fn read_ops(text: &str) -> Result<Vec<Op>, Vec<OpError>> {
    let list: Vec<&RawValue> = json::read(text, Place::Message).map_err(|e| vec![e])?;
    parse_ops(&list, Judge::Arrival(AllowedOps::all()))
}

/// A list of ops in JSON; [`read_ops`] reads it.
///
/// # Errors
/// An op that the contract has no name for (see [`ops::name_of`]).
pub fn write_ops(ops: &[Op]) -> Result<String, WriteError> {
    serde_json::to_string(&ops.iter().map(ops::Written).collect::<Vec<_>>())
}

/// The claims of a change message; `aud` is a gateway's id or `campus`.
///
/// # Errors
/// An op that the contract has no name for (see [`ops::name_of`]).
pub fn write_changes(
    stream: &StreamName,
    aud: &str,
    iat: Timestamp,
    at: Position,
    ops: &[Op],
) -> Result<String, WriteError> {
    let ops = ops.iter().map(ops::Written).collect();
    claims::write(stream, aud, iat, ChangesBody { epoch: at.epoch, seq: at.seq, ops })
}

#[derive(Serialize, Deserialize)]
struct HeadBody {
    epoch: NonZeroU32,
    seq: u64,
    cards: u64,
    digest: HashText,
}

/// Reads the head in an opened envelope that came on the topic of `topic_stream`. `seq` may be 0 here: a center that has not
/// published anything in its epoch yet.
///
/// # Errors
/// [`Refused`] with `unknown_stream` if the topic is another stream's, `invalid_field` or `too_large`.
pub fn read_head(opened: &Opened<'_>, topic_stream: &StreamName) -> Result<Head, Refused> {
    let stream = &opened.stream.name;
    let read = || {
        let body: HeadBody = opened.read(HEAD_BYTES_MAX)?;
        if stream != topic_stream {
            let what = format!("the head of `{stream}` came on the topic of `{topic_stream}`");
            return Err(Place::Message.error(ErrorCode::UnknownStream, "iss", what));
        }
        let at = Position { epoch: body.epoch, seq: body.seq };
        let iat = opened.claims.header()?.issued_at();
        Ok(Head { stream: stream.clone(), at, iat, cards: body.cards, digest: body.digest.to_string() })
    };
    read().map_err(|e| opened.refuse(e))
}

/// The claims of a head; `aud` is a gateway's id or `campus`.
///
/// # Errors
/// A digest that is not a SHA-256 in hex.
pub fn write_head(head: &Head, aud: &str, iat: Timestamp) -> Result<String, WriteError> {
    let digest = head.digest.parse().map_err(serde::ser::Error::custom)?;
    let body = HeadBody { epoch: head.at.epoch, seq: head.at.seq, cards: head.cards, digest };
    claims::write(&head.stream, aud, iat, body)
}

/// The fields of every command.
#[derive(Serialize, Deserialize)]
struct CommandBody<'t> {
    exp: Seconds,
    #[serde(borrow)]
    jti: Cow<'t, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    actor: Option<Cow<'t, str>>,
}

/// What is read of a command before its kind.
#[derive(Deserialize)]
struct CommandClaims<'t> {
    iat: Seconds,
    #[serde(borrow)]
    command: Cow<'t, str>,
}

/// Reads the command in an opened envelope.
///
/// # Errors
/// [`Refused`] with `forbidden_op` (the stream has no `command` in `may`), `unknown_op` (no such command), `invalid_uid`,
/// `invalid_field` or `too_large`; its `claimed.jti` is what to answer, if that is readable.
pub fn read_command(opened: &Opened<'_>) -> Result<Command, Refused> {
    command(opened).map_err(|e| opened.refuse(e))
}

fn command(opened: &Opened<'_>) -> Result<Command, OpError> {
    let (stream, place) = (opened.stream, Place::Message);
    let invalid = |key: &str, what: String| place.error(ErrorCode::InvalidField, key, what);
    if !stream.allowed.contains(OpName::Command) {
        let what = format!("stream `{}` is not allowed commands; add `command` to its `may`", stream.name);
        return Err(place.error(ErrorCode::ForbiddenOp, "command", what));
    }
    let CommandClaims { iat, command } = opened.read(COMMAND_BYTES_MAX)?;
    let body: CommandBody<'_> = opened.read(COMMAND_BYTES_MAX)?;
    let label = |key: &str, text: &str, most: usize| {
        let is = is_label(text, most).then(|| text.to_owned());
        is.ok_or_else(|| invalid(key, format!("1 to {most} printable characters are wanted")))
    };
    let jti = label("jti", &body.jti, JTI_CHARS_MAX)?;
    let actor = body.actor.map(|actor| label("actor", &actor, ACTOR_CHARS_MAX)).transpose()?;
    let (iat, exp) = (iat.0, body.exp.0);
    if exp <= iat {
        return Err(invalid("exp", "is not later than `iat`; the command was never valid".to_owned()));
    }
    if exp.0.saturating_sub(iat.0) > COMMAND_LIFE_S_MAX * 1000 {
        let what = format!("is more than {COMMAND_LIFE_S_MAX} s after `iat`; let the command expire sooner");
        return Err(invalid("exp", what));
    }
    let kind = command_kind(&command, &opened.claims.text)?;
    Ok(Command { stream: stream.name.clone(), jti, iat, exp, actor, kind })
}

/// The command that `text` has the fields of.
fn command_kind(command: &str, text: &str) -> Result<CommandKind, OpError> {
    let place = Place::Message;
    if !CommandKind::VARIANTS.contains(&command) {
        let known = CommandKind::VARIANTS.iter().copied();
        let what = format!("{} is not a command; {}", quote(command), hint(command, known));
        return Err(place.error(ErrorCode::UnknownOp, "command", what));
    }
    json::read_tagged(command, text, place)
}

/// Reads a command in a JSON object, as a person writes it.
///
/// # Errors
/// What is wrong with the object.
pub fn read_command_kind(text: &str) -> Result<CommandKind, OpError> {
    #[derive(Deserialize)]
    struct Named<'t> {
        #[serde(borrow)]
        command: Cow<'t, str>,
    }
    let known = || hint("", CommandKind::VARIANTS.iter().copied());
    let named = json::read(text, Place::Message)
        .map_err(|error| OpError { message: format!("{}; {}", error.message, known()), ..error });
    let Named { command } = named?;
    command_kind(&command, text)
}

/// A command for a center, in JSON: what [`read_command_kind`] reads, with the gateway and who gives it.
///
/// # Errors
/// Never for a command of these types.
pub fn write_command_kind(kind: &CommandKind, gateway: &GatewayId, actor: Option<&str>) -> Result<String, WriteError> {
    #[derive(Serialize)]
    struct Ordered<'a> {
        gateway: &'a GatewayId,
        #[serde(skip_serializing_if = "Option::is_none")]
        actor: Option<&'a str>,
        #[serde(flatten)]
        kind: KindWritten<'a>,
    }
    serde_json::to_string(&Ordered { gateway, actor, kind: KindWritten(kind) })
}

/// A command as a center writes it.
#[derive(Serialize)]
struct CommandWritten<'a> {
    #[serde(flatten)]
    body: CommandBody<'a>,
    #[serde(flatten)]
    kind: KindWritten<'a>,
}

struct KindWritten<'a>(&'a CommandKind);

impl Serialize for KindWritten<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json::write_tagged("command", self.0, serializer)
    }
}

/// The claims of a command.
///
/// # Errors
/// Never for a command of these types.
pub fn write_command(command: &Command, gateway: &GatewayId) -> Result<String, WriteError> {
    let body = CommandBody {
        exp: Seconds(command.exp),
        jti: Cow::Borrowed(&command.jti),
        actor: command.actor.as_deref().map(Cow::Borrowed),
    };
    let written = CommandWritten { body, kind: KindWritten(&command.kind) };
    claims::write(&command.stream, gateway.as_str(), command.iat, written)
}

/// A center has every audit event up to `through`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditAck {
    /// The stream that acknowledges.
    pub stream: StreamName,
    /// The last event it has; cumulative.
    pub through: u64,
}

#[derive(Serialize, Deserialize)]
struct AuditAckBody {
    through: u64,
}

/// Reads the audit ack in an opened envelope.
///
/// # Errors
/// [`Refused`] with `forbidden_op` (the stream has no `command` in `may`), `invalid_field` or `too_large`.
pub fn read_audit_ack(opened: &Opened<'_>) -> Result<AuditAck, Refused> {
    let stream = opened.stream;
    if !stream.allowed.contains(OpName::Command) {
        let what =
            format!("stream `{}` is not allowed to acknowledge the audit; add `command` to its `may`", stream.name);
        return Err(opened.refuse(OpError::message(ErrorCode::ForbiddenOp, what)));
    }
    let body: AuditAckBody = opened.read(HEAD_BYTES_MAX).map_err(|e| opened.refuse(e))?;
    Ok(AuditAck { stream: stream.name.clone(), through: body.through })
}

/// The claims of an audit ack.
///
/// # Errors
/// Never for an ack of these types.
pub fn write_audit_ack(ack: &AuditAck, gateway: &GatewayId, iat: Timestamp) -> Result<String, WriteError> {
    claims::write(&ack.stream, gateway.as_str(), iat, AuditAckBody { through: ack.through })
}

#[cfg(test)]
#[path = "down_tests.rs"]
mod tests;
