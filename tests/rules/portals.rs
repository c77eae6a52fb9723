//! Requests that repeat, commands, and portals that are away: what portals and their watchers may count on.

use dormgate::access::decision::{GrantReason, Reason};
use dormgate::access::effect::Effect;
use dormgate::access::engine::{LINK_LOST_MS, MALFORMED_SHOWN_MS, MALFORMED_WINDOW_MS};
use dormgate::access::event::{AlarmKind, Event, EventKind, Flush, Outcome};
use dormgate::access::id::{ClockTrust, Timestamp};
use dormgate::access::input::{Command, CommandKind, Input, PortalReport, Presented, Request};
use dormgate::access::portal::{Direction, Posture};
use dormgate::access::state::{COMMAND_MEMORY_MS, COMMANDS_MAX};

use crate::world::{APARTMENT, Seen, World, name, op, uid};

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
    for posture in Posture::ALL.iter().copied() {
        w.publish(vec![op::posture("*", posture, None)]);
        for card in ["A", "X", "phone"] {
            assert_eq!(w.present("gate-out", card), "exit", "{posture:?} {card}");
            let outwards =
                Request { direction: Some(Direction::Out), ..w.request("gate-both", Presented::Card(uid(card))) };
            assert_eq!(w.input(Input::Request(outwards)).reason(), "exit");
        }
        let seen = w.report("door-412", PortalReport { exit_button: true, ..PortalReport::default() });
        assert_eq!(seen.openings(), 1);
        let also = seen.records().find_map(|record| match &record.event.body {
            Event::Decision { also, .. } => Some(*also),
            _ => None,
        });
        let against = match posture {
            Posture::Lockdown => Some(Reason::Lockdown),
            Posture::OutOfService => Some(Reason::OutOfService),
            Posture::Secure | Posture::FreeAccess | Posture::Fire => None,
        };
        assert_eq!(also.unwrap().iter().next(), against);
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
fn the_id_of_a_command_may_come_again_a_minute_after_its_exp_whether_or_not_another_command_came() {
    let memory_ms = u64::try_from(COMMAND_MEMORY_MS).unwrap();
    for with_another in [false, true] {
        let mut w = World::new();
        let ordered = |w: &mut World| {
            let command = command_of(w, "j1", 0, 5_000);
            let seen = w.input(command);
            (seen.reply().status.as_str(), seen.openings())
        };
        assert_eq!(ordered(&mut w), ("ok", 1));
        w.pass_ms(5_000 + memory_ms);
        if with_another {
            w.command("j2", release("gate-in"));
        }
        assert_eq!(ordered(&mut w), ("duplicate", 0), "the minute is not over");
        w.pass_ms(1);
        assert_eq!(ordered(&mut w), ("ok", 1), "another command: {with_another}");
        assert_eq!(ordered(&mut w), ("duplicate", 0));
        w.assert_replay_is_life();
    }
}

#[test]
fn a_reply_waits_for_the_record_of_its_command_only_where_an_id_is_remembered() {
    let mut w = World::new();
    let offline = PortalReport { online: Some(false), ..PortalReport::default() };
    w.report("gate-in", offline);
    let rows = [
        ("j1", "door-412", "ok"),
        ("j1", "door-412", "duplicate"),
        ("j2", "none", "rejected"),
        ("j3", "gate-in", "failed"),
    ];
    for (jti, portal, status) in rows {
        let seen = w.command(jti, release(portal));
        let after = seen.0.iter().find_map(|e| match e {
            dormgate::access::effect::Effect::Reply { after, .. } => Some(*after),
            _ => None,
        });
        let record = seen.records().find(|r| r.event.kind() == EventKind::Command).unwrap();
        let is_taken = ["ok", "failed"].contains(&status);
        assert_eq!((after, seen.reply().status.as_str()), (Some(if is_taken { record.event.n } else { 0 }), status));
        assert_eq!(record.flush == Flush::Now, is_taken, "{status}");
    }
}

#[test]
fn a_portal_that_was_closed_opens_by_no_command() {
    let mut w = World::new();
    for (posture, status) in [(Posture::OutOfService, "rejected"), (Posture::Lockdown, "ok"), (Posture::Secure, "ok")] {
        w.operator("gate-in", posture);
        let seen = w.command(posture.as_str(), release("gate-in"));
        let opens = usize::from(status == "ok");
        assert_eq!((seen.reply().status.as_str(), seen.openings()), (status, opens), "{posture:?}");
    }
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
fn while_the_broker_of_the_portals_is_away_nothing_that_opens_is_ordered_and_one_alarm_names_it() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.present("power-412", "A");
    let online = || PortalReport { online: Some(true), ..PortalReport::default() };
    for portal in ["gate-in", "power-412"] {
        w.report(portal, online());
    }
    let link = |lost: Option<&str>| Input::PortalLink {
        portals: vec![name("gate-in"), name("power-412")],
        lost: lost.map(str::to_owned),
    };
    let alarms = |seen: &Seen| -> Vec<(AlarmKind, bool)> {
        let alarm = |e: &Effect| if let Effect::Alarm(a) = e { Some((a.kind, a.ended)) } else { None };
        seen.0.iter().filter_map(alarm).collect()
    };
    w.input(link(Some("refused")));
    let seen = w.command("1", release("gate-in"));
    assert_eq!((seen.reply().status.as_str(), seen.openings()), ("failed", 0));
    // Of a broker that is restarted nothing is received.
    let mut seen = w.pass_ms(LINK_LOST_MS - 1);
    assert_eq!((alarms(&seen), w.engine.status(w.now()).portals_online), (vec![], 2));
    w.input(link(None));
    assert_eq!(w.command("2", release("gate-in")).reply().status.as_str(), "ok");
    seen = w.pass_ms(LINK_LOST_MS);
    assert_eq!((alarms(&seen), w.engine.status(w.now()).portals_online), (vec![], 2));

    w.input(link(Some("refused")));
    seen = w.pass_ms(LINK_LOST_MS);
    assert_eq!(alarms(&seen), [(AlarmKind::PortalOffline, false)]);
    assert_eq!(w.engine.status(w.now()).portals_online, 0);
    // Another portal has another link.
    assert_eq!(w.command("3", release("door-412")).reply().status.as_str(), "ok");
    assert_eq!(alarms(&w.input(link(None))), [(AlarmKind::PortalOffline, true)]);
    // Each portal reports when it is connected again, and the box was on all the time.
    w.report("gate-in", online());
    let back =
        PortalReport { card_present: Some(true), uid: Some(Presented::Card(uid("A"))), relay: Some(true), ..online() };
    w.report("power-412", back);
    assert_eq!((w.engine.status(w.now()).portals_online, w.is_on("power-412")), (2, true));
    w.assert_replay_is_life();
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
    let verdicts = &seen.reply().result.as_ref().unwrap().verdicts;
    assert_eq!((seen.openings(), verdicts.len()), (0, w.setup.portals.len()));
    let of = |id: &str| verdicts.iter().find(|v| v.portal.as_str() == id).unwrap();
    let outcomes = (of("gate-in").outcome, of("gate-out").outcome);
    assert_eq!(outcomes, (Outcome::Deny(Reason::Frozen), Outcome::Grant(GrantReason::Exit)));
    assert_eq!(of("power-413").also, [Reason::NoEntitlement]);
}

#[test]
fn the_engine_sleeps_when_nothing_is_to_come() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.present("gate-in", "A");
    assert_eq!(w.engine.next_deadline(), None);
}

#[test]
fn of_a_portal_of_several_devices_the_one_that_opens_it_counts_for_a_command() {
    let mut w = World::new();
    for (n, output_online, status) in [(0, false, "failed"), (1, true, "ok"), (2, false, "failed")] {
        let cause = Some("unit 3 on `riser-2`: the reply is malformed".to_owned());
        let output_online = Some(output_online);
        w.report("door-412", PortalReport { online: Some(false), cause, output_online, ..PortalReport::default() });
        let seen = w.command(&format!("j{n}"), release("door-412"));
        assert_eq!((seen.reply().status.as_str(), seen.openings()), (status, usize::from(status == "ok")));
    }
}

#[test]
fn a_portal_that_reported_why_it_is_offline_is_back_when_it_reports_so_and_not_when_a_part_of_it_sends() {
    let mut w = World::new();
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    w.report("door-412", online(true));
    let cause = Some("unit 3 on `riser-2`: no answer within 200 ms; check power, wiring and unit number".to_owned());
    let seen = w.report("door-412", PortalReport { cause, ..online(false) });
    assert_eq!(seen.recorded(), [EventKind::PortalOffline, EventKind::Alarm]);
    // Its reader and its contact are other devices than its relay.
    let contact = PortalReport { contact_open: Some(false), ..PortalReport::default() };
    assert_eq!(w.report("door-412", contact.clone()).recorded(), []);
    let seen = w.see("door-412", "X");
    assert!(!seen.recorded().contains(&EventKind::PortalOnline), "{:?}", seen.recorded());
    assert_eq!(w.report("door-412", contact).recorded(), []);
    let seen = w.report("door-412", online(true));
    assert_eq!(seen.recorded(), [EventKind::PortalOnline, EventKind::Alarm]);
    assert_eq!(seen.modes().len(), 1, "what it was reported meanwhile may be lost");
}

#[test]
fn the_cascade_tag_of_a_longer_uid_is_malformed_and_leaving_stays_free() {
    let mut w = World::new();
    assert_eq!(w.present("gate-in", "8804A1B2"), "malformed_identifier");
    assert_eq!(w.present("door-412", "8804A1B2"), "malformed_identifier");
    assert_eq!(w.present("gate-out", "8804A1B2"), "exit");
}
