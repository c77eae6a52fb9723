//! Doors and gates after the release: forced, held open, taken and not taken.

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
    w.pass_s(60);
    assert_eq!(contact(&mut w, true).alarms(), [AlarmKind::ForcedOpen], "the release is long over");
}

#[test]
fn a_denied_card_is_no_release() {
    let mut w = resident();
    w.present("door-412", "X");
    assert_eq!(contact(&mut w, true).alarms(), [AlarmKind::ForcedOpen]);
}

#[test]
fn a_door_that_stays_open_is_told_once_after_its_time() {
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
fn a_release_that_nobody_takes_is_told_where_passing_is_told_at_all() {
    let mut w = resident();
    w.present("gate-in", "A");
    assert!(!w.pass_s(60).recorded().contains(&EventKind::NotTaken), "this gate has never said that somebody passed");
    passed(&mut w);
    w.present("gate-in", "A");
    let over = w.pass_ms(3_000 + 10_000);
    let event = &over.records().find(|r| r.event.kind() == EventKind::NotTaken).unwrap().event;
    assert_eq!(event.body.uid(), Some(uid("A")));
    assert!(!w.input(Input::Wake).recorded().contains(&EventKind::NotTaken), "told once");
}
