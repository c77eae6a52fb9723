//! Lines that carry more readers than they can read in time: a card still opens its door, and who may have to wait is reported.

use super::logs::Log;
use super::*;

/// `door-UNIT`: reader and lock are one unit.
fn whole_doors(units: u8) -> Vec<PortalConfig> {
    let door = |unit: u8| {
        let whole = part(unit, WHOLE, 0);
        portal(&format!("door-{unit}"), PortalKind::Door, whole.clone(), whole)
    };
    (1..=units).map(door).collect()
}

fn request_at(portal: &str, stale: bool) -> impl Fn(&Input) -> bool {
    move |input| matches!(input, Input::Request(request) if request.portal == portal && request.stale == stale)
}

#[tokio::test(start_paused = true)]
async fn on_a_line_whose_round_takes_longer_than_a_second_every_card_opens() {
    let log = Log::listen();
    let line = devices(&whole_doors(30));
    let rig = Rig::on(&line, Some(9600), whole_doors(30), &[CARD]);
    rig.online().await;
    sleep(ms(20_000)).await;
    for unit in [1, 7, 12, 18, 24, 30] {
        line.present(unit, 0, uid(CARD));
        rig.relay(unit, 0, true).await;
        sleep(ms(700)).await;
    }
    assert_eq!(rig.count(|input| matches!(input, Input::Request(request) if request.stale)), 0);
    let slow = log.lines(&["are read only every"]);
    assert_eq!(slow.iter().filter(|line| line.contains("unit=7 ")).count(), 1, "{slow:?}");
    assert!(slow.iter().all(|line| line.contains("portals=\"door-")), "{slow:?}");
}

#[tokio::test(start_paused = true)]
async fn on_a_line_whose_turn_is_longer_than_a_latch_may_wait_elsewhere_cards_still_open() {
    let line = devices(&whole_doors(80));
    let rig = Rig::on(&line, Some(9600), whole_doors(80), &[CARD]);
    rig.online().await;
    sleep(ms(12_000)).await;
    for unit in [1, 40, 80] {
        line.present(unit, 0, uid(CARD));
        rig.relay(unit, 0, true).await;
        sleep(ms(700)).await;
    }
    assert_eq!(rig.count(|input| matches!(input, Input::Request(request) if request.stale)), 0);
}

#[tokio::test(start_paused = true)]
async fn on_a_loaded_line_that_loses_answers_of_all_units_cards_still_open() {
    let line = devices(&whole_doors(20));
    // In all 4 of 100 answers are lost, late, garbled or foreign.
    let cable = Cable::bad(&line, Some(19_200), 1, 7, |_| {});
    let rig = Rig::at(bus_on(&cable), &line, whole_doors(20), &[CARD]);
    rig.online().await;
    let (mut stale, rounds) = (0, 8);
    for round in 1..=rounds {
        for unit in 1..=20 {
            let door = format!("door-{unit}");
            let of_door = |input: &Input| matches!(input, Input::Request(request) if request.portal == door);
            line.present(unit, 0, uid(CARD));
            rig.receives(round, of_door).await;
            sleep(ms(400)).await;
        }
        stale = rig.count(|input| matches!(input, Input::Request(request) if request.stale));
    }
    // Two answers in a row are lost now and then, and who presents a card again is let in.
    assert!(stale <= rounds * 20 / 6, "{stale} of {} cards were read too late", rounds * 20);
}

#[tokio::test(start_paused = true)]
async fn half_of_the_units_that_lose_their_power_leave_the_others_read() {
    let line = devices(&whole_doors(20));
    let rig = Rig::on(&line, Some(19_200), whole_doors(20), &[CARD]);
    rig.online().await;
    sleep(ms(5_000)).await;
    (11..=20).for_each(|unit| line.fault(unit, Fault::Silent));
    // Two time-outs of each of the ten come one after another: which units are dead is not known before.
    sleep(ms(10_000)).await;
    for round in 0..3 {
        for unit in 1..=10 {
            line.present(unit, 0, uid(CARD));
            rig.receives(round + 1, request_at(&format!("door-{unit}"), false)).await;
            sleep(ms(300)).await;
        }
    }
    assert_eq!(rig.count(|input| matches!(input, Input::Request(request) if request.stale)), 0);
    (11..=20)
        .for_each(|unit| assert_eq!(rig.count(report_of(&format!("door-{unit}"), |r| r.online == Some(false))), 1));
}

#[tokio::test(start_paused = true)]
async fn a_card_presented_while_its_reader_was_silent_is_requested_as_stale() {
    let rig = Rig::on(&devices(&whole_doors(1)), Some(9600), whole_doors(1), &[CARD]);
    rig.online().await;
    sleep(ms(1_000)).await;
    rig.line.fault(1, Fault::Silent);
    rig.receives(1, report_of("door-1", |r| r.online == Some(false))).await;
    rig.line.present(1, 0, uid(CARD));
    rig.line.fault(1, Fault::None);
    rig.receives(1, request_at("door-1", true)).await;
    sleep(ms(5_000)).await;
    assert_eq!(rig.requests(), 1);
}
