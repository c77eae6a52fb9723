//! One dead unit among eight: what it costs the others, and what a line under load costs a cut.

use super::cable::{CALM, Cable, Dice};
use super::*;

/// How many times the p99 with a dead unit may be that without.
const P99_RATIO_MAX: f64 = 1.25;
/// Cards shown at each of the seven doors.
const CARDS: u32 = 250;

/// A door whose reader and relay are one unit.
fn whole_door(unit: u8) -> ModbusPortalSpec {
    let whole = part(unit, "inveo-rfid-ind-m1", 0);
    let id = format!("door-{unit}").parse().unwrap();
    ModbusPortalSpec {
        id,
        kind: PortalKind::Door,
        direction: None,
        reader: Some(whole.clone()),
        slots: 1,
        output: Some(whole),
        meter: None,
        inputs: None,
    }
}

fn in_memory(line: &Line, baud: impl Into<Option<u32>>) -> BusSpec {
    let cable = Cable::new(line, baud.into(), &CALM, |_| {});
    BusSpec::new("riser", LineSpec::Memory(cable), 200)
}

/// From a card shown at one of seven doors until its relay closes: p50 and p99 in milliseconds, with the eighth unit dead or not.
async fn presented_to_relay(dead: bool) -> (f64, f64) {
    let line = Line::new((1..=8).map(|unit| (unit, profile("inveo-rfid-ind-m1"))));
    line.pace(Duration::from_millis(2));
    if dead {
        line.fault(8, Fault::Silent);
    }
    let fake = FakeGateway::on(in_memory(&line, 57_600), line, (1..=8).map(whole_door).collect(), &[CARD]);
    for unit in 1..=8 {
        let (name, online) = (format!("door-{unit}"), unit < 8 || !dead);
        fake.receives(
            |i| matches!(i, Input::Report { portal, report } if *portal == name && report.online == Some(online)),
        )
        .await;
    }
    let mut doors = JoinSet::new();
    for unit in 1..=7_u8 {
        let (line, mut dice) = (fake.line.clone(), Dice(unit.into()));
        doors.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..CARDS {
                tokio::time::sleep(Duration::from_millis(500 + dice.below(1000))).await;
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
    let readers = (1..=8).map(|unit| (unit, profile("technotrade-vrd-485")));
    let others = [(21, profile("waveshare-relay-8ch")), (31, profile("eastron-sdm120"))];
    let line = Line::new(readers.chain(others));
    line.pace(Duration::from_millis(5));
    let with_meter = |n| ModbusPortalSpec { meter: Some(part(31, "eastron-sdm120", 0)), ..power_box(n) };
    let fake = FakeGateway::on(in_memory(&line, 19_200), line, (1..=8).map(with_meter).collect(), &[]);
    fake.online().await;
    let off = Request::WriteCoil { address: 2, value: 0 };
    // At whatever moment the cut comes: also while the meter is read.
    let mut behind_the_meter = 0;
    for moment in 0..200 {
        fake.energise("power-3");
        fake.relay(21, 2, true).await;
        tokio::time::sleep(Duration::from_millis(300 + 7 * moment)).await;
        let before = fake.line.received().len();
        fake.cut("power-3");
        fake.relay(21, 2, false).await;
        let received = fake.line.received();
        let after: Vec<(u8, &Request)> = received[before..].iter().map(|(_, unit, request)| (*unit, request)).collect();
        let at = after.iter().position(|(_, request)| **request == off).unwrap();
        // What was on its way to the device when the cut came is the one before it, at most.
        assert!(at <= 1, "{at} requests went before the cut: {after:?}");
        let in_flight = if at == 0 { &received[before - 1] } else { &received[before] };
        behind_the_meter += usize::from(in_flight.1 == 31);
        if received.len() > 9_000 {
            break;
        }
    }
    assert!(behind_the_meter > 0, "no cut came while the meter was read");
}

/// How often a dead box among eight is asked in a minute, and what the others' portals lose by it.
async fn asked_of_the_dead_in_a_minute(baud: Option<u32>) -> usize {
    let (line, specs) = boxes(8);
    line.fault(8, Fault::Silent);
    line.pace(Duration::from_millis(2));
    let fake = FakeGateway::on(in_memory(&line, baud), line.clone(), specs, &[CARD]);
    let offline = |i: &Input, dead: bool| matches!(i, Input::Report { portal, report } if (portal == "power-8") == dead && report.online == Some(false));
    fake.receives(|i| offline(i, true)).await;
    fake.line.present(1, 0, uid(CARD));
    fake.relay(21, 0, true).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = || line.received().iter().filter(|(_, unit, _)| *unit == 8).count();
    let before = asked();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!fake.received.borrow().iter().any(|i| offline(i, false)), "a dead unit took others offline");
    assert!(line.relay(21, 0), "a dead unit cost another its power");
    asked() - before
}

#[tokio::test(start_paused = true)]
async fn a_dead_unit_is_asked_as_seldom_over_tcp_as_on_a_serial_line() {
    for baud in [Some(57_600), None] {
        let asked = asked_of_the_dead_in_a_minute(baud).await;
        assert!((1..=10).contains(&asked), "{asked} times in a minute at {baud:?} Bd");
    }
}

#[tokio::test(start_paused = true)]
async fn a_serial_port_is_kept_quiet_after_it_was_opened_and_longer_after_failures() {
    const SLOWEST: Duration = Duration::from_millis(300);
    let (line, _) = boxes(9);
    (1..=8).for_each(|unit| line.fault(unit, Fault::Silent));
    let began = Instant::now();
    let units = (1..=9).map(|unit| (unit, if unit == 9 { SLOWEST } else { Duration::ZERO })).collect();
    let (bus, task) = task::open(in_memory(&line, 57_600), &units, Arc::new(()));
    tokio::spawn(task);
    let ask = |unit| {
        let read = Request::Read { space: crate::wire::modbus::Space::Holding, address: 0, count: 1 };
        bus.call(unit, read, Priority::Cut, None)
    };
    for unit in 1..=8 {
        drop(ask(unit).await);
    }
    let first = line.received()[0].0 - began;
    assert!(first >= Duration::from_millis(50), "asked {first:?} after it was opened");
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
    let readers = (1..=BOXES).map(|unit| (unit, profile("technotrade-vrd-485")));
    let relays = (0..BOXES / 8).map(|n| (101 + n, profile("waveshare-relay-8ch")));
    let line = Line::new(readers.chain(relays));
    let with_relay = |n: u8| {
        let output = Some(part(relay(n).0, "waveshare-relay-8ch", relay(n).1));
        ModbusPortalSpec { output, ..power_box(n) }
    };
    let fake = FakeGateway::on(in_memory(&line, 9600), line.clone(), (1..=BOXES).map(with_relay).collect(), &[]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    (1..=BOXES).for_each(|n| fake.energise(&format!("power-{n}")));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let on = || (1..=BOXES).filter(|n| line.relay(relay(*n).0, relay(*n).1)).count();
    assert_eq!(on(), usize::from(BOXES));
    let mark = line.received().len();
    (1..=BOXES).for_each(|n| fake.cut(&format!("power-{n}")));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(on(), 0);
    let writes = line.received()[mark..].iter().filter(|(_, _, request)| request.is_write()).count();
    assert_eq!(writes, usize::from(BOXES));
    let alarms = |i: &&Input| matches!(i, Input::Alarm { kind: AlarmKind::UnconfirmedRevocation, .. });
    assert_eq!(fake.received.borrow().iter().filter(alarms).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn on_a_line_with_more_polls_than_it_carries_a_repaired_unit_is_back_within_thirty_seconds() {
    let (line, specs) = boxes(8);
    line.fault(8, Fault::Silent);
    line.pace(Duration::from_millis(2));
    let fake = FakeGateway::on(in_memory(&line, 2400), line.clone(), specs, &[]);
    let of_8 = |i: &Input, online| matches!(i, Input::Report { portal, report } if portal == "power-8" && report.online == Some(online));
    let mut received = fake.received.clone();
    let offline = received.wait_for(|all| all.iter().any(|i| of_8(i, false)));
    assert!(timeout(Duration::from_secs(60), offline).await.is_ok());
    // Long enough for its waits to have grown to the longest.
    tokio::time::sleep(Duration::from_secs(200)).await;
    let polls = |of: u8| line.received().iter().filter(|(_, unit, _)| *unit == of).count();
    let (of_1, of_7) = (polls(1), polls(7));
    line.fault(8, Fault::None);
    let repaired = Instant::now();
    let online = received.wait_for(|all| all.iter().any(|i| of_8(i, true)));
    assert!(timeout(Duration::from_secs(60), online).await.is_ok(), "it is not back");
    assert!(repaired.elapsed() <= Duration::from_secs(30), "back after {:?}", repaired.elapsed());
    assert!(polls(1) > of_1 && polls(7) > of_7);
}

#[tokio::test(start_paused = true)]
async fn what_must_go_off_at_a_dead_unit_is_tried_at_once_also_when_the_connection_was_just_dropped() {
    let (line, _) = boxes(8);
    line.fault(8, Fault::Silent);
    let (bus, task) = task::open(in_memory(&line, None), &HashMap::from([(8, Duration::ZERO)]), Arc::new(()));
    tokio::spawn(task);
    let read = Request::Read { space: crate::wire::modbus::Space::Holding, address: 0, count: 1 };
    let ask = || bus.call(8, read.clone(), Priority::Card, None);
    for _ in 0..3 {
        drop(ask().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // A probe that takes all that offline units may cost for now, and drops the connection.
    tokio::time::sleep(Duration::from_secs(26)).await;
    let probed = line.received().len();
    drop(ask().await);
    assert_eq!(line.received().len(), probed + 1);
    drop(bus.call(8, Request::WriteCoil { address: 0, value: 0 }, Priority::Cut, None).await);
    assert_eq!(line.received().len(), probed + 2, "it was not sent");
}
