//! What the parts of a portal report beside cards: contacts, buttons, passages, meters; and boxes beyond on and off.

use super::*;
use crate::access::portal::{Direction, Posture};
use crate::profile::InputKind;

fn whole(kind: PortalKind, id: &str, channel: u16) -> ModbusPortalSpec {
    ModbusPortalSpec {
        id: "portal".parse().unwrap(),
        kind,
        direction: None,
        slots: 1,
        reader: Some(part(5, id, channel)),
        output: Some(part(5, id, channel)),
        meter: None,
        inputs: None,
    }
}

async fn one(kind: PortalKind, id: &str, channel: u16) -> FakeGateway {
    let line = Line::new([(5, profile(id))]);
    let fake = FakeGateway::start(line, vec![whole(kind, id, channel)], &[CARD]).await;
    fake.online().await;
    fake
}

#[tokio::test]
async fn a_door_controllers_card_contact_and_exit_button_are_received() {
    let fake = one(PortalKind::Door, "generic-door-controller", 0).await;
    fake.reports(|r| r.contact_open == Some(false)).await;
    fake.line.present(5, 0, uid(CARD));
    fake.receives(|i| matches!(i, Input::Request(r) if r.presented == Presented::Card(uid(CARD)))).await;
    fake.relay(5, 0, true).await;
    fake.line.input(5, InputKind::ContactOpen, 0, true);
    fake.reports(|r| r.contact_open == Some(true)).await;
    fake.relay(5, 0, false).await;
    fake.line.input(5, InputKind::ExitButton, 0, true);
    fake.reports(|r| r.exit_button).await;
    assert!(
        !fake
            .received
            .borrow()
            .iter()
            .any(|i| matches!(i, Input::Report { report, .. } if report.exit_button && report.online.is_some()))
    );
    // The same card again is a new count, so a new request; and the controller was reported that the first was taken.
    fake.line.present(5, 0, uid(CARD));
    fake.relay(5, 0, true).await;
    assert_eq!(fake.requests(), 2);
    let acknowledged = |r: &Request| matches!(r, Request::WriteRegister { address: 29, value: 1 });
    assert!(fake.line.received().iter().any(|(_, _, r)| acknowledged(r)));
}

#[tokio::test]
async fn a_contact_may_be_on_a_module_of_its_own() {
    let line = Line::new([(5, profile("inveo-rfid-ind-m1")), (9, profile("generic-contacts"))]);
    let spec = ModbusPortalSpec {
        inputs: Some(part(9, "generic-contacts", 3)),
        ..whole(PortalKind::Door, "inveo-rfid-ind-m1", 0)
    };
    let fake = FakeGateway::start(line, vec![spec], &[CARD]).await;
    fake.online().await;
    // Nothing is wired yet: as good as an open door.
    fake.reports(|r| r.contact_open == Some(true)).await;
    // The door beside it.
    fake.line.input(9, InputKind::ContactOpen, 2, false);
    fake.line.input(9, InputKind::ContactOpen, 3, false);
    fake.reports(|r| r.contact_open == Some(false)).await;
    fake.line.input(9, InputKind::ExitButton, 3, true);
    fake.reports(|r| r.exit_button).await;
}

#[tokio::test]
async fn a_button_held_down_while_the_gateway_starts_opens_nothing() {
    let line = Line::new([(5, profile("generic-door-controller"))]);
    line.input(5, InputKind::ExitButton, 0, true);
    let fake = FakeGateway::start(line, vec![whole(PortalKind::Door, "generic-door-controller", 0)], &[CARD]).await;
    fake.online().await;
    fake.reports(|r| r.contact_open == Some(false)).await;
    assert!(!fake.received.borrow().iter().any(|i| matches!(i, Input::Report { report, .. } if report.exit_button)));
}

#[tokio::test]
async fn a_turnstile_reports_ways_passages_and_fire() {
    let fake = one(PortalKind::Gate, "generic-turnstile", 1).await;
    fake.reports(|r| r.fire == Some(false)).await;
    fake.line.present(5, 1, uid(CARD));
    fake.receives(|i| matches!(i, Input::Request(r) if r.direction == Some(Direction::Out))).await;
    fake.relay(5, 1, true).await;
    // Who goes in passes the other gate of this device.
    fake.line.input(5, InputKind::PassedIn, 0, true);
    fake.line.input(5, InputKind::PassedOut, 0, true);
    fake.reports(|r| r.passed == Some(Direction::Out)).await;
    fake.line.input(5, InputKind::PassedOut, 0, true);
    let out = |i: &&Input| matches!(i, Input::Report { report, .. } if report.passed == Some(Direction::Out));
    let mut received = fake.received.clone();
    assert!(timeout(LIMIT, received.wait_for(|all| all.iter().filter(out).count() == 2)).await.is_ok());
    let wrong = |i: &Input| matches!(i, Input::Report { report, .. } if report.passed == Some(Direction::In));
    assert!(!fake.received.borrow().iter().any(wrong));
    fake.line.input(5, InputKind::Fire, 0, true);
    fake.reports(|r| r.fire == Some(true)).await;
}

#[tokio::test]
async fn two_gates_of_one_turnstile_of_contacts_receive_each_of_its_own_way() {
    let gate = |id: &str, channel: u16, direction: Direction| ModbusPortalSpec {
        id: id.parse().unwrap(),
        kind: PortalKind::Gate,
        direction: Some(direction),
        slots: 1,
        reader: None,
        output: Some(part(5, "generic-turnstile-contacts", channel)),
        meter: None,
        inputs: None,
    };
    let profile = Arc::new(shipped("generic-turnstile-contacts").unwrap());
    let gates = vec![gate("in", 0, Direction::In), gate("out", 1, Direction::Out)];
    let fake = FakeGateway::start(Line::new([(5, profile)]), gates, &[]).await;
    for name in ["in", "out"] {
        fake.receives(
            |i| matches!(i, Input::Report { portal, report } if portal == name && report.fire == Some(false)),
        )
        .await;
    }
    fake.line.input(5, InputKind::PassedIn, 0, true);
    fake.line.input(5, InputKind::PassedOut, 0, true);
    let reported = |i: &Input| match i {
        Input::Report { portal, report } => report.passed.map(|way| (portal.clone(), way)),
        _ => None,
    };
    let mut received = fake.received.clone();
    let both = received.wait_for(|all| all.iter().filter_map(reported).count() == 2);
    let mut all: Vec<_> = timeout(LIMIT, both).await.unwrap().unwrap().iter().filter_map(reported).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(all, [("in".to_owned(), Direction::In), ("out".to_owned(), Direction::Out)]);
}

#[tokio::test]
async fn fire_holds_a_door_open_until_the_mode_ends() {
    let fake = one(PortalKind::Door, "generic-door-controller", 0).await;
    let mode = |posture| PortalOrder::Mode { portal: "portal".parse().unwrap(), posture };
    fake.order("portal", mode(Posture::Fire));
    fake.relay(5, 0, true).await;
    // A card in between does not end it.
    fake.line.present(5, 0, uid(CARD));
    fake.receives(|i| matches!(i, Input::Request(_))).await;
    assert!(!fake.line.wait_relay(5, 0, false, Duration::from_millis(1500)).await);
    fake.order("portal", mode(Posture::Secure));
    fake.relay(5, 0, false).await;
}

#[tokio::test]
async fn a_box_reports_its_meter_and_a_card_exchanged_without_a_gap_is_judged_again() {
    let line = Line::new([(5, profile("generic-power-box"))]);
    line.set_words(5, "power", &[0, 412]);
    line.set_words(5, "energy", &[0, 10340]);
    let mut spec = whole(PortalKind::PowerBox, "generic-power-box", 0);
    spec.meter = Some(part(5, "generic-power-box", 0));
    let fake = FakeGateway::start(line, vec![spec], &[CARD]).await;
    fake.online().await;
    fake.reports(|r| {
        r.power_w.is_some_and(|w| (w - 41.2).abs() < 0.01) && r.energy_kwh.is_some_and(|e| (e - 103.4).abs() < 0.01)
    })
    .await;
    fake.line.present(5, 0, uid(CARD));
    fake.relay(5, 0, true).await;
    fake.line.present(5, 0, uid("04A1B2C3D4E5F6"));
    fake.reports(|r| r.card_present == Some(false) && r.exchanged).await;
    fake.relay(5, 0, false).await;
    fake.receives(|i| matches!(i, Input::Request(r) if r.presented == Presented::Card(uid("04A1B2C3D4E5F6")))).await;
    assert!(!fake.line.wait_relay(5, 0, true, Duration::from_millis(500)).await);
}

#[tokio::test]
async fn a_box_that_was_cut_is_off_also_when_the_program_stops_at_once() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[]).await;
    fake.online().await;
    fake.energise("power-1");
    fake.relay(21, 0, true).await;
    fake.cut("power-1");
    fake.running.stop().await;
    assert!(fake.line.wait_relay(21, 0, false, Duration::ZERO).await, "left on");
}

#[tokio::test]
async fn rooms_of_one_riser_are_switched_on_one_after_another() {
    let (line, specs) = boxes(4);
    let fake = FakeGateway::start(line, specs, &[]).await;
    fake.online().await;
    for n in 1..=4 {
        fake.energise(&format!("power-{n}"));
    }
    for channel in 0..4 {
        fake.relay(21, channel, true).await;
    }
    let on = |r: &Request| matches!(r, Request::WriteCoil { value: 0xFF00, .. });
    let times: Vec<Instant> = fake.line.received().into_iter().filter(|(_, _, r)| on(r)).map(|(at, ..)| at).collect();
    assert_eq!(times.len(), 4);
    let least = Duration::from_millis(STAGGER_MS * 2 / 3);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= least), "{times:?}");
}

#[tokio::test]
async fn a_card_exchanged_for_another_that_may_is_off_before_it_is_on_again() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[CARD, "04A1B2C3"]).await;
    fake.online().await;
    fake.line.present(1, 0, uid(CARD));
    fake.relay(21, 0, true).await;
    fake.reports(|r| r.relay == Some(true)).await;
    let before = fake.line.received().len();
    fake.line.present(1, 0, uid("04A1B2C3"));
    fake.reports(|r| r.exchanged).await;
    let on = |i: &&Input| matches!(i, Input::Report { report, .. } if report.relay == Some(true));
    let mut received = fake.received.clone();
    assert!(timeout(LIMIT, received.wait_for(|all| all.iter().filter(on).count() == 2)).await.is_ok());
    let writes: Vec<Request> =
        fake.line.received().into_iter().skip(before).map(|(_, _, r)| r).filter(Request::is_write).collect();
    let coil = |value| Request::WriteCoil { address: 0, value };
    assert_eq!(writes, [coil(0), coil(0xFF00)]);
}

/// A box with two slots and a meter, as an installer would describe it.
const TWO_SLOTS: &str = r#"
schema = 1
id = "two-slots"
source = "a test"
[link]
address_base = 0
byte_order = "big"
word_order = "big"
[points]
left = { space = "input", address = 0, type = "bytes", registers = 2 }
right = { space = "input", address = 2, type = "bytes", registers = 2 }
relay = { space = "coil", address = 0, type = "bool" }
power = { space = "input", address = 8, type = "u16", unit = "W" }
[[poll]]
name = "slots"
every_ms = 50
atomic = true
points = ["left", "right"]
[[poll]]
name = "status"
every_ms = 50
points = ["relay", "power"]
[[reader]]
id = "left"
trigger = { level = "uid" }
uid = { point = "left", length = 4, order = "msb_first" }
gone_ms = 100
[[reader]]
id = "right"
trigger = { level = "uid" }
uid = { point = "right", length = 4, order = "msb_first" }
gone_ms = 100
[output]
state = "relay"
on = { space = "coil", address = 0 }
off = { space = "coil", address = 0, value = 0 }
pulse = { by = "gateway" }
[meter]
power = "power"
"#;

fn two_slots(id: &str, unit: u8) -> (Arc<Profile>, ModbusPortalSpec) {
    let profile = Arc::new(crate::profile::read(TWO_SLOTS).unwrap());
    let part = Part { bus: "riser".into(), unit, profile: Arc::clone(&profile), channel: 0 };
    let spec = ModbusPortalSpec {
        id: id.parse().unwrap(),
        kind: PortalKind::PowerBox,
        direction: None,
        slots: 2,
        reader: Some(part.clone()),
        output: Some(part.clone()),
        meter: Some(Part { unit: 5, ..part }),
        inputs: None,
    };
    (profile, spec)
}

#[tokio::test]
async fn each_slot_of_a_box_reports_its_own_card() {
    let (profile, spec) = two_slots("portal", 5);
    let fake = FakeGateway::start(Line::new([(5, profile)]), vec![spec], &[CARD]).await;
    fake.online().await;
    fake.reports(|r| r.card_present == Some(false) && r.slot == 1).await;
    fake.line.present(5, 1, uid(CARD));
    fake.receives(|i| matches!(i, Input::Request(r) if r.slot == 1 && r.presented == Presented::Card(uid(CARD)))).await;
    fake.line.present(5, 0, uid("04A1B2C3"));
    fake.receives(|i| matches!(i, Input::Request(r) if r.slot == 0 && r.presented == Presented::Card(uid("04A1B2C3"))))
        .await;
    let left = |r: &&Input| matches!(r, Input::Report { report, .. } if report.card_present == Some(false) && report.slot == 1);
    let empty_before = fake.received.borrow().iter().filter(left).count();
    fake.line.remove(5, 1);
    let mut received = fake.received.clone();
    assert!(timeout(LIMIT, received.wait_for(|all| all.iter().filter(left).count() > empty_before)).await.is_ok());
    assert_eq!(fake.requests(), 2);
}

#[tokio::test]
async fn a_card_that_lies_in_one_slot_is_reported_before_the_other_is_reported_empty() {
    let (profile, spec) = two_slots("portal", 5);
    let line = Line::new([(5, profile)]);
    line.present(5, 1, uid(CARD));
    let fake = FakeGateway::start(line, vec![spec], &[CARD]).await;
    fake.reports(|r| r.card_present == Some(false) && r.slot == 0).await;
    let slots = |i: &Input| match i {
        Input::Report { report, .. } => report.card_present.map(|present| (report.slot, present)),
        _ => None,
    };
    let reported: Vec<_> = fake.received.borrow().iter().filter_map(slots).collect();
    assert_eq!(reported, [(1, true), (0, false)]);
}

#[tokio::test]
async fn a_reading_is_repeated_and_reported_again_when_the_relay_moves() {
    let (profile, spec) = two_slots("portal", 5);
    let line = Line::new([(5, profile)]);
    line.set_words(5, "power", &[41]);
    let fake = FakeGateway::start(line, vec![spec], &[]).await;
    fake.online().await;
    let reading =
        |i: &&Input| matches!(i, Input::Report { report, .. } if report.power_w == Some(41.0) && !report.shared_meter);
    fake.reports(|r| r.power_w == Some(41.0)).await;
    fake.energise("portal");
    fake.reports(|r| r.relay == Some(true)).await;
    let mut received = fake.received.clone();
    assert!(timeout(LIMIT, received.wait_for(|all| all.iter().filter(reading).count() > 1)).await.is_ok());
}

#[tokio::test]
async fn a_meter_of_several_boxes_is_reported_as_shared() {
    let (profile, spec) = two_slots("portal", 5);
    let (_, other) = two_slots("other", 6);
    let line = Line::new([(5, Arc::clone(&profile)), (6, profile)]);
    line.set_words(5, "power", &[41]);
    let fake = FakeGateway::start(line, vec![spec, other], &[]).await;
    fake.reports(|r| r.power_w == Some(41.0) && r.shared_meter).await;
}
