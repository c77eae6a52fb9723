//! One device: whether it is connected, and which portals its messages go to. Pure: the time is given.

use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::decode::{Decoder, Old, Received};
use crate::access::id::PortalId;
use crate::portals::device::{Event, Reading, SourceState};
use crate::profile::mqtt::{Available, Order};

/// How long after the broker was reached a device may be silent before it counts as offline, in milliseconds.
pub(super) const ABSENT_MS: u64 = 5_000;

/// One portal of a device: where its events go, which of its sources the device is, and the decoder of the messages.
pub(super) struct Listener {
    pub(super) portal: PortalId,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) source: usize,
    pub(super) decoder: Decoder,
    /// It did not keep up, and is to be started again.
    pub(super) behind: bool,
}

/// What came of a message, for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// A card that opens nothing, because its message is old.
    pub(super) old: bool,
    pub(super) malformed: bool,
    /// A portal did not keep up.
    pub(super) overflowed: bool,
}

/// A device and its portals.
pub(super) struct Device {
    /// Its name in its topics.
    pub(super) topic: String,
    available: Vec<(Available, Option<bool>)>,
    start: Duration,
    /// The last topic of its availability whose message could not be read, and why.
    unread: Option<(String, String)>,
    state: SourceState,
    online: watch::Sender<bool>,
    /// When a device that has just connected counts as online.
    online_from: Option<Instant>,
    pub(super) listeners: Vec<Listener>,
}

impl Device {
    pub(super) fn new(topic: String, available: Vec<Available>) -> Self {
        Self {
            topic,
            available: available.into_iter().map(|of| (of, None)).collect(),
            start: Duration::ZERO,
            unread: None,
            state: SourceState::Unknown,
            online: watch::Sender::new(false),
            online_from: None,
            listeners: Vec::new(),
        }
    }

    /// Whether it is the same device.
    pub(super) fn is(&self, available: &[Available]) -> bool {
        self.available.iter().map(|(of, _)| of).eq(available)
    }

    /// It is also the device of a profile by which it needs this long to start.
    pub(super) fn starts_within(&mut self, start_ms: u32) {
        self.start = self.start.max(Duration::from_millis(u64::from(start_ms)));
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.online.subscribe()
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &str> {
        let available = self.available.iter().map(|(of, _)| of.is.place.topic.as_str());
        available.chain(self.listeners.iter().flat_map(|listener| listener.decoder.topics()))
    }

    /// A message of one of its topics. `live`: it was published since the connection is up.
    pub(super) fn received(&mut self, message: &Received<'_>, live: bool) -> Taken {
        let mut taken = Taken::default();
        let (mut changed, mut connected) = (false, false);
        for (of, state) in self.available.iter_mut().filter(|(of, _)| of.is.place.topic == message.topic) {
            let read = message.payload.connected(&of.is);
            if let Ok(None) | Err(_) = &read {
                let neither = || format!("it is neither `{}` nor `{}`", of.is.yes, of.is.no);
                self.unread = Some((message.topic.to_owned(), read.clone().err().unwrap_or_else(neither)));
            }
            match read {
                Ok(Some(is)) => {
                    changed |= state.replace(is) != Some(is);
                    connected |= is && live && !message.retained;
                }
                Ok(None) => {}
                Err(why) => {
                    taken.malformed = true;
                    tracing::debug!(device = self.topic, topic = message.topic, "ignored: {why}");
                }
            }
        }
        if changed {
            taken.overflowed |= self.judge(message.at, !message.retained);
        }
        if !live && !message.retained {
            return taken;
        }
        let is_online = self.state == SourceState::Online;
        for listener in &mut self.listeners {
            if connected {
                listener.decoder.connected();
            }
            let mut decoded = listener.decoder.decode(message);
            taken.malformed |= decoded.readings.iter().any(|reading| matches!(reading, Reading::Malformed(_)));
            if !is_online {
                listener.decoder.without_cards(&mut decoded);
                decoded.readings.clear();
            }
            let portal = &listener.portal;
            if decoded.clock_set {
                tracing::warn!(%portal, device = self.topic, "the clock of the device was set: its time is taken as it is now");
            }
            if let Some(Old { why, card }) = decoded.old {
                taken.old = true;
                tracing::warn!(%portal, device = self.topic, topic = message.topic, "a card opens nothing: {why}");
                decoded.readings.extend(card);
            }
            if !decoded.readings.is_empty() {
                taken.overflowed |= listener.read(decoded.readings, message.at);
            }
        }
        taken
    }

    /// What follows from its availability. `now_connected`: it has just changed. Returns whether a portal did not keep up.
    fn judge(&mut self, now: Instant, now_connected: bool) -> bool {
        let offline = self.available.iter().find(|(_, state)| *state == Some(false));
        if let Some((of, _)) = offline {
            let cause =
                format!("`{}` reports that it is not connected; check its power and its network", of.is.place.topic);
            return self.go_offline(cause);
        }
        if self.available.iter().all(|(of, state)| *state == Some(true) || !of.needed) {
            self.online_from.get_or_insert(if now_connected { now + self.start } else { now });
            return self.tick(now);
        }
        false
    }

    /// The time goes on. Returns whether a portal did not keep up.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let mut overflowed = false;
        if self.state != SourceState::Online && self.online_from.is_some_and(|from| now >= from) {
            self.state = SourceState::Online;
            self.online.send_replace(true);
            for listener in &mut self.listeners {
                overflowed |= listener.online(now);
            }
        }
        for listener in &mut self.listeners {
            if listener.behind {
                listener.start_again(&self.state, now);
            } else if self.state == SourceState::Online
                && let Some(reading) = listener.decoder.tick(now)
            {
                overflowed |= listener.read(vec![reading], now);
            }
        }
        overflowed
    }

    /// The orders that ask it for the state of its outputs.
    pub(super) fn queries(&self) -> impl Iterator<Item = Order> {
        let outputs = self.listeners.iter().filter_map(|listener| listener.decoder.output());
        outputs.filter_map(|output| output.confirm.query.clone())
    }

    /// No message about it came since the broker was reached. Returns whether a portal did not keep up.
    pub(super) fn absent(&mut self) -> bool {
        if self.state == SourceState::Unknown && self.online_from.is_none() {
            let needed = self.available.iter().find(|(of, state)| of.needed && state.is_none());
            let topic = needed.map_or(self.topic.as_str(), |(of, _)| &of.is.place.topic);
            let cause = match &self.unread {
                Some((unread, why)) if unread == topic => format!(
                    "a message came on `{topic}`, but could not be read: {why}; compare the version and the MQTT settings of the device with its profile"
                ),
                _ => format!(
                    "nothing came on `{topic}` within {ABSENT_MS} ms; check the name `{}`, the profile, and the power and MQTT settings of the device",
                    self.topic
                ),
            };
            return self.go_offline(cause);
        }
        false
    }

    /// The broker cannot be reached. Returns whether a portal did not keep up.
    pub(super) fn cut_off(&mut self, cause: &str) -> bool {
        self.available.iter_mut().for_each(|(_, state)| *state = None);
        self.go_offline(format!("the local broker cannot be reached: {cause}"))
    }

    /// The broker is reached again: what the device is will be known by its messages.
    pub(super) fn connected(&mut self) {
        (self.state, self.online_from, self.unread) = (SourceState::Unknown, None, None);
    }

    fn go_offline(&mut self, cause: String) -> bool {
        self.online_from = None;
        let state = SourceState::Offline { cause };
        if self.state == state {
            return false;
        }
        self.state = state;
        self.online.send_replace(false);
        let mut overflowed = false;
        for listener in &mut self.listeners {
            listener.decoder.offline();
            let event = Event::Source { source: listener.source, state: self.state.clone() };
            overflowed |= listener.send(event);
        }
        overflowed
    }

    pub(super) fn is_online(&self) -> bool {
        self.state == SourceState::Online
    }
}

impl Listener {
    /// Sends an event. Returns whether the portal did not keep up.
    fn send(&mut self, event: Event) -> bool {
        match self.events.try_send(event) {
            Ok(()) => false,
            Err(TrySendError::Full(_)) => {
                if !self.behind {
                    tracing::error!(portal = %self.portal, "a portal does not keep up with the messages of its device");
                }
                self.behind = true;
                true
            }
            // A portal that has ended receives nothing any more.
            Err(TrySendError::Closed(_)) => false,
        }
    }

    fn read(&mut self, readings: Vec<Reading>, at: Instant) -> bool {
        self.send(Event::Read { source: self.source, readings, at, turn: Duration::ZERO })
    }

    fn online(&mut self, now: Instant) -> bool {
        let readings = self.decoder.online(now);
        let overflowed = self.send(Event::Source { source: self.source, state: SourceState::Online });
        self.read(readings, now) || overflowed
    }

    /// Events were lost, also that its device went offline: which card its reader shows next counts as the first. What its contacts and
    /// its output last reported stands.
    fn start_again(&mut self, state: &SourceState, now: Instant) {
        if self.events.capacity() < self.events.max_capacity() / 2 {
            return;
        }
        self.behind = false;
        let lost = || SourceState::Offline { cause: "its messages came faster than the portal took them".to_owned() };
        let offline = if matches!(state, SourceState::Offline { .. }) { state.clone() } else { lost() };
        self.send(Event::Source { source: self.source, state: offline });
        if *state == SourceState::Online {
            self.online(now);
        }
    }
}
