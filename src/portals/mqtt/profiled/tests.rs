//! One device and its portal, without a broker: what its messages mean at which moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::decode::Received;
use super::device::{Device, Taken};
use super::*;
use crate::access::input::Presented;
use crate::portals::device::reader::{CardEvent, Reader, Shows};
use crate::portals::device::{Reading, SourceState};
use crate::profile::mqtt::{self, Names, Payload};

mod available;
mod behind;
mod golden;
mod old;
mod set;
mod silent;

const TOPIC: &str = "hall";
const SENSOR: &str = "tele/hall/SENSOR";
const LWT: &str = "tele/hall/LWT";
/// 2026-11-29T12:00:00Z, in seconds since 1970.
const NOON_S: f64 = 1_795_953_600.0;

fn card(uid: &str, time: u64) -> String {
    format!("{{\"Time\":\"2026-11-29T12:00:{time:02}\",\"RC522\":{{\"UID\":\"{uid}\"}}}}")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A device with one portal: its reader, its output, its meter or its inputs, as the profile has them.
struct Rig {
    device: Device,
    events: mpsc::Receiver<Event>,
    reader: Option<Reader>,
    seen: watch::Receiver<Seen>,
    now: Instant,
    /// When the gateway's clock shows noon of 2026-11-29.
    noon: Instant,
}

impl Rig {
    fn new(profile: &str) -> Self {
        Self::of(&mqtt::shipped(profile).unwrap())
    }

    /// One that is online, whose reader repeats its card, and reports once that it has left.
    fn once_removed() -> Self {
        let mut profile = mqtt::shipped("esphome-tag").unwrap();
        profile.reader.as_mut().unwrap().removed_repeats = false;
        let mut rig = Self::of(&profile);
        rig.kept("hall/status", "online");
        rig
    }

    fn of(profile: &mqtt::Profile) -> Self {
        let names = Names { topic: TOPIC, channel: 0 };
        let mut device = Device::new(TOPIC.into(), profile.available(TOPIC));
        device.starts_within(profile.start_ms);
        let mut decoder = Decoder::default();
        let reader = profile.reader.as_ref().map(|reader| {
            decoder.add_reader(0, reader.of(names));
            Reader::new(reader_traits(reader))
        });
        let (publish, seen) = watch::channel(Seen::default());
        if let Some(output) = &profile.output {
            decoder.add_output(output.of(names), publish);
        }
        if let Some(meter) = &profile.meter {
            decoder.add_meter(meter.of(names));
        }
        for (number, input) in profile.inputs(names).into_iter().enumerate() {
            decoder.add_contact(number, input);
        }
        let (events, received) = mpsc::channel(8);
        let portal = "portal".parse().unwrap();
        device.listeners.push(Listener { portal, events, source: 0, decoder, behind: false });
        Self { device, events: received, reader, seen, now: Instant::now(), noon: Instant::now() }
    }

    /// One whose device has been online for a while.
    fn online(profile: &str) -> Self {
        let mut rig = Self::new(profile);
        rig.kept(LWT, "Online");
        rig.kept("hall/status", "online");
        rig.kept("hall/online", "true");
        rig.kept("zigbee2mqtt/bridge/state", "online");
        rig.after(60_000);
        rig.noon = rig.now;
        rig
    }

    /// What the gateway's clock shows, in seconds since 1970.
    fn wall_s(&self) -> f64 {
        NOON_S + self.now.duration_since(self.noon).as_secs_f64()
    }

    fn message(&mut self, topic: &str, payload: &str, retained: bool, live: bool) -> Taken {
        let payload = Payload::new(payload.as_bytes());
        let wall_s = self.wall_s();
        self.device.received(&Received { topic, payload, retained, at: self.now, wall_s }, live)
    }

    fn sends(&mut self, topic: &str, payload: &str) -> Taken {
        self.message(topic, payload, false, true)
    }

    fn kept(&mut self, topic: &str, payload: &str) -> Taken {
        self.message(topic, payload, true, true)
    }

    fn after(&mut self, wait_ms: u64) {
        for _ in 0..wait_ms.div_ceil(TICK_MS) {
            self.now += ms(TICK_MS);
            self.device.tick(self.now);
            self.drain();
        }
    }

    /// The time goes on in one step, and what came stays to be looked at.
    fn after_quietly(&mut self, wait_ms: u64) {
        self.now += ms(wait_ms);
        self.device.tick(self.now);
    }

    /// What the reader made of the readings since the last time.
    fn cards(&mut self) -> Vec<CardEvent> {
        let mut cards = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Read { readings, at, .. } => {
                    for reading in readings {
                        if let Reading::Card { shows, .. } = reading {
                            cards.extend(self.reader.as_mut().unwrap().read(shows, at, Duration::ZERO));
                        }
                    }
                }
                Event::Source { state: SourceState::Offline { .. }, .. } => {
                    self.reader.iter_mut().for_each(Reader::lost);
                }
                Event::Source { .. } | Event::Accepted { .. } => {}
            }
        }
        cards
    }

    /// The reader takes what came, which is of no interest here.
    fn drain(&mut self) {
        drop(self.cards());
    }

    fn readings(&mut self) -> Vec<Reading> {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        let read =
            events.filter_map(|event| if let Event::Read { readings, .. } = event { Some(readings) } else { None });
        read.flatten().collect()
    }

    fn states(&mut self) -> Vec<SourceState> {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        let states =
            events.filter_map(|event| if let Event::Source { state, .. } = event { Some(state) } else { None });
        let shown = |state: &SourceState| {
            if let SourceState::Offline { cause } = state {
                crate::chinese::is_in_chinese(cause);
            }
        };
        states.inspect(shown).collect()
    }
}

fn presented(uid: &str) -> Vec<CardEvent> {
    vec![CardEvent::Presented(Presented::Card(uid.parse().unwrap()))]
}

#[tokio::test(start_paused = true)]
async fn a_card_that_a_device_reports_is_presented_once_however_often_its_message_comes() {
    let mut rig = Rig::online("tasmota-rc522");
    assert_eq!(rig.sends(SENSOR, &card("1EA68671", 0)), Taken::default());
    assert_eq!(rig.cards(), presented("1EA68671"));
    // Another card with the time of the first, and delivered twice, at once and much later.
    rig.sends(SENSOR, &card("04A1B2C3", 0));
    assert_eq!(rig.cards(), presented("04A1B2C3"));
    assert!(rig.sends(SENSOR, &card("04A1B2C3", 0)).old);
    rig.after(10_000);
    assert!(rig.sends(SENSOR, &card("04A1B2C3", 0)).old);
    assert_eq!(rig.cards(), []);
    // Reported again while it lies there, and presented again.
    rig.sends(SENSOR, &card("04A1B2C3", 10));
    assert_eq!(rig.cards(), presented("04A1B2C3"));
    rig.after(2_000);
    rig.sends(SENSOR, &card("04A1B2C3", 12));
    assert_eq!(rig.cards(), []);
    rig.after(3_000);
    rig.sends(SENSOR, &card("04A1B2C3", 15));
    assert_eq!(rig.cards(), presented("04A1B2C3"));
    // One that is older than the last, by however little.
    assert!(rig.sends(SENSOR, &card("1EA68671", 14)).old);
    assert_eq!(rig.cards(), []);
}

#[tokio::test(start_paused = true)]
async fn a_card_in_a_retained_message_opens_nothing_and_is_counted() {
    let mut rig = Rig::online("tasmota-rc522");
    assert!(rig.kept(SENSOR, &card("1EA68671", 0)).old);
    assert_eq!(rig.cards(), []);
    // Nor does it make the live one old.
    rig.sends(SENSOR, &card("1EA68671", 0));
    assert_eq!(rig.cards(), presented("1EA68671"));
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_subscriptions_are_confirmed_is_no_card() {
    let mut rig = Rig::online("tasmota-rc522");
    rig.message(SENSOR, &card("1EA68671", 10), false, false);
    assert_eq!(rig.cards(), []);
}

#[tokio::test(start_paused = true)]
async fn a_card_of_a_device_that_is_offline_or_has_just_connected_opens_nothing() {
    let mut rig = Rig::new("tasmota-rc522");
    assert!(rig.sends(SENSOR, &card("1EA68671", 1)).old, "it never reported that it is connected");
    rig.sends(LWT, "Online");
    assert!(rig.sends(SENSOR, &card("1EA68671", 2)).old, "the card that lay there when the power came back");
    rig.after(1_000);
    rig.sends(SENSOR, &card("1EA68671", 3));
    assert_eq!(rig.cards(), presented("1EA68671"));
    rig.sends(LWT, "Offline");
    rig.after(2_000);
    assert!(rig.sends(SENSOR, &card("1EA68671", 3)).old);
    assert_eq!(rig.cards(), []);
    rig.sends(LWT, "Online");
    rig.after(1_000);
    rig.sends(SENSOR, &card("1EA68671", 4));
    assert_eq!(rig.cards(), presented("1EA68671"));
    // Known to be connected from the start: no waiting.
    let mut rig = Rig::new("tasmota-rc522");
    rig.kept(LWT, "Online");
    rig.drain();
    rig.sends(SENSOR, &card("1EA68671", 0));
    assert_eq!(rig.cards(), presented("1EA68671"));
}

#[tokio::test(start_paused = true)]
async fn messages_of_another_name_or_topic_and_garbage_are_no_card_and_garbage_is_reported() {
    let mut rig = Rig::online("tasmota-rc522");
    for topic in ["tele/hall2/SENSOR", "tele/Hall/SENSOR", "stat/hall/SENSOR", "tele/hall/SENSOR/x"] {
        rig.sends(topic, &card("1EA68671", 1));
    }
    assert_eq!(rig.readings(), []);
    for garbage in ["{\"RC522\":{\"UID\":\"1EA68671\"", "1EA68671", "\u{0}\u{1}"] {
        assert!(rig.sends(SENSOR, garbage).malformed, "{garbage}");
        let readings = rig.readings();
        assert!(matches!(&readings[..], [Reading::Malformed(why)] if why.contains("tele/hall/SENSOR")), "{readings:?}");
    }
    // A value that is no UID is a card that cannot be read: judged and audited as one.
    rig.sends(SENSOR, &card("nonsense", 5));
    assert_eq!(rig.cards(), [CardEvent::Presented(Presented::Malformed("nonsense".into()))]);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_is_repeated_is_there_until_its_messages_end_or_it_is_reported_removed() {
    let tag = |uid: &str| format!("{{\"uid\":\"{uid}\"}}");
    let there = |uid: &str| vec![CardEvent::There(Presented::Card(uid.parse().unwrap()))];
    let mut rig = Rig::new("esphome-tag");
    rig.kept("hall/status", "online");
    rig.sends("hall/tag", &tag("1E-A6-86-71"));
    assert_eq!(rig.cards(), there("1EA68671"), "what is there first was not presented now");
    for _ in 0..5 {
        rig.now += ms(2_000);
        rig.device.tick(rig.now);
        rig.sends("hall/tag", &tag("1E-A6-86-71"));
        assert_eq!(rig.cards(), []);
    }
    rig.sends("hall/tag", &tag(""));
    rig.now += ms(1_100);
    rig.device.tick(rig.now);
    assert_eq!(rig.cards(), [CardEvent::Left]);
    rig.sends("hall/tag", &tag("04-A1-B2-C3"));
    assert_eq!(rig.cards(), presented("04A1B2C3"));
    // Its messages end, and that it has left is not reported.
    let mut left = Vec::new();
    for _ in 0..28 {
        rig.now += ms(TICK_MS);
        rig.device.tick(rig.now);
        left.extend(rig.cards());
    }
    assert_eq!(left, [CardEvent::Left], "5 s and 1 s later");
}

#[tokio::test(start_paused = true)]
async fn a_retained_state_counts_where_the_profile_states_it_and_a_button_is_pressed_by_a_message_alone() {
    let mut rig = Rig::online("tasmota-relay");
    rig.kept("stat/hall/RESULT", r#"{"POWER1":"ON"}"#);
    assert_eq!(rig.readings(), []);
    rig.sends("stat/hall/RESULT", r#"{"POWER1":"ON"}"#);
    assert_eq!(rig.readings(), [Reading::Output(true)]);
    // It may come before the last will.
    let mut rig = Rig::new("esphome-switch");
    rig.kept("hall/switch/relay_1/state", "ON");
    assert_eq!(rig.readings(), []);
    rig.kept("hall/status", "online");
    assert_eq!(rig.readings(), [Reading::Output(true)]);
    // Of which moment it is, nobody knows, so that it confirms no order; and another channel is another relay.
    let mut known = Seen::default();
    known.reported(true, None);
    rig.sends("hall/switch/relay_2/state", "OFF");
    assert_eq!((rig.readings(), *rig.seen.borrow()), (vec![], known));
    // What it was before it went offline is not what it is afterwards.
    rig.sends("hall/status", "offline");
    rig.sends("hall/status", "online");
    rig.now += ms(1_000);
    rig.device.tick(rig.now);
    assert_eq!(rig.readings(), []);
    let contact =
        |active: bool| Reading::Contact { contact: 0, number: if active { 1.0 } else { 0.0 }, counts: false, active };
    let mut rig = Rig::new("shelly-gen2-button");
    rig.kept("hall/online", "true");
    assert_eq!(rig.readings(), [contact(false)]);
    rig.kept("hall/status/input:0", r#"{"id":0,"state":true}"#);
    assert_eq!(rig.readings(), []);
    rig.sends("hall/status/input:0", r#"{"id":0,"state":true}"#);
    assert_eq!(rig.readings(), [contact(true)]);
}

#[tokio::test(start_paused = true)]
async fn a_meter_is_reported_in_watts_and_kilowatt_hours_whatever_its_unit_is() {
    let mut rig = Rig::online("shelly-gen2");
    rig.sends("hall/status/switch:0", r#"{"apower":41.2,"aenergy":{"total":1034.0}}"#);
    rig.sends("hall/status/switch:1", r#"{"apower":7,"aenergy":{"total":7}}"#);
    let expected = Reading::Meter { power_w: Some(41.2), energy_kwh: Some(1.034) };
    assert_eq!(rig.readings(), [expected]);
}

#[tokio::test(start_paused = true)]
async fn what_a_contact_reports_while_its_device_starts_counts_and_a_button_that_is_held_then_opens_nothing() {
    let contact =
        |active: bool| Reading::Contact { contact: 0, number: if active { 1.0 } else { 0.0 }, counts: false, active };
    let mut rig = Rig::new("shelly-gen2-contact");
    rig.sends("hall/online", "true");
    rig.sends("hall/status/input:0", r#"{"id":0,"state":false}"#);
    assert_eq!(rig.readings(), []);
    rig.now += ms(1_000);
    rig.device.tick(rig.now);
    assert_eq!(rig.readings(), [contact(true)], "it reports a change, and not again that it is open");
    // Offline since: it may be closed meanwhile.
    rig.sends("hall/online", "false");
    rig.sends("hall/online", "true");
    rig.now += ms(1_000);
    rig.device.tick(rig.now);
    assert_eq!(rig.readings(), []);
    let mut rig = Rig::new("shelly-gen2-button");
    rig.sends("hall/online", "true");
    rig.sends("hall/status/input:0", r#"{"id":0,"state":true}"#);
    rig.now += ms(1_000);
    rig.device.tick(rig.now);
    assert_eq!(rig.readings(), [contact(true)], "the first reading, which is no press");
}

#[tokio::test]
async fn a_device_of_several_profiles_starts_as_long_as_the_slowest_of_them() {
    let part = |start_ms: u32| {
        let profile = mqtt::Profile { start_ms, ..mqtt::shipped("tasmota-rc522").unwrap() };
        MqttPart { topic: TOPIC.into(), profile: Arc::new(profile), channel: 0 }
    };
    let mut devices = Devices::new();
    for start_ms in [1_000, 3_000, 2_000] {
        assert_eq!(devices.of(&part(start_ms)), 0);
    }
    let other = MqttPart { topic: "yard".into(), ..part(1_000) };
    assert_eq!(devices.of(&other), 1, "another name");
    let profile = Arc::new(mqtt::shipped("esphome-tag").unwrap());
    assert_eq!(devices.of(&MqttPart { profile, ..part(1_000) }), 2, "another last will");
    let device = devices.all.first_mut().unwrap();
    let now = Instant::now();
    let online = Payload::new(b"Online");
    device.received(&Received { topic: LWT, payload: online, retained: false, at: now, wall_s: NOON_S }, true);
    device.tick(now + ms(2_999));
    assert!(!device.is_online());
    device.tick(now + ms(3_000));
    assert!(device.is_online());
}

#[test]
fn a_card_shown_by_nothing_is_none() {
    let mut reader = Reader::new(reader_traits(&mqtt::shipped("tasmota-rc522").unwrap().reader.unwrap()));
    let card = || Some(Presented::Card("1EA68671".parse().unwrap()));
    let now = Instant::now();
    assert_eq!(
        reader.read(Shows::Card(card()), now, Duration::ZERO),
        [CardEvent::Missed(card())],
        "the first, before anything is known"
    );
    assert_eq!(reader.read(Shows::Card(None), now, Duration::ZERO), []);
}
