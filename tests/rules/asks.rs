//! When a stream is asked to send again, why, and how often.

use dormgate::access::effect::Have;
use dormgate::access::input::{CommandKind, Input};

use crate::damaged::{RESIDENT, damaged};
use crate::snapshots::{entries_of, send};
use crate::world::{APARTMENT, OFFICE, Snapshot, World, at, name, op};

#[test]
fn an_empty_gateway_asks_each_stream_with_jitter_and_again_every_30_s() {
    let mut w = World::new();
    assert_eq!(w.pass_s(60).resyncs().len(), 0, "no link, no ask");
    w.link_up();
    let begin = w.elapsed_ms;
    let mut asked: Vec<(u64, String, &str)> = Vec::new();
    while w.elapsed_ms < begin + 65_000 {
        for ask in w.pass_ms(10).resyncs() {
            asked.push((0, ask.stream.to_string(), ask.reason.as_str()));
            assert_eq!((ask.have, ask.missing.len()), (Have { epoch: 0, seq: 0 }, 0));
        }
        let at = w.elapsed_ms - begin;
        asked.iter_mut().filter(|a| a.0 == 0).for_each(|a| a.0 = at);
    }
    assert_eq!(asked.len(), 6);
    assert!(asked.iter().all(|(_, _, reason)| *reason == "empty"));
    let of = |stream: &str| asked.iter().filter(|a| a.1 == stream).map(|a| a.0).collect::<Vec<_>>();
    for times in [of(OFFICE), of(APARTMENT)] {
        assert!(times[0] <= 1_000 && times[1] - times[0] == 30_000 && times[2] - times[1] == 30_000, "{times:?}");
    }
    assert_ne!(of(OFFICE)[0], of(APARTMENT)[0]);
}

/// A head of `seq` 0 names nothing that a center could send; it would be asked in vain, and its broker blamed.
#[test]
fn a_center_that_has_published_nothing_is_not_asked() {
    let mut w = World::new();
    w.link_up();
    w.head(OFFICE, at(1, 0));
    assert_eq!(asks(&mut w, 65_000), []);
    w.publish_at(OFFICE, at(1, 2), vec![op::issue("A", "p1")]);
    assert_eq!(asks(&mut w, 6_000).len(), 1, "what was missed is asked for");
    w.publish_at(OFFICE, at(1, 1), vec![op::issue("R", "p3")]);
    // Nor of a later epoch, before it has a message.
    w.head(OFFICE, at(2, 0));
    assert_eq!(asks(&mut w, 65_000), []);
    w.head(OFFICE, at(2, 1));
    assert_eq!(asks(&mut w, 6_000).len(), 1);
}

#[test]
fn without_a_link_nothing_is_asked_for_and_with_it_what_is_missing() {
    let mut w = World::new();
    w.publish_at(OFFICE, at(2, 1), vec![op::issue("A", "p1")]);
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    w.publish_at(OFFICE, at(2, 4), vec![op::issue("R", "p3")]);
    assert_eq!(asks(&mut w, 60_000), []);
    w.link_up();
    assert_eq!(asks(&mut w, 2_000).len(), 1);
}

/// When, why, and for which numbers.
pub type Asked = (u64, &'static str, Vec<(u64, u64)>);

/// Lets time pass and reports when and why the office was asked.
pub fn asks(w: &mut World, ms: u64) -> Vec<Asked> {
    let mut asked = Vec::new();
    let until = w.elapsed_ms + ms;
    while w.elapsed_ms < until {
        let seen = w.pass_ms(10);
        for ask in seen.resyncs().into_iter().filter(|a| a.stream.as_str() == OFFICE) {
            asked.push((w.elapsed_ms, ask.reason.as_str(), ask.missing.clone()));
        }
    }
    asked
}

pub fn linked() -> World {
    let mut w = World::new();
    w.publish_at(OFFICE, at(2, 1), vec![op::issue("A", "p1")]);
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    w.link_up();
    w
}

#[test]
fn a_gap_is_asked_for_at_once_and_no_two_asks_are_closer_than_5_s() {
    let mut w = linked();
    assert_eq!(asks(&mut w, 60_000), []);
    w.publish_at(OFFICE, at(2, 4), vec![op::issue("R", "p3")]);
    let first = asks(&mut w, 1_100);
    assert_eq!(first.iter().map(|a| (a.1, a.2.clone())).collect::<Vec<_>>(), [("gap", vec![(2, 3)])]);
    // Filled, and at once another hole.
    w.publish_at(OFFICE, at(2, 2), vec![op::issue("R", "p3")]);
    w.publish_at(OFFICE, at(2, 3), vec![op::issue("R", "p3")]);
    w.publish_at(OFFICE, at(2, 6), vec![op::issue("R", "p3")]);
    let second = asks(&mut w, 10_000);
    assert_eq!(second.len(), 1);
    assert!((5_000..=6_100).contains(&(second[0].0 - first[0].0)), "{first:?} {second:?}");
    w.publish_at(OFFICE, at(2, 5), vec![op::issue("R", "p3")]);
    assert_eq!(asks(&mut w, 100_000), []);
}

#[test]
fn the_reason_reports_a_new_epoch_a_head_ahead_and_a_damaged_store_apart() {
    let mut w = linked();
    w.head(OFFICE, at(2, 3));
    assert_eq!(asks(&mut w, 2_000)[0].1, "gap");
    w.publish_at(OFFICE, at(3, 2), vec![op::issue("R", "p3")]);
    assert_eq!(asks(&mut w, 31_000)[0].1, "epoch");
    let mut w = linked();
    w.head(OFFICE, at(3, 5));
    assert_eq!(asks(&mut w, 2_000)[0].1, "epoch", "the head is of an epoch of which nothing was received");
    let mut w = World::new();
    w.link_up();
    asks(&mut w, 2_000);
    w.publish_at(OFFICE, at(3, 2), vec![op::issue("R", "p3")]);
    assert_eq!(asks(&mut w, 31_000)[0].1, "gap", "a new gateway knows of no earlier epoch");
    let mut w = damaged();
    w.link_up();
    assert_eq!(asks(&mut w, 2_000)[0].1, "corrupt");
}

#[test]
fn of_a_new_epoch_that_begins_with_changes_a_snapshot_is_asked_for_until_one_came() {
    let mut w = linked();
    // Numbers without holes, and yet what the epoch before had may have been lost on the way.
    w.publish_at(OFFICE, at(3, 1), vec![op::issue("R", "p3")]);
    assert_eq!(asks(&mut w, 2_000)[0].1, "epoch");
    w.publish_at(OFFICE, at(3, 2), vec![op::issue("X", "p3")]);
    w.restart();
    w.link_up();
    assert_eq!(asks(&mut w, 31_000)[0].1, "epoch");
    let (from, to) = (w.journal.last().unwrap().event.n + 1, w.journal.last().unwrap().event.n + 10);
    let effects = w.engine.damaged(from, to, w.now());
    w.keep(effects);
    assert_eq!(
        asks(&mut w, 31_000)[0].1,
        "epoch",
        "and not `corrupt`, to which a center may answer with a much smaller list"
    );
    send(&mut w, OFFICE, at(3, 2), &entries_of(OFFICE, &[vec![op::issue("A", "p1"), op::issue("R", "p3")]]));
    w.publish_at(OFFICE, at(3, 3), vec![op::issue("B", "p2")]);
    assert_eq!(asks(&mut w, 100_000), []);
}

#[test]
fn a_command_asks_for_a_stream_and_waits_for_no_other_ask() {
    let mut w = linked();
    let seen = w.command("j1", CommandKind::Resync { stream: name(OFFICE) });
    assert_eq!(seen.reply().status.as_str(), "ok");
    let asked = asks(&mut w, 100_000);
    assert_eq!(asked.iter().map(|a| a.1).collect::<Vec<_>>(), ["asked"]);
    w.publish_at(OFFICE, at(2, 9), vec![op::issue("R", "p3")]);
    assert_eq!(asks(&mut w, 8_000).len(), 1);
    w.command("j2", CommandKind::Resync { stream: name(OFFICE) });
    assert_eq!(asks(&mut w, 7_000).iter().map(|a| a.1).collect::<Vec<_>>(), ["asked"], "not only in 30 s");
    let seen = w.command("j3", CommandKind::Resync { stream: name("nobody") });
    assert_eq!(seen.reply().status.as_str(), "rejected");
}

#[test]
fn after_a_reconnect_asks_are_spread_and_a_clean_session_asks_every_stream() {
    let mut spread = Vec::new();
    for boot in 0..40 {
        let mut w = World::new();
        for _ in 0..boot {
            w.restart();
        }
        w.publish_at(OFFICE, at(1, 1), vec![op::issue("A", "p1")]);
        w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
        w.publish_at(OFFICE, at(1, 3), vec![op::issue("B", "p2")]);
        let begin = w.elapsed_ms;
        w.input(Input::LinkUp { spread_ms: 20_000, ask_every_stream: true });
        // The first head after the connection brings no one forward.
        w.head(APARTMENT, at(1, 1));
        let mut asked = Vec::new();
        while w.elapsed_ms < begin + 25_000 {
            let asks: Vec<_> = w.pass_ms(100).resyncs().into_iter().cloned().collect();
            asked.extend(asks.into_iter().map(|ask| (w.elapsed_ms - begin, ask)));
        }
        assert_eq!(asked.len(), 2);
        for (after, ask) in asked {
            assert_eq!(ask.reason.as_str(), "gap");
            assert_eq!(ask.missing, if ask.stream.as_str() == OFFICE { vec![(2, 2)] } else { vec![] });
            spread.push(after);
        }
    }
    let (early, late) =
        (spread.iter().filter(|ms| **ms < 5_000).count(), spread.iter().filter(|ms| **ms > 15_000).count());
    assert!(early > 5 && late > 5 && spread.iter().all(|ms| *ms <= 20_100), "{spread:?}");
}

#[test]
fn after_a_reconnect_an_ask_that_was_due_is_spread_like_any_other() {
    let mut late = 0;
    for boot in 0..20 {
        let mut w = linked();
        for _ in 0..boot {
            w.restart();
        }
        w.link_up();
        w.publish_at(OFFICE, at(2, 4), vec![op::issue("R", "p3")]);
        assert_eq!(asks(&mut w, 2_000).len(), 1);
        w.pass_s(27);
        w.input(Input::LinkUp { spread_ms: 20_000, ask_every_stream: false });
        let begin = w.elapsed_ms;
        let again = asks(&mut w, 25_000);
        assert_eq!(again.len(), 1);
        late += usize::from(again[0].0 - begin > 5_000);
    }
    assert!(late > 5, "{late} of 20 were asked later than 5 s after the reconnect");
}

#[test]
fn while_the_parts_of_an_answer_arrive_it_is_not_asked_for_again() {
    let mut w = linked();
    w.publish_at(APARTMENT, at(1, 2_000), vec![op::enrol("A", "p1", RESIDENT)]);
    assert_eq!(w.pass_s(2).resyncs().len(), 1);
    let ops = (0..1_500).map(|n| op::enrol(&format!("5C{n:06X}"), &format!("h{n}"), RESIDENT)).collect();
    let entries = entries_of(APARTMENT, &[ops]);
    let snapshot = Snapshot { stream: APARTMENT, at: at(1, 2_000), id: "s", entries: &entries, allow_shrink: true };
    let parts = w.snapshot_parts(&snapshot);
    assert!(parts.len() > 3);
    for part in parts.into_iter().take(3) {
        assert_eq!(w.pass_s(25).resyncs().len(), 0);
        w.input(part);
    }
    assert_eq!(w.pass_s(35).resyncs().len(), 1, "no part came for 30 s");
}
