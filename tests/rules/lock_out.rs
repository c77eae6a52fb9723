//! Too many denials at a portal lock it out, and a portal may want more than a UID.

use dormgate::access::change::Op;
use dormgate::access::event::AlarmKind;
use dormgate::access::input::{Input, Presented, Request};
use dormgate::access::policy::{Policy, Severity};
use dormgate::access::portal::{Assurance, Direction, Posture};

use crate::world::{Seen, World, portals, uid};

fn with_lockout(lockout_s: u32) -> World {
    let mut w = World::with(Policy { max_denials: 3, lockout_s, ..Policy::default() });
    w.resident("A", "p1");
    w
}

/// Three denials within a minute at `portal`.
fn try_thrice(w: &mut World, portal: &str) -> Seen {
    w.see(portal, "X");
    w.pass_ms(20_000);
    w.see(portal, "X");
    w.pass_ms(20_000);
    w.see(portal, "X")
}

#[test]
fn too_many_denials_lock_everybody_out_of_that_portal_for_the_configured_time() {
    let mut w = with_lockout(30);
    let seen = try_thrice(&mut w, "gate-in");
    let details = seen.details(AlarmKind::WrongTries);
    assert_eq!(details, ["3 denials within 60 s; everybody is denied here for 30 s, except on the way out"]);
    assert_eq!(w.see("gate-in", "A").verdict(), "locked_out");
    assert_eq!(w.see("gate-in", "X").verdict(), "unknown_credential locked_out");
    assert_eq!(w.present("gate-both", "A"), "granted", "another portal of the same zone");
    w.pass_ms(29_999);
    assert_eq!(w.present("gate-in", "A"), "locked_out");
    w.pass_ms(1);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn denials_that_are_more_than_a_minute_apart_and_a_time_of_0_lock_nobody_out() {
    let mut w = with_lockout(30);
    for _ in 0..6 {
        w.see("gate-in", "X");
        w.pass_ms(30_000);
    }
    assert_eq!(w.present("gate-in", "A"), "granted");
    let mut w = with_lockout(0);
    assert_eq!(try_thrice(&mut w, "gate-in").details(AlarmKind::WrongTries), ["3 denials within 60 s"]);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn cards_that_were_presented_too_long_ago_are_no_wrong_tries() {
    let mut w = with_lockout(30);
    for card in ["A", "X", "A", "X", "A"] {
        let stale = Request { stale: true, ..w.request("gate-in", Presented::Card(uid(card))) };
        let seen = w.input(Input::Request(stale));
        assert_eq!((seen.reason(), seen.alarms()), ("stale_request", vec![]), "{card}");
    }
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn what_is_denied_during_a_lock_out_does_not_lengthen_it() {
    let mut w = with_lockout(30);
    try_thrice(&mut w, "door-412");
    for _ in 0..10 {
        w.see("door-412", "X");
    }
    w.pass_ms(30_000);
    assert_eq!(w.present("door-412", "A"), "granted");
    // Nor does it count afterwards.
    w.see("door-412", "X");
    w.see("door-412", "X");
    assert_eq!(w.present("door-412", "A"), "granted");
}

#[test]
fn the_wall_clock_neither_shortens_nor_lengthens_a_lock_out() {
    for off_ms in [-86_400_000, 86_400_000] {
        let mut w = with_lockout(30);
        try_thrice(&mut w, "gate-in");
        w.wall_off_ms = off_ms;
        w.pass_ms(29_999);
        assert_eq!(w.present("gate-in", "A"), "locked_out");
        w.pass_ms(1);
        assert_eq!(w.present("gate-in", "A"), "granted");
    }
}

#[test]
fn a_lock_out_stops_neither_who_leaves_nor_a_fire_nor_free_access() {
    let mut w = with_lockout(600);
    let outwards = |w: &mut World, portal: &str, card: &str| {
        let request = w.request(portal, Presented::Card(uid(card)));
        w.input(Input::Request(Request { direction: Some(Direction::Out), ..request })).verdict()
    };
    for portal in ["gate-both", "door-412"] {
        try_thrice(&mut w, portal);
    }
    assert_eq!(outwards(&mut w, "gate-both", "A"), "exit locked_out");
    for posture in [Posture::FreeAccess, Posture::Fire] {
        w.operator("", posture);
        assert_eq!(w.see("door-412", "A").verdict(), format!("{} locked_out", posture.as_str()));
    }
    w.operator("", Posture::Secure);
    assert_eq!(w.present("door-412", "A"), "locked_out");
}

#[test]
fn a_lock_out_of_a_power_box_does_not_switch_off_what_is_on() {
    let mut w = with_lockout(600);
    w.see("power-412", "A");
    let mut seen = Vec::new();
    for slot in 1..=3 {
        let request = w.request("power-412", Presented::Card(uid("X")));
        seen.push(w.input(Input::Request(Request { slot, ..request })));
    }
    assert_eq!(seen[2].alarms(), [AlarmKind::WrongTries]);
    // Every right is judged again.
    let seen = w.operator("", Posture::FreeAccess);
    assert_eq!((seen.cuts(), w.is_on("power-412")), (vec![], true));
}

fn read_with(w: &mut World, portal: &str, assurance: Assurance) -> String {
    let request = w.request(portal, Presented::Card(uid("A")));
    w.input(Input::Request(Request { assurance, ..request })).verdict()
}

#[test]
fn nfc_clone_at_the_gate_uid_only_read_at_a_door_with_min_assurance_sector() {
    let mut all = portals();
    for portal in &mut all {
        portal.min_assurance = Assurance::Sector;
    }
    let mut w = World::of(Policy { clone: Severity::Off, ..Policy::default() }, all, Vec::new());
    w.resident("A", "p1");
    for portal in ["gate-in", "door-412", "power-412"] {
        assert_eq!(read_with(&mut w, portal, Assurance::Uid), "assurance_too_low", "{portal}");
    }
    assert_eq!(read_with(&mut w, "gate-out", Assurance::Uid), "exit assurance_too_low");
    for assurance in [Assurance::Sector, Assurance::Crypto] {
        assert_eq!(read_with(&mut w, "door-412", assurance), "granted");
    }
    // Nothing is known of a card that nobody issued, and a query assumes a read as the portal wants it.
    assert_eq!(w.see("door-412", "Z").verdict(), "unknown_credential");
    let verdicts = w.engine.query(uid("A"), Some(&"door-412".parse().unwrap()), w.now()).unwrap();
    assert_eq!(verdicts[0].outcome.reason(), "granted");
}

#[test]
fn a_box_that_wants_more_than_a_uid_stays_on_by_the_card_that_was_read_so() {
    let mut all = portals();
    for portal in &mut all {
        portal.min_assurance = Assurance::Crypto;
    }
    let mut w = World::of(Policy::default(), all, Vec::new());
    w.resident("A", "p1");
    assert_eq!(read_with(&mut w, "power-412", Assurance::Crypto), "granted");
    w.sits("power-412", "A", Some(true));
    let seen = w.operator("", Posture::FreeAccess);
    assert_eq!((seen.cuts(), w.is_on("power-412")), (vec![], true));
}

#[test]
fn a_uid_that_many_cards_share_is_nobodys_whatever_an_older_list_has_of_it() {
    for card in ["01020304", "12345678", "DEADBEEF", "11223344"] {
        let mut w = World::new();
        // A list from before it was refused has it.
        w.publish(vec![Op::Issue { uid: uid(card), holder: "p1".parse().unwrap() }]);
        w.enrol(card, "p1", "gate:* door:412 power_box:412");
        for portal in ["gate-in", "door-412", "power-412"] {
            assert_eq!(w.present(portal, card), "unknown_credential", "{card} at {portal}");
        }
        assert_eq!(w.see("gate-out", card).verdict(), "exit unknown_credential");
    }
}

#[test]
fn a_denial_counts_for_a_minute_and_not_a_millisecond_longer() {
    for (apart_ms, is_locked) in [(59_999, true), (60_000, false)] {
        let mut w = World::with(Policy { max_denials: 2, lockout_s: 30, ..Policy::default() });
        w.resident("A", "p1");
        w.see("gate-in", "X");
        w.pass_ms(apart_ms);
        w.see("gate-in", "X");
        assert_eq!(w.present("gate-in", "A"), if is_locked { "locked_out" } else { "granted" }, "{apart_ms} ms");
    }
}
