//! The bodies that the service writes and its client reads, one type for both.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::{Answered, CardChange, Plan, StreamAgreement};
use crate::access::change::Position;
use crate::access::credential::Enrolment;
use crate::access::effect::Ack;
use crate::access::id::{CardUid, GatewayId, StreamName, Timestamp};
use crate::wire::ops::{enrolment_body, read_enrolments};

/// One message that a request made. The first part of the answer, and all of it that is kept under the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// `campus`, or a gateway.
    pub(super) to: String,
    pub(super) stream: StreamName,
    pub(super) epoch: NonZeroU32,
    pub(super) seq: u64,
}

/// The answer to a request that changes something.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) messages: Vec<Made>,
    /// The gateways' acks, as received, each with its gateway.
    pub(super) acks: Vec<AckOf>,
    /// Acks that did not arrive in time.
    pub(super) waiting: Vec<Waiting>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AckOf {
    gateway: GatewayId,
    /// From publishing to the ack; absent: it was received before this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    #[serde(flatten)]
    ack: Ack,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Waiting {
    gateway: GatewayId,
    stream: StreamName,
    epoch: NonZeroU32,
    seq: u64,
    /// The gateway has another message under this number and ignores this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ignored: bool,
}

impl Answer {
    pub(super) fn new(messages: Vec<Made>, answered: impl Iterator<Item = Answered>) -> Self {
        let (mut acks, mut waiting) = (Vec::new(), Vec::new());
        for Answered { gateway, stream, at, ack, is_ignored } in answered {
            // Its ack is of the other message.
            match ack.filter(|_| !is_ignored) {
                Some((ack, took)) => {
                    let took_ms = u64::try_from(took.as_millis()).ok().filter(|_| !took.is_zero());
                    acks.push(AckOf { gateway, took_ms, ack });
                }
                None => waiting.push(Waiting { gateway, stream, epoch: at.epoch, seq: at.seq, ignored: is_ignored }),
            }
        }
        Self { messages, acks, waiting }
    }

    /// The acks and their absence, as somebody who published the messages sees them.
    pub(super) fn answered(self) -> Vec<Answered> {
        let acked = self.acks.into_iter().filter_map(|AckOf { gateway, took_ms, ack }| {
            let (stream, at) = ack.stream.clone().zip(ack.at)?;
            let ack = Some((ack, Duration::from_millis(took_ms.unwrap_or(0))));
            Some(Answered { ack, ..Answered::waiting(gateway, stream, at) })
        });
        let waiting = self.waiting.into_iter().map(|Waiting { gateway, stream, epoch, seq, ignored }| Answered {
            is_ignored: ignored,
            ..Answered::waiting(gateway, stream, Position { epoch, seq })
        });
        acked.chain(waiting).collect()
    }
}

/// How far what was ordered has come on its way to the broker.
#[derive(Serialize, Deserialize)]
pub(super) struct Delivery {
    /// Whether the broker is connected.
    pub(super) connected: bool,
    /// Messages that the broker does not have yet, of all clients: changes, parts of lists, and heads.
    pub(super) waiting: usize,
}

/// A gateway and its newest state.
#[derive(Serialize, Deserialize)]
pub(super) struct GatewayShown {
    pub(super) gateway: GatewayId,
    /// What it published last, and when that was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) received_at: Option<Timestamp>,
    /// The newest message to it of each stream; it has them all where its state names the same numbers with nothing missing.
    pub(super) published: Vec<Numbered>,
    /// The streams of which the gateway has numbers that this center never published, each with the newest it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ahead: Vec<AheadShown>,
}

/// A stream in which a gateway is ahead.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct AheadShown {
    pub(super) stream: StreamName,
    pub(super) epoch: u32,
    pub(super) seq: u64,
    /// What that means, and what to do.
    pub(super) message: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Numbered {
    pub(super) stream: StreamName,
    pub(super) epoch: NonZeroU32,
    pub(super) seq: u64,
}

/// The answer to a comparison: how a gateway stands to each stream.
#[derive(Serialize, Deserialize)]
pub(super) struct Compared {
    pub(super) streams: Vec<StreamAgreement>,
}

/// The messages behind a number; absent: too many.
#[derive(Serialize, Deserialize)]
pub(super) struct Behind {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) messages: Option<Vec<BehindMessage>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct BehindMessage {
    #[serde(flatten)]
    pub(super) at: Position,
    pub(super) content: String,
}

/// What a list would change.
#[derive(Serialize, Deserialize)]
pub(super) struct PlanBody {
    pub(super) plan: Planned,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Planned {
    unchanged: usize,
    updated: usize,
    added: usize,
    withdrawn: usize,
    changes: Vec<CardPlanned>,
}

#[derive(Serialize, Deserialize)]
struct CardPlanned {
    uid: CardUid,
    /// What it is enrolled for; absent: for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Box<RawValue>>,
    /// What the list has; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Box<RawValue>>,
}

impl Planned {
    pub(super) fn of(plan: &Plan) -> Result<Self, serde_json::Error> {
        let mut changes = Vec::with_capacity(plan.changes.len());
        for (uid, change) in &plan.changes {
            let (from, to) = match change {
                CardChange::Added(to) => (None, Some(to)),
                CardChange::Updated { from, to } => (Some(from), Some(to)),
                CardChange::Withdrawn(from) => (Some(from), None),
            };
            let body = |one: Option<&Enrolment>| {
                one.map(|one| serde_json::value::to_raw_value(&enrolment_body(*uid, one))).transpose()
            };
            changes.push(CardPlanned { uid: *uid, from: body(from)?, to: body(to)? });
        }
        let (updated, added, withdrawn) = (plan.updated(), plan.added(), plan.withdrawn());
        Ok(Self { unchanged: plan.unchanged, updated, added, withdrawn, changes })
    }

    /// The plan; `Err`: which card cannot be read.
    pub(super) fn plan(self) -> Result<Plan, String> {
        let mut changes = BTreeMap::new();
        for CardPlanned { uid, from, to } in self.changes {
            let read = |raw: Option<Box<RawValue>>| {
                let Some(raw) = raw else { return Ok(None) };
                let mut one = read_enrolments(&format!("[{raw}]")).map_err(|errors| {
                    errors.into_iter().next().map_or_else(String::new, |error| format!("card {uid}: {}", error.message))
                })?;
                Ok::<_, String>(one.pop().map(|(_, enrolment)| enrolment))
            };
            let change = match (read(from)?, read(to)?) {
                (None, Some(to)) => CardChange::Added(to),
                (Some(from), Some(to)) => CardChange::Updated { from, to },
                (Some(from), None) => CardChange::Withdrawn(from),
                (None, None) => return Err(format!("card {uid} changes nothing")),
            };
            changes.insert(uid, change);
        }
        Ok(Plan { unchanged: self.unchanged, changes })
    }
}

/// Where a dead card is dead.
#[derive(Serialize, Deserialize)]
pub(super) struct Proof {
    pub(super) uid: CardUid,
    /// Whether the card is dead by what was published to any of the gateways.
    pub(super) dead: bool,
    pub(super) gateways: Vec<AtGateway>,
    /// Gateways for which it is not known yet that the card is dead there.
    pub(super) unknown: Vec<GatewayId>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AtGateway {
    pub(super) gateway: GatewayId,
    /// The message by which the card is dead.
    pub(super) stream: StreamName,
    pub(super) epoch: NonZeroU32,
    pub(super) seq: u64,
    /// From when on the gateway denied the card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dead_since: Option<Value>,
    /// By what that is known: `audit`, `ack` or `state` (then it is known only that it was so at `dead_since`); absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) known_by: Option<KnownBy>,
    /// When the gateway received the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) received_at: Option<Value>,
    /// When the gateway had it on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) durable_at: Option<Value>,
    /// The power boxes that the card kept on.
    pub(super) boxes: Vec<BoxShown>,
}

/// By what it is known that a card is dead at a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownBy {
    /// The gateway's own event in its audit.
    Audit,
    /// Its ack of the message.
    Ack,
    /// Its state, which names the message's number.
    State,
}

#[derive(Serialize, Deserialize)]
pub(super) struct BoxShown {
    pub(super) portal: Value,
    /// When it confirmed that the card's power is off; absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) confirmed_at: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) how: Option<Value>,
}
