//! What has been published and is not yet delivered. Pure: the time is an argument, and it touches no network.
//!
//! The MQTT client forgets; this does not. A message leaves when the broker has confirmed it, when a newer one has taken
//! its place, or when it is too old to do good.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::time::Instant;

use crate::wire::topic::Qos;

/// Most undelivered messages. Beyond, new ones are refused, except those that replace an older one.
pub const OUTBOX_MESSAGES_MAX: usize = 8_192;
/// Most bytes of undelivered payloads.
pub const OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest payload that is published, in bytes. Brokers limit it too, and end the connection beyond theirs.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Most messages handed to the broker and not confirmed. Far below the client's own limit, at which it would hold back
/// our acknowledgements too.
pub const WINDOW_MAX: usize = 32;

/// How long a message is worth delivering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Until the broker has it, however often the connection breaks.
    UntilDelivered,
    /// As above, but a newer message with the same key takes its place.
    Newest(String),
    /// On this connection and until then only: what opens something never leaves late.
    Until(Instant),
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// With QoS 0 it is forgotten as soon as it is handed to the network.
    pub qos: Qos,
    /// How long it is worth delivering.
    pub retention: Retention,
}

/// Names one published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u64);

/// Why a message was not taken. It is gone; the counters report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker has not taken anything for too long.
    #[error(
        "the outbox is full ({OUTBOX_MESSAGES_MAX} messages or {OUTBOX_BYTES_MAX} bytes); the broker takes nothing"
    )]
    Full,
    /// Longer than [`PAYLOAD_BYTES_MAX`].
    #[error("the payload has more than {PAYLOAD_BYTES_MAX} bytes")]
    TooLarge,
    /// It would have had to leave at once, and there is no connection.
    #[error("the link is down and the message may not leave late")]
    Down,
    /// An empty topic, or one with a wildcard.
    #[error("not a topic that can be published to")]
    Topic,
}

#[derive(Debug)]
struct Entry {
    message: Outgoing,
    /// A newer message took its place while it was under way: not sent again.
    superseded: bool,
}

/// The undelivered messages of one connection, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: BTreeMap<MessageId, Entry>,
    waiting: VecDeque<MessageId>,
    /// Given to the client, packet id not yet known. `None`: a QoS 0 message.
    handed: VecDeque<Option<MessageId>>,
    in_flight: HashMap<u16, (MessageId, Instant)>,
    newest: HashMap<String, MessageId>,
    bytes: usize,
    last: u64,
}

impl Outbox {
    /// Takes a message. `connected`: whether it could leave now.
    pub fn push(&mut self, message: Outgoing, connected: bool) -> Result<MessageId, PublishError> {
        if message.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(PublishError::TooLarge);
        }
        if message.topic.is_empty() || message.topic.contains(['+', '#', '\0']) {
            return Err(PublishError::Topic);
        }
        let full = self.entries.len() >= OUTBOX_MESSAGES_MAX || self.bytes + message.payload.len() > OUTBOX_BYTES_MAX;
        match &message.retention {
            Retention::Until(_) if !connected => return Err(PublishError::Down),
            Retention::UntilDelivered | Retention::Until(_) if full => return Err(PublishError::Full),
            Retention::UntilDelivered | Retention::Until(_) => {}
            // One message a key, and the keys are a fixed set: this cannot fill up.
            Retention::Newest(key) => {
                let key = key.clone();
                self.supersede(&key);
                self.newest.insert(key, MessageId(self.last + 1));
            }
        }
        self.last += 1;
        let id = MessageId(self.last);
        self.bytes += message.payload.len();
        self.entries.insert(id, Entry { message, superseded: false });
        self.waiting.push_back(id);
        Ok(id)
    }

    /// Forgets the message of this key: it is no longer true.
    pub fn supersede(&mut self, key: &str) {
        let Some(id) = self.newest.remove(key) else { return };
        if let Some(at) = self.waiting.iter().position(|w| *w == id) {
            self.waiting.remove(at);
            self.forget(id);
        } else if let Some(entry) = self.entries.get_mut(&id) {
            entry.superseded = true;
        }
    }

    /// The next message to hand to the client, if the window is open. Those too old are dropped and counted in `stale`.
    pub fn next(&mut self, now: Instant, stale: &mut u64) -> Option<(MessageId, &Outgoing)> {
        loop {
            if self.in_flight.len() + self.handed.len() >= WINDOW_MAX {
                return None;
            }
            let id = *self.waiting.front()?;
            match self.entries.get(&id).map(|entry| &entry.message.retention) {
                Some(Retention::UntilDelivered | Retention::Newest(_)) => break,
                Some(Retention::Until(deadline)) if now <= *deadline => break,
                Some(Retention::Until(_)) => *stale += 1,
                None => {}
            }
            self.waiting.pop_front();
            self.forget(id);
        }
        let id = *self.waiting.front()?;
        self.entries.get(&id).map(|entry| (id, &entry.message))
    }

    /// The message that [`Outbox::next`] gave was handed to the client.
    pub fn handed_over(&mut self, id: MessageId) {
        if self.waiting.front() == Some(&id) {
            self.waiting.pop_front();
        }
        match self.entries.get(&id).map(|entry| entry.message.qos) {
            Some(Qos::AtLeastOnce) => self.handed.push_back(Some(id)),
            Some(Qos::AtMostOnce) => {
                self.forget(id);
                self.handed.push_back(None);
            }
            None => {}
        }
    }

    /// The client wrote the oldest message handed over, with this packet id.
    pub fn written(&mut self, packet: u16, now: Instant) {
        if let Some(Some(id)) = self.handed.pop_front() {
            self.in_flight.insert(packet, (id, now));
        }
    }

    /// The broker confirmed this packet. Gives the message, unless it had been superseded meanwhile.
    pub fn confirmed(&mut self, packet: u16) -> Option<MessageId> {
        let (id, _) = self.in_flight.remove(&packet)?;
        let superseded = self.entries.get(&id).is_none_or(|entry| entry.superseded);
        self.forget(id);
        (!superseded).then_some(id)
    }

    /// The connection is lost: what may be sent again waits again, in the old order. Gives the number of messages dropped
    /// because they may not leave late.
    pub fn connection_lost(&mut self) -> u64 {
        self.handed.clear();
        self.in_flight.clear();
        let mut stale = 0;
        let gone = self.entries.iter().filter_map(|(id, entry)| match entry.message.retention {
            _ if entry.superseded => Some((*id, 0)),
            Retention::Until(_) => Some((*id, 1)),
            Retention::UntilDelivered | Retention::Newest(_) => None,
        });
        for (id, count) in gone.collect::<Vec<_>>() {
            stale += count;
            self.forget(id);
        }
        self.waiting = self.entries.keys().copied().collect();
        stale
    }

    /// When the oldest unconfirmed message was written.
    #[must_use]
    pub fn oldest_unconfirmed(&self) -> Option<Instant> {
        self.in_flight.values().map(|(_, at)| *at).min()
    }

    /// Messages not yet delivered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is delivered and written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.handed.is_empty()
    }

    fn forget(&mut self, id: MessageId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.bytes -= entry.message.payload.len();
        if let Retention::Newest(key) = &entry.message.retention
            && self.newest.get(key) == Some(&id)
        {
            self.newest.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(text: &str, retention: Retention) -> Outgoing {
        let qos = Qos::AtLeastOnce;
        Outgoing { topic: "t".into(), payload: text.into(), retain: false, qos, retention }
    }

    fn hand_over_all(outbox: &mut Outbox, now: Instant) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some((id, message)) = outbox.next(now, &mut 0) {
            sent.push(String::from_utf8(message.payload.clone()).unwrap());
            outbox.handed_over(id);
        }
        sent
    }

    #[test]
    fn what_was_not_confirmed_is_sent_again_in_the_old_order() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        for text in ["a", "b", "c"] {
            outbox.push(message(text, Retention::UntilDelivered), true).unwrap();
        }
        assert_eq!(hand_over_all(&mut outbox, now), ["a", "b", "c"]);
        for packet in 1..=3 {
            outbox.written(packet, now);
        }
        assert_eq!(outbox.confirmed(2), Some(MessageId(2)));
        outbox.push(message("d", Retention::UntilDelivered), false).unwrap();
        assert_eq!(outbox.connection_lost(), 0);
        assert_eq!(hand_over_all(&mut outbox, now), ["a", "c", "d"]);
    }

    #[test]
    fn what_opens_something_never_leaves_late_or_on_a_later_connection() {
        let now = Instant::now();
        let soon = Retention::Until(now + Duration::from_millis(1500));
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(message("a", soon.clone()), false), Err(PublishError::Down));
        outbox.push(message("b", soon.clone()), true).unwrap();
        let mut stale = 0;
        assert_eq!(outbox.next(now + Duration::from_millis(1501), &mut stale), None);
        assert_eq!((stale, outbox.len()), (1, 0));
        outbox.push(message("c", soon.clone()), true).unwrap();
        assert_eq!(hand_over_all(&mut outbox, now), ["c"]);
        outbox.written(1, now);
        outbox.push(message("d", soon), true).unwrap();
        assert_eq!(outbox.connection_lost(), 2);
        assert!(outbox.is_empty());
    }

    #[test]
    fn of_messages_with_one_key_only_the_newest_is_sent() {
        let now = Instant::now();
        let newest = |text| message(text, Retention::Newest("state".into()));
        let mut outbox = Outbox::default();
        outbox.push(newest("1"), false).unwrap();
        outbox.push(newest("2"), false).unwrap();
        assert_eq!(hand_over_all(&mut outbox, now), ["2"]);
        outbox.written(1, now);
        outbox.push(newest("3"), true).unwrap();
        outbox.connection_lost();
        assert_eq!(hand_over_all(&mut outbox, now), ["3"]);
        outbox.written(1, now);
        outbox.supersede("state");
        assert_eq!(outbox.confirmed(1), None);
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_window_holds_back_what_the_broker_has_not_confirmed() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        for _ in 0..WINDOW_MAX + 1 {
            outbox.push(message("x", Retention::UntilDelivered), true).unwrap();
        }
        assert_eq!(hand_over_all(&mut outbox, now).len(), WINDOW_MAX);
        outbox.written(1, now);
        outbox.confirmed(1);
        assert_eq!(hand_over_all(&mut outbox, now).len(), 1);
    }

    #[test]
    fn a_full_outbox_refuses_but_still_takes_what_replaces_something() {
        let mut outbox = Outbox::default();
        for _ in 0..OUTBOX_MESSAGES_MAX {
            outbox.push(message("x", Retention::UntilDelivered), false).unwrap();
        }
        assert_eq!(outbox.push(message("x", Retention::UntilDelivered), false), Err(PublishError::Full));
        outbox.push(message("off", Retention::Newest("cut/power-412".into())), false).unwrap();
        let large = Outgoing { payload: vec![0; PAYLOAD_BYTES_MAX + 1], ..message("", Retention::UntilDelivered) };
        assert_eq!(outbox.push(large, false), Err(PublishError::TooLarge));
    }
}
