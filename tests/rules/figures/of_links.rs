//! Figures of links, clocks and the disk: what their loss and return do, what survives, what forged bytes reach.

use dormgate::access::event::{AlarmKind, EventKind, Flush};
use dormgate::access::id::Timestamp;
use dormgate::access::input::{Command, CommandKind, Input, PortalReport, Presented, Request};
use dormgate::access::portal::Posture;
use dormgate::access::state::State;
use dormgate::clock::Clock;
use dormgate::gateway::owner::ALARM_WAIT_MS;
use dormgate::store::{MemoryDisk, Options, Store};
use dormgate::uplink::AUDIT_LOOK_MS;
use dormgate::wire::allowed::AllowedOps;
use dormgate::wire::down;
use dormgate::wire::envelope::{self, Channel, Scope, StreamSpec};
use ed25519_dalek::SigningKey;

use super::{AtLeast, AtMost, Row, row};
use crate::world::{APARTMENT, BEGIN_MS, Seen, World, at, name, op, portals};

pub(super) fn rows() -> Vec<Row> {
    let on_its_way_ms = Options::default().flush_ms + AUDIT_LOOK_MS;
    let (event_ms, alarm_ms) = event_and_alarm_ms();
    let (accepted, messages) = forged();
    let (lost, unnamed) = after_a_power_cut();
    vec![
        row(
            2,
            "GB 50396-2007 5.1.2",
            "an event to the uplink, with the flush",
            (AtMost(5_000), "ms"),
            event_ms + on_its_way_ms,
        ),
        row(
            2,
            "GB 50396-2007 5.1.2",
            "an alarm to the uplink, with a disk that answers nothing",
            (AtMost(2_000), "ms"),
            alarm_ms + ALARM_WAIT_MS + AUDIT_LOOK_MS,
        ),
        row(
            4,
            "GB 50396-2007 5.1.3",
            "the smallest step of the clock that is reported",
            (AtMost(10_000), "ms"),
            step_reported_ms(),
        ),
        row(
            4,
            "GB 50396-2007 5.1.3",
            "the smallest step back that costs the clock its trust",
            (AtMost(10_001), "ms"),
            step_back_ms(),
        ),
        row(
            8,
            "IEC 60839-11-1 T7 20",
            "what opens when links and portals go and come back",
            (AtMost(0), "openings"),
            openings(),
        ),
        row(
            9,
            "IEC 60839-11-1 T7 21",
            "decisions that differ in a day without a center",
            (AtMost(0), "decisions"),
            differing(),
        ),
        row(10, "IEC 60839-11-1 T7 17", "durable events lost by a power cut", (AtMost(0), "events"), lost),
        row(10, "IEC 60839-11-1 T7 17", "losses that are not named in the audit", (AtMost(0), "losses"), unnamed),
        row(
            12,
            "GB/T 37078-2018 6.6",
            "signed messages with one bit flipped that are accepted",
            (AtMost(0), "messages"),
            accepted,
        ),
        row(12, "GB/T 37078-2018 6.6", "of so many", (AtLeast(1_000), "messages"), messages),
    ]
}

/// How long a decision and a forced door wait in the engine before they are handed on.
fn event_and_alarm_ms() -> (u64, u64) {
    let mut w = World::new();
    w.resident("A", "p1");
    let begun = w.elapsed_ms;
    let seen = w.see("gate-in", "A");
    assert!(seen.recorded().contains(&EventKind::Decision));
    let event_ms = w.elapsed_ms - begun;
    let open = PortalReport { contact_open: Some(true), ..PortalReport::default() };
    assert_eq!(w.report("door-412", open).alarms(), [AlarmKind::ForcedOpen]);
    (event_ms, w.elapsed_ms - begun)
}

fn step_reported_ms() -> i64 {
    let is_reported = |ms: &i64| {
        let (clock, manual) = Clock::manual(Timestamp(BEGIN_MS));
        let _before = clock.now();
        manual.step_ms(*ms);
        let _after = clock.now();
        !clock.take_changes().is_empty()
    };
    (1..=20_000).find(is_reported).unwrap_or(i64::MAX)
}

fn step_back_ms() -> i64 {
    use dormgate::access::id::ClockTrust;
    let costs_trust = |ms: &i64| {
        let (clock, manual) = Clock::manual(Timestamp(BEGIN_MS));
        let _before = clock.now();
        manual.step_ms(-ms);
        clock.now().clock == ClockTrust::Untrusted
    };
    (1..=20_000).find(costs_trust).unwrap_or(i64::MAX)
}

/// What opens without a card: releases, switchings-on, modes that hold open.
fn opened(seen: &Seen) -> usize {
    let open = |mode: &Posture| matches!(mode, Posture::Fire | Posture::FreeAccess);
    seen.openings() + seen.modes().iter().filter(|(_, mode)| open(mode)).count()
}

fn openings() -> usize {
    let mut w = World::new();
    w.resident("A", "p1");
    w.see("power-412", "A");
    w.relay("power-412", true);
    let (stream, iat) = (name(APARTMENT), w.now().wall);
    let kind = CommandKind::Release { portal: name("gate-in") };
    let command = Command { stream, jti: "1".to_owned(), iat, exp: Timestamp(iat.0 + 30_000), actor: None, kind };
    assert_eq!(w.input(Input::Command(command.clone())).openings(), 1);
    let mut count = 0;
    for round in 0..50 {
        // What a broker may hand over late: the request of before, retained; the command of before.
        let stale = Request { stale: true, ..w.request("gate-in", Presented::Card(crate::world::uid("A"))) };
        let seen = w.input(Input::Request(stale));
        count += opened(&seen) + usize::from(seen.decision().is_grant());
        count += opened(&w.input(Input::Command(command.clone())));
        for portal in portals() {
            let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
            count += opened(&w.report(portal.id.as_str(), online(false)));
            count += opened(&w.report(portal.id.as_str(), online(true)));
        }
        count += opened(&w.link_up());
        count += opened(&w.pass_s(60));
        if round % 10 == 9 {
            count += opened(&w.restart());
        }
    }
    count
}

fn differing() -> usize {
    let mut w = World::new();
    w.resident("A", "p1").resident("R", "p2");
    w.publish(vec![op::report_lost("uid:R")]);
    let judged = |w: &mut World| {
        ["A", "R", "X"].map(|card| ["gate-in", "door-412", "door-413"].map(|portal| w.present(portal, card)))
    };
    let (before, mut differing) = (judged(&mut w), 0);
    for _ in 0..24 {
        w.pass_s(3_600);
        let now = judged(&mut w);
        differing += before.as_flattened().iter().zip(now.as_flattened()).filter(|(then, now)| then != now).count();
        w.see("gate-out", "A");
    }
    differing
}

/// Events that were reported durable and are gone after a power cut, and losses that no event names.
fn after_a_power_cut() -> (usize, usize) {
    let disk = MemoryDisk::new();
    let mut w = World::new();
    let (store, _events, _, mut stepper) = Store::open_in_memory::<State>(&disk, Options::default()).unwrap();
    store.append(w.journal.clone());
    w.resident("A", "p1");
    for _ in 0..1_000 {
        w.see("gate-in", "A");
        w.pass_s(1);
    }
    let gap = w.input(Input::Lost { from: 5_001, to: 5_010 });
    let named = gap.records().filter(|r| r.event.kind() == EventKind::LogGap && r.flush == Flush::Soon).count();
    let already = store.queued();
    assert!(already > 0);
    let appended = w.journal[already..].to_vec();
    store.append(appended);
    stepper.flush();
    let durable = usize::try_from(store.last_durable()).unwrap();
    assert_eq!(durable, w.journal.len());
    disk.crash(0);
    let (store, ..) = Store::open_in_memory::<State>(&disk, Options::default()).unwrap();
    let kept = store.read_blocking(0, usize::MAX, usize::MAX).unwrap();
    let whole = kept.iter().map(|e| e.n).eq(1..=u64::try_from(durable).unwrap());
    (if whole { 0 } else { durable }, 1 - named)
}

/// Each bit of a signed message flipped: how many are accepted, and of how many.
fn forged() -> (usize, usize) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let stream = StreamSpec {
        name: name(APARTMENT),
        scope: Scope::Gateway,
        keys: vec![key.verifying_key()],
        insecure_unsigned: false,
        allowed: AllowedOps::all(),
    };
    let ops = [op::enrol("A", "p1", "gate:*")];
    let claims = down::write_changes(&stream.name, "g1", Timestamp(BEGIN_MS), at(1, 1), &ops).unwrap();
    let signed = envelope::sign(&claims, &stream.name, &key).into_bytes();
    let accepts =
        |bytes: &[u8]| envelope::open(bytes, Channel::Gateway, &name("g1"), std::slice::from_ref(&stream)).is_ok();
    assert!(accepts(&signed));
    let flipped = (0..signed.len() * 8).map(|bit| {
        let mut bytes = signed.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    (flipped.filter(|bytes| accepts(bytes)).count(), signed.len() * 8)
}
