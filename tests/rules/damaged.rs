//! A list whose store lost events: nothing is granted from it until the center has sent it again.

use dormgate::access::effect::Effect;
use dormgate::access::event::{AlarmKind, Event, EventKind, GapCause};
use dormgate::access::input::{Input, Operator};
use dormgate::access::policy::{Policy, RevokePower};

use crate::asks::asks;
use crate::snapshots::{entries_of, send};
use crate::world::{APARTMENT, OFFICE, Seen, World, at, name, op};

/// So long nothing new may have come before a list without a head is trusted, in milliseconds.
const DAMAGE_QUIET_MS: u64 = 10_000;
pub const RESIDENT: &str = "gate:* door:412 power_box:412";

/// A gateway whose store lost events: received through 2 before the loss, in truth through 4, where A was cancelled.
pub fn damaged() -> World {
    damaged_with(Policy::default())
}

fn damaged_with(policy: Policy) -> World {
    let mut w = World::with(policy);
    w.head(OFFICE, at(1, 0));
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT), op::enrol("B", "p2", RESIDENT)]);
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
    w.publish_at(OFFICE, at(1, 2), vec![op::issue("B", "p2")]);
    w.present("power-412", "B");
    w.restart();
    let (from, to) = (w.journal.last().unwrap().event.n + 1, w.journal.last().unwrap().event.n + 10);
    let effects = w.engine.damaged(from, to, w.now());
    w.keep(effects);
    w.restart();
    w
}

#[test]
fn nothing_is_granted_from_a_damaged_list_and_boxes_go_off() {
    let mut w = damaged();
    assert!(!w.is_on("power-412"));
    assert_eq!((w.present("gate-in", "A"), w.present("gate-out", "A")), ("unknown_credential", "exit"));
    w.publish_at(APARTMENT, at(1, 2), vec![op::withdraw("uid:A")]);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential", "that it is enrolled for nothing may be what was lost");
    w.assert_replay_is_life();
}

#[test]
fn what_the_audit_alone_lacks_is_an_event_and_puts_no_list_in_doubt() {
    let mut w = World::new();
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
    let seen = w.input(Input::AuditLost { from: 1, to: 2 });
    let bodies: Vec<_> = seen.records().map(|record| record.event.body.clone()).collect();
    assert_eq!(bodies, [Event::LogGap { from: 1, to: 2, cause: GapCause::AuditDamaged, ranges: vec![] }]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn a_damaged_list_is_whole_again_when_the_centers_head_is_reached_and_not_before() {
    let mut w = damaged();
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT), op::enrol("B", "p2", RESIDENT)]);
    w.head(APARTMENT, at(1, 1));
    // All that the gateway remembers to have received is here again, but it had received more.
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
    w.publish_at(OFFICE, at(1, 2), vec![op::issue("B", "p2")]);
    assert_eq!(w.present("gate-in", "B"), "unknown_credential");
    w.head(OFFICE, at(1, 4));
    assert_eq!(w.present("gate-in", "B"), "unknown_credential");
    w.publish_at(OFFICE, at(1, 4), vec![op::cancel("uid:A")]);
    assert_eq!(w.present("gate-in", "A"), "cancelled", "what is known against a card holds");
    w.assert_replay_is_life();
    w.publish_at(OFFICE, at(1, 3), vec![op::issue("R", "p3")]);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("cancelled", "granted"));
    w.assert_replay_is_life();
}

#[test]
fn a_box_whose_delay_runs_because_of_a_damaged_list_stays_on_when_any_change_makes_the_list_whole() {
    let mut w = damaged_with(Policy { revoke_power: RevokePower::AfterDelay, ..Policy::default() });
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT), op::enrol("B", "p2", RESIDENT)]);
    w.head(APARTMENT, at(1, 1));
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
    w.publish_at(OFFICE, at(1, 2), vec![op::issue("B", "p2")]);
    w.head(OFFICE, at(1, 3));
    w.pass_s(10);
    assert!(w.is_on("power-412"));
    w.publish_at(OFFICE, at(1, 3), vec![op::issue("R", "p3")]);
    assert_eq!(w.pass_s(60).cuts(), []);
}

#[test]
fn without_a_head_a_damaged_list_is_whole_again_when_nothing_new_came_for_10_s_and_nothing_is_missing() {
    let mut w = damaged();
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT), op::enrol("B", "p2", RESIDENT)]);
    w.head(APARTMENT, at(1, 1));
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
    w.pass_ms(DAMAGE_QUIET_MS);
    assert_eq!(w.present("gate-in", "B"), "unknown_credential", "it had received more");
    w.publish_at(OFFICE, at(1, 2), vec![op::issue("B", "p2")]);
    w.publish_at(OFFICE, at(1, 4), vec![op::cancel("uid:A")]);
    w.pass_ms(DAMAGE_QUIET_MS);
    assert_eq!(w.present("gate-in", "B"), "unknown_credential", "there is a hole");
    w.publish_at(OFFICE, at(1, 3), vec![op::issue("R", "p3")]);
    w.pass_ms(DAMAGE_QUIET_MS - 1);
    assert_eq!(w.present("gate-in", "B"), "unknown_credential");
    w.pass_ms(1);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("cancelled", "granted"));
    w.assert_replay_is_life();
}

/// The apartment center has sent its list again; of the card office a later epoch comes first.
fn apartment_again(mut w: World) -> World {
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT), op::enrol("B", "p2", RESIDENT)]);
    w.head(APARTMENT, at(1, 1));
    w
}

#[test]
fn a_new_epoch_does_not_repair_a_damaged_list_before_a_snapshot_of_it() {
    // Its head comes before its change, or after, or again when there is more of it.
    for heads in [[None, Some(1)], [Some(1), None], [Some(0), Some(1)], [Some(0), Some(0)]] {
        let mut w = apartment_again(damaged());
        heads[0].into_iter().for_each(|seq| drop(w.head(OFFICE, at(2, seq))));
        w.publish_at(OFFICE, at(2, 1), vec![op::issue("R", "p3")]);
        heads[1].into_iter().for_each(|seq| drop(w.head(OFFICE, at(2, seq))));
        for _ in 0..2 {
            w.pass_ms(2 * DAMAGE_QUIET_MS);
            assert_eq!(w.present("gate-in", "B"), "unknown_credential", "{heads:?}");
            w.assert_replay_is_life();
            w.restart();
        }
        w.link_up();
        assert_eq!(asks(&mut w, 2_000)[0].1, "epoch", "{heads:?}");
        send(&mut w, OFFICE, at(2, 1), &entries_of(OFFICE, &[vec![op::cancel("uid:A"), op::issue("B", "p2")]]));
        assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("cancelled", "granted"), "{heads:?}");
        w.assert_replay_is_life();
    }
}

#[test]
fn a_head_of_a_later_epoch_without_a_message_makes_no_damaged_list_whole() {
    let mut w = apartment_again(damaged());
    w.head(OFFICE, at(2, 0));
    for _ in 0..2 {
        assert_eq!(w.present("gate-in", "B"), "unknown_credential");
        // All of the epoch before that the gateway remembers; but it had received more.
        w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
        w.publish_at(OFFICE, at(1, 2), vec![op::issue("B", "p2")]);
        w.pass_ms(2 * DAMAGE_QUIET_MS);
        assert_eq!(w.present("gate-in", "B"), "unknown_credential");
        w.assert_replay_is_life();
        w.restart();
        w.head(OFFICE, at(2, 0));
    }
    // Nothing is known of the stream at all: an earlier epoch there was.
    let mut w = World::new();
    let effects = w.engine.damaged(w.journal.last().unwrap().event.n + 1, 100, w.now());
    w.keep(effects);
    let mut w = apartment_again(w);
    w.head(OFFICE, at(2, 0));
    assert_eq!(w.present("gate-in", "B"), "unknown_credential");
    w.publish_at(OFFICE, at(2, 1), vec![op::issue("R", "p3")]);
    assert_eq!(w.present("gate-in", "B"), "unknown_credential");
    send(&mut w, OFFICE, at(2, 1), &entries_of(OFFICE, &[vec![op::issue("R", "p3")]]));
    assert_eq!(w.present("gate-in", "B"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn what_a_snapshot_brought_of_earlier_epochs_is_not_repaired_by_the_changes_of_its_own() {
    let lost = || entries_of(OFFICE, &[vec![op::report_lost("uid:A")], vec![op::issue("B", "p2")]]);
    let mut w = World::new();
    w.publish_at(OFFICE, at(2, 1), vec![op::issue("B", "p2")]);
    send(&mut w, OFFICE, at(2, 1), &lost());
    // The disk has neither what the snapshot brought nor that it came.
    w.journal.retain(|r| !matches!(&r.event.body, Event::ChangesApplied { snapshot: Some(_), .. }));
    w.restart();
    let effects = w.engine.damaged(w.journal.last().unwrap().event.n + 1, 100, w.now());
    w.keep(effects);
    let mut w = apartment_again(w);
    w.link_up();
    w.head(OFFICE, at(2, 1));
    w.publish_at(OFFICE, at(2, 1), vec![op::issue("B", "p2")]);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    assert_eq!(asks(&mut w, 2_000)[0].1, "corrupt");
    w.pass_ms(2 * DAMAGE_QUIET_MS);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    send(&mut w, OFFICE, at(2, 1), &lost());
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("lost", "granted"));
    w.assert_replay_is_life();
}

#[test]
fn a_revocation_that_is_on_disk_shows_that_its_stream_lost_a_change() {
    let mut w = World::new();
    let enrols = || vec![op::enrol("A", "p1", RESIDENT)];
    w.publish_at(APARTMENT, at(1, 1), enrols());
    w.publish_at(OFFICE, at(1, 1), vec![op::report_lost("p1")]);
    // All that the disk had of the office, but not that it cut A.
    w.journal.retain(
        |r| !matches!(&r.event.body, Event::ChangesApplied { revision, .. } if revision.stream == name(OFFICE)),
    );
    assert_eq!(w.journal.last().unwrap().event.kind(), EventKind::Revoked);
    w.restart();
    let effects = w.engine.damaged(3, 3, w.now());
    w.keep(effects);
    w.publish_at(APARTMENT, at(1, 1), enrols());
    w.head(APARTMENT, at(1, 1));
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    w.assert_replay_is_life();
    w.publish_at(OFFICE, at(1, 1), vec![op::report_lost("p1")]);
    w.head(OFFICE, at(1, 1));
    assert_eq!(w.present("gate-in", "A"), "lost");
    w.assert_replay_is_life();
}

#[test]
fn an_older_head_does_not_make_a_list_whole_that_lost_a_change_of_which_the_revocation_is_on_disk() {
    let mut w = World::new();
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
    w.publish_at(OFFICE, at(1, 2), vec![op::report_lost("p1")]);
    // The change, and not that it revoked A.
    w.journal.retain(|r| !matches!(&r.event.body, Event::ChangesApplied { revision, .. } if revision.seq == 2));
    w.restart();
    let effects = w.engine.damaged(3, 3, w.now());
    w.keep(effects);
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
    w.head(APARTMENT, at(1, 1));
    // As a broker may have kept it from before the loss.
    w.head(OFFICE, at(1, 1));
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    w.publish_at(OFFICE, at(1, 2), vec![op::report_lost("p1")]);
    assert_eq!(w.present("gate-in", "A"), "lost");
    w.assert_replay_is_life();
}

#[test]
fn a_stream_of_which_nothing_is_known_may_have_lost_a_revocation_with_the_rest() {
    let enrols = || vec![op::enrol("A", "p1", RESIDENT)];
    for forgotten in [false, true] {
        let mut w = World::new();
        w.publish_at(APARTMENT, at(1, 1), enrols());
        if forgotten {
            w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
            w.input(Input::Operator(Operator::StreamForget { stream: name(OFFICE) }, None));
        }
        assert_eq!(w.present("gate-in", "A"), "granted");
        // As after a backup from before the loss was reported is restored, for instance.
        let (from, to) = (w.journal.last().unwrap().event.n + 1, w.journal.last().unwrap().event.n + 10);
        w.restart();
        let effects = w.engine.damaged(from, to, w.now());
        w.keep(effects);
        for _ in 0..2 {
            w.publish_at(APARTMENT, at(1, 1), enrols());
            w.head(APARTMENT, at(1, 1));
            w.pass_ms(2 * DAMAGE_QUIET_MS);
            assert_eq!(w.present("gate-in", "A"), "unknown_credential", "the office has not sent again: {forgotten}");
            w.assert_replay_is_life();
            w.restart();
        }
        w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
        w.head(OFFICE, at(1, 2));
        assert_eq!(w.present("gate-in", "A"), "unknown_credential");
        w.publish_at(OFFICE, at(1, 2), vec![op::report_lost("p1")]);
        assert_eq!(w.present("gate-in", "A"), "lost");
        w.assert_replay_is_life();
    }
}

#[test]
fn a_center_that_has_published_nothing_makes_a_damaged_list_whole_with_its_head() {
    let mut w = World::new();
    let enrols = || vec![op::enrol("A", "p1", RESIDENT)];
    w.publish_at(APARTMENT, at(1, 1), enrols());
    let effects = w.engine.damaged(w.journal.last().unwrap().event.n + 1, 100, w.now());
    w.keep(effects);
    w.publish_at(APARTMENT, at(1, 1), enrols());
    w.head(APARTMENT, at(1, 1));
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    w.head(OFFICE, at(1, 0));
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn audit_numbers_go_on_after_a_loss_and_the_loss_is_an_event() {
    let w = damaged();
    let numbers: Vec<_> = w.journal.iter().map(|r| r.event.n).collect();
    let gap = w.journal.iter().position(|r| r.event.kind() == EventKind::LogGap).unwrap();
    let Event::LogGap { from, to, .. } = w.journal[gap].event.body else { unreachable!() };
    assert_eq!((numbers[gap - 1] + 1, to + 1), (from, numbers[gap]));
}

#[test]
fn forgetting_a_damaged_stream_does_not_make_its_list_whole() {
    let mut w = damaged();
    w.input(Input::Operator(Operator::StreamForget { stream: name(OFFICE) }, None));
    assert_eq!(w.present("gate-in", "B"), "unknown_credential");
    w.assert_replay_is_life();
}

/// The alarms `list` among these: whether each is an end.
fn list_alarms(seen: &Seen) -> Vec<bool> {
    let of_list = |effect: &Effect| match effect {
        Effect::Alarm(alarm) if alarm.kind == AlarmKind::List => Some(alarm.ended),
        _ => None,
    };
    seen.0.iter().filter_map(of_list).collect()
}

#[test]
fn the_alarm_of_a_list_that_is_not_whole_ends_when_it_is() {
    for restart in [false, true] {
        let mut w = World::new();
        assert_eq!(list_alarms(&w.head(OFFICE, at(1, 3))), [false]);
        assert_eq!(list_alarms(&w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")])), [false; 0]);
        if restart {
            // Whoever starts with such a list raises it again, and so it ends.
            assert_eq!(list_alarms(&w.restart()), [false]);
        }
        let seen = w.publish_at(OFFICE, at(1, 3), vec![op::cancel("uid:A")]);
        assert_eq!(list_alarms(&seen), [false; 0], "message 2 is missing");
        assert_eq!(list_alarms(&w.publish_at(OFFICE, at(1, 2), vec![op::issue("B", "p2")])), [true], "{restart}");
        assert_eq!(list_alarms(&w.publish_at(OFFICE, at(1, 4), vec![op::issue("R", "p3")])), [false; 0]);
        assert_eq!(list_alarms(&w.restart()), [false; 0]);
        w.assert_replay_is_life();
    }
}

#[test]
fn the_alarm_and_the_status_name_the_streams_that_a_damaged_list_waits_for_and_what_to_do() {
    let mut w = damaged();
    let streams = |w: &World| w.engine.status(w.now()).damaged.iter().map(ToString::to_string).collect::<Vec<_>>();
    let remedy =
        "if the center of one sends nothing, have it publish a head, or remove the stream from the configuration";
    let alarm = |seen: &Seen| seen.details(AlarmKind::List).join("|");
    assert_eq!(
        alarm(&w.restart()),
        format!(
            "the store lost a part of the list of apartment, card-office; nothing is granted until they are sent again: {remedy}"
        )
    );
    assert_eq!(streams(&w), [OFFICE, APARTMENT]);
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    w.head(APARTMENT, at(1, 1));
    assert_eq!(streams(&w), [OFFICE]);
    assert!(alarm(&w.restart()).contains("the list of card-office; nothing"));
    // A stream that is not configured any more holds nothing up.
    w.setup.streams.retain(|role| role.name == name(APARTMENT));
    assert_eq!((alarm(&w.restart()), streams(&w)), (String::new(), vec![]));
    assert_ne!(w.present("gate-in", "A"), "unknown_credential");
}

#[test]
fn the_alarm_of_a_damaged_list_ends_when_it_is_whole() {
    let mut w = damaged();
    assert_eq!(list_alarms(&w.restart()), [false]);
    let mut seen = w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]).0;
    seen.extend(w.head(APARTMENT, at(1, 1)).0);
    seen.extend(w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]).0);
    seen.extend(w.publish_at(OFFICE, at(1, 2), vec![op::issue("B", "p2")]).0);
    assert_eq!(list_alarms(&Seen(seen)), [false; 0]);
    assert_eq!(list_alarms(&w.head(OFFICE, at(1, 2))), [true]);
}
