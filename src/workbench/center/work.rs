//! The task of a service: it obeys orders, receives the gateway, and answers it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, Interval};
use tracing::{debug, warn};

use super::{AuditTrouble, COMMAND_LIFE_S, Center, CenterError, DraftClaims, SignedMessage};
use crate::access::change::Op;
use crate::access::effect::{Ack, Alarm, Reply, Resync};
use crate::access::event::AuditEvent;
use crate::access::id::Timestamp;
use crate::access::input::CommandKind;
use crate::clock::Clock;
use crate::mqtt::{Connection, Event, Message, Outgoing, PublishError, Retention};
use crate::wire::topic::{Topic, Up};
use crate::wire::up::{self, BodyError};

/// Messages sent again that are under way at once; the others wait, so that what is reported now does not stand behind them.
const RESEND_UNDER_WAY_MAX: usize = 256;

/// What a service listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Acks and replies only: somebody else attends to the gateway. For one order and its answer.
    Answers,
    /// Everything: answers resync, re-sends heads, acknowledges the audit.
    Everything,
}

/// Something that came from the gateway, or about the link to it.
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
    /// A message that cannot be read, or an order that cannot be carried out; reports where and why.
    Problem(String),
}

/// What the task is ordered to do, and who waits for the answer.
pub(super) enum Order {
    Report(Vec<Op>, oneshot::Sender<Result<Vec<SignedMessage>, CenterError>>),
    Write(DraftClaims, oneshot::Sender<Result<SignedMessage, CenterError>>),
    Command(CommandKind, Option<String>, oneshot::Sender<Result<String, CenterError>>),
    Close(Duration, oneshot::Sender<bool>),
}

/// The task of a service.
pub(super) struct Work {
    pub(super) center: Center,
    pub(super) connection: Connection,
    pub(super) clock: Clock,
    pub(super) attention: Attention,
    pub(super) events: broadcast::Sender<GatewayEvent>,
    pub(super) is_up: watch::Sender<bool>,
    /// Messages to be sent again, oldest first.
    pub(super) again: VecDeque<SignedMessage>,
    pub(super) heads: Interval,
}

impl Work {
    /// Works until it is ordered to close, or until nobody is left to give orders.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        loop {
            self.send_again();
            tokio::select! {
                order = inbox.recv() => match order {
                    None => return,
                    Some(Order::Close(within, answer)) => {
                        // Nobody may be left to receive it.
                        answer.send(self.connection.close(within).await).ok();
                        return;
                    }
                    Some(order) => self.obey(order),
                },
                event = self.connection.next() => self.happened(event),
                _ = self.heads.tick(), if self.attention == Attention::Everything => self.send_heads(),
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    fn notify(&self, event: GatewayEvent) {
        // Without a listener nothing is lost: what matters is on disk.
        drop(self.events.send(event));
    }

    fn obey(&mut self, order: Order) {
        let now = self.now();
        match order {
            Order::Report(ops, answer) => {
                let reported = self.center.publish_ops(&ops, now);
                if let Ok(messages) = &reported {
                    messages.iter().for_each(|signed_message| self.publish(signed_message, Retention::UntilDelivered));
                    self.send_heads();
                }
                drop(answer.send(reported));
            }
            Order::Write(claims, answer) => {
                let reported = self.center.publish_as_written(&claims, now);
                if let Ok(signed_message) = &reported {
                    self.publish(signed_message, Retention::UntilDelivered);
                    if !claims.is_numbered() {
                        self.send_heads();
                    }
                }
                drop(answer.send(reported));
            }
            Order::Command(kind, actor, answer) => {
                let reported = self.center.command(kind, actor.as_deref(), now).map(|(jti, signed_message)| {
                    let life = Duration::from_secs(COMMAND_LIFE_S.unsigned_abs());
                    self.publish(&signed_message, Retention::Until(Instant::now() + life));
                    jti
                });
                drop(answer.send(reported));
            }
            // Dealt with where the connection can be given away.
            Order::Close(..) => {}
        }
    }

    fn publish(&mut self, signed_message: &SignedMessage, retention: Retention) {
        let message = Outgoing {
            topic: signed_message.topic.to_string(),
            payload: signed_message.payload.clone(),
            retain: signed_message.topic.retained(),
            qos: signed_message.topic.qos(),
            retention,
        };
        match self.connection.publish(message) {
            Ok(_) => {}
            Err(error @ (PublishError::Full | PublishError::TooLarge | PublishError::Topic | PublishError::Down)) => {
                self.notify(GatewayEvent::Problem(format!("not sent to `{}`: {error}", signed_message.topic)));
            }
        }
    }

    fn send_heads(&mut self) {
        match self.center.heads(self.now()) {
            Ok(heads) => {
                for head in heads {
                    self.publish(&head, Retention::Newest(head.topic.to_string()));
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn send_again(&mut self) {
        while self.connection.undelivered() < RESEND_UNDER_WAY_MAX {
            let Some(signed_message) = self.again.pop_front() else { return };
            self.publish(&signed_message, Retention::UntilDelivered);
        }
    }

    fn failed(&self, error: &CenterError) {
        warn!("{error}");
        self.notify(GatewayEvent::Problem(error.to_string()));
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Up { .. } => {
                self.is_up.send_replace(true);
                self.notify(GatewayEvent::Up);
            }
            Event::Down { why } => {
                self.is_up.send_replace(false);
                self.notify(GatewayEvent::Down(why));
            }
            Event::Message(message) => {
                self.receive(&message);
                if let Some(token) = message.ack {
                    self.connection.ack(token);
                }
            }
            Event::Delivered(_) => {}
            Event::SubscriptionRefused { filter } => {
                self.notify(GatewayEvent::Problem(format!(
                    "the broker refuses to deliver `{filter}`; look at its access list"
                )));
            }
        }
    }

    fn receive(&mut self, message: &Message) {
        let Ok(Topic::Up(_, up)) = message.topic.parse::<Topic>() else { return };
        let events = self.decode(up, &message.payload);
        match events {
            Ok(events) => events.into_iter().for_each(|events| self.notify(events)),
            Err(error) => {
                debug!(topic = %message.topic, "{error}");
                self.notify(GatewayEvent::Problem(format!("`{}`: {error}", message.topic)));
            }
        }
    }

    fn decode(&mut self, up: Up, payload: &[u8]) -> Result<Vec<GatewayEvent>, BodyError> {
        Ok(match up {
            Up::Ack => vec![GatewayEvent::Ack(up::decode(payload)?)],
            Up::Reply => vec![GatewayEvent::Reply(up::decode(payload)?)],
            Up::Alarm => vec![GatewayEvent::Alarm(up::decode(payload)?)],
            Up::State => vec![GatewayEvent::State(String::from_utf8_lossy(payload).into_owned())],
            Up::Resync => {
                let request: Resync = up::decode(payload)?;
                match self.center.answer(&request, self.now()) {
                    Ok(messages) => {
                        // The newest request reports what is still missing; what an older one asked for is in it.
                        let same = |signed_message: &SignedMessage| {
                            signed_message.number.as_ref().is_some_and(|(s, _)| *s == request.stream)
                        };
                        self.again.retain(|signed_message| !same(signed_message));
                        let count = messages.len();
                        self.again.extend(messages);
                        vec![GatewayEvent::Resync(request, count)]
                    }
                    Err(error) => {
                        self.failed(&error);
                        Vec::new()
                    }
                }
            }
            Up::Audit => match self.center.receive_audit(payload, self.now()) {
                Ok((received, ack)) => {
                    if let Some(ack) = ack {
                        self.publish(&ack, Retention::Newest(ack.topic.to_string()));
                    }
                    let events = (!received.events.is_empty()).then_some(GatewayEvent::Audit(received.events));
                    received.trouble.into_iter().map(GatewayEvent::Trouble).chain(events).collect()
                }
                Err(error) => {
                    self.failed(&error);
                    Vec::new()
                }
            },
        })
    }
}
