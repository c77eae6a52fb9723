//! Standing modes: what the centers set, what an operator set on the box, and the fire latch.

use super::super::effect::{Effect, PortalOrder};
use super::super::event::{AlarmKind, Event, Flush, Mark, PostureSource};
use super::super::id::{Now, PortalId, ScheduleName, Timestamp};
use super::super::list::PostureRegister;
use super::super::policy::{FirePower, UntrustedClock};
use super::super::portal::{Portal, PortalKind, Posture};
use super::Engine;

impl Engine {
    /// The mode in force: the strongest of what the centers set, what an operator set, the portal's own schedule, and a fire.
    pub(super) fn posture(&self, portal: &Portal, now: Now) -> Posture {
        let fire = if self.state.fire { Posture::Fire } else { Posture::Secure };
        let set = self.state.list.site.posture(&portal.id);
        let set = set.map_or(Posture::Secure, |set| self.posture_now(set, now));
        let postures = [fire, set, self.state.operator_posture(&portal.id), self.scheduled_posture(portal, now)];
        if portal.kind == PortalKind::PowerBox && self.policy.fire_power == FirePower::Keep {
            // Fire changes nothing about who may have power. Somebody may be at the wiring of a box that is closed.
            let closed = postures.into_iter().filter(|p| matches!(p, Posture::Lockdown | Posture::OutOfService)).max();
            if let Some(closed) = closed {
                return closed;
            }
        }
        postures.into_iter().max().unwrap_or_default()
    }

    /// What the portal's own schedule sets by trusted time. Where that only states the earliest time that it can be, nobody knows
    /// whether the schedule is open, and cards decide.
    fn scheduled_posture(&self, portal: &Portal, now: Now) -> Posture {
        let is_free = self.free_window(portal, now).is_some_and(|(_, at)| self.has_begun(portal, at));
        if is_free { Posture::FreeAccess } else { Posture::Secure }
    }

    /// The schedule of the portal's free access and the trusted time, while that schedule is open.
    pub(super) fn free_window<'p>(&self, portal: &'p Portal, now: Now) -> Option<(&'p ScheduleName, Timestamp)> {
        let name = portal.free_access.as_ref().filter(|_| portal.kind != PortalKind::PowerBox)?;
        let time = self.time.at(now);
        (time.is_exact && self.calendar.is_open(name, time.at)).then_some((name, time.at))
    }

    /// What a posture that a center set has come to by trusted time. Where that only states the earliest time that it can be, free
    /// access may have ended and is a window to be judged by a clock that cannot be trusted.
    fn posture_now(&self, set: &PostureRegister, now: Now) -> Posture {
        let Some(until) = set.until else { return set.posture };
        let time = self.time.at(now);
        let doubtful =
            !time.is_exact && set.posture == Posture::FreeAccess && self.policy.untrusted_clock == UntrustedClock::Deny;
        if until <= time.at || doubtful { Posture::Secure } else { set.posture }
    }

    /// Sends every gate and door its mode, where it is another than the last one sent, and then informs the boxes.
    pub(super) fn send_modes(&mut self, now: Now) {
        let of = |p: &Portal| (p.id.clone(), self.posture(p, now));
        let (boxes, doors): (Vec<_>, Vec<_>) = self.portals.iter().partition(|p| p.kind == PortalKind::PowerBox);
        let (boxes, modes): (Vec<_>, Vec<_>) =
            (boxes.into_iter().map(of).collect(), doors.into_iter().map(of).collect());
        let mut opened = Vec::new();
        for (portal, posture) in modes {
            // A portal to which this run has sent nothing yet may still hold open by an order of an earlier run.
            let before = self.modes.insert(portal.clone(), posture);
            // Also from free access to fire: in a fire the list of those inside stays what it was, so what was uncertain before has to
            // be recorded now.
            if before.is_some_and(Posture::holds_open) && before != Some(posture) {
                opened.push(portal.clone());
            }
            if before != Some(posture) {
                self.missed_orders.insert(portal.clone());
                if before.is_some_and(Posture::holds_open) && !posture.holds_open() {
                    self.door_mode_ended(&portal, now);
                }
                self.order(PortalOrder::Mode { portal, posture });
            }
        }
        // Behind what opens and closes.
        for (portal, posture) in boxes {
            if self.modes.insert(portal.clone(), posture).unwrap_or_default() != posture {
                self.order(PortalOrder::Inform { portal, posture, on: None });
            }
        }
        self.find_next_edge(now);
        self.record_held_free(now);
        self.held_open_over(&opened, now);
    }

    /// Sends one portal its mode again, because it has just come back and knows nothing, or an older mode.
    pub(super) fn send_mode_again(&mut self, portal: &PortalId, now: Now) {
        let Some(p) = self.portal(portal.as_str()) else { return };
        let posture = self.posture(p, now);
        if p.kind != PortalKind::PowerBox {
            self.order(PortalOrder::Mode { portal: portal.clone(), posture });
        }
    }

    pub(super) fn operator_posture(&mut self, portals: &[PortalId], posture: Posture, now: Now) {
        let mut which: Vec<_> = portals.iter().cloned().map(Some).collect();
        if which.is_empty() {
            which.push(None);
        }
        for portal in which {
            self.record(Event::Posture { portal, posture, source: PostureSource::Operator }, Flush::Now, now);
        }
        self.modes_changed(now);
    }

    /// A fire input reports whether there is fire. Its end alone ends nothing: an operator resets the latch.
    pub(super) fn fire_reported(&mut self, portal: &PortalId, fire: bool, now: Now) {
        let counts = self.portal(portal.as_str()).is_some_and(|p| p.fire_input);
        let is_active = self.state.fire_inputs.contains(portal);
        if fire {
            self.fire_shown.insert(portal.clone())
        } else {
            self.fire_shown.remove(portal)
        };
        if fire && !counts {
            let detail = "fire reported by a portal with `fire_input = false`: nothing is released".to_owned();
            return self.alarm(AlarmKind::Fire, Some(portal), None, detail, now);
        }
        if fire == is_active {
            return;
        }
        if fire && !self.state.fire {
            // Gates and doors are released before anything is written.
            self.state.fire = true;
            self.modes_changed(now);
        }
        let source = if fire { PostureSource::FireInput } else { PostureSource::FireInputClear };
        self.record(Event::Posture { portal: Some(portal.clone()), posture: Posture::Fire, source }, Flush::Now, now);
        if fire {
            let detail = "fire input active: gates and doors are released until every input is clear and an operator resets the latch";
            self.alarm(AlarmKind::Fire, Some(portal), None, detail.to_owned(), now);
        }
    }

    /// Which fire inputs count may have changed: one that is active and counts now is reported again.
    pub(super) fn judge_fire_inputs(&mut self, now: Now) {
        let counts = |id: &&PortalId| self.portal(id.as_str()).is_some_and(|p| p.fire_input);
        let active: Vec<_> = self.fire_shown.iter().filter(counts).cloned().collect();
        for portal in active {
            self.fire_reported(&portal, true, now);
        }
    }

    pub(super) fn fire_reset(&mut self, force: bool, now: Now) {
        if self.fire_reset_refusal(force).is_some() {
            return;
        }
        let source = if self.state.fire_inputs.is_empty() {
            PostureSource::FireReset
        } else {
            let aside = names(self.state.fire_inputs.iter());
            let detail = format!(
                "fire inputs set aside by an operator, their portals are offline or gone or have `fire_input = false`: {aside}"
            );
            self.record(Event::Config { mark: Mark::Note, detail }, Flush::Now, now);
            PostureSource::FireResetForced
        };
        self.record(Event::Posture { portal: None, posture: Posture::Secure, source }, Flush::Now, now);
        for portal in self.alarms.open(AlarmKind::Fire) {
            self.alarm_over(AlarmKind::Fire, &portal, "an operator reset the fire latch", now);
        }
        self.alarms.forget(AlarmKind::Fire);
        self.modes_changed(now);
    }

    /// Why the fire latch cannot be reset now; `None`: it can. `force` sets aside the inputs whose portal is offline or gone,
    /// and those that do not count any more.
    #[must_use]
    pub fn fire_reset_refusal(&self, force: bool) -> Option<String> {
        if !self.state.fire {
            let message = "no fire latch is set, so there is nothing to reset; a `fire` that was set as a posture ends with another posture";
            return Some(message.to_owned());
        }
        let is_present = |id: &&PortalId| {
            self.online.get(*id) == Some(&true) && self.portal(id.as_str()).is_some_and(|p| p.fire_input)
        };
        let (present, absent): (Vec<_>, Vec<_>) = self.state.fire_inputs.iter().partition(is_present);
        if !present.is_empty() {
            return Some(format!("fire input still active at {}; clear it first", names(present)));
        }
        (!absent.is_empty() && !force).then(|| {
            let absent = names(absent);
            format!("fire input last reported active at {absent}, which is offline or gone or has `fire_input = false`; look there, then `dormgate fire reset --force` sets it aside")
        })
    }

    fn modes_changed(&mut self, now: Now) {
        self.send_modes(now);
        self.judge_releases(now);
        self.judge_all_boxes(now);
        self.out.push(Effect::StateChanged);
    }
}

fn names<'p>(portals: impl IntoIterator<Item = &'p PortalId>) -> String {
    portals.into_iter().map(PortalId::as_str).collect::<Vec<_>>().join(", ")
}
