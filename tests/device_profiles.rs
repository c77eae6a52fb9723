//! Every shipped profile against its golden frames or messages; and what the simulated device of each MQTT profile publishes first.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

#[path = "support/brokers.rs"]
mod brokers;
#[path = "support/golden.rs"]
mod golden;
#[path = "support/messages.rs"]
mod messages;
#[path = "support/mosquitto.rs"]
mod mosquitto;

use std::collections::BTreeSet;
use std::sync::Arc;

use brokers::{connected, message, setup};
use dormgate::config::MqttPart;
use dormgate::mqtt::LinkSpec;
use dormgate::profile::mqtt;
use dormgate::profile::{Pulse, SHIPPED, Trigger, check_text, read, shipped};
use dormgate::workbench::mqtt::profiled::SimulatedDevice;
use messages::Sent;
use serde_json::Value;

#[test]
fn every_shipped_profile_reports_what_its_golden_frames_report() {
    for (id, _) in SHIPPED {
        let path = format!("{}/devices/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        println!("{id}");
        golden::run(&shipped(id).unwrap(), golden.trim_end());
    }
}

#[test]
fn every_poll_and_every_write_of_a_shipped_profile_has_golden_frames() {
    for (id, _) in SHIPPED {
        let profile = shipped(id).unwrap();
        let golden =
            std::fs::read_to_string(format!("{}/devices/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let output = profile.output.as_ref();
        let times = output.is_some_and(|output| matches!(output.pulse, Pulse::Device { .. }));
        let released = profile.readers.iter().any(|reader| {
            matches!(reader.trigger, Trigger::Latch { .. } | Trigger::Counter { acknowledge: Some(_), .. })
        });
        let writes = [("on", output.is_some()), ("off", output.is_some()), ("pulse", times), ("release", released)];
        let writes = writes.into_iter().filter(|(_, has)| *has).map(|(doing, _)| doing.to_owned());
        for wanted in profile.polls.iter().map(|poll| format!("poll {}", poll.name)).chain(writes) {
            let there = golden.lines().any(|line| line == wanted || line.starts_with(&format!("{wanted} ")));
            assert!(there, "devices/golden/{id}.txt has no frames for `{wanted}`");
        }
    }
}

/// The caveat of this reader gives its installer another release; the frame is the one that the manual prints.
#[test]
fn the_other_release_of_the_ind_m1_is_the_frame_in_its_manual() {
    let (_, text) = SHIPPED.iter().find(|(id, _)| *id == "inveo-rfid-ind-m1").unwrap();
    let advised = "release = { space = \"coil\", address = 1016, value = 0 }";
    let profile = shipped("inveo-rfid-ind-m1").unwrap();
    assert!(profile.caveats.iter().any(|caveat| caveat.contains(advised)), "{:?}", profile.caveats);
    let other = text.replace("release = { space = \"holding\", address = 1000, value = 0 }", advised);
    assert_ne!(other, *text);
    golden::run(&read(&other).unwrap(), "release\n> 01 05 03 F8 00 00 4C 7F\n< 01 05 03 F8 00 00 4C 7F");
}

/// No shipped device is known to lose part of the UID; these profiles are the examples that `devices/README.md` refers to.
#[test]
fn lossy_readers_report_what_their_golden_frames_report() {
    for id in ["wiegand-converter", "digits-reader"] {
        let file = |kind: &str| {
            let path = format!("{}/tests/profiles/{id}.{kind}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        println!("{id}");
        golden::run(&read(&file("toml")).unwrap(), file("txt").trim_end());
        let shown = check_text(&format!("{id}.toml"), &file("toml")).unwrap();
        assert!(shown.contains("LOSSY") && shown.contains("ambiguous_identifier"), "{shown}");
    }
}

fn golden_messages(id: &str) -> String {
    let path = format!("{}/devices/mqtt/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_shipped_mqtt_profile_reports_and_orders_what_its_golden_messages_do() {
    for (id, _) in mqtt::SHIPPED {
        messages::run(&mqtt::shipped(id).unwrap(), golden_messages(id).trim_end());
    }
}

#[test]
fn every_message_of_a_shipped_mqtt_profile_has_golden_messages() {
    for (id, _) in mqtt::SHIPPED {
        let (profile, golden) = (mqtt::shipped(id).unwrap(), golden_messages(id));
        let output = profile.output.as_ref();
        let times = output.is_some_and(|output| matches!(output.pulse, mqtt::Pulse::Device { .. }));
        let asks = output.is_some_and(|output| output.confirm.query.is_some());
        let repeats = profile.reader.as_ref().is_some_and(|reader| reader.removed.is_some());
        let wanted = [
            ("online yes", true),
            ("online no", true),
            ("card ", profile.reader.is_some()),
            ("card malformed:", profile.reader.is_some() && !repeats),
            ("left", repeats),
            ("on ", output.is_some()),
            ("off ", output.is_some()),
            ("pulse ", times),
            ("query ", asks),
            ("relay 0 on", output.is_some()),
            ("relay 0 off", output.is_some()),
            ("power ", profile.meter.is_some()),
            ("input ", !profile.inputs.is_empty()),
        ];
        for (line, _) in wanted.iter().filter(|(_, has)| *has) {
            assert!(
                golden.lines().any(|found| found.starts_with(line)),
                "devices/mqtt/golden/{id}.txt has no `{line}`"
            );
        }
    }
}

/// The name of another device, to whose topic of this pattern the message was sent.
fn other_name<'t>(pattern: &str, sent: &'t str) -> Option<&'t str> {
    let filled = mqtt::Names { topic: "{topic}", channel: 0 }.fill(pattern);
    let (before, after) = filled.split_once("{topic}")?;
    sent.strip_prefix(before)?.strip_suffix(after)
}

/// What goes wrong at installations again and again, for what each profile reads: a card, in hex or as a number, a state, a contact, numbers.
#[test]
fn each_usual_error_at_a_device_is_among_the_golden_messages_of_every_mqtt_profile_that_it_applies_to() {
    let mut missing = Vec::new();
    for (id, _) in mqtt::SHIPPED {
        let (profile, golden) = (mqtt::shipped(id).unwrap(), golden_messages(id));
        let (topic, all) = messages::messages(golden.trim_end());
        let names = mqtt::Names { topic, channel: 0 };
        let device = messages::Device { profile: &profile, topic };
        let mut wants = |what: String, is: &dyn Fn(&Sent<'_>) -> bool| {
            if !all.iter().any(is) {
                missing.push(format!("devices/mqtt/golden/{id}.txt has no {what}"));
            }
        };
        let means = |sent: &Sent<'_>, what: &str| !sent.retained && sent.meanings.iter().any(|m| m.starts_with(what));
        for part in profile.parts() {
            wants(format!("retained message to the part `{part}`"), &|sent| {
                sent.retained && device.parts(&sent.message()).contains(&part)
            });
            wants(format!("message of another device that its part `{part}` would read"), &|sent| {
                let names = profile.published().filter_map(|pattern| other_name(pattern, sent.topic));
                let mut others = names.filter(|name| *name != topic).map(|topic| messages::Device { topic, ..device });
                means(sent, "nothing") && others.any(|other| other.parts(&sent.message()).contains(&part))
            });
        }
        // The value as the device wrote it, where it is text; and its digits, where it is a number.
        let value = |sent: &Sent<'_>, topic: &str, at: &str| {
            let json: Option<Value> = serde_json::from_str(sent.payload).ok().filter(|_| sent.topic == topic);
            json.and_then(|json| json.pointer(at).cloned()).filter(|_| !sent.retained)
        };
        let text = |sent: &Sent<'_>, topic: &str, at: &str| Some(value(sent, topic, at)?.as_str()?.to_owned());
        let is_decimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(reader) = profile.reader.as_ref().map(|reader| reader.of(names)) {
            let (at, place) = (reader.place.at.as_deref().unwrap_or(""), &reader.place.topic);
            let is_card = |sent: &Sent<'_>| means(sent, "card ") && !means(sent, "card malformed:");
            let written = |sent: &Sent<'_>, as_: &dyn Fn(&str) -> bool| text(sent, place, at).is_some_and(|t| as_(&t));
            let is_number = |sent: &Sent<'_>| value(sent, place, at).is_some_and(|value| value.is_number());
            wants("UID with its bytes reversed".into(), &|sent| means(sent, "reversed "));
            match reader.uid.form {
                mqtt::UidForm::Hex => {
                    wants("UID in lower case".into(), &|sent| {
                        is_card(sent) && written(sent, &|text| text.contains(char::is_lowercase))
                    });
                    wants("UID with separators".into(), &|sent| {
                        is_card(sent) && written(sent, &|text| text.contains([':', '-', '.', ' ']))
                    });
                    wants("decimal UID".into(), &|sent| means(sent, "card malformed:") && is_number(sent));
                    wants("decimal UID as text".into(), &|sent| {
                        means(sent, "card malformed:") && written(sent, &is_decimal)
                    });
                }
                mqtt::UidForm::Number => {
                    wants("UID as a number".into(), &|sent| is_card(sent) && is_number(sent));
                    wants("UID as a number in text".into(), &|sent| is_card(sent) && written(sent, &is_decimal));
                }
            }
        }
        let meter = profile.meter.as_ref().map(|meter| meter.of(names));
        let numbers = meter.iter().flat_map(|of| [("power ", &of.power), ("energy ", &of.energy)]);
        for (what, place) in numbers.filter_map(|(what, value)| Some((what, &value.as_ref()?.0))) {
            let at = place.at.as_deref().unwrap_or("");
            wants(format!("{what}as text"), &|sent| means(sent, what) && text(sent, &place.topic, at).is_some());
        }
        // A number that chooses the messages that are read.
        let output = profile.output.as_ref().map(|output| output.of(names));
        let places = output.iter().flat_map(|output| output.state.iter().map(|two| two.place.clone()));
        for place in places.chain(profile.reader.iter().map(|reader| reader.of(names).place)) {
            let Some((at, _)) = place.only.as_ref().filter(|(_, is)| is_decimal(is)) else { continue };
            wants(format!("`{at}` as text"), &|sent| {
                !device.parts(&sent.message()).is_empty() && text(sent, &place.topic, at).is_some()
            });
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// What a simulated device called `hall` publishes first, and then when a card is presented or a value is set. `T` is the time.
type Simulated = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const TASMOTA: &str = "tele/hall/LWT Online";
const ESPHOME: &str = "hall/status online";
const SHELLY: &str = "hall/online true";
const BRIDGE: &str = r#"zigbee2mqtt/bridge/state {"state":"online"}"#;
const ZIGBEE: &str = r#"zigbee2mqtt/hall/availability {"state":"online"}"#;

/// Written from the documents of the devices, as the golden messages are.
const SIMULATED: &[Simulated] = &[
    ("esphome-lock", &[ESPHOME, "hall/lock/lock_1/state LOCKED"], &[("relay 1", "hall/lock/lock_1/state UNLOCKED")]),
    ("esphome-switch", &[ESPHOME, "hall/switch/relay_1/state OFF"], &[("relay 1", "hall/switch/relay_1/state ON")]),
    ("esphome-tag", &[ESPHOME, r#"hall/tag {"uid":""}"#], &[("card", r#"hall/tag {"uid":"1EA68671"}"#)]),
    ("esphome-wiegand26", &[ESPHOME], &[("card", r#"hall/tag {"uid":10913393}"#)]),
    ("esphome-wiegand34", &[ESPHOME], &[("card", r#"hall/tag {"uid":514229873}"#)]),
    (
        "shelly-gen2",
        &[
            SHELLY,
            r#"hall/events/rpc {"params":{"switch:0":{"output":false}}}"#,
            r#"hall/status/switch:0 {"output":false}"#,
            r#"dormgate-hall/rpc {"result":{"id":0,"output":false}}"#,
        ],
        &[
            ("relay 1", r#"hall/events/rpc {"params":{"switch:0":{"output":true}}}"#),
            ("power 41.5", r#"hall/status/switch:0 {"apower":41.5}"#),
            ("energy 3", r#"hall/status/switch:0 {"aenergy":{"total":3000.0}}"#),
        ],
    ),
    ("shelly-gen2-button", &[SHELLY], &[("exit_button 1", r#"hall/status/input:0 {"state":true}"#)]),
    ("shelly-gen2-contact", &[SHELLY], &[("contact_open 1", r#"hall/status/input:0 {"state":false}"#)]),
    ("tasmota-pn532", &[TASMOTA], &[("card", r#"tele/hall/SENSOR {"PN532":{"UID":"1EA68671"},"Time":"T"}"#)]),
    ("tasmota-rc522", &[TASMOTA], &[("card", r#"tele/hall/SENSOR {"RC522":{"UID":"1EA68671"},"Time":"T"}"#)]),
    ("tasmota-rdm6300", &[TASMOTA], &[("card", r#"tele/hall/SENSOR {"RDM6300":{"UID":"1EA68671"},"Time":"T"}"#)]),
    (
        "tasmota-relay",
        &[TASMOTA, r#"stat/hall/RESULT {"POWER1":"OFF"}"#, r#"stat/hall/RESULT {"POWER":"OFF"}"#],
        &[
            ("relay 1", r#"stat/hall/RESULT {"POWER1":"ON"}"#),
            ("power 41.5", r#"tele/hall/SENSOR {"ENERGY":{"Power":41.5}}"#),
            ("energy 3", r#"tele/hall/SENSOR {"ENERGY":{"Total":3.0}}"#),
        ],
    ),
    (
        "tasmota-wiegand26",
        &[TASMOTA],
        &[("card", r#"tele/hall/SENSOR {"Time":"T","Wiegand":{"Size":26,"UID":10913393}}"#)],
    ),
    (
        "tasmota-wiegand34",
        &[TASMOTA],
        &[("card", r#"tele/hall/SENSOR {"Time":"T","Wiegand":{"Size":34,"UID":514229873}}"#)],
    ),
    (
        "zigbee2mqtt-contact",
        &[BRIDGE, ZIGBEE],
        &[
            ("contact_open 1", r#"zigbee2mqtt/hall {"contact":false}"#),
            ("tamper 1", r#"zigbee2mqtt/hall {"tamper":true}"#),
        ],
    ),
    (
        "zigbee2mqtt-lock",
        &[BRIDGE, ZIGBEE, r#"zigbee2mqtt/hall {"state":"LOCK"}"#],
        &[("relay 1", r#"zigbee2mqtt/hall {"state":"UNLOCK"}"#)],
    ),
    (
        "zigbee2mqtt-plug",
        &[BRIDGE, ZIGBEE, r#"zigbee2mqtt/hall {"state":"OFF"}"#],
        &[
            ("relay 1", r#"zigbee2mqtt/hall {"state":"ON"}"#),
            ("power 41.5", r#"zigbee2mqtt/hall {"power":41.5}"#),
            ("energy 3", r#"zigbee2mqtt/hall {"energy":3.0}"#),
        ],
    ),
];

/// What can be done at a simulated device of this profile.
fn points(profile: &mqtt::Profile) -> BTreeSet<String> {
    let has = |has: bool, points: &[&str]| points.iter().filter(|_| has).map(ToString::to_string).collect::<Vec<_>>();
    let inputs = profile.inputs.iter().map(|input| input.kind.to_string());
    let parts = [
        has(profile.reader.is_some(), &["card"]),
        has(profile.output.is_some(), &["relay"]),
        has(profile.meter.is_some(), &["power", "energy"]),
    ];
    parts.concat().into_iter().chain(inputs).collect()
}

#[tokio::test]
async fn the_simulated_device_of_every_mqtt_profile_publishes_its_state_and_then_what_is_done_at_it() {
    assert!(SIMULATED.iter().map(|(id, ..)| *id).eq(mqtt::SHIPPED.iter().map(|(id, _)| *id)), "each profile is a row");
    for (id, first, done) in SIMULATED {
        let profile = mqtt::shipped(id).unwrap();
        let there = done.iter().map(|(doing, _)| doing.split(' ').next().unwrap().to_owned());
        assert_eq!(there.collect::<BTreeSet<_>>(), points(&profile), "{id}");
        let broker = dormgate::workbench::broker::Broker::start().await.unwrap();
        let mut spy = connected(&broker.url(), "spy", setup(&["#"])).await;
        let mut next = async || {
            let sent = message(&mut spy).await;
            if let Some(token) = sent.ack {
                spy.ack(token);
            }
            let text = format!("{} {}", sent.topic, String::from_utf8(sent.payload).unwrap());
            let Some((before, time)) = text.split_once("\"Time\":\"") else { return text };
            format!("{before}\"Time\":\"T\"{}", time.split_once('"').unwrap().1)
        };
        let part = MqttPart { topic: "hall".into(), profile: Arc::new(profile), channel: 0 };
        let link = LinkSpec::plain(vec![broker.url()], "hall");
        let device = SimulatedDevice::start(link, "hall", &[&part]).unwrap();
        for wanted in *first {
            assert_eq!(next().await, *wanted, "{id}");
        }
        for (doing, wanted) in *done {
            match doing.split_once(' ') {
                None => device.present("1EA68671".parse().unwrap()).await,
                Some((point, value)) => drop(device.set(point, 0, value.parse().unwrap()).await.unwrap()),
            }
            let mut came = Vec::new();
            while came.last().is_none_or(|last| last != wanted) {
                // Before it come the states of its further channels.
                came.push(next().await);
                assert!(came.len() < 64, "{id}: {doing}: {came:?}");
            }
        }
        device.stop().await;
        broker.stop().await;
    }
}
