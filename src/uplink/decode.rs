//! A center's messages: verified, parsed, and turned into inputs. Pure: it sends and acknowledges nothing.

use crate::access::change::{ErrorCode, OpError};
use crate::access::id::{GatewayId, StreamName, Timestamp};
use crate::access::input::{Input, MessageKind, Receipt, ReceivedChanges, ReceivedPart};
use crate::wire::envelope::{self, Channel, Refused, StreamSpec};
use crate::wire::topic::{Down, Topic};
use crate::wire::{down, snapshot};

/// What a message means to the uplink.
#[derive(Debug)]
pub enum Decoded {
    /// For the gateway. The broker's message is held until the receipt inside comes back with an acknowledgement.
    Held(Input),
    /// For the gateway. The broker may forget it as soon as it is handed on.
    Passing(Input),
    /// The center has the audit.
    AuditAck {
        /// Through this event.
        through: u64,
        /// The message, should it have to be refused.
        payload: Vec<u8>,
    },
    /// Nothing that concerns a gateway.
    Foreign,
}

/// Decodes messages from centers.
#[derive(Debug)]
pub struct Decoder {
    /// This gateway.
    pub gateway: GatewayId,
    /// The centers' streams.
    pub streams: Vec<StreamSpec>,
}

impl Decoder {
    /// Decodes a message. `receipt` is what the gateway will acknowledge a change message with.
    #[must_use]
    pub fn decode(&self, topic: &str, payload: Vec<u8>, retained: bool, receipt: Receipt, now: Timestamp) -> Decoded {
        let (via, down) = match topic.parse() {
            Ok(Topic::Campus(down)) => (Channel::Campus, down),
            Ok(Topic::Down(g, down)) if g == self.gateway => (Channel::Gateway, down),
            Ok(Topic::Down(..) | Topic::Up(..) | Topic::Portal(..) | Topic::GatewayState(_)) | Err(_) => {
                return Decoded::Foreign;
            }
        };
        match down {
            Down::Changes => self.changes(payload, via, retained, receipt, now),
            Down::Head(stream) => self.head(&payload, via, &stream, now),
            Down::Command => self.command(&payload, retained, now),
            Down::AuditAck => self.audit_ack(payload, now),
            Down::Snapshot if via == Channel::Gateway => self.snapshot_part(payload, retained, receipt, now),
            Down::Snapshot => Decoded::Foreign,
        }
    }

    fn head(&self, payload: &[u8], via: Channel, stream: &StreamName, now: Timestamp) -> Decoded {
        let opened = envelope::open(payload, via, &self.gateway, &self.streams);
        let head = opened.and_then(|opened| down::read_head(&opened, stream));
        Decoded::Passing(head.map_or_else(rejected(MessageKind::Head, now), Input::Head))
    }

    fn changes(&self, payload: Vec<u8>, via: Channel, retained: bool, receipt: Receipt, now: Timestamp) -> Decoded {
        if retained {
            return Decoded::Passing(rejected(MessageKind::Changes, now)(Refused::retained(&payload)));
        }
        // What is not from a center gets no ack, or anybody could make an office take its own message for refused.
        let changes = match envelope::open(&payload, via, &self.gateway, &self.streams) {
            Ok(opened) => down::read_changes(&opened),
            Err(refused) => return Decoded::Passing(rejected(MessageKind::Changes, now)(refused)),
        };
        Decoded::Held(match changes {
            Ok(changes) => Input::Changes(ReceivedChanges { changes, evidence: payload, receipt, received_at: now }),
            Err(refused) => Input::Rejected(refused.rejected(MessageKind::Changes, Some(receipt), now)),
        })
    }

    /// The broker may forget a part once it is held here: what is lost with the gateway is asked for again, and a broker that waited
    /// for the whole snapshot would soon deliver no further part.
    fn snapshot_part(&self, payload: Vec<u8>, retained: bool, receipt: Receipt, now: Timestamp) -> Decoded {
        if retained {
            return Decoded::Passing(rejected(MessageKind::Snapshot, now)(Refused::retained(&payload)));
        }
        let part = match envelope::open(&payload, Channel::Gateway, &self.gateway, &self.streams) {
            Ok(opened) => snapshot::read_part(&opened),
            Err(refused) => return Decoded::Passing(rejected(MessageKind::Snapshot, now)(refused)),
        };
        match part {
            Ok(part) => {
                let received = ReceivedPart { part, evidence: payload, receipt, received_at: now };
                Decoded::Passing(Input::SnapshotPart(received))
            }
            Err(refused) => Decoded::Held(Input::Rejected(refused.rejected(MessageKind::Snapshot, Some(receipt), now))),
        }
    }

    fn command(&self, payload: &[u8], retained: bool, now: Timestamp) -> Decoded {
        let command = if retained {
            Err(Refused::retained(payload))
        } else {
            let opened = envelope::open(payload, Channel::Gateway, &self.gateway, &self.streams);
            opened.and_then(|opened| down::read_command(&opened))
        };
        Decoded::Passing(command.map_or_else(rejected(MessageKind::Command, now), Input::Command))
    }

    fn audit_ack(&self, payload: Vec<u8>, now: Timestamp) -> Decoded {
        let opened = envelope::open(&payload, Channel::Gateway, &self.gateway, &self.streams);
        match opened.and_then(|opened| down::read_audit_ack(&opened)) {
            Ok(ack) => Decoded::AuditAck { through: ack.through, payload },
            Err(refused) => Decoded::Passing(rejected(MessageKind::AuditAck, now)(refused)),
        }
    }

    /// The refusal of an `audit-ack` that cannot be followed.
    #[must_use]
    pub fn refuse_audit_ack(payload: &[u8], why: &str, now: Timestamp) -> Input {
        let error = OpError::message(ErrorCode::InvalidField, why);
        rejected(MessageKind::AuditAck, now)(Refused { error, claimed: envelope::peek(payload) })
    }
}

/// A message that gets no answer by its receipt.
fn rejected(kind: MessageKind, now: Timestamp) -> impl FnOnce(Refused) -> Input {
    move |refused| Input::Rejected(refused.rejected(kind, None, now))
}
