//! Figures of decisions, doors, fire and schedules, measured through the engine.

use dormgate::access::change::Op;
use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::id::{CardUid, Timestamp};
use dormgate::access::input::{CommandKind, Input, Operator, PortalReport, Presented, Request};
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Direction, Portal, PortalKind, Posture};
use dormgate::access::schedule::{Schedule, Timetable, timezone};

use super::{AtLeast, AtMost, Row, row};
use crate::world::{BEGIN_MS, Seen, World, enrolment, name, op, portals, uid};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row(
            1,
            "GB 50396-2007 5.1.2",
            "card read to the order to the actuator, 5 000 cards, 50 reads/s",
            (AtMost(500), "ms"),
            reads(),
        ),
        row(6, "IEC 60839-11-1 6.4", "resolution of a schedule", (AtMost(60_000), "ms"), resolution()),
        row(
            5,
            "IEC 60839-11-1 6.4",
            "wrong instants of a nightly schedule over a leap day and a year's end",
            (AtMost(0), "instants"),
            wrong_nights(),
        ),
        row(
            6,
            "IEC 60839-11-1 6.4",
            "a holiday that is not closed by its date",
            (AtMost(0), "holidays"),
            open_holidays(),
        ),
        row(7, "GB 50396-2007 5.1.5", "wrong tries until the alarm", (AtMost(5), "tries"), tries()),
        row(
            16,
            "ULC 60839-11-1 (G1)",
            "grants to cards that are not in force",
            (AtMost(0), "grants"),
            grants_to_the_dead(),
        ),
        row(
            17,
            "ULC 60839-11-1 (M)",
            "grants to UIDs that differ from a card in one byte",
            (AtMost(0), "grants"),
            grants_to_neighbours(),
        ),
        row(20, "turnstiles in use", "release of a gate that nobody passes", (AtMost(5_000), "ms"), release_ms()),
    ];
    rows.extend(fire());
    rows.extend(overrides());
    rows.extend(turnstile());
    rows
}

fn answer(seen: &Seen) -> Option<usize> {
    seen.0.iter().position(|e| matches!(e, Effect::Order(PortalOrder::Answer { .. })))
}

/// The longest simulated time from a read to its answer, where everything else of one minute goes on too.
fn reads() -> u64 {
    let mut w = World::new();
    let card = |n: u32| CardUid::from_bytes(&(0x5000_0000 + n).to_be_bytes()).unwrap();
    for block in 0..50 {
        let enrol = |n: u32| Op::Enrol { uid: card(n), enrolment: enrolment("p1", "gate:* door:412 power_box:412") };
        w.publish((block * 100..block * 100 + 100).map(enrol).collect());
    }
    let mut longest = 0;
    for n in 0..3_000_u32 {
        let begun = w.elapsed_ms;
        let portal = ["gate-in", "door-412", "gate-out", "power-412"][n as usize % 4];
        let request = w.request(portal, Presented::Card(card(n.wrapping_mul(2_654_435_761) % 5_000)));
        let seen = w.input(Input::Request(request));
        let orders = seen.0.iter().take_while(|e| matches!(e, Effect::Order(_))).count();
        assert!(answer(&seen).is_some_and(|place| place < orders), "nothing but orders comes before the answer");
        longest = longest.max(w.elapsed_ms - begun);
        w.pass_ms(20);
    }
    longest
}

/// The shortest window that a schedule can have, in milliseconds, as it is open.
fn resolution() -> u64 {
    let mut w = World::new();
    w.publish(vec![op::schedule("minute", "08:01-08:02")]);
    w.issue("A", "p1").enrol("A", "p1", "gate:*@minute");
    let mut open_ms = 0;
    for _ in 0..1_800 {
        w.pass_ms(100);
        let verdict = w.engine.query(uid("A"), Some(&name("gate-in")), w.now()).unwrap().remove(0);
        open_ms += if verdict.outcome.reason() == "granted" { 100 } else { 0 };
    }
    assert!(open_ms > 0);
    open_ms
}

fn shanghai(schedule: &Schedule) -> Timetable {
    Timetable::new(schedule, &timezone("Asia/Shanghai").unwrap().1)
}

/// Shanghai is 8 h ahead of UTC all year and has no summer time, so a nightly window is open by the minute of the day alone.
fn wrong_nights() -> usize {
    let table = shanghai(&op::daily("22:00-06:00"));
    let begin: Timestamp = name("2027-12-28T00:00:00Z");
    let wrong = |minute: &i64| {
        let at = begin.0 + minute * 60_000;
        let of_day = (at / 60_000 + 8 * 60).rem_euclid(1_440);
        let is_night = !(6 * 60..22 * 60).contains(&of_day);
        [at, at + 59_999].into_iter().any(|at| table.is_open(Timestamp(at)) != is_night)
    };
    // Through 2028-03-03: the end of a year and its 29 February.
    (0..66 * 1_440).filter(wrong).count()
}

fn open_holidays() -> usize {
    let mut schedule = op::daily("00:00-24:00");
    schedule.holidays = ["2026-10-01", "2027-01-01", "2028-02-29"]
        .map(|date| dormgate::access::schedule::Holiday { date: name(date), windows: Vec::new() })
        .to_vec();
    let table = shanghai(&schedule);
    let noon = |date: &str| name::<Timestamp>(&format!("{date}T12:00:00+08:00"));
    assert!(table.is_open(noon("2026-10-02")));
    ["2026-10-01", "2027-01-01", "2028-02-29"].iter().filter(|date| table.is_open(noon(date))).count()
}

fn tries() -> u64 {
    let mut w = World::new();
    let alarm = |w: &mut World| w.see("gate-in", "X").alarms().contains(&AlarmKind::WrongTries);
    (1..=100).find(|_| alarm(&mut w)).unwrap_or(u64::MAX)
}

fn grants_to_the_dead() -> usize {
    let rights = "gate:* door:412 power_box:412";
    let window = |from: Option<i64>, to: Option<i64>| {
        let mut e = enrolment("p1", rights);
        (e.not_before, e.not_after) = (from.map(|ms| Timestamp(BEGIN_MS + ms)), to.map(|ms| Timestamp(BEGIN_MS + ms)));
        Op::Enrol { uid: uid("A"), enrolment: e }
    };
    let makes: [fn(&mut World); 5] = [
        |w| drop(w.publish(vec![op::reissue("p1", "B", Some("A"))])),
        |w| drop(w.publish(vec![op::cancel("uid:A")])),
        |w| drop(w.publish(vec![op::report_lost("p1")])),
        |w| drop(w.publish(vec![op::freeze("uid:A")])),
        |w| drop(w.publish(vec![op::withdraw("uid:A")])),
    ];
    let mut worlds: Vec<_> = makes
        .iter()
        .map(|make| {
            let mut w = World::new();
            w.resident("A", "p1");
            make(&mut w);
            w
        })
        .collect();
    for enrol in [window(Some(1_000), None), window(None, Some(0))] {
        let mut w = World::new();
        w.issue("A", "p1").publish(vec![enrol]);
        worlds.push(w);
    }
    let granted = |w: &mut World| {
        ["gate-in", "door-412", "power-412"].iter().filter(|portal| w.present(portal, "A") == "granted").count()
    };
    worlds.iter_mut().map(granted).sum()
}

fn grants_to_neighbours() -> usize {
    let mut w = World::new();
    let cards = ["1EA68671", "04A1B2C3D4E5F6", "04A1B2C3D4E5F60718A9"];
    for card in cards {
        w.resident(card, card);
        assert_eq!(w.present("gate-in", card), "granted");
    }
    let mut granted = 0;
    for card in cards {
        let bytes = uid(card).as_bytes().to_vec();
        for place in 0..bytes.len() {
            let mut other = bytes.clone();
            other[place] ^= 0x55;
            let presented = Presented::Card(CardUid::from_bytes(&other).unwrap());
            let request = w.request("gate-in", presented);
            granted += usize::from(w.input(Input::Request(request)).decision().is_grant());
        }
    }
    granted
}

fn release_ms() -> u32 {
    let mut w = World::new();
    w.resident("A", "p1");
    match w.see("gate-in", "A").decision() {
        dormgate::access::decision::Decision::Grant(grant) => grant.hold_ms().unwrap(),
        dormgate::access::decision::Decision::Deny(_) => u32::MAX,
    }
}

/// Sixty-four gates and doors, one of them offline, in a lockdown.
fn sixty_four() -> World {
    let door = |n: u32| Portal::new(name(&format!("door-{n:02}")), PortalKind::Door, name(&format!("r{n}")));
    let mut w = World::of(Policy::default(), (0..64).map(door).collect(), Vec::new());
    for n in 0..64 {
        let online = Some(n != 63);
        w.report(&format!("door-{n:02}"), PortalReport { online, ..PortalReport::default() });
    }
    w.publish(vec![op::posture("*", Posture::Lockdown, None)]);
    w
}

/// How many gates and doors are not held open.
fn held(w: &World) -> usize {
    let modes = w.engine.status(w.now()).modes;
    modes.iter().filter(|(_, mode)| *mode == Posture::Fire).count()
}

fn fire() -> Vec<Row> {
    let mut w = sixty_four();
    let begun = w.elapsed_ms;
    let seen = w.fire("door-00", true);
    let ordered = seen.modes().iter().filter(|(_, mode)| *mode == Posture::Fire).count();
    let (took_ms, after_restart) = (w.elapsed_ms - begun, {
        w.restart();
        w.link_up();
        w.report("door-05", PortalReport { online: Some(false), ..PortalReport::default() });
        w.pass_s(3_600);
        64 - held(&w)
    });
    let by_command = {
        let mut w = sixty_four();
        let begun = w.elapsed_ms;
        w.publish(vec![op::posture("*", Posture::Secure, None)]);
        let seen = w.command("1", CommandKind::Release { portal: name("door-01") });
        assert_eq!(seen.openings(), 1);
        w.elapsed_ms - begun
    };
    vec![
        row(
            3,
            "GB 50396-2007 5.1.2",
            "an operator's command to the order to the actuator",
            (AtMost(2_000), "ms"),
            by_command,
        ),
        row(
            3,
            "GB 50396-2007 5.1.2",
            "fire to the order at each of 64 doors, one of them offline",
            (AtMost(2_000), "ms"),
            took_ms,
        ),
        row(18, "GB 50396-2007 9.0.1(2)", "doors that a fire releases in a lockdown", (AtLeast(64), "of 64"), ordered),
        row(
            18,
            "GB 50396-2007 9.0.1(2)",
            "doors locked again by a restart, a link or an hour",
            (AtMost(0), "doors"),
            after_restart,
        ),
    ]
}

fn overrides() -> Vec<Row> {
    let mut w = World::new();
    let until = w.now().wall.0 + 60_000;
    let set = w.publish(vec![op::posture("gate-in", Posture::FreeAccess, Some(until))]);
    assert_eq!(w.present("gate-in", "X"), "free_access");
    w.pass_ms(59_999);
    assert_eq!(w.present("gate-in", "X"), "free_access");
    let mut over_ms = 0;
    while w.present("gate-in", "X") == "free_access" {
        w.pass_ms(1);
        over_ms += 1;
    }
    let by_operator = w.operator("gate-in", Posture::Lockdown);
    let is_recorded =
        |seen: &Seen| seen.recorded().iter().any(|kind| matches!(kind, EventKind::Posture | EventKind::ChangesApplied));
    let recorded = [set, by_operator].iter().filter(|seen| is_recorded(seen)).count();
    vec![
        row(19, "GB/T 37078-2018 6.5", "how long after its end an override lasts", (AtMost(1), "ms"), over_ms),
        row(19, "GB/T 37078-2018 6.5", "overrides that are in the audit", (AtLeast(2), "of 2"), recorded),
    ]
}

fn turnstile() -> Vec<Row> {
    let mut all = portals();
    all.iter_mut().filter(|p| p.id.as_str() == "gate-in").for_each(|p| p.debounce_ms = 5_000);
    let mut w = World::of(Policy::default(), all, Vec::new());
    w.resident("A", "p1");
    w.passed("gate-in", Direction::In);
    let mut decisions = 0;
    let mut taken = 0;
    for _ in 0..50 {
        let request: Request = w.request("gate-in", Presented::Card(uid("A")));
        let mut seen = w.input(Input::Request(request));
        seen.0.extend(w.pass_ms(99).0);
        decisions += seen.recorded().iter().filter(|kind| **kind == EventKind::Decision).count();
        taken += seen.recorded().iter().filter(|kind| **kind == EventKind::Taken).count();
    }
    let after = w.pass_s(20);
    taken += after.recorded().iter().filter(|kind| **kind == EventKind::Taken).count();
    assert!(after.recorded().contains(&EventKind::NotTaken));
    w.input(Input::Operator(Operator::Forgive { cards: dormgate::access::input::CardSet::All }, None));
    vec![
        row(20, "turnstiles in use", "decisions for one card shown for 5 s", (AtMost(1), "events"), decisions),
        row(20, "turnstiles in use", "passages recorded for a card that did not pass", (AtMost(0), "passages"), taken),
    ]
}
