//! Relays that move by themselves: a box reports it and leaves it to the gateway, a door leaves it.

use super::cable::{Cable, Weather};
use super::*;
use crate::access::portal::Posture;

const CALM: Weather = Weather { each_percent: 0, seed: 0 };

fn count(fake: &FakeGateway, what: impl Fn(&PortalReport) -> bool) -> usize {
    fake.received.borrow().iter().filter(|i| matches!(i, Input::Report { report, .. } if what(report))).count()
}

/// Waits until the `n`th report of this kind is received.
async fn received(fake: &FakeGateway, n: usize, what: impl Fn(&PortalReport) -> bool) {
    let mut received = fake.received.clone();
    let enough = |all: &Vec<Input>| {
        all.iter().filter(|i| matches!(i, Input::Report { report, .. } if what(report))).count() >= n
    };
    assert!(timeout(LIMIT, received.wait_for(enough)).await.is_ok(), "received was {:#?}", fake.received.borrow());
}

#[tokio::test]
async fn a_relay_that_goes_off_by_itself_is_reported_and_left_to_the_gateway() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.online().await;
    fake.line.present(1, 0, uid(CARD));
    fake.reports(|r| r.relay == Some(true)).await;
    let before = count(&fake, |r| r.relay == Some(false));
    fake.line.force(21, 0, false);
    received(&fake, before + 1, |r| r.relay == Some(false)).await;
    assert!(!fake.line.wait_relay(21, 0, true, Duration::from_millis(500)).await, "nobody ordered that");
    fake.energise("power-1");
    fake.relay(21, 0, true).await;
    received(&fake, 2, |r| r.relay == Some(true)).await;
    fake.cut("power-1");
    fake.relay(21, 0, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_box_that_is_reported_on_again_does_not_lose_its_turn() {
    let (line, specs) = boxes(8);
    let cable = Cable::new(&line, Some(57_600), &CALM, |_| {});
    let spec = BusSpec::new("riser", LineSpec::Memory(cable), 200);
    let fake = FakeGateway::on(spec, line, specs, &[]);
    fake.online().await;
    let begun = Instant::now();
    for n in 1..=8 {
        fake.energise(&format!("power-{n}"));
    }
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fake.energise("power-8");
    }
    fake.relay(21, 7, true).await;
    let last_turn = Duration::from_millis(7 * STAGGER_MS);
    assert!(begun.elapsed() < last_turn + Duration::from_millis(STAGGER_MS), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_box_whose_relay_board_was_away_reports_again_who_is_in_it() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.online().await;
    fake.line.present(1, 0, uid(CARD));
    fake.reports(|r| r.relay == Some(true)).await;
    fake.line.fault(21, Fault::Silent);
    fake.reports(|r| r.online == Some(false)).await;
    fake.line.reset(21);
    fake.line.fault(21, Fault::None);
    received(&fake, 2, |r| r.online == Some(true)).await;
    received(&fake, 1, |r| r.relay == Some(false)).await;
    received(&fake, 1, |r| r.card_present == Some(true) && r.uid == Some(Presented::Card(uid(CARD)))).await;
    assert_eq!(fake.requests(), 1, "it was not presented again");
}

#[tokio::test]
async fn a_box_that_could_not_be_switched_on_reports_that_it_is_off() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[]).await;
    fake.online().await;
    fake.reports(|r| r.relay == Some(false)).await;
    let before = count(&fake, |r| r.relay == Some(false));
    fake.line.fault(21, Fault::StuckRelay);
    fake.energise("power-1");
    fake.receives(|i| matches!(i, Input::Alarm { kind: AlarmKind::PortalOffline, .. })).await;
    fake.line.fault(21, Fault::None);
    received(&fake, before + 1, |r| r.relay == Some(false)).await;
}

#[tokio::test]
async fn a_lock_that_is_switched_on_without_a_release_is_reported_and_left_to_the_gateway() {
    let line = Line::new([(9, profile("inveo-rfid-ind-m1")), (21, profile("waveshare-relay-8ch"))]);
    let fake = FakeGateway::start(line, vec![door()], &[]).await;
    fake.online().await;
    fake.order("door", PortalOrder::Mode { portal: "door".parse().unwrap(), posture: Posture::Secure });
    let off = Request::WriteCoil { address: 7, value: 0 };
    let offs = |fake: &FakeGateway| fake.line.received().iter().filter(|(_, _, r)| *r == off).count();
    // It is written off and read back.
    while fake.line.received().iter().skip_while(|(_, _, r)| *r != off).filter(|(_, unit, _)| *unit == 21).count() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = offs(&fake);
    fake.line.force(21, 7, true);
    fake.reports(|r| r.relay == Some(true)).await;
    assert_eq!(offs(&fake), before, "somebody may be leaving by a button of the device");
    let closed = count(&fake, |r| r.relay == Some(false));
    fake.order("door", PortalOrder::Lock { portal: "door".parse().unwrap() });
    fake.relay(21, 7, false).await;
    received(&fake, closed + 1, |r| r.relay == Some(false)).await;
}
