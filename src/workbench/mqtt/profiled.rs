//! A simulated device with MQTT topics of its own, by its profile: it reports cards, its relays and its meter as the profile reads them, and
//! carries out what the profile publishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use crate::access::id::CardUid;
use crate::clock::sleep_until_some;
use crate::config::MqttPart;
use crate::mqtt::{
    Connection, DEVICE_PACKET_BYTES_MAX, Event, LinkError, LinkMetrics, LinkSpec, Message, Outgoing, Retention,
    Session, Setup, Will,
};
use crate::profile::mqtt::{Available, Input, Meter, Names, Order, Output, Place, Pulse, Reader, Two};
use crate::wire::topic::{Qos, Subscription};
use crate::workbench::modbus::Fault;
use crate::workbench::{Refused, listed};

/// Most commands that wait for a simulated device.
const COMMANDS_MAX: usize = 64;
/// How long a report is of use, in milliseconds.
const REPORT_MS: u64 = 2_000;
/// Longest time to disconnect, in milliseconds.
const CLOSE_MS: u64 = 500;
/// How often a device looks whether something is to be repeated or switched, in milliseconds.
const TICK_MS: u64 = 50;

/// What a simulated device does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceSeen {
    /// It is connected to its broker.
    pub connected: bool,
    /// The card at its reader.
    pub card: Option<CardUid>,
    /// Its channels that are on.
    pub on: BTreeSet<u16>,
    /// How often it was ordered to switch on, or on for a time.
    pub orders_on: u64,
}

enum Command {
    Present(CardUid),
    Remove,
    Set(String, u16, f64),
    Fault(Fault),
}

/// A running simulated device. When it is dropped, it ends as if its power were cut.
pub struct SimulatedDevice {
    points: Vec<String>,
    commands: mpsc::Sender<Command>,
    seen: watch::Receiver<DeviceSeen>,
    task: JoinHandle<()>,
}

/// What a device has, of all its parts.
#[derive(Default)]
struct Has {
    reader: Option<Reader>,
    outputs: Vec<(u16, Output)>,
    inputs: Vec<(u16, Input)>,
    meters: Vec<(u16, Meter)>,
}

impl SimulatedDevice {
    /// Starts the device of these parts, which have the same topic; it connects by itself.
    pub fn start(link: LinkSpec, topic: &str, parts: &[&MqttPart]) -> Result<Self, LinkError> {
        let mut has = Has::default();
        let mut available: Vec<Available> = Vec::new();
        for part in parts {
            let profile = &part.profile;
            let new = profile.available(topic);
            available.extend(new.into_iter().filter(|of| !available.contains(of)).collect::<Vec<_>>());
            let of = |channel| Names { topic, channel };
            if let Some(reader) = &profile.reader {
                has.reader = Some(reader.of(of(0)));
            }
            if let Some(output) = &profile.output {
                let new = (0..output.channels).map(|channel| (channel, output.of(of(channel))));
                has.outputs.extend(new.filter(|new| !has.outputs.contains(new)).collect::<Vec<_>>());
            }
            has.inputs.extend(profile.inputs(part.names()).into_iter().map(|input| (part.channel, input)));
            has.meters.extend(profile.meter.iter().map(|meter| (part.channel, meter.of(part.names()))));
        }
        let orders = has.outputs.iter().flat_map(|(_, output)| {
            let pulse = match &output.pulse {
                Pulse::Device { order, .. } => Some(order),
                Pulse::Gateway => None,
            };
            [&output.on, &output.off].into_iter().chain(pulse).chain(&output.confirm.query)
        });
        let topics: BTreeSet<String> = orders.map(|order| order.topic.clone()).collect();
        let subscription = |filter| Subscription { filter, qos: Qos::AtMostOnce };
        // The last will of a bridge is that of all its devices.
        let own = available.iter().rev().find(|of| of.is.place.topic.contains(topic)).or(available.first());
        let will = own.map(|of| {
            let payload = of.is.show(false).into_bytes();
            Will { topic: of.is.place.topic.clone(), retain: true, payload: Arc::new(move |_| payload.clone()) }
        });
        let setup = Setup {
            link: "simulated",
            session: Session::Clean,
            subscriptions: topics.into_iter().map(subscription).collect(),
            packet_bytes_max: DEVICE_PACKET_BYTES_MAX,
            will,
            echo_topic: None,
        };
        let connection = Connection::new(link, setup, Arc::new(LinkMetrics::default()))?;
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (show, seen) = watch::channel(DeviceSeen::default());
        let mut points: Vec<String> = has.inputs.iter().map(|(_, input)| input.kind.to_string()).collect();
        if !has.meters.is_empty() {
            points.extend(["power".to_owned(), "energy".to_owned()]);
        }
        if !has.outputs.is_empty() {
            points.push("relay".to_owned());
        }
        let device = Device {
            has,
            available,
            connection,
            show,
            fault: Fault::None,
            off_at: Vec::new(),
            repeat_at: Instant::now(),
        };
        let task = tokio::spawn(device.run(received));
        Ok(Self { points, commands, seen, task })
    }

    /// Presents a card; it stays until it is removed.
    pub async fn present(&self, uid: CardUid) {
        self.commands.send(Command::Present(uid)).await.ok();
    }

    /// Takes the card away.
    pub async fn remove(&self) {
        self.commands.send(Command::Remove).await.ok();
    }

    /// Sets what it reports: `relay`, `power`, `energy`, or a contact by the name of its key in the profile. Fails when it has no such
    /// point.
    pub async fn set(&self, point: &str, channel: u16, value: f64) -> Result<String, Refused> {
        if !self.points.iter().any(|known| known == point) {
            return Err(Refused(format!("it has no point `{point}`; there are {}", listed(&self.points))));
        }
        self.commands.send(Command::Set(point.to_owned(), channel, value)).await.ok();
        Ok(value.to_string())
    }

    /// Makes it fail: `silent`, `stuck-relay`, or `none`. Fails when the fault is one of Modbus lines.
    pub async fn fault(&self, fault: Fault) -> Result<(), Refused> {
        if !matches!(fault, Fault::None | Fault::Silent | Fault::StuckRelay) {
            let faults = "`none`, `silent` and `stuck-relay`";
            return Err(Refused(format!(
                "a device with MQTT topics of its own has the faults {faults}; the others are of Modbus lines"
            )));
        }
        self.commands.send(Command::Fault(fault)).await.ok();
        Ok(())
    }

    /// The state of the device.
    #[must_use]
    pub fn seen(&self) -> DeviceSeen {
        self.seen.borrow().clone()
    }

    /// Waits until `wanted` is true of the state; `None`: it was not within this time.
    pub async fn wait_until(&self, within: Duration, wanted: impl FnMut(&DeviceSeen) -> bool) -> Option<DeviceSeen> {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(within, seen.wait_for(wanted)).await.ok()?;
        found.ok().map(|seen| seen.clone())
    }

    /// Stops it; it reports that it goes offline.
    pub async fn stop(self) {
        drop(self.commands);
        self.task.await.ok();
    }
}

struct Device {
    has: Has,
    available: Vec<Available>,
    connection: Connection,
    show: watch::Sender<DeviceSeen>,
    fault: Fault,
    /// When channels that are on for a time go off.
    off_at: Vec<(u16, Instant)>,
    /// When the card, or its absence, is reported again.
    repeat_at: Instant,
}

impl Device {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut ticks = interval(Duration::from_millis(TICK_MS));
        loop {
            let off = self.off_at.iter().map(|(_, at)| *at).min();
            tokio::select! {
                event = self.connection.next() => self.event(event),
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                _ = ticks.tick() => self.repeat(),
                () = sleep_until_some(off) => self.time_is_up(),
            }
        }
        for of in self.available.clone() {
            self.report(&of.is.place, of.is.show(false));
        }
        self.connection.close(Duration::from_millis(CLOSE_MS)).await;
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Up { .. } => {
                for of in self.available.clone() {
                    self.report(&of.is.place, of.is.show(true));
                }
                self.show.send_modify(|seen| seen.connected = true);
                let channels: Vec<u16> = self.has.outputs.iter().map(|(channel, _)| *channel).collect();
                channels.into_iter().for_each(|channel| self.report_output(channel));
            }
            Event::Down { .. } => self.show.send_modify(|seen| seen.connected = false),
            Event::Message(message) => self.received(&message),
            Event::Delivered(_) | Event::SubscriptionRefused { .. } => {}
        }
    }

    fn received(&mut self, message: &Message) {
        if let Some(token) = message.ack {
            self.connection.ack(token);
        }
        let Ok(text) = std::str::from_utf8(&message.payload) else { return };
        if self.fault == Fault::Silent || message.retain {
            return;
        }
        let is = |order: &Order| order.topic == message.topic && order.payload == text;
        let found = self.has.outputs.iter().find_map(|(channel, output)| {
            let timed = match &output.pulse {
                Pulse::Device { order, step_ms, .. } if order.topic == message.topic => time_of(order, text, *step_ms),
                Pulse::Device { .. } | Pulse::Gateway => None,
            };
            let change = match timed {
                Some(ms) => Some((true, Some(ms))),
                None if is(&output.on) => Some((true, None)),
                None if is(&output.off) => Some((false, None)),
                None if output.confirm.query.as_ref().is_some_and(is) => None,
                None => return None,
            };
            Some((*channel, change, output.confirm.each))
        });
        match found {
            Some((channel, Some((on, ms)), each)) => {
                self.off_at.retain(|(of, _)| *of != channel);
                let off_at = ms.map(|ms| (channel, Instant::now() + Duration::from_millis(ms)));
                self.off_at.extend(off_at);
                self.show.send_modify(|seen| seen.orders_on += u64::from(on));
                let changed = self.switch(channel, on);
                if changed || each {
                    self.report_output(channel);
                }
            }
            Some((channel, None, _)) => self.report_output(channel),
            None => {}
        }
    }

    /// Returns whether this changes it.
    fn switch(&mut self, channel: u16, on: bool) -> bool {
        if self.fault == Fault::StuckRelay {
            return false;
        }
        let mut changed = false;
        self.show.send_modify(|seen| {
            changed = if on { seen.on.insert(channel) } else { seen.on.remove(&channel) };
        });
        changed
    }

    fn time_is_up(&mut self) {
        let now = Instant::now();
        let due: Vec<u16> = self.off_at.iter().filter(|(_, at)| *at <= now).map(|(channel, _)| *channel).collect();
        self.off_at.retain(|(_, at)| *at > now);
        for channel in due {
            if self.switch(channel, false) {
                self.report_output(channel);
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Present(uid) => {
                self.show.send_modify(|seen| seen.card = Some(uid));
                self.report_card();
            }
            Command::Remove => {
                self.show.send_modify(|seen| seen.card = None);
                self.report_card();
            }
            Command::Set(point, channel, value) => self.set(&point, channel, value),
            Command::Fault(fault) => self.fault = fault,
        }
    }

    fn set(&mut self, point: &str, channel: u16, value: f64) {
        if point == "relay" {
            if self.switch(channel, value != 0.0) {
                self.report_output(channel);
            }
            return;
        }
        let inputs = self.has.inputs.iter().filter(|(of, input)| *of == channel && input.kind.to_string() == point);
        let inputs = inputs.map(|(_, input)| (input.is.place.clone(), input.is.show(value != 0.0)));
        let meters = self.has.meters.iter().filter(|(of, _)| *of == channel).filter_map(|(_, meter)| {
            let (place, factor) = match point {
                "power" => meter.power.as_ref()?,
                "energy" => meter.energy.as_ref()?,
                _ => return None,
            };
            Some((place.clone(), place.show_number(value / factor)))
        });
        for (place, payload) in inputs.chain(meters).collect::<Vec<_>>() {
            self.report(&place, payload);
        }
    }

    /// Reports the card, or its absence.
    fn report_card(&mut self) {
        let Some(reader) = self.has.reader.clone() else { return };
        let card = self.show.borrow().card;
        match card {
            Some(uid) => {
                self.report(&reader.place, reader.show(uid, &Self::time()));
            }
            None => {
                if let Some((place, payload)) = reader.show_removed() {
                    self.report(&place, payload);
                }
            }
        }
        let repeats_ms = reader.repeats_ms.unwrap_or(0);
        self.repeat_at = Instant::now() + Duration::from_millis(u64::from(repeats_ms / 2));
    }

    fn repeat(&mut self) {
        let repeats = self.has.reader.as_ref().is_some_and(|reader| reader.repeats_ms.is_some());
        if repeats && self.connection.is_up() && Instant::now() >= self.repeat_at {
            self.report_card();
        }
    }

    /// The time as a device shows it, to the second.
    fn time() -> String {
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default();
        jiff::tz::Offset::UTC.to_datetime(now).to_string()
    }

    fn report_output(&mut self, channel: u16) {
        let on = self.show.borrow().on.contains(&channel);
        let states: Vec<Two> =
            self.has.outputs.iter().filter(|(of, _)| *of == channel).flat_map(|(_, o)| o.state.clone()).collect();
        for state in states {
            self.report(&state.place, state.show(on));
        }
    }

    fn report(&mut self, place: &Place, payload: String) {
        if self.fault == Fault::Silent {
            return;
        }
        let retention = Retention::Until(Instant::now() + Duration::from_millis(REPORT_MS));
        let (topic, payload, qos) = (place.topic.clone(), payload.into_bytes(), Qos::AtMostOnce);
        let message = Outgoing { topic, payload, retain: place.retained, qos, retention };
        if let Err(why) = self.connection.publish(message) {
            tracing::debug!("a simulated device cannot report: {why}");
        }
    }
}

/// The time of a pulse that `text` orders, in milliseconds; `None`: it is another order.
fn time_of(order: &Order, text: &str, step_ms: u32) -> Option<u64> {
    for (name, ms) in [("{hold_ms}", 1.0), ("{hold_s}", 1000.0)] {
        if let Some((before, after)) = order.payload.split_once(name) {
            let number: f64 = text.strip_prefix(before)?.strip_suffix(after)?.parse().ok()?;
            return Some(
                Duration::try_from_secs_f64(number * ms / 1000.0).ok()?.as_millis().try_into().unwrap_or(u64::MAX),
            );
        }
    }
    (order.payload == text).then_some(u64::from(step_ms))
}
