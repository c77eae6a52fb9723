//! Requests that repeat, commands, standing modes, fire: what portals and their watchers may count on.

use dormgate::access::change::ErrorCode;
use dormgate::access::decision::Reason;
use dormgate::access::engine::{MALFORMED_SHOWN_MS, MALFORMED_WINDOW_MS};
use dormgate::access::event::{AlarmKind, Event, EventKind};
use dormgate::access::id::{ClockTrust, Timestamp};
use dormgate::access::input::{ClockChange, Command, CommandKind, Input, Operator, PortalReport, Presented, Request};
use dormgate::access::portal::{Direction, Posture};
use dormgate::access::state::{COMMAND_MEMORY_MS, COMMANDS_MAX};

use crate::world::{APARTMENT, BEGIN_MS, World, name, op, uid};

fn release(portal: &str) -> CommandKind {
    CommandKind::Release { portal: name(portal) }
}

#[test]
fn the_same_number_gets_the_same_denial_for_a_minute_and_no_second_event() {
    let mut w = World::new();
    let first = w.see_as("gate-in", "A", "7");
    assert_eq!((first.reason(), first.recorded().contains(&EventKind::Decision)), ("unknown_credential", true));
    w.resident("A", "p1");
    w.pass_ms(59_999);
    let again = w.see_as("gate-in", "A", "7");
    assert_eq!((again.reason(), again.recorded()), ("unknown_credential", vec![]));
    w.pass_ms(1);
    assert_eq!(w.see_as("gate-in", "A", "7").reason(), "granted");
}

#[test]
fn a_grant_is_repeated_only_while_it_would_still_be_given() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.see_as("gate-in", "A", "7");
    assert_eq!(w.see_as("gate-in", "A", "7").recorded(), []);
    w.publish(vec![op::report_lost("uid:A")]);
    let seen = w.see_as("gate-in", "A", "7");
    assert_eq!((seen.reason(), seen.recorded()[0]), ("lost", EventKind::Decision));
    // The denial is now what is repeated.
    w.publish(vec![op::found("uid:A")]);
    assert_eq!(w.see_as("gate-in", "A", "7").reason(), "lost");
}

#[test]
fn another_card_or_another_portal_under_the_same_number_is_a_new_request() {
    let mut w = World::new();
    w.resident("A", "p1");
    assert_eq!(w.see_as("gate-in", "A", "7").reason(), "granted");
    assert_eq!(w.see_as("gate-in", "X", "7").reason(), "unknown_credential");
    assert_eq!(w.see_as("door-413", "A", "7").reason(), "no_entitlement");
}

#[test]
fn a_repeated_malformed_request_is_audited_once() {
    let mut w = World::new();
    let request = Request { id: Some("9".to_owned()), ..w.request("gate-in", Presented::Malformed("zz".to_owned())) };
    assert!(w.input(Input::Request(request.clone())).recorded().contains(&EventKind::Decision));
    let again = w.input(Input::Request(request));
    assert_eq!((again.reason(), again.recorded()), ("malformed_identifier", vec![]));
}

#[test]
fn requests_without_a_number_are_each_their_own() {
    let mut w = World::new();
    let request = w.request("gate-in", Presented::Card(uid("X")));
    for _ in 0..2 {
        assert!(w.input(Input::Request(request.clone())).recorded().contains(&EventKind::Decision));
    }
}

#[test]
fn a_retained_request_opens_nothing_not_even_outwards() {
    let mut w = World::new();
    w.resident("A", "p1");
    for portal in ["gate-in", "gate-out", "door-412", "power-412"] {
        let request = Request { stale: true, ..w.request(portal, Presented::Card(uid("A"))) };
        let seen = w.input(Input::Request(request));
        assert_eq!(seen.reason(), "stale_request", "{portal}");
        assert!(seen.recorded().contains(&EventKind::Decision));
    }
    w.fire("gate-in", true);
    let request = Request { stale: true, ..w.request("gate-in", Presented::Card(uid("A"))) };
    assert_eq!(w.input(Input::Request(request)).reason(), "stale_request");
    assert!(!w.is_on("power-412"));
}

#[test]
fn a_request_at_a_portal_that_is_not_ours_is_answered_and_audited() {
    let mut w = World::new();
    let seen = w.see("gate-99", "A");
    assert_eq!((seen.reason(), seen.recorded()), ("unknown_portal", vec![EventKind::Decision]));
}

#[test]
fn leaving_is_never_refused() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::cancel("uid:A")]);
    for posture in Posture::ALL {
        w.publish(vec![op::posture("*", posture, None)]);
        for card in ["A", "X", "phone"] {
            assert_eq!(w.present("gate-out", card), "exit", "{posture:?} {card}");
            let outwards =
                Request { direction: Some(Direction::Out), ..w.request("gate-both", Presented::Card(uid(card))) };
            assert_eq!(w.input(Input::Request(outwards)).reason(), "exit");
        }
        let seen = w.report("door-412", PortalReport { exit_button: true, ..PortalReport::default() });
        assert_eq!(seen.openings(), 1);
    }
    let malformed = w.request("gate-out", Presented::Malformed(String::new()));
    assert_eq!(w.input(Input::Request(malformed)).reason(), "exit");
    // The audit reports what would have been the reason.
    let seen = w.see("gate-out", "A");
    let event = &seen.records().next().unwrap().event;
    let Event::Decision { also, .. } = &event.body else { panic!("{event:?}") };
    assert!(also.contains(Reason::Cancelled));
    // A reader may not turn an entrance into an exit.
    let inwards = Request { direction: Some(Direction::Out), ..w.request("gate-in", Presented::Card(uid("X"))) };
    w.publish(vec![op::posture("*", Posture::Secure, None)]);
    assert_eq!(w.input(Input::Request(inwards)).reason(), "unknown_credential");
}

#[test]
fn a_command_acts_once_also_after_a_restart() {
    let mut w = World::new();
    let seen = w.command("j1", release("gate-in"));
    assert_eq!((seen.reply().status.as_str(), seen.openings()), ("ok", 1));
    for _ in 0..2 {
        let again = w.command("j1", release("gate-in"));
        assert_eq!((again.reply().status.as_str(), again.openings()), ("duplicate", 0));
        w.assert_replay_is_life();
        w.restart();
    }
    assert_eq!(w.journal.iter().filter(|r| r.event.kind() == EventKind::Command).count(), 3);
}

#[test]
fn a_reply_waits_for_the_record_of_its_command() {
    let mut w = World::new();
    let seen = w.command("j1", release("door-412"));
    let after = seen.0.iter().find_map(|e| match e {
        dormgate::access::effect::Effect::Reply { after, .. } => Some(*after),
        _ => None,
    });
    assert_eq!(after, Some(seen.records().last().unwrap().event.n));
}

fn command_of(w: &World, jti: &str, iat_ms: i64, exp_ms: i64) -> Input {
    Input::Command(Command {
        stream: name(APARTMENT),
        jti: jti.to_owned(),
        iat: Timestamp(w.now().wall.0 + iat_ms),
        exp: Timestamp(w.now().wall.0 + exp_ms),
        actor: None,
        kind: release("gate-in"),
    })
}

#[test]
fn a_command_that_is_expired_or_of_the_future_or_cannot_be_dated_opens_nothing() {
    let mut w = World::new();
    for (iat, exp, status) in [(-30_000, 0, "expired"), (-29_999, 1, "ok"), (30_001, 60_000, "rejected")] {
        let command = command_of(&w, &format!("j{iat}"), iat, exp);
        let seen = w.input(command);
        assert_eq!((seen.reply().status.as_str(), seen.openings()), (status, usize::from(status == "ok")));
    }
    w.clock = ClockTrust::Untrusted;
    let seen = w.command("j9", release("gate-in"));
    assert_eq!((seen.reply().status.as_str(), seen.openings()), ("rejected", 0));
    assert!(seen.reply().error.as_ref().unwrap().message.contains("clock"));
}

#[test]
fn a_command_for_the_wrong_kind_of_portal_reports_what_to_use() {
    let mut w = World::new();
    let power = CommandKind::Power { portal: name("gate-in"), on: true };
    for (kind, word) in [(release("power-412"), "power"), (power, "release"), (release("gate-99"), "gate-99")] {
        let seen = w.command("j", kind);
        assert_eq!((seen.reply().status.as_str(), seen.openings()), ("rejected", 0));
        assert!(seen.reply().error.as_ref().unwrap().message.contains(word));
    }
    // A refused one was not taken, so its id may come again.
    assert_eq!(w.command("j", release("gate-in")).reply().status.as_str(), "ok");
}

#[test]
fn a_command_for_a_portal_known_to_be_offline_fails_and_opens_nothing() {
    let mut w = World::new();
    let gone = || PortalReport { online: Some(false), ..PortalReport::default() };
    let power = |on| CommandKind::Power { portal: name("power-412"), on };
    for (portal, kind) in [("gate-in", release("gate-in")), ("power-412", power(true)), ("power-412", power(false))] {
        w.report(portal, gone());
        let seen = w.command(&format!("{kind:?}"), kind);
        assert_eq!((seen.reply().status.as_str(), seen.openings()), ("failed", 0));
        assert!(seen.reply().error.as_ref().unwrap().message.contains("offline"));
    }
    w.report("gate-in", PortalReport { online: Some(true), ..PortalReport::default() });
    assert_eq!(w.command("j", release("gate-in")).reply().status.as_str(), "ok");
    // A link that names the cause tries: of several devices one may be away and the lock at work.
    let reader_away = PortalReport { cause: Some("unit 5 does not answer".into()), ..gone() };
    w.report("gate-in", reader_away);
    assert_eq!(w.command("j2", release("gate-in")).openings(), 1);
}

#[test]
fn a_portal_that_sends_wrong_fields_is_named_and_more_than_five_in_a_minute_are_an_alarm() {
    let mut w = World::new();
    let wrong = |n: usize| PortalReport { malformed: vec!["`fire`: wrong".into(); n], ..PortalReport::default() };
    assert_eq!(w.report("gate-in", wrong(5)).alarms(), []);
    assert_eq!(w.engine.status(w.now()).portals_online, 0, "no sign of life");
    assert_eq!(w.report("gate-out", wrong(5)).alarms(), [], "another portal");
    w.pass_ms(MALFORMED_WINDOW_MS);
    assert_eq!(w.report("gate-in", wrong(3)).alarms(), []);
    let named = w.engine.status(w.now()).malformed;
    assert!(named.iter().any(|(portal, wrong)| portal.as_str() == "gate-in" && wrong.contains("`fire`: wrong")));
    let fire = PortalReport { fire: Some(true), ..wrong(3) };
    let seen = w.report("gate-in", fire);
    assert_eq!(seen.alarms(), [AlarmKind::PortalMalformed, AlarmKind::Fire]);
    w.pass_ms(MALFORMED_SHOWN_MS);
    assert_eq!(w.engine.status(w.now()).malformed, []);
}

#[test]
fn a_flood_of_commands_blocks_others_only_until_it_has_expired() {
    let mut w = World::new();
    for i in 0..COMMANDS_MAX {
        assert_eq!(w.command(&format!("j{i}"), release("gate-in")).reply().status.as_str(), "ok");
    }
    assert_eq!(w.command("one-more", release("gate-in")).reply().status.as_str(), "rejected");
    w.pass_ms(30_000 + u64::try_from(COMMAND_MEMORY_MS).unwrap() + 1);
    assert_eq!(w.command("later", release("gate-in")).reply().status.as_str(), "ok");
    assert_eq!(w.engine.state().commands.len(), 1);
    w.assert_replay_is_life();
}

#[test]
fn a_query_reports_what_would_be_decided_and_opens_nothing() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::freeze("uid:A")]);
    let seen = w.command("q", CommandKind::Query { uid: uid("A"), portal: None });
    assert_eq!((seen.openings(), seen.reply().verdicts.len()), (0, w.portals.len()));
    let of = |id: &str| seen.reply().verdicts.iter().find(|v| v.portal.as_str() == id).unwrap();
    assert_eq!((of("gate-in").granted, of("gate-in").reason, of("gate-out").reason), (false, "frozen", "exit"));
    assert_eq!(of("power-413").also, ["no_entitlement"]);
}

#[test]
fn a_command_that_this_version_cannot_carry_out_is_rejected_and_reports_so() {
    let mut w = World::new();
    let seen = w.command("f", CommandKind::Forgive { uid: None });
    let reply = seen.reply();
    assert_eq!((reply.status.as_str(), reply.error.as_ref().unwrap().code), ("rejected", ErrorCode::UnknownOp));
    assert!(reply.error.as_ref().unwrap().message.contains("forgive"));
}

#[test]
fn the_strongest_posture_of_center_operator_and_fire_is_in_force() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::posture("*", Posture::FreeAccess, None)]);
    assert_eq!(w.present("gate-in", "X"), "free_access");
    w.operator("gate-in", Posture::OutOfService);
    assert_eq!((w.present("gate-in", "A"), w.present("door-412", "X")), ("out_of_service", "free_access"));
    w.publish(vec![op::posture("gate-in", Posture::Lockdown, None)]);
    assert_eq!(w.present("gate-in", "A"), "out_of_service", "what an operator closed opens for nobody");
    w.publish(vec![op::enrol_staff("A", "p1", "gate:*")]);
    assert_eq!(w.present("gate-in", "A"), "out_of_service", "staff included");
    w.operator("gate-in", Posture::Secure);
    assert_eq!(w.present("gate-in", "A"), "granted", "a lockdown lets staff in");
    w.fire("door-413", true);
    assert_eq!((w.present("gate-in", "X"), w.present("door-413", "X")), ("fire", "fire"));
    w.assert_replay_is_life();
}

#[test]
fn an_operators_posture_survives_a_restart_and_one_for_all_replaces_those_for_one() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.operator("gate-in", Posture::Lockdown);
    let seen = w.restart();
    assert!(seen.modes().contains(&("gate-in", Posture::Lockdown)));
    assert_eq!(w.present("gate-in", "A"), "lockdown");
    let seen = w.operator("", Posture::Secure);
    assert_eq!(seen.modes(), [("gate-in", Posture::Secure)]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn a_posture_ends_at_its_end_and_no_older_one_comes_back() {
    let mut w = World::new();
    w.publish(vec![op::posture("*", Posture::FreeAccess, None)]);
    w.publish(vec![op::posture("gate-in", Posture::Lockdown, Some(BEGIN_MS + 60_000))]);
    assert_eq!((w.present("gate-in", "X"), w.present("door-412", "X")), ("lockdown", "free_access"));
    let seen = w.pass_s(60);
    assert_eq!(seen.modes(), [("gate-in", Posture::Secure)]);
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    // The newer of `*` and the portal's own counts.
    let seen = w.publish(vec![op::posture("*", Posture::FreeAccess, None)]);
    assert_eq!(seen.modes(), [("gate-in", Posture::FreeAccess)]);
}

#[test]
fn a_portal_is_reported_its_mode_before_anything_is_written() {
    let mut w = World::new();
    use dormgate::access::effect::{Effect, PortalOrder};
    for seen in [w.publish(vec![op::posture("*", Posture::Lockdown, None)]), w.fire("gate-in", true)] {
        let mode = seen.0.iter().rposition(|e| matches!(e, Effect::Order(PortalOrder::Mode { .. }))).unwrap();
        let records = |kind| move |e: &Effect| matches!(e, Effect::Record(r) if r.event.kind() == kind);
        let first = seen.0.iter().position(|e| records(EventKind::ChangesApplied)(e) || records(EventKind::Posture)(e));
        assert!(mode < first.unwrap());
    }
}

#[test]
fn a_door_that_was_held_open_is_reported_to_close_although_the_gateway_was_away_when_it_ended() {
    let mut w = World::new();
    w.publish(vec![op::posture("*", Posture::FreeAccess, Some(BEGIN_MS + 60_000))]);
    w.elapsed_ms += 120_000;
    let seen = w.restart();
    assert!(seen.modes().contains(&("gate-in", Posture::Secure)), "{:?}", seen.modes());
}

#[test]
fn a_door_that_comes_back_is_reported_its_mode_also_when_it_is_secure() {
    let mut w = World::new();
    w.restart();
    w.publish(vec![op::posture("*", Posture::FreeAccess, None)]);
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    w.report("door-412", online(true));
    w.report("door-412", online(false));
    w.publish(vec![op::posture("*", Posture::Secure, None)]);
    assert_eq!(w.report("door-412", online(true)).modes(), [("door-412", Posture::Secure)]);
    // Also where the first sign of life is a card; and the mode comes before the answer, which it must not cut short.
    w.report("door-412", online(false));
    let seen = w.see("door-412", "X");
    assert_eq!(seen.modes(), [("door-412", Posture::Secure)]);
    assert!(matches!(
        seen.0[0],
        dormgate::access::effect::Effect::Order(dormgate::access::effect::PortalOrder::Mode { .. })
    ));
    assert_eq!(w.see("door-412", "X").modes(), []);
}

#[test]
fn the_status_names_who_is_away_and_what_is_not_secure() {
    let mut w = World::new();
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    let all: Vec<_> = w.portals.iter().map(|p| p.id.as_str().to_owned()).collect();
    all.iter().for_each(|portal| drop(w.report(portal, online(true))));
    w.report("door-412", online(false));
    w.operator("gate-in", Posture::Lockdown);
    let status = w.engine.status(w.now());
    assert_eq!(status.offline.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["door-412"]);
    assert_eq!(usize::try_from(status.portals_online).unwrap(), all.len() - 1);
    assert_eq!(status.modes, [("gate-in".parse().unwrap(), Posture::Lockdown)]);
    w.fire("gate-in", true);
    assert_eq!(w.engine.status(w.now()).modes.len(), all.len(), "a fire is everywhere");
}

#[test]
fn a_fire_releases_everything_until_the_input_is_clear_and_an_operator_resets_it() {
    let mut w = World::new();
    w.publish(vec![op::posture("*", Posture::Lockdown, None)]);
    let seen = w.fire("power-412", true);
    assert_eq!(seen.modes().len(), 5, "every gate and door");
    assert_eq!(seen.alarms(), [AlarmKind::Fire]);
    assert_eq!(w.present("gate-in", "X"), "fire");
    let reset = || Input::Operator(Operator::FireReset { force: false });
    w.input(reset());
    assert_eq!(w.present("gate-in", "X"), "fire", "the input is not clear");
    assert!(w.engine.fire_reset_refusal(false).unwrap().contains("power-412"));
    w.fire("power-412", false);
    assert_eq!(w.engine.fire_reset_refusal(false), None);
    assert_eq!(w.present("gate-in", "X"), "fire", "nobody reset it");
    w.restart();
    assert_eq!(w.present("gate-in", "X"), "fire", "a restart is no reset");
    let seen = w.input(reset());
    assert!(seen.modes().iter().all(|(_, posture)| *posture == Posture::Lockdown));
    assert_eq!(w.present("gate-in", "X"), "lockdown");
    assert!(w.engine.fire_reset_refusal(false).unwrap().contains("no fire latch"));
    w.assert_replay_is_life();
    w.restart();
    assert_eq!(w.present("gate-in", "X"), "lockdown");
}

#[test]
fn fire_inputs_survive_a_restart_and_those_of_a_portal_that_is_gone_are_set_aside_only_by_force() {
    let mut w = World::new();
    let online = |w: &mut World, portal: &str, online| {
        w.report(portal, PortalReport { online: Some(online), ..PortalReport::default() })
    };
    let reset = |w: &mut World, force| w.input(Input::Operator(Operator::FireReset { force }));
    w.fire("power-412", true);
    w.fire("door-413", true);
    assert_eq!(w.fire("door-413", true).recorded(), [], "one event an input");
    w.assert_replay_is_life();
    w.restart();
    assert!(w.engine.fire_reset_refusal(false).unwrap().contains("door-413, power-412"), "a restart forgets no input");
    online(&mut w, "power-412", true);
    online(&mut w, "door-413", false);
    assert!(w.engine.fire_reset_refusal(true).unwrap().contains("still active at power-412"), "it is there and burns");
    reset(&mut w, true);
    assert_eq!(w.present("gate-in", "X"), "fire");
    w.fire("power-412", false);
    w.assert_replay_is_life();
    reset(&mut w, false);
    assert_eq!(w.present("gate-in", "X"), "fire", "an input that is offline is not set aside without a word");
    assert!(w.engine.fire_reset_refusal(false).unwrap().contains("--force"));
    let seen = reset(&mut w, true);
    let aside = |r: &&dormgate::access::event::Record| r.event.body.detail().contains("door-413");
    assert_eq!(seen.records().filter(aside).count(), 1, "audited");
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    w.assert_replay_is_life();
    // It comes back and still burns.
    w.fire("door-413", true);
    assert_eq!(w.present("gate-in", "X"), "fire");
    // A portal that is not configured any more.
    w.portals.retain(|p| p.id.as_str() != "door-413");
    w.restart();
    assert!(w.engine.fire_reset_refusal(false).is_some());
    reset(&mut w, true);
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
}

#[test]
fn a_portal_without_fire_input_puts_nothing_in_fire() {
    let mut w = World::new();
    w.portals.iter_mut().filter(|p| p.id.as_str() == "gate-both").for_each(|p| p.fire_input = false);
    w.restart();
    let seen = w.fire("gate-both", true);
    assert_eq!(seen.alarms(), [AlarmKind::Fire], "somebody should look");
    assert!(seen.modes().iter().all(|(_, posture)| *posture == Posture::Secure));
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    w.fire("gate-in", true);
    w.fire("gate-in", false);
    w.input(Input::Operator(Operator::FireReset { force: false }));
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
}

#[test]
fn a_gate_whose_absence_went_unnoticed_is_reported_once_more_what_it_was_reported_meanwhile() {
    let mut w = World::new();
    let online = || PortalReport { online: Some(true), ..PortalReport::default() };
    w.report("gate-in", online());
    w.operator("", Posture::FreeAccess);
    w.report("gate-in", online());
    // The local broker is away, and with it the gate's last will; nobody keeps the order for the gate.
    w.operator("", Posture::Lockdown);
    assert_eq!(w.report("gate-in", online()).modes(), [("gate-in", Posture::Lockdown)]);
    assert_eq!(w.report("gate-in", online()).modes(), [], "it received it this time");
}

#[test]
fn a_clock_set_back_brings_the_modes_it_is_time_for() {
    let mut w = World::new();
    w.publish(vec![op::posture("gate-in", Posture::Lockdown, Some(BEGIN_MS + 60_000))]);
    w.pass_s(61);
    w.wall_off_ms = -30_000;
    let seen = w.input(Input::Clock(ClockChange::Step { by_ms: -30_000 }));
    assert_eq!(seen.modes(), [("gate-in", Posture::Lockdown)]);
}

#[test]
fn the_engine_sleeps_when_nothing_is_to_come() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.present("gate-in", "A");
    assert_eq!(w.engine.next_deadline(), None);
}

#[test]
fn a_portal_that_reported_why_it_is_offline_is_back_when_it_reports_so_and_not_when_a_part_of_it_sends() {
    let mut w = World::new();
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    w.report("door-412", online(true));
    let cause = Some("unit 3 on `riser-2`: no answer within 200 ms".to_owned());
    let seen = w.report("door-412", PortalReport { cause, ..online(false) });
    assert_eq!(seen.recorded(), [EventKind::PortalOffline, EventKind::Alarm]);
    // Its reader and its contact are other devices than its relay.
    let contact = PortalReport { contact_open: Some(false), ..PortalReport::default() };
    assert_eq!(w.report("door-412", contact.clone()).recorded(), []);
    let seen = w.see("door-412", "X");
    assert!(!seen.recorded().contains(&EventKind::PortalOnline), "{:?}", seen.recorded());
    assert_eq!(w.report("door-412", contact).recorded(), []);
    let seen = w.report("door-412", online(true));
    assert_eq!(seen.recorded(), [EventKind::PortalOnline]);
    assert_eq!(seen.modes().len(), 1, "what it was reported meanwhile may be lost");
}

#[test]
fn the_cascade_tag_of_a_longer_uid_is_malformed_and_leaving_stays_free() {
    let mut w = World::new();
    assert_eq!(w.present("gate-in", "8804A1B2"), "malformed_identifier");
    assert_eq!(w.present("door-412", "8804A1B2"), "malformed_identifier");
    assert_eq!(w.present("gate-out", "8804A1B2"), "exit");
}
