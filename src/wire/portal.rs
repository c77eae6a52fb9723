//! Native MQTT portals (wire contract, section 4): requests and states read, decisions and control written, and the inverse
//! of each for the portal's side.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::claims::VERSION;
use super::json::{self, Fields, Place};
use super::limits::{
    PORTAL_ORDER_BYTES_MAX, PORTAL_STATE_BYTES_MAX, QUOTE_CHARS_MAX, REQUEST_BYTES_MAX, REQUEST_ID_CHARS_MAX,
};
use super::text::{is_label, quoted_len, shorten};
use super::topic::Qos;
use super::up;
use super::wanted::{kind, without_value};
use crate::access::change::{ErrorCode, OpError};
use crate::access::decision::{Decision, GrantFlag};
use crate::access::input::{PortalReport, Presented, Request};
use crate::access::names;
use crate::access::portal::{Assurance, Direction};

/// How long a decision counts after it was made, in milliseconds; a portal that receives it later must not open.
pub const DECISION_TTL_MS: u64 = 1500;

/// Whether a message came as it was published, or was kept by the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Published now.
    Live,
    /// A retained copy, of any age.
    Retained,
}

/// The request in `payload`, which came on the topic of `portal`. Anything at all gives a request: what cannot be read is
/// [`Presented::Malformed`] with what was presented or what is wrong, shortened; `id` and `direction` are kept if readable.
///
/// An unknown `assurance` counts as the weakest. An unknown `v` or `direction` makes the request malformed.
#[must_use]
pub fn parse_request(portal: &str, payload: &[u8], delivery: Delivery) -> Request {
    let mut request = Request {
        portal: portal.to_owned(),
        id: None,
        presented: Presented::Malformed(String::new()),
        direction: None,
        assurance: Assurance::Uid,
        stale: delivery == Delivery::Retained,
        slot: 0,
    };
    let malformed = |text: &str| Presented::Malformed(shorten(text, 2 * QUOTE_CHARS_MAX));
    if payload.len() > REQUEST_BYTES_MAX {
        request.presented =
            malformed(&format!("{} bytes are too many, {REQUEST_BYTES_MAX} are allowed", payload.len()));
        return request;
    }
    let (fields, faults) = match checked(payload) {
        Ok(checked) => checked,
        Err(error) => {
            request.presented = malformed(&error);
            return request;
        }
    };
    request.assurance = fields.read("assurance").ok().flatten().unwrap_or_default();
    let id = fields.read::<String>("id").and_then(|id| match id {
        Some(id) if !is_label(&id, REQUEST_ID_CHARS_MAX) => {
            Err(invalid("id", format_args!("1 to {REQUEST_ID_CHARS_MAX} printable characters are wanted")))
        }
        other => Ok(other),
    });
    let direction = fields.read("direction");
    let fault = faults.first().cloned().map_or(Ok(()), Err);
    // The id and the direction are kept whatever else is wrong: the portal waits for an answer, and the way out is never refused.
    request.id = id.as_ref().ok().cloned().flatten();
    request.direction = direction.as_ref().ok().copied().flatten();
    let formed =
        fault.and_then(|()| version(&fields)).and_then(|()| id.map(|_| ())).and_then(|()| direction.map(|_| ()));
    request.presented = match formed.and_then(|()| fields.need::<String>("uid")) {
        Ok(text) => presented(&text),
        Err(error) => malformed(&error.message),
    };
    request
}

fn presented(text: &str) -> Presented {
    match text.parse() {
        Ok(uid) => Presented::Card(uid),
        Err(_) => Presented::Malformed(shorten(text, QUOTE_CHARS_MAX)),
    }
}

/// The members of the object in `payload`, and what is wrong with its form.
fn checked(payload: &[u8]) -> Result<(Fields<'_>, Vec<OpError>), String> {
    let (text, faults) = json::check(payload).map_err(|e| e.to_string())?;
    Ok((json::read(text, Place::Message).map_err(|e| e.message)?, faults))
}

fn invalid(key: &str, what: impl std::fmt::Display) -> OpError {
    Place::Message.error(ErrorCode::InvalidField, key, what)
}

/// An error unless `v` is absent or the version that is read here.
fn version(fields: &Fields<'_>) -> Result<(), OpError> {
    match fields.read::<Value>("v")? {
        None => Ok(()),
        Some(v) if v.as_u64() == Some(VERSION) => Ok(()),
        Some(other) => {
            let got = shorten(&other.to_string(), QUOTE_CHARS_MAX);
            Err(invalid("v", format_args!("version `{got}` is unknown; version {VERSION} is read here")))
        }
    }
}

/// Reads a `state` field by field. A field with a wrong value is left out and named in [`PortalReport::malformed`]; the other
/// fields count, so that a portal with a broken meter still reports a fire. A BOM, trailing NULs and white space are dropped. Of a
/// field that is given twice, equal values count; of unequal ones only what is safe: a fire, and a card that has left.
///
/// # Errors
/// A payload that is not an object of a known version is refused as a whole; the text names the cause.
pub fn parse_state(payload: &[u8]) -> Result<PortalReport, String> {
    if payload.len() > PORTAL_STATE_BYTES_MAX {
        return Err(format!("{} bytes are too many, {PORTAL_STATE_BYTES_MAX} are allowed", payload.len()));
    }
    let text = String::from_utf8_lossy(payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload));
    let text = text.trim_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
    let mut members = members(text).ok_or("not a JSON object")?;
    // How firmware writes that there is no card.
    members.retain(|(key, raw)| !(key == "uid" && *raw == "\"\""));
    if let Some(raw) = members.iter().find(|(key, raw)| key == "v" && *raw != "null" && raw.parse() != Ok(VERSION)) {
        let (_, got) = kind(raw.1);
        return Err(invalid("v", format_args!("version {VERSION} is read here, got {got}")).message);
    }
    let mut wrong = Vec::new();
    let report = PortalReport {
        online: take(&members, "online", None, &mut wrong),
        card_present: take(&members, "card_present", Some(false), &mut wrong),
        uid: take(&members, "uid", None, &mut wrong).map(Presented::Card),
        contact_open: take(&members, "contact", None, &mut wrong).map(|contact: Contact| contact == Contact::Open),
        relay: take(&members, "relay", None, &mut wrong),
        power_w: take(&members, "power_w", None, &mut wrong),
        energy_kwh: take(&members, "energy_kwh", None, &mut wrong),
        overload: take(&members, "overload", Some(true), &mut wrong),
        restricted_load: take(&members, "restricted_load", Some(true), &mut wrong),
        passed: take(&members, "passed", None, &mut wrong),
        tamper: take(&members, "tamper", None, &mut wrong),
        fire: take(&members, "fire", Some(true), &mut wrong),
        ..PortalReport::default()
    };
    Ok(PortalReport { malformed: wrong, ..report })
}

/// Field `key`; `safe`: what counts if it is among several values.
fn take<'t, T>(members: &[(String, &'t str)], key: &str, safe: Option<T>, wrong: &mut Vec<String>) -> Option<T>
where
    T: Deserialize<'t> + PartialEq,
{
    let raws = members.iter().filter(|(name, raw)| name == key && *raw != "null").map(|(_, raw)| *raw);
    let mut values = Vec::new();
    for (at, raw) in raws.enumerate() {
        let complaint = match json::read::<T>(raw, Place::Message) {
            Ok(value) => {
                values.push(value);
                (at == 1).then(|| "is given twice; give each field once".to_owned())
            }
            // What was sent may be the UID of a card, and this is shown and logged.
            Err(e) => Some(without_value(e.message.trim_start_matches("``: "), raw)),
        };
        // One complaint a field: a message may hold a field many times.
        if let Some(complaint) =
            complaint.filter(|_| wrong.last().is_none_or(|last| !last.starts_with(&format!("`{key}`"))))
        {
            wrong.push(format!("`{key}`: {complaint}"));
        }
    }
    if safe.is_some() && values.iter().any(|value| Some(value) == safe.as_ref()) {
        return safe;
    }
    let first = values.pop()?;
    values.iter().all(|value| *value == first).then_some(first)
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Contact {
    Open,
    Closed,
}

/// The members of the object that fills `text`, each value still unread; a value may be anything that ends at a comma or the end of the
/// object, also what JSON does not know (`nan`, `ON`, nothing, text with a control character). `None`: not an object.
fn members(text: &str) -> Option<Vec<(String, &str)>> {
    let mut rest = text.strip_prefix('{')?.trim_ascii_start();
    let mut members = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return after.is_empty().then_some(members);
        }
        let (key, after) = rest.split_at_checked(quoted_len(rest.as_bytes())?)?;
        let value = after.trim_ascii_start().strip_prefix(':')?;
        let (raw, after) = value.split_at_checked(value_bytes(value)?)?;
        // A name that cannot be read is kept as an empty one, which is no field's.
        members.push((serde_json::from_str(key).unwrap_or_default(), raw.trim_ascii()));
        rest = after.strip_prefix(',').unwrap_or(after).trim_ascii_start();
    }
}

/// Length of the value at the beginning, up to the comma or brace behind it.
fn value_bytes(text: &str) -> Option<usize> {
    let (mut at, mut depth) = (0_usize, 0_usize);
    loop {
        let rest = text.get(at..)?;
        match rest.chars().next()? {
            '"' => at += quoted_len(rest.as_bytes())?,
            ',' | '}' if depth == 0 => return Some(at),
            '{' | '[' => (at, depth) = (at + 1, depth + 1),
            '}' | ']' => (at, depth) = (at + 1, depth.saturating_sub(1)),
            other => at += other.len_utf8(),
        }
    }
}

/// `decision` for a portal. `hold_ms` is there for a granted gate or door only, `delay_ms` for a granted box that rests.
///
/// # Errors
/// The body cannot be written as JSON; there is no decision that cannot.
pub fn encode_decision(
    id: Option<&str>,
    decision: &Decision,
    delay_ms: Option<u64>,
) -> Result<Vec<u8>, serde_json::Error> {
    up::encode(&PortalDecision {
        id,
        granted: decision.is_grant(),
        reason: decision.reason_str(),
        hold_ms: match decision {
            Decision::Grant(grant) => grant.hold_ms().map(u64::from),
            Decision::Deny(_) => None,
        },
        delay_ms,
        ttl_ms: DECISION_TTL_MS,
        flags: decision.flags().iter().map(GrantFlag::as_str).collect(),
    })
}

/// `decision`, as the gateway writes it and a portal reads it; `T` is text, borrowed or owned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalDecision<T = String> {
    /// The portal's number of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<T>,
    /// Whether it may open.
    #[serde(rename = "decision", with = "granted")]
    pub granted: bool,
    /// Why.
    pub reason: T,
    /// How long it opens, in milliseconds; `None`: a power box, which stays on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// How long a power box waits before it switches on, in milliseconds; `None`: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// How long after the request's answer it still counts, in milliseconds.
    pub ttl_ms: u64,
    /// What the warden should see.
    #[serde(default)]
    pub flags: Vec<T>,
}

/// Whether something is granted, as `grant` or `deny`.
mod granted {
    use super::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Decided {
        Grant,
        Deny,
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub fn serialize<S: serde::Serializer>(granted: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        if *granted { Decided::Grant } else { Decided::Deny }.serialize(serializer)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        Decided::deserialize(deserializer).map(|decided| matches!(decided, Decided::Grant))
    }
}

names! {
    /// What `control` orders.
    pub enum Action {
        /// Open once.
        Release,
        /// Lock now.
        Lock,
        /// Switch the power on.
        PowerOn,
        /// Switch the power off.
        PowerOff,
        /// Stay open.
        Free,
        /// Back to cards.
        Resume,
    }
}

impl Action {
    /// Whether it opens or energises. Such an order carries `ttl_ms` and is published at QoS 0, so that no broker delivers it later.
    #[must_use]
    pub fn opens(self) -> bool {
        match self {
            Self::Release | Self::PowerOn | Self::Free => true,
            Self::Lock | Self::PowerOff | Self::Resume => false,
        }
    }

    /// The QoS it is published with.
    #[must_use]
    pub fn qos(self) -> Qos {
        if self.opens() { Qos::AtMostOnce } else { Qos::AtLeastOnce }
    }
}

/// `control` for a portal; `id` is the gateway's number of the order.
///
/// # Errors
/// The body cannot be written as JSON; there is no order that cannot.
pub fn encode_control(
    id: &str,
    action: Action,
    hold_ms: Option<u32>,
    reason: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    let ttl_ms = action.opens().then_some(DECISION_TTL_MS);
    up::encode(&PortalControl { id, action, hold_ms: hold_ms.map(u64::from), ttl_ms, reason })
}

/// `control`, as the gateway writes it and a portal reads it; `T` is text, borrowed or owned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalControl<T = String> {
    /// The gateway's number of the order.
    pub id: T,
    /// What to do.
    pub action: Action,
    /// How long, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// How long it counts after it arrived, in milliseconds; `None`: for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Why.
    pub reason: T,
}

/// `request` as a portal writes it; `uid` is text so that a simulated portal can present anything.
#[must_use]
pub fn encode_request(
    id: Option<&str>,
    uid: &str,
    direction: Option<Direction>,
    assurance: Option<Assurance>,
) -> Vec<u8> {
    let mut map = Map::new();
    put(&mut map, "id", id);
    put(&mut map, "direction", direction.map(Direction::as_str));
    put(&mut map, "assurance", assurance.map(Assurance::as_str));
    map.insert("v".into(), json!(VERSION));
    map.insert("uid".into(), json!(uid));
    Value::Object(map).to_string().into_bytes()
}

/// `state` as a portal writes it. `cause` and the exit button have no field on the wire; the way out is a request with
/// `direction` `out`.
#[must_use]
pub fn encode_state(report: &PortalReport) -> Vec<u8> {
    let mut map = Map::new();
    put(&mut map, "online", report.online);
    put(&mut map, "card_present", report.card_present);
    put(&mut map, "contact", report.contact_open.map(|open| if open { "open" } else { "closed" }));
    put(&mut map, "relay", report.relay);
    put(&mut map, "power_w", report.power_w);
    put(&mut map, "energy_kwh", report.energy_kwh);
    put(&mut map, "passed", report.passed.map(Direction::as_str));
    put(&mut map, "overload", report.overload);
    put(&mut map, "restricted_load", report.restricted_load);
    put(&mut map, "tamper", report.tamper);
    put(&mut map, "fire", report.fire);
    let uid = report.uid.as_ref().map(|presented| match presented {
        Presented::Card(uid) => uid.to_string(),
        // A native portal has only whole UIDs; what a foreign reader reported is no UID here.
        Presented::Lossy(reading) => reading.to_string(),
        Presented::Malformed(text) => text.clone(),
    });
    put(&mut map, "uid", uid);
    Value::Object(map).to_string().into_bytes()
}

/// Reads `decision` on the portal's side.
///
/// # Errors
/// What is wrong; a portal then does nothing.
pub fn parse_decision(payload: &[u8]) -> Result<PortalDecision, String> {
    order(payload)
}

/// Reads `control` on the portal's side.
///
/// # Errors
/// What is wrong; a portal then does nothing.
pub fn parse_control(payload: &[u8]) -> Result<PortalControl, String> {
    order(payload)
}

fn order<'t, T: Deserialize<'t>>(payload: &'t [u8]) -> Result<T, String> {
    if payload.len() > PORTAL_ORDER_BYTES_MAX {
        return Err(format!("{} bytes are too many, {PORTAL_ORDER_BYTES_MAX} are allowed", payload.len()));
    }
    let (text, faults) = json::check(payload).map_err(|e| e.to_string())?;
    let read = || {
        faults.first().cloned().map_or(Ok(()), Err)?;
        version(&json::read(text, Place::Message)?)?;
        json::read(text, Place::Message)
    };
    read().map_err(|e| e.message)
}

fn put<T: Into<Value>>(map: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
#[path = "portal_tests.rs"]
mod tests;
