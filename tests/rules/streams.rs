//! Streams: numbers without holes, heads as goals, and lost data. `asks` has what is asked for again.

use dormgate::access::change::{ErrorCode, Head, NoteCode, OpError};
use dormgate::access::decision::{Decision, GrantFlag};
use dormgate::access::effect::Outcome;
use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::input::{ClockChange, Input, Operator, TrustedBy};
use dormgate::access::policy::Policy;

use dormgate::access::id::{ClockTrust, Timestamp};
use dormgate::access::portal::Posture;

use crate::asks::asks;
use crate::damaged::RESIDENT;
use crate::snapshots::{entries_of, send};
use crate::world::{APARTMENT, BEGIN_MS, OFFICE, World, at, name, op, uid};

#[test]
fn an_ack_reports_what_was_received_and_what_is_missing() {
    let mut w = World::new();
    let seen = w.publish_at(OFFICE, at(3, 5), vec![op::issue("A", "p1")]);
    let ack = seen.ack();
    assert_eq!((ack.outcome, ack.applied_through, ack.missing.clone()), (Outcome::Applied, 0, vec![(1, 4)]));
    let seen = w.publish_at(OFFICE, at(3, 5), vec![op::issue("A", "p1")]);
    assert_eq!((seen.ack().outcome, seen.recorded().len()), (Outcome::Duplicate, 0));
    // What counts in the third epoch is no answer about the second.
    let seen = w.publish_at(OFFICE, at(2, 9), vec![op::issue("A", "p1")]);
    let ack = seen.ack();
    assert_eq!((ack.outcome, ack.applied_through, ack.missing.clone()), (Outcome::Stale, 0, vec![]));
    for seq in 1..=4 {
        w.publish_at(OFFICE, at(3, seq), vec![op::issue("R", "p2")]);
    }
    assert_eq!(w.engine.state().streams[OFFICE].through, 5);
    w.assert_replay_is_life();
}

#[test]
fn a_message_refused_for_its_content_uses_up_its_number_also_after_a_restart() {
    let mut w = World::new();
    let error = OpError { op: Some(0), code: ErrorCode::InvalidUid, message: "no".to_owned() };
    let input = w.message(OFFICE, at(1, 1), Err(vec![error]));
    let seen = w.input(input);
    let (after, ack) = seen.ack_after();
    assert_eq!((ack.outcome, ack.applied_through, ack.errors.len()), (Outcome::Rejected, 1, 1));
    assert_eq!(after, seen.records().last().unwrap().event.n);
    w.assert_replay_is_life();
    w.restart();
    assert_eq!(w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]).ack().outcome, Outcome::Duplicate);
}

#[test]
fn a_first_head_is_a_goal_and_until_it_is_reached_an_unnamed_card_is_unknown() {
    let mut w = World::new();
    w.enrol("A", "p1", RESIDENT).enrol("B", "p2", RESIDENT);
    assert_eq!(w.present("power-412", "A"), "granted", "no head is known");
    let seen = w.head(OFFICE, at(1, 3));
    assert_eq!(seen.cuts(), [("power-412", "unknown_credential")]);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    w.publish_at(OFFICE, at(1, 3), vec![op::issue("B", "p2")]);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("unknown_credential", "granted"));
    // The goal survives a restart, and a later head is no further goal.
    w.assert_replay_is_life();
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    w.head(OFFICE, at(1, 9));
    w.publish_at(OFFICE, at(1, 2), vec![op::cancel("uid:R")]);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("R", "p3")]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn the_first_head_is_a_goal_also_when_a_message_came_before_it() {
    let mut w = World::new();
    w.enrol("A", "p1", RESIDENT);
    w.publish_at(OFFICE, at(1, 7), vec![op::issue("B", "p2")]);
    w.head(OFFICE, at(1, 7));
    assert_eq!(w.present("gate-in", "A"), "unknown_credential", "its revocation may be on its way");
    w.assert_replay_is_life();
    for seq in 1..=6 {
        w.publish_at(OFFICE, at(1, seq), vec![op::issue("R", "p3")]);
    }
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn a_gateway_that_was_away_goes_on_with_the_list_it_has() {
    let mut w = World::new();
    w.enrol("A", "p1", RESIDENT);
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("B", "p2")]);
    w.head(OFFICE, at(1, 1));
    w.restart();
    w.head(OFFICE, at(1, 40));
    assert_eq!(w.present("gate-in", "A"), "granted", "no first head since it was new");
    w.assert_replay_is_life();
}

#[test]
fn the_head_of_the_apartment_center_is_no_goal_for_the_standing_of_cards() {
    let mut w = World::new();
    w.head(APARTMENT, at(1, 5));
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn a_new_epoch_does_not_make_an_incomplete_list_whole() {
    let mut w = World::new();
    w.enrol("A", "p1", RESIDENT);
    w.head(OFFICE, at(3, 1_042));
    // The center restarts its numbering: what it reported in epoch 3 is still not here.
    w.publish_at(OFFICE, at(4, 1), vec![op::issue("B", "p2")]);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    // Its new head reports how far the new numbering goes.
    w.head(OFFICE, at(4, 2));
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    w.assert_replay_is_life();
    w.publish_at(OFFICE, at(4, 2), vec![op::issue("R", "p3")]);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential", "what epoch 3 had is in none of these");
    w.assert_replay_is_life();
    send(&mut w, OFFICE, at(4, 2), &entries_of(OFFICE, &[vec![op::issue("B", "p2")]]));
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn a_new_gateway_reaches_the_first_head_of_any_epoch_by_its_messages() {
    let mut w = World::new();
    w.link_up();
    w.enrol("A", "p1", RESIDENT);
    w.head(OFFICE, at(3, 2));
    w.publish_at(OFFICE, at(3, 2), vec![op::issue("B", "p2")]);
    assert_eq!(asks(&mut w, 2_000)[0].1, "gap");
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    w.publish_at(OFFICE, at(3, 1), vec![op::issue("R", "p3")]);
    assert_eq!(w.present("gate-in", "A"), "granted", "the gateway knows of no earlier epoch");
    w.assert_replay_is_life();
}

#[test]
fn a_gateway_that_was_still_filled_when_a_later_epoch_began_waits_for_a_snapshot_of_it() {
    let mut w = World::new();
    w.link_up();
    w.enrol("A", "p1", RESIDENT);
    w.head(OFFICE, at(1, 100));
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("B", "p2")]);
    w.head(OFFICE, at(2, 1));
    w.publish_at(OFFICE, at(2, 1), vec![op::issue("R", "p3")]);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential", "epoch 1 may have revoked it");
    w.assert_replay_is_life();
    w.restart();
    w.link_up();
    assert_eq!(asks(&mut w, 6_000)[0].1, "epoch");
    send(&mut w, OFFICE, at(2, 1), &entries_of(OFFICE, &[vec![op::report_lost("uid:A")]]));
    assert_eq!(w.present("gate-in", "A"), "lost");
    w.assert_replay_is_life();
}

#[test]
fn a_center_that_has_published_nothing_in_a_later_epoch_locks_out_no_gateway_that_lost_nothing() {
    let mut w = World::new();
    w.link_up();
    w.enrol("A", "p1", RESIDENT);
    w.head(OFFICE, at(2, 0));
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.restart();
    w.head(OFFICE, at(2, 0));
    w.publish_at(OFFICE, at(2, 1), vec![op::issue("B", "p2")]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn the_largest_numbers_break_nothing() {
    let mut w = World::new();
    w.link_up();
    for seq in [u64::MAX, u64::MAX - 1, 1, 2] {
        let seen = w.publish_at(OFFICE, at(u32::MAX, seq), vec![op::issue("R", "p3")]);
        assert_eq!(seen.ack().outcome, Outcome::Applied);
        w.head(OFFICE, at(u32::MAX, seq));
        w.pass_s(40);
    }
    assert_eq!(w.engine.state().streams[OFFICE].missing(), [(3, u64::MAX - 2)]);
    assert_eq!(w.engine.status(w.now()).streams.len(), 2);
    w.assert_replay_is_life();
}

#[test]
fn a_card_without_issue_is_unknown_where_the_site_requires_it() {
    let mut w = World::with(Policy { require_issue: true, ..Policy::default() });
    w.enrol("A", "p1", RESIDENT).enrol("B", "p2", RESIDENT);
    assert_eq!(w.present("power-412", "A"), "unknown_credential");
    w.issue("A", "p1");
    assert_eq!(w.present("power-412", "A"), "granted");
    // Nothing else names the other card.
    assert_eq!(w.present("gate-in", "B"), "unknown_credential");
    w.publish(vec![op::withdraw("uid:B")]);
    assert_eq!(w.present("gate-in", "B"), "not_enrolled", "it has no enrolment");
    // What it may and loses counts as revoked, and what it never might does not.
    w.enrol("B", "p2", RESIDENT);
    let seen = w.publish(vec![op::withdraw("uid:A"), op::withdraw("uid:B")]);
    assert_eq!(seen.ack().revoked, [uid("A")]);
}

#[test]
fn a_huge_number_cannot_end_a_stream() {
    let mut w = World::new();
    w.publish_at(OFFICE, at(3, 41), vec![op::issue("A", "p1")]);
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    for high in [at(1_004, 1), at(u32::MAX, 1), at(3, 1_000_042), at(3, u64::MAX), at(4, u64::MAX)] {
        let before = w.engine.state().streams[OFFICE].clone();
        let seen = w.publish_at(OFFICE, high, vec![op::cancel("uid:A")]);
        let ack = seen.ack();
        assert_eq!((ack.outcome, ack.errors[0].code), (Outcome::Rejected, ErrorCode::Implausible), "{high:?}");
        w.head(OFFICE, high);
        assert_eq!(w.engine.state().streams[OFFICE], before, "it uses up nothing");
    }
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
    w.restart();
    // A message at the limits counts, and what heads report is known too.
    assert_eq!(w.publish_at(OFFICE, at(1_003, 5), vec![op::issue("A", "p1")]).ack().outcome, Outcome::Applied);
    w.head(OFFICE, at(1_003, 900_000));
    assert_eq!(w.publish_at(OFFICE, at(1_003, 1_900_000), vec![op::issue("A", "p1")]).ack().outcome, Outcome::Applied);
    // A gateway that has nothing of a stream takes what comes.
    assert_eq!(
        World::new().publish_at(OFFICE, at(9_000, 1 << 40), vec![op::issue("A", "p1")]).ack().outcome,
        Outcome::Applied
    );
}

#[test]
fn a_forgotten_stream_begins_again_and_what_is_known_against_cards_stays() {
    let mut w = World::new();
    // A stolen key used up high numbers, step by step.
    for (card, holder) in [("A", "p1"), ("B", "p2"), ("R", "p3")] {
        w.publish_at(APARTMENT, at(1, 1), vec![op::enrol(card, holder, RESIDENT)]);
        w.counters.get_mut(APARTMENT).unwrap().1 += 1;
        let next = w.engine.state().streams[APARTMENT].through + 1;
        w.publish_at(APARTMENT, at(1, next), vec![op::enrol(card, holder, RESIDENT)]);
    }
    w.publish_at(OFFICE, at(900, 1), vec![op::issue("A", "p1"), op::issue("B", "p2"), op::issue("R", "p3")]);
    w.publish_at(OFFICE, at(900, 2), vec![op::report_lost("uid:A"), op::cancel("p2")]);
    w.present("power-412", "R");
    let forget = |w: &mut World| w.input(Input::Operator(Operator::StreamForget { stream: name(OFFICE) }, None));
    let seen = forget(&mut w);
    assert_eq!(seen.recorded(), [EventKind::Config]);
    assert_eq!(w.engine.status(w.now()).streams[0].epoch, 0);
    let reasons = |w: &mut World| ["A", "B", "R"].map(|card| w.present("gate-in", card));
    assert_eq!(reasons(&mut w), ["lost", "cancelled", "granted"]);
    w.assert_replay_is_life();
    w.restart();
    assert_eq!(reasons(&mut w), ["lost", "cancelled", "granted"]);
    w.link_up();
    assert_eq!(asks(&mut w, 2_000)[0].1, "empty", "all of it is asked for");
    // The center begins again, and what it reports now overrides all that was known.
    let all = vec![op::issue("A", "p1"), op::issue("B", "p2"), op::reissue("p3", "X", None), op::found("uid:A")];
    assert_eq!(w.publish_at(OFFICE, at(1, 1), all).ack().outcome, Outcome::Applied);
    assert_eq!(reasons(&mut w), ["granted", "cancelled", "replaced"]);
    w.assert_replay_is_life();
}

#[test]
fn what_reached_nobody_and_cards_of_two_holders_are_noted_and_the_latter_alarm() {
    let mut w = World::new();
    w.resident("A", "p1");
    let mut notes = |ops| {
        let seen = w.publish(ops);
        let notes: Vec<_> = seen.ack().notes.iter().map(|note| (note.op, note.code)).collect();
        assert_eq!(seen.ack().outcome, Outcome::Applied);
        (notes, seen.alarms().len())
    };
    assert_eq!(notes(vec![op::withdraw("8193021"), op::withdraw("p1")]), (vec![(0, NoteCode::NoEffect)], 0));
    assert_eq!(notes(vec![op::report_lost("p1"), op::freeze("nobody")]), (vec![(1, NoteCode::NoEffect)], 0));
    let lock = |portals| vec![op::posture(portals, Posture::Lockdown, None)];
    assert_eq!(notes(lock("gate-inn")), (vec![(0, NoteCode::NoEffect)], 0));
    assert_eq!(notes(lock("gate-inn gate-in")), (vec![], 0));
    // What clears and finds nothing to clear. It may come before what it clears, so what it wrote counts all the same.
    for nothing in [op::withdraw("uid:X"), op::unfreeze("uid:C"), op::reinstate("0A0B0C0D"), op::power("499", true)] {
        assert_eq!(notes(vec![nothing]), (vec![(0, NoteCode::NoEffect)], 0));
    }
    assert_eq!(notes(vec![op::power("412", true), op::power("412", false)]), (vec![], 0));
    assert_eq!(notes(vec![op::freeze("uid:A"), op::unfreeze("uid:A")]), (vec![], 0));
    assert_eq!(notes(vec![op::found("uid:A"), op::found("uid:A")]), (vec![(1, NoteCode::NoEffect)], 0));
    assert_eq!(notes(vec![op::report_lost("uid:R"), op::found("uid:R")]), (vec![], 0));
    assert_eq!(notes(vec![op::enrol("A", "p2", RESIDENT)]), (vec![(0, NoteCode::HolderDiffers)], 1));
    assert_eq!(notes(vec![op::issue("B", "p3"), op::issue("B", "p4")]), (vec![(1, NoteCode::SharedUid)], 1));
    assert_eq!(notes(vec![op::issue("A", "p2"), op::reissue("p2", "R", Some("A"))]), (vec![], 0));
}

/// The gateway cannot know that the enrolment was made for the person before: the registers of the two offices have no common order,
/// and no snapshot carries to whom a card was issued before. So it is reported, with what to do.
#[test]
fn a_card_given_to_another_person_keeps_its_enrolment_until_it_is_withdrawn_and_that_is_reported() {
    let mut w = World::new();
    w.resident("A", "p1");
    let seen = w.publish(vec![op::reissue("p9", "A", None)]);
    let [note] = &seen.ack().notes[..] else { panic!("{:?}", seen.ack().notes) };
    assert_eq!((note.code, seen.alarms()), (NoteCode::HolderDiffers, vec![AlarmKind::List]));
    assert!(note.message.contains("withdraw it: until then it opens what `p1` was enrolled for"), "{}", note.message);
    assert_eq!(w.present("door-412", "A"), "granted");
    w.publish(vec![op::withdraw("uid:A")]);
    assert_eq!(w.present("door-412", "A"), "not_enrolled");
    w.enrol("A", "p9", "door:413");
    assert_eq!((w.present("door-412", "A"), w.present("door-413", "A")), ("no_entitlement", "granted"));
}

#[test]
fn a_list_is_as_old_as_the_newest_message_that_was_made_not_that_arrived() {
    let mut w = World::with(Policy { stale_after_s: 60, ..Policy::default() });
    let stale = |w: &mut World| match w.see("gate-in", "A").decision() {
        Decision::Grant(grant) => grant.flags().contains(GrantFlag::StaleList),
        Decision::Deny(denial) => panic!("{denial:?}"),
    };
    let age = |w: &World, place: usize| w.engine.status(w.now()).streams[place].age_s;
    w.enrol("A", "p1", RESIDENT);
    assert_eq!((age(&w, 0), age(&w, 1), stale(&mut w)), (None, Some(0), false), "the office was never received");
    w.pass_s(61);
    w.enrol("A", "p1", RESIDENT);
    assert!(stale(&mut w), "a list never received is as old as the gateway's run");
    let made_at = w.now().wall;
    w.issue("A", "p1");
    assert!(!stale(&mut w));
    w.pass_s(50);
    w.enrol("A", "p1", RESIDENT);
    // A broker that hands out an old head for ever.
    let head = |iat| Input::Head(Head { stream: name(OFFICE), at: at(1, 1), iat, cards: 0, digest: String::new() });
    w.input(head(Some(made_at)));
    assert_eq!((age(&w, 0), stale(&mut w)), (Some(50), false));
    w.pass_s(11);
    w.input(head(Some(made_at)));
    assert_eq!((age(&w, 0), stale(&mut w)), (Some(61), true));
    // A center whose clock is ahead does not make its list young for longer.
    w.input(head(Some(Timestamp(made_at.0 + 1_000_000_000))));
    assert_eq!((age(&w, 0), stale(&mut w)), (Some(0), false));
    w.pass_s(30);
    assert_eq!(age(&w, 0), Some(30));
}

#[test]
fn the_age_of_a_list_does_not_follow_a_clock_that_cannot_be_trusted() {
    for (off_ms, restarts) in [(1_000_000_000_000, false), (-1_000_000_000_000, false), (1_000_000_000_000, true)] {
        let mut w = World::new();
        let age = |w: &World| w.engine.status(w.now()).streams[0].age_s;
        w.issue("A", "p1");
        (w.wall_off_ms, w.clock) = (off_ms, ClockTrust::Untrusted);
        if restarts {
            w.restart();
        }
        w.pass_s(50);
        assert_eq!(age(&w), Some(50), "off by {off_ms} ms");
        // What the center made two days later, by its own clock, and the time that passes then.
        let iat = Some(Timestamp(BEGIN_MS + 2 * 86_400_000));
        let head = Head { stream: name(OFFICE), at: at(1, 1), iat, cards: 0, digest: String::new() };
        for expected in [0, 20] {
            w.input(Input::Head(head.clone()));
            assert_eq!(age(&w), Some(expected), "an old head that is handed out again changes nothing");
            w.pass_s(20);
        }
        // That center was wrong, as the clock shows that is trusted again.
        (w.wall_off_ms, w.clock) = (0, ClockTrust::Trusted);
        w.input(Input::Clock(ClockChange::Trusted(TrustedBy::CaughtUp)));
        w.pass_s(5);
        assert_eq!(age(&w), Some(5));
    }
}
