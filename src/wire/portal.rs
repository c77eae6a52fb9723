//! Native MQTT portals (wire contract, section 4): requests and states read, decisions and control written, and the inverse
//! of each for the portal's side.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::bodies::to_bytes;
use super::envelope::VERSION;
use super::fields::Fields;
use super::json;
use super::limits::{
    PORTAL_ORDER_BYTES_MAX, PORTAL_STATE_BYTES_MAX, QUOTE_CHARS_MAX, REQUEST_BYTES_MAX, REQUEST_ID_CHARS_MAX,
};
use super::text::{is_label, shorten};
use super::topic::Qos;
use crate::access::change::OpError;
use crate::access::decision::{Decision, GrantFlags};
use crate::access::input::{PortalReport, Presented, Request};
use crate::access::portal::{Assurance, Direction};

/// How long a decision counts after it was made, in milliseconds; a portal that receives it later must not open.
pub const DECISION_TTL_MS: u32 = 1500;

const DIRECTIONS: [Direction; 2] = [Direction::In, Direction::Out];
const ASSURANCES: [Assurance; 3] = [Assurance::Uid, Assurance::Sector, Assurance::Crypto];

/// Whether a message was delivered as it was sent, or kept by the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Sent now.
    Live,
    /// A retained copy: old, nobody knows how old.
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
    let document = match json::parse(payload) {
        Ok(document) => document,
        Err(error) => {
            request.presented = malformed(&error.to_string());
            return request;
        }
    };
    let fields = Fields::message(&document.map);
    request.assurance =
        fields.choice_if("assurance", &ASSURANCES, Assurance::as_str).ok().flatten().unwrap_or_default();
    let id = fields.text_if("id").and_then(|id| match id {
        Some(id) if !is_label(id, REQUEST_ID_CHARS_MAX) => {
            Err(fields.invalid("id", format_args!("1 to {REQUEST_ID_CHARS_MAX} printable characters are wanted")))
        }
        other => Ok(other.map(str::to_owned)),
    });
    let direction = fields.choice_if("direction", &DIRECTIONS, Direction::as_str);
    let fault = document.faults.first().cloned().map_or(Ok(()), Err);
    // The id and the direction are kept whatever else is wrong: the portal waits for an answer, and the way out is never refused.
    request.id = id.as_ref().ok().cloned().flatten();
    request.direction = direction.as_ref().ok().copied().flatten();
    let formed =
        fault.and_then(|()| version(&fields)).and_then(|()| id.map(|_| ())).and_then(|()| direction.map(|_| ()));
    request.presented = match formed.and_then(|()| fields.text("uid")) {
        Ok(text) => presented(text),
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

/// An error unless `v` is absent or the version sent here.
fn version(fields: &Fields<'_>) -> Result<(), OpError> {
    match fields.get("v") {
        None => Ok(()),
        Some(v) if v.as_u64() == Some(VERSION) => Ok(()),
        Some(other) => {
            let got = shorten(&other.to_string(), QUOTE_CHARS_MAX);
            Err(fields.invalid("v", format_args!("version `{got}` is unknown, {VERSION} is sent here")))
        }
    }
}

/// Reads a `state` field by field. A field with a wrong value is left out and named in [`PortalReport::malformed`]; the other
/// fields count, so that a portal with a broken meter still reports a fire. A BOM, trailing NULs and white space are dropped.
///
/// # Errors
/// What is no JSON object of a known version is refused whole; the text reports why.
pub fn parse_state(payload: &[u8]) -> Result<PortalReport, String> {
    if payload.len() > PORTAL_STATE_BYTES_MAX {
        return Err(format!("{} bytes are too many, {PORTAL_STATE_BYTES_MAX} are allowed", payload.len()));
    }
    let document = lenient_object(payload)?;
    let fields = Fields::message(&document.map);
    version(&fields).map_err(|error| error.message)?;
    let mut wrong: Vec<String> = document.faults.iter().map(|e| e.message.clone()).collect();
    let mut reader = StateReader { fields: &fields, wrong: &mut wrong };
    let report = PortalReport {
        online: reader.take("online", Fields::flag),
        card_present: reader.take("card_present", Fields::flag),
        uid: reader.take("uid", |f, key| f.uid(key).map(Presented::Card)),
        contact_open: reader.take("contact", |f, key| f.choice(key, &[true, false], contact)),
        relay: reader.take("relay", Fields::flag),
        power_w: reader.take("power_w", real),
        energy_kwh: reader.take("energy_kwh", real),
        passed: reader.take("passed", |f, key| f.choice(key, &DIRECTIONS, Direction::as_str)),
        tamper: reader.take("tamper", Fields::flag),
        fire: reader.take("fire", Fields::flag),
        ..PortalReport::default()
    };
    Ok(PortalReport { malformed: wrong, ..report })
}

/// The object in `payload`. Where it is no JSON only because a member has a bare value that JSON does not know, as `nan`, `inf`
/// or `ON`, that value is read as text: it is then wrong for its field, and the other fields can be read.
fn lenient_object(payload: &[u8]) -> Result<json::Document, String> {
    let text = String::from_utf8_lossy(payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload));
    let text = text.trim_end_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
    match json::parse(text.as_bytes()) {
        Err(json::JsonError::Syntax(_)) => json::parse(quote_bare_values(text).as_bytes()),
        read => read,
    }
    .map_err(|error| error.to_string())
}

/// Puts bare member values that are no JSON in quotes.
fn quote_bare_values(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let (mut in_string, mut escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        let (taken, after) = rest.split_at(next.len_utf8());
        quoted.push_str(taken);
        rest = after;
        let ends_key = !in_string && next == ':';
        in_string = if in_string { escaped || next != '"' } else { next == '"' };
        escaped = in_string && next == '\\' && !escaped;
        if !ends_key {
            continue;
        }
        let value = rest.trim_ascii_start();
        let ends = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | '}' | ']' | '"' | '{' | '[');
        let (bare, after) = value.split_at(value.find(ends).unwrap_or(value.len()));
        if !bare.is_empty() && serde_json::from_str::<Value>(bare).is_err() {
            quoted.push_str(&Value::from(bare).to_string());
            rest = after;
        }
    }
    quoted
}

struct StateReader<'r, 'a> {
    fields: &'r Fields<'a>,
    wrong: &'r mut Vec<String>,
}

impl<'a> StateReader<'_, 'a> {
    fn take<T>(&mut self, key: &str, read: impl FnOnce(&Fields<'a>, &str) -> Result<T, OpError>) -> Option<T> {
        self.fields.get(key)?;
        read(self.fields, key).map_err(|e| self.wrong.push(e.message)).ok()
    }
}

fn contact(open: bool) -> &'static str {
    if open { "open" } else { "closed" }
}

fn real(fields: &Fields<'_>, key: &str) -> Result<f64, OpError> {
    fields.need(key)?.as_f64().ok_or_else(|| fields.invalid(key, "a number is wanted"))
}

/// `decision` for a portal. `hold_ms` is there for a granted gate or door only, `delay_ms` for a granted box that rests.
#[must_use]
pub fn encode_decision(id: Option<&str>, decision: &Decision, delay_ms: Option<u64>) -> Vec<u8> {
    let (hold_ms, flags) = match decision {
        Decision::Grant(grant) => (grant.hold_ms(), grant.flags()),
        Decision::Deny(_) => (None, GrantFlags::default()),
    };
    to_bytes(&DecisionBody {
        v: VERSION,
        id,
        decision: decision.as_str(),
        reason: decision.reason_str(),
        hold_ms,
        delay_ms,
        ttl_ms: DECISION_TTL_MS,
        flags: flags.iter().collect(),
    })
}

#[derive(Serialize)]
struct DecisionBody<'a> {
    v: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    decision: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    ttl_ms: u32,
    flags: Vec<&'static str>,
}

/// What `control` orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl Action {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Release, Self::Lock, Self::PowerOn, Self::PowerOff, Self::Free, Self::Resume];

    /// The action's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Lock => "lock",
            Self::PowerOn => "power_on",
            Self::PowerOff => "power_off",
            Self::Free => "free",
            Self::Resume => "resume",
        }
    }

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
#[must_use]
pub fn encode_control(id: &str, action: Action, hold_ms: Option<u32>, reason: &str) -> Vec<u8> {
    let ttl_ms = action.opens().then_some(DECISION_TTL_MS);
    to_bytes(&ControlBody { v: VERSION, id, action: action.as_str(), hold_ms, ttl_ms, reason })
}

#[derive(Serialize)]
struct ControlBody<'a> {
    v: u64,
    id: &'a str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u32>,
    reason: &'a str,
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
    to_bytes(&map)
}

/// `state` as a portal writes it. `cause` and the exit button have no field on the wire; the way out is a request with
/// `direction` `out`.
#[must_use]
pub fn encode_state(report: &PortalReport) -> Vec<u8> {
    let mut map = Map::new();
    put(&mut map, "online", report.online);
    put(&mut map, "card_present", report.card_present);
    put(&mut map, "contact", report.contact_open.map(contact));
    put(&mut map, "relay", report.relay);
    put(&mut map, "power_w", report.power_w);
    put(&mut map, "energy_kwh", report.energy_kwh);
    put(&mut map, "passed", report.passed.map(Direction::as_str));
    put(&mut map, "tamper", report.tamper);
    put(&mut map, "fire", report.fire);
    let uid = report.uid.as_ref().map(|presented| match presented {
        Presented::Card(uid) => uid.to_string(),
        // A native portal has only whole UIDs; what a foreign reader reported is no UID here.
        Presented::Lossy(reading) => reading.to_string(),
        Presented::Malformed(text) => text.clone(),
    });
    put(&mut map, "uid", uid);
    to_bytes(&map)
}

/// `decision` as a portal reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalDecision {
    /// The portal's number of the request.
    pub id: Option<String>,
    /// Whether it may open.
    pub granted: bool,
    /// Why.
    pub reason: String,
    /// How long it opens, in milliseconds; `None`: a power box, which stays on.
    pub hold_ms: Option<u64>,
    /// How long a power box waits before it switches on, in milliseconds; `None`: not at all.
    pub delay_ms: Option<u64>,
    /// How long after the request's answer it still counts, in milliseconds.
    pub ttl_ms: u64,
    /// What the warden should see.
    pub flags: Vec<String>,
}

/// `control` as a portal reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalControl {
    /// The gateway's number of the order.
    pub id: String,
    /// What to do.
    pub action: Action,
    /// How long, in milliseconds.
    pub hold_ms: Option<u64>,
    /// How long it counts after it arrived, in milliseconds; `None`: for good.
    pub ttl_ms: Option<u64>,
    /// Why.
    pub reason: String,
}

/// Reads `decision` on the portal's side.
///
/// # Errors
/// Reports what is wrong; a portal then does nothing.
pub fn parse_decision(payload: &[u8]) -> Result<PortalDecision, String> {
    order(payload, |fields| {
        let flags = match fields.get("flags") {
            Some(value) => fields.as_list("flags", value, REQUEST_BYTES_MAX)?,
            None => &[],
        };
        Ok(PortalDecision {
            id: fields.text_if("id")?.map(str::to_owned),
            granted: fields.choice("decision", &[true, false], |granted| if granted { "grant" } else { "deny" })?,
            reason: fields.text("reason")?.to_owned(),
            hold_ms: milliseconds(fields, "hold_ms")?,
            delay_ms: milliseconds(fields, "delay_ms")?,
            ttl_ms: fields.whole("ttl_ms", 0)?,
            flags: flags.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        })
    })
}

/// Reads `control` on the portal's side.
///
/// # Errors
/// Reports what is wrong; a portal then does nothing.
pub fn parse_control(payload: &[u8]) -> Result<PortalControl, String> {
    order(payload, |fields| {
        Ok(PortalControl {
            id: fields.text("id")?.to_owned(),
            action: fields.choice("action", &Action::ALL, Action::as_str)?,
            hold_ms: milliseconds(fields, "hold_ms")?,
            ttl_ms: milliseconds(fields, "ttl_ms")?,
            reason: fields.text("reason")?.to_owned(),
        })
    })
}

fn milliseconds(fields: &Fields<'_>, key: &str) -> Result<Option<u64>, OpError> {
    fields.get(key).map(|_| fields.whole(key, 0)).transpose()
}

fn order<T>(payload: &[u8], read: impl FnOnce(&Fields<'_>) -> Result<T, OpError>) -> Result<T, String> {
    if payload.len() > PORTAL_ORDER_BYTES_MAX {
        return Err(format!("{} bytes are too many, {PORTAL_ORDER_BYTES_MAX} are allowed", payload.len()));
    }
    let document = json::parse(payload).map_err(|e| e.to_string())?;
    let fields = Fields::message(&document.map);
    let clean = document.faults.first().cloned().map_or(Ok(()), Err);
    clean.and_then(|()| version(&fields)).and_then(|()| read(&fields)).map_err(|e| e.message)
}

fn put<T: Into<Value>>(map: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
#[path = "portal_tests.rs"]
mod tests;
