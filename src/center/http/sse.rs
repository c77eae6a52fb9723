//! The client of `GET /v1/events`: server-sent events as the service's own types, over lost connections.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use super::super::GatewayEvent;
use super::client::{ANSWER_S, Ask, HttpClient, ServerError};
use crate::access::effect::Resync;
use crate::access::event::AuditEvent;
use crate::access::id::GatewayId;
use crate::wire::audit;

/// Longest silence of the service, in seconds; it sends a comment every 15 s. Then the connection is made again.
const SILENCE_S: u64 = 45;
/// Time between two attempts to connect again, in milliseconds.
const AGAIN_MS: u64 = 1_000;
/// Longest event, in bytes; a longer one ends the connection.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events that others may have added to an audit before it is looked into.
const ADDED_MAX: usize = 300;

/// What happens at the service.
#[derive(Debug)]
pub enum Seen {
    /// Something of a gateway, or of the service's own link to the broker.
    Event(Option<GatewayId>, GatewayEvent),
    /// Something is wrong with the audit of a gateway.
    Trouble(Option<GatewayId>, String),
    /// Events are not shown, because they are no longer in the service's memory.
    Missed(String),
    /// The connection to the service is lost; it is made again.
    Lost(String),
    /// The connection is there again.
    Back,
}

/// The events, from when this was made.
pub struct EventStream {
    client: Arc<HttpClient>,
    body: Option<Incoming>,
    parser: Parser,
    last_id: Option<String>,
    ready: std::collections::VecDeque<RawEvent>,
}

#[derive(Deserialize)]
struct Data<'d> {
    #[serde(default)]
    gateway: Option<GatewayId>,
    #[serde(borrow, default)]
    data: Option<&'d RawValue>,
    /// Of `missed`, which is about no gateway.
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Link {
    up: bool,
    #[serde(default)]
    why: String,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// What `GET /v1/audit` answers.
#[derive(Deserialize)]
struct Page {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    item: Box<RawValue>,
}

#[derive(Deserialize)]
struct Numbered {
    n: u64,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(flatten)]
    asked: Resync,
    messages: usize,
}

impl EventStream {
    /// Listens; `Err`: the service cannot be reached, or does not let this client.
    pub(super) async fn open(client: Arc<HttpClient>) -> Result<Self, ServerError> {
        let mut stream = Self { client, body: None, parser: Parser::default(), last_id: None, ready: [].into() };
        stream.connect().await?;
        Ok(stream)
    }

    async fn connect(&mut self) -> Result<(), ServerError> {
        let id = self.last_id.clone();
        let mut ask = Ask::get("/v1/events");
        ask.headers.extend(id.as_deref().map(|id| ("last-event-id", id)));
        let answered = timeout(Duration::from_secs(ANSWER_S), self.client.response(ask)).await;
        let late = ServerError::Late { server: self.client.name(), what: "events", seconds: ANSWER_S };
        let response = answered.map_err(|_| late)??;
        let status = response.status();
        if !status.is_success() {
            let body = timeout(Duration::from_secs(ANSWER_S), response.into_body().collect()).await;
            let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
            return Err(self.client.status(status, &body));
        }
        self.parser = Parser::default();
        self.body = Some(response.into_body());
        Ok(())
    }

    /// The next that happens; goes on behind the last event after a lost connection. Fails when the service does not let this client
    /// listen any more.
    pub async fn next(&mut self) -> Result<Seen, ServerError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.last_id = event.id.clone().or(self.last_id.take());
                if let Some(seen) = self.seen(&event).await {
                    return Ok(seen);
                }
                continue;
            }
            let Some(body) = &mut self.body else {
                sleep(Duration::from_millis(AGAIN_MS)).await;
                match self.connect().await {
                    Ok(()) => return Ok(Seen::Back),
                    Err(error @ ServerError::Status { .. }) if !error.is_passing() => return Err(error),
                    Err(_) => continue,
                }
            };
            let why = match timeout(Duration::from_secs(SILENCE_S), body.frame()).await {
                Ok(Some(Ok(frame))) => match frame.data_ref().map(|bytes| self.parser.take(bytes)) {
                    None => continue,
                    Some(Ok(events)) => {
                        self.ready.extend(events);
                        continue;
                    }
                    Some(Err(why)) => why,
                },
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => "the service ended it".to_owned(),
                Err(_) => format!("nothing was received for {SILENCE_S} s"),
            };
            self.body = None;
            return Ok(Seen::Lost(why));
        }
    }

    /// `None`: of a type that this version does not know.
    async fn seen(&self, event: &RawEvent) -> Option<Seen> {
        let Data { gateway, data, message } = serde_json::from_str(&event.data).ok()?;
        if event.kind == "missed" {
            return Some(Seen::Missed(message.unwrap_or_else(|| "the service was too slow".to_owned())));
        }
        let text = data.map_or("null", RawValue::get);
        let read = match event.kind.as_str() {
            "link" => serde_json::from_str(text)
                .ok()
                .map(|Link { up, why }| if up { GatewayEvent::Up } else { GatewayEvent::Down(why) }),
            "ack" => serde_json::from_str(text).ok().map(GatewayEvent::Ack),
            "reply" => serde_json::from_str(text).ok().map(GatewayEvent::Reply),
            "alarm" => serde_json::from_str(text).ok().map(GatewayEvent::Alarm),
            "resync" => {
                let read = serde_json::from_str(text).ok();
                read.map(|Asked { asked, messages }| GatewayEvent::Resync(asked, messages))
            }
            "state" => Some(GatewayEvent::State(text.to_owned())),
            "problem" => serde_json::from_str(text).ok().map(|Message { message }| GatewayEvent::Problem(message)),
            "audit_trouble" => {
                let Message { message } = serde_json::from_str(text).ok()?;
                return Some(Seen::Trouble(gateway, message));
            }
            "audit" => {
                let numbers: Vec<Numbered> = serde_json::from_str(text).ok()?;
                let numbers: BTreeSet<u64> = numbers.into_iter().map(|one| one.n).collect();
                let of = gateway.clone()?;
                match self.audit(&of, &numbers).await {
                    Ok(events) => Some(GatewayEvent::Audit(events)),
                    Err(error) => Some(GatewayEvent::Problem(format!("audit events are not shown: {error}"))),
                }
            }
            _ => return None,
        };
        let read = read.unwrap_or_else(|| {
            GatewayEvent::Problem(format!("an event `{}` that this version cannot read", event.kind))
        });
        Some(Seen::Event(gateway, read))
    }

    /// The events themselves, oldest first; what is sent names them only.
    async fn audit(&self, gateway: &GatewayId, numbers: &BTreeSet<u64>) -> Result<Vec<AuditEvent>, ServerError> {
        let most = numbers.len().saturating_add(ADDED_MAX);
        let path = format!("/v1/audit?gateway={gateway}&order=desc&limit={most}");
        let (_, body) = self.client.done(Ask::get(path)).await?;
        let page: Page = serde_json::from_slice(&body).map_err(|error| self.client.unreadable(&error))?;
        let decoded = page.items.iter().filter_map(|item| audit::decode(item.item.get().as_bytes()).ok());
        let mut events: Vec<AuditEvent> = decoded.map(|decoded| decoded.event).collect();
        events.retain(|event| numbers.contains(&event.n));
        events.reverse();
        Ok(events)
    }
}

/// One event as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RawEvent {
    id: Option<String>,
    kind: String,
    data: String,
}

/// Cuts the bytes into events (HTML, 9.2.6).
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
    event: RawEvent,
}

impl Parser {
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<RawEvent>, String> {
        self.bytes.extend_from_slice(bytes);
        let mut events = Vec::new();
        let whole = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.bytes.drain(..whole).collect();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_end_matches(['\r', '\n']).to_owned();
            self.line(&line, &mut events);
        }
        if self.bytes.len() + self.event.data.len() > EVENT_BYTES_MAX {
            return Err(format!("an event has more than {EVENT_BYTES_MAX} bytes"));
        }
        Ok(events)
    }

    fn line(&mut self, line: &str, events: &mut Vec<RawEvent>) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "" if line.is_empty() => {
                let event = std::mem::take(&mut self.event);
                events.extend((!event.data.is_empty()).then_some(event));
            }
            // A comment keeps the connection open.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_wherever_the_bytes_are_cut() {
        let text = ": keep-alive\r\n\r\nid: 7-1\r\nevent: link\r\ndata: {\"a\":1}\r\n\r\nevent: state\ndata: x\ndata: y\n\nid: 7-3\ndata: \u{e9}";
        let event = |id: Option<&str>, kind: &str, data: &str| RawEvent {
            id: id.map(str::to_owned),
            kind: kind.to_owned(),
            data: data.to_owned(),
        };
        let expected =
            [event(Some("7-1"), "link", "{\"a\":1}"), event(None, "state", "x\ny"), event(Some("7-3"), "", "\u{e9}")];
        for cut in 1..text.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for part in text.as_bytes().chunks(cut).chain([&b"\n\n"[..]]) {
                events.extend(parser.take(part).unwrap());
            }
            assert_eq!(events, expected, "cut every {cut} bytes");
        }
        let mut parser = Parser::default();
        assert!(parser.take(&vec![b'x'; EVENT_BYTES_MAX + 1]).is_err());
    }
}
