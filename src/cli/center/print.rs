//! What a gateway publishes, in one line for a person each.

use super::super::counted;
use super::super::event_line::event_line;
use crate::access::change::OpError;
use crate::access::effect::{Ack, Reply, Verdict};
use crate::access::id::{ClockTrust, StreamName};
use crate::center::{Agreement, Answered, GatewayEvent, StreamAgreement};
use crate::wire::state::{GatewayState, Presence};

/// Cards or boxes of one ack that are named. Further ones are counted.
const NAMED_MAX: usize = 20;

fn list<T: ToString>(name: &str, items: &[T]) -> String {
    if items.is_empty() { String::new() } else { format!("; {name} {}", crate::few(items, NAMED_MAX, " ")) }
}

fn errors(errors: &[OpError]) -> String {
    let one = |e: &OpError| {
        let place = e.op.map_or(String::new(), |op| format!("op {op}: "));
        format!("; {place}{}: {}", e.code.as_str(), e.message)
    };
    errors.iter().map(one).collect()
}

/// `card-office 3.1042 applied; revoked 1EA68671; cut power-412`
pub(super) fn ack(ack: &Ack) -> String {
    ack_after(ack, "")
}

/// The same with how long it took, behind the outcome.
fn ack_after(ack: &Ack, took: &str) -> String {
    let number = ack.at.map_or("without a number".to_owned(), |at| format!("{}.{}", at.epoch, at.seq));
    let missing: u64 = ack.missing.iter().fold(0, |sum, (from, to)| sum.saturating_add(to.saturating_sub(*from) + 1));
    let missing = match missing {
        0 => String::new(),
        1 => "; 1 earlier message is missing there, `center watch` sends it when asked".to_owned(),
        n => format!("; {n} earlier messages are missing there, `center watch` sends them when asked"),
    };
    let snapshot = if ack.snapshot.is_some() { "snapshot " } else { "" };
    format!(
        "{} {snapshot}{number} {}{took}{}{}{}{missing}",
        ack.stream.as_ref().map_or("unknown stream", StreamName::as_str),
        ack.outcome.as_str(),
        errors(&ack.errors),
        list("revoked", &ack.revoked),
        list("cut", &ack.cut),
    )
}

/// What an ack notes on ops that were applied, a line each: which op, and what it did not reach or what is odd about it.
fn notes(ack: &Ack) -> String {
    ack.notes.iter().map(|note| format!("\n  op {}: {}", note.op, note.message)).collect()
}

/// The ack of a message just published, or what its absence means.
pub(super) fn answered(one: &Answered, waited_s: u64) -> String {
    match &one.ack {
        _ if one.is_ignored => format!(
            "{} {}.{}: IGNORED, the gateway has another message under this number: numbers of this center were used before, begin a higher `epoch` (see `center compare`)",
            one.stream, one.at.epoch, one.at.seq
        ),
        Some((body, took)) => {
            format!("{}{}", ack_after(body, &format!(" in {} ms", took.as_millis())), notes(body))
        }
        None => format!(
            "{} {}.{}: no answer in {waited_s} s; it stays in the journal and is sent when the gateway asks `center watch`, or the service, for it",
            one.stream, one.at.epoch, one.at.seq
        ),
    }
}

/// A reply to a command; a query's verdicts on lines of their own.
pub(super) fn reply(reply: &Reply) -> String {
    let error: String = reply.error.iter().map(|e| errors(std::slice::from_ref(e))).collect();
    let verdict = |v: &Verdict| {
        let also: Vec<_> = v.also.iter().map(|reason| reason.as_str()).collect();
        let also = if also.is_empty() { String::new() } else { format!(" (also {})", also.join(", ")) };
        format!("\n  {}: {}{also}", v.portal, v.outcome)
    };
    let verdicts: String = reply.result.iter().flat_map(|r| &r.verdicts).map(verdict).collect();
    format!("{}{error}{verdicts}", reply.status.as_str())
}

/// `state online; 1180 cards; apartment 3.7 agrees; card-office 3.42 is 2 behind; 41 portals, 1 offline`
pub(super) fn state(state: &GatewayState, agreements: &[StreamAgreement]) -> String {
    if state.state == Presence::Offline {
        return "state offline".to_owned();
    }
    let portals = state.portals.online.saturating_add(u64::try_from(state.portals.offline).unwrap_or(u64::MAX));
    let mut words = vec![format!("state online; {}", counted(state.cards, "card"))];
    words.extend(agreements.iter().map(agreement));
    words.push(match state.portals.offline {
        0 => counted(portals, "portal"),
        offline => format!("{}, {offline} OFFLINE", counted(portals, "portal")),
    });
    if state.clock == ClockTrust::Untrusted {
        words.push("clock UNTRUSTED".to_owned());
    }
    words.extend(state.insecure.iter().map(|what| format!("INSECURE {what}")));
    words.join("; ")
}

/// How one stream stands at a gateway: `apartment 3.7 agrees`.
pub(super) fn agreement(one: &StreamAgreement) -> String {
    let StreamAgreement { stream, published, gateway, agreement } = one;
    let number = format!("{stream} {}.{}", published.epoch, published.seq);
    let there = gateway.as_ref().map_or_else(String::new, |there| format!("{}.{}", there.epoch, there.seq));
    match agreement {
        Agreement::Equal => format!("{number} agrees"),
        Agreement::NoDigest => format!("{number} received, no digest yet"),
        Agreement::Behind => format!("{number} BEHIND, has all up to {there}"),
        Agreement::Differs => format!("{number} DIFFERS"),
        Agreement::Ahead => format!("{number} is OLDER than what the gateway has, {there}"),
        Agreement::NotReceived => format!("{number} NOT RECEIVED"),
    }
}

/// `AUDIT events 7 to 9 are missing; waiting for them`
pub(super) fn trouble(trouble: impl std::fmt::Display) -> String {
    format!("AUDIT {trouble}")
}

/// Everything that `watch` prints, a line each.
pub(super) fn received(received: &GatewayEvent) -> Vec<String> {
    match received {
        GatewayEvent::Up => vec!["link up".to_owned()],
        GatewayEvent::Down(why) => vec![format!("link down: {why}")],
        GatewayEvent::Ack(body) => vec![format!("ack {}{}", ack(body), notes(body))],
        GatewayEvent::Reply(body) => {
            vec![format!("reply {} {}", body.jti.as_deref().unwrap_or("to a command without id"), reply(body))]
        }
        GatewayEvent::Resync(asked, sent) => vec![format!(
            "resync {} ({}, has {}.{}): {sent} messages sent",
            asked.stream,
            asked.reason.as_str(),
            asked.have.epoch,
            asked.have.seq
        )],
        GatewayEvent::Alarm(alarm) => {
            let mut words = vec![format!("ALARM #{} {} {}", alarm.n, alarm.at, alarm.kind.as_str())];
            words.extend(alarm.portal.as_ref().map(ToString::to_string));
            words.extend(alarm.uid.map(|uid| uid.to_string()));
            words.push(alarm.detail.clone());
            vec![words.join(" ")]
        }
        GatewayEvent::Audit(events) => events.iter().map(event_line).collect(),
        GatewayEvent::Trouble(trouble) => vec![self::trouble(trouble)],
        GatewayEvent::State(state) => vec![format!("state {state}")],
        GatewayEvent::Problem(problem) => vec![format!("PROBLEM {problem}")],
    }
}
