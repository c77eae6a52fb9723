//! The whole gateway on the real line: with a broker and a center of its own, the portals of the configuration, and the cards
//! that were read. What a card may, what it may not, and what it may no longer.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use dormgate::access::change::{Op, Subject};
use dormgate::access::credential::{Enrolment, Entitlement, ZoneSet};
use dormgate::access::event::{AlarmKind, AuditEvent, Event, EventKind, Outcome};
use dormgate::access::id::{CardUid, Holder, PortalId};
use dormgate::access::portal::PortalKind;
use dormgate::center::{Attention, Center, GatewayEvent, Layout, Service, create};
use dormgate::cli::serve::serve;
use dormgate::clock::Clock;
use dormgate::config::{self, PortalConfig, Site, Surroundings};
use dormgate::mqtt::LinkSpec;
use dormgate::workbench::broker::Broker;
use tokio::sync::{broadcast, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::person::{Report, heading, please, wait};

/// Longest wait for what needs no person.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long after the last order the gateway may still report that it was not confirmed; it reports it after 2 s.
const UNCONFIRMED_WITHIN: Duration = Duration::from_secs(4);
const GATEWAY: &str = "hil";

/// Whether all parts of a portal are on Modbus lines.
fn on_lines(portal: &PortalConfig) -> bool {
    portal.device.parts().is_some_and(|parts| parts.all().all(|part| part.modbus().is_some()))
}

/// The configuration's lines and portals, in a gateway that knows nobody yet.
fn trial(real: &Site, dir: &Path, broker: &Broker, streams: &str) -> Site {
    let text = format!(
        "[gateway]\nid = \"{GATEWAY}\"\ndata_dir = \"data\"\n[uplink]\nurls = [\"{}\"]\n{streams}",
        broker.url()
    );
    let around = Surroundings { base_dir: dir.to_owned(), credentials_dir: None };
    let mut trial = config::parse(&text, &around).expect("a configuration without diagnostics");
    trial.buses.clone_from(&real.buses);
    let parts = real.portals.iter().filter(|portal| on_lines(portal));
    trial.portals = parts.cloned().collect();
    trial
}

struct Office {
    center: Service,
    incoming: broadcast::Receiver<dormgate::center::Report>,
    events: Vec<AuditEvent>,
    issued: HashSet<CardUid>,
}

impl Office {
    /// The first event since `mark` that is wanted, within `limit`.
    async fn event(
        &mut self,
        mark: usize,
        limit: Duration,
        wanted: impl Fn(&AuditEvent) -> bool,
    ) -> Option<AuditEvent> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(event) = self.events.iter().skip(mark).find(|event| wanted(event)) {
                return Some(event.clone());
            }
            let next = timeout_at(deadline, self.incoming.recv()).await;
            match next.map(|next| next.map(|report| report.event)) {
                Ok(Ok(GatewayEvent::Audit(events))) => self.events.extend(events),
                Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => return None,
            }
        }
    }

    async fn report(&self, ops: Vec<Op>) -> Result<(), String> {
        let answered = self
            .center
            .publish_and_wait(Some(&GATEWAY.parse().expect("an id")), ops, PATIENCE)
            .await
            .map_err(|error| error.to_string())?;
        let applied =
            |a: &dormgate::center::Answered| a.ack.as_ref().is_some_and(|(ack, _)| ack.outcome.as_str() == "applied");
        if answered.iter().all(applied) { Ok(()) } else { Err("the gateway did not apply a change".to_owned()) }
    }
}

fn is(event: &AuditEvent, kind: EventKind, portal: &PortalId) -> bool {
    event.kind() == kind && event.body.portal() == Some(portal)
}

/// A relay that did not do what it was reported: a grant that was not carried out, or a cut.
fn is_unconfirmed(event: &AuditEvent, portal: &PortalId) -> bool {
    let Event::Alarm { kind, detail, .. } = &event.body else { return false };
    let not_done = ["a release was not confirmed", "a grant was not carried out"];
    let cut = *kind == AlarmKind::UnconfirmedRevocation;
    let release = *kind == AlarmKind::PortalOffline && not_done.iter().any(|begin| detail.starts_with(begin));
    is(event, EventKind::Alarm, portal) && (cut || release)
}

fn enrolment(holder: &Holder) -> Enrolment {
    let any = |kind| Entitlement { kind, zone: ZoneSet::Any, schedule: None };
    let entitlements = vec![any(PortalKind::Gate), any(PortalKind::Door), any(PortalKind::PowerBox)];
    Enrolment::resident(holder.clone(), entitlements)
}

pub async fn a_gateway_lets_in_who_may_and_nobody_who_may_not(
    real: &Site,
    cards: &BTreeMap<PortalId, CardUid>,
    report: &mut Report,
) {
    heading("The whole gateway on these lines, with a list of its own");
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start().await.expect("the broker of the test");
    let gateway = GATEWAY.parse().expect("an id");
    let center_dir = dir.path().join("center");
    let streams = create(&center_dir, Layout::One, std::num::NonZeroU32::MIN).expect("a center");
    let center = Center::open(&center_dir, std::slice::from_ref(&gateway)).expect("a center");
    let link = LinkSpec::plain(vec![broker.url()], "center");
    let center = Service::start(center, link, Clock::system(), Attention::Everything).expect("a link");
    assert!(center.wait_up(PATIENCE).await, "the center reaches the broker");
    let config = trial(real, dir.path(), &broker, &streams);
    let (end, ended) = oneshot::channel::<()>();
    let (is_ready, ready) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let reported = move |_: &dormgate::cli::serve::Running| is_ready.send(()).expect("it is waited for");
        serve(&config, async move { ended.await.unwrap_or_default() }, reported).await
    });
    let mut office = Office { incoming: center.reports(), center, events: Vec::new(), issued: HashSet::new() };
    if ready.await.is_ok() {
        for (portal, card) in cards {
            at_portal(real, portal, *card, &mut office, report).await;
        }
        let parts = real.portals.iter().filter(|portal| on_lines(portal));
        for portal in parts.map(|portal| &portal.portal.id).filter(|id| !cards.contains_key(*id)) {
            report.left_out(format_args!("`{portal}` with the gateway: no whole card number was read there"));
        }
        // A gateway that has ended already reports why below.
        end.send(()).ok();
    }
    match serving.await.expect("no panic") {
        Ok(()) => report.ok("the gateway has ended in order"),
        Err(error) => report.failed(format_args!("the gateway: {error}")),
    }
    office.center.close(PATIENCE).await;
    broker.stop().await;
}

async fn at_portal(real: &Site, id: &PortalId, card: CardUid, office: &mut Office, report: &mut Report) {
    let Some(portal) = real.portals.iter().find(|portal| portal.portal.id == *id) else { return };
    heading(format_args!("`{id}`, with the gateway"));
    let begun = office.events.len();
    let online = office.event(0, PATIENCE, |e| is(e, EventKind::PortalOnline, id)).await;
    if online.is_none() {
        report.failed(format_args!("`{id}` does not come online"));
        return;
    }
    let holder: Holder = format!("hil-{card}").parse().expect("a holder");
    // Issued once, at the first portal where it was read; withdrawn at the end of each.
    if office.issued.insert(card)
        && let Err(error) = office.report(vec![Op::Issue { uid: card, holder: holder.clone() }]).await
    {
        report.failed(format_args!("`{id}`: {error}"));
        return;
    }
    decides(office, id, card, "not_enrolled", report).await;
    if let Err(error) = office.report(vec![Op::Enrol { uid: card, enrolment: enrolment(&holder) }]).await {
        report.failed(format_args!("`{id}`: {error}"));
        return;
    }
    let mark = office.events.len();
    decides(office, id, card, "granted", report).await;
    match portal.portal.kind {
        PortalKind::Gate | PortalKind::Door => {}
        PortalKind::PowerBox => {
            conclude(
                office.event(mark, PATIENCE, |e| is(e, EventKind::PowerOn, id)).await.as_ref(),
                id,
                "was switched on, reports the audit",
                report,
            );
        }
    }
    let mark = office.events.len();
    let output = office.report(vec![Op::Withdraw { subject: Subject::Card(card) }]).await;
    if let Err(error) = output {
        report.failed(format_args!("`{id}`: {error}"));
        return;
    }
    match portal.portal.kind {
        PortalKind::PowerBox => {
            let off = office.event(mark, PATIENCE, |e| is(e, EventKind::PowerOff, id)).await;
            conclude(off.as_ref(), id, "was switched off because the card may no longer, reports the audit", report);
        }
        PortalKind::Gate | PortalKind::Door => decides(office, id, card, "not_enrolled", report).await,
    }
    please(format_args!("take the card away from `{id}`"));
    // What the gateway decided is in the audit at once; that a relay did not follow is output later.
    match office.event(begun, UNCONFIRMED_WITHIN, |e| is_unconfirmed(e, id)).await {
        None => report.ok(format_args!("`{id}`: every order was confirmed where the relay can be read back")),
        Some(event) => report.failed(format_args!("`{id}`: {}", event.body.detail())),
    }
    let trouble = |e: &AuditEvent| is(e, EventKind::PortalOffline, id);
    match office.event(0, Duration::from_millis(1), trouble).await {
        None => report.ok(format_args!("`{id}` was online all the time")),
        Some(event) => report.failed(format_args!("`{id}` went offline: {}", event.body.detail())),
    }
}

fn conclude(event: Option<&AuditEvent>, id: &PortalId, what: &str, report: &mut Report) {
    match event {
        Some(_) => report.ok(format_args!("`{id}` {what}")),
        None => report.failed(format_args!("it is not events that `{id}` {what}")),
    }
}

/// Lets the person present the card, again, and compares what is decided.
async fn decides(office: &mut Office, id: &PortalId, card: CardUid, wanted: &str, report: &mut Report) {
    let mark = office.events.len();
    please(format_args!("take the card away from `{id}`, wait 3 s, and present it again; leave it there"));
    let decided = office.event(mark, wait(), |e| is(e, EventKind::Decision, id) && e.body.uid() == Some(card)).await;
    let reason = decided.map(|event| match event.body {
        Event::Decision { outcome: Outcome::Grant(reason), .. } => reason.as_str(),
        Event::Decision { outcome: Outcome::Deny(reason), .. } => reason.as_str(),
        _ => "",
    });
    match reason {
        Some(reason) if reason == wanted => report.ok(format_args!("`{id}`: {card} {reason}")),
        Some(reason) => report.failed(format_args!("`{id}`: {card} {reason}, and `{wanted}` is right")),
        None => report.failed(format_args!("`{id}`: no decision on {card}; was another card presented?")),
    }
}
