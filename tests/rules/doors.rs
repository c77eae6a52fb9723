//! Doors and gates after the release: forced, held open, taken and not taken.

use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::event::{AlarmKind, Event, EventKind};
use dormgate::access::input::{Input, PortalReport};
use dormgate::access::portal::{Direction, Posture};

use crate::world::{Seen, World, uid};

fn contact(w: &mut World, open: bool) -> Seen {
    w.report("door-412", PortalReport { contact_open: Some(open), ..PortalReport::default() })
}

fn passed(w: &mut World) -> Seen {
    passes(w, Direction::In)
}

fn passes(w: &mut World, direction: Direction) -> Seen {
    w.report("gate-in", PortalReport { passed: Some(direction), ..PortalReport::default() })
}

fn resident() -> World {
    let mut w = World::new();
    w.resident("A", "p1");
    w
}

#[test]
fn a_door_that_opens_without_a_release_is_an_alarm_and_one_that_was_released_is_not() {
    let mut w = resident();
    assert_eq!(contact(&mut w, true).alarms(), [AlarmKind::ForcedOpen]);
    assert_eq!(contact(&mut w, true).alarms(), [], "it is open still, not again");
    contact(&mut w, false);
    w.present("door-412", "A");
    w.pass_s(2);
    assert_eq!(contact(&mut w, true).alarms(), []);
    contact(&mut w, false);
    w.pass_s(600);
    assert_eq!(contact(&mut w, true).alarms(), [AlarmKind::ForcedOpen], "the release is long over");
}

#[test]
fn a_denied_card_is_no_release() {
    let mut w = resident();
    w.present("door-412", "X");
    assert_eq!(contact(&mut w, true).alarms(), [AlarmKind::ForcedOpen]);
}

#[test]
fn a_door_that_stays_open_is_raised_once_after_its_time() {
    let mut w = resident();
    w.present("door-412", "A");
    contact(&mut w, true);
    assert_eq!(w.pass_ms(14_999).alarms(), []);
    assert_eq!(w.pass_ms(1).alarms(), [AlarmKind::HeldOpen]);
    assert_eq!(w.pass_s(600).alarms(), []);
    contact(&mut w, false);
    w.present("door-412", "A");
    contact(&mut w, true);
    contact(&mut w, false);
    assert_eq!(w.pass_s(60).alarms(), [], "it was closed in time");
}

#[test]
fn a_door_that_the_mode_holds_open_is_neither_forced_nor_held() {
    let mut w = resident();
    w.operator("door-412", Posture::FreeAccess);
    assert_eq!(contact(&mut w, true).alarms(), []);
    assert_eq!(w.pass_s(60).alarms(), []);
}

#[test]
fn a_passage_belongs_to_the_last_card_granted_and_a_late_one_to_nobody() {
    let mut w = resident();
    w.present("gate-in", "A");
    w.pass_s(2);
    let taken = passed(&mut w);
    let event = &taken.records().find(|r| r.event.kind() == EventKind::Taken).unwrap().event;
    assert_eq!(event.body.uid(), Some(uid("A")));
    assert!(matches!(event.body, Event::Taken { direction: Direction::In, .. }));
    let second = passed(&mut w);
    let event = &second.records().find(|r| r.event.kind() == EventKind::Taken).unwrap().event;
    assert_eq!(event.body.uid(), None, "one release, one passage");
}

#[test]
fn who_passes_the_other_way_does_not_take_the_release() {
    let mut w = resident();
    w.present("gate-in", "A");
    let of = |seen: &Seen| seen.records().find(|r| r.event.kind() == EventKind::Taken).unwrap().event.clone();
    let out = of(&passes(&mut w, Direction::Out));
    assert_eq!(out.body.uid(), None);
    assert!(matches!(out.body, Event::Taken { direction: Direction::Out, .. }));
    assert_eq!(of(&passed(&mut w)).body.uid(), Some(uid("A")));
}

#[test]
fn a_release_that_nobody_takes_is_recorded_where_passing_is_reported_at_all() {
    let mut w = resident();
    w.present("gate-in", "A");
    assert!(
        !w.pass_s(60).recorded().contains(&EventKind::NotTaken),
        "this gate has never reported that somebody passed"
    );
    passed(&mut w);
    w.present("gate-in", "A");
    let over = w.pass_ms(3_000 + 10_000);
    let event = &over.records().find(|r| r.event.kind() == EventKind::NotTaken).unwrap().event;
    assert_eq!(event.body.uid(), Some(uid("A")));
    assert!(!w.input(Input::Wake).recorded().contains(&EventKind::NotTaken), "recorded once");
}

const DOOR: &str = "door-412";
/// How long a release lasts, and how long a relay may be on without one.
const HOLD_MS: u64 = 3_000;

fn relay(w: &mut World, on: bool) -> Seen {
    w.relay(DOOR, on)
}

fn locked(seen: &Seen) -> usize {
    seen.0.iter().filter(|e| matches!(e, Effect::Order(PortalOrder::Lock { .. }))).count()
}

#[test]
fn a_relay_that_closes_without_a_release_is_ordered_off_and_forced_if_it_does_not_follow() {
    let mut w = resident();
    let mut seen = relay(&mut w, true);
    seen.0.extend(w.pass_ms(HOLD_MS - 1).0);
    assert_eq!((locked(&seen), seen.alarms()), (0, vec![]), "a button at the lock opens for a moment");
    let seen = w.pass_ms(1);
    assert_eq!((locked(&seen), seen.alarms()), (1, vec![AlarmKind::Tamper]));
    let seen = w.pass_s(60);
    assert_eq!((locked(&seen), seen.alarms()), (1, vec![AlarmKind::ForcedOpen]));
    let seen = relay(&mut w, true);
    assert_eq!((locked(&seen), seen.alarms()), (1, vec![]), "raised once, ordered off as often as it is reported");
    // It follows at last, and closes by itself once more, when the alarm may be raised again.
    relay(&mut w, false);
    w.pass_s(600);
    relay(&mut w, true);
    assert_eq!(w.pass_ms(HOLD_MS).alarms(), [AlarmKind::Tamper]);
    relay(&mut w, false);
    assert_eq!(w.pass_s(60).alarms(), []);
}

#[test]
fn a_relay_that_is_on_by_a_release_is_as_it_should_be_and_one_that_stays_on_is_not() {
    let mut w = resident();
    w.present(DOOR, "A");
    relay(&mut w, true);
    assert_eq!(w.pass_ms(HOLD_MS).alarms(), []);
    // Released once more before it went off.
    w.present(DOOR, "A");
    let seen = w.pass_ms(HOLD_MS + 2_999);
    assert_eq!((locked(&seen), seen.alarms()), (0, vec![]));
    let seen = w.pass_s(10);
    assert_eq!((locked(&seen), seen.alarms()), (2, vec![AlarmKind::Tamper, AlarmKind::ForcedOpen]), "it is welded");
}

#[test]
fn a_relay_that_the_mode_holds_on_is_judged_when_the_mode_ends() {
    let mut w = resident();
    w.operator(DOOR, Posture::FreeAccess);
    relay(&mut w, true);
    let seen = w.pass_s(600);
    assert_eq!((locked(&seen), seen.alarms()), (0, vec![]));
    w.operator(DOOR, Posture::Secure);
    assert_eq!(w.pass_ms(HOLD_MS).alarms(), [AlarmKind::Tamper]);
}

#[test]
fn nothing_is_known_of_the_relay_of_a_door_that_is_offline() {
    let mut w = resident();
    relay(&mut w, true);
    w.report(DOOR, PortalReport { online: Some(false), ..PortalReport::default() });
    let seen = w.pass_s(60);
    assert_eq!((locked(&seen), seen.alarms()), (0, vec![]));
}

#[test]
fn a_door_may_be_pushed_open_until_two_seconds_after_its_release() {
    for (after_ms, alarms) in [(5_000, vec![]), (5_001, vec![AlarmKind::ForcedOpen])] {
        let mut w = resident();
        w.present(DOOR, "A");
        w.pass_ms(after_ms);
        assert_eq!(contact(&mut w, true).alarms(), alarms, "{after_ms} ms");
    }
}

#[test]
fn the_first_passage_that_a_gate_reports_is_nobodys_if_it_comes_too_late() {
    for (after_ms, whose) in [(12_999, Some(uid("A"))), (13_000, None)] {
        let mut w = resident();
        w.present("gate-in", "A");
        w.pass_ms(after_ms);
        let taken = passed(&mut w);
        let event = &taken.records().find(|r| r.event.kind() == EventKind::Taken).unwrap().event;
        assert_eq!(event.body.uid(), whose, "{after_ms} ms");
    }
}

fn not_taken(seen: &Seen) -> Vec<Option<dormgate::access::id::CardUid>> {
    let all = seen.records().filter(|r| r.event.kind() == EventKind::NotTaken);
    all.map(|r| r.event.body.uid()).collect()
}

#[test]
fn a_release_that_was_not_taken_is_recorded_when_the_gate_is_released_for_another_card() {
    let mut w = resident();
    w.resident("B", "p2");
    passed(&mut w);
    w.present("gate-in", "A");
    let seen = w.see("gate-in", "B");
    assert_eq!(not_taken(&seen), [Some(uid("A"))]);
    assert_eq!(not_taken(&w.pass_s(60)), [Some(uid("B"))]);
}

#[test]
fn a_card_shown_again_within_the_debounce_has_the_time_of_its_last_release_to_pass() {
    let mut all = crate::world::portals();
    all.iter_mut().filter(|p| p.id.as_str() == "gate-in").for_each(|p| p.debounce_ms = 5_000);
    let mut w = World::of(dormgate::access::policy::Policy::default(), all, Vec::new());
    w.resident("A", "p1");
    passed(&mut w);
    w.present("gate-in", "A");
    w.pass_s(4);
    w.present("gate-in", "A");
    assert_eq!(not_taken(&w.pass_ms(12_999)), []);
    assert_eq!(not_taken(&w.pass_ms(1)), [Some(uid("A"))]);
    // Whoever passes at the last moment does so on that release.
    w.pass_s(60);
    w.present("gate-in", "A");
    w.pass_s(4);
    w.present("gate-in", "A");
    w.pass_ms(12_999);
    let taken = passed(&mut w);
    assert!(taken.records().any(|r| r.event.kind() == EventKind::Taken && r.event.body.uid() == Some(uid("A"))));
}

#[test]
fn a_door_left_open_when_its_mode_ends_is_raised_after_its_time() {
    for (open, alarms) in [(true, vec![AlarmKind::HeldOpen]), (false, vec![])] {
        let mut w = resident();
        w.operator(DOOR, Posture::FreeAccess);
        contact(&mut w, true);
        assert_eq!(w.pass_s(60).alarms(), []);
        contact(&mut w, open);
        w.operator(DOOR, Posture::Secure);
        assert_eq!(w.pass_ms(14_999).alarms(), []);
        assert_eq!(w.pass_ms(1).alarms(), alarms);
        w.pass_s(3_600);
        assert_eq!(w.operator(DOOR, Posture::Lockdown).alarms(), []);
        assert_eq!(w.pass_s(3_600).alarms(), [], "raised once");
    }
}

#[test]
fn a_passage_that_is_reported_before_the_door_opens_is_no_reason_to_call_it_forced() {
    let mut w = resident();
    w.present(DOOR, "A");
    w.passed(DOOR, Direction::In);
    assert_eq!(contact(&mut w, true).alarms(), []);
    contact(&mut w, false);
    w.pass_ms(HOLD_MS + 2_001);
    assert_eq!(contact(&mut w, true).alarms(), [AlarmKind::ForcedOpen]);
}
