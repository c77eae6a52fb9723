//! The client of the operator's socket: asks a running gateway; gives the answer as JSON, or as text for people.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::access::effect::Verdict;

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

/// An answer as JSON.
#[must_use]
pub fn json(answer: &Answer) -> String {
    answer.to_string()
}

/// Sends a request with `method` and `target`, e.g. `GET` and `/api/v1/status`.
///
/// # Errors
/// [`AskError`].
pub fn ask(socket: &Path, method: &str, target: &str) -> Result<Answer, AskError> {
    let broken = |error: io::Error| AskError::Broken(error.to_string());
    let not_there = |source| AskError::NotThere { socket: socket.display().to_string(), source };
    let mut stream = UnixStream::connect(socket).map_err(not_there)?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S))).map_err(broken)?;
    stream.set_write_timeout(Some(Duration::from_secs(ANSWER_S))).map_err(broken)?;
    // HTTP/1.0: one request, one answer, and the end of the stream is the end of the answer.
    write!(stream, "{method} {target} HTTP/1.0\r\nHost: dormgate\r\nContent-Length: 0\r\n\r\n").map_err(broken)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(broken)?;
    let text = String::from_utf8(answer).map_err(|_| AskError::Broken("it is not text".to_owned()))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| AskError::Broken("it has no body".to_owned()))?;
    let body: Value = serde_json::from_str(body).map_err(|error| AskError::Broken(error.to_string()))?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status == "200" { Ok(body) } else { Err(AskError::Refused(string(&body, "error").to_owned())) }
}

/// The target of a query what would be decided for a card, at one portal or at all.
#[must_use]
pub fn query_target(uid: &str, portal: Option<&str>) -> String {
    let portal = portal.map_or(String::new(), |portal| format!("&portal={}", encode(portal)));
    format!("/api/v1/query?uid={}{portal}", encode(uid))
}

/// Asks what would be decided for a card at a portal.
///
/// # Errors
/// [`AskError`].
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
    lines.extend(list(status, "offline").iter().filter_map(Value::as_str).map(|portal| format!("offline  {portal}")));
    for mode in list(status, "modes") {
        lines.push(format!("mode     {}: {}", string(mode, "portal"), string(mode, "posture")));
    }
    for portal in list(status, "malformed") {
        lines.push(format!("wrong    {}: {}", string(portal, "portal"), string(portal, "wrong")));
    }
    for fault in list(status, "broker_faults") {
        lines.push(format!("broker   {}: {}", string(fault, "link"), string(fault, "detail")));
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

/// The answer of `query` as text.
#[must_use]
pub fn query_text(answer: &Value) -> String {
    let verdict = |v: &Value| {
        let also: Vec<_> = list(v, "also").iter().filter_map(Value::as_str).collect();
        let also = if also.is_empty() { String::new() } else { format!(" (also {})", also.join(", ")) };
        format!("{:<24} {:<5} {}{also}", string(v, "portal"), string(v, "decision"), string(v, "reason"))
    };
    list(answer, "verdicts").iter().map(verdict).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_has_a_line_for_each_part_that_is_offline_malformed_or_insecure() {
        let status = json!({
            "boot": "b1", "version": "0.1.0", "streams": [{ "name": "apartment", "epoch": 3, "seq": 7, "missing": 1, "age_s": 12 }],
            "cards": 2, "portals": { "online": 1, "offline": 1 }, "offline": ["door-412"],
            "modes": [{ "portal": "gate-in", "posture": "lockdown" }], "malformed": [{ "portal": "gate-in", "wrong": "`fire`: true or false is wanted" }],
            "audit": { "last": 9, "acked": 8 }, "clock": "trusted",
            "insecure": [], "meters": [{ "portal": "power-412", "power_w": 41.2 }],
        });
        let expected = "dormgate 0.1.0, run b1\ncards    2\nportals  1 online, 1 offline\naudit    last 9, the center has 8\n\
                    clock    trusted\noffline  door-412\nmode     gate-in: lockdown\n\
                    wrong    gate-in: `fire`: true or false is wanted\n\
                    stream   apartment: 3.7, 1 missing, 12 s old\nmeter    power-412: 41.2 W";
        assert_eq!(status_text(&status), expected);
    }
}
