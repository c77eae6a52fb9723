//! Walk-throughs 8 and 10: two campuses, an outage, a move, a fire. (The clones of number 9 are in `clones.rs` and `lock_out.rs`.)

use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::event::{AlarmKind, Event};
use dormgate::access::id::Holder;
use dormgate::access::input::{Input, Operator};
use dormgate::access::policy::{Place, Policy, RevokePower, Severity, Walk};
use dormgate::access::portal::{Portal, PortalKind, Posture};
use dormgate::config::AuditAckBy;
use dormgate::mqtt::MessageId;
use dormgate::uplink::feed::{BATCH_EVENTS_MAX, Feed};

use crate::world::{APARTMENT, OFFICE, Seen, World, at, name, op, uid};

fn gate(zone: &str) -> Portal {
    Portal::new(name(&format!("gate-{zone}")), PortalKind::Gate, name(zone))
}

#[test]
fn two_campuses_wrong_building_b_at_a_wenchang_building_s_gate() {
    let mut w = World::of(Policy::default(), vec![gate("wenchang")], Vec::new());
    assert_eq!(w.present("gate-wenchang", "B"), "unknown_credential");
    // With a list of the whole campus.
    w.issue("B", "p1").enrol("B", "p1", "gate:nanhu door:412");
    assert_eq!(w.present("gate-wenchang", "B"), "no_entitlement");
}

#[test]
fn two_campuses_wrong_building_granted_at_nanhu_10_00_00_uid_read_at_wenchang_10_03_00() {
    let place = |zone: &str| Place::Zone(name(zone));
    let walks = vec![Walk { from: place("nanhu"), to: place("wenchang"), walk_ms: 600_000 }];
    let policy = Policy { walks, ..Policy::default() };
    let mut w = World::of(policy, vec![gate("nanhu"), gate("wenchang")], Vec::new());
    w.issue("B", "p1").enrol("B", "p1", "gate:nanhu");
    assert_eq!(w.present("gate-nanhu", "B"), "granted");
    w.pass_s(180);
    let seen = w.see("gate-wenchang", "B");
    assert_eq!((seen.reason(), seen.alarms()), ("no_entitlement", vec![AlarmKind::Clone]), "although it is denied");
    assert!(seen.details(AlarmKind::Clone)[0].contains("180 s after it was granted at `gate-nanhu`"));
    w.pass_s(600);
    assert_eq!(w.present("gate-nanhu", "B"), "granted");
    w.pass_s(600);
    assert_eq!(w.see("gate-wenchang", "B").alarms(), [], "there was time for the way");
}

#[test]
fn two_campuses_wrong_building_loss_reported_at_the_other_campus_s_card_office() {
    let mut gateways = [World::new(), World::new()];
    for w in &mut gateways {
        w.resident("B", "p1");
        w.present("power-412", "B");
        let seen = w.publish_at(OFFICE, at(1, 2), vec![op::report_lost("uid:B")]);
        assert_eq!((seen.cuts(), seen.ack().revoked.as_slice()), (vec![("power-412", "lost")], &[uid("B")][..]));
        assert_eq!(["gate-in", "door-412"].map(|portal| w.present(portal, "B")), ["lost"; 2]);
    }
}

/// What opens: releases, switchings-on, and modes that hold open.
fn opened(seen: &Seen) -> usize {
    let held = seen.modes().iter().filter(|(_, mode)| matches!(mode, Posture::Fire | Posture::FreeAccess)).count();
    seen.openings() + held
}

#[test]
fn outage_transfer_fire_uplink_down_30_min_r_at_gate_in() {
    let mut w = World::new();
    w.resident("R", "p2");
    w.pass_s(1_801);
    assert_eq!(w.see("gate-in", "R").verdict(), "granted stale_list");
    for _ in 0..500 {
        w.pass_s(20);
        w.see("gate-out", "R");
        w.see("gate-in", "R");
    }
    let mut seen = w.link_up();
    seen.0.extend(w.pass_s(60).0);
    assert_eq!(opened(&seen), 0, "the return of a link opens nothing");
    // The audit of the outage goes out once and in order, and is sent again only where nobody acknowledged it.
    let (last, now) = (w.journal.last().unwrap().event.n, tokio::time::Instant::now());
    assert!(last > 1_000);
    let (mut feed, mut delivered) = (Feed::new(AuditAckBy::Center, 0), Vec::new());
    for id in 0.. {
        let Some(first) = feed.wants(last) else { break };
        let through = last.min(first + u64::try_from(BATCH_EVENTS_MAX).unwrap() - 1);
        feed.sent(through, MessageId(id), now);
        delivered.extend(w.journal.iter().map(|r| r.event.n).filter(|n| (first..=through).contains(n)));
        assert_eq!(feed.acknowledged(through, last, now), Ok(Some(through)));
    }
    assert!(delivered.iter().copied().eq(1..=last));
}

#[test]
fn outage_transfer_fire_queued_transfer_p1_412_413_and_lost_r_arrive_together() {
    for revoke_power in [RevokePower::AtOnce, RevokePower::AfterDelay] {
        let mut w = World::with(Policy { revoke_power, clone: Severity::Off, ..Policy::default() });
        w.resident("B", "p1").resident("R", "p2");
        w.present("power-412", "B");
        // Out of order and with a hole before it: a revocation does not wait.
        let lost = w.publish_at(OFFICE, at(1, 9), vec![op::report_lost("uid:R")]);
        assert_eq!((opened(&lost), lost.ack().missing.clone()), (0, vec![(3, 8)]));
        // One message, one step: the old room off, the new one on.
        let moved = w.publish_at(APARTMENT, at(1, 3), vec![op::enrol("B", "p1", "gate:* door:413 power_box:413")]);
        assert_eq!((opened(&moved), moved.ack().revoked.len()), (0, 0), "it still opens something");
        let cut = vec![("power-412", "no_entitlement")];
        match revoke_power {
            RevokePower::AtOnce => assert_eq!(moved.cuts(), cut),
            RevokePower::AfterDelay => {
                assert_eq!((moved.cuts(), w.pass_ms(14_999).cuts()), (vec![], vec![]));
                assert_eq!(w.pass_ms(1).cuts(), cut);
            }
        }
        assert_eq!((w.present("door-413", "B"), w.present("door-412", "B")), ("granted", "no_entitlement"));
        assert_eq!(w.present("gate-in", "R"), "lost");
        w.assert_replay_is_life();
    }
}

#[test]
fn outage_transfer_fire_fire_input_during_lockdown() {
    let mut w = World::with(Policy { anti_passback: Severity::Deny, ..Policy::default() });
    w.resident("A", "p1").resident("B", "p2");
    w.see("gate-in", "A");
    w.publish(vec![op::posture("*", Posture::Lockdown, None)]);
    assert_eq!(w.present("gate-in", "B"), "lockdown");
    w.fire("door-412", false);
    let seen = w.fire("door-412", true);
    let modes = seen.0.iter().take_while(|e| matches!(e, Effect::Order(PortalOrder::Mode { .. }))).count();
    assert_eq!((modes, opened(&seen)), (5, 5), "every gate and door, before anything is written");
    let inside = |w: &World| -> Vec<Option<Holder>> {
        let taken = w.engine.roll_call(None, w.now()).unwrap();
        let held = w.engine.held(&taken.cards());
        taken.people(held).into_iter().map(|card| card.holder).collect()
    };
    assert_eq!(inside(&w), [Some(name("p1"))], "the roll-call list");
    w.restart();
    assert_eq!(["gate-in", "door-413"].map(|portal| w.present(portal, "X")), ["fire"; 2], "a restart is no reset");
    w.fire("door-412", false);
    let forgiven = w.input(Input::Operator(Operator::FireReset { force: false }, None));
    assert!(forgiven.records().any(|r| matches!(r.event.body, Event::Posture { .. })));
    assert_eq!(w.present("gate-in", "A"), "lockdown");
    w.publish(vec![op::posture("*", Posture::Secure, None)]);
    assert_eq!(w.present("gate-in", "A"), "granted", "who entered before the fire is forgiven");
}
