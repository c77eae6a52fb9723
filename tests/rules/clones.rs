//! A card in two places: it lies in a power box and is read elsewhere, or it is read sooner than anybody walks.

use dormgate::access::event::AlarmKind;
use dormgate::access::input::{Input, PortalReport, Presented, Request};
use dormgate::access::policy::{Place, Policy, Severity, Walk};
use dormgate::access::portal::Posture;

use crate::world::{World, name, op, uid};

fn with(clone: Severity) -> World {
    let mut w = World::with(Policy { clone, ..Policy::default() });
    w.resident("A", "p1");
    w
}

/// Card A lies in the box of 412, which is on by it.
fn in_box(clone: Severity) -> World {
    let mut w = with(clone);
    w.see("power-412", "A");
    w.sits("power-412", "A", Some(true));
    w
}

#[test]
fn nfc_clone_at_the_gate_phone_with_b_s_uid_at_gate_in_flag() {
    let mut w = in_box(Severity::Flag);
    let seen = w.see("gate-in", "A");
    assert_eq!(seen.verdict(), "granted clone_suspected");
    let detail = "the card was read here while it lies in `power-412`: one of the two is a copy";
    assert_eq!(seen.details(AlarmKind::Clone), [detail]);
    assert!(w.is_on("power-412"));
    // Wherever it is read next: one event a card and rule.
    w.pass_ms(300_000);
    let seen = w.see("door-412", "A");
    assert_eq!((seen.verdict().as_str(), seen.alarms()), ("granted clone_suspected", vec![]));
    let seen = w.see("gate-out", "A");
    assert_eq!((seen.verdict().as_str(), seen.alarms()), ("exit clone_suspected", vec![]));
    w.pass_ms(300_000);
    assert_eq!(w.see("gate-out", "A").alarms(), [AlarmKind::Clone]);
    w.assert_replay_is_life();
}

#[test]
fn nfc_clone_at_the_gate_phone_with_b_s_uid_at_gate_in_deny() {
    let mut w = in_box(Severity::Deny);
    let seen = w.see("gate-in", "A");
    assert_eq!((seen.verdict().as_str(), seen.alarms()), ("in_use_elsewhere", vec![AlarmKind::Clone]));
    assert_eq!((seen.cuts(), w.is_on("power-412")), (vec![], true));
    assert_eq!(w.see("gate-out", "A").verdict(), "exit in_use_elsewhere");
    w.operator("", Posture::FreeAccess);
    assert_eq!(w.see("gate-in", "A").verdict(), "free_access in_use_elsewhere");
    assert!(w.is_on("power-412"), "what stands is judged without it");
    // At its own box it is at home.
    assert_eq!(w.see("power-412", "A").verdict(), "granted");
}

#[test]
fn nfc_clone_at_the_gate_b_removed_3_s_ago_relay_still_on_b_at_gate_in() {
    let mut w = in_box(Severity::Deny);
    w.leave("power-412");
    w.pass_ms(3_000);
    assert!(w.is_on("power-412"), "its delay runs");
    let seen = w.see("gate-in", "A");
    assert_eq!((seen.verdict().as_str(), seen.alarms()), ("granted", vec![]));
}

#[test]
fn nfc_clone_at_the_gate_phone_in_random_mode_08() {
    let mut w = in_box(Severity::Flag);
    assert_eq!(w.see("gate-in", "phone").verdict(), "random_identifier");
}

/// It was put into the box after it had been at the door.
#[test]
fn a_card_that_was_presented_elsewhere_before_it_was_put_into_its_box_is_no_copy() {
    let mut w = in_box(Severity::Deny);
    let stale = Request { stale: true, ..w.request("door-412", Presented::Card(uid("A"))) };
    let seen = w.input(Input::Request(stale));
    assert_eq!((seen.verdict().as_str(), seen.alarms()), ("stale_request", vec![]));
    assert_eq!(w.see("door-412", "A").alarms(), [AlarmKind::Clone], "now it is");
}

#[test]
fn off_flags_and_raises_nothing() {
    let seen = in_box(Severity::Off).see("gate-in", "A");
    assert_eq!((seen.verdict().as_str(), seen.alarms()), ("granted", vec![]));
}

#[test]
fn a_registered_second_token_of_the_holder_is_another_card() {
    let mut w = in_box(Severity::Deny);
    w.resident("R", "p1");
    let seen = w.see("gate-in", "R");
    assert_eq!((seen.verdict().as_str(), seen.alarms()), ("granted", vec![]));
}

#[test]
fn a_box_that_is_offline_or_has_not_reported_since_the_start_proves_nothing() {
    let mut w = in_box(Severity::Deny);
    w.report("power-412", PortalReport { online: Some(false), ..PortalReport::default() });
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.report("power-412", PortalReport { online: Some(true), ..PortalReport::default() });
    assert_eq!(w.present("door-412", "A"), "granted", "it has not reported its card yet");
    w.sits("power-412", "A", Some(true));
    assert_eq!(w.present("door-412", "A"), "in_use_elsewhere");
    w.restart();
    assert!(w.is_on("power-412"), "remembered");
    assert_eq!(w.present("door-412", "A"), "granted");
    w.sits("power-412", "A", Some(true));
    assert_eq!(w.present("door-412", "A"), "in_use_elsewhere");
}

#[test]
fn of_several_slots_each_shows_its_own_card() {
    let mut w = with(Severity::Deny);
    w.resident("R", "p2");
    for (slot, card) in [(0, "A"), (1, "R")] {
        let request = w.request("power-412", Presented::Card(uid(card)));
        w.input(Input::Request(Request { slot, ..request }));
    }
    let report = |w: &mut World, slot, card_present| {
        w.report("power-412", PortalReport { card_present: Some(card_present), slot, ..PortalReport::default() })
    };
    report(&mut w, 0, false);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "R")), ("granted", "in_use_elsewhere"));
    report(&mut w, 1, false);
    assert_eq!(w.present("gate-in", "R"), "granted");
}

#[test]
fn a_dead_card_in_a_box_and_elsewhere_is_dead_first() {
    let mut w = in_box(Severity::Deny);
    w.publish(vec![op::report_lost("uid:A")]);
    let seen = w.see("gate-in", "A");
    assert_eq!(seen.verdict(), "lost in_use_elsewhere");
    assert!(seen.alarms().contains(&AlarmKind::DeadCard));
}

fn walking(clone: Severity) -> World {
    let place = |zone: &str| Place::Zone(name(zone));
    let walks = vec![
        Walk { from: place("lobby"), to: place("412"), walk_ms: 20_000 },
        Walk { from: place("lobby"), to: Place::Portal(name("power-412")), walk_ms: 30_000 },
    ];
    let mut w = World::with(Policy { clone, walks, anti_passback: Severity::Off, ..Policy::default() });
    w.resident("A", "p1");
    w
}

#[test]
fn a_card_read_sooner_than_anybody_walks_is_suspected_whichever_way_it_went() {
    let mut w = walking(Severity::Flag);
    w.see("gate-in", "A");
    w.pass_ms(19_999);
    let seen = w.see("door-412", "A");
    assert_eq!(seen.verdict(), "granted clone_suspected");
    let detail = "the card was read here 19 s after it was granted at `gate-in`, from where the way takes 20 s: one of the two is a copy";
    assert_eq!(seen.details(AlarmKind::Clone), [detail]);
    w.pass_ms(20_000);
    assert_eq!(w.see("gate-out", "A").verdict(), "exit");
    // Between the gates of one zone nobody walks.
    assert_eq!(w.see("gate-in", "A").verdict(), "granted");
    // What names a portal counts before what names its zone.
    w.pass_ms(25_000);
    assert_eq!(w.see("power-412", "A").verdict(), "granted clone_suspected");
}

#[test]
fn in_deny_mode_it_is_denied_and_a_read_that_was_denied_is_not_where_the_card_was() {
    let mut w = walking(Severity::Deny);
    w.see("gate-in", "A");
    assert_eq!(w.see("door-412", "A").verdict(), "in_use_elsewhere");
    // The card itself is still at the gate.
    assert_eq!(w.see("gate-out", "A").verdict(), "exit");
    w.pass_ms(20_000);
    assert_eq!(w.see("door-412", "A").verdict(), "granted");
    // Not by the wall clock: a step proves nothing.
    w.wall_off_ms = 3_600_000;
    assert_eq!(w.see("gate-out", "A").verdict(), "exit in_use_elsewhere stale_list");
    w.restart();
    assert_eq!(w.present("door-412", "A"), "granted", "what was before a restart is not measured");
}
