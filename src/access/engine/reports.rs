//! What portals report of themselves.

use super::super::change::ErrorCode;
use super::super::credential::Role;
use super::super::decide::{against_posture, list_flags};
use super::super::decision::{Grant, GrantReason};
use super::super::effect::{Effect, PortalOrder};
use super::super::event::{AlarmKind, Event, Flush, Outcome, Who};
use super::super::id::{Now, PortalId};
use super::super::input::{MessageKind, PortalReport};
use super::super::portal::PortalKind;
use super::doors::Release;
use super::{Due, Engine};

/// How long the link to portals may be lost before they are offline, in milliseconds. A broker that is restarted is back sooner.
pub const LINK_LOST_MS: u64 = 5_000;
/// Why a portal that names no cause is offline.
const LAST_WILL: &str = "its last will was sent";

impl Engine {
    pub(super) fn report(&mut self, portal: &str, report: &PortalReport, now: Now) {
        let Some(known) = self.portal(portal) else {
            let detail = self.without_uids(format!("a report of portal `{portal}`, which is not configured"));
            self.record_rejection(MessageKind::Report, ErrorCode::UnknownPortal, detail, now);
            return;
        };
        let id = known.id.clone();
        let kind = known.kind;
        let hold_ms = known.hold_ms;
        self.malformed_reported(&id, &report.malformed, now);
        if !report.malformed.is_empty() && report.reports_nothing() {
            // Nothing of it could be read, so it is not even a sign of life.
            return;
        }
        // Anything but its last will shows that the portal is there, unless it reports itself when it is.
        let online = report.online.unwrap_or(!self.reports_return(&id));
        let is_back = online && self.is_back(&id, report.online == Some(true));
        if is_back {
            self.send_mode_again(&id, now);
        }
        match report.output_online {
            Some(true) => drop(self.outputs_offline.remove(&id)),
            Some(false) => drop(self.outputs_offline.insert(id.clone())),
            None => {}
        }
        match report.online {
            Some(false) if report.contact_answers => drop(self.contacts_answer.insert(id.clone())),
            Some(_) => drop(self.contacts_answer.remove(&id)),
            None => {}
        }
        self.online_reported(&id, online, report.cause.as_deref(), now);
        if let Some(fire) = report.fire {
            self.fire_reported(&id, fire, now);
            if report.fire_over {
                self.fire_reported(&id, false, now);
            }
        }
        if report.exit_button && kind != PortalKind::PowerBox {
            let (by, hold_ms) = (GrantReason::Exit, hold_ms.max(self.release_left_ms(&id, now)));
            let grant = Grant::new(id.clone(), None, by, Some(hold_ms));
            self.order(PortalOrder::Release { grant });
            self.released(&id, Release { uid: None, by, hold_ms }, now);
            let facts = self.facts(self.portal(portal), now);
            let also = self.portal(portal).map(|p| against_posture(&facts, p)).unwrap_or_default();
            let flags = list_flags(&facts);
            let event = Event::Decision {
                portal: Some(id.clone()),
                who: Who::default(),
                role: Role::Resident,
                outcome: Outcome::Grant(GrantReason::Exit),
                also,
                flags,
                direction: None,
                detail: "exit button".to_owned(),
            };
            self.record(event, Flush::Soon, now);
        }
        if kind == PortalKind::PowerBox {
            self.box_reported(&id, report, is_back, now);
            self.trip_inputs_reported(&id, report, now);
        } else if let Some(relay) = report.relay {
            self.door_relay(&id, relay, now);
        }
        self.meter_reported(&id, kind, report, now);
        if let Some(open) = report.contact_open.filter(|_| kind != PortalKind::PowerBox) {
            self.contact(&id, open, now);
        }
        if let Some(direction) = report.passed.filter(|_| kind != PortalKind::PowerBox) {
            self.passed(&id, direction, now);
        }
        if let Some(tamper) = report.tamper {
            let was = if tamper { !self.tampered.insert(id.clone()) } else { self.tampered.remove(&id) };
            if tamper && !was {
                self.alarm(AlarmKind::Tamper, Some(&id), None, "the housing is open".to_owned(), now);
            } else if !tamper && was {
                self.alarm_over(AlarmKind::Tamper, &id, "the housing is closed again", now);
            }
        }
    }

    /// Whether this is a portal's first sign of life, or the first since it was away. One that was away may have gone unnoticed:
    /// it has no last will, or its broker was away too. It reports `online` when it comes, so what was ordered before may be lost.
    fn is_back(&mut self, portal: &PortalId, reports_online: bool) -> bool {
        let missed = reports_online && self.missed_orders.remove(portal);
        missed || self.online.get(portal) != Some(&true)
    }

    /// Whether a portal is offline and its adapter knows why: it reports when it is back. Of a portal put together from several devices one may
    /// go on answering while another is gone.
    pub(super) fn reports_return(&self, portal: &PortalId) -> bool {
        self.down.contains(portal)
    }

    /// Sends a portal its mode if this is its first sign of life, or the first since it was away.
    pub(super) fn send_mode_if_back(&mut self, portal: &PortalId, now: Now) {
        if self.online.get(portal) != Some(&true) {
            self.send_mode_again(portal, now);
        }
    }

    pub(super) fn online_reported(&mut self, portal: &PortalId, online: bool, cause: Option<&str>, now: Now) {
        let known_cause = !online && (cause.is_some() || self.reports_return(portal));
        if known_cause {
            self.down.insert(portal.clone())
        } else {
            self.down.remove(portal)
        };
        match cause {
            _ if online => drop(self.causes.remove(portal)),
            Some(cause) => drop(self.causes.insert(portal.clone(), cause.to_owned())),
            None => drop(self.causes.entry(portal.clone()).or_insert_with(|| LAST_WILL.to_owned())),
        }
        let before = self.online.insert(portal.clone(), online);
        if before == Some(online) {
            return;
        }
        let (id, detail) = (portal.clone(), cause.unwrap_or_default().to_owned());
        let event = if online {
            Event::PortalOnline { portal: id, detail }
        } else {
            Event::PortalOffline { portal: id, detail }
        };
        self.record(event, Flush::Soon, now);
        if online {
            self.alarm_over(AlarmKind::PortalOffline, portal, "the portal answers again", now);
        } else {
            self.is_gone(portal, now);
            let detail = cause.unwrap_or(LAST_WILL).to_owned();
            self.alarm(AlarmKind::PortalOffline, Some(portal), None, detail, now);
        }
        self.out.push(Effect::StateChanged);
    }

    /// What a portal reported last is not known any more.
    fn is_gone(&mut self, portal: &PortalId, now: Now) {
        self.meter_lost(portal, now);
        self.fire_shown.remove(portal);
        self.at_box(portal, now, |power, _, _| power.offline());
        self.door_offline(portal);
    }

    /// The link to portals is up, or lost. Nothing that opens is ordered while it is lost; that it is, is reported when it lasts.
    pub(super) fn portal_link(&mut self, portals: Vec<PortalId>, lost: Option<String>, now: Now) {
        if let Some(why) = lost {
            let was_up = self.unlinked.replace((portals.into_iter().collect(), why)).is_none();
            if was_up {
                self.deadlines.set(Due::Link, Some(now.mono.plus_ms(LINK_LOST_MS)));
            }
        } else {
            self.unlinked = None;
            self.deadlines.set(Due::Link, None);
            self.link_alarm_over(now);
        }
    }

    /// The link to portals is lost, and not only because its broker was restarted: they are offline, and one alarm names the broker.
    pub(super) fn link_due(&mut self, now: Now) {
        let Some((portals, why)) = self.unlinked.clone() else { return };
        for portal in &portals {
            self.contacts_answer.remove(portal);
            if self.online.insert(portal.clone(), false) != Some(false) {
                let detail = why.clone();
                self.causes.insert(portal.clone(), format!("the broker of the portals is not connected: {why}"));
                self.record(Event::PortalOffline { portal: portal.clone(), detail }, Flush::Soon, now);
                self.is_gone(portal, now);
            }
        }
        if !portals.is_empty() {
            let detail =
                format!("the broker of {} portal(s) is not connected ({why}); nothing reaches them", portals.len());
            self.link_alarm(detail, now);
            self.out.push(Effect::StateChanged);
        }
    }
}
