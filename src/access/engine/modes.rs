//! Standing modes: what the centers set, what an operator set on the box, and the fire latch.

use super::super::effect::{Effect, PortalOrder};
use super::super::event::{AlarmKind, Event, Flush, PostureSource};
use super::super::id::{Now, PortalId};
use super::super::portal::{Portal, PortalKind, Posture};
use super::Engine;

impl Engine {
    /// The mode in force: the strongest of what the centers set, what an operator set, and a fire.
    pub(super) fn posture(&self, portal: &Portal, now: Now) -> Posture {
        if self.state.fire {
            return Posture::Fire;
        }
        self.state.list.site.posture(&portal.id, now.wall).max(self.state.operator_posture(&portal.id))
    }

    /// Tells every gate and door its mode, where it is another than it was told last.
    pub(super) fn tell_modes(&mut self, now: Now) {
        let doors = self.portals.iter().filter(|p| p.kind != PortalKind::PowerBox);
        let modes: Vec<_> = doors.map(|p| (p.id.clone(), self.posture(p, now))).collect();
        for (portal, posture) in modes {
            // A portal that this run has told nothing yet may still hold open what an earlier run told it.
            if self.modes.insert(portal.clone(), posture) != Some(posture) {
                self.missed_orders.insert(portal.clone());
                if !matches!(posture, Posture::Fire | Posture::FreeAccess) {
                    self.door_mode_ended(&portal, now);
                }
                self.order(PortalOrder::Mode { portal, posture });
            }
        }
        self.find_next_edge(now);
    }

    /// Tells one portal its mode again, because it has just come back and knows nothing, or an older mode.
    pub(super) fn tell_mode_again(&mut self, portal: &PortalId, now: Now) {
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

    /// A fire input says whether there is fire. Its end alone ends nothing: an operator resets the latch.
    pub(super) fn fire_reported(&mut self, portal: &PortalId, fire: bool, now: Now) {
        if !fire {
            self.fire_inputs.remove(portal);
            return;
        }
        self.fire_inputs.insert(portal.clone());
        if self.state.fire {
            return;
        }
        // The mode first, the paper after it: gates and doors are released before anything is written.
        self.state.fire = true;
        self.modes_changed(now);
        let source = PostureSource::FireInput;
        self.record(Event::Posture { portal: Some(portal.clone()), posture: Posture::Fire, source }, Flush::Now, now);
        let detail =
            "fire input active: gates and doors are released until the input is clear and an operator resets it";
        self.alarm(AlarmKind::Fire, Some(portal), None, detail.to_owned(), now);
    }

    pub(super) fn fire_reset(&mut self, now: Now) {
        if !self.state.fire || !self.fire_inputs.is_empty() {
            return;
        }
        let source = PostureSource::FireReset;
        self.record(Event::Posture { portal: None, posture: Posture::Secure, source }, Flush::Now, now);
        self.modes_changed(now);
    }

    /// Why the fire latch cannot be reset now; `None`: it can.
    #[must_use]
    pub fn fire_reset_refusal(&self) -> Option<String> {
        if !self.state.fire {
            let none = "no fire latch is set, so there is nothing to reset; a `fire` that was set as a posture ends with another posture";
            return Some(none.to_owned());
        }
        let active: Vec<_> = self.fire_inputs.iter().map(ToString::to_string).collect();
        (!active.is_empty()).then(|| format!("fire input still active at {}", active.join(", ")))
    }

    fn modes_changed(&mut self, now: Now) {
        self.tell_modes(now);
        self.judge_all_boxes(now);
        self.out.push(Effect::StateChanged);
    }
}
