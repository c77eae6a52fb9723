//! Rejected messages: a flood of them costs neither the disk nor the answer to others.

use dormgate::access::change::{ErrorCode, OpError};
use dormgate::access::effect::Effect;
use dormgate::access::engine::{REJECTIONS_RECORDED_MAX, REJECTIONS_WINDOW_MS};
use dormgate::access::event::{Event, EventKind, Flush, Record, ReplyStatus};
use dormgate::access::id::Timestamp;
use dormgate::access::input::{Command, CommandKind, Input, MessageKind, PortalReport, RejectedMessage};

use crate::world::{APARTMENT, OFFICE, Seen, World, at, name};

fn rejected(w: &mut World, kind: MessageKind) -> Seen {
    let received_at = w.now().wall;
    w.input(Input::Rejected(RejectedMessage {
        kind,
        claimed_stream: Some(name(OFFICE)),
        claimed_at: Some(at(1, 7)),
        claimed_jti: Some("j".to_owned()),
        error: OpError::message(ErrorCode::BadSignature, "no"),
        receipt: None,
        received_at,
    }))
}

#[test]
fn of_a_flood_of_rejected_messages_sixty_a_minute_and_their_count_are_recorded_and_none_is_flushed() {
    let mut w = World::new();
    let mut records = Vec::new();
    let begin = w.elapsed_ms;
    for _ in 0..10_000 {
        let seen = rejected(&mut w, MessageKind::Changes);
        records.extend(seen.records().cloned());
    }
    assert_eq!(records.len(), usize::try_from(REJECTIONS_RECORDED_MAX).unwrap());
    assert_eq!(rejected(&mut w, MessageKind::Head).records().count(), 1, "another kind has its own");
    let seen = w.pass_ms(REJECTIONS_WINDOW_MS);
    assert_eq!(w.elapsed_ms, begin + REJECTIONS_WINDOW_MS);
    let summary: Vec<_> = seen.records().cloned().collect();
    assert_eq!(summary.len(), 1, "{summary:?}");
    let more = 10_000 - u64::from(REJECTIONS_RECORDED_MAX);
    assert!(matches!(summary[0].event.body, Event::RejectedMessage { count, .. } if count == more), "{summary:?}");
    assert!(records.iter().chain(&summary).all(|r| r.flush == Flush::Soon));
    assert_eq!(rejected(&mut w, MessageKind::Changes).records().count(), 1, "the next minute begins");
    assert_eq!(w.pass_s(3_600).records().count(), 0);
    // Reports of portals that are not configured are rejected messages too.
    let report = || PortalReport { tamper: Some(true), ..Default::default() };
    let recorded: usize = (0..1_000).map(|_| w.report("nobody", report()).records().count()).sum();
    assert_eq!(recorded, usize::try_from(REJECTIONS_RECORDED_MAX).unwrap());
}

#[test]
fn a_rejected_command_is_answered_at_once_and_a_flood_of_them_is_not() {
    let mut w = World::new();
    let answered: usize = (0..1_000)
        .map(|_| {
            rejected(&mut w, MessageKind::Command)
                .0
                .iter()
                .filter(|e| matches!(e, Effect::Reply { after: 0, .. }))
                .count()
        })
        .sum();
    assert_eq!(answered, usize::try_from(REJECTIONS_RECORDED_MAX).unwrap());
}

#[test]
fn of_a_flood_of_a_command_that_was_captured_sixty_a_minute_are_recorded_and_each_is_answered_at_once() {
    let mut w = World::new();
    let kind = || CommandKind::Release { portal: name("gate-in") };
    let (iat, exp, actor) = (w.now().wall, Timestamp(w.now().wall.0 + 30_000), None);
    let command = Command { stream: name(APARTMENT), jti: "j1".to_owned(), iat, exp, actor, kind: kind() };
    assert_eq!(w.input(Input::Command(command.clone())).reply().status, ReplyStatus::Ok);
    let flood = |w: &mut World, command: &Command, status| {
        let mut recorded = 0;
        for _ in 0..1_000 {
            let seen = w.input(Input::Command(command.clone()));
            let is_refused = |e: &Effect| matches!(e, Effect::Reply { after: 0, reply } if reply.status == status);
            assert_eq!(seen.0.iter().filter(|e| is_refused(e)).count(), 1, "{seen:?}");
            assert!(seen.records().all(|record| record.flush == Flush::Soon));
            recorded += seen.records().count();
        }
        recorded
    };
    let recorded_max = usize::try_from(REJECTIONS_RECORDED_MAX).unwrap();
    assert_eq!(flood(&mut w, &command, ReplyStatus::Duplicate), recorded_max);
    let seen = w.pass_ms(REJECTIONS_WINDOW_MS);
    let count = |record: &Record| match record.event.body {
        Event::RejectedMessage { count, .. } => Some(count),
        _ => None,
    };
    assert_eq!(seen.records().filter_map(count).sum::<u64>(), 1_000 - u64::from(REJECTIONS_RECORDED_MAX));
    let expired = Command { jti: "j0".to_owned(), ..command };
    assert_eq!(flood(&mut w, &expired, ReplyStatus::Expired), recorded_max);
    // What is taken is recorded whatever the flood.
    let seen = w.command("j2", kind());
    assert!(seen.recorded().contains(&EventKind::Command));
    assert_eq!(seen.reply().status, ReplyStatus::Ok);
}
