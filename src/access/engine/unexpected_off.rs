//! A box that is to be on and reads off: its power failed, a fuse went, somebody switched, or an order was lost.
//!
//! Its card is judged anew, and the box switched on again a few times; then, or without a card that may, it is off and said to
//! be. Nothing is switched on from memory: only by a card that the box itself has shown since it was away.

use super::super::effect::PortalOrder;
use super::super::event::{AlarmKind, OffCause};
use super::super::id::{CardUid, Now, PortalId};
use super::super::presence::{PowerSource, UnexpectedOff};
use super::Engine;
use super::box_reports::RELAY_SETTLE_MS;
use super::boxes::Turned;

/// How often a box is switched on again within [`RELAY_AGAIN_WINDOW_MS`]; the next time it goes dark it is left off.
pub const RELAY_AGAIN_MAX: usize = 2;
/// The time in which [`RELAY_AGAIN_MAX`] counts, in milliseconds.
pub const RELAY_AGAIN_WINDOW_MS: u64 = 600_000;

/// Boxes are switched on again one after another: when the mains come back, all of a house say at once that they are dark, and lamps,
/// kettles and chargers draw most at the first moment. Milliseconds.
pub const AGAIN_STAGGER_MS: u64 = 150;

impl Engine {
    /// A box says that its relay is off: if it is to be on, that is judged as soon as it cannot be of before the last order.
    pub(super) fn reads_off(&mut self, portal: &PortalId, now: Now) {
        let Some(power) = self.boxes.get_mut(portal).filter(|b| b.on.is_some()) else { return };
        if matches!(power.dark, UnexpectedOff::Turn { .. }) {
            return;
        }
        let settled = power.ordered_at.map_or(now.mono, |at| at.plus_ms(RELAY_SETTLE_MS));
        power.dark = UnexpectedOff::Said { judge_at: settled.max(now.mono) };
    }

    /// Judges the boxes that said so some time ago and nothing since.
    pub(super) fn wake_dark(&mut self, now: Now) {
        let due = |b: &super::PowerBox| b.dark.judge_at().is_some_and(|at| at <= now.mono);
        let due: Vec<_> = self.boxes.iter().filter(|(_, b)| due(b)).map(|(portal, _)| portal.clone()).collect();
        for portal in due {
            self.judge_dark(&portal, now);
        }
    }

    /// Judges a dark box, if it is one and its time has come: it is switched on again, or off for all to know, or waits for the
    /// box to say who is in it.
    pub(super) fn judge_dark(&mut self, portal: &PortalId, now: Now) {
        let Some(power) = self.boxes.get_mut(portal) else { return };
        match power.dark {
            UnexpectedOff::No => return,
            UnexpectedOff::Said { judge_at } | UnexpectedOff::Turn { judge_at } if judge_at > now.mono => return,
            UnexpectedOff::Said { .. } | UnexpectedOff::Turn { .. } | UnexpectedOff::Waits => {
                power.dark = UnexpectedOff::Waits;
            }
        }
        let turned = self.judge_boxes(std::slice::from_ref(portal), now);
        self.record_turned(&turned, now);
        let Some(power) = self.boxes.get(portal) else { return };
        match power.on {
            None => {}
            Some(PowerSource::Remote) => self.leave_dark(portal, None, "a command switches on once", now),
            // A delay runs: it goes off, or its card comes back and is judged then.
            Some(PowerSource::Card(_)) if power.off_at.is_some() => {}
            Some(PowerSource::Card(uid)) if power.shows(uid) => self.switch_on_in_turn(portal, uid, now),
            Some(PowerSource::Card(_)) => {}
        }
    }

    /// Switches the box on unless another one was a moment ago; then it is judged once more when the next one may be. Only what is
    /// switched on makes the others wait: a relay that flaps keeps nobody dark.
    fn switch_on_in_turn(&mut self, portal: &PortalId, uid: CardUid, now: Now) {
        match self.boxes.get_mut(portal) {
            Some(power) if self.next_turn > now.mono => power.dark = UnexpectedOff::Turn { judge_at: self.next_turn },
            Some(_) | None => self.switch_on_again(portal, uid, now),
        }
    }

    fn switch_on_again(&mut self, portal: &PortalId, uid: CardUid, now: Now) {
        let Ok(grant) = self.grant_at_box(portal, uid, now) else { return };
        let Some(power) = self.boxes.get_mut(portal) else { return };
        while power.again.front().is_some_and(|at| now.mono.since_ms(*at) >= RELAY_AGAIN_WINDOW_MS) {
            power.again.pop_front();
        }
        if power.again.len() >= RELAY_AGAIN_MAX {
            let why = format!("{RELAY_AGAIN_MAX} times in {} min is enough", RELAY_AGAIN_WINDOW_MS / 60_000);
            return self.leave_dark(portal, Some(uid), &why, now);
        }
        power.again.push_back(now.mono);
        power.dark = UnexpectedOff::No;
        power.ordered_at = Some(now.mono);
        self.next_turn = now.mono.plus_ms(AGAIN_STAGGER_MS);
        self.order(PortalOrder::Energise { grant });
        let how = "its relay was off; switched on again".to_owned();
        self.record_turned(&[Turned::on_by(portal.clone(), uid, how)], now);
    }

    /// The box is off, and told so: a card put in anew is judged as ever.
    fn leave_dark(&mut self, portal: &PortalId, uid: Option<CardUid>, why: &str, now: Now) {
        let cut = self.cut(portal, OffCause::RelayOff, now);
        self.record_turned(cut.as_slice(), now);
        let detail = format!(
            "the relay went off by itself and is not switched on again ({why}); look at its fuse and supply, then put the card in again"
        );
        self.alarm(AlarmKind::PortalOffline, Some(portal), uid, detail, now);
    }
}
