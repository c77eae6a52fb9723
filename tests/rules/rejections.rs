//! Rejected messages: a flood of them costs neither the disk nor the answer to others.

use dormgate::access::change::{ErrorCode, OpError};
use dormgate::access::effect::Effect;
use dormgate::access::engine::{REJECTIONS_RECORDED_MAX, REJECTIONS_WINDOW_MS};
use dormgate::access::event::{Event, Flush};
use dormgate::access::input::{Input, MessageKind, PortalReport, RejectedMessage};

use crate::world::{OFFICE, Seen, World, at, name};

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
