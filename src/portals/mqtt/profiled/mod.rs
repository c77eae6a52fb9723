//! Devices with MQTT topics of their own, by profile: readers, relays, locks, meters and contacts of other makers.
//!
//! The adapter of [`device`](crate::portals::device) to them; [`parts`](crate::portals::parts) puts portals together from them. One task
//! has a connection of its own to the local broker: what these devices send cannot disturb the native portals. Nothing here decides who
//! may enter.
//!
//! | modules | what they own |
//! |---|---|
//! | `device` | whether a device is connected, and its portals |
//! | `clock` | how late a message is, by the times that a device gives |
//! | `decode` | messages decoded to readings; nothing old is a card |
//! | `output` | what is published to an output, and how it is confirmed |

mod clock;
mod decode;
mod device;
mod output;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::access::event::AlarmKind;
use crate::access::id::PortalId;
use crate::access::input::Input;
use crate::config::MqttPart;
use crate::gateway::ports::Inbox;
use crate::mqtt::{
    Connection, DEVICE_PACKET_BYTES_MAX, Event as LinkEvent, LinkError, LinkMetrics, LinkSpec, Message, Outgoing,
    Retention, Session, Setup,
};
use crate::portals::device::{Event, Stagger};
use crate::profile::mqtt::{Output, Payload};
use crate::wire::topic::{Qos, Subscription};

pub(in crate::portals) use decode::{Decoder, reader_traits};
pub(in crate::portals) use output::{MqttOutput, Seen};

use decode::Received;
use device::{ABSENT_MS, Device, Listener};
use output::Publish;

/// Messages that wait for the connection; each output has at most one, and a question for its state.
const ORDERS_MAX: usize = 1_024;
/// How often what a device shows is looked at, in milliseconds.
const TICK_MS: u64 = 250;
/// How long a question for the state of an output is of use, in milliseconds.
const QUERY_MS: u64 = 2_000;
/// Longest time to deliver what is left at the end, in milliseconds.
const CLOSE_MS: u64 = 500;

/// The devices, while portals are put together from them.
pub(in crate::portals) struct Devices {
    all: Vec<Device>,
    orders: mpsc::Sender<Publish>,
    waiting: mpsc::Receiver<Publish>,
    stagger: Arc<Stagger>,
}

impl Devices {
    pub(in crate::portals) fn new() -> Self {
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        Self { all: Vec::new(), orders, waiting, stagger: Arc::new(Stagger::new()) }
    }

    /// The number of a part's device: parts with the same last will are one device.
    pub(in crate::portals) fn of(&mut self, part: &MqttPart) -> usize {
        let available = part.profile.available(&part.topic);
        let same = |device: &Device| device.topic == part.topic && device.is(&available);
        let at = self.all.iter().position(same).unwrap_or_else(|| {
            self.all.push(Device::new(part.topic.clone(), available));
            self.all.len() - 1
        });
        if let Some(device) = self.all.get_mut(at) {
            device.starts_within(part.profile.start_ms);
        }
        at
    }

    /// An output of a device, which publishes its state to `seen`.
    pub(in crate::portals) fn output(
        &self,
        device: usize,
        part: &MqttPart,
        output: Output,
        seen: watch::Receiver<Seen>,
    ) -> Option<MqttOutput> {
        let online = self.all.get(device)?.watch();
        let place = (part.topic.clone(), part.channel);
        Some(MqttOutput::new(place, output, self.orders.clone(), online, seen))
    }

    /// Spaces out the switching on of all outputs.
    pub(in crate::portals) fn stagger(&self) -> Arc<Stagger> {
        Arc::clone(&self.stagger)
    }

    /// Sends what `decoder` finds in the messages of a device to a portal, whose source it is.
    pub(in crate::portals) fn listen(
        &mut self,
        device: usize,
        portal: &PortalId,
        (source, decoder): (usize, Decoder),
        events: &mpsc::Sender<Event>,
    ) {
        if let Some(device) = self.all.get_mut(device) {
            let (portal, events) = (portal.clone(), events.clone());
            device.listeners.push(Listener { portal, events, source, decoder, behind: false });
        }
    }

    /// The topics that are listened to.
    #[cfg(test)]
    pub(in crate::portals) fn topics(&self) -> std::collections::BTreeSet<String> {
        self.all.iter().flat_map(Device::topics).map(str::to_owned).collect()
    }

    pub(in crate::portals) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The link to these devices; it connects when it is run.
    pub(in crate::portals) fn link(
        self,
        spec: LinkSpec,
        inbox: Inbox,
        metrics: Arc<LinkMetrics>,
    ) -> Result<Link, LinkError> {
        let mut routes: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, device) in self.all.iter().enumerate() {
            for topic in device.topics() {
                let devices = routes.entry(topic.to_owned()).or_default();
                if !devices.contains(&at) {
                    devices.push(at);
                }
            }
        }
        let mut subscriptions: Vec<Subscription> = routes
            .keys()
            .map(|topic| {
                // A broker keeps no message of QoS 0 for a client that is away.
                Subscription { filter: topic.clone(), qos: Qos::AtMostOnce }
            })
            .collect();
        subscriptions.sort_by(|a, b| a.filter.cmp(&b.filter));
        let setup = Setup {
            link: "devices",
            session: Session::Clean,
            subscriptions,
            packet_bytes_max: DEVICE_PACKET_BYTES_MAX,
            will: None,
            echo_topic: None,
        };
        let connection = Connection::new(spec, setup, Arc::clone(&metrics))?;
        Ok(Link {
            devices: self.all,
            routes,
            connection,
            waiting: self.waiting,
            inbox,
            metrics,
            up: false,
            since: Instant::now(),
        })
    }
}

/// The link to the devices; [`Link::run`] is its life.
pub(in crate::portals) struct Link {
    devices: Vec<Device>,
    /// Which devices a topic is of.
    routes: HashMap<String, Vec<usize>>,
    connection: Connection,
    waiting: mpsc::Receiver<Publish>,
    inbox: Inbox,
    metrics: Arc<LinkMetrics>,
    up: bool,
    /// When the connection came up, or was begun.
    since: Instant,
}

impl Link {
    /// Works until `stop` turns true and no output can give orders any more.
    pub(in crate::portals) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut ordered, mut stopped) = (true, false);
        self.since = Instant::now();
        while ordered || !stopped {
            tokio::select! {
                order = self.waiting.recv(), if ordered => match order {
                    Some(order) => self.publish(order),
                    None => ordered = false,
                },
                event = self.connection.next() => self.event(event),
                _ = ticks.tick() => self.tick(),
                () = async { drop(stop.wait_for(|stop| *stop).await) }, if !stopped => stopped = true,
            }
        }
        self.connection.close(Duration::from_millis(CLOSE_MS)).await;
    }

    fn event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { .. } => {
                // What was retained may have come before.
                (self.up, self.since) = (true, Instant::now());
            }
            LinkEvent::Down { why } => {
                self.up = false;
                self.since = Instant::now();
                for device in &mut self.devices {
                    if device.cut_off(&why) {
                        LinkMetrics::count(&self.metrics.overflowed);
                    }
                    device.connected();
                }
            }
            LinkEvent::Message(message) => self.received(&message),
            LinkEvent::SubscriptionRefused { filter } => {
                let detail = format!("the local broker refuses the subscription to `{filter}`; check its access rules");
                if !self.inbox.offer(Input::Alarm { kind: AlarmKind::PortalOffline, portal: None, detail }) {
                    LinkMetrics::count(&self.metrics.overflowed);
                }
            }
            LinkEvent::Delivered(_) => {}
        }
    }

    fn received(&mut self, message: &Message) {
        if let Some(token) = message.ack {
            self.connection.ack(token);
        }
        let Some(of) = self.routes.get(&message.topic) else { return };
        let payload = Payload::new(&message.payload);
        let wall_s = jiff::Timestamp::now().as_duration().as_secs_f64();
        let received =
            Received { topic: &message.topic, payload, retained: message.retain, at: Instant::now(), wall_s };
        let mut asked = Vec::new();
        for at in of {
            let Some(device) = self.devices.get_mut(*at) else { continue };
            let was_online = device.is_online();
            // Before the subscriptions are confirmed, only what the broker kept is expected.
            let taken = device.received(&received, self.up);
            if taken.old || taken.malformed {
                LinkMetrics::count(&self.metrics.rejected);
            }
            if taken.overflowed {
                LinkMetrics::count(&self.metrics.overflowed);
            }
            if device.is_online() && !was_online {
                asked.extend(device.queries());
            }
        }
        self.ask(asked);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let waited = now.saturating_duration_since(self.since) >= Duration::from_millis(ABSENT_MS);
        let failure = self.connection.last_failure().unwrap_or("no answer yet").to_owned();
        let mut asked = Vec::new();
        for device in &mut self.devices {
            let was_online = device.is_online();
            let mut overflowed = device.tick(now);
            if device.is_online() && !was_online {
                asked.extend(device.queries());
            }
            overflowed |= match (waited, self.up) {
                (true, true) => device.absent(),
                (true, false) => device.cut_off(&failure),
                (false, _) => false,
            };
            if overflowed {
                LinkMetrics::count(&self.metrics.overflowed);
            }
        }
        self.ask(asked);
    }

    /// Asks for the state of outputs.
    fn ask(&mut self, orders: Vec<crate::profile::mqtt::Order>) {
        let until = Instant::now() + Duration::from_millis(QUERY_MS);
        for order in orders {
            self.publish(Publish { order, qos: Qos::AtMostOnce, until, done: None });
        }
    }

    fn publish(&mut self, publish: Publish) {
        let Publish { order, qos, until, done } = publish;
        let (topic, payload) = (order.topic, order.payload.into_bytes());
        let message = Outgoing { topic, payload, retain: false, qos, retention: Retention::Until(until) };
        let published = self.connection.publish(message).map(drop).map_err(|error| error.to_string());
        if let Some(done) = done {
            // The try that waits may have been superseded.
            drop(done.send(published));
        }
    }
}
