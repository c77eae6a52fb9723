//! Every shipped profile of a device with MQTT topics of its own, with its simulated device, at a broker: cards, relays, contacts and
//! meters reach the gateway, orders reach the device, and what is retained or comes after the device is gone does nothing.
#![cfg(feature = "workbench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "support/brokers.rs"]
mod brokers;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/scripted.rs"]
mod scripted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use brokers::*;
use dormgate::access::event::AlarmKind;
use dormgate::access::input::{Input, PortalReport, Presented, Request};
use dormgate::access::portal::Posture;
use dormgate::config::{LinkSpec, Surroundings, parse};
use dormgate::gateway::ports::{Inbox, InboxReceiver, PortalOrder};
use dormgate::mqtt::{BrokerUrl, LinkMetrics};
use dormgate::portals::modbus::Observer;
use dormgate::portals::parts::{PartPortals, start};
use dormgate::profile::mqtt::{Pulse, SHIPPED, shipped};
use dormgate::workbench::modbus::LineAt;
use dormgate::workbench::mqtt::profiled::SimulatedDevice;
use dormgate::workbench::site::Site;
use tokio::sync::mpsc;

const CARD: &str = "1EA68671";
const PATIENCE: Duration = Duration::from_secs(PATIENCE_S);

fn config(url: &BrokerUrl, portals: &str) -> dormgate::config::Site {
    let text = format!("[gateway]\nid = \"g1\"\n[local]\nurls = [\"{url}\"]\n{portals}");
    parse(&text, &Surroundings::default()).unwrap_or_else(|wrong| panic!("{text}\n{wrong:?}"))
}

fn portal(id: &str, kind: &str, reader: &str, output: &str) -> String {
    format!(
        "[[portal]]\nid = \"{id}\"\nkind = \"{kind}\"\nzone = \"1\"\nreader = {{ mqtt = \"{reader}\", topic = \"{id}-r\" }}\n\
         output = {{ mqtt = \"{output}\", topic = \"{id}-o\" }}\n"
    )
}

/// The portals of a configuration, with a test in the gateway's place.
struct Rig {
    gateway: InboxReceiver,
    running: PartPortals,
    outlets: BTreeMap<String, mpsc::Sender<PortalOrder>>,
}

impl Rig {
    fn start(config: &dormgate::config::Site) -> Self {
        let (inbox, gateway) = Inbox::new();
        let observer: Arc<dyn Observer> = Arc::new(());
        let local = config.local.clone().map(|link| (link, Arc::new(LinkMetrics::default())));
        let running = start(&config.buses, &config.portals, local, &inbox, &observer).unwrap();
        let outlets = running.outlets.iter().map(|(id, to)| (id.to_string(), to.clone())).collect();
        Self { gateway, running, outlets }
    }

    async fn input(&mut self) -> Input {
        within(async {
            tokio::select! {
                input = self.gateway.urgent.recv() => input,
                offered = self.gateway.requests.recv() => offered.map(|(input, _)| input),
            }
        })
        .await
        .expect("the portals live")
    }

    async fn report(&mut self, of: &str, wanted: impl Fn(&PortalReport) -> bool) {
        loop {
            if let Input::Report { portal, report } = self.input().await
                && portal == of
                && wanted(&report)
            {
                return;
            }
        }
    }

    async fn request(&mut self, of: &str) -> Request {
        loop {
            if let Input::Request(request) = self.input().await
                && request.portal == of
            {
                return request;
            }
        }
    }

    async fn all_online(&mut self, ids: &[&str]) {
        let mut waiting = ids.to_vec();
        while !waiting.is_empty() {
            let Input::Report { portal, report } = self.input().await else { continue };
            waiting.retain(|id| *id != portal || report.online != Some(true));
        }
    }

    async fn mode(&self, of: &str, posture: Posture) {
        let portal = of.parse().unwrap();
        self.outlets.get(of).unwrap().send(PortalOrder::Mode { portal, posture }).await.unwrap();
    }

    async fn stop(self) {
        drop(self.outlets);
        self.running.stop().await;
    }
}

async fn simulated(config: &dormgate::config::Site) -> Site {
    Site::start(config, BTreeMap::new()).await.unwrap().0
}

async fn no_verdict() -> Result<dormgate::access::effect::Verdict, String> {
    Err("no gateway decides here".to_owned())
}

#[tokio::test]
async fn every_reader_profile_reports_the_cards_of_its_simulated_device() {
    against_each(async |broker| {
        let readers: Vec<&str> =
            SHIPPED.iter().map(|(id, _)| *id).filter(|id| shipped(id).unwrap().reader.is_some()).collect();
        let portals: String = readers.iter().map(|id| portal(id, "door", id, "shelly-gen2")).collect();
        let config = config(&broker.url(), &portals);
        let site = simulated(&config).await;
        let mut rig = Rig::start(&config);
        rig.all_online(&readers).await;
        for id in readers {
            let shown = site.present(id, CARD, None, None, no_verdict());
            let (request, _) = tokio::join!(rig.request(id), tokio::time::timeout(Duration::from_millis(10), shown));
            let card = CARD.parse().unwrap();
            let expected = match shipped(id).unwrap().reader.unwrap().uid.transform() {
                Some(transform) => Presented::Lossy(transform.read(card)),
                None => Presented::Card(card),
            };
            assert_eq!(request.presented, expected, "{id}");
        }
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn every_output_profile_holds_and_releases_its_simulated_device_and_reports_what_it_does() {
    against_each(async |broker| {
        let outputs: Vec<&str> =
            SHIPPED.iter().map(|(id, _)| *id).filter(|id| shipped(id).unwrap().output.is_some()).collect();
        let portals: String = outputs.iter().map(|id| portal(id, "door", "tasmota-rc522", id)).collect();
        let config = config(&broker.url(), &portals);
        let site = simulated(&config).await;
        // As an earlier run left them.
        let mut earlier = Rig::start(&config);
        earlier.all_online(&outputs).await;
        for id in &outputs {
            site.set(&format!("mqtt/{id}-o"), "relay", 0, 1.0).await.unwrap();
            earlier.report(id, |report| report.relay == Some(true)).await;
        }
        earlier.stop().await;
        let mut rig = Rig::start(&config);
        // Whether it is on is retained, or asked for; one whose pulses the gateway ends is switched off.
        let by_gateway = |id: &str| shipped(id).unwrap().output.unwrap().pulse == Pulse::Gateway;
        let (mut waiting, mut known) = (outputs.clone(), outputs.clone());
        while !(waiting.is_empty() && known.is_empty()) {
            let Input::Report { portal, report } = rig.input().await else { continue };
            waiting.retain(|id| *id != portal || report.online != Some(true));
            known.retain(|id| *id != portal || report.relay != Some(!by_gateway(id)));
        }
        for id in outputs {
            rig.mode(id, Posture::Secure).await;
            if !by_gateway(id) {
                rig.report(id, |report| report.relay == Some(false)).await;
            }
            rig.mode(id, Posture::FreeAccess).await;
            rig.report(id, |report| report.relay == Some(true)).await;
            rig.mode(id, Posture::Secure).await;
            rig.report(id, |report| report.relay == Some(false)).await;
            // Somebody switches it at the device.
            let place = format!("mqtt/{id}-o");
            site.set(&place, "relay", 0, 1.0).await.unwrap();
            rig.report(id, |report| report.relay == Some(true)).await;
            site.set(&place, "relay", 0, 0.0).await.unwrap();
            rig.report(id, |report| report.relay == Some(false)).await;
        }
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn contacts_and_meters_are_reported_and_a_relay_that_sticks_raises_an_alarm() {
    against_each(async |broker| {
        let more = "meter = { mqtt = \"tasmota-relay\", topic = \"box-o\" }\ninputs = { mqtt = \"shelly-gen2-contact\", topic = \"box-c\" }\n";
        let config = config(&broker.url(), &format!("{}{more}", portal("box", "power_box", "esphome-tag", "tasmota-relay")));
        let site = simulated(&config).await;
        let mut rig = Rig::start(&config);
        rig.report("box", |report| report.online == Some(true)).await;
        site.set("mqtt/box-o", "power", 0, 41.2).await.unwrap();
        rig.report("box", |report| report.power_w == Some(41.2)).await;
        site.set("mqtt/box-o", "energy", 0, 103.4).await.unwrap();
        rig.report("box", |report| report.energy_kwh == Some(103.4)).await;
        site.set("mqtt/box-c", "contact_open", 0, 1.0).await.unwrap();
        rig.report("box", |report| report.contact_open == Some(true)).await;
        let wrong = site.set("mqtt/box-c", "power", 0, 1.0).await.unwrap_err();
        assert!(wrong.to_string().contains("`contact_open`"), "{wrong}");
        let wrong = site.fault("mqtt/box-o", &["garbage"]).await.unwrap_err();
        assert!(wrong.to_string().contains("`stuck-relay`"), "{wrong}");

        site.set("mqtt/box-o", "relay", 0, 1.0).await.unwrap();
        rig.report("box", |report| report.relay == Some(true)).await;
        site.fault("mqtt/box-o", &["stuck-relay"]).await.unwrap();
        let portal = "box".parse().unwrap();
        rig.outlets.get("box").unwrap().send(PortalOrder::Cut { portal, reason: "lost" }).await.unwrap();
        loop {
            if let Input::Alarm { kind, detail, .. } = rig.input().await {
                assert_eq!(kind, AlarmKind::UnconfirmedRevocation, "{detail}");
                break;
            }
        }
        site.fault("mqtt/box-o", &["none"]).await.unwrap();
        rig.report("box", |report| report.relay == Some(false)).await;
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_portal_goes_offline_with_its_device_with_a_wrong_name_and_with_the_broker() {
    against_each(async |mut broker| {
        let url = broker.url();
        let site = config(&url, &portal("gate", "gate", "tasmota-rc522", "shelly-gen2"));
        let parts = site.portals.first().unwrap().device.parts().unwrap();
        let device = |part: &dormgate::config::Part| {
            let part = part.mqtt().unwrap();
            let link = LinkSpec::plain(vec![url.clone()], format!("sim-{}", part.topic));
            SimulatedDevice::start(link, &part.topic, &[part]).unwrap()
        };
        let reader = device(&parts.reader);
        let mut rig = Rig::start(&site);
        let cause = |part: &'static str| {
            move |report: &PortalReport| {
                report.online == Some(false) && report.cause.as_ref().is_some_and(|cause| cause.contains(part))
            }
        };
        rig.report("gate", cause("nothing came on `gate-o/online`")).await;
        let output = device(&parts.output);
        rig.report("gate", |report| report.online == Some(true)).await;
        reader.stop().await;
        rig.report("gate", cause("`tele/gate-r/LWT` reports that it is not connected")).await;
        let reader = device(&parts.reader);
        rig.report("gate", |report| report.online == Some(true)).await;
        broker.stop().await;
        rig.report("gate", cause("the local broker cannot be reached")).await;
        broker.start_again().await;
        rig.report("gate", |report| report.online == Some(true)).await;
        assert!(reader.wait_until(PATIENCE, |seen| seen.connected).await.is_some());
        assert!(!output.seen().on.contains(&0), "a link that comes back opens nothing");
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn nothing_that_is_published_to_a_device_is_retained_and_what_opens_is_never_kept_for_later() {
    against_each(async |broker| {
        let config = config(&broker.url(), &portal("gate", "gate", "tasmota-rc522", "shelly-gen2"));
        let site = simulated(&config).await;
        let mut rig = Rig::start(&config);
        rig.report("gate", |report| report.online == Some(true)).await;
        let mut spy = connected(&broker.url(), "spy", setup(&["gate-o/rpc"])).await;
        // The next order, and whether it has QoS 1; not a question.
        let mut order = async || loop {
            let message = message(&mut spy).await;
            let ack = message.ack.map(|token| spy.ack(token)).is_some();
            let text = String::from_utf8(message.payload).unwrap();
            if text.contains("Switch.Set") {
                return (text.contains("\"on\":true"), ack);
            }
        };
        rig.mode("gate", Posture::FreeAccess).await;
        assert_eq!(order().await, (true, false));
        rig.report("gate", |report| report.relay == Some(true)).await;
        rig.mode("gate", Posture::Secure).await;
        assert_eq!(order().await, (false, true));
        rig.report("gate", |report| report.relay == Some(false)).await;
        let mut late = connected(&broker.url(), "late", setup(&["gate-o/rpc", "end"])).await;
        deliver(&mut spy, reporting("end", "")).await;
        assert_eq!(message(&mut late).await.topic, "end", "a retained order would have come before it");
        rig.stop().await;
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn readers_and_outputs_may_be_at_the_broker_and_on_a_line_in_one_portal() {
    against_each(async |broker| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let portals = format!(
            "[[bus]]\nid = \"riser\"\ntcp = \"{free}\"\n\
             [[portal]]\nid = \"hall\"\nkind = \"door\"\nzone = \"1\"\n\
             reader = {{ mqtt = \"tasmota-rc522\", topic = \"hall\" }}\n\
             output = {{ modbus = \"riser\", unit = 21, profile = \"waveshare-relay-8ch\" }}\n\
             inputs = {{ mqtt = \"shelly-gen2-contact\", topic = \"hall-c\" }}\n\
             [[portal]]\nid = \"box\"\nkind = \"power_box\"\nzone = \"1\"\n\
             reader = {{ modbus = \"riser\", unit = 2, profile = \"generic-power-box\" }}\n\
             output = {{ mqtt = \"tasmota-relay\", topic = \"box\" }}\n\
             meter = {{ mqtt = \"tasmota-relay\", topic = \"box\" }}\n"
        );
        let config = config(&broker.url(), &portals);
        let lines = BTreeMap::from([("riser".to_owned(), LineAt::Tcp(free.port()))]);
        let site = Site::start(&config, lines).await.unwrap().0;
        let mut rig = Rig::start(&config);
        rig.all_online(&["hall", "box"]).await;
        let card = Presented::Card(CARD.parse().unwrap());
        for id in ["hall", "box"] {
            let shown = site.present(id, CARD, None, None, no_verdict());
            let (request, _) = tokio::join!(rig.request(id), tokio::time::timeout(Duration::from_millis(10), shown));
            assert_eq!(request.presented, card, "{id}");
        }
        rig.mode("hall", Posture::FreeAccess).await;
        rig.report("hall", |report| report.relay == Some(true)).await;
        site.set("mqtt/hall-c", "contact_open", 0, 1.0).await.unwrap();
        rig.report("hall", |report| report.contact_open == Some(true)).await;
        site.set("mqtt/box", "relay", 0, 1.0).await.unwrap();
        rig.report("box", |report| report.relay == Some(true)).await;
        site.set("mqtt/box", "power", 0, 41.2).await.unwrap();
        rig.report("box", |report| report.power_w == Some(41.2) && !report.shared_meter).await;
        // The relay falls silent and not the reader; and the other way round.
        site.fault("riser/21", &["silent"]).await.unwrap();
        rig.report("hall", |report| report.online == Some(false) && report.output_online == Some(false)).await;
        site.fault("riser/2", &["silent"]).await.unwrap();
        rig.report("box", |report| report.online == Some(false) && report.output_online == Some(true)).await;
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_meter_of_two_boxes_is_reported_as_one_that_measures_more_than_its_box() {
    against_each(async |broker| {
        let meter = "meter = { mqtt = \"tasmota-relay\", topic = \"main\" }\n";
        let boxes = ["east", "west"].map(|id| portal(id, "power_box", "esphome-tag", "tasmota-relay") + meter);
        let config = config(&broker.url(), &boxes.concat());
        let site = simulated(&config).await;
        let mut rig = Rig::start(&config);
        rig.all_online(&["east", "west"]).await;
        site.set("mqtt/main", "power", 0, 41.2).await.unwrap();
        let mut waiting = vec!["east", "west"];
        while !waiting.is_empty() {
            let Input::Report { portal, report } = rig.input().await else { continue };
            waiting.retain(|id| *id != portal || report.power_w != Some(41.2) || !report.shared_meter);
        }
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_was_never_reached_makes_its_portals_offline() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = BrokerUrl { tls: false, host: nobody.ip().to_string(), port: nobody.port() };
    let mut rig = Rig::start(&config(&url, &portal("gate", "gate", "tasmota-rc522", "shelly-gen2")));
    rig.report("gate", |report| report.cause.as_ref().is_some_and(|cause| cause.contains("cannot be reached"))).await;
    rig.stop().await;
}

/// `PUBLISH` with QoS 0 (MQTT 3.1.1, 3.3).
fn publish(topic: &str, payload: &str, retained: bool) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(payload.as_bytes());
    let mut packet = vec![0x30 | u8::from(retained), u8::try_from(body.len()).unwrap()];
    assert!(body.len() < 128, "one byte of length");
    packet.append(&mut body);
    packet
}

fn tag(uid: &str) -> Vec<u8> {
    publish("tele/gate-r/SENSOR", &format!("{{\"RC522\":{{\"UID\":\"{uid}\"}}}}"), false)
}

#[tokio::test]
async fn a_card_that_comes_before_the_subscriptions_are_confirmed_is_not_presented() {
    within(async {
        let broker = scripted::Scripted::start().await;
        let mut rig = Rig::start(&config(&broker.url(), &portal("gate", "gate", "tasmota-rc522", "shelly-gen2")));
        // Also on the next connection: it is not enough that they were confirmed once.
        for _ in 0..2 {
            let (mut stream, clean) = broker.client().await;
            assert!(clean, "a broker keeps nothing for a client without a session");
            scripted::report(&mut stream, &scripted::CONNACK).await;
            scripted::report(&mut stream, &publish("gate-o/online", "true", true)).await;
            scripted::report(&mut stream, &publish("tele/gate-r/LWT", "Online", true)).await;
            scripted::report(&mut stream, &tag("04A1B2C3")).await;
            let asked = scripted::grant(&mut stream, 0).await;
            assert!(
                !asked.is_empty() && asked.iter().all(|qos| *qos == 0),
                "a broker may keep more for later: {asked:?}"
            );
            scripted::report(&mut stream, &tag(CARD)).await;
            assert_eq!(rig.request("gate").await.presented, Presented::Card(CARD.parse().unwrap()));
        }
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_refuses_a_subscription_raises_an_alarm_that_names_it() {
    within(async {
        let broker = scripted::Scripted::start().await;
        let mut rig = Rig::start(&config(&broker.url(), &portal("gate", "gate", "tasmota-rc522", "shelly-gen2")));
        let (mut stream, _) = broker.client().await;
        scripted::report(&mut stream, &scripted::CONNACK).await;
        scripted::grant(&mut stream, 0x80).await;
        loop {
            if let Input::Alarm { kind: AlarmKind::PortalOffline, detail, .. } = rig.input().await
                && detail.contains("refuses the subscription to `tele/gate-r/LWT`")
            {
                break;
            }
        }
        rig.stop().await;
    })
    .await;
}
