//! Signed messages of a center: opened, or refused with a code. Decides whose words a message is, and for whom.
//!
//! JWS compact serialisation, `alg: EdDSA` with Ed25519 and nothing else (RFC 7515, RFC 8037). What the words mean is the
//! business of [`changes`](super::changes), [`head`](super::head), [`command`](super::command), [`audit_ack`](super::audit_ack).

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::json::{self, Document};
use super::limits::{JTI_CHARS_MAX, JWS_HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, PACKET_BYTES_MAX};
use super::may::MaySet;
use super::text::{is_label, quote, shorten};
use super::topic::CAMPUS;
use crate::access::change::{ErrorCode, OpError, Position};
use crate::access::id::{GatewayId, StreamName, Timestamp};
use crate::access::input::{MessageKind, Receipt, RejectedMessage};

/// The version of the contract that is sent here.
pub const VERSION: u64 = 1;

/// On which topics a stream publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// On campus topics, and on a gateway's own when it answers that gateway.
    Campus,
    /// On a gateway's own topics only.
    Gateway,
}

/// Which kind of topic a message came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// `dormgate/v1/G/down/…`
    Gateway,
    /// `dormgate/v1/campus/down/…`
    Campus,
}

/// One configured stream: who it is and what it may report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name: `kid` and `iss`.
    pub name: StreamName,
    /// Where it publishes.
    pub scope: Scope,
    /// The keys that verify it; two during a key change. None is of small order: [`keys`](super::keys) reads no such key.
    pub keys: Vec<VerifyingKey>,
    /// Bare JSON claims are accepted too. For trials.
    pub insecure_unsigned: bool,
    /// What it may report.
    pub may: MaySet,
}

/// A message that is really from `stream` and for this gateway. Its content is not judged yet.
#[derive(Clone, Debug)]
pub struct Opened<'s> {
    /// The stream that sent it.
    pub stream: &'s StreamSpec,
    /// Whether a signature was verified; `false` only for a stream with `insecure_unsigned`.
    pub signed: bool,
    /// Length of the message in bytes.
    pub len: usize,
    pub(super) document: Document,
}

impl Opened<'_> {
    /// The claims as they came; a key given twice is `null`.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.document.map
    }

    /// A refusal of the message for its content.
    pub(super) fn refuse(&self, error: OpError) -> Refused {
        Refused { error, claimed: claimed(&self.document.map) }
    }

    /// An error unless the message is no longer than `most` bytes.
    pub(super) fn short(&self, most: usize) -> Result<(), OpError> {
        if self.len > most {
            let message = format!("{} bytes are too many, {most} are allowed; send less", self.len);
            return Err(OpError::message(ErrorCode::TooLarge, message));
        }
        Ok(())
    }

    /// An error unless the message is no longer than `most` bytes and its form is clean.
    pub(super) fn clean(&self, most: usize) -> Result<(), OpError> {
        self.short(most)?;
        self.document.faults.first().cloned().map_or(Ok(()), Err)
    }
}

/// What a message reports of itself, not verified: for the audit and for the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// `iss`, or `kid` where the claims are unreadable.
    pub stream: Option<StreamName>,
    /// `epoch` and `seq`.
    pub at: Option<Position>,
    /// `jti`.
    pub jti: Option<String>,
}

/// A message without effect, that uses up no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", error.code.as_str(), error.message)]
pub struct Refused {
    /// What is wrong and what to do.
    pub error: OpError,
    /// What the message reports of itself; not verified.
    pub claimed: Claimed,
}

impl Refused {
    /// The refusal of a retained copy of something that acts once.
    #[must_use]
    pub fn retained(bytes: &[u8]) -> Self {
        let message = "a retained copy is ignored; publish without the retain flag and clear what the broker keeps";
        Self { error: OpError::message(ErrorCode::Retained, message), claimed: peek(bytes) }
    }

    /// The refusal as the engine takes it.
    #[must_use]
    pub fn rejected(self, kind: MessageKind, receipt: Option<Receipt>, received_at: Timestamp) -> RejectedMessage {
        RejectedMessage {
            kind,
            claimed_stream: self.claimed.stream,
            claimed_at: self.claimed.at,
            claimed_jti: self.claimed.jti,
            error: self.error,
            receipt,
            received_at,
        }
    }
}

/// Verifies who reports `bytes`, which came on a topic of kind `via`, and that it is for `gateway`.
///
/// # Errors
/// [`Refused`] with `bad_signature`, `unknown_stream`, `wrong_audience`, `invalid_field` (`v`) or `too_large`.
pub fn open<'s>(
    bytes: &[u8],
    via: Channel,
    gateway: &GatewayId,
    streams: &'s [StreamSpec],
) -> Result<Opened<'s>, Refused> {
    authenticate(bytes, streams)
        .and_then(|opened| addressed(&opened, via, gateway).map(|()| opened))
        .map_err(|error| Refused { error, claimed: peek(bytes) })
}

fn authenticate<'s>(bytes: &[u8], streams: &'s [StreamSpec]) -> Result<Opened<'s>, OpError> {
    let unsigned = |what: String| OpError::message(ErrorCode::BadSignature, what);
    let find = |name: &str, field: &str| {
        streams.iter().find(|s| s.name.as_str() == name).ok_or_else(|| {
            let message =
                format!("`{field}` {} names no configured stream; add it as `[[center.stream]]`", quote(name));
            OpError::message(ErrorCode::UnknownStream, message)
        })
    };
    let len = bytes.len();
    let (stream, signed, document) = match Message::split(bytes)? {
        Message::Bare(claims) => {
            let document = read_claims(claims)?;
            let stream = find(issuer(&document.map)?, "iss")?;
            if !stream.insecure_unsigned {
                let what = format!("stream `{}` has to sign: send a JWS, not bare JSON", stream.name);
                return Err(unsigned(what));
            }
            (stream, false, document)
        }
        Message::Signed(jws) => {
            let stream = find(&jws.key_id()?, "kid")?;
            let signature = jws.signature()?;
            // Not `verify_strict`: beside a malleable `S`, which both refuse, it looks for points of small order. A key of small
            // order is refused when it is read, and only the key's owner can make such an `R`; every reissue would pay for it.
            if !stream.keys.iter().any(|key| key.verify(jws.signed, &signature).is_ok()) {
                let what = format!(
                    "no key of stream `{}` verifies the signature; compare `public_keys` with the center's key",
                    stream.name
                );
                return Err(unsigned(what));
            }
            (stream, true, read_claims(&jws.claims()?)?)
        }
    };
    let opened = Opened { stream, signed, len, document };
    let fields = Fields::message(&opened.document.map);
    match fields.get("v") {
        Some(v) if v.as_u64() == Some(VERSION) => {}
        Some(other) => {
            let what = format!("version {} is unknown, {VERSION} is sent here", quote(&other.to_string()));
            return Err(fields.invalid("v", what));
        }
        None => return Err(fields.need("v").err().unwrap_or_else(|| fields.invalid("v", "is missing"))),
    }
    let iss = issuer(&opened.document.map)?;
    if iss != stream.name.as_str() {
        let what = format!("{} is not the stream `{}` that signed", quote(iss), stream.name);
        return Err(fields.error(ErrorCode::UnknownStream, "iss", what));
    }
    Ok(opened)
}

fn addressed(opened: &Opened<'_>, via: Channel, gateway: &GatewayId) -> Result<(), OpError> {
    let fields = Fields::message(&opened.document.map);
    let wanted = match (via, opened.stream.scope) {
        (Channel::Gateway, Scope::Gateway | Scope::Campus) => gateway.as_str(),
        (Channel::Campus, Scope::Campus) => CAMPUS,
        (Channel::Campus, Scope::Gateway) => {
            let message =
                format!("stream `{}` has the scope `gateway` and may not send on campus topics", opened.stream.name);
            return Err(OpError::message(ErrorCode::WrongAudience, message));
        }
    };
    match fields.get("aud") {
        Some(Value::String(aud)) if aud == wanted => Ok(()),
        Some(other) => {
            let got = other.as_str().map_or_else(|| quote(&other.to_string()), quote);
            Err(fields.error(
                ErrorCode::WrongAudience,
                "aud",
                format_args!("`{wanted}` is wanted on this topic, got {got}"),
            ))
        }
        None => Err(fields.error(
            ErrorCode::WrongAudience,
            "aud",
            format_args!("is missing; `{wanted}` is wanted on this topic"),
        )),
    }
}

fn issuer(claims: &Map<String, Value>) -> Result<&str, OpError> {
    let fields = Fields::message(claims);
    fields.text("iss").map_err(|e| OpError { code: ErrorCode::UnknownStream, ..e })
}

fn read_claims(bytes: &[u8]) -> Result<Document, OpError> {
    json::parse(bytes).map_err(|e| OpError::message(ErrorCode::InvalidField, format!("the claims are {e}")))
}

/// The claims of a message without a look at its signature, `v`, `iss` or `aud`: for the replay of what was verified on arrival.
pub(super) fn unverified(bytes: &[u8]) -> Result<Document, OpError> {
    match Message::split(bytes)? {
        Message::Bare(claims) => read_claims(claims),
        Message::Signed(jws) => read_claims(&jws.claims()?),
    }
}

/// What a message reports of itself, without verifying anything.
#[must_use]
pub fn peek(bytes: &[u8]) -> Claimed {
    let mut found = unverified(bytes).map(|document| claimed(&document.map)).unwrap_or_default();
    if found.stream.is_none()
        && let Ok(Message::Signed(jws)) = Message::split(bytes)
    {
        found.stream = jws.key_id().ok().and_then(|kid| kid.parse().ok());
    }
    found
}

fn claimed(claims: &Map<String, Value>) -> Claimed {
    let stream = claims.get("iss").and_then(Value::as_str).and_then(|iss| iss.parse().ok());
    let jti = claims.get("jti").and_then(Value::as_str).filter(|jti| is_label(jti, JTI_CHARS_MAX)).map(str::to_owned);
    Claimed { stream, at: position(&Fields::message(claims)).ok(), jti }
}

/// `epoch` and `seq` of a message.
pub(super) fn position(fields: &Fields<'_>) -> Result<Position, OpError> {
    Ok(Position { epoch: epoch(fields)?, seq: fields.whole("seq", 1)? })
}

/// `iat` of a message, where it is an instant. Messages that act once need one, for others it is only the newest that counts.
pub(super) fn issued_at(fields: &Fields<'_>) -> Option<Timestamp> {
    fields.time_if("iat").ok().flatten()
}

/// `epoch` of a message.
pub(super) fn epoch(fields: &Fields<'_>) -> Result<NonZeroU32, OpError> {
    let epoch = u32::try_from(fields.whole("epoch", 1)?).ok().and_then(NonZeroU32::new);
    epoch.ok_or_else(|| fields.invalid("epoch", format_args!("at most {} is allowed", u32::MAX)))
}

/// What is looked at in a JWS header. One of these given twice is a fault.
#[derive(Deserialize)]
struct Header {
    alg: Option<String>,
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

enum Message<'b> {
    Signed(Jws<'b>),
    Bare(&'b [u8]),
}

struct Jws<'b> {
    header: &'b [u8],
    payload: &'b [u8],
    signature: &'b [u8],
    /// Header and payload with the dot between them: what is signed.
    signed: &'b [u8],
}

impl<'b> Message<'b> {
    fn split(bytes: &'b [u8]) -> Result<Self, OpError> {
        if bytes.len() > PACKET_BYTES_MAX {
            let message =
                format!("{} bytes are too many to be read, {MESSAGE_BYTES_MAX} are allowed; send less", bytes.len());
            return Err(OpError::message(ErrorCode::TooLarge, message));
        }
        // Files end in a line feed, and some senders publish files.
        let bytes = bytes.trim_ascii();
        if bytes.first() == Some(&b'{') {
            return Ok(Self::Bare(bytes));
        }
        let mut parts = bytes.split(|b| *b == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            let message = "not a JWS in compact form (three base64url parts with dots between)";
            return Err(OpError::message(ErrorCode::BadSignature, message));
        };
        let signed = bytes.get(..header.len() + 1 + payload.len()).unwrap_or_default();
        Ok(Self::Signed(Jws { header, payload, signature, signed }))
    }
}

impl Jws<'_> {
    fn decode(part: &[u8], name: &str) -> Result<Vec<u8>, OpError> {
        let wrong = |_| {
            let message = format!("the {name} of the JWS is not base64url without padding");
            OpError::message(ErrorCode::BadSignature, message)
        };
        URL_SAFE_NO_PAD.decode(part).map_err(wrong)
    }

    /// `kid` of a header that asks for EdDSA and nothing that is not understood here.
    fn key_id(&self) -> Result<String, OpError> {
        let bad = |what: String| OpError::message(ErrorCode::BadSignature, what);
        if self.header.len() > JWS_HEADER_BYTES_MAX {
            return Err(bad(format!("the header of the JWS is longer than {JWS_HEADER_BYTES_MAX} bytes")));
        }
        let header: Header = serde_json::from_slice(&Self::decode(self.header, "header")?)
            .map_err(|e| bad(format!("the header of the JWS: {}", shorten(&e.to_string(), 160))))?;
        match header.alg.as_deref() {
            Some("EdDSA") => {}
            Some(other) => return Err(bad(format!("`alg` {} is not accepted, sign with `EdDSA`", quote(other)))),
            None => return Err(bad("`alg` is missing in the header, sign with `EdDSA`".to_owned())),
        }
        if header.crit {
            return Err(bad("the header has `crit`; no extension is understood here, leave it out".to_owned()));
        }
        header.kid.ok_or_else(|| {
            OpError::message(ErrorCode::UnknownStream, "`kid` is missing in the header; name the stream there")
        })
    }

    fn signature(&self) -> Result<Signature, OpError> {
        let bytes = Self::decode(self.signature, "signature")?;
        Signature::from_slice(&bytes).map_err(|_| {
            let message = format!("an Ed25519 signature has 64 bytes, this has {}", bytes.len());
            OpError::message(ErrorCode::BadSignature, message)
        })
    }

    fn claims(&self) -> Result<Vec<u8>, OpError> {
        Self::decode(self.payload, "payload")
    }
}

/// A signed message: what a center publishes.
#[must_use]
pub fn sign(claims: &Map<String, Value>, stream: &StreamName, key: &SigningKey) -> String {
    let header = json!({ "alg": "EdDSA", "kid": stream.as_str(), "typ": "JWT" });
    sign_raw(&header, Value::Object(claims.clone()).to_string().as_bytes(), key)
}

/// A JWS of any header and payload.
fn sign_raw(header: &Value, payload: &[u8], key: &SigningKey) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(header.to_string());
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    let signature = key.sign(text.as_bytes());
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut text);
    text
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
