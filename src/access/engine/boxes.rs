//! Power boxes: standing grants, judged anew on every change, time edge and restart.

use super::super::audit::{AlarmKind, AuditEvent, EventKind, Flush};
use super::super::decide::{Question, against_power, decide};
use super::super::decision::{Decision, Denial, Reason};
use super::super::effect::Effect;
use super::super::id::{CardUid, Now, PortalId};
use super::super::input::Presented;
use super::super::policy::RevokePower;
use super::super::portal::PortalKind;
use super::super::presence::OnBy;
use super::Engine;

/// `reason` of a cut because the card left; every other is a reason of the ladder, or `remote`.
pub const CARD_LEFT: &str = "card_left";
/// `reason` of a cut by command.
pub const BY_COMMAND: &str = "remote";

/// A box that was switched off, for the audit.
#[derive(Debug)]
pub(super) struct CutDone {
    pub(super) portal: PortalId,
    uid: Option<CardUid>,
    reason: &'static str,
}

impl Engine {
    /// Whether `uid` may draw power at `portal` now.
    pub(super) fn judge_box(&self, portal: &PortalId, uid: CardUid, now: Now) -> Result<(), Denial> {
        let Some(portal) = self.portal(portal.as_str()) else {
            return Err(Denial::from(Reason::UnknownPortal));
        };
        // As the box's own reader sees it: a card that it cannot tell from another any more has lost its right here.
        let presented = self.as_read_at(&portal.id, uid);
        let question = Question { portal: Some(portal), presented: &presented, direction: None, stale: false };
        match decide(&self.facts(self.posture(portal, now), now), &question) {
            Decision::Grant(_) => Ok(()),
            Decision::Deny(denial) => Err(denial),
        }
    }

    /// A card was presented at a box and answered: the grant is the order to switch on.
    pub(super) fn presented_at_box(&mut self, portal: &PortalId, uid: CardUid, denial: Option<Denial>, now: Now) {
        let power = self.boxes.entry(portal.clone()).or_default();
        match denial {
            None => {
                power.ordered_at = Some(now.mono);
                if power.admit(uid) {
                    let event = AuditEvent {
                        portal: Some(portal.clone()),
                        uid: Some(uid),
                        holder: self.holder_of(Some(&uid)),
                        ..self.event(EventKind::PowerOn, now)
                    };
                    self.record(event, Flush::Soon);
                    self.find_next_edge(now);
                }
            }
            Some(_) => self.another_card(portal, uid, now),
        }
    }

    /// A card that may not draw power is in the box: the one on whose right it is on has left.
    fn another_card(&mut self, portal: &PortalId, uid: CardUid, now: Now) {
        let off_at = now.mono.plus_ms(self.delay_off_ms(portal));
        let power = self.boxes.entry(portal.clone()).or_default();
        if power.on_card() != Some(uid) {
            power.leave(off_at);
        }
        power.present = Some(uid);
    }

    /// Switches a box off and gives what to record. `None`: it was not on.
    pub(super) fn cut(&mut self, portal: &PortalId, reason: &'static str, now: Now) -> Option<CutDone> {
        let power = self.boxes.get_mut(portal)?;
        let on = power.switch_off()?;
        power.ordered_at = Some(now.mono);
        let uid = match on {
            OnBy::Card(uid) => Some(uid),
            OnBy::Remote => None,
        };
        self.unheard.insert(portal.clone());
        self.out.push(Effect::Cut { portal: portal.clone(), reason });
        Some(CutDone { portal: portal.clone(), uid, reason })
    }

    pub(super) fn record_cuts<'c>(&mut self, cuts: impl IntoIterator<Item = &'c CutDone>, now: Now) {
        for cut in cuts {
            let event = AuditEvent {
                portal: Some(cut.portal.clone()),
                uid: cut.uid,
                holder: self.holder_of(cut.uid.as_ref()),
                reason: Some(cut.reason.to_owned()),
                ..self.event(EventKind::PowerOff, now)
            };
            self.record(event, Flush::Now);
        }
    }

    /// The boxes that are on; only those by one of `cards`, if given.
    pub(super) fn boxes_to_judge(&self, cards: Option<&[CardUid]>) -> Vec<PortalId> {
        let concerned = |on: OnBy| match (on, cards) {
            (OnBy::Card(_) | OnBy::Remote, None) => true,
            (OnBy::Card(uid), Some(cards)) => cards.contains(&uid),
            (OnBy::Remote, Some(_)) => false,
        };
        let on = self.boxes.iter().filter(|(_, b)| b.on.is_some_and(concerned));
        on.map(|(portal, _)| portal.clone()).collect()
    }

    /// What speaks against power at a box that is on by this right.
    fn against(&self, portal: &PortalId, on: OnBy, now: Now) -> Option<Denial> {
        match (on, self.portal(portal.as_str())) {
            (OnBy::Card(uid), _) => self.judge_box(portal, uid, now).err(),
            (OnBy::Remote, Some(p)) => against_power(&self.facts(self.posture(p, now), now), p),
            (OnBy::Remote, None) => Some(Denial::from(Reason::UnknownPortal)),
        }
    }

    /// Judges these boxes and takes power from those that may not have it any more.
    pub(super) fn cut_without_right(&mut self, portals: &[PortalId], now: Now) -> Vec<CutDone> {
        let mut cuts = Vec::new();
        for portal in portals {
            let Some(on) = self.boxes.get(portal).and_then(|b| b.on) else { continue };
            let Some(denial) = self.against(portal, on, now) else {
                // A right that came back within the delay counts if its card is still there.
                let power = self.boxes.get_mut(portal).filter(|b| b.on_card().is_none_or(|uid| b.present == Some(uid)));
                power.into_iter().for_each(|b| b.off_at = None);
                continue;
            };
            match self.policy.revoke_power {
                RevokePower::AfterDelay if !is_at_once(denial) => {
                    let off_at = now.mono.plus_ms(self.delay_off_ms(portal));
                    if let Some(power) = self.boxes.get_mut(portal) {
                        power.off_at.get_or_insert(off_at);
                    }
                }
                RevokePower::AtOnce | RevokePower::AfterDelay => {
                    cuts.extend(self.cut(portal, denial.reason.as_str(), now));
                }
            }
        }
        cuts
    }

    pub(super) fn judge_all_boxes(&mut self, now: Now) {
        let cuts = self.cut_without_right(&self.boxes_to_judge(None), now);
        self.record_cuts(&cuts, now);
        self.find_next_edge(now);
    }

    /// A box that the configuration does not name any more cannot be driven; it is remembered as off.
    pub(super) fn forget_boxes_without_portal(&mut self, now: Now) {
        let is_box = |id: &PortalId| self.portal(id.as_str()).is_some_and(|p| p.kind == PortalKind::PowerBox);
        let gone: Vec<_> = self.boxes.keys().filter(|id| !is_box(id)).cloned().collect();
        for portal in gone {
            let uid = self.boxes.remove(&portal).and_then(|b| b.on_card());
            let reason = Reason::UnknownPortal.as_str();
            self.record_cuts(&[CutDone { portal, uid, reason }], now);
        }
    }

    pub(super) fn delay_off_ms(&self, portal: &PortalId) -> u64 {
        self.portal(portal.as_str()).map_or(0, |p| u64::from(p.delay_off_ms))
    }

    /// Switches off the boxes whose delay has passed, or whose relay did not follow an order.
    pub(super) fn wake_boxes(&mut self, now: Now) {
        let due = |b: &super::PowerBox| b.off_at.is_some_and(|at| at <= now.mono);
        let due: Vec<_> = self.boxes.iter().filter(|(_, b)| due(b)).map(|(portal, _)| portal.clone()).collect();
        for portal in due {
            // A card that is still there has not left: it lost its right some time ago.
            let there = self.boxes.get(&portal).filter(|b| b.present.is_some() && b.present == b.on_card());
            let denial = there.and_then(|b| b.on).and_then(|on| self.against(&portal, on, now));
            let cut = self.cut(&portal, denial.map_or(CARD_LEFT, |d| d.reason.as_str()), now);
            self.record_cuts(cut.as_slice(), now);
        }
        let doubted = |b: &super::PowerBox| b.recheck_at.is_some_and(|at| at <= now.mono);
        let doubted: Vec<_> = self.boxes.iter().filter(|(_, b)| doubted(b)).map(|(portal, _)| portal.clone()).collect();
        for portal in doubted {
            self.relay_reported(&portal, true, now);
        }
    }

    /// A box says who is in it, or that nobody is. A report alone never switches on.
    pub(super) fn card_reported(
        &mut self,
        portal: &PortalId,
        present: Option<bool>,
        card: Option<&Presented>,
        relay: Option<bool>,
        now: Now,
    ) {
        match (present, card) {
            (Some(false), _) => {
                let off_at = now.mono.plus_ms(self.delay_off_ms(portal));
                self.boxes.entry(portal.clone()).or_default().leave(off_at);
            }
            (Some(true) | None, Some(Presented::Card(uid))) => self.card_in_box(portal, *uid, relay, now),
            (Some(true) | None, Some(Presented::Lossy(reading))) => self.reading_in_box(portal, *reading, relay, now),
            (Some(true), Some(Presented::Malformed(_)) | None) | (None, Some(Presented::Malformed(_)) | None) => {}
        }
    }

    pub(super) fn card_in_box(&mut self, portal: &PortalId, uid: CardUid, relay: Option<bool>, now: Now) {
        let power = self.boxes.entry(portal.clone()).or_default();
        let known = power.on_card() == Some(uid);
        let asked_already = power.present == Some(uid);
        let is_on = power.on.is_some();
        if known && power.off_at.is_none() {
            power.present = Some(uid);
            return;
        }
        if asked_already && !known {
            // It was presented and refused, or reported before: nothing new.
            return;
        }
        match self.judge_box(portal, uid, now) {
            Ok(()) => {
                // On already, or the box says its relay is: it stays so, now by this card's right.
                let stays_on = is_on || relay != Some(false);
                let power = self.boxes.entry(portal.clone()).or_default();
                if !stays_on {
                    power.present = Some(uid);
                } else if power.admit(uid) {
                    let event = AuditEvent {
                        portal: Some(portal.clone()),
                        uid: Some(uid),
                        holder: self.holder_of(Some(&uid)),
                        detail: Some("reported by the box".to_owned()),
                        ..self.event(EventKind::PowerOn, now)
                    };
                    self.record(event, Flush::Soon);
                    self.find_next_edge(now);
                }
            }
            Err(denial) => {
                self.another_card(portal, uid, now);
                if is_on {
                    // A delay runs: that of the card that was there before, from now if it was not reported to have left,
                    // or this card's own after it lost its right (`policy.revoke_power`).
                    return;
                }
                self.cut_unremembered(portal, denial.reason.as_str(), now);
                let detail = format!("the box reports a card that may not draw power: {}", denial.reason.as_str());
                self.alarm(AlarmKind::PowerWithoutCard, Some(portal), Some(uid), detail, now);
            }
        }
    }

    /// Cuts a box whether or not it is believed on.
    pub(super) fn cut_unremembered(&mut self, portal: &PortalId, reason: &'static str, now: Now) {
        match self.cut(portal, reason, now) {
            Some(cut) => self.record_cuts(&[cut], now),
            None => {
                self.boxes.entry(portal.clone()).or_default().ordered_at = Some(now.mono);
                self.out.push(Effect::Cut { portal: portal.clone(), reason });
                self.record_cuts(&[CutDone { portal: portal.clone(), uid: None, reason }], now);
            }
        }
    }

    /// A box says whether its relay is on.
    pub(super) fn relay_reported(&mut self, portal: &PortalId, relay: bool, now: Now) {
        let power = self.boxes.entry(portal.clone()).or_default();
        power.recheck_at = None;
        if !relay {
            power.reported_without_card = false;
            return;
        }
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
            self.out.push(Effect::Cut { portal: portal.clone(), reason: self.reason_to_be_off(portal, now) });
            return;
        }
        self.cut_unremembered(portal, self.reason_to_be_off(portal, now), now);
        let detail = "the relay is on and no permitted card is there; it was told to switch off".to_owned();
        self.alarm(AlarmKind::PowerWithoutCard, Some(portal), None, detail, now);
    }

    fn reason_to_be_off(&self, portal: &PortalId, now: Now) -> &'static str {
        let present = self.boxes.get(portal).and_then(|b| b.present);
        let denial = present.and_then(|uid| self.judge_box(portal, uid, now).err());
        denial.map_or(CARD_LEFT, |d| d.reason.as_str())
    }

    /// A box was away, so it may not have heard the last order, and nobody keeps one for it: one that is to be off and may be on
    /// is told again at once.
    pub(super) fn box_is_back(&mut self, portal: &PortalId, may_be_on: bool, now: Now) {
        let Some(power) = self.boxes.get_mut(portal).filter(|b| may_be_on && b.on.is_none()) else { return };
        if power.ordered_at.replace(now.mono) != Some(now.mono) {
            self.out.push(Effect::Cut { portal: portal.clone(), reason: self.reason_to_be_off(portal, now) });
        }
    }
}

/// Whether this is no loss of a card's right but a matter of the room, which waits for no delay.
fn is_at_once(denial: Denial) -> bool {
    let of_room =
        |r| matches!(r, Reason::OutOfService | Reason::Lockdown | Reason::PowerSuspended | Reason::OutsideSchedule);
    of_room(denial.reason) || denial.also.iter().any(of_room)
}

/// How long after an order a relay report may still be that of before, in milliseconds.
const RELAY_SETTLE_MS: u64 = 3_000;
