//! Alarms: at once, and then at most one in 10 minutes of one kind, portal and card, with the count of what was held back.

use dormgate::access::effect::Effect;
use dormgate::access::engine::{ALARM_CARDS_MAX, ALARM_QUIET_MS, STORE_WRITES};
use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::id::ClockTrust;
use dormgate::access::input::{ClockChange, Input, Operator, PortalReport, TrustedBy};
use dormgate::access::portal::Posture;

use crate::world::{Seen, World, name, op, uid};

/// The alarms by kind, each with its count.
fn counted(seen: &Seen) -> Vec<(AlarmKind, u64)> {
    let alarm = |e: &Effect| match e {
        Effect::Alarm(alarm) if !alarm.ended => Some((alarm.kind, alarm.count)),
        _ => None,
    };
    seen.0.iter().filter_map(alarm).collect()
}

#[test]
fn reader_noise_is_one_alarm_and_the_next_counts_what_was_held_back() {
    let mut w = World::new();
    let mut raised = Vec::new();
    // 117 times five wrong tries within 30 s.
    for _ in 0..585 {
        raised.extend(counted(&w.see("gate-in", "X")));
        w.pass_ms(50);
    }
    assert_eq!(raised, [(AlarmKind::WrongTries, 0)]);
    assert_eq!(w.see("gate-in", "X").alarms(), []);
    w.pass_ms(ALARM_QUIET_MS);
    let raised: Vec<_> = (0..5).flat_map(|_| counted(&w.see("gate-in", "X"))).collect();
    assert_eq!(raised, [(AlarmKind::WrongTries, 116)]);
    // Another portal has its own.
    let raised: Vec<_> = (0..5).flat_map(|_| counted(&w.see("door-412", "X"))).collect();
    assert_eq!(raised, [(AlarmKind::WrongTries, 0)]);
    w.assert_replay_is_life();
}

#[test]
fn a_dead_card_left_in_a_box_is_one_alarm() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::cancel("uid:A")]);
    let mut raised = Vec::new();
    for _ in 0..60 {
        raised.extend(w.see("power-412", "A").alarms());
        raised.extend(w.sits("power-412", "A", Some(true)).alarms());
        w.leave("power-412");
        w.pass_ms(2_500);
    }
    let of = |kind| raised.iter().filter(|k| **k == kind).count();
    assert_eq!((of(AlarmKind::DeadCard), of(AlarmKind::WrongTries)), (1, 1));
    assert!(of(AlarmKind::PowerWithoutCard) <= 2, "at most one for the card and one for the box: {raised:?}");
}

#[test]
fn a_box_that_reports_ever_new_cards_raises_an_alarm_for_a_few_of_them_and_one_for_all_the_others() {
    let mut w = World::new();
    let mut with_new_cards = |count: usize| {
        let cards = (0..count).map(|n| format!("2B{n:06X}"));
        let seen: Vec<_> = cards.map(|card| w.sits("power-412", &card, Some(true))).collect();
        w.pass_ms(ALARM_QUIET_MS);
        let all = seen.iter().flat_map(counted);
        all.filter(|(kind, _)| *kind == AlarmKind::PowerWithoutCard).map(|(_, held_back)| held_back).collect::<Vec<_>>()
    };
    assert_eq!(with_new_cards(100), [0; ALARM_CARDS_MAX + 1]);
    let again = with_new_cards(ALARM_CARDS_MAX + 1);
    assert_eq!((again.len(), again.last()), (ALARM_CARDS_MAX + 1, Some(&(100 - ALARM_CARDS_MAX as u64 - 1))));
}

#[test]
fn a_bouncing_contact_is_one_alarm_and_what_follows_in_ten_minutes_counts_it() {
    let mut w = World::new();
    let contact = |w: &mut World, open| {
        w.report("door-412", PortalReport { contact_open: Some(open), ..PortalReport::default() })
    };
    let mut raised = Vec::new();
    for _ in 0..10 {
        raised.extend(counted(&contact(&mut w, true)));
        w.pass_ms(150);
        raised.extend(counted(&contact(&mut w, false)));
        w.pass_ms(150);
    }
    assert_eq!(raised, [(AlarmKind::ForcedOpen, 0)]);
    w.pass_ms(ALARM_QUIET_MS);
    assert_eq!(counted(&contact(&mut w, true)), [(AlarmKind::ForcedOpen, 9)]);
}

#[test]
fn a_portal_that_comes_and_goes_is_one_alarm_and_each_return_is_recorded() {
    let mut w = World::new();
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    w.report("gate-in", online(true));
    let (mut raised, mut returns) = (0, 0);
    for _ in 0..20 {
        raised += w.report("gate-in", online(false)).alarms().len();
        w.pass_s(5);
        let seen = w.report("gate-in", online(true));
        returns += seen.recorded().iter().filter(|k| k.as_str() == "portal_online").count();
        w.pass_s(5);
    }
    assert_eq!((raised, returns), (1, 20), "an ending is never held back");
}

#[test]
fn the_end_of_an_alarm_is_published_once_and_only_of_one_that_was_published() {
    let mut w = World::new();
    let gate = |w: &mut World, report| w.report("gate-in", report).ended();
    let tamper = |tamper| PortalReport { tamper: Some(tamper), ..PortalReport::default() };
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    let contact = |open| PortalReport { contact_open: Some(open), ..PortalReport::default() };
    gate(&mut w, online(true));
    for (from, to, kind) in [
        (tamper(true), tamper(false), AlarmKind::Tamper),
        (online(false), online(true), AlarmKind::PortalOffline),
        (contact(true), contact(false), AlarmKind::ForcedOpen),
    ] {
        assert_eq!(gate(&mut w, from.clone()), []);
        assert_eq!(gate(&mut w, to.clone()), [kind]);
        assert_eq!(gate(&mut w, to.clone()), []);
        // Held back, so nobody knows of it.
        assert_eq!((gate(&mut w, from), gate(&mut w, to)), (vec![], vec![]));
    }
    w.fire("gate-in", true);
    assert_eq!(w.fire("gate-in", false).ended(), [], "the latch holds");
    assert_eq!(w.input(Input::Operator(Operator::FireReset { force: false }, None)).ended(), [AlarmKind::Fire]);
    w.assert_replay_is_life();
}

#[test]
fn a_fire_after_a_reset_is_raised_at_once() {
    let mut w = World::new();
    for _ in 0..2 {
        assert_eq!(w.fire("gate-in", true).alarms(), [AlarmKind::Fire]);
        w.fire("gate-in", false);
        w.input(Input::Operator(Operator::FireReset { force: false }, None));
        assert_eq!(w.engine.status(w.now()).modes, [] as [(_, Posture); 0]);
    }
}

/// What is published: each alarm, with whether it is its end.
fn published(seen: &Seen) -> Vec<(AlarmKind, u64, bool)> {
    let alarm = |e: &Effect| match e {
        Effect::Alarm(alarm) => Some((alarm.kind, alarm.count, alarm.ended)),
        _ => None,
    };
    seen.0.iter().filter_map(alarm).collect()
}

#[test]
fn what_comes_back_and_stays_is_raised_when_the_ten_minutes_are_over() {
    let mut w = World::new();
    let housing = |w: &mut World, tamper| {
        published(&w.report("door-412", PortalReport { tamper: Some(tamper), ..PortalReport::default() }))
    };
    assert_eq!(housing(&mut w, true), [(AlarmKind::Tamper, 0, false)]);
    assert_eq!(housing(&mut w, false), [(AlarmKind::Tamper, 0, true)]);
    w.pass_s(2);
    assert_eq!(housing(&mut w, true), [], "held back");
    assert_eq!(published(&w.pass_ms(ALARM_QUIET_MS - 2_001)), []);
    assert_eq!(published(&w.pass_ms(1)), [(AlarmKind::Tamper, 1, false)]);
    assert_eq!(published(&w.pass_ms(2 * ALARM_QUIET_MS)), [], "it is known to be open");
    assert_eq!(housing(&mut w, false), [(AlarmKind::Tamper, 0, true)]);
    // What came back and has ended meanwhile is raised by nothing.
    housing(&mut w, true);
    housing(&mut w, false);
    housing(&mut w, true);
    housing(&mut w, false);
    assert_eq!(published(&w.pass_ms(2 * ALARM_QUIET_MS)), []);
}

#[test]
fn a_relay_that_nothing_released_holds_back_no_alarm_of_an_open_housing() {
    let mut w = World::new();
    let report = |relay, tamper| PortalReport { relay, tamper, ..PortalReport::default() };
    w.report("door-412", report(Some(true), None));
    let raised = w.pass_s(20);
    assert!(published(&raised).contains(&(AlarmKind::Tamper, 0, false)), "{:?}", published(&raised));
    assert_eq!(published(&w.report("door-412", report(None, Some(true)))), [(AlarmKind::Tamper, 0, false)]);
    assert_eq!(published(&w.report("door-412", report(None, Some(false)))), [(AlarmKind::Tamper, 0, true)]);
    let over = published(&w.report("door-412", report(Some(false), None)));
    assert!(over.contains(&(AlarmKind::Tamper, 0, true)), "{over:?}");
}

/// The open alarms, each with its portal and for how many seconds it lasts.
fn open(w: &World) -> Vec<(AlarmKind, String, i64)> {
    let now = w.now();
    let line = |alarm: &dormgate::access::engine::OpenAlarm| {
        let portal = alarm.portal.as_ref().map_or_else(String::new, ToString::to_string);
        (alarm.kind, portal, (now.wall.0 - alarm.since.0) / 1000)
    };
    w.engine.status(now).alarms.iter().map(line).collect()
}

#[test]
fn the_status_names_an_alarm_that_lasts_and_since_when_also_one_that_was_held_back() {
    let mut w = World::new();
    let housing = |w: &mut World, tamper| {
        w.report("door-412", PortalReport { tamper: Some(tamper), ..PortalReport::default() });
    };
    let lasts = |s| vec![(AlarmKind::Tamper, "door-412".to_owned(), s)];
    assert_eq!(open(&w), []);
    housing(&mut w, true);
    w.pass_s(5);
    assert_eq!(open(&w), lasts(5));
    housing(&mut w, false);
    assert_eq!(open(&w), []);
    housing(&mut w, true);
    assert_eq!(open(&w), lasts(0), "nobody else knows of it yet");
    w.pass_ms(ALARM_QUIET_MS);
    assert_eq!(open(&w), lasts(600), "it was raised later than it began");
    housing(&mut w, false);
    // An alarm of a kind without an end is not open: nothing would ever close it. Neither is one about access rules of the broker, which
    // are found to be right by nobody.
    for _ in 0..5 {
        w.see("gate-in", "X");
    }
    let detail = "the local broker refuses the subscription to `dormgate/v1/g1/portal/+/state`; check its access rules";
    let refused = Input::Alarm { kind: AlarmKind::PortalOffline, portal: None, detail: detail.to_owned() };
    assert_eq!(w.input(refused).alarms(), [AlarmKind::PortalOffline]);
    assert_eq!(open(&w), []);
}

#[test]
fn an_alarm_about_the_clock_ends_when_it_is_trusted_or_synchronised_again() {
    let clock = AlarmKind::Clock;
    let trusted = || Input::Clock(ClockChange::Trusted(TrustedBy::CaughtUp));
    let mut w = World::new();
    assert_eq!(w.input(trusted()).ended(), []);
    assert_eq!(w.input(Input::Clock(ClockChange::Untrusted)).alarms(), [clock]);
    assert_eq!(w.input(Input::Clock(ClockChange::Step { by_ms: 5 })).ended(), [], "it is not trusted yet");
    // The system has not synchronised it either, which is another thing.
    let detail = "the system last synchronised its clock at 2026-09-01T00:00:00.000Z, more than a day ago; look at its network and `timedatectl timesync-status`".to_owned();
    assert_eq!(w.input(Input::Alarm { kind: clock, portal: None, detail }).alarms(), [clock]);
    assert_eq!(open(&w).len(), 2);
    let seen = w.input(trusted());
    assert_eq!((seen.ended(), seen.details(clock)), (vec![clock], vec!["the wall clock is trusted again"]));
    assert_eq!((w.input(trusted()).ended(), open(&w).len()), (vec![], 1));
    assert_eq!(w.input(Input::ClockSynchronised).ended(), [clock]);
    assert_eq!((w.input(Input::ClockSynchronised).ended(), open(&w)), (vec![], vec![]));
    // One that was held back and lasts is raised later, and ends then.
    assert_eq!(w.input(Input::Clock(ClockChange::Untrusted)).alarms(), []);
    assert_eq!(w.pass_ms(ALARM_QUIET_MS).alarms(), [clock]);
    assert_eq!(w.input(trusted()).ended(), [clock]);
    // That of a start with a clock that is wrong, too.
    w.clock = ClockTrust::Untrusted;
    assert_eq!(w.restart().alarms(), [clock]);
    w.clock = ClockTrust::Trusted;
    assert_eq!(w.input(trusted()).ended(), [clock]);
    w.assert_replay_is_life();
}

#[test]
fn an_alarm_that_the_store_is_not_written_ends_when_it_is() {
    let mut w = World::new();
    let trouble = |detail: String| Input::Alarm { kind: AlarmKind::Store, portal: None, detail };
    let rests = [
        " (full); decisions go on, nothing is acknowledged; make the disk writable",
        " for 3 ms: the disk does not answer; decisions go on, nothing is acknowledged; look at the disk and what the kernel reports of it (`dmesg`)",
    ];
    for (begins, rest) in STORE_WRITES.into_iter().zip(rests) {
        assert_eq!(w.input(trouble(format!("{begins}{rest}"))).alarms(), [AlarmKind::Store]);
        assert_eq!(open(&w).len(), 1, "{begins}");
        assert_eq!(w.input(Input::StoreWorks).ended(), [AlarmKind::Store], "{begins}");
        assert_eq!(w.input(Input::StoreWorks).ended(), []);
    }
    // What is damaged is not mended by that.
    assert_eq!(w.input(trouble("events 3 to 4 are lost".to_owned())).alarms(), [AlarmKind::Store]);
    assert_eq!((w.input(Input::StoreWorks).ended(), open(&w)), (vec![], vec![]));
    w.assert_replay_is_life();
}

#[test]
fn a_release_that_fails_is_in_the_audit_each_time_and_its_alarm_ends_with_one_that_is_confirmed() {
    let mut w = World::new();
    w.resident("A", "p1");
    let ended = |failed: Option<&str>| Input::Released { portal: name("door-412"), failed: failed.map(str::to_owned) };
    for (round, alarms) in [(0, vec![AlarmKind::PortalOffline]), (1, vec![])] {
        assert_eq!(w.present("door-412", "A"), "granted");
        let seen = w.input(ended(Some("the relay reads off after it took the pulse")));
        let event = &seen.records().next().unwrap().event;
        assert_eq!((event.kind(), event.body.uid()), (EventKind::NotTaken, Some(uid("A"))));
        assert_eq!(event.body.detail(), "a release was not confirmed: the relay reads off after it took the pulse");
        assert_eq!(seen.alarms(), alarms, "{round}");
        let over = w.input(ended(None));
        assert_eq!(over.ended(), alarms, "{round}");
        assert_eq!(w.input(ended(None)).recorded(), []);
        w.pass_s(60);
    }
    // Its device falling silent is another matter, and is not held back by it.
    let away = PortalReport { online: Some(false), ..PortalReport::default() };
    assert_eq!(w.report("door-412", away).alarms(), [AlarmKind::PortalOffline]);
    w.assert_replay_is_life();
}
