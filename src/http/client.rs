//! The client of the operator's socket: asks a running gateway; gives the answer as JSON, or as text for people.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::access::effect::Verdict;
use crate::access::scrub::scrubbed;
use crate::store::Inventory;

/// How long an answer may take, in seconds.
const ANSWER_S: u64 = 10;
/// Longest answer read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No gateway can be reached.
    #[error(
        "no gateway answers at `{socket}`: {source}; start `dormgate run` with the same `data_dir`, as a user whose group you are in"
    )]
    NotThere {
        /// The socket.
        socket: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The connection failed, or the answer cannot be parsed.
    #[error("the gateway's answer cannot be read: {0}")]
    Broken(String),
    /// The gateway refuses.
    #[error("{0}")]
    Refused(String),
}

/// What the gateway answered.
pub type Answer = Value;

/// Sends a request with `method` and `target`, e.g. `GET` and `/api/v1/status`.
pub fn ask(socket: &Path, method: &str, target: &str) -> Result<Answer, AskError> {
    parsed(&text(socket, method, target)?)
}

fn parsed<'b, T: Deserialize<'b>>(body: &'b str) -> Result<T, AskError> {
    serde_json::from_str(body).map_err(|error| AskError::Broken(error.to_string()))
}

/// The state of the gateway without what may be a UID in any of its texts.
pub fn status_without_cards(socket: &Path) -> Result<String, AskError> {
    let mut status = ask(socket, "GET", "/api/v1/status")?;
    scrub(&mut status);
    Ok(status.to_string())
}

fn scrub(value: &mut Value) {
    match value {
        Value::String(text) => *text = scrubbed(text),
        Value::Array(values) => values.iter_mut().for_each(scrub),
        Value::Object(fields) => fields.values_mut().for_each(scrub),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A page of the audit.
#[derive(Debug)]
pub struct AuditPage {
    /// The last event there is.
    pub last: u64,
    /// The next page begins with this event; behind `last`: it does not exist yet.
    pub next: u64,
    /// The events, byte for byte.
    pub events: Vec<String>,
}

/// Asks for a page of the audit; `query` as in `from=1&uid=1EA68671`.
pub fn audit_page(socket: &Path, query: &str) -> Result<AuditPage, AskError> {
    #[derive(Deserialize)]
    struct Page<'b> {
        last: u64,
        next: u64,
        #[serde(borrow)]
        events: Vec<&'b RawValue>,
    }
    let body = text(socket, "GET", &format!("/api/v1/audit?{query}"))?;
    let Page { last, next, events } = parsed(&body)?;
    Ok(AuditPage { last, next, events: events.into_iter().map(|event| event.get().to_owned()).collect() })
}

/// Asks what the store of the gateway holds.
pub fn inventory(socket: &Path) -> Result<Inventory, AskError> {
    parsed(&text(socket, "GET", "/api/v1/inventory")?)
}

/// Sends a request; the body of the answer, as it is.
pub(crate) fn text(socket: &Path, method: &str, target: &str) -> Result<String, AskError> {
    let broken = |error: io::Error| AskError::Broken(error.to_string());
    let not_there = |source| AskError::NotThere { socket: socket.display().to_string(), source };
    let mut stream = UnixStream::connect(socket).map_err(not_there)?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S))).map_err(broken)?;
    stream.set_write_timeout(Some(Duration::from_secs(ANSWER_S))).map_err(broken)?;
    // HTTP/1.0: one request, one answer, and the end of the stream is the end of the answer.
    write!(stream, "{method} {target} HTTP/1.0\r\nHost: dormgate\r\nContent-Length: 0\r\n\r\n").map_err(broken)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut answer).map_err(broken)?;
    if answer.len() as u64 > ANSWER_BYTES_MAX {
        return Err(AskError::Broken(format!("it is longer than {} MiB", ANSWER_BYTES_MAX / (1024 * 1024))));
    }
    let text = String::from_utf8(answer).map_err(|_| AskError::Broken("it is not text".to_owned()))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| AskError::Broken("it has no body".to_owned()))?;
    if head.split_whitespace().nth(1) == Some("200") {
        return Ok(body.to_owned());
    }
    // Another program at this socket may answer something else.
    let refused = serde_json::from_str::<Value>(body);
    Err(AskError::Refused(refused.map_or_else(|_| body.to_owned(), |refused| string(&refused, "error").to_owned())))
}

/// The target of a query what would be decided for a card, at one portal or at all.
pub(crate) fn query_target(uid: &str, portal: Option<&str>) -> String {
    let portal = portal.map_or(String::new(), |portal| format!("&portal={}", encode(portal)));
    format!("/api/v1/query?uid={}{portal}", encode(uid))
}

/// Asks what would be decided for a card at a portal.
pub fn verdict(socket: &Path, uid: &str, portal: &str) -> Result<Verdict, AskError> {
    let answer = ask(socket, "GET", &query_target(uid, Some(portal)))?;
    let verdict = list(&answer, "verdicts").first().unwrap_or(&Value::Null);
    Verdict::deserialize(verdict).map_err(|error| AskError::Broken(error.to_string()))
}

/// Percent-encodes a part of a target (RFC 3986, 2.1).
#[must_use]
pub fn encode(part: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    part.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn string<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or("?")
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The answer of `status` as text.
#[must_use]
pub fn status_text(status: &Value) -> String {
    let none = Value::Null;
    let part = |key| status.get(key).unwrap_or(&none);
    let mut lines = vec![
        format!("dormgate {}, run {}", string(status, "version"), string(status, "boot")),
        format!("cards    {}", number(status, "cards")),
        format!(
            "portals  {} online, {} offline",
            number(part("portals"), "online"),
            number(part("portals"), "offline")
        ),
        format!("audit    last {}, the center has {}", number(part("audit"), "last"), number(part("audit"), "acked")),
        format!("clock    {}", string(status, "clock")),
    ];
    lines.extend(list(status, "not_ready").iter().filter_map(Value::as_str).map(|why| format!("PROBLEM  {why}")));
    lines.extend(
        match string(status, "list") {
            "damaged" => {
                Some("LIST     damaged or restored: nothing is granted from it until the centers have sent it again")
            }
            "filling" => {
                Some("LIST     being filled for the first time: a card that no center has named yet is unknown")
            }
            _ => None,
        }
        .map(str::to_owned),
    );
    lines.extend(list(status, "damaged").iter().filter_map(Value::as_str).map(|stream| {
        format!(
            "LIST     {stream} is not sent again yet; if its center sends nothing, have it publish a head, or remove the stream from the configuration"
        )
    }));
    let free = status.get("disk_free_bytes").and_then(Value::as_u64);
    lines.extend(free.map(|bytes| format!("disk     {} MiB free", bytes / (1024 * 1024))));
    let unreported = list(status, "unreported");
    let offline = |portal: &Value| {
        let portal_of = |cause: &&Value| cause.get("portal") == Some(portal);
        let why = match list(status, "causes").iter().find(portal_of) {
            Some(cause) => format!(": {}", string(cause, "cause")),
            None if unreported.contains(portal) => ": nothing reported since the start; it may be there".to_owned(),
            None => String::new(),
        };
        Some(format!("offline  {}{why}", portal.as_str()?))
    };
    lines.extend(list(status, "offline").iter().filter_map(offline));
    for mode in list(status, "modes") {
        lines.push(format!("mode     {}: {}", string(mode, "portal"), string(mode, "posture")));
    }
    for open in list(status, "unconfirmed") {
        let (portal, uid, since) = (string(open, "portal"), string(open, "uid"), string(open, "since"));
        lines.push(format!("revoked  {portal}: not confirmed off since {uid} was revoked at {since}"));
    }
    for alarm in list(status, "alarms") {
        let at = alarm.get("portal").and_then(Value::as_str).map_or(String::new(), |portal| format!(" at {portal}"));
        lines.push(format!("ALARM    {}{at} since {}", string(alarm, "alarm"), string(alarm, "since")));
    }
    for portal in list(status, "malformed") {
        lines.push(format!("wrong    {}: {}", string(portal, "portal"), string(portal, "wrong")));
    }
    for link in list(status, "links") {
        let state = match link.get("up") {
            Some(Value::Bool(true)) => format!("connected for {} s", number(link, "for_s")),
            _ => format!("not connected: {}", string(link, "why")),
        };
        lines.push(format!("link     {}: {state}", string(link, "link")));
    }
    for fault in list(status, "broker_faults") {
        let (link, code, detail) = (string(fault, "link"), string(fault, "fault"), string(fault, "detail"));
        lines.push(format!("broker   {link}: {code}: {detail}"));
    }
    for stream in list(status, "streams") {
        let missing = match number(stream, "missing") {
            0 => String::new(),
            n => format!(", {n} missing"),
        };
        let age =
            stream.get("age_s").and_then(Value::as_u64).map_or("never received".to_owned(), |s| format!("{s} s old"));
        let (name, epoch, seq) = (string(stream, "name"), number(stream, "epoch"), number(stream, "seq"));
        lines.push(format!("stream   {name}: {epoch}.{seq}{missing}, {age}"));
    }
    for meter in list(status, "meters") {
        let value = |key| meter.get(key).and_then(Value::as_f64);
        let power = value("power_w").map(|w| format!("{w} W"));
        let energy = value("energy_kwh").map(|kwh| format!("{kwh} kWh"));
        let both: Vec<String> = power.into_iter().chain(energy).collect();
        lines.push(format!("meter    {}: {}", string(meter, "portal"), both.join(", ")));
    }
    lines.extend(list(status, "insecure").iter().filter_map(Value::as_str).map(|i| format!("insecure {i}")));
    lines.join("\n")
}

/// A revocation for a person: a line, and one for each power box that it cut.
fn revocation_lines(proof: &Value) -> Vec<String> {
    let (stream, epoch, seq) = (string(proof, "stream"), number(proof, "epoch"), number(proof, "seq"));
    let at = |key| proof.get(key).and_then(Value::as_str).unwrap_or("not yet");
    let (received, in_force, durable) = (at("received_at"), at("in_force_at"), at("durable_at"));
    let first =
        format!("revoked by {stream} {epoch}.{seq}: received {received}, in force {in_force}, on disk {durable}");
    let portal = |place: &Value| {
        let portal = string(place, "portal");
        match (place.get("confirmed_at").and_then(Value::as_str), place.get("how").and_then(Value::as_str)) {
            (Some(at), Some("off")) => format!("  {portal}: confirmed off {at}"),
            (Some(at), Some("on_by_right")) => format!("  {portal}: on by another right since {at}"),
            (Some(at), _) => format!("  {portal}: not configured any more since {at}"),
            (None, _) => format!("  {portal}: NOT CONFIRMED off yet"),
        }
    };
    std::iter::once(first).chain(list(proof, "portals").iter().map(portal)).collect()
}

/// One rung of the ladder for a person.
fn step_line(step: &Value) -> String {
    let mark = if step.get("ok") == Some(&Value::Bool(true)) { "ok" } else { "DENIES" };
    let set_by = step.get("set_by").map_or(String::new(), |set_by| {
        // What a snapshot set stands behind all ops of its last message.
        let is_place = |(at, number): &(usize, &Value)| *at < 2 || number.as_u64() < Some(u64::from(u32::MAX) - 1);
        let numbers = list(set_by, "revision").iter().enumerate().filter(is_place);
        let numbers: Vec<_> = numbers.map(|(_, number)| number.to_string()).collect();
        let at = set_by.get("at").and_then(Value::as_str).map_or(String::new(), |at| format!(" at {at}"));
        format!("  [{} {}{at}]", string(set_by, "stream"), numbers.join("."))
    });
    let fact = step.get("fact").and_then(Value::as_str).unwrap_or_default();
    format!("  {mark:<6} {:<21} {fact}{set_by}", string(step, "step")).trim_end().to_owned()
}

/// The answer of `query` as text.
#[must_use]
pub fn query_text(answer: &Value) -> String {
    let verdict = |v: &Value| {
        let also: Vec<_> = list(v, "also").iter().filter_map(Value::as_str).collect();
        let also = if also.is_empty() { String::new() } else { format!(" (also {})", also.join(", ")) };
        let first = format!("{:<24} {:<5} {}{also}", string(v, "portal"), string(v, "decision"), string(v, "reason"));
        let steps = list(v, "steps");
        if steps.is_empty() {
            return first;
        }
        let wording = |key: &str, label: &str| {
            let words = v.get(key)?;
            Some(format!("  {label:<6} {}\n         {}", string(words, "en"), string(words, "zh")))
        };
        let lines = [wording("words", "means"), wording("remedy", "do")].into_iter().flatten();
        let flag_line = |flag: &Value| {
            let texts =
                ["words", "remedy"].map(|key| flag.get(key).map(|words| (string(words, "en"), string(words, "zh"))));
            let [(en, zh), (do_en, do_zh)] = texts.map(Option::unwrap_or_default);
            format!("  flag   {}: {en}; {do_en}\n         {zh}。{do_zh}", string(flag, "flag"))
        };
        let flags: Vec<_> = list(v, "flags").iter().map(flag_line).collect();
        let lines = lines.chain(flags);
        std::iter::once(first).chain(lines).chain(steps.iter().map(step_line)).collect::<Vec<_>>().join("\n")
    };
    let verdicts = list(answer, "verdicts").iter().map(verdict);
    verdicts.chain(list(answer, "revocations").iter().flat_map(revocation_lines)).collect::<Vec<_>>().join("\n")
}

/// `in gate-in 2026-09-01T08:00:00.000Z taken`
fn seen_text(seen: &Value) -> String {
    let doubt = if string(seen, "clock") == "trusted" { "" } else { " (clock untrusted)" };
    let (way, portal, at) = (string(seen, "direction"), string(seen, "portal"), string(seen, "at"));
    format!("{way:<3} {portal} {at}{doubt} {}", string(seen, "certainty"))
}

fn boxes_text(card: &Value) -> Option<String> {
    let boxes: Vec<_> = list(card, "boxes").iter().filter_map(Value::as_str).collect();
    (!boxes.is_empty()).then(|| format!("card in {}", boxes.join(", ")))
}

/// `08193021 1EA68671`
fn whose(card: &Value) -> String {
    let holder = card.get("holder").and_then(Value::as_str).unwrap_or("-");
    format!("{holder} {}", string(card, "uid"))
}

/// The answer of `where` as text.
pub(crate) fn where_text(answer: &Value) -> String {
    let cards = list(answer, "cards");
    if cards.is_empty() {
        return "not seen: no gate and no power box has read this card, or a card of this holder".to_owned();
    }
    let lines = cards.iter().flat_map(|card| {
        let seen = list(card, "seen").iter().map(seen_text);
        std::iter::once(whose(card)).chain(boxes_text(card).into_iter().chain(seen).map(|line| format!("  {line}")))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The answer of `roll-call` as text.
pub(crate) fn roll_call_text(answer: &Value) -> String {
    let inside = list(answer, "inside");
    let line = |card: &Value| {
        let seen = list(card, "seen").first().map(seen_text);
        let parts: Vec<_> = seen.into_iter().chain(boxes_text(card)).collect();
        format!("{:<8} {}  {}", string(card, "certainty"), whose(card), parts.join("; "))
    };
    let of = |certainty| inside.iter().filter(|card| string(card, "certainty") == certainty).count();
    let (taken, granted, doubtful) = (of("taken"), of("granted"), of("doubtful"));
    let sum = format!("{} inside: {taken} taken, {granted} granted, {doubtful} doubtful", inside.len());
    inside.iter().map(line).chain([sum]).collect::<Vec<_>>().join("\n")
}

/// The answer of `may` as text.
pub(crate) fn may_text(answer: &Value) -> String {
    let cards = list(answer, "cards");
    let line = |card: &Value| format!("{}  {}", whose(card), string(card, "reason"));
    let sum = format!("{} cards may open {} now", cards.len(), string(answer, "portal"));
    cards.iter().map(line).chain([sum]).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
