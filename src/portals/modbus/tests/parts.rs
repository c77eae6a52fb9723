//! What the parts of a portal say beside cards: contacts, buttons, passages, meters; and boxes beyond on and off.

use super::*;
use crate::access::portal::{Direction, Posture};
use crate::wire::profile::InputKind;

fn whole(kind: PortalKind, id: &str, channel: u16) -> ModbusPortalSpec {
    ModbusPortalSpec {
        id: "portal".parse().unwrap(),
        kind,
        slots: 1,
        reader: Some(part(5, id, channel)),
        output: Some(part(5, id, channel)),
        meter: None,
        inputs: None,
    }
}

async fn one(kind: PortalKind, id: &str, channel: u16) -> Toy {
    let line = Line::new([(5, profile(id))]);
    let toy = Toy::start(line, vec![whole(kind, id, channel)], &[CARD]).await;
    toy.online().await;
    toy
}

#[tokio::test]
async fn a_door_controllers_card_contact_and_exit_button_are_heard() {
    let toy = one(PortalKind::Door, "generic-door-controller", 0).await;
    toy.reports(|r| r.contact_open == Some(false)).await;
    toy.line.present(5, 0, uid(CARD));
    toy.hears(|i| matches!(i, Input::Request(r) if r.presented == Presented::Card(uid(CARD)))).await;
    toy.relay(5, 0, true).await;
    toy.line.input(5, InputKind::ContactOpen, 0, true);
    toy.reports(|r| r.contact_open == Some(true)).await;
    toy.relay(5, 0, false).await;
    toy.line.input(5, InputKind::ExitButton, 0, true);
    toy.reports(|r| r.exit_button).await;
    assert!(
        !toy.heard
            .borrow()
            .iter()
            .any(|i| matches!(i, Input::Report { report, .. } if report.exit_button && report.online.is_some()))
    );
    // The same card again is a new count, so a new request; and the controller was told that the first was taken.
    toy.line.present(5, 0, uid(CARD));
    toy.relay(5, 0, true).await;
    assert_eq!(toy.requests(), 2);
    let acknowledged = |r: &Request| matches!(r, Request::WriteRegister { address: 29, value: 1 });
    assert!(toy.line.heard().iter().any(|(_, _, r)| acknowledged(r)));
}

#[tokio::test]
async fn a_button_held_down_while_the_gateway_starts_opens_nothing() {
    let line = Line::new([(5, profile("generic-door-controller"))]);
    line.input(5, InputKind::ExitButton, 0, true);
    let toy = Toy::start(line, vec![whole(PortalKind::Door, "generic-door-controller", 0)], &[CARD]).await;
    toy.online().await;
    toy.reports(|r| r.contact_open == Some(false)).await;
    assert!(!toy.heard.borrow().iter().any(|i| matches!(i, Input::Report { report, .. } if report.exit_button)));
}

#[tokio::test]
async fn a_turnstile_tells_ways_passages_and_fire() {
    let toy = one(PortalKind::Gate, "generic-turnstile", 1).await;
    toy.reports(|r| r.fire == Some(false)).await;
    toy.line.present(5, 1, uid(CARD));
    toy.hears(|i| matches!(i, Input::Request(r) if r.direction == Some(Direction::Out))).await;
    toy.relay(5, 1, true).await;
    toy.line.input(5, InputKind::PassedOut, 0, true);
    toy.reports(|r| r.passed == Some(Direction::Out)).await;
    toy.line.input(5, InputKind::Fire, 0, true);
    toy.reports(|r| r.fire == Some(true)).await;
}

#[tokio::test]
async fn fire_holds_a_door_open_until_the_mode_ends() {
    let toy = one(PortalKind::Door, "generic-door-controller", 0).await;
    let mode = |posture| PortalOrder::Mode { portal: "portal".parse().unwrap(), posture };
    toy.order("portal", mode(Posture::Fire));
    toy.relay(5, 0, true).await;
    // A card in between does not end it.
    toy.line.present(5, 0, uid(CARD));
    toy.hears(|i| matches!(i, Input::Request(_))).await;
    assert!(!toy.line.wait_relay(5, 0, false, Duration::from_millis(1500)).await);
    toy.order("portal", mode(Posture::Secure));
    toy.relay(5, 0, false).await;
}

#[tokio::test]
async fn a_box_tells_its_meter_and_a_card_exchanged_without_a_gap_is_judged_anew() {
    let line = Line::new([(5, profile("generic-power-box"))]);
    line.set_words(5, "power", &[0, 412]);
    line.set_words(5, "energy", &[0, 10340]);
    let mut spec = whole(PortalKind::PowerBox, "generic-power-box", 0);
    spec.meter = Some(part(5, "generic-power-box", 0));
    let toy = Toy::start(line, vec![spec], &[CARD]).await;
    toy.online().await;
    toy.reports(|r| {
        r.power_w.is_some_and(|w| (w - 41.2).abs() < 0.01) && r.energy_kwh.is_some_and(|e| (e - 103.4).abs() < 0.01)
    })
    .await;
    toy.line.present(5, 0, uid(CARD));
    toy.relay(5, 0, true).await;
    toy.line.present(5, 0, uid("04A1B2C3D4E5F6"));
    toy.relay(5, 0, false).await;
    toy.hears(|i| matches!(i, Input::Request(r) if r.presented == Presented::Card(uid("04A1B2C3D4E5F6")))).await;
    assert!(!toy.line.wait_relay(5, 0, true, Duration::from_millis(500)).await);
}

#[tokio::test]
async fn a_box_that_was_cut_is_off_also_when_the_program_stops_at_once() {
    let (line, specs) = boxes(1);
    let toy = Toy::start(line, specs, &[]).await;
    toy.online().await;
    toy.energise("power-1");
    toy.relay(21, 0, true).await;
    toy.cut("power-1");
    toy.running.stop().await;
    assert!(toy.line.wait_relay(21, 0, false, Duration::ZERO).await, "left on");
}

#[tokio::test]
async fn rooms_of_one_riser_are_switched_on_one_after_another() {
    let (line, specs) = boxes(4);
    let toy = Toy::start(line, specs, &[]).await;
    toy.online().await;
    for n in 1..=4 {
        toy.energise(&format!("power-{n}"));
    }
    for channel in 0..4 {
        toy.relay(21, channel, true).await;
    }
    let on = |r: &Request| matches!(r, Request::WriteCoil { value: 0xFF00, .. });
    let times: Vec<Instant> = toy.line.heard().into_iter().filter(|(_, _, r)| on(r)).map(|(at, ..)| at).collect();
    assert_eq!(times.len(), 4);
    let least = Duration::from_millis(STAGGER_MS * 2 / 3);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= least), "{times:?}");
}
