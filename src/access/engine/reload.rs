//! The configuration was read again: the rules change for the next card, and what stands is judged by them at once.

use super::super::effect::Effect;
use super::super::event::{Event, Flush, Mark};
use super::super::id::Now;
use super::super::policy::Policy;
use super::super::portal::Portal;
use super::super::rules::Rules;
use super::Engine;

impl Engine {
    /// Takes over `rules`. What a portal is and where stays, because other parts of the gateway are built on it; times that are under
    /// way, such as a switch-off after its delay, end as they began.
    pub(super) fn reload(&mut self, rules: Rules, detail: String, now: Now) {
        let Rules { portals, policy, calendar } = rules;
        for portal in portals {
            let place = self.places.get(&portal.id).copied();
            if let Some(known) = place.and_then(|place| self.portals.get_mut(place)) {
                let (kind, zone, direction) = (known.kind, known.zone.clone(), known.direction);
                *known = Portal { kind, zone, direction, ..portal };
            }
        }
        self.policy = Policy { hash_uids: self.policy.hash_uids, ..policy };
        self.calendar = calendar;
        self.calendar.follow(&self.state.list.site.schedules);
        self.snapshots.drop_parts();
        self.observations.follow(&self.portals, &self.policy);
        self.record(Event::Config { mark: Mark::Note, detail }, Flush::Now, now);
        self.judge_fire_inputs(now);
        self.judge_standing(now);
        self.judge_releases(now);
        self.out.push(Effect::StateChanged);
    }
}
