//! Relays that move by themselves: a box says so and leaves it to the gateway, a door leaves it.

use super::cable::{Cable, Weather};
use super::*;
use crate::access::portal::Posture;

const CALM: Weather = Weather { each_percent: 0, seed: 0 };

fn count(toy: &Toy, what: impl Fn(&PortalReport) -> bool) -> usize {
    toy.heard.borrow().iter().filter(|i| matches!(i, Input::Report { report, .. } if what(report))).count()
}

/// Waits until the `n`th report of this kind is heard.
async fn heard(toy: &Toy, n: usize, what: impl Fn(&PortalReport) -> bool) {
    let mut heard = toy.heard.clone();
    let enough = |all: &Vec<Input>| {
        all.iter().filter(|i| matches!(i, Input::Report { report, .. } if what(report))).count() >= n
    };
    assert!(timeout(LIMIT, heard.wait_for(enough)).await.is_ok(), "heard was {:#?}", toy.heard.borrow());
}

#[tokio::test]
async fn a_relay_that_goes_off_by_itself_is_reported_and_left_to_the_gateway() {
    let (line, specs) = boxes(1);
    let toy = Toy::start(line, specs, &[CARD]).await;
    toy.online().await;
    toy.line.present(1, 0, uid(CARD));
    toy.reports(|r| r.relay == Some(true)).await;
    let before = count(&toy, |r| r.relay == Some(false));
    toy.line.force(21, 0, false);
    heard(&toy, before + 1, |r| r.relay == Some(false)).await;
    assert!(!toy.line.wait_relay(21, 0, true, Duration::from_millis(500)).await, "nobody ordered that");
    toy.energise("power-1");
    toy.relay(21, 0, true).await;
    heard(&toy, 2, |r| r.relay == Some(true)).await;
    toy.cut("power-1");
    toy.relay(21, 0, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_box_that_is_told_on_again_does_not_lose_its_turn() {
    let (line, specs) = boxes(8);
    let cable = Cable::new(&line, Some(57_600), &CALM, |_| {});
    let spec = BusSpec::new("riser", LineSpec::Memory(cable), 200);
    let toy = Toy::on(spec, line, specs, &[]);
    toy.online().await;
    let begun = Instant::now();
    for n in 1..=8 {
        toy.energise(&format!("power-{n}"));
    }
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        toy.energise("power-8");
    }
    toy.relay(21, 7, true).await;
    let last_turn = Duration::from_millis(7 * STAGGER_MS);
    assert!(begun.elapsed() < last_turn + Duration::from_millis(STAGGER_MS), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_box_whose_relay_board_was_away_says_again_who_is_in_it() {
    let (line, specs) = boxes(1);
    let toy = Toy::start(line, specs, &[CARD]).await;
    toy.online().await;
    toy.line.present(1, 0, uid(CARD));
    toy.reports(|r| r.relay == Some(true)).await;
    toy.line.fault(21, Fault::Silent);
    toy.reports(|r| r.online == Some(false)).await;
    toy.line.reset(21);
    toy.line.fault(21, Fault::None);
    heard(&toy, 2, |r| r.online == Some(true)).await;
    heard(&toy, 1, |r| r.relay == Some(false)).await;
    heard(&toy, 1, |r| r.card_present == Some(true) && r.uid == Some(Presented::Card(uid(CARD)))).await;
    assert_eq!(toy.requests(), 1, "it was not presented again");
}

#[tokio::test]
async fn a_box_that_could_not_be_switched_on_says_that_it_is_off() {
    let (line, specs) = boxes(1);
    let toy = Toy::start(line, specs, &[]).await;
    toy.online().await;
    toy.reports(|r| r.relay == Some(false)).await;
    let before = count(&toy, |r| r.relay == Some(false));
    toy.line.fault(21, Fault::StuckRelay);
    toy.energise("power-1");
    toy.hears(|i| matches!(i, Input::Alarm { kind: AlarmKind::PortalOffline, .. })).await;
    toy.line.fault(21, Fault::None);
    heard(&toy, before + 1, |r| r.relay == Some(false)).await;
}

#[tokio::test]
async fn a_lock_that_is_switched_on_without_a_release_is_reported_and_left_to_the_gateway() {
    let line = Line::new([(9, profile("inveo-rfid-ind-m1")), (21, profile("waveshare-relay-8ch"))]);
    let toy = Toy::start(line, vec![door()], &[]).await;
    toy.online().await;
    toy.order("door", PortalOrder::Mode { portal: "door".parse().unwrap(), posture: Posture::Secure });
    let off = Request::WriteCoil { address: 7, value: 0 };
    let offs = |toy: &Toy| toy.line.heard().iter().filter(|(_, _, r)| *r == off).count();
    // It is written off and read back.
    while toy.line.heard().iter().skip_while(|(_, _, r)| *r != off).filter(|(_, unit, _)| *unit == 21).count() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = offs(&toy);
    toy.line.force(21, 7, true);
    toy.reports(|r| r.relay == Some(true)).await;
    assert_eq!(offs(&toy), before, "somebody may be leaving by a button of the device");
    let closed = count(&toy, |r| r.relay == Some(false));
    toy.order("door", PortalOrder::Lock { portal: "door".parse().unwrap() });
    toy.relay(21, 7, false).await;
    heard(&toy, closed + 1, |r| r.relay == Some(false)).await;
}
