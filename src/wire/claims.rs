//! The claims of a center's message: those that every message has, read one by one, and how they are written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{self, Place};
use super::limits::JTI_CHARS_MAX;
use super::text::is_label;
use crate::access::change::{ErrorCode, OpError, Position};
use crate::access::id::{StreamName, Timestamp};

/// The version of the contract.
pub const VERSION: u64 = 1;

/// The claims of a message as text, and what is wrong with their form.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    pub text: String,
    pub faults: Vec<OpError>,
}

impl Claims {
    pub fn check(bytes: Vec<u8>) -> Result<Self, OpError> {
        let faults = json::check(&bytes)
            .map(|(_, faults)| faults)
            .map_err(|e| OpError::message(ErrorCode::InvalidField, format!("the claims are {e}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| OpError::message(ErrorCode::InvalidField, "the claims are not UTF-8"))?;
        Ok(Self { text, faults })
    }

    /// Fails only where a field of the header is given twice.
    pub fn header(&self) -> Result<Header<'_>, OpError> {
        json::read(&self.text, Place::Message).map_err(|error| self.faults.first().cloned().unwrap_or(error))
    }
}

/// The claims that every message has, and those that answers and the audit need, each still unread, so that one that cannot be read does
/// not hide the others.
#[derive(Deserialize)]
pub(super) struct Header<'t> {
    #[serde(borrow)]
    pub v: Option<&'t RawValue>,
    #[serde(borrow)]
    iss: Option<&'t RawValue>,
    #[serde(borrow)]
    pub aud: Option<&'t RawValue>,
    #[serde(borrow)]
    iat: Option<&'t RawValue>,
    #[serde(borrow)]
    epoch: Option<&'t RawValue>,
    #[serde(borrow)]
    seq: Option<&'t RawValue>,
    #[serde(borrow)]
    jti: Option<&'t RawValue>,
}

/// The value of field `key`, which has to be there.
pub(super) fn need<'t, T: Deserialize<'t>>(
    raw: Option<&'t RawValue>,
    key: &str,
    code: ErrorCode,
) -> Result<T, OpError> {
    let Some(raw) = raw else { return Err(Place::Message.error(code, key, "is missing; add it")) };
    json::read(raw.get(), Place::Message).map_err(|e| OpError {
        code,
        message: e.message.replacen("``", &format!("`{key}`"), 1),
        ..e
    })
}

impl<'t> Header<'t> {
    pub fn issuer(&self) -> Result<Cow<'t, str>, OpError> {
        need::<Text<'t>>(self.iss, "iss", ErrorCode::UnknownStream).map(|text| text.0)
    }

    /// `iss` as a stream's name.
    pub fn stream(&self) -> Result<StreamName, OpError> {
        need(self.iss, "iss", ErrorCode::InvalidField)
    }

    /// `epoch` and `seq` of a change message.
    pub fn position(&self) -> Result<Position, OpError> {
        let seq: NonZeroU64 = need(self.seq, "seq", ErrorCode::InvalidField)?;
        Ok(Position { epoch: need(self.epoch, "epoch", ErrorCode::InvalidField)?, seq: seq.get() })
    }

    /// `iat`, if it is an instant. Commands need one; of other messages it only gives the age of the list.
    pub fn issued_at(&self) -> Option<Timestamp> {
        serde_json::from_str::<Seconds>(self.iat?.get()).ok().map(|time| time.0)
    }

    /// What the message claims to be.
    pub fn claimed(&self) -> Claimed {
        let jti = self.jti.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        Claimed {
            stream: self.stream().ok(),
            at: self.position().ok(),
            jti: jti.filter(|jti| is_label(jti, JTI_CHARS_MAX)),
        }
    }
}

/// A time that is written in whole seconds since 1970, as the claims of a JWT are (RFC 7519, 2), and read as any time is.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Seconds(pub Timestamp);

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0.unix_seconds())
    }
}

/// Text, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'t>(#[serde(borrow)] pub Cow<'t, str>);

/// What a message claims to be, not verified: for the audit and for the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// `iss`, or `kid` where the claims are unreadable.
    pub stream: Option<StreamName>,
    /// `epoch` and `seq`.
    pub at: Option<Position>,
    /// `jti`.
    pub jti: Option<String>,
}

/// The claims of a message as a center writes them. `aud` is a gateway's id or `campus`.
#[derive(Serialize)]
pub(super) struct Written<'a, B> {
    v: u64,
    iss: &'a StreamName,
    aud: &'a str,
    iat: Seconds,
    #[serde(flatten)]
    body: B,
}

/// The claims of a message in JSON.
pub(super) fn write<B: Serialize>(
    iss: &StreamName,
    aud: &str,
    iat: Timestamp,
    body: B,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Written { v: VERSION, iss, aud, iat: Seconds(iat), body })
}

/// The members of a message, each in JSON: for one that is signed again with some of them changed, or that was written by hand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Members(BTreeMap<String, Box<RawValue>>);

impl Members {
    /// The members of a JSON object in which no key is given twice.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (text, faults) = json::check(bytes).map_err(|e| e.to_string())?;
        match faults.first() {
            Some(fault) => Err(fault.message.clone()),
            None => json::read(text, Place::Message).map_err(|e| e.message),
        }
    }

    /// Member `key` in JSON.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|raw| raw.get())
    }

    /// The names of the members.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Sets member `key`.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    pub fn set<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), serde_json::Error> {
        self.0.insert(key.to_owned(), serde_json::value::to_raw_value(value)?);
        Ok(())
    }

    /// The object in JSON.
    ///
    /// # Errors
    /// Never for members that were read or set here.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}
