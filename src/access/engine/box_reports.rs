//! What a power box says of itself: the cards in it, its relay. A report alone never switches on.

use super::super::effect::PortalOrder;
use super::super::event::{AlarmKind, OffCause};
use super::super::id::{CardUid, Now, PortalId};
use super::super::input::{PortalReport, Presented};
use super::super::presence::UnexpectedOff;
use super::Engine;
use super::boxes::Turned;

/// How long after an order a report of relay or meter may still be that of before, in milliseconds.
pub(super) const RELAY_SETTLE_MS: u64 = 3_000;

impl Engine {
    /// A box says who is in it, or that nobody is.
    pub(super) fn card_reported(&mut self, portal: &PortalId, report: &PortalReport, now: Now) {
        if report.exchanged {
            self.card_exchanged(portal, report.slot, now);
        }
        match (report.card_present, &report.uid) {
            (Some(false), _) if report.exchanged => {}
            (Some(false), _) => {
                self.boxes.entry(portal.clone()).or_default().empty(report.slot);
                self.holder_gone(portal, now);
            }
            (Some(true) | None, Some(Presented::Card(uid))) => self.card_in_box(portal, *uid, report, now),
            (Some(true) | None, Some(Presented::Lossy(reading))) => self.reading_in_box(portal, *reading, report, now),
            (Some(true), Some(Presented::Malformed(_)) | None) | (None, Some(Presented::Malformed(_)) | None) => {}
        }
    }

    pub(super) fn card_in_box(&mut self, portal: &PortalId, uid: CardUid, report: &PortalReport, now: Now) {
        let power = self.boxes.entry(portal.clone()).or_default();
        let known = power.on_card() == Some(uid);
        let asked_already = power.present.get(&report.slot) == Some(&uid);
        let is_on = power.on.is_some();
        let ordered = power.ordered_at.is_some();
        if asked_already && !known {
            // It was presented and answered, or reported before: nothing new.
            return;
        }
        power.put(report.slot, uid);
        if power.kept_by().is_some() && known {
            return;
        }
        match self.judge_box(portal, uid, now) {
            Ok(()) => {
                // On already, or the box says its relay is: it stays so. By this card's right, unless another one keeps it on.
                // What this run has told to switch is on only if it says so.
                let said_on = report.relay == Some(true) || (report.relay.is_none() && !ordered);
                let stays_on = is_on || said_on;
                let kept = self.boxes.get(portal).is_some_and(|b| b.kept_by().is_some());
                if stays_on && !kept {
                    self.admit(portal, uid, Some("reported by the box"), now);
                }
            }
            Err(denial) => {
                self.holder_gone(portal, now);
                if is_on {
                    // It is on by another card that is there, or a delay runs: that of the card that was there before, from now
                    // if it was not reported to have left, or this card's own after it lost its right (`policy.revoke_power`).
                    return;
                }
                self.cut_unremembered(portal, OffCause::Denied(denial.reason), now);
                let detail = format!("the box reports a card that may not draw power: {}", denial.reason.as_str());
                self.alarm(AlarmKind::PowerWithoutCard, Some(portal), Some(uid), detail, now);
            }
        }
    }

    /// Cuts a box whether or not it is believed on.
    pub(super) fn cut_unremembered(&mut self, portal: &PortalId, reason: OffCause, now: Now) {
        match self.cut(portal, reason, now) {
            Some(cut) => self.record_turned(&[cut], now),
            None => {
                self.boxes.entry(portal.clone()).or_default().ordered_at = Some(now.mono);
                self.order(PortalOrder::Cut { portal: portal.clone(), reason: reason.as_str() });
                self.record_turned(&[Turned::off(portal.clone(), None, reason)], now);
            }
        }
    }

    /// A box says whether its relay is on.
    pub(super) fn relay_reported(&mut self, portal: &PortalId, relay: bool, now: Now) {
        let power = self.boxes.entry(portal.clone()).or_default();
        power.recheck_at = None;
        if !relay {
            power.reported_without_card = false;
            self.reads_off(portal, now);
            return;
        }
        power.dark = UnexpectedOff::No;
        if power.on.is_some() {
            return;
        }
        let settles_at = power.ordered_at.map(|at| at.plus_ms(RELAY_SETTLE_MS)).filter(|at| *at > now.mono);
        if settles_at.is_some() {
            power.recheck_at = settles_at;
            return;
        }
        self.relay_without_right(portal, now);
    }

    /// A relay is on without a right: it is told off each time, recorded and raised the first time.
    fn relay_without_right(&mut self, portal: &PortalId, now: Now) {
        let power = self.boxes.entry(portal.clone()).or_default();
        if std::mem::replace(&mut power.reported_without_card, true) {
            power.ordered_at = Some(now.mono);
            self.order(PortalOrder::Cut {
                portal: portal.clone(),
                reason: self.reason_to_be_off(portal, now).as_str(),
            });
            return;
        }
        self.cut_unremembered(portal, self.reason_to_be_off(portal, now), now);
        let detail = "the relay is on and no permitted card is there; it was told to switch off".to_owned();
        self.alarm(AlarmKind::PowerWithoutCard, Some(portal), None, detail, now);
    }

    pub(super) fn reason_to_be_off(&self, portal: &PortalId, now: Now) -> OffCause {
        let mut present = self.boxes.get(portal).into_iter().flat_map(|b| b.present.values());
        let denial = present.find_map(|uid| self.judge_box(portal, *uid, now).err());
        denial.map_or(OffCause::CardLeft, |d| OffCause::Denied(d.reason))
    }

    /// A box was away, so it may not have heard the last order, and nobody keeps one for it: one that is to be off and may be on
    /// is told again at once.
    pub(super) fn box_is_back(&mut self, portal: &PortalId, may_be_on: bool, now: Now) {
        let Some(power) = self.boxes.get_mut(portal).filter(|b| may_be_on && b.on.is_none()) else { return };
        if power.ordered_at.replace(now.mono) != Some(now.mono) {
            self.order(PortalOrder::Cut {
                portal: portal.clone(),
                reason: self.reason_to_be_off(portal, now).as_str(),
            });
        }
    }
}
