//! Signed messages of a center: opened, or refused with a code. Verifies which stream a message is from, and that it is for this
//! gateway.
//!
//! JWS compact serialisation, `alg: EdDSA` with Ed25519 and nothing else (RFC 7515, RFC 8037). The content is read by
//! [`down`](super::down).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::value::RawValue;

use super::allowed::AllowedOps;
use super::claims::{Claimed, Claims, Members, Text, VERSION, need};
use super::json::{self, Place};
use super::limits::{JWS_HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, PACKET_BYTES_MAX};
use super::text::{quote, shorten};
use super::topic::CAMPUS;
use crate::access::change::{ErrorCode, OpError};
use crate::access::id::{GatewayId, StreamName, Timestamp};
use crate::access::input::{MessageKind, Receipt, RejectedMessage};

/// On which topics a stream publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
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

/// One configured stream: its keys and its allowed ops.
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
    /// Its allowed ops.
    pub allowed: AllowedOps,
}

/// A message that is verified to be from `stream` and for this gateway. Its content is not judged yet.
#[derive(Clone, Debug)]
pub struct Opened<'s> {
    /// The stream it is from.
    pub stream: &'s StreamSpec,
    /// Length of the message in bytes.
    pub len: usize,
    pub(super) claims: Claims,
}

impl Opened<'_> {
    /// A refusal of the message for its content.
    pub(super) fn refuse(&self, error: OpError) -> Refused {
        Refused { error, claimed: self.claims.header().map(|header| header.claimed()).unwrap_or_default() }
    }

    /// An error unless the message is no longer than `most` bytes.
    pub(super) fn short(&self, most: usize) -> Result<(), OpError> {
        if self.len > most {
            let message = format!("{} bytes are too many, {most} are allowed; send less", self.len);
            return Err(OpError::message(ErrorCode::TooLarge, message));
        }
        Ok(())
    }

    /// The claims as `T`, if the message is no longer than `most` bytes and its form is clean.
    pub(super) fn read<'t, T: Deserialize<'t>>(&'t self, most: usize) -> Result<T, OpError> {
        self.short(most)?;
        self.claims.faults.first().cloned().map_or(Ok(()), Err)?;
        json::read(&self.claims.text, Place::Message)
    }
}

/// A message without effect, that uses up no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", error.code.as_str(), error.message)]
pub struct Refused {
    /// What is wrong and what to do.
    pub error: OpError,
    /// What the message claims to be; not verified.
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

/// Verifies from whom `bytes` is, which came on a topic of kind `via`, and that it is for `gateway`.
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
    let (stream, claims) = match Message::split(bytes)? {
        Message::Bare(claims) => {
            let claims = Claims::check(claims.to_vec())?;
            let stream = find(&claims.header()?.issuer()?, "iss")?;
            if !stream.insecure_unsigned {
                let what = format!("stream `{}` has to sign: send a JWS, not bare JSON", stream.name);
                return Err(unsigned(what));
            }
            (stream, claims)
        }
        Message::Signed(jws) => {
            let stream = find(&jws.key_id()?, "kid")?;
            let signature = jws.signature()?;
            // Not `verify_strict`: beside a malleable `S`, which both refuse, it looks for points of small order. A key of small
            // order is refused when it is read, and only the key's owner can make such an `R`; the check would delay every reissue.
            if !stream.keys.iter().any(|key| key.verify(jws.signed, &signature).is_ok()) {
                let what = format!(
                    "no key of stream `{}` verifies the signature; compare `public_keys` with the center's key",
                    stream.name
                );
                return Err(unsigned(what));
            }
            (stream, Claims::check(jws.claims()?)?)
        }
    };
    Ok(Opened { stream, len, claims })
}

/// Whether the claims are of this version, from the stream that signed, and for `gateway`.
fn addressed(opened: &Opened<'_>, via: Channel, gateway: &GatewayId) -> Result<(), OpError> {
    let (header, stream, place) = (opened.claims.header()?, opened.stream, Place::Message);
    match header.v.map(RawValue::get) {
        Some(v) if v.parse() == Ok(VERSION) => {}
        Some(other) => {
            let what = format!("version {} is unknown; this gateway reads version {VERSION}", quote(other));
            return Err(place.error(ErrorCode::InvalidField, "v", what));
        }
        None => return Err(place.error(ErrorCode::InvalidField, "v", "is missing; add it")),
    }
    let iss = header.issuer()?;
    if iss != stream.name.as_str() {
        let what = format!("{} is not the stream `{}` that signed", quote(&iss), stream.name);
        return Err(place.error(ErrorCode::UnknownStream, "iss", what));
    }
    let expected = match (via, stream.scope) {
        (Channel::Gateway, Scope::Gateway | Scope::Campus) => gateway.as_str(),
        (Channel::Campus, Scope::Campus) => CAMPUS,
        (Channel::Campus, Scope::Gateway) => {
            let message =
                format!("stream `{}` has the scope `gateway` and may not publish on campus topics", stream.name);
            return Err(OpError::message(ErrorCode::WrongAudience, message));
        }
    };
    let aud: Text<'_> = need(header.aud, "aud", ErrorCode::WrongAudience)?;
    if aud.0 == expected {
        return Ok(());
    }
    let what = format!("`{expected}` is wanted on this topic, got {}", quote(&aud.0));
    Err(place.error(ErrorCode::WrongAudience, "aud", what))
}

/// The claims of a message without a look at its signature, `v`, `iss` or `aud`: for the replay of what was verified on arrival.
pub(super) fn unverified(bytes: &[u8]) -> Result<Claims, OpError> {
    match Message::split(bytes)? {
        Message::Bare(claims) => Claims::check(claims.to_vec()),
        Message::Signed(jws) => Claims::check(jws.claims()?),
    }
}

/// What a message claims to be, without verifying anything.
#[must_use]
pub fn peek(bytes: &[u8]) -> Claimed {
    let header = |claims: Claims| claims.header().map(|header| header.claimed());
    let mut claimed = unverified(bytes).and_then(header).unwrap_or_default();
    if claimed.stream.is_none()
        && let Ok(Message::Signed(jws)) = Message::split(bytes)
    {
        claimed.stream = jws.key_id().ok().and_then(|kid| kid.parse().ok());
    }
    claimed
}

/// What is looked at in a JWS header. One of these given twice is a fault.
#[derive(Deserialize)]
struct JwsHeader {
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
        let header: JwsHeader = serde_json::from_slice(&Self::decode(self.header, "header")?)
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

/// The `kid` of a message that one of `keys` verifies.
pub(super) fn signed_by(bytes: &[u8], keys: &[VerifyingKey]) -> Option<String> {
    let Ok(Message::Signed(jws)) = Message::split(bytes) else { return None };
    let (kid, signature) = (jws.key_id().ok()?, jws.signature().ok()?);
    keys.iter().any(|key| key.verify(jws.signed, &signature).is_ok()).then_some(kid)
}

/// The members of the claims in a signed message, without a look at its signature.
///
/// # Errors
/// What is wrong with the message.
pub fn members(bytes: &[u8]) -> Result<Members, String> {
    unverified(bytes).map_err(|e| e.message).and_then(|claims| Members::parse(claims.text.as_bytes()))
}

/// A signed message: what a center publishes. `claims` is a JSON object.
#[must_use]
pub fn sign(claims: &str, stream: &StreamName, key: &SigningKey) -> String {
    // A stream's name has no character that JSON escapes.
    sign_raw(&format!(r#"{{"alg":"EdDSA","kid":"{stream}","typ":"JWT"}}"#), claims.as_bytes(), key)
}

/// A JWS of any header and payload.
fn sign_raw(header: &str, payload: &[u8], key: &SigningKey) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(header);
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
