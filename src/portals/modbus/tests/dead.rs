//! One dead unit among eight: what it costs the others, and what a line under load costs a cut.

use tokio::task::JoinSet;

use super::cable::Dice;
use super::*;

/// How many times the p99 with a dead unit may be that without.
const P99_RATIO_MAX: f64 = 1.25;
/// Cards shown at each of the seven doors.
const CARDS: u32 = 250;

/// Eight devices that take 2 ms to answer, the last of them dead.
fn one_dead(specs: &[PortalConfig]) -> Line {
    let line = devices(specs);
    line.pace(ms(2));
    line.fault(8, Fault::Silent);
    line
}

fn polls_of(line: &Line, unit: u8) -> usize {
    line.received().iter().filter(|(_, of, _)| *of == unit).count()
}

/// From a card shown at one of seven doors until its relay closes: p50 and p99 in milliseconds, with the eighth unit dead or not.
async fn presented_to_relay(dead: bool) -> (f64, f64) {
    // A door whose reader and relay are one unit.
    let whole_door = |unit: u8| {
        let whole = part(unit, WHOLE, 0);
        portal(&format!("door-{unit}"), PortalKind::Door, whole.clone(), whole)
    };
    let specs: Vec<_> = (1..=8).map(whole_door).collect();
    let line = one_dead(&specs);
    if !dead {
        line.fault(8, Fault::None);
    }
    let rig = Rig::on(&line, Some(57_600), specs, &[CARD]);
    for unit in 1..=8 {
        rig.receives(1, report_of(&format!("door-{unit}"), |r| r.online == Some(unit < 8 || !dead))).await;
    }
    let mut doors = JoinSet::new();
    for unit in 1..=7_u8 {
        let (line, mut dice) = (line.clone(), Dice(unit.into()));
        doors.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..CARDS {
                sleep(ms(500 + dice.below(1000))).await;
                let begun = Instant::now();
                line.present(unit, 0, uid(CARD));
                assert!(line.wait_relay(unit, 0, true, LIMIT).await, "door {unit} stays shut");
                times.push(begun.elapsed().as_secs_f64() * 1000.0);
                assert!(line.wait_relay(unit, 0, false, LIMIT).await, "door {unit} stays open");
            }
            times
        });
    }
    let mut times = doors.join_all().await.concat();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::test(start_paused = true)]
async fn a_dead_unit_hardly_delays_the_doors_of_the_other_seven() {
    let (alive, dead) = (presented_to_relay(false).await, presented_to_relay(true).await);
    println!("p50 and p99: {alive:?} ms with none dead, {dead:?} ms with one dead");
    assert!(dead.1 <= P99_RATIO_MAX * alive.1, "p99 {} ms with one dead, {} ms with none", dead.1, alive.1);
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_the_next_request_on_a_line_that_polls_eight_units_and_a_meter() {
    let with_meter = |n| with(power_box(n), |parts| parts.meter = Some(part(31, "eastron-sdm120", 0)));
    let specs: Vec<_> = (1..=8).map(with_meter).collect();
    let line = devices(&specs);
    line.pace(ms(5));
    let rig = Rig::on(&line, Some(19_200), specs, &[]);
    rig.online().await;
    // At whatever moment the cut comes: also while the meter is read.
    let mut behind_the_meter = 0;
    for moment in 0..200 {
        rig.energise("power-3");
        rig.relay(21, 2, true).await;
        sleep(ms(300 + 7 * moment)).await;
        let before = line.received().len();
        rig.cut("power-3");
        rig.relay(21, 2, false).await;
        let received = line.received();
        let at = received[before..].iter().position(|(_, _, request)| *request == coil(2, false)).unwrap();
        // What was on its way to the device when the cut came is the one before it, at most.
        assert!(at <= 1, "{at} requests went before the cut: {:?}", &received[before..]);
        behind_the_meter += usize::from(received[before + at - 1].1 == 31);
        if received.len() > 9_000 {
            break;
        }
    }
    assert!(behind_the_meter > 0, "no cut came while the meter was read");
}

#[tokio::test(start_paused = true)]
async fn a_dead_unit_is_asked_as_seldom_over_tcp_as_on_a_serial_line_and_takes_nobody_offline() {
    for baud in [Some(57_600), None] {
        let line = one_dead(&boxes(8));
        let rig = Rig::on(&line, baud, boxes(8), &[CARD]);
        rig.receives(1, report_of("power-8", |r| r.online == Some(false))).await;
        line.present(1, 0, uid(CARD));
        rig.relay(21, 0, true).await;
        sleep(Duration::from_secs(5)).await;
        let before = polls_of(&line, 8);
        sleep(Duration::from_secs(60)).await;
        let asked = polls_of(&line, 8) - before;
        assert!((1..=10).contains(&asked), "{asked} times in a minute at {baud:?} Bd");
        let offline = |portal: &str| rig.count(report_of(portal, |r| r.online == Some(false)));
        (1..=7).for_each(|n| assert_eq!(offline(&format!("power-{n}")), 0, "a dead unit took another offline"));
        assert!(line.relay(21, 0), "a dead unit cost another its power");
    }
}

#[tokio::test(start_paused = true)]
async fn a_serial_port_is_kept_quiet_after_it_was_opened_and_longer_after_failures() {
    const SLOWEST: Duration = Duration::from_millis(300);
    let line = devices(&boxes(9));
    (1..=8).for_each(|unit| line.fault(unit, Fault::Silent));
    let began = Instant::now();
    let units = (1..=9).map(|unit| (unit, if unit == 9 { SLOWEST } else { Duration::ZERO })).collect();
    let (bus, task) = bus::open(bus_on(&Cable::new(&line, Some(57_600))), &units, Arc::new(()));
    tokio::spawn(task);
    let ask = |unit| bus.call(unit, Board::READ, Priority::Cut, None);
    for unit in 1..=8 {
        drop(ask(unit).await);
    }
    let first = line.received()[0].0 - began;
    assert!(first >= ms(50), "asked {first:?} after it was opened");
    // The eighth failure in a row has closed the port.
    let failed = Instant::now();
    drop(ask(9).await);
    let received = line.received().last().unwrap().0;
    assert!(received - failed >= SLOWEST, "asked {:?} after the last failure", received - failed);
}

#[tokio::test(start_paused = true)]
async fn many_relays_switched_off_at_once_are_each_written_once_and_alarm_nobody() {
    const BOXES: u8 = 64;
    let relay = |n: u8| (101 + (n - 1) / 8, u16::from((n - 1) % 8));
    let with_relay = |n: u8| {
        let relay = part(relay(n).0, RELAYS, relay(n).1);
        portal(&format!("power-{n}"), PortalKind::PowerBox, part(n, READER, 0), relay)
    };
    let specs: Vec<_> = (1..=BOXES).map(with_relay).collect();
    let line = devices(&specs);
    let rig = Rig::on(&line, Some(9600), specs, &[]);
    sleep(Duration::from_secs(60)).await;
    (1..=BOXES).for_each(|n| rig.energise(&format!("power-{n}")));
    sleep(Duration::from_secs(60)).await;
    let on = || (1..=BOXES).filter(|n| line.relay(relay(*n).0, relay(*n).1)).count();
    assert_eq!(on(), usize::from(BOXES));
    let mark = line.received().len();
    (1..=BOXES).for_each(|n| rig.cut(&format!("power-{n}")));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(on(), 0);
    assert_eq!(rig.writes(mark).len(), usize::from(BOXES));
    assert_eq!(rig.count(alarm(AlarmKind::UnconfirmedRevocation, "")), 0);
}

#[tokio::test(start_paused = true)]
async fn on_a_line_with_more_polls_than_it_carries_a_repaired_unit_is_back_within_thirty_seconds() {
    let line = one_dead(&boxes(8));
    let rig = Rig::on(&line, Some(2400), boxes(8), &[]);
    rig.receives(1, report_of("power-8", |r| r.online == Some(false))).await;
    // Long enough for its waits to have grown to the longest.
    sleep(Duration::from_secs(200)).await;
    let (of_1, of_7) = (polls_of(&line, 1), polls_of(&line, 7));
    line.fault(8, Fault::None);
    let repaired = Instant::now();
    rig.receives(1, report_of("power-8", |r| r.online == Some(true))).await;
    assert!(repaired.elapsed() <= Duration::from_secs(30), "back after {:?}", repaired.elapsed());
    assert!(polls_of(&line, 1) > of_1 && polls_of(&line, 7) > of_7);
}

#[tokio::test(start_paused = true)]
async fn what_must_go_off_at_a_dead_unit_is_tried_at_once_also_when_the_connection_was_just_dropped() {
    let board = Board::new(1, None, |_| {});
    board.line.fault(1, Fault::Silent);
    for _ in 0..3 {
        drop(board.read(1).await);
        sleep(ms(1000)).await;
    }
    // A probe that takes all that offline units may cost for now, and drops the connection.
    sleep(Duration::from_secs(26)).await;
    let probed = board.line.received().len();
    drop(board.read(1).await);
    assert_eq!(board.line.received().len(), probed + 1);
    drop(board.bus.call(1, coil(0, false), Priority::Cut, None).await);
    assert_eq!(board.line.received().len(), probed + 2, "it was not sent");
}
