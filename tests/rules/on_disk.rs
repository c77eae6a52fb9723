//! What a command of a center opens waits until the command's id is on disk; what takes away, and what opens nothing, acts at once.

use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::engine::COMMAND_WAIT_MS;
use dormgate::access::event::{Event, Flush};
use dormgate::access::id::{CardSet, Timestamp};
use dormgate::access::input::{Command, CommandKind, Input, Operator};
use dormgate::access::portal::Posture;

use crate::world::{APARTMENT, Seen, World, name, op};

fn release() -> CommandKind {
    CommandKind::Release { portal: name("gate-in") }
}

fn power(on: bool) -> CommandKind {
    CommandKind::Power { portal: name("power-412"), on }
}

/// A command comes in, and the disk does nothing.
fn taken(w: &mut World, jti: &str, kind: CommandKind) -> Seen {
    let now = w.now();
    let (stream, exp) = (name(APARTMENT), Timestamp(now.wall.0 + 20_000));
    let command = Command { stream, jti: jti.to_owned(), iat: now.wall, exp, actor: None, kind };
    let effects = w.engine.handle(Input::Command(command), now);
    w.keep(effects)
}

fn durable(w: &mut World, through: u64) -> Seen {
    w.input(Input::Durable { through })
}

fn everything_durable(w: &mut World) -> Seen {
    let through = w.engine.state().last_n;
    durable(w, through)
}

/// Each reply: the event that it waits for, its status, and why.
fn replies(seen: &Seen) -> Vec<(u64, &'static str, String)> {
    let reply = |effect: &Effect| match effect {
        Effect::Reply { after, reply } => {
            let why = reply.error.as_ref().map_or(String::new(), |error| error.message.clone());
            Some((*after, reply.status.as_str(), why))
        }
        _ => None,
    };
    seen.0.iter().filter_map(reply).collect()
}

fn dropped(seen: &Seen) -> usize {
    seen.0.iter().filter(|effect| matches!(effect, Effect::OrderDropped { .. })).count()
}

/// The commands that were recorded: their status, and whether their id is remembered.
fn commands(seen: &Seen) -> Vec<(&'static str, bool)> {
    let command = |event: &Event| match event {
        Event::Command { status, taken, .. } => Some((status.as_str(), taken.is_some())),
        _ => None,
    };
    seen.records().filter_map(|record| command(&record.event.body)).collect()
}

#[test]
fn what_a_command_opens_leaves_when_its_id_is_on_disk_and_the_reply_with_it() {
    for kind in [release(), power(true)] {
        let mut w = World::new();
        let seen = taken(&mut w, "j", kind.clone());
        assert_eq!((seen.openings(), replies(&seen)), (0, vec![]), "{kind:?}");
        assert_eq!(commands(&seen), [("ok", true)]);
        let record = seen.records().next().unwrap();
        assert_eq!(record.flush, Flush::Now, "the disk is asked at once");
        let n = record.event.n;
        assert_eq!(w.engine.waits_for_durable(), Some(n));
        assert_eq!(durable(&mut w, n - 1).0, []);
        let seen = durable(&mut w, n);
        assert!(matches!(seen.0[0], Effect::Order(PortalOrder::Release { .. } | PortalOrder::Energise { .. })));
        assert_eq!((seen.openings(), replies(&seen)), (1, vec![(n, "ok", String::new())]));
        assert_eq!((commands(&seen), dropped(&seen), w.engine.waits_for_durable()), (vec![], 0, None));
        assert_eq!(everything_durable(&mut w).openings(), 0, "once");
        w.assert_replay_is_life();
    }
}

#[test]
fn what_takes_away_and_what_opens_nothing_does_not_wait() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.see("power-412", "A");
    let seen = taken(&mut w, "off", power(false));
    assert_eq!((seen.cuts(), seen.reply().status.as_str()), (vec![("power-412", "remote")], "ok"));
    for (jti, kind) in [
        ("forgive", CommandKind::Forgive { uid: CardSet::All }),
        ("resync", CommandKind::Resync { stream: name(APARTMENT) }),
        ("refused", CommandKind::Release { portal: name("gate-99") }),
    ] {
        assert_eq!(replies(&taken(&mut w, jti, kind)).len(), 1, "{jti}");
    }
    assert!(!w.engine.has_waiting_commands());
}

#[test]
fn a_command_that_opens_is_dropped_when_the_disk_does_not_write_in_time() {
    for is_woken in [true, false] {
        let mut w = World::new();
        taken(&mut w, "j", release());
        assert_eq!(w.pass_ms(COMMAND_WAIT_MS - 1).0, []);
        // The disk may also be done at the very moment at which it is too late, and whoever drives the engine may be late himself.
        let seen = if is_woken {
            w.pass_ms(1)
        } else {
            w.elapsed_ms += 1;
            everything_durable(&mut w)
        };
        assert_eq!((seen.openings(), dropped(&seen), commands(&seen)), (0, 1, vec![("failed", false)]));
        let all = replies(&seen);
        assert_eq!((all.len(), all[0].1), (1, "failed"));
        assert!(all[0].2.contains("not on disk within 1500 ms"), "{all:?}");
        assert!(!is_woken || all[0].0 == 0, "the answer does not wait for the disk that is broken");
        let seen = everything_durable(&mut w);
        assert_eq!((seen.openings(), replies(&seen)), (0, vec![]), "what opens may not open late");
        let again = taken(&mut w, "j", release());
        assert_eq!((again.openings(), again.reply().status.as_str()), (0, "duplicate"));
        w.assert_replay_is_life();
    }
}

#[test]
fn a_command_does_not_outlive_its_exp_nor_an_event_that_is_not_written() {
    let mut w = World::new();
    taken(&mut w, "j", release());
    w.wall_off_ms = 20_000;
    let seen = everything_durable(&mut w);
    assert_eq!((seen.openings(), dropped(&seen), seen.reply().status.as_str()), (0, 1, "failed"));
    let mut w = World::new();
    taken(&mut w, "j", release());
    let n = w.engine.state().last_n;
    let seen = w.input(Input::Lost { from: n, to: n });
    assert_eq!((seen.openings(), dropped(&seen), seen.reply().status.as_str()), (0, 1, "failed"));
    assert_eq!(everything_durable(&mut w).openings(), 0);
}

#[test]
fn what_changes_while_a_command_waits_counts() {
    type Change = fn(&mut World) -> Seen;
    let cases: [(&str, CommandKind, Change, &str); 4] = [
        ("closed", release(), |w| w.operator("gate-in", Posture::OutOfService), "rejected"),
        ("suspended", power(true), |w| w.publish(vec![op::power("412", true)]), "rejected"),
        ("off by a center", power(true), |w| taken(w, "off", power(false)), "failed"),
        (
            "off on the box",
            power(true),
            |w| w.input(Input::Operator(Operator::Power { portal: name("power-412"), on: false }, None)),
            "failed",
        ),
    ];
    for (case, kind, change, status) in cases {
        let mut w = World::new();
        taken(&mut w, "j", kind);
        let mut seen = change(&mut w).0;
        seen.extend(everything_durable(&mut w).0);
        let seen = Seen(seen);
        assert_eq!(seen.openings(), 0, "{case}");
        let of_it =
            |effect: &&Effect| matches!(effect, Effect::Reply { reply, .. } if reply.jti.as_deref() == Some("j"));
        let Some(Effect::Reply { reply, .. }) = seen.0.iter().find(of_it) else { panic!("{case}: no reply") };
        assert_eq!(reply.status.as_str(), status, "{case}");
        assert!(commands(&seen).contains(&(status, false)), "{case}: {seen:?}");
        assert!(!w.is_on("power-412"), "{case}");
        w.assert_replay_is_life();
    }
}

#[test]
fn an_order_on_the_box_acts_at_once_and_its_answer_waits_for_what_it_recorded() {
    let release = Operator::Release { portal: name("gate-in") };
    let posture = Operator::Posture { portals: Vec::new(), posture: Posture::Lockdown };
    let orders = [release, posture, Operator::StreamForget { stream: name(APARTMENT) }]
        .into_iter()
        .chain([Operator::Forgive { cards: CardSet::All }, Operator::Acknowledge { from: 1, to: 1 }]);
    for command in orders {
        for actor in [None, Some("Li Wei")] {
            let mut w = World::new();
            let is_release = matches!(command, Operator::Release { .. });
            let seen = w.input(Input::Operator(command.clone(), actor.map(|actor| actor.parse().unwrap())));
            assert_eq!(seen.openings(), usize::from(is_release), "{command:?}");
            let Some(Effect::Ordered { after, refused: None }) = seen.0.last() else { panic!("{:?}", seen.0) };
            let flushed = seen.records().filter(|record| record.flush == Flush::Now).map(|record| record.event.n);
            assert_eq!(flushed.last().unwrap_or(0), *after, "{command:?} by {actor:?}");
            assert!(*after > 0 || actor.is_none(), "{command:?} by {actor:?}");
        }
    }
    // What an order finds done already may have been done by one that is not on disk yet.
    let mut w = World::new();
    let first = w.operator("gate-in", Posture::Lockdown);
    let n = first.records().map(|record| record.event.n).max();
    let seen = w.input(Input::Operator(Operator::Release { portal: name("door-412") }, None));
    assert!(matches!(seen.0.last(), Some(Effect::Ordered { after, .. }) if Some(*after) >= n));
}
