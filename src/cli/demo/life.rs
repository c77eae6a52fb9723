//! The steps of the demo: a card is issued, enrolled and used; it is reissued while it is in the power box; the new card is used.

use std::time::Duration;

use tokio::time::Instant;

use super::steps::{Steps, Took, ms_since};
use super::{BOX_READER, BOX_RELAY, DOOR_READER, DOOR_RELAY, Dormitory, Failure, RELAYS};
use crate::access::change::Op;
use crate::access::credential::{Enrolment, Entitlement, ZoneSet};
use crate::access::id::{CardUid, Holder};
use crate::access::portal::PortalKind;
use crate::center::Answered;
use crate::clock::Clock;

/// The first card, and the card that replaces it.
const OLD: &str = "1EA68671";
const NEW: &str = "5B3C0D92";
const HOLDER: &str = "08193021";
/// Longest wait for an ack or a relay.
const WAIT: Duration = Duration::from_secs(10);
/// How long a card stays out of the box, in milliseconds: longer than the reader takes to report that it has left.
const OUT_MS: u64 = 1_600;

/// Runs the steps. `false`: a step failed.
pub(super) async fn play(d: &Dormitory, clock: &Clock) -> Result<bool, Failure> {
    let (old, new): (CardUid, CardUid) = (OLD.parse()?, NEW.parse()?);
    let holder: Holder = HOLDER.parse()?;
    let mut steps = Steps::new(d.center.reports(), clock);
    let t = &mut steps;
    wait_for_portals(t).await?;

    Steps::chapter("The card office issues a card, the apartment center enrols it for gate, door and power");
    publish(d, t, "issue", vec![Op::Issue { uid: old, holder: holder.clone() }]).await?;
    publish(d, t, "enrol", vec![enrol(old, &holder)?]).await?;
    at_gate(d, t, OLD, "grant (granted)").await;
    at_door(d, t, old, "grant (granted)").await;
    into_box(d, t, old, "grant (granted)").await;

    Steps::chapter("The card is reissued while it is in the power box");
    reissue(d, t, Op::Reissue { holder: holder.clone(), new_uid: new, old_uid: Some(old) }).await?;
    at_gate(d, t, OLD, "deny (replaced)").await;
    at_door(d, t, old, "deny (replaced)").await;
    out_of_box(d).await;
    into_box(d, t, old, "deny (replaced)").await;

    Steps::chapter("The new card opens nothing until the apartment center has enrolled it");
    at_gate(d, t, NEW, "deny (not_enrolled)").await;
    at_door(d, t, new, "deny (not_enrolled)").await;
    out_of_box(d).await;
    into_box(d, t, new, "deny (not_enrolled)").await;
    publish(d, t, "enrol", vec![enrol(new, &holder)?]).await?;
    at_gate(d, t, NEW, "grant (granted)").await;
    at_door(d, t, new, "grant (granted)").await;
    out_of_box(d).await;
    into_box(d, t, new, "grant (granted)").await;

    Steps::chapter("The card leaves the box, and the center has the audit");
    let began = Instant::now();
    d.line.remove(BOX_READER, 0);
    let off = d.line.wait_relay(RELAYS, BOX_RELAY, false, WAIT).await;
    t.step("power-412, relay read back", "off", on_off(!off), Some(ms_since(began)));
    let last = t.event(|e| e.kind() == crate::access::event::EventKind::PowerOff && e.body.uid() == Some(new)).await;
    t.step("the audit up to here, chain checked by the center", "received", received(last.is_some()), None);
    let trouble = t.trouble();
    t.step("errors in the audit", "none", &trouble, None);
    Ok(t.all_succeeded())
}

fn received(yes: bool) -> &'static str {
    if yes { "received" } else { "not received" }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn enrol(uid: CardUid, holder: &Holder) -> Result<Op, Failure> {
    let room = || "412".parse().map(ZoneSet::One);
    let entitlement = |kind, zone| Entitlement { kind, zone, schedule: None };
    let entitlements = vec![
        entitlement(PortalKind::Gate, ZoneSet::Any),
        entitlement(PortalKind::Door, room()?),
        entitlement(PortalKind::PowerBox, room()?),
    ];
    let enrolment = Enrolment::resident(holder.clone(), entitlements);
    Ok(Op::Enrol { uid, enrolment })
}

/// Waits until both Modbus portals are online.
async fn wait_for_portals(t: &mut Steps) -> Result<(), Failure> {
    for portal in ["door-412", "power-412"] {
        let online = |e: &crate::access::event::AuditEvent| {
            e.kind() == crate::access::event::EventKind::PortalOnline
                && e.body.portal().is_some_and(|p| p.as_str() == portal)
        };
        t.event(online).await.ok_or_else(|| format!("portal `{portal}` did not come online"))?;
    }
    Ok(())
}

async fn publish(d: &Dormitory, t: &mut Steps, what: &str, ops: Vec<Op>) -> Result<(), Failure> {
    let answered = d.center.publish_and_wait(Some(&d.gateway), ops, WAIT).await?;
    ack_steps(t, what, &answered);
    Ok(())
}

fn ack_steps(t: &mut Steps, what: &str, answered: &[Answered]) {
    for answer in answered {
        match &answer.ack {
            None => t.step(&format!("{what}, by {}", answer.stream), "applied", "no ack", None),
            Some((ack, took)) => {
                let what = format!("{what} by {}, on disk and acknowledged", answer.stream);
                t.step(&what, "applied", ack.outcome.as_str(), Some(took.as_secs_f64() * 1000.0));
            }
        }
    }
}

async fn at_gate(d: &Dormitory, t: &mut Steps, uid: &str, expected: &str) {
    let began = Instant::now();
    let (happened, took) = match d.gate.present(uid).await {
        Ok(decision) => {
            let word = if decision.granted { "grant" } else { "deny" };
            (format!("{word} ({})", decision.reason), Some(ms_since(began)))
        }
        Err(error) => (error.to_string(), None),
    };
    t.step(&format!("gate-in    {uid}"), expected, &happened, took);
}

async fn at_door(d: &Dormitory, t: &mut Steps, uid: CardUid, expected: &str) {
    let opened = at_reader(d, t, "door-412", (DOOR_READER, DOOR_RELAY), uid, expected).await;
    d.line.remove(DOOR_READER, 0);
    if expected.starts_with("grant") {
        t.step("door-412, relay pulsed", "yes", if opened { "yes" } else { "no" }, None);
    }
}

async fn into_box(d: &Dormitory, t: &mut Steps, uid: CardUid, expected: &str) {
    at_reader(d, t, "power-412", (BOX_READER, BOX_RELAY), uid, expected).await;
    let wanted = on_off(expected.starts_with("grant"));
    t.step("power-412, relay", wanted, on_off(d.line.relay(RELAYS, BOX_RELAY)), None);
}

/// Presents the card at a reader on the line and reports the decision from the audit. Gives whether the relay came on.
async fn at_reader(
    d: &Dormitory,
    t: &mut Steps,
    portal: &str,
    (reader, relay): (u8, u16),
    uid: CardUid,
    expected: &str,
) -> bool {
    let shown = t.now();
    let began = Instant::now();
    d.line.present(reader, 0, uid);
    let on = expected.starts_with("grant") && d.line.wait_relay(RELAYS, relay, true, WAIT).await;
    let on_ms: Option<Took> = on.then(|| ms_since(began));
    let (happened, decided_ms) = t.decision(portal, uid, shown).await;
    t.step(&format!("{portal:<10} {uid}"), expected, &happened, on_ms.or(decided_ms));
    on
}

/// Takes the card out, for long enough that the reader reports it.
async fn out_of_box(d: &Dormitory) {
    d.line.remove(BOX_READER, 0);
    tokio::time::sleep(Duration::from_millis(OUT_MS)).await;
}

async fn reissue(d: &Dormitory, t: &mut Steps, op: Op) -> Result<(), Failure> {
    let began = Instant::now();
    let off = async {
        let off = d.line.wait_relay(RELAYS, BOX_RELAY, false, WAIT).await;
        (off, ms_since(began))
    };
    let (answered, (off, off_ms)) = tokio::join!(d.center.publish_and_wait(Some(&d.gateway), vec![op], WAIT), off);
    let answered = answered?;
    t.step(
        "power-412, relay written off, since the center published, its own disk included",
        "off",
        on_off(!off),
        Some(off_ms),
    );
    ack_steps(t, "reissue", &answered);
    let ack = answered.first().and_then(|a| a.ack.as_ref()).map(|(ack, _)| ack);
    let list = |all: Vec<String>| all.join(", ");
    let revoked = ack.iter().flat_map(|ack| ack.revoked.iter().map(ToString::to_string)).collect();
    let cut = ack.iter().flat_map(|ack| ack.cut.iter().map(ToString::to_string)).collect();
    t.step("revoked, named in the ack", OLD, &list(revoked), None);
    t.step("cut, named in the ack", "power-412", &list(cut), None);
    Ok(())
}
