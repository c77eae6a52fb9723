//! Anti-passback: a card does not enter an area twice without leaving it; who is not known to be inside is never refused.

use dormgate::access::engine::Engine;
use dormgate::access::event::ReplyStatus;
use dormgate::access::id::{ClockTrust, Timestamp};
use dormgate::access::input::{CardSet, CommandKind, Input, Operator, Presented, Request};
use dormgate::access::policy::{AreaRule, Policy, Severity};
use dormgate::access::portal::{Direction, Portal, PortalKind, Posture};

use crate::world::{World, name, op, portals, uid};

fn policy(anti_passback: Severity) -> Policy {
    Policy { anti_passback, clone: Severity::Off, ..Policy::default() }
}

fn with(anti_passback: Severity) -> World {
    let mut w = World::with(policy(anti_passback));
    w.resident("A", "p1");
    w
}

fn hard() -> World {
    with(Severity::Deny)
}

#[test]
fn in_in_without_out_is_denied_flagged_or_nothing() {
    for (mode, expected) in
        [(Severity::Deny, "anti_passback"), (Severity::Flag, "granted soft_anti_passback"), (Severity::Off, "granted")]
    {
        let mut w = with(mode);
        assert_eq!(w.see("gate-in", "A").verdict(), "granted");
        w.pass_ms(600_000);
        assert_eq!(w.see("gate-in", "A").verdict(), expected, "{mode:?}");
        assert_eq!(w.see("gate-out", "A").verdict(), "exit");
        assert_eq!(w.see("gate-in", "A").verdict(), "granted");
        w.assert_replay_is_life();
    }
}

#[test]
fn an_area_is_all_its_gates_and_no_door_is_one() {
    let mut w = hard();
    w.see("gate-in", "A");
    let inwards = |w: &mut World, portal: &str| {
        let request = w.request(portal, Presented::Card(uid("A")));
        w.input(Input::Request(Request { direction: Some(Direction::In), ..request })).verdict()
    };
    assert_eq!(inwards(&mut w, "gate-both"), "anti_passback");
    assert_eq!((inwards(&mut w, "door-412"), inwards(&mut w, "door-412")), ("granted".into(), "granted".into()));
    // A passage of which the direction is not known is neither judged nor remembered.
    assert_eq!((w.present("gate-both", "A"), w.present("gate-both", "A")), ("granted", "granted"));
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
}

#[test]
fn exit_is_always_granted_with_also() {
    let mut w = hard();
    assert_eq!(w.see("gate-out", "A").verdict(), "exit", "never seen before");
    assert_eq!(w.see("gate-out", "A").verdict(), "exit anti_passback");
    let mut w = with(Severity::Flag);
    w.see("gate-out", "A");
    assert_eq!(w.see("gate-out", "A").verdict(), "exit soft_anti_passback");
}

#[test]
fn edge_swipe_but_no_pass_in_5_s_not_taken_apb_unchanged() {
    let mut w = hard();
    // The gate has a pass input, as it has once shown.
    w.passed("gate-in", Direction::In);
    w.see("gate-in", "A");
    let seen = w.pass_ms(13_000);
    assert_eq!(seen.recorded().iter().map(|kind| kind.as_str()).collect::<Vec<_>>(), ["not_taken"]);
    assert_eq!(w.present("gate-in", "A"), "granted", "it did not pass");
    w.pass_ms(3_000 + 10_000);
    w.passed("gate-in", Direction::In);
    assert_eq!(w.present("gate-in", "A"), "granted", "that was somebody else");
    w.passed("gate-in", Direction::In);
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
    // That it reports passing survives a restart.
    w.see("gate-out", "A");
    w.restart();
    w.see("gate-in", "A");
    assert_eq!(w.present("gate-in", "A"), "granted");
    assert!(w.pass_ms(13_000).recorded().iter().any(|kind| kind.as_str() == "not_taken"));
    w.assert_replay_is_life();
}

#[test]
fn the_same_request_again_is_the_same_entry() {
    let mut w = hard();
    assert_eq!(w.see_as("gate-in", "A", "7").verdict(), "granted");
    let again = w.see_as("gate-in", "A", "7");
    assert_eq!((again.verdict().as_str(), again.recorded()), ("granted", vec![]));
    assert_eq!(w.see_as("gate-in", "A", "8").verdict(), "anti_passback");
    assert_eq!(w.see_as("gate-in", "A", "8").verdict(), "anti_passback");
    // With the flags of the first time.
    let mut w = with(Severity::Flag);
    for _ in 0..2 {
        assert_eq!(w.see_as("gate-in", "A", "7").verdict(), "granted");
    }
    for _ in 0..2 {
        assert_eq!(w.see_as("gate-in", "A", "8").verdict(), "granted soft_anti_passback");
    }
}

#[test]
fn edge_same_uid_twice_in_5_s_one_event() {
    let mut all = portals();
    all.iter_mut().filter(|p| p.kind == PortalKind::Gate).for_each(|p| p.debounce_ms = 5_000);
    let mut w = World::of(policy(Severity::Deny), all, Vec::new());
    w.resident("A", "p1");
    w.see("gate-in", "A");
    w.pass_ms(4_999);
    let again = w.see("gate-in", "A");
    assert_eq!((again.verdict().as_str(), again.recorded()), ("granted", vec![]));
    w.pass_ms(1);
    assert_eq!(w.see("gate-in", "A").verdict(), "anti_passback");
}

#[test]
fn forgiven_by_a_command_or_an_operator_for_one_card_or_all() {
    let mut w = hard();
    w.resident("R", "p2");
    let both_enter = |w: &mut World| {
        w.see("gate-in", "A");
        w.see("gate-in", "R");
        assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "R")), ("anti_passback", "anti_passback"));
    };
    both_enter(&mut w);
    let reply = w.command("j1", CommandKind::Forgive { uid: CardSet::One(uid("A")) });
    assert_eq!(reply.reply().status, ReplyStatus::Ok);
    assert_eq!((w.present("gate-in", "R"), w.present("gate-in", "A")), ("anti_passback", "granted"));
    w.command("j2", CommandKind::Forgive { uid: CardSet::All });
    both_enter(&mut w);
    w.input(Input::Operator(Operator::Forgive { cards: CardSet::All }, None));
    w.restart();
    both_enter(&mut w);
    w.assert_replay_is_life();
    // Of a card that nobody has seen there is nothing to forgive.
    let reply = w.command("j3", CommandKind::Forgive { uid: CardSet::One(uid("B")) });
    assert_eq!(reply.reply().status, ReplyStatus::Ok);
}

#[test]
fn after_free_access_and_after_a_fire_nobody_is_known_to_be_inside() {
    for posture in [Posture::FreeAccess, Posture::Fire] {
        let mut w = hard();
        w.see("gate-in", "A");
        w.operator("gate-out", posture);
        assert_eq!(w.present("gate-in", "A"), "anti_passback", "the gate inwards is shut");
        w.operator("gate-in", posture);
        assert_eq!(w.see("gate-in", "A").verdict(), posture.as_str());
        w.operator("gate-in gate-out", Posture::Secure);
        assert_eq!(w.present("gate-in", "A"), "granted", "after {posture:?}");
        assert_eq!(w.present("gate-in", "A"), "anti_passback");
        w.assert_replay_is_life();
    }
}

#[test]
fn free_access_of_one_area_forgets_nothing_of_another() {
    let wing = |id: &str, direction| Portal {
        direction: Some(direction),
        ..Portal::new(name(id), PortalKind::Gate, name("wing"))
    };
    let mut all = portals();
    all.extend([wing("wing-in", Direction::In), wing("wing-out", Direction::Out)]);
    let mut w = World::of(policy(Severity::Deny), all, Vec::new());
    w.resident("A", "p1");
    w.see("gate-in", "A");
    w.see("wing-in", "A");
    w.operator("wing-in", Posture::FreeAccess);
    w.operator("wing-in", Posture::Secure);
    assert_eq!((w.present("wing-in", "A"), w.present("gate-in", "A")), ("granted", "anti_passback"));
}

#[test]
fn free_access_that_ended_while_the_gateway_was_away_is_forgotten_all_the_same() {
    let mut w = hard();
    let until = Some(Timestamp(w.now().wall.0 + 60_000));
    w.publish(vec![dormgate::access::change::Op::SetPosture {
        portals: dormgate::access::change::PortalSet::All,
        posture: Posture::FreeAccess,
        until,
    }]);
    w.see("gate-in", "A");
    w.elapsed_ms += 120_000;
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "granted");
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "anti_passback", "once");
    // Whoever had entered before it began is not known to be inside either.
    let until = Some(Timestamp(w.now().wall.0 + 60_000));
    w.publish(vec![dormgate::access::change::Op::SetPosture {
        portals: dormgate::access::change::PortalSet::All,
        posture: Posture::FreeAccess,
        until,
    }]);
    w.elapsed_ms += 120_000;
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn state_is_kept_over_a_restart_unless_events_were_lost() {
    let mut w = hard();
    w.see("gate-in", "A");
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
    let last = w.engine.state().last_n;
    w.input(Input::Lost { from: last + 1, to: last + 1 });
    assert_eq!(w.present("gate-in", "A"), "granted");
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
    w.assert_replay_is_life();
}

fn timed(area_ms: u64, gate_ms: u64) -> World {
    // One gate, and no way out that is read.
    let gate = |id: &str| Portal {
        direction: Some(Direction::In),
        anti_passback_timed_ms: gate_ms,
        ..Portal::new(name(id), PortalKind::Gate, name("lobby"))
    };
    let policy = Policy { anti_passback_timed_ms: area_ms, ..policy(Severity::Deny) };
    let mut w = World::of(policy, vec![gate("gate-in"), gate("gate-2")], Vec::new());
    w.issue("A", "p1").enrol("A", "p1", "gate:*");
    w
}

#[test]
fn an_area_whose_way_out_is_not_read_denies_nobody_without_a_time() {
    let mut w = timed(0, 0);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "A")), ("granted", "granted"));
}

#[test]
fn timed_re_entry_to_an_area_is_denied_for_that_time_at_each_of_its_gates() {
    let mut w = timed(600_000, 0);
    w.see("gate-in", "A");
    w.pass_ms(599_999);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-2", "A")), ("anti_passback", "anti_passback"));
    w.pass_ms(1);
    assert_eq!(w.present("gate-2", "A"), "granted");
}

#[test]
fn timed_re_entry_at_a_gate_is_denied_at_that_gate_only() {
    let mut w = timed(0, 600_000);
    w.see("gate-in", "A");
    w.pass_ms(599_999);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-2", "A")), ("anti_passback", "granted"));
    w.pass_ms(1);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn whoever_was_read_on_the_way_out_may_come_back_within_the_time() {
    let mut all = portals();
    all.iter_mut().filter(|p| p.kind == PortalKind::Gate).for_each(|p| p.anti_passback_timed_ms = 600_000);
    let mut w = World::of(Policy { anti_passback_timed_ms: 600_000, ..policy(Severity::Deny) }, all, Vec::new());
    w.resident("A", "p1");
    w.see("gate-in", "A");
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
    w.see("gate-out", "A");
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn the_time_is_measured_by_the_monotonic_clock_and_over_a_restart_by_a_trusted_wall_clock() {
    let mut w = timed(600_000, 0);
    w.see("gate-in", "A");
    w.wall_off_ms = 86_400_000;
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
    w.wall_off_ms = 0;
    w.pass_ms(300_000);
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
    w.clock = ClockTrust::Untrusted;
    assert_eq!(w.present("gate-2", "A"), "granted", "how long ago it was is not known");
    w.clock = ClockTrust::Trusted;
    w.restart();
    w.pass_ms(600_000);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn an_area_may_differ_from_the_policy() {
    let areas = vec![AreaRule { zone: name("lobby"), anti_passback: Severity::Deny, timed_ms: 0 }];
    let mut w = World::with(Policy { areas, ..policy(Severity::Off) });
    w.resident("A", "p1");
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "A")), ("granted", "anti_passback"));
}

#[test]
fn a_card_that_nobody_knows_leaves_no_trace_and_a_denied_one_does_not_move() {
    let mut w = hard();
    w.see("gate-out", "Z");
    w.see("gate-out", "phone");
    w.publish(vec![op::freeze("uid:A")]);
    w.see("gate-in", "A");
    assert_eq!(w.engine.state().presence.all().count(), 0);
    w.publish(vec![op::unfreeze("uid:A")]);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn it_works_without_any_network_from_the_state_alone() {
    let mut w = hard();
    w.see("gate-in", "A");
    let state = w.folded();
    w.engine = Engine::new(w.setup.clone(), state);
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
}

#[test]
fn forgiven_daily_at_the_set_time_also_while_the_gateway_was_away() {
    // The tests begin at 08:00 in the time zone of the gateway, Asia/Shanghai.
    let mut w = World::with(Policy { forgive_at_min: Some(12 * 60), ..policy(Severity::Deny) });
    w.resident("A", "p1");
    w.see("gate-in", "A");
    w.pass_s(4 * 3_600 - 1);
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
    w.pass_s(1);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.pass_s(3_600);
    assert_eq!(w.present("gate-in", "A"), "anti_passback", "once a day");
    w.elapsed_ms += 23 * 3_600_000;
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn a_release_that_its_gate_did_not_do_does_not_count_against_the_next_one() {
    let failed = || Input::Released { portal: name("gate-in"), failed: Some("not confirmed within 60 ms".to_owned()) };
    let mut w = hard();
    w.present("gate-in", "A");
    w.input(failed());
    w.assert_replay_is_life();
    assert_eq!(w.present("gate-in", "A"), "granted", "nobody has passed");
    assert_eq!(w.present("gate-in", "A"), "anti_passback", "that one was done");
    // Where passing is reported, a release is no passage anyway.
    w.passed("gate-in", Direction::In);
    w.input(failed());
    assert_eq!(w.present("gate-in", "A"), "anti_passback");
    w.assert_replay_is_life();
}
