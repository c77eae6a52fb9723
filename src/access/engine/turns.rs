//! Power that comes back to many boxes: they are switched on one after another, `policy.power_stagger_ms` apart. Nobody has a time of
//! his own in advance. Whoever waits longest is next, and one that may not any more leaves no gap.

use super::super::id::{Mono, Now, PortalId};
use super::super::power_box::PowerBox;
use super::{Due, Engine};

impl Engine {
    /// Since when each box that waits for its turn does.
    fn in_line(&self) -> impl Iterator<Item = (Mono, &PortalId)> {
        self.boxes.iter().filter_map(|(id, power)| Some((power.waits_since()?, id)))
    }

    /// Switches on the box that waits longest, if the one before it is on for long enough.
    pub(super) fn turn_due(&mut self, now: Now) {
        if self.again_from <= now.mono {
            let Some((_, portal)) = self.in_line().min() else { return };
            let portal = portal.clone();
            self.at_box(&portal, now, PowerBox::has_turn);
            if self.boxes.get(&portal).is_some_and(|power| power.source().is_some()) {
                self.again_from = now.mono.plus_ms(u64::from(self.policy.power_stagger_ms));
            }
        }
        let next = self.in_line().next().map(|_| self.again_from.max(now.mono));
        self.deadlines.set(Due::Turn, next);
    }

    /// How long a box that waits for its turn waits at most, in milliseconds, if no relay falls meanwhile.
    pub(super) fn turn_left_ms(&self, portal: &str, power: &PowerBox, now: Now) -> Option<u64> {
        let since = power.waits_since()?;
        let before = self.in_line().filter(|(other_since, id)| (*other_since, id.as_str()) < (since, portal)).count();
        let before = u64::try_from(before).unwrap_or(u64::MAX);
        let first_ms = self.again_from.max(now.mono).since_ms(now.mono);
        Some(first_ms.saturating_add(before.saturating_mul(u64::from(self.policy.power_stagger_ms))).max(1))
    }
}
