//! What the task of a service is ordered to do, what it reports, and what it does with one message.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{AuditTrouble, Center, CenterError, DraftClaims, SignedMessage};
use crate::access::effect::{Ack, Alarm, Reply, Resync};
use crate::access::event::AuditEvent;
use crate::access::id::{GatewayId, Timestamp};
use crate::access::input::CommandKind;
use crate::mqtt::{Connection, MessageId, Outgoing, PublishError, Retention};
use crate::wire::topic::Topic;

/// What a service listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Acks, replies and states only: somebody else attends to the gateways. For one order and its answer.
    Answers,
    /// Everything: answers resync, re-sends heads, acknowledges the audit.
    Everything,
}

/// An event, and the gateway it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The gateway; `None`: the link, or the center itself.
    pub gateway: Option<GatewayId>,
    /// What happened.
    pub event: GatewayEvent,
}

/// Something that came from a gateway, or about the link to the broker.
#[derive(Clone, Debug, PartialEq)]
pub enum GatewayEvent {
    /// The link is connected.
    Up,
    /// The link is lost.
    Down(String),
    /// The answer to a change message.
    Ack(Ack),
    /// The answer to a command.
    Reply(Reply),
    /// A request to send again, and how many messages are sent.
    Resync(Resync, usize),
    /// An alarm.
    Alarm(Alarm),
    /// New audit events, checked and kept.
    Audit(Vec<AuditEvent>),
    /// Something is wrong with the audit.
    Trouble(AuditTrouble),
    /// The state of the gateway, as published; retained: what the broker kept.
    State(String),
    /// A message that cannot be read, that a gateway has numbers which were never published here, or an order that cannot be carried out; names where and why.
    Problem(String),
}

pub(super) type Question<S> = Box<dyn FnOnce(&mut Center<S>) + Send>;
/// Stages messages within a transaction that others share. An error that is not of the storage leaves nothing staged.
pub(super) type Stage<S> = Box<dyn FnOnce(&mut Center<S>, Timestamp) -> Result<Vec<SignedMessage>, CenterError> + Send>;
/// Who waits for messages to be on disk.
pub(super) type Staged = oneshot::Sender<Result<Vec<SignedMessage>, CenterError>>;

/// What the task is ordered to do, and who waits for the answer.
pub(super) enum Order<S> {
    Publish(Stage<S>, Staged),
    Write(Option<GatewayId>, DraftClaims, oneshot::Sender<Result<SignedMessage, CenterError>>),
    Command(GatewayId, CommandKind, Option<String>, oneshot::Sender<Result<String, CenterError>>),
    Ask(Question<S>),
    LastFailure(oneshot::Sender<Option<String>>),
    Close(Duration, oneshot::Sender<bool>),
}

/// Whether `message` answers an earlier request of `gateway` for the same stream.
pub(super) fn is_answer_to(message: &SignedMessage, gateway: &GatewayId, request: &Resync) -> bool {
    let is_of_stream = message.number.as_ref().is_some_and(|(stream, _)| *stream == request.stream);
    is_of_stream && matches!(&message.topic, Topic::Down(to, _) if to == gateway)
}

/// Gives the connection a message to publish.
pub(super) fn hand_over(
    connection: &mut Connection,
    message: &SignedMessage,
    retention: Retention,
) -> Result<MessageId, PublishError> {
    let outgoing = Outgoing {
        topic: message.topic.to_string(),
        payload: message.payload.clone(),
        retain: message.topic.retained(),
        qos: message.topic.qos(),
        retention,
    };
    connection.publish(outgoing)
}
