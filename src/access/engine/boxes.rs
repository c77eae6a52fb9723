//! Power boxes in the engine: what happens at one is an event of its state machine, whose actions become orders, records and alarms.

use std::collections::BTreeSet;

use super::super::decide::{Identified, Observed, against_power, identify};
use super::super::decision::{Decision, Denial, Grant, GrantReason, Reason};
use super::super::effect::PortalOrder;
use super::super::event::{AlarmKind, Event, Flush};
use super::super::id::{CardUid, Now, PortalId};
use super::super::input::{PortalReport, Presented};
use super::super::portal::{Portal, PortalKind};
use super::super::power_box::{Actions, At, Note, OffCause, Order, PowerBox, PowerSource};
use super::{Due, Engine};

/// What is still to be recorded of a box.
pub(super) type BoxNote = (PortalId, Note);

/// What it did to the boxes that rights changed.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// What is to be recorded.
    pub notes: Vec<BoxNote>,
    /// The cards by which a box was on, or was to be, and is not any more or only until its delay ends.
    pub lost: Vec<LostPower>,
}

/// A card by which a box is not on any more.
#[derive(Debug)]
pub(super) struct LostPower {
    pub portal: PortalId,
    pub uid: CardUid,
    /// A report that the relay is off may be older than the order that switched it on.
    pub is_ambiguous: bool,
    /// It is on until its delay ends.
    is_leaving: bool,
}

impl Judged {
    /// The portals that this switched off, or that were to be switched on and are not: a box that waited for the end of its rest may
    /// have been on all the same.
    pub(super) fn cut(&self) -> Vec<PortalId> {
        let off = self.notes.iter().filter(|(_, note)| matches!(note, Note::Off { .. })).map(|(portal, _)| portal);
        let lost = self.lost.iter().filter(|lost| !lost.is_leaving).map(|lost| &lost.portal);
        off.chain(lost).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }
}

impl Engine {
    /// Whether `source` has a right to power at this box now, and the grant of it.
    fn power_grant(&self, portal: &Portal, source: PowerSource, now: Now) -> Result<Grant, Denial> {
        match source.card() {
            None => match against_power(&self.facts(Some(portal), now), portal) {
                Some(denial) => Err(denial),
                None => Ok(Grant::new(portal.id.clone(), None, GrantReason::Remote, None)),
            },
            // As the box's own reader sees it: a card that it cannot distinguish from another any more has lost its right here.
            // How it was read was judged when it was presented; what a box reports does not have that.
            Some(uid) => match self.judged(portal, &self.read_of(portal, uid), Observed::default(), now) {
                Decision::Grant(grant) => Ok(grant),
                Decision::Deny(denial) => Err(denial),
            },
        }
    }

    /// Hands one event to a box, gives its orders, and returns what is to be recorded.
    pub(super) fn order_box(
        &mut self,
        portal: &PortalId,
        now: Now,
        event: impl FnOnce(&mut PowerBox, &At<'_>, &mut Actions),
    ) -> Vec<BoxNote> {
        let Some(mut power) = self.boxes.get_mut(portal).map(std::mem::take) else { return Vec::new() };
        let mut actions = Actions::default();
        let shown: Vec<CardUid> = power.shown_cards().collect();
        if let Some(p) = self.portal(portal.as_str()) {
            let at = At {
                now: now.mono,
                delay_off_ms: u64::from(p.delay_off_ms),
                rest_ms: u64::from(p.rest_ms),
                revoke_power: self.policy.revoke_power,
                again_from: self.again_from,
                max_per_min: self.policy.max_energise_per_min as usize,
                rights: &|source| self.power_grant(p, source, now),
            };
            event(&mut power, &at, &mut actions);
        }
        self.deadlines.set(Due::Box(portal.clone()), power.due());
        if power.waits_since().is_some() {
            self.deadlines.set(Due::Turn, Some(self.again_from.max(now.mono)));
        }
        self.observations.box_shows(portal, &shown, power.shown_cards());
        self.boxes.insert(portal.clone(), power);
        for order in actions.orders {
            self.order(match order {
                Order::On { grant, announced } => PortalOrder::Energise { grant, announced },
                Order::Off(cause) => PortalOrder::Cut { portal: portal.clone(), reason: cause.as_str() },
            });
        }
        let stagger_ms = u64::from(self.policy.power_stagger_ms);
        for note in &actions.notes {
            match note {
                // It may be away: when it is back it is ordered off again.
                Note::Off { .. } => drop(self.missed_orders.insert(portal.clone())),
                Note::OnAgain { .. } => self.again_from = now.mono.plus_ms(stagger_ms),
                Note::On { .. } | Note::Denied { .. } | Note::PowerWithoutCard { .. } | Note::LeftOff { .. } => {}
            }
        }
        actions.notes.into_iter().map(|note| (portal.clone(), note)).collect()
    }

    /// Hands one event to a box and does all that follows.
    pub(super) fn at_box(
        &mut self,
        portal: &PortalId,
        now: Now,
        event: impl FnOnce(&mut PowerBox, &At<'_>, &mut Actions),
    ) {
        let notes = self.order_box(portal, now, event);
        self.record_boxes(&notes, now);
    }

    /// Records and raises what boxes did.
    pub(super) fn record_boxes(&mut self, notes: &[BoxNote], now: Now) {
        for (portal, note) in notes {
            match note {
                Note::On { by, confirmed, detail } => self.record_on(portal, *by, *confirmed, detail, now),
                Note::OnAgain { by } => {
                    self.record_on(portal, *by, false, "its relay was off; switched on again", now);
                }
                Note::Off { by, cause } => self.record_off(portal, *by, *cause, now),
                Note::Denied { uid, reason, detail } => {
                    let decision = Decision::Deny((*reason).into());
                    let event = self.decision_event(Some((portal, None)), *uid, &decision, detail.clone());
                    self.record(event, Flush::Soon, now);
                }
                Note::PowerWithoutCard { uid, detail } => {
                    self.alarm(AlarmKind::PowerWithoutCard, Some(portal), *uid, detail.clone(), now);
                }
                Note::LeftOff { uid, detail } => self.left_off_alarm(portal, *uid, detail.clone(), now),
            }
        }
    }

    fn record_on(&mut self, portal: &PortalId, source: PowerSource, confirmed: bool, detail: &str, now: Now) {
        let holder = self.holder_of(source.card().as_ref());
        let (id, portal, detail) = (portal.clone(), portal.clone(), detail.to_owned());
        let event = if confirmed {
            Event::PowerOn { portal, source, holder, detail }
        } else {
            Event::PowerOrdered { portal, source, holder, detail }
        };
        self.record(event, Flush::Soon, now);
        if confirmed {
            self.left_off_alarm_over(&id, now);
        }
        self.on_by_right(&id, now);
        self.note_edge_of(source.card(), now);
    }

    fn record_off(&mut self, portal: &PortalId, source: Option<PowerSource>, cause: OffCause, now: Now) {
        let who = self.who(source.and_then(PowerSource::card));
        self.record(Event::PowerOff { portal: portal.clone(), who, cause }, Flush::Now, now);
        self.ordered_off(portal, now);
    }

    /// A box reports: its cards, its relay, that it is back. Off is considered before the card and on after it, because only a card
    /// that is in it keeps on what is on.
    pub(super) fn box_reported(&mut self, portal: &PortalId, report: &PortalReport, is_back: bool, now: Now) {
        if report.relay == Some(false) {
            self.at_box(portal, now, |b, at, out| b.relay_reported(false, at, out));
        }
        if report.exchanged {
            self.at_box(portal, now, |b, at, out| b.exchanged(report.slot, at, out));
        }
        let is_on = report.relay == Some(true);
        let before: Vec<CardUid> =
            self.boxes.get(portal).filter(|_| is_on).into_iter().flat_map(PowerBox::cards_known).collect();
        self.card_reported(portal, report, now);
        if is_on {
            let newcomer = self.boxes.get(portal).and_then(|b| b.card_in(report.slot));
            let newcomer = newcomer.filter(|uid| !before.contains(uid));
            self.at_box(portal, now, |b, at, out| b.on_with(newcomer, is_back, at, out));
        }
        if is_back {
            let may_be_on = report.relay.unwrap_or(report.card_present == Some(true));
            self.at_box(portal, now, |b, at, out| b.online(may_be_on, at, out));
        }
        self.at_box(portal, now, PowerBox::judge_relay);
        if let Some(on) = report.relay {
            self.relay_proves(portal, on, now);
        }
    }

    fn card_reported(&mut self, portal: &PortalId, report: &PortalReport, now: Now) {
        let slot = report.slot;
        match (report.card_present, &report.uid) {
            (Some(false), _) if report.exchanged => {}
            (Some(false), _) => self.at_box(portal, now, |b, at, out| b.card_gone(slot, at, out)),
            (Some(true) | None, Some(presented @ (Presented::Card(_) | Presented::Lossy(_)))) => {
                let reason = match (identify(&self.state.list, presented), presented) {
                    (Identified::Card(uid), _) => {
                        return self.at_box(portal, now, |b, at, out| b.card_reported(slot, uid, at, out));
                    }
                    (Identified::Several, _) => Reason::AmbiguousIdentifier,
                    (Identified::Nobody | Identified::Malformed, _) => Reason::UnknownCredential,
                };
                if let Presented::Lossy(reading) = *presented {
                    let text = self.describe_reading(reading);
                    self.at_box(portal, now, |b, at, out| b.unread_reported(slot, (reading, &text), reason, at, out));
                }
            }
            (Some(true), Some(Presented::Malformed(_)) | None) | (None, Some(Presented::Malformed(_)) | None) => {}
        }
    }

    /// Judges the boxes whose right concerns one of `cards`, or all: gives the orders, and what is to be recorded.
    pub(super) fn judge_boxes(&mut self, cards: Option<&[CardUid]>, now: Now) -> Judged {
        let concerned = |b: &PowerBox| match (b.claim(), cards) {
            (Some(_), None) => true,
            (None, None) => b.awaits_room(),
            (Some(source), Some(cards)) => source.card().is_some_and(|uid| cards.contains(&uid)),
            (None, Some(_)) => false,
        };
        let portals: Vec<_> = self.boxes.iter().filter(|(_, b)| concerned(b)).map(|(id, _)| id.clone()).collect();
        let mut judged = Judged::default();
        for portal in portals {
            let before = self.boxes.get(&portal).and_then(|b| Some((b.claim()?.card()?, b.awaits_on())));
            judged.notes.extend(self.order_box(&portal, now, PowerBox::judge));
            let Some((uid, is_ambiguous)) = before else { continue };
            let is_leaving = self.boxes.get(&portal).is_some_and(PowerBox::is_leaving);
            let claim = self.boxes.get(&portal).and_then(PowerBox::claim);
            if is_leaving || claim.is_none() {
                judged.lost.push(LostPower { portal, uid, is_ambiguous, is_leaving });
            }
        }
        judged
    }

    pub(super) fn judge_all_boxes(&mut self, now: Now) {
        let Judged { notes, .. } = self.judge_boxes(None, now);
        self.record_boxes(&notes, now);
        self.find_next_edge(now);
    }

    /// A box that was switched off before the restart rests as long as if there had been none; where it is not known how long ago that
    /// was, from the start on.
    pub(super) fn rest_boxes_at_start(&mut self, now: Now) {
        let boot_n = self.observations.boot_n();
        for (id, off) in &self.state.boxes_off {
            let Some(p) = self.portals.iter().find(|p| p.id == *id) else { continue };
            let left_ms = u64::from(p.rest_ms).saturating_sub(off.age_ms(boot_n, now).unwrap_or(now.mono.0));
            if let Some(power) = self.boxes.get_mut(id) {
                power.rests_until(now.mono.plus_ms(left_ms));
            }
        }
    }

    /// A box that was on before the restart, and still may be, is left as it is. A controller that asks what is wanted reads that, or it
    /// would switch the room off.
    pub(super) fn inform_of_boxes_at_start(&mut self, now: Now) {
        let on: Vec<_> = self.boxes.iter().filter_map(|(id, power)| Some((id.clone(), power.source()?))).collect();
        for (id, source) in on {
            let Some(p) = self.portal(id.as_str()) else { continue };
            let (posture, grant) = (self.posture(p, now), self.power_grant(p, source, now));
            self.order(PortalOrder::Inform { portal: id, posture, on: grant.ok() });
        }
    }

    /// A box that the configuration does not name any more cannot be driven: it is remembered as off, and somebody has to look.
    pub(super) fn forget_boxes_without_portal(&mut self, now: Now) {
        let is_box = |id: &PortalId| self.portal(id.as_str()).is_some_and(|p| p.kind == PortalKind::PowerBox);
        let gone: Vec<_> =
            self.state.boxes.iter().filter(|(id, _)| !is_box(id)).map(|(id, by)| (id.clone(), *by)).collect();
        for (portal, by) in gone {
            self.record_off(&portal, Some(by), OffCause::Denied(Reason::UnknownPortal), now);
            let detail = format!(
                "`{portal}` was on when it left the configuration: its relay was not switched; switch it off by hand, or configure it again"
            );
            self.alarm(AlarmKind::PowerWithoutCard, Some(&portal), by.card(), detail, now);
        }
    }
}
