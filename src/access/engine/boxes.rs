//! Power boxes: standing grants, judged anew on every change, time edge and restart.

use super::super::decide::{Question, against_power, decide};
use super::super::decision::{Decision, Denial, Grant, Reason};
use super::super::effect::PortalOrder;
use super::super::event::{Event, Flush, OffCause};
use super::super::id::{CardUid, Now, PortalId};
use super::super::policy::RevokePower;
use super::super::portal::PortalKind;
use super::super::presence::{PowerSource, UnexpectedOff};
use super::Engine;

/// A box that was switched, or is on by another card than before: for the audit.
#[derive(Debug)]
pub(super) struct Turned {
    portal: PortalId,
    uid: Option<CardUid>,
    how: How,
}

#[derive(Debug)]
enum How {
    /// Off, and why.
    Off(OffCause),
    /// On by this card from now on; for a person, how it came to it.
    PowerSource(Option<String>),
}

impl Turned {
    pub(super) fn on_by(portal: PortalId, uid: CardUid, detail: String) -> Self {
        Self { portal, uid: Some(uid), how: How::PowerSource(Some(detail)) }
    }

    pub(super) fn off(portal: PortalId, uid: Option<CardUid>, reason: OffCause) -> Self {
        Self { portal, uid, how: How::Off(reason) }
    }

    /// The portal, if it was switched off.
    pub(super) fn cut(self) -> Option<PortalId> {
        match self.how {
            How::Off(_) => Some(self.portal),
            How::PowerSource(_) => None,
        }
    }
}

impl Engine {
    /// Whether `uid` may draw power at `portal` now.
    pub(super) fn judge_box(&self, portal: &PortalId, uid: CardUid, now: Now) -> Result<(), Denial> {
        self.grant_at_box(portal, uid, now).map(drop)
    }

    /// The grant by which `uid` may draw power at `portal` now.
    pub(super) fn grant_at_box(&self, portal: &PortalId, uid: CardUid, now: Now) -> Result<Grant, Denial> {
        let Some(portal) = self.portal(portal.as_str()) else {
            return Err(Denial::from(Reason::UnknownPortal));
        };
        // As the box's own reader sees it: a card that it cannot tell from another any more has lost its right here.
        let presented = self.as_read_at(&portal.id, uid);
        let question = Question { portal: Some(portal), presented: &presented, direction: None, stale: false };
        match decide(&self.facts(self.posture(portal, now), now), &question) {
            Decision::Grant(grant) => Ok(grant),
            Decision::Deny(denial) => Err(denial),
        }
    }

    /// A card was presented at a box and answered: the grant is the order to switch on.
    pub(super) fn presented_at_box(
        &mut self,
        portal: &PortalId,
        slot: u8,
        uid: CardUid,
        denial: Option<Denial>,
        now: Now,
    ) {
        let power = self.boxes.entry(portal.clone()).or_default();
        power.put(slot, uid);
        match denial {
            None => {
                power.ordered_at = Some(now.mono);
                power.dark = UnexpectedOff::No;
                // A second card in a box that another one keeps on changes nothing until that one leaves.
                if power.kept_by().is_none() {
                    self.admit(portal, uid, None, now);
                }
            }
            Some(_) => self.holder_gone(portal, now),
        }
    }

    /// The box is on by `uid` from now on.
    pub(super) fn admit(&mut self, portal: &PortalId, uid: CardUid, how: Option<&str>, now: Now) {
        if let Some(turned) = self.take_over(portal, uid, how) {
            self.record_turned(&[turned], now);
            self.find_next_edge(now);
        }
    }

    fn take_over(&mut self, portal: &PortalId, uid: CardUid, how: Option<&str>) -> Option<Turned> {
        let power = self.boxes.entry(portal.clone()).or_default();
        let from = power.on_card().map(|before| format!("handed over from {before}"));
        let detail: Vec<&str> = how.into_iter().chain(from.as_deref()).collect();
        let detail = (!detail.is_empty()).then(|| detail.join("; "));
        power.admit(uid).then(|| Turned { portal: portal.clone(), uid: Some(uid), how: How::PowerSource(detail) })
    }

    /// Another card in the box that may have power: by it the box stays on without a gap.
    fn successor(&self, portal: &PortalId, of: CardUid, now: Now) -> Option<CardUid> {
        let mut present = self.boxes.get(portal)?.present.values().copied();
        present.find(|uid| *uid != of && self.judge_box(portal, *uid, now).is_ok())
    }

    /// If the card that the box is on by is not in it any more, the box is handed over to the next that may; else its delay runs.
    pub(super) fn holder_gone(&mut self, portal: &PortalId, now: Now) {
        let Some(power) = self.boxes.get(portal) else { return };
        let Some(holder) = power.on_card().filter(|holder| !power.holds(*holder)) else { return };
        let off_at = now.mono.plus_ms(self.delay_off_ms(portal));
        match self.successor(portal, holder, now) {
            Some(next) => self.admit(portal, next, None, now),
            None => {
                let power = self.boxes.entry(portal.clone()).or_default();
                power.off_at.get_or_insert(off_at);
            }
        }
    }

    /// Another card is in the slot, and nobody saw the slot empty: the box goes off before that card is judged, unless a card in
    /// another slot keeps it on.
    pub(super) fn card_exchanged(&mut self, portal: &PortalId, slot: u8, now: Now) {
        let power = self.boxes.entry(portal.clone()).or_default();
        let gone = power.empty(slot);
        let Some(holder) = power.on_card().filter(|holder| gone == Some(*holder) && !power.holds(*holder)) else {
            return self.holder_gone(portal, now);
        };
        match self.successor(portal, holder, now) {
            Some(next) => self.admit(portal, next, None, now),
            None => {
                let cut = self.cut(portal, OffCause::CardLeft, now);
                self.record_turned(cut.as_slice(), now);
            }
        }
    }

    /// Switches a box off and gives what to record. `None`: it was not on.
    pub(super) fn cut(&mut self, portal: &PortalId, reason: OffCause, now: Now) -> Option<Turned> {
        let power = self.boxes.get_mut(portal)?;
        let on = power.switch_off()?;
        power.ordered_at = Some(now.mono);
        let uid = match on {
            PowerSource::Card(uid) => Some(uid),
            PowerSource::Remote => None,
        };
        self.unheard.insert(portal.clone());
        self.order(PortalOrder::Cut { portal: portal.clone(), reason: reason.as_str() });
        Some(Turned::off(portal.clone(), uid, reason))
    }

    pub(super) fn record_turned<'t>(&mut self, all: impl IntoIterator<Item = &'t Turned>, now: Now) {
        for turned in all {
            let (portal, who) = (turned.portal.clone(), self.who(turned.uid));
            let (event, flush) = match &turned.how {
                How::Off(cause) => (Event::PowerOff { portal, who, cause: *cause }, Flush::Now),
                How::PowerSource(detail) => {
                    let source = who.uid.map_or(PowerSource::Remote, PowerSource::Card);
                    let detail = detail.clone().unwrap_or_default();
                    (Event::PowerOn { portal, source, holder: who.holder, detail }, Flush::Soon)
                }
            };
            self.record(event, flush, now);
        }
    }

    /// The boxes that are on; only those by one of `cards`, if given.
    pub(super) fn boxes_to_judge(&self, cards: Option<&[CardUid]>) -> Vec<PortalId> {
        let concerned = |on: PowerSource| match (on, cards) {
            (PowerSource::Card(_) | PowerSource::Remote, None) => true,
            (PowerSource::Card(uid), Some(cards)) => cards.contains(&uid),
            (PowerSource::Remote, Some(_)) => false,
        };
        let on = self.boxes.iter().filter(|(_, b)| b.on.is_some_and(concerned));
        on.map(|(portal, _)| portal.clone()).collect()
    }

    /// What speaks against power at a box that is on by this right.
    fn against(&self, portal: &PortalId, on: PowerSource, now: Now) -> Option<Denial> {
        match (on, self.portal(portal.as_str())) {
            (PowerSource::Card(uid), _) => self.judge_box(portal, uid, now).err(),
            (PowerSource::Remote, Some(p)) => against_power(&self.facts(self.posture(p, now), now), p),
            (PowerSource::Remote, None) => Some(Denial::from(Reason::UnknownPortal)),
        }
    }

    /// Judges these boxes: one whose card may not have power any more is handed over to another card in it that may, or loses
    /// its power.
    pub(super) fn judge_boxes(&mut self, portals: &[PortalId], now: Now) -> Vec<Turned> {
        let mut turned = Vec::new();
        for portal in portals {
            let Some(on) = self.boxes.get(portal).and_then(|b| b.on) else { continue };
            let Some(denial) = self.against(portal, on, now) else {
                // A right that came back within the delay counts if its card is still there.
                let power = self.boxes.get_mut(portal).filter(|b| b.on_card().is_none_or(|uid| b.holds(uid)));
                power.into_iter().for_each(|b| b.off_at = None);
                continue;
            };
            if let PowerSource::Card(holder) = on
                && let Some(next) = self.successor(portal, holder, now)
            {
                turned.extend(self.take_over(portal, next, None));
                continue;
            }
            match self.policy.revoke_power {
                RevokePower::AfterDelay if !is_at_once(denial) => {
                    let off_at = now.mono.plus_ms(self.delay_off_ms(portal));
                    if let Some(power) = self.boxes.get_mut(portal) {
                        power.off_at.get_or_insert(off_at);
                    }
                }
                RevokePower::AtOnce | RevokePower::AfterDelay => {
                    turned.extend(self.cut(portal, OffCause::Denied(denial.reason), now));
                }
            }
        }
        turned
    }

    pub(super) fn judge_all_boxes(&mut self, now: Now) {
        let turned = self.judge_boxes(&self.boxes_to_judge(None), now);
        self.record_turned(&turned, now);
        self.find_next_edge(now);
    }

    /// A box that the configuration does not name any more cannot be driven; it is remembered as off.
    pub(super) fn forget_boxes_without_portal(&mut self, now: Now) {
        let is_box = |id: &PortalId| self.portal(id.as_str()).is_some_and(|p| p.kind == PortalKind::PowerBox);
        let gone: Vec<_> = self.boxes.keys().filter(|id| !is_box(id)).cloned().collect();
        for portal in gone {
            let uid = self.boxes.remove(&portal).and_then(|b| b.on_card());
            let reason = OffCause::Denied(Reason::UnknownPortal);
            self.record_turned(&[Turned::off(portal, uid, reason)], now);
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
            let Some(on) = self.boxes.get(&portal).and_then(|b| b.on) else { continue };
            if let PowerSource::Card(holder) = on
                && let Some(next) = self.successor(&portal, holder, now)
            {
                self.admit(&portal, next, None, now);
                continue;
            }
            // A card that is still there has not left: it lost its right some time ago.
            let there = self.boxes.get(&portal).is_some_and(|b| b.on_card().is_some_and(|uid| b.holds(uid)));
            let denial = there.then(|| self.against(&portal, on, now)).flatten();
            let cut = self.cut(&portal, denial.map_or(OffCause::CardLeft, |d| OffCause::Denied(d.reason)), now);
            self.record_turned(cut.as_slice(), now);
        }
        let doubted = |b: &super::PowerBox| b.recheck_at.is_some_and(|at| at <= now.mono);
        let doubted: Vec<_> = self.boxes.iter().filter(|(_, b)| doubted(b)).map(|(portal, _)| portal.clone()).collect();
        for portal in doubted {
            self.relay_reported(&portal, true, now);
        }
    }
}

/// Whether this is no loss of a card's right but a matter of the room, which waits for no delay.
fn is_at_once(denial: Denial) -> bool {
    let of_room =
        |r| matches!(r, Reason::OutOfService | Reason::Lockdown | Reason::PowerSuspended | Reason::OutsideSchedule);
    of_room(denial.reason) || denial.also.iter().any(of_room)
}
