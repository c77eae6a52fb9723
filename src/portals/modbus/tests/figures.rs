//! The share of a line in the figures of the standards: a fire at many doors, and a contact that closes for a moment.

use super::*;
use crate::access::portal::Posture;
use crate::profile::InputKind;

/// Doors of the building, eight on each relay board.
const DOORS: u8 = 64;
/// The relay board of one more door, which is dead.
const DEAD: u8 = 120;

#[tokio::test(start_paused = true)]
async fn a_fire_releases_sixty_four_doors_within_two_seconds_beside_a_dead_unit() {
    let relay = |n: u8| (101 + (n - 1) / 8, u16::from((n - 1) % 8));
    let door = |n: u8| {
        portal(&format!("door-{n}"), PortalKind::Door, part(n, READER, 0), part(relay(n).0, RELAYS, relay(n).1))
    };
    let mut specs: Vec<_> = (1..=DOORS).map(door).collect();
    specs.insert(0, portal("dead", PortalKind::Door, part(DOORS + 1, READER, 0), part(DEAD, RELAYS, 0)));
    let line = devices(&specs);
    line.fault(DEAD, Fault::Silent);
    let rig = Rig::on(&line, Some(19_200), specs, &[]);
    for n in 1..=DOORS {
        rig.receives(1, report_of(&format!("door-{n}"), |r| r.online == Some(true))).await;
    }
    rig.receives(1, report_of("dead", |r| r.online == Some(false))).await;
    let begun = Instant::now();
    for id in std::iter::once("dead".to_owned()).chain((1..=DOORS).map(|n| format!("door-{n}"))) {
        rig.order(&id, PortalOrder::Mode { portal: id.parse().unwrap(), posture: Posture::Fire });
    }
    for n in 1..=DOORS {
        rig.relay(relay(n).0, relay(n).1, true).await;
    }
    let took = begun.elapsed();
    println!("the last of {DOORS} doors was released after {took:?}");
    assert!(took <= Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_input_that_is_active_for_400_ms_is_reported_on_a_busy_line() {
    const TIMES: usize = 100;
    let mut specs = boxes(8);
    let watched = with(door(), |parts| parts.inputs = Some(part(30, "generic-contacts", 0)));
    specs.push(watched);
    let line = devices(&specs);
    line.pace(ms(5));
    line.input(30, InputKind::ContactOpen, 0, false);
    line.fault(8, Fault::Silent);
    let rig = Rig::on(&line, Some(19_200), specs, &[]);
    rig.receives(1, report_of("door", |r| r.online == Some(true))).await;
    rig.receives(1, report_of("door", |r| r.contact_open == Some(false))).await;
    let opened = || rig.count(report_of("door", |r| r.contact_open == Some(true)));
    let before = opened();
    for n in 0..TIMES {
        // At another moment of the polls each time.
        sleep(ms(1_000 + 7 * u64::try_from(n).unwrap())).await;
        line.input(30, InputKind::ContactOpen, 0, true);
        sleep(ms(400)).await;
        line.input(30, InputKind::ContactOpen, 0, false);
    }
    sleep(ms(5_000)).await;
    assert_eq!(opened() - before, TIMES);
}
