//! What the gateways publish, received: reported, noted to be kept, and acknowledged.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::super::order::GatewayEvent;
use super::super::{Ahead, AuditTrouble, CenterError, Published, PublishedKind, Storage};
use super::{STRANGERS_MAX, Work};
use crate::access::id::{GatewayId, StreamName};
use crate::mqtt::{Message, Retention};
use crate::wire::state::{self, Presence};
use crate::wire::topic::{Topic, Up};
use crate::wire::up::{self, BodyError};

/// Shortest time between two log lines about the same kind of trouble with the audit of one gateway, in seconds.
const LOG_REST_S: u64 = 3_600;

/// When each kind of trouble with the audit of a gateway was logged last.
#[derive(Default)]
pub(super) struct Logged {
    audit: HashMap<(GatewayId, Discriminant<AuditTrouble>), Instant>,
    /// The same of the streams in which a gateway is ahead: all of them have one cause.
    ahead: HashMap<StreamName, Instant>,
    /// The same of retained copies where there should be none.
    retained: HashMap<(GatewayId, Up), Instant>,
}

impl Logged {
    fn is_due(&mut self, gateway: &GatewayId, trouble: &AuditTrouble, now: Instant) -> bool {
        rested(&mut self.audit, (gateway.clone(), discriminant(trouble)), now)
    }
}

/// Whether nothing was logged of `key` for a while; then it is now.
fn rested<K: Hash + Eq>(last: &mut HashMap<K, Instant>, key: K, now: Instant) -> bool {
    let rest = Duration::from_secs(LOG_REST_S);
    if last.get(&key).is_some_and(|last| now.duration_since(*last) < rest) {
        return false;
    }
    last.insert(key, now);
    true
}

impl<S: Storage> Work<S> {
    /// Receives what a gateway published. `true`: it is noted, and is acknowledged to the broker when the note is on disk.
    pub(super) fn receive(&mut self, message: &Message) -> bool {
        let Ok(Topic::Up(gateway, up)) = message.topic.parse::<Topic>() else { return false };
        if !self.center.gateways().contains(&gateway) {
            if self.strangers.len() < STRANGERS_MAX && self.strangers.insert(gateway.clone()) {
                warn!(%gateway, "a gateway that is not configured here publishes at this broker; it is passed over");
            }
            return false;
        }
        if message.retain && up != Up::State {
            return self.pass_over(&gateway, up, message);
        }
        let mut is_noted = false;
        match self.decode(&gateway, up, &message.payload) {
            Ok(events) => {
                if S::KEEPS_PUBLISHED {
                    is_noted = events.iter().any(|event| self.keep_later(&gateway, event, message));
                }
                events.into_iter().for_each(|event| self.report(Some(&gateway), event));
            }
            Err(error) => {
                debug!(topic = %message.topic, "{error}");
                let problem = format!("`{}`: {error}", message.topic);
                self.report(Some(&gateway), GatewayEvent::Problem(problem));
            }
        }
        is_noted
    }

    /// Passes over what a broker kept of a topic that no gateway has retained: somebody else published it, or it is of any age, and it
    /// would come again at each start.
    fn pass_over(&mut self, gateway: &GatewayId, up: Up, message: &Message) -> bool {
        let problem = format!(
            "`{}`: a retained copy is passed over; nothing is retained there. Clear it at the broker, and look who may publish there",
            message.topic
        );
        if rested(&mut self.logged.retained, (gateway.clone(), up), Instant::now()) {
            warn!("{problem}");
        }
        self.report(Some(gateway), GatewayEvent::Problem(problem));
        false
    }

    /// Logs what is wrong with an audit: once an hour of each kind and gateway, because a gateway sends again what is not acknowledged.
    fn log(&mut self, gateway: &GatewayId, trouble: &AuditTrouble) {
        // What is waited for comes in most cases.
        if !matches!(trouble, AuditTrouble::Waiting { .. }) && self.logged.is_due(gateway, trouble, Instant::now()) {
            warn!(%gateway, "audit: {trouble}");
        }
    }

    /// Logs that a gateway has numbers which were never published here, once an hour of each stream. Gives what is reported each time.
    fn ahead(&mut self, noted: Result<impl IntoIterator<Item = Ahead>, CenterError>) -> Vec<GatewayEvent> {
        let noted = match noted {
            Ok(noted) => noted,
            Err(error) => {
                self.failed(&error);
                return Vec::new();
            }
        };
        let report = |ahead: Ahead| {
            if rested(&mut self.logged.ahead, ahead.stream.clone(), Instant::now()) {
                warn!(gateway = %ahead.gateway, "{ahead}");
            }
            GatewayEvent::Problem(ahead.to_string())
        };
        noted.into_iter().map(report).collect()
    }

    /// Notes what is kept of an event; `false`: nothing is.
    fn keep_later(&mut self, gateway: &GatewayId, event: &GatewayEvent, message: &Message) -> bool {
        let kind = match event {
            GatewayEvent::Ack(ack) => PublishedKind::Ack(Box::new(ack.clone())),
            GatewayEvent::Alarm(_) => PublishedKind::Alarm,
            GatewayEvent::State(_) => PublishedKind::State,
            _ => return false,
        };
        let body = String::from_utf8_lossy(&message.payload).into_owned();
        let one = Published { gateway: gateway.clone(), received_at: self.now(), kind, body };
        self.notes.published(one, message.ack);
        if self.notes.is_full() {
            self.keep();
        }
        true
    }

    pub(super) fn decode(
        &mut self,
        gateway: &GatewayId,
        up: Up,
        payload: &[u8],
    ) -> Result<Vec<GatewayEvent>, BodyError> {
        Ok(match up {
            Up::Ack => {
                let ack = up::decode(payload)?;
                // Before it is reported: who waits for it asks whether it counts.
                let noted = self.center.note_ack(gateway, &ack);
                let mut events = self.ahead(noted);
                events.push(GatewayEvent::Ack(ack));
                events
            }
            Up::Reply => vec![GatewayEvent::Reply(up::decode(payload)?)],
            Up::Alarm => vec![GatewayEvent::Alarm(up::decode(payload)?)],
            Up::State => {
                let state = state::decode(payload)?;
                // A gateway that is gone does not name how far its audit is.
                if state.state == Presence::Online {
                    self.center.note_audit(gateway, state.audit);
                }
                let noted = self.center.note_state(gateway, &state.streams);
                let mut events = self.ahead(noted);
                events.push(GatewayEvent::State(String::from_utf8_lossy(payload).into_owned()));
                events
            }
            Up::Resync => {
                let is_taken = self.again.ask(gateway.clone(), up::decode(payload)?);
                let passed_over = "too many gateways ask at once to be sent something again; this one is passed over";
                (!is_taken).then(|| GatewayEvent::Problem(passed_over.to_owned())).into_iter().collect()
            }
            Up::Audit => match self.center.receive_audit(gateway, payload, self.now()) {
                Ok((received, ack)) => {
                    for trouble in &received.trouble {
                        self.log(gateway, trouble);
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_of_a_gateway_is_logged_once_an_hour() {
        let mut logged = Logged::default();
        let (g1, g2): (GatewayId, GatewayId) = ("g1".parse().unwrap(), "g2".parse().unwrap());
        let (broken, other) = (|n| AuditTrouble::Broken { n }, AuditTrouble::Different { n: 1 });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(logged.is_due(&g1, &broken(1), at(0)));
        assert!(!logged.is_due(&g1, &broken(2), at(LOG_REST_S - 1)));
        assert!(logged.is_due(&g2, &broken(1), at(1)) && logged.is_due(&g1, &other, at(1)));
        assert!(logged.is_due(&g1, &broken(3), at(LOG_REST_S)));
    }
}
